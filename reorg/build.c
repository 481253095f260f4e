/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * build.c - copies an image in the order of a plan.
 *
 * Reads of up to PIECE bytes, several at once, go straight into the object that is being filled; as
 * they complete, in order, they are added to it.  While the reads of one object run, the objects
 * before it are being put.
 */
#include "reorg/build.h"

#include "volume/bulk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { READS = 16, PIECE_SECTORS = 2048 };

struct piece {
	struct session_read r;
	uint64_t lba, n;
};

struct copy {
	struct session_image *base;
	struct bulk *bulk;
	const struct plan *plan;
	const struct reorg_watch *w;
	/* the next sectors to read */
	size_t range;
	uint64_t in_range;
	/* what is left of the object being filled: where the next read goes */
	uint8_t *buf;
	uint64_t room_sectors;
	/* in flight: a ring */
	struct piece *ring;
	unsigned first, count;
	uint64_t done_bytes;
};

/* ---- reading ---- */

static bool all_submitted(const struct copy *c)
{
	return c->range == c->plan->n;
}

/* Does a zone begin at the next read?  Then an object does. */
static bool at_cut(const struct copy *c)
{
	const struct plan_range *x = &c->plan->ranges[c->range];

	return c->range && !c->in_range && x->zone != x[-1].zone;
}

static int submit_one(struct copy *c)
{
	const struct plan_range *x = &c->plan->ranges[c->range];
	struct piece *p = &c->ring[(c->first + c->count) % READS];
	uint64_t n = x->len - c->in_range;
	int rc;

	n = n < PIECE_SECTORS ? n : PIECE_SECTORS;
	n = n < c->room_sectors ? n : c->room_sectors;
	p->lba = x->lba + c->in_range;
	p->n = n;
	rc = session_submit(c->base, &p->r, p->lba, n, c->buf);
	if (rc < 0)
		return rc;
	c->count++;
	c->buf += n * 512;
	c->room_sectors -= n;
	c->in_range += n;
	if (c->in_range == x->len) {
		c->range++;
		c->in_range = 0;
	}
	return 0;
}

/* Begin to fill what the object has room for; nothing is in flight. */
static int next_window(struct copy *c, struct err *e)
{
	uint64_t room = UINT64_MAX;
	int rc = at_cut(c) ? bulk_cut(c->bulk, e) : 0;

	if (rc)
		return rc;
	c->buf = bulk_buffer(c->bulk, &room);
	c->room_sectors = room / 512;
	return c->buf && room >= 512 ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int submit_more(struct copy *c, struct err *e)
{
	int rc = 0;

	if (!c->count && !all_submitted(c) && (!c->room_sectors || at_cut(c)))
		rc = next_window(c, e);
	while (!rc && c->count < READS && !all_submitted(c) && c->room_sectors &&
		(!at_cut(c) || !c->count)) {
		rc = submit_one(c);
		if (rc)
			err_set(e, rc, "read: %s", err_text(NULL, rc));
	}
	return rc;
}

/* ---- adding ---- */

static int take_one(struct copy *c, struct err *e)
{
	struct piece *p = &c->ring[c->first];
	int rc = session_wait(c->base->s, &p->r);

	c->first = (c->first + 1) % READS;
	c->count--;
	if (rc)
		return err_set(e, rc, "read sectors %" PRIu64 " to %" PRIu64 ": %s", p->lba,
			p->lba + p->n - 1, err_text(NULL, rc));
	c->done_bytes += p->n * 512;
	return bulk_add(c->bulk, p->lba, p->n, e);
}

static void drain(struct copy *c)
{
	for (; c->count; c->count--, c->first = (c->first + 1) % READS)
		session_wait(c->base->s, &c->ring[c->first].r); /* after a failure */
}

static int copy_all(struct copy *c, struct err *e)
{
	int rc = submit_more(c, e);

	while (!rc && c->count) {
		rc = take_one(c, e);
		if (!rc && c->w->stop && *c->w->stop)
			rc = err_set(e, -EINTR, "interrupted; nothing is left of the new image");
		if (!rc)
			rc = submit_more(c, e);
		if (c->w->progress)
			c->w->progress(c->w->arg, c->done_bytes);
	}
	drain(c);
	return rc;
}

/* ---- the whole ---- */

/* A version 8 uuid of base's state, the plan and the size of objects: other bytes have another one,
 * since caches go by it (I12). */
static void derive_uuid(const struct session_image *base, const struct plan *plan,
	uint64_t object_bytes, uint8_t uuid[16])
{
	struct digest d;

	digest_begin(&d);
	digest_add(&d, base->state, 16);
	digest_add(&d, plan->digest, 16);
	digest_u64(&d, object_bytes);
	digest_end(&d, uuid);
	uuid[6] = (uint8_t)(0x80 | (uuid[6] & 0x0f));
	uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
}

int reorg_build(struct session_image *base, struct store *store, const char *name,
	const struct plan *plan, uint64_t object_bytes, const struct reorg_watch *w, struct err *e)
{
	struct bulk_options o = {.created_ns = base->created_ns, .object_bytes = object_bytes};
	struct copy c = {.base = base, .plan = plan, .w = w};
	int rc;

	derive_uuid(base, plan, object_bytes, o.uuid);
	c.ring = calloc(READS, sizeof(*c.ring));
	if (!c.ring)
		return err_set(e, -ENOMEM, "out of memory");
	rc = bulk_begin(store, name, base->size_sectors * 512, &o, &c.bulk, e);
	if (!rc) {
		rc = copy_all(&c, e);
		if (rc)
			bulk_abort(c.bulk);
		else
			rc = bulk_finish(c.bulk, plan->profile, plan->profile_n, e);
	}
	free(c.ring);
	return rc ? err_wrap(e, rc, "make image '%s'", name) : 0;
}
