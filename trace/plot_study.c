/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plot_study.c - see plot_study.h.  Colours: Okabe and Ito's. */
#include "trace/plot_study.h"
#include "trace/gnuplot.h"

#include <inttypes.h>
#include <math.h>

enum { POINTS_MAX = 40000 };

unsigned study_distances(const struct curve *c, double by_power[64])
{
	unsigned last = 0;

	for (unsigned k = 0; k < 64; k++)
		by_power[k] = 0;
	for (unsigned b = 0; b < CURVE_BUCKETS; b++) {
		uint64_t size = curve_limit(b);
		unsigned k = size > 1 ? 64 - (unsigned)__builtin_clzll(size - 1) : 0;

		by_power[k] += c->count[b];
		if (c->count[b] > 0)
			last = k;
	}
	return last;
}

uint64_t study_size(unsigned i, uint64_t largest)
{
	uint64_t size, before = 0;

	for (unsigned k = 0;; k++) {
		size = (uint64_t)llround(exp2(k / 4.0));
		if (size == before)
			continue;
		if (i-- == 0)
			return before >= largest ? 0 : size;
		before = size;
	}
}

/* ---- panels of analyse ---- */

static void panel(FILE *f, unsigned at, const char *title, const char *xlabel, const char *ylabel)
{
	fprintf(f,
		"reset\nset origin %.2f,%.3f\nset size 0.5,0.47\nset grid\nset title '%s'\n"
		"set xlabel '%s'\nset ylabel '%s'\n",
		at % 2 ? 0.5 : 0.0, at < 2 ? 0.48 : 0.01, title, xlabel, ylabel);
}

static void size_unit(double bytes, const char **name, double *unit)
{
	static const char *const names[] = {"KiB", "MiB", "GiB", "TiB"};
	unsigned k = 0;

	for (*unit = 1024; k < 3 && bytes >= 4096 * *unit / 4; k++)
		*unit *= 1024;
	*name = names[k];
}

static double seconds_of(const struct study *s)
{
	double v = (double)s->windows->n * (double)windows_ns(s->windows) / 1e9;

	return v > 0 ? v : 1;
}

static void plot_working_set(FILE *f, const struct study *s)
{
	const struct windows *w = s->windows;
	double block = s->opt.block_bytes, total = 0, most = 0, step = (double)windows_ns(w) / 1e9;
	double unit, small;
	const char *name, *small_name;
	char title[100];

	for (uint32_t i = 0; i < w->n; i++) {
		total += w->w[i].first;
		most = fmax(most, windows_blocks(w, i));
	}
	size_unit(total * block, &name, &unit);
	size_unit(most * block, &small_name, &small);
	fputs("$ws << EOD\n", f);
	total = 0;
	for (uint32_t i = 0; i < w->n; i++) {
		total += w->w[i].first;
		fprintf(f, "%.6f %.6f %.6f\n", (i + 0.5) * step,
			windows_blocks(w, i) * block / small, total * block / unit);
	}
	fputs("EOD\n", f);
	snprintf(title, sizeof(title), "working set in windows of %.4g s", step);
	panel(f, 0, title, "seconds", "");
	fprintf(f,
		"set xrange [0:%.6f]\nset yrange [0:*]\nset y2range [0:*]\nset key top left\n"
		"set ytics nomirror\nset y2tics\nset y2label 'touched in a window, %s'\n"
		"set ylabel 'touched so far, %s'\n"
		"plot $ws using 1:2 axes x1y2 with %s lw 1 lc rgb '#0072B2' title 'in a window', "
		"$ws using 1:3 with lines lw 2 lc rgb '#E69F00' title 'so far'\n",
		seconds_of(s), small_name, name, w->n > 60 ? "lines" : "linespoints pt 7 ps 0.4");
}

static void curve_data(FILE *f, const char *name, const struct curve *c, const struct study *s)
{
	uint64_t largest = study_largest(s), size;

	fprintf(f, "$%s << EOD\n", name);
	for (unsigned i = 0; (size = study_size(i, largest)); i++)
		fprintf(f, "%.0f %.6f\n", (double)size * s->opt.block_bytes,
			curve_miss_ratio(c, (double)size));
	fputs("EOD\n", f);
}

