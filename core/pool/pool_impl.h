/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pool_impl.h - the pool's inside: segments (pool.c), requests (io.c), legs (legs.c, resync.c),
 * opening (open.c, scan.c). */
#ifndef LSVD_POOL_POOL_IMPL_H
#define LSVD_POOL_POOL_IMPL_H

#include "format/segment.h"
#include "pool/pool.h"

enum {
	COPY_BYTES = 256 << 10,	 /* a piece of a resync; divides every segment */
	BLANK_BYTES = 256 << 10, /* so much is zero on a device that nobody uses */
};

/* Memory for a header block on its way to the legs; kept for the next one. */
struct header_buf {
	uint8_t block[POOL_BLOCK];
	struct header_buf *next_all, *next_free;
};

/* A request to one leg.  The pool's own, so that a leg which hangs can be given up: then nobody
 * waits for it any more (`answer` is NULL), and it stays until the device lets go. */
struct leg_req {
	struct bdev_req r;
	struct iovec iov;
	struct leg *leg;
	struct pool_io *io; /* NULL: the leg's own */
	struct leg *whose;  /* ... or another's, that is copied from it */
	/* Called once: with the device's status, or -ECANCELED when the leg was dropped. */
	void (*answer)(struct leg_req *q, int status);
	uint64_t no;	/* a flush that waits: for those up to this one */
	uint64_t at_ns; /* submitted */
	struct leg_req *prev, *next;
};

struct leg_list {
	struct leg_req *first, *last;
};

/* What is being copied to a leg that was away. */
struct resync {
	uint32_t seg;	  /* next */
	uint64_t off;	  /* in it */
	uint64_t at, len; /* the piece that is on its way; len 0: none */
	unsigned tried;	  /* legs that could not read the piece */
	bool reading;	  /* another leg, into our memory */
};

struct leg {
	struct pool *pool;
	struct bdev *dev; /* NULL: could not be opened */
	unsigned index;
	enum pool_leg_state state;
	struct leg_list flying; /* at the device, in the order of submission */
	struct leg_list waits;	/* for the piece that is being copied, or (flushes) for others */
	uint32_t in_flight;	/* at the device, those given up included */
	uint64_t submitted,
		late; /* late: up to this one, some were acknowledged without this leg */
	struct loop_timer retry;
	unsigned tries;
	bool flushed; /* joining: what it holds is durable */
	void *buf;    /* BLANK_BYTES, for its own requests */
	struct resync copy;
	uint64_t drops, resyncs, resync_bytes;
	char url[256], why[160];
};

struct pool {
	struct loop *loop;
	struct leg legs[POOL_LEGS_MAX];
	unsigned nlegs;
	uint8_t voters;	 /* legs that are in sync */
	uint8_t targets; /* legs that get what is written: also those that are being brought up to
			  * date */
	uint8_t acks;	 /* legs that must have a record; 0 all */
	bool any;	 /* open with whatever leg is there */
	uint64_t timeout_ns;
	uint8_t uuid[16];
	uint64_t generation, created_ns;
	uint64_t opening[POOL_OPENINGS];
	uint64_t joined;      /* the generation in which a leg last became a member; 0 unknown */
	uint64_t first_bytes; /* where segment 0 begins */
	uint64_t segment_bytes;
	uint32_t seg_blocks, nsegs, nfree;
	uint64_t last_alloc;
	struct segment *segs;
	struct segment *free, **free_tail;
	uint32_t *crc; /* of every block; 0 unknown */
	struct pool_client *clients;
	struct pool_waiter *waiters, **waiters_tail;
	struct loop_task wake_task;
	struct header_buf *header_bufs, *free_bufs;
	struct leg_req *free_reqs, *slabs; /* a slab: many requests, linked by its first's prev */
	uint32_t nfree_reqs;
	struct loop_timer watch; /* for legs that lag; armed while something is in flight */
	/* a change of members: nothing is acknowledged until the legs know of it */
	bool changing, again;
	unsigned change_pending;
	uint8_t change_members, recorded; /* of the generation that begins; of the last that did */
	struct pool_io *held, **held_tail;
	int failed; /* a change could not be recorded */
	bool open;  /* legs that are away are tried again */
};

