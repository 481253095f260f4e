/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "results/export.h"

#include <ctype.h>
#include <stdio.h>

static json_t *github_entry(const struct results *r, const struct results_figure *f)
{
	char range[100], extra[96];

	snprintf(range, sizeof(range), "%s .. %s", results_number(f->sum.low),
		results_number(f->sum.high));
	snprintf(extra, sizeof(extra), "median of %zu\ncommit %.12s%s\nprofile %s", f->n, r->commit,
		r->dirty ? " with changes" : "", results_profile_name(r->profile));
	return json_pack("{s:s, s:s, s:f, s:s, s:s}", "name", f->name, "unit", f->unit, "value",
		f->sum.median, "range", range, "extra", extra);
}

json_t *export_github(const struct results *r, enum results_direction better)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < r->nfigures; i++) {
		if (r->figures[i].direction != better)
			continue;
		if (json_array_append_new(list, github_entry(r, &r->figures[i]))) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

/* Letters, digits and single dashes. */
static void slug(const char *unit, char *out, size_t size)
{
	size_t n = 0;

	for (; *unit && n + 1 < size; unit++) {
		if (isalnum((unsigned char)*unit))
			out[n++] = (char)tolower((unsigned char)*unit);
		else if (n && out[n - 1] != '-')
			out[n++] = '-';
	}
	while (n && out[n - 1] == '-')
		n--;
	out[n] = 0;
}

json_t *export_bencher(const struct results *r)
{
	json_t *all = json_object();

	for (size_t i = 0; all && i < r->nfigures; i++) {
		const struct results_figure *f = &r->figures[i];
		char measure[RESULTS_UNIT_MAX + 1];

		if (f->direction == RESULTS_NONE)
			continue;
		slug(f->unit, measure, sizeof(measure));
		if (json_object_set_new(all, f->name,
			    json_pack("{s:{s:f, s:f, s:f}}", *measure ? measure : "value", "value",
				    f->sum.median, "lower_value", f->sum.low, "upper_value",
				    f->sum.high))) {
			json_decref(all);
			all = NULL;
		}
	}
	return all;
}
