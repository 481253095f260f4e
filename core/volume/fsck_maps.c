/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsck_maps.c - the object table and the map, built again from checkpoints and headers, every rule
 * of theirs checked on the way.
 *
 * As in load.c the newest checkpoint names those still needed; from the newest full one on each
 * adds its part; then the ranges are read from wherever the directory says, in windows; then the
 * objects after the checkpoint are applied.  A damaged link of the chain makes the table unknown
 * (table_ok false); a damaged range only leaves a hole in the map (map_ok false), and what would
 * follow from that hole is not reported.
 */
#include "volume/fsck_impl.h"

#include "format/block.h"
#include "sys/crc.h"
#include "volume/volume_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_BYTES = 8 << 20, LIVE_MAX = 1 << 16, PIECE_SECTORS_MIN = 64 };

/* ---- metas ---- */

/* Read a checkpoint's meta.  0: *meta and *h are good.  A positive value: a finding was made. */
static int read_meta(struct fsck *f, const char *name, uint64_t epoch, uint64_t number,
	struct checkpoint_header *h, uint8_t **meta, uint64_t *size)
{
	const struct superblock_base *base = superblock_base_of_checkpoint(f->sb, number);
	const uint8_t *uuid = base ? base->uuid : f->sb->uuid;
	uint8_t fixed[CHECKPOINT_FIXED_BYTES];
	struct err e = {.msg = ""};
	int64_t n = fsck_get(f, name, 0, fixed, sizeof(fixed), size, &e);
	int rc = n < 0 ? (int)n : checkpoint_decode_fixed(fixed, (size_t)n, h, &e);

	*meta = NULL;
	if (rc == 0 && h->meta_bytes > *size)
		rc = err_set(&e, -EUCLEAN,
			"cut off: %" PRIu64 " bytes, its meta alone should have %" PRIu64, *size,
			h->meta_bytes);
	if (rc == 0 && !(*meta = malloc(h->meta_bytes)))
		rc = -ENOMEM;
	if (rc == 0) {
		n = fsck_get(f, name, 0, *meta, h->meta_bytes, NULL, &e);
		rc = n < 0 ? (int)n
			   : checkpoint_decode(*meta, (size_t)n, uuid, epoch, number, h, &e);
	}
	if (rc == 0)
		return 0;
	rc = fsck_refused(f, name, 0, rc, &e);
	return rc < 0 ? rc : 1;
}

static struct fsck_checkpoint *find_checkpoint(const struct fsck *f, uint64_t number)
{
	for (uint32_t i = 0; i < f->nckpt; i++)
		if (f->ckpt[i].x.number == number)
			return &f->ckpt[i];
	return NULL;
}

bool fsck_has_checkpoint(const struct fsck *f, uint64_t epoch, uint64_t number)
{
	const struct fsck_checkpoint *c = find_checkpoint(f, number);

	return (c && c->x.epoch == epoch) || deferred_keeps(&f->def, epoch, number);
}

/* The list of checkpoints still needed: rising, and up to the newest. */
static int take_live(
	struct fsck *f, const char *name, const uint8_t *meta, const struct checkpoint_header *h)
{
	bool ok = h->live <= LIVE_MAX, full = false;

	f->ckpt = calloc(ok ? h->live : 1, sizeof(*f->ckpt));
	if (!f->ckpt)
		return -ENOMEM;
	for (uint32_t i = 0; ok && i < h->live; i++) {
		struct checkpoint_live *x = &f->ckpt[i].x;

		checkpoint_get_live(meta, h, i, x);
		ok = (i == 0 || x->number > f->ckpt[i - 1].x.number) && x->number <= h->number;
		full = full || x->number == h->full_number;
		f->nckpt++;
	}
	if (ok && full && f->ckpt[f->nckpt - 1].x.number == h->number)
		return 0;
	fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, name, CHECKPOINT_FIXED_BYTES,
		"the list of checkpoints still needed is impossible");
	return 1;
}

static bool of_base(const struct fsck *f, uint64_t number)
{
	return superblock_base_of_checkpoint(f->sb, number) != NULL;
}

