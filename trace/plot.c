/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plot.c - see plot.h.  The colours are Okabe and Ito's, which colour-blind readers can tell apart.
 * Of more than POINTS_MAX requests of one kind only every k-th is drawn, and the key says so.
 */
#include "trace/plot.h"
#include "trace/gnuplot.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A curve below every range here: axes and no data. */
#define NOTHING "-1 notitle\n"

enum { POINTS_MAX = 100000, KINDS = TRACE_SRCS + 2 };

static const struct {
	const char *name, *colour;
} kinds[KINDS] = {
	[TRACE_SRC_NONE] = {"read", "#0072B2"},
	[TRACE_SRC_ZERO] = {"read, unmapped", "#999999"},
	[TRACE_SRC_JOURNAL] = {"read from journal", "#56B4E9"},
	[TRACE_SRC_CACHE] = {"read from cache", "#009E73"},
	[TRACE_SRC_PREFETCH] = {"read, prefetched", "#CC79A7"},
	[TRACE_SRC_STORE] = {"read from store", "#D55E00"},
	[TRACE_SRCS] = {"write", "#E69F00"},
	[TRACE_SRCS + 1] = {"discard, zeroes", "#000000"},
};

/* -1: not drawn (a flush has no place). */
static int kind_of(const struct trace_record *r)
{
	if (r->op == TRACE_READ)
		return r->source;
	if (r->op == TRACE_WRITE)
		return TRACE_SRCS;
	return r->op == TRACE_FLUSH ? -1 : TRACE_SRCS + 1;
}

/* ---- offset over time ---- */

static void points(FILE *f, const struct trace *t, int kind, uint64_t every, double unit)
{
	uint64_t start = t->records[0].submit_ns, k = 0;

	fprintf(f, "$k%d << EOD\n", kind);
	for (size_t i = 0; i < t->n; i++) {
		const struct trace_record *r = &t->records[i];

		if (kind_of(r) == kind && k++ % every == 0)
			fprintf(f, "%.6f %.6f\n", (double)(r->submit_ns - start) / 1e9,
				(double)r->offset_bytes / unit);
	}
	fputs("EOD\n", f);
}

static void axes(FILE *f, const struct trace_info *info, bool gib, double unit)
{
	double seconds = (double)info->duration_ns / 1e9;

	fprintf(f,
		"set origin 0,0.42\nset size 1,0.54\nset xlabel 'seconds'\n"
		"set ylabel 'offset in the image, %s'\nset key outside top center horizontal\n"
		"set xrange [0:%.6f]\nset yrange [0:%.6f]\nset grid\nplot ",
		gib ? "GiB" : "MiB", seconds > 1e-6 ? seconds : 1e-6,
		info->end_bytes ? (double)info->end_bytes / unit * 1.02 : 1.0);
}

static void plot_offsets(FILE *f, const struct trace *t, const struct trace_info *info)
{
	bool gib = info->end_bytes >= 4ull << 30;
	double unit = gib ? 1024.0 * 1024 * 1024 : 1024.0 * 1024;
	uint64_t n[KINDS] = {0}, every[KINDS];
	const char *comma = "";

	for (size_t i = 0; i < t->n; i++)
		if (kind_of(&t->records[i]) >= 0)
			n[kind_of(&t->records[i])]++;
	for (int k = 0; k < KINDS; k++) {
		every[k] = n[k] / POINTS_MAX + 1;
		if (n[k])
			points(f, t, k, every[k], unit);
	}
	axes(f, info, gib, unit);
	for (int k = 0; k < KINDS; k++) {
		if (!n[k])
			continue;
		/* the key gets points of its own, large enough to tell the colours */
		fprintf(f,
			"%s$k%d with points pt 7 ps 0.35 lc rgb '%s' notitle, "
			"NaN with points pt 7 ps 1.2 lc rgb '%s' title '%s",
			comma, k, kinds[k].colour, kinds[k].colour, kinds[k].name);
		if (every[k] > 1)
			fprintf(f, " (1 of %" PRIu64 ")", every[k]);
		fputs("'", f);
		comma = ", ";
	}
	fputs(*comma ? "\n" : NOTHING, f);
}

/* ---- the three small ones ---- */

static void panel(FILE *f, double x, const char *xlabel, const char *ylabel)
{
	fprintf(f,
		"reset\nset origin %.3f,0\nset size 0.333,0.42\nset grid y\n"
		"set xlabel '%s'\nset ylabel '%s'\nset yrange [0:*]\n",
		x, xlabel, ylabel);
}