static inline uint8_t leg_bit(const struct leg *g)
{
	return (uint8_t)(1u << g->index);
}
static inline unsigned legs_in(uint8_t mask)
{
	return (unsigned)__builtin_popcount(mask);
}
static inline uint64_t header_at(const struct pool *p, uint32_t index)
{
	return p->first_bytes + (uint64_t)index * p->segment_bytes;
}

/* pool.c */
void pool_init_lists(struct pool *p);
void pool_push_free(struct pool *p, struct segment *s);
void pool_io_woken(struct pool_io *io, int status);

/* io.c */
uint32_t *pool_crc_slot(const struct pool *p, const struct segment *s, uint32_t block);
/* Write `io` (seg, block, blocks) from `buf` to every leg that gets anything; all must have it. */
void pool_write_all(struct pool *p, struct pool_io *io, void *buf);
/* Complete `io` with `status`, later. */
void pool_later(struct pool_io *io, int status);
void pool_judge(struct pool_io *io);
void pool_release_held(struct pool *p);
/* A request of the pool's own to this leg, on behalf of `whose`: `buf` stays until answer(). */
void leg_own(struct leg *g, enum bdev_op op, uint64_t at, void *buf, uint64_t len,
	struct leg *whose, void (*answer)(struct leg_req *q, int status));
void leg_own_revive(struct leg *g, void (*answer)(struct leg_req *q, int status));
/* Nobody waits for this leg any more. */
void leg_give_up(struct leg *g);
/* Submit what waited for the piece that was copied. */
void leg_unblock(struct leg *g);
/* Is a write to these bytes in flight on some leg? */
bool pool_writes_at(const struct pool *p, uint64_t at, uint64_t len);
/* The first requests; more are made when they are needed, never given back. */
int pool_make_reqs(struct pool *p) MUST_CHECK;
void pool_free_reqs(struct pool *p);

/* legs.c */
void leg_init(struct pool *p, unsigned i, struct bdev *d, const char *url);
/* The one place where a state changes. */
void leg_move(struct leg *g, enum pool_leg_state to);
/* A request of it failed, or took too long: drop it, when the others will do.  False: they do not,
 * so whoever asked must hear of it. */
bool leg_failed(struct leg *g, int status, const char *what);
void leg_drop(struct leg *g, const char *why);
/* A generation begins in which `voters`, and legs that have joined, are the members. */
void pool_change(struct pool *p);
void pool_watch(struct pool *p);
/* Legs that are away are tried from now on. */
void legs_start(struct pool *p);
void legs_stop(struct pool *p);

/* resync.c */
void resync_start(struct leg *g);
void resync_go_on(struct pool *p);
void resync_stop(struct leg *g);
/* Is this write in the way of the piece that is being copied? */
static inline bool resync_blocks(const struct leg *g, uint64_t at, uint64_t len)
{
	return g->copy.len && at < g->copy.at + g->copy.len && g->copy.at < at + len;
}

/* scan.c */
/* One blocking request to one device at an absolute place. */
struct dev_io {
	struct bdev_req req;
	struct iovec iov;
	int status;
	bool over;
};
void dev_io_start(
	struct dev_io *io, struct bdev *d, enum bdev_op op, uint64_t at, void *buf, size_t len);
int dev_io_wait(struct dev_io *io, struct loop *l) MUST_CHECK;
int dev_io(struct bdev *d, enum bdev_op op, uint64_t at, void *buf, size_t len) MUST_CHECK;
int pool_scan(struct pool *p, uint8_t in_sync, struct err *e) MUST_CHECK;

/* open.c */
void pool_header_of(const struct pool *p, unsigned leg, uint8_t members, void *block);

#endif
