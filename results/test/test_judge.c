/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_judge.c - does the judge call noise noise, and a slowdown a slowdown?
 *
 * The series are made up as machines make them, log-normal noise of 5 % with drift and wild rounds,
 * or drawn in blocks of rounds from recorded runs; every seed is fixed, so a result is a fact about
 * the judge and not about the day.
 */
#include "cli/cli.h"
#include "results/budget.h"
#include "results/changes.h"
#include "results/compare.h"
#include "results/export.h"
#include "results/history.h"
#include "results/merge.h"
#include "results/paired.h"
#include "test/test.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

enum { TRIALS = 20, ROUNDS = 28, RUNS = 40 };

/* ---- made-up machines ---- */

/* Neighbours must not begin alike: the finaliser of SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t seed_of(unsigned n)
{
	uint64_t z = (n + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) | 1;
}

static double uniform(uint64_t *s)
{
	return ((double)(test_rand(s) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(uint64_t *s)
{
	double r = sqrt(-2 * log(uniform(s)));

	return r * cos(2 * M_PI * uniform(s));
}

/* What one side measures in a round: 5 % of noise; one round in twenty is up to three times as
 * slow. */
static double noisy(uint64_t *s, double level)
{
	double v = level * exp(0.05 * normal(s));

	return uniform(s) < 0.05 ? v / (1 + 2 * uniform(s)) : v;
}

/* A machine that drifts by 40 % in a wave, and for good by a random walk; both sides of a round see
 * it. */
static void turns(unsigned seed, double slowdown, double *a, double *b, size_t n)
{
	uint64_t s = seed_of(seed);
	double walk = 0, phase = uniform(&s) * 2 * M_PI;

	for (size_t i = 0; i < n; i++) {
		double level = 100e3 * exp(walk + 0.2 * sin(phase + (double)i / 3));

		walk += 0.03 * normal(&s);
		a[i] = noisy(&s, level);
		b[i] = noisy(&s, level * (1 - slowdown));
	}
}

static enum compare_verdict judged(const double *a, const double *b, size_t n)
{
	const struct compare_rule rule = {.min_effect = 0.02, .alpha = 0.01, .paired = true};
	struct results_figure fa = {.name = "f", .unit = "iops", .n = n}, fb = fa;
	struct comparison c;

	fa.samples = (double *)(uintptr_t)a;
	fb.samples = (double *)(uintptr_t)b;
	fa.params = fb.params = json_object();
	assert_int_equal(stat_summarize(a, n, &fa.sum), 0);
	assert_int_equal(stat_summarize(b, n, &fb.sum), 0);
	assert_int_equal(compare_figures(&fa, &fb, &rule, &c), 0);
	json_decref(fa.params);
	return c.verdict;
}

TEST(turns_of_one_program_are_no_change)
{
	double a[ROUNDS], b[ROUNDS];

	for (unsigned t = 0; t < TRIALS; t++) {
		turns(t, 0, a, b, ROUNDS);
		assert_int_equal(judged(a, b, ROUNDS), COMPARE_SAME);
	}
}

TEST(turns_show_a_slowdown_of_a_tenth)
{
	double a[ROUNDS], b[ROUNDS];
	unsigned caught = 0;

	for (unsigned t = 0; t < TRIALS; t++) {
		turns(100 + t, 0.10, a, b, ROUNDS);
		caught += judged(a, b, ROUNDS) == COMPARE_WORSE;
	}
	if (caught < 18)
		fail_msg("%u of %d", caught, TRIALS);
}

/* Far more runs than the 20 of the rule: how often does the judge cry wolf? */
TEST(false_alarms_are_as_rare_as_alpha_says)
{
	double a[ROUNDS], b[ROUNDS];
	unsigned wrong = 0;

	for (unsigned t = 0; t < 2000; t++) {
		turns(1000 + t, 0, a, b, ROUNDS);
		wrong += judged(a, b, ROUNDS) != COMPARE_SAME;
	}
	/* 2000 * 0.01 expected at most; 33 is three standard deviations above */
	if (wrong > 33)
		fail_msg("%u of 2000", wrong);
}

