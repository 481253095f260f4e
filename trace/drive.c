/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * drive.c - see drive.h.
 *
 * One lsvd_io per slot of the engine.  Reads share one buffer, since nobody looks at the bytes;
 * a slot's buffer for writes is made at its first write and grows.
 */
#include "trace/drive.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { ALIGN = 4096, OUTSTANDING_DEFAULT = 256 };
static const uint64_t longest_max = 1ull << 30; /* of a read or write: beyond, it is no block I/O */
static const int64_t nap_ns = 100000000;	/* wakes for `stop` and progress */

struct slot {
	struct lsvd_io io;
	struct iovec iov;
	struct replay_request *q;
	struct drive *d;
	uint8_t *buf;
	uint64_t room;
};

struct drive {
	struct lsvd_image *img;
	const struct drive_options *opt;
	struct replay *replay;
	struct slot *slots;
	unsigned n;
	uint8_t *read_buf;
	uint64_t due_ns; /* the engine's timer; 0 = not set */
};

static uint64_t real_now(void *arg)
{
	struct timespec ts;

	(void)arg;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t drive_now(void *arg)
{
	const struct drive *d = arg;

	return d->opt->now ? d->opt->now(d->opt->now_arg) : real_now(NULL);
}

static void drive_timer(void *arg, uint64_t when_ns)
{
	((struct drive *)arg)->due_ns = when_ns;
}

static void completed(struct lsvd_io *io)
{
	struct slot *s = io->user;

	replay_complete(s->d->replay, s->q, io->status);
}

static int grow(struct slot *s, uint64_t len)
{
	uint64_t room = (len + ALIGN - 1) / ALIGN * ALIGN;
	uint8_t *p;

	if (len <= s->room)
		return 0;
	p = aligned_alloc(ALIGN, room);
	if (!p)
		return -ENOMEM;
	free(s->buf);
	s->buf = p;
	s->room = room;
	return 0;
}

static int prepare_data(struct drive *d, struct slot *s, const struct replay_request *q)
{
	if (q->op == TRACE_READ) {
		s->iov.iov_base = d->read_buf;
	} else {
		if (grow(s, q->len_bytes) < 0)
			return -ENOMEM;
		replay_fill(s->buf, q->len_bytes, q->offset_bytes, q->index, d->opt->seed);
		s->iov.iov_base = s->buf;
	}
	s->iov.iov_len = q->len_bytes;
	s->io.iov = &s->iov;
	s->io.iovcnt = 1;
	return 0;
}

static int drive_submit(void *arg, struct replay_request *q)
{
	static const enum lsvd_op ops[TRACE_OPS] = {[TRACE_READ] = LSVD_READ,
		[TRACE_WRITE] = LSVD_WRITE,
		[TRACE_FLUSH] = LSVD_FLUSH,
		[TRACE_DISCARD] = LSVD_DISCARD,
		[TRACE_WRITE_ZEROES] = LSVD_WRITE_ZEROES};
	struct drive *d = arg;
	struct slot *s = &d->slots[q->slot];
	int rc = 0;

	s->q = q;
	s->io.op = ops[q->op];
	s->io.flags = q->op == TRACE_WRITE && q->flags & TRACE_FUA ? LSVD_FUA : 0;
	s->io.offset_bytes = q->offset_bytes;
	s->io.len_bytes = q->len_bytes;
	s->io.iov = NULL;
	s->io.iovcnt = 0;
	s->io.cb = completed;
	s->io.user = s;
	if (q->op <= TRACE_WRITE)
		rc = prepare_data(d, s, q);
	return rc < 0 ? rc : lsvd_submit(d->img, &s->io);
}

static const struct replay_ops drive_ops = {drive_now, drive_submit, drive_timer};

/* How long lsvd_poll() may sleep. */
static int64_t patience(const struct drive *d)
{
	uint64_t now;

	if (!d->due_ns)
		return nap_ns;
	now = drive_now((void *)d);
	if (d->due_ns <= now)
		return 0;
	return d->due_ns - now < (uint64_t)nap_ns ? (int64_t)(d->due_ns - now) : nap_ns;
}

static int run(struct lsvd_ctx *ctx, struct drive *d)
{
	const struct drive_options *o = d->opt;
	bool stopped = false;

	replay_start(d->replay);
	while (!replay_finished(d->replay)) {
		lsvd_poll(ctx, patience(d));
		if (d->due_ns && d->due_ns <= drive_now(d)) {
			d->due_ns = 0;
			replay_timer(d->replay);
		}
		if (o->progress)
			o->progress(
				o->progress_arg, replay_done(d->replay), replay_bytes(d->replay));
		if (o->stop && *o->stop && !stopped) {
			replay_stop(d->replay);
			stopped = true;
		}
	}
	return stopped ? -EINTR : 0;
}

static int allocate(struct drive *d, struct err *e)
{
	uint64_t longest = replay_longest(d->replay);

	if (longest > longest_max)
		return err_set(e, -EINVAL,
			"the trace has a request of %llu bytes; at most 1 GiB is "
			"replayed",
			(unsigned long long)longest);
	d->slots = calloc(d->n, sizeof(*d->slots));
	d->read_buf = aligned_alloc(ALIGN, longest / ALIGN * ALIGN + ALIGN);
	if (!d->slots || !d->read_buf)
		return err_set(e, -ENOMEM, "replay: out of memory");
	for (unsigned i = 0; i < d->n; i++)
		d->slots[i].d = d;
	return 0;
}

int drive_replay(struct lsvd_ctx *ctx, struct lsvd_image *img, const struct trace_record *records,
	size_t n, const struct drive_options *opt, struct replay_result *out, struct err *e)
{
	struct drive d = {.img = img, .opt = opt};
	struct replay_options ro = opt->replay;
	int rc;

	if (!ro.max_outstanding)
		ro.max_outstanding = OUTSTANDING_DEFAULT;
	ro.image_bytes = lsvd_image_size(img);
	d.n = ro.max_outstanding;
	*out = (struct replay_result){0};
	rc = replay_new(records, n, &ro, &drive_ops, &d, &d.replay, e);
	if (rc < 0)
		return rc;
	rc = allocate(&d, e);
	if (rc == 0) {
		rc = run(ctx, &d);
		replay_get(d.replay, out);
	}
	replay_free(d.replay);
	for (unsigned i = 0; d.slots && i < d.n; i++)
		free(d.slots[i].buf);
	free(d.slots);
	free(d.read_buf);
	return rc;
}
