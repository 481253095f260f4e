/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/profile.h"

#include "format/block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { VERSION = 1, CRC_AT = 16, RESERVED_BYTES = PROFILE_FIXED_BYTES - CRC_AT - 4 };

static const char magic[8] = "LSVDprof";

size_t profile_bytes(uint32_t n)
{
	assert(n <= PROFILE_RANGES_MAX);
	return PROFILE_FIXED_BYTES + (size_t)n * PROFILE_RANGE_BYTES;
}

void profile_encode(const struct profile_range *ranges, uint32_t n, void *buf)
{
	size_t len = profile_bytes(n);
	struct writer w = writer_of(buf, len);

	put_bytes(&w, magic, sizeof(magic));
	put_u16(&w, VERSION);
	put_u16(&w, 0);
	put_u32(&w, n);
	put_u32(&w, 0);
	put_zeroes(&w, RESERVED_BYTES);
	for (uint32_t i = 0; i < n; i++) {
		put_u64(&w, ranges[i].lba);
		put_u32(&w, ranges[i].len);
		put_u32(&w, ranges[i].first_us);
	}
	assert(!w.bad && w.p == w.end);
	block_seal(buf, len, CRC_AT);
}

static int decode_fixed(struct reader *r, size_t len, uint32_t *n, struct err *e)
{
	int rc = block_check_magic(r, magic, VERSION, "boot profile", e);

	if (rc < 0)
		return rc;
	get_zeroes(r, 2);
	*n = get_u32(r);
	get_u32(r);
	get_zeroes(r, RESERVED_BYTES);
	if (r->bad || *n > PROFILE_RANGES_MAX || len != profile_bytes(*n))
		return err_set(
			e, -EUCLEAN, "boot profile: impossible header (object of %zu bytes)", len);
	return 0;
}

static int decode_ranges(struct reader *r, struct profile_range *ranges, uint32_t n, struct err *e)
{
	for (uint32_t i = 0; i < n; i++) {
		struct profile_range *x = &ranges[i];

		x->lba = get_u64(r);
		x->len = get_u32(r);
		x->first_us = get_u32(r);
		if (!x->len || x->lba >> 56 || block_kind(x->lba + x->len))
			return err_set(e, -EUCLEAN, "boot profile: range %u is impossible", i);
	}
	return 0;
}

int profile_decode(
	const void *buf, size_t len, struct profile_range **ranges, uint32_t *n, struct err *e)
{
	struct reader r = reader_of(buf, len);
	struct profile_range *x = NULL;
	uint32_t count;
	int rc = decode_fixed(&r, len, &count, e);

	if (rc < 0)
		return rc;
	if (!block_sealed(buf, len, CRC_AT))
		return err_set(e, -EBADMSG, "boot profile: checksum does not match"); /* I10 */
	if (count) {
		x = malloc(count * sizeof(*x));
		if (!x)
			return err_set(e, -ENOMEM, "boot profile: out of memory");
		rc = decode_ranges(&r, x, count, e);
		if (rc < 0) {
			free(x);
			return rc;
		}
	}
	*ranges = x;
	*n = count;
	return 0;
}
