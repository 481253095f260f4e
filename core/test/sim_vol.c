/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_vol.h"

#include "test/sim_snap.h"

#include "image/image_impl.h"
#include "sys/container.h"
#include "volume/bulk.h"
#include "volume/checkpoint_impl.h"
#include "volume/fsck.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_TRIES = 30, OPEN_EVENTS_MAX = 2000000, BASE_RANGES = 6, BASE_SECTORS = 128 };

bool vol_transient(int rc)
{
	return rc == -EIO || rc == -ETIMEDOUT || rc == -EAGAIN || rc == -ENOSPC;
}

/* ---- making ---- */

static uint64_t choose_size(struct world *w)
{
	uint64_t size;

	if (w->fixed_size)
		return w->fixed_size;
	if (w->scale == TINY)
		return world_between(w, 64, world_chance(w, 70) ? 512 : 1024);
	size = 2048 * world_between(w, 1, w->scale == LARGE && world_chance(w, 40) ? 12 : 3);
	return world_chance(w, 30) ? size - world_below(w, 1000) : size;
}

static void begin(struct vol *v, uint64_t room)
{
	struct world *w = v->w;

	oracle_fini(&v->o);
	snaps_forget(v);
	/* A new tag: what an image of the same name held before is foreign. */
	oracle_init(&v->o, w->plan.seed, ++w->last_tag, (uint32_t)room);
	v->clean = CLEAN;
	v->journal_lost = false;
	v->other_size = 0;
	v->rolling = 0;
	v->marks = 0;
	v->told = 0;
}

void vol_begin_clone(struct vol *c, const struct vol *v, const struct snap *s)
{
	begin(c, v->o.sectors);
	c->size_sectors = s->sectors;
	c->o.base = calloc(c->o.sectors, sizeof(*c->o.base));
	assert(c->o.base);
	memcpy(c->o.base, s->frozen, s->sectors * sizeof(*c->o.base));
}

static int bulk_range(struct vol *v, struct bulk *b, uint32_t lba, uint32_t len, struct err *e)
{
	static uint8_t data[BASE_SECTORS * 512];
	uint32_t first, last, stamp;

	oracle_submit(&v->o, lba, len, false, &first, &last, &stamp);
	oracle_fill(&v->o, data, lba, len, stamp);
	oracle_acked(&v->o, first, last);
	return bulk_write(b, lba, data, (uint64_t)len * 512, e);
}

/* Some data in an order of its own, and a profile that leads through it and beyond. */
static int make_base(struct vol *v, struct err *e)
{
	struct world *w = v->w;
	struct bulk_options o = {.object_bytes = 64 << 10};
	struct profile_range profile[BASE_RANGES];
	uint32_t slice = (uint32_t)v->size_sectors / BASE_RANGES;
	struct bulk *b;
	int rc = bulk_begin(w->store, v->name, v->size_sectors * 512, &o, &b, e);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < BASE_RANGES; i++) {
		uint32_t no = (i * 5 + 2) % BASE_RANGES, lba = no * slice,
			 len = 1 + (uint32_t)world_below(
					   w, slice < BASE_SECTORS ? slice : BASE_SECTORS);

		profile[i] = (struct profile_range){.lba = lba, .len = slice, .first_us = i * 1000};
		rc = bulk_range(v, b, lba, len, e);
		if (rc == 0 && world_chance(w, 30))
			rc = bulk_cut(b, e);
	}
	if (rc < 0) {
		bulk_abort(b);
		return rc;
	}
	return bulk_finish(b, profile, BASE_RANGES, e);
}

bool vol_has_superblock(struct vol *v)
{
	struct world *w = v->w;
	char name[STORE_NAME_MAX], byte[512];
	struct iovec iov = {.iov_base = byte, .iov_len = sizeof(byte)};
	struct store_req r = {
		.op = STORE_GET, .name = name, .iov = &iov, .iovcnt = 1, .len_bytes = sizeof(byte)};
	int64_t rc;

	snprintf(name, sizeof(name), "%s/super", v->name);
	rc = store_wait(w->raw, &r);
	return rc >= 0;
}

