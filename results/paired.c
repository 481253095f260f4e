/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* paired.c - Walsh averages and the distribution of the signed-rank statistic. */
#include "results/paired.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

/* The largest k with 2 P(T <= k - 1) <= alpha, T the signed-rank statistic of n rounds without a
 * difference; *below is that P.  0 when even 2 P(T = 0) is more.  -ENOMEM. */
static long exact_rank(size_t n, double alpha, double *below)
{
	size_t sums = n * (n + 1) / 2 + 1;
	double *p = calloc(sums, sizeof(*p)), sum = 0;
	long k = 0;

	if (!p)
		return -ENOMEM;
	p[0] = 1;
	/* Rank i is positive or not, each with 1/2. */
	for (size_t i = 1, top = 0; i <= n; i++) {
		top += i;
		for (size_t s = top + 1; s-- > 0;)
			p[s] = (p[s] + (s >= i ? p[s - i] : 0)) / 2;
	}
	for (size_t s = 0; s < sums && 2 * (sum + p[s]) <= alpha; s++) {
		sum += p[s];
		k++;
	}
	free(p);
	*below = sum;
	return k;
}

static long normal_rank(size_t n, double alpha, double *below)
{
	double m = (double)n, mean = m * (m + 1) / 4, sd = sqrt(mean * (2 * m + 1) / 6);
	long k = 0;

	while (erfc((mean - (double)k - 0.5) / sd / sqrt(2)) <= alpha)
		k++;
	*below = erfc((mean - (double)k + 0.5) / sd / sqrt(2)) / 2;
	return k;
}

/* The Walsh averages, in order; NULL without memory. */
static double *walsh(const double *d, size_t n, size_t *count)
{
	double *w = calloc(n * (n + 1) / 2, sizeof(*w));
	size_t m = 0;

	for (size_t i = 0; w && i < n; i++)
		for (size_t j = i; j < n; j++)
			w[m++] = (d[i] + d[j]) / 2;
	if (w)
		qsort(w, m, sizeof(*w), by_value);
	*count = m;
	return w;
}

static bool all_positive(const double *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!(v[i] > 0))
			return false;
	return true;
}

static int estimate(const double *d, size_t n, double alpha, struct paired *out)
{
	double below = 0, *w;
	size_t m;
	long k = n <= PAIRED_EXACT_MAX ? exact_rank(n, alpha, &below)
				       : normal_rank(n, alpha, &below);

	w = k < 0 ? NULL : walsh(d, n, &m);
	if (!w)
		return -ENOMEM;
	out->estimate = m % 2 ? w[m / 2] : w[m / 2 - 1] + (w[m / 2] - w[m / 2 - 1]) / 2;
	out->low = k ? w[k - 1] : -INFINITY;
	out->high = k ? w[m - (size_t)k] : INFINITY;
	out->confidence = k ? 1 - 2 * below : 0;
	free(w);
	return 0;
}

int paired_estimate(const double *a, const double *b, size_t n, double alpha, struct paired *out)
{
	double *d;
	int rc;

	if (n > PAIRED_ROUNDS_MAX)
		return -E2BIG;
	*out = (struct paired){.differences = !all_positive(a, n) || !all_positive(b, n)};
	d = calloc(n, sizeof(*d));
	if (!d)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		d[i] = out->differences ? b[i] - a[i] : log(b[i] / a[i]);
	rc = estimate(d, n, alpha, out);
	free(d);
	if (rc || out->differences)
		return rc;
	out->estimate = exp(out->estimate);
	out->low = exp(out->low);
	out->high = exp(out->high);
	return 0;
}

size_t paired_least_rounds(double alpha)
{
	size_t n = 1;

	while (n < PAIRED_ROUNDS_MAX && exp2(1 - (double)n) > alpha)
		n++;
	return n;
}
