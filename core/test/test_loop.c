/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_loop.c - what both loops promise, then the real one's posts and system calls, and virtual
 * time. */
#include "sys/container.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

enum { MS = 1000000 };

static struct loop *new_loop(bool sim)
{
	struct loop *l = NULL;
	struct err e = {.msg = ""};

	if ((sim ? loop_sim_new(42, &l, &e) : loop_uring_new(16, &l, &e)) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(loop_is_sim(l), sim);
	return l;
}

/* Define a test that runs on both loops. */
#define BOTH(name_)                                     \
	static void both_##name_(struct loop *l);       \
	TEST(name_)                                     \
	{                                               \
		for (int sim = 0; sim < 2; sim++) {     \
			struct loop *l = new_loop(sim); \
			both_##name_(l);                \
			loop_free(l);                   \
		}                                       \
	}                                               \
	static void both_##name_(struct loop *l)

/* A task or timer that writes its letter down. */
static char diary[256];

struct note {
	struct loop_task task;
	struct loop_timer timer;
	struct loop *l;
	char letter;
	struct note *then; /* deferred by this one's run */
};

static void write_down(struct note *n)
{
	size_t len = strlen(diary);

	if (len + 1 < sizeof(diary)) {
		diary[len] = n->letter;
		diary[len + 1] = 0;
	}
	if (n->then)
		loop_defer(n->l, &n->then->task);
}

static void note_run(struct loop_task *t)
{
	write_down(container_of(t, struct note, task));
}

static void note_fire(struct loop_timer *t)
{
	write_down(container_of(t, struct note, timer));
}

static struct note note_of(struct loop *l, char letter)
{
	return (struct note){
		.task.run = note_run, .timer.fire = note_fire, .l = l, .letter = letter};
}

/* ---- both loops ---- */

BOTH(tasks_run_once_in_order)
{
	struct note a = note_of(l, 'a'), b = note_of(l, 'b');

	diary[0] = 0;
	assert_int_equal(loop_poll(l, 0), 0);
	loop_defer(l, &a.task);
	loop_defer(l, &b.task);
	loop_defer(l, &a.task);
	assert_string_equal(diary, "");
	assert_int_equal(loop_poll(l, 0), 2);
	assert_string_equal(diary, "ab");
	assert_int_equal(loop_poll(l, 0), 0);
	loop_defer(l, &a.task);
	assert_int_equal(loop_poll(l, LOOP_FOREVER), 1);
	assert_string_equal(diary, "aba");
}

BOTH(posted_then_deferred_then_timers_then_what_they_queued)
{
	struct note d = note_of(l, 'd'), e = note_of(l, 'e'), p = note_of(l, 'p');
	struct note q = note_of(l, 'q'), t = note_of(l, 't'), z = note_of(l, 'z');

	diary[0] = 0;
	d.then = &z;
	loop_timer_set(l, &t.timer, 0);
	loop_defer(l, &d.task);
	loop_defer(l, &e.task);
	loop_post(l, &p.task);
	loop_post(l, &q.task);
	loop_post(l, &p.task);
	assert_int_equal(loop_poll(l, 0), 6);
	assert_string_equal(diary, "pqdetz");
	loop_post(l, &p.task);
	assert_int_equal(loop_poll(l, 0), 1);
	loop_defer(l, &d.task);
	loop_post(l, &d.task);
	assert_int_equal(loop_poll(l, 0), 2);
	assert_string_equal(diary, "pqdetzpdz");
}

BOTH(posts_alone_keep_their_order)
{
	struct note p = note_of(l, 'p'), q = note_of(l, 'q'), z = note_of(l, 'z');

	diary[0] = 0;
	p.then = &z;
	loop_post(l, &p.task);
	loop_post(l, &q.task);
	assert_int_equal(loop_poll(l, 0), 3);
	assert_string_equal(diary, "pqz");
}

BOTH(an_endless_chain_does_not_keep_the_caller)
{
	struct note a = note_of(l, 'a'), b = note_of(l, 'b');

	diary[0] = 0;
	a.then = &b;
	b.then = &a;
	loop_defer(l, &a.task);
	assert_true(loop_poll(l, 0) > 1);
	assert_true(loop_poll(l, LOOP_FOREVER) > 1);
	a.then = NULL;
	while (loop_poll(l, 0))
		;
}

BOTH(timers_fire_by_time_then_by_order)
{
	struct note n[5];
	uint64_t t0 = loop_now(l);

	diary[0] = 0;
	for (int i = 0; i < 5; i++)
		n[i] = note_of(l, (char)('a' + i));
	loop_timer_set(l, &n[0].timer, t0 + 3 * MS);
	loop_timer_set(l, &n[1].timer, t0 + 1 * MS);
	loop_timer_set(l, &n[2].timer, t0 + 3 * MS);
	loop_timer_set(l, &n[3].timer, t0 + 2 * MS);
	loop_timer_set(l, &n[4].timer, t0 + 4 * MS);
	loop_timer_set(l, &n[1].timer, t0 + 5 * MS);
	loop_timer_cancel(l, &n[3].timer);
	loop_timer_cancel(l, &n[3].timer);
	assert_false(loop_timer_armed(&n[3].timer));
	assert_true(loop_timer_armed(&n[1].timer));
	while (loop_timer_armed(&n[1].timer))
		loop_poll(l, LOOP_FOREVER);
	assert_string_equal(diary, "aceb");
	assert_true(loop_now(l) >= t0 + 5 * MS);
	assert_int_equal(loop_poll(l, 0), 0);
}

static void set_again(struct loop_timer *t)
{
	struct note *n = container_of(t, struct note, timer);

	note_fire(t);
	if (strlen(diary) < 3)
		loop_timer_set(n->l, t, 0);
}

BOTH(a_timer_in_the_past_fires_after_those_that_are_due)
{
	struct note a = note_of(l, 'a'), b = note_of(l, 'b');

	diary[0] = 0;
	a.timer.fire = set_again;
	loop_timer_set(l, &a.timer, 0);
	loop_timer_set(l, &b.timer, loop_now(l));
	while (loop_timer_armed(&a.timer))
		loop_poll(l, LOOP_FOREVER);
	assert_string_equal(diary, "aba");
}

static void set_always(struct loop_timer *t)
{
	struct note *n = container_of(t, struct note, timer);

	note_fire(t);
	loop_timer_set(n->l, t, 0);
}

BOTH(a_timer_set_to_the_past_waits_for_the_tasks)
{
	struct note a = note_of(l, 'a'), b = note_of(l, 'b');

	diary[0] = 0;
	b.then = &b;
	a.timer.fire = set_always;
	loop_timer_set(l, &a.timer, 0);
	loop_defer(l, &b.task);
	assert_true(loop_poll(l, 0) > 3);
	assert_memory_equal(diary, "baba", 4);
	loop_timer_cancel(l, &a.timer);
	b.then = NULL;
	while (loop_poll(l, 0))
		;
}

/* Random sets and cancels against a plain array. */
BOTH(the_heap_matches_a_model)
{
	enum { N = 200 };
	static struct note n[N];
	uint64_t s = test_seed() | 1, when[N] = {0}, t0 = loop_now(l), last = 0;
	int armed = 0;

	for (int i = 0; i < N; i++)
		n[i] = note_of(l, 'x');
	for (int step = 0; step < 2000; step++) {
		uint64_t i = test_rand(&s) % N;

		when[i] = test_rand(&s) % 3 ? t0 + test_rand(&s) % 5000 + 1 : 0;
		if (when[i])
			loop_timer_set(l, &n[i].timer, when[i]);
		else
			loop_timer_cancel(l, &n[i].timer);
	}
	for (int i = 0; i < N; i++) {
		assert_int_equal(loop_timer_armed(&n[i].timer), when[i] != 0);
		armed += when[i] != 0;
	}
	while (armed) {
		int fired = 0;

		assert_true(loop_poll(l, LOOP_FOREVER) > 0);
		for (int i = 0; i < N; i++) {
			if (!when[i] || loop_timer_armed(&n[i].timer))
				continue;
			assert_true(n[i].timer.when_ns <= loop_now(l));
			last = n[i].timer.when_ns > last ? n[i].timer.when_ns : last;
			when[i] = 0;
			fired++;
		}
		for (int i = 0; i < N; i++)
			assert_true(!when[i] || n[i].timer.when_ns >= last);
		armed -= fired;
	}
}

BOTH(waiting_ends_at_its_limit)
{
	struct note a = note_of(l, 'a');
	uint64_t t0 = loop_now(l);

	diary[0] = 0;
	loop_timer_set(l, &a.timer, t0 + 3600ull * 1000 * MS);
	assert_int_equal(loop_poll(l, 2 * MS), 0);
	assert_true(loop_now(l) >= t0 + 2 * MS);
	assert_true(loop_now(l) < t0 + 3600ull * 1000 * MS);
	assert_true(loop_clock(l) >= loop_now(l));
	loop_timer_cancel(l, &a.timer);
	assert_string_equal(diary, "");
}

BOTH(random_numbers_differ)
{
	uint64_t a = loop_random(l), b = loop_random(l);

	assert_true(a != b);
	assert_true(loop_wall(l) > 1500000000ull * 1000 * MS);
}

/* ---- the real loop ---- */

struct nop {
	struct uring_op op;
	int res, fired;
};

static void nop_done(struct uring_op *op, int res)
{
	struct nop *n = container_of(op, struct nop, op);

	n->res = res;
	n->fired++;
}

static void start_nop(struct loop *l, struct nop *n)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(l);

