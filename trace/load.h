/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * load.h - a whole trace in memory, in order of submission, from any format this tool reads
 * (trace/formats.h), told apart by how the file begins.
 */
#ifndef LSVD_TRACE_LOAD_H
#define LSVD_TRACE_LOAD_H

#include "format/trace.h"
#include "trace/import.h"

struct trace {
	struct trace_header header; /* zeroes when it came from text */
	struct trace_counts counts;
	struct trace_record *records; /* by submit_ns; equal ones in the order of the file */
	size_t n;
};

/* `path` "-" is stdin.  `opt` may be NULL.  Errors name file and line. */
int trace_load(const char *path, const struct trace_import_options *opt, struct trace *t,
	struct err *e) MUST_CHECK;

/* Append and sort: what trace_load() is made of, for importers and tests.  -ENOMEM. */
int trace_append(struct trace *t, const struct trace_record *r) MUST_CHECK;
int trace_sort(struct trace *t) MUST_CHECK;

void trace_free(struct trace *t); /* its contents; t may be all zeroes */

#endif
