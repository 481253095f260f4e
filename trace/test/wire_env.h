/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wire_env.h - connections made up for tests: what the two ends say, packed into frames, with every
 * mishap.
 *
 *   struct talk t = {0};
 *   nbd_hello(&t); nbd_read(&t, ...);      says who sends what, in order, and what a trace must
 * hold struct frames f = pack(&t, &how);      the frames, cut up as `how` says disturb(&f, ...);
 * doubled, out of order, lost, cut feed(&f, &got);                        through capture.h
 */
#ifndef LSVD_TRACE_TEST_WIRE_ENV_H
#define LSVD_TRACE_TEST_WIRE_ENV_H

#include "test/test.h"
#include "trace/capture.h"

enum { PIECE_MAX = 1 << 17, PIECES_MAX = 2048, RECORDS_MAX = 4096 };

struct piece {
	enum wire_dir dir;
	size_t len;
	uint8_t *bytes;
};

struct talk {
	const struct wire_protocol *protocol;
	struct piece pieces[PIECES_MAX];
	unsigned n;
	struct trace_record want[RECORDS_MAX];
	unsigned n_want;
	uint64_t tag;
};

struct frame {
	uint8_t *bytes;
	size_t have, len;
	enum wire_dir dir;
	unsigned piece; /* of which it is the beginning or a part */
};

struct frames {
	struct frame *f;
	unsigned n, room;
};

struct got {
	struct trace_record records[RECORDS_MAX];
	unsigned n;
	struct capture_counts counts;
};

/* ---- bytes, most or least significant first ---- */

struct bytes {
	uint8_t b[PIECE_MAX];
	size_t n;
};

static inline void put_be(struct bytes *b, uint64_t v, unsigned n)
{
	while (n--)
		b->b[b->n++] = (uint8_t)(v >> 8 * n);
}

static inline void put_fill(struct bytes *b, int byte, size_t n)
{
	memset(b->b + b->n, byte, n);
	b->n += n;
}

static inline void poke_be(struct bytes *b, size_t at, uint64_t v, unsigned n)
{
	while (n--)
		b->b[at++] = (uint8_t)(v >> 8 * n);
}

static inline void poke_le(struct bytes *b, size_t at, uint64_t v, unsigned n)
{
	for (; n--; v >>= 8)
		b->b[at++] = (uint8_t)v;
}

static inline void say(struct talk *t, enum wire_dir dir, const struct bytes *b)
{
	struct piece *p = &t->pieces[t->n++];

	assert_true(t->n < PIECES_MAX);
	*p = (struct piece){dir, b->n, malloc(b->n)};
	memcpy(p->bytes, b->b, b->n);
}

static inline void want(struct talk *t, unsigned op, uint64_t off, uint64_t len, unsigned flags)
{
	t->want[t->n_want++] = (struct trace_record){
		.op = (uint8_t)op, .offset_bytes = off, .len_bytes = len, .flags = (uint8_t)flags};
}

static inline void talk_free(struct talk *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->pieces[i].bytes);
	free(t);
}

static inline struct talk *talk_new(const struct wire_protocol *p)
{
	struct talk *t = calloc(1, sizeof(*t));

	t->protocol = p;
	return t;
}

/* ---- NBD ---- */

static inline void nbd_hello(struct talk *t, bool by_name)
{
	struct bytes b = {.n = 0};

	put_be(&b, 0x4e42444d41474943, 8);
	put_be(&b, 0x49484156454f5054, 8);
	put_be(&b, 1, 2); /* fixed newstyle, with the zeroes */
	say(t, WIRE_ANSWERS, &b);
	b.n = 0;
	put_be(&b, 1, 4);
	say(t, WIRE_REQUESTS, &b);
	for (unsigned option = by_name ? 1 : 7; option; option = 0) {
		b.n = 0;
		put_be(&b, 0x49484156454f5054, 8);
		put_be(&b, option, 4);
		put_be(&b, by_name ? 4 : 10, 4);
		put_fill(&b, 'x', by_name ? 4 : 10);
		say(t, WIRE_REQUESTS, &b);
		b.n = 0;
		if (by_name) {
			put_be(&b, 1 << 30, 8);
			put_be(&b, 0x3f, 2);
			put_fill(&b, 0, 124);
		}
		for (unsigned type = by_name ? 0 : 3; type; type = type == 3 ? 1 : 0) {
			put_be(&b, 0x3e889045565a9, 8);
			put_be(&b, option, 4);
			put_be(&b, type, 4);
			put_be(&b, type == 3 ? 12 : 0, 4);
			if (type == 3) {
				put_be(&b, 0, 2);
				put_be(&b, 1 << 30, 8);
				put_be(&b, 0x3f, 2);
			}
		}
		say(t, WIRE_ANSWERS, &b);
	}
}

