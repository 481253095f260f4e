/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fio.c - the fio matrix, LSVD and the raw disk in turns.
 *
 * Images, each with its own pool and made when first needed:
 *   r   only ever read.  Filled, closed, and read once, so that all of it is in the pool's cache
 *   m   mixed reads and writes.  Read through before each measurement
 *   w   bursts of writes
 *   s   sustained writes: larger than its pool
 * The raw side works on the same range of one file, written in full before.
 *
 * The quick profile measures the cells of one access pattern in one fio process, one after the
 * other; the full one gives each cell a process (and so a drained journal) of its own.
 */
#include "ci/runner/barelog.h"
#include "ci/runner/child.h"
#include "ci/runner/fio.h"
#include "ci/runner/fiorun.h"
#include "ci/runner/workdir.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define UL(v) ((unsigned long long)(v))

enum { WARM_PASSES = 6, JOBS = 8 };

struct sizes {
	uint64_t region, pool, sustained_pool, volume;
	double runtime_s, ramp_s, sustained_s;
};

static struct sizes sizes_of(const struct bench *b)
{
	return b->quick ? (struct sizes){512 * MIB, 1536 * MIB, 384 * MIB, 2 * GIB, 0.7, 0, 15}
			: (struct sizes){1 * GIB, 3 * GIB, 1 * GIB, 4 * GIB, 4, 0.5, 60};
}

uint64_t fio_need_bytes(const struct bench *b)
{
	struct sizes s = sizes_of(b);

	/* raw file; pools and images of r, m, w; pool and image of s with its garbage */
	return s.volume + 3 * (s.pool + 2 * s.region) + s.sustained_pool + 5 * s.volume / 2;
}

/* ---- cells ---- */

static const struct cell quick_cells[] = {
	{"randwrite", 4, 1, false, 0, 0},
	{"randwrite", 4, 32, false, 0, 0},
	{"randwrite", 4, 128, false, 0, 0},
	{"randwrite", 16, 32, false, 0, 0},
	{"randwrite", 64, 32, false, 0, 0},
	{"randwrite", 4, 1, true, 0, 0},
	{"randwrite", 4, 1, true, 0, JOBS},
	{"randread", 4, 1, false, 0, 0},
	{"randread", 4, 32, false, 0, 0},
	{"randread", 4, 128, false, 0, 0},
	{"randread", 16, 32, false, 0, 0},
	{"randread", 64, 32, false, 0, 0},
	{"write", 64, 1, false, 0, 0},
	{"write", 64, 32, false, 0, 0},
	{"write", 4, 32, false, 0, 0},
	{"read", 64, 1, false, 0, 0},
	{"read", 64, 32, false, 0, 0},
	{"randrw", 4, 1, false, 0, 0},
	{"randrw", 4, 32, false, 0, 0},
};

static struct cell cells[64];
static unsigned ncells;

static void add_cell(const struct bench *b, const struct cell *c)
{
	char name[RESULTS_NAME_MAX];

	cell_name(c, name, sizeof(name));
	if (plan_wants(b, name))
		cells[ncells++] = *c;
}

static void choose_cells(const struct bench *b)
{
	static const char *const rws[] = {"randwrite", "randread", "write", "read", "randrw"};
	static const unsigned bss[] = {4, 16, 64}, qds[] = {1, 32, 128};

	for (size_t i = 0; b->quick && i < COUNT(quick_cells); i++)
		add_cell(b, &quick_cells[i]);
	if (b->quick)
		return;
	for (size_t w = 0; w < COUNT(rws); w++)
		for (size_t s = 0; s < COUNT(bss); s++)
			for (size_t d = 0; d < COUNT(qds); d++)
				add_cell(b, &(struct cell){rws[w], bss[s], qds[d], false, 0, 0});
	add_cell(b, &(struct cell){"randwrite", 4, 1, true, 0, 0});
	add_cell(b, &(struct cell){"randwrite", 4, 1, true, 0, JOBS});
}

static bool reads(const struct cell *c)
{
	return strstr(c->rw, "read") || !strcmp(c->rw, "randrw");
}

