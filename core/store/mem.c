/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem.c - a store in memory: for tests, simulation, and CPU figures without a disk.
 *
 * The objects live in a struct mem_objects: a table sorted by name, shared by all handles on it and
 * outliving them, as a server would.  A request takes effect in one task of a later iteration, at
 * which it also completes; so a request that a crash forgot has not happened.  No system calls, and
 * no allocation once there were as many objects as there ever are (mem_bytes.h).
 *
 * mem_objects has a mutex: handles may live on loops of different threads.  A handle that is closed
 * (also after its loop crashed) loses its locks, like a process that died.
 */
#include "store/impl.h"
#include "store/mem_bytes.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct object {
	uint64_t version;
	struct mem_bytes bytes;
	struct object *next;	  /* among those to be used again */
	unsigned refs;		  /* of copies of the table */
	struct fingerprint print; /* of the bytes, once asked for */
	char name[STORE_NAME_MAX + 1];
};

struct mem_lock {
	struct mem_lock *next;
	const struct store *holder;
	bool stolen; /* kept, so that its holder can be told */
	char image[STORE_NAME_MAX + 1];
	char text[256];
};

struct mem_objects {
	pthread_mutex_t mutex;
	unsigned refs;
	uint64_t version; /* the last one given; never repeats */
	struct object **sorted;
	size_t count, room;
	struct mem_lock *locks;
	struct mem_space space;
	struct object *unused; /* deleted ones, to be used again */
	struct mem_objects *next_named;
	char name[65];
};

struct mem_store {
	struct store s;
	struct mem_objects *o;
};

static pthread_mutex_t named_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct mem_objects *named;

/* ---- table ---- */

