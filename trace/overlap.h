/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlap.h - how alike two traces are, two boots of a machine for instance: which blocks both
 * touch, and whether they touch them in the same order for the first time.
 *
 *   Jaccard        blocks of both / blocks of either
 *   Spearman's rho correlation of the common blocks' ranks in order of first touch
 *   Kendall's tau  pairs of common blocks in the same order less those in the other, / all pairs
 *                  (by counting inversions with a merge sort, O(n log n): Knight, 1966)
 *   displacement   how many ranks apart a common block is in the two orders
 *   depth          of the first k blocks of each, the share that both have
 *
 * No two blocks have the same rank, so neither coefficient needs a correction for ties.  Ranks are
 * among the common blocks.  Memory: some 100 bytes a block of either.
 */
#ifndef LSVD_TRACE_OVERLAP_H
#define LSVD_TRACE_OVERLAP_H

#include "trace/import.h"

#include <stddef.h>

enum { OVERLAP_DEPTHS = 100 };

/* Blocks in order of first touch. */
struct first_touches {
	uint64_t *block;
	size_t n;
	uint64_t requests;
};

struct overlap_options {
	uint32_t block_bytes;
	bool reads, writes; /* which requests touch */
	struct trace_import_options in;
};

int first_touches_of(const char *path, const struct overlap_options *opt, struct first_touches *f,
	struct err *e) MUST_CHECK;
void first_touches_free(struct first_touches *f);

struct overlap {
	uint64_t a, b, both; /* blocks */
	double jaccard;
	double spearman, kendall; /* NAN below two common blocks */
	double mean_displacement; /* in ranks */
	uint64_t p50_displacement, p90_displacement, max_displacement;
	double depth[OVERLAP_DEPTHS]; /* at k = 1/100, 2/100 ... of the smaller of a and b */
	uint32_t *rank;		      /* of both: rank in A -> rank in B */
};

/* -ENOMEM. */
int overlap_of(
	const struct first_touches *a, const struct first_touches *b, struct overlap *o) MUST_CHECK;
void overlap_fini(struct overlap *o);

#endif
