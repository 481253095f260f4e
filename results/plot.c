/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plot.c - turns a struct plot into a gnuplot script and runs it.
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
 */
#include "results/plot.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TOP = 44,
	LEGEND = 26,
	BOTTOM = 26,
	PANEL_TOP = 30,
	PANEL_BOTTOM = 40,
	PANEL_LEFT = 54,
	PANEL_RIGHT = 40
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
	unsigned scale;
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
};

struct axis {
	double lo, hi;
	bool log;
};

struct box {
	double left, right, top, bottom; /* pixels from the left and the top */
};

struct plot *plot_new(
	const char *name, const char *title, unsigned width, unsigned height, unsigned cols)
{
	struct plot *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->title, sizeof(p->title), "%s", title);
	p->width = width;
	p->height = height;
	p->cols = cols;
	return p;
}

struct plot_panel *plot_panel(struct plot *p, const char *title)
{
	struct plot_panel *panel = &p->panels[p->npanels++];

	snprintf(panel->title, sizeof(panel->title), "%s", title);
	return panel;
}

struct plot_series *plot_series(struct plot_panel *p, const char *name, enum plot_colour colour)
{
	struct plot_series *s = &p->series[p->nseries++];

	snprintf(s->name, sizeof(s->name), "%s", name);
	s->colour = colour;
	return s;
}

void plot_curve(struct plot_panel *p, const char *name, enum plot_colour colour, const double *x,
	const double *y, size_t n)
{
	struct plot_curve *c = &p->curves[p->ncurves++];

	snprintf(c->name, sizeof(c->name), "%s", name);
	c->colour = colour;
	c->x = x;
	c->y = y;
	c->n = n;
}

void plot_guide(struct plot_panel *p, double y, const char *label)
{
	struct plot_guide *g = &p->guides[p->nguides++];

	g->y = y;
	snprintf(g->label, sizeof(g->label), "%s", label);
}

static bool panel_has_points(const struct plot_panel *p)
{
	for (size_t s = 0; s < p->nseries; s++)
		for (size_t g = 0; g < p->ngroups; g++)
			if (p->series[s].points[g].there)
				return true;
	return p->ncurves > 0;
}

bool plot_has_points(const struct plot *p)
{
	for (size_t i = 0; i < p->npanels; i++)
		if (panel_has_points(&p->panels[i]))
			return true;
	return false;
}

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
	FILE *f, const struct plot *p, double x, double y, const char *text, const char *style)
{
	fputs("set label ", f);
	put_text(f, text);
	fprintf(f, " at screen %.5f, screen %.5f noenhanced %s\n", x / p->width, 1 - y / p->height,
		style);
}

/* Bold by markup, which every terminal understands; titles are ours and hold no markup themselves.
 */
static void put_title(
	FILE *f, const struct plot *p, double x, double y, const char *text, int points)
{
	fprintf(f,
		"set label '{/:Bold %s}' at screen %.5f, screen %.5f left textcolor rgb FG font "
		"',%d'\n",
		text, x / p->width, 1 - y / p->height, points);
}

