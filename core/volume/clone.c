/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/clone.h"

#include "volume/checkpoint_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SWAP_TRIES = 50, ERROR_TRIES = 6, RETRY_NS = 20000000 };

/* ---- swapping small objects ---- */

struct nap {
	struct loop_timer t;
	bool over;
};

static void woken(struct loop_timer *t)
{
	((struct nap *)(void *)((char *)t - offsetof(struct nap, t)))->over = true;
}

static void nap(struct loop *l, uint64_t ns)
{
	struct nap n = {.t.fire = woken};

	loop_timer_set(l, &n.t, loop_now(l) + ns);
	while (!n.over)
		loop_poll(l, LOOP_FOREVER);
}

static int64_t get_small(
	struct store *s, const char *object, void *buf, size_t len, char *tag, struct err *e)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct store_req r = {.op = STORE_GET,
		.name = object,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = e};
	int64_t n = store_wait(s, &r);

	memcpy(tag, r.tag, STORE_TAG_MAX);
	return n;
}

static int swap_small(
	struct store *s, const char *object, const char *tag, void *buf, size_t len, struct err *e)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct store_req r = {.op = STORE_SWAP,
		.name = object,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = e};

	memcpy(r.tag, tag, STORE_TAG_MAX);
	return (int)store_wait(s, &r);
}

/* Read, change, swap; once more when somebody else was faster, or when it is not known whether it
 * went through: change() must not mind being called again.  1: changed, 0: it is as it should be.
 */
struct small {
	const char *object;
	size_t max_bytes;
	int64_t (*change)(void *arg, void *buf, int64_t len, struct err *e); /* the new length */
	void *arg;
};

static int change_once(struct store *s, const struct small *x, void *buf, struct err *e)
{
	char tag[STORE_TAG_MAX];
	int64_t n = get_small(s, x->object, buf, x->max_bytes, tag, e);

	if (n < 0 && n != -ENOENT)
		return (int)n;
	if (n == -ENOENT)
		tag[0] = 0;
	n = x->change(x->arg, buf, n, e);
	return n <= 0 ? (int)n : swap_small(s, x->object, tag, buf, (size_t)n, e);
}

static int change_small(struct store *s, const struct small *x, struct err *e)
{
	void *buf = malloc(x->max_bytes);
	unsigned errors = 0;
	int rc = -ESTALE;

	if (!buf)
		return -ENOMEM;
	for (unsigned i = 0; i < SWAP_TRIES && errors < ERROR_TRIES; i++) {
		if (e)
			e->msg[0] = 0;
		rc = change_once(s, x, buf, e);
		if (rc >= 0)
			break;
		if (rc == -ESTALE || rc == -EEXIST) {
			rc = err_set(e, -EAGAIN, "'%s' is changed again and again", x->object);
			continue;
		}
		if (!volume_worth_retrying(rc) || rc == -ENOENT)
			break;
		if (++errors < ERROR_TRIES)
			nap(s->loop, RETRY_NS << errors);
	}
	free(buf);
	return rc < 0 ? rc : 0;
}

/* ---- the list ---- */

static void list_name(char out[STORE_NAME_MAX], const char *name)
{
	snprintf(out, STORE_NAME_MAX, "%s/clones", name);
}

int clones_read(struct store *s, const char *name, struct clones *c, struct err *e)
{
	char object[STORE_NAME_MAX], tag[STORE_TAG_MAX];
	void *buf = malloc(CLONES_BYTES);
	int64_t n;
	int rc;

	if (!buf)
		return -ENOMEM;
	list_name(object, name);
	n = get_small(s, object, buf, CLONES_BYTES, tag, e);
	c->n = 0;
	rc = n == -ENOENT ? 0
	     : n < 0	  ? err_wrap(e, (int)n, "read '%s'", object)
			  : clones_decode(buf, (size_t)n, c, e);
	free(buf);
	return rc;
}

/* One change of the list: what(c) returns 1 when it changed it, 0 when it is well. */
struct change {
	struct store *s;
	const char *name; /* of the base */
	const uint8_t *uuid;
	struct clones *c;
	int (*what)(struct change *x, struct err *e);
	struct clone_entry entry;
};

