/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* digest.c - FNV-1a of 128 bits (Fowler, Noll, Vo): prime 2^88 + 2^8 + 0x3b. */
#include "reorg/plan.h"

void digest_begin(struct digest *d)
{
	d->h = (unsigned __int128)0x6c62272e07bb0142u << 64 | 0x62b821756295c58du;
}

void digest_add(struct digest *d, const void *p, size_t len)
{
	const unsigned __int128 prime = (unsigned __int128)1 << 88 | 0x13b;
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		d->h = (d->h ^ b[i]) * prime;
}

void digest_u64(struct digest *d, uint64_t v)
{
	uint64_t le = htole64(v);

	digest_add(d, &le, sizeof(le));
}

void digest_end(const struct digest *d, uint8_t out[16])
{
	for (int i = 0; i < 16; i++)
		out[i] = (uint8_t)(d->h >> (120 - 8 * i));
}
