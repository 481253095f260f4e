/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_capture.c - requests out of packets: every way to cut a conversation up gives the same
 * trace, and what is lost is counted. */
#include "trace/test/wire_env.h"

static const struct iscsi_digests no_digests = {0, 0};

static struct talk *nbd_talk(uint64_t *s, unsigned n)
{
	struct talk *t = talk_new(&wire_nbd);

	nbd_hello(t, test_rand(s) % 2);
	nbd_requests(t, s, n);
	return t;
}

static struct talk *iscsi_talk(uint64_t *s, unsigned n)
{
	struct talk *t = talk_new(&wire_iscsi);

	iscsi_login(t);
	iscsi_capacity(t, no_digests);
	iscsi_requests(t, s, n, no_digests);
	return t;
}

static struct talk *nvme_talk(uint64_t *s, unsigned n)
{
	struct talk *t = talk_new(&wire_nvme);

	nvme_hello(t);
	nvme_requests(t, s, n);
	return t;
}

static struct talk *(*const talks[])(uint64_t *s, unsigned n) = {nbd_talk, iscsi_talk, nvme_talk};
enum { TALKS = 3 };

static struct got got;

static void run(const struct talk *t, const struct how *h, uint64_t *s, unsigned window,
	unsigned doubled, size_t snap)
{
	struct frames f = pack(t, h);

	disturb(&f, s, window, doubled);
	if (snap)
		cut_frames(&f, snap);
	feed(t->protocol, &f, &got);
	frames_free(&f);
}

TEST(whole_messages_give_their_requests)
{
	uint64_t s = test_seed();

	for (unsigned i = 0; i < TALKS; i++) {
		struct talk *t = talks[i](&s, 100);
		struct how h = {.client_port = 5000, .random = &s, .ends = true};

		run(t, &h, &s, 0, 0, 0);
		assert_all(t, &got);
		assert_true(t->n_want > 30);
		assert_int_equal(got.counts.tcp.connections, 1);
		assert_int_equal(got.counts.tcp.midstream, 0);
		if (t->protocol != &wire_nvme)
			assert_int_equal(got.counts.size_bytes, 1 << 30);
		talk_free(t);
	}
}

TEST(cut_at_every_byte)
{
	uint64_t s = test_seed();

	for (unsigned i = 0; i < TALKS; i++) {
		struct talk *t = talks[i](&s, 8);
		struct how h = {.mss = 1, .client_port = 5000, .random = &s};

		run(t, &h, &s, 0, 0, 0);
		assert_all(t, &got);
		talk_free(t);
	}
}

/* The sequence numbers wrap within each run. */
TEST(any_order_any_cut_any_repetition)
{
	uint64_t s = test_seed();

	for (unsigned round = 0; round < 60; round++) {
		struct talk *t = talks[round % TALKS](&s, 20);
		struct how h = {.mss = 1 + test_rand(&s) % (round % 4 ? 3000 : 60),
			.client_port = 5000,
			.isn = {(uint32_t)(0 - test_rand(&s) % 3000),
				(uint32_t)(0 - test_rand(&s) % 3000)},
			.random = &s,
			.ends = round % 2};

		run(t, &h, &s, 1 + (unsigned)(test_rand(&s) % 30), (unsigned)(test_rand(&s) % 40),
			0);
		assert_all(t, &got);
		assert_int_equal(got.counts.tcp.gaps, 0);
		talk_free(t);
	}
}

/* One packet a message: its header is within the first 128 bytes, the ranges of discards are not.
 */
TEST(headers_suffice)
{
	uint64_t s = test_seed();

	for (unsigned round = 0; round < 30; round++) {
		struct talk *t = talks[round % TALKS](&s, 40);
		struct how h = {.client_port = 5000, .random = &s, .isn = {0xffffff00, 7}};
		unsigned missing;

		run(t, &h, &s, 1 + (unsigned)(test_rand(&s) % 8), 10, 128);
		missing = assert_no_others(t, &got);
		assert_int_equal(got.counts.wire.lost_place, 0);
		assert_int_equal(got.counts.wire.strays, 0);
		assert_int_equal(got.counts.wire.unanswered, 0);
		assert_true(missing == 0 || got.counts.wire.ranges_cut > 0);
		assert_true(missing <= 5 * got.counts.wire.ranges_cut);
		run(t, &h, &s, 1, 0, 256);
		assert_all(t, &got);
		talk_free(t);
	}
}

