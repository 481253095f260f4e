/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sim.c - whole images on simulated loop, disks and store, against a model (docs/DESIGN.md,
 * "simulator").
 *
 *   test_sim                  seeds 1 to 300 (SIM_SEEDS; from SIM_FIRST), then as many cuts
 *   test_sim -s SEED          one, in this process; SIM_VERBOSE=1 tells what happens; SIM_PLAN
 *                             leaves out some of it (sim_plan.h)
 *   SIM_SHRINK=1 test_sim -s SEED survive
 *                             looks for the shortest plan that still fails, and prints it
 *
 * A seed chooses its crashes; the cuts go through a few lives event by event: cut N is life N % 4,
 * cut after N / 4 events, and from 4096 on its recovery is cut, too.
 */
#include "test/test.h"

#include "test/sim_arena.h"
#include "test/sim_lives.h"
#include "test/sim_memory.h"
#include "test/sim_runner.h"
#include "test/sim_shrink.h"

#include <inttypes.h>

enum { CUT_LIVES = 4, CUT_EVENTS = 1024 };

static void run_plan(const struct plan *p)
{
	sim_arena_begin();
	prefault_forget();
	sim_run(p);
}

static void run_seed(uint64_t seed)
{
	struct plan p = {.seed = seed};

	runner_plan(&p);
	run_plan(&p);
}

static void run_fenced(uint64_t seed)
{
	struct plan p = {.seed = seed, .always = 1u << F_ZOMBIE};

	runner_plan(&p);
	run_plan(&p);
}

static void run_damaged(uint64_t seed)
{
	struct plan p = {.seed = seed, .always = 1u << F_DAMAGE};

	runner_plan(&p);
	run_plan(&p);
}

static void run_cut(uint64_t n)
{
	uint64_t round = n / (CUT_LIVES * CUT_EVENTS), at = n / CUT_LIVES % CUT_EVENTS;
	struct plan p = {.seed = 1000 + n % CUT_LIVES, .cuts = 3};

	p.cut[0] = 1 + at;
	p.cut[1] = round ? 1 + (at + round * 37) % 200 : 0;
	runner_plan(&p);
	run_plan(&p);
}

/* ---- the shortest that fails ---- */

static char last_words[400];

static bool fails(struct shrinker *s, const struct plan *p, struct plan_trail *t)
{
	char what[sizeof(last_words)];
	bool failed = runner_fails(p, t, what, sizeof(what));

	(void)s;
	if (failed)
		memcpy(last_words, what, sizeof(what));
	return failed;
}

static void shrink_seed(uint64_t seed)
{
	struct shrinker s = {
		.fails = fails, .most = (unsigned)runner_number("SIM_SHRINK", 1) * 3000};
	struct plan p = {.seed = seed};
	char text[2000];

	runner_plan(&p);
	if (!shrink(&s, &p)) {
		printf("seed %" PRIu64 " does not fail\n", seed);
		return;
	}
	plan_text(&p, text, sizeof(text));
	printf("after %u runs: %s\nreplay with: SIM_VERBOSE=1 SIM_PLAN='%s' test_sim -s %" PRIu64
	       " survive\n",
		s.runs, last_words, text, seed);
	fail_msg("seed %" PRIu64 " fails", seed);
}

static void run_as_then(uint64_t seed)
{
	struct plan p = {.seed = seed, .without = 1u << F_ROLLBACK};

	run_plan(&p);
}

/* Schedules that found something once, when there was no roll-back yet: an opening that was cut
 * between the legs, and a superblock that was tried again while the image closed. */
TEST(schedules_that_failed_once)
{
	static const uint64_t seeds[] = {70075930, 70127532, 70081138};

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]) && !test_seed_given(); i++)
		runner_run(run_as_then, seeds[i], 1, 1, "survive");
}

TEST(whole_images_survive_what_may_happen)
{
	if (test_seed_given() && getenv("SIM_SHRINK")) {
		shrink_seed(test_seed());
		return;
	}
	runner_run(run_seed, runner_number("SIM_FIRST", 1), runner_number("SIM_SEEDS", 300), 1,
		"survive");
}

TEST(any_event_may_be_the_last)
{
	uint64_t n = runner_number("SIM_SEEDS", 300) / 5 + 100;
	uint64_t step = n < CUT_LIVES * CUT_EVENTS ? CUT_LIVES * CUT_EVENTS / (n + 1) | 1 : 1;

	runner_run(run_cut, 0, n, step, "event");
}

TEST(a_writer_that_lost_the_image_is_never_seen)
{
	runner_run(run_fenced, 1, runner_number("SIM_SEEDS", 300) / 50 + 30, 1, "lost");
}

TEST(damaged_objects_never_lie)
{
	runner_run(run_damaged, 1, runner_number("SIM_SEEDS", 300) / 50 + 30, 1, "damaged");
}
