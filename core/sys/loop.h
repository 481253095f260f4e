/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop.h - the event loop that owns an image: tasks, timers, time and randomness.
 *
 * All core state belongs to the loop's thread; there are no locks inside.  A loop is driven by
 * whoever calls loop_poll(), one thread at a time; that thread is the loop thread for the call.
 * Two implementations: loop_uring.h (io_uring, real time) and loop_sim.h (virtual time, seeded),
 * so that the same code serves a user and runs in a deterministic simulator.
 *
 * Order within one loop_poll(): posted tasks, deferred tasks, due timers, completed I/O, again
 * until nothing is ready (or a few rounds have passed: a chain that never ends does not keep the
 * caller); then, when wait_ns != 0 and nothing ran, it sleeps until something happens.  loop_poll()
 * is not called from inside a task, timer or completion.
 */
#ifndef LSVD_SYS_LOOP_H
#define LSVD_SYS_LOOP_H

#include "sys/err.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* Intrusive; the owner keeps it alive until run() was called.  Queued at most once at a time. */
struct loop_task {
	void (*run)(struct loop_task *t);
	struct loop_task *next;
	bool queued;
};

/* Intrusive; zero-initialise, set fire, then loop_timer_set().  Cancel before freeing. */
struct loop_timer {
	void (*fire)(struct loop_timer *t);
	uint64_t when_ns; /* when it will fire: what was asked for, but not before now */
	uint64_t order;	  /* private: equal times fire in the order they were set */
	uint32_t place;	  /* private: heap index + 1, 0 = idle */
};

enum { LOOP_FOREVER = -1 };

/* Time of this loop in ns: monotonic and real, or virtual.  Read once per iteration: cheap. */
uint64_t loop_now(const struct loop *l);

/* The time right now (a clock read on a real loop; equals loop_now on a simulated one). */
uint64_t loop_clock(struct loop *l);

/* Wall-clock ns since 1970 (virtual on a simulated loop).  For stamps that people read. */
uint64_t loop_wall(struct loop *l);

/* 64 random bits; from the seed on a simulated loop. */
uint64_t loop_random(struct loop *l);

/* Hand the I/O that was queued so far to the kernel now, instead of at the end of this turn: for
 * large requests, when more work follows first.  One system call. */
void loop_submit(struct loop *l);

/* Run `t` on a later iteration.  Loop thread.  A task that is queued stays queued once. */
void loop_defer(struct loop *l, struct loop_task *t);

/* Long work cut into slices: run `t` after everything that is ready, and after I/O was submitted; one such
 * task a loop_poll(), so a slice (aim at 50 us) delays nobody by more than itself.  A poll in which I/O
 * completed leaves it out, a few times in a row at most: whoever waited for that is about to submit more,
 * and the slice runs while the disk has it; a poll of many rounds has a slice in each of the later ones.
 * Loop thread. */
void loop_background(struct loop *l, struct loop_task *t);

/* Run `t` on the loop soon; wakes a sleeping loop.  Any thread.  Lock-free.  Posting a task that is
 * queued is fine: the run to come sees what was written before.  The caller sees to it that the
 * loop is not freed before loop_post() returned.  On a simulated loop: loop thread only. */
void loop_post(struct loop *l, struct loop_task *t);

/* (Re)arm or cancel.  Loop thread.  when_ns is on loop_now()'s scale; the past means next
 * iteration. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t when_ns);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
	return t->place != 0;
}

/* Run what is ready; when nothing is, wait up to wait_ns (LOOP_FOREVER: until something is).
 * Returns the number of tasks, timers and completions run, 0 after a fruitless wait.
 * A signal ends the wait early.  On a simulated loop waiting jumps virtual time to the next event,
 * at most wait_ns ahead, and returns at once when no event can ever happen. */
int loop_poll(struct loop *l, int64_t wait_ns);

/* Frees the loop; nothing may be in flight. */
void loop_free(struct loop *l);

/* True on a simulated loop. */
bool loop_is_sim(const struct loop *l);

#endif
