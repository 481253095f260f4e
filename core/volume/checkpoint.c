/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * checkpoint.c - saving what changed in the maps, and only then deleting what nobody needs (I8).
 *
 *   idle --checkpoint_start--> encoding --all ranges--> putting --durable--> swapping
 * --superblock--> deleting --> idle
 *
 * The moment of a checkpoint lies between two objects.  Ranges that were dirty then are encoded a
 * few at a time; a range that is about to change first is encoded right before (checkpoint_touch),
 * so the checkpoint shows one moment although it takes many turns of the loop.
 */
#include "volume/checkpoint_impl.h"

#include "format/block.h"
#include "sys/container.h"
#include "sys/crc.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { ENCODE_SLICE = 2048, DELTAS_MAX = 16, LOW_LIVE_PERCENT = 25 };

static bool bit(const uint64_t *map, uint64_t i)
{
	return map[i / 64] >> (i % 64) & 1;
}
static void set_bit(uint64_t *map, uint64_t i)
{
	map[i / 64] |= 1ull << (i % 64);
}
static void clear_bit(uint64_t *map, uint64_t i)
{
	map[i / 64] &= ~(1ull << (i % 64));
}

static int push(void *array, uint32_t n, uint32_t *cap, size_t size)
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

static struct live_checkpoint *find_live(struct checkpointer *c, uint64_t number)
{
	for (uint32_t i = 0; i < c->nlive; i++)
		if (c->live[i].x.number == number)
			return &c->live[i];
	return NULL;
}

bool checkpoint_knows(const struct volume *v, uint64_t epoch, uint64_t number)
{
	const struct live_checkpoint *l = find_live(v->ckpt, number);

	return l && l->x.epoch == epoch;
}

/* ---- encoding ---- */

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
		uint8_t *p = realloc(c->payload, cap);

		if (!p)
			return -ENOMEM;
		c->payload = p;
		c->payload_cap = cap;
	}
	checkpoint_put_extent(c->payload + c->payload_len, &x);
	c->payload_len += CHECKPOINT_EXTENT_BYTES;
	return 0;
}

static uint32_t encode_range(struct volume *v, uint64_t range)
{
	struct checkpointer *c = v->ckpt;
	struct range_dir *d = &c->dir[range];
	struct live_checkpoint *old = d->extents ? find_live(c, d->number) : NULL;
	size_t at = c->payload_len;

	clear_bit(c->pending, range);
	c->npending--;
	if (push(&c->dirs, c->ndirs, &c->dirs_cap, sizeof(*c->dirs)) < 0 ||
		extmap_walk(v->map, range * c->range_sectors, c->range_sectors, encode_extent, v) <
			0) {
		volume_fail(v, -ENOMEM);
		return 0;
	}
	if (old)
		old->live_bytes -= (uint64_t)d->extents * CHECKPOINT_EXTENT_BYTES;
	d->number = c->cur.number;
	d->offset_bytes = at;
	d->extents = (uint32_t)((c->payload_len - at) / CHECKPOINT_EXTENT_BYTES);
	d->crc = crc32c(0, c->payload + at, c->payload_len - at);
	c->dirs[c->ndirs++] = (struct checkpoint_dir){.range = range,
		.number = d->number,
		.offset_bytes = at,
		.extents = d->extents,
		.crc = d->crc};
	return d->extents + 8;
}

void checkpoint_touch(struct volume *v, uint64_t lba, uint64_t len)
{
	struct checkpointer *c = v->ckpt;
	uint64_t last = (lba + len - 1) / c->range_sectors;

	for (uint64_t r = lba / c->range_sectors; r <= last && r < c->nranges; r++) {
		if (c->npending && bit(c->pending, r))
			encode_range(v, r);
		set_bit(c->dirty, r);
	}
}

/* ---- the object table's changes ---- */

void checkpoint_object_added(struct volume *v, uint32_t slot)
{
	struct checkpointer *c = v->ckpt;

	if (push(&c->added, c->nadded, &c->added_cap, sizeof(*c->added)) < 0) {
		volume_fail(v, -ENOMEM);
		return;
	}
	c->added[c->nadded++] = objmap_get(v->objects, slot)->seq;
}