static enum prepared image_of(const struct cell *c)
{
	if (!strcmp(c->rw, "randrw"))
		return PREPARED_MIXED;
	return reads(c) ? PREPARED_READ : PREPARED_WRITE;
}

static const char *image_name(enum prepared what)
{
	return what == PREPARED_READ	? "r"
	       : what == PREPARED_MIXED ? "m"
	       : what == PREPARED_WRITE ? "w"
					: "s";
}

/* ---- who served the reads ---- */

static double stat_number(const json_t *root, const char *key)
{
	return json_number_value(json_object_get(root, key));
}

static json_t *load_stats(const struct bench *b, unsigned i)
{
	char path[BENCH_PATH + 32];

	snprintf(path, sizeof(path), "%s/stats-%u.json", b->dir, i);
	return json_load_file(path, 0, NULL);
}

/* The statistics count from open. */
double fio_hit_percent(const struct bench *b, unsigned i)
{
	static const char *const keys[] = {"hit_journal_bytes", "hit_cache_bytes",
		"hit_prefetch_bytes", "miss_bytes", "zero_bytes"};
	json_t *now = load_stats(b, i), *before = i ? load_stats(b, i - 1) : NULL;
	double v[COUNT(keys)], all = 0;

	for (size_t k = 0; k < COUNT(keys); k++)
		all += v[k] = stat_number(now, keys[k]) - stat_number(before, keys[k]);
	json_decref(now);
	json_decref(before);
	return all > 0 ? 100 * (v[0] + v[1] + v[2]) / all : 0;
}

/* ---- preparing ---- */

static int fill_file(int fd, uint64_t bytes, struct err *e)
{
	uint64_t x = 88172645463325252ull;
	uint64_t *buf = aligned_alloc(4096, MIB);

	if (!buf)
		return err_set(e, -ENOMEM, "no memory");
	for (uint64_t at = 0; at < bytes; at += MIB) {
		for (size_t i = 0; i < MIB / 8; i += at ? 512 : 1) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			buf[i] = x;
		}
		if (pwrite(fd, buf, MIB, (off_t)at) != (ssize_t)MIB) {
			free(buf);
			return err_set(e, -errno, "write: %s", strerror(errno));
		}
	}
	free(buf);
	return fsync(fd) ? err_set(e, -errno, "fsync: %s", strerror(errno)) : 0;
}

int make_full_file(const char *path, uint64_t bytes, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600), rc;

	if (fd < 0)
		return err_set(e, -errno, "%s: %s (a disk with O_DIRECT is needed)", path,
			strerror(errno));
	rc = posix_fallocate(fd, 0, (off_t)bytes);
	rc = rc ? err_set(e, -rc, "preallocate: %s", strerror(rc)) : fill_file(fd, bytes, e);
	close(fd);
	return rc ? err_wrap(e, rc, "%s", path) : 0;
}

/* Registered buffers and files make the raw side as fast as io_uring gets; an ordinary user may not
 * be allowed to lock that much memory. */
static void choose_raw_options(struct bench *b)
{
	static char best[] = "fixedbufs=1\nregisterfiles=1\n", plain[] = "registerfiles=1\n";
	const struct cell c = {"read", 64, 128, false, 0, 0};
	const struct fio_run r = {.side = SIDE_RAW,
		.region_bytes = 512 * MIB,
		.runtime_s = 0.05,
		.cells = &c,
		.n = 1};
	struct fio_figures f;
	struct err e = {0};

	b->raw_options = best;
	if (fio_run(b, &r, &f, &e) == 0)
		return;
	say(b, "raw side without fixed buffers: %s", e.msg);
	b->raw_options = plain;
}

static int prepare_raw(struct bench *b, struct err *e)
{
	char path[BENCH_PATH + 8];
	int rc;

	say_now(b, "writing the raw file");
	snprintf(path, sizeof(path), "%s/raw", b->dir);
	rc = make_full_file(path, sizes_of(b).volume, e);
	if (!rc)
		choose_raw_options(b);
	return rc;
}

