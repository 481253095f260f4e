/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * victim.h - which objects to collect: a policy as a pure function.
 *
 * greedy         the lowest share of live data first
 * cost-benefit   the most free space for its price, older data first: (1 - u) * age / (1 + u)
 *                (both: Rosenblum & Ousterhout, "The Design and Implementation of a Log-Structured
 *                File System", SOSP '91, section 3.4 to 3.6)
 * sepbit         cost-benefit chooses the first victim; only such of about its age join it, so that
 *                data of like remaining life ends up together.  After Wang et al., "Separating Data
 *                via Block Invalidation Time Inference for Write Amplification Reduction in
 *                Log-Structured Storage", FAST '22: its classes 4 to 6, the ages [0, 4l), [4l, 16l)
 *                and beyond, l being the mean life of the user-written objects collected lately.
 *                Its classes 1 to 3 divide user writes, which here stay in order (I3).
 *
 * Ages are counted in objects written.  A victim_set sees every object once and keeps the cheapest:
 * one pass, however many there are.
 */
#ifndef LSVD_VOLUME_VICTIM_H
#define LSVD_VOLUME_VICTIM_H

#include <stdbool.h>
#include <stdint.h>

enum { VICTIM_SET_MAX = 64 };

struct victim {
	uint32_t slot;
	uint32_t data_sectors, live_sectors;
	uint64_t seq;
	uint64_t born; /* about when its data was written: a sequence number <= seq */
};

struct victim_policy {
	const char *name;
	/* Sort key: the lowest is collected first. */
	double (*cost)(const struct victim *c, uint64_t now_seq);
	bool by_age; /* victims of one round are of one class of age */
};

/* NULL: no such policy. */
const struct victim_policy *victim_policy(const char *name);

/* The i-th policy, NULL beyond the last. */
const struct victim_policy *victim_policy_at(unsigned i);

struct victim_set {
	const struct victim_policy *policy;
	uint64_t now_seq, life; /* life: SepBIT's l */
	uint32_t percent_max;
	uint32_t n;
	struct victim_cost {
		double cost;
		struct victim v;
	} x[VICTIM_SET_MAX]; /* a heap, the dearest on top, until victim_set_pick() */
};

/* None that is more than percent_max live is kept. */
void victim_set_init(struct victim_set *s, const struct victim_policy *p, uint64_t now_seq,
	uint64_t life, uint32_t percent_max);

void victim_set_offer(struct victim_set *s, const struct victim *v);

/* 0, 1 or 2: how old its data is, by the set's `life`. */
unsigned victim_age_class(const struct victim_set *s, const struct victim *v);

/* Sort what was kept, the cheapest first (ties: the older), and return how many to collect: until
 * their live data would exceed live_max sectors (one is always allowed). */
uint32_t victim_set_pick(struct victim_set *s, uint64_t live_max);

#endif
