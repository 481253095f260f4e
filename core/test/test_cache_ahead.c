/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_cache_ahead.c - what runs ahead: prefetch, readahead, boot profiles, in virtual time. */
#include "test/cache_env.h"
#include "test/test.h"

#include <errno.h>

enum { KIB = 1024, MIB = 1 << 20, CHUNK = 64 * KIB };

/* ---- cache_prefetch ---- */

struct ahead {
	struct cache_prefetch p;
	bool over;
	int status;
};

static void ahead_done(struct cache_prefetch *p, int status)
{
	struct ahead *a = (struct ahead *)(void *)p;

	assert_false(a->over);
	a->over = true;
	a->status = status;
}

static void ahead_submit(struct cache_env *v, struct ahead *a, uint32_t object, uint64_t off,
	uint64_t len, uint32_t get_bytes)
{
	*a = (struct ahead){.p = {.ref = v->ref[object],
				    .off_bytes = off,
				    .len_bytes = len,
				    .get_bytes = get_bytes,
				    .done = ahead_done}};
	cache_prefetch(v->cache, &a->p);
	assert_false(a->over);
}

static void ahead_wait(struct cache_env *v, struct ahead *a)
{
	while (!a->over)
		if (!loop_poll(v->loop, LOOP_FOREVER))
			fail_msg("a prefetch never ends");
}

TEST(prefetched_data_is_counted_as_such_once)
{
	struct cache_env v;
	struct cache_stats st;
	struct ahead a;

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, 2 * MIB, 10);
	ahead_submit(&v, &a, 0, 4096, MIB, 4 * MIB);
	ahead_wait(&v, &a);
	assert_int_equal(a.status, 0);
	assert_int_equal(a.p.wanted_bytes, MIB + CHUNK);
	st = env_stats(&v);
	assert_int_equal(st.gets, 1); /* the header in it */
	assert_int_equal(st.prefetch_gets, 1);
	assert_int_equal(st.prefetch_bytes, MIB + CHUNK);
	assert_int_equal(st.get_bytes, 4096 + MIB + CHUNK);
	assert_int_equal(env_read(&v, 0, 0, 8192), TRACE_SRC_PREFETCH);
	env_settle(&v);
	assert_int_equal(env_read(&v, 0, 4096, 8192), TRACE_SRC_PREFETCH);
	assert_int_equal(env_read(&v, 0, 0, 12288), TRACE_SRC_CACHE);
	assert_int_equal(env_read(&v, 0, 512, 512), TRACE_SRC_CACHE);
	assert_int_equal(env_read(&v, 0, 8 * CHUNK - 512, 1024), TRACE_SRC_PREFETCH);
	assert_int_equal(env_read(&v, 0, MIB + CHUNK - 512, 1024), TRACE_SRC_STORE);
	st = env_stats(&v);
	assert_int_equal(st.prefetch_used_bytes, 12288 + 8192 + 4096);
	assert_int_equal(st.prefetch_hit_bytes, 8192 + 8192 + 1024 + 512);
	assert_int_equal(st.hit_bytes, 12288 + 512);
	assert_int_equal(st.miss_bytes, 512);
	assert_int_equal(st.gets, 2);
	assert_int_equal(v.spy->gets, 2);
	/* Nothing is fetched twice; the hole in the middle of what is there costs one GET. */
	ahead_submit(&v, &a, 0, 0, 2 * MIB, 4 * MIB);
	ahead_wait(&v, &a);
	assert_int_equal(a.p.wanted_bytes, 2 * MIB - MIB - 2 * CHUNK);
	assert_int_equal(env_stats(&v).gets, 3);
	ahead_submit(&v, &a, 0, 0, 2 * MIB, 4 * MIB);
	ahead_wait(&v, &a);
	assert_int_equal(a.p.wanted_bytes, 0);
	assert_int_equal(env_stats(&v).gets, 3);
	env_close(&v);
}

TEST(a_prefetch_is_cut_into_gets)
{
	struct cache_env v;
	struct ahead a;

	env_open(&v, 64 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, 8 * MIB, 10);
	ahead_submit(&v, &a, 0, 0, 8 * MIB, MIB);
	ahead_wait(&v, &a);
	assert_int_equal(env_stats(&v).gets, 8);
	assert_int_equal(env_stats(&v).prefetch_bytes, 8 * MIB);
	env_settle(&v);
	assert_true(cache_has(v.cache, &v.ref[0], 0, 8 * MIB));
	env_close(&v);
}

