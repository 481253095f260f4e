/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * analyse.h - what is in a trace: the figures of `lsvd trace info`, and the curves of `plot`.
 *
 * Blocks are 4 KiB.  Only reads and writes touch blocks.  A request is sequential when it starts
 * where the one of the same op before it, in order of submission, ended.
 */
#ifndef LSVD_TRACE_ANALYSE_H
#define LSVD_TRACE_ANALYSE_H

#include "trace/load.h"

enum {
	SIZE_BUCKETS = 14,     /* up to 512 B, 1 KiB ... 2 MiB, and above */
	REUSE_BUCKETS = 12,    /* touched once, twice, 3-4, 5-8 ... 513-1024, and more */
	DISTANCE_BUCKETS = 40, /* reuse distance below 2^k blocks */
};

struct trace_op_info {
	uint64_t requests, bytes, sequential, errors;
	uint64_t sizes[SIZE_BUCKETS];
	uint64_t known; /* requests whose completion is known */
	uint64_t p50_ns, p99_ns, max_ns, total_ns;
};

struct trace_info {
	struct trace_op_info op[TRACE_OPS];
	struct {
		uint64_t requests, bytes;
	} source[TRACE_SRCS]; /* of reads */
	uint64_t requests, bytes;
	uint64_t read_blocks, written_blocks, blocks; /* unique ones */
	uint64_t oversized;			      /* beyond 4 GiB: not in the block counts */
	uint64_t stall_ns;			      /* total time reads waited */
	uint64_t read_outstanding_ns;		      /* time with a read in flight */
	uint64_t duration_ns;
	uint64_t end_bytes; /* the highest byte touched */
	/* per unique block: how often it was read or written */
	uint64_t reuse[REUSE_BUCKETS];
	/* LRU stack distance of each touch but the first ones: unique blocks touched in between */
	uint64_t distance[DISTANCE_BUCKETS], touches;
};

/* -ENOMEM. */
int trace_analyse(const struct trace *t, struct trace_info *info) MUST_CHECK;

/* Bucket of a length, and the largest length in a bucket (UINT64_MAX: no end). */
unsigned trace_size_bucket(uint64_t len_bytes);
uint64_t trace_size_limit(unsigned bucket);
unsigned trace_reuse_bucket(uint64_t touches);

/* Time covered by the union of intervals [from, to); sorts them. */
struct trace_interval {
	uint64_t from_ns, to_ns;
};
uint64_t trace_covered_ns(struct trace_interval *v, size_t n);

#endif