void checkpoint_object_dead(struct volume *v, uint32_t slot)
{
	struct checkpointer *c = v->ckpt;
	const struct object *o = objmap_get(v->objects, slot);

	/* What is not applied to its end yet may still gain live data. */
	if (o->flags & OBJECT_DEAD || o->seq > v->applied_seq)
		return;
	if (push(&c->dead, c->ndead, &c->dead_cap, sizeof(*c->dead)) < 0) {
		volume_fail(v, -ENOMEM);
		return;
	}
	objmap_flag(v->objects, slot, OBJECT_DEAD, 0);
	c->dead[c->ndead++] = slot;
	c->dead_bytes += ((uint64_t)o->hdr_sectors + o->data_sectors) * 512;
}

static int collect_object(struct checkpointer *c, const struct object *o)
{
	if (push(&c->objects, c->nobjects, &c->objects_cap, sizeof(*c->objects)) < 0)
		return -ENOMEM;
	c->objects[c->nobjects++] = (struct checkpoint_object){.seq = o->seq,
		.epoch = o->epoch,
		.hdr_sectors = o->hdr_sectors,
		.data_sectors = o->data_sectors,
		.live_sectors = o->live_sectors,
		.flags = o->flags};
	return 0;
}

/* Dead objects leave the table with this checkpoint, and the store after it (I8). */
static int bury_dead(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	for (uint32_t i = 0; i < c->ndead; i++) {
		const struct object *o = objmap_get(v->objects, c->dead[i]);

		if (push(&c->removed, c->nremoved, &c->removed_cap, sizeof(*c->removed)) < 0 ||
			push(&c->doomed, c->ndoomed, &c->doomed_cap, sizeof(*c->doomed)) < 0)
			return -ENOMEM;
		c->removed[c->nremoved++] = o->seq;
		volume_ref(v, c->dead[i], &c->doomed[c->ndoomed++]);
		objmap_remove(v->objects, c->dead[i]);
	}
	c->ndead = 0;
	c->dead_bytes = 0;
	return 0;
}

static int collect_objects(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	uint32_t slot;
	int rc = 0;

	c->nobjects = 0;
	if (c->full) {
		for (slot = objmap_next(v->objects, 0); rc == 0 && slot != OBJMAP_NONE;
			slot = objmap_next(v->objects, slot + 1))
			rc = collect_object(c, objmap_get(v->objects, slot));
	} else {
		for (uint32_t i = 0; rc == 0 && i < c->nadded; i++) {
			slot = objmap_find(v->objects, c->added[i]);
			if (slot != OBJMAP_NONE)
				rc = collect_object(c, objmap_get(v->objects, slot));
		}
	}
	c->nadded = 0;
	return rc;
}

/* ---- starting ---- */

/* Ranges in checkpoint objects that are mostly dead are written again, so that these can go. */
static void gather_old_ranges(struct checkpointer *c)
{
	for (uint64_t r = 0; r < c->nranges; r++) {
		const struct live_checkpoint *l;

		if (!c->dir[r].extents || bit(c->pending, r))
			continue;
		l = find_live(c, c->dir[r].number);
		if (l && l->live_bytes * 100 < l->x.payload_bytes * LOW_LIVE_PERCENT) {
			set_bit(c->pending, r);
			c->npending++;
		}
	}
}

static void take_dirty(struct checkpointer *c)
{
	uint64_t *t = c->pending;

	c->pending = c->dirty;
	c->dirty = t;
	c->npending = 0;
	for (uint64_t i = 0; i < (c->nranges + 63) / 64; i++)
		c->npending += (uint64_t)__builtin_popcountll(c->pending[i]);
	memset(c->dirty, 0, (c->nranges + 63) / 64 * 8);
}

