/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plot.h - a picture of panels with grouped bars, lines over groups, or curves, drawn by gnuplot.
 *
 * plot_draw() writes DIR/NAME.gp (a gnuplot script with its data inline: edit and run it for a
 * paper) and lets gnuplot make NAME.svg, NAME-dark.svg, NAME.png (twice as many pixels) and NAME.pdf
 * (7 inches wide, a page of two columns, no text below 6 points) of it.
 *
 * A struct plot is large: allocate it on the heap with plot_new().  One thread.
 */
#ifndef LSVD_RESULTS_PLOT_H
#define LSVD_RESULTS_PLOT_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { PLOT_PANELS_MAX = 9, PLOT_SERIES_MAX = 5, PLOT_GROUPS_MAX = 40, PLOT_GUIDES_MAX = 2 };

/* One meaning, one colour, in every picture. */
enum plot_colour {
	PLOT_LSVD,
	PLOT_RAW,
	PLOT_ORIGINAL,
	PLOT_READAHEAD,
	PLOT_REORG,
	PLOT_REORG_PREFETCH,
	PLOT_WARM,
};

struct plot_point {
	double value, low, high; /* low < high draws an error bar */
	bool there;		 /* false: not measured, nothing is drawn */
};

struct plot_series {
	char name[40];
	enum plot_colour colour;
	struct plot_point points[PLOT_GROUPS_MAX];
};

/* Over an axis of numbers; the points belong to the caller, until the plot was drawn. */
struct plot_curve {
	char name[40];
	enum plot_colour colour;
	const double *x, *y;
	size_t n;
};

struct plot_guide {
	double y;	/* a dashed line across the panel */
	char label[12]; /* right of it */
};

struct plot_panel {
	char title[96]; /* quantity and unit */
	bool lines;	/* points over an ordered x axis instead of bars */
	bool log;
	bool log_x;  /* of curves */
	bool values; /* print the value over each bar */
	bool marks[PLOT_GROUPS_MAX]; /* a vertical line before this group: the level changed */
	size_t ngroups, nseries, ncurves, nguides;
	char groups[PLOT_GROUPS_MAX][16]; /* x labels, first row */
	char over[PLOT_GROUPS_MAX][16];	  /* second row: once per run of equal texts; "" for none */
	struct plot_series series[PLOT_SERIES_MAX];
	struct plot_curve curves[PLOT_SERIES_MAX]; /* then there are neither groups nor series */
	struct plot_guide guides[PLOT_GUIDES_MAX];
};

struct plot {
	char name[64]; /* of the files, without suffix */
	char title[120], note[160];
	unsigned width, height, cols;
	bool legend; /* the series of the first panel, under the title */
	size_t npanels;
	struct plot_panel panels[PLOT_PANELS_MAX];
};

struct plot *plot_new(
	const char *name, const char *title, unsigned width, unsigned height, unsigned cols);

/* The next panel, empty; the plot owns it. */
struct plot_panel *plot_panel(struct plot *p, const char *title);

/* The next series of a panel. */
struct plot_series *plot_series(struct plot_panel *p, const char *name, enum plot_colour colour);

/* The next curve of a panel. */
void plot_curve(struct plot_panel *p, const char *name, enum plot_colour colour, const double *x,
	const double *y, size_t n);

void plot_guide(struct plot_panel *p, double y, const char *label);

bool plot_panel_has_points(const struct plot_panel *p);
/* Does any panel hold a point? */
bool plot_has_points(const struct plot *p);

/* -ENOENT with a message naming the package when gnuplot is not installed; -EIO when it failed. */
int plot_draw(const struct plot *p, const char *dir, struct err *e) MUST_CHECK;

/* "1.5k", "200", "0.05": a tick's label. */
void plot_tick_label(double v, char *buf, size_t size);

/* The script of plot_draw; exposed for tests. */
void plot_script(const struct plot *p, FILE *f);

#endif
