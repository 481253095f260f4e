/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* wire.c - see wire.h and wire_impl.h: cutting streams into units, and the requests in flight. */
#include "trace/wire_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PENDING_FIRST = 64, BLOCK_ASSUMED = 512, BLOCK_MAX = 1 << 16 };

/* ---- requests in flight: a table with buckets, which grows ---- */

static uint32_t bucket_of(const struct wire *w, uint64_t key)
{
	return (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 32) & (w->room - 1);
}

static void link_pending(struct wire *w, uint32_t i)
{
	uint32_t *at = &w->bucket[bucket_of(w, w->pending[i].key)];

	while (*at) /* at the end: the oldest comes first */
		at = &w->pending[*at - 1].next;
	*at = i + 1;
	w->pending[i].next = 0;
}

static void unlink_pending(struct wire *w, uint32_t i)
{
	uint32_t *at = &w->bucket[bucket_of(w, w->pending[i].key)];

	while (*at != i + 1)
		at = &w->pending[*at - 1].next;
	*at = w->pending[i].next;
	w->pending[i].used = false;
	w->n_pending--;
}

static bool grow(struct wire *w)
{
	uint32_t room = w->room ? 2 * w->room : PENDING_FIRST, n = 0;
	struct wire_pending *p;
	uint32_t *b;

	if (room > WIRE_PENDING_MAX)
		return false;
	p = calloc(room, sizeof(*p));
	b = calloc(room, sizeof(*b));
	if (!p || !b) {
		free(p);
		free(b);
		return false;
	}
	if (w->room)
		memcpy(p, w->pending, w->room * sizeof(*p));
	n = w->room;
	free(w->pending);
	free(w->bucket);
	w->pending = p;
	w->bucket = b;
	w->room = room;
	for (uint32_t i = 0; i < n; i++) /* it was full: all are in use, in any order of age */
		link_pending(w, i);
	return true;
}

static void hand_over(struct wire *w, struct wire_pending *p)
{
	if (p->other)
		return;
	if (!trace_record_ok(&p->r)) {
		w->counts->impossible++;
		return;
	}
	w->counts->requests[p->r.op]++;
	w->counts->failed += (p->r.flags & TRACE_ERROR) != 0;
	w->counts->unanswered += p->r.complete_ns == 0;
	w->sink->request(w->sink->arg, &p->r);
}

static uint32_t oldest(const struct wire *w)
{
	uint32_t found = UINT32_MAX;

	for (uint32_t i = 0; i < w->room; i++)
		if (w->pending[i].used &&
			(found == UINT32_MAX ||
				w->pending[i].sequence < w->pending[found].sequence))
			found = i;
	return found;
}

static void drop(struct wire *w, uint32_t i)
{
	struct wire_pending p = w->pending[i];

	unlink_pending(w, i);
	hand_over(w, &p);
}

static struct wire_pending *add(struct wire *w, uint64_t key, uint64_t unit)
{
	uint32_t i;

	if (w->n_pending == w->room && !grow(w)) {
		if (!w->room)
			return NULL; /* no memory for the first */
		drop(w, oldest(w));
	}
	for (i = w->hint; w->pending[i].used;)
		i = (i + 1) & (w->room - 1);
	w->hint = i;
	w->pending[i] = (struct wire_pending){
		.key = key, .unit = unit, .used = true, .sequence = ++w->sequence};
	w->n_pending++;
	link_pending(w, i);
	return &w->pending[i];
}

struct wire_pending *wire_find(struct wire *w, uint64_t key)
{
	uint32_t i = w->room ? w->bucket[bucket_of(w, key)] : 0;

	while (i && w->pending[i - 1].key != key)
		i = w->pending[i - 1].next;
	return i ? &w->pending[i - 1] : NULL;
}

void wire_submit(struct wire *w, uint64_t key, uint64_t unit, const struct trace_record *r)
{
	struct wire_pending *p;

	w->sink->units |= 1ull << (unit < 63 ? unit : 63);
	if (w->sink->unit != WIRE_ANY_UNIT && w->sink->unit != unit) {
		w->counts->other_units++;
		p = add(w, key, unit);
		if (p)
			p->other = true;
		return;
	}
	p = add(w, key, unit);
	if (!p)
		return;
	p->r = *r;
	p->r.submit_ns = w->now_ns;
	p->r.complete_ns = 0;
	p->r.stream = w->stream;
}

void wire_watch(struct wire *w, uint64_t key, uint64_t unit, uint32_t arg)
{
	struct wire_pending *p = add(w, key, unit);

	if (!p)
		return;
	p->other = true;
	p->arg = arg;
}

void wire_complete(struct wire *w, uint64_t key, bool failed)
{
	struct wire_pending *p = wire_find(w, key);

	if (!p)
		w->counts->strays++;
	for (; p; p = wire_find(w, key)) {
		p->r.complete_ns = w->now_ns > p->r.submit_ns ? w->now_ns : p->r.submit_ns;
		if (failed)
			p->r.flags |= TRACE_ERROR;
		drop(w, (uint32_t)(p - w->pending));
	}
}

void wire_reuse(struct wire *w, uint64_t key)
{
	struct wire_pending *p;

	while ((p = wire_find(w, key)))
		drop(w, (uint32_t)(p - w->pending));
}

/* ---- block sizes ---- */

static struct wire_unit *find_unit(const struct wire *w, uint64_t unit)
{
	for (unsigned i = 0; i < w->n_units; i++)
		if (w->units[i].unit == unit)
			return (struct wire_unit *)&w->units[i];
	return NULL;
}

