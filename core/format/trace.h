/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.h - the codec of a block trace: blocks of records, versioned and checksummed.
 *
 * A trace file is a header block and then record blocks (docs/FORMAT.md, "trace").  A torn tail is
 * dropped and counted; a damaged block in the middle is skipped and counted.  Pure; any thread.
 */
#ifndef LSVD_FORMAT_TRACE_H
#define LSVD_FORMAT_TRACE_H

#include "sys/err.h"

#include <stdint.h>

enum trace_op {
	TRACE_READ,
	TRACE_WRITE,
	TRACE_FLUSH,
	TRACE_DISCARD,
	TRACE_WRITE_ZEROES,
	TRACE_OPS
};
enum trace_flags { TRACE_FUA = 1, TRACE_ERROR = 2 };

/* Who served a read: the slowest of its parts. */
enum trace_source {
	TRACE_SRC_NONE,
	TRACE_SRC_ZERO,
	TRACE_SRC_JOURNAL,
	TRACE_SRC_CACHE,
	TRACE_SRC_PREFETCH,
	TRACE_SRC_STORE,
	TRACE_SRCS
};

struct trace_record {
	uint64_t submit_ns;   /* since the trace's start */
	uint64_t complete_ns; /* same; >= submit_ns; 0 = unknown */
	uint64_t offset_bytes;
	uint32_t len_bytes;
	uint8_t op; /* enum trace_op */
	uint8_t flags;
	uint8_t source;	 /* enum trace_source */
	uint8_t stream;	 /* which client: queue, connection, CPU */
	uint64_t object; /* sequence number of the object that served it; 0 = none */
};

#endif
