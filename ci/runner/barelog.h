/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* barelog.h - the disk's own bound of sustained small writes; see barelog.c. */
#ifndef CI_RUNNER_BARELOG_H
#define CI_RUNNER_BARELOG_H

#include "sys/err.h"

/* A log and objects in the two halves of the file at `path`, which is overwritten and should be
 * written in full already; `depth` writers (at least one) for `seconds`. */
int barelog_run(const char *path, unsigned depth, double seconds, double *writes_per_s,
	struct err *e) MUST_CHECK;

#endif
