/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * scan.c - who owns which segment: the headers of all segments, of all legs that are in sync.
 *
 * Legs in sync should agree.  Where they do not, the newest valid header counts, and is written to
 * the others when it is about a journal.  When no leg has one, a record behind it may tell.
 * Blocking.
 */
#include "pool/pool_impl.h"

#include "format/block.h"
#include "format/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	SCAN_DEPTH = 32,
	SCAN_BYTES = 2 * POOL_BLOCK, /* of a segment: its header, and the first block behind */
};

/* ---- blocking requests to a device ---- */

static void io_done(struct bdev_req *r, int status)
{
	struct dev_io *io = r->owner;

	io->status = status;
	io->over = true;
}

void dev_io_start(
	struct dev_io *io, struct bdev *d, enum bdev_op op, uint64_t at, void *buf, size_t len)
{
	*io = (struct dev_io){.iov = {.iov_base = buf, .iov_len = len}};
	io->req = (struct bdev_req){.op = op,
		.offset_bytes = at,
		.len_bytes = len,
		.iov = &io->iov,
		.iovcnt = len ? 1 : 0,
		.done = io_done,
		.owner = io};
	bdev_submit(d, &io->req);
}

int dev_io_wait(struct dev_io *io, struct loop *l)
{
	while (!io->over)
		loop_poll(l, LOOP_FOREVER);
	return io->status;
}

int dev_io(struct bdev *d, enum bdev_op op, uint64_t at, void *buf, size_t len)
{
	struct dev_io io;

	dev_io_start(&io, d, op, at, buf, len);
	return dev_io_wait(&io, d->loop);
}

/* ---- the scan ---- */

/* SCAN_DEPTH segment headers of every leg that is in sync. */
struct scan {
	struct pool *p;
	uint8_t in_sync; /* legs */
	struct dev_io io[POOL_LEGS_MAX][SCAN_DEPTH];
	uint8_t *blocks[POOL_LEGS_MAX];
	struct err *err;
};

static bool counts(const struct scan *sc, unsigned leg)
{
	return sc->in_sync >> leg & 1;
}

static void note_header(struct pool *p, struct segment *s, const struct segment_header *h)
{
	s->role = h->role;
	memcpy(s->owner, h->owner, 16);
	s->epoch = h->epoch;
	s->alloc = h->alloc;
	s->first_seq = h->first_seq;
	if (h->alloc > p->last_alloc)
		p->last_alloc = h->alloc;
}

/* What this leg says about segment i of those that were read. */
static uint8_t *scanned(const struct scan *sc, unsigned leg, uint32_t i)
{
	return sc->blocks[leg] + (size_t)i * SCAN_BYTES;
}

/* A leg that tells another story about a journal is told the one that counts. */
static int mend_header(struct scan *sc, uint32_t i, uint32_t index, unsigned good,
	const bool journal[POOL_LEGS_MAX])
{
	struct pool *p = sc->p;
	uint8_t *block = scanned(sc, good, i);

	for (unsigned leg = 0; leg < p->nlegs; leg++) {
		int rc;

		if (!counts(sc, leg) || leg == good || (!journal[leg] && !journal[good]) ||
			!memcmp(scanned(sc, leg, i), block, POOL_BLOCK))
			continue;
		rc = dev_io(p->legs[leg].dev, BDEV_WRITE, header_at(p, index), block, POOL_BLOCK);
		if (rc < 0)
			return err_set(sc->err, rc, "pool '%s': write segment header %u: %s",
				p->legs[leg].url, index, strerror(-rc));
	}
	return 0;
}

static bool of_another_pool(const struct pool *p, const uint8_t *block, uint32_t index)
{
	struct segment_header h = {0};

	return segment_header_decode(block, p->uuid, index, &h, NULL) == -EUCLEAN &&
	       !block_is_zero(h.pool_uuid, 16) && memcmp(h.pool_uuid, p->uuid, 16);
}

/* Is there a whole header of a record, whoever's? */
static bool record_behind(const uint8_t *block, uint64_t place, struct record_header *h)
{
	static const uint8_t nobody[16];
	struct record_header any = {0};

	/* The codec wants to know whose; it says so itself. */
	return record_decode(block, nobody, place, &any, NULL) == -EUCLEAN &&
	       record_decode(block, any.uuid, place, h, NULL) == 0;
}

/* No leg has a valid header.  When a journal's record follows it, the header was damaged, and the
 * record tells what matters of it; where it belongs in the order, place_rescued() finds out.  A
 * valid header of another pool is left from an earlier life of the device, and zeroes were written
 * over what a leg should forget. */
