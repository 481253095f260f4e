/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_bdev.c - one conformance suite that every block device passes unchanged, then what is
 * particular to each: files (create, lock, bad input), memory, the simulated disk (crashes,
 * faults).
 */
#include "sys/bdev.h"
#include "sys/bdev_sim.h"
#include "sys/container.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20, DEV_BYTES = 8 * MIB, SECTOR_BYTES = 4096 };

/* ---- one device under test ---- */

struct bench {
	struct loop *loop;
	struct bdev *dev;
	struct sim_disk *disk;
	char path[128];
};

static struct bench open_sim(uint64_t seed, struct sim_disk_model model)
{
	struct bench b = {0};
	struct err e;

	assert_int_equal(loop_sim_new(seed, &b.loop, &e), 0);
	assert_int_equal(sim_disk_new(DEV_BYTES, &model, &b.disk), 0);
	assert_int_equal(sim_disk_open(b.disk, b.loop, &b.dev), 0);
	return b;
}

static struct sim_disk_model slow_disk(void)
{
	return (struct sim_disk_model){.read_ns = 80000,
		.write_ns = 50000,
		.flush_ns = 500000,
		.bytes_per_s = 1000u * MIB,
		.jitter_percent = 50,
		.parallel = 8};
}

static struct loop *new_uring(void)
{
	struct loop *l;
	struct err e = {.msg = ""};

	if (loop_uring_new(64, &l, &e) < 0)
		fail_msg("%s", e.msg);
	return l;
}

