/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * replay.c - see replay.h.
 *
 * The completions of the trace, sorted by time, are numbered; `need` of a request is how many of
 * them came before its submission.  Both `need` and, for one `need`, the submission time only grow
 * along the trace, so the engine needs one cursor over the requests, one over the contiguous prefix
 * of completions that have happened again, and one timer.
 */
#include "trace/replay.h"
#include "sys/stats.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { OUTSTANDING_DEFAULT = 256, NO_RANK = UINT32_MAX };

struct item {
	uint64_t offset_bytes, len_bytes;
	uint64_t think_ns; /* already scaled */
	uint32_t need;	   /* completions that come first */
	uint32_t rank;	   /* of its own completion, or NO_RANK */
	uint8_t op, flags;
};

struct replay {
	struct replay_options opt;
	struct replay_ops ops;
	void *arg;
	struct item *items;
	uint32_t n, next;
	/* completions that happened again */
	uint64_t *reached_ns; /* [k]: when the first k + 1 had */
	uint8_t *done;
	uint32_t ranks, prefix;
	/* in flight */
	struct replay_request *pool, **free;
	unsigned inflight, reads, most;
	/* measured */
	struct hist latency[TRACE_OPS];
	uint64_t start_ns, end_ns, reads_since_ns, read_outstanding_ns, recorded_ns;
	uint64_t total_bytes, done_bytes, held_back, longest;
	uint64_t requests[TRACE_OPS], bytes[TRACE_OPS], errors[TRACE_OPS];
	int first_error;
	bool stopped, was_full;
};

/* ---- preparing ---- */

/* Whole sectors, within the image; a flush has none. */
static int place(const struct replay *r, const struct trace_record *rec, uint64_t index,
	struct item *it, struct err *e)
{
	uint64_t start = rec->offset_bytes / LSVD_SECTOR * LSVD_SECTOR;
	uint64_t end =
		(rec->offset_bytes + rec->len_bytes + LSVD_SECTOR - 1) / LSVD_SECTOR * LSVD_SECTOR;
	uint64_t size = r->opt.image_bytes / LSVD_SECTOR * LSVD_SECTOR;

	if (rec->op == TRACE_FLUSH)
		return 0;
	if (!rec->len_bytes)
		end = start;
	it->len_bytes = end - start;
	if (size && end > size && r->opt.wrap) {
		if (it->len_bytes > size)
			it->len_bytes = size;
		start %= size;
		if (start > size - it->len_bytes)
			start = size - it->len_bytes;
	} else if (size && end > size) {
		return err_set(e, -ERANGE,
			"request %" PRIu64 " (%s at %" PRIu64 ", %" PRIu64
			" bytes) is beyond the image's "
			"end (%" PRIu64 " bytes)",
			index + 1, trace_op_name(rec->op), rec->offset_bytes, rec->len_bytes,
			r->opt.image_bytes);
	}
	it->offset_bytes = start;
	return 0;
}

/* A request with nothing to move (zero length after all) is left out, as are others on demand. */
static bool wanted(const struct replay *r, const struct trace_record *rec)
{
	if (r->opt.reads_only && rec->op != TRACE_READ)
		return false;
	return rec->op == TRACE_FLUSH || rec->len_bytes;
}

struct completion {
	uint64_t when_ns;
	uint32_t item;
};

static int by_time(const void *a, const void *b)
{
	const struct completion *x = a, *y = b;

	if (x->when_ns != y->when_ns)
		return x->when_ns < y->when_ns ? -1 : 1;
	return x->item < y->item ? -1 : x->item > y->item;
}

static uint64_t scale(const struct replay *r, uint64_t ns)
{
	if (r->opt.asap || r->opt.unordered)
		return 0;
	return r->opt.speed == 1 ? ns : (uint64_t)((double)ns / r->opt.speed);
}

/* Fills need, rank and think_ns.  submit[i] belongs to items[i]. */
static void order(struct replay *r, struct completion *c, const uint64_t *submit)
{
	uint32_t need = 0;

	qsort(c, r->ranks, sizeof(*c), by_time);
	for (uint32_t k = 0; k < r->ranks; k++)
		r->items[c[k].item].rank = k;
	for (uint32_t i = 0; i < r->n; i++) {
		struct item *it = &r->items[i];

		/* not its own: a completion at the very moment of the submission is none before */
		while (need < r->ranks && c[need].when_ns <= submit[i] && c[need].item < i)
			need++;
		it->need = r->opt.unordered ? 0 : need;
		it->think_ns = scale(r, submit[i] - (need ? c[need - 1].when_ns : submit[0]));
	}
}

