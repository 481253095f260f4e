/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_lives.h"

#include "image/image_impl.h"
#include "test/sim_damage.h"
#include "test/sim_snap.h"
#include "test/sim_vol.h"
#include "test/sim_zombie.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LIVES_MAX = 5 };

static struct world world;
static struct plan_trail own_trail, *trail = &own_trail;

void sim_set_trail(struct plan_trail *t)
{
	trail = t;
}

/* ---- the beginning of a life ---- */

static bool any_stale(const struct world *w, int but)
{
	for (unsigned i = 0; i < w->legs; i++)
		if (w->stale[i] && (int)i != but)
			return true;
	return false;
}

/* A leg may stay away for a life; one that was away is back, mostly. */
static void choose_legs(struct world *w)
{
	bool back = world_chance(w, 70), away = world_may(w, F_AWAY, 15);
	unsigned leg = (unsigned)world_below(w, w->legs);

	if (w->legs < 2)
		return;
	for (unsigned i = 0; i < w->legs; i++)
		w->here[i] = back || w->cut_open || !w->stale[i];
	if (world_legs_here(w) < w->legs - w->spare)
		for (unsigned i = 0; i < w->legs; i++)
			w->here[i] = true;
	if (!away || w->cut_open || any_stale(w, -1) || !w->whole || !w->spare)
		return;
	/* What is told by the rotten leg alone may not be true. */
	if (w->rotten >= 0)
		leg = (unsigned)w->rotten;
	w->here[leg] = false;
	world_log(w, "leg %u is away", leg);
}

static void open_all(struct world *w)
{
	char why[LSVD_ERR_MAX] = "";
	unsigned first = (unsigned)world_below(w, w->nvols);
	uint64_t left;
	bool armed;

	for (unsigned i = 0; i < w->nvols; i++)
		vol_resolve(&w->vol[i]);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
	if (world_may(w, F_DAMAGE, 10))
		damage_try(&w->vol[world_below(w, w->nvols)]);
	/* No crash meanwhile: the damage would stay. */
	armed = w->armed;
	left = loop_sim_stops_at(w->loop) - loop_sim_events(w->loop);
	if (world_may(w, F_ROT, 10) && !w->calm) {
		world_arm(w, 0, w->armed_process);
		world_rot_journal(w);
	}
	/* Dirty ones hold room in the pool that only they can give back. */
	for (unsigned i = 0; i < w->nvols; i++) {
		struct vol *v = &w->vol[(first + i) % w->nvols];

		if (v->exists == YES && (v->clean != CLEAN || world_chance(w, 80)))
			vol_open(v);
	}
	w->mending = false;
	w->whole = true;
	w->rotten_at = 0;
	if (armed && !w->armed)
		world_arm(w, left, w->armed_process);
}

/* ---- the end of a life ---- */

static void lose_pool(struct world *w)
{
	world_log(w, "---- the pool is lost");
	for (unsigned i = 0; i < w->nvols; i++) {
		struct vol *v = &w->vol[i];

		v->journal_lost = true;
		if (v->exists)
			oracle_crashed(&v->o, LOST_POOL);
	}
	w->cut_open = false;
	for (unsigned i = 0; i < w->legs; i++) {
		world_lose_disk(w, i);
		w->stale[i] = false;
	}
	w->whole = true;
	w->mending = false;
}

/* A disk that failed a flush has dropped what it should have kept; nothing tells whoever opens it
 * next (reads still give it) until its power is gone, too. */
static void doubtful_disks(struct world *w)
{
	unsigned doubtful = 0, good = 0;

	for (unsigned i = 0; i < w->legs; i++) {
		if (!sim_disk_doubtful(w->disk[i])) {
			good += !w->stale[i];
			continue;
		}
		world_log(w, "---- leg %u failed a flush, and loses what it did not keep", i);
		sim_disk_crash(w->disk[i], world_rand(w), false);
		w->mending = true;
		w->whole = false;
		doubtful++;
	}
	for (unsigned i = 0; i < w->nvols; i++)
		if (doubtful && (!good || doubtful > w->spare) && w->vol[i].exists)
			oracle_crashed(&w->vol[i].o, LOST_MACHINE);
}

static void lose_disks(struct world *w)
{
	unsigned lost = (unsigned)world_below(w, 100), leg = (unsigned)world_below(w, w->legs);

	doubtful_disks(w);
	if (!plan_has(&w->plan, F_LOSE))
		return;
	if (lost < 15) {
		lose_pool(w);
	} else if (lost < 35 && w->spare && w->rotten < 0 && w->whole && !any_stale(w, (int)leg)) {
		world_log(w, "---- leg %u is lost", leg);
		world_lose_disk(w, leg);
		w->stale[leg] = true;
		w->whole = false;
	}
}

static void crash_now(struct world *w, bool process_only)
{
	for (unsigned i = 0; i < w->nvols; i++)
		workload_note_stored(&w->vol[i]);
	world_crash(w, process_only);
	workload_forget();
}

static void close_all(struct world *w)
{
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].img)
			vol_close(&w->vol[i]);
}

static void end_life(struct world *w)
{
	unsigned how = (unsigned)world_below(w, 100);

	if (how >= 40)
		workload_finish(w);
	if (how < 60) {
		crash_now(w, world_chance(w, 50));
		return;
	}
	if (w->zombie.there && how >= 80)
		zombie_learns(w);
	workload_finish(w);
	close_all(w);
	if (how < 90 && !w->zombie.there)
		world_shutdown(w);
	else
		crash_now(w, world_chance(w, 50));
}

