/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rcache.c - chunks on the SSD: lookup, fill, and who has to go.
 *
 * Happy path: rcache_fill -> room in the open segment -> pool_write -> the entry enters the hash.
 * A chunk is found only after its write completed; until then its reader has it in memory.
 *
 * How much the cache may hold: whatever is free in the pool, but for a sixteenth that stays free
 * for journals; and up to a quarter of the pool it may take from others (pool_take asks whoever can
 * spare most).  Beyond that it recycles its own oldest segment.
 *
 * Partial fetches: when nearly all (7/8) of the last EVICTED_RING evicted chunks had less than an
 * eighth of their blocks read, whole chunks are a waste of the store's bytes; fetch.c then gets
 * only the 16 KiB asked for, until less than half of the evicted are such.  Only evictions count: a
 * cache that still has room, or a working set that fits, never gets there; nor do VM boots, which
 * read most of what they touch (13 of 16 blocks of a 64 KiB chunk in the boots recorded).  A second
 * miss in one chunk fetches it whole.
 */
#include "cache/rcache.h"

#include "format/cacheseg.h"
#include "sys/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void pump(struct rcache *rc);
static void keep_next(struct rcache *rc);

/* ---- lookup ---- */

static struct cseg *cseg_of(const struct rcache *rc, const struct entry *e)
{
	return &rc->segs[e->place >> rc->seg_shift];
}

struct entry *rcache_find(
	const struct rcache *rc, const struct chunk_key *k, uint32_t from, uint32_t blocks)
{
	uint32_t i = index_find(&rc->ix, k);
	struct entry *e;

	if (i == INDEX_NONE)
		return NULL;
	e = &rc->ix.e[i];
	return e->from <= from && from + blocks <= (uint32_t)e->from + e->blocks ? e : NULL;
}

bool rcache_has_part(const struct rcache *rc, const struct chunk_key *k)
{
	return index_find(&rc->ix, k) != INDEX_NONE;
}

uint64_t rcache_grains(const struct rcache *rc, uint32_t from, uint32_t blocks)
{
	uint32_t first = from / rc->grain_blocks, last = (from + blocks - 1) / rc->grain_blocks;
	uint64_t upto = last >= 63 ? UINT64_MAX : (1ull << (last + 1)) - 1;

	return upto & ~((1ull << first) - 1);
}

uint32_t rcache_touch(struct rcache *rc, struct entry *e, uint32_t from, uint32_t blocks)
{
	uint64_t fresh = rcache_grains(rc, from, blocks) & ~e->touched;

	entry_set(e, ENTRY_REF);
	e->touched |= fresh;
	if (!(e->flags & ENTRY_PREFETCH))
		return 0;
	return (uint32_t)__builtin_popcountll(fresh) * rc->grain_blocks * POOL_BLOCK;
}

void rcache_read(struct rcache *rc, const struct entry *e, uint32_t from, uint32_t blocks,
	struct pool_io *io, void *buf)
{
	io->seg = cseg_of(rc, e)->seg;
	io->block = (e->place & (rc->seg_blocks - 1)) + from - e->from;
	io->blocks = blocks;
	pool_read(rc->pool, io, buf);
}

static void kill_entry(struct rcache *rc, uint32_t i)
{
	index_unlink(&rc->ix, i);
	entry_set(&rc->ix.e[i], ENTRY_DEAD);
}

void rcache_bad(struct rcache *rc, const struct chunk_key *k, const struct pool_io *io, int status)
{
	uint32_t i = index_find(&rc->ix, k);
	uint32_t place = (io->seg->index << rc->seg_shift) + io->block;

	if (status == -EBADMSG)
		rc->stats->crc_errors++;
	if (i == INDEX_NONE || place < rc->ix.e[i].place ||
		place >= rc->ix.e[i].place + rc->ix.e[i].blocks)
		return; /* it was evicted or moved meanwhile */
	kill_entry(rc, i);
}

void rcache_forget(struct rcache *rc, const struct chunk_key *k)
{
	uint32_t i = index_find(&rc->ix, k);

	if (i != INDEX_NONE)
		kill_entry(rc, i);
}

/* ---- entries of a segment ---- */

