/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pace.c - how hard the store is pressed, and how fast writers are let in.
 *
 * The store may share a disk with the journal, so what goes out goes in pieces, few at a time; the
 * fuller the journal's share, the harder it presses.
 *
 * Writers are slowed before the share is full, so that latency rises and nobody is stopped:
 *   a store that is slower than they are   from 60 % of the share on they are let in at a multiple
 *                        of the rate at which objects become durable, 3.9 at 60 %, 1.3 at 75 %, 0.7
 *                        at 100 %: it settles where it is 1
 *   a store that has gone silent   its rate says nothing.  What room is left is given out by halves:
 *                        at any time as much a second as would use it up in HORIZON_S.  So the rate
 *                        falls exponentially, and a stop that ends is survived without a standstill
 */
#include "volume/volume_impl.h"

#include "sys/container.h"

enum {
	LACK_HIGH = 45,
	LACK_HIGHER = 55,
	CALM_PERCENT = 15,
	LULL_NS = 50000000,
	PACE_NS = 20000000,
	RATE_NS = 200000000,
	SLOW_PERCENT = 60, /* where writers begin to be slowed */
	HARD_PERCENT = 75,
	SILENT_NS = 300000000,
	HORIZON_S = 2,
	TRICKLE = 65536 /* bytes a second that are always let in */
};

static const uint64_t trim_after_ns =
	2000000000u; /* idle so long: memory of the log is given back */

static uint32_t fullness_percent(const struct volume *v)
{
	uint64_t limit = journal_dirty_limit(v->journal);

	return (uint32_t)(journal_dirty_segments(v->journal) * 100 / limit);
}

bool pace_calm(const struct volume *v)
{
	uint64_t now = loop_now(v->loop);

	return fullness_percent(v) < CALM_PERCENT && v->drain_seq <= v->covers_put && !v->pressed &&
	       now < v->last_write_ns + LULL_NS && v->sealed &&
	       (!v->cfg.destage_age_ms ||
		       now < v->sealed->opened_ns + (uint64_t)v->cfg.destage_age_ms * 1000000);
}

/* ---- what the store does ---- */

/* What its usual time between two PUTs makes a long one. */
static uint64_t long_ns(const struct volume *v)
{
	return 4 * v->put_gap_ns > SILENT_NS ? 4 * v->put_gap_ns : SILENT_NS;
}

static bool silent(const struct volume *v)
{
	return v->puts_in_flight && loop_now(v->loop) - v->owed_since_ns > long_ns(v);
}

static void measure_drain(struct volume *v, uint64_t bytes)
{
	uint64_t now = loop_now(v->loop), span;

	v->drain_bytes += bytes;
	span = now - v->drain_from_ns;
	if (span < RATE_NS)
		return;
	/* Only a span in which there was work all the time says how fast the store is. */
	if (span < 5 * (uint64_t)RATE_NS) {
		uint64_t rate = (uint64_t)((double)v->drain_bytes * 1e9 / (double)span);

		v->drain_rate = v->drain_rate ? (3 * v->drain_rate + rate) / 4 : rate;
	}
	v->drain_from_ns = now;
	v->drain_bytes = 0;
}

void pace_put_begins(struct volume *v)
{
	if (!v->puts_in_flight)
		v->owed_since_ns = loop_now(v->loop);
}

void pace_put_over(struct volume *v, uint64_t bytes)
{
	uint64_t owed = loop_now(v->loop) - v->owed_since_ns;

	/* A silence counts as little more than what is long. */
	v->put_gap_ns = (3 * v->put_gap_ns + (owed < 2 * long_ns(v) ? owed : 2 * long_ns(v))) / 4;
	v->owed_since_ns += owed;
	measure_drain(v, bytes);
}

/* ---- writers ---- */

/* Bytes a second; 0: as many as come. */
static uint64_t rate_by_drain(const struct volume *v, uint32_t full)
{
	uint32_t percent;

	if (full < SLOW_PERCENT || !v->drain_rate)
		return 0;
	if (full > 100)
		full = 100;
	percent = full < HARD_PERCENT ? 390 - (full - SLOW_PERCENT) * 260 / 15
				      : 130 - (full - HARD_PERCENT) * 60 / 25;
	return v->drain_rate * percent / 100;
}

static uint64_t rate_by_room(const struct volume *v)
{
	uint64_t rate = journal_dirty_room(v->journal) / HORIZON_S;

	return rate > TRICKLE ? rate : TRICKLE;
}

static unsigned pieces_by_share(uint32_t full)
{
	return full < 30 ? 1 : full < 60 ? 2 : full < 80 ? 3 : 4;
}

/* What is dirty beyond journal.ram wants memory that nobody has touched yet, which can be slower than the
 * disk, or is read back: press harder long before. */
static unsigned pieces_by_memory(const struct volume *v)
{
	uint64_t eighths = 8 * v->dirty_bytes / v->cfg.journal_ram_bytes;

	return eighths < 3 ? 1 : eighths < 5 ? 2 : eighths < 7 ? 3 : 4;
}

static void pace(struct volume *v)
{
	uint32_t full = fullness_percent(v);

	v->pace.rests = pace_calm(v);
	v->pace.pieces_in_flight = pieces_by_share(full);
	if (v->pace.pieces_in_flight < pieces_by_memory(v))
		v->pace.pieces_in_flight = pieces_by_memory(v);
	/* Garbage collection shares the pace, and must not fall behind for ever. */
	v->pace.pieces_in_flight += v->gc_lack >= LACK_HIGHER ? 2 : v->gc_lack >= LACK_HIGH ? 1 : 0;
	journal_set_rate(v->journal, silent(v) ? rate_by_room(v) : rate_by_drain(v, full));
}

static void pace_again(struct loop_timer *t)
{
	struct volume *v = container_of(t, struct volume, pace_timer);

	if (!v->journal)
		return;
	pace(v);
	if (2 * v->dirty_bytes < v->cfg.journal_ram_bytes)
		journal_calm(v->journal);
	if (!destage_idle(v)) {
		v->idle = false;
		loop_timer_set(v->loop, t, loop_now(v->loop) + PACE_NS);
	} else if (!v->idle) {
		v->idle = true;
		loop_timer_set(v->loop, t, loop_now(v->loop) + trim_after_ns);
	} else {
		journal_trim(v->journal);
		gc_trim(v);
	}
}

void pace_watch(struct volume *v)
{
	/* Idle, the timer is for giving memory back: far away. */
	if (loop_timer_armed(&v->pace_timer) && !v->idle)
		return;
	v->idle = false;
	loop_timer_set(v->loop, &v->pace_timer, loop_now(v->loop) + PACE_NS);
}

void pace_init(struct volume *v)
{
	v->pace_timer.fire = pace_again;
	v->pace = (struct store_pace){
		.piece_bytes = (uint32_t)v->cfg.destage_piece_bytes, .pieces_in_flight = 1};
}

void pace_fini(struct volume *v)
{
	loop_timer_cancel(v->loop, &v->pace_timer);
}
