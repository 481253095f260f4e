/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * load.c - from the superblock to the maps: checkpoints, then the headers of the objects after
 * them.
 *
 * The newest checkpoint says where reading begins; from there on each is applied in turn (directory
 * and object table), then the map is read from wherever the directory says (load_map.c).  A clone's
 * first checkpoints are its base's, under the base's name.  Objects after the checkpoint are found
 * by name, in order, until the first that is missing (I6); their extents are applied as if they had
 * just been put.  Everything read is verified (I10).  Blocking.
 */
#include "volume/checkpoint_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "sys/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_FIRST_BYTES = 65536, HEADERS_AHEAD = 16, META_FIRST_BYTES = 65536, BEGUN = 16 };

/* The first bytes of checkpoints, which never change (I7): the newest is read for its list, then as
 * a link of the chain, and the payload of a small one has come with it. */
struct beginnings {
	struct {
		char name[STORE_NAME_MAX];
		uint8_t *buf;
		size_t got;
	} of[BEGUN];
	unsigned n;
};

static void keep_beginning(struct volume *v, const char *name, const void *buf, size_t got)
{
	struct beginnings *b = v->ckpt ? v->ckpt->begun : NULL;
	uint8_t *copy = b && b->n < BEGUN ? malloc(got ? got : 1) : NULL;

	if (!copy)
		return;
	memcpy(copy, buf, got);
	snprintf(b->of[b->n].name, sizeof(b->of[0].name), "%s", name);
	b->of[b->n].buf = copy;
	b->of[b->n++].got = got;
}

/* Up to `len` bytes from `off`; 0: not known. */
static size_t from_beginning(
	const struct volume *v, const char *name, uint64_t off, void *buf, size_t len)
{
	const struct beginnings *b = v->ckpt ? v->ckpt->begun : NULL;

	for (unsigned i = 0; b && i < b->n; i++) {
		size_t left = off < b->of[i].got ? b->of[i].got - off : 0;

		if (strcmp(b->of[i].name, name))
			continue;
		len = left < len ? left : len;
		memcpy(buf, b->of[i].buf + off, len);
		return len;
	}
	return 0;
}

static void forget_beginnings(struct beginnings *b)
{
	for (unsigned i = 0; i < b->n; i++)
		free(b->of[i].buf);
}

bool load_known(const struct volume *v, const char *name, uint64_t off, void *buf, size_t len)
{
	return len && from_beginning(v, name, off, buf, len) == len;
}

int load_short(const char *name, uint64_t off, size_t len, int64_t got, struct err *e)
{
	if (got < 0)
		return err_wrap(e, (int)got, "read '%s'", name);
	return err_set(e, -EUCLEAN,
		"object '%s' is cut off: %zu bytes expected at %" PRIu64 ", %" PRId64 " there",
		name, len, off, got);
}

/* Read [off, off+len) of an object; short is an error. */
static int read_exactly(
	struct volume *v, const char *name, uint64_t off, void *buf, size_t len, struct err *e)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct store_req r = {.op = STORE_GET,
		.name = name,
		.iov = &iov,
		.iovcnt = 1,
		.off_bytes = off,
		.len_bytes = len,
		.err = e};
	int64_t n;

	if (load_known(v, name, off, buf, len))
		return 0;
	n = store_wait(v->store, &r);
	return n == (int64_t)len ? 0 : load_short(name, off, len, n, e);
}

/* ---- checkpoints ---- */

/* The first bytes of an object, up to `len`; how many there were. */
static int64_t read_beginning(
	struct volume *v, const char *name, void *buf, size_t len, struct err *e)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct store_req r = {.op = STORE_GET,
		.name = name,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = e};
	int64_t n = (int64_t)from_beginning(v, name, 0, buf, len);

	if (n > 0)
		return n;
	n = store_wait(v->store, &r);
	if (n > 0)
		keep_beginning(v, name, buf, (size_t)n);
	return n < 0 ? err_wrap(e, (int)n, "read '%s'", name) : n;
}

static int read_rest(struct volume *v, const char *name, uint8_t **buf, uint64_t got, uint64_t len,
	struct err *e)
{
	uint8_t *whole = malloc(len);

	if (!whole)
		return -ENOMEM;
	memcpy(whole, *buf, got);
	free(*buf);
	*buf = whole;
	return read_exactly(v, name, got, whole + got, len - got, e);
}

