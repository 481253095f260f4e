/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blocks.h - counts touches of blocks, and LRU stack distances, for analyse.c.
 *
 * A hash table from block number to {last touch, count}, and a Fenwick tree over touches in which
 * each block's last touch is one: the sum between two touches of a block is the number of
 * different blocks touched in between (Bennett and Kruskal, 1975).
 */
#ifndef LSVD_TRACE_BLOCKS_H
#define LSVD_TRACE_BLOCKS_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_entry {
	uint64_t block;	    /* number + 1; 0 = empty */
	uint64_t last;	    /* touch, from 1 */
	uint32_t count;	    /* touches */
	bool read, written; /* by which ops */
};

struct block_table {
	struct block_entry *slot;
	size_t slots, used;
	uint32_t *tree; /* touches + 1 */
	uint64_t touches, now;
};

/* For up to `touches` touches in all.  -ENOMEM. */
int blocks_init(struct block_table *t, uint64_t touches) MUST_CHECK;

/* The distance to the last touch of this block, UINT64_MAX for the first; -ENOMEM in *rc. */
uint64_t blocks_touch(struct block_table *t, uint64_t block, bool write, int *rc);

void blocks_fini(struct block_table *t);

#endif
