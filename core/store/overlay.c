/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay.c - see overlay.h.
 *
 * `hidden` holds the names whose copy below counts no longer: deleted, or replaced by one above.
 * A GET asks above, and below what is not there and not hidden.
 */
#include "store/overlay.h"
#include "store/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct names {
	char **v; /* sorted */
	size_t n, room;
};

struct overlay {
	struct store s;
	struct store *upper, *lower;
	struct mem_objects *objects;
	struct names hidden;
	struct store_pool pool;
};

struct listed {
	char *name;
	uint64_t size;
};

/* A request on its way through the upper store. */
struct passing {
	struct store_req in;
	struct store_req *out;
	struct listed *list; /* LIST: what both stores named */
	size_t n, room;
	bool failed;
};

static struct overlay *overlay_of(struct store *s)
{
	return container_of(s, struct overlay, s);
}

/* ---- names ---- */

static bool names_find(const struct names *s, const char *name, size_t *at)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(s->v[mid], name);

		if (!c)
			return true;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*at = lo;
	return false;
}

static bool is_hidden(const struct overlay *o, const char *name)
{
	size_t at;

	return names_find(&o->hidden, name, &at);
}

static int hide(struct overlay *o, const char *name)
{
	struct names *s = &o->hidden;
	size_t at;
	char *copy;

	if (names_find(s, name, &at))
		return 0;
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		char **v = realloc(s->v, room * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->room = room;
	}
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	memmove(s->v + at + 1, s->v + at, (s->n - at) * sizeof(*s->v));
	s->v[at] = copy;
	s->n++;
	return 0;
}

/* ---- below ---- */

static int64_t ask_below(struct overlay *o, struct store_req *r)
{
	struct store_req in;
	int64_t status;

	store_req_down(&in, r);
	status = store_wait(o->lower, &in);
	store_req_up(r, &in);
	return status;
}

enum { SWAPPED_MAX = 256 << 10 }; /* what is swapped is small */

/* 0 when a copy below counts; -ENOENT; or an error.  Its version only goes with its bytes, so a
 * SWAP reads them. */
static int64_t look_below(struct overlay *o, const struct store_req *want, char *tag)
{
	bool swap = want->op == STORE_SWAP;
	struct iovec iov = {.iov_base = swap ? aligned_alloc(4096, SWAPPED_MAX) : NULL,
		.iov_len = swap ? SWAPPED_MAX : 0};
	struct store_req r = {.op = STORE_GET,
		.name = want->name,
		.iov = &iov,
		.iovcnt = swap,
		.len_bytes = iov.iov_len};
	int64_t status;

	if (is_hidden(o, want->name))
		status = -ENOENT;
	else if (swap && !iov.iov_base)
		status = -ENOMEM;
	else
		status = store_wait(o->lower, &r);
	memcpy(tag, r.tag, sizeof(r.tag));
	free(iov.iov_base);
	return status < 0 ? status : 0;
}

/* ---- above ---- */

static void passed(struct store_req *in, int64_t status)
{
	struct passing *p = container_of(in, struct passing, in);
	struct store_req *r = p->out;
	struct overlay *o = overlay_of(r->store);

	store_req_up(r, in);
	store_pool_put(&o->pool, p);
	if (r->op == STORE_GET && status == -ENOENT && !is_hidden(o, r->name))
		status = ask_below(o, r);
	store_complete(r, status);
}

static struct passing *begin(struct overlay *o, struct store_req *r)
{
	struct passing *p = store_pool_get(&o->pool);

	if (!p)
		return NULL;
	*p = (struct passing){.out = r};
	store_req_down(&p->in, r);
	p->in.done = passed;
	return p;
}

static void pass(struct overlay *o, struct store_req *r)
{
	struct passing *p = begin(o, r);

	if (p)
		store_submit(o->upper, &p->in);
	else
		store_complete_later(r, -ENOMEM);
}

/* ---- LIST: both, merged ---- */

static int collect(struct passing *p, const char *name, uint64_t size)
{
	if (p->n == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		struct listed *v = realloc(p->list, room * sizeof(*v));

		if (!v) {
			p->failed = true;
			return 1;
		}
		p->list = v;
		p->room = room;
	}
	p->list[p->n].name = strdup(name);
	p->list[p->n].size = size;
	p->failed = !p->list[p->n].name;
	p->n += !p->failed;
	return p->failed;
}

struct below {
	struct store_req in;
	struct overlay *o;
	struct passing *p;
};

static int item_below(struct store_req *in, const char *name, uint64_t size)
{
	struct below *b = container_of(in, struct below, in);

	return is_hidden(b->o, name) ? 0 : collect(b->p, name, size);
}

