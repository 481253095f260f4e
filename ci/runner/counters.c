/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * counters.c - what a request costs, in counts that hardly vary: they can gate where times cannot.
 *
 * A fixed number of requests on a memory pool and store (driver.c, `count`), counted by the library
 * and, for instructions, by callgrind.  `write` and `read` are without garbage collection, and the
 * same in every run but for one instruction in some thousand; `overwrite` writes a small region
 * four times over, so that collection, which takes what is garbage at the moment, moves its figures
 * by some percent. `lsvd results gate` holds them to ci/counters.json.
 */
#include "ci/runner/bench.h"
#include "ci/runner/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct work {
	const char *name, *op, *region_mib, *warm, *ios, *gc;
	bool instructions;
};

static const struct work works[] = {{"write", "write", "32", "8192", "8192", "false", true},
	{"read", "read", "32", "8192", "8192", "false", true},
	{"overwrite", "write", "16", "16384", "16384", "true", false}};

static json_t *params_of(const struct work *w)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "region_mib", w->region_mib, "warm_ios", w->warm,
		"ios", w->ios, "gc", w->gc);
}

static void record(
	struct bench *b, const struct work *w, const char *what, const char *unit, double value)
{
	char name[RESULTS_NAME_MAX + 1];

	snprintf(name, sizeof(name), "counters.%s.4k.%s", w->name, what);
	sample_as(b, name, unit, RESULTS_LOWER, value, params_of(w));
}

/* Runs `argv`, whose standard output is one JSON object. */
static int run_json(struct bench *b, const char *const *argv, json_t **out, struct err *e)
{
	char file[BENCH_PATH + 16], log[BENCH_PATH + 16];
	struct child c = {
		.argv = argv, .cwd = b->dir, .out = file, .log = log, .cpu = -1, .limit_s = 300};
	json_error_t why;
	int rc;

	snprintf(file, sizeof(file), "%s/counts.json", b->dir);
	snprintf(log, sizeof(log), "%s/counts.log", b->dir);
	rc = child_run(&c, e);
	if (rc)
		return rc;
	*out = json_load_file(file, 0, &why);
	return *out ? 0 : err_set(e, -EUCLEAN, "the driver's output: %s", why.text);
}

static double of(const json_t *counts, const char *key)
{
	return json_number_value(json_object_get(counts, key));
}

static void record_counts(struct bench *b, const struct work *w, const json_t *c)
{
	double ios = of(c, "ios"), written = of(c, "written_bytes");

	record(b, w, "syscalls_per_io", "count", of(c, "syscalls") / ios);
	record(b, w, "allocs_per_io", "count", of(c, "allocs") / ios);
	record(b, w, "gets", "count", of(c, "gets"));
	if (!(written > 0))
		return;
	record(b, w, "puts", "count", of(c, "puts"));
	record(b, w, "store_bytes_per_byte", "ratio", of(c, "put_bytes") / written);
	record(b, w, "journal_bytes_per_byte", "ratio", of(c, "journal_bytes") / written);
}

/* What callgrind's file says in its line `totals: N`. */
static int read_totals(const char *file, double *out, struct err *e)
{
	char *text = file_text(file, NULL), *at = text ? strstr(text, "\ntotals:") : NULL;

	if (at)
		*out = strtod(at + 8, NULL);
	free(text);
	return at && *out > 0 ? 0 : err_set(e, -EUCLEAN, "%s: callgrind counted nothing", file);
}

static int count_instructions(struct bench *b, const struct work *w, double *per_io, struct err *e)
{
	char file[BENCH_PATH + 32], option[BENCH_PATH + 64], self[BENCH_PATH + 16];
	const char *argv[] = {"valgrind", "-q", "--tool=callgrind", "--fair-sched=yes", option,
		"--toggle-collect=driver_counted", self, "count", w->op, w->region_mib, w->warm,
		w->ios, w->gc, NULL};
	json_t *counts = NULL;
	double total = 0;
	int rc;

	snprintf(file, sizeof(file), "%s/callgrind.%s", b->dir, w->name);
	snprintf(option, sizeof(option), "--callgrind-out-file=%s", file);
	snprintf(self, sizeof(self), "%s/ci-bench", b->o);
	rc = run_json(b, argv, &counts, e);
	if (!rc)
		rc = read_totals(file, &total, e);
	if (!rc)
		*per_io = total / of(counts, "ios");
	json_decref(counts);
	return rc;
}

static int run_work(struct bench *b, const struct work *w, bool valgrind, struct err *e)
{
	const char *argv[] = {
		"/proc/self/exe", "count", w->op, w->region_mib, w->warm, w->ios, w->gc, NULL};
	json_t *counts = NULL;
	double instructions = 0;
	int rc = run_json(b, argv, &counts, e);

	if (!rc)
		record_counts(b, w, counts);
	if (!rc && w->instructions && valgrind) {
		rc = count_instructions(b, w, &instructions, e);
		if (!rc)
			record(b, w, "instructions_per_io", "count", instructions);
	}
	if (!rc)
		say(b,
			"counters, %-9s 4 KiB         %.4f system calls, %.4f allocations per I/O; "
			"%.0f PUTs, %.0f GETs",
			w->name, of(counts, "syscalls") / of(counts, "ios"),
			of(counts, "allocs") / of(counts, "ios"), of(counts, "puts"),
			of(counts, "gets"));
	if (!rc && instructions > 0)
		say(b, "                                  %.0f instructions per I/O", instructions);
	json_decref(counts);
	return rc;
}

static int run_counters(struct bench *b, const struct part *p, struct err *e)
{
	bool valgrind = !system("command -v valgrind > /dev/null 2>&1");
	int rc = 0;

	say_now(b, "%s", p->id);
	if (!valgrind)
		say(b, "no valgrind (package valgrind): instructions are not counted");
	for (size_t i = 0; !rc && i < sizeof(works) / sizeof(works[0]); i++)
		rc = run_work(b, &works[i], valgrind, e);
	return rc;
}

void counters_parts(struct bench *b)
{
	plan_add(b, 10, run_counters, "counters");
}
