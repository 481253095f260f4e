/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cache.c - the facade: open and close, one read, one prefetch, statistics.
 *
 * A cached read of one chunk, aligned to 4 KiB, is a hash lookup and one pool_read with the
 * request's own pool_io; everything else goes through parts (cache_impl.h).
 */
#include "cache/cache_impl.h"

#include "sys/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool read_more(struct cache *c, struct cache_req *r);
static void enqueue(struct cache *c, struct cache_req *r);

/* ---- parts ---- */

static struct part *part_get(struct cache *c)
{
	struct part *q = c->part_free;

	if (q)
		c->part_free = q->next;
	else if (c->parts_used < PARTS)
		q = &c->parts[c->parts_used++];
	return q;
}

static void part_put(struct cache *c, struct part *q)
{
	q->next = c->part_free;
	c->part_free = q;
}

static void count_bytes(struct cache *c, uint8_t source, uint64_t bytes)
{
	if (source == TRACE_SRC_CACHE)
		c->stats.hit_bytes += bytes;
	else if (source == TRACE_SRC_PREFETCH)
		c->stats.prefetch_hit_bytes += bytes;
	else
		c->stats.miss_bytes += bytes;
}

static void req_part(struct cache_req *r, uint8_t source, uint64_t bytes, int status)
{
	if (source > r->source)
		r->source = source;
	if (status < 0 && r->status == 0)
		r->status = status;
	if (status == 0)
		count_bytes(r->cache, source, bytes);
}

static void req_over(struct cache_req *r)
{
	if (--r->pending == 0)
		r->done(r, r->status);
}

void part_over(struct part *q, int status)
{
	struct cache_req *r = q->r;

	req_part(r, q->source, q->len, status);
	part_put(r->cache, q);
	cache_pump(r->cache);
	req_over(r);
}

static struct chunk_key key_of(const struct cache_req *r, uint32_t chunk)
{
	return (struct chunk_key){.stream = r->stream, .chunk = chunk, .seq = r->ref.seq};
}

/* ---- hits ---- */

static bool aligned(uint64_t off, uint64_t len, const void *buf)
{
	return ((off | len | (uintptr_t)buf) & (POOL_BLOCK - 1)) == 0;
}

static uint8_t touch(struct cache *c, struct entry *e, uint32_t off, uint32_t len)
{
	uint32_t first = off / POOL_BLOCK, last = (off + len - 1) / POOL_BLOCK;
	uint32_t used = rcache_touch(&c->rc, e, first, last - first + 1);

	c->stats.prefetch_used_bytes += used;
	return used ? TRACE_SRC_PREFETCH : TRACE_SRC_CACHE;
}

static struct entry *find(
	const struct cache *c, const struct chunk_key *k, uint32_t off, uint32_t len)
{
	uint32_t first = off / POOL_BLOCK, last = (off + len - 1) / POOL_BLOCK;

	return c->on ? rcache_find(&c->rc, k, first, last - first + 1) : NULL;
}

/* What the SSD had was bad: as if it had never been there. */
static void hit_lost(struct cache_req *r, int status)
{
	struct cache *c = r->cache;
	struct chunk_key k = key_of(r, (uint32_t)(r->off_bytes >> c->chunk_shift));

	rcache_bad(&c->rc, &k, &r->io, status);
	r->at_bytes = 0;
	r->pending = 1;
	enqueue(c, r);
	cache_pump(c);
}

static void hit_done(struct pool_io *io, int status)
{
	struct cache_req *r = container_of(io, struct cache_req, io);
	struct cache *c = r->cache;

	rcache_unpinned(&c->rc);
	if (__builtin_expect(status < 0, 0)) {
		hit_lost(r, status);
		return;
	}
	count_bytes(c, r->source, r->len_bytes);
	r->done(r, 0);
}

/* One chunk, aligned, cached: no part. */
static bool hit_at_once(struct cache *c, struct cache_req *r)
{
	uint32_t off = (uint32_t)r->off_bytes & (c->chunk_bytes - 1), len = (uint32_t)r->len_bytes;
	struct chunk_key k;
	struct entry *e;

	if (r->len_bytes > c->chunk_bytes - off || !aligned(off, len, r->buf))
		return false;
	k = key_of(r, (uint32_t)(r->off_bytes >> c->chunk_shift));
	e = find(c, &k, off, len);
	if (!e)
		return false;
	r->source = touch(c, e, off, len);
	r->io.done = hit_done;
	rcache_read(&c->rc, e, off / POOL_BLOCK, len / POOL_BLOCK, &r->io, r->buf);
	return true;
}

