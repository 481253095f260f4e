/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pressure.c - back-pressure: what a writer feels while the store cannot follow.
 *
 * A writer of 4 KiB at a steady rate, on a file pool and a file store behind a model:
 *   slow   the store takes a third of what is written: the pool fills, and the writer is slowed down
 *          to what the store takes
 *   stop   the store could follow, and stops for five seconds
 * Rates and latencies over time are curves, from fio's histogram log.  Latency is from the issue of a
 * request to its completion, and a request that fio would issue later for its rate does not count.
 */
#include "ci/runner/child.h"
#include "ci/runner/fiohist.h"
#include "ci/runner/fiorun.h"
#include "ci/runner/workdir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 32 };

#define WINDOW_MS 100u
#define WRITE_MIB_S 48u

static const struct scenario {
	const char *name;
	const char *store;
	unsigned pool_mib;
	double quick_s, full_s;
	unsigned store_mib_s; /* 0: more than is written */
} scenarios[] = {
	{"slow", "model:custom,lat=5ms,bw=16777216:file:store", 384, 20, 40, 16},
	{"stop", "model:custom,lat=5ms,bw=200M,stop_at=5s,stop_for=5s:file:store", 256, 15, 20, 0},
};

static json_t *params_of(const struct scenario *s, const struct fio_run *r)
{
	return json_pack("{s:s, s:i, s:i, s:I, s:f, s:i}", "store", s->store, "write_mib_s",
		WRITE_MIB_S, "pool_mib", (int)s->pool_mib, "region_mib",
		(json_int_t)(r->region_bytes / MIB), "runtime_s", r->runtime_s, "window_ms",
		WINDOW_MS);
}

static void put_curve(struct bench *b, const struct scenario *s, const char *what, const char *unit,
	const double *x, const double *y, size_t n, json_t *params)
{
	char name[RESULTS_NAME_MAX];

	snprintf(name, sizeof(name), "pressure.%s.%s", s->name, what);
	sample_curve(b, name, "s", unit, x, y, n, params);
}

static void put_figure(
	struct bench *b, const struct scenario *s, const char *what, double v, json_t *params)
{
	char name[RESULTS_NAME_MAX];

	snprintf(name, sizeof(name), "pressure.%s.%s", s->name, what);
	sample(b, name, v, params);
}

/* MiB/s of the second half of the run, by which the pool is full. */
static double late_mib_s(const struct fio_window *w, size_t n)
{
	double from = w[n - 1].end_s / 2, s = 0;
	uint64_t ios = 0;

	for (size_t i = 0; i < n; i++)
		if (w[i].begin_s >= from) {
			ios += w[i].ios;
			s += w[i].end_s - w[i].begin_s;
		}
	return s > 0 ? (double)ios * 4 * KIB / MIB / s : 0;
}

static int record(struct bench *b, const struct scenario *s, const struct fio_run *r,
	const struct fio_window *w, size_t n)
{
	double *v = calloc(5 * n, sizeof(*v)), *x = v, worst = 0;
	json_t *params = params_of(s, r);

	if (!v) {
		json_decref(params);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		x[i] = w[i].end_s;
		v[n + i] = (double)w[i].ios / (w[i].end_s - w[i].begin_s);
		v[2 * n + i] = w[i].p50_us;
		v[3 * n + i] = w[i].p99_us;
		v[4 * n + i] = w[i].max_us;
		if (w[i].max_us > worst)
			worst = w[i].max_us;
	}
	put_curve(b, s, "iops", "iops", x, v + n, n, json_incref(params));
	put_curve(b, s, "p50_us", "us", x, v + 2 * n, n, json_incref(params));
	put_curve(b, s, "p99_us", "us", x, v + 3 * n, n, json_incref(params));
	put_curve(b, s, "max_us", "us", x, v + 4 * n, n, json_incref(params));
	put_figure(b, s, "max_ms", worst / 1e3, json_incref(params));
	if (s->store_mib_s)
		put_figure(b, s, "late_ratio_store",
			late_mib_s(w, n) / s->store_mib_s, json_incref(params));
	json_decref(params);
	free(v);
	return 0;
}

static int read_log(struct bench *b, struct fio_window **w, size_t *n, struct err *e)
{
	char path[BENCH_PATH + 32], *text;
	int rc;

	snprintf(path, sizeof(path), "%s/pressure_clat_hist.1.log", b->dir);
	text = file_text(path, NULL);
	if (!text)
		return err_set(e, -EIO, "%s: %s", path, strerror(errno));
	rc = fio_hist_parse(text, w, n, e);
	free(text);
	return rc;
}

static int turn(struct bench *b, const struct scenario *s, unsigned round, struct err *e)
{
	static const struct cell c = {"randwrite", 4, DEPTH, false, 0, 0};
	struct fio_window *w;
	struct fio_figures f;
	char extra[160];
	struct fio_run r = {.side = SIDE_LSVD,
		.image = "pressure",
		.store = s->store,
		.region_bytes = 2 * GIB,
		.pool_bytes = s->pool_mib * MIB,
		.runtime_s = b->quick ? s->quick_s : s->full_s,
		.seed = 4000 + round,
		.extra = extra,
		.cells = &c,
		.n = 1};
	size_t n;
	int rc;

	/* fio fills its log only where it is to tell these percentiles. */
	snprintf(extra, sizeof(extra),
		"rate=%um\nclat_percentiles=1\nwrite_hist_log=pressure\nlog_hist_msec=%u", WRITE_MIB_S,
		WINDOW_MS);
	rc = fio_run(b, &r, &f, e);
	if (!rc)
		rc = read_log(b, &w, &n, e);
	if (rc)
		return rc;
	rc = record(b, s, &r, w, n);
	free(w);
	put_figure(b, s, "p99_us", f.p99_us, params_of(s, &r));
	put_figure(b, s, "p999_us", f.p999_us, params_of(s, &r));
	return rc;
}

static void clean_up(const struct bench *b)
{
	char path[BENCH_PATH + 32];

	snprintf(path, sizeof(path), "%s/store/pressure", b->dir);
	remove_tree(path);
	snprintf(path, sizeof(path), "%s/pool-pressure", b->dir);
	remove_tree(path);
}

static int run(struct bench *b, const struct part *p, struct err *e)
{
	const struct scenario *s = &scenarios[p->first];
	char worst[RESULTS_NAME_MAX + 16], p99[RESULTS_NAME_MAX + 16];
	int rc = 0;

	for (unsigned round = 0; round < p->count && !rc; round++) {
		say_now(b, "%s, round %u of %u", p->id, round + 1, p->count);
		rc = turn(b, s, round, e);
		clean_up(b);
	}
	if (rc)
		return rc;
	snprintf(worst, sizeof(worst), "%s.max_ms", p->id);
	snprintf(p99, sizeof(p99), "%s.p99_us", p->id);
	say(b, "%-32s p99 %.0f us, the slowest write %.0f ms", p->id, sample_median(b, p99),
		sample_median(b, worst));
	return 0;
}

void pressure_parts(struct bench *b)
{
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		unsigned rounds = b->quick ? 1 : 3;
		double s = b->quick ? scenarios[i].quick_s : scenarios[i].full_s;
		struct part *p =
			plan_add(b, rounds * (s + 8), run, "pressure.%s", scenarios[i].name);

		if (!p)
			continue;
		p->first = (unsigned)i;
		p->count = rounds;
	}
}
