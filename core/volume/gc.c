/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gc.c - garbage collection: live data of mostly dead objects moves into a new object.
 *
 * One object at a time, in stages (gc_impl.h) that are chains of background slices.  Pieces are
 * laid out in LBA order, and holes of up to gc.plug between them are filled with the neighbours'
 * data, so that the map gets simpler.  The new object takes its place in the sequence like any
 * other, and moves a sector only if the map still points to the old place (I9).  A victim is
 * deleted when nothing of it lives and a checkpoint says so (I8).
 *
 * Anything that fails ends the round; the next one begins after a pause.
 */
#include "volume/gc_impl.h"

#include "sys/container.h"

#include <errno.h>
#include <stdlib.h>

enum {
	PERCENT_MAX = 80,	/* of a victim's data live, */
	PERCENT_ASKED_MAX = 95, /* when volume_gc() wants more than gc.stop */
	BUSY_PERCENT = 60,
	OBJECTS_MIN = 4,
	CHOOSE_SLICE = 4096,
	CALM_PERCENT = 30,	/* of the journal are dirty: the store keeps up */
	CALM_DIVISOR = 16,	/* then of what is written, the square of the missing percent by this may be moved; */
	FLOOD_DIVISOR = 10000,	/* else the cube by this */
	IDLE_NS = 20000000,
};

int gc_grow(void *array, uint32_t *cap, uint32_t need, size_t size)
{
	void **a = array, *p;
	uint32_t n = *cap ? *cap : 1024;

	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	p = realloc(*a, n * size);
	if (!p)
		return -ENOMEM;
	*a = p;
	*cap = n;
	return 0;
}

bool gc_busy(const struct volume *v)
{
	return v->gc->stage != GC_IDLE;
}

bool gc_reading(const struct volume *v)
{
	return v->gc->in_flight || v->gc->task.queued;
}

void gc_kick(struct collector *c)
{
	if (c->stage != GC_IDLE && c->stage != GC_PUTTING)
		loop_background(c->v->loop, &c->task);
}

bool gc_still_there(const struct collector *c, const struct gc_source *s)
{
	return objmap_find(c->v->objects, s->victim.seq) == s->victim.slot;
}

/* ---- what is not to be chosen ---- */

void gc_avoid(struct collector *c, uint64_t seq, uint64_t until)
{
	uint32_t i = c->navoid < AVOID_MAX ? c->navoid++ : (uint32_t)(seq % AVOID_MAX);

	c->avoid[i].seq = seq;
	c->avoid[i].until = until;
}

static void forget_avoided(struct collector *c)
{
	for (uint32_t i = 0; i < c->navoid;)
		if (c->avoid[i].until <= c->v->covers_applied)
			c->avoid[i] = c->avoid[--c->navoid];
		else
			i++;
}

static bool avoided(const struct collector *c, uint64_t seq)
{
	for (uint32_t i = 0; i < c->navoid; i++)
		if (c->avoid[i].seq == seq)
			return true;
	return false;
}

static void set_stuck(struct collector *c)
{
	struct objmap_sum all = objmap_sum(c->v->objects, 0);

	c->stuck = true;
	c->stuck_stored = all.data_sectors;
	c->stuck_live = all.live_sectors;
}

static bool still_stuck(const struct collector *c)
{
	struct objmap_sum all = objmap_sum(c->v->objects, 0);

	return c->stuck && c->stuck_stored == all.data_sectors && c->stuck_live == all.live_sectors;
}

