/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.c - opening a pool: format a new leg, find out who is complete, bring a stale leg up to
 * date.
 *
 * Happy path: read block 0 of each leg; blank -> new leg, else decode.  The leg with the highest
 * generation leads; its segment headers, and those of legs that were with it, say who owns what.  A
 * leg that is new or was away (lower generation) gets a copy of every journal segment, before the
 * generation is raised on all legs.  Two legs that were each used without the other have told
 * different stories since: refused.
 *
 * A leg that is configured but not there may have gone on without those that are there, if the
 * leader says that it was a member: then its journal is the newer one.  With pool.acks a number
 * that takes as many missing members; fewer can have acknowledged nothing.  Else opening is
 * refused, unless pool.degraded says to go on with what is there.
 */
#include "pool/pool_impl.h"

#include "format/block.h"
#include "sys/log.h"
#include "sys/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS_MIN = 8 };

struct leg_state {
	struct pool_header header;
	bool there;
	bool fresh;   /* nothing on it yet */
	bool in_sync; /* it was there when the pool was last open */
};

/* ---- block 0 ---- */

/* `buf` has room for BLANK_BYTES.  Beginnings of other formats (a btrfs, an ISO image ...) may lie
 * behind a block of zeroes. */
static int read_leg_header(struct bdev *d, struct leg_state *st, void *buf, struct err *e)
{
	size_t len =
		d->size_bytes < BLANK_BYTES ? d->size_bytes / POOL_BLOCK * POOL_BLOCK : BLANK_BYTES;
	int rc = dev_io(d, BDEV_READ, 0, buf, len);

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

void pool_header_of(const struct pool *p, unsigned leg, uint8_t members, void *block)
{
	struct pool_header h = {.segment_bytes = p->segment_bytes,
		.segments = p->nsegs,
		.leg = (uint8_t)leg,
		.legs = (uint8_t)p->nlegs,
		.members = members,
		.created_ns = p->created_ns,
		.generation = p->generation};

	if (p->joined && p->generation - p->joined < POOL_OPENINGS)
		h.joined = (uint8_t)(1 + p->generation - p->joined);
	memcpy(h.uuid, p->uuid, 16);
	memcpy(h.opening, p->opening, sizeof(h.opening));
	pool_header_encode(&h, block);
}

/* A leg that cannot be read is one that is not there, as long as there are others. */
static int read_headers_of_legs(struct pool *p, struct leg_state *st, struct err *e)
{
	unsigned there = 0;
	int rc = 0;

	for (unsigned i = 0; i < p->nlegs; i++) {
		struct leg *g = &p->legs[i];

		if (!g->dev || g->dev->down)
			continue;
		rc = read_leg_header(g->dev, &st[i], g->buf, e);
		if (rc < 0 && (p->nlegs == 1 || rc == -EUCLEAN || rc == -EPROTO || rc == -EBADMSG))
			return rc;
		if (rc < 0) {
			log_say("%s", e->msg);
			continue;
		}
		st[i].there = true;
		there++;
	}
	return there ? 0 : rc < 0 ? rc : err_set(e, -ENOTCONN, "no leg of the pool is there");
}

/* ---- geometry ---- */

static uint64_t smallest_leg(const struct pool *p, const struct leg_state *st)
{
	uint64_t size = UINT64_MAX;

	for (unsigned i = 0; i < p->nlegs; i++)
		if (st[i].there && p->legs[i].dev->size_bytes < size)
			size = p->legs[i].dev->size_bytes;
	return size;
}

static int choose_geometry(
	struct pool *p, const struct leg_state *st, const struct config *cfg, struct err *e)
{
	uint64_t size = smallest_leg(p, st), seg = cfg->pool_segment_bytes;

	while (seg > POOL_SEGMENT_BYTES_MIN && size / seg < 2 * SEGMENTS_MIN + 1)
		seg /= 2;
	if (size < pool_first_bytes(seg) + SEGMENTS_MIN * seg)
		return err_set(e, -EINVAL,
			"pool '%s': %" PRIu64 " bytes are too few; at least %" PRIu64 " are needed",
			p->legs[0].url, size, pool_first_bytes(seg) + SEGMENTS_MIN * seg);
	p->segment_bytes = seg;
	p->nsegs = (uint32_t)((size - pool_first_bytes(seg)) / seg);
	for (unsigned i = 0; i < 16; i += 8) {
		uint64_t v = loop_random(p->loop);

		memcpy(p->uuid + i, &v, 8);
	}
	p->created_ns = loop_wall(p->loop);
	return 0;
}

static int take_geometry(
	struct pool *p, const struct leg_state *st, const struct pool_header *h, struct err *e)
{
	p->segment_bytes = h->segment_bytes;
	p->nsegs = h->segments;
	p->generation = h->generation;
	p->created_ns = h->created_ns;
	p->joined = h->joined ? h->generation - h->joined + 1 : 0;
	memcpy(p->uuid, h->uuid, 16);
	memcpy(p->opening, h->opening, sizeof(p->opening));
	if (smallest_leg(p, st) <
		pool_first_bytes(h->segment_bytes) + (uint64_t)h->segments * h->segment_bytes)
		return err_set(e, -EUCLEAN, "pool '%s': shorter than its header says: truncated?",
			p->legs[0].url);
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

/* ---- a leg that was away ---- */

static int copy_segment(
	struct pool *p, const struct segment *s, unsigned from, unsigned to, void *buf)
{
	uint64_t at = header_at(p, s->index);
	int rc = 0;

	for (uint64_t off = 0; rc == 0 && off < p->segment_bytes; off += COPY_BYTES) {
		rc = dev_io(p->legs[from].dev, BDEV_READ, at + off, buf, COPY_BYTES);
		if (rc == 0)
			rc = dev_io(p->legs[to].dev, BDEV_WRITE, at + off, buf, COPY_BYTES);
	}
	return rc;
}

/* Every header, and journals whole, so that the leg alone could lead next time. */
static int resync(struct pool *p, unsigned from, unsigned to, struct err *e)
{
	void *buf = p->legs[to].buf;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < p->nsegs; i++) {
		if (p->segs[i].role == SEGMENT_JOURNAL) {
			rc = copy_segment(p, &p->segs[i], from, to, buf);
		} else {
			memset(buf, 0, POOL_BLOCK);
			rc = dev_io(p->legs[to].dev, BDEV_WRITE, header_at(p, i), buf, POOL_BLOCK);
		}
	}
	if (rc == 0)
		rc = dev_io(p->legs[to].dev, BDEV_FLUSH, 0, NULL, 0);
	if (rc < 0)
		return err_set(e, rc, "pool: bring leg '%s' up to date: %s", p->legs[to].url,
			strerror(-rc));
	p->legs[to].resyncs++;
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

/* Has the leg of st[i] all that the leader has?  A generation begins with its header on every
 * member, before anything is written or acknowledged in it.  So a member that still has an older
 * header was there when a crash cut the beginning between the legs.  Which bit of `members` is a
 * leg's is only known while legs have kept their places, but for when all are members; and a place
 * may be another leg's by now.  But before a leg becomes a member those that are already have begun
 * a generation without it: who is older than that one was none of them. */
static bool is_in_sync(
	const struct pool *p, const struct leg_state *st, unsigned leader, unsigned i)
{
	const struct pool_header *h = &st[leader].header;
	unsigned all = (1u << p->nlegs) - 1;
	bool kept = h->leg == leader && st[i].header.leg == i;
	uint64_t age = h->generation - st[i].header.generation;

	if (!age)
		return true;
	if (age > (h->joined ? h->joined : POOL_OPENINGS - 1) && !MUTANT(ANY_MEMBER))
		return false;
	if (h->legs != p->nlegs || st[i].header.legs != p->nlegs || MUTANT(FORGET_CUT_OPENING))
		return false;
	return h->members == all || (kept && h->members >> i & 1);
}

/* 1 and the leg that was there last, 0 when all are new, or -EUCLEAN. */
static int find_leader(const struct pool *p, struct leg_state *st, unsigned *leader, struct err *e)
{
	bool any = false;

	for (unsigned i = 0; i < p->nlegs; i++) {
		if (!st[i].there || st[i].fresh)
			continue;
		if (any && memcmp(st[i].header.uuid, st[*leader].header.uuid, 16))
			return err_set(e, -EUCLEAN, "'%s' and '%s' are legs of different pools",
				p->legs[*leader].url, p->legs[i].url);
		if (!any || st[i].header.generation > st[*leader].header.generation)
			*leader = i;
		any = true;
	}
	for (unsigned i = 0; any && i < p->nlegs; i++) {
		if (!st[i].there || st[i].fresh)
			continue;
		if (!knows(&st[*leader].header, &st[i].header))
			return err_set(e, -EUCLEAN,
				"'%s' and '%s' were each used without the other, so their journals "
				"differ; remove the one that counts less",
				p->legs[*leader].url, p->legs[i].url);
		st[i].in_sync = is_in_sync(p, st, *leader, i);
	}
	return any;
}

/* ---- legs that are missing ---- */

static unsigned missing_legs(const struct pool *p, const struct leg_state *st, const char **url)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->nlegs; i++)
		if (!st[i].there) {
			*url = p->legs[i].url;
			n++;
		}
	return n;
}

