/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extmap.h - the extent map: disjoint runs of sectors, each with a place, in LBA order.
 *
 * An extent {lba, len, place} says that sector lba + i is at place + i.  The 64-bit place means what
 * the owner wants (object slot and offset; pool sector), except that EXTMAP_ZERO stands for "reads as
 * zeroes" and does not advance.  Inserting over what is there replaces it: the newest wins.
 * Neighbours whose lba and place both continue are merged.
 *
 * Memory: 16 bytes an extent (lba 40 bits, len 24, place 64) in B+-tree leaves that are kept at least
 * three quarters full, so <= 22 bytes an extent in the worst case, inner nodes included, and at
 * most one 2 MiB slab of free nodes: <= 24 bytes from a million extents on.  A run longer than
 * EXTMAP_LEN_MAX is kept as several extents.  Nodes come from the map's own pool; an update allocates
 * nothing but, now and then, one slab.
 *
 * Pure: no I/O, no clock, no globals.  One thread at a time.  Pointers into the map never escape.
 */
#ifndef LSVD_MAP_EXTMAP_H
#define LSVD_MAP_EXTMAP_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTMAP_ZERO UINT64_MAX
#define EXTMAP_LEN_MAX ((1u << 24) - 1)		/* sectors */
#define EXTMAP_LBA_MAX (1ull << 40)		/* sectors: 512 TiB */

struct extent {
	uint64_t lba;		/* sectors */
	uint64_t len;		/* sectors, > 0 */
	uint64_t place;
};

struct extmap;

/* What an insert or remove displaced, called once for each old piece, in LBA order (the place is the
 * piece's own first sector).  Must not touch the map. */
typedef void (*extmap_displaced)(void *arg, const struct extent *old);

struct extmap *extmap_new(void);	/* NULL when out of memory */
void extmap_free(struct extmap *m);

/* Map [lba, lba+len) to place.  -EINVAL beyond EXTMAP_LBA_MAX or len 0; -ENOMEM, then unchanged. */
int extmap_insert(struct extmap *m, uint64_t lba, uint64_t len, uint64_t place,
	extmap_displaced displaced, void *arg) MUST_CHECK;

/* Unmap [lba, lba+len). */
int extmap_remove(struct extmap *m, uint64_t lba, uint64_t len, extmap_displaced displaced, void *arg) MUST_CHECK;

/* The first extent that ends beyond `lba`, cut to begin at lba at the earliest; false when none.
 * So: e.lba == lba means mapped here, e.lba > lba means a hole until e.lba. */
bool extmap_find(const struct extmap *m, uint64_t lba, struct extent *e);

/* Ask for the memory that an insert, remove or find at `lba` is about to need, and do not wait for it.
 * In a map that is larger than the caches a batch of updates that asks EXTMAP_AHEAD ahead is half as fast again
 * and more.  Nothing happens in a small map. */
enum { EXTMAP_AHEAD = 8 };
void extmap_prefetch(const struct extmap *m, uint64_t lba);

/* Walk [lba, lba+len): fn for each extent, cut to the range; stops early when fn returns non-zero and
 * returns that.  The map must not change meanwhile. */
int extmap_walk(const struct extmap *m, uint64_t lba, uint64_t len,
	int (*fn)(void *arg, const struct extent *e), void *arg);

uint64_t extmap_count(const struct extmap *m);		/* extents */
uint64_t extmap_sectors(const struct extmap *m);	/* mapped sectors, EXTMAP_ZERO ones included */
size_t extmap_memory(const struct extmap *m);		/* bytes */
void extmap_clear(struct extmap *m);

/* Building a whole map at once, by several threads if need be: of each extent it is known how many come
 * before it (its rank), so it goes straight to where it will be.
 *
 * begin: empties m and makes room for `extents`; -ENOMEM, then m is empty.  put: n extents in LBA order,
 * of at most EXTMAP_LEN_MAX sectors each, from `rank` on; calls may come in any order, and at once from
 * threads that put different ranks.  end: every rank was put, all are in LBA order and none overlap; joins
 * neighbours that are one.  Between begin and end m may only be cleared or freed. */
struct extmap_build {
	struct extmap *m;
	uint64_t extents;
};
int extmap_build_begin(struct extmap_build *b, struct extmap *m, uint64_t extents) MUST_CHECK;
void extmap_build_put(struct extmap_build *b, uint64_t rank, const struct extent *e, uint32_t n);
void extmap_build_end(struct extmap_build *b);

/* Checks every structural rule (order, fill, counts); 0 or -EUCLEAN with what is wrong.  For tests. */
int extmap_check(const struct extmap *m, struct err *e);

#endif
