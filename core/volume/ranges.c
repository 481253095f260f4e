/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/ranges.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A random write dirties one piece: the fewer extents in it the better, but each piece has an entry
 * in the directory.  A piece may grow to GROWN before its range is cut anew. */
enum { PIECE_EXTENTS = 24, GROWN_EXTENTS = 64, PIECE_SECTORS_MIN = 64, HALVINGS_MAX = 12 };

static void set_bit(uint64_t *map, uint64_t i)
{
	map[i / 64] |= 1ull << (i % 64);
}

static void clear_bit(uint64_t *map, uint64_t i)
{
	map[i / 64] &= ~(1ull << (i % 64));
}

static uint64_t words(uint64_t bits)
{
	return (bits + 63) / 64;
}

/* ---- making ---- */

int ranges_init(
	struct ranges *rs, uint64_t range_sectors, uint64_t size_sectors, uint64_t max_sectors)
{
	*rs = (struct ranges){.sectors = range_sectors, .max = max_sectors / range_sectors};
	rs->n = (size_sectors + range_sectors - 1) / range_sectors;
	while (rs->halvings_max < HALVINGS_MAX &&
		range_sectors >> (rs->halvings_max + 1) >= PIECE_SECTORS_MIN)
		rs->halvings_max++;
	rs->range = calloc(rs->n, sizeof(*rs->range));
	rs->dirty = calloc(words(rs->n), 8);
	rs->pending = calloc(words(rs->n), 8);
	return rs->range && rs->dirty && rs->pending ? 0 : -ENOMEM;
}

void ranges_fini(struct ranges *rs)
{
	for (uint64_t r = 0; rs->range && r < rs->n; r++)
		if (rs->range[r].halvings)
			free(rs->range[r].many);
	free(rs->range);
	free(rs->dirty);
	free(rs->pending);
	*rs = (struct ranges){0};
}

static int grow(void *array, uint64_t was, uint64_t n, size_t size)
{
	void **a = array, *p = realloc(*a, n * size);

	if (!p)
		return -ENOMEM;
	memset((char *)p + was * size, 0, (n - was) * size);
	*a = p;
	return 0;
}

int ranges_resize(struct ranges *rs, uint64_t size_sectors)
{
	uint64_t n = (size_sectors + rs->sectors - 1) / rs->sectors;

	if (n <= rs->n)
		return 0;
	if (n > rs->max)
		return -EINVAL;
	if (grow(&rs->dirty, words(rs->n), words(n), 8) < 0 ||
		grow(&rs->pending, words(rs->n), words(n), 8) < 0 ||
		grow(&rs->range, rs->n, n, sizeof(*rs->range)) < 0)
		return -ENOMEM;
	rs->n = n;
	return 0;
}

/* ---- marks ---- */

static void set_all(uint64_t *map, uint32_t n)
{
	if (n < 64)
		map[0] = (1ull << n) - 1;
	else
		memset(map, 0xff, n / 8);
}

void ranges_mark(struct ranges *rs, uint64_t r, uint64_t lba, uint64_t len)
{
	struct range *x = &rs->range[r];
	uint64_t first = r * rs->sectors, end = first + rs->sectors, piece;

	set_bit(rs->dirty, r);
	if (!x->halvings)
		return;
	piece = rs->sectors >> x->halvings;
	if (lba > first)
		first = lba;
	if (lba + len < end)
		end = lba + len;
	for (uint64_t i = first % rs->sectors / piece; i <= (end - 1) % rs->sectors / piece; i++)
		set_bit(x->many->dirty, i);
}

void ranges_want_piece(struct ranges *rs, uint64_t r, uint32_t i)
{
	struct range *x = &rs->range[r];

	if (!ranges_bit(rs->pending, r))
		rs->npending++;
	set_bit(rs->pending, r);
	if (x->halvings)
		set_bit(x->many->pending, i);
}

static void take_range(struct ranges *rs, uint64_t r)
{
	struct range *x = &rs->range[r];
	uint64_t *t;

	rs->npending++;
	if (!x->halvings)
		return;
	t = x->many->pending;
	x->many->pending = x->many->dirty;
	x->many->dirty = t;
	memset(t, 0, words(range_count(x)) * 8);
	if (x->uneven)
		set_all(x->many->pending, range_count(x));
}

