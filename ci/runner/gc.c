/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gc.c - what garbage collection costs the foreground.
 *
 * Two images, made alike: one is opened with gc.enabled, the other without, in turns.  Each is
 * filled, then written at random until collecting keeps up with the garbage, so that what is
 * measured is the steady state: 4 KiB random writes over the whole of an image that is larger than
 * its pool, as fast as they go.  The full profile adds a rate that leaves the disk some room.
 */
#include "ci/runner/fiorun.h"
#include "ci/runner/workdir.h"

#include <stdio.h>
#include <string.h>

enum gc_side { GC_OFF, GC_ON, GC_SIDES };

enum { RATE_IOPS = 20000 };

static const char *const images[] = {"gc-off", "gc-on"}, *const settings[] = {"gc.enabled=false",
								 "gc.enabled=true"};

static uint64_t region(const struct bench *b)
{
	return b->quick ? 384 * MIB : 1 * GIB;
}

static struct fio_run run_of(const struct bench *b, enum gc_side side)
{
	return (struct fio_run){.side = SIDE_LSVD,
		.image = images[side],
		.set = settings[side],
		.region_bytes = region(b),
		.pool_bytes = region(b) / 2,
		.runtime_s = b->quick ? 1.5 : 8,
		.ramp_s = b->quick ? 0.2 : 1,
		.stats = true};
}

static int prepare(struct bench *b, enum gc_side side, struct err *e)
{
	const struct cell fill[] = {
		{"write", 64, 8, false, region(b), 0}, {"randwrite", 4, 32, false, 2 * region(b), 0}};
	struct fio_run r = run_of(b, side);
	struct fio_figures f[2];

	r.ramp_s = 0;
	r.seed = 1;
	r.cells = fill;
	r.n = 2;
	say_now(b, "image %s", r.image);
	return fio_run(b, &r, f, e);
}

static double amplification(const struct bench *b)
{
	char path[BENCH_PATH + 32];
	json_t *st;
	double v;

	snprintf(path, sizeof(path), "%s/stats-0.json", b->dir);
	st = json_load_file(path, 0, NULL);
	v = json_number_value(json_object_get(st, "write_amplification"));
	json_decref(st);
	return v;
}

static json_t *params_of(const struct bench *b, bool paced)
{
	struct fio_run r = run_of(b, GC_ON);
	json_t *p = json_pack("{s:I, s:I, s:f}", "region_mib", (json_int_t)(r.region_bytes / MIB),
		"pool_mib", (json_int_t)(r.pool_bytes / MIB), "runtime_s", r.runtime_s);

	if (paced)
		json_object_set_new(p, "rate_iops", json_integer(RATE_IOPS));
	return p;
}

static void record_side(struct bench *b, const char *how, enum gc_side side, const char *what,
	const char *unit, double v, bool paced)
{
	char name[RESULTS_NAME_MAX];

	snprintf(name, sizeof(name), "gc.%s.%s.%s", how, side == GC_ON ? "on" : "off", what);
	sample_as(b, name, unit,
		side == GC_OFF		? RESULTS_NONE
		: !strcmp(what, "iops") ? RESULTS_HIGHER
					: RESULTS_LOWER,
		v, params_of(b, paced));
}

static int measure(struct bench *b, enum gc_side side, unsigned round, bool paced,
	struct fio_figures *f, struct err *e)
{
	static const struct cell c = {"randwrite", 4, 32, false, 0, 0};
	const char *how = paced ? "paced" : "foreground";
	struct fio_run r = run_of(b, side);
	char rate[32];
	int rc;

	snprintf(rate, sizeof(rate), "rate_iops=%d", RATE_IOPS);
	r.extra = paced ? rate : NULL;
	r.seed = 9000 + round;
	r.cells = &c;
	r.n = 1;
	say_now(b, "gc, round %u of %u, %s", round + 1, b->rounds, r.image);
	rc = fio_run(b, &r, f, e);
	if (rc)
		return rc;
	record_side(b, how, side, "iops", "iops", f->iops, paced);
	record_side(b, how, side, "p99_us", "us", f->p99_us, paced);
	record_side(b, how, side, "write_amplification", "ratio", amplification(b), paced);
	return 0;
}

static int turn(struct bench *b, unsigned round, bool paced, struct err *e)
{
	struct fio_figures f[GC_SIDES];
	int rc = 0;

	for (int s = 0; s < GC_SIDES && !rc; s++)
		rc = measure(b, (enum gc_side)s, round, paced, &f[s], e);
	if (rc)
		return rc;
	if (paced) {
		sample_as(b, "gc.paced.p99_ratio", "ratio", RESULTS_LOWER,
			f[GC_ON].p99_us / f[GC_OFF].p99_us, params_of(b, true));
		return 0;
	}
	sample(b, "gc.foreground.iops_ratio", f[GC_ON].iops / f[GC_OFF].iops, params_of(b, false));
	sample(b, "gc.foreground.p99_ratio", f[GC_ON].p99_us / f[GC_OFF].p99_us,
		params_of(b, false));
	return 0;
}

static void clean_up(const struct bench *b)
{
	char path[BENCH_PATH + 32];

	for (int s = 0; s < GC_SIDES; s++) {
		snprintf(path, sizeof(path), "%s/store/%s", b->dir, images[s]);
		remove_tree(path);
		snprintf(path, sizeof(path), "%s/pool-%s", b->dir, images[s]);
		remove_tree(path);
	}
}

static void say_result(struct bench *b)
{
	say(b,
		"garbage collection on : off       %5.2f x IOPS   %5.2f x p99   write "
		"amplification %.2f",
		sample_median(b, "gc.foreground.iops_ratio"),
		sample_median(b, "gc.foreground.p99_ratio"),
		sample_median(b, "gc.foreground.on.write_amplification"));
	if (!b->quick)
		say(b, "   the same at %d IOPS                          %5.2f x p99", RATE_IOPS,
			sample_median(b, "gc.paced.p99_ratio"));
}

static int run(struct bench *b, const struct part *p, struct err *e)
{
	int rc = 0;

	(void)p;
	for (int s = 0; s < GC_SIDES && !rc; s++)
		rc = prepare(b, (enum gc_side)s, e);
	for (unsigned round = 0; round < b->rounds && !rc; round++) {
		rc = turn(b, round, false, e);
		if (!rc && !b->quick)
			rc = turn(b, round, true, e);
	}
	clean_up(b);
	if (!rc)
		say_result(b);
	return rc;
}

void gc_parts(struct bench *b)
{
	struct fio_run r = run_of(b, GC_ON);
	double turns = b->rounds * 2 * (b->quick ? 1 : 2);

	plan_add(b, turns * (r.runtime_s + r.ramp_s + 0.7) + (b->quick ? 5 : 30), run, "gc");
}
