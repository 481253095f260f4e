/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem.c - the library without a disk: pool and store in memory, inline drive, one processor.
 *
 * IOPS are fio's, so fio's own 0.2 to 0.3 us per I/O are in them; CPU, system calls and allocations
 * per I/O are counted by our own driver (driver.c) around lsvd.h.  The cost of recording a trace is
 * the difference between neighbouring slices of one process with and without recording.
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

	list[n++] = (struct cell){"write", 256, 8, false, REGION_MIB * MIB};
	list[n++] = (struct cell){"randwrite", 4, 32, false, WARM_MIB * MIB};
	for (unsigned i = 0; i < b->rounds && n + 2 <= FIO_CELLS_MAX; i++) {
		list[n++] = (struct cell){"randwrite", 4, 32, false, 0};
		list[n++] = (struct cell){"randread", 4, 32, false, 0};
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

struct cost {
	const char *name, *key;
	bool percent;
};

/* What a traced slice costs more per I/O than the mean of the two beside it. */
static void record_costs(struct bench *b, const json_t *list, const char *workload,
	const struct cost *costs, size_t n)
{
	for (size_t i = 1; i + 1 < json_array_size(list); i += 2)
		for (size_t c = 0; c < n; c++) {
			double v[3], plain;
			json_t *params = json_pack("{s:s}", "workload", workload);

			for (size_t k = 0; k < 3; k++) {
				const json_t *s = json_array_get(list, i - 1 + k);

				v[k] = of(s, costs[c].key) / of(s, "ios");
			}
			plain = (v[0] + v[2]) / 2;
			if (costs[c].percent)
				sample_as(b, costs[c].name, "percent", RESULTS_LOWER,
					100 * (v[1] / plain - 1), params);
			else
				sample_as(b, costs[c].name, "ns", RESULTS_LOWER, v[1] - plain,
					params);
		}
}

/* Reads that the SSD serves: their cost is steady enough to see a difference.  Those that memory
 * serves show what a record costs by itself. */
static int run_trace(struct bench *b, const struct part *p, struct err *e)
{
	static const struct cost on_disk[] = {{"trace.cpu_overhead_percent", "cpu_ns", true},
		{"trace.loop_overhead_percent", "thread_ns", true}};
	static const struct cost in_memory[] = {{"trace.record.cpu_ns", "cpu_ns", false},
		{"trace.record.loop_ns", "thread_ns", false}};
	unsigned n = b->quick ? 15 : 61;
	struct driver_args disk = {"read", "file:pool-t", "file:store/t", "t.lsvdtrace", 64, n,
				   300},
			   mem = {"read", "mem:512M", "mem:bench", "t.lsvdtrace", 64, n, 200};
	json_t *list = NULL;
	int rc;

	say_now(b, "%s, on disk", p->id);
	rc = drive(b, &disk, &list, e);
	if (!rc)
		record_costs(b, list, "4k reads, qd32, file pool", on_disk, 2);
	json_decref(list);
	list = NULL;
	if (!rc) {
		say_now(b, "%s, in memory", p->id);
		rc = drive(b, &mem, &list, e);
	}
	if (!rc)
		record_costs(b, list, "4k reads, qd32, memory pool", in_memory, 2);
	json_decref(list);
	if (!rc)
		say(b,
			"recording a trace                 %.2f %% CPU (the loop %.2f %%), %.0f ns "
			"per request (the "
			"loop %.0f)",
			sample_median(b, "trace.cpu_overhead_percent"),
			sample_median(b, "trace.loop_overhead_percent"),
			sample_median(b, "trace.record.cpu_ns"),
			sample_median(b, "trace.record.loop_ns"));
	return rc;
}

void mem_parts(struct bench *b)
{
	static const char *const ops[] = {"write", "read"};

	plan_add(b, b->quick ? 14 : 50, run_fio, "mem.fio");
	for (unsigned i = 0; i < 2; i++) {
		struct part *p = plan_add(b, b->quick ? 5 : 14, run_driver, "mem.%s", ops[i]);

		if (p)
			p->first = i;
	}
	plan_add(b, b->quick ? 10 : 40, run_trace, "trace");
}