void vol_create(struct vol *v, bool base)
{
	struct world *w = v->w;
	struct err e = {.msg = ""};
	int rc = -1;

	v->size_sectors = choose_size(w);
	v->exists = PERHAPS;
	v->parent = NULL;
	w->blocking = true;
	for (int i = 0; rc < 0 && i < OPEN_TRIES; i++) {
		e.msg[0] = 0;
		begin(v, w->scale == TINY ? v->size_sectors + 512 : 2048 * 14);
		rc = base ? make_base(v, &e)
			  : ctx_image_create(NULL, w->store, v->name, v->size_sectors * 512, &e);
		/* An earlier try that seemed to fail, and did not; or something of it that LIST
		 * kept quiet about. */
		if ((rc == -EEXIST || rc == -ESTALE) && i)
			rc = vol_has_superblock(v) ? 0 : -EAGAIN;
		if (rc < 0 && !vol_transient(rc))
			break;
		if (i == OPEN_TRIES / 2)
			world_calm(w);
	}
	w->blocking = false;
	if (rc < 0)
		world_fail(w, "create %s: %s", v->name, e.msg);
	v->exists = YES;
	v->o.flushed = v->o.stored = v->o.acked;
	world_log(w, "%s made, %" PRIu64 " sectors%s", v->name, v->size_sectors,
		base ? ", with a base" : "");
}

/* ---- opening ---- */

static int try_open(struct vol *v, unsigned flags, char *why)
{
	struct world *w = v->w;
	unsigned stale = 0;
	int rc = 0;

	for (unsigned i = 0; i < OPEN_TRIES; i++) {
		rc = world_open_image(
			v, flags | (w->zombie.steal ? LSVD_OPEN_STEAL : 0u), &v->img, why);
		/* A superblock may land late, from an earlier life; and a writer that does not know
		 * yet that it lost the image makes checkpoints and deletes old ones. */
		if (rc == -ESTALE && v->journal_lost && !flags)
			break;
		if (rc < 0 && w->zombie.there && stale++ < 12)
			continue;
		if (rc == -ESTALE && stale++ < 1)
			world_land_strays(w);
		else if (!vol_transient(rc))
			break;
		if (i == OPEN_TRIES / 2)
			world_calm(w);
	}
	return rc;
}

static void set_disk_errors(struct world *w, uint32_t per_million)
{
	for (unsigned i = 0; i < w->legs; i++)
		if (sim_disk_model(w->disk[i])->error_per_million != 1000000)
			sim_disk_model(w->disk[i])->error_per_million = per_million;
}

void vol_open(struct vol *v)
{
	struct world *w = v->w;
	char why[LSVD_ERR_MAX] = "";
	enum clean was = v->clean;
	uint64_t events = loop_sim_events(w->loop);
	int rc;

	set_disk_errors(w, 0);
	v->clean = was == DIRTY ? DIRTY : MAYBE;
	rc = try_open(v, 0, why);
	if (rc == -EUCLEAN && w->rotten_at) {
		/* It said that durable data is gone, and touched nothing. */
		world_log(w, "%s: %s", v->name, why);
		world_unrot(w);
		rc = try_open(v, 0, why);
	}
	if (v->journal_lost && rc == 0 && was == DIRTY)
		world_fail(w, "%s opened although its journal is lost", v->name);
	if (v->journal_lost && rc == -ESTALE) {
		if (was == CLEAN)
			world_fail(w, "%s was closed cleanly, but: %s", v->name, why);
		v->clean = MAYBE; /* from here on the new pool may be the image's */
		rc = try_open(v, LSVD_OPEN_NO_JOURNAL, why);
	}
	if (rc < 0)
		world_fail(w, "open %s: %s", v->name, why);
	v->journal_lost = false;
	v->clean = DIRTY;
	world_log(w, "%s is open after %" PRIu64 " events", v->name, loop_sim_events(w->loop));
	workload_settle(v, v->img);
	/* Replay makes durable what it found. */
	/* After a flush that failed the disk keeps nothing more, whatever it says, until its power
	 * is gone; who opens the image next cannot know. */
	if (!world_doubtful(v->w))
		v->o.flushed = v->o.n;
	set_disk_errors(w, w->disk_model.error_per_million);
	if (loop_sim_events(w->loop) - events > OPEN_EVENTS_MAX)
		world_fail(w, "opening took %" PRIu64 " events", loop_sim_events(w->loop) - events);
}

