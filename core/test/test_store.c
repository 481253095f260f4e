/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_store.c - what every store promises: each CASE runs on each KIND of store.
 *
 * LSVD_TEST_STORES has the URLs of more stores, with commas in between (`rados:POOL`, `s3:BUCKET`):
 * each case runs on each of them too, in a part of its own that is empty at the end.  Their
 * settings are in the configuration files (LSVD_SYSTEM_CONFIG).
 */
#include "lsvd.h"
#include "store/store.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>
#include <unistd.h>

struct fix {
	struct loop *l;
	struct store *s;
	char url[300];
};

static unsigned made;

static struct loop *new_loop(bool real)
{
	struct loop *l = NULL;
	int rc =
		real ? loop_uring_new(64, &l, &util_err) : loop_sim_new(test_seed(), &l, &util_err);

	if (rc)
		fail_msg("%s", err_text(&util_err, rc));
	return l;
}

/* `url` has one %s: a name that no other test uses. */
static struct fix set_up(const char *url, bool real)
{
	struct fix f = {.l = new_loop(real)};
	const char *mark = strstr(url, "%s");

	assert_non_null(mark);
	snprintf(f.url, sizeof(f.url), "%.*s%s/s%u%s", (int)(mark - url), url,
		real ? test_dir() : "", made++, mark + 2);
	if (!real || strstr(f.url, "mem:")) /* "mem:/s1" is no name */
		snprintf(f.url, sizeof(f.url), "%.*ss%u", (int)(mark - url), url, made);
	f.s = util_open(f.l, f.url, STORE_CREATE);
	return f;
}

static void tear_down(struct fix *f)
{
	store_close(f->s);
	loop_free(f->l);
}

/* ---- the cases ---- */

static void check_ranges(struct fix *f, const char *name, const char *want, size_t len, uint64_t *x)
{
	char *buf = util_bytes(1, len + 16384);

	for (int i = 0; i < 20; i++) {
		uint64_t off = test_rand(x) % (len + 2), n = test_rand(x) % (len + 5000);
		uint64_t left = off < len ? len - off : 0;
		size_t expect = n < left ? n : left;

		if (i & 1) { /* as a block cache asks */
			off &= ~4095ull;
			n = (n + 4095) & ~4095ull;
			left = len - off;
			expect = n < left ? n : left;
		}
		memset(buf, 0xaa, len + 16384);
		assert_int_equal(util_get(f->s, name, off, buf, n), expect);
		assert_int_equal(util_size, len);
		assert_true(!expect || !memcmp(buf, want + off, expect));
		assert_int_equal((uint8_t)buf[n], 0xaa);
	}
	free(buf);
}

static void case_what_is_put_is_got(struct fix *f)
{
	static const size_t sizes[] = {0, 1, 511, 512, 4096, 5000, 300000, (1 << 20) + 7, 2 << 20};
	uint64_t x = test_seed() | 1;
	char name[32];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *want = util_bytes(i + x, sizes[i]);

		snprintf(name, sizeof(name), "a/%zu", i);
		assert_int_equal(util_put(f->s, name, want, sizes[i]), 0);
		check_ranges(f, name, want, sizes[i], &x);
		free(want);
	}
}

/* Many small pieces of memory, cut anywhere or at sectors. */
static void gather(struct fix *f, const char *name, size_t grain, struct store_pace *pace)
{
	enum { LEN = 1 << 20, PARTS = 2000 };
	char *want = util_bytes(7, LEN), *got = util_bytes(8, LEN);
	struct iovec *iov = calloc(PARTS, sizeof(*iov));
	uint64_t x = test_seed() | 1;
	size_t at = 0;
	struct store_req r = {.op = STORE_PUT,
		.name = name,
		.iov = iov,
		.len_bytes = LEN,
		.pace = pace,
		.err = &util_err};

	while (at < LEN) {
		size_t n = test_rand(&x) % (3 * LEN / PARTS) / grain * grain;

		if (r.iovcnt == PARTS - 1 || n > LEN - at)
			n = LEN - at;
		iov[r.iovcnt++] = (struct iovec){want + at, n};
		at += n;
	}
	assert_int_equal(store_wait(f->s, &r), 0);
	assert_int_equal(util_get(f->s, name, 0, got, LEN), LEN);
	assert_memory_equal(want, got, LEN);
	r.op = STORE_GET;
	r.off_bytes = 0;
	memset(want, 0, LEN);
	assert_int_equal(store_wait(f->s, &r), LEN);
	assert_memory_equal(want, got, LEN);
	free(iov);
	free(want);
	free(got);
}

