/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cacheseg.h - the codec of a cache segment's summary: which chunks lie where, and their CRCs.
 *
 * A cache segment is: block 0 the pool's header; two summary areas of equal size, written in turn,
 * of which the valid one with the higher generation counts; then chunks, appended.  The summary is
 * only a hint of what is there: every block is verified by its CRC when it is read, so a lost or
 * torn chunk is a miss and nothing more (I12).  Byte layout: docs/FORMAT.md, "cache segment".
 *
 * Writing: cacheseg_begin -> cacheseg_put for each chunk in order of block -> cacheseg_end.
 * Reading: cacheseg_decode checks everything -> cacheseg_next for each chunk.
 * Pure; any thread.
 */
#ifndef LSVD_FORMAT_CACHESEG_H
#define LSVD_FORMAT_CACHESEG_H

#include "sys/bytes.h"
#include "sys/err.h"

#include <stdint.h>

enum { CACHESEG_BLOCK = 4096, CACHESEG_FIXED_BYTES = 96, CACHESEG_ENTRY_BYTES = 48 };

struct cacheseg_head {
	uint8_t pool_uuid[16];
	uint64_t alloc;	     /* the segment header's: binds the summary to this taking of it */
	uint64_t generation; /* of the summary, rising */
	uint32_t index;	     /* of the segment in the pool */
	uint32_t chunk_bytes;
	uint32_t segment_blocks;
	uint32_t first_block; /* where chunks begin */
	uint32_t next_block;  /* where the next one goes */
	/* filled by the codec */
	uint32_t entries, bytes;
};

struct cacheseg_entry {
	uint8_t uuid[16]; /* of the volume that wrote the object */
	uint64_t epoch, seq;
	uint32_t chunk; /* of the object's data; the header's pieces count down from UINT32_MAX */
	uint32_t block; /* in the segment */
	uint16_t from;	/* the chunk's first block that is kept */
	uint16_t blocks;
};

/* Bytes that so many chunks with so many blocks in all take. */
static inline uint64_t cacheseg_bytes(uint64_t entries, uint64_t blocks)
{
	return CACHESEG_FIXED_BYTES + entries * CACHESEG_ENTRY_BYTES + blocks * 4;
}

/* buf[len] must have room for all that will be put. */
struct writer cacheseg_begin(void *buf, size_t len);
void cacheseg_put(struct writer *w, const struct cacheseg_entry *x, const uint32_t *crcs);
/* Completes h->entries and h->bytes and seals; the rest of the last block is zeroed. */
void cacheseg_end(struct writer *w, void *buf, struct cacheseg_head *h, uint32_t entries);

/* Check all of it: -EUCLEAN not a summary, or impossible; -EPROTO newer; -EBADMSG damaged. */
int cacheseg_decode(const void *buf, size_t len, struct cacheseg_head *h, struct err *e) MUST_CHECK;

/* Walk what cacheseg_decode accepted: r = cacheseg_entries(buf, &h); h.entries times cacheseg_next.
 * crcs (room for `blocks` of any entry: CACHESEG_BLOCKS_MAX) may be NULL. */
enum { CACHESEG_BLOCKS_MAX = 1024 };
struct reader cacheseg_entries(const void *buf, const struct cacheseg_head *h);
void cacheseg_next(struct reader *r, struct cacheseg_entry *x, uint32_t *crcs);

#endif
