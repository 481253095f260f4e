/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* judge_cmd.c - `lsvd results merge|history|gate|export`. */
#include "cli/cli.h"
#include "results/budget.h"
#include "results/export.h"
#include "results/find.h"
#include "results/history.h"
#include "results/merge.h"
#include "results/opts.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- merge ---- */

static int merge_all(const struct opts *o, struct results **all, struct err *e)
{
	int rc = results_read(o->args[0], all, e);

	if (!rc && o->medians)
		results_collapse(*all);
	for (size_t i = 1; !rc && i < o->nargs; i++) {
		struct results *r = NULL;

		rc = results_read(o->args[i], &r, e);
		if (!rc && o->medians)
			results_collapse(r);
		if (!rc)
			rc = results_merge(*all, r, o->args[i], e);
		results_free(r);
	}
	return rc;
}

int run_merge(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"output", OPT_OUT, "DIR", 0, "where the result file goes", 0},
		{"medians", OPT_MEDIANS, NULL, 0,
			"each file is one round: of its samples the median is taken", 0},
		{0}};
	struct opts o = parse_opts(argc, argv, options, "-o DIR FILE...",
		"Make one result file of several of one commit: the samples of each figure, file "
		"after file.  Prints the file's name.\v"
		"Refuses files of other commits, machines, versions or profiles, and figures that "
		"not all of them have with the same parameters.  The time is that of the first "
		"FILE.\n\n"
		"example: lsvd results merge -o merged round-*/*.json",
		1, SIZE_MAX);
	struct results *all = NULL;
	struct err e = {0};
	char path[4096];
	int rc;

	if (!o.out)
		return cli_fail("merge: -o DIR is missing: where the result file goes");
	rc = merge_all(&o, &all, &e);
	if (!rc)
		rc = results_write(all, o.out, path, sizeof(path), &e);
	results_free(all);
	if (rc)
		return cli_fail("%s", err_text(&e, rc));
	puts(path);
	return CLI_OK;
}

/* ---- history ---- */

static void print_series(const struct history *h, const struct series *s)
{
	size_t c = 0;

	printf("%s (%s%s%s): %zu runs, %zu changes\n", s->figure->name, s->figure->unit,
		s->figure->direction == RESULTS_NONE ? "" : ", better ",
		s->figure->direction == RESULTS_NONE ? ""
						     : results_direction_name(s->figure->direction),
		s->n, s->nchanges);
	for (size_t i = 0; i < s->n; i++) {
		const struct results *r = h->runs[s->run[i]];
		time_t t = (time_t)r->time_s;
		char when[40];
		struct tm tm;

		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", gmtime_r(&t, &tm));
		printf("  %s  %-8s  %s", when, run_label(r), results_number(s->median[i]));
		if (c < s->nchanges && s->changes[c].at == i) {
			const struct change *x = &s->changes[c++];

			printf("   <- %s: level %.6g -> %.6g, %+.1f %%",
				change_verdict(s->figure, x), x->from, x->to, 100 * x->effect);
		}
		putchar('\n');
	}
}

static json_t *change_json(const struct history *h, const struct series *s, const struct change *c)
{
	const struct results *r = h->runs[s->run[c->at]];
	json_t *j = json_pack("{s:I, s:s, s:b, s:f, s:f, s:s, s:f}", "at", (json_int_t)c->at,
		"commit", r->commit, "dirty", r->dirty, "from", c->from, "to", c->to, "verdict",
		change_verdict(s->figure, c), "p", c->p);

	if (isfinite(c->effect))
		json_object_set_new(j, "effect", json_real(c->effect));
	return j;
}

static json_t *series_json(const struct history *h, const struct series *s)
{
	json_t *runs = json_array(), *changes = json_array();

	for (size_t i = 0; i < s->n; i++) {
		const struct results *r = h->runs[s->run[i]];

		json_array_append_new(runs,
			json_pack("{s:s, s:b, s:I, s:f}", "commit", r->commit, "dirty", r->dirty,
				"time_s", (json_int_t)r->time_s, "median", s->median[i]));
	}
	for (size_t i = 0; i < s->nchanges; i++)
		json_array_append_new(changes, change_json(h, s, &s->changes[i]));
	return json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", s->figure->name, "unit",
		s->figure->unit, "direction", results_direction_name(s->figure->direction), "runs",
		runs, "changes", changes);
}

