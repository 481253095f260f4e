/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd.c - `lsvd trace COMMAND`: dispatch, and what its commands share. */
#include "trace/cmd.h"
#include "cli/cli.h"
#include "gateway/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const struct cli_sub subs[] = {
	{"start", "record what a gateway's clients do", cmd_trace_start},
	{"stop", "end that", cmd_trace_stop},
	{"info", "requests, bytes, unique blocks, stall time", cmd_trace_info},
	{"analyse", "working set, reuse, miss-ratio curve, heat map", cmd_trace_analyse},
	{"compare", "how alike two traces are", cmd_trace_compare},
	{"dump", "every request, as text or JSON lines", cmd_trace_dump},
	{"export", "write it as CSV, for fio or for libCacheSim", cmd_trace_export},
	{"import", "make one of what others recorded", cmd_trace_import},
	{"capture", "record from the network or the kernel", cmd_trace_capture},
	{"replay", "submit its requests to an image", cmd_trace_replay},
	{"plot", "draw offsets over time, sizes, reuse", cmd_trace_plot},
	{NULL, NULL, NULL},
};

static int run_trace(int argc, char **argv)
{
	return cli_dispatch("trace", subs, argc, argv);
}

CLI_COMMAND(trace, "record, look at, convert, replay block traces", run_trace)

void cmd_warn_counts(const char *path, const struct trace_counts *c)
{
	if (c->skipped_blocks)
		fprintf(stderr,
			"lsvd: '%s': %" PRIu64 " damaged blocks skipped, %" PRIu64
			" requests lost\n",
			path, c->skipped_blocks, c->skipped_records);
	if (c->torn_blocks)
		fprintf(stderr, "lsvd: '%s': the end is torn: %" PRIu64 " blocks left out\n", path,
			c->torn_blocks);
	if (c->dropped)
		fprintf(stderr, "lsvd: '%s': the recorder dropped %" PRIu64 " requests\n", path,
			c->dropped);
}

int cmd_load(const char *path, const char *file, struct trace *t)
{
	struct trace_import_options opt = {.volume = file};
	struct err e = {0};

	if (trace_load(path, &opt, t, &e) < 0)
		return cli_fail("%s", e.msg);
	cmd_warn_counts(path, &t->counts);
	return CLI_OK;
}

void cmd_positional(struct argp_state *st, const char **slots, unsigned n, const char *arg)
{
	for (unsigned i = 0; i < n; i++) {
		if (slots[i])
			continue;
		slots[i] = arg;
		return;
	}
	argp_error(st, "too many arguments: '%s'", arg);
}

error_t cmd_parse_reading(int key, char *arg, struct argp_state *st)
{
	struct cmd_reading *a = st->input;

	if (key == 'j')
		a->json = true;
	else if (key == 'V')
		a->volume = arg;
	else if (key == ARGP_KEY_ARG)
		cmd_positional(st, a->path, 1, arg);
	else if (key == ARGP_KEY_END && !a->path[0])
		argp_error(st, "no trace given");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int cmd_progress(void *bar, uint64_t done, uint64_t total)
{
	struct cli_progress *p = bar;

	p->total = total;
	cli_progress_at(p, done);
	return cli_interrupted ? -EINTR : 0;
}
