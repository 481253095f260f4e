/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* analyse.c - see analyse.h. */
#include "trace/analyse.h"
#include "sys/stats.h"
#include "trace/blocks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { BLOCK = 4096 };
static const uint64_t oversize = 4ull << 30;

/* The number of the first power of two, from 1, that v does not exceed. */
static unsigned ceil_log2(uint64_t v)
{
	return v > 1 ? 64 - (unsigned)__builtin_clzll(v - 1) : 0;
}

unsigned trace_size_bucket(uint64_t len_bytes)
{
	unsigned k = ceil_log2(len_bytes);

	k = k < 9 ? 0 : k - 9;
	return k < SIZE_BUCKETS ? k : SIZE_BUCKETS - 1;
}

uint64_t trace_size_limit(unsigned bucket)
{
	return bucket < SIZE_BUCKETS - 1 ? 512ull << bucket : UINT64_MAX;
}

unsigned trace_reuse_bucket(uint64_t touches)
{
	unsigned k = ceil_log2(touches);

	return k < REUSE_BUCKETS ? k : REUSE_BUCKETS - 1;
}

static int by_from(const void *a, const void *b)
{
	const struct trace_interval *x = a, *y = b;

	return x->from_ns < y->from_ns ? -1 : x->from_ns > y->from_ns;
}

uint64_t trace_covered_ns(struct trace_interval *v, size_t n)
{
	uint64_t covered = 0, reached = 0;

	qsort(v, n, sizeof(*v), by_from);
	for (size_t i = 0; i < n; i++) {
		uint64_t from = v[i].from_ns > reached ? v[i].from_ns : reached;

		if (v[i].to_ns > from)
			covered += v[i].to_ns - from;
		if (v[i].to_ns > reached)
			reached = v[i].to_ns;
	}
	return covered;
}

static void latencies(const struct trace *t, unsigned op, struct hist *h, struct trace_op_info *o)
{
	hist_reset(h);
	for (size_t i = 0; i < t->n; i++) {
		const struct trace_record *r = &t->records[i];

		if (r->op == op && r->complete_ns)
			hist_record(h, r->complete_ns - r->submit_ns);
	}
	o->known = h->count;
	o->total_ns = h->sum;
	o->p50_ns = hist_percentile(h, 50);
	o->p99_ns = hist_percentile(h, 99);
	o->max_ns = h->max;
}

static void count_request(struct trace_info *info, const struct trace_record *r, uint64_t *ends)
{
	struct trace_op_info *o = &info->op[r->op];
	uint64_t end = r->offset_bytes + r->len_bytes;

	o->sequential += o->requests && r->offset_bytes == ends[r->op] && r->op != TRACE_FLUSH;
	ends[r->op] = end;
	o->requests++;
	o->bytes += r->len_bytes;
	o->errors += (r->flags & TRACE_ERROR) != 0;
	o->sizes[trace_size_bucket(r->len_bytes)]++;
	info->requests++;
	info->bytes += r->op <= TRACE_WRITE ? r->len_bytes : 0;
	if (end > info->end_bytes && r->op != TRACE_FLUSH)
		info->end_bytes = end;
	if (r->op == TRACE_READ) {
		info->source[r->source].requests++;
		info->source[r->source].bytes += r->len_bytes;
	}
}

static bool touches(const struct trace_record *r)
{
	return r->op <= TRACE_WRITE && r->len_bytes && r->len_bytes <= oversize;
}

static uint64_t last_block(const struct trace_record *r)
{
	return (r->offset_bytes + r->len_bytes - 1) / BLOCK;
}

static void count_reuse(const struct block_table *b, struct trace_info *info)
{
	for (size_t i = 0; i < b->slots; i++) {
		const struct block_entry *s = &b->slot[i];

		if (!s->block)
			continue;
		info->reuse[trace_reuse_bucket(s->count)]++;
		info->blocks++;
		info->read_blocks += s->read;
		info->written_blocks += s->written;
	}
}

static int touch_blocks(struct block_table *b, const struct trace_record *r, struct trace_info *info)
{
	int rc = 0;

	for (uint64_t k = r->offset_bytes / BLOCK; k <= last_block(r) && rc == 0; k++) {
		uint64_t stamp = 0, d = blocks_touch(b, k, r->op == TRACE_WRITE, &stamp, &rc);
		unsigned bucket = ceil_log2(d == UINT64_MAX ? 0 : d + 1);

		info->touches++;
		if (d != UINT64_MAX)
			info->distance[bucket < DISTANCE_BUCKETS ? bucket : DISTANCE_BUCKETS - 1]++;
	}
	return rc;
}

static int count_blocks(const struct trace *t, struct trace_info *info)
{
	struct block_table b;
	int rc = blocks_init(&b);

	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		const struct trace_record *r = &t->records[i];

		if (touches(r))
			rc = touch_blocks(&b, r, info);
		else if (r->op <= TRACE_WRITE && r->len_bytes)
			info->oversized++;
	}
	if (rc == 0)
		count_reuse(&b, info);
	blocks_fini(&b);
	return rc;
}

static uint64_t outstanding(const struct trace *t, struct trace_interval *v)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		const struct trace_record *r = &t->records[i];

		if (r->op == TRACE_READ && r->complete_ns)
			v[n++] = (struct trace_interval){r->submit_ns, r->complete_ns};
	}
	return trace_covered_ns(v, n);
}

int trace_analyse(const struct trace *t, struct trace_info *info)
{
	uint64_t ends[TRACE_OPS] = {0}, last = 0;
	struct trace_interval *v = calloc(t->n + 1, sizeof(*v));
	struct hist *h = calloc(1, sizeof(*h));
	int rc = v && h ? 0 : -ENOMEM;

	*info = (struct trace_info){0};
	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		const struct trace_record *r = &t->records[i];
		uint64_t end = r->complete_ns ? r->complete_ns : r->submit_ns;

		count_request(info, r, ends);
		last = end > last ? end : last;
	}
	if (rc == 0 && t->n) {
		info->duration_ns = last - t->records[0].submit_ns;
		info->read_outstanding_ns = outstanding(t, v);
		for (unsigned op = 0; op < TRACE_OPS; op++)
			latencies(t, op, h, &info->op[op]);
		info->stall_ns = info->op[TRACE_READ].total_ns;
		rc = count_blocks(t, info);
	}
	free(v);
	free(h);
	return rc;
}
