/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_cache.c - the read cache: hits and misses counted exactly, and never a wrong byte. */
#include "test/cache_env.h"
#include "test/test.h"

#include <errno.h>

enum { KIB = 1024, MIB = 1 << 20, CHUNK = 64 * KIB };

/* ---- counting ---- */

TEST(a_miss_is_one_get_and_then_it_is_cached)
{
	struct cache_env v;
	struct cache_stats st;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_STORE);
	st = env_stats(&v);
	assert_int_equal(st.gets, 1); /* the header came along */
	assert_int_equal(st.header_gets, 0);
	assert_int_equal(st.get_bytes, 4096 + CHUNK);
	assert_int_equal(st.miss_bytes, 4096);
	env_settle(&v);
	assert_int_equal(env_read(&v, 0, 4096, CHUNK - 4096), TRACE_SRC_CACHE);
	assert_int_equal(env_read(&v, 0, 512, 512), TRACE_SRC_CACHE);
	st = env_stats(&v);
	assert_int_equal(st.gets, 1);
	assert_int_equal(st.hit_bytes, CHUNK - 4096 + 512);
	assert_int_equal(st.miss_bytes, 4096);
	assert_int_equal(st.filled_bytes, CHUNK);
	assert_int_equal(v.spy->gets, 1);
	assert_int_equal(v.spy->get_bytes, st.get_bytes);
	env_close(&v);
}

TEST(a_header_is_fetched_once_beside_the_data)
{
	struct cache_env v;
	struct cache_stats st;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 3000);
	assert_int_equal(v.ref[0].header_bytes, 12 * 4096);
	env_read(&v, 0, 5 * CHUNK + 4096, 4096);
	st = env_stats(&v);
	assert_int_equal(st.gets, 2);
	assert_int_equal(st.header_gets, 1);
	assert_int_equal(st.get_bytes, v.ref[0].header_bytes + CHUNK);
	env_read(&v, 0, 9 * CHUNK, 4096);
	st = env_stats(&v);
	assert_int_equal(st.gets, 3);
	assert_int_equal(st.header_gets, 1);
	env_close(&v);
}

TEST(a_long_read_is_one_get_per_run)
{
	struct cache_env v;
	struct cache_stats st;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, 12 * MIB, 10);
	env_read(&v, 0, 0, 12 * MIB);
	st = env_stats(&v);
	assert_int_equal(st.gets, 2);
	assert_int_equal(st.get_bytes, v.ref[0].header_bytes + 12 * MIB);
	assert_int_equal(st.miss_bytes, 12 * MIB);
	env_settle(&v);
	env_put(&v, 1, MIB, 10);
	env_read(&v, 1, 3 * CHUNK, 4096);
	env_settle(&v);
	assert_int_equal(env_read(&v, 1, CHUNK + 512, 4 * CHUNK), TRACE_SRC_STORE);
	st = env_stats(&v);
	assert_int_equal(st.gets, 2 + 2 + 2); /* one on either side of the chunk that was there */
	assert_int_equal(st.hit_bytes, CHUNK);
	env_close(&v);
}

TEST(a_hundred_readers_share_one_get)
{
	struct cache_env v;
	struct env_read q[100];
	uint8_t *buf, want[512];

	env_open(&v, 32 * MIB, MIB, CHUNK, store_model_find("s3"));
	env_put(&v, 0, MIB, 10);
	buf = env_buffer(100 * 4096);
	for (unsigned i = 0; i < 100; i++)
		env_submit(&v, &q[i], 0, 2 * CHUNK + i * 512, buf + i * 4096 + i % 8 * 512, 512);
	for (unsigned i = 0; i < 100; i++) {
		env_wait(&v, &q[i]);
		assert_int_equal(q[i].status, 0);
		assert_int_equal(q[i].r.source, TRACE_SRC_STORE);
		env_pattern(0, 2 * CHUNK + i * 512, want, 512);
		assert_memory_equal(buf + i * 4096 + i % 8 * 512, want, 512);
	}
	assert_int_equal(env_stats(&v).gets, 2); /* data and header */
	assert_int_equal(env_stats(&v).miss_bytes, 100 * 512);
	free(buf);
	env_close(&v);
}

