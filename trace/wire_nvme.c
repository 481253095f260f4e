/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wire_nvme.c - NVMe/TCP (transport specification 1.0, section 3.6: the PDUs), and in it the
 * commands of the NVM command set.
 *
 * Each PDU tells its whole length, digests included.  A connection is one queue; the Connect
 * command tells which.  Where it was not seen, the first command that only one kind of queue knows
 * decides; until then only reads and writes whose two lengths agree are taken.
 */
#include "trace/wire_bytes.h"
#include "trace/wire_impl.h"

enum pdu { IC_REQ, IC_RESP, H2C_TERM, C2H_TERM, CAPSULE, RESPONSE, H2C_DATA, C2H_DATA, R2T = 9 };
enum {
	PDU_HEAD = 8,
	SQE = 8,
	COMMAND_SEEN = SQE + 52,
	COMMAND_BYTES = SQE + 64,
	CQE = 8,
	PLEN_MAX = 1 << 26
};
enum { DATA_LAST = 4, DATA_SUCCESS = 8, RANGE_BYTES = 16, RANGES_MAX = 256 };

enum opcode {
	FLUSH = 0x00,
	WRITE = 0x01,
	READ = 0x02,
	WRITE_ZEROES = 0x08,
	DATASET = 0x09,
	GET_FEATURES = 0x0a,
	ASYNC_EVENT = 0x0c,
	KEEP_ALIVE = 0x18,
	FABRICS = 0x7f,
};
enum { FABRICS_CONNECT = 1, DATASET_DEALLOCATE = 4, RW_FUA = 0x40 };

/* w->state[QUEUE] */
enum { QUEUE, UNKNOWN = 0, ADMIN, IO };
/* half->state */
enum { TAG, TAG_DONE = 1, TAG_FAILED = 2, TAG_MORE = 4, TAG_SHIFT = 8 };
/* A pending command that is no request, or not yet: it waits for its ranges, or for the response
 * after its data. */
enum { PLAIN, RANGES, RESPONDING };

static uint64_t pow2_block(uint64_t len, uint64_t blocks)
{
	uint64_t block = blocks ? len / blocks : 0;

	return block >= 512 && block <= 65536 && !(block & (block - 1)) && block * blocks == len
		       ? block
		       : 0;
}

/* ---- what a PDU may look like ---- */

static bool valid(enum wire_dir d, const uint8_t *p)
{
	static const struct {
		uint8_t head;
		enum wire_dir dir;
	} kinds[] = {[IC_REQ] = {128, WIRE_REQUESTS},
		[IC_RESP] = {128, WIRE_ANSWERS},
		[H2C_TERM] = {24, WIRE_REQUESTS},
		[C2H_TERM] = {24, WIRE_ANSWERS},
		[CAPSULE] = {COMMAND_BYTES, WIRE_REQUESTS},
		[RESPONSE] = {24, WIRE_ANSWERS},
		[H2C_DATA] = {24, WIRE_REQUESTS},
		[C2H_DATA] = {24, WIRE_ANSWERS},
		[R2T] = {24, WIRE_ANSWERS}};
	unsigned type = p[0];

	return type < sizeof(kinds) / sizeof(kinds[0]) && kinds[type].head &&
	       kinds[type].dir == d && p[2] == kinds[type].head && !(p[1] & 0xf0) &&
	       le32(p + 4) >= p[2] && le32(p + 4) <= PLEN_MAX && p[3] <= le32(p + 4);
}

/* Data: its own length, the place where it begins, and maybe a digest make up the PDU's. */
static bool valid_data(const uint8_t *p)
{
	uint64_t end = (uint64_t)p[3] + le32(p + 16);

	return p[3] >= 24 && (le32(p + 4) == end || le32(p + 4) == end + 4);
}

