/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_store.c - requests on their way to the store, and those that outlive their writer.
 */
#include "test/sim_world.h"

#include "store/impl.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t MS = 1000000;

static const char *const ops[STORE_OPS] = {
	"put", "get", "delete", "list", "swap", "lock", "unlock"};

/* ---- the filter that knows what is in flight ---- */

struct late_req {
	struct store_req in;
	struct store_req *out;
	struct late_req *prev, *next;
};

struct late {
	struct store s;
	struct world *w;
	struct store *inner;
	struct late_req *in_flight;
};

static struct late *late_of(struct store *s)
{
	return container_of(s, struct late, s);
}

static void late_answered(struct store_req *in, int64_t status)
{
	struct late_req *q = container_of(in, struct late_req, in);
	struct store_req *out = q->out;
	struct world *w = late_of(out->store)->w;

	world_log(w, "    store %s '%s': %lld", ops[out->op], out->name, (long long)status);
	store_req_up(out, in);
	*(q->prev ? &q->prev->next : &late_of(out->store)->in_flight) = q->next;
	if (q->next)
		q->next->prev = q->prev;
	free(q);
	store_complete(out, status);
}

static int late_item(struct store_req *in, const char *name, uint64_t size_bytes)
{
	struct store_req *out = container_of(in, struct late_req, in)->out;

	return out->item(out, name, size_bytes);
}

static void late_submit(struct store *s, struct store_req *r)
{
	struct late *l = late_of(s);
	struct late_req *q = calloc(1, sizeof(*q));

	assert(q);
	store_req_down(&q->in, r);
	q->in.done = late_answered;
	q->in.item = late_item;
	q->out = r;
	q->next = l->in_flight;
	if (q->next)
		q->next->prev = q;
	l->in_flight = q;
	store_submit(l->inner, &q->in);
}

static void late_close(struct store *s)
{
	struct late *l = late_of(s);

	store_close(l->inner);
	while (l->in_flight) {
		struct late_req *q = l->in_flight;

		l->in_flight = q->next;
		free(q);
	}
	free(l);
}

static const struct store_ops late_ops = {.submit = late_submit, .close = late_close};

struct store *late_new(struct world *w, struct store *inner)
{
	struct late *l = calloc(1, sizeof(*l));

	assert(l);
	store_init(&l->s, inner->loop, &late_ops, "late", "sim:");
	l->inner = inner;
	l->w = w;
	return &l->s;
}

/* ---- requests that outlive their writer ---- */

struct stray {
	struct store_req req;
	struct iovec iov;
	struct loop_timer timer;
	char name[STORE_NAME_MAX + 1];
	struct world *w;
	struct stray *next;
	bool landed;
};

static void stray_from(struct world *w, const struct store_req *r)
{
	struct stray *s = calloc(1, sizeof(*s));
	uint8_t *data = malloc(r->len_bytes + 1);
	size_t at = 0;

	assert(s && data);
	snprintf(s->name, sizeof(s->name), "%s", r->name);
	for (int i = 0; i < r->iovcnt; at += r->iov[i].iov_len, i++)
		memcpy(data + at, r->iov[i].iov_base, r->iov[i].iov_len);
	s->iov = (struct iovec){.iov_base = data, .iov_len = at};
	s->req = (struct store_req){.op = r->op,
		.name = s->name,
		.iov = &s->iov,
		.iovcnt = r->iovcnt ? 1 : 0,
		.len_bytes = r->len_bytes};
	memcpy(s->req.tag, r->tag, sizeof(s->req.tag));
	s->w = w;
	s->next = w->strays;
	w->strays = s;
}

void strand(struct world *w, const struct store *late)
{
	const struct late *l = container_of((struct store *)(uintptr_t)late, struct late, s);

	for (const struct late_req *q = l->in_flight; q; q = q->next) {
		enum store_op op = q->out->op;

		if ((op == STORE_PUT || op == STORE_SWAP || op == STORE_DELETE) &&
			world_may(w, F_STRAY, 60))
			stray_from(w, q->out);
	}
}

static void stray_landed(struct store_req *r, int64_t status)
{
	struct stray *s = container_of(r, struct stray, req);

	world_log(s->w, "a stray lands: op %d %s: %lld", (int)r->op, r->name, (long long)status);
	s->landed = true;
}

static void stray_fires(struct loop_timer *t)
{
	struct stray *s = container_of(t, struct stray, timer);

	s->req.done = stray_landed;
	store_submit(s->w->raw, &s->req);
}

/* Some at once, some later; some never. */
void strays_launch(struct world *w)
{
	struct stray **p = &w->strays;

	while (*p) {
		struct stray *s = *p;

		if (s->landed || world_chance(w, 10)) {
			*p = s->next;
			free(s->iov.iov_base);
			free(s);
			continue;
		}
		s->timer.fire = stray_fires;
		loop_timer_set(w->loop, &s->timer,
			loop_now(w->loop) + (world_chance(w, 50) ? 0 : world_below(w, 500 * MS)));
		p = &s->next;
	}
}

void world_land_strays(struct world *w)
{
	bool was = w->blocking;

	w->blocking = true;
	for (struct stray *s = w->strays; s; s = s->next)
		while (!s->landed)
			loop_poll(w->loop, LOOP_FOREVER);
	w->blocking = was;
}

void strays_free(struct world *w)
{
	while (w->strays) {
		struct stray *s = w->strays;

		w->strays = s->next;
		free(s->iov.iov_base);
		free(s);
	}
}
