/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* extmap_node.c - the B+-tree of the extent map; see extmap_node.h. */
#include "map/extmap_node.h"

#include <assert.h>
#include <string.h>

_Static_assert(sizeof(union extmap_node) == NODE_BYTES, "a node fills its slot");

enum {
	WINDOW = 4,		    /* leaves that share before one is added */
	SLACK = 32,		    /* free entries that make sharing worth while */
	REFILL = 224,		    /* entries a leaf gets when the last one takes the rest */
	INNER_MERGE = 300,	    /* two inner nodes with no more than this become one */
	FREE_MAX = SLAB_NODES + 64, /* free nodes kept; more than a slab and OP_NODES */
	TRIM_STEP = 32,		    /* nodes moved per update, and per node it freed */
	GUESSES = 4,		    /* before a search falls back to halving */
	LINE_KEYS = 8,		    /* in a cache line */
	MOVING = 8,		    /* of MOVING_MAX: what an update will move is asked for */
};

/* --- the way down --- */

/* The last i with key[i] <= x, 0 if none, by halving. */
static uint32_t search_between(const uint64_t *key, uint32_t from, uint32_t to, uint64_t x)
{
	while (to - from > 1) {
		uint32_t mid = from + (to - from) / 2;

		if (key[mid] <= x)
			from = mid;
		else
			to = mid;
	}
	return from;
}

/* Where lba should be, entries being spread evenly over [lo, hi). */
static inline uint32_t guess(uint32_t n, uint64_t lba, uint64_t lo, uint64_t hi)
{
	uint64_t g;

	if (lba <= lo)
		return 0;
	g = (lba - lo) * n / (hi - lo);
	return g < n ? (uint32_t)g : n - 1;
}

/* How many of key[from + 1 .. to] are <= x, without a branch that depends on them. */
static inline uint32_t count_upto(const uint64_t *key, uint32_t from, uint32_t to, uint64_t x)
{
	uint32_t n = 0;

	for (uint32_t i = from + 1; i <= to; i++)
		n += key[i] <= x;
	return n;
}

/* The last i with lba at or beyond key[i], 0 if none, in a node that covers [lo, hi); g is the
 * first guess.  A guess looks at one cache line, and each wrong one narrows what the next is made
 * from.  Whether the line's last key covers lba is asked first, to spare the next line: true of
 * inner keys too, since the n entries that end their key_end() take at least n sectors. */
static inline uint32_t search_near(
	const uint64_t *key, uint32_t n, uint64_t lba, uint64_t lo, uint64_t hi, uint32_t g)
{
	uint64_t x = key_make(lba, LEN_MASK);
	uint32_t from = 0, to = n;

	for (unsigned tries = 0; tries < GUESSES; tries++) {
		uint32_t line = g & ~7u, last = line + 7 < to ? line + 7 : to - 1;

		if (line < from)
			line = from;
		if (key[line] > x) {
			if (line == 0)
				return 0;
			to = line;
			hi = key_lba(key[line]);
		} else if ((key[last] > x) | (last + 1 == to) | (key_end(key[last]) > lba)) {
			return line + count_upto(key, line, last, x);
		} else if (key[last + 1] > x) {
			return last;
		} else {
			from = last + 1;
			lo = key_lba(key[from]);
		}
		g = from + guess(to - from, lba, lo, hi);
	}
	return search_between(key, from, to, x);
}

/* Ask for the two lines that an update of the entry at g needs.  (Asking for its neighbours' too,
 * which are in other lines one time in four, was measured: it makes every update slower.) */
static inline void prefetch_entry(const union extmap_node *leaf, uint32_t g)
{
	__builtin_prefetch(leaf->leaf.key + g);
	__builtin_prefetch(leaf->leaf.place + g);
}

/* Ask for what an update of the entry at about g, in a leaf of n, is going to touch: when it moves
 * entries, from the line before the guess, which may be a little too far, to the end. */
static inline void prefetch_update(
	const struct extmap *m, const union extmap_node *leaf, uint32_t g, uint32_t n)
{
	prefetch_entry(leaf, g);
	if (m->moving < MOVING)
		return;
	for (g = g > LINE_KEYS ? g - LINE_KEYS : 0; g < n; g += LINE_KEYS)
		prefetch_entry(leaf, g);
}

