/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_workload.h"

#include "test/sim_snap.h"

#include "image/image_impl.h"
#include "journal/journal_impl.h"
#include "volume/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	SLOTS = 16,
	BUF_SECTORS = 2048,
	SKEW = 64,
	SECTOR = 512,
	STALL_POLLS = 60,
	SETTLE_SECTORS = 512
};

static const uint64_t NS_PER_S = 1000000000;

struct request {
	struct lsvd_io io;
	struct iovec iov[3];
	struct vol *v;
	struct lsvd_image *img;
	bool busy, looking, may_fail;
	uint32_t lba, len;    /* sectors */
	uint32_t first, last; /* pieces */
	uint32_t covers;      /* a flush: pieces acknowledged when it was submitted */
	uint32_t snap[BUF_SECTORS];
	uint8_t buf[BUF_SECTORS * SECTOR + SKEW] __attribute__((aligned(512)));
};

static struct load {
	struct request slot[SLOTS];
	unsigned in_flight, look_failed;
	uint64_t last_done_ns;
	unsigned depth, reads, flushes, fuas; /* of this run; percent */
} loads[WORKLOAD_LEVELS], *load = loads;

/* ---- what went wrong ---- */

static void tell_state(const struct vol *x)
{
	const struct world *w = x->w;
	const struct volume *v = x->img->vol;
	const struct journal *j = v->journal;

	if (!j)
		return;
	fprintf(stderr,
		"  volume: failed %d, acked %" PRIu64 ", covers put %" PRIu64 " applied %" PRIu64
		", next object %" PRIu64 " applied %" PRIu64
		", stage %d, %u sealed, %u PUTs, open batch %u, checkpoint state %d, gc busy %d\n",
		v->failed, v->acked, v->covers_put, v->covers_applied, v->next_seq, v->applied_seq,
		(int)v->stage, v->nsealed, v->puts_in_flight, v->open ? v->open->n : 0,
		(int)v->ckpt->state, gc_busy(v));
	fprintf(stderr,
		"  journal: failed %d, segments %" PRIu64 "..%" PRIu64 ", dirty %" PRIu64
		" of %" PRIu64 ", covered %" PRIu64 ", acked %" PRIu64 ", next %" PRIu64
		", queue %d, gather %d, in flight %u, spare %d ready %d taking %d, waits %d, "
		"holds wait %d, rate %" PRIu64 ", free segments %u\n",
		j->failed, j->first_ord, j->next_ord, journal_dirty_segments(j),
		journal_dirty_limit(j), j->covered, j->acked_seq, j->next_seq, j->queue != NULL,
		j->gather != NULL, j->in_flight, j->spare != NULL, j->spare_ready, j->spare_taking,
		j->waiter.waiting, j->hold_queue != NULL, j->rate,
		pool_free_segments(w->ctx->pool));
}

static void tell_all(const struct world *w)
{
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].img)
			tell_state(&w->vol[i]);
	for (unsigned i = 0; i < SLOTS; i++)
		if (load->slot[i].busy)
			fprintf(stderr, "  in flight: %s op %d, sectors %u+%u, flags %u\n",
				load->slot[i].v->name, (int)load->slot[i].io.op, load->slot[i].lba,
				load->slot[i].len, load->slot[i].io.flags);
}

/* ---- what was stored ---- */

/* Write `piece` and all before it are in records up to the newest one that was handed over. */
static void mark(struct vol *v, uint32_t piece)
{
	if (!v->img || !v->img->vol->journal)
		return;
	if (v->marks == MARKS) {
		v->first_mark++;
		v->marks--;
	}
	v->mark[(v->first_mark + v->marks++) % MARKS] =
		(struct mark){.piece = piece, .record = v->img->vol->acked};
}

void workload_note_stored(struct vol *v)
{
	while (v->img && v->marks) {
		const struct mark *m = &v->mark[v->first_mark % MARKS];

		if (m->record > v->img->vol->covers_applied)
			return;
		lift(&v->o.stored, m->piece); /* I6: what an applied object holds stays */
		v->first_mark++;
		v->marks--;
	}
}

/* ---- completions ---- */

static void judge(struct request *r)
{
	struct vol *v = r->v;
	struct oracle *o = &v->o;

	switch (r->io.op) {
	case LSVD_READ:
		if (!oracle_check_read(o, r->iov[0].iov_base, r->lba, r->len, r->snap))
			world_fail(v->w, "%s: %s", v->name, o->why);
		break;
	case LSVD_FLUSH:
		lift(&o->flushed, r->covers);
		if (v->w->durable_store)
			lift(&o->stored, r->covers);
		break;
	default:
		oracle_acked(o, r->first, r->last);
		lift(&v->told, r->covers);
		mark(v, r->last);
		if (r->io.flags & LSVD_FUA)
			lift(&o->flushed, r->last);
		if (r->io.flags & LSVD_FUA && v->w->durable_store)
			lift(&o->stored, r->last);
		break;
	}
	workload_note_stored(v);
}

