/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* snap_env.h - what tests of snapshots and clones share, on top of image_env.h. */
#ifndef LSVD_TEST_SNAP_ENV_H
#define LSVD_TEST_SNAP_ENV_H

#include "test/image_env.h"

/* The model's versions, kept with a snapshot (or another image). */
struct kept {
	char name[SNAPSHOT_NAME_MAX];
	uint32_t *version;
	uint64_t size_bytes;
	uint32_t last_version;
};

struct kept se_keep(const struct image_env *e, const char *name);
/* A snapshot of the open image, and what it holds. */
struct kept se_take(struct image_env *e, const char *name);
/* The model becomes what was kept. */
void se_restore(struct image_env *e, const struct kept *k);

/* Read all of `url` ("vm@a", "other") beside whatever is open. */
void se_check(struct image_env *e, const char *name, const struct kept *k);
/* All of the snapshot vm@k->name. */
void se_check_kept(struct image_env *e, const struct kept *k);

/* STORE-URL/name. */
const char *se_url(struct image_env *e, const char *name);

/* The environment's image is another one from now on; no image may be open. */
void se_switch(struct image_env *e, const char *name);

/* Much GC, many checkpoints. */
void se_busy(struct image_env *e);

/* Data objects in an image's folder. */
unsigned se_objects(struct image_env *e, const char *name);

/* Nothing that fsck minds, with all data read. */
void se_fsck(struct image_env *e, const char *name);

#endif
