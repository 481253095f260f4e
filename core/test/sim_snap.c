/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_snap.h"

#include "image/image_impl.h"
#include "test/sim_vol.h"
#include "volume/clone.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 30 };

static struct snap *pick(struct vol *v, enum exists exists)
{
	unsigned at = (unsigned)world_below(v->w, VOL_SNAPS);

	for (unsigned i = 0; i < VOL_SNAPS; i++)
		if (v->snap[(at + i) % VOL_SNAPS].exists == exists)
			return &v->snap[(at + i) % VOL_SNAPS];
	return NULL;
}

static int try_open(struct vol *v, const struct snap *s, struct lsvd_image **img, char *why)
{
	struct world *w = v->w;
	struct err e = {.msg = ""};
	char name[80];
	int rc = -EIO;

	snprintf(name, sizeof(name), "%s@%s", v->name, s->name);
	w->blocking = true;
	for (unsigned i = 0; i < TRIES && vol_transient(rc); i++) {
		e.msg[0] = 0;
		rc = ctx_image_open(w->ctx, w->store, name, LSVD_OPEN_READONLY, img, &e);
		if (i == TRIES / 2)
			world_calm(w);
	}
	w->blocking = false;
	why_copy(why, &e, rc);
	return rc;
}

static void freeze(struct vol *v, struct snap *s, uint32_t sectors)
{
	s->frozen = calloc(v->o.sectors, sizeof(*s->frozen));
	assert(s->frozen);
	memcpy(s->frozen, v->o.seen, sectors * sizeof(*s->frozen));
	s->sectors = sectors;
}

/* The first time it may be any state that was possible when it was made; from then on that one. */
static void judge(struct vol *v, struct snap *s, uint32_t sectors)
{
	struct world *w = v->w;

	if (!s->frozen) {
		if (!oracle_matches(&v->o, sectors, s->lo, s->hi))
			world_fail(w, "%s@%s: %s", v->name, s->name, v->o.why);
		freeze(v, s, sectors);
		return;
	}
	if (sectors != s->sectors)
		world_fail(w, "%s@%s had %u sectors, and has %u", v->name, s->name, s->sectors,
			sectors);
	for (uint32_t i = 0; i < sectors; i++)
		if (v->o.seen[i] != s->frozen[i])
			world_fail(w, "%s@%s: sector %u was write %#x, and is %#x", v->name,
				s->name, i, s->frozen[i], v->o.seen[i]);
}

static void check(struct vol *v, struct snap *s)
{
	struct world *w = v->w;
	struct lsvd_image *img;
	char why[LSVD_ERR_MAX] = "";
	uint32_t sectors;
	int rc = try_open(v, s, &img, why);

	if (rc == -ENOENT && s->exists == PERHAPS) {
		s->exists = NO;
		return;
	}
	if (rc < 0)
		world_fail(w, "open %s@%s: %s", v->name, s->name, why);
	s->exists = YES;
	sectors = (uint32_t)(lsvd_image_size(img) / 512);
	if (workload_look(v, img, w->disk_errors))
		judge(v, s, sectors);
	w->blocking = true;
	if (lsvd_image_close(img, why) < 0)
		world_fail(w, "close %s@%s: %s", v->name, s->name, why);
	w->blocking = false;
}

void snaps_check(struct vol *v)
{
	workload_finish(v->w);
	for (unsigned i = 0; i < VOL_SNAPS; i++)
		if (v->snap[i].exists != NO)
			check(v, &v->snap[i]);
}

void snap_make(struct vol *v)
{
	struct world *w = v->w;
	struct snap *s = pick(v, NO);
	char why[LSVD_ERR_MAX] = "";
	int rc;

	if (!s)
		return;
	snprintf(s->name, sizeof(s->name), "s%u", (unsigned)(s - v->snap));
	free(s->frozen);
	*s = (struct snap){.exists = PERHAPS, .lo = v->o.acked, .hi = v->o.n};
	snprintf(s->name, sizeof(s->name), "s%u", (unsigned)(s - v->snap));
	world_log(w, "snapshot %s@%s, pieces %u to %u", v->name, s->name, s->lo, s->hi);
	rc = lsvd_snapshot_create(v->img, s->name, why);
	workload_check(w, "snapshot", rc, why);
	if (rc < 0)
		return;
	s->exists = YES;
	/* It is in objects. */
	lift(&v->o.flushed, s->lo);
	lift(&v->o.stored, s->lo);
}

void snap_remove(struct vol *v)
{
	struct world *w = v->w;
	struct snap *s = pick(v, YES);
	char why[LSVD_ERR_MAX] = "";
	int rc;

	if (!s)
		return;
	workload_finish(w);
	world_log(w, "remove snapshot %s@%s", v->name, s->name);
	s->exists = PERHAPS;
	w->blocking = true;
	rc = lsvd_snapshot_remove(v->img, s->name, why);
	w->blocking = false;
	if (rc == 0)
		s->exists = NO;
	else if (rc == -EBUSY && vol_has_clones(v))
		s->exists = YES;
	else
		workload_check(w, "remove snapshot", rc, why);
}