static inline void nbd_request(
	struct talk *t, unsigned type, unsigned flags, uint64_t off, uint64_t len, bool extended)
{
	struct bytes b = {.n = 0};

	put_be(&b, extended ? 0x21e41c71 : 0x25609513, 4);
	put_be(&b, flags, 2);
	put_be(&b, type, 2);
	put_be(&b, ++t->tag, 8);
	put_be(&b, off, 8);
	put_be(&b, len, extended ? 8 : 4);
	if (type == 1)
		put_fill(&b, 0x5a, len);
	say(t, WIRE_REQUESTS, &b);
}

static inline void nbd_simple(struct talk *t, uint64_t tag, unsigned error, size_t data)
{
	struct bytes b = {.n = 0};

	put_be(&b, 0x67446698, 4);
	put_be(&b, error, 4);
	put_be(&b, tag, 8);
	put_fill(&b, 0xa5, data);
	say(t, WIRE_ANSWERS, &b);
}

static inline void nbd_chunk(
	struct talk *t, uint64_t tag, unsigned flags, unsigned type, size_t len, bool extended)
{
	struct bytes b = {.n = 0};

	put_be(&b, extended ? 0x6e8a278c : 0x668e33ef, 4);
	put_be(&b, flags, 2);
	put_be(&b, type, 2);
	put_be(&b, tag, 8);
	if (extended)
		put_be(&b, 0, 8);
	put_be(&b, len, extended ? 8 : 4);
	put_fill(&b, 0xa5, len);
	say(t, WIRE_ANSWERS, &b);
}

/* Some requests of every kind, in several ways. */
static inline void nbd_requests(struct talk *t, uint64_t *s, unsigned n)
{
	static const uint8_t ops[] = {
		TRACE_READ, TRACE_WRITE, 0, TRACE_FLUSH, TRACE_DISCARD, 0, TRACE_WRITE_ZEROES};

	for (unsigned i = 0; i < n; i++) {
		unsigned type = (unsigned)(test_rand(s) % 8),
			 fua = type != 0 && type < 7 && test_rand(s) % 4 == 0;
		uint64_t off = test_rand(s) % (1 << 21) * 512, len = (1 + test_rand(s) % 16) * 512;
		bool extended = test_rand(s) % 4 == 0, error = test_rand(s) % 8 == 0;

		if (type == 2)
			continue; /* disconnect */
		nbd_request(t, type, fua, off, len, extended);
		if (type == 5 || type == 7) {
			nbd_chunk(t, t->tag, 1, type == 7 ? 5 : 0, type == 7 ? 12 : 0, extended);
			continue;
		}
		want(t, ops[type], type == 3 ? 0 : off, type == 3 ? 0 : len,
			(fua ? TRACE_FUA : 0) | (error ? TRACE_ERROR : 0));
		if (!extended && test_rand(s) % 2) {
			nbd_simple(t, t->tag, error ? 5 : 0, type == 0 && !error ? len : 0);
			continue;
		}
		if (type == 0 && !error) {
			nbd_chunk(t, t->tag, 0, 1, len / 2 + 8, extended);
			nbd_chunk(t, t->tag, 0, 2, 12, extended);
		}
		nbd_chunk(t, t->tag, 1, error ? 0x8001 : 0, error ? 6 : 0, extended);
	}
}

/* ---- iSCSI ---- */

struct iscsi_digests {
	size_t header, data;
};

static inline void iscsi_pdu(struct talk *t, enum wire_dir dir, struct bytes *b, size_t data,
	int fill, struct iscsi_digests dg)
{
	poke_be(b, 5, data, 3);
	put_fill(b, 0xd1, dg.header);
	if (data) {
		put_fill(b, fill, data + (4 - data % 4) % 4);
		put_fill(b, 0xd2, dg.data);
	}
	say(t, dir, b);
}

