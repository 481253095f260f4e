/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * budget.h - the most that figures may be, and whether a run keeps to it.
 *
 * A budget is a JSON object: a figure's name -> {"most": NUMBER, "tolerance_percent": NUMBER}.  A
 * figure is over when its median is more than `most` times (1 + tolerance / 100).  Tolerance is for
 * what counts a little differently with another compiler or library; it is not headroom.
 */
#ifndef LSVD_RESULTS_BUDGET_H
#define LSVD_RESULTS_BUDGET_H

#include "results/schema.h"

enum budget_verdict {
	BUDGET_KEPT,
	BUDGET_SLACK, /* so far below `most` that this would hide a loss: lower it */
	BUDGET_OVER,
	BUDGET_NOT_MEASURED
};

struct budget_line {
	char figure[RESULTS_NAME_MAX + 1];
	double most, tolerance_percent;
};

struct budget {
	struct budget_line *lines; /* in the order of the file */
	size_t n;
};

/* -ENOENT and the like: cannot be read; -EUCLEAN, with the place: no budget. */
int budget_read(const char *file, struct budget *out, struct err *e) MUST_CHECK;
void budget_free(struct budget *b);

double budget_allowed(const struct budget_line *l);
enum budget_verdict budget_judge(const struct budget_line *l, const struct results *r);

#endif
