/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/format_util.h"

#include "format/block.h"
#include "format/profile.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
	const char *name, *magic;
	size_t crc_at;
	bool block;
} about[SAMPLES] = {
	[SAMPLE_POOL] = {"pool", "LSVDpool", 16, true},
	[SAMPLE_SEGMENT] = {"segment", "LSVDpseg", 16, true},
	[SAMPLE_RECORD] = {"record", "LSVDjrec", 64, true},
	[SAMPLE_OBJECT] = {"object", "LSVDdata", 80, false},
	[SAMPLE_OBJECT_GC] = {"object-gc", "LSVDdata", 80, false},
	[SAMPLE_SUPERBLOCK] = {"superblock", "LSVDsupr", 12, false},
	[SAMPLE_CHECKPOINT] = {"checkpoint", "LSVDckpt", 12, false},
	[SAMPLE_CLONES] = {"clones", "LSVDclns", 12, false},
};

const char *sample_name(enum sample_kind kind)
{
	return about[kind].name;
}

size_t sample_crc_at(enum sample_kind kind)
{
	return about[kind].crc_at;
}

bool sample_is_block(enum sample_kind kind)
{
	return about[kind].block;
}

/* xorshift64*; never from the machine. */
static uint64_t draw(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545F4914F6CDD1Dull;
}

static uint64_t below(uint64_t *s, uint64_t n)
{
	return draw(s) % n;
}

/* Small, large or anything. */
static uint64_t number(uint64_t *s)
{
	uint64_t x = draw(s);

	return x >> (draw(s) % 60);
}

static void *zeroed(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	assert(p);
	return p;
}

static void draw_bytes(uint64_t *s, void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n--)
		*p++ = (uint8_t)(draw(s) >> 32);
}

static uint32_t *draw_crcs(uint64_t *s, uint32_t n)
{
	uint32_t *crc = zeroed(n, sizeof(*crc));

	for (uint32_t i = 0; i < n; i++)
		crc[i] = (uint32_t)draw(s);
	return crc;
}

static void bytes_of(struct sample *x, size_t len)
{
	x->len = len;
	x->bytes = malloc(len);
	assert(x->bytes);
	memset(x->bytes, 0xa5, len);
}

/* ---- one maker each ---- */

static void make_pool(struct sample *x, uint64_t *s, unsigned version)
{
	struct pool_header *h = &x->pool;

	draw_bytes(s, h->uuid, 16);
	h->segment_bytes = 1ull << (18 + below(s, 13));
	h->segments = (uint32_t)(1 + number(s) % UINT32_MAX);
	h->legs = (uint8_t)((version > 1 ? 3 : 1) + below(s, 2));
	h->leg = (uint8_t)below(s, h->legs);
	h->members = (uint8_t)((1u << h->legs) - 1);
	h->created_ns = number(s);
	h->generation = 1 + number(s) / 2;
	for (unsigned i = 0; i < POOL_OPENINGS; i++)
		h->opening[i] = draw(s);
	if (version > 1)
		h->members &= (uint8_t)(below(s, 16) | 1u << h->leg);
	bytes_of(x, SEGMENT_BLOCK);
	pool_header_encode(h, x->bytes);
}

static void make_segment(struct sample *x, uint64_t *s)
{
	struct segment_header *h = &x->segment;

	draw_bytes(s, h->pool_uuid, 16);
	draw_bytes(s, h->owner, 16);
	h->index = (uint32_t)number(s);
	h->role = (uint8_t)below(s, 3);
	h->alloc = number(s);
	h->epoch = number(s);
	h->first_seq = number(s);
	bytes_of(x, SEGMENT_BLOCK);
	segment_header_encode(h, x->bytes);
}

