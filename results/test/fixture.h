/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fixture.h - made-up results with every figure that SCHEMA.md promises, for tests and for looking
 * at the page.  The values are invented; they have the shape of real ones and nothing else.
 */
#ifndef LSVD_RESULTS_FIXTURE_H
#define LSVD_RESULTS_FIXTURE_H

#include "results/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void fixture_put(struct results *r, const char *name, double v, double spread)
{
	double samples[3] = {v * (1 - spread), v, v * (1 + 1.5 * spread)};
	struct err e = {0};

	if (results_add_known(r, name, samples, spread > 0 ? 3 : 1, NULL, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
}

static inline void fixture_fio_cell(
	struct results *r, const char *rw, const char *bs, unsigned kib, unsigned qd, double lead)
{
	double raw = 1e6 / (60 + 220.0 * kib / qd / 16 + 6.5 + kib * 0.3) *
		     (qd == 1		? 1
			     : qd == 32 ? 6
					: 9);
	double mine = raw * lead * (qd == 1 ? 0.9 : qd == 32 ? 1 : 1.3);
	const char *side[] = {"lsvd", "raw"};
	char name[96];

	for (int i = 0; i < 2; i++) {
		double iops = i ? raw : mine, p50 = 1e6 * qd / iops * 0.9;
		struct {
			const char *what;
			double v;
		} put[] = {{"iops", iops}, {"bw_mib_s", iops * kib / 1024}, {"p50_us", p50},
			{"p99_us", p50 * (i ? 3.5 : 2.2)}, {"p999_us", p50 * (i ? 8 : 6)}};

		for (size_t k = 0; k < 5; k++) {
			snprintf(name, sizeof(name), "fio.%s.%s.qd%u.%s.%s", rw, bs, qd, side[i],
				put[k].what);
			fixture_put(r, name, put[k].v, 0.04);
		}
	}
	snprintf(name, sizeof(name), "fio.%s.%s.qd%u.ratio_raw", rw, bs, qd);
	fixture_put(r, name, mine / raw, 0.05);
}

static inline void fixture_fio(struct results *r, double lead)
{
	static const char *const rws[] = {"randwrite", "randread", "write", "read", "randrw"};
	static const double leads[] = {1.7, 0.95, 0.55, 0.9, 1.2};
	static const unsigned kibs[] = {4, 16, 64}, qds[] = {1, 32, 128};

	for (int w = 0; w < 5; w++)
		for (int b = 0; b < 3; b++)
			for (int d = 0; d < 3; d++) {
				char bs[8];

				snprintf(bs, sizeof(bs), "%uk", kibs[b]);
				fixture_fio_cell(r, rws[w], bs, kibs[b], qds[d], leads[w] * lead);
			}
	fixture_put(r, "fio.randwrite.4k.qd1.fsync.ratio_raw", 1.1 * lead, 0.06);
	fixture_put(r, "fio.randwrite.4k.qd32.sustained.ratio_raw", 1.62 * lead, 0.05);
	fixture_put(r, "fio.randwrite.4k.qd128.sustained.ratio_raw", 2.5 * lead, 0.05);
	fixture_put(r, "fio.randwrite.4k.qd32.sustained.p99_ratio_raw", 0.8, 0.1);
}

static inline void fixture_boot(struct results *r, double lead)
{
	static const char *const variants[] = {
		"original", "readahead", "reorg", "reorg_prefetch", "warm"};
	static const double gets[] = {1330, 420, 380, 22, 0}, mib[] = {83, 96, 75, 71, 0},
			    waste[] = {0, 14, 2, 0.4, 0}, serial[] = {1300, 400, 370, 25, 0};
	static const char *const latency[] = {"0.5", "5", "20", "50"};
	char name[96];

	for (int v = 0; v < 5; v++)
		for (int l = 0; l < 4; l++) {
			double ms = strtod(latency[l], NULL), scale = v == 3 ? 1 / lead : 1;
			struct {
				const char *what;
				double v;
			} put[] = {{"gets", (double)(long)(gets[v] * scale)},
				{"bytes", (double)(long)(mib[v] * 1048576)},
				{"wasted_bytes", (double)(long)(waste[v] * 1048576)},
				{"outstanding_ms", v == 4 ? 11 : serial[v] * scale * (ms + 0.4)},
				{"gets_ratio_original", (double)(long)(gets[v] * scale) / gets[0]},
				{"outstanding_ratio_original", serial[v] * scale / serial[0]}};

			for (size_t k = 0; k < sizeof(put) / sizeof(put[0]) && (v || k < 4); k++) {
				snprintf(name, sizeof(name), "boot.%s.%sms.%s", variants[v],
					latency[l], put[k].what);
				fixture_put(r, name, put[k].v, 0);
			}
		}
}

static inline void fixture_mem(struct results *r, double lead)
{
	fixture_put(r, "mem.write.4k.qd32.iops", 520e3 * lead, 0.02);
	fixture_put(r, "mem.read.4k.qd32.iops", 840e3 * lead, 0.02);
	fixture_put(r, "mem.write.4k.qd32.cpu_ns", 1380 / lead, 0.02);
	fixture_put(r, "mem.read.4k.qd32.cpu_ns", 760 / lead, 0.02);
	fixture_put(r, "mem.write.4k.qd32.syscalls_per_io", 0.031, 0.01);
	fixture_put(r, "mem.read.4k.qd32.syscalls_per_io", 0.004, 0.01);
	fixture_put(r, "mem.write.4k.qd32.allocs_per_io", 0, 0);
	fixture_put(r, "mem.read.4k.qd32.allocs_per_io", 0, 0);
}

/* A tail of latencies and a writer's IOPS over time. */
static inline void fixture_curves(struct results *r)
{
	double x[100], tail[100], iops[100];
	struct err e = {0};

	for (int i = 0; i < 100; i++) {
		x[i] = 50 + 40 * i;
		tail[i] = 100.0 / (1 + i * i);
		iops[i] = i > 50 && i < 80 ? 2000 : 12000;
	}
	if (results_add_curve(r, "fio.randwrite.4k.qd32.lsvd.tail", "us", "percent", x, tail, 100, NULL,
		    &e) ||
		results_add_curve(
			r, "pressure.slow.iops", "s", "iops", x, iops, 100, NULL, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
}

/* Run number 0, 1, ...: a day apart, each with its own commit and a little better than the last. */
static inline struct results *fixture_full(unsigned run)
{
	static const char hex[] = "0123456789abcdef";
	double lead = 0.75 + 0.04 * run + (run % 3 == 1 ? -0.05 : 0);
	struct results *r = results_new();
	struct err e = {0};

	if (!r)
		abort();
	r->time_s = 1795366800 + 86400ll * run;
	for (unsigned i = 0; i < 40; i++)
		r->commit[i] = hex[(i * 7 + run * 5 + i * run) % 16];
	r->machine = (struct results_machine){.cpu = "Invented CPU <2 cores> & more",
		.cores = 2,
		.memory_bytes = 8ll << 30,
		.kernel = "6.1.0-18-amd64",
		.disk = "made-up disk",
		.filesystem = "ext4"};
	if (results_set_version(r, "lsvd", "0.1-fixture", &e) ||
		results_set_version(r, "fio", "3.33", &e))
		abort();
	fixture_fio(r, lead);
	fixture_mem(r, lead);
	fixture_boot(r, lead);
	fixture_curves(r);
	if (run != 2)
		fixture_put(r, "trace.cpu_overhead_percent", 2.6 - 0.2 * run, 0.2);
	fixture_put(r, "import.ratio_cp", 0.85, 0.1);
	fixture_put(r, "export.ratio_cp", 0.42, 0.1);
	return r;
}

#endif