static unsigned ceil_log2(uint64_t v)
{
	return v > 1 ? 64 - (unsigned)__builtin_clzll(v - 1) : 0;
}

static void plot_curve(FILE *f, const struct study *s)
{
	bool sampled = s->opt.rate < 1 || s->opt.samples;
	unsigned first = ceil_log2(s->opt.block_bytes), last = ceil_log2(study_largest(s));

	curve_data(f, "mrc", &s->reuse.curve, s);
	if (s->opt.exact_too)
		curve_data(f, "exact", &s->exact.curve, s);
	panel(f, 1, "miss-ratio curve", "LRU cache", "touches that miss");
	gnuplot_size_axis(f, first, first + (last ? last : 1));
	fputs("set yrange [0:1]\nset key bottom left\nplot ", f);
	if (s->opt.exact_too)
		fputs("$exact with lines lw 4 lc rgb '#999999' title 'exact', ", f);
	fprintf(f, "$mrc with lines lw 2 lc rgb '#D55E00' title '%s'\n",
		sampled ? "SHARDS" : "exact");
}

static void plot_distances(FILE *f, const struct study *s)
{
	const struct curve *c = &s->reuse.curve;
	double by_power[64], all = c->touches > 0 ? c->touches : 1, seen = 0;
	unsigned last = study_distances(c, by_power), skip = last > 12 ? 2 : 1;

	fputs("$reuse << EOD\n", f);
	for (unsigned k = 0; k <= last; k++) {
		seen += by_power[k];
		if (k % skip == 0)
			fprintf(f, "\"%s\" %.4f\n", gnuplot_size((uint64_t)s->opt.block_bytes << k),
				100 * by_power[k] / all);
		else
			fprintf(f, "\"\" %.4f\n", 100 * by_power[k] / all);
	}
	fprintf(f, "\"new\" %.4f\nEOD\n", 100 * (all - seen) / all);
	panel(f, 2, "reuse distance", "touched in between: up to (new: never touched before)",
		"% of touches");
	fputs("set style data histograms\nset style histogram clustered gap 0.3\nset style fill "
	      "solid 0.9 noborder\n"
	      "set grid noxtics\nset xtics rotate by -45\nset yrange [0:*]\n"
	      "plot $reuse using 2:xtic(1) notitle lc rgb '#009E73'\n",
		f);
}

static void plot_heat(FILE *f, const struct study *s)
{
	const struct windows *w = s->windows;
	unsigned columns = (w->n + WINDOWS_MAX / HEAT_COLUMNS - 1) / (WINDOWS_MAX / HEAT_COLUMNS);
	double row = (double)s->opt.block_bytes * exp2(w->row_shift), unit;
	double column = (double)windows_ns(w) * (WINDOWS_MAX / HEAT_COLUMNS) / 1e9;
	unsigned rows = (unsigned)ceil((double)s->end_bytes / row);
	const char *name;
	char ylabel[60];

	size_unit((double)s->end_bytes, &name, &unit);
	snprintf(ylabel, sizeof(ylabel), "offset, %s", name);
	fputs("$heat << EOD\n", f);
	for (unsigned c = 0; c < columns; c++)
		for (unsigned r = 0; r < rows && r < HEAT_ROWS; r++)
			if (w->reads[c][r] + w->writes[c][r])
				fprintf(f, "%.9g %.9g %" PRIu64 "\n", (c + 0.5) * column,
					(r + 0.5) * row / unit, w->reads[c][r] + w->writes[c][r]);
	fputs("EOD\n", f);
	panel(f, 3, "touches of blocks", "seconds", ylabel);
	fprintf(f,
		"unset grid\nset rmargin 14\nset logscale cb\nset cblabel 'touches' offset 1\n"
		"set palette defined (0 '#fde725', 1 '#5ec962', 2 '#21918c', 3 '#3b528b', 4 "
		"'#440154')\n"
		"set xrange [0:%.6f]\nset yrange [0:%.6f]\n"
		"set style fill solid noborder\n"
		"plot $heat using 1:2:(%.9g):(%.9g):3 with boxxyerror lc palette notitle\n",
		columns * column, rows * row / unit, 0.52 * column,
		0.52 * row / unit); /* no seams */
}

