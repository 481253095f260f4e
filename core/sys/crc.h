/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crc.h - CRC32C (Castagnoli, RFC 3720 B.4), by ISA-L.  Pure; any thread. */
#ifndef LSVD_SYS_CRC_H
#define LSVD_SYS_CRC_H

#include <stddef.h>
#include <stdint.h>

enum { CRC32C_BLOCK_BYTES = 4096 };

/* The CRC32C of `len` bytes, continuing from `crc` (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

/* The CRC32C of some bytes followed by one block of CRC32C_BLOCK_BYTES, from the CRCs of both: the
 * bytes themselves are not touched.  Appending is linear over GF(2) (as in zlib's crc32_combine;
 * the operator "times x^(8 * 4096) mod P" is kept as a table). */
uint32_t crc32c_append_block(uint32_t crc, uint32_t block_crc);

#endif
