/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opts.h - what the subcommands of `lsvd results` share: one option parser, one way to open a file.
 *
 * cmd.c has the ones that read and compare files, judge_cmd.c those that judge histories and
 * budgets.
 */
#ifndef LSVD_RESULTS_OPTS_H
#define LSVD_RESULTS_OPTS_H

#include "results/compare.h"

#include <argp.h>

enum {
	OPT_DIR = 'd',
	OPT_JSON = 'j',
	OPT_OUT = 'o',
	OPT_ALL = 'a',
	OPT_FIGURE = 'f',
	OPT_FAIL_ON_WORSE = 256,
	OPT_MIN_EFFECT,
	OPT_ALPHA,
	OPT_COMMIT,
	OPT_DIRTY,
	OPT_PROFILE,
	OPT_DISK,
	OPT_VERSIONS,
	OPT_MEDIANS,
	OPT_PAIRED,
	OPT_ORDER,
	OPT_FORMAT,
	OPT_BETTER
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
	const char *dir, *out, *figure, *order, *format, *better;
	const char *commit, *profile, *disk, *versions;
	bool dirty;
	bool json, all, fail_on_worse, alpha_given, medians;
	struct compare_rule rule;
	size_t min_args, max_args;
	char **args;
	size_t nargs;
};

/* Parses; a usage error ends the process with CLI_USAGE. */
struct opts parse_opts(int argc, char **argv, const struct argp_option *options,
	const char *args_doc, const char *doc, size_t min_args, size_t max_args);

/* Reads the file that `what` means (find.h); CLI_OK, or CLI_FAILED after saying why. */
int open_one(const char *what, const char *dir, struct results **out, char *path, size_t size);

/* The subcommands of judge_cmd.c. */
int run_merge(int argc, char **argv);
int run_history(int argc, char **argv);
int run_gate(int argc, char **argv);
int run_export(int argc, char **argv);

#endif
