/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop.c - what every loop shares: ready tasks, timers, posts from other threads, and their order.
 *
 * One loop_poll() is a few rounds; a round runs the tasks that were ready when it began (posted
 * ones first), the timers that were due and armed by then, and the completions that are there. What
 * these queue belongs to the next round, so nobody starves anybody.  A poll ends when a round found
 * nothing, or after ROUNDS_MAX, so that a chain of tasks that never ends cannot keep the caller.  When
 * other threads post without end every poll has so many; then the background gets a slice a round.
 *
 * Posting: a lock-free stack (push by compare-and-swap, taken whole by the loop and turned round).
 * No wake-up is lost: the loop sets `asleep`, then looks at the stack; a poster pushes, then looks
 * at `asleep`; all four accesses are sequentially consistent, so at least one sees the other.
 * Whoever clears `asleep` is the one that wakes, so a sleep costs at most one wake-up.
 */
#include "sys/loop_impl.h"

#include <assert.h>
#include <stdlib.h>

enum { ROUNDS_FEW = 3, ROUNDS_MAX = 16, HEAP_FIRST = 64, SKIPS_MAX = 4 };

void loop_init(struct loop *l, const struct loop_ops *ops)
{
	*l = (struct loop){.ops = ops, .stop_at = UINT64_MAX};
	l->ready_end = &l->ready;
	l->later_end = &l->later;
	l->now_ns = ops->clock(l);
}

void loop_fini(struct loop *l)
{
	free(l->heap);
	l->heap = NULL;
}

/* ---- tasks ---- */

static void ready_add(struct loop *l, struct loop_task *t)
{
	t->next = NULL;
	*l->ready_end = t;
	l->ready_end = &t->next;
	l->ready_n++;
}

