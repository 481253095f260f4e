/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * load_map.c - from the payloads of checkpoints to the extent map.
 *
 * The directory says of every piece how many extents it has, so of each it is known before anything
 * is read how many extents come before it in the map: its rank.  So pieces are read in the order in
 * which the payloads have them, a chunk of neighbours at a time, some chunks at once, and whichever
 * is there goes straight to its place in the map (extmap_build_put).  To verify and decode a chunk
 * is a job that a second thread shares: it reads the tables, which do not change meanwhile, and
 * counts what is live for itself.
 *
 * Everything read is verified (I10).  The first error ends it, and the map is cleared.
 */
#include "volume/checkpoint_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "sys/helper.h"
#include "sys/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNKS = 8, CHUNK_BYTES = 1 << 20, BATCH = 64 };

/* A piece that has extents. */
struct piece {
	uint64_t lba, sectors;
	uint64_t rank;
	const struct range_dir *dir;
};

/* Neighbours in one payload, on their way. */
struct chunk {
	struct loading *l;
	const struct piece *piece;
	uint64_t n;
	const struct live_checkpoint *from;
	uint64_t off_bytes, len_bytes; /* in that payload */
	uint8_t *buf;
	size_t cap;
	char name[STORE_NAME_MAX];
	struct store_req req;
	struct iovec iov;
	struct helper_job job;
	struct err err;
	int status;
	bool busy;
};

struct loading {
	struct volume *v;
	struct extmap_build build;
	struct helper *helper;
	struct piece *piece; /* by payload, and in the order there */
	uint64_t n, next;
	uint64_t extents;
	uint64_t *begin;	 /* of each live checkpoint: its first piece; and the end */
	uint32_t *live[HELPERS]; /* sectors by slot, as each of the two counted them */
	uint32_t slots;
	struct chunk chunk[CHUNKS];
	unsigned busy;
	int rc;
	struct err *e;
};

/* ---- what there is ---- */

static struct live_checkpoint *find_live(struct loading *l, uint64_t range, uint64_t number)
{
	struct live_checkpoint *live = tables_find_live(l->v->ckpt, number);

	if (!live)
		l->rc = err_set(l->e, -EUCLEAN,
			"range %" PRIu64 " is in checkpoint %" PRIu64 ", which is not listed",
			range, number);
	return live;
}

/* How many pieces, and how many each payload has: at the place behind, for sums. */
static int count_piece(void *arg, uint64_t range, uint32_t piece, struct range_dir *d)
{
	struct loading *l = arg;
	struct live_checkpoint *live = find_live(l, range, d->number);
	uint64_t len = (uint64_t)d->extents * CHECKPOINT_EXTENT_BYTES;

	(void)piece;
	if (!live)
		return l->rc;
	live->live_bytes += len;
	/* No two pieces share bytes, for none of their extents could be in both.  So the map gets
	 * no more memory than the payloads have extents. */
	if (d->offset_bytes > live->x.payload_bytes ||
		len > live->x.payload_bytes - d->offset_bytes ||
		live->live_bytes > live->x.payload_bytes)
		return l->rc = err_set(l->e, -EUCLEAN,
			       "range %" PRIu64 " lies outside of checkpoint %" PRIu64, range,
			       d->number);
	l->begin[live - l->v->ckpt->live + 1]++;
	l->n++;
	return 0;
}

/* In order of LBA; each goes behind those that its payload has already. */
static int place_piece(void *arg, uint64_t range, uint32_t piece, struct range_dir *d)
{
	struct loading *l = arg;
	const struct ranges *rs = &l->v->ckpt->ranges;
	uint64_t len = rs->sectors >> rs->range[range].halvings;
	const struct live_checkpoint *live = tables_find_live(l->v->ckpt, d->number);

	l->piece[l->begin[live - l->v->ckpt->live]++] =
		(struct piece){.lba = range * rs->sectors + piece * len,
			.sectors = len,
			.rank = l->extents,
			.dir = d};
	l->extents += d->extents;
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = ((const struct piece *)a)->dir->offset_bytes;
	uint64_t y = ((const struct piece *)b)->dir->offset_bytes;

	return (x > y) - (x < y);
}

/* Mostly a payload has its pieces in order of LBA. */
static void sort_payload(struct piece *p, uint64_t n)
{
	for (uint64_t i = 1; i < n; i++)
		if (by_offset(&p[i - 1], &p[i]) > 0) {
			qsort(p, n, sizeof(*p), by_offset);
			return;
		}
}