TEST(without_a_pool_every_read_is_a_fetch)
{
	struct cache_env v;

	env_open(&v, 0, 0, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	assert_int_equal(env_read(&v, 0, 4096, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_stats(&v).get_bytes, 4096 + 16384);
	assert_int_equal(env_read(&v, 0, 4096, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_stats(&v).gets, 2);
	assert_int_equal(env_stats(&v).get_bytes, 4096 + 16384 + 4096);
	assert_int_equal(env_read(&v, 0, CHUNK - 512, CHUNK + 1024), TRACE_SRC_STORE);
	assert_false(cache_has(v.cache, &v.ref[0], 0, 4096));
	env_close(&v);
}

TEST(an_object_of_version_1_is_fetched_by_its_own_chunks)
{
	struct cache_env v;

	env_open(&v, 0, 0, CHUNK, NULL);
	v.crc_bytes = OBJECT_CRC_BYTES_V1;
	env_put(&v, 0, MIB, 10);
	assert_int_equal(env_read(&v, 0, 4096, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_read(&v, 0, 20480, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_stats(&v).get_bytes, 4096 + 2 * 16384);
	assert_int_equal(env_read(&v, 0, MIB - 4096, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_stats(&v).crc_errors, 0);
	env_close(&v);
}

TEST(chunks_too_large_for_the_pool_turn_the_cache_off)
{
	struct cache_env v;
	struct cache *c;
	struct err e = {.msg = ""};

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	v.cfg.cache_chunk_bytes = 256 * KIB;
	assert_int_equal(cache_open(v.loop, v.pool, &v.cfg, &c, &e), 0);
	assert_non_null(strstr(e.msg, "no read cache"));
	cache_close(c);
	env_close(&v);
}

/* ---- against a model: any offsets, any alignment, many at once, a cache too small ---- */

static void random_reads(uint64_t pool, uint64_t segment, uint64_t chunk, uint64_t *s)
{
	enum { OBJECTS = 12, DEPTH = 40, ROUNDS = 25, MAX = 700 * KIB };
	struct cache_env v;
	struct env_read q[DEPTH];
	uint8_t *buf[DEPTH], *want = malloc(MAX);
	uint64_t total = 0;
	struct cache_stats st;

	env_open(&v, pool, segment, chunk, store_model_find("ssd"));
	for (uint32_t i = 0; i < OBJECTS; i++)
		env_put(&v, i, MIB - i * 20480, 1 + i * 50);
	for (unsigned i = 0; i < DEPTH; i++)
		buf[i] = env_buffer(MAX);
	for (unsigned n = 0; n < ROUNDS; n++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			uint32_t object = (uint32_t)(test_rand(s) % OBJECTS);
			uint64_t size = v.ref[object].data_bytes / 512;
			uint64_t off = test_rand(s) % size,
				 len = 1 + test_rand(s) % (i % 8 ? 40 : 1400);

			if (test_rand(s) % 2)
				off &= ~7ull, len = (len + 7) & ~7ull;
			len = len < size - off ? len : size - off;
			env_submit(&v, &q[i], object, off * 512, buf[i] + test_rand(s) % 8 * 512,
				len * 512);
			total += len * 512;
		}
		for (unsigned i = 0; i < DEPTH; i++) {
			env_wait(&v, &q[i]);
			assert_int_equal(q[i].status, 0);
			env_pattern((uint32_t)q[i].r.ref.seq - 1, q[i].r.off_bytes, want,
				q[i].r.len_bytes);
			assert_memory_equal(q[i].r.buf, want, q[i].r.len_bytes);
		}
	}
	st = env_stats(&v);
	assert_int_equal(st.hit_bytes + st.miss_bytes, total);
	assert_int_equal(st.gets, v.spy->gets);
	assert_int_equal(st.get_bytes, v.spy->get_bytes);
	assert_int_equal(st.crc_errors, 0);
	if (pool)
		assert_true(st.hit_bytes > total / 10);
	for (unsigned i = 0; i < DEPTH; i++)
		free(buf[i]);
	free(want);
	env_close(&v);
}

TEST(random_reads_give_the_right_bytes)
{
	uint64_t s = test_seed();

	random_reads(8 * MIB, 256 * KIB, 64 * KIB, &s);
	random_reads(8 * MIB, 256 * KIB, 4 * KIB, &s);
	random_reads(16 * MIB, MIB, 256 * KIB, &s);
	random_reads(64 * MIB, 4 * MIB, 64 * KIB, &s);
	random_reads(0, 0, 64 * KIB, &s);
}

/* ---- restarts, crashes, rot ---- */

/* Reads every chunk of n objects; returns how many came from the cache. */
static uint32_t read_all(struct cache_env *v, uint32_t n)
{
	uint32_t cached = 0;

	for (uint32_t i = 0; i < n; i++)
		for (uint64_t off = 0; off < v->ref[i].data_bytes; off += CHUNK)
			cached += env_read(v, i, off, CHUNK) == TRACE_SRC_CACHE;
	env_settle(v);
	return cached;
}

TEST(a_restart_keeps_the_cache)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	for (uint32_t i = 0; i < 4; i++)
		env_put(&v, i, MIB, 3000);
	assert_int_equal(read_all(&v, 4), 0);
	env_restart(&v);
	assert_int_equal(read_all(&v, 4), 64);
	assert_int_equal(env_stats(&v).gets, 0);
	env_restart(&v); /* and what was not written again is still there */
	assert_int_equal(read_all(&v, 4), 64);
	assert_int_equal(env_stats(&v).gets, 0);
	/* Headers are kept too: an uncached chunk costs one GET. */
	env_put(&v, 4, MIB, 3000);
	env_read(&v, 4, 0, 4096);
	env_restart(&v);
	env_read(&v, 4, 5 * CHUNK, 4096);
	assert_int_equal(env_stats(&v).gets, 1);
	assert_int_equal(env_stats(&v).header_gets, 0);
	env_close(&v);
}

TEST(small_sessions_share_a_segment)
{
	struct cache_env v;
	uint32_t free_segments;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 1);
	env_read(&v, 0, 0, 4096);
	env_restart(&v);
	free_segments = pool_free_segments(v.pool);
	for (uint32_t i = 1; i < 10; i++) {
		env_read(&v, 0, i * CHUNK, 4096);
		env_restart(&v);
	}
	assert_int_equal(pool_free_segments(v.pool), free_segments);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(env_read(&v, 0, i * CHUNK, 4096), TRACE_SRC_CACHE);
	env_close(&v);
}

TEST(a_crash_loses_little)
{
	for (int process_only = 0; process_only < 2; process_only++) {
		struct cache_env v;
		uint32_t cached;

		env_open(&v, 64 * MIB, 2 * MIB, CHUNK, NULL);
		for (uint32_t i = 0; i < 7; i++)
			env_put(&v, i, MIB, 100);
		read_all(&v, 7);
		env_crash(&v, process_only);
		cached = read_all(&v, 7);
		/* An eighth of a segment when the process dies; a machine that dies loses what its
		 * disk had not written back, and every torn block is noticed. */
		if (process_only) {
			assert_in_range(cached, 112 - 4 - 1, 112);
			assert_int_equal(env_stats(&v).crc_errors, 0);
		}
		env_close(&v);
	}
}

/* Reads, crashes and restarts in turn; returns how many blocks were found damaged. */
static uint64_t crash_often(uint64_t *s, bool process_only)
{
	struct cache_env v;
	uint64_t damaged = 0;

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	v.seed = *s;
	for (uint32_t i = 0; i < 12; i++)
		env_put(&v, i, MIB, 100);
	for (int n = 0; n < 40; n++) {
		uint64_t steps = test_rand(s) % 40;

		for (int k = 0; k < 12; k++)
			env_read(&v, (uint32_t)(test_rand(s) % 12), test_rand(s) % 240 * 4096,
				4096 * (1 + test_rand(s) % 16));
		while (steps-- || v.spy->out)
			loop_poll(v.loop, 1000000);
		damaged += env_stats(&v).crc_errors;
		if (test_rand(s) % 4)
			env_crash(&v, process_only || test_rand(s) % 2);
		else
			env_restart(&v);
	}
	damaged += env_stats(&v).crc_errors;
	env_close(&v);
	return damaged;
}

TEST(crashes_never_give_wrong_bytes)
{
	uint64_t s = test_seed();

	/* A summary names only what was written when it was, in this use of the segment. */
	assert_int_equal(crash_often(&s, true), 0);
	crash_often(&s, false);
}

TEST(rot_on_the_ssd_is_fetched_again)
{
	struct cache_env v;
	struct cache_stats st;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	read_all(&v, 1);
	for (uint64_t at = MIB; at < 32 * MIB; at += 4096)
		sim_disk_rot(v.disk, at + at / 4096 % 4096, 3);
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_read(&v, 0, CHUNK + 512, 1024), TRACE_SRC_STORE);
	assert_int_equal(env_read(&v, 0, 4 * CHUNK, 4 * CHUNK), TRACE_SRC_STORE);
	st = env_stats(&v);
	assert_int_equal(st.crc_errors, 6);
	env_settle(&v);
	assert_int_equal(env_read(&v, 0, 0, 2 * CHUNK), TRACE_SRC_CACHE);
	/* A rotten summary is a cold cache. */
	for (uint64_t at = MIB; at < 32 * MIB; at += 4096)
		sim_disk_rot(v.disk, at + 100, 3);
	env_restart(&v);
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_STORE);
	env_close(&v);
}

TEST(errors_of_the_ssd_are_misses)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	read_all(&v, 1);
	sim_disk_model(v.disk)->error_per_million = 1000000;
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_read(&v, 0, CHUNK + 512, 4096), TRACE_SRC_STORE);
	env_settle(&v);
	sim_disk_model(v.disk)->error_per_million = 0;
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_STORE);
	env_settle(&v);
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_CACHE);
	env_close(&v);
}

