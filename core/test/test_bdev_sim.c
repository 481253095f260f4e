/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_bdev_sim.c - the simulated disk: what crashes take, faults, time, determinism. */
#include "test/bdev_bench.h"

#include <errno.h>

/* Sector i of version v, and which version a sector holds (-1: none). */
static void stamp(uint8_t *buf, uint64_t len, uint64_t at, int v)
{
	for (uint64_t off = 0; off < len; off += 512) {
		uint64_t words[64];

		for (uint64_t k = 0; k < 64; k++)
			words[k] = (at + off) * 31 + k * 7 + (uint64_t)v * 1000003;
		memcpy(buf + off, words, 512);
	}
}

static int version_at(struct sim_disk *d, uint64_t at, int newest)
{
	uint8_t got[512], want[512] = {0};

	sim_disk_peek(d, at, got, 512);
	if (!memcmp(got, want, 512))
		return 0;
	for (int v = 1; v <= newest; v++) {
		stamp(want, 512, at, v);
		if (!memcmp(got, want, 512))
			return v;
	}
	return -1;
}

static void write_version(struct bench *b, uint64_t at, uint64_t len, int v)
{
	uint8_t *buf = buffer(len);

	stamp(buf, len, at, v);
	assert_int_equal(run(b, BDEV_WRITE, at, buf, len), 0);
	free(buf);
}

/* Power off with everything that is on it. */
static void crash(struct bench *b, uint64_t seed, bool process_only)
{
	sim_disk_crash(b->disk, seed, process_only);
	loop_sim_crash(b->loop);
	loop_free(b->loop);
}

static void crashed_free(struct bench *b)
{
	sim_disk_free(b->disk);
}

enum { RANGE = 64 * 1024 };

/* How many of the sectors of [at, at + RANGE) hold each version. */
static void count_versions(struct bench *b, uint64_t at, int newest, int counts[4])
{
	memset(counts, 0, 4 * sizeof(counts[0]));
	for (uint64_t off = 0; off < RANGE; off += 512) {
		int v = version_at(b->disk, at + off, newest);

		assert_in_range(v, 0, newest);
		counts[v]++;
	}
}

TEST(flushed_sectors_survive_power_loss)
{
	int n[4];

	for (uint64_t seed = 0; seed < 100; seed++) {
		struct bench b = bench_sim(seed, slow_disk());

		write_version(&b, 0, RANGE, 1);
		assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), 0);
		write_version(&b, RANGE, RANGE, 1);
		crash(&b, seed, false);
		count_versions(&b, 0, 1, n);
		assert_int_equal(n[1], RANGE / 512);
		crashed_free(&b);
	}
}

TEST(unflushed_sectors_are_lost_kept_and_torn)
{
	int all = 0, nothing = 0, torn = 0, older = 0, n[4];

	for (uint64_t seed = 0; seed < 300; seed++) {
		struct bench b = bench_sim(seed, slow_disk());

		write_version(&b, 0, RANGE, 1);
		assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), 0);
		write_version(&b, 0, RANGE, 2);
		write_version(&b, 0, RANGE, 3);
		crash(&b, seed, false);
		count_versions(&b, 0, 3, n);
		assert_int_equal(n[0], 0);
		all += n[3] == RANGE / 512;
		nothing += n[1] == RANGE / 512;
		older += n[2] != 0;
		torn += n[3] && n[1];
		/* A second power loss changes nothing: what is left is durable. */
		sim_disk_crash(b.disk, seed + 1, false);
		int again[4];

		count_versions(&b, 0, 3, again);
		assert_memory_equal(n, again, sizeof(n));
		crashed_free(&b);
	}
	assert_true(all > 10 && nothing > 10 && torn > 10 && older > 10);
}