static void look(struct request *r)
{
	struct oracle *o = &r->v->o;

	for (uint32_t s = 0; s < r->len; s++) {
		int64_t stamp = oracle_stamp(
			o, (uint8_t *)r->iov[0].iov_base + (size_t)s * SECTOR, r->lba + s);

		if (stamp < 0)
			world_fail(r->v->w, "%s: sector %u holds bytes nobody wrote there",
				r->v->name, r->lba + s);
		o->seen[r->lba + s] = (uint32_t)stamp;
	}
}

static void done(struct lsvd_io *io)
{
	struct request *r = io->user;
	struct world *w = r->v->w;

	r->busy = false;
	load->in_flight--;
	load->last_done_ns = loop_now(w->loop);
	world_log(w, "  done %s op %d %u+%u: %d", r->v->name, (int)io->op, r->lba, r->len,
		io->status);
	if (io->status < 0 && !w->disk_errors && !r->may_fail)
		world_fail(w, "%s: op %d of sectors %u+%u failed: %s", r->v->name, (int)io->op,
			r->lba, r->len, strerror(-io->status));
	load->look_failed += io->status < 0;
	if (io->status == 0 && r->looking)
		look(r);
	else if (io->status == 0)
		judge(r);
}

/* ---- waiting ---- */

static void wait_some(struct world *w, int64_t ns)
{
	int n = loop_poll(w->loop, ns);

	if (!load->in_flight)
		load->last_done_ns = loop_now(w->loop);
	if (!load->in_flight || (n && loop_now(w->loop) - load->last_done_ns < 300 * NS_PER_S) ||
		(!n && !loop_sim_idle(w->loop)))
		return;
	if (!n)
		fprintf(stderr, "seed %" PRIu64 ": nothing will ever happen again\n", w->plan.seed);
	tell_all(w);
	world_fail(w, "requests do not complete");
}

void workload_finish(struct world *w)
{
	world_store_is_back(w);
	while (load->in_flight)
		wait_some(w, LOOP_FOREVER);
}

void workload_level(unsigned level)
{
	load = &loads[level];
}

void workload_forget(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		load->slot[i].busy = false;
	load->in_flight = 0;
}

static struct request *free_slot(struct vol *v, struct lsvd_image *img, unsigned most)
{
	struct request *r = load->slot;

	while (load->in_flight >= most)
		wait_some(v->w, LOOP_FOREVER);
	while (r->busy)
		r++;
	r->v = v;
	r->img = img;
	r->looking = r->may_fail = false;
	r->io.flags = 0;
	r->first = r->last = 0;
	r->covers = v->o.flushed;
	return r;
}

/* ---- requests ---- */

static bool submit(struct request *r)
{
	struct world *w = r->v->w;
	int rc;

	r->io.offset_bytes = (uint64_t)r->lba * SECTOR;
	r->io.len_bytes = (uint64_t)r->len * SECTOR;
	r->io.cb = done;
	r->io.user = r;
	world_log(w, "%s op %d %u+%u%s pieces %u..%u", r->v->name, (int)r->io.op, r->lba, r->len,
		r->io.flags ? " FUA" : "", r->first, r->last);
	r->busy = true;
	load->in_flight++;
	rc = lsvd_submit(r->img, &r->io);
	if (rc == 0)
		return true;
	r->busy = false;
	load->in_flight--;
	if (rc != -EROFS || !w->disk_errors)
		world_fail(w, "%s: submit of op %d, sectors %u+%u: %s", r->v->name, (int)r->io.op,
			r->lba, r->len, strerror(-rc));
	return false;
}

/* The buffer in one to three pieces, now and then not aligned. */
static void aim(struct world *w, struct request *r)
{
	uint8_t *p = r->buf + (world_chance(w, 20) ? SKEW : 0);
	uint32_t left = r->len < BUF_SECTORS ? r->len : BUF_SECTORS;
	int n = 0;

	while (left) {
		uint32_t k = n < 2 && left > 1 && world_chance(w, 20)
				     ? 1 + (uint32_t)world_below(w, left - 1)
				     : left;

		r->iov[n++] = (struct iovec){.iov_base = p, .iov_len = (size_t)k * SECTOR};
		p += (size_t)k * SECTOR;
		left -= k;
	}
	r->io.iov = r->iov;
	r->io.iovcnt = n;
}

