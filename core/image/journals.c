/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* journals.c - what the pool holds of the journals of images that are not open: listing, giving up.
 */
#include "image/image_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_open(const struct lsvd_ctx *ctx, const uint8_t uuid[16])
{
	for (const struct lsvd_image *i = ctx->images; i; i = i->next)
		if (!(i->flags & LSVD_OPEN_READONLY) &&
			!memcmp(volume_superblock(i->vol)->uuid, uuid, 16))
			return true;
	return false;
}

/* The owner of segment i, when it is a journal and no segment before it has the same. */
static const uint8_t *new_owner(struct pool *p, uint32_t i)
{
	const struct segment *s = pool_segment(p, i);

	if (s->role != SEGMENT_JOURNAL)
		return NULL;
	for (uint32_t k = 0; k < i; k++) {
		const struct segment *o = pool_segment(p, k);

		if (o->role == SEGMENT_JOURNAL && !memcmp(o->owner, s->owner, 16))
			return NULL;
	}
	return s->owner;
}

static int list(struct lsvd_ctx *ctx, struct lsvd_journal_info *out, uint32_t *n)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < pool_segments(ctx->pool); i++) {
		const uint8_t *owner = new_owner(ctx->pool, i);
		struct journal_summary sum;

		if (!owner || is_open(ctx, owner))
			continue;
		rc = journal_scan(ctx->pool, owner, &sum);
		out[*n] = (struct lsvd_journal_info){.epoch = sum.epoch,
			.segments = sum.segments,
			.records = sum.records,
			.bytes = sum.bytes,
			.first_record = sum.first_seq,
			.last_record = sum.last_seq};
		image_uuid_text(owner, out[*n].uuid);
		++*n;
	}
	return rc;
}

int lsvd_journal_list(struct lsvd_ctx *ctx, int (*fn)(void *arg, const struct lsvd_journal_info *j),
	void *arg, char *why)
{
	struct lsvd_journal_info *all = NULL;
	struct err e = {.msg = ""};
	bool entered = ctx_enter(ctx);
	uint32_t n = 0;
	int rc = ctx_need_pool(ctx, &e);

	if (rc == 0) {
		all = calloc(pool_segments(ctx->pool), sizeof(*all));
		rc = all ? list(ctx, all, &n) : -ENOMEM;
		if (rc < 0)
			err_wrap(&e, rc, "read the pool's journals");
	}
	ctx_leave(ctx, entered);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		if (fn(arg, &all[i]))
			break;
	free(all);
	why_copy(why, &e, rc);
	return rc;
}

static int find_owner(struct pool *p, const char *uuid, uint8_t owner[16])
{
	char text[37];

	for (uint32_t i = 0; i < pool_segments(p); i++) {
		const struct segment *s = pool_segment(p, i);

		image_uuid_text(s->owner, text);
		if (s->role == SEGMENT_JOURNAL && !strcmp(text, uuid)) {
			memcpy(owner, s->owner, 16);
			return 0;
		}
	}
	return -ENOENT;
}

int lsvd_journal_discard(struct lsvd_ctx *ctx, const char *uuid, char *why)
{
	struct err e = {.msg = ""};
	bool entered = ctx_enter(ctx);
	uint8_t owner[16];
	int rc = ctx_need_pool(ctx, &e);

	if (rc == 0) {
		rc = find_owner(ctx->pool, uuid, owner);
		if (rc < 0)
			err_set(&e, rc, "the pool has no journal of a volume %s", uuid);
		else if (is_open(ctx, owner))
			rc = err_set(&e, -EBUSY, "the image of volume %s is open", uuid);
		else
			rc = journal_wipe(ctx->pool, owner);
	}
	ctx_leave(ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}