static bool plausible(struct wire *w, enum wire_dir d, const uint8_t *p)
{
	(void)w;
	if (!valid(d, p))
		return false;
	switch (p[0]) {
	case CAPSULE:
		/* by SGL, not fused; a namespace; in-capsule data within reason */
		return p[SQE + 1] == 0x40 && le32(p + 4) <= 1 << 20 && !(p[1] & ~3);
	case H2C_DATA:
	case C2H_DATA:
		return valid_data(p);
	case RESPONSE:
	case R2T:
		return !p[3] && (le32(p + 4) == 24 || le32(p + 4) == 28);
	default:
		return false;
	}
}

/* ---- requests ---- */

static void ranges(
	struct wire *w, uint64_t cid, uint64_t unit, const uint8_t *p, size_t n, uint64_t count)
{
	uint64_t block = wire_block(w, unit);

	if (count * RANGE_BYTES > n)
		w->counts->ranges_cut++;
	for (uint64_t i = 0; i < count && (i + 1) * RANGE_BYTES <= n; i++) {
		const uint8_t *q = p + i * RANGE_BYTES;
		struct trace_record r = {.op = TRACE_DISCARD, .len_bytes = le32(q + 4) * block};

		if (__builtin_mul_overflow(le64(q + 8), block, &r.offset_bytes))
			r.offset_bytes = UINT64_MAX; /* counted as impossible */
		if (r.len_bytes)
			wire_submit(w, cid, unit, &r);
	}
}

static uint64_t range_count(const uint8_t *sqe)
{
	return sqe[40] + 1ull;
}

static bool deallocates(const uint8_t *sqe)
{
	return sqe[0] == DATASET && sqe[44] & DATASET_DEALLOCATE;
}

/* Which queue is it?  Said by Connect, or by what only one of them can ask. */
static void learn_queue(struct wire *w, const uint8_t *sqe)
{
	unsigned op = sqe[0];
	uint64_t *queue = &w->state[QUEUE];

	if (op == FABRICS) {
		if (sqe[4] == FABRICS_CONNECT)
			*queue = le16(sqe + 42) ? IO : ADMIN;
		return;
	}
	if (*queue != UNKNOWN)
		return;
	if (op == GET_FEATURES || op == ASYNC_EVENT || op == KEEP_ALIVE)
		*queue = ADMIN;
	else if ((op == READ || op == WRITE) && le32(sqe + 4) && le32(sqe + 4) != UINT32_MAX &&
		 pow2_block(le32(sqe + 32), le16(sqe + 48) + 1ull))
		*queue = IO;
}

static void command(struct wire *w, const uint8_t *sqe)
{
	static const uint8_t ops[] = {[FLUSH] = TRACE_FLUSH,
		[WRITE] = TRACE_WRITE,
		[READ] = TRACE_READ,
		[WRITE_ZEROES] = TRACE_WRITE_ZEROES};
	uint64_t cid = le16(sqe + 2), unit = le32(sqe + 4), blocks = le16(sqe + 48) + 1ull;
	struct trace_record r = {0};

	wire_reuse(w, cid);
	learn_queue(w, sqe);
	if (w->state[QUEUE] == IO && deallocates(sqe)) {
		wire_watch(w, cid, unit, RANGES);
		return;
	}
	if (w->state[QUEUE] != IO || (sqe[0] > READ && sqe[0] != WRITE_ZEROES)) {
		w->counts->other++;
		wire_watch(w, cid, unit, PLAIN);
		return;
	}
	r.op = ops[sqe[0]];
	if (r.op == TRACE_READ || r.op == TRACE_WRITE)
		wire_learn_from(w, unit, le32(sqe + 32), blocks);
	if (r.op != TRACE_FLUSH) {
		r.flags = sqe[51] & RW_FUA ? TRACE_FUA : 0;
		r.len_bytes = blocks * wire_block(w, unit);
		if (__builtin_mul_overflow(
			    le64(sqe + 40), (uint64_t)wire_block(w, unit), &r.offset_bytes))
			r.offset_bytes = UINT64_MAX;
	}
	wire_submit(w, cid, unit, &r);
}

/* Where a capsule's data begins. */
static size_t data_at(const uint8_t *p)
{
	return p[3] > COMMAND_BYTES ? p[3] : COMMAND_BYTES;
}

