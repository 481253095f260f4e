/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * yield.h - lets the other threads run, under valgrind, before the library waits for its ring.
 *
 * Valgrind runs one thread at a time, and knows io_uring_enter as a system call that does not
 * block: a thread that waits in it keeps all others standing until its turn of 100000 basic blocks
 * is over, which for the caretaker of an inline context (core/image/door.c) are some 2000 waits of
 * 20 ms.
 */
#ifndef CI_RUNNER_YIELD_H
#define CI_RUNNER_YIELD_H

#include <signal.h>
#include <stdbool.h>

struct io_uring;
struct io_uring_cqe;
struct __kernel_timespec;

/* False, as it is at first: as if this file were not there.  Set it before the first thread starts.
 */
extern bool yield_before_waits;

/* The program's own goes before liburing's, which it calls. */
int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n,
	struct __kernel_timespec *ts, sigset_t *mask) __attribute__((visibility("default")));

#endif
