/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * victim.h - which objects to collect: a policy as a pure function.
 *
 * greedy: the lowest share of live data first (Rosenblum & Ousterhout, "The Design and
 * Implementation of a Log-Structured File System", SOSP '91, section 3.4).
 */
#ifndef LSVD_VOLUME_VICTIM_H
#define LSVD_VOLUME_VICTIM_H

#include <stdint.h>

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

/* Reorder c[n] so that the chosen come first, and return how many: in order of cost, until their
 * live data would exceed live_max sectors (one is always allowed) or `max` are chosen; none that is
 * more than percent_max live. */
uint32_t victim_choose(const struct victim_policy *p, struct victim *c, uint32_t n,
	uint64_t now_seq, uint64_t live_max, uint32_t max, uint32_t percent_max);

#endif
