/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bdev.c - opens a block device by its URL, and checks what is submitted to it. */
#include "sys/bdev_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct scheme {
	const char *prefix;
	int (*open)(
		const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e);
} schemes[] = {
	{"file:", bdev_uring_open},
	{"mem:", bdev_mem_open},
	{"nbd:", bdev_nbd_open},
	{"nbds:", bdev_nbd_open},
	{"nbd+unix:", bdev_nbd_open},
	{"nbds+unix:", bdev_nbd_open},
};

void bdev_init(struct bdev *d, const struct bdev_ops *ops, const struct bdev_open_args *a)
{
	*d = (struct bdev){.ops = ops, .loop = a->loop, .readonly = a->flags & BDEV_READONLY};
	snprintf(d->url, sizeof(d->url), "%s", a->url);
}

int bdev_open(struct loop *l, const char *url, unsigned flags, uint64_t create_bytes,
	struct bdev **out, bool *created, struct err *e)
{
	struct bdev_open_args a = {
		.loop = l, .url = url, .flags = flags, .create_bytes = create_bytes};
	bool made = false;
	int rc;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t n = strlen(schemes[i].prefix);

		if (strncmp(url, schemes[i].prefix, n) != 0)
			continue;
		a.rest = url + n;
		rc = schemes[i].open(&a, out, &made, e);
		if (rc == 0 && created)
			*created = made;
		return rc;
	}
	return err_set(e, -EINVAL,
		"block device '%s': write it as file:PATH, mem:SIZE (like mem:4G) or "
		"nbd://HOST/EXPORT",
		url);
}

static void check_memory(const struct bdev *d, const struct bdev_req *r)
{
	uint64_t mask = d->sector_bytes - 1, sum = 0;

	assert(r->iovcnt > 0);
	for (int i = 0; i < r->iovcnt; i++) {
		assert(!(((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & mask));
		sum += r->iov[i].iov_len;
	}
	assert(sum == r->len_bytes);
}

static void check(const struct bdev *d, const struct bdev_req *r)
{
	assert(r->done);
	assert(!d->readonly || r->op == BDEV_READ);
	if (r->op == BDEV_FLUSH) {
		assert(r->len_bytes == 0);
		return;
	}
	assert(!((r->offset_bytes | r->len_bytes) & (d->sector_bytes - 1)));
	assert(r->len_bytes > 0 && r->len_bytes <= d->size_bytes);
	assert(r->offset_bytes <= d->size_bytes - r->len_bytes);
	if (r->op != BDEV_DISCARD)
		check_memory(d, r);
}

void bdev_submit(struct bdev *d, struct bdev_req *r)
{
	check(d, r);
	r->dev = d;
	r->moved_bytes = 0;
	r->status = 0;
	d->ops->submit(d, r);
}

bool bdev_abort(struct bdev *d)
{
	if (d->ops->abort)
		d->ops->abort(d);
	return d->ops->abort != NULL;
}

static void is_up(struct loop_task *t)
{
	struct bdev_req *r = container_of(t, struct bdev_req, task);

	r->done(r, 0);
}

void bdev_revive(struct bdev *d, struct bdev_req *r)
{
	r->dev = d;
	r->status = 0;
	if (d->down) {
		d->ops->revive(d, r);
		return;
	}
	r->task = (struct loop_task){.run = is_up};
	loop_defer(d->loop, &r->task);
}

void bdev_close(struct bdev *d)
{
	if (d)
		d->ops->close(d);
}
