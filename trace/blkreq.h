/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkreq.h - requests out of the events of Linux's block tracer (linux/blktrace_api.h).
 *
 * A request is what was issued to the driver (D) and its completion (C), matched by sector: merged
 * and split as the device saw it.  A device that takes bios as they come (dm, md, brd) has no D;
 * there it is what was queued (Q).  Which it is shows itself, device by device.
 *
 * What the events do not tell: zeroes are written by requests that look like writes.  A request to
 * flush and then write is two.
 *
 *   blk_event_decode() or blkparse's text (fmt_blk.c)  ->  blk_matcher_event()  ->
 * blk_matcher_next()
 *
 * Requests come when they complete, unanswered ones after blk_matcher_finish().  No I/O; one
 * thread.
 */
#ifndef LSVD_TRACE_BLKREQ_H
#define LSVD_TRACE_BLKREQ_H

#include "format/trace.h"

enum { BLK_EVENT_BYTES = 48, BLK_PENDING_MAX = 1 << 16 };

enum blk_action { BLK_OTHER, BLK_QUEUE, BLK_REQUEUE, BLK_ISSUE, BLK_COMPLETE };

struct blk_event {
	uint64_t at_ns;	 /* since some moment */
	uint64_t sector; /* of 512 bytes */
	uint32_t bytes;
	uint32_t device; /* major << 20 | minor */
	uint16_t cpu;
	uint16_t error;
	uint8_t action; /* enum blk_action */
	bool write, discard, flush, fua;
	bool zeroes;	  /* only blkparse's text of newer kernels tells */
	bool passthrough; /* a SCSI command or the like: no request of a trace */
};

/* p[BLK_EVENT_BYTES], little endian, as blktrace and the tracer's `bin` write them.  Returns the
 * length of what follows the event and belongs to it, or -EUCLEAN: no event; -EPROTO: of a machine
 * with the other byte order, or of another version. */
int blk_event_decode(const uint8_t *p, struct blk_event *ev);

struct blk_counts {
	uint64_t requests;
	uint64_t unanswered; /* of these */
	uint64_t strays;     /* completions of what was not seen to begin */
	uint64_t passthrough;
};

struct blk_matcher;

struct blk_matcher *blk_matcher_new(void); /* NULL: no memory */

/* -ENOMEM: it was left out. */
int blk_matcher_event(struct blk_matcher *m, const struct blk_event *ev) MUST_CHECK;

/* The next request that is over: its times are those of the events, its stream the CPU.  False:
 * none. */
bool blk_matcher_next(struct blk_matcher *m, struct trace_record *r, uint32_t *device);

/* No more events: what is pending comes out of next(), unanswered. */
void blk_matcher_finish(struct blk_matcher *m);

const struct blk_counts *blk_matcher_counts(const struct blk_matcher *m);
void blk_matcher_free(struct blk_matcher *m); /* NULL is fine */

#endif
