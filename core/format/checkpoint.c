/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/checkpoint.h"

#include "format/block.h"
#include "format/object.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	VERSION = 2,
	VERSION_AT = 8,
	CRC_AT = 12,
	LIVE_BYTES = 32,
	OBJECT_BYTES = 32,
	REMOVED_BYTES = 8,
	DIR_BYTES = 32,
	DEFERRED_BYTES = 32,
	KEPT_BYTES = 40
};

static const char magic[8] = "LSVDckpt";

static uint64_t live_at(void)
{
	return CHECKPOINT_FIXED_BYTES;
}
static uint64_t objects_at(const struct checkpoint_header *h)
{
	return live_at() + (uint64_t)h->live * LIVE_BYTES;
}

static uint64_t removed_at(const struct checkpoint_header *h)
{
	return objects_at(h) + (uint64_t)h->objects * OBJECT_BYTES;
}

static uint64_t dirs_at(const struct checkpoint_header *h)
{
	return removed_at(h) + (uint64_t)h->removed * REMOVED_BYTES;
}

static uint64_t deferred_at(const struct checkpoint_header *h)
{
	return dirs_at(h) + (uint64_t)h->dirs * DIR_BYTES;
}

static uint64_t kept_at(const struct checkpoint_header *h)
{
	return deferred_at(h) + (uint64_t)h->deferred * DEFERRED_BYTES;
}

static uint64_t end_at(const struct checkpoint_header *h)
{
	return kept_at(h) + (uint64_t)h->kept * KEPT_BYTES;
}

uint64_t checkpoint_meta_bytes(const struct checkpoint_header *h)
{
	return block_round_up(end_at(h), CHECKPOINT_ALIGN);
}

static void put_fixed(struct writer *w, const struct checkpoint_header *h)
{
	put_bytes(w, magic, 8);
	put_u16(w, VERSION);
	put_u16(w, 0);
	put_u32(w, 0); /* CRC */
	put_bytes(w, h->uuid, 16);
	put_u64(w, h->epoch);
	put_u64(w, h->number);
	put_u64(w, h->full_number);
	put_u64(w, h->object_seq);
	put_u64(w, h->covers);
	put_u64(w, h->meta_bytes);
	put_u64(w, h->payload_bytes);
	put_u32(w, h->live);
	put_u32(w, h->objects);
	put_u32(w, h->removed);
	put_u32(w, h->dirs);
	put_u32(w, h->deferred);
	put_u32(w, h->kept);
	put_u32(w, h->slices);
	put_zeroes(w, 12);
}

static void put_live(struct writer *w, const struct checkpoint_live *x)
{
	put_u64(w, x->number);
	put_u64(w, x->epoch);
	put_u64(w, x->meta_bytes);
	put_u64(w, x->payload_bytes);
}

static void put_object(struct writer *w, const struct checkpoint_object *x)
{
	put_u64(w, x->seq);
	put_u64(w, x->epoch);
	put_u32(w, x->hdr_sectors);
	put_u32(w, x->data_sectors);
	put_u32(w, x->live_sectors);
	put_u32(w, x->flags);
}

static void put_dir(struct writer *w, const struct checkpoint_dir *x)
{
	put_u64(w, block_tag(x->range << x->halvings | x->piece, (uint8_t)x->halvings));
	put_u64(w, x->number);
	put_u64(w, x->offset_bytes);
	put_u32(w, x->extents);
	put_u32(w, x->crc);
}

static void put_deferred(struct writer *w, const struct checkpoint_deferred *x)
{
	put_u64(w, x->seq);
	put_u64(w, x->epoch);
	put_u64(w, x->died);
	put_u32(w, x->hdr_sectors);
	put_u32(w, x->data_sectors);
}

void checkpoint_encode(
	const struct checkpoint_header *h, const struct checkpoint_sections *s, void *buf)
{
	struct writer w = writer_of(buf, h->meta_bytes);

	put_fixed(&w, h);
	for (uint32_t i = 0; i < h->live; i++)
		put_live(&w, &s->live[i]);
	for (uint32_t i = 0; i < h->objects; i++)
		put_object(&w, &s->objects[i]);
	for (uint32_t i = 0; i < h->removed; i++)
		put_u64(&w, s->removed[i]);
	for (uint32_t i = 0; i < h->dirs; i++)
		put_dir(&w, &s->dirs[i]);
	for (uint32_t i = 0; i < h->deferred; i++)
		put_deferred(&w, &s->deferred[i]);
	for (uint32_t i = 0; i < h->kept; i++) {
		put_live(&w, &s->kept[i].x);
		put_u64(&w, s->kept[i].died);
	}
	assert(!w.bad);
	put_zeroes(&w, (size_t)(w.end - w.p));
	block_seal(buf, h->meta_bytes, CRC_AT);
}

