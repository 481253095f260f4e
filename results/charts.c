/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* charts.c - which figure goes into which panel. */
#include "results/charts.h"
#include "results/targets.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB (1.0 / 1048576)

const char *const chart_fio_rws[] = {"randwrite", "randread", "write", "read", "randrw", NULL};

/* Point `g` of a series: the figure named by the format, times `scale`. */
static void PRINTF(5, 6) point(struct plot_series *s, size_t g, const struct results *r,
	double scale, const char *fmt, ...)
{
	const struct results_figure *f;
	va_list ap;

	va_start(ap, fmt);
	f = results_vfind(r, fmt, ap);
	va_end(ap);
	if (f)
		s->points[g] = (struct plot_point){.value = f->sum.median * scale,
			.low = f->sum.low * scale,
			.high = f->sum.high * scale,
			.there = true};
}

static void group(struct plot_panel *p, const char *text, const char *over)
{
	snprintf(p->groups[p->ngroups], sizeof(p->groups[0]), "%s", text);
	snprintf(p->over[p->ngroups], sizeof(p->over[0]), "%s", over);
	p->ngroups++;
}

/* ---- fio ---- */

static const struct {
	const char *name, *label;
} sizes[] = {{"4k", "4 KiB"}, {"16k", "16 KiB"}, {"64k", "64 KiB"}};
static const char *const depths[] = {"1", "32", "128"};

static void matrix_groups(struct plot_panel *p)
{
	for (size_t b = 0; b < COUNT(sizes); b++)
		for (size_t d = 0; d < COUNT(depths); d++)
			group(p, depths[d], sizes[b].label);
}

/* One series over the matrix; `what` is "lsvd.iops" or "ratio_raw". */
static void matrix_series(struct plot_panel *p, const struct results *r, const char *rw,
	const char *what, const char *label, enum plot_colour colour)
{
	struct plot_series *s = plot_series(p, label, colour);

	for (size_t b = 0; b < COUNT(sizes); b++)
		for (size_t d = 0; d < COUNT(depths); d++)
			point(s, b * COUNT(depths) + d, r, 1, "fio.%s.%s.qd%s.%s", rw,
				sizes[b].name, depths[d], what);
}

static void matrix_pair(struct plot *p, const struct results *r, const char *rw, const char *title,
	const char *what)
{
	struct plot_panel *panel = plot_panel(p, title);
	char name[40];

	panel->log = true;
	matrix_groups(panel);
	snprintf(name, sizeof(name), "lsvd.%s", what);
	matrix_series(panel, r, rw, name, "LSVD", PLOT_LSVD);
	snprintf(name, sizeof(name), "raw.%s", what);
	matrix_series(panel, r, rw, name, "raw disk (io_uring)", PLOT_RAW);
}

struct plot *chart_fio(const struct results *r, const char *rw)
{
	static const char *const titles[] = {"Random write", "Random read", "Sequential write",
		"Sequential read", "Random 70 % read, 30 % write"};
	char file[64], title[120];
	struct plot_panel *ratio;
	struct plot *p;
	size_t i = 0;

	while (chart_fio_rws[i] && strcmp(chart_fio_rws[i], rw))
		i++;
	snprintf(file, sizeof(file), "fio-%s", rw);
	snprintf(title, sizeof(title), "%s: LSVD and the raw disk",
		chart_fio_rws[i] ? titles[i] : rw);
	p = plot_new(file, title, 1200, 360, 3);
	if (!p)
		return NULL;
	snprintf(p->note, sizeof(p->note),
		"x: queue depth, by block size; medians, whiskers are the interval of the rounds");
	p->legend = true;
	matrix_pair(p, r, rw, "IOPS (log scale)", "iops");
	matrix_pair(p, r, rw, "p99 latency, µs (log scale, lower is better)", "p99_us");
	ratio = plot_panel(p, "IOPS, LSVD : raw");
	ratio->values = true;
	matrix_groups(ratio);
	matrix_series(ratio, r, rw, "ratio_raw", "LSVD", PLOT_LSVD);
	plot_guide(ratio, 1, "raw");
	return p;
}

struct plot *chart_fio_special(const struct results *r)
{
	static const struct {
		const char *figure, *label, *over;
	} bars[] = {{"fio.randwrite.4k.qd1.ratio_raw", "depth 1", "burst"},
		{"fio.randwrite.4k.qd32.ratio_raw", "depth 32", "burst"},
		{"fio.randwrite.4k.qd128.ratio_raw", "depth 128", "burst"},
		{"fio.randwrite.4k.qd1.fsync.ratio_raw", "depth 1", "fsync each"},
		{"fio.randwrite.4k.qd32.sustained.ratio_raw", "depth 32", "sustained"},
		{"fio.randwrite.4k.qd128.sustained.ratio_raw", "depth 128", "sustained"},
		{"fio.randread.4k.qd32.ratio_raw", "depth 32", "cached read"},
		{"fio.write.64k.qd32.ratio_raw", "depth 32", "64k seq. write"}};
	struct plot *p = plot_new("fio-ratios", "LSVD against the raw disk", 1200, 340, 1);
	struct plot_panel *panel;
	struct plot_series *s;

