/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_shrink.c - greedy, round after round, until nothing more can go: a feature; a crash, or what
 * lies before it; halves of the steps of a life, then halves of these.
 */
#include "test/sim_shrink.h"

static bool still_fails(struct shrinker *s, const struct plan *p, struct plan_trail *t)
{
	if (s->runs >= s->most)
		return false;
	s->runs++;
	return s->fails(s, p, t);
}

static bool try(
	struct shrinker *s, struct plan *p, const struct plan *shorter, struct plan_trail *t)
{
	struct plan_trail now = {0};

	if (!still_fails(s, shorter, &now))
		return false;
	*p = *shorter;
	*t = now;
	return true;
}

static bool drop_features(struct shrinker *s, struct plan *p, struct plan_trail *t)
{
	bool any = false;

	for (unsigned f = 0; f < FEATURES; f++) {
		struct plan less = *p;

		less.without |= 1u << f;
		if (plan_has(p, f) && try(s, p, &less, t))
			any = true;
	}
	return any;
}

static bool cut_at(
	struct shrinker *s, struct plan *p, struct plan_trail *t, unsigned life, uint64_t at)
{
	struct plan other = *p;

	other.cuts |= (uint16_t)(1u << life);
	other.cut[life] = at;
	return try(s, p, &other, t);
}

/* No crash; or an earlier one. */
static bool drop_crashes(struct shrinker *s, struct plan *p, struct plan_trail *t)
{
	bool any = false;

	for (unsigned life = 0; life < PLAN_LIVES; life++) {
		uint64_t at = p->cuts >> life & 1 ? p->cut[life] : t->crashed_at[life];

		if (!at || at == 1)
			continue;
		if (cut_at(s, p, t, life, 0)) {
			any = true;
			continue;
		}
		for (uint64_t less = at / 2; less; less /= 2)
			if (at > less && cut_at(s, p, t, life, at - less)) {
				at -= less;
				any = true;
			}
	}
	return any;
}

static bool skip(struct shrinker *s, struct plan *p, struct plan_trail *t, struct skip k)
{
	struct plan less = *p;

	if (less.nskip == PLAN_SKIPS)
		return false;
	less.skip[less.nskip++] = k;
	return try(s, p, &less, t);
}

static bool skipped_all(const struct plan *p, struct skip k)
{
	for (unsigned i = k.from; i <= k.to; i++)
		if (!plan_skips(p, k.life, i))
			return false;
	return true;
}

static bool drop_steps(struct shrinker *s, struct plan *p, struct plan_trail *t, struct skip k)
{
	unsigned middle = k.from + (k.to - k.from) / 2;
	bool any;

	if (k.from > k.to || skipped_all(p, k))
		return false;
	if (skip(s, p, t, k))
		return true;
	if (k.from == k.to)
		return false;
	any = drop_steps(s, p, t, (struct skip){k.life, k.from, middle});
	return drop_steps(s, p, t, (struct skip){k.life, middle + 1, k.to}) || any;
}

/* Neighbours become one. */
static void join_skips(struct plan *p, const struct plan_trail *t)
{
	struct plan joined = *p;

	joined.nskip = 0;
	for (unsigned life = 0; life < PLAN_LIVES; life++)
		for (unsigned i = 1; i <= t->steps[life]; i++) {
			struct skip *last = joined.nskip ? &joined.skip[joined.nskip - 1] : NULL;

			if (!plan_skips(p, life, i))
				continue;
			if (last && last->life == life && last->to == i - 1)
				last->to = i;
			else if (joined.nskip < PLAN_SKIPS)
				joined.skip[joined.nskip++] = (struct skip){life, i, i};
			else
				return;
		}
	*p = joined;
}

bool shrink(struct shrinker *s, struct plan *p)
{
	struct plan_trail t = {0};
	bool any = true;

	if (!still_fails(s, p, &t))
		return false;
	while (any && s->runs < s->most) {
		any = drop_features(s, p, &t);
		any |= drop_crashes(s, p, &t);
		for (unsigned life = 0; life < PLAN_LIVES; life++) {
			if (t.steps[life])
				any |= drop_steps(s, p, &t, (struct skip){life, 1, t.steps[life]});
			join_skips(p, &t);
		}
	}
	return true;
}
