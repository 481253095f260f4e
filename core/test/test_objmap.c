/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_objmap.c - the object table against an array that is searched from end to end. */
#include "map/extmap.h"
#include "map/objmap.h"
#include "test/test.h"

#include <errno.h>

enum { MODEL_MAX = 3000 };

struct model {
	struct object o[MODEL_MAX];
	uint32_t slot[MODEL_MAX];
	unsigned n;
};

static void check(const struct objmap *om)
{
	struct err e = {0};

	if (objmap_check(om, &e) < 0)
		fail_msg("%s", e.msg);
}

static uint32_t add(struct objmap *om, uint64_t seq, uint32_t data, uint32_t live, unsigned flags)
{
	struct object o = {.seq = seq,
		.epoch = 7,
		.hdr_sectors = 8,
		.data_sectors = data,
		.live_sectors = live,
		.flags = (uint8_t)flags};
	uint32_t slot = OBJMAP_NONE;

	assert_int_equal(objmap_add(om, &o, &slot), 0);
	assert_int_not_equal(slot, OBJMAP_NONE);
	return slot;
}

TEST(a_place_is_slot_and_offset)
{
	uint64_t p = place_of(0x12345678, 0x9abcdef0);

	assert_int_equal(p, 0x123456789abcdef0);
	assert_int_equal(place_slot(p), 0x12345678);
	assert_int_equal(place_offset(p), 0x9abcdef0);
	assert_true(place_of(OBJMAP_NONE - 1, UINT32_MAX) < EXTMAP_ZERO);
}

TEST(an_object_is_found_by_seq_and_slot)
{
	struct objmap *om = objmap_new();
	uint32_t a = add(om, 100, 2048, 2000, OBJECT_BASE), b = add(om, 101, 16384, 16384, 0);

	assert_int_not_equal(a, b);
	assert_int_equal(objmap_find(om, 100), a);
	assert_int_equal(objmap_find(om, 101), b);
	assert_int_equal(objmap_find(om, 102), OBJMAP_NONE);
	assert_int_equal(objmap_get(om, a)->data_sectors, 2048);
	assert_int_equal(objmap_get(om, b)->epoch, 7);
	assert_null(objmap_get(om, b + 1));
	assert_null(objmap_get(om, OBJMAP_NONE));
	assert_int_equal(objmap_count(om), 2);
	check(om);
	objmap_free(om);
	objmap_free(NULL);
}

TEST(what_makes_no_sense_is_refused)
{
	struct objmap *om = objmap_new();
	struct object o = {.seq = 5, .data_sectors = 8, .live_sectors = 9};
	uint32_t slot = 77;

	assert_int_equal(objmap_add(om, &o, &slot), -EINVAL);
	o.live_sectors = 8;
	o.flags = 0x80;
	assert_int_equal(objmap_add(om, &o, &slot), -EINVAL);
	o.flags = OBJECT_GC;
	assert_int_equal(objmap_add(om, &o, &slot), 0);
	slot = 77;
	assert_int_equal(objmap_add(om, &o, &slot), -EEXIST);
	assert_int_equal(slot, 77);
	assert_int_equal(objmap_count(om), 1);
	check(om);
	objmap_free(om);
}

TEST(a_slot_is_reused_only_after_removal)
{
	struct objmap *om = objmap_new();
	uint32_t a = add(om, 1, 8, 8, 0), b;

	b = add(om, 2, 8, 8, 0);
	objmap_flag(om, a, OBJECT_DEAD, 0);
	assert_int_not_equal(add(om, 3, 8, 8, 0), a);
	objmap_remove(om, a);
	assert_null(objmap_get(om, a));
	assert_int_equal(objmap_find(om, 1), OBJMAP_NONE);
	assert_int_equal(add(om, 4, 8, 8, 0), a);
	assert_int_equal(objmap_find(om, 2), b);
	assert_int_equal(objmap_slots(om), 3);
	objmap_clear(om);
	assert_int_equal(objmap_count(om), 0);
	assert_int_equal(objmap_slots(om), 0);
	assert_int_equal(objmap_find(om, 2), OBJMAP_NONE);
	assert_int_equal(objmap_next(om, 0), OBJMAP_NONE);
	check(om);
	objmap_free(om);
}

TEST(sums_follow_live_sectors_and_flags)
{
	struct objmap *om = objmap_new();
	uint32_t a = add(om, 1, 100, 60, OBJECT_BASE), b = add(om, 2, 200, 150, OBJECT_GC);
	struct objmap_sum s;

	objmap_live(om, a, 40);
	objmap_live(om, b, -150);
	objmap_flag(om, b, OBJECT_DEAD, OBJECT_GC);
	assert_int_equal(objmap_get(om, a)->live_sectors, 100);
	assert_int_equal(objmap_get(om, b)->flags, OBJECT_DEAD);
	s = objmap_sum(om, 0);
	assert_int_equal(s.objects, 2);
	assert_int_equal(s.data_sectors, 300);
	assert_int_equal(s.live_sectors, 100);
	s = objmap_sum(om, OBJECT_DEAD);
	assert_int_equal(s.objects, 1);
	assert_int_equal(s.data_sectors, 200);
	assert_int_equal(s.live_sectors, 0);
	assert_int_equal(objmap_sum(om, OBJECT_GC).objects, 0);
	assert_int_equal(objmap_sum(om, OBJECT_BASE).live_sectors, 100);
	check(om);
	objmap_free(om);
}

