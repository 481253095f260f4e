/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * superblock.h - the codec of an image's superblock: the one object that is replaced, by
 * compare-and-swap.
 *
 * Byte layout: docs/FORMAT.md, "superblock".  Pure; any thread.
 */
#ifndef LSVD_FORMAT_SUPERBLOCK_H
#define LSVD_FORMAT_SUPERBLOCK_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUPERBLOCK_BYTES = 65536, SUPERBLOCK_EPOCHS_MAX = 2048, SUPERBLOCK_HOST_MAX = 64 };

/* Objects from first_seq up to the next entry's first_seq were written in this epoch (I6). */
struct superblock_epoch {
	uint64_t epoch, first_seq;
};

struct superblock {
	uint8_t uuid[16];
	uint64_t size_sectors;
	uint64_t range_sectors;		       /* of a checkpoint range; fixed at creation */
	uint64_t created_ns;		       /* wall clock */
	uint64_t checkpoint, checkpoint_epoch; /* its number (0: none) and the epoch in its name */
	uint64_t profile_bytes; /* of the boot profile object NAME/profile; 0: none */
	/* the last writer */
	uint8_t pool_uuid[16];
	uint64_t pool_generation; /* of the pool when it opened the image */
	char host[SUPERBLOCK_HOST_MAX];
	uint32_t pid;
	uint64_t since_ns;
	bool clean; /* it closed the image: everything is in objects */
	uint32_t epochs;
	struct superblock_epoch epoch[SUPERBLOCK_EPOCHS_MAX]; /* rising */
};

/* Encodes into buf[SUPERBLOCK_BYTES] and returns the bytes used. */
size_t superblock_encode(const struct superblock *sb, void *buf);
int superblock_decode(const void *buf, size_t len, struct superblock *sb, struct err *e) MUST_CHECK;

/* The epoch that object `seq` was written in; 0: before the table begins. */
uint64_t superblock_epoch_of(const struct superblock *sb, uint64_t seq);

#endif
