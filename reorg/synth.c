/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* synth.c - see synth.h.  Small objects live in a memory store beneath. */
#include "reorg/synth.h"

#include "format/object.h"
#include "store/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, WORDS = SECTOR / 8 };

struct object {
	struct object_header h;
	void *header;
	struct object_extent *ext; /* those with data, by their place in it */
	uint32_t n;
	char name[STORE_NAME_MAX + 1];
};

struct synth {
	struct object **objects; /* by name */
	size_t n, room;
	struct mem_objects *small;
	bool sealed;
};

struct handle {
	struct store s;
	struct synth *synth;
	struct store *small;
	struct store_pool pool;
};

/* A request on its way through the memory store. */
struct passing {
	struct store_req in, *out;
	size_t next; /* LIST: the first of ours that was not named yet */
};

/* ---- contents ---- */

void synth_fill(void *buf, uint64_t lba, uint64_t sectors)
{
	uint8_t *p = buf; /* of any alignment */

	for (; sectors; sectors--, lba++, p += SECTOR)
		for (uint64_t i = 0; i < WORDS; i++) {
			uint64_t w = (lba + 1) * 0x9e3779b97f4a7c15u + i * 0x0101010101010101u;

			memcpy(p + 8 * i, &w, 8);
		}
}

bool synth_is(const void *buf, uint64_t lba)
{
	uint64_t want[WORDS];

	synth_fill(want, lba, 1);
	return !memcmp(buf, want, SECTOR);
}

/* Bytes [from, to) of the run of sectors at lba. */
static void fill_bytes(uint8_t *dst, uint64_t lba, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t in = from % SECTOR, n = SECTOR - in;
		uint8_t sector[SECTOR];

		if (!in && to - from >= SECTOR) {
			n = (to - from) / SECTOR * SECTOR;
			synth_fill(dst, lba + from / SECTOR, n / SECTOR);
		} else {
			n = n < to - from ? n : to - from;
			synth_fill(sector, lba + from / SECTOR, 1);
			memcpy(dst, sector + in, n);
		}
		dst += n;
		from += n;
	}
}

/* Bytes [at, at+len) of the object, header and data as one. */
static void make_bytes(const struct object *o, uint64_t at, uint8_t *dst, uint64_t len)
{
	uint64_t head = o->h.header_bytes, n = 0;

	if (at < head) {
		n = len < head - at ? len : head - at;
		memcpy(dst, (const uint8_t *)o->header + at, n);
	}
	dst += n;
	len -= n;
	at = at + n - head;
	memset(dst, 0, len);
	for (uint32_t i = 0; i < o->n; i++) {
		uint64_t from = (uint64_t)o->ext[i].off * SECTOR;
		uint64_t to = from + (uint64_t)o->ext[i].len * SECTOR;
		uint64_t a = from > at ? from : at, b = to < at + len ? to : at + len;

		if (a < b)
			fill_bytes(dst + (a - at), o->ext[i].lba, a - from, b - from);
	}
}

/* ---- objects ---- */

