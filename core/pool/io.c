/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io.c - requests to the pool, split into one for each leg, and when they count as done.
 *
 * A write goes to every leg that is in sync or being brought up to date, and is done when all of
 * them answered; a journal's record and a flush are done earlier when pool.acks is a number and as
 * many legs in sync have answered (I1, I2).  A leg that fails is dropped on the way (legs.c), and
 * then what is done is held until the others durably know.
 *
 * A flush counts on a leg only when that leg has everything that was acknowledged before: so it
 * waits, there, for records that were acknowledged without this leg.
 *
 * A read is answered by the first leg in sync whose blocks match their CRCs (I10).
 */
#include "pool/pool_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* RESERVE: of the pool itself, which must not fail for want of memory. */
enum { LEG_SLAB = 64, RESERVE = 16 };

static uint64_t place_bytes(const struct pool *p, const struct segment *s, uint32_t block)
{
	return p->first_bytes + ((uint64_t)s->index * p->seg_blocks + block) * POOL_BLOCK;
}

uint64_t pool_place(const struct pool *p, const struct segment *s, uint32_t block)
{
	return (uint64_t)s->index * p->seg_blocks + block;
}

/* ---- CRCs: 0 means unknown, so a CRC that happens to be 0 is kept as 1 ---- */

static uint32_t fold(uint32_t crc)
{
	return crc ? crc : 1;
}

uint32_t *pool_crc_slot(const struct pool *p, const struct segment *s, uint32_t block)
{
	return &p->crc[pool_place(p, s, block)];
}

uint32_t pool_crc(const struct pool *p, const struct segment *s, uint32_t block)
{
	return *pool_crc_slot(p, s, block);
}

const uint32_t *pool_crcs(const struct pool *p, const struct segment *s, uint32_t block)
{
	return pool_crc_slot(p, s, block);
}

void pool_note_crcs(
	struct pool *p, struct segment *s, uint32_t block, uint32_t blocks, const uint32_t *crcs)
{
	uint32_t *c = pool_crc_slot(p, s, block);

	for (uint32_t i = 0; i < blocks; i++)
		c[i] = fold(crcs[i]);
}

static void note_written(
	struct pool *p, const struct pool_io *io, const uint8_t *buf, const uint32_t *crcs)
{
	uint32_t *c = pool_crc_slot(p, io->seg, io->block);

	if (crcs) {
		pool_note_crcs(p, io->seg, io->block, io->blocks, crcs);
		return;
	}
	for (uint32_t i = 0; i < io->blocks; i++)
		c[i] = fold(crc32c(0, buf + (size_t)i * POOL_BLOCK, POOL_BLOCK));
}

static bool verify(const struct pool_io *io)
{
	const uint32_t *c = pool_crc_slot(io->pool, io->seg, io->block);
	const uint8_t *buf = io->buf;

	for (uint32_t i = 0; i < io->blocks && !MUTANT(SKIP_POOL_CRC); i++)
		if (!c[i] || fold(crc32c(0, buf + (size_t)i * POOL_BLOCK, POOL_BLOCK)) != c[i])
			return false;
	return true;
}

/* ---- requests to one leg ---- */

static void append(struct leg_list *l, struct leg_req *q)
{
	q->next = NULL;
	q->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = q;
	l->last = q;
}

static void unlink_req(struct leg_list *l, struct leg_req *q)
{
	*(q->prev ? &q->prev->next : &l->first) = q->next;
	*(q->next ? &q->next->prev : &l->last) = q->prev;
}

static bool more_reqs(struct pool *p)
{
	struct leg_req *slab = calloc(LEG_SLAB, sizeof(*slab));

	if (!slab)
		return false;
	slab->prev = p->slabs;
	p->slabs = slab;
	for (unsigned i = 1; i < LEG_SLAB; i++) {
		slab[i].next = p->free_reqs;
		p->free_reqs = &slab[i];
	}
	p->nfree_reqs += LEG_SLAB - 1;
	return true;
}

int pool_make_reqs(struct pool *p)
{
	return more_reqs(p) ? 0 : -ENOMEM;
}

void pool_free_reqs(struct pool *p)
{
	while (p->slabs) {
		struct leg_req *slab = p->slabs;

		p->slabs = slab->prev;
		free(slab);
	}
}

static struct leg_req *take_req(struct leg *g, uint32_t leave)
{
	struct pool *p = g->pool;
	struct leg_req *q;

	if (p->nfree_reqs <= leave && !more_reqs(p))
		return NULL;
	q = p->free_reqs;
	p->free_reqs = q->next;
	p->nfree_reqs--;
	q->leg = g;
	return q;
}

