/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_store_filters.c - what the filters add: the model's times, exactly; the faults, by seed. */
#include "store/store.h"
#include "sys/loop_sim.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>

enum { PARTS = 64 };
#define MS 1000000ull

struct timed {
	struct store_req r;
	struct iovec iov;
	char name[32];
	uint64_t at_ns; /* completed, since the test began */
	int64_t status;
	unsigned done, order;
};

struct fix {
	struct loop *l;
	struct mem_objects *o;
	struct store *mem, *s;
	uint64_t start_ns;
	unsigned order;
	struct timed t[PARTS];
	char *buf;
};

static struct fix *current;

static void set_up(struct fix *f, uint64_t seed)
{
	memset(f, 0, sizeof(*f));
	assert_int_equal(loop_sim_new(seed, &f->l, &util_err), 0);
	assert_int_equal(mem_objects_new(&f->o), 0);
	assert_int_equal(store_mem_on(f->l, f->o, &f->mem), 0);
	f->buf = util_bytes(1, 8 << 20);
	current = f;
}

static void tear_down(struct fix *f)
{
	store_close(f->s);
	mem_objects_free(f->o);
	loop_free(f->l);
	free(f->buf);
}

static void on_done(struct store_req *r, int64_t status)
{
	struct timed *t = (struct timed *)r;

	t->at_ns = loop_now(current->l) - current->start_ns;
	t->status = status;
	t->done++;
	t->order = current->order++;
}

static void submit(struct fix *f, int i, enum store_op op, const char *name, size_t len)
{
	struct timed *t = &f->t[i];

	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->iov = (struct iovec){f->buf, len};
	t->r = (struct store_req){.op = op,
		.name = t->name,
		.iov = &t->iov,
		.iovcnt = 1,
		.len_bytes = len,
		.err = &util_err,
		.done = on_done};
	store_submit(f->s, &t->r);
}

static void begin(struct fix *f)
{
	f->start_ns = loop_now(f->l);
	f->order = 0;
}

static void run(struct fix *f)
{
	while (!loop_sim_idle(f->l))
		loop_poll(f->l, LOOP_FOREVER);
}

static void took(const struct fix *f, int i, uint64_t ns)
{
	assert_int_equal(f->t[i].done, 1);
	assert_int_equal(f->t[i].at_ns, ns);
}

/* ---- model ---- */

static void model(struct fix *f, struct model_class c)
{
	set_up(f, 1);
	c.name = "custom";
	assert_int_equal(store_model_new(f->mem, &c, &f->s), 0);
	assert_int_equal(util_put(f->mem, "a/mb", f->buf, 1000000), 0);
	begin(f);
}

TEST(model_one_request_takes_latency_and_transfer)
{
	struct fix f;

	model(&f, (struct model_class){.get_ns = 20 * MS,
			  .put_ns = 30 * MS,
			  .delete_ns = 5 * MS,
			  .list_ns = 7 * MS,
			  .bytes_per_s = 100000000});
	submit(&f, 0, STORE_GET, "a/mb", 1000000);
	run(&f);
	took(&f, 0, 30 * MS); /* 20 ms + 1 MB / 100 MB/s */
	assert_int_equal(f.t[0].status, 1000000);
	begin(&f);
	submit(&f, 0, STORE_PUT, "a/x", 2000000);
	run(&f);
	took(&f, 0, 50 * MS);
	begin(&f);
	submit(&f, 0, STORE_GET, "a/mb", 1); /* 10 ns, rounded up */
	run(&f);
	took(&f, 0, 20 * MS + 10);
	begin(&f);
	submit(&f, 0, STORE_DELETE, "a/x", 0);
	run(&f);
	took(&f, 0, 5 * MS);
	begin(&f);
	submit(&f, 0, STORE_GET, "a/x", 1000); /* nothing is transferred */
	run(&f);
	took(&f, 0, 20 * MS);
	assert_int_equal(f.t[0].status, -ENOENT);
	tear_down(&f);
}

TEST(model_rounds_transfers_up)
{
	struct fix f;

	model(&f, (struct model_class){.bytes_per_s = 300000000});
	submit(&f, 0, STORE_GET, "a/mb", 1);
	run(&f);
	took(&f, 0, 4); /* 3.33 ns */
	tear_down(&f);
}

