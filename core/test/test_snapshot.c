/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_snapshot.c - states that are kept: taken with writes in flight, read, removed, rolled back
 * to; and that nothing is deleted too early, or never. */
#include "test/snap_env.h"
#include "test/test.h"

#include <errno.h>

/* ---- what a snapshot reads ---- */

TEST(a_snapshot_stays_what_it_is)
{
	struct image_env *e = ie_new("stays");
	struct kept k[4];

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	for (int i = 0; i < 4; i++) {
		char name[8] = {(char)('a' + i)};

		model_churn(e, 500);
		k[i] = se_take(e, name);
		se_check_kept(e, &k[i]);
	}
	model_churn(e, 1500);
	model_check_all(e);
	for (int i = 0; i < 4; i++)
		se_check_kept(e, &k[i]);
	ie_close(e);
	se_fsck(e, "vm");
	ie_open(e, LSVD_DRIVE_THREAD);
	model_churn(e, 500);
	for (int i = 0; i < 4; i++)
		se_check_kept(e, &k[i]);
	model_check_all(e);
	for (int i = 0; i < 4; i++)
		free(k[i].version);
	ie_free(e);
}

TEST(names_of_snapshots)
{
	struct image_env *e = ie_new("names");
	struct lsvd_image *img;
	char url[500], longest[65];

	memset(longest, 'x', 64);
	longest[64] = 0;
	ie_open(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, lsvd_snapshot_create(e->img, "", e->why), -EINVAL, "no name");
	IE_SAYS(e, lsvd_snapshot_create(e->img, "a@b", e->why), -EINVAL, "no name");
	IE_SAYS(e, lsvd_snapshot_create(e->img, ".a", e->why), -EINVAL, "no name");
	IE_SAYS(e, lsvd_snapshot_create(e->img, longest, e->why), -EINVAL, "no name");
	IE_OK(e, lsvd_snapshot_create(e->img, longest + 1, e->why));
	IE_SAYS(e, lsvd_snapshot_create(e->img, longest + 1, e->why), -EEXIST, "already");
	IE_SAYS(e, lsvd_snapshot_remove(e->img, "nope", e->why), -ENOENT, "no snapshot 'nope'");
	snprintf(url, sizeof(url), "%s@%s", e->url, longest + 1);
	IE_SAYS(e, lsvd_image_open(e->ctx, url, 0, &img, e->why), -EROFS, "snapshot");
	IE_OK(e, lsvd_image_open(e->ctx, url, LSVD_OPEN_READONLY, &img, e->why));
	IE_SAYS(e, lsvd_snapshot_create(img, "more", e->why), -EROFS, "read-only");
	IE_SAYS(e, lsvd_snapshot_remove(e->img, longest + 1, e->why), -EBUSY, "is open");
	IE_OK(e, lsvd_image_close(img, e->why));
	IE_OK(e, lsvd_snapshot_remove(e->img, longest + 1, e->why));
	IE_SAYS(e, lsvd_image_open(e->ctx, url, LSVD_OPEN_READONLY, &img, e->why), -ENOENT,
		"no snapshot");
	snprintf(url, sizeof(url), "%s@a b", e->url);
	IE_SAYS(e, lsvd_image_open(e->ctx, url, LSVD_OPEN_READONLY, &img, e->why), -EINVAL,
		"names no snapshot");
	ie_free(e);
}

static int note(void *arg, const struct lsvd_snapshot_info *s)
{
	char **p = arg;

	*p += sprintf(*p, "%d:%s:%d ", (int)s->id, s->name, (int)(s->size_bytes >> 20));
	return 0;
}

