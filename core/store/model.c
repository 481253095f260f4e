/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * model.c - a filter that makes a store as slow as a given class of device or service.
 *
 * The arithmetic, in whole nanoseconds of the loop's clock; published figures come from it:
 *
 *   start     a request starts when it is submitted and fewer than `parallel` requests are being
 *             served (0: at once); else it waits, first come first served
 *   ready     = start + latency        GET get_ns; PUT, SWAP, LOCK put_ns; DELETE, UNLOCK
 * delete_ns; LIST list_ns transfer  = ceil(bytes * 10^9 / bytes_per_s); 0 when bytes_per_s is 0
 *             bytes: what a GET returned, what a PUT or SWAP wrote; 0 for the rest and for failures
 *   end       = max(ready, link_free) + transfer; link_free becomes `end`.  The link serves
 * requests in the order in which they become ready; latencies overlap, transfers do not
 *
 * So one request alone takes latency + transfer, n requests in parallel take latency + n transfers,
 * and a class with parallel 1 does one thing after the other.  A place among the `parallel` is held
 * from start to end.
 *
 *   stop      a model may stop once, from `stop_at` after its opening for `stop_for`: a latency or a
 *             transfer that is under way then takes as much longer, one that would begin begins after
 *
 * The store below is asked at `start`.  In virtual time over memory it takes no time, and the above
 * is exact.  Over a real store a request that is answered after `ready` becomes ready then: the
 * model hides the real store's time inside its own and is only late when the real store is slower.
 */
#include "store/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS(x) ((uint64_t)((x)*1000000))

/* hdd: one 7200 rpm disk; ssd: one NVMe drive; s3: an object service in the same region. */
static const struct model_class classes[] = {
	{"hdd", MS(8), MS(8), MS(8), MS(8), 150000000, 1, 0, 0},
	{"ssd", MS(0.1), MS(0.1), MS(0.1), MS(0.1), 2000000000, 32, 0, 0},
	{"s3", MS(20), MS(30), MS(20), MS(50), 200000000, 64, 0, 0},
	{"custom", 0, 0, 0, 0, 0, 0, 0, 0},
};

struct model {
	struct store s;
	struct store *inner;
	struct model_class c;
	struct store_pool pool;
	uint32_t served;
	struct store_req *first, *last; /* waiting for a place */
	uint64_t link_free_ns;
	uint64_t stop_ns; /* when it stops */
};

struct served {
	struct store_req in; /* what the store below works on */
	struct store_req *out;
	struct loop_timer timer;
	uint64_t ready_ns;
	int64_t status;
	bool waited, answered;
};

const struct model_class *store_model_find(const char *name)
{
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (!strcmp(classes[i].name, name))
			return &classes[i];
	return NULL;
}

static uint64_t latency(const struct model_class *c, enum store_op op)
{
	switch (op) {
	case STORE_GET:
		return c->get_ns;
	case STORE_LIST:
		return c->list_ns;
	case STORE_DELETE:
	case STORE_UNLOCK:
		return c->delete_ns;
	default:
		return c->put_ns;
	}
}

static uint64_t transfer_ns(const struct served *q, uint64_t bytes_per_s)
{
	uint64_t bytes = 0;

	if (q->status >= 0 && q->out->op == STORE_GET)
		bytes = (uint64_t)q->status;
	else if (q->status >= 0 && (q->out->op == STORE_PUT || q->out->op == STORE_SWAP))
		bytes = q->out->len_bytes;
	if (!bytes_per_s)
		return 0;
	return (uint64_t)(((unsigned __int128)bytes * 1000000000 + bytes_per_s - 1) / bytes_per_s);
}

static struct model *model_of(const struct served *q)
{
	return container_of(q->out->store, struct model, s);
}

static void start(struct model *m, struct store_req *r);

static void finish(struct served *q)
{
	struct model *m = model_of(q);
	struct store_req *r = q->out;
	int64_t status = q->status;

	store_req_up(r, &q->in);
	store_pool_put(&m->pool, q);
	m->served--;
	if (m->first) {
		struct store_req *next = m->first;

		m->first = next->next;
		start(m, next);
	}
	store_complete(r, status);
}

static void at_end(struct loop_timer *t)
{
	finish(container_of(t, struct served, timer));
}

/* When what takes from `begin` to `end` without a stop really ends. */
static uint64_t past_stop(const struct model *m, uint64_t begin, uint64_t end)
{
	uint64_t on_ns = m->stop_ns + m->c.stop_for_ns;

	if (!m->c.stop_for_ns || begin >= on_ns || (begin < m->stop_ns && end <= m->stop_ns))
		return end;
	return begin < m->stop_ns ? end + m->c.stop_for_ns : on_ns + (end - begin);
}

