/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * changes.c - E-divisive over precomputed distances.
 *
 * A scan of a segment moves the cut from left to right: the value that it passes leaves the sum of
 * distances within the right side, enters that within the left, and its distances to either change
 * sides in the sum between them.
 */
#include "results/changes.h"
#include "results/stat.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct cut {
	size_t at; /* 0: none */
	double q;
};

struct search {
	size_t n;
	const struct change_rule *rule;
	float *distance; /* n * n */
	size_t *order;	 /* a permutation of 0..n-1, within segments */
	size_t *ends;	 /* ascending: 0, the change points, n */
	double *p;	 /* of each end */
	size_t nends;
	uint64_t rng;
};

static double effect_of(double from, double to)
{
	if (!(from < to) && !(from > to))
		return 0;
	return from < 0 || from > 0 ? (to - from) / fabs(from) : copysign(INFINITY, to);
}

static double dist(const struct search *s, size_t i, size_t j)
{
	return (double)s->distance[s->order[i] * s->n + s->order[j]];
}

/* n m / (n + m) times the energy distance of the two sides. */
static double energy(double n, double m, double between, double left, double right)
{
	return n * m / (n + m) *
	       (2 * between / (n * m) - 2 * left / (n * (n - 1)) - 2 * right / (m * (m - 1)));
}

static struct cut best_cut(const struct search *s, size_t from, size_t to)
{
	double left = 0, right = 0, between = 0;
	size_t least = s->rule->least;
	struct cut best = {0, 0};

	for (size_t i = from; i < to; i++)
		for (size_t j = i + 1; j < to; j++)
			right += dist(s, i, j);
	for (size_t i = from; i + least < to; i++) {
		double to_left = 0, to_right = 0, q;

		for (size_t j = from; j < i; j++)
			to_left += dist(s, i, j);
		for (size_t j = i + 1; j < to; j++)
			to_right += dist(s, i, j);
		left += to_left;
		right -= to_right;
		between += to_right - to_left;
		if (i + 1 - from < least)
			continue;
		q = energy((double)(i + 1 - from), (double)(to - i - 1), between, left, right);
		if (!best.at || q > best.q)
			best = (struct cut){i + 1, q};
	}
	return best;
}

static struct cut best_of_all(const struct search *s)
{
	struct cut best = {0, 0};

	for (size_t i = 0; i + 1 < s->nends; i++) {
		struct cut c = best_cut(s, s->ends[i], s->ends[i + 1]);

		if (c.at && (!best.at || c.q > best.q))
			best = c;
	}
	return best;
}

/* xorshift64*; its seed is fixed, so that a series is always judged alike. */
static uint64_t draw(struct search *s)
{
	s->rng ^= s->rng >> 12;
	s->rng ^= s->rng << 25;
	s->rng ^= s->rng >> 27;
	return s->rng * 2685821657736338717u;
}

static void shuffle(struct search *s)
{
	for (size_t e = 0; e + 1 < s->nends; e++)
		for (size_t i = s->ends[e + 1] - 1; i > s->ends[e]; i--) {
			size_t j = s->ends[e] + (size_t)(draw(s) >> 11) % (i + 1 - s->ends[e]);
			size_t t = s->order[i];

			s->order[i] = s->order[j];
			s->order[j] = t;
		}
}

/* How often chance alone makes a cut as great as q.  Ends early when that is too often. */
static double chance(struct search *s, double q)
{
	double all = s->rule->permutations + 1.0, as_great = 1;

	for (unsigned i = 0; i < s->rule->permutations && as_great / all <= s->rule->alpha; i++) {
		shuffle(s);
		as_great += best_of_all(s).q >= q * (1 - 1e-9);
	}
	for (size_t i = 0; i < s->n; i++)
		s->order[i] = i;
	return as_great / all;
}