	if (!p)
		return NULL;
	snprintf(p->note, sizeof(p->note),
		"4 KiB random writes unless said otherwise; 1 = the raw disk in the same run; "
		"sustained: 4x the "
		"pool is written");
	panel = plot_panel(p, "IOPS, LSVD : raw (higher is better)");
	panel->values = true;
	s = plot_series(panel, "LSVD", PLOT_LSVD);
	for (size_t i = 0; i < COUNT(bars); i++) {
		group(panel, bars[i].label, bars[i].over);
		point(s, i, r, 1, "%s", bars[i].figure);
	}
	plot_guide(panel, 1, "raw");
	return p;
}

static void curve(struct plot_panel *p, const struct results *r, const char *name, const char *label,
	enum plot_colour colour)
{
	const struct results_curve *c = results_find_curve(r, name);

	if (c)
		plot_curve(p, label, colour, c->x, c->y, c->n);
}

struct plot *chart_tails(const struct results *r)
{
	static const struct {
		const char *cell, *title;
	} cells[] = {{"fio.randwrite.4k.qd1", "random write, depth 1"},
		{"fio.randwrite.4k.qd32", "random write, depth 32"},
		{"fio.randwrite.4k.qd32.sustained", "random write, depth 32, sustained"},
		{"fio.randwrite.4k.qd1.fsync", "random write, fsync each"},
		{"fio.randread.4k.qd1", "random read (cached), depth 1"},
		{"fio.randread.4k.qd32", "random read (cached), depth 32"}};
	struct plot *p = plot_new("fio-tails",
		"How many requests of 4 KiB took longer: percent over µs", 1200, 560, 3);

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note),
		"complementary distribution of latency, log scales, of the last round: at 1 the x "
		"axis shows p99, at 0.1 p99.9; further left is better");
	for (size_t i = 0; i < COUNT(cells); i++) {
		struct plot_panel *panel = plot_panel(p, cells[i].title);
		char name[RESULTS_NAME_MAX + 1];

		panel->log = panel->log_x = true;
		snprintf(name, sizeof(name), "%s.lsvd.tail", cells[i].cell);
		curve(panel, r, name, "LSVD", PLOT_LSVD);
		snprintf(name, sizeof(name), "%s.raw.tail", cells[i].cell);
		curve(panel, r, name, "raw disk (io_uring)", PLOT_RAW);
	}
	return p;
}

/* ---- back-pressure ---- */

static void pressure_panels(
	struct plot *p, const struct results *r, const char *scenario, const char *title)
{
	static const struct {
		const char *what, *label;
		enum plot_colour colour;
	} lines[] = {{"max_us", "slowest", PLOT_READAHEAD}, {"p99_us", "p99", PLOT_REORG},
		{"p50_us", "p50, IOPS", PLOT_LSVD}};
	char name[RESULTS_NAME_MAX + 1], text[96];
	struct plot_panel *panel;

	snprintf(text, sizeof(text), "%s: latency, µs, over seconds", title);
	panel = plot_panel(p, text);
	panel->log = true;
	for (size_t i = 0; i < COUNT(lines); i++) {
		snprintf(name, sizeof(name), "pressure.%s.%s", scenario, lines[i].what);
		curve(panel, r, name, lines[i].label, lines[i].colour);
	}
	snprintf(text, sizeof(text), "%s: IOPS over seconds", title);
	panel = plot_panel(p, text);
	panel->log = true;
	snprintf(name, sizeof(name), "pressure.%s.iops", scenario);
	curve(panel, r, name, "IOPS", PLOT_LSVD);
}

struct plot *chart_pressure(const struct results *r)
{
	struct plot *p = plot_new("pressure",
		"Writes of 4 KiB at 48 MiB/s while the store cannot follow", 1200, 600, 2);

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note),
		"windows of 100 ms, log scales, the last round; depth 32; a small pool, so that it fills "
		"within seconds; after a stop the writer catches up with its rate");
	pressure_panels(p, r, "slow", "store of 16 MiB/s");
	pressure_panels(p, r, "stop", "store stops from 5 to 10 s");
	return p;
}

/* ---- where bytes go ---- */

