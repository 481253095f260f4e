/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* admin.c - creating, listing, looking at, resizing and removing images. */
#include "image/image_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int image_open_store(struct lsvd_ctx *ctx, const char *url, unsigned flags, struct store **s,
	char name[IMAGE_NAME_MAX], struct err *e)
{
	return store_open_image(ctx->loop, ctx->cfg, url, flags, s, name, IMAGE_NAME_MAX, e);
}

int ctx_image_create(
	struct lsvd_ctx *ctx, struct store *s, const char *name, uint64_t size_bytes, struct err *e)
{
	int rc;

	(void)ctx;
	if (size_bytes % 512)
		rc = err_set(e, -EINVAL,
			"an image's size must be a multiple of 512 bytes; %" PRIu64 " is not",
			size_bytes);
	else
		rc = volume_create(s, name, size_bytes / 512, e);
	return rc < 0 ? err_wrap(e, rc, "create image '%s'", name) : 0;
}

int lsvd_image_create(struct lsvd_ctx *ctx, const char *url, uint64_t size_bytes, char *why)
{
	struct err e = {.msg = ""};
	char name[IMAGE_NAME_MAX];
	struct store *s;
	bool entered = ctx_enter(ctx);
	int rc;

	/* Before a store is made for nothing. */
	if (size_bytes == 0 || size_bytes % 512)
		rc = err_set(&e, -EINVAL,
			"create image '%s': the size must be a multiple of 512 bytes, and not 0",
			url);
	else
		rc = image_open_store(ctx, url, STORE_CREATE, &s, name, &e);
	if (rc == 0) {
		rc = ctx_image_create(ctx, s, name, size_bytes, &e);
		store_close(s);
	}
	ctx_leave(ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

int lsvd_image_remove(struct lsvd_ctx *ctx, const char *url, char *why)
{
	struct err e = {.msg = ""};
	char name[IMAGE_NAME_MAX];
	struct store *s;
	bool entered = ctx_enter(ctx);
	int rc = image_open_store(ctx, url, 0, &s, name, &e);

	if (rc == 0) {
		struct superblock *sb = calloc(1, sizeof(*sb));

		rc = sb ? volume_read_superblock(s, name, sb, NULL, &e) : -ENOMEM;
		/* Only an image that was left dirty can have segments in the pool. */
		if (rc == 0 && !sb->clean && !ctx->no_pool)
			rc = ctx_need_pool(ctx, &e);
		if (rc == 0 || rc == -EBADMSG || rc == -EUCLEAN)
			rc = volume_remove(s, ctx->pool, name, &e);
		free(sb);
		store_close(s);
	}
	ctx_leave(ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

/* ---- listing ---- */

struct list {
	struct store_req req;
	char (*names)[IMAGE_NAME_MAX];
	uint32_t n, cap;
};

static int note_image(struct store_req *r, const char *object, uint64_t size)
{
	struct list *l = container_of(r, struct list, req);
	const char *slash = strchr(object, '/');

	(void)size;
	if (!slash || strcmp(slash, "/super") || slash - object >= IMAGE_NAME_MAX)
		return 0;
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 64;
		void *p = realloc(l->names, cap * sizeof(*l->names));

		if (!p)
			return -ENOMEM;
		l->names = p;
		l->cap = cap;
	}
	snprintf(l->names[l->n++], IMAGE_NAME_MAX, "%.*s", (int)(slash - object), object);
	return 0;
}

int lsvd_image_list(struct lsvd_ctx *ctx, const char *store_url,
	int (*fn)(void *arg, const char *name), void *arg, char *why)
{
	struct err e = {.msg = ""};
	struct list l = {.req = {.op = STORE_LIST, .name = "", .item = note_image, .err = &e}};
	bool entered = ctx_enter(ctx);
	struct store *s;
	struct config cfg;
	int rc = config_resolve(ctx->cfg, store_url, &cfg, &e);

	if (rc == 0)
		rc = store_open(ctx->loop, store_url, &cfg, 0, &s, &e);
	if (rc == 0) {
		rc = (int)store_wait(s, &l.req);
		store_close(s);
	}
	ctx_leave(ctx, entered);
	for (uint32_t i = 0; rc >= 0 && i < l.n; i++)
		if (fn(arg, l.names[i]))
			break;
	free(l.names);
	why_copy(why, &e, rc);
	return rc < 0 ? rc : 0;
}

/* ---- facts ---- */

void image_uuid_text(const uint8_t u[16], char out[37])
{
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		u[13], u[14], u[15]);
}

int lsvd_image_info(struct lsvd_image *img, struct lsvd_image_info *info)
{
	bool entered = ctx_enter(img->ctx);
	const struct superblock *sb = volume_superblock(img->vol);

	memset(info, 0, sizeof(*info));
	snprintf(info->url, sizeof(info->url), "%s%s%s", img->url, img->snapshot[0] ? "@" : "",
		img->snapshot);
	snprintf(info->name, sizeof(info->name), "%s", img->name);
	image_uuid_text(sb->uuid, info->uuid);
	info->size_bytes = sb->size_sectors * 512;
	info->epoch = sb->epoch[sb->epochs - 1].epoch;
	info->objects = volume_objects(img->vol, &info->stored_bytes, &info->live_bytes);
	info->extents = volume_extents(img->vol);
	info->clean = sb->clean;
	volume_writer_text(sb, info->last_writer, sizeof(info->last_writer));
	snprintf(info->snapshot, sizeof(info->snapshot), "%s", img->snapshot);
	info->snapshots = sb->snapshots;
	info->kept_objects = volume_deferred(img->vol, &info->kept_bytes);
	if (sb->bases)
		snprintf(info->base, sizeof(info->base), "%s", sb->base[sb->bases - 1].name);
	info->base_bytes = volume_base_bytes(img->vol);
	info->covered = volume_covered(img->vol);
	info->replayed = volume_replayed(img->vol);
	if (volume_taken_from(img->vol)[0])
		snprintf(info->taken_from, sizeof(info->taken_from), "%s%s",
			volume_taken_from(img->vol),
			img->flags & LSVD_OPEN_NO_JOURNAL
				? "; what that writer had acknowledged and not put into the store "
				  "is lost"
				: ", with its journal");
	volume_failed_text(img->vol, info->failed, sizeof(info->failed));
	ctx_leave(img->ctx, entered);
	return 0;
}

int lsvd_image_stat(struct lsvd_ctx *ctx, const char *url, struct lsvd_image_info *info, char *why)
{
	struct lsvd_image *img;
	int rc = lsvd_image_open(ctx, url, LSVD_OPEN_READONLY, &img, why);

	if (rc < 0)
		return rc;
	lsvd_image_info(img, info);
	return lsvd_image_close(img, why);
}

/* ---- resizing ---- */

static bool mapped_beyond(struct lsvd_image *img, uint64_t sectors)
{
	uint64_t end = volume_size_sectors(img->vol);
	struct journal *j = volume_journal(img->vol);
	struct journal_hit jh;
	struct volume_hit vh;

	if (sectors >= end)
		return false;
	for (uint64_t at = sectors; at < end && journal_find(j, at, end - at, &jh);
		at = jh.lba + jh.len)
		if (jh.pos != EXTMAP_ZERO)
			return true;
	return volume_find(img->vol, sectors, end - sectors, &vh);
}

struct cut {
	struct lsvd_io io;
	bool over;
};

static void cut_over(struct lsvd_io *io)
{
	((struct cut *)(void *)((char *)io - offsetof(struct cut, io)))->over = true;
}

/* Discard [size, old), which is behind the limit already: in order after every write that was
 * started before it, so nothing of them is left there. */
static int cut(struct lsvd_image *img, uint64_t size, uint64_t old)
{
	struct cut c = {.io = {.op = LSVD_DISCARD,
				.offset_bytes = size,
				.len_bytes = old - size,
				.cb = cut_over}};
	struct io_priv *p = io_priv(&c.io);
	int rc = volume_failed(img->vol);

	if (rc < 0)
		return rc;
	p->img = img;
	p->queue = NULL;
	io_start(img, &c.io);
	while (!c.over)
		lsvd_poll(img->ctx, LOOP_FOREVER);
	return c.io.status;
}

static int shrink(struct lsvd_image *img, uint64_t size, uint64_t old, bool force, struct err *e)
{
	int rc;

	if (!force && mapped_beyond(img, size / 512))
		return err_set(e, -EINVAL,
			"there is data beyond %" PRIu64 " bytes; discard it, or force", size);
	/* Discards of the past, too, must be in objects before the end moves: else what they
	 * covered could come back with a larger size.  And the newest checkpoint has nothing
	 * beyond the end. */
	rc = MUTANT(SHRINK_KEEPS) ? 0 : cut(img, size, old);
	if (rc == 0)
		rc = volume_drain_wait(img->vol);
	if (rc == 0)
		rc = volume_checkpoint(img->vol);
	return rc < 0 ? err_set(e, rc, "discard what lies beyond: %s", strerror(-rc)) : 0;
}

static int resize(struct lsvd_image *img, uint64_t size, bool force, struct err *e)
{
	uint64_t old = lsvd_image_size(img);
	int rc = 0;

	if (img->flags & LSVD_OPEN_READONLY)
		return err_set(e, -EROFS, "the image is open read-only");
	if (size == 0 || size % 512)
		return err_set(e, -EINVAL, "the size must be a multiple of 512 bytes, and not 0");
	if (size < old) {
		/* No request reaches beyond the new end from now on. */
		img->limit_bytes = size;
		rc = shrink(img, size, old, force, e);
	}
	if (rc == 0)
		rc = volume_resize(img->vol, size / 512, e);
	img->limit_bytes = lsvd_image_size(img);
	img->resolver.size_sectors = volume_size_sectors(img->vol);
	return rc;
}

int lsvd_image_resize(struct lsvd_image *img, uint64_t size_bytes, bool force, char *why)
{
	struct err e = {.msg = ""};
	bool entered = ctx_enter(img->ctx);
	int rc = resize(img, size_bytes, force, &e);

	ctx_leave(img->ctx, entered);
	if (rc < 0)
		err_wrap(&e, rc, "resize image '%s'", img->name);
	why_copy(why, &e, rc);
	return rc;
}

uint64_t ctx_image_map_bytes(const struct lsvd_image *img)
{
	return volume_map_bytes(img->vol);
}

int ctx_image_walk(struct lsvd_image *img, uint64_t lba, uint64_t len,
	int (*fn)(void *arg, uint64_t lba, uint64_t len), void *arg)
{
	struct journal *j = volume_journal(img->vol);
	uint64_t end = lba + len;
	int rc = 0;

	while (rc == 0 && lba < end) {
		struct journal_hit jh = {.lba = end, .pos = EXTMAP_ZERO};
		struct volume_hit vh = {.lba = end};

		if (j && !journal_find(j, lba, end - lba, &jh))
			jh = (struct journal_hit){.lba = end, .pos = EXTMAP_ZERO};
		if (!volume_find(img->vol, lba, end - lba, &vh))
			vh = (struct volume_hit){.lba = end};
		if (jh.lba <= vh.lba || jh.lba == lba) {
			if (jh.pos != EXTMAP_ZERO)
				rc = fn(arg, jh.lba, jh.len);
			lba = jh.lba + jh.len;
		} else {
			if (vh.lba + vh.len > jh.lba)
				vh.len = jh.lba - vh.lba;
			rc = fn(arg, vh.lba, vh.len);
			lba = vh.lba + vh.len;
		}
	}
	return rc;
}

struct extents {
	int (*fn)(void *arg, uint64_t offset_bytes, uint64_t len_bytes);
	void *arg;
};

static int tell_extent(void *arg, uint64_t lba, uint64_t len)
{
	const struct extents *x = arg;

	return x->fn(x->arg, lba * 512, len * 512);
}

int lsvd_image_extents(struct lsvd_image *img, uint64_t offset_bytes, uint64_t len_bytes,
	int (*fn)(void *arg, uint64_t offset_bytes, uint64_t len_bytes), void *arg)
{
	struct extents x = {.fn = fn, .arg = arg};
	bool entered = ctx_enter(img->ctx);
	uint64_t size = img->limit_bytes;
	int rc = -EINVAL;

	if (offset_bytes % 512 == 0 && len_bytes % 512 == 0 && offset_bytes <= size &&
		len_bytes <= size - offset_bytes)
		rc = ctx_image_walk(img, offset_bytes / 512, len_bytes / 512, tell_extent, &x);
	ctx_leave(img->ctx, entered);
	return rc;
}
