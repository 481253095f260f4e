/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reorg/session.h"

#include "image/context.h"
#include "sys/container.h"
#include "sys/loop_uring.h"
#include "volume/volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- opening ---- */

static int open_store(struct session *s, const char *url, struct session_image *i,
	struct superblock *sb, struct err *e)
{
	int rc = store_open_image(
		s->loop, s->cfg, url, 0, &i->store, i->name, sizeof(i->name), e);

	if (!rc)
		rc = volume_read_superblock(i->store, i->name, sb, NULL, e);
	return rc;
}

static int is_clean(struct session *s, const char *url, bool *clean, struct err *e)
{
	struct session_image i = {0};
	struct superblock *sb = calloc(1, sizeof(*sb));
	int rc = sb ? open_store(s, url, &i, sb, e) : err_set(e, -ENOMEM, "out of memory");

	if (!rc)
		*clean = sb->clean;
	store_close(i.store);
	free(sb);
	return rc;
}

/* The configured pool as it is. */
static int open_legs(
	struct session *s, const char *image, struct bdev **legs, unsigned *n, struct err *e)
{
	struct config c;
	int rc = config_resolve(s->cfg, image, &c, e);

	if (!rc)
		rc = pool_open_devices(s->loop, &c, legs, n, e);
	if (!rc)
		return 0;
	return err_wrap(e, rc,
		"'%s' was not closed cleanly, so its newest data is in the journal of its pool "
		"(name it with --pool)",
		image);
}

int session_open(struct session *s, struct lsvd_config *cfg, const char *image, struct err *e)
{
	struct bdev *legs[POOL_LEGS_MAX];
	unsigned n = 0;
	bool clean = true;
	int rc;

	*s = (struct session){.cfg = cfg};
	rc = lsvd_config_set(cfg, "cache.enabled", "false", e->msg);
	if (!rc)
		rc = lsvd_config_set(cfg, "readahead.max", "0", e->msg);
	if (!rc)
		rc = lsvd_config_set(cfg, "prefetch.enabled", "false", e->msg);
	if (!rc)
		rc = loop_uring_new(512, &s->loop, e);
	if (!rc)
		rc = is_clean(s, image, &clean, e);
	if (!rc && !clean)
		rc = open_legs(s, image, legs, &n, e);
	if (!rc)
		rc = ctx_open_on(s->loop, cfg, legs, n, &s->ctx, e);
	if (rc)
		session_close(s);
	return rc;
}

void session_close(struct session *s)
{
	if (s->ctx)
		lsvd_ctx_close(s->ctx);
	if (s->loop)
		loop_free(s->loop);
	*s = (struct session){0};
}

/* Every opening for writing begins an epoch, so this changes whenever the contents do. */
static void note_superblock(struct session_image *i, const struct superblock *sb)
{
	struct digest d;

	memcpy(i->uuid, sb->uuid, sizeof(i->uuid));
	i->created_ns = sb->created_ns;
	digest_begin(&d);
	digest_add(&d, sb->uuid, sizeof(sb->uuid));
	digest_u64(&d, sb->checkpoint);
	digest_u64(&d, sb->checkpoint_epoch);
	for (uint32_t k = 0; k < sb->epochs; k++) {
		digest_u64(&d, sb->epoch[k].epoch);
		digest_u64(&d, sb->epoch[k].first_seq);
	}
	digest_end(&d, i->state);
}

int session_open_image(struct session *s, const char *url, struct session_image *i, struct err *e)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	int rc;

	*i = (struct session_image){.s = s};
	rc = sb ? open_store(s, url, i, sb, e) : err_set(e, -ENOMEM, "out of memory");
	if (!rc) {
		note_superblock(i, sb);
		rc = ctx_image_open(s->ctx, i->store, i->name, LSVD_OPEN_READONLY, &i->img, e);
	}
	free(sb);
	if (rc) {
		store_close(i->store);
		*i = (struct session_image){0};
		return err_wrap(e, rc, "open image '%s'", url);
	}
	i->size_sectors = lsvd_image_size(i->img) / 512;
	return 0;
}

void session_close_image(struct session_image *i)
{
	if (i->img)
		(void)lsvd_image_close(i->img, NULL); /* read-only: nothing to lose */
	store_close(i->store);
	*i = (struct session_image){0};
}

/* ---- reading ---- */

static int add_walked(void *arg, uint64_t lba, uint64_t len)
{
	return extents_add(arg, lba, len);
}

int session_extents(struct session_image *i, struct extents *x, struct err *e)
{
	int rc;

	*x = (struct extents){.size_sectors = i->size_sectors};
	rc = ctx_image_walk(i->img, 0, x->size_sectors, add_walked, x);
	if (rc < 0) {
		extents_free(x);
		return err_set(
			e, rc, "walk the map of image '%s': %s", i->name, err_text(NULL, rc));
	}
	return 0;
}

static void read_done(struct lsvd_io *io)
{
	container_of(io, struct session_read, io)->done = true;
}

int session_submit(
	struct session_image *i, struct session_read *r, uint64_t lba, uint64_t sectors, void *buf)
{
	r->iov = (struct iovec){buf, sectors * 512};
	r->done = false;
	r->io.op = LSVD_READ;
	r->io.flags = 0;
	r->io.offset_bytes = lba * 512;
	r->io.len_bytes = sectors * 512;
	r->io.iov = &r->iov;
	r->io.iovcnt = 1;
	r->io.cb = read_done;
	return lsvd_submit(i->img, &r->io);
}

int session_wait(struct session *s, struct session_read *r)
{
	while (!r->done)
		loop_poll(s->loop, LOOP_FOREVER);
	return r->io.status;
}
