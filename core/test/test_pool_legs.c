/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_pool_legs.c - legs that fail, lag, are missing and come back. */
#include "sys/container.h"
#include "test/journal_env.h"

#include "lsvd.h"
#include "pool/pool_impl.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t MS = 1000000;
static const uint8_t alice[16] = "alice", nobody[16];
static char heard[4000];

static void hear(void *arg, const char *text)
{
	size_t n = strlen(heard);

	(void)arg;
	snprintf(heard + n, sizeof(heard) - n, "%s\n", text);
}

static void start(struct penv *v, unsigned legs, const char *acks)
{
	penv_init(v, legs, 8, test_seed());
	snprintf(v->cfg.pool_acks, sizeof(v->cfg.pool_acks), "%s", acks);
	v->cfg.pool_leg_timeout_ms = 50;
	heard[0] = 0;
	lsvd_set_log(hear, NULL);
	penv_open(v);
}

static void stop(struct penv *v)
{
	if (v->pool)
		penv_close(v);
	penv_fini(v);
	lsvd_set_log(NULL, NULL);
}

/* ---- a record ---- */

struct rec {
	struct pool_io io;
	uint8_t *buf;
	int done, over, status;
	bool was_pending;
};

static void rec_done(struct pool_io *io, int status)
{
	struct rec *r = container_of(io, struct rec, io);

	r->done++;
	r->status = status;
	r->was_pending = pool_pending(io);
}

static void rec_over(struct pool_io *io)
{
	container_of(io, struct rec, io)->over++;
}

static void rec_start(
	struct penv *v, struct rec *r, struct segment *s, uint32_t block, uint32_t blocks)
{
	*r = (struct rec){.io = {.seg = s, .block = block, .blocks = blocks, .done = rec_done}};
	assert_int_equal(
		posix_memalign((void **)&r->buf, POOL_BLOCK, (size_t)blocks * POOL_BLOCK), 0);
	for (size_t i = 0; i < (size_t)blocks * POOL_BLOCK; i += 8)
		memcpy(r->buf + i, &(uint64_t){block * 7919u + i + v->seed}, 8);
	pool_append(v->pool, &r->io, r->buf, NULL, rec_over);
	assert_int_equal(r->done, 0);
}

static void rec_await_done(struct penv *v, const struct rec *r)
{
	while (!r->done)
		loop_poll(v->loop, LOOP_FOREVER);
}

static int rec_wait(struct penv *v, struct rec *r)
{
	rec_await_done(v, r);
	while (r->was_pending && !r->over)
		loop_poll(v->loop, LOOP_FOREVER);
	assert_int_equal(r->done, 1);
	assert_int_equal(r->over, r->was_pending);
	free(r->buf);
	return r->status;
}

static int put(struct penv *v, struct segment *s, uint32_t block, uint32_t blocks)
{
	struct rec r;

	rec_start(v, &r, s, block, blocks);
	return rec_wait(v, &r);
}

static int flush(struct penv *v)
{
	struct pool_io io = {0};

	pool_io_awaited(&io);
	pool_flush(v->pool, &io);
	return pool_wait_io(v->pool, &io);
}

static struct segment *take(struct penv *v, enum segment_role role)
{
	struct segment *s;
	struct pool_io io;

	pool_io_awaited(&io);
	assert_int_equal(
		pool_take(v->pool, role, role == SEGMENT_CACHE ? nobody : alice, 1, 1, &s, &io), 0);
	assert_int_equal(pool_wait_io(v->pool, &io), 0);
	return s;
}

/* Most tests begin so: a pool, and a segment of a journal in it. */
static struct segment *begin(struct penv *v, unsigned legs, const char *acks)
{
	start(v, legs, acks);
	return take(v, SEGMENT_JOURNAL);
}

static const char *state_of(const struct penv *v, unsigned leg)
{
	struct pool_leg_info x;

	pool_leg(v->pool, leg, &x);
	return x.state;
}

static void await(struct penv *v, unsigned leg, const char *what)
{
	uint64_t end = loop_now(v->loop) + 600 * 1000 * MS;

	while (strcmp(state_of(v, leg), what)) {
		loop_poll(v->loop, (int64_t)(10 * MS));
		if (loop_now(v->loop) > end)
			fail_msg("leg %u is '%s', never '%s'", leg, state_of(v, leg), what);
	}
}

