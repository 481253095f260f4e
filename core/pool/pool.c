/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.c - segments and their owners.
 *
 * Opening is in open.c, which fills this structure; requests are in io.c, and what becomes of legs
 * in legs.c.
 */
#include "pool/pool_impl.h"

#include "sys/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const uint8_t *pool_uuid(const struct pool *p)
{
	return p->uuid;
}
uint64_t pool_generation(const struct pool *p)
{
	return p->generation;
}
uint32_t pool_segment_blocks(const struct pool *p)
{
	return p->seg_blocks;
}
uint32_t pool_segments(const struct pool *p)
{
	return p->nsegs;
}
uint32_t pool_free_segments(const struct pool *p)
{
	return p->nfree;
}
struct segment *pool_segment(struct pool *p, uint32_t index)
{
	return &p->segs[index];
}
unsigned pool_legs(const struct pool *p)
{
	return p->nlegs;
}
unsigned pool_legs_in_sync(const struct pool *p)
{
	return legs_in(p->voters);
}

bool pool_is_volatile(const struct pool *p)
{
	for (unsigned i = 0; i < p->nlegs; i++)
		if (!p->legs[i].dev || !p->legs[i].dev->memory)
			return false;
	return true;
}

/* ---- waiting on the loop (open paths) ---- */

int pool_wait_io(struct pool *p, struct pool_io *io)
{
	while (io->pending_wait)
		loop_poll(p->loop, LOOP_FOREVER);
	return io->status;
}

void pool_io_woken(struct pool_io *io, int status)
{
	io->status = status;
	io->pending_wait = false;
}

void pool_io_awaited(struct pool_io *io)
{
	io->pending_wait = true;
	io->done = pool_io_woken;
}

/* ---- segments ---- */

void pool_add_client(struct pool *p, struct pool_client *c)
{
	c->next = p->clients;
	p->clients = c;
}

void pool_remove_client(struct pool *p, struct pool_client *c)
{
	struct pool_client **q = &p->clients;

	while (*q && *q != c)
		q = &(*q)->next;
	if (*q)
		*q = c->next;
}

/* Ask whoever can spare most: so neither the cache nor clean journals starve the other. */
static bool reclaim_one(struct pool *p)
{
	for (;;) {
		struct pool_client *best = NULL;
		uint32_t most = 0;

		for (struct pool_client *c = p->clients; c; c = c->next) {
			uint32_t n = c->reclaimable(c);

			if (n > most) {
				most = n;
				best = c;
			}
		}
		if (!best)
			return false;
		if (best->reclaim(best))
			return true;
		/* It overestimated; whoever else has something is asked, in order. */
		for (struct pool_client *c = p->clients; c; c = c->next)
			if (c != best && c->reclaimable(c) && c->reclaim(c))
				return true;
		return false;
	}
}

void pool_push_free(struct pool *p, struct segment *s)
{
	s->prev = NULL;
	s->next = NULL;
	s->user = NULL;
	s->role = SEGMENT_FREE;
	*p->free_tail = s;
	p->free_tail = &s->next;
	p->nfree++;
}

static struct segment *pop_free(struct pool *p)
{
	struct segment *s = p->free;

	if (!s)
		return NULL;
	p->free = s->next;
	if (!p->free)
		p->free_tail = &p->free;
	p->nfree--;
	s->next = NULL;
	return s;
}

static struct header_buf *take_buf(struct pool *p)
{
	struct header_buf *b = p->free_bufs;

	if (b) {
		p->free_bufs = b->next_free;
		return b;
	}
	if (posix_memalign((void **)&b, POOL_BLOCK, sizeof(*b)))
		return NULL;
	b->next_all = p->header_bufs;
	p->header_bufs = b;
	return b;
}

static void free_bufs(struct pool *p)
{
	while (p->header_bufs) {
		struct header_buf *b = p->header_bufs;

		p->header_bufs = b->next_all;
		free(b);
	}
}

static void put_free(struct pool *p, struct segment *s)
{
	pool_push_free(p, s);
	pool_poke(p);
}

/* Headers are complete when every leg has answered: so the memory is nobody's, and nobody
 * overtakes. */
static void header_done(struct pool_io *io, int status)
{
	struct header_buf *b = io->buf;

	b->next_free = io->pool->free_bufs;
	io->pool->free_bufs = b;
	if (io->giving)
		put_free(io->pool, io->seg);
	io->header_done(io, status);
}

