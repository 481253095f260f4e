/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * objmap.c - the object table: an array of slots, a list of free ones, and a hash from seq to slot.
 *
 * The hash is open addressing with linear probing, at most two thirds full; a removal moves later
 * entries back, so that there are no tombstones.  Adding grows both tables first and only then
 * changes anything.
 */
#include "map/objmap.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLOT_FREE =
		0x80, /* in flags: the slot is on the free list, its seq is the next free slot */
	FIRST_SLOTS = 16, /* a power of two */
	FLAGS_N = 3,
};

struct objmap {
	struct object *slot;
	uint32_t nslots;   /* slots ever used */
	uint32_t cap;	   /* slots there is memory for */
	uint32_t free;	   /* first free slot, or OBJMAP_NONE */
	uint32_t *hash;	   /* slots; OBJMAP_NONE: empty */
	uint32_t hash_cap; /* a power of two */
	struct objmap_sum all;
	struct objmap_sum by_flag[FLAGS_N];
};

_Static_assert(sizeof(struct object) <= 40, "an object costs at most 40 bytes");

/* --- sums --- */

static void sum_add(struct objmap_sum *s, const struct object *o)
{
	s->objects++;
	s->data_sectors += o->data_sectors;
	s->live_sectors += o->live_sectors;
}

static void sum_sub(struct objmap_sum *s, const struct object *o)
{
	s->objects--;
	s->data_sectors -= o->data_sectors;
	s->live_sectors -= o->live_sectors;
}

static void count_in(struct objmap *om, const struct object *o)
{
	sum_add(&om->all, o);
	for (unsigned i = 0; i < FLAGS_N; i++)
		if (o->flags & 1u << i)
			sum_add(&om->by_flag[i], o);
}

static void count_out(struct objmap *om, const struct object *o)
{
	sum_sub(&om->all, o);
	for (unsigned i = 0; i < FLAGS_N; i++)
		if (o->flags & 1u << i)
			sum_sub(&om->by_flag[i], o);
}

/* --- the hash --- */

static uint32_t home(const struct objmap *om, uint64_t seq)
{
	return (uint32_t)(seq * 0x9E3779B97F4A7C15ull >> 32) & (om->hash_cap - 1);
}

/* Where seq is in the hash, or the empty place where it would be put. */
static uint32_t probe(const struct objmap *om, uint64_t seq)
{
	uint32_t h = home(om, seq);

	while (om->hash[h] != OBJMAP_NONE && om->slot[om->hash[h]].seq != seq)
		h = (h + 1) & (om->hash_cap - 1);
	return h;
}

/* Empty the place h, and move back what was pushed past it. */
static void hash_remove(struct objmap *om, uint32_t h)
{
	uint32_t mask = om->hash_cap - 1, gap = h, want;

	for (h = (h + 1) & mask; om->hash[h] != OBJMAP_NONE; h = (h + 1) & mask) {
		want = home(om, om->slot[om->hash[h]].seq);
		if (((h - want) & mask) >= ((h - gap) & mask)) {
			om->hash[gap] = om->hash[h];
			gap = h;
		}
	}
	om->hash[gap] = OBJMAP_NONE;
}

static int hash_grow(struct objmap *om)
{
	uint32_t cap = om->hash_cap ? om->hash_cap * 2 : FIRST_SLOTS * 2;
	uint32_t *hash = malloc(cap * sizeof(*hash));

	if (!hash)
		return -ENOMEM;
	memset(hash, 0xff, cap * sizeof(*hash));
	free(om->hash);
	om->hash = hash;
	om->hash_cap = cap;
	for (uint32_t s = objmap_next(om, 0); s != OBJMAP_NONE; s = objmap_next(om, s + 1))
		om->hash[probe(om, om->slot[s].seq)] = s;
	return 0;
}

/* --- slots --- */

