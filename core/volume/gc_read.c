/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gc_read.c - the victims' data: from the log, from the pool, or straight from the store.
 *
 * What the log has in memory is copied.  The rest is planned victim by victim, in the order of
 * offsets: pieces that lie near each other make one range, as long as reading the gap between them
 * moves fewer bytes than another request is worth (collector.get_cost).  A range whose pieces the
 * pool holds, few or long enough that reading them one by one is cheaper than the GET, comes from
 * there; any other is one GET into the collector's own memory.  The cache is not filled: what is
 * moved is about to be deleted.  Every chunk that a piece touches is verified once against
 * the CRC in the victim's header (I10) before a byte of it is used.
 *
 * A failed GET is tried again a few times, damaged data once; then the round is given up.
 */
#include "volume/gc_impl.h"

#include "sys/container.h"
#include "sys/crc.h"

#include <errno.h>
#include <stdlib.h>

enum { TRIES_MAX = 6, POOL_READ_COST = 16 << 10 };

/* ---- GETs ---- */

/* One at a time while somebody waits for the store. */
static bool may_get(const struct collector *c)
{
	return !c->in_flight || !cache_busy(c->v->cache, c->v->store);
}

struct gc_get *gc_get_free(struct collector *c)
{
	for (uint32_t i = 0; i < GETS_MAX; i++)
		if (!c->get[i].busy && !c->get[i].ready)
			return may_get(c) ? &c->get[i] : NULL;
	return NULL;
}

struct gc_get *gc_get_ready(struct collector *c)
{
	for (uint32_t i = 0; i < GETS_MAX; i++)
		if (c->get[i].ready)
			return &c->get[i];
	return NULL;
}

static void submit(struct gc_get *g);

static void submit_again(struct loop_timer *t)
{
	struct gc_get *g = container_of(t, struct gc_get, retry);

	if (g->c->v->failed || g->c->v->closing) {
		g->busy = false;
		gc_kick(g->c);
		return;
	}
	submit(g);
}

static void got(struct store_req *r, int64_t status)
{
	struct gc_get *g = container_of(r, struct gc_get, req);
	struct collector *c = g->c;
	struct gc_source *s = &c->source[g->source];

	c->in_flight--;
	if (status == -ENOENT && !gc_still_there(c, s)) {
		s->gone = true;
		status = (int64_t)g->len;
	}
	if (status < 0 && !c->v->failed && !c->v->closing) {
		volume_store_failed(c->v, status, &g->err);
		if (volume_worth_retrying(status) && g->tries < TRIES_MAX) {
			g->retry.fire = submit_again;
			loop_timer_set(c->v->loop, &g->retry,
				loop_now(c->v->loop) + volume_backoff_ns(c->v, g->tries++));
			return;
		}
	}
	g->busy = false;
	g->ready = status >= 0;
	g->damaged = status >= 0 && (uint64_t)status < g->len;
	if (status < 0 && c->status == 0)
		c->status = (int)status;
	gc_kick(c);
}

static void submit(struct gc_get *g)
{
	g->iov = (struct iovec){g->buf, g->len};
	g->err.msg[0] = 0;
	g->req = (struct store_req){.op = STORE_GET,
		.name = g->c->source[g->source].ref.name,
		.iov = &g->iov,
		.iovcnt = 1,
		.off_bytes = g->off,
		.len_bytes = g->len,
		.pace = &g->c->v->pace,
		.done = got,
		.err = &g->err};
	g->busy = true;
	g->c->in_flight++;
	store_submit(g->c->v->store, &g->req);
}

int gc_get_submit(struct gc_get *g, uint32_t source, uint64_t off, uint64_t len)
{
	if (len > g->cap) {
		free(g->buf);
		g->cap = 0;
		if (posix_memalign((void **)&g->buf, POOL_BLOCK, len)) {
			g->buf = NULL;
			return -ENOMEM;
		}
		g->cap = len;
	}
	g->source = source;
	g->off = off;
	g->len = len;
	g->tries = 0;
	g->again = false;
	g->next = g->end = g->verified = 0;
	g->h.header_bytes = 0;
	submit(g);
	return 0;
}

