/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gc.c - garbage collection: live data of mostly dead objects moves into a new object.
 *
 *   idle --too little is live--> headers --what still lives--> reading --> CRC --> PUT --applied-->
 * idle
 *
 * One object at a time.  Pieces are taken from the log when it still has them, else through the
 * read cache, which fetches what it lacks; they are laid out in LBA order, and holes of up to
 * gc.plug between them are filled with the neighbours' data so that the map gets simpler.  The new
 * object takes its place in the sequence like any other, and moves a sector only if the map still
 * points to the old place (I9).  A victim is deleted when nothing of it lives and a checkpoint says
 * so (I8).
 */
#include "volume/volume_impl.h"

#include "sys/container.h"
#include "volume/victim.h"

#include <errno.h>
#include <stdlib.h>

enum { VICTIMS_MAX = 64, READS_MAX = 8, PERCENT_MAX = 90, BUSY_PERCENT = 60, OBJECTS_MIN = 4 };

enum gc_state { GC_IDLE, GC_HEADERS, GC_READING, GC_CRC, GC_PUTTING };

struct piece {
	uint64_t lba;
	uint32_t len, slot, off; /* sectors; where it is */
	uint64_t seq;		 /* of the object there */
	uint64_t at;		 /* sectors in the buffer */
	bool plug;		 /* not of a victim */
};

struct gc_read {
	struct collector *c;
	struct cache_req req;
	struct pool_io io;
	bool busy;
};

struct collector {
	struct volume *v;
	enum gc_state state;
	const struct victim_policy *policy;
	bool running;			   /* between gc.start and gc.stop */
	uint32_t target_percent;	   /* asked for by volume_gc; 0: none */
	bool stuck;			   /* nothing could be gained ... */
	uint64_t stuck_stored, stuck_live; /* ... with so many sectors */
	struct victim *all;		   /* candidates; the first nvictims are chosen */
	uint32_t all_cap, nvictims, at_victim;
	struct cache_header header;
	struct piece *pieces;
	uint32_t npieces, pieces_cap;
	struct outgoing *o;
	uint8_t *buf; /* the new object's data; used again, for first touch of memory is slow */
	uint64_t buf_bytes;
	uint32_t next_read, reading;
	int status;
	struct gc_read read[READS_MAX];
	struct loop_task task;
	struct loop_timer retry;
};

bool gc_busy(const struct volume *v)
{
	return v->gc->state != GC_IDLE;
}

bool gc_reading(const struct volume *v)
{
	return v->gc->state == GC_HEADERS || v->gc->reading || v->gc->task.queued;
}

static void give_up(struct collector *c, int status)
{
	struct volume *v = c->v;

	if (c->o)
		outgoing_recycle(v, c->o);
	c->o = NULL;
	c->state = GC_IDLE;
	if (status == 0)
		return;
	v->stats.store_errors++;
	loop_timer_set(v->loop, &c->retry, loop_now(v->loop) + volume_backoff_ns(v, 3));
}

/* ---- gathering what lives ---- */

struct gather {
	struct collector *c;
	uint32_t slot; /* UINT32_MAX: whatever is there */
	uint64_t sectors;
	int rc;
};