static void header_of_leg(struct penv *v, unsigned leg, struct pool_header *h)
{
	uint8_t b[POOL_BLOCK];
	struct err e;

	sim_disk_peek(v->disk[leg], 0, b, sizeof(b));
	assert_int_equal(pool_header_decode(b, h, &e), 0);
}

static void assert_same_segment(struct penv *v, const struct segment *s, unsigned a, unsigned b)
{
	size_t n = (size_t)pool_segment_blocks(v->pool) * POOL_BLOCK;
	uint8_t *x = malloc(n), *y = malloc(n);

	sim_disk_peek(v->disk[a], header_at(v->pool, s->index), x, n);
	sim_disk_peek(v->disk[b], header_at(v->pool, s->index), y, n);
	assert_memory_equal(x, y, n);
	free(x), free(y);
}

static void break_leg(struct penv *v, unsigned leg)
{
	sim_disk_model(v->disk[leg])->error_per_million = 1000000;
}

static void heal_leg(struct penv *v, unsigned leg)
{
	*sim_disk_model(v->disk[leg]) = penv_fast_disk();
}

/* It comes back, with all that it missed. */
static void heals(struct penv *v, unsigned leg, const struct segment *s)
{
	heal_leg(v, leg);
	await(v, leg, "in sync");
	if (s)
		assert_same_segment(v, s, 0, 1);
}

/* ---- dropping ---- */

TEST(a_leg_that_fails_is_dropped_and_comes_back)
{
	for (unsigned leg = 0; leg < 2; leg++) {
		struct pool_header h;
		struct segment *s;
		struct err e = {""};
		uint64_t before;
		uint32_t index;
		struct penv v;

		s = begin(&v, 2, "all");
		assert_int_equal(put(&v, s, 1, 8), 0);
		before = pool_generation(v.pool);
		break_leg(&v, leg);
		assert_int_equal(put(&v, s, 9, 8), 0);
		/* The other says so, and it was durable before the write was done. */
		assert_string_equal(state_of(&v, leg), "dropped");
		assert_non_null(strstr(heard, "is dropped: write"));
		header_of_leg(&v, !leg, &h);
		assert_int_equal(h.generation, before + 1);
		assert_int_equal(h.members, 1 << !leg);
		header_of_leg(&v, leg, &h);
		assert_int_equal(h.generation, before);
		assert_int_equal(put(&v, s, 17, 8), 0);
		assert_int_equal(flush(&v), 0);
		assert_string_equal(state_of(&v, leg), "dropped");
		heals(&v, leg, s);
		assert_non_null(strstr(heard, "is in sync again"));
		header_of_leg(&v, leg, &h);
		assert_int_equal(h.generation, before + 2);
		assert_int_equal(h.members, 3);
		assert_int_equal(put(&v, s, 25, 8), 0);
		assert_same_segment(&v, s, 0, 1);
		index = s->index;
		penv_close(&v);
		/* It leads alone. */
		assert_int_equal(penv_open_legs(&v, leg, 1, &e), 0);
		assert_int_equal(pool_segment(v.pool, index)->role, SEGMENT_JOURNAL);
		stop(&v);
	}
}

TEST(a_failed_flush_drops_a_leg)
{
	struct segment *s;
	struct penv v;

	s = begin(&v, 2, "all");
	assert_int_equal(put(&v, s, 1, 8), 0);
	sim_disk_model(v.disk[1])->flush_fails = true;
	assert_int_equal(flush(&v), 0);
	assert_string_equal(state_of(&v, 1), "dropped");
	heals(&v, 1, s);
	stop(&v);
}

TEST(a_leg_that_hangs_is_dropped_in_time)
{
	struct segment *s;
	struct penv v;
	uint64_t at;

	s = begin(&v, 2, "all");
	sim_disk_model(v.disk[1])->write_ns = 3600 * 1000 * MS;
	at = loop_now(v.loop);
	assert_int_equal(put(&v, s, 1, 8), 0);
	assert_in_range(loop_now(v.loop) - at, 50 * MS, 60 * MS);
	assert_string_equal(state_of(&v, 1), "dropped");
	assert_non_null(strstr(heard, "lags"));
	assert_non_null(strstr(heard, "waited for it"));
	heals(&v, 1, s);
	stop(&v);
}

TEST(a_leg_that_lags_a_little_only_says_so)
{
	struct segment *s;
	struct penv v;

	s = begin(&v, 2, "all");
	*sim_disk_model(v.disk[1]) = (struct sim_disk_model){.write_ns = 35 * MS};
	assert_int_equal(put(&v, s, 1, 8), 0);
	assert_string_equal(state_of(&v, 1), "lagging");
	heals(&v, 1, NULL);
	assert_null(strstr(heard, "dropped"));
	stop(&v);
}

