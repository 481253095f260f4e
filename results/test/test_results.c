/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_results.c - the result schema, its statistics, comparisons, the command and the page. */
#include "cli/cli.h"
#include "results/compare.h"
#include "results/find.h"
#include "results/json.h"
#include "results/record.h"
#include "results/report.h"
#include "results/schema.h"
#include "results/targets.h"
#include "results/test/fixture.h"
#include "test/test.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct results *small(void)
{
	static const double iops[] = {90000, 110000, 100000}, gets[] = {187},
			    ratio[] = {1.25, 1.5, 1.75, 2.0}, seconds[] = {0.1, 0.2, 0.25},
			    rates[] = {12000, 3333.25, 4000};
	struct results *r = results_new();
	struct err e;

	assert_non_null(r);
	r->time_s = 1795366800;
	snprintf(r->commit, sizeof(r->commit), "d0a712d0123456789abcdef0123456789abcdef0");
	r->machine = (struct results_machine){.cpu = "a cpu",
		.cores = 2,
		.memory_bytes = 8ll << 30,
		.kernel = "6.1",
		.disk = "a disk",
		.filesystem = "ext4"};
	assert_int_equal(results_set_version(r, "fio", "3.33", &e), 0);
	assert_int_equal(results_add(r, "fio.randwrite.4k.qd32.lsvd.iops", "iops", RESULTS_HIGHER,
				 iops, 3, json_pack("{s:i}", "runtime_s", 5), &e),
		0);
	assert_int_equal(results_add_known(r, "boot.original.0.5ms.gets", gets, 1, NULL, &e), 0);
	assert_int_equal(results_add_known(r, "fio.read.4k.qd1.ratio_raw", ratio, 4, NULL, &e), 0);
	assert_int_equal(results_add_curve(r, "pressure.slow.iops", "s", "iops", seconds, rates, 3,
				 json_pack("{s:i}", "window_ms", 100), &e),
		0);
	return r;
}

/* ---- statistics ---- */

TEST(medians_and_intervals)
{
	static const double v[] = {5, 1, 4, 2, 3, 6, 9, 8, 7, 10};
	struct stat_summary s;

	assert_int_equal(stat_summarize(v, 1, &s), 0);
	assert_true(s.median == 5 && s.low == 5 && s.high == 5);
	assert_int_equal(stat_summarize(v, 4, &s), 0);
	assert_true(s.median == 3 && s.low == 1 && s.high == 5);
	assert_int_equal(stat_summarize(v, 5, &s), 0);
	assert_true(s.median == 3 && s.low == 1 && s.high == 5);
	/* n = 10: 1 - 2 P(Bin(10, 1/2) <= 1) = 0.9785 for x[2]..x[9], 0.89 for x[3]..x[8] */
	assert_int_equal(stat_summarize(v, 10, &s), 0);
	assert_true(s.median == 5.5 && s.low == 2 && s.high == 9);
}

TEST(u_test_is_exact_for_small_samples)
{
	static const double a[] = {1, 2, 3, 4, 5}, b[] = {6, 7, 8, 9, 10}, c[] = {1, 2, 3, 4, 6};
	static const double same[] = {7, 7, 7, 7, 7};

	/* 2 of the C(10, 5) = 252 splits are as extreme */
	assert_true(fabs(stat_mann_whitney(a, 5, b, 5) - 2.0 / 252) < 1e-12);
	assert_true(fabs(stat_mann_whitney(b, 5, a, 5) - 2.0 / 252) < 1e-12);
	assert_true(stat_mann_whitney(a, 5, c, 5) > 0.8);
	assert_true(stat_mann_whitney(same, 5, same, 5) == 1);
}

/* Counts every split by brute force, with ties. */
static double brute_p(const double *v, unsigned n, unsigned na)
{
	double mean = na * (n + 1) / 2.0, seen = 0, far = 0, all = 0;

	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned m = 0; m < 1u << n; m++) {
			double sum = 0;

			if (__builtin_popcount(m) != (int)na)
				continue;
			for (unsigned i = 0; i < n; i++)
				for (unsigned j = 0; m >> i & 1 && j < n; j++)
					sum += v[j] < v[i] ? 1 : v[j] > v[i] ? 0 : i == j ? 1 : 0.5;
			if (pass == 0 && m == (1u << na) - 1)
				seen = fabs(sum - mean);
			all += pass;
			far += pass && fabs(sum - mean) >= seen - 1e-9;
		}
	return far / all;
}

