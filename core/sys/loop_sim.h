/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop_sim.h - the simulated loop: virtual time that jumps to the next event, one seed = one
 * schedule.
 *
 * Nothing here looks at a clock or a global; two loops with one seed and the same calls behave
 * alike. A crash is modelled by dropping the loop: loop_sim_crash() forgets every task, timer and
 * event without running it, and the caller frees the memory of what lived on it.
 */
#ifndef LSVD_SYS_LOOP_SIM_H
#define LSVD_SYS_LOOP_SIM_H

#include "sys/loop.h"

int loop_sim_new(uint64_t seed, struct loop **out, struct err *e) MUST_CHECK;

/* Start the virtual clock at `now_ns` (a restarted machine continues its predecessor's time). */
void loop_sim_set_time(struct loop *l, uint64_t now_ns);

/* Forget everything that is queued; the loop may only be freed afterwards.  Call it while the
 * memory of tasks and timers is still there. */
void loop_sim_crash(struct loop *l);

/* Tasks, timers and events run so far: the crash points a test can pick from. */
uint64_t loop_sim_events(const struct loop *l);

/* loop_poll() runs nothing once that many events have run: a crash can be cut between any two. */
void loop_sim_stop_at(struct loop *l, uint64_t events);

uint64_t loop_sim_stops_at(const struct loop *l);

/* The same, and the loop_poll() that came to that point, or would go beyond it, calls fn at its end, which may
 * longjmp() away: so a crash also cuts those who poll until something happens. */
void loop_sim_on_stop(struct loop *l, void (*fn)(void *arg), void *arg);

/* True when nothing is queued, armed or in flight: no event can ever happen again. */
bool loop_sim_idle(const struct loop *l);

#endif
