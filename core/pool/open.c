/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.c - opening a pool: format a new leg, scan segment headers, bring a stale leg up to date.
 *
 * Happy path: read block 0 of each leg; all zero -> new leg, else decode.  The leg with the highest
 * generation leads; its segment headers say who owns what.  A leg that is new or was away (lower
 * generation) gets a copy of every journal segment, before the generation is raised on all legs.
 */
#include "pool/pool_impl.h"

#include "format/block.h"
#include "format/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	SCAN_DEPTH = 32,
	SEGMENTS_MIN = 8,
	SEGMENT_BYTES_MIN = 256 << 10,
	FIRST_MAX = 1 << 20,
	COPY_BLOCKS = 64
};

struct leg_state {
	struct pool_header header;
	bool fresh; /* nothing on it yet */
};

/* One blocking request to one device at an absolute place. */
struct leg_io {
	struct bdev_req req;
	struct iovec iov;
	int status;
	bool over;
};

static void leg_io_done(struct bdev_req *r, int status)
{
	struct leg_io *io = r->owner;

	io->status = status;
	io->over = true;
}

static void leg_io_start(
	struct leg_io *io, struct bdev *d, enum bdev_op op, uint64_t at, void *buf, size_t len)
{
	*io = (struct leg_io){.iov = {.iov_base = buf, .iov_len = len}};
	io->req = (struct bdev_req){.op = op,
		.offset_bytes = at,
		.len_bytes = len,
		.iov = &io->iov,
		.iovcnt = len ? 1 : 0,
		.done = leg_io_done,
		.owner = io};
	bdev_submit(d, &io->req);
}

static int leg_io_wait(struct leg_io *io, struct loop *l)
{
	while (!io->over)
		loop_poll(l, LOOP_FOREVER);
	return io->status;
}

static int leg_io(struct bdev *d, enum bdev_op op, uint64_t at, void *buf, size_t len)
{
	struct leg_io io;

	leg_io_start(&io, d, op, at, buf, len);
	return leg_io_wait(&io, d->loop);
}

/* ---- block 0 ---- */

static int read_leg_header(struct bdev *d, struct leg_state *st, void *buf, struct err *e)
{
	int rc = leg_io(d, BDEV_READ, 0, buf, POOL_BLOCK);

	if (rc < 0)
		return err_set(e, rc, "pool '%s': read header: %s", d->url, strerror(-rc));
	st->fresh = block_is_zero(buf, POOL_BLOCK);
	if (st->fresh)
		return 0;
	rc = pool_header_decode(buf, &st->header, e);
	if (rc < 0)
		return err_wrap(e, rc,
			"'%s' is not an LSVD pool (give another path, or remove it to have it "
			"made)",
			d->url);
	return 0;
}

static int write_leg_header(struct pool *p, unsigned leg, void *buf)
{
	struct pool_header h = {.segment_bytes = p->segment_bytes,
		.segments = p->nsegs,
		.leg = (uint8_t)leg,
		.legs = (uint8_t)p->nlegs,
		.created_ns = p->created_ns,
		.generation = p->generation};

	memcpy(h.uuid, p->uuid, 16);
	pool_header_encode(&h, buf);
	return leg_io(p->legs[leg], BDEV_WRITE, 0, buf, POOL_BLOCK);
}

/* ---- geometry ---- */

static uint64_t first_bytes(uint64_t segment_bytes)
{
	return segment_bytes < FIRST_MAX ? segment_bytes : FIRST_MAX;
}

static uint64_t smallest_leg(const struct pool *p)
{
	uint64_t size = UINT64_MAX;

	for (unsigned i = 0; i < p->nlegs; i++)
		if (p->legs[i]->size_bytes < size)
			size = p->legs[i]->size_bytes;
	return size;
}

static int choose_geometry(struct pool *p, const struct config *cfg, struct err *e)
{
	uint64_t size = smallest_leg(p), seg = cfg->pool_segment_bytes;

	while (seg > SEGMENT_BYTES_MIN && size / seg < 2 * SEGMENTS_MIN + 1)
		seg /= 2;
	if (size < first_bytes(seg) + SEGMENTS_MIN * seg)
		return err_set(e, -EINVAL,
			"pool '%s': %" PRIu64 " bytes are too few; at least %" PRIu64 " are needed",
			p->legs[0]->url, size, first_bytes(seg) + SEGMENTS_MIN * seg);
	p->segment_bytes = seg;
	p->nsegs = (uint32_t)((size - first_bytes(seg)) / seg);
	for (unsigned i = 0; i < 16; i += 8) {
		uint64_t v = loop_random(p->loop);

		memcpy(p->uuid + i, &v, 8);
	}
	p->created_ns = loop_wall(p->loop);
	return 0;
}