/* ---- the store fails ---- */

TEST(damage_on_the_way_is_fetched_once_more)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	v.spy->damage_from = 4096 + 3 * CHUNK;
	v.spy->damage_to = 4096 + 4 * CHUNK;
	v.spy->damage_times = 1;
	env_read(&v, 0, 0, MIB);
	assert_int_equal(env_stats(&v).crc_errors, 1);
	assert_int_equal(env_stats(&v).gets, 2);
	assert_int_equal(env_stats(&v).get_bytes, 4096 + MIB + CHUNK);
	env_close(&v);
}

TEST(damage_in_the_store_is_an_error)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	v.spy->damage_from = 4096 + 3 * CHUNK;
	v.spy->damage_to = 4096 + 3 * CHUNK + 1;
	v.spy->damage_times = 1000;
	assert_int_equal(env_read_status(&v, 0, 3 * CHUNK, 4096), -EBADMSG);
	assert_int_equal(env_stats(&v).gets, 3); /* header, data, data again */
	assert_int_equal(env_read_status(&v, 0, 2 * CHUNK, 4096), 0);
	assert_int_equal(env_read_status(&v, 0, 2 * CHUNK, 2 * CHUNK), -EBADMSG);
	v.spy->damage_times = 0;
	assert_int_equal(env_read_status(&v, 0, 3 * CHUNK, 4096), 0);
	env_close(&v);
}

