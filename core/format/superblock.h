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

enum {
	SUPERBLOCK_BYTES = 128 << 10, /* the longest */
	SUPERBLOCK_EPOCHS_MAX = 2048,
	SUPERBLOCK_HOST_MAX = 64,
	SUPERBLOCK_SNAPSHOTS_MAX = 512,
	SUPERBLOCK_BASES_MAX = 32,
	SUPERBLOCK_IMAGE_NAME_MAX = 80, /* with the zero at its end */
	SNAPSHOT_NAME_MAX = 64
};

enum snapshot_flags {
	SNAPSHOT_AUTO = 1, /* made for clones of the image as it was; goes with the last of them */
	SNAPSHOT_FLAGS = 1
};

/* Objects from first_seq up to the next entry's first_seq were written in this epoch (I6). */
struct superblock_epoch {
	uint64_t epoch, first_seq;
};

/* A state of the volume that is kept: the maps as they were after object_seq, in a checkpoint. */
struct superblock_snapshot {
	uint64_t id; /* from 1 on, never used again */
	uint64_t size_sectors;
	uint64_t object_seq;
	uint64_t epoch;			       /* of the volume then */
	uint64_t checkpoint, checkpoint_epoch; /* 0: nothing was ever written */
	uint64_t created_ns;
	uint32_t flags;
	char name[SNAPSHOT_NAME_MAX]; /* zero from its end on */
};

/* An image whose objects and checkpoints this one builds on.  What has a number up to those given
 * here, and above those of the entry before, is in its folder. */
struct superblock_base {
	uint8_t uuid[16];
	uint64_t snapshot; /* its id there */
	uint64_t object_seq, checkpoint, checkpoint_epoch;
	char name[SUPERBLOCK_IMAGE_NAME_MAX]; /* zero from its end on */
};

struct superblock {
	uint8_t uuid[16];
	uint64_t size_sectors;
	uint64_t range_sectors;		       /* of a checkpoint range; fixed at creation */
	uint64_t created_ns;		       /* wall clock */
	uint64_t checkpoint, checkpoint_epoch; /* its number (0: none) and the epoch in its name */
	uint64_t profile_bytes; /* of the boot profile object NAME/profile; 0: none */
	uint32_t profile_base;	/* whose it is: 0 the image's own, else base[profile_base - 1]'s */
	/* the last writer */
	uint8_t pool_uuid[16];
	uint64_t pool_generation; /* of the pool when it opened the image */
	char host[SUPERBLOCK_HOST_MAX];
	uint32_t pid;
	uint64_t since_ns;
	bool clean; /* it closed the image: everything is in objects */
	uint32_t epochs;
	struct superblock_epoch epoch[SUPERBLOCK_EPOCHS_MAX]; /* rising */
	uint64_t next_snapshot;				      /* id; > 0 */
	uint32_t snapshots, bases;
	struct superblock_snapshot snapshot[SUPERBLOCK_SNAPSHOTS_MAX]; /* ids rise */
	struct superblock_base base[SUPERBLOCK_BASES_MAX];	       /* the oldest first */
};

/* Encodes into buf[SUPERBLOCK_BYTES] and returns the bytes used. */
size_t superblock_encode(const struct superblock *sb, void *buf);
int superblock_decode(const void *buf, size_t len, struct superblock *sb, struct err *e) MUST_CHECK;

/* The epoch that object `seq` was written in; 0: before the table begins. */
uint64_t superblock_epoch_of(const struct superblock *sb, uint64_t seq);

/* The base image that has object `seq`, or checkpoint `number`; NULL: the image itself. */
const struct superblock_base *superblock_base_of_object(const struct superblock *sb, uint64_t seq);
const struct superblock_base *superblock_base_of_checkpoint(
	const struct superblock *sb, uint64_t number);

/* The snapshot of this name; NULL: none. */
const struct superblock_snapshot *superblock_snapshot(
	const struct superblock *sb, const char *name);

/* 1 .. 63 of [A-Za-z0-9._-], and no dot in front. */
bool snapshot_name_ok(const char *name);

#endif
