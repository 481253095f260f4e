/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_image_life.c - images created, looked at, resized, reopened, killed, read beside their
 * writer, traced, collected, removed. */
#include "test/image_env.h"
#include "test/test.h"
#include "trace/load.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/* ---- administration ---- */

static int note_name(void *arg, const char *name)
{
	strcat(arg, name);
	strcat(arg, " ");
	return !strcmp(name, "stop");
}

TEST(images_are_created_listed_looked_at_and_removed)
{
	struct image_env *e = ie_new("admin");
	struct lsvd_image_info info;
	char url[300], names[200] = "";

	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, lsvd_image_list(e->ctx, e->store, note_name, names, e->why), -ENOENT,
		"does not exist");
	ie_create(e);
	IE_SAYS(e, lsvd_image_create(e->ctx, e->url, 512, e->why), -EEXIST, "exists already");
	for (const char *const *n = (const char *const[]){"zoo", "a", "stop", NULL}; *n; n++) {
		snprintf(url, sizeof(url), "%s/%s", e->store, *n);
		IE_OK(e, lsvd_image_create(e->ctx, url, 512, e->why));
	}
	IE_OK(e, lsvd_image_list(e->ctx, e->store, note_name, names, e->why));
	assert_string_equal(names, "a stop ");
	IE_OK(e, lsvd_image_stat(e->ctx, e->url, &info, e->why));
	assert_string_equal(info.name, "vm");
	assert_string_equal(info.url, e->url);
	assert_int_equal(info.size_bytes, e->size_bytes);
	assert_true(info.clean);
	assert_string_equal(info.last_writer, "nobody yet");
	assert_int_equal(info.objects + info.extents + info.live_bytes, 0);

	ie_image(e, 0);
	model_write(e, 8, 16);
	IE_OK(e, lsvd_image_drain(e->img));
	model_write(e, 100, 8);
	IE_OK(e, lsvd_image_drain(e->img));
	assert_int_equal(lsvd_image_info(e->img, &info), 0);
	assert_int_equal(info.objects, 2);
	assert_int_equal(info.live_bytes, 24 * 512);
	assert_int_equal(info.extents, 2);
	assert_true(info.epoch >= 1);
	assert_non_null(strstr(info.last_writer, "pid"));
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -EBUSY, "in use");
	ie_close_image(e);
	IE_OK(e, lsvd_image_stat(e->ctx, e->url, &info, e->why));
	assert_true(info.clean);
	assert_int_equal(info.live_bytes, 24 * 512);
	IE_OK(e, lsvd_image_remove(e->ctx, e->url, e->why));
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -ENOENT, "no image 'vm'");
	ie_free(e);
}

static unsigned journal_segments(struct image_env *e)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < pool_segments(ctx_pool(e->ctx)); i++)
		n += pool_segment(ctx_pool(e->ctx), i)->role == SEGMENT_JOURNAL;
	return n;
}

TEST(a_removed_image_leaves_nothing)
{
	struct image_env *e = ie_new("remove");

	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 400);
	ie_close_image(e);
	assert_int_equal(journal_segments(e), 0);
	ie_image(e, 0);
	model_write(e, 0, 8);
	assert_true(journal_segments(e) > 0);
	ie_close_image(e);
	IE_OK(e, lsvd_image_remove(e->ctx, e->url, e->why));
	assert_int_equal(journal_segments(e), 0);
	assert_int_equal(ie_files(e->root), 0);
	ie_close(e);
	/* And so the next process finds it. */
	memset(e->version, 0, e->size_bytes / 512 * sizeof(*e->version));
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
}