TEST(a_damaged_header_is_an_error)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	v.spy->damage_from = 200;
	v.spy->damage_to = 201;
	v.spy->damage_times = 1;
	env_read(&v, 0, 0, 4096); /* folded, then alone */
	assert_int_equal(env_stats(&v).gets, 2);
	env_put(&v, 1, MIB, 10);
	v.spy->damage_times = 1000;
	assert_int_equal(env_read_status(&v, 1, 0, 4096), -EBADMSG);
	assert_int_equal(env_read_status(&v, 1, CHUNK, 4096), -EBADMSG);
	v.spy->damage_times = 0;
	assert_int_equal(env_read_status(&v, 1, CHUNK, 4096), 0);
	env_close(&v);
}

TEST(an_object_of_another_volume_is_refused)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	v.ref[0].uuid[3] ^= 1; /* I10 */
	assert_int_equal(env_read_status(&v, 0, 0, 4096), -EUCLEAN);
	env_close(&v);
}

TEST(a_missing_object_is_told_at_once)
{
	struct cache_env v;
	uint64_t began;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	v.ref[0].seq = 99;
	strcpy(v.ref[0].name, "vm/nothing");
	began = loop_now(v.loop);
	assert_int_equal(env_read_status(&v, 0, 0, 4096), -ENOENT);
	assert_int_equal(env_read_status(&v, 0, CHUNK, 4096), -ENOENT);
	assert_true(loop_now(v.loop) - began < 1000000);
	env_close(&v);
}

