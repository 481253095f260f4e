/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault.c - a filter that makes a store misbehave on purpose, by rules and a seed.
 *
 * Every request draws its fate when it is submitted, always the same number of draws, so that one
 * rule's change does not shift the others' dice.  Fates: pass; fail and never reach the store
 * below; reach it and fail all the same; a short GET; a stale LIST.  Each request is delayed, by a
 * coin before or after it reaches the store below: so requests take effect and complete out of
 * order.
 *
 * A stale LIST differs from the truth by one of the names put or deleted lately (of the last RECENT
 * that went through here): a put one is left out, a deleted one is still named.
 */
#include "store/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECENT = 64 };

enum fate { PASS, FAIL, FAIL_AFTER, SHORT_GET };

struct recent {
	bool deleted;
	uint64_t size;
	char name[STORE_NAME_MAX + 1]; /* "" = empty place */
};

struct fault {
	struct store s;
	struct store *inner;
	struct fault_rules rules;
	uint64_t put_bytes;
	uint64_t seeded, rng; /* rng goes on from the seed; seeded: which one that was */
	struct store_pool pool;
	struct recent recent[RECENT];
	unsigned recent_at;
};

struct doomed {
	struct store_req in;
	struct store_req *out;
	struct loop_timer timer;
	uint64_t delay_ns;
	enum fate fate;
	bool delay_after;
	int64_t status;
	struct recent lie; /* LIST: what to leave out or to add; "" = nothing */
};

