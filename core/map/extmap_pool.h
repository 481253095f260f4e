/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extmap_pool.h - the extent map's own memory: 4 KiB nodes, named by a 32-bit number, in 2 MiB
 * slabs.
 *
 * A node number is slab * 512 + slot.  Nodes are handed out lowest number first, so that the last
 * slab thins out when the map shrinks; extmap_node.c moves its last nodes down and gives it back.
 * Getting a slab is the one thing that can fail: pool_reserve() does it before an update begins, so
 * that pool_alloc() cannot fail in the middle.
 *
 * The first slab is touched page by page (a small map stays small); later ones ask for a huge page,
 * which is what makes random access to a large map cheap.
 */
#ifndef LSVD_MAP_EXTMAP_POOL_H
#define LSVD_MAP_EXTMAP_POOL_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NODE_BYTES = 4096, SLAB_SHIFT = 9, SLAB_NODES = 1 << SLAB_SHIFT };

union extmap_node;

struct extmap_slab {
	uint64_t used[SLAB_NODES / 64]; /* bit set: the slot holds a live node */
	uint32_t nfree;
};

struct extmap_pool {
	union extmap_node **base; /* the slabs' memory */
	struct extmap_slab *slab;
	uint32_t nslabs, cap;
	uint32_t nfree;	  /* free slots in all slabs */
	uint32_t hint;	  /* no slab before this one has a free slot */
	uint32_t touched; /* slots of slab 0 ever used */
	uint32_t freed;	  /* nodes freed since the owner last looked */
};

/* Make sure that the next `nodes` allocations succeed; 0 or -ENOMEM, then nothing has changed. */
int pool_reserve(struct extmap_pool *p, uint32_t nodes) MUST_CHECK;

/* A node with undefined contents.  Asserts that one is free. */
uint32_t pool_alloc(struct extmap_pool *p);
void pool_free(struct extmap_pool *p, uint32_t id);

/* Is `id` a live node?  For checks. */
bool pool_used(const struct extmap_pool *p, uint32_t id);

/* A live node of the last slab, or UINT32_MAX when it has none. */
uint32_t pool_last_slab_node(const struct extmap_pool *p);

/* Give the last slab, which must have no live node, back to the system. */
void pool_drop_last_slab(struct extmap_pool *p);

/* No live nodes, and no slab but the first. */
void pool_clear(struct extmap_pool *p);

void pool_fini(struct extmap_pool *p);
size_t pool_memory(const struct extmap_pool *p); /* bytes */

#endif