static void mend(struct loop_timer *t);

struct mender {
	struct loop_timer timer;
	struct fault_rules *rules;
};

static void mend(struct loop_timer *t)
{
	((struct mender *)(void *)t)->rules->gone = false;
}

TEST(a_failing_store_is_retried)
{
	struct mender m = {.timer.fire = mend};
	struct cache_env v;
	uint64_t began;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	m.rules = store_fault_rules(v.fault);
	m.rules->gone = true;
	loop_timer_set(v.loop, &m.timer, loop_now(v.loop) + 10000000000);
	began = loop_now(v.loop);
	assert_int_equal(env_read_status(&v, 0, CHUNK, 4096), 0);
	assert_in_range(loop_now(v.loop) - began, 10000000000, 17000000000);
	assert_int_equal(env_stats(&v).gets, v.spy->gets);
	m.rules->gone = true;
	began = loop_now(v.loop);
	assert_int_equal(env_read_status(&v, 0, 2 * CHUNK, 4096), -EIO);
	assert_in_range(loop_now(v.loop) - began, 30000000000, 37000000000);
	m.rules->gone = false;
	assert_int_equal(env_read_status(&v, 0, 2 * CHUNK, 4096), 0);
	env_close(&v);
}

/* ---- eviction ---- */

TEST(what_is_read_again_gets_a_second_chance)
{
	struct cache_env v;
	uint64_t gets;

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	for (uint32_t i = 0; i < 40; i++)
		env_put(&v, i, MIB, 1);
	env_read(&v, 0, 0, 4096);
	env_settle(&v);
	gets = 1;
	for (uint32_t i = 1; i < 40; i++)
		for (uint32_t k = 0; k < 16; k++) {
			env_read(&v, i, k * CHUNK, 4096);
			gets++; /* the first brings the header */
			env_settle(&v);
			if (k % 4 == 0)
				assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_CACHE);
		}
	assert_true(env_stats(&v).kept_chunks > 3);
	assert_true(env_stats(&v).evicted_chunks > 200);
	assert_int_equal(env_stats(&v).gets, gets);
	env_close(&v);
}

TEST(the_pool_gets_back_what_it_wants)
{
	struct cache_env v;
	uint8_t owner[16] = {7};
	struct segment *seg;
	uint32_t taken = 0;

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	for (uint32_t i = 0; i < 8; i++)
		env_put(&v, i, MIB, 1);
	read_all(&v, 8);
	assert_int_equal(pool_free_segments(v.pool), 2); /* it took all but the reserve */
	for (;; taken++) {
		struct pool_io io = {0};

		pool_io_awaited(&io);
		if (pool_take(v.pool, SEGMENT_JOURNAL, owner, 1, 1, &seg, &io) < 0)
			break;
		assert_int_equal(pool_wait_io(v.pool, &io), 0);
	}
	assert_int_equal(taken, pool_segments(v.pool));
	assert_int_equal(read_all(&v, 8), 0); /* works without any room */
	pool_give(v.pool, seg);
	read_all(&v, 1);
	assert_int_equal(env_read(&v, 0, 15 * CHUNK, 4096), TRACE_SRC_CACHE);
	env_close(&v);
}

