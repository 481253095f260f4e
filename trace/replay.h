/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * replay.h - submit a trace's requests again, with its order and its think times.
 *
 * A pure state machine: it knows neither clock nor image, only the callbacks of struct replay_ops,
 * so the same engine drives a real image (trace/drive.h), one on a simulated loop, or a test.
 *
 * The rule.  What had completed before a request was submitted may be its cause.  So a request
 * waits until every request that had completed by then has completed again, and then for the think
 * time: what had passed since the last of these completions, divided by `speed`.  Requests whose
 * completion is unknown (iologs) cause nothing; before the first completion time counts
 * from the first submission.  Submissions keep the recorded order.
 *
 *   replay_new(records, n, &opt, &ops, arg, &r, &e);
 *   replay_start(r);
 *   ... replay_timer(r) when the timer fires, replay_complete(r, q, status) per request ...
 *   replay_finished(r) -> replay_get(r, &result); replay_free(r);
 *
 * One thread at a time.  Memory: ~50 bytes per request of the trace, allocated by replay_new().
 */
#ifndef LSVD_TRACE_REPLAY_H
#define LSVD_TRACE_REPLAY_H

#include "format/trace.h"
#include "lsvd.h"

struct replay;

struct replay_options {
	double speed;		  /* think times are divided by it; 0 = 1: as recorded */
	bool asap;		  /* no think time; order of dependent requests kept */
	bool unordered;		  /* no dependencies either: max_outstanding is the only limit */
	bool reads_only;	  /* leave all else out */
	bool wrap;		  /* offsets modulo image_bytes, instead of an error */
	unsigned max_outstanding; /* 0 = 256 */
	uint64_t image_bytes;	  /* 0 = any offset will do */
};

/* One request to submit; valid until replay_complete().  Offset and length are multiples of 512
 * (rounded outwards); what would cross the image's end when wrapping is moved before it. */
struct replay_request {
	uint8_t op; /* enum trace_op */
	uint8_t flags;
	unsigned slot; /* 0 .. max_outstanding - 1, unique among those in flight */
	uint64_t offset_bytes, len_bytes;
	uint64_t index; /* which of the trace's requests, in order of submission */
	uint64_t submit_ns;
};

struct replay_ops {
	uint64_t (*now)(void *arg);
	/* As lsvd_submit(): 0, and replay_complete() later, never inside; or -errno, and never. */
	int (*submit)(void *arg, struct replay_request *q);
	/* Call replay_timer() at when_ns on now()'s scale; replaces the one set before. */
	void (*timer)(void *arg, uint64_t when_ns);
};

struct replay_op_result {
	uint64_t requests, bytes, errors;
	struct lsvd_latency latency; /* of requests without error; within 1 % */
};

struct replay_result {
	uint64_t requests, bytes, errors;
	int first_error; /* 0 or -errno */
	struct replay_op_result op[TRACE_OPS];
	uint64_t stall_ns;	      /* the sum of all reads' latencies */
	uint64_t read_outstanding_ns; /* time with at least one read in flight */
	uint64_t wall_ns;	      /* first submission to last completion */
	uint64_t recorded_ns;	      /* the same in the trace */
	uint64_t held_back;   /* requests that were due while max_outstanding were in flight */
	unsigned outstanding; /* most in flight at once */
};

/* Checks and prepares; records are borrowed only for the call and must be sorted by submit_ns
 * (trace_load() does).  -ERANGE: a request beyond image_bytes; -ENOMEM. */
int replay_new(const struct trace_record *records, size_t n, const struct replay_options *opt,
	const struct replay_ops *ops, void *arg, struct replay **out, struct err *e) MUST_CHECK;

void replay_start(struct replay *r);
void replay_timer(struct replay *r);
void replay_complete(struct replay *r, struct replay_request *q, int status);

/* Submit nothing more: finished as soon as what is in flight has completed. */
void replay_stop(struct replay *r);

bool replay_finished(const struct replay *r);
uint64_t replay_bytes(const struct replay *r);	 /* to move in all, failed ones included */
uint64_t replay_done(const struct replay *r);	 /* of these, completed so far */
uint64_t replay_longest(const struct replay *r); /* len_bytes of the longest read or write */

/* Once finished. */
void replay_get(const struct replay *r, struct replay_result *out);

/* Nothing may be in flight; r may be NULL. */
void replay_free(struct replay *r);

/* The bytes a replayed write carries: any two sectors differ, and the same seed, index and offset
 * give the same bytes.  len_bytes is a multiple of 8. */
void replay_fill(
	void *buf, uint64_t len_bytes, uint64_t offset_bytes, uint64_t index, uint64_t seed);

#endif
