/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_runner.h - runs many schedules in worker processes, one per core, a few hundred each: a crash
 * leaks what blocking calls had on their stacks, and an assert kills only its worker.
 */
#ifndef LSVD_TEST_SIM_RUNNER_H
#define LSVD_TEST_SIM_RUNNER_H

#include "test/sim_plan.h"

/* Numbers first, first + step ... (n of them), or the one that -s gave, in this process.  Asserts
 * that none failed; a failing one is told with the command that replays it.  Prints how many a
 * second. */
void runner_run(
	void (*run)(uint64_t number), uint64_t first, uint64_t n, uint64_t step, const char *test);

/* Schedules a process runs before it is replaced, and seconds of CPU for each. */
extern unsigned runner_per_worker, runner_cpu_seconds;

/* Within a schedule: so many states were looked at.  The sum is printed. */
void runner_count(uint64_t states);

/* SIM_PLAN from the environment. */
void runner_plan(struct plan *p);

uint64_t runner_number(const char *name, uint64_t otherwise);

/* Run it in a child: true when it failed; `trail` says how far it came, `what` (may be NULL) gets
 * what it said last. */
bool runner_fails(const struct plan *p, struct plan_trail *trail, char *what, size_t len);

#endif
