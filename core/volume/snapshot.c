/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot.c - states of the volume that are kept.
 *
 * Asked for a snapshot, the open batch is sealed: so an object ends with the newest acknowledged
 * record.  When that object is applied, the next one waits until a checkpoint has begun (its moment
 * is all it needs; encoding goes on beside later objects).  The superblock that names the
 * checkpoint lists the snapshot, too.  Removing one needs a checkpoint as well: the one that lets
 * go what only this snapshot needed (I8).  The cost is that of a checkpoint: what changed.
 *
 * Rolling back loads the snapshot's maps over the volume's and writes a checkpoint of them: the
 * numbers go on, so no name is used twice (I7), and a crash leaves one state or the other.
 */
#include "volume/checkpoint_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- telling ---- */

static void tell(struct loop_task *t)
{
	struct volume_snapshot *s = container_of(t, struct volume_snapshot, task);

	s->done(s, s->status);
}

static void over(struct volume *v, struct volume_snapshot *s, int status)
{
	s->status = status;
	s->task = (struct loop_task){.run = tell};
	loop_defer(v->loop, &s->task);
}

void snapshots_settle(struct volume *v, int status)
{
	struct checkpointer *c = v->ckpt;

	while (c->joined) {
		struct volume_snapshot *s = c->joined;

		c->joined = s->next;
		over(v, s, status);
	}
}

void snapshots_fail(struct volume *v, int status)
{
	if (v->ckpt)
		snapshots_settle(v, status);
	while (v->snapshots) {
		struct volume_snapshot *s = v->snapshots;

		v->snapshots = s->next;
		over(v, s, status);
	}
}

/* ---- the moment ---- */

/* All that was acknowledged before it was asked for is in the maps. */
static bool ready(const struct volume *v, const struct volume_snapshot *s)
{
	return s->op == VOLUME_SNAPSHOT_REMOVE || v->covers_applied >= s->covers;
}

void snapshots_due(struct volume *v)
{
	/* Until the checkpoint has begun nothing may be applied. */
	v->apply_held = v->snapshots && ready(v, v->snapshots) && !v->failed;
}

static int create(struct volume *v, const struct volume_snapshot *s)
{
	struct checkpointer *c = v->ckpt;

	for (uint32_t i = 0; i < c->nsnapshots; i++)
		if (!strcmp(c->snapshot[i].name, s->name))
			return -EEXIST;
	if (c->nsnapshots == SUPERBLOCK_SNAPSHOTS_MAX)
		return -ENOSPC;
	c->snapshot[c->nsnapshots] = (struct superblock_snapshot){.id = c->next_snapshot++,
		.size_sectors = v->sb->size_sectors,
		.object_seq = c->cur.object_seq,
		.epoch = v->epoch,
		.checkpoint = c->cur.number,
		.checkpoint_epoch = c->cur.epoch,
		.created_ns = loop_wall(v->loop),
		.flags = s->flags};
	memcpy(c->snapshot[c->nsnapshots++].name, s->name, sizeof(s->name));
	return 0;
}

static int drop(struct volume *v, const struct volume_snapshot *s)
{
	struct checkpointer *c = v->ckpt;
	uint32_t i = 0;

	while (i < c->nsnapshots && strcmp(c->snapshot[i].name, s->name))
		i++;
	if (i == c->nsnapshots)
		return -ENOENT;
	memmove(&c->snapshot[i], &c->snapshot[i + 1], (--c->nsnapshots - i) * sizeof(*c->snapshot));
	c->release = true;
	return 0;
}

void snapshots_join(struct volume *v)
{
	struct checkpointer *c = v->ckpt;
	struct volume_snapshot **last = &c->joined;

	assert(!c->joined);
	memcpy(c->snapshot, v->sb->snapshot, v->sb->snapshots * sizeof(*c->snapshot));
	c->nsnapshots = v->sb->snapshots;
	c->next_snapshot = v->sb->next_snapshot;
	while (v->snapshots && ready(v, v->snapshots)) {
		struct volume_snapshot *s = v->snapshots;
		int rc = s->op == VOLUME_SNAPSHOT_CREATE ? create(v, s) : drop(v, s);

		v->snapshots = s->next;
		s->next = NULL;
		if (rc < 0) {
			over(v, s, rc);
			continue;
		}
		*last = s;
		last = &s->next;
	}
	v->apply_held = false;
}

