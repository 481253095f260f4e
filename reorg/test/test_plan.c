/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_plan.c - the layout plan against a model that looks at every sector, and on real boots. */
#include "reorg/extents.h"
#include "test/test.h"
#include "trace/load.h"

#include <errno.h>
#include <unistd.h>

enum { SECTORS = 1600, GRAINS = SECTORS / PLAN_GRAIN, BOOTS_MAX = 5 };

/* ---- by hand ---- */

static struct trace_record rd(uint64_t us, uint64_t grain, uint64_t grains)
{
	return (struct trace_record){.op = TRACE_READ,
		.submit_ns = us * 1000,
		.offset_bytes = grain * 4096,
		.len_bytes = grains * 4096};
}

static struct trace_record wr(uint64_t us, uint64_t offset, uint64_t len)
{
	return (struct trace_record){.op = TRACE_WRITE,
		.submit_ns = us * 1000,
		.offset_bytes = offset,
		.len_bytes = len};
}

static void assert_range(const struct plan *p, size_t i, uint64_t lba, uint64_t len, int zone)
{
	assert_true(i < p->n);
	assert_int_equal(p->ranges[i].lba, lba);
	assert_int_equal(p->ranges[i].len, len);
	assert_int_equal(p->ranges[i].zone, zone);
}

static void assert_profile(
	const struct plan *p, uint32_t i, uint64_t lba, uint32_t len, uint32_t us)
{
	assert_true(i < p->profile_n);
	assert_int_equal(p->profile[i].lba, lba);
	assert_int_equal(p->profile[i].len, len);
	assert_int_equal(p->profile[i].first_us, us);
}

TEST(one_boot_is_laid_out_in_its_order)
{
	const struct trace_record r[] = {
		rd(5, 50, 2), rd(10, 10, 1), rd(20, 11, 3), rd(5000, 14, 1), rd(6000, 50, 4)};
	const struct plan_trace t = {r, 5, "t"};
	const struct plan_extent all = {0, SECTORS};
	struct plan p;

	assert_int_equal(plan_make(&t, 1, &all, 1, SECTORS, &p, NULL), 0);
	assert_int_equal(p.n, 6);
	assert_range(&p, 0, 400, 16, PLAN_EVERY);
	assert_range(
		&p, 1, 80, 40, PLAN_EVERY); /* 10, 11-13, 14: neighbours, one after the other */
	assert_range(&p, 2, 416, 16, PLAN_EVERY);
	assert_range(&p, 3, 0, 80, PLAN_NEVER);
	assert_range(&p, 4, 120, 280, PLAN_NEVER);
	assert_range(&p, 5, 432, SECTORS - 432, PLAN_NEVER);
	assert_int_equal(p.profile_n, 4);
	assert_profile(&p, 0, 400, 16, 0);
	assert_profile(&p, 1, 80, 32, 5);
	assert_profile(&p, 2, 112, 8, 4995);
	assert_profile(&p, 3, 416, 16, 5995);
	assert_int_equal(p.zone_bytes[PLAN_EVERY], 72 * 512);
	assert_int_equal(p.zone_bytes[PLAN_NEVER], (SECTORS - 72) * 512);
	plan_free(&p);
}

