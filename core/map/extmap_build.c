/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extmap_build.c - a whole map at once: full leaves side by side, then the levels above them.
 *
 * An empty pool hands nodes out in order, so the leaf of rank r is node r / LEAF_CAP, and a put is
 * no more than a copy.  No page is touched before something is put there: who puts from several
 * threads shares the first touches among them, too.  The end is one pass over all entries: it
 * counts, checks their order, and closes the gap behind every entry that continues the one before.
 */
#include "map/extmap_node.h"

#include <assert.h>
#include <errno.h>

static uint64_t nodes_of(uint64_t entries, uint32_t each)
{
	return (entries + each - 1) / each;
}

/* Nodes for so many leaves and all that is above them. */
static uint64_t tree_nodes(uint64_t leaves)
{
	uint64_t sum = leaves;

	for (uint64_t n = leaves; n > 1; sum += n)
		n = nodes_of(n, INNER_CAP);
	return sum;
}

int extmap_build_begin(struct extmap_build *b, struct extmap *m, uint64_t extents)
{
	uint64_t leaves = nodes_of(extents, LEAF_CAP), nodes = tree_nodes(leaves) + OP_NODES;

	extmap_clear(m);
	*b = (struct extmap_build){.m = m, .extents = extents};
	if (nodes > UINT32_MAX || pool_reserve(&m->pool, (uint32_t)nodes) < 0)
		return -ENOMEM;
	assert(m->root == 0);
	for (uint32_t id = 1; id < leaves; id++) {
		uint32_t got = pool_alloc(&m->pool);

		assert(got == id);
	}
	return 0;
}

void extmap_build_put(struct extmap_build *b, uint64_t rank, const struct extent *e, uint32_t n)
{
	assert(rank <= b->extents && n <= b->extents - rank);
	while (n) {
		union extmap_node *leaf = node_get(b->m, (uint32_t)(rank / LEAF_CAP));
		uint32_t at = rank % LEAF_CAP, fit = LEAF_CAP - at < n ? LEAF_CAP - at : n;

		for (uint32_t i = 0; i < fit; i++) {
			leaf->leaf.key[at + i] = key_make(e[i].lba, e[i].len);
			leaf->leaf.place[at + i] = e[i].place;
		}
		rank += fit;
		e += fit;
		n -= fit;
	}
}

static void set_entry(struct extmap *m, uint64_t rank, const struct extent *e)
{
	union extmap_node *leaf = node_get(m, (uint32_t)(rank / LEAF_CAP));

	leaf->leaf.key[rank % LEAF_CAP] = key_make(e->lba, e->len);
	leaf->leaf.place[rank % LEAF_CAP] = e->place;
}

/* Make `e` one with the entry at `rank`, if it continues that. */
static bool join_to(struct extmap *m, uint64_t rank, const struct extent *e)
{
	const union extmap_node *leaf = node_get(m, (uint32_t)(rank / LEAF_CAP));
	struct extent last = entry_get(leaf, rank % LEAF_CAP);

	if (!continues(&last, e))
		return false;
	last.len += e->len;
	set_entry(m, rank, &last);
	return true;
}

/* Join what continues, move up what is behind, and count.  Places are looked at only of extents
 * that touch. */
static void join(struct extmap *m, uint64_t extents)
{
	const union extmap_node *leaf = NULL;
	uint64_t count = 0, sectors = 0, end = 0;

	for (uint64_t rank = 0; rank < extents; rank++) {
		uint32_t i = rank % LEAF_CAP;
		struct extent e;
		uint64_t key;

		if (i == 0)
			leaf = node_get(m, (uint32_t)(rank / LEAF_CAP));
		key = leaf->key[i];
		assert((key & LEN_MASK) && key_lba(key) >= end);
		sectors += key & LEN_MASK;
		if (count != rank || (count && key_lba(key) == end)) {
			e = entry_get(leaf, i);
			if (count && join_to(m, count - 1, &e))
				count--;
			else if (count != rank)
				set_entry(m, count, &e);
		}
		end = key_end(key);
		count++;
	}
	assert(end <= EXTMAP_LBA_MAX);
	m->count = count;
	m->sectors = sectors;
}

/* Nodes side by side that are all full but the last. */
struct level {
	uint32_t first, nodes; /* ids */
	uint32_t cap, last_n;  /* entries */
};

static struct level level_of(uint32_t first, uint64_t entries, uint32_t cap)
{
	struct level l = {.first = first, .nodes = (uint32_t)nodes_of(entries, cap), .cap = cap};

	l.last_n = (uint32_t)(entries - (uint64_t)(l.nodes - 1) * cap);
	return l;
}

/* The level above; its nodes are the next that the pool has. */
static struct level raise(struct extmap *m, const struct level *below)
{
	struct level l = level_of(below->first + below->nodes, below->nodes, INNER_CAP);
	union extmap_node *up = NULL;

	for (uint32_t i = 0; i < below->nodes; i++) {
		uint32_t n = i + 1 < below->nodes ? below->cap : below->last_n;

		if (i % INNER_CAP == 0) {
			uint32_t got = pool_alloc(&m->pool);

			assert(got == l.first + i / INNER_CAP);
			up = node_get(m, got);
		}
		set_child(up, i % INNER_CAP, below->first + i, node_get(m, below->first + i), n);
	}
	return l;
}

void extmap_build_end(struct extmap_build *b)
{
	struct extmap *m = b->m;
	struct level l;

	if (!b->extents)
		return;
	join(m, b->extents);
	l = level_of(0, m->count, LEAF_CAP);
	for (uint64_t id = nodes_of(b->extents, LEAF_CAP); id-- > l.nodes;)
		pool_free(&m->pool, (uint32_t)id);
	while (l.nodes > 1) {
		l = raise(m, &l);
		m->height++;
	}
	m->root = l.first;
	m->root_n = l.last_n;
	tree_trim(m);
}
