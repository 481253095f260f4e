/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * legs.c - the life of a leg: dropped when it fails or lags, tried again, counted again.
 *
 * What keeps an old leg from being taken for a complete one: every change of who is in sync begins
 * a new generation, whose number and members the legs in sync write into their headers and flush.
 * Until that is done nothing is acknowledged (io.c holds it), so a leg that misses an acknowledged
 * write has a lower generation than one that has it; with pool.acks a number, a leg that merely
 * lags has the same, and that is what opening counts legs for (open.c).  Then, too, the dropped leg
 * may be the only one that has what was acknowledged last: so the others first wait for that, and
 * flush it.
 *
 * A leg that is back gets all writes, and a copy of all journals (resync.c).  When it has them it
 * is flushed, and the next generation has it as a member: only then it counts, and may be read.
 *
 * The last legs that pool.acks needs are never dropped: their errors go to whoever asked (I13).  A
 * generation that could not be recorded fails everything from then on.
 */
#include "pool/pool_impl.h"

#include "format/block.h"
#include "sys/container.h"
#include "sys/log.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_DOUBLES = 5 };

/* ---- the table of moves ---- */

static const char *const names[] = {[POOL_LEG_NEW] = "new",
	[POOL_LEG_DROPPED] = "dropped",
	[POOL_LEG_REFUSED] = "refused",
	[POOL_LEG_RESYNCING] = "resyncing",
	[POOL_LEG_JOINING] = "joining",
	[POOL_LEG_IN_SYNC] = "in sync",
	[POOL_LEG_LAGGING] = "lagging"};

#define TO(state) (1u << POOL_LEG_##state)
static const unsigned moves[] = {
	[POOL_LEG_NEW] = TO(IN_SYNC) | TO(DROPPED),
	[POOL_LEG_DROPPED] = TO(RESYNCING) | TO(REFUSED),
	[POOL_LEG_REFUSED] = 0,
	[POOL_LEG_RESYNCING] = TO(JOINING) | TO(DROPPED),
	[POOL_LEG_JOINING] = TO(IN_SYNC) | TO(DROPPED),
	[POOL_LEG_IN_SYNC] = TO(LAGGING) | TO(DROPPED),
	[POOL_LEG_LAGGING] = TO(IN_SYNC) | TO(DROPPED),
};

void leg_move(struct leg *g, enum pool_leg_state to)
{
	struct pool *p = g->pool;
	uint8_t bit = leg_bit(g);

	assert(moves[g->state] >> to & 1);
	g->state = to;
	p->voters &= (uint8_t)~bit;
	p->targets &= (uint8_t)~bit;
	if (to == POOL_LEG_IN_SYNC || to == POOL_LEG_LAGGING)
		p->voters |= bit;
	if (to >= POOL_LEG_RESYNCING)
		p->targets |= bit;
}

void leg_init(struct pool *p, unsigned i, struct bdev *d, const char *url)
{
	struct leg *g = &p->legs[i];

	*g = (struct leg){.pool = p, .dev = d, .index = i};
	snprintf(g->url, sizeof(g->url), "%s", url);
}

void pool_leg(const struct pool *p, unsigned leg, struct pool_leg_info *out)
{
	const struct leg *g = &p->legs[leg];

	*out = (struct pool_leg_info){.url = g->url,
		.state = names[g->state],
		.why = g->why,
		.drops = g->drops,
		.resyncs = g->resyncs,
		.resync_bytes = g->resync_bytes};
}

/* ---- a new generation ---- */

static void change_over(struct pool *p);

static void change_answered(struct leg *g, int status)
{
	struct pool *p = g->pool;

	if (status < 0 && p->targets & leg_bit(g) && !leg_failed(g, status, "write the header of"))
		p->failed = status; /* I13 */
	if (--p->change_pending == 0)
		change_over(p);
}

static void header_flushed(struct leg_req *q, int status)
{
	change_answered(q->leg, status);
}

static void header_written(struct leg_req *q, int status)
{
	struct leg *g = q->leg;

	if (status == 0 && g->pool->targets & leg_bit(g))
		leg_own(g, BDEV_FLUSH, 0, NULL, 0, g, header_flushed);
	else
		change_answered(g, status);
}

static void late_flushed(struct leg_req *q, int status)
{
	struct leg *g = q->leg;

	if (status == 0 && g->pool->targets & leg_bit(g))
		leg_own(g, BDEV_WRITE, 0, g->buf, POOL_BLOCK, g, header_written);
	else
		change_answered(g, status);
}

static bool has_joined(const struct leg *g)
{
	return g->state == POOL_LEG_JOINING && g->flushed;
}

