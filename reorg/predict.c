/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * predict.c - one machine for one boot: loop, simulated SSD, store model, context; and the replay
 * on it.
 *
 *   machine_init -> (warm: a boot that is not measured) -> boot -> machine_fini
 *
 * A boot opens the image, replays the trace and closes the image.  Figures are taken when the last
 * request completed, before the image is closed.
 */
#include "reorg/predict.h"

#include "image/context.h"
#include "reorg/layout.h"
#include "store/overlay.h"
#include "sys/bdev_sim.h"
#include "sys/container.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "trace/replay.h"
#include "volume/clone.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SLOTS = 256, POOL_BYTES = 1 << 30, POLL_NS = 100000000, SPIN_NS = 300000 };

/* The pool's SSD: of the middle class. */
static const struct sim_disk_model ssd = {.read_ns = 80000,
	.write_ns = 20000,
	.flush_ns = 500000,
	.bytes_per_s = 2000000000,
	.parallel = 32};

struct machine {
	const struct predict_input *in;
	struct loop *loop, *below; /* below: where the layout's store lives */
	struct store *store;
	struct sim_disk *disk;
	struct lsvd_ctx *ctx;
	unsigned booted;
};

struct boot;

struct slot {
	struct lsvd_io io;
	struct iovec iov;
	struct replay_request *q;
	struct boot *boot;
};

struct boot {
	struct machine *m;
	struct lsvd_image *img;
	bool started, told;
	struct replay *replay;
	struct loop_timer timer;
	struct slot *slots;
	unsigned in_flight;
	uint64_t wrong_lba; /* the first sector read with wrong contents */
	bool wrong, loose;  /* loose: the trace discards, so what is mapped may read as zeroes */
};

/* ---- the machine ---- */

struct setting {
	const char *key;
	char value[32];
};

static int configure(const struct predict_input *in, struct lsvd_config **out, struct err *e)
{
	struct setting s[] = {{"readahead.max", ""}, {"prefetch.enabled", ""},
		{"gc.enabled", "false"}, {"writer.check_ms", "0"}, {"cache.chunk", ""}};
	size_t n = sizeof(s) / sizeof(s[0]) - !in->chunk_bytes;
	struct lsvd_config *cfg = lsvd_config_defaults();
	int rc = cfg ? 0 : err_set(e, -ENOMEM, "out of memory");

	snprintf(s[0].value, sizeof(s[0].value), "%" PRIu64, in->readahead_bytes);
	snprintf(s[1].value, sizeof(s[1].value), "%s", in->prefetch ? "true" : "false");
	snprintf(s[4].value, sizeof(s[3].value), "%" PRIu64, in->chunk_bytes);
	for (size_t i = 0; i < n && !rc; i++)
		rc = lsvd_config_set(cfg, s[i].key, s[i].value, e ? e->msg : NULL);
	if (rc)
		lsvd_config_free(cfg);
	else
		*out = cfg;
	return rc;
}

static int open_store(struct machine *m, struct err *e)
{
	struct store *base, *over;
	int rc = loop_sim_new(1, &m->below, e);

	if (rc)
		return rc;
	rc = synth_store_on(m->below, m->in->layout->synth, &base);
	if (rc)
		return rc;
	rc = store_overlay_new(m->loop, base, &over);
	if (rc) {
		store_close(base);
		return rc;
	}
	rc = store_model_new(over, &m->in->model, &m->store);
	if (rc)
		store_close(over);
	return rc;
}

static int open_ctx(struct machine *m, struct err *e)
{
	struct lsvd_config *cfg = NULL;
	struct bdev *leg = NULL;
	int rc = sim_disk_new(POOL_BYTES, &ssd, &m->disk);

	if (!rc)
		rc = sim_disk_open(m->disk, m->loop, &leg);
	if (!rc)
		rc = configure(m->in, &cfg, e);
	if (!rc) {
		rc = ctx_open_on(m->loop, cfg, &leg, 1, &m->ctx, e);
		leg = NULL;
	}
	if (leg)
		bdev_close(leg);
	lsvd_config_free(cfg);
	return rc;
}

