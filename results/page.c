/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* page.c - writes the report's HTML.  Everything that comes from a file is escaped by page_text(). */
#include "results/page.h"
#include "cli/cli.h"
#include "results/compare.h"
#include "results/plot.h"
#include "results/targets.h"
#include "results/vmboot.h"

#include <math.h>
#include <string.h>
#include <time.h>

static const char style[] =
	":root{color-scheme:light "
	"dark;--bg:#fff;--fg:#1f2430;--soft:#5c6470;--line:#e1e4ea;--card:#f6f7f9;"
	"--blue:#2563eb;--good:#0b7a4b;--goodbg:#e0f5ea;--bad:#b3261e;--badbg:#fde8e6;--nonebg:#"
	"eceef2}"
	"@media(prefers-color-scheme:dark){:root{--bg:#1b1f27;--fg:#e6e8ee;--soft:#a3abb8;--line:#"
	"343a46;"
	"--card:#232834;--blue:#5b9bff;--good:#5fd39a;--goodbg:#173a2a;--bad:#ff9a91;--badbg:#"
	"46201d;"
	"--nonebg:#2c323e}}"
	"*{box-sizing:border-box}body{margin:0 auto;padding:2rem 1.5rem "
	"4rem;max-width:1240px;background:var(--bg);"
	"color:var(--fg);font:15px/1.5 'DejaVu Sans',Verdana,system-ui,sans-serif}"
	"h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.6rem 0 "
	".6rem;padding-top:.8rem;"
	"border-top:1px solid var(--line)}p{margin:.4rem 0;max-width:60rem}.soft{color:var(--soft)}"
	"table{border-collapse:collapse;width:100%;font-size:.87rem;font-variant-numeric:tabular-"
	"nums}"
	"th,td{text-align:left;padding:.34rem .6rem;border-bottom:1px solid "
	"var(--line);vertical-align:top}"
	"th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;white-space:nowrap}"
	"code{font:.86em 'DejaVu Sans Mono',monospace}td code{overflow-wrap:anywhere}"
	".v{display:inline-block;padding:.05rem "
	".55rem;border-radius:1rem;font-size:.82rem;white-space:nowrap;"
	"background:var(--nonebg);color:var(--soft)}.v.good{background:var(--goodbg);color:var(--"
	"good)}"
	".v.bad{background:var(--badbg);color:var(--bad);font-weight:600}"
	".tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem "
	"0}.tile{background:var(--card);border-radius:.5rem;"
	"padding:.7rem 1.1rem;min-width:9rem}.tile "
	"b{display:block;font-size:1.5rem;line-height:1.3}"
	".tile.good b{color:var(--good)}.tile.bad b{color:var(--bad)}"
	/* The letters of a picture shrink with it: below 1100 pixels it is moved sideways instead. */
	"figure{margin:1.2rem 0}figure .scroll{border:1px solid var(--line);border-radius:.5rem}"
	"figure img{width:100%;min-width:1100px;height:auto;display:block}"
	"figcaption{font-size:.8rem;color:var(--soft);margin-top:.25rem}a{color:var(--blue)}"
	"dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:.5rem "
	"0}dt{color:var(--soft)}"
	"dd{margin:0}summary{cursor:pointer;color:var(--blue);margin:.6rem 0}"
	"svg.trend{width:160px;height:28px;display:block;overflow:visible}.trend polyline{fill:none;"
	"stroke:var(--blue);stroke-width:1.5}.trend line{stroke:var(--soft);stroke-dasharray:2 2}"
	".trend .good{fill:var(--good)}.trend .bad{fill:var(--bad)}.trend circle{fill:var(--soft)}"
	"p,dd{overflow-wrap:anywhere}"
	/* On a telephone names stay where they are and the figures move past them. */
	"@media(max-width:700px){body{padding:1.2rem 1rem 3rem}td:has(code){min-width:11rem}"
	"td:first-child,th:first-child{position:sticky;left:0;background:var(--bg)}"
	"td:first-child:not(:has(code)){min-width:7rem}}.scroll+.scroll{margin-top:1rem}"
	".scroll{overflow-x:auto}.warn{background:var(--badbg);color:var(--bad);padding:.5rem "
	".8rem;border-radius:.4rem}";

