/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * object.h - the codec of a data object: header (extents, CRCs) and data.  Pure; any thread.
 *
 * The object is header_bytes of header, then data_bytes of data, both multiples of 4096.  An
 * extent's data lies at `off` sectors from the beginning of the data.  Byte layout: docs/FORMAT.md,
 * "object".
 */
#ifndef LSVD_FORMAT_OBJECT_H
#define LSVD_FORMAT_OBJECT_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of data per CRC: as written now, and by version 1.  What is read is whole chunks, so they are
 * as small as a random read. */
enum { OBJECT_CRC_BYTES = 4096, OBJECT_CRC_BYTES_V1 = 16384 };

enum { OBJECT_ALIGN = 4096, OBJECT_FIXED_BYTES = 96 };

/* More makes no sense, and a reader allocates what a header says before it can check it. */
enum { OBJECT_DATA_MAX = 256 << 20, OBJECT_HEADER_MAX = 64 << 20 };

enum extent_kind { EXTENT_DATA, EXTENT_ZERO, EXTENT_DISCARD };

enum object_header_flags { OBJECT_FLAG_GC = 1 }; /* extents carry the place they were moved from */

struct object_extent {
	uint64_t lba;	  /* sectors */
	uint32_t len;	  /* sectors, > 0 */
	uint32_t off;	  /* sectors in the data; 0 for zero and discard */
	uint64_t old_seq; /* GC: where it was (I9) */
	uint32_t old_off;
	uint8_t kind; /* enum extent_kind */
};

struct object_header {
	uint8_t uuid[16]; /* of the volume */
	uint64_t epoch, seq;
	uint64_t covers; /* the last journal record whose writes are in this object or before it */
	uint32_t header_bytes, data_bytes;
	uint32_t crc_bytes;	  /* OBJECT_CRC_BYTES or OBJECT_CRC_BYTES_V1: says the version */
	uint32_t extents, chunks; /* counts; a chunk is crc_bytes of data, the last may be shorter */
	uint16_t flags;
};

/* CRCs of so much data. */
uint32_t object_chunk_count(uint32_t data_bytes, uint32_t crc_bytes);

/* Bytes of the header of an object of the newest version with so many extents and so much data. */
uint32_t object_header_bytes(uint32_t extents, uint32_t data_bytes, uint16_t flags);

/* Encode into buf[h->header_bytes]. crc[] has h->chunks CRC32Cs of the data. */
void object_encode(const struct object_header *h, const struct object_extent *ext,
	const uint32_t *crc, void *buf);

/* Decode the fixed part: enough to know header_bytes.  No CRC is checked yet, but sizes are such
 * that memory can be allocated by them.  -EUCLEAN, -EPROTO. */
int object_decode_fixed(
	const void *buf, size_t len, struct object_header *h, struct err *e) MUST_CHECK;

/* Decode a whole header of h->header_bytes and check everything: CRC, identity (uuid NULL: any),
 * order of extents, bounds and reserved bytes (I10).  -EBADMSG, -EUCLEAN, -EPROTO.  `buf` must
 * outlive the accessors' use. */
int object_decode(const void *buf, size_t len, const uint8_t *uuid, uint64_t epoch, uint64_t seq,
	struct object_header *h, struct err *e) MUST_CHECK;

/* Accessors into a header that object_decode accepted. */
void object_get_extent(
	const void *buf, const struct object_header *h, uint32_t i, struct object_extent *x);
uint32_t object_get_crc(const void *buf, const struct object_header *h, uint32_t chunk);

#endif
