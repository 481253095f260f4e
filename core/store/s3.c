/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3.c - a bucket of an S3 service as a store: `s3:BUCKET[/PREFIX]`.
 *
 * The object NAME is the key PREFIX/NAME.  A request becomes one call (s3_http.h) on a thread that
 * all S3 stores share; when it ends, a task on the loop looks at the answer.  PUT carries
 * `If-None-Match: *`, so a name is put once (I7).  Every body is covered by the SHA-256 in the
 * signature, which the service checks; a GET is checked for its length here and for its contents by
 * the checksums inside (I10).
 *
 * What can fail: everything, for a while.  A call that found no server, was cut off, timed out, or
 * was answered with "later" is made again, after a wait that doubles and is jittered, s3.tries
 * times in all; then the failure is the caller's.  A PUT that is refused because the object exists
 * looks at the object's version: its own means that an earlier try was carried out.
 *
 * Opening asks for a list of one key, so that wrong credentials, a missing bucket, another region
 * or a wrong clock are told at once.  Closing gives back locks that are still held.
 */
#include "store/s3_impl.h"

#include "lsvd.h"
#include "store/s3_reply.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { BACKOFF_MOST_MS = 5000, REFRESH_S = 5 };

/* ---- calls ---- */

void s3_call(struct s3 *s, struct http_call *c, const char *method, const char *name)
{
	int n;

	http_call_init(c, method, &atomic_load(&s->peer)->p);
	n = snprintf(c->url, sizeof(c->url), "%s/%s%s", s->place.base, s->place.prefix, name);
	assert(n > 0 && n < (int)sizeof(c->url));
}

