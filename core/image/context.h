/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * context.h - the inside of a context, and opening one on a loop of one's own (simulator, virtual
 * time).
 *
 * A context is a loop, a pool (opened when the first image needs it), a cache, and a list of
 * images. It belongs to its loop; context.c and door.c carry calls of other threads there.
 */
#ifndef LSVD_IMAGE_CONTEXT_H
#define LSVD_IMAGE_CONTEXT_H

#include "lsvd.h"

#include "cache/cache.h"
#include "pool/pool.h"
#include "store/store.h"
#include "sys/config.h"
#include "sys/err.h"

/* A context on `l` (borrowed; driven by the caller with loop_poll or lsvd_poll), with the pool on
 * `legs` (taken over; nlegs 0: no pool, then images open read-only).  No threads are made. */
int ctx_open_on(struct loop *l, struct lsvd_config *cfg, struct bdev **legs, unsigned nlegs,
	struct lsvd_ctx **out, struct err *e) MUST_CHECK;

/* Forget everything without I/O (after a simulated crash: the loop was crashed before). Images too.
 */
void ctx_drop(struct lsvd_ctx *ctx);

/* Images on a store that the caller opened on the context's loop, and closes after the image. */
int ctx_image_create(struct lsvd_ctx *ctx, struct store *s, const char *name, uint64_t size_bytes,
	struct err *e) MUST_CHECK;
int ctx_image_open(struct lsvd_ctx *ctx, struct store *s, const char *name, unsigned flags,
	struct lsvd_image **out, struct err *e) MUST_CHECK;

struct loop *ctx_loop(struct lsvd_ctx *ctx);
struct cache *ctx_cache(struct lsvd_ctx *ctx);
struct pool *ctx_pool(struct lsvd_ctx *ctx);

/* Walk an open image's mapped data in LBA order (sectors): objects' and journal's alike; holes left
 * out. For export and reorg, after lsvd_image_drain. */
int ctx_image_walk(struct lsvd_image *img, uint64_t lba, uint64_t len,
	int (*fn)(void *arg, uint64_t lba, uint64_t len), void *arg);

/* Memory that an open image's maps take. */
uint64_t ctx_image_map_bytes(const struct lsvd_image *img);

#endif
