/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wire.h - requests of a connection that speaks NBD, iSCSI or NVMe/TCP, out of its two byte
 * streams.
 *
 * A push parser without I/O: it is fed bytes, and holes of known length in their place, and hands
 * each request to the sink when its answer is complete, with both times.  Only headers are looked
 * at; payload may be holes.  Where a header is in a hole, or is none, the direction has lost its
 * place: it searches the bytes that follow for what can only be a header, and counts.
 *
 *   times    submission: its header is complete; completion: the last byte of the answer
 *   unanswered ones come last, when the connection closes or their cookie is used again, without a
 *            completion; an answer to an unseen request is counted, and nothing else
 *
 * NBD        fixed newstyle, export by name or GO; simple and structured replies, extended headers
 * iSCSI      READ and WRITE 6 to 16 (and verify), SYNCHRONIZE CACHE, UNMAP, WRITE SAME; digests are
 * noticed NVMe/TCP   read, write, flush, write zeroes, dataset management; digests need no care
 *
 * iSCSI and NVMe count in blocks: their size follows from each read and write itself (its length in
 * bytes is there, too), and for iSCSI from READ CAPACITY.  Before the first of these 512 is
 * assumed.
 *
 * One thread per connection.
 */
#ifndef LSVD_TRACE_WIRE_H
#define LSVD_TRACE_WIRE_H

#include "format/trace.h"

enum wire_dir { WIRE_REQUESTS, WIRE_ANSWERS };

#define WIRE_ANY_UNIT UINT64_MAX

struct wire_counts {
	uint64_t requests[TRACE_OPS];
	uint64_t failed;      /* of these, answered with an error */
	uint64_t unanswered;  /* of these */
	uint64_t other;	      /* commands that are no requests of a trace: inquiries and the like */
	uint64_t other_units; /* requests to a unit that was not asked for */
	uint64_t strays;      /* answers to requests that were not seen */
	uint64_t lost_place;  /* times that a direction did not know where a header begins */
	uint64_t searched_bytes; /* to find it again */
	uint64_t headers_cut;	 /* requests whose header is beyond the snap length: left out */
	uint64_t ranges_cut;	 /* discards whose list of ranges is: left out, or in part */
	uint64_t impossible;	 /* requests beyond 2^63 and the like: left out */
	uint64_t encrypted;	 /* connections that went on in TLS */
};

struct wire_sink {
	void (*request)(void *arg, const struct trace_record *r); /* times as fed */
	void (*size)(void *arg, uint64_t bytes); /* an export's or unit's size is known */
	void *arg;
	uint64_t unit; /* LUN or namespace to take; or WIRE_ANY_UNIT */
	struct wire_counts *counts;
	uint64_t units; /* which were seen, a bit each; from 63 on in the last */
};

struct wire_protocol;
extern const struct wire_protocol wire_nbd, wire_iscsi, wire_nvme;

const char *wire_name(const struct wire_protocol *p);

struct wire;

/* `sink` is borrowed; `stream` is that of the records.  The connection is at its very beginning,
 * unless wire_jump() follows.  NULL: no memory. */
struct wire *wire_new(const struct wire_protocol *p, struct wire_sink *sink, uint8_t stream);

/* The next n bytes of direction d. */
void wire_feed(struct wire *w, enum wire_dir d, uint64_t at_ns, const uint8_t *p, size_t n);

/* The next n bytes are unknown. */
void wire_hole(struct wire *w, enum wire_dir d, uint64_t at_ns, uint64_t n);

/* So are all until some place; what is fed next may be the middle of anything. */
void wire_jump(struct wire *w, enum wire_dir d, uint64_t at_ns);

/* Hands over what is unanswered. */
void wire_free(struct wire *w);

#endif
