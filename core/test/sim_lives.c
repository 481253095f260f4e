/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_lives.h"

#include "image/image_impl.h"
#include "test/sim_workload.h"
#include "volume/checkpoint_impl.h"
#include "volume/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { OPEN_TRIES = 30, LIVES_MAX = 5 };

/* Is the image marked as closed?  MAYBE: a crash came in a call that changes it. */
enum clean { DIRTY, CLEAN, MAYBE };

static struct world world;
static struct {
	enum clean clean;
	bool pool_lost;	     /* the disks are blank */
	bool legs_whole;     /* every leg has everything */
	bool machine_crash;  /* the last crash was one */
	uint32_t settled_at; /* pieces */
} life;

/* ---- opening ---- */

static bool transient(int rc)
{
	return rc == -EIO || rc == -ETIMEDOUT || rc == -EAGAIN || rc == -ENOSPC;
}

static int try_open(struct world *w, unsigned flags, char *why)
{
	bool landed = false;
	int rc = 0;

	for (int i = 0; i < OPEN_TRIES; i++) {
		rc = world_open_image(w, flags, why);
		/* A superblock may land late, from an earlier life. */
		if (rc == -ESTALE && !landed)
			world_land_strays(w);
		else if (!transient(rc))
			break;
		landed = landed || rc == -ESTALE;
		if (i == OPEN_TRIES / 2)
			world_calm(w);
	}
	return rc;
}

static void open_image(struct world *w)
{
	char why[LSVD_ERR_MAX] = "";
	enum clean was = life.clean;
	int rc = world_open_pool(w, why);

	if (rc < 0)
		world_fail(w, "open pool: %s", why);
	life.legs_whole = true;
	life.clean = was == DIRTY ? DIRTY : MAYBE;
	rc = try_open(w, 0, why);
	if (life.pool_lost && rc == 0 && was == DIRTY)
		world_fail(w, "opened although the journal is lost");
	if (life.pool_lost && rc == -ESTALE) {
		if (was == CLEAN)
			world_fail(w, "closed cleanly, but: %s", why);
		life.clean = MAYBE; /* from here on the new pool may be the image's */
		rc = try_open(w, LSVD_OPEN_NO_JOURNAL, why);
	}
	if (rc < 0)
		world_fail(w, "open: %s", why);
	life.pool_lost = false;
	life.clean = DIRTY;
	world_log(w, "open after %" PRIu64 " events", loop_sim_events(w->loop));
	workload_settle(w);
	/* What one power failure spared is on the platter; with two legs it may be on one only. */
	if (life.machine_crash && w->legs == 1 && w->o.flushed < w->o.n)
		w->o.flushed = w->o.n;
	life.machine_crash = false;
	if (loop_sim_events(w->loop) > 2000000)
		world_fail(w, "opening took %" PRIu64 " events", loop_sim_events(w->loop));
}

/* ---- ending ---- */

static int close_image(struct world *w)
{
	char why[LSVD_ERR_MAX] = "";
	int rc;

	workload_finish(w);
	life.clean = MAYBE;
	w->blocking = true;
	rc = lsvd_image_close(w->img, why);
	w->blocking = false;
	w->img = NULL;
	world_log(w, "close: %d %s", rc, why);
	if (rc == 0) {
		life.clean = CLEAN;
		w->o.flushed = w->o.stored = w->o.acked;
	}
	return rc;
}

static void lose_disks(struct world *w)
{
	unsigned lost = (unsigned)world_below(w, 100);

	if (lost < 15) {
		world_log(w, "---- the pool is lost");
		oracle_crashed(&w->o, LOST_POOL);
		for (unsigned i = 0; i < w->legs; i++)
			world_lose_disk(w, i);
		life.pool_lost = true;
	} else if (lost < 35 && w->legs == 2 && w->rotten < 0 && life.legs_whole &&
		   !life.pool_lost) {
		unsigned leg = (unsigned)world_below(w, 2);

		world_log(w, "---- leg %u is lost", leg);
		world_lose_disk(w, leg);
		life.legs_whole = false;
	}
}

