/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tcp.h - from captured segments to the streams of bytes that the two ends have read.
 *
 * Segments may come twice, overlap, come out of order, or not at all; sequence numbers wrap; a
 * capture may begin in the middle of a connection.  The handler gets each direction in order, as
 * pieces that are bytes, or a hole of known length: bytes beyond the snap length, or bytes that the
 * capture has lost.  Where even their number is unknown it is told so.
 *
 * The directions are kept in step: what one end sends is delivered after what it had read by then,
 * as its acknowledgements tell, so that an answer never comes before its question.
 *
 * A missing segment is waited for, for it may come yet: TCP_WAIT_NS by the capture's clock
 * (TCP_ACKED_WAIT_NS when the other end has acknowledged it, and so has it), or until too much is
 * held back because of it.  What is held back is bounded: per direction, and together.
 * Connections are bounded, too: the one that was quiet longest makes room.
 *
 * One thread.  Nothing here knows what the bytes mean.
 */
#ifndef LSVD_TRACE_TCP_H
#define LSVD_TRACE_TCP_H

#include "sys/err.h"
#include "trace/packet.h"

#define TCP_WAIT_NS 2000000000ull
#define TCP_ACKED_WAIT_NS 50000000ull

enum {
	TCP_CONNECTIONS_MAX = 1024,
	TCP_HELD_SEGMENTS_MAX = 2048,  /* of one direction */
	TCP_HELD_BYTES_MAX = 64 << 20, /* of all together */
	TCP_JUMP_BYTES = 1 << 26, /* further from where the stream is: it is somewhere else now */
};

enum tcp_dir { TCP_TO_SERVER, TCP_TO_CLIENT };

struct tcp_handler {
	/* Is this port a server's?  A segment that neither comes from nor goes to one is not looked
	 * at. */
	bool (*serves)(void *arg, uint16_t port);
	/* A connection; what is returned comes back as `conn`.  NULL: no memory; it is ignored. */
	void *(*open)(void *arg, uint16_t port);
	/* n bytes, captured at at_ns. */
	void (*data)(void *conn, enum tcp_dir d, uint64_t at_ns, const uint8_t *p, size_t n);
	/* n bytes that are not known; lost: the capture has missed them, else beyond the snap
	 * length. */
	void (*hole)(void *conn, enum tcp_dir d, uint64_t at_ns, uint64_t n, bool lost);
	/* The stream goes on, or begins, at an unknown place. */
	void (*jump)(void *conn, enum tcp_dir d, uint64_t at_ns);
	void (*close)(void *conn);
	void *arg;
};

struct tcp_counts {
	uint64_t connections, midstream; /* seen; begun before the capture did */
	uint64_t segments;		 /* with payload, of our ports */
	uint64_t bytes;			 /* of payload, as sent */
	uint64_t cut_bytes;		 /* of these, beyond the snap length */
	uint64_t repeated;		 /* segments that brought nothing new */
	uint64_t reordered;		 /* segments that came before their turn */
	uint64_t gaps, lost_bytes;	 /* given up */
	uint64_t jumps;			 /* sequence numbers far from the stream */
	uint64_t evicted;		 /* connections dropped for want of room */
};

struct tcp;

/* `h` is copied.  NULL: no memory. */
struct tcp *tcp_new(const struct tcp_handler *h);

/* A segment in the order of the capture; its data is borrowed for the call.  -ENOMEM: it was left
 * out. */
int tcp_input(struct tcp *t, const struct tcp_segment *s) MUST_CHECK;

const struct tcp_counts *tcp_counts(const struct tcp *t);

/* The capture has ended: gives up every gap and closes every connection.  Then tcp_counts() is
 * final. */
void tcp_finish(struct tcp *t);
void tcp_free(struct tcp *t); /* finishes first; NULL is fine */

#endif
