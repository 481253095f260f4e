/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_reuse.c - reuse distances, miss-ratio curves, SHARDS, working sets, heat maps and the
 * overlap of two traces, against their definitions. */
#include "test/test.h"
#include "trace/overlap.h"
#include "trace/plot_study.h"
#include "trace/study.h"

#include <math.h>

/* ---- distances ---- */

/* An LRU stack, kept as a list: the naive model. */
struct stack {
	uint64_t block[2000];
	size_t n;
};

static uint64_t stack_touch(struct stack *s, uint64_t block)
{
	size_t i = 0;

	while (i < s->n && s->block[i] != block)
		i++;
	if (i == s->n)
		s->n++;
	memmove(s->block + 1, s->block, i * sizeof(*s->block));
	s->block[0] = block;
	return i;
}

static void stack_remove(struct stack *s, uint64_t block)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->block[i] != block)
			continue;
		memmove(s->block + i, s->block + i + 1, (--s->n - i) * sizeof(*s->block));
		return;
	}
}

/* Over so many touches that the places are used up and moved together some times, with blocks
 * removed on the way. */
TEST(distances_match_an_lru_stack)
{
	uint64_t s = test_seed(), span = 1 + test_rand(&s) % 1900;
	struct stack *model = calloc(1, sizeof(*model));
	struct block_table t;
	int rc = 0;

	assert_int_equal(blocks_init(&t), 0);
	for (uint64_t i = 1; i < 20000; i++) {
		uint64_t block = test_rand(&s) % (1 + test_rand(&s) % span) * 977, stamp = i, want,
			 d;
		bool known = blocks_find(&t, block) != NULL;

		if (test_rand(&s) % 50 == 0) {
			blocks_remove(&t, block);
			stack_remove(model, block);
			assert_null(blocks_find(&t, block));
			assert_int_equal(t.used, model->n);
			continue;
		}
		want = stack_touch(model, block);
		d = blocks_touch(&t, block, false, &stamp, &rc);
		assert_int_equal(rc, 0);
		assert_int_equal(d, known ? want : UINT64_MAX);
		assert_true(known ? stamp && stamp < i : !stamp);
		assert_int_equal(t.used, model->n);
	}
	blocks_fini(&t);
	free(model);
}

TEST(buckets_of_curves_have_no_gaps)
{
	for (unsigned b = 0; b < CURVE_BUCKETS - 1; b++) {
		assert_int_equal(curve_bucket(curve_limit(b)), b);
		assert_int_equal(curve_bucket(curve_limit(b) + 1), b + 1);
		assert_true((double)(curve_limit(b + 1) - curve_limit(b)) <=
			    1 + (double)curve_limit(b) / CURVE_STEPS);
	}
	assert_int_equal(curve_bucket(UINT64_MAX), CURVE_BUCKETS - 1);
	assert_int_equal(study_size(0, 100), 1);
	for (unsigned i = 0; study_size(i, 1000); i++)
		assert_true(!i || study_size(i, 1000) > study_size(i - 1, 1000));
}

/* ---- curves ---- */

/* Zipf-like, with a scan every now and then: a curve with a slope and a cliff. */
static uint64_t next_block(uint64_t *s, uint64_t i, uint64_t blocks)
{
	double u = (double)(test_rand(s) >> 11) * 0x1p-53;

	if (i / (blocks / 8) % 4 == 3)
		return i % (blocks / 4);
	return (uint64_t)((double)blocks * u * u);
}

static uint64_t lru_misses(const uint64_t *trace, size_t n, size_t cache)
{
	struct stack *s = calloc(1, sizeof(*s));
	uint64_t misses = 0;

	for (size_t i = 0; i < n; i++) {
		size_t before = s->n;

		misses += stack_touch(s, trace[i]) >= cache || s->n > before;
	}
	free(s);
	return misses;
}

TEST(the_exact_curve_is_what_lru_caches_miss)
{
	enum { N = 6000, BLOCKS = 800 };
	static uint64_t trace[N];
	static const size_t caches[] = {1, 2, 10, 64, 128, 400, 800};
	struct reuse_touch t;
	struct reuse r;
	uint64_t s = test_seed();

	assert_int_equal(reuse_init(&r, 1, 0), 0);
	for (size_t i = 0; i < N; i++) {
		trace[i] = next_block(&s, i, BLOCKS);
		assert_int_equal(reuse_touch(&r, trace[i], false, i, &t), 0);
		assert_true(t.weight == 1);
	}
	reuse_finish(&r);
	for (size_t i = 0; i < sizeof(caches) / sizeof(caches[0]); i++) {
		double want = (double)lru_misses(trace, N, caches[i]) / N;

		/* exact where a bucket ends, up to 128 everywhere; above within a bucket */
		assert_true(fabs(curve_miss_ratio(&r.curve, (double)caches[i]) - want) <
			    (caches[i] <= 128 ? 1e-9 : 0.01));
	}
	reuse_fini(&r);
}

