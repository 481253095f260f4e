/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_plan.h - which schedule to run: a seed, and what to leave out of it.
 *
 * Every life and every step of a schedule draws from a stream of its own (seed, life, step), so
 * that steps can be left out and the others stay what they were: that is how a failing schedule is
 * made shorter (sim_shrink.h).  As text, for SIM_PLAN:
 *
 *   no=store,rot cut=0:412 cut=1:0 skip=0:5-17 skip=1:0-199
 *
 * no: features left out; yes: features not left to chance; cut=LIFE:EVENTS: the life ends with a
 * crash after so many events (0: it is not cut); skip=LIFE:FROM-TO: steps left out.
 */
#ifndef LSVD_TEST_SIM_PLAN_H
#define LSVD_TEST_SIM_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a schedule may have besides writes, reads and flushes. */
enum feature {
	F_STORE,  /* store requests fail */
	F_AFTER,  /* ... or seem to, but are applied */
	F_SHORT,  /* GETs come back short */
	F_STALE,  /* LIST names what is gone, or not what is there */
	F_LATE,	  /* store requests take long, and overtake each other */
	F_STRAY,  /* requests of a dead writer land later */
	F_STALL,  /* the store is full, or gone, for a while */
	F_DISK,	  /* disk requests fail */
	F_ROT,	  /* bits flip */
	F_LOSE,	  /* disks are lost */
	F_AWAY,	  /* a leg is away for a life */
	F_DIE,	  /* a leg dies */
	F_MIRROR, /* two legs, or three */
	F_MANY,	  /* several images */
	F_BASE,	  /* an image begins with data, and a boot profile */
	F_ADMIN,  /* images are closed, opened, made and removed */
	F_RESIZE,
	F_GC,
	F_DRAIN,
	F_ZERO, /* discards and zeroes */
	F_CACHE,
	F_AHEAD,  /* readahead */
	F_DAMAGE, /* an object is damaged while the image is opened */
	F_ZOMBIE, /* a writer that lost its images goes on */
	F_SNAP,	  /* snapshots */
	F_CLONE,
	F_LEGS, /* legs fail or lag for a while, and others go on */
	F_ROLLBACK,
	FEATURES
};

enum { PLAN_LIVES = 16, PLAN_SKIPS = 64 };

struct skip {
	unsigned life, from, to;
};

struct plan {
	uint64_t seed;
	uint32_t without; /* bit per feature */
	uint32_t always;  /* bit per feature: not left to chance */
	uint16_t cuts;	  /* bit per life: cut[] says where, not the seed */
	uint64_t cut[PLAN_LIVES];
	struct skip skip[PLAN_SKIPS];
	unsigned nskip;
};

/* What a run of it turned out to be: the minimiser's material. */
struct plan_trail {
	unsigned lives, steps[PLAN_LIVES];
	uint64_t crashed_at[PLAN_LIVES]; /* events; 0: the life ended in order */
};

static inline bool plan_has(const struct plan *p, enum feature f)
{
	return !(p->without >> f & 1);
}
bool plan_skips(const struct plan *p, unsigned life, unsigned step);

const char *plan_feature_name(enum feature f);

/* 0, or -EINVAL. */
int plan_parse(struct plan *p, const char *text);
/* "" when nothing is left out. */
void plan_text(const struct plan *p, char *out, size_t len);

#endif