static void put_req(struct leg_req *q)
{
	struct pool *p = q->leg->pool;

	q->next = p->free_reqs;
	p->free_reqs = q;
	p->nfree_reqs++;
}

static struct leg_req *take_own(struct leg *g)
{
	struct leg_req *q = take_req(g, 0);

	assert(q);
	q->io = NULL;
	return q;
}

static void start_waiting(struct leg *g);

/* Left behind or given up: `answer` is NULL, and it is on no list. */
static void answered(struct bdev_req *r, int status)
{
	struct leg_req *q = r->owner;
	struct leg *g = q->leg;

	g->in_flight--;
	if (q->answer) {
		unlink_req(&g->flying, q);
		q->answer(q, status);
	}
	put_req(q);
	if (g->waits.first)
		start_waiting(g);
	if (g->pool->targets != g->pool->voters)
		resync_go_on(g->pool);
}

static void to_device(struct leg_req *q)
{
	struct leg *g = q->leg;

	append(&g->flying, q);
	q->no = ++g->submitted;
	g->in_flight++;
	if (g->pool->nlegs > 1) {
		q->at_ns = loop_now(g->pool->loop);
		pool_watch(g->pool);
	}
	bdev_submit(g->dev, &q->r);
}

/* Does a flush have to wait for others? */
static bool too_early(const struct leg *g, const struct leg_req *q)
{
	return q->r.op == BDEV_FLUSH && g->flying.first && g->flying.first->no <= q->no &&
	       !MUTANT(FLUSH_OVERTAKES);
}

static bool must_wait(const struct leg *g, const struct leg_req *q)
{
	if (q->r.op == BDEV_WRITE && q->io && !MUTANT(COPY_UNLOCKED))
		return resync_blocks(g, q->r.offset_bytes, q->r.len_bytes);
	return too_early(g, q);
}

static void start(struct leg_req *q)
{
	struct leg *g = q->leg;

	if (g->pool->nlegs > 1 && must_wait(g, q))
		append(&g->waits, q);
	else
		to_device(q);
}

/* In order, and each as soon as it may. */
static void start_waiting(struct leg *g)
{
	struct leg_req *next;

	for (struct leg_req *q = g->waits.first; q; q = next) {
		next = q->next;
		if (must_wait(g, q))
			continue;
		unlink_req(&g->waits, q);
		to_device(q);
	}
}

void leg_unblock(struct leg *g)
{
	start_waiting(g);
}

static void aim(struct leg_req *q, enum bdev_op op, uint64_t at, void *buf, uint64_t len)
{
	q->iov = (struct iovec){.iov_base = buf, .iov_len = len};
	q->r.op = op;
	q->r.offset_bytes = at;
	q->r.len_bytes = len;
	q->r.iov = &q->iov;
	q->r.iovcnt = len ? 1 : 0;
	q->r.done = answered;
	q->r.owner = q;
	q->no = q->leg->late;
}

static bool submit_leg(
	struct pool_io *io, unsigned leg, void (*answer)(struct leg_req *q, int status))
{
	struct pool *p = io->pool;
	struct leg_req *q = take_req(&p->legs[leg], RESERVE);
	bool flush = io->op == BDEV_FLUSH;

	if (!q)
		return false;
	q->io = io;
	q->answer = answer;
	aim(q, io->op, flush ? 0 : place_bytes(p, io->seg, io->block), io->buf,
		flush ? 0 : (uint64_t)io->blocks * POOL_BLOCK);
	start(q);
	return true;
}

/* An answer may make others go, too: so each time the first is looked for. */
static void give_up(struct leg_list *l, bool reads, bool free_them)
{
	for (;;) {
		struct leg_req *q = l->first;
		void (*answer)(struct leg_req * q, int status);

		while (q && q->r.op == BDEV_READ && !reads)
			q = q->next;
		if (!q)
			return;
		unlink_req(l, q);
		answer = q->answer;
		q->answer = NULL;
		answer(q, -ECANCELED);
		if (free_them)
			put_req(q);
	}
}

/* What a device does later with memory that was given up harms nobody when it reads it, for what it
 * holds does not count any more; a read that cannot be stopped is waited for. */
void leg_give_up(struct leg *g)
{
	bool aborted = g->dev && bdev_abort(g->dev);

	give_up(&g->flying, aborted, false);
	give_up(&g->waits, true, true);
}

void leg_own(struct leg *g, enum bdev_op op, uint64_t at, void *buf, uint64_t len,
	struct leg *whose, void (*answer)(struct leg_req *q, int status))
{
	struct leg_req *q = take_own(g);

