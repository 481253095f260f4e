/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * layout.h - what of a batch of journal records goes into its object, and in which order.
 *
 * Of sectors that were written more than once in the batch the newest counts (I3).  The object's
 * extents are in order of LBA.  So is its data where it is in few runs that continue each other in LBA:
 * what is near in LBA is near in the object, and read ahead with it.  When there are many runs, as with
 * random writes at a rate that fills whole objects, they lie in the order of the log: a PUT is a few long
 * pieces of memory instead of one for each write, and a disk, and the kernel before it, take those faster
 * (a quarter more, measured with 4 KiB writes).
 *
 * layout_coalesce until it says done -> layout_build.  The arrays grow to the largest batch and stay.
 * Pure but for allocation.
 */
#ifndef LSVD_VOLUME_LAYOUT_H
#define LSVD_VOLUME_LAYOUT_H

#include "journal/journal.h"
#include "map/extmap.h"
#include "volume/build.h"

/* An extent that survived; pos EXTMAP_ZERO: no data. */
struct layout_piece {
	uint64_t lba, pos;
	uint32_t len, off; /* sectors; off: into the object's data, known once it is laid out */
};

struct layout_key {
	uint64_t key;
	uint32_t i;
};

struct layout {
	struct layout_piece *piece; /* in order of LBA */
	uint32_t n, piece_cap;
	struct layout_key *sorted, *other;
	uint32_t sorted_cap, other_cap;
	struct extmap *map; /* for extents that overlap in part */
	uint32_t inserted;  /* extents of the batch that are in it */
	bool overlaps;
};

/* Memory of the log at `pos`, and the CRCs of its whole blocks, as build_place() takes them. */
struct layout_source {
	const void *(*at)(void *arg, uint64_t pos, const uint32_t **crcs);
	void *arg;
};

int layout_init(struct layout *l) MUST_CHECK;
void layout_fini(struct layout *l);

/* Before the first layout_coalesce of a batch. */
void layout_begin(struct layout *l);

/* The oldest extent first.  1: done, 0: call again with the same, -ENOMEM. */
int layout_coalesce(struct layout *l, const struct journal_extent *ext, uint32_t n) MUST_CHECK;

/* All of it, behind build_begin(). */
int layout_build(struct layout *l, struct build *b, const struct layout_source *from) MUST_CHECK;

#endif
