/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ceph.c - LSVD on a real cluster beside RBD on the same one, and LSVD by S3 on its radosgw.
 *
 * A cluster of one OSD (bluestore, on the disk under test) serves all parts.  Each measures its
 * three sides in turns: LSVD with a file pool on `rados:rbd`, fio's rbd engine without a cache on
 * an image of the pool rbd, and LSVD on S3.  Images were written in full before.  After each turn
 * the OSD is given the time to end what it does behind the client's back, so that nobody pays for
 * the one before; what it did and the CPU it took is counted up to then, and LSVD's image has been
 * closed, so all that was dirty is in the cluster.
 *
 * All settings are the defaults, but that nothing is cached where reads are to go to the cluster.
 *
 * Three rounds at most, and one of the drain by S3: a cluster takes its time.
 */
#include "ci/runner/child.h"
#include "ci/runner/cluster.h"
#include "ci/runner/fio.h"
#include "ci/runner/fiorun.h"
#include "ci/runner/workdir.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum {
	ROUNDS_MAX = 3,
	WRITE_MIB = 2048, /* of the images that are written, */
	READ_MIB = 1024,  /* and read */
	POOL_MIB = 3072,
	COLD_POOL_MIB = 256,
	DRAIN_MIB = 2048,
	DRAIN_POOL_MIB = 5120,
	WARM_PASSES = 4
};

/* Where LSVD's cell or the drain runs; RBD is no place for LSVD. */
enum place { RADOS, RBD, S3, PLACES };

static const struct {
	const char *label, *prefix, *side; /* of its figures */
	const char *store;
} places[PLACES] = {{"LSVD", "ceph", "lsvd", "rados:rbd"}, {"RBD", "ceph", "rbd", NULL},
	{"LSVD on S3", "s3", "lsvd", "s3:bench/vols"}};

enum kind { WRITES, READS_COLD, READS_WARM };

static const struct work {
	const char *name;
	struct cell cell;
	enum kind kind;
	double runtime_s;
	bool osd; /* what it costs the OSD is a figure */
} works[] = {{"randwrite.4k.qd32", {"randwrite", 4, 32, false, 0, 0}, WRITES, 3, true},
	{"randwrite.4k.qd1.fsync", {"randwrite", 4, 1, true, 0, 0}, WRITES, 2.5, false},
	{"write.64k.qd32", {"write", 64, 32, false, 0, 0}, WRITES, 3, false},
	{"randread.4k.qd32.uncached", {"randread", 4, 32, false, 0, 0}, READS_COLD, 2.5, false},
	{"randread.4k.qd32.cached", {"randread", 4, 32, false, 0, 0}, READS_WARM, 2.5, false}};

static bool made[PLACES][2], warmed[PLACES]; /* images: of writes, of reads */

static unsigned rounds_of(const struct bench *b)
{
	return b->rounds < ROUNDS_MAX ? b->rounds : ROUNDS_MAX;
}

/* ---- images ---- */

static uint64_t region_mib(const struct work *w)
{
	return w->kind == WRITES ? WRITE_MIB : READ_MIB;
}

static struct fio_run run_of(enum place at, const struct work *w)
{
	static const char *const images[PLACES][2] = {
		{"rados-w", "rados-r"}, {"rbd-w", "rbd-r"}, {"s3-w", "s3-r"}};
	struct fio_run r = {.side = at == RBD ? SIDE_RBD : SIDE_LSVD,
		.image = images[at][w->kind != WRITES],
		.store = places[at].store,
		.region_bytes = region_mib(w) * MIB,
		.pool_bytes = at == RBD ? 0 : POOL_MIB * MIB,
		.runtime_s = w->runtime_s,
		.set = NULL,
		.stats = true,
		.cells = &w->cell,
		.n = 1};

	if (at != RBD && w->kind == READS_COLD) {
		r.pool = "file:pool-cold";
		r.pool_bytes = COLD_POOL_MIB * MIB;
		r.set = "cache.enabled=false";
	}
	return r;
}

/* One pass over the image with its own pool. */
static int pass(struct bench *b, enum place at, const struct work *w, const char *rw, struct err *e)
{
	const struct work whole = {.cell = {rw, 64, 16, false, 0, 0},
		.kind = w->kind == WRITES ? WRITES : READS_WARM,
		.runtime_s = 120};
	struct fio_run r = run_of(at, &whole);
	struct fio_figures f;

	r.io_bytes = r.region_bytes;
	say_now(b, "%s, image %s: one pass of %s", places[at].label, r.image, rw);
	return fio_run(b, &r, &f, e);
}