int checkpoint_decode_fixed(const void *buf, size_t len, struct checkpoint_header *h, struct err *e)
{
	struct reader r = reader_of(buf, len);
	int rc = block_check_magic(&r, magic, VERSION, "checkpoint", e);

	if (rc < 0)
		return rc;
	memset(h, 0, sizeof(*h));
	get_zeroes(&r, 2);
	reader_take(&r, 4);
	get_bytes(&r, h->uuid, 16);
	h->epoch = get_u64(&r);
	h->number = get_u64(&r);
	h->full_number = get_u64(&r);
	h->object_seq = get_u64(&r);
	h->covers = get_u64(&r);
	h->meta_bytes = get_u64(&r);
	h->payload_bytes = get_u64(&r);
	h->live = get_u32(&r);
	h->objects = get_u32(&r);
	h->removed = get_u32(&r);
	h->dirs = get_u32(&r);
	h->deferred = h->kept = h->slices = 0;
	if (len > VERSION_AT && ((const uint8_t *)buf)[VERSION_AT] > 1) {
		h->deferred = get_u32(&r);
		h->kept = get_u32(&r);
		h->slices = get_u32(&r);
		get_zeroes(&r, 12);
	} else {
		get_zeroes(&r, 24);
		/* Version 1 listed all or nothing. */
		h->slices = h->full_number == h->number ? CHECKPOINT_ALL_SLICES : 0;
	}
	if (r.bad || h->slices & ~(uint32_t)CHECKPOINT_ALL_SLICES ||
		h->meta_bytes != checkpoint_meta_bytes(h) || h->meta_bytes > CHECKPOINT_META_MAX ||
		h->payload_bytes > CHECKPOINT_PAYLOAD_MAX ||
		h->payload_bytes % CHECKPOINT_EXTENT_BYTES || !h->live || !h->full_number ||
		h->full_number > h->number)
		return err_set(e, -EUCLEAN, "checkpoint: impossible values");
	return 0;
}

static struct reader section(const void *buf, uint64_t at, uint32_t i, size_t size)
{
	return reader_of((const uint8_t *)buf + at + (uint64_t)i * size, size);
}

static void get_live(struct reader *r, struct checkpoint_live *x)
{
	x->number = get_u64(r);
	x->epoch = get_u64(r);
	x->meta_bytes = get_u64(r);
	x->payload_bytes = get_u64(r);
}

void checkpoint_get_live(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_live *x)
{
	struct reader r = section(buf, live_at(), i, LIVE_BYTES);

	(void)h;
	get_live(&r, x);
}

void checkpoint_get_object(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_object *x)
{
	struct reader r = section(buf, objects_at(h), i, OBJECT_BYTES);

	x->seq = get_u64(&r);
	x->epoch = get_u64(&r);
	x->hdr_sectors = get_u32(&r);
	x->data_sectors = get_u32(&r);
	x->live_sectors = get_u32(&r);
	x->flags = get_u32(&r);
}

uint64_t checkpoint_get_removed(const void *buf, const struct checkpoint_header *h, uint32_t i)
{
	struct reader r = section(buf, removed_at(h), i, REMOVED_BYTES);

	return get_u64(&r);
}

void checkpoint_get_dir(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_dir *x)
{
	struct reader r = section(buf, dirs_at(h), i, DIR_BYTES);
	uint64_t place = get_u64(&r);

	x->halvings = block_kind(place);
	/* The shift is checked with the entry; until then it must not be undefined. */
	x->range = block_untag(place) >> (x->halvings & 31);
	x->piece = (uint32_t)(block_untag(place) & ((1u << (x->halvings & 31)) - 1));
	x->number = get_u64(&r);
	x->offset_bytes = get_u64(&r);
	x->extents = get_u32(&r);
	x->crc = get_u32(&r);
}

void checkpoint_get_deferred(const void *buf, const struct checkpoint_header *h, uint32_t i,
	struct checkpoint_deferred *x)
{
	struct reader r = section(buf, deferred_at(h), i, DEFERRED_BYTES);

	x->seq = get_u64(&r);
	x->epoch = get_u64(&r);
	x->died = get_u64(&r);
	x->hdr_sectors = get_u32(&r);
	x->data_sectors = get_u32(&r);
}

void checkpoint_get_kept(
	const void *buf, const struct checkpoint_header *h, uint32_t i, struct checkpoint_kept *x)
{
	struct reader r = section(buf, kept_at(h), i, KEPT_BYTES);

	get_live(&r, &x->x);
	x->died = get_u64(&r);
}

