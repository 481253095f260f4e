/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_profile.c - any bytes as a boot profile: an error, or ranges that encode to the same bytes.
 * Every input is tried as it is and with a checksum that matches. */
#include "format/block.h"
#include "format/profile.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try(const uint8_t *buf, size_t len)
{
	struct profile_range *r;
	struct err e;
	uint32_t n;
	uint8_t *again;

	if (profile_decode(buf, len, &r, &n, &e))
		return;
	assert(profile_bytes(n) == len);
	again = malloc(len);
	profile_encode(r, n, again);
	assert(!memcmp(again, buf, len));
	free(again);
	free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy;

	try(data, len);
	if (len < PROFILE_FIXED_BYTES)
		return 0;
	copy = malloc(len);
	memcpy(copy, data, len);
	block_seal(copy, len, 16);
	try(copy, len);
	free(copy);
	return 0;
}
