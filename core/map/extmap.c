/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extmap.c - the extent map: what an insert, a remove and a search mean; extmap_node.c keeps the
 * tree.
 *
 * Happy path: seek the leaf, find the entries [a, b) of it that the range touches, report what is
 * displaced, and put in their stead up to three extents: what is left over before the range, the
 * new one, what is left over behind, merged where they continue each other.  Overwriting an extent
 * by one of the same bounds changes just its place.
 *
 * Less happy: the leaf is full (make room, seek again), the range goes on in the next leaf (unmap
 * it first, leaf by leaf), a neighbour in another leaf continues the new extent (take it out,
 * insert both as one).  Nodes are reserved before the first change, so only that can fail.
 */
#include "map/extmap_node.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* What an update does to one leaf: the entries [a, b) give way to out[0..k). */
struct edit {
	uint32_t a, b, k;
	struct extent out[3];
};

struct extmap *extmap_new(void)
{
	struct extmap *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	if (pool_reserve(&m->pool, OP_NODES) < 0) {
		pool_fini(&m->pool);
		free(m);
		return NULL;
	}
	m->root = pool_alloc(&m->pool);
	return m;
}

void extmap_free(struct extmap *m)
{
	if (m)
		pool_fini(&m->pool);
	free(m);
}

void extmap_clear(struct extmap *m)
{
	pool_clear(&m->pool);
	*m = (struct extmap){.pool = m->pool};
	m->root = pool_alloc(&m->pool);
}

uint64_t extmap_count(const struct extmap *m)
{
	return m->count;
}

uint64_t extmap_sectors(const struct extmap *m)
{
	return m->sectors;
}

size_t extmap_memory(const struct extmap *m)
{
	return sizeof(*m) + pool_memory(&m->pool);
}

static int check_range(uint64_t lba, uint64_t len)
{
	return len == 0 || lba >= EXTMAP_LBA_MAX || len > EXTMAP_LBA_MAX - lba ? -EINVAL : 0;
}

static struct extent cut(struct extent e, uint64_t lba, uint64_t end)
{
	uint64_t stop = e.lba + e.len < end ? e.lba + e.len : end;

	if (e.lba < lba) {
		e.place += e.place == EXTMAP_ZERO ? 0 : lba - e.lba;
		e.lba = lba;
	}
	e.len = stop - e.lba;
	return e;
}

/* The entries of the leaf that [lba, end) touches: [a, b), empty and at the right place when none.
 */
static void edit_range(const struct path_step *s, uint64_t lba, uint64_t end, struct edit *ed)
{
	const uint64_t *key = s->node->leaf.key;
	uint32_t i = s->i;

	if (i < s->n && key_end(key[i]) <= lba)
		i++;
	ed->a = i;
	while (i < s->n && key_lba(key[i]) < end)
		i++;
	ed->b = i;
	ed->k = 0;
}

static void edit_add(struct edit *ed, struct extent e)
{
	if (ed->k > 0 && continues(&ed->out[ed->k - 1], &e))
		ed->out[ed->k - 1].len += e.len;
	else
		ed->out[ed->k++] = e;
}

static void add_left_over_before(struct edit *ed, const struct path_step *s, uint64_t lba)
{
	if (ed->a < ed->b && key_lba(s->node->leaf.key[ed->a]) < lba)
		edit_add(ed, cut(entry_get(s->node, ed->a), 0, lba));
}

static void add_left_over_behind(struct edit *ed, const struct path_step *s, uint64_t end)
{
	if (ed->a < ed->b && key_end(s->node->leaf.key[ed->b - 1]) > end)
		edit_add(ed, cut(entry_get(s->node, ed->b - 1), end, EXTMAP_LBA_MAX));
}

static bool edit_fits(const struct edit *ed, const struct path_step *s)
{
	return s->n - (ed->b - ed->a) + ed->k <= LEAF_CAP;
}

static void report(const struct edit *ed, const struct path_step *s, uint64_t lba, uint64_t end,
	extmap_displaced displaced, void *arg)
{
	if (!displaced)
		return;
	for (uint32_t i = ed->a; i < ed->b; i++) {
		struct extent old = cut(entry_get(s->node, i), lba, end);

		displaced(arg, &old);
	}
}