/* Members that are neither there nor left out of the configuration. */
static unsigned missing_members(
	const struct pool *p, const struct leg_state *st, unsigned leader, unsigned missing)
{
	unsigned members = legs_in(st[leader].header.members), there = 0;

	for (unsigned i = 0; i < p->nlegs; i++)
		there += st[i].in_sync;
	members = members > there ? members - there : 0;
	return members < missing ? members : missing;
}

static int check_missing(const struct pool *p, const struct leg_state *st, bool found,
	unsigned leader, struct err *e)
{
	const char *url = "";
	unsigned missing = missing_legs(p, st, &url), members, can_go_on = p->acks ? p->acks : 1;

	if (!missing || p->any)
		return 0;
	if (!found)
		return err_set(e, -ENOTCONN,
			"'%s' is not there, and the other legs are new: no pool is made without it "
			"(pool.degraded makes one)",
			url);
	members = missing_members(p, st, leader, missing);
	if (members < can_go_on)
		return 0;
	return err_set(e, -ENOTCONN,
		"%u of %u legs are not there ('%s'), and may have newer writes than those that "
		"are; "
		"bring them back, or give up what only they have (pool.degraded, or a "
		"configuration without them)",
		missing, p->nlegs, url);
}

/* ---- all together ---- */

static int bring_up_to_date(struct pool *p, struct leg_state *st, unsigned leader, struct err *e)
{
	for (unsigned i = 0; i < p->nlegs; i++) {
		int rc;

		if (!st[i].there || st[i].in_sync)
			continue;
		rc = MUTANT(NO_RESYNC) ? 0 : resync(p, leader, i, e);
		if (rc < 0) {
			log_say("%s", e->msg);
			st[i].there = false;
		}
	}
	if (!st[0].in_sync || st[0].header.leg != 0)
		forget_cache(p);
	return 0;
}

