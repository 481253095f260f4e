/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copy.h - copying to where nobody will read soon.  Pure; any thread. */
#ifndef LSVD_SYS_COPY_H
#define LSVD_SYS_COPY_H

#include <stddef.h>

/* Like memcpy, past the caches when that pays: the old contents of `dst` are not fetched first, and
 * nothing hot is displaced (4 KiB between cold places: 590 instead of 800 ns). */
void copy_away(void *dst, const void *src, size_t len);

#endif
