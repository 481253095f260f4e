/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* packet.c - see packet.h.  Each layer takes its header off the front of a cursor. */
#include "trace/packet.h"
#include "trace/wire_bytes.h"

#include <string.h>

enum {
	ETH_IPV4 = 0x0800,
	ETH_IPV6 = 0x86dd,
	ETH_VLAN = 0x8100,
	ETH_QINQ = 0x88a8,
	ETH_QINQ_OLD = 0x9100
};
enum {
	PROTO_HOPOPTS = 0,
	PROTO_TCP = 6,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_DSTOPTS = 60
};
enum { V6_AF_LINUX = 10, V6_AF_FREEBSD = 28, V6_AF_DARWIN = 30, V6_AF_BSD = 24, V4_AF = 2 };

struct cursor {
	const uint8_t *p;
	size_t have, len; /* captured and sent, from p on */
};

static const uint8_t *take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->have < n)
		return NULL;
	c->p += n;
	c->have -= n;
	c->len -= n;
	return p;
}

/* What was sent of this layer ends here: padding of the link is no part of it. */
static void limit(struct cursor *c, size_t len)
{
	if (len < c->len)
		c->len = len;
	if (c->have > c->len)
		c->have = c->len;
}

bool packet_link_known(int link)
{
	static const int known[] = {PACKET_NULL, PACKET_ETHERNET, PACKET_RAW_BSD,
		PACKET_RAW_OPENBSD, PACKET_RAW, PACKET_LOOP, PACKET_SLL, PACKET_IPV4, PACKET_IPV6,
		PACKET_SLL2};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i] == link)
			return true;
	return false;
}

/* ---- the link layer: what is inside, as an EtherType; 0 = something else, -1 = cut ---- */

static int inside_vlan(struct cursor *c, int type)
{
	while (type == ETH_VLAN || type == ETH_QINQ || type == ETH_QINQ_OLD) {
		const uint8_t *p = take(c, 4);

		if (!p)
			return -1;
		type = be16(p + 2);
	}
	return type;
}

static int inside_family(struct cursor *c)
{
	const uint8_t *p = take(c, 4);
	uint32_t family;

	if (!p)
		return -1;
	family = le32(p) > 0xffff ? be32(p) : le32(p);
	if (family == V4_AF)
		return ETH_IPV4;
	return family == V6_AF_LINUX || family == V6_AF_BSD || family == V6_AF_FREEBSD ||
			       family == V6_AF_DARWIN
		       ? ETH_IPV6
		       : 0;
}

static int inside_raw(const struct cursor *c)
{
	if (!c->have)
		return -1;
	return c->p[0] >> 4 == 4 ? ETH_IPV4 : c->p[0] >> 4 == 6 ? ETH_IPV6 : 0;
}

static int inside_link(int link, struct cursor *c)
{
	const uint8_t *p;

	switch (link) {
	case PACKET_ETHERNET:
		p = take(c, 14);
		return p ? inside_vlan(c, be16(p + 12)) : -1;
	case PACKET_SLL:
		p = take(c, 16);
		return p ? inside_vlan(c, be16(p + 14)) : -1;
	case PACKET_SLL2:
		p = take(c, 20);
		return p ? inside_vlan(c, be16(p)) : -1;
	case PACKET_NULL:
	case PACKET_LOOP:
		return inside_family(c);
	case PACKET_RAW:
	case PACKET_RAW_BSD:
	case PACKET_RAW_OPENBSD:
	case PACKET_IPV4:
	case PACKET_IPV6:
		return inside_raw(c);
	default:
		return 0;
	}
}

/* ---- IP: leaves c at the TCP header ---- */

static enum packet_kind parse_ipv4(struct cursor *c, struct tcp_segment *s, bool *fragmented)
{
	const uint8_t *p = c->p;
	size_t head, total;

	if (c->have < 20)
		return PACKET_SHORT;
	head = (size_t)(p[0] & 15) * 4;
	total = be16(p + 2);
	if (p[0] >> 4 != 4 || head < 20)
		return PACKET_SHORT;
	if (p[9] != PROTO_TCP)
		return PACKET_OTHER;
	*fragmented = be16(p + 6) & 0x3fff;
	if (be16(p + 6) & 0x1fff)
		return PACKET_FRAGMENT;
	/* 0: left to the network card, which cuts a larger piece */
	if (total)
		limit(c, total);
	memcpy(s->src, p + 12, 4);
	memcpy(s->dst, p + 16, 4);
	return take(c, head) ? PACKET_TCP : PACKET_SHORT;
}

static enum packet_kind parse_ipv6(struct cursor *c, struct tcp_segment *s, bool *fragmented)
{
	const uint8_t *p = take(c, 40);
	unsigned next;

	if (!p || p[0] >> 4 != 6)
		return PACKET_SHORT;
	if (be16(p + 4)) /* 0: a jumbogram, or left to the card */
		limit(c, be16(p + 4));
	memcpy(s->src, p + 8, 16);
	memcpy(s->dst, p + 24, 16);
	for (next = p[6]; next != PROTO_TCP; next = p[0]) {
		if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_DSTOPTS &&
			next != PROTO_FRAGMENT)
			return PACKET_OTHER;
		p = take(c, 8);
		if (!p)
			return PACKET_SHORT;
		if (next == PROTO_FRAGMENT) {
			*fragmented = be16(p + 2) & 0xfff9;
			if (be16(p + 2) & 0xfff8)
				return PACKET_FRAGMENT;
		} else if (!take(c, (size_t)p[1] * 8)) {
			return PACKET_SHORT;
		}
	}
	return PACKET_TCP;
}

static enum packet_kind parse_tcp(struct cursor *c, struct tcp_segment *s)
{
	const uint8_t *p = take(c, 20);
	size_t options;

	if (!p || p[12] >> 4 < 5)
		return PACKET_SHORT;
	s->sport = be16(p);
	s->dport = be16(p + 2);
	s->seq = be32(p + 4);
	s->ack = be32(p + 8);
	s->flags = p[13];
	options = (size_t)(p[12] >> 4) * 4 - 20;
	if (options > c->len)
		return PACKET_SHORT;
	s->data = c->p + (options < c->have ? options : c->have);
	s->have = (uint32_t)(options < c->have ? c->have - options : 0);
	s->len = (uint32_t)(c->len - options);
	return PACKET_TCP;
}

enum packet_kind packet_parse(int link, const uint8_t *frame, size_t have, size_t len,
	struct tcp_segment *s, bool *fragmented)
{
	struct cursor c = {frame, have < len ? have : len, len};
	enum packet_kind kind;
	int type;

	*s = (struct tcp_segment){0};
	*fragmented = false;
	if (len > UINT32_MAX)
		return PACKET_SHORT;
	type = inside_link(link, &c);
	if (type < 0)
		return PACKET_SHORT;
	if (type != ETH_IPV4 && type != ETH_IPV6)
		return PACKET_OTHER;
	kind = type == ETH_IPV4 ? parse_ipv4(&c, s, fragmented) : parse_ipv6(&c, s, fragmented);
	return kind == PACKET_TCP ? parse_tcp(&c, s) : kind;
}