/* One run's mean absolute error over 100 cache sizes, which is the paper's measure. */
static double shards_error(uint64_t seed, double rate, size_t samples, size_t *kept)
{
	enum { N = 300000, BLOCKS = 50000 };
	struct reuse exact, r;
	uint64_t base = test_rand(&seed) >> 8; /* other blocks are sampled with another seed */
	struct reuse_touch t;
	double error;

	assert_int_equal(reuse_init(&exact, 1, 0), 0);
	assert_int_equal(reuse_init(&r, rate, samples), 0);
	for (size_t i = 0; i < N; i++) {
		uint64_t block = base + next_block(&seed, i, BLOCKS);

		assert_int_equal(reuse_touch(&exact, block, false, i, &t), 0);
		assert_int_equal(reuse_touch(&r, block, false, i, &t), 0);
		assert_true(!samples || r.table.used <= samples);
	}
	reuse_finish(&exact);
	reuse_finish(&r);
	*kept = r.table.used;
	error = curve_error(&exact.curve, &r.curve, BLOCKS, 100);
	if (fabs(reuse_blocks(&r) / reuse_blocks(&exact) - 1) > 0.15)
		fail_msg("%.0f blocks, not %.0f", reuse_blocks(&r), reuse_blocks(&exact));
	assert_true(r.touches == N && fabs(r.curve.touches - N) < 1e-6);
	reuse_fini(&exact);
	reuse_fini(&r);
	return error;
}

/* On average over some runs, each of which samples other blocks. */
static void assert_mean_error(double rate, size_t samples, double limit)
{
	enum { RUNS = 4 };
	uint64_t s = test_seed();
	size_t kept;
	double sum = 0;

	for (int i = 0; i < RUNS; i++) {
		sum += shards_error(test_rand(&s), rate, samples, &kept);
		assert_true(samples ? kept == samples : kept > 2000 && kept < 8000);
	}
	if (!(sum / RUNS < limit))
		fail_msg("mean absolute error %.4f, not below %.4f", sum / RUNS, limit);
}

/* The paper's averages over its traces are around 0.01 with 8192 samples, 0.03 with 1024. */
TEST(shards_is_within_the_errors_of_its_paper)
{
	assert_mean_error(1, 8192, 0.015);
	assert_mean_error(1, 1024, 0.04);
	assert_mean_error(0.1, 0, 0.03);
}

TEST(a_rate_of_one_is_exact)
{
	size_t kept;

	assert_true(shards_error(test_seed(), 1, 0, &kept) == 0);
	assert_true(shards_error(test_seed(), 1, 1000000, &kept) == 0);
}

/* ---- windows ---- */

/* By definition, for the windows that it ended up with. */
TEST(working_sets_and_the_map_match_counting)
{
	enum { N = 30000, BLOCKS = 3000 };
	static uint64_t unit[N], block[N], last[BLOCKS];
	static uint64_t heat[HEAT_COLUMNS][HEAT_ROWS];
	static uint32_t seen[BLOCKS];
	uint64_t s = test_seed(), now = 0, step = 1 + test_rand(&s) % 400;
	struct windows *w = windows_new(1000000);

	memset(last, 0xff, sizeof(last));
	memset(seen, 0, sizeof(seen));
	memset(heat, 0, sizeof(heat));
	for (unsigned i = 0; i < N; i++) {
		now += test_rand(&s) % step / 4;
		unit[i] = windows_unit(w, now * 1000000 + 999999);
		assert_int_equal(unit[i], now);
		block[i] = test_rand(&s) % (1 + test_rand(&s) % BLOCKS);
		windows_request(w, now, 4096, 0);
		windows_touch(w, now, last[block[i]] == UINT64_MAX, last[block[i]], 1);
		windows_heat(w, now, block[i], i % 2);
		last[block[i]] = now;
	}
	assert_true(w->n <= WINDOWS_MAX && (!w->fold || w->n > WINDOWS_MAX / 2));
	for (uint32_t i = 0, k = 0; i < w->n; i++) {
		double n = 0;
		uint64_t requests = 0;

		for (; k < N && unit[k] >> w->fold == i; k++) {
			n += seen[block[k]] != i + 1;
			seen[block[k]] = i + 1;
			requests++;
			heat[i / (WINDOWS_MAX / HEAT_COLUMNS)][block[k] >> w->row_shift]++;
		}
		assert_true(windows_blocks(w, i) == n);
		assert_int_equal(w->w[i].requests, requests);
	}
	for (unsigned c = 0; c < HEAT_COLUMNS; c++)
		for (unsigned r = 0; r < HEAT_ROWS; r++)
			assert_int_equal(w->reads[c][r] + w->writes[c][r], heat[c][r]);
	windows_free(w);
}

/* ---- a whole trace ---- */

