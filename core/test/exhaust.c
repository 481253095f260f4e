/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/exhaust.h"

#include "image/image_impl.h"
#include "test/sim_snap.h"
#include "test/sim_vol.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 2304, LENGTH_MAX = 3, AFTER_EVENTS = 24, MASKS_MAX = 8 };

enum op {
	WRITE_512,
	WRITE_4K,
	WRITE_1M,
	OVERWRITE,
	FLUSH,
	DISCARD,
	SNAPSHOT,
	CLONE,
	GC,
	CHECKPOINT,
	RESIZE,
	CLOSE
};

static const char *const names[EXHAUST_OPS] = {"write-512", "write-4k", "write-1m", "overwrite",
	"flush", "discard", "snapshot", "clone", "gc", "checkpoint", "resize", "close"};

struct script {
	enum op op[LENGTH_MAX];
	unsigned n;
};

/* Where a run ends. */
struct cut {
	uint64_t event;	 /* after the beginning; 0: not cut */
	uint64_t kept;	 /* of the undecided writes */
	uint64_t again;	 /* event of the opening; 0: not cut */
	uint64_t kept_2; /* of the undecided writes then */
};

static struct world world;
static struct plan_trail trail;

/* ---- scripts ---- */

uint64_t exhaust_scripts(unsigned length)
{
	uint64_t n = 0, of_length = 1;

	for (unsigned i = 0; i < length; i++)
		n += of_length *= EXHAUST_OPS;
	return n;
}

static struct script script_of(uint64_t number)
{
	struct script s = {.n = 1};

	while (number >= exhaust_scripts(s.n))
		s.n++;
	number -= exhaust_scripts(s.n - 1);
	for (unsigned i = s.n; i-- > 0; number /= EXHAUST_OPS)
		s.op[i] = (enum op)(number % EXHAUST_OPS);
	return s;
}

void exhaust_name(uint64_t number, char out[64])
{
	struct script s = script_of(number);
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < s.n; i++)
		n += (size_t)snprintf(out + n, 64 - n, "%s%s", i ? " " : "", names[s.op[i]]);
}

static void make_clone(struct vol *v)
{
	if (v->snap[0].exists == NO)
		snap_make(v);
	clone_make(v);
}

static void check(struct world *w, const char *what, int rc)
{
	workload_check(w, what, rc, NULL);
}

/* As far as the volume goes: it may have been shrunk. */
static void one(struct vol *v, enum lsvd_op op, uint32_t lba, uint32_t len)
{
	uint32_t size = (uint32_t)v->size_sectors;

	if (lba < size)
		workload_one(v, op, lba, len < size - lba ? len : size - lba, 0);
}

static void run_op(struct vol *v, enum op op)
{
	switch (op) {
	case WRITE_512:
		one(v, LSVD_WRITE, 13, 1);
		break;
	case WRITE_4K:
		one(v, LSVD_WRITE, 64, 8);
		break;
	case WRITE_1M:
		one(v, LSVD_WRITE, 0, 2048);
		break;
	case OVERWRITE:
		one(v, LSVD_WRITE, 10, 60);
		break;
	case FLUSH:
		workload_one(v, LSVD_FLUSH, 0, 0, 0);
		break;
	case DISCARD:
		one(v, LSVD_DISCARD, 12, 56);
		break;
	case SNAPSHOT:
		snap_make(v);
		break;
	case CLONE:
		make_clone(v);
		break;
	case GC:
		check(v->w, "gc", lsvd_image_gc(v->img, 95));
		break;
	case CHECKPOINT:
		check(v->w, "drain", volume_drain_wait(v->img->vol));
		check(v->w, "checkpoint", volume_checkpoint(v->img->vol));
		break;
	case RESIZE:
		admin_resize(v, v->size_sectors == SIZE ? 66 : SIZE);
		break;
	case CLOSE:
		if (vol_close(v) < 0)
			world_fail(v->w, "close failed");
		vol_open(v);
		break;
	}
}

/* ---- one run ---- */

static void begin(uint64_t number)
{
	struct world *w = &world;
	/* Few configurations, so that what differs is the script and the cut. */
	struct plan p = {.seed = 40 + number % 4, .without = ~0u};

	workload_forget();
	world_init(w, &p);
	w->trail = &trail;
	w->scale = TINY;
	w->fixed_size = SIZE;
	world_calm(w);
	world_at(w, 0, 0);
	world_boot(w);
	w->vol[0].w = w;
	snprintf(w->vol[0].name, sizeof(w->vol[0].name), "v0");
	vol_create(&w->vol[0], false);
	world_shutdown(w);
}

static void power_on(struct world *w, unsigned life)
{
	char why[LSVD_ERR_MAX];

	world_at(w, life, 0);
	world_boot(w);
	for (unsigned i = 0; i < w->nvols; i++)
		if (i)
			vol_resolve(&w->vol[i]);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
}