static void insert_end(struct search *s, size_t at, double p)
{
	size_t i = 0;

	while (s->ends[i] < at)
		i++;
	memmove(&s->ends[i + 1], &s->ends[i], (s->nends - i) * sizeof(*s->ends));
	memmove(&s->p[i + 1], &s->p[i], (s->nends - i) * sizeof(*s->p));
	s->ends[i] = at;
	s->p[i] = p;
	s->nends++;
}

static void divide(struct search *s)
{
	for (;;) {
		struct cut c = best_of_all(s);
		double p;

		if (!c.at || !(c.q > 0))
			return;
		p = chance(s, c.q);
		if (p > s->rule->alpha)
			return;
		insert_end(s, c.at, p);
	}
}

/* The change at end i, judged by the medians of the segments that meet there. */
static int change_at(const struct search *s, const double *v, size_t i, struct change *out)
{
	struct stat_summary before, after;

	if (stat_summarize(v + s->ends[i - 1], s->ends[i] - s->ends[i - 1], &before) ||
		stat_summarize(v + s->ends[i], s->ends[i + 1] - s->ends[i], &after))
		return -ENOMEM;
	*out = (struct change){.at = s->ends[i],
		.from = before.median,
		.to = after.median,
		.effect = effect_of(before.median, after.median),
		.p = s->p[i]};
	return 0;
}

/* Takes back what is too small to matter; fills `out`. */
static long keep_large(struct search *s, const double *v, struct change *out)
{
	for (;;) {
		size_t least = 0;

		for (size_t i = 1; i + 1 < s->nends; i++) {
			if (change_at(s, v, i, &out[i - 1]))
				return -ENOMEM;
			if (!least || fabs(out[i - 1].effect) < fabs(out[least - 1].effect))
				least = i;
		}
		if (!least || fabs(out[least - 1].effect) >= s->rule->min_effect)
			return (long)s->nends - 2;
		memmove(&s->ends[least], &s->ends[least + 1],
			(s->nends - least - 1) * sizeof(*s->ends));
		memmove(&s->p[least], &s->p[least + 1], (s->nends - least - 1) * sizeof(*s->p));
		s->nends--;
	}
}

static void fill_distances(struct search *s, const double *v)
{
	bool logs = true;

	for (size_t i = 0; i < s->n; i++)
		logs = logs && v[i] > 0;
	for (size_t i = 0; i < s->n; i++)
		for (size_t j = 0; j < s->n; j++)
			s->distance[i * s->n + j] =
				(float)fabs(logs ? log(v[i] / v[j]) : v[i] - v[j]);
}

static long exact_changes(const double *v, size_t n, struct change *out)
{
	long count = 0;

	for (size_t i = 1; i < n; i++)
		if (v[i] < v[i - 1] || v[i] > v[i - 1])
			out[count++] = (struct change){.at = i,
				.from = v[i - 1],
				.to = v[i],
				.effect = effect_of(v[i - 1], v[i])};
	return count;
}

long changes_find(
	const double *v, size_t n, bool exact, const struct change_rule *rule, struct change *out)
{
	struct search s = {.n = n, .rule = rule, .rng = 88172645463325252u};
	long rc = -ENOMEM;

	if (n > CHANGES_VALUES_MAX)
		return -E2BIG;
	if (exact)
		return exact_changes(v, n, out);
	if (n < 2 * rule->least)
		return 0;
	s.distance = malloc(n * n * sizeof(*s.distance));
	s.order = calloc(n, sizeof(*s.order));
	s.ends = calloc(n + 1, sizeof(*s.ends));
	s.p = calloc(n + 1, sizeof(*s.p));
	if (s.distance && s.order && s.ends && s.p) {
		for (size_t i = 0; i < n; i++)
			s.order[i] = i;
		s.ends[1] = n;
		s.nends = 2;
		fill_distances(&s, v);
		divide(&s);
		rc = keep_large(&s, v, out);
	}
	free(s.distance);
	free(s.order);
	free(s.ends);
	free(s.p);
	return rc;
}