/* One pass over an image, written or read. */
static int pass(struct bench *b, enum prepared what, const char *rw, struct err *e)
{
	struct sizes s = sizes_of(b);
	const struct cell c = {rw, 64, 8, false, 0, 0};
	struct fio_run r = {.side = SIDE_LSVD,
		.image = image_name(what),
		.region_bytes = what == PREPARED_SUSTAINED ? s.volume : s.region,
		.pool_bytes = what == PREPARED_SUSTAINED ? s.sustained_pool : s.pool,
		.runtime_s = 120,
		.stats = true,
		.cells = &c,
		.n = 1};
	struct fio_figures f;

	r.io_bytes = r.region_bytes;
	say_now(b, "image %s: one pass of %s", r.image, rw);
	return fio_run(b, &r, &f, e);
}

/* Reads an image until all of it is served by the pool: a pass may outrun the filling of the cache.
 */
static int warm(struct bench *b, enum prepared what, struct err *e)
{
	int rc;

	for (unsigned i = 0; i < WARM_PASSES; i++) {
		rc = pass(b, what, "read", e);
		if (rc || fio_hit_percent(b, 0) >= 99.5)
			return rc;
	}
	return 0; /* what is missing shows in hit_percent */
}

int fio_prepare(struct bench *b, unsigned what, struct err *e)
{
	for (unsigned one = PREPARED_RAW; one <= PREPARED_SUSTAINED; one *= 2) {
		int rc;

		if (!(what & one) || (b->prepared & one))
			continue;
		rc = one == PREPARED_RAW ? prepare_raw(b, e) : pass(b, one, "write", e);
		if (!rc && one == PREPARED_READ)
			rc = warm(b, one, e);
		if (rc)
			return err_wrap(e, rc, "prepare %s",
				one == PREPARED_RAW ? "the raw file" : image_name(one));
		b->prepared |= one;
	}
	return 0;
}

void fio_clean_up(struct bench *b)
{
	static const char *const what[] = {"raw", "store", "pool-r", "pool-m", "pool-w", "pool-s"};
	char path[BENCH_PATH + 16];

	for (size_t i = 0; i < COUNT(what); i++) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, what[i]);
		remove_tree(path);
	}
	b->prepared = 0;
}

/* ---- recording ---- */

static json_t *params_of(const struct bench *b, const struct fio_run *r, bool cached)
{
	json_t *p = json_pack("{s:I}", "region_mib", (json_int_t)(r->region_bytes / MIB));

	if (r->io_bytes)
		json_object_set_new(
			p, "written_mib", json_integer((json_int_t)(r->io_bytes / MIB)));
	else
		json_object_set_new(p, "runtime_s", json_real(r->runtime_s));
	if (r->pool_bytes)
		json_object_set_new(p, "pool_mib", json_integer((json_int_t)(r->pool_bytes / MIB)));
	json_object_set_new(p, "cells_in_a_row", json_integer(r->n));
	if (r->side == SIDE_RAW)
		json_object_set_new(
			p, "fixedbufs", json_boolean(strstr(b->raw_options, "fixedbufs")));
	else if (cached)
		json_object_set_new(p, "cached", json_true());
	return p;
}

static void record_one(
	struct bench *b, const char *cell, const char *what, double v, json_t *params)
{
	char name[RESULTS_NAME_MAX + 32];

	snprintf(name, sizeof(name), "%s.%s", cell, what);
	sample(b, name, v, params);
}

/* How slow the slowest are, for the 4 KiB cells. */
static void record_tail(
	struct bench *b, const char *cell, const struct fio_run *r, const struct fio_figures *f)
{
	double share[FIO_TAIL_POINTS];
	char name[RESULTS_NAME_MAX + 16];

	if (!strstr(cell, ".4k."))
		return;
	for (unsigned i = 0; i < FIO_TAIL_POINTS; i++)
		share[i] = 100 * fio_tail_share(i);
	snprintf(name, sizeof(name), "%s.%s.tail", cell, r->side == SIDE_LSVD ? "lsvd" : "raw");
	sample_curve(b, name, "us", "percent", f->tail_us, share, FIO_TAIL_POINTS,
		params_of(b, r, false));
}