/* Search a node that may reach far beyond its last key. */
static inline uint32_t search_open(const uint64_t *key, uint32_t n, uint64_t lba)
{
	uint64_t lo, hi;

	if (n < 2)
		return 0;
	lo = key_lba(key[0]);
	hi = key_lba(key[n - 1]);
	if (hi <= lba)
		return n - 1;
	return search_near(key, n - 1, lba, lo, hi, guess(n - 1, lba, lo, hi));
}

static inline struct path_step *seek(
	const struct extmap *m, struct path *p, uint64_t lba, bool to_update)
{
	uint64_t lo = 0;
	uint32_t id = m->root, n = m->root_n, g;
	struct path_step *s = p->at;

	p->depth = m->height;
	p->end = EXTMAP_LBA_MAX;
	for (unsigned level = 0;; level++, s++) {
		s->id = id;
		s->n = n;
		s->node = node_get(m, id);
		if (p->end == EXTMAP_LBA_MAX) {
			s->i = search_open(s->node->key, n, lba);
		} else {
			g = guess(n, lba, lo, p->end);
			if (level < m->height)
				__builtin_prefetch(s->node->inner.child + g);
			else if (to_update)
				prefetch_update(m, s->node, g, n);
			else
				prefetch_entry(s->node, g);
			s->i = search_near(s->node->key, n, lba, lo, p->end, g);
		}
		if (level == m->height)
			return s;
		if (s->i + 1 < n)
			p->end = key_lba(s->node->key[s->i + 1]);
		id = s->node->inner.child[s->i];
		n = (uint32_t)(s->node->key[s->i] & LEN_MASK);
		lo = key_lba(s->node->key[s->i]);
	}
}

struct path_step *path_seek(const struct extmap *m, struct path *p, uint64_t lba)
{
	return seek(m, p, lba, false);
}

struct path_step *path_seek_to_update(const struct extmap *m, struct path *p, uint64_t lba)
{
	return seek(m, p, lba, true);
}

void tree_prefetch(const struct extmap *m, uint64_t lba)
{
	uint64_t lo = 0, end = EXTMAP_LBA_MAX;
	uint32_t id = m->root, n = m->root_n, i;

	if (m->height < 2)
		return; /* it is in the cache */
	for (unsigned level = 0; level < m->height; level++) {
		const union extmap_node *node = node_get(m, id);

		i = end == EXTMAP_LBA_MAX ? search_open(node->key, n, lba)
					  : search_near(node->key, n, lba, lo, end,
						    guess(n, lba, lo, end));
		if (i + 1 < n)
			end = key_lba(node->key[i + 1]);
		lo = key_lba(node->key[i]);
		id = node->inner.child[i];
		n = (uint32_t)(node->key[i] & LEN_MASK);
	}
	if (end != EXTMAP_LBA_MAX)
		prefetch_update(m, node_get(m, id), guess(n, lba, lo, end), n);
}

/* Set the step below `level` from the entry taken at `level`. */
static void step_down(const struct extmap *m, struct path *p, unsigned level)
{
	const struct path_step *up = &p->at[level];
	struct path_step *s = &p->at[level + 1];

	s->id = up->node->inner.child[up->i];
	s->n = (uint32_t)(up->node->key[up->i] & LEN_MASK);
	s->node = node_get(m, s->id);
}

bool path_next_leaf(const struct extmap *m, struct path *p)
{
	unsigned level = p->depth;

	do {
		if (level == 0)
			return false;
		level--;
	} while (p->at[level].i + 1 == p->at[level].n);
	p->at[level].i++;
	for (; level < p->depth; level++) {
		step_down(m, p, level);
		p->at[level + 1].i = 0;
	}
	p->end = EXTMAP_LBA_MAX;
	for (level = p->depth; level-- > 0;)
		if (p->at[level].i + 1 < p->at[level].n) {
			p->end = key_lba(p->at[level].node->key[p->at[level].i + 1]);
			break;
		}
	return true;
}

bool path_prev_leaf(const struct extmap *m, struct path *p)
{
	unsigned level = p->depth;
	uint64_t end = key_lba(path_leaf(p)->node->key[0]);

	do {
		if (level == 0)
			return false;
		level--;
	} while (p->at[level].i == 0);
	p->at[level].i--;
	for (; level < p->depth; level++) {
		step_down(m, p, level);
		p->at[level + 1].i = p->at[level + 1].n - 1;
	}
	p->end = end;
	return true;
}

/* Is the node at `level` the last one of its level? */
static bool is_rightmost(const struct path *p, unsigned level)
{
	while (level-- > 0)
		if (p->at[level].i + 1 != p->at[level].n)
			return false;
	return true;
}