/* A retransmission need not be cut like the original. */
TEST(overlapping_retransmissions)
{
	uint64_t s = test_seed();

	for (unsigned i = 0; i < TALKS; i++) {
		struct talk *t = talks[i](&s, 30);
		struct how h = {.mss = 700, .client_port = 5000, .random = &s, .isn = {1, 2}};
		struct frames a = pack(t, &h), b = pack(t, &h), both = {.n = 0};

		for (unsigned j = 0; j < a.n || j < b.n; j++) {
			if (j < a.n)
				add_frame(&both, a.f[j]);
			if (j < b.n)
				add_frame(&both, b.f[j]);
		}
		feed(t->protocol, &both, &got);
		assert_all(t, &got);
		assert_true(got.counts.tcp.repeated > 20);
		frames_free(&both);
		free(a.f);
		free(b.f);
		talk_free(t);
	}
}

/* ---- loss ---- */

static void drop_frame(struct frames *f, unsigned i)
{
	free(f->f[i].bytes);
	memmove(&f->f[i], &f->f[i + 1], (--f->n - i) * sizeof(*f->f));
}

/* Some frames are not in the capture.  Each costs what was in it, and the place is found again. */
TEST(what_the_capture_missed_is_counted)
{
	uint64_t s = test_seed();

	for (unsigned round = 0; round < 60; round++) {
		struct talk *t = talks[round % TALKS](&s, 60);
		struct how h = {.mss = round % 2 ? 0 : 1400,
			.client_port = 5000,
			.random = &s,
			.isn = {5, 6}};
		struct frames f = pack(t, &h);
		unsigned lost = 1 + (unsigned)(test_rand(&s) % 4), missing;

		for (unsigned i = 0; i < lost; i++)
			drop_frame(&f, 10 + (unsigned)(test_rand(&s) % (f.n - 20)));
		feed(t->protocol, &f, &got);
		missing = assert_no_others(t, &got);
		assert_true(got.counts.tcp.gaps >= 1 && got.counts.tcp.gaps <= lost);
		assert_true(got.counts.tcp.lost_bytes > 0);
		/* a gap loses what was in it and the few behind it, until a header is told from all
		 * else */
		assert_true(missing + got.counts.wire.unanswered <= 16 * lost);
		if (missing)
			assert_true(got.counts.wire.lost_place + got.counts.wire.ranges_cut +
					    got.counts.wire.headers_cut >
				    0);
		frames_free(&f);
		talk_free(t);
	}
}

TEST(payload_may_be_missing)
{
	uint64_t s = test_seed();
	struct talk *t = talk_new(&wire_nbd);
	struct how h = {.mss = 0, .client_port = 5000, .random = &s};
	struct frames f;

	nbd_hello(t, false);
	nbd_request(t, 1, 0, 4096, 60000, false);
	want(t, TRACE_WRITE, 4096, 60000, 0);
	nbd_simple(t, t->tag, 0, 0);
	nbd_request(t, 0, 0, 8192, 512, false);
	want(t, TRACE_READ, 8192, 512, 0);
	nbd_simple(t, t->tag, 0, 512);
	h.mss = 100;
	f = pack(t, &h);
	for (unsigned i = 0, large = 0; i < f.n; i++)
		if (t->pieces[f.f[i].piece].len > 50000 && ++large > 20 && large < 200)
			drop_frame(&f, i--);
	feed(t->protocol, &f, &got);
	assert_all(t, &got);
	assert_int_equal(got.counts.tcp.gaps, 1);
	frames_free(&f);
	talk_free(t);
}