uint32_t rcache_add_entry(struct rcache *rc, struct cseg *s, const struct chunk_key *k,
	uint32_t block, uint16_t from, uint16_t blocks)
{
	uint32_t i = index_alloc(&rc->ix);
	struct entry *e;

	if (i == INDEX_NONE)
		return i;
	e = &rc->ix.e[i];
	e->key = *k;
	e->place = (s->seg->index << rc->seg_shift) + block;
	e->from = from & 1023u;
	e->blocks = blocks;
	entry_set(e, ENTRY_FILLING);
	if (s->last == INDEX_NONE)
		s->first = i;
	else
		rc->ix.e[s->last].seg_next = i;
	s->last = i;
	s->entries++;
	s->entry_blocks += blocks;
	return i;
}

void rcache_publish(struct rcache *rc, uint32_t i)
{
	struct entry *e = &rc->ix.e[i];
	uint32_t old = index_find(&rc->ix, &e->key);

	if (old != INDEX_NONE)
		kill_entry(rc, old);
	entry_clear(e, ENTRY_FILLING);
	index_link(&rc->ix, i);
}

/* Was little of the chunk used while it was here? */
static void note_use(struct rcache *rc, const struct entry *e)
{
	uint32_t grains = rc->chunk_blocks / rc->grain_blocks;
	uint32_t at = rc->evicted % EVICTED_RING;
	uint64_t bit = 1ull << at % 64, *word = &rc->low[at / 64];
	bool low = (uint32_t)__builtin_popcountll(e->touched) * 8 < grains;

	if (e->flags & (ENTRY_LOADED | ENTRY_PREFETCH) || e->key.chunk > INT32_MAX)
		return;
	if (*word & bit)
		rc->nlow--;
	*word = low ? *word | bit : *word & ~bit;
	rc->nlow += low;
	rc->evicted++;
	if (rc->nlow >= EVICTED_RING / 8 * 7)
		rc->partial = true;
	else if (rc->nlow < EVICTED_RING / 2)
		rc->partial = false;
}

static void drop_entries(struct rcache *rc, struct cseg *s)
{
	for (uint32_t i = s->first, next; i != INDEX_NONE; i = next) {
		struct entry *e = &rc->ix.e[i];

		next = e->seg_next;
		if (!(e->flags & (ENTRY_DEAD | ENTRY_FILLING))) {
			note_use(rc, e);
			rc->stats->evicted_chunks++;
			index_unlink(&rc->ix, i);
		}
		index_free(&rc->ix, i);
	}
}

/* ---- segments: in and out ---- */

static bool idle(const struct cseg *s)
{
	return s->writes == 0 && s->seg->pins == 0;
}

void rcache_add_newest(struct rcache *rc, struct cseg *s, struct segment *seg)
{
	*s = (struct cseg){.seg = seg, .first = INDEX_NONE, .last = INDEX_NONE};
	s->next_block = rc->first_block;
	s->older = rc->newest;
	if (rc->newest)
		rc->newest->newer = s;
	else
		rc->oldest = s;
	rc->newest = s;
	rc->owned++;
}

static void unlink_save(struct rcache *rc, struct cseg *s)
{
	struct cseg **p = &rc->save_first;

	if (!s->save)
		return;
	while (*p != s)
		p = &(*p)->save_next;
	*p = s->save_next;
	if (!*p)
		rc->save_last = p;
	s->save = false;
}

/* Forget all that is in it and give it to the pool. */
static void drop(struct rcache *rc, struct cseg *s)
{
	assert(idle(s));
	drop_entries(rc, s);
	unlink_save(rc, s);
	*(s->older ? &s->older->newer : &rc->oldest) = s->newer;
	*(s->newer ? &s->newer->older : &rc->newest) = s->older;
	if (rc->victim == s)
		rc->victim = NULL;
	if (rc->open == s)
		rc->open = NULL;
	else
		rc->full--;
	rc->owned--;
	s->state = CSEG_NONE;
	pool_give(rc->pool, s->seg);
}

static struct cseg *oldest_idle(const struct rcache *rc)
{
	struct cseg *s = rc->oldest;

	while (s && (s->state != CSEG_FULL || !idle(s)))
		s = s->newer;
	return s;
}

static uint32_t reclaimable(struct pool_client *c)
{
	struct rcache *rc = container_of(c, struct rcache, client);

	return rc->full + (rc->open && idle(rc->open));
}

static bool reclaim(struct pool_client *c)
{
	struct rcache *rc = container_of(c, struct rcache, client);
	struct cseg *s = oldest_idle(rc);

	if (!s && rc->open && idle(rc->open))
		s = rc->open;
	rc->owed = !s && rc->owned;
	if (!s)
		return false;
	drop(rc, s);
	return true;
}