static int capsule(struct wire *w, const uint8_t *p, size_t n, bool cut)
{
	uint64_t plen = le32(p + 4), count;
	size_t at = data_at(p), want;

	if (n < COMMAND_SEEN) {
		if (!cut)
			return COMMAND_SEEN;
		w->counts->headers_cut++;
		return WIRE_DONE;
	}
	count = deallocates(p + SQE) && plen > at ? range_count(p + SQE) : 0;
	want = at + (size_t)count * RANGE_BYTES;
	if (count && want <= plen && n < want && !cut)
		return (int)want;
	command(w, p + SQE);
	if (count && w->state[QUEUE] == IO)
		ranges(w, le16(p + SQE + 2), le32(p + SQE + 4), p + (n > at ? at : 0),
			n > at ? n - at : 0, count);
	return WIRE_DONE;
}

/* Data that the controller asked for: only ranges matter. */
static int data_out(struct wire *w, const uint8_t *p, size_t n, bool cut)
{
	const struct wire_pending *r;
	uint64_t count;

	if (n < 24)
		return cut ? WIRE_DONE : 24;
	r = wire_find(w, le16(p + 8));
	if (!r || !r->other || r->arg != RANGES || le32(p + 12) || p[3] < 24)
		return WIRE_DONE;
	count = le32(p + 16) / RANGE_BYTES;
	count = count < RANGES_MAX ? count : RANGES_MAX;
	if (!cut && n < p[3] + count * RANGE_BYTES)
		return (int)(p[3] + count * RANGE_BYTES);
	ranges(w, le16(p + 8), r->unit, p + (n > p[3] ? p[3] : 0), n > p[3] ? n - p[3] : 0, count);
	return WIRE_DONE;
}

/* ---- answers ---- */

/* A read is over with the last of its data: the response that follows is often in the same segment,
 * and then beyond the snap length. */
static int answer(struct wire_half *h, const uint8_t *p, size_t n, bool cut)
{
	if (n < 24)
		return cut ? WIRE_DONE : 24;
	if (p[0] == RESPONSE)
		h->state[TAG] = (uint64_t)le16(p + CQE + 12) << TAG_SHIFT | TAG_DONE |
				(le16(p + CQE + 14) >> 1 ? TAG_FAILED : 0);
	else if (p[1] & DATA_LAST)
		h->state[TAG] = (uint64_t)le16(p + 8) << TAG_SHIFT | TAG_DONE |
				(p[1] & DATA_SUCCESS ? 0 : TAG_MORE);
	return WIRE_DONE;
}

/* ---- as wire.c wants it ---- */

static int head(struct wire *w, enum wire_dir d, const uint8_t *p, size_t n, bool cut)
{
	struct wire_half *h = &w->half[d];
	int rc = WIRE_DONE;

	if (n < PDU_HEAD)
		return cut ? WIRE_BAD : PDU_HEAD;
	if (!valid(d, p))
		return WIRE_BAD;
	h->state[TAG] = 0;
	if (p[0] == CAPSULE)
		rc = capsule(w, p, n, cut);
	else if (p[0] == H2C_DATA)
		rc = data_out(w, p, n, cut);
	else if (p[0] == RESPONSE || p[0] == C2H_DATA)
		rc = answer(h, p, n, cut);
	if (rc == WIRE_DONE) {
		h->skip = le32(p + 4) > n ? le32(p + 4) - n : 0;
		h->drop = le32(p + 4) < n ? le32(p + 4) : 0;
	}
	return rc;
}

static void ended(struct wire *w, enum wire_dir d)
{
	uint64_t tag = w->half[d].state[TAG];

	if (d != WIRE_ANSWERS || !(tag & TAG_DONE))
		return;
	wire_complete(w, tag >> TAG_SHIFT, tag & TAG_FAILED);
	if (tag & TAG_MORE)
		wire_watch(w, tag >> TAG_SHIFT, 0, RESPONDING);
}

const struct wire_protocol wire_nvme = {
	.name = "nvme",
	.least = {COMMAND_SEEN, 24},
	.head = head,
	.ended = ended,
	.plausible = plausible,
};