static void record_side(struct bench *b, const char *cell, const struct fio_run *r,
	const struct fio_figures *f, bool cached)
{
	const struct {
		const char *what;
		double v;
	} put[] = {{"iops", f->iops}, {"bw_mib_s", f->bw_mib_s}, {"p50_us", f->p50_us},
		{"p99_us", f->p99_us}, {"p999_us", f->p999_us}};
	json_t *params = params_of(b, r, cached);

	for (size_t i = 0; i < COUNT(put); i++) {
		char what[32];

		snprintf(what, sizeof(what), "%s.%s", r->side == SIDE_LSVD ? "lsvd" : "raw",
			put[i].what);
		record_one(b, cell, what, put[i].v, json_incref(params));
	}
	json_decref(params);
	record_tail(b, cell, r, f);
}

/* Says what a cell came to. */
static void say_cell(struct bench *b, const char *cell)
{
	double v[5];
	static const char *const what[] = {
		"ratio_raw", "lsvd.iops", "raw.iops", "lsvd.p99_us", "raw.p99_us"};

	for (size_t i = 0; i < COUNT(what); i++) {
		char name[RESULTS_NAME_MAX + 32];

		snprintf(name, sizeof(name), "%s.%s", cell, what[i]);
		v[i] = sample_median(b, name);
	}
	say(b, "%-32s %5.2f x raw   %8.0f : %8.0f IOPS   p99 %6.0f : %6.0f us", cell + 4, v[0],
		v[1], v[2], v[3], v[4]);
}

/* ---- who served the reads: recorded ---- */

static bool record_hits(struct bench *b, const char *cell, unsigned i)
{
	char name[RESULTS_NAME_MAX + 32];
	double hits = fio_hit_percent(b, i);

	snprintf(name, sizeof(name), "%s.lsvd.hit_percent", cell);
	sample_as(b, name, "percent", RESULTS_HIGHER, hits, NULL);
	if (hits < 99)
		say(b, "%s: only %.1f %% of the reads came from the pool", cell, hits);
	return hits >= 99;
}

/* ---- sweeps: cells of one access pattern in turns ---- */

/* Mixed cells: a pass of reads comes first in the same process, cell -1 so to say. */
static unsigned with_warm_up(
	const struct cell *list, unsigned n, bool mixed, uint64_t region, struct cell *out)
{
	unsigned lead = mixed ? 1 : 0;

	if (mixed)
		out[0] = (struct cell){"read", 64, 8, false, region, 0};
	memcpy(out + lead, list, n * sizeof(*list));
	return lead;
}

static int sweep_side(struct bench *b, const struct part *p, struct fio_run *r,
	struct fio_figures *f, struct err *e)
{
	struct cell list[FIO_CELLS_MAX];
	struct fio_figures out[FIO_CELLS_MAX];
	bool lsvd = r->side == SIDE_LSVD, mixed = image_of(&cells[p->first]) == PREPARED_MIXED;
	unsigned lead =
		with_warm_up(&cells[p->first], p->count, mixed && lsvd, r->region_bytes, list);
	int rc;

	r->cells = list;
	r->n = p->count + lead;
	r->stats = lsvd && reads(&cells[p->first]);
	rc = fio_run(b, r, out, e);
	if (rc)
		return err_wrap(e, rc, "%s", lsvd ? "LSVD" : "raw");
	r->n = p->count;
	memcpy(f, out + lead, p->count * sizeof(*f));
	for (unsigned i = 0; i < p->count; i++) {
		char name[RESULTS_NAME_MAX];
		bool cached = false;

		cell_name(&cells[p->first + i], name, sizeof(name));
		if (r->stats)
			cached = record_hits(b, name, i + lead);
		record_side(b, name, r, &f[i], cached);
	}
	return 0;
}

