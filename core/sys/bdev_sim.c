/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev_sim.c - a simulated disk: sparse platters, a volatile cache, virtual-time service, faults.
 *
 * The pages hold what reads see: all completed writes.  What a power failure may take back is kept
 * as an undo log, oldest first: per write the contents it replaced.  A flush retires the records it
 * covers (those completed before it was submitted).  A crash walks the log from the newest to the
 * oldest and draws each write's fate: a sector that is lost gets the replaced contents back, and an
 * older write of it decides by its own fate; for a sector that is kept older writes no longer
 * matter.
 *
 * A flush that fails dooms the records it should have covered: later flushes do not retire them, as
 * a kernel that reported an error once will not write those pages again.
 *
 * The cache is bounded: beyond CACHE_BYTES the oldest records retire by themselves.
 *
 * Service: up to `parallel` requests at once, the others wait in order.  A request occupies the
 * shared transfer (bytes_per_s) and then takes its jittered latency, so requests complete out of
 * order.
 */
#include "sys/bdev_sim.h"
#include "sys/crc.h"
#include "sys/loop_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE_BYTES = 16384,
	SECTOR = 512,
	SIM_SECTOR = 512,
	CACHE_BYTES = 64 << 20,
	IN_FLIGHT_MAX = 256
};

/* A completed write (or discard) that is not durable. */
struct undo {
	struct undo *older, *newer;
	uint64_t seq, offset_bytes, len_bytes;
	bool durable; /* retired, but kept: a doomed record before it needs to know */
	bool doomed;
	uint8_t old[];
};

struct page {
	uint8_t *bytes;		  /* NULL: zeroes */
	bool borrowed;		  /* from the disk that this one was copied from */
	struct fingerprint print; /* once asked for */
};

struct sim_disk {
	uint64_t size_bytes, changes;
	struct sim_disk_model model;
	struct page *pages;
	struct undo *oldest, *newest;
	uint64_t cached_bytes, last_seq;
	struct sim_dev *on; /* the power-on, or NULL */
};

struct sim_dev {
	struct bdev d;
	struct sim_disk *disk;
	struct bdev_req *waiting, **waiting_end; /* not yet in service, FIFO */
	struct bdev_req *active;		 /* in service */
	uint32_t active_n;
	uint64_t bus_free_ns;
};

static struct sim_dev *dev_of(struct bdev *d)
{
	return container_of(d, struct sim_dev, d);
}

/* ---- platters ---- */

static void *must(void *p)
{
	assert(p);
	return p;
}

static uint8_t *page_for_write(struct sim_disk *d, uint64_t at)
{
	struct page *p = &d->pages[at / PAGE_BYTES];

	if (!p->bytes)
		p->bytes = must(calloc(1, PAGE_BYTES));
	if (p->borrowed)
		p->bytes = memcpy(must(malloc(PAGE_BYTES)), p->bytes, PAGE_BYTES);
	p->borrowed = false;
	p->print = (struct fingerprint){0};
	return p->bytes + at % PAGE_BYTES;
}

