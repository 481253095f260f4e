/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rcache.h - chunks on the SSD, for the rooms of core/cache only.
 *
 * Chunks are appended to the open segment; when it is full, a free segment is taken, or the oldest
 * is recycled: what was read lately moves to the open segment beforehand (second chance), the rest
 * is dropped.  Nothing here fails towards the client: what cannot be kept is simply not there.
 *
 *   none -> OPENING (header being written) -> OPEN -> FULL -> given back
 *            take_segment                take_done  close_open  drop
 *
 * A segment is given back only while nothing is in flight to or from it (writes == 0, pins == 0).
 */
#ifndef LSVD_CACHE_RCACHE_H
#define LSVD_CACHE_RCACHE_H

#include "cache/cache.h"
#include "cache/index.h"

enum {
	CACHE_CHUNK_MAX = 4 << 20,
	FILLS_IN_FLIGHT = 8,
	KEEP_SLOTS = 2,
	EVICTED_RING = 256, /* the chunks whose use decides about partial fetches */
	RCACHE_BLOCKS_MAX = CACHE_CHUNK_MAX / POOL_BLOCK
};

enum cseg_state { CSEG_NONE, CSEG_OPENING, CSEG_OPEN, CSEG_FULL };

struct cseg {
	struct segment *seg;
	struct cseg *older, *newer, *save_next;
	uint32_t first, last;		/* entries, in order of place */
	uint32_t entries, entry_blocks; /* chained, dead ones included: bounds the summary */
	uint32_t next_block;
	uint32_t unsaved_blocks; /* filled since the last summary */
	uint32_t writes;	 /* in flight */
	uint64_t generation;	 /* of the last summary */
	uint8_t state;
	bool save; /* queued for a summary */
};

/* A chunk on its way to the SSD.  The caller's, until done (which may fire inside rcache_fill when
 * there is no room).  mem: whole blocks, 4 KiB aligned. */
struct fill {
	struct pool_io io;
	struct chunk_key key;
	uint64_t touched;
	uint16_t from, blocks;
	bool prefetch, loaded;
	uint8_t *mem;
	void (*done)(struct fill *f, int status);
	/* private */
	struct fill *next;
	struct cseg *seg;
	uint32_t entry;
};

struct rcache;

/* A chunk that gets its second chance. */
struct keep {
	struct fill fill;
	struct pool_io io;
	struct rcache *rc;
	bool reading, busy;
};

struct rcache {
	struct pool *pool;
	struct loop *loop;
	struct streams *streams;
	struct cache_stats *stats;
	struct index ix;
	struct cseg *segs; /* by index in the pool */
	struct cseg *oldest, *newest, *open;
	uint32_t owned, full;
	uint32_t seg_shift, seg_blocks, chunk_blocks, grain_blocks, area_blocks, first_block;
	/* fills */
	struct fill *fill_first, **fill_last;
	uint32_t writes;
	/* taking a segment */
	struct pool_io take_io;
	struct cseg *taken;
	bool rush; /* the victim goes as soon as its reads are over */
	/* second chance */
	struct cseg *victim;
	uint32_t cursor, keep_left; /* next entry; blocks that may still be kept */
	struct keep keeps[KEEP_SLOTS];
	uint8_t *keep_mem;
	/* summaries */
	struct pool_io save_io;
	struct cseg *saving, *save_first, **save_last;
	uint8_t *save_buf;
	/* giving back to the pool */
	struct pool_client client;
	bool owed;
	/* what became of the last evicted chunks: a bit is set when little of it was used */
	uint64_t low[EVICTED_RING / 64];
	uint32_t evicted, nlow;
	bool partial;
};

/* -ENOSPC with a message when the pool's segments are too small for these chunks. */
int rcache_init(struct rcache *rc, struct loop *l, struct pool *p, uint32_t chunk_bytes,
	struct streams *streams, struct cache_stats *stats, struct err *e) MUST_CHECK;
void rcache_close(struct rcache *rc); /* blocking: saves the summaries, flushes */
void rcache_fini(struct rcache *rc);

/* The entry that holds these blocks of the chunk, or NULL.  Valid until the loop runs on. */
struct entry *rcache_find(
	const struct rcache *rc, const struct chunk_key *k, uint32_t from, uint32_t blocks);
/* Some of the chunk is there. */
bool rcache_has_part(const struct rcache *rc, const struct chunk_key *k);

/* Note a read.  Returns the bytes of prefetched data it is the first to touch. */
uint32_t rcache_touch(struct rcache *rc, struct entry *e, uint32_t from, uint32_t blocks);
/* The bits of `touched` for these blocks of a chunk. */
uint64_t rcache_grains(const struct rcache *rc, uint32_t from, uint32_t blocks);

/* Read into buf (4 KiB aligned); io->done gets -EBADMSG when the SSD has other bytes by now: then,
 * and after any other failure, rcache_bad(), and fetch.  Call rcache_unpinned() in every io->done.
 */
void rcache_read(struct rcache *rc, const struct entry *e, uint32_t from, uint32_t blocks,
	struct pool_io *io, void *buf);
void rcache_bad(struct rcache *rc, const struct chunk_key *k, const struct pool_io *io, int status);
void rcache_unpinned(struct rcache *rc);

void rcache_fill(struct rcache *rc, struct fill *f);
/* Give up one fill that has not begun and that no prefetch paid for; false: there is none. */
bool rcache_cancel_fill(struct rcache *rc);

void rcache_forget(struct rcache *rc, const struct chunk_key *k);
bool rcache_idle(const struct rcache *rc);

/* ---- between rcache.c and summary.c ---- */
void rcache_want_save(struct rcache *rc, struct cseg *s);
void rcache_save_next(struct rcache *rc);
void rcache_add_newest(struct rcache *rc, struct cseg *s, struct segment *seg);
uint32_t rcache_add_entry(struct rcache *rc, struct cseg *s, const struct chunk_key *k,
	uint32_t block, uint16_t from, uint16_t blocks);
void rcache_publish(struct rcache *rc, uint32_t entry); /* into the hash, replacing an older one */
bool rcache_fits(const struct rcache *rc, const struct cseg *s, uint32_t blocks);
void rcache_summary_over(struct rcache *rc, struct cseg *s);
int rcache_load(struct rcache *rc) MUST_CHECK;

#endif
