/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem.c - the library without a disk: pool and store in memory, inline drive, one processor; and
 * the same for several jobs, which thread drive serves.
 *
 * IOPS are fio's, so fio's own 0.2 to 0.3 us per I/O are in them; CPU, system calls and allocations
 * per I/O are counted by our own driver (driver.c) around lsvd.h.  The cost of recording a trace is
 * the difference between slices of one process with and without recording, in turns.
 */
#include "ci/runner/child.h"
#include "ci/runner/fiorun.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A store in memory grows until garbage collection keeps it; touching new memory is slow and not
 * what is measured, so that much is written first. */
enum { REGION_MIB = 128, POOL_MIB = 512, WARM_MIB = 2560 };

/* ---- fio ---- */

/* One process: warm-up, then write and read in turns. */
static unsigned mem_cells(const struct bench *b, struct cell *list)
{
	unsigned n = 0;

	list[n++] = (struct cell){"write", 256, 8, false, REGION_MIB * MIB, 0};
	list[n++] = (struct cell){"randwrite", 4, 32, false, WARM_MIB * MIB, 0};
	for (unsigned i = 0; i < b->rounds && n + 2 <= FIO_CELLS_MAX; i++) {
		list[n++] = (struct cell){"randwrite", 4, 32, false, 0, 0};
		list[n++] = (struct cell){"randread", 4, 32, false, 0, 0};
	}
	return n;
}

static int run_fio(struct bench *b, const struct part *p, struct err *e)
{
	struct cell list[FIO_CELLS_MAX];
	struct fio_figures out[FIO_CELLS_MAX];
	struct fio_run r = {.side = SIDE_LSVD,
		.image = "bench",
		.region_bytes = REGION_MIB * MIB,
		.pool_bytes = POOL_MIB * MIB,
		.runtime_s = b->quick ? 1 : 4,
		.seed = 1,
		.memory = true,
		.cells = list,
		.n = mem_cells(b, list)};
	int rc;

	say_now(b, "%s", p->id);
	rc = fio_run(b, &r, out, e);
	for (unsigned i = 2; i < r.n && !rc; i++)
		sample(b, i % 2 ? "mem.read.4k.qd32.iops" : "mem.write.4k.qd32.iops", out[i].iops,
			json_pack("{s:i, s:i, s:f, s:s}", "region_mib", REGION_MIB, "pool_mib",
				POOL_MIB, "runtime_s", r.runtime_s, "by", "fio"));
	if (!rc)
		say(b, "memory pool and store, fio        write %8.0f IOPS   read %8.0f IOPS",
			sample_median(b, "mem.write.4k.qd32.iops"),
			sample_median(b, "mem.read.4k.qd32.iops"));
	return rc;
}

/* ---- several jobs on one image ---- */

/* fio's threads hand their requests to the library's thread and are woken by it; what that costs is
 * told against one job that is the library's loop itself, in turns, a process each. */
enum { JOBS = 4, JOBS_REGION_MIB = 64, JOBS_WARM_MIB = 1280 };

static int jobs_side(
	struct bench *b, unsigned round, unsigned jobs, struct fio_figures *out, struct err *e)
{
	const struct cell list[] = {{"write", 256, 8, false, JOBS_REGION_MIB * MIB, 0},
		{"randwrite", 4, 32, false, JOBS_WARM_MIB * MIB, 0},
		{"randwrite", 4, 32, false, 0, jobs}, {"randread", 4, 32, false, 0, jobs}};
	const struct fio_run r = {.side = SIDE_LSVD,
		.image = "jobs",
		.region_bytes = JOBS_REGION_MIB * MIB,
		.pool_bytes = POOL_MIB * MIB,
		.runtime_s = b->quick ? 0.7 : 4,
		.seed = 40 + round,
		.memory = true,
		.all_cpus = true,
		.cells = list,
		.n = 4};

	say_now(b, "mem.jobs, round %u of %u, %s", round + 1, b->rounds,
		jobs ? "thread drive" : "inline drive");
	return fio_run(b, &r, out, e);
}

static void record_jobs(struct bench *b, const char *op, double one, double many)
{
	const struct {
		const char *what;
		double v;
	} put[] = {{"4jobs.ratio_inline", many / one}, {"4jobs.iops", many}, {"1job.iops", one}};
	char name[RESULTS_NAME_MAX];

	for (size_t i = 0; i < sizeof(put) / sizeof(put[0]); i++) {
		snprintf(name, sizeof(name), "mem.%s.4k.qd32.%s", op, put[i].what);
		sample(b, name, put[i].v,
			json_pack("{s:i, s:i, s:s}", "region_mib", JOBS_REGION_MIB, "pool_mib",
				POOL_MIB, "by", "fio"));
	}
}