TEST(the_data_may_lie_in_another_order_than_the_profile)
{
	const struct trace_record r[] = {rd(0, 50, 2), rd(1000, 10, 1), rd(2000, 30, 1)};
	const struct plan_trace t = {r, 3, "t"};
	const struct plan_extent all = {0, SECTORS};
	struct plan p[PLAN_ORDERS];

	for (unsigned o = 0; o < PLAN_ORDERS; o++) {
		assert_int_equal(plan_make_ordered(&t, 1, (enum plan_order)o, &all, 1, SECTORS, &p[o], NULL), 0);
		assert_int_equal(p[o].profile_n, 3);
		assert_profile(&p[o], 0, 400, 16, 0);
		assert_profile(&p[o], 1, 80, 8, 1000);
		assert_profile(&p[o], 2, 240, 8, 2000);
	}
	assert_range(&p[PLAN_BOOT], 0, 400, 16, PLAN_EVERY);
	assert_range(&p[PLAN_BOOT], 1, 80, 8, PLAN_EVERY);
	assert_range(&p[PLAN_BOOT], 2, 240, 8, PLAN_EVERY);
	assert_range(&p[PLAN_PACKED], 0, 80, 8, PLAN_EVERY);
	assert_range(&p[PLAN_PACKED], 1, 240, 8, PLAN_EVERY);
	assert_range(&p[PLAN_PACKED], 2, 400, 16, PLAN_EVERY);
	assert_range(&p[PLAN_PACKED], 3, 0, 80, PLAN_NEVER);
	assert_int_equal(p[PLAN_LBA].n, 1);
	assert_range(&p[PLAN_LBA], 0, 0, SECTORS, PLAN_NEVER);
	for (unsigned o = 0; o < PLAN_ORDERS; o++)
		plan_free(&p[o]);
}

TEST(several_boots_are_merged_by_the_median)
{
	/* ranks  a: 1 2 3; b: 2 1 3; c: 3 - 1 */
	const struct trace_record r1[] = {rd(0, 1, 1), rd(100, 2, 1), rd(200, 3, 1)};
	const struct trace_record r2[] = {rd(0, 2, 1), rd(700, 1, 1), rd(800, 3, 1), rd(900, 9, 1)};
	const struct trace_record r3[] = {rd(0, 3, 1), rd(10, 1, 1)};
	const struct plan_trace t[] = {{r1, 3, "1"}, {r2, 4, "2"}, {r3, 2, "3"}};
	const struct plan_extent all = {0, 80};
	struct plan p;

	/* places of 1: 0 1 1 -> 1, of 3: 2 2 0 -> 2; by some: 2: 1 0 -> 0.5, 9: 3 */
	assert_int_equal(plan_make(t, 3, &all, 1, 80, &p, NULL), 0);
	assert_int_equal(p.profile_n, 4);
	assert_profile(&p, 0, 8, 8, 10);
	assert_profile(&p, 1, 24, 8, 200);
	assert_profile(&p, 2, 16, 8, 50);
	assert_profile(&p, 3, 72, 8, 900);
	assert_range(&p, 0, 8, 8, PLAN_EVERY);
	assert_range(&p, 1, 24, 8, PLAN_EVERY);
	assert_range(&p, 2, 16, 8, PLAN_SOME);
	assert_range(&p, 3, 72, 8, PLAN_SOME);
	assert_range(&p, 4, 0, 8, PLAN_NEVER);
	assert_range(&p, 5, 32, 40, PLAN_NEVER);
	assert_int_equal(p.n, 6);
	plan_free(&p);
}

TEST(what_the_boot_wrote_before_it_read_is_not_read_from_the_image)
{
	/* grain 5 is written whole, 6 in part */
	const struct trace_record r[] = {wr(0, 5 * 4096, 4096 + 512), rd(1, 4, 4)};
	const struct plan_trace t = {r, 2, "t"};
	const struct plan_extent all = {0, 80};
	struct plan p;

	assert_int_equal(plan_make(&t, 1, &all, 1, 80, &p, NULL), 0);
	assert_range(&p, 0, 32, 8, PLAN_EVERY);
	assert_range(&p, 1, 48, 16, PLAN_EVERY);
	assert_range(&p, 2, 0, 32, PLAN_NEVER);
	assert_range(&p, 3, 40, 8, PLAN_NEVER);
	assert_int_equal(p.n, 5);
	plan_free(&p);
}

TEST(what_is_not_mapped_is_left_out)
{
	const struct trace_record r[] = {rd(0, 0, 4)};
	const struct plan_trace t = {r, 1, "t"};
	const struct plan_extent some[] = {{3, 10}, {20, 4}, {60, 4}};
	struct plan p;

	assert_int_equal(plan_make(&t, 1, some, 3, 80, &p, NULL), 0);
	assert_int_equal(p.n, 3);
	assert_range(&p, 0, 3, 10, PLAN_EVERY);
	assert_range(&p, 1, 20, 4, PLAN_EVERY);
	assert_range(&p, 2, 60, 4, PLAN_NEVER);
	plan_free(&p);
}

