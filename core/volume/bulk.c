/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bulk.c - a volume without a journal: objects in the caller's order, one checkpoint, then the
 * superblock.
 *
 * It uses the volume's own machinery: objects are put and applied as always; the checkpoint's
 * superblock swap starts from "there is none", so it is the creation, and the image appears with
 * it.
 */
#include "volume/bulk.h"

#include "format/profile.h"
#include "volume/checkpoint_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PUTS_DEFAULT = 4, BUFFERS_MAX = PUTS_MAX + 1, TRIES = 8 };

struct bulk {
	struct volume v;
	uint64_t object_bytes, added_sectors;
	uint8_t *buf[BUFFERS_MAX];
	uint32_t nbufs, at;		/* at: buffer being filled */
	uint64_t used_seq[BUFFERS_MAX]; /* the object that a buffer was put in */
	uint64_t fill, pending;		/* bytes in it; of these given by bulk_add */
	struct object_extent *ext;
	uint32_t n, cap;
};

static void random_uuid(struct loop *l, uint8_t uuid[16])
{
	for (unsigned i = 0; i < 16; i += 8) {
		uint64_t x = loop_random(l);

		memcpy(uuid + i, &x, 8);
	}
}

static int init_volume(struct bulk *b, struct store *s, const char *name, uint64_t size_bytes,
	const struct bulk_options *o)
{
	static const uint8_t none[16];
	struct volume *v = &b->v;
	uint8_t uuid[16];

	v->loop = s->loop;
	v->store = s;
	snprintf(v->name, sizeof(v->name), "%s", name);
	v->cfg = (struct config){.object_bytes = o->object_bytes,
		.destage_puts = o->puts ? o->puts : PUTS_DEFAULT,
		.destage_piece_bytes = 1 << 20,
		.store_retry_ms = 100,
		.checkpoint_bytes = UINT64_MAX};
	memcpy(uuid, o->uuid, 16);
	if (!memcmp(uuid, none, 16))
		random_uuid(v->loop, uuid);
	v->sb = calloc(1, sizeof(*v->sb));
	v->map = extmap_new();
	v->objects = objmap_new();
	if (!v->sb || !v->map || !v->objects)
		return -ENOMEM;
	superblock_init(
		v->sb, uuid, size_bytes / 512, o->created_ns ? o->created_ns : loop_wall(v->loop));
	v->next_seq = 1;
	apply_init(v);
	if (destage_init(v) < 0 || checkpointer_new(v) < 0 || collector_none(v) < 0)
		return -ENOMEM;
	v->pace.pieces_in_flight = 4;
	b->nbufs = v->puts_max + 1;
	for (uint32_t i = 0; i < b->nbufs; i++)
		if (posix_memalign((void **)&b->buf[i], OBJECT_ALIGN, b->object_bytes))
			return -ENOMEM;
	return 0;
}

static void free_bulk(struct bulk *b)
{
	struct volume *v = &b->v;

	destage_fini(v);
	collector_free(v);
	checkpointer_free(v);
	if (v->map)
		extmap_free(v->map);
	if (v->objects)
		objmap_free(v->objects);
	free(v->sb);
	for (uint32_t i = 0; i < BUFFERS_MAX; i++)
		free(b->buf[i]);
	free(b->ext);
	if (v->locked)
		volume_unlock(v->store, v->name);
	free(b);
}

static bool busy(const struct bulk *b)
{
	const struct volume *v = &b->v;

	for (const struct outgoing *o = v->out; o; o = o->next)
		if (o->in_store || (!v->failed && !o->durable))
			return true;
	return v->apply_task.queued || v->step.queued || v->ckpt->in_store ||
	       v->ckpt->swap.in_store || v->ckpt->task.queued;
}

/* Nothing was promised to anybody yet, so a store that takes nothing for some 20 s is given up. */
static void turn(struct bulk *b)
{
	struct volume *v = &b->v;
	bool given_up = v->ckpt->tries > TRIES || v->ckpt->swap.tries > TRIES;

	for (const struct outgoing *o = v->out; o; o = o->next)
		given_up |= o->tries > TRIES;
	if (given_up && !v->failed)
		volume_fail(v, v->store_status < 0 ? v->store_status : -EIO);
	else
		loop_poll(v->loop, LOOP_FOREVER);
}