static int prepare(struct replay *r, const struct trace_record *records, size_t n, struct err *e)
{
	struct completion *c = calloc(n + 1, sizeof(*c));
	uint64_t *submit = calloc(n + 1, sizeof(*submit)), end = 0;
	int rc = c && submit ? 0 : err_set(e, -ENOMEM, "replay: out of memory");

	for (size_t i = 0; rc == 0 && i < n; i++) {
		const struct trace_record *rec = &records[i];
		struct item *it = &r->items[r->n];
		uint64_t done = rec->complete_ns ? rec->complete_ns : rec->submit_ns;

		assert(!i || rec->submit_ns >= records[i - 1].submit_ns);
		if (!wanted(r, rec))
			continue;
		it->op = rec->op;
		it->flags = rec->flags;
		it->rank = NO_RANK;
		rc = place(r, rec, i, it, e);
		r->total_bytes += it->len_bytes;
		if (rec->op <= TRACE_WRITE && it->len_bytes > r->longest)
			r->longest = it->len_bytes;
		if (rec->complete_ns)
			c[r->ranks++] = (struct completion){.when_ns = done, .item = r->n};
		submit[r->n++] = rec->submit_ns;
		end = done > end ? done : end;
	}
	if (rc == 0 && r->n) {
		order(r, c, submit);
		r->recorded_ns = end - submit[0];
	}
	free(submit);
	free(c);
	return rc;
}

static int allocate(struct replay *r, size_t n)
{
	unsigned max = r->opt.max_outstanding;

	r->items = calloc(n + 1, sizeof(*r->items));
	r->reached_ns = calloc(n + 1, sizeof(*r->reached_ns));
	r->done = calloc(n + 1, 1);
	r->pool = calloc(max, sizeof(*r->pool));
	r->free = calloc(max, sizeof(*r->free));
	if (!r->items || !r->reached_ns || !r->done || !r->pool || !r->free)
		return -ENOMEM;
	for (unsigned i = 0; i < max; i++) {
		r->pool[i].slot = i;
		r->free[max - 1 - i] = &r->pool[i];
	}
	return 0;
}