/* ---- recorded runs ---- */

/* The recorded rounds of all noisy figures, each divided by its figure's median: what this kind of
 * machine does to a measurement.  Figures one after another, rounds in order. */
struct recorded {
	double *v;
	size_t n;
};

static void record_figure(struct recorded *rec, const struct results_figure *f)
{
	const char *dot = strrchr(f->name, '.');

	if (results_exact(f) || f->n < 3 || !dot || strcmp(dot, ".iops") || !(f->sum.low > 0))
		return;
	rec->v = realloc(rec->v, (rec->n + f->n) * sizeof(*rec->v));
	assert_non_null(rec->v);
	for (size_t i = 0; i < f->n; i++)
		rec->v[rec->n++] = f->samples[i] / f->sum.median;
}

/* By name: a run that somebody adds must not change what these tests are about. */
static struct recorded recorded_rounds(void)
{
	static const char *const files[] = {"results/data/20261122T193235Z-24937d2.json",
		"results/data/20261122T224113Z-813b057.json"};
	struct recorded rec = {0};
	struct err e = {0};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct results *r;

		if (results_read(files[i], &r, &e))
			fail_msg("%s", e.msg);
		for (size_t k = 0; k < r->nfigures; k++)
			record_figure(&rec, &r->figures[k]);
		results_free(r);
	}
	return rec;
}

/* Block bootstrap (Kuensch 1989): blocks of 3 rounds in their order, so that what lasts longer than
 * a round stays together. */
static void resample(const struct recorded *rec, uint64_t *s, double level, double *out, size_t n)
{
	for (size_t i = 0; i < n; i += 3) {
		size_t at = test_rand(s) % (rec->n - 2);

		for (size_t k = 0; k < 3 && i + k < n; k++)
			out[i + k] = level * rec->v[at + k];
	}
}

/* The recorded runs were made on a busy machine: one round in nine is off by a third or more. */
enum { RECORDED_ROUNDS = 80, RECORDED_EACH = 9 };

TEST(recorded_rounds_of_one_program_are_no_change)
{
	struct recorded rec = recorded_rounds();
	double a[RECORDED_ROUNDS], b[RECORDED_ROUNDS];

	assert_true(rec.n > 100);
	for (unsigned t = 0; t < TRIALS; t++) {
		uint64_t s = seed_of(7000 + t);

		resample(&rec, &s, 1e5, a, RECORDED_ROUNDS);
		resample(&rec, &s, 1e5, b, RECORDED_ROUNDS);
		assert_int_equal(judged(a, b, RECORDED_ROUNDS), COMPARE_SAME);
	}
	free(rec.v);
}

TEST(recorded_rounds_show_a_slowdown_of_a_tenth)
{
	struct recorded rec = recorded_rounds();
	double a[RECORDED_ROUNDS], b[RECORDED_ROUNDS];
	unsigned caught = 0;

	for (unsigned t = 0; t < TRIALS; t++) {
		uint64_t s = seed_of(8000 + t);

		resample(&rec, &s, 1e5, a, RECORDED_ROUNDS);
		resample(&rec, &s, 0.9e5, b, RECORDED_ROUNDS);
		caught += judged(a, b, RECORDED_ROUNDS) == COMPARE_WORSE;
	}
	free(rec.v);
	if (caught < 18)
		fail_msg("%u of %d", caught, TRIALS);
}

/* ---- the paired estimate ---- */

