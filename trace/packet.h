/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * packet.h - from a captured frame to its TCP segment: link header, VLAN tags, IPv4 or IPv6.
 *
 * A capture may hold fewer bytes of a frame than were sent (the snap length).  What matters is then
 * still known: the segment's length on the wire comes from the IP header.  Checksums are not looked
 * at, for a capture on the sending host has none yet.  Fragments are not put together: the first
 * one gives what it holds, the others are counted, and the reassembler sees the loss. Pure; any
 * thread.
 */
#ifndef LSVD_TRACE_PACKET_H
#define LSVD_TRACE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The link types that are known, by their numbers in capture files (tcpdump.org/linktypes). */
enum packet_link {
	PACKET_NULL = 0, /* BSD loopback: address family in the host's byte order */
	PACKET_ETHERNET = 1,
	PACKET_RAW_BSD = 12, /* what libpcap calls DLT_RAW */
	PACKET_RAW_OPENBSD = 14,
	PACKET_RAW = 101,
	PACKET_LOOP = 108, /* OpenBSD loopback */
	PACKET_SLL = 113,  /* Linux "cooked": tcpdump -i any */
	PACKET_IPV4 = 228,
	PACKET_IPV6 = 229,
	PACKET_SLL2 = 276,
};

enum tcp_flag { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

struct tcp_segment {
	uint64_t at_ns;		  /* when it was captured; the caller's */
	uint8_t src[16], dst[16]; /* IPv4 in the first 4 bytes, the rest zero */
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
	const uint8_t *data; /* in the caller's buffer */
	uint32_t have, len;  /* bytes of payload: captured, and sent */
};

enum packet_kind {
	PACKET_TCP,	 /* *s is filled in but for at_ns */
	PACKET_OTHER,	 /* no TCP */
	PACKET_FRAGMENT, /* a later fragment of a datagram: no TCP header in it */
	PACKET_SHORT,	 /* the capture ends before the headers do, or they contradict themselves */
};

/* frame[have]: what was captured of a frame of `len` bytes.  *fragmented: it is part of a datagram
 * (then also when PACKET_TCP is returned, for the first part). */
enum packet_kind packet_parse(int link, const uint8_t *frame, size_t have, size_t len,
	struct tcp_segment *s, bool *fragmented);

bool packet_link_known(int link);

#endif
