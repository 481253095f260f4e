/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * helper.h - a thread that shares a loop thread's work, for the time of one long piece of work.
 *
 * Jobs are begun in order, by the thread inside or by the loop thread when it asks for one, which
 * it does whenever it would wait: there may be no thread, as on a simulated loop.  A job touches
 * what its owner gave it, and nothing else that the loop thread changes meanwhile.
 */
#ifndef LSVD_SYS_HELPER_H
#define LSVD_SYS_HELPER_H

#include "sys/loop.h"

/* Who runs a job: an index for what each of them has to itself. */
enum helper_who { HELPER_LOOP, HELPER_THREAD, HELPERS };

/* Intrusive; the owner sets the first two and keeps it alive until done() was called. */
struct helper_job {
	void (*run)(struct helper_job *j, enum helper_who who);
	void (*done)(struct helper_job *j); /* on the loop thread */
	struct helper_job *next;	    /* private, like the rest */
	struct loop_task task;
};

struct helper;

/* NULL: no memory.  Loop thread, like all that follows. */
struct helper *helper_new(struct loop *l);

/* Have a job run; done() is called by a later loop_poll() or helper_work(). */
void helper_give(struct helper *h, struct helper_job *j);

/* Run the oldest job that nobody has begun, here; false when there is none. */
bool helper_work(struct helper *h);

/* Every job must be done. */
void helper_free(struct helper *h);

#endif
