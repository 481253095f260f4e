/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cmd.c - `lsvd results get|list|check|compare|report|record`; judge_cmd.c has the others.
 *
 * Each subcommand has its option table; one parser serves them all.  Figures are printed by
 * results_number(), so that what `get` prints can go straight into a shell comparison.
 */
#include "cli/cli.h"
#include "lsvd.h"
#include "results/compare.h"
#include "results/find.h"
#include "results/json.h"
#include "results/opts.h"
#include "results/record.h"
#include "results/report.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double parse_number(struct argp_state *s, const char *what, const char *arg, double max)
{
	char *end;
	double v = strtod(arg, &end);

	if (end == arg || *end || !(v >= 0) || v > max)
		argp_error(s, "%s: '%s' is not a number from 0 to %g", what, arg, max);
	return v;
}

/* Where the value of an option goes that is a word; NULL for the others. */
static const char **word_of(struct opts *o, int key)
{
	switch (key) {
	case OPT_DIR:
		return &o->dir;
	case OPT_OUT:
		return &o->out;
	case OPT_FIGURE:
		return &o->figure;
	case OPT_ORDER:
		return &o->order;
	case OPT_FORMAT:
		return &o->format;
	case OPT_BETTER:
		return &o->better;
	case OPT_COMMIT:
		return &o->commit;
	case OPT_PROFILE:
		return &o->profile;
	case OPT_DISK:
		return &o->disk;
	case OPT_VERSIONS:
		return &o->versions;
	}
	return NULL;
}

static bool *flag_of(struct opts *o, int key)
{
	switch (key) {
	case OPT_JSON:
		return &o->json;
	case OPT_ALL:
		return &o->all;
	case OPT_FAIL_ON_WORSE:
		return &o->fail_on_worse;
	case OPT_DIRTY:
		return &o->dirty;
	case OPT_MEDIANS:
		return &o->medians;
	case OPT_PAIRED:
		return &o->rule.paired;
	}
	return NULL;
}

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct opts *o = s->input;
	const char **word = word_of(o, key);
	bool *flag = flag_of(o, key);

	if (key == OPT_PROFILE && strcmp(arg, "quick") && strcmp(arg, "full"))
		argp_error(s, "--profile: '%s' is not quick or full", arg);
	if (word)
		*word = arg;
	if (flag)
		*flag = true;
	if (word || flag)
		return 0;
	switch (key) {
	case OPT_MIN_EFFECT:
		o->rule.min_effect = parse_number(s, "--min-effect", arg, 100) / 100;
		return 0;
	case OPT_ALPHA:
		o->rule.alpha = parse_number(s, "--alpha", arg, 1);
		o->alpha_given = true;
		return 0;
	case ARGP_KEY_ARGS:
		o->args = s->argv + s->next;
		o->nargs = (size_t)(s->argc - s->next);
		return 0;
	case ARGP_KEY_END:
		if (o->nargs < o->min_args || o->nargs > o->max_args)
			argp_usage(s);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

struct opts parse_opts(int argc, char **argv, const struct argp_option *options,
	const char *args_doc, const char *doc, size_t min_args, size_t max_args)
{
	struct argp argp = {.options = options, .parser = parse, .args_doc = args_doc, .doc = doc};
	struct opts o = {.dir = "results/data",
		.commit = "0000000",
		.profile = "quick",
		.disk = ".",
		.versions = "",
		.rule = COMPARE_RULE_DEFAULT,
		.min_args = min_args,
		.max_args = max_args};

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	return o;
}

int open_one(const char *what, const char *dir, struct results **out, char *path, size_t size)
{
	struct err e = {0};
	int rc = results_resolve(what, dir, path, size, &e);

	if (!rc)
		rc = results_read(path, out, &e);
	return rc ? cli_fail("%s", err_text(&e, rc)) : CLI_OK;
}

static int run_get(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION, JSON_OPTION, {0}};
	struct opts o = parse_opts(argc, argv, options, "NAME [FILE]",
		"Print the median of one figure as a bare number, or exit 1 when the file has no "
		"such figure.\v"
		"FILE is a result file, the first digits of a commit, `latest` (the default) or "
		"`previous`.\n\n"
		"example: lsvd results get fio.randwrite.4k.qd32.ratio_raw",
		1, 2);
	const struct results_figure *f;
	struct results *r;
	char path[4096];

	if (open_one(o.nargs > 1 ? o.args[1] : "latest", o.dir, &r, path, sizeof(path)))
		return CLI_FAILED;
	f = results_find(r, o.args[0]);
	if (!f)
		cli_fail("%s: no figure '%s'; `lsvd results list %s` prints the names", path,
			o.args[0], path);
	else if (o.json)
		cli_print_json(results_encode_figure(f));
	else
		puts(results_number(f->sum.median));
	results_free(r);
	return f ? CLI_OK : CLI_FAILED;
}