TEST(a_capture_may_begin_anywhere)
{
	uint64_t s = test_seed();

	for (unsigned round = 0; round < 60; round++) {
		struct talk *t = talks[round % TALKS](&s, 60);
		struct how h = {.mss = round % 2 ? 0 : 1400,
			.client_port = 5000,
			.random = &s,
			.isn = {5, 6}};
		struct frames f = pack(t, &h);
		unsigned begin = 20 + (unsigned)(test_rand(&s) % 40), piece = f.f[begin].piece,
			 missing;

		for (unsigned i = 0; i < begin; i++)
			drop_frame(&f, 0);
		feed(t->protocol, &f, &got);
		missing = assert_no_others(t, &got);
		assert_int_equal(got.counts.tcp.midstream, 1);
		assert_true(got.n > 0);
		assert_true(missing <= piece + 16);
		frames_free(&f);
		talk_free(t);
	}
}

TEST(requests_without_answers_come_last)
{
	uint64_t s = test_seed();
	struct talk *t = talk_new(&wire_nbd);
	struct how h = {.client_port = 5000, .random = &s, .ends = true};
	struct frames f;

	nbd_hello(t, false);
	nbd_request(t, 0, 0, 0, 4096, false);
	nbd_request(t, 0, 0, 4096, 4096, false);
	nbd_simple(t, t->tag, 0, 4096);
	f = pack(t, &h);
	feed(t->protocol, &f, &got);
	assert_int_equal(got.n, 2);
	assert_int_equal(got.records[0].offset_bytes, 4096);
	assert_int_equal(got.records[1].complete_ns, 0);
	assert_int_equal(got.counts.wire.unanswered, 1);
	frames_free(&f);
	talk_free(t);
}

/* ---- connections ---- */

TEST(connections_are_told_apart)
{
	uint64_t s = test_seed();
	struct talk *t[3];
	struct frames f[3];
	struct capture *c = capture_for(&wire_nbd, &got);
	unsigned total = 0, streams[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		struct how h = {.mss = 900,
			.client_port = (uint16_t)(5000 + i),
			.random = &s,
			.isn = {9, 9},
			.ends = true};

		t[i] = nbd_talk(&s, 30);
		f[i] = pack(t[i], &h);
		total += t[i]->n_want;
	}
	for (unsigned j = 0; j < f[0].n || j < f[1].n || j < f[2].n; j++)
		for (unsigned i = 0; i < 3; i++)
			if (j < f[i].n)
				assert_int_equal(
					capture_packet(c, PACKET_ETHERNET, 1 + j, f[i].f[j].bytes,
						f[i].f[j].have, f[i].f[j].len),
					0);
	end_capture(c, &got);
	assert_int_equal(got.n, total);
	assert_int_equal(got.counts.tcp.connections, 3);
	for (unsigned i = 0; i < got.n; i++)
		streams[got.records[i].stream]++;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(streams[i], t[i]->n_want);
		frames_free(&f[i]);
		talk_free(t[i]);
	}
}

/* The client comes back from the same port; and one that reset. */
TEST(a_port_is_used_again)
{
	uint64_t s = test_seed();
	struct capture *c = capture_for(&wire_nvme, &got);
	unsigned total = 0;

	for (unsigned i = 0; i < 4; i++) {
		struct talk *t = nvme_talk(&s, 20);
		struct how h = {.mss = 1400,
			.client_port = 5000,
			.random = &s,
			.isn = {(uint32_t)test_rand(&s), (uint32_t)test_rand(&s)},
			.ends = i % 2};
		struct frames f = pack(t, &h);

		for (unsigned j = 0; j < f.n; j++)
			assert_int_equal(capture_packet(c, PACKET_ETHERNET, i * 1000000 + j,
						 f.f[j].bytes, f.f[j].have, f.f[j].len),
				0);
		total += t->n_want;
		frames_free(&f);
		talk_free(t);
	}
	end_capture(c, &got);
	assert_int_equal(got.n, total);
	assert_int_equal(got.counts.tcp.connections, 4);
	assert_int_equal(got.counts.wire.lost_place, 0);
}

