/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop_uring.h - the real loop: one io_uring, an eventfd for posts from other threads.
 *
 * Modules that do I/O on it (bdev_uring, the file store) embed a uring_op per request.  Submission
 * is batched: SQEs taken during an iteration are submitted once, at its end.
 */
#ifndef LSVD_SYS_LOOP_URING_H
#define LSVD_SYS_LOOP_URING_H

#include "sys/loop.h"

#include <liburing.h>

struct uring_op {
	void (*done)(struct uring_op *op, int res); /* res: the CQE's, >= 0 or -errno */
	struct uring_op *next;			    /* private: waiting for a free SQE */
};

/* `entries`: SQ size, e.g. 1024.  The loop may be polled by different threads, one at a time. */
int loop_uring_new(unsigned entries, struct loop **out, struct err *e) MUST_CHECK;

/* A zeroed SQE whose completion calls op->done on the loop.  Submits by itself when the ring is
 * full, so never NULL.  The caller fills it with io_uring_prep_*, then calls loop_uring_arm(sqe,
 * op), which sets the user data.  Loop thread.  Linked SQEs: loop_uring_room(l, n) first, which
 * makes sure that the next n are submitted by one system call (n <= entries), then take them one
 * after the other. */
struct io_uring_sqe *loop_uring_sqe(struct loop *l);
void loop_uring_arm(struct io_uring_sqe *sqe, struct uring_op *op);
void loop_uring_room(struct loop *l, unsigned n);

/* Submit now if `most` or more SQEs wait for the end of the turn: what would take a disk long should
 * not begin late. */
void loop_uring_batch(struct loop *l, unsigned most);

/* While I/O is in flight, or just after a post, look up to `most_ns` for something to do before sleeping;
 * 0, the default, is not to.  How long it really looks follows what waits were like lately: up to all of
 * it when they end within that time, not at all when they do not.  Loop thread. */
void loop_uring_spin(struct loop *l, uint64_t most_ns);

/* System calls made so far: io_uring_enter, eventfd reads and writes.  For syscalls_per_io. */
uint64_t loop_uring_syscalls(const struct loop *l);

#endif