void page_text(FILE *f, const char *s)
{
	for (; *s; s++)
		switch (*s) {
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '&':
			fputs("&amp;", f);
			break;
		case '"':
			fputs("&quot;", f);
			break;
		default:
			fputc(*s, f);
		}
}

void page_add_plot(struct page *p, enum page_section section, const char *name, const char *title,
	unsigned width, unsigned height)
{
	if (p->nplots == PAGE_PLOTS_MAX)
		return;
	p->plots[p->nplots].section = section;
	p->plots[p->nplots].width = width;
	p->plots[p->nplots].height = height;
	snprintf(p->plots[p->nplots].name, sizeof(p->plots[0].name), "%s", name);
	snprintf(p->plots[p->nplots].title, sizeof(p->plots[0].title), "%s", title);
	p->nplots++;
}

void page_value(FILE *f, double v)
{
	char digits[40];
	size_t n;

	if (fabs(v) < 10000) {
		fprintf(f, "%.4g", v);
		return;
	}
	snprintf(digits, sizeof(digits), "%.0f", v);
	n = strlen(digits);
	for (size_t i = 0; i < n; i++) {
		fputc(digits[i], f);
		if ((n - i) % 3 == 1 && i + 1 < n && digits[i] != '-')
			fputs("&#8239;", f);
	}
}

static void interval(FILE *f, const struct results_figure *g)
{
	if (!(g->sum.low < g->sum.high)) {
		fputs("&ndash;", f);
		return;
	}
	page_value(f, g->sum.low);
	fputs(" &hellip; ", f);
	page_value(f, g->sum.high);
}

static void when(FILE *f, int64_t time_s)
{
	time_t t = (time_t)time_s;
	char buf[40];
	struct tm tm;

	strftime(buf, sizeof(buf), "%Y-%m-%d %H:%M UTC", gmtime_r(&t, &tm));
	fputs(buf, f);
}

/* ---- verdicts ---- */

static const char *verdict_class(enum target_verdict v)
{
	return v == TARGET_NOT_MEASURED ? "" : v == TARGET_MISS ? " bad" : " good";
}

static void bound(FILE *f, const struct target *t, double v)
{
	fputs(t->strict ? "&lt; " : t->lower ? "&le; " : "&ge; ", f);
	page_value(f, v);
}

static void target_row(FILE *f, const struct target *t, const struct results *r)
{
	const struct results_figure *g = results_find(r, t->figure);
	enum target_verdict v = target_judge(t, r);

	fputs("<tr><td>", f);
	page_text(f, t->title);
	fputs("<br><code class=\"soft\">", f);
	page_text(f, t->figure);
	fputs("</code></td><td class=\"n\">", f);
	bound(f, t, t->least);
	fputs("</td><td class=\"n\">", f);
	if (isnan(t->goal))
		fputs("&ndash;", f);
	else
		bound(f, t, t->goal);
	fputs("</td><td class=\"n\">", f);
	if (g) {
		fputs("<b>", f);
		page_value(f, g->sum.median);
		fputs("</b></td><td class=\"n\">", f);
		interval(f, g);
	} else {
		fputs("&ndash;</td><td class=\"n\">&ndash;", f);
	}
	fprintf(f, "</td><td><span class=\"v%s\">%s</span></td></tr>\n", verdict_class(v),
		target_verdict_name(v));
}

static void tile(FILE *f, const char *class, size_t n, const char *what)
{
	fprintf(f, "<div class=\"tile%s\"><b>%zu</b>%s</div>\n", n ? class : "", n, what);
}

