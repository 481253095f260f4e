/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/stats.h"

#include <math.h>
#include <string.h>

void hist_reset(struct hist *h)
{
	memset(h, 0, sizeof(*h));
}

void hist_merge(struct hist *to, const struct hist *from)
{
	if (!from->count)
		return;
	if (!to->count || from->min < to->min)
		to->min = from->min;
	if (from->max > to->max)
		to->max = from->max;
	to->count += from->count;
	to->sum += from->sum;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
}

static uint64_t bucket_middle(uint32_t i)
{
	uint32_t shift;

	if (i < 2 * HIST_SUB)
		return i;
	shift = i / HIST_SUB - 1;
	return ((uint64_t)(HIST_SUB + i % HIST_SUB) << shift) + (1ull << shift) / 2;
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
	uint64_t rank, seen = 0, v;
	uint32_t i = 0;

	if (!h->count)
		return 0;
	/* A hair less, so that 7 % of 100 is 7 and not, by rounding, a little more. */
	rank = (uint64_t)ceil(percent / 100 * (double)h->count * (1 - 1e-12));
	if (rank <= 1)
		return h->min;
	if (rank >= h->count)
		return h->max;
	while ((seen += h->bucket[i]) < rank)
		i++;
	/* The last bucket holds all that is too large, and has no middle. */
	v = i == HIST_BUCKETS - 1 ? h->max : bucket_middle(i);
	return v < h->min ? h->min : v > h->max ? h->max : v;
}

double hist_mean(const struct hist *h)
{
	return h->count ? (double)h->sum / (double)h->count : 0;
}