void s3_new_version(char out[S3_VERSION_MAX])
{
	uint8_t r[(S3_VERSION_MAX - 1) / 2];

	while (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		;
	for (size_t i = 0; i < sizeof(r); i++)
		snprintf(out + 2 * i, 3, "%02x", r[i]);
}

int s3_tag(const struct http_call *c, char tag[STORE_TAG_MAX], struct err *e)
{
	const char *from = c->etag;
	size_t n = strlen(from);

	if (n >= 2 && from[0] == '"' && from[n - 1] == '"') {
		from++;
		n -= 2;
	}
	if (!n || n > S3_ETAG_MAX || strlen(c->version) >= S3_VERSION_MAX)
		return err_set(
			e, -EIO, "the service answers with no ETag, or with one that is too long");
	snprintf(tag, STORE_TAG_MAX, "%.*s:%s", (int)n, from, c->version);
	return 0;
}

bool s3_refresh(struct s3 *s)
{
	struct s3_peer *was, *p;
	bool newer = false;

	pthread_mutex_lock(&s->peer_mutex);
	was = atomic_load(&s->peer);
	if (s3_boottime_ns() - s->refreshed_ns > REFRESH_S * 1000000000ull) {
		p = malloc(sizeof(*p));
		s->refreshed_ns = s3_boottime_ns();
		if (p) {
			*p = *was;
			p->next = was;
			p->p.token[0] = 0;
			newer = s3_conf_credentials(&p->p, NULL) == 0 &&
				(strcmp(p->p.access_key, was->p.access_key) ||
					strcmp(p->p.secret_key, was->p.secret_key) ||
					strcmp(p->p.token, was->p.token));
		}
		if (newer)
			atomic_store(&s->peer, p);
		else
			free(p);
	}
	pthread_mutex_unlock(&s->peer_mutex);
	return newer;
}

uint64_t s3_backoff_ns(const struct s3 *s, unsigned tries, uint64_t random)
{
	uint64_t ms = s->backoff_ms;

	while (--tries && ms < BACKOFF_MOST_MS)
		ms *= 2;
	if (ms > BACKOFF_MOST_MS)
		ms = BACKOFF_MOST_MS;
	return ms * 500000 + random % (ms * 1000000);
}

/* ---- operations ---- */

static void op_over(struct loop_task *t)
{
	struct s3_op *op = container_of(t, struct s3_op, task);

	op->over(op);
}

static void op_again(struct loop_timer *t)
{
	struct s3_op *op = container_of(t, struct s3_op, timer);

	op->start(op);
}

/* On the HTTP thread. */
static void call_done(struct http_call *c)
{
	struct s3_op *op = container_of(c, struct s3_op, call);

	loop_post(op->s->s.loop, &op->task);
}

struct s3_op *s3_op_new(struct s3 *s, struct store_req *r)
{
	struct s3_op *op = store_pool_get(&s->ops);

	if (!op)
		return NULL;
	memset(op, 0, sizeof(*op));
	op->s = s;
	op->r = r;
	op->task.run = op_over;
	op->timer.fire = op_again;
	if (r)
		r->priv = op;
	return op;
}

void s3_op_free(struct s3_op *op)
{
	store_pool_put(&op->s->ops, op);
}

void s3_op_send(struct s3_op *op)
{
	op->call.done = call_done;
	http_start(&op->call);
}

bool s3_op_again(struct s3_op *op, const struct s3_verdict *v)
{
	struct loop *l = op->s->s.loop;

	if (!v->retry && !(v->credentials && s3_refresh(op->s)))
		return false;
	if (++op->tries >= op->s->tries)
		return false;
	loop_timer_set(
		l, &op->timer, loop_now(l) + s3_backoff_ns(op->s, op->tries, loop_random(l)));
	return true;
}

void s3_op_end(struct s3_op *op, int64_t status)
{
	static const char *const words[STORE_OPS] = {"put", "get", "delete", "list", "swap"};
	struct store_req *r = op->r;

	if (status < 0)
		err_wrap(r->err, (int)status, "%s: %s '%s'", r->store->url, words[r->op], r->name);
	s3_op_free(op);
	store_complete(r, status);
}

/* The common end of a call that did not go well. */
static void end_badly(struct s3_op *op, const struct s3_verdict *v)
{
	if (!s3_op_again(op, v))
		s3_op_end(op, v->rc);
}

/* ---- PUT ---- */

static void put_start(struct s3_op *op);

/* The name is taken: by an earlier try of ours?  (libcurl, too, sends a request again when a kept
 * connection turns out to be closed.) */
static void put_looked(struct s3_op *op)
{
	struct s3_verdict v = s3_judge(op->s, &op->call, op->r->err);

	if (v.rc == 0 && !strcmp(op->call.version, op->version)) {
		s3_op_end(op, 0);
		return;
	}
	if (v.rc == 0) {
		s3_op_end(op, err_set(op->r->err, -EEXIST, "it exists already"));
		return;
	}
	if (v.absent) { /* deleted in between */
		op->start = put_start;
		v.retry = true;
	}
	end_badly(op, &v);
}

static void put_look(struct s3_op *op)
{
	s3_call(op->s, &op->call, "HEAD", op->r->name);
	op->over = put_looked;
	s3_op_send(op);
}

static void put_over(struct s3_op *op)
{
	struct s3_verdict v = s3_judge(op->s, &op->call, op->r->err);

	if (v.rc == 0) {
		s3_op_end(op, 0);
	} else if (v.refused) {
		op->start = put_look;
		put_look(op);
	} else {
		end_badly(op, &v);
	}
}

static void put_start(struct s3_op *op)
{
	struct http_call *c = &op->call;

	s3_call(op->s, c, "PUT", op->r->name);
	http_header(c, "If-None-Match: *");
	http_header(c, "x-amz-meta-lsvd-version: %s", op->version);
	c->body = op->r->iov;
	c->bodycnt = op->r->iovcnt;
	c->body_bytes = op->r->len_bytes;
	op->over = put_over;
	s3_op_send(op);
}

/* ---- GET ---- */

/* "bytes 5-9/20" */
static bool range_of(const char *text, uint64_t *from, uint64_t *to, uint64_t *size)
{
	return sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, from, to, size) == 3 &&
	       *from <= *to && *to < *size;
}

/* On the HTTP thread.  A service may answer a range with the whole object (200). */
static bool get_data(struct http_call *c, const char *bytes, size_t len)
{
	struct s3_op *op = container_of(c, struct s3_op, call);
	const struct store_req *r = op->r;
	uint64_t from, to, size;

	if (!op->seen && c->range[0] &&
		(!range_of(c->range, &from, &to, &size) || from != r->off_bytes)) {
		snprintf(c->why, sizeof(c->why), "the answer is another range (%s)", c->range);
		return false;
	}
	if (!op->seen && !c->range[0])
		op->skip = r->off_bytes;
	op->seen += len;
	if (op->skip >= len) {
		op->skip -= len;
		return true;
	}
	bytes += op->skip;
	len -= op->skip;
	op->skip = 0;
	if (len > r->len_bytes - op->got)
		len = r->len_bytes - op->got;
	while (len) {
		const struct iovec *v = &r->iov[op->piece];
		size_t n = v->iov_len - op->piece_at < len ? v->iov_len - op->piece_at : len;

		memcpy((char *)v->iov_base + op->piece_at, bytes, n);
		bytes += n;
		len -= n;
		op->got += n;
		op->piece_at += n;
		if (op->piece_at == v->iov_len) {
			op->piece++;
			op->piece_at = 0;
		}
	}
	return true;
}