static int put_series(const struct history *h, const struct opts *o, const char *name, json_t *list,
	struct err *e)
{
	struct change_rule rule = CHANGE_RULE_DEFAULT;
	struct series s;
	int rc;

	rule.min_effect = o->rule.min_effect;
	/* Enough of them to tell so rare a chance at all. */
	rule.alpha = o->rule.alpha;
	while (rule.alpha * (rule.permutations + 1) < 2 && rule.permutations < 100000)
		rule.permutations = 2 * rule.permutations + 1;
	rc = history_series(h, name, &rule, &s, e);
	if (!rc && list)
		json_array_append_new(list, series_json(h, &s));
	else if (!rc && (o->all || s.nchanges || o->figure))
		print_series(h, &s);
	series_free(&s);
	return rc;
}

static int order(const struct opts *o, struct history *h, struct err *e)
{
	bool standard = !strcmp(o->order, "-");
	FILE *in = standard ? stdin : fopen(o->order, "re");
	int rc;

	if (!in)
		return err_set(e, -errno, "%s: %s", o->order, strerror(errno));
	rc = history_order(h, in, standard ? "standard input" : o->order, e);
	if (!standard)
		fclose(in);
	return rc;
}

/* Every figure of the last run whose name matches; the number of them, or -errno. */
static long put_all(const struct history *h, const struct opts *o, json_t *list, struct err *e)
{
	const struct results *last = h->runs[h->n - 1];
	long count = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < last->nfigures; i++) {
		const char *name = last->figures[i].name;

		if (o->figure && fnmatch(o->figure, name, 0))
			continue;
		rc = put_series(h, o, name, list, e);
		count++;
	}
	if (!rc && !count)
		rc = err_set(e, -ENOENT, "no figure of the last run matches '%s'",
			o->figure ? o->figure : "*");
	return rc ? rc : count;
}

int run_history(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION, JSON_OPTION,
		{"figure", OPT_FIGURE, "GLOB", 0, "only the figures whose names match", 0},
		{"order", OPT_ORDER, "FILE", 0,
			"a list of commits, the oldest first: their order, not that of time (- is "
			"standard input)",
			0},
		{"all", OPT_ALL, NULL, 0, "print the figures without a change, too", 0},
		{"min-effect", OPT_MIN_EFFECT, "PERCENT", 0, "smaller changes are none (2)", 0},
		{"alpha", OPT_ALPHA, "P", 0, "of the permutation test (0.005)", 0}, {0}};
	struct opts o = parse_opts(argc, argv, options, "",
		"Print each figure over the runs of DIR that compare with the latest, and where it "
		"changed its level.\v"
		"Change points are found by E-divisive (Matteson and James 2014) with a "
		"permutation "
		"test; an exact figure changes wherever it differs.  Without --figure and --all "
		"only figures that changed are printed.\n\n"
		"example: git rev-list --reverse HEAD | lsvd results history --order - --figure "
		"'*.ratio_raw'",
		0, 0);
	static const struct change_rule rule = CHANGE_RULE_DEFAULT;
	struct results *last = NULL;
	struct history h = {0};
	json_t *list = o.json ? json_array() : NULL;
	struct err e = {0};
	char path[4096];
	long rc;

	if (!o.alpha_given)
		o.rule.alpha = rule.alpha;
	if (open_one("latest", o.dir, &last, path, sizeof(path)))
		return CLI_FAILED;
	rc = history_load(o.dir, last, &h, &e);
	if (!rc && o.order)
		rc = order(&o, &h, &e);
	if (!rc)
		rc = put_all(&h, &o, list, &e);
	if (rc > 0 && o.json)
		cli_print_json(json_pack("{s:I, s:I, s:O}", "runs", (json_int_t)h.n, "left_out",
			(json_int_t)h.others, "figures", list));
	else if (rc > 0)
		printf("%ld figures over %zu runs; %zu runs left out (other machines or "
		       "profiles%s)\n",
			rc, h.n, h.others, o.order ? ", or commits not named" : "");
	json_decref(list);
	history_free(&h);
	results_free(last);
	return rc < 0 ? cli_fail("%s", err_text(&e, (int)rc)) : CLI_OK;
}

/* ---- gate ---- */

