/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_extmap.c - the extent map against a model that knows one place per sector.
 *
 * The model says what every insert and remove displaces, piece by piece, what every search finds
 * and how many extents there are: the map's contents have one merged form, as long as no run
 * exceeds EXTMAP_LEN_MAX.  Fill and memory are checked on loads chosen to hurt, with over a million
 * extents.
 */
#include "map/extmap.h"
#include "test/test.h"

#include <errno.h>
#include <sys/resource.h>

#define HOLE (UINT64_MAX - 1)

static void check(const struct extmap *m)
{
	struct err e = {0};

	if (extmap_check(m, &e) < 0)
		fail_msg("%s", e.msg);
}

/* --- the model --- */

struct model {
	struct extmap *m;
	uint64_t *place; /* per sector */
	uint64_t sectors;
	uint64_t at; /* the next sector whose displacement is expected */
	uint64_t end;
	unsigned calls;
};

static bool model_continues(const struct model *o, uint64_t s)
{
	if (o->place[s] == EXTMAP_ZERO || o->place[s] == HOLE)
		return o->place[s + 1] == o->place[s];
	return o->place[s + 1] == o->place[s] + 1;
}

/* The first run in [at, end); false when there is none. */
static bool model_run(const struct model *o, uint64_t at, uint64_t end, struct extent *e)
{
	while (at < end && o->place[at] == HOLE)
		at++;
	if (at >= end)
		return false;
	*e = (struct extent){.lba = at, .len = 1, .place = o->place[at]};
	for (; at + 1 < end && model_continues(o, at); at++)
		e->len++;
	return true;
}

static void same(const struct extent *a, const struct extent *b)
{
	assert_int_equal(a->lba, b->lba);
	assert_int_equal(a->len, b->len);
	assert_int_equal(a->place, b->place);
}

static void expect_run(void *arg, const struct extent *old)
{
	struct model *o = arg;
	struct extent e;

	assert_true(model_run(o, o->at, o->end, &e));
	same(old, &e);
	o->at = e.lba + e.len;
	o->calls++;
}

static int expect_run_walk(void *arg, const struct extent *e)
{
	expect_run(arg, e);
	return 0;
}

static void expect_no_more(struct model *o)
{
	struct extent e;

	assert_false(model_run(o, o->at, o->end, &e));
}

static void model_init(struct model *o, uint64_t sectors)
{
	*o = (struct model){.m = extmap_new(), .sectors = sectors};
	assert_non_null(o->m);
	o->place = malloc(sectors * sizeof(*o->place));
	assert_non_null(o->place);
	for (uint64_t i = 0; i < sectors; i++)
		o->place[i] = HOLE;
}

static void model_fini(struct model *o)
{
	extmap_free(o->m);
	free(o->place);
}

static void model_insert(struct model *o, uint64_t lba, uint64_t len, uint64_t place)
{
	o->at = lba;
	o->end = lba + len;
	assert_int_equal(extmap_insert(o->m, lba, len, place, expect_run, o), 0);
	expect_no_more(o);
	for (uint64_t i = 0; i < len; i++)
		o->place[lba + i] = place == EXTMAP_ZERO ? EXTMAP_ZERO : place + i;
}

static void model_remove(struct model *o, uint64_t lba, uint64_t len)
{
	o->at = lba;
	o->end = lba + len;
	assert_int_equal(extmap_remove(o->m, lba, len, expect_run, o), 0);
	expect_no_more(o);
	for (uint64_t i = 0; i < len; i++)
		o->place[lba + i] = HOLE;
}

static void model_find(struct model *o, uint64_t lba)
{
	struct extent want, got;
	bool found = extmap_find(o->m, lba, &got);

	assert_int_equal(model_run(o, lba, o->sectors, &want), found);
	if (found)
		same(&got, &want);
}

static void model_walk(struct model *o, uint64_t lba, uint64_t len)
{
	o->at = lba;
	o->end = lba + len < o->sectors ? lba + len : o->sectors;
	assert_int_equal(extmap_walk(o->m, lba, len, expect_run_walk, o), 0);
	expect_no_more(o);
}