static int64_t change_list(void *arg, void *buf, int64_t len, struct err *e)
{
	struct change *x = arg;
	int rc;

	x->c->n = 0;
	if (x->uuid)
		memcpy(x->c->uuid, x->uuid, 16);
	rc = len < 0 ? 0 : clones_decode(buf, (size_t)len, x->c, e);
	if (rc == 0 && x->uuid && memcmp(x->uuid, x->c->uuid, 16))
		rc = err_set(e, -EUCLEAN, "the list of clones is another image's");
	if (rc == 0)
		rc = x->what(x, e);
	return rc <= 0 ? rc : (int64_t)clones_encode(x->c, buf);
}

static int change(struct change *x, struct err *e)
{
	char object[STORE_NAME_MAX];
	struct small small = {
		.object = object, .max_bytes = CLONES_BYTES, .change = change_list, .arg = x};
	int rc;

	x->c = calloc(1, sizeof(*x->c));
	list_name(object, x->name);
	rc = x->c ? change_small(x->s, &small, e) : -ENOMEM;
	free(x->c);
	return rc;
}

static struct clone_entry *find(struct clones *c, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->entry[i].state != CLONE_BARRED && !memcmp(c->entry[i].uuid, uuid, 16))
			return &c->entry[i];
	return NULL;
}

static struct clone_entry *find_bar(struct clones *c, uint64_t snapshot)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->entry[i].state == CLONE_BARRED && c->entry[i].snapshot == snapshot)
			return &c->entry[i];
	return NULL;
}

static void drop(struct clones *c, struct clone_entry *x)
{
	memmove(x, x + 1, (size_t)(&c->entry[--c->n] - x) * sizeof(*x));
}

static int add(struct change *x, struct err *e)
{
	struct clones *c = x->c;

	if (find(c, x->entry.uuid))
		return 0;
	if (find_bar(c, 0) || find_bar(c, x->entry.snapshot))
		return err_set(
			e, -EBUSY, "it is being removed (if that was cut short, remove it again)");
	if (c->n == CLONES_MAX)
		return err_set(e, -ENOSPC, "it has %u clones, and cannot have more", CLONES_MAX);
	c->entry[c->n++] = x->entry;
	return 1;
}

static int make_ready(struct change *x, struct err *e)
{
	struct clone_entry *at = find(x->c, x->entry.uuid);

	if (!at)
		return err_set(e, -ESTALE, "it was removed meanwhile");
	if (at->state == CLONE_READY)
		return 0;
	at->state = CLONE_READY;
	return 1;
}

static int leave(struct change *x, struct err *e)
{
	struct clone_entry *at = find(x->c, x->entry.uuid);

	(void)e;
	if (!at)
		return 0;
	drop(x->c, at);
	return 1;
}

bool clones_exists(struct store *s, const struct clone_entry *x, const uint8_t base[16])
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	bool there = true;
	int rc = sb ? volume_read_superblock(s, x->name, sb, NULL, NULL) : -ENOMEM;

	/* What cannot be read is not known to be gone. */
	if (rc == -ENOENT || (rc == 0 && memcmp(sb->uuid, x->uuid, 16))) {
		there = false;
	} else if (rc == 0) {
		there = false;
		for (uint32_t i = 0; i < sb->bases; i++)
			there = there || !memcmp(sb->base[i].uuid, base, 16);
	}
	free(sb);
	return there;
}

static int bar(struct change *x, struct err *e)
{
	char names[300] = "";
	struct clones *c = x->c;
	unsigned n = 0;
	bool changed = false;

	for (uint32_t i = 0; i < c->n;) {
		struct clone_entry *at = &c->entry[i];

		if (at->state == CLONE_BARRED ||
			(x->entry.snapshot && at->snapshot != x->entry.snapshot)) {
			i++;
		} else if (!clones_exists(x->s, at, c->uuid)) {
			drop(c, at);
			changed = true;
		} else {
			size_t len = strlen(names);

			snprintf(names + len, sizeof(names) - len, "%s%s", n ? ", " : "", at->name);
			n++;
			i++;
		}
	}
	if (n)
		return err_set(e, -EBUSY, "it has %u clone%s: %s; remove or flatten %s first", n,
			n > 1 ? "s" : "", names, n > 1 ? "them" : "it");
	if (find_bar(c, x->entry.snapshot))
		return changed;
	if (c->n == CLONES_MAX)
		return err_set(e, -ENOSPC, "its list of clones is full");
	c->entry[c->n++] = x->entry;
	return 1;
}

static int unbar(struct change *x, struct err *e)
{
	struct clone_entry *at = find_bar(x->c, x->entry.snapshot);

	(void)e;
	if (!at)
		return 0;
	drop(x->c, at);
	return 1;
}