TEST(bad_input_is_refused)
{
	const struct trace_record r[] = {rd(0, 0, 11)};
	const struct plan_trace t = {r, 1, "far.csv"};
	const struct plan_extent mixed[] = {{8, 8}, {0, 8}}, far = {72, 9}, fine = {0, 80};
	struct plan p;
	struct err e;

	assert_int_equal(plan_make(&t, 1, &fine, 1, 80, &p, &e), -ERANGE);
	assert_non_null(strstr(e.msg, "far.csv"));
	assert_int_equal(plan_make(&t, 0, &fine, 1, 80, &p, &e), -EINVAL);
	assert_int_equal(plan_make(&t, 1, mixed, 2, 88, &p, &e), -EINVAL);
	assert_int_equal(plan_make(&t, 1, &far, 1, 80, &p, &e), -ERANGE);
	assert_int_equal(plan_make_plain(&far, 1, 80, &p, &e), -EINVAL);
	assert_int_equal(plan_make_plain(NULL, 0, 80, &p, &e), 0);
	assert_int_equal(p.n, 0);
	plan_free(&p);
}

TEST(an_image_of_petabytes_costs_what_its_requests_cost)
{
	const uint64_t huge = 1ull << 41; /* sectors: 1 PiB */
	const struct trace_record r[] = {rd(0, 1, huge / 8 - 1), rd(1, 0, 10)};
	const struct plan_trace t = {r, 2, "t"};
	const struct plan_extent all = {0, huge};
	struct plan p;

	assert_int_equal(plan_make(&t, 1, &all, 1, huge, &p, NULL), 0);
	assert_int_equal(p.n, 2);
	assert_range(&p, 0, 8, huge - 8, PLAN_EVERY);
	assert_range(&p, 1, 0, 8, PLAN_EVERY);
	plan_free(&p);
}

/* ---- against a model of every sector ---- */

struct model {
	int64_t first[BOOTS_MAX][GRAINS]; /* request, or -1 */
	uint64_t rank[BOOTS_MAX][GRAINS];
	int extent[SECTORS]; /* which one maps it, or -1 */
};

static void model_boot(struct model *m, size_t boot, const struct trace_record *r, size_t n)
{
	uint64_t rank = 0;
	bool written[GRAINS] = {0};

	for (size_t g = 0; g < GRAINS; g++)
		m->first[boot][g] = -1;
	for (size_t i = 0; i < n; i++) {
		uint64_t a = r[i].offset_bytes, b = a + r[i].len_bytes;

		for (uint64_t g = 0; g < GRAINS; g++) {
			if (m->first[boot][g] >= 0 || written[g] || b <= g * 4096 ||
				a >= (g + 1) * 4096)
				continue;
			if (r[i].op != TRACE_READ) {
				written[g] = a <= g * 4096 && b >= (g + 1) * 4096;
				continue;
			}
			m->first[boot][g] = (int64_t)i;
			m->rank[boot][g] = rank++;
		}
	}
}

struct run {
	uint64_t lba, len, place;
	int zone;
};

static int by_place(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	if (x->zone != y->zone)
		return x->zone - y->zone;
	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return x->lba < y->lba ? -1 : 1;
}

static int by_value(const void *a, const void *b)
{
	return *(const uint64_t *)a < *(const uint64_t *)b ? -1 : 1;
}

static struct run model_run(const struct model *m, size_t boots, uint64_t lba)
{
	uint64_t ranks[BOOTS_MAX], g = lba / PLAN_GRAIN;
	size_t n = 0;

	for (size_t b = 0; b < boots; b++)
		if (m->first[b][g] >= 0)
			ranks[n++] = m->rank[b][g];
	if (!n)
		return (struct run){lba, 1, 0, PLAN_NEVER};
	qsort(ranks, n, sizeof(*ranks), by_value);
	return (struct run){
		lba, 1, ranks[(n - 1) / 2] + ranks[n / 2], n == boots ? PLAN_EVERY : PLAN_SOME};
}

