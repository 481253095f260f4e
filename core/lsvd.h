/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lsvd.h - liblsvd: log-structured virtual disks.
 *
 * Writes are acknowledged from a local journal (the pool), gathered into large immutable objects
 * and put, in order, into an object store.  An image is named STORE-URL/NAME: `file:/srv/vols/vm1`,
 * and a snapshot of it `file:/srv/vols/vm1@monday`.
 *
 *   struct lsvd_config *cfg = lsvd_config_new();
 *   struct lsvd_ctx *ctx;
 *   struct lsvd_image *img;
 *   char why[LSVD_ERR_MAX];
 *
 *   lsvd_config_set(cfg, "pool.path", "file:/var/lib/lsvd/pool", why);
 *   if (lsvd_ctx_open(cfg, LSVD_DRIVE_THREAD, &ctx, why) < 0 ||
 *       lsvd_image_open(ctx, "file:/srv/vols/vm1", 0, &img, why) < 0)
 *           errx(1, "%s", why);
 *   lsvd_pwrite(img, buf, 4096, 0);
 *   lsvd_flush(img);
 *   lsvd_image_close(img, why);
 *   lsvd_ctx_close(ctx);
 *   lsvd_config_free(cfg);
 *
 * Drives.  LSVD_DRIVE_THREAD: the library runs its loop on a thread of its own; every call is
 * allowed from any thread.  LSVD_DRIVE_INLINE: the caller's thread is the loop while it calls
 * lsvd_poll() or a blocking function; submit and poll from one thread at a time.  A context that
 * nobody polls for some milliseconds is driven by a caretaker thread until the caller is back, so
 * destaging, timers and leases never wait for the caller.
 *
 * Errors are negative errno values; `why` (LSVD_ERR_MAX bytes, or NULL) says what, where, what to
 * do. A crash of the process loses nothing that was acknowledged; a crash of the machine nothing
 * that was acknowledged before a completed flush.
 */
#ifndef LSVD_H
#define LSVD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LSVD_API __attribute__((visibility("default")))
#define LSVD_ERR_MAX 512
#define LSVD_SECTOR 512u

/* The library's version, "MAJOR.MINOR.PATCH". */
LSVD_API const char *lsvd_version(void);

/* ---- configuration: defaults < system file < user file < per-image section < option ---- */

struct lsvd_config;

/* Defaults, then /etc/lsvd.json, then $XDG_CONFIG_HOME/lsvd/lsvd.json, as far as they exist.
 * NULL and a message when a file is malformed or memory is out. */
LSVD_API struct lsvd_config *lsvd_config_new(char *why);
LSVD_API struct lsvd_config *lsvd_config_defaults(void); /* no files */
LSVD_API void lsvd_config_free(struct lsvd_config *cfg);

/* Read a JSON file on top.  -EINVAL: an unknown key (the nearest known one is named) or a bad
 * value. */
LSVD_API int lsvd_config_load(struct lsvd_config *cfg, const char *path, char *why);

/* One option, strongest of all: lsvd_config_set(cfg, "pool.size", "4G", why). */
LSVD_API int lsvd_config_set(
	struct lsvd_config *cfg, const char *key, const char *value, char *why);

/* The effective value of `key` for `image` (NULL: none) as text, and where it came from
 * ("default", a file's name, "image section in FILE", "option").  NULL for an unknown key; the
 * strings live as long as cfg and until the next call. */
LSVD_API const char *lsvd_config_get(
	struct lsvd_config *cfg, const char *image, const char *key, const char **origin);

/* The known keys, one by one: NULL at the end.  help: one line. */
LSVD_API const char *lsvd_config_key(size_t i, const char **help);

/* ---- context: a pool, a loop, a configuration ---- */

struct lsvd_ctx;

enum lsvd_drive { LSVD_DRIVE_INLINE, LSVD_DRIVE_THREAD };

/* Opens (creates when absent) the pool.  The context keeps a copy of cfg.  -EBUSY: the pool belongs
 * to another process; -EUCLEAN: it is not a pool, or damaged. */
LSVD_API int lsvd_ctx_open(
	const struct lsvd_config *cfg, enum lsvd_drive drive, struct lsvd_ctx **ctx, char *why);

