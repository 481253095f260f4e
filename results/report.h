/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * report.h - the page about one run: verdicts, machine, plots, every figure, history.
 *
 * OUT/index.html and OUT/plots/ open from disk: no script, nothing from the network.
 */
#ifndef LSVD_RESULTS_REPORT_H
#define LSVD_RESULTS_REPORT_H

#include "results/schema.h"

/* Makes the page of `file`; the history is drawn from the other files in `dir` that were measured
 * on the same machine with the same profile, up to this one.  Files there that cannot be read are
 * named on stderr and left out.  Without gnuplot the page is made without plots and -ENOENT
 * returned with a message that names the package. */
int results_report(const char *file, const char *dir, const char *out, struct err *e) MUST_CHECK;

#endif