static inline struct bytes bhs(unsigned op, unsigned flags, uint64_t tag)
{
	struct bytes b = {.n = 0};

	put_fill(&b, 0, 48);
	poke_be(&b, 0, op, 1);
	poke_be(&b, 1, flags, 1);
	poke_be(&b, 16, tag, 4);
	return b;
}

static inline void iscsi_login(struct talk *t)
{
	struct bytes b = bhs(0x43, 0x87, 1);
	struct iscsi_digests none = {0, 0};

	iscsi_pdu(t, WIRE_REQUESTS, &b, 77, 'k', none);
	b = bhs(0x23, 0x87, 1);
	iscsi_pdu(t, WIRE_ANSWERS, &b, 33, 'v', none);
	t->tag = 1;
}

static inline void iscsi_response(struct talk *t, unsigned status, struct iscsi_digests dg)
{
	struct bytes b = bhs(0x21, 0x80, t->tag);

	b.b[3] = (uint8_t)status;
	iscsi_pdu(t, WIRE_ANSWERS, &b, status ? 20 : 0, 1, dg);
}

static inline void iscsi_data_in(
	struct talk *t, size_t off, size_t len, unsigned flags, struct iscsi_digests dg)
{
	struct bytes b = bhs(0x25, flags, t->tag);

	poke_be(&b, 20, 0xffffffff, 4);
	poke_be(&b, 40, off, 4);
	iscsi_pdu(t, WIRE_ANSWERS, &b, len, 0xa5, dg);
}

/* READ CAPACITY(16) says 4096-byte blocks, 1 GiB. */
static inline void iscsi_capacity(struct talk *t, struct iscsi_digests dg)
{
	struct bytes b = bhs(0x01, 0xc1, ++t->tag);

	poke_be(&b, 20, 32, 4);
	poke_be(&b, 32, 0x9e10, 2);
	iscsi_pdu(t, WIRE_REQUESTS, &b, 0, 0, dg);
	b = bhs(0x25, 0x81, t->tag);
	poke_be(&b, 20, 0xffffffff, 4);
	poke_be(&b, 5, 32, 3);
	put_fill(&b, 0xd1, dg.header);
	put_be(&b, (1 << 18) - 1, 8);
	put_be(&b, 4096, 4);
	put_fill(&b, 0, 20);
	put_fill(&b, 0xd2, dg.data);
	say(t, WIRE_ANSWERS, &b);
}

static inline void iscsi_unmap(struct talk *t, unsigned n, bool immediate, struct iscsi_digests dg)
{
	struct bytes b = bhs(0x01, 0xa1, ++t->tag);
	size_t len = 8 + 16 * n;

	poke_be(&b, 20, len, 4);
	poke_be(&b, 32, 0x42, 1);
	poke_be(&b, 39, len, 2);
	if (!immediate) {
		iscsi_pdu(t, WIRE_REQUESTS, &b, 0, 0, dg);
		b = bhs(0x31, 0x80, t->tag);
		iscsi_pdu(t, WIRE_ANSWERS, &b, 0, 0, dg);
		b = bhs(0x05, 0x80, t->tag);
	}
	poke_be(&b, 5, len, 3);
	put_fill(&b, 0xd1, dg.header);
	put_be(&b, len - 2, 2);
	put_be(&b, len - 8, 2);
	put_be(&b, 0, 4);
	for (unsigned i = 0; i < n; i++) {
		put_be(&b, 1000 + 100 * i, 8);
		put_be(&b, 7 + i, 4);
		put_be(&b, 0, 4);
		want(t, TRACE_DISCARD, (1000 + 100 * i) * 4096ull, (7 + i) * 4096ull, 0);
	}
	put_fill(&b, 0xd2, dg.data);
	say(t, WIRE_REQUESTS, &b);
	iscsi_response(t, 0, dg);
}