	n->op.done = nop_done;
	n->fired = 0;
	io_uring_prep_nop(sqe);
	loop_uring_arm(sqe, &n->op);
}

TEST(submissions_are_batched_and_idle_polls_are_free)
{
	struct loop *l = new_loop(false);
	struct nop n[12] = {0};
	uint64_t before = loop_uring_syscalls(l);
	int done = 0;

	for (int i = 0; i < 100; i++)
		loop_poll(l, 0);
	assert_int_equal(loop_uring_syscalls(l), before);
	for (int i = 0; i < 12; i++)
		start_nop(l, &n[i]);
	while (done < 12)
		done += loop_poll(l, 0);
	assert_int_equal(done, 12);
	for (int i = 0; i < 12; i++)
		assert_int_equal(n[i].fired, 1);
	assert_int_equal(loop_uring_syscalls(l), before + 1);
	loop_poll(l, 0);
	assert_int_equal(loop_uring_syscalls(l), before + 1);
	loop_free(l);
}

/* ---- the background ---- */

struct work {
	struct loop_task task;
	struct loop *l;
	bool background;
	unsigned left, runs;
};

static void work_run(struct loop_task *t)
{
	struct work *w = container_of(t, struct work, task);

	w->runs++;
	if (!w->left)
		return;
	w->left--;
	if (w->background)
		loop_background(w->l, &w->task);
	else
		loop_defer(w->l, &w->task);
}