/* Those that only snapshots need. */
static int take_kept(struct fsck *f, const uint8_t *meta, const struct checkpoint_header *h)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < h->kept && !of_base(f, h->number); i++) {
		struct checkpoint_kept k;

		checkpoint_get_kept(meta, h, i, &k);
		rc = deferred_keep(&f->def, &k);
	}
	return rc;
}

/* ---- object table ---- */

static int add_known(struct fsck *f, uint32_t slot)
{
	if (slot >= f->nknown) {
		uint32_t n = slot < 512 ? 1024 : 2 * slot;
		void *p = realloc(f->known, n * sizeof(*f->known));

		if (!p)
			return -ENOMEM;
		f->known = p;
		f->nknown = n;
	}
	f->known[slot] = (struct fsck_known){0};
	return 0;
}

static int add_object(struct fsck *f, const struct object *o, uint32_t *slot)
{
	int rc = objmap_add(f->objects, o, slot);

	return rc < 0 ? rc : add_known(f, *slot);
}

/* An object that the table has already: listed again by a full checkpoint. */
static bool agrees(struct fsck *f, uint32_t slot, const struct checkpoint_object *x)
{
	const struct object *o = objmap_get(f->objects, slot);

	return o->epoch == x->epoch && o->hdr_sectors == x->hdr_sectors &&
	       o->data_sectors == x->data_sectors;
}

static int take_object(struct fsck *f, const char *name, const struct checkpoint_header *h,
	uint32_t i, const struct checkpoint_object *x)
{
	uint32_t slot = objmap_find(f->objects, x->seq);
	bool base = superblock_base_of_object(f->sb, x->seq) != NULL;
	int rc = 0;

	if (x->seq > h->object_seq || (!base && x->epoch > h->epoch) || !x->hdr_sectors ||
		x->hdr_sectors % 8 || x->data_sectors % 8 || x->live_sectors > x->data_sectors ||
		x->flags & ~(uint32_t)OBJECT_FLAGS ||
		(slot != OBJMAP_NONE &&
			(f->known[slot].number == h->number || !agrees(f, slot, x)))) {
		fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, name, 0,
			"entry %u of the object table, for object %" PRIu64 ", is impossible", i,
			x->seq);
		return 1;
	}
	if (slot == OBJMAP_NONE) {
		struct object o = {.seq = x->seq,
			.epoch = x->epoch,
			.hdr_sectors = x->hdr_sectors,
			.data_sectors = x->data_sectors,
			.flags = (uint8_t)(x->flags & ~(uint32_t)OBJECT_DEAD)};

		rc = add_object(f, &o, &slot);
	}
	if (rc == 0) {
		f->known[slot].number = h->number;
		f->known[slot].listed_sectors = x->live_sectors;
	}
	return rc;
}

static int take_objects(
	struct fsck *f, const char *name, const uint8_t *meta, const struct checkpoint_header *h)
{
	uint32_t slot;
	int rc = 0;

	for (uint32_t i = 0; i < h->removed; i++) {
		slot = objmap_find(f->objects, checkpoint_get_removed(meta, h, i));
		if (slot != OBJMAP_NONE)
			objmap_remove(f->objects, slot);
		deferred_drop(&f->def, checkpoint_get_removed(meta, h, i));
	}
	for (uint32_t i = 0; rc == 0 && i < h->objects; i++) {
		struct checkpoint_object x;

		checkpoint_get_object(meta, h, i, &x);
		rc = take_object(f, name, h, i, &x);
	}
	/* What a base keeps is its own affair. */
	for (uint32_t i = 0; rc == 0 && i < h->deferred && !of_base(f, h->number); i++) {
		struct checkpoint_deferred x;

		checkpoint_get_deferred(meta, h, i, &x);
		rc = deferred_add(&f->def, &x);
	}
	return rc;
}