void ranges_take_dirty(struct ranges *rs)
{
	uint64_t *t = rs->pending;

	assert(!rs->npending);
	rs->pending = rs->dirty;
	rs->dirty = t;
	memset(t, 0, words(rs->n) * 8);
	for (uint64_t i = 0; i < words(rs->n); i++)
		for (uint64_t w = rs->pending[i]; w; w &= w - 1)
			take_range(rs, i * 64 + (uint64_t)__builtin_ctzll(w));
}

bool ranges_wholly_pending(const struct ranges *rs, uint64_t r)
{
	const struct range *x = &rs->range[r];

	for (uint32_t i = 0; x->halvings && i < range_count(x); i++)
		if (!ranges_bit(x->many->pending, i))
			return false;
	return ranges_bit(rs->pending, r);
}

bool ranges_take_piece(struct ranges *rs, uint64_t r, uint32_t i)
{
	struct range *x = &rs->range[r];

	if (!x->halvings)
		return true;
	if (!ranges_bit(x->many->pending, i))
		return false;
	clear_bit(x->many->pending, i);
	return true;
}

void ranges_taken(struct ranges *rs, uint64_t r)
{
	clear_bit(rs->pending, r);
	rs->npending--;
}

/* ---- cutting ---- */

static struct range_pieces *pieces_new(uint32_t n)
{
	uint64_t w = words(n);
	struct range_pieces *p = calloc(1, sizeof(*p) + n * sizeof(struct range_dir) + 2 * w * 8);

	if (!p)
		return NULL;
	p->dirty = (uint64_t *)(void *)&p->dir[n];
	p->pending = p->dirty + w;
	return p;
}

int ranges_cut(struct ranges *rs, uint64_t r, uint32_t halvings)
{
	struct range *x = &rs->range[r];
	struct range_pieces *p = NULL;

	if (halvings > rs->halvings_max)
		return -EINVAL;
	if (halvings && !(p = pieces_new(1u << halvings)))
		return -ENOMEM;
	if (x->halvings)
		free(x->many);
	*x = (struct range){.halvings = (uint8_t)halvings};
	if (!p)
		return 0;
	x->many = p;
	if (ranges_bit(rs->dirty, r))
		set_all(p->dirty, 1u << halvings);
	if (ranges_bit(rs->pending, r))
		set_all(p->pending, 1u << halvings);
	return 0;
}

uint32_t ranges_best_cut(const struct ranges *rs, uint32_t *count)
{
	uint32_t best = rs->halvings_max;

	for (uint32_t h = rs->halvings_max;; h--) {
		uint32_t most = 0;

		for (uint32_t i = 0; i < 1u << h; i++)
			most = count[i] > most ? count[i] : most;
		if (most > PIECE_EXTENTS)
			return best;
		best = h;
		if (!h)
			return best;
		for (uint32_t i = 0; i < 1u << (h - 1); i++)
			count[i] = count[2 * i] + count[2 * i + 1];
	}
}

bool ranges_is_uneven(const struct ranges *rs, uint64_t r)
{
	struct range *x = &rs->range[r];
	uint64_t sum = 0;
	bool full = false;

	for (uint32_t i = 0; i < range_count(x); i++) {
		sum += range_piece(x, i)->extents;
		full = full || range_piece(x, i)->extents > GROWN_EXTENTS;
	}
	return (full && x->halvings < rs->halvings_max) ||
	       (x->halvings && sum <= PIECE_EXTENTS / 2);
}

int ranges_walk(struct ranges *rs,
	int (*fn)(void *arg, uint64_t range, uint32_t piece, struct range_dir *d), void *arg)
{
	int rc = 0;

	for (uint64_t r = 0; rc == 0 && r < rs->n; r++)
		for (uint32_t i = 0; rc == 0 && i < range_count(&rs->range[r]); i++) {
			struct range_dir *d = range_piece(&rs->range[r], i);

			if (d->extents)
				rc = fn(arg, r, i, d);
		}
	return rc;
}
