/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_world.h"

#include "image/image_impl.h"
#include "store/impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t MS = 1000000;

uint64_t world_rand(struct world *w)
{
	w->rng ^= w->rng >> 12;
	w->rng ^= w->rng << 25;
	w->rng ^= w->rng >> 27;
	return w->rng * 0x2545f4914f6cdd1dull;
}

void world_fail(struct world *w, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "seed %" PRIu64 ": ", w->seed);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

void world_log(struct world *w, const char *fmt, ...)
{
	static int verbose = -1;
	va_list ap;

	if (verbose < 0)
		verbose = getenv("SIM_VERBOSE") != NULL;
	if (!verbose)
		return;
	fprintf(stderr, "%12.6f ", w->loop ? (double)loop_now(w->loop) / 1e9 : 0.);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
}

/* ---- the filter that knows what is in flight ---- */

struct late_req {
	struct store_req in;
	struct store_req *out;
	struct late_req *prev, *next;
};

struct late {
	struct store s;
	struct store *inner;
	struct late_req *in_flight;
};

static struct late *late_of(struct store *s)
{
	return container_of(s, struct late, s);
}

static void late_answered(struct store_req *in, int64_t status)
{
	struct late_req *q = container_of(in, struct late_req, in);
	struct store_req *out = q->out;

	store_req_up(out, in);
	*(q->prev ? &q->prev->next : &late_of(out->store)->in_flight) = q->next;
	if (q->next)
		q->next->prev = q->prev;
	free(q);
	store_complete(out, status);
}

static int late_item(struct store_req *in, const char *name, uint64_t size_bytes)
{
	struct store_req *out = container_of(in, struct late_req, in)->out;

	return out->item(out, name, size_bytes);
}

static void late_submit(struct store *s, struct store_req *r)
{
	struct late *l = late_of(s);
	struct late_req *q = calloc(1, sizeof(*q));

	assert(q);
	store_req_down(&q->in, r);
	q->in.done = late_answered;
	q->in.item = late_item;
	q->out = r;
	q->next = l->in_flight;
	if (q->next)
		q->next->prev = q;
	l->in_flight = q;
	store_submit(l->inner, &q->in);
}

static void late_close(struct store *s)
{
	struct late *l = late_of(s);

	store_close(l->inner);
	while (l->in_flight) {
		struct late_req *q = l->in_flight;

		l->in_flight = q->next;
		free(q);
	}
	free(l);
}

static const struct store_ops late_ops = {.submit = late_submit, .close = late_close};

static struct store *late_new(struct store *inner)
{
	struct late *l = calloc(1, sizeof(*l));

	assert(l);
	store_init(&l->s, inner->loop, &late_ops, "late", "sim:");
	l->inner = inner;
	return &l->s;
}

/* ---- requests that outlive their writer ---- */

struct stray {
	struct store_req req;
	struct iovec iov;
	struct loop_timer timer;
	char name[STORE_NAME_MAX + 1];
	struct world *w;
	struct stray *next;
	bool landed;
};

static void stray_from(struct world *w, const struct store_req *r)
{
	struct stray *s = calloc(1, sizeof(*s));
	uint8_t *data = malloc(r->len_bytes + 1);
	size_t at = 0;

	assert(s && data);
	snprintf(s->name, sizeof(s->name), "%s", r->name);
	for (int i = 0; i < r->iovcnt; at += r->iov[i].iov_len, i++)
		memcpy(data + at, r->iov[i].iov_base, r->iov[i].iov_len);
	s->iov = (struct iovec){.iov_base = data, .iov_len = at};
	s->req = (struct store_req){.op = r->op,
		.name = s->name,
		.iov = &s->iov,
		.iovcnt = r->iovcnt ? 1 : 0,
		.len_bytes = r->len_bytes};
	memcpy(s->req.tag, r->tag, sizeof(s->req.tag));
	s->w = w;
	s->next = w->strays;
	w->strays = s;
}

static void strand(struct world *w, const struct late *l)
{
	for (const struct late_req *q = l->in_flight; q; q = q->next) {
		enum store_op op = q->out->op;

		if ((op == STORE_PUT || op == STORE_SWAP || op == STORE_DELETE) &&
			world_chance(w, 60))
			stray_from(w, q->out);
	}
}

static void stray_landed(struct store_req *r, int64_t status)
{
	struct stray *s = container_of(r, struct stray, req);

	world_log(s->w, "a stray lands: op %d %s: %lld", (int)r->op, r->name, (long long)status);
	s->landed = true;
}

static void stray_fires(struct loop_timer *t)
{
	struct stray *s = container_of(t, struct stray, timer);

	s->req.done = stray_landed;
	store_submit(s->w->raw, &s->req);
}