uint32_t wire_block(const struct wire *w, uint64_t unit)
{
	const struct wire_unit *u = find_unit(w, unit);

	return u ? u->block_bytes : BLOCK_ASSUMED;
}

void wire_learn_block(struct wire *w, uint64_t unit, uint64_t block_bytes)
{
	struct wire_unit *u = find_unit(w, unit);

	if (block_bytes < BLOCK_ASSUMED || block_bytes > BLOCK_MAX ||
		(block_bytes & (block_bytes - 1)))
		return;
	if (!u && w->n_units < WIRE_UNITS_MAX) {
		u = &w->units[w->n_units++];
		u->unit = unit;
	}
	if (u)
		u->block_bytes = (uint32_t)block_bytes;
}

void wire_learn_from(struct wire *w, uint64_t unit, uint64_t len_bytes, uint64_t blocks)
{
	if (blocks && len_bytes % blocks == 0)
		wire_learn_block(w, unit, len_bytes / blocks);
}

/* ---- units ---- */

static void lose_place(struct wire *w, struct wire_half *h)
{
	h->have = 0;
	h->skip = 0;
	h->in_unit = false;
	if (!h->searching)
		w->counts->lost_place++;
	h->searching = true;
}

static void end_unit(struct wire *w, enum wire_dir d)
{
	struct wire_half *h = &w->half[d];

	if (!h->in_unit || h->skip)
		return;
	h->in_unit = false;
	w->p->ended(w, d);
}

static void take_front(struct wire_half *h, size_t n)
{
	assert(n && n <= h->have);
	h->have -= n;
	memmove(h->head, h->head + n, h->have);
}

/* Asks the decoder about the header so far, until it wants more or is content. */
static void ask(struct wire *w, enum wire_dir d, bool cut)
{
	struct wire_half *h = &w->half[d];

	while (h->have) {
		int rc;

		h->skip = h->drop = 0;
		rc = w->p->head(w, d, h->head, h->have, cut);
		if (rc > 0 && !cut && (size_t)rc > h->have && rc <= WIRE_HEAD_MAX) {
			h->want = (size_t)rc;
			return;
		}
		if (rc != WIRE_DONE && rc != WIRE_AGAIN) {
			lose_place(w, h);
			return;
		}
		take_front(h, h->drop ? h->drop : h->have);
		if (rc == WIRE_DONE) {
			h->in_unit = true;
			end_unit(w, d);
		}
		if (h->searching)
			return;
	}
}

static size_t gather(struct wire_half *h, size_t want, const uint8_t *p, size_t n)
{
	size_t take = want - h->have < n ? want - h->have : n;

	memcpy(h->head + h->have, p, take);
	h->have += take;
	return take;
}

/* Moves on by a byte until the front looks like a header. */
static size_t search(struct wire *w, enum wire_dir d, const uint8_t *p, size_t n)
{
	struct wire_half *h = &w->half[d];
	size_t least = w->p->least[d], used = gather(h, least, p, n);

	while (h->have == least) {
		if (w->p->plausible(w, d, h->head)) {
			h->searching = false;
			ask(w, d, false);
			return used;
		}
		w->counts->searched_bytes++;
		memmove(h->head, h->head + 1, --h->have);
		if (used == n)
			return used;
		h->head[h->have++] = p[used++];
	}
	return used;
}

void wire_feed(struct wire *w, enum wire_dir d, uint64_t at_ns, const uint8_t *p, size_t n)
{
	struct wire_half *h = &w->half[d];

	w->now_ns = at_ns;
	while (n && !h->deaf) {
		size_t used;

		if (h->skip) {
			used = h->skip < n ? (size_t)h->skip : n;
			h->skip -= used;
			end_unit(w, d);
		} else if (h->searching) {
			used = search(w, d, p, n);
		} else {
			if (!h->have)
				h->want = 1;
			used = gather(h, h->want, p, n);
			if (h->have == h->want)
				ask(w, d, false);
		}
		p += used;
		n -= used;
	}
}

void wire_hole(struct wire *w, enum wire_dir d, uint64_t at_ns, uint64_t n)
{
	struct wire_half *h = &w->half[d];
	uint64_t used;

	w->now_ns = at_ns;
	if (h->deaf || !n)
		return;
	if (!h->searching && h->have)
		ask(w, d, true);
	if (h->searching) {
		h->have = 0;
		return;
	}
	used = h->skip < n ? h->skip : n;
	h->skip -= used;
	n -= used;
	if (used)
		end_unit(w, d);
	if (n && !(w->p->between && w->p->between(w, d, n)))
		lose_place(w, h);
}

void wire_jump(struct wire *w, enum wire_dir d, uint64_t at_ns)
{
	w->now_ns = at_ns;
	if (!w->half[d].deaf)
		lose_place(w, &w->half[d]);
}

void wire_encrypted(struct wire *w)
{
	w->counts->encrypted += !w->half[0].deaf;
	w->half[0].deaf = w->half[1].deaf = true;
}

struct wire *wire_new(const struct wire_protocol *p, struct wire_sink *sink, uint8_t stream)
{
	struct wire *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->p = p;
	w->sink = sink;
	w->counts = sink->counts;
	w->stream = stream;
	if (p->init)
		p->init(w);
	return w;
}

void wire_free(struct wire *w)
{
	if (!w)
		return;
	while (w->n_pending)
		drop(w, oldest(w));
	free(w->pending);
	free(w->bucket);
	free(w);
}

const char *wire_name(const struct wire_protocol *p)
{
	return p->name;
}
