/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.c - see trace.h and docs/FORMAT.md, "Trace file".
 *
 * A record is a control word with the byte length of each field, then the fields.  Times and
 * offsets are deltas to the record before it in the same block, so that every block stands alone.
 * Encoding stores eight bytes per field and advances by the field's length: no loop, hardly a
 * branch; the recorder does it on the data path.
 */
#include "format/trace.h"
#include "sys/crc.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

enum {
	BLOCK_MAGIC = 0x42435254, /* "TRCB" */
	CRC_AT = TRACE_BLOCK_BYTES - 4,
	PAYLOAD_MAX = CRC_AT - TRACE_BLOCK_HEAD,
	COMMENT_AT = 128,
	SLACK = 8, /* the last field's store may reach this far beyond it */
};

static const char *const op_names[TRACE_OPS] = {
	"read", "write", "flush", "discard", "write-zeroes"};
static const char *const source_names[TRACE_SRCS] = {
	"none", "zero", "journal", "cache", "prefetch", "store"};

const char *trace_op_name(unsigned op)
{
	return op < TRACE_OPS ? op_names[op] : "?";
}

const char *trace_source_name(unsigned source)
{
	return source < TRACE_SRCS ? source_names[source] : "?";
}

static inline uint64_t zigzag(uint64_t delta)
{
	return (delta << 1) ^ (0 - (delta >> 63));
}

static inline uint64_t unzigzag(uint64_t v)
{
	return (v >> 1) ^ (0 - (v & 1));
}

static void put_crc(uint8_t *block, uint32_t crc)
{
	struct writer w = writer_of(block + CRC_AT, 4);

	put_u32(&w, crc32c(crc, block, CRC_AT));
}

/* ---- header ---- */

void trace_header_encode(const struct trace_header *h, uint8_t *block)
{
	struct writer w = writer_of(block, CRC_AT);
	size_t len = strnlen(h->comment, TRACE_COMMENT_MAX);

	put_bytes(&w, TRACE_MAGIC, TRACE_MAGIC_BYTES);
	put_u32(&w, TRACE_VERSION);
	put_u32(&w, TRACE_BLOCK_BYTES);
	put_bytes(&w, h->trace_uuid, 16);
	put_bytes(&w, h->image_uuid, 16);
	put_u64(&w, h->size_bytes);
	put_u64(&w, h->start_wall_ns);
	put_u32(&w, 1); /* ns per unit of time */
	put_u32(&w, (uint32_t)len);
	put_zeroes(&w, COMMENT_AT - 72);
	put_bytes(&w, h->comment, len);
	put_zeroes(&w, CRC_AT - COMMENT_AT - len);
	assert(!w.bad && w.p == w.end);
	put_crc(block, 0);
}

static int header_body(struct trace_header *h, struct reader *r, struct err *e)
{
	uint32_t block_bytes = get_u32(r), unit, comment;

	get_bytes(r, h->trace_uuid, 16);
	get_bytes(r, h->image_uuid, 16);
	h->size_bytes = get_u64(r);
	h->start_wall_ns = get_u64(r);
	unit = get_u32(r);
	comment = get_u32(r);
	get_zeroes(r, COMMENT_AT - 72);
	if (block_bytes != TRACE_BLOCK_BYTES || unit != 1 || comment > TRACE_COMMENT_MAX)
		return err_set(e, -EUCLEAN, "trace header: impossible contents");
	memset(h->comment, 0, sizeof(h->comment));
	get_bytes(r, h->comment, comment);
	get_zeroes(r, CRC_AT - COMMENT_AT - comment);
	if (r->bad || memchr(h->comment, 0, comment))
		return err_set(e, -EUCLEAN, "trace header: impossible contents");
	return 0;
}

