/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * door.c - who drives the loop, and how other threads come in and go out.
 *
 * The loop belongs to the thread whose id is in `driver`; one compare-and-swap takes it.  Who finds
 * it taken raises `want`, nudges the loop out of its sleep, and takes it when the driver lets go:
 * drivers that belong to the library (the drive thread, the caretaker) let go after every poll
 * while somebody wants.
 *
 *   thread drive   the drive thread polls for ever; lsvd_submit of another thread posts the request
 *   inline drive   lsvd_poll is the driver; when it has not come by for some milliseconds, the
 * caretaker drives until it does.  Callbacks then wait for lsvd_poll: they only ever run on the
 *                  caller's thread.
 */
#include "image/image_impl.h"

#include "sys/container.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CARETAKER_NS = 5000000, DRIVE_NS = 1000000000 };

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	nanosleep(&ts, NULL);
}

/* ---- the token ---- */

static bool try_take(struct lsvd_ctx *ctx)
{
	uintptr_t nobody = 0;

	return atomic_compare_exchange_strong_explicit(&ctx->driver, &nobody,
		(uintptr_t)pthread_self(), memory_order_acquire, memory_order_relaxed);
}

static void let_go(struct lsvd_ctx *ctx)
{
	atomic_store_explicit(&ctx->driver, 0, memory_order_release);
}

static bool am_driver(struct lsvd_ctx *ctx)
{
	return atomic_load_explicit(&ctx->driver, memory_order_relaxed) ==
	       (uintptr_t)pthread_self();
}

static void nothing(struct loop_task *t)
{
	(void)t;
}

bool ctx_enter(struct lsvd_ctx *ctx)
{
	if (!ctx->own_loop || am_driver(ctx))
		return false;
	if (try_take(ctx))
		return true;
	atomic_fetch_add(&ctx->want, 1);
	loop_post(ctx->loop, &ctx->nudge);
	for (unsigned spins = 0; !try_take(ctx); spins++)
		if (spins > 100)
			sleep_ns(20000);
	atomic_fetch_sub(&ctx->want, 1);
	return true;
}

void ctx_leave(struct lsvd_ctx *ctx, bool entered)
{
	if (entered)
		let_go(ctx);
}

/* ---- the library's drivers ---- */

static void *drive(void *arg)
{
	struct lsvd_ctx *ctx = arg;

	while (!atomic_load(&ctx->stop)) {
		if (atomic_load(&ctx->want) || !try_take(ctx)) {
			sleep_ns(20000);
			continue;
		}
		loop_poll(ctx->loop, DRIVE_NS);
		let_go(ctx);
	}
	return NULL;
}

static void *take_care(void *arg)
{
	struct lsvd_ctx *ctx = arg;

	while (!atomic_load(&ctx->stop)) {
		if (clock_ns() - atomic_load(&ctx->last_poll_ns) < CARETAKER_NS ||
			atomic_load(&ctx->want) || !try_take(ctx)) {
			sleep_ns(CARETAKER_NS);
			continue;
		}
		while (!atomic_load(&ctx->want) && !atomic_load(&ctx->stop))
			loop_poll(ctx->loop, 4 * (int64_t)CARETAKER_NS);
		let_go(ctx);
	}
	return NULL;
}

int door_open(struct lsvd_ctx *ctx, struct err *e)
{
	int rc;

	ctx->nudge.run = nothing;
	atomic_store(&ctx->last_poll_ns, clock_ns());
	rc = pthread_create(
		&ctx->thread, NULL, ctx->drive == LSVD_DRIVE_THREAD ? drive : take_care, ctx);
	if (rc)
		return err_set(e, -rc, "start a thread: %s", strerror(rc));
	ctx->thread_runs = true;
	return 0;
}

void door_close(struct lsvd_ctx *ctx)
{
	if (!ctx->thread_runs)
		return;
	atomic_store(&ctx->stop, true);
	loop_post(ctx->loop, &ctx->nudge);
	pthread_join(ctx->thread, NULL);
	/* The nudge may still be queued. */
	while (loop_poll(ctx->loop, 0) > 0)
		;
}

/* ---- completing ---- */

void door_complete(struct lsvd_ctx *ctx, struct lsvd_io *io)
{
	struct io_priv *p = io_priv(io);

	if (p->queue) {
		queue_push(p->queue, io);
	} else if (ctx->own_loop && ctx->drive == LSVD_DRIVE_INLINE && !ctx->user_drives) {
		p->next = NULL;
		*ctx->done_tail = io;
		ctx->done_tail = &p->next;
	} else {
		io->cb(io);
	}
}

