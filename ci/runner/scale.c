/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * scale.c - two loops in one process: what they do together against one of them alone.
 *
 *   ci-bench scale ROUNDS SLICE_MS
 *
 * Two contexts, each with a pool, an image and a processor of its own, all in memory.  A round has
 * a slice of the first alone, of the second alone, and of both at once.  Prints a JSON object:
 * "write" and "read" are arrays of [first alone, second alone, first of both, second of both], in
 * requests per second.
 */
#include "ci/runner/bench.h"
#include "ci/runner/child.h"
#include "ci/runner/pump.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOPS = 2, REGION_MIB = 64, POOL_MIB = 512, WARM_MIB = 2560, BLOCK = 4096 };
enum { ROUNDS_LEAST = 7 }; /* a slice is short, and garbage collection comes and goes */

/* ---- the child ---- */

struct lane {
	struct pump pump;
	pthread_t thread;
	unsigned cpu;
	enum lsvd_op op;
	double end_s, rate;
	int rc;
};

static struct lane lanes[LOOPS];

static void *slice(void *arg)
{
	struct lane *l = arg;
	uint64_t before = l->pump.done;
	double begun;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(l->cpu, &cpus);
	l->rc = -pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	begun = now_s();
	if (l->rc == 0)
		l->rc = pump_run(&l->pump, l->op, UINT64_MAX, l->end_s);
	l->rate = (double)(l->pump.done - before) / (now_s() - begun);
	return NULL;
}

/* The lanes from `first` on, `n` of them, at once. */
static int run_lanes(unsigned first, unsigned n, enum lsvd_op op, double seconds, double *rates)
{
	double end = now_s() + seconds;
	unsigned started = 0;
	int rc = 0;

	for (; started < n && !rc; started += !rc) {
		struct lane *l = &lanes[first + started];

		l->op = op;
		l->end_s = end;
		rc = -pthread_create(&l->thread, NULL, slice, l);
	}
	for (unsigned i = 0; i < started; i++) {
		struct lane *l = &lanes[first + i];

		pthread_join(l->thread, NULL);
		rates[i] = l->rate;
		rc = rc ? rc : l->rc;
	}
	return rc;
}

static int run_rounds(enum lsvd_op op, unsigned rounds, double seconds)
{
	int rc = 0;

	printf("\"%s\": [", op == LSVD_WRITE ? "write" : "read");
	for (unsigned i = 0; i < rounds && !rc; i++) {
		double r[2 * LOOPS];

		rc = run_lanes(0, 1, op, seconds, &r[0]);
		if (!rc)
			rc = run_lanes(1, 1, op, seconds, &r[1]);
		if (!rc)
			rc = run_lanes(0, LOOPS, op, seconds, &r[2]);
		if (!rc)
			printf("%s[%.1f, %.1f, %.1f, %.1f]", i ? ", " : "", r[0], r[1], r[2], r[3]);
	}
	puts("]");
	return rc;
}

static int prepare(struct lane *l, unsigned i, char *why)
{
	char pool[32], image[32];
	const char *settings[] = {"pool.path", pool, NULL};
	int rc;

	snprintf(pool, sizeof(pool), "mem:%dM", POOL_MIB);
	snprintf(image, sizeof(image), "mem:scale-%u", i);
	l->cpu = i;
	rc = pump_context(settings, &l->pump.ctx, why);
	if (rc == 0)
		rc = pump_open(&l->pump, image, REGION_MIB * MIB, why);
	if (rc == 0)
		rc = pump_shape(&l->pump, BLOCK, BLOCK, REGION_MIB * MIB / BLOCK);
	if (rc == 0)
		rc = pump_run(&l->pump, LSVD_WRITE, WARM_MIB * MIB / BLOCK, INFINITY);
	return rc;
}

/* What is in objects is read until the pool has it. */
static int warm_reads(struct lane *l)
{
	int rc = lsvd_image_drain(l->pump.img);

	return rc ? rc : pump_run(&l->pump, LSVD_READ, 2 * l->pump.places, INFINITY);
}

