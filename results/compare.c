/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compare.c - the verdict on one figure of two runs, with its reason in words. */
#include "results/compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { U_TEST_MIN = 5 };

static double effect_of(double a, double b)
{
	if (!(a < b) && !(a > b))
		return 0;
	return a < 0 || a > 0 ? (b - a) / fabs(a) : copysign(INFINITY, b);
}

static enum compare_verdict by_direction(const struct results_figure *f, double effect)
{
	if (f->direction == RESULTS_NONE)
		return COMPARE_CHANGED;
	return (effect > 0) == (f->direction == RESULTS_HIGHER) ? COMPARE_BETTER : COMPARE_WORSE;
}

static int comparable(struct comparison *c, bool paired)
{
	if (strcmp(c->a->unit, c->b->unit))
		snprintf(c->reason, sizeof(c->reason), "not comparable: unit %s, then %s",
			c->a->unit, c->b->unit);
	else if (c->a->direction != c->b->direction)
		snprintf(c->reason, sizeof(c->reason), "not comparable: %s is better, then %s",
			results_direction_name(c->a->direction),
			results_direction_name(c->b->direction));
	else if (paired && c->a->n != c->b->n)
		snprintf(c->reason, sizeof(c->reason), "not paired: %zu rounds, then %zu", c->a->n,
			c->b->n);
	else if (!json_equal(c->a->params, c->b->params))
		snprintf(c->reason, sizeof(c->reason), "not comparable: other parameters");
	return !c->reason[0];
}

/* The interval of a figure to 5 digits, more of whole numbers: for reading. */
static const char *span(const struct stat_summary *s, char *buf, size_t size)
{
	if (fabs(s->high) >= 1e4)
		snprintf(buf, size, "%.0f..%.0f", s->low, s->high);
	else
		snprintf(buf, size, "%.5g..%.5g", s->low, s->high);
	return buf;
}

/* Is the difference more than noise?  Says why in c->reason; -ENOMEM when it cannot tell. */
static int evident(struct comparison *c, double alpha)
{
	const struct stat_summary *a = &c->a->sum, *b = &c->b->sum;
	char sa[48], sb[48];

	if (c->a->n >= U_TEST_MIN && c->b->n >= U_TEST_MIN) {
		c->p = stat_mann_whitney(c->a->samples, c->a->n, c->b->samples, c->b->n);
		if (c->p < 0)
			return (int)c->p;
		snprintf(c->reason, sizeof(c->reason),
			"U test of %zu and %zu samples: p = %.2g, %s %g", c->a->n, c->b->n, c->p,
			c->p <= alpha ? "within" : "above", alpha);
		return c->p <= alpha;
	}
	if (a->high < b->low || b->high < a->low) {
		snprintf(c->reason, sizeof(c->reason), "intervals do not overlap: %s, then %s",
			span(a, sa, sizeof(sa)), span(b, sb, sizeof(sb)));
		return 1;
	}
	snprintf(c->reason, sizeof(c->reason), "intervals overlap: %s and %s",
		span(a, sa, sizeof(sa)), span(b, sb, sizeof(sb)));
	return 0;
}

/* Judges what was measured in turns; -errno when it cannot. */
static int judge_paired(struct comparison *c, const struct compare_rule *rule)
{
	const struct paired *p = &c->paired;
	double none;
	int rc = paired_estimate(c->a->samples, c->b->samples, c->a->n, rule->alpha, &c->paired);

	if (rc)
		return rc;
	none = p->differences ? 0 : 1;
	c->effect = p->differences ? effect_of(fabs(c->a->sum.median),
					     fabs(c->a->sum.median) + p->estimate)
				   : p->estimate - 1;
	if (!(p->confidence > 0)) {
		c->verdict = COMPARE_UNDECIDED;
		snprintf(c->reason, sizeof(c->reason),
			"%zu rounds cannot tell at alpha %g: %zu or more can", c->a->n, rule->alpha,
			paired_least_rounds(rule->alpha));
		return 0;
	}
	snprintf(c->reason, sizeof(c->reason), "%s %.4g, %.4g..%.4g (%.2f %%, %zu rounds)",
		p->differences ? "difference" : "ratio", p->estimate, p->low, p->high,
		100 * p->confidence, c->a->n);
	if ((p->low > none || p->high < none) && fabs(c->effect) >= rule->min_effect)
		c->verdict = by_direction(c->a, c->effect);
	return 0;
}

int compare_figures(const struct results_figure *a, const struct results_figure *b,
	const struct compare_rule *rule, struct comparison *c)
{
	bool exact = results_exact(a) && results_exact(b), paired = rule->paired && !exact;
	int is;

	*c = (struct comparison){
		.a = a, .b = b, .p = -1, .effect = effect_of(a->sum.median, b->sum.median)};
	if (!comparable(c, paired)) {
		c->verdict = COMPARE_CHANGED;
		return 0;
	}
	if (paired)
		return judge_paired(c, rule);
	if (!(c->effect < 0) && !(c->effect > 0)) {
		snprintf(c->reason, sizeof(c->reason), "medians are equal");
		return 0;
	}
	if (exact) {
		snprintf(c->reason, sizeof(c->reason), "exact figure: any difference counts");
		c->verdict = by_direction(a, c->effect);
		return 0;
	}
	if (fabs(c->effect) < rule->min_effect) {
		snprintf(c->reason, sizeof(c->reason), "difference is below %g %%",
			100 * rule->min_effect);
		return 0;
	}
	is = evident(c, rule->alpha);
	if (is < 0)
		return is;
	c->verdict = is ? by_direction(a, c->effect) : COMPARE_SAME;
	return 0;
}

const char *compare_verdict_name(enum compare_verdict v)
{
	static const char *const names[] = {"same", "better", "worse", "changed", "undecided"};

	return names[v];
}