static inline void iscsi_command(struct talk *t, uint64_t *s, struct iscsi_digests dg)
{
	bool write = test_rand(s) % 2, wide = test_rand(s) % 2, fua = test_rand(s) % 4 == 0,
	     error = test_rand(s) % 8 == 0;
	uint64_t lba = test_rand(s) % (1 << 18), blocks = 1 + test_rand(s) % 3;
	struct bytes b = bhs(0x01, write ? 0xa1 : 0xc1, ++t->tag);

	poke_be(&b, 20, blocks * 4096, 4);
	poke_be(&b, 32, write ? (wide ? 0x8a : 0x2a) : (wide ? 0x88 : 0x28), 1);
	poke_be(&b, 33, fua ? 8 : 0, 1);
	poke_be(&b, 34, lba, wide ? 8 : 4);
	poke_be(&b, wide ? 42 : 39, blocks, wide ? 4 : 2);
	iscsi_pdu(t, WIRE_REQUESTS, &b, write ? 4096 : 0, 0x5a, dg);
	for (uint64_t i = 1; write && i < blocks; i++) {
		b = bhs(0x05, i + 1 == blocks ? 0x80 : 0, t->tag);
		poke_be(&b, 40, i * 4096, 4);
		iscsi_pdu(t, WIRE_REQUESTS, &b, 4096, 0x5a, dg);
	}
	want(t, write ? TRACE_WRITE : TRACE_READ, lba * 4096, blocks * 4096,
		(fua ? TRACE_FUA : 0) | (error ? TRACE_ERROR : 0));
	for (uint64_t i = 0; !write && !error && i < blocks; i++)
		iscsi_data_in(t, i * 4096, 4096, i + 1 < blocks ? 0 : wide ? 0x81 : 0x80, dg);
	if (write || error || !wide)
		iscsi_response(t, error ? 2 : 0, dg);
}

static inline void iscsi_requests(struct talk *t, uint64_t *s, unsigned n, struct iscsi_digests dg)
{
	struct bytes b;

	for (unsigned i = 0; i < n; i++) {
		unsigned kind = (unsigned)(test_rand(s) % 8);

		if (kind < 5) {
			iscsi_command(t, s, dg);
		} else if (kind == 5) {
			b = bhs(0x01, 0x81, ++t->tag);
			poke_be(&b, 32, 0x35, 1);
			iscsi_pdu(t, WIRE_REQUESTS, &b, 0, 0, dg);
			want(t, TRACE_FLUSH, 0, 0, 0);
			iscsi_response(t, 0, dg);
		} else if (kind == 6) {
			iscsi_unmap(t, 1 + (unsigned)(test_rand(s) % 5), test_rand(s) % 2, dg);
		} else {
			b = bhs(0x40, 0x80, ++t->tag);
			iscsi_pdu(t, WIRE_REQUESTS, &b, 0, 0, dg);
			b = bhs(0x20, 0x80, t->tag);
			iscsi_pdu(t, WIRE_ANSWERS, &b, 0, 0, dg);
		}
	}
}

/* ---- NVMe/TCP ---- */

static inline struct bytes nvme_pdu(
	unsigned type, unsigned flags, unsigned head, unsigned data_at, size_t len)
{
	struct bytes b = {.n = 0};

	put_fill(&b, 0, head);
	b.b[0] = (uint8_t)type;
	b.b[1] = (uint8_t)flags;
	b.b[2] = (uint8_t)head;
	b.b[3] = (uint8_t)data_at;
	poke_le(&b, 4, (data_at ? data_at : head) + len, 4);
	return b;
}

static inline struct bytes nvme_command(
	struct talk *t, unsigned op, uint64_t slba, unsigned blocks, size_t in_capsule)
{
	struct bytes b = nvme_pdu(4, 0, 72, in_capsule ? 72 : 0, in_capsule);

	b.b[8] = (uint8_t)op;
	b.b[9] = 0x40;
	poke_le(&b, 10, ++t->tag & 0xffff, 2);
	poke_le(&b, 12, 1, 4);
	poke_le(&b, 40, blocks * 4096ull, 4);
	poke_le(&b, 48, slba, 8);
	poke_le(&b, 56, blocks - 1, 2);
	return b;
}

static inline void nvme_response(struct talk *t, unsigned status)
{
	struct bytes b = nvme_pdu(5, 0, 24, 0, 0);

	poke_le(&b, 20, t->tag & 0xffff, 2);
	poke_le(&b, 22, status << 1, 2);
	say(t, WIRE_ANSWERS, &b);
}

