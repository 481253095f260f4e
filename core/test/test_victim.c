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

	victim_set_init(&s, victim_policy("greedy"), 1 << 20, 100);
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

	victim_set_init(&s, victim_policy("greedy"), 100, 80);
	for (uint32_t i = 0; i < 20; i++) {
		struct victim v = {
			.slot = i, .data_sectors = 1000, .live_sectors = 50 * i, .seq = 1 + i};

		victim_set_offer(&s, &v);
	}
	assert_int_equal(s.n, 17);		       /* up to 80 % */
	assert_int_equal(victim_set_pick(&s, 500), 5); /* 0 50 100 150 200 */
	assert_int_equal(victim_set_pick(&s, 499), 4);
	assert_int_equal(s.x[0].v.slot, 0);

	victim_set_init(&s, victim_policy("greedy"), 100, 80);
	victim_set_offer(&s, &(struct victim){.data_sectors = 1000, .live_sectors = 700, .seq = 1});
	assert_int_equal(victim_set_pick(&s, 500), 1); /* one is always allowed */
	victim_set_init(&s, victim_policy("greedy"), 100, 80);
	assert_int_equal(victim_set_pick(&s, 500), 0);
	assert_null(victim_policy("no such"));
}
