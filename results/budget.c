/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "results/budget.h"
#include "results/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int take_line(
	const char *file, const char *name, json_t *v, struct budget_line *l, struct err *e)
{
	json_t *most = json_object_get(v, "most"),
	       *tolerance = json_object_get(v, "tolerance_percent");

	if (!results_name_ok(name))
		return err_set(e, -EUCLEAN, "%s: '%s' is no name of a figure", file, name);
	if (!json_is_number(most) || !json_is_number(tolerance) || json_object_size(v) != 2)
		return err_set(e, -EUCLEAN,
			"%s: %s: is not {\"most\": NUMBER, \"tolerance_percent\": NUMBER}", file,
			name);
	snprintf(l->figure, sizeof(l->figure), "%s", name);
	l->most = json_number_value(most);
	l->tolerance_percent = json_number_value(tolerance);
	if (l->most < 0 || l->tolerance_percent < 0 || l->tolerance_percent > 100)
		return err_set(e, -EUCLEAN,
			"%s: %s: most must be 0 or more, tolerance_percent 0 to 100", file, name);
	return 0;
}

int budget_read(const char *file, struct budget *b, struct err *e)
{
	json_error_t why;
	json_t *root, *v;
	const char *name;
	int rc = 0;

	*b = (struct budget){0};
	if (access(file, R_OK))
		return err_set(e, -errno, "%s: %s", file, strerror(errno));
	root = json_load_file(file, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return err_set(e, -EUCLEAN, "%s:%d: %s", file, why.line, why.text);
	if (!json_object_size(root))
		rc = err_set(e, -EUCLEAN, "%s: is no object of figures", file);
	b->lines = calloc(json_object_size(root) + 1, sizeof(*b->lines));
	if (!rc && !b->lines)
		rc = err_set(e, -ENOMEM, "no memory");
	json_object_foreach(root, name, v)
	{
		if (rc)
			break;
		rc = take_line(file, name, v, &b->lines[b->n], e);
		b->n += !rc;
	}
	json_decref(root);
	return rc;
}

void budget_free(struct budget *b)
{
	free(b->lines);
	*b = (struct budget){0};
}

double budget_allowed(const struct budget_line *l)
{
	return l->most * (1 + l->tolerance_percent / 100);
}

enum budget_verdict budget_judge(const struct budget_line *l, const struct results *r)
{
	const struct results_figure *f = results_find(r, l->figure);

	if (!f)
		return BUDGET_NOT_MEASURED;
	if (f->sum.median > budget_allowed(l))
		return BUDGET_OVER;
	return f->sum.median < l->most * (1 - (2 + l->tolerance_percent) / 100) ? BUDGET_SLACK
										: BUDGET_KEPT;
}
