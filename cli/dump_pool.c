/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dump_pool.c - a pool's header, its segments, and on request the journal's records and the cache's
 * summaries.
 *
 * When the header is damaged the segments are found by their own: the first two of them tell where
 * segments begin and how long they are.
 */
#include "cli/dump.h"

#include "format/cacheseg.h"
#include "format/object.h"
#include "format/record.h"
#include "format/segment.h"
#include "sys/crc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = SEGMENT_BLOCK, HEADER_CRC_AT = 16 };
enum { ROLE_FREE, ROLE_JOURNAL, ROLE_CACHE, ROLES };

struct pool_walk {
	struct dump *d;
	struct dump_source *s;
	struct pool_header h;
	uint8_t *buf; /* one segment */
};

static const char *role_name(unsigned role)
{
	static const char *const names[ROLES] = {"free", "journal", "cache"};

	return role < ROLES ? names[role] : "?";
}

/* ---- header ---- */

static void header_fields(json_t *x, const struct pool_header *h)
{
	json_t *list = json_array();
	unsigned n = POOL_OPENINGS;

	dump_uuid(x, "uuid", h->uuid);
	dump_int(x, "segment_bytes", h->segment_bytes);
	dump_int(x, "segments", h->segments);
	dump_int(x, "leg", h->leg);
	dump_int(x, "legs", h->legs);
	dump_int(x, "members", h->members);
	dump_int(x, "joined", h->joined);
	dump_time(x, "created", h->created_ns);
	dump_int(x, "generation", h->generation);
	while (n && !h->opening[n - 1])
		n--;
	for (unsigned i = 0; i < n; i++) {
		char text[24];

		snprintf(text, sizeof(text), "%016" PRIx64, h->opening[i]);
		json_array_append_new(list, json_string(text));
	}
	json_object_set_new(x, "openings", list);
}

/* Learn from the segments what the header does not tell. */
static bool guess(struct pool_walk *w, json_t *x)
{
	uint64_t at[2], end = POOL_FIRST_BYTES_MAX + 2ull * POOL_SEGMENT_BYTES_MAX;
	unsigned n = 0;
	uint8_t block[BLOCK];

	for (uint64_t off = POOL_SEGMENT_BYTES_MIN; n < 2 && off < w->s->size_bytes && off < end;
		off += POOL_SEGMENT_BYTES_MIN)
		if (w->s->read(w->s, off, block, BLOCK) == BLOCK && !memcmp(block, "LSVDpseg", 8)) {
			at[n++] = off;
			if (n == 1)
				memcpy(w->h.uuid, block + 24, 16);
		}
	if (n < 2)
		return false;
	w->h.segment_bytes = at[1] - at[0];
	w->h.segments = (uint32_t)((w->s->size_bytes - at[0]) / w->h.segment_bytes);
	dump_problem(w->d, x, "from the segments it seems that each has %" PRIu64 " bytes",
		w->h.segment_bytes);
	return w->h.segment_bytes <= POOL_SEGMENT_BYTES_MAX &&
	       pool_first_bytes(w->h.segment_bytes) == at[0];
}

static bool dump_header(struct pool_walk *w)
{
	json_t *x = dump_new("pool", w->s->name);
	uint8_t block[BLOCK] = {0};
	struct err e = {.msg = ""};
	bool ok = w->s->read(w->s, 0, block, BLOCK) == BLOCK;
	int rc = -EIO;

	dump_int(x, "bytes", w->s->size_bytes);
	if (ok) {
		dump_reseal(w->d, x, block, BLOCK, HEADER_CRC_AT);
		rc = pool_header_decode(block, &w->h, &e);
	}
	header_fields(x, &w->h);
	if (rc < 0) {
		dump_err(w->d, x, rc, &e);
		ok = guess(w, x);
	}
	if (ok && pool_first_bytes(w->h.segment_bytes) + w->h.segments * w->h.segment_bytes >
			  w->s->size_bytes)
		dump_problem(w->d, x, "the file is too short for %u segments", w->h.segments);
	dump_emit(w->d, x);
	return ok;
}

/* ---- journal records ---- */

static json_t *record_extents(const uint8_t *p, uint32_t n)
{
	static const char *const kinds[] = {"data", "zero", "discard"};
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++) {
		struct record_extent e;
		json_t *x = json_object();

		record_get_extent(p, i, &e);
		dump_int(x, "lba", e.lba);
		dump_int(x, "len", e.len);
		dump_int(x, "off", e.off);
		dump_text(x, "kind", e.kind <= EXTENT_DISCARD ? kinds[e.kind] : "?");
		json_array_append_new(list, x);
	}
	return list;
}

static uint32_t damaged_blocks(const uint8_t *p, const struct record_header *h, uint32_t there)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < h->blocks; i++)
		bad += i >= there ||
		       crc32c(0, p + (size_t)(1 + i) * BLOCK, BLOCK) != record_get_crc(p, h, i);
	return bad;
}

