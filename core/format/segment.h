/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* segment.h - the codec of the pool header and of segment headers: one 4 KiB block each.  Pure. */
#ifndef LSVD_FORMAT_SEGMENT_H
#define LSVD_FORMAT_SEGMENT_H

#include "sys/err.h"

#include <stdint.h>

enum { SEGMENT_BLOCK = 4096, POOL_OPENINGS = 32 };

enum {
	POOL_SEGMENT_BYTES_MIN = 256 << 10,
	POOL_SEGMENT_BYTES_MAX = 1 << 30,
	POOL_HEADER_LEGS_MAX = 4,
	POOL_FIRST_BYTES_MAX = 1 << 20,
};

struct pool_header {
	uint8_t uuid[16]; /* of the pool; the same on every leg */
	uint64_t segment_bytes;
	uint32_t segments;
	uint8_t leg, legs;
	uint8_t members;     /* bit per leg: in sync when the generation began */
	uint8_t joined;	     /* 1 + how many generations ago a leg last became a member; 0: POOL_OPENINGS
			      * or more, or never */
	uint64_t created_ns; /* wall clock */
	uint64_t
		generation; /* raised on every member, at every open and change of members; 1 at first */
	/* Random numbers, one per generation: [0] of this generation, [k] of generation - k.  A leg
	 * whose [0] its fellow does not know was used on its own meanwhile. */
	uint64_t opening[POOL_OPENINGS];
};

struct segment_header {
	uint8_t pool_uuid[16], owner[16];
	uint32_t index;
	uint8_t role;
	uint64_t alloc, epoch, first_seq;
};

/* Where segment 0 begins. */
static inline uint64_t pool_first_bytes(uint64_t segment_bytes)
{
	return segment_bytes < POOL_FIRST_BYTES_MAX ? segment_bytes : POOL_FIRST_BYTES_MAX;
}

/* buf: SEGMENT_BLOCK bytes. */
void pool_header_encode(const struct pool_header *h, void *buf);
int pool_header_decode(const void *buf, struct pool_header *h, struct err *e) MUST_CHECK;
void segment_header_encode(const struct segment_header *h, void *buf);
/* Checks that it belongs to this pool and place (I10).  All: -EUCLEAN, -EBADMSG, -EPROTO. */
int segment_header_decode(const void *buf, const uint8_t pool_uuid[16], uint32_t index,
	struct segment_header *h, struct err *e) MUST_CHECK;

#endif
