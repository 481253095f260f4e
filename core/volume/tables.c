/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tables.c - what goes into a checkpoint: ranges, the object table's changes, and what snapshots
 * keep from being deleted.
 *
 * Everything but the ranges is taken at the checkpoint's moment, at once.  Dead objects leave the
 * table then: to be deleted once the superblock names the checkpoint, or, when a snapshot needs
 * them, to the deferred ones, which are carried from checkpoint to checkpoint (I8).  What belongs
 * to a base image is only forgotten.
 */
#include "volume/checkpoint_impl.h"

#include "sys/crc.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LOW_LIVE_PERCENT = 25, LIVE_AIM = 64 };

int tables_room(void *array, uint32_t n, uint32_t *cap, size_t size)
{
	void **a = array, *p;

	if (n < *cap)
		return 0;
	p = realloc(*a, (*cap ? 2 * (size_t)*cap : 64) * size);
	if (!p)
		return -ENOMEM;
	*a = p;
	*cap = *cap ? 2 * *cap : 64;
	return 0;
}

#define ROOM(array, n, cap) tables_room(&(array), n, &(cap), sizeof(*(array)))

struct live_checkpoint *tables_find_live(struct checkpointer *c, uint64_t number)
{
	uint32_t lo = 0, hi = c->nlive;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (c->live[mid].x.number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->nlive && c->live[lo].x.number == number ? &c->live[lo] : NULL;
}

static bool of_base(const struct volume *v, uint64_t number)
{
	return superblock_base_of_checkpoint(v->sb, number) != NULL;
}

/* ---- ranges ---- */

static int encode_extent(void *arg, const struct extent *e)
{
	struct volume *v = arg;
	struct checkpointer *c = v->ckpt;
	const struct object *o = objmap_get(v->objects, place_slot(e->place));
	struct checkpoint_extent x = {.lba = e->lba,
		.len = (uint32_t)e->len,
		.seq = o->seq,
		.off = place_offset(e->place)};

	if (c->payload_len + CHECKPOINT_EXTENT_BYTES > c->payload_cap) {
		size_t cap = c->payload_cap ? 2 * c->payload_cap : 1 << 20;
		uint8_t *p = aligned_alloc(CHECKPOINT_ALIGN, cap); /* for O_DIRECT */

		if (!p)
			return -ENOMEM;
		if (c->payload_len)
			memcpy(p, c->payload, c->payload_len);
		free(c->payload);
		c->payload = p;
		c->payload_cap = cap;
	}
	checkpoint_put_extent(c->payload + c->payload_len, &x);
	c->payload_len += CHECKPOINT_EXTENT_BYTES;
	return 0;
}

static bool in_slices(const struct checkpointer *c, uint64_t range_or_seq)
{
	return c->cur.slices >> checkpoint_slice(range_or_seq) & 1;
}

static int note_dir(struct checkpointer *c, uint64_t range, uint32_t piece)
{
	struct range *x = &c->ranges.range[range];
	const struct range_dir *d = range_piece(x, piece);

	if (ROOM(c->dirs, c->ndirs, c->dirs_cap) < 0)
		return -ENOMEM;
	c->dirs[c->ndirs++] = (struct checkpoint_dir){.range = range,
		.piece = piece,
		.halvings = x->halvings,
		.number = d->number,
		.offset_bytes = d->offset_bytes,
		.extents = d->extents,
		.crc = d->crc};
	return 0;
}

static void forget_dir(struct checkpointer *c, const struct range_dir *d)
{
	struct live_checkpoint *old = d->extents ? tables_find_live(c, d->number) : NULL;

	if (old)
		old->live_bytes -= (uint64_t)d->extents * CHECKPOINT_EXTENT_BYTES;
}

static int encode_piece(struct volume *v, uint64_t r, uint32_t i)
{
	struct checkpointer *c = v->ckpt;
	struct range *x = &c->ranges.range[r];
	uint64_t len = c->ranges.sectors >> x->halvings;
	struct range_dir *d = range_piece(x, i);
	size_t at = c->payload_len;
	int rc = extmap_walk(v->map, r * c->ranges.sectors + i * len, len, encode_extent, v);

	if (rc < 0)
		return rc;
	forget_dir(c, d);
	*d = (struct range_dir){.number = c->cur.number,
		.offset_bytes = at,
		.extents = (uint32_t)((c->payload_len - at) / CHECKPOINT_EXTENT_BYTES),
		.crc = crc32c(0, c->payload + at, c->payload_len - at)};
	return 0;
}

static int count_extent(void *arg, const struct extent *e)
{
	struct checkpointer *c = arg;
	uint64_t part = c->ranges.sectors >> c->ranges.halvings_max;

	c->count[e->lba % c->ranges.sectors / part]++;
	return 0;
}

/* Cut a range anew, all of which is pending.  1: done, 0: it is best as it is. */
static int cut_range(struct volume *v, uint64_t r)
{
	struct checkpointer *c = v->ckpt;
	struct ranges *rs = &c->ranges;
	struct range *x = &rs->range[r];
	uint32_t best;
	int rc;

	memset(c->count, 0, sizeof(*c->count) << rs->halvings_max);
	extmap_walk(v->map, r * rs->sectors, rs->sectors, count_extent, c);
	best = ranges_best_cut(rs, c->count);
	x->uneven = false;
	if (best == x->halvings)
		return 0;
	for (uint32_t i = 0; i < range_count(x); i++)
		forget_dir(c, range_piece(x, i));
	rc = ranges_cut(rs, r, best);
	return rc < 0 ? rc : 1;
}

static int encode_pieces(struct volume *v, uint64_t r, uint32_t *work)
{
	struct checkpointer *c = v->ckpt;
	struct range *x = &c->ranges.range[r];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < range_count(x); i++) {
		if (!ranges_take_piece(&c->ranges, r, i))
			continue;
		rc = encode_piece(v, r, i);
		*work += range_piece(x, i)->extents + 8;
	}
	return rc;
}