static void plot_sizes(FILE *f, const struct trace_info *info)
{
	const uint64_t *r = info->op[TRACE_READ].sizes, *w = info->op[TRACE_WRITE].sizes;
	unsigned first = SIZE_BUCKETS - 1, last = 0;

	for (unsigned k = 0; k < SIZE_BUCKETS; k++) {
		if (!r[k] && !w[k])
			continue;
		first = k < first ? k : first;
		last = k;
	}
	if (first > last) /* neither reads nor writes */
		first = last = 0;
	fputs("$sizes << EOD\n", f);
	for (unsigned k = first; k <= last; k++)
		fprintf(f, "\"%s\" %" PRIu64 " %" PRIu64 "\n",
			k < SIZE_BUCKETS - 1 ? gnuplot_size(trace_size_limit(k)) : "more", r[k],
			w[k]);
	fputs("EOD\n", f);
	panel(f, 0, "request size, up to", "requests");
	if (!r[first] && !w[first])
		fputs("set yrange [0:1]\n", f);
	fprintf(f, "set style data histograms\nset style fill solid 0.9 noborder\n"
		   "set xtics rotate by -45\nset key top right\n"
		   "plot $sizes using 2:xtic(1) title 'reads' lc rgb '#0072B2', "
		   "'' using 3 title 'writes' lc rgb '#E69F00'\n");
}

static void plot_reuse(FILE *f, const struct trace_info *info)
{
	unsigned last = 0;

	for (unsigned k = 0; k < REUSE_BUCKETS; k++)
		if (info->reuse[k])
			last = k;
	fputs("$reuse << EOD\n", f);
	for (unsigned k = 0; k <= last; k++) {
		uint64_t top = 1ull << k;
		double share =
			info->blocks ? 100.0 * (double)info->reuse[k] / (double)info->blocks : 0;

		if (k < 2)
			fprintf(f, "\"%" PRIu64 "\" %.4f\n", top, share);
		else if (k < REUSE_BUCKETS - 1)
			fprintf(f, "\"%" PRIu64 "-%" PRIu64 "\" %.4f\n", top / 2 + 1, top, share);
		else
			fprintf(f, "\"more\" %.4f\n", share);
	}
	fputs("EOD\n", f);
	panel(f, 0.333, "times a 4 KiB block is read or written", "% of all blocks touched");
	fprintf(f, "set style data histograms\nset style fill solid 0.9 noborder\n"
		   "set xtics rotate by -45\nset yrange [0:100]\n"
		   "plot $reuse using 2:xtic(1) notitle lc rgb '#009E73'\n");
}

/* The share of touches that an LRU cache of 2^k blocks would serve: the reuse distances, summed. */
static void plot_distance(FILE *f, const struct trace_info *info)
{
	uint64_t hits = 0;
	unsigned last = 0;

	for (unsigned k = 0; k < DISTANCE_BUCKETS; k++)
		if (info->distance[k])
			last = k;
	fputs("$distance << EOD\n", f);
	for (unsigned k = 0; k <= last + 1; k++) {
		hits += info->distance[k < DISTANCE_BUCKETS ? k : DISTANCE_BUCKETS - 1] *
			(k <= last);
		fprintf(f, "%u %.4f\n", k,
			info->touches ? 100.0 * (double)hits / (double)info->touches : 0);
	}
	fputs("EOD\n", f);
	panel(f, 0.666, "reuse distance: LRU cache size", "% of block touches it would serve");
	fputs("set yrange [0:100]\nset xtics rotate by -45\nset xtics (", f);
	for (unsigned k = 0; k <= last + 1; k += last > 12 ? 4 : 2)
		fprintf(f, "%s'%s' %u", k ? ", " : "", gnuplot_size(4096ull << (k < 50 ? k : 50)), k);
	fprintf(f, ")\nset xrange [0:%u]\n", last + 1);
	fputs("plot $distance with linespoints lw 2 pt 7 ps 0.4 lc rgb '#D55E00' notitle\n", f);
}

void trace_plot_script(FILE *f, const struct trace *t, const struct trace_info *info,
	const struct plot_options *opt)
{
	gnuplot_begin(f, opt->output, opt->title, opt->width, opt->height);
	if (t->n) {
		plot_offsets(f, t, info);
		plot_sizes(f, info);
		plot_reuse(f, info);
		plot_distance(f, info);
	} else {
		gnuplot_nothing(f, "no requests");
	}
	fputs("unset multiplot\n", f);
}

struct script {
	const struct trace *t;
	const struct trace_info *info;
	const struct plot_options *opt;
};

static void script(FILE *f, void *arg)
{
	const struct script *x = arg;

	trace_plot_script(f, x->t, x->info, x->opt);
}

int trace_plot(const struct trace *t, const struct trace_info *info, const struct plot_options *opt,
	struct err *e)
{
	struct script x = {t, info, opt};

	return gnuplot_run(opt->output, script, &x, e);
}
