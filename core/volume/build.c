/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/build.h"

#include "sys/crc.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, BLOCK_SECTORS = 8 };

static const uint8_t zeroes[OBJECT_ALIGN] __attribute__((aligned(OBJECT_ALIGN)));

void build_free(struct build *b)
{
	free(b->ext);
	free(b->iov);
	free(b->crc);
	free(b->header);
	*b = (struct build){0};
}

static int grow(void *array, uint32_t *cap, uint32_t need, size_t size)
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
}

int build_data(struct build *b, const void *mem, size_t len)
{
	struct iovec *last = b->niov > 1 ? &b->iov[b->niov - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == mem) {
		last->iov_len += len;
	} else {
		if (grow(&b->iov, &b->iov_cap, b->niov + 1, sizeof(*b->iov)) < 0)
			return -ENOMEM;
		b->iov[b->niov++] =
			(struct iovec){.iov_base = (void *)(uintptr_t)mem, .iov_len = len};
	}
	b->data_sectors += len / SECTOR;
	return 0;
}

int build_extent(struct build *b, const struct object_extent *x)
{
	if (grow(&b->ext, &b->ext_cap, b->h.extents + 1, sizeof(*b->ext)) < 0)
		return -ENOMEM;
	b->ext[b->h.extents++] = *x;
	return 0;
}

int build_add(struct build *b, const struct object_extent *x, const void *mem)
{
	struct object_extent y = *x;
	int rc = 0;

	/* Readers refuse anything else. */
	assert(!b->h.extents || x->lba >= b->ext[b->h.extents - 1].lba + b->ext[b->h.extents - 1].len);
	if (mem) {
		uint64_t pad = (x->lba - b->data_sectors) % BLOCK_SECTORS;

		/* Small extents are packed; larger ones keep their place within a block. */
		if (pad && x->len >= BLOCK_SECTORS)
			rc = build_data(b, zeroes, pad * SECTOR);
		y.off = (uint32_t)b->data_sectors;
		if (rc == 0)
			rc = build_data(b, mem, (size_t)x->len * SECTOR);
	}
	return rc < 0 ? rc : build_extent(b, &y);
}

static int pad_to_block(struct build *b)
{
	uint64_t rest = b->data_sectors % BLOCK_SECTORS;

	return rest ? build_data(b, zeroes, (BLOCK_SECTORS - rest) * SECTOR) : 0;
}

int build_crc(struct build *b, uint64_t budget_bytes)
{
	int rc = pad_to_block(b);
	uint64_t total = b->data_sectors * SECTOR;

	b->h.data_bytes = (uint32_t)total;
	b->h.chunks = (uint32_t)((total + OBJECT_CRC_BYTES - 1) / OBJECT_CRC_BYTES);
	if (rc < 0 || grow(&b->crc, &b->crc_cap, b->h.chunks + 1, sizeof(*b->crc)) < 0)
		return -ENOMEM;
	while (b->crc_done < total && budget_bytes) {
		const struct iovec *v = &b->iov[b->crc_iov];
		uint64_t n = v->iov_len - b->crc_off, in_chunk = b->crc_done % OBJECT_CRC_BYTES;
		uint32_t *crc = &b->crc[b->crc_done / OBJECT_CRC_BYTES];

		if (n > OBJECT_CRC_BYTES - in_chunk)
			n = OBJECT_CRC_BYTES - in_chunk;
		*crc = crc32c(in_chunk ? *crc : 0, (const uint8_t *)v->iov_base + b->crc_off, n);
		b->crc_done += n;
		b->crc_off += n;
		if (b->crc_off == v->iov_len) {
			b->crc_iov++;
			b->crc_off = 0;
		}
		budget_bytes = budget_bytes > n ? budget_bytes - n : 0;
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
	if (grow(&b->iov, &b->iov_cap, 1, sizeof(*b->iov)) < 0)
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
