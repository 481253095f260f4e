/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * deferred.h - what the volume itself needs no more, but its snapshots do (I8).
 *
 * An object is in the map from its own number on until it `died`; a snapshot after object s needs
 * it when seq <= s < died.  Likewise a checkpoint object and the checkpoint of a snapshot.  (After
 * a roll-back an object may live again; then this says more than is needed, never less.)  Each
 * checkpoint carries these lists, so nothing has to be found out again by reading snapshots.
 *
 * Pure.  Loop thread only.
 */
#ifndef LSVD_VOLUME_DEFERRED_H
#define LSVD_VOLUME_DEFERRED_H

#include "format/checkpoint.h"
#include "format/superblock.h"
#include "map/objmap.h"

struct deferred {
	struct objmap *objects; /* live_sectors 0 */
	uint64_t *died;		/* by slot */
	uint32_t died_cap;
	struct checkpoint_kept *kept;
	uint32_t nkept, kept_cap;
};

int deferred_init(struct deferred *d) MUST_CHECK;
void deferred_fini(struct deferred *d);

/* -ENOMEM; twice the same is once. */
int deferred_add(struct deferred *d, const struct checkpoint_deferred *x) MUST_CHECK;
void deferred_get(const struct deferred *d, uint32_t slot, struct checkpoint_deferred *x);
void deferred_drop(struct deferred *d, uint64_t seq); /* if it is there */
bool deferred_has(const struct deferred *d, uint64_t epoch, uint64_t seq);

int deferred_keep(struct deferred *d, const struct checkpoint_kept *x) MUST_CHECK;
void deferred_unkeep(struct deferred *d, uint64_t number); /* if it is there */
bool deferred_keeps(const struct deferred *d, uint64_t epoch, uint64_t number);

/* Does any of these snapshots need it? */
bool snapshots_need_object(
	const struct superblock_snapshot *s, uint32_t n, uint64_t seq, uint64_t died);
bool snapshots_need_checkpoint(
	const struct superblock_snapshot *s, uint32_t n, uint64_t number, uint64_t died);

#endif
