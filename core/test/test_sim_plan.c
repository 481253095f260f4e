/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_sim_plan.c - plans as text, and how a failing one is made shorter. */
#include "test/test.h"

#include "test/sim_shrink.h"

TEST(a_plan_is_text)
{
	static const char text[] =
		"no=store,rot yes=zombie cut=0:412 cut=1:0 skip=0:5-17 skip=3:1-199";
	char again[300];
	struct plan p = {.seed = 1};

	assert_int_equal(plan_parse(&p, text), 0);
	assert_false(plan_has(&p, F_STORE));
	assert_true(plan_has(&p, F_AFTER));
	assert_true(plan_skips(&p, 0, 17));
	assert_false(plan_skips(&p, 0, 18));
	assert_false(plan_skips(&p, 1, 17));
	plan_text(&p, again, sizeof(again));
	assert_string_equal(again, text);
	assert_true(plan_parse(&p, "no=nonsense") < 0);
	assert_true(plan_parse(&p, "cut=99:1") < 0);
}

/* Fails when step 17 of life 1 comes after steps 3 and 4 of life 0, discards are on, and the crash
 * of life 0 comes after 100 events or more. */
static bool needs_four(struct shrinker *s, const struct plan *p, struct plan_trail *t)
{
	uint64_t at = p->cuts & 1 ? p->cut[0] : 5000;

	(void)s;
	*t = (struct plan_trail){.lives = 3, .steps = {200, 50, 80}, .crashed_at = {at, 0, 77}};
	return !plan_skips(p, 0, 3) && !plan_skips(p, 0, 4) && !plan_skips(p, 1, 17) &&
	       plan_has(p, F_ZERO) && at >= 100;
}

TEST(a_failing_plan_becomes_short)
{
	struct shrinker s = {.fails = needs_four, .most = 5000};
	struct plan p = {.seed = 1};
	unsigned steps = 0;

	assert_true(shrink(&s, &p));
	assert_int_equal(p.without, ((1u << FEATURES) - 1) & ~(1u << F_ZERO));
	for (unsigned i = 1; i <= 200; i++)
		for (unsigned life = 0; life < 3; life++)
			if (i <= (life == 0	     ? 200u
					 : life == 1 ? 50u
						     : 80u) &&
				!plan_skips(&p, life, i))
				steps++;
	assert_int_equal(steps, 3);
	assert_int_equal(p.cut[0], 100);
	assert_true(p.cuts >> 2 & 1 && p.cut[2] == 0);
	assert_true(s.runs < 500);
}

TEST(a_plan_that_does_not_fail_stays)
{
	struct shrinker s = {.fails = needs_four, .most = 5000};
	struct plan p = {.seed = 1, .without = 1u << F_ZERO};

	assert_false(shrink(&s, &p));
	assert_int_equal(s.runs, 1);
}