TEST(model_latencies_overlap_and_transfers_do_not)
{
	struct fix f;

	model(&f, (struct model_class){
			  .get_ns = 20 * MS, .put_ns = 30 * MS, .bytes_per_s = 100000000});
	submit(&f, 0, STORE_PUT, "a/x", 1000000);
	for (int i = 1; i < 4; i++)
		submit(&f, i, STORE_GET, "a/mb", 1000000);
	run(&f);
	took(&f, 1, 30 * MS); /* ready at 20, in order of submission */
	took(&f, 2, 40 * MS);
	took(&f, 3, 50 * MS);
	took(&f, 0, 60 * MS); /* ready at 30, then behind the GETs on the link */
	tear_down(&f);
}

TEST(model_parallel_limits_those_being_served)
{
	struct fix f;

	model(&f,
		(struct model_class){.get_ns = 10 * MS, .bytes_per_s = 1000000000, .parallel = 2});
	for (int i = 0; i < 5; i++)
		submit(&f, i, STORE_GET, "a/mb", 1000000); /* 1 ms each on the link */
	run(&f);
	took(&f, 0, 11 * MS);
	took(&f, 1, 12 * MS);
	took(&f, 2, 22 * MS); /* starts at 11 */
	took(&f, 3, 23 * MS); /* starts at 12 */
	took(&f, 4, 33 * MS);
	tear_down(&f);
}

TEST(model_hdd_does_one_thing_after_the_other)
{
	struct fix f;

	model(&f, *store_model_find("hdd"));
	submit(&f, 0, STORE_GET, "a/mb", 150000);
	submit(&f, 1, STORE_GET, "a/mb", 150000);
	run(&f);
	took(&f, 0, 9 * MS);
	took(&f, 1, 18 * MS);
	tear_down(&f);
}

TEST(model_stops_and_goes_on)
{
	struct fix f;

	model(&f, (struct model_class){.get_ns = 10 * MS,
			  .put_ns = 30 * MS,
			  .bytes_per_s = 100000000,
			  .stop_at_ns = 15 * MS,
			  .stop_for_ns = 1000 * MS});
	submit(&f, 0, STORE_GET, "a/mb", 400000);  /* on the link from 10 to 14 */
	submit(&f, 1, STORE_GET, "a/mb", 1000000); /* from 14: 1 of 10 ms before the stop */
	submit(&f, 2, STORE_PUT, "a/x", 1000000);  /* half its latency before the stop */
	run(&f);
	took(&f, 0, 14 * MS);
	took(&f, 1, 1024 * MS);
	took(&f, 2, 1040 * MS);
	tear_down(&f);
}

TEST(model_that_has_stopped_begins_nothing)
{
	struct fix f;

	model(&f, (struct model_class){.get_ns = 10 * MS, .stop_for_ns = 1000 * MS});
	submit(&f, 0, STORE_GET, "a/mb", 1);
	run(&f);
	took(&f, 0, 1010 * MS);
	begin(&f);
	submit(&f, 0, STORE_GET, "a/mb", 1); /* afterwards it is as before */
	run(&f);
	took(&f, 0, 10 * MS);
	tear_down(&f);
}

TEST(model_without_limits_takes_no_time)
{
	struct fix f;

	model(&f, (struct model_class){0});
	submit(&f, 0, STORE_GET, "a/mb", 1000000);
	run(&f);
	took(&f, 0, 0);
	tear_down(&f);
}

TEST(model_urls_set_the_class)
{
	struct loop *l;
	struct store *s;
	char c;

	assert_int_equal(loop_sim_new(1, &l, &util_err), 0);
	s = util_open(l, "model:custom,lat=20ms,put=1.5s,bw=1K,parallel=1:mem:modelurl", 0);
	assert_int_equal(util_put(s, "a/x", "0123456789", 10), 0);
	assert_int_equal(loop_now(l), 1510 * MS);
	assert_int_equal(util_get(s, "a/x", 0, &c, 1), 1);
	assert_int_equal(loop_now(l), 1531 * MS);
	assert_string_equal(s->kind, "model");
	store_close(s);
	loop_free(l);
}

/* ---- faults ---- */

static void fault(struct fix *f, struct fault_rules r, uint64_t loop_seed)
{
	set_up(f, loop_seed);
	assert_int_equal(store_fault_new(f->mem, &r, &f->s), 0);
	begin(f);
}

