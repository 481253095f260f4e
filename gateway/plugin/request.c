/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/plugin/request.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STARTED, ASLEEP, DONE };

struct request {
	struct lsvd_io io;
	struct iovec iov;
	_Atomic uint32_t state;
};

/* A thread has one request at a time.  A wake-up may come after the thread saw DONE, even after it ended:
 * it then wakes nobody. */
static _Thread_local struct request mine;

static void done(struct lsvd_io *io)
{
	struct request *r = io->user;
	_Atomic uint32_t *state = &r->state;

	if (atomic_exchange_explicit(state, DONE, memory_order_acq_rel) == ASLEEP)
		syscall(SYS_futex, state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_for(struct request *r)
{
	uint32_t was = STARTED;

	if (!atomic_compare_exchange_strong_explicit(
		    &r->state, &was, ASLEEP, memory_order_acq_rel, memory_order_acquire))
		return;
	while (atomic_load_explicit(&r->state, memory_order_acquire) != DONE)
		syscall(SYS_futex, &r->state, FUTEX_WAIT_PRIVATE, ASLEEP, NULL, NULL, 0);
}

int request_do(struct lsvd_image *img, enum lsvd_op op, unsigned flags, void *buf,
	uint64_t len_bytes, uint64_t offset_bytes)
{
	struct request *r = &mine;
	int rc;

	r->iov = (struct iovec){.iov_base = buf, .iov_len = len_bytes};
	r->io.op = op;
	r->io.flags = flags;
	r->io.offset_bytes = offset_bytes;
	r->io.len_bytes = len_bytes;
	r->io.iov = &r->iov;
	r->io.iovcnt = buf ? 1 : 0;
	r->io.cb = done;
	r->io.user = r;
	atomic_store_explicit(&r->state, STARTED, memory_order_relaxed);
	rc = lsvd_submit(img, &r->io);
	if (rc < 0)
		return rc;
	wait_for(r);
	return r->io.status;
}
