/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crc.h - CRC32C (Castagnoli, RFC 3720 B.4), by ISA-L.  Pure; any thread. */
#ifndef LSVD_SYS_CRC_H
#define LSVD_SYS_CRC_H

#include <stddef.h>
#include <stdint.h>

/* The CRC32C of `len` bytes, continuing from `crc` (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

#endif
