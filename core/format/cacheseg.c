/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/cacheseg.h"

#include "format/block.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

enum { VERSION = 1, CRC_AT = 16 };

static const char magic[8] = "LSVDcseg";

struct writer cacheseg_begin(void *buf, size_t len)
{
	struct writer w = writer_of(buf, len);

	put_zeroes(&w, CACHESEG_FIXED_BYTES);
	return w;
}

void cacheseg_put(struct writer *w, const struct cacheseg_entry *x, const uint32_t *crcs)
{
	put_bytes(w, x->uuid, 16);
	put_u64(w, x->epoch);
	put_u64(w, x->seq);
	put_u32(w, x->chunk);
	put_u32(w, x->block);
	put_u16(w, x->from);
	put_u16(w, x->blocks);
	put_u32(w, 0);
	for (uint32_t i = 0; i < x->blocks; i++)
		put_u32(w, crcs[i]);
}

void cacheseg_end(struct writer *w, void *buf, struct cacheseg_head *h, uint32_t entries)
{
	struct writer head = writer_of(buf, CACHESEG_FIXED_BYTES);
	size_t len;

	assert(!w->bad);
	h->entries = entries;
	h->bytes = (uint32_t)(w->p - (uint8_t *)buf);
	len = (size_t)block_round_up(h->bytes, CACHESEG_BLOCK);
	put_zeroes(w, len - h->bytes);
	assert(!w->bad);
	put_bytes(&head, magic, sizeof(magic));
	put_u16(&head, VERSION);
	put_zeroes(&head, 6);
	put_zeroes(&head, 8); /* CRC, reserved */
	put_bytes(&head, h->pool_uuid, 16);
	put_u64(&head, h->alloc);
	put_u64(&head, h->generation);
	put_u32(&head, h->index);
	put_u32(&head, h->chunk_bytes);
	put_u32(&head, h->segment_blocks);
	put_u32(&head, h->first_block);
	put_u32(&head, h->next_block);
	put_u32(&head, h->entries);
	put_u32(&head, h->bytes);
	put_zeroes(&head, CACHESEG_FIXED_BYTES - 84);
	assert(!head.bad);
	block_seal(buf, h->bytes, CRC_AT);
}

static int decode_head(struct reader *r, struct cacheseg_head *h, struct err *e)
{
	int rc = block_check_magic(r, magic, VERSION, "cache summary", e);

	if (rc < 0)
		return rc;
	get_zeroes(r, 6);
	get_u32(r); /* CRC */
	get_zeroes(r, 4);
	get_bytes(r, h->pool_uuid, 16);
	h->alloc = get_u64(r);
	h->generation = get_u64(r);
	h->index = get_u32(r);
	h->chunk_bytes = get_u32(r);
	h->segment_blocks = get_u32(r);
	h->first_block = get_u32(r);
	h->next_block = get_u32(r);
	h->entries = get_u32(r);
	h->bytes = get_u32(r);
	get_zeroes(r, CACHESEG_FIXED_BYTES - 84);
	return 0;
}

static bool head_possible(const struct cacheseg_head *h, size_t len)
{
	return h->bytes >= cacheseg_bytes(h->entries, h->entries) && h->bytes <= len &&
	       h->chunk_bytes >= CACHESEG_BLOCK && !(h->chunk_bytes & (h->chunk_bytes - 1)) &&
	       h->chunk_bytes <= CACHESEG_BLOCK * CACHESEG_BLOCKS_MAX && h->first_block > 0 &&
	       h->first_block <= h->next_block && h->next_block <= h->segment_blocks;
}

static int check_entries(const void *buf, const struct cacheseg_head *h, struct err *e)
{
	struct reader r = cacheseg_entries(buf, h);
	uint32_t end = h->first_block, chunk_blocks = h->chunk_bytes / CACHESEG_BLOCK;
	struct cacheseg_entry x;

	for (uint32_t i = 0; i < h->entries; i++) {
		cacheseg_next(&r, &x, NULL);
		if (r.bad || !x.blocks || x.from + x.blocks > chunk_blocks || x.block < end ||
			x.block > h->next_block || x.blocks > h->next_block - x.block)
			return err_set(e, -EUCLEAN,
				"cache summary of segment %" PRIu32 ": entry %" PRIu32
				" is impossible",
				h->index, i);
		end = x.block + x.blocks;
	}
	if (r.p != r.end)
		return err_set(e, -EUCLEAN,
			"cache summary of segment %" PRIu32 ": bytes after the last entry",
			h->index);
	return 0;
}

int cacheseg_decode(const void *buf, size_t len, struct cacheseg_head *h, struct err *e)
{
	struct reader r = reader_of(buf, len);
	int rc = decode_head(&r, h, e);

	if (rc < 0)
		return rc;
	if (r.bad || !head_possible(h, len))
		return err_set(e, -EUCLEAN, "cache summary: impossible sizes");
	if (!block_sealed(buf, h->bytes, CRC_AT))
		return err_set(e, -EBADMSG, "cache summary: checksum does not match");
	return check_entries(buf, h, e);
}

struct reader cacheseg_entries(const void *buf, const struct cacheseg_head *h)
{
	return reader_of(
		(const uint8_t *)buf + CACHESEG_FIXED_BYTES, h->bytes - CACHESEG_FIXED_BYTES);
}

void cacheseg_next(struct reader *r, struct cacheseg_entry *x, uint32_t *crcs)
{
	get_bytes(r, x->uuid, 16);
	x->epoch = get_u64(r);
	x->seq = get_u64(r);
	x->chunk = get_u32(r);
	x->block = get_u32(r);
	x->from = get_u16(r);
	x->blocks = get_u16(r);
	get_zeroes(r, 4);
	if (!crcs) {
		reader_take(r, (size_t)x->blocks * 4);
		return;
	}
	for (uint32_t i = 0; i < x->blocks; i++)
		crcs[i] = get_u32(r);
}