int clones_bar(
	struct store *s, const char *name, const uint8_t *uuid, uint64_t snapshot, struct err *e)
{
	struct change x = {.s = s,
		.name = name,
		.uuid = uuid,
		.what = bar,
		.entry = {.snapshot = snapshot, .state = CLONE_BARRED}};

	return change(&x, e);
}

int clones_unbar(struct store *s, const char *name, uint64_t snapshot, struct err *e)
{
	struct change x = {.s = s,
		.name = name,
		.what = unbar,
		.entry = {.snapshot = snapshot, .state = CLONE_BARRED}};

	return change(&x, e);
}

static int unbar_all(struct change *x, struct err *e)
{
	struct clones *c = x->c;
	uint32_t n = 0;

	(void)e;
	for (uint32_t i = 0; i < c->n; i++)
		if (c->entry[i].state != CLONE_BARRED)
			c->entry[n++] = c->entry[i];
	if (n == c->n)
		return 0;
	c->n = n;
	return 1;
}

void clones_clear_bars(struct store *s, const char *name)
{
	struct change x = {.s = s, .name = name, .what = unbar_all};

	if (change(&x, NULL) < 0)
		return; /* the next opening tries again */
}

/* ---- superblocks of images that are not open ---- */

struct super_change {
	struct superblock *sb;
	int (*what)(struct superblock *sb, void *arg, struct err *e);
	void *arg;
};

static int64_t change_super(void *arg, void *buf, int64_t len, struct err *e)
{
	struct super_change *x = arg;
	int rc = len < 0 ? (int)len : superblock_decode(buf, (size_t)len, x->sb, e);

	if (rc == 0)
		rc = x->what(x->sb, x->arg, e);
	return rc <= 0 ? rc : (int64_t)superblock_encode(x->sb, buf);
}

/* The caller has the image's lock: nobody else writes to it. */
static int change_locked(struct store *s, const char *name, struct super_change *x, struct err *e)
{
	char object[STORE_NAME_MAX];
	struct small small = {
		.object = object, .max_bytes = SUPERBLOCK_BYTES, .change = change_super, .arg = x};

	snprintf(object, sizeof(object), "%s/super", name);
	return change_small(s, &small, e);
}

static int with_lock(struct store *s, const char *name, struct super_change *x, struct err *e)
{
	int rc = volume_lock(s, name, e);

	if (rc < 0)
		return rc;
	rc = change_locked(s, name, x, e);
	volume_unlock(s, name);
	return rc;
}

/* ---- automatic snapshots ---- */

struct auto_snapshot {
	struct checkpoint_header h; /* of the newest checkpoint */
	uint64_t now_ns;
	struct superblock_snapshot s; /* out */
};

static int add_auto(struct superblock *sb, void *arg, struct err *e)
{
	struct auto_snapshot *a = arg;
	struct superblock_snapshot *s = &sb->snapshot[sb->snapshots];

	if (!sb->clean)
		return err_set(e, -EBUSY,
			"it was not closed cleanly; open and close it with its pool, or clone a "
			"snapshot of it");
	if (sb->checkpoint != a->h.number)
		return err_set(e, -EAGAIN, "it changed meanwhile");
	for (uint32_t i = 0; i < sb->snapshots; i++)
		if (sb->snapshot[i].checkpoint == sb->checkpoint &&
			sb->snapshot[i].size_sectors == sb->size_sectors) {
			a->s = sb->snapshot[i];
			return 0;
		}
	if (sb->snapshots == SUPERBLOCK_SNAPSHOTS_MAX)
		return err_set(e, -ENOSPC, "it has %u snapshots, and cannot have more",
			SUPERBLOCK_SNAPSHOTS_MAX);
	*s = (struct superblock_snapshot){.id = sb->next_snapshot++,
		.size_sectors = sb->size_sectors,
		.object_seq = a->h.object_seq,
		.epoch = sb->epoch[sb->epochs - 1].epoch,
		.checkpoint = sb->checkpoint,
		.checkpoint_epoch = sb->checkpoint_epoch,
		.created_ns = a->now_ns,
		.flags = SNAPSHOT_AUTO};
	snprintf(s->name, sizeof(s->name), "clones-%" PRIu64, s->id);
	sb->snapshots++;
	a->s = *s;
	return 1;
}

/* The state of a closed image as a snapshot. */
static int snapshot_closed(struct store *s, const char *base, struct superblock *sb,
	struct superblock_snapshot *out, struct err *e)
{
	struct auto_snapshot a = {.now_ns = loop_wall(s->loop)};
	struct super_change x = {.sb = sb, .what = add_auto, .arg = &a};
	int rc = -EAGAIN;