static int sweep_round(struct bench *b, const struct part *p, unsigned round, struct err *e)
{
	const struct sizes s = sizes_of(b);
	struct fio_figures f[SIDES][FIO_CELLS_MAX];

	for (int side = 0; side < SIDES; side++) {
		struct fio_run r = {.side = (enum side)side,
			.image = image_name(image_of(&cells[p->first])),
			.region_bytes = s.region,
			.pool_bytes = side == SIDE_LSVD ? s.pool : 0,
			.runtime_s = s.runtime_s,
			.ramp_s = s.ramp_s,
			.seed = 1 + 100 * p->first + round};
		int rc;

		say_now(b, "%s, round %u of %u, %s", p->id, round + 1, b->rounds,
			side == SIDE_LSVD ? "LSVD" : "raw");
		rc = sweep_side(b, p, &r, f[side], e);
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < p->count; i++) {
		char name[RESULTS_NAME_MAX];

		cell_name(&cells[p->first + i], name, sizeof(name));
		record_one(b, name, "ratio_raw", f[SIDE_LSVD][i].iops / f[SIDE_RAW][i].iops,
			json_pack("{s:f}", "runtime_s", s.runtime_s));
	}
	return 0;
}

static int run_sweep(struct bench *b, const struct part *p, struct err *e)
{
	int rc = fio_prepare(b, PREPARED_RAW | image_of(&cells[p->first]), e);

	for (unsigned round = 0; round < b->rounds && !rc; round++)
		rc = sweep_round(b, p, round, e);
	for (unsigned i = 0; i < p->count && !rc; i++) {
		char name[RESULTS_NAME_MAX];

		cell_name(&cells[p->first + i], name, sizeof(name));
		say_cell(b, name);
	}
	return rc;
}

/* ---- sustained writes ---- */

/* Where the bytes that were written go. */
static void record_destinations(
	struct bench *b, const char *name, const struct fio_run *r, const json_t *st)
{
	static const char *const what[] = {"journal", "batch", "gc", "checkpoint"};
	double written = stat_number(st, "write_bytes");

	for (size_t i = 0; i < COUNT(what) && written > 0; i++) {
		char key[32], figure[RESULTS_NAME_MAX + 64];

		snprintf(key, sizeof(key), "%s_bytes", what[i]);
		snprintf(figure, sizeof(figure), "%s.lsvd.%s_per_byte", name, key);
		sample_as(b, figure, "ratio", RESULTS_LOWER, stat_number(st, key) / written,
			params_of(b, r, false));
	}
}

static void record_sustained(struct bench *b, const char *name, const struct fio_run *r)
{
	static const struct {
		const char *key, *figure, *unit;
		enum results_direction direction;
		double scale;
	} what[] = {{"write_amplification", "write_amplification", "ratio", RESULTS_LOWER, 1},
		{"dirty_bytes", "dirty_mib_at_end", "MiB", RESULTS_NONE, 1.0 / MIB},
		{"stalled_ns", "stalled_ms", "ms", RESULTS_NONE, 1e-6}};
	json_t *st = load_stats(b, 0);

	record_destinations(b, name, r, st);
	for (size_t i = 0; i < COUNT(what); i++) {
		char figure[RESULTS_NAME_MAX + 40];

		if (!json_object_get(st, what[i].key))
			continue;
		snprintf(figure, sizeof(figure), "%s.lsvd.%s", name, what[i].figure);
		sample_as(b, figure, what[i].unit, what[i].direction,
			what[i].scale * stat_number(st, what[i].key), params_of(b, r, false));
	}
	json_decref(st);
}

/* How near it is to what the disk allows: see barelog.c. */
static int bare_side(struct bench *b, const struct part *p, double lsvd_iops, struct err *e)
{
	double seconds = b->quick ? 2 : 6, iops = 0;
	char path[BENCH_PATH + 8], name[RESULTS_NAME_MAX + 16];
	int rc;

	snprintf(path, sizeof(path), "%s/raw", b->dir);
	rc = barelog_run(path, p->first, seconds, &iops, e);
	if (rc)
		return err_wrap(e, rc, "bare log");
	snprintf(name, sizeof(name), "%s.bare.iops", p->id);
	sample_as(b, name, "iops", RESULTS_NONE, iops, json_pack("{s:f}", "runtime_s", seconds));
	snprintf(name, sizeof(name), "%s.ratio_bare", p->id);
	sample_as(b, name, "ratio", RESULTS_HIGHER, lsvd_iops / iops,
		json_pack("{s:f}", "runtime_s", seconds));
	return 0;
}

