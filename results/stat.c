/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stat.c - order statistics and rank tests.
 *
 * The exact Mann-Whitney distribution is counted by dynamic programming over doubled mid-ranks
 * (integers even with ties): ways[k][s] = how many k-element subsets have rank sum s.
 */
#include "results/stat.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

/* The largest k >= 1 with P(x[k] <= median <= x[n+1-k]) = 1 - 2 P(Bin(n, 1/2) < k) >= 0.95. */
static size_t interval_rank(size_t n)
{
	double term = -(double)n * log(2), below = exp(term);
	size_t k = 1;

	while (k < (n + 1) / 2) {
		term += log((double)(n - k + 1) / (double)k);
		below += exp(term);
		if (1 - 2 * below < 0.95)
			break;
		k++;
	}
	return k;
}

int stat_summarize(const double *samples, size_t n, struct stat_summary *out)
{
	double *v = malloc(n * sizeof(*v));
	size_t k = n < 5 ? 1 : interval_rank(n);

	if (!v)
		return -ENOMEM;
	memcpy(v, samples, n * sizeof(*v));
	qsort(v, n, sizeof(*v), by_value);
	out->median = n % 2 ? v[n / 2] : v[n / 2 - 1] + (v[n / 2] - v[n / 2 - 1]) / 2;
	out->low = v[k - 1];
	out->high = v[n - k];
	free(v);
	return 0;
}

struct ranked {
	double value;
	unsigned rank2; /* twice the mid-rank */
	int first;	/* from sample a */
};

static int by_ranked_value(const void *x, const void *y)
{
	return by_value(&((const struct ranked *)x)->value, &((const struct ranked *)y)->value);
}

/* Sorts the pooled samples, gives mid-ranks, and returns the sum of t^3 - t over tie groups. */
static double assign_ranks(struct ranked *r, size_t n)
{
	double ties = 0;

	qsort(r, n, sizeof(*r), by_ranked_value);
	for (size_t i = 0, j; i < n; i = j) {
		double t;

		for (j = i + 1; j < n && !(r[j].value > r[i].value); j++)
			;
		for (size_t k = i; k < j; k++)
			r[k].rank2 = (unsigned)(i + j + 1);
		t = (double)(j - i);
		ties += t * t * t - t;
	}
	return ties;
}

static double exact_p(const struct ranked *r, size_t n, size_t na, unsigned sum2)
{
	size_t sums = n * (n + 1) + 1;
	double *ways = calloc((na + 1) * sums, sizeof(*ways));
	double all = 0, far = 0;
	long mean2 = (long)(na * (n + 1)), seen = labs((long)sum2 - mean2);

	if (!ways)
		return -ENOMEM;
	ways[0] = 1;
	for (size_t i = 0; i < n; i++)
		for (size_t k = na; k-- > 0;)
			for (size_t s = 0; s + r[i].rank2 < sums; s++)
				ways[(k + 1) * sums + s + r[i].rank2] += ways[k * sums + s];
	for (size_t s = 0; s < sums; s++) {
		all += ways[na * sums + s];
		if (labs((long)s - mean2) >= seen)
			far += ways[na * sums + s];
	}
	free(ways);
	return far / all;
}

static double normal_p(size_t n, size_t na, size_t nb, unsigned sum2, double ties)
{
	double a = (double)na, b = (double)nb, all = (double)n;
	double off = fabs((double)sum2 / 2 - a * (all + 1) / 2) - 0.5;
	double var = a * b / 12 * (all + 1 - ties / (all * (all - 1)));

	return var > 0 && off > 0 ? erfc(off / sqrt(var) / sqrt(2)) : 1;
}

double stat_mann_whitney(const double *a, size_t na, const double *b, size_t nb)
{
	size_t n = na + nb;
	struct ranked *r = calloc(n, sizeof(*r));
	unsigned sum2 = 0;
	double ties, p;

	if (!r)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		r[i] = (struct ranked){.value = i < na ? a[i] : b[i - na], .first = i < na};
	ties = assign_ranks(r, n);
	for (size_t i = 0; i < n; i++)
		sum2 += r[i].first ? r[i].rank2 : 0;
	p = n <= STAT_EXACT_MAX ? exact_p(r, n, na, sum2) : normal_p(n, na, nb, sum2, ties);
	free(r);
	return p;
}