static int slots_grow(struct objmap *om)
{
	uint32_t cap = om->cap ? om->cap * 2 : FIRST_SLOTS;
	struct object *slot;

	if (om->cap > OBJMAP_NONE / 2)
		return -ENOMEM;
	slot = realloc(om->slot, cap * sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	om->slot = slot;
	om->cap = cap;
	return 0;
}

/* Make sure that one more object finds room. */
static int grow(struct objmap *om)
{
	if (om->free == OBJMAP_NONE && om->nslots == om->cap && slots_grow(om) < 0)
		return -ENOMEM;
	if ((om->all.objects + 1) * 3 > (uint64_t)om->hash_cap * 2)
		return hash_grow(om);
	return 0;
}

static uint32_t slot_take(struct objmap *om)
{
	uint32_t s = om->free;

	if (s == OBJMAP_NONE)
		return om->nslots++;
	om->free = (uint32_t)om->slot[s].seq;
	return s;
}

static struct object *object_at(const struct objmap *om, uint32_t slot)
{
	assert(slot < om->nslots && !(om->slot[slot].flags & SLOT_FREE));
	return &om->slot[slot];
}

/* --- the interface --- */

struct objmap *objmap_new(void)
{
	struct objmap *om = calloc(1, sizeof(*om));

	if (!om)
		return NULL;
	om->free = OBJMAP_NONE;
	if (grow(om) < 0) {
		objmap_free(om);
		return NULL;
	}
	return om;
}

void objmap_free(struct objmap *om)
{
	if (!om)
		return;
	free(om->slot);
	free(om->hash);
	free(om);
}

void objmap_clear(struct objmap *om)
{
	om->nslots = 0;
	om->free = OBJMAP_NONE;
	memset(om->hash, 0xff, om->hash_cap * sizeof(*om->hash));
	memset(&om->all, 0, sizeof(om->all));
	memset(om->by_flag, 0, sizeof(om->by_flag));
}

int objmap_add(struct objmap *om, const struct object *o, uint32_t *slot)
{
	uint32_t s;

	if (o->live_sectors > o->data_sectors || (o->flags & ~OBJECT_FLAGS))
		return -EINVAL;
	if (objmap_find(om, o->seq) != OBJMAP_NONE)
		return -EEXIST;
	if (grow(om) < 0)
		return -ENOMEM;
	s = slot_take(om);
	om->slot[s] = *o;
	om->hash[probe(om, o->seq)] = s;
	count_in(om, o);
	*slot = s;
	return 0;
}

void objmap_remove(struct objmap *om, uint32_t slot)
{
	struct object *o = object_at(om, slot);

	count_out(om, o);
	hash_remove(om, probe(om, o->seq));
	*o = (struct object){.seq = om->free, .flags = SLOT_FREE};
	om->free = slot;
}

uint32_t objmap_find(const struct objmap *om, uint64_t seq)
{
	return om->hash[probe(om, seq)];
}

const struct object *objmap_get(const struct objmap *om, uint32_t slot)
{
	if (slot >= om->nslots || (om->slot[slot].flags & SLOT_FREE))
		return NULL;
	return &om->slot[slot];
}

void objmap_live(struct objmap *om, uint32_t slot, int64_t delta)
{
	struct object *o = object_at(om, slot);
	int64_t live = (int64_t)o->live_sectors + delta;

	assert(live >= 0 && live <= (int64_t)o->data_sectors);
	o->live_sectors = (uint32_t)live;
	om->all.live_sectors += (uint64_t)delta;
	for (unsigned i = 0; i < FLAGS_N; i++)
		if (o->flags & 1u << i)
			om->by_flag[i].live_sectors += (uint64_t)delta;
}

/* older: so many objects before this one, as a number of 12 bits and a shift of 4. */
void objmap_set_born(struct objmap *om, uint32_t slot, uint64_t born)
{
	struct object *o = object_at(om, slot);
	uint64_t n = born < o->seq ? o->seq - born : 0;
	unsigned shift = 0;

	while (n >> shift > 0xfff && shift < 15)
		shift++;
	n >>= shift;
	o->older = (uint16_t)((n > 0xfff ? 0xfff : n) | shift << 12);
}

uint64_t object_born(const struct object *o)
{
	uint64_t n = (uint64_t)(o->older & 0xfff) << (o->older >> 12);

	return n < o->seq ? o->seq - n : 1;
}

void objmap_flag(struct objmap *om, uint32_t slot, unsigned set, unsigned clear)
{
	struct object *o = object_at(om, slot);

	assert(((set | clear) & ~(unsigned)OBJECT_FLAGS) == 0);
	count_out(om, o);
	o->flags = (uint8_t)((o->flags & ~clear) | set);
	count_in(om, o);
}

uint32_t objmap_next(const struct objmap *om, uint32_t slot)
{
	for (; slot < om->nslots; slot++)
		if (!(om->slot[slot].flags & SLOT_FREE))
			return slot;
	return OBJMAP_NONE;
}

static int by_seq(const void *a, const void *b, void *arg)
{
	const struct objmap *om = arg;
	uint64_t x = om->slot[*(const uint32_t *)a].seq, y = om->slot[*(const uint32_t *)b].seq;

	return (x > y) - (x < y);
}

uint32_t *objmap_sorted(const struct objmap *om)
{
	size_t n = om->all.objects, i = 0;
	uint32_t *slots = malloc((n ? n : 1) * sizeof(*slots));

	if (!slots)
		return NULL;
	for (uint32_t s = objmap_next(om, 0); s != OBJMAP_NONE; s = objmap_next(om, s + 1))
		slots[i++] = s;
	qsort_r(slots, n, sizeof(*slots), by_seq, (void *)(uintptr_t)om);
	return slots;
}

uint64_t objmap_count(const struct objmap *om)
{
	return om->all.objects;
}

uint32_t objmap_slots(const struct objmap *om)
{
	return om->nslots;
}

struct objmap_sum objmap_sum(const struct objmap *om, enum object_flags flag)
{
	for (unsigned i = 0; i < FLAGS_N; i++)
		if (flag == 1u << i)
			return om->by_flag[i];
	assert(flag == 0);
	return om->all;
}

size_t objmap_memory(const struct objmap *om)
{
	return sizeof(*om) + om->cap * sizeof(*om->slot) + om->hash_cap * sizeof(*om->hash);
}

/* --- for tests --- */

static bool same_sum(const struct objmap_sum *a, const struct objmap_sum *b)
{
	return a->objects == b->objects && a->data_sectors == b->data_sectors &&
	       a->live_sectors == b->live_sectors;
}

int objmap_check(const struct objmap *om, struct err *e)
{
	struct objmap again = {0};
	uint64_t used = 0, unused = 0;

	for (uint32_t s = 0; s < om->nslots; s++) {
		const struct object *o = objmap_get(om, s);

		if (!o)
			continue;
		count_in(&again, o);
		if (o->live_sectors > o->data_sectors)
			return err_set(e, -EUCLEAN, "slot %u: more live than data sectors", s);
		if (objmap_find(om, o->seq) != s)
			return err_set(e, -EUCLEAN, "seq %" PRIu64 " is not found", o->seq);
	}
	for (uint32_t h = 0; h < om->hash_cap; h++)
		used += om->hash[h] != OBJMAP_NONE;
	for (uint32_t s = om->free; s != OBJMAP_NONE; s = (uint32_t)om->slot[s].seq)
		unused++;
	if (used != om->all.objects || used + unused != om->nslots)
		return err_set(e, -EUCLEAN, "%" PRIu64 " hashed, %" PRIu64 " free, %u slots", used,
			unused, om->nslots);
	if (!same_sum(&again.all, &om->all))
		return err_set(e, -EUCLEAN, "the sums are wrong");
	for (unsigned i = 0; i < FLAGS_N; i++)
		if (!same_sum(&again.by_flag[i], &om->by_flag[i]))
			return err_set(e, -EUCLEAN, "the sums of flag %u are wrong", 1u << i);
	return 0;
}
