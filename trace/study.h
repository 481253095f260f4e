/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * study.h - what `lsvd trace analyse` finds out of a trace, in one pass over its requests.
 *
 * Working set over time, reuse distances, miss-ratio curve, heat map (trace/reuse.h,
 * trace/windows.h).  Memory: some 2 MiB, and for each different block some 60 bytes when exact, R
 * times that with a fixed rate, and nothing more with a fixed size.
 */
#ifndef LSVD_TRACE_STUDY_H
#define LSVD_TRACE_STUDY_H

#include "trace/import.h"
#include "trace/reuse.h"
#include "trace/windows.h"

enum study_ops { STUDY_ALL, STUDY_READS, STUDY_WRITES };

struct study_options {
	struct trace_import_options in;
	uint32_t block_bytes;
	enum study_ops ops;
	double rate;	  /* 1: exact, unless samples */
	size_t samples;	  /* fixed size; 0: none */
	bool exact_too;	  /* also the exact curve, to judge the sampled one by */
	uint64_t unit_ns; /* the shortest window */
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

struct study {
	struct study_options opt;
	struct reuse reuse, exact; /* exact: only with exact_too */
	struct windows *windows;
	uint64_t requests, read_bytes, write_bytes, end_bytes, duration_ns;
	uint64_t oversized; /* requests beyond 4 GiB, left out */
	uint64_t late;	    /* as in struct convert_result */
	struct trace_import_stats stats;
	struct trace_counts counts;
	struct trace_header header;
};

/* Reads the whole trace.  -ENOMEM, -EINTR by progress(), or as trace_import_next(). */
int study_run(const char *path, const struct study_options *opt, struct study *s,
	struct err *e) MUST_CHECK;

void study_fini(struct study *s);

/* The smallest cache, in blocks, that a larger one is no better than: the curve's end. */
uint64_t study_largest(const struct study *s);

#endif