/* Open the pool now, rather than with the first image that is opened for writing: for who opens read-only images first,
 * which then have the pool's cache.  0 when it is open already. */
LSVD_API int lsvd_ctx_open_pool(struct lsvd_ctx *ctx, char *why);

/* Every image must be closed. */
LSVD_API void lsvd_ctx_close(struct lsvd_ctx *ctx);

/* Use the caller's connection for `rados:POOL` or `rados:POOL/NAMESPACE`, whatever rados.conf and rados.user
 * say: that of a rados_ioctx_t of this pool and namespace.  The ioctx may be destroyed afterwards;
 * the cluster stays connected until the context is closed.  -EINVAL: it is of another pool or
 * namespace; -EOPNOTSUPP: built without RADOS. */
LSVD_API int lsvd_ctx_rados_ioctx(struct lsvd_ctx *ctx, const char *url, void *ioctx, char *why);

/* Inline drive: run what is ready, completions included; when nothing is, wait up to wait_ns (-1:
 * until something is).  Returns the number of events. */
LSVD_API int lsvd_poll(struct lsvd_ctx *ctx, int64_t wait_ns);

/* ---- images: administration (blocking) ---- */

struct lsvd_image;

enum lsvd_open_flags {
	LSVD_OPEN_READONLY = 1,	  /* needs no lock, changes nothing */
	LSVD_OPEN_NO_JOURNAL = 2, /* open although the last writer's journal is not here: what it
				   * had not put into the store is given up */
	LSVD_OPEN_STEAL = 4,	  /* take it over from a writer that has it, be it alive, stopped or
				   * out of reach.  That writer gets -ESTALE from its next change of
				   * the superblock on, or `writer.check_ms` later, and nothing that it
				   * writes is seen any more.  Its journal is in its pool: unless that
				   * is ours, LSVD_OPEN_NO_JOURNAL is needed, too, and what it had
				   * acknowledged and not put into the store is lost */
	LSVD_OPEN_OLD_JOURNAL = 8, /* bring in the journal that this pool holds of a writer that lost
				    * the image, if nobody has written to it since */
};

struct lsvd_image_info {
	char url[640], name[65];
	char uuid[37];
	uint64_t size_bytes;
	uint64_t epoch;	       /* of the last writer */
	uint64_t objects;      /* data objects in the store */
	uint64_t stored_bytes; /* their bytes */
	uint64_t live_bytes;   /* of these, data the map points to */
	uint64_t extents;      /* in the map */
	bool clean;	       /* the last writer closed it */
	char last_writer[128]; /* "host HOST pid PID since TIME" */
	char snapshot[64];     /* that it is open at, read-only; "": as it is */
	unsigned snapshots;    /* how many it has */
	uint64_t kept_objects; /* that only snapshots need; not counted above */
	uint64_t kept_bytes;
	char base[65];	       /* image that it is a clone of, "" if it is none ... */
	uint64_t base_bytes;   /* ... and how much of stored_bytes is the base's */
	uint64_t covered;      /* journal records up to this one are in objects */
	/* of one that is open for writing: */
	uint64_t replayed;     /* records that opening it found in the pool's journal */
	char taken_from[256];  /* the writer that it was stolen from, and what of it is lost; "" */
	char failed[192];      /* why it is read-only now; "" it is not */
};

/* size: a multiple of 512, > 0, at most 256 TiB.  -EEXIST. */
LSVD_API int lsvd_image_create(
	struct lsvd_ctx *ctx, const char *url, uint64_t size_bytes, char *why);

/* Takes the image for writing (or reads it only).  -EBUSY names the present writer; -ESTALE says
 * whose journal is missing, or which one is in the way, and what can be done.  IMAGE@SNAPSHOT
 * is read only, and nothing changes it. */
LSVD_API int lsvd_image_open(
	struct lsvd_ctx *ctx, const char *url, unsigned flags, struct lsvd_image **img, char *why);

/* Destages everything, writes a checkpoint, gives the image back.  I/O must have completed.  When
 * the store does not take it (-EIO, -ENOSPC ...) the image is closed all the same and what is dirty
 * stays in the pool's journal for the next open. */
LSVD_API int lsvd_image_close(struct lsvd_image *img, char *why);

/* Deletes the image, its snapshots, its objects and its pool segments.  -EBUSY while open anywhere, or
 * while it has clones, which are named. */
