/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.c - creating, opening, closing and removing a volume.
 *
 * Opening for write, in this order (writer.c has what is about other writers): image lock;
 * superblock; is the journal here the right one (I12); maps (load.c); raise the epoch by compare-and-swap, marked not clean (I11); replay the
 * journal; look for orphans, which a late PUT makes even after a clean close.  Closing: drain,
 * checkpoint, mark clean, give the journal's segments back, unlock.
 */
#include "volume/checkpoint_impl.h"
#include "volume/clone.h"

#include "format/profile.h"
#include "sys/container.h"
#include "sys/memory.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	DELETE_TRIES = 8,
	RANGE_BYTES_MIN = 4 << 20,
	RANGES_MAX = 1 << 20,
	RANGES_AIM = 1 << 16,
	READER_TRIES = 100
};

static const uint64_t size_max_sectors = 1ull << 39; /* 256 TiB */

/* ---- creating ---- */

static uint64_t choose_range(uint64_t size_sectors)
{
	uint64_t r = RANGE_BYTES_MIN / 512;

	while (size_sectors / r > (r < (64u << 20) / 512 ? RANGES_AIM : RANGES_MAX))
		r *= 2;
	return r;
}

void superblock_init(
	struct superblock *sb, const uint8_t uuid[16], uint64_t size_sectors, uint64_t created_ns)
{
	*sb = (struct superblock){.size_sectors = size_sectors,
		.range_sectors = choose_range(size_sectors),
		.created_ns = created_ns,
		.clean = true,
		.epochs = 1,
		.next_snapshot = 1};
	memcpy(sb->uuid, uuid, 16);
	sb->epoch[0] = (struct superblock_epoch){.epoch = 0, .first_seq = 1};
}

int superblock_create(struct store *s, const char *name, const struct superblock *sb, struct err *e)
{
	char object[STORE_NAME_MAX];
	uint8_t *buf = malloc(SUPERBLOCK_BYTES);
	struct iovec iov = {.iov_base = buf};
	struct store_req r = {.op = STORE_SWAP, .name = object, .iov = &iov, .iovcnt = 1, .err = e};
	int64_t rc;

	if (!buf)
		return -ENOMEM;
	iov.iov_len = r.len_bytes = superblock_encode(sb, buf);
	snprintf(object, sizeof(object), "%s/super", name);
	rc = store_wait(s, &r);
	free(buf);
	if (rc == -EEXIST || rc == -ESTALE)
		return err_set(e, -EEXIST, "image '%s' exists already in '%s'", name, s->url);
	return rc < 0 ? err_wrap(e, (int)rc, "create superblock") : 0;
}

int volume_check_size(uint64_t size_sectors, struct err *e)
{
	if (size_sectors == 0)
		return err_set(e, -EINVAL,
			"an image of size 0 makes no sense; give a multiple of 512 bytes");
	if (size_sectors > size_max_sectors)
		return err_set(e, -EINVAL, "an image may have 256 TiB at most");
	return 0;
}

int volume_check_absent(struct store *s, const char *name, struct err *e)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	int rc = sb ? volume_read_superblock(s, name, sb, NULL, NULL) : -ENOMEM;

	free(sb);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0 && volume_worth_retrying(rc))
		return err_set(e, rc, "read superblock: %s", strerror(-rc));
	return err_set(e, -EEXIST, "image '%s' exists already in '%s'", name, s->url);
}

/* What a removal or a bulk load that was cut short left under this name.  Under the lock, for a
 * bulk load may be at work, or just have ended. */
int volume_purge(struct store *s, const char *name, struct err *e)
{
	int rc = volume_check_absent(s, name, e);

	if (rc == 0)
		rc = volume_lock(s, name, e);
	if (rc < 0)
		return rc;
	rc = volume_check_absent(s, name, e);
	if (rc == 0)
		rc = volume_remove_objects(s, name, e);
	volume_unlock(s, name);
	return rc;
}

int volume_create(struct store *s, const char *name, uint64_t size_sectors, struct err *e)
{
	struct superblock *sb = malloc(sizeof(*sb));
	uint8_t uuid[16];
	int rc = volume_check_size(size_sectors, e);

	if (rc == 0 && !sb)
		rc = -ENOMEM;
	if (rc == 0)
		rc = volume_purge(s, name, e);
	if (rc == 0) {
		for (unsigned i = 0; i < 16; i += 8) {
			uint64_t x = loop_random(s->loop);

			memcpy(uuid + i, &x, 8);
		}
		superblock_init(sb, uuid, size_sectors, loop_wall(s->loop));
		rc = superblock_create(s, name, sb, e);
	}
	free(sb);
	return rc;
}

