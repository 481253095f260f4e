/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * barelog.c - what the disk does with the traffic of sustained 4 KiB writes when nothing is
 * computed.
 *
 * The bound that LSVD's own figure is told by: `depth` writers always wait; what waits goes as a
 * record of a header and a block each to a log, two records in flight, the first 16 blocks at once
 * when the disk is idle; and the same bytes go to another place in pieces, as objects do.  Nobody
 * looks anything up, copies, or takes a CRC, and writers take no time to come back.
 */
#include "ci/runner/barelog.h"

#include "ci/runner/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	BLOCK = 4096,
	EARLY = 16,	     /* blocks */
	RECORDS = 2,	     /* in flight */
	RECORD_BLOCKS = 256, /* with its header */
	PIECE = 256 << 10,
	PIECES = 4, /* in flight */
	OWED_MAX = 16 << 20,
	RING = 16,
};

struct barelog {
	struct io_uring ring;
	int fd;
	uint8_t *buf;
	uint64_t half; /* of the file: the log is in the first, what stands for objects in the
			  second */
	uint64_t log_at, objects_at;
	uint64_t done, owed; /* writes; bytes that are in the log only */
	unsigned waiting, gathered, records, pieces;
	int failed;
};

static uint64_t place(uint64_t *at, uint64_t half, uint64_t len)
{
	uint64_t here = *at + len <= half ? *at : 0;

	*at = here + len;
	return here;
}

/* The completion tells a record by its writes, a piece by 0. */
static void submit(struct barelog *l, uint64_t len, uint64_t at, unsigned writes)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

	io_uring_prep_write(sqe, l->fd, l->buf, (unsigned)len, at);
	io_uring_sqe_set_data64(sqe, writes);
	io_uring_submit(&l->ring);
}

static void seal(struct barelog *l)
{
	uint64_t len = (uint64_t)(1 + l->gathered) * BLOCK;

	submit(l, len, place(&l->log_at, l->half, len), l->gathered);
	l->records++;
	l->gathered = 0;
}

static void write_records(struct barelog *l)
{
	while (l->waiting && l->owed < OWED_MAX && l->gathered + 1 < RECORD_BLOCKS) {
		l->waiting--;
		l->gathered++;
		if (!l->records && l->gathered == EARLY)
			seal(l);
	}
	if (l->gathered && l->records < RECORDS)
		seal(l);
}

static void write_pieces(struct barelog *l)
{
	for (; l->owed >= PIECE && l->pieces < PIECES; l->pieces++) {
		l->owed -= PIECE;
		submit(l, PIECE, l->half + place(&l->objects_at, l->half, PIECE), 0);
	}
}

static void completed(struct barelog *l, const struct io_uring_cqe *cqe)
{
	unsigned writes = (unsigned)io_uring_cqe_get_data64(cqe);
	int len = writes ? (int)(1 + writes) * BLOCK : PIECE;

	if (cqe->res != len)
		l->failed = cqe->res < 0 ? cqe->res : -EIO;
	if (!writes) {
		l->pieces--;
		return;
	}
	l->records--;
	l->waiting += writes;
	l->done += writes;
	l->owed += (uint64_t)writes * BLOCK;
}

static void reap(struct barelog *l)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	int rc = io_uring_wait_cqe(&l->ring, &cqe);

	if (rc < 0) {
		l->failed = rc == -EINTR ? l->failed : rc;
		return;
	}
	io_uring_for_each_cqe(&l->ring, head, cqe)
	{
		completed(l, cqe);
		n++;
	}
	io_uring_cq_advance(&l->ring, n);
}

static double run(struct barelog *l, double seconds)
{
	double begun = now_s(), now = begun;

	for (; now < begun + seconds && !l->failed; now = now_s()) {
		write_records(l);
		write_pieces(l);
		reap(l);
	}
	while (l->records + l->pieces && !l->failed)
		reap(l);
	return (double)l->done / (now - begun);
}

static int open_log(struct barelog *l, const char *path, struct err *e)
{
	off_t size;
	int rc;

	l->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (l->fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	size = lseek(l->fd, 0, SEEK_END);
	l->half = (uint64_t)size / 2 / MIB * MIB;
	l->buf = aligned_alloc(BLOCK, RECORD_BLOCKS * BLOCK);
	if (!l->half || !l->buf)
		return err_set(e, -ENOMEM, "%s: no memory, or the file is too small", path);
	memset(l->buf, 0x5a, RECORD_BLOCKS * BLOCK);
	rc = io_uring_queue_init(
		RING, &l->ring, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
	return rc ? err_set(e, rc, "io_uring: %s", strerror(-rc)) : 0;
}

int barelog_run(
	const char *path, unsigned depth, double seconds, double *writes_per_s, struct err *e)
{
	struct barelog l = {.waiting = depth};
	int rc = open_log(&l, path, e);

	if (rc == 0) {
		*writes_per_s = run(&l, seconds);
		if (l.failed)
			rc = err_set(e, l.failed, "%s: %s", path, strerror(-l.failed));
		io_uring_queue_exit(&l.ring);
	}
	if (l.fd >= 0)
		close(l.fd);
	free(l.buf);
	return rc;
}
