/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_delete.c - DELETEs that are submitted in one turn of the loop become one DeleteObjects
 * request.
 *
 * The answer names the keys that failed; each of those is tried again by itself.  So are all of
 * them at a service that has no such request.
 */
#include "store/s3_impl.h"

#include "store/s3_reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 1000, KEY_ROOM = S3_KEY_MAX + 40 };

struct batch {
	struct s3_op *op;
	struct s3_deleted answer;
	unsigned n;
	bool *failed; /* by place in r[] */
	struct store_req **r;
	struct iovec iov;
	char body[];
};

static void free_batch(struct batch *b)
{
	s3_deleted_free(&b->answer);
	if (b->op)
		s3_op_free(b->op);
	free(b->failed);
	free(b->r);
	free(b);
}

/* Those that failed, or all of them, one by one. */
static void one_by_one(struct batch *b, bool all)
{
	struct s3 *s = b->op->s;

	for (unsigned i = 0; i < b->n; i++)
		if (all || b->failed[i])
			s3_delete_one(s, b->r[i]);
}

static void complete(struct batch *b, int status, const struct err *e)
{
	for (unsigned i = 0; i < b->n; i++) {
		struct store_req *r = b->r[i];

		if (b->failed[i])
			continue;
		if (status < 0)
			err_set(r->err, status, "%s: delete '%s': %.250s", r->store->url, r->name,
				err_text(e, status));
		store_complete(r, status);
	}
}

/* On the HTTP thread, as key_failed(). */
static bool batch_data(struct http_call *c, const char *bytes, size_t len)
{
	return s3_deleted_feed(
		&((struct batch *)container_of(c, struct s3_op, call)->with)->answer, bytes, len);
}

static void key_failed(struct s3_deleted *d, const char *name, const char *code)
{
	struct batch *b = d->arg;

	if (!strcmp(code, "NoSuchKey"))
		return;
	for (unsigned i = 0; i < b->n; i++)
		if (!strcmp(b->r[i]->name, name))
			b->failed[i] = true;
}

static void batch_over(struct s3_op *op)
{
	struct batch *b = op->with;
	struct err e = {.msg = ""};
	struct s3_verdict v = s3_judge(op->s, &op->call, &e);
	int rc = s3_deleted_end(&b->answer);

	if (op->call.status / 100 == 2 && (b->answer.xml.bad || (v.rc == 0 && rc)))
		v = (struct s3_verdict){
			.rc = err_set(&e, -EIO, "%s: the answer is not a result of deletes",
				op->s->place.endpoint),
			.retry = true};
	if (v.rc && s3_op_again(op, &v))
		return;
	if (op->call.result == HTTP_IMPOSSIBLE || v.rc == -EOPNOTSUPP || op->call.status == 405) {
		op->s->no_batches = true; /* no MD5 here, or no such request there */
		one_by_one(b, true);
	} else {
		if (v.rc == 0)
			one_by_one(b, false);
		else
			memset(b->failed, 0, b->n * sizeof(*b->failed));
		complete(b, v.rc, &e);
	}
	free_batch(b);
}

static void batch_start(struct s3_op *op)
{
	struct batch *b = op->with;
	struct http_call *c = &op->call;

	memset(b->failed, 0, b->n * sizeof(*b->failed));
	http_call_init(c, "POST", &atomic_load(&op->s->peer)->p);
	/* The signature's form of a parameter without a value has the '='. */
	snprintf(c->url, sizeof(c->url), "%s?delete=", op->s->place.base);
	http_header(c, "Content-Type: application/xml");
	c->md5 = true;
	c->body = &b->iov;
	c->bodycnt = 1;
	c->body_bytes = b->iov.iov_len;
	c->data = batch_data;
	op->over = batch_over;
	if (s3_deleted_begin(&b->answer)) {
		struct err e = {.msg = "out of memory"};

		complete(b, -ENOMEM, &e);
		free_batch(b);
		return;
	}
	s3_op_send(op);
}

static struct batch *new_batch(struct s3 *s, unsigned n)
{
	struct batch *b = calloc(1, sizeof(*b) + 64 + n * (size_t)KEY_ROOM);

	if (!b)
		return NULL;
	b->failed = calloc(n, sizeof(*b->failed));
	b->r = calloc(n, sizeof(struct store_req *));
	b->op = b->failed && b->r ? s3_op_new(s, NULL) : NULL;
	if (!b->op) {
		free_batch(b);
		return NULL;
	}
	b->op->with = b;
	b->op->start = batch_start;
	b->answer.prefix = s->place.prefix;
	b->answer.arg = b;
	b->answer.failed = key_failed;
	return b;
}

static unsigned count(const struct store_req *r)
{
	unsigned n = 0;

	for (; r && n < BATCH_MAX; r = r->next)
		n++;
	return n;
}

/* Keys need no escaping: see s3_conf.c and store_object_name_ok(). */
static void fill(struct batch *b, struct s3 *s, unsigned n)
{
	size_t room = 64 + n * (size_t)KEY_ROOM, at;

	at = (size_t)snprintf(b->body, room, "<Delete><Quiet>true</Quiet>");
	while (b->n < n) {
		struct store_req *r = s->deletes;

		s->deletes = r->next;
		b->r[b->n++] = r;
		at += (size_t)snprintf(b->body + at, room - at, "<Object><Key>%s%s</Key></Object>",
			s->place.prefix, r->name);
	}
	at += (size_t)snprintf(b->body + at, room - at, "</Delete>");
	b->iov = (struct iovec){b->body, at};
}

static void flush(struct loop_task *t)
{
	struct s3 *s = container_of(t, struct s3, delete_task);

	while (s->deletes) {
		unsigned n = count(s->deletes);
		struct batch *b = n > 1 && !s->no_batches ? new_batch(s, n) : NULL;

		if (b) {
			fill(b, s, n);
			batch_start(b->op);
		} else {
			struct store_req *r = s->deletes;

			s->deletes = r->next;
			s3_delete_one(s, r);
		}
	}
}

void s3_delete(struct s3 *s, struct store_req *r)
{
	if (!s->deletes) {
		s->deletes_last = &s->deletes;
		s->delete_task.run = flush;
		loop_defer(s->s.loop, &s->delete_task);
	}
	*s->deletes_last = r;
	s->deletes_last = &r->next;
}
