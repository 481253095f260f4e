/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * compare.c - the proof: what either image maps is read from both and compared, in LBA order,
 * several pieces at once.
 */
#include "reorg/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 8, PIECE_SECTORS = 2048 };

struct pair {
	struct session_read r[2];
	uint8_t *buf[2];
	uint64_t lba, n;
};

struct compare {
	struct session_image *image[2];
	struct extents x[2], both; /* both: the union */
	size_t extent;
	uint64_t in_extent;
	struct pair pairs[PAIRS];
	unsigned first, count;
};

/* ---- what to read ---- */

static int join(const struct extents *a, const struct extents *b, struct extents *out)
{
	size_t i = 0, k = 0;
	uint64_t end = 0;
	int rc = 0;

	while (!rc && (i < a->n || k < b->n)) {
		bool from_a = k == b->n || (i < a->n && a->p[i].lba <= b->p[k].lba);
		const struct plan_extent *x = from_a ? &a->p[i++] : &b->p[k++];
		uint64_t lba = x->lba > end ? x->lba : end, to = x->lba + x->len;

		if (lba < to)
			rc = extents_add(out, lba, to - lba);
		end = to > end ? to : end;
	}
	return rc;
}

static int prepare(struct compare *c, struct err *e)
{
	int rc = session_extents(c->image[0], &c->x[0], e);

	if (!rc)
		rc = session_extents(c->image[1], &c->x[1], e);
	if (!rc)
		rc = join(&c->x[0], &c->x[1], &c->both);
	for (unsigned i = 0; !rc && i < 2 * PAIRS; i++) {
		uint8_t **p = &c->pairs[i / 2].buf[i % 2];

		*p = aligned_alloc(4096, PIECE_SECTORS * 512);
		rc = *p ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	return rc;
}

/* ---- reading ---- */

static int submit_one(struct compare *c)
{
	const struct plan_extent *x = &c->both.p[c->extent];
	struct pair *p = &c->pairs[(c->first + c->count) % PAIRS];
	int rc;

	p->lba = x->lba + c->in_extent;
	p->n = x->len - c->in_extent < PIECE_SECTORS ? x->len - c->in_extent : PIECE_SECTORS;
	rc = session_submit(c->image[0], &p->r[0], p->lba, p->n, p->buf[0]);
	if (rc)
		return rc;
	rc = session_submit(c->image[1], &p->r[1], p->lba, p->n, p->buf[1]);
	if (rc) {
		session_wait(c->image[0]->s, &p->r[0]); /* the other's error counts */
		return rc;
	}
	c->count++;
	c->in_extent += p->n;
	if (c->in_extent == x->len) {
		c->extent++;
		c->in_extent = 0;
	}
	return 0;
}

static int take_one(struct compare *c, struct pair **out, struct err *e)
{
	struct pair *p = &c->pairs[c->first];
	int rc = 0;

	for (int i = 0; i < 2; i++) {
		int status = session_wait(c->image[i]->s, &p->r[i]);

		if (status && !rc)
			rc = err_set(e, status,
				"read sectors %" PRIu64 " to %" PRIu64 " of image '%s': %s", p->lba,
				p->lba + p->n - 1, c->image[i]->name, err_text(NULL, status));
	}
	c->first = (c->first + 1) % PAIRS;
	c->count--;
	*out = p;
	return rc;
}

static bool differs(const struct pair *p, uint64_t *lba)
{
	uint64_t bytes = p->n * 512;

	if (!memcmp(p->buf[0], p->buf[1], bytes))
		return false;
	for (uint64_t at = 0; at < bytes; at += 512)
		if (memcmp(p->buf[0] + at, p->buf[1] + at, 512)) {
			*lba = p->lba + at / 512;
			return true;
		}
	return false;
}

/* Both images up to the end of the smaller one. */
static int compare(
	struct compare *c, const struct reorg_watch *w, struct reorg_difference *d, struct err *e)
{
	int rc = 0;

	while (!rc && !d->found && (c->count || c->extent < c->both.n)) {
		struct pair *p;

		while (!rc && c->count < PAIRS && c->extent < c->both.n)
			rc = submit_one(c);
		if (rc)
			return err_set(e, rc, "read: %s", err_text(NULL, rc));
		rc = take_one(c, &p, e);
		if (rc)
			return rc;
		d->compared_bytes += p->n * 512;
		d->found = differs(p, &d->lba);
		if (w->progress)
			w->progress(w->arg, d->compared_bytes);
		if (w->stop && *w->stop)
			rc = err_set(e, -EINTR, "interrupted");
	}
	return rc;
}

/* What is mapped beyond the smaller image's end is not read: the sizes differ already. */
static void cut(struct extents *x, uint64_t size_sectors)
{
	while (x->n && x->p[x->n - 1].lba >= size_sectors)
		x->n--;
	if (x->n && x->p[x->n - 1].lba + x->p[x->n - 1].len > size_sectors)
		x->p[x->n - 1].len = size_sectors - x->p[x->n - 1].lba;
}

int reorg_compare(struct session_image *a, struct session_image *b, const struct reorg_watch *w,
	struct reorg_difference *d, struct err *e)
{
	struct compare *c = calloc(1, sizeof(*c));
	uint64_t size = a->size_sectors < b->size_sectors ? a->size_sectors : b->size_sectors;
	struct pair *p;
	int rc;

	*d = (struct reorg_difference){0};
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->image[0] = a;
	c->image[1] = b;
	rc = prepare(c, e);
	if (!rc) {
		cut(&c->both, size);
		rc = compare(c, w, d, e);
	}
	while (c->count)
		take_one(c, &p, NULL); /* what is still in flight does not matter any more */
	if (!rc && !d->found && a->size_sectors != b->size_sectors) {
		d->found = true;
		d->lba = size;
	}
	for (unsigned i = 0; i < 2 * PAIRS; i++)
		free(c->pairs[i / 2].buf[i % 2]);
	extents_free(&c->x[0]);
	extents_free(&c->x[1]);
	extents_free(&c->both);
	free(c);
	return rc;
}
