/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/bytes.h"
#include "sys/crc.h"
#include "sys/err.h"
#include "test/test.h"

#include <errno.h>

TEST(values_come_back_little_endian)
{
	uint8_t buf[16];
	struct writer w = writer_of(buf, sizeof(buf));
	struct reader r;

	put_u8(&w, 1);
	put_u16(&w, 0x0203);
	put_u32(&w, 0x04050607);
	put_u64(&w, 0x08090a0b0c0d0e0full);
	assert_false(w.bad);
	assert_int_equal(buf[1], 3);
	r = reader_of(buf, 15);
	assert_int_equal(get_u8(&r), 1);
	assert_int_equal(get_u16(&r), 0x0203);
	assert_int_equal(get_u32(&r), 0x04050607);
	assert_int_equal(get_u64(&r), 0x08090a0b0c0d0e0full);
	assert_false(r.bad);
}

TEST(a_cursor_never_leaves_its_buffer)
{
	uint8_t buf[4] = {0};
	struct writer w = writer_of(buf, 3);
	struct reader r = reader_of(buf, 3);

	put_u32(&w, 0xffffffff);
	assert_true(w.bad);
	assert_int_equal(buf[0], 0);
	assert_int_equal(get_u32(&r), 0);
	assert_true(r.bad);
	assert_int_equal(get_u8(&r), 0);
}

TEST(crc32c_matches_rfc3720)
{
	uint8_t zeros[32] = {0};

	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

TEST(messages_wrap_from_the_outside)
{
	struct err e = {.msg = ""};

	assert_int_equal(err_set(&e, -ENOENT, "object '%s' is missing", "x"), -ENOENT);
	err_wrap(&e, -ENOENT, "open image '%s'", "vm1");
	assert_string_equal(e.msg, "open image 'vm1': object 'x' is missing");
}
