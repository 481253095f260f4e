/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_workload.h"

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
	struct world *w;
	bool busy, settling;
	uint32_t lba, len;    /* sectors */
	uint32_t first, last; /* pieces */
	uint32_t covers;      /* a flush: pieces acknowledged when it was submitted */
	uint32_t snap[BUF_SECTORS];
	uint8_t buf[BUF_SECTORS * SECTOR + SKEW] __attribute__((aligned(512)));
};

static struct request slots[SLOTS];
static unsigned in_flight;
static uint64_t last_done_ns;
static uint32_t hot_lba, hot_len;
static unsigned depth, reads, flushes, fuas; /* of this run; percent */

/* ---- what went wrong ---- */

static void tell_state(const struct world *w)
{
	const struct volume *v = w->img->vol;
	const struct journal *j = v->journal;

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
	for (unsigned i = 0; i < SLOTS; i++)
		if (slots[i].busy)
			fprintf(stderr, "  in flight: op %d, sectors %u+%u, flags %u\n",
				(int)slots[i].io.op, slots[i].lba, slots[i].len, slots[i].io.flags);
}

/* ---- completions ---- */

static void lift(uint32_t *n, uint32_t to)
{
	if (*n < to)
		*n = to;
}

static void judge(struct world *w, struct request *r)
{
	struct oracle *o = &w->o;

	switch (r->io.op) {
	case LSVD_READ:
		if (!oracle_check_read(o, r->iov[0].iov_base, r->lba, r->len, r->snap))
			world_fail(w, "%s", o->why);
		break;
	case LSVD_FLUSH:
		lift(&o->flushed, r->covers);
		if (w->durable_store)
			lift(&o->stored, r->covers);
		break;
	default:
		oracle_acked(o, r->first, r->last);
		if (r->io.flags & LSVD_FUA)
			lift(&o->flushed, r->last);
		if (r->io.flags & LSVD_FUA && w->durable_store)
			lift(&o->stored, r->last);
		break;
	}
}

static void done(struct lsvd_io *io)
{
	struct request *r = io->user;
	struct world *w = r->w;

	r->busy = false;
	in_flight--;
	last_done_ns = loop_now(w->loop);
	world_log(w, "  done op %d %u+%u: %d", (int)io->op, r->lba, r->len, io->status);
	if (io->status < 0 && !w->disk_model.error_per_million)
		world_fail(w, "op %d of sectors %u+%u failed: %s", (int)io->op, r->lba, r->len,
			strerror(-io->status));
	if (io->status == 0 && !r->settling)
		judge(w, r);
}

static void settled(struct lsvd_io *io)
{
	struct request *r = io->user;
	struct world *w = r->w;

	for (uint32_t s = 0; io->status == 0 && s < r->len; s++) {
		int64_t stamp = oracle_stamp(
			&w->o, (uint8_t *)r->iov[0].iov_base + (size_t)s * SECTOR, r->lba + s);

		if (stamp < 0)
			world_fail(w, "after the crash sector %u holds bytes nobody wrote there",
				r->lba + s);
		w->o.seen[r->lba + s] = (uint32_t)stamp;
	}
	done(io);
}

/* ---- waiting ---- */

static void wait_some(struct world *w, int64_t ns)
{
	int n = loop_poll(w->loop, ns);

	if (!in_flight)
		last_done_ns = loop_now(w->loop);
	if (!in_flight || (n && loop_now(w->loop) - last_done_ns < 300 * NS_PER_S) ||
		(!n && !loop_sim_idle(w->loop)))
		return;
	if (!n)
		fprintf(stderr, "seed %" PRIu64 ": nothing will ever happen again\n", w->seed);
	tell_state(w);
	world_fail(w, "requests do not complete");
}

static void store_answers_again(struct world *w)
{
	struct fault_rules *r = store_fault_rules(w->fault);

	r->full = r->gone = false;
}

void workload_finish(struct world *w)
{
	store_answers_again(w);
	while (in_flight)
		wait_some(w, LOOP_FOREVER);
}

void workload_forget(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		slots[i].busy = false;
	in_flight = 0;
}

static struct request *free_slot(struct world *w, unsigned most)
{
	unsigned i = 0;

	while (in_flight >= most)
		wait_some(w, LOOP_FOREVER);
	while (slots[i].busy)
		i++;
	return &slots[i];
}

/* ---- requests ---- */

