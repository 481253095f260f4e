/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * reuse.h - reuse distances and the miss-ratio curve of an LRU cache, exact or by sampling.
 *
 * Sampling is SHARDS (Waldspurger, Park, Garthwaite, Ahmad: "Efficient MRC Construction with
 * SHARDS", FAST '15): only blocks whose hash is below a threshold are looked at, a share R of all;
 * a distance d among them stands for d/R, and a touch for 1/R touches. fixed rate  R is given:
 * memory is R times that of the exact curve. fixed size  at most `samples` blocks are kept.  When
 * there is one more, the one with the largest hash goes and the threshold falls to it; what was
 * counted before keeps its weight 1/R of that time, which is the paper's rescaling of all counts at
 * the end.  Memory is constant. Both make the paper's adjustment (SHARDS_adj): the difference
 * between the touches expected of the sample and those it had is added to the smallest distances.
 *
 * Exact is R = 1.  Curves are held in buckets of 1.6 % or less: some 30 KiB.
 */
#ifndef LSVD_TRACE_REUSE_H
#define LSVD_TRACE_REUSE_H

#include "trace/blocks.h"

enum { CURVE_STEPS = 64, CURVE_BUCKETS = 58 * CURVE_STEPS };

/* Touches by the smallest cache, in blocks, that serves them. */
struct curve {
	double count[CURVE_BUCKETS];
	double touches; /* all, those that no cache serves included */
};

/* The largest size in a bucket, and the bucket of a size (from 1). */
uint64_t curve_limit(unsigned bucket);
unsigned curve_bucket(uint64_t blocks);

/* The share of touches that an LRU cache of so many blocks (a fraction is fine) misses. */
double curve_miss_ratio(const struct curve *c, double blocks);

/* Mean absolute error of b against a, as the paper measures it: over `points` cache sizes evenly
 * spaced up to max_blocks. */
double curve_error(
	const struct curve *a, const struct curve *b, uint64_t max_blocks, unsigned points);

struct reuse_sample {
	uint64_t hash, block;
};

struct reuse {
	struct block_table table; /* of the sampled blocks */
	uint64_t limit;		  /* hashes up to here are sampled */
	double weight;		  /* 1/R */
	size_t samples;		  /* fixed size: at most; 0: no limit */
	struct reuse_sample *heap;
	size_t heaped;
	uint64_t touches; /* all, sampled or not */
	struct curve curve;
};

/* rate: 1 exact, or below 1 and above 0; samples: 0, or the fixed size, which starts at `rate`.
 * -ENOMEM. */
int reuse_init(struct reuse *r, double rate, size_t samples) MUST_CHECK;

struct reuse_touch {
	double weight;	/* how many touches this one stands for; 0: it is not in the sample */
	bool first;	/* of this block */
	uint64_t stamp; /* of the touch before, unless first */
};

/* 0 or -ENOMEM. */
int reuse_touch(struct reuse *r, uint64_t block, bool write, uint64_t stamp,
	struct reuse_touch *out) MUST_CHECK;

/* Different blocks touched, estimated unless exact. */
double reuse_blocks(const struct reuse *r);

/* Completes the curve: once, at the end. */
void reuse_finish(struct reuse *r);

void reuse_fini(struct reuse *r);

#endif
