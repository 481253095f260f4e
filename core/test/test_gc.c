/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_gc.c - garbage collection of whole images: what it reads, what it leaves alone. */
#include "test/test.h"

#include "test/image_env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 16, BLOCKS = 256, OBJECTS = 8 }; /* 8 KiB; 2 MiB in all */

/* BLOCKS blocks in OBJECTS objects; then every `step`-th one again.  Collected only when asked. */
static struct image_env *written(const char *name, unsigned step, const char *plug)
{
	struct image_env *e = ie_new(name);

	ie_set(e, "gc.enabled", "false");
	ie_set(e, "gc.plug", plug);
	ie_open(e, LSVD_DRIVE_INLINE);
	for (unsigned i = 0; i < BLOCKS; i++)
		model_write(e, i * BLOCK, BLOCK);
	IE_OK(e, lsvd_image_drain(e->img));
	for (unsigned i = 0; i < BLOCKS; i += step)
		model_write(e, i * BLOCK, BLOCK);
	IE_OK(e, lsvd_image_drain(e->img));
	return e;
}

static struct lsvd_image_info info_of(struct image_env *e)
{
	struct lsvd_image_info info;

	assert_int_equal(lsvd_image_info(e->img, &info), 0);
	return info;
}

TEST(victims_are_read_in_few_large_pieces)
{
	struct image_env *e = written("ranges", 2, "0");
	struct lsvd_stats st;

	ie_close(e); /* the log has nothing of it any more */
	ie_open(e, LSVD_DRIVE_INLINE);
	st = ie_stats(e);
	IE_OK(e, lsvd_image_gc(e->img, 90));
	assert_true(info_of(e).stored_bytes * 90 <= info_of(e).live_bytes * 100);
	assert_int_equal(ie_stats(e).gc_bytes - st.gc_bytes, 1 << 20);
	/* A header and one range for each. */
	assert_int_equal(ie_stats(e).gets - st.gets, 2 * OBJECTS);
	assert_true(ie_stats(e).get_bytes - st.get_bytes <= OBJECTS * (256 + 8) << 10);
	model_check_all(e);
	ie_free(e);
}

/* True: headers were fetched only, not the MiB that is moved.  One that comes late is asked for twice. */
static bool collects_from_the_log(const char *name)
{
	struct image_env *e = written(name, 2, "0");
	struct lsvd_stats st = ie_stats(e), now;

	IE_OK(e, lsvd_image_gc(e->img, 90));
	now = ie_stats(e);
	assert_int_equal(now.gc_bytes - st.gc_bytes, 1 << 20);
	assert_in_range(now.gets - st.gets, OBJECTS, 2 * OBJECTS);
	model_check_all(e);
	ie_free(e);
	return now.get_bytes - st.get_bytes <= 2 * OBJECTS * (8 << 10);
}

/* Where the thread that touches memory ahead gets no processor, the log's clean part gives its memory to
 * what is written next: not every time. */
TEST(what_the_log_has_is_not_fetched)
{
	char name[] = "log0";

	while (!collects_from_the_log(name))
		assert_in_range(++name[3], '0', '9');
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 1;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

/* Moving damaged data would give it a checksum that matches (I10). */
TEST(damaged_data_is_not_moved)
{
	struct image_env *e = written("damage", 2, "0");
	struct lsvd_stats st;
	char path[512], buf[BLOCK * 512];

	ie_close(e);
	ie_object(e, "0000", path);
	flip(path, 4096 + 3 * 8192 + 77); /* block 3 is alive */
	ie_open(e, LSVD_DRIVE_INLINE);
	st = ie_stats(e);
	IE_OK(e, lsvd_image_gc(e->img, 90));
	assert_int_equal(ie_stats(e).gc_bytes - st.gc_bytes, (1 << 20) / OBJECTS * (OBJECTS - 1));
	assert_int_equal(access(path, F_OK), 0);
	assert_true(lsvd_pread(e->img, buf, sizeof(buf), 3 * sizeof(buf)) < 0);
	model_check(e, 8 * BLOCK, (BLOCKS - 8) * BLOCK); /* the next chunk of the cache, and on */
	ie_close(e);
	flip(path, 4096 + 3 * 8192 + 77);
	ie_open(e, LSVD_DRIVE_INLINE);
	IE_OK(e, lsvd_image_gc(e->img, 99));
	model_check_all(e);
	assert_int_equal(access(path, F_OK), -1);
	ie_free(e);
}

TEST(what_a_snapshot_keeps_is_not_moved)
{
	struct image_env *e = written("snap", BLOCKS, "0");
	struct lsvd_stats st;

	IE_OK(e, lsvd_snapshot_create(e->img, "s", e->why));
	for (unsigned i = 0; i < BLOCKS; i += 2)
		model_write(e, i * BLOCK, BLOCK);
	IE_OK(e, lsvd_image_drain(e->img));
	st = ie_stats(e);
	IE_OK(e, lsvd_image_gc(e->img, 90));
	assert_int_equal(ie_stats(e).gc_bytes, st.gc_bytes);
	IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
	IE_OK(e, lsvd_image_gc(e->img, 90));
	assert_int_equal(ie_stats(e).gc_bytes - st.gc_bytes, 1 << 20);
	model_check_all(e);
	ie_free(e);
}

TEST(holes_are_plugged_when_that_is_cheap)
{
	struct image_env *plain = written("plain", 4, "0"), *e = written("plug", 4, "8K");

	assert_int_equal(info_of(e).extents, info_of(plain).extents);
	IE_OK(plain, lsvd_image_gc(plain->img, 90));
	IE_OK(e, lsvd_image_gc(e->img, 90));
	/* Each plug makes one extent of three; they are a sixteenth of what is moved at most. */
	assert_true(info_of(e).extents < info_of(plain).extents - 10);
	assert_true(ie_stats(e).gc_bytes > ie_stats(plain).gc_bytes);
	assert_true(ie_stats(e).gc_bytes * 3 <= ie_stats(plain).gc_bytes * 4);
	/* One for each victim's data; when a header comes late, its object is asked for twice. */
	assert_in_range(ie_stats(e).gets, OBJECTS, 2 * OBJECTS);
	model_check_all(e);
	ie_free(plain);
	ie_free(e);
}