TEST(u_test_agrees_with_brute_force_under_ties)
{
	uint64_t s = test_seed();

	for (int round = 0; round < 40; round++) {
		unsigned na = 2 + (unsigned)(test_rand(&s) % 4),
			 n = na + 2 + (unsigned)(test_rand(&s) % 4);
		double v[10];

		for (unsigned i = 0; i < n; i++)
			v[i] = (double)(test_rand(&s) % 6);
		assert_true(
			fabs(stat_mann_whitney(v, na, v + na, n - na) - brute_p(v, n, na)) < 1e-9);
	}
}

TEST(u_test_of_many_samples_is_near_the_exact_one)
{
	double a[40], b[40], exact, normal;

	for (int i = 0; i < 40; i++) {
		a[i] = i * 7 % 40;
		b[i] = i * 7 % 40 + 9.5;
	}
	exact = stat_mann_whitney(a, 30, b, 30);
	normal = stat_mann_whitney(a, 31, b, 31);
	assert_true(exact > 0 && exact < 0.05 && normal < exact && normal > exact / 3);
}

/* ---- the file ---- */

TEST(a_file_survives_the_round_trip)
{
	struct results *r = small(), *q;
	struct err e = {0};
	char path[4096];
	json_t *a, *b;

	assert_int_equal(results_write(r, test_dir(), path, sizeof(path), &e), 0);
	assert_string_equal(strrchr(path, '/'), "/20261122T170000Z-d0a712d.json");
	assert_int_equal(results_read(path, &q, &e), 0);
	a = results_encode(r);
	b = results_encode(q);
	assert_true(json_equal(a, b));
	assert_int_equal(q->nfigures, 3);
	assert_true(results_find(q, "fio.randwrite.4k.qd32.lsvd.iops")->sum.median == 100000);
	assert_true(results_find(q, "fio.read.4k.qd1.ratio_raw")->sum.median == 1.625);
	assert_string_equal(results_find(q, "boot.original.0.5ms.gets")->unit, "count");
	assert_true(results_exact(results_find(q, "boot.original.0.5ms.gets")));
	assert_false(results_exact(results_find(q, "fio.read.4k.qd1.ratio_raw")));
	assert_int_equal(q->ncurves, 1);
	assert_int_equal(results_find_curve(q, "pressure.slow.iops")->n, 3);
	assert_true(results_find_curve(q, "pressure.slow.iops")->y[1] == 3333.25);
	assert_null(results_find_curve(q, "pressure.stop.iops"));
	assert_int_equal(q->time_s, 1795366800);
	assert_string_equal(json_string_value(json_object_get(q->versions, "fio")), "3.33");

	assert_int_equal(results_write(r, test_dir(), NULL, 0, &e), -EEXIST);
	r->dirty = true;
	assert_int_equal(results_write(r, test_dir(), path, sizeof(path), &e), 0);
	assert_string_equal(strrchr(path, '/'), "/20261122T170000Z-d0a712d-dirty.json");
	json_decref(a);
	json_decref(b);
	results_free(r);
	results_free(q);
}

TEST(add_refuses_what_makes_no_figure)
{
	static const double ok[] = {1}, nan_[] = {1, NAN}, inf[] = {INFINITY};
	static const char *const names[] = {"", ".a", "a.", "a..b", "Fio.x", "a b", "a-b", "a/b"};
	struct results *r = small();
	struct err e = {0};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(
			results_add(r, names[i], "u", RESULTS_NONE, ok, 1, NULL, &e), -EINVAL);
	assert_int_equal(results_add(r, "x", "u", RESULTS_NONE, ok, 0, NULL, &e), -EINVAL);
	assert_int_equal(results_add(r, "x", "u", RESULTS_NONE, inf, 1, NULL, &e), -EINVAL);
	assert_int_equal(results_add(r, "x", "u", RESULTS_NONE, nan_, 2, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "'x': sample 1 is not a finite number"));
	assert_int_equal(results_add(r, "x", "", RESULTS_NONE, ok, 1, NULL, &e), -EINVAL);
	assert_int_equal(
		results_add(r, "x", "u", RESULTS_NONE, ok, 1, json_integer(1), &e), -EINVAL);
	assert_int_equal(
		results_add(r, "boot.original.0.5ms.gets", "u", RESULTS_NONE, ok, 1, NULL, &e),
		-EINVAL);
	assert_non_null(strstr(e.msg, "added already"));
	assert_int_equal(results_add_known(r, "fio.x.unheard_of", ok, 1, NULL, &e), -EINVAL);
	assert_int_equal(r->nfigures, 3);
	results_free(r);
}