	for (unsigned i = 0; rc == -EAGAIN && i < ERROR_TRIES; i++) {
		if (e)
			e->msg[0] = 0;
		rc = volume_read_superblock(s, base, sb, NULL, e);
		if (rc == 0)
			rc = load_header(s, base, sb, &a.h, e);
		if (rc == 0)
			rc = with_lock(s, base, &x, e);
	}
	*out = a.s;
	return rc;
}

static int drop_auto(struct superblock *sb, void *arg, struct err *e)
{
	const struct superblock_snapshot *s = arg;
	uint32_t i = 0;

	(void)e;
	while (i < sb->snapshots && sb->snapshot[i].id != s->id)
		i++;
	if (i == sb->snapshots)
		return 0;
	memmove(&sb->snapshot[i], &sb->snapshot[i + 1],
		(--sb->snapshots - i) * sizeof(sb->snapshot[0]));
	return 1;
}

/* The next checkpoint of the base lets go what only this snapshot needed. */
static void drop_automatic(struct store *s, const struct superblock_base *base)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	struct super_change x = {.sb = sb, .what = drop_auto};
	int rc = sb ? volume_read_superblock(s, base->name, sb, NULL, NULL) : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < sb->snapshots; i++) {
		struct superblock_snapshot found = sb->snapshot[i];

		if (found.id != base->snapshot || !(found.flags & SNAPSHOT_AUTO) ||
			memcmp(sb->uuid, base->uuid, 16))
			continue;
		rc = volume_lock(s, base->name, NULL);
		if (rc < 0)
			break;
		if (clones_bar(s, base->name, base->uuid, found.id, NULL) == 0) {
			x.arg = &found;
			rc = change_locked(s, base->name, &x, NULL);
			if (clones_unbar(s, base->name, found.id, NULL) < 0)
				rc = -EAGAIN; /* the next opening does */
		}
		volume_unlock(s, base->name);
		break;
	}
	free(sb);
}

void clones_leave(struct store *s, const struct superblock_base *base, const uint8_t uuid[16])
{
	struct change x = {.s = s, .name = base->name, .uuid = base->uuid, .what = leave};

	memcpy(x.entry.uuid, uuid, 16);
	if (change(&x, NULL) == 0)
		drop_automatic(s, base);
}

/* ---- cloning ---- */

static const struct superblock_snapshot *by_id(const struct superblock *sb, uint64_t id)
{
	for (uint32_t i = 0; i < sb->snapshots; i++)
		if (sb->snapshot[i].id == id)
			return &sb->snapshot[i];
	return NULL;
}

/* The clone's superblock, from its base's. */
static void derive(struct superblock *clone, const struct superblock *base, const char *name,
	const struct superblock_snapshot *s, const uint8_t uuid[16], uint64_t now_ns)
{
	struct superblock_base *b;

	superblock_init(clone, uuid, s->size_sectors, now_ns);
	clone->range_sectors = base->range_sectors;
	clone->checkpoint = s->checkpoint;
	clone->checkpoint_epoch = s->checkpoint_epoch;
	clone->epoch[0].first_seq = s->object_seq + 1;
	memcpy(clone->base, base->base, base->bases * sizeof(base->base[0]));
	clone->bases = base->bases + 1;
	b = &clone->base[base->bases];
	*b = (struct superblock_base){.snapshot = s->id,
		.object_seq = s->object_seq,
		.checkpoint = s->checkpoint,
		.checkpoint_epoch = s->checkpoint_epoch};
	memcpy(b->uuid, base->uuid, 16);
	snprintf(b->name, sizeof(b->name), "%s", name);
	clone->profile_bytes = base->profile_bytes;
	if (base->profile_bytes)
		clone->profile_base = base->profile_base ? base->profile_base : clone->bases;
}

/* Find what to clone: *sb is the base's superblock, *snap the snapshot. */
static int find_snapshot(struct store *s, const char *base, const char *snapshot,
	struct superblock *sb, struct superblock_snapshot *snap, struct err *e)
{
	const struct superblock_snapshot *found;
	int rc;

	if (!snapshot)
		return snapshot_closed(s, base, sb, snap, e);
	rc = volume_read_superblock(s, base, sb, NULL, e);
	if (rc < 0)
		return rc;
	found = superblock_snapshot(sb, snapshot);
	if (!found)
		return err_set(e, -ENOENT,
			"image '%s' has no snapshot '%s'; `lsvd snap list` lists them", base,
			snapshot);
	*snap = *found;
	return 0;
}

