/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sim_exhaust.c - every short script, cut everywhere (exhaust.h).
 *
 *   test_sim_exhaust           the scripts of one operation; with SIM_SEEDS also those of two and
 *                              of three
 *   test_sim_exhaust -s N      script N; SIM_VERBOSE=1 tells what happens
 *
 * EXHAUST_NESTED (1): of the states that differ, one of so many is cut again at every event of its
 * opening.  EXHAUST_CONFIG: one of the configurations for all, else the first operation says which.
 * EXHAUST_BITS (3): see exhaust.h.
 */
#include "test/test.h"

#include "test/exhaust.h"
#include "test/sim_memory.h"
#include "test/sim_runner.h"

#include <inttypes.h>
#include <unistd.h>

/* It is on the disks: what one process has seen, all have. */
pid_t getpid(void)
{
	return 4711;
}

static void run_script(uint64_t number)
{
	struct exhaust_how how = {.nested = (unsigned)runner_number("EXHAUST_NESTED", 1),
		.bits = (unsigned)runner_number("EXHAUST_BITS", 3),
		.config = (unsigned)runner_number("EXHAUST_CONFIG", exhaust_config(number))};

	exhaust_run(number, &how);
}

static void run_all(uint64_t first, uint64_t n)
{
	struct exhaust_sum x;

	runner_per_worker = 50;
	runner_cpu_seconds = 3600;
	exhaust_begin();
	runner_run(run_script, first, n, 1, "exhaust");
	x = exhaust_end();
	printf("%" PRIu64 " scripts, cut at %" PRIu64 " events: %" PRIu64 " states, %" PRIu64
	       " distinct\n",
		x.scripts, x.cuts, x.states, x.distinct);
	printf("openings of %" PRIu64 " of them, cut at %" PRIu64 " events: %" PRIu64
	       " states, %" PRIu64 " more distinct\n",
		x.openings, x.cuts_again, x.states_again, x.distinct_again);
}

/* Is this a long run? */
static bool many(void)
{
	return runner_number("SIM_SEEDS", 0) > 0 && !test_seed_given();
}

static void run_length(unsigned length)
{
	uint64_t shorter = exhaust_scripts(length - 1);

	run_all(shorter, exhaust_scripts(length) - shorter);
}

TEST(every_script_of_one_operation_exhausted)
{
	if (test_seed_given())
		run_all(test_seed(), 1);
	else
		run_length(1);
}

TEST(every_script_of_two_operations_exhausted)
{
	if (many())
		run_length(2);
}

TEST(every_script_of_three_operations_exhausted)
{
	if (many())
		run_length(3);
}

TEST(scripts_have_names)
{
	char name[64];

	exhaust_name(0, name);
	assert_string_equal(name, "write-512");
	exhaust_name(exhaust_scripts(1), name);
	assert_string_equal(name, "write-512 write-512");
	exhaust_name(exhaust_scripts(3) - 1, name);
	assert_string_equal(name, "close close close");
	assert_int_equal(exhaust_scripts(0), 0);
	assert_int_equal(exhaust_scripts(3), 12 + 144 + 1728);
}

static struct fingerprint run_one(uint64_t script, bool uncut, struct exhaust_sum *sum)
{
	struct exhaust_how how = {
		.nested = 1, .bits = 3, .config = exhaust_config(script), .uncut = uncut};
	struct fingerprint end;

	exhaust_begin();
	end = exhaust_run(script, &how);
	*sum = exhaust_end();
	return end;
}

/* What a state becomes must depend on the state alone, and a run must not notice that it is looked
 * into: else states could be passed over that are not the same. */
TEST(looking_into_crashes_changes_nothing_and_is_repeatable)
{
	enum { CLONE_GC = EXHAUST_OPS + 7 * EXHAUST_OPS + 8 };
	struct exhaust_sum a, b, none;
	struct fingerprint cut = run_one(CLONE_GC, false, &a), again = run_one(CLONE_GC, false, &b),
			   uncut = run_one(CLONE_GC, true, &none);

	assert_memory_equal(&a, &b, sizeof(a));
	assert_true(a.distinct > 0 && a.distinct_again > 0 && a.distinct < a.states);
	assert_int_equal(none.states, 0);
	assert_memory_equal(&cut, &again, sizeof(cut));
	assert_memory_equal(&cut, &uncut, sizeof(cut));
}

/* What is left out is the cuts of the scripts that a script begins with: those must be run alike.
 */
TEST(a_script_has_the_configuration_of_what_it_begins_with)
{
	for (uint64_t i = 0; i < exhaust_scripts(2); i++) {
		uint64_t in_length = i < EXHAUST_OPS ? i : i - EXHAUST_OPS;
		uint64_t first = exhaust_scripts(i < EXHAUST_OPS ? 1 : 2) + in_length * EXHAUST_OPS;

		for (uint64_t k = first; k < first + EXHAUST_OPS; k++) {
			char longer[64], shorter[64];

			exhaust_name(i, shorter);
			exhaust_name(k, longer);
			assert_memory_equal(longer, shorter, strlen(shorter));
			assert_int_equal(exhaust_config(i), exhaust_config(k));
		}
	}
}
