/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_image_bad.c - bad input through the public API: each with its error, and a message that says
 * what, where, and what to do. */
#include "test/image_env.h"
#include "test/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files by hand ---- */

static void overwrite(const char *path, const void *bytes, size_t len, off_t at)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, at), len);
	close(fd);
}

static void flip(const char *path, off_t at)
{
	uint8_t b;
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, &b, 1, at), 1);
	close(fd);
	b ^= 0x10;
	overwrite(path, &b, 1, at);
}

static void make_file(const char *path, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	char block[4096];

	assert_true(fd >= 0);
	memset(block, 'x', sizeof(block));
	for (; len; len -= sizeof(block))
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	close(fd);
}

static const char *super_path(struct image_env *e, char path[300])
{
	snprintf(path, 300, "%s/vm/super", e->root);
	return path;
}

static int try_open(struct image_env *e, unsigned flags)
{
	struct lsvd_image *img = NULL;
	int rc = lsvd_image_open(e->ctx, e->url, flags, &img, e->why);

	if (rc == 0)
		lsvd_image_close(img, NULL);
	return rc;
}

/* ---- arguments ---- */

TEST(sizes_that_make_no_sense)
{
	struct image_env *e = ie_new("sizes");

	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, lsvd_image_create(e->ctx, e->url, 0, e->why), -EINVAL, "not 0");
	IE_SAYS(e, lsvd_image_create(e->ctx, e->url, 1000, e->why), -EINVAL, "multiple of 512");
	assert_int_equal(access(e->root, F_OK), -1); /* and no store was made for that */
	IE_SAYS(e, lsvd_image_create(e->ctx, e->url, 1ull << 49, e->why), -EINVAL, "256 TiB");
	IE_OK(e, lsvd_image_create(e->ctx, e->url, 512, e->why));
	ie_image(e, 0);
	e->size_bytes = 512;
	model_write(e, 0, 1);
	model_check(e, 0, 1);
	assert_int_equal(lsvd_pread(e->img, &(uint64_t){0}, 512, 512), -EINVAL);
	ie_free(e);
}

TEST(names_that_are_none)
{
	struct image_env *e = ie_new("names");
	struct lsvd_image *img;

	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, lsvd_image_open(e->ctx, "floppy:vm", 0, &img, e->why), -EINVAL,
		"not an image URL");
	IE_SAYS(e, lsvd_image_open(e->ctx, "mem:.hidden", 0, &img, e->why), -EINVAL, "image name");
	IE_SAYS(e, lsvd_image_open(e->ctx, "mem:", 0, &img, e->why), -EINVAL, "image name");
	IE_SAYS(e, try_open(e, 0), -ENOENT, "does not exist");
	assert_int_equal(mkdir(e->root, 0777), 0);
	IE_SAYS(e, try_open(e, 0), -ENOENT, "there is no image 'vm'");
	IE_SAYS(e, try_open(e, LSVD_OPEN_READONLY), -ENOENT, "there is no image 'vm'");
	assert_int_equal(ie_files(e->root), 0);
	ie_free(e);
}

static int submit(struct image_env *e, enum lsvd_op op, uint64_t off, uint64_t len, size_t mem)
{
	static uint8_t buf[8192];
	struct iovec iov = {buf, mem};
	struct lsvd_io io = {
		.op = op, .offset_bytes = off, .len_bytes = len, .iov = &iov, .iovcnt = 1};

	return lsvd_submit(e->img, &io);
}

TEST(requests_that_make_no_sense)
{
	struct image_env *e = ie_new("requests");
	uint64_t end;

	ie_open(e, LSVD_DRIVE_INLINE);
	end = e->size_bytes;
	for (int op = LSVD_READ; op <= LSVD_WRITE_ZEROES; op++) {
		if (op == LSVD_FLUSH)
			continue;
		assert_int_equal(submit(e, op, 100, 512, 8192), -EINVAL);
		assert_int_equal(submit(e, op, 512, 100, 8192), -EINVAL);
		assert_int_equal(submit(e, op, end, 512, 8192), -EINVAL);
		assert_int_equal(submit(e, op, end - 512, 1024, 8192), -EINVAL);
		assert_int_equal(submit(e, op, UINT64_MAX - 511, 1024, 8192), -EINVAL);
		assert_int_equal(submit(e, op, 512, UINT64_MAX - 511, 8192), -EINVAL);
	}
	assert_int_equal(submit(e, LSVD_READ, 0, 4096, 512), -EINVAL);
	assert_int_equal(submit(e, LSVD_WRITE, 0, 4096, 4095), -EINVAL);
	assert_int_equal(submit(e, 77, 0, 512, 512), -EINVAL);
	/* The last sector is fine, and so is nothing at all. */
	model_write(e, end / 512 - 1, 1);
	model_check(e, end / 512 - 1, 1);
	assert_int_equal(lsvd_pwrite(e->img, &(uint64_t){0}, 0, end), 0);
	assert_int_equal(lsvd_discard(e->img, 0, 0), 0);
	assert_int_equal(ie_stats(e).write_bytes, 512);
	ie_free(e);
}

