/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * paired.h - how much two sides differ that were measured in turns.
 *
 * Round i gives the pair (a[i], b[i]), measured one right after the other, so that what disturbs a
 * machine for longer than a round (another guest, a hot processor, a disk that fills) is in both
 * and leaves their ratio alone.  Of the logarithms of the ratios:
 *
 *   estimate  Hodges-Lehmann: the median of all Walsh averages (d[i] + d[j]) / 2, i <= j.  It
 *             survives wild values in up to 29 % of the rounds and needs few more rounds than the
 *             mean does where there are none
 *   interval  that of the Wilcoxon signed-rank test: the k-th smallest and k-th largest Walsh
 *             average, k from the exact distribution of the statistic
 *
 * Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd edition, 3.1 to 3.3.  The
 * test assumes that the rounds are independent and the ratios symmetric around their median; A/A
 * runs of both sides are symmetric by construction.
 *
 * Pure; any thread.
 */
#ifndef LSVD_RESULTS_PAIRED_H
#define LSVD_RESULTS_PAIRED_H

#include <stdbool.h>
#include <stddef.h>

enum { PAIRED_EXACT_MAX = 200, PAIRED_ROUNDS_MAX = 1000 };

struct paired {
	bool differences;  /* a value is <= 0: these are differences B - A, not ratios B : A */
	double estimate;   /* 1.1: B is 10 % more than A */
	double low, high;  /* infinite when no interval of that confidence exists */
	double confidence; /* that the interval has, >= 1 - alpha; 0 when there is none */
};

/* `n` rounds, 1 to PAIRED_ROUNDS_MAX; 0 < alpha < 1.  Exact up to PAIRED_EXACT_MAX rounds, beyond
 * that by the normal approximation.  Returns 0, -ENOMEM or -E2BIG. */
int paired_estimate(const double *a, const double *b, size_t n, double alpha, struct paired *out);

/* The fewest rounds that can tell a difference at `alpha`: 2^(1-n) <= alpha. */
size_t paired_least_rounds(double alpha);

#endif
