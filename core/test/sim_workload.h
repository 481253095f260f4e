/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_workload.h - what a client does to the image, and what it expects.
 *
 * Requests of all kinds, several in flight, hot spots, now and then a resize, GC, a drain, a full
 * or vanished store.  Every completion is judged by the oracle.  A request that does not complete
 * in a bounded time ends the process with the state of the volume.
 */
#ifndef LSVD_TEST_SIM_WORKLOAD_H
#define LSVD_TEST_SIM_WORKLOAD_H

#include "test/sim_world.h"

/* About so many requests; some may still be in flight when it returns. */
void workload_run(struct world *w, unsigned requests);

/* Faults that stop everything are over; wait until nothing is in flight. */
void workload_finish(struct world *w);

/* After a crash: forget what was in flight. */
void workload_forget(void);

/* Read the whole image, and let the oracle find which prefix of the log it is. */
void workload_settle(struct world *w);

#endif