TEST(add_refuses_what_makes_no_curve)
{
	static const double up[] = {1, 2, 2}, back[] = {1, 3, 2}, inf[] = {1, INFINITY, 2};
	struct results *r = small();
	struct err e = {0};

	assert_int_equal(results_add_curve(r, "C", "s", "u", up, up, 3, NULL, &e), -EINVAL);
	assert_int_equal(results_add_curve(r, "c", "s s", "u", up, up, 3, NULL, &e), -EINVAL);
	assert_int_equal(results_add_curve(r, "c", "s", "u", up, up, 0, NULL, &e), -EINVAL);
	assert_int_equal(results_add_curve(r, "c", "s", "u", up, inf, 3, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "'c' has a point that is not finite"));
	assert_int_equal(results_add_curve(r, "c", "s", "u", back, up, 3, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "goes back along x"));
	assert_int_equal(
		results_add_curve(r, "c", "s", "u", up, up, 3, json_integer(1), &e), -EINVAL);
	assert_int_equal(
		results_add_curve(r, "pressure.slow.iops", "s", "u", up, up, 3, NULL, &e), -EINVAL);
	assert_int_equal(r->ncurves, 1);
	assert_int_equal(results_add_curve(r, "c", "s", "u", up, back, 3, NULL, &e), 0);
	results_remove_curve(r, "pressure.slow.iops");
	results_remove_curve(r, "pressure.slow.iops");
	assert_int_equal(r->ncurves, 1);
	assert_non_null(results_find_curve(r, "c"));
	results_free(r);
}

TEST(write_refuses_what_reading_would)
{
	struct results *r = small();
	struct err e = {0};

	r->commit[0] = 'x';
	assert_int_equal(results_write(r, test_dir(), NULL, 0, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "commit: "));
	r->commit[0] = 'd';
	r->machine.cores = 0;
	assert_int_equal(results_write(r, test_dir(), NULL, 0, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "machine.cores: must be above 0"));
	results_free(r);
}

/* Replaces `from` by `to` in the text of a good file; the reader must refuse with `code` and `why`.
 */
static const struct refusal {
	const char *from, *to;
	int code;
	const char *why;
} refusals[] = {
	{"\"schema\": 1", "\"schema\": 2", -EPROTO, "schema: version 2"},
	{"\"schema\": 1", "\"schema\": \"1\"", -EUCLEAN, "schema: must be an integer, is a string"},
	{"\"profile\"", "\"profil\"", -EUCLEAN, ": profil: unknown key"},
	{"\"dirty\": false,", "", -EUCLEAN, ": dirty: missing"},
	{"\"dirty\": false", "\"dirty\": 0", -EUCLEAN, "dirty: must be true or false, is a number"},
	{"\"quick\"", "\"slow\"", -EUCLEAN, "profile: 'slow' is not quick or full"},
	{"T17:00:00Z", "T17:00:00", -EUCLEAN, "time: "},
	{"-11-22T", "-02-30T", -EUCLEAN, "time: "},
	{"\"d0a712d", "\"D0a712d", -EUCLEAN, "commit: "},
	{"\"d0a712d0123456789abcdef0123456789abcdef0\"", "\"d0a7\"", -EUCLEAN, "7 to 40 hex"},
	{"\"cores\": 2", "\"cores\": -2", -EUCLEAN, "machine.cores: must be above 0, is -2"},
	{"\"cores\": 2", "\"cores\": 2.5", -EUCLEAN, "machine.cores: must be an integer"},
	{"\"kernel\": \"6.1\"", "\"kernel\": \"6.1\", \"hostname\": \"x\"", -EUCLEAN,
		"machine.hostname: unknown key"},
	{"\"a disk\"", "\"\"", -EUCLEAN, "machine.disk: is empty"},
	{"\"3.33\"", "3.33", -EUCLEAN, "versions.fio: must be a string"},
	{"\"figures\": [", "\"figures\": [7, ", -EUCLEAN,
		"figures[0]: must be an object, is a number"},
	{"boot.original", "Boot.original", -EUCLEAN,
		"figures[1].name: 'Boot.original.0.5ms.gets' is not"},
	{"boot.original.0.5ms.gets", "fio.randwrite.4k.qd32.lsvd.iops", -EUCLEAN,
		"figures[1].name: 'fio.randwrite.4k.qd32.lsvd.iops' is there twice"},
	{"\"iops\"", "\"i ops\"", -EUCLEAN, "figures[0].unit: "},
	{"\"higher\"", "\"up\"", -EUCLEAN,
		"figures[0].direction: 'up' is not higher, lower or none"},
	{"90000,", "\"90000\",", -EUCLEAN, "figures[0].samples[0]: must be a number, is a string"},
	{"90000,", "null,", -EUCLEAN, "figures[0].samples[0]: must be a number, is null"},
	{"90000,", "NaN,", -EUCLEAN, ": line "},
	{"90000,", "1e999,", -EUCLEAN, "overflow"},
	{"\"median\": 100000", "\"median\": 100001", -EUCLEAN,
		"figures[0].median: is 100001, but the median of the samples is 100000"},
	{"\"low\": 90000", "\"low\": 80000", -EUCLEAN,
		"figures[0].low: interval 80000..110000, but"},
	{"\"high\": 110000", "\"high\": 110001", -EUCLEAN, "interval 90000..110001, but"},
	{"\"high\": 110000,", "", -EUCLEAN, "figures[0].high: missing"},
	{"\"unit\": \"iops\"", "\"unit\": \"iops\", \"note\": 1", -EUCLEAN,
		"figures[0].note: unknown key"},
	{"\"unit\": \"iops\"", "\"unit\": \"iops\", \"unit\": \"x\"", -EUCLEAN, "duplicate"},
	{"\"params\": {", "\"params\": [], \"x\": {", -EUCLEAN, "figures[0]."},
	{"\"curves\": [", "\"curves\": [7, ", -EUCLEAN, "curves[0]: must be an object, is a number"},
	{"\"x_unit\": \"s\"", "\"x_unit\": \"\"", -EUCLEAN, "curves[0].x_unit: is empty"},
	{"3333.25,", "", -EUCLEAN, "curves[0].y: has 2 numbers, x has 3"},
	{"3333.25,", "\"a\",", -EUCLEAN, "curves[0].y: must hold numbers, holds a string"},
	{"0.25", "0.15", -EUCLEAN, "curves[0]: curve 'pressure.slow.iops' goes back along x"},
	{"{", "[", -EUCLEAN, ": line "},
};

