/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * record.h - the codec of a journal record: one header block, then its data blocks.  Pure.
 *
 * Extents of 4 KiB or more begin on a block; smaller ones may share blocks.  The header is bound to
 * its place in the pool (I10) and holds the CRC of every data block.
 */
#ifndef LSVD_FORMAT_RECORD_H
#define LSVD_FORMAT_RECORD_H

#include "sys/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { RECORD_BLOCK = 4096, RECORD_FIXED_BYTES = 80, RECORD_EXTENT_BYTES = 16 };
enum { RECORD_EXTENTS_MAX = (RECORD_BLOCK - RECORD_FIXED_BYTES) / RECORD_EXTENT_BYTES };

struct record_header {
	uint8_t uuid[16]; /* of the volume */
	uint64_t epoch, seq;
	uint64_t flushed; /* the log was flushed up to this record when this one was written; < seq
			   */
	uint64_t place;	  /* block number in the pool: segment index * blocks per segment + block */
	uint32_t extents, blocks; /* counts; blocks: of data, without the header */
};

struct record_extent {
	uint64_t lba; /* sectors */
	uint32_t len; /* sectors */
	uint32_t off; /* sectors in the data, behind the extent before; 0 for zero and discard */
	uint8_t kind; /* enum extent_kind */
};

/* Do so many extents and blocks fit one header? */
static inline bool record_fits(uint32_t extents, uint32_t blocks)
{
	return RECORD_FIXED_BYTES + (uint64_t)extents * RECORD_EXTENT_BYTES +
		       (uint64_t)blocks * 4 <=
	       RECORD_BLOCK;
}

/* buf: RECORD_BLOCK bytes. */
void record_encode(const struct record_header *h, const struct record_extent *ext,
	const uint32_t *crc, void *buf);
/* Checks all of the header: CRC, volume and place (I10), bounds, reserved bytes.  -EUCLEAN: not a
 * record of this volume here; -EBADMSG, -EPROTO. */
int record_decode(const void *buf, const uint8_t uuid[16], uint64_t place, struct record_header *h,
	struct err *e) MUST_CHECK;
void record_get_extent(const void *buf, uint32_t i, struct record_extent *x);
uint32_t record_get_crc(const void *buf, const struct record_header *h, uint32_t i);

#endif
