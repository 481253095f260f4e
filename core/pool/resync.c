/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * resync.c - a leg that was away gets what it missed, while I/O goes on.
 *
 * From the beginning it gets all writes.  Meanwhile segments are copied to it one after the other,
 * in pieces: journals whole, of all others a header of zeroes, so that the leg alone could lead
 * next time.  Nothing that is on the leg is trusted.
 *
 * A piece is read from a leg in sync and written to this one; a write to the same bytes must not
 * come in between.  So a piece begins when no such write is in flight on any leg, and a write that
 * comes while it is on its way waits for it, on this leg only (io.c).  A log is appended to, so
 * that happens to few.
 */
#include "pool/pool_impl.h"

#include "sys/mutant.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void step(struct leg *g);

void resync_stop(struct leg *g)
{
	g->copy.len = 0;
}

static void piece_failed(struct leg *g, int status, const char *what)
{
	if (g->copy.len)
		(void)leg_failed(g, status, what);
}

static void written(struct leg_req *q, int status)
{
	struct leg *g = q->leg;
	struct resync *c = &g->copy;

	if (status < 0 || !c->len) {
		piece_failed(g, status, "bring it up to date");
		return;
	}
	g->resync_bytes += c->len;
	c->off += c->len;
	if (c->len != COPY_BYTES || c->off == g->pool->segment_bytes) {
		c->seg++;
		c->off = 0;
	}
	c->len = 0;
	c->tried = 0;
	leg_unblock(g);
	step(g);
}

static void read_piece(struct leg *g);

static void was_read(struct leg_req *q, int status)
{
	struct leg *g = q->whose;
	struct resync *c = &g->copy;

	c->reading = false;
	if (!c->len)
		return;
	if (status == 0) {
		leg_own(g, BDEV_WRITE, c->at, g->buf, c->len, g, written);
		return;
	}
	c->tried |= leg_bit(q->leg);
	read_piece(g);
}

/* From the first leg in sync that can. */
static void read_piece(struct leg *g)
{
	struct pool *p = g->pool;
	struct resync *c = &g->copy;

	for (unsigned i = 0; i < p->nlegs; i++) {
		if (!(p->voters & ~c->tried & 1u << i))
			continue;
		c->reading = true;
		leg_own(&p->legs[i], BDEV_READ, c->at, g->buf, c->len, g, was_read);
		return;
	}
	piece_failed(g, -EIO, "read what it misses");
}

static void join_flushed(struct leg_req *q, int status)
{
	struct leg *g = q->leg;

	if (!(g->pool->targets & leg_bit(g)))
		return;
	if (status < 0) {
		(void)leg_failed(g, status, "flush");
		return;
	}
	g->flushed = true;
	pool_change(g->pool);
}

/* All that was in flight before, too, has to be there when the others say that it is. */
static void join(struct leg *g)
{
	leg_move(g, POOL_LEG_JOINING);
	g->flushed = false;
	g->late = g->submitted;
	leg_own(g, BDEV_FLUSH, 0, NULL, 0, g, join_flushed);
}

static void step(struct leg *g)
{
	struct pool *p = g->pool;
	struct resync *c = &g->copy;
	bool journal = false;

	while (c->seg < p->nsegs) {
		journal = p->segs[c->seg].role == SEGMENT_JOURNAL;
		/* It was a journal's when it was begun. */
		if (journal || !c->off)
			break;
		c->seg++;
		c->off = 0;
	}
	if (c->seg == p->nsegs || MUTANT(COUNT_RESYNCING)) {
		join(g);
		return;
	}
	c->at = header_at(p, c->seg) + c->off;
	c->len = journal ? COPY_BYTES : POOL_BLOCK;
	if (pool_writes_at(p, c->at, c->len) && !MUTANT(COPY_UNLOCKED)) {
		c->len = 0;
		return;
	}
	if (journal) {
		read_piece(g);
		return;
	}
	memset(g->buf, 0, POOL_BLOCK);
	leg_own(g, BDEV_WRITE, c->at, g->buf, POOL_BLOCK, g, written);
}

void resync_go_on(struct pool *p)
{
	if (!p->open)
		return;
	for (unsigned i = 0; i < p->nlegs; i++) {
		struct leg *g = &p->legs[i];

		if (g->state == POOL_LEG_RESYNCING && !g->copy.len)
			step(g);
	}
}

void resync_start(struct leg *g)
{
	leg_move(g, POOL_LEG_RESYNCING);
	g->copy = (struct resync){.seg = 0};
	step(g);
}