static int raise_generation(struct pool *p, struct err *e)
{
	pool_change(p);
	while (p->changing)
		loop_poll(p->loop, LOOP_FOREVER);
	if (p->failed)
		return err_set(e, p->failed, "pool '%s': write header: %s", p->legs[0].url,
			strerror(-p->failed));
	return 0;
}

/* From here on a leg that is away now is behind.  One that was is not among those who begin the
 * first generation: see is_in_sync(). */
static int begin_generations(struct pool *p, const struct leg_state *st, bool found, struct err *e)
{
	unsigned need = p->acks ? p->acks : 1, join = 0;
	int rc = 0;

	for (unsigned i = 0; i < p->nlegs; i++) {
		if (st[i].there && (st[i].in_sync || !found))
			leg_move(&p->legs[i], POOL_LEG_IN_SYNC);
		else
			join += st[i].there;
	}
	if (legs_in(p->voters) + join < need)
		return err_set(e, -ENOTCONN, "pool.acks = %u, but of %u legs only %u are there",
			need, p->nlegs, legs_in(p->voters) + join);
	if (join) {
		rc = raise_generation(p, e);
		p->joined = p->generation + 1;
	}
	for (unsigned i = 0; i < p->nlegs; i++)
		if (st[i].there && p->legs[i].state == POOL_LEG_NEW)
			leg_move(&p->legs[i], POOL_LEG_IN_SYNC);
	return rc < 0 ? rc : raise_generation(p, e);
}