/* ---- the journal's owner ---- */

static struct volume *of_owner(struct journal_owner *o)
{
	return container_of(o, struct volume, owner);
}

static void on_record(
	struct journal_owner *o, uint64_t seq, const struct journal_extent *ext, uint32_t n)
{
	destage_record(of_owner(o), seq, ext, n);
}

static void on_failed(struct journal_owner *o, int status)
{
	volume_fail(of_owner(o), status);
}
static void on_full(struct journal_owner *o)
{
	destage_press(of_owner(o));
}

static int open_journal(struct volume *v, struct err *e)
{
	struct journal_config cfg = {.loop = v->loop,
		.pool = v->pool,
		.epoch = v->epoch,
		.record_bytes = v->cfg.journal_record_bytes,
		.ram_bytes = v->cfg.journal_ram_bytes,
		.burst_bytes = loop_is_sim(v->loop)
				       ? 0
				       : memory_bytes() / 100 * v->cfg.journal_burst_percent,
		.depth = v->cfg.journal_depth,
		.dirty_percent = v->cfg.journal_percent,
		.owner = &v->owner};
	/* Every object on its way holds its part of the log; there must be room for more. */
	uint64_t frame = (uint64_t)pool_segment_blocks(v->pool) * POOL_BLOCK,
		 need = (v->puts_max + 2) *
			(v->cfg.object_bytes + 2 * (frame < 2u << 20 ? frame : 2u << 20));
	int rc;

	if (cfg.ram_bytes < need)
		cfg.ram_bytes = need;
	memcpy(cfg.uuid, v->sb->uuid, 16);
	v->owner = (struct journal_owner){
		.on_record = on_record, .on_failed = on_failed, .on_full = on_full};
	rc = journal_new(&cfg, &v->journal, e);
	v->replaying = true;
	if (rc == 0)
		rc = journal_replay(v->journal, v->covers_applied, &v->replayed, e);
	v->replaying = false;
	return rc;
}

/* ---- orphans ---- */

struct orphan_scan {
	struct store_req req;
	struct volume *v;
	char (*names)[STORE_NAME_MAX];
	uint32_t n, cap;
	bool has_clones;
	int rc;
};

static bool parse_two(const char *s, uint64_t *a, uint64_t *b)
{
	char *end;

	if (strlen(s) != 33 || s[16] != '.')
		return false;
	*a = strtoull(s, &end, 16);
	if (end != s + 16)
		return false;
	*b = strtoull(s + 17, &end, 16);
	return end == s + 33;
}

/* An object of an older epoch that neither the table nor the checkpoints know: a PUT that came to
 * nothing, or a delete that was cut short.  Objects of our own epoch are ours to handle. */
static bool orphan(const struct volume *v, const char *name)
{
	const char *s = strrchr(name, '/') + 1;
	uint64_t epoch, n;
	uint32_t slot;

	if (MUTANT(KEEP_ORPHANS))
		return false;
	if (!strncmp(s, "ckpt.", 5) && parse_two(s + 5, &epoch, &n))
		return epoch < v->epoch && !checkpoint_knows(v, epoch, n);
	if (!parse_two(s, &epoch, &n) || epoch >= v->epoch)
		return false;
	slot = objmap_find(v->objects, n);
	return (slot == OBJMAP_NONE || objmap_get(v->objects, slot)->epoch != epoch) &&
	       !deferred_has(&v->ckpt->def, epoch, n);
}

static int note_orphan(struct store_req *r, const char *name, uint64_t size)
{
	struct orphan_scan *s = container_of(r, struct orphan_scan, req);

	(void)size;
	if (!strcmp(strrchr(name, '/'), "/clones"))
		s->has_clones = true;
	if (!orphan(s->v, name))
		return 0;
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? 2 * s->cap : 64;
		void *p = realloc(s->names, cap * sizeof(*s->names));

		if (!p)
			return -ENOMEM;
		s->names = p;
		s->cap = cap;
	}
	snprintf(s->names[s->n++], STORE_NAME_MAX, "%s", name);
	return 0;
}