static int machine_init(struct machine *m, const struct predict_input *in, struct err *e)
{
	int rc;

	*m = (struct machine){.in = in};
	rc = in->real_time ? loop_uring_new(256, &m->loop, e) : loop_sim_new(1, &m->loop, e);
	if (!rc)
		rc = open_store(m, e);
	if (!rc)
		rc = open_ctx(m, e);
	return rc;
}

static void machine_fini(struct machine *m)
{
	if (m->ctx)
		lsvd_ctx_close(m->ctx);
	store_close(m->store);
	sim_disk_free(m->disk);
	if (m->below)
		loop_free(m->below);
	if (m->loop)
		loop_free(m->loop);
}

/* ---- the replay's callbacks ---- */

static uint64_t now(void *arg)
{
	return loop_clock(((struct boot *)arg)->m->loop);
}

static void timer(void *arg, uint64_t when_ns)
{
	struct boot *b = arg;

	loop_timer_set(b->m->loop, &b->timer, when_ns);
}

static void timer_fired(struct loop_timer *t)
{
	struct boot *b = container_of(t, struct boot, timer);

	if (!b->started) {
		b->started = true;
		replay_start(b->replay);
	} else {
		replay_timer(b->replay);
	}
}

static bool is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, 511);
}

/* Written data equals what a mapped sector holds, so only where nothing was mapped either will do.
 */
static void check(struct boot *b, const struct replay_request *q, const uint8_t *buf)
{
	uint64_t lba = q->offset_bytes / 512, end = lba + q->len_bytes / 512;

	for (; lba < end && !b->wrong; lba++, buf += 512) {
		if (synth_is(buf, lba))
			continue;
		if (is_zero(buf) && (b->loose || !layout_maps(b->m->in->layout, lba)))
			continue;
		b->wrong = true;
		b->wrong_lba = lba;
	}
}

static void completed(struct lsvd_io *io)
{
	struct slot *s = container_of(io, struct slot, io);
	struct boot *b = s->boot;

	b->in_flight--;
	/* In real time looking would take real time; the same run in virtual time has looked. */
	if (s->q->op == TRACE_READ && !io->status && !b->m->in->real_time)
		check(b, s->q, s->iov.iov_base);
	replay_complete(b->replay, s->q, io->status);
}

static int submit(void *arg, struct replay_request *q)
{
	static const enum lsvd_op ops[TRACE_OPS] = {
		[TRACE_READ] = LSVD_READ,
		[TRACE_WRITE] = LSVD_WRITE,
		[TRACE_FLUSH] = LSVD_FLUSH,
		[TRACE_DISCARD] = LSVD_DISCARD,
		[TRACE_WRITE_ZEROES] = LSVD_WRITE_ZEROES,
	};
	struct boot *b = arg;
	struct slot *s = &b->slots[q->slot];
	bool data = q->op == TRACE_READ || q->op == TRACE_WRITE;
	int rc;

	if (data && !s->iov.iov_base) {
		s->iov.iov_base =
			aligned_alloc(4096, (replay_longest(b->replay) + 4095) & ~4095ull);
		if (!s->iov.iov_base)
			return -ENOMEM;
	}
	if (q->op == TRACE_WRITE)
		synth_fill(s->iov.iov_base, q->offset_bytes / 512, q->len_bytes / 512);
	s->iov.iov_len = q->len_bytes;
	s->q = q;
	s->boot = b;
	s->io.op = ops[q->op];
	s->io.flags = q->flags & TRACE_FUA ? LSVD_FUA : 0;
	s->io.offset_bytes = q->offset_bytes;
	s->io.len_bytes = q->len_bytes;
	s->io.iov = data ? &s->iov : NULL;
	s->io.iovcnt = data;
	s->io.cb = completed;
	rc = lsvd_submit(b->img, &s->io);
	b->in_flight += !rc;
	return rc;
}

/* ---- a boot ---- */

static bool stopped(const struct machine *m)
{
	return m->in->stop && *m->in->stop;
}

/* Boots at once. */
struct fleet {
	struct machine *m;
	struct boot *boots;
	unsigned n;
};

/* In real time a sleep ends some tens of microseconds late, as long as the pool takes for a read:
 * so short waits are spun through. */
