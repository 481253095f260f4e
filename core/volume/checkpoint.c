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
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { ENCODE_SLICE = 2048 };

bool checkpoint_knows(const struct volume *v, uint64_t epoch, uint64_t number)
{
	const struct live_checkpoint *l = tables_find_live(v->ckpt, number);

	return (l && l->x.epoch == epoch) || deferred_keeps(&v->ckpt->def, epoch, number);
}

void checkpoint_touch(struct volume *v, uint64_t lba, uint64_t len)
{
	struct checkpointer *c = v->ckpt;
	struct ranges *rs = &c->ranges;
	uint64_t last = (lba + len - 1) / rs->sectors;

	for (uint64_t r = lba / rs->sectors; r <= last && r < rs->n; r++) {
		if (rs->npending && ranges_bit(rs->pending, r) && !MUTANT(TORN_CHECKPOINT))
			tables_encode_range(v, r);
		if (!MUTANT(STALE_CHECKPOINT) || lba % 16)
			ranges_mark(rs, r, lba, len);
	}
}

void checkpoint_touch_removed(struct volume *v, uint64_t lba, uint64_t len)
{
	struct ranges *rs = &v->ckpt->ranges;
	uint64_t last = (lba + len - 1) / rs->sectors;

	/* A discard of all of a large volume changes only what there is. */
	for (uint64_t r = lba / rs->sectors; r <= last && r < rs->n; r++) {
		if (ranges_is_void(rs, r))
			continue;
		if (rs->npending && ranges_bit(rs->pending, r))
			tables_encode_range(v, r);
		ranges_mark(rs, r, lba, len);
	}
}

/* ---- starting ---- */

void checkpoint_start(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	if (c->state != CKPT_IDLE || v->failed)
		return;
	/* Never in the middle of an object: its extents would be there, and it applied again (I4).
	 */
	c->wanted = v->out && v->out->applied;
	if (c->wanted)
		return;
	c->state = CKPT_ENCODING;
	c->cur = (struct checkpoint_header){.epoch = v->epoch,
		.number = ++c->last_number,
		.object_seq = v->applied_seq,
		.covers = v->covers_applied};
	memcpy(c->cur.uuid, v->sb->uuid, 16);
	v->new_object_bytes = 0;
	snapshots_join(v);
	if (tables_begin(v) < 0) {
		volume_fail(v, -ENOMEM);
		return;
	}
	loop_background(v->loop, &c->task);
	apply_kick(v);
}

void checkpoint_maybe(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	uint64_t due = v->cfg.checkpoint_bytes;

	/* Never more than a twentieth of what is written goes into checkpoints. */
	if (due < 20 * c->last_bytes)
		due = 20 * c->last_bytes;
	if (c->wanted || v->apply_held || v->new_object_bytes >= due || c->dead_bytes >= due)
		checkpoint_start(v);
}

bool checkpoint_busy(const struct volume *v)
{
	return v->ckpt->state != CKPT_IDLE || v->ckpt->wanted;
}

/* ---- putting ---- */

static void put_meta(struct checkpointer *c);

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
	memcpy(v->sb->snapshot, c->snapshot, c->nsnapshots * sizeof(*c->snapshot));
	v->sb->snapshots = c->nsnapshots;
	v->sb->next_snapshot = c->next_snapshot;
	prune_epochs(v);
	if (MUTANT(DELETE_EARLY)) {
		swapped(v, 0);
		return;
	}
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
	struct ranges *rs = &c->ranges;
	uint32_t budget = ENCODE_SLICE;

	while (rs->npending && budget && !v->failed) {
		uint32_t used;

		while (!rs->pending[c->scan])
			c->scan++;
		used = tables_encode_range(
			v, c->scan * 64 + (uint64_t)__builtin_ctzll(rs->pending[c->scan]));
		budget = budget > used ? budget - used : 0;
	}
	if (v->failed) {
		c->state = CKPT_IDLE;
		return;
	}
	if (rs->npending) {
		loop_background(v->loop, &c->task);
		return;
	}
	if (tables_finish(v) < 0) {
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
		 tables_room(&c->again, c->nagain, &c->again_cap, sizeof(*c->again)) == 0)
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
		if (tables_room(&c->doomed, c->ndoomed, &c->doomed_cap, sizeof(*c->doomed)) == 0)
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

static void swapped(struct volume *v, int status)
{
	struct checkpointer *c = v->ckpt;

	if (status < 0) {
		volume_fail(v, status);
		c->state = CKPT_IDLE;
		return;
	}
	tables_commit(v);
	v->stats.checkpoints++;
	v->stats.checkpoint_bytes += c->last_bytes;
	snapshots_settle(v, 0);
	doom_again(c);
	c->state = CKPT_DELETING;
	delete_next(c);
}

/* ---- making and unmaking ---- */

int checkpointer_new(struct volume *v)
{
	struct checkpointer *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	v->ckpt = c;
	c->v = v;
	c->task.run = encode_some;
	c->release = true;
	rc = ranges_init(&c->ranges, v->sb->range_sectors, v->sb->size_sectors, EXTMAP_LBA_MAX);
	if (rc == 0)
		rc = deferred_init(&c->def);
	c->count = malloc(sizeof(*c->count) << c->ranges.halvings_max);
	c->snapshot = calloc(SUPERBLOCK_SNAPSHOTS_MAX, sizeof(*c->snapshot));
	return rc == 0 && c->count && c->snapshot ? 0 : -ENOMEM;
}

int checkpoint_resize(struct volume *v, uint64_t size_sectors)
{
	return ranges_resize(&v->ckpt->ranges, size_sectors);
}

void checkpointer_free(struct volume *v)
{
	struct checkpointer *c = v->ckpt;

	if (!c)
		return;
	loop_timer_cancel(v->loop, &c->retry);
	loop_timer_cancel(v->loop, &c->swap.retry);
	ranges_fini(&c->ranges);
	deferred_fini(&c->def);
	free(c->live);
	free(c->added);
	free(c->dead);
	free(c->removed);
	free(c->objects);
	free(c->deferred);
	free(c->doomed);
	free(c->again);
	free(c->dirs);
	free(c->payload);
	free(c->count);
	free(c->snapshot);
	free(c->meta);
	free(c);
	v->ckpt = NULL;
}