static struct work work_of(struct loop *l, bool background, unsigned times)
{
	return (struct work){
		.task.run = work_run, .l = l, .background = background, .left = times - 1};
}

BOTH(a_poll_runs_one_slice)
{
	struct work w = work_of(l, true, 5);

	loop_background(l, &w.task);
	for (unsigned i = 1; i <= 5; i++) {
		loop_poll(l, 0);
		assert_int_equal(w.runs, i);
	}
	loop_poll(l, 0);
	assert_int_equal(w.runs, 5);
}

BOTH(a_poll_that_does_not_end_runs_several)
{
	struct work chain = work_of(l, false, 1000), w = work_of(l, true, 1000);

	loop_background(l, &w.task);
	loop_defer(l, &chain.task);
	for (int i = 0; i < 10; i++)
		loop_poll(l, 0);
	assert_true(chain.left > 0);
	assert_in_range(w.runs, chain.runs / 2, chain.runs);
	while (loop_poll(l, 0) > 0)
		;
}

/* Each poll finds the completion that the one before has submitted. */
TEST(a_poll_with_completions_leaves_the_background_out_but_not_for_ever)
{
	struct loop *l = new_loop(false);
	struct work w = work_of(l, true, 1000);
	struct nop n = {.fired = 1};
	unsigned without = 0, with = 0;

	loop_background(l, &w.task);
	while (without + with < 60) {
		unsigned runs = w.runs;

		if (n.fired)
			start_nop(l, &n);
		loop_submit(l);
		loop_poll(l, 0);
		if (n.fired)
			*(w.runs == runs ? &without : &with) += 1;
	}
	assert_in_range(without, 40, 50);
	w.left = 0;
	while (loop_poll(l, 0) > 0)
		;
	loop_free(l);
}

/* ---- limits of the ring ---- */

TEST(more_requests_than_entries)
{
	enum { N = 1000 };
	struct loop *l = new_loop(false);
	static struct nop n[N];
	int done = 0;

	for (int i = 0; i < N; i++)
		start_nop(l, &n[i]);
	while (done < N)
		done += loop_poll(l, LOOP_FOREVER);
	for (int i = 0; i < N; i++)
		assert_int_equal(n[i].fired, 1);
	loop_free(l);
}

