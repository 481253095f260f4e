/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wire_nbd.c - NBD as of its doc/proto.md: the fixed newstyle handshake, then the transmission
 * phase.
 *
 * Every message of the transmission phase begins with a magic of its own, so that it is told from
 * the handshake, and found again after a loss, by that.  Only a simple reply does not tell how long
 * it is: a read's data follows it.  After one whose request was not seen the next magic is searched
 * for.
 */
#include "trace/wire_bytes.h"
#include "trace/wire_impl.h"

enum {
	REQUEST_MAGIC = 0x25609513,
	EXTENDED_REQUEST_MAGIC = 0x21e41c71,
	SIMPLE_MAGIC = 0x67446698,
	STRUCTURED_MAGIC = 0x668e33ef,
	EXTENDED_REPLY_MAGIC = 0x6e8a278c,
	REQUEST_BYTES = 28,
	SIMPLE_BYTES = 16,
	STRUCTURED_BYTES = 20,
	EXTENDED_BYTES = 32, /* request and reply */
};

enum command {
	READ,
	WRITE,
	DISC,
	FLUSH,
	TRIM,
	CACHE,
	WRITE_ZEROES,
	BLOCK_STATUS,
	RESIZE,
	COMMANDS
};
enum {
	FLAG_FUA = 1,
	FLAG_PAYLOAD_LEN = 32,
	FLAGS_KNOWN = 63,
	CHUNK_DONE = 1,
	CHUNK_ERROR = 0x8000
};
enum { OPT_EXPORT_NAME = 1, OPT_STARTTLS = 5, REP_ACK = 1, REP_INFO = 3, INFO_EXPORT = 0 };

static const uint64_t NBDMAGIC = 0x4e42444d41474943, IHAVEOPT = 0x49484156454f5054,
		      OPTION_REPLY_MAGIC = 0x3e889045565a9, OLDSTYLE_MAGIC = 0x420281861253;

/* half->state: of the requests, 1 when the client's flags are behind; of the answers, what ended()
 * has to do, and whether an answer to EXPORT_NAME, which has no magic, may come. */
enum { GREETED = 0, AFTER = 0, COOKIE = 1, FAILED = 2, EXPECT_EXPORT = 3 };
enum { NOTHING, COMPLETE, LAST_OF_SIMPLE, SEARCH, TLS };

/* ---- the client's side ---- */

static bool plausible_request(const uint8_t *p)
{
	uint32_t magic = be32(p);

	return (magic == REQUEST_MAGIC || magic == EXTENDED_REQUEST_MAGIC) &&
	       be16(p + 4) <= FLAGS_KNOWN && be16(p + 6) < COMMANDS;
}

static void submit(struct wire *w, unsigned type, unsigned flags, const uint8_t *p, uint64_t len)
{
	static const uint8_t ops[COMMANDS] = {[READ] = TRACE_READ,
		[WRITE] = TRACE_WRITE,
		[FLUSH] = TRACE_FLUSH,
		[TRIM] = TRACE_DISCARD,
		[WRITE_ZEROES] = TRACE_WRITE_ZEROES};
	struct trace_record r = {.op = ops[type], .flags = flags & FLAG_FUA ? TRACE_FUA : 0};
	uint64_t cookie = be64(p + 8);
	uint64_t unit = w->sink->unit == WIRE_ANY_UNIT ? 0 : w->sink->unit; /* an export has none */

	if (type == DISC)
		return; /* it has no answer */
	wire_reuse(w, cookie);
	if (type == CACHE || type == BLOCK_STATUS || type == RESIZE) {
		w->counts->other++;
		wire_watch(w, cookie, unit, 0);
		return;
	}
	if (type != FLUSH) {
		r.offset_bytes = be64(p + 16);
		r.len_bytes = len;
	}
	wire_submit(w, cookie, unit, &r);
}

static int request(struct wire *w, struct wire_half *h, const uint8_t *p, size_t n)
{
	bool extended = be32(p) == EXTENDED_REQUEST_MAGIC;
	size_t bytes = extended ? EXTENDED_BYTES : REQUEST_BYTES;
	unsigned flags, type;
	uint64_t len;

	if (n < bytes)
		return (int)bytes;
	if (!plausible_request(p))
		return WIRE_BAD;
	flags = be16(p + 4);
	type = be16(p + 6);
	len = extended ? be64(p + 24) : be32(p + 24);
	submit(w, type, flags, p, len);
	if (type == WRITE || (extended && flags & FLAG_PAYLOAD_LEN))
		h->skip = len;
	return WIRE_DONE;
}

static int from_client(struct wire *w, const uint8_t *p, size_t n)
{
	struct wire_half *h = &w->half[WIRE_REQUESTS];
	bool greeted = h->state[GREETED];

	if (n < 4)
		return 4;
	h->state[GREETED] = true;
	if (be32(p) == REQUEST_MAGIC || be32(p) == EXTENDED_REQUEST_MAGIC)
		return request(w, h, p, n);
	if (be32(p) == IHAVEOPT >> 32) {
		if (n < 16)
			return 16;
		h->skip = be32(p + 12);
		return be64(p) == IHAVEOPT ? WIRE_DONE : WIRE_BAD;
	}
	return greeted ? WIRE_BAD : WIRE_DONE; /* the client's flags */
}

/* ---- the server's side ---- */