TEST(snapshots_are_listed)
{
	struct image_env *e = ie_new("list");
	char text[200] = "", *p = text;

	ie_open(e, LSVD_DRIVE_INLINE);
	IE_OK(e, lsvd_snapshot_create(e->img, "one", e->why));
	IE_OK(e, lsvd_image_resize(e->img, 2 * e->size_bytes, false, e->why));
	IE_OK(e, lsvd_snapshot_create(e->img, "two", e->why));
	IE_OK(e, lsvd_snapshot_remove(e->img, "one", e->why));
	IE_OK(e, lsvd_snapshot_create(e->img, "one", e->why));
	IE_OK(e, lsvd_snapshot_list(e->ctx, e->url, note, &p, e->why));
	assert_string_equal(text, "2:two:64 3:one:64 ");
	ie_free(e);
}

/* ---- with writes in flight ---- */

enum { FLIGHT = 64, LANES = 8 };

struct lane {
	struct lsvd_io io;
	struct iovec iov;
	uint8_t buf[4096];
	struct flight *f;
	uint64_t lba;
	uint32_t n; /* of the write */
};

struct flight {
	struct image_env *e;
	struct lane lane[LANES];
	uint32_t submitted, acked[LANES]; /* the newest of each lane */
	unsigned busy;
	bool stop;
};

static void next_write(struct lane *l);

static void written(struct lsvd_io *io)
{
	struct lane *l = io->user;

	assert_int_equal(io->status, 0);
	l->f->acked[l - l->f->lane] = l->n;
	l->f->busy--;
	if (!l->f->stop)
		next_write(l);
}

/* Each lane overwrites one place again and again, with rising numbers. */
static void next_write(struct lane *l)
{
	l->n = ++l->f->submitted;
	model_fill(l->buf, l->lba, 8, l->n);
	l->iov = (struct iovec){l->buf, sizeof(l->buf)};
	l->io.op = LSVD_WRITE;
	l->io.offset_bytes = l->lba * 512;
	l->io.len_bytes = sizeof(l->buf);
	l->io.iov = &l->iov;
	l->io.iovcnt = 1;
	l->io.cb = written;
	l->io.user = l;
	l->f->busy++;
	assert_int_equal(lsvd_submit(l->f->e->img, &l->io), 0);
}

/* One after the other in submission order is what all saw: the snapshot is a prefix. */
static void check_prefix(
	struct image_env *e, const char *name, const uint32_t *before, const uint32_t *after)
{
	char url[400];
	struct lsvd_image *img;
	uint8_t buf[4096];

	snprintf(url, sizeof(url), "%s@%s", e->url, name);
	IE_OK(e, lsvd_image_open(e->ctx, url, LSVD_OPEN_READONLY, &img, e->why));
	for (unsigned i = 0; i < LANES; i++) {
		uint32_t n;

		assert_int_equal(lsvd_pread(img, buf, 4096, i * 65536), 0);
		n = model_version(buf, i * 128);
		for (unsigned s = 0; s < 8; s++)
			assert_true(model_is(buf + s * 512, i * 128 + s, n));
		if (n < before[i] || n > after[i])
			fail_msg("lane %u: %u, not %u to %u", i, n, before[i], after[i]);
	}
	IE_OK(e, lsvd_image_close(img, e->why));
}

TEST(a_snapshot_lies_between_acknowledged_writes)
{
	struct image_env *e = ie_new("flight");
	struct flight f = {.e = e};
	uint32_t before[10][LANES], after[10][LANES];

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	for (unsigned i = 0; i < LANES; i++) {
		f.lane[i].f = &f;
		f.lane[i].lba = i * 128;
		next_write(&f.lane[i]);
	}
	for (char name[] = "0"; name[0] <= '9'; name[0]++) {
		unsigned k = (unsigned)(name[0] - '0');

		for (int i = 0; i < 300; i++)
			lsvd_poll(e->ctx, 1000000);
		memcpy(before[k], f.acked, sizeof(f.acked));
		IE_OK(e, lsvd_snapshot_create(e->img, name, e->why));
		for (unsigned i = 0; i < LANES; i++)
			after[k][i] = f.lane[i].n;
	}
	f.stop = true;
	while (f.busy)
		lsvd_poll(e->ctx, -1);
	assert_true(f.submitted > 1000);
	for (char name[] = "0"; name[0] <= '9'; name[0]++)
		check_prefix(e, name, before[name[0] - '0'], after[name[0] - '0']);
	e->version = realloc(e->version, e->size_bytes / 512 * sizeof(*e->version));
	ie_free(e);
}

