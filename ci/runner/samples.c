/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* samples.c - figures while they are being measured. */
#include "ci/runner/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sample {
	char name[RESULTS_NAME_MAX + 1], unit[RESULTS_UNIT_MAX + 1]; /* unit "": a known name */
	enum results_direction direction;
	double *values;
	size_t n;
	json_t *params;
};

static struct sample *find(const struct bench *b, const char *name)
{
	for (size_t i = 0; i < b->samples.n; i++)
		if (!strcmp(b->samples.list[i].name, name))
			return &b->samples.list[i];
	return NULL;
}

static void *grown(void *list, size_t n, size_t each)
{
	void *more = realloc(list, n * each);

	if (!more)
		abort();
	return more;
}

static struct sample *get(struct bench *b, const char *name)
{
	struct sample *s = find(b, name);

	if (s)
		return s;
	b->samples.list = grown(b->samples.list, b->samples.n + 1, sizeof(*s));
	s = &b->samples.list[b->samples.n++];
	*s = (struct sample){0};
	snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

static void put(struct sample *s, double value, json_t *params)
{
	s->values = grown(s->values, s->n + 1, sizeof(double));
	s->values[s->n++] = value;
	if (s->params)
		json_decref(params);
	else
		s->params = params;
}

void sample(struct bench *b, const char *name, double value, json_t *params)
{
	put(get(b, name), value, params);
}

void sample_as(struct bench *b, const char *name, const char *unit,
	enum results_direction direction, double value, json_t *params)
{
	struct sample *s = get(b, name);

	snprintf(s->unit, sizeof(s->unit), "%s", unit);
	s->direction = direction;
	put(s, value, params);
}

void sample_curve(struct bench *b, const char *name, const char *x_unit, const char *y_unit,
	const double *x, const double *y, size_t n, json_t *params)
{
	struct err e = {0};

	if (!b->samples.curves && !(b->samples.curves = results_new()))
		abort();
	results_remove_curve(b->samples.curves, name);
	if (results_add_curve(b->samples.curves, name, x_unit, y_unit, x, y, n, params, &e))
		say(b, "%s", e.msg);
}

static int store_curves(const struct results *from, struct results *r, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; from && i < from->ncurves && !rc; i++) {
		const struct results_curve *c = &from->curves[i];

		rc = results_add_curve(r, c->name, c->x_unit, c->y_unit, c->x, c->y, c->n,
			json_incref(c->params), e);
	}
	return rc;
}

double sample_median(const struct bench *b, const char *name)
{
	const struct sample *s = find(b, name);
	struct stat_summary sum;

	return s && !stat_summarize(s->values, s->n, &sum) ? sum.median : (double)NAN;
}

int samples_store(const struct bench *b, struct results *r, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < b->samples.n && !rc; i++) {
		struct sample *s = &b->samples.list[i];

		rc = s->unit[0] ? results_add(r, s->name, s->unit, s->direction, s->values, s->n,
					  json_incref(s->params), e)
				: results_add_known(
					  r, s->name, s->values, s->n, json_incref(s->params), e);
	}
	return rc ? rc : store_curves(b->samples.curves, r, e);
}

void samples_free(struct bench *b)
{
	for (size_t i = 0; i < b->samples.n; i++) {
		free(b->samples.list[i].values);
		json_decref(b->samples.list[i].params);
	}
	free(b->samples.list);
	results_free(b->samples.curves);
	b->samples = (struct samples){0};
}
