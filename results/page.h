/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * page.h - the HTML of a report: one file with its style inside, light and dark, plots beside it.
 */
#ifndef LSVD_RESULTS_PAGE_H
#define LSVD_RESULTS_PAGE_H

#include "results/history.h"
#include "results/schema.h"

#include <stdio.h>

enum page_section { PAGE_FIO, PAGE_PRESSURE, PAGE_MEM, PAGE_BOOT, PAGE_HISTORY };
enum { PAGE_PLOTS_MAX = 24 };

struct page {
	struct results *run;   /* what the page is about */
	struct history history; /* the comparable runs, oldest first, `run` last */
	struct {
		enum page_section section;
		char name[64], title[120];
		unsigned width, height;
	} plots[PAGE_PLOTS_MAX]; /* drawn: plots/NAME.svg, -dark.svg, .png, .gp */
	size_t nplots;
};

void page_add_plot(struct page *p, enum page_section section, const char *name, const char *title,
	unsigned width, unsigned height);

/* What is not the page's own text, escaped. */
void page_text(FILE *f, const char *s);

/* A value for people: 4 digits, thousands apart. */
void page_value(FILE *f, double v);

/* ---- pagehistory.c ---- */

/* The change points of all figures over the history, as a table. */
void page_changes(FILE *f, const struct history *h);

/* A small picture of one figure over the runs, its change points marked; nothing for a single run. */
void page_trend(FILE *f, const struct history *h, const char *figure);

void page_write(const struct page *p, FILE *f);

#endif
