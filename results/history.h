/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * history.h - the runs before one that compare with it, and a figure over them.
 *
 * One thread.
 */
#ifndef LSVD_RESULTS_HISTORY_H
#define LSVD_RESULTS_HISTORY_H

#include "results/changes.h"
#include "results/schema.h"

#include <stdio.h>

struct history {
	struct results **runs; /* oldest first, or in the order of commits */
	struct results *own;   /* of these, the one that is the caller's; it may be left out */
	size_t n;
	size_t others; /* left out: other machines or profiles, or no commit of the order */
};

/* The readable runs of `dir` that are not later than `run` and of the same profile, processor and
 * disk, then `run` itself, which stays the caller's.  A file that cannot be read is named on stderr
 * and left out; an absent directory holds none.  Returns 0, or -ENOMEM. */
int history_load(const char *dir, struct results *run, struct history *h, struct err *e) MUST_CHECK;

/* Puts the runs into the order of the commits that `in` names, one full or abbreviated hash a line,
 * the oldest first (git rev-list --reverse); runs of one commit stay in order of time, runs of none
 * of them are left out.  `in` is only named `file`.  -EINVAL: a line is no commit, or no run is
 * left. */
int history_order(struct history *h, FILE *in, const char *file, struct err *e) MUST_CHECK;

void history_free(struct history *h);

/* A figure over the runs that have it with the unit and parameters that it has in the last of them.
 */
struct series {
	const struct results_figure *figure; /* of the last run that has it */
	size_t *run;			     /* indices into the history */
	double *median;
	size_t n;
	struct change *changes;
	size_t nchanges;
};

/* -ENOENT when no run has the figure. */
int history_series(const struct history *h, const char *name, const struct change_rule *rule,
	struct series *out, struct err *e) MUST_CHECK;
void series_free(struct series *s);

/* "better", "worse" or "changed", by the figure's direction. */
const char *change_verdict(const struct results_figure *f, const struct change *c);

/* "d0a712d", with + for uncommitted changes.  Rotating static buffer (main thread only). */
const char *run_label(const struct results *r);

#endif
