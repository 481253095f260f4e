/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefetch.c - follows a boot profile ahead of the guest.
 *
 * Ranges are issued in the profile's order.  Neighbours in one object become one GET of up to
 * get_bytes; the first is smaller, so that the guest has something soon.  Some GETs are put together
 * at once, one for each object that the script goes back and forth between: what was overwritten
 * since the profile was made lies in other objects, and does not cut the long ones to pieces.
 *
 * Pace: no new GET begins while what was issued and not yet touched is more than ahead_bytes, unless
 * the next range is due within DUE_NS by the profile's clock.  The guest's own progress sets that
 * clock; one read far ahead moves it by no more than STEP_US.
 *
 * It adapts to the guest:
 *   early     what the guest asks for before its turn jumps the queue, and some of what follows
 *             there with it: JUMP_FIRST, twice as much when the guest goes on there.  Neither pace
 *             nor depth holds it up
 *   outside   it ends when more than half of the guest's last 64 reads were not in the script
 *   stale     it ends when the guest has gone past JUDGE_BYTES of what was fetched, and more than
 *             half of it was not read: a profile that is of another image, or too old
 *   changed   ranges are looked up in the image's map when their turn comes: what was discarded,
 *             or is in the journal, is not fetched, the rest of an older profile is
 *
 * A failed GET pauses it for PAUSE_NS and leaves its ranges to the guest.
 */
#include "cache/cache_impl.h"

#include "sys/container.h"

#include <stdlib.h>
#include <string.h>

enum {
	GET_FIRST = 1 << 20,
	JUMP_FIRST = 256 << 10,
	GATHER = 3,		  /* GETs being put together, beyond the first */
	GATHER_BYTES = 2 << 20,	  /* one that nothing joined for so long is complete */
	OUTSIDE_MAX = 32,
	STEP_US = 1000000,
	SLACK_US = 2000000,	  /* what is so late is not read any more */
	JUDGE_BYTES = 8 << 20
};
static const uint64_t DUE_NS = 1000000000, PAUSE_NS = 1000000000;

struct request {
	struct cache_prefetch p;
	struct prefetch *owner;
	struct request *next;
	uint64_t walked;      /* when something joined it last */
	uint32_t first, last; /* ranges of which something is in it, or between them */
};

struct prefetch {
	struct runner runner;
	struct cache *c;
	struct cache_resolver *r;
	struct profile_range *ranges;
	uint32_t *by_lba;  /* numbers of ranges, sorted */
	uint32_t *issued;  /* sectors of each range */
	uint32_t *touched; /* the same */
	uint32_t count, len_max, depth;
	uint64_t ahead_bytes, get_bytes, limit; /* limit: of the GETs put together now */
	uint32_t next;				/* the first range not wholly issued */
	uint32_t at;				/* the one being issued */
	uint64_t out_sectors;			/* issued, not touched */
	uint64_t walked;			/* bytes that were issued, ever ... */
	uint64_t paced_to;			/* ... and that may be without asking the pace */
	/* the jump: ranges [jump, jump_end) come first; jump_bytes: how far the next one goes */
	uint32_t jump, jump_end;
	uint64_t jump_bytes;
	/* where the guest is */
	uint64_t outside; /* of the last 64 reads */
	uint64_t guest_us, guest_ns;
	uint32_t judged; /* ranges that the guest has gone past */
	uint64_t passed, stale;
	bool stopped, blocked;
	uint64_t blocked_lba, pause_ns;
	struct request *requests, *free, *open;
	struct loop_timer timer;
};

static void go_on(struct prefetch *p);
static void submit(struct prefetch *p, struct request **at);

/* ---- the script ---- */

static uint64_t ahead_of(const struct prefetch *p, uint32_t i)
{
	return p->issued[i] > p->touched[i] ? p->issued[i] - p->touched[i] : 0;
}

/* The guest has gone past what is SLACK_US behind it. */
static void judge(struct prefetch *p)
{
	for (; p->judged < p->count; p->judged++) {
		uint32_t i = p->judged;

		if (p->ranges[i].first_us + (uint64_t)SLACK_US > p->guest_us)
			break;
		p->passed += p->issued[i];
		p->stale += ahead_of(p, i);
	}
	if (p->passed * 512 < JUDGE_BYTES)
		return;
	p->stopped = p->stopped || p->stale * 2 > p->passed;
	p->passed /= 2;
	p->stale /= 2;
}

static void move_clock(struct prefetch *p, uint64_t first_us)
{
	uint64_t now = loop_now(p->c->loop);
	uint64_t most = p->guest_us + STEP_US + (now - p->guest_ns) / 1000;

	if (first_us < p->guest_us)
		return;
	p->guest_us = first_us < most ? first_us : most;
	p->guest_ns = now;
	judge(p);
}

