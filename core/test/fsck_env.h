/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fsck_env.h - an image in a memory store, a writer of it on one simulated loop, and the check of
 * it on another. */
#ifndef LSVD_TEST_FSCK_ENV_H
#define LSVD_TEST_FSCK_ENV_H

#include "format/checkpoint.h"
#include "format/object.h"
#include "format/superblock.h"
#include "image/context.h"
#include "test/store_util.h"
#include "test/test.h"
#include "volume/fsck.h"
#include "volume/volume.h"

enum { MIB = 1 << 20, IMAGE_MIB = 32 };

struct fx {
	struct mem_objects *o;
	struct loop *loop[2]; /* the writer's, ours */
	struct store *store[2];
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	struct fsck_report r;
	struct err e;
};

/* A store and two loops; no image. */
void fx_init(struct fx *v);
void fx_fini(struct fx *v);

/* fx_init and an image "v" with some ten objects, closed; or open, with four objects after its
 * checkpoint. */
void fx_make_image(struct fx *v);
void fx_make_open_image(struct fx *v);
void fx_open_image(struct fx *v);
void fx_close_image(struct fx *v);
void fx_write_at(struct fx *v, uint64_t seed, uint64_t off, uint64_t len);

/* Stored bytes: read (the caller frees them; there is room behind), put others, flip one bit. */
uint8_t *fx_load(struct fx *v, const char *name, size_t *len);
void fx_replace(struct fx *v, const char *name, const void *p, size_t len);
void fx_flip(struct fx *v, const char *name, size_t bit);
struct superblock *fx_super_of(struct fx *v);
void fx_put_super(struct fx *v, struct superblock *sb); /* frees sb */

/* The name of the n-th data object that the store has (-1: the last), of the last checkpoint. */
const char *fx_object(struct fx *v, int n);
const char *fx_checkpoint(struct fx *v);

/* Check into v->r.  Then: exactly one finding that is not a note, of this kind (code -1: any); no
 * finding at all; how many of a kind. */
void fx_check(struct fx *v, unsigned flags);
const struct fsck_finding *fx_only(struct fx *v, enum fsck_severity s, int code, const char *name);
void fx_none(struct fx *v);
uint32_t fx_count(const struct fx *v, enum fsck_code c);

#endif