/* ---- foreign and damaged files ---- */

TEST(a_superblock_that_is_none)
{
	struct image_env *e = ie_new("super");
	char path[300];

	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	ie_close_image(e);
	super_path(e, path);
	flip(path, 40);
	IE_SAYS(e, try_open(e, 0), -EBADMSG, "checksum");
	IE_SAYS(e, lsvd_image_create(e->ctx, e->url, 512, e->why), -EEXIST, "exists already");
	flip(path, 40);
	overwrite(path, "\x09\x00", 2, 8);
	IE_SAYS(e, try_open(e, 0), -EPROTO, "version 9");
	overwrite(path, "\x02\x00", 2, 8);
	assert_int_equal(truncate(path, 100), 0);
	IE_SAYS(e, try_open(e, 0), -EBADMSG, "superblock");
	assert_int_equal(truncate(path, 0), 0);
	IE_SAYS(e, try_open(e, 0), -EUCLEAN, "superblock");
	make_file(path, 4096);
	IE_SAYS(e, try_open(e, LSVD_OPEN_READONLY), -EUCLEAN, "open image 'vm': ");
	/* rm is what is left to do, and it does. */
	IE_OK(e, lsvd_image_remove(e->ctx, e->url, e->why));
	assert_int_equal(ie_files(e->root), 0);
	ie_free(e);
}

static int open_with_pool(struct image_env *e)
{
	int rc;

	ie_ctx(e, LSVD_DRIVE_INLINE);
	rc = lsvd_image_create(e->ctx, e->url, e->size_bytes, e->why);
	if (rc == 0 || rc == -EEXIST)
		rc = try_open(e, 0);
	ie_close(e);
	return rc;
}

TEST(a_pool_that_is_none)
{
	struct image_env *e = ie_new("pool");
	char path[200], url[220];
	struct stat st;

	snprintf(path, sizeof(path), "%s/pool", e->dir);
	make_file(path, 16 << 20);
	IE_SAYS(e, open_with_pool(e), -EUCLEAN, "is not an LSVD pool");
	assert_int_equal(unlink(path), 0);
	ie_set(e, "pool.size", "8M");
	ie_set(e, "pool.segment", "1M");
	assert_int_equal(open_with_pool(e), 0); /* smaller segments are chosen */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size / 2), 0);
	IE_SAYS(e, open_with_pool(e), -EUCLEAN, "truncated");
	assert_int_equal(unlink(path), 0);
	make_file(path, 64 << 10);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(truncate(path, 1 << 20), 0);
	IE_SAYS(e, open_with_pool(e), -EINVAL, "too few");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(open_with_pool(e), 0);
	overwrite(path, "\x07\x00", 2, 8);
	IE_SAYS(e, open_with_pool(e), -EPROTO, "version 7");
	overwrite(path, "\x01\x00", 2, 8);
	assert_int_equal(open_with_pool(e), 0);
	snprintf(url, sizeof(url), "file:%s/below", path);
	ie_set(e, "pool.path", url);
	IE_SAYS(e, open_with_pool(e), -ENOTDIR, path);
	snprintf(url, sizeof(url), "file:%s", e->dir);
	ie_set(e, "pool.path", url);
	assert_true(open_with_pool(e) < 0);
	assert_non_null(strstr(e->why, e->dir));
	ie_free(e);
}

/* Sectors 0..1023 in objects, nothing in caches or journals. */
static void stored(struct image_env *e)
{
	ie_set(e, "cache.enabled", "false");
	ie_set(e, "readahead.max", "0");
	ie_open(e, LSVD_DRIVE_INLINE);
	for (uint64_t i = 0; i < 16; i++)
		model_write(e, i * 64, 64);
	ie_close(e);
}