TEST(the_signed_rank_interval_is_that_of_the_book)
{
	/* Hollander and Wolfe, 3.1: the depression scale of 9 patients before and after; 3.2 gives
	 * the estimate -0.46 and 3.3 the interval of confidence 0.961, (-0.786, -0.010). */
	static const double x[] = {1.83, .50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30},
			    y[] = {.878, .647, .598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};
	double a[9], b[9];
	struct paired p;

	for (int i = 0; i < 9; i++) {
		a[i] = x[i] - 10; /* not positive: differences are taken */
		b[i] = y[i] - 10;
	}
	assert_int_equal(paired_estimate(a, b, 9, 0.04, &p), 0);
	assert_true(p.differences);
	assert_true(fabs(p.estimate - -0.46) < 1e-9);
	assert_true(fabs(p.confidence - 0.961) < 5e-4);
	assert_true(fabs(p.low - -0.786) < 1e-9);
	assert_true(fabs(p.high - -0.010) < 1e-9);
}

TEST(too_few_rounds_say_so)
{
	static const double a[] = {1, 1, 1, 1, 1, 1, 1, 1}, b[] = {2, 2, 2, 2, 2, 2, 2, 2};
	struct paired p;

	assert_int_equal(paired_least_rounds(0.01), 8);
	assert_int_equal(paired_least_rounds(0.05), 6);
	assert_int_equal(paired_estimate(a, b, 7, 0.01, &p), 0);
	assert_true(p.confidence == 0 && fabs(p.estimate - 2) < 1e-12);
	assert_int_equal(judged(a, b, 7), COMPARE_UNDECIDED);
	assert_int_equal(judged(a, b, 8), COMPARE_BETTER);
	assert_int_equal(judged(b, a, 8), COMPARE_WORSE);
	assert_int_equal(judged(a, a, 8), COMPARE_SAME);
}

TEST(many_rounds_agree_with_the_exact_rule)
{
	double a[201], b[201];
	struct paired exact, near;
	uint64_t s = 5;

	for (int i = 0; i < 201; i++) {
		a[i] = 1;
		b[i] = exp(0.01 * normal(&s));
	}
	assert_int_equal(paired_estimate(a, b, 200, 0.01, &exact), 0);
	assert_int_equal(paired_estimate(a, b, 201, 0.01, &near), 0);
	assert_true(exact.confidence >= 0.99 && exact.confidence < 0.9905);
	assert_true(near.confidence >= 0.99 && near.confidence < 0.9905);
	assert_true(fabs(near.low - exact.low) < 2e-4 && fabs(near.high - exact.high) < 2e-4);
	assert_int_equal(paired_estimate(a, b, PAIRED_ROUNDS_MAX + 1, 0.01, &near), -E2BIG);
}

/* ---- change points ---- */

/* A ratio to the raw disk over RUNS runs, each a median of 5 rounds with both sides in the
 * machine's drift. */
static void ratios(unsigned seed, double slowdown, size_t at, double *v)
{
	double a[5], b[5];

	for (size_t i = 0; i < RUNS; i++) {
		struct stat_summary sum;

		turns(seed * RUNS + (unsigned)i, i >= at ? slowdown : 0, a, b, 5);
		for (int k = 0; k < 5; k++)
			b[k] /= a[k];
		assert_int_equal(stat_summarize(b, 5, &sum), 0);
		v[i] = sum.median;
	}
}

static const struct change_rule change_rule = CHANGE_RULE_DEFAULT;

TEST(a_history_of_one_level_has_no_change_points)
{
	struct change c[RUNS];
	double v[RUNS];

	for (unsigned t = 0; t < TRIALS; t++) {
		ratios(300 + t, 0, 0, v);
		assert_int_equal(changes_find(v, RUNS, false, &change_rule, c), 0);
	}
}

TEST(false_change_points_are_as_rare_as_alpha_says)
{
	struct change c[RUNS];
	unsigned wrong = 0;
	double v[RUNS];

	for (unsigned t = 0; t < 400; t++) {
		ratios(3000 + t, 0, 0, v);
		wrong += changes_find(v, RUNS, false, &change_rule, c) != 0;
	}
	/* 400 * 0.005 expected at most; 7 is three standard deviations above */
	if (wrong > 7)
		fail_msg("%u of 400", wrong);
}

