/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * layout.c - see layout.h.
 *
 * Sorting by radix costs a few nanoseconds an extent, and is enough when no two extents overlap, or
 * only such of the same bounds: that is nearly every batch.  Else an extent map sorts it out, a slice
 * of the batch at a time.
 */
#include "volume/layout.h"

#include "sys/mutant.h"

#include <errno.h>
#include <stdlib.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, SLICE = 256, MANY_RUNS = 256 };

int layout_init(struct layout *l)
{
	*l = (struct layout){.map = extmap_new()};
	return l->map ? 0 : -ENOMEM;
}

void layout_fini(struct layout *l)
{
	if (l->map)
		extmap_free(l->map);
	free(l->piece);
	free(l->sorted);
	free(l->other);
	*l = (struct layout){0};
}

void layout_begin(struct layout *l)
{
	l->n = 0;
	l->inserted = 0;
	l->overlaps = false;
}

/* ---- sorting ---- */

static int room_for_keys(struct layout *l, uint32_t n)
{
	if (build_grow(&l->sorted, &l->sorted_cap, n, sizeof(*l->sorted)) < 0)
		return -ENOMEM;
	return build_grow(&l->other, &l->other_cap, n, sizeof(*l->other));
}

/* One pass by the digit at `shift`, from l->sorted; equal keys stay in their order. */
static void sort_digit(struct layout *l, uint32_t n, unsigned shift)
{
	struct layout_key *from = l->sorted, *to = l->other;
	uint32_t cap = l->sorted_cap, at[DIGITS] = {0}, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		at[from[i].key >> shift & (DIGITS - 1)]++;
	for (uint32_t d = 0; d < DIGITS; d++) {
		uint32_t count = at[d];

		at[d] = sum;
		sum += count;
	}
	for (uint32_t i = 0; i < n; i++)
		to[at[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
	l->sorted = to;
	l->sorted_cap = l->other_cap;
	l->other = from;
	l->other_cap = cap;
}

/* l->sorted by key. */
static void sort(struct layout *l, uint32_t n)
{
	uint64_t differ = 0;

	for (uint32_t i = 1; i < n; i++)
		differ |= l->sorted[i].key ^ l->sorted[0].key;
	for (unsigned shift = 0; shift < 64 && differ >> shift; shift += DIGIT_BITS)
		if (differ >> shift & (DIGITS - 1))
			sort_digit(l, n, shift);
}

/* ---- what survives ---- */

static bool has_data(const struct layout_piece *p)
{
	return p->pos != EXTMAP_ZERO;
}

/* b goes on where a ends, in LBA and in the log. */
static bool continues(const struct layout_piece *a, const struct layout_piece *b)
{
	if (a->lba + a->len != b->lba || (uint64_t)a->len + b->len > EXTMAP_LEN_MAX)
		return false;
	return has_data(a) ? a->pos + a->len == b->pos : !has_data(b);
}

static int add_piece(struct layout *l, const struct layout_piece *p)
{
	if (l->n && continues(&l->piece[l->n - 1], p)) {
		l->piece[l->n - 1].len += p->len;
		return 0;
	}
	if (build_grow(&l->piece, &l->piece_cap, l->n + 1, sizeof(*l->piece)) < 0)
		return -ENOMEM;
	l->piece[l->n++] = *p;
	return 0;
}

static uint64_t place_in_log(const struct journal_extent *x)
{
	return x->kind == EXTENT_DATA ? x->pos : EXTMAP_ZERO;
}

static uint32_t sort_by_lba(struct layout *l, const struct journal_extent *ext, uint32_t n)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = MUTANT(OLDEST_WINS) ? n - 1 - i : i;

		if (MUTANT(DROP_DISCARD) && ext[k].kind != EXTENT_DATA)
			continue;
		l->sorted[count++] = (struct layout_key){.key = ext[k].lba, .i = k};
	}
	sort(l, count);
	return count;
}

/* Cut where the map would cut it: applying one extent is one step of the loop's. */
static int add_cut(struct layout *l, struct layout_piece p)
{
	while (p.len > EXTMAP_LEN_MAX) {
		struct layout_piece first = p;

		first.len = EXTMAP_LEN_MAX;
		if (add_piece(l, &first) < 0)
			return -ENOMEM;
		p.lba += first.len;
		p.len -= first.len;
	}
	return add_piece(l, &p);
}