static bool submit(struct world *w, struct request *r)
{
	int rc;

	memset(&r->io.cb, 0, sizeof(r->io.cb));
	r->io.offset_bytes = (uint64_t)r->lba * SECTOR;
	r->io.len_bytes = (uint64_t)r->len * SECTOR;
	r->io.cb = r->settling ? settled : done;
	r->io.user = r;
	r->w = w;
	world_log(w, "op %d %u+%u%s pieces %u..%u", (int)r->io.op, r->lba, r->len,
		r->io.flags ? " FUA" : "", r->first, r->last);
	r->busy = true;
	in_flight++;
	rc = lsvd_submit(w->img, &r->io);
	if (rc == 0)
		return true;
	r->busy = false;
	in_flight--;
	if (rc != -EROFS || !w->disk_model.error_per_million)
		world_fail(w, "submit of op %d, sectors %u+%u: %s", (int)r->io.op, r->lba, r->len,
			strerror(-rc));
	return false;
}

/* The buffer in one to three pieces, now and then not aligned. */
static void aim(struct world *w, struct request *r)
{
	uint8_t *p = r->buf + (world_chance(w, 20) ? SKEW : 0);
	uint32_t left = r->len;
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

	return (uint32_t)(kind < 40   ? world_between(w, 1, 8)
			  : kind < 65 ? 8 * world_between(w, 1, 4)
			  : kind < 90 ? world_between(w, 1, 128)
			  : kind < 98 ? world_between(w, 1, 512)
				      : world_between(w, 1, BUF_SECTORS));
}

static void choose_range(struct world *w, struct request *r, uint32_t len)
{
	uint32_t size = (uint32_t)w->size_sectors;

	r->len = len < size ? len : size;
	if (world_chance(w, 60))
		r->lba = hot_lba + (uint32_t)world_below(w, hot_len);
	else
		r->lba = (uint32_t)world_below(w, size);
	if (world_chance(w, 50))
		r->lba &= ~7u;
	if (r->lba + r->len > size)
		r->lba = size - r->len;
}

static void start_write(struct world *w, struct request *r)
{
	uint32_t stamp;

	choose_range(w, r, choose_len(w));
	aim(w, r);
	oracle_submit(&w->o, r->lba, r->len, false, &r->first, &r->last, &stamp);
	oracle_fill(&w->o, r->iov[0].iov_base, r->lba, r->len, stamp);
	r->io.op = LSVD_WRITE;
	r->io.flags = world_chance(w, fuas) ? LSVD_FUA : 0;
	submit(w, r);
}

static void start_zero(struct world *w, struct request *r, enum lsvd_op op)
{
	uint32_t stamp;

	choose_range(w, r, choose_len(w) * (uint32_t)world_between(w, 1, 8));
	oracle_submit(&w->o, r->lba, r->len, true, &r->first, &r->last, &stamp);
	r->io.op = op;
	submit(w, r);
}

static void start_read(struct world *w, struct request *r)
{
	choose_range(w, r, choose_len(w));
	aim(w, r);
	oracle_snap(&w->o, r->lba, r->len, r->snap);
	r->io.op = LSVD_READ;
	submit(w, r);
}

static void start_flush(struct world *w, struct request *r)
{
	r->lba = r->len = 0;
	r->covers = w->o.acked;
	r->io.op = LSVD_FLUSH;
	submit(w, r);
}

static void start_one(struct world *w)
{
	struct request *r = free_slot(w, depth);
	uint64_t kind = world_below(w, 100);

	r->settling = false;
	r->io.flags = 0;
	r->first = r->last = 0;
	if (world_chance(w, reads))
		start_read(w, r);
	else if (kind < 5)
		start_zero(w, r, LSVD_DISCARD);
	else if (kind < 10)
		start_zero(w, r, LSVD_WRITE_ZEROES);
	else if (kind < 10 + flushes)
		start_flush(w, r);
	else
		start_write(w, r);
}

/* ---- administration ---- */

static void check(struct world *w, const char *what, int rc, const char *why)
{
	if (rc < 0 && !w->disk_model.error_per_million)
		world_fail(w, "%s: %s%s%s", what, strerror(-rc), why ? ": " : "", why ? why : "");
}

static void drain(struct world *w)
{
	uint32_t covers = w->o.acked;
	int rc;

	store_answers_again(w);
	world_log(w, "drain");
	rc = lsvd_image_drain(w->img);
	check(w, "drain", rc, NULL);
	if (rc == 0) {
		lift(&w->o.flushed, covers);
		lift(&w->o.stored, covers);
	}
}