static size_t place_of(const struct synth *s, const char *name, bool *found)
{
	size_t lo = 0, hi = s->n;

	*found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(s->objects[mid]->name, name);

		if (!c) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const struct object *find(const struct synth *s, const char *name)
{
	bool found;
	size_t at = place_of(s, name, &found);

	return found ? s->objects[at] : NULL;
}

static void free_object(struct object *o)
{
	if (o) {
		free(o->header);
		free(o->ext);
	}
	free(o);
}

static int by_offset(const void *a, const void *b)
{
	const struct object_extent *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

static uint64_t gather(const struct store_req *r, void *dst, uint64_t len)
{
	uint64_t done = 0;

	for (int i = 0; i < r->iovcnt && done < len; i++) {
		uint64_t n = r->iov[i].iov_len < len - done ? r->iov[i].iov_len : len - done;

		memcpy((uint8_t *)dst + done, r->iov[i].iov_base, n);
		done += n;
	}
	return done;
}

static int take_header(struct object *o, const struct store_req *r)
{
	uint32_t len = o->h.header_bytes;
	struct object_extent x;

	o->header = malloc(len);
	o->ext = calloc(o->h.extents + 1, sizeof(*o->ext));
	if (!o->header || !o->ext)
		return -ENOMEM;
	if (gather(r, o->header, len) != len ||
		object_decode(o->header, len, NULL, o->h.epoch, o->h.seq, &o->h, r->err))
		return -EUCLEAN;
	for (uint32_t i = 0; i < o->h.extents; i++) {
		object_get_extent(o->header, &o->h, i, &x);
		if (x.kind == EXTENT_DATA)
			o->ext[o->n++] = x;
	}
	qsort(o->ext, o->n, sizeof(*o->ext), by_offset);
	return 0;
}

static int insert(struct synth *s, struct object *o)
{
	bool found;
	size_t at = place_of(s, o->name, &found);

	if (found)
		return -EEXIST;
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct object **p = realloc(s->objects, room * sizeof(struct object *));

		if (!p)
			return -ENOMEM;
		s->objects = p;
		s->room = room;
	}
	memmove(s->objects + at + 1, s->objects + at, (s->n - at) * sizeof(struct object *));
	s->objects[at] = o;
	s->n++;
	return 0;
}

/* 1: it is a data object, and kept; 0: not one; -errno. */
static int maybe_keep(struct synth *s, const struct store_req *r)
{
	uint8_t fixed[OBJECT_FIXED_BYTES];
	struct object_header h;
	struct object *o;
	int rc;

	if (s->sealed || gather(r, fixed, sizeof(fixed)) < sizeof(fixed) ||
		object_decode_fixed(fixed, sizeof(fixed), &h, NULL))
		return 0;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->h = h;
	strcpy(o->name, r->name);
	rc = take_header(o, r);
	if (!rc)
		rc = insert(s, o);
	if (rc)
		free_object(o);
	return rc ? rc : 1;
}

/* ---- requests ---- */

static struct handle *handle_of(struct store *s)
{
	return container_of(s, struct handle, s);
}

static void get(const struct object *o, struct store_req *r)
{
	uint64_t at = r->off_bytes, end;

	r->size_bytes = (uint64_t)o->h.header_bytes + o->h.data_bytes;
	end = at + r->len_bytes < r->size_bytes ? at + r->len_bytes : r->size_bytes;
	strcpy(r->tag, "synth");
	for (int i = 0; i < r->iovcnt && at < end; i++) {
		uint64_t n = r->iov[i].iov_len < end - at ? r->iov[i].iov_len : end - at;

		make_bytes(o, at, r->iov[i].iov_base, n);
		at += n;
	}
	store_complete_later(r, at > r->off_bytes ? (int64_t)(at - r->off_bytes) : 0);
}

/* LIST: those of ours that come before `limit` (NULL: all). */
static int name_ours(struct passing *p, const char *limit)
{
	struct store_req *r = p->out;
	const struct synth *s = handle_of(r->store)->synth;
	size_t len = strlen(r->name);
	int rc = 0;

	for (; !rc && p->next < s->n; p->next++) {
		const struct object *o = s->objects[p->next];

		if (strncmp(o->name, r->name, len))
			break;
		if (limit && strcmp(o->name, limit) >= 0)
			break;
		rc = r->item(r, o->name, (uint64_t)o->h.header_bytes + o->h.data_bytes);
	}
	return rc;
}

static int item(struct store_req *in, const char *name, uint64_t size_bytes)
{
	struct passing *p = container_of(in, struct passing, in);
	int rc = name_ours(p, name);

	return rc ? rc : p->out->item(p->out, name, size_bytes);
}

static void passed(struct store_req *in, int64_t status)
{
	struct passing *p = container_of(in, struct passing, in);
	struct store_req *r = p->out;

	if (r->op == STORE_LIST && !status)
		status = name_ours(p, NULL);
	store_req_up(r, in);
	store_pool_put(&handle_of(r->store)->pool, p);
	store_complete(r, status);
}

static void pass(struct handle *h, struct store_req *r)
{
	struct passing *p = store_pool_get(&h->pool);
	bool found;

	if (!p) {
		store_complete_later(r, -EAGAIN);
		return;
	}
	*p = (struct passing){.out = r};
	if (r->op == STORE_LIST)
		p->next = place_of(h->synth, r->name, &found);
	store_req_down(&p->in, r);
	p->in.done = passed;
	p->in.item = item;
	store_submit(h->small, &p->in);
}

static void handle_submit(struct store *s, struct store_req *r)
{
	struct handle *h = handle_of(s);
	const struct object *o = NULL;
	int rc = 0;

	if (r->op == STORE_GET || r->op == STORE_PUT || r->op == STORE_DELETE)
		o = find(h->synth, r->name);
	if (o && r->op == STORE_GET) {
		get(o, r);
		return;
	}
	if (o)
		rc = r->op == STORE_PUT ? -EEXIST : -EROFS;
	else if (r->op == STORE_PUT)
		rc = maybe_keep(h->synth, r);
	if (rc)
		store_complete_later(r, rc < 0 ? rc : 0);
	else
		pass(h, r);
}

static void handle_close(struct store *s)
{
	struct handle *h = handle_of(s);

	store_close(h->small);
	store_pool_fini(&h->pool);
	free(h);
}

static const struct store_ops handle_ops = {.submit = handle_submit, .close = handle_close};

int synth_store_on(struct loop *l, struct synth *s, struct store **out)
{
	struct handle *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	rc = store_mem_on(l, s->small, &h->small);
	if (rc) {
		free(h);
		return rc;
	}
	store_init(&h->s, l, &handle_ops, "synth", "synth:");
	h->synth = s;
	h->pool.item_bytes = sizeof(struct passing);
	*out = &h->s;
	return 0;
}

int synth_new(struct synth **out)
{
	struct synth *s = calloc(1, sizeof(*s));

	if (!s || mem_objects_new(&s->small)) {
		free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void synth_seal(struct synth *s)
{
	s->sealed = true;
}

void synth_free(struct synth *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++)
		free_object(s->objects[i]);
	free(s->objects);
	mem_objects_free(s->small);
	free(s);
}
