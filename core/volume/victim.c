/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/victim.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static double greedy(const struct victim *c, uint64_t now_seq)
{
	(void)now_seq;
	return c->data_sectors ? (double)c->live_sectors / c->data_sectors : 0;
}

/* The lowest comes first: the negative of what is gained. */
static double cost_benefit(const struct victim *c, uint64_t now_seq)
{
	double u = greedy(c, now_seq), age = now_seq > c->born ? (double)(now_seq - c->born) : 0;

	return -(1 - u) * (age + 1) / (1 + u);
}

static const struct victim_policy policies[] = {{.name = "greedy", .cost = greedy},
	{.name = "cost-benefit", .cost = cost_benefit},
	{.name = "sepbit", .cost = cost_benefit, .by_age = true}};

enum { POLICIES = sizeof(policies) / sizeof(policies[0]) };

const struct victim_policy *victim_policy(const char *name)
{
	for (size_t i = 0; i < POLICIES; i++)
		if (!strcmp(policies[i].name, name))
			return &policies[i];
	return NULL;
}

const struct victim_policy *victim_policy_at(unsigned i)
{
	return i < POLICIES ? &policies[i] : NULL;
}

void victim_set_init(struct victim_set *s, const struct victim_policy *p, uint64_t now_seq,
	uint64_t life, uint32_t percent_max)
{
	s->policy = p;
	s->now_seq = now_seq;
	s->life = life;
	s->percent_max = percent_max;
	s->n = 0;
}

/* Ties go to the older. */
static bool dearer(const struct victim_cost *a, const struct victim_cost *b)
{
	return a->cost > b->cost || (a->cost == b->cost && a->v.seq > b->v.seq);
}

static void swap(struct victim_cost *a, struct victim_cost *b)
{
	struct victim_cost t = *a;

	*a = *b;
	*b = t;
}

static void sift_up(struct victim_set *s, uint32_t i)
{
	for (; i && dearer(&s->x[i], &s->x[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&s->x[i], &s->x[(i - 1) / 2]);
}

static void sift_down(struct victim_set *s)
{
	uint32_t i = 0, child;

	while ((child = 2 * i + 1) < s->n) {
		if (child + 1 < s->n && dearer(&s->x[child + 1], &s->x[child]))
			child++;
		if (!dearer(&s->x[child], &s->x[i]))
			return;
		swap(&s->x[child], &s->x[i]);
		i = child;
	}
}

void victim_set_offer(struct victim_set *s, const struct victim *v)
{
	struct victim_cost x = {.cost = s->policy->cost(v, s->now_seq), .v = *v};

	if ((uint64_t)v->live_sectors * 100 > (uint64_t)v->data_sectors * s->percent_max)
		return;
	if (s->n < VICTIM_SET_MAX) {
		s->x[s->n] = x;
		sift_up(s, s->n++);
	} else if (dearer(&s->x[0], &x)) {
		s->x[0] = x;
		sift_down(s);
	}
}

static int by_cost(const void *a, const void *b)
{
	return dearer(a, b) ? 1 : -1;
}

unsigned victim_age_class(const struct victim_set *s, const struct victim *v)
{
	uint64_t age = s->now_seq > v->born ? s->now_seq - v->born : 0;

	return age < 4 * s->life ? 0 : age < 16 * s->life ? 1 : 2;
}

static void keep_class_of_first(struct victim_set *s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++)
		if (victim_age_class(s, &s->x[i].v) == victim_age_class(s, &s->x[0].v))
			s->x[n++] = s->x[i];
	s->n = n;
}

uint32_t victim_set_pick(struct victim_set *s, uint64_t live_max)
{
	uint64_t live = 0;
	uint32_t n = 0;

	if (s->n)
		qsort(s->x, s->n, sizeof(s->x[0]), by_cost);
	if (s->policy->by_age)
		keep_class_of_first(s);
	for (; n < s->n; n++) {
		live += s->x[n].v.live_sectors;
		if (n && live > live_max)
			break;
	}
	return n;
}