	q->whose = whose;
	q->answer = answer;
	aim(q, op, at, buf, len);
	start(q);
}

void leg_own_revive(struct leg *g, void (*answer)(struct leg_req *q, int status))
{
	struct leg_req *q = take_own(g);

	q->answer = answer;
	aim(q, BDEV_FLUSH, 0, NULL, 0);
	append(&g->flying, q);
	q->no = ++g->submitted;
	q->at_ns = loop_now(g->pool->loop);
	g->in_flight++;
	bdev_revive(g->dev, &q->r);
}

bool pool_writes_at(const struct pool *p, uint64_t at, uint64_t len)
{
	for (unsigned i = 0; i < p->nlegs; i++)
		for (const struct leg_req *q = p->legs[i].flying.first; q; q = q->next)
			if (q->io && q->r.op == BDEV_WRITE && q->r.offset_bytes < at + len &&
				at < q->r.offset_bytes + q->r.len_bytes)
				return true;
	return false;
}

/* ---- done, or not yet ---- */

static void later(struct loop_task *t)
{
	struct pool_io *io = container_of(t, struct pool_io, task);

	io->done(io, io->status);
}

void pool_later(struct pool_io *io, int status)
{
	io->status = status;
	io->task = (struct loop_task){.run = later};
	loop_defer(io->pool->loop, &io->task);
}

/* Has it what it needs?  Legs that were dropped are not waited for. */
static bool satisfied(const struct pool *p, const struct pool_io *io)
{
	if (MUTANT(ACK_ANY_LEG) && io->have)
		return true;
	return !io->out || (io->early && legs_in(io->have & p->voters) >= p->acks);
}

/* Acknowledged while legs are still at it: what they have in flight is late. */
static void leave_behind(struct pool *p, struct pool_io *io)
{
	for (unsigned i = 0; i < p->nlegs; i++)
		if (io->out >> i & 1)
			p->legs[i].late = p->legs[i].submitted;
	if (io->over)
		return;
	for (unsigned i = 0; i < p->nlegs; i++)
		for (struct leg_req *q = p->legs[i].flying.first, *next; q; q = next) {
			next = q->next;
			if (q->io != io)
				continue;
			unlink_req(&p->legs[i].flying, q);
			q->answer = NULL;
		}
	for (unsigned i = 0; i < p->nlegs; i++)
		for (struct leg_req *q = p->legs[i].waits.first, *next; q; q = next) {
			next = q->next;
			if (q->io != io)
				continue;
			unlink_req(&p->legs[i].waits, q);
			put_req(q);
		}
	io->out = 0;
}

static void finish(struct pool_io *io)
{
	struct pool *p = io->pool;

	io->acked = true;
	if (io->out)
		leave_behind(p, io);
	if (!io->have && io->status == 0)
		io->status = -EIO;
	if (p->failed && io->status == 0)
		io->status = p->failed;
	io->done(io, io->status);
}

void pool_judge(struct pool_io *io)
{
	struct pool *p = io->pool;

	if (io->acked) {
		if (!io->out && io->over)
			io->over(io);
		return;
	}
	if (io->held || !satisfied(p, io))
		return;
	if (!p->changing || MUTANT(ACK_BEFORE_DROP)) {
		finish(io);
		return;
	}
	io->held = true;
	io->next = NULL;
	*p->held_tail = io;
	p->held_tail = &io->next;
}

void pool_release_held(struct pool *p)
{
	struct pool_io *io = p->held, *next;

	p->held = NULL;
	p->held_tail = &p->held;
	for (; io; io = next) {
		next = io->next;
		io->held = false;
		/* What is done may begin another change. */
		pool_judge(io);
	}
}

static void leg_answered(struct leg_req *q, int status)
{
	struct pool_io *io = q->io;
	struct leg *g = q->leg;
	uint8_t bit = leg_bit(g);

	io->out &= (uint8_t)~bit;
	if (status == 0)
		io->have |= bit;
	else if (g->pool->targets & bit &&
		 (!leg_failed(g, status, io->op == BDEV_FLUSH ? "flush" : "write") ||
			 (io->seg && io->op == BDEV_WRITE && io->seg->role == SEGMENT_CACHE)) &&
		 io->status == 0)
		io->status = status;
	pool_judge(io);
}

static void begin(struct pool *p, struct pool_io *io, enum bdev_op op, void *buf)
{
	io->pool = p;
	io->buf = buf;
	io->over = NULL;
	io->op = (uint8_t)op;
	io->status = 0;
	io->out = io->have = 0;
	io->early = io->held = io->acked = false;
}