static int run_list(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION, JSON_OPTION, {0}};
	struct opts o = parse_opts(argc, argv, options, "[FILE]",
		"Print the names of all figures of a result file.\v"
		"FILE is a result file, the first digits of a commit, `latest` (the default) or "
		"`previous`.\n\n"
		"example: lsvd results list d0a712d | grep ^boot",
		0, 1);
	struct results *r;
	char path[4096];

	if (open_one(o.nargs ? o.args[0] : "latest", o.dir, &r, path, sizeof(path)))
		return CLI_FAILED;
	if (o.json) {
		cli_print_json(results_encode(r));
	} else {
		for (size_t i = 0; i < r->nfigures; i++)
			puts(r->figures[i].name);
	}
	results_free(r);
	return CLI_OK;
}

static int run_check(int argc, char **argv)
{
	static const struct argp_option options[] = {{0}};
	struct opts o = parse_opts(argc, argv, options, "FILE...",
		"Check result files against results/SCHEMA.md; say for each what is wrong with "
		"it.\v"
		"example: lsvd results check results/data/*.json",
		1, SIZE_MAX);
	int worst = CLI_OK;

	for (size_t i = 0; i < o.nargs; i++) {
		struct err e = {0};
		struct results *r = NULL;
		int rc = results_read(o.args[i], &r, &e);

		if (rc)
			worst = cli_fail("%s", err_text(&e, rc));
		else
			printf("%s: ok, %zu figures\n", o.args[i], r->nfigures);
		results_free(r);
	}
	return worst;
}

/* ---- compare ---- */

struct tally {
	size_t count[COMPARE_VERDICTS], only_a, only_b;
	size_t noisy; /* that were judged by their rounds */
};

static void print_row(const struct comparison *c)
{
	printf("%-8s %-52s %12.6g -> %-12.6g %+8.1f %%  %s\n", compare_verdict_name(c->verdict),
		c->a->name, c->a->sum.median, c->b->sum.median, 100 * c->effect, c->reason);
}

static json_t *row_json(const struct comparison *c)
{
	json_t *j = json_pack("{s:s, s:s, s:s, s:f, s:f, s:s}", "name", c->a->name, "unit",
		c->a->unit, "verdict", compare_verdict_name(c->verdict), "a", c->a->sum.median, "b",
		c->b->sum.median, "reason", c->reason);

	if (isfinite(c->effect))
		json_object_set_new(j, "effect", json_real(c->effect));
	if (c->p >= 0)
		json_object_set_new(j, "p", json_real(c->p));
	if (c->paired.confidence > 0)
		json_object_set_new(j, "paired",
			json_pack("{s:s, s:f, s:f, s:f, s:f}", "of",
				c->paired.differences ? "difference" : "ratio", "estimate",
				c->paired.estimate, "low", c->paired.low, "high", c->paired.high,
				"confidence", c->paired.confidence));
	return j;
}

/* Compares what both have; appends to `rows` when asked for JSON, else prints. */
static int compare_all(const struct results *a, const struct results *b, const struct opts *o,
	json_t *rows, struct tally *t)
{
	for (size_t i = 0; i < a->nfigures; i++) {
		const struct results_figure *f = results_find(b, a->figures[i].name);
		struct comparison c;

		if (!f) {
			t->only_a++;
			continue;
		}
		if (compare_figures(&a->figures[i], f, &o->rule, &c))
			return cli_fail("no memory");
		t->count[c.verdict]++;
		t->noisy += c.paired.confidence > 0;
		if (rows)
			json_array_append_new(rows, row_json(&c));
		else if (o->all || (c.verdict != COMPARE_SAME && c.verdict != COMPARE_UNDECIDED))
			print_row(&c);
	}
	for (size_t i = 0; i < b->nfigures; i++)
		t->only_b += !results_find(a, b->figures[i].name);
	return CLI_OK;
}