TEST(a_read_waits_for_the_prefetch_in_flight)
{
	struct cache_env v;
	struct env_read q;
	struct ahead a;
	uint8_t *buf = env_buffer(CHUNK);

	env_open(&v, 32 * MIB, MIB, CHUNK, store_model_find("s3"));
	env_put(&v, 0, MIB, 10);
	ahead_submit(&v, &a, 0, 0, MIB, MIB);
	assert_true(cache_busy(v.cache, v.store));
	env_submit(&v, &q, 0, 3 * CHUNK, buf, CHUNK);
	env_wait(&v, &q);
	assert_int_equal(q.r.source, TRACE_SRC_PREFETCH);
	ahead_wait(&v, &a);
	assert_int_equal(env_stats(&v).gets, 1);
	assert_int_equal(env_stats(&v).prefetch_used_bytes, CHUNK);
	assert_false(cache_busy(v.cache, v.store));
	/* And a prefetch does not fetch what a read is fetching. */
	env_put(&v, 1, MIB, 10);
	env_submit(&v, &q, 1, 0, buf, CHUNK);
	ahead_submit(&v, &a, 1, 0, CHUNK, MIB);
	assert_int_equal(a.p.wanted_bytes, 0);
	env_wait(&v, &q);
	assert_int_equal(q.r.source, TRACE_SRC_STORE);
	ahead_wait(&v, &a);
	assert_int_equal(env_stats(&v).gets, 2);
	free(buf);
	env_close(&v);
}

TEST(a_failed_prefetch_is_not_retried_but_a_reader_of_it_is)
{
	struct cache_env v;
	struct env_read q;
	struct ahead a;
	uint8_t *buf = env_buffer(CHUNK);

	env_open(&v, 32 * MIB, MIB, CHUNK, NULL);
	env_put(&v, 0, MIB, 10);
	store_fault_rules(v.fault)->gone = true;
	ahead_submit(&v, &a, 0, 0, MIB, MIB);
	ahead_wait(&v, &a);
	assert_int_equal(a.status, -EIO);
	assert_int_equal(env_stats(&v).gets, 1);
	ahead_submit(&v, &a, 0, 0, MIB, MIB);
	env_submit(&v, &q, 0, CHUNK, buf, 4096);
	while (env_stats(&v).gets < 5)
		assert_true(loop_poll(v.loop, LOOP_FOREVER) > 0);
	store_fault_rules(v.fault)->gone = false;
	env_wait(&v, &q);
	assert_int_equal(q.status, 0);
	ahead_wait(&v, &a);
	assert_int_equal(a.status, 0);
	free(buf);
	env_close(&v);
}

/* More than there are buffers: it goes on as they come back, and reads are served meanwhile. */
TEST(prefetch_leaves_room_for_reads)
{
	enum { N = 12 };
	struct cache_env v;
	struct ahead a[N];

	env_open(&v, 256 * MIB, 4 * MIB, CHUNK, store_model_find("s3"));
	for (uint32_t i = 0; i < N; i++)
		env_put(&v, i, 8 * MIB, 10);
	for (uint32_t i = 0; i < N - 1; i++)
		ahead_submit(&v, &a[i], i, 0, 8 * MIB, 4 * MIB);
	assert_int_equal(env_read(&v, N - 1, CHUNK, 4096), TRACE_SRC_STORE);
	assert_false(a[N - 2].over);
	for (uint32_t i = 0; i < N - 1; i++) {
		ahead_wait(&v, &a[i]);
		assert_int_equal(a[i].status, 0);
		assert_int_equal(a[i].p.wanted_bytes, 8 * MIB);
	}
	env_settle(&v);
	for (uint32_t i = 0; i < N - 1; i++)
		assert_true(cache_has(v.cache, &v.ref[i], 0, 8 * MIB));
	assert_int_equal(env_stats(&v).prefetch_bytes, (N - 1) * 8 * MIB);
	env_close(&v);
}

/* ---- an image: a linear map over the objects, with a hole ---- */

