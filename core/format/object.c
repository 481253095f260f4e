/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/object.h"

#include "format/block.h"
#include "sys/bytes.h"
#include "sys/crc.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

enum { VERSION = 2, CRC_AT = 80, EXTENT_BYTES = 16, MOVED_BYTES = 32 };

static const char magic[8] = "LSVDdata";

static uint32_t extent_bytes(uint16_t flags)
{
	return flags & OBJECT_FLAG_GC ? MOVED_BYTES : EXTENT_BYTES;
}

static bool first_version(const struct object_header *h)
{
	return h->crc_bytes == OBJECT_CRC_BYTES_V1;
}

/* Of a chunk: its CRC, and in version 1 its length, which says nothing new. */
static uint32_t entry_bytes(const struct object_header *h)
{
	return first_version(h) ? 8 : 4;
}

uint32_t object_chunk_count(uint32_t data_bytes, uint32_t crc_bytes)
{
	return (uint32_t)(((uint64_t)data_bytes + crc_bytes - 1) / crc_bytes);
}

static uint64_t header_bytes_of(const struct object_header *h)
{
	return block_round_up(OBJECT_FIXED_BYTES + (uint64_t)h->extents * extent_bytes(h->flags) +
				      (uint64_t)h->chunks * entry_bytes(h),
		OBJECT_ALIGN);
}

uint32_t object_header_bytes(uint32_t extents, uint32_t data_bytes, uint16_t flags)
{
	const struct object_header h = {.crc_bytes = OBJECT_CRC_BYTES,
		.extents = extents,
		.chunks = object_chunk_count(data_bytes, OBJECT_CRC_BYTES),
		.flags = flags};

	return (uint32_t)header_bytes_of(&h);
}

/* The last chunk may be shorter. */
static uint32_t chunk_bytes_of(const struct object_header *h, uint32_t i)
{
	uint32_t left = h->data_bytes - i * h->crc_bytes;

	return left < h->crc_bytes ? left : h->crc_bytes;
}

static void put_extent(struct writer *w, const struct object_extent *x, uint16_t flags)
{
	put_u64(w, block_tag(x->lba, x->kind));
	put_u32(w, x->len);
	put_u32(w, x->off);
	if (flags & OBJECT_FLAG_GC) {
		put_u64(w, x->old_seq);
		put_u32(w, x->old_off);
		put_u32(w, 0);
	}
}

void object_encode(const struct object_header *h, const struct object_extent *ext,
	const uint32_t *crc, void *buf)
{
	struct writer w = writer_of(buf, h->header_bytes);

	assert(h->header_bytes == header_bytes_of(h));
	assert(h->chunks == object_chunk_count(h->data_bytes, h->crc_bytes));
	assert(h->data_bytes % OBJECT_ALIGN == 0);
	put_bytes(&w, magic, sizeof(magic));
	put_u16(&w, first_version(h) ? 1 : VERSION);
	put_u16(&w, h->flags);
	put_u32(&w, h->header_bytes);
	put_bytes(&w, h->uuid, 16);
	put_u64(&w, h->epoch);
	put_u64(&w, h->seq);
	put_u64(&w, h->covers);
	put_u32(&w, h->extents);
	put_u32(&w, h->data_bytes);
	put_u32(&w, h->crc_bytes);
	put_u32(&w, h->chunks);
	put_u64(&w, h->data_bytes); /* stored length: equal until data is compressed */
	put_u32(&w, 0);
	put_zeroes(&w, OBJECT_FIXED_BYTES - CRC_AT - 4);
	for (uint32_t i = 0; i < h->extents; i++)
		put_extent(&w, &ext[i], h->flags);
	for (uint32_t i = 0; i < h->chunks; i++) {
		put_u32(&w, crc[i]);
		if (first_version(h))
			put_u32(&w, chunk_bytes_of(h, i));
	}
	assert(!w.bad);
	put_zeroes(&w, (size_t)(w.end - w.p));
	block_seal(buf, h->header_bytes, CRC_AT);
}

int object_decode_fixed(const void *buf, size_t len, struct object_header *h, struct err *e)
{
	struct reader r = reader_of(buf, len);
	uint32_t crc_bytes = OBJECT_CRC_BYTES;
	uint64_t stored;
	int rc = block_check_magic(&r, magic, VERSION, "data object", e);

	if (rc < 0)
		return rc;
	if (((const uint8_t *)buf)[8] == 1)
		crc_bytes = OBJECT_CRC_BYTES_V1;
	h->flags = get_u16(&r);
	h->header_bytes = get_u32(&r);
	get_bytes(&r, h->uuid, 16);
	h->epoch = get_u64(&r);
	h->seq = get_u64(&r);
	h->covers = get_u64(&r);
	h->extents = get_u32(&r);
	h->data_bytes = get_u32(&r);
	h->crc_bytes = get_u32(&r);
	h->chunks = get_u32(&r);
	stored = get_u64(&r);
	reader_take(&r, 4); /* CRC */
	get_zeroes(&r, OBJECT_FIXED_BYTES - CRC_AT - 4);
	if (r.bad || h->flags & ~OBJECT_FLAG_GC || h->crc_bytes != crc_bytes || !h->seq ||
		h->data_bytes % OBJECT_ALIGN || h->data_bytes > OBJECT_DATA_MAX ||
		stored != h->data_bytes || h->chunks != object_chunk_count(h->data_bytes, crc_bytes) ||
		h->header_bytes > OBJECT_HEADER_MAX || h->header_bytes != header_bytes_of(h))
		return err_set(e, -EUCLEAN, "data object header: impossible sizes");
	return 0;
}