/* Which legs it is open from; nothing when all is as it should be. */
static void tell(const struct pool *p, const struct leg_state *st, bool found)
{
	for (unsigned i = 0; i < p->nlegs; i++) {
		const struct leg *g = &p->legs[i];

		if (!(p->voters & leg_bit(g)))
			log_say("the pool is open without leg '%s'", g->url);
		else if (found && !st[i].in_sync)
			log_say("leg '%s' of the pool %s and was brought up to date", g->url,
				st[i].fresh ? "is new" : "was away");
	}
}

static int load(struct pool *p, const struct config *cfg, struct err *e)
{
	struct leg_state st[POOL_LEGS_MAX] = {0};
	unsigned leader = 0;
	uint8_t in_sync = 0;
	int found, rc = read_headers_of_legs(p, st, e);

	if (rc < 0)
		return rc;
	found = find_leader(p, st, &leader, e);
	rc = found < 0 ? found : check_missing(p, st, found, leader, e);
	if (rc < 0)
		return rc;
	rc = found ? take_geometry(p, st, &st[leader].header, e) : choose_geometry(p, st, cfg, e);
	for (unsigned i = 0; i < p->nlegs; i++)
		in_sync |= (uint8_t)(st[i].in_sync << i);
	if (rc == 0)
		rc = allocate(p);
	if (rc == 0 && found)
		rc = pool_scan(p, in_sync, e);
	if (rc == 0 && found)
		rc = bring_up_to_date(p, st, leader, e);
	if (rc == 0)
		rc = begin_generations(p, st, found, e);
	if (rc < 0)
		return rc;
	collect_free(p);
	tell(p, st, found);
	legs_start(p);
	return 0;
}

static int make_legs(struct pool *p, struct bdev **legs, unsigned nlegs,
	const char (*urls)[sizeof(p->legs[0].url)])
{
	p->nlegs = nlegs;
	for (unsigned i = 0; i < nlegs; i++)
		leg_init(p, i, legs[i], urls ? urls[i] : legs[i] ? legs[i]->url : "");
	for (unsigned i = 0; i < nlegs; i++)
		if (posix_memalign(&p->legs[i].buf, POOL_BLOCK, BLANK_BYTES))
			return -ENOMEM;
	return pool_make_reqs(p);
}

static int open_on(struct loop *l, struct bdev **legs, unsigned nlegs,
	const char (*urls)[sizeof(((struct leg *)0)->url)], const struct config *cfg,
	struct pool **out, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;

	if (!p) {
		for (unsigned i = 0; i < nlegs; i++)
			bdev_close(legs[i]);
		return err_wrap(e, rc, "open pool");
	}
	p->loop = l;
	p->acks = (uint8_t)strtoul(cfg->pool_acks, NULL, 10); /* "all": 0 */
	p->any = cfg->pool_degraded;
	p->timeout_ns = (cfg->pool_leg_timeout_ms ? cfg->pool_leg_timeout_ms : 5000) * 1000000ull;
	pool_init_lists(p);
	rc = make_legs(p, legs, nlegs, urls);
	if (rc == 0 && p->acks > nlegs)
		rc = err_set(
			e, -EINVAL, "pool.acks = %u, but the pool has %u legs", p->acks, nlegs);
	if (rc == 0)
		rc = load(p, cfg, e);
	if (rc < 0) {
		pool_close(p);
		return err_wrap(e, rc, "open pool");
	}
	*out = p;
	return 0;
}

