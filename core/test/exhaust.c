/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/exhaust.h"

#include "image/image_impl.h"
#include "test/sim_copy.h"
#include "test/sim_snap.h"
#include "test/sim_vol.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { SIZE = 2304, LENGTH_MAX = 3, MASKS_MAX = 64 };

static const uint64_t AFTER_NS = 20ull * 1000000000;

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

/* The script's world; one that a cut of it leaves; one that a cut of its opening leaves. */
static struct world worlds[WORKLOAD_LEVELS];
static struct plan_trail trail;
static struct fingerprint moment[WORKLOAD_LEVELS]; /* at the last event */
static uint64_t event[WORKLOAD_LEVELS];		   /* since the cuts began */
static struct exhaust_how how;
static char where[200];

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

/* ---- what was seen ---- */

enum { SEEN_BITS = 21 };

struct seen {
	_Atomic uint64_t a, b;
};

static struct all {
	struct {
		_Atomic uint64_t scripts, cuts, states, distinct, openings, cuts_again,
			states_again, distinct_again;
	} n;
	struct seen seen[1 << SEEN_BITS];
} * all;

void exhaust_begin(void)
{
	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(all != MAP_FAILED);
}

struct exhaust_sum exhaust_end(void)
{
	struct exhaust_sum sum = {.scripts = all->n.scripts,
		.cuts = all->n.cuts,
		.states = all->n.states,
		.distinct = all->n.distinct,
		.openings = all->n.openings,
		.cuts_again = all->n.cuts_again,
		.states_again = all->n.states_again,
		.distinct_again = all->n.distinct_again};

	munmap(all, sizeof(*all));
	all = NULL;
	return sum;
}

/* Any process may have seen it. */
static bool seen_before(struct fingerprint d)
{
	uint64_t at = d.a, tries = 0;

	d.a += !d.a;
	d.b += !d.b;
	for (;; at++) {
		struct seen *s = &all->seen[at & ((1 << SEEN_BITS) - 1)];
		uint64_t a = 0, b;

		assert(tries++ < 1000);
		if (atomic_compare_exchange_strong(&s->a, &a, d.a)) {
			s->b = d.b;
			return false;
		}
		while (!(b = s->b))
			;
		if (a == d.a && b == d.b)
			return true;
	}
}

/* ---- one state ---- */

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

static void cut_here(struct world *w);

static void examine(struct world *w, const struct fingerprint *d)
{
	unsigned level = (unsigned)(w - worlds);
	char why[LSVD_ERR_MAX];

	workload_level(level);
	workload_forget();
	world_restart(w, d, level);
	world_boot(w);
	event[level] = 0;
	moment[level] = world_moment(w);
	if (level + 1 < WORKLOAD_LEVELS && d->b % how.nested == 0) {
		all->n.openings++;
		world_each_event(w, cut_here);
	}
	for (unsigned i = 1; i < w->nvols; i++)
		vol_resolve(&w->vol[i]);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
	vol_open(&w->vol[0]);
	world_each_event(w, NULL);
	use(w);
	workload_level(level - 1);
}

/* Which of n undecided writes to keep. */
static unsigned choices(unsigned n, uint64_t kept[MASKS_MAX])
{
	unsigned k = 0;

	assert(1u << how.bits <= MASKS_MAX);
	if (n <= how.bits) {
		for (uint64_t m = 0; m < 1ull << n; m++)
			kept[k++] = m;
		return k;
	}
	kept[k++] = 0;
	kept[k++] = ~0ull;
	/* Of the newest few, each alone, and all but each. */
	for (unsigned i = n < 63 ? n : 63; i-- > 0 && k + 2 <= 1u << how.bits;) {
		kept[k++] = 1ull << i;
		kept[k++] = ~(1ull << i);
	}
	return k;
}

static void cut_and_keep(struct world *w, uint64_t kept)
{
	struct world *after = w + 1;
	struct fingerprint d;
	size_t n = strlen(where);

	world_after_crash(w, kept, after);
	d = world_fingerprint(after);
	if (!seen_before(d)) {
		if (w == worlds)
			all->n.distinct++;
		else
			all->n.distinct_again++;
		snprintf(where + n, sizeof(where) - n, ", cut at event %" PRIu64 " with %#" PRIx64,
			event[w - worlds], kept);
		after->where = where;
		examine(after, &d);
		where[n] = 0;
	}
	world_drop(after);
}

/* After every event. */
static void cut_here(struct world *w)
{
	unsigned level = (unsigned)(w - worlds), n;
	struct fingerprint now = world_moment(w);
	uint64_t kept[MASKS_MAX];

	n = choices(sim_disk_undecided(w->disk[0]), kept);
	if (how.uncut)
		return;
	event[level]++;
	if (w == worlds) {
		all->n.cuts++;
		all->n.states += n;
	} else {
		all->n.cuts_again++;
		all->n.states_again += n;
	}
	/* The states are those of the event before. */
	if (!memcmp(&now, &moment[level], sizeof(now)) && event[level] > 1)
		return;
	moment[level] = now;
	sim_disk_fingerprint(w->disk[0], &(struct fingerprint){0});
	for (unsigned i = 0; i < n; i++)
		cut_and_keep(w, kept[i]);
}

/* ---- a script ---- */

static void begin(uint64_t number)
{
	struct world *w = &worlds[0];
	/* Few configurations, so that what differs is the script and the cut. */
	struct plan p = {.seed = 40 + how.config, .without = ~0u};
	char name[64];

	exhaust_name(number, name);
	snprintf(where, sizeof(where), "script %" PRIu64 " (%s), config %u", number, name,
		how.config);
	workload_level(0);
	workload_forget();
	world_init(w, &p);
	w->where = where;
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

static void power_on(struct world *w)
{
	char why[LSVD_ERR_MAX];

	world_at(w, 1, 0);
	world_boot(w);
	if (world_open_pool(w, why) < 0)
		world_fail(w, "open pool: %s", why);
	vol_open(&w->vol[0]);
}

/* Data that is there before the script begins. */
static void prepare(struct vol *v)
{
	workload_one(v, LSVD_WRITE, 8, 64, 0);
	check(v->w, "drain", lsvd_image_drain(v->img));
	workload_one(v, LSVD_WRITE, 20, 8, 0);
	workload_one(v, LSVD_FLUSH, 0, 0, 0);
}

/* Until nothing more happens by itself but what happens for ever. */
static void settle_down(struct world *w)
{
	uint64_t until = loop_now(w->loop) + AFTER_NS;

	while (!loop_sim_idle(w->loop) && loop_now(w->loop) < until)
		loop_poll(w->loop, LOOP_FOREVER);
}

unsigned exhaust_config(uint64_t number)
{
	return script_of(number).op[0] % EXHAUST_CONFIGS;
}

struct fingerprint exhaust_run(uint64_t number, const struct exhaust_how *h)
{
	struct world *w = &worlds[0];
	struct script s = script_of(number);
	struct fingerprint end;

	how = *h;
	begin(number);
	power_on(w);
	prepare(&w->vol[0]);
	for (unsigned i = 0; i < s.n; i++) {
		/* Cuts of what comes before are those of a shorter script. */
		if (i == s.n - 1) {
			event[0] = 0;
			world_each_event(w, cut_here);
		}
		run_op(&w->vol[0], s.op[i]);
	}
	settle_down(w);
	world_each_event(w, NULL);
	all->n.scripts++;
	end = world_moment(w);
	sim_disk_fingerprint(w->disk[0], &end);
	world_crash(w, false);
	workload_forget();
	world_fini(w);
	return end;
}
