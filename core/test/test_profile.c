/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_profile.c - the codec of the boot profile (format/profile.h). */
#include "format/block.h"
#include "format/profile.h"
#include "test/test.h"

#include <errno.h>

static void fill(struct profile_range *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		r[i] = (struct profile_range){.lba = i * 0x1000001ull,
			.len = i % 3 ? 8 * i : UINT32_MAX - i,
			.first_us = i % 7 == 6 ? UINT32_MAX : i * 1009};
}

static int decode(const void *buf, size_t len)
{
	struct profile_range *r = NULL;
	uint32_t n;
	struct err e = {""};
	int rc = profile_decode(buf, len, &r, &n, &e);

	assert_true(rc == 0 || (!r && e.msg[0]));
	free(r);
	return rc;
}

TEST(ranges_come_back)
{
	struct profile_range in[100], *out;

	fill(in, 100);
	for (uint32_t n = 0; n <= 100; n += 20) {
		size_t len = profile_bytes(n);
		uint8_t *buf = malloc(len);
		uint32_t got = 77;

		assert_int_equal(len, 32 + 16 * n);
		profile_encode(in, n, buf);
		assert_int_equal(profile_decode(buf, len, &out, &got, NULL), 0);
		assert_int_equal(got, n);
		assert_true(n || !out);
		for (uint32_t i = 0; i < n; i++) {
			assert_int_equal(out[i].lba, in[i].lba);
			assert_int_equal(out[i].len, in[i].len);
			assert_int_equal(out[i].first_us, in[i].first_us);
		}
		free(out), free(buf);
	}
}

TEST(every_flipped_bit_is_noticed)
{
	struct profile_range in[5];
	uint8_t buf[32 + 16 * 5];

	fill(in, 5);
	profile_encode(in, 5, buf);
	for (size_t bit = 0; bit < sizeof(buf) * 8; bit++) {
		int rc;

		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		rc = decode(buf, sizeof(buf));
		assert_true(rc == -EBADMSG || rc == -EUCLEAN || rc == -EPROTO);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(decode(buf, sizeof(buf)), 0);
}

TEST(every_length_but_its_own_is_refused)
{
	struct profile_range in[5];
	uint8_t buf[32 + 16 * 5 + 40] = {0};
	size_t whole = profile_bytes(5);

	fill(in, 5);
	profile_encode(in, 5, buf);
	for (size_t len = 0; len <= sizeof(buf); len++)
		assert_int_equal(decode(buf, len), len == whole ? 0 : -EUCLEAN);
}

/* Seal again after a change, so that the contents are judged and not the checksum. */
static int decode_with(size_t at, uint64_t value, unsigned bytes)
{
	struct profile_range in[2] = {{8, 8, 0}, {64, 16, 5}};
	uint8_t buf[64];
	struct writer w = writer_of(buf + at, bytes);

	profile_encode(in, 2, buf);
	put_le(&w, value, bytes);
	block_seal(buf, sizeof(buf), 16);
	return decode(buf, sizeof(buf));
}

TEST(impossible_contents_are_refused)
{
	assert_int_equal(decode_with(8, 1, 2), 0);
	assert_int_equal(decode_with(8, 0, 2), -EUCLEAN);
	assert_int_equal(decode_with(8, 2, 2), -EPROTO);
	assert_int_equal(decode_with(10, 1, 2), -EUCLEAN);
	assert_int_equal(decode_with(12, 1, 4), -EUCLEAN);
	assert_int_equal(decode_with(12, UINT32_MAX, 4), -EUCLEAN);
	assert_int_equal(decode_with(31, 1, 1), -EUCLEAN);
	assert_int_equal(decode_with(32 + 8, 0, 4), -EUCLEAN);
	assert_int_equal(decode_with(48, (1ull << 56) - 17, 8), 0);
	assert_int_equal(decode_with(48, (1ull << 56) - 16, 8), -EUCLEAN);
	assert_int_equal(decode_with(48, UINT64_MAX - 3, 8), -EUCLEAN);
}

TEST(the_golden_file_reads_and_writes_the_same)
{
	const char *path = "core/test/golden/profile-v1.bin";
	struct profile_range in[50], *out;
	uint8_t want[32 + 16 * 50], got[sizeof(want) + 1];
	FILE *fp = fopen(path, "rb");
	uint32_t n;

	fill(in, 50);
	profile_encode(in, 50, want);
	if (!fp && getenv("GOLDEN_WRITE")) {
		fp = fopen(path, "wb");
		assert_int_equal(fwrite(want, 1, sizeof(want), fp), sizeof(want));
		fclose(fp);
		fp = fopen(path, "rb");
	}
	if (!fp)
		SKIP("run from the top of the tree");
	assert_int_equal(fread(got, 1, sizeof(got), fp), sizeof(want));
	fclose(fp);
	assert_memory_equal(got, want, sizeof(want));
	assert_int_equal(profile_decode(got, sizeof(want), &out, &n, NULL), 0);
	assert_int_equal(n, 50);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(out[i].lba, in[i].lba);
		assert_int_equal(out[i].len, in[i].len);
		assert_int_equal(out[i].first_us, in[i].first_us);
	}
	free(out);
}