static void make_record(struct sample *x, uint64_t *s)
{
	struct record_header *h = &x->record;
	uint32_t off = 0, n = (uint32_t)(1 + below(s, below(s, 2) ? 8 : 100));

	x->rext = zeroed(RECORD_EXTENTS_MAX, sizeof(*x->rext));
	draw_bytes(s, h->uuid, 16);
	h->epoch = number(s);
	h->seq = 1 + number(s) / 2;
	h->flushed = below(s, h->seq);
	h->place = number(s);
	for (uint32_t i = 0; i < n; i++) {
		struct record_extent *e = &x->rext[i];
		uint32_t len = (uint32_t)(1 + below(s, 32)), blocks;

		e->kind = (uint8_t)(below(s, 4) ? 0 : 1 + below(s, 2));
		if (e->kind == EXTENT_DATA && off % 8 && len >= 8)
			off += 8 - off % 8;
		blocks = (off + (e->kind == EXTENT_DATA ? len : 0) + 7) / 8;
		if (!record_fits(i + 1, blocks) || blocks > 256)
			break;
		e->len = e->kind == EXTENT_DATA ? len : (uint32_t)(1 + number(s) % (1u << 30));
		e->lba = below(s, BLOCK_LBA_MAX - e->len + 1);
		if (e->kind == EXTENT_DATA) {
			e->off = off;
			off += len;
		}
		h->extents = i + 1;
		h->blocks = blocks;
	}
	/* Padding before an extent that did not fit leaves no block of its own. */
	x->crc = draw_crcs(s, h->blocks);
	bytes_of(x, RECORD_BLOCK);
	record_encode(h, x->rext, x->crc, x->bytes);
}

/* Of either version; object_header_bytes() knows the newest. */
static uint32_t header_bytes_of(const struct object_header *h)
{
	uint32_t extent = h->flags & OBJECT_FLAG_GC ? 32 : 16,
		 chunk = h->crc_bytes == OBJECT_CRC_BYTES_V1 ? 8 : 4;

	return (OBJECT_FIXED_BYTES + h->extents * extent + h->chunks * chunk + 4095) / 4096 * 4096;
}

static void make_object(struct sample *x, uint64_t *s, uint16_t flags, unsigned version)
{
	struct object_header *h = &x->object;
	uint64_t lba = 0;

	draw_bytes(s, h->uuid, 16);
	h->epoch = number(s);
	h->seq = 2 + number(s) / 2;
	h->covers = number(s);
	h->flags = flags;
	h->data_bytes = (uint32_t)below(s, 40) * 4096;
	h->crc_bytes = version == 1 ? OBJECT_CRC_BYTES_V1 : OBJECT_CRC_BYTES;
	h->chunks = object_chunk_count(h->data_bytes, h->crc_bytes);
	h->extents = (uint32_t)below(s, below(s, 2) ? 20 : 300);
	if (flags && !h->data_bytes)
		h->extents = 0;
	x->oext = zeroed(h->extents, sizeof(*x->oext));
	for (uint32_t i = 0; i < h->extents; i++) {
		struct object_extent *e = &x->oext[i];
		uint64_t data = h->data_bytes / 512;

		e->lba = lba += below(s, 3) ? below(s, 1ull << 30) : 0;
		e->kind = (uint8_t)(flags ? 0 : below(s, 3));
		if (!data && e->kind == EXTENT_DATA)
			e->kind = EXTENT_ZERO;
		e->len = (uint32_t)(1 + below(s, e->kind == EXTENT_DATA ? data : 1u << 20));
		lba += e->len;
		if (e->kind == EXTENT_DATA)
			e->off = (uint32_t)below(s, data - e->len + 1);
		if (flags) {
			e->old_seq = 1 + below(s, h->seq - 1);
			e->old_off = (uint32_t)below(s, OBJECT_DATA_MAX / 512 - e->len + 1);
		}
	}
	h->header_bytes = header_bytes_of(h);
	x->crc = draw_crcs(s, h->chunks);
	bytes_of(x, h->header_bytes);
	object_encode(h, x->oext, x->crc, x->bytes);
}

static void draw_name(uint64_t *s, char *name, size_t max, uint64_t unique)
{
	int n = snprintf(name, max, "%" PRIu64 "-", unique);

	for (size_t i = (size_t)n, end = i + below(s, max - i); i < end; i++)
		name[i] = (char)('a' + below(s, 26));
}