/* Everything: structure, contents, and that no two extents could be one. */
static void model_check(struct model *o)
{
	uint64_t mapped = 0;

	check(o->m);
	o->calls = 0;
	model_walk(o, 0, o->sectors);
	assert_int_equal(extmap_count(o->m), o->calls);
	for (uint64_t i = 0; i < o->sectors; i++)
		mapped += o->place[i] != HOLE;
	assert_int_equal(extmap_sectors(o->m), mapped);
}

/* --- by hand --- */

TEST(an_empty_map_finds_nothing)
{
	struct extmap *m = extmap_new();
	struct extent e;

	assert_false(extmap_find(m, 0, &e));
	assert_false(extmap_find(m, EXTMAP_LBA_MAX, &e));
	assert_int_equal(extmap_remove(m, 0, EXTMAP_LBA_MAX, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 0);
	check(m);
	extmap_free(m);
	extmap_free(NULL);
}

TEST(ranges_outside_are_refused)
{
	struct extmap *m = extmap_new();

	assert_int_equal(extmap_insert(m, 0, 0, 1, NULL, NULL), -EINVAL);
	assert_int_equal(extmap_insert(m, EXTMAP_LBA_MAX, 1, 1, NULL, NULL), -EINVAL);
	assert_int_equal(extmap_insert(m, EXTMAP_LBA_MAX - 1, 2, 1, NULL, NULL), -EINVAL);
	assert_int_equal(extmap_insert(m, 1, UINT64_MAX, 1, NULL, NULL), -EINVAL);
	assert_int_equal(extmap_remove(m, 5, 0, NULL, NULL), -EINVAL);
	assert_int_equal(extmap_remove(m, UINT64_MAX, 1, NULL, NULL), -EINVAL);
	assert_int_equal(extmap_insert(m, EXTMAP_LBA_MAX - 1, 1, 7, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 1);
	check(m);
	extmap_free(m);
}

TEST(an_extent_splits_and_merges_again)
{
	struct extmap *m = extmap_new();
	struct extent e;

	assert_int_equal(extmap_insert(m, 100, 100, 1000, NULL, NULL), 0);
	assert_int_equal(extmap_insert(m, 140, 8, 5000, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 3);
	assert_true(extmap_find(m, 150, &e));
	same(&e, &(struct extent){150, 50, 1050});
	assert_true(extmap_find(m, 0, &e));
	same(&e, &(struct extent){100, 40, 1000});
	assert_true(extmap_find(m, 147, &e));
	same(&e, &(struct extent){147, 1, 5007});
	assert_int_equal(extmap_insert(m, 140, 8, 1040, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 1);
	assert_int_equal(extmap_sectors(m), 100);
	extmap_clear(m);
	assert_int_equal(extmap_sectors(m), 0);
	assert_false(extmap_find(m, 0, &e));
	check(m);
	extmap_free(m);
}

TEST(zero_does_not_advance)
{
	struct extmap *m = extmap_new();
	struct extent e;

	assert_int_equal(extmap_insert(m, 0, 64, EXTMAP_ZERO, NULL, NULL), 0);
	assert_int_equal(extmap_insert(m, 64, 64, EXTMAP_ZERO, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 1);
	assert_true(extmap_find(m, 10, &e));
	same(&e, &(struct extent){10, 118, EXTMAP_ZERO});
	assert_int_equal(extmap_insert(m, 20, 8, 3, NULL, NULL), 0);
	assert_true(extmap_find(m, 28, &e));
	same(&e, &(struct extent){28, 100, EXTMAP_ZERO});
	check(m);
	extmap_free(m);
}

static int stop_at_third(void *arg, const struct extent *e)
{
	(void)e;
	return ++*(int *)arg == 3 ? 42 : 0;
}

TEST(a_walk_stops_when_told)
{
	struct extmap *m = extmap_new();
	int n = 0;

	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(extmap_insert(m, i * 16, 8, i * 100, NULL, NULL), 0);
	assert_int_equal(extmap_walk(m, 0, UINT64_MAX, stop_at_third, &n), 42);
	assert_int_equal(n, 3);
	assert_int_equal(extmap_walk(m, 8, 8, stop_at_third, &n), 0);
	assert_int_equal(n, 3);
	extmap_free(m);
}

/* --- against the model --- */

static uint64_t some_place(uint64_t *r, uint64_t lba)
{
	uint64_t kind = test_rand(r) % 16;

	if (kind < 2)
		return EXTMAP_ZERO;
	return kind < 10 ? lba + (kind << 32) : test_rand(r) >> 16;
}

static void random_op(struct model *o, uint64_t *r, uint64_t max_len, unsigned removes)
{
	uint64_t lba = test_rand(r) % o->sectors, len = 1 + test_rand(r) % max_len;

	if (len > o->sectors - lba)
		len = o->sectors - lba;
	if (test_rand(r) % 100 < removes)
		model_remove(o, lba, len);
	else
		model_insert(o, lba, len, some_place(r, lba));
}

TEST(random_updates_of_a_small_map)
{
	uint64_t r = test_seed() | 1;
	struct model o;

	for (unsigned round = 0; round < 8; round++) {
		model_init(&o, 700);
		for (unsigned i = 0; i < 4000; i++) {
			random_op(&o, &r, round < 4 ? 12 : 100, 5 + 10 * (round % 4));
			model_find(&o, test_rand(&r) % o.sectors);
			model_walk(&o, test_rand(&r) % o.sectors, test_rand(&r) % o.sectors);
			if (i % 8 == 0)
				model_check(&o);
		}
		model_fini(&o);
	}
}

/* Grow to three levels, overwrite, shrink to nothing, several times with other sizes. */
TEST(random_updates_of_a_tall_map)
{
	static const struct {
		unsigned ops, max_len, removes;
	} phase[] = {{120000, 3, 2}, {40000, 40, 30}, {60000, 4, 90}, {40000, 2, 10},
		{300, 20000, 70}, {20000, 3, 5}, {20, 200000, 100}, {5000, 9, 20}};
	uint64_t r = test_seed() | 1;
	struct model o;

	model_init(&o, 400000);
	for (unsigned p = 0; p < sizeof(phase) / sizeof(phase[0]); p++)
		for (unsigned i = 0; i < phase[p].ops; i++) {
			random_op(&o, &r, phase[p].max_len, phase[p].removes);
			model_find(&o, test_rand(&r) % o.sectors);
			if (i % 10000 == 0)
				model_check(&o);
		}
	model_check(&o);
	model_remove(&o, 0, o.sectors);
	model_check(&o);
	assert_int_equal(extmap_count(o.m), 0);
	model_fini(&o);
}

/* The hot pattern: a map of 8-sector extents, each replaced by one of the same bounds. */
TEST(replacing_whole_extents)
{
	uint64_t r = test_seed() | 1, n = 20000;
	struct model o;

	model_init(&o, n * 8);
	for (uint64_t i = 0; i < n; i++)
		model_insert(&o, i * 8, 8, (test_rand(&r) % 4 << 32) + i * 8);
	model_check(&o);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t lba = test_rand(&r) % n * 8;

		model_insert(&o, lba, 8, (test_rand(&r) % 4 << 32) + lba);
	}
	model_check(&o);
	model_fini(&o);
}

/* As dense as extents get: a subtree of n entries spans n sectors. */
TEST(extents_of_one_sector)
{
	uint64_t r = test_seed() | 1, n = 100000;
	struct model o;

	model_init(&o, n);
	for (uint64_t i = 0; i < n; i++)
		model_insert(&o, i, 1, i * 2);
	for (uint64_t i = 0; i < n; i++)
		model_find(&o, i);
	for (unsigned i = 0; i < 100000; i++)
		model_insert(&o, test_rand(&r) % n, 1, test_rand(&r) >> 16);
	model_check(&o);
	model_fini(&o);
}

/* --- runs longer than an entry can say --- */

struct sum {
	uint64_t next, sectors, calls, shift;
};

static void add_up(void *arg, const struct extent *old)
{
	struct sum *s = arg;

	if (s->calls++ > 0)
		assert_int_equal(old->lba, s->next);
	assert_in_range(old->len, 1, EXTMAP_LEN_MAX);
	if (s->shift)
		assert_int_equal(old->place, old->lba + s->shift);
	s->next = old->lba + old->len;
	s->sectors += old->len;
}

TEST(a_run_of_any_length_is_kept)
{
	uint64_t len = 3ull * EXTMAP_LEN_MAX + 5, shift = 1ull << 41;
	struct extmap *m = extmap_new();
	struct sum s = {.shift = shift};
	struct extent e;

	assert_int_equal(extmap_insert(m, 77, len, 77 + shift, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 4);
	assert_int_equal(extmap_sectors(m), len);
	for (uint64_t lba = 77; lba < 77 + len; lba += len / 1000) {
		assert_true(extmap_find(m, lba, &e));
		assert_int_equal(e.lba, lba);
		assert_int_equal(e.place, lba + shift);
	}
	check(m);
	assert_int_equal(extmap_remove(m, 100, len, add_up, &s), 0);
	assert_int_equal(s.sectors, len - 23);
	assert_int_equal(extmap_sectors(m), 23);
	check(m);
	extmap_free(m);
}

TEST(the_whole_range_is_mapped_as_zero)
{
	struct extmap *m = extmap_new();
	struct sum s = {0};
	struct extent e;

	assert_int_equal(extmap_insert(m, 1ull << 39, 8, 1, NULL, NULL), 0);
	assert_int_equal(extmap_insert(m, 0, EXTMAP_LBA_MAX, EXTMAP_ZERO, add_up, &s), 0);
	assert_int_equal(s.sectors, 8);
	assert_int_equal(extmap_sectors(m), EXTMAP_LBA_MAX);
	assert_int_equal(extmap_count(m), EXTMAP_LBA_MAX / EXTMAP_LEN_MAX + 1);
	check(m);
	s = (struct sum){0};
	assert_int_equal(extmap_insert(m, 1, EXTMAP_LBA_MAX - 2, 4096, add_up, &s), 0);
	assert_int_equal(s.sectors, EXTMAP_LBA_MAX - 2);
	assert_true(extmap_find(m, EXTMAP_LBA_MAX - 1, &e));
	same(&e, &(struct extent){EXTMAP_LBA_MAX - 1, 1, EXTMAP_ZERO});
	assert_true(extmap_find(m, EXTMAP_LBA_MAX - 2, &e));
	same(&e, &(struct extent){EXTMAP_LBA_MAX - 2, 1, 4096 + EXTMAP_LBA_MAX - 3});
	check(m);
	extmap_free(m);
}

/* --- memory --- */

enum { MILLION = 1000000 };

static void check_memory(const struct extmap *m)
{
	check(m);
	assert_true(extmap_count(m) >= MILLION);
	if (extmap_memory(m) > 24 * extmap_count(m))
		fail_msg(
			"%.2f bytes an extent", (double)extmap_memory(m) / (double)extmap_count(m));
}

static void put(struct extmap *m, uint64_t lba, uint64_t len)
{
	assert_int_equal(extmap_insert(m, lba, len, lba * 3, NULL, NULL), 0);
}

TEST(memory_in_order)
{
	struct extmap *m = extmap_new();

	for (uint64_t i = 0; i < MILLION; i++)
		put(m, i * 8, 8);
	check_memory(m);
	assert_true(extmap_memory(m) < 19 * extmap_count(m));
	for (uint64_t i = 0; i < MILLION; i++)
		put(m, i * 8 + 3, 2);
	check_memory(m);
	assert_int_equal(extmap_count(m), 3 * MILLION);
	extmap_free(m);
}

TEST(memory_in_reverse_order)
{
	struct extmap *m = extmap_new();

	for (uint64_t i = 0; i < MILLION; i++)
		put(m, (MILLION - i) * 8, 8);
	check_memory(m);
	extmap_free(m);
}

TEST(memory_of_random_growth_and_shrinking)
{
	uint64_t r = test_seed() | 1, span = 1ull << 33, lba;
	struct extmap *m = extmap_new();

	while (extmap_count(m) < 2 * MILLION)
		put(m, test_rand(&r) % span, 1 + test_rand(&r) % 8);
	check_memory(m);
	while (extmap_count(m) > MILLION + 64) {
		lba = test_rand(&r) % span;
		assert_int_equal(extmap_remove(m, lba, 1 << 16, NULL, NULL), 0);
	}
	check_memory(m);
	extmap_free(m);
}

static void drop(struct extmap *m, uint64_t lba, uint64_t len)
{
	assert_int_equal(extmap_remove(m, lba, len, NULL, NULL), 0);
}

/* The worst there is: in-order leaves of 255 entries, each thinned to the 192 it may not go below,
 * and as many free nodes as are kept.  Then further, when leaves must join. */
TEST(memory_of_thinned_leaves)
{
	struct extmap *m = extmap_new();
	uint64_t leaves = 5556, n = leaves * 255, more = 560 * 255;

	for (uint64_t i = 0; i < n + more; i++)
		put(m, i * 8, 7);
	for (uint64_t i = 0; i < leaves; i++)
		drop(m, i * 255 * 8, 63 * 8);
	assert_int_equal(extmap_count(m), leaves * 192 + more);
	drop(m, n * 8, more * 8);
	assert_int_equal(extmap_count(m), leaves * 192);
	check_memory(m);
	assert_true(extmap_memory(m) > 23 * extmap_count(m));
	for (uint64_t i = 0; i < leaves; i++)
		drop(m, (i * 255 + 100) * 8, 11 * 8);
	check_memory(m);
	extmap_free(m);
}

/* Many points that each grow: every leaf is filled at one place over and over. */
TEST(memory_of_hot_spots)
{
	struct extmap *m = extmap_new();
	uint64_t spots = 3001;

	for (uint64_t i = 0; i < 1 + MILLION / spots; i++)
		for (uint64_t s = 0; s < spots; s++)
			put(m, (s << 20) + (s % 2 ? i : 4096 - i) * 4, 3);
	check_memory(m);
	extmap_free(m);
}

TEST(memory_of_a_small_map)
{
	struct extmap *m = extmap_new();

	assert_true(extmap_memory(m) < 8192);
	for (uint64_t i = 0; i < 1000; i++)
		put(m, i * 8, 7);
	assert_true(extmap_memory(m) < 32768);
	extmap_free(m);
}

TEST(out_of_memory_leaves_the_map_as_it_was)
{
#ifdef __SANITIZE_ADDRESS__
	SKIP("the sanitizer needs the memory too");
#else
	struct extmap *m = extmap_new();
	struct rlimit old, none;
	uint64_t n = 0, sectors;
	struct extent e;
	int r;

	assert_int_equal(getrlimit(RLIMIT_DATA, &old), 0);
	none = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_DATA, &none), 0);
	while ((r = extmap_insert(m, n * 8, 7, n, NULL, NULL)) == 0)
		n++;
	sectors = extmap_sectors(m);
	assert_int_equal(extmap_insert(m, 0, EXTMAP_LBA_MAX, 0, NULL, NULL), -ENOMEM);
	assert_int_equal(setrlimit(RLIMIT_DATA, &old), 0);
	assert_int_equal(r, -ENOMEM);
	assert_true(n > 1000);
	assert_int_equal(sectors, n * 7);
	assert_int_equal(extmap_count(m), n);
	assert_true(extmap_find(m, (n - 1) * 8, &e));
	same(&e, &(struct extent){(n - 1) * 8, 7, n - 1});
	check(m);
	assert_int_equal(extmap_insert(m, n * 8, 7, n, NULL, NULL), 0);
	extmap_free(m);
#endif
}