static void collect(struct world *w)
{
	unsigned percent = (unsigned)world_between(w, 30, 100);

	store_answers_again(w);
	world_log(w, "gc to %u %%", percent);
	check(w, "gc", lsvd_image_gc(w->img, percent), NULL);
}

static void resize(struct world *w)
{
	uint64_t max = world_chance(w, 80) ? 2048 * 6 : w->o.sectors;
	uint64_t size = world_between(w, 600, max), old = w->size_sectors;
	uint32_t first, last = 0, stamp;
	char why[LSVD_ERR_MAX] = "";
	int rc;

	workload_finish(w);
	if (world_chance(w, 30))
		size = size / 2048 * 2048 + 2048;
	if (size == old || size > w->o.sectors)
		return;
	world_log(w, "resize %" PRIu64 " -> %" PRIu64, old, size);
	if (size < old)
		oracle_submit(
			&w->o, (uint32_t)size, (uint32_t)(old - size), true, &first, &last, &stamp);
	w->other_size = size;
	rc = lsvd_image_resize(w->img, size * SECTOR, true, why);
	check(w, "resize", rc, why);
	w->size_sectors = lsvd_image_size(w->img) / SECTOR;
	w->other_size = 0;
	if (rc == 0 && last) {
		oracle_acked(&w->o, first, last);
		lift(&w->o.flushed, last);
		lift(&w->o.stored, last);
	}
	if (hot_lba + hot_len > w->size_sectors) {
		hot_len = (uint32_t)world_between(w, 1, 500);
		hot_lba = (uint32_t)world_below(w, w->size_sectors - hot_len);
	}
}

/* ---- a run ---- */

static void choose_run(struct world *w)
{
	depth = 1 + (unsigned)world_below(w, SLOTS);
	reads = (unsigned)world_below(w, 60);
	flushes = world_chance(w, 40) ? 0 : (unsigned)world_below(w, 25);
	fuas = world_chance(w, 40) ? 0 : (unsigned)world_below(w, 25);
	last_done_ns = loop_now(w->loop);
	hot_len = (uint32_t)world_between(w, 1, 1000);
	hot_lba = (uint32_t)world_below(w, w->size_sectors - hot_len);
}

void workload_run(struct world *w, unsigned requests)
{
	unsigned stop = 0;

	choose_run(w);
	for (unsigned i = 0; i < requests; i++) {
		uint64_t odd = world_below(w, 1000);

		if (stop && --stop == 0)
			store_answers_again(w);
		if (stop && in_flight >= depth) {
			wait_some(w, 5000000);
			continue;
		}
		start_one(w);
		if (volume_failed(w->img->vol))
			return;
		if (world_chance(w, 30))
			wait_some(w,
				world_chance(w, 80) ? 0 : (int64_t)(1000ull << world_below(w, 20)));
		if (odd > 980)
			world_rot(w);
		if (odd < 4)
			resize(w);
		else if (odd < 8)
			collect(w);
		else if (odd < 14)
			drain(w);
		else if (odd < 18 && !stop) {
			struct fault_rules *r = store_fault_rules(w->fault);

			*(world_chance(w, 50) ? &r->full : &r->gone) = true;
			stop = 1 + (unsigned)world_below(w, STALL_POLLS);
		}
	}
}

void workload_settle(struct world *w)
{
	uint64_t size = lsvd_image_size(w->img) / SECTOR;

	if (size != w->size_sectors && size != w->other_size)
		world_fail(w,
			"the size is %" PRIu64 " sectors; %" PRIu64 " or %" PRIu64 " expected",
			size, w->size_sectors, w->other_size);
	last_done_ns = loop_now(w->loop);
	for (uint32_t lba = 0; lba < size; lba += SETTLE_SECTORS) {
		struct request *r = free_slot(w, 8);

		r->lba = lba;
		r->len = lba + SETTLE_SECTORS < size ? SETTLE_SECTORS : (uint32_t)size - lba;
		r->settling = true;
		r->iov[0] = (struct iovec){.iov_base = r->buf, .iov_len = (size_t)r->len * SECTOR};
		r->io.iov = r->iov;
		r->io.iovcnt = 1;
		r->io.op = LSVD_READ;
		r->io.flags = 0;
		submit(w, r);
	}
	workload_finish(w);
	w->size_sectors = size;
	w->other_size = 0;
	if (!oracle_settle(&w->o, (uint32_t)size))
		world_fail(w, "%s", w->o.why);
	world_log(w, "settled at piece %u", w->o.n);
}
