/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_create.c - making images on a store that misbehaves, and what earlier ones left. */
#include "test/test.h"

#include "image/context.h"
#include "store/store.h"
#include "sys/loop_sim.h"
#include "volume/bulk.h"
#include "volume/clone.h"
#include "volume/volume.h"

#include <errno.h>

enum { SIZE = 1 << 20 };

struct env {
	struct loop *loop;
	struct mem_objects *objects;
	struct store *store, *raw;
	struct fault_rules *rules;
	struct lsvd_config *cfg;
	struct lsvd_ctx *ctx;
};

static void begin(struct env *e, uint64_t seed)
{
	static const struct fault_rules none = {.delay_max_ns = 1000};
	struct store *mem;

	assert_int_equal(loop_sim_new(seed, &e->loop, NULL), 0);
	assert_int_equal(mem_objects_new(&e->objects), 0);
	assert_int_equal(store_mem_on(e->loop, e->objects, &mem), 0);
	assert_int_equal(store_mem_on(e->loop, e->objects, &e->raw), 0);
	assert_int_equal(store_fault_new(mem, &none, &e->store), 0);
	e->rules = store_fault_rules(e->store);
	e->cfg = lsvd_config_defaults();
	assert_int_equal(ctx_open_on(e->loop, e->cfg, NULL, 0, &e->ctx, NULL), 0);
}

static void end(struct env *e)
{
	lsvd_ctx_close(e->ctx);
	lsvd_config_free(e->cfg);
	store_close(e->store);
	store_close(e->raw);
	mem_objects_free(e->objects);
	loop_free(e->loop);
}

static int make(struct env *e, const char *name)
{
	static const uint8_t data[65536] = {1, 2, 3};
	struct bulk_options o = {.object_bytes = 64 << 10};
	struct err err = {.msg = ""};
	struct bulk *b;
	int rc = bulk_begin(e->store, name, SIZE, &o, &b, &err);

	if (rc == 0)
		rc = bulk_write(b, 0, data, sizeof(data), &err);
	return rc < 0 ? rc : bulk_finish(b, NULL, 0, &err);
}

static int look(struct env *e, const char *name)
{
	struct lsvd_image *img;
	int rc = ctx_image_open(e->ctx, e->raw, name, LSVD_OPEN_READONLY, &img, NULL);

	return rc < 0 ? rc : lsvd_image_close(img, NULL);
}

TEST(a_superblock_that_was_written_all_the_same_is_ours)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct env e;

		begin(&e, seed);
		e.rules->fail_after_ppm[STORE_SWAP] = 500000;
		assert_int_equal(make(&e, "vol"), 0);
		assert_int_equal(look(&e, "vol"), 0);
		end(&e);
	}
}

TEST(a_store_that_cannot_tell_is_not_an_image)
{
	struct err err = {.msg = ""};
	struct env e;

	begin(&e, 1);
	e.rules->fail_ppm[STORE_GET] = 1000000;
	assert_int_equal(make(&e, "vol"), -EIO);
	assert_int_equal(ctx_image_create(e.ctx, e.store, "vol", SIZE, &err), -EIO);
	e.rules->fail_ppm[STORE_GET] = 0;
	assert_int_equal(make(&e, "vol"), 0);
	assert_int_equal(make(&e, "vol"), -EEXIST);
	assert_int_equal(ctx_image_create(e.ctx, e.store, "vol", SIZE, &err), -EEXIST);
	end(&e);
}

static void copy_object(struct env *e, const char *from, const char *to)
{
	static uint8_t data[1 << 17];
	struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
	struct store_req get = {
		.op = STORE_GET, .name = from, .iov = &iov, .iovcnt = 1, .len_bytes = sizeof(data)};
	struct store_req put = {.op = STORE_PUT, .name = to, .iov = &iov, .iovcnt = 1};
	int64_t n = store_wait(e->raw, &get);

	assert_true(n > 0);
	iov.iov_len = put.len_bytes = (uint64_t)n;
	assert_int_equal(store_wait(e->raw, &put), 0);
}

/* Whatever a clone's making says: a clone that is there is on its base's list. */
TEST(a_clone_that_was_made_all_the_same_protects_its_base)
{
	unsigned there = 0;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct err err = {.msg = ""};
		struct env e;
		int rc;

		begin(&e, seed);
		assert_int_equal(make(&e, "vol"), 0);
		e.rules->fail_after_ppm[STORE_SWAP] = 400000;
		rc = volume_clone(e.store, "vol", NULL, "clone", &err);
		e.rules->fail_after_ppm[STORE_SWAP] = 0;
		if (look(&e, "clone") == 0) {
			there++;
			assert_int_equal(volume_remove(e.store, NULL, "vol", &err), -EBUSY);
		} else {
			assert_true(rc < 0);
		}
		end(&e);
	}
	assert_true(there > 5);
}

TEST(an_image_closed_in_order_ends_where_it_was_closed)
{
	struct env e;

	begin(&e, 1);
	assert_int_equal(make(&e, "other"), 0);
	assert_int_equal(make(&e, "vol"), 0);
	/* Another image's object has the name that the next of ours would have had. */
	copy_object(&e, "other/0000000000000000.0000000000000001",
		"vol/0000000000000000.0000000000000002");
	assert_int_equal(look(&e, "vol"), 0);
	end(&e);
}