/* ---- closing ---- */

int vol_close(struct vol *v)
{
	struct world *w = v->w;
	struct lsvd_image *img = v->img;
	char why[LSVD_ERR_MAX] = "";
	int rc;

	workload_note_stored(v);
	v->clean = MAYBE;
	v->img = NULL;
	v->marks = 0;
	w->blocking = true;
	rc = lsvd_image_close(img, why);
	w->blocking = false;
	world_log(w, "close %s: %d %s", v->name, rc, why);
	if (rc == 0) {
		v->clean = CLEAN;
		v->o.flushed = v->o.stored = v->o.acked;
	}
	return rc;
}

void vol_read_only(struct vol *v)
{
	struct world *w = v->w;
	struct lsvd_image *img;
	char why[LSVD_ERR_MAX] = "";
	int rc = -EIO;

	for (unsigned i = 0; i < OPEN_TRIES && vol_transient(rc); i++) {
		rc = world_open_image(v, LSVD_OPEN_READONLY, &img, why);
		if (i == OPEN_TRIES / 2)
			world_calm(w);
	}
	if (rc < 0)
		world_fail(w, "open %s read-only: %s", v->name, why);
	workload_compare(v, img);
	w->blocking = true;
	if (lsvd_image_close(img, why) < 0)
		world_fail(w, "close %s read-only: %s", v->name, why);
	w->blocking = false;
}

/* ---- removing ---- */

void vol_remove(struct vol *v)
{
	struct world *w = v->w;
	struct err e = {.msg = ""};
	int rc = -EIO;

	world_log(w, "remove %s", v->name);
	v->exists = PERHAPS;
	w->blocking = true;
	for (unsigned i = 0; i < OPEN_TRIES && vol_transient(rc); i++) {
		e.msg[0] = 0;
		rc = volume_remove(w->store, ctx_pool(w->ctx), v->name, &e);
		if (i == OPEN_TRIES / 2)
			world_calm(w);
	}
	/* Its superblock went first; what then failed to go is purged with the next of its name. */
	if (rc == -ENOENT) {
		world_calm(w);
		rc = volume_remove_objects(w->store, v->name, &e);
	}
	/* A LIST that keeps quiet about something leaves it there, for the next of its name to
	 * purge. */
	if (rc == 0 && plan_has(&w->plan, F_STALE))
		rc = volume_remove_objects(w->raw, v->name, &e);
	w->blocking = false;
	if (rc < 0)
		world_fail(w, "remove %s: %s", v->name, e.msg);
	v->exists = NO;
}

void vol_resolve(struct vol *v)
{
	if (v->exists != PERHAPS)
		return;
	world_land_strays(v->w);
	v->w->blocking = true;
	if (vol_has_superblock(v))
		v->exists = YES;
	v->w->blocking = false;
	if (v->exists == PERHAPS)
		vol_create(v, false);
}

/* ---- nothing missing, nothing left over ---- */

struct names {
	struct store_req req;
	struct vol *v;
	const struct volume *vol;
	unsigned n;
};