static int header_decode(struct trace_header *h, const uint8_t *buf, size_t len, struct err *e)
{
	struct reader r = reader_of(buf, len);
	const uint8_t *magic = reader_take(&r, TRACE_MAGIC_BYTES);
	uint32_t version = get_u32(&r), crc;

	if (!magic || memcmp(magic, TRACE_MAGIC, TRACE_MAGIC_BYTES))
		return err_set(e, -EUCLEAN, "not an LSVD trace");
	if (r.bad)
		return err_set(e, -EUCLEAN, "the trace's header is cut off");
	if (version != TRACE_VERSION)
		return err_set(e, -EPROTO, "trace version %u; this build knows version %d", version,
			TRACE_VERSION);
	if (len < TRACE_BLOCK_BYTES)
		return err_set(e, -EUCLEAN, "the trace's header is cut off");
	r = reader_of(buf + CRC_AT, 4);
	crc = get_u32(&r);
	if (crc != crc32c(0, buf, CRC_AT))
		return err_set(e, -EBADMSG, "the trace's header is damaged (checksum)");
	r = reader_of(buf + 12, CRC_AT - 12);
	return header_body(h, &r, e);
}

/* ---- writing blocks ---- */

void trace_block_begin(struct trace_block *b, uint8_t *buf, uint64_t first_record, uint64_t dropped)
{
	*b = (struct trace_block){.buf = buf, .first_record = first_record, .dropped = dropped};
}

/* Length code of v: 0..6 bytes, or 7 for eight. */
static inline unsigned code_of(uint64_t v)
{
	unsigned n = v ? (71 - (unsigned)__builtin_clzll(v)) / 8 : 0;

	return n > 6 ? 7 : n;
}

static inline unsigned bytes_of(unsigned code)
{
	return code + (code == 7);
}

static inline uint8_t *put_field(uint8_t *p, uint64_t v, unsigned code)
{
	uint64_t le = htole64(v);

	memcpy(p, &le, sizeof(le));
	return p + bytes_of(code);
}

int trace_block_add(struct trace_block *b, const struct trace_record *r)
{
	uint8_t *start = b->buf + TRACE_BLOCK_HEAD + b->used, *p = start;
	uint64_t submit, latency, offset;
	unsigned cs, cl, co, cn, cj, ctl;

	if (!trace_record_ok(r))
		return -EINVAL;
	if (b->used > PAYLOAD_MAX - TRACE_RECORD_MAX - SLACK)
		return 0;
	if (!b->count)
		b->base_ns = b->prev_ns = r->submit_ns;
	submit = zigzag(r->submit_ns - b->prev_ns);
	latency = r->complete_ns ? r->complete_ns - r->submit_ns + 1 : 0;
	offset = zigzag(r->offset_bytes - b->prev_end);
	cs = code_of(submit);
	cl = code_of(latency);
	co = code_of(offset);
	cn = code_of(r->len_bytes);
	cj = code_of(r->object);
	ctl = cs | cl << 3 | co << 6 | cn << 9 | cj << 12 | (r->stream ? 1u << 15 : 0);
	p[0] = (uint8_t)ctl;
	p[1] = (uint8_t)(ctl >> 8);
	p[2] = (uint8_t)(r->op | r->flags << 3 | r->source << 5);
	p[3] = r->stream;
	p += 3 + (r->stream != 0);
	p = put_field(p, submit, cs);
	p = put_field(p, latency, cl);
	p = put_field(p, offset, co);
	p = put_field(p, r->len_bytes, cn);
	p = put_field(p, r->object, cj);
	b->prev_ns = r->submit_ns;
	b->prev_end = r->offset_bytes + r->len_bytes;
	b->used += (uint32_t)(p - start);
	b->count++;
	return 1;
}

void trace_block_seal(const struct trace_block *b, uint8_t *out, const uint8_t trace_uuid[16],
	uint64_t seq, uint32_t used, uint32_t count)
{
	struct writer w = writer_of(out, CRC_AT);

	assert(used <= PAYLOAD_MAX);
	put_u32(&w, BLOCK_MAGIC);
	put_u32(&w, count);
	put_u64(&w, seq);
	put_u64(&w, b->first_record);
	put_u64(&w, b->dropped);
	put_u64(&w, b->base_ns);
	put_u32(&w, used);
	put_u32(&w, 0);
	w.p += used;
	put_zeroes(&w, PAYLOAD_MAX - used);
	assert(!w.bad && w.p == w.end);
	put_crc(out, crc32c(0, trace_uuid, 16));
}

/* ---- reading blocks ---- */

void trace_decoder_init(struct trace_decoder *d)
{
	*d = (struct trace_decoder){0};
}

