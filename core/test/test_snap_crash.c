/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_snap_crash.c - snapshots, clones, roll-backs, flattening and resizing, with the process
 * killed at each request to the store: right before it is sent, and right after it was carried out.
 *
 * What is left must be the one state or the other, whole, with nothing leaked and nothing missing;
 * and doing it once more must succeed.  Few of the places are tried each time, others with another
 * seed; SNAP_CRASH_ALL=1 tries all.
 */
#include "test/snap_env.h"
#include "test/test.h"

#include "store/impl.h"
#include "volume/clone.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLED = 77, STEPS_MAX = 400 };

/* ---- a store that kills ---- */

struct killer {
	struct store base;
	struct store *inner;
	unsigned count, at;
	bool after;
};

struct killed_req {
	struct store_req inner;
	struct store_req *outer;
	struct killer *k;
	unsigned number;
};

static void passed(struct store_req *r, int64_t status)
{
	struct killed_req *x = container_of(r, struct killed_req, inner);
	struct store_req *outer = x->outer;

	if (x->k->after && x->number == x->k->at)
		_exit(KILLED);
	store_req_up(outer, r);
	free(x);
	store_complete(outer, status);
}

static int item(struct store_req *r, const char *name, uint64_t size)
{
	struct store_req *outer = container_of(r, struct killed_req, inner)->outer;

	return outer->item(outer, name, size);
}

static void pass(struct store *s, struct store_req *r)
{
	struct killer *k = container_of(s, struct killer, base);
	struct killed_req *x = calloc(1, sizeof(*x));

	store_req_down(&x->inner, r);
	x->inner.done = passed;
	x->inner.item = r->item ? item : NULL;
	x->outer = r;
	x->k = k;
	/* Reading changes nothing. */
	if (r->op != STORE_GET && r->op != STORE_LIST)
		x->number = ++k->count;
	if (!k->after && x->number == k->at)
		_exit(KILLED);
	store_submit(k->inner, &x->inner);
}

static void no_close(struct store *s)
{
	store_close(container_of(s, struct killer, base)->inner);
}

static struct store *killer_on(struct killer *k, struct image_env *e, unsigned at, bool after)
{
	static const struct store_ops ops = {.submit = pass, .close = no_close};
	struct err err = {""};

	*k = (struct killer){.at = at, .after = after};
	assert_int_equal(store_open(ctx_loop(e->ctx), e->store, NULL, 0, &k->inner, &err), 0);
	store_init(&k->base, ctx_loop(e->ctx), &ops, "file", e->store);
	return &k->base;
}

/* ---- the operations, in a process of their own ---- */

typedef int operation(struct image_env *e, struct store *s, struct err *err);

static int open_and(struct image_env *e, struct store *s, const char *name, struct err *err,
	int (*work)(struct lsvd_image *img, struct err *err))
{
	struct lsvd_image *img;
	int rc = ctx_image_open(e->ctx, s, name, 0, &img, err), closed;

	if (rc < 0)
		return rc;
	rc = work(img, err);
	closed = lsvd_image_close(img, err->msg);
	return rc < 0 ? rc : closed;
}

static int work_create(struct lsvd_image *img, struct err *err)
{
	return volume_snapshot_wait(img->vol, VOLUME_SNAPSHOT_CREATE, "s", err);
}

static int op_create(struct image_env *e, struct store *s, struct err *err)
{
	return open_and(e, s, "vm", err, work_create);
}

static int work_remove(struct lsvd_image *img, struct err *err)
{
	return volume_snapshot_remove(img->vol, "s", err);
}

static int op_remove(struct image_env *e, struct store *s, struct err *err)
{
	return open_and(e, s, "vm", err, work_remove);
}

static int work_rollback(struct lsvd_image *img, struct err *err)
{
	return volume_rollback(img->vol, "s", err);
}

static int op_rollback(struct image_env *e, struct store *s, struct err *err)
{
	return open_and(e, s, "vm", err, work_rollback);
}

static int op_clone(struct image_env *e, struct store *s, struct err *err)
{
	(void)e;
	return volume_clone(s, "vm", "s", "c", err);
}

static int op_clone_closed(struct image_env *e, struct store *s, struct err *err)
{
	(void)e;
	return volume_clone(s, "vm", NULL, "c", err);
}

static int op_remove_clone(struct image_env *e, struct store *s, struct err *err)
{
	(void)e;
	return volume_remove(s, NULL, "c", err);
}

static int work_flatten(struct lsvd_image *img, struct err *err)
{
	return volume_flatten(img->vol, NULL, NULL, err);
}

static int op_flatten(struct image_env *e, struct store *s, struct err *err)
{
	return open_and(e, s, "c", err, work_flatten);
}

static int work_shrink(struct lsvd_image *img, struct err *err)
{
	return lsvd_image_resize(img, lsvd_image_size(img) / 2, true, err->msg);
}

static int op_shrink(struct image_env *e, struct store *s, struct err *err)
{
	return open_and(e, s, "vm", err, work_shrink);
}