/* The record at `block`, if there is one: the blocks it takes, else 1. */
static uint32_t dump_record(struct pool_walk *w, const struct segment_header *sh, uint32_t block)
{
	uint32_t blocks = (uint32_t)(w->h.segment_bytes / BLOCK), bad;
	const uint8_t *p = w->buf + (size_t)block * BLOCK;
	struct record_header h;
	struct err e = {.msg = ""};
	json_t *x;
	int rc = record_decode(p, sh->owner, (uint64_t)sh->index * blocks + block, &h, &e);

	if (rc < 0 && (rc != -EBADMSG || memcmp(p, "LSVDjrec", 8)))
		return 1; /* nothing, or of an earlier use by another volume */
	x = dump_new("record", w->s->name);
	dump_int(x, "segment", sh->index);
	dump_int(x, "block", block);
	if (rc < 0) {
		dump_err(w->d, x, rc, &e);
		dump_emit_row(w->d, x);
		return 1;
	}
	dump_int(x, "epoch", h.epoch);
	dump_int(x, "seq", h.seq);
	dump_int(x, "flushed", h.flushed);
	dump_int(x, "extents", h.extents);
	dump_int(x, "blocks", h.blocks);
	json_object_set_new(x, "old", json_boolean(h.epoch != sh->epoch || h.seq < sh->first_seq));
	bad = damaged_blocks(p, &h, blocks - block - 1);
	if (bad && h.epoch == sh->epoch)
		dump_problem(w->d, x, "%u of its %u blocks are damaged or were never written", bad,
			h.blocks);
	if (w->d->all)
		json_object_set_new(x, "extent_list", record_extents(p, h.extents));
	dump_emit_row(w->d, x);
	return bad ? 1 : 1 + h.blocks;
}

/* ---- cache summaries ---- */

static void dump_summary(struct pool_walk *w, uint32_t index, uint32_t block, uint32_t blocks)
{
	json_t *x = dump_new("summary", w->s->name), *list = json_array();
	struct cacheseg_head h = {0};
	struct err e = {.msg = ""};
	struct reader r;
	int rc = cacheseg_decode(
		w->buf + (size_t)block * BLOCK, (size_t)(blocks - block) * BLOCK, &h, &e);

	dump_int(x, "segment", index);
	dump_int(x, "block", block);
	dump_int(x, "generation", h.generation);
	dump_int(x, "alloc", h.alloc);
	dump_int(x, "chunk_bytes", h.chunk_bytes);
	dump_int(x, "first_block", h.first_block);
	dump_int(x, "next_block", h.next_block);
	dump_int(x, "entries", h.entries);
	if (rc < 0)
		dump_err(w->d, x, rc, &e);
	else
		r = cacheseg_entries(w->buf + (size_t)block * BLOCK, &h);
	for (uint32_t i = 0; rc == 0 && w->d->all && i < h.entries; i++) {
		struct cacheseg_entry c;
		json_t *j = json_object();

		cacheseg_next(&r, &c, NULL);
		dump_uuid(j, "uuid", c.uuid);
		dump_int(j, "epoch", c.epoch);
		dump_int(j, "seq", c.seq);
		dump_int(j, "chunk", c.chunk);
		dump_int(j, "block", c.block);
		dump_int(j, "from", c.from);
		dump_int(j, "blocks", c.blocks);
		json_array_append_new(list, j);
	}
	if (w->d->all)
		json_object_set(x, "entry_list", list);
	json_decref(list);
	dump_emit_row(w->d, x);
}

/* ---- segments ---- */

static void walk_inside(struct pool_walk *w, const struct segment_header *sh, uint64_t at)
{
	uint32_t blocks = (uint32_t)(w->h.segment_bytes / BLOCK), found = 0;
	int64_t n = w->s->read(w->s, at, w->buf, w->h.segment_bytes);

	if (n <= 0)
		return;
	memset(w->buf + n, 0, w->h.segment_bytes - (uint64_t)n);
	if (sh->role == ROLE_JOURNAL)
		for (uint32_t b = 1; b < blocks;)
			b += dump_record(w, sh, b);
	/* Two summaries, before the chunks: any further magic is a guest's data. */
	for (uint32_t b = 1; sh->role == ROLE_CACHE && b < blocks && found < 2; b++)
		if (!memcmp(w->buf + (size_t)b * BLOCK, "LSVDcseg", 8)) {
			dump_summary(w, sh->index, b, blocks);
			found++;
		}
}

static void dump_segment(struct pool_walk *w, uint32_t index)
{
	uint64_t at = pool_first_bytes(w->h.segment_bytes) + index * w->h.segment_bytes;
	json_t *x = dump_new("segment", w->s->name);
	struct segment_header sh = {0};
	uint8_t block[BLOCK] = {0};
	struct err e = {.msg = ""};
	int64_t n = w->s->read(w->s, at, block, BLOCK);
	static const uint8_t zeroes[BLOCK];
	int rc = 0;

	dump_int(x, "segment", index);
	dump_int(x, "offset_bytes", at);
	if (n != BLOCK) {
		dump_problem(w->d, x, "its header cannot be read");
	} else if (!memcmp(block, zeroes, BLOCK)) {
		dump_text(x, "role", "never used");
	} else {
		dump_reseal(w->d, x, block, BLOCK, HEADER_CRC_AT);
		rc = segment_header_decode(block, w->h.uuid, index, &sh, &e);
		dump_text(x, "role", role_name(sh.role));
		dump_uuid(x, "owner", sh.owner);
		dump_int(x, "alloc", sh.alloc);
		dump_int(x, "epoch", sh.epoch);
		dump_int(x, "first_seq", sh.first_seq);
		if (rc < 0)
			dump_err(w->d, x, rc, &e);
	}
	dump_emit_row(w->d, x);
	if (rc == 0 && sh.role != ROLE_FREE && w->buf)
		walk_inside(w, &sh, at);
}

void dump_pool(struct dump *d, struct dump_source *s)
{
	struct pool_walk w = {.d = d, .s = s};

	if (!dump_header(&w))
		return;
	if (d->records || d->all)
		w.buf = malloc(w.h.segment_bytes);
	for (uint32_t i = 0; i < w.h.segments; i++) {
		uint64_t at = pool_first_bytes(w.h.segment_bytes) + i * w.h.segment_bytes;

		if (at >= s->size_bytes)
			break;
		dump_segment(&w, i);
	}
	free(w.buf);
}
