/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * touch.c - which request of a boot touches a grain first.
 *
 * Requests are intervals of grains.  A sweep over the LBA space keeps the intervals that cover the
 * present place in a heap by request number: its top touches first here.  So the work is n log n in
 * the number of requests, however long they are.
 */
#include "reorg/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { GRAIN_BYTES = PLAN_GRAIN * 512 };

struct interval {
	uint64_t start, end; /* grains */
	size_t request;
};

static int by_start(const void *a, const void *b)
{
	const struct interval *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->request > y->request) - (x->request < y->request);
}

/* Reads touch every grain they reach into; what replaces data has it only where it is whole. */
static struct interval interval_of(const struct trace_record *r, size_t request)
{
	uint64_t end = r->offset_bytes + r->len_bytes;

	if (r->op == TRACE_READ)
		return (struct interval){r->offset_bytes / GRAIN_BYTES,
			(end + GRAIN_BYTES - 1) / GRAIN_BYTES, request};
	return (struct interval){
		(r->offset_bytes + GRAIN_BYTES - 1) / GRAIN_BYTES, end / GRAIN_BYTES, request};
}

static int collect(const struct plan_trace *t, uint64_t size_sectors, struct interval *iv,
	size_t *n, struct err *e)
{
	*n = 0;
	for (size_t i = 0; i < t->n; i++) {
		const struct trace_record *r = &t->records[i];

		if (r->op == TRACE_FLUSH || !r->len_bytes)
			continue;
		if (!trace_record_ok(r) ||
			(r->offset_bytes + r->len_bytes + 511) / 512 > size_sectors)
			return err_set(e, -ERANGE,
				"trace '%s': request %zu ends at byte %" PRIu64
				", the image at %" PRIu64 ": is it a trace of this image?",
				t->name ? t->name : "", i, r->offset_bytes + r->len_bytes,
				size_sectors * 512);
		iv[*n] = interval_of(r, i);
		*n += iv[*n].start < iv[*n].end;
	}
	qsort(iv, *n, sizeof(*iv), by_start);
	return 0;
}

/* ---- a heap of pointers, the smallest request on top ---- */

static void sink(struct interval **heap, size_t n, size_t i)
{
	for (;;) {
		size_t least = i, child = 2 * i + 1;

		for (size_t c = child; c < child + 2 && c < n; c++)
			if (heap[c]->request < heap[least]->request)
				least = c;
		if (least == i)
			return;
		struct interval *x = heap[i];
		heap[i] = heap[least];
		heap[least] = x;
		i = least;
	}
}

static void push(struct interval **heap, size_t *n, struct interval *x)
{
	size_t i = (*n)++;

	while (i && heap[(i - 1) / 2]->request > x->request) {
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = x;
}

static void pop(struct interval **heap, size_t *n)
{
	heap[0] = heap[--*n];
	sink(heap, *n, 0);
}

/* ---- the sweep ---- */

static void emit(const struct plan_trace *t, struct touch *out, size_t *n, uint64_t start,
	uint64_t end, size_t request)
{
	const struct trace_record *r = &t->records[request];

	if (r->op != TRACE_READ)
		return;
	if (*n && out[*n - 1].request == request && out[*n - 1].end == start) {
		out[*n - 1].end = end;
		return;
	}
	out[(*n)++] = (struct touch){.start = start,
		.end = end,
		.us = (r->submit_ns - t->records[0].submit_ns) / 1000,
		.request = request};
}

/* `out` has room for 2n: the answer changes only where an interval begins or ends. */
static size_t sweep(const struct plan_trace *t, struct interval *iv, size_t n,
	struct interval **heap, struct touch *out)
{
	size_t i = 0, h = 0, found = 0;
	uint64_t pos = 0;

	while (i < n || h) {
		uint64_t next;

		if (!h)
			pos = iv[i].start;
		while (i < n && iv[i].start <= pos)
			push(heap, &h, &iv[i++]);
		while (h && heap[0]->end <= pos)
			pop(heap, &h);
		if (!h)
			continue;
		next = heap[0]->end;
		if (i < n && iv[i].start < next)
			next = iv[i].start;
		emit(t, out, &found, pos, next, heap[0]->request);
		pos = next;
	}
	return found;
}

static int by_request(const void *a, const void *b)
{
	const struct touch *x = a, *y = b;

	if (x->request != y->request)
		return x->request < y->request ? -1 : 1;
	return (x->start > y->start) - (x->start < y->start);
}

static int by_place(const void *a, const void *b)
{
	const struct touch *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static void rank(struct touch *t, size_t n)
{
	uint64_t next = 0;

	qsort(t, n, sizeof(*t), by_request);
	for (size_t i = 0; i < n; i++) {
		t[i].rank = next;
		next += t[i].end - t[i].start;
	}
	qsort(t, n, sizeof(*t), by_place);
}

int touch_find(const struct plan_trace *t, uint64_t size_sectors, struct touch **out, size_t *n,
	struct err *e)
{
	struct interval *iv = calloc(t->n + 1, sizeof(*iv));
	struct interval **heap = calloc(t->n + 1, sizeof(*heap));
	struct touch *found = calloc(2 * t->n + 1, sizeof(*found));
	size_t intervals;
	int rc = -ENOMEM;

	if (iv && heap && found)
		rc = collect(t, size_sectors, iv, &intervals, e);
	else
		err_set(e, rc, "trace of %zu requests: out of memory", t->n);
	if (!rc) {
		*n = sweep(t, iv, intervals, heap, found);
		rank(found, *n);
		*out = found;
		found = NULL;
	}
	free(found);
	free(heap);
	free(iv);
	return rc;
}