static void must_open(struct bench *b, const char *url, unsigned flags)
{
	struct err e = {.msg = ""};

	if (bdev_open(b->loop, url, flags, DEV_BYTES, &b->dev, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

static struct bench bench_new(int kind)
{
	struct bench b = {0};
	char url[160];
	struct err e;

	switch (kind) {
	case 0:
		b.loop = new_uring();
		snprintf(b.path, sizeof(b.path), "%s/dev", test_dir());
		snprintf(url, sizeof(url), "file:%s", b.path);
		must_open(&b, url, BDEV_CREATE | BDEV_LOCK);
		break;
	case 1:
		b.loop = new_uring();
		must_open(&b, "mem:8M", 0);
		break;
	case 2:
		assert_int_equal(loop_sim_new(1, &b.loop, &e), 0);
		must_open(&b, "mem:8M", 0);
		break;
	default:
		b = open_sim(test_seed(), slow_disk());
	}
	return b;
}

static void bench_free(struct bench *b)
{
	bdev_close(b->dev);
	loop_free(b->loop);
	sim_disk_free(b->disk);
	if (b->path[0])
		unlink(b->path);
}

enum { KINDS = 4 };

/* Define a test that runs on every kind of device. */
#define CONFORMS(name_)                                    \
	static void conform_##name_(struct bench *b);      \
	TEST(name_)                                        \
	{                                                  \
		for (int kind = 0; kind < KINDS; kind++) { \
			struct bench b = bench_new(kind);  \
			conform_##name_(&b);               \
			bench_free(&b);                    \
		}                                          \
	}                                                  \
	static void conform_##name_(struct bench *b)

/* ---- requests ---- */

struct io {
	struct bdev_req r;
	struct iovec iov[8];
	int fired, status;
	int *order; /* counts completions; `rank` is this one's place */
	int rank;
};

static void io_done(struct bdev_req *r, int status)
{
	struct io *io = container_of(r, struct io, r);

	io->fired++;
	io->status = status;
	if (io->order)
		io->rank = ++*io->order;
}

static struct io io_of(enum bdev_op op, uint64_t at, void *buf, uint64_t len)
{
	struct io io = {.r = {.op = op, .offset_bytes = at, .len_bytes = len, .done = io_done}};

	io.iov[0] = (struct iovec){buf, len};
	return io;
}

static void submit(struct bench *b, struct io *io)
{
	io->r.iov = io->iov;
	if (!io->r.iovcnt)
		io->r.iovcnt = 1;
	bdev_submit(b->dev, &io->r);
	assert_int_equal(io->fired, 0);
}

static void wait_for(struct bench *b, struct io *io)
{
	while (!io->fired)
		loop_poll(b->loop, LOOP_FOREVER);
	assert_int_equal(io->fired, 1);
}

static int run(struct bench *b, enum bdev_op op, uint64_t at, void *buf, uint64_t len)
{
	struct io io = io_of(op, at, buf, len);

	submit(b, &io);
	wait_for(b, &io);
	return io.status;
}

static uint8_t *buffer(uint64_t len)
{
	uint8_t *p = aligned_alloc(SECTOR_BYTES, len);

	assert_non_null(p);
	memset(p, 0, len);
	return p;
}

static uint8_t *noise(uint64_t len, uint64_t seed)
{
	uint8_t *p = buffer(len);
	uint64_t s = seed + 1;

	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t v = test_rand(&s);

		memcpy(p + i, &v, 8);
	}
	return p;
}

/* ---- conformance ---- */

CONFORMS(says_what_it_is)
{
	assert_int_equal(b->dev->size_bytes, DEV_BYTES);
	assert_true(b->dev->sector_bytes == 512 || b->dev->sector_bytes == 4096);
	assert_ptr_equal(b->dev->loop, b->loop);
}

CONFORMS(a_new_device_reads_as_zeroes)
{
	uint8_t *got = noise(MIB, 3), *zero = buffer(MIB);

	for (uint64_t at = 0; at < DEV_BYTES; at += MIB) {
		memset(got, 0xff, MIB);
		assert_int_equal(run(b, BDEV_READ, at, got, MIB), 0);
		assert_memory_equal(got, zero, MIB);
	}
	free(got);
	free(zero);
}

CONFORMS(what_was_written_is_read)
{
	uint8_t *w = noise(65536, 5), *r = buffer(65536);

	assert_int_equal(run(b, BDEV_WRITE, DEV_BYTES - 65536, w, 65536), 0);
	assert_int_equal(run(b, BDEV_READ, DEV_BYTES - 65536, r, 65536), 0);
	assert_memory_equal(r, w, 65536);
	assert_int_equal(run(b, BDEV_READ, DEV_BYTES - 131072, r, 65536), 0);
	memset(w, 0, 65536);
	assert_memory_equal(r, w, 65536);
	free(w);
	free(r);
}

CONFORMS(scattered_memory_is_one_request)
{
	uint8_t *w = noise(8 * 8192, 7), *r = buffer(4 * 8192);
	struct io wr = io_of(BDEV_WRITE, 8192, NULL, 4 * 8192);
	struct io rd = io_of(BDEV_READ, 8192, NULL, 4 * 8192);

	wr.r.iovcnt = 4;
	rd.r.iovcnt = 2;
	for (int i = 0; i < 4; i++)
		wr.iov[i] = (struct iovec){w + (6 - 2 * i) * 8192, 8192};
	rd.iov[0] = (struct iovec){r, 4096};
	rd.iov[1] = (struct iovec){r + 4096, 4 * 8192 - 4096};
	submit(b, &wr);
	wait_for(b, &wr);
	assert_int_equal(wr.status, 0);
	submit(b, &rd);
	wait_for(b, &rd);
	assert_int_equal(rd.status, 0);
	for (int i = 0; i < 4; i++)
		assert_memory_equal(r + i * 8192, w + (6 - 2 * i) * 8192, 8192);
	free(w);
	free(r);
}

CONFORMS(flush_and_discard_complete)
{
	uint8_t *w = noise(8192, 9), *r = buffer(8192);

	assert_int_equal(run(b, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(run(b, BDEV_WRITE, 0, w, 8192), 0);
	assert_int_equal(run(b, BDEV_DISCARD, MIB, NULL, MIB), 0);
	assert_int_equal(run(b, BDEV_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(run(b, BDEV_READ, 0, r, 8192), 0);
	assert_memory_equal(r, w, 8192);
	free(w);
	free(r);
}

CONFORMS(a_discarded_range_is_old_or_zero_and_writable)
{
	uint8_t *w = noise(65536, 11), *r = buffer(65536), zero[512] = {0};

	assert_int_equal(run(b, BDEV_WRITE, 65536, w, 65536), 0);
	assert_int_equal(run(b, BDEV_DISCARD, 65536, NULL, 65536), 0);
	assert_int_equal(run(b, BDEV_READ, 65536, r, 65536), 0);
	for (int i = 0; i < 65536; i += 512)
		assert_true(!memcmp(r + i, w + i, 512) || !memcmp(r + i, zero, 512));
	assert_int_equal(run(b, BDEV_WRITE, 65536, w, 65536), 0);
	assert_int_equal(run(b, BDEV_READ, 65536, r, 65536), 0);
	assert_memory_equal(r, w, 65536);
	free(w);
	free(r);
}

/* More requests than the ring has entries, all at once; each fires once. */
CONFORMS(many_requests_in_flight)
{
	enum { N = 300 };
	uint8_t *w = noise(N * SECTOR_BYTES, 13), *r = buffer(N * SECTOR_BYTES);
	struct io *io = calloc(N, sizeof(*io));

	for (int pass = 0; pass < 2; pass++) {
		for (uint64_t i = 0; i < N; i++) {
			io[i] = io_of(pass ? BDEV_READ : BDEV_WRITE, i * SECTOR_BYTES,
				(pass ? r : w) + i * SECTOR_BYTES, SECTOR_BYTES);
			submit(b, &io[i]);
		}
		for (int i = 0; i < N; i++)
			wait_for(b, &io[i]);
		for (int i = 0; i < N; i++)
			assert_int_equal(io[i].status, 0);
	}
	loop_poll(b->loop, 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(io[i].fired, 1);
	assert_memory_equal(r, w, N * SECTOR_BYTES);
	free(io);
	free(w);
	free(r);
}

/* Random writes, reads and discards against a copy in memory. */
CONFORMS(random_requests_match_a_model)
{
	uint64_t s = test_seed() | 1;
	uint8_t *model = buffer(DEV_BYTES), *buf = buffer(65536);

	for (int i = 0; i < 300; i++) {
		uint64_t len = (test_rand(&s) % 16 + 1) * SECTOR_BYTES;
		uint64_t at = test_rand(&s) % ((DEV_BYTES - len) / SECTOR_BYTES) * SECTOR_BYTES;

		if (test_rand(&s) & 1) {
			for (uint64_t k = 0; k < len; k += 512)
				memset(buf + k, (int)test_rand(&s), 512);
			memcpy(model + at, buf, len);
			assert_int_equal(run(b, BDEV_WRITE, at, buf, len), 0);
		} else {
			assert_int_equal(run(b, BDEV_READ, at, buf, len), 0);
			assert_memory_equal(buf, model + at, len);
		}
	}
	free(model);
	free(buf);
}
