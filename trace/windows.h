/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * windows.h - working set over time and a heat map over time and offset, in one pass and constant
 * memory.
 *
 * Neither how long the trace is nor how far it reaches is known in advance.  Time is cut into at
 * most WINDOWS_MAX windows; when there is one more, every two become one.  How many different
 * blocks such a pair touched does not follow from the two numbers; but it does from how long ago
 * each touched block had been touched before: a touch is the first of its block in a window of 2^k
 * units when the last one lies in another such window, and whether it does is decided by the
 * highest bit in which the two times (in units) differ.  So each window counts its touches by that
 * bit, and the working set of Denning (1968) for windows of any of these lengths is a sum.  The
 * map's rows double likewise.
 */
#ifndef LSVD_TRACE_WINDOWS_H
#define LSVD_TRACE_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

enum {
	WINDOWS_MAX = 1024,
	WINDOWS_BITS = 46,  /* above: counted in the last */
	HEAT_COLUMNS = 256, /* of WINDOWS_MAX / HEAT_COLUMNS windows each */
	HEAT_ROWS = 128,
};

struct window {
	double by_bit[WINDOWS_BITS + 1]; /* touches of blocks touched before, by that bit + 1 */
	double first;			 /* first touches of a block in the trace */
	uint64_t requests, read_bytes, write_bytes;
};

struct windows {
	uint64_t unit_ns;
	unsigned fold;	    /* a window is 2^fold units, ... */
	unsigned row_shift; /* ... a row 2^row_shift blocks */
	uint32_t n;	    /* windows that were reached */
	struct window w[WINDOWS_MAX];
	uint64_t reads[HEAT_COLUMNS][HEAT_ROWS], writes[HEAT_COLUMNS][HEAT_ROWS]; /* touches */
};

/* NULL: out of memory.  unit_ns: the shortest window. */
struct windows *windows_new(uint64_t unit_ns);
void windows_free(struct windows *s);

/* The number of the unit that a time is in: what a touch of a block is stamped with. */
static inline uint64_t windows_unit(const struct windows *s, uint64_t ns)
{
	return ns / s->unit_ns;
}

void windows_request(struct windows *s, uint64_t unit, uint64_t read_bytes, uint64_t write_bytes);

/* A touch of a block, which stands for `weight` touches; `before`: the unit of the last one. */
void windows_touch(struct windows *s, uint64_t unit, bool first, uint64_t before, double weight);
void windows_heat(struct windows *s, uint64_t unit, uint64_t block, bool write);

uint64_t windows_ns(const struct windows *s); /* of one window */

/* Different blocks touched in window i. */
double windows_blocks(const struct windows *s, uint32_t i);

#endif
