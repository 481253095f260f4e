/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * text.h - traces as text: CSV, and fio's iolog.
 *
 * CSV: submit_ns,complete_ns,op,offset_bytes,len_bytes[,source,stream,object,flags].  A first line
 * of names is optional; when it is there, columns are found by name, in any order, and unknown ones
 * ignored.  op: R W F T Z or read write flush discard (trim) write-zeroes; complete_ns may be empty
 * or 0 = unknown; flags: letters F (FUA), E (failed).  Empty lines and lines from '#' are skipped.
 *
 * iolog: fio's v2 (`FILE wait MS` since the start; other requests come at that time) and v3
 * (microseconds first).  iologs know no completions.  On export write-zeroes become trims, and FUA,
 * sources, streams and objects are lost.
 *
 * Reading: one line at a time, so that memory is constant; a bad line ends it with `PATH:LINE:
 * what`.
 */
#ifndef LSVD_TRACE_TEXT_H
#define LSVD_TRACE_TEXT_H

#include "format/trace.h"

#include <stdio.h>

enum trace_text { TRACE_TEXT_CSV, TRACE_TEXT_IOLOG };

/* How a file begins tells what it is. */
enum trace_text trace_text_guess(const char *head, size_t len);

/* Calls fn for each request, in the file's order; fn's negative result ends it.  `name` is for
 * messages; `only` as in struct trace_load_options. */
int trace_text_read(FILE *f, const char *name, enum trace_text kind, const char *only,
	int (*fn)(void *arg, const struct trace_record *r), void *arg, struct err *e) MUST_CHECK;

/* `file`: the name the iolog gives to the device.  Records must come in order of submission. */
void trace_text_head(FILE *f, enum trace_text kind, const char *file);
void trace_text_line(FILE *f, enum trace_text kind, const char *file, const struct trace_record *r);
void trace_text_tail(FILE *f, enum trace_text kind, const char *file, uint64_t end_ns);

#endif
