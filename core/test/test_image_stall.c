/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_image_stall.c - a store that is full, gone, read-only or slow under load: writes go into the
 * journal, then stall, then go on; nothing acknowledged is lost. */
#include "test/image_env.h"
#include "test/test.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 16, CHUNK = 128, QUIET_POLLS = 10 };

static const uint64_t QUIET_NS = 100000000, PATIENCE_NS = 20000000000;

struct load {
	struct image_env *e;
	struct lsvd_io io[SLOTS];
	struct iovec iov[SLOTS];
	bool busy[SLOTS];
	uint8_t *buf;
	uint64_t next_chunk;
	unsigned out, done;
	int status; /* the first that failed */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void written(struct lsvd_io *io)
{
	struct load *l = io->user;
	uint64_t lba = io->offset_bytes / 512;

	l->busy[io - l->io] = false;
	l->out--;
	l->done++;
	if (io->status < 0 && !l->status)
		l->status = io->status;
	if (io->status == 0)
		model_note(l->e, lba, CHUNK, model_version(io->iov->iov_base, lba));
}

static void submit(struct load *l, int i)
{
	uint64_t lba = l->next_chunk++ * CHUNK % (l->e->size_bytes / 512);

	l->iov[i] = (struct iovec){l->buf + (size_t)i * CHUNK * 512, CHUNK * 512};
	model_fill(l->iov[i].iov_base, lba, CHUNK, ++l->e->last_version);
	l->io[i].op = LSVD_WRITE;
	l->io[i].offset_bytes = lba * 512;
	l->io[i].len_bytes = CHUNK * 512;
	l->io[i].iov = &l->iov[i];
	l->io[i].iovcnt = 1;
	l->io[i].cb = written;
	l->io[i].user = l;
	l->busy[i] = true;
	l->out++;
	assert_int_equal(lsvd_submit(l->e->img, &l->io[i]), 0);
}

static struct load *load_new(struct image_env *e)
{
	struct load *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->e = e;
	l->buf = malloc((size_t)SLOTS * CHUNK * 512);
	assert_non_null(l->buf);
	return l;
}

static void load_free(struct load *l)
{
	free(l->buf);
	free(l);
}

/* Up to n more writes, until nothing completes for so many polls in a row and QUIET_NS (both: a
 * process that does not run does not poll); true when that was so. */
static bool load_until(struct load *l, unsigned n, unsigned quiet)
{
	unsigned until = l->done + n, seen = l->done, polls = 0;
	uint64_t from = now_ns(), last = from;

	while (l->done < until && (polls < quiet || now_ns() - last < QUIET_NS)) {
		for (int i = 0; i < SLOTS && l->done + l->out < until; i++)
			if (!l->busy[i])
				submit(l, i);
		lsvd_poll(l->e->ctx, 10000000);
		polls++;
		if (l->done != seen) {
			polls = 0;
			last = now_ns();
		}
		seen = l->done;
		if (now_ns() - from > PATIENCE_NS)
			fail_msg("%u writes take too long", n);
	}
	return l->done < until;
}

static void load_run(struct load *l, unsigned n)
{
	(void)load_until(l, n, UINT32_MAX);
}

static void load_finish(struct load *l)
{
	uint64_t from = now_ns();

	while (l->out) {
		lsvd_poll(l->e->ctx, 10000000);
		if (now_ns() - from > PATIENCE_NS)
			fail_msg("%u writes stall for ever", l->out);
	}
	assert_int_equal(l->status, 0);
}

/* The store takes nothing: some megabytes are acknowledged, then writes wait. */
static void fill_up(struct load *l)
{
	uint64_t from = now_ns();
	struct lsvd_stats st;

	do {
		assert_true(load_until(l, 512, QUIET_POLLS));
		st = ie_stats(l->e);
	} while ((st.dirty_bytes < 4 << 20 || !st.store_errors) && now_ns() - from < PATIENCE_NS);
	assert_int_equal(l->status, 0);
	assert_true(l->done * CHUNK * 512 >= 4 << 20);
	assert_true(st.dirty_bytes >= 4 << 20 && st.dirty_bytes < 16 << 20);
	assert_true(st.store_errors > 0);
}

/* It takes them again: everything goes on, and is there. */
static void recovered(struct load *l)
{
	struct image_env *e = l->e;

	load_finish(l);
	load_run(l, 128);
	load_finish(l);
	model_check_all(e);
	assert_true(ie_stats(e).stalled_ns > 0);
	IE_OK(e, lsvd_image_drain(e->img));
	assert_int_equal(ie_stats(e).dirty_bytes, 0);
	load_free(l);
	ie_close(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
}

static struct image_env *faulty(const char *name)
{
	struct image_env *e = ie_new(name);
	char url[300];

	snprintf(url, sizeof(url), "fault:seed=1:%s", e->store);
	ie_store(e, url);
	ie_open(e, LSVD_DRIVE_INLINE);
	return e;
}

TEST(a_store_that_fails_stalls_writers_and_lets_them_go_on)
{
	struct image_env *e = faulty("gone");
	struct load *l = load_new(e);

	load_run(l, 64);
	ie_fault(e, false, true);
	fill_up(l);
	/* What is in the journal's memory reads as ever. */
	model_check(e, 64 * CHUNK, CHUNK);
	ie_fault(e, false, false);
	recovered(l);
}

static char heard[1024];

static void hear(void *arg, const char *text)
{
	(void)arg;
	snprintf(heard, sizeof(heard), "%s", text);
}

static void await_word(struct image_env *e, const char *word)
{
	uint64_t from = now_ns();

	while (!strstr(heard, word)) {
		lsvd_poll(e->ctx, 10000000);
		if (now_ns() - from > PATIENCE_NS)
			fail_msg("never heard '%s', but '%s'", word, heard);
	}
}

TEST(a_store_that_is_full_stalls_writers_and_lets_them_go_on)
{
	struct image_env *e = faulty("full");
	struct load *l = load_new(e);

	heard[0] = 0;
	lsvd_set_log(hear, NULL);
	ie_fault(e, true, false);
	fill_up(l);
	await_word(e, "': the store fails: ");
	assert_non_null(strstr(heard, "writes go on while the journal has room, then wait"));
	model_check(e, 0, CHUNK);
	ie_fault(e, false, false);
	await_word(e, "': the store works again");
	lsvd_set_log(NULL, NULL);
	recovered(l);
}

TEST(closing_without_a_store_keeps_the_journal)
{
	struct image_env *e = faulty("close");
	struct load *l = load_new(e);
	struct lsvd_image *img = e->img;
	int rc;

	load_run(l, 32);
	load_finish(l);
	ie_fault(e, false, true);
	load_run(l, 32);
	load_finish(l);
	load_free(l);
	e->img = NULL;
	rc = lsvd_image_close(img, e->why);
	ie_says(e, rc, -EIO, "stays in the pool's journal", "close");
	assert_non_null(strstr(e->why, "the store is gone"));
	/* The same process opens it again (the store is back with a new handle), ... */
	ie_image(e, 0);
	model_check_all(e);
	img = e->img;
	ie_fault(e, true, false);
	model_write(e, 7, 9);
	e->img = NULL;
	IE_SAYS(e, lsvd_image_close(img, e->why), -ENOSPC, "stays in the pool's journal");
	ie_close(e);
	/* ... and so does the next. */
	ie_open(e, LSVD_DRIVE_THREAD);
	model_check_all(e);
	ie_free(e);
}

TEST(a_store_that_takes_nothing_opens_nothing)
{
	struct image_env *e = ie_new("open");
	char url[300];

	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	ie_close(e);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	snprintf(url, sizeof(url), "fault:full:%s", e->store);
	ie_store(e, url);
	IE_SAYS(e, lsvd_image_open(e->ctx, e->url, 0, &e->img, e->why), -ENOSPC,
		"the store is full");
	e->img = NULL;
	ie_image(e, LSVD_OPEN_READONLY);
	model_check_all(e);
	ie_close(e);
	snprintf(url, sizeof(url), "fault:gone:file:%s", e->root);
	ie_store(e, url);
	ie_ctx(e, LSVD_DRIVE_THREAD);
	IE_SAYS(e, lsvd_image_open(e->ctx, e->url, 0, &e->img, e->why), -EIO, "the store is gone");
	e->img = NULL;
	snprintf(url, sizeof(url), "file:%s", e->root);
	ie_store(e, url);
	ie_image(e, 0);
	model_check_all(e);
	ie_free(e);
}

TEST(a_slow_store_stalls_nobody_for_ever)
{
	struct image_env *e = ie_new("slow");
	char url[300];
	struct load *l;

	snprintf(url, sizeof(url), "model:custom,lat=2ms,bw=32M:%s", e->store);
	ie_store(e, url);
	ie_open(e, LSVD_DRIVE_INLINE);
	l = load_new(e);
	load_run(l, 300);
	load_finish(l);
	model_check_all(e);
	assert_int_equal(ie_stats(e).store_errors, 0);
	load_free(l);
	ie_free(e);
}

TEST(a_store_directory_that_vanishes_and_comes_back)
{
	struct image_env *e = ie_new("vanish");
	char away[200];
	struct load *l;

	ie_open(e, LSVD_DRIVE_INLINE);
	l = load_new(e);
	load_run(l, 64);
	snprintf(away, sizeof(away), "%s/away", e->dir);
	assert_int_equal(rename(e->root, away), 0);
	fill_up(l);
	/* Another directory in its place is not the store. */
	assert_int_equal(mkdir(e->root, 0777), 0);
	assert_true(load_until(l, SLOTS, QUIET_POLLS));
	assert_int_equal(ie_files(e->root), 0);
	assert_int_equal(rmdir(e->root), 0);
	assert_int_equal(rename(away, e->root), 0);
	recovered(l);
}

/* A file system of its own, that can be full; needs to be root. */
TEST(a_file_system_that_is_full)
{
	struct image_env *e = ie_new("tmpfs");
	struct load *l;

	assert_int_equal(mkdir(e->root, 0777), 0);
	if (mount("none", e->root, "tmpfs", 0, "size=6m")) {
		ie_free(e);
		SKIP("cannot mount a tmpfs here");
	}
	ie_open(e, LSVD_DRIVE_INLINE);
	l = load_new(e);
	fill_up(l);
	assert_int_equal(mount("none", e->root, "tmpfs", MS_REMOUNT, "size=100m"), 0);
	load_finish(l);
	load_run(l, 128);
	load_finish(l);
	model_check_all(e);
	load_free(l);
	ie_close(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
	umount2(e->root, MNT_DETACH);
}

/* ---- permissions: not as root, whom nothing stops ---- */

static void without_permission(struct image_env *e, int fd)
{
	struct load *l;

	(void)fd;
	if (getuid() == 0 && setuid(65534) < 0)
		_exit(2);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	ie_close(e);
	if (chmod(e->root, 0555) < 0)
		_exit(3);
	/* Nothing new in it ... */
	ie_ctx(e, LSVD_DRIVE_INLINE);
	snprintf(e->url, sizeof(e->url), "%s/other", e->store);
	IE_SAYS(e, lsvd_image_create(e->ctx, e->url, 512, e->why), -EACCES, "Permission denied");
	ie_store(e, e->store);
	chmod(e->root, 0755);
	ie_image(e, 0);
	l = load_new(e);
	load_run(l, 64);
	/* ... and under load it is like any other store that does not take anything. */
	snprintf(e->why, sizeof(e->why), "%s/vm", e->root);
	chmod(e->why, 0555);
	fill_up(l);
	snprintf(e->why, sizeof(e->why), "%s/vm", e->root);
	chmod(e->why, 0755);
	recovered(l);
	_exit(0);
}

TEST(a_store_directory_that_is_read_only)
{
	struct image_env *e = ie_new("readonly");
	pid_t pid;
	int fd;

	chmod(test_dir(), 0755);
	chmod(e->dir, 0777);
	pid = ie_fork(e, without_permission, &fd);
	assert_int_equal(ie_wait(pid), 0);
	close(fd);
	ie_free(e);
}

/* One 4 KiB write after the other, every 500 us (8 MiB/s) at the soonest, for so long.  The longest
 * that one took. */
static uint64_t write_steadily(struct image_env *e, uint64_t for_ns)
{
	uint64_t begin = now_ns(), due = begin, longest = 0;

	for (uint64_t lba = 0; now_ns() - begin < for_ns; lba = (lba + 8) % (e->size_bytes / 512)) {
		uint64_t from = now_ns();

		if (from < due) {
			lsvd_poll(e->ctx, (int64_t)(due - from));
			from = now_ns();
		}
		model_write(e, lba, 8);
		if (now_ns() - from > longest)
			longest = now_ns() - from;
		due = from + 500000;
	}
	return longest;
}

/* The log has room for 6 MiB, which is less than comes while the store stops.  Before, nobody wrote for a
 * while: then nobody looks at the store's pace either. */
TEST(a_store_that_stops_for_seconds_slows_writers_and_stops_none)
{
	struct image_env *e = ie_new("stops");
	char url[300];

	snprintf(url, sizeof(url), "model:custom,stop_at=500ms,stop_for=2s:%s", e->store);
	ie_store(e, url);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 8);
	IE_OK(e, lsvd_image_drain(e->img));
	for (uint64_t from = now_ns(); now_ns() - from < 200000000;)
		lsvd_poll(e->ctx, 10000000);
	assert_in_range(write_steadily(e, 2500000000), 0, 1000000000);
	model_check_all(e);
	IE_OK(e, lsvd_image_drain(e->img));
	assert_true(ie_stats(e).stalled_ns > 0);
	ie_free(e);
}
