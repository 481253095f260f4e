/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_world.h"

#include "image/image_impl.h"
#include "pool/pool_impl.h"
#include "store/impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t MS = 1000000;
enum { SEGMENT = 256 << 10, EVENTS_MAX = 6000000 };

bool sim_verbose;

/* ---- chance ---- */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void world_at(struct world *w, unsigned life, unsigned step)
{
	w->life = life;
	w->step = step;
	w->rng = mix(w->plan.seed * 0x9e3779b97f4a7c15ull + mix((uint64_t)life << 32 | step)) | 1;
}

uint64_t world_rand(struct world *w)
{
	w->rng ^= w->rng >> 12;
	w->rng ^= w->rng << 25;
	w->rng ^= w->rng >> 27;
	return w->rng * 0x2545f4914f6cdd1dull;
}

/* ---- telling ---- */

void world_fail(struct world *w, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "seed %" PRIu64 ", life %u, step %u%s%s: ", w->plan.seed, w->life, w->step,
		w->where ? ", " : "", w->where ? w->where : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	fflush(stderr);
	_Exit(1);
}

void world_say(struct world *w, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%12.6f %u.%-3u ", w->loop ? (double)loop_now(w->loop) / 1e9 : 0., w->life,
		w->step);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
}

/* ---- making a world ---- */