/* An object cannot be in the table and deferred; and what is deferred must be needed. */
static void check_deferred(struct fsck *f)
{
	char name[STORE_NAME_MAX];

	for (uint32_t s = objmap_next(f->def.objects, 0); s != OBJMAP_NONE;
		s = objmap_next(f->def.objects, s + 1)) {
		struct checkpoint_deferred x;

		deferred_get(&f->def, s, &x);
		volume_object_name(name, f->p->name, x.epoch, x.seq);
		if (objmap_find(f->objects, x.seq) != OBJMAP_NONE)
			fsck_find(f, FSCK_ERROR, FSCK_TABLE, name, 0,
				"it is in the object table, and deferred for a snapshot");
		else if (!snapshots_need_object(f->sb->snapshot, f->sb->snapshots, x.seq, x.died))
			fsck_find(f, FSCK_NOTE, FSCK_PENDING, name, 0,
				"kept for a snapshot that is gone; the next checkpoint lets it go");
	}
}

/* ---- directory ---- */

static int take_dirs(
	struct fsck *f, const char *name, const uint8_t *meta, const struct checkpoint_header *h)
{
	uint64_t range = f->sb->range_sectors;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < h->dirs; i++) {
		struct checkpoint_dir d;

		checkpoint_get_dir(meta, h, i, &d);
		if (d.range >= BLOCK_LBA_MAX / range || d.number > h->number ||
			(d.halvings && range >> d.halvings < PIECE_SECTORS_MIN) ||
			d.extents > range >> d.halvings) {
			fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, name, 0,
				"entry %u of the directory, for range %" PRIu64 ", is impossible",
				i, d.range);
			return 1;
		}
		rc = fsck_grow(&f->dir, f->ndirs, &f->dirs_cap, sizeof(*f->dir));
		if (rc == 0) {
			f->dir[f->ndirs] = (struct fsck_dir){.d = d, .order = f->ndirs};
			f->ndirs++;
		}
	}
	return rc;
}

