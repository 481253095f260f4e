/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * volume.h - the log of objects behind one image: destage, maps, checkpoints, recovery, GC.
 *
 * Happy path: a journal record is acknowledged -> its extents join the open batch -> a full batch
 * is sealed, its frames are held, newest-wins within it, laid out in LBA order -> PUT as the next
 * object -> when it and all before it are durable (I4), its extents enter the object map and the
 * journal is told (I5).  Now and then a checkpoint saves what changed in the maps; only then are
 * dead objects deleted (I8).  Rooms: open.c        superblock, locks, recovery: checkpoints, then
 * the headers after them, then the journal destage.c     batches, building, PUTs in flight, pacing
 *   apply.c       durable objects enter the maps, in order
 *   checkpoint.c tables.c ranges.c deferred.c  incremental checkpoints, deletes
 *   writer.c      whose volume it is: lock, stealing, epoch, looking whether it still is
 *   snapshot.c    states that are kept
 *   gc.c victim.c garbage collection; victim.c is the pure policy
 *   bulk.c        new images in one go
 *
 * Errors: a journal failure makes the volume read-only with that cause; store errors are retried
 * with back-off, and counted; a superblock that somebody else swapped means we are fenced: -ESTALE
 * (I11, I13).
 *
 * Loop thread only; volume_open, _close, _create, _remove poll the loop.
 */
#ifndef LSVD_VOLUME_VOLUME_H
#define LSVD_VOLUME_VOLUME_H

#include "cache/cache.h"
#include "format/superblock.h"
#include "journal/journal.h"
#include "sys/config.h"

struct volume;

enum volume_flags {
	VOLUME_READONLY = 1,
	VOLUME_NO_JOURNAL = 2,
	VOLUME_STEAL = 4,	/* take it from a writer that has it */
	VOLUME_OLD_JOURNAL = 8, /* bring in the journal of a writer that lost it, if that can be */
};

struct volume_params {
	struct loop *loop;
	struct store *store; /* borrowed */
	struct pool *pool;   /* NULL only when read-only */
	struct cache *cache;
	const struct config *config; /* copied */
	const char *name;
	const char *snapshot; /* read-only: the volume as it was then; NULL: as it is */
	unsigned flags;
};

struct volume_stats {
	uint64_t puts, put_bytes, deletes, batch_bytes, gc_bytes, gc_objects;
	uint64_t checkpoints, checkpoint_bytes, store_errors, dirty_bytes;
};

/* size: sectors. -EEXIST. */
int volume_create(
	struct store *s, const char *name, uint64_t size_sectors, struct err *e) MUST_CHECK;

int volume_open(const struct volume_params *p, struct volume **out, struct err *e) MUST_CHECK;

/* Drain, checkpoint, mark clean, release journal and lock, free. Always frees; on failure the
 * journal keeps what is dirty. */
int volume_close(struct volume *v, struct err *e) MUST_CHECK;

/* Free without I/O (after a simulated crash). */
void volume_drop(struct volume *v);

/* Superblock first (so that nobody opens a half-removed image), then every object, then journal
 * segments in `pool` (may be NULL).  -EBUSY while somebody has it open. */
int volume_remove(struct store *s, struct pool *pool, const char *name, struct err *e) MUST_CHECK;

/* Read and decode a superblock; tag may be NULL. */
int volume_read_superblock(struct store *s, const char *name, struct superblock *sb, char *tag,
	struct err *e) MUST_CHECK;

struct journal *volume_journal(struct volume *v); /* NULL when read-only */
const struct superblock *volume_superblock(const struct volume *v);
uint64_t volume_size_sectors(const struct volume *v);

/* ---- looking up ---- */

/* The first run at or after lba in objects, cut to [lba, lba+len). False: all of it is unmapped. */
struct volume_hit {
	uint64_t lba, len; /* sectors */
	uint32_t slot;
	uint32_t off; /* sectors in the object's data */
};
bool volume_find(const struct volume *v, uint64_t lba, uint64_t len, struct volume_hit *hit);
void volume_ref(const struct volume *v, uint32_t slot, struct object_ref *ref);
void volume_object_name(char out[STORE_NAME_MAX], const char *name, uint64_t epoch, uint64_t seq);