TEST(legs_that_the_rule_needs_are_not_dropped)
{
	struct segment *s;
	struct penv v;

	s = begin(&v, 3, "2");
	break_leg(&v, 1);
	assert_int_equal(put(&v, s, 1, 8), 0);
	while (strcmp(state_of(&v, 1), "dropped"))
		loop_poll(v.loop, (int64_t)MS);
	break_leg(&v, 2);
	assert_int_equal(put(&v, s, 9, 8), -EIO); /* I13 */
	assert_string_equal(state_of(&v, 2), "in sync");
	stop(&v);
}

/* Nobody knows that a leg was dropped: so nothing counts any more. */
TEST(a_drop_that_cannot_be_recorded_fails_writes)
{
	struct segment *s;
	struct penv v;

	s = begin(&v, 2, "all");
	break_leg(&v, 0);
	sim_disk_model(v.disk[1])->flush_fails = true;
	assert_int_equal(put(&v, s, 1, 8), -EIO);
	heal_leg(&v, 0), heal_leg(&v, 1);
	assert_int_equal(put(&v, s, 1, 8), -EIO);
	stop(&v);
}

TEST(the_cache_goes_with_leg_0)
{
	struct segment *s, *c;
	struct pool_io io;
	struct penv v;

	s = begin(&v, 2, "all");
	(void)take(&v, SEGMENT_CACHE);
	break_leg(&v, 0);
	assert_int_equal(put(&v, s, 1, 8), 0);
	assert_int_equal(pool_take(v.pool, SEGMENT_CACHE, nobody, 0, 0, &c, &io), -ENOSPC);
	heals(&v, 0, NULL);
	(void)take(&v, SEGMENT_CACHE);
	stop(&v);
}

/* ---- resync ---- */

/* Records are written all over the pool while legs fail and come back; in the end all legs are
 * equal. */
TEST(writes_go_on_while_a_leg_is_brought_up_to_date)
{
	enum { SEGS = 6, AT_ONCE = 8 };
	uint64_t rand = test_seed();

	for (int round = 0; round < 60; round++) {
		unsigned legs = 2 + (unsigned)round % 2, n = 0;
		struct segment *s[SEGS];
		struct rec r[AT_ONCE];
		struct penv v;
		unsigned bad = (unsigned)(test_rand(&rand) % legs);
		uint32_t next = 1;

		s[0] = begin(&v, legs, round % 4 < 2 ? "all" : legs == 2 ? "1" : "2");
		for (unsigned i = 1; i < SEGS; i++)
			s[i] = take(&v, SEGMENT_JOURNAL);
		assert_int_equal(put(&v, s[0], 1, 20), 0);
		break_leg(&v, bad);
		assert_int_equal(put(&v, s[1], 1, 20), 0);
		assert_int_equal(flush(&v), 0);
		heal_leg(&v, bad);
		await(&v, bad, "resyncing");
		while (strcmp(state_of(&v, bad), "in sync") || n < SEGS * 7) {
			unsigned k = 0;

			for (; k < AT_ONCE && n < SEGS * 7; k++, n++, next++)
				rec_start(&v, &r[k], s[n % SEGS], 21 + n / SEGS * 6,
					1 + (uint32_t)(test_rand(&rand) % 6));
			for (unsigned i = 0; i < k; i++)
				assert_int_equal(rec_wait(&v, &r[i]), 0);
			loop_poll(v.loop, (int64_t)(test_rand(&rand) % MS));
		}
		for (unsigned i = 0; i < SEGS; i++)
			for (unsigned leg = 1; leg < legs; leg++)
				assert_same_segment(&v, s[i], 0, leg);
		stop(&v);
	}
}

/* ---- acks ---- */

TEST(a_record_is_done_when_enough_legs_have_it)
{
	struct segment *s;
	struct penv v;
	struct rec r;
	uint64_t at;

	s = begin(&v, 2, "1");
	sim_disk_model(v.disk[0])->write_ns = 20 * MS;
	at = loop_now(v.loop);
	rec_start(&v, &r, s, 1, 8);
	rec_await_done(&v, &r);
	assert_true(r.was_pending && !r.over);
	assert_true(loop_now(v.loop) - at < 2 * MS);
	assert_int_equal(rec_wait(&v, &r), 0);
	assert_true(loop_now(v.loop) - at > 5 * MS);
	assert_same_segment(&v, s, 0, 1);
	stop(&v);
}

