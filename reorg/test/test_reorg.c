/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_reorg.c - images built by a plan, the proof of equality, and predictions of real boots. */
#include "reorg/build.h"
#include "reorg/predict.h"
#include "reorg/synth.h"
#include "reorg/translate.h"
#include "sys/loop_uring.h"
#include "test/store_util.h"
#include "test/test.h"
#include "trace/load.h"
#include "volume/bulk.h"

#include <errno.h>
#include <unistd.h>

enum { SECTORS = 100000, OBJECT = 1 << 20 };

static const struct plan_extent base_extents[] = {{0, 40000}, {50001, 77}, {60000, 30000}};
enum { EXTENTS = 3, MAPPED = 70077 };

/* ---- building ---- */

struct dir {
	char url[300], image[340];
};

static struct dir new_dir(void)
{
	static unsigned made;
	struct dir d;

	snprintf(d.url, sizeof(d.url), "file:%s/d%u", test_dir(), made++);
	snprintf(d.image, sizeof(d.image), "%s/base", d.url);
	return d;
}

/* An image of made-up data; `odd` (if not 0) is a sector with other contents. */
static void make_image(const char *store_url, const char *name, uint64_t size, uint64_t odd)
{
	struct bulk_options o = {
		.uuid = {(uint8_t)name[0]}, .created_ns = 77, .object_bytes = OBJECT};
	uint8_t sector[512];
	struct loop *l;
	struct store *s;
	struct bulk *b;
	struct err e;

	assert_int_equal(loop_uring_new(64, &l, &e), 0);
	s = util_open(l, store_url, STORE_CREATE);
	assert_int_equal(bulk_begin(s, name, size * 512, &o, &b, &e), 0);
	for (size_t i = 0; i < EXTENTS; i++)
		for (uint64_t k = 0; k < base_extents[i].len; k++) {
			uint64_t lba = base_extents[i].lba + k;

			synth_fill(sector, lba + (odd && lba == odd), 1);
			assert_int_equal(bulk_write(b, lba, sector, 512, &e), 0);
		}
	assert_int_equal(bulk_finish(b, NULL, 0, &e), 0);
	store_close(s);
	loop_free(l);
}

static void plan_random(uint64_t seed, struct plan *p)
{
	struct trace_record r[2][200] = {{{0}}};
	struct plan_trace t[2];
	struct err e;

	for (int b = 0; b < 2; b++) {
		for (int i = 0; i < 200; i++)
			r[b][i] = (struct trace_record){.op = TRACE_READ,
				.submit_ns = (uint64_t)i * 1000000,
				.offset_bytes = test_rand(&seed) % (SECTORS - 300) * 512,
				.len_bytes = (1 + test_rand(&seed) % 300) * 512};
		t[b] = (struct plan_trace){r[b], 200, "random"};
	}
	assert_int_equal(plan_make(t, 2, base_extents, EXTENTS, SECTORS, p, &e), 0);
}

struct opened {
	struct lsvd_config *cfg;
	struct session s;
	struct session_image base, other;
};

static void open_base(struct opened *o, const struct dir *d)
{
	struct err e = {""};

	*o = (struct opened){.cfg = lsvd_config_defaults()};
	if (session_open(&o->s, o->cfg, d->image, &e) ||
		session_open_image(&o->s, d->image, &o->base, &e))
		fail_msg("%s", e.msg);
}

static void open_other(struct opened *o, const struct dir *d, const char *name)
{
	char url[400];
	struct err e = {""};

	snprintf(url, sizeof(url), "%s/%s", d->url, name);
	if (session_open_image(&o->s, url, &o->other, &e))
		fail_msg("%s", e.msg);
}

static void close_all(struct opened *o)
{
	session_close_image(&o->other);
	session_close_image(&o->base);
	session_close(&o->s);
	lsvd_config_free(o->cfg);
}

static int build(struct opened *o, const struct dir *d, const char *name, const struct plan *p,
	const struct reorg_watch *w)
{
	struct store *s = util_open(o->s.loop, d->url, STORE_CREATE);
	struct err e = {""};
	int rc = reorg_build(&o->base, s, name, p, OBJECT, w, &e);

	assert_true(!rc || e.msg[0]);
	store_close(s);
	return rc;
}

static const struct reorg_watch no_watch;

static void count_progress(void *arg, uint64_t done)
{
	uint64_t *last = arg;

	assert_true(done >= *last);
	*last = done;
}