static void part_hit(struct pool_io *io, int status)
{
	struct part *q = container_of(io, struct part, io);
	struct cache_req *r = q->r;
	struct cache *c = r->cache;

	rcache_unpinned(&c->rc);
	if (q->bounce) {
		if (status == 0)
			memcpy(q->dst, q->bounce->fill.mem + q->off % POOL_BLOCK, q->len);
		piece_put(q->bounce);
		cache_pump(c);
		q->bounce = NULL;
	}
	if (status < 0) {
		struct chunk_key k = key_of(r, q->chunk);

		rcache_bad(&c->rc, &k, io, status);
		q->next = c->lost;
		c->lost = q;
		cache_pump(c);
		return;
	}
	part_over(q, 0);
}

static bool hit_by_part(struct cache *c, struct part *q, struct entry *e)
{
	uint32_t first = q->off / POOL_BLOCK, last = (q->off + q->len - 1) / POOL_BLOCK;
	uint8_t *buf = q->dst;

	q->bounce = NULL;
	if (!aligned(q->off, q->len, q->dst)) {
		q->bounce = piece_get(c, false);
		if (!q->bounce)
			return false;
		buf = q->bounce->fill.mem;
	}
	q->source = touch(c, e, q->off, q->len);
	q->io.done = part_hit;
	rcache_read(&c->rc, e, first, last - first + 1, &q->io, buf);
	return true;
}

/* ---- misses ---- */

static uint32_t chunk_len(const struct cache *c, const struct object_ref *ref, uint32_t chunk)
{
	uint64_t left = ref->data_bytes - ((uint64_t)chunk << c->chunk_shift);

	return left < c->chunk_bytes ? (uint32_t)left : c->chunk_bytes;
}

static void attach(struct piece *p, struct part *q)
{
	q->source = p->prefetch ? TRACE_SRC_PREFETCH : TRACE_SRC_STORE;
	piece_touch(p, q->off, q->len, &q->source);
	q->next = NULL;
	*p->parts_last = q;
	p->parts_last = &q->next;
}

/* The least to fetch of a chunk.  What is kept is kept in units; what is not need only be verified,
 * and by what is known when the object's header is. */
static uint32_t unit(struct cache *c, const struct chunk_key *k)
{
	const struct hrec *h = c->on ? NULL : header_find(c, k);

	return h ? h->crc_bytes : UNIT;
}

/* The whole chunk; or a part of it when nothing would be kept, or whole chunks do not pay. */
static bool miss(struct cache *c, struct run *run, const struct object_ref *ref,
	const struct chunk_key *k, struct part *q)
{
	uint32_t end = chunk_len(c, ref, k->chunk), from = 0;
	bool part = !c->on || (c->rc.partial && !rcache_has_part(&c->rc, k));
	struct piece *p;

	if (part) {
		uint32_t n = unit(c, k), to = (q->off + q->len + n - 1) & ~(n - 1u);

		from = q->off & ~(n - 1u);
		end = to < end ? to : end;
	}
	p = run_add(c, run, ref, k, from, end - from);
	if (p)
		attach(p, q);
	return p != NULL;
}

/* Get one part on its way: from the SSD, from a piece, or by a fetch.  False: out of something. */
static bool serve(struct cache *c, struct run *run, struct part *q)
{
	struct cache_req *r = q->r;
	struct chunk_key k = key_of(r, q->chunk);
	struct entry *e = find(c, &k, q->off, q->len);
	struct piece *p;

	if (e)
		return hit_by_part(c, q, e);
	p = piece_find(c, &k, q->off, q->len);
	if (!p)
		return miss(c, run, &r->ref, &k, q);
	if (p->state == PIECE_FETCHING) {
		attach(p, q);
		return true;
	}
	memcpy(q->dst, p->fill.mem + (q->off - p->off), q->len);
	q->source = TRACE_SRC_CACHE;
	piece_touch(p, q->off, q->len, &q->source);
	part_over(q, 0); /* not the request's last: read_more holds it */
	return true;
}

