/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/victim.h"

#include <stddef.h>
#include <string.h>

static double greedy(const struct victim *c, uint64_t now_seq)
{
	(void)now_seq;
	return c->data_sectors ? (double)c->live_sectors / c->data_sectors : 0;
}

static const struct victim_policy policies[] = {{.name = "greedy", .cost = greedy}};

const struct victim_policy *victim_policy(const char *name)
{
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
		if (!strcmp(policies[i].name, name))
			return &policies[i];
	return NULL;
}

/* Cheapest of c[from..n); ties go to the older. */
static uint32_t cheapest(const struct victim_policy *p, const struct victim *c, uint32_t from,
	uint32_t n, uint64_t now_seq)
{
	uint32_t best = from;
	double cost = p->cost(&c[from], now_seq);

	for (uint32_t i = from + 1; i < n; i++) {
		double x = p->cost(&c[i], now_seq);

		if (x < cost || (x == cost && c[i].seq < c[best].seq)) {
			best = i;
			cost = x;
		}
	}
	return best;
}

uint32_t victim_choose(const struct victim_policy *p, struct victim *c, uint32_t n,
	uint64_t now_seq, uint64_t live_max, uint32_t max, uint32_t percent_max)
{
	uint64_t live = 0;
	uint32_t chosen = 0;

	while (chosen < n && chosen < max) {
		uint32_t best = cheapest(p, c, chosen, n, now_seq);
		struct victim v = c[best];

		if ((uint64_t)v.live_sectors * 100 > (uint64_t)v.data_sectors * percent_max ||
			(chosen && live + v.live_sectors > live_max))
			break;
		live += v.live_sectors;
		c[best] = c[chosen];
		c[chosen++] = v;
	}
	return chosen;
}