TEST(a_chain_is_not_cut_by_a_full_ring)
{
	struct loop *l = new_loop(false);
	struct nop fill[14] = {0}, link[3] = {0};
	struct io_uring_sqe *sqe;
	char c;
	int done = 0;

	for (int i = 0; i < 14; i++)
		start_nop(l, &fill[i]);
	loop_uring_room(l, 3);
	/* The first fails, so a chain that holds cancels the other two. */
	for (int i = 0; i < 3; i++) {
		sqe = loop_uring_sqe(l);
		if (i == 0)
			io_uring_prep_read(sqe, -1, &c, 1, 0);
		else
			io_uring_prep_nop(sqe);
		sqe->flags |= i < 2 ? IOSQE_IO_LINK : 0;
		link[i].op.done = nop_done;
		loop_uring_arm(sqe, &link[i].op);
	}
	while (done < 17)
		done += loop_poll(l, LOOP_FOREVER);
	assert_int_equal(link[0].res, -EBADF);
	assert_int_equal(link[1].res, -ECANCELED);
	assert_int_equal(link[2].res, -ECANCELED);
	loop_free(l);
}

enum { POSTERS = 3, POSTS = 3000 };

struct poster {
	pthread_t thread;
	struct loop *l;
	struct loop_task task;
	uint64_t want; /* written before each post */
	uint64_t seen; /* by the loop */
	uint32_t delay;
};

static void poster_run(struct loop_task *t)
{
	struct poster *p = container_of(t, struct poster, task);

	__atomic_store_n(&p->seen, p->want, __ATOMIC_RELEASE);
}

/* Post, wait until the loop has seen it, post again: a single lost wake-up hangs the test. */
static void *poster_main(void *arg)
{
	struct poster *p = arg;

	for (uint64_t i = 1; i <= POSTS; i++) {
		p->want = i;
		loop_post(p->l, &p->task);
		while (__atomic_load_n(&p->seen, __ATOMIC_ACQUIRE) != i)
			sched_yield();
		for (volatile uint32_t k = 0; k < p->delay * (i % 7); k++)
			;
	}
	return NULL;
}

TEST(no_wake_up_is_lost)
{
	struct loop *l = new_loop(false);
	struct poster p[POSTERS] = {0};
	uint64_t ran = 0;

	for (int i = 0; i < POSTERS; i++) {
		p[i] = (struct poster){.l = l, .task.run = poster_run, .delay = 40u * (uint32_t)i};
		pthread_create(&p[i].thread, NULL, poster_main, &p[i]);
	}
	while (ran < POSTERS * POSTS)
		ran += (uint64_t)loop_poll(l, LOOP_FOREVER);
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(p[i].thread, NULL);
		assert_int_equal(p[i].seen, POSTS);
	}
	assert_int_equal(loop_poll(l, 0), 0);
	loop_free(l);
}

struct driver {
	struct loop *l;
	uint64_t ran, until;
};

static void *drive(void *arg)
{
	struct driver *d = arg;

	while (d->ran < d->until)
		d->ran += (uint64_t)loop_poll(d->l, LOOP_FOREVER);
	return NULL;
}

/* Drivers come, sleep on the loop, and end; the wake-ups must reach whoever is next. */
TEST(threads_may_take_turns)
{
	struct loop *l = new_loop(false);
	struct poster p = {.l = l, .task.run = poster_run};
	struct driver d = {.l = l};
	pthread_t t;

	pthread_create(&p.thread, NULL, poster_main, &p);
	while (d.ran < POSTS) {
		d.until = d.until + 50 < POSTS ? d.until + 50 : POSTS;
		drive(&d);
		d.until = d.until + 50 < POSTS ? d.until + 50 : POSTS;
		pthread_create(&t, NULL, drive, &d);
		pthread_join(t, NULL);
	}
	pthread_join(p.thread, NULL);
	assert_int_equal(p.seen, POSTS);
	loop_free(l);
}

static void *post_once(void *arg)
{
	struct note *n = arg;

	loop_post(n->l, &n->task);
	return NULL;
}

/* The watch was armed by a thread that is now busy elsewhere: the sleeper is woken all the same. */
TEST(a_sleeper_is_woken_though_another_thread_slept_before)
{
	struct loop *l = new_loop(false);
	struct note a = note_of(l, 'a');
	struct driver d = {.l = l, .until = 50};
	pthread_t poster, sleeper;

	diary[0] = 0;
	assert_int_equal(loop_poll(l, MS), 0);
	pthread_create(&sleeper, NULL, drive, &d);
	for (int i = 0; i < 50; i++) {
		pthread_create(&poster, NULL, post_once, &a);
		pthread_join(poster, NULL);
		while (__atomic_load_n(&a.task.queued, __ATOMIC_ACQUIRE))
			; /* never in the kernel */
	}
	pthread_join(sleeper, NULL);
	assert_int_equal(strlen(diary), 50);
	loop_free(l);
}

static void on_signal(int sig)
{
	(void)sig;
}

