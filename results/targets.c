/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* targets.c - the table of promises of `make bench`. */
#include "results/targets.h"

#include <math.h>
#include <string.h>

const struct target targets[] = {
	{"fio.randwrite.4k.qd32.sustained.ratio_raw",
		"4 KiB random write, depth 32, sustained over 4x the pool: IOPS against the raw "
		"disk",
		1.7, NAN, false, false},
	{"fio.randwrite.4k.qd128.sustained.ratio_raw", "the same at depth 128", 2.7, NAN, false,
		false},
	{"fio.randwrite.4k.qd1.ratio_raw", "4 KiB random write, depth 1: IOPS against raw", 1,
		NAN, false, false},
	{"fio.randread.4k.qd1.ratio_raw",
		"4 KiB random read, depth 1, all cached: IOPS against raw", 0.95, NAN, false,
		false},
	{"fio.randread.4k.qd32.ratio_raw",
		"4 KiB random read, depth 32, all cached: IOPS against raw", 0.95, NAN, false,
		false},
	{"fio.write.64k.qd32.ratio_raw",
		"64 KiB sequential write (every byte is written twice) against raw", 0.6, NAN,
		false, false},
	{"fio.read.64k.qd32.ratio_raw", "64 KiB sequential read, all cached: IOPS against raw",
		0.95, NAN, false, false},
	{"fio.randwrite.4k.qd32.sustained.p99_ratio_raw",
		"p99 of the sustained 4 KiB random write, depth 32, against raw's p99", 0.8, NAN,
		true, false},
	{"fio.randwrite.4k.qd32.sustained.p999_ratio_raw", "the same: p99.9 against raw's", 1, NAN,
		true, false},
	{"fio.randwrite.4k.qd1.8jobs.fsync.ratio_raw",
		"4 KiB random write, 8 jobs on one image, fsync after every write: IOPS against raw "
		"with 8 jobs",
		2, NAN, false, false},
	{"pressure.slow.max_ms",
		"4 KiB writes at three times what the store takes: the slowest, ms", 250, NAN, true,
		false},
	{"pressure.slow.late_ratio_store",
		"the same: what they get at last against what the store takes", 0.9, NAN, false,
		false},
	{"pressure.stop.max_ms",
		"4 KiB writes while the store stops for 5 s: the slowest, ms", 500, NAN, true,
		false},
	{"gc.foreground.iops_ratio",
		"4 KiB random write, depth 32, steady garbage: IOPS with garbage collection "
		"against without",
		0.9, NAN, false, false},
	{"gc.foreground.p99_ratio", "the same: p99 with garbage collection against without", 2, NAN,
		true, false},
	{"mem.write.4k.qd32.iops", "memory pool and store, 4 KiB write, depth 32, one core: IOPS",
		600e3, NAN, false, false},
	{"mem.read.4k.qd32.iops", "memory pool and store, 4 KiB read, depth 32, one core: IOPS",
		900e3, NAN, false, false},
	{"mem.write.4k.qd32.cpu_ns", "CPU in the library for one 4 KiB write, ns", 1500, NAN, true,
		false},
	{"mem.read.4k.qd32.cpu_ns", "CPU in the library for one 4 KiB cached read, ns", 1000, NAN,
		true, false},
	{"mem.write.4k.qd32.syscalls_per_io", "system calls per 4 KiB write", 0.1, NAN, true,
		false},
	{"mem.read.4k.qd32.syscalls_per_io", "system calls per 4 KiB read", 0.1, NAN, true, false},
	{"mem.write.4k.qd32.allocs_per_io", "heap allocations per 4 KiB write (some per object)",
		0.0005, NAN, true, false},
	{"mem.read.4k.qd32.allocs_per_io", "heap allocations per 4 KiB read", 0, NAN, true, false},
	{"mem.write.4k.qd32.4jobs.ratio_inline",
		"memory pool and store, 4 KiB write: IOPS of 4 jobs by thread drive against 1 job by "
		"inline drive",
		0.9, NAN, false, false},
	{"mem.read.4k.qd32.4jobs.ratio_inline", "the same for 4 KiB read", 0.9, NAN, false, false},
	{"mem.write.4k.qd32.2loops.ratio_one",
		"memory pool and store, 4 KiB write: IOPS of two loops on two processors against one",
		1.7, NAN, false, false},
	{"mem.read.4k.qd32.2loops.ratio_one", "the same for 4 KiB read", 1.7, NAN, false, false},
	{"open.crash.s", "open after a crash with 1 GiB of 4 KiB writes in the journal, seconds", 2,
		NAN, true, false},
	{"open.extents.s", "open of an image whose map has 10 million extents, seconds", 1, NAN,
		true, false},
	{"images.first.memory_mib", "memory of one idle open image without its map, MiB", 8, NAN,
		true, false},
	{"images.1000.memory_mib_each",
		"1000 images open on one pool, each written and read: memory of each, MiB", 8, NAN,
		true, false},
	{"boot.reorg_prefetch.20ms.gets_ratio_original",
		"boot, reorganised with prefetch, 20 ms store: GETs against the original's cold "
		"boot",
		1.0 / 20, 1.0 / 50, true, false},
	{"boot.reorg_prefetch.20ms.outstanding_ratio_original",
		"boot, reorganised with prefetch, 20 ms store: time with reads outstanding against "
		"the original's",
		1.0 / 8, NAN, true, false},
	{"vmboot.srv.gets_ratio_imported",
		"a real server boots, cold, store of 20 ms, boot order with profile: GETs against as "
		"imported",
		1.0 / 50, NAN, true, false},
	{"vmboot.srv.outstanding_ratio_imported", "the same: time with a read waiting", 0.1, NAN,
		true, false},
	{"vmboot.srv.marker_ratio_local",
		"the same: time to the marker against a local raw image in memory, in turns", 1.15,
		NAN, true, false},
	{"vmboot.srv.fetched_per_read", "the same: bytes fetched : bytes the guest read", 1.3, NAN,
		true, false},
	{"vmboot.rebuilt.gets_ratio_imported",
		"rebuilt image, laid out by a boot of the older build: GETs against as imported", 1,
		NAN, true, false},
	{"vmboot.rebuilt.outstanding_ratio_imported", "the same: time with a read waiting", 1, NAN,
		true, false},
	{"vmboot.rebuilt.bytes_ratio_imported", "the same: bytes fetched", 1, NAN, true, false},
	{"vmboot.rebuilt.marker_ratio_imported", "the same: time to the marker", 1, NAN, true,
		false},
	{"vmboot.write.p99_ratio_idle",
		"4 KiB writes while a profile streams in: p99 against without", 2, NAN, true, false},
	{"trace.cpu_overhead_percent", "CPU that recording a trace costs, percent", 2, NAN, true,
		true},
	{"import.ratio_cp", "image import: throughput against cp on the same disk", 0.5, NAN, false,
		false},
	{"export.ratio_cp", "image export: throughput against cp", 0.5, NAN, false, false},
	{"reorg.ratio_cp", "image reorganisation: throughput against cp", 0.5, NAN, false, false},
	{"ceph.randwrite.4k.qd32.ratio_rbd",
		"on a Ceph cluster, 4 KiB random write, depth 32: IOPS against RBD", 15, 30, false,
		false},
	{"ceph.randwrite.4k.qd1.fsync.ratio_rbd",
		"the same at depth 1 with fsync after every write, against RBD", 2, NAN, false,
		false},
	{"ceph.osd_ops_per_write",
		"write operations of the OSD per 4 KiB written by the client, all in the cluster",
		1.0 / 1000, NAN, true, false},
	{"ceph.osd_cpu_ratio_rbd", "CPU of the OSD per 4 KiB write, against RBD's", 1.0 / 15, NAN,
		true, false},
	{"ceph.write.64k.qd32.ratio_rbd", "64 KiB sequential write: against RBD", 3, NAN, false,
		false},
	{"ceph.randread.4k.qd32.uncached.ratio_rbd",
		"4 KiB random read, depth 32, no cache: IOPS against RBD", 0.9, NAN, false, false},
	{"ceph.randread.4k.qd32.cached.ratio_rbd", "the same with all of it in the pool", 5, NAN,
		false, false},
	{"ceph.drain.ratio_store_bench",
		"2 GiB of 4 KiB random writes from the journal into the cluster: against the PUT "
		"rate of lsvd store-bench",
		0.8, NAN, false, false},
	{0},
};

bool target_applies(const struct target *t, const struct results *r)
{
	bool boots = false;

	for (size_t i = 0; i < r->nfigures && !boots; i++)
		boots = !strncmp(r->figures[i].name, "vmboot.", 7);
	return boots == !strncmp(t->figure, "vmboot.", 7);
}

const struct target *target_of(const char *figure)
{
	for (const struct target *t = targets; t->figure; t++)
		if (!strcmp(t->figure, figure))
			return t;
	return NULL;
}

static bool reaches(const struct target *t, double v, double bound)
{
	if (t->strict && !(v < bound) && !(v > bound))
		return false;
	return t->lower ? v <= bound : v >= bound;
}

enum target_verdict target_judge(const struct target *t, const struct results *r)
{
	const struct results_figure *f = results_find(r, t->figure);

	if (!f)
		return TARGET_NOT_MEASURED;
	if (!isnan(t->goal) && reaches(t, f->sum.median, t->goal))
		return TARGET_GOAL;
	return reaches(t, f->sum.median, t->least) ? TARGET_PASS : TARGET_MISS;
}

const char *target_verdict_name(enum target_verdict v)
{
	static const char *const names[] = {"not measured", "MISS", "pass", "goal reached"};

	return names[v];
}
