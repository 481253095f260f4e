/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clones.h - the codec of an image's list of clones: who builds on its objects.
 *
 * Replaced by compare-and-swap, by whoever makes or removes a clone, so it can be changed while a
 * writer in another process has the image.  volume/clone.c says how the entries protect.
 *
 * Byte layout: docs/FORMAT.md, "List of clones".  Pure; any thread.
 */
#ifndef LSVD_FORMAT_CLONES_H
#define LSVD_FORMAT_CLONES_H

#include "format/superblock.h"

enum { CLONES_MAX = 2000, CLONES_FIXED_BYTES = 64, CLONES_ENTRY_BYTES = 112 };
enum { CLONES_BYTES = CLONES_FIXED_BYTES + CLONES_MAX * CLONES_ENTRY_BYTES };

enum clone_state {
	CLONE_PENDING, /* its superblock may not be there yet */
	CLONE_READY,   /* without a superblock it is gone */
	CLONE_BARRED,  /* no clone: the snapshot (0: the image) is being removed */
	CLONE_STATES
};

struct clone_entry {
	uint8_t uuid[16];		      /* of the clone */
	uint64_t snapshot;		      /* that it is made of, by id */
	uint32_t state;			      /* enum clone_state */
	char name[SUPERBLOCK_IMAGE_NAME_MAX]; /* of the clone; zero from its end on */
};

struct clones {
	uint8_t uuid[16]; /* of the image they are made of */
	uint32_t n;
	struct clone_entry entry[CLONES_MAX];
};

/* Encodes into buf[CLONES_BYTES] and returns the bytes used. */
size_t clones_encode(const struct clones *c, void *buf);
int clones_decode(const void *buf, size_t len, struct clones *c, struct err *e) MUST_CHECK;

#endif