static void case_fragments_are_gathered(struct fix *f)
{
	gather(f, "a/x", 1, NULL);
	gather(f, "a/y", 512, NULL);
	gather(f, "a/z", 512, &(struct store_pace){.piece_bytes = 64 << 10, .pieces_in_flight = 4});
	gather(f, "a/w", 512,
		&(struct store_pace){
			.piece_bytes = 64 << 10, .pieces_in_flight = 1, .rests = true});
}

static void case_a_name_is_put_once(struct fix *f)
{
	char got[8];

	assert_int_equal(util_put(f->s, "a/x", "first", 5), 0);
	assert_int_equal(util_put(f->s, "a/x", "second", 6), -EEXIST);
	assert_true(util_err.msg[0]);
	assert_int_equal(util_get(f->s, "a/x", 0, got, 8), 5);
	assert_memory_equal(got, "first", 5);
	assert_string_equal(util_list(f->s, "a/"), "a/x:5 ");
}

static void case_what_is_missing_is_said_so(struct fix *f)
{
	char got[8];

	assert_int_equal(util_get(f->s, "a/x", 0, got, 8), -ENOENT);
	assert_true(strstr(util_err.msg, "a/x") || util_err.msg[0]);
	assert_int_equal(util_delete(f->s, "a/x"), 0);
	assert_string_equal(util_list(f->s, "a/"), "");
	assert_string_equal(util_list(f->s, ""), "");
}

/* Deleted and put again, in every relation of sizes: nothing of the old bytes shows. */
static void case_a_deleted_name_is_free(struct fix *f)
{
	static const size_t sizes[] = {
		3 << 20, 2 << 20, (2 << 20) + 4096, 5 << 20, (1 << 20) + 77, 100};
	char *got = util_bytes(0, 6 << 20);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *want = util_bytes(i + 100, sizes[i]);

		assert_int_equal(util_put(f->s, "a/x", want, sizes[i]), 0);
		assert_int_equal(util_get(f->s, "a/x", 0, got, 6 << 20), sizes[i]);
		assert_int_equal(util_size, sizes[i]);
		assert_memory_equal(want, got, sizes[i]);
		assert_int_equal(util_delete(f->s, "a/x"), 0);
		assert_int_equal(util_get(f->s, "a/x", 0, got, 8), -ENOENT);
		assert_int_equal(util_delete(f->s, "a/x"), 0);
		free(want);
	}
	free(got);
}

static int stop_at_second(struct store_req *r, const char *name, uint64_t size)
{
	(void)name, (void)size;
	return ++r->off_bytes == 2 ? 42 : 0;
}

static void case_list_is_sorted_and_by_prefix(struct fix *f)
{
	struct store_req r = {.op = STORE_LIST, .name = "a/", .item = stop_at_second};

	assert_int_equal(util_put(f->s, "a/2", "22", 2), 0);
	assert_int_equal(util_put(f->s, "b/1", "1", 1), 0);
	assert_int_equal(util_put(f->s, "a/10", "x", 1), 0);
	assert_int_equal(util_put(f->s, "ab/1", "333", 3), 0);
	assert_int_equal(util_put(f->s, "a/1", "", 0), 0);
	assert_string_equal(util_list(f->s, "a/"), "a/1:0 a/10:1 a/2:2 ");
	assert_string_equal(util_list(f->s, "a/1"), "a/1:0 a/10:1 ");
	assert_string_equal(util_list(f->s, "a"), "a/1:0 a/10:1 a/2:2 ab/1:3 ");
	assert_string_equal(util_list(f->s, ""), "a/1:0 a/10:1 a/2:2 ab/1:3 b/1:1 ");
	assert_string_equal(util_list(f->s, "c/"), "");
	assert_int_equal(store_wait(f->s, &r), 42);
	assert_int_equal(r.off_bytes, 2);
}