/* Memory is bounded: of many connections the quiet ones go. */
TEST(many_connections)
{
	uint64_t s = test_seed();
	struct capture *c = capture_for(&wire_nbd, &got);
	struct talk *t = talk_new(&wire_nbd);

	nbd_hello(t, true);
	nbd_request(t, 3, 0, 0, 0, false);
	for (unsigned i = 0; i < 1500; i++) {
		struct how h = {.client_port = (uint16_t)(2000 + i), .random = &s};
		struct frames f = pack(t, &h);

		for (unsigned j = 0; j < f.n; j++)
			assert_int_equal(capture_packet(c, PACKET_ETHERNET, i, f.f[j].bytes,
						 f.f[j].have, f.f[j].len),
				0);
		frames_free(&f);
	}
	end_capture(c, &got);
	assert_int_equal(got.n, 1500);
	assert_int_equal(got.counts.tcp.connections, 1500);
	assert_int_equal(got.counts.tcp.evicted, 1500 - TCP_CONNECTIONS_MAX);
	talk_free(t);
}

/* ---- iSCSI: digests are noticed ---- */

TEST(iscsi_digests)
{
	static const struct iscsi_digests kinds[] = {{4, 0}, {0, 4}, {4, 4}};
	uint64_t s = test_seed();

	for (unsigned i = 0; i < 30; i++) {
		struct talk *t = talk_new(&wire_iscsi);
		struct iscsi_digests dg = kinds[i % 3];
		struct how h = {.mss = i % 2 ? 0 : 1400, .client_port = 5000, .random = &s};
		struct bytes nop;

		iscsi_login(t);
		for (unsigned j = 0; j < 2; j++) { /* shows the digest of headers before any data */
			nop = bhs(0x40, 0x80, ++t->tag);
			iscsi_pdu(t, WIRE_REQUESTS, &nop, 0, 0, dg);
			nop = bhs(0x20, 0x80, t->tag);
			iscsi_pdu(t, WIRE_ANSWERS, &nop, 0, 0, dg);
		}
		iscsi_capacity(t, dg);
		iscsi_requests(t, &s, 40, dg);
		run(t, &h, &s, 1, 0, 0);
		assert_all(t, &got);
		talk_free(t);
	}
}

TEST(only_the_unit_asked_for)
{
	uint64_t s = test_seed();
	struct talk *t = talk_new(&wire_nvme);
	struct how h = {.client_port = 5000, .random = &s};
	struct capture_options opt = {.ports = {{1000, &wire_nvme}},
		.n_ports = 1,
		.unit = 2,
		.request = got_request,
		.arg = &got};
	struct capture *c;
	struct frames f;

	nvme_hello(t);
	for (unsigned i = 0; i < 10; i++) {
		struct bytes b = nvme_command(t, 2, i, 1, 0);

		poke_le(&b, 12, 1 + i % 2, 4);
		say(t, WIRE_REQUESTS, &b);
		nvme_response(t, 0);
	}
	f = pack(t, &h);
	got.n = 0;
	assert_int_equal(capture_new(&opt, &c), 0);
	for (unsigned j = 0; j < f.n; j++)
		assert_int_equal(capture_packet(c, PACKET_ETHERNET, j, f.f[j].bytes, f.f[j].have,
					 f.f[j].len),
			0);
	end_capture(c, &got);
	assert_int_equal(got.n, 5);
	assert_int_equal(got.counts.units, 2);
	assert_int_equal(got.counts.wire.other_units, 6);
	assert_int_equal(got.counts.wire.strays, 0);
	frames_free(&f);
	talk_free(t);
}

/* ---- what is below TCP ---- */

static enum packet_kind parse_as(int link, const uint8_t *head, size_t n, const uint8_t *ip,
	size_t len, struct tcp_segment *g, bool *frag)
{
	static uint8_t b[512];

	memcpy(b, head, n);
	memcpy(b + n, ip, len);
	return packet_parse(link, b, n + len, n + len, g, frag);
}