/* 1: it was cut anew. */
static int encode(struct volume *v, uint64_t r, uint32_t *work)
{
	struct checkpointer *c = v->ckpt;
	struct range *x = &c->ranges.range[r];
	bool whole = ranges_wholly_pending(&c->ranges, r), uneven;
	size_t at = c->payload_len;
	int cut = whole && x->uneven ? cut_range(v, r) : 0, rc;

	rc = cut < 0 ? cut : encode_pieces(v, r, work);
	if (rc < 0 || cut)
		return rc < 0 ? rc : cut;
	uneven = ranges_is_uneven(&c->ranges, r);
	if (uneven && whole) {
		/* Only now it shows that it is too much for one piece, or too little for many. */
		cut = cut_range(v, r);
		if (cut != 1)
			return cut;
		c->payload_len = at;
		rc = encode_pieces(v, r, work);
		return rc < 0 ? rc : cut;
	}
	x->uneven = uneven;
	return 0;
}

uint32_t tables_encode_range(struct volume *v, uint64_t r)
{
	struct checkpointer *c = v->ckpt;
	struct range *x = &c->ranges.range[r];
	uint32_t work = 8;
	int cut = encode(v, r, &work), rc = cut < 0 ? cut : 0;

	ranges_taken(&c->ranges, r);
	/* What is listed with its slice is so at the end.  One entry at least says how it is cut.
	 */
	for (uint32_t i = 0; rc == 0 && !in_slices(c, r) && i < range_count(x); i++) {
		const struct range_dir *d = range_piece(x, i);

		if (d->number == c->cur.number && (d->extents || !cut || !x->halvings))
			rc = note_dir(c, r, i);
	}
	if (rc < 0)
		volume_fail(v, rc);
	return work;
}

/* ---- the object table's changes ---- */

void checkpoint_object_added(struct volume *v, uint32_t slot)
{
	struct checkpointer *c = v->ckpt;

	if (ROOM(c->added, c->nadded, c->added_cap) < 0) {
		volume_fail(v, -ENOMEM);
		return;
	}
	c->added[c->nadded++] = objmap_get(v->objects, slot)->seq;
}

void checkpoint_object_dead(struct volume *v, uint32_t slot, uint64_t died)
{
	struct checkpointer *c = v->ckpt;
	const struct object *o = objmap_get(v->objects, slot);

	/* What is not applied to its end yet may still gain live data. */
	if (o->flags & OBJECT_DEAD || o->seq > v->applied_seq)
		return;
	if (ROOM(c->dead, c->ndead, c->dead_cap) < 0) {
		volume_fail(v, -ENOMEM);
		return;
	}
	/* Nobody's garbage: a base's object does not count among the dead. */
	if (!(o->flags & OBJECT_BASE))
		c->dead_bytes += ((uint64_t)o->hdr_sectors + o->data_sectors) * 512;
	objmap_flag(v->objects, slot, OBJECT_DEAD, OBJECT_BASE);
	c->dead[c->ndead++] = (struct dead_object){.slot = slot, .died = died};
}

