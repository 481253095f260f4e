/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_shrink.h - makes a failing schedule shorter: fewer features, fewer steps, fewer and earlier
 * crashes, as long as it still fails.
 */
#ifndef LSVD_TEST_SIM_SHRINK_H
#define LSVD_TEST_SIM_SHRINK_H

#include "test/sim_plan.h"

struct shrinker {
	/* Runs the plan: does it fail?  `t`: how far it came. */
	bool (*fails)(struct shrinker *s, const struct plan *p, struct plan_trail *t);
	void *arg;
	unsigned runs, most; /* so many, at most so many */
};

/* False when it does not fail; else *p is the shortest that was found. */
bool shrink(struct shrinker *s, struct plan *p);

#endif