TEST(link_layers)
{
	static const struct {
		int link;
		size_t n;
		uint8_t head[24];
	} links[] = {{PACKET_ETHERNET, 14, {[12] = 8, 0}},
		{PACKET_ETHERNET, 18, {[12] = 0x81, 0, 0, 5, 8, 0}},
		{PACKET_ETHERNET, 22, {[12] = 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0}},
		{PACKET_SLL, 16, {[14] = 8, 0}}, {PACKET_SLL2, 20, {8, 0}},
		{PACKET_NULL, 4, {2, 0, 0, 0}}, {PACKET_LOOP, 4, {0, 0, 0, 2}},
		{PACKET_RAW, 0, {0}}, {PACKET_RAW_BSD, 0, {0}}, {PACKET_IPV4, 0, {0}}};
	struct how h = {.client_port = 5000};
	struct frame f = make_frame(&h, WIRE_REQUESTS, 77, 88, TCP_ACK, (const uint8_t *)"abc", 3);
	struct tcp_segment g;
	bool frag;

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		assert_true(packet_link_known(links[i].link));
		assert_int_equal(parse_as(links[i].link, links[i].head, links[i].n, f.bytes + 14,
					 f.len - 14, &g, &frag),
			PACKET_TCP);
		assert_int_equal(g.seq, 77);
		assert_int_equal(g.ack, 88);
		assert_int_equal(g.len, 3);
		assert_memory_equal(g.data, "abc", 3);
		for (size_t cut = 0; cut < links[i].n + 40;
			cut++) { /* every shorter capture says so */
			uint8_t b[128];

			memcpy(b, links[i].head, links[i].n);
			memcpy(b + links[i].n, f.bytes + 14, 43);
			assert_int_equal(
				packet_parse(links[i].link, b, cut, links[i].n + 43, &g, &frag),
				PACKET_SHORT);
		}
	}
	assert_false(packet_link_known(105)); /* 802.11 */
	free(f.bytes);
}

TEST(ipv6_and_fragments)
{
	struct how h = {.client_port = 5000};
	struct frame f = make_frame(&h, WIRE_REQUESTS, 77, 88, TCP_ACK, (const uint8_t *)"abc", 3);
	uint8_t six[128] = {0x60, 0, 0, 0, 0, 23 + 8 + 8, 0, 64};
	uint8_t head[14] = {[12] = 0x86, 0xdd};
	struct tcp_segment g;
	bool frag;

	six[40] = 60; /* hop-by-hop options, then destination options, then TCP */
	six[48] = 6;
	memcpy(six + 56, f.bytes + 34, 23);
	assert_int_equal(parse_as(PACKET_ETHERNET, head, 14, six, 79, &g, &frag), PACKET_TCP);
	assert_int_equal(g.len, 3);
	assert_false(frag);
	six[6] = 44; /* a fragment header in the place of the first */
	six[40] = 60;
	six[43] = 1; /* the first, more to come */
	assert_int_equal(parse_as(PACKET_ETHERNET, head, 14, six, 79, &g, &frag), PACKET_TCP);
	assert_true(frag);
	six[43] = 8;
	assert_int_equal(parse_as(PACKET_ETHERNET, head, 14, six, 79, &g, &frag), PACKET_FRAGMENT);
	six[6] = 17;
	assert_int_equal(parse_as(PACKET_ETHERNET, head, 14, six, 79, &g, &frag), PACKET_OTHER);

	f.bytes[20] = 0x20; /* IPv4: more fragments */
	assert_int_equal(
		packet_parse(PACKET_ETHERNET, f.bytes, f.len, f.len, &g, &frag), PACKET_TCP);
	assert_true(frag);
	f.bytes[21] = 1;
	assert_int_equal(
		packet_parse(PACKET_ETHERNET, f.bytes, f.len, f.len, &g, &frag), PACKET_FRAGMENT);
	free(f.bytes);
}

/* Frames that are shorter than Ethernet's least are padded; the padding is no payload. */
TEST(padding_is_no_payload)
{
	struct how h = {.client_port = 5000};
	struct frame f =
		make_frame(&h, WIRE_REQUESTS, 77, 88, TCP_ACK, (const uint8_t *)"abcdef", 6);
	struct tcp_segment g;
	bool frag;

	f.bytes[17] -= 6;
	assert_int_equal(
		packet_parse(PACKET_ETHERNET, f.bytes, f.len, f.len, &g, &frag), PACKET_TCP);
	assert_int_equal(g.len, 0);
	free(f.bytes);
}
