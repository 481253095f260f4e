/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gc_gather.c - what still lives of the victims, in LBA order, and where it goes.
 *
 * A victim's header lists what was written there; the map says what of it is still wanted.  Data
 * that the journal holds a newer write of is left behind: it dies by itself when that write is
 * applied (and were the journal lost, the victim would still be there).  Headers are read a few at
 * a time, straight from the store: the cache has no use for what is about to be deleted.
 */
#include "volume/gc_impl.h"

#include "sys/mutant.h"

#include <errno.h>
#include <stdlib.h>

enum { SECTORS_PER_BLOCK = 8, PLUG_SHARE = 16 };

/* ---- pieces ---- */

static int add_piece(struct collector *c, uint32_t source, const struct extent *e, uint8_t where)
{
	uint32_t done = 0, n;

	if (source < VICTIMS_MAX) {
		c->live_sectors += e->len;
		c->source[source].moved_sectors += e->len;
	}
	if (gc_grow(&c->pieces, &c->pieces_cap, c->npieces + 1 + (uint32_t)(e->len / PIECE_SECTORS),
		    sizeof(*c->pieces)) < 0)
		return -ENOMEM;
	for (; done < e->len; done += n) {
		n = e->len - done < PIECE_SECTORS ? (uint32_t)e->len - done : PIECE_SECTORS;
		c->pieces[c->npieces++] = (struct piece){.lba = e->lba + done,
			.len = n,
			.off = place_offset(e->place) + done,
			.source = (uint16_t)source,
			.where = where};
	}
	return 0;
}

/* ---- headers ---- */

struct gather {
	struct collector *c;
	uint32_t source, slot;
};

bool gc_is_dirty(const struct volume *v, const struct journal_hit *hit)
{
	if (MUTANT(GC_DIRTY_LOG))
		return false;
	if (hit->pos == EXTMAP_ZERO)
		return true; /* or the map would not have it */
	return hit->pos >= v->applied_pos && !journal_is_clean(v->journal, hit->pos);
}

/* What lives of a victim, less what the journal overwrites. */
static int gather_extent(void *arg, const struct extent *e)
{
	struct gather *g = arg;
	struct volume *v = g->c->v;
	struct extent rest = *e;
	struct journal_hit hit;

	if (place_slot(e->place) != g->slot)
		return 0;
	while (rest.len && journal_find(v->journal, rest.lba, rest.len, &hit)) {
		struct extent x = rest;
		int rc = 0;

		x.len = hit.lba - rest.lba;
		if (x.len)
			rc = add_piece(g->c, g->source, &x, AT_STORE);
		x.lba = hit.lba;
		x.place = e->place + (hit.lba - e->lba);
		x.len = hit.len;
		if (gc_is_dirty(v, &hit) && v->applied_pos)
			g->c->source[g->source].skipped_sectors += x.len;
		else if (rc == 0)
			rc = add_piece(g->c, g->source, &x, AT_LOG);
		if (rc < 0)
			return rc;
		rest.lba = hit.lba + hit.len;
		rest.len = e->lba + e->len - rest.lba;
		rest.place = e->place + (rest.lba - e->lba);
	}
	return rest.len ? add_piece(g->c, g->source, &rest, AT_STORE) : 0;
}

static int keep_crcs(struct collector *c, struct gc_source *s, const struct gc_get *g)
{
	if (gc_grow(&c->crc, &c->crc_cap, c->ncrc + g->h.chunks, sizeof(*c->crc)) < 0)
		return -ENOMEM;
	s->crc_at = c->ncrc;
	s->crcs = g->h.chunks;
	s->crc_bytes = g->h.crc_bytes;
	for (uint32_t i = 0; i < g->h.chunks; i++)
		c->crc[c->ncrc++] = object_get_crc(g->buf, &g->h, i);
	return 0;
}