TEST(a_reorganised_image_equals_its_base)
{
	uint64_t seed = test_seed(), told = 0;
	struct reorg_watch w = {.progress = count_progress, .arg = &told};
	struct reorg_difference diff;
	struct dir d = new_dir();
	struct opened o;
	struct plan p;
	struct err e;

	make_image(d.url, "base", SECTORS, 0);
	plan_random(seed, &p);
	open_base(&o, &d);
	assert_int_equal(build(&o, &d, "new", &p, &w), 0);
	assert_int_equal(told, MAPPED * 512);
	assert_int_equal(build(&o, &d, "new", &p, &w), -EEXIST);
	open_other(&o, &d, "new");
	assert_int_equal(o.other.size_sectors, SECTORS);
	assert_int_equal(o.other.created_ns, 77);
	assert_int_equal(o.other.uuid[6] >> 4, 8);
	assert_int_equal(reorg_compare(&o.base, &o.other, &no_watch, &diff, &e), 0);
	assert_false(diff.found);
	assert_int_equal(diff.compared_bytes, MAPPED * 512);
	close_all(&o);
	plan_free(&p);
}

static void compare_with(uint64_t size, uint64_t odd, uint64_t first)
{
	struct reorg_difference diff;
	struct dir d = new_dir();
	struct opened o;
	struct err e;

	make_image(d.url, "base", SECTORS, 0);
	make_image(d.url, "other", size, odd);
	open_base(&o, &d);
	open_other(&o, &d, "other");
	assert_int_equal(reorg_compare(&o.base, &o.other, &no_watch, &diff, &e), 0);
	assert_true(diff.found);
	assert_int_equal(diff.lba, first);
	close_all(&o);
}

TEST(a_difference_is_found)
{
	compare_with(SECTORS, 1, 1);
	compare_with(SECTORS, 50077, 50077);
	compare_with(SECTORS, 89999, 89999);
	compare_with(SECTORS + 8, 0, SECTORS);
	compare_with(SECTORS + 8, 39999, 39999);
}

/* ---- the same inputs give the same bytes ---- */

struct listed {
	char name[200][STORE_NAME_MAX + 1];
	uint64_t size[200];
	size_t n;
} * listing;

static int item(struct store_req *r, const char *name, uint64_t size)
{
	(void)r;
	assert_true(listing->n < 200);
	strcpy(listing->name[listing->n], name);
	listing->size[listing->n++] = size;
	return 0;
}

static struct listed *list(struct store *s, const char *prefix)
{
	struct store_req r = {.op = STORE_LIST, .name = prefix, .item = item};

	listing = calloc(1, sizeof(*listing));
	assert_int_equal(store_wait(s, &r), 0);
	return listing;
}

TEST(the_same_inputs_give_the_same_bytes)
{
	struct dir d = new_dir(), copy = new_dir();
	struct listed *a, *b;
	struct store *s[2];
	struct opened o;
	struct plan p;

	make_image(d.url, "base", SECTORS, 0);
	plan_random(4711, &p);
	open_base(&o, &d);
	assert_int_equal(build(&o, &d, "new", &p, &no_watch), 0);
	assert_int_equal(build(&o, &copy, "new", &p, &no_watch), 0);
	s[0] = util_open(o.s.loop, d.url, 0);
	s[1] = util_open(o.s.loop, copy.url, 0);
	a = list(s[0], "new/");
	b = list(s[1], "new/");
	assert_int_equal(a->n, b->n);
	assert_true(a->n > MAPPED * 512ull / OBJECT);
	for (size_t i = 0; i < a->n; i++) {
		uint8_t *x = malloc(a->size[i]), *y = malloc(a->size[i]);

		assert_string_equal(a->name[i], b->name[i]);
		assert_int_equal(a->size[i], b->size[i]);
		assert_int_equal(util_get(s[0], a->name[i], 0, x, a->size[i]), a->size[i]);
		assert_int_equal(util_get(s[1], a->name[i], 0, y, a->size[i]), a->size[i]);
		if (memcmp(x, y, a->size[i]))
			fail_msg("%s differs", a->name[i]);
		free(x), free(y);
	}
	store_close(s[0]), store_close(s[1]);
	close_all(&o);
	plan_free(&p);
	free(a), free(b);
}