static void verdicts(FILE *f, const struct results *r)
{
	size_t count[4] = {0};

	for (const struct target *t = targets; t->figure; t++)
		if (target_applies(t, r))
			count[target_judge(t, r)]++;
	fputs("<div class=\"tiles\">", f);
	tile(f, " good", count[TARGET_GOAL], "goals reached");
	tile(f, " good", count[TARGET_PASS], "passed");
	tile(f, " bad", count[TARGET_MISS], "missed");
	tile(f, "", count[TARGET_NOT_MEASURED], "not measured");
	fputs("</div>\n<h2>What it must reach</h2>\n<div "
	      "class=\"scroll\"><table><thead><tr><th>figure</th>"
	      "<th class=\"n\">required</th><th class=\"n\">goal</th><th class=\"n\">measured</th>"
	      "<th class=\"n\">interval</th><th>verdict</th></tr></thead><tbody>\n",
		f);
	for (const struct target *t = targets; t->figure; t++)
		if (target_applies(t, r))
			target_row(f, t, r);
	fputs("</tbody></table></div>\n<p class=\"soft\">The verdict is on the median.", f);
	if (!vmboot_is(r))
		fputs(" Ratios are taken round by round against the raw disk of the same run.", f);
	fputs("</p>\n", f);
}

/* ---- machine ---- */

static void fact(FILE *f, const char *name, const char *what)
{
	fprintf(f, "<dt>%s</dt><dd>", name);
	page_text(f, what);
	fputs("</dd>\n", f);
}

static void machine(FILE *f, const struct results *r)
{
	const struct results_machine *m = &r->machine;
	const char *key;
	char cores[32];
	json_t *v;

	snprintf(cores, sizeof(cores), "%lld", (long long)m->cores);
	fputs("<h2>Machine</h2>\n<dl>\n", f);
	fact(f, "CPU", m->cpu);
	fact(f, "cores", cores);
	fact(f, "memory", cli_size((uint64_t)m->memory_bytes));
	fact(f, "kernel", m->kernel);
	fact(f, "disk", m->disk);
	fact(f, "file system", m->filesystem);
	fputs("<dt>versions</dt><dd>", f);
	json_object_foreach(r->versions, key, v)
	{
		page_text(f, key);
		fputc(' ', f);
		page_text(f, json_string_value(v));
		fputs(" &nbsp; ", f);
	}
	fputs("</dd>\n</dl>\n", f);
}

/* ---- plots ---- */

static size_t plots(FILE *f, const struct page *p, enum page_section section)
{
	size_t n = 0;

	for (size_t i = 0; i < p->nplots; i++) {
		const char *name = p->plots[i].name;

		if (p->plots[i].section != section)
			continue;
		fprintf(f,
			"<figure><div class=\"scroll\"><picture>"
			"<source media=\"(prefers-color-scheme:dark)\" srcset=\"plots/%s-dark.svg\">"
			"<img src=\"plots/%s.svg\" width=\"%u\" height=\"%u\" alt=\"",
			name, name, p->plots[i].width, p->plots[i].height);
		page_text(f, p->plots[i].title);
		fprintf(f,
			"\"></picture></div><figcaption><a href=\"plots/%s.pdf\">PDF</a> &middot; "
			"<a href=\"plots/%s.png\">PNG</a> &middot; "
			"<a href=\"plots/%s.svg\">SVG</a> &middot; <a "
			"href=\"plots/%s.gp\">gnuplot</a>"
			"</figcaption></figure>\n",
			name, name, name, name);
		n++;
	}
	return n;
}

static void section(
	FILE *f, const struct page *p, enum page_section s, const char *title, const char *intro)
{
	fprintf(f, "<h2>%s</h2>\n<p class=\"soft\">%s</p>\n", title, intro);
	if (!plots(f, p, s))
		fputs("<p>No plot: not measured in this run, or gnuplot is not installed.</p>\n",
			f);
}

/* ---- the cluster ---- */

static const struct {
	const char *name, *title;
} cells[] = {{"randwrite.4k.qd32", "4 KiB random write, depth 32"},
	{"randwrite.4k.qd1.fsync", "4 KiB random write, depth 1, fsync each"},
	{"write.64k.qd32", "64 KiB sequential write, depth 32"},
	{"randread.4k.qd32.uncached", "4 KiB random read, depth 32, no cache"},
	{"randread.4k.qd32.cached", "4 KiB random read, depth 32, LSVD's cache is warm"}};
enum { CELLS = sizeof(cells) / sizeof(cells[0]) };

