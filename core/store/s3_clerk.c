/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_clerk.c - a store's thread for SWAP, LOCK and UNLOCK, and for keeping leases.
 *
 * These are rare and small, and each is several requests of which the next depends on the last: on
 * a thread that may wait they are a few lines each.  And a lease must be renewed as long as the
 * process lives, however long the loop is busy.  The thread starts with the first such request;
 * between the requests it sleeps until a lease is due.
 *
 * Closing: the request at work is not tried again, locks that are still held are given back, once.
 */
#include "store/s3_impl.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct s3_clerk {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	struct store_req *first, **last; /* under mutex */
	bool stop;
	struct s3_desk desk; /* the thread's own */
};

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void s3_clerk_sleep(struct s3_desk *d, uint64_t ns)
{
	struct s3_clerk *k = container_of(d, struct s3_clerk, desk);
	struct timespec until = timespec_of(monotonic_ns() + ns);

	pthread_mutex_lock(&k->mutex);
	while (!k->stop && pthread_cond_timedwait(&k->cond, &k->mutex, &until) == 0)
		;
	d->once_from_now = k->stop;
	d->once = d->once || k->stop;
	pthread_mutex_unlock(&k->mutex);
}

static int do_swap(struct s3_desk *d, struct store_req *r)
{
	char tag[STORE_TAG_MAX];
	int rc = s3_still_ours(d, r->name, r->err);

	memcpy(tag, r->tag, sizeof(tag));
	if (rc == 0)
		rc = s3_swap(d, r->name, tag, r->iov, r->iovcnt, true, r->err);
	if (rc == 0)
		memcpy(r->tag, tag, sizeof(tag));
	return rc < 0 ? err_wrap(r->err, rc, "%s: swap '%s'", d->s->s.url, r->name) : 0;
}

static void finish(struct loop_task *t)
{
	struct store_req *r = container_of(t, struct store_req, task);

	store_complete(r, r->status);
}

static void serve(struct s3_desk *d, struct store_req *r)
{
	if (r->op == STORE_SWAP)
		r->status = do_swap(d, r);
	else if (r->op == STORE_LOCK)
		r->status = s3_lock(d, r);
	else
		r->status = s3_unlock(d, r->name);
	r->task.run = finish;
	loop_post(d->s->s.loop, &r->task);
}

/* The next request; NULL: a lease is due, or the store is being closed. */
static struct store_req *take(struct s3_clerk *k, uint64_t due_ns)
{
	uint64_t now = s3_boottime_ns(), ns = due_ns > now ? due_ns - now : 0;
	struct timespec until = timespec_of(monotonic_ns() + (due_ns == UINT64_MAX ? 0 : ns));
	struct store_req *r;
	int rc = 0;

	pthread_mutex_lock(&k->mutex);
	while (!k->first && !k->stop && rc == 0)
		rc = due_ns == UINT64_MAX ? pthread_cond_wait(&k->cond, &k->mutex)
					  : pthread_cond_timedwait(&k->cond, &k->mutex, &until);
	r = k->first;
	if (r)
		k->first = r->next;
	pthread_mutex_unlock(&k->mutex);
	return r;
}

static bool stopped(struct s3_clerk *k)
{
	bool stop;

	pthread_mutex_lock(&k->mutex);
	stop = k->stop;
	pthread_mutex_unlock(&k->mutex);
	return stop;
}

static void *work(void *arg)
{
	struct s3_clerk *k = arg;

	while (!stopped(k)) {
		struct store_req *r = take(k, s3_renew(&k->desk));

		if (r)
			serve(&k->desk, r);
	}
	k->desk.once = k->desk.once_from_now = true;
	s3_unlock_all(&k->desk);
	return NULL;
}

static int start_thread(struct s3_clerk *k)
{
	pthread_condattr_t a;
	sigset_t all, was;
	int rc;

	pthread_mutex_init(&k->mutex, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&k->cond, &a);
	pthread_condattr_destroy(&a);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	rc = pthread_create(&k->thread, NULL, work, k);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return -rc;
}

static struct s3_clerk *hire(struct s3 *s)
{
	struct s3_clerk *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->desk.s = s;
	k->last = &k->first;
	if (start_thread(k) < 0) {
		free(k);
		return NULL;
	}
	pthread_setname_np(k->thread, "lsvd-s3-clerk");
	return k;
}

void s3_clerk_submit(struct s3 *s, struct store_req *r)
{
	struct s3_clerk *k = s->clerk ? s->clerk : hire(s);

	if (!k) {
		store_complete_later(r, -EAGAIN);
		return;
	}
	s->clerk = k;
	pthread_mutex_lock(&k->mutex);
	if (!k->first)
		k->last = &k->first;
	r->next = NULL;
	*k->last = r;
	k->last = &r->next;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
}

void s3_clerk_close(struct s3 *s)
{
	struct s3_clerk *k = s->clerk;

	if (!k)
		return;
	pthread_mutex_lock(&k->mutex);
	assert(!k->first);
	k->stop = true;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
	pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->cond);
	pthread_mutex_destroy(&k->mutex);
	free(k);
	s->clerk = NULL;
}