void checkpoint_put_extent(void *at, const struct checkpoint_extent *x)
{
	struct writer w = writer_of(at, CHECKPOINT_EXTENT_BYTES);

	put_u64(&w, x->lba);
	put_u64(&w, x->seq);
	put_u32(&w, x->len);
	put_u32(&w, x->off);
}

/* ---- checking ---- */

static bool live_sized(const struct checkpoint_live *x)
{
	return x->payload_bytes <= CHECKPOINT_PAYLOAD_MAX && x->meta_bytes <= CHECKPOINT_META_MAX &&
	       x->meta_bytes >= CHECKPOINT_FIXED_BYTES;
}

/* Numbers rise, and the last is this one. */
static bool lives_possible(const void *buf, const struct checkpoint_header *h)
{
	struct checkpoint_live x = {0};
	uint64_t before = 0;

	for (uint32_t i = 0; i < h->live; i++) {
		checkpoint_get_live(buf, h, i, &x);
		if (x.number <= before || !live_sized(&x))
			return false;
		before = x.number;
	}
	return x.number == h->number && x.epoch == h->epoch && x.meta_bytes == h->meta_bytes &&
	       x.payload_bytes == h->payload_bytes;
}

static bool sectors_possible(uint32_t hdr_sectors, uint32_t data_sectors)
{
	return hdr_sectors && hdr_sectors <= OBJECT_HEADER_MAX / 512 &&
	       data_sectors <= OBJECT_DATA_MAX / 512;
}

static bool objects_possible(const void *buf, const struct checkpoint_header *h)
{
	struct checkpoint_object x;

	for (uint32_t i = 0; i < h->objects; i++) {
		checkpoint_get_object(buf, h, i, &x);
		if (!x.seq || x.seq > h->object_seq ||
			!sectors_possible(x.hdr_sectors, x.data_sectors) ||
			x.live_sectors > x.data_sectors ||
			x.flags & ~(uint32_t)CHECKPOINT_OBJECT_FLAGS)
			return false;
	}
	return true;
}

static bool dirs_possible(const void *buf, const struct checkpoint_header *h)
{
	/* Version 1 knew no halves. */
	uint32_t halvings = ((const uint8_t *)buf)[VERSION_AT] > 1 ? CHECKPOINT_HALVINGS_MAX : 0;
	struct checkpoint_dir x;

	for (uint32_t i = 0; i < h->dirs; i++) {
		uint64_t len;

		checkpoint_get_dir(buf, h, i, &x);
		len = (uint64_t)x.extents * CHECKPOINT_EXTENT_BYTES;
		if (x.halvings > halvings || !x.number || x.number > h->number ||
			x.offset_bytes > CHECKPOINT_PAYLOAD_MAX ||
			(x.number == h->number && x.offset_bytes + len > h->payload_bytes))
			return false;
	}
	return true;
}

static bool deferred_possible(const void *buf, const struct checkpoint_header *h)
{
	struct checkpoint_deferred x;

	for (uint32_t i = 0; i < h->deferred; i++) {
		checkpoint_get_deferred(buf, h, i, &x);
		if (!x.seq || x.died <= x.seq || x.died > h->object_seq + 1 ||
			!sectors_possible(x.hdr_sectors, x.data_sectors))
			return false;
	}
	return true;
}

static bool kept_possible(const void *buf, const struct checkpoint_header *h)
{
	struct checkpoint_kept x;

	for (uint32_t i = 0; i < h->kept; i++) {
		checkpoint_get_kept(buf, h, i, &x);
		if (!x.x.number || x.died <= x.x.number || x.died > h->number || !live_sized(&x.x))
			return false;
	}
	return true;
}

int checkpoint_decode(const void *buf, size_t len, const uint8_t uuid[16], uint64_t epoch,
	uint64_t number, struct checkpoint_header *h, struct err *e)
{
	int rc = checkpoint_decode_fixed(buf, len, h, e);

	if (rc < 0)
		return rc;
	if (h->meta_bytes > len)
		return err_set(e, -EUCLEAN, "checkpoint %" PRIu64 ": cut off", number);
	if (!block_sealed(buf, h->meta_bytes, CRC_AT))
		return err_set(
			e, -EBADMSG, "checkpoint %" PRIu64 ": checksum does not match", number);
	if (memcmp(h->uuid, uuid, 16) || h->epoch != epoch || h->number != number)
		return err_set(
			e, -EUCLEAN, "checkpoint %" PRIu64 ": of another volume or number", number);
	if (!lives_possible(buf, h) || !objects_possible(buf, h) || !dirs_possible(buf, h) ||
		!deferred_possible(buf, h) || !kept_possible(buf, h) ||
		!block_is_zero((const uint8_t *)buf + end_at(h), h->meta_bytes - end_at(h)))
		return err_set(e, -EUCLEAN, "checkpoint %" PRIu64 ": impossible entries", number);
	return 0;
}
