/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memory.h - how much memory there is, and a part of it that all images of this process share.
 * Any thread.
 */
#ifndef LSVD_SYS_MEMORY_H
#define LSVD_SYS_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* What this process may use: the machine's memory, or less where a control group (v2) says so. */
uint64_t memory_bytes(void);

/* Take so much of the shared part.  False: `limit_bytes` would be exceeded by all that is taken. */
bool memory_take(uint64_t bytes, uint64_t limit_bytes);

/* Give back what was taken. */
void memory_give(uint64_t bytes);

/* What is taken. */
uint64_t memory_taken(void);

#endif
