/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev.h - a block device on a loop: a file or partition (O_DIRECT), memory, an NBD export, or a
 * simulated disk.
 *
 * URLs: `file:PATH` (regular file, or block device), `mem:SIZE` (contents are lost at close), and
 * `nbd://HOST[:PORT]/EXPORT`, `nbd+unix:///EXPORT?socket=PATH` and their `nbds` forms (TLS).
 * Reads and writes are of whole sectors (`sector_bytes`, 512 or 4096) from memory aligned to it.
 *
 * A write that completed is readable at once; it is durable after a flush submitted later
 * completed. Before that a machine crash may lose it, keep it, or tear it at sector boundaries.  A
 * write that failed leaves old or new contents, sector by sector; one that overlaps another in
 * flight, either. A discarded range reads as what it was or as zeroes until it is written again.
 * After a failed flush the writes it should have covered may be lost, whatever a later flush says.
 *
 * An NBD export can go `down`: everything in flight fails, and what is submitted fails, with
 * -ENOTCONN until bdev_revive() succeeded.  What it holds then need not be what it held before.
 *
 * Loop thread only.  Requests are embedded by the caller and untouched by it until done().
 */
#ifndef LSVD_SYS_BDEV_H
#define LSVD_SYS_BDEV_H

#include "sys/loop.h"
#include "sys/loop_uring.h"

#include <sys/uio.h>

enum bdev_op { BDEV_READ, BDEV_WRITE, BDEV_FLUSH, BDEV_DISCARD };

struct bdev_req {
	enum bdev_op op;
	uint64_t offset_bytes;
	uint64_t len_bytes; /* the sum of iov, or the length to discard; 0 for a flush */
	struct iovec *iov;  /* valid until done; a short transfer changes it, and iov, iovcnt */
	int iovcnt;
	/* 0 or -errno; fires once, never inside submit */
	void (*done)(struct bdev_req *r, int status);
	void *owner; /* the caller's */
	/* private to the device */
	struct bdev *dev;
	struct uring_op uring;
	struct loop_timer timer;
	struct loop_task task;
	struct bdev_req *next;
	uint64_t moved_bytes;
	int status;
};

struct bdev;
struct bdev_ops {
	void (*submit)(struct bdev *d, struct bdev_req *r);
	void (*close)(struct bdev *d);
	/* NULL: it cannot; see bdev_abort, bdev_revive */
	void (*abort)(struct bdev *d);
	void (*revive)(struct bdev *d, struct bdev_req *r);
};

struct bdev {
	const struct bdev_ops *ops;
	struct loop *loop;
	uint64_t size_bytes;
	uint32_t sector_bytes; /* alignment of offsets, lengths and memory */
	bool memory;	       /* no durability at all; flush is a formality */
	bool readonly;	       /* writes, flushes and discards are not submitted */
	bool down;	       /* the connection is lost */
	char url[256];
	/* Called from the loop, never inside a call, when it went down; NULL: nobody cares. */
	void (*lost)(struct bdev *d);
	void *owner; /* the caller's */
};

enum bdev_flags {
	/* file: create when absent, with `create_bytes`, fully allocated and written */
	BDEV_CREATE = 1,
	/* Take the one-owner lock (OFD lock); -EBUSY when another opener has it.  The NBD protocol
	 * has no lock: whoever is told of the same export gets it. */
	BDEV_LOCK = 2,
	BDEV_READONLY = 4,
	BDEV_DOWN_OK = 8, /* nbd: a server that does not answer gives a device that is down */
	BDEV_AT_ONCE = 16, /* file: do not wait for a lock that a killed process may still hold */
};

/* Opens by URL.  -ENOENT, -EBUSY, -EINVAL (odd size, not a file or block device), ... with a
 * message. An existing file is used as it is; its size is rounded down to 4096.  With BDEV_CREATE
 * an empty file counts as absent; a creation that fails leaves no file, one that is killed leaves
 * zeroes at worst: so judge by the contents whether a device is blank.  Creating and opening block;
 * completions do not. `created`, when not NULL, tells whether the device was made by this call
 * (mem: always). */
int bdev_open(struct loop *l, const char *url, unsigned flags, uint64_t create_bytes,
	struct bdev **out, bool *created, struct err *e) MUST_CHECK;

/* Submits; checks range and alignment by assert (callers are ours). */
void bdev_submit(struct bdev *d, struct bdev_req *r);

/* Make everything in flight fail, soon: a device that hangs is given up.  The memory of its
 * requests is no longer looked at when this returns, but they complete later, as ever.  False: this
 * kind of device cannot (a disk may still read their memory). */
bool bdev_abort(struct bdev *d);

/* Try to bring a device back that is down; nothing may be in flight.  r->done tells, with 0 at once
 * for one that is up; only `done` and `owner` of `r` are used.  Takes no longer than a connection
 * may take. */
void bdev_revive(struct bdev *d, struct bdev_req *r);

/* Nothing may be in flight. */
void bdev_close(struct bdev *d);

#endif