struct hog {
	struct pool_waiter w;
	struct pool *p;
	struct pool_io io;
	uint32_t left;
	uint8_t owner[16];
};

static void hog_more(struct hog *h);

static void hog_taken(struct pool_io *io, int status)
{
	struct hog *h = (struct hog *)(void *)((char *)io - offsetof(struct hog, io));

	assert_int_equal(status, 0);
	h->left--;
	hog_more(h);
}

static void hog_more(struct hog *h)
{
	struct segment *s;

	if (!h->left)
		return;
	h->io.done = hog_taken;
	if (pool_take(h->p, SEGMENT_JOURNAL, h->owner, 1, 1, &s, &h->io) < 0)
		pool_wait(h->p, &h->w);
}

static void hog_woken(struct pool_waiter *w)
{
	hog_more((struct hog *)(void *)w);
}

TEST(a_segment_in_use_is_given_when_it_is_free)
{
	enum { READS = 8 * 16 };
	struct cache_env v;
	struct env_read q[READS];
	uint8_t *buf = env_buffer(READS * 4096);
	struct hog h = {.w.wake = hog_woken, .owner = {1}};
	uint32_t n = 0;

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	for (uint32_t i = 0; i < 8; i++)
		env_put(&v, i, MIB, 1);
	read_all(&v, 8);
	/* Every segment of the cache is in use by a slow read. */
	sim_disk_model(v.disk)->read_ns = 1000000000;
	for (uint32_t i = 0; i < READS; i++)
		if (cache_has(v.cache, &v.ref[i / 16], i % 16 * CHUNK, 4096))
			env_submit(&v, &q[n++], i / 16, i % 16 * CHUNK, buf + i * 4096, 4096);
	assert_true(n > 64);
	h.p = v.pool;
	h.left = pool_segments(v.pool);
	hog_more(&h);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_not_equal(h.left, 0);
		env_wait(&v, &q[i]);
		assert_int_equal(q[i].status, 0);
		assert_int_equal(q[i].r.source, TRACE_SRC_CACHE);
	}
	env_settle(&v);
	assert_int_equal(h.left, 0);
	free(buf);
	env_close(&v);
}

TEST(forgotten_objects_are_fetched_again)
{
	struct cache_env v;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 3000);
	env_put(&v, 1, MIB, 3000);
	read_all(&v, 2);
	assert_true(cache_has(v.cache, &v.ref[0], 4096, MIB - 4096));
	cache_forget(v.cache, &v.ref[0]);
	assert_false(cache_has(v.cache, &v.ref[0], 4096, 512));
	assert_true(cache_has(v.cache, &v.ref[1], 0, MIB));
	assert_int_equal(env_read(&v, 0, 0, 4096), TRACE_SRC_STORE);
	assert_int_equal(env_read(&v, 1, 0, 4096), TRACE_SRC_CACHE);
	env_restart(&v);
	assert_int_equal(env_read(&v, 1, 0, 4096), TRACE_SRC_CACHE);
	env_close(&v);
}

TEST(partial_fetches_when_whole_chunks_do_not_pay)
{
	uint64_t s = 77, bytes;
	struct cache_env v;

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	for (uint32_t i = 0; i < 40; i++)
		env_put(&v, i, MIB, 1);
	for (unsigned n = 0; n < 1500; n++) {
		env_read(&v, (uint32_t)(test_rand(&s) % 40), test_rand(&s) % 256 * 4096, 4096);
		env_settle(&v);
	}
	bytes = env_stats(&v).get_bytes;
	for (unsigned n = 0; n < 500; n++) {
		env_read(&v, (uint32_t)(test_rand(&s) % 40), test_rand(&s) % 256 * 4096, 4096);
		env_settle(&v);
	}
	bytes = env_stats(&v).get_bytes - bytes;
	assert_true(bytes < 500 * 32768); /* not 500 * 64 KiB */
	/* Whoever reads on in a chunk gets it whole, and the rule wears off. */
	for (unsigned n = 0; n < 3; n++)
		for (uint32_t i = 0; i < 40; i++)
			for (uint64_t off = 0; off < MIB; off += 8192)
				env_read(&v, i, off, 8192);
	env_settle(&v);
	bytes = env_stats(&v).get_bytes;
	env_read(&v, 0, 4 * CHUNK + 8192, 4096);
	assert_int_equal(env_stats(&v).get_bytes - bytes, CHUNK);
	env_close(&v);
}

