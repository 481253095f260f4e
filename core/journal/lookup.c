/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lookup.c - the journal map: what is where in the log, newest wins.
 *
 * Entries of segments that were given back are stale: lookups pass them over, and a sweep that goes
 * along with the records forgets them.
 */
#include "journal/journal_impl.h"

void journal_enter(struct journal *j, const struct journal_extent *x, uint64_t seq)
{
	int rc = extmap_insert(
		j->map, x->lba, x->len, x->kind == EXTENT_DATA ? x->pos : EXTMAP_ZERO, NULL, NULL);

	if (x->kind != EXTENT_DATA)
		j->last_zero_seq = seq;
	if (rc < 0)
		journal_fail(j, rc);
}

static bool stale(const struct journal *j, const struct extent *e)
{
	if (e->place == EXTMAP_ZERO)
		return j->last_zero_seq <= j->covered;
	return e->place < tail_pos(j);
}

/* What a sweep finds on its way: the first run of stale entries, with no other between them. */
struct sweep {
	const struct journal *j;
	uint32_t n;		/* entries still to look at */
	uint64_t at, stale_len; /* the run begins here; 0: none yet */
	uint64_t end;		/* of what was looked at */
};

static int sweep_extent(void *arg, const struct extent *e)
{
	struct sweep *s = arg;
	bool is_stale = stale(s->j, e);

	if (s->n == 0 || (s->stale_len && !is_stale))
		return 1;
	s->n--;
	s->end = e->lba + e->len;
	if (is_stale) {
		s->at = s->stale_len ? s->at : e->lba;
		s->stale_len = s->end - s->at;
	}
	return 0;
}

/* Forget map entries whose segments are gone, a few at a time, as records come in. */
void journal_sweep(struct journal *j, uint32_t n)
{
	struct sweep s = {.j = j, .n = n};

	if (!j->sweeping) {
		if (j->first_ord < j->sweep_tail + 1 + (j->segs_cap / 8))
			return;
		j->sweeping = true;
		j->sweep_tail = j->first_ord;
		j->sweep_lba = 0;
	}
	while (s.n && j->sweeping) {
		s.stale_len = 0;
		j->sweeping = extmap_walk(j->map, j->sweep_lba, EXTMAP_LBA_MAX, sweep_extent, &s);
		/* A removal that cannot get memory leaves stale entries: found again by the next
		 * sweep. */
		if (s.stale_len && extmap_remove(j->map, s.at, s.stale_len, NULL, NULL) < 0)
			return;
		j->sweep_lba = s.end;
	}
}

bool journal_find(struct journal *j, uint64_t lba, uint64_t len, struct journal_hit *hit)
{
	uint64_t end = lba + len;
	struct extent e;

	while (lba < end && extmap_find(j->map, lba, &e) && e.lba < end) {
		if (!stale(j, &e)) {
			hit->lba = e.lba;
			hit->len = e.lba + e.len > end ? end - e.lba : e.len;
			hit->pos = e.place;
			return true;
		}
		lba = e.lba + e.len;
	}
	return false;
}

const void *journal_memory(struct journal *j, uint64_t pos)
{
	uint64_t fs = journal_frame_sectors(j);
	struct frame *f = *frame_slot(j, pos / fs);

	if (!f || f->loading)
		return NULL;
	return f->mem + pos % fs * 512;
}

struct segment *journal_place(
	struct journal *j, uint64_t pos, uint32_t *block, uint32_t *sector_in_block)
{
	uint64_t in_seg = pos % j->seg_sectors;

	*block = (uint32_t)(in_seg / SECTORS_PER_BLOCK);
	*sector_in_block = (uint32_t)(in_seg % SECTORS_PER_BLOCK);
	return log_segment(j, pos / j->seg_sectors)->seg;
}

const uint32_t *journal_crcs(struct journal *j, uint64_t pos)
{
	uint32_t block, in_block;
	struct segment *s = journal_place(j, pos, &block, &in_block);

	return in_block ? NULL : pool_crcs(j->pool, s, block);
}
