/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* blocks.c - see blocks.h. */
#include "trace/blocks.h"

#include <errno.h>
#include <stdlib.h>

enum { PLACES_MIN = 1024 };

int blocks_init(struct block_table *t)
{
	*t = (struct block_table){.slots = 1024, .places = PLACES_MIN};
	t->slot = calloc(t->slots, sizeof(*t->slot));
	t->tree = calloc(t->places + 1, sizeof(*t->tree));
	return t->slot && t->tree ? 0 : -ENOMEM;
}

void blocks_fini(struct block_table *t)
{
	free(t->slot);
	free(t->tree);
	*t = (struct block_table){0};
}

static size_t home(const struct block_table *t, uint64_t key)
{
	return (key * 0x9E3779B97F4A7C15ull >> 20) & (t->slots - 1);
}

static struct block_entry *find(const struct block_table *t, uint64_t key)
{
	size_t i = home(t, key);

	while (t->slot[i].block && t->slot[i].block != key)
		i = (i + 1) & (t->slots - 1);
	return &t->slot[i];
}

const struct block_entry *blocks_find(const struct block_table *t, uint64_t block)
{
	const struct block_entry *b = find(t, block + 1);

	return b->block ? b : NULL;
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

/* ---- the tree ---- */

static void tree_add(struct block_table *t, uint32_t at, uint32_t v)
{
	for (uint64_t i = at; i <= t->places; i += i & -i)
		t->tree[i] += v;
}

static uint64_t tree_sum(const struct block_table *t, uint32_t at)
{
	uint32_t sum = 0;

	for (; at; at -= at & -at)
		sum += t->tree[at];
	return sum;
}

/* Moves the last touches to places 1 ... used, in their order, with as many free ones behind them.
 */
static int compact(struct block_table *t)
{
	uint64_t places = t->places;
	uint32_t *who = calloc((size_t)t->places + 1, sizeof(*who)), *tree = t->tree, n = 0;

	while (places < 2 * (uint64_t)t->used)
		places *= 2;
	if (places != t->places && places <= UINT32_MAX)
		tree = realloc(t->tree, (places + 1) * sizeof(*tree));
	if (!who || !tree || places > UINT32_MAX || t->slots > UINT32_MAX) {
		t->tree = tree ? tree : t->tree;
		free(who);
		return -ENOMEM;
	}
	for (size_t i = 0; i < t->slots; i++)
		if (t->slot[i].block)
			who[t->slot[i].last] = (uint32_t)i + 1;
	for (uint32_t at = 1; at <= t->places; at++)
		if (who[at])
			t->slot[who[at] - 1].last = ++n;
	t->tree = tree;
	t->places = (uint32_t)places;
	t->now = n;
	/* node i sums the places (i - lowbit, i], of which those up to n hold a one */
	for (uint64_t i = 1; i <= places; i++) {
		uint64_t from = i - (i & -i), to = i < n ? i : n;

		tree[i] = (uint32_t)(to > from ? to - from : 0);
	}
	free(who);
	return 0;
}

/* ---- touches ---- */

uint64_t blocks_touch(struct block_table *t, uint64_t block, bool write, uint64_t *stamp, int *rc)
{
	uint64_t distance = UINT64_MAX, old = 0;
	struct block_entry *b;

	if ((4 * t->used >= 3 * t->slots && grow(t) < 0) ||
		(t->now == t->places && compact(t) < 0)) {
		*rc = -ENOMEM;
		return distance;
	}
	b = find(t, block + 1);
	if (b->block) {
		distance = t->used - tree_sum(t, b->last);
		tree_add(t, b->last, (uint32_t)-1);
		old = b->stamp;
	} else {
		b->block = block + 1;
		t->used++;
	}
	b->last = ++t->now;
	b->count += b->count < UINT32_MAX;
	b->read |= !write;
	b->written |= write;
	b->stamp = *stamp;
	*stamp = old;
	tree_add(t, b->last, 1);
	return distance;
}

/* Moves up what lies behind the gap and may not be found across it. */
void blocks_remove(struct block_table *t, uint64_t block)
{
	size_t mask = t->slots - 1, gap, i;
	struct block_entry *b = find(t, block + 1);

	if (!b->block)
		return;
	tree_add(t, b->last, (uint32_t)-1);
	t->used--;
	gap = (size_t)(b - t->slot);
	for (i = (gap + 1) & mask; t->slot[i].block; i = (i + 1) & mask) {
		size_t from_home = (i - home(t, t->slot[i].block)) & mask;

		if (from_home < ((i - gap) & mask))
			continue;
		t->slot[gap] = t->slot[i];
		gap = i;
	}
	t->slot[gap] = (struct block_entry){0};
}