/* Tell the levels above the first lba and the number of entries of the node at `level`. */
static void tell_up(struct extmap *m, struct path *p, unsigned level)
{
	for (; level > 0; level--) {
		struct path_step *s = &p->at[level], *up = s - 1;

		up->node->key[up->i] = key_make(key_lba(s->node->key[0]), s->n);
		if (up->i > 0)
			return;
	}
	m->root_n = p->at[0].n;
}

/* --- children of inner nodes --- */

static void move_children(
	union extmap_node *to, uint32_t at, const union extmap_node *from, uint32_t i, uint32_t n)
{
	memmove(to->inner.key + at, from->inner.key + i, n * sizeof(to->inner.key[0]));
	memmove(to->inner.child + at, from->inner.child + i, n * sizeof(to->inner.child[0]));
}

/* Open a gap of one child at i.  The caller fills it and tells up. */
static void open_child(struct path_step *s, uint32_t i)
{
	assert(s->n < INNER_CAP);
	move_children(s->node, i + 1, s->node, i, s->n - i);
	s->n++;
}

static void close_children(struct path_step *s, uint32_t i, uint32_t n)
{
	move_children(s->node, i, s->node, i + n, s->n - i - n);
	s->n -= n;
}

/* A new root above the old one. */
static void grow_root(struct extmap *m)
{
	uint32_t id = pool_alloc(&m->pool);

	assert(m->height < HEIGHT_MAX);
	set_child(node_get(m, id), 0, m->root, node_get(m, m->root), m->root_n);
	m->root = id;
	m->root_n = 1;
	m->height++;
}

/* Halve the full inner node at `level`, or do the same to its full parent first.  The last node
 * keeps all but one child when the insertion comes at its end: appending leaves full nodes. */
static void split_inner(struct extmap *m, struct path *p, unsigned level)
{
	struct path_step *s = &p->at[level], *up = s - 1;
	bool append = is_rightmost(p, level) && s->i + 1 == s->n;
	uint32_t keep = append ? s->n - 1 : s->n / 2, id;
	union extmap_node *right;

	if (level == 0) {
		grow_root(m);
		return;
	}
	if (up->n == INNER_CAP) {
		split_inner(m, p, level - 1);
		return;
	}
	id = pool_alloc(&m->pool);
	right = node_get(m, id);
	move_children(right, 0, s->node, keep, s->n - keep);
	open_child(up, up->i + 1);
	set_child(up->node, up->i + 1, id, right, s->n - keep);
	s->n = keep;
	tell_up(m, p, level);
	tell_up(m, p, level - 1);
}

/* A root with one child is no root; one without is an empty leaf. */
static void shrink_root(struct extmap *m)
{
	while (m->height > 0 && m->root_n <= 1) {
		union extmap_node *root = node_get(m, m->root);
		uint32_t old = m->root;

		if (m->root_n == 0) {
			m->height = 0;
			return;
		}
		m->root = root->inner.child[0];
		m->root_n = (uint32_t)(root->key[0] & LEN_MASK);
		m->height--;
		pool_free(&m->pool, old);
	}
}

/* Share the children of nodes i and i + 1 of `up` evenly, or put all into the first.  Returns
 * whether the second is gone. */
static bool share_inner(struct extmap *m, struct path_step *up, uint32_t i)
{
	uint64_t *key = up->node->inner.key + i;
	uint32_t *child = up->node->inner.child + i;
	uint32_t a = (uint32_t)(key[0] & LEN_MASK), b = (uint32_t)(key[1] & LEN_MASK);
	uint32_t want = a + b <= INNER_MERGE ? a + b : (a + b) / 2;
	union extmap_node *l = node_get(m, child[0]), *r = node_get(m, child[1]);

	if (want >= a) {
		move_children(l, a, r, 0, want - a);
		move_children(r, 0, r, want - a, a + b - want);
	} else {
		move_children(r, a - want, r, 0, b);
		move_children(r, 0, l, want, a - want);
	}
	set_child(up->node, i, child[0], l, want);
	if (want < a + b) {
		set_child(up->node, i + 1, child[1], r, a + b - want);
		return false;
	}
	pool_free(&m->pool, child[1]);
	close_children(up, i + 1, 1);
	return true;
}