/* Prints what is over; true when the line holds. */
static bool gate_line(const struct budget_line *l, const struct results *r, const char *file)
{
	const struct results_figure *f = results_find(r, l->figure);

	switch (budget_judge(l, r)) {
	case BUDGET_NOT_MEASURED:
		cli_fail("%s: was not measured in %s", l->figure, file);
		return false;
	case BUDGET_OVER:
		cli_fail("%s: measured %s, allowed %s (most %s, tolerance %s %%)", l->figure,
			results_number(f->sum.median), results_number(budget_allowed(l)),
			results_number(l->most), results_number(l->tolerance_percent));
		return false;
	case BUDGET_SLACK:
		printf("%-48s %12s of %s: lower the budget, else it hides a loss\n", l->figure,
			results_number(f->sum.median), results_number(l->most));
		return true;
	case BUDGET_KEPT:
		printf("%-48s %12s of %s\n", l->figure, results_number(f->sum.median),
			results_number(l->most));
	}
	return true;
}

int run_gate(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION,
		{"figure", OPT_FIGURE, "GLOB", 0, "only the lines of the budget that match", 0},
		{0}};
	struct opts o = parse_opts(argc, argv, options, "FILE BUDGET",
		"Fail when a figure of FILE is over its budget, or was not measured.\v"
		"FILE is a result file, the first digits of a commit, `latest` or `previous`.  "
		"BUDGET is JSON: {FIGURE: {\"most\": NUMBER, \"tolerance_percent\": NUMBER}}.  "
		"Exit "
		"code: 0 all keep to it, 1 one does not.\n\n"
		"example: lsvd results gate latest ci/counters.json",
		2, 2);
	struct results *r = NULL;
	struct budget b = {0};
	struct err e = {0};
	char path[4096];
	size_t bad = 0, judged = 0;
	int rc;

	if (open_one(o.args[0], o.dir, &r, path, sizeof(path)))
		return CLI_FAILED;
	rc = budget_read(o.args[1], &b, &e);
	for (size_t i = 0; !rc && i < b.n; i++) {
		if (o.figure && fnmatch(o.figure, b.lines[i].figure, 0))
			continue;
		judged++;
		bad += !gate_line(&b.lines[i], r, path);
	}
	if (!rc && !judged)
		rc = err_set(&e, -ENOENT, "%s: no line matches '%s'", o.args[1], o.figure);
	if (rc)
		cli_fail("%s", err_text(&e, rc));
	else
		printf("%zu figures, %zu over their budget or not measured\n", judged, bad);
	budget_free(&b);
	results_free(r);
	return rc || bad ? CLI_FAILED : CLI_OK;
}

/* ---- export ---- */

static json_t *exported(const struct opts *o, const struct results *r)
{
	if (!strcmp(o->format, "bencher"))
		return export_bencher(r);
	return export_github(r, !strcmp(o->better, "higher") ? RESULTS_HIGHER : RESULTS_LOWER);
}

static bool export_usage_ok(const struct opts *o)
{
	bool github = o->format && !strcmp(o->format, "github-action-benchmark");

	if (!github && (!o->format || strcmp(o->format, "bencher")))
		cli_fail("export: --format is github-action-benchmark or bencher");
	else if (github &&
		 (!o->better || (strcmp(o->better, "higher") && strcmp(o->better, "lower"))))
		cli_fail(
			"export: github-action-benchmark has one direction a file: --better higher "
			"(customBiggerIsBetter) or --better lower (customSmallerIsBetter)");
	else if (!github && o->better)
		cli_fail("export: --better is for github-action-benchmark; bencher has thresholds");
	else
		return true;
	return false;
}

int run_export(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION,
		{"format", OPT_FORMAT, "NAME", 0, "github-action-benchmark or bencher", 0},
		{"better", OPT_BETTER, "WAY", 0,
			"github-action-benchmark: the figures of which higher, or lower, is better",
			0},
		{0}};
	struct opts o = parse_opts(argc, argv, options, "--format NAME [FILE]",
		"Print a run as other services read it.\v"
		"FILE is a result file, the first digits of a commit, `latest` (the default) or "
		"`previous`.  Figures without a direction (the raw disk) are left out.\n\n"
		"example: lsvd results export --format github-action-benchmark --better higher "
		"latest > bench.json",
		0, 1);
	struct results *r = NULL;
	char path[4096];
	json_t *j;

	if (!export_usage_ok(&o))
		return CLI_USAGE;
	if (open_one(o.nargs ? o.args[0] : "latest", o.dir, &r, path, sizeof(path)))
		return CLI_FAILED;
	j = exported(&o, r);
	results_free(r);
	if (!j)
		return cli_fail("no memory");
	cli_print_json(j);
	return CLI_OK;
}
