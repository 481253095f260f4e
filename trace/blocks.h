/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blocks.h - touches of blocks, and LRU stack distances, in memory that depends on the number of
 * different blocks only.
 *
 * The stack distance of a touch (Mattson et al., 1970) is the number of different blocks touched
 * since the last touch of the same one: an LRU cache larger than it would have had the block.  As
 * in Bennett and Kruskal (1975) and Olken (1981) a tree over time holds a one at each block's last
 * touch, so that a sum is a distance, in O(log n).  Here it is a Fenwick tree over 2n places or
 * more; when they are used up, the n last touches move to the first n places, in their order, which
 * costs O(n) every n touches or less often.
 *
 * 32 bytes for a block in a hash table that is filled up to 3/4, and 8 to 16 in the tree.
 */
#ifndef LSVD_TRACE_BLOCKS_H
#define LSVD_TRACE_BLOCKS_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_entry {
	uint64_t block;	    /* number + 1; 0 = empty */
	uint64_t stamp;	    /* the caller's, of the last touch */
	uint32_t last;	    /* place in the tree, from 1 */
	uint32_t count;	    /* touches */
	bool read, written; /* by which ops */
};

struct block_table {
	struct block_entry *slot;
	size_t slots, used;
	uint32_t *tree; /* places + 1 */
	uint32_t places, now;
};

/* -ENOMEM. */
int blocks_init(struct block_table *t) MUST_CHECK;

/* The distance to the last touch of this block, UINT64_MAX for the first; *stamp becomes that
 * touch's stamp (0 for the first).  -ENOMEM in *rc, which is else left as it is. */
uint64_t blocks_touch(struct block_table *t, uint64_t block, bool write, uint64_t *stamp, int *rc);

/* NULL: never touched.  Valid until the next touch. */
const struct block_entry *blocks_find(const struct block_table *t, uint64_t block);

/* Forgets a block, as if it had never been touched. */
void blocks_remove(struct block_table *t, uint64_t block);

void blocks_fini(struct block_table *t);

#endif