/* 1: done; 0: extents overlap in part, or -ENOMEM. */
static int take_sorted(struct layout *l, const struct journal_extent *ext, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct journal_extent *x = &ext[l->sorted[i].i];
		const struct journal_extent *next = i + 1 < n ? &ext[l->sorted[i + 1].i] : NULL;
		struct layout_piece p = {.lba = x->lba, .len = x->len, .pos = place_in_log(x)};

		if (next && next->lba < x->lba + x->len) {
			if (next->lba != x->lba || next->len != x->len)
				return 0;
			continue; /* the next one is newer */
		}
		if (add_cut(l, p) < 0)
			return -ENOMEM;
	}
	return 1;
}

static int insert_some(struct layout *l, const struct journal_extent *ext, uint32_t n)
{
	uint32_t end = n - l->inserted > SLICE ? l->inserted + SLICE : n;

	for (; l->inserted < end; l->inserted++) {
		const struct journal_extent *x =
			&ext[MUTANT(OLDEST_WINS) ? n - 1 - l->inserted : l->inserted];

		if (MUTANT(DROP_DISCARD) && x->kind != EXTENT_DATA)
			continue;
		if (extmap_insert(l->map, x->lba, x->len, place_in_log(x), NULL, NULL) < 0)
			return -ENOMEM;
	}
	return l->inserted == n;
}

static int take_mapped(void *arg, const struct extent *e)
{
	struct layout_piece p = {.lba = e->lba, .len = (uint32_t)e->len, .pos = e->place};

	return add_piece(arg, &p);
}

int layout_coalesce(struct layout *l, const struct journal_extent *ext, uint32_t n)
{
	int rc;

	if (!l->overlaps) {
		if (room_for_keys(l, n) < 0)
			return -ENOMEM;
		rc = take_sorted(l, ext, sort_by_lba(l, ext, n));
		if (rc)
			return rc;
		l->overlaps = true;
		l->n = 0;
		extmap_clear(l->map);
		return 0;
	}
	rc = insert_some(l, ext, n);
	if (rc != 1)
		return rc;
	rc = extmap_walk(l->map, 0, EXTMAP_LBA_MAX, take_mapped, l);
	return rc < 0 ? rc : 1;
}

/* ---- the order of the data ---- */

static bool same_run(const struct layout_piece *a, const struct layout_piece *b)
{
	return has_data(a) && has_data(b) && a->lba + a->len == b->lba;
}

/* Runs of pieces that continue each other in LBA; when there are many, in the order in which the log has
 * their first. */
static uint32_t sort_runs(struct layout *l)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < l->n; i++)
		if (has_data(&l->piece[i]) && !(i && same_run(&l->piece[i - 1], &l->piece[i])))
			l->sorted[n++] = (struct layout_key){.key = l->piece[i].pos, .i = i};
	if (n >= MANY_RUNS)
		sort(l, n);
	return n;
}

static uint32_t run_end(const struct layout *l, uint32_t first, uint64_t *len)
{
	uint32_t i = first;

	*len = 0;
	do
		*len += l->piece[i++].len;
	while (i < l->n && same_run(&l->piece[i - 1], &l->piece[i]));
	return i;
}

static int place_run(
	struct layout *l, struct build *b, uint32_t first, const struct layout_source *from)
{
	uint64_t len;
	uint32_t end = run_end(l, first, &len);
	int rc = build_zeroes(b, build_pad(l->piece[first].lba, len, b->data_sectors));

	for (uint32_t i = first; rc == 0 && i < end; i++) {
		struct layout_piece *p = &l->piece[i];
		const uint32_t *crcs = NULL;
		const void *mem = from->at(from->arg, p->pos, &crcs);

		rc = build_place(b, p->lba, p->len, mem, crcs, &p->off);
	}
	return rc;
}

int layout_build(struct layout *l, struct build *b, const struct layout_source *from)
{
	uint32_t runs;
	int rc = room_for_keys(l, l->n);

	if (rc < 0)
		return rc;
	runs = sort_runs(l);
	for (uint32_t i = 0; rc == 0 && i < runs; i++)
		rc = place_run(l, b, l->sorted[i].i, from);
	for (uint32_t i = 0; rc == 0 && i < l->n; i++) {
		const struct layout_piece *p = &l->piece[i];
		struct object_extent x = {.lba = p->lba,
			.len = p->len,
			.off = has_data(p) ? p->off : 0,
			.kind = has_data(p) ? EXTENT_DATA : EXTENT_ZERO};

		rc = build_extent(b, &x);
	}
	return rc;
}