/* A flush of a leg that has not got the record yet says nothing about it (I2). */
TEST(a_flush_counts_where_the_records_are)
{
	struct segment *s;
	struct penv v;
	struct rec r;
	uint64_t at;

	s = begin(&v, 2, "1");
	*sim_disk_model(v.disk[0]) =
		(struct sim_disk_model){.write_ns = MS / 10, .flush_ns = 30 * MS};
	*sim_disk_model(v.disk[1]) =
		(struct sim_disk_model){.write_ns = 20 * MS, .flush_ns = MS / 10};
	at = loop_now(v.loop);
	rec_start(&v, &r, s, 1, 8);
	rec_await_done(&v, &r);
	assert_true(loop_now(v.loop) - at < MS);
	assert_int_equal(flush(&v), 0);
	assert_in_range(loop_now(v.loop) - at, 20 * MS, 25 * MS);
	assert_int_equal(rec_wait(&v, &r), 0);
	stop(&v);
}

/* The only leg that has a record is dropped: the other must have it before it is alone. */
TEST(what_only_a_dropped_leg_has_is_waited_for)
{
	struct pool_header h;
	struct segment *s;
	struct penv v;
	struct pool_io io = {0};
	struct rec r;

	s = begin(&v, 2, "1");
	sim_disk_model(v.disk[1])->write_ns = 20 * MS;
	sim_disk_model(v.disk[1])->jitter_percent = 0;
	rec_start(&v, &r, s, 1, 8);
	rec_await_done(&v, &r);
	sim_disk_model(v.disk[0])->flush_fails = true;
	sim_disk_model(v.disk[1])->write_ns = MS / 10;
	pool_io_awaited(&io);
	pool_flush(v.pool, &io);
	while (strcmp(state_of(&v, 0), "dropped"))
		loop_poll(v.loop, LOOP_FOREVER);
	do {
		header_of_leg(&v, 1, &h);
		assert_true(h.members == 3 || r.over);
		loop_poll(v.loop, LOOP_FOREVER);
	} while (h.members == 3);
	assert_int_equal(pool_wait_io(v.pool, &io), 0);
	assert_int_equal(rec_wait(&v, &r), 0);
	stop(&v);
}

/* ---- missing at the opening ---- */

static int open_with(struct penv *v, unsigned mask, bool any, struct err *e)
{
	struct bdev *legs[ENV_LEGS_MAX] = {NULL};
	int rc;

	v->cfg.pool_degraded = any;
	assert_int_equal(loop_sim_new(++v->seed, &v->loop, e), 0);
	for (unsigned i = 0; i < v->legs; i++)
		if (mask >> i & 1)
			assert_int_equal(sim_disk_open(v->disk[i], v->loop, &legs[i]), 0);
	rc = pool_open_on(v->loop, legs, v->legs, &v->cfg, &v->pool, e);
	if (rc < 0) {
		loop_free(v->loop);
		v->pool = NULL;
	}
	return rc;
}

TEST(a_leg_that_may_be_newer_is_missed)
{
	/* Which leg was dropped before, if any; which are there; refused? */
	static const struct {
		unsigned legs;
		const char *acks;
		int dropped;
		unsigned there;
		bool refused;
	} t[] = {
		{2, "all", -1, 1, true}, {2, "all", -1, 3, false},
		{2, "all", 0, 2, false}, /* the other was away anyway */
		{2, "all", 0, 1, true},	 /* an old leg */
		{2, "all", 1, 1, false}, {2, "1", -1, 1, true}, {3, "all", -1, 3, true},
		{3, "2", -1, 3, false}, /* one alone can have acknowledged nothing */
		{3, "2", -1, 1, true}, {3, "2", 0, 6, false},
		{3, "2", 0, 3, false}, /* leg 2 knows, leg 1 too */
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct err e = {""};
		struct penv v;
		int rc;

		start(&v, t[i].legs, t[i].acks);
		if (t[i].dropped >= 0) {
			struct segment *s = take(&v, SEGMENT_JOURNAL);

			break_leg(&v, (unsigned)t[i].dropped);
			assert_int_equal(put(&v, s, 1, 8), 0);
			await(&v, (unsigned)t[i].dropped, "dropped");
			assert_int_equal(flush(&v), 0);
		}
		penv_close(&v);
		for (unsigned k = 0; k < t[i].legs; k++)
			heal_leg(&v, k);
		rc = open_with(&v, t[i].there, false, &e);
		if (t[i].refused != (rc == -ENOTCONN))
			fail_msg("row %zu: %d, %s", i, rc, e.msg);
		if (rc < 0)
			assert_non_null(strstr(e.msg, "pool.degraded"));
		if (rc < 0 &&
			(!t[i].acks[1] ? atoi(t[i].acks) <= __builtin_popcount(t[i].there) : 1))
			assert_int_equal(open_with(&v, t[i].there, true, &e), 0);
		stop(&v);
	}
}