TEST(a_history_shows_a_slowdown_of_a_tenth_at_its_commit)
{
	unsigned caught = 0;
	struct change c[RUNS];
	double v[RUNS];

	for (unsigned t = 0; t < TRIALS; t++) {
		size_t at = 6 + t * 3 / 2;

		ratios(500 + t, 0.10, at, v);
		if (changes_find(v, RUNS, false, &change_rule, c) == 1 && c[0].at + 4 >= at &&
			c[0].at <= at + 4 && c[0].effect < -0.05)
			caught++;
	}
	if (caught < 18)
		fail_msg("%u of %d", caught, TRIALS);
}

TEST(recorded_histories_are_judged_alike)
{
	struct recorded rec = recorded_rounds();
	double a[RECORDED_EACH], b[RECORDED_EACH], v[RUNS];
	struct change c[RUNS];
	unsigned wrong = 0, caught = 0;

	for (unsigned t = 0; t < 2 * TRIALS; t++) {
		uint64_t s = seed_of(900 + t);

		for (size_t i = 0; i < RUNS; i++) {
			struct stat_summary sum;

			resample(&rec, &s, 1, a, RECORDED_EACH);
			resample(
				&rec, &s, t >= TRIALS && i >= RUNS / 2 ? 0.9 : 1, b, RECORDED_EACH);
			for (int k = 0; k < RECORDED_EACH; k++)
				b[k] /= a[k];
			assert_int_equal(stat_summarize(b, RECORDED_EACH, &sum), 0);
			v[i] = sum.median;
		}
		if (t < TRIALS)
			wrong += changes_find(v, RUNS, false, &change_rule, c) != 0;
		else
			caught += changes_find(v, RUNS, false, &change_rule, c) > 0 &&
				  c[0].effect < -0.05;
	}
	free(rec.v);
	if (wrong || caught < 18)
		fail_msg("wrong %u, caught %u of %d", wrong, caught, TRIALS);
}

TEST(change_points_of_two_steps_and_of_exact_figures)
{
	static const double steps[] = {10, 10.1, 9.9, 10, 10.2, 9.8, 12, 12.1, 11.9, 12, 12.1, 11.9,
		8, 8.1, 7.9, 8, 8.1, 7.9},
			    exact[] = {187, 187, 188, 188, 187},
			    wild[] = {5, 5.1, 4.9, 5, 50, 5.1, 5, 4.9, 5, 5.1},
			    none[] = {0, 0, 0, 0, 0, 0, 0, 0};
	struct change c[18];

	assert_int_equal(changes_find(steps, 18, false, &change_rule, c), 2);
	assert_int_equal(c[0].at, 6);
	assert_int_equal(c[1].at, 12);
	assert_true(fabs(c[0].effect - 0.2) < 1e-9);
	assert_true(fabs(c[1].effect - -1.0 / 3) < 1e-9);
	assert_int_equal(changes_find(exact, 5, true, &change_rule, c), 2);
	assert_int_equal(c[0].at, 2);
	assert_true(c[0].from == 187 && c[0].to == 188 && c[1].to == 187);
	assert_int_equal(changes_find(wild, 10, false, &change_rule, c), 0);
	assert_int_equal(changes_find(none, 8, false, &change_rule, c), 0);
	assert_int_equal(changes_find(steps, 5, false, &change_rule, c), 0);
	assert_int_equal(
		changes_find(steps, CHANGES_VALUES_MAX + 1, false, &change_rule, c), -E2BIG);
}

TEST(a_change_too_small_to_matter_is_taken_back)
{
	struct change_rule rule = CHANGE_RULE_DEFAULT;
	double v[20];
	struct change c[20];

	for (int i = 0; i < 20; i++)
		v[i] = (i < 10 ? 100 : 101) + 0.01 * (i % 3);
	assert_int_equal(changes_find(v, 20, false, &rule, c), 0);
	rule.min_effect = 0.005;
	assert_int_equal(changes_find(v, 20, false, &rule, c), 1);
	assert_int_equal(c[0].at, 10);
}

/* ---- runs ---- */

static struct results *run_of(const char *commit, int64_t time_s, double iops, double gets)
{
	double samples[2] = {iops, iops * 1.01};
	struct results *r = results_new();
	struct err e = {0};

