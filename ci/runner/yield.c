/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ci/runner/yield.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>

typedef int (*wait_fn)(struct io_uring *, struct io_uring_cqe **, unsigned,
	struct __kernel_timespec *, sigset_t *);

bool yield_before_waits;

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n,
	struct __kernel_timespec *ts, sigset_t *mask)
{
	static wait_fn real; /* whoever sets it sets it to the same */
	wait_fn fn = __atomic_load_n(&real, __ATOMIC_RELAXED);

	if (!fn) {
		fn = (wait_fn)dlsym(RTLD_NEXT, "io_uring_submit_and_wait_timeout");
		if (!fn)
			return -ENOSYS;
		__atomic_store_n(&real, fn, __ATOMIC_RELAXED);
	}
	if (yield_before_waits)
		sched_yield();
	return fn(ring, cqe, n, ts, mask);
}