TEST(images_grow_and_shrink)
{
	struct image_env *e = ie_new("resize");
	uint64_t size = e->size_bytes;
	uint32_t *grown = calloc(2 * size / 512, sizeof(*grown));

	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	model_write(e, size / 512 - 8, 8);
	IE_OK(e, lsvd_image_resize(e->img, 2 * size, false, e->why));
	assert_int_equal(lsvd_image_size(e->img), 2 * size);
	memcpy(grown, e->version, size / 512 * sizeof(*grown));
	free(e->version);
	e->version = grown;
	e->size_bytes = 2 * size;
	model_write(e, 2 * size / 512 - 8, 8);
	model_check_all(e);
	IE_SAYS(e, lsvd_image_resize(e->img, size, false, e->why), -EINVAL, "data beyond");
	IE_OK(e, lsvd_image_drain(e->img));
	IE_SAYS(e, lsvd_image_resize(e->img, size, false, e->why), -EINVAL, "data beyond");
	IE_SAYS(e, lsvd_image_resize(e->img, 0, true, e->why), -EINVAL, "not 0");
	IE_SAYS(e, lsvd_image_resize(e->img, 1000, true, e->why), -EINVAL, "512");
	IE_OK(e, lsvd_image_resize(e->img, size, true, e->why));
	e->size_bytes = size;
	assert_int_equal(lsvd_pread(e->img, &(uint64_t){0}, 512, size), -EINVAL);
	/* What was cut off does not come back. */
	IE_OK(e, lsvd_image_resize(e->img, 2 * size, false, e->why));
	e->size_bytes = 2 * size;
	model_note(e, size / 512, size / 512, 0);
	model_check_all(e);
	IE_OK(e, lsvd_image_resize(e->img, size, false, e->why));
	e->size_bytes = size;
	ie_close(e);
	ie_open(e, LSVD_DRIVE_THREAD);
	assert_int_equal(lsvd_image_size(e->img), size);
	model_check_all(e);
	IE_OK(e, lsvd_image_resize(e->img, size + 512, false, e->why));
	assert_int_equal(lsvd_image_size(e->img), size + 512);
	ie_free(e);
}

/* ---- reopening ---- */

TEST(an_image_closed_cleanly_is_there_again)
{
	struct image_env *e = ie_new("reopen");

	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 600);
	ie_close(e);
	for (int i = 0; i < 4; i++) {
		ie_open(e, i % 2 ? LSVD_DRIVE_INLINE : LSVD_DRIVE_THREAD);
		model_check_all(e);
		model_churn(e, 150);
		ie_close(e);
	}
	ie_ctx(e, LSVD_DRIVE_INLINE);
	ie_image(e, LSVD_OPEN_READONLY);
	model_check_all(e);
	ie_free(e);
}

/* All of it: completions of the ring cut a blocking write short. */
static void tell(int fd, const void *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno != EINTR)
			_exit(1);
		if (n > 0) {
			buf = (const char *)buf + n;
			len -= (size_t)n;
		}
	}
}

/* Tells the parent what it wrote, and dies without closing anything. */
static void write_and_die(struct image_env *e, int fd)
{
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 700);
	/* A little more than the last object has room for, so that the journal matters. */
	for (uint64_t lba = 0; lba < 100; lba++)
		model_write(e, lba * 3, 3);
	tell(fd, e->version, e->size_bytes / 512 * sizeof(*e->version));
	raise(SIGKILL);
}

TEST(a_killed_process_loses_nothing_acknowledged)
{
	struct image_env *e = ie_new("killed");
	size_t want = e->size_bytes / 512 * sizeof(*e->version), got = 0;
	struct lsvd_image_info info;
	pid_t pid;
	int fd;

	test_seed();
	pid = ie_fork(e, write_and_die, &fd);
	while (got < want) {
		ssize_t n = read(fd, (char *)e->version + got, want - got);

		assert_true(n > 0 || (n < 0 && errno == EINTR));
		got += n > 0 ? (size_t)n : 0;
	}
	close(fd);
	assert_int_equal(ie_wait(pid), 128 + SIGKILL);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_OK(e, lsvd_image_stat(e->ctx, e->url, &info, e->why));
	assert_false(info.clean);
	ie_image(e, 0);
	assert_true(ie_stats(e).dirty_bytes > 0);
	model_check_all(e);
	model_churn(e, 100);
	ie_close(e);
	ie_open(e, LSVD_DRIVE_THREAD);
	model_check_all(e);
	ie_free(e);
}

TEST(a_dirty_image_is_removed_with_its_journal)
{
	struct image_env *e = ie_new("killed-removed");
	char none;
	pid_t pid;
	int fd;

	test_seed();
	pid = ie_fork(e, write_and_die, &fd);
	while (read(fd, &none, 1) > 0)
		;
	close(fd);
	assert_int_equal(ie_wait(pid), 128 + SIGKILL);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_OK(e, lsvd_image_remove(e->ctx, e->url, e->why));
	assert_int_equal(journal_segments(e), 0);
	assert_int_equal(ie_files(e->root), 0);
	ie_free(e);
}

