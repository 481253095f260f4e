/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefault.c - see prefault.h.
 *
 * The thread fills the slots that are empty and sleeps; a take empties one and wakes it.  A slot is
 * an atomic pointer, so that a take never waits for the thread; only waking it takes the mutex.
 */
#include "sys/prefault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SLOTS = 2, PAGE = 4096 };

struct prefault {
	size_t bytes;
	_Atomic(void *) slot[SLOTS];
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool started, refused, wanted, closing; /* wanted, closing: under the mutex */
};

struct prefault *prefault_new(size_t bytes)
{
	struct prefault *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->bytes = bytes;
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

static void fill(struct prefault *p)
{
	for (int i = 0; i < SLOTS; i++) {
		void *mem;

		if (atomic_load(&p->slot[i]))
			continue;
		mem = prefault_make(p);
		atomic_store(&p->slot[i], mem);
	}
}

static void *toucher(void *arg)
{
	struct prefault *p = arg;

	pthread_mutex_lock(&p->mutex);
	while (!p->closing) {
		if (!p->wanted) {
			pthread_cond_wait(&p->cond, &p->mutex);
			continue;
		}
		p->wanted = false;
		pthread_mutex_unlock(&p->mutex);
		fill(p);
		pthread_mutex_lock(&p->mutex);
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
	p->refused = !p->started; /* then nothing is ever ready, and the caller makes its own */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (p->started)
		pthread_setname_np(p->thread, "lsvd-prefault");
}

static void ask(struct prefault *p)
{
	pthread_mutex_lock(&p->mutex);
	p->wanted = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->mutex);
}

void *prefault_take(struct prefault *p)
{
	void *mem = NULL;

	if (!p->started && !p->refused)
		start(p);
	for (int i = 0; i < SLOTS && !mem; i++)
		mem = atomic_exchange(&p->slot[i], NULL);
	if (p->started)
		ask(p);
	return mem;
}

void prefault_trim(struct prefault *p)
{
	for (int i = 0; i < SLOTS; i++) {
		void *mem = atomic_exchange(&p->slot[i], NULL);

		if (mem)
			prefault_give(p, mem);
	}
}

void prefault_free(struct prefault *p)
{
	if (!p)
		return;
	if (p->started) {
		pthread_mutex_lock(&p->mutex);
		p->closing = true;
		pthread_cond_signal(&p->cond);
		pthread_mutex_unlock(&p->mutex);
		pthread_join(p->thread, NULL);
	}
	prefault_trim(p);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}