/* The header is here: verify it (I10). */
static int open_header(struct collector *c, struct gc_get *g)
{
	struct gc_source *s = &c->source[g->source];
	int rc = g->damaged ? -EBADMSG
			    : object_decode(g->buf, g->len, s->ref.uuid, s->ref.epoch, s->ref.seq,
				      &g->h, NULL);

	if (rc == -EBADMSG || rc == -EUCLEAN || rc == -EPROTO)
		return gc_get_again(g);
	g->end = g->h.extents;
	return rc < 0 ? rc : keep_crcs(c, s, g);
}

static int close_header(struct collector *c, struct gc_get *g)
{
	struct gc_source *s = &c->source[g->source];

	g->ready = false;
	c->headers_done++;
	if (s->skipped_sectors && !s->moved_sectors) /* it dies by itself, soon */
		gc_avoid(c, s->victim.seq, c->v->acked + 1);
	if (c->npieces == c->run[c->nruns])
		return GC_AGAIN;
	c->run[++c->nruns] = c->npieces;
	return GC_AGAIN;
}

static int gather_some(struct collector *c, struct gc_get *g)
{
	struct gc_source *s = &c->source[g->source];
	struct gather t = {.c = c, .source = g->source, .slot = s->victim.slot};
	uint32_t end = g->next + GATHER_SLICE;
	struct object_extent x;

	if (end > g->end)
		end = g->end;
	/* Unless it was buried meanwhile, and the slot is another's by now. */
	if (!gc_still_there(c, s))
		g->next = end = g->end;
	for (; g->next < end; g->next++) {
		int rc = 0;

		if (g->next + EXTMAP_AHEAD < end) {
			object_get_extent(g->buf, &g->h, g->next + EXTMAP_AHEAD, &x);
			extmap_prefetch(c->v->map, x.lba);
		}
		object_get_extent(g->buf, &g->h, g->next, &x);
		if (x.kind == EXTENT_DATA)
			rc = extmap_walk(c->v->map, x.lba, x.len, gather_extent, &t);
		if (rc < 0)
			return rc;
	}
	return g->next == g->end ? close_header(c, g) : GC_AGAIN;
}

