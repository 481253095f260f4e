/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * capture.h - packets in, requests out: packet.h, tcp.h and wire.h put together.
 *
 *   capture_new(&opt, &c)
 *   capture_packet(c, link, at_ns, frame, have, len)      for every frame, in order
 *   capture_finish(c)                                     hands over what is unanswered
 *   capture_counts(c)
 *   capture_free(c)
 *
 * Requests come when their answer is complete; the times are those of the packets.  The stream of a
 * record is its connection's number, from 0, modulo 256.  No I/O; one thread.
 */
#ifndef LSVD_TRACE_CAPTURE_H
#define LSVD_TRACE_CAPTURE_H

#include "trace/tcp.h"
#include "trace/wire.h"

enum { CAPTURE_PORTS_MAX = 16 };

struct capture_port {
	uint16_t port;
	const struct wire_protocol *protocol;
};

struct capture_options {
	struct capture_port ports[CAPTURE_PORTS_MAX]; /* of servers */
	unsigned n_ports;
	uint64_t unit; /* LUN or namespace, or WIRE_ANY_UNIT */
	void (*request)(void *arg, const struct trace_record *r);
	void *arg;
};

struct capture_counts {
	uint64_t packets;
	uint64_t others;    /* no TCP, or none of our ports */
	uint64_t fragments; /* of IP datagrams */
	uint64_t cut_short; /* the headers are not in the capture */
	struct tcp_counts tcp;
	struct wire_counts wire;
	unsigned units;	     /* how many LUNs or namespaces were asked for something */
	uint64_t size_bytes; /* of the disk, when the capture tells and it is one; else 0 */
};

struct capture;

/* -ENOMEM. */
int capture_new(const struct capture_options *opt, struct capture **out) MUST_CHECK;

/* `link` as in capture files; frame[have] is what was captured of `len` bytes.  -ENOMEM: the packet
 * was left out. */
int capture_packet(struct capture *c, int link, uint64_t at_ns, const uint8_t *frame, size_t have,
	size_t len) MUST_CHECK;

void capture_finish(struct capture *c);
void capture_counts(const struct capture *c, struct capture_counts *counts);
void capture_free(struct capture *c); /* NULL is fine */

#endif