static void make_snapshots(struct superblock *sb, uint64_t *s)
{
	uint64_t seq = sb->epoch[0].first_seq - 1, checkpoint = sb->checkpoint;

	sb->snapshots = (uint32_t)below(s, below(s, 8) ? 5 : SUPERBLOCK_SNAPSHOTS_MAX + 1);
	for (uint32_t i = 0; i < sb->snapshots; i++) {
		struct superblock_snapshot *x = &sb->snapshot[i];

		sb->next_snapshot += below(s, 3);
		x->id = sb->next_snapshot++;
		x->size_sectors = 1 + below(s, BLOCK_LBA_MAX);
		x->object_seq = number(s);
		x->epoch = number(s);
		x->checkpoint = below(s, checkpoint + 1);
		x->checkpoint_epoch = number(s);
		x->created_ns = number(s);
		x->flags = (uint32_t)below(s, SNAPSHOT_FLAGS + 1);
		draw_name(s, x->name, sizeof(x->name), i);
	}
	sb->bases = (uint32_t)below(s, below(s, 4) ? 3 : SUPERBLOCK_BASES_MAX + 1);
	for (uint32_t i = sb->bases; i-- > 0;) {
		struct superblock_base *x = &sb->base[i];

		draw_bytes(s, x->uuid, 16);
		x->snapshot = 1 + number(s) / 2;
		x->object_seq = seq = below(s, seq + 1);
		x->checkpoint = checkpoint = below(s, checkpoint + 1);
		x->checkpoint_epoch = number(s);
		draw_name(s, x->name, sizeof(x->name), i);
	}
	sb->profile_base = (uint32_t)below(s, sb->bases + 1);
}

static void make_superblock(struct sample *x, uint64_t *s, unsigned version)
{
	struct superblock *sb = x->superblock = zeroed(1, sizeof(*sb));
	uint64_t epoch = below(s, 5), seq = 1 + below(s, 5);

	draw_bytes(s, sb->uuid, 16);
	sb->range_sectors = 1ull << (13 + below(s, 10));
	sb->size_sectors = 1 + below(s, BLOCK_LBA_MAX);
	sb->created_ns = number(s);
	sb->checkpoint = number(s);
	sb->checkpoint_epoch = number(s);
	sb->profile_bytes = below(s, 2) ? PROFILE_FIXED_BYTES + 16 * below(s, 1 << 20) : 0;
	draw_bytes(s, sb->pool_uuid, 16);
	sb->pool_generation = number(s);
	for (unsigned i = 0; i < below(s, 63); i++)
		sb->host[i] = (char)('a' + below(s, 26));
	sb->pid = (uint32_t)draw(s);
	sb->since_ns = number(s);
	sb->clean = below(s, 2);
	sb->epochs = (uint32_t)(1 + below(s, below(s, 4) ? 6 : SUPERBLOCK_EPOCHS_MAX));
	for (uint32_t i = 0; i < sb->epochs; i++) {
		sb->epoch[i] = (struct superblock_epoch){.epoch = epoch, .first_seq = seq};
		epoch += 1 + below(s, 3);
		seq += below(s, 2) * number(s) / 4096;
	}
	sb->next_snapshot = 1;
	if (version > 1)
		make_snapshots(sb, s);
	bytes_of(x, SUPERBLOCK_BYTES);
	x->len = superblock_encode(sb, x->bytes);
	x->bytes = realloc(x->bytes, x->len);
}

static void make_deferred(struct sample *x, uint64_t *s)
{
	struct checkpoint_header *h = &x->checkpoint;

	x->deferred = zeroed(h->deferred, sizeof(*x->deferred));
	for (uint32_t i = 0; i < h->deferred; i++) {
		struct checkpoint_deferred *d = &x->deferred[i];

		d->seq = 1 + below(s, h->object_seq);
		d->epoch = number(s);
		d->died = d->seq + 1 + below(s, h->object_seq + 1 - d->seq);
		d->hdr_sectors = (uint32_t)(8 * (1 + below(s, 20)));
		d->data_sectors = (uint32_t)(8 * below(s, 4096));
	}
	x->kept = zeroed(h->kept, sizeof(*x->kept));
	for (uint32_t i = 0; i < h->kept; i++) {
		struct checkpoint_kept *k = &x->kept[i];

		k->x = (struct checkpoint_live){.number = 1 + below(s, h->number - 1),
			.epoch = number(s),
			.meta_bytes = 4096 * (1 + below(s, 100)),
			.payload_bytes = below(s, 1000) * CHECKPOINT_EXTENT_BYTES};
		k->died = k->x.number + 1 + below(s, h->number - k->x.number);
	}
	for (uint32_t i = 0; i < h->dirs; i++) {
		x->dirs[i].halvings = (uint32_t)below(s, CHECKPOINT_HALVINGS_MAX + 1);
		x->dirs[i].piece = (uint32_t)below(s, 1u << x->dirs[i].halvings);
	}
}