/* ---- readers beside a writer ---- */

enum { RING = 512, BLOCK = 8 };

/* Write k puts version k into block k % RING. */
static void write_ring(struct image_env *e, int fd)
{
	uint8_t buf[BLOCK * 512];

	ie_open(e, LSVD_DRIVE_INLINE);
	for (uint32_t k = 1;; k++) {
		uint64_t lba = (uint64_t)(k % RING) * BLOCK;

		model_fill(buf, lba, BLOCK, k);
		if (lsvd_pwrite(e->img, buf, sizeof(buf), lba * 512) < 0)
			_exit(1);
		if (k == 2 * RING && write(fd, "x", 1) != 1)
			_exit(1);
	}
}

/* The first m writes, for some m: nothing else is a state the image was ever in. */
static uint32_t check_ring(const uint8_t *buf)
{
	uint32_t newest = 0;

	for (uint64_t b = 0; b < RING; b++) {
		uint32_t v = model_version(buf + b * BLOCK * 512, b * BLOCK);

		assert_int_not_equal(v, UINT32_MAX);
		if (v > newest)
			newest = v;
	}
	for (uint32_t b = 0; b < RING; b++) {
		uint32_t v = newest - (newest - b) % RING;

		if (newest < RING && b > newest)
			v = 0;
		for (uint64_t s = 0; s < BLOCK; s++)
			if (!model_is(buf + ((uint64_t)b * BLOCK + s) * 512,
				    (uint64_t)b * BLOCK + s, v))
				fail_msg("newest %u, but block %u holds %u, not %u", newest, b,
					model_version(buf + ((uint64_t)b * BLOCK + s) * 512,
						(uint64_t)b * BLOCK + s),
					v);
	}
	return newest;
}

TEST(readers_see_one_state_beside_a_writer)
{
	struct image_env *e = ie_new("readers");
	uint8_t *buf = malloc(RING * BLOCK * 512);
	unsigned good = 0, late = 0;
	uint32_t last = 0;
	pid_t pid;
	char c;
	int fd;

	ie_set(e, "object.size", "64K");
	ie_set(e, "checkpoint.interval", "128K");
	ie_set(e, "destage.age_ms", "1");
	pid = ie_fork(e, write_ring, &fd);
	assert_int_equal(read(fd, &c, 1), 1);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	for (int i = 0; i < 60; i++) {
		uint32_t newest;
		int rc;

		ie_image(e, LSVD_OPEN_READONLY);
		assert_int_equal(lsvd_pwrite(e->img, buf, 512, 0), -EROFS);
		memset(buf, 0xa5, RING * BLOCK * 512);
		rc = lsvd_pread(e->img, buf, RING * BLOCK * 512, 0);
		/* The writer may have deleted what this view needs: an error, never wrong bytes. */
		if (rc == 0) {
			newest = check_ring(buf);
			assert_true(newest >= last);
			last = newest;
			good++;
		} else {
			assert_int_equal(rc, -ESTALE);
			late++;
		}
		ie_close_image(e);
	}
	assert_true(good > 0);
	printf("%u whole views, %u outlived, newest write %u\n", good, late, last);
	kill(pid, SIGKILL);
	assert_int_equal(ie_wait(pid), 128 + SIGKILL);
	close(fd);
	free(buf);
	ie_free(e);
}

/* ---- traces, statistics ---- */