/* True when it ran to its end. */
static bool run(struct image_env *e, operation *op, unsigned at, bool after)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct err err = {""};
		struct killer k;

		int rc = lsvd_ctx_open(e->cfg, LSVD_DRIVE_INLINE, &e->ctx, err.msg);

		if (rc == 0) {
			ctx_enter(e->ctx);
			rc = op(e, killer_on(&k, e, at, after), &err);
		}
		if (rc < 0)
			fprintf(stderr, "step %u: %s\n", at, err.msg);
		_exit(rc < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != KILLED && WEXITSTATUS(status) != 0)
		fail_msg("step %u %s: exit code %d", at, after ? "after" : "before",
			WEXITSTATUS(status));
	return WEXITSTATUS(status) == 0;
}

/* ---- each step of each ---- */

/* check() looks at what is left, with a context open and no image, and brings back what was. */
static void at_each_step(struct image_env *e, operation *op, void (*check)(struct image_env *e))
{
	uint64_t rand = test_seed() | 1;
	bool all = getenv("SNAP_CRASH_ALL"), over = false;

	for (unsigned at = 1; at < STEPS_MAX && !over;
		at += all ? 1 : 1 + (unsigned)(test_rand(&rand) % 12)) {
		for (int after = 0; after < 2; after++) {
			over = run(e, op, at, after);
			ie_ctx(e, LSVD_DRIVE_INLINE);
			check(e);
			ie_close(e);
		}
	}
	assert_true(over);
}

static bool has_snapshot(struct image_env *e, const char *name)
{
	struct lsvd_image *img;
	char full[64];
	int rc;

	snprintf(full, sizeof(full), "vm@%s", name);
	rc = lsvd_image_open(e->ctx, se_url(e, full), LSVD_OPEN_READONLY, &img, e->why);
	if (rc == -ENOENT && strstr(e->why, "no snapshot"))
		return false;
	IE_OK(e, rc);
	IE_OK(e, lsvd_image_close(img, e->why));
	return true;
}

/* Open, compare all, close; then nothing may be wrong. */
static void whole(struct image_env *e, const char *name)
{
	se_switch(e, name);
	ie_image(e, 0);
	model_check_all(e);
	ie_close_image(e);
	se_fsck(e, name);
}

static struct kept was; /* the image before, or its snapshot */

static struct image_env *prepare(const char *name)
{
	struct image_env *e = ie_new(name);

	se_busy(e);
	ie_set(e, "gc.enabled", "false");
	ie_set(e, "prefetch.enabled", "false");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_churn(e, 150);
	return e;
}

static void check_create(struct image_env *e)
{
	struct kept now = se_keep(e, "s");

	whole(e, "vm");
	if (has_snapshot(e, "s")) {
		se_check_kept(e, &now);
		ie_image(e, 0);
		IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
		ie_close_image(e);
	}
	whole(e, "vm");
	free(now.version);
}

TEST(creating_a_snapshot)
{
	struct image_env *e = prepare("create");

	ie_close(e);
	at_each_step(e, op_create, check_create);
	ie_free(e);
}

static void check_remove(struct image_env *e)
{
	whole(e, "vm");
	if (has_snapshot(e, "s")) {
		se_check_kept(e, &was);
		return;
	}
	ie_image(e, 0);
	free(was.version);
	was = se_take(e, "s");
	model_churn(e, 100);
	ie_close_image(e);
}

TEST(removing_a_snapshot)
{
	struct image_env *e = prepare("remove");

	was = se_take(e, "s");
	model_churn(e, 150);
	ie_close(e);
	at_each_step(e, op_remove, check_remove);
	free(was.version);
	ie_free(e);
}

static struct kept before;

static void check_rollback(struct image_env *e)
{
	uint32_t a = 0, b = 0;
	uint8_t buf[512];

	se_check_kept(e, &was);
	ie_image(e, 0);
	/* One sector tells which it is; the rest must agree. */
	for (uint64_t lba = 0; a == b; lba++) {
		a = before.version[lba];
		b = was.version[lba];
		if (a != b)
			assert_int_equal(lsvd_pread(e->img, buf, 512, lba * 512), 0);
		if (a != b && model_is(buf, lba, b))
			se_restore(e, &was);
	}
	ie_close_image(e);
	whole(e, "vm");
	ie_image(e, 0);
	model_churn(e, 60);
	/* Something that differs for sure. */
	model_write(e, 0, 8);
	ie_close_image(e);
	free(before.version);
	before = se_keep(e, "");
}

TEST(rolling_back)
{
	struct image_env *e = prepare("rollback");

	was = se_take(e, "s");
	model_churn(e, 150);
	model_write(e, 0, 8);
	ie_close(e);
	before = se_keep(e, "");
	at_each_step(e, op_rollback, check_rollback);
	free(was.version);
	free(before.version);
	ie_free(e);
}

static bool there(struct image_env *e, const char *name)
{
	struct lsvd_image_info info;
	int rc = lsvd_image_stat(e->ctx, se_url(e, name), &info, e->why);

	if (rc != -ENOENT)
		IE_OK(e, rc);
	return rc == 0;
}