static bool goes_on(const struct model *m, size_t boots, uint64_t lba)
{
	if (!lba || m->extent[lba] != m->extent[lba - 1])
		return false;
	for (size_t b = 0; b < boots; b++)
		if (m->first[b][lba / PLAN_GRAIN] != m->first[b][(lba - 1) / PLAN_GRAIN])
			return false;
	return true;
}

static size_t model_runs(const struct model *m, size_t boots, struct run *out)
{
	size_t n = 0;

	for (uint64_t lba = 0; lba < SECTORS; lba++) {
		if (m->extent[lba] < 0)
			continue;
		if (goes_on(m, boots, lba))
			out[n - 1].len++;
		else
			out[n++] = model_run(m, boots, lba);
	}
	qsort(out, n, sizeof(*out), by_place);
	return n;
}

static void compare(const struct plan *p, const struct run *runs, size_t n)
{
	uint64_t zone_bytes[PLAN_ZONES] = {0};
	size_t at = 0;
	uint64_t in = 0;

	for (size_t i = 0; i < n; i++) {
		zone_bytes[runs[i].zone] += runs[i].len * 512;
		for (uint64_t k = 0; k < runs[i].len; k++) {
			assert_true(at < p->n);
			assert_int_equal(p->ranges[at].lba + in, runs[i].lba + k);
			assert_int_equal(p->ranges[at].zone, runs[i].zone);
			if (++in == p->ranges[at].len)
				at++, in = 0;
		}
	}
	assert_int_equal(at, p->n);
	assert_memory_equal(zone_bytes, p->zone_bytes, sizeof(zone_bytes));
	for (size_t i = 1; i < p->n; i++)
		assert_true(p->ranges[i].zone != p->ranges[i - 1].zone ||
			    p->ranges[i - 1].lba + p->ranges[i - 1].len != p->ranges[i].lba);
}

static size_t rand_trace(uint64_t *s, struct trace_record *r, size_t max)
{
	size_t n = test_rand(s) % (max + 1);
	static const uint8_t ops[] = {
		TRACE_READ, TRACE_READ, TRACE_READ, TRACE_WRITE, TRACE_DISCARD, TRACE_FLUSH};

	for (size_t i = 0; i < n; i++) {
		uint64_t lba = test_rand(s) % SECTORS, len = 1 + test_rand(s) % 100;

		r[i] = (struct trace_record){.op = ops[test_rand(s) % 6], .submit_ns = i * 777};
		if (r[i].op == TRACE_FLUSH)
			continue;
		if (test_rand(s) % 2)
			lba &= ~7ull, len = (len + 7) & ~7ull;
		r[i].offset_bytes = lba * 512;
		r[i].len_bytes = (len < SECTORS - lba ? len : SECTORS - lba) * 512;
	}
	return n;
}

static void rand_extents(uint64_t *s, struct model *m, struct extents *x)
{
	uint64_t lba = test_rand(s) % 50;
	int i = 0;

	*x = (struct extents){.size_sectors = SECTORS};
	memset(m->extent, 0xff, sizeof(m->extent));
	while (lba < SECTORS) {
		uint64_t len = 1 + test_rand(s) % 300;

		len = len < SECTORS - lba ? len : SECTORS - lba;
		assert_int_equal(extents_add(x, lba, len), 0);
		for (uint64_t k = lba; k < lba + len; k++)
			m->extent[k] = i;
		i++;
		lba += len + 1 + test_rand(s) % 60;
	}
}

TEST(random_boots_agree_with_the_model)
{
	static struct trace_record r[BOOTS_MAX][60];
	static struct model m;
	static struct run runs[SECTORS];
	uint64_t s = test_seed();

	for (int round = 0; round < 300; round++) {
		struct plan_trace t[BOOTS_MAX];
		size_t boots = 1 + test_rand(&s) % BOOTS_MAX;
		struct extents x;
		struct plan p, again;
		struct err e;

		for (size_t b = 0; b < boots; b++) {
			t[b] = (struct plan_trace){r[b], rand_trace(&s, r[b], 60), "random"};
			model_boot(&m, b, r[b], t[b].n);
		}
		rand_extents(&s, &m, &x);
		assert_int_equal(plan_make(t, boots, x.p, x.n, SECTORS, &p, &e), 0);
		compare(&p, runs, model_runs(&m, boots, runs));
		assert_int_equal(plan_make(t, boots, x.p, x.n, SECTORS, &again, &e), 0);
		assert_memory_equal(p.digest, again.digest, 16);
		assert_int_equal(p.profile_n, again.profile_n);
		plan_free(&p), plan_free(&again), extents_free(&x);
	}
}