/* Unmap [lba, end), leaf by leaf.  Only cutting a hole into one extent needs room. */
static int unmap(
	struct extmap *m, uint64_t lba, uint64_t end, extmap_displaced displaced, void *arg)
{
	struct path p;
	struct path_step *s;
	struct edit ed;

	for (;;) {
		uint64_t next;

		s = path_seek_to_update(m, &p, lba);
		next = p.end;
		edit_range(s, lba, end, &ed);
		add_left_over_before(&ed, s, lba);
		add_left_over_behind(&ed, s, end);
		if (!edit_fits(&ed, s)) {
			if (pool_reserve(&m->pool, OP_NODES) < 0)
				return -ENOMEM;
			tree_make_room(m, &p, ed.a);
			continue;
		}
		report(&ed, s, lba, end, displaced, arg);
		if (ed.a < ed.b)
			tree_splice(m, &p, ed.a, ed.b, ed.out, ed.k);
		if (next >= end)
			return 0;
		lba = next;
	}
}

/* The entry of the previous leaf that `e`, first in the path's leaf, continues. */
static bool continues_prev_leaf(
	const struct extmap *m, const struct path *p, const struct extent *e, struct extent *prev)
{
	struct path q = *p;

	if (!path_prev_leaf(m, &q))
		return false;
	*prev = entry_get(path_leaf(&q)->node, path_leaf(&q)->i);
	return continues(prev, e);
}

/* The entry of the next leaf that continues `e`. */
static bool continued_in_next_leaf(
	const struct extmap *m, const struct path *p, const struct extent *e, struct extent *next)
{
	struct path q = *p;

	if (p->end != e->lba + e->len || !path_next_leaf(m, &q))
		return false;
	*next = entry_get(path_leaf(&q)->node, 0);
	return continues(e, next);
}

/* When an extent in another leaf makes one with `e`, unmap it and widen `e` by it. */
static bool take_neighbour(
	struct extmap *m, const struct path *p, const struct edit *ed, struct extent *e)
{
	const struct path_step *s = &p->at[p->depth];
	struct extent other;
	int r = 0;

	if (ed->a == 0 && ed->out[0].lba == e->lba && continues_prev_leaf(m, p, e, &other)) {
		r = unmap(m, other.lba, e->lba, NULL, NULL);
		e->lba = other.lba;
		e->place = other.place;
	} else if (ed->b == s->n && continued_in_next_leaf(m, p, e, &other)) {
		r = unmap(m, other.lba, other.lba + other.len, NULL, NULL);
	} else {
		return false;
	}
	assert(r == 0); /* taking out a whole entry needs no memory */
	e->len += other.len;
	return true;
}

/* The edit that maps e in the path's leaf, without regard to the entries beside it. */
static void edit_insert(struct edit *ed, const struct path_step *s, const struct extent *e)
{
	edit_range(s, e->lba, e->lba + e->len, ed);
	add_left_over_before(ed, s, e->lba);
	edit_add(ed, *e);
	add_left_over_behind(ed, s, e->lba + e->len);
}

/* Widen the edit by the entries beside it that continue it or that it continues. */
static void edit_merge(struct edit *ed, const struct path_step *s)
{
	struct extent *last = &ed->out[ed->k - 1], near;

	if (ed->a > 0) {
		near = entry_get(s->node, ed->a - 1);
		if (continues(&near, &ed->out[0])) {
			near.len += ed->out[0].len;
			ed->out[0] = near;
			ed->a--;
		}
	}
	if (ed->b < s->n) {
		near = entry_get(s->node, ed->b);
		if (continues(last, &near)) {
			last->len += near.len;
			ed->b++;
		}
	}
}

/* Map one extent of at most EXTMAP_LEN_MAX; the path is at its lba, nodes are reserved. */
static void put(
	struct extmap *m, struct path *p, struct extent e, extmap_displaced displaced, void *arg)
{
	for (;; path_seek_to_update(m, p, e.lba)) {
		struct path_step *s = path_leaf(p);
		struct edit ed;

		if (e.lba + e.len > p->end) {
			int r = unmap(m, e.lba, e.lba + e.len, displaced, arg);

			assert(r == 0); /* a range that leaves its leaf cuts no extent in two */
			continue;
		}
		edit_insert(&ed, s, &e);
		if (take_neighbour(m, p, &ed, &e))
			continue;
		if (!edit_fits(&ed, s)) {
			tree_make_room(m, p, ed.a);
			continue;
		}
		report(&ed, s, e.lba, e.lba + e.len, displaced, arg);
		edit_merge(&ed, s);
		tree_splice(m, p, ed.a, ed.b, ed.out, ed.k);
		return;
	}
}