static void set(struct world *w, const char *key, const char *fmt, ...)
{
	char text[32], why[LSVD_ERR_MAX];
	size_t n = strlen(w->config_text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (lsvd_config_set(w->cfg, key, text, why) < 0)
		world_fail(w, "%s", why);
	snprintf(w->config_text + n, sizeof(w->config_text) - n, " %s=%s", key, text);
}

static void choose_config(struct world *w)
{
	static const char *const policy[] = {"greedy", "cost-benefit", "sepbit"};
	unsigned start = (unsigned)world_between(w, 20, 90);
	bool tiny = w->scale == TINY;

	w->cfg = lsvd_config_defaults();
	set(w, "pool.segment", "256K");
	set(w, "journal.percent", "%u", 1 + (unsigned)world_between(w, 10, 94) / w->nvols);
	set(w, "journal.record", "%uK", 4u << world_below(w, 7));
	set(w, "journal.depth", "%u", (unsigned)world_between(w, 1, 4));
	set(w, "journal.ram", "4M");
	set(w, "object.size", "%uK", 64 * (tiny ? 1 : (unsigned)world_between(w, 1, 4)));
	set(w, "destage.puts", "%u", (unsigned)world_between(w, 1, 4));
	set(w, "destage.age_ms", "%u", world_chance(w, 30) ? 0 : 1u << world_below(w, 10));
	set(w, "checkpoint.interval", "%uK", 64u << world_below(w, tiny ? 2 : 5));
	set(w, "gc.enabled", world_may(w, F_GC, 80) ? "true" : "false");
	set(w, "gc.policy", "%s", policy[world_below(w, 3)]);
	set(w, "gc.start", "%u", start);
	set(w, "gc.stop", "%u", (unsigned)world_between(w, start, 95));
	set(w, "gc.plug", "%u", world_chance(w, 50) ? 0 : 512u << world_below(w, 8));
	set(w, "cache.enabled", world_may(w, F_CACHE, 80) ? "true" : "false");
	set(w, "cache.chunk", "%uK", (tiny ? 16u : 4u) << world_below(w, tiny ? 3 : 5));
	set(w, "readahead.max", "%uK", world_may(w, F_AHEAD, 50) ? 256 : 0);
	set(w, "store.retry_ms", "%u", 1u << world_below(w, 7));
	w->check_ms = tiny ? 0 : (uint32_t)(w->plan.seed % 3) * 700;
	set(w, "writer.check_ms", "%u", w->check_ms);
	w->durable_store = world_chance(w, 15);
	set(w, "durability", w->durable_store ? "store" : "journal");
}

/* How many legs must have a write, and so how many may be lost afterwards. */
static void choose_rule(struct world *w)
{
	bool some = world_chance(w, 40);
	unsigned timeout_ms = 20u << world_below(w, 5);

	set(w, "pool.leg_timeout_ms", "%u", timeout_ms);
	w->leg_timeout_ns = timeout_ms * MS;
	w->spare = w->legs - 1;
	w->sick = -1;
	if (w->legs == 1 || !some)
		return;
	w->spare = w->legs - 2;
	set(w, "pool.acks", "%u", w->legs - 1);
}

static void choose_disks(struct world *w)
{
	unsigned segments = 10 + 4 * (w->nvols - 1), more = w->scale == TINY ? 6 : 36;

	w->legs = world_may(w, F_MIRROR, 35) ? 2 : 1;
	if (world_chance(w, 40) && w->legs == 2)
		w->legs = 3;
	choose_rule(w);
	w->disk_bytes = SEGMENT * (segments + world_below(w, world_chance(w, 50) ? 6 : more));
	w->disk_model = (struct sim_disk_model){.read_ns = 80000,
		.write_ns = 20000 + 1000 * world_below(w, 200),
		.flush_ns = 100000 + 1000 * world_below(w, 2000),
		.bytes_per_s = world_chance(w, 50) ? 0 : 200000000,
		.jitter_percent = 90,
		.parallel = world_chance(w, 30) ? 1 + (uint32_t)world_below(w, 4) : 0};
	if (world_may(w, F_DISK, 15))
		w->disk_model.error_per_million = 1u << world_below(w, 12);
	w->disk_errors = w->disk_model.error_per_million != 0;
	w->rotten = -1;
	if (w->legs == 2 && w->spare && !w->disk_errors && world_may(w, F_ROT, 30))
		w->rotten = (int)world_below(w, 2);
	w->whole = true;
	for (unsigned i = 0; i < w->legs; i++)
		if (sim_disk_new(w->disk_bytes, &w->disk_model, &w->disk[i]) < 0)
			world_fail(w, "no memory");
}

static void choose_rules(struct world *w)
{
	uint32_t fail = world_chance(w, 40) ? 0 : (uint32_t)world_below(w, 60000);
	uint32_t after = world_chance(w, 40) ? 0 : (uint32_t)world_below(w, 60000);
	uint64_t late = 1000000ull << world_below(w, 7);

	w->rules = (struct fault_rules){.delay_min_ns = 10000,
		.delay_max_ns = 10000 + (plan_has(&w->plan, F_LATE) ? late : 0),
		.short_get_ppm = plan_has(&w->plan, F_SHORT) ? fail / 2 : 0,
		.stale_list_ppm = world_may(w, F_STALE, 30) ? 200000 : 0};
	for (int i = 0; i < STORE_OPS; i++) {
		w->rules.fail_ppm[i] = plan_has(&w->plan, F_STORE) ? fail : 0;
		w->rules.fail_after_ppm[i] = plan_has(&w->plan, F_AFTER) ? after : 0;
	}
	/* Locks are the kernel's: they do not time out. */
	for (int i = STORE_LOCK; i < STORE_OPS; i++)
		w->rules.fail_ppm[i] = w->rules.fail_after_ppm[i] = 0;
}

void world_init(struct world *w, const struct plan *p)
{
	uint64_t scale, many;

	memset(w, 0, sizeof(*w));
	w->plan = *p;
	world_at(w, 1000, 0);
	scale = world_below(w, 1000);
	many = world_below(w, 100);
	w->scale = scale < 900 ? TINY : scale < 992 ? SMALL : LARGE;
	w->nvols = many < 60 || !plan_has(p, F_MANY) ? 1 : many < 90 ? 2 : 3;
	choose_config(w);
	choose_disks(w);
	choose_rules(w);
	if (mem_objects_new(&w->objects) < 0)
		world_fail(w, "no memory");
	world_log(w, "%u images, %u legs of %" PRIu64 " KiB,%s", w->nvols, w->legs,
		w->disk_bytes / 1024, w->config_text);
}

void world_fini(struct world *w)
{
	for (unsigned i = 0; i < WORLD_VOLS; i++) {
		oracle_fini(&w->vol[i].o);
		for (unsigned k = 0; k < VOL_SNAPS; k++)
			free(w->vol[i].snap[k].frozen);
	}
	for (unsigned i = 0; i < WORLD_LEGS; i++)
		sim_disk_free(w->disk[i]);
	mem_objects_free(w->objects);
	lsvd_config_free(w->cfg);
	strays_free(w);
}

/* ---- power ---- */

static void stopped(void *arg)
{
	struct world *w = arg;

	if (w->between) {
		w->between(w);
		loop_sim_stop_at(w->loop, loop_sim_events(w->loop) + 1);
		return;
	}
	if (w->armed) {
		if (w->life < PLAN_LIVES)
			w->trail->crashed_at[w->life] = loop_sim_events(w->loop);
		world_power_fails(w, w->armed_process);
		longjmp(w->crash, 1);
	}
	world_fail(w, "no end: %" PRIu64 " events, at %.3f s", loop_sim_events(w->loop),
		(double)loop_now(w->loop) / 1e9);
}

void world_arm(struct world *w, uint64_t events, bool process_only)
{
	w->armed = events != 0;
	w->armed_process = process_only;
	loop_sim_stop_at(w->loop, loop_sim_events(w->loop) + (events ? events : EVENTS_MAX));
}

void world_each_event(struct world *w, void (*fn)(struct world *w))
{
	w->between = fn;
	world_arm(w, fn ? 1 : 0, false);
}

void world_boot(struct world *w)
{
	struct store *mem;

	if (loop_sim_new(world_rand(w), &w->loop, NULL) < 0)
		world_fail(w, "no memory");
	loop_sim_set_time(w->loop, w->time_ns + MS);
	loop_sim_on_stop(w->loop, stopped, w);
	world_arm(w, 0, false);
	if (store_mem_on(w->loop, w->objects, &mem) < 0 ||
		store_mem_on(w->loop, w->objects, &w->raw) < 0 ||
		store_fault_new(mem, &w->rules, &w->fault) < 0)
		world_fail(w, "no memory");
	w->store = late_new(w, w->fault);
	w->sick = -1;
	w->healed_ns = 0;
	for (unsigned i = 0; i < w->legs; i++) {
		*sim_disk_model(w->disk[i]) = w->disk_model;
		sim_disk_model(w->disk[i])->error_per_million = 0;
		w->here[i] = !w->stale[i];
	}
	w->disk_errors = w->disk_model.error_per_million != 0;
	w->leg_dead = false;
	w->rotten_at = 0;
	strays_launch(w);
}

int world_open_pool(struct world *w, char *why)
{
	struct bdev *legs[WORLD_LEGS];
	struct err e = {.msg = ""};
	unsigned n = 0;
	int rc;

	for (unsigned i = 0; i < w->legs; i++) {
		/* From now on it may not know what the others know. */
		w->stale[i] |= !w->here[i];
		w->known[i] &= !w->here[i];
		if (w->known[i])
			legs[n++] = NULL;
		if (w->here[i] && sim_disk_open(w->disk[i], w->loop, &legs[n++]) < 0)
			world_fail(w, "disk is on already");
	}
	w->cut_open = world_legs_here(w) > 1;
	w->blocking = true;
	rc = ctx_open_on(w->loop, w->cfg, legs, n, &w->ctx, &e);
	w->blocking = false;
	why_copy(why, &e, rc);
	w->cut_open = false;
	for (unsigned i = 0; rc == 0 && i < w->legs; i++)
		w->stale[i] = !w->here[i];
	w->whole = w->whole || (rc == 0 && !w->mending);
	return rc;
}

int world_open_image(struct vol *v, unsigned flags, struct lsvd_image **img, char *why)
{
	struct world *w = v->w;
	struct err e = {.msg = ""};
	int rc;

	w->blocking = true;
	rc = ctx_image_open(w->ctx, w->store, v->name, flags, img, &e);
	w->blocking = false;
	why_copy(why, &e, rc);
	return rc;
}

/* ---- legs ---- */

unsigned world_legs_here(const struct world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->legs; i++)
		n += w->here[i];
	return n;
}

