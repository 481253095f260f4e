/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_plot.c - `lsvd trace plot`. */
#include "cli/cli.h"
#include "trace/cmd.h"
#include "trace/plot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct args {
	const char *path[1], *title;
	const char *output, *volume;
	uint64_t width, height;
	bool script;
};

static const struct argp_option options[] = {
	{"output", 'o', "FILE", 0, "the picture: .png or .svg (default trace.png)", 0},
	{"title", 't', "TEXT", 0, "its title (default: the trace's comment, or its name)", 0},
	{"width", 'w', "PIXELS", 0, "default 1200", 0},
	{"height", 'h', "PIXELS", 0, "default 900", 0},
	{"volume", 'V', "NAME", 0, "of several: the requests to this one", 0},
	{"script", 's', NULL, 0, "print the gnuplot script instead of running it", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

static void pixels(struct argp_state *st, const char *arg, uint64_t *v)
{
	if (cli_parse_size(arg, v) < 0 || *v < 100 || *v > 20000)
		argp_error(st, "bad number of pixels '%s' (100 to 20000)", arg);
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;

	if (key == 'o')
		a->output = arg;
	else if (key == 't')
		a->title = arg;
	else if (key == 'w')
		pixels(st, arg, &a->width);
	else if (key == 'h')
		pixels(st, arg, &a->height);
	else if (key == 'V')
		a->volume = arg;
	else if (key == 's')
		a->script = true;
	else if (key == ARGP_KEY_ARG)
		cmd_positional(st, a->path, 1, arg);
	else if (key == ARGP_KEY_END && !a->path[0])
		argp_error(st, "no trace given");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int cmd_trace_plot(int argc, char **argv)
{
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE",
		.doc = "Draw a trace with gnuplot: offset over time coloured by op and source, "
		       "request "
		       "sizes, how often blocks are touched, and what LRU caches would serve."
		       "\vexample: lsvd trace plot boot.trace -o boot.svg"};
	struct args a = {.output = "trace.png"};
	struct trace_info info;
	struct plot_options opt;
	struct err e = {0};
	struct trace t;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = cmd_load(a.path[0], a.volume, &t);
	if (rc != CLI_OK)
		return rc;
	opt = (struct plot_options){.output = a.output,
		.title = a.title	       ? a.title
			 : t.header.comment[0] ? t.header.comment
					       : a.path[0],
		.width = (unsigned)a.width,
		.height = (unsigned)a.height};
	if (trace_analyse(&t, &info) < 0)
		rc = cli_fail("out of memory");
	else if (a.script)
		trace_plot_script(stdout, &t, &info, &opt);
	else if (trace_plot(&t, &info, &opt, &e) < 0)
		rc = cli_fail("trace plot: %s", e.msg);
	trace_free(&t);
	return rc;
}
