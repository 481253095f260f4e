/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/copy.h"

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>

enum { WORTH_BYTES = 1024 };

static void copy_lines(char *d, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i += COPY_LINE) {
		__m128i a = _mm_loadu_si128((const __m128i *)(const void *)(s + i));
		__m128i b = _mm_loadu_si128((const __m128i *)(const void *)(s + i + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(const void *)(s + i + 32));
		__m128i e = _mm_loadu_si128((const __m128i *)(const void *)(s + i + 48));

		_mm_stream_si128((__m128i *)(void *)(d + i), a);
		_mm_stream_si128((__m128i *)(void *)(d + i + 16), b);
		_mm_stream_si128((__m128i *)(void *)(d + i + 32), c);
		_mm_stream_si128((__m128i *)(void *)(d + i + 48), e);
	}
	_mm_sfence();
}

void copy_away(void *dst, const void *src, size_t len)
{
	size_t lead = -(uintptr_t)dst % COPY_LINE;
	size_t lines = len > lead ? (len - lead) / COPY_LINE * COPY_LINE : 0;

	if (lines < WORTH_BYTES) {
		memcpy(dst, src, len);
		return;
	}
	memcpy(dst, src, lead);
	copy_lines((char *)dst + lead, (const char *)src + lead, lines);
	memcpy((char *)dst + lead + lines, (const char *)src + lead + lines, len - lead - lines);
}
#else
void copy_away(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
}
#endif
