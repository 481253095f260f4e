/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.c - opening a pool: format a new leg, scan segment headers, bring a stale leg up to date.
 *
 * Happy path: read block 0 of each leg; blank -> new leg, else decode.  The leg with the highest
 * generation leads; its segment headers, and those of legs that were with it, say who owns what.  A
 * leg that is new or was away (lower generation) gets a copy of every journal segment, before the
 * generation is raised on all legs.  An opening with the legs of the last one raises it by one, any
 * other by two: so a leg that is one behind was there, and a crash came between the legs.  Two legs
 * that were each used without the other have told different stories since: refused.
 */
#include "pool/pool_impl.h"

#include "sys/mutant.h"

#include "format/block.h"
#include "format/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	SCAN_DEPTH = 32,
	SCAN_BYTES = 2 * POOL_BLOCK, /* of a segment: its header, and the first block behind */
	SEGMENTS_MIN = 8,
	COPY_BYTES = 256 << 10,	 /* divides every segment */
	BLANK_BYTES = 256 << 10, /* so much is zero on a device that nobody uses */
};

struct leg_state {
	struct pool_header header;
	bool fresh;   /* nothing on it yet */
	bool in_sync; /* it was there when the pool was last open */
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

/* `buf` has room for BLANK_BYTES.  Beginnings of other formats (a btrfs, an ISO image ...) may lie
 * behind a block of zeroes. */
static int read_leg_header(struct bdev *d, struct leg_state *st, void *buf, struct err *e)
{
	size_t len =
		d->size_bytes < BLANK_BYTES ? d->size_bytes / POOL_BLOCK * POOL_BLOCK : BLANK_BYTES;
	int rc = leg_io(d, BDEV_READ, 0, buf, len);

	if (rc < 0)
		return err_set(e, rc, "pool '%s': read header: %s", d->url, strerror(-rc));
	st->fresh = block_is_zero(buf, len);
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
	memcpy(h.opening, p->opening, sizeof(h.opening));
	pool_header_encode(&h, buf);
	return leg_io(p->legs[leg], BDEV_WRITE, 0, buf, POOL_BLOCK);
}

/* ---- geometry ---- */

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

	while (seg > POOL_SEGMENT_BYTES_MIN && size / seg < 2 * SEGMENTS_MIN + 1)
		seg /= 2;
	if (size < pool_first_bytes(seg) + SEGMENTS_MIN * seg)
		return err_set(e, -EINVAL,
			"pool '%s': %" PRIu64 " bytes are too few; at least %" PRIu64 " are needed",
			p->legs[0]->url, size, pool_first_bytes(seg) + SEGMENTS_MIN * seg);
	p->segment_bytes = seg;
	p->nsegs = (uint32_t)((size - pool_first_bytes(seg)) / seg);
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
	memcpy(p->opening, h->opening, sizeof(p->opening));
	if (smallest_leg(p) <
		pool_first_bytes(h->segment_bytes) + (uint64_t)h->segments * h->segment_bytes)
		return err_set(e, -EUCLEAN, "pool '%s': shorter than its header says: truncated?",
			p->legs[0]->url);
	return 0;
}