static void get_end(struct s3_op *op, uint64_t size)
{
	struct store_req *r = op->r;
	int rc = s3_tag(&op->call, r->tag, r->err);

	r->size_bytes = size;
	s3_op_end(op, rc < 0 ? rc : (int64_t)op->got);
}

/* Nothing to read, so only size and tag: the range was empty, or began behind the end. */
static void head_over(struct s3_op *op)
{
	struct s3_verdict v = s3_judge(op->s, &op->call, op->r->err);

	if (v.rc == 0 && op->call.length == UINT64_MAX) {
		err_set(op->r->err, -EIO, "%s does not say how long it is", op->s->place.endpoint);
		v = (struct s3_verdict){.rc = -EIO, .retry = true};
	}
	if (v.rc)
		end_badly(op, &v);
	else
		get_end(op, op->call.length);
}

static void head_start(struct s3_op *op)
{
	op->got = 0;
	s3_call(op->s, &op->call, "HEAD", op->r->name);
	op->over = head_over;
	s3_op_send(op);
}

/* What the answer must have brought; the size is that of the whole object. */
static bool get_complete(const struct s3_op *op, uint64_t *size)
{
	const struct store_req *r = op->r;
	uint64_t from, to, left;

	if (op->call.status == 206) {
		if (!range_of(op->call.range, &from, &to, size))
			return false;
	} else {
		*size = op->seen;
	}
	left = r->off_bytes < *size ? *size - r->off_bytes : 0;
	return op->got == (left < r->len_bytes ? left : r->len_bytes);
}

static void get_over(struct s3_op *op)
{
	struct s3_verdict v = s3_judge(op->s, &op->call, op->r->err);
	uint64_t size;

	if (op->call.result == HTTP_ANSWERED && op->call.status == 416) {
		op->start = head_start;
		head_start(op);
	} else if (v.rc) {
		end_badly(op, &v);
	} else if (!get_complete(op, &size)) {
		err_set(op->r->err, -EIO, "%s sent less than it was asked for",
			op->s->place.endpoint);
		v = (struct s3_verdict){.rc = -EIO, .retry = true};
		end_badly(op, &v);
	} else {
		get_end(op, size);
	}
}

static void get_start(struct s3_op *op)
{
	const struct store_req *r = op->r;

	s3_call(op->s, &op->call, "GET", r->name);
	http_header(&op->call, "Range: bytes=%" PRIu64 "-%" PRIu64, r->off_bytes,
		r->off_bytes + r->len_bytes - 1);
	op->call.data = get_data;
	op->skip = op->got = op->seen = 0;
	op->piece = 0;
	op->piece_at = 0;
	op->over = get_over;
	s3_op_send(op);
}

/* ---- DELETE ---- */

static void delete_over(struct s3_op *op)
{
	struct s3_verdict v = s3_judge(op->s, &op->call, op->r->err);

	if (v.rc == 0 || v.absent)
		s3_op_end(op, 0);
	else
		end_badly(op, &v);
}

static void delete_start(struct s3_op *op)
{
	s3_call(op->s, &op->call, "DELETE", op->r->name);
	op->over = delete_over;
	s3_op_send(op);
}

/* ---- the store ---- */

static void start(struct s3 *s, struct store_req *r, void (*how)(struct s3_op *op))
{
	struct s3_op *op = s3_op_new(s, r);

	if (!op) {
		store_complete_later(r, -ENOMEM);
		return;
	}
	s3_new_version(op->version);
	op->start = how;
	how(op);
}

void s3_delete_one(struct s3 *s, struct store_req *r)
{
	start(s, r, delete_start);
}