/* ---- what goes when ---- */

TEST(what_only_a_snapshot_needs_goes_with_it)
{
	struct image_env *e = ie_new("gone");
	struct lsvd_image_info info;
	struct kept a, b;
	unsigned alone;

	ie_set(e, "gc.enabled", "false");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 4096);
	ie_close(e);
	alone = se_objects(e, "vm");
	ie_open(e, LSVD_DRIVE_INLINE);
	a = se_take(e, "a");
	model_write(e, 0, 4096);
	b = se_take(e, "b");
	model_write(e, 0, 4096);
	ie_close(e);
	assert_true(se_objects(e, "vm") >= alone + 16); /* 2 MiB twice, in objects of 256 KiB */
	ie_open(e, LSVD_DRIVE_INLINE);
	se_check_kept(e, &a);
	se_check_kept(e, &b);
	lsvd_image_info(e->img, &info);
	assert_true(info.kept_objects >= 16);
	assert_int_equal(info.kept_bytes, 2 * 4096 * 512);
	assert_int_equal(info.snapshots, 2);
	IE_OK(e, lsvd_snapshot_remove(e->img, "a", e->why));
	lsvd_image_info(e->img, &info);
	assert_int_equal(info.kept_bytes, 4096 * 512);
	se_check_kept(e, &b);
	ie_close(e);
	se_fsck(e, "vm");
	ie_open(e, LSVD_DRIVE_INLINE);
	se_check_kept(e, &b);
	IE_OK(e, lsvd_snapshot_remove(e->img, "b", e->why));
	lsvd_image_info(e->img, &info);
	assert_int_equal(info.kept_objects, 0);
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "vm");
	ie_ctx(e, LSVD_DRIVE_INLINE);
	IE_OK(e, lsvd_image_stat(e->ctx, e->url, &info, e->why));
	assert_int_equal(se_objects(e, "vm"), info.objects);
	assert_int_equal(info.live_bytes, 4096 * 512);
	free(a.version);
	free(b.version);
	ie_free(e);
}

/* ---- rolling back ---- */

static void roll_back(struct image_env *e, const struct kept *k)
{
	char name[80];

	snprintf(name, sizeof(name), "vm@%s", k->name);
	IE_OK(e, lsvd_snapshot_rollback(e->ctx, se_url(e, name), e->why));
	se_restore(e, k);
}

TEST(an_image_is_rolled_back_and_forth)
{
	struct image_env *e = ie_new("roll");
	struct kept k[3];
	char url[400];

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	for (int i = 0; i < 3; i++) {
		char name[8] = {(char)('a' + i)};

		model_churn(e, 600);
		k[i] = se_take(e, name);
	}
	model_churn(e, 600);
	snprintf(url, sizeof(url), "%s@a", e->url);
	IE_SAYS(e, lsvd_snapshot_rollback(e->ctx, url, e->why), -EBUSY, "open");
	IE_SAYS(e, lsvd_snapshot_rollback(e->ctx, e->url, e->why), -EINVAL, "IMAGE@SNAPSHOT");
	ie_close_image(e);
	snprintf(url, sizeof(url), "%s@zzz", e->url);
	IE_SAYS(e, lsvd_snapshot_rollback(e->ctx, url, e->why), -ENOENT, "no snapshot 'zzz'");
	for (unsigned round = 0; round < 6; round++) {
		roll_back(e, &k[(round * 2 + 1) % 3]);
		se_fsck(e, "vm");
		ie_image(e, 0);
		model_check_all(e);
		model_churn(e, 300);
		for (int i = 0; i < 3; i++)
			se_check_kept(e, &k[i]);
		ie_close_image(e);
		se_fsck(e, "vm");
	}
	ie_image(e, 0);
	for (int i = 0; i < 3; i++) {
		IE_OK(e, lsvd_snapshot_remove(e->img, k[i].name, e->why));
		for (int m = i + 1; m < 3; m++)
			se_check_kept(e, &k[m]);
		free(k[i].version);
	}
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "vm");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
}

