/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tcp.c - see tcp.h. */
#include "trace/tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

/* A segment that waits for what comes before it. */
struct held {
	struct held *next; /* by seq */
	uint64_t at_ns;
	uint32_t seq, have, len, ack;
	bool has_ack;
	uint8_t data[];
};

struct stream {
	bool begun, isn_known, fin, ack_seen;
	uint32_t isn, next; /* first number, and the byte that is to come */
	uint32_t fin_at;    /* the end, when fin */
	uint32_t acked;	    /* what the other end has read, when ack_seen */
	struct held *held;
	unsigned n_held;
};

struct connection {
	struct connection *chain;	  /* of its bucket */
	struct connection *newer, *older; /* by use */
	uint8_t server[16], client[16];
	uint16_t server_port, client_port;
	bool closed; /* kept, so that late repetitions do not open it again */
	void *conn;
	struct stream to[2]; /* by enum tcp_dir */
};

struct tcp {
	struct tcp_handler h;
	struct tcp_counts counts;
	struct connection *bucket[BUCKETS];
	struct connection *newest, *oldest;
	unsigned connections;
	uint64_t held_bytes;
};

/* How far b is behind a, in a space that wraps. */
static int32_t ahead(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b);
}

/* ---- streams ---- */

static void deliver(struct tcp *t, struct connection *c, enum tcp_dir d, uint64_t at_ns,
	const uint8_t *data, uint32_t have, uint32_t len)
{
	if (have)
		t->h.data(c->conn, d, at_ns, data, have);
	if (len > have)
		t->h.hole(c->conn, d, at_ns, len - have, false);
	c->to[d].next += len;
}

/* A segment whose first byte is not beyond what is to come. */
static bool deliver_rest(struct tcp *t, struct connection *c, enum tcp_dir d, uint64_t at_ns,
	uint32_t seq, const uint8_t *data, uint32_t have, uint32_t len)
{
	uint32_t known = c->to[d].next - seq;

	if (known >= len)
		return false;
	deliver(t, c, d, at_ns, data + (known < have ? known : have),
		have > known ? have - known : 0, len - known);
	return true;
}

static void drop_first(struct tcp *t, struct stream *s)
{
	struct held *h = s->held;

	s->held = h->next;
	s->n_held--;
	t->held_bytes -= sizeof(*h) + h->have;
	free(h);
}

/* Its sender had read more of the other direction than has been seen of it: what it answers comes
 * first. */
static bool early(const struct connection *c, enum tcp_dir d, bool has_ack, uint32_t ack)
{
	const struct stream *other = &c->to[!d];
	int32_t n = has_ack && other->begun ? ahead(ack, other->next) : 0;

	return n > (other->fin ? 1 : 0) && n <= TCP_JUMP_BYTES; /* a FIN counts as a byte */
}

/* What was held back and has its turn now. */
static void drain(struct tcp *t, struct connection *c)
{
	for (int idle = 0, d = 0; idle < 2; d = !d) {
		struct stream *s = &c->to[d];
		struct held *h = s->held;

		if (!h || ahead(h->seq, s->next) > 0 ||
			early(c, (enum tcp_dir)d, h->has_ack, h->ack)) {
			idle++;
			continue;
		}
		idle = 0;
		if (!deliver_rest(
			    t, c, (enum tcp_dir)d, h->at_ns, h->seq, h->data, h->have, h->len))
			t->counts.repeated++;
		drop_first(t, s);
		d = !d; /* the same again */
	}
}

static void lose(struct tcp *t, struct connection *c, enum tcp_dir d, uint64_t at_ns, uint32_t n)
{
	t->counts.gaps++;
	t->counts.lost_bytes += n;
	t->h.hole(c->conn, d, at_ns, n, true);
	c->to[d].next += n;
}

/* What the first held segment of d waits for will not come any more: bytes before it, or what it
 * answers. */
static void give_up(struct tcp *t, struct connection *c, enum tcp_dir d)
{
	struct stream *s = &c->to[d], *other = &c->to[!d];
	struct held *h = s->held;
	uint32_t n;

	if (ahead(h->seq, s->next) > 0) {
		lose(t, c, d, h->at_ns, h->seq - s->next);
	} else {
		n = h->ack - other->next;
		if (other->held && ahead(h->ack, other->held->seq) > 0)
			n = other->held->seq - other->next;
		if ((int32_t)n > 0)
			lose(t, c, !d, h->at_ns, n);
		else
			h->has_ack = false; /* they wait for each other */
	}
	drain(t, c);
}