static void begin_change(struct pool *p)
{
	p->again = false;
	p->generation++;
	memmove(p->opening + 1, p->opening, (POOL_OPENINGS - 1) * sizeof(p->opening[0]));
	p->opening[0] = loop_random(p->loop);
	p->change_members = p->voters;
	for (unsigned i = 0; i < p->nlegs; i++) {
		if (!has_joined(&p->legs[i]))
			continue;
		p->change_members |= leg_bit(&p->legs[i]);
		p->joined = p->generation;
	}
	p->change_pending = legs_in(p->change_members);
	for (unsigned i = 0; i < p->nlegs; i++) {
		struct leg *g = &p->legs[i];

		if (!(p->change_members & leg_bit(g)))
			continue;
		pool_header_of(p, i, p->change_members, g->buf);
		/* What only a dropped leg has until now must be here, before it does not count. */
		if (pool_slack(p) && !MUTANT(CHANGE_EARLY))
			leg_own(g, BDEV_FLUSH, 0, NULL, 0, g, late_flushed);
		else
			leg_own(g, BDEV_WRITE, 0, g->buf, POOL_BLOCK, g, header_written);
	}
}

static void change_over(struct pool *p)
{
	if (p->again && !p->failed) {
		begin_change(p);
		return;
	}
	p->changing = false;
	p->recorded = p->change_members;
	for (unsigned i = 0; i < p->nlegs; i++) {
		struct leg *g = &p->legs[i];

		if (!(p->change_members & leg_bit(g)) || !has_joined(g))
			continue;
		leg_move(g, POOL_LEG_IN_SYNC);
		g->tries = 0;
		g->resyncs++;
		log_say("leg '%s' of the pool is in sync again", g->url);
	}
	pool_release_held(p);
	pool_poke(p);
}

void pool_change(struct pool *p)
{
	bool running = p->changing;

	p->changing = p->again = true;
	if (!running)
		begin_change(p);
}

/* ---- dropping ---- */

static uint64_t retry_ns(const struct leg *g)
{
	return g->pool->timeout_ns / 4 << (g->tries < RETRY_DOUBLES ? g->tries : RETRY_DOUBLES);
}

static void try_later(struct leg *g)
{
	if (!g->pool->open || g->state != POOL_LEG_DROPPED)
		return;
	loop_timer_set(g->pool->loop, &g->retry, loop_now(g->pool->loop) + retry_ns(g));
	g->tries++;
}

static bool is_member(const struct leg *g)
{
	return g->state >= POOL_LEG_JOINING;
}

void leg_drop(struct leg *g, const char *why)
{
	struct pool *p = g->pool;
	bool member = is_member(g);

	snprintf(g->why, sizeof(g->why), "%s", why);
	g->drops++;
	leg_move(g, POOL_LEG_DROPPED);
	log_say("leg '%s' of the pool is dropped: %s; %u of %u legs are in sync", g->url, why,
		legs_in(p->voters), p->nlegs);
	resync_stop(g);
	/* Before anything is acknowledged that this leg misses. */
	if (member && (p->open || p->changing) && !MUTANT(FORGET_DROP))
		pool_change(p);
	leg_give_up(g);
	try_later(g);
}

bool leg_failed(struct leg *g, int status, const char *what)
{
	struct pool *p = g->pool;
	unsigned need = p->acks ? p->acks : 1;
	char why[160];

	if (!(p->targets & leg_bit(g)))
		return true;
	if (p->voters & leg_bit(g) && legs_in(p->voters) <= need)
		return false;
	snprintf(why, sizeof(why), "%s: %s", what, strerror(-status));
	leg_drop(g, why);
	return true;
}

static void connection_lost(struct bdev *d)
{
	struct leg *g = d->owner;

	if (!leg_failed(g, -ENOTCONN, "connection"))
		log_say("leg '%s' of the pool lost its connection, and the pool cannot do without "
			"it",
			g->url);
}

/* ---- lagging ---- */

static void look_at(struct leg *g, uint64_t now, uint64_t *next)
{
	uint64_t limit = g->pool->timeout_ns, since;

	if (g->flying.first) {
		since = g->flying.first->at_ns;
		if (now >= since + limit) {
			if (leg_failed(g, -ETIMEDOUT, "waited for it"))
				return;
		}
		if (now >= since + limit / 2 && g->state == POOL_LEG_IN_SYNC) {
			leg_move(g, POOL_LEG_LAGGING);
			log_say("leg '%s' of the pool lags", g->url);
		}
		since += now < since + limit / 2 ? limit / 2 : limit;
		if (since <= now)
			since = now + limit / 2;
		*next = since < *next ? since : *next;
	}
	if (g->state == POOL_LEG_LAGGING &&
		(!g->flying.first || now < g->flying.first->at_ns + limit / 2))
		leg_move(g, POOL_LEG_IN_SYNC);
}