static struct checkpoint_sections sections(const struct sample *x)
{
	return (struct checkpoint_sections){.live = x->live,
		.objects = x->objects,
		.removed = x->removed,
		.dirs = x->dirs,
		.deferred = x->deferred,
		.kept = x->kept};
}

static void make_checkpoint(struct sample *x, uint64_t *s, unsigned version)
{
	struct checkpoint_header *h = &x->checkpoint;
	struct checkpoint_sections all;
	uint64_t more = *s ^ 0x5555555555555555;

	draw_bytes(s, h->uuid, 16);
	h->live = (uint32_t)(1 + below(s, 6));
	h->objects = (uint32_t)below(s, 200);
	h->removed = (uint32_t)below(s, 60);
	h->dirs = (uint32_t)below(s, 100);
	h->epoch = number(s);
	h->number = 100 + number(s) / 2;
	h->full_number = 1 + below(s, h->number);
	h->object_seq = 1 + number(s) / 2;
	h->covers = number(s);
	h->payload_bytes = below(s, 10000) * CHECKPOINT_EXTENT_BYTES;
	h->slices = h->full_number == h->number ? CHECKPOINT_ALL_SLICES : 0;
	if (version > 1) {
		h->deferred = (uint32_t)below(&more, 40);
		h->kept = (uint32_t)below(&more, 10);
		h->slices = (uint32_t)below(&more, CHECKPOINT_ALL_SLICES + 1);
	}
	h->meta_bytes = checkpoint_meta_bytes(h);
	x->live = zeroed(h->live, sizeof(*x->live));
	for (uint32_t i = 0; i < h->live; i++)
		x->live[i] = (struct checkpoint_live){.number = h->number - (h->live - 1 - i),
			.epoch = number(s),
			.meta_bytes = 4096 * (1 + below(s, 100)),
			.payload_bytes = below(s, 1000) * CHECKPOINT_EXTENT_BYTES};
	x->live[h->live - 1] =
		(struct checkpoint_live){h->number, h->epoch, h->meta_bytes, h->payload_bytes};
	x->objects = zeroed(h->objects, sizeof(*x->objects));
	for (uint32_t i = 0; i < h->objects; i++) {
		struct checkpoint_object *o = &x->objects[i];

		o->seq = 1 + below(s, h->object_seq);
		o->epoch = number(s);
		o->hdr_sectors = (uint32_t)(8 * (1 + below(s, 20)));
		o->data_sectors = (uint32_t)(8 * below(s, 4096));
		o->live_sectors = (uint32_t)below(s, o->data_sectors + 1);
		o->flags = (uint32_t)below(s, 4);
	}
	x->removed = zeroed(h->removed, sizeof(*x->removed));
	for (uint32_t i = 0; i < h->removed; i++)
		x->removed[i] = number(s);
	x->dirs = zeroed(h->dirs, sizeof(*x->dirs));
	for (uint32_t i = 0; i < h->dirs; i++) {
		struct checkpoint_dir *d = &x->dirs[i];
		uint64_t extents = h->payload_bytes / CHECKPOINT_EXTENT_BYTES;

		d->range = below(s, 1 << 20);
		d->number = below(s, 2) ? h->number : 1 + below(s, h->number);
		d->extents = (uint32_t)below(s, extents + 1);
		d->offset_bytes = below(s, extents - d->extents + 1) * CHECKPOINT_EXTENT_BYTES;
		d->crc = (uint32_t)draw(s);
	}
	if (version > 1)
		make_deferred(x, &more);
	bytes_of(x, h->meta_bytes);
	all = sections(x);
	checkpoint_encode(h, &all, x->bytes);
}