struct image {
	struct cache_resolver r;
	struct cache_env *v;
	uint64_t object_sectors, hole_from, hole_to;
};

static void resolve(struct cache_resolver *r, uint64_t lba, uint64_t len,
	void (*fn)(void *, const struct object_ref *, uint64_t, uint64_t, uint64_t), void *arg)
{
	struct image *m = (struct image *)(void *)r;
	uint64_t end = lba + len, n;

	assert_true(end <= r->size_sectors);
	for (; lba < end; lba += n) {
		uint64_t off = lba % m->object_sectors;

		n = m->object_sectors - off < end - lba ? m->object_sectors - off : end - lba;
		if (lba >= m->hole_from && lba < m->hole_to) {
			n = m->hole_to - lba < n ? m->hole_to - lba : n;
			continue;
		}
		if (lba < m->hole_from && m->hole_from - lba < n)
			n = m->hole_from - lba;
		fn(arg, &m->v->ref[lba / m->object_sectors], lba, off * 512, n * 512);
	}
}

static void open_image(struct image *m, struct cache_env *v, uint32_t objects, uint32_t bytes)
{
	*m = (struct image){.r = {resolve, (uint64_t)objects * bytes / 512},
		.v = v,
		.object_sectors = bytes / 512};
	for (uint32_t i = 0; i < objects; i++)
		env_put(v, i, bytes, 10);
}

/* A client's read; returns its source. */
static uint8_t image_read(struct image *m, uint64_t lba, uint64_t len)
{
	return env_read(m->v, (uint32_t)(lba / m->object_sectors), lba % m->object_sectors * 512,
		len * 512);
}

/* ---- readahead ---- */

TEST(readahead_follows_a_stream)
{
	struct cache_env v;
	struct image m;
	struct readahead *ra;
	uint32_t waited = 0;
	uint64_t began;

	env_open(&v, 64 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 4, 4 * MIB);
	ra = readahead_new(v.cache, &m.r, MIB);
	began = loop_now(v.loop);
	for (uint64_t lba = 0; lba < m.r.size_sectors; lba += 32) {
		readahead_saw(ra, lba, 32);
		waited += image_read(&m, lba, 32) == TRACE_SRC_STORE;
	}
	assert_in_range(waited, 1, 4 + 1); /* a chunk's worth at the start */
	assert_in_range(env_stats(&v).gets, 16, 48);
	assert_true(loop_now(v.loop) - began < 600000000); /* cold: 256 * 20 ms */
	assert_int_equal(env_stats(&v).prefetch_bytes, 16 * MIB - CHUNK);
	assert_int_equal(env_stats(&v).prefetch_used_bytes, 16 * MIB - CHUNK);
	readahead_free(ra);
	env_close(&v);
}

TEST(readahead_keeps_interleaved_streams_apart)
{
	struct cache_env v;
	struct image m;
	struct readahead *ra;
	uint32_t waited = 0;

	env_open(&v, 128 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 8, 4 * MIB);
	ra = readahead_new(v.cache, &m.r, MIB);
	for (uint64_t at = 0; at < m.object_sectors; at += 128)
		for (uint64_t s = 0; s < 6; s++) {
			uint64_t lba = (s * 5 % 6) * m.object_sectors + at;

			readahead_saw(ra, lba, 128);
			waited += image_read(&m, lba, 128) == TRACE_SRC_STORE;
		}
	/* The first read of each; and the second begins it (two chunks from its end on). */
	assert_in_range(waited, 6, 2 * 6);
	readahead_free(ra);
	env_close(&v);
}

TEST(readahead_leaves_random_reads_alone)
{
	struct cache_env v;
	struct image m;
	struct readahead *ra;
	uint64_t s = 5;

	env_open(&v, 64 * MIB, MIB, CHUNK, NULL);
	open_image(&m, &v, 8, 4 * MIB);
	ra = readahead_new(v.cache, &m.r, MIB);
	for (unsigned n = 0; n < 500; n++)
		readahead_saw(ra, test_rand(&s) % (m.r.size_sectors / 1000) * 1000, 8);
	env_settle(&v);
	assert_int_equal(env_stats(&v).prefetch_gets, 0);
	/* At the end of the image, and over a hole. */
	m.hole_from = m.r.size_sectors - 2000, m.hole_to = m.r.size_sectors - 1000;
	for (uint64_t lba = m.r.size_sectors - 4096; lba < m.r.size_sectors; lba += 128)
		readahead_saw(ra, lba, 128);
	env_settle(&v);
	assert_true(cache_has(v.cache, &v.ref[7], (m.object_sectors - 1000) * 512, 1000 * 512));
	assert_false(cache_has(v.cache, &v.ref[7], (m.object_sectors - 1500) * 512, 512));
	readahead_free(ra);
	env_close(&v);
}

