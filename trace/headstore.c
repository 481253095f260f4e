/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* headstore.c - see headstore.h. */
#include "trace/headstore.h"
#include "format/object.h"
#include "store/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct headstore {
	struct store s;
	struct store *inner;
	struct store_pool pool;
};

struct passed {
	struct store_req in, *out;
};

static struct headstore *store_of(const struct passed *q)
{
	return container_of(q->out->store, struct headstore, s);
}

static bool is_data(const char *name)
{
	const char *p = strchr(name, '/');

	return p && p[1] >= '0' && p[1] <= '9';
}

/* What the inner store does not have reads as zeroes. */
static int64_t fill_up(const struct store_req *r, int64_t got)
{
	uint64_t skip = (uint64_t)got;

	for (int i = 0; i < r->iovcnt; i++) {
		uint64_t n = r->iov[i].iov_len, from = skip < n ? skip : n;

		memset((char *)r->iov[i].iov_base + from, 0, n - from);
		skip -= from;
	}
	return (int64_t)r->len_bytes;
}

static void answered(struct store_req *in, int64_t status)
{
	struct passed *q = container_of(in, struct passed, in);
	struct headstore *h = store_of(q);
	struct store_req *r = q->out;

	store_req_up(r, in);
	if (r->op == STORE_GET && status >= 0 && is_data(r->name))
		status = fill_up(r, status);
	store_pool_put(&h->pool, q);
	store_complete(r, status);
}

static int item(struct store_req *in, const char *name, uint64_t size_bytes)
{
	struct store_req *out = container_of(in, struct passed, in)->out;

	return out->item(out, name, size_bytes);
}

static void submit(struct store *s, struct store_req *r)
{
	struct headstore *h = container_of(s, struct headstore, s);
	struct passed *q = store_pool_get(&h->pool);
	struct object_header head;

	if (!q) {
		store_complete_later(r, -EAGAIN);
		return;
	}
	q->out = r;
	store_req_down(&q->in, r);
	q->in.done = answered;
	q->in.item = item;
	if (r->op == STORE_PUT && is_data(r->name) &&
		object_decode_fixed(r->iov[0].iov_base, r->iov[0].iov_len, &head, NULL) == 0) {
		q->in.iovcnt = 1;
		q->in.len_bytes = r->iov[0].iov_len;
	}
	store_submit(h->inner, &q->in);
}

static void close_store(struct store *s)
{
	struct headstore *h = container_of(s, struct headstore, s);

	store_close(h->inner);
	store_pool_fini(&h->pool);
	free(h);
}

static const struct store_ops ops = {.submit = submit, .close = close_store};

int headstore_new(struct store *inner, struct store **out)
{
	struct headstore *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	store_init(&h->s, inner->loop, &ops, "heads", "heads:");
	h->inner = inner;
	h->pool.item_bytes = sizeof(struct passed);
	*out = &h->s;
	return 0;
}
