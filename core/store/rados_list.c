/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados_list.c - LIST: a walk through the pools on the lists thread, then the sorted names on the
 * loop.
 *
 * RADOS lists all of a pool's namespace, in no order and without sizes; these are asked for STATS
 * at a time.  An object that was deleted in between is left out.  Where a placement group is split
 * or moved meanwhile a name may come twice, and is told once.
 */
#include "store/rados_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STATS = 64 };

struct found {
	uint64_t size;
	char *name; /* NULL: gone */
	rados_ioctx_t io;
};

struct listing {
	struct found *v;
	size_t count, room;
	const char *prefix;
};

static int add(struct listing *l, rados_ioctx_t io, const char *name)
{
	struct found *p;
	char *copy;

	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 256;
		p = realloc(l->v, l->room * sizeof(*p));
		if (!p)
			return -ENOMEM;
		l->v = p;
	}
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	l->v[l->count++] = (struct found){.name = copy, .io = io};
	return 0;
}

/* Names may have zeroes in them, and then they are not ours. */
static bool is_ours(const struct listing *l, const char *name, size_t len)
{
	return strlen(name) == len && len <= STORE_NAME_MAX &&
	       !strncmp(name, l->prefix, strlen(l->prefix)) && store_object_name_ok(name);
}

static int walk(struct listing *l, rados_ioctx_t io)
{
	rados_list_ctx_t ctx;
	const char *name, *key, *ns;
	size_t name_len, key_len, ns_len;
	int rc = librados.nobjects_list_open(io, &ctx);

	if (rc < 0)
		return rc;
	do {
		rc = librados.nobjects_list_next2(
			ctx, &name, &key, &ns, &name_len, &key_len, &ns_len);
		if (!rc && is_ours(l, name, name_len))
			rc = add(l, io, name);
	} while (!rc);
	librados.nobjects_list_close(ctx);
	return rc == -ENOENT ? 0 : rc;
}

struct stat_slot {
	rados_completion_t c;
	struct found *f;
	time_t mtime;
};

static int finish_stat(struct stat_slot *s)
{
	int rc;

	if (!s->c)
		return 0;
	librados.aio_wait_for_complete(s->c);
	rc = librados.aio_get_return_value(s->c);
	librados.aio_release(s->c);
	s->c = NULL;
	if (rc == -ENOENT) {
		free(s->f->name);
		s->f->name = NULL;
		rc = 0;
	}
	return rc;
}

static int start_stat(struct stat_slot *s, struct found *f)
{
	int rc;

	s->f = f;
	if (librados.aio_create_completion2(NULL, NULL, &s->c)) {
		s->c = NULL;
		return -ENOMEM;
	}
	rc = librados.aio_stat(f->io, f->name, s->c, &f->size, &s->mtime);
	if (rc < 0) {
		librados.aio_release(s->c);
		s->c = NULL;
	}
	return rc;
}

static int find_sizes(struct listing *l)
{
	struct stat_slot slots[STATS] = {{0}};
	int rc = 0, late;

	for (size_t i = 0; i < l->count && !rc; i++) {
		rc = finish_stat(&slots[i % STATS]);
		if (!rc)
			rc = start_stat(&slots[i % STATS], &l->v[i]);
	}
	for (size_t i = 0; i < STATS; i++) {
		late = finish_stat(&slots[i]);
		if (!rc)
			rc = late;
	}
	return rc;
}

static int by_name(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static void drop_twins(struct listing *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (n && !strcmp(l->v[n - 1].name, l->v[i].name))
			free(l->v[i].name);
		else
			l->v[n++] = l->v[i];
	}
	l->count = n;
}

/* The pools where objects with this prefix can be: one image says itself where its data is. */
static int walk_pools(struct rados_op *op, struct listing *l)
{
	struct rados_store *rs = op->rs;
	rados_ioctx_t data = op->io ? op->io : rs->data;
	int rc = walk(l, rs->io);

	if (!rc && data != rs->io)
		rc = walk(l, data);
	return rc;
}

void rados_work_list(struct rados_op *op)
{
	struct listing l = {.prefix = op->r->name};
	int rc = walk_pools(op, &l);

	if (!rc && l.count) {
		qsort(l.v, l.count, sizeof(l.v[0]), by_name);
		drop_twins(&l);
		rc = find_sizes(&l);
	}
	op->status = rc;
	op->found = l.v;
	op->found_count = l.count;
}

void rados_after_list(struct rados_op *op)
{
	struct found *v = op->found;
	int64_t status = op->status;
	struct store_req *r = op->r;

	if (status < 0) {
		for (size_t i = 0; i < op->found_count; i++)
			free(v[i].name);
		free(v);
		rados_done(op, status);
		return;
	}
	for (size_t i = 0; i < op->found_count; i++) {
		if (v[i].name && !status)
			status = r->item(r, v[i].name, v[i].size);
		free(v[i].name);
	}
	free(v);
	rados_end(op, status);
}
