/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_overlay.c - the overlay shows the store below with the changes above, and changes nothing.
 */
#include "store/overlay.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>

struct fix {
	struct loop *real, *sim;
	struct store *s;
	char url[300];
};

/* A file store with vm/a, vm/b and the superblock vm/super below. */
static struct fix set_up(void)
{
	static unsigned made;
	struct fix f;
	struct store *s;

	snprintf(f.url, sizeof(f.url), "file:%s/s%u", test_dir(), made++);
	assert_int_equal(loop_uring_new(64, &f.real, &util_err), 0);
	assert_int_equal(loop_sim_new(1, &f.sim, &util_err), 0);
	s = util_open(f.real, f.url, STORE_CREATE);
	assert_int_equal(util_put(s, "vm/a", "aaaa", 4), 0);
	assert_int_equal(util_put(s, "vm/b", "bbbbb", 5), 0);
	assert_int_equal(util_swap(s, "vm/super", "", "one", 3), 0);
	assert_int_equal(store_overlay_model(f.sim, s, "custom,lat=20ms", &f.s, &util_err), 0);
	return f;
}

/* Below is as it was made. */
static void tear_down(struct fix *f)
{
	struct store *s;
	char buf[8];

	store_close(f->s);
	s = util_open(f->real, f->url, 0);
	assert_string_equal(util_list(s, "vm/"), "vm/a:4 vm/b:5 vm/super:3 ");
	assert_int_equal(util_get(s, "vm/super", 0, buf, 8), 3);
	assert_memory_equal(buf, "one", 3);
	store_close(s);
	loop_free(f->sim);
	loop_free(f->real);
}

TEST(reads_fall_through_in_model_time)
{
	struct fix f = set_up();
	char buf[8];

	assert_int_equal(util_get(f.s, "vm/b", 1, buf, 8), 4);
	assert_memory_equal(buf, "bbbb", 4);
	assert_int_equal(util_size, 5);
	assert_int_equal(loop_now(f.sim), 20000000);
	assert_int_equal(util_get(f.s, "vm/none", 0, buf, 8), -ENOENT);
	assert_int_equal(f.s->counts.ops[STORE_GET], 2);
	tear_down(&f);
}

TEST(puts_and_deletes_stay_above)
{
	struct fix f = set_up();
	char buf[8];

	assert_int_equal(util_put(f.s, "vm/a", "x", 1), -EEXIST);
	assert_int_equal(util_put(f.s, "vm/c", "cc", 2), 0);
	assert_int_equal(util_put(f.s, "vm/c", "cc", 2), -EEXIST);
	assert_int_equal(util_delete(f.s, "vm/a"), 0);
	assert_int_equal(util_get(f.s, "vm/a", 0, buf, 8), -ENOENT);
	assert_string_equal(util_list(f.s, "vm/"), "vm/b:5 vm/c:2 vm/super:3 ");
	assert_int_equal(util_put(f.s, "vm/a", "new", 3), 0);
	assert_int_equal(util_get(f.s, "vm/a", 0, buf, 8), 3);
	assert_memory_equal(buf, "new", 3);
	assert_string_equal(util_list(f.s, "vm/"), "vm/a:3 vm/b:5 vm/c:2 vm/super:3 ");
	assert_int_equal(util_delete(f.s, "vm/a"), 0);
	assert_int_equal(util_delete(f.s, "vm/c"), 0);
	assert_string_equal(util_list(f.s, "vm/"), "vm/b:5 vm/super:3 ");
	tear_down(&f);
}

TEST(swaps_begin_from_the_version_below)
{
	struct fix f = set_up();
	char buf[8], tag[STORE_TAG_MAX], second[STORE_TAG_MAX];

	assert_int_equal(util_get(f.s, "vm/super", 0, buf, 8), 3);
	memcpy(tag, util_tag, sizeof(tag));
	assert_int_equal(util_swap(f.s, "vm/super", "", "no", 2), -EEXIST);
	assert_int_equal(util_swap(f.s, "vm/super", "wrong", "no", 2), -ESTALE);
	assert_int_equal(util_swap(f.s, "vm/super", tag, "two", 3), 0);
	memcpy(second, util_tag, sizeof(second));
	assert_int_equal(util_swap(f.s, "vm/super", tag, "no", 2), -ESTALE);
	assert_int_equal(util_swap(f.s, "vm/super", second, "three", 5), 0);
	assert_int_equal(util_get(f.s, "vm/super", 0, buf, 8), 5);
	assert_memory_equal(buf, "three", 5);
	assert_int_equal(util_swap(f.s, "vm/other", "", "x", 1), 0);
	tear_down(&f);
}

TEST(locks_are_taken_below)
{
	struct fix f = set_up();
	struct store *other = util_open(f.real, f.url, 0);

	assert_int_equal(util_lock(f.s, "vm", "a replay"), 0);
	assert_int_equal(util_lock(other, "vm", "somebody"), -EBUSY);
	assert_int_equal(util_unlock(f.s, "vm"), 0);
	assert_int_equal(util_lock(other, "vm", "somebody"), 0);
	assert_int_equal(util_lock(f.s, "vm", "a replay"), -EBUSY);
	store_close(other);
	tear_down(&f);
}

TEST(a_bad_model_is_refused)
{
	struct fix f = set_up();
	struct store *s = util_open(f.real, f.url, 0), *out;

	assert_int_equal(store_overlay_model(f.sim, s, "tape", &out, &util_err), -EINVAL);
	store_close(s);
	tear_down(&f);
}
