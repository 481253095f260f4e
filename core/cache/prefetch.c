/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefetch.c - follows a boot profile ahead of the guest.
 *
 * Ranges are issued in the profile's order.  Neighbours in one object become one GET; the first is
 * small, so that the guest has something soon, and they double up to get_bytes.  No new GET begins
 * while what was issued and not yet touched is more than ahead_bytes, unless the next range is due
 * within DUE_NS by the profile's clock, which is set by the guest's own progress.
 *
 * It ends when the profile does, or when the guest leaves the script: more than half of its last 64
 * reads were outside.  A failed GET pauses it for PAUSE_NS and leaves its ranges to the guest.
 */
#include "cache/cache_impl.h"

#include "sys/container.h"

#include <stdlib.h>
#include <string.h>

enum { GET_FIRST = 256 << 10, OUTSIDE_MAX = 32 };
static const uint64_t DUE_NS = 1000000000, PAUSE_NS = 1000000000;

struct request {
	struct cache_prefetch p;
	struct prefetch *owner;
	struct request *next_free;
};

struct prefetch {
	struct runner runner;
	struct cache *c;
	struct cache_resolver *r;
	struct profile_range *ranges;
	uint32_t *by_lba;  /* numbers of ranges, sorted */
	uint32_t *touched; /* sectors of each range */
	uint32_t count, len_max;
	uint64_t ahead_bytes, get_bytes, limit; /* limit: of the next GET */
	/* where we are: range, sectors of it that were issued */
	uint32_t next, next_done;
	uint64_t out_sectors; /* issued, not touched */
	/* where the guest is */
	uint64_t outside; /* of the last 64 reads */
	uint64_t guest_us, guest_ns;
	bool stopped, blocked;
	uint64_t blocked_lba, pause_ns;
	struct request *requests, *free, *run;
	struct loop_timer timer;
};

static void go_on(struct prefetch *p);

/* ---- the script ---- */

static uint32_t issued(const struct prefetch *p, uint32_t i)
{
	return i < p->next ? p->ranges[i].len : i == p->next ? p->next_done : 0;
}

static uint64_t ahead_of(const struct prefetch *p, uint32_t i)
{
	uint32_t n = issued(p, i);

	return n > p->touched[i] ? n - p->touched[i] : 0;
}

static void touch(struct prefetch *p, uint32_t i, uint64_t sectors)
{
	uint64_t before = ahead_of(p, i), n = p->touched[i] + sectors;

	p->touched[i] = n < p->ranges[i].len ? (uint32_t)n : p->ranges[i].len;
	p->out_sectors -= before - ahead_of(p, i);
	if (p->ranges[i].first_us >= p->guest_us) {
		p->guest_us = p->ranges[i].first_us;
		p->guest_ns = loop_now(p->c->loop);
	}
}

