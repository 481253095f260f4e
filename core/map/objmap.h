/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * objmap.h - the object table: what the volume knows about each data object.
 *
 * An object has a slot, a small number that the extent map's places begin with: place = slot << 32
 * | offset in sectors.  A slot stays the object's until objmap_remove(), and only then is given to
 * another; so an object may be removed only when no extent points to it.  A hash leads from the
 * sequence number to the slot.
 *
 * Sums over all objects, and over those with each flag, are kept up to date: GC looks at them
 * often.
 *
 * Pure: no I/O, no clock, no globals.  One thread at a time.
 */
#ifndef LSVD_MAP_OBJMAP_H
#define LSVD_MAP_OBJMAP_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OBJMAP_NONE UINT32_MAX /* no slot; also keeps a place from being EXTMAP_ZERO */

enum object_flags {
	OBJECT_DEAD = 1, /* nothing points to it; its delete waits for a checkpoint or a snapshot */
	OBJECT_BASE = 2, /* belongs to a base image: never collected nor deleted from here */
	OBJECT_GC = 4,	 /* written by GC */
	OBJECT_FLAGS = 7,
};

struct object {
	uint64_t seq;
	uint64_t epoch;
	uint32_t hdr_sectors;
	uint32_t data_sectors;
	uint32_t live_sectors; /* <= data_sectors */
	uint8_t flags;	       /* enum object_flags */
	uint16_t older;	       /* see object_born(); 0 when read from a checkpoint */
};

struct objmap_sum {
	uint64_t objects;
	uint64_t data_sectors;
	uint64_t live_sectors;
};

struct objmap;

/* A place in the extent map: sector `offset_sectors` of the object's data. */
static inline uint64_t place_of(uint32_t slot, uint32_t offset_sectors)
{
	return (uint64_t)slot << 32 | offset_sectors;
}

static inline uint32_t place_slot(uint64_t place)
{
	return (uint32_t)(place >> 32);
}

static inline uint32_t place_offset(uint64_t place)
{
	return (uint32_t)place;
}

struct objmap *objmap_new(void); /* NULL when out of memory */
void objmap_free(struct objmap *om);
void objmap_clear(struct objmap *om);

/* Add an object (copied) and say its slot.  -EEXIST when its seq is there; -EINVAL for more live
 * than data sectors or an unknown flag; -ENOMEM.  Nothing has changed after an error. */
int objmap_add(struct objmap *om, const struct object *o, uint32_t *slot) MUST_CHECK;

/* Forget the object in `slot`, which must be in use. */
void objmap_remove(struct objmap *om, uint32_t slot);

/* The slot of `seq`, or OBJMAP_NONE. */
uint32_t objmap_find(const struct objmap *om, uint64_t seq);

/* The object in `slot`, NULL when the slot is not in use.  Valid until the next add, remove or
 * clear. */
const struct object *objmap_get(const struct objmap *om, uint32_t slot);

/* Add `delta` to the live sectors of the object in `slot`, which must be in use.  That they stay
 * within [0, data_sectors] is asserted: the caller counts what the extent map says it displaced. */
void objmap_live(struct objmap *om, uint32_t slot, int64_t delta);

/* About when an object's data was written, for GC: the sequence number of an object then, to within
 * one part in 2000.  That of the object itself unless set. */
void objmap_set_born(struct objmap *om, uint32_t slot, uint64_t born);
uint64_t object_born(const struct object *o);

/* Set and clear flags of the object in `slot`, which must be in use. */
void objmap_flag(struct objmap *om, uint32_t slot, unsigned set, unsigned clear);

/* The first slot in use at or after `slot`, or OBJMAP_NONE.  In no particular order of seq:
 *   for (s = objmap_next(om, 0); s != OBJMAP_NONE; s = objmap_next(om, s + 1)) */
uint32_t objmap_next(const struct objmap *om, uint32_t slot);

/* All slots in use in ascending order of seq: objmap_count() of them, in memory the caller frees
 * with free().  NULL when out of memory. */
uint32_t *objmap_sorted(const struct objmap *om);

uint64_t objmap_count(const struct objmap *om); /* objects */
uint32_t objmap_slots(const struct objmap *om); /* every slot in use is less */

/* The sums over all objects (flag 0) or over those with one flag. */
struct objmap_sum objmap_sum(const struct objmap *om, enum object_flags flag);

size_t objmap_memory(const struct objmap *om); /* bytes */

/* Recounts everything; 0 or -EUCLEAN with what is wrong.  For tests. */
int objmap_check(const struct objmap *om, struct err *e);

#endif