struct plot *chart_bytes(const struct results *r)
{
	static const struct {
		const char *what, *label;
	} to[] = {{"journal", "journal"}, {"batch", "new objects"}, {"gc", "collected"},
		{"checkpoint", "checkpoints"}};
	struct plot *p = plot_new("bytes", "Bytes written for each byte that a client writes", 1200, 320, 2);
	struct plot_panel *panel;
	struct plot_series *s;

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note),
		"sustained 4 KiB random writes over an image larger than its pool; gc: the steady state "
		"of random overwrites with and without garbage collection");
	panel = plot_panel(p, "by destination, sustained (lower is better)");
	panel->values = true;
	s = plot_series(panel, "depth 32", PLOT_LSVD);
	for (size_t i = 0; i < COUNT(to); i++) {
		group(panel, to[i].label, "");
		point(s, i, r, 1, "fio.randwrite.4k.qd32.sustained.lsvd.%s_bytes_per_byte",
			to[i].what);
	}
	s = plot_series(panel, "depth 128", PLOT_REORG);
	for (size_t i = 0; i < COUNT(to); i++)
		point(s, i, r, 1, "fio.randwrite.4k.qd128.sustained.lsvd.%s_bytes_per_byte",
			to[i].what);
	panel = plot_panel(p, "write amplification: store bytes : client bytes");
	panel->values = true;
	s = plot_series(panel, "LSVD", PLOT_LSVD);
	group(panel, "depth 32", "sustained");
	group(panel, "depth 128", "sustained");
	group(panel, "on", "gc");
	group(panel, "off", "gc");
	point(s, 0, r, 1, "fio.randwrite.4k.qd32.sustained.lsvd.write_amplification");
	point(s, 1, r, 1, "fio.randwrite.4k.qd128.sustained.lsvd.write_amplification");
	point(s, 2, r, 1, "gc.foreground.on.write_amplification");
	point(s, 3, r, 1, "gc.foreground.off.write_amplification");
	return p;
}

/* ---- memory pool ---- */

static struct plot_panel *mem_panel(
	struct plot *p, const struct results *r, const char *title, const char *what)
{
	struct plot_panel *panel = plot_panel(p, title);
	struct plot_series *s = plot_series(panel, "LSVD", PLOT_LSVD);

	panel->values = true;
	group(panel, "write", "");
	group(panel, "read", "");
	point(s, 0, r, 1, "mem.write.4k.qd32.%s", what);
	point(s, 1, r, 1, "mem.read.4k.qd32.%s", what);
	return panel;
}

struct plot *chart_mem(const struct results *r)
{
	struct plot *p = plot_new("mem",
		"The library alone: memory pool and store, 4 KiB, depth 32, one core", 1200, 300,
		4);
	struct plot_panel *cpu;

	if (!p)
		return NULL;
	mem_panel(p, r, "IOPS (higher is better)", "iops");
	cpu = mem_panel(p, r, "CPU in the library, ns per I/O", "cpu_ns");
	plot_guide(cpu, 1500, "budget");
	mem_panel(p, r, "system calls per I/O", "syscalls_per_io");
	mem_panel(p, r, "allocations per I/O", "allocs_per_io");
	return p;
}

/* ---- legs ---- */

static void legs_panel(struct plot *p, const struct results *r, const char *title, const char *what)
{
	static const struct {
		const char *name, *label;
	} sets[] = {{"ssd", "SSD"}, {"mem", "memory"}, {"two_ssd", "2 SSDs"},
		{"remote_mem", "r. memory"}, {"two_remote", "2 r. disks"}};
	struct plot_panel *panel = plot_panel(p, title);
	struct plot_series *one = plot_series(panel, "depth 1", PLOT_REORG),
			   *deep = plot_series(panel, "depth 32", PLOT_LSVD);

	panel->log = true;
	for (size_t i = 0; i < COUNT(sets); i++) {
		group(panel, sets[i].label, "");
		point(one, i, r, 1, "legs.%s.4k.qd1.%s", sets[i].name, what);
		point(deep, i, r, 1, "legs.%s.4k.qd32.%s", sets[i].name, what);
	}
}

struct plot *chart_legs(const struct results *r)
{
	struct plot *p =
		plot_new("legs", "4 KiB random writes, by where the journal is", 1200, 340, 3);

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note),
		"r.: remote, nbdkit on this machine by unix socket; log scales");
	legs_panel(p, r, "IOPS (higher is better)", "iops");
	legs_panel(p, r, "p50 latency, µs (lower is better)", "p50_us");
	legs_panel(p, r, "p99 latency, µs (lower is better)", "p99_us");
	return p;
}

/* ---- boot ---- */