TEST(no_pool_is_made_without_a_leg)
{
	struct err e = {""};
	struct penv v;

	penv_init(&v, 2, 8, test_seed());
	lsvd_set_log(hear, NULL);
	assert_int_equal(open_with(&v, 1, false, &e), -ENOTCONN);
	assert_int_equal(open_with(&v, 1, true, &e), 0);
	stop(&v);
}

TEST(four_legs_and_no_more)
{
	struct config cfg = {.pool_segment_bytes = 1 << 20,
		.pool_path = "mem:16M",
		.pool_mirror = "mem:16M, mem:16M  mem:16M",
		.pool_acks = "3"};
	struct err e = {""};
	struct pool *p;
	struct loop *l;

	assert_int_equal(loop_sim_new(1, &l, &e), 0);
	assert_int_equal(pool_open(l, &cfg, &p, &e), 0);
	assert_int_equal(pool_legs(p), 4);
	assert_int_equal(pool_legs_in_sync(p), 4);
	pool_close(p);
	snprintf(cfg.pool_mirror, sizeof(cfg.pool_mirror), "mem:16M mem:16M mem:16M mem:16M");
	assert_int_equal(pool_open(l, &cfg, &p, &e), -EINVAL);
	snprintf(cfg.pool_mirror, sizeof(cfg.pool_mirror), "mem:16M");
	assert_int_equal(pool_open(l, &cfg, &p, &e), -EINVAL); /* acks */
	assert_non_null(strstr(e.msg, "pool.acks"));
	loop_free(l);
}

/* ---- a leg that somebody else used meanwhile ---- */

TEST(a_leg_that_was_used_without_the_others_is_left_alone)
{
	struct config both = {.pool_segment_bytes = 1 << 20,
		.pool_size_bytes = 16 << 20,
		.pool_leg_timeout_ms = 40,
		.pool_degraded = true};
	struct config alone = both;
	struct pool_leg_info x;
	struct pool *p, *q;
	struct err e = {""};
	struct loop *l;
	char dir[160], away[200];

	snprintf(dir, sizeof(dir), "%s/", test_dir());
	snprintf(both.pool_path, sizeof(both.pool_path), "file:%sa/leg", dir);
	snprintf(both.pool_mirror, sizeof(both.pool_mirror), "file:%sb/leg", dir);
	snprintf(alone.pool_path, sizeof(alone.pool_path), "file:%sc/leg", dir);
	snprintf(away, sizeof(away), "%sc", dir);
	snprintf(dir, sizeof(dir), "%s/b", test_dir());
	heard[0] = 0;
	lsvd_set_log(hear, NULL);
	assert_int_equal(loop_uring_new(64, &l, &e), 0);
	assert_int_equal(pool_open(l, &both, &p, &e), 0);
	pool_close(p);
	assert_int_equal(rename(dir, away), 0);
	assert_int_equal(pool_open(l, &alone, &q, &e), 0);
	pool_close(q);
	/* A place where none can be made. */
	assert_int_equal(mkdir(dir, 0700), 0);
	snprintf(away, sizeof(away), "%s/leg", dir);
	assert_int_equal(symlink("/nonexistent/leg/for/a/test", away), 0);
	if (pool_open(l, &both, &p, &e) < 0)
		SKIP("a dangling link can be created through here");
	pool_leg(p, 1, &x);
	assert_string_equal(x.state, "dropped");
	unlink(away);
	rmdir(dir);
	snprintf(away, sizeof(away), "%s/c", test_dir());
	assert_int_equal(rename(away, dir), 0);
	do {
		loop_poll(l, (int64_t)MS);
		pool_leg(p, 1, &x);
	} while (!strcmp(x.state, "dropped"));
	assert_string_equal(x.state, "refused");
	assert_non_null(strstr(x.why, "without the others"));
	pool_close(p);
	loop_free(l);
	lsvd_set_log(NULL, NULL);
}
