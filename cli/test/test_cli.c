/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"
#include "cli/zero.h"
#include "test/test.h"

#include <errno.h>

enum { GRAIN = ZERO_GRAIN, GRAINS = 16 };

static uint64_t size_of(const char *s)
{
	uint64_t v = 12345;

	assert_int_equal(cli_parse_size(s, &v), 0);
	return v;
}

TEST(cli_sizes_are_powers_of_1024)
{
	uint64_t v;

	assert_int_equal(size_of("0"), 0);
	assert_int_equal(size_of("4096"), 4096);
	assert_int_equal(size_of("64M"), 64 << 20);
	assert_int_equal(size_of("1.5G"), 3ull << 29);
	assert_int_equal(size_of("2TiB"), 2ull << 40);
	assert_int_equal(size_of("8kb"), 8192);
	assert_int_equal(cli_parse_size("", &v), -EINVAL);
	assert_int_equal(cli_parse_size("G", &v), -EINVAL);
	assert_int_equal(cli_parse_size("-1", &v), -EINVAL);
	assert_int_equal(cli_parse_size("1Q", &v), -EINVAL);
	assert_int_equal(cli_parse_size("1G1", &v), -EINVAL);
	assert_int_equal(cli_parse_size("99E", &v), -EINVAL);
	assert_int_equal(cli_parse_size("nan", &v), -EINVAL);
}

TEST(zero_runs_of_an_empty_and_a_full_buffer)
{
	static uint8_t buf[4 * GRAIN];
	size_t at = 0;

	assert_int_equal(zero_next_run(buf, 0, &at), 0);
	assert_int_equal(zero_next_run(buf, sizeof(buf), &at), 0);
	buf[sizeof(buf) - 1] = 1;
	assert_int_equal(zero_next_run(buf, sizeof(buf), &at), GRAIN);
	assert_int_equal(at, 3 * GRAIN);
	assert_int_equal(zero_next_run(buf, sizeof(buf) - 1, &(size_t){0}), 0);
	memset(buf, 7, sizeof(buf));
	at = 0;
	assert_int_equal(zero_next_run(buf, sizeof(buf) - 5, &at), sizeof(buf) - 5);
	assert_int_equal(at, 0);
}

/* Any pattern of grains, one byte set somewhere in each that is not zero: the runs are the pattern.
 */
TEST(zero_runs_are_exactly_the_grains_with_data)
{
	static uint8_t buf[GRAINS * GRAIN];
	uint64_t s = test_seed();

	for (int round = 0; round < 50; round++) {
		uint64_t pattern = test_rand(&s) & 0xffff, found = 0;
		size_t at = 0, len;

		memset(buf, 0, sizeof(buf));
		for (size_t g = 0; g < GRAINS; g++)
			if (pattern >> g & 1)
				buf[g * GRAIN + test_rand(&s) % GRAIN] = 1;
		for (; (len = zero_next_run(buf, sizeof(buf), &at)); at += len) {
			assert_int_equal(at % GRAIN, 0);
			for (size_t g = at / GRAIN; g < (at + len) / GRAIN; g++)
				found |= 1ull << g;
		}
		assert_int_equal(found, pattern);
	}
}
