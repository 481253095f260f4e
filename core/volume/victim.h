/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * victim.h - which objects to collect: a policy as a pure function.
 *
 * greedy: the lowest share of live data first (Rosenblum & Ousterhout, "The Design and
 * Implementation of a Log-Structured File System", SOSP '91, section 3.4).
 *
 * A victim_set sees every object once and keeps the cheapest: one pass, however many there are.
 */
#ifndef LSVD_VOLUME_VICTIM_H
#define LSVD_VOLUME_VICTIM_H

#include <stdint.h>

enum { VICTIM_SET_MAX = 64 };

struct victim {
	uint32_t slot;
	uint32_t data_sectors, live_sectors;
	uint64_t seq;
};

struct victim_policy {
	const char *name;
	/* Sort key: the lowest is collected first. */
	double (*cost)(const struct victim *c, uint64_t now_seq);
};

/* NULL: no such policy. */
const struct victim_policy *victim_policy(const char *name);

struct victim_set {
	const struct victim_policy *policy;
	uint64_t now_seq;
	uint32_t percent_max;
	uint32_t n;
	struct victim_cost {
		double cost;
		struct victim v;
	} x[VICTIM_SET_MAX]; /* a heap, the dearest on top, until victim_set_pick() */
};

/* None that is more than percent_max live is kept. */
void victim_set_init(struct victim_set *s, const struct victim_policy *p, uint64_t now_seq,
	uint32_t percent_max);

void victim_set_offer(struct victim_set *s, const struct victim *v);

/* Sort what was kept, the cheapest first (ties: the older), and return how many to collect: until
 * their live data would exceed live_max sectors (one is always allowed). */
uint32_t victim_set_pick(struct victim_set *s, uint64_t live_max);

#endif