int pool_open_on(struct loop *l, struct bdev **legs, unsigned nlegs, const struct config *cfg,
	struct pool **out, struct err *e)
{
	return open_on(l, legs, nlegs, NULL, cfg, out, e);
}

/* ---- by configuration ---- */

/* pool.path, and what pool.mirror lists. */
static int split_urls(const struct config *cfg, char urls[][sizeof(((struct leg *)0)->url)],
	unsigned *n, struct err *e)
{
	char list[sizeof(cfg->pool_mirror)], *rest = NULL;

	memcpy(list, cfg->pool_mirror, sizeof(list));
	snprintf(urls[0], sizeof(urls[0]), "%s", cfg->pool_path);
	*n = 1;
	for (char *s = strtok_r(list, " ,\t\n", &rest); s; s = strtok_r(NULL, " ,\t\n", &rest)) {
		if (*n == POOL_LEGS_MAX)
			return err_set(e, -EINVAL,
				"pool.mirror: more than %u legs; the pool has %u at most",
				POOL_LEGS_MAX - 1, POOL_LEGS_MAX);
		if (strlen(s) >= sizeof(urls[0]))
			return err_set(e, -ENAMETOOLONG, "pool.mirror: '%s' is too long", s);
		for (unsigned i = 0; i < *n; i++)
			if (!strcmp(urls[i], s) && strncmp(s, "mem:", 4))
				return err_set(e, -EINVAL, "the pool has leg '%s' twice", s);
		snprintf(urls[(*n)++], sizeof(urls[0]), "%s", s);
	}
	return 0;
}

/* A leg that is not there does not keep the others from being used; one that somebody else uses, or
 * that cannot be a leg at all, does. */
static bool is_missing(int rc)
{
	return rc == -ENOENT || rc == -ENODEV || rc == -ENXIO || rc == -EIO || rc == -ENOTCONN ||
	       rc == -ETIMEDOUT || rc == -ENOSPC || rc == -EROFS;
}

static int open_devices(struct loop *l, const struct config *cfg, unsigned flags,
	char urls[][sizeof(((struct leg *)0)->url)], struct bdev **legs, unsigned *n, struct err *e)
{
	unsigned there = 0;
	int rc = split_urls(cfg, urls, n, e);

	if (rc < 0)
		*n = 0;
	if (*n > 1)
		flags |= BDEV_DOWN_OK;
	for (unsigned i = 0; i < *n && rc == 0; i++) {
		legs[i] = NULL;
		rc = bdev_open(l, urls[i], flags, cfg->pool_size_bytes, &legs[i], NULL, e);
		if (rc == 0 && !legs[i]->down) {
			there++;
		} else if (rc == 0 || (is_missing(rc) && *n > 1)) {
			log_say("leg '%s' of the pool is not there: %s", urls[i], e->msg);
			rc = 0;
		}
		if (rc < 0)
			*n = i;
	}
	if (rc == 0 && !there)
		rc = err_set(e, -ENOTCONN, "no leg of the pool is there: %s", e->msg);
	for (unsigned i = 0; rc < 0 && i < *n; i++)
		bdev_close(legs[i]);
	return rc;
}

int pool_open_devices(
	struct loop *l, const struct config *cfg, struct bdev **legs, unsigned *n, struct err *e)
{
	char urls[POOL_LEGS_MAX][sizeof(((struct leg *)0)->url)];

	return open_devices(l, cfg, BDEV_LOCK, urls, legs, n, e);
}

int pool_open(struct loop *l, const struct config *cfg, struct pool **out, struct err *e)
{
	char urls[POOL_LEGS_MAX][sizeof(((struct leg *)0)->url)];
	struct bdev *legs[POOL_LEGS_MAX];
	unsigned n = 0;
	int rc = open_devices(l, cfg, BDEV_CREATE | BDEV_LOCK, urls, legs, &n, e);

	if (rc < 0)
		return err_wrap(e, rc, "open pool");
	return open_on(l, legs, n, (const char(*)[sizeof(urls[0])])urls, cfg, out, e);
}