/* Cut what is left of the request.  False: out of something; call again later. */
static bool read_more(struct cache *c, struct cache_req *r)
{
	struct run run = {.max = c->chunk_bytes > RUN_BYTES ? c->chunk_bytes : RUN_BYTES};
	bool ok = true;

	while (ok && r->at_bytes < r->len_bytes) {
		uint64_t at = r->off_bytes + r->at_bytes, left = r->len_bytes - r->at_bytes;
		uint32_t off = (uint32_t)at & (c->chunk_bytes - 1), n = c->chunk_bytes - off;
		struct part *q = part_get(c);

		ok = q != NULL;
		if (!ok)
			break;
		n = left < n ? (uint32_t)left : n;
		q->r = r;
		q->chunk = (uint32_t)(at >> c->chunk_shift);
		q->off = off;
		q->len = n;
		q->dst = (uint8_t *)r->buf + r->at_bytes;
		r->pending++;
		ok = serve(c, &run, q);
		if (ok) {
			r->at_bytes += n;
		} else {
			r->pending--;
			part_put(c, q);
		}
	}
	run_submit(&run);
	return ok;
}

static void req_end(struct loop_task *t)
{
	struct cache_req *r = container_of(t, struct cache_req, task);

	r->done(r, r->status);
}

/* Drop the hold that cutting had; the callback is for later. */
static void req_cut(struct cache *c, struct cache_req *r)
{
	if (--r->pending)
		return;
	r->task.run = req_end;
	loop_defer(c->loop, &r->task);
}

static void enqueue(struct cache *c, struct cache_req *r)
{
	r->next = NULL;
	*c->wait_last = r;
	c->wait_last = &r->next;
}

void cache_read(struct cache *c, struct cache_req *r)
{
	assert(r->len_bytes && r->off_bytes + r->len_bytes <= r->ref.data_bytes);
	assert(r->ref.header_bytes);
	r->cache = c;
	r->status = 0;
	r->source = 0;
	r->at_bytes = 0;
	r->stream = stream_of(&c->streams, r->ref.uuid, r->ref.epoch);
	if (c->on && hit_at_once(c, r))
		return;
	r->pending = 1;
	if (r->stream == INDEX_NONE)
		r->status = -ENOMEM;
	else if (c->wait_first || !read_more(c, r)) {
		enqueue(c, r);
		return;
	}
	req_cut(c, r);
}

/* ---- prefetch ---- */

static void prefetch_end(struct loop_task *t)
{
	struct cache_prefetch *p = container_of(t, struct cache_prefetch, task);

	p->done(p, p->status);
}

void prefetch_piece_over(struct cache_prefetch *p, int status)
{
	if (status < 0 && p->status == 0)
		p->status = status;
	if (--p->pending == 0)
		p->done(p, p->status);
}

/* A GET begins when there are buffers for all of it: taking them one by one as they come free would
 * make a GET of every chunk. */
static bool prefetch_room(const struct cache *c, uint64_t bytes)
{
	uint64_t most = pieces_for_prefetch(c), want = (bytes >> c->chunk_shift) + 1;

	return c->pieces_out + (want < most ? want : most) <= most;
}

static bool prefetch_more(struct cache *c, struct cache_prefetch *p)
{
	uint64_t max = p->get_bytes < c->chunk_bytes ? c->chunk_bytes : p->get_bytes;
	struct run run = {.max = max, .prefetch = true};
	bool ok = true;

	while (p->at_bytes < p->len_bytes) {
		uint32_t chunk = (uint32_t)((p->off_bytes + p->at_bytes) >> c->chunk_shift);
		struct chunk_key k = {.stream = p->stream, .chunk = chunk, .seq = p->ref.seq};
		uint32_t len = chunk_len(c, &p->ref, chunk);
		struct piece *q;

		if (!find(c, &k, 0, len) && !piece_find(c, &k, 0, len)) {
			uint64_t left = p->len_bytes - p->at_bytes;

			ok = run.f || prefetch_room(c, left < max ? left : max);
			q = ok ? run_add(c, &run, &p->ref, &k, 0, len) : NULL;
			ok = q != NULL;
			if (!ok)
				break;
			if (p->done) {
				q->owner = p;
				p->pending++;
			}
			p->wanted_bytes += len;
		}
		p->at_bytes = ((uint64_t)(chunk + 1) << c->chunk_shift) - p->off_bytes;
	}
	run_submit(&run);
	return ok;
}