static int take_geometry(struct pool *p, const struct pool_header *h, struct err *e)
{
	p->segment_bytes = h->segment_bytes;
	p->nsegs = h->segments;
	p->generation = h->generation;
	p->created_ns = h->created_ns;
	memcpy(p->uuid, h->uuid, 16);
	if (smallest_leg(p) <
		first_bytes(h->segment_bytes) + (uint64_t)h->segments * h->segment_bytes)
		return err_set(e, -EUCLEAN, "pool '%s': shorter than its header says: truncated?",
			p->legs[0]->url);
	return 0;
}

static int allocate(struct pool *p)
{
	p->first_bytes = first_bytes(p->segment_bytes);
	p->seg_blocks = (uint32_t)(p->segment_bytes / POOL_BLOCK);
	p->segs = calloc(p->nsegs, sizeof(*p->segs));
	p->crc = calloc((size_t)p->nsegs * p->seg_blocks, sizeof(*p->crc));
	if (!p->segs || !p->crc)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->nsegs; i++)
		p->segs[i].index = i;
	return 0;
}

/* ---- the scan ---- */

static void note_header(struct pool *p, struct segment *s, const void *buf)
{
	struct segment_header h;

	/* Zeroes or damage: nobody's.  A journal whose header is lost had no acknowledged record in
	 * it unless the device lost a completed write; then replay stops there, which it reports.
	 */
	if (segment_header_decode(buf, p->uuid, s->index, &h, NULL) < 0)
		return;
	s->role = h.role;
	memcpy(s->owner, h.owner, 16);
	s->epoch = h.epoch;
	s->alloc = h.alloc;
	s->first_seq = h.first_seq;
	if (h.alloc > p->last_alloc)
		p->last_alloc = h.alloc;
}

static int scan(struct pool *p, unsigned leg, struct err *e)
{
	struct leg_io io[SCAN_DEPTH];
	uint8_t *headers;
	uint32_t n;
	int rc = 0;

	if (posix_memalign((void **)&headers, POOL_BLOCK, (size_t)SCAN_DEPTH * POOL_BLOCK))
		return -ENOMEM;
	for (uint32_t at = 0; at < p->nsegs; at += n) {
		n = p->nsegs - at < SCAN_DEPTH ? p->nsegs - at : SCAN_DEPTH;
		for (uint32_t i = 0; i < n; i++)
			leg_io_start(&io[i], p->legs[leg], BDEV_READ,
				p->first_bytes + (uint64_t)(at + i) * p->segment_bytes,
				headers + (size_t)i * POOL_BLOCK, POOL_BLOCK);
		for (uint32_t i = 0; i < n; i++) {
			int status = leg_io_wait(&io[i], p->loop);

			if (status < 0 && rc == 0)
				rc = err_set(e, status, "pool '%s': read segment header %u: %s",
					p->legs[leg]->url, at + i, strerror(-status));
			if (status == 0)
				note_header(p, &p->segs[at + i], headers + (size_t)i * POOL_BLOCK);
		}
	}
	free(headers);
	return rc;
}

/* ---- a leg that was away ---- */

static int copy_segment(
	struct pool *p, const struct segment *s, unsigned from, unsigned to, void *buf)
{
	uint64_t at = p->first_bytes + s->index * p->segment_bytes;
	size_t piece = (size_t)COPY_BLOCKS * POOL_BLOCK;
	int rc = 0;

	for (uint64_t off = 0; rc == 0 && off < p->segment_bytes; off += piece) {
		rc = leg_io(p->legs[from], BDEV_READ, at + off, buf, piece);
		if (rc == 0)
			rc = leg_io(p->legs[to], BDEV_WRITE, at + off, buf, piece);
	}
	return rc;
}

/* Every header, and journals whole, so that the leg alone could lead next time. */
static int resync(struct pool *p, unsigned from, unsigned to, struct err *e)
{
	void *buf;
	int rc = 0;

	if (posix_memalign(&buf, POOL_BLOCK, (size_t)COPY_BLOCKS * POOL_BLOCK))
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < p->nsegs; i++) {
		uint64_t at = p->first_bytes + i * p->segment_bytes;

		if (p->segs[i].role == SEGMENT_JOURNAL) {
			rc = copy_segment(p, &p->segs[i], from, to, buf);
		} else {
			memset(buf, 0, POOL_BLOCK);
			rc = leg_io(p->legs[to], BDEV_WRITE, at, buf, POOL_BLOCK);
		}
	}
	if (rc == 0)
		rc = leg_io(p->legs[to], BDEV_FLUSH, 0, NULL, 0);
	free(buf);
	if (rc < 0)
		return err_set(e, rc, "pool: bring leg '%s' up to date: %s", p->legs[to]->url,
			strerror(-rc));
	return 0;
}