static struct pool *pool_of(const struct world *w)
{
	return w->ctx ? ctx_pool(w->ctx) : NULL;
}

bool world_legs_in_sync(const struct world *w)
{
	struct pool *p = pool_of(w);

	return p && !p->changing && legs_in(p->voters) == world_legs_here(w);
}

bool world_legs_well(const struct world *w)
{
	return w->sick < 0 &&
	       (!w->healed_ns || loop_now(w->loop) > w->healed_ns + 2 * w->leg_timeout_ns);
}

/* What the legs were to the pool when the power went: one that did not count is stale.  While the
 * members change, those of before still have all that was acknowledged. */
static void note_legs(struct world *w)
{
	struct pool *p = pool_of(w);
	unsigned n = 0;

	for (unsigned i = 0; p && i < w->legs; i++) {
		uint8_t bit = (uint8_t)(1u << n);

		n += w->here[i] || w->known[i];
		if (!w->here[i] || p->voters & bit)
			continue;
		world_log(w, "leg %u is not in sync%s", i, p->changing ? ", and few know" : "");
		if (p->changing)
			w->cut_open = true;
		if (!p->changing || !(p->recorded & bit) || p->failed)
			w->stale[i] = true;
		w->known[i] = !p->changing && w->stale[i];
	}
}

