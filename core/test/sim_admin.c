/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_admin.c - what happens to images now and then: resize, GC, drain, close and open again, made
 * and removed; a leg that dies; a writer that lost its images and goes on writing.
 */
#include "test/sim_snap.h"
#include "test/sim_vol.h"
#include "test/sim_zombie.h"

#include "image/image_impl.h"

#include <errno.h>
#include <inttypes.h>

static void drain(struct vol *v)
{
	struct world *w = v->w;
	uint32_t covers = v->o.acked;
	int rc;

	world_log(w, "drain %s", v->name);
	rc = lsvd_image_drain(v->img);
	workload_check(w, "drain", rc, NULL);
	if (rc == 0) {
		lift(&v->o.flushed, covers);
		lift(&v->o.stored, covers);
	}
}

static void collect(struct vol *v)
{
	unsigned percent = (unsigned)world_between(v->w, 30, 100);

	world_log(v->w, "gc %s to %u %%", v->name, percent);
	workload_check(v->w, "gc", lsvd_image_gc(v->img, percent), NULL);
}

void admin_resize(struct vol *v, uint64_t size)
{
	struct world *w = v->w;
	uint64_t old = v->size_sectors;
	uint32_t first, last = 0, stamp;
	char why[LSVD_ERR_MAX] = "";
	int rc;

	world_log(w, "resize %s %" PRIu64 " -> %" PRIu64, v->name, old, size);
	if (size < old)
		oracle_submit(
			&v->o, (uint32_t)size, (uint32_t)(old - size), true, &first, &last, &stamp);
	v->other_size = size;
	rc = lsvd_image_resize(v->img, size * 512, true, why);
	workload_check(w, "resize", rc, why);
	v->size_sectors = lsvd_image_size(v->img) / 512;
	v->other_size = 0;
	if (rc == 0 && last) {
		oracle_acked(&v->o, first, last);
		lift(&v->o.flushed, last);
		lift(&v->o.stored, last);
	}
	workload_aim(v);
}

static void resize(struct vol *v)
{
	struct world *w = v->w;
	uint64_t max = w->scale == TINY || world_chance(w, 20) ? v->o.sectors : 2048 * 6;
	uint64_t size = world_between(w, w->scale == TINY ? 32 : 600, max);

	workload_finish(w);
	if (w->scale != TINY && world_chance(w, 30))
		size = size / 2048 * 2048 + 2048;
	if (size != v->size_sectors && size <= v->o.sectors)
		admin_resize(v, size);
}

/* ---- images come and go ---- */

static struct vol *pick_closed(struct world *w, enum exists exists)
{
	unsigned at = (unsigned)world_below(w, w->nvols);

	for (unsigned i = 0; i < w->nvols; i++) {
		struct vol *v = &w->vol[(at + i) % w->nvols];

		if (!v->img && v->exists == exists)
			return v;
	}
	return NULL;
}

static void open_or_make(struct world *w)
{
	struct vol *v = pick_closed(w, YES);

	workload_finish(w);
	if (v) {
		vol_open(v);
		workload_aim(v);
	} else if ((v = pick_closed(w, NO))) {
		/* No image may have its name while requests of an earlier one are on their way. */
		world_land_strays(w);
		vol_create(v, world_may(w, F_BASE, 15));
	}
}

static void remove_one(struct world *w)
{
	struct vol *v = pick_closed(w, YES);

	workload_finish(w);
	if (!v || v->clean != CLEAN || vol_has_clones(v))
		return;
	world_land_strays(w);
	vol_remove(v);
}

static void close_one(struct vol *v)
{
	struct world *w = v->w;

	workload_finish(w);
	if (world_may(w, F_STALL, 15) && !w->calm) {
		/* It is closed all the same, and its journal stays. */
		store_fault_rules(w->fault)->full = true;
		vol_close(v);
		world_store_is_back(w);
		if (!w->leg_dead)
			vol_open(v);
		return;
	}
	if (vol_close(v) == 0 && world_chance(v->w, 30) && !v->w->leg_dead)
		vol_read_only(v);
}

/* ---- disks ---- */

/* All its requests, or its flushes, fail from now on: writes must not be acknowledged, reads go to
 * the other. */
static void leg_dies(struct world *w)
{
	unsigned leg = (unsigned)world_below(w, w->legs);
	bool flushes_only = world_chance(w, 40);

	if (!w->here[leg] || !world_legs_well(w) || (w->rotten >= 0 && w->rotten != (int)leg))
		return;
	world_log(w, "leg %u %s", leg, flushes_only ? "fails its flushes" : "dies");
	w->disk_errors = w->leg_dead = true;
	if (flushes_only)
		sim_disk_model(w->disk[leg])->flush_fails = true;
	else
		sim_disk_model(w->disk[leg])->error_per_million = 1000000;
}

static void keep(struct vol *v, uint64_t kind)
{
	bool clones = plan_has(&v->w->plan, F_CLONE) && !v->w->zombie.there;

	if (kind < 46)
		snap_make(v);
	else if (kind < 48)
		snaps_check(v);
	else if (kind < 50)
		snap_remove(v);
	else if (kind < 54 && clones)
		clone_make(v);
	else if (kind >= 54 && clones)
		clone_flatten(v);
}

void admin_step(struct world *w, uint64_t kind)
{
	const struct plan *p = &w->plan;
	struct vol *v = workload_pick(w);

	if (w->scale == TINY)
		kind = kind < 400 ? kind / 4 : 1000;
	if (w->zombie.there)
		zombie_acts(w);
	if (kind < 4 && v && plan_has(p, F_RESIZE))
		resize(v);
	else if (kind >= 4 && kind < 9 && v && plan_has(p, F_GC))
		collect(v);
	else if (kind >= 9 && kind < 16 && v && plan_has(p, F_DRAIN))
		drain(v);
	else if (kind >= 16 && kind < 22 && v && plan_has(p, F_ADMIN))
		close_one(v);
	else if (kind >= 22 && kind < 34 && plan_has(p, F_ADMIN) && !w->zombie.there &&
		 !w->leg_dead)
		open_or_make(w);
	else if (kind >= 34 && kind < 38 && plan_has(p, F_ADMIN) && !w->zombie.there)
		remove_one(w);
	else if (kind == 38 && !w->calm && plan_has(p, F_DIE))
		leg_dies(w);
	else if (kind >= 56 && kind < 64 && !w->calm && plan_has(p, F_LEGS))
		world_leg_sick(w);
	else if (kind >= 41 && kind < 56 && v && plan_has(p, F_SNAP) && !w->leg_dead)
		keep(v, kind);
	else if (kind >= 64 && kind < 68 && v && plan_has(p, F_ROLLBACK) && !w->leg_dead &&
		 !w->zombie.there)
		snap_roll_back(v);
	else if ((p->always >> F_ZOMBIE & 1 || (kind >= 39 && kind < 41)) &&
		 plan_has(p, F_ZOMBIE) && !w->zombie.there)
		zombie_rises(w);
}
