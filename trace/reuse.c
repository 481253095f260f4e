/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* reuse.c - see reuse.h. */
#include "trace/reuse.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* ---- curves ---- */

/* 1 ... 64 each have their own bucket; then every power of two has 64. */
unsigned curve_bucket(uint64_t blocks)
{
	unsigned octave, b;

	if (blocks <= CURVE_STEPS)
		return blocks ? (unsigned)blocks - 1 : 0;
	octave = 63 - (unsigned)__builtin_clzll(blocks - 1) - 6;
	b = (octave + 1) * CURVE_STEPS + (unsigned)((blocks - 1) >> octave) - CURVE_STEPS;
	return b < CURVE_BUCKETS ? b : CURVE_BUCKETS - 1;
}

uint64_t curve_limit(unsigned bucket)
{
	unsigned octave = bucket / CURVE_STEPS;

	if (octave == 0)
		return bucket + 1;
	return (uint64_t)(CURVE_STEPS + bucket % CURVE_STEPS + 1) << (octave - 1);
}

double curve_miss_ratio(const struct curve *c, double blocks)
{
	double hits = 0;

	if (c->touches <= 0)
		return 1;
	for (unsigned b = 0; b < CURVE_BUCKETS; b++) {
		double from = b ? (double)curve_limit(b - 1) : 0, to = (double)curve_limit(b);

		if (to > blocks) { /* a part of the bucket: as if its touches were spread evenly */
			hits += blocks > from ? c->count[b] * (blocks - from) / (to - from) : 0;
			break;
		}
		hits += c->count[b];
	}
	hits = 1 - hits / c->touches;
	return hits < 0 ? 0 : hits > 1 ? 1 : hits;
}

double curve_error(
	const struct curve *a, const struct curve *b, uint64_t max_blocks, unsigned points)
{
	double sum = 0;

	for (unsigned i = 1; i <= points; i++) {
		double size = (double)max_blocks * i / points;

		sum += fabs(curve_miss_ratio(a, size) - curve_miss_ratio(b, size));
	}
	return points ? sum / points : 0;
}

/* ---- the sample ---- */

/* The finalizer of MurmurHash3: every bit of the block's number reaches every bit of the hash. */
static uint64_t hash_of(uint64_t v)
{
	v ^= v >> 33;
	v *= 0xFF51AFD7ED558CCDull;
	v ^= v >> 33;
	v *= 0xC4CEB9FE1A85EC53ull;
	return v ^ v >> 33;
}

int reuse_init(struct reuse *r, double rate, size_t samples)
{
	int rc;

	*r = (struct reuse){.limit = UINT64_MAX, .weight = 1, .samples = samples};
	if (rate < 1) {
		r->limit = (uint64_t)(rate * 0x1p64);
		r->weight = 1 / rate;
	}
	rc = blocks_init(&r->table);
	if (rc == 0 && samples && !(r->heap = calloc(samples + 1, sizeof(*r->heap))))
		rc = -ENOMEM;
	if (rc < 0)
		reuse_fini(r);
	return rc;
}

void reuse_fini(struct reuse *r)
{
	blocks_fini(&r->table);
	free(r->heap);
	r->heap = NULL;
}

static void heap_put(struct reuse *r, struct reuse_sample x)
{
	size_t i = r->heaped++;

	for (; i && r->heap[(i - 1) / 2].hash < x.hash; i = (i - 1) / 2)
		r->heap[i] = r->heap[(i - 1) / 2];
	r->heap[i] = x;
}

static void heap_drop(struct reuse *r)
{
	struct reuse_sample x = r->heap[--r->heaped];
	size_t i = 0, k;

	while ((k = 2 * i + 1) < r->heaped) {
		k += k + 1 < r->heaped && r->heap[k + 1].hash > r->heap[k].hash;
		if (r->heap[k].hash <= x.hash)
			break;
		r->heap[i] = r->heap[k];
		i = k;
	}
	r->heap[i] = x;
}

/* One block too many: the largest hash goes, and with it all from there on. */
static void lower(struct reuse *r)
{
	uint64_t top = r->heap[0].hash;

	while (r->heaped && r->heap[0].hash == top) {
		blocks_remove(&r->table, r->heap[0].block);
		heap_drop(r);
	}
	r->limit = top - 1; /* top is not 0: its hash would be the only one */
	r->weight = 0x1p64 / (double)top;
}

int reuse_touch(
	struct reuse *r, uint64_t block, bool write, uint64_t stamp, struct reuse_touch *out)
{
	uint64_t hash = hash_of(block), distance;
	int rc = 0;

	r->touches++;
	*out = (struct reuse_touch){.stamp = stamp};
	if (hash > r->limit)
		return 0;
	distance = blocks_touch(&r->table, block, write, &out->stamp, &rc);
	if (rc < 0)
		return rc;
	out->weight = r->weight;
	out->first = distance == UINT64_MAX;
	r->curve.touches += r->weight;
	if (!out->first) {
		double d = (double)distance * r->weight;

		r->curve.count[curve_bucket(d < 0x1p62 ? (uint64_t)d + 1 : 1ull << 62)] +=
			r->weight;
	} else if (r->samples) {
		heap_put(r, (struct reuse_sample){hash, block});
		if (r->heaped > r->samples)
			lower(r);
	}
	return 0;
}

double reuse_blocks(const struct reuse *r)
{
	return (double)r->table.used * r->weight;
}

void reuse_finish(struct reuse *r)
{
	double missing = (double)r->touches - r->curve.touches;

	r->curve.count[0] += missing;
	r->curve.touches = (double)r->touches;
}
