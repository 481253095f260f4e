/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zero.h - finding what is not zero, in grains of 64 KiB.  Pure; any thread. */
#ifndef LSVD_CLI_ZERO_H
#define LSVD_CLI_ZERO_H

#include <stddef.h>

enum { ZERO_GRAIN = 64 << 10 };

/* The next run of grains that are not all zero, at or after *at (a multiple of the grain): sets *at
 * to where it begins and returns its length; 0 when the rest is zero. */
size_t zero_next_run(const void *buf, size_t len, size_t *at);

#endif