/* Best effort: what cannot be removed now is found again. */
static void remove_orphans(struct volume *v)
{
	char prefix[STORE_NAME_MAX];
	struct orphan_scan s = {.v = v};

	snprintf(prefix, sizeof(prefix), "%s/", v->name);
	s.req = (struct store_req){.op = STORE_LIST, .name = prefix, .item = note_orphan};
	if (store_wait(v->store, &s.req) >= 0) {
		for (uint32_t i = 0; i < s.n; i++) {
			struct store_req del = {.op = STORE_DELETE, .name = s.names[i]};

			if (store_wait(v->store, &del) >= 0)
				v->stats.deletes++;
		}
	}
	if (s.has_clones)
		clones_clear_bars(v->store, v->name);
	free(s.names);
}

/* ---- opening ---- */

/* The volume as it was: what came later is not looked at. */
static int take_snapshot(struct volume *v, const char *name, struct err *e)
{
	struct superblock *sb = v->sb;
	const struct superblock_snapshot *s = superblock_snapshot(sb, name);

	if (!s)
		return err_set(e, -ENOENT,
			"image '%s' has no snapshot '%s'; `lsvd snap list` lists them", v->name,
			name);
	sb->checkpoint = s->checkpoint;
	sb->checkpoint_epoch = s->checkpoint_epoch;
	sb->size_sectors = s->size_sectors;
	v->snapshot_seq = s->object_seq;
	v->at_snapshot = true;
	return 0;
}

static int load_maps(struct volume *v, struct err *e)
{
	uint64_t seq, covers;
	int rc = checkpoint_load(v, &seq, &covers, e);

	v->applied_seq = seq;
	v->covers_applied = covers;
	if (rc == 0 && v->at_snapshot && seq != v->snapshot_seq)
		rc = err_set(e, -EUCLEAN,
			"the snapshot is of object %" PRIu64 ", its checkpoint of %" PRIu64,
			v->snapshot_seq, seq);
	if (rc == 0 && !v->at_snapshot)
		rc = load_objects_after(v, seq, e);
	v->next_seq = v->applied_seq + 1;
	v->covers_put = v->acked = v->covers_applied;
	return rc;
}

static int open_for_write(struct volume *v, struct err *e)
{
	int rc = writer_raise_epoch(v, e);

	if (rc == 0)
		rc = open_journal(v, e);
	if (rc == 0)
		remove_orphans(v);
	if (rc == 0)
		rc = writer_watch(v);
	if (rc == 0 && v->failed)
		rc = err_set(e, v->failed, "%s", strerror(-v->failed));
	return rc;
}

static int open_in_steps(struct volume *v, const char *snapshot, struct err *e)
{
	int rc;

	rc = volume_read_superblock(v->store, v->name, v->sb, v->tag, e);
	if (rc == 0 && !(v->flags & VOLUME_READONLY)) {
		rc = writer_lock(v, e);
		/* Again: the last writer may just have closed it. */
		if (rc == 0)
			rc = volume_read_superblock(v->store, v->name, v->sb, v->tag, e);
	}
	if (rc == 0 && snapshot)
		rc = take_snapshot(v, snapshot, e);
	if (rc == 0 && !(v->flags & VOLUME_READONLY))
		rc = writer_check_journal(v, e);
	if (rc == 0)
		rc = checkpointer_new(v) < 0 || destage_init(v) < 0 || collector_new(v) < 0
			     ? -ENOMEM
			     : 0;
	if (rc == 0)
		rc = writer_fence(v, e);
	if (rc == 0)
		rc = load_maps(v, e);
	if (rc == 0)
		rc = writer_check_old_journal(v, e);
	if (rc == 0 && !(v->flags & VOLUME_READONLY))
		rc = open_for_write(v, e);
	return rc;
}

static void free_volume(struct volume *v)
{
	if (v->locked)
		volume_unlock(v->store, v->name);
	writer_unwatch(v);
	collector_free(v);
	destage_fini(v);
	checkpointer_free(v);
	if (v->journal)
		journal_close(v->journal);
	if (v->map)
		extmap_free(v->map);
	if (v->objects)
		objmap_free(v->objects);
	free(v->watch.buf);
	free(v->sb);
	free(v);
}

/* A reader beside a writer: has the superblock changed since it was read?  Then checkpoints and
 * objects that it named may be gone, and what was read may be older than it need be. */
