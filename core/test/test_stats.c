/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/stats.h"
#include "test/test.h"

static struct hist h, g;

static void assert_near(uint64_t got, uint64_t want, double error)
{
	double diff = (double)got - (double)want;

	if (diff < 0)
		diff = -diff;
	if (diff > error * (double)want)
		fail_msg("%llu is not within %g of %llu", (unsigned long long)got, error,
			(unsigned long long)want);
}

TEST(an_empty_histogram_says_zero)
{
	hist_reset(&h);
	assert_int_equal(hist_percentile(&h, 50), 0);
	assert_true(hist_mean(&h) == 0);
	hist_merge(&h, &(struct hist){.min = 5});
	assert_int_equal(h.count, 0);
	assert_int_equal(h.min, 0);
}

TEST(small_values_are_exact)
{
	hist_reset(&h);
	for (uint64_t v = 1; v <= 100; v++)
		hist_record(&h, v);
	for (int p = 1; p <= 100; p++)
		assert_int_equal(hist_percentile(&h, p), p);
	assert_int_equal(hist_percentile(&h, 0), 1);
	assert_true(hist_mean(&h) == 50.5);
}

TEST(buckets_are_contiguous_and_ordered)
{
	uint32_t last = 0;

	for (uint64_t v = 0; v < 1u << 20; v++) {
		uint32_t i = hist_index(v);

		assert_true(i == last || i == last + 1);
		last = i;
	}
	for (unsigned bit = 20; bit < 64; bit++) {
		uint32_t i = hist_index(1ull << bit), below = hist_index((1ull << bit) - 1);

		assert_true(i < HIST_BUCKETS);
		assert_int_equal(i, bit <= HIST_MAX_BITS ? below + 1 : HIST_BUCKETS - 1);
	}
	assert_int_equal(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
}

TEST(any_value_comes_back_within_one_percent)
{
	uint64_t s = test_seed() | 1;

	for (int i = 0; i < 20000; i++) {
		uint64_t v = test_rand(&s) >> (64 - HIST_MAX_BITS + test_rand(&s) % 40);

		/* min and max are exact and would hide the bucket: keep v between two others. */
		hist_reset(&h);
		hist_record(&h, 0);
		hist_record(&h, v);
		hist_record(&h, UINT64_MAX / 4);
		assert_near(hist_percentile(&h, 50), v, 0.01);
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

TEST(percentiles_match_a_sorted_list)
{
	enum { N = 10000 };
	static uint64_t v[N];
	static const double ps[] = {1, 10, 50, 90, 99, 99.9, 99.99};
	uint64_t s = test_seed() | 1, sum = 0;

	hist_reset(&h);
	for (int i = 0; i < N; i++) {
		v[i] = test_rand(&s) >> (24 + test_rand(&s) % 36);
		sum += v[i];
		hist_record(&h, v[i]);
	}
	qsort(v, N, sizeof(v[0]), compare);
	for (size_t i = 0; i < sizeof(ps) / sizeof(ps[0]); i++)
		assert_near(
			hist_percentile(&h, ps[i]), v[(int)(ps[i] / 100 * N + 0.999) - 1], 0.01);
	assert_int_equal(hist_percentile(&h, 100), v[N - 1]);
	assert_int_equal(h.min, v[0]);
	assert_int_equal(h.sum, sum);
}

TEST(merging_equals_recording_into_one)
{
	static struct hist all;
	uint64_t s = test_seed() | 1;

	hist_reset(&h);
	hist_reset(&g);
	hist_reset(&all);
	for (int i = 0; i < 5000; i++) {
		uint64_t v = test_rand(&s) >> (test_rand(&s) % 60);

		hist_record(i % 3 ? &h : &g, v);
		hist_record(&all, v);
	}
	hist_merge(&h, &g);
	assert_memory_equal(&h, &all, sizeof(h));
	hist_reset(&g);
	hist_merge(&g, &all);
	assert_memory_equal(&g, &all, sizeof(g));
}

TEST(values_beyond_the_range_are_counted)
{
	hist_reset(&h);
	hist_record(&h, 7);
	for (int i = 0; i < 3; i++)
		hist_record(&h, 1ull << 60);
	assert_int_equal(hist_percentile(&h, 50), 1ull << 60);
	assert_int_equal(h.max, 1ull << 60);
	assert_int_equal(h.count, 4);
}