/* The inner node at `level` lost children: bring it and those above back to their rules. */
static void inner_shrunk(struct extmap *m, struct path *p, unsigned level)
{
	for (;; level--) {
		struct path_step *s = &p->at[level], *up = s - 1;

		if (level == 0) {
			m->root_n = s->n;
			shrink_root(m);
			return;
		}
		if (s->n == 0) {
			pool_free(&m->pool, s->id);
			close_children(up, up->i, 1);
		} else {
			tell_up(m, p, level);
			if (s->n >= INNER_MIN || is_rightmost(p, level))
				return;
			if (!share_inner(m, up, up->i + 1 < up->n ? up->i : up->i - 1)) {
				tell_up(m, p, level - 1);
				return;
			}
		}
		if (up->n > 0)
			tell_up(m, p, level - 1);
	}
}

/* --- leaves --- */

/* A run of neighbouring leaves under one inner node. */
struct window {
	uint32_t first, n;
	uint32_t total; /* entries */
};

static struct window window_at(const struct path_step *up, uint32_t first, uint32_t n)
{
	struct window w = {.first = first, .n = n};

	for (uint32_t i = 0; i < n; i++)
		w.total += (uint32_t)(up->node->key[first + i] & LEN_MASK);
	return w;
}

/* The emptiest n neighbours that include the child taken. */
static struct window window_best(const struct path_step *up, uint32_t n)
{
	struct window best = {.total = UINT32_MAX}, w;
	uint32_t first;

	if (n > up->n)
		n = up->n;
	first = up->i + 1 >= n ? up->i + 1 - n : 0;
	for (; first <= up->i && first + n <= up->n; first++) {
		w = window_at(up, first, n);
		if (w.total < best.total)
			best = w;
	}
	return best;
}

struct gather {
	uint64_t key[(WINDOW + 1) * LEAF_CAP];
	uint64_t place[(WINDOW + 1) * LEAF_CAP];
};

static void gather(const struct extmap *m, const struct path_step *up, const struct window *w,
	struct gather *g)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		const union extmap_node *l = node_get(m, up->node->inner.child[w->first + i]);
		uint32_t n = (uint32_t)(up->node->key[w->first + i] & LEN_MASK);

		memcpy(g->key + at, l->leaf.key, n * sizeof(g->key[0]));
		memcpy(g->place + at, l->leaf.place, n * sizeof(g->place[0]));
		at += n;
	}
}

/* Write `n` gathered entries from `at` into the i-th child, which exists or is a fresh gap. */
static void scatter_one(struct extmap *m, struct path_step *up, uint32_t i, const struct gather *g,
	uint32_t at, uint32_t n)
{
	uint32_t id = up->node->inner.child[i];
	union extmap_node *l = node_get(m, id);

	memcpy(l->leaf.key, g->key + at, n * sizeof(g->key[0]));
	memcpy(l->leaf.place, g->place + at, n * sizeof(g->place[0]));
	set_child(up->node, i, id, l, n);
}

/* Rewrite the window as the leaves of sizes[0..n).  `up` is at `level`. */
static void reshape(struct extmap *m, struct path *p, unsigned level, const struct window *w,
	const uint32_t *sizes, uint32_t n)
{
	struct path_step *up = &p->at[level];
	struct gather g;
	uint32_t at = 0;

	gather(m, up, w, &g);
	for (uint32_t i = w->n; i < n; i++) {
		open_child(up, w->first + i);
		up->node->inner.child[w->first + i] = pool_alloc(&m->pool);
	}
	for (uint32_t i = n; i < w->n; i++)
		pool_free(&m->pool, up->node->inner.child[w->first + i]);
	if (n < w->n)
		close_children(up, w->first + n, w->n - n);
	for (uint32_t i = 0; i < n; at += sizes[i++])
		scatter_one(m, up, w->first + i, &g, at, sizes[i]);
	assert(at == w->total);
	if (n < w->n)
		inner_shrunk(m, p, level);
	else
		tell_up(m, p, level);
}

/* Share the window's entries among n leaves: evenly, or, when that would leave too little in each
 * (only where the last leaf of all is among them), well filled with the rest in the last. */
static void share(
	struct extmap *m, struct path *p, unsigned level, const struct window *w, uint32_t n)
{
	uint32_t sizes[WINDOW + 2], left = w->total;

	if (w->total / n >= LEAF_MIN) {
		for (uint32_t i = 0; i < n; i++) {
			sizes[i] = left / (n - i);
			left -= sizes[i];
		}
	} else {
		for (n = 0; left > 0; n++) {
			sizes[n] = left < REFILL ? left : REFILL;
			left -= sizes[n];
		}
	}
	reshape(m, p, level, w, sizes, n);
}

static uint32_t room(const struct window *w)
{
	return w->n * LEAF_CAP - w->total;
}

