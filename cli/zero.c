/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/zero.h"

#include <stdbool.h>
#include <string.h>

/* Zero when it begins with zeroes and is equal to itself moved by some bytes. */
static bool is_zero(const char *p, size_t len)
{
	static const char zero[16];

	if (len <= sizeof(zero))
		return !memcmp(p, zero, len);
	return !memcmp(p, zero, sizeof(zero)) && !memcmp(p, p + sizeof(zero), len - sizeof(zero));
}

static bool grain_is_zero(const char *buf, size_t len, size_t at)
{
	return is_zero(buf + at, len - at < ZERO_GRAIN ? len - at : ZERO_GRAIN);
}

size_t zero_next_run(const void *buf, size_t len, size_t *at)
{
	size_t pos = *at, end;

	while (pos < len && grain_is_zero(buf, len, pos))
		pos += ZERO_GRAIN;
	if (pos >= len)
		return 0;
	end = pos + ZERO_GRAIN;
	while (end < len && !grain_is_zero(buf, len, end))
		end += ZERO_GRAIN;
	*at = pos;
	return (end < len ? end : len) - pos;
}
