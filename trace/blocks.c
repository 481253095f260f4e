/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* blocks.c - see blocks.h. */
#include "trace/blocks.h"

#include <errno.h>
#include <stdlib.h>

int blocks_init(struct block_table *t, uint64_t touches)
{
	*t = (struct block_table){.slots = 1024, .touches = touches};
	t->slot = calloc(t->slots, sizeof(*t->slot));
	t->tree = calloc(touches + 1, sizeof(*t->tree));
	return t->slot && t->tree ? 0 : -ENOMEM;
}

void blocks_fini(struct block_table *t)
{
	free(t->slot);
	free(t->tree);
}

static struct block_entry *find(struct block_table *t, uint64_t key)
{
	size_t i = (key * 0x9E3779B97F4A7C15ull >> 20) & (t->slots - 1);

	while (t->slot[i].block && t->slot[i].block != key)
		i = (i + 1) & (t->slots - 1);
	return &t->slot[i];
}

static int grow(struct block_table *t)
{
	struct block_table old = *t;
	struct block_entry *p = calloc(2 * old.slots, sizeof(*p));

	if (!p)
		return -ENOMEM;
	t->slot = p;
	t->slots = 2 * old.slots;
	for (size_t i = 0; i < old.slots; i++)
		if (old.slot[i].block)
			*find(t, old.slot[i].block) = old.slot[i];
	free(old.slot);
	return 0;
}

static void tree_add(struct block_table *t, uint64_t at, uint32_t v)
{
	for (; at <= t->touches; at += at & -at)
		t->tree[at] += v;
}

static uint64_t tree_sum(const struct block_table *t, uint64_t at)
{
	uint32_t sum = 0;

	for (; at; at -= at & -at)
		sum += t->tree[at];
	return sum;
}

uint64_t blocks_touch(struct block_table *t, uint64_t block, bool write, int *rc)
{
	struct block_entry *b;
	uint64_t distance = UINT64_MAX;

	if (2 * t->used >= t->slots && grow(t) < 0) {
		*rc = -ENOMEM;
		return distance;
	}
	b = find(t, block + 1);
	if (b->block) {
		distance = t->used - tree_sum(t, b->last);
		tree_add(t, b->last, (uint32_t)-1);
	} else {
		b->block = block + 1;
		t->used++;
	}
	b->last = ++t->now;
	b->count++;
	b->read |= !write;
	b->written |= write;
	tree_add(t, b->last, 1);
	return distance;
}