static int by_range(const void *a, const void *b)
{
	const struct fsck_dir *x = a, *y = b;

	if (x->d.range != y->d.range)
		return x->d.range < y->d.range ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static int by_piece(const void *a, const void *b)
{
	const struct fsck_dir *x = a, *y = b;

	if (x->d.piece != y->d.piece)
		return x->d.piece < y->d.piece ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

/* Of what was listed of one range, what counts: since it was cut last, the last of each piece. */
static uint32_t settle_range(struct fsck_dir *d, uint32_t n, struct fsck_dir *out)
{
	uint32_t from = n - 1, kept = 0;

	while (from && d[from - 1].d.halvings == d[n - 1].d.halvings)
		from--;
	qsort(d + from, n - from, sizeof(*d), by_piece);
	for (uint32_t i = from; i < n; i++)
		if ((i + 1 == n || d[i + 1].d.piece != d[i].d.piece) && d[i].d.extents)
			out[kept++] = d[i];
	return kept;
}

static void settle_dirs(struct fsck *f)
{
	uint32_t n = 0;

	if (f->ndirs)
		qsort(f->dir, f->ndirs, sizeof(*f->dir), by_range);
	for (uint32_t i = 0, end; i < f->ndirs; i = end) {
		for (end = i + 1; end < f->ndirs && f->dir[end].d.range == f->dir[i].d.range;)
			end++;
		n += settle_range(f->dir + i, end - i, f->dir + n);
	}
	f->ndirs = n;
}

/* One checkpoint object: 1 when it could not be used. */
static int take_checkpoint(struct fsck *f, struct fsck_checkpoint *c)
{
	uint64_t expected = c->x.meta_bytes + c->x.payload_bytes, size;
	struct checkpoint_header h;
	char name[STORE_NAME_MAX];
	uint8_t *meta;
	int rc;

	volume_ckpt_name_in(f->sb, name, f->p->name, c->x.epoch, c->x.number);
	rc = read_meta(f, name, c->x.epoch, c->x.number, &h, &meta, &size);
	if (rc == 0 && (h.meta_bytes != c->x.meta_bytes || h.payload_bytes != c->x.payload_bytes)) {
		fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, name, 0,
			"its sizes are not those that the newest checkpoint gives");
		rc = 1;
	}
	c->usable = rc == 0 && size >= expected;
	if (rc == 0 && size != expected)
		fsck_find(f, size < expected ? FSCK_ERROR : FSCK_WARNING, FSCK_SIZE, name, size,
			"it has %" PRIu64 " bytes and should have %" PRIu64, size, expected);
	if (rc == 0 && c->x.number >= f->full_number) {
		rc = take_objects(f, name, meta, &h);
		if (rc == 0)
			rc = take_dirs(f, name, meta, &h);
	}
	free(meta);
	return rc;
}

/* ---- ranges ---- */

static int bad_extent(struct fsck *f, const char *name, uint64_t at, const char *why,
	const struct checkpoint_extent *x)
{
	fsck_find(f, FSCK_ERROR, FSCK_MAP, name, at,
		"%s: %u sectors at %" PRIu64 ", in object %" PRIu64 " at sector %u", why, x->len,
		x->lba, x->seq, x->off);
	f->map_ok = false;
	return 0;
}

static int take_extent(struct fsck *f, const char *name, uint64_t at,
	const struct checkpoint_extent *x, uint64_t low, uint64_t high)
{
	uint32_t slot = objmap_find(f->objects, x->seq);
	int rc;

	if (!x->len || x->lba < low || x->lba >= high || x->len > high - x->lba)
		return bad_extent(f, name, at, "an extent is out of place", x);
	if (x->lba + x->len > f->sb->size_sectors)
		return bad_extent(f, name, at, "an extent is beyond the end of the image", x);
	if (slot == OBJMAP_NONE)
		return bad_extent(f, name, at, "an extent is in an object there is not", x);
	if ((uint64_t)x->off + x->len > objmap_get(f->objects, slot)->data_sectors)
		return bad_extent(f, name, at, "an extent is beyond its object's data", x);
	rc = extmap_insert(f->map, x->lba, x->len, place_of(slot, x->off), NULL, NULL);
	if (rc == 0)
		f->known[slot].live_sectors += x->len;
	return rc == -EINVAL ? bad_extent(f, name, at, "an extent is out of place", x) : rc;
}

static uint64_t dir_bytes(const struct checkpoint_dir *d)
{
	return (uint64_t)d->extents * CHECKPOINT_EXTENT_BYTES;
}

static int take_range(struct fsck *f, const struct fsck_checkpoint *c, const char *name,
	const struct checkpoint_dir *d, const uint8_t *p)
{
	uint64_t len = f->sb->range_sectors >> d->halvings;
	uint64_t low = d->range * f->sb->range_sectors + d->piece * len, high = low + len;
	uint64_t at = c->x.meta_bytes + d->offset_bytes;
	int rc = 0;

	if (crc32c(0, p, dir_bytes(d)) != d->crc) {
		fsck_find(f, FSCK_ERROR, FSCK_CHECKSUM, name, at,
			"range %" PRIu64 " (sectors %" PRIu64 " to %" PRIu64
			"): checksum does not match",
			d->range, low, high);
		f->map_ok = false;
		return 0;
	}
	for (uint32_t i = 0; rc == 0 && i < d->extents; i++) {
		struct checkpoint_extent x;

		checkpoint_get_extent(p + (size_t)i * CHECKPOINT_EXTENT_BYTES, &x);
		rc = take_extent(f, name, at + (size_t)i * CHECKPOINT_EXTENT_BYTES, &x, low, high);
		low = x.lba + x.len;
	}
	return rc;
}

/* Ranges in order of where they lie, so that one read brings many. */
static int by_place(const void *a, const void *b)
{
	const struct checkpoint_dir *x = &((const struct fsck_dir *)a)->d,
				    *y = &((const struct fsck_dir *)b)->d;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->offset_bytes < y->offset_bytes ? -1 : x->offset_bytes > y->offset_bytes;
}

/* The checkpoint that has this range; NULL when that one is not usable or the range not in it. */
static const struct fsck_checkpoint *home_of(struct fsck *f, const struct checkpoint_dir *d)
{
	const struct fsck_checkpoint *c = find_checkpoint(f, d->number);
	bool inside = c && d->offset_bytes <= c->x.payload_bytes &&
		      dir_bytes(d) <= c->x.payload_bytes - d->offset_bytes;

	if (!c)
		fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, NULL, 0,
			"range %" PRIu64 " is in checkpoint %" PRIu64 ", which is not listed",
			d->range, d->number);
	else if (!inside)
		fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, NULL, 0,
			"range %" PRIu64 " lies outside checkpoint %" PRIu64, d->range, d->number);
	if (inside && c->usable)
		return c;
	f->map_ok = false;
	return NULL;
}

