/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writer.c - whose image it is: the lock, the last writer's journal, the epoch, and the watch (I11,
 * I12).
 *
 * The store's lock keeps polite writers apart and names the holder; what fences is the superblock,
 * which only whoever saw its newest version can change.  An opening that steals, or that meets a
 * writer who lost the image and does not know, changes it first of all, before it looks at the
 * maps: from then on the other one can neither write a checkpoint nor delete anything.
 *
 * The other one learns it at its next superblock change, or when it looks at the superblock, which
 * every writer does each `writer.check_ms`.  Who it was, for the messages, is in the superblock
 * once the thief has raised the epoch; until then, while it is loading the maps, the lock says it.
 */
#include "volume/checkpoint_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the lock ---- */

static void holder_text(char *out, size_t len, const char *host, uint32_t pid, uint64_t since_ns)
{
	time_t t = (time_t)(since_ns / 1000000000u);
	struct tm tm;
	char when[32] = "?";

	if (gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(out, len, "host %s pid %u since %s", host, pid, when);
}

void volume_writer_text(const struct superblock *sb, char *out, size_t len)
{
	if (sb->since_ns)
		holder_text(out, len, sb->host, sb->pid, sb->since_ns);
	else
		snprintf(out, len, "nobody yet");
}

static int take_lock(struct store *s, const char *name, bool steal, struct err *e)
{
	char host[SUPERBLOCK_HOST_MAX] = "?", text[160];
	struct iovec iov = {.iov_base = text};
	struct store_req r = {
		.op = STORE_LOCK, .name = name, .iov = &iov, .iovcnt = 1, .steal = steal, .err = e};
	int64_t rc;

	gethostname(host, sizeof(host) - 1);
	holder_text(text, sizeof(text), host, (uint32_t)getpid(), loop_wall(s->loop));
	iov.iov_len = r.len_bytes = strlen(text);
	rc = store_wait(s, &r);
	return rc < 0 ? err_wrap(e, (int)rc, "image '%s'", name) : 0;
}

int volume_lock(struct store *s, const char *name, struct err *e)
{
	return take_lock(s, name, false, e);
}

void volume_unlock(struct store *s, const char *name)
{
	struct store_req r = {.op = STORE_UNLOCK, .name = name};

	if (store_wait(s, &r) < 0)
		return; /* the lock ends with the process */
}

/* ---- is the journal here the right one? (I12) ---- */

static int refuse_copy(const struct volume *v, uint64_t here, uint64_t last, struct err *e)
{
	return err_set(e, -ESTALE,
		"this pool's journal of '%s' is of epoch %" PRIu64
		" and the pool of generation %" PRIu64
		", but the image's last writer had epoch %" PRIu64 " and generation %" PRIu64
		": one of them is an old copy; open with --no-journal to give this journal up",
		v->name, here, pool_generation(v->pool), last, v->sb->pool_generation);
}

static int refuse_other_pool(const struct volume *v, struct err *e)
{
	char who[160];

	volume_writer_text(v->sb, who, sizeof(who));
	return err_set(e, -ESTALE,
		"image '%s' was not closed cleanly by its last writer (%s), whose journal is in "
		"another "
		"pool; open it with that pool, or with --no-journal to give up what was not in the "
		"store yet",
		v->name, who);
}

static int refuse_old(const struct volume *v, uint64_t here, const char *why, struct err *e)
{
	const struct superblock *sb = v->sb;
	char who[160];

	volume_writer_text(sb, who, sizeof(who));
	return err_set(e, -ESTALE,
		"this pool's journal of '%s' is of epoch %" PRIu64
		", but the image's last writer (%s) "
		"had epoch %" PRIu64
		" and another pool: %s`lsvd journal list` shows what it holds, "
		"`lsvd journal replay` brings it in if nothing was written since, `lsvd journal "
		"discard` (or --no-journal) gives it up",
		v->name, here, who, sb->epoch[sb->epochs - 1].epoch, why);
}

/* 0, and whether the journal here is to be wiped; or why not. */
static int judge_journal(struct volume *v, bool *wipe, struct err *e)
{
	const struct superblock *sb = v->sb;
	uint64_t last = sb->epoch[sb->epochs - 1].epoch;
	uint64_t here = journal_epoch_in_pool(v->pool, sb->uuid);

	*wipe = here && v->flags & VOLUME_NO_JOURNAL;
	v->old_journal = 0;
	if (v->flags & VOLUME_NO_JOURNAL)
		return 0;
	if (!memcmp(sb->pool_uuid, pool_uuid(v->pool), 16) || MUTANT(ANY_POOL)) {
		/* An epoch that had no time to write has left no segment, so `here` may be less
		 * than `last`; but an older copy of the pool knows of fewer openings. */
		if (!sb->clean && (here > last || pool_generation(v->pool) < sb->pool_generation))
			return refuse_copy(v, here, last, e);
		/* Clean: what is left here was covered. */
		*wipe = sb->clean && here;
		return 0;
	}
	if (!sb->clean)
		return refuse_other_pool(v, e);
	/* Of somebody who lost the image. */
	if (here && !(v->flags & VOLUME_OLD_JOURNAL))
		return refuse_old(v, here, "", e);
	v->old_journal = here;
	return 0;
}

int writer_check_journal(struct volume *v, struct err *e)
{
	bool wipe;
	int rc = judge_journal(v, &wipe, e);

	return rc == 0 && wipe ? journal_wipe(v->pool, v->sb->uuid) : rc;
}

/* The journal of a writer that lost the image goes on where the image ends only when nobody has
 * written since: when the newest object is one that the writer made itself, or knew of.  After a
 * roll-back the newest object is not there. */
int writer_check_old_journal(struct volume *v, struct err *e)
{
	uint32_t slot;

	if (!v->old_journal || !v->applied_seq)
		return 0;
	slot = objmap_find(v->objects, v->applied_seq);
	if (slot != OBJMAP_NONE && objmap_get(v->objects, slot)->epoch <= v->old_journal)
		return 0;
	return refuse_old(v, v->old_journal, "the image was written since, ", e);
}

/* ---- taking the image ---- */

/* Before anything is disturbed: would the opening be refused all the same? */
static int may_steal(struct volume *v, struct err *e)
{
	struct err ignored;
	bool wipe;

	if (judge_journal(v, &wipe, &ignored) == 0)
		return 0;
	return err_set(e, -ESTALE,
		"image '%s' is in use by %s, whose journal is in another pool; take it over with "
		"--steal and --no-journal to give up what that writer acknowledged and had not put "
		"into "
		"the store yet",
		v->name, v->taken_from);
}

int writer_lock(struct volume *v, struct err *e)
{
	int rc = take_lock(v->store, v->name, false, e);

	if (rc == -EBUSY && v->flags & VOLUME_STEAL) {
		volume_writer_text(v->sb, v->taken_from, sizeof(v->taken_from));
		rc = may_steal(v, e);
		if (rc == 0)
			rc = take_lock(v->store, v->name, true, e);
		v->fence = rc == 0;
	}
	v->locked = rc == 0;
	return rc;
}

/* Whoever else believes to have the image finds the superblock changed.  It says the same as
 * before, but for a time that was not there yet: a store may tell versions by their contents alone.
 */
int writer_fence(struct volume *v, struct err *e)
{
	uint64_t now = loop_wall(v->loop);

	if (!v->fence)
		return 0;
	v->sb->since_ns = now > v->sb->since_ns ? now : v->sb->since_ns + 1;
	return superblock_swap_wait(v, e);
}

int writer_raise_epoch(struct volume *v, struct err *e)
{
	struct superblock *sb = v->sb;
	uint64_t last = sb->epoch[sb->epochs - 1].epoch;

	/* An epoch that wrote nothing leaves no trace. */
	while (sb->epochs && sb->epoch[sb->epochs - 1].first_seq == v->applied_seq + 1)
		sb->epochs--;
	if (sb->epochs == SUPERBLOCK_EPOCHS_MAX)
		return err_set(e, -EUCLEAN, "too many epochs without a checkpoint");
	v->epoch = last + !MUTANT(REUSE_EPOCH);
	sb->epoch[sb->epochs++] =
		(struct superblock_epoch){.epoch = v->epoch, .first_seq = v->applied_seq + 1};
	memcpy(sb->pool_uuid, pool_uuid(v->pool), 16);
	sb->pool_generation = pool_generation(v->pool);
	memset(sb->host, 0, sizeof(sb->host));
	gethostname(sb->host, sizeof(sb->host) - 1);
	sb->pid = (uint32_t)getpid();
	sb->since_ns = loop_wall(v->loop);
	sb->clean = false;
	return superblock_swap_wait(v, e); /* I11 */
}

/* ---- the watch ---- */

static void look(struct loop_timer *t);

static void look_later(struct volume *v)
{
	if (v->cfg.writer_check_ms && !v->failed && !v->closing)
		loop_timer_set(v->loop, &v->watch.timer,
			loop_now(v->loop) + (uint64_t)v->cfg.writer_check_ms * 1000000);
}

/* A thief that is still loading is not there by name yet. */
static void note_thief(struct volume *v, const struct superblock *sb)
{
	if (sb->epoch[sb->epochs - 1].epoch > v->epoch)
		volume_writer_text(sb, v->lost_to, sizeof(v->lost_to));
}

static void lost(struct volume *v, const struct superblock *sb)
{
	if (sb)
		note_thief(v, sb);
	volume_fail(v, -ESTALE); /* I11 */
}

static struct store_req who_has_lock(const struct volume *v, struct err *holder)
{
	return (struct store_req){.op = STORE_LOCK, .name = v->name, .ask = true, .err = holder};
}

/* -ESTALE, where no other holder is expected to be named: the cluster lets this client do nothing
 * any more (rados.blocklist), which is the thief's doing. */
static void note_holder(struct volume *v, int64_t status, const struct err *holder)
{
	if (status == -EBUSY)
		snprintf(v->lost_to, sizeof(v->lost_to), "%.*s", (int)sizeof(v->lost_to) - 1,
			holder->msg);
	else if (status == -ESTALE)
		snprintf(v->lost_to, sizeof(v->lost_to),
			"another writer, which had the cluster shut this client out (blocklist)");
}

int volume_say_lost(struct volume *v, struct err *e)
{
	struct superblock *sb = v->lost_to[0] ? NULL : malloc(sizeof(*sb));
	struct err holder = {.msg = ""};
	struct store_req r = who_has_lock(v, &holder);

	if (sb && volume_read_superblock(v->store, v->name, sb, NULL, NULL) == 0)
		note_thief(v, sb);
	free(sb);
	if (!v->lost_to[0])
		note_holder(v, store_wait(v->store, &r), &holder);
	return err_set(e, -ESTALE,
		"image '%s' was taken over by %s; what was not in the store by then is lost to it, "
		"and stays in this pool's journal: see `lsvd journal list`",
		v->name, v->lost_to[0] ? v->lost_to : "another writer");
}

/* What is there now is not what we wrote last. */
static void judge_superblock(struct volume *v, int64_t bytes)
{
	struct superblock *sb = malloc(sizeof(*sb));

	if (bytes == (int64_t)v->ckpt->swap.len &&
		!memcmp(v->watch.buf, v->ckpt->swap.buf, (size_t)bytes)) {
		free(sb);
		return;
	}
	lost(v, sb && superblock_decode(v->watch.buf, (size_t)bytes, sb, NULL) == 0 ? sb : NULL);
	free(sb);
}

static void asked(struct store_req *r, int64_t status)
{
	struct volume *v = container_of(r, struct volume, watch.req);

	v->watch.in_store = false;
	if (!v->lost_to[0])
		note_holder(v, status, &v->watch.holder);
}

static void name_thief(struct volume *v, int64_t bytes)
{
	struct superblock *sb = bytes > 0 ? malloc(sizeof(*sb)) : NULL;
	struct watch *w = &v->watch;

	if (sb && superblock_decode(w->buf, (size_t)bytes, sb, NULL) == 0)
		note_thief(v, sb);
	free(sb);
	if (v->lost_to[0] || v->closing)
		return;
	w->req = who_has_lock(v, &w->holder);
	w->req.done = asked;
	w->in_store = true;
	store_submit(v->store, &w->req);
}

static void looked(struct store_req *r, int64_t status)
{
	struct volume *v = container_of(r, struct volume, watch.req);

	v->watch.in_store = false;
	if (v->failed == -ESTALE) {
		name_thief(v, status);
		return;
	}
	/* A swap of ours was under way, or is: it will tell. */
	if (!v->failed && !v->closing && !v->ckpt->swap.busy && !strcmp(v->watch.tag, v->tag)) {
		if (status == -ENOENT)
			lost(v, NULL);
		else if (status >= 0 && strcmp(r->tag, v->tag) && !MUTANT(NO_WATCH))
			judge_superblock(v, status);
	}
	look_later(v);
}

static void read_superblock(struct volume *v)
{
	struct watch *w = &v->watch;

	memcpy(w->tag, v->tag, sizeof(w->tag));
	snprintf(w->name, sizeof(w->name), "%s/super", v->name);
	w->iov = (struct iovec){.iov_base = w->buf, .iov_len = SUPERBLOCK_BYTES};
	w->req = (struct store_req){.op = STORE_GET,
		.name = w->name,
		.iov = &w->iov,
		.iovcnt = 1,
		.len_bytes = SUPERBLOCK_BYTES,
		.done = looked};
	w->in_store = true;
	store_submit(v->store, &w->req);
}

static void look(struct loop_timer *t)
{
	struct volume *v = container_of(t, struct volume, watch.timer);

	if (v->failed || v->closing || v->watch.in_store)
		return;
	if (v->ckpt->swap.busy)
		look_later(v);
	else
		read_superblock(v);
}

void writer_find_thief(struct volume *v)
{
	if (v->watch.buf && !v->watch.in_store && !v->closing && !v->lost_to[0])
		read_superblock(v);
}

int writer_watch(struct volume *v)
{
	v->watch.buf = malloc(SUPERBLOCK_BYTES);
	v->watch.timer.fire = look;
	look_later(v);
	return v->watch.buf ? 0 : -ENOMEM;
}

void writer_watch_now(struct volume *v)
{
	if (!v->watch.buf || v->watch.in_store)
		return;
	loop_timer_cancel(v->loop, &v->watch.timer);
	look(&v->watch.timer);
}

void writer_unwatch(struct volume *v)
{
	loop_timer_cancel(v->loop, &v->watch.timer);
}
