/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* alloc.h - how often this process asked for heap memory: malloc and its relatives are replaced by
 * ones that count.  Any thread. */
#ifndef CI_RUNNER_ALLOC_H
#define CI_RUNNER_ALLOC_H

#include <stdint.h>

uint64_t alloc_count(void);

#endif
