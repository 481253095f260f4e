/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.h - the local SSD: segments, who owns them, and a CRC for every 4 KiB block.
 *
 * A pool is one block device (leg 0) or several mirrored ones, cut into segments.  A segment is the
 * journal of a volume, read cache, or free; its first block is its header.  There is no fixed
 * split: whoever needs a segment takes a free one, or one that a client can do without
 * (pool_client). Journal segments are written to every leg; cache segments live on leg 0.
 *
 * Happy path: pool_take -> write blocks (pool_append) -> read them (pool_read) -> pool_give.
 *
 * Legs come and go while the pool is open (pool_leg_state).  A leg that fails a write or a flush,
 * or lets one wait longer than pool.leg_timeout_ms, is dropped when the others satisfy pool.acks
 * without it; nothing is acknowledged until they durably say so.  It is brought up to date in the
 * background when it is back.  When too few legs would remain, the request fails instead (I13).
 *
 * Blocks are 4 KiB.  pool_write notes the CRC of every block it writes; pool_read checks what it
 * read against that note, tries the next leg when it does not match, and fails with -EBADMSG when
 * none does (I10).  A block whose CRC is not known (a reopened pool, before its owner told) cannot
 * be read with pool_read; pool_read_raw does not check.
 *
 * Loop thread only.  Requests are embedded by the caller.
 */
#ifndef LSVD_POOL_POOL_H
#define LSVD_POOL_POOL_H

#include "sys/bdev.h"
#include "sys/config.h"

#include <stdint.h>

enum { POOL_BLOCK = 4096, POOL_LEGS_MAX = 4 };

enum segment_role { SEGMENT_FREE, SEGMENT_JOURNAL, SEGMENT_CACHE };

struct pool;

/* One segment, owned by the pool, valid while the pool is open. */
struct segment {
	uint32_t index;
	uint8_t role;		     /* enum segment_role */
	uint8_t owner[16];	     /* journal: volume uuid; cache: zero */
	uint64_t epoch;		     /* journal: of the writer */
	uint64_t alloc;		     /* allocation number: pool-wide, rising */
	uint64_t first_seq;	     /* journal: the first record's */
	uint64_t rescued_after;	     /* its header was damaged: comes after this allocation */
	uint32_t pins;		     /* reads in flight; not given away while > 0 */
	struct segment *prev, *next; /* for the owner's list */
	void *user;		     /* the owner's */
};

/* Somebody who holds segments and can part with some of them. */
struct pool_client {
	/* How many segments could be given right now without losing anything. */
	uint32_t (*reclaimable)(struct pool_client *c);
	/* Give the oldest of them with pool_give, now.  False when none could be. */
	bool (*reclaim)(struct pool_client *c);
	struct pool_client *next;
};

/* Called (from the loop, never from inside pool_give) when a segment became free. */
struct pool_waiter {
	void (*wake)(struct pool_waiter *w);
	struct pool_waiter *next;
	bool waiting;
};

struct pool_io {
	struct segment *seg;
	uint32_t block; /* in the segment; 0 is the header, so >= 1 */
	uint32_t blocks;
	void (*done)(struct pool_io *io, int status); /* 0 or -errno; once, never inside the call */
	/* private */
	struct pool *pool;
	void (*over)(struct pool_io *io);
	void (*header_done)(struct pool_io *io, int status); /* done() of a header's owner */
	void *buf;
	struct pool_io *next; /* held */
	struct loop_task task;
	int status;
	uint8_t op;	   /* enum bdev_op */
	uint8_t out, have; /* legs that it waits for; that have it */
	bool raw, giving, early, held, acked, pending_wait;
};

/* The life of a leg; legs.c has the table of moves.
 *
 *              +------------------- drop -----------------+
 *              v                                          |
 *   NEW -> DROPPED -> RESYNCING -> JOINING -> IN_SYNC <-> LAGGING
 *    |         |                                ^
 *    |         +-> REFUSED                      |
 *    +------------------------------------------+
 */
enum pool_leg_state {
	POOL_LEG_NEW,	    /* the pool is being opened */
	POOL_LEG_DROPPED,   /* it gets nothing; tried again now and then */
	POOL_LEG_REFUSED,   /* what is on it is not ours to overwrite: a person must look */
	POOL_LEG_RESYNCING, /* gets all writes, and a copy of what was there before */
	POOL_LEG_JOINING,   /* has everything; the others are being told that it counts */
	POOL_LEG_IN_SYNC,
	POOL_LEG_LAGGING, /* in sync, but a request waits for half of pool.leg_timeout_ms */
};

struct pool_leg_info {
	const char *url, *state, *why; /* why it was dropped last; "" never */
	uint64_t drops, resyncs, resync_bytes;
};

/* What the scan of a pool found, for the owner of a journal. */
struct pool_journal {
	struct segment **segs; /* in order of allocation; the caller frees the array */
	uint32_t count;
};

/* Open by configuration (pool_path, pool_mirror, size ...), creating what is absent.  Blocking:
 * polls the loop.  -EBUSY, -EUCLEAN (not a pool; legs of different pools), -EPROTO, -EINVAL (too
 * small), -ENOTCONN (legs are missing, and one of them may have what the others have not) ... */
int pool_open(
	struct loop *l, const struct config *cfg, struct pool **out, struct err *e) MUST_CHECK;