int gc_get_again(struct gc_get *g)
{
	struct collector *c = g->c;

	g->ready = false;
	if (g->again) {
		gc_avoid(c, c->source[g->source].victim.seq, UINT64_MAX);
		return -EBADMSG;
	}
	g->again = true;
	submit(g);
	return GC_WAIT;
}

/* ---- the log and the pool ---- */

static void read_over(struct gc_read *r, int status)
{
	struct collector *c = r->c;

	r->busy = false;
	c->in_flight--;
	if (status < 0 && c->status == 0)
		c->status = status;
	gc_kick(c);
}

static void cache_done(struct cache_req *req, int status)
{
	struct gc_read *r = container_of(req, struct gc_read, req);

	/* Gone, and with it all that pointed there. */
	if (status == -ENOENT && objmap_find(r->c->v->objects, req->ref.seq) == OBJMAP_NONE) {
		memset(req->buf, 0, req->len_bytes);
		status = 0;
	}
	read_over(r, status);
}

static void pool_done(struct pool_io *io, int status)
{
	read_over(container_of(io, struct gc_read, io), status);
}

/* Is the newest write of this piece in the log, and applied?  Then it is the same data as in the
 * object, if the map still points there, and harmless if not (I9). */
static bool find_in_log(struct volume *v, const struct piece *p, uint64_t *pos)
{
	struct journal_hit hit;

	if (!journal_find(v->journal, p->lba, p->len, &hit) || hit.lba != p->lba ||
		hit.len < p->len || gc_is_dirty(v, &hit))
		return false;
	*pos = hit.pos;
	return true;
}

int gc_take(struct collector *c)
{
	struct journal *j = c->v->journal;
	uint64_t bytes = 0, pos;
	uint32_t looked = 0;

	for (; c->at < c->npieces; c->at++) {
		struct piece *p = &c->pieces[c->at];
		const void *mem;

		if (bytes >= MOVE_SLICE || ++looked > PIECES_SLICE)
			return GC_AGAIN;
		if (p->where == AT_STORE)
			continue;
		looked += PIECES_SLICE / GATHER_SLICE / 4;
		if (!find_in_log(c->v, p, &pos)) {
			if (p->where == AT_LOG)
				p->where = AT_STORE;
			continue;
		}
		mem = journal_memory(j, pos);
		if (!mem)
			continue;
		memcpy(c->buf + (uint64_t)p->at * 512, mem, (size_t)p->len * 512);
		bytes += (uint64_t)p->len * 512;
		p->where = AT_HAND;
	}
	return GC_DONE;
}

static struct gc_read *free_read(struct collector *c)
{
	for (uint32_t i = 0; i < SSD_READS_MAX; i++)
		if (!c->read[i].busy)
			return &c->read[i];
	return NULL;
}

static bool read_log(struct gc_read *r, const struct piece *p, uint8_t *buf)
{
	struct journal *j = r->c->v->journal;
	uint32_t in_block;
	uint64_t pos;

	if (p->len % 8 || (uintptr_t)buf % POOL_BLOCK || !find_in_log(r->c->v, p, &pos))
		return false;
	r->io.seg = journal_place(j, pos, &r->io.block, &in_block);
	if (in_block)
		return false;
	r->io.blocks = p->len / 8;
	r->io.done = pool_done;
	pool_read(r->c->v->pool, &r->io, buf);
	return true;
}

static void read_cached(struct gc_read *r, const struct piece *p, uint8_t *buf)
{
	struct collector *c = r->c;

	if (p->source < VICTIMS_MAX)
		r->req.ref = c->source[p->source].ref;
	else
		volume_ref(c->v, c->plug[p->source - VICTIMS_MAX].slot, &r->req.ref);
	r->req.off_bytes = (uint64_t)p->off * 512;
	r->req.len_bytes = (uint64_t)p->len * 512;
	r->req.buf = buf;
	r->req.done = cache_done;
	cache_read(c->v->cache, &r->req);
}

