/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* snapshot.c - the public face of snapshots: names, creating, removing, listing, rolling back. */
#include "image/image_impl.h"
#include "volume/clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int image_split_snapshot(
	const char *url, char *plain, size_t len, char snapshot[SNAPSHOT_NAME_MAX], struct err *e)
{
	const char *at = strrchr(url, '@');
	size_t n;

	memset(snapshot, 0, SNAPSHOT_NAME_MAX);
	/* A folder may have one in its name. */
	if (at && strchr(at, '/'))
		at = NULL;
	n = at ? (size_t)(at - url) : strlen(url);
	if (n >= len)
		return err_set(e, -ENAMETOOLONG, "'%.60s...' is too long", url);
	memcpy(plain, url, n);
	plain[n] = 0;
	if (!at)
		return 0;
	if (!snapshot_name_ok(at + 1))
		return err_set(e, -EINVAL,
			"'%s' names no snapshot: IMAGE@SNAPSHOT, where a snapshot's name is 1 to "
			"63 "
			"of letters, digits and . _ -",
			url);
	memcpy(snapshot, at + 1, strlen(at + 1));
	return 0;
}

/* ---- creating and removing ---- */

int lsvd_snapshot_create(struct lsvd_image *img, const char *name, char *why)
{
	bool entered = ctx_enter(img->ctx);
	struct err e = {.msg = ""};
	int rc = volume_snapshot_wait(img->vol, VOLUME_SNAPSHOT_CREATE, name, &e);

	ctx_leave(img->ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

static bool open_here(const struct lsvd_image *img, const char *snapshot)
{
	for (const struct lsvd_image *i = img->ctx->images; i; i = i->next)
		if (!strcmp(i->name, img->name) && !strcmp(i->store->url, img->store->url) &&
			!strcmp(i->snapshot, snapshot))
			return true;
	return false;
}

int lsvd_snapshot_remove(struct lsvd_image *img, const char *name, char *why)
{
	bool entered = ctx_enter(img->ctx);
	struct err e = {.msg = ""};
	int rc;

	if (name[0] && open_here(img, name))
		rc = err_set(
			&e, -EBUSY, "snapshot '%s@%s' is open in this process", img->name, name);
	else
		rc = volume_snapshot_remove(img->vol, name, &e);
	ctx_leave(img->ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

/* ---- listing ---- */

static void tell(const struct superblock_snapshot *x, struct lsvd_snapshot_info *info)
{
	*info = (struct lsvd_snapshot_info){.id = x->id,
		.size_bytes = x->size_sectors * 512,
		.object = x->object_seq,
		.created_ns = x->created_ns,
		.automatic = x->flags & SNAPSHOT_AUTO};
	memcpy(info->name, x->name, sizeof(x->name));
}

int lsvd_snapshot_list(struct lsvd_ctx *ctx, const char *url,
	int (*fn)(void *arg, const struct lsvd_snapshot_info *s), void *arg, char *why)
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
	for (uint32_t i = 0; rc == 0 && i < sb->snapshots; i++) {
		struct lsvd_snapshot_info info;

		tell(&sb->snapshot[i], &info);
		if (fn(arg, &info))
			break;
	}
	free(sb);
	why_copy(why, &e, rc);
	return rc;
}

/* ---- rolling back ---- */

int lsvd_snapshot_rollback(struct lsvd_ctx *ctx, const char *url, char *why)
{
	char plain[600], snapshot[SNAPSHOT_NAME_MAX];
	bool entered = ctx_enter(ctx);
	struct err e = {.msg = ""};
	struct lsvd_image *img;
	int rc = image_split_snapshot(url, plain, sizeof(plain), snapshot, &e), closed;

	if (rc == 0 && !snapshot[0])
		rc = err_set(
			&e, -EINVAL, "roll back to what? IMAGE@SNAPSHOT is wanted, not '%s'", url);
	if (rc < 0)
		why_copy(why, &e, rc);
	else
		rc = lsvd_image_open(ctx, plain, 0, &img, why);
	if (rc == 0) {
		rc = volume_rollback(img->vol, snapshot, &e);
		if (rc < 0)
			err_wrap(&e, rc, "roll back to '%s'", url);
		why_copy(why, &e, rc);
		closed = lsvd_image_close(img, rc < 0 ? NULL : why);
		rc = rc < 0 ? rc : closed;
	}
	ctx_leave(ctx, entered);
	return rc;
}
