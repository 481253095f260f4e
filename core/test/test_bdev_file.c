/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_bdev_file.c - opening devices by URL: files (create, lock, bad input) and memory. */
#include "test/bdev_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int try_open(struct loop *l, const char *url, unsigned flags, uint64_t size, struct bdev **d,
	bool *created)
{
	struct err e = {.msg = ""};
	int rc = bdev_open(l, url, flags, size, d, created, &e);

	/* Every failure has its message, a success has none. */
	assert_true((rc < 0) == (e.msg[0] != 0));
	return rc;
}

static const char *url_of(const char *name)
{
	static char url[160];

	snprintf(url, sizeof(url), "file:%s/%s", test_dir(), name);
	return url;
}

static void make_file(const char *name, uint64_t size)
{
	int fd = open(url_of(name) + 5, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

TEST(bad_urls_are_refused)
{
	static const char *const bad[] = {"", "/dev/null", "mem", "mem:", "mem:0", "mem:-1",
		"mem:4095", "mem:4X", "mem:4KK", "mem:99999999999999999999", "mem:16777216T",
		"sim:4M"};
	struct loop *l = new_uring();
	struct bdev *d = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(try_open(l, bad[i], 0, 0, &d, NULL), -EINVAL);
	assert_int_equal(try_open(l, "mem:8192T", 0, 0, &d, NULL), -ENOMEM);
	assert_int_equal(try_open(l, "file:", 0, 0, &d, NULL), -ENOENT);
	assert_int_equal(try_open(l, "file:/dev/null/x/y", BDEV_CREATE, MIB, &d, NULL), -ENOTDIR);
	assert_int_equal(try_open(l, url_of("absent"), BDEV_LOCK, MIB, &d, NULL), -ENOENT);
	assert_true(try_open(l, "file:/dev", 0, 0, &d, NULL) < 0);
	assert_true(try_open(l, "file:/dev/null", 0, 0, &d, NULL) < 0);
	assert_null(d);
	loop_free(l);
}

TEST(memory_sizes_have_suffixes)
{
	static const struct {
		const char *url;
		uint64_t size;
	} good[] = {
		{"mem:4096", 4096}, {"mem:10000", 8192}, {"mem:64k", 65536}, {"mem:3M", 3 * MIB}};
	struct loop *l = new_uring();
	struct bdev *d;
	bool created;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		created = false;
		assert_int_equal(try_open(l, good[i].url, BDEV_CREATE, 7, &d, &created), 0);
		assert_int_equal(d->size_bytes, good[i].size);
		assert_true(d->memory);
		assert_true(created);
		assert_string_equal(d->url, good[i].url);
		bdev_close(d);
	}
	loop_free(l);
}

/* The first hole, or extent that is allocated but unwritten; the size when there is none. */
static off_t first_hole(const char *path)
{
	int fd = open(path, O_RDONLY);
	off_t at = lseek(fd, 0, SEEK_HOLE);

	close(fd);
	return at;
}

TEST(a_file_is_created_in_full_and_found_again)
{
	struct bench b = {.loop = new_uring()};
	const char *url = url_of("new");
	uint8_t *w = noise(SECTOR_BYTES, 1), *r = buffer(SECTOR_BYTES);
	struct stat st;
	bool created = false;

	assert_int_equal(try_open(b.loop, url, BDEV_CREATE, 9 * MIB, &b.dev, &created), 0);
	assert_true(created);
	assert_int_equal(b.dev->size_bytes, 9 * MIB);
	assert_false(b.dev->memory);
	assert_int_equal(stat(url + 5, &st), 0);
	assert_int_equal(st.st_size, 9 * MIB);
	assert_true(st.st_blocks * 512 >= 9 * MIB);
	assert_int_equal(first_hole(url + 5), 9 * MIB);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(run(&b, BDEV_WRITE, MIB, w, SECTOR_BYTES), 0);
	assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), 0);
	bdev_close(b.dev);
	assert_int_equal(try_open(b.loop, url, BDEV_CREATE, 2 * MIB, &b.dev, &created), 0);
	assert_false(created);
	assert_int_equal(b.dev->size_bytes, 9 * MIB);
	assert_int_equal(run(&b, BDEV_READ, MIB, r, SECTOR_BYTES), 0);
	assert_memory_equal(r, w, SECTOR_BYTES);
	bdev_close(b.dev);
	loop_free(b.loop);
	unlink(url + 5);
	free(w);
	free(r);
}

TEST(an_empty_file_counts_as_absent_when_creating)
{
	struct loop *l = new_uring();
	struct bdev *d;
	bool created = false;

	make_file("empty", 0);
	assert_int_equal(try_open(l, url_of("empty"), 0, MIB, &d, NULL), -EINVAL);
	assert_int_equal(try_open(l, url_of("empty"), BDEV_CREATE, MIB, &d, &created), 0);
	assert_true(created);
	assert_int_equal(d->size_bytes, MIB);
	bdev_close(d);
	loop_free(l);
}