/* Most are small: one GET; the rest of a long one is a second. */
static int read_meta(struct volume *v, uint64_t epoch, uint64_t number, struct checkpoint_header *h,
	void **meta, struct err *e)
{
	char name[STORE_NAME_MAX];
	const struct superblock_base *base = superblock_base_of_checkpoint(v->sb, number);
	int64_t got = -ENOMEM;
	uint8_t *buf = malloc(META_FIRST_BYTES);
	int rc;

	volume_ckpt_name_in(v->sb, name, v->name, epoch, number);
	if (buf)
		got = read_beginning(v, name, buf, META_FIRST_BYTES, e);
	rc = got < 0 ? (int)got : checkpoint_decode_fixed(buf, (size_t)got, h, e);
	if (rc == 0 && h->meta_bytes > 1u << 31)
		rc = err_set(e, -EUCLEAN, "impossible size");
	if (rc == 0 && h->meta_bytes > (uint64_t)got)
		rc = read_rest(v, name, &buf, (uint64_t)got, h->meta_bytes, e);
	if (rc == 0)
		rc = checkpoint_decode(
			buf, h->meta_bytes, base ? base->uuid : v->sb->uuid, epoch, number, h, e);
	if (rc < 0) {
		free(buf);
		return err_wrap(e, rc, "checkpoint '%s'", name);
	}
	*meta = buf;
	return 0;
}

int load_header(struct store *s, const char *name, const struct superblock *sb,
	struct checkpoint_header *h, struct err *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	void *meta = NULL;
	int rc = v ? 0 : -ENOMEM;

	*h = (struct checkpoint_header){0};
	if (rc == 0 && sb->checkpoint) {
		v->store = s;
		v->sb = (struct superblock *)(uintptr_t)sb; /* only read */
		snprintf(v->name, sizeof(v->name), "%s", name);
		rc = read_meta(v, sb->checkpoint_epoch, sb->checkpoint, h, &meta, e);
	}
	free(meta);
	free(v);
	return rc;
}

static int take_object(struct volume *v, const struct checkpoint_object *x)
{
	struct object o = {.seq = x->seq,
		.epoch = x->epoch,
		.hdr_sectors = x->hdr_sectors,
		.data_sectors = x->data_sectors,
		.flags = (uint8_t)(x->flags & ~(uint32_t)OBJECT_DEAD)};
	uint32_t slot;

	if (superblock_base_of_object(v->sb, x->seq))
		o.flags |= OBJECT_BASE;
	if (objmap_find(v->objects, x->seq) != OBJMAP_NONE)
		return 0;
	return objmap_add(v->objects, &o, &slot);
}

static int take_objects(struct volume *v, const void *meta, const struct checkpoint_header *h)
{
	bool own = !superblock_base_of_checkpoint(v->sb, h->number);
	uint32_t slot;
	int rc = 0;

	for (uint32_t i = 0; i < h->removed; i++) {
		uint64_t seq = checkpoint_get_removed(meta, h, i);

		if ((slot = objmap_find(v->objects, seq)) != OBJMAP_NONE)
			objmap_remove(v->objects, slot);
		deferred_drop(&v->ckpt->def, seq);
	}
	for (uint32_t i = 0; rc == 0 && i < h->objects; i++) {
		struct checkpoint_object x;

		checkpoint_get_object(meta, h, i, &x);
		rc = take_object(v, &x);
	}
	/* What a base defers is its own affair. */
	for (uint32_t i = 0; rc == 0 && own && i < h->deferred; i++) {
		struct checkpoint_deferred x;

		checkpoint_get_deferred(meta, h, i, &x);
		rc = deferred_add(&v->ckpt->def, &x);
	}
	return rc;
}

static int take_dir(struct checkpointer *c, const struct checkpoint_dir *d)
{
	struct ranges *rs = &c->ranges;
	int rc = 0;

	/* The volume may have been larger when this was written. */
	if (d->range >= rs->max)
		return -EINVAL;
	rc = checkpoint_resize(c->v, (d->range + 1) * rs->sectors);
	if (rc == 0 && d->halvings != rs->range[d->range].halvings)
		rc = ranges_cut(rs, d->range, d->halvings);
	if (rc == 0)
		*range_piece(&rs->range[d->range], d->piece) =
			(struct range_dir){.number = d->number,
				.offset_bytes = d->offset_bytes,
				.extents = d->extents,
				.crc = d->crc};
	return rc;
}