static int make_rbd(const struct bench *b, const struct work *w, struct err *e)
{
	char log[BENCH_PATH + 16], spec[40], size[16];
	const char *argv[] = {"rbd", "create", "--size", size, spec, NULL};
	struct child c = {.argv = argv, .log = log, .cpu = -1, .limit_s = 60};

	snprintf(log, sizeof(log), "%s/rbd.log", b->dir);
	snprintf(spec, sizeof(spec), "rbd/%s", run_of(RBD, w).image);
	snprintf(size, sizeof(size), "%uM", (unsigned)region_mib(w));
	return child_run(&c, e);
}

static int prepare(struct bench *b, enum place at, const struct work *w, struct err *e)
{
	bool *is = &made[at][w->kind != WRITES];
	int rc = 0;

	if (!*is) {
		if (at == RBD)
			rc = make_rbd(b, w, e);
		if (!rc)
			rc = pass(b, at, w, "write", e);
		if (rc)
			return err_wrap(e, rc, "prepare %s", run_of(at, w).image);
		*is = true;
	}
	if (at == RBD || w->kind != READS_WARM || warmed[at])
		return 0;
	for (unsigned i = 0; i < WARM_PASSES; i++) {
		rc = pass(b, at, w, "read", e);
		if (rc || fio_hit_percent(b, 0) >= 99.5)
			break; /* what is still missing costs LSVD */
	}
	warmed[at] = !rc;
	return rc;
}

/* ---- figures ---- */

/* The job file of the last fio run in one line: the command that the page shows. */
static json_t *params_of(const struct bench *b, const struct fio_run *r)
{
	json_t *p = json_pack("{s:I, s:I, s:f}", "region_mib", (json_int_t)(r->region_bytes / MIB),
		"pool_mib", (json_int_t)(r->pool_bytes / MIB), "runtime_s", r->runtime_s);
	char path[BENCH_PATH + 16], *text;

	snprintf(path, sizeof(path), "%s/job.fio", b->dir);
	text = file_text(path, NULL);
	for (char *c = text; c && *c; c++)
		if (*c == '\n')
			*c = ' ';
	if (text)
		json_object_set_new(p, "job", json_string(text));
	free(text);
	return p;
}