static void rescue(struct scan *sc, uint32_t i, uint32_t index)
{
	struct pool *p = sc->p;
	uint64_t place = (uint64_t)index * p->seg_blocks + 1;

	for (unsigned leg = 0; leg < p->nlegs; leg++) {
		const uint8_t *block = scanned(sc, leg, i);
		struct segment_header ours = {.role = SEGMENT_JOURNAL};
		struct record_header h;

		if (!counts(sc, leg) || block_is_zero(block, POOL_BLOCK) ||
			of_another_pool(p, block, index) ||
			!record_behind(block + POOL_BLOCK, place, &h))
			continue;
		memcpy(ours.owner, h.uuid, 16);
		ours.epoch = h.epoch;
		ours.first_seq = h.seq;
		note_header(p, &p->segs[index], &ours);
		return;
	}
}

/* A journal's segments are in order of allocation; alloc is 0 in those that were rescued. */
static void place_rescued(struct pool *p)
{
	for (uint32_t i = 0; i < p->nsegs; i++) {
		struct segment *s = &p->segs[i];

		for (uint32_t k = 0; s->role == SEGMENT_JOURNAL && !s->alloc && k < p->nsegs; k++) {
			const struct segment *t = &p->segs[k];

			if (t->role == SEGMENT_JOURNAL && !memcmp(t->owner, s->owner, 16) &&
				(t->epoch < s->epoch ||
					(t->epoch == s->epoch && t->first_seq < s->first_seq)) &&
				t->alloc > s->rescued_after)
				s->rescued_after = t->alloc;
		}
	}
	for (uint32_t i = 0; i < p->nsegs; i++)
		if (p->segs[i].role == SEGMENT_JOURNAL && !p->segs[i].alloc)
			p->segs[i].alloc = p->segs[i].rescued_after;
}

/* The valid header with the highest allocation number tells.  None: nobody's, unless a record says
 * otherwise. */
static int judge_header(struct scan *sc, uint32_t i, uint32_t index)
{
	struct pool *p = sc->p;
	struct segment_header h, best = {0};
	bool journal[POOL_LEGS_MAX] = {false}, any = false;
	unsigned good = 0;

	for (unsigned leg = 0; leg < p->nlegs; leg++) {
		if (!counts(sc, leg) ||
			segment_header_decode(scanned(sc, leg, i), p->uuid, index, &h, NULL) < 0)
			continue;
		journal[leg] = h.role == SEGMENT_JOURNAL;
		if (any && h.alloc <= best.alloc)
			continue;
		any = true;
		best = h;
		good = leg;
	}
	if (!any) {
		rescue(sc, i, index);
		return 0;
	}
	note_header(p, &p->segs[index], &best);
	return mend_header(sc, i, index, good, journal);
}

static int read_headers(struct scan *sc, uint32_t at, uint32_t n)
{
	struct pool *p = sc->p;
	uint32_t bad[SCAN_DEPTH] = {0}, legs;
	int rc = 0;

	legs = legs_in(sc->in_sync);
	for (unsigned leg = 0; leg < p->nlegs; leg++)
		for (uint32_t i = 0; counts(sc, leg) && i < n; i++)
			dev_io_start(&sc->io[leg][i], p->legs[leg].dev, BDEV_READ,
				header_at(p, at + i), scanned(sc, leg, i), SCAN_BYTES);
	for (unsigned leg = 0; leg < p->nlegs; leg++) {
		for (uint32_t i = 0; counts(sc, leg) && i < n; i++) {
			int status = dev_io_wait(&sc->io[leg][i], p->loop);

			if (status == 0)
				continue;
			memset(scanned(sc, leg, i), 0, SCAN_BYTES);
			if (++bad[i] == legs && rc == 0)
				rc = err_set(sc->err, status,
					"pool '%s': read segment header %u: %s", p->legs[leg].url,
					at + i, strerror(-status));
		}
	}
	return rc;
}

int pool_scan(struct pool *p, uint8_t in_sync, struct err *e)
{
	struct scan *sc = calloc(1, sizeof(*sc));
	uint32_t n;
	int rc = sc ? 0 : -ENOMEM;

	for (unsigned leg = 0; rc == 0 && leg < p->nlegs; leg++)
		if (posix_memalign(
			    (void **)&sc->blocks[leg], POOL_BLOCK, (size_t)SCAN_DEPTH * SCAN_BYTES))
			rc = -ENOMEM;
	if (rc == 0) {
		sc->p = p;
		sc->in_sync = in_sync;
		sc->err = e;
	}
	for (uint32_t at = 0; rc == 0 && at < p->nsegs; at += n) {
		n = p->nsegs - at < SCAN_DEPTH ? p->nsegs - at : SCAN_DEPTH;
		rc = read_headers(sc, at, n);
		for (uint32_t i = 0; rc == 0 && i < n; i++)
			rc = judge_header(sc, i, at + i);
	}
	if (rc == 0)
		place_rescued(p);
	for (unsigned leg = 0; sc && leg < p->nlegs; leg++)
		free(sc->blocks[leg]);
	free(sc);
	return rc;
}
