/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_pace.c - requests of one pace take turns, piece by piece.
 *
 * Everything in the background of a volume (objects being put, victims being read by garbage
 * collection) shares one struct store_pace, so that never more than pieces_in_flight pieces stand
 * in the disk's queue before a journal record; and while there is no hurry the disk is the journal's
 * alone half of the time (store_pace.rests).  Who may not go on waits in the order of arrival, and
 * is called again (file_op.go).
 */
#include "store/file_impl.h"

#include "sys/container.h"

enum { PIECE_BYTES = 512 << 10, IN_FLIGHT = 1, IN_FLIGHT_MAX = 16, REST_MAX_NS = 20000000 };

static unsigned most(const struct store_pace *pace)
{
	unsigned n = pace && pace->pieces_in_flight ? pace->pieces_in_flight : IN_FLIGHT;

	return n < IN_FLIGHT_MAX ? n : IN_FLIGHT_MAX;
}

uint64_t file_pace_bytes(const struct file_op *f)
{
	const struct store_pace *pace = f->r->pace;

	return pace && pace->piece_bytes >= 4096 ? pace->piece_bytes & ~4095u : PIECE_BYTES;
}

static bool free_to_go(const struct file_op *f)
{
	const struct store_pace *pace = f->r->pace;

	return pace->in_flight < most(pace) &&
	       !(pace->rests && loop_now(f->fs->s.loop) < pace->rest_until_ns);
}

/* What is in flight wakes those that wait, or time does. */
static void rest(struct file_store *fs, const struct store_pace *pace)
{
	if (!pace->in_flight)
		loop_timer_set(fs->s.loop, &fs->pace_timer, pace->rest_until_ns);
}

bool file_pace_enter(struct file_op *f)
{
	struct store_pace *pace = f->r->pace;

	if (f->pieces >= most(pace))
		return false;
	if (!pace || free_to_go(f)) {
		f->pieces++;
		if (pace && !pace->in_flight++)
			pace->since_ns = loop_now(f->fs->s.loop);
		return true;
	}
	if (!f->waits_pace) {
		f->waits_pace = true;
		f->paced_next = NULL;
		*f->fs->paced_end = f;
		f->fs->paced_end = &f->paced_next;
		rest(f->fs, pace);
	}
	return false;
}

void file_pace_leave(struct file_op *f)
{
	struct store_pace *pace = f->r->pace;
	uint64_t now = loop_now(f->fs->s.loop), took;

	f->pieces--;
	if (!pace || --pace->in_flight)
		return;
	took = now - pace->since_ns;
	pace->rest_until_ns = now + (took < REST_MAX_NS ? took : REST_MAX_NS);
}

void file_pace_rested(struct loop_timer *t)
{
	file_pace_wake(container_of(t, struct file_store, pace_timer));
}

void file_pace_wake(struct file_store *fs)
{
	while (fs->paced) {
		struct file_op *f = fs->paced;

		if (!free_to_go(f)) {
			rest(fs, f->r->pace);
			return;
		}
		fs->paced = f->paced_next;
		if (!fs->paced)
			fs->paced_end = &fs->paced;
		f->waits_pace = false;
		f->go(f);
	}
}
