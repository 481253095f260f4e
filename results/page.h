/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * page.h - the HTML of a report: one file with its style inside, light and dark, plots beside it.
 */
#ifndef LSVD_RESULTS_PAGE_H
#define LSVD_RESULTS_PAGE_H

#include "results/schema.h"

#include <stdio.h>

enum page_section { PAGE_FIO, PAGE_MEM, PAGE_BOOT, PAGE_HISTORY };
enum { PAGE_PLOTS_MAX = 16 };

struct page {
	struct results *run;   /* what the page is about */
	struct results **runs; /* comparable runs, oldest first, `run` last */
	size_t nruns;
	size_t others; /* earlier runs of other machines or profiles */
	struct {
		enum page_section section;
		char name[64], title[120];
		unsigned width, height;
	} plots[PAGE_PLOTS_MAX]; /* drawn: plots/NAME.svg, -dark.svg, .png, .gp */
	size_t nplots;
};

void page_add_plot(struct page *p, enum page_section section, const char *name, const char *title,
	unsigned width, unsigned height);

void page_write(const struct page *p, FILE *f);

#endif