	assert_non_null(r);
	snprintf(r->commit, sizeof(r->commit), "%s", commit);
	r->time_s = time_s;
	r->machine = (struct results_machine){.cpu = "a cpu",
		.cores = 2,
		.memory_bytes = 8ll << 30,
		.kernel = "6.1",
		.disk = "a disk",
		.filesystem = "ext4"};
	assert_int_equal(results_set_version(r, "fio", "3.33", &e), 0);
	assert_int_equal(
		results_add(r, "x.iops", "MiB/s", RESULTS_HIGHER, samples, 2, NULL, &e), 0);
	assert_int_equal(results_add(r, "x.gets", "count", RESULTS_LOWER, &gets, 1,
				 json_pack("{s:b}", "exact", 1), &e),
		0);
	assert_int_equal(results_add(r, "x.raw", "iops", RESULTS_NONE, &gets, 1, NULL, &e), 0);
	return r;
}

TEST(merging_appends_the_rounds)
{
	struct results *a = run_of("d0a712d", 1000, 5, 7), *b = run_of("d0a712d", 2000, 6, 7);
	const struct results_figure *f;
	struct err e = {0};

	assert_int_equal(results_merge(a, b, "b.json", &e), 0);
	f = results_find(a, "x.iops");
	assert_int_equal(f->n, 4);
	assert_true(f->samples[0] == 5 && f->samples[2] == 6 && f->sum.high > 6);
	assert_int_equal(results_find(a, "x.gets")->n, 2);
	assert_int_equal(a->time_s, 1000);
	results_free(a);
	results_free(b);
}

/* They are of the last round only. */
TEST(merging_keeps_the_later_curves)
{
	static const double x[] = {1, 2}, first[] = {5, 6}, later[] = {7, 8};
	struct results *a = run_of("d0a712d", 1000, 5, 7), *b = run_of("d0a712d", 2000, 6, 7);
	struct err e = {0};

	assert_int_equal(results_add_curve(a, "c", "s", "iops", x, first, 2, NULL, &e), 0);
	assert_int_equal(results_add_curve(a, "old", "s", "iops", x, first, 2, NULL, &e), 0);
	assert_int_equal(results_add_curve(b, "c", "s", "iops", x, later, 2, NULL, &e), 0);
	assert_int_equal(results_merge(a, b, "b.json", &e), 0);
	assert_int_equal(a->ncurves, 2);
	assert_true(results_find_curve(a, "c")->y[1] == 8);
	assert_true(results_find_curve(a, "old")->y[1] == 6);
	results_free(a);
	results_free(b);
}

TEST(a_file_that_is_one_round_counts_once)
{
	struct results *a = run_of("d0a712d", 1000, 5, 7), *b = run_of("d0a712d", 2000, 6, 7);
	const struct results_figure *f;
	struct err e = {0};

	results_collapse(a);
	results_collapse(b);
	assert_int_equal(results_merge(a, b, "b.json", &e), 0);
	f = results_find(a, "x.iops");
	assert_int_equal(f->n, 2);
	assert_true(fabs(f->samples[0] - 5.025) < 1e-9 && fabs(f->samples[1] - 6.03) < 1e-9);
	assert_int_equal(results_write(a, test_dir(), NULL, 0, &e), 0);
	results_free(a);
	results_free(b);
}

static void refused(struct results *b, const char *why)
{
	struct results *a = run_of("d0a712d", 1000, 5, 7);
	struct err e = {0};

	assert_int_equal(results_merge(a, b, "b.json", &e), -EINVAL);
	if (!strstr(e.msg, why))
		fail_msg("'%s' is not in '%s'", why, e.msg);
	assert_int_equal(results_find(a, "x.iops")->n, 2);
	results_free(a);
	results_free(b);
}