/* Data that is there before the script begins. */
static void prepare(struct vol *v)
{
	workload_one(v, LSVD_WRITE, 8, 64, 0);
	check(v->w, "drain", lsvd_image_drain(v->img));
	workload_one(v, LSVD_WRITE, 20, 8, 0);
	workload_one(v, LSVD_FLUSH, 0, 0, 0);
}

/* The first life; how many events the script had.  Cut: comes back by longjmp. */
static uint64_t first_life(struct world *w, const struct script *s, const struct cut *c)
{
	struct vol *v = &w->vol[0];
	uint64_t from;

	power_on(w, 1);
	vol_open(v);
	prepare(v);
	from = loop_sim_events(w->loop);
	w->kept = c->kept;
	w->choose_kept = true;
	if (c->event)
		world_arm(w, c->event, false);
	for (unsigned i = 0; i < s->n; i++)
		run_op(v, s->op[i]);
	for (uint64_t end = loop_sim_events(w->loop) + AFTER_EVENTS;
		loop_sim_events(w->loop) < end && !loop_sim_idle(w->loop);)
		loop_poll(w->loop, LOOP_FOREVER);
	return loop_sim_events(w->loop) - from;
}

static void use(struct world *w)
{
	struct vol *v = &w->vol[0];

	snaps_check(v);
	for (unsigned i = 1; i < w->nvols; i++)
		if (w->vol[i].exists == YES)
			vol_read_only(&w->vol[i]);
	workload_one(v, LSVD_WRITE, 60, 6, 0);
	workload_one(v, LSVD_FLUSH, 0, 0, 0);
	workload_compare(v, v->img);
	if (vol_close(v) < 0)
		world_fail(w, "no clean close");
	vol_fsck(v, true);
	world_shutdown(w);
}

static void crashed(struct world *w)
{
	workload_forget();
	world_crashed(w);
}

/* The whole of it; *events: of the script, or of the opening that was not cut; returns how many
 * writes were undecided at the (last) cut. */
static unsigned run(uint64_t number, const struct cut *cut, uint64_t *events)
{
	struct world *w = &world;
	static struct cut c;
	static struct script s;
	static uint64_t opening;
	static unsigned undecided;

	c = *cut;
	s = script_of(number);
	opening = 0;
	undecided = 0;
	begin(number);
	if (!setjmp(w->crash)) {
		*events = first_life(w, &s, &c);
		world_crash(w, false);
		workload_forget();
	} else {
		crashed(w);
	}
	undecided = w->undecided;
	w->kept = c.kept_2;
	if (!setjmp(w->crash)) {
		/* Two settings of the same jump would mix up which of them comes back. */
		world_at(w, 2, 0);
		world_boot(w);
		if (c.again)
			world_arm(w, c.again, false);
		char why[LSVD_ERR_MAX];

		for (unsigned i = 1; i < w->nvols; i++)
			vol_resolve(&w->vol[i]);
		if (world_open_pool(w, why) < 0)
			world_fail(w, "open pool: %s", why);
		vol_open(&w->vol[0]);
		opening = loop_sim_events(w->loop);
		if (c.again)
			world_crash(w, false);
	} else {
		crashed(w);
	}
	workload_forget();
	if (c.again) {
		w->kept = ~0ull;
		power_on(w, 3);
		vol_open(&w->vol[0]);
	}
	if (cut->event)
		*events = opening;
	world_arm(w, 0, false);
	use(w);
	world_fini(w);
	return undecided;
}

/* ---- all of them ---- */

/* Which of n undecided writes to keep. */
static unsigned choices(unsigned n, uint64_t kept[MASKS_MAX])
{
	unsigned k = 0;

	if (n <= EXHAUST_BITS) {
		for (uint64_t m = 0; m < 1ull << n; m++)
			kept[k++] = m;
		return k;
	}
	kept[k++] = 0;
	kept[k++] = ~0ull;
	/* Of the newest few, each alone, and all but each. */
	for (unsigned i = n < 63 ? n : 63; i-- > 0 && k + 2 <= MASKS_MAX;) {
		kept[k++] = 1ull << i;
		kept[k++] = ~(1ull << i);
	}
	return k;
}

static uint64_t run_nested(uint64_t number, struct cut c, uint64_t opening)
{
	uint64_t n = 0, events;

	for (c.again = 1; c.again <= opening; c.again++) {
		c.kept_2 = 0;
		run(number, &c, &events);
		c.kept_2 = ~0ull;
		run(number, &c, &events);
		n += 2;
	}
	return n;
}

uint64_t exhaust_run(uint64_t number, unsigned nested)
{
	uint64_t kept[MASKS_MAX], events, opening, states = 0;
	struct cut c = {.kept = ~0ull};

	run(number, &c, &events);
	for (uint64_t at = 1; at <= events; at++) {
		unsigned n;

		c = (struct cut){.event = at, .kept = ~0ull};
		n = choices(run(number, &c, &opening), kept);
		for (unsigned i = 0; i < n; i++) {
			c.kept = kept[i];
			run(number, &c, &opening);
			states++;
			if ((number * 7919 + at * 31 + i) % nested == 0)
				states += run_nested(number, c, opening);
		}
	}
	return states;
}
