/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_blkreq.c - requests of block tracer's events, and recordings of a real guest
 * (data/README.md) against what its kernel says it asked for. */
#include "trace/blkreq.h"
#include "trace/load.h"
#include "trace/test/wire_env.h"

#include <errno.h>

#define DATA "trace/test/data/"

/* ---- made-up events ---- */

static struct blk_matcher *m;

static void event(unsigned action, uint64_t at, uint64_t sector, uint32_t bytes, bool write)
{
	struct blk_event ev = {.at_ns = at,
		.sector = sector,
		.bytes = bytes,
		.device = 8 << 20,
		.action = (uint8_t)action,
		.write = write,
		.flush = !bytes};

	assert_int_equal(blk_matcher_event(m, &ev), 0);
}

static void assert_next(
	unsigned op, uint64_t offset, uint64_t len, uint64_t submit, uint64_t complete)
{
	struct trace_record r;
	uint32_t device;

	assert_true(blk_matcher_next(m, &r, &device));
	assert_int_equal(device, 8 << 20);
	assert_int_equal(r.op, op);
	assert_int_equal(r.offset_bytes, offset);
	assert_int_equal(r.len_bytes, len);
	assert_int_equal(r.submit_ns, submit);
	assert_int_equal(r.complete_ns, complete);
}

static void assert_none(void)
{
	struct trace_record r;
	uint32_t device;

	assert_false(blk_matcher_next(m, &r, &device));
}

TEST(what_is_issued_is_a_request)
{
	m = blk_matcher_new();
	event(BLK_QUEUE, 1, 8, 4096, true);
	event(BLK_QUEUE, 2, 16, 4096, true); /* merged with the first */
	event(BLK_ISSUE, 3, 8, 8192, true);
	event(BLK_ISSUE, 4, 8, 8192, false); /* a read of the same place is another request */
	event(BLK_COMPLETE, 5, 8, 8192, false);
	event(BLK_COMPLETE, 6, 8, 8192, true);
	event(BLK_QUEUE, 7, 0, 0, true); /* an fsync: queued as an empty write, issued as a flush */
	event(BLK_ISSUE, 8, 0, 0, false);
	event(BLK_COMPLETE, 9, 0, 0, false);
	event(BLK_COMPLETE, 10, 0, 0, true);
	event(BLK_ISSUE, 11, 64, 512, false);
	event(BLK_REQUEUE, 12, 64, 512, false);
	event(BLK_ISSUE, 13, 64, 512, false);
	assert_next(TRACE_READ, 4096, 8192, 4, 5);
	assert_next(TRACE_WRITE, 4096, 8192, 3, 6);
	assert_next(TRACE_FLUSH, 0, 0, 8, 9);
	assert_none();
	blk_matcher_finish(m);
	assert_next(TRACE_READ, 64 * 512, 512, 13, 0);
	assert_none();
	assert_int_equal(blk_matcher_counts(m)->unanswered, 1);
	assert_int_equal(blk_matcher_counts(m)->strays, 1);
	blk_matcher_free(m);
}

TEST(a_device_of_bios_has_no_issues)
{
	m = blk_matcher_new();
	event(BLK_QUEUE, 1, 8, 8192, true);
	event(BLK_COMPLETE, 2, 8, 4096, true); /* in two parts */
	event(BLK_COMPLETE, 3, 16, 4096, true);
	event(BLK_QUEUE, 4, 0, 0, true);
	event(BLK_COMPLETE, 5, 0, 0, true);
	assert_next(TRACE_WRITE, 4096, 8192, 1, 3);
	assert_next(TRACE_FLUSH, 0, 0, 4, 5);
	assert_none();
	blk_matcher_free(m);
}

TEST(pending_events_are_bounded)
{
	struct trace_record r;
	uint32_t device;
	unsigned n = 0;

	m = blk_matcher_new();
	for (unsigned i = 0; i < BLK_PENDING_MAX + 10; i++)
		event(BLK_ISSUE, i, i, 512, false);
	while (blk_matcher_next(m, &r, &device))
		n++;
	assert_int_equal(n, 10);
	blk_matcher_free(m);
}

TEST(foreign_events_are_refused)
{
	uint8_t p[BLK_EVENT_BYTES] = {0x07, 0x74, 0x61, 0x65};
	struct blk_event ev;

	assert_int_equal(blk_event_decode(p, &ev), 0);
	p[0] = 6;
	assert_int_equal(blk_event_decode(p, &ev), -EPROTO);
	memcpy(p, "\x65\x61\x74\x07", 4);
	assert_int_equal(blk_event_decode(p, &ev), -EPROTO);
	memcpy(p, "abcd", 4);
	assert_int_equal(blk_event_decode(p, &ev), -EUCLEAN);
}