static void case_swap_compares(struct fix *f)
{
	char first[STORE_TAG_MAX], second[STORE_TAG_MAX], got[16];

	assert_int_equal(util_swap(f->s, "a/super", "nonsense", "x", 1), -ESTALE);
	assert_int_equal(util_get(f->s, "a/super", 0, got, 16), -ENOENT);
	assert_int_equal(util_swap(f->s, "a/super", "", "one", 3), 0);
	memcpy(first, util_tag, sizeof(first));
	assert_true(first[0]);
	assert_int_equal(util_swap(f->s, "a/super", "", "two", 3), -EEXIST);
	assert_int_equal(util_get(f->s, "a/super", 0, got, 16), 3);
	assert_string_equal(util_tag, first);
	assert_memory_equal(got, "one", 3);
	assert_int_equal(util_swap(f->s, "a/super", first, "second", 6), 0);
	memcpy(second, util_tag, sizeof(second));
	assert_string_not_equal(first, second);
	assert_int_equal(util_swap(f->s, "a/super", first, "third", 5), -ESTALE);
	assert_string_equal(util_tag, first); /* untouched */
	assert_true(util_err.msg[0]);
	assert_int_equal(util_get(f->s, "a/super", 0, got, 16), 6);
	assert_memory_equal(got, "second", 6);
	assert_string_equal(util_tag, second);
	assert_int_equal(util_swap(f->s, "a/super", second, "one", 3), 0);
	assert_int_equal(
		util_swap(f->s, "a/super", first, "x", 1), -ESTALE); /* same bytes, later */
	assert_string_equal(util_list(f->s, "a/"), "a/super:3 ");
}

static void case_the_lock_has_one_holder(struct fix *f)
{
	struct store *other = util_open(f->l, f->url, 0);

	assert_int_equal(util_lock(f->s, "a", "host one, process 1"), 0);
	assert_int_equal(util_lock(other, "a", "host two"), -EBUSY);
	assert_non_null(strstr(util_err.msg, "host one, process 1"));
	assert_int_equal(util_lock(f->s, "a", "me again"), -EBUSY);
	assert_int_equal(util_lock(other, "b", "host two"), 0);
	assert_int_equal(util_unlock(other, "a"), 0); /* not its own: no effect */
	assert_int_equal(util_lock(other, "a", "host two"), -EBUSY);
	assert_int_equal(util_unlock(f->s, "a"), 0);
	assert_int_equal(util_lock(other, "a", "host two"), 0);
	assert_int_equal(util_lock(f->s, "a", "host one"), -EBUSY);
	assert_non_null(strstr(util_err.msg, "host two"));
	store_close(other); /* dies with its locks */
	assert_int_equal(util_lock(f->s, "a", "host one"), 0);
	assert_int_equal(util_lock(f->s, "b", "host one"), 0);
	assert_int_equal(util_unlock(f->s, "b"), 0);
	assert_string_equal(util_list(f->s, ""), "");
}