static void crash_now(struct world *w, bool process_only)
{
	life.machine_crash = !process_only;
	world_crash(w, process_only);
	workload_forget();
}

static void end_life(struct world *w)
{
	unsigned how = (unsigned)world_below(w, 100);

	if (how >= 40)
		workload_finish(w);
	if (how < 60) {
		crash_now(w, world_chance(w, 50));
		return;
	}
	close_image(w);
	if (how < 90)
		w->blocking = true, world_shutdown(w), w->blocking = false;
	else
		crash_now(w, world_chance(w, 50));
}

/* ---- a life ---- */

static uint64_t choose_crash(struct world *w)
{
	if (world_chance(w, 35))
		return 0;
	return 1 + world_below(w, 16ull << world_below(w, 12));
}

static void set_disk_errors(struct world *w)
{
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_model(w->disk[i])->error_per_million = w->disk_model.error_per_million;
}

static void one_life(struct world *w, uint64_t crash_at)
{
	world_boot(w);
	world_arm(w, crash_at, world_chance(w, 50));
	if (setjmp(w->crash)) {
		workload_forget();
		life.machine_crash = !w->armed_process;
		world_crashed(w);
		lose_disks(w);
		return;
	}
	open_image(w);
	set_disk_errors(w);
	workload_run(w, 5 + (unsigned)world_below(w, 20u << world_below(w, 5)));
	end_life(w);
	lose_disks(w);
}

static void create(struct world *w)
{
	struct err e = {.msg = ""};
	int rc = -1;

	world_boot(w);
	for (int i = 0; rc < 0 && i < OPEN_TRIES; i++) {
		rc = ctx_image_create(NULL, w->store, "vol", w->size_sectors * 512, &e);
		if (rc == -EEXIST && i)
			rc = 0; /* a try that seemed to fail */
		if (rc < 0 && !transient(rc))
			break;
		if (i == OPEN_TRIES / 2)
			world_calm(w);
	}
	if (rc < 0)
		world_fail(w, "create: %s", e.msg);
	world_shutdown(w);
	life.clean = CLEAN;
}

/* ---- nothing left over ---- */

struct names {
	struct store_req req;
	struct world *w;
	struct lsvd_image *img; /* NULL: no name is expected */
	unsigned n;
};

