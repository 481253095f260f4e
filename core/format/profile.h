/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * profile.h - the codec of a boot profile, the object NAME/profile: what a boot reads, in its
 * order.
 *
 * `lsvd reorg` writes it; the prefetcher of every image that has the profile in its base follows
 * it. It is advice: a wrong one costs time, never data.  Byte layout: docs/FORMAT.md, "boot
 * profile". Pure; any thread.
 */
#ifndef LSVD_FORMAT_PROFILE_H
#define LSVD_FORMAT_PROFILE_H

#include "sys/err.h"

#include <stddef.h>
#include <stdint.h>

enum { PROFILE_FIXED_BYTES = 32, PROFILE_RANGE_BYTES = 16, PROFILE_RANGES_MAX = 1 << 24 };

/* One run of sectors; the array is in the order of the first touches. */
struct profile_range {
	uint64_t lba;	   /* sectors */
	uint32_t len;	   /* sectors, > 0 */
	uint32_t first_us; /* since the first request of the boot; saturates */
};

/* Bytes of the object with so many ranges; n <= PROFILE_RANGES_MAX. */
size_t profile_bytes(uint32_t n);

/* Encode into buf[profile_bytes(n)]. */
void profile_encode(const struct profile_range *ranges, uint32_t n, void *buf);

/* Decode and check everything.  *ranges is malloc'ed (the caller frees it), NULL when *n is 0; both
 * are set on success only.  -EBADMSG checksum, -EUCLEAN impossible contents, -EPROTO a newer
 * version, -ENOMEM. */
int profile_decode(const void *buf, size_t len, struct profile_range **ranges, uint32_t *n,
	struct err *e) MUST_CHECK;

#endif
