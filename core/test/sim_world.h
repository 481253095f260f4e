/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_world.h - one seed's machine: disks, store, power, and an image of the real core on it.
 *
 * A power-on makes a loop, opens the disks as a pool and a store handle on it: mem objects below
 * the fault filter below a filter that knows what is in flight.  world_crash() takes the power
 * away: requests in flight to the store are lost, or have landed, or land some time after the next
 * power-on (strays).  Objects and platters remain.
 *
 * A crash is armed by the number of loop events and comes by longjmp() out of whatever polls the
 * loop; what was on the stack of blocking calls then is leaked, which a worker process forgives.
 */
#ifndef LSVD_TEST_SIM_WORLD_H
#define LSVD_TEST_SIM_WORLD_H

#include "image/context.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "test/sim_oracle.h"

#include <setjmp.h>

enum { WORLD_LEGS = 2, WORLD_STRAYS = 32, WORLD_WHY = LSVD_ERR_MAX };

struct stray;

struct world {
	uint64_t seed, rng;
	struct sim_disk *disk[WORLD_LEGS];
	unsigned legs;
	int rotten; /* leg of two on which bits may flip; -1 none */
	uint64_t disk_bytes;
	struct sim_disk_model disk_model;
	struct mem_objects *objects;
	struct fault_rules rules; /* of the next power-on */
	struct lsvd_config *cfg;
	struct oracle o;
	uint64_t size_sectors, other_size; /* other: a resize may or may not have happened */
	bool durable_store;

	/* while the power is on */
	struct loop *loop;
	struct store *store, *fault, *raw; /* store: on top; raw: the objects, no faults */
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	uint64_t time_ns; /* of the last power-off */
	bool blocking;	  /* in a call that a crash cannot unwind */
	bool armed, armed_process;
	jmp_buf crash;
	struct stray *strays;

	char config_text[600];
};

/* Random numbers of this seed; chance: true `percent` of the time. */
uint64_t world_rand(struct world *w);
static inline uint64_t world_below(struct world *w, uint64_t n)
{
	return n ? world_rand(w) % n : 0;
}
static inline uint64_t world_between(struct world *w, uint64_t lo, uint64_t hi)
{
	return lo + world_below(w, hi - lo + 1);
}
static inline bool world_chance(struct world *w, unsigned percent)
{
	return world_below(w, 100) < percent;
}

void world_init(struct world *w, uint64_t seed);
void world_fini(struct world *w);

/* Power on: a loop, a store, what had to land has landed.  No context yet. */
void world_boot(struct world *w);
/* Open the pool; 0 or -errno and why. */
int world_open_pool(struct world *w, char *why);
int world_open_image(struct world *w, unsigned flags, char *why);
/* Everything closed in order; power off. */
void world_shutdown(struct world *w);
/* Now; the first half of it, while requests on the stack are still there; the second half. */
void world_crash(struct world *w, bool process_only);
void world_power_fails(struct world *w, bool process_only);
void world_crashed(struct world *w);
/* Crash, and longjmp to w->crash for world_crashed(), after so many more events; 0: never. */
void world_arm(struct world *w, uint64_t events, bool process_only);

/* Fresh disks: the pool, or one leg of it, is lost. */
void world_lose_disk(struct world *w, unsigned leg);
/* Flip a bit where it must do no harm: in a cache segment, or anywhere on the rotten leg of two. */
void world_rot(struct world *w);
/* No faults from now on, and after the next power-on. */
void world_calm(struct world *w);
/* Strays of former power-ons land now. */
void world_land_strays(struct world *w);

/* Print seed and reason, and end the process. */
__attribute__((format(printf, 2, 3), noreturn)) void world_fail(
	struct world *w, const char *fmt, ...);
/* With SIM_VERBOSE set: what happens. */
__attribute__((format(printf, 2, 3))) void world_log(struct world *w, const char *fmt, ...);

#endif
