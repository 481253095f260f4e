/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The check of images with snapshots, bases and clones: what is whole has no finding, what is not
 * is told. */
#include "test/fsck_env.h"
#include "volume/clone.h"

#include <errno.h>

static void snapshot(struct fx *v, const char *name)
{
	assert_int_equal(lsvd_snapshot_create(v->img, name, v->e.msg), 0);
}

/* Snapshots "a" and "b", each with data of its own that was overwritten since; clone "c" of "a". */
static void make_family(struct fx *v)
{
	fx_make_image(v);
	fx_open_image(v);
	for (uint64_t i = 0; i < 3; i++) {
		for (uint64_t k = 0; k < 8; k++)
			fx_write_at(v, 1000 * i + k, k * 256 * 1024, 256 * 1024);
		assert_int_equal(lsvd_image_drain(v->img), 0);
		if (i < 2)
			snapshot(v, i ? "b" : "a");
	}
	fx_close_image(v);
	if (volume_clone(v->store[0], "v", "a", "c", &v->e) < 0)
		fail_msg("%s", v->e.msg);
}

static void check(struct fx *v, const char *name)
{
	fsck_report_fini(&v->r);
	if (fsck_run(&(struct fsck_params){.store = v->store[1], .name = name, .flags = FSCK_DATA},
		    &v->r, &v->e) < 0)
		fail_msg("fsck: %s", v->e.msg);
}

static void find_one(struct fx *v, enum fsck_code code, const char *object)
{
	for (uint32_t i = 0; i < v->r.n; i++)
		if (v->r.findings[i].severity == FSCK_ERROR && v->r.findings[i].code == code &&
			!strcmp(v->r.findings[i].object, object))
			return;
	for (uint32_t i = 0; i < v->r.n; i++)
		print_message("%s %s: %s\n", fsck_code_name(v->r.findings[i].code),
			v->r.findings[i].object, v->r.findings[i].what);
	fail_msg("no %s of %s", fsck_code_name(code), object);
}

TEST(a_family_is_whole)
{
	struct fx v;

	make_family(&v);
	check(&v, "v");
	fx_none(&v);
	check(&v, "c");
	fx_none(&v);
	assert_true(v.r.objects > 0);
	fx_fini(&v);
}

/* The newest checkpoint's list of what is kept for snapshots. */
static struct checkpoint_header newest(struct fx *v, uint8_t **p)
{
	struct checkpoint_header h;
	size_t len;

	*p = fx_load(v, fx_checkpoint(v), &len);
	assert_int_equal(checkpoint_decode_fixed(*p, len, &h, &v->e), 0);
	return h;
}

TEST(what_a_snapshot_needs_is_missing)
{
	struct checkpoint_deferred d;
	struct checkpoint_kept k;
	struct checkpoint_header h;
	char name[STORE_NAME_MAX];
	struct fx v;
	uint8_t *p;

	make_family(&v);
	/* Until reading begins after the snapshots' checkpoints. */
	for (int i = 0; i < CHECKPOINT_SLICES + 2; i++) {
		fx_open_image(&v);
		fx_write_at(&v, 5000, (uint64_t)i % 8 * 256 * 1024, 256 * 1024);
		fx_close_image(&v);
	}
	check(&v, "v");
	fx_none(&v);
	h = newest(&v, &p);
	assert_true(h.kept > 0);
	checkpoint_get_kept(p, &h, 0, &k);
	free(p);
	snprintf(name, sizeof(name), "v/ckpt.%016llx.%016llx", (unsigned long long)k.x.epoch,
		(unsigned long long)k.x.number);
	assert_int_equal(util_delete(v.store[1], name), 0);
	check(&v, "v");
	find_one(&v, FSCK_MISSING, name);
	fx_fini(&v);

	/* Deferred objects are listed a slice at a time; one of any slice will do. */
	make_family(&v);
	d.seq = 0;
	for (int i = 0; !d.seq && i < CHECKPOINT_SLICES; i++) {
		h = newest(&v, &p);
		for (uint32_t n = 0; n < h.deferred; n++)
			checkpoint_get_deferred(p, &h, n, &d);
		free(p);
		fx_open_image(&v);
		fx_close_image(&v);
	}
	assert_true(d.seq);
	snprintf(name, sizeof(name), "v/%016llx.%016llx", (unsigned long long)d.epoch,
		(unsigned long long)d.seq);
	assert_int_equal(util_delete(v.store[1], name), 0);
	check(&v, "v");
	find_one(&v, FSCK_MISSING, name);
	fx_fini(&v);
}