void loop_defer(struct loop *l, struct loop_task *t)
{
	if (__atomic_load_n(&t->queued, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&t->queued, true, __ATOMIC_RELAXED);
	ready_add(l, t);
}

void loop_background(struct loop *l, struct loop_task *t)
{
	if (__atomic_load_n(&t->queued, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&t->queued, true, __ATOMIC_RELAXED);
	t->next = NULL;
	*l->later_end = t;
	l->later_end = &t->next;
}

void loop_post(struct loop *l, struct loop_task *t)
{
	struct loop_task *head;

	if (__atomic_exchange_n(&t->queued, true, __ATOMIC_ACQ_REL))
		return;
	head = atomic_load_explicit(&l->posted, memory_order_relaxed);
	do
		t->next = head;
	while (!atomic_compare_exchange_weak(&l->posted, &head, t));
	if (l->ops->wake && atomic_load(&l->asleep) && atomic_exchange(&l->asleep, false))
		l->ops->wake(l);
}

/* Posted tasks go in front of the deferred ones, oldest first. */
static void take_posted(struct loop *l)
{
	struct loop_task *t, *next, *last = NULL;

	if (!atomic_load_explicit(&l->posted, memory_order_relaxed))
		return;
	l->last_post_ns = l->now_ns;
	for (t = atomic_exchange(&l->posted, NULL); t; t = next) {
		next = t->next;
		if (!last)
			last = t;
		t->next = l->ready;
		l->ready = t;
		l->ready_n++;
		if (l->ready_end == &l->ready)
			l->ready_end = &last->next;
	}
}

static int run_tasks(struct loop *l)
{
	int n = 0;

	take_posted(l);
	for (uint64_t left = l->ready_n; left && l->events < l->stop_at; left--) {
		struct loop_task *t = l->ready;

		l->ready = t->next;
		if (!l->ready)
			l->ready_end = &l->ready;
		l->ready_n--;
		l->events++;
		/* Pairs with the exchange of a poster that found it queued: run() sees its data. */
		(void)__atomic_exchange_n(&t->queued, false, __ATOMIC_ACQ_REL);
		t->run(t);
		n++;
	}
	return n;
}

static int run_slice(struct loop *l)
{
	struct loop_task *t = l->later;

	if (!t || l->events >= l->stop_at)
		return 0;
	loop_submit(l);
	l->later = t->next;
	if (!l->later)
		l->later_end = &l->later;
	l->events++;
	(void)__atomic_exchange_n(&t->queued, false, __ATOMIC_ACQ_REL);
	t->run(t);
	return 1;
}

void loop_submit(struct loop *l)
{
	if (l->ops->submit)
		l->ops->submit(l);
}

bool loop_fall_asleep(struct loop *l)
{
	atomic_store(&l->asleep, true);
	if (!atomic_load(&l->posted))
		return true;
	loop_awake(l);
	return false;
}

void loop_awake(struct loop *l)
{
	atomic_store(&l->asleep, false);
}

/* ---- timers ---- */

static bool before(const struct heap_entry *a, const struct heap_entry *b)
{
	return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->order < b->order;
}

static void heap_put(struct loop *l, uint32_t i, struct heap_entry e)
{
	l->heap[i] = e;
	e.t->place = i + 1;
}

static void sift_up(struct loop *l, uint32_t i, struct heap_entry e)
{
	for (; i > 0 && before(&e, &l->heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap_put(l, i, l->heap[(i - 1) / 2]);
	heap_put(l, i, e);
}

static void sift_down(struct loop *l, uint32_t i, struct heap_entry e)
{
	uint32_t child;

	while ((child = 2 * i + 1) < l->heap_n) {
		if (child + 1 < l->heap_n && before(&l->heap[child + 1], &l->heap[child]))
			child++;
		if (!before(&l->heap[child], &e))
			break;
		heap_put(l, i, l->heap[child]);
		i = child;
	}
	heap_put(l, i, e);
}

static void heap_grow(struct loop *l)
{
	uint32_t cap = l->heap_cap ? 2 * l->heap_cap : HEAP_FIRST;
	struct heap_entry *h = realloc(l->heap, cap * sizeof(*h));

	assert(h);
	l->heap = h;
	l->heap_cap = cap;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t when_ns)
{
	loop_timer_cancel(l, t);
	if (l->heap_n == l->heap_cap)
		heap_grow(l);
	/* Never before now: it must not overtake timers that are due already. */
	t->when_ns = when_ns > l->now_ns ? when_ns : l->now_ns;
	t->order = l->timer_order++;
	sift_up(l, l->heap_n++, (struct heap_entry){t->when_ns, t->order, t});
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
	struct heap_entry last;
	uint32_t i;

	if (!t->place)
		return;
	i = t->place - 1;
	assert(i < l->heap_n && l->heap[i].t == t);
	t->place = 0;
	last = l->heap[--l->heap_n];
	if (i == l->heap_n)
		return;
	if (i > 0 && before(&last, &l->heap[(i - 1) / 2]))
		sift_up(l, i, last);
	else
		sift_down(l, i, last);
}

uint64_t loop_next_timer(const struct loop *l)
{
	return l->heap_n ? l->heap[0].when_ns : UINT64_MAX;
}

static int run_timers(struct loop *l)
{
	uint64_t mark = l->timer_order;
	int n = 0;

	while (l->heap_n && l->heap[0].when_ns <= l->now_ns && l->heap[0].order < mark &&
		l->events < l->stop_at) {
		struct loop_timer *t = l->heap[0].t;

		loop_timer_cancel(l, t);
		l->events++;
		t->fire(t);
		n++;
	}
	return n;
}

/* ---- polling ---- */

static int run_rounds(struct loop *l)
{
	int total = 0, n;

	for (int round = 0; round < ROUNDS_MAX; round++) {
		n = run_tasks(l) + run_timers(l);
		if (l->ops->reap) {
			int reaped = l->ops->reap(l);

			n += reaped;
			l->reaped += reaped;
		}
		if (!n)
			break;
		total += n;
		if (round >= ROUNDS_FEW)
			total += run_slice(l);
	}
	return total;
}

static uint64_t deadline_of(const struct loop *l, int64_t wait_ns)
{
	uint64_t d;

	if (wait_ns < 0 || __builtin_add_overflow(l->now_ns, (uint64_t)wait_ns, &d))
		return UINT64_MAX;
	return d;
}

static int wait_and_run(struct loop *l, int64_t wait_ns)
{
	uint64_t deadline = deadline_of(l, wait_ns), timer;
	int n = 0, rc;

	while (!n && l->events < l->stop_at) {
		timer = loop_next_timer(l);
		rc = l->ops->wait(l, timer < deadline ? timer : deadline);
		l->now_ns = l->ops->clock(l);
		n = run_rounds(l);
		if (rc < 0 || l->now_ns >= deadline)
			break;
	}
	return n;
}

int loop_poll(struct loop *l, int64_t wait_ns)
{
	int n;

	assert(!l->polling);
	l->polling = true;
	l->now_ns = l->ops->clock(l);
	l->reaped = 0;
	n = run_rounds(l);
	if (l->reaped && l->skips < SKIPS_MAX) {
		l->skips++;
	} else {
		l->skips = 0;
		n += run_slice(l);
	}
	if (!n && wait_ns != 0)
		n = wait_and_run(l, wait_ns);
	loop_submit(l);
	l->polling = false;
	if (l->stopped && l->events >= l->stop_at)
		l->stopped(l->stopped_arg);
	return n;
}

/* ---- the rest is the implementation's ---- */

uint64_t loop_now(const struct loop *l)
{
	return l->now_ns;
}

uint64_t loop_clock(struct loop *l)
{
	return l->ops->clock(l);
}

uint64_t loop_wall(struct loop *l)
{
	return l->ops->wall(l);
}

uint64_t loop_random(struct loop *l)
{
	return l->ops->random(l);
}

bool loop_is_sim(const struct loop *l)
{
	return l->ops->sim;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	assert(!l->polling);
	l->ops->free(l);
}