/* "host HOST pid PID since TIME" of the last writer. */
void volume_writer_text(const struct superblock *sb, char *out, size_t len);

/* ---- doing ---- */

/* Everything acknowledged so far in durable, applied objects; cb later, never inside. */
struct volume_drain {
	void (*done)(struct volume_drain *d, int status);
	uint64_t seq;		   /* private: record */
	struct volume_drain *next; /* private */
	struct loop_task task;	   /* private */
	int status;		   /* private */
};
void volume_drain(struct volume *v, struct volume_drain *d);
int volume_drain_wait(struct volume *v) MUST_CHECK; /* blocking */

/* Blocking: run GC until `percent` of the stored data is live, or nothing more can be gained. */
int volume_gc(struct volume *v, unsigned percent) MUST_CHECK;

/* Blocking: a checkpoint now. */
int volume_checkpoint(struct volume *v) MUST_CHECK;

/* Blocking: change the size (the caller checked and discarded). */
int volume_resize(struct volume *v, uint64_t size_sectors, struct err *e) MUST_CHECK;

/* ---- snapshots ---- */

/* A snapshot is made (or removed) with a checkpoint of its own, and is there when the superblock
 * says so: done(), later, never inside.  It holds what was acknowledged when it was asked for, and
 * nothing acknowledged later; I/O goes on meanwhile.  -EEXIST, -ENOENT, -ENOSPC (too many), -EINVAL
 * (name), -EROFS, or what made the volume fail. */
enum volume_snapshot_op { VOLUME_SNAPSHOT_CREATE, VOLUME_SNAPSHOT_REMOVE };
struct volume_snapshot {
	enum volume_snapshot_op op;
	char name[SNAPSHOT_NAME_MAX];
	uint32_t flags; /* of the snapshot: enum snapshot_flags */
	void (*done)(struct volume_snapshot *s, int status);
	/* private */
	uint64_t covers;
	struct volume_snapshot *next;
	struct loop_task task;
	int status;
};
void volume_snapshot(struct volume *v, struct volume_snapshot *s);
int volume_snapshot_wait(struct volume *v, enum volume_snapshot_op op, const char *name,
	struct err *e) MUST_CHECK; /* blocking */

/* Blocking: the volume becomes what the snapshot is.  Nobody may have used it since it was opened,
 * and nothing but volume_close may follow. */
int volume_rollback(struct volume *v, const char *name, struct err *e) MUST_CHECK;

/* What snapshots keep: objects that the volume itself needs no more. */
uint64_t volume_deferred(const struct volume *v, uint64_t *stored_bytes);

/* Load the boot profile; *n 0 when there is none. The caller frees *ranges. Blocking. */
int volume_profile(
	struct volume *v, struct profile_range **ranges, uint32_t *n, struct err *e) MUST_CHECK;

/* ---- facts ---- */
int volume_failed(const struct volume *v); /* 0, or why it is read-only now (I13) */
/* The same in words, "" when it is not. */
void volume_failed_text(const struct volume *v, char *out, size_t len);
/* The writer that it was taken from; "": nobody had it. */
const char *volume_taken_from(const struct volume *v);
/* Records of the journal that objects cover; that the opening found in the pool. */
uint64_t volume_covered(const struct volume *v);
uint64_t volume_replayed(const struct volume *v);
/* Something looks as if another writer were at work: see whether the image is still ours. */
void writer_watch_now(struct volume *v);
void volume_get_stats(const struct volume *v, struct volume_stats *st);
uint64_t volume_objects(const struct volume *v, uint64_t *stored_bytes, uint64_t *live_bytes);
uint64_t volume_base_bytes(const struct volume *v); /* of these, in objects of base images */
uint64_t volume_extents(const struct volume *v);
size_t volume_map_bytes(const struct volume *v); /* extents and object table */
size_t volume_memory_bytes(const struct volume *v);

#endif
