/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.h - the recorder inside the library: what the data path calls for every request.
 *
 * record() codes into a ring of blocks that was allocated at open: some nanoseconds, no system
 * call, no allocation, no lock.  A writer thread writes full blocks, and within a second the one
 * being filled.  When the ring is full, or the file cannot be written (disk full), records are
 * dropped and counted, and I/O goes on as if nothing were; close() then says so.  On a simulated
 * loop (sync) there is no thread: record() writes a full block itself.
 *
 *   trace_recorder_open("vm1.trace", &opt, &t, &e);
 *   trace_recorder_record(t, &rec);                   for every completed request
 *   trace_recorder_close(t, &e);
 *
 * One thread at a time (the loop's) calls these; the file is locked against a second recorder.
 */
#ifndef LSVD_SYS_TRACE_H
#define LSVD_SYS_TRACE_H

#include "sys/err.h"

#include <stdbool.h>
#include <stdint.h>

struct trace_record; /* format/trace.h */
struct trace_recorder;

struct trace_recorder_options {
	uint8_t image_uuid[16];
	uint64_t size_bytes;	/* of the image */
	uint64_t start_ns;	/* loop time that becomes time 0 of the trace */
	uint64_t start_wall_ns; /* the same moment since 1970 */
	uint64_t trace_id[2];	/* random: loop_random() twice */
	const char *comment;	/* NULL, or up to 2047 bytes: host, image, version */
	uint32_t blocks;	/* ring size, 4 KiB each; 0 = 512 (2 MiB) */
	bool sync;		/* no thread: simulated loops */
};

struct trace_recorder_stats {
	uint64_t records; /* taken */
	uint64_t dropped; /* not taken */
	uint64_t bytes;	  /* of the file */
	int error;	  /* 0, or the -errno that stopped the recording */
};

/* Creates `path`; an older trace there is replaced, a file that is something else is not: -EEXIST.
 * -EBUSY: somebody records to it. */
int trace_recorder_open(const char *path, const struct trace_recorder_options *opt,
	struct trace_recorder **out, struct err *e) MUST_CHECK;

/* r's times are loop times; they become times since start_ns, in place (a copy would cost as much as
 * the coding).  What was submitted before start_ns counts as submitted then. */
void trace_recorder_record(struct trace_recorder *t, struct trace_record *r);

void trace_recorder_stats(const struct trace_recorder *t, struct trace_recorder_stats *st);

/* Writes everything, frees t.  -errno and a message when recording had stopped or the last writes
 * failed: the trace up to there is good. */
int trace_recorder_close(struct trace_recorder *t, struct err *e);

#endif