/* All pieces, by payload and then by offset, with their ranks. */
static int list_pieces(struct loading *l)
{
	struct checkpointer *c = l->v->ckpt;

	l->begin = calloc((size_t)c->nlive + 1, sizeof(*l->begin));
	if (!l->begin)
		return -ENOMEM;
	if (ranges_walk(&c->ranges, count_piece, l) < 0)
		return l->rc;
	for (uint32_t i = 0; i < c->nlive; i++)
		l->begin[i + 1] += l->begin[i];
	l->piece = malloc((l->n ? l->n : 1) * sizeof(*l->piece));
	if (!l->piece)
		return -ENOMEM;
	ranges_walk(&c->ranges, place_piece, l);
	/* begin[i] is the end of payload i by now. */
	for (uint32_t i = 0; i < c->nlive; i++) {
		uint64_t first = i ? l->begin[i - 1] : 0;

		sort_payload(l->piece + first, l->begin[i] - first);
	}
	return 0;
}

/* ---- a chunk that is there ---- */

/* The slot of the extent's object, if the extent may be within [from, end) and in that object, of
 * which live[slot] sectors are mapped already: no sector of an object is mapped twice.  Or none. */
static uint32_t slot_of(const struct objmap *om, const uint32_t *live,
	const struct checkpoint_extent *x, uint64_t from, uint64_t end)
{
	uint32_t slot = objmap_find(om, x->seq);
	uint64_t data_sectors;

	if (slot == OBJMAP_NONE)
		return slot;
	data_sectors = objmap_get(om, slot)->data_sectors;
	if (x->lba < from || x->lba >= end || !x->len || x->len > end - x->lba ||
		(uint64_t)x->off + x->len > data_sectors ||
		(uint64_t)live[slot] + x->len > data_sectors)
		return OBJMAP_NONE;
	return slot;
}

static uint64_t range_of(const struct loading *l, const struct piece *p)
{
	return p->lba / l->v->ckpt->ranges.sectors;
}

static int take_piece(
	struct loading *l, uint32_t *live, const struct piece *p, const uint8_t *at, struct err *e)
{
	uint64_t from = p->lba, end = p->lba + p->sectors, rank = p->rank;
	struct extent batch[BATCH];
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->dir->extents; i++, at += CHECKPOINT_EXTENT_BYTES) {
		struct checkpoint_extent x;
		uint32_t slot;

		checkpoint_get_extent(at, &x);
		slot = slot_of(l->v->objects, live, &x, from, end);
		if (slot == OBJMAP_NONE)
			return err_set(e, -EUCLEAN, "range %" PRIu64 ": extent %u is impossible",
				range_of(l, p), i);
		live[slot] += x.len;
		from = x.lba + x.len;
		batch[n++] =
			(struct extent){.lba = x.lba, .len = x.len, .place = place_of(slot, x.off)};
		if (n == BATCH) {
			extmap_build_put(&l->build, rank, batch, n);
			rank += n;
			n = 0;
		}
	}
	extmap_build_put(&l->build, rank, batch, n);
	return 0;
}

/* Either thread. */
static void take_chunk(struct helper_job *j, enum helper_who who)
{
	struct chunk *c = container_of(j, struct chunk, job);

	for (uint64_t i = 0; c->status == 0 && i < c->n; i++) {
		const struct piece *p = &c->piece[i];
		const struct range_dir *d = p->dir;
		const uint8_t *at = c->buf + (d->offset_bytes - c->off_bytes);

		if (crc32c(0, at, (size_t)d->extents * CHECKPOINT_EXTENT_BYTES) != d->crc &&
			!MUTANT(SKIP_RANGE_CRC))
			c->status = err_set(&c->err, -EBADMSG,
				"'%s': range %" PRIu64 ": checksum does not match", c->name,
				range_of(c->l, p));
		else
			c->status = take_piece(c->l, c->l->live[who], p, at, &c->err);
	}
}

/* ---- reading ---- */

static void chunk_over(struct chunk *c)
{
	struct loading *l = c->l;

	c->busy = false;
	l->busy--;
	if (c->status < 0 && l->rc == 0)
		l->rc = err_set(l->e, c->status, "%s", err_text(&c->err, c->status));
}

static void chunk_taken(struct helper_job *j)
{
	chunk_over(container_of(j, struct chunk, job));
}

static void chunk_there(struct store_req *r, int64_t status)
{
	struct chunk *c = container_of(r, struct chunk, req);

	if (status == (int64_t)c->len_bytes) {
		helper_give(c->l->helper, &c->job);
		return;
	}
	c->status = load_short(c->name, c->req.off_bytes, c->len_bytes, status, &c->err);
	chunk_over(c);
}