static const struct results_figure *cell_figure(
	const struct results *r, size_t cell, const char *prefix, const char *what)
{
	char name[RESULTS_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s.%s.%s", prefix, cells[cell].name, what);
	return results_find(r, name);
}

static void number_cell(FILE *f, const struct results_figure *g, const char *unit)
{
	fputs("<td class=\"n\">", f);
	if (!g)
		fputs("&ndash;", f);
	else if (*unit)
		fprintf(f, "<b>%.2f%s</b>", g->sum.median, unit);
	else
		page_value(f, g->sum.median);
	fputs("</td>", f);
}

static void cluster_row(FILE *f, const struct results *r, size_t cell)
{
	static const char *const what[] = {"iops", "p50_us", "p99_us"};
	static const struct {
		const char *prefix, *side;
	} sides[] = {{"ceph", "lsvd"}, {"ceph", "rbd"}, {"s3", "lsvd"}};
	char name[40];

	fprintf(f, "<tr><td>%s</td>", cells[cell].title);
	for (size_t s = 0; s < sizeof(sides) / sizeof(sides[0]); s++) {
		for (size_t w = 0; w < sizeof(what) / sizeof(what[0]); w++) {
			snprintf(name, sizeof(name), "%s.%s", sides[s].side, what[w]);
			number_cell(f, cell_figure(r, cell, sides[s].prefix, name), "");
		}
		if (!s)
			number_cell(f, cell_figure(r, cell, "ceph", "ratio_rbd"), " &times; RBD");
	}
	fputs("</tr>\n", f);
}

/* The job files of fio that the figures come from. */
static void commands(FILE *f, const struct results *r)
{
	static const struct {
		const char *prefix, *what;
	} sides[] = {{"ceph", "lsvd.iops"}, {"ceph", "rbd.iops"}, {"s3", "lsvd.iops"}};
	const struct results_figure *drain = results_find(r, "ceph.drain.ratio_store_bench");

	fputs("<details><summary>the commands: fio's job files</summary>\n", f);
	for (size_t i = 0; i < CELLS; i++)
		for (size_t s = 0; s < sizeof(sides) / sizeof(sides[0]); s++) {
			const struct results_figure *g =
				cell_figure(r, i, sides[s].prefix, sides[s].what);
			const char *job =
				g ? json_string_value(json_object_get(g->params, "job")) : NULL;

			if (!job)
				continue;
			fputs("<p><code>", f);
			page_text(f, job);
			fputs("</code></p>\n", f);
		}
	if (drain) {
		const char *bench =
			json_string_value(json_object_get(drain->params, "store_bench"));

		fputs("<p><code>", f);
		page_text(f, bench ? bench : "");
		fputs("</code></p>\n", f);
	}
	fputs("</details>\n", f);
}

static void osd_table(FILE *f, const struct results *r)
{
	static const struct {
		const char *title, *lsvd, *rbd, *s3;
	} rows[] = {{"OSD: write operations per 4 KiB write", "ceph.osd_ops_per_write",
			    "ceph.rbd_osd_ops_per_write", "s3.osd_ops_per_write"},
		{"OSD: CPU per 4 KiB write, µs", "ceph.osd_cpu_us_per_write.lsvd",
			"ceph.osd_cpu_us_per_write.rbd", "s3.osd_cpu_us_per_write.lsvd"},
		{"drain of a full journal, MiB/s", "ceph.drain.mib_s", "", "s3.drain.mib_s"},
		{"lsvd store-bench, PUT, MiB/s", "ceph.drain.store_bench_mib_s", "",
			"s3.drain.store_bench_mib_s"}};

	fputs("<div class=\"scroll\"><table><thead><tr><th></th><th class=\"n\">LSVD</th><th "
	      "class=\"n\">RBD</th><th class=\"n\">LSVD on S3</th></tr></thead><tbody>\n",
		f);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fprintf(f, "<tr><td>%s</td>", rows[i].title);
		number_cell(f, results_find(r, rows[i].lsvd), "");
		number_cell(f, results_find(r, rows[i].rbd), "");
		number_cell(f, results_find(r, rows[i].s3), "");
		fputs("</tr>\n", f);
	}
	fputs("</tbody></table></div>\n", f);
}

