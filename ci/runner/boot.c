/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot.c - what a boot costs: a recorded boot replayed through the core over a modelled store.
 *
 *   ci-bench boot virtual|real VARIANT:MS...      prints a JSON array, one object per boot
 *
 * The layout is planned from the boot srv-2, and the boot srv-1 is replayed on it: the plan has not
 * seen what it is judged by.  Virtual time is exact; one run in real time shows that it is right.
 */
#include "ci/runner/child.h"
#include "cli/cli.h"
#include "reorg/extents.h"
#include "reorg/predict.h"
#include "trace/load.h"

#include "ci/runner/bench.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { READAHEAD_BYTES = 1 << 20, BOOTS_MAX = 32 };
static const uint64_t link_bytes_per_s = 1000000000; /* 8 Gbit/s */

static const char *const latencies[] = {"0.5", "5", "20", "50"};

/* ---- the child: all variants of one kind of time ---- */

struct boot {
	struct trace seen, judged;
	struct extents mapped;
	struct predict_layout *plain, *reorg;
};

static int lay_out(struct boot *t, struct err *e)
{
	struct plan_trace from = {t->seen.records, t->seen.n, "srv-2"};
	uint64_t size = t->mapped.size_sectors;
	struct plan plan = {0}, plain = {0};
	int rc = plan_make(&from, 1, t->mapped.p, t->mapped.n, size, &plan, e);

	if (!rc)
		rc = plan_make_plain(t->mapped.p, t->mapped.n, size, &plain, e);
	if (!rc)
		rc = predict_layout_new(&plan, size, 0, &cli_interrupted, &t->reorg, e);
	if (!rc)
		rc = predict_layout_new(&plain, size, 0, &cli_interrupted, &t->plain, e);
	plan_free(&plan);
	plan_free(&plain);
	return rc;
}

static int load(struct boot *t, struct err *e)
{
	int rc = trace_load("workloads/boot/srv-2.csv", NULL, &t->seen, e);

	if (!rc)
		rc = trace_load("workloads/boot/srv-1.csv", NULL, &t->judged, e);
	if (!rc)
		rc = extents_load("workloads/boot/srv.extents", &t->mapped, e);
	return rc ? rc : lay_out(t, e);
}

static void unload(struct boot *t)
{
	predict_layout_free(t->plain);
	predict_layout_free(t->reorg);
	trace_free(&t->seen);
	trace_free(&t->judged);
	extents_free(&t->mapped);
}

struct run {
	pthread_t thread;
	struct predict_input in;
	struct predict_result out;
	struct err e;
	int rc;
};

/* "reorg:20" */
static int parse_run(
	const struct boot *t, const char *text, bool real, struct run *r, struct err *e)
{
	const char *colon = strchr(text, ':');
	double ms = colon ? strtod(colon + 1, NULL) : 0;
	uint64_t ns = (uint64_t)(ms * 1e6);
	int v = 0;

	while (v < PREDICT_VARIANTS && colon) {
		const char *name = predict_variant_name((enum predict_variant)v);

		if (strlen(name) == (size_t)(colon - text) && !strncmp(name, text, strlen(name)))
			break;
		v++;
	}
	if (!colon || v == PREDICT_VARIANTS)
		return err_set(e, -EINVAL, "'%s' is not VARIANT:MS", text);
	r->in = (struct predict_input){.records = t->judged.records,
		.n = t->judged.n,
		.model = {.name = "custom",
			.get_ns = ns,
			.put_ns = ns,
			.delete_ns = ns,
			.list_ns = ns,
			.bytes_per_s = link_bytes_per_s},
		.real_time = real,
		.stop = &cli_interrupted};
	predict_variant_set(&r->in, (enum predict_variant)v, t->plain, t->reorg, READAHEAD_BYTES);
	return 0;
}

static void *run_one(void *arg)
{
	struct run *r = arg;

	r->rc = predict_run(&r->in, &r->out, &r->e);
	return NULL;
}