LSVD_API int lsvd_image_remove(struct lsvd_ctx *ctx, const char *url, char *why);

/* Calls fn for each image of a store, in order of name; stops when it returns non-zero. */
LSVD_API int lsvd_image_list(struct lsvd_ctx *ctx, const char *store_url,
	int (*fn)(void *arg, const char *name), void *arg, char *why);

/* Facts about a closed image. */
LSVD_API int lsvd_image_stat(
	struct lsvd_ctx *ctx, const char *url, struct lsvd_image_info *info, char *why);

/* Facts about an open image. */
LSVD_API int lsvd_image_info(struct lsvd_image *img, struct lsvd_image_info *info);
LSVD_API uint64_t lsvd_image_size(const struct lsvd_image *img);

/* Calls fn for each run of the range that holds data, in order, cut to the range; what is between
 * reads as zeroes.  Runs may touch.  Stops when fn returns non-zero, and returns that; fn may call no
 * function of this library.  Writes that are in flight may be seen or not.  -EINVAL: the range is not
 * within the image, or not of whole sectors. */
LSVD_API int lsvd_image_extents(struct lsvd_image *img, uint64_t offset_bytes, uint64_t len_bytes,
	int (*fn)(void *arg, uint64_t offset_bytes, uint64_t len_bytes), void *arg);

/* Grow, or shrink (what lies beyond the new end must be unmapped, or force).  I/O may go on; while it
 * shrinks, requests beyond the new end are refused, and writes there that are in flight are cut.
 * What was cut off reads as zeroes when the image grows again.  A crash leaves the one size or the
 * other. */
LSVD_API int lsvd_image_resize(struct lsvd_image *img, uint64_t size_bytes, bool force, char *why);

/* Everything acknowledged so far is in durable objects when it returns. */
LSVD_API int lsvd_image_drain(struct lsvd_image *img);

/* Run garbage collection until the utilisation target (percent live) is met.  0, or -errno. */
LSVD_API int lsvd_image_gc(struct lsvd_image *img, unsigned target_percent);

/* ---- journals in the pool ---- */

/* What the pool holds of one volume's journal. */
struct lsvd_journal_info {
	char uuid[37];	     /* of the volume */
	uint64_t epoch;	     /* of the newest writer */
	uint64_t segments;   /* of the pool */
	uint64_t records, bytes; /* bytes: of data */
	uint64_t first_record, last_record; /* numbers; 0: there is none */
};

/* Calls fn for each volume that the context's pool has a journal of and that is not open; stops when
 * it returns non-zero.  Reads all of these journals. */
LSVD_API int lsvd_journal_list(struct lsvd_ctx *ctx,
	int (*fn)(void *arg, const struct lsvd_journal_info *j), void *arg, char *why);

/* Give up the journal that the pool holds of this volume: what is not in the store is lost.
 * -ENOENT: there is none; -EBUSY: the image is open. */
LSVD_API int lsvd_journal_discard(struct lsvd_ctx *ctx, const char *uuid, char *why);

/* ---- snapshots ---- */

struct lsvd_snapshot_info {
	uint64_t id;
	char name[64];
	uint64_t size_bytes;
	uint64_t object;     /* the last data object before it */
	uint64_t created_ns; /* wall clock */
	bool automatic;	     /* made for clones; goes with the last of them */
};

/* Keep the image as it is now: all that was acknowledged before the call, nothing that is
 * acknowledged after it returned, and of what is in flight all up to some point between two
 * acknowledged writes.  I/O goes on meanwhile.  What it costs depends on what changed since the
 * last checkpoint, not on the image.  Blocking.  -EEXIST, -EINVAL (1 to 63 of [A-Za-z0-9._-], no
 * dot in front), -ENOSPC (512 at most), -EROFS. */
LSVD_API int lsvd_snapshot_create(struct lsvd_image *img, const char *name, char *why);

/* -ENOENT; -EBUSY: it has clones, which are named, or this process has it open.  Other processes
 * that have it open get errors (-ESTALE). */
LSVD_API int lsvd_snapshot_remove(struct lsvd_image *img, const char *name, char *why);