static void make_clones(struct sample *x, uint64_t *s)
{
	struct clones *c = x->clones = zeroed(1, sizeof(*c));

	draw_bytes(s, c->uuid, 16);
	c->n = (uint32_t)below(s, below(s, 8) ? 5 : CLONES_MAX + 1);
	for (uint32_t i = 0; i < c->n; i++) {
		struct clone_entry *e = &c->entry[i];

		draw_bytes(s, e->uuid, 16);
		e->snapshot = number(s);
		e->state = (uint32_t)below(s, CLONE_STATES);
		if (e->state != CLONE_BARRED)
			draw_name(s, e->name, sizeof(e->name), i);
	}
	bytes_of(x, CLONES_BYTES);
	x->len = clones_encode(c, x->bytes);
	x->bytes = realloc(x->bytes, x->len);
}

/* ---- older versions ---- */

unsigned sample_versions(enum sample_kind kind)
{
	switch (kind) {
	case SAMPLE_SUPERBLOCK:
	case SAMPLE_CHECKPOINT:
	case SAMPLE_POOL:
	case SAMPLE_OBJECT:
	case SAMPLE_OBJECT_GC:
		return 2;
	default:
		return 1;
	}
}

/* The bytes of the newest version, of contents that version 1 knew, become those of version 1. */
static void downgrade(enum sample_kind kind, uint8_t *b, size_t len)
{
	size_t at = kind == SAMPLE_SUPERBLOCK ? 192 : 104,
	       end = kind == SAMPLE_SUPERBLOCK ? 240 : 128;

	memset(b + at, 0, end - at);
	b[8] = 1;
	block_seal(b, len, about[kind].crc_at);
}

void sample_make_version(struct sample *x, enum sample_kind kind, uint64_t seed, unsigned version)
{
	uint64_t s = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;

	if (version == sample_versions(kind)) {
		sample_make(x, kind, seed);
		return;
	}
	*x = (struct sample){.kind = kind};
	if (kind == SAMPLE_POOL) {
		make_pool(x, &s, version);
		return;
	}
	if (kind == SAMPLE_OBJECT || kind == SAMPLE_OBJECT_GC) {
		make_object(x, &s, kind == SAMPLE_OBJECT ? 0 : OBJECT_FLAG_GC, version);
		return;
	}
	if (kind == SAMPLE_SUPERBLOCK)
		make_superblock(x, &s, version);
	else
		make_checkpoint(x, &s, version);
	downgrade(kind, x->bytes, x->len);
}

void sample_make(struct sample *x, enum sample_kind kind, uint64_t seed)
{
	uint64_t s = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;

	*x = (struct sample){.kind = kind};
	switch (kind) {
	case SAMPLE_POOL:
		make_pool(x, &s, 2);
		break;
	case SAMPLE_SEGMENT:
		make_segment(x, &s);
		break;
	case SAMPLE_RECORD:
		make_record(x, &s);
		break;
	case SAMPLE_OBJECT:
		make_object(x, &s, 0, 2);
		break;
	case SAMPLE_OBJECT_GC:
		make_object(x, &s, OBJECT_FLAG_GC, 2);
		break;
	case SAMPLE_SUPERBLOCK:
		make_superblock(x, &s, 2);
		break;
	case SAMPLE_CLONES:
		make_clones(x, &s);
		break;
	case SAMPLE_CHECKPOINT:
	default:
		make_checkpoint(x, &s, 2);
	}
}

void sample_free(struct sample *x)
{
	if (x->kind == SAMPLE_SUPERBLOCK)
		free(x->superblock);
	if (x->kind == SAMPLE_CLONES)
		free(x->clones);
	free(x->rext), free(x->oext), free(x->crc);
	free(x->live), free(x->objects), free(x->removed), free(x->dirs);
	free(x->deferred), free(x->kept);
	free(x->bytes);
}

/* ---- decoding ---- */

