/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_snap.h - snapshots and clones: made while requests are in flight, read again at any time, and
 * they must be what they were.
 */
#ifndef LSVD_TEST_SIM_SNAP_H
#define LSVD_TEST_SIM_SNAP_H

#include "test/sim_world.h"

void snap_make(struct vol *v);
void snap_remove(struct vol *v);
/* Close it, make it what it was at one of them, open it. */
void snap_roll_back(struct vol *v);
/* Read those that are there. */
void snaps_check(struct vol *v);
/* After settling: what was in flight when a snapshot was made may be gone. */
void snaps_settled(struct vol *v);
void snaps_forget(struct vol *v);
/* A new image on one of its snapshots. */
void clone_make(struct vol *v);
void clone_flatten(struct vol *v);
bool vol_has_clones(const struct vol *v);

#endif