void tree_make_room(struct extmap *m, struct path *p, uint32_t a)
{
	unsigned level = p->depth - 1;
	struct path_step *s = path_leaf(p), *up = s - 1;
	struct window w;

	if (p->depth == 0) {
		grow_root(m);
		return;
	}
	if (a + 1 < s->n || p->end != EXTMAP_LBA_MAX) {
		w = window_best(up, 2);
		if (w.n < 2 || room(&w) < 2 * SLACK)
			w = window_best(up, WINDOW);
		if (room(&w) >= SLACK && w.n > 1) {
			share(m, p, level, &w, w.n);
			return;
		}
	} else {
		w = window_at(up, up->i, 1);
	}
	if (up->n == INNER_CAP)
		split_inner(m, p, level);
	else if (a + 1 < s->n || p->end != EXTMAP_LBA_MAX)
		share(m, p, level, &w, w.n + 1);
	else
		reshape(m, p, level, &w, (uint32_t[]){w.total - 1, 1}, 2); /* appending */
}

/* The leaf lost entries: bring it back to the fill rule. */
static void leaf_shrunk(struct extmap *m, struct path *p)
{
	struct path_step *s = path_leaf(p), *up = s - 1;
	struct window w;
	uint32_t first, n;

	if (p->depth == 0)
		return;
	if (s->n == 0) {
		pool_free(&m->pool, s->id);
		close_children(up, up->i, 1);
		if (up->n > 0)
			tell_up(m, p, p->depth - 1);
		inner_shrunk(m, p, p->depth - 1);
		return;
	}
	if (s->n >= LEAF_MIN || p->end == EXTMAP_LBA_MAX)
		return;
	n = up->n < WINDOW + 1 ? up->n : WINDOW + 1;
	first = up->i > n / 2 ? up->i - n / 2 : 0;
	if (first + n > up->n)
		first = up->n - n;
	w = window_at(up, first, n);
	share(m, p, p->depth - 1, &w, room(&w) >= LEAF_CAP + SLACK ? n - 1 : n);
}

void tree_splice(struct extmap *m, struct path *p, uint32_t a, uint32_t b,
	const struct extent *with, uint32_t k)
{
	struct path_step *s = path_leaf(p);
	uint64_t *key = s->node->leaf.key, *place = s->node->leaf.place;
	uint32_t n = s->n - (b - a) + k;

	assert(a <= b && b <= s->n && n <= LEAF_CAP);
	for (uint32_t i = a; i < b; i++)
		m->sectors -= key[i] & LEN_MASK;
	tree_moved(m, n != s->n);
	if (n != s->n) {
		memmove(key + a + k, key + b, (s->n - b) * sizeof(*key));
		memmove(place + a + k, place + b, (s->n - b) * sizeof(*place));
	}
	for (uint32_t i = 0; i < k; i++) {
		key[a + i] = key_make(with[i].lba, with[i].len);
		place[a + i] = with[i].place;
		m->sectors += with[i].len;
	}
	m->count = m->count + n - s->n;
	if (n == s->n && a > 0)
		return;
	b = s->n;
	s->n = n;
	if (n > 0 || p->depth == 0)
		tell_up(m, p, p->depth);
	if (n < b)
		leaf_shrunk(m, p);
}

/* --- giving memory back --- */

/* Move node `id` to the lowest free slot. */
static void relocate(struct extmap *m, uint32_t id)
{
	uint64_t lba = key_lba(node_get(m, id)->key[0]);
	uint32_t to = pool_alloc(&m->pool);
	struct path p;
	unsigned level = 0;

	memcpy(node_get(m, to), node_get(m, id), NODE_BYTES);
	path_seek(m, &p, lba);
	while (p.at[level].id != id) {
		assert(level < p.depth);
		level++;
	}
	if (level == 0)
		m->root = to;
	else
		p.at[level - 1].node->inner.child[p.at[level - 1].i] = to;
	pool_free(&m->pool, id);
}

/* A bounded number of moves per update, but enough to keep up with what the update freed. */
void tree_trim(struct extmap *m)
{
	uint32_t moves = TRIM_STEP + TRIM_STEP * m->pool.freed, id;

	m->pool.freed = 0;
	for (; moves > 0 && m->pool.nfree > FREE_MAX; moves--) {
		id = pool_last_slab_node(&m->pool);
		if (id == UINT32_MAX)
			pool_drop_last_slab(&m->pool);
		else
			relocate(m, id);
	}
	m->pool.freed = 0;
}
