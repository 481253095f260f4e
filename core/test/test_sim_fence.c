/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sim_fence.c - two writers: one lost its lock and does not know (a machine that slept),
 * another takes the image with a pool of its own.  The first must learn of it at its next
 * superblock change, and nothing that it wrote since may ever be seen (I11, I6).
 */
#include "test/test.h"

#include "test/sim_workload.h"

#include <errno.h>

enum { SEEDS = 40, WRITE_BYTES = 65536 };

struct old_writer {
	struct sim_disk *disk;
	struct store *store;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
};

static void take_away(struct world *w)
{
	struct store_req r = {.op = STORE_UNLOCK, .name = "vol"};

	if (store_wait(w->store, &r) < 0)
		world_fail(w, "unlock failed");
}

/* From now on the world is the new writer's; the old one's parts are returned. */
static struct old_writer take_over(struct world *w)
{
	struct old_writer old = {.disk = w->disk[0], .store = w->store, .ctx = w->ctx, .img = w->img};
	char why[LSVD_ERR_MAX];
	int rc;

	if (sim_disk_new(w->disk_bytes, &w->disk_model, &w->disk[0]) < 0 ||
		store_mem_on(w->loop, w->objects, &w->store) < 0)
		world_fail(w, "no memory");
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
	rc = world_open_image(w, 0, why);
	if (rc != -ESTALE)
		world_fail(w, "another's journal is missing, yet opening gave %d", rc);
	if (world_open_image(w, LSVD_OPEN_NO_JOURNAL, why) < 0)
		world_fail(w, "open: %s", why);
	oracle_crashed(&w->o, LOST_POOL);
	workload_settle(w);
	return old;
}

static void old_writes(struct world *w, const struct old_writer *old)
{
	static uint8_t lies[WRITE_BYTES];

	memset(lies, 0xaa, sizeof(lies));
	/* As far as the image reached when it was ours. */
	for (unsigned i = 0; i < 10 && (i + 1) * WRITE_BYTES <= lsvd_image_size(old->img); i++) {
		int rc = lsvd_pwrite(old->img, lies, WRITE_BYTES, i * WRITE_BYTES);

		if (rc < 0 && rc != -EROFS && rc != -ESTALE)
			world_fail(w, "the old writer's write gave %d", rc);
	}
}

static void old_must_learn(struct world *w, const struct old_writer *old)
{
	char why[LSVD_ERR_MAX];
	int rc = lsvd_image_gc(old->img, 1); /* drains, and ends with a checkpoint */

	if (rc != -ESTALE)
		world_fail(w, "the old writer's checkpoint gave %d", rc);
	rc = lsvd_pwrite(old->img, why, 512, 0);
	if (rc != -EROFS && rc != -ESTALE)
		world_fail(w, "the old writer may still write: %d", rc);
	if (lsvd_image_close(old->img, why) != -ESTALE)
		world_fail(w, "the old writer closed as if nothing had happened");
	lsvd_ctx_close(old->ctx);
}

static void two_writers(struct world *w, uint64_t seed)
{
	struct err e = {.msg = ""};
	struct old_writer old;
	char why[LSVD_ERR_MAX];

	world_init(w, seed);
	w->legs = 1;
	w->rotten = -1;
	w->size_sectors = 4096;
	world_calm(w);
	world_boot(w);
	if (ctx_image_create(NULL, w->store, "vol", w->size_sectors * 512, &e) < 0 ||
		world_open_pool(w, why) < 0 || world_open_image(w, 0, why) < 0)
		world_fail(w, "open: %s%s", e.msg, why);
	workload_run(w, (unsigned)world_below(w, 200));
	workload_finish(w);
	take_away(w);
	old = take_over(w);
	old_writes(w, &old);
	workload_run(w, (unsigned)world_below(w, 200));
	workload_finish(w);
	old_writes(w, &old);
	old_must_learn(w, &old);
	workload_run(w, (unsigned)world_below(w, 100));
	workload_finish(w);
	if (lsvd_image_close(w->img, why) < 0)
		world_fail(w, "close: %s", why);
	if (world_open_image(w, 0, why) < 0)
		world_fail(w, "open again: %s", why);
	workload_settle(w);
	if (lsvd_image_close(w->img, why) < 0)
		world_fail(w, "close: %s", why);
	store_close(old.store);
	world_shutdown(w);
	sim_disk_free(old.disk);
	world_fini(w);
}

TEST(a_writer_that_lost_the_image_is_never_seen)
{
	static struct world w;
	uint64_t seed = test_seed();

	for (unsigned i = 0; i < SEEDS; i++)
		two_writers(&w, test_seed_given() ? seed : seed % 1000000 + i);
}
