/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_bdev.c - the one suite that every block device passes unchanged. */
#include "test/bdev_bench.h"

/* Define a test that runs on every kind of device. */
#define CONFORMS(name_)                                               \
	static void conform_##name_(struct bench *b);                 \
	TEST(name_)                                                   \
	{                                                             \
		for (unsigned kind = 0; kind < BENCH_KINDS; kind++) { \
			struct bench b;                               \
			if (!bench_has(kind))                         \
				continue;                             \
			b = bench_new(kind);                          \
			conform_##name_(&b);                          \
			bench_free(&b);                               \
		}                                                     \
	}                                                             \
	static void conform_##name_(struct bench *b)

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

	rd.r.iovcnt = 2;
	for (int i = 0; i < 4; i++)
		wr.iov[i] = (struct iovec){w + (6 - 2 * i) * 8192, 8192};
	rd.iov[0] = (struct iovec){r, 4096};
	rd.iov[1] = (struct iovec){r + 4096, 4 * 8192 - 4096};
	/* An empty piece is nothing. */
	wr.iov[4] = wr.iov[3];
	wr.iov[3].iov_len = 0;
	wr.r.iovcnt = 5;
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
