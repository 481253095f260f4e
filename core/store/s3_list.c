/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_list.c - LIST: ListObjectsV2, a page of up to 1000 keys after the other.
 *
 * Pages are parsed as they arrive, on the HTTP thread; the loop walks over what came out.  Keys
 * that are no names of objects (the locks, and what others may keep under the prefix) are passed
 * over.
 */
#include "store/s3_impl.h"

#include "store/s3_reply.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list {
	struct s3_page page;
	char token[S3_TEXT_MAX]; /* of the page that is asked for */
	char last[STORE_NAME_MAX + 1];
};

/* All but [A-Za-z0-9._~-] as %XX: what a signature wants to see in a query. */
static void encode(char *out, size_t room, const char *in)
{
	size_t n = 0;

	for (; *in && n + 4 < room; in++) {
		if (isalnum((unsigned char)*in) || strchr("-._~", *in))
			out[n++] = *in;
		else
			n += (size_t)snprintf(out + n, 4, "%%%02X", (unsigned char)*in);
	}
	out[n] = 0;
}

static void list_end(struct s3_op *op, int64_t status)
{
	struct list *l = op->with;

	s3_page_free(&l->page);
	free(l);
	s3_op_end(op, status);
}

static bool list_data(struct http_call *c, const char *bytes, size_t len)
{
	return s3_page_feed(
		&((struct list *)container_of(c, struct s3_op, call)->with)->page, bytes, len);
}

static void list_start(struct s3_op *op);

static int64_t walk(struct s3_op *op, struct list *l)
{
	struct store_req *r = op->r;

	for (size_t i = 0; i < l->page.entries; i++) {
		const struct s3_entry *e = &l->page.entry[i];
		int rc;

		if (strncmp(e->name, r->name, strlen(r->name)) || strcmp(e->name, l->last) <= 0)
			return err_set(r->err, -EIO,
				"%s lists keys out of order, or others than were asked for",
				op->s->place.endpoint);
		memcpy(l->last, e->name, sizeof(l->last));
		rc = r->item(r, e->name, e->size);
		if (rc)
			return rc;
	}
	return 0;
}

static void list_over(struct s3_op *op)
{
	struct list *l = op->with;
	struct s3_verdict v = s3_judge(op->s, &op->call, op->r->err);
	int64_t rc = s3_page_end(&l->page);

	if (op->call.status / 100 == 2 && (l->page.xml.bad || (v.rc == 0 && rc))) {
		v = (struct s3_verdict){.rc = -EIO, .retry = true};
		err_set(op->r->err, -EIO, "%s: the answer is not a list of a bucket",
			op->s->place.endpoint);
	}
	if (v.rc) {
		if (!s3_op_again(op, &v))
			list_end(op, v.rc);
		return;
	}
	rc = walk(op, l);
	if (rc == 0 && l->page.truncated) {
		memcpy(l->token, l->page.token, sizeof(l->token));
		op->tries = 0;
		list_start(op);
	} else {
		list_end(op, rc);
	}
}

static int ask(struct s3_op *op)
{
	struct list *l = op->with;
	char prefix[3 * S3_KEY_MAX], token[3 * S3_TEXT_MAX] = "", key[S3_KEY_MAX];
	struct http_call *c = &op->call;
	int n;

	if (s3_page_begin(&l->page, op->s->place.prefix))
		return -ENOMEM;
	snprintf(key, sizeof(key), "%s%s", op->s->place.prefix, op->r->name);
	encode(prefix, sizeof(prefix), key);
	encode(token, sizeof(token), l->token);
	http_call_init(c, "GET", &atomic_load(&op->s->peer)->p);
	/* In the order of their names, which the signature wants too. */
	n = snprintf(c->url, sizeof(c->url), "%s?%s%s%sencoding-type=url&list-type=2&prefix=%s",
		op->s->place.base, token[0] ? "continuation-token=" : "", token,
		token[0] ? "&" : "", prefix);
	if (n >= (int)sizeof(c->url))
		return err_set(op->r->err, -EIO, "the service's continuation token is too long");
	c->data = list_data;
	op->over = list_over;
	s3_op_send(op);
	return 0;
}

static void list_start(struct s3_op *op)
{
	int rc = ask(op);

	if (rc < 0)
		list_end(op, rc);
}

static void list_begin(struct s3_op *op)
{
	struct store_req *r = op->r;
	int rc = ask(op);

	if (rc == 0)
		return;
	s3_page_free(&((struct list *)op->with)->page);
	free(op->with);
	s3_op_free(op);
	store_complete_later(r, rc);
}

void s3_list(struct s3 *s, struct store_req *r)
{
	struct s3_op *op = s3_op_new(s, r);

	if (op)
		op->with = calloc(1, sizeof(struct list));
	if (op && op->with) {
		op->start = list_start;
		list_begin(op);
		return;
	}
	if (op)
		s3_op_free(op);
	store_complete_later(r, -ENOMEM);
}