static int deliver(struct lsvd_ctx *ctx)
{
	struct lsvd_io *io = ctx->done;
	int n = 0;

	ctx->done = NULL;
	ctx->done_tail = &ctx->done;
	for (; io; n++) {
		struct lsvd_io *next = io_priv(io)->next;

		io->cb(io);
		io = next;
	}
	return n;
}

int lsvd_poll(struct lsvd_ctx *ctx, int64_t wait_ns)
{
	bool entered = ctx_enter(ctx);
	int n;

	ctx->user_drives = true;
	n = deliver(ctx);
	n += loop_poll(ctx->loop, n ? 0 : wait_ns);
	ctx->user_drives = false;
	if (ctx->own_loop)
		atomic_store_explicit(
			&ctx->last_poll_ns, loop_now(ctx->loop), memory_order_relaxed);
	ctx_leave(ctx, entered);
	return n;
}

/* ---- submitting ---- */

static void come_in(struct loop_task *t)
{
	struct io_priv *p = container_of(t, struct io_priv, task);
	struct lsvd_io *io = container_of((void *)p, struct lsvd_io, priv);

	/* Since it was posted the image may have shrunk. */
	if (io->op != LSVD_FLUSH && io->offset_bytes + io->len_bytes > p->img->limit_bytes)
		io_refuse(p->img, io, -EINVAL);
	else
		io_start(p->img, io);
}

int door_submit(struct lsvd_image *img, struct lsvd_io *io, struct lsvd_queue *q)
{
	struct lsvd_ctx *ctx = img->ctx;
	struct io_priv *p = io_priv(io);
	int rc = io_check(img, io);
	bool entered;

	if (rc < 0)
		return rc;
	p->img = img;
	p->queue = q;
	io->status = 0;
	if (ctx->own_loop && ctx->drive == LSVD_DRIVE_THREAD && !am_driver(ctx)) {
		p->task = (struct loop_task){.run = come_in};
		loop_post(ctx->loop, &p->task);
		return 0;
	}
	entered = ctx_enter(ctx);
	io_start(img, io);
	ctx_leave(ctx, entered);
	return 0;
}

int lsvd_submit(struct lsvd_image *img, struct lsvd_io *io)
{
	return door_submit(img, io, NULL);
}

/* ---- blocking ---- */

struct waiter {
	sem_t sem;
	bool over, post;
};

static void wake(struct lsvd_io *io)
{
	struct waiter *w = io->user;

	w->over = true;
	if (w->post)
		sem_post(&w->sem);
}

static int do_and_wait(struct lsvd_image *img, struct lsvd_io *io)
{
	struct lsvd_ctx *ctx = img->ctx;
	struct waiter w = {
		.post = ctx->own_loop && ctx->drive == LSVD_DRIVE_THREAD && !am_driver(ctx)};
	int rc;

	if (w.post)
		sem_init(&w.sem, 0, 0);
	io->cb = wake;
	/* cppcheck-suppress autoVariables ; we wait for it below */
	io->user = &w;
	rc = lsvd_submit(img, io);
	if (rc == 0 && w.post)
		while (sem_wait(&w.sem) < 0)
			;
	while (rc == 0 && !w.over)
		lsvd_poll(ctx, LOOP_FOREVER);
	if (w.post)
		sem_destroy(&w.sem);
	return rc < 0 ? rc : io->status;
}

static int transfer(struct lsvd_image *img, enum lsvd_op op, void *buf, uint64_t len, uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct lsvd_io io = {.op = op,
		.offset_bytes = off,
		.len_bytes = len,
		.iov = &iov,
		.iovcnt = buf ? 1 : 0};

	return do_and_wait(img, &io);
}

int lsvd_pread(struct lsvd_image *img, void *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	return transfer(img, LSVD_READ, buf, len_bytes, offset_bytes);
}

int lsvd_pwrite(struct lsvd_image *img, const void *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	return transfer(img, LSVD_WRITE, (void *)(uintptr_t)buf, len_bytes, offset_bytes);
}

int lsvd_flush(struct lsvd_image *img)
{
	return transfer(img, LSVD_FLUSH, NULL, 0, 0);
}

int lsvd_discard(struct lsvd_image *img, uint64_t len_bytes, uint64_t offset_bytes)
{
	return transfer(img, LSVD_DISCARD, NULL, len_bytes, offset_bytes);
}

int lsvd_write_zeroes(struct lsvd_image *img, uint64_t len_bytes, uint64_t offset_bytes)
{
	return transfer(img, LSVD_WRITE_ZEROES, NULL, len_bytes, offset_bytes);
}
