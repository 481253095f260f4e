/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * checkpoint.h - the codec of a checkpoint object: what changed in the maps since the one before.
 *
 * The LBA space is cut into ranges.  A checkpoint holds the whole contents of every range that
 * changed (payload), the directory entries of these ranges, the objects that came and went, and the
 * lists of checkpoint objects still needed.  A range with many extents is halved, some times over,
 * and its pieces are saved alone.  So that a reader need not go back to the first, each checkpoint
 * also lists one of 16 slices of all ranges and objects, in turn; a reader starts at `full_number`,
 * since which every slice was listed.  Cost follows what changed.
 *
 *   meta (meta_bytes, a multiple of 4096, one CRC) | payload (each range with its own CRC)
 *
 * Byte layout: docs/FORMAT.md, "checkpoint".  Pure; any thread.
 */
#ifndef LSVD_FORMAT_CHECKPOINT_H
#define LSVD_FORMAT_CHECKPOINT_H

#include "sys/bytes.h"
#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A reader allocates what a header says before it can check it. */
#define CHECKPOINT_META_MAX (1ull << 31)
#define CHECKPOINT_PAYLOAD_MAX (1ull << 40)

enum { CHECKPOINT_FIXED_BYTES = 128, CHECKPOINT_EXTENT_BYTES = 24, CHECKPOINT_ALIGN = 4096 };
enum { CHECKPOINT_OBJECT_FLAGS = 7 }; /* as in map/objmap.h */
enum { CHECKPOINT_SLICES = 16, CHECKPOINT_ALL_SLICES = (1 << CHECKPOINT_SLICES) - 1 };
enum { CHECKPOINT_HALVINGS_MAX = 16 };

/* In which slice a range, or an object, is listed. */
static inline uint32_t checkpoint_slice(uint64_t range_or_seq)
{
	return range_or_seq % CHECKPOINT_SLICES;
}

struct checkpoint_header {
	uint8_t uuid[16];
	uint64_t epoch, number; /* number: rises by one over the volume's life */
	uint64_t full_number;	/* reading begins here: each slice was listed since */
	uint64_t object_seq;	/* the maps as after this object */
	uint64_t covers;	/* and so after this journal record */
	uint64_t meta_bytes, payload_bytes;
	uint32_t live, objects, removed, dirs, deferred, kept; /* counts of the sections */
	uint32_t slices; /* listed wholly in this one, a bit each */
};

struct checkpoint_live { /* a checkpoint object still needed; numbers rise, this one is last */
	uint64_t number, epoch, meta_bytes, payload_bytes;
};

struct checkpoint_object { /* an object that is in the table now */
	uint64_t seq, epoch;
	uint32_t hdr_sectors, data_sectors, live_sectors, flags;
};

/* Where the contents of a piece of a range are: of 2^halvings pieces of equal length.  With another
 * number of halvings than before all that was known of the range is void.  extents 0: empty */
struct checkpoint_dir {
	uint64_t range, number, offset_bytes; /* in the payload of that checkpoint */
	uint32_t extents, crc;
	uint32_t piece, halvings;
};

/* An object that left the table, but that snapshots need: those before `died` and not before it. */
struct checkpoint_deferred {
	uint64_t seq, epoch;
	uint64_t died; /* nothing pointed to it after this object */
	uint32_t hdr_sectors, data_sectors;
};

/* A checkpoint object that is not live any more, but that snapshots need. */
struct checkpoint_kept {
	struct checkpoint_live x;
	uint64_t died; /* the first checkpoint that did not need it */
};

/* The sections as they are encoded. */
struct checkpoint_sections {
	const struct checkpoint_live *live;
	const struct checkpoint_object *objects;
	const uint64_t *removed; /* from the table, or of the deferred; comes before both */
	const struct checkpoint_dir *dirs;
	const struct checkpoint_deferred *deferred;
	const struct checkpoint_kept *kept;
};

struct checkpoint_extent {
	uint64_t lba, seq; /* sectors; object */
	uint32_t len, off; /* sectors */
};

uint64_t checkpoint_meta_bytes(const struct checkpoint_header *h);

/* Encode meta into buf[h->meta_bytes]. */
void checkpoint_encode(
	const struct checkpoint_header *h, const struct checkpoint_sections *s, void *buf);

/* Decode the fixed part only (to learn meta_bytes).  No CRC is checked yet, but sizes are bounded.
 * -EUCLEAN, -EPROTO. */
int checkpoint_decode_fixed(
	const void *buf, size_t len, struct checkpoint_header *h, struct err *e) MUST_CHECK;

/* Check all of meta: CRC, identity (I10), counts, every entry by itself, reserved bytes.  -EBADMSG,
 * -EUCLEAN, -EPROTO.  What needs the volume (does an object exist, a range lie inside) is the
 * reader's. */
int checkpoint_decode(const void *buf, size_t len, const uint8_t uuid[16], uint64_t epoch,
	uint64_t number, struct checkpoint_header *h, struct err *e) MUST_CHECK;

/* Sections of a meta that checkpoint_decode accepted. */
void checkpoint_get_live(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_live *x);
void checkpoint_get_object(const void *buf, const struct checkpoint_header *h, uint32_t i,
	struct checkpoint_object *x);
uint64_t checkpoint_get_removed(const void *buf, const struct checkpoint_header *h, uint32_t i);
void checkpoint_get_dir(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_dir *x);
void checkpoint_get_deferred(const void *buf, const struct checkpoint_header *h, uint32_t i,
	struct checkpoint_deferred *x);
void checkpoint_get_kept(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_kept *x);

/* One extent of a payload. */
void checkpoint_put_extent(void *at, const struct checkpoint_extent *x);
static inline void checkpoint_get_extent(const void *at, struct checkpoint_extent *x)
{
	struct reader r = reader_of(at, CHECKPOINT_EXTENT_BYTES);

	x->lba = get_u64(&r);
	x->seq = get_u64(&r);
	x->len = get_u32(&r);
	x->off = get_u32(&r);
}

#endif
