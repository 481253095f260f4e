/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_analyse.c - the figures of `lsvd trace info`, against simple models. */
#include "test/test.h"
#include "trace/analyse.h"
#include "trace/plot.h"

static struct trace_record req(
	uint8_t op, uint64_t submit, uint64_t complete, uint64_t off, uint64_t len)
{
	return (struct trace_record){.op = op,
		.submit_ns = submit,
		.complete_ns = complete,
		.offset_bytes = off,
		.len_bytes = len};
}

TEST(small_trace_by_hand)
{
	struct trace_record r[] = {
		req(TRACE_READ, 100, 200, 0, 4096),
		req(TRACE_READ, 150, 300, 4096, 8192), /* sequential; overlaps the first in time */
		req(TRACE_WRITE, 160, 500, 4096, 512), req(TRACE_FLUSH, 170, 0, 0, 0),
		req(TRACE_READ, 400, 450, 4608, 1024), /* in a block read before */
		req(TRACE_DISCARD, 460, 470, 1 << 20, 1 << 30),
		req(TRACE_READ, 600, 700, 8000, 400), /* across two blocks */
	};
	struct trace t = {.records = r, .n = 7};
	struct trace_info i;

	r[1].source = TRACE_SRC_STORE;
	r[4].flags = TRACE_ERROR;
	assert_int_equal(trace_analyse(&t, &i), 0);
	assert_int_equal(i.requests, 7);
	assert_int_equal(i.bytes, 4096 + 8192 + 512 + 1024 + 400);
	assert_int_equal(i.op[TRACE_READ].requests, 4);
	assert_int_equal(i.op[TRACE_READ].sequential, 1);
	assert_int_equal(i.op[TRACE_READ].errors, 1);
	assert_int_equal(i.op[TRACE_DISCARD].bytes, 1 << 30);
	assert_int_equal(i.op[TRACE_FLUSH].known, 0);
	assert_int_equal(i.blocks, 3);
	assert_int_equal(i.read_blocks, 3);
	assert_int_equal(i.written_blocks, 1);
	assert_int_equal(i.stall_ns, 100 + 150 + 50 + 100);
	assert_int_equal(i.read_outstanding_ns, 200 + 50 + 100);
	assert_int_equal(i.duration_ns, 600);
	assert_int_equal(i.end_bytes, (1 << 20) + (1 << 30));
	assert_int_equal(i.source[TRACE_SRC_STORE].bytes, 8192);
	assert_int_equal(i.source[TRACE_SRC_NONE].requests, 3);
	/* block 0 once, block 1: read, write, read, read; block 2: read, read */
	assert_int_equal(i.reuse[0], 1);
	assert_int_equal(i.reuse[1], 1);
	assert_int_equal(i.reuse[2], 1);
	assert_int_equal(i.touches, 7);
	/* distances: write to 1: 1 (block 2); read 1: 0; read 1: 0; read 2: 1 */
	assert_int_equal(i.distance[0], 2);
	assert_int_equal(i.distance[1], 2);
}

TEST(buckets_have_their_limits)
{
	assert_int_equal(trace_size_bucket(0), 0);
	assert_int_equal(trace_size_bucket(512), 0);
	assert_int_equal(trace_size_bucket(513), 1);
	assert_int_equal(trace_size_bucket(4096), 3);
	assert_int_equal(trace_size_limit(3), 4096);
	assert_int_equal(trace_size_bucket(2 << 20), SIZE_BUCKETS - 2);
	assert_int_equal(trace_size_bucket(UINT64_MAX), SIZE_BUCKETS - 1);
	assert_int_equal(trace_reuse_bucket(1), 0);
	assert_int_equal(trace_reuse_bucket(2), 1);
	assert_int_equal(trace_reuse_bucket(3), 2);
	assert_int_equal(trace_reuse_bucket(4), 2);
	assert_int_equal(trace_reuse_bucket(5), 3);
}

TEST(covered_time_matches_counting)
{
	uint64_t s = test_seed();

	for (int round = 0; round < 200; round++) {
		struct trace_interval v[20];
		bool hit[300] = {0};
		uint64_t want = 0;

		for (int i = 0; i < 20; i++) {
			v[i].from_ns = test_rand(&s) % 200;
			v[i].to_ns = v[i].from_ns + test_rand(&s) % (round % 2 ? 10 : 60);
			for (uint64_t k = v[i].from_ns; k < v[i].to_ns; k++)
				hit[k] = true;
		}
		for (int k = 0; k < 300; k++)
			want += hit[k];
		assert_int_equal(trace_covered_ns(v, 20), want);
	}
}

/* The stack distance by its definition: different blocks since the last touch. */
TEST(reuse_distances_match_their_definition)
{
	enum { N = 3000 };
	struct trace_record *r = calloc(N, sizeof(*r));
	struct trace t = {.records = r, .n = N};
	uint64_t s = test_seed(), want[DISTANCE_BUCKETS] = {0};
	struct trace_info info;

	for (unsigned i = 0; i < N; i++)
		r[i] = req(TRACE_READ, i, i + 1, test_rand(&s) % (1 + test_rand(&s) % 400) * 4096,
			4096);
	for (unsigned i = 0; i < N; i++) {
		bool seen[400] = {0}, again = false;
		uint64_t d = 0;
		unsigned k = 0;

		for (unsigned j = i; j-- > 0 && !again;) {
			uint64_t b = r[j].offset_bytes / 4096;

			again = r[j].offset_bytes == r[i].offset_bytes;
			d += !again && !seen[b];
			seen[b] = true;
		}
		while (1ull << k < d + 1)
			k++;
		want[k] += again;
	}
	assert_int_equal(trace_analyse(&t, &info), 0);
	for (unsigned k = 0; k < DISTANCE_BUCKETS; k++)
		assert_int_equal(info.distance[k], want[k]);
	free(r);
}

/* Hostile lengths must neither overflow nor run for hours. */
TEST(huge_requests_are_left_out_of_the_block_counts)
{
	struct trace_record r[] = {
		req(TRACE_READ, 0, 1, 0, 1ull << 62),
		req(TRACE_WRITE, 0, 1, (1ull << 63) - 4096, 4096),
		req(TRACE_READ, 0, 1, 0, 0),
	};
	struct trace t = {.records = r, .n = 3};
	struct trace_info i;

	assert_int_equal(trace_analyse(&t, &i), 0);
	assert_int_equal(i.oversized, 1);
	assert_int_equal(i.blocks, 1);
}

TEST(the_plot_script_holds_every_panel)
{
	struct trace_record r[] = {
		req(TRACE_READ, 0, 1, 0, 4096), req(TRACE_WRITE, 5, 9, 8192, 512)};
	struct trace t = {.records = r, .n = 2};
	struct plot_options opt = {.output = "x'y.svg", .title = "it's\na title"};
	struct trace_info info;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(trace_analyse(&t, &info), 0);
	trace_plot_script(f, &t, &info, &opt);
	fclose(f);
	assert_non_null(strstr(text, "set terminal svg"));
	assert_non_null(strstr(text, "set output 'x''y.svg'"));
	assert_non_null(strstr(text, "'it''s a title'"));
	assert_non_null(strstr(text, "$k0 << EOD\n0.000000 0.000000\nEOD\n"));
	assert_non_null(strstr(text, "\"512 B\" 0 1\n"));
	assert_non_null(strstr(text, "\"4 KiB\" 1 0\n"));
	assert_non_null(strstr(text, "plot $reuse"));
	assert_non_null(strstr(text, "plot $distance"));
	free(text);
}