/* Who has it taken away learns it at the next change, and the other's stays. */
static void case_a_lock_can_be_stolen(struct fix *f)
{
	struct store *thief = util_open(f->l, f->url, 0);
	char tag[STORE_TAG_MAX], got[8];

	assert_int_equal(util_ask(f->s, "a"), 0);
	assert_int_equal(util_lock(f->s, "a", "the first"), 0);
	assert_int_equal(util_ask(f->s, "a"), 0); /* its own */
	assert_int_equal(util_ask(thief, "a"), -EBUSY);
	assert_string_equal(util_err.msg, "the first");
	assert_int_equal(util_swap(f->s, "a/super", "", "1", 1), 0);
	memcpy(tag, util_tag, sizeof(tag));
	assert_int_equal(util_lock(thief, "a", "the thief"), -EBUSY);
	assert_int_equal(util_steal(thief, "a", "the thief"), 0);
	assert_int_equal(util_ask(thief, "a"), 0);
	assert_int_equal(util_ask(f->s, "a"), -EBUSY);
	assert_string_equal(util_err.msg, "the thief");
	assert_int_equal(util_swap(f->s, "a/super", tag, "2", 1), -ESTALE);
	assert_true(util_err.msg[0]);
	assert_int_equal(util_get(thief, "a/super", 0, got, 8), 1);
	assert_memory_equal(got, "1", 1);
	assert_int_equal(util_swap(thief, "a/super", util_tag, "3", 1), 0);
	memcpy(tag, util_tag, sizeof(tag));
	assert_int_equal(util_lock(f->s, "a", "the first again"), -EBUSY);
	assert_non_null(strstr(util_err.msg, "the thief"));
	assert_int_equal(util_unlock(f->s, "a"), 0); /* it is not its own any more */
	assert_int_equal(util_lock(f->s, "a", "the first again"), -EBUSY);
	assert_int_equal(util_swap(thief, "a/super", tag, "4", 1), 0);
	assert_int_equal(util_unlock(thief, "a"), 0);
	assert_int_equal(util_ask(f->s, "a"), 0);
	assert_int_equal(util_lock(f->s, "a", "the first again"), 0);
	assert_int_equal(util_steal(thief, "b", "nobody had it"), 0);
	store_close(thief);
}

static void case_a_lock_outlives_its_objects(struct fix *f)
{
	struct store *other = util_open(f->l, f->url, 0);

	assert_int_equal(util_lock(f->s, "a", "one"), 0);
	assert_int_equal(util_put(f->s, "a/x", "x", 1), 0);
	assert_int_equal(util_delete(f->s, "a/x"), 0);
	assert_int_equal(util_put(f->s, "a/y", "y", 1), 0);
	assert_int_equal(util_delete(f->s, "a/y"), 0);
	assert_int_equal(util_unlock(f->s, "a"), 0);
	assert_int_equal(util_lock(other, "a", "two"), 0);
	assert_int_equal(util_lock(f->s, "a", "one"), -EBUSY);
	store_close(other);
}

static void case_handles_share_the_objects(struct fix *f)
{
	struct store *other = util_open(f->l, f->url, 0);
	char got[8];

	assert_int_equal(util_put(f->s, "a/x", "hello", 5), 0);
	assert_int_equal(util_get(other, "a/x", 0, got, 8), 5);
	assert_int_equal(util_swap(f->s, "a/s", "", "1", 1), 0);
	assert_int_equal(util_get(f->s, "a/s", 0, got, 8), 1);
	assert_int_equal(util_get(other, "a/s", 0, got, 8), 1);
	assert_int_equal(util_swap(other, "a/s", util_tag, "22", 2), 0);
	assert_int_equal(util_get(f->s, "a/s", 0, got, 8), 2);
	assert_int_equal(util_delete(other, "a/x"), 0);
	assert_int_equal(util_put(f->s, "a/x", "again!", 6), 0);
	store_close(f->s);
	f->s = other;
	assert_int_equal(util_get(f->s, "a/x", 0, got, 8), 6);
	assert_memory_equal(got, "again!", 6);
	assert_string_equal(util_list(f->s, ""), "a/s:2 a/x:6 ");
}

static void case_bad_names_are_refused(struct fix *f)
{
	static const char *const bad[] = {"", "x", "/x", "a/", "a/../b", "../a", "a/b/c", ".a/b",
		"a/.b", "a/b c", "a/\n", "a//b"};
	char got[8], longest[STORE_NAME_MAX + 2];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(util_put(f->s, bad[i], "x", 1), -EINVAL);
		assert_int_equal(util_get(f->s, bad[i], 0, got, 8), -EINVAL);
		assert_int_equal(util_delete(f->s, bad[i]), -EINVAL);
	}
	memset(longest, 'n', sizeof(longest));
	memcpy(longest, "a/", 2);
	longest[STORE_NAME_MAX + 1] = 0;
	assert_int_equal(util_put(f->s, longest, "x", 1), -EINVAL);
	longest[STORE_NAME_MAX] = 0;
	assert_int_equal(util_put(f->s, longest, "x", 1), 0);
	assert_int_equal(util_get(f->s, longest, 0, got, 8), 1);
	assert_int_equal(util_lock(f->s, "../a", "x"), -EINVAL);
	assert_int_equal(util_lock(f->s, "a/b", "x"), -EINVAL);
}

