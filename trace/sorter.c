/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sorter.c - see sorter.h. */
#include "trace/sorter.h"

#include <stdlib.h>

struct item {
	struct trace_record r;
	uint64_t seq; /* place in the stream */
	uint32_t tag;
};

struct sorter {
	struct item ring[SORTER_WINDOW], heap[SORTER_WINDOW];
	uint64_t head, tail; /* of the ring: taken, put */
	uint32_t heaped;
	uint64_t seq, late, last_ns;
};

static bool before(const struct item *a, const struct item *b)
{
	return a->r.submit_ns != b->r.submit_ns ? a->r.submit_ns < b->r.submit_ns : a->seq < b->seq;
}

struct sorter *sorter_new(void)
{
	return calloc(1, sizeof(struct sorter));
}

void sorter_free(struct sorter *s)
{
	free(s);
}

static void heap_put(struct sorter *s, const struct item *x)
{
	uint32_t i = s->heaped++;

	for (; i && before(x, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = *x;
}

static void heap_take(struct sorter *s)
{
	const struct item *x = &s->heap[--s->heaped];
	uint32_t i = 0, k;

	while ((k = 2 * i + 1) < s->heaped) {
		k += k + 1 < s->heaped && before(&s->heap[k + 1], &s->heap[k]);
		if (!before(&s->heap[k], x))
			break;
		s->heap[i] = s->heap[k];
		i = k;
	}
	s->heap[i] = *x;
}

bool sorter_take(struct sorter *s, struct trace_record *out, uint32_t *tag_out)
{
	const struct item *x = NULL;

	if (s->head < s->tail)
		x = &s->ring[s->head % SORTER_WINDOW];
	if (s->heaped && (!x || before(&s->heap[0], x)))
		x = &s->heap[0];
	if (!x)
		return false;
	*out = x->r;
	*tag_out = x->tag;
	if (x == &s->heap[0])
		heap_take(s);
	else
		s->head++;
	s->late += out->submit_ns < s->last_ns;
	s->last_ns = out->submit_ns > s->last_ns ? out->submit_ns : s->last_ns;
	return true;
}

bool sorter_put(struct sorter *s, const struct trace_record *r, uint32_t tag,
	struct trace_record *out, uint32_t *tag_out)
{
	struct item x = {.r = *r, .seq = s->seq++, .tag = tag};

	if (s->head == s->tail || !before(&x, &s->ring[(s->tail - 1) % SORTER_WINDOW]))
		s->ring[s->tail++ % SORTER_WINDOW] = x;
	else
		heap_put(s, &x);
	if (s->tail - s->head + s->heaped < SORTER_WINDOW)
		return false;
	return sorter_take(s, out, tag_out);
}

uint64_t sorter_late(const struct sorter *s)
{
	return s->late;
}