static void take_record(struct trace_decoder *d, struct trace_record *r)
{
	unsigned ctl = get_u16(&d->r), kind = get_u8(&d->r);
	uint64_t latency;

	r->op = kind & 7;
	r->flags = kind >> 3 & 3;
	r->source = (uint8_t)(kind >> 5);
	r->stream = ctl >> 15 ? get_u8(&d->r) : 0;
	r->submit_ns = d->prev_ns + unzigzag(get_le(&d->r, bytes_of(ctl & 7)));
	latency = get_le(&d->r, bytes_of(ctl >> 3 & 7));
	r->complete_ns = latency ? r->submit_ns + latency - 1 : 0;
	r->offset_bytes = d->prev_end + unzigzag(get_le(&d->r, bytes_of(ctl >> 6 & 7)));
	r->len_bytes = get_le(&d->r, bytes_of(ctl >> 9 & 7));
	r->object = get_le(&d->r, bytes_of(ctl >> 12 & 7));
	if (!trace_record_ok(r))
		d->r.bad = true;
	d->prev_ns = r->submit_ns;
	d->prev_end = r->offset_bytes + r->len_bytes;
}

static void begin_records(
	struct trace_decoder *d, const uint8_t *payload, size_t used, uint64_t base)
{
	d->r = reader_of(payload, used);
	d->prev_ns = base;
	d->prev_end = 0;
}

/* Checks every byte of the block, its records included; leaves d at its first record. */
static int open_block(
	struct trace_decoder *d, const uint8_t *buf, uint64_t *first, uint64_t *dropped)
{
	struct reader r = reader_of(buf + CRC_AT, 4);
	const uint8_t *payload;
	uint64_t base, seq;
	uint32_t count, used;
	struct trace_record rec;

	if (get_u32(&r) != crc32c(crc32c(0, d->header.trace_uuid, 16), buf, CRC_AT))
		return -EBADMSG;
	r = reader_of(buf, CRC_AT);
	if (get_u32(&r) != BLOCK_MAGIC)
		return -EUCLEAN;
	count = get_u32(&r);
	seq = get_u64(&r);
	*first = get_u64(&r);
	*dropped = get_u64(&r);
	base = get_u64(&r);
	used = get_u32(&r);
	get_zeroes(&r, 4);
	if (r.bad || used > PAYLOAD_MAX || seq != d->blocks || *first < d->expected ||
		*dropped < d->counts.dropped)
		return -EUCLEAN;
	payload = reader_take(&r, used);
	get_zeroes(&r, PAYLOAD_MAX - used);
	begin_records(d, payload, used, base);
	for (uint32_t i = 0; i < count && !d->r.bad; i++)
		take_record(d, &rec);
	if (r.bad || d->r.bad || d->r.p != d->r.end)
		return -EUCLEAN;
	begin_records(d, payload, used, base);
	d->left = count;
	return 0;
}

int trace_decoder_feed(struct trace_decoder *d, const uint8_t *buf, size_t len, struct err *e)
{
	uint64_t first, dropped;

	d->left = 0;
	if (!d->blocks) {
		int rc = header_decode(&d->header, buf, len, e);

		d->blocks = rc == 0;
		return rc;
	}
	if (len < TRACE_BLOCK_BYTES || open_block(d, buf, &first, &dropped) < 0) {
		d->bad_run++;
	} else {
		d->counts.skipped_blocks += d->bad_run;
		d->counts.skipped_records += first - d->expected;
		d->counts.dropped = dropped;
		d->expected = first + d->left;
		d->bad_run = 0;
	}
	d->blocks++;
	return 0;
}

bool trace_decoder_next(struct trace_decoder *d, struct trace_record *r)
{
	if (!d->left)
		return false;
	take_record(d, r);
	assert(!d->r.bad); /* open_block() looked at every record */
	d->left--;
	d->counts.records++;
	return true;
}

int trace_decoder_end(struct trace_decoder *d, struct err *e)
{
	d->left = 0;
	d->counts.torn_blocks += d->bad_run;
	d->bad_run = 0;
	return d->blocks ? 0 : err_set(e, -EUCLEAN, "not an LSVD trace: the file is empty");
}
