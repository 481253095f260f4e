/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stats.h - a latency histogram of fixed size: log-linear, as in Tene's HdrHistogram.
 *
 * Each power of two is cut into 64 equal buckets, so any value reported is within 1 % of one that
 * was recorded (below 128 exact).  Recording is a shift and an add; nothing is ever allocated.
 * Values are any unit, usually ns; those of 2^42 (73 minutes in ns) and above share one bucket,
 * while count, sum, min and max stay exact.
 *
 * Pure.  One thread at a time per histogram; merge to combine those of several threads.
 */
#ifndef LSVD_SYS_STATS_H
#define LSVD_SYS_STATS_H

#include <stdint.h>

enum {
	HIST_SUB_BITS = 6,
	HIST_SUB = 1 << HIST_SUB_BITS,
	HIST_MAX_BITS = 42,
	HIST_BUCKETS = (HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB + 1,
};

/* Zero-initialise, or hist_reset(). */
struct hist {
	uint64_t count, sum;
	uint64_t min, max; /* valid when count > 0 */
	uint64_t bucket[HIST_BUCKETS];
};

static inline uint32_t hist_index(uint64_t v)
{
	uint32_t shift;

	if (v < HIST_SUB)
		return (uint32_t)v;
	if (v >> HIST_MAX_BITS)
		return HIST_BUCKETS - 1;
	shift = 63u - (uint32_t)__builtin_clzll(v) - HIST_SUB_BITS;
	return (shift + 1) * HIST_SUB + (uint32_t)(v >> shift) - HIST_SUB;
}

static inline void hist_record(struct hist *h, uint64_t v)
{
	if (!h->count || v < h->min)
		h->min = v;
	if (v > h->max)
		h->max = v;
	h->count++;
	h->sum += v;
	h->bucket[hist_index(v)]++;
}

void hist_reset(struct hist *h);

/* Adds everything `from` holds to `to`. */
void hist_merge(struct hist *to, const struct hist *from);

/* The value that `percent` (0 to 100) of the recorded ones do not exceed: the middle of its bucket,
 * never outside [min, max].  0 when nothing was recorded. */
uint64_t hist_percentile(const struct hist *h, double percent);

/* 0 when nothing was recorded. */
double hist_mean(const struct hist *h);

#endif