static json_t *side_json(const char *path, const struct results *r)
{
	return json_pack("{s:s, s:s, s:b}", "file", path, "commit", r->commit, "dirty", r->dirty);
}

static void print_tally(const struct tally *t, const struct opts *o)
{
	printf("%zu better, %zu worse, %zu changed, %zu the same%s", t->count[COMPARE_BETTER],
		t->count[COMPARE_WORSE], t->count[COMPARE_CHANGED], t->count[COMPARE_SAME],
		t->count[COMPARE_SAME] && !o->all ? " (--all prints them)" : "");
	printf("; only in A %zu, only in B %zu\n", t->only_a, t->only_b);
	if (t->count[COMPARE_UNDECIDED])
		printf("%zu undecided: too few rounds (--alpha %g needs %zu)\n",
			t->count[COMPARE_UNDECIDED], o->rule.alpha,
			paired_least_rounds(o->rule.alpha));
	if (o->rule.paired && o->rule.alpha * (double)t->noisy >= 0.5)
		printf("of %zu figures with noise, about %.0f would differ by accident alone\n",
			t->noisy, o->rule.alpha * (double)t->noisy);
}

static json_t *tally_json(const struct tally *t)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "better",
		(json_int_t)t->count[COMPARE_BETTER], "worse", (json_int_t)t->count[COMPARE_WORSE],
		"changed", (json_int_t)t->count[COMPARE_CHANGED], "same",
		(json_int_t)t->count[COMPARE_SAME], "only_a", (json_int_t)t->only_a, "only_b",
		(json_int_t)t->only_b, "undecided", (json_int_t)t->count[COMPARE_UNDECIDED]);
}

static void warn_unlike(const struct results *a, const struct results *b)
{
	if (strcmp(a->machine.cpu, b->machine.cpu) || a->machine.cores != b->machine.cores ||
		strcmp(a->machine.disk, b->machine.disk))
		fprintf(stderr, "lsvd: warning: A and B were measured on different machines\n");
	if (a->profile != b->profile)
		fprintf(stderr, "lsvd: warning: A is profile %s, B is %s\n",
			results_profile_name(a->profile), results_profile_name(b->profile));
}

static int run_compare(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION, JSON_OPTION,
		{"all", OPT_ALL, NULL, 0, "print the figures that are the same, too", 0},
		{"fail-on-worse", OPT_FAIL_ON_WORSE, NULL, 0, "exit 1 when a figure is worse", 0},
		{"min-effect", OPT_MIN_EFFECT, "PERCENT", 0, "smaller differences are the same (2)",
			0},
		{"alpha", OPT_ALPHA, "P", 0, "a test above this is an accident (0.01)", 0},
		{"paired", OPT_PAIRED, NULL, 0,
			"sample i of A and of B were measured in turns: judge their ratios", 0},
		{0}};
	struct opts o = parse_opts(argc, argv, options, "A B",
		"Say for each figure whether run B is better, worse or the same as run A, and "
		"why.\v"
		"A and B are result files, the first digits of commits, `latest` or `previous`.  A "
		"difference "
		"counts when it is large enough (--min-effect; any difference of an exact figure) "
		"and no "
		"accident: with 5 samples or more on both sides by a Mann-Whitney U test, with "
		"fewer when the "
		"intervals do not overlap.  With --paired: when the interval of the ratios of the "
		"rounds (Wilcoxon signed rank, of confidence 1 - alpha) excludes 1.\n\n"
		"example: lsvd results compare previous latest --fail-on-worse",
		2, 2);
	struct results *a = NULL, *b = NULL;
	char path_a[4096], path_b[4096];
	json_t *rows = o.json ? json_array() : NULL;
	struct tally t = {0};
	int rc = open_one(o.args[0], o.dir, &a, path_a, sizeof(path_a));

	if (!rc)
		rc = open_one(o.args[1], o.dir, &b, path_b, sizeof(path_b));
	if (!rc) {
		warn_unlike(a, b);
		rc = compare_all(a, b, &o, rows, &t);
	}
	if (!rc && o.json)
		cli_print_json(json_pack("{s:o, s:o, s:o, s:O}", "a", side_json(path_a, a), "b",
			side_json(path_b, b), "summary", tally_json(&t), "figures", rows));
	else if (!rc)
		print_tally(&t, &o);
	json_decref(rows);
	results_free(a);
	results_free(b);
	return rc || (o.fail_on_worse && t.count[COMPARE_WORSE]) ? CLI_FAILED : CLI_OK;
}