/* Characters of UTF-8 text. */
static size_t text_len(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void put_legend(FILE *f, const struct plot *p, const struct theme *t)
{
	const struct plot_panel *panel = &p->panels[0];
	size_t n = panel->nseries ? panel->nseries : panel->ncurves;
	double x = 14, y = TOP + 6;

	for (size_t i = 0; p->legend && i < n; i++) {
		const char *name = panel->nseries ? panel->series[i].name : panel->curves[i].name;
		enum plot_colour colour =
			panel->nseries ? panel->series[i].colour : panel->curves[i].colour;

		fprintf(f,
			"set object rectangle from screen %.5f, screen %.5f to screen %.5f, screen "
			"%.5f "
			"fs solid noborder fc rgb '%s' front\n",
			x / p->width, 1 - (y + 6) / p->height, (x + 14) / p->width,
			1 - (y - 6) / p->height, colours[colour][t->dark]);
		put_label(f, p, x + 20, y, name, "left textcolor rgb FG font ',10' front");
		x += 44 + 6.6 * (double)text_len(name);
	}
}

static struct box box_of(const struct plot *p, size_t i)
{
	size_t rows = (p->npanels + p->cols - 1) / p->cols;
	double head = TOP + (p->legend ? LEGEND : 0), foot = p->note[0] ? BOTTOM : 8;
	double w = (double)p->width / p->cols, h = (p->height - head - foot) / (double)rows;
	double x = w * (double)(i % p->cols), y = head + h * (double)(i / p->cols);

	return (struct box){.left = x + PANEL_LEFT,
		.right = x + w - (p->panels[i].nguides ? PANEL_RIGHT : 14),
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

static double at_least(double v, double lo)
{
	return v > lo ? v : lo;
}

/* $dNsM: x-low x-high value low high, one line per point. */
static void put_data(FILE *f, const struct plot_panel *p, size_t n)
{
	struct axis a = axis_of(p);
	double width = p->lines ? 0 : 0.82 / (double)p->nseries;

	for (size_t s = 0; s < p->nseries; s++) {
		fprintf(f, "$d%zus%zu << EOD\n", n, s);
		for (size_t g = 0; g < p->ngroups; g++) {
			const struct plot_point *pt = &p->series[s].points[g];
			double x = group_x(p, g) - (p->lines ? 0 : 0.41) + width * (double)s;

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
	FILE *f, const struct plot *p, const struct plot_panel *panel, const struct box *b)
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
			1 - (b->bottom + 32) / p->height, style);
	}
}

static void put_x_axis(FILE *f, const struct plot_panel *p)
{
	/* Labels of lines are commits, which are long. */
	size_t room = p->lines ? 7 : 12;
	size_t every = p->ngroups > room + 2 ? (p->ngroups + room - 1) / room : 1;
	bool any = false;

	fprintf(f, "set xrange [-0.7:%.5f]\nset xtics (", group_x(p, p->ngroups - 1) + 0.7);
	for (size_t g = 0; g < p->ngroups; g++) {
		if ((p->ngroups - 1 - g) % every)
			continue;
		fputs(any ? ", " : "", f);
		put_text(f, p->groups[g]);
		fprintf(f, " %.5f", group_x(p, g));
		any = true;
	}
	fprintf(f, ") scale 0 nomirror noenhanced textcolor rgb SOFT font ',%d'\n",
		p->lines && p->ngroups > 5 ? 7 : 9);
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
static void put_values(FILE *f, const struct plot_panel *p, const struct axis *a)
{
	double width = 0.82 / (double)p->nseries;

	for (size_t s = 0; !p->lines && s < p->nseries; s++)
		for (size_t g = 0; g < p->ngroups; g++) {
			const struct plot_point *pt = &p->series[s].points[g];
			double x = group_x(p, g) - 0.41 + width * ((double)s + 0.47);
			char label[24];

			if (!pt->there || (!p->values && pt->value > 0))
				continue;
			plot_tick_label(pt->value, label, sizeof(label));
			fprintf(f,
				"set label '%s' at first %.5f, first %.9g center offset 0,0.55 "
				"textcolor rgb FG font ',8' front\n",
				label, x, at_least(pt->value > 0 ? pt->high : 0, a->lo));
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

static void put_panel(FILE *f, const struct plot *p, size_t i, const struct theme *t)
{
	const struct plot_panel *panel = &p->panels[i];
	struct box b = box_of(p, i);
	struct axis a = axis_of(panel);

	if (!panel_has_points(panel)) {
		put_title(f, p, b.left - 40, b.top - 14, panel->title, 10);
		put_label(f, p, b.left, b.top + 10, "not measured",
			"left textcolor rgb SOFT font ',10'");
		fputs("unset logscale; unset border; unset tics; set xrange [0:1]; set yrange "
		      "[0:1]\nplot NaN "
		      "notitle\n",
			f);
		fputs("unset label; unset object; unset arrow; set border 3 lc rgb GRID\n", f);
		return;
	}
	fprintf(f, "set lmargin at screen %.5f\nset rmargin at screen %.5f\n", b.left / p->width,
		b.right / p->width);
	fprintf(f, "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
		1 - b.top / p->height, 1 - b.bottom / p->height);
	put_title(f, p, b.left - 40, b.top - 14, panel->title, 10);
	if (panel->ncurves)
		put_curve_axis(f, panel);
	else
		put_x_axis(f, panel);
	put_over_labels(f, p, panel, &b);
	fprintf(f, "%s logscale y\nset yrange [%.9g:%.9g]\n", a.log ? "set" : "unset", a.lo, a.hi);
	put_ticks(f, &a, 'y');
	put_guides(f, panel);
	put_marks(f, panel);
	put_values(f, panel, &a);
	if (panel->ncurves)
		put_curve_clause(f, panel, i, t);
	else
		put_plot_clause(f, panel, i, &a, t, 2.5 / p->width);
	fputs("unset label; unset object; unset arrow; unset logscale x\n", f);
}

/* ---- the script ---- */

static void put_picture(FILE *f, const struct plot *p, const struct theme *t)
{
	fprintf(f, "\nreset\nset terminal %s size %u,%u background '%s'\nset output '%s%s'\n",
		t->terminal, p->width * t->scale, p->height * t->scale, t->bg, p->name, t->suffix);
	fprintf(f, "FG = '%s'; SOFT = '%s'; GRID = '%s'\n", t->fg, t->soft, t->grid);
	fputs("unset key\nset border 3 lc rgb GRID\nset grid ytics lt 1 lw 1 lc rgb GRID\n"
	      "set multiplot\n",
		f);
	put_title(f, p, 14, 24, p->title, 14);
	if (p->note[0])
		put_label(f, p, 14, p->height - 14, p->note, "left textcolor rgb SOFT font ',9'");
	put_legend(f, p, t);
	for (size_t i = 0; i < p->npanels; i++)
		put_panel(f, p, i, t);
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

static int run_gnuplot(const char *dir, const char *script, struct err *e)
{
	char *argv[] = {"gnuplot", (char *)script, NULL};
	posix_spawn_file_actions_t fa;
	int rc, status;
	pid_t pid;

	if (posix_spawn_file_actions_init(&fa))
		return err_set(e, -ENOMEM, "gnuplot: no memory");
	rc = posix_spawn_file_actions_addchdir_np(&fa, dir);
	if (!rc)
		rc = posix_spawnp(&pid, "gnuplot", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc == ENOENT)
		return err_set(e, -ENOENT,
			"gnuplot is not installed, so there are no plots; apt-get install "
			"gnuplot-nox");
	if (rc)
		return err_set(e, -rc, "run gnuplot: %s", strerror(rc));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(e, -errno, "wait for gnuplot: %s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(
			e, -EIO, "gnuplot failed on %s/%s; its message is above", dir, script);
	return 0;
}

int plot_draw(const struct plot *p, const char *dir, struct err *e)
{
	char path[4096], script[80];
	FILE *f;

	snprintf(script, sizeof(script), "%s.gp", p->name);
	snprintf(path, sizeof(path), "%s/%s", dir, script);
	f = fopen(path, "we");
	if (!f)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	plot_script(p, f);
	if (ferror(f) | fclose(f))
		return err_set(e, -EIO, "%s: cannot write", path);
	return run_gnuplot(dir, script, e);
}