static bool cluster_measured(const struct results *r)
{
	for (size_t i = 0; i < CELLS; i++)
		if (cell_figure(r, i, "ceph", "lsvd.iops"))
			return true;
	return results_find(r, "ceph.drain.mib_s");
}

static void cluster(FILE *f, const struct results *r)
{
	fputs("<h2>On a Ceph cluster: LSVD beside RBD</h2>\n<p class=\"soft\">One OSD (bluestore) "
	      "on "
	      "the disk under test. LSVD with a file pool on <code>rados:rbd</code>, fio's rbd "
	      "engine without a cache on the same pool, and LSVD by S3 on the cluster's radosgw, "
	      "in turns; images written in full before, with the default settings "
	      "(but 16 KiB fetched a read where there is no cache). Latency is from call to completion, in "
	      "µs.</p>\n",
		f);
	if (!cluster_measured(r)) {
		fputs("<p>Not measured in this run: <code>make bench PROFILE=full</code> does it "
		      "where Ceph is installed (<code>ci/setup ceph</code>).</p>\n",
			f);
		return;
	}
	fputs("<div class=\"scroll\"><table><thead><tr><th></th><th class=\"n\">LSVD, IOPS</th>"
	      "<th class=\"n\">p50</th><th class=\"n\">p99</th><th class=\"n\">IOPS</th>"
	      "<th class=\"n\">RBD, IOPS</th><th class=\"n\">p50</th><th class=\"n\">p99</th>"
	      "<th class=\"n\">S3, IOPS</th><th class=\"n\">p50</th><th class=\"n\">p99</th>"
	      "</tr></thead><tbody>\n",
		f);
	for (size_t i = 0; i < CELLS; i++)
		cluster_row(f, r, i);
	fputs("</tbody></table></div>\n", f);
	osd_table(f, r);
	commands(f, r);
}

/* ---- changes and history ---- */

static void change_row(FILE *f, const struct comparison *c)
{
	fputs("<tr><td><code>", f);
	page_text(f, c->a->name);
	fputs("</code></td><td class=\"n\">", f);
	page_value(f, c->a->sum.median);
	fputs("</td><td class=\"n\">", f);
	page_value(f, c->b->sum.median);
	fputs("</td><td class=\"n\">", f);
	if (isfinite(c->effect))
		fprintf(f, "%+.1f %%", 100 * c->effect);
	fprintf(f, "</td><td><span class=\"v%s\">%s</span></td><td>",
		c->verdict == COMPARE_BETTER  ? " good"
		: c->verdict == COMPARE_WORSE ? " bad"
					      : "",
		compare_verdict_name(c->verdict));
	page_text(f, c->reason);
	fputs("</td></tr>\n", f);
}

static bool compared(const struct page *p, size_t i, struct comparison *c)
{
	static const struct compare_rule rule = COMPARE_RULE_DEFAULT;
	const struct results_figure *b = &p->run->figures[i];
	const struct results_figure *a = results_find(p->history.runs[p->history.n - 2], b->name);

	return a && !compare_figures(a, b, &rule, c);
}

static void change_table(FILE *f, const struct page *p)
{
	struct comparison c;

	fputs("<details><summary>which, and why</summary><div "
	      "class=\"scroll\"><table><thead><tr><th>figure</th>"
	      "<th class=\"n\">before</th><th class=\"n\">now</th><th "
	      "class=\"n\">change</th><th>verdict</th>"
	      "<th>why</th></tr></thead><tbody>\n",
		f);
	for (size_t i = 0; i < p->run->nfigures; i++)
		if (compared(p, i, &c) &&
			(c.verdict == COMPARE_BETTER || c.verdict == COMPARE_WORSE))
			change_row(f, &c);
	fputs("</tbody></table></div></details>\n", f);
}

static void changes(FILE *f, const struct page *p)
{
	const struct results *before = p->history.runs[p->history.n - 2];
	size_t count[COMPARE_VERDICTS] = {0};
	struct comparison c;

	for (size_t i = 0; i < p->run->nfigures; i++)
		if (compared(p, i, &c))
			count[c.verdict]++;
	fprintf(f, "<p>Against the run before, <code>%.7s</code> of ", before->commit);
	when(f, before->time_s);
	fprintf(f, ": %zu figures better, %zu worse, %zu changed, %zu the same.</p>\n",
		count[COMPARE_BETTER], count[COMPARE_WORSE], count[COMPARE_CHANGED],
		count[COMPARE_SAME]);
	if (count[COMPARE_BETTER] + count[COMPARE_WORSE])
		change_table(f, p);
}