/* Whatever it came to: the clone can be there in the end, and go, and with it all its traces. */
static void check_clone_of(struct image_env *e, const char *from)
{
	if (!there(e, "c"))
		IE_OK(e, lsvd_clone(e->ctx, se_url(e, from), se_url(e, "c"), e->why));
	se_check(e, "c", &was);
	IE_SAYS(e, lsvd_image_remove(e->ctx, e->url, e->why), -EBUSY, "1 clone: c");
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "c"), e->why));
	whole(e, "vm");
}

static void check_clone(struct image_env *e)
{
	check_clone_of(e, "vm@s");
	ie_image(e, 0);
	IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
	free(was.version);
	was = se_take(e, "s");
	ie_close_image(e);
}

TEST(cloning_a_snapshot)
{
	struct image_env *e = prepare("clone");

	was = se_take(e, "s");
	model_churn(e, 50);
	ie_close(e);
	at_each_step(e, op_clone, check_clone);
	free(was.version);
	ie_free(e);
}

static int no_snapshots(void *arg, const struct lsvd_snapshot_info *s)
{
	(void)arg;
	fail_msg("snapshot %s is left", s->name);
	return 0;
}

static void check_clone_closed(struct image_env *e)
{
	free(was.version);
	was = se_keep(e, "");
	check_clone_of(e, "vm");
	IE_OK(e, lsvd_snapshot_list(e->ctx, e->url, no_snapshots, NULL, e->why));
	ie_image(e, 0);
	model_churn(e, 50);
	ie_close_image(e);
}

TEST(cloning_a_closed_image)
{
	struct image_env *e = prepare("closed");

	ie_close(e);
	was = se_keep(e, "");
	at_each_step(e, op_clone_closed, check_clone_closed);
	free(was.version);
	ie_free(e);
}

static void check_remove_clone(struct image_env *e)
{
	if (there(e, "c")) {
		se_check(e, "c", &was);
		IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "c"), e->why));
	}
	/* What a dangling entry protects is nothing. */
	ie_image(e, 0);
	IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
	free(was.version);
	was = se_take(e, "s");
	ie_close_image(e);
	whole(e, "vm");
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "c"), e->why));
}

TEST(removing_a_clone)
{
	struct image_env *e = prepare("rmclone");

	was = se_take(e, "s");
	ie_close_image(e);
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "c"), e->why));
	ie_close(e);
	at_each_step(e, op_remove_clone, check_remove_clone);
	free(was.version);
	ie_free(e);
}

static void check_flatten(struct image_env *e)
{
	struct lsvd_image_info info;

	whole(e, "c");
	ie_image(e, 0);
	IE_OK(e, lsvd_image_flatten(e->img, NULL, NULL, e->why));
	model_check_all(e);
	ie_close_image(e);
	se_fsck(e, "c");
	/* The next one begins anew. */
	se_switch(e, "vm");
	ie_image(e, 0);
	IE_OK(e, lsvd_snapshot_remove(e->img, "s", e->why));
	IE_OK(e, lsvd_snapshot_create(e->img, "s", e->why));
	ie_close_image(e);
	IE_OK(e, lsvd_image_remove(e->ctx, se_url(e, "c"), e->why));
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "c"), e->why));
	IE_OK(e, lsvd_image_stat(e->ctx, se_url(e, "c"), &info, e->why));
	assert_string_equal(info.base, "vm");
}

TEST(flattening)
{
	struct image_env *e = prepare("flatten");

	IE_OK(e, lsvd_snapshot_create(e->img, "s", e->why));
	ie_close_image(e);
	IE_OK(e, lsvd_clone(e->ctx, se_url(e, "vm@s"), se_url(e, "c"), e->why));
	ie_close(e);
	at_each_step(e, op_flatten, check_flatten);
	ie_free(e);
}

static void check_shrink(struct image_env *e)
{
	uint64_t full = 32 << 20, half = full / 2;

	ie_image(e, 0);
	assert_true(lsvd_image_size(e->img) == full || lsvd_image_size(e->img) == half);
	if (lsvd_image_size(e->img) == half) {
		/* What was cut off does not come back. */
		IE_OK(e, lsvd_image_resize(e->img, full, false, e->why));
		model_note(e, half / 512, half / 512, 0);
	} else {
		/* It may have been discarded, all of it or none. */
		uint8_t buf[512];
		bool gone = false;

		for (uint64_t lba = half / 512; lba < full / 512 && !gone; lba++)
			if (e->version[lba]) {
				assert_int_equal(lsvd_pread(e->img, buf, 512, lba * 512), 0);
				gone = model_is(buf, lba, 0);
				break;
			}
		if (gone)
			model_note(e, half / 512, half / 512, 0);
	}
	model_check_all(e);
	model_churn(e, 60);
	ie_close_image(e);
	whole(e, "vm");
}

TEST(shrinking)
{
	struct image_env *e = prepare("shrink");

	ie_close(e);
	at_each_step(e, op_shrink, check_shrink);
	ie_free(e);
}
