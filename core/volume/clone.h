/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clone.h - images that build on a snapshot of another, and what protects the other.
 *
 * A clone goes on with its base's numbers: objects and checkpoints up to the snapshot's are read
 * from the base's folder, under the base's identity, and never collected nor deleted; what comes
 * later is the clone's own.  So making one costs a few small requests, whatever the base's size.
 *
 * The base's folder has a list of its clones, changed by compare-and-swap only, because the base's
 * writer may be another process:
 *
 *   clone:   enter it (pending) -> is the snapshot still there? -> superblock -> ready
 *   remove:  bar the snapshot, or the image, unless a clone of it is there -> remove it
 *
 * Who bars sees every clone that was entered before; who enters later is refused, or finds the
 * snapshot gone.  An entry without a clone was left by a crash: who bars takes it out, and a clone
 * that was just being made then fails at its last step and is undone.
 *
 * All blocking: they poll the store's loop.
 */
#ifndef LSVD_VOLUME_CLONE_H
#define LSVD_VOLUME_CLONE_H

#include "format/clones.h"
#include "store/store.h"
#include "volume/volume.h"

/* An image `name` as `base` was at `snapshot`; NULL: as it is, closed cleanly; an automatic
 * snapshot is made then.  -ENOENT, -EEXIST, -EBUSY (open, not closed cleanly, being removed),
 * -ENOSPC. */
int volume_clone(struct store *s, const char *base, const char *snapshot, const char *name,
	struct err *e) MUST_CHECK;

/* The list; empty when there is none. */
int clones_read(struct store *s, const char *name, struct clones *c, struct err *e) MUST_CHECK;

/* No more clones of this snapshot (0: of any, and of the image): -EBUSY names those there are.
 * uuid: the image's; NULL: not known. */
int clones_bar(struct store *s, const char *name, const uint8_t *uuid, uint64_t snapshot,
	struct err *e) MUST_CHECK;
int clones_unbar(struct store *s, const char *name, uint64_t snapshot, struct err *e) MUST_CHECK;
/* All bars are of removals that were cut short: they are made under the image's lock, and the
 * caller has that now.  Best effort. */
void clones_clear_bars(struct store *s, const char *name);

/* The clone `uuid` does not need its base any more: off the list, and an automatic snapshot goes
 * with the last of its clones, if nobody has the base.  What fails is found by a later removal. */
void clones_leave(struct store *s, const struct superblock_base *base, const uint8_t uuid[16]);

/* Is there an image of this name and uuid that builds on `base`? */
bool clones_exists(struct store *s, const struct clone_entry *x, const uint8_t base[16]);

/* volume_snapshot_wait for removing, with the clones asked first. */
int volume_snapshot_remove(struct volume *v, const char *name, struct err *e) MUST_CHECK;

/* Blocking: everything that the volume has in its bases is copied into objects of its own, and the
 * bases are left; I/O goes on.  It may be cut short and begun again.  `progress` may be NULL;
 * non-zero from it ends with -ECANCELED.  -EBUSY: snapshots of the volume need the bases, too. */
int volume_flatten(struct volume *v,
	int (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes), void *arg,
	struct err *e) MUST_CHECK;

#endif