static int item_above(struct store_req *in, const char *name, uint64_t size)
{
	return collect(container_of(in, struct passing, in), name, size);
}

static int by_name(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static void listed(struct store_req *in, int64_t status)
{
	struct passing *p = container_of(in, struct passing, in);
	struct store_req *r = p->out;

	if (p->failed)
		status = -ENOMEM;
	if (p->n)
		qsort(p->list, p->n, sizeof(*p->list), by_name);
	for (size_t i = 0; i < p->n; i++) {
		if (status == 0)
			status = r->item(r, p->list[i].name, p->list[i].size);
		free(p->list[i].name);
	}
	free(p->list);
	store_pool_put(&overlay_of(r->store)->pool, p);
	store_complete(r, status);
}

static void list(struct overlay *o, struct store_req *r)
{
	struct passing *p = begin(o, r);
	struct below b = {.o = o, .p = p};

	if (!p) {
		store_complete_later(r, -ENOMEM);
		return;
	}
	store_req_down(&b.in, r);
	b.in.item = item_below;
	if (store_wait(o->lower, &b.in) < 0)
		p->failed = true;
	p->in.item = item_above;
	p->in.done = listed;
	store_submit(o->upper, &p->in);
}

/* ---- what changes something ---- */

/* The copy below turns into one above: a first SWAP of a name that is there. */
static void swap_first(struct overlay *o, struct store_req *r, const char *tag)
{
	struct passing *p;
	int rc = 0;

	if (strcmp(r->tag, tag))
		rc = err_set(r->err, r->tag[0] ? -ESTALE : -EEXIST,
			"%s: '%s' is there, in another version", o->s.url, r->name);
	if (rc == 0)
		rc = hide(o, r->name);
	p = rc == 0 ? begin(o, r) : NULL;
	if (!p) {
		store_complete_later(r, rc < 0 ? rc : -ENOMEM);
		return;
	}
	p->in.tag[0] = 0;
	store_submit(o->upper, &p->in);
}

static void change(struct overlay *o, struct store_req *r)
{
	char tag[STORE_TAG_MAX];
	int64_t status = look_below(o, r, tag);

	if (status == -ENOENT)
		pass(o, r);
	else if (status < 0)
		store_complete_later(r, status);
	else if (r->op == STORE_SWAP)
		swap_first(o, r, tag);
	else
		store_complete_later(r, err_set(r->err, -EEXIST, "%s: object '%s' exists already",
						o->s.url, r->name));
}

static void overlay_submit(struct store *s, struct store_req *r)
{
	struct overlay *o = overlay_of(s);
	int rc;

	switch (r->op) {
	case STORE_GET:
		pass(o, r);
		break;
	case STORE_DELETE:
		rc = hide(o, r->name);
		if (rc < 0)
			store_complete_later(r, rc);
		else
			pass(o, r);
		break;
	case STORE_LIST:
		list(o, r);
		break;
	case STORE_LOCK:
	case STORE_UNLOCK:
		store_complete_later(r, ask_below(o, r));
		break;
	default:
		change(o, r);
	}
}

static void overlay_close(struct store *s)
{
	struct overlay *o = overlay_of(s);

	store_close(o->upper);
	store_close(o->lower);
	mem_objects_free(o->objects);
	for (size_t i = 0; i < o->hidden.n; i++)
		free(o->hidden.v[i]);
	free(o->hidden.v);
	store_pool_fini(&o->pool);
	free(o);
}

static const struct store_ops overlay_ops = {.submit = overlay_submit, .close = overlay_close};

int store_overlay_new(struct loop *l, struct store *lower, struct store **out)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o || mem_objects_new(&o->objects) < 0) {
		free(o);
		return -ENOMEM;
	}
	if (store_mem_on(l, o->objects, &o->upper) < 0) {
		mem_objects_free(o->objects);
		free(o);
		return -ENOMEM;
	}
	store_init(&o->s, l, &overlay_ops, "overlay", lower->url);
	o->lower = lower;
	o->pool.item_bytes = sizeof(struct passing);
	*out = &o->s;
	return 0;
}

int store_overlay_model(
	struct loop *l, struct store *lower, const char *spec, struct store **out, struct err *e)
{
	struct model_class m;
	struct store *overlay;
	int rc = spec ? model_parse(spec, &m, e) : 0;

	if (rc < 0)
		return rc;
	rc = store_overlay_new(l, lower, &overlay);
	if (rc < 0)
		return err_set(e, rc, "overlay: out of memory");
	*out = overlay;
	if (!spec)
		return 0;
	rc = store_model_new(overlay, &m, out);
	if (rc < 0) {
		overlay_of(overlay)->lower = NULL; /* stays the caller's when this fails */
		store_close(overlay);
		return err_set(e, rc, "model: out of memory");
	}
	return 0;
}
