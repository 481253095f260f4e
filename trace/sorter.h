/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sorter.h - requests in order of submission, from a stream that is nearly in order, in constant
 * memory.
 *
 * Recorders write requests as they complete, and some published traces are not quite in order.  A
 * window of the last SORTER_WINDOW requests is put in order: those that come in order go through a
 * ring, the others through a heap; equal times keep the order of the stream.  A request that comes
 * later than the window is long goes out at once, out of order, and is counted.
 */
#ifndef LSVD_TRACE_SORTER_H
#define LSVD_TRACE_SORTER_H

#include "format/trace.h"

enum { SORTER_WINDOW = 1 << 16 };

struct sorter;

/* About 10 MiB.  NULL: out of memory. */
struct sorter *sorter_new(void);

/* Takes a request, with a number that comes back with it.  True: one comes out, in *out and *tag
 * (it may be the same). */
bool sorter_put(struct sorter *s, const struct trace_record *r, uint32_t tag,
	struct trace_record *out, uint32_t *tag_out);

/* The rest, one by one; false: there is none. */
bool sorter_take(struct sorter *s, struct trace_record *out, uint32_t *tag_out);

uint64_t sorter_late(const struct sorter *s); /* how many went out of order */

void sorter_free(struct sorter *s); /* s may be NULL */

#endif