static void prefetch_cut(struct cache *c, struct cache_prefetch *p)
{
	if (--p->pending)
		return;
	p->task.run = prefetch_end;
	loop_defer(c->loop, &p->task);
}

void cache_prefetch(struct cache *c, struct cache_prefetch *p)
{
	assert(p->ref.header_bytes && p->off_bytes + p->len_bytes <= p->ref.data_bytes);
	p->cache = c;
	p->status = 0;
	p->wanted_bytes = 0;
	p->at_bytes = 0;
	p->pending = 1;
	p->stream = stream_of(&c->streams, p->ref.uuid, p->ref.epoch);
	if (p->stream == INDEX_NONE)
		p->status = -ENOMEM;
	else if (c->on && ((p->done && c->ahead_first) || !prefetch_more(c, p)) && p->done) {
		p->next = NULL;
		*c->ahead_last = p;
		c->ahead_last = &p->next;
		return;
	}
	if (p->done)
		prefetch_cut(c, p);
}

/* ---- those who waited ---- */

static bool serve_lost(struct cache *c)
{
	while (c->lost) {
		struct run run = {.max = c->chunk_bytes};
		struct part *q = c->lost;
		struct cache_req *r = q->r;

		c->lost = q->next;
		r->pending++; /* serve() does not end the request */
		if (!serve(c, &run, q)) {
			r->pending--;
			q->next = c->lost;
			c->lost = q;
			return false;
		}
		run_submit(&run);
		req_cut(c, r);
	}
	return true;
}

static void serve_waiting(struct cache *c)
{
	while (c->wait_first) {
		struct cache_req *r = c->wait_first;

		if (!read_more(c, r))
			return;
		c->wait_first = r->next;
		if (!c->wait_first)
			c->wait_last = &c->wait_first;
		req_cut(c, r);
	}
	while (c->ahead_first) {
		struct cache_prefetch *p = c->ahead_first;

		if (!prefetch_more(c, p))
			return;
		c->ahead_first = p->next;
		if (!c->ahead_first)
			c->ahead_last = &c->ahead_first;
		prefetch_cut(c, p);
	}
}

static void pump(struct loop_task *t)
{
	struct cache *c = container_of(t, struct cache, pump);

	if (serve_lost(c))
		serve_waiting(c);
}

void cache_pump(struct cache *c)
{
	if (c->lost || c->wait_first || c->ahead_first)
		loop_defer(c->loop, &c->pump);
}

/* ---- the rest ---- */

bool cache_has(
	struct cache *c, const struct object_ref *ref, uint64_t off_bytes, uint64_t len_bytes)
{
	struct chunk_key k = {
		.stream = stream_of(&c->streams, ref->uuid, ref->epoch), .seq = ref->seq};
	uint64_t end = off_bytes + len_bytes, n;

	for (uint64_t at = off_bytes; at < end; at += n) {
		uint32_t off = (uint32_t)at & (c->chunk_bytes - 1);

		n = c->chunk_bytes - off < end - at ? c->chunk_bytes - off : end - at;
		k.chunk = (uint32_t)(at >> c->chunk_shift);
		if (!find(c, &k, off, (uint32_t)n))
			return false;
	}
	return true;
}

void cache_forget(struct cache *c, const struct object_ref *ref)
{
	struct chunk_key k = {
		.stream = stream_of(&c->streams, ref->uuid, ref->epoch), .seq = ref->seq};

	header_forget(c, &k);
	if (!c->on)
		return;
	for (uint64_t at = 0; at < ref->data_bytes; at += c->chunk_bytes, k.chunk++)
		rcache_forget(&c->rc, &k);
	for (uint32_t at = 0, i = 0; at < ref->header_bytes; at += c->chunk_bytes, i++) {
		k.chunk = header_chunk(i);
		rcache_forget(&c->rc, &k);
	}
}

