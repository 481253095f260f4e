/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefault.c - see prefault.h.
 *
 * The thread makes blocks while fewer than SLOTS are ready, and sleeps otherwise; a take wakes it.
 * Nobody holds the mutex while memory is touched, so that a take waits for nothing.  (Two threads
 * were not faster: on two processors they take the loop's.)
 */
#include "sys/prefault.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SLOTS = 2, PAGE = 4096 };

struct prefault {
	size_t bytes;
	void (*tell)(void *arg, bool made);
	void *arg;
	pthread_t thread;
	bool started, refused;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	/* under the mutex */
	void *ready[SLOTS];
	int nready;
	bool wanted;  /* since the last trim */
	bool awaited; /* the next one is told of */
	bool closing;
};

struct prefault *prefault_new(size_t bytes, void (*tell)(void *arg, bool made), void *arg)
{
	struct prefault *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->bytes = bytes;
	p->tell = tell;
	p->arg = arg;
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->cond, NULL);
	return p;
}

void *prefault_make(const struct prefault *p)
{
	size_t before, after;
	char *mem = mmap(
		NULL, 2 * p->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)mem % p->bytes;
	after = p->bytes - before;
	if (before)
		munmap(mem, before);
	if (after)
		munmap(mem + before + p->bytes, after);
	mem += before;
	/* Only advice: with small pages it works the same, a little slower. */
	(void)madvise(mem, p->bytes, MADV_HUGEPAGE);
	for (size_t i = 0; i < p->bytes; i += PAGE)
		((volatile char *)mem)[i] = 0;
	return mem;
}

void prefault_give(const struct prefault *p, void *block)
{
	munmap(block, p->bytes);
}

/* One more; the mutex is held but for the making.  Without memory nothing is made until somebody
 * asks again. */
static void make_one(struct prefault *p)
{
	void *mem;

	pthread_mutex_unlock(&p->mutex);
	mem = prefault_make(p);
	pthread_mutex_lock(&p->mutex);
	if (mem)
		p->ready[p->nready++] = mem;
	else
		p->wanted = false;
	if (p->awaited) {
		p->awaited = false;
		p->tell(p->arg, mem);
	}
}

static void *toucher(void *arg)
{
	struct prefault *p = arg;

	pthread_mutex_lock(&p->mutex);
	while (!p->closing) {
		if (p->wanted && p->nready < SLOTS)
			make_one(p);
		else
			pthread_cond_wait(&p->cond, &p->mutex);
	}
	pthread_mutex_unlock(&p->mutex);
	return NULL;
}

static void start(struct prefault *p)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	p->started = pthread_create(&p->thread, NULL, toucher, p) == 0;
	p->refused = !p->started;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (p->started)
		pthread_setname_np(p->thread, "lsvd-prefault");
}

static bool thread_runs(struct prefault *p)
{
	if (!p->started && !p->refused)
		start(p);
	return p->started;
}

/* The mutex is held. */
static void ask(struct prefault *p)
{
	p->wanted = true;
	pthread_cond_signal(&p->cond);
}

void *prefault_take(struct prefault *p)
{
	void *mem = NULL;

	if (!thread_runs(p))
		return NULL;
	pthread_mutex_lock(&p->mutex);
	if (p->nready)
		mem = p->ready[--p->nready];
	ask(p);
	pthread_mutex_unlock(&p->mutex);
	return mem;
}

bool prefault_await(struct prefault *p)
{
	if (!thread_runs(p))
		return false;
	pthread_mutex_lock(&p->mutex);
	p->awaited = !p->nready;
	if (p->nready)
		p->tell(p->arg, true);
	ask(p);
	pthread_mutex_unlock(&p->mutex);
	return true;
}

void prefault_trim(struct prefault *p)
{
	pthread_mutex_lock(&p->mutex);
	while (p->nready)
		prefault_give(p, p->ready[--p->nready]);
	p->wanted = false;
	pthread_mutex_unlock(&p->mutex);
}

void prefault_free(struct prefault *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->mutex);
	p->closing = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->mutex);
	if (p->started)
		pthread_join(p->thread, NULL);
	prefault_trim(p);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}