int sample_decode(const struct sample *x, const uint8_t *b, size_t len, struct err *e)
{
	union {
		struct pool_header pool;
		struct segment_header segment;
		struct record_header record;
		struct object_header object;
		struct checkpoint_header checkpoint;
	} h;
	struct superblock *sb;
	struct clones *c;
	int rc;

	switch (x->kind) {
	case SAMPLE_POOL:
		return pool_header_decode(b, &h.pool, e);
	case SAMPLE_SEGMENT:
		return segment_header_decode(
			b, x->segment.pool_uuid, x->segment.index, &h.segment, e);
	case SAMPLE_RECORD:
		return record_decode(b, x->record.uuid, x->record.place, &h.record, e);
	case SAMPLE_OBJECT:
	case SAMPLE_OBJECT_GC:
		return object_decode(
			b, len, x->object.uuid, x->object.epoch, x->object.seq, &h.object, e);
	case SAMPLE_SUPERBLOCK:
		sb = zeroed(1, sizeof(*sb));
		rc = superblock_decode(b, len, sb, e);
		free(sb);
		return rc;
	case SAMPLE_CLONES:
		c = zeroed(1, sizeof(*c));
		rc = clones_decode(b, len, c, e);
		free(c);
		return rc;
	default:
		return checkpoint_decode(b, len, x->checkpoint.uuid, x->checkpoint.epoch,
			x->checkpoint.number, &h.checkpoint, e);
	}
}

/* ---- decoding and encoding again ---- */

static int again_record(struct sample *x, const uint8_t *b)
{
	struct record_header *h = &x->record;
	struct reader place = reader_of(b + 48, 8);
	int rc = record_decode(b, b + 16, get_u64(&place), h, NULL);

	if (rc < 0)
		return rc;
	x->rext = zeroed(h->extents, sizeof(*x->rext));
	x->crc = zeroed(h->blocks, sizeof(*x->crc));
	for (uint32_t i = 0; i < h->extents; i++)
		record_get_extent(b, i, &x->rext[i]);
	for (uint32_t i = 0; i < h->blocks; i++)
		x->crc[i] = record_get_crc(b, h, i);
	bytes_of(x, RECORD_BLOCK);
	record_encode(h, x->rext, x->crc, x->bytes);
	return 0;
}

static int again_object(struct sample *x, const uint8_t *b, size_t len)
{
	struct object_header *h = &x->object, fixed;
	int rc = object_decode_fixed(b, len, &fixed, NULL);

	if (rc == 0)
		rc = object_decode(b, len, NULL, fixed.epoch, fixed.seq, h, NULL);
	if (rc < 0)
		return rc;
	x->oext = zeroed(h->extents, sizeof(*x->oext));
	x->crc = zeroed(h->chunks, sizeof(*x->crc));
	for (uint32_t i = 0; i < h->extents; i++)
		object_get_extent(b, h, i, &x->oext[i]);
	for (uint32_t i = 0; i < h->chunks; i++)
		x->crc[i] = object_get_crc(b, h, i);
	bytes_of(x, h->header_bytes);
	object_encode(h, x->oext, x->crc, x->bytes);
	return 0;
}

static int again_superblock(struct sample *x, const uint8_t *b, size_t len)
{
	int rc;

	x->superblock = zeroed(1, sizeof(*x->superblock));
	rc = superblock_decode(b, len, x->superblock, NULL);
	if (rc < 0)
		return rc;
	bytes_of(x, SUPERBLOCK_BYTES);
	x->len = superblock_encode(x->superblock, x->bytes);
	if (b[8] == 1)
		downgrade(x->kind, x->bytes, x->len);
	return 0;
}

static int again_clones(struct sample *x, const uint8_t *b, size_t len)
{
	int rc;

	x->clones = zeroed(1, sizeof(*x->clones));
	rc = clones_decode(b, len, x->clones, NULL);
	if (rc < 0)
		return rc;
	bytes_of(x, CLONES_BYTES);
	x->len = clones_encode(x->clones, x->bytes);
	return 0;
}