static void case_requests_are_counted(struct fix *f)
{
	const struct store_counts *c = &f->s->counts;
	char got[100];

	assert_int_equal(util_put(f->s, "a/x", "0123456789", 10), 0);
	assert_int_equal(util_put(f->s, "a/x", "0123456789", 10), -EEXIST);
	assert_int_equal(util_get(f->s, "a/x", 4, got, 100), 6);
	assert_int_equal(util_get(f->s, "a/y", 0, got, 100), -ENOENT);
	assert_int_equal(util_swap(f->s, "a/s", "", "123", 3), 0);
	assert_non_null(util_list(f->s, ""));
	assert_int_equal(util_delete(f->s, "a/x"), 0);
	assert_int_equal(c->ops[STORE_PUT], 2);
	assert_int_equal(c->errors[STORE_PUT], 1);
	assert_int_equal(c->ops[STORE_GET], 2);
	assert_int_equal(c->errors[STORE_GET], 1);
	assert_int_equal(c->ops[STORE_SWAP] + c->ops[STORE_LIST] + c->ops[STORE_DELETE], 3);
	assert_int_equal(c->put_bytes, 13);
	assert_int_equal(c->get_bytes, 6);
}

/* ---- many at once ---- */

enum { MANY = 40, MANY_LEN = 70000 };

struct many {
	struct store_req r;
	struct iovec iov;
	char name[32];
	unsigned done;
	int64_t status;
	bool inside; /* submit is running */
};

static void many_done(struct store_req *r, int64_t status)
{
	struct many *m = (struct many *)r;

	assert_false(m->inside);
	m->done++;
	m->status = status;
}

static void submit_one(struct fix *f, struct many *m, enum store_op op)
{
	m->r.op = op;
	m->r.name = m->name;
	m->r.iov = &m->iov;
	m->r.iovcnt = 1;
	m->r.len_bytes = m->iov.iov_len;
	m->r.done = many_done;
	m->done = 0;
	m->inside = true;
	store_submit(f->s, &m->r);
	m->inside = false;
}

static void wait_all(struct fix *f, const struct many *m, int n)
{
	for (int i = 0; i < n; i++)
		while (!m[i].done)
			loop_poll(f->l, LOOP_FOREVER);
	for (int i = 0; i < n; i++)
		assert_int_equal(m[i].done, 1);
}

static void case_many_at_once(struct fix *f)
{
	struct many *m = calloc(MANY, sizeof(*m));
	char *want = util_bytes(3, MANY_LEN + MANY), *got = util_bytes(4, MANY * MANY_LEN);

	for (int i = 0; i < MANY; i++) {
		snprintf(m[i].name, sizeof(m[i].name), "%s/%d", i & 1 ? "a" : "b", i);
		m[i].iov = (struct iovec){want + i, MANY_LEN - (size_t)i};
		submit_one(f, &m[i], STORE_PUT);
	}
	wait_all(f, m, MANY);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(m[i].status, 0);
		m[i].iov = (struct iovec){got + i * MANY_LEN, MANY_LEN};
		submit_one(f, &m[i], STORE_GET);
	}
	wait_all(f, m, MANY);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(m[i].status, MANY_LEN - i);
		assert_memory_equal(got + i * MANY_LEN, want + i, (size_t)(MANY_LEN - i));
		submit_one(f, &m[i], STORE_DELETE);
	}
	wait_all(f, m, MANY);
	assert_string_equal(util_list(f->s, ""), "");
	free(m);
	free(want);
	free(got);
}

static void case_many_readers_of_one_object(struct fix *f)
{
	struct many *m = calloc(MANY, sizeof(*m));
	char *want = util_bytes(3, 1 << 20), *got = util_bytes(4, MANY * 8192);

	assert_int_equal(util_put(f->s, "a/x", want, 1 << 20), 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MANY; i++) {
			snprintf(m[i].name, sizeof(m[i].name), "a/x");
			m[i].iov = (struct iovec){got + i * 8192, 8192};
			m[i].r.off_bytes = (uint64_t)i * 8192;
			submit_one(f, &m[i], STORE_GET);
		}
		wait_all(f, m, MANY);
		for (int i = 0; i < MANY; i++)
			assert_int_equal(m[i].status, 8192);
		assert_memory_equal(want, got, MANY * 8192);
		memset(got, 0, MANY * 8192);
	}
	free(m);
	free(want);
	free(got);
}