TEST(a_failed_creation_leaves_no_file)
{
	static const uint64_t bad[] = {0, 4095, MIB + 512, UINT64_MAX - 4095};
	struct loop *l = new_uring();
	struct bdev *d = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			try_open(l, url_of("none"), BDEV_CREATE, bad[i], &d, NULL), -EINVAL);
		assert_int_equal(access(url_of("none") + 5, F_OK), -1);
	}
	/* 4 EiB: no disk has it. */
	assert_int_equal(try_open(l, url_of("none"), BDEV_CREATE, 1ull << 62, &d, NULL), -ENOSPC);
	assert_int_equal(access(url_of("none") + 5, F_OK), -1);
	loop_free(l);
}

TEST(odd_sizes_are_rounded_down_or_refused)
{
	struct loop *l = new_uring();
	struct bdev *d;

	make_file("odd", MIB + 4095);
	assert_int_equal(try_open(l, url_of("odd"), BDEV_CREATE, 2 * MIB, &d, NULL), 0);
	assert_int_equal(d->size_bytes, MIB);
	bdev_close(d);
	make_file("odd", 4095);
	assert_int_equal(try_open(l, url_of("odd"), BDEV_CREATE, 2 * MIB, &d, NULL), -EINVAL);
	/* What was there is not ours to remove. */
	assert_int_equal(access(url_of("odd") + 5, F_OK), 0);
	loop_free(l);
}

TEST(a_locked_file_has_one_owner)
{
	struct loop *l = new_uring();
	struct bdev *a, *b;

	assert_int_equal(try_open(l, url_of("own"), BDEV_CREATE | BDEV_LOCK, MIB, &a, NULL), 0);
	assert_int_equal(try_open(l, url_of("own"), BDEV_LOCK, 0, &b, NULL), -EBUSY);
	assert_int_equal(
		try_open(l, url_of("own"), BDEV_LOCK | BDEV_READONLY, 0, &b, NULL), -EBUSY);
	assert_int_equal(try_open(l, url_of("own"), BDEV_READONLY, 0, &b, NULL), 0);
	assert_true(b->readonly);
	bdev_close(b);
	bdev_close(a);
	assert_int_equal(try_open(l, url_of("own"), BDEV_LOCK, 0, &a, NULL), 0);
	bdev_close(a);
	loop_free(l);
}

TEST(a_file_on_tmpfs_works)
{
	struct bench b = {.loop = new_uring()};
	char url[64];
	struct err e = {.msg = ""};
	uint8_t *w = noise(SECTOR_BYTES, 1), *r = buffer(SECTOR_BYTES);

	snprintf(url, sizeof(url), "file:/dev/shm/lsvd-test-%d", (int)getpid());
	if (bdev_open(b.loop, url, BDEV_CREATE, MIB, &b.dev, NULL, &e) == 0) {
		assert_int_equal(run(&b, BDEV_WRITE, 0, w, SECTOR_BYTES), 0);
		assert_int_equal(run(&b, BDEV_DISCARD, MIB / 2, NULL, 65536), 0);
		assert_int_equal(run(&b, BDEV_READ, 0, r, SECTOR_BYTES), 0);
		assert_memory_equal(r, w, SECTOR_BYTES);
		bdev_close(b.dev);
		unlink(url + 5);
	} else {
		/* An older kernel's tmpfs has no O_DIRECT: then the message says so. */
		assert_non_null(strstr(e.msg, "O_DIRECT"));
		assert_int_equal(access(url + 5, F_OK), -1);
	}
	loop_free(b.loop);
	free(w);
	free(r);
}

TEST(a_file_that_shrank_gives_errors)
{
	struct bench b = {.loop = new_uring()};
	uint8_t *buf = buffer(2 * SECTOR_BYTES);

	assert_int_equal(try_open(b.loop, url_of("shrunk"), BDEV_CREATE, MIB, &b.dev, NULL), 0);
	assert_int_equal(truncate(url_of("shrunk") + 5, MIB - SECTOR_BYTES), 0);
	assert_int_equal(run(&b, BDEV_READ, MIB - SECTOR_BYTES, buf, SECTOR_BYTES), -EIO);
	/* The first half is there: a short read, continued, then the end. */
	assert_int_equal(run(&b, BDEV_READ, MIB - 2 * SECTOR_BYTES, buf, 2 * SECTOR_BYTES), -EIO);
	assert_int_equal(run(&b, BDEV_READ, MIB - 2 * SECTOR_BYTES, buf, SECTOR_BYTES), 0);
	bdev_close(b.dev);
	loop_free(b.loop);
	free(buf);
}

TEST(a_file_needs_a_real_loop)
{
	struct loop *l;
	struct bdev *d = NULL;

	assert_int_equal(loop_sim_new(1, &l, NULL), 0);
	assert_int_equal(try_open(l, url_of("x"), BDEV_CREATE, MIB, &d, NULL), -EINVAL);
	assert_int_equal(access(url_of("x") + 5, F_OK), -1);
	loop_free(l);
}

TEST(memory_needs_no_system_calls)
{
	struct bench b = bench_new(BENCH_MEM);
	uint8_t *buf = buffer(SECTOR_BYTES);
	uint64_t before = loop_uring_syscalls(b.loop);

	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(run(&b, (enum bdev_op)(i % 4), i * SECTOR_BYTES, buf,
					 i % 4 == BDEV_FLUSH ? 0 : 4096),
			0);
	assert_int_equal(loop_uring_syscalls(b.loop), before);
	bench_free(&b);
	free(buf);
}