static bool overdue(const struct tcp *t, const struct stream *s, uint64_t now_ns)
{
	const struct held *h = s->held;
	uint64_t age = now_ns > h->at_ns ? now_ns - h->at_ns : 0;
	bool gap = ahead(h->seq, s->next) > 0;

	if (s->n_held > TCP_HELD_SEGMENTS_MAX || t->held_bytes > TCP_HELD_BYTES_MAX)
		return true;
	if (!gap || (s->ack_seen && ahead(s->acked, h->seq) >= 0))
		return age >= TCP_ACKED_WAIT_NS;
	return age >= TCP_WAIT_NS;
}

static int hold(struct tcp *t, struct stream *s, const struct tcp_segment *g)
{
	struct held **at = &s->held, *h;

	while (*at && ahead((*at)->seq, g->seq) < 0)
		at = &(*at)->next;
	if (*at && (*at)->seq == g->seq && (*at)->len >= g->len) {
		t->counts.repeated++;
		return 0;
	}
	h = malloc(sizeof(*h) + g->have);
	if (!h)
		return -ENOMEM;
	*h = (struct held){.next = *at,
		.at_ns = g->at_ns,
		.seq = g->seq,
		.have = g->have,
		.len = g->len,
		.ack = g->ack,
		.has_ack = g->flags & TCP_ACK};
	if (g->have)
		memcpy(h->data, g->data, g->have);
	*at = h;
	s->n_held++;
	t->held_bytes += sizeof(*h) + g->have;
	t->counts.reordered++;
	return 0;
}

static void drop_held(struct tcp *t, struct stream *s)
{
	while (s->held)
		drop_first(t, s);
}

static int payload(struct tcp *t, struct connection *c, enum tcp_dir d, const struct tcp_segment *g)
{
	struct stream *s = &c->to[d];
	int32_t dist = s->begun ? ahead(g->seq, s->next) : 0;

	t->counts.segments++;
	t->counts.bytes += g->len;
	t->counts.cut_bytes += g->len - g->have;
	if (!s->begun || dist > TCP_JUMP_BYTES || dist < -TCP_JUMP_BYTES) {
		t->counts.jumps += s->begun;
		t->counts.midstream += !s->begun && !c->to[!d].begun;
		drop_held(t, s);
		s->begun = true;
		s->next = g->seq;
		t->h.jump(c->conn, d, g->at_ns);
		dist = 0;
	}
	if (dist <= 0 && s->next - g->seq >= g->len) {
		t->counts.repeated++;
		return 0;
	}
	if (dist > 0 || early(c, d, g->flags & TCP_ACK, g->ack))
		return hold(t, s, g);
	deliver_rest(t, c, d, g->at_ns, g->seq, g->data, g->have, g->len);
	drain(t, c);
	return 0;
}

/* ---- connections ---- */

static unsigned bucket_of(const struct connection *k)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (int i = 0; i < 16; i++)
		h = (h ^ k->server[i] ^ (uint64_t)k->client[i] << 8) * 0x100000001b3ull;
	h = (h ^ k->server_port ^ (uint64_t)k->client_port << 16) * 0x100000001b3ull;
	return (unsigned)(h >> 32) % BUCKETS;
}

static bool same_ends(const struct connection *a, const struct connection *b)
{
	return a->server_port == b->server_port && a->client_port == b->client_port &&
	       !memcmp(a->server, b->server, 16) && !memcmp(a->client, b->client, 16);
}

static void unlink_use(struct tcp *t, struct connection *c)
{
	*(c->newer ? &c->newer->older : &t->newest) = c->older;
	*(c->older ? &c->older->newer : &t->oldest) = c->newer;
}

static void link_use(struct tcp *t, struct connection *c)
{
	c->newer = NULL;
	c->older = t->newest;
	*(c->older ? &c->older->newer : &t->oldest) = c;
	t->newest = c;
}

static void shut(struct tcp *t, struct connection *c)
{
	if (c->closed)
		return;
	while (c->to[0].held || c->to[1].held)
		give_up(t, c, c->to[0].held ? TCP_TO_SERVER : TCP_TO_CLIENT);
	t->h.close(c->conn);
	c->conn = NULL;
	c->closed = true;
}

static void forget(struct tcp *t, struct connection *c)
{
	struct connection **at = &t->bucket[bucket_of(c)];

	shut(t, c);
	while (*at != c)
		at = &(*at)->chain;
	*at = c->chain;
	unlink_use(t, c);
	t->connections--;
	free(c);
}

static struct connection *find(struct tcp *t, const struct connection *key)
{
	struct connection *c = t->bucket[bucket_of(key)];

	while (c && !same_ends(c, key))
		c = c->chain;
	return c;
}