static void boot_panel(
	struct plot *p, const struct results *r, const char *title, const char *what, double scale)
{
	static const struct {
		const char *name, *label;
		enum plot_colour colour;
	} variants[] = {{"original", "original image", PLOT_ORIGINAL},
		{"readahead", "original, readahead", PLOT_READAHEAD},
		{"reorg", "reorganised", PLOT_REORG},
		{"reorg_prefetch", "reorganised, prefetch", PLOT_REORG_PREFETCH},
		{"warm", "warm cache", PLOT_WARM}};
	static const char *const latencies[] = {"0.5", "5", "20", "50"};
	struct plot_panel *panel = plot_panel(p, title);

	panel->log = true;
	for (size_t l = 0; l < COUNT(latencies); l++) {
		char label[16];

		snprintf(label, sizeof(label), "%s ms", latencies[l]);
		group(panel, label, "");
	}
	for (size_t v = 0; v < COUNT(variants); v++) {
		struct plot_series *s = plot_series(panel, variants[v].label, variants[v].colour);

		for (size_t l = 0; l < COUNT(latencies); l++)
			point(s, l, r, scale, "boot.%s.%sms.%s", variants[v].name, latencies[l],
				what);
	}
}

struct plot *chart_boot(const struct results *r)
{
	struct plot *p =
		plot_new("boot", "Booting a VM from the image, by store latency", 1200, 640, 2);

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note),
		"replay of a recorded guest boot; x: store latency per request; log scales, lower "
		"is better, a "
		"zero is written out");
	boot_panel(p, r, "GET requests", "gets", 1);
	boot_panel(p, r, "bytes fetched, MiB", "bytes", MIB);
	boot_panel(p, r, "time with reads outstanding, ms", "outstanding_ms", 1);
	boot_panel(p, r, "fetched in vain, MiB", "wasted_bytes", MIB);
	return p;
}

/* ---- history ---- */

static void history_labels(struct plot_panel *panel, struct results *const *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		group(panel, run_label(r[i]), "");
	}
}

/* Marks where the figure changed its level; a series that cannot be searched has no marks. */
static void history_marks(
	struct plot_panel *panel, const struct history *h, size_t skip, const char *figure)
{
	static const struct change_rule rule = CHANGE_RULE_DEFAULT;
	struct series s;

	if (!history_series(h, figure, &rule, &s, NULL))
		for (size_t i = 0; i < s.nchanges; i++)
			if (s.run[s.changes[i].at] >= skip)
				panel->marks[s.run[s.changes[i].at] - skip] = true;
	series_free(&s);
}

struct plot *chart_history(const struct history *h)
{
	static const struct {
		const char *figure, *title;
	} keys[] = {
		{"fio.randwrite.4k.qd32.sustained.ratio_raw", "sustained 4k randwrite qd32 : raw"},
		{"fio.randwrite.4k.qd128.sustained.ratio_raw",
			"sustained 4k randwrite qd128 : raw"},
		{"fio.randread.4k.qd32.ratio_raw", "cached 4k randread qd32 : raw"},
		{"mem.write.4k.qd32.iops", "memory pool, 4k write qd32, IOPS"},
		{"mem.read.4k.qd32.iops", "memory pool, 4k read qd32, IOPS"},
		{"fio.write.64k.qd32.ratio_raw", "64k sequential write qd32 : raw"},
		{"boot.reorg_prefetch.20ms.gets", "boot, reorg + prefetch, 20 ms: GETs"},
		{"boot.reorg_prefetch.20ms.outstanding_ms", "the same: ms with reads outstanding"},
		{"trace.cpu_overhead_percent", "CPU cost of tracing, percent"}};
	struct plot *p = plot_new("history", "Key figures over commits", 1200, 680, 3);
	size_t n = h->n, skip = n > PLOT_GROUPS_MAX ? n - PLOT_GROUPS_MAX : 0;

	if (!p)
		return NULL;
	snprintf(p->note, sizeof(p->note),
		"one point per run, oldest first; + means uncommitted changes; "
		"dashed: what must be reached at least; dotted, upright: the level changed");
	for (size_t k = 0; k < COUNT(keys); k++) {
		const struct target *t = target_of(keys[k].figure);
		struct plot_panel *panel = plot_panel(p, keys[k].title);
		struct plot_series *s = plot_series(panel, "LSVD", PLOT_LSVD);

		panel->lines = true;
		history_labels(panel, h->runs + skip, n - skip);
		for (size_t i = skip; i < n; i++)
			point(s, i - skip, h->runs[i], 1, "%s", keys[k].figure);
		history_marks(panel, h, skip, keys[k].figure);
		if (t)
			plot_guide(panel, t->least, t->lower ? "most" : "least");
	}
	return p;
}
