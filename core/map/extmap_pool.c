/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* extmap_pool.c - slabs of nodes; see extmap_pool.h. */
#include "map/extmap_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLAB_BYTES ((size_t)NODE_BYTES * SLAB_NODES)

/* Only an aligned slab can be one huge page: map twice as much, give back what sticks out. */
static void *slab_map(bool huge)
{
	char *p = mmap(
		NULL, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *q;
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p & (SLAB_BYTES - 1);
	q = p + before;
	if (before)
		munmap(p, before);
	munmap(q + SLAB_BYTES, SLAB_BYTES - before);
	(void)madvise(q, SLAB_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return q;
}

static int grow_tables(struct extmap_pool *p)
{
	uint32_t cap = p->cap ? p->cap * 2 : 4;
	union extmap_node **base = realloc(p->base, cap * sizeof(*base));
	struct extmap_slab *slab;

	if (!base)
		return -ENOMEM;
	p->base = base;
	slab = realloc(p->slab, cap * sizeof(*slab));
	if (!slab)
		return -ENOMEM;
	p->slab = slab;
	p->cap = cap;
	return 0;
}

static int add_slab(struct extmap_pool *p)
{
	void *mem;

	if (p->nslabs == 1u << (32 - SLAB_SHIFT))
		return -ENOMEM;
	if (p->nslabs == p->cap && grow_tables(p) < 0)
		return -ENOMEM;
	mem = slab_map(p->nslabs > 0);
	if (!mem)
		return -ENOMEM;
	p->base[p->nslabs] = mem;
	p->slab[p->nslabs] = (struct extmap_slab){.nfree = SLAB_NODES};
	p->nslabs++;
	p->nfree += SLAB_NODES;
	return 0;
}

int pool_reserve(struct extmap_pool *p, uint32_t nodes)
{
	while (p->nfree < nodes)
		if (add_slab(p) < 0)
			return -ENOMEM;
	return 0;
}

uint32_t pool_alloc(struct extmap_pool *p)
{
	struct extmap_slab *s;
	unsigned w = 0, bit;

	assert(p->nfree > 0);
	while (p->slab[p->hint].nfree == 0)
		p->hint++;
	s = &p->slab[p->hint];
	while (s->used[w] == UINT64_MAX)
		w++;
	bit = (unsigned)__builtin_ctzll(~s->used[w]);
	s->used[w] |= 1ull << bit;
	s->nfree--;
	p->nfree--;
	if (p->hint == 0 && w * 64 + bit >= p->touched)
		p->touched = w * 64 + bit + 1;
	return (p->hint << SLAB_SHIFT) + w * 64 + bit;
}

bool pool_used(const struct extmap_pool *p, uint32_t id)
{
	uint32_t slot = id % SLAB_NODES;

	return id >> SLAB_SHIFT < p->nslabs &&
	       (p->slab[id >> SLAB_SHIFT].used[slot / 64] >> (slot % 64) & 1);
}

void pool_free(struct extmap_pool *p, uint32_t id)
{
	uint32_t n = id >> SLAB_SHIFT, slot = id % SLAB_NODES;

	assert(pool_used(p, id));
	p->slab[n].used[slot / 64] &= ~(1ull << (slot % 64));
	p->slab[n].nfree++;
	p->nfree++;
	p->freed++;
	if (n < p->hint)
		p->hint = n;
}

uint32_t pool_last_slab_node(const struct extmap_pool *p)
{
	const struct extmap_slab *s = &p->slab[p->nslabs - 1];

	for (unsigned w = 0; w < SLAB_NODES / 64; w++)
		if (s->used[w])
			return ((p->nslabs - 1) << SLAB_SHIFT) + w * 64 +
			       (unsigned)__builtin_ctzll(s->used[w]);
	return UINT32_MAX;
}

void pool_drop_last_slab(struct extmap_pool *p)
{
	assert(p->nslabs > 0 && p->slab[p->nslabs - 1].nfree == SLAB_NODES);
	p->nslabs--;
	p->nfree -= SLAB_NODES;
	munmap(p->base[p->nslabs], SLAB_BYTES);
}

void pool_clear(struct extmap_pool *p)
{
	while (p->nslabs > 1) {
		p->nslabs--;
		munmap(p->base[p->nslabs], SLAB_BYTES);
	}
	p->slab[0] = (struct extmap_slab){.nfree = SLAB_NODES};
	p->nfree = SLAB_NODES;
	p->hint = 0;
	p->freed = 0;
}

void pool_fini(struct extmap_pool *p)
{
	for (uint32_t i = 0; i < p->nslabs; i++)
		munmap(p->base[i], SLAB_BYTES);
	free(p->base);
	free(p->slab);
	memset(p, 0, sizeof(*p));
}

size_t pool_memory(const struct extmap_pool *p)
{
	size_t bytes = p->cap * (sizeof(*p->base) + sizeof(*p->slab));

	bytes += (size_t)p->touched * NODE_BYTES;
	if (p->nslabs > 1)
		bytes += (p->nslabs - 1) * SLAB_BYTES;
	return bytes;
}