int replay_new(const struct trace_record *records, size_t n, const struct replay_options *opt,
	const struct replay_ops *ops, void *arg, struct replay **out, struct err *e)
{
	struct replay *r = calloc(1, sizeof(*r));
	int rc;

	if (!r || n >= NO_RANK) {
		free(r);
		return err_set(e, -ENOMEM, "replay: out of memory");
	}
	*r = (struct replay){.opt = *opt, .ops = *ops, .arg = arg};
	if (!(r->opt.speed > 0))
		r->opt.speed = 1;
	if (!r->opt.max_outstanding)
		r->opt.max_outstanding = OUTSTANDING_DEFAULT;
	rc = allocate(r, n);
	if (rc < 0)
		err_set(e, rc, "replay: out of memory");
	else
		rc = prepare(r, records, n, e);
	if (rc < 0) {
		replay_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	assert(!r->inflight);
	free(r->items);
	free(r->reached_ns);
	free(r->done);
	free(r->pool);
	free(r->free);
	free(r);
}

/* ---- running ---- */

static void finish_item(struct replay *r, uint32_t i, int status, uint64_t now)
{
	const struct item *it = &r->items[i];

	r->done_bytes += it->len_bytes;
	r->requests[it->op]++;
	r->end_ns = now;
	if (status < 0) {
		r->errors[it->op]++;
		r->first_error = r->first_error ? r->first_error : status;
	} else {
		r->bytes[it->op] += it->len_bytes;
	}
	if (it->rank == NO_RANK)
		return;
	r->done[it->rank] = 1;
	while (r->prefix < r->ranks && r->done[r->prefix])
		r->reached_ns[r->prefix++] = now;
}

static int submit_item(struct replay *r, uint32_t i, uint64_t now)
{
	const struct item *it = &r->items[i];
	struct replay_request *q = r->free[r->opt.max_outstanding - ++r->inflight];
	int rc;

	*q = (struct replay_request){.op = it->op,
		.flags = it->flags,
		.slot = q->slot,
		.offset_bytes = it->offset_bytes,
		.len_bytes = it->len_bytes,
		.index = i,
		.submit_ns = now};
	if (it->op == TRACE_READ && !r->reads++)
		r->reads_since_ns = now;
	if (r->inflight > r->most)
		r->most = r->inflight;
	rc = r->ops.submit(r->arg, q);
	return rc;
}

static void release(struct replay *r, struct replay_request *q, uint64_t now)
{
	r->free[r->opt.max_outstanding - r->inflight--] = q;
	if (q->op == TRACE_READ && !--r->reads)
		r->read_outstanding_ns += now - r->reads_since_ns;
}

/* Submits all that is due; arms the timer for what is next. */
static void pump(struct replay *r)
{
	while (r->next < r->n && !r->stopped) {
		const struct item *it = &r->items[r->next];
		uint64_t now = r->ops.now(r->arg), due;
		int rc;

		if (it->need > r->prefix)
			return;
		due = (it->need ? r->reached_ns[it->need - 1] : r->start_ns) + it->think_ns;
		if (due > now) {
			r->ops.timer(r->arg, due);
			return;
		}
		if (r->inflight == r->opt.max_outstanding) {
			r->held_back += !r->was_full;
			r->was_full = true;
			return;
		}
		r->was_full = false;
		rc = submit_item(r, r->next++, now);
		if (rc < 0) {
			release(r, r->free[r->opt.max_outstanding - r->inflight], now);
			finish_item(r, r->next - 1, rc, now);
		}
	}
}

void replay_start(struct replay *r)
{
	r->start_ns = r->end_ns = r->ops.now(r->arg);
	pump(r);
}

void replay_timer(struct replay *r)
{
	pump(r);
}

void replay_complete(struct replay *r, struct replay_request *q, int status)
{
	uint64_t now = r->ops.now(r->arg);
	uint32_t i = (uint32_t)q->index;

	assert(r->inflight > 0);
	if (status >= 0)
		hist_record(&r->latency[q->op], now - q->submit_ns);
	release(r, q, now);
	finish_item(r, i, status, now);
	pump(r);
}

void replay_stop(struct replay *r)
{
	r->stopped = true;
}

bool replay_finished(const struct replay *r)
{
	return !r->inflight && (r->stopped || r->next == r->n);
}

uint64_t replay_bytes(const struct replay *r)
{
	return r->total_bytes;
}

uint64_t replay_done(const struct replay *r)
{
	return r->done_bytes;
}
uint64_t replay_longest(const struct replay *r)
{
	return r->longest;
}

/* ---- the figures ---- */

static struct lsvd_latency summary(const struct hist *h)
{
	return (struct lsvd_latency){.count = h->count,
		.mean_ns = (uint64_t)hist_mean(h),
		.p50_ns = hist_percentile(h, 50),
		.p99_ns = hist_percentile(h, 99),
		.p999_ns = hist_percentile(h, 99.9),
		.max_ns = h->max};
}

void replay_get(const struct replay *r, struct replay_result *out)
{
	assert(replay_finished(r));
	*out = (struct replay_result){.first_error = r->first_error,
		.read_outstanding_ns = r->read_outstanding_ns,
		.wall_ns = r->end_ns - r->start_ns,
		.recorded_ns = r->recorded_ns,
		.held_back = r->held_back,
		.outstanding = r->most};
	for (unsigned op = 0; op < TRACE_OPS; op++) {
		out->requests += r->requests[op];
		out->bytes += r->bytes[op];
		out->errors += r->errors[op];
		out->op[op] = (struct replay_op_result){.requests = r->requests[op],
			.bytes = r->bytes[op],
			.errors = r->errors[op],
			.latency = summary(&r->latency[op])};
	}
	out->stall_ns = r->latency[TRACE_READ].sum;
}

void replay_fill(
	void *buf, uint64_t len_bytes, uint64_t offset_bytes, uint64_t index, uint64_t seed)
{
	uint64_t x = (offset_bytes / 8 + 1) * 0x9E3779B97F4A7C15ull ^
		     (index + 1) * 0xD1B54A32D192ED03ull ^ seed * 0x8CB92BA72F3D8DD7ull;
	uint8_t *p = buf;

	for (uint64_t i = 0; i + 8 <= len_bytes; i += 8) {
		uint64_t v = x += 0x9E3779B97F4A7C15ull;

		v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9ull;
		v ^= v >> 27;
		memcpy(p + i, &v, 8);
	}
}