static inline void nvme_hello(struct talk *t)
{
	struct bytes b = nvme_pdu(0, 0, 128, 0, 0);

	say(t, WIRE_REQUESTS, &b);
	b = nvme_pdu(1, 0, 128, 0, 0);
	say(t, WIRE_ANSWERS, &b);
	b = nvme_command(t, 0x7f, 0, 1, 1024); /* Connect */
	b.b[12] = 1;
	poke_le(&b, 50, 1, 2); /* queue 1 */
	put_fill(&b, 'n', 1024);
	say(t, WIRE_REQUESTS, &b);
	nvme_response(t, 0);
	b = nvme_command(t, 2, 5, 1, 0); /* which shows the size of a block */
	say(t, WIRE_REQUESTS, &b);
	want(t, TRACE_READ, 5 * 4096, 4096, TRACE_ERROR);
	nvme_response(t, 1);
}

static inline void nvme_dataset(struct talk *t, unsigned n, bool in_capsule)
{
	struct bytes b = nvme_command(t, 9, 0, 1, in_capsule ? 16 * n : 0), ranges = {.n = 0};

	poke_le(&b, 48, n - 1, 4);
	poke_le(&b, 52, 4, 4);
	for (unsigned i = 0; i < n; i++) {
		put_fill(&ranges, 0, 16);
		poke_le(&ranges, 16 * i + 4, 3 + i, 4);
		poke_le(&ranges, 16 * i + 8, 500 * i, 8);
		want(t, TRACE_DISCARD, 500ull * i * 4096, (3 + i) * 4096ull, 0);
	}
	if (!in_capsule) {
		say(t, WIRE_REQUESTS, &b);
		b = nvme_pdu(9, 0, 24, 0, 0);
		say(t, WIRE_ANSWERS, &b);
		b = nvme_pdu(6, 4, 24, 24, 16 * n);
		poke_le(&b, 8, t->tag & 0xffff, 2);
		poke_le(&b, 16, 16 * n, 4);
	}
	memcpy(b.b + b.n, ranges.b, ranges.n);
	b.n += ranges.n;
	say(t, WIRE_REQUESTS, &b);
	nvme_response(t, 0);
}

static inline void nvme_requests(struct talk *t, uint64_t *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned kind = (unsigned)(test_rand(s) % 6),
			 blocks = 1 + (unsigned)(test_rand(s) % 3);
		bool fua = test_rand(s) % 4 == 0, error = test_rand(s) % 8 == 0;
		uint64_t slba = test_rand(s) % (1 << 30);
		struct bytes b;

		if (kind == 4) {
			nvme_dataset(t, 1 + (unsigned)(test_rand(s) % 4), test_rand(s) % 2);
			continue;
		}
		if (kind == 5) {
			b = nvme_command(t, 0, 0, 1, 0);
			want(t, TRACE_FLUSH, 0, 0, error ? TRACE_ERROR : 0);
		} else {
			b = nvme_command(t,
				kind == 3   ? 8
				: kind == 0 ? 2
					    : 1,
				slba, blocks, kind == 1 ? blocks * 4096 : 0);
			b.b[59] = fua ? 0x40 : 0;
			want(t,
				kind == 0   ? TRACE_READ
				: kind == 3 ? TRACE_WRITE_ZEROES
					    : TRACE_WRITE,
				slba * 4096, blocks * 4096,
				(fua ? TRACE_FUA : 0) | (error ? TRACE_ERROR : 0));
		}
		put_fill(&b, 0x5a, kind == 1 ? blocks * 4096 : 0);
		say(t, WIRE_REQUESTS, &b);
		if (kind == 2) {
			b = nvme_pdu(9, 0, 24, 0, 0);
			say(t, WIRE_ANSWERS, &b);
			b = nvme_pdu(6, 4, 24, 24, blocks * 4096);
			poke_le(&b, 8, t->tag & 0xffff, 2);
			poke_le(&b, 16, blocks * 4096, 4);
			put_fill(&b, 0x5a, blocks * 4096);
			say(t, WIRE_REQUESTS, &b);
		}
		if (kind == 0 && !error) {
			bool success = test_rand(s) % 2;

			b = nvme_pdu(7, success ? 12 : 4, 24, 24, blocks * 4096);
			poke_le(&b, 8, t->tag & 0xffff, 2);
			poke_le(&b, 16, blocks * 4096, 4);
			put_fill(&b, 0xa5, blocks * 4096);
			say(t, WIRE_ANSWERS, &b);
			if (success)
				continue;
		}
		nvme_response(t, error);
	}
}

