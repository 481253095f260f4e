/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extents.h - lists of what is mapped: from an open image, or from a text file (workloads/boot).
 *
 * The file: the image's size in bytes, then "offset length" (bytes, multiples of 512), one run per
 * line, ascending; lines that begin with # are skipped.
 */
#ifndef LSVD_REORG_EXTENTS_H
#define LSVD_REORG_EXTENTS_H

#include "reorg/plan.h"

struct extents {
	struct plan_extent *p; /* ascending, not overlapping; neighbours joined */
	size_t n, room;
	uint64_t sectors; /* sum of the lengths */
	uint64_t size_sectors;
};

/* Must begin at or after the last one's end (-EINVAL). */
int extents_add(struct extents *x, uint64_t lba, uint64_t len) MUST_CHECK;

/* Errors name file and line. */
int extents_load(const char *path, struct extents *x, struct err *e) MUST_CHECK;

void extents_free(struct extents *x); /* its contents; may be all zeroes */

#endif