/* Some at once, some later; some never. */
static void launch_strays(struct world *w)
{
	struct stray **p = &w->strays;

	while (*p) {
		struct stray *s = *p;

		if (s->landed || world_chance(w, 10)) {
			*p = s->next;
			free(s->iov.iov_base);
			free(s);
			continue;
		}
		s->timer.fire = stray_fires;
		loop_timer_set(w->loop, &s->timer,
			loop_now(w->loop) + (world_chance(w, 50) ? 0 : world_below(w, 500 * MS)));
		p = &s->next;
	}
}

void world_land_strays(struct world *w)
{
	for (struct stray *s = w->strays; s; s = s->next)
		while (!s->landed)
			loop_poll(w->loop, LOOP_FOREVER);
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
	unsigned start = (unsigned)world_between(w, 20, 90);

	w->cfg = lsvd_config_defaults();
	set(w, "pool.segment", "256K");
	set(w, "journal.percent", "%u", (unsigned)world_between(w, 10, 95));
	set(w, "journal.record", "%uK", 4u << world_below(w, 7));
	set(w, "journal.depth", "%u", (unsigned)world_between(w, 1, 4));
	set(w, "journal.ram", "4M");
	set(w, "object.size", "%uK", 64 * (unsigned)world_between(w, 1, 4));
	set(w, "destage.puts", "%u", (unsigned)world_between(w, 1, 4));
	set(w, "destage.age_ms", "%u", world_chance(w, 30) ? 0 : 1u << world_below(w, 10));
	set(w, "checkpoint.interval", "%uK", 64u << world_below(w, 5));
	set(w, "gc.enabled", world_chance(w, 80) ? "true" : "false");
	set(w, "gc.start", "%u", start);
	set(w, "gc.stop", "%u", (unsigned)world_between(w, start, 95));
	set(w, "gc.plug", "%u", world_chance(w, 50) ? 0 : 512u << world_below(w, 8));
	set(w, "cache.enabled", world_chance(w, 80) ? "true" : "false");
	set(w, "cache.chunk", "%uK", 16u << world_below(w, 3));
	set(w, "readahead.max", "%uK", world_chance(w, 50) ? 0 : 256);
	set(w, "store.retry_ms", "%u", 1u << world_below(w, 7));
	w->durable_store = world_chance(w, 15);
	set(w, "durability", w->durable_store ? "store" : "journal");
}

static void choose_disks(struct world *w)
{
	w->legs = world_chance(w, 30) ? 2 : 1;
	w->disk_bytes = 256 * 1024 * world_between(w, 10, world_chance(w, 50) ? 16 : 48);
	w->disk_model = (struct sim_disk_model){.read_ns = 80000,
		.write_ns = 20000 + 1000 * world_below(w, 200),
		.flush_ns = 100000 + 1000 * world_below(w, 2000),
		.bytes_per_s = world_chance(w, 50) ? 0 : 200000000,
		.jitter_percent = 90,
		.parallel = world_chance(w, 30) ? 1 + (uint32_t)world_below(w, 4) : 0};
	w->rotten = w->legs == 2 && world_chance(w, 30) ? (int)world_below(w, 2) : -1;
	for (unsigned i = 0; i < w->legs; i++)
		if (sim_disk_new(w->disk_bytes, &w->disk_model, &w->disk[i]) < 0)
			world_fail(w, "no memory");
}

static void choose_rules(struct world *w)
{
	uint32_t fail = world_chance(w, 40) ? 0 : (uint32_t)world_below(w, 60000);
	uint32_t after = world_chance(w, 40) ? 0 : (uint32_t)world_below(w, 60000);

	w->rules = (struct fault_rules){.delay_min_ns = 10000,
		.delay_max_ns = 10000 + (1000000ull << world_below(w, 7)),
		.short_get_ppm = fail / 2,
		.stale_list_ppm = world_chance(w, 30) ? 200000 : 0};
	for (int i = 0; i < STORE_OPS; i++) {
		w->rules.fail_ppm[i] = fail;
		w->rules.fail_after_ppm[i] = after;
	}
	/* Locks are the kernel's: they do not time out. */
	for (int i = STORE_LOCK; i < STORE_OPS; i++)
		w->rules.fail_ppm[i] = w->rules.fail_after_ppm[i] = 0;
}

