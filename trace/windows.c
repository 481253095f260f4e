/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* windows.c - see windows.h. */
#include "trace/windows.h"

#include <stdlib.h>
#include <string.h>

enum { PER_COLUMN = WINDOWS_MAX / HEAT_COLUMNS };

struct windows *windows_new(uint64_t unit_ns)
{
	struct windows *s = calloc(1, sizeof(*s));

	if (s)
		s->unit_ns = unit_ns;
	return s;
}

void windows_free(struct windows *s)
{
	free(s);
}

static void add(struct window *to, const struct window *from)
{
	for (unsigned k = 0; k <= WINDOWS_BITS; k++)
		to->by_bit[k] += from->by_bit[k];
	to->first += from->first;
	to->requests += from->requests;
	to->read_bytes += from->read_bytes;
	to->write_bytes += from->write_bytes;
}

/* Columns i and i + 1 become i / 2. */
static void fold_columns(uint64_t heat[HEAT_COLUMNS][HEAT_ROWS])
{
	for (unsigned c = 0; c < HEAT_COLUMNS; c++)
		for (unsigned r = 0; r < HEAT_ROWS; r++) {
			uint64_t v = heat[c][r];

			heat[c][r] = 0;
			heat[c / 2][r] += v;
		}
}

static void fold_rows(uint64_t heat[HEAT_COLUMNS][HEAT_ROWS])
{
	for (unsigned c = 0; c < HEAT_COLUMNS; c++)
		for (unsigned r = 0; r < HEAT_ROWS; r++) {
			uint64_t v = heat[c][r];

			heat[c][r] = 0;
			heat[c][r / 2] += v;
		}
}

static uint32_t window_of(struct windows *s, uint64_t unit)
{
	while (unit >> s->fold >= WINDOWS_MAX) {
		for (unsigned i = 0; i < WINDOWS_MAX; i++) {
			struct window w = s->w[i];

			memset(&s->w[i], 0, sizeof(w));
			add(&s->w[i / 2], &w);
		}
		fold_columns(s->reads);
		fold_columns(s->writes);
		s->n = (s->n + 1) / 2;
		s->fold++;
	}
	unit >>= s->fold;
	if (unit >= s->n)
		s->n = (uint32_t)unit + 1;
	return (uint32_t)unit;
}

void windows_request(struct windows *s, uint64_t unit, uint64_t read_bytes, uint64_t write_bytes)
{
	struct window *w = &s->w[window_of(s, unit)];

	w->requests++;
	w->read_bytes += read_bytes;
	w->write_bytes += write_bytes;
}

void windows_touch(struct windows *s, uint64_t unit, bool first, uint64_t before, double weight)
{
	struct window *w = &s->w[window_of(s, unit)];
	unsigned bits = unit == before ? 0 : 64 - (unsigned)__builtin_clzll(unit ^ before);

	if (first)
		w->first += weight;
	else
		w->by_bit[bits < WINDOWS_BITS ? bits : WINDOWS_BITS] += weight;
}

void windows_heat(struct windows *s, uint64_t unit, uint64_t block, bool write)
{
	uint32_t column = window_of(s, unit) / PER_COLUMN;

	while (block >> s->row_shift >= HEAT_ROWS) {
		fold_rows(s->reads);
		fold_rows(s->writes);
		s->row_shift++;
	}
	(write ? s->writes : s->reads)[column][block >> s->row_shift]++;
}

uint64_t windows_ns(const struct windows *s)
{
	return s->unit_ns << s->fold;
}

/* In windows of 2^fold units a touch is the first of its block when the times differ in a bit from
 * `fold` on. */
double windows_blocks(const struct windows *s, uint32_t i)
{
	double sum = s->w[i].first;

	for (unsigned k = s->fold + 1; k <= WINDOWS_BITS; k++)
		sum += s->w[i].by_bit[k];
	return sum;
}
