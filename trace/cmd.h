/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd.h - the commands under `lsvd trace`, each in a cmd_*.c; cmd.c dispatches. */
#ifndef LSVD_TRACE_CMD_H
#define LSVD_TRACE_CMD_H

#include "trace/load.h"

#include <argp.h>

int cmd_trace_info(int argc, char **argv);
int cmd_trace_analyse(int argc, char **argv);
int cmd_trace_compare(int argc, char **argv);
int cmd_trace_dump(int argc, char **argv);
int cmd_trace_export(int argc, char **argv);
int cmd_trace_import(int argc, char **argv);
int cmd_trace_capture(int argc, char **argv);
int cmd_trace_replay(int argc, char **argv);
int cmd_trace_plot(int argc, char **argv);

/* Warns on stderr of what is missing in a damaged or lossy trace. */
void cmd_warn_counts(const char *path, const struct trace_counts *c);

/* trace_load() that says what went wrong, and warns on stderr of what is missing in a damaged or
 * lossy trace.  Returns CLI_OK or CLI_FAILED. */
int cmd_load(const char *path, const char *file, struct trace *t);

/* Of a command that reads one trace: --json, --volume and the trace's name. */
struct cmd_reading {
	const char *path[1], *volume;
	bool json;
};
error_t cmd_parse_reading(int key, char *arg, struct argp_state *st);

/* For long work that counts up to `total`: shows it on `bar`, a struct cli_progress; -EINTR after Ctrl-C. */
int cmd_progress(void *bar, uint64_t done, uint64_t total);

/* A positional argument into *slot, in order; argp_error() when there are too many. */
void cmd_positional(struct argp_state *st, const char **slots, unsigned n, const char *arg);

#endif