static void settle(struct bulk *b)
{
	while (busy(b))
		turn(b);
}

static int put_failed(const struct bulk *b, struct err *e)
{
	const struct volume *v = &b->v;

	return err_set(e, v->failed, "put objects: %s",
		v->failed == v->store_status ? v->store_why.msg : strerror(-v->failed));
}

int bulk_begin(struct store *store, const char *name, uint64_t size_bytes,
	const struct bulk_options *o, struct bulk **out, struct err *e)
{
	struct bulk *b = calloc(1, sizeof(*b));
	int rc = size_bytes % 512
			 ? err_set(e, -EINVAL, "an image's size must be a multiple of 512 bytes")
			 : volume_check_size(size_bytes / 512, e);

	if (rc == 0 && !b)
		rc = -ENOMEM;
	if (rc == 0) {
		b->object_bytes = o->object_bytes;
		rc = volume_check_absent(store, name, e);
	}
	if (rc == 0)
		rc = init_volume(b, store, name, size_bytes, o);
	if (rc == 0)
		rc = volume_lock(store, name, e);
	if (rc == 0) {
		b->v.locked = true;
		/* Again: somebody may just have made it. */
		rc = volume_check_absent(store, name, e);
	}
	/* What an interrupted attempt left behind. */
	if (rc == 0)
		rc = volume_remove_objects(store, name, e);
	if (rc < 0) {
		if (b && b->v.store)
			free_bulk(b);
		else
			free(b);
		return rc;
	}
	*out = b;
	return 0;
}

void *bulk_buffer(struct bulk *b, uint64_t *len_bytes)
{
	uint64_t room = b->object_bytes - b->fill;

	if (*len_bytes > room)
		*len_bytes = room;
	return b->buf[b->at] + b->fill;
}

int bulk_add(struct bulk *b, uint64_t lba, uint64_t len, struct err *e)
{
	struct object_extent *x = b->n ? &b->ext[b->n - 1] : NULL;

	if (b->v.failed)
		return err_set(e, b->v.failed, "put objects: %s", strerror(-b->v.failed));
	if (lba + len > b->v.sb->size_sectors)
		return err_set(e, -EINVAL, "bulk load beyond the end of the image");
	if (x && x->lba + x->len == lba && (x->off + (uint64_t)x->len) * 512 == b->fill) {
		x->len += (uint32_t)len;
	} else {
		if (b->n == b->cap) {
			uint32_t cap = b->cap ? 2 * b->cap : 1024;
			struct object_extent *p = realloc(b->ext, cap * sizeof(*p));

			if (!p)
				return -ENOMEM;
			b->ext = p;
			b->cap = cap;
		}
		b->ext[b->n++] = (struct object_extent){.lba = lba,
			.len = (uint32_t)len,
			.off = (uint32_t)(b->fill / 512),
			.kind = EXTENT_DATA};
	}
	b->fill += len * 512;
	b->added_sectors += len;
	return b->fill == b->object_bytes ? bulk_cut(b, e) : 0;
}

int bulk_write(struct bulk *b, uint64_t lba, const void *data, uint64_t len_bytes, struct err *e)
{
	while (len_bytes) {
		uint64_t n = len_bytes;
		void *to = bulk_buffer(b, &n);
		int rc;

		memcpy(to, data, n);
		rc = bulk_add(b, lba, n / 512, e);
		if (rc < 0)
			return rc;
		lba += n / 512;
		data = (const uint8_t *)data + n;
		len_bytes -= n;
	}
	return 0;
}

static int by_lba(const void *a, const void *b)
{
	const struct object_extent *x = a, *y = b;

	return x->lba < y->lba ? -1 : x->lba > y->lba;
}