static int run_jobs(struct bench *b, const struct part *p, struct err *e)
{
	static const char *const names[] = {
		"mem.write.4k.qd32.4jobs.ratio_inline", "mem.read.4k.qd32.4jobs.ratio_inline"};
	struct fio_figures one[4], many[4];
	int rc = 0;

	(void)p;
	for (unsigned round = 0; round < b->rounds && !rc; round++) {
		rc = jobs_side(b, round, 0, one, e);
		if (!rc)
			rc = jobs_side(b, round, JOBS, many, e);
		for (unsigned i = 0; i < 2 && !rc; i++)
			record_jobs(b, i ? "read" : "write", one[2 + i].iops, many[2 + i].iops);
	}
	if (!rc)
		say(b, "4 jobs, thread drive : 1, inline  write %5.2f x IOPS   read %5.2f x IOPS",
			sample_median(b, names[0]), sample_median(b, names[1]));
	return rc;
}

/* ---- the driver ---- */

struct driver_args {
	const char *op, *pool, *image, *trace;
	unsigned warm_mib, slices, slice_ms;
};

static int drive(struct bench *b, const struct driver_args *a, json_t **out, struct err *e)
{
	char region[16], warm[16], slices[16], slice_ms[16], file[BENCH_PATH + 16],
		log[BENCH_PATH + 16];
	const char *argv[] = {"/proc/self/exe", "driver", a->op, a->pool, a->image, region, warm,
		slices, slice_ms, a->trace, NULL};
	struct child c = {.argv = argv,
		.cwd = b->dir,
		.out = file,
		.log = log,
		.cpu = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1,
		.limit_s = 60 + 3e-3 * a->slices * a->slice_ms};
	json_error_t je;
	int rc;

	snprintf(region, sizeof(region), "%d", REGION_MIB);
	snprintf(warm, sizeof(warm), "%u", a->warm_mib);
	snprintf(slices, sizeof(slices), "%u", a->slices);
	snprintf(slice_ms, sizeof(slice_ms), "%u", a->slice_ms);
	snprintf(file, sizeof(file), "%s/driver.json", b->dir);
	snprintf(log, sizeof(log), "%s/driver.log", b->dir);
	rc = child_run(&c, e);
	if (rc)
		return rc;
	*out = json_load_file(file, 0, &je);
	return *out ? 0 : err_set(e, -EUCLEAN, "driver's output: %s", je.text);
}

static double of(const json_t *slice, const char *key)
{
	return json_number_value(json_object_get(slice, key));
}

static void record_slice(struct bench *b, const char *op, const json_t *s)
{
	static const char *const keys[] = {"cpu_ns", "syscalls", "allocs"},
				 *const names[] = {"cpu_ns", "syscalls_per_io", "allocs_per_io"};
	json_t *params = json_pack(
		"{s:i, s:i, s:s}", "region_mib", REGION_MIB, "pool_mib", POOL_MIB, "by", "driver");
	char name[RESULTS_NAME_MAX];

	for (size_t i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "mem.%s.4k.qd32.%s", op, names[i]);
		sample(b, name, of(s, keys[i]) / of(s, "ios"), json_incref(params));
	}
	snprintf(name, sizeof(name), "mem.%s.4k.qd32.driver.iops", op);
	sample(b, name, 1e9 * of(s, "ios") / of(s, "wall_ns"), json_incref(params));
	if (json_object_get(s, "instructions")) {
		snprintf(name, sizeof(name), "mem.%s.4k.qd32.instructions_per_io", op);
		sample_as(b, name, "count", RESULTS_LOWER, of(s, "instructions") / of(s, "ios"),
			json_incref(params));
	}
	json_decref(params);
}