static int allocate(struct pool *p)
{
	p->first_bytes = pool_first_bytes(p->segment_bytes);
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

/* SCAN_DEPTH segment headers of every leg that is in sync. */
struct scan {
	struct pool *p;
	const struct leg_state *st;
	struct leg_io io[POOL_LEGS_MAX][SCAN_DEPTH];
	uint8_t *blocks[POOL_LEGS_MAX];
	struct err *err;
};

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

static uint64_t header_at(const struct pool *p, uint32_t index)
{
	return p->first_bytes + (uint64_t)index * p->segment_bytes;
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

		if (!sc->st[leg].in_sync || leg == good || (!journal[leg] && !journal[good]) ||
			!memcmp(scanned(sc, leg, i), block, POOL_BLOCK))
			continue;
		rc = leg_io(p->legs[leg], BDEV_WRITE, header_at(p, index), block, POOL_BLOCK);
		if (rc < 0)
			return err_set(sc->err, rc, "pool '%s': write segment header %u: %s",
				p->legs[leg]->url, index, strerror(-rc));
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

		if (!sc->st[leg].in_sync || block_is_zero(block, POOL_BLOCK) ||
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
		if (!sc->st[leg].in_sync ||
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
	uint32_t bad[SCAN_DEPTH] = {0}, legs = 0;
	int rc = 0;

	for (unsigned leg = 0; leg < p->nlegs; leg++)
		legs += sc->st[leg].in_sync;
	for (unsigned leg = 0; leg < p->nlegs; leg++)
		for (uint32_t i = 0; sc->st[leg].in_sync && i < n; i++)
			leg_io_start(&sc->io[leg][i], p->legs[leg], BDEV_READ, header_at(p, at + i),
				scanned(sc, leg, i), SCAN_BYTES);
	for (unsigned leg = 0; leg < p->nlegs; leg++) {
		for (uint32_t i = 0; sc->st[leg].in_sync && i < n; i++) {
			int status = leg_io_wait(&sc->io[leg][i], p->loop);

			if (status == 0)
				continue;
			memset(scanned(sc, leg, i), 0, SCAN_BYTES);
			if (++bad[i] == legs && rc == 0)
				rc = err_set(sc->err, status,
					"pool '%s': read segment header %u: %s", p->legs[leg]->url,
					at + i, strerror(-status));
		}
	}
	return rc;
}

static int scan(struct pool *p, const struct leg_state *st, struct err *e)
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
		sc->st = st;
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

/* ---- a leg that was away ---- */

static int copy_segment(
	struct pool *p, const struct segment *s, unsigned from, unsigned to, void *buf)
{
	uint64_t at = header_at(p, s->index);
	int rc = 0;

	for (uint64_t off = 0; rc == 0 && off < p->segment_bytes; off += COPY_BYTES) {
		rc = leg_io(p->legs[from], BDEV_READ, at + off, buf, COPY_BYTES);
		if (rc == 0)
			rc = leg_io(p->legs[to], BDEV_WRITE, at + off, buf, COPY_BYTES);
	}
	return rc;
}

/* Every header, and journals whole, so that the leg alone could lead next time. */
static int resync(struct pool *p, unsigned from, unsigned to, struct err *e)
{
	void *buf;
	int rc = 0;

	if (posix_memalign(&buf, POOL_BLOCK, COPY_BYTES))
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < p->nsegs; i++) {
		if (p->segs[i].role == SEGMENT_JOURNAL) {
			rc = copy_segment(p, &p->segs[i], from, to, buf);
		} else {
			memset(buf, 0, POOL_BLOCK);
			rc = leg_io(p->legs[to], BDEV_WRITE, header_at(p, i), buf, POOL_BLOCK);
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

/* The generation that `old` last saw: did the pool live through it, too? */
static bool knows(const struct pool_header *h, const struct pool_header *old)
{
	uint64_t age = h->generation - old->generation;

	return age >= POOL_OPENINGS || h->opening[age] == old->opening[0];
}

/* Did `h` miss nothing of what the leader has?  One behind: the leader's opening, with both of
 * them, was cut before it came to this leg, and so before anything was written. */
static bool in_sync(const struct pool_header *leader, const struct pool_header *h)
{
	uint64_t behind = leader->generation - h->generation;

	return behind == 0 || (behind == 1 && leader->legs > 1 && leader->legs == h->legs);
}

/* 1 and the leg that was there last, 0 when all are new, or -EUCLEAN. */
static int find_leader(const struct pool *p, struct leg_state *st, unsigned *leader, struct err *e)
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
	for (unsigned i = 0; any && i < p->nlegs; i++) {
		if (st[i].fresh)
			continue;
		if (!knows(&st[*leader].header, &st[i].header))
			return err_set(e, -EUCLEAN,
				"'%s' and '%s' were each used without the other, so their journals "
				"differ; remove the one that counts less",
				p->legs[*leader]->url, p->legs[i]->url);
		st[i].in_sync = in_sync(&st[*leader].header, &st[i].header);
	}
	return any;
}

static int bring_up_to_date(
	struct pool *p, const struct leg_state *st, unsigned leader, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < p->nlegs; i++)
		if (!st[i].in_sync && !MUTANT(NO_RESYNC))
			rc = resync(p, leader, i, e);
	if (!st[0].in_sync || st[0].header.leg != 0)
		forget_cache(p);
	return rc;
}

/* Are the legs those of the last opening, all up to date? */
static bool as_before(const struct pool *p, const struct leg_state *st)
{
	for (unsigned i = 0; i < p->nlegs; i++)
		if (!st[i].in_sync || st[i].header.legs != p->nlegs)
			return false;
	return true;
}

/* From here on a leg that is away now is behind. */
static int begin_generation(struct pool *p, unsigned step, void *block, struct err *e)
{
	p->generation += step;
	memmove(p->opening + step, p->opening, (POOL_OPENINGS - step) * sizeof(p->opening[0]));
	memset(p->opening, 0, step * sizeof(p->opening[0]));
	p->opening[0] = loop_random(p->loop);
	for (unsigned i = 0; i < p->nlegs; i++) {
		int rc = write_leg_header(p, i, block);

		if (rc == 0)
			rc = leg_io(p->legs[i], BDEV_FLUSH, 0, NULL, 0);
		if (rc < 0)
			return err_set(e, rc, "pool '%s': write header: %s", p->legs[i]->url,
				strerror(-rc));
	}
	return 0;
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
		rc = scan(p, st, e);
	if (rc == 0 && found)
		rc = bring_up_to_date(p, st, leader, e);
	if (rc == 0)
		rc = begin_generation(p, !found || as_before(p, st) ? 1 : 2, block, e);
	if (rc == 0)
		collect_free(p);
	return rc;
}

int pool_open_on(struct loop *l, struct bdev **legs, unsigned nlegs, const struct config *cfg,
	struct pool **out, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	void *block = NULL;
	int rc = -ENOMEM;

	if (!p || posix_memalign(&block, POOL_BLOCK, BLANK_BYTES))
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
