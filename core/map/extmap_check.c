/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* extmap_check.c - does the extent map keep its own rules?  For tests; walks the whole tree. */
#include "map/extmap_node.h"

#include <errno.h>
#include <inttypes.h>

struct checker {
	const struct extmap *m;
	struct err *e;
	uint64_t count, sectors;
	uint64_t end;	/* of the last extent seen */
	uint64_t nodes; /* nodes seen */
};

static int check_leaf(struct checker *c, const union extmap_node *leaf, uint32_t n, bool last)
{
	if (n > LEAF_CAP || (n < LEAF_MIN && !last))
		return err_set(c->e, -EUCLEAN, "a leaf has %u entries", n);
	if (n == 0 && c->m->height > 0)
		return err_set(c->e, -EUCLEAN, "an empty leaf");
	for (uint32_t i = 0; i < n; i++) {
		uint64_t key = leaf->leaf.key[i];

		if ((key & LEN_MASK) == 0 || key_end(key) > EXTMAP_LBA_MAX)
			return err_set(c->e, -EUCLEAN, "extent at %" PRIu64 " has length %" PRIu64,
				key_lba(key), key & LEN_MASK);
		if (key_lba(key) < c->end)
			return err_set(c->e, -EUCLEAN,
				"extent at %" PRIu64 " begins before %" PRIu64, key_lba(key),
				c->end);
		c->end = key_end(key);
		c->count++;
		c->sectors += key & LEN_MASK;
	}
	return 0;
}

static int check_node(struct checker *c, uint32_t id, uint32_t n, unsigned level, bool last)
{
	const union extmap_node *node;

	if (!pool_used(&c->m->pool, id))
		return err_set(c->e, -EUCLEAN, "node %u is in use and free", id);
	c->nodes++;
	node = node_get(c->m, id);
	if (level == c->m->height)
		return check_leaf(c, node, n, last);
	if (n == 0 || n > INNER_CAP || (n < INNER_MIN && !last) || (level == 0 && n < 2))
		return err_set(
			c->e, -EUCLEAN, "an inner node at level %u has %u children", level, n);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t child = node->inner.child[i];
		int r = check_node(c, child, (uint32_t)(node->key[i] & LEN_MASK), level + 1,
			last && i + 1 == n);

		if (r < 0)
			return r;
		if (key_lba(node_get(c->m, child)->key[0]) != key_lba(node->key[i]))
			return err_set(c->e, -EUCLEAN,
				"key %u at level %u is not its child's first lba", i, level);
	}
	return 0;
}

int extmap_check(const struct extmap *m, struct err *e)
{
	struct checker c = {.m = m, .e = e};
	uint64_t free_nodes = 0;
	int r = check_node(&c, m->root, m->root_n, 0, true);

	if (r < 0)
		return r;
	if (c.count != m->count || c.sectors != m->sectors)
		return err_set(e, -EUCLEAN,
			"%" PRIu64 " extents, %" PRIu64 " sectors found; %" PRIu64 ", %" PRIu64
			" counted",
			c.count, c.sectors, m->count, m->sectors);
	for (uint32_t i = 0; i < m->pool.nslabs; i++)
		free_nodes += m->pool.slab[i].nfree;
	if (free_nodes != m->pool.nfree ||
		c.nodes + free_nodes != (uint64_t)m->pool.nslabs * SLAB_NODES)
		return err_set(e, -EUCLEAN, "%" PRIu64 " nodes lost",
			(uint64_t)m->pool.nslabs * SLAB_NODES - c.nodes - free_nodes);
	return 0;
}
