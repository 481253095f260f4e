/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stat.h - the statistics of a figure: median, its interval, and whether two sets of samples
 * differ.
 *
 * Pure; any thread.  Samples are finite; n >= 1 everywhere.
 */
#ifndef LSVD_RESULTS_STAT_H
#define LSVD_RESULTS_STAT_H

#include <stddef.h>

struct stat_summary {
	double median, low, high;
};

/* The median and an interval around it.  `samples` may be in any order and is not changed.
 * n < 5: the interval is min..max.  n >= 5: the narrowest pair of order statistics (x[k], x[n+1-k])
 * that holds the true median with probability >= 0.95 whatever the distribution (David and
 * Nagaraja, Order Statistics, 7.1); n = 5 reaches only 0.9375 and takes min..max.
 * Returns 0 or -ENOMEM. */
int stat_summarize(const double *samples, size_t n, struct stat_summary *out);

/* Mann-Whitney U test: the two-sided probability that samples this unlike come from one
 * distribution.  Ties get mid-ranks.  Exact (every split of the pooled ranks counted) up to
 * STAT_EXACT_MAX samples together, beyond that the normal approximation with tie correction.
 * Returns p in (0, 1], or -ENOMEM as a negative number. */
enum { STAT_EXACT_MAX = 60 };
double stat_mann_whitney(const double *a, size_t na, const double *b, size_t nb);

#endif
