/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * header.c - object headers: found in memory, in the pool, or by a GET.
 *
 * What fetch.c needs of a header are its CRCs; those are kept in memory for the objects used last
 * (HEADER_CRC_BYTES in all).  Whole headers are kept in the pool, in pieces of a chunk, under the
 * chunk numbers from UINT32_MAX down; they verify themselves (I10).
 *
 *   FOLDED  comes with the first piece of data, in one GET     fails -> GET of its own, if awaited
 *   POOL    being read from the pool                           fails -> GET
 *   GET     being fetched; retried, re-fetched once if damaged
 *   DONE    known; being written to the pool, then freed
 */
#include "cache/cache_impl.h"

#include "sys/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void hload_get(struct hload *h);
static void hload_fill(struct hload *h);

/* ---- CRCs in memory ---- */

static struct hrec **hrec_bucket(struct cache *c, const struct chunk_key *k)
{
	struct chunk_key o = {.stream = k->stream, .seq = k->seq};

	return &c->hbucket[chunk_hash(&o) % HEADER_BUCKETS];
}

static struct hrec *hrec_find(struct cache *c, const struct chunk_key *k)
{
	struct hrec *r = *hrec_bucket(c, k);

	while (r && (r->seq != k->seq || r->stream != k->stream))
		r = r->hash_next;
	return r;
}

bool header_known(const struct cache *c, const struct chunk_key *k)
{
	return hrec_find((struct cache *)c, k) != NULL;
}

static void lru_remove(struct cache *c, struct hrec *r)
{
	*(r->older ? &r->older->newer : &c->holdest) = r->newer;
	*(r->newer ? &r->newer->older : &c->hnewest) = r->older;
}

static void lru_add(struct cache *c, struct hrec *r)
{
	r->newer = NULL;
	r->older = c->hnewest;
	*(c->hnewest ? &c->hnewest->newer : &c->holdest) = r;
	c->hnewest = r;
}

const struct hrec *header_find(struct cache *c, const struct chunk_key *k)
{
	struct hrec *r = hrec_find(c, k);

	if (r && r != c->hnewest) {
		lru_remove(c, r);
		lru_add(c, r);
	}
	return r;
}

static uint64_t hrec_bytes(uint32_t count)
{
	return sizeof(struct hrec) + (uint64_t)count * sizeof(uint32_t);
}

static void hrec_drop(struct cache *c, struct hrec *r)
{
	struct chunk_key k = {.stream = r->stream, .seq = r->seq};
	struct hrec **q = hrec_bucket(c, &k);

	while (*q != r)
		q = &(*q)->hash_next;
	*q = r->hash_next;
	lru_remove(c, r);
	c->hbytes -= hrec_bytes(r->count);
	free(r);
}

static int hrec_add(struct hload *h)
{
	struct cache *c = h->c;
	struct hrec **b = hrec_bucket(c, &h->key), *r;

	if (hrec_find(c, &h->key))
		return 0;
	r = malloc(hrec_bytes(h->header.chunks));
	if (!r)
		return -ENOMEM;
	r->seq = h->key.seq;
	r->stream = h->key.stream;
	r->count = h->header.chunks;
	r->crc_bytes = h->header.crc_bytes;
	for (uint32_t i = 0; i < r->count; i++)
		r->crc[i] = object_get_crc(h->buf, &h->header, i);
	r->hash_next = *b;
	*b = r;
	lru_add(c, r);
	c->hbytes += hrec_bytes(r->count);
	while (c->hbytes > HEADER_CRC_BYTES && c->holdest != r)
		hrec_drop(c, c->holdest);
	return 0;
}

/* ---- loads ---- */

static struct hload *hload_find(struct cache *c, const struct chunk_key *k)
{
	struct hload *h = c->hloads;

	while (h && (h->key.seq != k->seq || h->key.stream != k->stream))
		h = h->next;
	return h;
}

/* Room for `bytes`, keeping what has come. */
static int hload_room(struct hload *h, uint32_t bytes)
{
	uint8_t *buf;

	if (bytes <= h->room)
		return 0;
	buf = aligned_alloc(POOL_BLOCK, bytes);
	if (!buf)
		return -ENOMEM;
	if (h->got)
		memcpy(buf, h->buf, h->got);
	free(h->buf);
	h->buf = buf;
	h->room = bytes;
	return 0;
}

static struct hload *hload_new(
	struct cache *c, const struct object_ref *ref, const struct chunk_key *k)
{
	struct hload *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->c = c;
	h->ref = *ref;
	h->key = (struct chunk_key){.stream = k->stream, .seq = k->seq};
	if (hload_room(h, ref->header_bytes ? ref->header_bytes : HEADER_GUESS) < 0) {
		free(h);
		return NULL;
	}
	h->next = c->hloads;
	if (h->next)
		h->next->prev = h;
	c->hloads = h;
	return h;
}