TEST(a_later_write_may_survive_an_earlier_one)
{
	int reordered = 0;

	for (uint64_t seed = 0; seed < 100; seed++) {
		struct bench b = bench_sim(seed, slow_disk());
		int first[4], second[4];

		write_version(&b, 0, RANGE, 1);
		write_version(&b, RANGE, RANGE, 1);
		crash(&b, seed, false);
		count_versions(&b, 0, 1, first);
		count_versions(&b, RANGE, 1, second);
		reordered += first[1] == 0 && second[1] == RANGE / 512;
		crashed_free(&b);
	}
	assert_true(reordered > 2);
}

static struct fingerprint print_of(struct sim_disk *d)
{
	struct fingerprint f = {0};

	sim_disk_fingerprint(d, &f);
	return f;
}

/* Versions 1 and 2 durable, 3 in the cache, 4 in flight, each over the one before in part. */
TEST(what_a_crash_would_leave_is_told_beforehand)
{
	/* by what is kept: the versions of the four quarters */
	static const int want[4][4] = {{1, 2, 2, 0}, {1, 3, 3, 0}, {1, 2, 4, 4}, {1, 3, 4, 4}};
	struct bench b = bench_sim(1, slow_disk());
	uint8_t *buf = buffer(2 * RANGE);
	struct io io = io_of(BDEV_WRITE, 2 * RANGE, buf, 2 * RANGE);
	struct fingerprint before, seen[4];
	uint64_t changes;

	write_version(&b, 0, RANGE, 1);
	write_version(&b, RANGE, 2 * RANGE, 2);
	assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(sim_disk_undecided(b.disk), 0);
	write_version(&b, RANGE, 2 * RANGE, 3);
	stamp(buf, 2 * RANGE, 2 * RANGE, 4);
	changes = sim_disk_changes(b.disk);
	submit(&b, &io);
	assert_true(sim_disk_changes(b.disk) > changes);
	assert_int_equal(sim_disk_undecided(b.disk), 2);
	before = print_of(b.disk);
	for (unsigned kept = 0; kept < 4; kept++) {
		struct sim_disk *after;

		assert_int_equal(sim_disk_after_crash(b.disk, kept, &after), 0);
		for (unsigned i = 0; i < 4 * RANGE / 512; i++)
			assert_int_equal(
				version_at(after, i * 512, 4), want[kept][i / (RANGE / 512)]);
		seen[kept] = print_of(after);
		for (unsigned i = 0; i < kept; i++)
			assert_memory_not_equal(&seen[i], &seen[kept], sizeof(seen[i]));
		sim_disk_rot(after, 0, 0); /* the original keeps its own */
		sim_disk_free(after);
	}
	seen[0] = print_of(b.disk);
	assert_memory_equal(&before, &seen[0], sizeof(before));
	crash(&b, 1, false);
	crashed_free(&b);
	free(buf);
}

TEST(a_write_in_flight_may_tear)
{
	int all = 0, nothing = 0, torn = 0, n[4];

	for (uint64_t seed = 0; seed < 200; seed++) {
		struct bench b = bench_sim(seed, slow_disk());
		uint8_t *buf = buffer(RANGE);
		struct io io = io_of(BDEV_WRITE, 0, buf, RANGE);

		stamp(buf, RANGE, 0, 1);
		submit(&b, &io);
		crash(&b, seed, true);
		assert_int_equal(io.fired, 0);
		count_versions(&b, 0, 1, n);
		all += n[1] == RANGE / 512;
		nothing += n[0] == RANGE / 512;
		torn += n[0] && n[1];
		crashed_free(&b);
		free(buf);
	}
	assert_true(all > 10 && nothing > 10 && torn > 10);
}

TEST(when_only_the_process_dies_completed_writes_stay)
{
	int lost = 0, n[4];

	for (uint64_t seed = 0; seed < 50; seed++) {
		struct bench b = bench_sim(seed, slow_disk());

		write_version(&b, 0, RANGE, 1);
		crash(&b, seed, true);
		count_versions(&b, 0, 1, n);
		assert_int_equal(n[1], RANGE / 512);
		/* They are still only cached: the power may fail, too. */
		sim_disk_crash(b.disk, seed, false);
		count_versions(&b, 0, 1, n);
		lost += n[0] != 0;
		crashed_free(&b);
	}
	assert_true(lost > 10);
}

