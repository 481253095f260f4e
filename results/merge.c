/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "results/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int same_run(
	const struct results *a, const struct results *b, const char *what, struct err *e)
{
	if (strcmp(a->commit, b->commit) || a->dirty != b->dirty)
		return err_set(e, -EINVAL, "%s: is of commit %.12s%s, not %.12s%s", what, b->commit,
			b->dirty ? " with changes" : "", a->commit,
			a->dirty ? " with changes" : "");
	if (a->profile != b->profile)
		return err_set(e, -EINVAL, "%s: has profile %s, not %s", what,
			results_profile_name(b->profile), results_profile_name(a->profile));
	if (strcmp(a->machine.cpu, b->machine.cpu) || a->machine.cores != b->machine.cores ||
		strcmp(a->machine.kernel, b->machine.kernel) ||
		strcmp(a->machine.disk, b->machine.disk) ||
		strcmp(a->machine.filesystem, b->machine.filesystem))
		return err_set(e, -EINVAL, "%s: was measured on another machine", what);
	if (!json_equal(a->versions, b->versions))
		return err_set(e, -EINVAL, "%s: was measured with other versions", what);
	return 0;
}

static int same_figure(const struct results_figure *a, const struct results_figure *b,
	const char *what, struct err *e)
{
	if (strcmp(a->unit, b->unit) || a->direction != b->direction)
		return err_set(e, -EINVAL, "%s: unit or direction of '%s' differ", what, a->name);
	if (!json_equal(a->params, b->params))
		return err_set(
			e, -EINVAL, "%s: '%s' was measured with other parameters", what, a->name);
	if (a->n + b->n > RESULTS_SAMPLES_MAX)
		return err_set(e, -EINVAL, "%s: '%s' would have more than %d samples", what,
			a->name, RESULTS_SAMPLES_MAX);
	return 0;
}

static int append(struct results_figure *to, const struct results_figure *from)
{
	double *all = realloc(to->samples, (to->n + from->n) * sizeof(*all));

	if (!all)
		return -ENOMEM;
	memcpy(all + to->n, from->samples, from->n * sizeof(*all));
	to->samples = all;
	to->n += from->n;
	return stat_summarize(to->samples, to->n, &to->sum);
}

int results_merge(struct results *to, const struct results *from, const char *what, struct err *e)
{
	int rc = same_run(to, from, what, e);

	for (size_t i = 0; !rc && i < from->nfigures; i++)
		if (!results_find(to, from->figures[i].name))
			rc = err_set(e, -EINVAL, "%s: only this one has '%s'", what,
				from->figures[i].name);
	for (size_t i = 0; !rc && i < to->nfigures; i++) {
		const struct results_figure *f = results_find(from, to->figures[i].name);

		rc = f ? same_figure(&to->figures[i], f, what, e)
		       : err_set(e, -EINVAL, "%s: lacks '%s'", what, to->figures[i].name);
	}
	/* Of curves the last round's stay. */
	for (size_t i = 0; !rc && i < from->ncurves; i++) {
		const struct results_curve *c = &from->curves[i];

		results_remove_curve(to, c->name);
		rc = results_add_curve(to, c->name, c->x_unit, c->y_unit, c->x, c->y, c->n,
			json_incref(c->params), e);
	}
	for (size_t i = 0; !rc && i < to->nfigures; i++)
		if (append(&to->figures[i], results_find(from, to->figures[i].name)))
			rc = err_set(e, -ENOMEM, "no memory");
	return rc;
}

void results_collapse(struct results *r)
{
	for (size_t i = 0; i < r->nfigures; i++) {
		struct results_figure *f = &r->figures[i];

		f->samples[0] = f->sum.median;
		f->n = 1;
		f->sum.low = f->sum.high = f->sum.median;
	}
}
