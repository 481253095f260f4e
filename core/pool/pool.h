/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.h - the local SSD: segments, who owns them, and a CRC for every 4 KiB block.
 *
 * A pool is one block device (leg 0) or several mirrored ones, cut into segments.  A segment is the
 * journal of a volume, read cache, or free; its first block is its header.  There is no fixed
 * split: whoever needs a segment takes a free one, or one that a client can do without
 * (pool_client). Journal segments are written to every leg; cache segments live on leg 0.
 *
 * Happy path: pool_take -> write blocks (pool_write) -> read them (pool_read) -> pool_give.
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

enum { POOL_BLOCK = 4096, POOL_LEGS_MAX = 2, POOL_IOV_MAX = 64 };

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
	struct bdev_req leg[POOL_LEGS_MAX];
	struct iovec iov[POOL_LEGS_MAX];
	uint8_t pending;
	bool raw, giving, pending_wait;
	int status;
	void *buf;
};

/* What the scan of a pool found, for the owner of a journal. */
struct pool_journal {
	struct segment **segs; /* in order of allocation; the caller frees the array */
	uint32_t count;
};

/* Open by configuration (pool_path, pool_mirror, size ...), creating what is absent.  Blocking:
 * polls the loop.  -EBUSY, -EUCLEAN (not a pool; legs of different pools), -EPROTO, -EINVAL (too
 * small) ... */
int pool_open(
	struct loop *l, const struct config *cfg, struct pool **out, struct err *e) MUST_CHECK;

/* The same on devices that are open already; takes them over, and closes them on failure too.
 * A device whose first 256 KiB are zeroes is formatted. */
int pool_open_on(struct loop *l, struct bdev **legs, unsigned nlegs, const struct config *cfg,
	struct pool **out, struct err *e) MUST_CHECK;

void pool_close(struct pool *p); /* nothing in flight; writes nothing */

/* The devices died with a simulated machine, and are freed: forget them. */
void pool_drop(struct pool *p);

const uint8_t *pool_uuid(const struct pool *p);
uint64_t pool_generation(const struct pool *p);	    /* rises with every opening */
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

/* Read and verify into `buf` (4 KiB aligned).  Pins the segment meanwhile. */
void pool_read(struct pool *p, struct pool_io *io, void *buf);

/* Read one leg without checking (scans, replay). */
void pool_read_raw(struct pool *p, struct pool_io *io, void *buf, unsigned leg);
unsigned pool_legs(const struct pool *p);

/* The block number in the pool that binds a record to its place. */
uint64_t pool_place(const struct pool *p, const struct segment *s, uint32_t block);

/* Write to one leg only (replay mends a leg from the other). */
void pool_write_leg(struct pool *p, struct pool_io *io, void *buf, unsigned leg);

/* Tell the CRCs of blocks found on disk (from a record header or a segment summary). */
void pool_note_crcs(
	struct pool *p, struct segment *s, uint32_t block, uint32_t blocks, const uint32_t *crcs);
uint32_t pool_crc(const struct pool *p, const struct segment *s, uint32_t block);
/* Of this block and those behind it in the segment; 0: not known, 1: 1 or 0. */
const uint32_t *pool_crcs(const struct pool *p, const struct segment *s, uint32_t block);

/* Flush every leg: all writes that completed before are durable afterwards (I2). */
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