static void spit(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static char *replaced(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *out = malloc(strlen(text) + strlen(to) + 1);

	assert_non_null(at);
	sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	return out;
}

TEST(reading_refuses_each_violation_by_name)
{
	struct results *r = small(), *q;
	json_t *root = results_encode(r);
	char *text = json_dumps(root, JSON_INDENT(1)), path[4096];

	snprintf(path, sizeof(path), "%s/broken.json", test_dir());
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *f = &refusals[i];
		char *broken = replaced(text, f->from, f->to);
		struct err e = {0};

		spit(path, broken);
		assert_int_equal(results_read(path, &q, &e), f->code);
		if (!strstr(e.msg, f->why) || strncmp(e.msg, path, strlen(path)))
			fail_msg("'%s' does not say '%s'", e.msg, f->why);
		free(broken);
	}
	free(text);
	json_decref(root);
	results_free(r);
}

TEST(damaged_files_are_refused_or_consistent)
{
	static const char bytes[] = "{}[]\",:.-0123456789eE\\xtfnul \n\x80\xff";
	uint64_t s = test_seed();
	struct results *r = small(), *q;
	json_t *root = results_encode(r);
	char *text = json_dumps(root, JSON_COMPACT), path[4096];
	size_t len = strlen(text);

	snprintf(path, sizeof(path), "%s/damaged.json", test_dir());
	for (int round = 0; round < 1500; round++) {
		char *copy = strdup(text);
		struct err e = {0};

		for (uint64_t k = test_rand(&s) % 3; k < 3; k++)
			copy[test_rand(&s) % len] = bytes[test_rand(&s) % (sizeof(bytes) - 1)];
		if (test_rand(&s) % 8 == 0)
			copy[test_rand(&s) % len] = 0;
		spit(path, copy);
		free(copy);
		if (results_read(path, &q, &e)) {
			assert_int_equal(strncmp(e.msg, path, strlen(path)), 0);
			continue;
		}
		for (size_t i = 0; i < q->nfigures; i++)
			assert_true(isfinite(q->figures[i].sum.median) &&
				    results_name_ok(q->figures[i].name));
		results_free(q);
	}
	free(text);
	json_decref(root);
	results_free(r);
}

TEST(numbers_print_bare)
{
	assert_string_equal(results_number(187), "187");
	assert_string_equal(results_number(0), "0");
	assert_string_equal(results_number(-0.0), "0");
	assert_string_equal(results_number(1.8), "1.8");
	assert_string_equal(results_number(0.00021), "0.00021");
	assert_string_equal(results_number(100000), "100000");
	assert_string_equal(results_number(1.0 / 3), "0.333333333333");
	assert_string_equal(results_number(123456789012345.0), "123456789012345");
	assert_string_equal(results_number(99.99999999999999), "100");
}

/* ---- compare ---- */

