/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_victim.c - which objects are collected: the set against sorting all of them. */
#include "test/test.h"

#include "volume/victim.h"

#include <stdlib.h>

enum { MANY = 5000 };

static int by_live_share(const void *a, const void *b)
{
	const struct victim *x = a, *y = b;
	uint64_t l = (uint64_t)x->live_sectors * y->data_sectors,
		 r = (uint64_t)y->live_sectors * x->data_sectors;

	return l != r ? (l > r) - (l < r) : (x->seq > y->seq) - (x->seq < y->seq);
}

TEST(the_cheapest_are_kept_in_order)
{
	struct victim *all = calloc(MANY, sizeof(*all));
	struct victim_set s;
	uint64_t rng = test_seed() | 1;
	uint32_t n;

	victim_set_init(&s, victim_policy("greedy"), 1 << 20, 0, 100);
	for (uint32_t i = 0; i < MANY; i++) {
		all[i] = (struct victim){.slot = i,
			.data_sectors = 1024,
			.live_sectors = (uint32_t)(test_rand(&rng) % 1025),
			.seq = 1 + (i * 7919ull) % MANY};
		victim_set_offer(&s, &all[i]);
	}
	qsort(all, MANY, sizeof(*all), by_live_share);
	n = victim_set_pick(&s, UINT64_MAX);
	assert_int_equal(n, VICTIM_SET_MAX);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(s.x[i].v.live_sectors, all[i].live_sectors);
		assert_int_equal(s.x[i].v.seq, all[i].seq);
	}
	free(all);
}

TEST(what_is_picked_fits_one_object)
{
	struct victim_set s;

	victim_set_init(&s, victim_policy("greedy"), 100, 0, 80);
	for (uint32_t i = 0; i < 20; i++) {
		struct victim v = {
			.slot = i, .data_sectors = 1000, .live_sectors = 50 * i, .seq = 1 + i};

		victim_set_offer(&s, &v);
	}
	assert_int_equal(s.n, 17);		       /* up to 80 % */
	assert_int_equal(victim_set_pick(&s, 500), 5); /* 0 50 100 150 200 */
	assert_int_equal(victim_set_pick(&s, 499), 4);
	assert_int_equal(s.x[0].v.slot, 0);

	victim_set_init(&s, victim_policy("greedy"), 100, 0, 80);
	victim_set_offer(&s, &(struct victim){.data_sectors = 1000, .live_sectors = 700, .seq = 1});
	assert_int_equal(victim_set_pick(&s, 500), 1); /* one is always allowed */
	victim_set_init(&s, victim_policy("greedy"), 100, 0, 80);
	assert_int_equal(victim_set_pick(&s, 500), 0);
	assert_null(victim_policy("no such"));
}

TEST(older_data_is_worth_more_by_cost_and_benefit)
{
	const struct victim_policy *p = victim_policy("cost-benefit");
	struct victim young = {.data_sectors = 100, .live_sectors = 50, .seq = 990, .born = 990},
		      old = {.data_sectors = 100, .live_sectors = 75, .seq = 10, .born = 10},
		      moved = {.data_sectors = 100, .live_sectors = 50, .seq = 995, .born = 10};

	assert_true(p->cost(&old, 1000) < p->cost(&young, 1000));
	assert_true(p->cost(&moved, 1000) < p->cost(&old, 1000));
	assert_true(victim_policy("greedy")->cost(&young, 1000) <
		    victim_policy("greedy")->cost(&old, 1000));
}

TEST(victims_of_one_round_are_of_like_age)
{
	struct victim_set s;
	unsigned n;

	victim_set_init(&s, victim_policy("sepbit"), 1000, 10, 100);
	for (uint32_t i = 0; i < 30; i++) {
		struct victim v = {.slot = i,
			.data_sectors = 100,
			.live_sectors = 10,
			.seq = 971 + i,
			.born = i % 3 == 0   ? 971 + i
				: i % 3 == 1 ? 900
					     : 100};

		victim_set_offer(&s, &v);
	}
	n = victim_set_pick(&s, 1000);
	assert_int_equal(n, 10);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(s.x[i].v.born, 100);
		assert_int_equal(victim_age_class(&s, &s.x[i].v), 2);
	}
	assert_int_equal(victim_age_class(&s, &(struct victim){.born = 961}), 0);
	assert_int_equal(victim_age_class(&s, &(struct victim){.born = 960}), 1);
}

TEST(policies_have_names)
{
	for (unsigned i = 0; i < 3; i++)
		assert_ptr_equal(victim_policy(victim_policy_at(i)->name), victim_policy_at(i));
	assert_null(victim_policy_at(3));
}