static int sustained_round(struct bench *b, const struct part *p, unsigned round, struct err *e)
{
	const struct sizes s = sizes_of(b);
	const struct cell c = {"randwrite", 4, p->first, false, 0, 0};
	struct fio_figures f[SIDES];
	json_t *params = NULL;

	for (int side = 0; side < SIDES; side++) {
		struct fio_run r = {.side = (enum side)side,
			.image = "s",
			.region_bytes = s.volume,
			.pool_bytes = side == SIDE_LSVD ? s.sustained_pool : 0,
			.io_bytes = 4 * s.sustained_pool,
			.runtime_s = s.sustained_s,
			.seed = 7000 + 10 * p->first + round,
			.stats = true,
			.cells = &c,
			.n = 1};
		int rc;

		say_now(b, "%s, round %u of %u, %s", p->id, round + 1, b->rounds,
			side == SIDE_LSVD ? "LSVD" : "raw");
		rc = fio_run(b, &r, &f[side], e);
		if (rc)
			return err_wrap(e, rc, "%s", side == SIDE_LSVD ? "LSVD" : "raw");
		record_side(b, p->id, &r, &f[side], false);
		if (side != SIDE_LSVD)
			continue;
		record_sustained(b, p->id, &r);
		params = params_of(b, &r, false);
	}
	record_one(
		b, p->id, "ratio_raw", f[SIDE_LSVD].iops / f[SIDE_RAW].iops, json_incref(params));
	record_one(b, p->id, "p99_ratio_raw", f[SIDE_LSVD].p99_us / f[SIDE_RAW].p99_us,
		json_incref(params));
	record_one(b, p->id, "p999_ratio_raw", f[SIDE_LSVD].p999_us / f[SIDE_RAW].p999_us, params);
	return bare_side(b, p, f[SIDE_LSVD].iops, e);
}

static void say_bare(struct bench *b, const char *id)
{
	char ratio[RESULTS_NAME_MAX + 16], iops[RESULTS_NAME_MAX + 16];

	snprintf(ratio, sizeof(ratio), "%s.ratio_bare", id);
	snprintf(iops, sizeof(iops), "%s.bare.iops", id);
	say(b, "%-32s %5.2f x a bare log of %.0f IOPS", id + 4, sample_median(b, ratio),
		sample_median(b, iops));
}

static int run_sustained(struct bench *b, const struct part *p, struct err *e)
{
	int rc = fio_prepare(b, PREPARED_RAW | PREPARED_SUSTAINED, e);

	for (unsigned round = 0; round < b->rounds && !rc; round++)
		rc = sustained_round(b, p, round, e);
	if (rc)
		return rc;
	say_cell(b, p->id);
	say_bare(b, p->id);
	return 0;
}

/* ---- the plan ---- */

static bool same_sweep(const struct bench *b, const struct cell *a, const struct cell *c)
{
	return b->quick && !strcmp(a->rw, c->rw) && a->fsync == c->fsync && a->jobs == c->jobs;
}

static void add_sweep(struct bench *b, unsigned first, unsigned count)
{
	struct sizes s = sizes_of(b);
	char name[RESULTS_NAME_MAX];
	const char *only = b->only;
	struct part *p;

	cell_name(&cells[first], name, sizeof(name));
	if (count > 1)
		snprintf(name, sizeof(name), "fio.%s", cells[first].rw);
	b->only = NULL; /* the cells were chosen already */
	p = plan_add(
		b, b->rounds * 2 * (count * (s.runtime_s + s.ramp_s) + 0.7), run_sweep, "%s", name);
	b->only = only;
	p->first = first;
	p->count = count;
}

void fio_parts(struct bench *b)
{
	static const unsigned depths[] = {32, 128};

	choose_cells(b);
	for (unsigned i = 0, n; i < ncells; i += n) {
		for (n = 1; i + n < ncells && same_sweep(b, &cells[i], &cells[i + n]); n++)
			;
		add_sweep(b, i, n);
	}
	for (size_t i = 0; i < COUNT(depths); i++) {
		struct part *p = plan_add(b, b->rounds * (b->quick ? 11.0 : 30.0), run_sustained,
			"fio.randwrite.4k.qd%u.sustained", depths[i]);

		if (p)
			p->first = depths[i];
	}
}