TEST(a_snapshot_of_another_moment)
{
	struct superblock *sb;
	struct fx v;

	make_family(&v);
	sb = fx_super_of(&v);
	sb->snapshot[1].object_seq--;
	fx_put_super(&v, sb);
	check(&v, "v");
	find_one(&v, FSCK_SNAPSHOT, "v/super");
	fx_fini(&v);
}

/* A snapshot that came out of nowhere: its objects are the image's to delete. */
TEST(a_snapshot_that_nothing_is_kept_for)
{
	struct superblock *sb;
	struct superblock_snapshot a;
	struct fx v;

	make_family(&v);
	sb = fx_super_of(&v);
	a = sb->snapshot[0];
	free(sb);
	fx_open_image(&v);
	assert_int_equal(lsvd_snapshot_remove(v.img, "b", v.e.msg), 0);
	assert_int_equal(volume_remove(v.store[1], NULL, "c", &v.e), 0);
	assert_int_equal(lsvd_snapshot_remove(v.img, "a", v.e.msg), 0);
	fx_close_image(&v);
	check(&v, "v");
	fx_none(&v);
	sb = fx_super_of(&v);
	sb->snapshot[sb->snapshots++] = a;
	fx_put_super(&v, sb);
	check(&v, "v");
	assert_true(v.r.errors > 0);
	fx_fini(&v);
}

TEST(a_clone_without_its_base)
{
	struct clones *c = calloc(1, sizeof(*c));
	uint8_t *buf = malloc(CLONES_BYTES);
	struct superblock *sb;
	struct fx v;

	make_family(&v);
	assert_int_equal(clones_read(v.store[1], "v", c, &v.e), 0);
	assert_int_equal(c->n, 1);
	c->n = 0;
	fx_replace(&v, "v/clones", buf, clones_encode(c, buf));
	check(&v, "c");
	find_one(&v, FSCK_BASE, "v/clones");
	fx_flip(&v, "v/clones", 200);
	check(&v, "c");
	find_one(&v, FSCK_CHECKSUM, "v/clones");
	check(&v, "v");
	find_one(&v, FSCK_CHECKSUM, "v/clones");
	fx_fini(&v);

	make_family(&v);
	sb = fx_super_of(&v);
	memmove(sb->snapshot, sb->snapshot + 1, sizeof(sb->snapshot[0]));
	sb->snapshots--;
	fx_put_super(&v, sb);
	check(&v, "c");
	find_one(&v, FSCK_BASE, "v/super");
	check(&v, "v");
	find_one(&v, FSCK_BASE, "v/clones");
	fx_fini(&v);

	make_family(&v);
	assert_int_equal(util_delete(v.store[1], fx_object(&v, 0)), 0);
	check(&v, "c");
	assert_true(v.r.errors > 0);
	assert_int_equal(util_delete(v.store[1], "v/super"), 0);
	check(&v, "c");
	find_one(&v, FSCK_MISSING, "v/super");
	fx_fini(&v);
	free(buf);
	free(c);
}

TEST(a_clone_that_a_crash_left_is_only_noted)
{
	struct fx v;

	make_family(&v);
	assert_int_equal(util_delete(v.store[1], "c/super"), 0);
	check(&v, "v");
	assert_int_equal(v.r.errors + v.r.warnings, 0);
	assert_int_equal(v.r.notes, 1);
	assert_string_equal(v.r.findings[0].object, "v/clones");
	fx_open_image(&v);
	if (lsvd_snapshot_remove(v.img, "a", v.e.msg) < 0)
		fail_msg("%s", v.e.msg);
	fx_close_image(&v);
	check(&v, "v");
	fx_none(&v);
	fx_fini(&v);
}