static int add_piece(struct collector *c, uint64_t lba, uint64_t len, uint64_t place, bool plug)
{
	if (c->npieces == c->pieces_cap) {
		uint32_t cap = c->pieces_cap ? 2 * c->pieces_cap : 1024;
		struct piece *p = realloc(c->pieces, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->pieces = p;
		c->pieces_cap = cap;
	}
	c->pieces[c->npieces++] = (struct piece){.lba = lba,
		.len = (uint32_t)len,
		.slot = place_slot(place),
		.seq = objmap_get(c->v->objects, place_slot(place))->seq,
		.off = place_offset(place),
		.plug = plug};
	return 0;
}

static int gather_extent(void *arg, const struct extent *e)
{
	struct gather *g = arg;

	if (g->slot != UINT32_MAX && place_slot(e->place) != g->slot)
		return 0;
	g->sectors += e->len;
	g->rc = add_piece(g->c, e->lba, e->len, e->place, g->slot == UINT32_MAX);
	return g->rc;
}

static int gather_victim(
	struct collector *c, uint32_t slot, const void *buf, const struct object_header *h)
{
	struct gather g = {.c = c, .slot = slot};

	for (uint32_t i = 0; g.rc == 0 && i < h->extents; i++) {
		struct object_extent x;

		object_get_extent(buf, h, i, &x);
		if (x.kind == EXTENT_DATA)
			extmap_walk(c->v->map, x.lba, x.len, gather_extent, &g);
	}
	return g.rc;
}

static int by_lba(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return x->lba < y->lba ? -1 : x->lba > y->lba;
}

static void sort_pieces(struct collector *c)
{
	if (c->npieces)
		qsort(c->pieces, c->npieces, sizeof(*c->pieces), by_lba);
}

/* Fill holes that are small and wholly mapped. */
static int plug_holes(struct collector *c)
{
	uint64_t max = c->v->cfg.gc_plug_bytes / 512;
	uint32_t n = c->npieces;

	for (uint32_t i = 0; i + 1 < n; i++) {
		uint64_t from = c->pieces[i].lba + c->pieces[i].len,
			 gap = c->pieces[i + 1].lba - from;
		struct gather g = {.c = c, .slot = UINT32_MAX};
		uint32_t before = c->npieces;

		if (!gap || gap > max)
			continue;
		extmap_walk(c->v->map, from, gap, gather_extent, &g);
		if (g.rc < 0)
			return g.rc;
		if (g.sectors != gap)
			c->npieces = before;
	}
	sort_pieces(c);
	return 0;
}

/* ---- reading ---- */

static void read_more(struct collector *c);

static void finish_read(struct gc_read *r, int status)
{
	struct collector *c = r->c;

	r->busy = false;
	c->reading--;
	if (status < 0 && c->status == 0)
		c->status = status;
	read_more(c);
}

static void cache_done(struct cache_req *req, int status)
{
	finish_read(container_of(req, struct gc_read, req), status);
}

static void pool_done(struct pool_io *io, int status)
{
	finish_read(container_of(io, struct gc_read, io), status);
}

/* Is the newest write of this piece in the log, and applied?  Then it is the same data as in the
 * object. */
static bool read_from_log(struct gc_read *r, const struct piece *p, uint8_t *buf)
{
	struct journal *j = r->c->v->journal;
	struct journal_hit hit;
	const void *mem;
	uint32_t in_block;

	if (!journal_find(j, p->lba, p->len, &hit) || hit.lba != p->lba || hit.len < p->len ||
		hit.pos == EXTMAP_ZERO || !journal_is_clean(j, hit.pos))
		return false;
	mem = journal_memory(j, hit.pos);
	if (mem) {
		memcpy(buf, mem, (size_t)p->len * 512);
		r->busy = false;
		r->c->reading--;
		return true;
	}
	r->io.seg = journal_place(j, hit.pos, &r->io.block, &in_block);
	if (in_block || p->len % 8 || (uintptr_t)buf % POOL_BLOCK)
		return false;
	r->io.blocks = p->len / 8;
	r->io.done = pool_done;
	pool_read(r->c->v->pool, &r->io, buf);
	return true;
}

static void read_piece(struct collector *c, struct gc_read *r, const struct piece *p)
{
	uint8_t *buf = c->buf + p->at * 512;

	r->c = c;
	r->busy = true;
	c->reading++;
	if (read_from_log(r, p, buf))
		return;
	/* Buried meanwhile, and its slot perhaps another's. */
	if (objmap_find(c->v->objects, p->seq) != p->slot) {
		finish_read(r, -ENOENT);
		return;
	}
	volume_ref(c->v, p->slot, &r->req.ref);
	r->req.off_bytes = (uint64_t)p->off * 512;
	r->req.len_bytes = (uint64_t)p->len * 512;
	r->req.buf = buf;
	r->req.done = cache_done;
	cache_read(c->v->cache, &r->req);
}

static void read_more(struct collector *c)
{
	if (c->v->failed && !c->status)
		c->status = c->v->failed;
	for (uint32_t i = 0; i < READS_MAX && c->next_read < c->npieces && !c->status; i++)
		while (!c->read[i].busy && c->next_read < c->npieces && !c->status)
			read_piece(c, &c->read[i], &c->pieces[c->next_read++]);
	if (c->reading || c->state != GC_READING)
		return;
	if (c->status) {
		give_up(c, c->status);
		return;
	}
	c->state = GC_CRC;
	loop_background(c->v->loop, &c->task);
}

static int grow_buffer(struct collector *c, uint64_t bytes)
{
	if (bytes <= c->buf_bytes)
		return 0;
	free(c->buf);
	c->buf_bytes = 0;
	if (posix_memalign((void **)&c->buf, POOL_BLOCK, bytes)) {
		c->buf = NULL;
		return -ENOMEM;
	}
	c->buf_bytes = bytes;
	return 0;
}

void gc_trim(struct volume *v)
{
	struct collector *c = v->gc;

	if (c->state != GC_IDLE)
		return;
	free(c->buf);
	c->buf = NULL;
	c->buf_bytes = 0;
}

static int lay_out(struct collector *c)
{
	struct outgoing *o = c->o;
	uint64_t at = 0;
	int rc = 0;

	for (uint32_t i = 0; i < c->npieces; i++) {
		struct piece *p = &c->pieces[i];

		at += (p->lba - at) % 8; /* as build_add does */
		p->at = at;
		at += p->len;
	}
	if (at * 512 > UINT32_MAX / 2 || grow_buffer(c, at * 512) < 0)
		return -ENOMEM;
	build_begin(&o->b, OBJECT_FLAG_GC);
	for (uint32_t i = 0; rc == 0 && i < c->npieces; i++) {
		const struct piece *p = &c->pieces[i];
		struct object_extent x = {.lba = p->lba,
			.len = p->len,
			.kind = EXTENT_DATA,
			.old_off = p->off,
			.old_seq = p->seq};

		rc = build_add(&o->b, &x, c->buf + p->at * 512);
	}
	return rc;
}

static void drop_plugs(struct collector *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->npieces; i++)
		if (!c->pieces[i].plug)
			c->pieces[n++] = c->pieces[i];
	c->npieces = n;
}

