/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wire_iscsi.c - iSCSI (RFC 7143, section 11: the PDUs), and in it the block commands of SCSI
 * (SBC-3).
 *
 * A PDU is a 48-byte header, additional headers, and a data segment padded to 4 bytes.  Digests, 4
 * bytes after the headers and after the data, are agreed on at login, in text that may be beyond
 * the snap length, or before the capture began.  So they are noticed: when no header is where the
 * next one should be, but one is 4 or 8 bytes further, that many are left out from then on; after
 * PDUs with data and after those without, each of its own.
 */
#include "trace/wire_bytes.h"
#include "trace/wire_impl.h"

#include <string.h>

enum {
	BHS = 48,
	CDB = 32,
	UNMAP_HEAD = 8,
	UNMAP_RANGE = 16,
	UNMAP_RANGES_MAX = 256,
	DATA_MAX = 1 << 26
};

enum opcode {
	NOP_OUT = 0x00,
	COMMAND = 0x01,
	TASK = 0x02,
	LOGIN = 0x03,
	TEXT = 0x04,
	DATA_OUT = 0x05,
	LOGOUT = 0x06,
	SNACK = 0x10,
	NOP_IN = 0x20,
	RESPONSE = 0x21,
	TASK_RESPONSE = 0x22,
	LOGIN_RESPONSE = 0x23,
	TEXT_RESPONSE = 0x24,
	DATA_IN = 0x25,
	LOGOUT_RESPONSE = 0x26,
	R2T = 0x31,
	ASYNC = 0x32,
	REJECT = 0x3f,
};

enum cdb {
	UNMAP = 0x42,
	READ_CAPACITY_10 = 0x25,
	SERVICE_ACTION_IN_16 = 0x9e,
	READ_CAPACITY_16 = 0x10,
	WRITE_SAME_10 = 0x41,
	WRITE_SAME_16 = 0x93,
	CDB_FUA = 8,
	CDB_UNMAP = 8,
};

/* What a pending command is, when it is not a request itself. */
enum { PLAIN, CAPACITY_10, CAPACITY_16, RANGES, RESPONDING };

/* half->state */
enum { BARE, WITH_DATA, BEFORE, TAG }; /* slack after PDUs; what the last one was; ended()'s */
enum { FIRST, WAS_BARE, WAS_WITH_DATA, WAS_LOGIN };
enum { TAG_DONE = 1, TAG_FAILED = 2, TAG_MORE = 4, TAG_SHIFT = 8 };

/* The commands that are requests of a trace: where their CDB holds the address and the length. */
static const struct shape {
	uint8_t opcode, op;
	uint8_t lba_at, lba_len, len_at, len_len;
	bool fua;
} shapes[] = {
	{0x08, TRACE_READ, 1, 3, 4, 1, false}, /* READ(6) */
	{0x28, TRACE_READ, 2, 4, 7, 2, true},
	{0xa8, TRACE_READ, 2, 4, 6, 4, true},
	{0x88, TRACE_READ, 2, 8, 10, 4, true},
	{0x0a, TRACE_WRITE, 1, 3, 4, 1, false}, /* WRITE(6) */
	{0x2a, TRACE_WRITE, 2, 4, 7, 2, true},
	{0xaa, TRACE_WRITE, 2, 4, 6, 4, true},
	{0x8a, TRACE_WRITE, 2, 8, 10, 4, true},
	{0x2e, TRACE_WRITE, 2, 4, 7, 2, false}, /* WRITE AND VERIFY */
	{0xae, TRACE_WRITE, 2, 4, 6, 4, false},
	{0x8e, TRACE_WRITE, 2, 8, 10, 4, false},
	{WRITE_SAME_10, TRACE_WRITE_ZEROES, 2, 4, 7, 2, false},
	{WRITE_SAME_16, TRACE_WRITE_ZEROES, 2, 8, 10, 4, false},
	{0x35, TRACE_FLUSH, 2, 4, 7, 2, false}, /* SYNCHRONIZE CACHE */
	{0x91, TRACE_FLUSH, 2, 8, 10, 4, false},
};

static const struct shape *shape_of(unsigned opcode)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].opcode == opcode)
			return &shapes[i];
	return NULL;
}

static uint64_t number(const uint8_t *p, unsigned len)
{
	uint64_t v = 0;

	while (len--)
		v = v << 8 | *p++;
	return v;
}

static uint64_t lba_of(const struct shape *s, const uint8_t *cdb)
{
	return number(cdb + s->lba_at, s->lba_len) & (s->lba_len == 3 ? 0x1fffff : UINT64_MAX);
}

