/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/helper.h"

#include "test/test.h"

#include "sys/container.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"

#include <assert.h>
#include <pthread.h>

enum { JOBS = 500 };

struct add {
	struct helper_job job;
	uint64_t *sum; /* of each who */
	unsigned *done;
	pthread_t loop_thread;
	uint64_t x;
};

static void add(struct helper_job *j, enum helper_who who)
{
	struct add *a = container_of(j, struct add, job);

	assert(pthread_equal(pthread_self(), a->loop_thread) == (who == HELPER_LOOP));
	a->sum[who] += a->x;
}

static void added(struct helper_job *j)
{
	struct add *a = container_of(j, struct add, job);

	assert(pthread_equal(pthread_self(), a->loop_thread));
	++*a->done;
}

/* All are done once, with the loop thread's help or without. */
static void sum_up(struct loop *l, bool help, uint64_t sum[HELPERS])
{
	static struct add a[JOBS];
	struct helper *h = helper_new(l);
	unsigned done = 0;

	assert_non_null(h);
	for (unsigned i = 0; i < JOBS; i++) {
		a[i] = (struct add){.job = {.run = add, .done = added},
			.sum = sum,
			.done = &done,
			.loop_thread = pthread_self(),
			.x = i};
		helper_give(h, &a[i].job);
	}
	while (done < JOBS)
		if (!help || !helper_work(h))
			loop_poll(l, LOOP_FOREVER);
	assert_false(helper_work(h));
	helper_free(h);
	assert_int_equal(sum[HELPER_LOOP] + sum[HELPER_THREAD], JOBS * (JOBS - 1) / 2);
}

static struct loop *real_loop(void)
{
	struct loop *l;
	struct err e = {""};

	if (loop_uring_new(64, &l, &e) < 0)
		fail_msg("%s", e.msg);
	return l;
}

TEST(the_thread_does_all_when_nobody_helps)
{
	uint64_t sum[HELPERS] = {0};
	struct loop *l = real_loop();

	sum_up(l, false, sum);
	assert_int_equal(sum[HELPER_LOOP], 0);
	loop_free(l);
}

TEST(two_share_the_work)
{
	uint64_t sum[HELPERS] = {0};
	struct loop *l = real_loop();

	sum_up(l, true, sum);
	loop_free(l);
}

TEST(a_simulated_loop_has_no_thread)
{
	uint64_t sum[HELPERS] = {0};
	struct loop *l;
	struct err e = {""};

	assert_int_equal(loop_sim_new(1, &l, &e), 0);
	sum_up(l, true, sum);
	assert_int_equal(sum[HELPER_THREAD], 0);
	loop_free(l);
}