TEST(an_interrupted_build_leaves_nothing)
{
	volatile int stop = 1;
	struct reorg_watch w = {.stop = &stop};
	struct dir d = new_dir();
	struct listed *l;
	struct store *s;
	struct opened o;
	struct plan p;

	make_image(d.url, "base", SECTORS, 0);
	plan_random(1, &p);
	open_base(&o, &d);
	assert_int_equal(build(&o, &d, "new", &p, &w), -EINTR);
	s = util_open(o.s.loop, d.url, 0);
	l = list(s, "new/");
	assert_int_equal(l->n, 0);
	free(l);
	store_close(s);
	assert_int_equal(build(&o, &d, "new", &p, &no_watch), 0);
	close_all(&o);
	plan_free(&p);
}

/* ---- traces of another build ---- */

/* Image `name` holds what `base` does `by` sectors further up, from sector 8000 on. */
static void make_moved(const char *store_url, const char *name, uint64_t by)
{
	struct bulk_options o = {.uuid = {(uint8_t)name[0]}, .created_ns = 77, .object_bytes = OBJECT};
	uint8_t sector[512];
	struct loop *l;
	struct store *s;
	struct bulk *b;
	struct err e;

	assert_int_equal(loop_uring_new(64, &l, &e), 0);
	s = util_open(l, store_url, STORE_CREATE);
	assert_int_equal(bulk_begin(s, name, SECTORS / 8 * 8 * 512, &o, &b, &e), 0);
	for (uint64_t lba = 0; lba < 40000; lba++) {
		synth_fill(sector, lba < 8000 ? lba : lba - by, 1);
		if (lba < 8000 || lba >= 8000 + by)
			assert_int_equal(bulk_write(b, lba, sector, 512, &e), 0);
	}
	assert_int_equal(bulk_finish(b, NULL, 0, &e), 0);
	store_close(s);
	loop_free(l);
}

static struct trace_record read_at(uint64_t ms, uint64_t block, uint64_t blocks)
{
	return (struct trace_record){.op = TRACE_READ,
		.submit_ns = ms * 1000000,
		.complete_ns = ms * 1000000 + 5,
		.offset_bytes = block * 4096,
		.len_bytes = blocks * 4096};
}

TEST(a_trace_of_an_older_build_is_translated)
{
	struct translate_counts c = {0};
	struct dir d = new_dir();
	struct translator *tr;
	struct trace t = {.n = 0};
	struct opened o;
	struct err e = {""};

	make_image(d.url, "base", SECTORS / 8 * 8, 0);
	make_moved(d.url, "new", 800);
	open_base(&o, &d);
	open_other(&o, &d, "new");
	/* before the change; across it; after it; where the old build alone has data; a write */
	assert_int_equal(trace_append(&t, &(struct trace_record){.op = TRACE_WRITE, .len_bytes = 4096}), 0);
	assert_int_equal(trace_append(&t, &(struct trace_record){.op = TRACE_READ, .submit_ns = 1, .offset_bytes = 512, .len_bytes = 512}), 0);
	assert_int_equal(trace_append(&t, (struct trace_record[]){read_at(1, 998, 4)}), 0);
	assert_int_equal(trace_append(&t, (struct trace_record[]){read_at(2, 2000, 3)}), 0);
	assert_int_equal(trace_append(&t, (struct trace_record[]){read_at(3, 8000, 2)}), 0);
	assert_int_equal(translator_new(&o.other, &no_watch, &tr, &e), 0);
	assert_int_equal(translate(tr, &o.base, &t, &c, &e), 0);
	assert_int_equal(t.n, 4);
	assert_int_equal(t.records[0].offset_bytes, 0);
	assert_int_equal(t.records[0].len_bytes, 4096);
	assert_int_equal(t.records[1].offset_bytes, 998 * 4096);
	assert_int_equal(t.records[1].len_bytes, 2 * 4096);
	assert_int_equal(t.records[2].offset_bytes, 1100 * 4096);
	assert_int_equal(t.records[2].len_bytes, 2 * 4096);
	assert_int_equal(t.records[2].submit_ns, 1000000);
	assert_int_equal(t.records[3].offset_bytes, 2100 * 4096);
	assert_int_equal(t.records[3].len_bytes, 3 * 4096);
	assert_int_equal(c.blocks, 10);
	assert_int_equal(c.same, 3);
	assert_int_equal(c.moved, 5);
	assert_int_equal(c.changed, 0);
	assert_int_equal(c.lost, 2);

	/* A trace of a larger image is none of this one. */
	assert_int_equal(trace_append(&t, (struct trace_record[]){read_at(9, SECTORS / 8, 1)}), 0);
	assert_int_equal(translate(tr, &o.base, &t, &c, &e), -ERANGE);
	trace_free(&t);
	translator_free(tr);
	close_all(&o);
}

