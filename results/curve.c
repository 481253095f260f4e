/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* curve.c - what was measured over an axis: the curves of a result file. */
#include "results/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is wrong with it, or NULL. */
const char *results_curve_fault(const double *x, const double *y, size_t n)
{
	if (!n || n > RESULTS_SAMPLES_MAX)
		return "has no points, or more than 10000";
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(x[i]) || !isfinite(y[i]))
			return "has a point that is not finite";
		if (i && x[i] < x[i - 1])
			return "goes back along x";
	}
	return NULL;
}

static int check_new(const struct results *r, const char *name, const char *x_unit,
	const char *y_unit, const json_t *params, const char *fault, struct err *e)
{
	if (!results_name_ok(name))
		return err_set(e, -EINVAL,
			"curve '%s': the name is not of the form [a-z0-9_]+(.[a-z0-9_]+)*", name);
	if (results_find_curve(r, name))
		return err_set(e, -EINVAL, "curve '%s' was added already", name);
	if (!results_unit_ok(x_unit) || !results_unit_ok(y_unit))
		return err_set(e, -EINVAL, "curve '%s': a unit is empty, too long or has blanks",
			name);
	if (fault)
		return err_set(e, -EINVAL, "curve '%s' %s", name, fault);
	return json_is_object(params) ? 0
				      : err_set(e, -EINVAL,
						"curve '%s': params must be a JSON object", name);
}

static int append(struct results *r, const char *name, const char *x_unit, const char *y_unit,
	const double *x, const double *y, size_t n, json_t *params)
{
	struct results_curve *list = realloc(r->curves, (r->ncurves + 1) * sizeof(*list)), *c;

	if (!list)
		return -ENOMEM;
	r->curves = list;
	c = &list[r->ncurves];
	*c = (struct results_curve){.x = malloc(n * sizeof(*x)), .y = malloc(n * sizeof(*y)), .n = n};
	if (!c->x || !c->y) {
		free(c->x);
		free(c->y);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		c->x[i] = results_round(x[i]);
		c->y[i] = results_round(y[i]);
	}
	snprintf(c->name, sizeof(c->name), "%s", name);
	snprintf(c->x_unit, sizeof(c->x_unit), "%s", x_unit);
	snprintf(c->y_unit, sizeof(c->y_unit), "%s", y_unit);
	c->params = json_incref(params);
	r->ncurves++;
	return 0;
}

int results_add_curve(struct results *r, const char *name, const char *x_unit, const char *y_unit,
	const double *x, const double *y, size_t n, json_t *params, struct err *e)
{
	int rc;

	if (!params)
		params = json_object();
	rc = check_new(r, name, x_unit, y_unit, params, results_curve_fault(x, y, n), e);
	if (!rc && append(r, name, x_unit, y_unit, x, y, n, params))
		rc = err_set(e, -ENOMEM, "curve '%s': no memory", name);
	json_decref(params);
	return rc;
}

const struct results_curve *results_find_curve(const struct results *r, const char *name)
{
	for (size_t i = 0; i < r->ncurves; i++)
		if (!strcmp(r->curves[i].name, name))
			return &r->curves[i];
	return NULL;
}

static void free_curve(struct results_curve *c)
{
	free(c->x);
	free(c->y);
	json_decref(c->params);
}

void results_remove_curve(struct results *r, const char *name)
{
	for (size_t i = 0; i < r->ncurves; i++) {
		if (strcmp(r->curves[i].name, name))
			continue;
		free_curve(&r->curves[i]);
		r->curves[i] = r->curves[--r->ncurves];
		return;
	}
}

void results_free_curves(struct results *r)
{
	for (size_t i = 0; i < r->ncurves; i++)
		free_curve(&r->curves[i]);
	free(r->curves);
	r->curves = NULL;
	r->ncurves = 0;
}