/* ---- asking ---- */

static int check(const struct volume *v, const struct volume_snapshot *s)
{
	if (!v->journal)
		return -EROFS;
	if (v->failed)
		return v->failed;
	return memchr(s->name, 0, sizeof(s->name)) && snapshot_name_ok(s->name) ? 0 : -EINVAL;
}

void volume_snapshot(struct volume *v, struct volume_snapshot *s)
{
	struct volume_snapshot **p = &v->snapshots;
	int rc = check(v, s);

	s->next = NULL;
	if (rc < 0) {
		over(v, s, rc);
		return;
	}
	/* The name is written as it is: nothing may follow it. */
	memset(s->name + strlen(s->name), 0, sizeof(s->name) - strlen(s->name));
	s->covers = v->acked;
	while (*p)
		p = &(*p)->next;
	*p = s;
	if (s->op == VOLUME_SNAPSHOT_CREATE)
		destage_seal(v);
	snapshots_due(v);
	checkpoint_maybe(v);
}

struct waiting {
	struct volume_snapshot s;
	int status;
	bool over;
};

static void waited(struct volume_snapshot *s, int status)
{
	struct waiting *w = container_of(s, struct waiting, s);

	w->status = status;
	w->over = true;
}

static int refused(struct volume *v, const char *name, int rc, struct err *e)
{
	switch (rc) {
	case -EEXIST:
		return err_set(e, rc, "image '%s' has a snapshot '%s' already", v->name, name);
	case -ENOENT:
		return err_set(e, rc,
			"image '%s' has no snapshot '%s'; `lsvd snap list` lists them", v->name,
			name);
	case -ENOSPC:
		return err_set(e, rc, "image '%s' has %u snapshots, and cannot have more", v->name,
			SUPERBLOCK_SNAPSHOTS_MAX);
	case -EINVAL:
		return err_set(e, rc,
			"'%s' is no name for a snapshot: 1 to 63 of letters, digits and . _ -, and "
			"no "
			"dot in front",
			name);
	case -EROFS:
		return err_set(e, rc, "the image is open read-only");
	default:
		return err_set(e, rc, "%s", strerror(-rc));
	}
}

int volume_snapshot_wait(
	struct volume *v, enum volume_snapshot_op op, const char *name, struct err *e)
{
	struct waiting w = {.s = {.op = op, .done = waited}};

	if (strlen(name) >= sizeof(w.s.name))
		return refused(v, name, -EINVAL, e);
	memcpy(w.s.name, name, strlen(name) + 1);
	volume_snapshot(v, &w.s);
	while (!w.over)
		loop_poll(v->loop, LOOP_FOREVER);
	return w.status < 0 ? refused(v, name, w.status, e) : 0;
}

