/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_compare.c - `lsvd trace compare`: the figures of overlap.h as text, JSON and a picture. */
#include "cli/cli.h"
#include "trace/cmd.h"
#include "trace/overlap.h"
#include "trace/plot_study.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { OPT_OPS = 0x3300, OPT_PLOT };

struct args {
	const char *path[2], *plot;
	struct overlap_options o;
	bool json;
};

static const struct argp_option options[] = {
	{"block", 'b', "SIZE", 0, "size of the blocks (default 4K)", 0},
	{"ops", OPT_OPS, "reads|writes|all", 0, "the requests to look at (default reads)", 0},
	{"plot", OPT_PLOT, "FILE", 0, "draw it: .png or .svg", 0},
	{"json", 'j', NULL, 0, "print JSON", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;
	uint64_t size = 0;

	if (key == 'b') {
		if (cli_parse_size(arg, &size) < 0 || size < 512 || size > 1 << 30)
			argp_error(st, "bad block size '%s' (512 to 1G)", arg);
		a->o.block_bytes = (uint32_t)size;
	} else if (key == OPT_OPS) {
		a->o.reads = strcmp(arg, "writes") != 0;
		a->o.writes = strcmp(arg, "reads") != 0;
		if (strcmp(arg, "all") && a->o.reads && a->o.writes)
			argp_error(st, "--ops is reads, writes or all, not '%s'", arg);
	} else if (key == OPT_PLOT) {
		a->plot = arg;
	} else if (key == 'j') {
		a->json = true;
	} else if (key == ARGP_KEY_ARG) {
		cmd_positional(st, a->path, 2, arg);
	} else if (key == ARGP_KEY_END) {
		if (!a->path[1])
			argp_error(st, "two traces are wanted");
	} else {
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *real(double v)
{
	return isnan(v) ? json_null() : json_real(v);
}

static json_t *overlap_json(const struct args *a, const struct overlap *o)
{
	json_t *depth = json_array();

	for (unsigned i = 0; i < OVERLAP_DEPTHS; i++)
		json_array_append_new(depth, json_real(o->depth[i]));
	return json_pack("{s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:f, s:o, s:o, s:o, s:o}",
		"block_bytes", number(a->o.block_bytes), "a_blocks", number(o->a), "b_blocks",
		number(o->b), "common_blocks", number(o->both), "jaccard", o->jaccard, "spearman",
		real(o->spearman), "kendall", real(o->kendall), "mean_displacement",
		o->mean_displacement, "p50_displacement", number(o->p50_displacement),
		"p90_displacement", number(o->p90_displacement), "max_displacement",
		number(o->max_displacement), "common_share_by_depth", depth);
}

static void print_overlap(const struct args *a, const struct overlap *o)
{
	double n = o->both ? (double)o->both : 1;

	printf("blocks of %-9s %" PRIu64 " (%s) and %" PRIu64 " (%s)\n", cli_size(a->o.block_bytes),
		o->a, cli_size(o->a * a->o.block_bytes), o->b, cli_size(o->b * a->o.block_bytes));
	printf("in both             %" PRIu64 " (%s): %.1f %% and %.1f %% of them\n", o->both,
		cli_size(o->both * a->o.block_bytes),
		o->a ? 100 * (double)o->both / (double)o->a : 0,
		o->b ? 100 * (double)o->both / (double)o->b : 0);
	printf("Jaccard             %.4f\n", o->jaccard);
	if (o->both < 2)
		return;
	printf("order of the first touches of those in both:\n");
	printf("  Spearman's rho    %.4f\n  Kendall's tau     %.4f\n", o->spearman, o->kendall);
	printf("  displacement      mean %.1f blocks (%.2f %% of them), p50 %" PRIu64
	       ", p90 %" PRIu64 ", max %" PRIu64 "\n",
		o->mean_displacement, 100 * o->mean_displacement / n, o->p50_displacement,
		o->p90_displacement, o->max_displacement);
	printf("first 10 %%, 50 %%    %.1f %%, %.1f %% of them in both\n", 100 * o->depth[9],
		100 * o->depth[49]);
}

static int compare(const struct args *a, struct err *e)
{
	struct first_touches f[2] = {{0}, {0}};
	struct overlap o = {0};
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++)
		rc = first_touches_of(a->path[i], &a->o, &f[i], e);
	if (rc == 0 && (rc = overlap_of(&f[0], &f[1], &o)) < 0)
		err_set(e, rc, "out of memory");
	if (rc == 0 && a->json)
		cli_print_json(overlap_json(a, &o));
	else if (rc == 0)
		print_overlap(a, &o);
	if (rc == 0 && a->plot)
		rc = overlap_plot(&o, a->path, a->plot, e);
	overlap_fini(&o);
	first_touches_free(&f[0]);
	first_touches_free(&f[1]);
	return rc;
}

int cmd_trace_compare(int argc, char **argv)
{
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE TRACE",
		.doc = "How alike two traces are, two boots for instance: the blocks in both, and "
		       "whether they are touched in the same order for the first time."
		       "\vBy default of reads: what a layout in boot order can serve.\n\n"
		       "example: lsvd trace compare boot-1.trace boot-2.trace --plot boots.svg"};
	struct args a = {.o = {.block_bytes = 4096, .reads = true}};
	struct err e = {0};

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (compare(&a, &e) < 0)
		return cli_fail("trace compare: %s", e.msg);
	return CLI_OK;
}