static bool moved_on(struct volume *v)
{
	struct superblock *sb = malloc(sizeof(*sb));
	char tag[STORE_TAG_MAX];
	bool moved = sb && volume_read_superblock(v->store, v->name, sb, tag, NULL) == 0 &&
		     strcmp(tag, v->tag);

	free(sb);
	return moved;
}

/* A try at opening; `again`: worth another one, from the start. */
struct opening {
	struct volume *v;
	bool again, fence;
	char taken_from[160];
};

/* What was read may be gone, or old: of a reader beside a writer, or of a writer beside one that has
 * lost the image and does not know it yet.  Nothing was changed so far; `late`, the epoch was
 * raised, and somebody else took the image after that. */
static bool worth_another(struct volume *v, int rc, bool snapshot)
{
	bool reader = v->flags & VOLUME_READONLY, late = rc == -ESTALE && v->journal;

	/* A snapshot stays what it is. */
	return (reader || rc == -ENOENT || (rc == -ESTALE && !late)) && v->tag[0] && !(rc == 0 && snapshot) &&
	       moved_on(v);
}

static int open_once(const struct volume_params *p, struct opening *o, struct err *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	int rc;

	o->again = false;
	if (!v)
		return -ENOMEM;
	v->loop = p->loop;
	v->store = p->store;
	v->pool = p->pool;
	v->cache = p->cache;
	v->cfg = *p->config;
	v->flags = p->flags;
	v->fence = o->fence;
	memcpy(v->taken_from, o->taken_from, sizeof(v->taken_from));
	snprintf(v->name, sizeof(v->name), "%s", p->name);
	v->sb = calloc(1, sizeof(*v->sb));
	v->map = extmap_new();
	v->objects = objmap_new();
	apply_init(v);
	rc = v->sb && v->map && v->objects ? open_in_steps(v, p->snapshot, e) : -ENOMEM;
	o->again = worth_another(v, rc, p->snapshot);
	o->fence = !(p->flags & VOLUME_READONLY);
	memcpy(o->taken_from, v->taken_from, sizeof(v->taken_from));
	if (rc < 0) {
		free_volume(v);
		return rc;
	}
	o->v = v;
	return 0;
}

int volume_open(const struct volume_params *p, struct volume **out, struct err *e)
{
	struct opening o = {.again = true};
	int rc = -EIO;

	assert(!p->snapshot || p->flags & VOLUME_READONLY);
	for (int tries = 0; o.again && tries < READER_TRIES; tries++) {
		if (tries && rc == 0)
			free_volume(o.v);
		if (e)
			e->msg[0] = 0;
		rc = open_once(p, &o, e);
	}
	if (rc < 0)
		return err_wrap(e, rc, "open image '%s'", p->name);
	*out = o.v;
	destage_kick(*out);
	gc_maybe(*out);
	return 0;
}

/* ---- closing ---- */

struct wait_drain {
	struct volume_drain d;
	int status;
	bool over;
};

static void drained(struct volume_drain *d, int status)
{
	struct wait_drain *w = container_of(d, struct wait_drain, d);

	w->status = status;
	w->over = true;
}

/* What is said when a store is given up. */
static int store_cause(const struct volume *v)
{
	return v->store_status < 0 ? v->store_status : -EIO;
}

/* While closing, a store that does not answer is given up after some tries. */
static bool given_up(const struct volume *v)
{
	for (const struct outgoing *o = v->out; o; o = o->next)
		if (o->tries > 8)
			return true;
	return v->ckpt->tries > 8 || v->ckpt->swap.tries > 8;
}

int volume_drain_wait(struct volume *v)
{
	struct wait_drain w = {.d = {.done = drained}};

	volume_drain(v, &w.d);
	while (!w.over && !(v->closing && given_up(v)))
		loop_poll(v->loop, LOOP_FOREVER);
	if (w.over)
		return w.status;
	volume_fail(v, store_cause(v));
	while (!w.over)
		loop_poll(v->loop, LOOP_FOREVER);
	return w.status;
}

int volume_checkpoint(struct volume *v)
{
	while (checkpoint_busy(v) && !v->failed && !(v->closing && given_up(v)))
		loop_poll(v->loop, LOOP_FOREVER);
	checkpoint_start(v);
	while (checkpoint_busy(v) && !v->failed && !(v->closing && given_up(v)))
		loop_poll(v->loop, LOOP_FOREVER);
	if (v->failed)
		return v->failed;
	return checkpoint_busy(v) ? store_cause(v) : 0;
}