void cache_get_stats(const struct cache *c, struct cache_stats *st)
{
	*st = c->stats;
}

bool cache_busy(const struct cache *c, const struct store *s)
{
	for (uint32_t i = 0; i < c->fetches_used; i++)
		if (c->fetches[i].active && c->fetches[i].ref.store == s)
			return true;
	for (const struct hload *h = c->hloads; h; h = h->next)
		if (h->ref.store == s && h->state != HLOAD_DONE)
			return true;
	for (const struct cache_prefetch *p = c->ahead_first; p; p = p->next)
		if (p->ref.store == s)
			return true;
	return false;
}

/* ---- runners ---- */

void runner_add(struct cache *c, struct runner *r)
{
	r->c = c;
	r->next = c->runners;
	c->runners = r;
}

static void runner_remove(struct runner *r)
{
	struct runner **q = &r->c->runners;

	while (*q != r)
		q = &(*q)->next;
	*q = r->next;
	r->free(r);
}

void runner_free(struct runner *r)
{
	r->dead = true;
	if (!r->out)
		runner_remove(r);
}

void runner_back(struct runner *r)
{
	if (--r->out == 0 && r->dead)
		runner_remove(r);
}

/* ---- open and close ---- */

static uint32_t chunk_setting(const struct config *cfg)
{
	uint64_t n = UNIT;

	while (n < cfg->cache_chunk_bytes && n < CACHE_CHUNK_MAX)
		n *= 2;
	return (uint32_t)n;
}

static int allocate(struct cache *c)
{
	uint32_t run = c->chunk_bytes > RUN_BYTES ? c->chunk_bytes : RUN_BYTES;

	c->npieces = BUFFER_BYTES / c->chunk_bytes;
	if (c->npieces < BUFFERS_MIN)
		c->npieces = BUFFERS_MIN;
	c->run_pieces = run / c->chunk_bytes + 2;
	c->pieces = calloc(c->npieces, sizeof(*c->pieces));
	c->parts = calloc(PARTS, sizeof(*c->parts));
	c->fetches = calloc(FETCHES, sizeof(*c->fetches));
	c->iovs = calloc((size_t)FETCHES * (c->run_pieces + 1), sizeof(*c->iovs));
	c->mem = aligned_alloc(POOL_BLOCK, (size_t)c->npieces * c->chunk_bytes);
	return c->pieces && c->parts && c->fetches && c->iovs && c->mem ? 0 : -ENOMEM;
}

int cache_open(
	struct loop *l, struct pool *p, const struct config *cfg, struct cache **out, struct err *e)
{
	struct cache *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, -ENOMEM, "read cache: out of memory");
	c->loop = l;
	c->wait_last = &c->wait_first;
	c->ahead_last = &c->ahead_first;
	c->pump.run = pump;
	c->retry_ms = cfg->store_retry_ms;
	c->chunk_bytes = chunk_setting(cfg);
	c->chunk_shift = (uint32_t)__builtin_ctz(c->chunk_bytes);
	rc = allocate(c);
	if (rc == 0 && p && cfg->cache_enabled) {
		rc = rcache_init(&c->rc, l, p, c->chunk_bytes, &c->streams, &c->stats, e);
		c->on = rc == 0;
		if (rc == -ENOSPC)
			rc = 0; /* it works without; e says why */
	}
	if (rc < 0) {
		cache_drop(c);
		return err_wrap(e, rc, "open read cache");
	}
	*out = c;
	return 0;
}

void cache_drop(struct cache *c)
{
	while (c->runners) {
		struct runner *r = c->runners;

		c->runners = r->next;
		r->free(r);
	}
	headers_fini(c);
	if (c->on)
		rcache_fini(&c->rc);
	streams_fini(&c->streams);
	free(c->pieces);
	free(c->parts);
	free(c->fetches);
	free(c->iovs);
	free(c->mem);
	free(c);
}

void cache_close(struct cache *c)
{
	while (c->fetches_out || c->pieces_out || c->hloads || c->ahead_first)
		if (loop_poll(c->loop, LOOP_FOREVER) == 0 && loop_is_sim(c->loop))
			break;
	if (c->on)
		rcache_close(&c->rc);
	cache_drop(c);
}