static bool expected(const struct volume *v, const char *name)
{
	char want[STORE_NAME_MAX];
	struct object_ref ref;

	if (!strcmp(name, "vol/super"))
		return true;
	for (uint32_t i = 0; i < v->ckpt->nlive; i++) {
		volume_ckpt_name(want, "vol", v->ckpt->live[i].x.epoch, v->ckpt->live[i].x.number);
		if (!strcmp(want, name))
			return true;
	}
	for (uint32_t s = objmap_next(v->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(v->objects, s + 1)) {
		volume_ref(v, s, &ref);
		if (!strcmp(ref.name, name))
			return objmap_get(v->objects, s)->live_sectors > 0;
	}
	return false;
}

static int judge_name(struct store_req *r, const char *name, uint64_t size)
{
	struct names *n = (struct names *)(void *)((char *)r - offsetof(struct names, req));

	n->n++;
	if (!n->img || !expected(n->img->vol, name))
		world_fail(n->w, "left over in the store: '%s', %" PRIu64 " bytes", name, size);
	return 0;
}

static void check_store(struct world *w, struct lsvd_image *img)
{
	struct names n = {.w = w, .img = img};

	n.req = (struct store_req){.op = STORE_LIST, .name = "", .item = judge_name};
	if (store_wait(w->raw, &n.req) < 0)
		world_fail(w, "list failed");
	if (img && n.n != 1 + img->vol->ckpt->nlive + objmap_count(img->vol->objects))
		world_fail(w, "objects are missing: %u of 1 + %u checkpoints + %" PRIu64, n.n,
			img->vol->ckpt->nlive, objmap_count(img->vol->objects));
}

static void check_pool(struct world *w, const char *when)
{
	struct pool *p = ctx_pool(w->ctx);

	for (uint32_t i = 0; i < pool_segments(p); i++)
		if (pool_segment(p, i)->role == SEGMENT_JOURNAL)
			world_fail(w, "segment %u is still a journal %s", i, when);
}

/* fsck builds the maps with other code: it must see no error, and after a clean close nothing at
 * all. */
static void check_with_fsck(struct world *w, bool clean)
{
	struct fsck_params p = {.store = w->raw, .name = "vol", .flags = FSCK_DATA};
	struct fsck_report r;
	struct err e = {.msg = ""};
	int rc = fsck_run(&p, &r, &e);

	if (rc < 0)
		world_fail(w, "fsck: %s", e.msg);
	for (uint32_t i = 0; i < r.n; i++)
		if (clean || r.findings[i].severity == FSCK_ERROR)
			world_fail(w, "fsck: '%s': %s", r.findings[i].object, r.findings[i].what);
	fsck_report_fini(&r);
}

static void check_closed(struct world *w)
{
	char why[LSVD_ERR_MAX] = "";

	check_with_fsck(w, true);

	check_pool(w, "after a clean close");
	if (world_open_image(w, LSVD_OPEN_READONLY, why) < 0)
		world_fail(w, "open read-only: %s", why);
	workload_settle(w);
	check_store(w, w->img);
	if (lsvd_image_close(w->img, why) < 0)
		world_fail(w, "close read-only: %s", why);
	w->img = NULL;
}

static void last_life(struct world *w)
{
	struct err e = {.msg = ""};
	char why[LSVD_ERR_MAX] = "";

	world_calm(w);
	/* Whatever strays is swept up by the opening after the next crash. */
	world_boot(w);
	world_land_strays(w);
	check_with_fsck(w, false);
	open_image(w);
	workload_run(w, (unsigned)world_below(w, 100));
	workload_finish(w);
	crash_now(w, world_chance(w, 50));

	world_boot(w);
	world_land_strays(w);
	open_image(w);
	workload_run(w, (unsigned)world_below(w, 100));
	if (close_image(w) < 0)
		world_fail(w, "no clean close without faults");
	check_closed(w);
	if (world_chance(w, 30)) {
		if (world_open_image(w, 0, why) < 0)
			world_fail(w, "open again: %s", why);
		workload_settle(w);
		workload_run(w, (unsigned)world_below(w, 100));
		if (world_chance(w, 50) && close_image(w) < 0)
			world_fail(w, "no second clean close without faults");
		if (w->img)
			crash_now(w, world_chance(w, 50));
	}
	if (!w->ctx) {
		world_boot(w);
		world_land_strays(w);
		if (world_open_pool(w, why) < 0)
			world_fail(w, "open pool: %s", why);
	}
	if (volume_remove(w->store, ctx_pool(w->ctx), "vol", &e) < 0)
		world_fail(w, "remove: %s", e.msg);
	check_store(w, NULL);
	check_pool(w, "after a removal");
	crash_now(w, false);
	world_boot(w);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
	check_pool(w, "after a removal and a crash");
	world_shutdown(w);
}

static struct world *begin(uint64_t seed)
{
	struct world *w = &world;

	memset(&life, 0, sizeof(life));
	workload_forget();
	world_init(w, seed);
	if (world_chance(w, 15))
		w->disk_model.error_per_million = 1u << world_below(w, 12);
	create(w);
	return w;
}

void sim_run_seed(uint64_t seed)
{
	struct world *w = begin(seed);
	unsigned lives = 1 + (unsigned)world_below(w, LIVES_MAX);

	for (unsigned i = 0; i < lives; i++)
		one_life(w, choose_crash(w));
	last_life(w);
	world_fini(w);
}

void sim_run_cut(uint64_t seed, uint64_t first, uint64_t second)
{
	struct world *w = begin(seed);

	one_life(w, first);
	if (second)
		one_life(w, second);
	last_life(w);
	world_fini(w);
}
