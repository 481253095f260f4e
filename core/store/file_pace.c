/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_pace.c - requests of one pace take turns, piece by piece.
 *
 * Everything in the background of a volume (objects being put, victims being read by garbage
 * collection) shares one struct store_pace, so that never more than pieces_in_flight pieces stand
 * in the disk's queue before a journal record.  Who may not go on waits in the order of arrival,
 * and is called again (file_op.go).
 */
#include "store/file_impl.h"

enum { PIECE_BYTES = 512 << 10, IN_FLIGHT = 1, IN_FLIGHT_MAX = 16 };

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

bool file_pace_enter(struct file_op *f)
{
	struct store_pace *pace = f->r->pace;

	if (f->pieces >= most(pace))
		return false;
	if (!pace || pace->in_flight < most(pace)) {
		f->pieces++;
		if (pace)
			pace->in_flight++;
		return true;
	}
	if (!f->waits_pace) {
		f->waits_pace = true;
		f->paced_next = NULL;
		*f->fs->paced_end = f;
		f->fs->paced_end = &f->paced_next;
	}
	return false;
}

void file_pace_leave(struct file_op *f)
{
	f->pieces--;
	if (f->r->pace)
		f->r->pace->in_flight--;
}

void file_pace_wake(struct file_store *fs)
{
	while (fs->paced) {
		struct file_op *f = fs->paced;

		if (f->r->pace->in_flight >= most(f->r->pace))
			return;
		fs->paced = f->paced_next;
		if (!fs->paced)
			fs->paced_end = &fs->paced;
		f->waits_pace = false;
		f->go(f);
	}
}
