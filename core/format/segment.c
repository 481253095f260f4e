/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/segment.h"

#include "format/block.h"

#include <errno.h>

enum { POOL_VERSION = 2, SEGMENT_VERSION = 1, CRC_AT = 16, ROLES = 3, V1_LEGS_MAX = 2 };

static const char pool_magic[8] = "LSVDpool", segment_magic[8] = "LSVDpseg";

static struct writer begin(void *buf, const char magic[8], uint16_t version)
{
	struct writer w = writer_of(buf, SEGMENT_BLOCK);

	put_bytes(&w, magic, 8);
	put_u16(&w, version);
	put_zeroes(&w, 6);
	put_zeroes(&w, 8); /* CRC, reserved */
	return w;
}

static void finish(struct writer *w, void *buf)
{
	put_zeroes(w, (size_t)(w->end - w->p));
	block_seal(buf, SEGMENT_BLOCK, CRC_AT);
}

static int open_block(struct reader *r, const void *buf, const char magic[8], uint16_t version,
	const char *what, struct err *e)
{
	int rc;

	*r = reader_of(buf, SEGMENT_BLOCK);
	rc = block_check_magic(r, magic, version, what, e);
	if (rc < 0)
		return rc;
	if (!block_sealed(buf, SEGMENT_BLOCK, CRC_AT))
		return err_set(e, -EBADMSG, "%s: checksum does not match", what);
	get_zeroes(r, 6);
	reader_take(r, 4); /* CRC */
	get_zeroes(r, 4);
	return 0;
}

static uint8_t all_legs(const struct pool_header *h)
{
	return (uint8_t)((1u << h->legs) - 1);
}

/* Version 1 knows two legs, and that both are members, for long. */
static uint16_t version_for(const struct pool_header *h)
{
	return h->legs <= V1_LEGS_MAX && h->members == all_legs(h) && !h->joined ? 1 : 2;
}

void pool_header_encode(const struct pool_header *h, void *buf)
{
	uint16_t version = version_for(h);
	struct writer w = begin(buf, pool_magic, version);

	put_bytes(&w, h->uuid, 16);
	put_u64(&w, h->segment_bytes);
	put_u32(&w, h->segments);
	put_u8(&w, h->leg);
	put_u8(&w, h->legs);
	put_u8(&w, version < 2 ? 0 : h->members);
	put_u8(&w, h->joined);
	put_u64(&w, h->created_ns);
	put_u64(&w, h->generation);
	for (unsigned i = 0; i < POOL_OPENINGS; i++)
		put_u64(&w, h->opening[i]);
	finish(&w, buf);
}

static uint16_t version_of(const void *buf)
{
	struct reader r = reader_of(buf, SEGMENT_BLOCK);

	reader_take(&r, 8);
	return get_u16(&r);
}

/* Sets what version 1 leaves out.  A version that is newer than it need be is nobody's. */
static bool check_legs(struct pool_header *h, uint16_t version)
{
	if (h->legs > POOL_HEADER_LEGS_MAX || h->leg >= h->legs)
		return false;
	if (version == 1) {
		if (h->members || h->joined)
			return false;
		h->members = all_legs(h);
	}
	return h->members >> h->leg & 1 && !(h->members & ~all_legs(h)) &&
	       version_for(h) == version;
}

int pool_header_decode(const void *buf, struct pool_header *h, struct err *e)
{
	struct reader r;
	uint16_t version;
	int rc = open_block(&r, buf, pool_magic, POOL_VERSION, "pool header", e);

	if (rc < 0)
		return rc;
	version = version_of(buf);
	get_bytes(&r, h->uuid, 16);
	h->segment_bytes = get_u64(&r);
	h->segments = get_u32(&r);
	h->leg = get_u8(&r);
	h->legs = get_u8(&r);
	h->members = get_u8(&r);
	h->joined = get_u8(&r);
	h->created_ns = get_u64(&r);
	h->generation = get_u64(&r);
	for (unsigned i = 0; i < POOL_OPENINGS; i++)
		h->opening[i] = get_u64(&r);
	get_zeroes(&r, (size_t)(r.end - r.p));
	if (r.bad || h->segment_bytes < POOL_SEGMENT_BYTES_MIN ||
		h->segment_bytes > POOL_SEGMENT_BYTES_MAX ||
		h->segment_bytes & (h->segment_bytes - 1) || !h->segments || !h->generation ||
		h->joined > POOL_OPENINGS || h->joined > h->generation || !check_legs(h, version))
		return err_set(e, -EUCLEAN, "pool header: impossible values");
	return 0;
}

void segment_header_encode(const struct segment_header *h, void *buf)
{
	struct writer w = begin(buf, segment_magic, SEGMENT_VERSION);

	put_bytes(&w, h->pool_uuid, 16);
	put_bytes(&w, h->owner, 16);
	put_u32(&w, h->index);
	put_u8(&w, h->role);
	put_zeroes(&w, 3);
	put_u64(&w, h->alloc);
	put_u64(&w, h->epoch);
	put_u64(&w, h->first_seq);
	finish(&w, buf);
}

int segment_header_decode(const void *buf, const uint8_t pool_uuid[16], uint32_t index,
	struct segment_header *h, struct err *e)
{
	struct reader r;
	int rc = open_block(&r, buf, segment_magic, SEGMENT_VERSION, "segment header", e);

	if (rc < 0)
		return rc;
	get_bytes(&r, h->pool_uuid, 16);
	get_bytes(&r, h->owner, 16);
	h->index = get_u32(&r);
	h->role = get_u8(&r);
	get_zeroes(&r, 3);
	h->alloc = get_u64(&r);
	h->epoch = get_u64(&r);
	h->first_seq = get_u64(&r);
	get_zeroes(&r, (size_t)(r.end - r.p));
	if (r.bad || h->role >= ROLES || h->index != index ||
		memcmp(h->pool_uuid, pool_uuid, 16)) /* I10 */
		return err_set(e, -EUCLEAN, "segment header %u: of another pool or place", index);
	return 0;
}