static bool expected(const struct volume *v, const char *name)
{
	char want[STORE_NAME_MAX];
	struct object_ref ref;

	snprintf(want, sizeof(want), "%s/super", v->name);
	if (!strcmp(name, want))
		return true;
	snprintf(want, sizeof(want), "%s/profile", v->name);
	if (!strcmp(name, want))
		return v->sb->profile_bytes > 0;
	snprintf(want, sizeof(want), "%s/clones", v->name);
	if (!strcmp(name, want))
		return true; /* a removal that was cut short may have made it */
	for (uint32_t i = 0; i < v->ckpt->nlive; i++) {
		volume_ckpt_name(
			want, v->name, v->ckpt->live[i].x.epoch, v->ckpt->live[i].x.number);
		if (!strcmp(want, name))
			return true;
	}
	for (uint32_t s = objmap_next(v->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(v->objects, s + 1)) {
		volume_ref(v, s, &ref);
		if (!strcmp(ref.name, name))
			return objmap_get(v->objects, s)->live_sectors > 0;
	}
	return false;
}

static int judge_name(struct store_req *r, const char *name, uint64_t size)
{
	struct names *n = container_of(r, struct names, req);

	n->n += !strstr(name, "/clones");
	if (!expected(n->vol, name))
		world_fail(n->v->w, "left over in the store: '%s', %" PRIu64 " bytes", name, size);
	return 0;
}

static void check_objects(struct vol *v, const struct volume *vol)
{
	char prefix[STORE_NAME_MAX];
	struct names n = {.v = v, .vol = vol};
	uint64_t want =
		1u + (vol->sb->profile_bytes > 0) + vol->ckpt->nlive + objmap_count(vol->objects);

	snprintf(prefix, sizeof(prefix), "%s/", v->name);
	n.req = (struct store_req){.op = STORE_LIST, .name = prefix, .item = judge_name};
	if (store_wait(v->w->raw, &n.req) < 0)
		world_fail(v->w, "list failed");
	if (n.n != want)
		world_fail(v->w, "objects of %s are missing: %u of %" PRIu64, v->name, n.n, want);
}

void vol_fsck(struct vol *v, bool clean)
{
	struct world *w = v->w;
	struct fsck_params p = {.store = w->raw, .name = v->name, .flags = FSCK_DATA};
	struct fsck_report r;
	struct err e = {.msg = ""};
	int rc = fsck_run(&p, &r, &e);

	if (rc < 0)
		world_fail(w, "fsck %s: %s", v->name, e.msg);
	for (uint32_t i = 0; i < r.n; i++)
		/* An entry for a clone whose making was cut short stays on the list until a
		 * removal. */
		if (r.findings[i].severity == FSCK_ERROR ||
			(clean && !strstr(r.findings[i].object, "/clones")))
			world_fail(w, "fsck: '%s': %s", r.findings[i].object, r.findings[i].what);
	fsck_report_fini(&r);
}

static bool pick_snap(const struct vol *v)
{
	for (unsigned i = 0; i < VOL_SNAPS; i++)
		if (v->snap[i].exists != NO)
			return true;
	return false;
}

static void check_one(struct vol *v, bool all)
{
	struct world *w = v->w;
	struct lsvd_image *img;
	char why[LSVD_ERR_MAX] = "";

	snaps_check(v);
	if (all || vol_has_clones(v) || v->parent || pick_snap(v))
		vol_fsck(v, true);
	if (world_open_image(v, LSVD_OPEN_READONLY, &img, why) < 0)
		world_fail(w, "open %s read-only: %s", v->name, why);
	workload_compare(v, img);
	/* What snapshots and bases need is fsck's to know. */
	if (!img->vol->sb->snapshots && !img->vol->sb->bases)
		check_objects(v, img->vol);
	if (lsvd_image_close(img, why) < 0)
		world_fail(w, "close %s read-only: %s", v->name, why);
}

void vols_check_closed(struct world *w, bool all)
{
	vols_check_pool(w, "after a clean close");
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].exists == YES)
			check_one(&w->vol[i], all);
	vols_check_names(w);
}

void vols_check_pool(struct world *w, const char *when)
{
	struct pool *p = ctx_pool(w->ctx);

	for (uint32_t i = 0; i < pool_segments(p); i++)
		if (pool_segment(p, i)->role == SEGMENT_JOURNAL)
			world_fail(w, "segment %u is still a journal %s", i, when);
}

struct all_names {
	struct store_req req;
	struct world *w;
};

static int whose(struct store_req *r, const char *name, uint64_t size)
{
	struct world *w = container_of(r, struct all_names, req)->w;

	for (unsigned i = 0; i < w->nvols; i++) {
		size_t n = strlen(w->vol[i].name);

		if (w->vol[i].exists && !strncmp(name, w->vol[i].name, n) && name[n] == '/')
			return 0;
	}
	world_fail(w, "left over in the store: '%s', %" PRIu64 " bytes", name, size);
}

void vols_check_names(struct world *w)
{
	struct all_names n = {.w = w};

	n.req = (struct store_req){.op = STORE_LIST, .name = "", .item = whose};
	if (store_wait(w->raw, &n.req) < 0)
		world_fail(w, "list failed");
}
