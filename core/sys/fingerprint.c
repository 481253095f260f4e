/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/fingerprint.h"

#include <isa-l/crc64.h>

void fingerprint_add(struct fingerprint *d, const void *bytes, size_t len)
{
	d->a = crc64_ecma_refl(d->a, bytes, len);
	d->b = crc64_jones_refl(d->b, bytes, len);
}

void fingerprint_add_u64(struct fingerprint *d, uint64_t n)
{
	fingerprint_add(d, &n, sizeof(n));
}
