/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_extmap_build.c - a map built at once is the map that inserts make.
 *
 * A list of extents is put in runs of any length and in any order of the runs, and inserted one by
 * one into another map; both are compared, and again after the same random updates.
 */
#include "map/extmap.h"
#include "test/test.h"

#include <errno.h>

struct list {
	struct extent *e;
	uint64_t n;
};

/* Extents of a few sectors; one in `joins` continues the one before, and so may belong to it. */
static struct list some_extents(uint64_t n, uint64_t joins, uint64_t *r)
{
	struct list l = {.e = malloc((n + 1) * sizeof(*l.e)), .n = n};
	uint64_t at = 0, place = 0;

	for (uint64_t i = 0; i < n; i++) {
		bool on = i && joins && test_rand(r) % joins == 0;

		if (!on) {
			at += 1 + test_rand(r) % 8;
			place = test_rand(r) % 8 ? test_rand(r) >> 20 : EXTMAP_ZERO;
		}
		l.e[i] = (struct extent){.lba = at, .len = 1 + test_rand(r) % 8, .place = place};
		at += l.e[i].len;
		place += place == EXTMAP_ZERO ? 0 : l.e[i].len;
	}
	return l;
}

static struct extmap *inserted(const struct list *l)
{
	struct extmap *m = extmap_new();

	for (uint64_t i = 0; i < l->n; i++)
		assert_int_equal(
			extmap_insert(m, l->e[i].lba, l->e[i].len, l->e[i].place, NULL, NULL), 0);
	return m;
}

/* Runs of up to 100, every other one first. */
static void put_all(struct extmap_build *b, const struct list *l, uint64_t seed)
{
	for (unsigned turn = 0; turn < 2; turn++) {
		uint64_t r = seed | 1, n;

		for (uint64_t i = 0, run = 0; i < l->n; i += n, run++) {
			n = 1 + test_rand(&r) % 100;
			if (n > l->n - i)
				n = l->n - i;
			if (run % 2 != turn)
				extmap_build_put(b, i, l->e + i, (uint32_t)n);
		}
	}
}

static void build(struct extmap *m, const struct list *l)
{
	struct extmap_build b;

	assert_int_equal(extmap_build_begin(&b, m, l->n), 0);
	put_all(&b, l, test_seed());
	extmap_build_end(&b);
}

static int same_there(void *arg, const struct extent *e)
{
	struct extent other;

	assert_true(extmap_find(arg, e->lba, &other));
	assert_int_equal(other.lba, e->lba);
	assert_int_equal(other.len, e->len);
	assert_int_equal(other.place, e->place);
	return 0;
}

static void same_maps(struct extmap *a, struct extmap *b)
{
	struct err e = {0};

	if (extmap_check(a, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(extmap_count(a), extmap_count(b));
	assert_int_equal(extmap_sectors(a), extmap_sectors(b));
	extmap_walk(a, 0, EXTMAP_LBA_MAX, same_there, b);
}

static void update_both(struct extmap *a, struct extmap *b, uint64_t below, uint64_t *r)
{
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t lba = test_rand(r) % below, len = 1 + test_rand(r) % 40;

		if (test_rand(r) % 3) {
			assert_int_equal(extmap_insert(a, lba, len, i << 8, NULL, NULL), 0);
			assert_int_equal(extmap_insert(b, lba, len, i << 8, NULL, NULL), 0);
		} else {
			assert_int_equal(extmap_remove(a, lba, len, NULL, NULL), 0);
			assert_int_equal(extmap_remove(b, lba, len, NULL, NULL), 0);
		}
	}
}

static void built_like_inserted(uint64_t n, uint64_t joins)
{
	uint64_t r = test_seed() | 1;
	struct list l = some_extents(n, joins, &r);
	struct extmap *a = extmap_new(), *b = inserted(&l);

	build(a, &l);
	same_maps(a, b);
	update_both(a, b, 8 * n + 100, &r);
	same_maps(a, b);
	extmap_free(a);
	extmap_free(b);
	free(l.e);
}

TEST(a_map_of_any_size_is_built)
{
	static const uint64_t sizes[] = {0, 1, 2, 255, 256, 257, 512, 340 * 256, 340 * 256 + 1,
		341 * 256, 341 * 256 + 1, 200000};

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		built_like_inserted(sizes[i], 0);
}

TEST(neighbours_are_joined)
{
	static const uint64_t joins[] = {1, 2, 24, 10000};

	for (unsigned i = 0; i < sizeof(joins) / sizeof(joins[0]); i++) {
		built_like_inserted(100, joins[i]);
		built_like_inserted(100000, joins[i]);
	}
}

TEST(a_run_stays_as_many_as_it_must)
{
	struct extent e[3];
	struct extmap *m = extmap_new();
	struct list l = {.e = e, .n = 3};

	for (uint64_t i = 0; i < 3; i++)
		e[i] = (struct extent){
			.lba = i * EXTMAP_LEN_MAX, .len = EXTMAP_LEN_MAX, .place = EXTMAP_ZERO};
	build(m, &l);
	assert_int_equal(extmap_count(m), 3);
	assert_int_equal(extmap_sectors(m), 3ull * EXTMAP_LEN_MAX);
	extmap_free(m);
}

/* What was in the map is gone, and what was put before giving up, too. */
TEST(a_map_that_was_in_use_is_built_anew)
{
	uint64_t r = test_seed() | 1;
	struct list l = some_extents(300000, 0, &r), few = {.e = l.e, .n = 1000};
	struct extmap *a = inserted(&l), *b = inserted(&few);
	struct extmap_build given_up;

	assert_int_equal(extmap_build_begin(&given_up, a, l.n), 0);
	extmap_build_put(&given_up, 5, l.e + 5, 1000);
	extmap_clear(a);
	assert_int_equal(extmap_count(a), 0);
	build(a, &few);
	same_maps(a, b);
	extmap_free(a);
	extmap_free(b);
	free(l.e);
}

/* As after any updates; and what joining leaves over is given back. */
TEST(memory_of_a_built_map)
{
	uint64_t r = test_seed() | 1;
	struct list l = some_extents(1200000, 0, &r), joined;
	struct extmap *m = extmap_new();

	build(m, &l);
	assert_true(extmap_memory(m) <= 24 * extmap_count(m));
	free(l.e);
	joined = some_extents(3000000, 2, &r);
	build(m, &joined);
	assert_true(extmap_count(m) < 2000000);
	assert_true(extmap_memory(m) <= 24 * extmap_count(m));
	extmap_free(m);
	free(joined.e);
}