/* Of many PUTs (then SWAPs) of one name exactly one wins, and its bytes are there. */
static void race(struct fix *f, enum store_op op, const char *name, int loser)
{
	struct many *m = calloc(MANY, sizeof(*m));
	char *bytes = calloc(MANY, 5000), *got = calloc(1, 5000);
	int winner = -1;

	for (int i = 0; i < MANY; i++) {
		memset(bytes + i * 5000, i + 1, 5000);
		snprintf(m[i].name, sizeof(m[i].name), "%s", name);
		m[i].iov = (struct iovec){bytes + i * 5000, 5000};
		submit_one(f, &m[i], op);
	}
	wait_all(f, m, MANY);
	for (int i = 0; i < MANY; i++) {
		if (m[i].status == 0) {
			assert_int_equal(winner, -1);
			winner = i;
		} else {
			assert_int_equal(m[i].status, loser);
		}
	}
	assert_true(winner >= 0);
	assert_int_equal(util_get(f->s, name, 0, got, 5000), 5000);
	assert_memory_equal(got, bytes + winner * 5000, 5000);
	free(m);
	free(bytes);
	free(got);
}

static void case_a_race_has_one_winner(struct fix *f)
{
	race(f, STORE_PUT, "a/x", -EEXIST);
	race(f, STORE_SWAP, "a/s", -EEXIST);
}

/* Random operations, one at a time, against an array. */
static void case_random_operations_agree_with_a_model(struct fix *f)
{
	enum { NAMES = 6, STEPS = 120, MAX = 1500000 };
	uint64_t x = test_seed() * 31 | 1, seed[NAMES] = {0};
	size_t len[NAMES] = {0};
	char *got = util_bytes(0, MAX), name[16];

	for (int step = 0; step < STEPS; step++) {
		int i = (int)(test_rand(&x) % NAMES);
		uint64_t dice = test_rand(&x) % 10;
		size_t n = test_rand(&x) % MAX & (test_rand(&x) % 2 ? ~4095ull : ~0ull);

		snprintf(name, sizeof(name), "v/%d", i);
		if (dice < 4) {
			uint64_t s = test_rand(&x) >> 1;
			char *b = util_bytes(s, n);

			assert_int_equal(util_put(f->s, name, b, n), seed[i] ? -EEXIST : 0);
			if (!seed[i]) {
				seed[i] = s;
				len[i] = n;
			}
			free(b);
		} else if (dice < 7) {
			assert_int_equal(util_delete(f->s, name), 0);
			seed[i] = 0;
		} else if (seed[i]) {
			char *b = util_bytes(seed[i], len[i]);

			assert_int_equal(util_get(f->s, name, 0, got, MAX), len[i]);
			assert_memory_equal(got, b, len[i]);
			free(b);
		} else {
			assert_int_equal(util_get(f->s, name, 0, got, MAX), -ENOENT);
		}
	}
	free(got);
}

/* ---- more than one handle ---- */

/* Two writers that know nothing of each other: of each name exactly one of them makes it, whole. */
static void case_two_writers_race(struct fix *f)
{
	enum { NAMES = 20 };
	struct fix other = {.l = f->l, .s = util_open(f->l, f->url, 0)};
	struct many *m = calloc(2 * NAMES, sizeof(*m));
	char *bytes[2] = {util_bytes(21, MANY_LEN), util_bytes(22, MANY_LEN)};
	char *got = util_bytes(0, MANY_LEN);

	for (int i = 0; i < 2 * NAMES; i++) {
		snprintf(m[i].name, sizeof(m[i].name), "a/%d", i / 2);
		m[i].iov = (struct iovec){bytes[i & 1], MANY_LEN};
		submit_one(i & 1 ? &other : f, &m[i], STORE_PUT);
	}
	wait_all(f, m, 2 * NAMES);
	for (int i = 0; i < 2 * NAMES; i += 2) {
		int winner = m[i].status != 0;

		assert_int_equal(m[i + winner].status, 0);
		assert_int_equal(m[i + !winner].status, -EEXIST);
		assert_int_equal(util_get(f->s, m[i].name, 0, got, MANY_LEN), MANY_LEN);
		assert_memory_equal(got, bytes[winner], MANY_LEN);
	}
	store_close(other.s);
	free(m);
	free(bytes[0]);
	free(bytes[1]);
	free(got);
}