TEST(readahead_may_be_freed_while_it_reads)
{
	struct cache_env v;
	struct image m;
	struct readahead *ra;

	env_open(&v, 64 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 2, 4 * MIB);
	ra = readahead_new(v.cache, &m.r, MIB);
	readahead_saw(ra, 0, 8);
	readahead_saw(ra, 8, 8);
	assert_true(cache_busy(v.cache, v.store));
	readahead_free(ra);
	while (cache_busy(v.cache, v.store))
		loop_poll(v.loop, LOOP_FOREVER);
	assert_int_equal(env_read(&v, 0, CHUNK, 4096), TRACE_SRC_PREFETCH);
	env_close(&v);
}

/* ---- boot profiles ---- */

enum { BOOT_READS = 400, BOOT_OBJECTS = 6, THINK_US = 2000 };

/* A boot: reads of 4 to 64 KiB.  sequential: in the order of the objects, as after a
 * reorganisation; else all over the image. */
static void make_boot(struct profile_range *r, const struct image *m, bool sequential)
{
	uint64_t s = 99, at = 0;

	for (uint32_t i = 0; i < BOOT_READS; i++) {
		uint32_t len = 8u << test_rand(&s) % 5;

		r[i].len = len;
		r[i].lba = sequential
				   ? at
				   : (i * 7919ull % BOOT_READS) * (m->r.size_sectors / BOOT_READS);
		r[i].first_us = i * THINK_US;
		at += len;
	}
}

/* Reads that cross an object are two requests of the cache. */
static void boot_read(struct image *m, uint64_t lba, uint64_t len)
{
	uint64_t left = m->object_sectors - lba % m->object_sectors;

	if (len > left) {
		image_read(m, lba, left);
		boot_read(m, lba + left, len - left);
	} else {
		image_read(m, lba, len);
	}
}

static void think(struct cache_env *v, uint64_t us)
{
	uint64_t until = loop_now(v->loop) + us * 1000;

	while (loop_now(v->loop) < until)
		loop_poll(v->loop, (int64_t)(until - loop_now(v->loop)));
}

/* Play the boot; returns the time a read was outstanding. */
static uint64_t boot(struct image *m, const struct profile_range *r, struct prefetch *p)
{
	uint64_t outstanding = 0, began;

	for (uint32_t i = 0; i < BOOT_READS; i++) {
		began = loop_now(m->v->loop);
		if (p)
			prefetch_saw(p, r[i].lba, r[i].len);
		boot_read(m, r[i].lba, r[i].len);
		outstanding += loop_now(m->v->loop) - began;
		think(m->v, THINK_US);
	}
	return outstanding;
}

static uint64_t one_boot(bool sequential, bool prefetch, struct cache_stats *st)
{
	struct profile_range r[BOOT_READS];
	struct prefetch *p = NULL;
	struct cache_env v;
	struct image m;
	uint64_t ns;

	env_open(&v, 128 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, BOOT_OBJECTS, 4 * MIB);
	make_boot(r, &m, sequential);
	if (prefetch)
		p = prefetch_new(v.cache, &m.r, r, BOOT_READS, 64 * MIB, 4, 4 * MIB);
	ns = boot(&m, r, p);
	if (p) {
		assert_true(prefetch_done(p));
		prefetch_free(p);
	}
	env_settle(&v);
	*st = env_stats(&v);
	assert_int_equal(st->gets, v.spy->gets);
	env_close(&v);
	return ns;
}