static struct comparison compared(enum results_direction d, const double *a, size_t na,
	const double *b, size_t nb, const char *params)
{
	struct compare_rule rule = COMPARE_RULE_DEFAULT;
	struct results *r = results_new(), *q = results_new();
	struct comparison c;

	assert_int_equal(results_add(r, "x", "u", d, a, na, json_loads(params, 0, NULL), NULL), 0);
	assert_int_equal(results_add(q, "x", "u", d, b, nb, json_loads(params, 0, NULL), NULL), 0);
	assert_int_equal(compare_figures(&r->figures[0], &q->figures[0], &rule, &c), 0);
	results_free(r);
	results_free(q);
	return c;
}

TEST(few_samples_are_judged_by_their_intervals)
{
	static const double a[] = {100, 101, 102}, up[] = {110, 111, 112}, wide[] = {101, 120, 121};
	struct comparison c = compared(RESULTS_HIGHER, a, 3, up, 3, "{}");

	assert_int_equal(c.verdict, COMPARE_BETTER);
	assert_string_equal(c.reason, "intervals do not overlap: 100..102, then 110..112");
	assert_true(fabs(c.effect - 10.0 / 101) < 1e-12 && c.p < 0);
	assert_int_equal(compared(RESULTS_HIGHER, up, 3, a, 3, "{}").verdict, COMPARE_WORSE);
	assert_int_equal(compared(RESULTS_LOWER, a, 3, up, 3, "{}").verdict, COMPARE_WORSE);
	assert_int_equal(compared(RESULTS_LOWER, up, 3, a, 3, "{}").verdict, COMPARE_BETTER);
	assert_int_equal(compared(RESULTS_NONE, a, 3, up, 3, "{}").verdict, COMPARE_CHANGED);
	c = compared(RESULTS_HIGHER, a, 3, wide, 3, "{}");
	assert_int_equal(c.verdict, COMPARE_SAME);
	assert_string_equal(c.reason, "intervals overlap: 100..102 and 101..121");
}

TEST(small_effects_are_the_same_unless_exact)
{
	static const double a[] = {1000}, b[] = {1001}, zero[] = {0};

	assert_int_equal(compared(RESULTS_LOWER, a, 1, b, 1, "{}").verdict, COMPARE_SAME);
	assert_int_equal(
		compared(RESULTS_LOWER, a, 1, b, 1, "{\"exact\": true}").verdict, COMPARE_WORSE);
	assert_int_equal(
		compared(RESULTS_LOWER, b, 1, a, 1, "{\"exact\": true}").verdict, COMPARE_BETTER);
	assert_int_equal(
		compared(RESULTS_LOWER, a, 1, a, 1, "{\"exact\": true}").verdict, COMPARE_SAME);
	assert_int_equal(compared(RESULTS_LOWER, zero, 1, a, 1, "{}").verdict, COMPARE_WORSE);
	assert_int_equal(compared(RESULTS_LOWER, zero, 1, zero, 1, "{}").verdict, COMPARE_SAME);
}

TEST(many_samples_are_judged_by_the_u_test)
{
	static const double a[] = {100, 101, 102, 103, 104}, b[] = {110, 111, 112, 113, 114};
	static const double mixed[] = {90, 101.5, 108, 112, 113};
	struct comparison c = compared(RESULTS_HIGHER, a, 5, b, 5, "{}");

	assert_int_equal(c.verdict, COMPARE_BETTER);
	assert_true(fabs(c.p - 2.0 / 252) < 1e-12);
	c = compared(RESULTS_HIGHER, a, 5, mixed, 5, "{}");
	assert_int_equal(c.verdict, COMPARE_SAME);
	assert_true(c.p > 0.01);
	assert_non_null(strstr(c.reason, "above 0.01"));
}

TEST(other_parameters_are_not_comparable)
{
	static const double v[] = {1}, w[] = {2};
	struct compare_rule rule = COMPARE_RULE_DEFAULT;
	struct results *r = results_new(), *q = results_new();
	struct comparison c;

	assert_int_equal(
		results_add(r, "x", "u", RESULTS_LOWER, v, 1, json_pack("{s:i}", "s", 1), NULL), 0);
	assert_int_equal(
		results_add(q, "x", "u", RESULTS_LOWER, w, 1, json_pack("{s:i}", "s", 2), NULL), 0);
	assert_int_equal(compare_figures(&r->figures[0], &q->figures[0], &rule, &c), 0);
	assert_int_equal(c.verdict, COMPARE_CHANGED);
	assert_non_null(strstr(c.reason, "other parameters"));
	results_free(r);
	results_free(q);
}