void world_leg_sick(struct world *w)
{
	unsigned kind = (unsigned)world_below(w, 4), leg = (unsigned)world_below(w, w->legs);
	unsigned steps = 1 + (unsigned)world_below(w, 60);
	struct sim_disk_model *m = sim_disk_model(w->disk[leg]);

	if (w->legs < 2 || !world_legs_well(w) || w->disk_errors || !w->here[leg] ||
		world_legs_here(w) < w->legs || !world_legs_in_sync(w) ||
		(w->rotten >= 0 && w->rotten != (int)leg))
		return;
	world_log(w, "leg %u is taken ill, kind %u", leg, kind);
	w->sick = (int)leg;
	w->sick_steps = steps;
	if (kind == 0)
		m->error_per_million = 1000000;
	else if (kind == 1)
		m->flush_fails = true;
	else /* hangs, or just lags */
		m->write_ns = m->flush_ns =
			kind == 2 ? 3600 * 1000 * MS : (1 + world_below(w, 30)) * MS;
}

void world_leg_step(struct world *w)
{
	if (w->sick < 0 || --w->sick_steps)
		return;
	world_log(w, "leg %d is well again", w->sick);
	*sim_disk_model(w->disk[w->sick]) = w->disk_model;
	sim_disk_model(w->disk[w->sick])->error_per_million = 0;
	w->sick = -1;
	w->healed_ns = loop_now(w->loop);
}

static void power_off(struct world *w)
{
	w->time_ns = loop_now(w->loop);
	loop_sim_crash(w->loop);
	store_close(w->store);
	store_close(w->raw);
	loop_free(w->loop);
	w->store = w->fault = w->raw = NULL;
	w->loop = NULL;
}

static void forget_images(struct world *w)
{
	w->ctx = NULL;
	for (unsigned i = 0; i < WORLD_VOLS; i++) {
		w->vol[i].img = NULL;
		w->vol[i].marks = 0;
	}
}

void world_shutdown(struct world *w)
{
	bool was = w->blocking;

	note_legs(w);
	w->blocking = true;
	if (w->ctx)
		lsvd_ctx_close(w->ctx);
	w->blocking = was;
	/* Closing flushes, and may have dropped a leg that is ill: one may know of it, one not. */
	if ((w->leg_dead || w->sick >= 0) && world_legs_here(w) > 1)
		w->cut_open = true;
	forget_images(w);
	power_off(w);
}

static void zombie_dies(struct world *w, bool process_only)
{
	struct zombie *z = &w->zombie;

	strand(w, z->store);
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_crash(z->disk[i], world_rand(w), process_only);
}

void world_power_fails(struct world *w, bool process_only)
{
	world_log(w, "---- %s crash after %" PRIu64 " events%s",
		process_only ? "process" : "machine", loop_sim_events(w->loop),
		w->blocking ? ", in a blocking call" : "");
	note_legs(w);
	strand(w, w->store);
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_crash(w->disk[i], world_rand(w), process_only);
	if (w->zombie.there)
		zombie_dies(w, process_only);
	loop_sim_crash(w->loop);
	for (unsigned i = 0; i < WORLD_VOLS; i++) {
		if (w->vol[i].exists)
			oracle_crashed(&w->vol[i].o, process_only ? LOST_PROCESS : LOST_MACHINE);
		/* The record that told may be gone. */
		if (!process_only)
			w->vol[i].told = 0;
	}
}