static void PRINTF(4, 5) record(struct bench *b, double v, json_t *params, const char *fmt, ...)
{
	char name[RESULTS_NAME_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	sample(b, name, v, params);
}

static void record_side(struct bench *b, enum place at, const struct work *w,
	const struct fio_run *r, const struct fio_figures *f)
{
	const struct {
		const char *what;
		double v;
	} put[] = {{"iops", f->iops}, {"bw_mib_s", f->bw_mib_s}, {"p50_us", f->p50_us},
		{"p99_us", f->p99_us}, {"p999_us", f->p999_us}};
	json_t *params = params_of(b, r);

	for (size_t i = 0; i < COUNT(put); i++)
		record(b, put[i].v, json_incref(params), "%s.%s.%s.%s", places[at].prefix, w->name,
			places[at].side, put[i].what);
	json_decref(params);
}

struct cost {
	double ops, cpu_us; /* of the OSD, per write of the client */
};

static void record_costs(struct bench *b, const struct cost *c, const struct fio_run *r)
{
	for (int at = 0; at < PLACES; at++)
		record(b, c[at].cpu_us, params_of(b, r), "%s.osd_cpu_us_per_write.%s",
			places[at].prefix, places[at].side);
	record(b, c[RADOS].ops, params_of(b, r), "ceph.osd_ops_per_write");
	record(b, c[S3].ops, params_of(b, r), "s3.osd_ops_per_write");
	sample_as(b, "ceph.rbd_osd_ops_per_write", "count", RESULTS_NONE, c[RBD].ops,
		params_of(b, r));
	record(b, c[RADOS].cpu_us / c[RBD].cpu_us, params_of(b, r), "ceph.osd_cpu_ratio_rbd");
	record(b, c[S3].cpu_us / c[RADOS].cpu_us, params_of(b, r), "s3.osd_cpu_ratio_rados");
}

/* ---- one cell ---- */

static int measure(struct bench *b, enum place at, const struct work *w, unsigned round,
	struct fio_figures *f, struct cost *c, struct err *e)
{
	struct fio_run r = run_of(at, w);
	struct osd_work before, after;
	int rc;

	r.seed = round + 1;
	say_now(b, "%s, round %u of %u, %s", w->name, round + 1, rounds_of(b), places[at].label);
	rc = cluster_osd_work(&before, e);
	if (!rc)
		rc = fio_run(b, &r, f, e);
	if (rc)
		return err_wrap(e, rc, "%s", places[at].label);
	cluster_settle();
	rc = cluster_osd_work(&after, e);
	if (rc)
		return rc;
	*c = (struct cost){.ops = (double)(after.writes - before.writes) / (double)f->ios,
		.cpu_us = 1e6 * (after.cpu_s - before.cpu_s) / (double)f->ios};
	record_side(b, at, w, &r, f);
	return 0;
}

static int turn(struct bench *b, const struct work *w, unsigned round, struct err *e)
{
	struct fio_figures f[PLACES];
	struct cost c[PLACES];
	struct fio_run r = run_of(RADOS, w);
	int rc = 0;

	for (int at = 0; at < PLACES && !rc; at++)
		rc = measure(b, (enum place)at, w, round, &f[at], &c[at], e);
	if (rc)
		return rc;
	record(b, f[RADOS].iops / f[RBD].iops, params_of(b, &r), "ceph.%s.ratio_rbd", w->name);
	record(b, f[S3].iops / f[RADOS].iops, params_of(b, &r), "s3.%s.ratio_rados", w->name);
	if (w->osd)
		record_costs(b, c, &r);
	return 0;
}

static double median(const struct bench *b, const char *prefix, const char *work, const char *what)
{
	char name[RESULTS_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s.%s%s%s", prefix, work, *work ? "." : "", what);
	return sample_median(b, name);
}

static void say_work(struct bench *b, const struct work *w)
{
	say(b, "ceph.%-26s LSVD %7.0f   RBD %7.0f IOPS  %6.2f x   S3 %7.0f", w->name,
		median(b, "ceph", w->name, "lsvd.iops"), median(b, "ceph", w->name, "rbd.iops"),
		median(b, "ceph", w->name, "ratio_rbd"), median(b, "s3", w->name, "lsvd.iops"));
	if (w->osd)
		say(b,
			"   the OSD, for one write: 1/%.0f operation, %.2f us of CPU; RBD's %.2f "
			"and %.0f us; S3 1/%.0f and %.2f us",
			1 / median(b, "ceph", "", "osd_ops_per_write"),
			median(b, "ceph", "", "osd_cpu_us_per_write.lsvd"),
			median(b, "ceph", "", "rbd_osd_ops_per_write"),
			median(b, "ceph", "", "osd_cpu_us_per_write.rbd"),
			1 / median(b, "s3", "", "osd_ops_per_write"),
			median(b, "s3", "", "osd_cpu_us_per_write.lsvd"));
}

static int run_work(struct bench *b, const struct part *p, struct err *e)
{
	const struct work *w = &works[p->first];
	int rc = cluster_start(b, e);

	for (int at = 0; at < PLACES && !rc; at++)
		rc = prepare(b, (enum place)at, w, e);
	if (!rc)
		cluster_settle();
	for (unsigned round = 0; round < rounds_of(b) && !rc; round++)
		rc = turn(b, w, round, e);
	if (!rc)
		say_work(b, w);
	return rc;
}

/* ---- drains ---- */

static int store_bench(struct bench *b, enum place at, double *mib_s, struct err *e)
{
	char tool[BENCH_PATH + 8];
	const char *argv[] = {tool, "store-bench", places[at].store, "--size=8M", "--depth=4",
		"--phases=put", "--seconds=3", "--json", NULL};
	json_t *out = NULL;
	int rc;

	snprintf(tool, sizeof(tool), "%s/lsvd", b->o);
	rc = child_json(b->dir, argv, 90, &out, e);
	*mib_s = json_number_value(json_object_get(json_object_get(out, "put"), "bytes_per_s")) /
		 (double)MIB;
	json_decref(out);
	return rc;
}

static int drain(struct bench *b, enum place at, unsigned round, double *mib_s, struct err *e)
{
	char self[BENCH_PATH + 16], url[64], pool_mib[16], mib[16], pid[16];
	const char *argv[] = {self, "drain", url, "file:pool-drain", pool_mib, mib, pid, NULL};
	double bytes, took;
	json_t *out = NULL;
	int rc;

	snprintf(self, sizeof(self), "%s/ci-bench", b->o);
	snprintf(url, sizeof(url), "%s/drain-%u", places[at].store, round);
	snprintf(pool_mib, sizeof(pool_mib), "%d", DRAIN_POOL_MIB);
	snprintf(mib, sizeof(mib), "%d", DRAIN_MIB);
	snprintf(pid, sizeof(pid), "%d", (int)cluster_osd());
	rc = child_json(b->dir, argv, 120, &out, e);
	kill(cluster_osd(), SIGCONT); /* should it have died in between */
	bytes = json_number_value(json_object_get(out, "dirty_bytes"));
	took = json_number_value(json_object_get(out, "drain_s"));
	json_decref(out);
	if (!rc && bytes < 0.98 * DRAIN_MIB * (double)MIB)
		rc = err_set(e, -EIO, "only %.0f MiB were dirty when the drain began",
			bytes / (double)MIB);
	*mib_s = bytes / (double)MIB / took;
	return rc;
}

static int drain_turn(struct bench *b, enum place at, unsigned round, struct err *e)
{
	json_t *params = json_pack("{s:i, s:i, s:s}", "dirty_mib", DRAIN_MIB, "pool_mib",
		DRAIN_POOL_MIB, "store_bench",
		at == RADOS ? "lsvd store-bench rados:rbd --size=8M --depth=4 --phases=put --seconds=3"
			    : "lsvd store-bench s3:bench/vols --size=8M --depth=4 --phases=put --seconds=3");
	double put, drained;
	char name[40];
	int rc;

	say_now(b, "drain, round %u of %u, %s", round + 1, rounds_of(b), places[at].label);
	rc = store_bench(b, at, &put, e);
	cluster_settle();
	if (!rc)
		rc = drain(b, at, round, &drained, e);
	cluster_settle();
	if (!rc) {
		snprintf(name, sizeof(name), "%s.drain.mib_s", places[at].prefix);
		sample_as(b, name, "MiB/s", RESULTS_HIGHER, drained, json_incref(params));
		snprintf(name, sizeof(name), "%s.drain.store_bench_mib_s", places[at].prefix);
		sample_as(b, name, "MiB/s", RESULTS_NONE, put, json_incref(params));
		record(b, drained / put, json_incref(params), "%s.drain.ratio_store_bench",
			places[at].prefix);
	}
	json_decref(params);
	return rc ? err_wrap(e, rc, "%s", places[at].label) : 0;
}

static int run_drain(struct bench *b, const struct part *p, struct err *e)
{
	char path[BENCH_PATH + 16];
	int rc = cluster_start(b, e);

	for (unsigned round = 0; round < rounds_of(b); round++)
		for (unsigned i = 0; i < (round ? 1 : p->count) && !rc; i++)
			rc = drain_turn(b, i ? S3 : RADOS, round, e);
	snprintf(path, sizeof(path), "%s/pool-drain", b->dir);
	remove_tree(path);
	for (unsigned i = 0; i < p->count && !rc; i++) {
		const char *prefix = places[i ? S3 : RADOS].prefix;

		say(b,
			"%s.drain   %5.0f MiB/s of 4 KiB random writes; store-bench %5.0f MiB/s   "
			"%5.2f x",
			prefix, median(b, prefix, "drain", "mib_s"),
			median(b, prefix, "drain", "store_bench_mib_s"),
			median(b, prefix, "drain", "ratio_store_bench"));
	}
	return rc;
}

/* ---- the plan ---- */

uint64_t ceph_need_bytes(const struct bench *b)
{
	/* pools of four images and of the drain; the OSD */
	return b->quick || cluster_missing() ? 0 : (4 * POOL_MIB + DRAIN_POOL_MIB) * MIB + 12 * GIB;
}

void ceph_parts(struct bench *b)
{
	const char *missing = b->quick ? NULL : cluster_missing();
	struct part *p;

	if (b->quick)
		return;
	if (missing) {
		printf("ceph and s3: skipped: %s\n", missing);
		return;
	}
	for (unsigned i = 0; i < COUNT(works); i++) {
		p = plan_add(b, 20 + rounds_of(b) * PLACES * (works[i].runtime_s + 2.5), run_work,
			"ceph.%s", works[i].name);
		if (p)
			p->first = i;
	}
	p = plan_add(b, 35 + rounds_of(b) * 28, run_drain, "ceph.drain");
	if (p)
		p->count = 2;
}