static int run_report(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION,
		{"output", OPT_OUT, "OUT", 0, "directory of the page (results/page)", 0}, {0}};
	struct opts o = parse_opts(argc, argv, options, "[FILE]",
		"Make the page of a run: OUT/index.html with its plots as SVG, PNG, PDF and gnuplot "
		"scripts.\v"
		"FILE is a result file, the first digits of a commit, `latest` (the default) or "
		"`previous`; the history comes from DIR.  Needs gnuplot (package gnuplot-nox).\n\n"
		"example: lsvd results report -o /tmp/page",
		0, 1);
	const char *out = o.out ? o.out : "results/page";
	struct err e = {0};
	char path[4096];
	int rc = results_resolve(o.nargs ? o.args[0] : "latest", o.dir, path, sizeof(path), &e);

	if (!rc)
		rc = results_report(path, o.dir, out, &e);
	if (rc)
		return cli_fail("%s", err_text(&e, rc));
	printf("%s/index.html\n", out);
	return CLI_OK;
}

static int record(const struct opts *o, struct results *r, char *path, size_t size, struct err *e)
{
	int rc;

	snprintf(r->commit, sizeof(r->commit), "%s", o->commit);
	r->dirty = o->dirty;
	r->profile = strcmp(o->profile, "full") ? RESULTS_QUICK : RESULTS_FULL;
	results_probe_machine(r, o->disk);
	rc = results_set_version(r, "lsvd", lsvd_version(), e);
	if (!rc)
		rc = results_set_versions(r, o->versions, e);
	if (!rc)
		rc = results_add_lines(r, stdin, "standard input", e);
	return rc ? rc : results_write(r, o->dir, path, size, e);
}

static int run_record(int argc, char **argv)
{
	static const struct argp_option options[] = {DIR_OPTION,
		{"commit", OPT_COMMIT, "HASH", 0, "what was measured", 0},
		{"dirty", OPT_DIRTY, NULL, 0, "with changes that the commit does not hold", 0},
		{"profile", OPT_PROFILE, "NAME", 0, "quick (default) or full", 0},
		{"disk", OPT_DISK, "PATH", 0, "a file or directory on the disk under test (.)", 0},
		{"versions", OPT_VERSIONS, "WHAT=VERSION,...", 0, "of other programs used", 0},
		{0}};
	struct opts o = parse_opts(argc, argv, options, "",
		"Write a result file of the figures on standard input, one a line: NAME UNIT "
		"DIRECTION VALUE; a name that comes again is another sample.  Prints the file's "
		"name.\v"
		"DIRECTION is higher, lower (which is better) or none.\n\n"
		"example: echo 'my.boot_s s lower 21.4' | lsvd results record --dir results/mine",
		0, 0);
	struct results *r = results_new();
	struct err e = {0};
	char path[4096];
	int rc = r ? record(&o, r, path, sizeof(path), &e) : err_set(&e, -ENOMEM, "no memory");

	results_free(r);
	if (rc)
		return cli_fail("%s", err_text(&e, rc));
	puts(path);
	return CLI_OK;
}

static const struct cli_sub subs[] = {
	{"get", "print one figure", run_get},
	{"list", "print the names of the figures", run_list},
	{"check", "check files against the schema", run_check},
	{"compare", "better, worse or the same, and why", run_compare},
	{"report", "make the page", run_report},
	{"record", "make a result file of lines of text", run_record},
	{"merge", "one run out of several of one commit", run_merge},
	{"history", "each figure over the runs, with its change points", run_history},
	{"gate", "fail when a figure is over its budget", run_gate},
	{"export", "for github-action-benchmark or Bencher", run_export},
	{0},
};

static int run_results(int argc, char **argv)
{
	return cli_dispatch("results", subs, argc, argv);
}
CLI_COMMAND(results, "benchmark figures: get, compare, report", run_results)
