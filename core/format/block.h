/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * block.h - what structures on disk share: magic and version in front, a CRC over the whole, and an
 * LBA whose top byte says what kind of extent it is.  Pure; any thread.
 */
#ifndef LSVD_FORMAT_BLOCK_H
#define LSVD_FORMAT_BLOCK_H

#include "sys/bytes.h"
#include "sys/err.h"

/* No volume reaches further: sectors. */
#define BLOCK_LBA_MAX (1ull << 40)

static inline bool block_lba_fits(uint64_t lba, uint64_t len)
{
	return lba < BLOCK_LBA_MAX && len <= BLOCK_LBA_MAX - lba;
}

static inline uint64_t block_round_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) / align * align;
}
static inline uint64_t block_tag(uint64_t lba, uint8_t kind)
{
	return lba | (uint64_t)kind << 56;
}
static inline uint64_t block_untag(uint64_t v)
{
	return v & ((1ull << 56) - 1);
}
static inline uint8_t block_kind(uint64_t v)
{
	return (uint8_t)(v >> 56);
}

/* Store the CRC32C of buf[len], computed with the 4 bytes at crc_at as zero, at crc_at. */
void block_seal(void *buf, size_t len, size_t crc_at);
bool block_sealed(const void *buf, size_t len, size_t crc_at);

/* Read 8 bytes of magic and a 16-bit version.  -EUCLEAN: not a `what`; -EPROTO: a newer version. */
int block_check_magic(struct reader *r, const char magic[8], uint16_t version, const char *what,
	struct err *e) MUST_CHECK;

/* True when all of buf is zero. */
bool block_is_zero(const void *buf, size_t len);

#endif