/* One after the other in virtual time, side by side in real time (they mostly sleep). */
static int run_all(struct run *runs, size_t n, bool real, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < n; i++)
		if (!real || pthread_create(&runs[i].thread, NULL, run_one, &runs[i]))
			run_one(&runs[i]);
	for (size_t i = 0; i < n; i++) {
		if (runs[i].thread)
			pthread_join(runs[i].thread, NULL);
		if (runs[i].rc && !rc) {
			rc = runs[i].rc;
			*e = runs[i].e;
		}
	}
	return rc;
}

static void print_all(const struct run *runs, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		const struct predict_result *r = &runs[i].out;

		json_array_append_new(list,
			json_pack("{s:f, s:f, s:f, s:f, s:f}", "gets", (double)r->gets, "bytes",
				(double)r->get_bytes, "outstanding_ms",
				(double)r->outstanding_ns / 1e6, "wasted_bytes",
				(double)r->wasted_bytes, "wall_ms", (double)r->wall_ns / 1e6));
	}
	cli_print_json(list);
}

int boot_main(int argc, char **argv)
{
	static struct run runs[BOOTS_MAX];
	size_t n = (size_t)(argc - 2);
	bool real = argc > 1 && !strcmp(argv[1], "real");
	struct boot t = {0};
	struct err e = {0};
	int rc;

	if (argc < 3 || n > BOOTS_MAX)
		return 2;
	cli_catch_signals();
	rc = load(&t, &e);
	for (size_t i = 0; i < n && !rc; i++)
		rc = parse_run(&t, argv[i + 2], real, &runs[i], &e);
	if (!rc)
		rc = run_all(runs, n, real, &e);
	if (!rc)
		print_all(runs, n);
	unload(&t);
	if (rc)
		fprintf(stderr, "boot: %s\n", err_text(&e, rc));
	return rc ? 1 : 0;
}

/* ---- the parent ---- */

/* Boots in a child ("original:20" ...); the JSON array that it prints. */
static int boot_child(struct bench *b, const char *kind, const char *const *what, size_t n,
	json_t **out, struct err *e)
{
	char file[BENCH_PATH + 16], log[BENCH_PATH + 16];
	const char *argv[BOOTS_MAX + 4] = {"/proc/self/exe", "boot", kind};
	struct child c = {.argv = argv, .out = file, .log = log, .cpu = -1, .limit_s = 300};
	json_error_t je;
	int rc;

	for (size_t i = 0; i < n; i++)
		argv[3 + i] = what[i];
	snprintf(file, sizeof(file), "%s/boot.json", b->dir);
	snprintf(log, sizeof(log), "%s/boot.log", b->dir);
	say_now(b, "boots in %s time", kind);
	rc = child_run(&c, e);
	if (rc)
		return rc;
	*out = json_load_file(file, 0, &je);
	if (!*out || json_array_size(*out) != n)
		return err_set(e, -EUCLEAN, "boot's output: %s", *out ? "too short" : je.text);
	return 0;
}

