/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * queue.c - completion queues: how threads that are not the loop get their requests back.
 *
 * What completes in one round of the loop is handed over together, at the beginning of the next: one
 * lock and one wake-up for all of it.  A thread that were woken by the first completion would run on
 * another processor, find that one, and sleep again before the second.
 *
 * Waiting is on a condition variable; the eventfd is served only once somebody has asked for it.
 */
#include "image/image_impl.h"

#include "sys/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct lsvd_queue {
	struct lsvd_ctx *ctx;
	unsigned depth;
	atomic_uint out;

	/* the loop's: what completed in this round */
	struct lsvd_io *done, **done_tail;
	struct loop_task hand_over;

	/* under the mutex */
	pthread_mutex_t mutex;
	pthread_cond_t more;
	struct lsvd_io *first, **last;
	unsigned waiting;
	bool watched, signalled; /* the eventfd: somebody has it; it is readable */
	int fd;
};

static void signal_fd(struct lsvd_queue *q)
{
	if (q->watched && !q->signalled && q->first) {
		q->signalled = true;
		eventfd_write(q->fd, 1);
	}
}

/* All inside the lock: who reaps the last request may free the queue. */
static void hand_over(struct loop_task *t)
{
	struct lsvd_queue *q = container_of(t, struct lsvd_queue, hand_over);

	pthread_mutex_lock(&q->mutex);
	*q->last = q->done;
	q->last = q->done_tail;
	q->done = NULL;
	q->done_tail = &q->done;
	signal_fd(q);
	if (q->waiting)
		pthread_cond_broadcast(&q->more);
	pthread_mutex_unlock(&q->mutex);
}

void queue_push(struct lsvd_queue *q, struct lsvd_io *io)
{
	struct io_priv *p = io_priv(io);

	p->next = NULL;
	*q->done_tail = io;
	q->done_tail = &p->next;
	loop_defer(q->ctx->loop, &q->hand_over);
}

int lsvd_queue_submit(struct lsvd_queue *q, struct lsvd_image *img, struct lsvd_io *io)
{
	int rc;

	if (atomic_fetch_add(&q->out, 1) >= q->depth) {
		atomic_fetch_sub(&q->out, 1);
		return -EAGAIN;
	}
	rc = door_submit(img, io, q);
	if (rc < 0)
		atomic_fetch_sub(&q->out, 1);
	return rc;
}

static unsigned pop(struct lsvd_queue *q, struct lsvd_io **ios, unsigned max)
{
	unsigned n = 0;
	eventfd_t count;

	while (n < max && q->first) {
		struct lsvd_io *io = q->first;

		q->first = io_priv(io)->next;
		if (!q->first)
			q->last = &q->first;
		ios[n++] = io;
	}
	if (!q->first && q->signalled) {
		eventfd_read(q->fd, &count);
		q->signalled = false;
	}
	return n;
}

static struct timespec after(int64_t wait_ns)
{
	struct timespec ts;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ns = (uint64_t)ts.tv_nsec + (uint64_t)wait_ns % 1000000000u;
	ts.tv_sec += (time_t)((uint64_t)wait_ns / 1000000000u + ns / 1000000000u);
	ts.tv_nsec = (long)(ns % 1000000000u);
	return ts;
}

int lsvd_queue_reap(
	struct lsvd_queue *q, struct lsvd_io **ios, unsigned min, unsigned max, int64_t wait_ns)
{
	struct timespec until = wait_ns > 0 ? after(wait_ns) : (struct timespec){0};
	unsigned n;
	int rc = wait_ns ? 0 : ETIMEDOUT;

	pthread_mutex_lock(&q->mutex);
	n = pop(q, ios, max);
	while (n < min && n < max && !rc) {
		q->waiting++;
		if (wait_ns < 0)
			pthread_cond_wait(&q->more, &q->mutex);
		else
			rc = pthread_cond_timedwait(&q->more, &q->mutex, &until);
		q->waiting--;
		n += pop(q, ios + n, max - n);
	}
	pthread_mutex_unlock(&q->mutex);
	atomic_fetch_sub(&q->out, n);
	return (int)n;
}

int lsvd_queue_fd(struct lsvd_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->watched = true;
	signal_fd(q);
	pthread_mutex_unlock(&q->mutex);
	return q->fd;
}

/* ---- making and unmaking ---- */

static int queue_init(struct lsvd_queue *q, struct lsvd_ctx *ctx, unsigned depth)
{
	pthread_condattr_t attr;

	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0)
		return -errno;
	q->ctx = ctx;
	q->depth = depth;
	q->last = &q->first;
	q->done_tail = &q->done;
	q->hand_over.run = hand_over;
	pthread_mutex_init(&q->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->more, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

int lsvd_queue_new(struct lsvd_ctx *ctx, unsigned depth, struct lsvd_queue **out, char *why)
{
	struct lsvd_queue *q;
	struct err e = {.msg = ""};
	int rc = 0;

	if (ctx->drive != LSVD_DRIVE_THREAD)
		rc = err_set(&e, -EINVAL, "a queue needs a context with thread drive");
	else if (!depth)
		rc = err_set(&e, -EINVAL, "a queue of depth 0 makes no sense");
	q = rc == 0 ? calloc(1, sizeof(*q)) : NULL;
	if (rc == 0 && !q)
		rc = -ENOMEM;
	if (q) {
		rc = queue_init(q, ctx, depth);
		if (rc < 0) {
			err_set(&e, rc, "eventfd: %s", strerror(-rc));
			free(q);
		} else {
			*out = q;
		}
	}
	why_copy(why, &e, rc);
	return rc;
}

void lsvd_queue_free(struct lsvd_queue *q)
{
	/* The loop may still be leaving hand_over(). */
	pthread_mutex_lock(&q->mutex);
	pthread_mutex_unlock(&q->mutex);
	close(q->fd);
	pthread_cond_destroy(&q->more);
	pthread_mutex_destroy(&q->mutex);
	free(q);
}