static uint64_t blocks_of(const struct shape *s, const uint8_t *cdb)
{
	uint64_t n = number(cdb + s->len_at, s->len_len);

	return s->len_len == 1 && !n ? 256 : n;
}

/* A LUN as in the first level of addressing: peripheral or flat space. */
static uint64_t lun_of(const uint8_t *p)
{
	return be16(p + 8) & 0x3fff;
}

static uint64_t data_bytes(const uint8_t *p)
{
	return ((uint64_t)be24(p + 5) + 3) & ~3ull;
}

/* ---- does a header look as the RFC has it? ---- */

static bool valid_request(const uint8_t *p)
{
	unsigned op = p[0] & 0x3f;

	if (p[0] & 0x80 || (op != LOGIN && (p[2] || p[3])))
		return false;
	switch (op) {
	case COMMAND:
		return !(p[1] & 0x18) && (p[1] & 7) <= 4;
	case NOP_OUT:
		return p[1] == 0x80 && !p[4];
	case TASK:
	case LOGOUT:
		return p[1] & 0x80 && !p[4] && !be24(p + 5);
	case DATA_OUT:
		return !(p[1] & 0x7f) && !p[4];
	case LOGIN:
		return p[0] == (LOGIN | 0x40) && !(p[1] & 0x30) && !p[4];
	case TEXT:
		return !(p[1] & 0x3f) && !p[4];
	case SNACK:
		return (p[1] & 0xf0) == 0x80 && !p[4] && !be24(p + 5);
	default:
		return false;
	}
}

static bool valid_answer(const uint8_t *p)
{
	if (p[4])
		return false;
	switch (p[0]) {
	case RESPONSE:
		return (p[1] & 0xe1) == 0x80;
	case DATA_IN:
		return !(p[1] & 0x38) && !p[2];
	case NOP_IN:
	case R2T:
	case ASYNC:
	case REJECT:
	case TASK_RESPONSE:
	case LOGOUT_RESPONSE:
		return p[1] == 0x80;
	case LOGIN_RESPONSE:
		return !(p[1] & 0x30);
	case TEXT_RESPONSE:
		return !(p[1] & 0x3f);
	default:
		return false;
	}
}

static bool valid(enum wire_dir d, const uint8_t *p)
{
	return d == WIRE_REQUESTS ? valid_request(p) : valid_answer(p);
}

/* Commands whose two lengths agree, and the answers that carry most of the bytes. */
static bool plausible(struct wire *w, enum wire_dir d, const uint8_t *p)
{
	const struct shape *s = shape_of(p[CDB]);
	uint64_t len = be32(p + 20), blocks, block;

	(void)w;
	if (!valid(d, p))
		return false;
	if (d == WIRE_ANSWERS && p[0] == DATA_IN)
		return be24(p + 5) && be32(p + 20) == UINT32_MAX &&
		       (uint64_t)be32(p + 40) + be24(p + 5) <= DATA_MAX;
	if (d == WIRE_ANSWERS)
		return p[0] == RESPONSE && !be64(p + 8) && be32(p + 16) != UINT32_MAX &&
		       be24(p + 5) <= 512 && p[3] <= 0x40;
	if ((p[0] & 0x3f) != COMMAND || !s || s->op > TRACE_WRITE || p[4])
		return false;
	blocks = blocks_of(s, p + CDB);
	block = blocks ? len / blocks : 0;
	return block >= 512 && block <= 65536 && block * blocks == len && !(block & (block - 1)) &&
	       (s->op == TRACE_READ ? 0x40 : 0x20) == (p[1] & 0x60);
}

/* ---- requests ---- */

/* The parameter list of UNMAP, as far as it was captured: p[n] of `sent` bytes. */
static void ranges(
	struct wire *w, uint64_t tag, uint64_t unit, const uint8_t *p, size_t n, uint64_t sent)
{
	uint64_t block = wire_block(w, unit), want = sent;

	if (n >= 4 && be16(p + 2) + 8ull < want)
		want = be16(p + 2) + 8ull;
	want = want > UNMAP_HEAD ? (want - UNMAP_HEAD) / UNMAP_RANGE : 0;
	if (UNMAP_HEAD + want * UNMAP_RANGE > n)
		w->counts->ranges_cut++;
	for (uint64_t i = 0; i < want && UNMAP_HEAD + (i + 1) * UNMAP_RANGE <= n; i++) {
		const uint8_t *q = p + UNMAP_HEAD + i * UNMAP_RANGE;
		struct trace_record r = {.op = TRACE_DISCARD, .len_bytes = be32(q + 8) * block};

		if (__builtin_mul_overflow(be64(q), block, &r.offset_bytes))
			r.offset_bytes = UINT64_MAX; /* counted as impossible */
		if (r.len_bytes)
			wire_submit(w, tag, unit, &r);
	}
}