TEST(a_boot_in_order_needs_few_gets_and_little_waiting)
{
	struct cache_stats cold, ahead, scattered, scattered_ahead;
	uint64_t cold_ns = one_boot(true, false, &cold);
	uint64_t ahead_ns = one_boot(true, true, &ahead);
	uint64_t scattered_ns = one_boot(false, false, &scattered);
	uint64_t scattered_ahead_ns = one_boot(false, true, &scattered_ahead);

	printf("in order: cold %lu GETs %lu ms, prefetch %lu GETs %lu ms; scattered: %lu GETs %lu "
	       "ms, "
	       "prefetch %lu GETs %lu ms\n",
		cold.gets, cold_ns / 1000000, ahead.gets, ahead_ns / 1000000, scattered.gets,
		scattered_ns / 1000000, scattered_ahead.gets, scattered_ahead_ns / 1000000);
	assert_true(ahead.gets * 10 < cold.gets);
	assert_true(ahead_ns * 20 < cold_ns);
	/* All that was fetched ahead was wanted, but for what fills up the last chunk. */
	assert_true(ahead.prefetch_bytes - ahead.prefetch_used_bytes < CHUNK);
	assert_int_equal(ahead.miss_bytes, 0);

	/* What jumps the queue may ask for two neighbours one by one. */
	assert_true(scattered_ahead.gets * 20 <= scattered.gets * 21);
	assert_true(scattered_ahead_ns * 4 < scattered_ns);
}

TEST(leaving_the_script_stops_it)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;
	struct prefetch *p;
	uint64_t gets;

	env_open(&v, 128 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 12, 4 * MIB);
	for (uint32_t i = 0; i < BOOT_READS; i++)
		r[i] = (struct profile_range){i * 128, 128, i * 1000000};
	p = prefetch_new(v.cache, &m.r, r, BOOT_READS, MIB, 4, 256 * KIB);
	for (uint32_t i = 0; i < 20; i++) {
		prefetch_saw(p, r[i].lba, 8);
		think(&v, 1000);
	}
	assert_false(prefetch_done(p));
	for (uint32_t i = 0; i < 32; i++)
		prefetch_saw(p, 10 * m.object_sectors + i * 8, 8); /* not in the profile */
	assert_false(prefetch_done(p));
	prefetch_saw(p, 10 * m.object_sectors, 8);
	think(&v, 200000); /* for what is in flight */
	assert_true(prefetch_done(p));
	gets = env_stats(&v).gets;
	assert_true(env_stats(&v).prefetch_bytes < 4 * MIB);
	for (uint32_t i = 20; i < 100; i++)
		prefetch_saw(p, r[i].lba, 128);
	env_settle(&v);
	assert_int_equal(env_stats(&v).gets, gets);
	assert_true(prefetch_done(p));
	prefetch_free(p);
	env_close(&v);
}

TEST(it_stays_within_its_pace)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;
	struct prefetch *p;

	env_open(&v, 128 * MIB, MIB, CHUNK, NULL);
	open_image(&m, &v, 12, 4 * MIB);
	for (uint32_t i = 0; i < BOOT_READS; i++)
		r[i] = (struct profile_range){i * 128, 128, i * 1000000}; /* 64 KiB a second */
	p = prefetch_new(v.cache, &m.r, r, BOOT_READS, MIB, 4, 256 * KIB);
	think(&v, 1000);
	assert_in_range(env_stats(&v).prefetch_bytes, MIB, MIB + 256 * KIB);
	for (uint32_t i = 0; i < 32; i++)
		prefetch_saw(p, r[i].lba, 128); /* and touches 2 MiB: 1 MiB of it unfetched */
	think(&v, 1000);
	assert_in_range(env_stats(&v).prefetch_bytes, 3 * MIB - 512 * KIB, 3 * MIB + 256 * KIB);
	/* Time passes: what is due soon is fetched, whatever lies unread. */
	think(&v, 60000000);
	assert_true(env_stats(&v).prefetch_bytes > 5 * MIB);
	assert_true(env_stats(&v).prefetch_bytes < 8 * MIB);
	assert_false(prefetch_done(p));
	prefetch_free(p);
	env_close(&v);
}