/* ---- headers ---- */

static int header_status;
static bool header_over;

static void header_done(struct cache_header *h, int status)
{
	(void)h;
	header_status = status;
	header_over = true;
}

static struct cache_header get_header(struct cache_env *v, uint32_t object, bool known)
{
	struct cache_header h = {.ref = v->ref[object], .done = header_done};

	if (!known)
		h.ref.header_bytes = 0;
	header_over = false;
	cache_get_header(v->cache, &h);
	assert_false(header_over);
	while (!header_over)
		assert_true(loop_poll(v->loop, LOOP_FOREVER) > 0);
	return h;
}

TEST(headers_come_whole_from_store_or_cache)
{
	struct cache_env v;
	struct object_header d;
	struct object_extent x;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	env_put(&v, 1, MIB, 20000); /* more than the first guess */
	for (uint32_t i = 0; i < 8; i++) {
		struct cache_header h = get_header(&v, i & 1, i < 4);

		assert_int_equal(header_status, 0);
		assert_int_equal(h.header.extents, i & 1 ? 20000 : 10);
		assert_int_equal(object_decode(h.buf, v.ref[i & 1].header_bytes, v.ref[0].uuid, 3,
					 (i & 1) + 1, &d, NULL),
			0);
		object_get_extent(h.buf, &d, 9, &x);
		assert_int_equal(x.lba, 9 * 16);
		free(h.buf);
		env_settle(&v);
		if (i == 5)
			env_restart(&v);
	}
	assert_int_equal(env_stats(&v).gets, 0);
	env_close(&v);
	env_open(&v, 0, 0, CHUNK, NULL);
	env_put(&v, 1, MIB, 20000);
	free(get_header(&v, 1, false).buf);
	assert_int_equal(env_stats(&v).gets, 2);
	assert_int_equal(env_stats(&v).get_bytes, v.ref[1].header_bytes);
	v.ref[1].seq++;
	get_header(&v, 1, false);
	assert_int_equal(header_status, -EUCLEAN);
	strcpy(v.ref[1].name, "vm/nothing");
	v.ref[1].seq++;
	get_header(&v, 1, false);
	assert_int_equal(header_status, -ENOENT);
	env_close(&v);
}

/* Fills wait for a slow SSD while others want buffers: those that are cancelled to get one may be a
 * header's, which has none. */
TEST(headers_that_wait_to_be_kept_give_no_buffer)
{
	static struct env_read q[ENV_OBJECTS];
	uint8_t *buf[ENV_OBJECTS], *want = malloc(MIB);
	struct cache_env v;

	env_open(&v, 64 * MIB, 4 * MIB, MIB, NULL);
	for (uint32_t i = 0; i < ENV_OBJECTS; i++)
		env_put(&v, i, MIB, 4000);
	env_settle(&v);
	sim_disk_model(v.disk)->write_ns = 1000000000;
	for (uint32_t i = 0; i < ENV_OBJECTS; i++) {
		buf[i] = env_buffer(MIB);
		env_submit(&v, &q[i], i, 0, buf[i], MIB);
	}
	for (uint32_t i = 0; i < ENV_OBJECTS; i++) {
		env_wait(&v, &q[i]);
		env_pattern(i, 0, want, MIB);
		assert_int_equal(q[i].status, 0);
		assert_memory_equal(buf[i], want, MIB);
		free(buf[i]);
	}
	free(want);
	env_close(&v);
}
