/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copy.h - what `lsvd import` and `lsvd export` share: options, totals, the closing line. */
#ifndef LSVD_CLI_COPY_H
#define LSVD_CLI_COPY_H

#include "cli/open.h"

#include <time.h>

enum { COPY_PIECE = 1 << 20 };

struct copy_args {
	struct cli_open open;
	const char *from, *to;
	uint64_t size_bytes;
	bool has_size, force, no_journal;
};

struct copy_totals {
	uint64_t bytes, data_bytes;
	struct timespec begin;
};

/* "--size", "--force" and "--no-journal" are 's', 'f' and 'n'; the commands say which they take. */
error_t copy_parse(int key, char *arg, struct argp_state *s);

/* Starts the clock. */
void copy_begin(struct copy_totals *t);

/* The closing line, or JSON: never on a standard output that the data went to. */
void copy_report(const struct copy_args *a, const struct copy_totals *t, const char *verb);

/* Says why it failed (`why` may be empty); returns CLI_FAILED. */
int copy_failed(const char *what, int rc, const char *why);

#endif
