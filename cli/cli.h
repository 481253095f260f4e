/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cli.h - what every `lsvd` command shares.  A command lives with its feature and registers itself:
 *
 *   static int run_info(int argc, char **argv);
 *   CLI_COMMAND(info, "print an image's facts", run_info)
 *
 * run() gets argv[0] = "lsvd info" and returns an exit code: CLI_OK, CLI_FAILED, CLI_USAGE.
 * Options are parsed by glibc's argp, which gives --help; argp_err_exit_status is 2 already.
 * Each command's argp doc ends with an example.
 */
#ifndef LSVD_CLI_H
#define LSVD_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
	struct cli_command *next;
};

void cli_register(struct cli_command *c);
extern struct cli_command *cli_commands;	/* by name */

#define CLI_COMMAND(name_, summary_, run_)                                                         \
	static struct cli_command cli_##name_ = {.name = #name_, .summary = summary_, .run = run_}; \
	__attribute__((constructor)) static void cli_ctor_##name_(void)                            \
	{                                                                                          \
		cli_register(&cli_##name_);                                                        \
	}

/* "lsvd: message" on stderr; returns CLI_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A command of commands (`lsvd trace info`): dispatch argv[1] over a NULL-terminated table. */
struct cli_sub {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
};
int cli_dispatch(const char *name, const struct cli_sub *subs, int argc, char **argv);

/* "64M", "1.5G", "4096", "2TiB" -> bytes (powers of 1024).  Returns 0 or -EINVAL. */
int cli_parse_size(const char *s, uint64_t *bytes);

/* bytes -> "1.5 GiB" in a rotating static buffer (main thread only). */
const char *cli_size(uint64_t bytes);

/* Progress of long work: a bar on a tty, a line every 5 s elsewhere; `total` 0 = unknown.
 * Writes to stderr; silent when `quiet`. */
struct cli_progress {
	const char *what;
	uint64_t total, done;
	uint64_t start_ns, last_ns;
	bool tty, quiet;
};
void cli_progress_begin(struct cli_progress *p, const char *what, uint64_t total, bool quiet);
void cli_progress_at(struct cli_progress *p, uint64_t done);
void cli_progress_end(struct cli_progress *p);

/* Set by SIGINT/SIGTERM once cli_catch_signals was called; long loops look at it and clean up. */
extern volatile int cli_interrupted;
void cli_catch_signals(void);

/* Print a JSON value to stdout, indented, with a newline; steals the reference. */
void cli_print_json(json_t *j);

#endif
