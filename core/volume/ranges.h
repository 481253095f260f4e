/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ranges.h - where each range of the LBA space was last saved, and what changed since.
 *
 * A range is what the superblock says: 1/65536 or so of the volume.  One that holds many extents is
 * halved, again and again, into pieces that are saved alone, so that a checkpoint costs what
 * changed also where the extents are dense.  How often is chosen when the whole range is saved.
 *
 * Two bitmaps: `dirty` changed since the checkpoint being made began; `pending` is still to be
 * encoded for it.  A range's bit is the sum of its pieces' bits.
 *
 * Pure: no I/O, no clock, no globals.
 */
#ifndef LSVD_VOLUME_RANGES_H
#define LSVD_VOLUME_RANGES_H

#include "format/checkpoint.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the contents of one piece are. */
struct range_dir {
	uint64_t number, offset_bytes;
	uint32_t extents, crc;
};

struct range_pieces {
	uint64_t *dirty, *pending;
	struct range_dir dir[];
};

struct range {
	union {
		struct range_dir one;	   /* halvings 0 */
		struct range_pieces *many; /* else */
	};
	uint8_t halvings;
	bool uneven; /* to be cut anew when it is saved next */
};

struct ranges {
	uint64_t sectors; /* of a range: a power of two */
	uint64_t n, max;  /* n never shrinks */
	uint32_t halvings_max;
	struct range *range;
	uint64_t *dirty, *pending; /* bitmaps by range */
	uint64_t npending;
};

int ranges_init(struct ranges *rs, uint64_t range_sectors, uint64_t size_sectors,
	uint64_t max_sectors) MUST_CHECK;
void ranges_fini(struct ranges *rs);

/* Room for so many sectors; never less than before.  -EINVAL beyond the most there can be. */
int ranges_resize(struct ranges *rs, uint64_t size_sectors) MUST_CHECK;

static inline uint32_t range_count(const struct range *r)
{
	return 1u << r->halvings;
}

static inline struct range_dir *range_piece(struct range *r, uint32_t i)
{
	return r->halvings ? &r->many->dir[i] : &r->one;
}

static inline bool ranges_bit(const uint64_t *map, uint64_t i)
{
	return map[i / 64] >> (i % 64) & 1;
}

/* [lba, lba+len) of range r changes. */
void ranges_mark(struct ranges *rs, uint64_t r, uint64_t lba, uint64_t len);

/* Nothing was saved of range r, and nothing came since: it is empty. */
static inline bool ranges_is_void(const struct ranges *rs, uint64_t r)
{
	const struct range *x = &rs->range[r];

	return !x->halvings && !x->one.extents && !ranges_bit(rs->dirty, r) &&
	       !ranges_bit(rs->pending, r);
}

/* What is dirty becomes pending; uneven ranges wholly. */
void ranges_take_dirty(struct ranges *rs);

/* Piece i of range r is pending, too. */
void ranges_want_piece(struct ranges *rs, uint64_t r, uint32_t i);

/* Is all of it pending?  Then it may be cut anew. */
bool ranges_wholly_pending(const struct ranges *rs, uint64_t r);

/* Is piece i pending?  Not any more. */
bool ranges_take_piece(struct ranges *rs, uint64_t r, uint32_t i);
/* No piece of r is pending any more. */
void ranges_taken(struct ranges *rs, uint64_t r);

/* Cut r into 2^halvings pieces, of which nothing is known; what was dirty or pending is so wholly.
 * -EINVAL: too often. */
int ranges_cut(struct ranges *rs, uint64_t r, uint32_t halvings) MUST_CHECK;

/* How often a range is best halved when so many extents begin in each of its 2^halvings_max parts
 * (count is used up); and whether what has so many extents in its pieces should be cut anew. */
uint32_t ranges_best_cut(const struct ranges *rs, uint32_t *count);
bool ranges_is_uneven(const struct ranges *rs, uint64_t r);

/* Every piece that has extents, in order; non-zero ends it. */
int ranges_walk(struct ranges *rs,
	int (*fn)(void *arg, uint64_t range, uint32_t piece, struct range_dir *d), void *arg);

#endif
