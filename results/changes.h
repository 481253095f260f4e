/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * changes.h - where in a series of runs a figure changed its level.
 *
 * E-divisive (Matteson and James, A Nonparametric Approach for Multiple Change Point Analysis of
 * Multivariate Data, JASA 109, 2014), which MongoDB's performance tests run on every series (Daly,
 * Brown, Ingo, O'Leary and Bradford, The Use of Change Point Detection to Identify Software
 * Performance Regressions in a Continuous Integration System, ICPE 2020).  It needs no threshold in
 * the figure's own unit and no assumption about its noise:
 *
 *   1. in each segment, the cut that makes the energy distance of what is left and right of it the
 *      greatest; of these the greatest of all segments
 *   2. the values of each segment are shuffled `permutations` times: when in more than `alpha` of
 *      them (the series itself counted) a cut is as great, the search ends
 *   3. else the cut is a change point, and both sides are segments from now on
 *
 * Of the change points, those between whose segments the medians differ by less than `min_effect`
 * are taken back, the least first.  A segment has `least` values or more: a lone wild value is
 * none, and what changed in the last runs is seen when that many show it.  Where all values are
 * positive their logarithms are taken, so that a level's distance is a ratio.
 *
 * O(n^2) a pass over n values, for each permutation.  Pure; any thread; the same values give the
 * same change points.
 */
#ifndef LSVD_RESULTS_CHANGES_H
#define LSVD_RESULTS_CHANGES_H

#include <stdbool.h>
#include <stddef.h>

struct change_rule {
	double min_effect; /* 0.02 = 2 % */
	double alpha;	   /* at least 1 / (permutations + 1), else nothing is ever found */
	unsigned permutations;
	size_t least; /* values in a segment; 2 or more */
};

#define CHANGE_RULE_DEFAULT                                                         \
	{                                                                           \
		.min_effect = 0.02, .alpha = 0.005, .permutations = 399, .least = 3 \
	}

struct change {
	size_t at;	 /* index of the first value of the new level */
	double from, to; /* medians of the segment before and of the one that begins here */
	double effect;	 /* (to - from) / |from|; infinite when `from` is 0 */
	double p;	 /* of the permutation test; 0 where the figure is exact */
};

enum { CHANGES_VALUES_MAX = 4096 };

/* Finds the change points of v[0..n-1], in order; `out` has room for n.  An exact figure changes
 * wherever a value differs from the one before.  Returns how many, or -ENOMEM, or -E2BIG for more
 * than CHANGES_VALUES_MAX values. */
long changes_find(
	const double *v, size_t n, bool exact, const struct change_rule *rule, struct change *out);

#endif
