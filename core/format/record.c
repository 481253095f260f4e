/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/record.h"

#include "format/block.h"
#include "format/object.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

enum { VERSION = 1, CRC_AT = 64 };

static const char magic[8] = "LSVDjrec";

void record_encode(const struct record_header *h, const struct record_extent *ext,
	const uint32_t *crc, void *buf)
{
	struct writer w = writer_of(buf, RECORD_BLOCK);

	assert(record_fits(h->extents, h->blocks));
	put_bytes(&w, magic, 8);
	put_u16(&w, VERSION);
	put_u16(&w, (uint16_t)h->extents);
	put_u32(&w, h->blocks);
	put_bytes(&w, h->uuid, 16);
	put_u64(&w, h->epoch);
	put_u64(&w, h->seq);
	put_u64(&w, h->place);
	put_u64(&w, h->flushed);
	put_u32(&w, 0); /* CRC */
	put_zeroes(&w, RECORD_FIXED_BYTES - CRC_AT - 4);
	for (uint32_t i = 0; i < h->extents; i++) {
		put_u64(&w, block_tag(ext[i].lba, ext[i].kind));
		put_u32(&w, ext[i].len);
		put_u32(&w, ext[i].off);
	}
	for (uint32_t i = 0; i < h->blocks; i++)
		put_u32(&w, crc[i]);
	assert(!w.bad);
	put_zeroes(&w, (size_t)(w.end - w.p));
	block_seal(buf, RECORD_BLOCK, CRC_AT);
}

void record_get_extent(const void *buf, uint32_t i, struct record_extent *x)
{
	struct reader r = reader_of(
		(const uint8_t *)buf + RECORD_FIXED_BYTES + (size_t)i * RECORD_EXTENT_BYTES,
		RECORD_EXTENT_BYTES);
	uint64_t tagged = get_u64(&r);

	x->lba = block_untag(tagged);
	x->kind = block_kind(tagged);
	x->len = get_u32(&r);
	x->off = get_u32(&r);
}

uint32_t record_get_crc(const void *buf, const struct record_header *h, uint32_t i)
{
	size_t at = RECORD_FIXED_BYTES + (size_t)h->extents * RECORD_EXTENT_BYTES + (size_t)i * 4;
	struct reader r = reader_of((const uint8_t *)buf + at, 4);

	return get_u32(&r);
}

static bool extent_possible(const struct record_extent *x, uint64_t from, uint64_t to)
{
	if (!x->len || !block_lba_fits(x->lba, x->len))
		return false;
	if (x->kind == EXTENT_DATA)
		return x->off >= from && (uint64_t)x->off + x->len <= to;
	return x->kind <= EXTENT_DISCARD && !x->off;
}

static int check_extents(const void *buf, const struct record_header *h, struct err *e)
{
	struct record_extent x;
	uint64_t used = 0;

	for (uint32_t i = 0; i < h->extents; i++) {
		record_get_extent(buf, i, &x);
		if (!extent_possible(&x, used, (uint64_t)h->blocks * 8))
			return err_set(e, -EUCLEAN,
				"journal record %" PRIu64 ": extent %u is impossible", h->seq, i);
		if (x.kind == EXTENT_DATA)
			used = (uint64_t)x.off + x.len;
	}
	/* Every block is there for an extent. */
	if ((used + 7) / 8 != h->blocks)
		return err_set(
			e, -EUCLEAN, "journal record %" PRIu64 ": data of no extent", h->seq);
	return 0;
}

int record_decode(const void *buf, const uint8_t uuid[16], uint64_t place, struct record_header *h,
	struct err *e)
{
	struct reader r = reader_of(buf, RECORD_BLOCK);
	int rc = block_check_magic(&r, magic, VERSION, "journal record", e);

	if (rc < 0)
		return rc;
	if (!block_sealed(buf, RECORD_BLOCK, CRC_AT))
		return err_set(e, -EBADMSG, "journal record: header checksum does not match");
	h->extents = get_u16(&r);
	h->blocks = get_u32(&r);
	get_bytes(&r, h->uuid, 16);
	h->epoch = get_u64(&r);
	h->seq = get_u64(&r);
	h->place = get_u64(&r);
	h->flushed = get_u64(&r);
	reader_take(&r, 4); /* CRC */
	get_zeroes(&r, RECORD_FIXED_BYTES - CRC_AT - 4);
	if (r.bad || !h->extents || !record_fits(h->extents, h->blocks) || h->flushed >= h->seq)
		return err_set(e, -EUCLEAN, "journal record: impossible values");
	reader_take(&r, (size_t)h->extents * RECORD_EXTENT_BYTES + (size_t)h->blocks * 4);
	get_zeroes(&r, (size_t)(r.end - r.p));
	if (r.bad)
		return err_set(e, -EUCLEAN, "journal record: reserved bytes are not zero");
	if (memcmp(h->uuid, uuid, 16) || h->place != place) /* I10 */
		return err_set(e, -EUCLEAN, "journal record: of another volume or place");
	return check_extents(buf, h, e);
}
