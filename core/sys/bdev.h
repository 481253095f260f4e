/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev.h - a block device on a loop: a file or partition (O_DIRECT), memory, or a simulated disk.
 *
 * URLs: `file:PATH` (regular file, or block device) and `mem:SIZE` (contents are lost at close).
 * Reads and writes are of whole sectors (`sector_bytes`, 512 or 4096) from memory aligned to it.
 *
 * A write that completed is readable at once; it is durable after a flush submitted later
 * completed. Before that a machine crash may lose it, keep it, or tear it at sector boundaries.  A
 * write that failed leaves old or new contents, sector by sector; one that overlaps another in
 * flight, either. A discarded range reads as what it was or as zeroes until it is written again.
 * After a failed flush the writes it should have covered may be lost, whatever a later flush says.
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
};

struct bdev {
	const struct bdev_ops *ops;
	struct loop *loop;
	uint64_t size_bytes;
	uint32_t sector_bytes; /* alignment of offsets, lengths and memory */
	bool memory;	       /* no durability at all; flush is a formality */
	bool readonly;	       /* writes, flushes and discards are not submitted */
	char url[256];
};

enum bdev_flags {
	/* file: create when absent, with `create_bytes`, fully allocated and written */
	BDEV_CREATE = 1,
	BDEV_LOCK = 2, /* take the one-owner lock (OFD lock); -EBUSY when another opener has it */
	BDEV_READONLY = 4,
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

/* Nothing may be in flight. */
void bdev_close(struct bdev *d);

#endif