static void submit_legs(struct pool_io *io, uint8_t legs)
{
	struct pool *p = io->pool;

	io->out = legs;
	for (unsigned i = 0; i < p->nlegs; i++) {
		if (!(legs >> i & 1) || submit_leg(io, i, leg_answered))
			continue;
		io->out &= (uint8_t) ~(1u << i);
		io->status = -ENOMEM;
	}
	if (!io->out)
		pool_later(io, io->status ? io->status : -EIO);
}

static void check_range(const struct pool *p, const struct pool_io *io)
{
	assert(io->blocks && io->block + io->blocks <= p->seg_blocks);
}

/* ---- writes and flushes ---- */

void pool_write_all(struct pool *p, struct pool_io *io, void *buf)
{
	begin(p, io, BDEV_WRITE, buf);
	submit_legs(io, p->targets);
}

void pool_write(struct pool *p, struct pool_io *io, void *buf, const uint32_t *crcs)
{
	check_range(p, io);
	assert(io->block >= 1);
	note_written(p, io, buf, crcs);
	begin(p, io, BDEV_WRITE, buf);
	submit_legs(io, io->seg->role == SEGMENT_CACHE ? p->voters & 1 : p->targets);
}

void pool_append(struct pool *p, struct pool_io *io, void *buf, const uint32_t *crcs,
	void (*over)(struct pool_io *io))
{
	check_range(p, io);
	assert(io->block >= 1 && io->seg->role == SEGMENT_JOURNAL);
	note_written(p, io, buf, crcs);
	begin(p, io, BDEV_WRITE, buf);
	io->early = p->acks != 0 || MUTANT(ACK_ANY_LEG);
	io->over = io->early ? over : NULL;
	submit_legs(io, MUTANT(WRITE_ONE_LEG) ? p->targets & -p->targets : p->targets);
}

uint32_t pool_slack(const struct pool *p)
{
	return (p->acks && p->acks < p->nlegs) || MUTANT(ACK_ANY_LEG) ? 32 : 0;
}

void pool_write_leg(struct pool *p, struct pool_io *io, void *buf, unsigned leg)
{
	check_range(p, io);
	begin(p, io, BDEV_WRITE, buf);
	if (p->targets >> leg & 1)
		submit_legs(io, (uint8_t)(1u << leg));
	else
		pool_later(io, 0);
}

void pool_flush(struct pool *p, struct pool_io *io)
{
	begin(p, io, BDEV_FLUSH, NULL);
	io->seg = NULL;
	io->early = p->acks != 0;
	submit_legs(io, MUTANT(FLUSH_ONE_LEG) ? p->targets & -p->targets : p->targets); /* I2 */
}

/* ---- reads ---- */

static void read_over(struct pool_io *io, int status)
{
	if (--io->seg->pins == 0)
		pool_poke(io->pool);
	io->done(io, status);
}

static void read_refused(struct loop_task *t)
{
	struct pool_io *io = container_of(t, struct pool_io, task);

	read_over(io, io->status);
}

/* The first leg in sync from `leg` on; the number of legs when there is none. */
static unsigned next_voter(const struct pool *p, unsigned leg)
{
	while (leg < p->nlegs && !(p->voters >> leg & 1))
		leg++;
	return leg;
}

static void read_answered(struct leg_req *q, int status)
{
	struct pool_io *io = q->io;
	struct pool *p = io->pool;
	struct leg *g = q->leg;
	unsigned next;

	if (status == 0 && !io->raw && !verify(io))
		status = -EBADMSG;
	if (status < 0 && g->dev->down && p->targets & leg_bit(g))
		(void)leg_failed(g, status, "read");
	next = next_voter(p, g->index + 1);
	if (status < 0 && !io->raw && io->seg->role == SEGMENT_JOURNAL && next < p->nlegs &&
		submit_leg(io, next, read_answered))
		return;
	read_over(io, status);
}

static void read_leg(struct pool *p, struct pool_io *io, void *buf, unsigned leg, bool raw)
{
	check_range(p, io);
	begin(p, io, BDEV_READ, buf);
	io->raw = raw;
	io->seg->pins++;
	if (leg < p->nlegs && p->voters >> leg & 1 && submit_leg(io, leg, read_answered))
		return;
	io->status = -ENOTCONN;
	io->task = (struct loop_task){.run = read_refused};
	loop_defer(p->loop, &io->task);
}

void pool_read(struct pool *p, struct pool_io *io, void *buf)
{
	read_leg(p, io, buf, io->seg->role == SEGMENT_CACHE ? 0 : next_voter(p, 0), false);
}

void pool_read_raw(struct pool *p, struct pool_io *io, void *buf, unsigned leg)
{
	read_leg(p, io, buf, leg, true);
}