void checkpoint_start(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	if (c->state != CKPT_IDLE || v->failed)
		return;
	/* Never in the middle of an object: its extents would be there, and it applied again (I4). */
	c->wanted = v->out && v->out->applied;
	if (c->wanted)
		return;
	c->state = CKPT_ENCODING;
	c->full = !c->number || c->number - c->full_number >= DELTAS_MAX;
	c->cur = (struct checkpoint_header){.epoch = v->epoch,
		.number = ++c->last_number,
		.object_seq = v->applied_seq,
		.covers = v->covers_applied};
	c->cur.full_number = c->full ? c->cur.number : c->full_number;
	memcpy(c->cur.uuid, v->sb->uuid, 16);
	c->payload_len = 0;
	c->ndirs = c->nremoved = 0;
	c->scan = 0;
	v->new_object_bytes = 0;
	take_dirty(c);
	if (c->full)
		gather_old_ranges(c);
	if (bury_dead(v) < 0 || collect_objects(v) < 0) {
		volume_fail(v, -ENOMEM);
		return;
	}
	loop_background(v->loop, &c->task);
}

void checkpoint_maybe(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	uint64_t due = v->cfg.checkpoint_bytes;

	/* Never more than a twentieth of what is written goes into checkpoints. */
	if (due < 20 * c->last_bytes)
		due = 20 * c->last_bytes;
	if (c->wanted || v->new_object_bytes >= due || c->dead_bytes >= due)
		checkpoint_start(v);
}

bool checkpoint_busy(const struct volume *v)
{
	return v->ckpt->state != CKPT_IDLE || v->ckpt->wanted;
}

/* ---- putting ---- */

static void put_meta(struct checkpointer *c);

static int collect_full_dirs(struct checkpointer *c)
{
	c->ndirs = 0;
	for (uint64_t r = 0; r < c->nranges; r++) {
		const struct range_dir *d = &c->dir[r];

		if (!d->extents)
			continue;
		if (push(&c->dirs, c->ndirs, &c->dirs_cap, sizeof(*c->dirs)) < 0)
			return -ENOMEM;
		c->dirs[c->ndirs++] = (struct checkpoint_dir){.range = r,
			.number = d->number,
			.offset_bytes = d->offset_bytes,
			.extents = d->extents,
			.crc = d->crc};
	}
	return 0;
}

/* Still needed: what has live ranges, and every delta since the newest full one. */
static bool needed(const struct checkpointer *c, const struct live_checkpoint *l)
{
	return l->live_bytes || l->x.number >= c->cur.full_number;
}

static int build_meta(struct checkpointer *c)
{
	struct checkpoint_live live[CHECKPOINTS_MAX];
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->nlive; i++)
		if (needed(c, &c->live[i]))
			live[n++] = c->live[i].x;
	if (n == CHECKPOINTS_MAX)
		return -EUCLEAN;
	c->cur.live = n + 1;
	c->cur.objects = c->nobjects;
	c->cur.removed = c->nremoved;
	c->cur.dirs = c->ndirs;
	c->cur.payload_bytes = c->payload_len;
	c->cur.meta_bytes = checkpoint_meta_bytes(&c->cur);
	live[n] = (struct checkpoint_live){.number = c->cur.number,
		.epoch = c->cur.epoch,
		.meta_bytes = c->cur.meta_bytes,
		.payload_bytes = c->payload_len};
	free(c->meta);
	if (posix_memalign(&c->meta, CHECKPOINT_ALIGN, c->cur.meta_bytes)) {
		c->meta = NULL;
		return -ENOMEM;
	}
	checkpoint_encode(&c->cur, live, c->objects, c->removed, c->dirs, c->meta);
	return 0;
}

static void put_again(struct loop_timer *t)
{
	put_meta(container_of(t, struct checkpointer, retry));
}

static void swapped(struct volume *v, int status);

static void prune_epochs(struct volume *v)
{
	struct superblock *sb = v->sb;
	uint32_t drop = 0;

	while (drop + 1 < sb->epochs &&
		sb->epoch[drop + 1].first_seq <= v->ckpt->cur.object_seq + 1)
		drop++;
	memmove(sb->epoch, sb->epoch + drop, (sb->epochs - drop) * sizeof(sb->epoch[0]));
	sb->epochs -= drop;
}