TEST(a_profile_with_overlaps_and_holes_ends)
{
	uint64_t s = test_seed();
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;

	for (unsigned round = 0; round < 8; round++) {
		struct prefetch *p;

		env_open(&v, 8 * MIB, 256 * KIB, CHUNK, round % 2 ? store_model_find("ssd") : NULL);
		open_image(&m, &v, BOOT_OBJECTS, MIB);
		m.hole_from = 3000, m.hole_to = 7000;
		for (uint32_t i = 0; i < BOOT_READS; i++) {
			r[i].len = (uint32_t)(1 + test_rand(&s) % (i % 50 ? 100 : 5000));
			r[i].lba = test_rand(&s) % (m.r.size_sectors - r[i].len);
			r[i].first_us = i * 1000;
		}
		p = prefetch_new(v.cache, &m.r, r, BOOT_READS, 256 * KIB, 1 + round % 3,
			round < 4 ? 4 * MIB : CHUNK);
		for (uint32_t i = 0; i < BOOT_READS; i++) {
			if (round == 7 && i == 100)
				break; /* freed in the middle */
			prefetch_saw(p, r[i].lba, r[i].len);
			boot_read(&m, r[i].lba, r[i].len);
		}
		if (round < 7) {
			env_settle(&v);
			assert_true(prefetch_done(p));
		}
		prefetch_free(p);
		env_close(&v);
	}
}

/* ---- it adapts to the guest ---- */

/* `n` ranges of 64 KiB, one after the other, a second apart. */
static void make_steps(struct profile_range *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		r[i] = (struct profile_range){i * 128, 128, i * 1000000};
}

TEST(what_is_asked_for_early_jumps_the_queue)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;
	struct prefetch *p;
	uint64_t before;

	env_open(&v, 128 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 12, 4 * MIB);
	make_steps(r, BOOT_READS);
	p = prefetch_new(v.cache, &m.r, r, BOOT_READS, MIB, 4, MIB);
	think(&v, 500000);
	before = env_stats(&v).prefetch_bytes;
	assert_in_range(before, MIB, 2 * MIB); /* as far as the pace lets it */

	/* Range 200 is 12 MiB ahead; it comes at once, with what follows, and nothing between. */
	prefetch_saw(p, r[200].lba, 8);
	think(&v, 500000);
	assert_int_equal(env_stats(&v).prefetch_jumps, 1);
	assert_true(cache_has(v.cache, &v.ref[3], (r[200].lba - 3 * m.object_sectors) * 512, 256 * KIB));
	assert_false(cache_has(v.cache, &v.ref[2], 0, 512));

	/* The guest goes on there: each jump goes twice as far as the one before. */
	prefetch_saw(p, r[204].lba, 8);
	think(&v, 500000);
	assert_int_equal(env_stats(&v).prefetch_jumps, 2);
	assert_int_equal(env_read(&v, 3, (r[210].lba - 3 * m.object_sectors) * 512, 4096),
		TRACE_SRC_PREFETCH);
	/* What was issued, and what is next in the queue, does not jump. */
	for (uint32_t i = 204; i < 212; i++)
		prefetch_saw(p, r[i].lba, 128);
	for (uint32_t i = 0; i < 8; i++)
		prefetch_saw(p, r[i].lba, 128);
	assert_int_equal(env_stats(&v).prefetch_jumps, 2);
	/* The queue goes on where it was. */
	think(&v, 500000);
	assert_true(env_stats(&v).prefetch_bytes > before + 768 * KIB);
	assert_false(prefetch_done(p));
	prefetch_free(p);
	env_settle(&v);
	env_close(&v);
}

TEST(a_jump_need_not_wait_for_what_is_in_flight)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;
	struct prefetch *p;

	env_open(&v, 128 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 12, 4 * MIB);
	make_steps(r, BOOT_READS);
	p = prefetch_new(v.cache, &m.r, r, BOOT_READS, 64 * MIB, 1, MIB);
	prefetch_saw(p, r[300].lba, 8); /* the first GET has just begun, and is all that may be out */
	think(&v, 30000);
	assert_int_equal(env_stats(&v).prefetch_jumps, 1);
	assert_int_equal(env_read(&v, 4, (r[301].lba - 4 * m.object_sectors) * 512, 4096),
		TRACE_SRC_PREFETCH);
	prefetch_free(p);
	env_settle(&v);
	env_close(&v);
}

