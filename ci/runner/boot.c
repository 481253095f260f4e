/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot.c - what a boot costs: a recorded boot replayed through the core over a modelled store.
 *
 *   ci-bench boot VARIANT LATENCY_MS real|virtual      prints one JSON object
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { READAHEAD_BYTES = 1 << 20 };
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

static int run_one(struct boot *t, int variant, double ms, bool real, struct err *e)
{
	struct predict_input in = {.records = t->judged.records,
		.n = t->judged.n,
		.model = {.name = "custom",
			.get_ns = (uint64_t)(ms * 1e6),
			.put_ns = (uint64_t)(ms * 1e6),
			.delete_ns = (uint64_t)(ms * 1e6),
			.list_ns = (uint64_t)(ms * 1e6),
			.bytes_per_s = link_bytes_per_s},
		.real_time = real,
		.stop = &cli_interrupted};
	struct predict_result r = {0};
	int rc;

	predict_variant_set(
		&in, (enum predict_variant)variant, t->plain, t->reorg, READAHEAD_BYTES);
	rc = predict_run(&in, &r, e);
	if (!rc)
		cli_print_json(json_pack("{s:f, s:f, s:f, s:f, s:f}", "gets", (double)r.gets,
			"bytes", (double)r.get_bytes, "outstanding_ms",
			(double)r.outstanding_ns / 1e6, "wasted_bytes", (double)r.wasted_bytes,
			"wall_ms", (double)r.wall_ns / 1e6));
	return rc;
}

int boot_main(int argc, char **argv)
{
	struct boot t = {0};
	struct err e = {0};
	int rc, v = 0;

	if (argc < 4)
		return 2;
	cli_catch_signals();
	while (v < PREDICT_VARIANTS &&
		strcmp(predict_variant_name((enum predict_variant)v), argv[1]))
		v++;
	rc = v < PREDICT_VARIANTS ? load(&t, &e) : err_set(&e, -EINVAL, "no variant '%s'", argv[1]);
	if (!rc)
		rc = run_one(&t, v, strtod(argv[2], NULL), !strcmp(argv[3], "real"), &e);
	unload(&t);
	if (rc)
		fprintf(stderr, "boot: %s\n", err_text(&e, rc));
	return rc ? 1 : 0;
}

/* ---- the parent ---- */

/* One boot in a child; the JSON that it prints. */
static int boot_child(struct bench *b, const char *variant, const char *ms, bool real, json_t **out,
	struct err *e)
{
	char file[BENCH_PATH + 16], log[BENCH_PATH + 16];
	const char *argv[] = {
		"/proc/self/exe", "boot", variant, ms, real ? "real" : "virtual", NULL};
	struct child c = {.argv = argv, .out = file, .log = log, .cpu = -1, .limit_s = 300};
	json_error_t je;
	int rc;

	snprintf(file, sizeof(file), "%s/boot.json", b->dir);
	snprintf(log, sizeof(log), "%s/boot.log", b->dir);
	say_now(b, "boot %s, %s ms, %s time", variant, ms, argv[4]);
	rc = child_run(&c, e);
	if (rc)
		return rc;
	*out = json_load_file(file, 0, &je);
	return *out ? 0 : err_set(e, -EUCLEAN, "boot's output: %s", je.text);
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
	(void)p;
	for (size_t l = 0; l < COUNT(latencies); l++)
		for (int v = 0; v < PREDICT_VARIANTS; v++) {
			const char *variant = predict_variant_name((enum predict_variant)v);
			json_t *j = NULL;
			int rc = boot_child(b, variant, latencies[l], false, &j, e);

			if (rc)
				return err_wrap(e, rc, "boot %s at %s ms", variant, latencies[l]);
			record(b, variant, latencies[l], j);
			say(b,
				"boot %-16s %4s ms store  %6.0f GETs %7.1f MiB  reads outstanding "
				"%8.0f ms",
				variant, latencies[l], of(j, "gets"), of(j, "bytes") / MIB,
				of(j, "outstanding_ms"));
			json_decref(j);
		}
	return 0;
}

static double agreement(double a, double b)
{
	return fmax(a, b) > 0 ? 100 * fmin(a, b) / fmax(a, b) : 100;
}

static int run_real(struct bench *b, const struct part *p, struct err *e)
{
	static const char *const keys[] = {"gets", "bytes", "outstanding_ms"}, *const names[] = {
										       "gets",
										       "bytes",
										       "time"};
	static const char variant[] = "reorg_prefetch", ms[] = "20";
	json_t *real = NULL, *virt = NULL;
	double agree[3];
	int rc = boot_child(b, variant, ms, false, &virt, e);

	(void)p;
	if (!rc)
		rc = boot_child(b, variant, ms, true, &real, e);
	for (size_t i = 0; i < COUNT(keys) && !rc; i++) {
		char name[RESULTS_NAME_MAX];

		agree[i] = agreement(of(virt, keys[i]), of(real, keys[i]));
		snprintf(name, sizeof(name), "boot.realtime.agreement_%s_percent", names[i]);
		sample_as(b, name, "percent", RESULTS_HIGHER, agree[i],
			json_pack("{s:s, s:s}", "variant", variant, "latency_ms", ms));
	}
	if (!rc)
		say(b,
			"boot %s %s ms in real time: agrees with virtual time by %.1f %% of GETs, "
			"%.1f %% of bytes, "
			"%.1f %% of time",
			variant, ms, agree[0], agree[1], agree[2]);
	json_decref(real);
	json_decref(virt);
	return rc;
}

void boot_parts(struct bench *b)
{
	plan_add(b, 8, run_virtual, "boot.virtual");
	plan_add(b, 24, run_real, "boot.realtime");
}