static int64_t wait_ns(const struct fleet *f, uint64_t last_ns)
{
	unsigned in_flight = 0;

	if (!f->m->in->real_time)
		return LOOP_FOREVER;
	for (unsigned i = 0; i < f->n; i++)
		in_flight += f->boots[i].in_flight;
	return in_flight && loop_clock(f->m->loop) - last_ns < SPIN_NS ? 0 : POLL_NS;
}

static bool finished(const struct fleet *f)
{
	for (unsigned i = 0; i < f->n; i++)
		if (!f->boots[i].started || !replay_finished(f->boots[i].replay))
			return false;
	return true;
}

static void stop_all(struct fleet *f)
{
	for (unsigned i = 0; i < f->n; i++) {
		struct boot *b = &f->boots[i];

		if (!b->started)
			timer_fired(&b->timer);
		if (!b->told)
			replay_stop(b->replay);
		b->told = true;
	}
}

/* Add what one boot came to. */
static int take(struct boot *b, struct replay_result *sum, struct err *e)
{
	struct replay_result r;

	loop_timer_cancel(b->m->loop, &b->timer);
	if (b->told)
		return err_set(e, -EINTR, "interrupted");
	replay_get(b->replay, &r);
	if (r.errors)
		return err_set(e, r.first_error, "%" PRIu64 " of the requests failed: %s", r.errors,
			err_text(NULL, r.first_error));
	if (b->wrong)
		return err_set(e, -EBADMSG, "sector %" PRIu64 " was read with wrong contents",
			b->wrong_lba);
	sum->requests += r.requests;
	sum->op[TRACE_READ].requests += r.op[TRACE_READ].requests;
	sum->op[TRACE_READ].bytes += r.op[TRACE_READ].bytes;
	sum->stall_ns += r.stall_ns;
	if (r.read_outstanding_ns > sum->read_outstanding_ns)
		sum->read_outstanding_ns = r.read_outstanding_ns;
	if (r.wall_ns > sum->wall_ns)
		sum->wall_ns = r.wall_ns;
	return 0;
}

static int replay(struct fleet *f, struct replay_result *res, struct err *e)
{
	uint64_t last_ns = 0, now_ns = loop_clock(f->m->loop);
	int rc = 0;

	*res = (struct replay_result){0};
	for (unsigned i = 0; i < f->n; i++) {
		if (f->m->in->apart_ns && i)
			loop_timer_set(f->m->loop, &f->boots[i].timer,
				now_ns + i * f->m->in->apart_ns);
		else
			timer_fired(&f->boots[i].timer);
	}
	while (!finished(f)) {
		int ran = loop_poll(f->m->loop, wait_ns(f, last_ns));

		if (ran)
			last_ns = loop_clock(f->m->loop);
		if (stopped(f->m))
			stop_all(f);
		if (!ran && !f->m->in->real_time)
			return err_set(e, -EIO, "the replay hangs: nothing can happen any more");
	}
	for (unsigned i = 0; i < f->n && !rc; i++)
		rc = take(&f->boots[i], res, e);
	return rc;
}

struct before {
	struct store_counts store; /* of the one handle that all images share */
	struct cache_stats cache;
	uint64_t ns;
};

static struct before look(struct machine *m)
{
	struct before x = {.store = m->store->counts, .ns = loop_clock(m->loop)};

	cache_get_stats(ctx_cache(m->ctx), &x.cache);
	return x;
}

static void measure(const struct before *a, const struct before *open, const struct before *z,
	const struct replay_result *r, struct predict_result *out)
{
	uint64_t used = z->cache.prefetch_used_bytes - a->cache.prefetch_used_bytes;

	*out = (struct predict_result){
		.gets = z->store.ops[STORE_GET] - a->store.ops[STORE_GET],
		.get_bytes = z->store.get_bytes - a->store.get_bytes,
		.open_gets = open->store.ops[STORE_GET] - a->store.ops[STORE_GET],
		.requests = r->requests,
		.reads = r->op[TRACE_READ].requests,
		.read_bytes = r->op[TRACE_READ].bytes,
		.outstanding_ns = r->read_outstanding_ns,
		.stall_ns = r->stall_ns,
		.wall_ns = r->wall_ns,
		.open_ns = open->ns - a->ns,
		.prefetch_bytes = z->cache.prefetch_bytes - a->cache.prefetch_bytes,
	};
	if (out->prefetch_bytes > used)
		out->wasted_bytes = out->prefetch_bytes - used;
}

