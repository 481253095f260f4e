/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_memory.h - for the one file of a program that runs many schedules: what stands in for
 * sys/prefault.c.  Blocks are used again and again, for the first touch of memory costs more than a
 * tiny schedule; what was in them is overwritten with a pattern, for nobody may count on zeroes.
 */
#ifndef LSVD_TEST_SIM_MEMORY_H
#define LSVD_TEST_SIM_MEMORY_H

#include "sys/prefault.h"

#include <stdlib.h>
#include <string.h>

enum { SPARE_MAX = 64 };

struct prefault {
	size_t bytes;
};

static void *spare_blocks[SPARE_MAX];
static unsigned spare_n;
static size_t spare_bytes;

/* They went with the memory that they came from (sim_arena.h). */
static inline void prefault_forget(void)
{
	spare_n = 0;
}

struct prefault *prefault_new(size_t bytes, void (*tell)(void *arg, bool made), void *arg)
{
	(void)tell, (void)arg;
	struct prefault *p = calloc(1, sizeof(*p));

	if (p)
		p->bytes = bytes;
	return p;
}

void *prefault_make(const struct prefault *p)
{
	void *block = NULL;

	if (spare_n && spare_bytes == p->bytes) {
		block = spare_blocks[--spare_n];
		memset(block, 0xdd, 4096);
	} else if (posix_memalign(&block, 4096, p->bytes)) {
		return NULL;
	}
	return block;
}

void prefault_give(const struct prefault *p, void *block)
{
	if (!spare_n)
		spare_bytes = p->bytes;
	if (spare_n < SPARE_MAX && spare_bytes == p->bytes)
		spare_blocks[spare_n++] = block;
	else
		free(block);
}

void *prefault_take(struct prefault *p)
{
	(void)p;
	return NULL;
}

bool prefault_await(struct prefault *p)
{
	(void)p;
	return false;
}

void prefault_trim(struct prefault *p)
{
	(void)p;
}

void prefault_free(struct prefault *p)
{
	free(p);
}

#endif