/* The place of `name`, or where it would be; *found tells which. */
static size_t find(const struct mem_objects *o, const char *name, bool *found)
{
	size_t lo = 0, hi = o->count;

	*found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(o->sorted[mid]->name, name);

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

static struct object *get(const struct mem_objects *o, const char *name)
{
	bool found;
	size_t i = find(o, name, &found);

	return found ? o->sorted[i] : NULL;
}

static int insert(struct mem_objects *o, size_t at, struct object *obj)
{
	if (o->count == o->room) {
		size_t room = o->room ? o->room * 2 : 64;
		struct object **p = realloc(o->sorted, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		o->sorted = p;
		o->room = room;
	}
	memmove(o->sorted + at + 1, o->sorted + at, (o->count - at) * sizeof(*o->sorted));
	o->sorted[at] = obj;
	o->count++;
	return 0;
}

static void drop(struct mem_objects *o, struct object *obj)
{
	if (!obj || --obj->refs)
		return;
	mem_bytes_free(&o->space, &obj->bytes);
	obj->next = o->unused;
	o->unused = obj;
}

static void free_object(struct object *obj)
{
	mem_bytes_fini(&obj->bytes);
	free(obj);
}

static struct object *object_new(struct mem_objects *o)
{
	struct object *obj = o->unused;

	if (!obj)
		return calloc(1, sizeof(*obj));
	o->unused = obj->next;
	return obj;
}

static void gather(struct mem_bytes *b, const struct store_req *r)
{
	uint64_t at = 0;

	for (int i = 0; i < r->iovcnt; i++) {
		mem_bytes_put(b, at, r->iov[i].iov_base, r->iov[i].iov_len);
		at += r->iov[i].iov_len;
	}
}

static struct object *make(struct mem_objects *o, const struct store_req *r)
{
	struct object *obj = object_new(o);

	if (!obj)
		return NULL;
	obj->refs = 1;
	obj->print = (struct fingerprint){0};
	snprintf(obj->name, sizeof(obj->name), "%s", r->name);
	if (!mem_bytes_alloc(&o->space, &obj->bytes, r->len_bytes)) {
		drop(o, obj);
		return NULL;
	}
	gather(&obj->bytes, r);
	obj->version = ++o->version;
	return obj;
}

/* ---- locks ---- */

static struct mem_lock **find_lock(struct mem_objects *o, const char *image)
{
	struct mem_lock **p = &o->locks;

	while (*p && ((*p)->stolen || strcmp((*p)->image, image)))
		p = &(*p)->next;
	return p;
}

/* The lock on the image of this object, or of this name, that the handle lost. */
static struct mem_lock **find_stolen(
	struct mem_objects *o, const struct store *holder, const char *name)
{
	size_t len = strcspn(name, "/");
	struct mem_lock **p = &o->locks;

	while (*p && !((*p)->stolen && (*p)->holder == holder && !strncmp((*p)->image, name, len) &&
			     !(*p)->image[len]))
		p = &(*p)->next;
	return p;
}

static void forget_stolen(struct mem_objects *o, const struct store *holder, const char *name)
{
	struct mem_lock **p = find_stolen(o, holder, name), *k = *p;

	if (k) {
		*p = k->next;
		free(k);
	}
}

/* ---- operations; each is called with the mutex held ---- */

static int64_t create(struct mem_objects *o, struct store_req *r)
{
	bool found;
	size_t at = find(o, r->name, &found);
	struct object *obj;

	if (found)
		return err_set(
			r->err, -EEXIST, "%s: object '%s' exists already", r->store->url, r->name);
	obj = make(o, r);
	if (!obj || insert(o, at, obj)) {
		drop(o, obj);
		return err_set(r->err, -ENOSPC, "%s: out of memory", r->store->url);
	}
	return 0;
}

static void set_tag(struct store_req *r, const struct object *obj)
{
	snprintf(r->tag, sizeof(r->tag), "%llu", (unsigned long long)obj->version);
}

static int64_t do_get(struct mem_objects *o, struct store_req *r)
{
	const struct object *obj = get(o, r->name);
	uint64_t left, done = 0;

	if (!obj)
		return err_set(r->err, -ENOENT, "%s: no object '%s'", r->store->url, r->name);
	r->size_bytes = obj->bytes.size;
	set_tag(r, obj);
	left = r->off_bytes < obj->bytes.size ? obj->bytes.size - r->off_bytes : 0;
	if (left > r->len_bytes)
		left = r->len_bytes;
	for (int i = 0; i < r->iovcnt && left; i++) {
		uint64_t n = r->iov[i].iov_len < left ? r->iov[i].iov_len : left;

		mem_bytes_get(&obj->bytes, r->off_bytes + done, r->iov[i].iov_base, n);
		done += n;
		left -= n;
	}
	return (int64_t)done;
}

static int64_t do_delete(struct mem_objects *o, struct store_req *r)
{
	bool found;
	size_t at = find(o, r->name, &found);

	if (!found)
		return 0;
	drop(o, o->sorted[at]);
	o->count--;
	memmove(o->sorted + at, o->sorted + at + 1, (o->count - at) * sizeof(*o->sorted));
	return 0;
}

static int64_t do_swap(struct mem_objects *o, struct store_req *r)
{
	struct object *old = get(o, r->name), *obj;
	int64_t rc = 0;
	bool found;
	char tag[STORE_TAG_MAX];

	if (*find_stolen(o, r->store, r->name))
		return err_set(
			r->err, -ESTALE, "%s: the lock of '%s' was stolen", r->store->url, r->name);
	if (!r->tag[0]) {
		rc = create(o, r);
		if (!rc)
			set_tag(r, get(o, r->name));
		return rc;
	}
	memcpy(tag, r->tag, sizeof(tag));
	if (old)
		set_tag(r, old);
	if (!old || strcmp(tag, r->tag)) {
		memcpy(r->tag, tag, sizeof(tag));
		return err_set(r->err, -ESTALE, "%s: '%s' was changed by another writer",
			r->store->url, r->name);
	}
	obj = make(o, r);
	if (!obj)
		return err_set(r->err, -ENOSPC, "%s: out of memory", r->store->url);
	o->sorted[find(o, r->name, &found)] = obj;
	drop(o, old);
	set_tag(r, obj);
	return 0;
}

/* item() runs unlocked, so each step looks for its place again. */
static int64_t do_list(struct mem_objects *o, struct store_req *r)
{
	size_t len = strlen(r->name), at;
	char name[STORE_NAME_MAX + 1];
	bool found;
	int rc = 0;

	snprintf(name, sizeof(name), "%s", r->name);
	at = find(o, name, &found);
	while (!rc && at < o->count && !strncmp(o->sorted[at]->name, r->name, len)) {
		uint64_t size = o->sorted[at]->bytes.size;

		snprintf(name, sizeof(name), "%s", o->sorted[at]->name);
		pthread_mutex_unlock(&o->mutex);
		rc = r->item(r, name, size);
		pthread_mutex_lock(&o->mutex);
		at = find(o, name, &found);
		at += found;
	}
	return rc;
}

static int64_t do_lock(struct mem_objects *o, struct store_req *r)
{
	struct mem_lock *held = *find_lock(o, r->name), *k;
	uint64_t len = 0;

	if (r->ask)
		return held && held->holder != r->store ? err_set(r->err, -EBUSY, "%s", held->text)
							: 0;
	if (held && !r->steal)
		return err_set(r->err, -EBUSY, "%s: image '%s' is in use by %s", r->store->url,
			r->name, held->text);
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	for (int i = 0; i < r->iovcnt && len < sizeof(k->text) - 1; i++) {
		uint64_t n = r->iov[i].iov_len, room = sizeof(k->text) - 1 - len;

		n = n < room ? n : room;
		memcpy(k->text + len, r->iov[i].iov_base, n);
		len += n;
	}
	forget_stolen(o, r->store, r->name);
	if (held)
		held->stolen = true;
	snprintf(k->image, sizeof(k->image), "%s", r->name);
	k->holder = r->store;
	k->next = o->locks;
	o->locks = k;
	return 0;
}

static int64_t do_unlock(struct mem_objects *o, struct store_req *r)
{
	struct mem_lock **p = find_lock(o, r->name), *k = *p;

	forget_stolen(o, r->store, r->name);
	if (k && k->holder == r->store) {
		*p = k->next;
		free(k);
	}
	return 0;
}

static void unlock_all(struct mem_objects *o, const struct store *holder)
{
	struct mem_lock **p = &o->locks;

	while (*p) {
		struct mem_lock *k = *p;

		if (k->holder == holder) {
			*p = k->next;
			free(k);
		} else {
			p = &k->next;
		}
	}
}

static void run(struct loop_task *t)
{
	static int64_t (*const doers[STORE_OPS])(struct mem_objects *, struct store_req *) = {
		[STORE_PUT] = create,
		[STORE_GET] = do_get,
		[STORE_DELETE] = do_delete,
		[STORE_LIST] = do_list,
		[STORE_SWAP] = do_swap,
		[STORE_LOCK] = do_lock,
		[STORE_UNLOCK] = do_unlock,
	};
	struct store_req *r = container_of(t, struct store_req, task);
	struct mem_objects *o = container_of(r->store, struct mem_store, s)->o;
	int64_t status;

	pthread_mutex_lock(&o->mutex);
	status = doers[r->op](o, r);
	pthread_mutex_unlock(&o->mutex);
	store_complete(r, status);
}

static void mem_submit(struct store *s, struct store_req *r)
{
	r->task.run = run;
	loop_defer(s->loop, &r->task);
}

static void mem_close(struct store *s)
{
	struct mem_store *m = container_of(s, struct mem_store, s);

	pthread_mutex_lock(&m->o->mutex);
	unlock_all(m->o, s);
	pthread_mutex_unlock(&m->o->mutex);
	mem_objects_free(m->o);
	free(m);
}

static const struct store_ops mem_ops = {.submit = mem_submit, .close = mem_close};

/* ---- handles ---- */

int mem_objects_new(struct mem_objects **out)
{
	struct mem_objects *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	pthread_mutex_init(&o->mutex, NULL);
	o->refs = 1;
	*out = o;
	return 0;
}

void mem_objects_free(struct mem_objects *o)
{
	unsigned refs;

	if (!o)
		return;
	pthread_mutex_lock(&o->mutex);
	refs = --o->refs;
	pthread_mutex_unlock(&o->mutex);
	if (refs)
		return;
	assert(!o->locks);
	for (size_t i = 0; i < o->count; i++)
		drop(o, o->sorted[i]);
	while (o->unused) {
		struct object *obj = o->unused;

		o->unused = obj->next;
		free_object(obj);
	}
	mem_space_fini(&o->space);
	free(o->sorted);
	pthread_mutex_destroy(&o->mutex);
	free(o);
}

int mem_objects_copy(struct mem_objects *o, struct mem_objects **out)
{
	struct mem_objects *c;
	int rc = mem_objects_new(&c);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&o->mutex);
	c->version = o->version;
	for (size_t i = 0; rc == 0 && i < o->count; i++) {
		rc = insert(c, i, o->sorted[i]);
		o->sorted[i]->refs += rc == 0;
	}
	pthread_mutex_unlock(&o->mutex);
	if (rc < 0)
		mem_objects_free(c);
	else
		*out = c;
	return rc;
}

static void fingerprint_of(struct object *obj)
{
	uint8_t piece[4096];

	for (uint64_t at = 0, n; at < obj->bytes.size; at += n) {
		n = obj->bytes.size - at < sizeof(piece) ? obj->bytes.size - at : sizeof(piece);
		mem_bytes_get(&obj->bytes, at, piece, n);
		fingerprint_add(&obj->print, piece, n);
	}
	fingerprint_add_u64(&obj->print, obj->bytes.size);
}

void mem_objects_fingerprint(struct mem_objects *o, struct fingerprint *d)
{
	pthread_mutex_lock(&o->mutex);
	for (size_t i = 0; i < o->count; i++) {
		struct object *obj = o->sorted[i];

		if (!obj->print.a && !obj->print.b)
			fingerprint_of(obj);
		fingerprint_add(d, obj->name, strlen(obj->name) + 1);
		fingerprint_add(d, &obj->print, sizeof(obj->print));
	}
	fingerprint_add_u64(d, o->count);
	pthread_mutex_unlock(&o->mutex);
}

int store_mem_on(struct loop *l, struct mem_objects *o, struct store **out)
{
	struct mem_store *m = calloc(1, sizeof(*m));
	char url[80];

	if (!m)
		return -ENOMEM;
	snprintf(url, sizeof(url), "mem:%s%s", o->name, o->name[0] ? "/" : "");
	store_init(&m->s, l, &mem_ops, "mem", url);
	m->o = o;
	pthread_mutex_lock(&o->mutex);
	o->refs++;
	pthread_mutex_unlock(&o->mutex);
	*out = &m->s;
	return 0;
}

/* Named stores stay until the process ends. */
int store_mem_open(struct loop *l, const char *name, struct store **out, struct err *e)
{
	struct mem_objects *o;
	int rc = 0;

	pthread_mutex_lock(&named_mutex);
	for (o = named; o && strcmp(o->name, name); o = o->next_named)
		;
	if (!o) {
		rc = mem_objects_new(&o);
		if (!rc) {
			snprintf(o->name, sizeof(o->name), "%s", name);
			o->next_named = named;
			named = o;
		}
	}
	pthread_mutex_unlock(&named_mutex);
	if (!rc)
		rc = store_mem_on(l, o, out);
	return rc ? err_wrap(e, rc, "memory store '%s'", name) : 0;
}
