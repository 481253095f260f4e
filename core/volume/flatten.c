/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * flatten.c - a clone becomes an image of its own: what it has in its bases is copied.
 *
 * Like garbage collection it writes objects of moved extents, which count only where the map still
 * points to the old place (I9): so I/O goes on, and what was cut short goes on where it was, for
 * the map itself says what is left.  When nothing is, a checkpoint that lists everything has no
 * word of the bases any more; then the superblock drops them, and last the base's list of clones
 * does.
 */
#include "volume/checkpoint_impl.h"
#include "volume/clone.h"

#include "sys/container.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_TRIES = 5 };
enum { FLAT_READS = 8, FLAT_PIECES = 4096, CRC_ALL = 1 << 20 };

struct flat_read {
	struct cache_req req;
	struct flat *f;
	bool busy;
};

struct flat_piece {
	uint64_t lba, at; /* sectors; at: in the buffer */
	uint64_t seq;	  /* of the object it is in */
	uint32_t len, slot, off;
};

struct flat {
	struct volume *v;
	struct flat_piece piece[FLAT_PIECES];
	uint32_t n, next;
	uint64_t sectors, max_sectors; /* gathered, padding included */
	uint8_t *buf;
	struct flat_read read[FLAT_READS];
	unsigned reading;
	int status;
};

/* ---- one object ---- */

static int gather(void *arg, const struct extent *e)
{
	struct flat *f = arg;
	const struct object *o = objmap_get(f->v->objects, place_slot(e->place));
	uint64_t at = f->sectors + (e->lba - f->sectors) % 8; /* as build_add does */
	uint64_t len = e->len;

	if (!superblock_base_of_object(f->v->sb, o->seq))
		return 0;
	if (f->n == FLAT_PIECES || at + 8 > f->max_sectors)
		return 1;
	if (len > f->max_sectors - at)
		len = f->max_sectors - at;
	f->piece[f->n++] = (struct flat_piece){.lba = e->lba,
		.at = at,
		.len = (uint32_t)len,
		.seq = o->seq,
		.slot = place_slot(e->place),
		.off = place_offset(e->place)};
	f->sectors = at + len;
	return len < e->len;
}

static void start_reads(struct flat *f);

static void read_over(struct cache_req *r, int status)
{
	struct flat_read *x = container_of(r, struct flat_read, req);

	x->busy = false;
	x->f->reading--;
	if (status < 0 && x->f->status == 0)
		x->f->status = status;
	start_reads(x->f);
}

static void start_reads(struct flat *f)
{
	for (unsigned i = 0; i < FLAT_READS && f->next < f->n && !f->status; i++) {
		struct flat_read *x = &f->read[i];
		const struct flat_piece *p;

		if (x->busy)
			continue;
		p = &f->piece[f->next++];
		/* All of it was overwritten meanwhile, and its slot is perhaps another's. */
		if (objmap_find(f->v->objects, p->seq) != p->slot) {
			f->status = -EAGAIN;
			return;
		}
		volume_ref(f->v, p->slot, &x->req.ref);
		x->req.off_bytes = (uint64_t)p->off * 512;
		x->req.len_bytes = (uint64_t)p->len * 512;
		x->req.buf = f->buf + p->at * 512;
		x->req.done = read_over;
		x->busy = true;
		x->f = f;
		f->reading++;
		cache_read(f->v->cache, &x->req);
	}
}

static int build(struct flat *f, struct outgoing *o)
{
	int rc = 0;

	build_begin(&o->b, OBJECT_FLAG_GC);
	for (uint32_t i = 0; rc == 0 && i < f->n; i++) {
		const struct flat_piece *p = &f->piece[i];
		struct object_extent x = {.lba = p->lba,
			.len = p->len,
			.kind = EXTENT_DATA,
			.old_seq = p->seq,
			.old_off = p->off};

		rc = build_add(&o->b, &x, f->buf + p->at * 512);
	}
	while (rc == 0 && (rc = build_crc(&o->b, CRC_ALL)) == 0)
		loop_poll(f->v->loop, 0);
	return rc < 0 ? rc : 0;
}

/* What was gathered becomes an object, and is applied. */
static int move_pieces(struct flat *f)
{
	struct volume *v = f->v;
	struct outgoing *o;
	uint64_t seq;
	int rc;

	f->next = 0;
	f->status = 0;
	start_reads(f);
	while (f->reading)
		loop_poll(v->loop, LOOP_FOREVER);
	if (f->status < 0 || v->failed)
		return f->status < 0 ? f->status : v->failed;
	o = outgoing_new(v);
	if (!o)
		return -ENOMEM;
	rc = build(f, o);
	seq = v->next_seq;
	o->flat = true;
	if (rc == 0)
		rc = outgoing_put(v, o, v->covers_put);
	if (rc < 0) {
		outgoing_recycle(v, o);
		return rc;
	}
	while (v->applied_seq < seq && !v->failed)
		loop_poll(v->loop, LOOP_FOREVER);
	return v->failed;
}

/* ---- all of them ---- */

static uint64_t left(const struct volume *v)
{
	return objmap_sum(v->objects, OBJECT_BASE).live_sectors * 512;
}

