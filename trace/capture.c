/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* capture.c - see capture.h. */
#include "trace/capture.h"

#include <errno.h>
#include <stdlib.h>

struct capture {
	struct capture_options opt;
	struct tcp *tcp;
	struct wire_sink sink;
	struct capture_counts counts;
	unsigned connections;
	bool sizes_differ;
};

static const struct capture_port *find_port(const struct capture *c, uint16_t port)
{
	for (unsigned i = 0; i < c->opt.n_ports; i++)
		if (c->opt.ports[i].port == port)
			return &c->opt.ports[i];
	return NULL;
}

/* ---- what tcp.h asks ---- */

static bool serves(void *arg, uint16_t port)
{
	return find_port(arg, port) != NULL;
}

static void *open_connection(void *arg, uint16_t port)
{
	struct capture *c = arg;

	return wire_new(find_port(c, port)->protocol, &c->sink, (uint8_t)c->connections++);
}

static enum wire_dir wire_dir_of(enum tcp_dir d)
{
	return d == TCP_TO_SERVER ? WIRE_REQUESTS : WIRE_ANSWERS;
}

static void data(void *conn, enum tcp_dir d, uint64_t at_ns, const uint8_t *p, size_t n)
{
	wire_feed(conn, wire_dir_of(d), at_ns, p, n);
}

static void hole(void *conn, enum tcp_dir d, uint64_t at_ns, uint64_t n, bool lost)
{
	(void)lost; /* whoever did not see it */
	wire_hole(conn, wire_dir_of(d), at_ns, n);
}

static void jump(void *conn, enum tcp_dir d, uint64_t at_ns)
{
	wire_jump(conn, wire_dir_of(d), at_ns);
}

static void close_connection(void *conn)
{
	wire_free(conn);
}

/* ---- what wire.h tells ---- */

static void on_request(void *arg, const struct trace_record *r)
{
	const struct capture *c = arg;

	c->opt.request(c->opt.arg, r);
}

static void on_size(void *arg, uint64_t bytes)
{
	struct capture *c = arg;

	if (bytes >> 63)
		return;
	c->sizes_differ |= c->counts.size_bytes && c->counts.size_bytes != bytes;
	c->counts.size_bytes = bytes;
}

/* ---- the whole ---- */

int capture_new(const struct capture_options *opt, struct capture **out)
{
	struct capture *c = calloc(1, sizeof(*c));
	struct tcp_handler h = {.serves = serves,
		.open = open_connection,
		.data = data,
		.hole = hole,
		.jump = jump,
		.close = close_connection,
		.arg = c};

	if (!c)
		return -ENOMEM;
	c->opt = *opt;
	c->sink = (struct wire_sink){.request = on_request,
		.size = on_size,
		.arg = c,
		.unit = opt->unit,
		.counts = &c->counts.wire};
	c->tcp = tcp_new(&h);
	if (!c->tcp) {
		free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

int capture_packet(
	struct capture *c, int link, uint64_t at_ns, const uint8_t *frame, size_t have, size_t len)
{
	struct tcp_segment s;
	bool fragmented;
	enum packet_kind kind = packet_parse(link, frame, have, len, &s, &fragmented);

	c->counts.packets++;
	c->counts.fragments += fragmented;
	c->counts.cut_short += kind == PACKET_SHORT;
	if (kind != PACKET_TCP || (!find_port(c, s.sport) && !find_port(c, s.dport))) {
		c->counts.others += kind == PACKET_TCP || kind == PACKET_OTHER;
		return 0;
	}
	s.at_ns = at_ns;
	return tcp_input(c->tcp, &s);
}

void capture_finish(struct capture *c)
{
	tcp_finish(c->tcp);
}

void capture_counts(const struct capture *c, struct capture_counts *counts)
{
	*counts = c->counts;
	counts->tcp = *tcp_counts(c->tcp);
	counts->units = (unsigned)__builtin_popcountll(c->sink.units);
	if (c->sizes_differ)
		counts->size_bytes = 0;
}

void capture_free(struct capture *c)
{
	if (!c)
		return;
	tcp_free(c->tcp);
	free(c);
}