TEST(a_study_of_a_trace_by_hand)
{
	struct study_options opt = {.block_bytes = 4096, .rate = 1, .unit_ns = 1000000};
	char path[300];
	struct study s;
	struct err e;
	FILE *f;

	snprintf(path, sizeof(path), "%s/hand.csv", test_dir());
	f = fopen(path, "w");
	fputs("0,,R,0,8192\n1000000,,W,4096,4096\n2000000,,R,0,4096\n3000000,,F,0,0\n4000000,,T,0,"
	      "4096\n",
		f);
	fclose(f);
	assert_int_equal(study_run(path, &opt, &s, &e), 0);
	assert_int_equal(s.requests, 3);
	assert_int_equal(s.reuse.touches, 4);
	assert_true(reuse_blocks(&s.reuse) == 2);
	assert_int_equal(study_largest(&s), 2);
	assert_true(curve_miss_ratio(&s.reuse.curve, 1) == 0.75); /* the write finds block 1 */
	assert_true(curve_miss_ratio(&s.reuse.curve, 2) == 0.5);
	assert_int_equal(s.windows->n, 3);
	assert_true(windows_blocks(s.windows, 0) == 2 && windows_blocks(s.windows, 1) == 1);
	study_fini(&s);
	opt.ops = STUDY_READS;
	assert_int_equal(study_run(path, &opt, &s, &e), 0);
	assert_int_equal(s.reuse.touches, 3);
	study_fini(&s);
}

/* ---- overlap ---- */

static struct first_touches of(uint64_t *block, size_t n)
{
	return (struct first_touches){.block = block, .n = n};
}

TEST(overlap_by_hand)
{
	uint64_t a[] = {10, 20, 30, 40, 50}, b[] = {20, 10, 60, 40, 30, 70};
	struct first_touches fa = of(a, 5), fb = of(b, 6);
	struct overlap o;

	assert_int_equal(overlap_of(&fa, &fb, &o), 0);
	assert_int_equal(o.both, 4);
	assert_true(fabs(o.jaccard - 4.0 / 7) < 1e-12);
	/* ranks in B of 10 20 30 40: 1 0 3 2; two inversions of six pairs; squares 1+1+1+1 */
	assert_true(fabs(o.kendall - (1 - 2.0 * 2 / 6)) < 1e-12);
	assert_true(fabs(o.spearman - (1 - 6.0 * 4 / (4 * 15))) < 1e-12);
	assert_true(o.mean_displacement == 1 && o.max_displacement == 1);
	assert_true(o.depth[99] == 4.0 / 5); /* first five of each: 10 20 30 40 */
	assert_true(o.depth[39] == 1);	     /* first two */
	overlap_fini(&o);
}

TEST(overlap_of_equal_and_of_opposite_orders)
{
	uint64_t a[500], b[500];
	struct first_touches fa = of(a, 500), fb = of(b, 500), none = of(NULL, 0);
	struct overlap o;

	for (size_t i = 0; i < 500; i++)
		a[i] = b[499 - i] = i * 7;
	assert_int_equal(overlap_of(&fa, &fa, &o), 0);
	assert_true(o.jaccard == 1 && o.spearman == 1 && o.kendall == 1 && o.max_displacement == 0);
	overlap_fini(&o);
	assert_int_equal(overlap_of(&fa, &fb, &o), 0);
	assert_true(o.jaccard == 1 && o.spearman == -1 && o.kendall == -1);
	overlap_fini(&o);
	assert_int_equal(overlap_of(&fa, &none, &o), 0);
	assert_true(o.jaccard == 0 && isnan(o.kendall));
	overlap_fini(&o);
}

/* Both coefficients by their definitions over all pairs. */
TEST(rank_correlations_match_their_definitions)
{
	enum { N = 300 };
	uint64_t a[N], b[N], s = test_seed();
	struct first_touches fa = of(a, N), fb = of(b, N);
	double pairs = 0, squares = 0;
	struct overlap o;

	for (size_t i = 0; i < N; i++)
		a[i] = b[i] = i;
	for (size_t i = N - 1; i > 0; i--) {
		size_t j = i - test_rand(&s) % (i < 40 ? i + 1 : 40);
		uint64_t v = b[i];

		b[i] = b[j];
		b[j] = v;
	}
	assert_int_equal(overlap_of(&fa, &fb, &o), 0);
	for (size_t i = 0; i < N; i++) {
		double d = (double)o.rank[i] - (double)i;

		assert_int_equal(b[o.rank[i]], i);
		squares += d * d;
		for (size_t j = i + 1; j < N; j++)
			pairs += o.rank[i] < o.rank[j] ? 1 : -1;
	}
	assert_true(fabs(o.kendall - pairs / (N * (N - 1) / 2)) < 1e-12);
	assert_true(fabs(o.spearman - (1 - 6 * squares / ((double)N * (N * N - 1)))) < 1e-12);
	overlap_fini(&o);
}

TEST(two_recorded_boots_are_alike)
{
	struct overlap_options opt = {.block_bytes = 4096, .reads = true};
	struct first_touches a, b;
	struct overlap o;
	struct err e;

	assert_int_equal(first_touches_of("workloads/boot/srv-1.csv", &opt, &a, &e), 0);
	assert_int_equal(first_touches_of("workloads/boot/srv-2.csv", &opt, &b, &e), 0);
	assert_int_equal(overlap_of(&a, &b, &o), 0);
	assert_true(o.jaccard > 0.99 && o.spearman > 0.99 && o.kendall > 0.97);
	overlap_fini(&o);
	first_touches_free(&a);
	first_touches_free(&b);
}