TEST(merging_refuses_what_differs)
{
	struct results *b = run_of("d0a712e", 2000, 6, 7);
	double v = 1;

	refused(b, "b.json: is of commit d0a712e, not d0a712d");
	b = run_of("d0a712d", 2000, 6, 7);
	b->dirty = true;
	refused(b, "d0a712d with changes");
	b = run_of("d0a712d", 2000, 6, 7);
	b->profile = RESULTS_FULL;
	refused(b, "has profile full, not quick");
	b = run_of("d0a712d", 2000, 6, 7);
	b->machine.cores = 4;
	refused(b, "another machine");
	b = run_of("d0a712d", 2000, 6, 7);
	assert_int_equal(results_set_version(b, "fio", "3.34", NULL), 0);
	refused(b, "other versions");
	b = run_of("d0a712d", 2000, 6, 7);
	json_object_set_new(b->figures[0].params, "runtime_s", json_integer(5));
	refused(b, "'x.iops' was measured with other parameters");
	b = run_of("d0a712d", 2000, 6, 7);
	assert_int_equal(results_add(b, "y", "s", RESULTS_LOWER, &v, 1, NULL, NULL), 0);
	refused(b, "only this one has 'y'");
	b = run_of("d0a712d", 2000, 6, 7);
	snprintf(b->figures[2].name, sizeof(b->figures[2].name), "x.iops");
	refused(b, "lacks 'x.raw'");
}

static void put_run(const char *dir, const char *commit, int64_t time_s, double iops, double gets)
{
	struct results *r = run_of(commit, time_s, iops, gets);
	struct err e = {0};

	if (results_write(r, dir, NULL, 0, &e))
		fail_msg("%s", e.msg);
	results_free(r);
}

/* Runs of 20 commits, abc0010 to abc0029; from the eleventh on half the IOPS, the last has one GET
 * more. */
static void twenty_runs(const char *dir)
{
	for (unsigned i = 0; i < 20; i++) {
		char commit[16];

		snprintf(commit, sizeof(commit), "abc00%u", 10 + i);
		put_run(dir, commit, 1795366800 + 60 * i, i < 10 ? 100 + i % 2 : 50 + i % 2,
			i < 19 ? 187 : 188);
	}
}

static int in_order(struct history *h, const char *list, struct err *e)
{
	FILE *f = fmemopen((void *)(uintptr_t)list, strlen(list), "r");
	int rc;

	assert_non_null(f);
	rc = history_order(h, f, "list", e);
	fclose(f);
	return rc;
}

TEST(history_finds_the_commit_in_either_order)
{
	char dir[4096], list[400] = "";
	struct results *last = run_of("abc000a", 1795400000, 50, 188);
	struct history h;
	struct series s;
	struct err e = {0};

	snprintf(dir, sizeof(dir), "%s/history", test_dir());
	twenty_runs(dir);
	assert_int_equal(history_load(dir, last, &h, &e), 0);
	assert_int_equal(h.n, 21);
	assert_int_equal(history_series(&h, "x.iops", &change_rule, &s, &e), 0);
	assert_int_equal(s.nchanges, 1);
	assert_string_equal(h.runs[s.run[s.changes[0].at]]->commit, "abc0020");
	assert_string_equal(change_verdict(s.figure, &s.changes[0]), "worse");
	series_free(&s);
	assert_int_equal(history_series(&h, "x.gets", &change_rule, &s, &e), 0);
	assert_int_equal(s.nchanges, 1);
	assert_int_equal(s.changes[0].at, 19);
	series_free(&s);
	assert_int_equal(history_series(&h, "nothing", &change_rule, &s, &e), -ENOENT);
	series_free(&s);

	/* Backwards, without two: what was last is left out, and stays the caller's. */
	for (int i = 28; i >= 10; i--)
		sprintf(list + strlen(list), "abc00%d\n", i);
	assert_int_equal(in_order(&h, list, &e), 0);
	assert_int_equal(h.n, 19);
	assert_int_equal(h.others, 2);
	assert_int_equal(history_series(&h, "x.iops", &change_rule, &s, &e), 0);
	assert_int_equal(s.nchanges, 1);
	assert_string_equal(h.runs[s.run[s.changes[0].at]]->commit, "abc0019");
	series_free(&s);
	assert_int_equal(in_order(&h, "fffffff\n", &e), -EINVAL);
	history_free(&h);
	results_free(last);
}

