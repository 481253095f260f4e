/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * find.h - which result file somebody means.  File names begin with the UTC time, so the order of
 * names is the order of time.
 */
#ifndef LSVD_RESULTS_FIND_H
#define LSVD_RESULTS_FIND_H

#include "results/schema.h"

struct results_files {
	char **paths; /* oldest first */
	size_t n;
};

/* All result files (*.json whose names have the form <UTC>-<commit>[-dirty]) of a directory.  The
 * caller frees with results_files_free, also after an error.  An absent directory is -ENOENT. */
int results_files(const char *dir, struct results_files *out, struct err *e) MUST_CHECK;
void results_files_free(struct results_files *f);

/* Which file `what` means: `latest`, `previous` (the one before the latest), a path, or the first 4
 * or more digits of a commit (its newest file in `dir`).  -ENOENT with a message that says what was
 * looked for and where. */
int results_resolve(
	const char *what, const char *dir, char *path, size_t size, struct err *e) MUST_CHECK;

#endif
