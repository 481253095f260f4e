/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_zombie.h"

#include "test/sim_vol.h"

#include "image/image_impl.h"

#include <errno.h>
#include <string.h>

enum { LIE_BYTES = 16384 };

static const uint64_t gets_ns = 10000000000u;

static void take_lock(struct world *w, struct store *s, const char *name)
{
	struct store_req r = {.op = STORE_UNLOCK, .name = name};

	if (store_wait(s, &r) < 0)
		world_fail(w, "unlock failed");
}

static void fresh_pool(struct world *w)
{
	struct store *mem;
	char why[LSVD_ERR_MAX] = "";

	w->rotten = -1;
	w->whole = true;
	w->mending = false;
	for (unsigned i = 0; i < w->legs; i++) {
		w->here[i] = true;
		w->stale[i] = false;
		if (sim_disk_new(w->disk_bytes, &w->disk_model, &w->disk[i]) < 0)
			world_fail(w, "no memory");
		sim_disk_model(w->disk[i])->error_per_million = 0;
	}
	if (store_mem_on(w->loop, w->objects, &mem) < 0 ||
		store_mem_on(w->loop, w->objects, &w->raw) < 0 ||
		store_fault_new(mem, &w->rules, &w->fault) < 0)
		world_fail(w, "no memory");
	w->store = late_new(w, w->fault);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
}

/* From here on the world is the new writer's. */
static void step_aside(struct world *w)
{
	struct zombie *z = &w->zombie;

	z->store = w->store;
	z->raw = w->raw;
	z->ctx = w->ctx;
	memcpy(z->disk, w->disk, sizeof(z->disk));
	z->there = true;
	w->ctx = NULL;
	for (unsigned i = 0; i < w->nvols; i++) {
		struct vol *v = &w->vol[i];

		workload_note_stored(v);
		z->img[i] = v->img;
		v->img = NULL;
		v->marks = 0;
		v->journal_lost = true;
		if (v->exists)
			oracle_crashed(&v->o, LOST_POOL);
	}
}

void zombie_rises(struct world *w)
{
	workload_finish(w);
	w->zombie.steal = w->plan.seed & 1;
	world_log(w, "---- another writer takes over%s", w->zombie.steal ? " by stealing" : "");
	w->blocking = true;
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].img && !w->zombie.steal)
			take_lock(w, w->store, w->vol[i].name);
	w->blocking = false;
	step_aside(w);
	fresh_pool(w);
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->zombie.img[i])
			vol_open(&w->vol[i]);
}

static struct lsvd_image *pick(struct world *w)
{
	struct zombie *z = &w->zombie;
	unsigned at = (unsigned)world_below(w, w->nvols);

	for (unsigned i = 0; i < w->nvols; i++)
		if (z->img[(at + i) % w->nvols])
			return z->img[(at + i) % w->nvols];
	return NULL;
}

void zombie_acts(struct world *w)
{
	static uint8_t lies[LIE_BYTES];
	struct lsvd_image *img = pick(w);
	uint64_t len = 512 * world_between(w, 1, LIE_BYTES / 512), size;
	int rc;

	if (!img || !world_chance(w, 40))
		return;
	memset(lies, 0xaa, sizeof(lies));
	size = lsvd_image_size(img);
	len = len < size ? len : size;
	w->zombie.in_call = true;
	rc = lsvd_pwrite(img, lies, len, world_below(w, (size - len) / 512 + 1) * 512);
	w->zombie.in_call = false;
	if (rc < 0 && rc != -EROFS && rc != -ESTALE && !w->disk_errors)
		world_fail(w, "the old writer's write gave %d", rc);
}

static void must_fail(struct world *w, const char *what, int rc)
{
	if (rc >= 0)
		world_fail(w, "the old writer's %s went well", what);
}

/* It does nothing, but look: it must learn within two looks, and what these take. */
static void just_wait(struct world *w)
{
	struct zombie *z = &w->zombie;
	uint64_t until = loop_now(w->loop) + 2ull * w->check_ms * 1000000 + gets_ns;

	while (loop_now(w->loop) < until)
		loop_poll(w->loop, 1000000);
	for (unsigned i = 0; i < w->nvols; i++)
		if (z->img[i] && volume_failed(z->img[i]->vol) == 0)
			world_fail(w, "the old writer of %s does not know", w->vol[i].name);
}

void zombie_learns(struct world *w)
{
	struct zombie *z = &w->zombie;
	char why[LSVD_ERR_MAX];

	z->in_call = true;
	if (w->check_ms && w->calm)
		just_wait(w);
	for (unsigned i = 0; i < w->nvols; i++) {
		if (!z->img[i])
			continue;
		must_fail(w, "checkpoint", lsvd_image_gc(z->img[i], 1));
		must_fail(w, "write", lsvd_pwrite(z->img[i], why, 512, 0));
		must_fail(w, "close", lsvd_image_close(z->img[i], why));
		z->img[i] = NULL;
	}
	lsvd_ctx_close(z->ctx);
	z->in_call = false;
	store_close(z->store);
	store_close(z->raw);
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_free(z->disk[i]);
	*z = (struct zombie){.there = false};
}
