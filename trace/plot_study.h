/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plot_study.h - the pictures of `lsvd trace analyse` and `compare`, by gnuplot: *.png or *.svg. */
#ifndef LSVD_TRACE_PLOT_STUDY_H
#define LSVD_TRACE_PLOT_STUDY_H

#include "trace/overlap.h"
#include "trace/study.h"

/* Working set over time, miss-ratio curve, reuse distances, heat map.  Errors as gnuplot_run(). */
int study_plot(
	const struct study *s, const char *output, const char *title, struct err *e) MUST_CHECK;

/* Ranks in A against ranks in B, and what the first blocks of both have in common. */
int overlap_plot(const struct overlap *o, const char *const names[2], const char *output,
	struct err *e) MUST_CHECK;

/* Touches by reuse distance in powers of two: of a distance below 2^k blocks, but not of one below
 * 2^(k-1).  k of the largest. */
unsigned study_distances(const struct curve *c, double by_power[64]);

/* Sizes, in blocks, at which a curve is told: four for each power of two.  i from 0; 0: behind the
 * last one, the first that is not below `largest`. */
uint64_t study_size(unsigned i, uint64_t largest);

#endif