static void s3_submit(struct store *store, struct store_req *r)
{
	struct s3 *s = container_of(store, struct s3, s);

	switch (r->op) {
	case STORE_PUT:
		start(s, r, put_start);
		return;
	case STORE_GET:
		start(s, r, r->len_bytes ? get_start : head_start);
		return;
	case STORE_DELETE:
		s3_delete(s, r);
		return;
	case STORE_LIST:
		s3_list(s, r);
		return;
	default:
		s3_clerk_submit(s, r);
	}
}

static void free_store(struct s3 *s)
{
	struct s3_peer *p = atomic_load(&s->peer);

	while (p) {
		struct s3_peer *next = p->next;

		explicit_bzero(p, sizeof(*p));
		free(p);
		p = next;
	}
	store_pool_fini(&s->ops);
	pthread_mutex_destroy(&s->peer_mutex);
	free(s);
}

static void s3_close(struct store *store)
{
	struct s3 *s = container_of(store, struct s3, s);

	assert(!s->deletes);
	s3_clerk_close(s);
	http_close();
	free_store(s);
}

static const struct store_ops s3_ops = {.submit = s3_submit, .close = s3_close};

/* ---- opening ---- */

/* One key of the bucket: the answer does not matter, only that there is one. */
static int say_hello(struct s3 *s, struct err *e)
{
	struct http_call *c = calloc(1, sizeof(*c));
	struct s3_verdict v = {.rc = -ENOMEM};
	int n;

	for (unsigned tries = 1; c; tries++) {
		uint64_t ns = s3_backoff_ns(s, tries, loop_random(s->s.loop));

		http_call_init(c, "GET", &atomic_load(&s->peer)->p);
		n = snprintf(c->url, sizeof(c->url), "%s?list-type=2&max-keys=1", s->place.base);
		assert(n < (int)sizeof(c->url));
		http_run(c);
		v = s3_judge(s, c, e);
		if (!v.retry || tries >= s->tries || c->result == HTTP_TIMEOUT)
			break;
		nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000),
				  .tv_nsec = (long)(ns % 1000000000)},
			NULL);
	}
	free(c);
	return v.rc;
}

static int make(
	struct loop *l, const char *rest, const struct config *cfg, struct s3 **out, struct err *e)
{
	struct s3 *s = calloc(1, sizeof(*s));
	struct s3_peer *p = calloc(1, sizeof(*p));
	char url[sizeof(s->s.url)];
	int rc;

	if (!s || !p) {
		free(s);
		free(p);
		return -ENOMEM;
	}
	snprintf(url, sizeof(url), "s3:%s", rest);
	store_init(&s->s, l, &s3_ops, "s3", url);
	pthread_mutex_init(&s->peer_mutex, NULL);
	atomic_store(&s->peer, p);
	s->ops.item_bytes = sizeof(struct s3_op);
	s->tries = cfg->s3_tries;
	s->lease_ms = cfg->s3_lease_ms;
	s->backoff_ms = cfg->store_retry_ms;
	rc = s3_conf_place(rest, cfg, &s->place, e);
	if (rc == 0)
		rc = s3_conf_peer(cfg, &p->p, e);
	if (rc == 0)
		rc = s3_conf_credentials(&p->p, e);
	if (rc < 0)
		free_store(s);
	else
		*out = s;
	return rc;
}

static int defaults(struct config *cfg, struct err *e)
{
	struct lsvd_config *none = lsvd_config_defaults();
	int rc = none ? config_resolve(none, NULL, cfg, e) : -ENOMEM;

	lsvd_config_free(none);
	return rc;
}

int store_s3_open(struct loop *l, const char *rest, const struct config *cfg, struct store **out,
	struct err *e)
{
	struct config own;
	struct s3 *s = NULL;
	int rc = 0;

	if (loop_is_sim(l))
		return err_set(e, -EINVAL, "an S3 store needs a loop in real time");
	if (!cfg) {
		rc = defaults(&own, e);
		cfg = &own;
	}
	if (rc == 0)
		rc = make(l, rest, cfg, &s, e);
	if (rc < 0)
		return rc;
	rc = s3_reply_load(e);
	if (rc == 0)
		rc = http_open(cfg->s3_connections, e);
	if (rc < 0) {
		free_store(s);
		return err_wrap(e, rc, "s3:%s", rest);
	}
	rc = say_hello(s, e);
	if (rc < 0) {
		s3_close(&s->s);
		return err_wrap(e, rc, "s3:%s", rest);
	}
	*out = &s->s;
	return 0;
}
