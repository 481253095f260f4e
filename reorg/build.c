/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * build.c - copies an image in the order of a plan.
 *
 * A ring of reads of up to PIECE_BYTES keeps the base's store busy; as they complete, in order,
 * they are copied into the object being filled, while the objects before it are being put.
 */
#include "reorg/build.h"

#include "volume/bulk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { READS = 24, PIECE_BYTES = 1 << 20 };

struct piece {
	struct session_read r;
	uint64_t lba, n;
	uint8_t zone;
	void *buf;
};

struct copy {
	struct session_image *base;
	struct bulk *bulk;
	const struct plan *plan;
	const struct reorg_watch *w;
	/* the next sectors to read */
	size_t range;
	uint64_t in_range;
	/* in flight: a ring */
	struct piece ring[READS];
	unsigned first, count;
	uint8_t zone; /* of the object being filled */
	uint64_t done_bytes;
};

/* ---- reading ---- */

static int submit_one(struct copy *c)
{
	const struct plan_range *x = &c->plan->ranges[c->range];
	struct piece *p = &c->ring[(c->first + c->count) % READS];
	uint64_t left = x->len - c->in_range;
	int rc;

	p->lba = x->lba + c->in_range;
	p->n = left < PIECE_BYTES / 512 ? left : PIECE_BYTES / 512;
	p->zone = x->zone;
	rc = session_submit(c->base, &p->r, p->lba, p->n, p->buf);
	if (rc < 0)
		return rc;
	c->count++;
	c->in_range += p->n;
	if (c->in_range == x->len) {
		c->range++;
		c->in_range = 0;
	}
	return 0;
}

static int submit_more(struct copy *c, struct err *e)
{
	int rc = 0;

	while (!rc && c->count < READS && c->range < c->plan->n) {
		rc = submit_one(c);
		if (rc)
			err_set(e, rc, "read: %s", err_text(NULL, rc));
	}
	return rc;
}

/* ---- writing ---- */

static int take_one(struct copy *c, struct err *e)
{
	struct piece *p = &c->ring[c->first];
	int rc = session_wait(c->base->s, &p->r);

	c->first = (c->first + 1) % READS;
	c->count--;
	if (rc)
		return err_set(e, rc, "read sectors %" PRIu64 " to %" PRIu64 ": %s", p->lba,
			p->lba + p->n - 1, err_text(NULL, rc));
	if (p->zone != c->zone) /* a zone begins with an object of its own */
		rc = bulk_cut(c->bulk, e);
	c->zone = p->zone;
	c->done_bytes += p->n * 512;
	return rc ? rc : bulk_write(c->bulk, p->lba, p->buf, p->n * 512, e);
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
	for (; c->count; c->count--, c->first = (c->first + 1) % READS)
		session_wait(c->base->s, &c->ring[c->first].r); /* after a failure */
	return rc;
}

static void free_copy(struct copy *c)
{
	for (unsigned i = 0; c && i < READS; i++)
		free(c->ring[i].buf);
	free(c);
}

static struct copy *new_copy(
	struct session_image *base, const struct plan *plan, const struct reorg_watch *w)
{
	struct copy *c = calloc(1, sizeof(*c));
	bool ok = c;

	for (unsigned i = 0; ok && i < READS; i++)
		ok = (c->ring[i].buf = aligned_alloc(4096, PIECE_BYTES)) != NULL;
	if (!ok) {
		free_copy(c);
		return NULL;
	}
	c->base = base;
	c->plan = plan;
	c->w = w;
	return c;
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
	struct copy *c = new_copy(base, plan, w);
	int rc;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	derive_uuid(base, plan, object_bytes, o.uuid);
	rc = bulk_begin(store, name, base->size_sectors * 512, &o, &c->bulk, e);
	if (!rc) {
		rc = copy_all(c, e);
		if (rc)
			bulk_abort(c->bulk);
		else
			rc = bulk_finish(c->bulk, plan->profile, plan->profile_n, e);
	}
	free_copy(c);
	return rc ? err_wrap(e, rc, "make image '%s'", name) : 0;
}
