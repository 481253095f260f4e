/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * build.h - assembling one data object from pieces of memory, without copying them.
 *
 * build_begin -> build_add for each extent in LBA order -> build_crc until it says done ->
 * build_finish: iov[0] is the header, the rest the data.  Pieces must stay as they are until the
 * object is put. A build is reused: its arrays grow to the largest object and stay.
 *
 * Pure but for allocation.
 */
#ifndef LSVD_VOLUME_BUILD_H
#define LSVD_VOLUME_BUILD_H

#include "format/object.h"

#include <stdbool.h>
#include <sys/uio.h>

struct build {
	struct object_header h;
	struct object_extent *ext;
	uint32_t ext_cap;
	struct iovec *iov;
	uint32_t niov, iov_cap; /* niov counts the header's */
	uint32_t *crc;		/* of each OBJECT_CRC_BYTES of data */
	uint32_t crc_cap;
	uint32_t *known; /* of each 4 KiB block of data before block nknown; 0 or 1: not known */
	uint32_t nknown, known_cap;
	void *header;
	uint32_t header_cap;
	uint32_t multiple; /* bytes: large objects are padded to this; or 0.  The owner's, set
			      before begin */
	bool padded;
	uint64_t data_sectors;
	uint32_t crc_iov; /* where the CRC run is */
	size_t crc_off;
	uint64_t crc_done; /* bytes of data */
};

void build_free(struct build *b);

void build_begin(struct build *b, uint16_t flags);

/* Append an extent and its data; `mem` is NULL for zero and discard.  For a GC extent, old_* is where
 * it is. Data is placed so that a 4 KiB aligned LBA stays 4 KiB aligned in the object. */
int build_add(struct build *b, const struct object_extent *x, const void *mem) MUST_CHECK;

/* The two apart, where data is not in order of LBA.  build_place appends the data of [lba, lba+len) as
 * build_add does, and tells its `off`, in sectors; `crcs`, or NULL, are those of the whole 4 KiB blocks
 * that `mem` begins with, as pool_crcs() gives them (0 and 1 mean unknown): the data need not be read
 * for them.  build_data appends as it comes.  build_extent is called in order of LBA. */
int build_place(struct build *b, uint64_t lba, uint32_t len, const void *mem, const uint32_t *crcs,
	uint32_t *off) MUST_CHECK;
int build_data(struct build *b, const void *mem, size_t len) MUST_CHECK;
int build_extent(struct build *b, const struct object_extent *x) MUST_CHECK;

/* Sectors to leave free before `len` sectors of data from `lba` on that would lie at sector `at` of an
 * object.  What is a block or longer keeps its place within a block; where that costs little, also its
 * place within BUILD_CHUNK_SECTORS, the unit of the read cache: then an aligned read of so much is one
 * chunk, not parts of two. */
enum { BUILD_CHUNK_SECTORS = 128, BUILD_CHUNK_WORTH = 16 };
uint32_t build_pad(uint64_t lba, uint64_t len, uint64_t at);
int build_zeroes(struct build *b, uint64_t sectors) MUST_CHECK;

/* Pad the data, then compute CRCs of at most `budget_bytes` more.  1: all done, 0: call again,
 * -ENOMEM. */
int build_crc(struct build *b, uint64_t budget_bytes) MUST_CHECK;

/* Encode the header.  h.uuid, epoch, seq, covers must be set. */
int build_finish(struct build *b) MUST_CHECK;

uint64_t build_bytes(const struct build *b);

/* Room for `need` elements of `size` bytes in *array (a pointer's address), of which there is room for
 * *cap. */
int build_grow(void *array, uint32_t *cap, uint32_t need, size_t size) MUST_CHECK;

#endif