static void meta_put(struct store_req *r, int64_t status)
{
	struct checkpointer *c = container_of(r, struct checkpointer, req);
	struct volume *v = c->v;

	c->in_store = false;
	if (v->failed) {
		c->state = CKPT_IDLE;
		return;
	}
	/* The name is ours alone (I7): if it exists, an earlier try went through. */
	if (status < 0 && !(status == -EEXIST && c->tries)) {
		volume_store_failed(v, status, &c->err);
		if (!volume_worth_retrying(status)) {
			volume_fail(v, status == -EEXIST ? -ESTALE : (int)status);
			c->state = CKPT_IDLE;
			return;
		}
		c->retry.fire = put_again;
		loop_timer_set(
			v->loop, &c->retry, loop_now(v->loop) + volume_backoff_ns(v, c->tries++));
		return;
	}
	c->state = CKPT_SWAPPING;
	v->sb->checkpoint = c->cur.number;
	v->sb->checkpoint_epoch = c->cur.epoch;
	prune_epochs(v);
	superblock_swap(v, swapped);
}

static void put_meta(struct checkpointer *c)
{
	struct volume *v = c->v;

	volume_ckpt_name(c->name, v->name, c->cur.epoch, c->cur.number);
	c->iov[0] = (struct iovec){.iov_base = c->meta, .iov_len = c->cur.meta_bytes};
	c->iov[1] = (struct iovec){.iov_base = c->payload, .iov_len = c->payload_len};
	c->req = (struct store_req){.op = STORE_PUT,
		.name = c->name,
		.iov = c->iov,
		.iovcnt = c->payload_len ? 2 : 1,
		.len_bytes = c->cur.meta_bytes + c->payload_len,
		.done = meta_put,
		.err = &c->err,
		.pace = &v->pace};
	c->in_store = true;
	store_submit(v->store, &c->req);
}

static void encode_some(struct loop_task *t)
{
	struct checkpointer *c = container_of(t, struct checkpointer, task);
	struct volume *v = c->v;
	uint32_t budget = ENCODE_SLICE;

	while (c->npending && budget && !v->failed) {
		uint32_t used;

		while (!c->pending[c->scan])
			c->scan++;
		used = encode_range(
			v, c->scan * 64 + (uint64_t)__builtin_ctzll(c->pending[c->scan]));
		budget = budget > used ? budget - used : 0;
	}
	if (v->failed) {
		c->state = CKPT_IDLE;
		return;
	}
	if (c->npending) {
		loop_background(v->loop, &c->task);
		return;
	}
	if ((c->full && collect_full_dirs(c) < 0) || build_meta(c) < 0) {
		volume_fail(v, -ENOMEM);
		c->state = CKPT_IDLE;
		return;
	}
	c->state = CKPT_PUTTING;
	c->tries = 0;
	put_meta(c);
}

/* ---- after the superblock ---- */

static void delete_next(struct checkpointer *c);

static void deleted(struct store_req *r, int64_t status)
{
	struct doomed_req *d = container_of(r, struct doomed_req, req);
	struct checkpointer *c = d->c;

	/* With the next checkpoint, or at close, once more. */
	if (status >= 0)
		c->v->stats.deletes++;
	else if (++c->v->stats.store_errors &&
		 push(&c->again, c->nagain, &c->again_cap, sizeof(*c->again)) == 0)
		c->again[c->nagain++] = d->ref;
	d->busy = false;
	c->deleting--;
	delete_next(c);
}

static void delete_next(struct checkpointer *c)
{
	struct volume *v = c->v;

	for (uint32_t i = 0; i < DELETES_MAX && c->ndoomed; i++) {
		struct doomed_req *d = &c->del[i];

		if (d->busy)
			continue;
		d->ref = c->doomed[--c->ndoomed];
		if (d->ref.data_bytes)
			cache_forget(v->cache, &d->ref);
		d->busy = true;
		d->c = c;
		d->req = (struct store_req){
			.op = STORE_DELETE, .name = d->ref.name, .done = deleted};
		c->deleting++;
		store_submit(v->store, &d->req);
	}
	if (!c->ndoomed && !c->deleting) {
		c->state = CKPT_IDLE;
		checkpoint_maybe(v);
		gc_maybe(v);
	}
}

static void doom_again(struct checkpointer *c)
{
	for (; c->nagain; c->nagain--)
		if (push(&c->doomed, c->ndoomed, &c->doomed_cap, sizeof(*c->doomed)) == 0)
			c->doomed[c->ndoomed++] = c->again[c->nagain - 1];
}