/* The hot case: an extent of the same bounds gets a new place and continues no neighbour. */
static inline bool replace(struct extmap *m, struct path *p, const struct extent *e,
	extmap_displaced displaced, void *arg)
{
	struct path_step *s = path_leaf(p);
	uint64_t *key = s->node->leaf.key, *place = s->node->leaf.place;
	struct extent old = *e, near;
	uint32_t i = s->i;

	if (i == 0 || i + 1 >= s->n || key[i] != key_make(e->lba, e->len) ||
		e->len > EXTMAP_LEN_MAX)
		return false;
	near = entry_get(s->node, i - 1);
	if (continues(&near, e))
		return false;
	near = entry_get(s->node, i + 1);
	if (continues(e, &near))
		return false;
	old.place = place[i];
	if (displaced)
		displaced(arg, &old);
	place[i] = e->place;
	tree_moved(m, false);
	return true;
}

/* Nodes that mapping `len` sectors may need.  Of the extents a long run is kept as, every node
 * added for them takes at least 48. */
static uint32_t nodes_for(uint64_t len)
{
	return (uint32_t)(OP_NODES + len / EXTMAP_LEN_MAX / 48);
}

int extmap_insert(struct extmap *m, uint64_t lba, uint64_t len, uint64_t place,
	extmap_displaced displaced, void *arg)
{
	struct extent e = {.lba = lba, .len = len, .place = place};
	struct path p;

	if (check_range(lba, len) < 0)
		return -EINVAL;
	path_seek_to_update(m, &p, lba);
	if (replace(m, &p, &e, displaced, arg))
		return 0;
	if (pool_reserve(&m->pool, nodes_for(len)) < 0)
		return -ENOMEM;
	while (len > EXTMAP_LEN_MAX) {
		e.len = EXTMAP_LEN_MAX;
		put(m, &p, e, displaced, arg);
		e.lba += e.len;
		e.place += place == EXTMAP_ZERO ? 0 : e.len;
		len -= e.len;
		path_seek_to_update(m, &p, e.lba);
	}
	e.len = len;
	put(m, &p, e, displaced, arg);
	tree_trim(m);
	return 0;
}

int extmap_remove(
	struct extmap *m, uint64_t lba, uint64_t len, extmap_displaced displaced, void *arg)
{
	int r;

	if (check_range(lba, len) < 0)
		return -EINVAL;
	r = unmap(m, lba, lba + len, displaced, arg);
	tree_trim(m);
	return r;
}

bool extmap_find(const struct extmap *m, uint64_t lba, struct extent *e)
{
	struct path p;
	struct path_step *s;

	if (lba >= EXTMAP_LBA_MAX)
		return false;
	s = path_seek(m, &p, lba);
	if (s->i < s->n && key_end(s->node->leaf.key[s->i]) <= lba)
		s->i++;
	if (s->i == s->n && !path_next_leaf(m, &p))
		return false;
	*e = cut(entry_get(s->node, s->i), lba, EXTMAP_LBA_MAX);
	return true;
}

void extmap_prefetch(const struct extmap *m, uint64_t lba)
{
	if (lba < EXTMAP_LBA_MAX)
		tree_prefetch(m, lba);
}

int extmap_walk(const struct extmap *m, uint64_t lba, uint64_t len,
	int (*fn)(void *arg, const struct extent *e), void *arg)
{
	uint64_t end = len > EXTMAP_LBA_MAX - lba ? EXTMAP_LBA_MAX : lba + len;
	struct path p;
	struct path_step *s;

	if (lba >= EXTMAP_LBA_MAX || len == 0)
		return 0;
	s = path_seek(m, &p, lba);
	if (s->i < s->n && key_end(s->node->leaf.key[s->i]) <= lba)
		s->i++;
	do {
		for (; s->i < s->n; s->i++) {
			struct extent e = entry_get(s->node, s->i);
			int r;

			if (e.lba >= end)
				return 0;
			e = cut(e, lba, end);
			r = fn(arg, &e);
			if (r)
				return r;
		}
	} while (p.end < end && path_next_leaf(m, &p));
	return 0;
}