static void hload_free(struct hload *h)
{
	*(h->prev ? &h->prev->next : &h->c->hloads) = h->next;
	if (h->next)
		h->next->prev = h->prev;
	free(h->buf);
	free(h);
}

static void give_header(struct cache_header *g, const struct hload *h)
{
	g->header = h->header;
	g->buf = malloc(h->header.header_bytes);
	g->status = g->buf ? 0 : -ENOMEM;
	if (g->buf)
		memcpy(g->buf, h->buf, h->header.header_bytes);
}

/* Tell all who wait; their callbacks may begin anything. */
static void hload_tell(struct hload *h, int status)
{
	struct fetch *f;
	struct cache_header *g;

	while ((f = h->fetches)) {
		h->fetches = f->next;
		fetch_header_over(f, status);
	}
	while ((g = h->getters)) {
		h->getters = g->next;
		g->status = status;
		if (status == 0)
			give_header(g, h);
		g->done(g, g->status);
	}
}

static void hload_fail(struct hload *h, int status)
{
	struct hload **q = h->prev ? &h->prev->next : &h->c->hloads;

	/* Out of the list first: who asks again from a callback begins anew. */
	*q = h->next;
	if (h->next)
		h->next->prev = h->prev;
	hload_tell(h, status);
	free(h->buf);
	free(h);
}

/* Decode and compare with what was expected.  Needs all of it. */
static int hload_decode(struct hload *h)
{
	int rc = object_decode(
		h->buf, h->got, h->ref.uuid, h->ref.epoch, h->ref.seq, &h->header, NULL);

	if (rc < 0)
		return rc;
	if ((h->ref.header_bytes && h->ref.header_bytes != h->header.header_bytes) ||
		(h->ref.data_bytes && h->ref.data_bytes != h->header.data_bytes))
		return -EUCLEAN;
	return 0;
}

static void hload_ok(struct hload *h, bool fill)
{
	int rc = hrec_add(h);

	if (rc < 0) {
		hload_fail(h, rc);
		return;
	}
	h->state = HLOAD_DONE;
	h->piece = 0;
	hload_tell(h, 0);
	if (fill && h->c->on)
		hload_fill(h);
	else
		hload_free(h);
}

/* ---- from the store ---- */

static bool hload_wanted(const struct hload *h)
{
	const struct fetch *f = h->fetches;

	while (f && !fetch_wanted(f))
		f = f->next;
	return f || h->getters;
}

static void hload_damaged(struct hload *h, int status)
{
	h->c->stats.crc_errors++;
	if (h->tries++) {
		hload_fail(h, status);
		return;
	}
	h->got = 0;
	hload_get(h);
}

static void hload_check(struct hload *h, bool all)
{
	struct object_header fixed;
	int rc = object_decode_fixed(h->buf, h->got, &fixed, NULL);

	if (rc == 0 && fixed.header_bytes > h->got && all && !h->ref.header_bytes) {
		/* The guess was too small. */
		rc = hload_room(h, fixed.header_bytes);
		if (rc == 0)
			hload_get(h);
		else
			hload_fail(h, rc);
		return;
	}
	if (rc == 0)
		rc = hload_decode(h);
	if (rc < 0)
		hload_damaged(h, rc);
	else
		hload_ok(h, true);
}

static void hload_again(struct loop_timer *t)
{
	hload_get(container_of(t, struct hload, retry.timer));
}

static void hload_got(struct store_req *r, int64_t status)
{
	struct hload *h = container_of(r, struct hload, req);

	if (status < 0) {
		h->retry.timer.fire = hload_again;
		if (status != -ENOENT && hload_wanted(h) && retry_later(h->c, &h->retry))
			return;
		hload_fail(h, (int)(status == -ENOENT || status == -ENOMEM ? status : -EIO));
		return;
	}
	h->c->stats.get_bytes += (uint64_t)status;
	h->got += (uint32_t)status;
	hload_check(h, h->got == h->room);
}

static void hload_get(struct hload *h)
{
	h->state = HLOAD_GET;
	h->iov = (struct iovec){h->buf + h->got, h->room - h->got};
	h->req = (struct store_req){.op = STORE_GET,
		.name = h->ref.name,
		.iov = &h->iov,
		.iovcnt = 1,
		.off_bytes = h->got,
		.len_bytes = h->room - h->got,
		.done = hload_got};
	h->c->stats.gets++;
	h->c->stats.header_gets++;
	store_submit(h->ref.store, &h->req);
}

void header_folded(struct hload *h, int64_t got)
{
	h->got = got < h->ref.header_bytes ? (uint32_t)got : h->ref.header_bytes;
	hload_check(h, false);
}

void header_unfold(struct hload *h)
{
	if (h->fetches || h->getters)
		hload_get(h);
	else
		hload_free(h);
}

void header_leave(struct fetch *f)
{
	struct fetch **q = &f->header->fetches;

	while (*q != f)
		q = &(*q)->next;
	*q = f->next;
	f->header = NULL;
}

