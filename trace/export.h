/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * export.h - writes a trace in any format of trace/formats.h that can be written.
 *
 *   trace_export_open("boot.iolog", &opt, &header, &x, &e);
 *   trace_export_add(x, &r, &e);                     in order of submission
 *   trace_export_close(x, dropped, &e);
 *
 * When something fails, the export is gone and what it had written of a file is removed.
 */
#ifndef LSVD_TRACE_EXPORT_H
#define LSVD_TRACE_EXPORT_H

#include "format/trace.h"

struct trace_export;

struct trace_export_options {
	const char *format;    /* by name */
	const char *device;    /* iolog: the name of the device; NULL: "image" */
	uint32_t block_bytes;  /* oracleGeneral: of an object; 0: each request is one */
	uint64_t memory_bytes; /* oracleGeneral: for its table of blocks; 0: 1 GiB */
};

/* `path` "-" is stdout.  -EINVAL: no such format to write; -ENOENT ... */
int trace_export_open(const char *path, const struct trace_export_options *opt,
	const struct trace_header *h, struct trace_export **out, struct err *e) MUST_CHECK;

/* An error frees x. */
int trace_export_add(
	struct trace_export *x, const struct trace_record *r, struct err *e) MUST_CHECK;

/* Writes the rest and frees x; `dropped`: requests that the source is known to have lost. */
int trace_export_close(struct trace_export *x, uint64_t dropped, struct err *e) MUST_CHECK;

/* Gives up: frees x and removes its file.  x may be NULL. */
void trace_export_cancel(struct trace_export *x);

#endif