static int collect_object(struct checkpointer *c, const struct object *o)
{
	if (ROOM(c->objects, c->nobjects, c->objects_cap) < 0)
		return -ENOMEM;
	c->objects[c->nobjects++] = (struct checkpoint_object){.seq = o->seq,
		.epoch = o->epoch,
		.hdr_sectors = o->hdr_sectors,
		.data_sectors = o->data_sectors,
		.live_sectors = o->live_sectors,
		.flags = o->flags & ~(uint32_t)OBJECT_DEAD};
	return 0;
}

/* What is new, and the slices. */
static int collect_objects(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	int rc = 0;

	c->nobjects = 0;
	for (uint32_t i = 0; rc == 0 && i < c->nadded; i++) {
		uint32_t slot = objmap_find(v->objects, c->added[i]);

		if (slot != OBJMAP_NONE && !in_slices(c, c->added[i]))
			rc = collect_object(c, objmap_get(v->objects, slot));
	}
	c->nadded = 0;
	for (uint32_t s = objmap_next(v->objects, 0); rc == 0 && s != OBJMAP_NONE;
		s = objmap_next(v->objects, s + 1)) {
		const struct object *o = objmap_get(v->objects, s);

		if (in_slices(c, o->seq))
			rc = collect_object(c, o);
	}
	return rc;
}

static int doom_object(struct volume *v, uint64_t seq, uint64_t epoch, uint64_t bytes)
{
	struct checkpointer *c = v->ckpt;
	struct object_ref *ref;

	if (ROOM(c->doomed, c->ndoomed, c->doomed_cap) < 0)
		return -ENOMEM;
	ref = &c->doomed[c->ndoomed++];
	*ref = (struct object_ref){
		.epoch = epoch, .seq = seq, .data_bytes = (uint32_t)bytes, .store = v->store};
	memcpy(ref->uuid, v->sb->uuid, 16);
	volume_object_name(ref->name, v->name, epoch, seq);
	return 0;
}

/* Dead objects leave the table with this checkpoint, and the store after it, unless a snapshot
 * needs them (I8). */
static int bury(struct volume *v, const struct dead_object *dead)
{
	struct checkpointer *c = v->ckpt;
	const struct object *o = objmap_get(v->objects, dead->slot);
	struct checkpoint_deferred x = {.seq = o->seq,
		.epoch = o->epoch,
		.died = dead->died,
		.hdr_sectors = o->hdr_sectors,
		.data_sectors = o->data_sectors};
	bool base = superblock_base_of_object(v->sb, o->seq) != NULL;

	if (ROOM(c->removed, c->nremoved, c->removed_cap) < 0)
		return -ENOMEM;
	c->removed[c->nremoved++] = x.seq;
	objmap_remove(v->objects, dead->slot);
	if (base)
		return 0;
	if (!snapshots_need_object(c->snapshot, c->nsnapshots, x.seq, x.died))
		return doom_object(v, x.seq, x.epoch, (uint64_t)x.data_sectors * 512);
	if (!in_slices(c, x.seq)) {
		if (ROOM(c->deferred, c->ndeferred, c->deferred_cap) < 0)
			return -ENOMEM;
		c->deferred[c->ndeferred++] = x;
	}
	return deferred_add(&c->def, &x);
}

static int bury_dead(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->ndead; i++)
		rc = bury(v, &c->dead[i]);
	c->ndead = 0;
	c->dead_bytes = 0;
	return rc;
}

/* A snapshot is gone: so is what only it needed. */
static int release_deferred(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	int rc = 0;

	for (uint32_t s = objmap_next(c->def.objects, 0); rc == 0 && s != OBJMAP_NONE;
		s = objmap_next(c->def.objects, s + 1)) {
		struct checkpoint_deferred x;

		deferred_get(&c->def, s, &x);
		if (snapshots_need_object(c->snapshot, c->nsnapshots, x.seq, x.died))
			continue;
		if (ROOM(c->removed, c->nremoved, c->removed_cap) < 0)
			return -ENOMEM;
		c->removed[c->nremoved++] = x.seq;
		objmap_remove(c->def.objects, s);
		rc = doom_object(v, x.seq, x.epoch, (uint64_t)x.data_sectors * 512);
	}
	return rc;
}