/* How many of the sectors read well, one by one?  The others fail, and none is wrong.  A header
 * whose sizes are damaged is impossible before its checksum can be looked at. */
static unsigned readable(struct image_env *e, int error)
{
	uint8_t buf[512];
	unsigned good = 0;

	for (uint64_t lba = 0; lba < 1024; lba++) {
		int rc = lsvd_pread(e->img, buf, 512, lba * 512);

		if (rc == 0)
			model_compare(e, buf, lba, 1);
		else if (rc != -EUCLEAN || error != -EBADMSG)
			assert_int_equal(rc, error);
		good += rc == 0;
	}
	return good;
}

TEST(a_flipped_bit_in_data_spoils_its_range_only)
{
	struct image_env *e = ie_new("flip-data");
	char path[512];
	struct stat st;
	unsigned good;

	stored(e);
	ie_object(e, "0000", path);
	assert_int_equal(stat(path, &st), 0);
	flip(path, st.st_size / 2);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	ie_image(e, LSVD_OPEN_READONLY);
	good = readable(e, -EBADMSG);
	assert_true(good >= 1024 - 2 * 32 && good < 1024); /* a CRC covers 16 KiB */
	ie_close_image(e);
	flip(path, st.st_size / 2);
	ie_image(e, LSVD_OPEN_READONLY);
	assert_int_equal(readable(e, 0), 1024);
	ie_free(e);
}

TEST(a_flipped_bit_in_a_header_spoils_its_object_only)
{
	struct image_env *e = ie_new("flip-header");
	char path[512];
	unsigned good;

	stored(e);
	flip(ie_object(e, "0000", path), 16 + (off_t)(test_seed() % 300));
	ie_open(e, LSVD_DRIVE_THREAD);
	good = readable(e, -EBADMSG);
	assert_true(good >= 512 && good < 1024); /* 256 KiB of 512 */
	/* What is written anew is good. */
	for (uint64_t i = 0; i < 16; i++)
		model_write(e, i * 64, 64);
	assert_int_equal(readable(e, 0), 1024);
	ie_free(e);
}

TEST(a_lost_object_is_an_error_where_it_was)
{
	struct image_env *e = ie_new("lost-object");
	char path[512];
	unsigned good;

	stored(e);
	assert_int_equal(unlink(ie_object(e, "0000", path)), 0);
	ie_open(e, LSVD_DRIVE_INLINE);
	good = readable(e, -EIO);
	assert_true(good >= 512 && good < 1024);
	ie_free(e);
}

TEST(damaged_checkpoints_are_refused)
{
	struct image_env *e = ie_new("checkpoint");
	char path[512], away[520];
	struct stat st;

	stored(e);
	ie_object(e, "ckpt", path);
	assert_int_equal(stat(path, &st), 0);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	flip(path, 200);
	IE_SAYS(e, try_open(e, 0), -EBADMSG, "checkpoint");
	flip(path, 200);
	flip(path, st.st_size - 8); /* in the ranges, not in the table */
	assert_int_equal(try_open(e, 0), -EBADMSG);
	assert_non_null(strstr(e->why, "ckpt"));
	flip(path, st.st_size - 8);
	overwrite(path, "\x09\x00", 2, 8);
	IE_SAYS(e, try_open(e, 0), -EPROTO, "version 9");
	overwrite(path, "\x02\x00", 2, 8);
	snprintf(away, sizeof(away), "%s/ckpt", e->dir);
	assert_int_equal(rename(path, away), 0);
	IE_SAYS(e, try_open(e, LSVD_OPEN_READONLY), -ENOENT, "ckpt");
	assert_int_equal(rename(away, path), 0);
	ie_image(e, 0);
	assert_int_equal(readable(e, 0), 1024);
	ie_free(e);
}

/* ---- in use ---- */