/* ---- a real guest's ---- */

static struct trace wanted(void)
{
	struct trace t = {0};
	FILE *f = fopen(DATA "nvme.csv", "r");
	char line[128], op, flag;
	unsigned long long off, len;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		struct trace_record r = {0};
		int n = sscanf(line, "%c,%llu,%llu,%c", &op, &off, &len, &flag);

		if (n < 3)
			continue; /* the names */
		r.op = op == 'R'   ? TRACE_READ
		       : op == 'W' ? TRACE_WRITE
		       : op == 'F' ? TRACE_FLUSH
		       : op == 'T' ? TRACE_DISCARD
				   : TRACE_WRITE_ZEROES;
		r.flags = n == 4 && flag == 'F' ? TRACE_FUA : 0;
		r.offset_bytes = off;
		r.len_bytes = len;
		assert_int_equal(trace_append(&t, &r), 0);
	}
	fclose(f);
	assert_true(t.n > 100);
	return t;
}

static void assert_same_request(const struct trace_record *want, const struct trace_record *got_one)
{
	assert_int_equal(want->op, got_one->op);
	assert_int_equal(want->offset_bytes, got_one->offset_bytes);
	assert_int_equal(want->len_bytes, got_one->len_bytes);
	assert_int_equal(want->flags, got_one->flags);
}

static void load(const char *path, struct trace *t)
{
	struct err e = {0};

	if (trace_load(path, NULL, t, &e) < 0)
		fail_msg("%s", e.msg);
}

/* The tracer shows writing zeroes as a write. */
TEST(the_tracers_binary_events)
{
	struct trace t, w = wanted();

	load(DATA "nvme.blk.gz", &t);
	assert_int_equal(t.n, w.n);
	for (size_t i = 0; i < w.n; i++)
		if (w.records[i].op == TRACE_WRITE_ZEROES)
			w.records[i].op = TRACE_WRITE;
	qsort(w.records, w.n, sizeof(*w.records), by_content);
	qsort(t.records, t.n, sizeof(*t.records), by_content);
	for (size_t i = 0; i < t.n; i++) {
		assert_same_request(&w.records[i], &t.records[i]);
		assert_true(t.records[i].complete_ns > 0);
	}
	trace_free(&t);
	trace_free(&w);
}

static const char *file_of(const char *name, const void *bytes, size_t len)
{
	static char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
	f = fopen(path, "w");
	fwrite(bytes, 1, len, f);
	fclose(f);
	return path;
}

TEST(the_text_of_blkparse)
{
	static const char text[] =
		"  8,0    1        1     0.000000000   100  Q   R 800 + 8 [dd]\n"
		"  8,0    1        2     0.000001000   100  D   R 800 + 8 [dd]\n"
		"  8,0    0        1     0.000500000     0  C   R 800 + 8 [0]\n"
		"  8,0    1        3     0.001000000   100  D WFS 1600 + 16 [dd]\n"
		"  8,0    0        2     0.002000000     0  C WFS 1600 + 16 [5]\n"
		"  8,0    1        4     0.003000000   100  D  FN [kworker]\n"
		"  8,0    0        0     0.003100000     0  m   N a message\n"
		"  8,0    0        3     0.004000000     0  C  FN 0 [0]\n"
		"  8,0    1        5     0.005000000   100  D  DS 4096 + 1024 [fstrim]\n"
		"  8,0    1        6     0.006000000   100  D   R 36 (12 00 00 00 24 00 ..) "
		"[udev]\n"
		"CPU0 (sda):\n Reads Queued:           1,        4KiB\n";
	struct trace t;

	load(file_of("text", text, strlen(text)), &t);
	assert_int_equal(t.n, 4);
	assert_same_request(
		&(struct trace_record){
			.op = TRACE_READ, .offset_bytes = 800 * 512, .len_bytes = 4096},
		&t.records[0]);
	assert_int_equal(t.records[0].complete_ns - t.records[0].submit_ns, 499000);
	assert_int_equal(t.records[0].stream, 1);
	assert_same_request(&(struct trace_record){.op = TRACE_WRITE,
				    .offset_bytes = 1600 * 512,
				    .len_bytes = 8192,
				    .flags = TRACE_FUA | TRACE_ERROR},
		&t.records[1]);
	assert_same_request(&(struct trace_record){.op = TRACE_FLUSH}, &t.records[2]);
	assert_same_request(
		&(struct trace_record){
			.op = TRACE_DISCARD, .offset_bytes = 4096 * 512, .len_bytes = 1024 * 512},
		&t.records[3]);
	assert_int_equal(t.records[3].complete_ns, 0);
	trace_free(&t);
}

