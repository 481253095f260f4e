/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop_uring.c - the real loop: an io_uring, the monotonic clock, an eventfd to be woken by.
 *
 * Happy path: SQEs taken during an iteration are submitted by one system call at its end;
 * completions are found by reading the ring's memory.  The kernel is asked not to interrupt us for
 * them (COOP_TASKRUN): it raises a flag in the ring instead, and only then do we enter it.  So a
 * poll that finds nothing to submit and nothing completed makes no system call.
 *
 * Sleeping is one io_uring_enter with a time limit.  Falling asleep and waking up costs tens of
 * microseconds, in a virtual machine as much as a write takes; so while I/O is in flight, or another
 * thread has just posted, the loop first looks for a while whether something comes (loop_uring_spin).
 * Posts from other threads end a sleep through an eventfd watched by a multishot poll in the ring.  The
 * watch belongs to the thread that armed it (the kernel delivers through that thread), so it is armed
 * anew when another thread goes to sleep.
 *
 * What can fail: setting up (io_uring forbidden, no memory).  Afterwards a full ring or a kernel
 * short of memory only delays submission.
 */
#include "sys/loop_uring.h"
#include "sys/loop_impl.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* User data with this bit set is not an uring_op but the watch of generation (data >> 1);
 * generation 0 is the cancelling of one. */
enum { WATCH_BIT = 1 };

struct uring {
	struct loop l;
	struct io_uring ring;
	uint64_t rand;
	uint64_t syscalls;
	uint64_t in_flight; /* ops taken and not yet completed */
	int eventfd;
	bool watching;
	uint64_t watch;		/* generation of the watch that is armed */
	pthread_t watcher;	/* who armed it */
	_Atomic uint64_t wakes; /* eventfd writes, by any thread */
	uint64_t spin_ns, spin_max_ns;
};

enum { SPIN_FIRST_NS = 20000, SPIN_LOOKS = 16, SPIN_HOPELESS = 4 };

static struct uring *uring_of(const struct loop *l)
{
	return container_of((struct loop *)(uintptr_t)l, struct uring, l);
}

