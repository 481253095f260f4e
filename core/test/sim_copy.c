/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_copy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t HOUR_NS = 3600ull * 1000000000;

/* ---- copies ---- */

static void copy_vol(struct vol *v, const struct vol *from, struct world *after)
{
	oracle_copy(&v->o, &from->o);
	oracle_crashed(&v->o, LOST_MACHINE);
	v->w = after;
	v->parent = from->parent ? &after->vol[from->parent - from->w->vol] : NULL;
	v->img = NULL;
	v->told = 0;
	v->marks = 0;
	for (unsigned i = 0; i < VOL_SNAPS; i++) {
		struct snap *s = &v->snap[i];

		if (!s->frozen)
			continue;
		s->frozen = malloc(from->o.sectors * sizeof(*s->frozen));
		assert(s->frozen);
		memcpy(s->frozen, from->snap[i].frozen, from->o.sectors * sizeof(*s->frozen));
	}
}

void world_after_crash(const struct world *w, uint64_t kept, struct world *after)
{
	assert(w->legs == 1 && !w->strays && !w->zombie.there && w->sick < 0);
	*after = *w;
	after->loop = NULL;
	after->store = after->fault = after->raw = NULL;
	after->ctx = NULL;
	after->blocking = after->armed = false;
	after->between = NULL;
	if (sim_disk_after_crash(w->disk[0], kept, &after->disk[0]) < 0 ||
		mem_objects_copy(w->objects, &after->objects) < 0)
		world_fail((struct world *)(uintptr_t)w, "no memory");
	for (unsigned i = 0; i < w->nvols; i++)
		copy_vol(&after->vol[i], &w->vol[i], after);
}

void world_drop(struct world *after)
{
	after->cfg = NULL; /* the first one's */
	world_fini(after);
}

/* ---- what is the same ---- */

static void add_snap(struct fingerprint *d, const struct snap *s)
{
	fingerprint_add_u64(d, s->exists);
	if (s->exists == NO)
		return;
	fingerprint_add(d, s->name, sizeof(s->name));
	fingerprint_add(d, &s->lo, sizeof(s->lo));
	fingerprint_add(d, &s->hi, sizeof(s->hi));
	fingerprint_add_u64(d, s->frozen ? s->sectors : UINT64_MAX);
	if (s->frozen)
		fingerprint_add(d, s->frozen, s->sectors * sizeof(*s->frozen));
}

/* Without what opening it sets anew: what was acknowledged, flushed and stored has gone into
 * `must`. */
static void add_vol(struct fingerprint *d, const struct vol *v)
{
	const struct oracle *o = &v->o;

	fingerprint_add_u64(d, (uint64_t)v->exists << 32 | v->clean);
	fingerprint_add_u64(d, v->size_sectors);
	fingerprint_add_u64(d, v->other_size);
	fingerprint_add_u64(d, v->parent ? (uint64_t)(v->parent - v->w->vol) : UINT64_MAX);
	fingerprint_add_u64(d, (uint64_t)o->n << 32 | o->must);
	fingerprint_add_u64(d, (uint64_t)o->stamps << 32 | o->tag);
	for (uint32_t i = 1; i <= o->n; i++) {
		const struct piece *p = &o->piece[i];

		fingerprint_add_u64(d, (uint64_t)p->lba << 32 | p->len);
		fingerprint_add_u64(d, p->stamp);
	}
	if (o->base)
		fingerprint_add(d, o->base, o->sectors * sizeof(*o->base));
	for (unsigned i = 0; i < VOL_SNAPS; i++)
		add_snap(d, &v->snap[i]);
}

struct fingerprint world_moment(const struct world *w)
{
	struct fingerprint d = {0};

	fingerprint_add_u64(&d, sim_disk_changes(w->disk[0]));
	mem_objects_fingerprint(w->objects, &d);
	for (unsigned i = 0; i < w->nvols; i++) {
		add_vol(&d, &w->vol[i]);
		fingerprint_add_u64(&d, w->vol[i].o.flushed);
	}
	return d;
}

struct fingerprint world_fingerprint(struct world *w)
{
	struct fingerprint d = {0};

	fingerprint_add_u64(&d, w->plan.seed);
	fingerprint_add_u64(&d, (uint64_t)w->nvols << 32 | w->last_tag);
	sim_disk_fingerprint(w->disk[0], &d);
	mem_objects_fingerprint(w->objects, &d);
	for (unsigned i = 0; i < w->nvols; i++)
		add_vol(&d, &w->vol[i]);
	return d;
}

void world_restart(struct world *w, const struct fingerprint *d, unsigned times)
{
	w->life = times;
	w->step = 0;
	w->time_ns = times * HOUR_NS;
	w->rng = (d->a ^ d->b) | 1;
}