static void touch(struct prefetch *p, uint32_t i, uint64_t sectors)
{
	uint64_t before = ahead_of(p, i), n = p->touched[i] + sectors;

	p->touched[i] = n < p->ranges[i].len ? (uint32_t)n : p->ranges[i].len;
	p->out_sectors -= before - ahead_of(p, i);
	move_clock(p, p->ranges[i].first_us);
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

/* Will the queue be there with its next GET? */
static bool soon(const struct prefetch *p, uint32_t i)
{
	uint64_t bytes = 0;

	if (p->out_sectors * 512 >= p->ahead_bytes || p->runner.out >= p->depth)
		return false;
	for (uint32_t k = p->next; k < i && bytes < p->limit; k++)
		bytes += (p->ranges[k].len - p->issued[k]) * 512ull;
	return bytes < p->limit;
}

/* The guest asked for something of range i: what is being put together with it is complete. */
static void wanted(struct prefetch *p, uint32_t i)
{
	struct request **at = &p->open;

	while (*at)
		if (i >= (*at)->first && i <= (*at)->last)
			submit(p, at);
		else
			at = &(*at)->next;
}

static void early(struct prefetch *p, uint32_t i)
{
	uint64_t bytes = 0;

	if (p->issued[i])
		wanted(p, i);
	if (p->issued[i] == p->ranges[i].len || soon(p, i))
		return;
	if (i >= p->jump && i < p->jump_end)
		return; /* it is about to be issued */
	/* The one before it has jumped, too: the guest goes on there. */
	if (i && i == p->jump_end && p->jump == p->jump_end)
		p->jump_bytes = p->jump_bytes * 2 < p->get_bytes ? p->jump_bytes * 2 : p->get_bytes;
	else
		p->jump_bytes = JUMP_FIRST < p->get_bytes ? JUMP_FIRST : p->get_bytes;
	p->jump = p->jump_end = i;
	while (p->jump_end < p->count && bytes < p->jump_bytes && !p->issued[p->jump_end])
		bytes += p->ranges[p->jump_end++].len * 512ull;
	if (p->jump_end == i)
		p->jump_end = i + 1; /* a part of it was issued */
	p->c->stats.prefetch_jumps++;
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
		early(p, p->by_lba[i]);
		inside = true;
	}
	return inside;
}

/* ---- issuing ---- */

static void request_done(struct cache_prefetch *cp, int status)
{
	struct request *q = container_of(cp, struct request, p);
	struct prefetch *p = q->owner;

	q->next = p->free;
	p->free = q;
	if (status < 0)
		p->pause_ns = loop_now(p->c->loop) + PAUSE_NS;
	if (!p->runner.dead)
		go_on(p);
	runner_back(&p->runner);
}

/* *at: a link of the list of open ones. */
static void submit(struct prefetch *p, struct request **at)
{
	struct request *q = *at;

	*at = q->next;
	p->limit = p->get_bytes;
	p->runner.out++;
	cache_prefetch(p->c, &q->p);
}

static void submit_open(struct prefetch *p, uint64_t idle_bytes)
{
	struct request **at = &p->open;

	while (*at)
		if (p->walked - (*at)->walked >= idle_bytes)
			submit(p, at);
		else
			at = &(*at)->next;
}

/* In the same object, and touching the chunks that will be fetched anyway? */
static bool joins(const struct prefetch *p, const struct request *q, const struct object_ref *ref,
	uint64_t off)
{
	uint64_t mask = p->c->chunk_bytes - 1;

	return q->p.ref.seq == ref->seq && q->p.ref.epoch == ref->epoch &&
	       !memcmp(q->p.ref.uuid, ref->uuid, 16) && off >= (q->p.off_bytes & ~mask) &&
	       off <= ((q->p.off_bytes + q->p.len_bytes + mask) & ~mask);
}

/* The open one that [off, ..) of an object goes into, begun if need be; NULL: no request is free. */
static struct request **open_for(
	struct prefetch *p, const struct object_ref *ref, uint64_t off, uint64_t len)
{
	struct request **at = &p->open, *q;

	while (*at && !joins(p, *at, ref, off))
		at = &(*at)->next;
	if (*at)
		return at;
	q = p->free;
	if (!q)
		return NULL;
	p->free = q->next;
	q->next = NULL;
	q->first = p->at;
	q->p = (struct cache_prefetch){.ref = *ref,
		.off_bytes = off,
		.len_bytes = len < p->limit ? len : p->limit,
		.get_bytes = (uint32_t)p->get_bytes,
		.done = request_done};
	*at = q;
	return at;
}