static uint64_t clock_of(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t uring_clock(struct loop *l)
{
	(void)l;
	return clock_of(CLOCK_MONOTONIC);
}

static uint64_t uring_wall(struct loop *l)
{
	(void)l;
	return clock_of(CLOCK_REALTIME);
}

static uint64_t uring_random(struct loop *l)
{
	return random_next(&uring_of(l)->rand);
}

/* ---- submitting ---- */

static bool kernel_has_work(const struct uring *u)
{
	return IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* The kernel is short of memory, or its overflow list is full: it will pass. */
static void back_off(struct uring *u, int rc)
{
	struct timespec ts = {.tv_nsec = 100000};

	assert(rc == -EAGAIN || rc == -EBUSY || rc == -EINTR || rc == -ENOMEM);
	if (rc == -EINTR)
		return;
	u->syscalls++;
	nanosleep(&ts, NULL);
}

static void submit_all(struct uring *u)
{
	while (io_uring_sq_ready(&u->ring)) {
		int rc = io_uring_submit(&u->ring);

		u->syscalls++;
		if (rc < 0)
			back_off(u, rc);
	}
}

static void uring_submit(struct loop *l)
{
	submit_all(uring_of(l));
}

static struct io_uring_sqe *take_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	while (!sqe) {
		submit_all(u);
		sqe = io_uring_get_sqe(&u->ring);
	}
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

struct io_uring_sqe *loop_uring_sqe(struct loop *l)
{
	struct uring *u = uring_of(l);

	u->in_flight++;
	return take_sqe(u);
}

void loop_uring_arm(struct io_uring_sqe *sqe, struct uring_op *op)
{
	io_uring_sqe_set_data(sqe, op);
}

void loop_uring_room(struct loop *l, unsigned n)
{
	struct uring *u = uring_of(l);

	assert(n <= u->ring.sq.ring_entries);
	if (io_uring_sq_space_left(&u->ring) < n)
		submit_all(u);
}

void loop_uring_batch(struct loop *l, unsigned most)
{
	struct uring *u = uring_of(l);

	if (io_uring_sq_ready(&u->ring) >= most)
		submit_all(u);
}

/* ---- completing ---- */

static bool watch_event(struct uring *u, uint64_t data, uint32_t flags)
{
	if (!(data & WATCH_BIT))
		return false;
	if (data >> 1 == u->watch && !(flags & IORING_CQE_F_MORE))
		u->watching = false;
	return true;
}

static int reap_one(struct uring *u, const struct io_uring_cqe *cqe)
{
	uint64_t data = cqe->user_data;
	uint32_t flags = cqe->flags;
	int res = cqe->res;
	struct uring_op *op;

	io_uring_cq_advance(&u->ring, 1);
	if (watch_event(u, data, flags))
		return 0;
	assert(u->in_flight);
	u->in_flight--;
	u->l.events++;
	op = (struct uring_op *)(uintptr_t)data;
	op->done(op, res);
	return 1;
}

static int uring_reap(struct loop *l)
{
	struct uring *u = uring_of(l);
	struct io_uring_cqe *cqe;
	unsigned ready;
	int n = 0;

	if (kernel_has_work(u)) {
		u->syscalls++;
		io_uring_get_events(&u->ring);
	}
	for (ready = io_uring_cq_ready(&u->ring); ready; ready--) {
		if (io_uring_peek_cqe(&u->ring, &cqe))
			break;
		n += reap_one(u, cqe);
	}
	return n;
}

/* ---- sleeping and waking ---- */

static void unwatch(struct uring *u)
{
	struct io_uring_sqe *sqe = take_sqe(u);

	io_uring_prep_cancel64(sqe, u->watch << 1 | WATCH_BIT, 0);
	sqe->user_data = WATCH_BIT;
	u->watching = false;
}

static void watch(struct uring *u)
{
	struct io_uring_sqe *sqe;
	uint64_t count;

	if (u->watching && pthread_equal(u->watcher, pthread_self()))
		return;
	if (u->watching)
		unwatch(u);
	/* Old wake-ups must not fire the new watch; an empty eventfd says EAGAIN. */
	u->syscalls++;
	if (read(u->eventfd, &count, sizeof(count)) < 0)
		assert(errno == EAGAIN || errno == EINTR);
	sqe = take_sqe(u);
	io_uring_prep_poll_multishot(sqe, u->eventfd, POLLIN);
	sqe->user_data = ++u->watch << 1 | WATCH_BIT;
	u->watching = true;
	u->watcher = pthread_self();
}

static int enter_and_wait(struct uring *u, uint64_t until_ns)
{
	uint64_t now = u->l.now_ns, ns = until_ns > now ? until_ns - now : 0;
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(ns / 1000000000u), .tv_nsec = (long long)(ns % 1000000000u)};
	struct io_uring_cqe *cqe;

	u->syscalls++;
	return io_uring_submit_and_wait_timeout(
		&u->ring, &cqe, 1, until_ns == UINT64_MAX ? NULL : &ts, NULL);
}

static void pause_processor(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool something_came(const struct uring *u)
{
	return io_uring_cq_ready(&u->ring) || kernel_has_work(u) ||
	       atomic_load_explicit(&u->l.posted, memory_order_relaxed);
}

/* Look for spin_ns whether something comes before it is worth while to sleep. */
static bool spin(struct uring *u, uint64_t until_ns)
{
	uint64_t end;

	submit_all(u);
	end = uring_clock(&u->l) + u->spin_ns;
	do {
		for (unsigned i = 0; i < SPIN_LOOKS; i++) {
			if (something_came(u))
				return true;
			pause_processor();
		}
	} while (uring_clock(&u->l) < (end < until_ns ? end : until_ns));
	return false;
}

/* Much as the kernel's halt polling does it: a wait that spinning could have bridged makes it spin
 * longer next time, one that is far too long for it, shorter; so a slow disk costs next to nothing. */
static void adapt_spin(struct uring *u, uint64_t waited_ns)
{
	if (waited_ns > SPIN_HOPELESS * u->spin_max_ns)
		u->spin_ns = u->spin_ns > SPIN_FIRST_NS ? u->spin_ns / 2 : 0;
	else if (waited_ns <= u->spin_max_ns)
		u->spin_ns = u->spin_ns ? 2 * u->spin_ns : SPIN_FIRST_NS;
	if (u->spin_ns > u->spin_max_ns)
		u->spin_ns = u->spin_max_ns;
}

/* The disk is busy, or other threads have just been at work. */
static bool something_may_come(const struct uring *u)
{
	return u->in_flight || u->l.now_ns - u->l.last_post_ns < u->spin_max_ns;
}

static int uring_wait(struct loop *l, uint64_t until_ns)
{
	struct uring *u = uring_of(l);
	bool may_spin = u->spin_max_ns && something_may_come(u);
	uint64_t from = may_spin ? uring_clock(l) : 0;
	int rc;

	watch(u);
	if (may_spin && u->spin_ns && spin(u, until_ns))
		return 0;
	if (!loop_fall_asleep(l))
		return 0;
	rc = enter_and_wait(u, until_ns);
	loop_awake(l);
	if (may_spin)
		adapt_spin(u, uring_clock(l) - from);
	if (rc < 0 && rc != -ETIME && rc != -EINTR)
		back_off(u, rc);
	/* Nothing came and it is not yet time: a signal.  The kernel hides it when it submitted. */
	return !io_uring_cq_ready(&u->ring) && uring_clock(l) < until_ns ? -EINTR : 0;
}

static void uring_wake(struct loop *l)
{
	struct uring *u = uring_of(l);
	uint64_t one = 1;

	atomic_fetch_add_explicit(&u->wakes, 1, memory_order_relaxed);
	while (write(u->eventfd, &one, sizeof(one)) < 0)
		assert(errno == EINTR);
}

void loop_uring_spin(struct loop *l, uint64_t most_ns)
{
	struct uring *u = uring_of(l);

	u->spin_max_ns = most_ns;
	u->spin_ns = 0;
}

uint64_t loop_uring_syscalls(const struct loop *l)
{
	struct uring *u = uring_of(l);

	return u->syscalls + atomic_load_explicit(&u->wakes, memory_order_relaxed);
}

/* ---- birth and death ---- */

static void uring_free(struct loop *l)
{
	struct uring *u = uring_of(l);

	assert(!u->in_flight);
	io_uring_queue_exit(&u->ring);
	close(u->eventfd);
	loop_fini(l);
	free(u);
}

static const struct loop_ops uring_ops = {
	.reap = uring_reap,
	.submit = uring_submit,
	.wait = uring_wait,
	.wake = uring_wake,
	.clock = uring_clock,
	.wall = uring_wall,
	.random = uring_random,
	.free = uring_free,
};

static int ring_init(struct uring *u, unsigned entries)
{
	const unsigned wish[] = {
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_SUBMIT_ALL, 0};
	int rc = -EINVAL;

	for (unsigned i = 0; i < sizeof(wish) / sizeof(wish[0]) && rc == -EINVAL; i++) {
		struct io_uring_params p = {
			.flags = wish[i] | IORING_SETUP_CQSIZE, .cq_entries = 4 * entries};

		rc = io_uring_queue_init_params(entries, &u->ring, &p);
	}
	return rc;
}

static const char *ring_hint(int rc)
{
	if (rc == -EPERM || rc == -ENOSYS)
		return " (io_uring is switched off here: see sysctl kernel.io_uring_disabled, or "
		       "the "
		       "container's seccomp profile)";
	if (rc == -ENOMEM)
		return " (raise `ulimit -l`)";
	return "";
}

int loop_uring_new(unsigned entries, struct loop **out, struct err *e)
{
	struct uring *u = calloc(1, sizeof(*u));
	uint64_t seed = clock_of(CLOCK_MONOTONIC);
	int rc;

	if (!u)
		return err_set(e, -ENOMEM, "no memory for an event loop");
	rc = ring_init(u, entries);
	if (rc < 0) {
		err_set(e, rc, "set up io_uring: %s%s", strerror(-rc), ring_hint(rc));
		goto out;
	}
	u->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->eventfd < 0) {
		rc = err_set(e, -errno, "create an eventfd: %s", strerror(errno));
		io_uring_queue_exit(&u->ring);
		goto out;
	}
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		seed ^= (uint64_t)getpid() << 32;
	u->rand = random_state(seed);
	loop_init(&u->l, &uring_ops);
	*out = &u->l;
	return 0;
out:
	free(u);
	return rc;
}
