/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * import.h - any trace this tool can read (trace/formats.h), request by request in constant memory.
 *
 *   trace_import_open("hm_0.csv.gz", &opt, &in, &e);
 *   while ((rc = trace_import_next(in, &r, &e)) > 0) ...
 *   trace_import_counts(in)                              complete once next() returned 0
 *   trace_import_close(in);
 *
 * Requests come in the file's order (trace/sorter.h puts them in order of submission).  Times start
 * at 0: in a format with times of day, with the file's first request; what is earlier than that one
 * gets time 0 and is counted.  Offsets belong to one volume: a file of several wants one chosen, or
 * a caller that asks for all and looks at trace_import_volume().
 *
 * A line that cannot be understood, or a request that no trace may hold, ends the reading with its
 * number, or is left out and counted with skip_bad.  One thread per import.
 */
#ifndef LSVD_TRACE_IMPORT_H
#define LSVD_TRACE_IMPORT_H

#include "format/trace.h"
#include "trace/input.h"

struct trace_import;

struct trace_import_options {
	const char *format;  /* by name; NULL: told by how the file begins */
	const char *volume;  /* take requests to this one; NULL: there is one only */
	bool all_volumes;    /* or all */
	bool skip_bad;	     /* leave out and count what is bad */
	uint64_t size_bytes; /* of the volume: a request beyond it is bad; 0 = unknown */
};

struct trace_import_stats {
	uint64_t requests; /* delivered */
	uint64_t bad;	   /* lines or records left out */
	uint64_t early;	   /* submitted before the first: their time is 0 */
	uint64_t others;   /* to other volumes */
	uint64_t ignored;  /* records that are no I/O on a volume */
	char first_bad[200];
};

/* `path` "-" is stdin; `opt` may be NULL.  -ENOENT ..., -EINVAL: no such format. */
int trace_import_open(const char *path, const struct trace_import_options *opt,
	struct trace_import **out, struct err *e) MUST_CHECK;

/* The same on an input, which is taken. */
int trace_import_take(struct trace_input *input, const struct trace_import_options *opt,
	struct trace_import **out, struct err *e) MUST_CHECK;

/* 1: a request; 0: the end; -errno. */
int trace_import_next(struct trace_import *in, struct trace_record *r, struct err *e) MUST_CHECK;

/* The volume of the last request, "" in a format without; valid until the next call. */
const char *trace_import_volume(const struct trace_import *in, size_t *bytes);

const char *trace_import_format(const struct trace_import *in); /* its name */
const struct trace_header *trace_import_header(const struct trace_import *in);
const struct trace_counts *trace_import_counts(const struct trace_import *in);
const struct trace_import_stats *trace_import_stats(const struct trace_import *in);

/* For a bar of progress: bytes of the file that are read, of how many; 0 = unknown. */
uint64_t trace_import_done(const struct trace_import *in, uint64_t *total);

void trace_import_close(struct trace_import *in); /* in may be NULL */

#endif
