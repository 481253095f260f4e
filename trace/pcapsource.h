/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pcapsource.h - packets by libpcap: from a network interface, or from a capture file (pcap,
 * pcapng).
 *
 * libpcap is loaded when a source is opened (sys/dynlib.h).  Built without its headers, opening one
 * fails with what to install.  One thread per source.
 */
#ifndef LSVD_TRACE_PCAPSOURCE_H
#define LSVD_TRACE_PCAPSOURCE_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pcap_source;

struct pcap_live_options {
	const char *interface; /* "any": all of them */
	uint32_t snap_bytes;   /* of each packet */
	uint32_t buffer_bytes; /* in the kernel; 0 = its default */
	const char *filter;    /* as pcap-filter(7) */
};

struct pcap_source_stats {
	uint64_t received;	    /* by the kernel, for us */
	uint64_t dropped;	    /* of these: the buffer was full */
	uint64_t interface_dropped; /* by the interface or its driver */
};

/* `path` "-" is stdin.  -ENOENT ..., -EUCLEAN: not a capture file; -ENOTSUP: built without libpcap.
 */
int pcap_source_file(const char *path, struct pcap_source **out, struct err *e) MUST_CHECK;

/* -EACCES: no permission; -ENODEV: no such interface; -ENETDOWN: it is not up. */
int pcap_source_live(
	const struct pcap_live_options *opt, struct pcap_source **out, struct err *e) MUST_CHECK;

int pcap_source_link(const struct pcap_source *s); /* the link type */

typedef int pcap_packet_fn(
	void *arg, uint64_t wall_ns, const uint8_t *frame, size_t have, size_t len);

/* Hands over some packets; fn's negative result ends it and is returned.  How many there were; 0:
 * none now (live: after waiting wait_ms for some); -ENODATA: the end of the file; -EUCLEAN: it is
 * damaged there; -EIO: the interface failed. */
int pcap_source_read(struct pcap_source *s, int wait_ms, pcap_packet_fn *fn, void *arg,
	struct err *e) MUST_CHECK;

/* Of a live source; zeroes else. */
void pcap_source_stats(struct pcap_source *s, struct pcap_source_stats *st);
void pcap_source_close(struct pcap_source *s); /* NULL is fine */

#endif