static void hold(struct image_env *e, int fd)
{
	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	if (write(fd, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static pid_t holder(struct image_env *e)
{
	char c;
	int fd;
	pid_t pid = ie_fork(e, hold, &fd);

	assert_int_equal(read(fd, &c, 1), 1);
	close(fd);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(ie_wait(pid), 128 + SIGKILL);
}

TEST(what_others_use_is_refused)
{
	struct image_env *e = ie_new("in-use");
	pid_t pid = holder(e);
	struct lsvd_image_info info;
	char url[300], text[40];

	IE_SAYS(e, open_with_pool(e), -EBUSY, "in use by another process");
	snprintf(url, sizeof(url), "file:%s/pool2", e->dir);
	ie_set(e, "pool.path", url);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	snprintf(text, sizeof(text), "pid %d since", pid);
	IE_SAYS(e, try_open(e, 0), -EBUSY, text);
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -EBUSY, text);
	IE_OK(e, lsvd_image_stat(e->ctx, e->url, &info, e->why));
	assert_false(info.clean);
	assert_non_null(strstr(info.last_writer, text));
	end(pid);
	ie_free(e);
}

TEST(one_process_opens_an_image_once)
{
	struct image_env *e = ie_new("twice");
	char real[200], url[300];

	ie_open(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, try_open(e, 0), -EBUSY, "open in this process");
	/* By another name, too. */
	snprintf(real, sizeof(real), "%s/link", e->dir);
	assert_int_equal(symlink(e->root, real), 0);
	snprintf(url, sizeof(url), "file:%s/vm", real);
	memcpy(e->url, url, sizeof(url));
	IE_SAYS(e, try_open(e, 0), -EBUSY, "in use");
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -EBUSY, "in use");
	assert_int_equal(try_open(e, LSVD_OPEN_READONLY), 0);
	model_write(e, 0, 8);
	model_check(e, 0, 8);
	ie_free(e);
}

TEST(a_journal_elsewhere_is_a_choice)
{
	struct image_env *e = ie_new("elsewhere");
	pid_t pid = holder(e);
	char url[300];

	end(pid);
	snprintf(url, sizeof(url), "file:%s/pool2", e->dir);
	ie_set(e, "pool.path", url);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, try_open(e, 0), -ESTALE, "another pool");
	assert_non_null(strstr(e->why, "no-journal"));
	assert_int_equal(try_open(e, LSVD_OPEN_READONLY), 0);
	IE_SAYS(e, try_open(e, 0), -ESTALE, "another pool"); /* asking changed nothing */
	ie_image(e, LSVD_OPEN_NO_JOURNAL);
	model_check_all(e); /* what the other wrote is given up: zeroes */
	model_write(e, 64, 8);
	ie_close(e);
	/* The first pool is back; its journal must not come back with it. */
	ie_set(e, "pool.path", e->pool);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, try_open(e, 0), -ESTALE, "`lsvd journal replay`");
	IE_SAYS(e, try_open(e, 0), -ESTALE, "`lsvd journal discard`");
	ie_image(e, LSVD_OPEN_NO_JOURNAL);
	model_check_all(e);
	model_write(e, 128, 8);
	ie_close(e);
	ie_set(e, "pool.path", url);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
}

TEST(a_pool_that_was_made_anew_is_another_pool)
{
	struct image_env *e = ie_new("new-pool");
	pid_t pid = holder(e);
	char path[200];

	end(pid);
	snprintf(path, sizeof(path), "%s/pool", e->dir);
	assert_int_equal(unlink(path), 0);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, try_open(e, 0), -ESTALE, "no-journal");
	ie_image(e, LSVD_OPEN_NO_JOURNAL);
	model_check_all(e);
	ie_free(e);
}

/* A request of a writer that lost the image lands after its successor has closed. */
TEST(what_lands_late_is_deleted_by_the_next_opening)
{
	struct image_env *e = ie_new("late");
	char object[400], ckpt[400];

	for (uint64_t i = 0; i < 2; i++) {
		ie_open(e, LSVD_DRIVE_INLINE);
		model_write(e, 8 * i, 8);
		ie_close(e);
	}
	snprintf(object, sizeof(object), "%s/vm/%016x.%016x", e->root, 1, 77);
	snprintf(ckpt, sizeof(ckpt), "%s/vm/ckpt.%016x.%016x", e->root, 1, 99);
	make_file(object, 8192);
	make_file(ckpt, 8192);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	ie_image(e, LSVD_OPEN_READONLY);
	ie_close(e);
	assert_int_equal(access(object, F_OK) | access(ckpt, F_OK), 0);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	assert_int_equal(access(object, F_OK), -1);
	assert_int_equal(access(ckpt, F_OK), -1);
	ie_free(e);
}
