/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plotscript.c - turns a struct plot into a gnuplot script.
 *
 * Every position is computed here in pixels and given to gnuplot as screen fractions, so that
 * titles, legend, labels and bars keep clear of one another whatever the data.  The page is
 *
 *   title
 *   legend                          (key of colours)
 *   panel title     panel title
 *   | bars |        | bars |        PANEL_LEFT for tick labels, PANEL_RIGHT for guide labels
 *    qd labels       qd labels
 *    bs labels       bs labels
 *   note
 *
 * Paper is narrower than a screen and its text must not be smaller: it has at most two panels in a
 * row, and 504 points (a page of two columns) for what PAPER_WIDTH pixels hold on the screen.
 */
#include "results/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	TOP = 44,
	LEGEND = 26,
	BOTTOM = 26,
	PANEL_TOP = 34,
	PANEL_BOTTOM = 40,
	PANEL_LEFT = 54,
	PANEL_RIGHT = 48,
	MARGIN = 14,
	NOTE_LINE = 16,
	PAPER_WIDTH = 810,
	PAPER_PANEL = 250 /* at most so high; a third lower where there are many */
};

static const char *const colours[][2] = {
	/* light, dark */
	[PLOT_LSVD] = {"#2563eb", "#5b9bff"},
	[PLOT_RAW] = {"#9aa3af", "#868e9b"},
	[PLOT_ORIGINAL] = {"#9aa3af", "#868e9b"},
	[PLOT_READAHEAD] = {"#f2a20c", "#f5b944"},
	[PLOT_REORG] = {"#8ec5ff", "#a9d3ff"},
	[PLOT_REORG_PREFETCH] = {"#2563eb", "#5b9bff"},
	[PLOT_WARM] = {"#16a085", "#2fc7a7"},
};

struct theme {
	const char *suffix, *terminal;
	unsigned scale; /* pixels of the file per pixel here; 0: paper */
	int dark;
	const char *fg, *soft, *grid, *bg;
};

static const struct theme themes[] = {
	{".svg", "svg enhanced dynamic fontscale 1.25 font 'DejaVu Sans,Verdana,sans-serif,11'", 1,
		0, "#1f2430", "#5c6470", "#e1e4ea", "#ffffff"},
	{"-dark.svg",
		"svg enhanced dynamic fontscale 1.25 font 'DejaVu Sans,Verdana,sans-serif,11'", 1,
		1, "#e6e8ee", "#a3abb8", "#343a46", "#1b1f27"},
	{".png", "pngcairo enhanced fontscale 1.5 linewidth 2 font 'DejaVu Sans,11'", 2, 0,
		"#1f2430", "#5c6470", "#e1e4ea", "#ffffff"},
	/* 9, the size of a tick's label, is 7 points: fontscale 1 is 4/3 of what it says. */
	{".pdf",
		"pdfcairo enhanced fontscale 0.583 pointscale 0.6 linewidth 1.5 font 'DejaVu "
		"Sans,11'",
		0, 0, "#1f2430", "#5c6470", "#d5d9e0", "#ffffff"},
};

/* A plot laid out for a theme, in pixels. */
struct sheet {
	const struct plot *p;
	const struct theme *t;
	unsigned width, height, cols;
};

struct axis {
	double lo, hi;
	bool log;
};

struct box {
	double left, right, top, bottom; /* pixels from the left and the top */
};

/* ---- axes ---- */

void plot_tick_label(double v, char *buf, size_t size)
{
	static const struct {
		double unit;
		const char *suffix;
	} units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (fabs(v) < units[i].unit * 0.9995)
			continue;
		snprintf(buf, size, "%.3g%s", v / units[i].unit, units[i].suffix);
		return;
	}
	snprintf(buf, size, "%.3g", v);
}

/* Values that share an axis: medians, ends of intervals, guides. */
static void widen(double v, double *least, double *most)
{
	if (v > 0 && v < *least)
		*least = v;
	if (v > *most)
		*most = v;
}

static struct axis axis_of(const struct plot_panel *p)
{
	double least = INFINITY, most = 0;

