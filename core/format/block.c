/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/block.h"

#include "sys/crc.h"
#include "sys/mutant.h"

#include <errno.h>

static uint32_t crc_without(const uint8_t *p, size_t len, size_t crc_at)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c(0, p, crc_at);

	crc = crc32c(crc, zero, 4);
	return crc32c(crc, p + crc_at + 4, len - crc_at - 4);
}

void block_seal(void *buf, size_t len, size_t crc_at)
{
	struct writer w = writer_of((uint8_t *)buf + crc_at, 4);

	put_u32(&w, crc_without(buf, len, crc_at));
}

bool block_sealed(const void *buf, size_t len, size_t crc_at)
{
	struct reader r = reader_of((const uint8_t *)buf + crc_at, 4);

	return MUTANT(SKIP_HEADER_CRC) || get_u32(&r) == crc_without(buf, len, crc_at);
}

int block_check_magic(
	struct reader *r, const char magic[8], uint16_t version, const char *what, struct err *e)
{
	const uint8_t *p = reader_take(r, 8);
	uint16_t v;

	if (!p || memcmp(p, magic, 8))
		return err_set(e, -EUCLEAN, "not a %s (no magic number)", what);
	v = get_u16(r);
	if (r->bad || v == 0)
		return err_set(e, -EUCLEAN, "%s without a version", what);
	if (v > version)
		return err_set(e, -EPROTO, "%s of version %u; this build knows up to %u", what, v,
			version);
	return 0;
}

bool block_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return len == 0 || (p[0] == 0 && !memcmp(p, p + 1, len - 1));
}
