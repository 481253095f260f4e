/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_world.h - one schedule's machine: disks, store, power, and images of the real core on it.
 *
 * A power-on makes a loop, opens the disks as a pool and a store handle on it: mem objects below
 * the fault filter below a filter that knows what is in flight.  world_crash() takes the power
 * away: requests in flight to the store are lost, or have landed, or land some time after the next
 * power-on (strays).  Objects and platters remain.
 *
 * A crash is armed by the number of loop events and comes by longjmp() out of whatever polls the
 * loop, be it in the middle of an opening's blocking reads; what was on the stack of blocking calls
 * then is leaked, which a worker process forgives.
 */
#ifndef LSVD_TEST_SIM_WORLD_H
#define LSVD_TEST_SIM_WORLD_H

#include "image/context.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "test/sim_oracle.h"
#include "test/sim_plan.h"

#include <setjmp.h>

enum { WORLD_LEGS = 3, WORLD_VOLS = 6, VOL_SNAPS = 3, MARKS = 64 };

struct world;

/* Is an image marked as closed?  MAYBE: a crash came in a call that changes it. */
enum clean { DIRTY, CLEAN, MAYBE };
enum exists { NO, YES, PERHAPS };

/* When write `piece` was acknowledged, the log had come to `record`. */
struct mark {
	uint32_t piece;
	uint64_t record;
};

struct snap {
	enum exists exists;
	char name[8];
	uint32_t lo, hi;  /* pieces that it holds, at least and at most */
	uint32_t *frozen; /* stamps by sector, once it was read */
	uint32_t sectors;
};

/* An image. */
struct vol {
	struct world *w;
	char name[8];
	enum exists exists;
	enum clean clean;
	bool journal_lost; /* its journal, if it had one, is in no pool that we have */
	struct oracle o;
	uint64_t size_sectors, other_size; /* other: a resize may or may not have happened */
	uint32_t rolling;		   /* ... it is a roll-back, and this its piece; 0 none */
	uint32_t hot_lba, hot_len;
	uint32_t told;		 /* pieces that a record in the journal says are durable */
	struct mark mark[MARKS]; /* a ring */
	uint32_t first_mark, marks;
	struct snap snap[VOL_SNAPS];
	struct vol *parent;	/* it is a clone of */
	struct lsvd_image *img; /* open for writing */
};

/* A writer that lost its images and does not know (it slept): a power-on beside ours. */
struct zombie {
	bool there, in_call;
	bool steal; /* it still holds the locks: the new one has to steal */
	struct sim_disk *disk[WORLD_LEGS];
	struct store *store, *raw;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img[WORLD_VOLS];
};

struct stray;
enum scale { TINY, SMALL, LARGE };

struct world {
	struct plan plan;
	struct plan_trail *trail;
	uint64_t rng;
	unsigned life, step;
	enum scale scale;

	struct sim_disk *disk[WORLD_LEGS];
	unsigned legs;
	unsigned
		spare; /* so many legs may be lost, and the others have all that was acknowledged */
	int sick;      /* a leg that fails or lags for a while; -1 none */
	unsigned sick_steps;
	uint64_t leg_timeout_ns, healed_ns;
	bool known[WORLD_LEGS]; /* the others have recorded that it is stale */
	bool here[WORLD_LEGS];	/* in this life */
	bool stale[WORLD_LEGS]; /* the pool was, or may have been, used without it */
	bool cut_open;		/* an opening with both was cut: one may know of it, one not */
	bool whole;		/* each leg that is not stale has everything */
	bool mending;		/* ... only when every dirty image was opened */
	int rotten;		/* leg of two on which bits may flip; -1 none */
	uint64_t disk_bytes;
	struct sim_disk_model disk_model;
	bool disk_errors;   /* requests may fail because of the disks */
	bool calm;	    /* no faults any more */
	uint64_t rotten_at; /* in a journal without a mirror; 0 none */
	unsigned rotten_leg;
	bool leg_dead; /* no image can be opened in this life */
	struct mem_objects *objects;
	struct fault_rules rules; /* of the next power-on */
	struct lsvd_config *cfg;
	bool durable_store;
	uint32_t check_ms; /* writers look so often whether they still have the image; 0 never */
	struct vol vol[WORLD_VOLS];
	unsigned nvols;
	uint32_t last_tag;

