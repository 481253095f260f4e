/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * load.h - a whole trace in memory, in order of submission, from any format this tool reads: LSVD's
 * own, fio's iolog (v2, v3) and CSV (trace/text.h), told apart by how the file begins.
 */
#ifndef LSVD_TRACE_LOAD_H
#define LSVD_TRACE_LOAD_H

#include "format/trace.h"

struct trace {
	struct trace_header header; /* zeroes when it came from text */
	struct trace_counts counts;
	struct trace_record *records; /* by submit_ns; equal ones in the order of the file */
	size_t n;
};

struct trace_load_options {
	const char *file; /* iolog of several files: the one to take; NULL = there is one only */
};

/* `path` "-" is stdin.  `opt` may be NULL.  Errors name file and line. */
int trace_load(const char *path, const struct trace_load_options *opt, struct trace *t,
	struct err *e) MUST_CHECK;

/* Append and sort: what trace_load() is made of, for importers and tests.  -ENOMEM. */
int trace_append(struct trace *t, const struct trace_record *r) MUST_CHECK;
int trace_sort(struct trace *t) MUST_CHECK;

void trace_free(struct trace *t); /* its contents; t may be all zeroes */

#endif
