/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store.c - what all stores share: URLs, submission with its checks and counts, contexts.
 *
 * store_open() takes the scheme off the front of the URL; a filter's scheme recurses on what
 * follows its options.  Names are checked here once, so that no store ever sees "../x".
 */
#include "store/impl.h"

#include "store/rados.h"
#include "sys/loop_sim.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_CHUNK = 16 };

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

static bool word_ok(const char *s, size_t len, size_t max)
{
	if (len < 1 || len > max || s[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!name_char(s[i]))
			return false;
	return true;
}

bool store_image_name_ok(const char *name, size_t len)
{
	return word_ok(name, len, 64);
}

bool store_object_name_ok(const char *name)
{
	const char *slash = strchr(name, '/');
	size_t image_len = slash ? (size_t)(slash - name) : 0;

	return slash && store_image_name_ok(name, image_len) &&
	       word_ok(slash + 1, strlen(slash + 1), STORE_NAME_MAX - 1 - image_len);
}

/* ---- filter options ---- */

static void copy_word(char *dst, size_t room, const char *src, size_t len)
{
	if (len >= room)
		len = room - 1;
	memcpy(dst, src, len);
	dst[len] = 0;
}

bool store_opt_next(const char **spec, struct store_opt *o)
{
	const char *p = *spec;
	size_t len = strcspn(p, ","), key_len = strcspn(p, "=,");

	if (!*p)
		return false;
	copy_word(o->key, sizeof(o->key), p, key_len);
	o->value[0] = 0;
	if (key_len < len)
		copy_word(o->value, sizeof(o->value), p + key_len + 1, len - key_len - 1);
	*spec = p + len + (p[len] == ',');
	return true;
}

struct unit {
	const char *name;
	double factor;
};

static int parse_unit(const struct store_opt *o, const struct unit *units, uint64_t *out)
{
	char *end;
	double v = strtod(o->value, &end);

	if (end == o->value || !isfinite(v) || v < 0)
		return -EINVAL;
	for (; units->name; units++)
		if (!strcmp(end, units->name))
			break;
	if (!units->name || v * units->factor >= 1e18)
		return -EINVAL;
	*out = (uint64_t)llround(v * units->factor);
	return 0;
}

int store_opt_ns(const struct store_opt *o, uint64_t *ns, struct err *e)
{
	static const struct unit units[] = {
		{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {NULL, 0}};

	if (parse_unit(o, units, ns))
		return err_set(e, -EINVAL, "%s=%s is not a time; write 20ms, 100us, 1.5s", o->key,
			o->value);
	return 0;
}

int store_opt_count(const struct store_opt *o, uint64_t *n, struct err *e)
{
	static const struct unit units[] = {{"", 1}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {NULL, 0}};

	if (parse_unit(o, units, n))
		return err_set(e, -EINVAL, "%s=%s is not a number; write 1000, 100M, 2G", o->key,
			o->value);
	return 0;
}

/* ---- URLs ---- */

static bool starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool is_filter(const char *url)
{
	return starts(url, "model:") || starts(url, "fault:");
}

/* "model:OPTIONS:URL": the URL, or NULL. */
static const char *after_filter(const char *url)
{
	const char *colon = strchr(strchr(url, ':') + 1, ':');

	return colon ? colon + 1 : NULL;
}

static int open_filter(struct loop *l, const char *url, const struct config *cfg, unsigned flags, struct store **out, struct err *e)
{
	const char *spec = url + strlen("model:"), *rest = after_filter(url);
	struct model_class m;
	struct fault_rules f;
	struct store *inner = NULL;
	char opts[256];
	int rc;

	if (!rest || rest - spec > (int)sizeof(opts))
		return err_set(e, -EINVAL, "'%.100s': a filter is %.5s:OPTIONS:URL", url, url);
	copy_word(opts, sizeof(opts), spec, (size_t)(rest - 1 - spec));
	rc = starts(url, "model:") ? model_parse(opts, &m, e) : fault_parse(opts, &f, e);
	if (rc)
		return rc;
	rc = store_open(l, rest, cfg, flags, &inner, e);
	if (rc)
		return rc;
	rc = starts(url, "model:") ? store_model_new(inner, &m, out)
				   : store_fault_new(inner, &f, out);
	if (rc)
		store_close(inner);
	return rc;
}

static int open_mem(struct loop *l, const char *name, struct store **out, struct err *e)
{
	char word[65];
	size_t len = strlen(name);

	if (len && name[len - 1] == '/')
		len--;
	if (len && !store_image_name_ok(name, len))
		return err_set(e, -EINVAL,
			"memory store '%.100s': use letters, digits, '.', '_', '-'", name);
	copy_word(word, sizeof(word), name, len);
	return store_mem_open(l, word, out, e);
}

static int open_s3(struct loop *l, const char *spec, const struct config *cfg, struct store **out, struct err *e)
{
#ifdef HAVE_S3
	return store_s3_open(l, spec, cfg, out, e);
#else
	(void)l, (void)cfg, (void)out;
	return err_set(e, -EOPNOTSUPP,
		"'s3:%.100s': this lsvd was built without S3; build it where libcurl4-openssl-dev, libssl-dev and "
		"libexpat1-dev are",
		spec);
#endif
}

int store_open(struct loop *l, const char *url, const struct config *cfg, unsigned flags, struct store **out,
	struct err *e)
{
	*out = NULL;
	if (strlen(url) >= sizeof((*out)->url))
		return err_set(e, -ENAMETOOLONG, "store URL is longer than %zu bytes",
			sizeof((*out)->url) - 1);
	if (is_filter(url))
		return open_filter(l, url, cfg, flags, out, e);
	if (starts(url, "mem:"))
		return open_mem(l, url + 4, out, e);
	if (starts(url, "file:"))
		return store_file_open(l, url + 5, flags, out, e);
	if (starts(url, "rados:"))
		return store_rados_open(l, url + 6, cfg, out, e);
	if (starts(url, "s3:"))
		return open_s3(l, url + 3, cfg, out, e);
	return err_set(e, -EINVAL,
		"'%.100s' is not a store; write file:DIR, rados:POOL, s3:BUCKET/PREFIX or mem:, behind filters like "
		"model:ssd:",
		url);
}

/* Split an image URL behind its filters and scheme: where the image's name begins, where the
 * store's part ends, and what to add to it. */
struct split {
	const char *image, *store_end, *add;
};

static bool split(const char *url, struct split *o)
{
	const char *body = url, *slash;
	bool mem, rados, s3;

	while (is_filter(body)) {
		body = after_filter(body);
		if (!body)
			return false;
	}
	mem = starts(body, "mem:");
	rados = starts(body, "rados:");
	s3 = starts(body, "s3:");
	if (!mem && !rados && !s3 && !starts(body, "file:"))
		return false;
	body = strchr(body, ':') + 1;
	slash = strrchr(body, '/');
	if ((rados || s3) && (!slash || slash == body)) /* there is no pool or bucket by default */
		return false;
	if (!slash) /* "file:vm1" lies in the current directory */
		*o = (struct split){body, body, mem ? "" : "."};
	else if (mem || slash == body) /* "mem:pool/vm1", "file:/vm1": the slash stays */
		*o = (struct split){slash + 1, slash + 1, ""};
	else
		*o = (struct split){slash + 1, slash, ""};
	return true;
}

int store_split_url(const char *image_url, char *store_url, size_t store_len, char *name,
	size_t name_len, struct err *e)
{
	struct split s;
	int n;

	if (!split(image_url, &s))
		return err_set(e, -EINVAL,
			"'%.100s' is not an image URL; write file:DIR/NAME, rados:POOL/NAME, s3:BUCKET/PREFIX/NAME or mem:NAME",
			image_url);
	if (!store_image_name_ok(s.image, strlen(s.image)))
		return err_set(e, -EINVAL,
			"'%.100s': an image name is 1 to 64 of letters, digits, '.', '_', '-' and "
			"does "
			"not begin with a dot",
			image_url);
	n = snprintf(
		store_url, store_len, "%.*s%s", (int)(s.store_end - image_url), image_url, s.add);
	if (n < 0 || (size_t)n >= store_len || strlen(s.image) >= name_len)
		return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", image_url);
	memcpy(name, s.image, strlen(s.image) + 1);
	return 0;
}

int store_open_image(struct loop *l, struct lsvd_config *cfg, const char *image_url, unsigned flags,
	struct store **out, char *name, size_t name_len, struct err *e)
{
	char store_url[sizeof((*out)->url)];
	struct config c;
	int rc = store_split_url(image_url, store_url, sizeof(store_url), name, name_len, e);

	*out = NULL;
	if (!rc && cfg)
		rc = config_resolve(cfg, image_url, &c, e);
	return rc ? rc : store_open(l, store_url, cfg ? &c : NULL, flags, out, e);
}

/* ---- requests ---- */

void store_init(struct store *s, struct loop *l, const struct store_ops *ops, const char *kind,
	const char *url)
{
	s->ops = ops;
	s->loop = l;
	snprintf(s->kind, sizeof(s->kind), "%s", kind);
	snprintf(s->url, sizeof(s->url), "%s", url);
}

static void count(struct store_counts *c, const struct store_req *r, int64_t status)
{
	c->ops[r->op]++;
	if (status < 0)
		c->errors[r->op]++;
	else if (r->op == STORE_GET)
		c->get_bytes += (uint64_t)status;
	else if (r->op == STORE_PUT || r->op == STORE_SWAP)
		c->put_bytes += r->len_bytes;
}

void store_complete(struct store_req *r, int64_t status)
{
	count(&r->store->counts, r, status);
	r->done(r, status);
}

static void complete_task(struct loop_task *t)
{
	struct store_req *r = container_of(t, struct store_req, task);

	store_complete(r, r->status);
}

void store_complete_later(struct store_req *r, int64_t status)
{
	r->status = status;
	r->task.run = complete_task;
	loop_defer(r->store->loop, &r->task);
}

static int check(const struct store_req *r)
{
	switch (r->op) {
	case STORE_LIST:
		return strlen(r->name) <= STORE_NAME_MAX ? 0 : -EINVAL;
	case STORE_LOCK:
	case STORE_UNLOCK:
		return store_image_name_ok(r->name, strlen(r->name)) ? 0 : -EINVAL;
	default:
		return store_object_name_ok(r->name) ? 0 : -EINVAL;
	}
}

static uint64_t iov_bytes(const struct store_req *r)
{
	uint64_t n = 0;

	for (int i = 0; i < r->iovcnt; i++)
		n += r->iov[i].iov_len;
	return n;
}

void store_submit(struct store *s, struct store_req *r)
{
	assert(r->op < STORE_OPS && r->done);
	assert((r->op != STORE_PUT && r->op != STORE_SWAP) || r->len_bytes == iov_bytes(r));
	assert(r->op != STORE_GET || r->len_bytes <= iov_bytes(r));
	r->store = s;
	r->priv = NULL;
	r->next = NULL;
	r->task = (struct loop_task){0};
	r->timer = (struct loop_timer){0};
	r->size_bytes = 0;
	if (r->op != STORE_SWAP)
		r->tag[0] = 0;
	r->tag[STORE_TAG_MAX - 1] = 0;
	if (check(r)) {
		err_set(r->err, -EINVAL, "'%.200s' is not an object's name", r->name);
		store_complete_later(r, -EINVAL);
		return;
	}
	s->ops->submit(s, r);
}

void store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
}

static void wait_done(struct store_req *r, int64_t status)
{
	r->status = status;
	r->store = NULL; /* tells store_wait() */
}

int64_t store_wait(struct store *s, struct store_req *r)
{
	r->done = wait_done;
	store_submit(s, r);
	while (r->store) {
		int ran = loop_poll(s->loop, LOOP_FOREVER);

		assert(ran || !loop_is_sim(s->loop) || !loop_sim_idle(s->loop));
	}
	return r->status;
}

void store_req_down(struct store_req *inner, const struct store_req *outer)
{
	*inner = (struct store_req){
		.op = outer->op,
		.name = outer->name,
		.iov = outer->iov,
		.iovcnt = outer->iovcnt,
		.off_bytes = outer->off_bytes,
		.len_bytes = outer->len_bytes,
		.pace = outer->pace,
		.steal = outer->steal,
		.ask = outer->ask,
		.err = outer->err,
	};
	memcpy(inner->tag, outer->tag, sizeof(inner->tag));
}

void store_req_up(struct store_req *outer, const struct store_req *inner)
{
	outer->size_bytes = inner->size_bytes;
	memcpy(outer->tag, inner->tag, sizeof(outer->tag));
}

/* ---- contexts ---- */

void *store_pool_get(struct store_pool *p)
{
	void **item;

	if (!p->free) {
		size_t size = (p->item_bytes + 63) & ~(size_t)63;
		char *chunk = aligned_alloc(64, 64 + POOL_CHUNK * size);

		if (!chunk)
			return NULL;
		*(void **)chunk = p->chunks;
		p->chunks = chunk;
		for (int i = POOL_CHUNK - 1; i >= 0; i--)
			store_pool_put(p, chunk + 64 + (size_t)i * size);
	}
	item = p->free;
	p->free = *item;
	return item;
}

void store_pool_put(struct store_pool *p, void *item)
{
	*(void **)item = p->free;
	p->free = item;
}

void store_pool_fini(struct store_pool *p)
{
	while (p->chunks) {
		void *next = *(void **)p->chunks;

		free(p->chunks);
		p->chunks = next;
	}
	p->free = NULL;
}