static int collect_deferred(struct checkpointer *c)
{
	for (uint32_t s = objmap_next(c->def.objects, 0); s != OBJMAP_NONE;
		s = objmap_next(c->def.objects, s + 1)) {
		if (!in_slices(c, objmap_get(c->def.objects, s)->seq))
			continue;
		if (ROOM(c->deferred, c->ndeferred, c->deferred_cap) < 0)
			return -ENOMEM;
		deferred_get(&c->def, s, &c->deferred[c->ndeferred++]);
	}
	return 0;
}

/* ---- beginning ---- */

static int by_live_bytes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Checkpoint objects that are mostly dead, and the smallest of too many, are written again. */
static int choose_old(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	uint64_t *bytes, small = 0;
	uint32_t n = 0;

	if (c->nlive > LIVE_AIM) {
		bytes = malloc(c->nlive * sizeof(*bytes));
		if (!bytes)
			return -ENOMEM;
		for (uint32_t i = 0; i < c->nlive; i++)
			if (!of_base(v, c->live[i].x.number))
				bytes[n++] = c->live[i].live_bytes;
		qsort(bytes, n, sizeof(*bytes), by_live_bytes);
		if (n > LIVE_AIM)
			small = bytes[n - LIVE_AIM - 1];
		free(bytes);
	}
	for (uint32_t i = 0; i < c->nlive; i++) {
		struct live_checkpoint *l = &c->live[i];

		l->fold = !of_base(v, l->x.number) &&
			  (l->live_bytes <= small ||
				  l->live_bytes * 100 < l->x.payload_bytes * LOW_LIVE_PERCENT);
	}
	return 0;
}

/* Call fn for each range of the slices listed. */
static int walk_slices(struct checkpointer *c, int (*fn)(struct checkpointer *c, uint64_t r))
{
	int rc = 0;

	for (uint64_t slice = 0; rc == 0 && slice < CHECKPOINT_SLICES; slice++)
		for (uint64_t r = slice; rc == 0 && in_slices(c, slice) && r < c->ranges.n;
			r += CHECKPOINT_SLICES)
			rc = fn(c, r);
	return rc;
}

static int gather_old(struct checkpointer *c, uint64_t r)
{
	struct range *x = &c->ranges.range[r];

	for (uint32_t i = 0; i < range_count(x); i++) {
		const struct range_dir *d = range_piece(x, i);
		const struct live_checkpoint *l =
			d->extents ? tables_find_live(c, d->number) : NULL;

		if (l && l->fold)
			ranges_want_piece(&c->ranges, r, i);
	}
	return 0;
}

/* Slices are listed in turn: those that were listed longest ago. */
static void choose_slices(struct checkpointer *c)
{
	uint32_t oldest = 0;

	for (uint32_t i = 1; i < CHECKPOINT_SLICES; i++)
		if (c->slice_at[i] < c->slice_at[oldest])
			oldest = i;
	c->cur.slices = c->complete || !c->slice_at[oldest] ? CHECKPOINT_ALL_SLICES : 1u << oldest;
	c->cur.full_number = c->cur.number;
	for (uint32_t i = 0; i < CHECKPOINT_SLICES; i++)
		if (!(c->cur.slices >> i & 1) && c->slice_at[i] < c->cur.full_number)
			c->cur.full_number = c->slice_at[i];
}

int tables_begin(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	int rc;

	choose_slices(c);
	c->payload_len = 0;
	c->ndirs = c->nremoved = c->ndeferred = 0;
	c->scan = 0;
	ranges_take_dirty(&c->ranges);
	rc = choose_old(v);
	if (rc == 0)
		rc = walk_slices(c, gather_old);
	if (rc == 0)
		rc = bury_dead(v);
	if (rc == 0 && c->release)
		rc = release_deferred(v);
	if (rc == 0)
		rc = collect_deferred(c);
	if (rc == 0)
		rc = collect_objects(v);
	return rc;
}

/* ---- finishing ---- */