static uint32_t choose_len(struct world *w)
{
	uint64_t kind = world_below(w, 100);

	if (w->scale == TINY)
		return (uint32_t)(kind < 50   ? world_between(w, 1, 8)
				  : kind < 75 ? 8 * world_between(w, 1, 4)
				  : kind < 97 ? world_between(w, 1, 64)
					      : world_between(w, 1, 512));
	return (uint32_t)(kind < 40   ? world_between(w, 1, 8)
			  : kind < 65 ? 8 * world_between(w, 1, 4)
			  : kind < 90 ? world_between(w, 1, 128)
			  : kind < 98 ? world_between(w, 1, 512)
				      : world_between(w, 1, BUF_SECTORS));
}

static void choose_range(struct request *r, uint32_t len)
{
	struct vol *v = r->v;
	uint32_t size = (uint32_t)v->size_sectors;

	r->len = len < size ? len : size;
	if (world_chance(v->w, 60))
		r->lba = v->hot_lba + (uint32_t)world_below(v->w, v->hot_len);
	else
		r->lba = (uint32_t)world_below(v->w, size);
	if (world_chance(v->w, 50))
		r->lba &= ~7u;
	if (r->lba + r->len > size)
		r->lba = size - r->len;
}

static void start_write(struct request *r)
{
	struct oracle *o = &r->v->o;
	uint32_t stamp;

	oracle_submit(o, r->lba, r->len, false, &r->first, &r->last, &stamp);
	oracle_fill(o, r->iov[0].iov_base, r->lba, r->len, stamp);
	r->io.op = LSVD_WRITE;
	submit(r);
}

static void start_zero(struct request *r, enum lsvd_op op)
{
	uint32_t stamp;

	oracle_submit(&r->v->o, r->lba, r->len, true, &r->first, &r->last, &stamp);
	r->io.op = op;
	submit(r);
}

static void start_read(struct request *r)
{
	oracle_snap(&r->v->o, r->lba, r->len, r->snap);
	r->io.op = LSVD_READ;
	submit(r);
}

static void start_flush(struct request *r)
{
	r->lba = r->len = 0;
	r->covers = r->v->o.acked;
	r->io.op = LSVD_FLUSH;
	submit(r);
}

static void start_one(struct vol *v)
{
	struct world *w = v->w;
	struct request *r = free_slot(v, v->img, load->depth);
	uint64_t kind = world_below(w, 100);
	uint32_t len = choose_len(w), times = (uint32_t)world_between(w, 1, 8);
	bool read = world_chance(w, load->reads), zero = kind < 10 && plan_has(&w->plan, F_ZERO);

	if (!read && kind >= 10 && kind < 10 + load->flushes) {
		start_flush(r);
		return;
	}
	choose_range(r, !read && zero ? len * times : len);
	aim(w, r);
	if (read)
		start_read(r);
	else if (zero)
		start_zero(r, kind < 5 ? LSVD_DISCARD : LSVD_WRITE_ZEROES);
	else {
		r->io.flags = world_chance(w, load->fuas) ? LSVD_FUA : 0;
		start_write(r);
	}
}

void workload_one(struct vol *v, enum lsvd_op op, uint32_t lba, uint32_t len, unsigned flags)
{
	struct request *r = free_slot(v, v->img, SLOTS);

	r->lba = lba;
	r->len = len;
	r->io.flags = flags;
	r->iov[0] = (struct iovec){.iov_base = r->buf, .iov_len = (size_t)len * SECTOR};
	r->io.iov = r->iov;
	r->io.iovcnt = 1;
	load->last_done_ns = loop_now(v->w->loop);
	if (op == LSVD_FLUSH)
		start_flush(r);
	else if (op == LSVD_READ)
		start_read(r);
	else if (op == LSVD_WRITE)
		start_write(r);
	else
		start_zero(r, op);
	workload_finish(v->w);
}

void workload_check(struct world *w, const char *what, int rc, const char *why)
{
	if (rc < 0 && !w->disk_errors)
		world_fail(w, "%s: %s%s%s", what, strerror(-rc), why ? ": " : "", why ? why : "");
}

/* ---- a run ---- */

void workload_aim(struct vol *v)
{
	uint32_t size = (uint32_t)v->size_sectors;

	v->hot_len = (uint32_t)world_between(v->w, 1, size / 2 < 1000 ? size / 2 : 1000);
	v->hot_lba = (uint32_t)world_below(v->w, size - v->hot_len);
}

static void choose_run(struct world *w)
{
	load->depth = 1 + (unsigned)world_below(w, SLOTS);
	load->reads = (unsigned)world_below(w, 60);
	load->flushes = world_chance(w, 40) ? 0 : (unsigned)world_below(w, 25);
	load->fuas = world_chance(w, 40) ? 0 : (unsigned)world_below(w, 25);
	load->last_done_ns = loop_now(w->loop);
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].img)
			workload_aim(&w->vol[i]);
}