static struct connection *add(struct tcp *t, const struct connection *key)
{
	struct connection *c = malloc(sizeof(*c)), **at = &t->bucket[bucket_of(key)];

	if (!c)
		return NULL;
	*c = *key;
	c->conn = t->h.open(t->h.arg, c->server_port);
	if (!c->conn) {
		free(c);
		return NULL;
	}
	if (t->connections == TCP_CONNECTIONS_MAX) {
		t->counts.evicted += !t->oldest->closed;
		forget(t, t->oldest);
	}
	c->chain = *at;
	*at = c;
	link_use(t, c);
	t->connections++;
	t->counts.connections++;
	return c;
}

/* Whose segment is it?  False: nobody's.  Between two served ports, what answers a SYN, or gets
 * one, is the server; else the lower port. */
static bool key_of(
	const struct tcp *t, const struct tcp_segment *g, struct connection *key, enum tcp_dir *d)
{
	bool to = t->h.serves(t->h.arg, g->dport), from = t->h.serves(t->h.arg, g->sport);

	if (!to && !from)
		return false;
	if (to && from) {
		if (g->flags & TCP_SYN)
			to = !(g->flags & TCP_ACK);
		else
			to = g->dport <= g->sport;
	}
	*d = to ? TCP_TO_SERVER : TCP_TO_CLIENT;
	*key = (struct connection){
		.server_port = to ? g->dport : g->sport, .client_port = to ? g->sport : g->dport};
	memcpy(key->server, to ? g->dst : g->src, 16);
	memcpy(key->client, to ? g->src : g->dst, 16);
	return true;
}

/* Does this SYN open the connection that is known?  Another first number is that of a new one
 * between the same ends. */
static bool repeats(const struct stream *s, uint32_t isn)
{
	if (!s->begun)
		return true;
	if (s->isn_known)
		return s->isn == isn;
	return ahead(s->next, isn) > 0 && ahead(s->next, isn) <= TCP_JUMP_BYTES; /* it came late */
}

static struct connection *of_syn(struct tcp *t, struct connection *c, const struct connection *key,
	enum tcp_dir d, const struct tcp_segment *g)
{
	struct stream *s;

	if (c && (c->closed || !repeats(&c->to[d], g->seq))) {
		forget(t, c);
		c = NULL;
	}
	if (!c)
		c = add(t, key);
	if (!c)
		return NULL;
	s = &c->to[d];
	if (!s->begun)
		s->next = g->seq + 1;
	s->begun = s->isn_known = true;
	s->isn = g->seq;
	return c;
}

static bool ended(const struct stream *s)
{
	return s->fin && ahead(s->next, s->fin_at) >= 0;
}

static void note_end(
	struct tcp *t, struct connection *c, enum tcp_dir d, const struct tcp_segment *s)
{
	if (s->flags & TCP_FIN) {
		c->to[d].fin = true;
		c->to[d].fin_at = s->seq + s->len;
	}
	if ((s->flags & TCP_RST) || (ended(&c->to[0]) && ended(&c->to[1])))
		shut(t, c);
}

int tcp_input(struct tcp *t, const struct tcp_segment *g)
{
	struct tcp_segment s = *g;
	struct connection key, *c;
	enum tcp_dir d;
	int rc = 0;

	if (!key_of(t, g, &key, &d))
		return 0;
	c = find(t, &key);
	if (g->flags & TCP_SYN) {
		c = of_syn(t, c, &key, d, g);
		s.seq++;
	} else if (!c && g->len) {
		c = add(t, &key);
	}
	if (!c)
		return g->len || (g->flags & TCP_SYN) ? -ENOMEM : 0;
	if (c->closed)
		return 0;
	unlink_use(t, c);
	link_use(t, c);
	if (g->flags & TCP_ACK) {
		c->to[!d].acked = g->ack;
		c->to[!d].ack_seen = true;
	}
	if (s.len)
		rc = payload(t, c, d, &s);
	for (int i = 0; i < 2; i++)
		while (c->to[i].held && overdue(t, &c->to[i], g->at_ns))
			give_up(t, c, (enum tcp_dir)i);
	note_end(t, c, d, &s);
	return rc;
}

/* ---- the whole ---- */

struct tcp *tcp_new(const struct tcp_handler *h)
{
	struct tcp *t = calloc(1, sizeof(*t));

	if (t)
		t->h = *h;
	return t;
}

const struct tcp_counts *tcp_counts(const struct tcp *t)
{
	return &t->counts;
}

void tcp_finish(struct tcp *t)
{
	while (t->oldest)
		forget(t, t->oldest);
}

void tcp_free(struct tcp *t)
{
	if (!t)
		return;
	tcp_finish(t);
	free(t);
}