bool checkpoint_delete_again(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	if (c->state != CKPT_IDLE || !c->nagain)
		return false;
	doom_again(c);
	c->state = CKPT_DELETING;
	delete_next(c);
	return true;
}

static int doom_checkpoint(struct checkpointer *c, const struct live_checkpoint *l)
{
	struct object_ref ref = {.store = c->v->store};

	if (push(&c->doomed, c->ndoomed, &c->doomed_cap, sizeof(*c->doomed)) < 0)
		return -ENOMEM;
	volume_ckpt_name(ref.name, c->v->name, l->x.epoch, l->x.number);
	c->doomed[c->ndoomed++] = ref;
	return 0;
}

static void swapped(struct volume *v, int status)
{
	struct checkpointer *c = v->ckpt;
	uint32_t n = 0;

	if (status < 0) {
		volume_fail(v, status);
		c->state = CKPT_IDLE;
		return;
	}
	v->stats.checkpoints++;
	c->last_bytes = c->cur.meta_bytes + c->payload_len;
	v->stats.checkpoint_bytes += c->last_bytes;
	for (uint32_t i = 0; i < c->nlive; i++) {
		if (needed(c, &c->live[i]) || doom_checkpoint(c, &c->live[i]) < 0)
			c->live[n++] = c->live[i];
	}
	c->nlive = n;
	c->live[c->nlive++] = (struct live_checkpoint){.live_bytes = c->payload_len,
		.x = {.number = c->cur.number,
			.epoch = c->cur.epoch,
			.meta_bytes = c->cur.meta_bytes,
			.payload_bytes = c->payload_len}};
	c->number = c->cur.number;
	c->full_number = c->cur.full_number;
	doom_again(c);
	c->state = CKPT_DELETING;
	delete_next(c);
}

/* ---- making and unmaking ---- */

int checkpointer_new(struct volume *v)
{
	struct checkpointer *c = calloc(1, sizeof(*c));
	uint64_t words;

	if (!c)
		return -ENOMEM;
	v->ckpt = c;
	c->v = v;
	c->task.run = encode_some;
	c->range_sectors = v->sb->range_sectors;
	c->nranges = (v->sb->size_sectors + c->range_sectors - 1) / c->range_sectors;
	c->ranges_max = EXTMAP_LBA_MAX / c->range_sectors;
	words = (c->nranges + 63) / 64;
	c->dirty = calloc(words, 8);
	c->pending = calloc(words, 8);
	c->dir = calloc(c->nranges, sizeof(*c->dir));
	return c->dirty && c->pending && c->dir ? 0 : -ENOMEM;
}

int checkpoint_resize(struct volume *v, uint64_t size_sectors)
{
	struct checkpointer *c = v->ckpt;
	uint64_t n = (size_sectors + c->range_sectors - 1) / c->range_sectors,
		 words = (n + 63) / 64, old_words = (c->nranges + 63) / 64;
	uint64_t *dirty, *pending;
	struct range_dir *dir;

	if (n <= c->nranges)
		return 0;
	dirty = realloc(c->dirty, words * 8);
	if (dirty)
		c->dirty = dirty;
	pending = realloc(c->pending, words * 8);
	if (pending)
		c->pending = pending;
	dir = realloc(c->dir, n * sizeof(*dir));
	if (dir)
		c->dir = dir;
	if (!dirty || !pending || !dir)
		return -ENOMEM;
	memset(dirty + old_words, 0, (words - old_words) * 8);
	memset(pending + old_words, 0, (words - old_words) * 8);
	memset(dir + c->nranges, 0, (n - c->nranges) * sizeof(*dir));
	c->nranges = n;
	return 0;
}

void checkpointer_free(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	if (!c)
		return;
	loop_timer_cancel(v->loop, &c->retry);
	loop_timer_cancel(v->loop, &c->swap.retry);
	free(c->dirty);
	free(c->pending);
	free(c->dir);
	free(c->added);
	free(c->dead);
	free(c->removed);
	free(c->objects);
	free(c->doomed);
	free(c->again);
	free(c->dirs);
	free(c->payload);
	free(c->meta);
	free(c);
	v->ckpt = NULL;
}