/* A flush covers what had completed when it was submitted, no more. */
TEST(a_flush_does_not_cover_what_completes_beside_it)
{
	int lost = 0, n[4];

	for (uint64_t seed = 0; seed < 50; seed++) {
		struct bench b = bench_sim(seed, slow_disk());
		struct io flush = io_of(BDEV_FLUSH, 0, NULL, 0);

		write_version(&b, 0, RANGE, 1);
		submit(&b, &flush);
		write_version(&b, RANGE, RANGE, 1);
		assert_int_equal(flush.fired, 0);
		wait_for(&b, &flush);
		crash(&b, seed, false);
		count_versions(&b, 0, 1, n);
		assert_int_equal(n[1], RANGE / 512);
		count_versions(&b, RANGE, 1, n);
		lost += n[0] != 0;
		crashed_free(&b);
	}
	assert_true(lost > 10);
}

/* Nor does a flush that comes back good make up for one that failed. */
TEST(what_a_failed_flush_should_have_covered_is_lost)
{
	int n[4];

	for (uint64_t seed = 0; seed < 20; seed++) {
		struct bench b = bench_sim(seed, slow_disk());

		write_version(&b, 0, RANGE, 1);
		sim_disk_model(b.disk)->error_per_million = 1000000;
		assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), -EIO);
		sim_disk_model(b.disk)->error_per_million = 0;
		write_version(&b, RANGE, RANGE, 1);
		write_version(&b, RANGE / 2, 512, 2);
		assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), 0);
		crash(&b, seed, false);
		assert_int_equal(version_at(b.disk, RANGE / 2, 2), 2);
		count_versions(&b, 0, 2, n);
		assert_int_equal(n[0], RANGE / 512 - 1);
		count_versions(&b, RANGE, 1, n);
		assert_int_equal(n[1], RANGE / 512);
		crashed_free(&b);
	}
}

TEST(failed_requests_say_so)
{
	struct sim_disk_model m = slow_disk();
	struct bench b;
	uint8_t *buf = buffer(4096);
	int failed = 0;

	m.error_per_million = 200000;
	b = bench_sim(3, m);
	for (int i = 0; i < 1000; i++) {
		int rc = run(&b, i & 1 ? BDEV_WRITE : BDEV_READ, 0, buf, 4096);

		assert_true(rc == 0 || rc == -EIO);
		failed += rc != 0;
	}
	assert_in_range(failed, 100, 300);
	bench_free(&b);
	free(buf);
}

TEST(bits_rot)
{
	struct bench b = bench_sim(1, slow_disk());
	uint8_t *w = noise(4096, 1), *r = buffer(4096);

	assert_int_equal(run(&b, BDEV_WRITE, 0, w, 4096), 0);
	sim_disk_rot(b.disk, 1000, 3);
	assert_int_equal(run(&b, BDEV_READ, 0, r, 4096), 0);
	w[1000] ^= 8;
	assert_memory_equal(r, w, 4096);
	bench_free(&b);
	free(w);
	free(r);
}

TEST(one_power_on_at_a_time)
{
	struct bench b = bench_sim(1, slow_disk());
	struct bdev *second;
	struct loop *l = b.loop;

	assert_int_equal(sim_disk_open(b.disk, l, &second), -EBUSY);
	write_version(&b, 0, RANGE, 1);
	/* The disk alone may fail, its loop goes on. */
	struct io io = io_of(BDEV_FLUSH, 0, NULL, 0);

	submit(&b, &io);
	sim_disk_crash(b.disk, 1, true);
	assert_true(loop_sim_idle(l));
	assert_int_equal(sim_disk_open(b.disk, l, &b.dev), 0);
	loop_poll(l, LOOP_FOREVER);
	assert_int_equal(io.fired, 0);
	assert_int_equal(version_at(b.disk, 0, 1), 1);
	bench_free(&b);
}

