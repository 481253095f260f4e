/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_workload.h - what clients do to the images, and what they expect.
 *
 * Requests of all kinds to any image that is open, several in flight, hot spots; now and then
 * administration (sim_admin.c), a full or vanished store.  Every completion is judged by the
 * oracle.  A request that does not complete in a bounded time ends the process with the state of
 * the volume.
 */
#ifndef LSVD_TEST_SIM_WORKLOAD_H
#define LSVD_TEST_SIM_WORKLOAD_H

#include "test/sim_world.h"

/* So many steps; some requests may still be in flight when it returns. */
void workload_run(struct world *w, unsigned steps);

/* Faults that stop everything are over; wait until nothing is in flight. */
void workload_finish(struct world *w);

/* Worlds within worlds: which one's requests all this is about from now on. */
enum { WORKLOAD_LEVELS = 3 };
void workload_level(unsigned level);

/* After a crash: forget what was in flight. */
void workload_forget(void);

/* Read all of an open image into the oracle's seen[].  bad_ok: reads may fail, but not lie; false:
 * one did fail. */
bool workload_look(struct vol *v, struct lsvd_image *img, bool bad_ok);

/* Read the whole image, and let the oracle find which prefix of the log it is. */
void workload_settle(struct vol *v, struct lsvd_image *img);

/* Read the whole image: it must be what was last settled or acknowledged. */
void workload_compare(struct vol *v, struct lsvd_image *img);

/* One request, for scripts: finished when it returns.  Lengths in sectors. */
void workload_one(struct vol *v, enum lsvd_op op, uint32_t lba, uint32_t len, unsigned flags);

/* Applied objects hold some of what was written: the oracle learns how far (after the fact). */
void workload_note_stored(struct vol *v);

void workload_aim(struct vol *v); /* a new hot spot */

/* An administrative call came back; errors are forgiven when disks fail. */
void workload_check(struct world *w, const char *what, int rc, const char *why);

static inline void lift(uint32_t *n, uint32_t to)
{
	if (*n < to)
		*n = to;
}

/* An image that is open for writing and has not failed; NULL: none. */
struct vol *workload_pick(struct world *w);

/* sim_admin.c: one of the rarer things a step may do; `kind` is from 0 to 999. */
void admin_step(struct world *w, uint64_t kind);
void admin_resize(struct vol *v, uint64_t sectors);

#endif
