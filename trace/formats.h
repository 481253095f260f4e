/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * formats.h - the table of trace formats, and what one has to provide.
 *
 * To add a format: a file fmt_NAME.c with a `const struct trace_format trace_format_NAME`, its line
 * in formats.c's table, and a sample in trace/test/.  Reading a request at a time is next(); times,
 * volumes, --skip-bad, sorting and all else is the business of import.c, for every format alike.
 *
 *   import.c:  peek() the first bytes, guess() who knows them (or --format NAME)
 *              open()   zeroed state; fill in->header with what the file says of itself
 *              next()   again and again
 *              close()
 *
 * A format sees the file through in->input (lines or bytes, decompressed already).
 */
#ifndef LSVD_TRACE_FORMATS_H
#define LSVD_TRACE_FORMATS_H

#include "format/trace.h"
#include "trace/input.h"

#include <stdio.h>

enum trace_clock {
	TRACE_CLOCK_START, /* times are since the trace's start: taken as they are */
	TRACE_CLOCK_WALL,  /* nanoseconds since 1970: the first request becomes time 0 */
	TRACE_CLOCK_OTHER, /* since some unknown moment: the first request becomes time 0 */
};

enum { TRACE_NEXT_NOTHING = 2 };

/* A file being read: what a format's functions get. */
struct trace_in {
	struct trace_input *input;
	bool binary;	     /* as in the format */
	uint64_t at;	     /* number of the line or record that was read last, from 1 */
	void *state;	     /* the format's own, zeroed; freed for it */
	const char *volume;  /* next(): which volume the request went to; NULL when the format has
				none */
	size_t volume_bytes; /* its length; the name need not end with 0 */
	uint64_t ignored; /* next(): records that are no I/O on the volume, counted by the format */
	struct trace_header header;
	struct trace_counts counts;
};

/* A file being written. */
struct trace_out {
	FILE *f; /* opened and closed for it */
	const char *path;
	void *state; /* as above */
	struct trace_header header;
	const char *device;    /* iolog: the name of the device */
	uint32_t block_bytes;  /* oracleGeneral: of an object; 0: each request is one */
	uint64_t memory_bytes; /* oracleGeneral: what it may use for its table */
	bool failed;	       /* end(): only free, the file is removed */
	uint64_t dropped;      /* end(): requests that the source had lost */
	uint64_t last_ns;      /* end(): when the last request was submitted */
};

struct trace_format {
	const char *name, *summary;
	bool binary; /* messages speak of records, not lines */
	enum trace_clock clock;
	size_t in_bytes, out_bytes; /* of state */

	/* Do the first bytes look like it?  `head` holds up to 4096 bytes. */
	bool (*guess)(const uint8_t *head, size_t len);

	int (*open)(struct trace_in *in, struct err *e); /* may be NULL */

	/* 1: a request in *r, zeroed before; TRACE_NEXT_NOTHING: none in this line or record; 0:
	 * the end.  -EINVAL: this line or record is bad, made by trace_in_bad(), and the input
	 * stands at the next: --skip-bad goes on there.  Other errors end the reading. */
	int (*next)(struct trace_in *in, struct trace_record *r, struct err *e);

	void (*close)(struct trace_in *in); /* may be NULL */

	/* Writing; NULL when it cannot be written.  Requests come in order of submission. */
	int (*begin)(struct trace_out *o, struct err *e); /* may be NULL */
	int (*add)(struct trace_out *o, const struct trace_record *r, struct err *e);
	int (*end)(
		struct trace_out *o, struct err *e); /* may be NULL; also after an error: frees */
};

/* By name; NULL and a message with all names.  `write`: one that can be written. */
const struct trace_format *trace_format_find(const char *name, bool write, struct err *e);

/* The first that knows the bytes; never NULL: CSV takes what nobody knows. */
const struct trace_format *trace_format_guess(const uint8_t *head, size_t len);

/* All of them; NULL behind the last. */
const struct trace_format *trace_format_at(size_t i);

/* "PATH:LINE: what 'text'" or "PATH: record N: what 'text'"; `text` may be NULL.  Returns -EINVAL.
 */
int trace_in_bad(const struct trace_in *in, struct err *e, const char *what, const char *text);

/* trace_input_line() that counts in->at, skips blank lines and those from '#', and names the line
 * in its errors.  1, 0 or -errno. */
int trace_in_line(struct trace_in *in, char **line, size_t *len, struct err *e) MUST_CHECK;

/* trace_in_bad() unless `s` is a number below 2^63. */
int trace_in_number(struct trace_in *in, const char *what, const char *s, uint64_t *v,
	struct err *e) MUST_CHECK;

/* For begin(), add() and end(): -errno with the path when the file could not be written. */
int trace_out_failed(struct trace_out *o, struct err *e);

extern const struct trace_format trace_format_lsvd, trace_format_csv, trace_format_iolog,
	trace_format_msr, trace_format_alibaba, trace_format_tencent, trace_format_spc,
	trace_format_vscsi, trace_format_oracle, trace_format_blktrace, trace_format_blkparse;

#endif