static uint64_t dir_end(const struct fsck_dir *x)
{
	return x->d.offset_bytes + dir_bytes(&x->d);
}

/* As many ranges from d[0] on as one window holds; *taken: how many that were. */
static int take_window(struct fsck *f, const struct fsck_dir *d, uint64_t n, uint8_t *buf,
	uint64_t room, uint64_t *taken)
{
	const struct fsck_checkpoint *c = home_of(f, &d->d);
	uint64_t begin = d->d.offset_bytes, end = dir_end(d);
	struct err e = {.msg = ""};
	char name[STORE_NAME_MAX];
	int64_t got;
	int rc = 0;

	*taken = 1;
	if (!c)
		return 0;
	for (; *taken < n && d[*taken].d.number == d->d.number &&
		dir_end(&d[*taken]) <= begin + room && dir_end(&d[*taken]) <= c->x.payload_bytes;
		++*taken)
		if (dir_end(&d[*taken]) > end)
			end = dir_end(&d[*taken]);
	volume_ckpt_name_in(f->sb, name, f->p->name, c->x.epoch, c->x.number);
	got = fsck_get(f, name, c->x.meta_bytes + begin, buf, end - begin, NULL, &e);
	if (got != (int64_t)(end - begin)) {
		f->map_ok = false;
		return fsck_refused(
			f, name, c->x.meta_bytes + begin, got < 0 ? (int)got : -EIO, &e);
	}
	for (uint64_t i = 0; rc == 0 && i < *taken; i++)
		rc = take_range(f, c, name, &d[i].d, buf + (d[i].d.offset_bytes - begin));
	return rc;
}

static int take_ranges(struct fsck *f)
{
	uint64_t room = WINDOW_BYTES, taken = 0, n;
	uint8_t *buf;
	int rc = 0;

	settle_dirs(f);
	n = f->ndirs;
	for (uint64_t i = 0; i < n; i++)
		if (dir_bytes(&f->dir[i].d) > room)
			room = dir_bytes(&f->dir[i].d);
	if (!n)
		return 0;
	qsort(f->dir, n, sizeof(*f->dir), by_place);
	buf = malloc(room);
	if (!buf)
		return -ENOMEM;
	for (uint64_t i = 0; rc == 0 && i < n; i += taken) {
		rc = take_window(f, f->dir + i, n - i, buf, room, &taken);
		if (rc == 0)
			rc = fsck_progress(f, "map", i + taken, n);
	}
	free(buf);
	return rc;
}