struct study_script {
	const struct study *s;
	const char *output, *title;
};

static void study_script(FILE *f, void *arg)
{
	const struct study_script *x = arg;

	gnuplot_begin(f, x->output, x->title, 0, 0);
	if (x->s->requests) {
		plot_working_set(f, x->s);
		plot_curve(f, x->s);
		plot_distances(f, x->s);
		plot_heat(f, x->s);
	} else {
		gnuplot_nothing(f, "no requests");
	}
	fputs("unset multiplot\n", f);
}

int study_plot(const struct study *s, const char *output, const char *title, struct err *e)
{
	struct study_script x = {s, output, title};

	return gnuplot_run(output, study_script, &x, e);
}

/* ---- compare ---- */

struct overlap_script {
	const struct overlap *o;
	const char *const *names;
	const char *output;
};

static void labels(FILE *f, const char *before, const char *name, const char *axis)
{
	char text[300];

	snprintf(text, sizeof(text), "%s%.200s", before, name);
	fprintf(f, "set %s ", axis);
	gnuplot_quoted(f, text);
	fputs(" noenhanced\n", f);
}

static void plot_ranks(FILE *f, const struct overlap_script *x)
{
	const struct overlap *o = x->o;
	uint64_t every = o->both / POINTS_MAX + 1;

	fputs("$ranks << EOD\n", f);
	for (uint64_t i = 0; i < o->both; i += every)
		fprintf(f, "%" PRIu64 " %u\n", i, o->rank[i]);
	fprintf(f,
		"EOD\nset origin 0,0.02\nset size 0.5,0.9\nset grid\n"
		"set title 'the common blocks by first touch'\nset xrange [0:%" PRIu64 "]\n"
		"set yrange [0:%" PRIu64 "]\nset size ratio 1\nset xtics rotate by -45\n",
		o->both, o->both);
	labels(f, "rank in ", x->names[0], "xlabel");
	labels(f, "rank in ", x->names[1], "ylabel");
	fputs("plot $ranks with points pt 7 ps 0.25 lc rgb '#0072B2' notitle\n", f);
}

static void plot_depth(FILE *f, const struct overlap *o)
{
	uint64_t k_max = o->a < o->b ? o->a : o->b;

	fputs("$depth << EOD\n", f);
	for (unsigned i = 0; i < OVERLAP_DEPTHS; i++)
		fprintf(f, "%.0f %.4f\n", (double)k_max * (i + 1) / OVERLAP_DEPTHS,
			100 * o->depth[i]);
	fprintf(f,
		"EOD\nreset\nset origin 0.5,0.02\nset size 0.5,0.9\nset grid\n"
		"set title 'what the first k blocks have in common'\nset xlabel 'k'\n"
		"set ylabel '%% in both'\nset xrange [0:%" PRIu64 "]\nset yrange [0:100]\n"
		"set size ratio 1\nset xtics rotate by -45\n"
		"plot $depth with lines lw 2 lc rgb '#D55E00' notitle\n",
		k_max);
}

static void overlap_script(FILE *f, void *arg)
{
	const struct overlap_script *x = arg;
	char title[200];

	snprintf(title, sizeof(title), "Jaccard %.3f, Spearman %.3f, Kendall %.3f", x->o->jaccard,
		x->o->spearman, x->o->kendall);
	gnuplot_begin(f, x->output, title, 1200, 640);
	if (x->o->both) {
		plot_ranks(f, x);
		plot_depth(f, x->o);
	} else {
		gnuplot_nothing(f, "no common block");
	}
	fputs("unset multiplot\n", f);
}

int overlap_plot(
	const struct overlap *o, const char *const names[2], const char *output, struct err *e)
{
	struct overlap_script x = {o, names, output};

	return gnuplot_run(output, overlap_script, &x, e);
}