/* The same on devices that are open already; takes them over, and closes them on failure too.
 * A device whose first 256 KiB are zeroes is formatted.  NULL, or one that is down: a leg that is
 * not there. */
int pool_open_on(struct loop *l, struct bdev **legs, unsigned nlegs, const struct config *cfg,
	struct pool **out, struct err *e) MUST_CHECK;

/* The configured legs as they are; nothing is created.  NULL or down: not there; -ENOTCONN: none
 * is. `legs` has room for POOL_LEGS_MAX. */
int pool_open_devices(struct loop *l, const struct config *cfg, struct bdev **legs, unsigned *n,
	struct err *e) MUST_CHECK;

void pool_close(struct pool *p); /* no request in flight; waits for the legs' own */

/* The devices died with a simulated machine, and are freed: forget them. */
void pool_drop(struct pool *p);

const uint8_t *pool_uuid(const struct pool *p);
uint64_t pool_generation(const struct pool *p); /* rises with every opening, and change of legs */
uint32_t pool_segment_blocks(const struct pool *p); /* header block included */
uint32_t pool_segments(const struct pool *p);
uint32_t pool_free_segments(const struct pool *p);
struct segment *pool_segment(struct pool *p, uint32_t index);
/* True when the pool keeps nothing over a restart (mem: on every leg). */
bool pool_is_volatile(const struct pool *p);

void pool_add_client(struct pool *p, struct pool_client *c);
void pool_remove_client(struct pool *p, struct pool_client *c);

/* Take a segment and write its header; `io->done` when that is complete on the legs, and only then
 * may it be used.  Returns 0 and *out, or -ENOSPC (nothing free, nothing reclaimable): then
 * pool_wait(). */
int pool_take(struct pool *p, enum segment_role role, const uint8_t owner[16], uint64_t epoch,
	uint64_t first_seq, struct segment **out, struct pool_io *io) MUST_CHECK;

/* Give it back, now; pins must be 0.  Its header stays until somebody takes it. */
void pool_give(struct pool *p, struct segment *s);

/* Give it back and write a free header, so that a restart finds it free; nobody can take it before
 * that is complete.  -ENOMEM: given, but done will not be called. */
int pool_give_durably(struct pool *p, struct segment *s, struct pool_io *io) MUST_CHECK;

void pool_wait(struct pool *p, struct pool_waiter *w);
void pool_cancel_wait(struct pool *p, struct pool_waiter *w);

/* A client says that it could give a segment now which it could not give before. */
void pool_poke(struct pool *p);

/* Write `io->blocks` blocks at `io->block` from `buf` (4 KiB aligned, valid until done); `crcs`
 * holds one CRC32C per block, or NULL to have them computed. */
void pool_write(struct pool *p, struct pool_io *io, void *buf, const uint32_t *crcs);

/* The same for a record of a journal.  `done` tells when as many legs as pool.acks says have it
 * (I1); when pool_pending(io) then, others are still at it: `over` follows, and until then io and
 * buf stay as they are. */
void pool_append(struct pool *p, struct pool_io *io, void *buf, const uint32_t *crcs,
	void (*over)(struct pool_io *io));
static inline bool pool_pending(const struct pool_io *io)
{
	return io->out != 0;
}
/* So many records may wait for legs that need not have them: 0 when every leg must. */
uint32_t pool_slack(const struct pool *p);

/* Read and verify into `buf` (4 KiB aligned).  Pins the segment meanwhile. */
void pool_read(struct pool *p, struct pool_io *io, void *buf);

/* Read one leg without checking (scans, replay).  -ENOTCONN when it is not in sync. */
void pool_read_raw(struct pool *p, struct pool_io *io, void *buf, unsigned leg);
unsigned pool_legs(const struct pool *p); /* that are configured */
unsigned pool_legs_in_sync(const struct pool *p);
void pool_leg(const struct pool *p, unsigned leg, struct pool_leg_info *out);

/* The block number in the pool that binds a record to its place. */
uint64_t pool_place(const struct pool *p, const struct segment *s, uint32_t block);

/* Write to one leg only (replay mends a leg from the other).  One that is not there is told when it
 * comes back, and no error. */
void pool_write_leg(struct pool *p, struct pool_io *io, void *buf, unsigned leg);

/* Tell the CRCs of blocks found on disk (from a record header or a segment summary). */
void pool_note_crcs(
	struct pool *p, struct segment *s, uint32_t block, uint32_t blocks, const uint32_t *crcs);
uint32_t pool_crc(const struct pool *p, const struct segment *s, uint32_t block);
/* Of this block and those behind it in the segment; 0: not known, 1: 1 or 0. */
const uint32_t *pool_crcs(const struct pool *p, const struct segment *s, uint32_t block);

/* Flush: all writes that were done before are durable on as many legs as pool.acks says (I2). */
void pool_flush(struct pool *p, struct pool_io *io);

/* The journal segments of a volume that a scan found (those not covered yet are for the volume to
 * decide); and all cache segments. */
int pool_find(struct pool *p, enum segment_role role, const uint8_t owner[16],
	struct pool_journal *out) MUST_CHECK;

/* Run an operation to its end by polling the loop (open paths only):
 *   pool_io_awaited(&io); pool_read(p, &io, buf); rc = pool_wait_io(p, &io); */
void pool_io_awaited(struct pool_io *io);
int pool_wait_io(struct pool *p, struct pool_io *io) MUST_CHECK;

#endif