static int list_range(struct checkpointer *c, uint64_t r)
{
	struct range *x = &c->ranges.range[r];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < range_count(x); i++) {
		const struct range_dir *d = range_piece(x, i);

		if (d->extents || d->number == c->cur.number)
			rc = note_dir(c, r, i);
	}
	return rc;
}

/* Still needed: what has live ranges, and every delta that a reader begins with. */
static bool needed(const struct checkpointer *c, const struct live_checkpoint *l)
{
	return l->live_bytes || l->x.number >= c->cur.full_number;
}

static int doom_checkpoint(struct volume *v, const struct checkpoint_live *x)
{
	struct checkpointer *c = v->ckpt;
	struct object_ref *ref;

	if (ROOM(c->doomed, c->ndoomed, c->doomed_cap) < 0)
		return -ENOMEM;
	ref = &c->doomed[c->ndoomed++];
	*ref = (struct object_ref){.store = v->store};
	volume_ckpt_name(ref->name, v->name, x->epoch, x->number);
	return 0;
}

static int keep_or_doom(struct volume *v, const struct checkpoint_live *x)
{
	struct checkpointer *c = v->ckpt;
	struct checkpoint_kept k = {.x = *x, .died = c->cur.number};

	if (of_base(v, x->number))
		return 0;
	if (snapshots_need_checkpoint(c->snapshot, c->nsnapshots, x->number, k.died))
		return deferred_keep(&c->def, &k);
	return doom_checkpoint(v, x);
}

static int list_checkpoints(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	uint32_t n = 0;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && c->release && i < c->def.nkept; i++) {
		const struct checkpoint_kept *k = &c->def.kept[i];

		if (snapshots_need_checkpoint(c->snapshot, c->nsnapshots, k->x.number, k->died))
			c->def.kept[n++] = *k;
		else
			rc = doom_checkpoint(v, &k->x);
	}
	if (c->release)
		c->def.nkept = n;
	n = 0;
	for (uint32_t i = 0; rc == 0 && i < c->nlive; i++) {
		if (needed(c, &c->live[i]))
			c->live[n++] = c->live[i];
		else
			rc = keep_or_doom(v, &c->live[i].x);
	}
	c->nlive = n;
	if (rc == 0)
		rc = ROOM(c->live, c->nlive, c->live_cap);
	return rc;
}

static int build_meta(struct checkpointer *c)
{
	struct checkpoint_live *live = malloc((c->nlive + 1) * sizeof(*live));
	struct checkpoint_sections s = {.live = live,
		.objects = c->objects,
		.removed = c->removed,
		.dirs = c->dirs,
		.deferred = c->deferred,
		.kept = c->def.kept};

	free(c->meta);
	c->meta = NULL;
	c->cur.live = c->nlive;
	c->cur.objects = c->nobjects;
	c->cur.removed = c->nremoved;
	c->cur.dirs = c->ndirs;
	c->cur.deferred = c->ndeferred;
	c->cur.kept = c->def.nkept;
	c->cur.payload_bytes = c->payload_len;
	c->cur.meta_bytes = checkpoint_meta_bytes(&c->cur);
	if (!live || posix_memalign(&c->meta, CHECKPOINT_ALIGN, c->cur.meta_bytes)) {
		free(live);
		c->meta = NULL;
		return -ENOMEM;
	}
	c->live[c->nlive - 1].x.meta_bytes = c->cur.meta_bytes;
	for (uint32_t i = 0; i < c->nlive; i++)
		live[i] = c->live[i].x;
	checkpoint_encode(&c->cur, &s, c->meta);
	free(live);
	return 0;
}

int tables_finish(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	int rc = walk_slices(c, list_range);

	if (rc == 0)
		rc = list_checkpoints(v);
	if (rc < 0)
		return rc;
	/* In memory the lists are already as this one says: if it fails, so does the volume. */
	c->live[c->nlive++] = (struct live_checkpoint){.live_bytes = c->payload_len,
		.x = {.number = c->cur.number,
			.epoch = c->cur.epoch,
			.payload_bytes = c->payload_len}};
	return build_meta(c);
}

void tables_commit(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	for (uint32_t i = 0; i < CHECKPOINT_SLICES; i++)
		if (c->cur.slices >> i & 1)
			c->slice_at[i] = c->cur.number;
	c->number = c->cur.number;
	c->full_number = c->cur.full_number;
	c->last_bytes = c->cur.meta_bytes + c->payload_len;
	c->complete = c->release = false;
}
