/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bulk.h - making a new image in one go: import and reorg.  No journal: each byte is written once.
 *
 * Data goes into objects in the order of the calls, so the caller decides the layout.  The image
 * appears (its superblock is created) only in bulk_finish; until then bulk_abort, or a later `lsvd
 * rm`, removes every trace.  The same calls with the same options put the same bytes.
 *
 * Blocking: polls the loop.  One thread.
 */
#ifndef LSVD_VOLUME_BULK_H
#define LSVD_VOLUME_BULK_H

#include "cache/cache.h"
#include "store/store.h"

struct bulk;

struct bulk_options {
	uint8_t uuid[16];      /* all zero: random */
	uint64_t created_ns;   /* wall clock; 0: now */
	uint64_t object_bytes; /* e.g. 8 MiB */
	uint32_t puts;	       /* in flight; 0 = 4 */
};

/* -EEXIST: there is an image of this name.  `store` is borrowed. */
int bulk_begin(struct store *store, const char *name, uint64_t size_bytes,
	const struct bulk_options *o, struct bulk **out, struct err *e) MUST_CHECK;

/* Room for at least 1 byte and at most *len of data that follows: the caller fills it in place
 * (zero copy), then calls bulk_add.  Memory is 4 KiB aligned at the beginning of an object. */
void *bulk_buffer(struct bulk *b, uint64_t *len_bytes);

/* [lba, lba+len) sectors are the bytes just put at bulk_buffer.  Ranges must not overlap earlier
 * ones
 * (-EINVAL at bulk_finish or here). */
int bulk_add(struct bulk *b, uint64_t lba, uint64_t len, struct err *e) MUST_CHECK;

/* Copying convenience over the two. */
int bulk_write(struct bulk *b, uint64_t lba, const void *data, uint64_t len_bytes,
	struct err *e) MUST_CHECK;

/* End the object being filled: what follows begins a new one (a zone's boundary). */
int bulk_cut(struct bulk *b, struct err *e) MUST_CHECK;

/* Last object, checkpoint, boot profile (n may be 0), superblock. Frees b, also on failure (then as
 * abort). */
int bulk_finish(
	struct bulk *b, const struct profile_range *profile, uint32_t n, struct err *e) MUST_CHECK;

void bulk_abort(struct bulk *b);

#endif