static bool requests_in_flight(const struct volume *v)
{
	const struct checkpointer *c = v->ckpt;

	for (const struct outgoing *o = v->out; o; o = o->next)
		if (o->in_store)
			return true;
	return c->in_store || c->swap.in_store || v->watch.in_store || c->deleting || gc_reading(v) || v->step.queued ||
	       v->apply_task.queued || c->task.queued || v->holds_pending || v->drains;
}

/* Nothing of ours may call back once we are gone; a request that comes back may want another try.
 */
static void quiesce(struct volume *v)
{
	if (!v->failed)
		v->failed = -ESHUTDOWN;
	snapshots_fail(v, v->failed);
	for (;;) {
		for (struct outgoing *o = v->out; o; o = o->next)
			loop_timer_cancel(v->loop, &o->retry);
		loop_timer_cancel(v->loop, &v->ckpt->retry);
		loop_timer_cancel(v->loop, &v->ckpt->swap.retry);
		writer_unwatch(v);
		if (!requests_in_flight(v) && !journal_busy(v->journal))
			return;
		loop_poll(v->loop, LOOP_FOREVER);
	}
}

static int close_in_steps(struct volume *v, struct err *e)
{
	int rc = v->failed;

	v->closing = true;
	while (rc == 0 && gc_busy(v) && !v->failed && !given_up(v))
		loop_poll(v->loop, LOOP_FOREVER);
	if (rc == 0)
		rc = volume_drain_wait(v);
	if (rc == 0)
		rc = volume_checkpoint(v);
	if (rc == -ESTALE)
		return volume_say_lost(v, e);
	if (rc < 0)
		return err_set(e, rc,
			"close image '%s': %s; what is not in the store stays in the pool's "
			"journal",
			v->name, rc == v->store_status ? v->store_why.msg : strerror(-rc));
	/* What the store does not delete even so is an orphan: fsck finds it. */
	for (int tries = 0; tries < DELETE_TRIES && checkpoint_delete_again(v); tries++)
		while (checkpoint_busy(v) && !v->failed)
			loop_poll(v->loop, LOOP_FOREVER);
	v->sb->clean = true;
	rc = superblock_swap_wait(v, e);
	if (rc == 0)
		rc = journal_release(v->journal);
	return rc;
}

int volume_close(struct volume *v, struct err *e)
{
	int rc = 0;

	if (v->journal) {
		rc = close_in_steps(v, e);
		quiesce(v);
	}
	free_volume(v);
	return rc;
}

void volume_drop(struct volume *v)
{
	v->locked = false;
	free_volume(v);
}

/* ---- resizing, profile ---- */

int volume_resize(struct volume *v, uint64_t size_sectors, struct err *e)
{
	uint64_t old = v->sb->size_sectors;
	int rc = volume_check_size(size_sectors, e);

	if (rc == 0)
		rc = checkpoint_resize(v, size_sectors);
	if (rc < 0)
		return rc;
	v->sb->size_sectors = size_sectors;
	rc = superblock_swap_wait(v, e);
	if (rc < 0)
		v->sb->size_sectors = old;
	return rc;
}

int volume_profile(struct volume *v, struct profile_range **ranges, uint32_t *n, struct err *e)
{
	char name[STORE_NAME_MAX];
	uint64_t len = v->sb->profile_bytes;
	void *buf;
	struct iovec iov = {.iov_len = len};
	struct store_req r = {.op = STORE_GET,
		.name = name,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = e};
	int64_t got;
	int rc;

	*ranges = NULL;
	*n = 0;
	if (!len)
		return 0;
	buf = len <= 1u << 30 ? malloc(len) : NULL;
	if (!buf)
		return -ENOMEM;
	iov.iov_base = buf;
	snprintf(name, sizeof(name), "%s/profile",
		v->sb->profile_base ? v->sb->base[v->sb->profile_base - 1].name : v->name);
	got = store_wait(v->store, &r);
	rc = got < 0 ? (int)got : profile_decode(buf, (size_t)got, ranges, n, e);
	free(buf);
	return rc < 0 ? err_wrap(e, rc, "boot profile") : 0;
}