/* Headers go to every leg, whatever the role, so that each leg alone tells who owns what. */
static int write_header(struct pool *p, struct segment *s, struct pool_io *io, bool giving)
{
	struct segment_header h = {.index = s->index,
		.role = s->role,
		.alloc = s->alloc,
		.epoch = s->epoch,
		.first_seq = s->first_seq};
	struct header_buf *b = take_buf(p);

	if (!b)
		return -ENOMEM;
	memcpy(h.pool_uuid, p->uuid, 16);
	memcpy(h.owner, s->owner, 16);
	segment_header_encode(&h, b->block);
	io->seg = s;
	io->block = 0;
	io->blocks = 1;
	io->giving = giving;
	io->header_done = io->done;
	io->done = header_done;
	pool_write_all(p, io, b);
	return 0;
}

int pool_take(struct pool *p, enum segment_role role, const uint8_t owner[16], uint64_t epoch,
	uint64_t first_seq, struct segment **out, struct pool_io *io)
{
	struct segment *s;

	/* The cache lives on leg 0, and goes with it. */
	if (role == SEGMENT_CACHE && !(p->voters & 1))
		return -ENOSPC;
	if (!p->free && !reclaim_one(p))
		return -ENOSPC;
	s = pop_free(p);
	assert(s && s->pins == 0);
	s->role = (uint8_t)role;
	memcpy(s->owner, owner, 16);
	s->epoch = epoch;
	s->alloc = ++p->last_alloc;
	s->first_seq = first_seq;
	memset(pool_crc_slot(p, s, 0), 0, p->seg_blocks * sizeof(uint32_t));
	*out = s;
	if (write_header(p, s, io, false) < 0) {
		pool_give(p, s);
		return -ENOMEM;
	}
	return 0;
}

static void wake_waiters(struct loop_task *t)
{
	struct pool *p = container_of(t, struct pool, wake_task);
	struct pool_waiter *w = p->waiters;

	p->waiters = NULL;
	p->waiters_tail = &p->waiters;
	while (w) {
		struct pool_waiter *next = w->next;

		w->waiting = false;
		w->wake(w);
		w = next;
	}
}

void pool_poke(struct pool *p)
{
	if (p->waiters)
		loop_defer(p->loop, &p->wake_task);
}

void pool_give(struct pool *p, struct segment *s)
{
	assert(s->role != SEGMENT_FREE && s->pins == 0);
	put_free(p, s);
}

int pool_give_durably(struct pool *p, struct segment *s, struct pool_io *io)
{
	assert(s->role != SEGMENT_FREE && s->pins == 0);
	s->role = SEGMENT_FREE;
	memset(s->owner, 0, 16);
	s->epoch = s->first_seq = 0;
	s->alloc = ++p->last_alloc;
	/* Free for others only when the header is there, lest it overtake the next owner's. */
	if (write_header(p, s, io, true) == 0)
		return 0;
	put_free(p, s);
	return -ENOMEM;
}

void pool_wait(struct pool *p, struct pool_waiter *w)
{
	if (w->waiting)
		return;
	w->waiting = true;
	w->next = NULL;
	*p->waiters_tail = w;
	p->waiters_tail = &w->next;
}

void pool_cancel_wait(struct pool *p, struct pool_waiter *w)
{
	struct pool_waiter **q = &p->waiters;

	if (!w->waiting)
		return;
	while (*q != w)
		q = &(*q)->next;
	*q = w->next;
	if (!*q)
		p->waiters_tail = q;
	w->waiting = false;
}

void pool_init_lists(struct pool *p)
{
	p->free_tail = &p->free;
	p->waiters_tail = &p->waiters;
	p->wake_task.run = wake_waiters;
	p->held_tail = &p->held;
}

void pool_drop(struct pool *p)
{
	free_bufs(p);
	pool_free_reqs(p);
	for (unsigned i = 0; i < p->nlegs; i++)
		free(p->legs[i].buf);
	free(p->segs);
	free(p->crc);
	free(p);
}

void pool_close(struct pool *p)
{
	legs_stop(p);
	for (unsigned i = 0; i < p->nlegs; i++)
		bdev_close(p->legs[i].dev);
	pool_drop(p);
}

static int by_alloc(const void *a, const void *b)
{
	const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;

	if (x->alloc != y->alloc)
		return x->alloc < y->alloc ? -1 : 1;
	/* One whose header was damaged, and the one it comes after. */
	if (x->epoch != y->epoch)
		return x->epoch < y->epoch ? -1 : 1;
	return x->first_seq < y->first_seq ? -1 : x->first_seq > y->first_seq;
}

int pool_find(
	struct pool *p, enum segment_role role, const uint8_t owner[16], struct pool_journal *out)
{
	*out = (struct pool_journal){.segs = calloc(p->nsegs, sizeof(struct segment *))};
	if (!out->segs)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->nsegs; i++)
		if (p->segs[i].role == role && (!owner || !memcmp(p->segs[i].owner, owner, 16)))
			out->segs[out->count++] = &p->segs[i];
	qsort(out->segs, out->count, sizeof(struct segment *), by_alloc);
	return 0;
}
