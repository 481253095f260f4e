/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clone.c - the public face of clones: making, listing, flattening. */
#include "image/image_impl.h"

#include "volume/clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Both images' names, and the store they are in. */
static int open_both(struct lsvd_ctx *ctx, const char *base, const char *url, struct store **s,
	char base_name[IMAGE_NAME_MAX], char name[IMAGE_NAME_MAX], struct err *e)
{
	char a[512], b[512];
	int rc = store_split_url(base, a, sizeof(a), base_name, IMAGE_NAME_MAX, e);

	if (rc == 0)
		rc = store_split_url(url, b, sizeof(b), name, IMAGE_NAME_MAX, e);
	if (rc == 0 && strcmp(a, b))
		rc = err_set(
			e, -EXDEV, "a clone is in the store of its base: '%s' is not '%s'", b, a);
	return rc < 0 ? rc : image_open_store(ctx, url, 0, s, name, e);
}

int lsvd_clone(struct lsvd_ctx *ctx, const char *base, const char *url, char *why)
{
	char plain[600], snapshot[SNAPSHOT_NAME_MAX], base_name[IMAGE_NAME_MAX],
		name[IMAGE_NAME_MAX];
	bool entered = ctx_enter(ctx);
	struct err e = {.msg = ""};
	struct store *s;
	int rc = image_split_snapshot(base, plain, sizeof(plain), snapshot, &e);

	if (rc == 0)
		rc = open_both(ctx, plain, url, &s, base_name, name, &e);
	if (rc == 0) {
		rc = volume_clone(s, base_name, snapshot[0] ? snapshot : NULL, name, &e);
		store_close(s);
	}
	ctx_leave(ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

/* ---- listing ---- */

static int read_list(
	struct store *s, const char *name, struct clones *c, bool *exists, struct err *e)
{
	int rc = clones_read(s, name, c, e);

	for (uint32_t i = 0; rc == 0 && i < c->n; i++)
		exists[i] = c->entry[i].state != CLONE_BARRED &&
			    clones_exists(s, &c->entry[i], c->uuid);
	return rc;
}

static void tell(const struct clone_entry *x, bool exists, struct lsvd_clone_info *info)
{
	*info = (struct lsvd_clone_info){.snapshot = x->snapshot, .exists = exists};
	memcpy(info->name, x->name, sizeof(x->name));
	image_uuid_text(x->uuid, info->uuid);
}

int lsvd_clone_list(struct lsvd_ctx *ctx, const char *url,
	int (*fn)(void *arg, const struct lsvd_clone_info *c), void *arg, char *why)
{
	struct clones *c = calloc(1, sizeof(*c));
	bool *exists = calloc(CLONES_MAX, sizeof(*exists));
	bool entered = ctx_enter(ctx);
	struct err e = {.msg = ""};
	char name[IMAGE_NAME_MAX];
	struct store *s;
	int rc = c && exists ? image_open_store(ctx, url, 0, &s, name, &e) : -ENOMEM;

	if (rc == 0) {
		rc = read_list(s, name, c, exists, &e);
		store_close(s);
	}
	ctx_leave(ctx, entered);
	for (uint32_t i = 0; rc == 0 && i < c->n; i++) {
		struct lsvd_clone_info info;

		if (c->entry[i].state == CLONE_BARRED)
			continue;
		tell(&c->entry[i], exists[i], &info);
		if (fn(arg, &info))
			break;
	}
	free(c);
	free(exists);
	why_copy(why, &e, rc);
	return rc;
}

int lsvd_base_list(struct lsvd_ctx *ctx, const char *url,
	int (*fn)(void *arg, const struct lsvd_base_info *b), void *arg, char *why)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	bool entered = ctx_enter(ctx);
	struct err e = {.msg = ""};
	char name[IMAGE_NAME_MAX];
	struct store *s;
	int rc = sb ? image_open_store(ctx, url, 0, &s, name, &e) : -ENOMEM;

	if (rc == 0) {
		rc = volume_read_superblock(s, name, sb, NULL, &e);
		store_close(s);
	}
	ctx_leave(ctx, entered);
	for (uint32_t i = rc == 0 ? sb->bases : 0; i-- > 0;) {
		const struct superblock_base *b = &sb->base[i];
		struct lsvd_base_info info = {.snapshot = b->snapshot, .object = b->object_seq};

		memcpy(info.name, b->name, sizeof(info.name));
		image_uuid_text(b->uuid, info.uuid);
		if (fn(arg, &info))
			break;
	}
	free(sb);
	why_copy(why, &e, rc);
	return rc;
}

/* ---- flattening ---- */

int lsvd_image_flatten(struct lsvd_image *img,
	int (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes), void *arg, char *why)
{
	bool entered = ctx_enter(img->ctx);
	struct err e = {.msg = ""};
	int rc = volume_flatten(img->vol, progress, arg, &e);

	ctx_leave(img->ctx, entered);
	if (rc < 0)
		err_wrap(&e, rc, "flatten image '%s'", img->name);
	why_copy(why, &e, rc);
	return rc;
}