/* Somebody asked for a segment when all were in use: now one may not be. */
static void pay(struct rcache *rc)
{
	if (rc->owed)
		reclaim(&rc->client);
}

void rcache_unpinned(struct rcache *rc)
{
	if (__builtin_expect(rc->owed, 0))
		pay(rc);
}

static bool may_grow(const struct rcache *rc)
{
	uint32_t n = pool_segments(rc->pool);
	uint32_t reserve = n / 16 > 2 ? n / 16 : 2, share = n / 4 > 2 ? n / 4 : 2;

	return pool_free_segments(rc->pool) > reserve || rc->owned < share;
}

static void fail_fills(struct rcache *rc, int status)
{
	struct fill *f = rc->fill_first;

	rc->fill_first = NULL;
	rc->fill_last = &rc->fill_first;
	while (f) {
		struct fill *next = f->next;

		f->done(f, status);
		f = next;
	}
}

static void take_done(struct pool_io *io, int status)
{
	struct rcache *rc = container_of(io, struct rcache, take_io);
	struct cseg *s = rc->taken;

	rc->taken = NULL;
	if (status < 0) {
		s->state = CSEG_NONE;
		pool_give(rc->pool, io->seg);
		fail_fills(rc, status);
		return;
	}
	rcache_add_newest(rc, s, io->seg);
	s->state = CSEG_OPEN;
	rc->open = s;
	pump(rc);
}

static bool try_take(struct rcache *rc)
{
	static const uint8_t nobody[16];
	struct segment *seg;

	rc->take_io.done = take_done;
	if (pool_take(rc->pool, SEGMENT_CACHE, nobody, 0, 0, &seg, &rc->take_io) < 0)
		return false;
	rc->taken = &rc->segs[seg->index];
	rc->taken->state = CSEG_OPENING;
	return true;
}

static bool keeps_reading(const struct rcache *rc)
{
	for (unsigned i = 0; i < KEEP_SLOTS; i++)
		if (rc->keeps[i].reading)
			return true;
	return false;
}

/* Begin to get a segment to fill; false: there is none to be had. */
static bool take_segment(struct rcache *rc)
{
	struct cseg *s;

	if (rc->taken || rc->rush)
		return true;
	if (may_grow(rc) && try_take(rc))
		return true;
	if (rc->victim && keeps_reading(rc)) {
		rc->rush = true;
		return true;
	}
	s = oldest_idle(rc);
	if (!s)
		return rc->writes || rc->saving; /* one will be, soon */
	drop(rc, s);
	return try_take(rc);
}

/* Every eighth of a segment, and once more when nothing will come any more. */
static void maybe_save(struct rcache *rc, struct cseg *s)
{
	uint32_t every = rc->seg_blocks > 128 ? rc->seg_blocks / 8 : 16;

	if (s->state == CSEG_FULL ? !s->writes : s->unsaved_blocks >= every)
		rcache_want_save(rc, s);
}

static void close_open(struct rcache *rc)
{
	struct cseg *s = rc->open;

	s->state = CSEG_FULL;
	rc->open = NULL;
	rc->full++;
	maybe_save(rc, s);
}

/* ---- second chance ---- */

static void keep_over(struct keep *k)
{
	struct rcache *rc = k->rc;

	k->busy = false;
	if (rc->rush && !keeps_reading(rc)) {
		rc->rush = false;
		pump(rc);
	}
	keep_next(rc);
}

static void keep_filled(struct fill *f, int status)
{
	struct keep *k = container_of(f, struct keep, fill);

	if (status == 0)
		k->rc->stats->kept_chunks++;
	keep_over(k);
}

static void keep_read(struct pool_io *io, int status)
{
	struct keep *k = container_of(io, struct keep, io);
	struct rcache *rc = k->rc;

	k->reading = false;
	if (status < 0) {
		rcache_bad(rc, &k->fill.key, io, status);
		keep_over(k);
	} else {
		rcache_fill(rc, &k->fill);
		if (rc->rush && !keeps_reading(rc)) {
			rc->rush = false;
			pump(rc);
		}
	}
	rcache_unpinned(rc);
}

static void keep_start(struct rcache *rc, struct keep *k, const struct entry *e)
{
	k->busy = k->reading = true;
	k->fill.key = e->key;
	k->fill.from = e->from;
	k->fill.blocks = e->blocks;
	k->fill.touched = e->touched;
	k->fill.prefetch = e->flags & ENTRY_PREFETCH;
	k->fill.loaded = e->flags & ENTRY_LOADED;
	k->fill.done = keep_filled;
	k->io.done = keep_read;
	rcache_read(rc, e, e->from, e->blocks, &k->io, k->fill.mem);
}