TEST(history_refuses_a_list_of_something_else)
{
	struct results *last = run_of("abc000a", 1795400000, 50, 188);
	struct history h;
	struct err e = {0};

	assert_int_equal(history_load("/nowhere", last, &h, &e), 0);
	assert_int_equal(h.n, 1);
	assert_int_equal(in_order(&h, "abc000a\nHEAD~1\n", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "list:2: 'HEAD~1' is not a commit's hash"));
	history_free(&h);
	results_free(last);
}

/* ---- budgets and exports ---- */

static const char *budget_file(const char *text)
{
	static char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/budget.json", test_dir());
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

TEST(budgets_are_kept_or_not)
{
	struct results *r = run_of("d0a712d", 1000, 5, 100);
	struct budget b;
	struct err e = {0};

	assert_int_equal(
		budget_read(budget_file("{\"x.gets\":{\"most\":99,\"tolerance_percent\":1},"
					"\"x.raw\":{\"most\":98.5,\"tolerance_percent\":2},"
					"\"x.iops\":{\"most\":50,\"tolerance_percent\":0},"
					"\"y\":{\"most\":1,\"tolerance_percent\":0}}"),
			&b, &e),
		0);
	assert_int_equal(b.n, 4);
	assert_int_equal(budget_judge(&b.lines[0], r), BUDGET_OVER); /* 99.99 */
	assert_int_equal(budget_judge(&b.lines[1], r), BUDGET_KEPT); /* 100.47 */
	assert_int_equal(budget_judge(&b.lines[2], r), BUDGET_SLACK);
	assert_int_equal(budget_judge(&b.lines[3], r), BUDGET_NOT_MEASURED);
	budget_free(&b);
	results_free(r);
}

TEST(budgets_that_are_none_are_refused)
{
	static const char *const bad[] = {"[]", "{}", "{\"x\":1}", "{\"x\":{\"most\":1}}",
		"{\"X Y\":{\"most\":1,\"tolerance_percent\":1}}",
		"{\"x\":{\"most\":1,\"tolerance_percent\":101}}",
		"{\"x\":{\"most\":1,\"tolerance_percent\":1,\"more\":1}}", "{"};
	struct budget b;
	struct err e = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(budget_read(budget_file(bad[i]), &b, &e), -EUCLEAN);
		budget_free(&b);
	}
	assert_int_equal(budget_read("/nowhere/x", &b, &e), -ENOENT);
}

TEST(exports_have_the_fields_of_their_services)
{
	struct results *r = run_of("d0a712d", 1000, 5, 7);
	json_t *j = export_github(r, RESULTS_HIGHER), *x = json_array_get(j, 0);

	assert_int_equal(json_array_size(j), 1);
	assert_string_equal(json_string_value(json_object_get(x, "name")), "x.iops");
	assert_string_equal(json_string_value(json_object_get(x, "unit")), "MiB/s");
	assert_true(json_number_value(json_object_get(x, "value")) == 5.025);
	assert_string_equal(json_string_value(json_object_get(x, "range")), "5 .. 5.05");
	assert_non_null(strstr(json_string_value(json_object_get(x, "extra")), "d0a712d"));
	json_decref(j);
	j = export_github(r, RESULTS_LOWER);
	assert_int_equal(json_array_size(j), 1);
	json_decref(j);
	j = export_bencher(r);
	assert_int_equal(json_object_size(j), 2);
	x = json_object_get(json_object_get(j, "x.iops"), "mib-s");
	assert_true(json_number_value(json_object_get(x, "value")) == 5.025);
	assert_true(json_number_value(json_object_get(x, "lower_value")) == 5);
	assert_true(json_number_value(json_object_get(x, "upper_value")) == 5.05);
	json_decref(j);
	results_free(r);
}
