/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.h - trace files as streams: constant memory, pipes welcome ("-" is stdin or stdout).
 *
 *   trace_reader_open("vm1.trace", &r, &e);
 *   while ((rc = trace_reader_next(r, &rec, &e)) > 0) ...
 *   trace_reader_counts(r)                             complete once next() returned 0
 *   trace_reader_close(r);
 *
 * Damage in the middle or at the end is counted, not an error; a file that is no trace is.
 * One thread per reader or writer.
 */
#ifndef LSVD_TRACE_FILE_H
#define LSVD_TRACE_FILE_H

#include "format/trace.h"
#include "trace/input.h"

#include <stdio.h>

struct trace_reader;
struct trace_writer;

/* -ENOENT ..., or as trace_decoder_feed() of a header. */
int trace_reader_open(const char *path, struct trace_reader **out, struct err *e) MUST_CHECK;

/* The same on an input that stands at the beginning, which stays the caller's. */
int trace_reader_on(struct trace_input *in, struct trace_reader **out, struct err *e) MUST_CHECK;

/* 1: a record; 0: the end; -errno: the file cannot be read. */
int trace_reader_next(struct trace_reader *r, struct trace_record *rec, struct err *e) MUST_CHECK;

/* Valid until close. */
const struct trace_header *trace_reader_header(const struct trace_reader *r);
const struct trace_counts *trace_reader_counts(const struct trace_reader *r);

void trace_reader_close(struct trace_reader *r); /* r may be NULL */

/* Creates or replaces `path`.  A zero trace_uuid in `h` is replaced by a random one. */
int trace_writer_open(const char *path, const struct trace_header *h, struct trace_writer **out,
	struct err *e) MUST_CHECK;

/* The same on an open stream, which stays the caller's; `path` is for messages. */
int trace_writer_on(FILE *f, const char *path, const struct trace_header *h,
	struct trace_writer **out, struct err *e) MUST_CHECK;

/* -EINVAL: a record no trace may hold. */
int trace_writer_add(
	struct trace_writer *w, const struct trace_record *rec, struct err *e) MUST_CHECK;

/* Writes the rest with the final drop counter, frees w; -errno when any write failed. */
int trace_writer_close(struct trace_writer *w, uint64_t dropped, struct err *e);

#endif