static int prepare(struct boot *b, struct err *e)
{
	const struct predict_input *in = b->m->in;
	static const struct replay_ops ops = {now, submit, timer};
	struct replay_options opt = {.max_outstanding = SLOTS,
		.image_bytes = in->layout->size_sectors * 512,
		.speed = in->speed};

	b->timer.fire = timer_fired;
	for (size_t i = 0; i < in->n; i++)
		b->loose |= in->records[i].op == TRACE_DISCARD ||
			    in->records[i].op == TRACE_WRITE_ZEROES;
	b->slots = calloc(SLOTS, sizeof(*b->slots));
	if (!b->slots)
		return err_set(e, -ENOMEM, "out of memory");
	return replay_new(in->records, in->n, &opt, &ops, b, &b->replay, e);
}

/* The image itself, or a clone of it for each boot. */
static int open_all(struct fleet *f, struct err *e)
{
	struct machine *m = f->m;
	int rc = 0;

	for (unsigned i = 0; i < f->n && !rc; i++) {
		char name[32] = LAYOUT_NAME;

		f->boots[i].m = m;
		if (m->in->clones) {
			snprintf(name, sizeof(name), LAYOUT_NAME "-%u-%u", m->booted, i);
			rc = volume_clone(m->store, LAYOUT_NAME, NULL, name, e);
		}
		if (!rc)
			rc = ctx_image_open(m->ctx, m->store, name, 0, &f->boots[i].img, e);
		if (!rc)
			rc = prepare(&f->boots[i], e);
	}
	m->booted++;
	return rc;
}

static int close_all(struct fleet *f, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct boot *b = &f->boots[i];
		int rc2 = b->img ? lsvd_image_close(b->img, rc || !e ? NULL : e->msg) : 0;

		rc = rc ? rc : rc2;
		replay_free(b->replay);
		for (size_t k = 0; b->slots && k < SLOTS; k++)
			free(b->slots[k].iov.iov_base);
		free(b->slots);
	}
	return rc;
}

static int boot(struct machine *m, struct predict_result *out, struct err *e)
{
	struct fleet f = {.m = m, .n = m->in->clones ? m->in->clones : 1};
	struct before start, open, end;
	struct replay_result r;
	int rc, rc2;

	f.boots = calloc(f.n, sizeof(*f.boots));
	if (!f.boots)
		return err_set(e, -ENOMEM, "out of memory");
	start = look(m);
	rc = open_all(&f, e);
	open = look(m);
	if (!rc)
		rc = replay(&f, &r, e);
	if (!rc) {
		end = look(m);
		measure(&start, &open, &end, &r, out);
	}
	rc2 = close_all(&f, rc ? NULL : e);
	free(f.boots);
	return rc ? rc : rc2;
}

int predict_run(const struct predict_input *in, struct predict_result *out, struct err *e)
{
	struct machine m;
	int rc;

	if (e)
		e->msg[0] = '\0';
	rc = machine_init(&m, in, e);
	if (!rc && in->warm)
		rc = boot(&m, out, e);
	if (!rc)
		rc = boot(&m, out, e);
	machine_fini(&m);
	return rc ? err_wrap(e, rc, "replay the boot") : 0;
}

/* ---- variants ---- */

const char *predict_variant_name(enum predict_variant v)
{
	static const char *const names[PREDICT_VARIANTS] = {
		"original", "readahead", "reorg", "reorg_prefetch", "warm"};

	return names[v];
}

void predict_variant_set(struct predict_input *in, enum predict_variant v,
	struct predict_layout *plain, struct predict_layout *reorg, uint64_t readahead_bytes)
{
	in->layout = v == PREDICT_REORG || v == PREDICT_REORG_PREFETCH ? reorg : plain;
	in->readahead_bytes = v == PREDICT_READAHEAD ? readahead_bytes : 0;
	in->prefetch = v == PREDICT_REORG_PREFETCH;
	in->warm = v == PREDICT_WARM;
}