/* ---- a life ---- */

static uint64_t choose_crash(struct world *w)
{
	bool none = world_chance(w, 30);
	uint64_t at = 1 + world_below(w, 16ull << world_below(w, w->scale == TINY ? 8 : 12));

	if (w->plan.cuts >> w->life & 1)
		return w->plan.cut[w->life];
	return none ? 0 : at;
}

static void one_life(struct world *w, unsigned life, unsigned steps)
{
	uint64_t at;
	bool process;

	world_at(w, life, 0);
	world_boot(w);
	choose_legs(w);
	at = choose_crash(w);
	process = world_chance(w, 50);
	world_arm(w, at, process);
	if (setjmp(w->crash)) {
		workload_forget();
		world_crashed(w);
		world_at(w, w->life, 200001);
		lose_disks(w);
		return;
	}
	open_all(w);
	world_at(w, life, 1);
	workload_run(w, steps);
	end_life(w);
	lose_disks(w);
}

static unsigned choose_steps(struct world *w)
{
	unsigned few = 1 + (unsigned)world_below(w, 8u << world_below(w, 4)),
		 many = 5 + (unsigned)world_below(w, 20u << world_below(w, 5));

	return w->scale == TINY ? few : w->scale == LARGE ? 2 * many : many;
}

/* ---- the last lives: without faults, and everything is looked at ---- */

static void calm_boot(struct world *w, unsigned life)
{
	world_at(w, life, 0);
	world_calm(w);
	world_boot(w);
	choose_legs(w);
	for (unsigned i = 0; i < w->legs; i++)
		w->here[i] = true;
	world_land_strays(w);
}

/* Whatever strays is swept up by the opening after the next crash. */
static void life_before_last(struct world *w, unsigned life)
{
	calm_boot(w, life);
	for (unsigned i = 0; i < w->nvols; i++)
		vol_resolve(&w->vol[i]);
	if (world_chance(w, 20) || w->scale != TINY)
		for (unsigned i = 0; i < w->nvols; i++)
			if (w->vol[i].exists == YES)
				vol_fsck(&w->vol[i], false);
	open_all(w);
	workload_run(w, (unsigned)world_below(w, w->scale == TINY ? 10 : 100));
	workload_finish(w);
	crash_now(w, world_chance(w, 50));
}

static void open_every_one(struct world *w)
{
	open_all(w);
	/* An opening looks for what was left over. */
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].exists == YES && !w->vol[i].img)
			vol_open(&w->vol[i]);
}

static void last_life(struct world *w, unsigned life)
{
	calm_boot(w, life);
	open_every_one(w);
	workload_run(w, (unsigned)world_below(w, w->scale == TINY ? 10 : 100));
	workload_finish(w);
	if (w->zombie.there) {
		zombie_learns(w);
		/* What the zombie left is found when the images are opened next. */
		crash_now(w, world_chance(w, 50));
		calm_boot(w, life);
		open_every_one(w);
	}
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].img && vol_close(&w->vol[i]) < 0)
			world_fail(w, "no clean close without faults");
	vols_check_closed(w, world_chance(w, 20) || w->scale != TINY);
	if (world_chance(w, 20)) {
		for (unsigned i = 0; i < w->nvols; i++)
			if (w->vol[i].exists == YES)
				vol_open(&w->vol[i]);
		workload_run(w, (unsigned)world_below(w, w->scale == TINY ? 10 : 100));
		workload_finish(w);
		if (world_chance(w, 50))
			close_all(w);
		crash_now(w, world_chance(w, 50));
	}
}

static void remove_all(struct world *w, unsigned life)
{
	char why[LSVD_ERR_MAX] = "";

	if (!w->ctx) {
		calm_boot(w, life);
		if (world_open_pool(w, why) < 0)
			world_fail(w, "open pool: %s", why);
	}
	/* A base goes after its clones. */
	for (unsigned round = 0; round < WORLD_VOLS; round++)
		for (unsigned i = 0; i < w->nvols; i++)
			if (w->vol[i].exists == YES && !vol_has_clones(&w->vol[i]))
				vol_remove(&w->vol[i]);
	vols_check_names(w);
	vols_check_pool(w, "after a removal");
	crash_now(w, false);
	calm_boot(w, life + 1);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
	vols_check_pool(w, "after a removal and a crash");
	world_shutdown(w);
}

static void make_images(struct world *w)
{
	world_at(w, 1001, 0);
	world_boot(w);
	for (unsigned i = 0; i < w->nvols; i++) {
		struct vol *v = &w->vol[i];

		v->w = w;
		snprintf(v->name, sizeof(v->name), "v%u", i % 100);
		vol_create(v, world_may(w, F_BASE, 15));
	}
	world_shutdown(w);
}

static void hear(void *arg, const char *text)
{
	world_log((struct world *)arg, "%s", text);
}

void sim_run(const struct plan *p)
{
	struct world *w = &world;
	unsigned lives;

	workload_forget();
	lsvd_set_log(hear, w);
	world_init(w, p);
	w->trail = trail;
	*trail = (struct plan_trail){0};
	make_images(w);
	world_at(w, 1002, 0);
	lives = 1 + (unsigned)world_below(w, w->scale == TINY ? 3 : LIVES_MAX);
	trail->lives = lives;
	for (unsigned i = 0; i < lives; i++) {
		world_at(w, 1003, i);
		one_life(w, i, choose_steps(w));
	}
	life_before_last(w, lives);
	last_life(w, lives + 1);
	remove_all(w, lives + 2);
	world_fini(w);
}
