/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * context.c - a loop, a configuration, and, as soon as an image needs them, a pool and a cache.
 *
 * The pool is opened with the first image that is opened for writing, so that `lsvd ls` or `lsvd
 * info` need none.  Read-only images read without a cache unless the pool is open already.
 */
#include "image/image_impl.h"

#include "store/rados.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *lsvd_version(void)
{
	return LSVD_VERSION;
}

void why_copy(char *why, const struct err *e, int rc)
{
	if (!why)
		return;
	why[0] = 0;
	if (rc < 0) {
		strncpy(why, err_text(e, rc), LSVD_ERR_MAX - 1);
		why[LSVD_ERR_MAX - 1] = 0;
	}
}

struct loop *ctx_loop(struct lsvd_ctx *ctx)
{
	return ctx->loop;
}
struct cache *ctx_cache(struct lsvd_ctx *ctx)
{
	return ctx->cache;
}
struct pool *ctx_pool(struct lsvd_ctx *ctx)
{
	return ctx->pool;
}

static struct lsvd_ctx *ctx_new(struct lsvd_config *cfg, struct err *e, int *rc)
{
	struct lsvd_ctx *ctx = calloc(1, sizeof(*ctx));

	*rc = -ENOMEM;
	if (!ctx)
		return NULL;
	ctx->done_tail = &ctx->done;
	ctx->cfg = config_copy(cfg);
	if (ctx->cfg)
		*rc = config_resolve(ctx->cfg, NULL, &ctx->base, e);
	if (*rc < 0) {
		lsvd_config_free(ctx->cfg);
		free(ctx);
		return NULL;
	}
	return ctx;
}

static void ctx_free(struct lsvd_ctx *ctx)
{
	store_rados_forget(ctx->loop);
	if (ctx->own_loop && ctx->loop)
		loop_free(ctx->loop);
	lsvd_config_free(ctx->cfg);
	free(ctx);
}

int ctx_need_cache(struct lsvd_ctx *ctx, struct err *e)
{
	if (ctx->cache)
		return 0;
	return cache_open(ctx->loop, ctx->pool, &ctx->base, &ctx->cache, e);
}

int ctx_need_pool(struct lsvd_ctx *ctx, struct err *e)
{
	int rc;

	if (ctx->pool)
		return 0;
	if (ctx->no_pool)
		return err_set(e, -EINVAL, "this context has no pool");
	if (ctx->images)
		return err_set(e, -EBUSY,
			"close the read-only images before the first is opened for writing");
	if (ctx->cache) {
		cache_close(ctx->cache);
		ctx->cache = NULL;
	}
	rc = pool_open(ctx->loop, &ctx->base, &ctx->pool, e);
	return rc < 0 ? rc : ctx_need_cache(ctx, e);
}

int lsvd_ctx_open_pool(struct lsvd_ctx *ctx, char *why)
{
	bool entered = ctx_enter(ctx);
	struct err e = {.msg = ""};
	int rc = ctx_need_pool(ctx, &e);

	ctx_leave(ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

int ctx_open_on(struct loop *l, struct lsvd_config *cfg, struct bdev **legs, unsigned nlegs,
	struct lsvd_ctx **out, struct err *e)
{
	struct lsvd_ctx *ctx;
	int rc;

	ctx = ctx_new(cfg, e, &rc);
	if (!ctx)
		return rc;
	ctx->loop = l;
	ctx->no_pool = nlegs == 0;
	if (nlegs)
		rc = pool_open_on(l, legs, nlegs, &ctx->base, &ctx->pool, e);
	if (rc == 0)
		rc = ctx_need_cache(ctx, e);
	if (rc < 0) {
		if (ctx->pool)
			pool_close(ctx->pool);
		ctx_free(ctx);
		return rc;
	}
	*out = ctx;
	return 0;
}

void ctx_drop(struct lsvd_ctx *ctx)
{
	while (ctx->images) {
		struct lsvd_image *img = ctx->images;

		ctx->images = img->next;
		volume_drop(img->vol);
		img->vol = NULL;
		image_free(img);
	}
	if (ctx->cache)
		cache_drop(ctx->cache);
	if (ctx->pool)
		pool_drop(ctx->pool);
	ctx_free(ctx);
}

int lsvd_ctx_open(
	const struct lsvd_config *cfg, enum lsvd_drive drive, struct lsvd_ctx **out, char *why)
{
	struct err e = {.msg = ""};
	struct lsvd_ctx *ctx;
	int rc;

	/* config_resolve takes it non-const; the copy is what it works on. */
	ctx = ctx_new((struct lsvd_config *)(uintptr_t)cfg, &e, &rc);
	if (ctx) {
		ctx->drive = drive;
		ctx->own_loop = true;
		rc = loop_uring_new(1024, &ctx->loop, &e);
		if (rc == 0) {
			loop_uring_spin(ctx->loop, ctx->base.loop_spin_us * 1000ull);
			rc = door_open(ctx, &e);
		}
		if (rc < 0)
			ctx_free(ctx);
	}
	if (rc == 0)
		*out = ctx;
	why_copy(why, &e, rc);
	return rc;
}

int lsvd_ctx_rados_ioctx(struct lsvd_ctx *ctx, const char *url, void *ioctx, char *why)
{
	struct err e = {.msg = ""};
	int rc = store_rados_adopt(ctx->loop, url, ioctx, &e);

	why_copy(why, &e, rc);
	return rc;
}

void lsvd_ctx_close(struct lsvd_ctx *ctx)
{
	bool entered;

	assert(!ctx->images);
	entered = ctx_enter(ctx);
	if (ctx->cache)
		cache_close(ctx->cache);
	ctx->cache = NULL;
	if (ctx->pool)
		pool_close(ctx->pool);
	ctx->pool = NULL;
	ctx_leave(ctx, entered);
	if (ctx->own_loop)
		door_close(ctx);
	ctx_free(ctx);
}