int scale_main(int argc, const char *const *argv)
{
	char why[LSVD_ERR_MAX] = "";
	double seconds;
	unsigned rounds;
	int rc = 0;

	if (argc < 3)
		return 2;
	rounds = (unsigned)atoi(argv[1]);
	seconds = 1e-3 * atoi(argv[2]);
	for (unsigned i = 0; i < LOOPS && rc == 0; i++)
		rc = prepare(&lanes[i], i, why);
	putchar('{');
	if (rc == 0)
		rc = run_rounds(LSVD_WRITE, rounds, seconds);
	putchar(',');
	for (unsigned i = 0; i < LOOPS && rc == 0; i++)
		rc = warm_reads(&lanes[i]);
	if (rc == 0)
		rc = run_rounds(LSVD_READ, rounds, seconds);
	puts("}");
	for (unsigned i = 0; i < LOOPS; i++) {
		rc = pump_close(&lanes[i].pump, rc, why);
		if (lanes[i].pump.ctx)
			lsvd_ctx_close(lanes[i].pump.ctx);
	}
	if (rc < 0)
		fprintf(stderr, "scale: %s: %s\n", strerror(-rc), why);
	return rc < 0;
}

/* ---- the part ---- */

static void record(struct bench *b, const char *op, const json_t *rounds)
{
	char ratio[RESULTS_NAME_MAX], rate[RESULTS_NAME_MAX];
	const json_t *round;
	size_t i;

	snprintf(ratio, sizeof(ratio), "mem.%s.4k.qd32.2loops.ratio_one", op);
	snprintf(rate, sizeof(rate), "mem.%s.4k.qd32.2loops.iops", op);
	json_array_foreach(rounds, i, round) {
		double r[2 * LOOPS];

		for (size_t k = 0; k < 2 * LOOPS; k++)
			r[k] = json_number_value(json_array_get(round, k));
		sample(b, ratio, (r[2] + r[3]) / ((r[0] + r[1]) / 2),
			json_pack("{s:i, s:i}", "region_mib", REGION_MIB, "pool_mib", POOL_MIB));
		sample(b, rate, r[2] + r[3],
			json_pack("{s:i, s:i}", "region_mib", REGION_MIB, "pool_mib", POOL_MIB));
	}
}

static unsigned rounds_of(const struct bench *b)
{
	return b->rounds < ROUNDS_LEAST ? ROUNDS_LEAST : b->rounds;
}

static unsigned slice_ms_of(const struct bench *b)
{
	return b->quick ? 250 : 2000;
}

static int run(struct bench *b, const struct part *p, struct err *e)
{
	char rounds[16], slice_ms[16];
	const char *argv[] = {"/proc/self/exe", "scale", rounds, slice_ms, NULL};
	json_t *out = NULL;
	int rc;

	if (sysconf(_SC_NPROCESSORS_ONLN) < LOOPS)
		return err_set(e, -ENODEV, "two processors are needed");
	snprintf(rounds, sizeof(rounds), "%u", rounds_of(b));
	snprintf(slice_ms, sizeof(slice_ms), "%u", slice_ms_of(b));
	say_now(b, "%s", p->id);
	rc = child_json(b->dir, argv, 60 + 2 * p->seconds, &out, e);
	if (rc)
		return rc;
	record(b, "write", json_object_get(out, "write"));
	record(b, "read", json_object_get(out, "read"));
	json_decref(out);
	say(b, "2 loops on 2 processors : 1         write %5.2f x IOPS   read %5.2f x IOPS",
		sample_median(b, "mem.write.4k.qd32.2loops.ratio_one"),
		sample_median(b, "mem.read.4k.qd32.2loops.ratio_one"));
	return 0;
}

void scale_parts(struct bench *b)
{
	plan_add(b, 5 + rounds_of(b) * 6e-3 * slice_ms_of(b), run, "mem.scale");
}