/* ---- real boots ---- */

static void load(const char *name, struct trace *t)
{
	char path[80];
	struct err e;

	snprintf(path, sizeof(path), "workloads/boot/%s.csv", name);
	if (access(path, R_OK))
		SKIP("run from the top of the tree");
	assert_int_equal(trace_load(path, NULL, t, &e), 0);
}

static uint64_t touched_bytes(const struct trace *t, const struct plan *p, int zone_max)
{
	struct plan_trace pt = {t->records, t->n, "t"};
	struct touch *touch;
	size_t n;
	uint64_t bytes = 0;

	assert_int_equal(touch_find(&pt, 1ull << 40, &touch, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < p->n && p->ranges[k].zone <= zone_max; k++) {
			uint64_t a = touch[i].start * 8, b = touch[i].end * 8;
			uint64_t c = p->ranges[k].lba, d = c + p->ranges[k].len;

			a = a > c ? a : c;
			b = b < d ? b : d;
			bytes += a < b ? (b - a) * 512 : 0;
		}
	free(touch);
	return bytes;
}

TEST(a_plan_of_one_boot_serves_the_next)
{
	struct trace a = {0}, b = {0};
	struct extents x;
	struct plan p, both;
	struct err e;

	load("srv-1", &a);
	load("srv-2", &b);
	assert_int_equal(extents_load("workloads/boot/srv.extents", &x, &e), 0);
	struct plan_trace t[] = {{a.records, a.n, "srv-1"}, {b.records, b.n, "srv-2"}};

	assert_int_equal(plan_make(t, 1, x.p, x.n, x.size_sectors, &p, &e), 0);
	assert_int_equal(plan_make(t, 2, x.p, x.n, x.size_sectors, &both, &e), 0);
	for (int i = 0; i < 2; i++) {
		const struct plan *q = i ? &both : &p;
		uint64_t sum = 0;

		for (int z = 0; z < PLAN_ZONES; z++)
			sum += q->zone_bytes[z];
		assert_int_equal(sum, x.sectors * 512);
	}
	/* srv-2 reads 67.7 MB; left out of the plan, at least 99 % of it lies in the boot zone */
	assert_true(p.zone_bytes[PLAN_EVERY] > 66000000 && p.zone_bytes[PLAN_EVERY] < 68000000);
	assert_int_equal(p.zone_bytes[PLAN_SOME], 0);
	assert_true((double)touched_bytes(&b, &p, PLAN_EVERY) >
		    0.99 * (double)touched_bytes(&b, &p, PLAN_NEVER));
	assert_true(both.zone_bytes[PLAN_SOME] < 1000000);
	assert_true(memcmp(p.digest, both.digest, 16) != 0);
	trace_free(&a), trace_free(&b), extents_free(&x), plan_free(&p), plan_free(&both);
}

TEST(extents_files_are_checked)
{
	static const char *const bad[] = {"", "100\n", "512000\n0 512 1\n", "512000\n0 100\n",
		"512000\n512 512\n0 512\n", "512000\n511488 1024\n", "x\n", "512000\n0 0\n"};
	char path[300];
	struct extents x;
	struct err e;

	snprintf(path, sizeof(path), "%s/x", test_dir());
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		FILE *f = fopen(path, "w");

		fputs(bad[i], f);
		fclose(f);
		assert_int_equal(extents_load(path, &x, &e), -EINVAL);
		assert_non_null(strstr(e.msg, path));
	}
	assert_int_equal(extents_load("/nonexistent", &x, &e), -ENOENT);
}