/* ---- sizes ---- */

static void written_or_refused(struct lsvd_io *io)
{
	struct lane *l = io->user;

	assert_true(io->status == 0 || io->status == -EINVAL);
	l->n = 0;
	l->f->busy--;
}

/* A write somewhere, through a lane that is free. */
static void write_anywhere(struct flight *f, uint64_t sectors, uint64_t *rand)
{
	struct lane *l = f->lane;

	while (f->busy == LANES)
		lsvd_poll(f->e->ctx, -1);
	while (l->n)
		l++;
	l->f = f;
	l->lba = test_rand(rand) % (sectors / 8) * 8;
	l->n = ++f->submitted;
	model_fill(l->buf, l->lba, 8, l->n);
	l->iov = (struct iovec){l->buf, sizeof(l->buf)};
	l->io = (struct lsvd_io){.op = LSVD_WRITE,
		.offset_bytes = l->lba * 512,
		.len_bytes = sizeof(l->buf),
		.iov = &l->iov,
		.iovcnt = 1,
		.cb = written_or_refused,
		.user = l};
	f->busy++;
	if (lsvd_submit(f->e->img, &l->io) < 0) {
		l->n = 0;
		f->busy--;
	}
}

static void nothing_in(struct image_env *e, uint64_t lba, uint64_t end)
{
	static uint8_t buf[1 << 20];

	for (; lba < end; lba += sizeof(buf) / 512) {
		assert_int_equal(lsvd_pread(e->img, buf, sizeof(buf), lba * 512), 0);
		for (uint64_t s = 0; s < sizeof(buf) / 512; s++)
			assert_int_equal(model_version(buf + s * 512, lba + s), 0);
	}
}

/* Writers all over the image, and it shrinks and grows under them: of what was cut off nothing is
 * there again, also of what was in flight. */
TEST(a_size_changes_under_writers)
{
	struct image_env *e = ie_new("resized");
	uint64_t full = e->size_bytes / 512, rand = test_seed() | 1;
	struct flight f = {.e = e};

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 200; i++)
			write_anywhere(&f, full, &rand);
		IE_OK(e, lsvd_image_resize(e->img, full * 256, true, e->why));
		for (int i = 0; i < 50; i++)
			write_anywhere(&f, full, &rand);
		IE_OK(e, lsvd_image_resize(e->img, full * 512, false, e->why));
		nothing_in(e, full / 2, full);
	}
	while (f.busy)
		lsvd_poll(e->ctx, -1);
	ie_close(e);
	se_fsck(e, "vm");
	ie_free(e);
}

/* Refused, nothing is cut; and a snapshot keeps what is. */
TEST(a_snapshot_has_its_own_size)
{
	struct image_env *e = ie_new("sizes");
	uint64_t size = e->size_bytes;
	struct kept k;

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 400);
	model_write(e, size / 512 - 8, 8);
	IE_SAYS(e, lsvd_image_resize(e->img, size / 2, false, e->why), -EINVAL, "data beyond");
	model_check_all(e);
	k = se_take(e, "s");
	IE_OK(e, lsvd_image_resize(e->img, size / 2, true, e->why));
	se_check_kept(e, &k);
	IE_OK(e, lsvd_image_resize(e->img, 2 * size, false, e->why));
	se_check_kept(e, &k);
	ie_close(e);
	se_fsck(e, "vm");
	ie_ctx(e, LSVD_DRIVE_INLINE);
	se_check_kept(e, &k);
	IE_OK(e, lsvd_snapshot_rollback(e->ctx, se_url(e, "vm@s"), e->why));
	se_restore(e, &k);
	ie_image(e, 0);
	assert_int_equal(lsvd_image_size(e->img), size);
	model_check_all(e);
	free(k.version);
	ie_free(e);
}
