/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * apply.c - durable objects enter the maps, strictly in order (I4), a slice at a time.
 *
 * Recovery uses the same functions on headers it read.
 */
#include "volume/volume_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>

/* An extent in the map lost `e->len` sectors of an object. */
static void lost(void *arg, const struct extent *e)
{
	struct volume *v = arg;
	uint32_t slot = place_slot(e->place);

	if (MUTANT(LEAK_LIVE) && e->len == 1)
		return;
	objmap_live(v->objects, slot, -(int64_t)e->len);
	if (objmap_get(v->objects, slot)->live_sectors == 0)
		checkpoint_object_dead(v, slot, v->applied_seq + 1);
}

static int map_insert(struct volume *v, uint32_t slot, uint64_t lba, uint64_t len, uint32_t off)
{
	int rc;

	checkpoint_touch(v, lba, len);
	objmap_live(v->objects, slot, (int64_t)len);
	rc = extmap_insert(v->map, lba, len, place_of(slot, off), lost, v);
	return rc;
}

/* Pieces of [lba, lba+len) that are still where a GC extent says they were. */
struct still_there {
	uint64_t lba[64], len[64];
	uint64_t lba0, old_place;
	uint32_t n;
};

static int note_still_there(void *arg, const struct extent *e)
{
	struct still_there *s = arg;

	if (e->place != s->old_place + (e->lba - s->lba0) && !MUTANT(MOVE_ALWAYS))
		return 0;
	if (s->n == 64)
		return 1;
	s->lba[s->n] = e->lba;
	s->len[s->n++] = e->len;
	return 0;
}

/* I9: a move counts only for sectors that nobody wrote since. */
static int apply_moved(struct volume *v, uint32_t slot, const struct object_extent *x)
{
	struct still_there s = {.lba0 = x->lba};
	uint64_t at = x->lba, end = x->lba + x->len;
	uint32_t old_slot = objmap_find(v->objects, x->old_seq);
	int more = 1, rc = 0;

	if (old_slot == OBJMAP_NONE)
		return 0;
	s.old_place = place_of(old_slot, x->old_off);
	while (more && rc == 0 && at < end) {
		s.n = 0;
		more = extmap_walk(v->map, at, end - at, note_still_there, &s);
		for (uint32_t i = 0; rc == 0 && i < s.n; i++) {
			rc = map_insert(v, slot, s.lba[i], s.len[i],
				x->off + (uint32_t)(s.lba[i] - x->lba));
			at = s.lba[i] + s.len[i];
		}
	}
	return rc;
}

int apply_extent(struct volume *v, uint32_t slot, const struct object_extent *x, bool moved)
{
	if (x->kind != EXTENT_DATA) {
		checkpoint_touch_removed(v, x->lba, x->len);
		return extmap_remove(v->map, x->lba, x->len, lost, v);
	}
	if (moved)
		return apply_moved(v, slot, x);
	return map_insert(v, slot, x->lba, x->len, x->off);
}

int apply_object(struct volume *v, const struct object_header *h, uint32_t *slot)
{
	struct object o = {.seq = h->seq,
		.epoch = h->epoch,
		.hdr_sectors = h->header_bytes / 512,
		.data_sectors = h->data_bytes / 512,
		.flags = h->flags & OBJECT_FLAG_GC ? OBJECT_GC : 0};
	int rc = objmap_add(v->objects, &o, slot);

	if (rc == 0)
		checkpoint_object_added(v, *slot);
	return rc;
}

void apply_done(struct volume *v, uint64_t seq, uint64_t covers)
{
	uint32_t slot = objmap_find(v->objects, seq);

	assert(seq == v->applied_seq + 1);
	v->applied_seq = seq;
	v->covers_applied = covers;
	/* Nothing of it is live (all overwritten, or only zeroes): gone with the next checkpoint.
	 */
	if (objmap_get(v->objects, slot)->live_sectors == 0)
		checkpoint_object_dead(v, slot, seq);
}

static void finish(struct volume *v, struct outgoing *o)
{
	v->out = o->next;
	if (!v->out)
		v->out_tail = &v->out;
	apply_done(v, o->b.h.seq, o->b.h.covers);
	v->new_object_bytes += build_bytes(&o->b);
	v->dirty_bytes -= o->client_bytes;
	if (o->end_pos)
		v->applied_pos = o->end_pos;
	if (o->b.h.flags & OBJECT_FLAG_GC && !o->flat) {
		v->stats.gc_bytes += o->b.h.data_bytes;
		objmap_set_born(v->objects, o->slot, o->born);
		gc_applied(v);
	}
	outgoing_recycle(v, o);
	if (v->journal)
		journal_covered(v->journal,
			MUTANT(TRIM_UNPUT) ? v->covers_put : v->covers_applied); /* I5 */
	if (v->pressed)
		destage_press(v);
	destage_check_drains(v);
	snapshots_due(v);
	checkpoint_maybe(v);
	gc_maybe(v);
}

static void apply_some(struct loop_task *t)
{
	struct volume *v = container_of(t, struct volume, apply_task);
	struct outgoing *o = v->out;
	uint32_t end;
	int rc = 0;

	if (MUTANT(APPLY_OUT_OF_ORDER) && o && !o->durable && o->next && o->next->durable) {
		v->out = o->next;
		o->next = v->out->next;
		v->out->next = o;
		if (!o->next)
			v->out_tail = &o->next;
		o = v->out;
	}
	if (!o || !o->durable || v->failed || (v->apply_held && !o->applied))
		return;
	if (o->applied == 0)
		rc = apply_object(v, &o->b.h, &o->slot);
	end = o->applied + APPLY_SLICE < o->b.h.extents ? o->applied + APPLY_SLICE : o->b.h.extents;
	for (; rc == 0 && o->applied < end; o->applied++) {
		if (o->applied + EXTMAP_AHEAD < o->b.h.extents) /* of the next slice too */
			extmap_prefetch(v->map, o->b.ext[o->applied + EXTMAP_AHEAD].lba);
		rc = apply_extent(v, o->slot, &o->b.ext[o->applied], o->b.h.flags & OBJECT_FLAG_GC);
	}
	if (rc < 0) {
		volume_fail(v, rc);
		return;
	}
	if (o->applied == o->b.h.extents)
		finish(v, o);
	apply_kick(v);
}

void apply_kick(struct volume *v)
{
	if (v->out && (v->out->durable || MUTANT(APPLY_OUT_OF_ORDER)))
		loop_background(v->loop, &v->apply_task);
}

void apply_init(struct volume *v)
{
	v->apply_task.run = apply_some;
}