/* --- against the model --- */

static unsigned model_find(const struct model *md, uint64_t seq)
{
	unsigned i = 0;

	while (i < md->n && md->o[i].seq != seq)
		i++;
	return i;
}

static void model_add(struct model *md, struct objmap *om, uint64_t *r)
{
	struct object o = {.seq = test_rand(r) % 5000, .epoch = test_rand(r)};
	unsigned i;

	o.data_sectors = (uint32_t)(test_rand(r) % 16385);
	o.live_sectors = (uint32_t)(test_rand(r) % (o.data_sectors + 1));
	o.flags = test_rand(r) & OBJECT_FLAGS;
	i = model_find(md, o.seq);
	if (i < md->n || md->n == MODEL_MAX) {
		assert_int_equal(objmap_find(om, o.seq), i < md->n ? md->slot[i] : OBJMAP_NONE);
		return;
	}
	assert_int_equal(objmap_add(om, &o, &md->slot[i]), 0);
	for (unsigned j = 0; j < i; j++)
		assert_int_not_equal(md->slot[j], md->slot[i]);
	md->o[i] = o;
	md->n++;
}

static void model_change(struct model *md, struct objmap *om, uint64_t *r, bool remove)
{
	unsigned i = (unsigned)(test_rand(r) % md->n);
	struct object *o = &md->o[i];
	uint32_t live = (uint32_t)(test_rand(r) % (o->data_sectors + 1));
	unsigned flags = test_rand(r) & OBJECT_FLAGS;

	if (remove) {
		objmap_remove(om, md->slot[i]);
		assert_null(objmap_get(om, md->slot[i]));
		*o = md->o[--md->n];
		md->slot[i] = md->slot[md->n];
		return;
	}
	objmap_live(om, md->slot[i], (int64_t)live - o->live_sectors);
	objmap_flag(om, md->slot[i], flags, ~flags & OBJECT_FLAGS);
	o->live_sectors = live;
	o->flags = (uint8_t)flags;
}

static void model_compare(const struct model *md, const struct objmap *om)
{
	uint32_t *sorted = objmap_sorted(om), slots = 0;

	check(om);
	assert_non_null(sorted);
	assert_int_equal(objmap_count(om), md->n);
	for (unsigned i = 0; i < md->n; i++) {
		const struct object *o = objmap_get(om, md->slot[i]);

		assert_non_null(o);
		assert_int_equal(objmap_find(om, md->o[i].seq), md->slot[i]);
		assert_int_equal(o->epoch, md->o[i].epoch);
		assert_int_equal(o->live_sectors, md->o[i].live_sectors);
		assert_int_equal(o->data_sectors, md->o[i].data_sectors);
		assert_int_equal(o->flags, md->o[i].flags);
		if (i > 0)
			assert_true(objmap_get(om, sorted[i])->seq >
				    objmap_get(om, sorted[i - 1])->seq);
	}
	for (uint32_t s = objmap_next(om, 0); s != OBJMAP_NONE; s = objmap_next(om, s + 1))
		slots++;
	assert_int_equal(slots, md->n);
	free(sorted);
}

TEST(random_changes)
{
	uint64_t r = test_seed() | 1;
	struct model *md = calloc(1, sizeof(*md));
	struct objmap *om = objmap_new();

	assert_non_null(md);
	for (unsigned i = 0; i < 60000; i++) {
		unsigned removes = i / 10000 % 2 ? 60 : 20, what = (unsigned)(test_rand(&r) % 100);

		if (md->n == 0 || what < 40)
			model_add(md, om, &r);
		else
			model_change(md, om, &r, what < 40 + removes);
		if (i % 1000 == 0)
			model_compare(md, om);
	}
	model_compare(md, om);
	objmap_free(om);
	free(md);
}

TEST(a_table_of_a_million_objects)
{
	struct objmap *om = objmap_new();
	uint64_t n = 1 << 20;

	for (uint64_t i = 0; i < n; i++)
		add(om, 1000 + i, 16384, 16384, 0);
	for (uint64_t i = 0; i < n; i += 2)
		objmap_remove(om, objmap_find(om, 1000 + i));
	check(om);
	assert_int_equal(objmap_count(om), n / 2);
	assert_int_equal(objmap_sum(om, 0).data_sectors, n / 2 * 16384);
	assert_true(objmap_memory(om) <= n * 40 + 4096);
	objmap_free(om);
}

TEST(ages_are_kept_well_enough)
{
	struct objmap *om = objmap_new();
	uint32_t slot = add(om, 1ull << 40, 16, 16, 0);
	const struct object *o = objmap_get(om, slot);

	assert_int_equal(object_born(o), 1ull << 40);
	for (uint64_t ago = 1; ago < 100000000; ago = ago * 3 / 2 + 1) {
		uint64_t got;

		objmap_set_born(om, slot, (1ull << 40) - ago);
		got = (1ull << 40) - object_born(o);
		assert_true(got <= ago && got >= ago - ago / 2000);
	}
	objmap_set_born(om, slot, 0); /* beyond what it can say */
	assert_int_equal(object_born(o), (1ull << 40) - (4095ull << 15));
	objmap_set_born(om, slot, 2ull << 40);
	assert_int_equal(object_born(o), 1ull << 40);
	objmap_free(om);
}
