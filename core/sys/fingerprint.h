/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fingerprint.h - 128 bits that tell contents apart: two CRC-64s of different polynomials.  For
 * tests that want to know whether they have seen something; not for anybody who might lie.  Pure.
 */
#ifndef LSVD_SYS_FINGERPRINT_H
#define LSVD_SYS_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

struct fingerprint {
	uint64_t a, b; /* both 0: of nothing */
};

/* What was added before, and these bytes, in this order.  Where one piece ends and the next begins
 * leaves no trace: add lengths that vary. */
void fingerprint_add(struct fingerprint *d, const void *bytes, size_t len);
void fingerprint_add_u64(struct fingerprint *d, uint64_t n);

#endif