/* The number of ranges that begin before `lba`. */
static uint32_t begin_before(const struct prefetch *p, uint64_t lba)
{
	uint32_t lo = 0, hi = p->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (p->ranges[p->by_lba[mid]].lba < lba)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Note a read; was any of it in the script? */
static bool follow(struct prefetch *p, uint64_t lba, uint64_t len)
{
	bool inside = false;

	for (uint32_t i = begin_before(p, lba + len); i-- > 0;) {
		const struct profile_range *x = &p->ranges[p->by_lba[i]];
		uint64_t from, to;

		if (x->lba + p->len_max <= lba)
			break;
		if (x->lba + x->len <= lba)
			continue;
		from = x->lba > lba ? x->lba : lba;
		to = x->lba + x->len < lba + len ? x->lba + x->len : lba + len;
		touch(p, p->by_lba[i], to - from);
		inside = true;
	}
	return inside;
}

/* ---- issuing ---- */

static void request_done(struct cache_prefetch *cp, int status)
{
	struct request *q = container_of(cp, struct request, p);
	struct prefetch *p = q->owner;

	q->next_free = p->free;
	p->free = q;
	if (status < 0)
		p->pause_ns = loop_now(p->c->loop) + PAUSE_NS;
	if (!p->runner.dead)
		go_on(p);
	runner_back(&p->runner);
}

static void submit_run(struct prefetch *p)
{
	struct request *q = p->run;

	p->run = NULL;
	if (!q)
		return;
	p->limit = p->limit * 2 < p->get_bytes ? p->limit * 2 : p->get_bytes;
	p->runner.out++;
	cache_prefetch(p->c, &q->p);
}

/* In the same object, and touching the chunks the run will fetch anyway? */
static bool joins(const struct prefetch *p, const struct object_ref *ref, uint64_t off)
{
	const struct cache_prefetch *run = &p->run->p;
	uint64_t mask = p->c->chunk_bytes - 1;

	return run->ref.seq == ref->seq && run->ref.epoch == ref->epoch &&
	       !memcmp(run->ref.uuid, ref->uuid, 16) && off >= (run->off_bytes & ~mask) &&
	       off <= ((run->off_bytes + run->len_bytes + mask) & ~mask);
}

static void add(void *arg, const struct object_ref *ref, uint64_t lba, uint64_t off, uint64_t len)
{
	struct prefetch *p = arg;

	if (p->blocked)
		return;
	if (p->run && joins(p, ref, off)) {
		struct cache_prefetch *run = &p->run->p;
		uint64_t end = run->off_bytes + run->len_bytes;

		if (off < run->off_bytes)
			run->off_bytes = off;
		end = off + len > end ? off + len : end;
		run->len_bytes = end - run->off_bytes;
		return;
	}
	submit_run(p);
	p->run = p->free;
	if (!p->run) {
		p->blocked = true;
		p->blocked_lba = lba;
		return;
	}
	p->free = p->run->next_free;
	p->run->p = (struct cache_prefetch){.ref = *ref,
		.off_bytes = off,
		.len_bytes = len,
		.get_bytes = (uint32_t)p->get_bytes,
		.done = request_done};
}

/* Issue so much of the next range as the run has room for. */
static void slice(struct prefetch *p)
{
	const struct profile_range *x = &p->ranges[p->next];
	uint64_t have = p->run ? p->run->p.len_bytes : 0;
	uint64_t room = have < p->limit ? (p->limit - have) / 512 : 1;
	uint64_t n = x->len - p->next_done, before = ahead_of(p, p->next);
	uint32_t i = p->next;

	n = n < room ? n : room;
	p->r->resolve(p->r, x->lba + p->next_done, n, add, p);
	if (p->blocked)
		n = p->blocked_lba - x->lba - p->next_done;
	p->next_done += (uint32_t)n;
	if (p->next_done == x->len) {
		p->next++;
		p->next_done = 0;
	}
	p->out_sectors += ahead_of(p, i) - before;
}

/* One GET's worth. */
static void issue(struct prefetch *p)
{
	p->blocked = false;
	while (!p->blocked && p->next < p->count) {
		uint32_t out = p->runner.out;

		slice(p);
		if (p->runner.out != out || (p->run && p->run->p.len_bytes >= p->limit))
			break;
	}
	if (!p->run || (p->next < p->count && p->run->p.len_bytes < p->limit && !p->blocked))
		return; /* the run goes on with the next range */
	submit_run(p);
}

static uint64_t due_ns(const struct prefetch *p)
{
	uint64_t first_us = p->ranges[p->next].first_us;
	uint64_t in_us = first_us > p->guest_us ? first_us - p->guest_us : 0;
	uint64_t at = p->guest_ns + in_us * 1000;

	return at > DUE_NS ? at - DUE_NS : 0;
}

static void timer_fired(struct loop_timer *t)
{
	go_on(container_of(t, struct prefetch, timer));
}

/* May another GET begin?  If only later, the timer comes back. */
static bool paced(struct prefetch *p)
{
	uint64_t now = loop_now(p->c->loop), when = p->pause_ns;

	if (now >= when) {
		if (p->out_sectors * 512 < p->ahead_bytes)
			return true;
		when = due_ns(p);
		if (now >= when)
			return true;
	}
	loop_timer_set(p->c->loop, &p->timer, when);
	return false;
}

static void go_on(struct prefetch *p)
{
	while (!p->stopped && p->next < p->count && (p->free || p->run) && paced(p))
		issue(p);
	submit_run(p);
	if (p->next == p->count || p->stopped)
		loop_timer_cancel(p->c->loop, &p->timer);
}

/* ---- the contract ---- */

static void destroy(struct runner *r)
{
	struct prefetch *p = container_of(r, struct prefetch, runner);

	free(p->ranges);
	free(p->by_lba);
	free(p->touched);
	free(p->requests);
	free(p);
}

static int by_lba(const void *a, const void *b, void *arg)
{
	const struct profile_range *r = arg;
	uint64_t x = r[*(const uint32_t *)a].lba, y = r[*(const uint32_t *)b].lba;

	return x < y ? -1 : x > y;
}

static bool fill_in(struct prefetch *p, const struct profile_range *ranges, uint32_t depth)
{
	p->ranges = malloc(p->count * sizeof(*ranges) + 1);
	p->by_lba = calloc(p->count + 1, sizeof(*p->by_lba));
	p->touched = calloc(p->count + 1, sizeof(*p->touched));
	p->requests = calloc(depth, sizeof(*p->requests));
	if (!p->ranges || !p->by_lba || !p->touched || !p->requests)
		return false;
	if (p->count)
		memcpy(p->ranges, ranges, p->count * sizeof(*ranges));
	for (uint32_t i = 0; i < p->count; i++) {
		p->by_lba[i] = i;
		if (ranges[i].len > p->len_max)
			p->len_max = ranges[i].len;
	}
	qsort_r(p->by_lba, p->count, sizeof(*p->by_lba), by_lba, p->ranges);
	for (uint32_t i = 0; i < depth; i++) {
		p->requests[i].owner = p;
		p->requests[i].next_free = p->free;
		p->free = &p->requests[i];
	}
	return true;
}

struct prefetch *prefetch_new(struct cache *c, struct cache_resolver *r,
	const struct profile_range *ranges, uint32_t count, uint64_t ahead_bytes, uint32_t depth,
	uint32_t get_bytes)
{
	struct prefetch *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->c = c;
	p->r = r;
	p->count = count;
	p->ahead_bytes = ahead_bytes;
	p->get_bytes = get_bytes > c->chunk_bytes ? get_bytes : c->chunk_bytes;
	if (p->get_bytes > RUN_BYTES)
		p->get_bytes = RUN_BYTES > c->chunk_bytes ? RUN_BYTES : c->chunk_bytes;
	p->limit = p->get_bytes < GET_FIRST ? p->get_bytes : GET_FIRST;
	p->stopped = !c->on;
	p->guest_ns = loop_now(c->loop);
	p->timer.fire = timer_fired;
	p->runner.free = destroy;
	if (!fill_in(p, ranges, depth ? depth : 1)) {
		destroy(&p->runner);
		return NULL;
	}
	runner_add(c, &p->runner);
	go_on(p);
	return p;
}

void prefetch_free(struct prefetch *p)
{
	if (!p)
		return;
	loop_timer_cancel(p->c->loop, &p->timer);
	runner_free(&p->runner);
}

void prefetch_saw(struct prefetch *p, uint64_t lba, uint64_t len)
{
	bool inside;

	if (p->stopped || p->next == p->count)
		return;
	inside = follow(p, lba, len);
	p->outside = p->outside << 1 | !inside;
	if (__builtin_popcountll(p->outside) > OUTSIDE_MAX)
		p->stopped = true;
	go_on(p);
}

bool prefetch_done(const struct prefetch *p)
{
	return (p->stopped || p->next == p->count) && !p->runner.out;
}