static uint64_t pages_of(uint64_t size_bytes)
{
	return (size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
}

static uint64_t in_page(uint64_t at, uint64_t len)
{
	uint64_t room = PAGE_BYTES - at % PAGE_BYTES;

	return len < room ? len : room;
}

static void put(struct sim_disk *d, uint64_t at, const uint8_t *buf, uint64_t len)
{
	for (uint64_t n; len; at += n, buf += n, len -= n) {
		n = in_page(at, len);
		memcpy(page_for_write(d, at), buf, n);
	}
}

static void get(const struct sim_disk *d, uint64_t at, uint8_t *buf, uint64_t len)
{
	for (uint64_t n; len; at += n, buf += n, len -= n) {
		const uint8_t *page = d->pages[at / PAGE_BYTES].bytes;

		n = in_page(at, len);
		if (page)
			memcpy(buf, page + at % PAGE_BYTES, n);
		else
			memset(buf, 0, n);
	}
}

/* ---- what becomes of a write that is cut short ---- */

/* Most faults of real disks: the whole write or none of it, its beginning, or any of its sectors.
 */
struct fate {
	enum { NOTHING, ALL, BEGINNING, ANY, FATES } kind;
	uint64_t cut; /* BEGINNING: so many sectors */
};

static struct fate draw_fate(uint64_t *rand, uint64_t len_bytes)
{
	return (struct fate){.kind = random_next(rand) % FATES,
		.cut = random_next(rand) % (len_bytes / SECTOR + 1)};
}

static bool lands(const struct fate *f, uint64_t sector, uint64_t *rand)
{
	switch (f->kind) {
	case NOTHING:
		return false;
	case BEGINNING:
		return sector < f->cut;
	case ANY:
		return random_next(rand) & 1;
	default:
		return true;
	}
}

/* ---- the volatile cache ---- */

static void drop_oldest(struct sim_disk *d)
{
	struct undo *u = d->oldest;

	d->oldest = u->newer;
	if (d->oldest)
		d->oldest->older = NULL;
	else
		d->newest = NULL;
	d->cached_bytes -= u->len_bytes;
	free(u);
}

/* Remember what is about to be overwritten. */
static void remember(struct sim_disk *d, uint64_t at, uint64_t len)
{
	struct undo *u = must(malloc(sizeof(*u) + len));

	*u = (struct undo){
		.older = d->newest, .seq = ++d->last_seq, .offset_bytes = at, .len_bytes = len};
	get(d, at, u->old, len);
	if (d->newest)
		d->newest->newer = u;
	else
		d->oldest = u;
	d->newest = u;
	d->cached_bytes += len;
	while (d->cached_bytes > CACHE_BYTES && d->oldest != u)
		drop_oldest(d);
}

/* Everything up to and with write `last` becomes durable, or never will. */
static void retire(struct sim_disk *d, uint64_t last, bool failed)
{
	for (struct undo *u = d->oldest; u && u->seq <= last; u = u->newer) {
		if (failed)
			u->doomed = !u->durable;
		else
			u->durable = !u->doomed;
	}
	while (d->oldest && d->oldest->durable)
		drop_oldest(d);
}

static uint8_t bit_of(uint64_t sector)
{
	return (uint8_t)(1u << sector % 8);
}

/* One write is undone sector by sector, where no newer write has been kept. */
static void undo_some(struct sim_disk *d, const struct undo *u, uint8_t *decided, uint64_t *rand)
{
	struct fate fate = draw_fate(rand, u->len_bytes);

	if (u->durable || u->doomed)
		fate.kind = u->durable ? ALL : NOTHING;
	for (uint64_t off = 0; off < u->len_bytes; off += SECTOR) {
		uint64_t sector = (u->offset_bytes + off) / SECTOR;

		if (decided[sector / 8] & bit_of(sector))
			continue;
		if (lands(&fate, off / SECTOR, rand))
			decided[sector / 8] |= bit_of(sector);
		else
			put(d, u->offset_bytes + off, u->old + off, SECTOR);
	}
}

static void lose_power(struct sim_disk *d, uint64_t *rand)
{
	uint8_t *decided = must(calloc(d->size_bytes / SECTOR / 8 + 1, 1));

	for (struct undo *u = d->newest; u; u = u->older)
		undo_some(d, u, decided, rand);
	while (d->oldest)
		drop_oldest(d);
	free(decided);
}

/* ---- what requests do ---- */

static void read_into(struct sim_disk *d, const struct bdev_req *r)
{
	uint64_t at = r->offset_bytes;

	for (int i = 0; i < r->iovcnt; at += r->iov[i].iov_len, i++)
		get(d, at, r->iov[i].iov_base, r->iov[i].iov_len);
}

static uint32_t crc_of(const struct bdev_req *r)
{
	uint32_t crc = 0;

	for (int i = 0; i < r->iovcnt; i++)
		crc = crc32c(crc, r->iov[i].iov_base, r->iov[i].iov_len);
	return crc;
}

/* Write (a discard: zero) the sectors that land. */
static void write_from(
	struct sim_disk *d, const struct bdev_req *r, struct fate fate, uint64_t *rand)
{
	static const uint8_t zeroes[SECTOR];
	uint64_t at = r->offset_bytes, end = at + r->len_bytes, in_iov = 0;
	const struct iovec *v = r->iov;

	remember(d, at, r->len_bytes);
	for (uint64_t i = 0; at < end; i++, at += SECTOR) {
		const uint8_t *from = zeroes;

		if (r->op == BDEV_WRITE) {
			for (; in_iov == v->iov_len; in_iov = 0)
				v++;
			from = (const uint8_t *)v->iov_base + in_iov;
			in_iov += SECTOR;
		}
		if (lands(&fate, i, rand))
			put(d, at, from, SECTOR);
	}
}

static void write_some(struct sim_disk *d, const struct bdev_req *r, uint64_t *rand)
{
	write_from(d, r, draw_fate(rand, r->len_bytes), rand);
}

static void perform(struct sim_disk *d, struct bdev_req *r, bool fails, uint64_t *rand)
{
	d->changes += r->op != BDEV_READ;
	switch (r->op) {
	case BDEV_READ:
		if (!fails)
			read_into(d, r);
		break;
	case BDEV_WRITE:
		/* A buffer that changes while the device reads it is our own bug. */
		assert(r->moved_bytes == crc_of(r));
		if (fails)
			write_some(d, r, rand);
		else
			write_from(d, r, (struct fate){.kind = ALL}, rand);
		break;
	case BDEV_FLUSH:
		retire(d, r->moved_bytes, fails);
		break;
	case BDEV_DISCARD:
		write_some(d, r, rand);
		break;
	}
}

/* ---- service ---- */

static uint64_t jittered(struct sim_dev *s, uint64_t ns)
{
	uint64_t span = ns / 100 * s->disk->model.jitter_percent;

	if (!span)
		return ns;
	span = span < ns ? span : ns;
	return ns - span + loop_random(s->d.loop) % (2 * span + 1);
}

static uint64_t latency(struct sim_dev *s, const struct bdev_req *r)
{
	const struct sim_disk_model *m = &s->disk->model;

	return jittered(s, r->op == BDEV_READ	 ? m->read_ns
			   : r->op == BDEV_FLUSH ? m->flush_ns
						 : m->write_ns);
}

static uint64_t transfer(struct sim_dev *s, const struct bdev_req *r)
{
	uint64_t now = loop_now(s->d.loop), bps = s->disk->model.bytes_per_s;

	if (!bps || r->op == BDEV_DISCARD)
		return now;
	if (s->bus_free_ns < now)
		s->bus_free_ns = now;
	s->bus_free_ns += (uint64_t)((__uint128_t)r->len_bytes * 1000000000u / bps);
	return s->bus_free_ns;
}

static void start_waiting(struct sim_dev *s)
{
	uint32_t max = s->disk->model.parallel;
	struct bdev_req *r;

	while ((r = s->waiting) && (!max || s->active_n < max)) {
		s->waiting = r->next;
		if (!s->waiting)
			s->waiting_end = &s->waiting;
		r->next = s->active;
		s->active = r;
		s->active_n++;
		loop_timer_set(s->d.loop, &r->timer, transfer(s, r) + latency(s, r));
	}
}

static void forget_active(struct sim_dev *s, struct bdev_req *r)
{
	struct bdev_req **p = &s->active;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	s->active_n--;
}

static void served(struct loop_timer *t)
{
	struct bdev_req *r = container_of(t, struct bdev_req, timer);
	struct sim_dev *s = dev_of(r->dev);
	uint64_t rand = random_state(loop_random(s->d.loop));
	bool fails = random_next(&rand) % 1000000 < s->disk->model.error_per_million ||
		     (r->op == BDEV_FLUSH && s->disk->model.flush_fails);

	forget_active(s, r);
	perform(s->disk, r, fails, &rand);
	start_waiting(s);
	r->status = fails ? -EIO : 0;
	r->done(r, r->status);
}

static void sim_submit(struct bdev *d, struct bdev_req *r)
{
	struct sim_dev *s = dev_of(d);

	r->timer = (struct loop_timer){.fire = served};
	/* moved_bytes holds what the request must remember: a checksum, or the last write to cover.
	 */
	if (r->op == BDEV_WRITE)
		r->moved_bytes = crc_of(r);
	else if (r->op == BDEV_FLUSH)
		r->moved_bytes = s->disk->last_seq;
	s->disk->changes += r->op != BDEV_READ;
	r->next = NULL;
	*s->waiting_end = r;
	s->waiting_end = &r->next;
	start_waiting(s);
}

static void power_off(struct sim_dev *s)
{
	s->disk->on = NULL;
	free(s);
}

static void sim_close(struct bdev *d)
{
	struct sim_dev *s = dev_of(d);

	assert(!s->active && !s->waiting);
	power_off(s);
}

static void given_up(struct loop_task *t)
{
	struct bdev_req *r = container_of(t, struct bdev_req, task);

	r->status = -EIO;
	r->done(r, -EIO);
}

static void give_up(struct sim_dev *s, struct bdev_req *r, uint64_t *rand)
{
	if (r->op == BDEV_WRITE || r->op == BDEV_DISCARD)
		write_some(s->disk, r, rand);
	r->task = (struct loop_task){.run = given_up};
	loop_defer(s->d.loop, &r->task);
}

/* Any part of what was in flight may have been done. */
static void sim_abort(struct bdev *d)
{
	struct sim_dev *s = dev_of(d);
	uint64_t rand = random_state(loop_random(d->loop));
	struct bdev_req *r;

	while ((r = s->active)) {
		loop_timer_cancel(d->loop, &r->timer);
		s->active = r->next;
		give_up(s, r, &rand);
	}
	while ((r = s->waiting)) {
		s->waiting = r->next;
		give_up(s, r, &rand);
	}
	s->waiting_end = &s->waiting;
	s->active_n = 0;
}

static const struct bdev_ops sim_ops = {
	.submit = sim_submit, .close = sim_close, .abort = sim_abort};

/* ---- the disk ---- */

int sim_disk_new(uint64_t size_bytes, const struct sim_disk_model *m, struct sim_disk **out)
{
	struct sim_disk *d;

	if (!size_bytes || size_bytes % 4096)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->size_bytes = size_bytes;
	d->model = *m;
	d->pages = calloc(pages_of(size_bytes), sizeof(*d->pages));
	if (!d->pages) {
		free(d);
		return -ENOMEM;
	}
	*out = d;
	return 0;
}

void sim_disk_free(struct sim_disk *d)
{
	if (!d)
		return;
	assert(!d->on);
	while (d->oldest)
		drop_oldest(d);
	for (uint64_t i = 0; i < pages_of(d->size_bytes); i++)
		if (!d->pages[i].borrowed)
			free(d->pages[i].bytes);
	free(d->pages);
	free(d);
}

int sim_disk_open(struct sim_disk *d, struct loop *l, struct bdev **out)
{
	struct sim_dev *s;

	if (d->on)
		return -EBUSY;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->d = (struct bdev){.ops = &sim_ops,
		.loop = l,
		.size_bytes = d->size_bytes,
		.sector_bytes = SIM_SECTOR,
		.url = "sim:"};
	s->disk = d;
	s->waiting_end = &s->waiting;
	d->on = s;
	*out = &s->d;
	return 0;
}

static void tear(struct sim_disk *d, const struct bdev_req *r, uint64_t *rand)
{
	if (r->op == BDEV_WRITE || r->op == BDEV_DISCARD)
		write_some(d, r, rand);
}

/* Requests in flight: nobody hears of them again; their writes may have reached any sector. */
static void abandon(struct sim_dev *s, uint64_t *rand)
{
	struct bdev_req *r;

	for (r = s->active; r; r = r->next) {
		loop_timer_cancel(s->d.loop, &r->timer);
		tear(s->disk, r, rand);
	}
	for (r = s->waiting; r; r = r->next)
		tear(s->disk, r, rand);
	power_off(s);
}

void sim_disk_crash(struct sim_disk *d, uint64_t s, bool process_only)
{
	uint64_t rand = random_state(s);

	if (d->on)
		abandon(d->on, &rand);
	if (!process_only)
		lose_power(d, &rand);
}

bool sim_disk_doubtful(const struct sim_disk *d)
{
	for (const struct undo *u = d->oldest; u; u = u->newer)
		if (u->doomed)
			return true;
	return false;
}

/* ---- what a crash would leave ---- */

static unsigned in_flight(const struct sim_disk *d, struct bdev_req **r, unsigned most)
{
	struct bdev_req *const from[] = {
		d->on ? d->on->active : NULL, d->on ? d->on->waiting : NULL};
	unsigned n = 0;

	for (unsigned i = 0; i < 2; i++)
		for (struct bdev_req *q = from[i]; q; q = q->next)
			if (q->op == BDEV_WRITE || q->op == BDEV_DISCARD) {
				assert(!most || n < most);
				if (most)
					r[n] = q;
				n++;
			}
	return n;
}

unsigned sim_disk_undecided(const struct sim_disk *d)
{
	unsigned n = in_flight(d, NULL, 0);

	for (const struct undo *u = d->oldest; u; u = u->newer)
		n++;
	return n;
}

static void decide(struct sim_disk *d, const struct undo *u, bool keep, uint8_t *decided)
{
	for (uint64_t off = 0; off < u->len_bytes; off += SECTOR) {
		uint64_t sector = (u->offset_bytes + off) / SECTOR;

		if (decided[sector / 8] & bit_of(sector))
			continue;
		if (keep)
			decided[sector / 8] |= bit_of(sector);
		else
			put(d, u->offset_bytes + off, u->old + off, SECTOR);
	}
}

/* From `newest`, which is number n - 1, to the oldest. */
static void keep_some(
	struct sim_disk *d, const struct undo *newest, uint64_t kept, unsigned n, uint8_t *decided)
{
	for (const struct undo *u = newest; u; u = u->older) {
		bool keep = kept >> (--n < 63 ? n : 63) & 1;

		decide(d, u, u->durable || (keep && !u->doomed), decided);
	}
}

static int copy(const struct sim_disk *d, struct sim_disk **out)
{
	int rc = sim_disk_new(d->size_bytes, &d->model, out);

	if (rc < 0)
		return rc;
	memcpy((*out)->pages, d->pages, pages_of(d->size_bytes) * sizeof(*d->pages));
	for (uint64_t i = 0; i < pages_of(d->size_bytes); i++)
		(*out)->pages[i].borrowed = d->pages[i].bytes != NULL;
	return 0;
}

int sim_disk_after_crash(const struct sim_disk *d, uint64_t kept, struct sim_disk **out)
{
	static const struct fate all = {.kind = ALL};
	struct bdev_req *r[IN_FLIGHT_MAX];
	unsigned n = in_flight(d, r, IN_FLIGHT_MAX), total = sim_disk_undecided(d);
	uint64_t rand = 1;
	struct sim_disk *c;
	uint8_t *decided;
	int rc = copy(d, &c);

	if (rc < 0)
		return rc;
	decided = must(calloc(d->size_bytes / SECTOR / 8 + 1, 1));
	for (unsigned i = 0; i < n; i++)
		write_from(c, r[i], all, &rand);
	keep_some(c, c->newest, kept, total, decided);
	keep_some(c, d->newest, kept, total - n, decided);
	while (c->oldest)
		drop_oldest(c);
	free(decided);
	*out = c;
	return 0;
}

uint64_t sim_disk_changes(const struct sim_disk *d)
{
	return d->changes;
}

void sim_disk_fingerprint(struct sim_disk *d, struct fingerprint *sum)
{
	for (uint64_t i = 0; i < pages_of(d->size_bytes); i++) {
		struct page *p = &d->pages[i];

		if (!p->bytes)
			continue;
		if (!p->print.a && !p->print.b)
			fingerprint_add(&p->print, p->bytes, PAGE_BYTES);
		fingerprint_add_u64(sum, i);
		fingerprint_add(sum, &p->print, sizeof(p->print));
	}
}

void sim_disk_rot(struct sim_disk *d, uint64_t offset_bytes, unsigned bit)
{
	assert(offset_bytes < d->size_bytes && bit < 8);
	*page_for_write(d, offset_bytes) ^= (uint8_t)(1u << bit);
}

struct sim_disk_model *sim_disk_model(struct sim_disk *d)
{
	return &d->model;
}

void sim_disk_peek(struct sim_disk *d, uint64_t offset_bytes, void *buf, uint64_t len)
{
	assert(len <= d->size_bytes && offset_bytes <= d->size_bytes - len);
	get(d, offset_bytes, buf, len);
}