/* 60 PUTs under mixed faults: who fails, when, in which order, as one text. */
static void story(char *out, size_t room, uint64_t seed, uint64_t loop_seed)
{
	struct fault_rules r = {.seed = seed,
		.delay_max_ns = 50 * MS,
		.fail_ppm = {[STORE_PUT] = 200000},
		.fail_after_ppm = {[STORE_PUT] = 200000}};
	struct fix f;
	char name[32];
	size_t n = 0;

	fault(&f, r, loop_seed);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		submit(&f, i, STORE_PUT, name, 1);
	}
	run(&f);
	for (int i = 0; i < 60; i++)
		n += (size_t)snprintf(out + n, room - n, "%d@%llu#%u ", (int)f.t[i].status,
			(unsigned long long)f.t[i].at_ns, f.t[i].order);
	tear_down(&f);
}

TEST(fault_one_seed_is_one_story)
{
	static char a[8192], b[8192];

	story(a, sizeof(a), 5, 1);
	story(b, sizeof(b), 5, 2);
	assert_string_equal(a, b);
	assert_non_null(strstr(a, "-5@"));
	assert_non_null(strstr(a, "-110@"));
	story(b, sizeof(b), 6, 1);
	assert_string_not_equal(a, b);
	story(a, sizeof(a), 0, 7); /* the loop's randomness */
	story(b, sizeof(b), 0, 7);
	assert_string_equal(a, b);
	story(b, sizeof(b), 0, 8);
	assert_string_not_equal(a, b);
}

TEST(fault_requests_overtake_each_other)
{
	struct fix f;
	bool overtaken = false;

	fault(&f, (struct fault_rules){.seed = 3, .delay_min_ns = 5 * MS, .delay_max_ns = 9 * MS},
		1);
	for (int i = 0; i < 20; i++)
		submit(&f, i, STORE_GET, "a/x", 1);
	run(&f);
	for (int i = 0; i < 20; i++) {
		assert_in_range(f.t[i].at_ns, 5 * MS, 9 * MS);
		overtaken |= i && f.t[i].order < f.t[i - 1].order;
	}
	assert_true(overtaken);
	tear_down(&f);
}

TEST(fault_delays_before_or_after_the_effect)
{
	struct fix f;
	char name[32], c;
	int early = 0, late = 0;

	fault(&f, (struct fault_rules){.seed = 3, .delay_min_ns = 9 * MS, .delay_max_ns = 9 * MS},
		1);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		submit(&f, i, STORE_PUT, name, 1);
	}
	for (int i = 0; i < 20; i++) { /* asked below the filter, before any is done */
		snprintf(name, sizeof(name), "a/%d", i);
		if (util_get(f.mem, name, 0, &c, 1) == 1)
			early++;
		else
			late++;
		assert_int_equal(f.t[i].done, 0);
	}
	assert_true(early > 3 && late > 3);
	run(&f);
	for (int i = 0; i < 20; i++)
		assert_int_equal(f.t[i].status, 0);
	tear_down(&f);
}

TEST(fault_failed_is_not_applied)
{
	struct fix f;
	char c;

	fault(&f, (struct fault_rules){.seed = 3, .fail_ppm = {[STORE_PUT] = 1000000}}, 1);
	assert_int_equal(util_put(f.s, "a/x", "x", 1), -EIO);
	assert_non_null(strstr(util_err.msg, "a/x"));
	assert_int_equal(util_get(f.s, "a/x", 0, &c, 1), -ENOENT);
	store_fault_rules(f.s)->fail_ppm[STORE_PUT] = 0;
	assert_int_equal(util_put(f.s, "a/x", "x", 1), 0);
	assert_int_equal(f.s->counts.ops[STORE_PUT], 2);
	assert_int_equal(f.s->counts.errors[STORE_PUT], 1);
	assert_int_equal(f.mem->counts.ops[STORE_PUT], 1);
	tear_down(&f);
}