static double of(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

static json_t *exact_params(void)
{
	return json_pack("{s:b, s:s, s:s, s:I}", "exact", 1, "boot", "srv-1", "planned_from",
		"srv-2", "link_bytes_per_s", (json_int_t)link_bytes_per_s);
}

static void record(struct bench *b, const char *variant, const char *ms, const json_t *j)
{
	static const char *const keys[] = {"gets", "bytes", "outstanding_ms", "wasted_bytes"};
	static const char *const over[] = {"gets", "outstanding_ms"},
				 *const ratio[] = {
					 "gets_ratio_original", "outstanding_ratio_original"};
	char name[RESULTS_NAME_MAX];

	for (size_t i = 0; i < COUNT(keys); i++) {
		snprintf(name, sizeof(name), "boot.%s.%sms.%s", variant, ms, keys[i]);
		sample(b, name, of(j, keys[i]), exact_params());
	}
	for (size_t i = 0; i < COUNT(over) && strcmp(variant, "original"); i++) {
		double base;

		snprintf(name, sizeof(name), "boot.original.%sms.%s", ms, over[i]);
		base = sample_median(b, name);
		snprintf(name, sizeof(name), "boot.%s.%sms.%s", variant, ms, ratio[i]);
		if (base > 0)
			sample(b, name, of(j, over[i]) / base, exact_params());
	}
}

static int run_virtual(struct bench *b, const struct part *p, struct err *e)
{
	char text[BOOTS_MAX][40];
	const char *what[BOOTS_MAX];
	json_t *list = NULL;
	size_t n = 0;
	int rc;

	(void)p;
	for (size_t l = 0; l < COUNT(latencies); l++)
		for (int v = 0; v < PREDICT_VARIANTS; v++, n++) {
			snprintf(text[n], sizeof(text[n]), "%s:%s",
				predict_variant_name((enum predict_variant)v), latencies[l]);
			what[n] = text[n];
		}
	rc = boot_child(b, "virtual", what, n, &list, e);
	for (size_t i = 0; i < n && !rc; i++) {
		const char *variant =
			predict_variant_name((enum predict_variant)(i % PREDICT_VARIANTS));
		const char *ms = latencies[i / PREDICT_VARIANTS];
		const json_t *j = json_array_get(list, i);

		record(b, variant, ms, j);
		if (!strcmp(ms, "20"))
			say(b,
				"boot %-16s %4s ms store  %6.0f GETs %7.1f MiB  reads outstanding "
				"%8.0f ms",
				variant, ms, of(j, "gets"), of(j, "bytes") / MIB,
				of(j, "outstanding_ms"));
	}
	json_decref(list);
	return rc;
}

/* ---- real time ---- */

static double agreement(double a, double b)
{
	return fmax(a, b) > 0 ? 100 * fmin(a, b) / fmax(a, b) : 100;
}

/* `prefix` tells several apart: "", "reorg_prefetch." */
static void record_agreement(struct bench *b, const char *prefix, const char *what,
	const json_t *virt, const json_t *real)
{
	static const char *const keys[] = {"gets", "bytes", "outstanding_ms"}, *const names[] = {
										       "gets",
										       "bytes",
										       "time"};
	double agree[3];

	for (size_t i = 0; i < COUNT(keys); i++) {
		char name[RESULTS_NAME_MAX];

		agree[i] = agreement(of(virt, keys[i]), of(real, keys[i]));
		snprintf(name, sizeof(name), "boot.realtime.%sagreement_%s_percent", prefix,
			names[i]);
		sample_as(b, name, "percent", RESULTS_HIGHER, agree[i],
			json_pack("{s:s}", "boot", what));
	}
	say(b,
		"boot %s ms in real time and in virtual time agree: GETs %.1f %%, bytes %.1f %%, "
		"time %.1f %%",
		what, agree[0], agree[1], agree[2]);
}

static int run_real(struct bench *b, const struct part *p, struct err *e)
{
	static const char *const what[] = {"original:5", "reorg_prefetch:20"},
				 *const prefix[] = {"", "reorg_prefetch."};
	json_t *real = NULL, *virt = NULL;
	int rc = boot_child(b, "virtual", what, COUNT(what), &virt, e);

	(void)p;
	if (!rc)
		rc = boot_child(b, "real", what, COUNT(what), &real, e);
	for (size_t i = 0; i < COUNT(what) && !rc; i++)
		record_agreement(
			b, prefix[i], what[i], json_array_get(virt, i), json_array_get(real, i));
	json_decref(real);
	json_decref(virt);
	return rc;
}

void boot_parts(struct bench *b)
{
	plan_add(b, 4, run_virtual, "boot.virtual");
	plan_add(b, 27, run_real, "boot.realtime");
}
