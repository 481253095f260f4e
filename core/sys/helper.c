/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * helper.c - a queue, a mutex, a thread; see helper.h.
 *
 * Only a second job that waits starts the thread: short work is over before one would be there.
 */
#include "sys/helper.h"

#include "sys/container.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct helper {
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool started, refused;
	/* under the mutex */
	struct helper_job *first, *last;
	bool closing;
};

/* The oldest job, or NULL.  With the mutex held. */
static struct helper_job *take(struct helper *h)
{
	struct helper_job *j = h->first;

	if (j)
		h->first = j->next;
	return j;
}

static void done(struct loop_task *t)
{
	struct helper_job *j = container_of(t, struct helper_job, task);

	j->done(j);
}

static void *work(void *arg)
{
	struct helper *h = arg;
	struct helper_job *j;

	pthread_mutex_lock(&h->mutex);
	while (!h->closing) {
		if (!(j = take(h))) {
			pthread_cond_wait(&h->cond, &h->mutex);
			continue;
		}
		pthread_mutex_unlock(&h->mutex);
		j->run(j, HELPER_THREAD);
		loop_post(h->loop, &j->task);
		pthread_mutex_lock(&h->mutex);
	}
	pthread_mutex_unlock(&h->mutex);
	return NULL;
}

static void start(struct helper *h)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	h->started = pthread_create(&h->thread, NULL, work, h) == 0;
	h->refused = !h->started;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (h->started)
		pthread_setname_np(h->thread, "lsvd-helper");
}

struct helper *helper_new(struct loop *l)
{
	struct helper *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->loop = l;
	pthread_mutex_init(&h->mutex, NULL);
	pthread_cond_init(&h->cond, NULL);
	h->refused = loop_is_sim(l);
	return h;
}

void helper_give(struct helper *h, struct helper_job *j)
{
	bool more;

	j->next = NULL;
	j->task = (struct loop_task){.run = done};
	pthread_mutex_lock(&h->mutex);
	more = h->first;
	if (more)
		h->last->next = j;
	else
		h->first = j;
	h->last = j;
	pthread_cond_signal(&h->cond);
	pthread_mutex_unlock(&h->mutex);
	if (more && !h->started && !h->refused)
		start(h);
}

bool helper_work(struct helper *h)
{
	struct helper_job *j;

	pthread_mutex_lock(&h->mutex);
	j = take(h);
	pthread_mutex_unlock(&h->mutex);
	if (!j)
		return false;
	j->run(j, HELPER_LOOP);
	j->done(j);
	return true;
}

void helper_free(struct helper *h)
{
	if (!h)
		return;
	assert(!h->first);
	if (h->started) {
		pthread_mutex_lock(&h->mutex);
		h->closing = true;
		pthread_cond_signal(&h->cond);
		pthread_mutex_unlock(&h->mutex);
		pthread_join(h->thread, NULL);
	}
	pthread_cond_destroy(&h->cond);
	pthread_mutex_destroy(&h->mutex);
	free(h);
}
