/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/build.h"

#include "sys/crc.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Joining CRCs is so much cheaper than reading the data for them. */
enum { SECTOR = 512, BLOCK_SECTORS = 8, KNOWN_GAIN = 16, MULTIPLE_FROM = 1 << 20 };

static const uint8_t zeroes[OBJECT_ALIGN] __attribute__((aligned(OBJECT_ALIGN)));

void build_free(struct build *b)
{
	free(b->ext);
	free(b->iov);
	free(b->crc);
	free(b->known);
	free(b->header);
	*b = (struct build){0};
}

int build_grow(void *array, uint32_t *cap, uint32_t need, size_t size)
{
	void **a = array, *p;
	uint32_t n = *cap ? *cap : 256;

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

void build_begin(struct build *b, uint16_t flags)
{
	b->h = (struct object_header){.flags = flags};
	b->niov = 1;
	b->data_sectors = 0;
	b->crc_iov = 1;
	b->crc_off = 0;
	b->crc_done = 0;
	b->nknown = 0;
	b->padded = false;
}

int build_data(struct build *b, const void *mem, size_t len)
{
	struct iovec *last = b->niov > 1 ? &b->iov[b->niov - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == mem) {
		last->iov_len += len;
	} else {
		if (build_grow(&b->iov, &b->iov_cap, b->niov + 1, sizeof(*b->iov)) < 0)
			return -ENOMEM;
		b->iov[b->niov++] =
			(struct iovec){.iov_base = (void *)(uintptr_t)mem, .iov_len = len};
	}
	b->data_sectors += len / SECTOR;
	return 0;
}

int build_zeroes(struct build *b, uint64_t sectors)
{
	int rc = 0;

	for (uint64_t n; rc == 0 && sectors; sectors -= n) {
		n = sectors < OBJECT_ALIGN / SECTOR ? sectors : OBJECT_ALIGN / SECTOR;
		rc = build_data(b, zeroes, n * SECTOR);
	}
	return rc;
}

uint32_t build_pad(uint64_t lba, uint64_t len, uint64_t at)
{
	uint32_t pad = (uint32_t)((lba - at) % BUILD_CHUNK_SECTORS);

	if (pad * (uint64_t)BUILD_CHUNK_WORTH <= len)
		return pad;
	return len >= BLOCK_SECTORS ? pad % BLOCK_SECTORS : 0;
}

int build_extent(struct build *b, const struct object_extent *x)
{
	/* Readers refuse anything else. */
	assert(!b->h.extents ||
		x->lba >= b->ext[b->h.extents - 1].lba + b->ext[b->h.extents - 1].len);
	if (build_grow(&b->ext, &b->ext_cap, b->h.extents + 1, sizeof(*b->ext)) < 0)
		return -ENOMEM;
	b->ext[b->h.extents++] = *x;
	return 0;
}

/* Blocks [first, first + n) of the data have these CRCs. */
static int note_crcs(struct build *b, uint64_t first, uint32_t n, const uint32_t *crcs)
{
	if (build_grow(&b->known, &b->known_cap, (uint32_t)first + n, sizeof(*b->known)) < 0)
		return -ENOMEM;
	memset(b->known + b->nknown, 0, (first - b->nknown) * sizeof(*b->known));
	memcpy(b->known + first, crcs, n * sizeof(*crcs));
	b->nknown = (uint32_t)first + n;
	return 0;
}

int build_place(struct build *b, uint64_t lba, uint32_t len, const void *mem, const uint32_t *crcs,
	uint32_t *off)
{
	/* Small extents are packed; larger ones keep their place within a block, or more. */
	int rc = build_zeroes(b, build_pad(lba, len, b->data_sectors));

	*off = (uint32_t)b->data_sectors;
	if (rc == 0 && crcs && *off % BLOCK_SECTORS == 0 && len >= BLOCK_SECTORS)
		rc = note_crcs(b, *off / BLOCK_SECTORS, len / BLOCK_SECTORS, crcs);
	return rc < 0 ? rc : build_data(b, mem, (size_t)len * SECTOR);
}

int build_add(struct build *b, const struct object_extent *x, const void *mem)
{
	struct object_extent y = *x;
	int rc = mem ? build_place(b, x->lba, x->len, mem, NULL, &y.off) : 0;

	return rc < 0 ? rc : build_extent(b, &y);
}

static int pad_to_block(struct build *b)
{
	uint64_t rest = b->data_sectors % BLOCK_SECTORS;

	return rest ? build_zeroes(b, BLOCK_SECTORS - rest) : 0;
}

static uint64_t total_bytes(const struct build *b)
{
	uint64_t data = b->data_sectors * SECTOR;

	return object_header_bytes(b->h.extents, (uint32_t)data, b->h.flags) + data;
}

/* Padding is data that belongs to nobody. */
static int pad(struct build *b)
{
	int rc = pad_to_block(b);

	if (b->padded || !b->multiple || total_bytes(b) < MULTIPLE_FROM)
		return rc;
	b->padded = true;
	while (rc == 0 && total_bytes(b) % b->multiple)
		rc = build_data(b, zeroes, OBJECT_ALIGN);
	return rc;
}

/* ---- CRCs ---- */

/* The run of CRCs moves on over n bytes, at most to the end of this piece. */
static void advance(struct build *b, uint64_t n)
{
	b->crc_done += n;
	b->crc_off += n;
	if (b->crc_off == b->iov[b->crc_iov].iov_len) {
		b->crc_iov++;
		b->crc_off = 0;
	}
}

static uint64_t piece_left(const struct build *b, uint64_t most)
{
	uint64_t n = b->iov[b->crc_iov].iov_len - b->crc_off;

	return n < most ? n : most;
}

/* A chunk is a block, and its CRC may be known. */
static bool known_chunk(struct build *b, uint32_t i)
{
	_Static_assert(OBJECT_CRC_BYTES == SECTOR * BLOCK_SECTORS, "one CRC each");
	if (i >= b->nknown || b->known[i] <= 1)
		return false;
	b->crc[i] = b->known[i];
	return true;
}

static void read_chunk(struct build *b, uint32_t i, uint64_t bytes)
{
	uint32_t crc = 0;

	while (bytes) {
		uint64_t n = piece_left(b, bytes);

		crc = crc32c(crc, (const uint8_t *)b->iov[b->crc_iov].iov_base + b->crc_off, n);
		advance(b, n);
		bytes -= n;
	}
	b->crc[i] = crc;
}

static void skip_chunk(struct build *b, uint64_t bytes)
{
	while (bytes) {
		uint64_t n = piece_left(b, bytes);

		advance(b, n);
		bytes -= n;
	}
}

int build_crc(struct build *b, uint64_t budget_bytes)
{
	int rc = pad(b);
	uint64_t total = b->data_sectors * SECTOR;

	b->h.data_bytes = (uint32_t)total;
	b->h.crc_bytes = OBJECT_CRC_BYTES;
	b->h.chunks = object_chunk_count(b->h.data_bytes, OBJECT_CRC_BYTES);
	if (rc < 0 || build_grow(&b->crc, &b->crc_cap, b->h.chunks + 1, sizeof(*b->crc)) < 0)
		return -ENOMEM;
	while (b->crc_done < total && budget_bytes) {
		uint64_t left = total - b->crc_done,
			 bytes = left < OBJECT_CRC_BYTES ? left : OBJECT_CRC_BYTES, cost = bytes;
		uint32_t i = (uint32_t)(b->crc_done / OBJECT_CRC_BYTES);

		if (known_chunk(b, i)) {
			skip_chunk(b, bytes);
			cost = bytes / KNOWN_GAIN;
		} else {
			read_chunk(b, i, bytes);
		}
		budget_bytes = budget_bytes > cost ? budget_bytes - cost : 0;
	}
	return b->crc_done == total;
}

int build_finish(struct build *b)
{
	uint32_t need = object_header_bytes(b->h.extents, b->h.data_bytes, b->h.flags);

	if (need > b->header_cap) {
		free(b->header);
		b->header_cap = 0;
		if (posix_memalign(&b->header, OBJECT_ALIGN, need)) {
			b->header = NULL;
			return -ENOMEM;
		}
		b->header_cap = need;
	}
	if (build_grow(&b->iov, &b->iov_cap, 1, sizeof(*b->iov)) < 0)
		return -ENOMEM;
	b->h.header_bytes = need;
	object_encode(&b->h, b->ext, b->crc, b->header);
	b->iov[0] = (struct iovec){.iov_base = b->header, .iov_len = need};
	return 0;
}

uint64_t build_bytes(const struct build *b)
{
	return (uint64_t)b->h.header_bytes + b->h.data_bytes;
}
