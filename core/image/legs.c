/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* legs.c - what there is to tell of the legs of a context's pool. */
#include "image/image_impl.h"

#include <stdio.h>
#include <string.h>

unsigned lsvd_ctx_legs(struct lsvd_ctx *ctx, struct lsvd_leg *legs, unsigned max)
{
	bool entered = ctx_enter(ctx);
	unsigned n = ctx->pool ? pool_legs(ctx->pool) : 0;

	for (unsigned i = 0; i < n && i < max; i++) {
		struct lsvd_leg *l = &legs[i];
		struct pool_leg_info x;

		pool_leg(ctx->pool, i, &x);
		*l = (struct lsvd_leg){
			.drops = x.drops, .resyncs = x.resyncs, .resync_bytes = x.resync_bytes};
		snprintf(l->url, sizeof(l->url), "%s", x.url);
		snprintf(l->state, sizeof(l->state), "%s", x.state);
		snprintf(l->why, sizeof(l->why), "%s", x.why);
	}
	ctx_leave(ctx, entered);
	return n;
}

json_t *ctx_legs_json(struct lsvd_ctx *ctx)
{
	struct lsvd_leg legs[POOL_LEGS_MAX];
	unsigned n = lsvd_ctx_legs(ctx, legs, POOL_LEGS_MAX);
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		const struct lsvd_leg *l = &legs[i];

		json_array_append_new(
			list, json_pack("{s:s,s:s,s:s,s:I,s:I,s:I}", "url", l->url, "state",
				      l->state, "why", l->why, "drops", (json_int_t)l->drops,
				      "resyncs", (json_int_t)l->resyncs, "resync_bytes",
				      (json_int_t)l->resync_bytes));
	}
	return list;
}
