/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop_sim.c - virtual time: waiting jumps the clock to the next timer.  All simulated I/O is
 * timers.
 */
#include "sys/loop_sim.h"
#include "sys/loop_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Virtual time 0 in people's calendars: 2024-01-01 00:00 UTC. */
#define WALL_EPOCH_NS (1704067200ull * 1000000000ull)

struct sim {
	struct loop l;
	uint64_t clock_ns, rand;
	bool crashed;
};

static struct sim *sim_of(const struct loop *l)
{
	return container_of((struct loop *)(uintptr_t)l, struct sim, l);
}

static uint64_t sim_clock(struct loop *l)
{
	return sim_of(l)->clock_ns;
}

static uint64_t sim_wall(struct loop *l)
{
	return WALL_EPOCH_NS + sim_of(l)->clock_ns;
}

static uint64_t sim_random(struct loop *l)
{
	return random_next(&sim_of(l)->rand);
}

static int sim_wait(struct loop *l, uint64_t until_ns)
{
	struct sim *s = sim_of(l);

	if (l->ready_n || l->later || atomic_load(&l->posted))
		return 0;
	if (until_ns == UINT64_MAX)
		return -ETIME;
	if (until_ns > s->clock_ns)
		s->clock_ns = until_ns;
	return 0;
}

static void sim_free(struct loop *l)
{
	loop_fini(l);
	free(sim_of(l));
}

static const struct loop_ops sim_ops = {
	.sim = true,
	.wait = sim_wait,
	.clock = sim_clock,
	.wall = sim_wall,
	.random = sim_random,
	.free = sim_free,
};

int loop_sim_new(uint64_t seed, struct loop **out, struct err *e)
{
	struct sim *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a simulated loop");
	s->rand = random_state(seed);
	loop_init(&s->l, &sim_ops);
	*out = &s->l;
	return 0;
}

void loop_sim_set_time(struct loop *l, uint64_t now_ns)
{
	assert(loop_sim_idle(l));
	sim_of(l)->clock_ns = l->now_ns = now_ns;
}

void loop_sim_crash(struct loop *l)
{
	for (uint32_t i = 0; i < l->heap_n; i++)
		l->heap[i].t->place = 0;
	l->heap_n = 0;
	l->ready = NULL;
	l->ready_end = &l->ready;
	l->ready_n = 0;
	l->later = NULL;
	l->later_end = &l->later;
	atomic_store(&l->posted, NULL);
	l->stop_at = 0;
}

void loop_sim_stop_at(struct loop *l, uint64_t events)
{
	l->stop_at = events;
}

uint64_t loop_sim_stops_at(const struct loop *l)
{
	return l->stop_at;
}

void loop_sim_on_stop(struct loop *l, void (*fn)(void *arg), void *arg)
{
	l->stopped = fn;
	l->stopped_arg = arg;
}

uint64_t loop_sim_events(const struct loop *l)
{
	return l->events;
}

bool loop_sim_idle(const struct loop *l)
{
	return !l->ready_n && !l->later && !l->heap_n && !atomic_load(&l->posted);
}
