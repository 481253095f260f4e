/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "results/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct row {
	char name[RESULTS_NAME_MAX + 1], unit[RESULTS_UNIT_MAX + 1];
	enum results_direction direction;
	double *samples;
	size_t n;
	unsigned line; /* of the first sample */
};

struct rows {
	struct row *p;
	size_t n;
};

static int find_direction(const char *text, enum results_direction *d)
{
	for (int i = RESULTS_HIGHER; i <= RESULTS_NONE; i++)
		if (!strcmp(text, results_direction_name((enum results_direction)i))) {
			*d = (enum results_direction)i;
			return 0;
		}
	return -EINVAL;
}

static struct row *row_of(struct rows *rows, const char *name)
{
	struct row *p;

	for (size_t i = 0; i < rows->n; i++)
		if (!strcmp(rows->p[i].name, name))
			return &rows->p[i];
	p = realloc(rows->p, (rows->n + 1) * sizeof(*p));
	if (!p)
		return NULL;
	rows->p = p;
	p = &rows->p[rows->n++];
	*p = (struct row){.n = 0};
	snprintf(p->name, sizeof(p->name), "%s", name);
	return p;
}

static int add_sample(struct row *row, double v)
{
	double *p = realloc(row->samples, (row->n + 1) * sizeof(*p));

	if (!p)
		return -ENOMEM;
	row->samples = p;
	p[row->n++] = v;
	return 0;
}

static int take_line(struct rows *rows, char *text, const char *file, unsigned line, struct err *e)
{
	char *save, *word[5] = {NULL}, *end;
	enum results_direction d;
	struct row *row;
	double v;

	for (int i = 0; i < 5; i++)
		word[i] = strtok_r(i ? NULL : text, " \t\n", &save);
	if (!word[0] || word[0][0] == '#')
		return 0;
	if (!word[3] || word[4])
		return err_set(e, -EINVAL, "%s:%u: not NAME UNIT DIRECTION VALUE", file, line);
	if (find_direction(word[2], &d))
		return err_set(e, -EINVAL, "%s:%u: '%s' is not higher, lower or none", file, line,
			word[2]);
	v = strtod(word[3], &end);
	if (end == word[3] || *end)
		return err_set(e, -EINVAL, "%s:%u: '%s' is not a number", file, line, word[3]);
	if (strlen(word[0]) > RESULTS_NAME_MAX || strlen(word[1]) > RESULTS_UNIT_MAX)
		return err_set(e, -EINVAL, "%s:%u: name or unit is too long", file, line);
	row = row_of(rows, word[0]);
	if (!row)
		return err_set(e, -ENOMEM, "no memory");
	if (row->n && (strcmp(row->unit, word[1]) || row->direction != d))
		return err_set(e, -EINVAL,
			"%s:%u: unit or direction of '%s' differ from those in line %u", file, line,
			word[0], row->line);
	if (!row->n)
		row->line = line;
	row->direction = d;
	snprintf(row->unit, sizeof(row->unit), "%s", word[1]);
	return add_sample(row, v) ? err_set(e, -ENOMEM, "no memory") : 0;
}

static int add_rows(struct results *r, const struct rows *rows, const char *file, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < rows->n; i++) {
		const struct row *x = &rows->p[i];

		rc = results_add(r, x->name, x->unit, x->direction, x->samples, x->n, NULL, e);
		if (rc)
			err_wrap(e, rc, "%s:%u", file, x->line);
	}
	return rc;
}

int results_add_lines(struct results *r, FILE *in, const char *file, struct err *e)
{
	struct rows rows = {0};
	size_t room = 0;
	char *text = NULL;
	unsigned line = 0;
	int rc = 0;

	while (!rc && getline(&text, &room, in) > 0)
		rc = take_line(&rows, text, file, ++line, e);
	if (!rc && ferror(in))
		rc = err_set(e, -EIO, "%s: cannot read", file);
	if (!rc)
		rc = add_rows(r, &rows, file, e);
	for (size_t i = 0; i < rows.n; i++)
		free(rows.p[i].samples);
	free(rows.p);
	free(text);
	return rc;
}

int results_set_versions(struct results *r, const char *list, struct err *e)
{
	char *copy = strdup(list), *save, *item;
	int rc = copy ? 0 : err_set(e, -ENOMEM, "no memory");

	for (item = rc ? NULL : strtok_r(copy, ",", &save); item && !rc;
		item = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(item, '=');

		if (!eq || eq == item)
			rc = err_set(e, -EINVAL, "--versions: '%s' is not WHAT=VERSION", item);
		else {
			*eq = 0;
			rc = results_set_version(r, item, eq + 1, e);
		}
	}
	free(copy);
	return rc;
}