static int try_roll_back(struct vol *v, const struct snap *s, char *why)
{
	struct world *w = v->w;
	struct err e = {.msg = ""};
	struct lsvd_image *img;
	int rc = world_open_image(v, 0, &img, why), closed;

	if (rc < 0)
		return rc;
	w->blocking = true;
	rc = volume_rollback(img->vol, s->name, &e);
	why_copy(why, &e, rc);
	closed = lsvd_image_close(img, rc < 0 ? NULL : why);
	w->blocking = false;
	return rc < 0 ? rc : closed;
}

void snap_roll_back(struct vol *v)
{
	struct world *w = v->w;
	struct snap *s = pick(v, YES);
	char why[LSVD_ERR_MAX] = "";
	int rc = -EIO;

	if (!s)
		return;
	workload_finish(w);
	if (!s->frozen)
		check(v, s);
	if (!s->frozen || vol_close(v) < 0)
		return;
	world_log(w, "roll %s back to %s", v->name, s->name);
	v->clean = MAYBE;
	v->other_size = s->sectors;
	v->rolling = oracle_roll_back(&v->o, s->frozen, s->sectors);
	for (unsigned i = 0; i < TRIES && vol_transient(rc); i++) {
		rc = try_roll_back(v, s, why);
		if (i == TRIES / 2)
			world_calm(w);
	}
	workload_check(w, "roll back", rc, why);
	if (rc == 0) {
		oracle_acked(&v->o, v->rolling, v->rolling);
		v->o.flushed = v->o.stored = v->rolling;
		v->size_sectors = s->sectors;
		v->other_size = 0;
		v->rolling = 0;
		v->clean = CLEAN;
	}
	if (!w->leg_dead && world_chance(w, 80)) {
		vol_open(v);
		workload_aim(v);
	}
}

void snaps_settled(struct vol *v)
{
	for (unsigned i = 0; i < VOL_SNAPS; i++)
		if (v->snap[i].exists != NO && v->snap[i].hi > v->o.n)
			v->snap[i].hi = v->o.n;
}

void snaps_forget(struct vol *v)
{
	for (unsigned i = 0; i < VOL_SNAPS; i++) {
		free(v->snap[i].frozen);
		v->snap[i] = (struct snap){.exists = NO};
	}
}

/* ---- clones ---- */

bool vol_has_clones(const struct vol *v)
{
	for (unsigned i = 0; i < v->w->nvols; i++)
		if (v->w->vol[i].parent == v && v->w->vol[i].exists != NO)
			return true;
	return false;
}

void clone_make(struct vol *v)
{
	struct world *w = v->w;
	struct snap *s = pick(v, YES);
	struct err e = {.msg = ""};
	struct vol *c;
	int rc = -EIO;

	if (!s || w->nvols == WORLD_VOLS)
		return;
	workload_finish(w);
	if (!s->frozen)
		check(v, s);
	if (!s->frozen)
		return;
	c = &w->vol[w->nvols];
	c->w = w;
	c->parent = v;
	snprintf(c->name, sizeof(c->name), "v%u", w->nvols);
	vol_begin_clone(c, v, s);
	c->exists = PERHAPS;
	w->nvols++;
	world_log(w, "clone %s of %s@%s", c->name, v->name, s->name);
	w->blocking = true;
	for (unsigned i = 0; i < TRIES && vol_transient(rc); i++) {
		e.msg[0] = 0;
		rc = volume_clone(w->store, v->name, s->name, c->name, &e);
		if ((rc == -EEXIST || rc == -ESTALE) && i)
			rc = vol_has_superblock(c) ? 0 : -EAGAIN;
		if (i == TRIES / 2)
			world_calm(w);
	}
	w->blocking = false;
	/* Its removal, or its base's, was cut short: it is to be removed again. */
	if (rc == -EBUSY) {
		c->exists = NO;
		c->parent = NULL;
		w->nvols--;
		return;
	}
	if (rc < 0)
		world_fail(w, "clone %s of %s@%s: %s", c->name, v->name, s->name, e.msg);
	c->exists = YES;
}

void clone_flatten(struct vol *v)
{
	char why[LSVD_ERR_MAX] = "";
	int rc;

	if (!v->parent)
		return;
	workload_finish(v->w);
	world_log(v->w, "flatten %s", v->name);
	v->w->blocking = true;
	rc = lsvd_image_flatten(v->img, NULL, NULL, why);
	v->w->blocking = false;
	if (rc == -EBUSY)
		return; /* its snapshots need the base */
	workload_check(v->w, "flatten", rc, why);
	if (rc == 0)
		v->parent = NULL;
}