static int take_dirs(
	struct checkpointer *c, const void *meta, const struct checkpoint_header *h, struct err *e)
{
	for (uint32_t i = 0; i < h->dirs; i++) {
		struct checkpoint_dir d;
		int rc;

		checkpoint_get_dir(meta, h, i, &d);
		rc = d.number > h->number ? -EINVAL : take_dir(c, &d);
		if (rc == -ENOMEM)
			return rc;
		if (rc < 0)
			return err_set(e, -EUCLEAN,
				"checkpoint %" PRIu64 ": range %" PRIu64 " is impossible",
				h->number, d.range);
	}
	for (uint32_t i = 0; i < CHECKPOINT_SLICES; i++)
		if (h->slices >> i & 1)
			c->slice_at[i] = h->number;
	return 0;
}

static int take_live(
	struct checkpointer *c, const void *meta, const struct checkpoint_header *h, struct err *e)
{
	struct live_checkpoint *live;
	int rc = 0;

	if (h->live > CHECKPOINTS_MAX)
		return err_set(e, -EUCLEAN, "checkpoint %" PRIu64 ": too many live checkpoints",
			h->number);
	live = realloc(c->live, (h->live + 64) * sizeof(*live));
	if (!live)
		return -ENOMEM;
	c->live = live;
	c->live_cap = h->live + 64;
	c->nlive = h->live;
	for (uint32_t i = 0; i < h->live; i++) {
		live[i] = (struct live_checkpoint){0};
		checkpoint_get_live(meta, h, i, &live[i].x);
	}
	c->def.nkept = 0;
	for (uint32_t i = 0; rc == 0 && i < h->kept; i++) {
		struct checkpoint_kept k;

		checkpoint_get_kept(meta, h, i, &k);
		if (!superblock_base_of_checkpoint(c->v->sb, h->number))
			rc = deferred_keep(&c->def, &k);
	}
	return rc;
}

/* Apply the chain from where reading begins. */
static int take_chain(struct volume *v, const struct checkpoint_header *newest, struct err *e)
{
	struct checkpointer *c = v->ckpt;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < c->nlive; i++) {
		const struct checkpoint_live *x = &c->live[i].x;
		struct checkpoint_header h;
		void *meta = NULL;

		if (x->number < newest->full_number)
			continue;
		rc = read_meta(v, x->epoch, x->number, &h, &meta, e);
		if (rc == 0)
			rc = take_objects(v, meta, &h);
		if (rc == 0)
			rc = take_dirs(c, meta, &h, e);
		free(meta);
	}
	return rc < 0 ? rc : load_map(v, e);
}

int load_checkpoint(struct volume *v, uint64_t number, uint64_t epoch, struct checkpoint_header *h,
	struct err *e)
{
	struct beginnings begun = {.n = 0};
	void *meta = NULL;
	int rc;

	*h = (struct checkpoint_header){0};
	if (!number)
		return 0;
	v->ckpt->begun = &begun;
	rc = read_meta(v, epoch, number, h, &meta, e);
	if (rc == 0)
		rc = take_live(v->ckpt, meta, h, e);
	free(meta);
	if (rc == 0)
		rc = take_chain(v, h, e);
	v->ckpt->begun = NULL;
	forget_beginnings(&begun);
	return rc;
}

int checkpoint_load(struct volume *v, uint64_t *object_seq, uint64_t *covers, struct err *e)
{
	struct checkpointer *c = v->ckpt;
	struct checkpoint_header h;
	int rc = load_checkpoint(v, v->sb->checkpoint, v->sb->checkpoint_epoch, &h, e);

	if (rc < 0)
		return rc;
	c->number = c->last_number = h.number;
	c->full_number = h.full_number;
	c->last_bytes = h.meta_bytes + h.payload_bytes;
	*object_seq = h.object_seq;
	*covers = h.covers;
	return 0;
}

/* ---- objects after the checkpoint ---- */

struct header_read {
	struct store_req req;
	struct iovec iov;
	char name[STORE_NAME_MAX];
	struct err err;
	uint64_t seq, epoch;
	uint8_t *buf;
	int64_t status;
	bool over;
};

static void header_there(struct store_req *r, int64_t status)
{
	struct header_read *h = container_of(r, struct header_read, req);

	h->status = status;
	h->over = true;
}

static int start_header(struct volume *v, struct header_read *h, uint64_t seq)
{
	h->seq = seq;
	h->epoch = MUTANT(IGNORE_EPOCH) ? v->sb->epoch[0].epoch : superblock_epoch_of(v->sb, seq);
	h->over = false;
	if (!h->buf && !(h->buf = malloc(HEADER_FIRST_BYTES)))
		return -ENOMEM;
	volume_object_name(h->name, v->name, h->epoch, seq);
	h->iov = (struct iovec){.iov_base = h->buf, .iov_len = HEADER_FIRST_BYTES};
	h->req = (struct store_req){.op = STORE_GET,
		.name = h->name,
		.iov = &h->iov,
		.iovcnt = 1,
		.len_bytes = HEADER_FIRST_BYTES,
		.done = header_there,
		.err = &h->err};
	store_submit(v->store, &h->req);
	return 0;
}

