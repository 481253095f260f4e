/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * recording.h - the trace that `lsvd trace capture` writes: opened with its first request, when the
 * size of the disk is likely known; times since the recording's start.  One thread.
 */
#ifndef LSVD_TRACE_RECORDING_H
#define LSVD_TRACE_RECORDING_H

#include "trace/file.h"

struct recording {
	const char *path;
	struct trace_header header; /* start_wall_ns and size_bytes: until the first request */
	uint64_t base_ns;	    /* time 0, on the clock of the requests */
	uint64_t most;		    /* requests; 0 = no limit */
	uint64_t n;
	struct trace_writer *w;
};

/* Can the file be written?  -errno. */
int recording_check(const char *path, struct err *e) MUST_CHECK;

/* r's times are on the clock of base_ns; what began before it counts as begun then.  Beyond `most`
 * nothing is written.  -errno. */
int recording_add(struct recording *rec, const struct trace_record *r, struct err *e) MUST_CHECK;

static inline bool recording_full(const struct recording *rec)
{
	return rec->most && rec->n >= rec->most;
}

/* Writes the rest; a trace without requests, too.  `dropped`: requests that are known to be
 * missing. */
int recording_close(struct recording *rec, uint64_t dropped, struct err *e);

#endif