/* The cache lives on leg 0 alone; on a leg 0 that is new there is none. */
static void forget_cache(struct pool *p)
{
	for (uint32_t i = 0; i < p->nsegs; i++)
		if (p->segs[i].role == SEGMENT_CACHE)
			p->segs[i].role = SEGMENT_FREE;
}

static void collect_free(struct pool *p)
{
	for (uint32_t i = 0; i < p->nsegs; i++)
		if (p->segs[i].role == SEGMENT_FREE)
			pool_push_free(p, &p->segs[i]);
}

static int find_leader(
	const struct pool *p, const struct leg_state *st, unsigned *leader, struct err *e)
{
	bool any = false;

	for (unsigned i = 0; i < p->nlegs; i++) {
		if (st[i].fresh)
			continue;
		if (any && memcmp(st[i].header.uuid, st[*leader].header.uuid, 16))
			return err_set(e, -EUCLEAN, "'%s' and '%s' are legs of different pools",
				p->legs[*leader]->url, p->legs[i]->url);
		if (!any || st[i].header.generation > st[*leader].header.generation)
			*leader = i;
		any = true;
	}
	return any;
}

static int load(struct pool *p, const struct config *cfg, void *block, struct err *e)
{
	struct leg_state st[POOL_LEGS_MAX] = {0};
	unsigned leader = 0;
	int rc, found;

	for (unsigned i = 0; i < p->nlegs; i++) {
		rc = read_leg_header(p->legs[i], &st[i], block, e);
		if (rc < 0)
			return rc;
	}
	found = find_leader(p, st, &leader, e);
	if (found < 0)
		return found;
	rc = found ? take_geometry(p, &st[leader].header, e) : choose_geometry(p, cfg, e);
	if (rc == 0)
		rc = allocate(p);
	if (rc == 0 && found)
		rc = scan(p, leader, e);
	for (unsigned i = 0; rc == 0 && found && i < p->nlegs; i++)
		if (i != leader &&
			(st[i].fresh || st[i].header.generation < st[leader].header.generation)) {
			rc = resync(p, leader, i, e);
			if (i == 0)
				forget_cache(p);
		}
	p->generation++;
	for (unsigned i = 0; rc == 0 && i < p->nlegs; i++) {
		rc = write_leg_header(p, i, block);
		if (rc == 0)
			rc = leg_io(p->legs[i], BDEV_FLUSH, 0, NULL, 0);
		if (rc < 0)
			err_set(e, rc, "pool '%s': write header: %s", p->legs[i]->url,
				strerror(-rc));
	}
	collect_free(p);
	return rc;
}

int pool_open_on(struct loop *l, struct bdev **legs, unsigned nlegs, const struct config *cfg,
	struct pool **out, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	void *block = NULL;
	int rc = -ENOMEM;

	if (!p || posix_memalign(&block, POOL_BLOCK, POOL_BLOCK))
		goto out;
	p->loop = l;
	p->nlegs = nlegs;
	memcpy(p->legs, legs, nlegs * sizeof(*legs));
	pool_init_lists(p);
	rc = load(p, cfg, block, e);
out:
	free(block);
	if (rc < 0) {
		if (p)
			pool_close(p);
		else
			for (unsigned i = 0; i < nlegs; i++)
				bdev_close(legs[i]);
		return err_wrap(e, rc, "open pool");
	}
	*out = p;
	return 0;
}

int pool_open(struct loop *l, const struct config *cfg, struct pool **out, struct err *e)
{
	const char *urls[POOL_LEGS_MAX] = {cfg->pool_path, cfg->pool_mirror};
	struct bdev *legs[POOL_LEGS_MAX];
	unsigned n = 0;

	for (; n < POOL_LEGS_MAX && urls[n][0]; n++) {
		int rc = bdev_open(l, urls[n], BDEV_CREATE | BDEV_LOCK, cfg->pool_size_bytes,
			&legs[n], NULL, e);

		if (rc < 0) {
			while (n)
				bdev_close(legs[--n]);
			return err_wrap(e, rc, "open pool");
		}
	}
	return pool_open_on(l, legs, n, cfg, out, e);
}

void pool_drop(struct pool *p)
{
	memset(p->legs, 0, sizeof(p->legs));
	pool_close(p);
}

void pool_close(struct pool *p)
{
	for (unsigned i = 0; i < p->nlegs; i++)
		if (p->legs[i])
			bdev_close(p->legs[i]);
	free(p->segs);
	free(p->crc);
	free(p);
}