/* Objects up to this one are kept by a snapshot: to move what lives of them would only copy it. */
static uint64_t pinned_seq(const struct volume *v)
{
	uint64_t seq = 0;

	for (uint32_t i = 0; i < v->sb->snapshots; i++)
		if (v->sb->snapshot[i].object_seq > seq)
			seq = v->sb->snapshot[i].object_seq;
	return seq;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* Of what may be collected. */
static uint32_t live_percent(const struct volume *v, uint64_t *stored)
{
	const struct collector *c = v->gc;
	struct objmap_sum all = objmap_sum(v->objects, 0),
			  base = objmap_sum(v->objects, OBJECT_BASE),
			  dead = objmap_sum(v->objects, OBJECT_DEAD);
	bool pins = v->sb->snapshots > 0;
	uint64_t live = less(all.live_sectors, base.live_sectors + (pins ? c->pinned_live : 0));

	*stored = less(all.data_sectors,
		dead.data_sectors + base.data_sectors + (pins ? c->pinned_data : 0));
	return *stored ? (uint32_t)(live * 100 / *stored) : 100;
}

/* ---- the stages that are here ---- */

/* How long user data lives until it is collected: the mean of about the last 16. */
static void note_lives(struct collector *c)
{
	for (uint32_t i = 0; i < c->nsources; i++) {
		const struct victim *x = &c->source[i].victim;
		const struct object *o = objmap_get(c->v->objects, x->slot);
		uint64_t life = c->v->applied_seq - x->born;

		if (o && !(o->flags & OBJECT_GC))
			c->life = c->life ? (15 * c->life + life + 8) / 16 : life;
	}
}

static void consider(struct collector *c, uint32_t slot, const struct object *o)
{
	struct victim x = {.slot = slot,
		.data_sectors = o->data_sectors,
		.live_sectors = o->live_sectors,
		.seq = o->seq,
		.born = object_born(o)};

	if (o->flags & (OBJECT_DEAD | OBJECT_BASE) || o->seq > c->v->applied_seq)
		return;
	if (o->seq <= c->pinned_seq) {
		c->pinning_data += o->data_sectors;
		c->pinning_live += o->live_sectors;
	} else if (!avoided(c, o->seq)) {
		victim_set_offer(&c->best, &x);
	}
}

static int choose(struct collector *c)
{
	struct volume *v = c->v;
	uint32_t end = c->at + CHOOSE_SLICE, s;

	for (s = objmap_next(v->objects, c->at); s != OBJMAP_NONE && s < end;
		s = objmap_next(v->objects, s + 1))
		consider(c, s, objmap_get(v->objects, s));
	c->at = s;
	if (s != OBJMAP_NONE)
		return GC_AGAIN;
	c->pinned_data = c->pinning_data;
	c->pinned_live = c->pinning_live;
	c->nsources = victim_set_pick(&c->best, v->cfg.object_bytes / 512);
	for (uint32_t i = 0; i < c->nsources; i++)
		c->source[i] = (struct gc_source){.victim = c->best.x[i].v};
	note_lives(c);
	if (c->nsources)
		return GC_DONE;
	set_stuck(c);
	return -ECANCELED;
}

/* The mean age of what is moved. */
static uint64_t born_of(const struct collector *c)
{
	double sum = 0, sectors = 0;

	for (uint32_t i = 0; i < c->nsources; i++) {
		sum += (double)c->source[i].victim.born * (double)c->source[i].moved_sectors;
		sectors += (double)c->source[i].moved_sectors;
	}
	return sectors > 0 ? (uint64_t)(sum / sectors) : 0;
}

/* Headers are read; is there anything to move? */
static int headers(struct collector *c)
{
	int rc = gc_headers(c);

	if (rc != GC_DONE || c->npieces)
		return rc;
	/* All of it died meanwhile, or will when the journal's data is applied. */
	for (uint32_t i = 0; i < c->nsources; i++)
		if (c->source[i].skipped_sectors) {
			set_stuck(c);
			break;
		}
	return -ECANCELED;
}

static int layout(struct collector *c)
{
	int rc = gc_layout(c);

	if (rc != -ENOSPC)
		return rc;
	set_stuck(c);
	return -ECANCELED;
}

static int crc(struct collector *c)
{
	struct volume *v = c->v;
	int rc = build_crc(&c->o->b, CRC_SLICE_BYTES);

	if (rc == 0)
		return GC_AGAIN;
	c->o->born = born_of(c);
	if (rc == 1)
		rc = outgoing_put(v, c->o, v->covers_put);
	if (rc < 0)
		return rc;
	v->stats.gc_objects += c->nsources;
	/* What is left of them dies by itself, soon. */
	for (uint32_t i = 0; i < c->nsources; i++)
		if (c->source[i].skipped_sectors && c->source[i].moved_sectors)
			gc_avoid(c, c->source[i].victim.seq, v->acked + 1);
	c->o = NULL;
	return GC_DONE;
}

/* ---- a round ---- */

static void stop_requests(struct collector *c)
{
	for (uint32_t i = 0; i < GETS_MAX; i++) {
		loop_timer_cancel(c->v->loop, &c->get[i].retry);
		c->get[i].busy = c->get[i].ready = false;
	}
}

/* -ECANCELED: nothing to do, or no longer wanted. */
static void give_up(struct collector *c, int status)
{
	struct volume *v = c->v;

	stop_requests(c);
	if (c->o)
		outgoing_recycle(v, c->o);
	c->o = NULL;
	c->stage = GC_IDLE;
	if (status == -ECANCELED)
		return;
	v->stats.store_errors++;
	loop_timer_set(v->loop, &c->retry, loop_now(v->loop) + volume_backoff_ns(v, 3));
}

static void work(struct loop_task *t)
{
	static int (*const stages[])(struct collector * c) = {[GC_CHOOSE] = choose,
		[GC_HEADERS] = headers,
		[GC_MERGE] = gc_merge,
		[GC_PLUG] = gc_plug,
		[GC_LAYOUT] = layout,
		[GC_TAKE] = gc_take,
		[GC_READ] = gc_read,
		[GC_CRC] = crc};
	struct collector *c = container_of(t, struct collector, task);
	struct volume *v = c->v;
	int rc = c->status;

	if (rc == 0 && (v->failed || v->closing))
		rc = -ECANCELED;
	if (rc == 0)
		rc = stages[c->stage](c);
	if (rc < 0) {
		c->status = rc;
		if (!c->in_flight)
			give_up(c, rc);
		return;
	}
	if (rc == GC_WAIT)
		return;
	if (rc == GC_DONE) {
		c->stage++;
		c->at = 0;
	}
	gc_kick(c);
}

static void begin(struct collector *c)
{
	struct volume *v = c->v;
	uint32_t max = c->target_percent > PERCENT_MAX ? PERCENT_ASKED_MAX : PERCENT_MAX;

	c->stuck = false;
	c->status = 0;
	c->at = c->nsources = c->headers_asked = c->headers_done = 0;
	c->ncrc = c->nplugs = c->npieces = c->nruns = 0;
	c->live_sectors = c->plug_sectors = 0;
	c->pinning_data = c->pinning_live = 0;
	c->pinned_seq = pinned_seq(v);
	c->run[0] = 0;
	forget_avoided(c);
	victim_set_init(&c->best, c->policy, v->applied_seq, c->life, max);
	c->stage = GC_CHOOSE;
	gc_kick(c);
}

/* The foreground first: while the journal is filling up, the store has enough to do.  But the more
 * garbage there is, the less that counts. */
static bool too_busy(const struct volume *v, uint32_t percent)
{
	uint32_t start = v->cfg.gc_start_percent,
		 lack = percent < start ? (start - percent) * (100 - BUSY_PERCENT) / start : 0;

	return journal_dirty_segments(v->journal) * 100 >=
	       journal_dirty_limit(v->journal) * (BUSY_PERCENT + lack);
}

/* While there are writers, GC moves no more than a share of what they write, which grows with what is
 * missing to gc.start.  While the store keeps up it is the square: 6 % at 10 percent, 25 % at 20.  In a
 * flood, when every byte moved is one less written, it is the cube: 3 % at 30 percent, 6 % at 40.  So a
 * flood's garbage waits for quieter times, when emptier victims cost less; if there are none, random
 * writes settle near gc.start - 37, where as much is moved as they need.  Without writers it does what
 * it can. */
static uint64_t share_percent(const struct volume *v)
{
	uint64_t lack = v->gc_lack;

	if (journal_dirty_segments(v->journal) * 100 < journal_dirty_limit(v->journal) * CALM_PERCENT)
		return lack * lack / CALM_DIVISOR;
	return lack * lack * lack / FLOOD_DIVISOR;
}

static bool affordable(struct collector *c)
{
	struct volume *v = c->v;

	if (loop_now(v->loop) >= v->last_write_ns + IDLE_NS)
		return true;
	if (v->stats.gc_bytes - c->moved_before <=
		(v->stats.batch_bytes - c->written_before) * share_percent(v) / 100)
		return true;
	loop_timer_set(v->loop, &c->retry, loop_now(v->loop) + IDLE_NS);
	return false;
}

static bool wanted(struct collector *c)
{
	struct volume *v = c->v;
	uint64_t stored;
	uint32_t percent;

	if (!c->target_percent && (!v->cfg.gc_enabled || objmap_count(v->objects) < OBJECTS_MIN))
		return false;
	percent = live_percent(v, &stored);
	v->gc_lack = percent < v->cfg.gc_start_percent ? v->cfg.gc_start_percent - percent : 0;
	if (c->target_percent)
		return stored && percent < c->target_percent;
	if (still_stuck(c))
		return false;
	if (!c->running) {
		c->moved_before = v->stats.gc_bytes;
		c->written_before = v->stats.batch_bytes;
	}
	c->running = percent < (c->running ? v->cfg.gc_stop_percent : v->cfg.gc_start_percent);
	return c->running && !too_busy(v, percent) && affordable(c);
}

void gc_maybe(struct volume *v)
{
	struct collector *c = v->gc;

	if (v->journal && !v->failed && !v->closing && c->stage == GC_IDLE && !gc_reading(v) &&
		!loop_timer_armed(&c->retry) && wanted(c))
		begin(c);
}

static void retry_later(struct loop_timer *t)
{
	gc_maybe(container_of(t, struct collector, retry)->v);
}

void gc_applied(struct volume *v)
{
	v->gc->stage = GC_IDLE;
}

void gc_trim(struct volume *v)
{
	struct collector *c = v->gc;

	if (c->stage != GC_IDLE)
		return;
	free(c->buf);
	c->buf = NULL;
	c->buf_bytes = 0;
	for (uint32_t i = 0; i < GETS_MAX; i++) {
		free(c->get[i].buf);
		c->get[i].buf = NULL;
		c->get[i].cap = 0;
	}
}

int volume_gc(struct volume *v, unsigned percent)
{
	struct collector *c = v->gc;
	uint64_t stored;

	c->target_percent = percent;
	for (c->stuck = false; !v->failed && !c->stuck && live_percent(v, &stored) < percent;) {
		gc_maybe(v);
		loop_poll(v->loop, LOOP_FOREVER);
	}
	c->target_percent = 0;
	return v->failed ? v->failed : volume_checkpoint(v);
}

int collector_none(struct volume *v)
{
	v->gc = calloc(1, sizeof(*v->gc));
	if (!v->gc)
		return -ENOMEM;
	v->gc->v = v;
	return 0;
}

/* What a request more costs, in bytes that could be read in its stead. */
static uint64_t get_cost(const struct store *s)
{
	if (!strcmp(s->kind, "mem"))
		return 8 << 10;
	return !strcmp(s->kind, "file") ? 16 << 10 : 256 << 10;
}

int collector_new(struct volume *v)
{
	struct collector *c;

	if (collector_none(v) < 0)
		return -ENOMEM;
	c = v->gc;
	c->task.run = work;
	c->retry.fire = retry_later;
	c->get_cost = get_cost(v->store);
	for (uint32_t i = 0; i < GETS_MAX; i++)
		c->get[i].c = c;
	c->policy = victim_policy(v->cfg.gc_policy);
	return c->policy ? 0 : -EINVAL;
}

void collector_free(struct volume *v)
{
	struct collector *c = v->gc;

	if (!c)
		return;
	loop_timer_cancel(v->loop, &c->retry);
	stop_requests(c);
	if (c->o)
		outgoing_recycle(v, c->o);
	for (uint32_t i = 0; i < GETS_MAX; i++)
		free(c->get[i].buf);
	free(c->crc);
	free(c->pieces);
	free(c->other);
	free(c->order);
	free(c->buf);
	free(c);
	v->gc = NULL;
}