static int run_driver(struct bench *b, const struct part *p, struct err *e)
{
	const char *op = p->first ? "read" : "write";
	struct driver_args a = {op, "mem:512M", "mem:bench", NULL, p->first ? 64 : WARM_MIB,
		b->rounds < 5 ? 5 : b->rounds, b->quick ? 400 : 2000};
	char cpu[64], sys[64], alloc[64];
	json_t *list = NULL, *s;
	int rc;
	size_t i;

	say_now(b, "%s", p->id);
	rc = drive(b, &a, &list, e);
	json_array_foreach(list, i, s) record_slice(b, op, s);
	json_decref(list);
	if (rc)
		return rc;
	snprintf(cpu, sizeof(cpu), "mem.%s.4k.qd32.cpu_ns", op);
	snprintf(sys, sizeof(sys), "mem.%s.4k.qd32.syscalls_per_io", op);
	snprintf(alloc, sizeof(alloc), "mem.%s.4k.qd32.allocs_per_io", op);
	say(b,
		"memory, 4 KiB %-5s                %5.0f ns CPU, %.4f system calls, %.4f "
		"allocations per I/O",
		op, sample_median(b, cpu), sample_median(b, sys), sample_median(b, alloc));
	return 0;
}

/* ---- tracing ---- */

enum { TRACE_GROUPS = 5 };

/* The least that a request cost in one of the slices of a group, traced or not.  What disturbs a slice
 * only adds to it, and more than recording does, so the least is what tells them apart. */
static double least(const json_t *list, size_t group, bool traced, const char *key)
{
	size_t n = json_array_size(list) / TRACE_GROUPS;
	double best = 0;

	for (size_t i = group * n; i < (group + 1) * n; i++) {
		const json_t *s = json_array_get(list, i);
		double v = of(s, key) / of(s, "ios");

		if (json_is_true(json_object_get(s, "traced")) == traced && (best <= 0 || v < best))
			best = v;
	}
	return best;
}

/* Recording costs the same whoever serves the request; where memory does, it can be measured. */
static void record_trace_costs(struct bench *b, const json_t *disk, const json_t *mem)
{
	static const struct {
		const char *ns, *percent, *key;
	} what[] = {{"trace.record.cpu_ns", "trace.cpu_overhead_percent", "cpu_ns"},
		{"trace.record.loop_ns", "trace.loop_overhead_percent", "thread_ns"}};

	for (size_t g = 0; g < TRACE_GROUPS; g++)
		for (size_t i = 0; i < 2; i++) {
			double ns = least(mem, g, true, what[i].key) -
				    least(mem, g, false, what[i].key);

			sample_as(b, what[i].ns, "ns", RESULTS_LOWER, ns,
				json_pack("{s:s}", "workload", "4k reads, qd32, memory pool"));
			sample_as(b, what[i].percent, "percent", RESULTS_LOWER,
				100 * ns / least(disk, g, false, what[i].key),
				json_pack("{s:s}", "of",
					"4k reads, qd32, file pool, without spinning"));
		}
}

static int run_trace(struct bench *b, const struct part *p, struct err *e)
{
	struct driver_args disk = {"read", "file:pool-t", "file:store/t", NULL, 64,
				   2 * TRACE_GROUPS, 200},
			   mem = {"read", "mem:512M", "mem:bench", "t.lsvdtrace", 64,
				   TRACE_GROUPS * (b->quick ? 12 : 40), 60};
	json_t *on_disk = NULL, *in_memory = NULL;
	int rc;

	say_now(b, "%s", p->id);
	rc = drive(b, &disk, &on_disk, e);
	if (!rc)
		rc = drive(b, &mem, &in_memory, e);
	if (!rc) {
		record_trace_costs(b, on_disk, in_memory);
		say(b,
			"recording a trace                 %.2f %% CPU (the loop %.2f %%), %.0f ns "
			"per request (the loop %.0f)",
			sample_median(b, "trace.cpu_overhead_percent"),
			sample_median(b, "trace.loop_overhead_percent"),
			sample_median(b, "trace.record.cpu_ns"),
			sample_median(b, "trace.record.loop_ns"));
	}
	json_decref(on_disk);
	json_decref(in_memory);
	return rc;
}

void mem_parts(struct bench *b)
{
	static const char *const ops[] = {"write", "read"};

	plan_add(b, b->quick ? 14 : 50, run_fio, "mem.fio");
	plan_add(b, b->rounds * (b->quick ? 7.0 : 24.0), run_jobs, "mem.jobs");
	for (unsigned i = 0; i < 2; i++) {
		struct part *p = plan_add(b, b->quick ? 5 : 14, run_driver, "mem.%s", ops[i]);

		if (p)
			p->first = i;
	}
	plan_add(b, b->quick ? 10 : 40, run_trace, "trace");
}