/* Calls fn for each, the oldest first; stops when it returns non-zero. */
LSVD_API int lsvd_snapshot_list(struct lsvd_ctx *ctx, const char *url,
	int (*fn)(void *arg, const struct lsvd_snapshot_info *s), void *arg, char *why);

/* The image, which must not be open, becomes what it was at IMAGE@SNAPSHOT, its size too.  All
 * snapshots stay.  A crash leaves the one state or the other.  -EBUSY names the present writer. */
LSVD_API int lsvd_snapshot_rollback(struct lsvd_ctx *ctx, const char *url, char *why);

/* ---- clones ---- */

/* A new image `url` (in the same store) that is what `base` is: IMAGE@SNAPSHOT, or an IMAGE that was
 * closed cleanly, of which a snapshot is kept as long as it has clones.  A few small requests,
 * whatever its size; data is shared until it is overwritten, and so is the read cache.  -ENOENT,
 * -EEXIST, -EBUSY (the image is open, or being removed), -ENOSPC (32 on top of each other, 2000 of
 * one). */
LSVD_API int lsvd_clone(struct lsvd_ctx *ctx, const char *base, const char *url, char *why);

struct lsvd_clone_info {
	char name[80];
	char uuid[37];
	uint64_t snapshot; /* of the base, by id */
	bool exists;	   /* else what a crash left; it hinders nobody */
};

/* Calls fn for each clone of an image; stops when it returns non-zero. */
LSVD_API int lsvd_clone_list(struct lsvd_ctx *ctx, const char *url,
	int (*fn)(void *arg, const struct lsvd_clone_info *c), void *arg, char *why);

struct lsvd_base_info {
	char name[80];
	char uuid[37];
	uint64_t snapshot; /* of that image, by id */
	uint64_t object;   /* data objects up to this one are its */
};

/* Calls fn for the image's base, then for the base's base, and so on. */
LSVD_API int lsvd_base_list(struct lsvd_ctx *ctx, const char *url,
	int (*fn)(void *arg, const struct lsvd_base_info *b), void *arg, char *why);

/* Copy what the image has in its base, and leave the base.  I/O may go on; it may be cut short and
 * begun again.  `progress` (may be NULL) is called now and then; -ECANCELED when it returns
 * non-zero.  -EBUSY: snapshots of the image need the base, too. */
LSVD_API int lsvd_image_flatten(struct lsvd_image *img,
	int (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes), void *arg, char *why);

/* ---- I/O ---- */

enum lsvd_op { LSVD_READ, LSVD_WRITE, LSVD_FLUSH, LSVD_DISCARD, LSVD_WRITE_ZEROES };
enum lsvd_io_flags { LSVD_FUA = 1 }; /* write: durable when it completes */

/* One request.  The caller owns it and its memory and touches neither until cb fired.  Zero it once
 * before the first use; it may then be reused without zeroing. */
struct lsvd_io {
	enum lsvd_op op;
	unsigned flags;
	uint64_t offset_bytes; /* multiples of 512, within the image */
	uint64_t len_bytes;    /* multiples of 512; the sum of iov for reads and writes */
	const struct iovec *iov;
	int iovcnt;
	void (*cb)(struct lsvd_io
			*io); /* fires once, on the loop's thread, never inside lsvd_submit */
	void *user;
	int status;	   /* out: 0 or -errno */
	uint64_t priv[24]; /* the library's */
};

/* Returns 0, and cb fires later, exactly once; or -errno (-EINVAL unaligned or beyond the end,
 * -EROFS, -ESTALE when another writer took the image over, -ESHUTDOWN), and cb never fires.  Inline drive: the polling thread.  Thread drive: any
 * thread. Writes of up to 128 KiB are atomic under a crash; larger ones are cut into such pieces.
 * A write is in order with those acknowledged before it was submitted; a flush covers exactly
 * these. */
LSVD_API int lsvd_submit(struct lsvd_image *img, struct lsvd_io *io);

/* Blocking conveniences; 0 or -errno.  Any thread with thread drive; inline drive: the polling
 * thread. */
LSVD_API int lsvd_pread(
	struct lsvd_image *img, void *buf, uint64_t len_bytes, uint64_t offset_bytes);
LSVD_API int lsvd_pwrite(
	struct lsvd_image *img, const void *buf, uint64_t len_bytes, uint64_t offset_bytes);
