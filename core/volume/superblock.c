/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * superblock.c - the one object that is replaced: read, create, swap.
 *
 * A swap whose outcome is unknown is resolved by reading: if what is there is what we meant to
 * write, it went through; if its version is the one we started from, we try again; else somebody
 * else has taken the image and we are fenced (I11).
 */
#include "volume/checkpoint_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 6 };

static void super_name(char out[STORE_NAME_MAX], const char *name)
{
	snprintf(out, STORE_NAME_MAX, "%s/super", name);
}

int volume_read_superblock(
	struct store *s, const char *name, struct superblock *sb, char *tag, struct err *e)
{
	char object[STORE_NAME_MAX];
	uint8_t *buf = malloc(SUPERBLOCK_BYTES);
	struct iovec iov = {.iov_base = buf, .iov_len = SUPERBLOCK_BYTES};
	struct store_req r = {.op = STORE_GET,
		.name = object,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = SUPERBLOCK_BYTES,
		.err = e};
	int64_t n;
	int rc;

	if (!buf)
		return -ENOMEM;
	super_name(object, name);
	n = store_wait(s, &r);
	if (n == -ENOENT)
		rc = err_set(e, -ENOENT,
			"there is no image '%s' in '%s'; `lsvd ls` lists what there is", name,
			s->url);
	else if (n < 0)
		rc = err_wrap(e, (int)n, "read superblock");
	else
		rc = superblock_decode(buf, (size_t)n, sb, e);
	if (rc == 0 && tag)
		memcpy(tag, r.tag, STORE_TAG_MAX);
	free(buf);
	return rc;
}

/* ---- swapping ---- */

static void submit_swap(struct volume *v);

static void over(struct volume *v, int status)
{
	struct swapper *s = &v->ckpt->swap;

	s->busy = false;
	s->done(v, status);
	if (s->next && !s->busy) {
		void (*next)(struct volume *, int) = s->next;

		s->next = NULL;
		superblock_swap(v, next);
	}
}

static void swap_again(struct loop_timer *t)
{
	submit_swap(container_of(t, struct checkpointer, swap.retry)->v);
}

static void swap_later(struct volume *v, int64_t status)
{
	struct swapper *s = &v->ckpt->swap;

	volume_store_failed(v, status, &s->err);
	s->retry.fire = swap_again;
	if (!MUTANT(NO_RETRY))
		loop_timer_set(
			v->loop, &s->retry, loop_now(v->loop) + volume_backoff_ns(v, s->tries++));
}

static void reread(struct store_req *r, int64_t status)
{
	struct volume *v = container_of(r, struct checkpointer, swap.req)->v;
	struct swapper *s = &v->ckpt->swap;

	s->in_store = false;
	if (status < 0 && volume_worth_retrying(status)) {
		swap_later(v, status);
	} else if (status == (int64_t)s->len && !memcmp(s->read, s->buf, s->len)) {
		memcpy(v->tag, r->tag, STORE_TAG_MAX);
		over(v, 0);
	} else {
		over(v, MUTANT(IGNORE_FENCE) ? 0 : -ESTALE); /* I11 */
	}
}

static void swap_done(struct store_req *r, int64_t status)
{
	struct volume *v = container_of(r, struct checkpointer, swap.req)->v;
	struct swapper *s = &v->ckpt->swap;

	s->in_store = false;
	if (status >= 0) {
		memcpy(v->tag, r->tag, STORE_TAG_MAX);
		over(v, 0);
	} else if ((status == -ESTALE || status == -EEXIST) && s->tries) {
		/* By an earlier try of ours that went through after all? */
		s->iov = (struct iovec){.iov_base = s->read, .iov_len = SUPERBLOCK_BYTES};
		s->req = (struct store_req){.op = STORE_GET,
			.name = s->name,
			.iov = &s->iov,
			.iovcnt = 1,
			.len_bytes = SUPERBLOCK_BYTES,
			.done = reread,
			.err = &s->err};
		s->in_store = true;
		store_submit(v->store, &s->req);
	} else if (volume_worth_retrying(status)) {
		swap_later(v, status);
	} else {
		over(v, MUTANT(IGNORE_FENCE) ? 0 : (int)status);
	}
}

static void submit_swap(struct volume *v)
{
	struct swapper *s = &v->ckpt->swap;

	s->iov = (struct iovec){.iov_base = s->buf, .iov_len = s->len};
	s->req = (struct store_req){.op = STORE_SWAP,
		.name = s->name,
		.iov = &s->iov,
		.iovcnt = 1,
		.len_bytes = s->len,
		.done = swap_done,
		.err = &s->err};
	memcpy(s->req.tag, v->tag, STORE_TAG_MAX);
	s->in_store = true;
	store_submit(v->store, &s->req);
}

void superblock_swap(struct volume *v, void (*done)(struct volume *v, int status))
{
	struct swapper *s = &v->ckpt->swap;

	/* A checkpoint and a resize may meet: one after the other, each with v->sb as it is then.
	 */
	if (s->busy) {
		assert(!s->next);
		s->next = done;
		return;
	}
	s->busy = true;
	s->done = done;
	s->tries = 0;
	s->err.msg[0] = 0;
	super_name(s->name, v->name);
	s->len = superblock_encode(v->sb, s->buf);
	submit_swap(v);
}

static void waited(struct volume *v, int status)
{
	v->swap_status = status;
}

int superblock_swap_wait(struct volume *v, struct err *e)
{
	struct swapper *s = &v->ckpt->swap;

	while (s->busy || s->next)
		loop_poll(v->loop, LOOP_FOREVER);
	v->swap_status = 1;
	superblock_swap(v, waited);
	/* Somebody waits to see it open, or closed; but a request that is with the store comes
	 * back. */
	while (v->swap_status == 1 &&
		!((v->closing || !v->journal) && s->tries >= TRIES_MAX && !s->in_store))
		loop_poll(v->loop, LOOP_FOREVER);
	if (v->swap_status == 1) {
		loop_timer_cancel(v->loop, &s->retry);
		return err_set(e, v->store_status, "write superblock: %s", v->store_why.msg);
	}
	if (v->swap_status == -ESTALE)
		return err_set(e, -ESTALE, "image '%s' was taken over by another writer", v->name);
	if (v->swap_status < 0)
		return err_set(e, v->swap_status, "write superblock: %s",
			err_text(&s->err, v->swap_status));
	return 0;
}
