/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * summary.c - what lets the cache survive a restart: the summaries of its segments.
 *
 * A summary is written when an eighth of the segment was filled since the last, when it is full,
 * and at a clean close; into the two areas in turn, so that a crash in the middle leaves the one
 * before.  One write at a time.  A summary names only chunks whose write had completed; a power
 * failure may have lost these all the same, which their CRCs tell when they are read.
 *
 * A failed write is not repeated: the chunks stay readable until the restart, which misses them.
 */
#include "cache/rcache.h"
#include "format/cacheseg.h"
#include "sys/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void rcache_want_save(struct rcache *rc, struct cseg *s)
{
	if (s->save || !s->unsaved_blocks || pool_is_volatile(rc->pool))
		return;
	s->save = true;
	s->save_next = NULL;
	*rc->save_last = s;
	rc->save_last = &s->save_next;
	rcache_save_next(rc);
}

static uint32_t encode(struct rcache *rc, struct cseg *s)
{
	size_t room = (size_t)rc->area_blocks * POOL_BLOCK;
	struct writer w = cacheseg_begin(rc->save_buf, room);
	struct cacheseg_head h = {.alloc = s->seg->alloc,
		.generation = ++s->generation,
		.index = s->seg->index,
		.chunk_bytes = rc->chunk_blocks * POOL_BLOCK,
		.segment_blocks = rc->seg_blocks,
		.first_block = rc->first_block,
		.next_block = s->next_block};
	uint32_t crcs[RCACHE_BLOCKS_MAX], n = 0;

	memcpy(h.pool_uuid, pool_uuid(rc->pool), 16);
	for (uint32_t i = s->first; i != INDEX_NONE; i = rc->ix.e[i].seg_next) {
		const struct entry *e = &rc->ix.e[i];
		const struct stream_id *id = &rc->streams->id[e->key.stream];
		struct cacheseg_entry x = {.epoch = id->epoch,
			.seq = e->key.seq,
			.chunk = e->key.chunk,
			.block = e->place & (rc->seg_blocks - 1),
			.from = e->from,
			.blocks = e->blocks};

		if (e->flags & (ENTRY_FILLING | ENTRY_DEAD))
			continue;
		memcpy(x.uuid, id->uuid, 16);
		for (uint32_t b = 0; b < x.blocks; b++)
			crcs[b] = pool_crc(rc->pool, s->seg, x.block + b);
		cacheseg_put(&w, &x, crcs);
		n++;
	}
	cacheseg_end(&w, rc->save_buf, &h, n);
	return (h.bytes + POOL_BLOCK - 1) / POOL_BLOCK;
}

static void saved(struct pool_io *io, int status)
{
	struct rcache *rc = container_of(io, struct rcache, save_io);
	struct cseg *s = rc->saving;

	(void)status;
	rc->saving = NULL;
	rcache_summary_over(rc, s);
	rcache_save_next(rc);
}

void rcache_save_next(struct rcache *rc)
{
	struct cseg *s = rc->save_first;

	if (rc->saving || !s)
		return;
	rc->save_first = s->save_next;
	if (!rc->save_first)
		rc->save_last = &rc->save_first;
	s->save = false;
	rc->saving = s;
	s->unsaved_blocks = 0;
	s->writes++;
	rc->save_io.seg = s->seg;
	rc->save_io.blocks = encode(rc, s);
	rc->save_io.block = 1 + (uint32_t)(s->generation & 1) * rc->area_blocks;
	rc->save_io.done = saved;
	pool_write(rc->pool, &rc->save_io, rc->save_buf, NULL);
}

/* ---- restart ---- */

/* The valid summary with the higher generation, or NULL. */
static const uint8_t *newer_summary(
	struct rcache *rc, const struct segment *seg, struct cacheseg_head *best)
{
	size_t area = (size_t)rc->area_blocks * POOL_BLOCK;
	const uint8_t *found = NULL;

	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *p = rc->save_buf + i * area;
		struct cacheseg_head h;

		if (cacheseg_decode(p, area, &h, NULL) < 0)
			continue;
		if (memcmp(h.pool_uuid, pool_uuid(rc->pool), 16) || h.index != seg->index ||
			h.alloc != seg->alloc) /* I10 */
			continue;
		if (h.chunk_bytes != rc->chunk_blocks * POOL_BLOCK ||
			h.first_block != rc->first_block || h.segment_blocks != rc->seg_blocks)
			continue; /* made with other settings */
		if (!found || h.generation > best->generation) {
			*best = h;
			found = p;
		}
	}
	return found;
}

static void load_entries(
	struct rcache *rc, struct cseg *s, const uint8_t *buf, const struct cacheseg_head *h)
{
	struct reader r = cacheseg_entries(buf, h);
	uint32_t crcs[CACHESEG_BLOCKS_MAX];

	for (uint32_t n = 0; n < h->entries; n++) {
		struct cacheseg_entry x;
		struct chunk_key k;
		uint32_t i;

		cacheseg_next(&r, &x, crcs);
		k = (struct chunk_key){.stream = stream_of(rc->streams, x.uuid, x.epoch),
			.chunk = x.chunk,
			.seq = x.seq};
		if (k.stream == INDEX_NONE)
			continue;
		i = rcache_add_entry(rc, s, &k, x.block, x.from, x.blocks);
		if (i == INDEX_NONE)
			continue;
		entry_set(&rc->ix.e[i], ENTRY_LOADED);
		pool_note_crcs(rc->pool, s->seg, x.block, x.blocks, crcs);
		rcache_publish(rc, i);
	}
	s->next_block = h->next_block;
	s->generation = h->generation;
}

static void load_segment(struct rcache *rc, struct segment *seg)
{
	struct cseg *s = &rc->segs[seg->index];
	struct cacheseg_head h = {0};
	const uint8_t *buf = NULL;
	struct pool_io io = {.seg = seg, .block = 1, .blocks = 2 * rc->area_blocks};

	pool_io_awaited(&io);
	pool_read_raw(rc->pool, &io, rc->save_buf, 0);
	if (pool_wait_io(rc->pool, &io) == 0)
		buf = newer_summary(rc, seg, &h);
	if (!buf || !h.entries) {
		pool_give(rc->pool, seg);
		return;
	}
	rcache_add_newest(rc, s, seg);
	load_entries(rc, s, buf, &h);
	s->state = CSEG_FULL;
	rc->full++;
}

int rcache_load(struct rcache *rc)
{
	struct pool_journal found;
	int ret = pool_find(rc->pool, SEGMENT_CACHE, NULL, &found);

	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < found.count; i++)
		load_segment(rc, found.segs[i]);
	free(found.segs);
	if (rc->newest && rcache_fits(rc, rc->newest, rc->chunk_blocks)) {
		rc->open = rc->newest; /* go on where the last run stopped */
		rc->open->state = CSEG_OPEN;
		rc->full--;
	}
	return 0;
}

void rcache_close(struct rcache *rc)
{
	struct pool_io io = {0};

	while (!rcache_idle(rc))
		if (loop_poll(rc->loop, LOOP_FOREVER) == 0 && loop_is_sim(rc->loop))
			break; /* our own bug, or a dead device: nothing can happen any more */
	if (rc->open)
		rcache_want_save(rc, rc->open);
	while (!rcache_idle(rc))
		if (loop_poll(rc->loop, LOOP_FOREVER) == 0 && loop_is_sim(rc->loop))
			break;
	pool_io_awaited(&io);
	pool_flush(rc->pool, &io);
	if (pool_wait_io(rc->pool, &io) < 0)
		return; /* what is not durable is a miss next time */
}