/* ---- frames ---- */

struct how {
	size_t mss; /* longest payload; each is of a random length up to it; 0: one frame a piece */
	uint32_t isn[2]; /* by direction */
	uint16_t client_port;
	bool ends; /* with FINs */
	uint64_t *random;
};

static inline struct frame make_frame(const struct how *h, enum wire_dir dir, uint32_t seq,
	uint32_t ack, unsigned flags, const uint8_t *data, size_t len)
{
	struct bytes b = {.n = 0};
	struct frame f = {.dir = dir, .have = 54 + len, .len = 54 + len, .bytes = malloc(54 + len)};
	uint16_t server = 1000, client = h->client_port;

	put_fill(&b, 2, 12);
	put_be(&b, 0x0800, 2);
	put_be(&b, 0x4500, 2);
	put_be(&b, 40 + len < 65536 ? 40 + len : 0, 2);
	put_be(&b, 0, 4);
	put_be(&b, 0x4006, 2);
	put_be(&b, 0, 2);
	put_be(&b, dir == WIRE_REQUESTS ? 0x0a000001 : 0x0a000002, 4);
	put_be(&b, dir == WIRE_REQUESTS ? 0x0a000002 : 0x0a000001, 4);
	put_be(&b, dir == WIRE_REQUESTS ? client : server, 2);
	put_be(&b, dir == WIRE_REQUESTS ? server : client, 2);
	put_be(&b, seq, 4);
	put_be(&b, ack, 4);
	put_be(&b, 0x5000 | flags, 2);
	put_be(&b, 0xffff, 2);
	put_be(&b, 0, 4);
	assert_int_equal(b.n, 54);
	memcpy(f.bytes, b.b, 54);
	if (len)
		memcpy(f.bytes + 54, data, len);
	return f;
}

static inline void add_frame(struct frames *f, struct frame x)
{
	if (f->n == f->room) {
		f->room = f->room ? 2 * f->room : 64;
		f->f = realloc(f->f, f->room * sizeof(*f->f));
	}
	f->f[f->n++] = x;
}

static inline struct frames pack(const struct talk *t, const struct how *h)
{
	struct frames f = {.n = 0};
	uint32_t seq[2] = {h->isn[0], h->isn[1]};

	add_frame(&f, make_frame(h, WIRE_REQUESTS, seq[0]++, 0, TCP_SYN, NULL, 0));
	add_frame(&f, make_frame(h, WIRE_ANSWERS, seq[1]++, seq[0], TCP_SYN | TCP_ACK, NULL, 0));
	for (unsigned i = 0; i < t->n; i++) {
		const struct piece *p = &t->pieces[i];

		for (size_t at = 0, n; at < p->len; at += n) {
			n = h->mss ? 1 + (size_t)(test_rand(h->random) % h->mss) : p->len;
			n = n < p->len - at ? n : p->len - at;
			add_frame(&f, make_frame(h, p->dir, seq[p->dir], seq[!p->dir], TCP_ACK,
					      p->bytes + at, n));
			f.f[f.n - 1].piece = i;
			seq[p->dir] += (uint32_t)n;
		}
	}
	for (int d = 0; h->ends && d < 2; d++) {
		add_frame(&f, make_frame(h, (enum wire_dir)d, seq[d], seq[!d], TCP_ACK | TCP_FIN,
				      NULL, 0));
		seq[d]++;
	}
	return f;
}

static inline void cut_frames(struct frames *f, size_t snap)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->f[i].have > snap)
			f->f[i].have = snap;
}

/* Frames move by up to `window` places; some come twice, the second time up to 8 places later. */
static inline void disturb(struct frames *f, uint64_t *s, unsigned window, unsigned doubled_percent)
{
	struct frames out = {.n = 0};
	struct frame late[8];
	unsigned n_late = 0;

	for (unsigned i = 0; i < f->n; i++) {
		add_frame(&out, f->f[i]);
		if (i >= 2 && n_late < 8 && test_rand(s) % 100 < doubled_percent) {
			struct frame x = f->f[i];

			x.bytes = malloc(x.have);
			memcpy(x.bytes, f->f[i].bytes, x.have);
			late[n_late++] = x;
		}
		if (n_late && test_rand(s) % 4 == 0)
			add_frame(&out, late[--n_late]);
	}
	while (n_late)
		add_frame(&out, late[--n_late]);
	free(f->f);
	*f = out;
	for (unsigned i = 2; window && i + 1 < f->n; i++) { /* the SYNs stay first */
		unsigned j = i + (unsigned)(test_rand(s) % window);
		struct frame x = f->f[i];

		if (j >= f->n)
			continue;
		f->f[i] = f->f[j];
		f->f[j] = x;
	}
}