/* The counts of the newest checkpoint are of its very moment; older ones can only have sunk. */
static void check_live(struct fsck *f, uint64_t newest)
{
	char name[STORE_NAME_MAX];

	for (uint32_t s = objmap_next(f->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(f->objects, s + 1)) {
		const struct object *o = objmap_get(f->objects, s);
		const struct fsck_known *k = &f->known[s];

		if (k->live_sectors == k->listed_sectors ||
			(k->live_sectors < k->listed_sectors && k->number != newest))
			continue;
		volume_object_name_in(f->sb, name, f->p->name, o->epoch, o->seq);
		fsck_find(f, FSCK_WARNING, FSCK_LIVE, name, 0,
			"checkpoint %" PRIu64 " counts %u live sectors, the map has %" PRIu64,
			k->number, k->listed_sectors, k->live_sectors);
	}
}

static int take_chain(struct fsck *f)
{
	bool broken = false;
	int rc = 0;

	for (uint32_t i = 0; rc >= 0 && i < f->nckpt; i++) {
		rc = take_checkpoint(f, &f->ckpt[i]);
		if (rc == 1 && f->ckpt[i].x.number >= f->full_number)
			broken = true;
		if (rc >= 0)
			rc = fsck_progress(f, "checkpoints", i + 1, f->nckpt);
	}
	if (rc < 0 || broken)
		return rc < 0 ? rc : 1;
	if (!f->view)
		check_deferred(f);
	rc = take_ranges(f);
	if (rc == 0 && f->map_ok)
		check_live(f, f->ckpt[f->nckpt - 1].x.number);
	return rc;
}

/* Objects after the checkpoint are looked for from here on. */
static void check_begin(struct fsck *f)
{
	char name[STORE_NAME_MAX];

	if (f->sb->epoch[0].first_seq <= f->object_seq + 1)
		return;
	snprintf(name, sizeof(name), "%s/super", f->p->name);
	fsck_find(f, FSCK_ERROR, FSCK_EPOCH, name, 0,
		"its table of epochs begins with object %" PRIu64
		", but the checkpoint ends with object %" PRIu64,
		f->sb->epoch[0].first_seq, f->object_seq);
	f->table_ok = false;
}

int fsck_load_checkpoints(struct fsck *f)
{
	const struct superblock *sb = f->sb;
	struct checkpoint_header h;
	char name[STORE_NAME_MAX];
	uint8_t *meta;
	uint64_t size;
	int rc = 0;

	if (sb->checkpoint) {
		volume_ckpt_name_in(sb, name, f->p->name, sb->checkpoint_epoch, sb->checkpoint);
		rc = read_meta(f, name, sb->checkpoint_epoch, sb->checkpoint, &h, &meta, &size);
		if (rc == 0) {
			f->full_number = h.full_number;
			f->object_seq = h.object_seq;
			f->covers = h.covers;
			rc = take_live(f, name, meta, &h);
			if (rc == 0)
				rc = take_kept(f, meta, &h);
		}
		free(meta);
		f->map_ok = true;
		if (rc == 0)
			rc = take_chain(f);
		if (!f->view)
			f->r->checkpoints = f->nckpt;
	}
	if (rc)
		return rc < 0 ? rc : 0;
	f->table_ok = true;
	f->map_ok = f->map_ok || !sb->checkpoint;
	f->applied_seq = f->object_seq;
	if (!f->view)
		check_begin(f);
	return 0;
}

/* ---- objects after the checkpoint ---- */

static void lost(void *arg, const struct extent *e)
{
	struct fsck *f = arg;

	f->known[place_slot(e->place)].live_sectors -= e->len;
}

static int insert(struct fsck *f, uint32_t slot, uint64_t lba, uint64_t len, uint32_t off)
{
	int rc = extmap_insert(f->map, lba, len, place_of(slot, off), lost, f);

	if (rc == 0)
		f->known[slot].live_sectors += len;
	return rc;
}

/* The first piece at or after *at that is still where a move took it from. */
struct piece {
	uint64_t lba, len, lba0, old_place;
};

static int still_there(void *arg, const struct extent *e)
{
	struct piece *p = arg;

	if (e->place != p->old_place + (e->lba - p->lba0))
		return 0;
	p->lba = e->lba;
	p->len = e->len;
	return 1;
}

/* I9: a move counts only for sectors that nobody wrote since. */
static int apply_move(struct fsck *f, uint32_t slot, const struct object_extent *x)
{
	uint32_t old = objmap_find(f->objects, x->old_seq);
	uint64_t at = x->lba, end = x->lba + x->len;
	int rc = 0;

	while (rc == 0 && old != OBJMAP_NONE && at < end) {
		struct piece p = {.lba0 = x->lba, .old_place = place_of(old, x->old_off)};

		if (!extmap_walk(f->map, at, end - at, still_there, &p))
			return 0;
		rc = insert(f, slot, p.lba, p.len, x->off + (uint32_t)(p.lba - x->lba));
		at = p.lba + p.len;
	}
	return rc;
}

static int apply_header(
	struct fsck *f, uint32_t slot, const uint8_t *buf, const struct object_header *h)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < h->extents; i++) {
		struct object_extent x;

		object_get_extent(buf, h, i, &x);
		if (x.kind != EXTENT_DATA)
			rc = extmap_remove(f->map, x.lba, x.len, lost, f);
		else if (x.lba + x.len > f->sb->size_sectors)
			continue; /* written before the image was shrunk */
		else if (h->flags & OBJECT_FLAG_GC)
			rc = apply_move(f, slot, &x);
		else
			rc = insert(f, slot, x.lba, x.len, x.off);
	}
	return rc == -EINVAL ? 0 : rc;
}

