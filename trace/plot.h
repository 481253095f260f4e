/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plot.h - a picture of a trace, by gnuplot: offset over time, request sizes, how often blocks are
 * touched again and at what reuse distance.
 */
#ifndef LSVD_TRACE_PLOT_H
#define LSVD_TRACE_PLOT_H

#include "trace/analyse.h"

#include <stdio.h>

struct plot_options {
	const char *output; /* *.png or *.svg */
	const char *title;
	unsigned width, height; /* pixels; 0 = 1200 x 900 */
};

/* The gnuplot script with its data, self-contained. */
void trace_plot_script(FILE *f, const struct trace *t, const struct trace_info *info,
	const struct plot_options *opt);

/* Runs gnuplot on it.  -ENOENT: gnuplot is not installed; -EINVAL: neither png nor svg. */
int trace_plot(const struct trace *t, const struct trace_info *info, const struct plot_options *opt,
	struct err *e) MUST_CHECK;

#endif