static inline void frames_free(struct frames *f)
{
	for (unsigned i = 0; i < f->n; i++)
		free(f->f[i].bytes);
	free(f->f);
}

static inline void got_request(void *arg, const struct trace_record *r)
{
	struct got *g = arg;

	assert_true(g->n < RECORDS_MAX);
	assert_true(trace_record_ok(r));
	g->records[g->n++] = *r;
}

static inline struct capture *capture_for(const struct wire_protocol *p, struct got *g)
{
	struct capture_options opt = {.ports = {{1000, p}},
		.n_ports = 1,
		.unit = WIRE_ANY_UNIT,
		.request = got_request,
		.arg = g};
	struct capture *c;

	*g = (struct got){.n = 0};
	assert_int_equal(capture_new(&opt, &c), 0);
	return c;
}

static inline void end_capture(struct capture *c, struct got *g)
{
	capture_finish(c);
	capture_counts(c, &g->counts);
	capture_free(c);
}

/* A microsecond from frame to frame. */
static inline void feed(const struct wire_protocol *p, const struct frames *f, struct got *g)
{
	struct capture *c = capture_for(p, g);

	for (unsigned i = 0; i < f->n; i++)
		assert_int_equal(capture_packet(c, PACKET_ETHERNET, 1000 * (i + 1), f->f[i].bytes,
					 f->f[i].have, f->f[i].len),
			0);
	end_capture(c, g);
}

/* ---- verdicts ---- */

static inline int by_content(const void *a, const void *b)
{
	const struct trace_record *x = a, *y = b;

	if (x->offset_bytes != y->offset_bytes)
		return x->offset_bytes < y->offset_bytes ? -1 : 1;
	if (x->len_bytes != y->len_bytes)
		return x->len_bytes < y->len_bytes ? -1 : 1;
	if (x->op != y->op)
		return x->op < y->op ? -1 : 1;
	return x->flags - y->flags;
}

static inline void assert_all(const struct talk *t, struct got *g)
{
	struct trace_record *want_sorted = malloc(sizeof(t->want));

	memcpy(want_sorted, t->want, sizeof(t->want));
	assert_int_equal(g->n, t->n_want);
	qsort(want_sorted, t->n_want, sizeof(*want_sorted), by_content);
	qsort(g->records, g->n, sizeof(*g->records), by_content);
	for (unsigned i = 0; i < g->n; i++) {
		assert_int_equal(by_content(&want_sorted[i], &g->records[i]), 0);
		assert_true(g->records[i].complete_ns != 0);
	}
	free(want_sorted);
	assert_int_equal(g->counts.wire.lost_place, 0);
	assert_int_equal(g->counts.wire.strays, 0);
	assert_int_equal(g->counts.wire.unanswered, 0);
}

/* Every request that was found is one that was made; returns how many were made and not found. */
static inline unsigned assert_no_others(const struct talk *t, struct got *g)
{
	struct trace_record *want_sorted = malloc(sizeof(t->want));
	unsigned j = 0;

	memcpy(want_sorted, t->want, sizeof(t->want));
	for (unsigned i = 0; i < t->n_want; i++)
		want_sorted[i].flags &= TRACE_FUA;
	for (unsigned i = 0; i < g->n; i++)
		g->records[i].flags &= TRACE_FUA; /* errors are in the answers, which may be lost */
	qsort(want_sorted, t->n_want, sizeof(*want_sorted), by_content);
	qsort(g->records, g->n, sizeof(*g->records), by_content);
	for (unsigned i = 0; i < g->n; i++) {
		while (j < t->n_want && by_content(&want_sorted[j], &g->records[i]) < 0)
			j++;
		assert_true(j < t->n_want && by_content(&want_sorted[j], &g->records[i]) == 0);
		j++;
	}
	free(want_sorted);
	return t->n_want - g->n;
}

#endif
