/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * compare.h - is a figure of run B better or worse than in run A, and how do we know?
 *
 * A difference counts when it is both large enough to matter and too regular to be noise:
 *   effect   |B - A| / |A| of the medians is at least `min_effect`; any difference of a figure that
 *            is exact in both runs (params.exact, see SCHEMA.md)
 *   evidence 5 samples or more on both sides: a Mann-Whitney U test gives p <= alpha;
 *            fewer: the two intervals do not overlap
 * Where the samples of both runs were measured in turns (rule.paired), evidence is instead that the
 * interval of the paired ratios (paired.h), of confidence 1 - alpha, excludes 1, and the effect is
 * their estimate; with fewer rounds than can tell anything at that alpha the figure is `undecided`.
 * A figure without a direction that differs so is `changed`; so is one whose unit or params differ,
 * which makes the values incomparable.
 *
 * Pure; any thread.
 */
#ifndef LSVD_RESULTS_COMPARE_H
#define LSVD_RESULTS_COMPARE_H

#include "results/paired.h"
#include "results/schema.h"

enum compare_verdict {
	COMPARE_SAME,
	COMPARE_BETTER,
	COMPARE_WORSE,
	COMPARE_CHANGED,
	COMPARE_UNDECIDED, /* paired only: too few rounds */
	COMPARE_VERDICTS
};

struct compare_rule {
	double min_effect; /* 0.02 = 2 % */
	double alpha;	   /* p at or below which a difference is no accident */
	bool paired;	   /* sample i of A and of B are of one round */
};

/* alpha 0.01: a run has hundreds of figures, and 5 against 5 samples can reach p = 0.008. */
#define COMPARE_RULE_DEFAULT                      \
	{                                         \
		.min_effect = 0.02, .alpha = 0.01 \
	}

struct comparison {
	const struct results_figure *a, *b;
	enum compare_verdict verdict;
	double effect;	      /* (B - A) / |A|; infinite when A is 0 and B is not */
	double p;	      /* of the U test, -1 when there was none */
	struct paired paired; /* confidence > 0 when it was judged so */
	char reason[160];
};

/* Returns 0, or -ENOMEM, or -E2BIG for more than PAIRED_ROUNDS_MAX rounds. */
int compare_figures(const struct results_figure *a, const struct results_figure *b,
	const struct compare_rule *rule, struct comparison *out);

const char *compare_verdict_name(enum compare_verdict v);

#endif
