/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fields.h - a line of text cut into fields, and numbers in them: what the text formats share.
 *
 * Written out by hand because importers spend their time here: strsep and strtoull together take
 * several times as long as these loops.  Pure; any thread.
 */
#ifndef LSVD_TRACE_FIELDS_H
#define LSVD_TRACE_FIELDS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

static inline bool field_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cuts `line` at commas in place and trims blanks; f[i] for the first `max` fields.  Returns how
 * many there are of these (1 for an empty line). */
static inline int fields_commas(char *line, char **f, int max)
{
	int n = 0;

	for (char *s = line; n < max; s++) {
		char *end;

		while (field_blank(*s))
			s++;
		f[n++] = s;
		while (*s && *s != ',')
			s++;
		for (end = s; end > f[n - 1] && field_blank(end[-1]);)
			end--;
		if (!*s) {
			*end = 0;
			break;
		}
		*end = *s = 0;
	}
	return n;
}

/* The same at blanks, of which any number is one. */
static inline int fields_blanks(char *line, char **f, int max)
{
	int n = 0;

	for (char *s = line;;) {
		while (field_blank(*s))
			*s++ = 0;
		if (!*s || n == max)
			return n;
		f[n++] = s;
		while (*s && !field_blank(*s))
			s++;
	}
}

/* Digits and nothing else, below 2^63: 0 or -EINVAL. */
static inline int field_number(const char *s, uint64_t *v)
{
	uint64_t n = 0;
	int digits = 0;

	for (; *s >= '0' && *s <= '9'; s++, digits++) {
		if (n > (UINT64_MAX >> 1) / 10)
			return -EINVAL;
		n = n * 10 + (uint64_t)(*s - '0');
	}
	if (!digits || *s || n >> 63)
		return -EINVAL;
	*v = n;
	return 0;
}

/* A number with up to nine digits behind a point (more are cut off), in billionths: seconds as
 * nanoseconds.  0 or -EINVAL, also from 2^63 on. */
static inline int field_billionths(const char *s, uint64_t *v)
{
	uint64_t whole = 0, part = 0, unit = 1000000000;
	int digits = 0;

	for (; *s >= '0' && *s <= '9'; s++, digits++) {
		if (whole > UINT64_MAX / 100)
			return -EINVAL;
		whole = whole * 10 + (uint64_t)(*s - '0');
	}
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, digits++) {
			unit /= 10;
			part += (uint64_t)(*s - '0') * unit;
		}
	if (!digits || *s || whole >= (1ull << 63) / 1000000000)
		return -EINVAL;
	*v = whole * 1000000000 + part;
	return 0;
}

#endif
