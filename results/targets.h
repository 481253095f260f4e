/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * targets.h - what LSVD must reach, figure by figure, and whether a run reached it.
 *
 * Pure; any thread.
 */
#ifndef LSVD_RESULTS_TARGETS_H
#define LSVD_RESULTS_TARGETS_H

#include "results/schema.h"

struct target {
	const char *figure, *title;
	double least, goal; /* goal is NAN where there is none beyond `least` */
	bool lower;	    /* lower is better: `least` is a ceiling */
	bool strict;	    /* `least` itself is already a miss ("< 2 %") */
};

enum target_verdict { TARGET_NOT_MEASURED, TARGET_MISS, TARGET_PASS, TARGET_GOAL };

/* The table, ended by figure == NULL. */
extern const struct target targets[];

/* Is it for this kind of run?  Those of workloads/vmboot are for its runs, the others for `make bench`. */
bool target_applies(const struct target *t, const struct results *r);

/* NULL when the figure has no target. */
const struct target *target_of(const char *figure);

/* The verdict on the median of the target's figure in `r`. */
enum target_verdict target_judge(const struct target *t, const struct results *r);

/* "not measured", "MISS", "pass", "goal reached" */
const char *target_verdict_name(enum target_verdict v);

#endif