TEST(the_machine_is_probed)
{
	struct results *r = small();
	struct err e = {0};

	results_probe_machine(r, ".");
	r->time_s++;
	assert_true(r->machine.cores > 0 && r->machine.memory_bytes > 1 << 20);
	assert_true(r->machine.kernel[0] >= '1' && r->machine.kernel[0] <= '9');
	assert_int_equal(results_write(r, test_dir(), NULL, 0, &e), 0);
	results_free(r);
}

/* ---- the command ---- */

static char said[1 << 20]; /* stdout of the last lsvd() */

/* The child leaves no matter how without the parent's atexit handlers, which remove test_dir(). */
static void leave(int code, void *unused)
{
	(void)unused;
	fflush(NULL);
	_exit(code);
}

/* Runs `lsvd results ARGS...` in a child, since argp exits; returns its exit code. */
static int lsvd(const char *const *args)
{
	char *argv[16] = {"lsvd results"}, out[4096];
	struct cli_command *c = cli_commands;
	int argc = 1, status, fd;
	ssize_t n;
	pid_t pid;

	while (strcmp(c->name, "results"))
		c = c->next;
	for (; args[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
	snprintf(out, sizeof(out), "%s/stdout", test_dir());
	fd = open(out, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		argp_err_exit_status = CLI_USAGE;
		dup2(fd, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		on_exit(leave, NULL);
		exit(c->run(argc, argv));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	n = pread(fd, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = 0;
	close(fd);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}
#define LSVD(...) lsvd((const char *const[]){__VA_ARGS__, NULL})

/* A directory with runs 0..n-1 of the fixture. */
static const char *history(const char *name, unsigned n)
{
	static char dir[4096];

	snprintf(dir, sizeof(dir), "%s/%s", test_dir(), name);
	for (unsigned i = 0; i < n; i++) {
		struct results *r = fixture_full(i);
		struct err e = {0};

		if (results_write(r, dir, NULL, 0, &e))
			fail_msg("%s", e.msg);
		results_free(r);
	}
	return dir;
}

TEST(get_prints_the_bare_number_or_fails)
{
	const char *dir = history("get", 3);

	assert_int_equal(LSVD("get", "boot.original.0.5ms.gets", "--dir", dir), CLI_OK);
	assert_string_equal(said, "1330\n");
	assert_int_equal(LSVD("get", "import.ratio_cp", "latest", "--dir", dir), CLI_OK);
	assert_string_equal(said, "0.85\n");
	/* latest is run 2, which has no such figure; previous is run 1 */
	assert_int_equal(LSVD("get", "trace.cpu_overhead_percent", "--dir", dir), CLI_FAILED);
	assert_string_equal(said, "");
	assert_int_equal(
		LSVD("get", "trace.cpu_overhead_percent", "previous", "--dir", dir), CLI_OK);
	assert_string_equal(said, "2.4\n");
	assert_int_equal(LSVD("get", "import.ratio_cp", "07e5", "--dir", dir), CLI_OK);
	assert_int_equal(LSVD("get", "import.ratio_cp", "07e5c3a18f", "--dir", dir), CLI_OK);
	assert_int_equal(LSVD("get", "import.ratio_cp", "07e5c3a18e", "--dir", dir), CLI_FAILED);
	assert_int_equal(LSVD("get", "import.ratio_cp", "ffff", "--dir", dir), CLI_FAILED);
	assert_int_equal(LSVD("get", "import.ratio_cp", "--dir", "/nowhere"), CLI_FAILED);
	assert_int_equal(LSVD("get", "import.ratio_cp", "/nowhere/x.json"), CLI_FAILED);
	assert_int_equal(LSVD("get"), CLI_USAGE);
	assert_int_equal(LSVD("get", "a", "b", "c"), CLI_USAGE);
	assert_int_equal(LSVD("get", "--nonsense"), CLI_USAGE);
	assert_int_equal(LSVD("nonsense"), CLI_USAGE);
}

TEST(list_and_check_name_what_is_there)
{
	char path[4096], broken[4096];
	struct results *r = small();

	r->time_s += 7;
	assert_int_equal(results_write(r, test_dir(), path, sizeof(path), NULL), 0);
	assert_int_equal(LSVD("list", path), CLI_OK);
	assert_string_equal(said, "fio.randwrite.4k.qd32.lsvd.iops\nboot.original.0.5ms.gets\nfio."
				  "read.4k.qd1.ratio_raw\n");
	assert_int_equal(LSVD("check", path), CLI_OK);
	snprintf(broken, sizeof(broken), "%s/broken.json", test_dir());
	spit(broken, "{}");
	assert_int_equal(LSVD("check", broken, path), CLI_FAILED);
	assert_non_null(strstr(said, "ok, 3 figures"));
	results_free(r);
}

TEST(compare_fails_on_worse_only_when_asked)
{
	const char *dir = history("compare", 5);
	json_t *j, *sum;

	/* run 3 is faster than run 2, run 4 a little slower than run 3 */
	assert_int_equal(
		LSVD("compare", "a3c5e70", "f93d71b", "--dir", dir, "--fail-on-worse"), CLI_OK);
	assert_non_null(strstr(said, "better   boot.reorg_prefetch.20ms.gets"));
	assert_non_null(strstr(said, " 0 worse,"));
	assert_int_equal(LSVD("compare", "previous", "latest", "--dir", dir), CLI_OK);
	assert_int_equal(
		LSVD("compare", "previous", "latest", "--dir", dir, "--fail-on-worse"), CLI_FAILED);
	assert_non_null(strstr(said, "worse    boot.reorg_prefetch.20ms.outstanding_ms"));
	assert_int_equal(
		LSVD("compare", "latest", "latest", "--dir", dir, "--fail-on-worse"), CLI_OK);
	assert_non_null(strstr(said, "0 better, 0 worse, 0 changed, 622 the same"));
	assert_int_equal(LSVD("compare", "latest", "--dir", dir), CLI_USAGE);
	assert_int_equal(
		LSVD("compare", "latest", "latest", "--min-effect", "x", "--dir", dir), CLI_USAGE);

	assert_int_equal(LSVD("compare", "latest", "latest", "--dir", dir, "--json"), CLI_OK);
	j = json_loads(said, 0, NULL);
	sum = json_object_get(j, "summary");
	assert_int_equal(json_integer_value(json_object_get(sum, "same")), 622);
	assert_int_equal(json_array_size(json_object_get(j, "figures")), 622);
	json_decref(j);
}

/* ---- lines of text ---- */

static int take_lines(struct results *r, const char *text, struct err *e)
{
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	int rc;

	assert_non_null(f);
	rc = results_add_lines(r, f, "lines", e);
	fclose(f);
	return rc;
}

TEST(lines_of_text_become_figures)
{
	static const struct {
		const char *text, *why;
	} bad[] = {{"a.b s lower", "lines:1: not NAME UNIT DIRECTION VALUE"},
		{"\na.b s lower 1 2", "lines:2: not NAME UNIT DIRECTION VALUE"},
		{"a.b s less 1", "lines:1: 'less' is not higher, lower or none"},
		{"a.b s lower 1x", "lines:1: '1x' is not a number"},
		{"a.b s lower nan", "lines:1"}, {"A s lower 1", "lines:1"},
		{"a s lower 1\na ms lower 2", "lines:2: unit or direction of 'a' differ"}};
	struct results *r = results_new();
	const struct results_figure *g;
	struct err e = {""};

	assert_int_equal(take_lines(r, "# boots\nx.s s lower 3\ny count none 7\n\nx.s s lower 5\nx.s s lower 4", &e), 0);
	assert_int_equal(r->nfigures, 2);
	g = results_find(r, "x.s");
	assert_int_equal(g->n, 3);
	assert_true(g->sum.median == 4 && g->samples[1] == 5);
	assert_int_equal(results_find(r, "y")->direction, RESULTS_NONE);
	assert_int_equal(results_set_versions(r, "qemu=7.2,nbdkit=1.32", &e), 0);
	assert_int_equal(results_set_versions(r, "qemu", &e), -EINVAL);
	results_free(r);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = results_new();
		assert_int_equal(take_lines(r, bad[i].text, &e), -EINVAL);
		if (strncmp(e.msg, bad[i].why, strlen(bad[i].why)))
			fail_msg("'%s': %s", bad[i].text, e.msg);
		results_free(r);
	}
}

/* ---- targets, charts, page ---- */

TEST(targets_are_judged_on_the_median)
{
	static const double at[] = {15}, below[] = {14.9}, goal[] = {30}, two[] = {2},
			    under[] = {1.9};
	const struct target *t = target_of("ceph.randwrite.4k.qd32.ratio_rbd");
	struct results *r = results_new();

	assert_int_equal(target_judge(t, r), TARGET_NOT_MEASURED);
	assert_int_equal(results_add_known(r, t->figure, at, 1, NULL, NULL), 0);
	assert_int_equal(target_judge(t, r), TARGET_PASS);
	r->figures[0].sum.median = below[0];
	assert_int_equal(target_judge(t, r), TARGET_MISS);
	r->figures[0].sum.median = goal[0];
	assert_int_equal(target_judge(t, r), TARGET_GOAL);
	t = target_of("trace.cpu_overhead_percent");
	assert_int_equal(results_add_known(r, t->figure, two, 1, NULL, NULL), 0);
	assert_int_equal(target_judge(t, r), TARGET_MISS); /* < 2, not <= 2 */
	r->figures[1].sum.median = under[0];
	assert_int_equal(target_judge(t, r), TARGET_PASS);
	assert_null(target_of("fio.randwrite.4k.qd32.lsvd.iops"));
	results_free(r);
}

TEST(every_target_is_a_name_of_the_schema)
{
	for (const struct target *t = targets; t->figure; t++) {
		enum results_direction d;
		const char *unit;

		assert_true(results_known(t->figure, &unit, &d));
		assert_int_equal(d, t->lower ? RESULTS_LOWER : RESULTS_HIGHER);
	}
}

static char *slurp(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 22);

	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 22) - 1, f) > 0);
	fclose(f);
	return text;
}