static void transfer(struct served *q)
{
	struct model *m = model_of(q);
	uint64_t begin = q->ready_ns > m->link_free_ns ? q->ready_ns : m->link_free_ns;
	uint64_t end;

	if (!m->c.bytes_per_s)
		begin = q->ready_ns;
	end = past_stop(m, begin, begin + transfer_ns(q, m->c.bytes_per_s));
	if (m->c.bytes_per_s)
		m->link_free_ns = end;
	if (end <= loop_now(m->s.loop)) {
		finish(q);
		return;
	}
	q->timer.fire = at_end;
	loop_timer_set(m->s.loop, &q->timer, end);
}

static void at_ready(struct loop_timer *t)
{
	struct served *q = container_of(t, struct served, timer);

	q->waited = true;
	if (q->answered)
		transfer(q);
}

static void answered(struct store_req *in, int64_t status)
{
	struct served *q = container_of(in, struct served, in);
	uint64_t now = loop_now(q->out->store->loop);

	q->status = status;
	q->answered = true;
	if (!q->waited)
		return;
	if (now > q->ready_ns)
		q->ready_ns = now;
	transfer(q);
}

static int item(struct store_req *in, const char *name, uint64_t size_bytes)
{
	struct store_req *out = container_of(in, struct served, in)->out;

	return out->item(out, name, size_bytes);
}

static void start(struct model *m, struct store_req *r)
{
	struct served *q = store_pool_get(&m->pool);

	if (!q) {
		store_complete_later(r, -EAGAIN);
		return;
	}
	m->served++;
	*q = (struct served){.out = r};
	store_req_down(&q->in, r);
	q->in.done = answered;
	q->in.item = item;
	q->ready_ns = past_stop(
		m, loop_now(m->s.loop), loop_now(m->s.loop) + latency(&m->c, r->op));
	q->timer.fire = at_ready;
	loop_timer_set(m->s.loop, &q->timer, q->ready_ns);
	store_submit(m->inner, &q->in);
}

static void model_submit(struct store *s, struct store_req *r)
{
	struct model *m = container_of(s, struct model, s);

	if (!m->c.parallel || m->served < m->c.parallel) {
		start(m, r);
		return;
	}
	if (m->first)
		m->last->next = r;
	else
		m->first = r;
	m->last = r;
}

static void model_close(struct store *s)
{
	struct model *m = container_of(s, struct model, s);

	store_close(m->inner);
	store_pool_fini(&m->pool);
	free(m);
}

static const struct store_ops model_ops = {.submit = model_submit, .close = model_close};

int store_model_new(struct store *inner, const struct model_class *c, struct store **out)
{
	struct model *m = calloc(1, sizeof(*m));
	char url[sizeof(m->s.url)];

	if (!m)
		return -ENOMEM;
	snprintf(url, sizeof(url), "model:%.15s:%.480s", c->name, inner->url);
	store_init(&m->s, inner->loop, &model_ops, "model", url);
	m->inner = inner;
	m->c = *c;
	m->stop_ns = loop_now(m->s.loop) + c->stop_at_ns;
	m->pool.item_bytes = sizeof(struct served);
	*out = &m->s;
	return 0;
}

static int set_option(struct model_class *m, const struct store_opt *o, struct err *e)
{
	uint64_t n = 0;
	int rc;

	if (!strcmp(o->key, "bw"))
		return store_opt_count(o, &m->bytes_per_s, e);
	if (!strcmp(o->key, "get"))
		return store_opt_ns(o, &m->get_ns, e);
	if (!strcmp(o->key, "put"))
		return store_opt_ns(o, &m->put_ns, e);
	if (!strcmp(o->key, "stop_at"))
		return store_opt_ns(o, &m->stop_at_ns, e);
	if (!strcmp(o->key, "stop_for"))
		return store_opt_ns(o, &m->stop_for_ns, e);
	if (!strcmp(o->key, "lat")) {
		rc = store_opt_ns(o, &n, e);
		if (!rc)
			m->get_ns = m->put_ns = m->delete_ns = m->list_ns = n;
		return rc;
	}
	if (!strcmp(o->key, "parallel")) {
		rc = store_opt_count(o, &n, e);
		m->parallel = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
		return rc;
	}
	return err_set(e, -EINVAL,
		"model: unknown option '%s'; there are lat, get, put, bw, parallel, stop_at, stop_for", o->key);
}

int model_parse(const char *spec, struct model_class *m, struct err *e)
{
	const struct model_class *c;
	struct store_opt o;
	int rc = 0;

	if (!store_opt_next(&spec, &o) || o.value[0] || !(c = store_model_find(o.key)))
		return err_set(e, -EINVAL, "model: name a class first: hdd, ssd, s3 or custom");
	*m = *c;
	while (!rc && store_opt_next(&spec, &o))
		rc = set_option(m, &o, e);
	return rc;
}