static uint64_t draw(struct fault *f)
{
	uint64_t z;

	if (!f->rules.seed)
		return loop_random(f->s.loop);
	if (f->seeded != f->rules.seed)
		f->seeded = f->rng = f->rules.seed;
	z = f->rng += 0x9e3779b97f4a7c15ull; /* splitmix64 */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static bool hits(uint64_t drawn, uint32_t ppm)
{
	return drawn % 1000000 < ppm;
}

/* ---- stale lists ---- */

static struct recent *find_recent(struct fault *f, const char *name)
{
	for (int i = 0; i < RECENT; i++)
		if (!strcmp(f->recent[i].name, name))
			return &f->recent[i];
	return NULL;
}

static void remember(struct fault *f, const struct store_req *r)
{
	struct recent *k = find_recent(f, r->name);

	if (r->op == STORE_DELETE) {
		if (k)
			k->deleted = true;
		return;
	}
	if (r->op != STORE_PUT && r->op != STORE_SWAP)
		return;
	if (!k) {
		k = &f->recent[f->recent_at++ % RECENT];
		snprintf(k->name, sizeof(k->name), "%s", r->name);
	}
	k->deleted = false;
	k->size = r->len_bytes;
}

/* One of the recent names under the prefix, fairly; nothing when there is none. */
static void choose_lie(struct fault *f, struct doomed *q, uint64_t drawn)
{
	size_t len = strlen(q->out->name);
	unsigned n = 0;

	for (unsigned i = 0; i < RECENT; i++)
		if (f->recent[i].name[0] && !strncmp(f->recent[i].name, q->out->name, len))
			n++;
	if (!n)
		return;
	n = (unsigned)(drawn % n);
	for (unsigned i = 0; i < RECENT; i++) {
		if (!f->recent[i].name[0] || strncmp(f->recent[i].name, q->out->name, len))
			continue;
		if (!n--)
			q->lie = f->recent[i];
	}
}

/* The deleted name, once, when its place in the order has come (name NULL: the list ended). */
static int tell_ghost(struct doomed *q, const char *name)
{
	int c;

	if (!q->lie.name[0] || !q->lie.deleted)
		return 0;
	c = name ? strcmp(q->lie.name, name) : -1;
	if (c > 0)
		return 0;
	q->lie.deleted = false;
	if (!c) { /* it was put again: no lie any more */
		q->lie.name[0] = 0;
		return 0;
	}
	c = q->out->item(q->out, q->lie.name, q->lie.size);
	q->lie.name[0] = 0;
	return c;
}

static int item(struct store_req *in, const char *name, uint64_t size_bytes)
{
	struct doomed *q = container_of(in, struct doomed, in);
	int rc = tell_ghost(q, name);

	if (rc)
		return rc;
	if (!strcmp(q->lie.name, name))
		return 0;
	return q->out->item(q->out, name, size_bytes);
}

/* ---- requests ---- */

static void finish(struct doomed *q)
{
	struct store_req *r = q->out;
	int64_t status = q->status;

	store_pool_put(&container_of(r->store, struct fault, s)->pool, q);
	store_complete(r, status);
}

static void at_end(struct loop_timer *t)
{
	finish(container_of(t, struct doomed, timer));
}

static void later(struct doomed *q, void (*fire)(struct loop_timer *t), uint64_t delay_ns)
{
	struct loop *l = q->out->store->loop;

	q->timer.fire = fire;
	loop_timer_set(l, &q->timer, loop_now(l) + delay_ns);
}

/* Whoever uses the bytes of a failed GET shall notice. */
static void scribble(const struct store_req *r)
{
	for (int i = r->iovcnt / 2; i < r->iovcnt; i++)
		memset(r->iov[i].iov_base, 0xee, r->iov[i].iov_len);
}

static void answered(struct store_req *in, int64_t status)
{
	struct doomed *q = container_of(in, struct doomed, in);
	struct fault *f = container_of(q->out->store, struct fault, s);

	if (status >= 0)
		remember(f, q->out);
	if (!status && q->out->op == STORE_LIST)
		status = tell_ghost(q, NULL);
	q->status = status;
	if (status >= 0 && q->fate == FAIL_AFTER) {
		q->status = err_set(q->out->err, -ETIMEDOUT,
			"%s: '%s': timed out after it was applied (injected)", f->s.url,
			q->out->name);
	} else if (status >= 0 && q->fate == SHORT_GET) {
		q->status = err_set(q->out->err, -EIO, "%s: '%s': short read (injected)", f->s.url,
			q->out->name);
		scribble(q->out);
	} else {
		store_req_up(q->out, in);
	}
	if (q->delay_after && q->delay_ns)
		later(q, at_end, q->delay_ns);
	else
		finish(q);
}

static void pass_on(struct loop_timer *t)
{
	struct doomed *q = container_of(t, struct doomed, timer);

	store_req_down(&q->in, q->out);
	q->in.done = answered;
	q->in.item = item;
	store_submit(container_of(q->out->store, struct fault, s)->inner, &q->in);
}

static void draw_fate(struct fault *f, struct doomed *q)
{
	const struct fault_rules *k = &f->rules;
	enum store_op op = q->out->op;
	uint64_t delay = draw(f), coin = draw(f), fail = draw(f), after = draw(f), odd = draw(f),
		 which = draw(f);

	q->delay_ns = k->delay_min_ns;
	if (k->delay_max_ns > k->delay_min_ns)
		q->delay_ns += delay % (k->delay_max_ns - k->delay_min_ns + 1);
	q->delay_after = coin & 1;
	if (hits(fail, k->fail_ppm[op]))
		q->fate = FAIL;
	else if (hits(after, k->fail_after_ppm[op]))
		q->fate = FAIL_AFTER;
	else if (op == STORE_GET && hits(odd, k->short_get_ppm))
		q->fate = SHORT_GET;
	else if (op == STORE_LIST && hits(odd, k->stale_list_ppm))
		choose_lie(f, q, which);
}

static void fail(struct doomed *q, int status, const char *why)
{
	q->status = err_set(q->out->err, status, "%s: '%s': %s (injected)", q->out->store->url,
		q->out->name, why);
	later(q, at_end, q->delay_ns);
}

static bool is_full(struct fault *f, const struct store_req *r)
{
	if (r->op != STORE_PUT && r->op != STORE_SWAP)
		return false;
	f->put_bytes += r->len_bytes;
	return f->rules.full || (f->rules.full_after && f->put_bytes > f->rules.full_after);
}

static void fault_submit(struct store *s, struct store_req *r)
{
	struct fault *f = container_of(s, struct fault, s);
	struct doomed *q = store_pool_get(&f->pool);

	if (!q) {
		store_complete_later(r, -EAGAIN);
		return;
	}
	*q = (struct doomed){.out = r};
	draw_fate(f, q);
	if (f->rules.gone)
		fail(q, -EIO, "the store is gone");
	else if (is_full(f, r))
		fail(q, -ENOSPC, "the store is full");
	else if (q->fate == FAIL)
		fail(q, -EIO, "failed");
	else if (q->delay_after || !q->delay_ns)
		pass_on(&q->timer);
	else
		later(q, pass_on, q->delay_ns);
}

static void fault_close(struct store *s)
{
	struct fault *f = container_of(s, struct fault, s);

	store_close(f->inner);
	store_pool_fini(&f->pool);
	free(f);
}

static const struct store_ops fault_ops = {.submit = fault_submit, .close = fault_close};

int store_fault_new(struct store *inner, const struct fault_rules *r, struct store **out)
{
	struct fault *f = calloc(1, sizeof(*f));
	char url[sizeof(f->s.url)];

	if (!f)
		return -ENOMEM;
	snprintf(url, sizeof(url), "fault:seed=%llu:%.470s", (unsigned long long)r->seed,
		inner->url);
	store_init(&f->s, inner->loop, &fault_ops, "fault", url);
	f->inner = inner;
	f->rules = *r;
	f->pool.item_bytes = sizeof(struct doomed);
	*out = &f->s;
	return 0;
}

struct fault_rules *store_fault_rules(struct store *fault)
{
	return fault->ops == &fault_ops ? &container_of(fault, struct fault, s)->rules : NULL;
}

/* ---- fault:KEY=VALUE,...:URL ---- */

static int get_ppm(const struct store_opt *o, uint32_t *ppm, struct err *e)
{
	uint64_t n;
	int rc = store_opt_count(o, &n, e);

	if (!rc && n > 1000000)
		return err_set(e, -EINVAL, "%s=%s: at most 1000000 per million", o->key, o->value);
	if (!rc)
		*ppm = (uint32_t)n;
	return rc;
}

/* "fail", "fail_put", ...: `rest` is what follows the rule's name. */
static int get_op_ppm(const struct store_opt *o, const char *rest, uint32_t *ppm, struct err *e)
{
	static const char *const ops[STORE_OPS] = {
		"_put", "_get", "_delete", "_list", "_swap", "_lock", "_unlock"};
	uint32_t n = 0;
	int rc = get_ppm(o, &n, e), seen = 0;

	for (int i = 0; !rc && i < STORE_OPS; i++) {
		if (*rest && strcmp(rest, ops[i]))
			continue;
		ppm[i] = n;
		seen++;
	}
	if (!rc && !seen)
		return err_set(e, -EINVAL, "fault: '%s': no such operation", o->key);
	return rc;
}

static int set_option(struct fault_rules *f, const struct store_opt *o, struct err *e)
{
	if (!strcmp(o->key, "seed"))
		return store_opt_count(o, &f->seed, e);
	if (!strcmp(o->key, "delay_min"))
		return store_opt_ns(o, &f->delay_min_ns, e);
	if (!strcmp(o->key, "delay_max") || !strcmp(o->key, "delay"))
		return store_opt_ns(o, &f->delay_max_ns, e);
	if (!strcmp(o->key, "short_get"))
		return get_ppm(o, &f->short_get_ppm, e);
	if (!strcmp(o->key, "stale_list"))
		return get_ppm(o, &f->stale_list_ppm, e);
	if (!strcmp(o->key, "full_after"))
		return store_opt_count(o, &f->full_after, e);
	if (!strncmp(o->key, "fail_after", 10))
		return get_op_ppm(o, o->key + 10, f->fail_after_ppm, e);
	if (!strncmp(o->key, "fail", 4))
		return get_op_ppm(o, o->key + 4, f->fail_ppm, e);
	if (!strcmp(o->key, "full") || !strcmp(o->key, "gone")) {
		*(o->key[0] == 'f' ? &f->full : &f->gone) = true;
		return 0;
	}
	return err_set(e, -EINVAL,
		"fault: unknown option '%s'; there are seed, delay, delay_min, delay_max, "
		"fail[_OP], "
		"fail_after[_OP], short_get, stale_list, full, full_after, "
		"gone",
		o->key);
}

int fault_parse(const char *spec, struct fault_rules *f, struct err *e)
{
	struct store_opt o;
	int rc = 0;

	*f = (struct fault_rules){0};
	while (!rc && store_opt_next(&spec, &o))
		rc = set_option(f, &o, e);
	return rc;
}