/* A superblock whose writing seemed to fail may be there all the same. */
static bool created_after_all(struct store *s, const char *name, const uint8_t uuid[16])
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	bool ours = sb && volume_read_superblock(s, name, sb, NULL, NULL) == 0 &&
		    !memcmp(sb->uuid, uuid, 16);

	free(sb);
	return ours;
}

/* Entered in the list: is what it builds on still there?  Then it can stay, and the clone appears.
 */
static int appear(struct change *x, struct superblock *sb, const struct superblock_snapshot *snap,
	struct superblock *clone, struct err *e)
{
	uint8_t uuid[16];
	int rc;

	memcpy(uuid, sb->uuid, 16);
	rc = volume_read_superblock(x->s, x->name, sb, NULL, e);
	if (rc == 0 && (memcmp(uuid, sb->uuid, 16) || !by_id(sb, snap->id)))
		rc = err_set(e, -ENOENT, "the snapshot was removed meanwhile");
	if (rc == 0) {
		derive(clone, sb, x->name, snap, x->entry.uuid, loop_wall(x->s->loop));
		rc = superblock_create(x->s, x->entry.name, clone, e);
		if (rc < 0 && created_after_all(x->s, x->entry.name, x->entry.uuid))
			rc = 0;
	}
	if (rc == 0) {
		x->what = make_ready;
		rc = change(x, e);
		/* Taken off the list by somebody who removes the base. */
		if (rc == -ESTALE && volume_remove_objects(x->s, x->entry.name, NULL) < 0)
			err_wrap(e, rc, "what was made of '%s' is left", x->entry.name);
	}
	return rc;
}

static int make(struct store *s, const char *base, const char *snapshot, const char *name,
	struct superblock *sb, struct superblock *clone, struct err *e)
{
	struct superblock_snapshot snap = {0};
	struct change x = {.s = s, .name = base, .uuid = sb->uuid, .what = add};
	struct err ignored;
	int rc = find_snapshot(s, base, snapshot, sb, &snap, e);

	if (rc == 0 && sb->bases == SUPERBLOCK_BASES_MAX)
		rc = err_set(e, -ENOSPC,
			"it builds on %u images, one on the other; flatten it first", sb->bases);
	if (rc == 0)
		rc = volume_purge(s, name, e);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < 16; i += 8) {
		uint64_t r = loop_random(s->loop);

		memcpy(x.entry.uuid + i, &r, 8);
	}
	x.entry.snapshot = snap.id;
	x.entry.state = CLONE_PENDING;
	snprintf(x.entry.name, sizeof(x.entry.name), "%s", name);
	rc = change(&x, e);
	if (rc == 0)
		rc = appear(&x, sb, &snap, clone, e);
	/* Not while it may be there: nothing would keep its base from being removed. */
	if (rc < 0 && rc != -ESTALE && !clones_exists(s, &x.entry, sb->uuid)) {
		x.what = leave;
		if (change(&x, &ignored) < 0)
			return rc; /* an entry without a clone; a later removal takes it out */
	}
	return rc;
}

int volume_clone(
	struct store *s, const char *base, const char *snapshot, const char *name, struct err *e)
{
	struct superblock *sb = calloc(2, sizeof(*sb));
	int rc;

	if (!sb)
		return -ENOMEM;
	rc = !strcmp(base, name) ? err_set(e, -EEXIST, "an image cannot be its own clone")
				 : make(s, base, snapshot, name, sb, sb + 1, e);
	free(sb);
	return rc < 0 ? err_wrap(e, rc, "clone image '%s%s%s'", base, snapshot ? "@" : "",
				snapshot ? snapshot : "")
		      : 0;
}

/* ---- removing a snapshot ---- */

int volume_snapshot_remove(struct volume *v, const char *name, struct err *e)
{
	const struct superblock_snapshot *s = superblock_snapshot(v->sb, name);
	uint64_t id = s ? s->id : 0;
	int rc = 0;

	if (s && v->journal) {
		rc = clones_bar(v->store, v->name, v->sb->uuid, id, e);
		if (rc < 0)
			return err_wrap(e, rc, "snapshot '%s'", name);
	}
	rc = volume_snapshot_wait(v, VOLUME_SNAPSHOT_REMOVE, name, e);
	/* Its id is never used again: a bar that stays harms nobody. */
	if (id && clones_unbar(v->store, v->name, id, NULL) < 0)
		v->stats.store_errors++;
	return rc;
}
