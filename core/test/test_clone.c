/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_clone.c - images that build on others: what they read, what they protect, what they leave;
 * chains, flattening, and what a crash at any step leaves. */
#include "test/snap_env.h"
#include "test/test.h"

#include "volume/checkpoint_impl.h"
#include "volume/clone.h"

#include <errno.h>

/* Clone `base`, and use the clone from now on. */
static void clone_to(struct image_env *e, const char *base, const char *name)
{
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, base), se_url(e, name), e->why));
	if (e->img)
		ie_close_image(e);
	se_switch(e, name);
	ie_image(e, 0);
}

TEST(a_clone_is_what_its_base_was)
{
	struct image_env *e = ie_new("clone");
	struct kept base, snap, clone = {0};
	unsigned objects;

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 800);
	snap = se_take(e, "s");
	model_churn(e, 400);
	base = se_keep(e, "");
	clone_to(e, "vm@s", "c");
	objects = se_objects(e, "vm");
	assert_int_equal(se_objects(e, "c"), 0);
	se_restore(e, &snap);
	model_check_all(e);
	for (int i = 0; i < 3; i++) {
		model_churn(e, 500);
		model_check_all(e);
		free(clone.version);
		clone = se_keep(e, "");
		ie_close(e);
		se_fsck(e, "c");
		ie_open(e, i % 2 ? LSVD_DRIVE_INLINE : LSVD_DRIVE_THREAD);
	}
	/* GC of the clone left the base alone. */
	assert_int_equal(se_objects(e, "vm"), objects);
	se_check(e, "vm", &base);
	se_check(e, "vm@s", &snap);
	/* And the other way. */
	ie_close_image(e);
	se_switch(e, "vm");
	ie_image(e, 0);
	se_restore(e, &base);
	model_churn(e, 1500);
	se_check(e, "c", &clone);
	se_check(e, "vm@s", &snap);
	ie_close(e);
	se_fsck(e, "vm");
	se_fsck(e, "c");
	free(base.version);
	free(snap.version);
	free(clone.version);
	ie_free(e);
}

static int note_clone(void *arg, const struct lsvd_clone_info *c)
{
	strcat(arg, c->name);
	strcat(arg, c->exists ? " " : "! ");
	return 0;
}

TEST(what_has_clones_is_not_removed)
{
	struct image_env *e = ie_new("protect");
	struct lsvd_image_info info;
	char names[100] = "";

	ie_open(e, LSVD_DRIVE_INLINE);
	model_write(e, 0, 2048);
	IE_OK(e, lsvd_snapshot_create(e->img, "s", e->why));
	IE_OK(e, lsvd_snapshot_create(e->img, "t", e->why));
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "one"), e->why));
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "two"), e->why));
	IE_SAYS(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "two"), e->why), -EEXIST,
		"exists already");
	IE_SAYS(e, lsvd_clone(e->ctx, se_url(e, "vm@x"), se_url(e, "three"), e->why), -ENOENT,
		"no snapshot 'x'");
	IE_SAYS(e, lsvd_clone(e->ctx, se_url(e, "vm"), se_url(e, "three"), e->why), -EBUSY,
		"in use");
	IE_SAYS(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), "mem:three", e->why), -EXDEV, "store");
	IE_SAYS(e, lsvd_snapshot_remove(e->img, "s", e->why), -EBUSY, "2 clones: one, two");
	IE_OK(e, lsvd_snapshot_remove(e->img, "t", e->why));
	IE_OK(e, lsvd_clone_list(e->ctx, e->url, note_clone, names, e->why));
	assert_string_equal(names, "one two ");
	ie_close_image(e);
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -EBUSY, "one, two");
	IE_OK(e, lsvd_image_stat(e->ctx, se_url(e, "one"), &info, e->why));
	assert_string_equal(info.base, "vm");
	assert_int_equal(info.base_bytes, info.stored_bytes);
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "one"), e->why));
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -EBUSY, "1 clone: two");
	ie_image(e, 0);
	IE_SAYS(e, lsvd_snapshot_remove(e->img, "s", e->why), -EBUSY, "1 clone: two");
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "two"), e->why));
	IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
	ie_close_image(e);
	IE_OK(e, lsvd_image_remove(e->ctx, e->url, e->why));
	assert_int_equal(ie_files(e->root), 0);
	ie_free(e);
}

static int count_snapshots(void *arg, const struct lsvd_snapshot_info *s)
{
	int *n = arg;

	*n += s->automatic ? 100 : 1;
	return 0;
}

