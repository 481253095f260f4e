/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image is stolen from a real process that is stopped, and goes on later; or that was never
 * stopped.
 *
 * TAKEOVER_STORE: the URL of a store to do it in, instead of files; an image `vm` in it is removed.
 */
#include "test/image_env.h"
#include "test/store_util.h"
#include "test/test.h"

#include "format/superblock.h"
#include "sys/loop_uring.h"
#include "volume/fsck.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* LEARNS_S: a cluster on a busy disk was seen to take seconds for an answer. */
enum { RING = 512, BLOCK = 8, CHECK_MS = 200, LEARNS_S = 60, OURS = 1u << 30 };

/* What the old writer tells when it has learned. */
struct report {
	int write, close; /* -errno */
	double after_s;	  /* since the time that it was given to look at */
	char failed[192], why[LSVD_ERR_MAX];
};

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void pause_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/* ---- the old writer ---- */

static int put_block(struct image_env *e, uint32_t k)
{
	uint8_t buf[BLOCK * 512];
	uint64_t lba = (uint64_t)(k % RING) * BLOCK;

	model_fill(buf, lba, BLOCK, k);
	return lsvd_pwrite(e->img, buf, sizeof(buf), lba * 512);
}

static void tell(struct image_env *e, int fd, int rc)
{
	struct report r = {.write = rc};
	struct lsvd_image_info info;

	if (lsvd_image_info(e->img, &info) == 0)
		memcpy(r.failed, info.failed, sizeof(r.failed));
	r.close = lsvd_image_close(e->img, r.why);
	if (write(fd, &r, sizeof(r)) != sizeof(r))
		_exit(1);
	lsvd_ctx_close(e->ctx);
	_exit(0);
}

/* Write k puts version k into block k % RING, until it fails. */
static void writes_on(struct image_env *e, int fd)
{
	int rc = 0;

	ie_open(e, LSVD_DRIVE_THREAD);
	for (uint32_t k = 1; rc == 0; k++) {
		rc = put_block(e, k);
		if (k == 2 * RING && write(fd, "x", 1) != 1)
			_exit(1);
		if (rc == 0 && k % 64 == 0)
			rc = lsvd_flush(e->img);
	}
	tell(e, fd, rc);
}

/* ... or rest after the first ones, with some of them not in the store, and only look. */
static void rests(struct image_env *e, int fd)
{
	struct lsvd_image_info info = {.failed = ""};
	double until;
	int rc = 0;

	ie_set(e, "destage.age_ms", "0");
	ie_open(e, LSVD_DRIVE_THREAD);
	for (uint32_t k = 1; k <= RING && rc == 0; k++)
		rc = put_block(e, k);
	if (rc == 0)
		rc = lsvd_image_drain(e->img);
	for (uint32_t k = RING + 1; k <= RING + 16 && rc == 0; k++)
		rc = put_block(e, k);
	if (rc < 0 || write(fd, "x", 1) != 1)
		_exit(1);
	for (until = now_s() + 60; now_s() < until && !info.failed[0]; pause_ms(5))
		lsvd_image_info(e->img, &info);
	tell(e, fd, put_block(e, 1));
}

/* ---- the new one ---- */

static struct image_env *takeover_new(const char *name)
{
	struct image_env *e = ie_new(name);
	const char *store = getenv("TAKEOVER_STORE");
	char ms[16];

	if (store) {
		ie_store(e, store);
		ie_ctx(e, LSVD_DRIVE_INLINE);
		if (lsvd_image_remove(e->ctx, e->url, e->why) < 0)
			e->why[0] = 0;
		ie_close(e);
	}
	snprintf(ms, sizeof(ms), "%u", CHECK_MS);
	ie_set(e, "writer.check_ms", ms);
	ie_set(e, "object.size", "64K");
	ie_set(e, "checkpoint.interval", "512K");
	ie_set(e, "destage.age_ms", "1");
	return e;
}

static void takeover_free(struct image_env *e)
{
	ie_close_image(e);
	IE_OK(e, lsvd_image_remove(e->ctx, e->url, e->why));
	ie_free(e);
}

static pid_t start(struct image_env *e, void (*fn)(struct image_env *e, int fd), int *fd)
{
	char pool[256];
	pid_t pid = ie_fork(e, fn, fd);
	char c;

	assert_int_equal(read(*fd, &c, 1), 1);
	snprintf(pool, sizeof(pool), "file:%s/pool2", e->dir);
	ie_set(e, "pool.path", pool);
	ie_ctx(e, LSVD_DRIVE_THREAD);
	return pid;
}

static int try_open(struct image_env *e, unsigned flags)
{
	return lsvd_image_open(e->ctx, e->url, flags, &e->img, e->why);
}

/* Each refusal says who has it, and what to do. */
static void refusals_name(struct image_env *e, pid_t pid)
{
	char who[64], host[128] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(who, sizeof(who), " pid %d since ", (int)pid);
	IE_SAYS(e, try_open(e, 0), -EBUSY, who);
	IE_SAYS(e, try_open(e, LSVD_OPEN_NO_JOURNAL), -EBUSY, host);
	IE_SAYS(e, try_open(e, LSVD_OPEN_STEAL), -ESTALE, who);
	IE_SAYS(e, try_open(e, LSVD_OPEN_STEAL), -ESTALE, "--no-journal");
}