static struct keep *keep_slot(struct rcache *rc)
{
	for (unsigned i = 0; i < KEEP_SLOTS; i++)
		if (!rc->keeps[i].busy)
			return &rc->keeps[i];
	return NULL;
}

/* Move on through the victim, as long as there are slots and its share lasts. */
static void keep_next(struct rcache *rc)
{
	struct keep *k;

	while (rc->victim && rc->cursor != INDEX_NONE && (k = keep_slot(rc))) {
		struct entry *e = &rc->ix.e[rc->cursor];

		rc->cursor = e->seg_next;
		if (e->flags & (ENTRY_DEAD | ENTRY_FILLING) || !(e->flags & ENTRY_REF) ||
			e->blocks > rc->keep_left)
			continue;
		rc->keep_left -= e->blocks;
		keep_start(rc, k, e);
	}
}

/* The open segment is half full and the next one will be the oldest: save what is worth it, up to
 * a quarter of a segment. */
static void maybe_clean(struct rcache *rc)
{
	if (rc->victim || !rc->full || rc->open->next_block < rc->seg_blocks / 2 || may_grow(rc))
		return;
	rc->victim = oldest_idle(rc);
	if (!rc->victim)
		return;
	rc->cursor = rc->victim->first;
	rc->keep_left =
		rc->seg_blocks / 4 > rc->chunk_blocks ? rc->seg_blocks / 4 : rc->chunk_blocks;
	keep_next(rc);
}

/* ---- fills ---- */

bool rcache_fits(const struct rcache *rc, const struct cseg *s, uint32_t blocks)
{
	return s->next_block + blocks <= rc->seg_blocks &&
	       cacheseg_bytes(s->entries + 1, s->entry_blocks + blocks) <=
		       (uint64_t)rc->area_blocks * POOL_BLOCK;
}

void rcache_summary_over(struct rcache *rc, struct cseg *s)
{
	s->writes--;
	maybe_save(rc, s);
	pay(rc);
	pump(rc);
}

static void fill_written(struct pool_io *io, int status)
{
	struct fill *f = container_of(io, struct fill, io);
	struct cseg *s = f->seg;
	struct rcache *rc = io->seg->user;
	struct entry *e = &rc->ix.e[f->entry];

	if (status < 0) {
		entry_clear(e, ENTRY_FILLING);
		entry_set(e, ENTRY_DEAD);
	} else {
		e->touched = f->touched; /* reads of it while it was in memory */
		if (f->prefetch)
			entry_set(e, ENTRY_PREFETCH);
		if (f->loaded)
			entry_set(e, ENTRY_LOADED);
		rcache_publish(rc, f->entry);
		s->unsaved_blocks += f->blocks;
	}
	rc->writes--;
	s->writes--;
	maybe_save(rc, s);
	pay(rc);
	f->done(f, status);
	pump(rc);
}

/* An entry is needed but the index is full: the oldest segment has to go. */
static uint32_t entry_for(struct rcache *rc, struct fill *f)
{
	for (;;) {
		struct cseg *s;
		uint32_t i = rcache_add_entry(
			rc, rc->open, &f->key, rc->open->next_block, f->from, f->blocks);

		if (i != INDEX_NONE)
			return i;
		s = oldest_idle(rc);
		if (!s)
			return INDEX_NONE;
		drop(rc, s);
	}
}

static void start_fill(struct rcache *rc, struct fill *f)
{
	struct cseg *s = rc->open;

	f->entry = entry_for(rc, f);
	if (f->entry == INDEX_NONE) {
		f->done(f, -ENOSPC);
		return;
	}
	f->seg = s;
	f->io.seg = s->seg;
	f->io.seg->user = rc;
	f->io.block = s->next_block;
	f->io.blocks = f->blocks;
	f->io.done = fill_written;
	s->next_block += f->blocks;
	s->writes++;
	rc->writes++;
	pool_write(rc->pool, &f->io, f->mem, NULL);
	maybe_clean(rc);
}

static void pump(struct rcache *rc)
{
	while (rc->fill_first && rc->writes < FILLS_IN_FLIGHT) {
		struct fill *f = rc->fill_first;

		if (!rc->open || !rcache_fits(rc, rc->open, f->blocks)) {
			if (rc->open)
				close_open(rc);
			if (!take_segment(rc))
				fail_fills(rc, -ENOSPC);
			return;
		}
		rc->fill_first = f->next;
		if (!rc->fill_first)
			rc->fill_last = &rc->fill_first;
		start_fill(rc, f);
	}
}

