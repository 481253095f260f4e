/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sim_exhaust.c - every short script, cut everywhere (exhaust.h).
 *
 * Scripts of one and two operations, and EXHAUST_SCRIPTS of the 1728 of three (default: a few, from
 * all over; with EXHAUST_FIRST those from that number on).  Short of SIM_SEEDS only some of one
 * operation.  One of EXHAUST_NESTED (default 400) cuts is cut again at every event of the opening.
 */
#include "test/test.h"

#include "test/exhaust.h"
#include "test/sim_memory.h"
#include "test/sim_runner.h"

#include <inttypes.h>

static void run_script(uint64_t number)
{
	exhaust_run(number, (unsigned)runner_number("EXHAUST_CONFIG", 0), (unsigned)runner_number("EXHAUST_NESTED", 400));
}

static void run_all(uint64_t first, uint64_t n, uint64_t step)
{
	struct exhaust_sum x;

	runner_per_worker = 50;
	runner_cpu_seconds = 3600;
	exhaust_begin();
	runner_run(run_script, first, n, step, "exhaust");
	x = exhaust_end();
	printf("%" PRIu64 " scripts, %" PRIu64 " cuts, %" PRIu64 " states, %" PRIu64 " distinct; %" PRIu64 " openings cut again, %" PRIu64 " states, %" PRIu64 " distinct\n", x.scripts, x.cuts, x.states, x.distinct, x.cut_again, x.states_again, x.distinct_again);
}

/* Is this a long run?  In `make check` only some are tried. */
static bool many(void)
{
	return runner_number("SIM_SEEDS", 0) > 0;
}

TEST(every_script_of_one_operation_exhausted)
{
	if (test_seed_given())
		run_all(test_seed(), 1, 1);
	else if (many())
		run_all(0, exhaust_scripts(1), 1);
	else
		run_all(test_seed() % 3, exhaust_scripts(1) / 3, 3);
}

TEST(every_script_of_two_operations_exhausted)
{
	uint64_t n = exhaust_scripts(2) - exhaust_scripts(1);

	if (test_seed_given())
		return;
	if (many())
		run_all(exhaust_scripts(1), n, 1);
}

TEST(scripts_of_three_operations_exhausted)
{
	uint64_t all = exhaust_scripts(3) - exhaust_scripts(2);
	uint64_t n = runner_number("EXHAUST_SCRIPTS", runner_number("SIM_SEEDS", 0) / 5000);
	uint64_t first = runner_number("EXHAUST_FIRST", 0) % all, here;

	if (n > all)
		n = all;
	if (!n || test_seed_given())
		return;
	if (!getenv("EXHAUST_FIRST")) {
		run_all(exhaust_scripts(2), n, all / n);
		return;
	}
	here = n < all - first ? n : all - first;
	run_all(exhaust_scripts(2) + first, here, 1);
	if (n > here)
		run_all(exhaust_scripts(2), n - here, 1);
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
	assert_int_equal(exhaust_scripts(3), 12 + 144 + 1728);
}