/* Is the object that a piece is of still in its slot? */
static bool piece_exists(const struct collector *c, const struct piece *p)
{
	const struct gc_plug *x;

	if (p->source < VICTIMS_MAX)
		return gc_still_there(c, &c->source[p->source]);
	x = &c->plug[p->source - VICTIMS_MAX];
	return objmap_find(c->v->objects, x->seq) == x->slot;
}

static void read_piece(struct collector *c, struct gc_read *r, struct piece *p)
{
	uint8_t *buf = c->buf + (uint64_t)p->at * 512;

	p->where = AT_HAND;
	if (!piece_exists(c, p)) {
		memset(buf, 0, (size_t)p->len * 512);
		return;
	}
	r->c = c;
	r->busy = true;
	c->in_flight++;
	if (!read_log(r, p, buf))
		read_cached(r, p, buf);
}

/* True: all that is due from the pool was asked for. */
static bool read_pool(struct collector *c)
{
	struct gc_read *r;

	while (c->pool_at < c->pool_end) {
		struct piece *p = &c->pieces[c->order[c->pool_at]];

		if (p->where != AT_HAND) {
			r = free_read(c);
			if (!r)
				return false;
			read_piece(c, r, p);
		}
		c->pool_at++;
	}
	return true;
}

/* ---- planning ---- */

static struct piece *ordered(const struct collector *c, uint32_t i)
{
	return &c->pieces[c->order[i]];
}

struct range {
	uint32_t from, to; /* in c->order */
	uint64_t off, end; /* bytes of the victim's data, whole chunks */
	uint64_t bytes;	   /* wanted */
	uint32_t pieces;
};

static uint64_t chunk_down(const struct gc_source *s, uint64_t bytes)
{
	return bytes / s->crc_bytes * s->crc_bytes;
}

static uint64_t chunk_up(const struct gc_source *s, uint64_t bytes)
{
	return chunk_down(s, bytes + s->crc_bytes - 1);
}

/* The next range of the victim to read, from its piece c->plan_at on. */
static bool next_range(struct collector *c, const struct gc_source *s, struct range *r)
{
	uint32_t i = c->plan_at;

	while (i < s->end && ordered(c, i)->where == AT_HAND)
		i++;
	*r = (struct range){.from = i, .to = i};
	for (; i < s->end; i++) {
		const struct piece *p = ordered(c, i);
		uint64_t off = chunk_down(s, (uint64_t)p->off * 512),
			 end = chunk_up(s, ((uint64_t)p->off + p->len) * 512);

		if (p->where == AT_HAND)
			continue;
		if (end > s->ref.data_bytes)
			end = s->ref.data_bytes;
		if (!r->pieces)
			r->off = off;
		else if (off > r->end + c->get_cost || end - r->off > GET_BYTES)
			break;
		if (end > r->end)
			r->end = end;
		r->bytes += (uint64_t)p->len * 512;
		r->pieces++;
		r->to = i + 1;
	}
	return r->pieces > 0;
}

static bool all_in_pool(const struct collector *c, const struct gc_source *s, const struct range *r)
{
	uint64_t pos;

	for (uint32_t i = r->from; i < r->to; i++) {
		const struct piece *p = ordered(c, i);

		if (p->where != AT_HAND && !find_in_log(c->v, p, &pos) &&
			!cache_has(c->v->cache, &s->ref, (uint64_t)p->off * 512,
				(uint64_t)p->len * 512))
			return false;
	}
	return true;
}