static int ask_for_headers(struct collector *c)
{
	struct gc_get *g;

	while (c->headers_asked < c->nsources && (g = gc_get_free(c))) {
		struct gc_source *s = &c->source[c->headers_asked++];
		int rc;

		/* It may have died, and been buried, since it was chosen. */
		if (!gc_still_there(c, s)) {
			s->gone = true;
			c->headers_done++;
			continue;
		}
		volume_ref(c->v, s->victim.slot, &s->ref);
		rc = gc_get_submit(g, c->headers_asked - 1, 0, s->ref.header_bytes);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The victim whose header is being gathered, else the next one that is there. */
static struct gc_get *header_in_work(struct collector *c)
{
	for (uint32_t i = 0; i < GETS_MAX; i++)
		if (c->get[i].ready && c->get[i].next)
			return &c->get[i];
	return gc_get_ready(c);
}

int gc_headers(struct collector *c)
{
	struct gc_get *g = header_in_work(c);
	int rc;

	if (g) {
		if (c->source[g->source].gone)
			return close_header(c, g);
		if (!g->h.header_bytes) {
			rc = open_header(c, g);
			return rc < 0 ? rc : rc == GC_WAIT ? GC_WAIT : GC_AGAIN;
		}
		return gather_some(c, g);
	}
	rc = ask_for_headers(c);
	if (rc < 0)
		return rc;
	return c->headers_done < c->nsources ? GC_WAIT : GC_DONE;
}

/* ---- one order ---- */

static struct piece *merge_two(struct piece *to, const struct piece *a, const struct piece *a_end,
	const struct piece *b, const struct piece *b_end)
{
	while (a < a_end && b < b_end)
		*to++ = a->lba < b->lba ? *a++ : *b++;
	while (a < a_end)
		*to++ = *a++;
	while (b < b_end)
		*to++ = *b++;
	return to;
}

/* Runs 2i and 2i + 1 of `pieces` become run i of `other`; c->at: pairs done. */
static int merge_pass(struct collector *c)
{
	uint32_t pairs = (c->nruns + 1) / 2, from = c->run[2 * c->at];

	for (; c->at < pairs; c->at++) {
		const uint32_t *r = &c->run[2 * c->at];
		uint32_t end = 2 * c->at + 1 < c->nruns ? r[2] : r[1];

		if (r[0] - from >= PIECES_SLICE)
			return GC_AGAIN;
		merge_two(c->other + r[0], c->pieces + r[0], c->pieces + r[1], c->pieces + r[1],
			c->pieces + end);
	}
	return GC_DONE;
}

static void swap_buffers(struct collector *c)
{
	struct piece *p = c->pieces;
	uint32_t cap = c->pieces_cap;

	c->pieces = c->other;
	c->pieces_cap = c->other_cap;
	c->other = p;
	c->other_cap = cap;
}

int gc_merge(struct collector *c)
{
	if (gc_grow(&c->other, &c->other_cap, c->npieces, sizeof(*c->other)) < 0)
		return -ENOMEM;
	if (c->nruns <= 1)
		return GC_DONE;
	if (merge_pass(c) == GC_AGAIN)
		return GC_AGAIN;
	for (uint32_t i = 0; 2 * i < c->nruns; i++)
		c->run[i + 1] = c->run[2 * i + 2 < c->nruns ? 2 * i + 2 : c->nruns];
	c->nruns = (c->nruns + 1) / 2;
	c->at = 0;
	swap_buffers(c);
	return GC_AGAIN;
}

/* ---- plugs ---- */

struct plugging {
	struct collector *c;
	uint64_t sectors;
	int rc;
};

static int add_plug(void *arg, const struct extent *e)
{
	struct plugging *p = arg;
	struct collector *c = p->c;
	uint32_t slot = place_slot(e->place);

	if (objmap_get(c->v->objects, slot)->flags & OBJECT_BASE)
		return 1;
	if (!c->nplugs || c->plug[c->nplugs - 1].slot != slot) {
		if (c->nplugs == PLUGS_MAX)
			return 1;
		c->plug[c->nplugs++] =
			(struct gc_plug){.slot = slot, .seq = objmap_get(c->v->objects, slot)->seq};
	}
	p->sectors += e->len;
	p->rc = add_piece(c, VICTIMS_MAX + c->nplugs - 1, e, AT_POOL);
	return p->rc;
}

/* Is the hole's data at hand, in the log or in the cache?  A GET for a few sectors is not worth it.
 */
static int is_near(void *arg, const struct extent *e)
{
	struct volume *v = ((struct plugging *)arg)->c->v;
	struct journal_hit hit;
	struct object_ref ref;

	if (journal_find(v->journal, e->lba, e->len, &hit)) /* 1: about to change */
		return hit.lba != e->lba || hit.len < e->len || gc_is_dirty(v, &hit);
	volume_ref(v, place_slot(e->place), &ref);
	return cache_has(v->cache, &ref, (uint64_t)place_offset(e->place) * 512,
		       (uint64_t)e->len * 512)
		       ? 0
		       : 1;
}

/* Fill the hole if it is wholly mapped and cheap to fill: what is copied is dead where it was, so
 * plugs are a small share of what is moved. */
static int plug_one(struct collector *c, uint64_t from, uint64_t gap)
{
	struct plugging p = {.c = c};
	uint32_t pieces = c->npieces, plugs = c->nplugs;

	if ((c->plug_sectors + gap) * PLUG_SHARE > c->live_sectors ||
		extmap_walk(c->v->map, from, gap, is_near, &p))
		return 0;
	if (extmap_walk(c->v->map, from, gap, add_plug, &p) < 0)
		return p.rc;
	if (p.sectors != gap) {
		c->npieces = pieces;
		c->nplugs = plugs;
	} else {
		c->plug_sectors += gap;
	}
	return 0;
}

/* Plugs are appended; as they come in LBA order, one merge puts them in their places.  c->run[0] is
 * the number of pieces before. */
int gc_plug(struct collector *c)
{
	uint64_t max = c->v->cfg.gc_plug_bytes / 512;
	uint32_t looked = 0, added = c->npieces;

	if (c->at == 0)
		c->run[1] = c->npieces;
	for (; c->at + 1 < c->run[1]; c->at++) {
		uint64_t from = c->pieces[c->at].lba + c->pieces[c->at].len,
			 gap = c->pieces[c->at + 1].lba - from;
		int rc;

		if (++looked > PIECES_SLICE || c->npieces - added > GATHER_SLICE / 2)
			return GC_AGAIN;
		if (!gap || gap > max)
			continue;
		looked += PIECES_SLICE / GATHER_SLICE;
		rc = plug_one(c, from, gap);
		if (rc < 0)
			return rc;
	}
	if (c->npieces == c->run[1])
		return GC_DONE;
	if (gc_grow(&c->other, &c->other_cap, c->npieces, sizeof(*c->other)) < 0)
		return -ENOMEM;
	merge_two(c->other, c->pieces, c->pieces + c->run[1], c->pieces + c->run[1],
		c->pieces + c->npieces);
	swap_buffers(c);
	return GC_DONE;
}

/* ---- layout ---- */

static void drop_plugs(struct collector *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->npieces; i++)
		if (c->pieces[i].source < VICTIMS_MAX)
			c->pieces[n++] = c->pieces[i];
	c->npieces = n;
}

static bool one_extent(const struct piece *a, const struct piece *b)
{
	return a->source == b->source && a->lba + a->len == b->lba && a->off + a->len == b->off;
}

/* The end of the extent that begins with piece i, and its length. */
static uint32_t extent_of(const struct collector *c, uint32_t i, uint32_t *len)
{
	*len = c->pieces[i].len;
	for (i++; i < c->npieces && one_extent(&c->pieces[i - 1], &c->pieces[i]); i++)
		*len += c->pieces[i].len;
	return i;
}

/* How far piece i and those after it continue each other in LBA. */
static uint64_t run_sectors(const struct collector *c, uint32_t i)
{
	uint64_t lba = c->pieces[i].lba, end = lba;

	for (; i < c->npieces && c->pieces[i].lba == end; i++)
		end += c->pieces[i].len;
	return end - lba;
}

/* Give every piece its place; the sectors of data in all.  Where a run has its place within a block, all of
 * it has. */
static uint64_t place_pieces(struct collector *c)
{
	uint64_t at = 0, run_end = UINT64_MAX;
	uint32_t len;

	for (uint32_t i = 0, end; i < c->npieces; i = end) {
		uint64_t lba = c->pieces[i].lba;

		end = extent_of(c, i, &len);
		if (lba != run_end) {
			run_end = lba + run_sectors(c, i);
			at += build_pad(lba, run_end - lba, at);
		}
		for (uint32_t k = i; k < end; k++) {
			c->pieces[k].at = (uint32_t)at;
			at += c->pieces[k].len;
		}
	}
	return (at + SECTORS_PER_BLOCK - 1) / SECTORS_PER_BLOCK * SECTORS_PER_BLOCK;
}

/* What moving frees of a victim: while the journal's share of it is not applied, it lives on. */
static uint64_t share_moved(const struct gc_source *s)
{
	uint64_t all = s->moved_sectors + s->skipped_sectors;

	return all ? s->victim.data_sectors * s->moved_sectors / all : 0;
}

/* Alignment costs room: the new object must be smaller than its victims, by a little, or the same
 * data would be moved for ever. */
static bool gains(const struct collector *c, uint64_t now)
{
	uint64_t was = 0;

	for (uint32_t i = 0; i < c->nsources; i++)
		was += share_moved(&c->source[i]);
	return now + 8 <= was && now * 16 <= was * 15;
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

/* The gaps between pieces read as zeroes. */
static void clear(struct collector *c, uint64_t from, uint64_t to)
{
	if (from < to)
		memset(c->buf + from * 512, 0, (to - from) * 512);
}

static int list_extents(struct collector *c, uint64_t sectors)
{
	struct build *b = &c->o->b;
	uint64_t end = 0;
	uint32_t len;

	build_begin(b, OBJECT_FLAG_GC);
	for (uint32_t i = 0, next; i < c->npieces; i = next) {
		const struct piece *p = &c->pieces[i];
		struct object_extent x = {
			.lba = p->lba, .off = p->at, .kind = EXTENT_DATA, .old_off = p->off};
		int rc;

		next = extent_of(c, i, &len);
		x.len = len;
		x.old_seq = p->source < VICTIMS_MAX ? c->source[p->source].victim.seq
						    : c->plug[p->source - VICTIMS_MAX].seq;
		clear(c, end, p->at);
		end = p->at + len;
		rc = build_extent(b, &x);
		if (rc < 0)
			return rc;
	}
	clear(c, end, sectors);
	return build_data(b, c->buf, sectors * 512);
}

/* Where the pieces of each victim are, by offset. */
static int by_offset(const void *a, const void *b, void *arg)
{
	const struct piece *p = arg;
	uint32_t x = p[*(const uint32_t *)a].off, y = p[*(const uint32_t *)b].off;

	return x < y ? -1 : x > y;
}

static int order_pieces(struct collector *c)
{
	uint32_t at = 0;

	if (gc_grow(&c->order, &c->order_cap, c->npieces, sizeof(*c->order)) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->nsources; i++)
		c->source[i].end = 0;
	for (uint32_t i = 0; i < c->npieces; i++)
		if (c->pieces[i].source < VICTIMS_MAX)
			c->source[c->pieces[i].source].end++;
	for (uint32_t i = 0; i < c->nsources; i++) {
		c->source[i].first = at;
		at += c->source[i].end;
		c->source[i].end = c->source[i].first;
	}
	c->plan_at = at;
	for (uint32_t i = 0; i < c->npieces; i++)
		c->order[c->pieces[i].source < VICTIMS_MAX ? c->source[c->pieces[i].source].end++
							   : at++] = i;
	for (uint32_t i = 0; i < c->nsources; i++) {
		const struct gc_source *s = &c->source[i];
		uint32_t k = s->first + 1;

		/* Data lies in LBA order but in a reorganised image. */
		while (k < s->end && c->pieces[c->order[k - 1]].off < c->pieces[c->order[k]].off)
			k++;
		if (k < s->end)
			qsort_r(c->order + s->first, s->end - s->first, sizeof(*c->order),
				by_offset, c->pieces);
	}
	/* Plugs come last, and from the pool. */
	c->pool_at = c->plan_at;
	c->pool_end = c->npieces;
	c->plan_source = 0;
	c->plan_at = 0;
	return 0;
}

int gc_layout(struct collector *c)
{
	uint64_t sectors = place_pieces(c);
	int rc;

	if (!gains(c, sectors)) {
		drop_plugs(c);
		sectors = place_pieces(c);
		if (!gains(c, sectors))
			return -ENOSPC;
	}
	if (sectors * 512 > OBJECT_DATA_MAX || grow_buffer(c, sectors * 512) < 0)
		return -ENOMEM;
	rc = order_pieces(c);
	c->o = rc == 0 ? outgoing_new(c->v) : NULL;
	if (!c->o)
		return -ENOMEM;
	rc = list_extents(c, sectors);
	return rc < 0 ? rc : GC_DONE;
}