/* What one has just written the other reads, and sees in the list. */
static void case_what_was_just_written_is_read(struct fix *f)
{
	struct store *other = util_open(f->l, f->url, 0);
	char *want = util_bytes(5, 5000), *got = util_bytes(6, 5000), name[16], item[32];
	char tag[STORE_TAG_MAX] = "";

	for (int i = 0; i < 30; i++) {
		size_t len = 1 + (size_t)i * 150;

		snprintf(name, sizeof(name), "a/%02d", i);
		snprintf(item, sizeof(item), "%s:%zu ", name, len);
		assert_int_equal(util_put(f->s, name, want + i, len), 0);
		assert_int_equal(util_get(other, name, 0, got, 5000), len);
		assert_memory_equal(got, want + i, len);
		if (i % 6 == 0)
			assert_non_null(strstr(util_list(other, "a/"), item));
		assert_int_equal(util_swap(f->s, "a/super", tag, name, 4), 0);
		memcpy(tag, util_tag, sizeof(tag));
		assert_int_equal(util_get(other, "a/super", 0, got, 8), 4);
		assert_memory_equal(got, name, 4);
	}
	store_close(other);
	free(want);
	free(got);
}

/* Objects come and go while they are listed: what was there before and stays is in every list, what
 * had gone before in none. */
static void case_listing_during_writes(struct fix *f)
{
	enum { STAY = 20 };
	struct many *m = calloc(MANY, sizeof(*m));
	char *bytes = util_bytes(9, MANY_LEN), name[32];

	for (int i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "a/%02d-stays", i);
		assert_int_equal(util_put(f->s, name, bytes, 10), 0);
		snprintf(name, sizeof(name), "a/%02d-gone", i);
		assert_int_equal(util_put(f->s, name, bytes, 10), 0);
		assert_int_equal(util_delete(f->s, name), 0);
	}
	for (int round = 0; round < 4; round++) {
		const char *list;

		for (int i = 0; i < MANY; i++) {
			snprintf(m[i].name, sizeof(m[i].name), "a/%d", 1000 + i);
			m[i].iov = (struct iovec){bytes, MANY_LEN};
			submit_one(f, &m[i], round & 1 ? STORE_DELETE : STORE_PUT);
		}
		list = util_list(f->s, "a/");
		assert_non_null(list);
		assert_null(strstr(list, "gone"));
		for (int i = 0; i < STAY; i++) {
			snprintf(name, sizeof(name), "a/%02d-stays:10 ", i);
			assert_non_null(strstr(list, name));
		}
		wait_all(f, m, MANY);
		for (int i = 0; i < MANY; i++)
			assert_int_equal(m[i].status, 0);
	}
	free(m);
	free(bytes);
}

static void case_objects_of_every_size(struct fix *f)
{
	static const size_t sizes[] = {0, 8 << 20, 64 << 20};
	char *want = util_bytes(11, 64 << 20), *got = malloc(64 << 20);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = sizes[i], at = n > 5000 ? n - 5000 : 0;

		assert_int_equal(util_put(f->s, "a/x", want, n), 0);
		assert_int_equal(util_get(f->s, "a/x", 0, got, 64 << 20), n);
		assert_int_equal(util_size, n);
		assert_true(!memcmp(want, got, n));
		assert_int_equal(util_get(f->s, "a/x", at, got, 8192), n - at);
		assert_true(!memcmp(want + at, got, n - at));
		assert_int_equal(util_delete(f->s, "a/x"), 0);
	}
	free(want);
	free(got);
}

/* ---- every case on every kind ---- */