static bool plausible_reply(const uint8_t *p)
{
	switch (be32(p)) {
	case SIMPLE_MAGIC:
		return be32(p + 4) < 256; /* an errno */
	case STRUCTURED_MAGIC:
	case EXTENDED_REPLY_MAGIC:
		return be16(p + 4) <= CHUNK_DONE && (be16(p + 6) & ~CHUNK_ERROR) < 16;
	default:
		return false;
	}
}

static int simple(struct wire *w, struct wire_half *h, const uint8_t *p)
{
	const struct wire_pending *r = wire_find(w, be64(p + 8));

	h->state[EXPECT_EXPORT] = false;
	h->state[COOKIE] = be64(p + 8);
	h->state[FAILED] = be32(p + 4) != 0;
	h->state[AFTER] = r || h->state[FAILED] ? COMPLETE : LAST_OF_SIMPLE;
	if (r && !r->other && r->r.op == TRACE_READ && !h->state[FAILED])
		h->skip = r->r.len_bytes;
	return WIRE_DONE;
}

static int chunk(struct wire *w, struct wire_half *h, const uint8_t *p, uint64_t len)
{
	struct wire_pending *r = wire_find(w, be64(p + 8));
	bool error = be16(p + 6) & CHUNK_ERROR;

	h->state[EXPECT_EXPORT] = false;
	h->state[COOKIE] = be64(p + 8);
	h->state[AFTER] = be16(p + 4) & CHUNK_DONE ? COMPLETE : NOTHING;
	h->state[FAILED] = error || (r && r->arg);
	if (r && error)
		r->arg = 1; /* remembered until the last chunk */
	h->skip = len;
	return WIRE_DONE;
}

static int option_reply(struct wire *w, struct wire_half *h, const uint8_t *p, size_t n)
{
	uint32_t option, type, len;

	if (n < 20)
		return 20;
	option = be32(p + 8);
	type = be32(p + 12);
	len = be32(p + 16);
	if (be64(p) != OPTION_REPLY_MAGIC)
		return WIRE_BAD;
	if (type == REP_INFO && len >= 10) {
		if (n < 30)
			return 30;
		if (be16(p + 20) == INFO_EXPORT)
			w->sink->size(w->sink->arg, be64(p + 22));
		len -= 10;
	}
	h->skip = len;
	h->state[AFTER] = option == OPT_STARTTLS && type == REP_ACK ? TLS : NOTHING;
	return WIRE_DONE;
}

static int greeting(struct wire *w, struct wire_half *h, const uint8_t *p, size_t n)
{
	if (n < 16)
		return 16;
	if (be64(p) != NBDMAGIC)
		return WIRE_BAD;
	if (be64(p + 8) == IHAVEOPT) {
		h->state[EXPECT_EXPORT] = true;
		h->skip = 2;
		return WIRE_DONE;
	}
	if (be64(p + 8) != OLDSTYLE_MAGIC)
		return WIRE_BAD;
	if (n < 24)
		return 24;
	w->sink->size(w->sink->arg, be64(p + 16));
	h->skip = 128;
	return WIRE_DONE;
}

static int from_server(struct wire *w, const uint8_t *p, size_t n)
{
	struct wire_half *h = &w->half[WIRE_ANSWERS];

	h->state[AFTER] = NOTHING;
	if (n < 4)
		return 4;
	switch (be32(p)) {
	case SIMPLE_MAGIC:
		return n < SIMPLE_BYTES ? SIMPLE_BYTES : simple(w, h, p);
	case STRUCTURED_MAGIC:
		return n < STRUCTURED_BYTES ? STRUCTURED_BYTES : chunk(w, h, p, be32(p + 16));
	case EXTENDED_REPLY_MAGIC:
		return n < EXTENDED_BYTES ? EXTENDED_BYTES : chunk(w, h, p, be64(p + 24));
	}
	if (be32(p) == OPTION_REPLY_MAGIC >> 32)
		return option_reply(w, h, p, n);
	if (be32(p) == NBDMAGIC >> 32)
		return greeting(w, h, p, n);
	/* what answers EXPORT_NAME: size, flags, and 124 zeroes or none */
	if (!h->state[EXPECT_EXPORT])
		return WIRE_BAD;
	if (n < 10)
		return 10;
	h->state[EXPECT_EXPORT] = false;
	w->sink->size(w->sink->arg, be64(p));
	h->state[AFTER] = SEARCH;
	return WIRE_DONE;
}

/* ---- as wire.c wants it ---- */

static int head(struct wire *w, enum wire_dir d, const uint8_t *p, size_t n, bool cut)
{
	(void)cut; /* nothing can be done without */
	return d == WIRE_REQUESTS ? from_client(w, p, n) : from_server(w, p, n);
}

static void ended(struct wire *w, enum wire_dir d)
{
	struct wire_half *h = &w->half[d];

	if (d == WIRE_REQUESTS)
		return;
	switch (h->state[AFTER]) {
	case COMPLETE:
		wire_complete(w, h->state[COOKIE], h->state[FAILED]);
		break;
	case LAST_OF_SIMPLE:
		w->counts->strays++;
		h->searching = true;
		break;
	case SEARCH:
		h->searching = true;
		break;
	case TLS:
		wire_encrypted(w);
		break;
	}
}

static bool plausible(struct wire *w, enum wire_dir d, const uint8_t *p)
{
	(void)w;
	return d == WIRE_REQUESTS ? plausible_request(p) : plausible_reply(p);
}

const struct wire_protocol wire_nbd = {
	.name = "nbd",
	.least = {REQUEST_BYTES, SIMPLE_BYTES},
	.head = head,
	.ended = ended,
	.plausible = plausible,
};