/* Alignment costs room: the new object must be smaller than its victims, by a little, or the same
 * data would be moved for ever. */
static bool gains(const struct collector *c)
{
	uint64_t was = 0, now = 0;

	for (uint32_t i = 0; i < c->nvictims; i++)
		was += c->all[i].data_sectors;
	for (uint32_t i = 0; i < c->npieces; i++) {
		const struct piece *p = &c->pieces[i];

		if (p->len >= 8) /* as build_add does */
			now += (p->lba - now) % 8;
		now += p->len;
	}
	now = (now + 7) / 8 * 8;
	return now + 8 <= was && now * 16 <= was * 15;
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

static void start_reading(struct collector *c)
{
	int rc;

	if (!c->npieces) {
		give_up(c, 0); /* all of it died meanwhile */
		return;
	}
	sort_pieces(c);
	rc = plug_holes(c);
	if (rc == 0 && !gains(c)) {
		drop_plugs(c);
		if (!gains(c)) {
			set_stuck(c);
			give_up(c, 0);
			return;
		}
	}
	c->o = rc == 0 ? outgoing_new(c->v) : NULL;
	if (!c->o)
		rc = -ENOMEM;
	if (rc == 0)
		rc = lay_out(c);
	if (rc < 0) {
		give_up(c, rc);
		return;
	}
	c->state = GC_READING;
	c->next_read = c->reading = 0;
	c->status = 0;
	read_more(c);
}

/* ---- headers ---- */

static void next_header(struct collector *c);

static bool still_there(const struct collector *c)
{
	const struct victim *x = &c->all[c->at_victim];

	return objmap_find(c->v->objects, x->seq) == x->slot;
}

static void header_there(struct cache_header *ch, int status)
{
	struct collector *c = container_of(ch, struct collector, header);
	uint32_t slot = c->all[c->at_victim].slot;
	struct object_header h;
	int rc = status;

	if (rc == 0)
		rc = object_decode(ch->buf, ch->ref.header_bytes, ch->ref.uuid, ch->ref.epoch,
			ch->ref.seq, &h, NULL);
	/* Unless it was buried while its header was fetched, and the slot is another's by now. */
	if (rc == 0 && still_there(c))
		rc = gather_victim(c, slot, ch->buf, &h);
	if (status == 0)
		free(ch->buf);
	c->at_victim++;
	if (rc < 0 || c->v->failed)
		give_up(c, rc < 0 ? rc : c->v->failed);
	else
		next_header(c);
}

static void next_header(struct collector *c)
{
	struct volume *v = c->v;

	/* A victim may have died, and been buried, since it was chosen. */
	while (c->at_victim < c->nvictims) {
		if (still_there(c))
			break;
		c->at_victim++;
	}
	if (c->at_victim == c->nvictims) {
		start_reading(c);
		return;
	}
	volume_ref(v, c->all[c->at_victim].slot, &c->header.ref);
	c->header.done = header_there;
	cache_get_header(v->cache, &c->header);
}

/* ---- deciding ---- */

static uint32_t live_percent(const struct volume *v, uint64_t *stored)
{
	struct objmap_sum all = objmap_sum(v->objects, 0);

	*stored = all.data_sectors - objmap_sum(v->objects, OBJECT_DEAD).data_sectors;
	return *stored ? (uint32_t)(all.live_sectors * 100 / *stored) : 100;
}

static int choose(struct collector *c)
{
	struct volume *v = c->v;
	uint32_t n = 0;

	if (objmap_count(v->objects) > c->all_cap) {
		uint32_t cap = (uint32_t)objmap_count(v->objects) * 2;
		struct victim *p = realloc(c->all, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->all = p;
		c->all_cap = cap;
	}
	for (uint32_t s = objmap_next(v->objects, 0); s != OBJMAP_NONE;
		s = objmap_next(v->objects, s + 1)) {
		const struct object *o = objmap_get(v->objects, s);

		if (!(o->flags & (OBJECT_DEAD | OBJECT_BASE)) && o->seq <= v->applied_seq)
			c->all[n++] = (struct victim){.slot = s,
				.data_sectors = o->data_sectors,
				.live_sectors = o->live_sectors,
				.seq = o->seq};
	}
	c->nvictims = victim_choose(c->policy, c->all, n, v->applied_seq, v->cfg.object_bytes / 512,
		VICTIMS_MAX, PERCENT_MAX);
	return 0;
}

static bool wanted(struct collector *c)
{
	struct volume *v = c->v;
	uint64_t stored;
	uint32_t percent;

	if (!c->target_percent &&
		(!v->cfg.gc_enabled || v->closing || objmap_count(v->objects) < OBJECTS_MIN))
		return false;
	percent = live_percent(v, &stored);
	if (c->target_percent)
		return stored && percent < c->target_percent;
	if (still_stuck(c))
		return false;
	c->running = percent < (c->running ? v->cfg.gc_stop_percent : v->cfg.gc_start_percent);
	/* The foreground first: while the journal is filling up, the store has enough to do. */
	return c->running && journal_dirty_segments(v->journal) * 100 <
				     journal_dirty_limit(v->journal) * BUSY_PERCENT;
}

void gc_maybe(struct volume *v)
{
	struct collector *c = v->gc;

	if (!v->journal || v->failed || c->state != GC_IDLE || loop_timer_armed(&c->retry) ||
		!wanted(c))
		return;
	if (choose(c) < 0 || !c->nvictims) {
		set_stuck(c);
		return;
	}
	c->stuck = false;
	c->state = GC_HEADERS;
	c->npieces = c->at_victim = 0;
	next_header(c);
}

static void retry_later(struct loop_timer *t)
{
	gc_maybe(container_of(t, struct collector, retry)->v);
}

static void crc_some(struct loop_task *t)
{
	struct collector *c = container_of(t, struct collector, task);
	struct volume *v = c->v;
	int rc = v->failed ? v->failed : build_crc(&c->o->b, CRC_SLICE_BYTES);

	if (rc == 0) {
		loop_background(v->loop, t);
		return;
	}
	if (rc == 1)
		rc = outgoing_put(v, c->o, v->covers_put);
	if (rc < 0) {
		give_up(c, rc);
		return;
	}
	v->stats.gc_objects += c->nvictims;
	c->o = NULL;
	c->state = GC_PUTTING;
}

void gc_applied(struct volume *v)
{
	v->gc->state = GC_IDLE;
}

int volume_gc(struct volume *v, unsigned percent)
{
	struct collector *c = v->gc;
	uint64_t stored;

	c->target_percent = percent;
	for (c->stuck = false; !v->failed && !c->stuck && live_percent(v, &stored) < percent;) {
		gc_maybe(v);
		if (!c->stuck)
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

int collector_new(struct volume *v)
{
	if (collector_none(v) < 0)
		return -ENOMEM;
	v->gc->task.run = crc_some;
	v->gc->retry.fire = retry_later;
	v->gc->policy = victim_policy(v->cfg.gc_policy);
	return v->gc->policy ? 0 : -EINVAL;
}

void collector_free(struct volume *v)
{
	if (!v->gc)
		return;
	loop_timer_cancel(v->loop, &v->gc->retry);
	if (v->gc->o)
		outgoing_recycle(v, v->gc->o);
	free(v->gc->all);
	free(v->gc->pieces);
	free(v->gc->buf);
	free(v->gc);
	v->gc = NULL;
}
