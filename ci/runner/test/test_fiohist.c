/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_fiohist.c - reading fio's histogram logs. */
#include "test/test.h"

#include "ci/runner/fiohist.h"

#include <errno.h>
#include <stdlib.h>

static struct err e;

/* Ends of buckets, by the definition: 64 buckets for each doubling from 128 ns on. */
TEST(buckets_are_as_fio_has_them)
{
	assert_int_equal(fio_hist_ns(0), 0);
	assert_int_equal(fio_hist_ns(127), 127);
	assert_int_equal(fio_hist_ns(128), 128 + 1); /* 128 and 129 */
	assert_int_equal(fio_hist_ns(191), 254 + 1);
	assert_int_equal(fio_hist_ns(192), 256 + 2); /* 256 to 259 */
	for (unsigned i = 1; i < 64 * 28; i++)
		assert_true(fio_hist_ns(i) > fio_hist_ns(i - 1));
}

TEST(lines_become_windows)
{
	struct fio_window *w;
	size_t n;

	assert_int_equal(fio_hist_parse("100, 1, 4096, 0, 98, 1, 1\n"
					"200, 0, 4096, 5, 0, 0, 0\n"  /* reads */
					"1300, 1, 4096, 0, 0, 0, 2\n" /* nothing for a second */
					"1400, 1, 4096, 0, 0, 0, 0\n",
				 &w, &n, &e),
		0);
	assert_int_equal(n, 2);
	assert_float_equal(w[0].begin_s, 0, 1e-9);
	assert_float_equal(w[0].end_s, 0.1, 1e-9);
	assert_int_equal(w[0].ios, 100);
	assert_float_equal(w[0].p50_us, 0.001, 1e-9);
	assert_float_equal(w[0].p99_us, 0.002, 1e-9);
	assert_float_equal(w[0].max_us, 0.003, 1e-9);
	assert_float_equal(w[1].begin_s, 0.1, 1e-9);
	assert_float_equal(w[1].end_s, 1.3, 1e-9);
	assert_float_equal(w[1].p50_us, 0.003, 1e-9);
	free(w);
}

TEST(lines_of_one_moment_are_one_window)
{
	struct fio_window *w;
	size_t n;

	assert_int_equal(fio_hist_parse("100, 1, 4096, 0, 7, 0, 0\n"
					"300, 1, 4096, 0, 0, 1, 0\n"
					"300, 1, 4096, 0, 4, 0, 1\n",
				 &w, &n, &e),
		0);
	assert_int_equal(n, 2);
	assert_int_equal(w[1].ios, 6);
	assert_float_equal(w[1].begin_s, 0.1, 1e-9);
	assert_float_equal(w[1].end_s, 0.3, 1e-9);
	assert_float_equal(w[1].max_us, 0.003, 1e-9);
	free(w);
}

TEST(what_is_no_log_is_refused_with_its_line)
{
	static const char *const bad[] = {"100, 1, 4096, 1\nnonsense\n", "100, 1, 4096, 1\n90, 1, 4096, 1\n",
		"100, 1, 4096, 1\n200, 1, 4096\n", "100, 1, 4096, 1\n200, 1, 4096, 1, -5\n"};
	struct fio_window *w;
	size_t n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fio_hist_parse(bad[i], &w, &n, &e), -EUCLEAN);
		assert_non_null(strstr(e.msg, "line 2"));
	}
	assert_int_equal(fio_hist_parse("", &w, &n, &e), -ENODATA);
	assert_int_equal(fio_hist_parse("100, 0, 4096, 1\n", &w, &n, &e), -ENODATA);
}