static void history(FILE *f, const struct page *p)
{
	fputs("<h2>History</h2>\n", f);
	if (p->history.n < 2)
		fputs("<p class=\"soft\">This is the first run on this machine with this profile; "
		      "a second "
		      "one makes a history.</p>\n",
			f);
	else
		changes(f, p);
	plots(f, p, PAGE_HISTORY);
	page_changes(f, &p->history);
	if (p->history.others)
		fprintf(f,
			"<p class=\"soft\">%zu earlier runs of other machines or profiles are not "
			"shown: "
			"their figures do not compare.</p>\n",
			p->history.others);
}

/* ---- everything ---- */

static void figures(FILE *f, const struct page *p)
{
	const struct results *r = p->run;

	fprintf(f,
		"<h2>All figures</h2>\n<details><summary>%zu figures</summary><div "
		"class=\"scroll\"><table>"
		"<thead><tr><th>name</th><th class=\"n\">median</th><th>unit</th><th "
		"class=\"n\">interval</th>"
		"<th class=\"n\">samples</th><th>better</th><th>history</th></tr></thead><tbody>\n",
		r->nfigures);
	for (size_t i = 0; i < r->nfigures; i++) {
		const struct results_figure *g = &r->figures[i];

		fputs("<tr><td><code>", f);
		page_text(f, g->name);
		fputs("</code></td><td class=\"n\">", f);
		page_value(f, g->sum.median);
		fputs("</td><td>", f);
		page_text(f, g->unit);
		fputs("</td><td class=\"n\">", f);
		interval(f, g);
		fprintf(f, "</td><td class=\"n\">%zu</td><td>%s</td><td>", g->n,
			g->direction == RESULTS_NONE ? "&ndash;"
						     : results_direction_name(g->direction));
		page_trend(f, &p->history, g->name);
		fputs("</td></tr>\n", f);
	}
	fputs("</tbody></table></div></details>\n", f);
}

static void head(FILE *f, const struct results *r)
{
	fprintf(f,
		"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
		"<meta name=\"viewport\" content=\"width=device-width\"><title>LSVD "
		"%.7s</title><style>%s</style>"
		"</head><body>\n<h1>LSVD benchmark</h1>\n<p class=\"soft\">commit "
		"<code>%.12s</code>, ",
		r->commit, style, r->commit);
	when(f, r->time_s);
	fprintf(f, ", profile %s</p>\n", results_profile_name(r->profile));
	if (r->dirty)
		fputs("<p class=\"warn\">Measured with changes that the commit does not "
		      "hold.</p>\n",
			f);
}

static void bench(const struct page *p, FILE *f)
{
	section(f, p, PAGE_FIO, "fio: LSVD beside the raw disk",
		"File pool and file store on one disk, run in turns with fio's io_uring engine on "
		"a preallocated "
		"file of the same disk.");
	section(f, p, PAGE_PRESSURE, "When the store cannot follow",
		"A writer at a steady rate, three times as fast as its store; and one whose store "
		"stops for five seconds. Writes become slow, not stuck.");
	cluster(f, p->run);
	section(f, p, PAGE_MEM, "The library alone",
		"Memory pool and memory store: what the code costs when no disk is in the way.");
	section(f, p, PAGE_BOOT, "Booting a virtual machine",
		"A recorded boot, replayed against a cold image through the real core on a "
		"simulated loop over a "
		"store with the given latency per request; exact figures.");
	history(f, p);
}

void page_write(const struct page *p, FILE *f)
{
	head(f, p->run);
	verdicts(f, p->run);
	if (vmboot_is(p->run)) {
		plots(f, p, PAGE_BOOT);
		vmboot_tables(f, p->run);
	} else {
		bench(p, f);
	}
	machine(f, p->run);
	figures(f, p);
	fputs("</body></html>\n", f);
}
