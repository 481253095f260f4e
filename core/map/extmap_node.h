/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extmap_node.h - the tree inside the extent map: nodes, the way down, and keeping nodes filled.
 *
 * A B+-tree without node headers.  A key is `lba << 24 | low`: in a leaf `low` is the extent's
 * length, in an inner node it is the child's number of entries, so that a search knows how far to
 * look before it has touched the child.  The lba of an inner key is exactly the first lba of the
 * child's subtree.
 *
 *   inner  key[340] child[340]        leaf  key[256] place[256]        both 4 KiB
 *
 * Fill: a leaf holds >= LEAF_MIN entries and an inner node >= INNER_MIN, but for the rightmost node
 * of each level, so that appending leaves full nodes behind.  A full leaf first shares with its
 * neighbours; four full ones become five.  Hence 4096 / 192 = 21.4 bytes an extent at worst, +0.2
 * for the inner nodes.  Leaves have no links: the way down (struct path) is also the way sideways.
 *
 * Searching guesses: extents are mostly spread evenly over a node's range, so the place of an lba
 * is interpolated, the cache lines there are asked for together, and only a wrong guess costs a
 * binary search.  An update of a cold leaf then waits for memory once.
 *
 * An update that changes the number of entries moves all that are behind it, on average three
 * quarters of a kilobyte of cold memory each of keys and of places.  While most updates do (`moving`), those lines
 * are asked for together too.
 */
#ifndef LSVD_MAP_EXTMAP_NODE_H
#define LSVD_MAP_EXTMAP_NODE_H

#include "map/extmap.h"
#include "map/extmap_pool.h"

#define LEN_MASK ((uint64_t)EXTMAP_LEN_MAX)

enum {
	LEAF_CAP = 256,
	LEAF_MIN = 192,
	INNER_CAP = 340,
	INNER_MIN = 113,
	HEIGHT_MAX = 8,
	OP_NODES = 40, /* more nodes than one update of one extent can need */
	MOVING_MAX = 16,
};

union extmap_node {
	uint64_t key[INNER_CAP]; /* where both kinds agree */
	struct {
		uint64_t key[LEAF_CAP];
		uint64_t place[LEAF_CAP];
	} leaf;
	struct {
		uint64_t key[INNER_CAP];
		uint32_t child[INNER_CAP];
	} inner;
	unsigned char bytes[NODE_BYTES];
};

struct extmap {
	struct extmap_pool pool;
	uint32_t root;
	uint32_t root_n; /* entries of the root */
	unsigned height; /* inner levels; 0: the root is a leaf */
	uint64_t count;
	uint64_t sectors;
	unsigned moving; /* rises with updates that move entries, falls with others */
};

/* The way from the root to an entry of a leaf: at[0] is the root, at[depth] the leaf. */
struct path {
	unsigned depth;
	uint64_t end; /* the first lba of the next leaf; EXTMAP_LBA_MAX in the last one */
	struct path_step {
		union extmap_node *node;
		uint32_t id;
		uint32_t n; /* entries of the node */
		uint32_t i; /* the entry taken */
	} at[HEIGHT_MAX + 1];
};

static inline union extmap_node *node_get(const struct extmap *m, uint32_t id)
{
	return m->pool.base[id >> SLAB_SHIFT] + id % SLAB_NODES;
}

static inline uint64_t key_lba(uint64_t key)
{
	return key >> 24;
}

static inline uint64_t key_end(uint64_t key)
{
	return (key >> 24) + (key & LEN_MASK);
}

static inline uint64_t key_make(uint64_t lba, uint64_t low)
{
	return lba << 24 | low;
}

static inline struct extent entry_get(const union extmap_node *leaf, uint32_t i)
{
	uint64_t key = leaf->leaf.key[i];

	return (struct extent){
		.lba = key_lba(key), .len = key & LEN_MASK, .place = leaf->leaf.place[i]};
}

/* Can `b`, which begins where `a` ends, be one extent with it? */
static inline bool continues(const struct extent *a, const struct extent *b)
{
	if (a->lba + a->len != b->lba || a->len + b->len > EXTMAP_LEN_MAX)
		return false;
	if (a->place == EXTMAP_ZERO || b->place == EXTMAP_ZERO)
		return a->place == b->place;
	return a->place + a->len == b->place;
}

/* The child of an inner node at i: node `id`, which has n entries. */
static inline void set_child(
	union extmap_node *up, uint32_t i, uint32_t id, const union extmap_node *child, uint32_t n)
{
	up->inner.child[i] = id;
	up->inner.key[i] = key_make(key_lba(child->key[0]), n);
}

static inline struct path_step *path_leaf(struct path *p)
{
	return &p->at[p->depth];
}

/* Go down to `lba`; returns the leaf's step, whose i is the last entry beginning at or before lba,
 * or 0 when there is none. */
struct path_step *path_seek(const struct extmap *m, struct path *p, uint64_t lba);
/* The same, and what an update there needs is asked for. */
struct path_step *path_seek_to_update(const struct extmap *m, struct path *p, uint64_t lba);

/* The way down to the leaf, whose lines that an update at `lba` needs are asked for; nothing waits
 * for them. */
void tree_prefetch(const struct extmap *m, uint64_t lba);

/* Note whether an update moved entries of its leaf. */
static inline void tree_moved(struct extmap *m, bool moved)
{
	if (moved)
		m->moving += m->moving < MOVING_MAX;
	else
		m->moving -= m->moving < 2 ? m->moving : 2;
}

/* Move to the first entry of the next leaf, or the last entry of the one before; false when none.
 */
bool path_next_leaf(const struct extmap *m, struct path *p);
bool path_prev_leaf(const struct extmap *m, struct path *p);

/* Replace the leaf's entries [a, b) by the k of `with`, which must fit, and keep the tree's rules.
 * The path is invalid afterwards. */
void tree_splice(struct extmap *m, struct path *p, uint32_t a, uint32_t b,
	const struct extent *with, uint32_t k);

/* One step towards room for two more entries near `a` in the path's full leaf.  Seek again after
 * it. Needs OP_NODES reserved. */
void tree_make_room(struct extmap *m, struct path *p, uint32_t a);

/* Give memory back when more than a slab is free.  Call at the end of an update. */
void tree_trim(struct extmap *m);

#endif