TEST(a_closed_image_is_cloned_without_a_snapshot_of_ones_own)
{
	struct image_env *e = ie_new("closed");
	struct kept then;
	int n = 0;

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 500);
	ie_close_image(e);
	then = se_keep(e, "");
	IE_OK(e, lsvd_clone(e->ctx, e->url, se_url(e, "a"), e->why));
	IE_OK(e, lsvd_clone(e->ctx, e->url, se_url(e, "b"), e->why));
	IE_OK(e, lsvd_snapshot_list(e->ctx, e->url, count_snapshots, &n, e->why));
	assert_int_equal(n, 100); /* both of the same */
	ie_image(e, 0);
	model_churn(e, 1500);
	se_check(e, "a", &then);
	se_check(e, "b", &then);
	ie_close_image(e);
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "a"), e->why));
	n = 0;
	IE_OK(e, lsvd_snapshot_list(e->ctx, e->url, count_snapshots, &n, e->why));
	assert_int_equal(n, 100);
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "b"), e->why));
	n = 0;
	IE_OK(e, lsvd_snapshot_list(e->ctx, e->url, count_snapshots, &n, e->why));
	assert_int_equal(n, 0);
	se_fsck(e, "vm");
	ie_image(e, 0);
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "vm");
	free(then.version);
	ie_free(e);
}

TEST(an_image_that_is_not_clean_is_not_cloned)
{
	struct image_env *e = ie_new("unclean");

	ie_open(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, lsvd_clone(e->ctx, e->url, e->url, e->why), -EEXIST, "own clone");
	IE_SAYS(e, lsvd_clone(e->ctx, se_url(e, "none"), se_url(e, "a"), e->why), -ENOENT,
		"no image 'none'");
	ie_close_image(e);
	/* Never written: an empty clone. */
	IE_OK(e, lsvd_clone(e->ctx, e->url, se_url(e, "a"), e->why));
	se_switch(e, "a");
	ie_image(e, 0);
	model_check_all(e);
	model_churn(e, 200);
	ie_close(e);
	se_fsck(e, "a");
	ie_free(e);
}

static int note_base(void *arg, const struct lsvd_base_info *b)
{
	strcat(arg, b->name);
	strcat(arg, " ");
	return 0;
}

/* Each generation writes a little and is cloned: 20 deep. */
TEST(clones_of_clones)
{
	enum { DEEP = 20 };
	struct image_env *e = ie_new("deep");
	struct kept k[DEEP];
	char bases[200] = "";

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 300);
	for (int i = 0; i < DEEP; i++) {
		char name[16], from[32];

		k[i] = se_take(e, "s");
		snprintf(from, sizeof(from), "%s@s", strrchr(e->url, '/') + 1);
		snprintf(name, sizeof(name), "g%d", i);
		clone_to(e, from, name);
		if (i % 5 == 4)
			model_check_all(e);
		model_churn(e, 100);
	}
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "g19");
	se_fsck(e, "g7");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	se_check(e, "vm@s", &k[0]);
	se_check(e, "g9@s", &k[10]);
	se_check(e, "g18@s", &k[19]);
	IE_OK(e, lsvd_base_list(e->ctx, se_url(e, "g3"), note_base, bases, e->why));
	assert_string_equal(bases, "g2 g1 g0 vm ");
	IE_OK(e, lsvd_image_flatten(e->img, NULL, NULL, e->why));
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "g19");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	for (int i = 0; i < DEEP; i++)
		free(k[i].version);
	ie_free(e);
}

TEST(a_chain_ends_somewhere)
{
	struct image_env *e = ie_new("longest");
	char from[32] = "vm", name[32];

	ie_open(e, LSVD_DRIVE_INLINE);
	ie_close_image(e);
	for (int i = 0; i < SUPERBLOCK_BASES_MAX; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		IE_OK(e, lsvd_clone(e->ctx, se_url(e, from), se_url(e, name), e->why));
		memcpy(from, name, sizeof(name));
	}
	IE_SAYS(e, lsvd_clone(e->ctx, se_url(e, from), se_url(e, "more"), e->why), -ENOSPC,
		"flatten it first");
	ie_free(e);
}

/* ---- flattening ---- */

static int stop_half(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	return done >= total / 2;
}

TEST(a_flat_clone_needs_nobody)
{
	struct image_env *e = ie_new("flat");
	struct lsvd_image_info info;

	se_busy(e);
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 800);
	ie_close_image(e);
	clone_to(e, "vm", "c");
	model_churn(e, 200);
	IE_OK(e, lsvd_snapshot_create(e->img, "s", e->why));
	IE_SAYS(e, lsvd_image_flatten(e->img, NULL, NULL, e->why), -EBUSY,
		"snapshots need the base");
	IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
	IE_SAYS(e, lsvd_image_flatten(e->img, stop_half, NULL, e->why), -ECANCELED, "");
	lsvd_image_info(e->img, &info);
	assert_string_equal(info.base, "vm");
	assert_true(info.base_bytes > 0);
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "c");
	ie_open(e, LSVD_DRIVE_THREAD);
	IE_OK(e, lsvd_image_flatten(e->img, NULL, NULL, e->why));
	lsvd_image_info(e->img, &info);
	assert_string_equal(info.base, "");
	assert_int_equal(info.base_bytes, 0);
	model_check_all(e);
	IE_OK(e, lsvd_image_flatten(e->img, NULL, NULL, e->why)); /* nothing to do */
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "vm"), e->why));
	model_churn(e, 300);
	model_check_all(e);
	ie_close(e);
	se_fsck(e, "c");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_check_all(e);
	ie_free(e);
}