/* ---- predictions ---- */

struct boots {
	struct trace t[2];
	struct predict_layout *plain, *reorg;
	uint64_t read_bytes;
};

/* The plan is made from srv-1 alone. */
static void load_boots(struct boots *b)
{
	struct plan_trace pt;
	struct extents x;
	struct plan plan, plain;
	struct err e;

	*b = (struct boots){0};
	if (access("workloads/boot/srv-1.csv", R_OK))
		SKIP("run from the top of the tree");
	assert_int_equal(trace_load("workloads/boot/srv-1.csv", NULL, &b->t[0], &e), 0);
	assert_int_equal(trace_load("workloads/boot/srv-2.csv", NULL, &b->t[1], &e), 0);
	assert_int_equal(extents_load("workloads/boot/srv.extents", &x, &e), 0);
	pt = (struct plan_trace){b->t[0].records, b->t[0].n, "srv-1"};
	assert_int_equal(plan_make(&pt, 1, x.p, x.n, x.size_sectors, &plan, &e), 0);
	assert_int_equal(plan_make_plain(x.p, x.n, x.size_sectors, &plain, &e), 0);
	assert_int_equal(predict_layout_new(&plain, x.size_sectors, 0, NULL, &b->plain, &e), 0);
	assert_int_equal(predict_layout_new(&plan, x.size_sectors, 0, NULL, &b->reorg, &e), 0);
	plan_free(&plan), plan_free(&plain), extents_free(&x);
}

static void free_boots(struct boots *b)
{
	predict_layout_free(b->plain);
	predict_layout_free(b->reorg);
	trace_free(&b->t[0]);
	trace_free(&b->t[1]);
}

static struct predict_result predict(const struct boots *b, int boot, enum predict_variant v)
{
	struct predict_input in = {
		.records = b->t[boot].records, .n = b->t[boot].n, .model = *store_model_find("s3")};
	struct predict_result r;
	struct err e = {""};

	predict_variant_set(&in, v, b->plain, b->reorg, 1 << 20);
	if (predict_run(&in, &r, &e))
		fail_msg("%s: %s", predict_variant_name(v), e.msg);
	return r;
}

TEST(a_plan_of_one_boot_pays_for_the_next)
{
	struct predict_result orig[2], pre[2], again, warm;
	struct boots b;

	load_boots(&b);
	for (int i = 0; i < 2; i++) {
		orig[i] = predict(&b, i, PREDICT_ORIGINAL);
		pre[i] = predict(&b, i, PREDICT_REORG_PREFETCH);
		assert_int_equal(pre[i].reads, orig[i].reads);
		assert_int_equal(pre[i].read_bytes, orig[i].read_bytes);
		assert_true(orig[i].gets > 700);
		assert_true(orig[i].outstanding_ns > 15000000000u);
		assert_true(pre[i].gets * 20 <= orig[i].gets);
		assert_true(pre[i].outstanding_ns * 8 <= orig[i].outstanding_ns);
		assert_true(pre[i].get_bytes * 10 <= pre[i].read_bytes * 13);
		assert_true(pre[i].wasted_bytes * 20 <= pre[i].prefetch_bytes);
	}
	again = predict(&b, 1, PREDICT_REORG_PREFETCH);
	assert_memory_equal(&again, &pre[1], sizeof(again));
	warm = predict(&b, 0, PREDICT_WARM);
	assert_true(warm.gets - warm.open_gets <= orig[0].gets / 20);
	assert_true(warm.outstanding_ns * 20 <= orig[0].outstanding_ns);
	free_boots(&b);
}

TEST(reading_ahead_and_a_new_order_help_a_little)
{
	struct predict_result orig, ra, re;
	struct boots b;

	load_boots(&b);
	orig = predict(&b, 0, PREDICT_ORIGINAL);
	ra = predict(&b, 0, PREDICT_READAHEAD);
	re = predict(&b, 0, PREDICT_REORG);
	assert_true(ra.prefetch_bytes > 0);
	assert_true(ra.outstanding_ns < orig.outstanding_ns);
	assert_true(re.outstanding_ns < orig.outstanding_ns);
	assert_int_equal(re.prefetch_bytes, 0);
	assert_int_equal(orig.prefetch_bytes, 0);
	free_boots(&b);
}

