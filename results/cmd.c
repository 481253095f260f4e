/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cmd.c - `lsvd results get|list|check|compare|report`.
 *
 * Each subcommand has its option table; one parser serves them all.  Figures are printed by
 * results_number(), so that what `get` prints can go straight into a shell comparison.
 */
#include "cli/cli.h"
#include "results/compare.h"
#include "results/find.h"
#include "results/json.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_DIR = 'd',
	OPT_JSON = 'j',
	OPT_OUT = 'o',
	OPT_ALL = 'a',
	OPT_FAIL_ON_WORSE = 256,
	OPT_MIN_EFFECT,
	OPT_ALPHA
};

#define DIR_OPTION                                                                       \
	{                                                                                \
		"dir", OPT_DIR, "DIR", 0, "where the result files are (results/data)", 0 \
	}
#define JSON_OPTION                                        \
	{                                                  \
		"json", OPT_JSON, NULL, 0, "print JSON", 0 \
	}

struct opts {
	const char *dir, *out;
	bool json, all, fail_on_worse;
	struct compare_rule rule;
	size_t min_args, max_args;
	char **args;
	size_t nargs;
};

static double parse_number(struct argp_state *s, const char *what, const char *arg, double max)
{
	char *end;
	double v = strtod(arg, &end);

	if (end == arg || *end || !(v >= 0) || v > max)
		argp_error(s, "%s: '%s' is not a number from 0 to %g", what, arg, max);
	return v;
}

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct opts *o = s->input;

	switch (key) {
	case OPT_DIR:
		o->dir = arg;
		return 0;
	case OPT_OUT:
		o->out = arg;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_ALL:
		o->all = true;
		return 0;
	case OPT_FAIL_ON_WORSE:
		o->fail_on_worse = true;
		return 0;
	case OPT_MIN_EFFECT:
		o->rule.min_effect = parse_number(s, "--min-effect", arg, 100) / 100;
		return 0;
	case OPT_ALPHA:
		o->rule.alpha = parse_number(s, "--alpha", arg, 1);
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

static struct opts parse_opts(int argc, char **argv, const struct argp_option *options,
	const char *args_doc, const char *doc, size_t min_args, size_t max_args)
{
	struct argp argp = {.options = options, .parser = parse, .args_doc = args_doc, .doc = doc};
	struct opts o = {.dir = "results/data",
		.out = "results/page",
		.rule = COMPARE_RULE_DEFAULT,
		.min_args = min_args,
		.max_args = max_args};

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	return o;
}

static int open_one(
	const char *what, const char *dir, struct results **out, char *path, size_t size)
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

static const struct cli_sub subs[] = {
	{"get", "print one figure", run_get},
	{"list", "print the names of the figures", run_list},
	{"check", "check files against the schema", run_check},
	{0},
};

static int run_results(int argc, char **argv)
{
	return cli_dispatch("results", subs, argc, argv);
}
CLI_COMMAND(results, "benchmark figures: get, compare, report", run_results)