TEST(fault_failed_after_is_applied)
{
	struct fix f;
	char c = 0, tag[STORE_TAG_MAX];

	fault(&f,
		(struct fault_rules){
			.seed = 3, .fail_after_ppm = {1000000, [STORE_SWAP] = 1000000}},
		1);
	assert_int_equal(util_put(f.s, "a/x", "x", 1), -ETIMEDOUT);
	assert_int_equal(util_get(f.s, "a/x", 0, &c, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(util_put(f.s, "a/x", "x", 1), -EEXIST);
	assert_int_equal(util_swap(f.s, "a/s", "", "1", 1), -ETIMEDOUT);
	assert_string_equal(util_tag, "");
	assert_int_equal(util_get(f.s, "a/s", 0, &c, 1), 1);
	memcpy(tag, util_tag, sizeof(tag));
	assert_int_equal(util_swap(f.s, "a/s", tag, "2", 1), -ETIMEDOUT);
	assert_string_equal(util_tag, tag);
	assert_int_equal(util_swap(f.s, "a/s", tag, "3", 1), -ESTALE);
	tear_down(&f);
}

TEST(fault_short_get_is_an_error)
{
	struct fix f;
	char buf[100] = {0}, zero[100] = {0};

	fault(&f, (struct fault_rules){.seed = 3, .short_get_ppm = 1000000}, 1);
	assert_int_equal(util_put(f.s, "a/x", zero, 100), 0);
	assert_int_equal(util_get(f.s, "a/x", 0, buf, 100), -EIO);
	assert_memory_not_equal(buf, zero, 100);
	tear_down(&f);
}

TEST(fault_full_and_gone)
{
	struct fix f;
	char c;

	fault(&f, (struct fault_rules){.seed = 3}, 1);
	assert_int_equal(util_put(f.s, "a/x", "x", 1), 0);
	store_fault_rules(f.s)->full = true;
	assert_int_equal(util_put(f.s, "a/y", "y", 1), -ENOSPC);
	assert_int_equal(util_swap(f.s, "a/s", "", "y", 1), -ENOSPC);
	assert_int_equal(util_get(f.s, "a/x", 0, &c, 1), 1);
	assert_int_equal(util_delete(f.s, "a/x"), 0);
	store_fault_rules(f.s)->full = false;
	store_fault_rules(f.s)->gone = true;
	assert_int_equal(util_get(f.s, "a/x", 0, &c, 1), -EIO);
	assert_int_equal(util_put(f.s, "a/y", "y", 1), -EIO);
	assert_int_equal(util_delete(f.s, "a/x"), -EIO);
	assert_int_equal(util_lock(f.s, "a", "me"), -EIO);
	assert_null(util_list(f.s, ""));
	store_fault_rules(f.s)->gone = false;
	assert_int_equal(util_put(f.s, "a/y", "y", 1), 0);
	assert_string_equal(util_list(f.s, ""), "a/y:1 ");
	assert_null(store_fault_rules(f.mem));
	tear_down(&f);
}

TEST(fault_full_in_the_middle)
{
	struct fix f;
	char data[100] = {0};

	fault(&f, (struct fault_rules){.seed = 3, .full_after = 250}, 1);
	assert_int_equal(util_put(f.s, "a/1", data, 100), 0);
	assert_int_equal(util_swap(f.s, "a/s", "", data, 100), 0);
	assert_int_equal(util_put(f.s, "a/2", data, 100), -ENOSPC);
	assert_int_equal(util_put(f.s, "a/3", data, 1), -ENOSPC);
	assert_int_equal(util_get(f.s, "a/1", 0, data, 100), 100);
	assert_string_equal(util_list(f.s, ""), "a/1:100 a/s:100 ");
	tear_down(&f);
}

TEST(fault_stale_list_lies_about_what_is_recent)
{
	struct fix f;
	unsigned truth = 0, hidden = 0, ghost = 0;

	fault(&f, (struct fault_rules){.seed = 9, .stale_list_ppm = 500000}, 1);
	assert_int_equal(
		util_put(f.mem, "a/0", "old", 3), 0); /* not through the filter: never lied about */
	assert_int_equal(util_put(f.s, "a/1", "one", 3), 0);
	assert_int_equal(util_put(f.s, "a/2", "two!", 4), 0);
	assert_int_equal(util_put(f.s, "b/1", "x", 1), 0);
	assert_int_equal(util_delete(f.s, "a/2"), 0);
	for (int i = 0; i < 100; i++) {
		const char *got = util_list(f.s, "a/");

		if (!strcmp(got, "a/0:3 a/1:3 "))
			truth++;
		else if (!strcmp(got, "a/0:3 "))
			hidden++;
		else if (!strcmp(got, "a/0:3 a/1:3 a/2:4 "))
			ghost++;
		else
			fail_msg("listed '%s'", got);
	}
	assert_in_range(truth, 30, 70);
	assert_true(hidden > 5 && ghost > 5);
	assert_string_equal(util_list(f.s, "c/"), "");
	tear_down(&f);
}

TEST(fault_urls_set_the_rules)
{
	struct loop *l;
	struct store *s;
	struct fault_rules *r;

	assert_int_equal(loop_sim_new(1, &l, &util_err), 0);
	s = util_open(l,
		"fault:seed=4,delay_min=1ms,delay_max=2ms,fail=10,fail_get=20,fail_after_put=30,"
		"short_get=40,stale_list=50,full_after=60,full:mem:faulturl",
		0);
	r = store_fault_rules(s);
	assert_int_equal(r->seed, 4);
	assert_int_equal(r->delay_min_ns, MS);
	assert_int_equal(r->delay_max_ns, 2 * MS);
	assert_int_equal(r->fail_ppm[STORE_PUT], 10);
	assert_int_equal(r->fail_ppm[STORE_GET], 20);
	assert_int_equal(r->fail_after_ppm[STORE_PUT], 30);
	assert_int_equal(r->fail_after_ppm[STORE_GET], 0);
	assert_int_equal(r->short_get_ppm, 40);
	assert_int_equal(r->stale_list_ppm, 50);
	assert_int_equal(r->full_after, 60);
	assert_true(r->full && !r->gone);
	store_close(s);
	loop_free(l);
}

/* What a crash forgot has not happened; what was done is there. */
TEST(mem_objects_outlive_a_crash)
{
	struct fix f;
	struct loop *l2;
	struct store *s2;
	char c;

	set_up(&f, 1);
	f.s = f.mem;
	assert_int_equal(util_lock(f.s, "a", "the dead"), 0);
	assert_int_equal(util_put(f.s, "a/done", "x", 1), 0);
	submit(&f, 0, STORE_PUT, "a/lost", 1);
	loop_sim_crash(f.l);
	store_close(f.s);
	loop_free(f.l);
	assert_int_equal(loop_sim_new(2, &l2, &util_err), 0);
	assert_int_equal(store_mem_on(l2, f.o, &s2), 0);
	assert_int_equal(util_get(s2, "a/done", 0, &c, 1), 1);
	assert_int_equal(util_get(s2, "a/lost", 0, &c, 1), -ENOENT);
	assert_int_equal(util_lock(s2, "a", "the next"), 0);
	assert_int_equal(f.t[0].done, 0);
	f.s = s2;
	f.l = l2;
	tear_down(&f);
}

/* ---- a memory store's copy ---- */

TEST(a_copy_shares_what_was_there_and_goes_its_own_way)
{
	struct mem_objects *o, *c;
	struct fingerprint before = {0}, copied = {0}, changed = {0}, after = {0};
	struct loop *l;
	struct store *s, *t;
	uint8_t big[200 << 10] = {1}, got[200 << 10];

	assert_int_equal(loop_sim_new(1, &l, NULL), 0);
	assert_int_equal(mem_objects_new(&o), 0);
	assert_int_equal(store_mem_on(l, o, &s), 0);
	assert_int_equal(util_put(s, "v/large", big, sizeof(big)), 0);
	assert_int_equal(util_put(s, "v/small", big, 10), 0);
	assert_int_equal(util_swap(s, "v/super", "", big, 20), 0);
	mem_objects_fingerprint(o, &before);
	assert_int_equal(mem_objects_copy(o, &c), 0);
	mem_objects_fingerprint(c, &copied);
	assert_memory_equal(&before, &copied, sizeof(before));
	assert_int_equal(store_mem_on(l, c, &t), 0);
	assert_int_equal(util_delete(t, "v/large"), 0);
	assert_int_equal(util_swap(t, "v/super", "3", big, 30), 0);
	assert_int_equal(util_put(t, "v/new", big, sizeof(big)), 0);
	mem_objects_fingerprint(c, &changed);
	assert_memory_not_equal(&before, &changed, sizeof(before));
	store_close(t);
	mem_objects_free(c);
	mem_objects_fingerprint(o, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(util_get(s, "v/large", 0, got, sizeof(got)), (int64_t)sizeof(got));
	assert_memory_equal(got, big, sizeof(got));
	store_close(s);
	mem_objects_free(o);
	loop_free(l);
}
