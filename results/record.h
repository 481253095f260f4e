/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * record.h - figures as lines of text, from any script, into a result file.
 *
 *   NAME UNIT DIRECTION VALUE       blanks between; a name that comes again is another sample of
 * the figure
 *
 * Empty lines and those that begin with # are skipped.
 */
#ifndef LSVD_RESULTS_RECORD_H
#define LSVD_RESULTS_RECORD_H

#include "results/schema.h"

#include <stdio.h>

/* Adds what `in` says to r.  Errors name `file` and the line: -EINVAL a line that is none, or a
 * figure that results_add() refuses, -ENOMEM. */
int results_add_lines(struct results *r, FILE *in, const char *file, struct err *e) MUST_CHECK;

/* "qemu=7.2,nbdkit=1.32": versions of what was used. */
int results_set_versions(struct results *r, const char *list, struct err *e) MUST_CHECK;

#endif