/* The next pieces of one payload that are together no longer than a chunk; or one that is. */
static void choose_pieces(struct loading *l, struct chunk *c)
{
	const struct piece *p = l->piece + l->next;

	c->piece = p;
	c->from = tables_find_live(l->v->ckpt, p->dir->number);
	c->off_bytes = p->dir->offset_bytes;
	for (c->n = 0; c->n < l->n - l->next; c->n++) {
		const struct range_dir *d = p[c->n].dir;
		uint64_t end = d->offset_bytes + (uint64_t)d->extents * CHECKPOINT_EXTENT_BYTES;

		if (c->n && (d->number != p->dir->number || end > c->off_bytes + CHUNK_BYTES))
			break;
		if (!c->n || end - c->off_bytes > c->len_bytes)
			c->len_bytes = end - c->off_bytes;
	}
	l->next += c->n;
}

static int start_chunk(struct loading *l, struct chunk *c)
{
	struct volume *v = l->v;

	choose_pieces(l, c);
	if (c->cap < c->len_bytes) {
		free(c->buf);
		c->cap = c->len_bytes;
		c->buf = malloc(c->cap);
		if (!c->buf)
			return -ENOMEM;
	}
	c->l = l;
	c->status = 0;
	c->err.msg[0] = 0;
	c->busy = true;
	l->busy++;
	c->job = (struct helper_job){.run = take_chunk, .done = chunk_taken};
	volume_ckpt_name_in(v->sb, c->name, v->name, c->from->x.epoch, c->from->x.number);
	c->iov = (struct iovec){.iov_base = c->buf, .iov_len = c->len_bytes};
	c->req = (struct store_req){.op = STORE_GET,
		.name = c->name,
		.iov = &c->iov,
		.iovcnt = 1,
		.off_bytes = c->from->x.meta_bytes + c->off_bytes,
		.len_bytes = c->len_bytes,
		.done = chunk_there,
		.err = &c->err};
	if (load_known(v, c->name, c->req.off_bytes, c->buf, c->len_bytes))
		helper_give(l->helper, &c->job);
	else
		store_submit(v->store, &c->req);
	return 0;
}

static void start_chunks(struct loading *l)
{
	for (unsigned i = 0; i < CHUNKS; i++)
		if (l->rc == 0 && l->next < l->n && !l->chunk[i].busy)
			l->rc = start_chunk(l, &l->chunk[i]);
}

/* ---- all of it ---- */

static int prepare(struct loading *l)
{
	struct volume *v = l->v;
	int rc = list_pieces(l);

	if (rc == 0)
		rc = extmap_build_begin(&l->build, v->map, l->extents);
	l->slots = objmap_slots(v->objects);
	for (unsigned i = 0; i < HELPERS; i++)
		l->live[i] = calloc((size_t)l->slots + 1, sizeof(*l->live[i]));
	l->helper = helper_new(v->loop);
	if (rc == 0 && !(l->live[HELPER_LOOP] && l->live[HELPER_THREAD] && l->helper))
		rc = -ENOMEM;
	return rc;
}

/* What both counted, together. */
static int take_live(struct loading *l)
{
	struct objmap *om = l->v->objects;

	for (uint32_t s = objmap_next(om, 0); s != OBJMAP_NONE; s = objmap_next(om, s + 1)) {
		const struct object *o = objmap_get(om, s);
		uint64_t live = (uint64_t)l->live[HELPER_LOOP][s] + l->live[HELPER_THREAD][s];

		if (live > o->data_sectors)
			return err_set(l->e, -EUCLEAN,
				"object %" PRIu64 ": more is mapped than it has", o->seq);
		objmap_live(om, s, (int64_t)live);
	}
	return 0;
}

static void free_loading(struct loading *l)
{
	helper_free(l->helper);
	for (unsigned i = 0; i < CHUNKS; i++)
		free(l->chunk[i].buf);
	for (unsigned i = 0; i < HELPERS; i++)
		free(l->live[i]);
	free(l->piece);
	free(l->begin);
	free(l);
}

int load_map(struct volume *v, struct err *e)
{
	struct loading *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return -ENOMEM;
	l->v = v;
	l->e = e;
	l->rc = prepare(l);
	for (;;) {
		start_chunks(l);
		if (!l->busy)
			break;
		loop_poll(v->loop, helper_work(l->helper) ? 0 : LOOP_FOREVER);
	}
	if (l->rc == 0)
		l->rc = take_live(l);
	if (l->rc == 0)
		extmap_build_end(&l->build);
	else
		extmap_clear(v->map);
	rc = l->rc;
	free_loading(l);
	return rc;
}