void object_get_extent(
	const void *buf, const struct object_header *h, uint32_t i, struct object_extent *x)
{
	uint32_t size = extent_bytes(h->flags);
	struct reader r =
		reader_of((const uint8_t *)buf + OBJECT_FIXED_BYTES + (size_t)i * size, size);
	uint64_t tagged = get_u64(&r);

	*x = (struct object_extent){.lba = block_untag(tagged), .kind = block_kind(tagged)};
	x->len = get_u32(&r);
	x->off = get_u32(&r);
	if (h->flags & OBJECT_FLAG_GC) {
		x->old_seq = get_u64(&r);
		x->old_off = get_u32(&r);
	}
}

uint32_t object_get_crc(const void *buf, const struct object_header *h, uint32_t chunk)
{
	size_t at = OBJECT_FIXED_BYTES + (size_t)h->extents * extent_bytes(h->flags) +
		    (size_t)chunk * entry_bytes(h);
	struct reader r = reader_of((const uint8_t *)buf + at, 4);

	return get_u32(&r);
}

static bool extent_possible(
	const struct object_header *h, const struct object_extent *x, uint64_t from_lba)
{
	if (!x->len || x->lba < from_lba || !block_lba_fits(x->lba, x->len))
		return false;
	if (h->flags & OBJECT_FLAG_GC &&
		(x->kind != EXTENT_DATA || !x->old_seq || x->old_seq >= h->seq ||
			(uint64_t)x->old_off + x->len > OBJECT_DATA_MAX / 512))
		return false;
	if (x->kind == EXTENT_DATA)
		return (uint64_t)x->off + x->len <= h->data_bytes / 512;
	return x->kind <= EXTENT_DISCARD && !x->off;
}

static int check_extents(const void *buf, const struct object_header *h, struct err *e)
{
	struct object_extent x;
	uint64_t end = 0;

	for (uint32_t i = 0; i < h->extents; i++) {
		object_get_extent(buf, h, i, &x);
		if (!extent_possible(h, &x, end))
			return err_set(e, -EUCLEAN,
				"data object %" PRIu64 ": extent %u is impossible", h->seq, i);
		end = x.lba + x.len;
	}
	return 0;
}

/* What must be zero, and the lengths of chunks. */
static int check_rest(const void *buf, const struct object_header *h, struct err *e)
{
	struct reader r = reader_of(buf, h->header_bytes);
	bool lengths = true;

	reader_take(&r, OBJECT_FIXED_BYTES);
	for (uint32_t i = 0; i < h->extents; i++) {
		reader_take(&r, h->flags & OBJECT_FLAG_GC ? MOVED_BYTES - 4 : EXTENT_BYTES);
		if (h->flags & OBJECT_FLAG_GC)
			get_zeroes(&r, 4);
	}
	for (uint32_t i = 0; i < h->chunks; i++) {
		reader_take(&r, 4);
		if (first_version(h))
			lengths = get_u32(&r) == chunk_bytes_of(h, i) && lengths;
	}
	get_zeroes(&r, (size_t)(r.end - r.p));
	if (r.bad || !lengths)
		return err_set(e, -EUCLEAN,
			"data object %" PRIu64 ": impossible chunks or reserved bytes", h->seq);
	return 0;
}

int object_decode(const void *buf, size_t len, const uint8_t *uuid, uint64_t epoch, uint64_t seq,
	struct object_header *h, struct err *e)
{
	int rc = object_decode_fixed(buf, len, h, e);

	if (rc < 0)
		return rc;
	if (h->header_bytes > len)
		return err_set(e, -EUCLEAN,
			"data object %" PRIu64 ": header of %u bytes cut at %zu", h->seq,
			h->header_bytes, len);
	if (!block_sealed(buf, h->header_bytes, CRC_AT))
		return err_set(e, -EBADMSG,
			"data object %" PRIu64 ": header checksum does not match", seq);
	/* I10 */
	if ((uuid && memcmp(uuid, h->uuid, 16)) || h->epoch != epoch || h->seq != seq)
		return err_set(e, -EUCLEAN,
			"data object: expected %" PRIu64 ".%" PRIu64
			" of this volume, found %" PRIu64 ".%" PRIu64,
			epoch, seq, h->epoch, h->seq);
	rc = check_extents(buf, h, e);
	return rc < 0 ? rc : check_rest(buf, h, e);
}