void rcache_fill(struct rcache *rc, struct fill *f)
{
	f->next = NULL;
	*rc->fill_last = f;
	rc->fill_last = &f->next;
	pump(rc);
}

bool rcache_cancel_fill(struct rcache *rc)
{
	struct fill **p = &rc->fill_first;
	struct fill *f;

	while (*p && ((*p)->prefetch || (*p)->done == keep_filled))
		p = &(*p)->next;
	f = *p;
	if (!f)
		return false;
	*p = f->next;
	if (!*p)
		rc->fill_last = p;
	f->done(f, -ECANCELED);
	return true;
}

/* ---- open and close ---- */

bool rcache_idle(const struct rcache *rc)
{
	if (rc->writes || rc->fill_first || rc->taken || rc->saving || rc->save_first)
		return false;
	for (unsigned i = 0; i < KEEP_SLOTS; i++)
		if (rc->keeps[i].busy)
			return false;
	return true;
}

static int set_geometry(struct rcache *rc, uint32_t chunk_bytes, struct err *e)
{
	uint64_t entries;

	rc->seg_blocks = pool_segment_blocks(rc->pool);
	rc->seg_shift = (uint32_t)__builtin_ctz(rc->seg_blocks);
	rc->chunk_blocks = chunk_bytes / POOL_BLOCK;
	rc->grain_blocks = rc->chunk_blocks > 64 ? rc->chunk_blocks / 64 : 1;
	entries = rc->seg_blocks / rc->chunk_blocks * 2 + 16;
	rc->area_blocks =
		(uint32_t)((cacheseg_bytes(entries, rc->seg_blocks) + POOL_BLOCK - 1) / POOL_BLOCK);
	rc->first_block = 1 + 2 * rc->area_blocks;
	if (rc->first_block + rc->chunk_blocks > rc->seg_blocks)
		return err_set(e, -ENOSPC,
			"no read cache: chunks of %u KiB do not fit in pool segments of %u KiB; "
			"make "
			"cache.chunk smaller or the pool's segments larger",
			chunk_bytes / 1024, rc->seg_blocks * (POOL_BLOCK / 1024));
	if ((uint64_t)pool_segments(rc->pool) * rc->seg_blocks > UINT32_MAX)
		return err_set(e, -ENOSPC, "no read cache: the pool is larger than 16 TiB");
	return 0;
}

int rcache_init(struct rcache *rc, struct loop *l, struct pool *p, uint32_t chunk_bytes,
	struct streams *streams, struct cache_stats *stats, struct err *e)
{
	uint64_t chunks;
	int ret;

	*rc = (struct rcache){.pool = p, .loop = l, .streams = streams, .stats = stats};
	rc->fill_last = &rc->fill_first;
	rc->save_last = &rc->save_first;
	ret = set_geometry(rc, chunk_bytes, e);
	if (ret < 0)
		return ret;
	chunks = (uint64_t)pool_segments(p) * rc->seg_blocks / rc->chunk_blocks;
	rc->segs = calloc(pool_segments(p), sizeof(*rc->segs));
	rc->save_buf = aligned_alloc(POOL_BLOCK, (size_t)rc->area_blocks * POOL_BLOCK * 2);
	rc->keep_mem = aligned_alloc(POOL_BLOCK, (size_t)KEEP_SLOTS * chunk_bytes);
	ret = index_init(&rc->ix, (uint32_t)(chunks + chunks / 4 + 1024));
	if (!rc->segs || !rc->save_buf || !rc->keep_mem || ret < 0) {
		rcache_fini(rc);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < KEEP_SLOTS; i++) {
		rc->keeps[i].rc = rc;
		rc->keeps[i].fill.mem = rc->keep_mem + (size_t)i * chunk_bytes;
	}
	ret = rcache_load(rc);
	if (ret < 0) {
		rcache_fini(rc);
		return ret;
	}
	rc->client = (struct pool_client){.reclaimable = reclaimable, .reclaim = reclaim};
	pool_add_client(p, &rc->client);
	return 0;
}

void rcache_fini(struct rcache *rc)
{
	if (rc->client.reclaim)
		pool_remove_client(rc->pool, &rc->client);
	index_fini(&rc->ix);
	free(rc->segs);
	free(rc->save_buf);
	free(rc->keep_mem);
	*rc = (struct rcache){0};
}
