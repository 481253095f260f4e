/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_bulk.c - a bulk load into a store that is full: it waits a while, then says so, and leaves
 * nothing. */
#include "store/store.h"
#include "sys/loop_sim.h"
#include "test/store_util.h"
#include "test/test.h"
#include "volume/bulk.h"

#include <errno.h>

struct place {
	struct loop *loop;
	struct mem_objects *objects;
	struct store *raw, *s;
	struct loop_timer timer;
};

static void set_up(struct place *p)
{
	struct fault_rules full = {.seed = 1, .full = true};
	struct store *mem;

	*p = (struct place){0};
	assert_int_equal(mem_objects_new(&p->objects), 0);
	assert_int_equal(loop_sim_new(test_seed(), &p->loop, NULL), 0);
	assert_int_equal(store_mem_on(p->loop, p->objects, &p->raw), 0);
	assert_int_equal(store_mem_on(p->loop, p->objects, &mem), 0);
	assert_int_equal(store_fault_new(mem, &full, &p->s), 0);
}

static void tear_down(struct place *p)
{
	store_close(p->s);
	store_close(p->raw);
	loop_free(p->loop);
	mem_objects_free(p->objects);
}

static int load(struct place *p, struct err *e)
{
	struct bulk_options o = {.object_bytes = 65536};
	static uint8_t data[1 << 20];
	struct bulk *b;
	int rc;

	memset(data, 7, sizeof(data));
	assert_int_equal(bulk_begin(p->s, "v", sizeof(data), &o, &b, e), 0);
	rc = bulk_write(b, 0, data, sizeof(data), e);
	if (rc < 0)
		bulk_abort(b);
	return rc < 0 ? rc : bulk_finish(b, NULL, 0, e);
}

TEST(a_store_that_stays_full_is_given_up)
{
	struct err e = {.msg = ""};
	struct place p;
	uint64_t from;

	set_up(&p);
	from = loop_now(p.loop);
	assert_int_equal(load(&p, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "full"));
	assert_in_range(loop_now(p.loop) - from, 8000000000u, 60000000000u);
	assert_string_equal(util_list(p.raw, ""), "");
	tear_down(&p);
}

static void make_room(struct loop_timer *t)
{
	struct place *p = (struct place *)((char *)t - offsetof(struct place, timer));

	store_fault_rules(p->s)->full = false;
}

TEST(a_store_that_has_room_again_gets_it_all)
{
	struct err e = {.msg = ""};
	struct place p;

	set_up(&p);
	p.timer.fire = make_room;
	loop_timer_set(p.loop, &p.timer, loop_now(p.loop) + 5000000000u);
	assert_int_equal(load(&p, &e), 0);
	assert_non_null(strstr(util_list(p.raw, "v/"), "v/super"));
	tear_down(&p);
}