bool world_doubtful(const struct world *w)
{
	for (unsigned i = 0; i < w->legs; i++)
		if (sim_disk_doubtful(w->disk[i]))
			return true;
	return false;
}

void world_crash(struct world *w, bool process_only)
{
	world_power_fails(w, process_only);
	world_crashed(w);
}

static void bury_zombie(struct world *w)
{
	struct zombie *z = &w->zombie;

	if (!z->in_call)
		ctx_drop(z->ctx);
	store_close(z->store);
	store_close(z->raw);
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_free(z->disk[i]);
	*z = (struct zombie){.there = false};
}

void world_crashed(struct world *w)
{
	if (w->ctx && !w->blocking)
		ctx_drop(w->ctx);
	if (w->zombie.there)
		bury_zombie(w);
	forget_images(w);
	w->blocking = false;
	power_off(w);
}

void world_lose_disk(struct world *w, unsigned leg)
{
	w->known[leg] = false;
	sim_disk_free(w->disk[leg]);
	if (sim_disk_new(w->disk_bytes, &w->disk_model, &w->disk[leg]) < 0)
		world_fail(w, "no memory");
}

void world_rot(struct world *w)
{
	struct pool *p = ctx_pool(w->ctx);
	const struct segment *s = pool_segment(p, (uint32_t)world_below(w, pool_segments(p)));
	uint64_t at = (1ull + s->index) * SEGMENT + world_below(w, SEGMENT);
	unsigned leg = w->rotten >= 0 ? (unsigned)w->rotten : 0, bit = (unsigned)world_below(w, 8);

	if (w->rotten < 0 && (s->role != SEGMENT_CACHE || at % SEGMENT < 4096))
		return;
	/* What is told by one leg alone must not rot. */
	if (w->rotten >= 0 && (!w->here[0] || !w->here[1] || !world_legs_in_sync(w)))
		return;
	world_log(w, "a bit of leg %u flips at %" PRIu64 ", role %u", leg, at, s->role);
	sim_disk_rot(w->disk[leg], at, bit);
}

void world_rot_journal(struct world *w)
{
	struct pool *p = ctx_pool(w->ctx);
	uint32_t n = pool_segments(p), at = (uint32_t)world_below(w, n);
	uint64_t byte = 4096 + world_below(w, world_chance(w, 50) ? 65536 : SEGMENT - 4096);
	unsigned leg = 0;

	if (world_legs_here(w) > 1)
		return;
	while (!w->here[leg])
		leg++;
	for (uint32_t i = 0; i < n && pool_segment(p, at)->role != SEGMENT_JOURNAL; i++)
		at = (at + 1) % n;
	if (pool_segment(p, at)->role != SEGMENT_JOURNAL)
		return;
	w->rotten_at = (1ull + at) * SEGMENT + byte;
	w->rotten_leg = leg;
	world_log(w, "a bit of the journal flips at %" PRIu64, w->rotten_at);
	world_unrot(w);
	w->rotten_at = (1ull + at) * SEGMENT + byte;
	for (unsigned i = 0; i < w->nvols; i++)
		if (w->vol[i].exists) {
			oracle_crashed(&w->vol[i].o, LOST_PROCESS);
			if (w->vol[i].o.must > w->vol[i].told)
				w->vol[i].o.must = w->vol[i].told;
		}
}

void world_unrot(struct world *w)
{
	sim_disk_rot(w->disk[w->rotten_leg], w->rotten_at, 3);
	w->rotten_at = 0;
}

void world_calm(struct world *w)
{
	w->rules = (struct fault_rules){.delay_min_ns = 10000, .delay_max_ns = 2000000};
	if (w->fault)
		*store_fault_rules(w->fault) = w->rules;
	w->calm = true;
	w->disk_model.error_per_million = 0;
	w->disk_errors = w->leg_dead;
	for (unsigned i = 0; i < w->legs; i++)
		if (sim_disk_model(w->disk[i])->error_per_million != 1000000)
			sim_disk_model(w->disk[i])->error_per_million = 0;
}

void world_store_is_back(struct world *w)
{
	struct fault_rules *r = store_fault_rules(w->fault);

	r->full = r->gone = false;
}