static void other(struct wire *w, uint64_t tag, uint64_t unit, const uint8_t *cdb)
{
	uint32_t kind = PLAIN;

	if (cdb[0] == READ_CAPACITY_10)
		kind = CAPACITY_10;
	else if (cdb[0] == SERVICE_ACTION_IN_16 && (cdb[1] & 0x1f) == READ_CAPACITY_16)
		kind = CAPACITY_16;
	w->counts->other++;
	wire_watch(w, tag, unit, kind);
}

static void command(struct wire *w, const uint8_t *p)
{
	const uint8_t *cdb = p + CDB;
	const struct shape *s = shape_of(cdb[0]);
	uint64_t tag = be32(p + 16), unit = lun_of(p), blocks;
	struct trace_record r = {0};

	wire_reuse(w, tag);
	if (cdb[0] == UNMAP) {
		wire_watch(w, tag, unit, RANGES);
		return;
	}
	blocks = s ? blocks_of(s, cdb) : 0;
	if (!s || (s->op != TRACE_FLUSH && !blocks)) {
		other(w, tag, unit, cdb);
		return;
	}
	r.op = s->op;
	if (s->op == TRACE_WRITE_ZEROES && cdb[1] & CDB_UNMAP)
		r.op = TRACE_DISCARD;
	if (s->fua && cdb[1] & CDB_FUA)
		r.flags = TRACE_FUA;
	if (s->op <= TRACE_WRITE)
		wire_learn_from(w, unit, be32(p + 20), blocks);
	if (s->op != TRACE_FLUSH) {
		r.len_bytes = blocks * wire_block(w, unit);
		if (__builtin_mul_overflow(
			    lba_of(s, cdb), (uint64_t)wire_block(w, unit), &r.offset_bytes))
			r.offset_bytes = UINT64_MAX;
	}
	wire_submit(w, tag, unit, &r);
}

/* How much of a command must be seen: the bytes of the CDB that are looked at. */
static size_t needed(const uint8_t *p, size_t n)
{
	const struct shape *s = n > CDB ? shape_of(p[CDB]) : NULL;

	if (n <= CDB)
		return CDB + 1;
	return CDB + (s ? (size_t)(s->len_at + s->len_len) : 10);
}

/* Bytes of a data segment, that begins at `at`, that are worth to be seen. */
static size_t parameters(struct wire *w, const uint8_t *p, size_t n)
{
	const struct wire_pending *r;
	uint64_t len = be24(p + 5), most = UNMAP_HEAD + UNMAP_RANGES_MAX * UNMAP_RANGE;
	unsigned op = p[0] & 0x3f;

	if (n < BHS || !len)
		return 0;
	if (op == COMMAND)
		return p[CDB] != UNMAP ? 0 : (size_t)(len < most ? len : most);
	r = wire_find(w, be32(p + 16));
	if (!r || !r->other)
		return 0;
	if (op == DATA_OUT && r->arg == RANGES && !be32(p + 40))
		return (size_t)(len < most ? len : most);
	if (op == DATA_IN && r->arg == CAPACITY_10 && len >= 8 && !be32(p + 40))
		return 8;
	return op == DATA_IN && r->arg == CAPACITY_16 && len >= 12 && !be32(p + 40) ? 12 : 0;
}

static void request(struct wire *w, const uint8_t *p, size_t n, size_t data_at)
{
	unsigned op = p[0] & 0x3f;
	uint64_t len = be24(p + 5), tag;
	struct wire_pending *r;

	if (op == COMMAND && n < needed(p, n)) {
		w->counts->headers_cut++;
		return;
	}
	if (op == COMMAND)
		command(w, p);
	if (n < 20 || !len || (op != COMMAND && op != DATA_OUT))
		return;
	tag = be32(p + 16);
	r = wire_find(w, tag);
	if (r && r->other && r->arg == RANGES && (op == COMMAND || (n >= BHS && !be32(p + 40)))) {
		size_t have = n > data_at ? n - data_at : 0;

		ranges(w, tag, r->unit, p + (have ? data_at : 0), have, len);
	}
}

/* ---- answers ---- */

