/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_copy.h - the machine that a power failure would leave, without one.
 *
 * world_after_crash() makes a second world from what survives of the first: platters, objects, and
 * what the oracle demands of them.  The first goes on from where it stands once the second is gone;
 * so a run is cut at every event, and its crashes looked into, though it is run only once.
 *
 * What becomes of the second world depends on nothing but its contents: its clock and its random
 * numbers come from world_restart() with a fingerprint of them.  So what was seen once need not be
 * looked into again.
 */
#ifndef LSVD_TEST_SIM_COPY_H
#define LSVD_TEST_SIM_COPY_H

#include "sys/fingerprint.h"
#include "test/sim_world.h"

/* Cheap: while this stays the same, so does what a crash would leave. */
struct fingerprint world_moment(const struct world *w);

/* Without strays, zombies, dead or several legs: those have to do with what is in flight. */
void world_after_crash(const struct world *w, uint64_t kept, struct world *after);
void world_drop(struct world *after);

/* All of a world whose power is off that its future depends on. */
struct fingerprint world_fingerprint(struct world *w);

/* Set its clock, and its chance by the fingerprint; `times` crashed so far. */
void world_restart(struct world *w, const struct fingerprint *d, unsigned times);

#endif