static int plan_range(struct collector *c, struct gc_get *g, const struct range *r)
{
	const struct gc_source *s = &c->source[c->plan_source];
	uint64_t pool_cost = (uint64_t)r->pieces * POOL_READ_COST + r->bytes;
	int rc;

	c->plan_at = r->to;
	if (pool_cost <= r->end - r->off + c->get_cost && all_in_pool(c, s, r)) {
		c->pool_at = r->from;
		c->pool_end = r->to;
		return 0;
	}
	rc = gc_get_submit(g, c->plan_source, s->ref.header_bytes + r->off, r->end - r->off);
	g->next = r->from;
	g->end = r->to;
	g->verified = (uint32_t)(r->off / s->crc_bytes);
	for (uint32_t i = r->from; i < r->to; i++)
		if (ordered(c, i)->where != AT_HAND)
			ordered(c, i)->where = AT_STORE;
	return rc;
}

/* Ask for what there is room for; GC_DONE: all has been asked for. */
static int read_more(struct collector *c)
{
	struct range r;
	struct gc_get *g;
	int rc;

	while (read_pool(c)) {
		if (c->plan_source == c->nsources)
			return GC_DONE;
		g = gc_get_free(c);
		if (!g)
			return GC_WAIT;
		if (c->plan_at < c->source[c->plan_source].first)
			c->plan_at = c->source[c->plan_source].first;
		if (!next_range(c, &c->source[c->plan_source], &r)) {
			c->plan_source++;
			continue;
		}
		rc = plan_range(c, g, &r);
		if (rc < 0)
			return rc;
	}
	return GC_WAIT;
}

/* ---- what came ---- */

/* I10: the chunks of the piece that are not verified yet. */
static bool verify(
	const struct collector *c, struct gc_get *g, const struct piece *p, uint64_t *bytes)
{
	const struct gc_source *s = &c->source[g->source];
	uint64_t base = g->off - s->ref.header_bytes;
	uint32_t first = p->off / (s->crc_bytes / 512),
		 end = (p->off + p->len - 1) / (s->crc_bytes / 512) + 1;

	if (first < g->verified)
		first = g->verified;
	for (uint32_t i = first; i < end; i++) {
		uint64_t at = (uint64_t)i * s->crc_bytes, n = s->ref.data_bytes - at;

		if (n > s->crc_bytes)
			n = s->crc_bytes;
		if (i >= s->crcs || crc32c(0, g->buf + (at - base), n) != c->crc[s->crc_at + i])
			return false;
		*bytes += n;
	}
	if (end > g->verified)
		g->verified = end;
	return true;
}

static void zero_rest(struct collector *c, struct gc_get *g)
{
	for (; g->next < g->end; g->next++) {
		struct piece *p = ordered(c, g->next);

		if (p->where == AT_STORE)
			memset(c->buf + (uint64_t)p->at * 512, 0, (size_t)p->len * 512);
	}
}

/* Verify and copy a slice of what a GET brought. */
static int use_some(struct collector *c, struct gc_get *g)
{
	const struct gc_source *s = &c->source[g->source];
	uint64_t base = g->off - s->ref.header_bytes, bytes = 0;

	if (s->gone) /* nobody wants it any more */
		zero_rest(c, g);
	for (; g->next < g->end && bytes < MOVE_SLICE; g->next++) {
		struct piece *p = ordered(c, g->next);

		if (p->where != AT_STORE)
			continue;
		if (g->damaged || !verify(c, g, p, &bytes))
			return gc_get_again(g);
		memcpy(c->buf + (uint64_t)p->at * 512, g->buf + ((uint64_t)p->off * 512 - base),
			(size_t)p->len * 512);
	}
	g->ready = g->next < g->end;
	return GC_AGAIN;
}

static bool anything_out(const struct collector *c)
{
	for (uint32_t i = 0; i < GETS_MAX; i++)
		if (c->get[i].busy || c->get[i].ready)
			return true;
	return c->in_flight > 0;
}

int gc_read(struct collector *c)
{
	struct gc_get *g = gc_get_ready(c);
	int rc = read_more(c);

	if (rc < 0)
		return rc;
	if (g) {
		int used = use_some(c, g);

		return used < 0 ? used : GC_AGAIN;
	}
	return rc == GC_DONE && anything_out(c) ? GC_WAIT : rc;
}