/* ---- from and to the pool ---- */

static uint32_t piece_bytes(const struct hload *h, uint32_t total)
{
	uint32_t at = h->piece << h->c->chunk_shift;

	return total - at < h->c->chunk_bytes ? total - at : h->c->chunk_bytes;
}

static bool hload_pool(struct hload *h);

static void hload_read(struct pool_io *io, int status)
{
	struct hload *h = container_of(io, struct hload, fill.io);
	struct object_header fixed;

	if (status < 0)
		rcache_bad(&h->c->rc, &h->fill.key, io, status);
	rcache_unpinned(&h->c->rc);
	if (status < 0)
		goto fetch;
	h->got += io->blocks * POOL_BLOCK;
	h->piece++;
	if (object_decode_fixed(h->buf, h->got, &fixed, NULL) < 0)
		goto fetch;
	if (fixed.header_bytes > h->got) {
		if (hload_room(h, fixed.header_bytes) < 0 || !hload_pool(h))
			goto fetch;
		return;
	}
	if (hload_decode(h) < 0)
		goto fetch;
	hload_ok(h, false);
	return;
fetch:
	h->got = 0;
	hload_get(h);
}

/* Read the next piece from the pool; false: it is not there. */
static bool hload_pool(struct hload *h)
{
	struct cache *c = h->c;
	struct chunk_key k = h->key;
	struct entry *e;

	k.chunk = header_chunk(h->piece);
	e = c->on ? rcache_find(&c->rc, &k, 0, 1) : NULL;
	if (!e || h->got + (uint32_t)e->blocks * POOL_BLOCK > h->room)
		return false;
	h->state = HLOAD_POOL;
	h->fill.key = k;
	h->fill.io.done = hload_read;
	rcache_touch(&c->rc, e, 0, e->blocks);
	rcache_read(&c->rc, e, 0, e->blocks, &h->fill.io, h->buf + h->got);
	return true;
}

static void hload_filled(struct fill *f, int status)
{
	struct hload *h = container_of(f, struct hload, fill);

	h->piece++;
	if (status < 0 || (h->piece << h->c->chunk_shift) >= h->header.header_bytes)
		hload_free(h);
	else
		hload_fill(h);
}

static void hload_fill(struct hload *h)
{
	h->fill = (struct fill){.key = h->key,
		.mem = h->buf + ((size_t)h->piece << h->c->chunk_shift),
		.blocks = (uint16_t)(piece_bytes(h, h->header.header_bytes) / POOL_BLOCK),
		.done = hload_filled};
	h->fill.key.chunk = header_chunk(h->piece);
	rcache_fill(&h->c->rc, &h->fill);
}

/* ---- who asks ---- */

static void hload_start(struct hload *h)
{
	if (!hload_pool(h))
		hload_get(h);
}

int header_want(struct cache *c, struct fetch *f, bool *fold)
{
	struct hload *h = hload_find(c, &f->key);
	struct chunk_key first = {
		.stream = f->key.stream, .seq = f->key.seq, .chunk = header_chunk(0)};

	if (h && h->state == HLOAD_DONE)
		return hrec_add(h);
	if (!h) {
		h = hload_new(c, &f->ref, &f->key);
		if (!h)
			return -ENOMEM;
		if (fold && f->off == 0 && !(c->on && rcache_has_part(&c->rc, &first))) {
			h->state = HLOAD_FOLDED;
			*fold = true;
		} else {
			hload_start(h);
		}
	}
	f->header = h;
	f->next = h->fetches;
	h->fetches = f;
	return 0;
}

static void header_at_once(struct loop_task *t)
{
	struct cache_header *g = container_of(t, struct cache_header, task);

	g->done(g, g->status);
}

static void header_later(struct cache_header *g)
{
	g->task.run = header_at_once;
	loop_defer(g->cache->loop, &g->task);
}

void cache_get_header(struct cache *c, struct cache_header *g)
{
	struct chunk_key k = {
		.stream = stream_of(&c->streams, g->ref.uuid, g->ref.epoch), .seq = g->ref.seq};
	struct hload *h;

	g->cache = c;
	g->buf = NULL;
	g->status = -ENOMEM;
	if (k.stream == INDEX_NONE) {
		header_later(g);
		return;
	}
	h = hload_find(c, &k);
	if (h && h->state == HLOAD_DONE) {
		give_header(g, h);
		header_later(g);
		return;
	}
	if (!h) {
		h = hload_new(c, &g->ref, &k);
		if (!h) {
			header_later(g);
			return;
		}
		hload_start(h);
	}
	g->next = h->getters;
	h->getters = g;
}

void header_forget(struct cache *c, const struct chunk_key *k)
{
	struct hrec *r = hrec_find(c, k);

	if (r)
		hrec_drop(c, r);
}

void headers_fini(struct cache *c)
{
	while (c->holdest)
		hrec_drop(c, c->holdest);
	while (c->hloads)
		hload_free(c->hloads);
}
