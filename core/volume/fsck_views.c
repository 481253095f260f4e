/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsck_views.c - what an image is besides itself: its snapshots, the images it builds on, and those
 * that build on it.
 *
 * A snapshot is loaded like the image, from its own checkpoint; all that it needs must be among
 * what the image has or keeps, for that is all that is safe from being deleted.
 */
#include "volume/clone.h"
#include "volume/fsck_impl.h"
#include "volume/volume_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- snapshots ---- */

/* Is this object of the snapshot still the image's, in its table or deferred? */
static bool has_object(const struct fsck *f, const struct object *o)
{
	uint32_t slot = objmap_find(f->objects, o->seq);

	return (slot != OBJMAP_NONE && objmap_get(f->objects, slot)->epoch == o->epoch) ||
	       deferred_has(&f->def, o->epoch, o->seq);
}

static void check_kept_all(struct fsck *f, const struct fsck *g, const char *snapshot)
{
	char name[STORE_NAME_MAX];

	for (uint32_t s = objmap_next(g->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(g->objects, s + 1)) {
		const struct object *o = objmap_get(g->objects, s);

		if (!g->known[s].live_sectors || superblock_base_of_object(f->sb, o->seq) ||
			has_object(f, o))
			continue;
		volume_object_name(name, f->p->name, o->epoch, o->seq);
		fsck_find(f, FSCK_ERROR, FSCK_SNAPSHOT, name, 0,
			"snapshot '%s' needs it, but nothing keeps it from being deleted",
			snapshot);
	}
	for (uint32_t i = 0; i < g->nckpt; i++) {
		const struct checkpoint_live *x = &g->ckpt[i].x;

		if (superblock_base_of_checkpoint(f->sb, x->number) ||
			fsck_has_checkpoint(f, x->epoch, x->number))
			continue;
		volume_ckpt_name(name, f->p->name, x->epoch, x->number);
		fsck_find(f, FSCK_ERROR, FSCK_SNAPSHOT, name, 0,
			"snapshot '%s' needs it, but nothing keeps it from being deleted",
			snapshot);
	}
}

static int check_snapshot(struct fsck *f, const struct superblock_snapshot *s)
{
	struct fsck g = {.p = f->p, .r = f->r, .have_super = true, .view = true};
	char name[STORE_NAME_MAX];
	int rc = -ENOMEM;

	g.sb = malloc(sizeof(*g.sb));
	if (g.sb) {
		*g.sb = *f->sb;
		g.sb->checkpoint = s->checkpoint;
		g.sb->checkpoint_epoch = s->checkpoint_epoch;
		g.sb->size_sectors = s->size_sectors;
		rc = fsck_new_maps(&g);
	}
	if (rc == 0)
		rc = fsck_load_checkpoints(&g);
	snprintf(name, sizeof(name), "%s/super", f->p->name);
	if (rc == 0 && g.table_ok && g.object_seq != s->object_seq)
		fsck_find(f, FSCK_ERROR, FSCK_SNAPSHOT, name, 0,
			"snapshot '%s' is of object %" PRIu64 ", its checkpoint of %" PRIu64,
			s->name, s->object_seq, g.object_seq);
	if (rc == 0 && g.table_ok && f->table_ok)
		check_kept_all(f, &g, s->name);
	fsck_free(&g);
	return rc;
}

int fsck_check_snapshots(struct fsck *f)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < f->sb->snapshots; i++) {
		rc = check_snapshot(f, &f->sb->snapshot[i]);
		if (rc == 0)
			rc = fsck_progress(f, "snapshots", i + 1, f->sb->snapshots);
	}
	return rc;
}

/* ---- bases ---- */

static bool on_list(const struct clones *c, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->entry[i].state != CLONE_BARRED && !memcmp(c->entry[i].uuid, uuid, 16))
			return true;
	return false;
}

static bool has_id(const struct superblock *sb, uint64_t id)
{
	for (uint32_t i = 0; i < sb->snapshots; i++)
		if (sb->snapshot[i].id == id)
			return true;
	return false;
}

/* The nearest base must know of us: that is what keeps it, and through it the others. */
static int check_protected(struct fsck *f, const struct superblock_base *b,
	const struct superblock *sb, struct clones *c)
{
	struct err e = {.msg = ""};
	char name[STORE_NAME_MAX];
	int rc;

	snprintf(name, sizeof(name), "%s/super", b->name);
	if (!has_id(sb, b->snapshot))
		fsck_find(f, FSCK_ERROR, FSCK_BASE, name, 0,
			"it has no snapshot %" PRIu64 " any more, which this image builds on",
			b->snapshot);
	snprintf(name, sizeof(name), "%s/clones", b->name);
	rc = clones_read(f->p->store, b->name, c, &e);
	if (rc < 0)
		return fsck_refused(f, name, 0, rc, &e);
	if (!on_list(c, f->sb->uuid))
		fsck_find(f, FSCK_ERROR, FSCK_BASE, name, 0,
			"this image is not on it: nothing keeps its base from being removed");
	return 0;
}

static int check_base(struct fsck *f, uint32_t i, struct superblock *sb, struct clones *c)
{
	const struct superblock_base *b = &f->sb->base[i];
	struct err e = {.msg = ""};
	char name[STORE_NAME_MAX];
	int rc = volume_read_superblock(f->p->store, b->name, sb, NULL, &e);

	snprintf(name, sizeof(name), "%s/super", b->name);
	if (rc < 0)
		return fsck_refused(f, name, 0, rc, &e);
	if (memcmp(sb->uuid, b->uuid, 16)) {
		fsck_find(f, FSCK_ERROR, FSCK_BASE, name, 0,
			"another image has the name of the base now");
		return 0;
	}
	return i + 1 == f->sb->bases ? check_protected(f, b, sb, c) : 0;
}

/* ---- clones ---- */

static int check_clones(struct fsck *f, struct clones *c)
{
	struct err e = {.msg = ""};
	char name[STORE_NAME_MAX];
	int rc = clones_read(f->p->store, f->p->name, c, &e);

	snprintf(name, sizeof(name), "%s/clones", f->p->name);
	if (rc == 0 && c->n && memcmp(c->uuid, f->sb->uuid, 16))
		rc = err_set(&e, -EUCLEAN, "of another volume");
	if (rc < 0)
		return fsck_refused(f, name, 0, rc, &e);
	for (uint32_t i = 0; i < c->n; i++) {
		const struct clone_entry *x = &c->entry[i];

		if (x->state == CLONE_BARRED)
			fsck_find(f, FSCK_NOTE, FSCK_UNCLEAN, name, 0,
				"removing %s goes on, or was cut short",
				x->snapshot ? "a snapshot" : "the image");
		else if (!clones_exists(f->p->store, x, f->sb->uuid))
			fsck_find(f, FSCK_NOTE, FSCK_UNCLEAN, name, 0,
				"clone '%s' does not exist, or not yet", x->name);
		else if (!has_id(f->sb, x->snapshot))
			fsck_find(f, FSCK_ERROR, FSCK_BASE, name, 0,
				"clone '%s' builds on snapshot %" PRIu64 ", which there is not",
				x->name, x->snapshot);
	}
	return 0;
}

int fsck_check_family(struct fsck *f)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	struct clones *c = calloc(1, sizeof(*c));
	int rc = sb && c ? 0 : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < f->sb->bases; i++)
		rc = check_base(f, i, sb, c);
	if (rc == 0)
		rc = check_clones(f, c);
	free(sb);
	free(c);
	return rc;
}