static void capacity(struct wire *w, const struct wire_pending *r, const uint8_t *p)
{
	uint64_t last = r->arg == CAPACITY_10 ? be32(p) : be64(p), unit = r->unit, size;
	uint64_t block = be32(p + (r->arg == CAPACITY_10 ? 4 : 8));

	if (r->arg == CAPACITY_10 && last == UINT32_MAX)
		return; /* it is larger; READ CAPACITY(16) is to tell */
	wire_learn_block(w, unit, block);
	if (wire_block(w, unit) != block || __builtin_mul_overflow(last + 1, block, &size))
		return;
	if (w->sink->unit == WIRE_ANY_UNIT || w->sink->unit == unit)
		w->sink->size(w->sink->arg, size);
}

static void answer(struct wire *w, struct wire_half *h, const uint8_t *p, size_t n, size_t data_at)
{
	struct wire_pending *r;
	size_t len;

	if (n < 20)
		return;
	if (p[0] == RESPONSE || (p[0] == DATA_IN && p[1] & 1)) {
		bool failed = (p[0] == RESPONSE && p[2]) || (p[3] && p[3] != 4);

		h->state[TAG] =
			(uint64_t)be32(p + 16) << TAG_SHIFT | TAG_DONE | (failed ? TAG_FAILED : 0);
	}
	if (p[0] != DATA_IN)
		return;
	r = wire_find(w, be32(p + 16));
	len = parameters(w, p, n);
	if (len && n >= data_at + len)
		capacity(w, r, p + data_at);
	/* A read is over with the last of its data: the response that follows is often in the same
	 * segment, and then beyond the snap length. */
	if (r && !r->other && r->r.op == TRACE_READ && !h->state[TAG] && n >= 44 &&
		(uint64_t)be32(p + 40) + be24(p + 5) >= r->r.len_bytes)
		h->state[TAG] = (uint64_t)be32(p + 16) << TAG_SHIFT | TAG_DONE | TAG_MORE;
}

/* ---- as wire.c wants it ---- */

static uint64_t *slack_of(struct wire_half *h)
{
	return &h->state[h->state[BEFORE] == WAS_WITH_DATA ? WITH_DATA : BARE];
}

static bool learn_slack(struct wire_half *h, uint64_t n)
{
	uint64_t most = h->state[BEFORE] == WAS_WITH_DATA ? 8
			: h->state[BEFORE] == WAS_BARE	  ? 4
							  : 0;

	if (n % 4 || n > most || *slack_of(h))
		return false;
	*slack_of(h) = n;
	return true;
}

/* No header is here.  Is one behind a digest? */
static int not_here(struct wire_half *h, enum wire_dir d, const uint8_t *p, size_t n, bool cut)
{
	for (size_t at = 4; at <= 8; at += 4) {
		if (at + BHS > n)
			return cut ? WIRE_BAD : (int)(at + BHS);
		if (valid(d, p + at) && learn_slack(h, at)) {
			h->drop = at;
			return WIRE_AGAIN;
		}
	}
	return WIRE_BAD;
}

static int head(struct wire *w, enum wire_dir d, const uint8_t *p, size_t n, bool cut)
{
	struct wire_half *h = &w->half[d];
	size_t data_at, want;
	uint64_t total;
	bool login;

	if (n < BHS && !cut)
		return BHS;
	if (n < 8)
		return WIRE_BAD;
	if (!valid(d, p))
		return not_here(h, d, p, n, cut);
	login = (p[0] & 0x1f) == LOGIN;
	data_at = BHS + (size_t)p[4] * 4 + (login ? 0 : h->state[BARE]);
	want = parameters(w, p, n);
	if (want && n < data_at + want && !cut)
		return (int)(data_at + want);
	h->state[TAG] = 0;
	if (d == WIRE_REQUESTS)
		request(w, p, n, data_at);
	else
		answer(w, h, p, n, data_at);
	h->state[BEFORE] = login ? WAS_LOGIN : data_bytes(p) ? WAS_WITH_DATA : WAS_BARE;
	total = BHS + (uint64_t)p[4] * 4 + data_bytes(p) + (login ? 0 : *slack_of(h));
	h->skip = total > n ? total - n : 0;
	h->drop = total < n ? (size_t)total : 0;
	return WIRE_DONE;
}

static void ended(struct wire *w, enum wire_dir d)
{
	uint64_t tag = w->half[d].state[TAG];

	if (tag & TAG_DONE)
		wire_complete(w, tag >> TAG_SHIFT, tag & TAG_FAILED);
	if (tag & TAG_MORE)
		wire_watch(w, tag >> TAG_SHIFT, 0, RESPONDING);
}

static bool between(struct wire *w, enum wire_dir d, uint64_t n)
{
	return learn_slack(&w->half[d], n);
}

const struct wire_protocol wire_iscsi = {
	.name = "iscsi",
	.least = {BHS, BHS},
	.head = head,
	.ended = ended,
	.plausible = plausible,
	.between = between,
};
