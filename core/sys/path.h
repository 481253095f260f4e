/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* path.h - making the directories that a path needs.  Any thread; short blocking calls. */
#ifndef LSVD_SYS_PATH_H
#define LSVD_SYS_PATH_H

#include "sys/err.h"

/* Make every directory on the way to `path`, not itself, that is not there: mkdir -p "$(dirname path)".
 * 0, or -errno of the one that could not be made. */
int path_make_parents(const char *path) MUST_CHECK;

#endif