void world_init(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->rng = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	for (int i = 0; i < 8; i++)
		world_rand(w);
	choose_config(w);
	choose_disks(w);
	choose_rules(w);
	w->size_sectors = 2048 * world_between(w, 1, world_chance(w, 80) ? 3 : 12);
	if (world_chance(w, 30))
		w->size_sectors -= world_below(w, 1000);
	oracle_init(&w->o, seed, 2048 * 14);
	if (mem_objects_new(&w->objects) < 0)
		world_fail(w, "no memory");
	world_log(w, "%u legs of %" PRIu64 " KiB, image of %" PRIu64 " KiB,%s", w->legs,
		w->disk_bytes / 1024, w->size_sectors / 2, w->config_text);
}

void world_fini(struct world *w)
{
	oracle_fini(&w->o);
	for (unsigned i = 0; i < WORLD_LEGS; i++)
		sim_disk_free(w->disk[i]);
	mem_objects_free(w->objects);
	lsvd_config_free(w->cfg);
	while (w->strays) {
		struct stray *s = w->strays;

		w->strays = s->next;
		free(s->iov.iov_base);
		free(s);
	}
}

/* ---- power ---- */

static void stopped(void *arg)
{
	struct world *w = arg;

	if (w->armed) {
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
	loop_sim_stop_at(w->loop, loop_sim_events(w->loop) + (events ? events : 3000000));
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
	w->store = late_new(w->fault);
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_model(w->disk[i])->error_per_million = 0;
	launch_strays(w);
}

int world_open_pool(struct world *w, char *why)
{
	struct bdev *legs[WORLD_LEGS];
	struct err e = {.msg = ""};
	int rc;

	for (unsigned i = 0; i < w->legs; i++)
		if (sim_disk_open(w->disk[i], w->loop, &legs[i]) < 0)
			world_fail(w, "disk is on already");
	w->blocking = true;
	rc = ctx_open_on(w->loop, w->cfg, legs, w->legs, &w->ctx, &e);
	w->blocking = false;
	why_copy(why, &e, rc);
	return rc;
}

int world_open_image(struct world *w, unsigned flags, char *why)
{
	struct err e = {.msg = ""};
	int rc;

	w->blocking = true;
	rc = ctx_image_open(w->ctx, w->store, "vol", flags, &w->img, &e);
	w->blocking = false;
	why_copy(why, &e, rc);
	return rc;
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

void world_shutdown(struct world *w)
{
	if (w->ctx)
		lsvd_ctx_close(w->ctx);
	w->ctx = NULL;
	w->img = NULL;
	for (struct stray *s = w->strays; s; s = s->next)
		loop_timer_cancel(w->loop, &s->timer);
	power_off(w);
}

void world_power_fails(struct world *w, bool process_only)
{
	world_log(w, "---- %s crash after %" PRIu64 " events%s",
		process_only ? "process" : "machine", loop_sim_events(w->loop),
		w->blocking ? ", in a blocking call" : "");
	strand(w, late_of(w->store));
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_crash(w->disk[i], world_rand(w), process_only);
	loop_sim_crash(w->loop);
	oracle_crashed(&w->o, process_only ? LOST_PROCESS : LOST_MACHINE);
}

void world_crash(struct world *w, bool process_only)
{
	world_power_fails(w, process_only);
	world_crashed(w);
}

void world_crashed(struct world *w)
{
	if (w->ctx && !w->blocking)
		ctx_drop(w->ctx);
	w->ctx = NULL;
	w->img = NULL;
	w->blocking = false;
	power_off(w);
}

void world_lose_disk(struct world *w, unsigned leg)
{
	sim_disk_free(w->disk[leg]);
	if (sim_disk_new(w->disk_bytes, &w->disk_model, &w->disk[leg]) < 0)
		world_fail(w, "no memory");
}

void world_rot(struct world *w)
{
	struct pool *p = ctx_pool(w->ctx);
	const struct segment *s = pool_segment(p, (uint32_t)world_below(w, pool_segments(p)));
	uint64_t at = (1 + s->index) * 262144ull + world_below(w, 262144);
	unsigned leg = w->rotten >= 0 ? (unsigned)w->rotten : 0;

	if (w->rotten < 0 && (s->role != SEGMENT_CACHE || at % 262144 < 4096))
		return;
	world_log(w, "a bit of leg %u flips at %" PRIu64 ", role %u", leg, at, s->role);
	sim_disk_rot(w->disk[leg], at, (unsigned)world_below(w, 8));
}

void world_calm(struct world *w)
{
	w->rules = (struct fault_rules){.delay_min_ns = 10000, .delay_max_ns = 2000000};
	if (w->fault)
		*store_fault_rules(w->fault) = w->rules;
	w->disk_model.error_per_million = 0;
	for (unsigned i = 0; i < w->legs; i++)
		sim_disk_model(w->disk[i])->error_per_million = 0;
}