static void watch_legs(struct loop_timer *t)
{
	struct pool *p = container_of(t, struct pool, watch);
	uint64_t now = loop_now(p->loop), next = UINT64_MAX;

	for (unsigned i = 0; i < p->nlegs; i++)
		if (p->targets >> i & 1)
			look_at(&p->legs[i], now, &next);
	if (next != UINT64_MAX)
		loop_timer_set(p->loop, &p->watch, next);
}

void pool_watch(struct pool *p)
{
	if (loop_timer_armed(&p->watch))
		return;
	p->watch.fire = watch_legs;
	loop_timer_set(p->loop, &p->watch, loop_now(p->loop) + p->timeout_ns / 2);
}

/* ---- coming back ---- */

static void refuse(struct leg *g, const char *why)
{
	snprintf(g->why, sizeof(g->why), "%s", why);
	leg_move(g, POOL_LEG_REFUSED);
	log_say("leg '%s' of the pool is back, but %s: it is left alone", g->url, why);
}

/* NULL, or why this leg must not be overwritten. */
static const char *not_ours(const struct leg *g, struct err *e)
{
	const struct pool *p = g->pool;
	struct pool_header h;
	uint64_t need = p->first_bytes + (uint64_t)p->nsegs * p->segment_bytes, age;

	if (g->dev->size_bytes < need)
		return "is smaller than the pool";
	if (block_is_zero(g->buf, BLANK_BYTES))
		return NULL;
	if (pool_header_decode(g->buf, &h, e) < 0)
		return e->msg;
	if (memcmp(h.uuid, p->uuid, 16))
		return "belongs to another pool";
	age = p->generation - h.generation;
	if (h.generation > p->generation ||
		(age < POOL_OPENINGS && p->opening[age] != h.opening[0]))
		return "was used without the others";
	return NULL;
}

static void header_read(struct leg_req *q, int status)
{
	struct leg *g = q->leg;
	struct err e = {.msg = ""};
	const char *why;

	if (status < 0) {
		try_later(g);
		return;
	}
	why = not_ours(g, &e);
	if (why) {
		refuse(g, why);
		return;
	}
	log_say("leg '%s' of the pool is back, and is brought up to date", g->url);
	resync_start(g);
}

static void revived(struct leg_req *q, int status)
{
	struct leg *g = q->leg;

	if (status < 0 || g->dev->size_bytes < BLANK_BYTES)
		try_later(g);
	else
		leg_own(g, BDEV_READ, 0, g->buf, BLANK_BYTES, g, header_read);
}

static void adopt(struct leg *g)
{
	g->dev->lost = connection_lost;
	g->dev->owner = g;
}

static void try_again(struct loop_timer *t)
{
	struct leg *g = container_of(t, struct leg, retry);
	struct err e = {.msg = ""};

	if (g->in_flight || g->copy.reading || (!g->dev && !g->url[0])) {
		try_later(g);
		return;
	}
	if (!g->dev && bdev_open(g->pool->loop, g->url, BDEV_LOCK | BDEV_DOWN_OK | BDEV_AT_ONCE, 0,
			       &g->dev, NULL, &e) < 0) {
		g->dev = NULL;
		try_later(g);
		return;
	}
	adopt(g);
	leg_own_revive(g, revived);
}

void legs_start(struct pool *p)
{
	p->open = true;
	for (unsigned i = 0; i < p->nlegs; i++) {
		struct leg *g = &p->legs[i];

		g->retry.fire = try_again;
		if (g->dev)
			adopt(g);
		if (g->state == POOL_LEG_NEW)
			leg_move(g, POOL_LEG_DROPPED);
		try_later(g);
	}
}

static bool at_rest(const struct pool *p)
{
	for (unsigned i = 0; i < p->nlegs; i++)
		if (p->legs[i].in_flight || p->legs[i].copy.reading)
			return false;
	return !p->changing;
}

void legs_stop(struct pool *p)
{
	p->open = false;
	for (unsigned i = 0; i < p->nlegs; i++) {
		struct leg *g = &p->legs[i];

		loop_timer_cancel(p->loop, &g->retry);
		if (g->dev)
			g->dev->lost = NULL;
		resync_stop(g);
		if (g->dev && !(p->voters & leg_bit(g)) && !p->changing)
			(void)bdev_abort(g->dev);
	}
	while (!at_rest(p))
		loop_poll(p->loop, LOOP_FOREVER);
	loop_timer_cancel(p->loop, &p->watch);
}