static void steal(struct image_env *e, pid_t pid)
{
	struct lsvd_image_info info;
	char who[64];

	ie_image(e, LSVD_OPEN_STEAL | LSVD_OPEN_NO_JOURNAL);
	snprintf(who, sizeof(who), " pid %d since ", (int)pid);
	assert_int_equal(lsvd_image_info(e->img, &info), 0);
	assert_non_null(strstr(info.taken_from, who));
}

/* The first m writes, for some m, and at least the first `least`. */
static void check_prefix(struct image_env *e, uint32_t least)
{
	static uint8_t buf[RING * BLOCK * 512];
	uint32_t newest = 0;

	IE_OK(e, lsvd_pread(e->img, buf, sizeof(buf), 0));
	for (uint32_t b = 0; b < RING; b++) {
		uint32_t v = model_version(buf + b * BLOCK * 512, (uint64_t)b * BLOCK);

		assert_int_not_equal(v, UINT32_MAX);
		newest = v > newest ? v : newest;
	}
	assert_true(newest >= least && newest < OURS);
	for (uint32_t b = 0; b < RING; b++) {
		uint32_t ago = (newest - b) % RING, v = ago < newest ? newest - ago : 0;

		for (uint64_t s = 0; s < BLOCK; s++)
			if (!model_is(buf + ((uint64_t)b * BLOCK + s) * 512,
				    (uint64_t)b * BLOCK + s, v))
				fail_msg(
					"newest %u, but block %u is not of write %u", newest, b, v);
	}
}

static void write_ours(struct image_env *e)
{
	e->last_version = OURS;
	for (uint64_t b = 0; b < RING; b++)
		model_write(e, b * BLOCK, BLOCK);
}

static void check_ours(struct image_env *e)
{
	model_check(e, 0, (uint64_t)RING * BLOCK);
}

/* It stopped with ESTALE, knew who took the image, and said where its journal is. */
static void learns(pid_t pid, int fd, double since)
{
	struct report r;
	char who[64];

	snprintf(who, sizeof(who), " pid %d since ", (int)getpid());
	assert_int_equal(read(fd, &r, sizeof(r)), sizeof(r));
	printf("the old writer knew after %.2f s: %s\n", now_s() - since, r.failed);
	assert_true(now_s() - since < LEARNS_S);
	assert_int_equal(r.write, -ESTALE);
	assert_int_equal(r.close, -ESTALE);
	assert_non_null(strstr(r.failed, "taken over by"));
	assert_non_null(strstr(r.why, who));
	assert_non_null(strstr(r.why, "lsvd journal list"));
	assert_int_equal(ie_wait(pid), 0);
	close(fd);
}

static void check_store(struct image_env *e)
{
	struct fsck_params p = {.name = "vm", .flags = FSCK_DATA};
	struct fsck_report rep;
	struct err err = {.msg = ""};
	struct loop *l;
	int rc = loop_uring_new(256, &l, &err);

	if (rc == 0)
		rc = store_open(l, e->store, NULL, 0, &p.store, &err);
	if (rc == 0)
		rc = fsck_run(&p, &rep, &err);
	if (rc < 0)
		fail_msg("fsck: %s", err.msg);
	for (uint32_t i = 0; i < rep.n; i++)
		fail_msg("fsck: '%s': %s", rep.findings[i].object, rep.findings[i].what);
	fsck_report_fini(&rep);
	store_close(p.store);
	loop_free(l);
}

/* Closed, opened again, which sweeps up what the old writer left, and closed. */
static void only_ours_is_there(struct image_env *e)
{
	check_ours(e);
	ie_close_image(e);
	ie_image(e, 0);
	check_ours(e);
	ie_close(e);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	check_store(e);
	ie_image(e, 0);
	check_ours(e);
}

/* ---- tests ---- */

TEST(an_idle_writer_is_stopped_and_robbed)
{
	struct image_env *e = takeover_new("idle");
	double since;
	pid_t pid;
	int fd;

	pid = start(e, rests, &fd);
	refusals_name(e, pid);
	kill(pid, SIGSTOP);
	refusals_name(e, pid);
	steal(e, pid);
	check_prefix(e, RING);
	write_ours(e);
	since = now_s();
	kill(pid, SIGCONT);
	learns(pid, fd, since);
	only_ours_is_there(e);
	takeover_free(e);
}

TEST(a_busy_writer_is_stopped_and_robbed)
{
	uint64_t rng = test_seed() | 1;

	for (int i = 0; i < 5; i++) {
		char name[16];
		struct image_env *e;
		double since;
		pid_t pid;
		int fd;

		snprintf(name, sizeof(name), "busy%d", i);
		e = takeover_new(name);
		pid = start(e, writes_on, &fd);
		pause_ms((unsigned)(test_rand(&rng) % 100));
		kill(pid, SIGSTOP);
		steal(e, pid);
		check_prefix(e, 1);
		write_ours(e);
		if (i % 2)
			ie_close_image(e);
		since = now_s();
		kill(pid, SIGCONT);
		learns(pid, fd, since);
		if (i % 2)
			ie_image(e, 0);
		only_ours_is_there(e);
		takeover_free(e);
	}
}

