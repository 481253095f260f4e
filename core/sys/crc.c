/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/crc.h"

#include <isa-l/crc.h>

uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
	/* ISA-L only reads through its non-const pointer, and takes an int length. */
	unsigned char *p = (unsigned char *)(uintptr_t)buf;

	crc = ~crc;
	while (len > 1u << 30) {
		crc = crc32_iscsi(p, 1 << 30, crc);
		p += 1u << 30;
		len -= 1u << 30;
	}
	return ~crc32_iscsi(p, (int)len, crc);
}
