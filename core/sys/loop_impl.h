/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop_impl.h - the inside of a loop, for its two implementations (loop_uring.c, loop_sim.c) only.
 *
 * loop.c owns what both share: the queue of ready tasks, the timer heap, the stack of posted tasks
 * and the order in which one loop_poll() serves them.  An implementation embeds struct loop and
 * supplies the clock, I/O completions, sleeping and waking.
 */
#ifndef LSVD_SYS_LOOP_IMPL_H
#define LSVD_SYS_LOOP_IMPL_H

#include "sys/loop.h"
#include "sys/container.h"

#include <stdatomic.h>
#include <stddef.h>

struct loop_ops {
	bool sim;
	/* Run completions that are there; their number.  NULL: all I/O is timers. */
	int (*reap)(struct loop *l);
	/* Hand queued I/O to the kernel.  NULL: nothing is ever queued. */
	void (*submit)(struct loop *l);
	/* Submit, then sleep until `until_ns` (UINT64_MAX: no limit), a completion or a post.  0,
	 * or negative when waiting on makes no sense (a signal came; nothing can ever happen). */
	int (*wait)(struct loop *l, uint64_t until_ns);
	/* Make a sleeping wait() return.  Any thread.  NULL: posts come from the loop thread only.
	 */
	void (*wake)(struct loop *l);
	uint64_t (*clock)(struct loop *l);
	uint64_t (*wall)(struct loop *l);
	uint64_t (*random)(struct loop *l);
	void (*free)(struct loop *l);
};

struct heap_entry {
	uint64_t when_ns, order;
	struct loop_timer *t;
};

struct loop {
	const struct loop_ops *ops;
	uint64_t now_ns;
	uint64_t last_post_ns; /* when another thread's task was last taken */
	uint64_t events;  /* tasks, timers and completions run */
	uint64_t stop_at; /* run none beyond this count */
	void (*stopped)(void *arg);
	void *stopped_arg;
	bool polling;

	struct loop_task *ready, **ready_end; /* FIFO */
	uint64_t ready_n;
	struct loop_task *later, **later_end; /* background slices, FIFO */
	int reaped, skips; /* completions in this poll; polls in a row that left the background out */

	struct heap_entry *heap; /* binary, smallest (when_ns, order) first */
	uint32_t heap_n, heap_cap;
	uint64_t timer_order;

	/* Any thread: a stack of posted tasks, newest first, and whether the loop sleeps.  On a
	 * cache line that the loop's own work does not touch. */
	char pad[64];
	_Atomic(struct loop_task *) posted;
	atomic_bool asleep;
};

void loop_init(struct loop *l, const struct loop_ops *ops);
void loop_fini(struct loop *l);

/* When the first timer is due; UINT64_MAX when none is armed. */
uint64_t loop_next_timer(const struct loop *l);

/* Announce that the loop goes to sleep.  False when a post came in between: then do not sleep. */
bool loop_fall_asleep(struct loop *l);
void loop_awake(struct loop *l);

/* xorshift64*: the next number of the stream whose state is *s (never 0). */
static inline uint64_t random_next(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

/* A good non-zero state from any seed (splitmix64). */
static inline uint64_t random_state(uint64_t seed)
{
	uint64_t z = seed + 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return z ? z : 1;
}

#endif