static int apply_header(struct volume *v, const void *buf, const struct object_header *h)
{
	uint32_t slot;
	int rc = apply_object(v, h, &slot);

	for (uint32_t i = 0; rc == 0 && i < h->extents; i++) {
		struct object_extent x;

		object_get_extent(buf, h, i, &x);
		/* What lies beyond the end is discarded by a later object: the volume was shrunk.
		 */
		rc = checkpoint_resize(v, x.lba + x.len);
		if (rc == 0)
			rc = apply_extent(v, slot, &x, h->flags & OBJECT_FLAG_GC);
	}
	if (rc == 0)
		apply_done(v, h->seq, h->covers);
	return rc;
}

static int take_header(struct volume *v, struct header_read *r, struct err *e)
{
	struct object_header h;
	uint8_t *buf = r->buf;
	int rc = object_decode_fixed(buf, (size_t)r->status, &h, e);

	if (rc == 0 && h.header_bytes > HEADER_FIRST_BYTES) {
		buf = malloc(h.header_bytes);
		rc = buf ? read_exactly(v, r->name, 0, buf, h.header_bytes, e) : -ENOMEM;
	}
	if (rc == 0)
		rc = object_decode(buf,
			h.header_bytes > HEADER_FIRST_BYTES ? h.header_bytes : (size_t)r->status,
			v->sb->uuid, r->epoch, r->seq, &h, e);
	if (rc == 0 && r->req.size_bytes < (uint64_t)h.header_bytes + h.data_bytes)
		rc = err_set(e, -EUCLEAN, "object '%s' is cut off", r->name);
	if (rc == 0)
		rc = apply_header(v, buf, &h);
	if (buf != r->buf)
		free(buf);
	return rc < 0 ? err_wrap(e, rc, "object '%s'", r->name) : 0;
}

/* 1: applied, 0: missing. */
static int finish_header(struct volume *v, struct header_read *r, struct err *e)
{
	uint64_t newest = v->sb->epoch[v->sb->epochs - 1].epoch;
	int rc;

	while (!r->over)
		loop_poll(v->loop, LOOP_FOREVER);
	for (int tries = 0; r->status < 0 && r->status != -ENOENT && tries < 5; tries++) {
		rc = start_header(v, r, r->seq);
		while (rc == 0 && !r->over)
			loop_poll(v->loop, LOOP_FOREVER);
	}
	if (r->status == -ENOENT) {
		/* Only the last epoch has an open end (I6). */
		if (r->epoch != newest)
			return err_set(e, -EUCLEAN,
				"object '%s' is missing, and later ones were written after it",
				r->name);
		return 0;
	}
	if (r->status < 0)
		return err_set(e, (int)r->status, "read '%s': %s", r->name,
			err_text(&r->err, (int)r->status));
	rc = take_header(v, r, e);
	return rc < 0 ? rc : 1;
}

/* Objects that died after the last checkpoint was begun: the next one buries them. */
static void find_dead(struct volume *v)
{
	for (uint32_t s = objmap_next(v->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(v->objects, s + 1))
		if (objmap_get(v->objects, s)->live_sectors == 0)
			checkpoint_object_dead(v, s, v->applied_seq + 1);
}

int load_objects_after(struct volume *v, uint64_t seq, struct err *e)
{
	struct header_read *ring = calloc(HEADERS_AHEAD, sizeof(*ring));
	uint64_t next = seq + 1, asked = next;
	/* Closed in order, it ends with its checkpoint: what goes on there is of somebody who lost
	 * the image, or of an earlier one of this name. */
	int rc = !ring ? -ENOMEM : v->sb->clean ? 0 : 1;

	while (rc == 1) {
		/* A few ahead, but one first: there may be none. */
		uint64_t ahead = next == seq + 1 ? 1 : HEADERS_AHEAD;

		while (asked < next + ahead &&
			(rc = start_header(v, &ring[asked % HEADERS_AHEAD], asked)) == 0)
			asked++;
		if (rc < 0)
			break;
		rc = finish_header(v, &ring[next % HEADERS_AHEAD], e);
		next++;
	}
	for (uint32_t i = 0; ring && i < HEADERS_AHEAD; i++) {
		while (ring[i].buf && !ring[i].over)
			loop_poll(v->loop, LOOP_FOREVER);
		free(ring[i].buf);
	}
	free(ring);
	if (rc == 0)
		find_dead(v);
	return rc;
}