#define CASES(K, url, real)                              \
	RUN(K, what_is_put_is_got, url, real)            \
	RUN(K, fragments_are_gathered, url, real)        \
	RUN(K, a_name_is_put_once, url, real)            \
	RUN(K, what_is_missing_is_said_so, url, real)    \
	RUN(K, a_deleted_name_is_free, url, real)        \
	RUN(K, list_is_sorted_and_by_prefix, url, real)  \
	RUN(K, swap_compares, url, real)                 \
	RUN(K, the_lock_has_one_holder, url, real)       \
	RUN(K, a_lock_can_be_stolen, url, real)          \
	RUN(K, a_lock_outlives_its_objects, url, real)   \
	RUN(K, handles_share_the_objects, url, real)     \
	RUN(K, bad_names_are_refused, url, real)         \
	RUN(K, requests_are_counted, url, real)          \
	RUN(K, many_at_once, url, real)                  \
	RUN(K, many_readers_of_one_object, url, real)    \
	RUN(K, a_race_has_one_winner, url, real)         \
	RUN(K, two_writers_race, url, real)              \
	RUN(K, what_was_just_written_is_read, url, real) \
	RUN(K, listing_during_writes, url, real)         \
	RUN(K, objects_of_every_size, url, real)         \
	RUN(K, random_operations_agree_with_a_model, url, real)

#define RUN(K, name_, url_, real_)                  \
	TEST(K##_##name_)                           \
	{                                           \
		struct fix f = set_up(url_, real_); \
		case_##name_(&f);                   \
		tear_down(&f);                      \
	}

CASES(mem, "mem:%s", false)
CASES(mem_real_loop, "mem:%s", true)
CASES(model_mem, "model:s3:mem:%s", false)
CASES(fault_mem, "fault:seed=7,delay=3ms:mem:%s", false)
CASES(model_fault_mem, "model:hdd,parallel=3:fault:delay=1ms:mem:%s", false)
CASES(file, "file:%s", true)
CASES(model_file, "model:ssd:file:%s", true)

/* ---- stores that are named from outside ---- */

static struct fix set_up_extra(const char *base, struct config *cfg)
{
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_config *c = lsvd_config_new(why);
	struct fix f = {.l = new_loop(true)};

	if (!c)
		fail_msg("%s", why);
	snprintf(f.url, sizeof(f.url), "%s/t%d-%u", base, (int)getpid(), made++);
	if (config_resolve(c, f.url, cfg, &util_err))
		fail_msg("%s", util_err.msg);
	lsvd_config_free(c);
	util_cfg = cfg;
	f.s = util_open(f.l, f.url, STORE_CREATE);
	return f;
}

static void tear_down_extra(struct fix *f)
{
	char *list = strdup(util_list(f->s, "")), *at = list, *name;

	while ((name = strsep(&at, " ")))
		if (*name) {
			*strrchr(name, ':') = 0;
			assert_int_equal(util_delete(f->s, name), 0);
		}
	assert_string_equal(util_list(f->s, ""), "");
	free(list);
	tear_down(f);
	util_cfg = NULL;
}

static void run_extra(const char *name, void (*run)(struct fix *f))
{
	char *urls = strdup(getenv("LSVD_TEST_STORES")), *at = urls, *url;

	while ((url = strsep(&at, ","))) {
		struct config cfg;
		struct fix f;

		if (!*url)
			continue;
		f = set_up_extra(url, &cfg);
		print_message("  %s on %s\n", name, f.url);
		run(&f);
		tear_down_extra(&f);
	}
	free(urls);
}

/* Registered only when there are such stores. */
#define EXTRA(name_)                                                                    \
	static void extra_##name_(void **state)                                         \
	{                                                                               \
		(void)state;                                                            \
		run_extra(#name_, case_##name_);                                        \
	}                                                                               \
	__attribute__((constructor)) static void ctor_extra_##name_(void)               \
	{                                                                               \
		static struct test t = {.name = "extra_" #name_, .run = extra_##name_}; \
		if (getenv("LSVD_TEST_STORES") && *getenv("LSVD_TEST_STORES"))          \
			test_register(&t);                                              \
	}
#undef RUN
#define RUN(K, name_, url_, real_) EXTRA(name_)

CASES(extra, "", true)