/* An object whose header is damaged is part of the image all the same. */
static int take_damaged(struct fsck *f, uint64_t epoch, uint64_t seq)
{
	struct object o = {.seq = seq, .epoch = epoch};
	uint32_t slot;
	int rc = add_object(f, &o, &slot);

	f->map_ok = false;
	if (rc == 0)
		f->known[slot].bad = true;
	return rc;
}

static int take_after(
	struct fsck *f, const char *name, const uint8_t *buf, const struct object_header *h)
{
	struct object o = {.seq = h->seq,
		.epoch = h->epoch,
		.hdr_sectors = h->header_bytes / 512,
		.data_sectors = h->data_bytes / 512,
		.flags = h->flags & OBJECT_FLAG_GC ? OBJECT_GC : 0};
	uint32_t slot;
	int rc;

	if (h->covers < f->covers)
		fsck_find(f, FSCK_ERROR, FSCK_STRUCTURE, name, 0,
			"it covers the journal up to record %" PRIu64
			", what is before it up to %" PRIu64,
			h->covers, f->covers);
	else
		f->covers = h->covers;
	rc = add_object(f, &o, &slot);
	return rc < 0 ? rc : apply_header(f, slot, buf, h);
}

/* The next object of the image after `seq` that the store has; 0: none. */
static uint64_t next_there(const struct fsck *f, uint64_t seq)
{
	uint64_t next = 0, epoch, s;

	for (uint32_t i = 0; i < f->nnames; i++)
		if (fsck_parse_object(strchr(f->names[i].name, '/') + 1, &epoch, &s) && s > seq &&
			superblock_epoch_of(f->sb, s) == epoch && (!next || s < next))
			next = s;
	return next;
}

/* Only the last epoch has an open end (I6).  The next object to look at; 0: that was all. */
static uint64_t take_hole(struct fsck *f, const char *name, uint64_t epoch, uint64_t seq)
{
	uint64_t next;

	if (epoch == f->r->epoch)
		return 0;
	next = next_there(f, seq);
	fsck_find(f, FSCK_ERROR, FSCK_MISSING, name, 0,
		"it is missing, and later ones were written after it");
	f->map_ok = false;
	return next;
}

/* Where to go on after an object that could not be read: the store may fail for good, so only to
 * what it was seen to have. */
static uint64_t after_damaged(const struct fsck *f, uint64_t epoch, uint64_t seq)
{
	uint64_t next = next_there(f, seq);

	return epoch != f->r->epoch || next == seq + 1 ? next : 0;
}

/* The object at *seq, and *seq becomes the next to look at; 0: that was all. */
static int take_next(struct fsck *f, uint64_t *seq)
{
	uint64_t epoch = superblock_epoch_of(f->sb, *seq), size;
	struct err e = {.msg = ""};
	struct object_header h;
	char name[STORE_NAME_MAX];
	uint8_t *buf;
	int rc;

	volume_object_name(name, f->p->name, epoch, *seq);
	rc = fsck_read_header(f, name, epoch, *seq, &h, &buf, &size, &e);
	if (rc == -ENOENT) {
		free(buf);
		*seq = take_hole(f, name, epoch, *seq);
		return 0;
	}
	f->applied_seq = *seq;
	f->r->objects_after++;
	if (rc == 0) {
		rc = take_after(f, name, buf, &h);
		++*seq;
	} else if ((rc = fsck_refused(f, name, 0, rc, &e)) == 0) {
		rc = take_damaged(f, epoch, *seq);
		*seq = after_damaged(f, epoch, *seq);
	}
	free(buf);
	return rc;
}

int fsck_load_objects_after(struct fsck *f)
{
	/* Closed in order, it ends with its checkpoint: what goes on there is an orphan. */
	uint64_t seq = f->r->clean ? 0 : f->object_seq + 1;
	int rc = 0;

	while (rc == 0 && seq) {
		rc = take_next(f, &seq);
		if (rc == 0)
			rc = fsck_progress(
				f, "objects after the checkpoint", f->r->objects_after, 0);
	}
	return rc;
}