	for (size_t s = 0; s < p->nseries; s++)
		for (size_t g = 0; g < p->ngroups; g++) {
			const struct plot_point *pt = &p->series[s].points[g];

			if (!pt->there)
				continue;
			widen(pt->value, &least, &most);
			widen(pt->low, &least, &most);
			widen(pt->high, &least, &most);
		}
	for (size_t i = 0; i < p->ncurves; i++)
		for (size_t k = 0; k < p->curves[i].n; k++)
			widen(p->curves[i].y[k], &least, &most);
	for (size_t i = 0; i < p->nguides; i++)
		widen(p->guides[i].y, &least, &most);
	if (!(most > 0))
		return (struct axis){.lo = p->log ? 0.1 : 0, .hi = 1, .log = p->log};
	if (p->log)
		return (struct axis){
			.lo = pow(10, floor(log10(least / 1.5))), .hi = most * 1.8, .log = true};
	return (struct axis){.lo = 0, .hi = most * (p->values ? 1.16 : 1.08)};
}

/* 1, 2 or 5 times a power of ten, so that about five ticks fit. */
static double tick_step(double span)
{
	double raw = span / 5, unit = pow(10, floor(log10(raw))), m = raw / unit;

	return unit * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

static void put_tick(FILE *f, double v, bool *any)
{
	char label[24];

	plot_tick_label(v, label, sizeof(label));
	fprintf(f, "%s'%s' %.9g", *any ? ", " : "", label, v);
	*any = true;
}

static void put_log_ticks(FILE *f, const struct axis *a, bool *any)
{
	static const double steps[] = {1, 2, 5};
	double decades = log10(a->hi / a->lo);
	size_t per = decades < 2.3 ? 3 : 1;

	for (double d = floor(log10(a->lo)); d <= log10(a->hi); d++)
		for (size_t i = 0; i < per; i++) {
			double v = steps[i] * pow(10, d);

			if (v >= a->lo * 0.999 && v <= a->hi)
				put_tick(f, v, any);
		}
}

static void put_ticks(FILE *f, const struct axis *a, char of)
{
	bool any = false;

	fprintf(f, "set %ctics (", of);
	if (a->log) {
		put_log_ticks(f, a, &any);
	} else {
		double step = tick_step(a->hi);

		for (int i = 0; i * step <= a->hi; i++)
			put_tick(f, i * step, &any);
	}
	fputs(") scale 0 nomirror noenhanced textcolor rgb SOFT font ',9'\n", f);
}

/* ---- text and places ---- */

static void put_text(FILE *f, const char *s)
{
	fputc('\'', f);
	for (; *s; s++) {
		if (*s == '\'')
			fputc('\'', f);
		if (*s != '\n')
			fputc(*s, f);
	}
	fputc('\'', f);
}

static void put_label(
	FILE *f, const struct sheet *s, double x, double y, const char *text, const char *style)
{
	fputs("set label ", f);
	put_text(f, text);
	fprintf(f, " at screen %.5f, screen %.5f noenhanced %s\n", x / s->width, 1 - y / s->height,
		style);
}

/* Bold by markup, which every terminal understands; titles are ours and hold no markup themselves.
 */
static void put_title(
	FILE *f, const struct sheet *s, double x, double y, const char *text, int points)
{
	fprintf(f,
		"set label '{/:Bold %s}' at screen %.5f, screen %.5f left textcolor rgb FG font "
		"',%d'\n",
		text, x / s->width, 1 - y / s->height, points);
}

/* Characters of UTF-8 text. */
static size_t text_len(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void put_legend(FILE *f, const struct sheet *s)
{
	const struct plot_panel *panel = &s->p->panels[0];
	size_t n = panel->nseries ? panel->nseries : panel->ncurves;
	double x = MARGIN, y = TOP + 6;

	for (size_t i = 0; s->p->legend && i < n; i++) {
		const char *name = panel->nseries ? panel->series[i].name : panel->curves[i].name;
		enum plot_colour colour =
			panel->nseries ? panel->series[i].colour : panel->curves[i].colour;

		fprintf(f,
			"set object rectangle from screen %.5f, screen %.5f to screen %.5f, screen "
			"%.5f "
			"fs solid noborder fc rgb '%s' front\n",
			x / s->width, 1 - (y + 6) / s->height, (x + 14) / s->width,
			1 - (y - 6) / s->height, colours[colour][s->t->dark]);
		put_label(f, s, x + 20, y, name, "left textcolor rgb FG font ',10' front");
		x += 44 + 6.6 * (double)text_len(name);
	}
}

/* Where the second line of the note begins: after a semicolon, or at its end when there is none. */
static const char *note_break(const struct sheet *s)
{
	const char *note = s->p->note, *cut = note + strlen(note), *semi = note;
	size_t room = (size_t)((s->width - 2 * MARGIN) / 6.6);

	if (text_len(note) <= room)
		return cut;
	while ((semi = strstr(semi, "; ")) && (size_t)(semi - note) < room)
		cut = semi += 2;
	return cut;
}

static void put_note(FILE *f, const struct sheet *s)
{
	static const char look[] = "left textcolor rgb SOFT font ',9'";
	const char *second = note_break(s);
	char first[sizeof(s->p->note)];

	if (!s->p->note[0])
		return;
	snprintf(first, sizeof(first), "%.*s", (int)(second - s->p->note), s->p->note);
	put_label(f, s, MARGIN, s->height - MARGIN - (*second ? NOTE_LINE : 0), first, look);
	if (*second)
		put_label(f, s, MARGIN, s->height - MARGIN, second, look);
}

static double head_of(const struct plot *p)
{
	return TOP + (p->legend ? LEGEND : 0);
}

static double foot_of(const struct sheet *s)
{
	return s->p->note[0] ? BOTTOM + (*note_break(s) ? NOTE_LINE : 0) : 8;
}

static size_t rows_of(const struct plot *p, unsigned cols)
{
	return (p->npanels + cols - 1) / cols;
}

/* The panels of the last row share its width. */
static struct box box_of(const struct sheet *s, size_t i)
{
	const struct plot *p = s->p;
	size_t rows = rows_of(p, s->cols), row = i / s->cols;
	size_t in_row = row + 1 < rows ? s->cols : p->npanels - row * s->cols;
	double h = (s->height - head_of(p) - foot_of(s)) / (double)rows;
	double w = (double)s->width / (double)in_row;
	double x = w * (double)(i % s->cols), y = head_of(p) + h * (double)row;

	return (struct box){.left = x + PANEL_LEFT,
		.right = x + w - (p->panels[i].nguides ? PANEL_RIGHT : MARGIN),
		.top = y + PANEL_TOP,
		.bottom = y + h - PANEL_BOTTOM};
}

/* ---- data ---- */

/* Where group g stands: one apart, a wider gap where the second row of labels changes. */
static double group_x(const struct plot_panel *p, size_t g)
{
	double x = 0;

	for (size_t i = 1; i <= g; i++)
		x += strcmp(p->over[i], p->over[i - 1]) ? 1.45 : 1;
	return x;
}

/* Of a group of bars, how much is bars; what stands beside the first and the last group. */
static const double bars_part = 0.86, bars_margin = 0.55, lines_margin = 0.7;

static double at_least(double v, double lo)
{
	return v > lo ? v : lo;
}

/* $dNsM: x-low x-high value low high, one line per point. */
static void put_data(FILE *f, const struct plot_panel *p, size_t n)
{
	struct axis a = axis_of(p);
	double width = p->lines ? 0 : bars_part / (double)p->nseries;

	for (size_t s = 0; s < p->nseries; s++) {
		fprintf(f, "$d%zus%zu << EOD\n", n, s);
		for (size_t g = 0; g < p->ngroups; g++) {
			const struct plot_point *pt = &p->series[s].points[g];
			double x =
				group_x(p, g) - (p->lines ? 0 : bars_part / 2) + width * (double)s;

			if (pt->there)
				fprintf(f, "%.5f %.5f %.12g %.12g %.12g\n", x, x + width * 0.94,
					at_least(pt->value, a.lo), at_least(pt->low, a.lo),
					at_least(pt->high, a.lo));
		}
		fputs("EOD\n", f);
	}
}

static void put_curve_data(FILE *f, const struct plot_panel *p, size_t n)
{
	struct axis a = axis_of(p);

	for (size_t i = 0; i < p->ncurves; i++) {
		fprintf(f, "$c%zu_%zu << EOD\n", n, i);
		for (size_t k = 0; k < p->curves[i].n; k++)
			fprintf(f, "%.9g %.9g\n", p->curves[i].x[k],
				at_least(p->curves[i].y[k], a.lo));
		fputs("EOD\n", f);
	}
}

static bool series_has(const struct plot_panel *p, const struct plot_series *s, bool spread)
{
	for (size_t g = 0; g < p->ngroups; g++)
		if (s->points[g].there && (!spread || s->points[g].low < s->points[g].high))
			return true;
	return false;
}

/* ---- a panel ---- */

static void put_over_labels(
	FILE *f, const struct sheet *s, const struct plot_panel *panel, const struct box *b)
{
	char style[96];

	snprintf(style, sizeof(style), "center noenhanced textcolor rgb FG font ',10'");
	for (size_t g = 0, end; g < panel->ngroups; g = end) {
		double mid;

		for (end = g + 1; end < panel->ngroups && !strcmp(panel->over[end], panel->over[g]);
			end++)
			;
		if (!panel->over[g][0])
			continue;
		mid = (group_x(panel, g) + group_x(panel, end - 1)) / 2;
		fputs("set label ", f);
		put_text(f, panel->over[g]);
		fprintf(f, " at first %.5f, screen %.5f %s\n", mid,
			1 - (b->bottom + 32) / s->height, style);
	}
}

/* Every how manyth group has room for its label; the last has one.  Those of lines are commits,
 * which are long; bars are few. */
static size_t label_step(const struct plot_panel *p, double width)
{
	size_t longest = 1, room = 14;

	for (size_t g = 0; p->lines && g < p->ngroups; g++)
		if (text_len(p->groups[g]) > longest)
			longest = text_len(p->groups[g]);
	if (p->lines)
		room = (size_t)fmax(1, width / (6.4 * (double)longest + 8));
	return (p->ngroups + room - 1) / room;
}

static void put_x_axis(FILE *f, const struct plot_panel *p, double width)
{
	size_t every = label_step(p, width);
	double margin = p->lines ? lines_margin : bars_margin;
	bool any = false;

	fprintf(f, "set xrange [%.5f:%.5f]\nset xtics (", -margin,
		group_x(p, p->ngroups - 1) + margin);
	for (size_t g = 0; g < p->ngroups; g++) {
		if ((p->ngroups - 1 - g) % every)
			continue;
		fputs(any ? ", " : "", f);
		put_text(f, p->groups[g]);
		fprintf(f, " %.5f", group_x(p, g));
		any = true;
	}
	fprintf(f, ") scale 0 nomirror noenhanced textcolor rgb SOFT font ',%d'\n",
		p->lines ? 8 : 9);
}

static void put_curve_axis(FILE *f, const struct plot_panel *p)
{
	double least = INFINITY, most = 0;
	struct axis a;

	for (size_t i = 0; i < p->ncurves; i++)
		for (size_t k = 0; k < p->curves[i].n; k++)
			widen(p->curves[i].x[k], &least, &most);
	a = (struct axis){.lo = p->log_x ? least / 1.15 : 0,
		.hi = p->log_x ? most * 1.15 : most,
		.log = p->log_x};
	fprintf(f, "%s logscale x\nset xrange [%.9g:%.9g]\n", a.log ? "set" : "unset", a.lo, a.hi);
	put_ticks(f, &a, 'x');
}

static void put_guides(FILE *f, const struct plot_panel *p)
{
	for (size_t i = 0; i < p->nguides; i++) {
		fprintf(f,
			"set arrow from graph 0, first %.9g to graph 1, first %.9g nohead front dt "
			"(6,4) lw 1 "
			"lc rgb SOFT\nset label ",
			p->guides[i].y, p->guides[i].y);
		put_text(f, p->guides[i].label);
		fprintf(f,
			" at graph 1.0, first %.9g left offset 0.5,0 textcolor rgb SOFT font "
			"',8'\n",
			p->guides[i].y);
	}
}

static void put_marks(FILE *f, const struct plot_panel *p)
{
	for (size_t g = 1; g < p->ngroups; g++)
		if (p->marks[g]) {
			double x = group_x(p, g) - 0.5;

			fprintf(f,
				"set arrow from first %.5f, graph 0 to first %.5f, graph 1 nohead "
				"front dt (2,3) lw 1.5 lc rgb FG\nset label ",
				x, x);
			put_text(f, p->groups[g]);
			fprintf(f,
				" at first %.5f, graph 0.06 %s offset %s,0 front noenhanced "
				"textcolor rgb FG font ',8'\n",
				x, g > p->ngroups / 2 ? "right" : "left",
				g > p->ngroups / 2 ? "-0.5" : "0.5");
		}
}

/* A zero has no place on a log axis and no height on a linear one: it is written at the foot. */
static bool value_label(const struct plot_panel *p, size_t s, size_t g, char *buf, size_t size)
{
	const struct plot_point *pt = &p->series[s].points[g];

	plot_tick_label(pt->value, buf, size);
	return !p->lines && pt->there && (p->values || !(pt->value > 0));
}

/* Do the values over the bars keep clear of one another in letters of 8 points? */
static bool values_fit(const struct plot_panel *p, double width)
{
	double span, room;
	size_t longest = 0;
	char label[24];

	if (!p->ngroups)
		return true;
	span = group_x(p, p->ngroups - 1) + 2 * bars_margin;
	room = width / span * (p->nseries > 1 ? bars_part / (double)p->nseries : 1);
	for (size_t s = 0; s < p->nseries; s++)
		for (size_t g = 0; g < p->ngroups; g++)
			if (value_label(p, s, g, label, sizeof(label)) && strlen(label) > longest)
				longest = strlen(label);
	return 6.2 * (double)longest < room;
}

static void put_values(FILE *f, const struct plot_panel *p, const struct axis *a, int points)
{
	double width = bars_part / (double)p->nseries;

	for (size_t s = 0; s < p->nseries; s++)
		for (size_t g = 0; g < p->ngroups; g++) {
			const struct plot_point *pt = &p->series[s].points[g];
			double x = group_x(p, g) - bars_part / 2 + width * ((double)s + 0.47);
			char label[24];

			if (!value_label(p, s, g, label, sizeof(label)))
				continue;
			fprintf(f,
				"set label '%s' at first %.5f, first %.9g center offset 0,0.55 "
				"textcolor rgb FG font ',%d' front\n",
				label, x, at_least(pt->value > 0 ? pt->high : 0, a->lo), points);
		}
}

static void put_curve_clause(FILE *f, const struct plot_panel *p, size_t n, const struct theme *t)
{
	for (size_t i = 0; i < p->ncurves; i++)
		fprintf(f, "%s$c%zu_%zu using 1:2 with lines lw 1.5 lc rgb '%s' notitle",
			i ? ", \\\n  " : "plot ", n, i, colours[p->curves[i].colour][t->dark]);
	fputc('\n', f);
}

static void put_plot_clause(FILE *f, const struct plot_panel *p, size_t n, const struct axis *a,
	const struct theme *t, double cap)
{
	const char *sep = "plot ";

	for (size_t s = 0; s < p->nseries; s++) {
		const struct plot_series *se = &p->series[s];
		const char *colour = colours[se->colour][t->dark];

		if (!series_has(p, se, false))
			continue;
		if (p->lines)
			fprintf(f,
				"%s$d%zus%zu using 1:3 with linespoints lw 2 pt 7 ps 0.6 lc rgb "
				"'%s' notitle",
				sep, n, s, colour);
		else
			fprintf(f,
				"%s$d%zus%zu using (($1+$2)/2):3:1:2:(%.9g):3 with boxxyerror fs "
				"solid noborder "
				"fc rgb '%s' notitle",
				sep, n, s, a->lo, colour);
		sep = ", \\\n  ";
		if (series_has(p, se, true))
			fprintf(f,
				"%s$d%zus%zu using (($1+$2)/2):($4 < $5 ? $4 : NaN):(0):($5-$4) "
				"with "
				"vectors heads nofilled size screen %.5f,90 lw 1 lc rgb FG notitle",
				sep, n, s, cap);
	}
	fputc('\n', f);
}

static void put_panel(FILE *f, const struct sheet *s, size_t i)
{
	const struct plot_panel *panel = &s->p->panels[i];
	struct box b = box_of(s, i);
	struct axis a = axis_of(panel);

	if (!plot_panel_has_points(panel)) {
		put_title(f, s, b.left - 40, b.top - 19, panel->title, 10);
		put_label(f, s, b.left, b.top + 10, "not measured",
			"left textcolor rgb SOFT font ',10'");
		fputs("unset logscale; unset border; unset tics; set xrange [0:1]; set yrange "
		      "[0:1]\nplot NaN "
		      "notitle\n",
			f);
		fputs("unset label; unset object; unset arrow; set border 3 lc rgb GRID\n", f);
		return;
	}
	fprintf(f, "set lmargin at screen %.5f\nset rmargin at screen %.5f\n", b.left / s->width,
		b.right / s->width);
	fprintf(f, "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
		1 - b.top / s->height, 1 - b.bottom / s->height);
	put_title(f, s, b.left - 40, b.top - 19, panel->title, 10);
	if (panel->ncurves)
		put_curve_axis(f, panel);
	else
		put_x_axis(f, panel, b.right - b.left);
	put_over_labels(f, s, panel, &b);
	fprintf(f, "%s logscale y\nset yrange [%.9g:%.9g]\n", a.log ? "set" : "unset", a.lo, a.hi);
	put_ticks(f, &a, 'y');
	put_guides(f, panel);
	put_marks(f, panel);
	/* On paper 7 would be too small: paper_cols() has seen to it that they fit. */
	put_values(f, panel, &a, s->t->scale && !values_fit(panel, b.right - b.left) ? 7 : 8);
	if (panel->ncurves)
		put_curve_clause(f, panel, i, s->t);
	else
		put_plot_clause(f, panel, i, &a, s->t, 2.5 / s->width);
	fputs("unset label; unset object; unset arrow; unset logscale x\n", f);
}

/* ---- the script ---- */

/* As many panels in a row as the values over their bars allow, at most two. */
static unsigned paper_cols(const struct plot *p, struct sheet paper)
{
	for (size_t i = 0; i < p->npanels; i++) {
		struct box b = box_of(&paper, i);

		if (!values_fit(&p->panels[i], b.right - b.left))
			return 1;
	}
	return paper.cols;
}

/* Panels as high as on the screen, so far as the page allows. */
static struct sheet sheet_of(const struct plot *p, const struct theme *t)
{
	struct sheet screen = {p, t, p->width, p->height, p->cols};
	struct sheet paper = {p, t, PAPER_WIDTH, 0, p->cols < 2 ? p->cols : 2};
	double panel = (p->height - head_of(p) - foot_of(&screen)) / (double)rows_of(p, p->cols);
	size_t rows;

	if (t->scale)
		return screen;
	paper.cols = paper_cols(p, paper);
	rows = rows_of(p, paper.cols);
	panel = fmin(panel, rows > 3 ? PAPER_PANEL / 1.5 : PAPER_PANEL);
	paper.height = (unsigned)(head_of(p) + foot_of(&paper) + panel * (double)rows);
	return paper;
}

static void put_picture(FILE *f, const struct plot *p, const struct theme *t)
{
	struct sheet s = sheet_of(p, t);

	fprintf(f, "\nreset\nset terminal %s size ", t->terminal);
	if (t->scale)
		fprintf(f, "%u,%u", s.width * t->scale, s.height * t->scale);
	else
		fprintf(f, "7in,%.3fin", 7.0 * s.height / s.width);
	fprintf(f, " background '%s'\nset output '%s%s'\n", t->bg, p->name, t->suffix);
	fprintf(f, "FG = '%s'; SOFT = '%s'; GRID = '%s'\n", t->fg, t->soft, t->grid);
	fputs("unset key\nset border 3 lc rgb GRID\nset grid ytics lt 1 lw 1 lc rgb GRID\n"
	      "set multiplot\n",
		f);
	put_title(f, &s, MARGIN, 24, p->title, 14);
	put_note(f, &s);
	put_legend(f, &s);
	for (size_t i = 0; i < p->npanels; i++)
		put_panel(f, &s, i);
	fputs("unset multiplot\nunset output\n", f);
}

void plot_script(const struct plot *p, FILE *f)
{
	fprintf(f, "# %s: run with `gnuplot %s.gp`\nset encoding utf8\n", p->title, p->name);
	for (size_t i = 0; i < p->npanels; i++)
		put_data(f, &p->panels[i], i);
	for (size_t i = 0; i < p->npanels; i++)
		put_curve_data(f, &p->panels[i], i);
	for (size_t i = 0; i < sizeof(themes) / sizeof(themes[0]); i++)
		put_picture(f, p, &themes[i]);
}