static void add(void *arg, const struct object_ref *ref, uint64_t lba, uint64_t off, uint64_t len)
{
	struct prefetch *p = arg;

	while (len && !p->blocked) {
		struct request **at = open_for(p, ref, off, len);
		struct cache_prefetch *cp = at ? &(*at)->p : NULL;
		uint64_t end, most, n;

		if (!at) {
			p->blocked = true;
			p->blocked_lba = lba;
			return;
		}
		most = (cp->off_bytes & ~(uint64_t)(p->c->chunk_bytes - 1)) + p->limit;
		end = off + len < most ? off + len : most;
		n = end > off ? end - off : len; /* it lies inside what will be fetched */
		if (end > cp->off_bytes + cp->len_bytes)
			cp->len_bytes = end - cp->off_bytes;
		if (off < cp->off_bytes) {
			cp->len_bytes += cp->off_bytes - off;
			cp->off_bytes = off;
		}
		(*at)->walked = p->walked += n;
		(*at)->last = p->at;
		if (end == most)
			submit(p, at);
		off += n;
		lba += n / 512;
		len -= n;
	}
}

/* Issue so much of range i as one GET holds. */
static void slice(struct prefetch *p, uint32_t i)
{
	const struct profile_range *x = &p->ranges[i];
	uint64_t n = x->len - p->issued[i], before = ahead_of(p, i);

	if (n > p->limit / 512)
		n = p->limit / 512;
	if (!n)
		return;
	p->blocked = false;
	p->at = i;
	p->r->resolve(p->r, x->lba + p->issued[i], n, add, p);
	if (p->blocked)
		n = p->blocked_lba - x->lba - p->issued[i];
	p->issued[i] += (uint32_t)n;
	p->out_sectors += ahead_of(p, i) - before;
	submit_open(p, GATHER_BYTES);
}

/* What the guest has asked for before its turn. */
static void issue_jump(struct prefetch *p)
{
	uint32_t first = p->jump;

	if (p->jump == p->jump_end)
		return;
	while (p->jump < p->jump_end && p->free) {
		slice(p, p->jump);
		if (p->blocked)
			break;
		p->jump += p->issued[p->jump] == p->ranges[p->jump].len;
	}
	for (uint32_t i = first; i < p->jump_end; i++)
		wanted(p, i);
}

static void skip_issued(struct prefetch *p)
{
	while (p->next < p->count && p->issued[p->next] == p->ranges[p->next].len)
		p->next++;
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
	if (!p->stopped)
		issue_jump(p);
	p->blocked = false;
	for (skip_issued(p); !p->stopped && !p->blocked && p->next < p->count; skip_issued(p)) {
		if (p->runner.out >= p->depth)
			return; /* what is open grows when one is back */
		if (p->walked >= p->paced_to) {
			if (!paced(p))
				break;
			p->paced_to = p->walked + p->limit; /* one GET's worth */
		}
		slice(p, p->next);
	}
	submit_open(p, 0);
	if (p->next == p->count || p->stopped)
		loop_timer_cancel(p->c->loop, &p->timer);
}

/* ---- the contract ---- */

static void destroy(struct runner *r)
{
	struct prefetch *p = container_of(r, struct prefetch, runner);

	free(p->ranges);
	free(p->by_lba);
	free(p->issued);
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

static bool fill_in(struct prefetch *p, const struct profile_range *ranges)
{
	uint32_t requests = p->depth + GATHER;

	p->ranges = malloc(p->count * sizeof(*ranges) + 1);
	p->by_lba = calloc(p->count + 1, sizeof(*p->by_lba));
	p->issued = calloc(p->count + 1, sizeof(*p->issued));
	p->touched = calloc(p->count + 1, sizeof(*p->touched));
	p->requests = calloc(requests, sizeof(*p->requests));
	if (!p->ranges || !p->by_lba || !p->issued || !p->touched || !p->requests)
		return false;
	if (p->count)
		memcpy(p->ranges, ranges, p->count * sizeof(*ranges));
	for (uint32_t i = 0; i < p->count; i++) {
		p->by_lba[i] = i;
		if (ranges[i].len > p->len_max)
			p->len_max = ranges[i].len;
	}
	qsort_r(p->by_lba, p->count, sizeof(*p->by_lba), by_lba, p->ranges);
	for (uint32_t i = 0; i < requests; i++) {
		p->requests[i].owner = p;
		p->requests[i].next = p->free;
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
	p->depth = depth ? depth : 1;
	p->ahead_bytes = ahead_bytes;
	p->get_bytes = get_bytes > c->chunk_bytes ? get_bytes : c->chunk_bytes;
	if (p->get_bytes > RUN_BYTES)
		p->get_bytes = RUN_BYTES > c->chunk_bytes ? RUN_BYTES : c->chunk_bytes;
	p->limit = p->get_bytes < GET_FIRST ? p->get_bytes : GET_FIRST;
	p->stopped = !c->on;
	p->guest_ns = loop_now(c->loop);
	p->timer.fire = timer_fired;
	p->runner.free = destroy;
	if (!fill_in(p, ranges)) {
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