LSVD_API int lsvd_flush(struct lsvd_image *img);
LSVD_API int lsvd_discard(struct lsvd_image *img, uint64_t len_bytes, uint64_t offset_bytes);
LSVD_API int lsvd_write_zeroes(struct lsvd_image *img, uint64_t len_bytes, uint64_t offset_bytes);

/* A completion queue for threads that are not the loop (thread drive): requests submitted through
 * it are not called back but reaped, and an eventfd tells poll(2) when some are there.  Any thread. */
struct lsvd_queue;
LSVD_API int lsvd_queue_new(struct lsvd_ctx *ctx, unsigned depth, struct lsvd_queue **q, char *why);
LSVD_API void lsvd_queue_free(struct lsvd_queue *q);
/* -EAGAIN when `depth` requests are out. */
LSVD_API int lsvd_queue_submit(struct lsvd_queue *q, struct lsvd_image *img, struct lsvd_io *io);
/* Up to `max` completed requests into ios[]; waits up to wait_ns (-1: forever) for the first `min`.
 */
LSVD_API int lsvd_queue_reap(
	struct lsvd_queue *q, struct lsvd_io **ios, unsigned min, unsigned max, int64_t wait_ns);
/* The eventfd, which is kept readable while requests are there from the first call on; without one,
 * waiting costs fewer system calls. */
LSVD_API int lsvd_queue_fd(struct lsvd_queue *q);

/* ---- what happened: statistics and traces ---- */

struct lsvd_latency {
	uint64_t count, mean_ns, p50_ns, p99_ns, p999_ns, max_ns;
};

struct lsvd_stats {
	uint64_t reads, writes, flushes, discards, write_zeroes;
	uint64_t read_bytes, write_bytes;
	struct lsvd_latency read_latency, write_latency, flush_latency;
	/* bytes of reads by who served them */
	uint64_t hit_journal_bytes, hit_cache_bytes, hit_prefetch_bytes, miss_bytes, zero_bytes;
	uint64_t puts, gets, deletes; /* requests to the store by this image */
	uint64_t put_bytes, get_bytes;
	uint64_t journal_bytes, journal_records, journal_flushes;
	uint64_t batch_bytes; /* client bytes put into data objects, after coalescing */
	uint64_t gc_bytes;    /* moved by garbage collection */
	uint64_t gc_objects;  /* collected */
	uint64_t checkpoint_bytes, checkpoints;
	uint64_t prefetch_bytes, prefetch_wasted_bytes; /* fetched ahead; never read by anyone */
	uint64_t dirty_bytes;	    /* acknowledged, not yet in durable objects */
	uint64_t stalled_ns;	    /* total time writes waited for room */
	uint64_t store_errors;	    /* retried */
	uint64_t syscalls;	    /* io_uring_enter and friends, of the whole context */
	double write_amplification; /* (put_bytes of data and GC objects) / write_bytes */
};

/* Any thread (thread drive); the polling thread (inline). */
LSVD_API int lsvd_image_stats(struct lsvd_image *img, struct lsvd_stats *st);

/* The same as JSON text; the caller frees it.  NULL when memory is out. */
LSVD_API char *lsvd_image_stats_json(struct lsvd_image *img);

/* The legs of a context's pool. */
struct lsvd_leg {
	char url[256];
	char state[16]; /* "in sync", "lagging", "joining", "resyncing", "dropped", "refused" */
	char why[160];	/* it was dropped last; "": never */
	uint64_t drops, resyncs, resync_bytes;
};

/* Up to `max` of them into legs[]; returns how many there are, 0 while no pool is open. */
LSVD_API unsigned lsvd_ctx_legs(struct lsvd_ctx *ctx, struct lsvd_leg *legs, unsigned max);

/* What an operator should hear of although no call failed (a leg was dropped, is back ...): one line
 * each, to `fn`, on any thread, which may call no function of this library; NULL: to stderr. */
LSVD_API void lsvd_set_log(void (*fn)(void *arg, const char *text), void *arg);

/* Record every request to `path` (format: docs/FORMAT.md, "trace") from now on; NULL stops.  Never
 * blocks the data path: what cannot be kept is counted as dropped. */
LSVD_API int lsvd_image_trace(struct lsvd_image *img, const char *path, char *why);

#ifdef __cplusplus
}
#endif
#endif