uint64_t volume_deferred(const struct volume *v, uint64_t *stored_bytes)
{
	const struct deferred *d = &v->ckpt->def;
	uint64_t sectors = 0;

	for (uint32_t s = objmap_next(d->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(d->objects, s + 1))
		sectors += objmap_get(d->objects, s)->data_sectors;
	*stored_bytes = sectors * 512;
	return objmap_count(d->objects);
}

/* ---- rolling back ---- */

/* What the volume was made of until now. */
struct before {
	struct objmap *objects;
	struct deferred def;
	struct live_checkpoint *live;
	uint32_t nlive;
};

static int set_aside(struct volume *v, uint64_t size_sectors, struct before *b)
{
	struct checkpointer *c = v->ckpt;
	int rc;

	*b = (struct before){
		.objects = v->objects, .def = c->def, .live = c->live, .nlive = c->nlive};
	c->live = NULL;
	c->nlive = c->live_cap = c->nadded = c->ndead = 0;
	c->dead_bytes = 0;
	memset(c->slice_at, 0, sizeof(c->slice_at));
	extmap_clear(v->map);
	ranges_fini(&c->ranges);
	rc = ranges_init(&c->ranges, v->sb->range_sectors, size_sectors, EXTMAP_LBA_MAX);
	v->objects = objmap_new();
	if (deferred_init(&c->def) < 0 || !v->objects)
		rc = -ENOMEM;
	return rc;
}

/* The lists of before, without what lives again, and with what does no more. */
static int merge(struct volume *v, struct before *b)
{
	struct checkpointer *c = v->ckpt;
	struct deferred then = c->def;
	int rc = 0;

	c->def = b->def;
	b->def = then;
	for (uint32_t s = objmap_next(b->objects, 0); rc == 0 && s != OBJMAP_NONE;
		s = objmap_next(b->objects, s + 1)) {
		const struct object *o = objmap_get(b->objects, s);
		struct checkpoint_deferred x = {.seq = o->seq,
			.epoch = o->epoch,
			.died = v->applied_seq + 1,
			.hdr_sectors = o->hdr_sectors,
			.data_sectors = o->data_sectors};

		if (!(o->flags & OBJECT_BASE) && !MUTANT(ROLL_BACK_LEAKS) &&
			objmap_find(v->objects, o->seq) == OBJMAP_NONE)
			rc = deferred_add(&c->def, &x);
	}
	for (uint32_t s = objmap_next(v->objects, 0); s != OBJMAP_NONE && !MUTANT(ROLL_BACK_DOOMED);
		s = objmap_next(v->objects, s + 1))
		deferred_drop(&c->def, objmap_get(v->objects, s)->seq);
	for (uint32_t i = 0; rc == 0 && i < b->nlive; i++) {
		struct checkpoint_kept k = {.x = b->live[i].x, .died = c->last_number + 1};

		if (!superblock_base_of_checkpoint(v->sb, k.x.number) &&
			!tables_find_live(c, k.x.number))
			rc = deferred_keep(&c->def, &k);
	}
	for (uint32_t i = 0; i < c->nlive; i++)
		deferred_unkeep(&c->def, c->live[i].x.number);
	return rc;
}

static int roll_back(struct volume *v, const struct superblock_snapshot *s, struct err *e)
{
	struct checkpointer *c = v->ckpt;
	struct checkpoint_header h;
	struct before b;
	int rc = set_aside(v, s->size_sectors, &b);

	if (rc == 0)
		rc = load_checkpoint(v, s->checkpoint, s->checkpoint_epoch, &h, e);
	if (rc == 0)
		rc = merge(v, &b);
	objmap_free(b.objects);
	deferred_fini(&b.def);
	free(b.live);
	if (rc < 0)
		return rc;
	c->complete = c->release = true;
	if (!MUTANT(ROLL_BACK_HALF))
		v->sb->size_sectors = s->size_sectors;
	rc = volume_checkpoint(v);
	return rc < 0 ? err_set(e, rc, "write checkpoint: %s", strerror(-rc)) : 0;
}

int volume_rollback(struct volume *v, const char *name, struct err *e)
{
	const struct superblock_snapshot *found = superblock_snapshot(v->sb, name);
	struct superblock_snapshot s;
	int rc;

	if (!found)
		return refused(v, name, -ENOENT, e);
	s = *found;
	/* What was acknowledged is in objects, and nothing moves any more. */
	v->closing = true;
	while (gc_busy(v) && !v->failed)
		loop_poll(v->loop, LOOP_FOREVER);
	rc = volume_drain_wait(v);
	if (rc == 0)
		rc = volume_checkpoint(v);
	if (rc < 0)
		return err_set(e, rc, "%s", strerror(-rc));
	rc = roll_back(v, &s, e);
	/* The maps in memory are neither the one nor the other: nothing may come of them. */
	if (rc < 0)
		volume_fail(v, rc);
	return rc;
}
