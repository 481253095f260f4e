/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * build.h - executing a plan, and the proof that the new image equals the old one.
 *
 * Blocking; one thread.  Progress is told in bytes now and then; a `stop` that became non-zero ends
 * the work soon with -EINTR.
 */
#ifndef LSVD_REORG_BUILD_H
#define LSVD_REORG_BUILD_H

#include "reorg/plan.h"
#include "reorg/session.h"

struct reorg_watch {
	void (*progress)(void *arg, uint64_t done_bytes); /* may be NULL */
	void *arg;
	const volatile int *stop; /* may be NULL */
};

/* Writes image `name` in `store` (on the session's loop): base's data in the plan's order, its boot
 * profile.  Its uuid follows from base's state and from the plan, its creation time is base's: the
 * same inputs give the same bytes.  On failure nothing is left.  -EEXIST, -EINTR ... */
int reorg_build(struct session_image *base, struct store *store, const char *name,
	const struct plan *plan, uint64_t object_bytes, const struct reorg_watch *w,
	struct err *e) MUST_CHECK;

struct reorg_difference {
	bool found;
	uint64_t lba; /* the first sector that differs; beyond a size: the smaller image's end */
	uint64_t compared_bytes; /* read from each image; the rest of both is zeroes */
};

/* Compares every sector (what neither image maps is equal).  0 also when a difference was found. */
int reorg_compare(struct session_image *a, struct session_image *b, const struct reorg_watch *w,
	struct reorg_difference *d, struct err *e) MUST_CHECK;

#endif