TEST(a_trace_has_every_request)
{
	struct image_env *e = ie_new("trace");
	char path[200];
	struct trace t = {0};
	struct err err;
	unsigned n[TRACE_OPS] = {0};

	ie_open(e, LSVD_DRIVE_INLINE);
	snprintf(path, sizeof(path), "%s/%%n.trace", e->dir);
	ie_close(e);
	ie_set(e, "trace.path", path);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	model_write(e, 64, 100);
	model_check(e, 0, 8);
	model_check(e, 4096, 8);
	assert_int_equal(lsvd_flush(e->img), 0);
	assert_int_equal(lsvd_discard(e->img, 4096, 0), 0);
	assert_int_equal(lsvd_write_zeroes(e->img, 8192, 4096), 0);
	ie_close(e);
	snprintf(path, sizeof(path), "%s/vm.trace", e->dir);
	if (trace_load(path, NULL, &t, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(t.n, 7);
	assert_int_equal(t.header.size_bytes, e->size_bytes);
	for (size_t i = 0; i < t.n; i++) {
		n[t.records[i].op]++;
		assert_true(t.records[i].complete_ns >= t.records[i].submit_ns);
	}
	assert_int_equal(n[TRACE_WRITE], 2);
	assert_int_equal(n[TRACE_READ], 2);
	assert_int_equal(n[TRACE_FLUSH], 1);
	assert_int_equal(n[TRACE_DISCARD], 1);
	assert_int_equal(n[TRACE_WRITE_ZEROES], 1);
	assert_int_equal(t.records[1].offset_bytes, 64 * 512);
	assert_int_equal(t.records[1].len_bytes, 100 * 512);
	assert_int_equal(t.records[2].source, TRACE_SRC_JOURNAL);
	assert_int_equal(t.records[3].source, TRACE_SRC_ZERO);
	trace_free(&t);
	ie_free(e);
}

TEST(statistics_add_up)
{
	struct image_env *e = ie_new("stats");
	struct lsvd_stats st;
	char *json;

	ie_set(e, "readahead.max", "0");
	ie_open(e, LSVD_DRIVE_INLINE);
	for (uint64_t i = 0; i < 64; i++)
		model_write(e, i * 128, 128); /* 4 MiB */
	st = ie_stats(e);
	assert_int_equal(st.writes, 64);
	assert_int_equal(st.write_bytes, 4 << 20);
	assert_true(st.journal_bytes >= st.write_bytes);
	assert_true(st.journal_records <= 64);
	assert_true(st.dirty_bytes <= st.write_bytes);
	assert_int_equal(lsvd_image_drain(e->img), 0);
	assert_int_equal(lsvd_flush(e->img), 0);
	st = ie_stats(e);
	assert_int_equal(st.dirty_bytes, 0);
	assert_int_equal(st.batch_bytes, 4 << 20);
	assert_true(st.put_bytes >= st.batch_bytes && st.put_bytes < 2 * st.batch_bytes);
	assert_true(st.write_amplification >= 1 && st.write_amplification < 1.2);
	assert_int_equal(st.write_latency.count, 64);
	assert_true(
		st.write_latency.p50_ns > 0 && st.write_latency.p50_ns <= st.write_latency.max_ns);
	assert_true(st.flushes == 1 && st.flush_latency.count == 1);
	model_check(e, 0, 128);
	model_check(e, 32768, 8);
	st = ie_stats(e);
	assert_int_equal(st.hit_journal_bytes, 65536);
	assert_int_equal(st.zero_bytes, 4096);
	assert_int_equal(st.read_bytes, 65536 + 4096);
	ie_close(e);

	ie_open(e, LSVD_DRIVE_INLINE);
	model_check(e, 0, 128);
	st = ie_stats(e);
	assert_int_equal(st.miss_bytes, 65536);
	assert_true(st.gets > 0 && st.get_bytes >= 65536);
	model_check(e, 0, 128);
	assert_int_equal(ie_stats(e).hit_cache_bytes, 65536);
	json = lsvd_image_stats_json(e->img);
	assert_non_null(strstr(json, "\"miss_bytes\": 65536"));
	assert_non_null(strstr(json, "\"hit_cache_bytes\": 65536"));
	free(json);
	ie_free(e);
}

TEST(overwrites_are_collected)
{
	struct image_env *e = ie_new("gc");
	struct lsvd_image_info info;
	struct lsvd_stats st;

	ie_open(e, LSVD_DRIVE_INLINE);
	for (int round = 0; round < 12; round++)
		for (uint64_t i = 0; i < 256; i++) /* 2 MiB, but every 16th block stays */
			if (round == 0 || i % 16)
				model_write(e, i * 16, 16);
	IE_OK(e, lsvd_image_gc(e->img, 90));
	st = ie_stats(e);
	assert_true(st.gc_objects > 0 && st.gc_bytes > 0 && st.deletes > 0);
	assert_int_equal(lsvd_image_info(e->img, &info), 0);
	assert_int_equal(info.live_bytes, 2 << 20);
	assert_true(info.live_bytes * 100 >= info.stored_bytes * 85);
	model_check_all(e);
	ie_close(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
}