/* What many requests in flight leave behind, as one number. */
static uint64_t history(uint64_t seed)
{
	enum { N = 64 };
	struct bench b = bench_sim(seed, slow_disk());
	static struct io io[N];
	uint8_t *buf = noise(N * SECTOR_BYTES, 1);
	uint64_t sum = 0, s = seed + 1;
	int order = 0;
	uint8_t got[512];

	for (uint64_t i = 0; i < N; i++) {
		io[i] = io_of(BDEV_WRITE, test_rand(&s) % 256 * SECTOR_BYTES,
			buf + i * SECTOR_BYTES, SECTOR_BYTES);
		io[i].order = &order;
		submit(&b, &io[i]);
	}
	while (order < N / 2)
		loop_poll(b.loop, LOOP_FOREVER);
	for (uint64_t i = 0; i < N; i++)
		sum = sum * 31 + (uint64_t)io[i].rank;
	sum = sum * 31 + loop_now(b.loop);
	crash(&b, seed, false);
	for (uint64_t at = 0; at < 256 * SECTOR_BYTES; at += 512) {
		sim_disk_peek(b.disk, at, got, sizeof(got));
		for (int i = 0; i < 512; i++)
			sum = sum * 31 + got[i];
	}
	crashed_free(&b);
	free(buf);
	return sum;
}

TEST(one_seed_one_history)
{
	assert_true(history(5) == history(5));
	assert_true(history(5) != history(6));
}

TEST(requests_complete_out_of_order)
{
	enum { N = 8 };
	struct bench b = bench_sim(2, slow_disk());
	struct io io[N];
	uint8_t *buf = buffer(N * SECTOR_BYTES);
	int order = 0, swaps = 0;

	for (uint64_t i = 0; i < N; i++) {
		io[i] = io_of(BDEV_READ, i * SECTOR_BYTES, buf + i * SECTOR_BYTES, SECTOR_BYTES);
		io[i].order = &order;
		submit(&b, &io[i]);
	}
	while (order < N)
		loop_poll(b.loop, LOOP_FOREVER);
	for (int i = 1; i < N; i++)
		swaps += io[i].rank < io[i - 1].rank;
	assert_true(swaps > 0);
	bench_free(&b);
	free(buf);
}

/* Virtual time that `n` reads of `len` bytes at once take. */
static uint64_t time_of(struct sim_disk_model m, uint64_t n, uint64_t len)
{
	struct bench b = bench_sim(1, m);
	static struct io io[16];
	uint8_t *buf = buffer(len);
	uint64_t t;
	int order = 0;

	for (uint64_t i = 0; i < n; i++) {
		io[i] = io_of(BDEV_READ, i * len, buf, len);
		io[i].order = &order;
		submit(&b, &io[i]);
	}
	while ((uint64_t)order < n)
		loop_poll(b.loop, LOOP_FOREVER);
	t = loop_now(b.loop);
	bench_free(&b);
	free(buf);
	return t;
}

TEST(time_follows_the_model)
{
	struct sim_disk_model m = {.read_ns = 1000, .parallel = 4};

	assert_int_equal(time_of(m, 1, 4096), 1000);
	assert_int_equal(time_of(m, 4, 4096), 1000);
	assert_int_equal(time_of(m, 5, 4096), 2000);
	assert_int_equal(time_of(m, 16, 4096), 4000);
	m.parallel = 0;
	assert_int_equal(time_of(m, 16, 4096), 1000);
	m.bytes_per_s = 4096ull * 1000 * 1000;
	assert_int_equal(time_of(m, 1, 4096), 2000);
	assert_int_equal(time_of(m, 16, 4096), 17000);
	assert_int_equal(time_of(m, 2, 65536), 33000);
}
