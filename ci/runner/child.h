/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * child.h - child processes that leave nothing behind.
 *
 * Each runs in a process group of its own and dies with us (PR_SET_PDEATHSIG).  An interrupt
 * (cli_interrupted) or the time limit ends its whole group: SIGTERM, two seconds later SIGKILL.
 */
#ifndef CI_RUNNER_CHILD_H
#define CI_RUNNER_CHILD_H

#include "sys/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct child {
	const char *const *argv; /* ends with NULL; argv[0] is looked up in PATH */
	const char *const *env;	 /* "NAME=value" put on top of ours, ends with NULL; may be NULL */
	const char *cwd;	 /* NULL: ours */
	const char *out;	 /* file for standard output, NULL: with the errors */
	const char *log;	 /* file for standard error; its end goes into the message */
	int cpu;		 /* run on this processor only; -1: any */
	double limit_s;
	/* what came of it */
	double wall_s, cpu_s;
};

/* Runs it to the end.  0 when it exited with 0; -EINTR after an interrupt, -ETIMEDOUT, -EIO with
 * the last lines of its log else. */
int child_run(struct child *c, struct err *e) MUST_CHECK;

/* Runs argv in `dir`, without the machine's configuration; what it prints is JSON.  -EUCLEAN: it is
 * not. */
int child_json(const char *dir, const char *const *argv, double limit_s, json_t **out,
	struct err *e) MUST_CHECK;

/* A whole file as a string that the caller frees; NULL with errno. */
char *file_text(const char *path, size_t *len);

#endif