TEST(a_script_of_which_little_is_read_ends)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;

	/* Of every `of` ranges the guest reads one, so none of its reads is outside. */
	for (uint32_t of = 1; of <= 4; of += 3) {
		struct prefetch *p;
		uint64_t bytes;

		env_open(&v, 128 * MIB, MIB, CHUNK, NULL);
		open_image(&m, &v, 12, 4 * MIB);
		make_steps(r, BOOT_READS);
		p = prefetch_new(v.cache, &m.r, r, BOOT_READS, 64 * MIB, 4, MIB);
		think(&v, 1000);
		for (uint32_t i = 0; i < BOOT_READS; i += of) {
			prefetch_saw(p, r[i].lba, 128);
			think(&v, of * 1000000);
		}
		bytes = env_stats(&v).prefetch_bytes;
		assert_true(prefetch_done(p));
		if (of == 1)
			assert_int_equal(bytes, BOOT_READS * 64 * KIB);
		prefetch_free(p);
		env_close(&v);
	}

}

TEST(it_ends_before_it_has_fetched_much_that_is_not_read)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;
	struct prefetch *p;

	make_steps(r, BOOT_READS);
	env_open(&v, 128 * MIB, MIB, CHUNK, NULL);
	open_image(&m, &v, 12, 4 * MIB);
	p = prefetch_new(v.cache, &m.r, r, BOOT_READS, MIB, 4, 256 * KIB);
	for (uint32_t i = 0; i < BOOT_READS; i += 4) {
		prefetch_saw(p, r[i].lba, 128);
		think(&v, 4000000);
	}
	assert_true(prefetch_done(p));
	assert_in_range(env_stats(&v).prefetch_bytes, 8 * MIB, 14 * MIB);
	prefetch_free(p);
	env_close(&v);
}

/* Sectors [from, to) were overwritten: they are in object 11 now. */
static uint64_t rewritten[2];

static void resolve_rewritten(struct cache_resolver *r, uint64_t lba, uint64_t len,
	void (*fn)(void *, const struct object_ref *, uint64_t, uint64_t, uint64_t), void *arg)
{
	struct image *m = (struct image *)(void *)r;
	uint64_t end = lba + len;

	for (; lba < end; lba += 8) {
		bool new = lba >= rewritten[0] && lba < rewritten[1] && lba / 8 % 64 == 7;
		uint64_t at = new ? lba / 64 / 8 * 8 : lba % m->object_sectors;

		fn(arg, &m->v->ref[new ? 11 : lba / m->object_sectors], lba, at * 512, 4096);
	}
}

TEST(what_was_overwritten_does_not_cut_the_long_gets)
{
	struct profile_range r[BOOT_READS];
	struct cache_env v;
	struct image m;
	struct prefetch *p;
	uint64_t gets;

	env_open(&v, 128 * MIB, MIB, CHUNK, store_model_find("s3"));
	open_image(&m, &v, 12, 4 * MIB);
	m.r.resolve = resolve_rewritten;
	rewritten[0] = 0, rewritten[1] = 6 * m.object_sectors; /* one block in 64: 96 of them */
	make_steps(r, BOOT_READS);
	p = prefetch_new(v.cache, &m.r, r, BOOT_READS, 64 * MIB, 4, 4 * MIB);
	env_settle(&v);
	assert_true(prefetch_done(p));
	gets = env_stats(&v).gets;
	/* 7 objects, the first of them in two, and the new blocks in some more. */
	assert_in_range(gets, 8, 16);
	prefetch_free(p);
	env_close(&v);
}

TEST(an_empty_profile_is_done_at_once)
{
	struct cache_env v;
	struct image m;
	struct prefetch *p;

	env_open(&v, 8 * MIB, 256 * KIB, CHUNK, NULL);
	open_image(&m, &v, 1, MIB);
	p = prefetch_new(v.cache, &m.r, NULL, 0, MIB, 4, MIB);
	assert_true(prefetch_done(p));
	prefetch_saw(p, 0, 8);
	prefetch_free(p);
	env_close(&v);
	env_open(&v, 0, 0, CHUNK, NULL); /* nowhere to keep anything */
	open_image(&m, &v, 1, MIB);
	p = prefetch_new(v.cache, &m.r, &(struct profile_range){0, 8, 0}, 1, MIB, 4, MIB);
	assert_true(prefetch_done(p));
	prefetch_free(p);
	env_close(&v);
}