static bool have_gnuplot(void)
{
	return !system("command -v gnuplot >/dev/null 2>&1");
}

TEST(the_report_makes_page_and_plots)
{
	static const char *const names[] = {"fio-ratios", "fio-randwrite", "fio-randread",
		"fio-write", "fio-read", "fio-randrw", "fio-tails", "pressure", "mem", "boot",
		"history"};
	static const char *const suffixes[] = {".svg", "-dark.svg", ".png", ".pdf", ".gp"};
	const char *dir = history("report", 3);
	char out[4096], path[8192], *page;
	struct stat st;

	if (!have_gnuplot())
		SKIP("gnuplot is not installed");
	snprintf(out, sizeof(out), "%s/a/page", test_dir());
	assert_int_equal(LSVD("report", "--dir", dir, "-o", out), CLI_OK);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t s = 0; s < sizeof(suffixes) / sizeof(suffixes[0]); s++) {
			snprintf(path, sizeof(path), "%s/plots/%s%s", out, names[i], suffixes[s]);
			assert_int_equal(stat(path, &st), 0);
			assert_true(st.st_size > 1000);
		}
	snprintf(path, sizeof(path), "%s/index.html", out);
	page = slurp(path);
	assert_non_null(strstr(page, "Invented CPU &lt;2 cores&gt; &amp; more"));
	assert_non_null(strstr(page, ">MISS<"));
	assert_non_null(strstr(page, ">not measured<"));
	assert_non_null(strstr(page, "src=\"plots/history.svg\""));
	assert_non_null(strstr(page, "href=\"plots/history.pdf\""));
	assert_non_null(strstr(page, "Over 3 runs the figures changed their level"));
	assert_non_null(strstr(page, "<svg class=\"trend\""));
	assert_non_null(strstr(page, "<circle class=\"good\""));
	assert_null(strstr(page, "http"));
	assert_null(strstr(page, "<script"));
	free(page);
}