static int put_object(struct bulk *b)
{
	struct volume *v = &b->v;
	struct outgoing *o = outgoing_new(v);
	int rc;

	if (!o)
		return -ENOMEM;
	qsort(b->ext, b->n, sizeof(*b->ext), by_lba);
	build_begin(&o->b, 0);
	rc = build_data(&o->b, b->buf[b->at], b->fill);
	for (uint32_t i = 0; rc == 0 && i < b->n; i++) {
		if (i && b->ext[i].lba < b->ext[i - 1].lba + b->ext[i - 1].len)
			rc = -EINVAL;
		else
			rc = build_extent(&o->b, &b->ext[i]);
	}
	if (rc == 0)
		rc = build_crc(&o->b, UINT64_MAX);
	b->used_seq[b->at] = v->next_seq;
	if (rc >= 0)
		rc = outgoing_put(v, o, 0);
	if (rc < 0)
		outgoing_recycle(v, o);
	return rc;
}

int bulk_cut(struct bulk *b, struct err *e)
{
	struct volume *v = &b->v;
	int rc;

	if (!b->fill)
		return 0;
	rc = put_object(b);
	if (rc < 0)
		return err_set(e, rc,
			rc == -EINVAL ? "bulk load: ranges overlap" : "put object: %s",
			strerror(-rc));
	b->fill = 0;
	b->n = 0;
	b->at = (b->at + 1) % b->nbufs;
	/* Its memory is free when the object that used it is in the maps. */
	while (!v->failed && b->used_seq[b->at] > v->applied_seq)
		turn(b);
	return v->failed ? put_failed(b, e) : 0;
}

static int put_profile(
	struct bulk *b, const struct profile_range *profile, uint32_t n, struct err *e)
{
	size_t len = profile_bytes(n);
	char name[STORE_NAME_MAX];
	void *buf = malloc(len);
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct store_req r = {.op = STORE_PUT,
		.name = name,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = e};
	int64_t rc;

	if (!n || !buf) {
		free(buf);
		return n ? -ENOMEM : 0;
	}
	profile_encode(profile, n, buf);
	snprintf(name, sizeof(name), "%s/profile", b->v.name);
	rc = store_wait(b->v.store, &r);
	free(buf);
	if (rc < 0)
		return err_wrap(e, (int)rc, "put boot profile");
	b->v.sb->profile_bytes = len;
	return 0;
}

static int finish(struct bulk *b, const struct profile_range *profile, uint32_t n, struct err *e)
{
	struct volume *v = &b->v;
	int rc = bulk_cut(b, e);

	if (rc == 0)
		settle(b);
	while (rc == 0 && v->out && !v->failed)
		turn(b);
	if (rc == 0 && v->failed)
		rc = put_failed(b, e);
	if (rc == 0 && extmap_sectors(v->map) != b->added_sectors)
		rc = err_set(e, -EINVAL, "bulk load: ranges overlap");
	if (rc == 0)
		rc = put_profile(b, profile, n, e);
	if (rc == 0 && volume_checkpoint(v) < 0)
		rc = err_set(e, v->failed == -ESTALE ? -EEXIST : v->failed, "create image '%s': %s",
			v->name,
			v->failed == -ESTALE || v->failed == -EEXIST ? "somebody else just did"
								     : strerror(-v->failed));
	return rc;
}

int bulk_finish(struct bulk *b, const struct profile_range *profile, uint32_t n, struct err *e)
{
	int rc = finish(b, profile, n, e);

	if (rc < 0) {
		bulk_abort(b);
		return rc;
	}
	settle(b);
	free_bulk(b);
	return 0;
}

void bulk_abort(struct bulk *b)
{
	volume_fail(&b->v, -ESHUTDOWN);
	for (struct outgoing *o = b->v.out; o; o = o->next)
		loop_timer_cancel(b->v.loop, &o->retry);
	loop_timer_cancel(b->v.loop, &b->v.ckpt->retry);
	settle(b);
	if (!b->v.sb->checkpoint && volume_remove_objects(b->v.store, b->v.name, NULL) < 0)
		b->v.stats.store_errors++; /* a later `lsvd rm` or import of this name removes it */
	free_bulk(b);
}
