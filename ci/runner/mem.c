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

enum { REGION_MIB = 128, POOL_MIB = 512 };

/* ---- fio ---- */

static int fio_round(struct bench *b, unsigned round, struct err *e)
{
	static const struct cell list[] = {
		{"write", 256, 8, false}, {"randwrite", 4, 32, false}, {"randread", 4, 32, false}};
	struct fio_figures out[3];
	struct fio_run r = {.side = SIDE_LSVD,
		.image = "bench",
		.region_bytes = REGION_MIB * MIB,
		.pool_bytes = POOL_MIB * MIB,
		.runtime_s = b->quick ? 0.8 : 4,
		.seed = 1 + round,
		.memory = true,
		.cells = list,
		.n = 3};
	int rc = fio_run(b, &r, out, e);
	json_t *params;

	if (rc)
		return rc;
	params = json_pack("{s:i, s:i, s:f, s:s}", "region_mib", REGION_MIB, "pool_mib", POOL_MIB,
		"runtime_s", r.runtime_s, "by", "fio");
	sample(b, "mem.write.4k.qd32.iops", out[1].iops, json_incref(params));
	sample(b, "mem.read.4k.qd32.iops", out[2].iops, params);
	return 0;
}

static int run_fio(struct bench *b, const struct part *p, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < b->rounds && !rc; i++) {
		say_now(b, "%s, round %u of %u", p->id, i + 1, b->rounds);
		rc = fio_round(b, i, e);
	}
	if (!rc)
		say(b, "memory pool and store, fio        write %8.0f IOPS   read %8.0f IOPS",
			sample_median(b, "mem.write.4k.qd32.iops"),
			sample_median(b, "mem.read.4k.qd32.iops"));
	return rc;
}

/* ---- the driver ---- */

struct driver_args {
	const char *op, *pool, *image, *trace;
	unsigned slices, slice_ms;
};

static int drive(struct bench *b, const struct driver_args *a, json_t **out, struct err *e)
{
	char region[16], slices[16], slice_ms[16], file[BENCH_PATH + 16], log[BENCH_PATH + 16];
	const char *argv[] = {"/proc/self/exe", "driver", a->op, a->pool, a->image, region, slices,
		slice_ms, a->trace, NULL};
	struct child c = {.argv = argv,
		.cwd = b->dir,
		.out = file,
		.log = log,
		.cpu = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1,
		.limit_s = 60 + 3e-3 * a->slices * a->slice_ms};
	json_error_t je;
	int rc;

	snprintf(region, sizeof(region), "%d", REGION_MIB);
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
	struct driver_args a = {op, "mem:512M", "mem:bench", NULL, b->rounds < 5 ? 5 : b->rounds,
		b->quick ? 400 : 2000};
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

/* Percent by which the traced slice between two others costs more per I/O than they do. */
static void record_pairs(struct bench *b, const json_t *list, const char *name, const char *key,
	const char *workload, bool promised)
{
	for (size_t i = 1; i + 1 < json_array_size(list); i += 2) {
		double cost[3];
		json_t *params = json_pack("{s:s, s:s}", "workload", workload, "counted", key);

		for (size_t k = 0; k < 3; k++) {
			const json_t *s = json_array_get(list, i - 1 + k);

			cost[k] = of(s, key) / of(s, "ios");
		}
		cost[0] = 100 * (2 * cost[1] / (cost[0] + cost[2]) - 1);
		if (promised)
			sample(b, name, cost[0], params);
		else
			sample_as(b, name, "percent", RESULTS_LOWER, cost[0], params);
	}
}

static int run_trace(struct bench *b, const struct part *p, struct err *e)
{
	unsigned n = b->quick ? 31 : 101;
	struct driver_args disk = {"mixed", "file:pool-t", "file:store/t", "t.lsvdtrace", n, 150},
			   mem = {"mixed", "mem:512M", "mem:bench", "t.lsvdtrace", n, 100};
	json_t *list = NULL;
	int rc;

	say_now(b, "%s, on disk", p->id);
	rc = drive(b, &disk, &list, e);
	if (!rc)
		record_pairs(b, list, "trace.cpu_overhead_percent", "cpu_ns",
			"4k qd32, 2/3 reads, file pool and store", true);
	json_decref(list);
	list = NULL;
	if (!rc) {
		say_now(b, "%s, in memory", p->id);
		rc = drive(b, &mem, &list, e);
	}
	if (!rc)
		record_pairs(b, list, "trace.mem.cpu_overhead_percent", "cpu_ns",
			"4k qd32, 2/3 reads, memory pool and store", false);
	if (!rc && json_object_get(json_array_get(list, 0), "instructions"))
		record_pairs(b, list, "trace.mem.instructions_percent", "instructions",
			"4k qd32, 2/3 reads, memory pool and store", false);
	json_decref(list);
	if (!rc)
		say(b, "recording a trace                 %.2f %% CPU on disk, %.2f %% in memory",
			sample_median(b, "trace.cpu_overhead_percent"),
			sample_median(b, "trace.mem.cpu_overhead_percent"));
	return rc;
}

void mem_parts(struct bench *b)
{
	static const char *const ops[] = {"write", "read"};

	plan_add(b, b->rounds * (b->quick ? 4.0 : 14.0), run_fio, "mem.fio");
	for (unsigned i = 0; i < 2; i++) {
		struct part *p = plan_add(b, b->quick ? 4 : 12, run_driver, "mem.%s", ops[i]);

		if (p)
			p->first = i;
	}
	plan_add(b, b->quick ? 11 : 28, run_trace, "trace");
}