	/* while the power is on */
	struct loop *loop;
	struct store *store, *fault, *raw; /* store: on top; raw: the objects, no faults */
	struct lsvd_ctx *ctx;
	struct zombie zombie;
	uint64_t time_ns; /* of the last power-off */
	bool blocking;	  /* in a call that a crash cannot unwind */
	bool armed, armed_process;
	uint64_t fixed_size; /* sectors of a new image; 0: by lot */
	jmp_buf crash;
	void (*between)(struct world *w); /* is called after every event; NULL: none */
	const char *where;		  /* for who reads of a failure; may be NULL */
	struct stray *strays;

	char config_text[700];
};

/* Random numbers of this moment (see sim_plan.h); chance: true `percent` of the time. */
void world_at(struct world *w, unsigned life, unsigned step);
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
/* The draw comes first, so that a feature that is left out changes nothing else. */
static inline bool world_may(struct world *w, enum feature f, unsigned percent)
{
	return (world_chance(w, percent) || w->plan.always >> f & 1) && plan_has(&w->plan, f);
}

/* Chooses configuration, disks and faults. */
void world_init(struct world *w, const struct plan *p);
void world_fini(struct world *w);

/* Power on: a loop, a store, what had to land has landed.  No context yet. */
void world_boot(struct world *w);
/* Open the pool; 0 or -errno and why. */
int world_open_pool(struct world *w, char *why);
int world_open_image(struct vol *v, unsigned flags, struct lsvd_image **img, char *why);
/* Everything closed in order; power off. */
void world_shutdown(struct world *w);
/* Now; the first half of it, while requests on the stack are still there; the second half. */
void world_crash(struct world *w, bool process_only);
/* Has a disk failed a flush, and still its power? */
bool world_doubtful(const struct world *w);
void world_power_fails(struct world *w, bool process_only);
void world_crashed(struct world *w);
/* Crash, and longjmp to w->crash for world_crashed(), after so many more events; 0: never. */
void world_arm(struct world *w, uint64_t events, bool process_only);

/* Have this called after every event from now on (NULL: no more).  It may look at worlds of its own
 * meanwhile, but not change this one. */
void world_each_event(struct world *w, void (*fn)(struct world *w));

/* How many legs are here. */
unsigned world_legs_here(const struct world *w);
/* Is each leg that is here in sync? */
bool world_legs_in_sync(const struct world *w);
/* Is no leg ill, and has none a request that hangs? */
bool world_legs_well(const struct world *w);
/* A leg is taken ill, when the others can do without it; and gets well after some steps. */
void world_leg_sick(struct world *w);
void world_leg_step(struct world *w);

/* Fresh disks: the pool, or one leg of it, is lost. */
void world_lose_disk(struct world *w, unsigned leg);
/* Flip a bit where it must do no harm: in a cache segment, or anywhere on the rotten leg of two. */
void world_rot(struct world *w);
/* Flip a bit in a journal that no mirror can mend: what no record says to be durable may be lost,
 * and of the rest an opening must tell.  And flip it back. */
void world_rot_journal(struct world *w);
void world_unrot(struct world *w);
/* No faults from now on, and after the next power-on. */
void world_calm(struct world *w);
/* The store is neither full nor gone any more. */
void world_store_is_back(struct world *w);

/* sim_store.c: a filter that knows what is in flight, and what becomes of it when the power fails
 */
struct store *late_new(struct world *w, struct store *inner);
void strand(struct world *w, const struct store *late);
void strays_launch(struct world *w);
void strays_free(struct world *w);
/* Strays of former power-ons land now. */
void world_land_strays(struct world *w);

/* Print the schedule and the reason, and end the process. */
__attribute__((format(printf, 2, 3), noreturn)) void world_fail(
	struct world *w, const char *fmt, ...);
/* With SIM_VERBOSE set: what happens. */
#define world_log(w, ...)                          \
	do {                                       \
		if (sim_verbose)                   \
			world_say(w, __VA_ARGS__); \
	} while (0)
extern bool sim_verbose;
__attribute__((format(printf, 2, 3))) void world_say(struct world *w, const char *fmt, ...);

#endif