/* blktrace writes a file for each processor; issue and completion may be in different ones. */
TEST(a_file_for_each_processor)
{
	uint8_t all[1 << 16], part[2][1 << 16];
	size_t n[2] = {0}, len, at;
	char path[256];
	FILE *f = popen("zcat " DATA "nvme.blk.gz", "r");
	struct trace t, whole;

	len = fread(all, 1, sizeof(all), f);
	pclose(f);
	assert_true(len > 1000 && len < sizeof(all));
	for (at = 0; all[at] == '#'; at++)
		while (all[at] != '\n')
			at++;
	for (size_t size; at + BLK_EVENT_BYTES <= len; at += size) {
		unsigned to = all[at + 28] == 8; /* completions */

		size = BLK_EVENT_BYTES + all[at + 46];
		memcpy(part[to] + n[to], all + at, size);
		n[to] += size;
	}
	file_of("x.blktrace.0", part[0], n[0]);
	file_of("x.blktrace.1", part[1], n[1]);
	snprintf(path, sizeof(path), "%s/x.blktrace.1", test_dir());
	load(path, &t);
	load(DATA "nvme.blk.gz", &whole);
	assert_int_equal(t.n, whole.n);
	qsort(t.records, t.n, sizeof(*t.records), by_content);
	qsort(whole.records, whole.n, sizeof(*whole.records), by_content);
	for (size_t i = 0; i < t.n; i++)
		assert_same_request(&whole.records[i], &t.records[i]);
	trace_free(&t);
	trace_free(&whole);
}

/* ---- the same guest on the wire ---- */

static struct got got;

static uint32_t u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A pcap file with microseconds, of which no more than `snap` bytes a packet are looked at. */
static void capture_file(size_t snap)
{
	struct capture_options opt = {.ports = {{44420, &wire_nvme}},
		.n_ports = 1,
		.unit = WIRE_ANY_UNIT,
		.request = got_request,
		.arg = &got};
	FILE *f = popen("zcat " DATA "nvme.pcap.gz", "r");
	uint8_t head[24], frame[1 << 16];
	struct capture *c;

	got.n = 0;
	assert_int_equal(capture_new(&opt, &c), 0);
	assert_int_equal(fread(head, 1, 24, f), 24);
	while (fread(head, 1, 16, f) == 16) {
		size_t have = u32(head + 8);

		assert_true(have <= sizeof(frame));
		assert_int_equal(fread(frame, 1, have, f), have);
		assert_int_equal(capture_packet(c, PACKET_ETHERNET,
					 u32(head) * 1000000000ull + u32(head + 4) * 1000ull, frame,
					 have < snap ? have : snap, u32(head + 12)),
			0);
	}
	pclose(f);
	end_capture(c, &got);
}

static int by_submission(const void *a, const void *b)
{
	const struct trace_record *x = a, *y = b;

	return x->submit_ns < y->submit_ns ? -1 : x->submit_ns > y->submit_ns;
}

/* The kernel looks for a partition table before its tracer is on: the first read is not in its
 * list. */
TEST(nvme_on_the_wire)
{
	struct trace w = wanted();
	struct talk *t = talk_new(&wire_nvme);

	capture_file(SIZE_MAX);
	assert_int_equal(got.counts.wire.lost_place, 0);
	assert_int_equal(got.counts.wire.strays, 0);
	assert_int_equal(got.counts.wire.unanswered, 0);
	qsort(got.records, got.n, sizeof(got.records[0]), by_submission);
	assert_int_equal(got.records[0].op, TRACE_READ);
	memmove(got.records, got.records + 1, --got.n * sizeof(got.records[0]));
	for (size_t i = 0; i < w.n; i++)
		want(t, w.records[i].op, w.records[i].offset_bytes, w.records[i].len_bytes,
			w.records[i].flags);
	assert_all(t, &got);
	talk_free(t);
	trace_free(&w);
}

/* Of what QEMU's user network packs together, the second header is beyond 128 bytes: lost, and
 * counted. */
TEST(nvme_with_short_packets)
{
	struct trace w = wanted();
	struct talk *t = talk_new(&wire_nvme);
	unsigned missing;

	want(t, TRACE_READ, 0, 4096, 0); /* as above */
	for (size_t i = 0; i < w.n; i++)
		want(t, w.records[i].op, w.records[i].offset_bytes, w.records[i].len_bytes,
			w.records[i].flags);
	capture_file(128);
	missing = assert_no_others(t, &got);
	assert_true(got.n > w.n / 2);
	assert_true(missing <= got.counts.wire.lost_place + got.counts.wire.ranges_cut);
	talk_free(t);
	trace_free(&w);
}