TEST(a_busy_writer_is_robbed_while_it_writes)
{
	struct image_env *e = takeover_new("alive");
	double since;
	pid_t pid;
	int fd;

	pid = start(e, writes_on, &fd);
	since = now_s();
	steal(e, pid);
	check_prefix(e, 1);
	write_ours(e);
	learns(pid, fd, since);
	only_ours_is_there(e);
	takeover_free(e);
}

/* ---- a thief that has only begun ---- */

/* The lock, and a superblock that says the same as before but for a time (writer_fence()). */
static struct store *begin_to_steal(struct image_env *e, const char *who, struct loop **l)
{
	static uint8_t buf[SUPERBLOCK_BYTES];
	struct superblock *sb = calloc(1, sizeof(*sb));
	struct store *s;
	int64_t n;

	assert_int_equal(loop_uring_new(64, l, &util_err), 0);
	s = util_open(*l, e->store, 0);
	assert_int_equal(util_steal(s, "vm", who), 0);
	n = util_get(s, "vm/super", 0, buf, sizeof(buf));
	assert_true(n > 0);
	assert_int_equal(superblock_decode(buf, (size_t)n, sb, &util_err), 0);
	sb->since_ns++;
	n = (int64_t)superblock_encode(sb, buf);
	assert_int_equal(util_swap(s, "vm/super", util_tag, buf, (size_t)n), 0);
	free(sb);
	return s;
}

TEST(a_thief_that_is_still_loading_is_named)
{
	static const char who[] = "host thief pid 7 since the beginning";
	struct lsvd_image_info info = {.failed = ""};
	struct image_env *e = takeover_new("begun");
	struct store *thief;
	struct loop *l;

	ie_set(e, "writer.check_ms", "10");
	ie_open(e, LSVD_DRIVE_THREAD);
	assert_int_equal(put_block(e, 1), 0);
	thief = begin_to_steal(e, who, &l);
	for (double until = now_s() + LEARNS_S; now_s() < until && !strstr(info.failed, who);
		pause_ms(5))
		lsvd_image_info(e->img, &info);
	if (!strstr(info.failed, who))
		fail_msg("it says '%s'", info.failed);
	assert_int_equal(put_block(e, 2), -ESTALE);
	IE_SAYS(e, lsvd_image_close(e->img, e->why), -ESTALE, who);
	e->img = NULL;
	store_close(thief);
	loop_free(l);
	ie_image(e, LSVD_OPEN_NO_JOURNAL);
	takeover_free(e);
}

/* ---- the journal that is left ---- */

static int count_journals(void *arg, const struct lsvd_journal_info *j)
{
	struct lsvd_journal_info *last = arg;

	*last = *j;
	return 0;
}

TEST(the_journal_of_a_loser_is_neither_replayed_nor_dropped_by_itself)
{
	struct image_env *e = takeover_new("old");
	struct lsvd_journal_info j = {.uuid = ""};
	pid_t pid;
	int fd;

	pid = start(e, rests, &fd);
	steal(e, pid);
	learns(pid, fd, now_s());
	ie_close(e);
	/* Nobody wrote: it goes on where it ended. */
	ie_set(e, "pool.path", e->pool);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, try_open(e, 0), -ESTALE, "`lsvd journal discard`");
	IE_OK(e, lsvd_journal_list(e->ctx, count_journals, &j, e->why));
	assert_true(j.records > 0 && j.last_record >= j.first_record);
	ie_image(e, LSVD_OPEN_OLD_JOURNAL);
	check_prefix(e, RING + 16);
	ie_close_image(e);
	IE_SAYS(e, lsvd_journal_discard(e->ctx, j.uuid, e->why), -ENOENT, j.uuid);
	ie_image(e, 0);
	takeover_free(e);
}

TEST(the_journal_of_a_loser_is_refused_when_somebody_wrote_since)
{
	struct image_env *e = takeover_new("late");
	struct lsvd_journal_info j = {.uuid = ""};
	pid_t pid;
	int fd;

	pid = start(e, rests, &fd);
	steal(e, pid);
	write_ours(e);
	learns(pid, fd, now_s());
	ie_close(e);
	ie_set(e, "pool.path", e->pool);
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, try_open(e, 0), -ESTALE, "of epoch 1, but");
	IE_SAYS(e, try_open(e, LSVD_OPEN_OLD_JOURNAL), -ESTALE, "written since");
	IE_OK(e, lsvd_journal_list(e->ctx, count_journals, &j, e->why));
	assert_int_equal(j.epoch, 1);
	IE_OK(e, lsvd_journal_discard(e->ctx, j.uuid, e->why));
	ie_image(e, 0);
	check_ours(e);
	takeover_free(e);
}