TEST(a_first_run_has_a_page_without_history)
{
	char dir[4096], out[4096], path[8192], *page;
	struct results *r = small();

	if (!have_gnuplot())
		SKIP("gnuplot is not installed");
	snprintf(out, sizeof(out), "%s/b", test_dir());
	snprintf(dir, sizeof(dir), "%s/first", test_dir());
	assert_int_equal(results_write(r, dir, NULL, 0, NULL), 0);
	assert_int_equal(LSVD("report", "--dir", dir, "-o", out), CLI_OK);
	snprintf(path, sizeof(path), "%s/index.html", out);
	page = slurp(path);
	assert_non_null(strstr(page, "This is the first run"));
	assert_null(strstr(page, "plots/history.svg"));
	free(page);
	results_free(r);
}

TEST(without_gnuplot_there_is_still_a_page_and_a_reason)
{
	char out[4096], file[8192], keep[8192], *page;
	struct results *r = small();
	struct err e = {0};

	r->time_s += 9;
	assert_int_equal(results_write(r, test_dir(), file, sizeof(file), &e), 0);
	snprintf(keep, sizeof(keep), "%s", getenv("PATH"));
	snprintf(out, sizeof(out), "%s/c", test_dir());
	setenv("PATH", "/nowhere", 1);
	assert_int_equal(results_report(file, "/nowhere", out, &e), -ENOENT);
	setenv("PATH", keep, 1);
	assert_non_null(strstr(e.msg, "apt-get install gnuplot-nox"));
	snprintf(file, sizeof(file), "%s/index.html", out);
	page = slurp(file);
	assert_non_null(strstr(page, "No plot"));
	free(page);
	results_free(r);
}