static int move_all(struct flat *f, int (*progress)(void *, uint64_t, uint64_t), void *arg)
{
	struct volume *v = f->v;
	uint64_t total = left(v), lba = 0;
	int rc = 0;

	while (rc == 0 && left(v)) {
		f->n = 0;
		f->sectors = 0;
		extmap_walk(v->map, lba, EXTMAP_LBA_MAX - lba, gather, f);
		/* Behind us there is nothing left: neither writes nor moves bring base data back.
		 */
		if (!f->n)
			return -EUCLEAN;
		rc = move_pieces(f);
		if (rc == -EAGAIN) {
			rc = 0;
			continue;
		}
		lba = f->piece[f->n - 1].lba + f->piece[f->n - 1].len;
		if (rc == 0 && progress && progress(arg, total - left(v), total))
			rc = -ECANCELED;
	}
	return rc;
}

static int copy_profile(struct volume *v, struct err *e)
{
	uint64_t len = v->sb->profile_bytes;
	char from[STORE_NAME_MAX], to[STORE_NAME_MAX];
	void *buf;
	struct iovec iov = {.iov_len = len};
	struct store_req r = {.op = STORE_GET,
		.name = from,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = e};
	int64_t n;

	if (!v->sb->profile_base)
		return 0;
	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	iov.iov_base = buf;
	snprintf(from, sizeof(from), "%s/profile", v->sb->base[v->sb->profile_base - 1].name);
	snprintf(to, sizeof(to), "%s/profile", v->name);
	n = store_wait(v->store, &r);
	for (int tries = 1; n < 0 && volume_worth_retrying(n) && tries < PROFILE_TRIES; tries++) {
		if (e)
			e->msg[0] = 0;
		n = store_wait(v->store, &r);
	}
	if (n >= 0 && (uint64_t)n != len)
		n = err_set(e, -EUCLEAN, "the base's boot profile is cut off");
	for (int tries = 0; n >= 0 && tries < PROFILE_TRIES; tries++) {
		int64_t rc;

		r = (struct store_req){.op = STORE_PUT,
			.name = to,
			.iov = &iov,
			.iovcnt = 1,
			.len_bytes = len,
			.err = e};
		if (e)
			e->msg[0] = 0;
		rc = store_wait(v->store, &r);
		/* From an attempt that was cut short, or timed out after all was done. */
		if (rc >= 0 || rc == -EEXIST)
			break;
		if (!volume_worth_retrying(rc) || tries + 1 == PROFILE_TRIES)
			n = rc;
	}
	free(buf);
	return n < 0 ? err_wrap(e, (int)n, "copy boot profile") : 0;
}

/* Nothing in the maps is a base's any more, and soon nothing in the checkpoints. */
static int drop_bases(struct volume *v, struct err *e)
{
	struct checkpointer *c = v->ckpt;
	struct superblock_base base = v->sb->base[v->sb->bases - 1];
	uint32_t bases = v->sb->bases, profile_base = v->sb->profile_base;
	int rc = copy_profile(v, e);

	while (rc == 0 && checkpoint_busy(v) && !v->failed)
		loop_poll(v->loop, LOOP_FOREVER);
	c->complete = true;
	if (rc == 0 && (rc = volume_checkpoint(v)) < 0)
		return err_set(e, rc, "write checkpoint: %s", strerror(-rc));
	for (uint32_t i = 0; rc == 0 && i < c->nlive; i++)
		if (superblock_base_of_checkpoint(v->sb, c->live[i].x.number))
			rc = err_set(e, -EUCLEAN, "a range is still saved in the base");
	if (rc < 0)
		return rc;
	v->sb->bases = v->sb->profile_base = 0;
	rc = superblock_swap_wait(v, e);
	if (rc < 0) {
		v->sb->bases = bases;
		v->sb->profile_base = profile_base;
		return rc;
	}
	clones_leave(v->store, &base, v->sb->uuid);
	return 0;
}

static int check(const struct volume *v, struct err *e)
{
	char names[200] = "";

	if (!v->journal)
		return err_set(e, -EROFS, "the image is open read-only");
	for (uint32_t i = 0; i < v->sb->snapshots; i++) {
		size_t len = strlen(names);

		snprintf(names + len, sizeof(names) - len, "%s%s", i ? ", " : "",
			v->sb->snapshot[i].name);
	}
	return v->sb->bases && v->sb->snapshots
		       ? err_set(e, -EBUSY,
				 "its snapshots need the base, too: %s; remove them first", names)
		       : 0;
}

int volume_flatten(
	struct volume *v, int (*progress)(void *, uint64_t, uint64_t), void *arg, struct err *e)
{
	struct flat *f = calloc(1, sizeof(*f));
	int rc = check(v, e);

	if (rc == 0 && !f)
		rc = -ENOMEM;
	if (rc == 0 && v->sb->bases) {
		f->v = v;
		f->max_sectors = v->cfg.object_bytes / 512;
		if (posix_memalign((void **)&f->buf, POOL_BLOCK, v->cfg.object_bytes))
			rc = -ENOMEM;
		/* What is dead in the base already need not be copied. */
		if (rc == 0)
			rc = volume_drain_wait(v);
		if (rc == 0)
			rc = move_all(f, progress, arg);
		if (rc < 0)
			err_set(e, rc, "copy the base's data: %s", strerror(-rc));
		free(f->buf);
		if (rc == 0)
			rc = drop_bases(v, e);
	}
	free(f);
	return rc;
}