static int again_checkpoint(struct sample *x, const uint8_t *b, size_t len)
{
	struct checkpoint_header *h = &x->checkpoint, fixed;
	struct checkpoint_sections all;
	int rc = checkpoint_decode_fixed(b, len, &fixed, NULL);

	if (rc == 0)
		rc = checkpoint_decode(b, len, fixed.uuid, fixed.epoch, fixed.number, h, NULL);
	if (rc < 0)
		return rc;
	x->live = zeroed(h->live, sizeof(*x->live));
	x->objects = zeroed(h->objects, sizeof(*x->objects));
	x->removed = zeroed(h->removed, sizeof(*x->removed));
	x->dirs = zeroed(h->dirs, sizeof(*x->dirs));
	x->deferred = zeroed(h->deferred, sizeof(*x->deferred));
	x->kept = zeroed(h->kept, sizeof(*x->kept));
	for (uint32_t i = 0; i < h->live; i++)
		checkpoint_get_live(b, h, i, &x->live[i]);
	for (uint32_t i = 0; i < h->objects; i++)
		checkpoint_get_object(b, h, i, &x->objects[i]);
	for (uint32_t i = 0; i < h->removed; i++)
		x->removed[i] = checkpoint_get_removed(b, h, i);
	for (uint32_t i = 0; i < h->dirs; i++)
		checkpoint_get_dir(b, h, i, &x->dirs[i]);
	for (uint32_t i = 0; i < h->deferred; i++)
		checkpoint_get_deferred(b, h, i, &x->deferred[i]);
	for (uint32_t i = 0; i < h->kept; i++)
		checkpoint_get_kept(b, h, i, &x->kept[i]);
	bytes_of(x, h->meta_bytes);
	all = sections(x);
	checkpoint_encode(h, &all, x->bytes);
	if (b[8] == 1)
		downgrade(x->kind, x->bytes, x->len);
	return 0;
}

static int again_block(struct sample *x, const uint8_t *b)
{
	struct reader index = reader_of(b + 56, 4);
	int rc = x->kind == SAMPLE_POOL
			 ? pool_header_decode(b, &x->pool, NULL)
			 : segment_header_decode(b, b + 24, get_u32(&index), &x->segment, NULL);

	if (rc < 0)
		return rc;
	bytes_of(x, SEGMENT_BLOCK);
	if (x->kind == SAMPLE_POOL)
		pool_header_encode(&x->pool, x->bytes);
	else
		segment_header_encode(&x->segment, x->bytes);
	return 0;
}

int sample_reencode(
	enum sample_kind kind, const uint8_t *b, size_t len, uint8_t **again, size_t *again_len)
{
	struct sample x = {.kind = kind};
	int rc = -EUCLEAN;

	if (!about[kind].block || len >= SEGMENT_BLOCK)
		rc = kind <= SAMPLE_SEGMENT	 ? again_block(&x, b)
		     : kind == SAMPLE_RECORD	 ? again_record(&x, b)
		     : kind <= SAMPLE_OBJECT_GC	 ? again_object(&x, b, len)
		     : kind == SAMPLE_SUPERBLOCK ? again_superblock(&x, b, len)
		     : kind == SAMPLE_CLONES	 ? again_clones(&x, b, len)
						 : again_checkpoint(&x, b, len);
	*again = x.bytes;
	*again_len = x.len;
	x.bytes = NULL;
	sample_free(&x);
	return rc;
}

/* ---- fuzzing ---- */

static void fuzz_one(enum sample_kind kind, const uint8_t *b, size_t len)
{
	uint8_t *again = NULL;
	size_t n = 0;

	if (sample_reencode(kind, b, len, &again, &n) == 0) {
		assert(n <= len);
		assert(!memcmp(again, b, n));
	}
	free(again);
}

/* The checksum covers what the header says it does, where that is within what there is. */
static size_t sealed_bytes(enum sample_kind kind, const uint8_t *b, size_t len)
{
	struct reader r = reader_of(b + (kind == SAMPLE_CHECKPOINT ? 72 : 12), 8);
	uint64_t n = len;

	if (about[kind].block)
		n = SEGMENT_BLOCK;
	else if (kind == SAMPLE_CHECKPOINT)
		n = get_u64(&r);
	else if (kind != SAMPLE_SUPERBLOCK && kind != SAMPLE_CLONES)
		n = get_u32(&r);
	return n > len ? 0 : (size_t)n;
}

void sample_fuzz(enum sample_kind kind, const uint8_t *data, size_t len)
{
	uint8_t *b;
	size_t n;

	fuzz_one(kind, data, len);
	if (len < 96)
		return;
	b = malloc(len);
	assert(b);
	memcpy(b, data, len);
	memcpy(b, about[kind].magic, 8);
	b[9] = 0;
	n = sealed_bytes(kind, b, len);
	for (unsigned v = 1; n >= 96 && v <= sample_versions(kind); v++) {
		b[8] = (uint8_t)v;
		block_seal(b, n, about[kind].crc_at);
		fuzz_one(kind, b, len);
	}
	free(b);
}