/* When the pool's SSD takes longer than the store, buffers are short; GETs stay long all the same.
 */
TEST(a_store_faster_than_the_pool_gets_no_more_requests)
{
	struct predict_result r;
	struct predict_input in = {.model = *store_model_find("s3")};
	struct boots b;
	struct err e;

	load_boots(&b);
	in.records = b.t[0].records;
	in.n = b.t[0].n;
	in.model.get_ns = 500000;
	in.model.bytes_per_s = 0;
	predict_variant_set(&in, PREDICT_REORG_PREFETCH, b.plain, b.reorg, 0);
	assert_int_equal(predict_run(&in, &r, &e), 0);
	assert_true(r.gets < 40);
	free_boots(&b);
}

TEST(a_prediction_can_be_stopped)
{
	volatile int stop = 1;
	struct predict_input in = {.model = *store_model_find("s3"), .stop = &stop};
	struct predict_result r;
	struct boots b;
	struct err e;

	load_boots(&b);
	in.layout = b.plain;
	in.records = b.t[0].records;
	in.n = b.t[0].n;
	assert_int_equal(predict_run(&in, &r, &e), -EINTR);
	free_boots(&b);
}

/* A boot of a tenth of a second, in real and in virtual time. */
TEST(real_and_virtual_time_agree)
{
	struct trace_record r[40] = {{0}};
	const struct plan_trace t = {r, 40, "t"};
	const struct plan_extent x = {0, SECTORS};
	struct predict_result out[2];
	struct predict_input in = {.records = r, .n = 40, .model = *store_model_find("s3")};
	struct plan plan;
	struct err e;

	in.model.get_ns = 5000000;
	for (uint64_t i = 0; i < 40; i++)
		r[i] = (struct trace_record){.submit_ns = i * 2000000,
			.complete_ns = i * 2000000 + 100000,
			.offset_bytes = i * 7919 % 90 * 524288,
			.len_bytes = 16384};
	assert_int_equal(plan_make(&t, 1, &x, 1, SECTORS, &plan, &e), 0);
	assert_int_equal(predict_layout_new(&plan, SECTORS, OBJECT, NULL, &in.layout, &e), 0);
	for (int i = 0; i < 2; i++) {
		in.real_time = i;
		in.speed = i ? 4 : 1; /* think times do not matter for what is asked */
		assert_int_equal(predict_run(&in, &out[i], &e), 0);
	}
	assert_true(out[0].wall_ns >= 40 * 2000000);
	assert_int_equal(out[0].gets, out[1].gets);
	assert_int_equal(out[0].get_bytes, out[1].get_bytes);
	assert_int_equal(out[0].requests, out[1].requests);
	predict_layout_free(in.layout);
	plan_free(&plan);
}

/* Clones share the pool's cache, and what several wait for is fetched once. */
TEST(clones_that_boot_at_once_fetch_what_one_does)
{
	struct predict_result one, ten, late;
	struct boots b;
	struct err e = {""};

	load_boots(&b);
	for (enum predict_variant v = PREDICT_ORIGINAL; v <= PREDICT_REORG_PREFETCH; v++) {
		struct predict_input in = {.records = b.t[1].records,
			.n = b.t[1].n,
			.model = *store_model_find("s3")};

		if (v != PREDICT_ORIGINAL && v != PREDICT_REORG_PREFETCH)
			continue;
		predict_variant_set(&in, v, b.plain, b.reorg, 1 << 20);
		in.clones = 1;
		assert_int_equal(predict_run(&in, &one, &e), 0);
		in.clones = 10;
		assert_int_equal(predict_run(&in, &ten, &e), 0);
		in.apart_ns = 3000000000; /* as if somebody typed ten commands */
		assert_int_equal(predict_run(&in, &late, &e), 0);
		assert_int_equal(ten.reads, 10 * one.reads);
		/* What opening costs each, and no more. */
		assert_true(ten.gets - ten.open_gets <= one.gets - one.open_gets + 4);
		assert_true(ten.get_bytes - one.get_bytes < 2 << 20);
		assert_true(late.get_bytes - one.get_bytes < 2 << 20);
		assert_true(ten.outstanding_ns < one.outstanding_ns * 5 / 4);
	}
	free_boots(&b);
}