static bool ended;

/* Again and again, as the first may come before the wait. */
static void *signal_main(void *arg)
{
	pthread_t *main_thread = arg;

	while (!__atomic_load_n(&ended, __ATOMIC_RELAXED)) {
		usleep(500);
		pthread_kill(*main_thread, SIGUSR1);
	}
	return NULL;
}

TEST(a_signal_ends_the_wait)
{
	struct loop *l = new_loop(false);
	struct sigaction sa = {.sa_handler = on_signal};
	pthread_t self = pthread_self(), t;

	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 3; i++) {
		ended = false;
		pthread_create(&t, NULL, signal_main, &self);
		assert_int_equal(loop_poll(l, LOOP_FOREVER), 0);
		__atomic_store_n(&ended, true, __ATOMIC_RELAXED);
		pthread_join(t, NULL);
	}
	loop_free(l);
}

/* ---- the simulated loop ---- */

TEST(virtual_time_jumps)
{
	struct loop *l = new_loop(true);
	struct note a = note_of(l, 'a'), b = note_of(l, 'b');
	uint64_t wall = loop_wall(l);

	diary[0] = 0;
	assert_int_equal(loop_now(l), 0);
	assert_true(loop_sim_idle(l));
	assert_int_equal(loop_poll(l, LOOP_FOREVER), 0);
	assert_int_equal(loop_now(l), 0);
	loop_timer_set(l, &a.timer, 1000ull * MS);
	loop_timer_set(l, &b.timer, 2000ull * MS);
	assert_false(loop_sim_idle(l));
	assert_int_equal(loop_poll(l, 10), 0);
	assert_int_equal(loop_now(l), 10);
	assert_int_equal(loop_poll(l, LOOP_FOREVER), 1);
	assert_int_equal(loop_now(l), 1000ull * MS);
	assert_int_equal(loop_clock(l), loop_now(l));
	assert_int_equal(loop_wall(l) - wall, 1000ull * MS);
	assert_int_equal(loop_poll(l, LOOP_FOREVER), 1);
	assert_int_equal(loop_now(l), 2000ull * MS);
	assert_string_equal(diary, "ab");
	assert_int_equal(loop_sim_events(l), 2);
	assert_int_equal(loop_poll(l, 7), 0);
	assert_int_equal(loop_now(l), 2000ull * MS + 7);
	loop_sim_set_time(l, 5000ull * MS);
	assert_int_equal(loop_now(l), 5000ull * MS);
	loop_free(l);
}

TEST(one_seed_one_stream)
{
	struct loop *a, *b, *c;
	uint64_t same = 0;

	assert_int_equal(loop_sim_new(7, &a, NULL), 0);
	assert_int_equal(loop_sim_new(7, &b, NULL), 0);
	assert_int_equal(loop_sim_new(8, &c, NULL), 0);
	for (int i = 0; i < 100; i++) {
		uint64_t x = loop_random(a);

		assert_int_equal(x, loop_random(b));
		same += x == loop_random(c);
	}
	assert_int_equal(same, 0);
	loop_free(a);
	loop_free(b);
	loop_free(c);
}

TEST(a_run_stops_between_any_two_events)
{
	struct loop *l = new_loop(true);
	struct note n[4];

	diary[0] = 0;
	for (int i = 0; i < 4; i++) {
		n[i] = note_of(l, (char)('a' + i));
		if (i < 2)
			loop_defer(l, &n[i].task);
		else
			loop_timer_set(l, &n[i].timer, MS);
	}
	for (uint64_t stop = 1; stop <= 4; stop++) {
		loop_sim_stop_at(l, stop);
		assert_int_equal(loop_poll(l, LOOP_FOREVER), 1);
		assert_int_equal(loop_poll(l, LOOP_FOREVER), 0);
		assert_int_equal(loop_sim_events(l), stop);
		assert_int_equal(strlen(diary), stop);
	}
	assert_string_equal(diary, "abcd");
	loop_free(l);
}

TEST(a_crash_forgets_everything)
{
	struct loop *l = new_loop(true);
	struct note a = note_of(l, 'a'), b = note_of(l, 'b'), c = note_of(l, 'c');

	diary[0] = 0;
	loop_defer(l, &a.task);
	loop_timer_set(l, &b.timer, 5);
	loop_post(l, &c.task);
	loop_sim_crash(l);
	assert_false(loop_timer_armed(&b.timer));
	assert_true(loop_sim_idle(l));
	assert_int_equal(loop_poll(l, LOOP_FOREVER), 0);
	assert_string_equal(diary, "");
	loop_free(l);
}