struct vol *workload_pick(struct world *w)
{
	struct vol *open[WORLD_VOLS];
	unsigned n = 0;

	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].img && !volume_failed(w->vol[i].img->vol))
			open[n++] = &w->vol[i];
	return n ? open[world_below(w, n)] : NULL;
}

static void stall(struct world *w)
{
	struct fault_rules *r = store_fault_rules(w->fault);

	*(world_chance(w, 50) ? &r->full : &r->gone) = true;
}

static void one_step(struct world *w, unsigned *stop)
{
	uint64_t odd = world_below(w, 1000), more = world_below(w, 1000);
	struct vol *v = workload_pick(w);

	world_leg_step(w);
	if (*stop && --*stop == 0)
		world_store_is_back(w);
	if (*stop && load->in_flight >= load->depth) {
		wait_some(w, 5000000);
		return;
	}
	if (v)
		start_one(v);
	if (world_chance(w, 30))
		wait_some(w, world_chance(w, 80) ? 0 : (int64_t)(1000ull << world_below(w, 20)));
	if (odd > 980 && plan_has(&w->plan, F_ROT))
		world_rot(w);
	if (odd >= 14 && odd < 18 && !*stop && plan_has(&w->plan, F_STALL)) {
		stall(w);
		*stop = 1 + (unsigned)world_below(w, STALL_POLLS);
	}
	if (!*stop)
		admin_step(w, more);
}

void workload_run(struct world *w, unsigned steps)
{
	unsigned stop = 0, step = w->step, life = w->life;

	choose_run(w);
	for (unsigned i = 0; i < steps; i++) {
		step++;
		if (life < PLAN_LIVES)
			w->trail->steps[life] = step;
		if (plan_skips(&w->plan, life, step))
			continue;
		world_at(w, life, step);
		one_step(w, &stop);
	}
	/* What follows does not depend on how many steps there were. */
	world_at(w, life, step + 100000);
}

/* ---- looking at all of it ---- */

static void check_size(struct vol *v, const struct lsvd_image *img)
{
	uint64_t size = lsvd_image_size(img) / SECTOR;

	if (size != v->size_sectors && size != v->other_size)
		world_fail(v->w,
			"%s: the size is %" PRIu64 " sectors; %" PRIu64 " or %" PRIu64 " expected",
			v->name, size, v->size_sectors, v->other_size);
}

bool workload_look(struct vol *v, struct lsvd_image *img, bool bad_ok)
{
	struct world *w = v->w;
	uint64_t size = lsvd_image_size(img) / SECTOR;

	if (!img->snapshot[0])
		check_size(v, img);
	if (size > v->o.sectors)
		world_fail(w, "%s has %" PRIu64 " sectors", v->name, size);
	load->look_failed = 0;
	load->last_done_ns = loop_now(w->loop);
	for (uint32_t lba = 0; lba < size; lba += SETTLE_SECTORS) {
		struct request *r = free_slot(v, img, 8);

		r->lba = lba;
		r->len = lba + SETTLE_SECTORS < size ? SETTLE_SECTORS : (uint32_t)size - lba;
		r->looking = true;
		r->may_fail = bad_ok;
		r->iov[0] = (struct iovec){.iov_base = r->buf, .iov_len = (size_t)r->len * SECTOR};
		r->io.iov = r->iov;
		r->io.iovcnt = 1;
		r->io.op = LSVD_READ;
		submit(r);
	}
	while (load->in_flight)
		wait_some(w, LOOP_FOREVER);
	return load->look_failed == 0;
}

void workload_settle(struct vol *v, struct lsvd_image *img)
{
	uint64_t size = lsvd_image_size(img) / SECTOR;
	uint32_t least = 0, most = UINT32_MAX;

	workload_finish(v->w);
	if (!workload_look(v, img, false))
		world_fail(v->w, "%s: reads fail after the crash", v->name);
	/* A roll-back changes all of it at once. */
	if (v->rolling && size != v->size_sectors)
		least = v->rolling;
	else if (v->rolling && v->other_size != v->size_sectors)
		most = v->rolling - 1;
	v->size_sectors = size;
	v->other_size = 0;
	v->rolling = 0;
	if (!oracle_settle(&v->o, (uint32_t)size, least, most))
		world_fail(v->w, "%s: after the crash %s", v->name, v->o.why);
	v->marks = 0;
	v->told = v->told < v->o.n ? v->told : v->o.n;
	snaps_settled(v);
	world_log(v->w, "%s settled at piece %u", v->name, v->o.n);
}

void workload_compare(struct vol *v, struct lsvd_image *img)
{
	uint64_t size = lsvd_image_size(img) / SECTOR;

	workload_finish(v->w);
	if (workload_look(v, img, v->w->disk_errors) &&
		!oracle_matches(&v->o, (uint32_t)size, v->o.acked, v->o.n))
		world_fail(v->w, "%s: %s", v->name, v->o.why);
}
