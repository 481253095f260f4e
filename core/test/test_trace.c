/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_trace.c - the trace codec (format/trace.h) and the recorder (sys/trace.h). */
#include "format/trace.h"
#include "sys/crc.h"
#include "sys/trace.h"
#include "test/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static const struct trace_header some_header = {.trace_uuid = {1, 2, 3},
	.image_uuid = {9, 8, 7},
	.size_bytes = 1ull << 40,
	.start_wall_ns = 1700000000000000000ull,
	.comment = "a test"};

/* ---- helpers: a trace in memory ---- */

struct file {
	uint8_t *p;
	size_t len;
	uint64_t records;
};

static void add_block(struct file *f, const struct trace_record *r, size_t n, uint64_t dropped)
{
	struct trace_block b;

	f->p = realloc(f->p, f->len + TRACE_BLOCK_BYTES);
	trace_block_begin(&b, f->p + f->len, f->records, dropped);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(trace_block_add(&b, &r[i]), 1);
	trace_block_seal(
		&b, b.buf, some_header.trace_uuid, f->len / TRACE_BLOCK_BYTES, b.used, b.count);
	f->len += TRACE_BLOCK_BYTES;
	f->records += n;
}

static struct file new_file(void)
{
	struct file f = {.p = malloc(TRACE_BLOCK_BYTES), .len = TRACE_BLOCK_BYTES};

	trace_header_encode(&some_header, f.p);
	return f;
}

/* Block k (0 is the first after the header) holds 10 records with offsets k * 1000 + i. */
static struct file numbered_file(unsigned blocks)
{
	struct file f = new_file();

	for (unsigned k = 0; k < blocks; k++) {
		struct trace_record r[10] = {0};

		for (unsigned i = 0; i < 10; i++)
			r[i] = (struct trace_record){
				.submit_ns = k * 100 + i, .offset_bytes = k * 1000 + i};
		add_block(&f, r, 10, k);
	}
	return f;
}

static int decode(const uint8_t *p, size_t len, struct trace_decoder *d, struct trace_record *out,
	size_t max, size_t *n, struct err *e)
{
	*n = 0;
	trace_decoder_init(d);
	for (size_t at = 0; at < len; at += TRACE_BLOCK_BYTES) {
		size_t piece = len - at < TRACE_BLOCK_BYTES ? len - at : TRACE_BLOCK_BYTES;
		struct trace_record r;
		int rc = trace_decoder_feed(d, p + at, piece, e);

		if (rc < 0)
			return rc;
		while (trace_decoder_next(d, &r)) {
			if (*n < max)
				out[*n] = r;
			++*n;
		}
	}
	return trace_decoder_end(d, e);
}

static void assert_same(const struct trace_record *a, const struct trace_record *b)
{
	assert_int_equal(a->submit_ns, b->submit_ns);
	assert_int_equal(a->complete_ns, b->complete_ns);
	assert_int_equal(a->offset_bytes, b->offset_bytes);
	assert_int_equal(a->len_bytes, b->len_bytes);
	assert_int_equal(a->op, b->op);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->source, b->source);
	assert_int_equal(a->stream, b->stream);
	assert_int_equal(a->object, b->object);
}

/* Any length, as often short as long. */
static uint64_t rand_bits(uint64_t *s)
{
	return test_rand(s) >> (1 + test_rand(s) % 63);
}

static struct trace_record rand_record(uint64_t *s)
{
	struct trace_record r = {.submit_ns = rand_bits(s),
		.offset_bytes = rand_bits(s),
		.op = (uint8_t)(test_rand(s) % TRACE_OPS),
		.flags = (uint8_t)(test_rand(s) % 4),
		.source = (uint8_t)(test_rand(s) % TRACE_SRCS),
		.stream = (uint8_t)(test_rand(s) % 3 ? 0 : test_rand(s)),
		.object = test_rand(s) % 2 ? test_rand(s) : rand_bits(s)};
	uint64_t room = (1ull << 63) - r.offset_bytes;

	r.len_bytes = test_rand(s) % 8 ? rand_bits(s) >> 20 : rand_bits(s);
	if (r.len_bytes > room)
		r.len_bytes = room;
	if (test_rand(s) % 4)
		r.complete_ns = r.submit_ns + (rand_bits(s) >> 20);
	if (r.complete_ns >> 63)
		r.complete_ns = 0;
	return r;
}

/* ---- the codec ---- */

TEST(random_records_come_back)
{
	enum { N = 20000 };
	struct trace_record *in = calloc(N, sizeof(*in)), *out = calloc(N, sizeof(*out));
	uint64_t s = test_seed();
	struct file f = new_file();
	struct trace_decoder d;
	struct trace_block b;
	uint8_t buf[TRACE_BLOCK_BYTES];
	size_t n, first = 0;

	trace_block_begin(&b, buf, 0, 0);
	for (size_t i = 0; i < N; i++) {
		in[i] = rand_record(&s);
		if (trace_block_add(&b, &in[i]))
			continue;
		add_block(&f, in + first, i - first, 0);
		trace_block_begin(&b, buf, 0, 0);
		first = i--;
	}
	add_block(&f, in + first, N - first, 0);
	assert_int_equal(decode(f.p, f.len, &d, out, N, &n, NULL), 0);
	assert_int_equal(n, N);
	assert_int_equal(d.counts.records, N);
	assert_int_equal(d.counts.skipped_blocks + d.counts.torn_blocks, 0);
	for (size_t i = 0; i < N; i++)
		assert_same(&in[i], &out[i]);
	assert_string_equal(d.header.comment, "a test");
	assert_int_equal(d.header.size_bytes, 1ull << 40);
	assert_memory_equal(d.header.image_uuid, some_header.image_uuid, 16);
	free(in), free(out), free(f.p);
}

TEST(the_extremes_fit)
{
	const uint64_t top = (1ull << 63) - 1;
	struct trace_record r[] = {
		{.submit_ns = top,
			.complete_ns = top,
			.offset_bytes = top,
			.len_bytes = 1,
			.object = UINT64_MAX,
			.op = TRACE_WRITE_ZEROES,
			.flags = 3,
			.source = TRACE_SRC_STORE,
			.stream = 255},
		{0},
		{.complete_ns = top, .len_bytes = 1ull << 63},
		{.submit_ns = 1, .complete_ns = 1},
	};
	struct trace_record out[4];
	struct trace_decoder d;
	struct file f = new_file();
	size_t n;

	add_block(&f, r, 4, 0);
	assert_int_equal(decode(f.p, f.len, &d, out, 4, &n, NULL), 0);
	assert_int_equal(n, 4);
	for (size_t i = 0; i < 4; i++)
		assert_same(&r[i], &out[i]);
	free(f.p);
}

TEST(impossible_records_are_refused)
{
	static const struct trace_record bad[] = {
		{.op = TRACE_OPS},
		{.flags = 4},
		{.source = TRACE_SRCS},
		{.submit_ns = 10, .complete_ns = 9},
		{.submit_ns = 1ull << 63},
		{.offset_bytes = 1ull << 63},
		{.offset_bytes = 1, .len_bytes = 1ull << 63},
	};
	uint8_t buf[TRACE_BLOCK_BYTES];
	struct trace_block b;

	trace_block_begin(&b, buf, 0, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(trace_block_add(&b, &bad[i]), -EINVAL);
	assert_int_equal(b.count, 0);
}

TEST(usual_records_are_small)
{
	uint64_t s = test_seed();
	uint8_t buf[TRACE_BLOCK_BYTES];
	struct trace_record r = {0};
	struct trace_block b;

	trace_block_begin(&b, buf, 0, 0);
	do {
		r.submit_ns += 1000 + test_rand(&s) % 2000;
		r.complete_ns = r.submit_ns + 50000 + test_rand(&s) % 200000;
		r.offset_bytes = test_rand(&s) % (1ull << 36) & ~4095ull;
		r.len_bytes = 4096;
		r.source = TRACE_SRC_STORE;
		r.object = 1000 + test_rand(&s) % 5000;
	} while (trace_block_add(&b, &r));
	assert_true(b.used / b.count <= 20);
}

TEST(a_torn_tail_is_dropped_and_counted)
{
	struct file f = numbered_file(4);
	struct trace_record out[40];
	struct trace_decoder d;
	size_t n;

	assert_int_equal(decode(f.p, f.len - 1, &d, out, 40, &n, NULL), 0);
	assert_int_equal(n, 30);
	assert_int_equal(d.counts.torn_blocks, 1);
	assert_int_equal(d.counts.skipped_blocks, 0);
	assert_int_equal(d.counts.dropped, 2);
	memset(f.p + f.len - 5000, 0, 5000);
	assert_int_equal(decode(f.p, f.len, &d, out, 40, &n, NULL), 0);
	assert_int_equal(n, 20);
	assert_int_equal(d.counts.torn_blocks, 2);
	free(f.p);
}

TEST(a_damaged_block_is_skipped_and_counted)
{
	struct file f = numbered_file(4);
	struct trace_record out[40];
	struct trace_decoder d;
	size_t n;

	f.p[2 * TRACE_BLOCK_BYTES + 100] ^= 1;
	assert_int_equal(decode(f.p, f.len, &d, out, 40, &n, NULL), 0);
	assert_int_equal(n, 30);
	assert_int_equal(out[10].offset_bytes, 2000);
	assert_int_equal(d.counts.skipped_blocks, 1);
	assert_int_equal(d.counts.skipped_records, 10);
	assert_int_equal(d.counts.torn_blocks, 0);
	assert_int_equal(d.counts.dropped, 3);
	free(f.p);
}

/* A flip anywhere costs its block, or the header, and nothing else; never a wrong record. */
TEST(every_flipped_bit_is_seen)
{
	struct file f = numbered_file(3);
	uint64_t s = test_seed();
	struct trace_record out[30];
	struct trace_decoder d;
	size_t n;

	for (size_t i = 0; i < f.len; i += 1 + test_rand(&s) % 40) {
		uint8_t bit = (uint8_t)(1u << test_rand(&s) % 8);
		int rc;

		f.p[i] ^= bit;
		rc = decode(f.p, f.len, &d, out, 30, &n, NULL);
		if (i < TRACE_BLOCK_BYTES) {
			assert_true(rc == -EUCLEAN || rc == -EPROTO || rc == -EBADMSG);
		} else {
			assert_int_equal(rc, 0);
			assert_int_equal(n, 20);
			assert_int_equal(d.counts.skipped_blocks + d.counts.torn_blocks, 1);
		}
		f.p[i] ^= bit;
	}
	free(f.p);
}

TEST(a_block_of_another_trace_or_place_is_damaged)
{
	struct file f = numbered_file(3);
	struct trace_decoder d;
	struct trace_block b;
	size_t n;

	memcpy(f.p + TRACE_BLOCK_BYTES, f.p + 2 * TRACE_BLOCK_BYTES, TRACE_BLOCK_BYTES);
	assert_int_equal(decode(f.p, f.len, &d, NULL, 0, &n, NULL), 0);
	assert_int_equal(n, 20);
	assert_int_equal(d.counts.skipped_records, 10);
	trace_block_begin(&b, f.p + TRACE_BLOCK_BYTES, 0, 0);
	trace_block_seal(&b, b.buf, some_header.image_uuid, 1, 0, 0);
	assert_int_equal(decode(f.p, f.len, &d, NULL, 0, &n, NULL), 0);
	assert_int_equal(d.counts.skipped_blocks, 1);
	free(f.p);
}

/* A checksum that is right does not make contents right. */
TEST(impossible_contents_with_a_good_checksum_are_damage)
{
	static const struct {
		size_t at;
		uint8_t value;
	} cases[] = {{4, 11}, {4, 9}, {8, 2}, {40, 1}, {41, 0xff}, {44, 1}, {50, 7}, {50, 6 << 5}};
	struct trace_decoder d;
	size_t n;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct file f = numbered_file(1);
		uint8_t *p = f.p + TRACE_BLOCK_BYTES;
		uint32_t crc;

		p[cases[i].at] = cases[i].value;
		crc = crc32c(crc32c(0, some_header.trace_uuid, 16), p, TRACE_BLOCK_BYTES - 4);
		for (int k = 0; k < 4; k++)
			p[TRACE_BLOCK_BYTES - 4 + k] = (uint8_t)(crc >> 8 * k);
		assert_int_equal(decode(f.p, f.len, &d, NULL, 0, &n, NULL), 0);
		assert_int_equal(n, 0);
		assert_int_equal(d.counts.torn_blocks, 1);
		free(f.p);
	}
}

TEST(foreign_short_and_newer_files_are_refused)
{
	struct file f = numbered_file(1);
	uint8_t text[] = "fio version 3 iolog\n";
	struct trace_decoder d;
	struct err e = {0};
	size_t n;

	assert_int_equal(decode(text, sizeof(text), &d, NULL, 0, &n, &e), -EUCLEAN);
	assert_string_equal(e.msg, "not an LSVD trace");
	assert_int_equal(decode(f.p, 0, &d, NULL, 0, &n, &e), -EUCLEAN);
	assert_string_equal(e.msg, "not an LSVD trace: the file is empty");
	assert_int_equal(decode(f.p, 4, &d, NULL, 0, &n, &e), -EUCLEAN);
	assert_int_equal(decode(f.p, 1000, &d, NULL, 0, &n, &e), -EUCLEAN);
	assert_string_equal(e.msg, "the trace's header is cut off");
	f.p[8] = 2;
	assert_int_equal(decode(f.p, f.len, &d, NULL, 0, &n, &e), -EPROTO);
	assert_string_equal(e.msg, "trace version 2; this build knows version 1");
	f.p[8] = 1;
	f.p[60] ^= 1;
	assert_int_equal(decode(f.p, f.len, &d, NULL, 0, &n, &e), -EBADMSG);
	free(f.p);
}

/* ---- the golden file: what version 1 wrote stays readable ---- */

static struct trace_record golden_record(uint64_t i)
{
	return (struct trace_record){.submit_ns = i * 1000003,
		.complete_ns = i % 5 ? i * 1000003 + 12345 * (i % 97) : 0,
		.offset_bytes = i % 3 ? i * 4096 : i * 0x123456000,
		.len_bytes = i % 7 == 3 ? 0 : 512 << i % 12,
		.op = (uint8_t)(i % TRACE_OPS),
		.flags = (uint8_t)(i / 3 % 4),
		.source = (uint8_t)(i % TRACE_SRCS),
		.stream = (uint8_t)(i / 50),
		.object = i % 6 == 5 ? i * i : 0};
}

enum { GOLDEN_RECORDS = 600 };

static struct file golden_file(void)
{
	struct file f = new_file();
	struct trace_record r[100];

	for (unsigned k = 0; k < GOLDEN_RECORDS / 100; k++) {
		for (unsigned i = 0; i < 100; i++)
			r[i] = golden_record(k * 100 + i);
		add_block(&f, r, 100, k);
	}
	return f;
}

TEST(the_golden_file_reads_and_writes_the_same)
{
	const char *path = "core/test/golden/trace-v1.lsvdtrace";
	struct trace_record *out = calloc(GOLDEN_RECORDS, sizeof(*out));
	uint8_t *p = malloc(1 << 20);
	struct file f = golden_file();
	struct trace_decoder d;
	FILE *fp = fopen(path, "rb");
	size_t n, len;

	if (!fp && getenv("GOLDEN_WRITE")) {
		fp = fopen(path, "wb");
		assert_int_equal(fwrite(f.p, 1, f.len, fp), f.len);
		fclose(fp);
		fp = fopen(path, "rb");
	}
	if (!fp)
		SKIP("run from the top of the tree");
	len = fread(p, 1, 1 << 20, fp);
	fclose(fp);
	assert_int_equal(decode(p, len, &d, out, GOLDEN_RECORDS, &n, NULL), 0);
	assert_int_equal(n, GOLDEN_RECORDS);
	for (uint64_t i = 0; i < n; i++) {
		struct trace_record want = golden_record(i);

		assert_same(&want, &out[i]);
	}
	assert_int_equal(len, f.len);
	assert_memory_equal(p, f.p, len);
	free(out), free(p), free(f.p);
}

/* ---- the recorder ---- */

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
	return path;
}

static uint8_t *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p = malloc(64 << 20);

	assert_non_null(f);
	*len = fread(p, 1, 64 << 20, f);
	fclose(f);
	return p;
}

static struct trace_record recorded(uint64_t i)
{
	return (struct trace_record){.submit_ns = 5000 + i * 7,
		.complete_ns = 5000 + i * 7 + 100,
		.offset_bytes = i * 4096,
		.len_bytes = 4096,
		.op = (uint8_t)(i % 2)};
}

static struct trace_recorder *open_recorder(const char *path, bool sync, uint32_t blocks)
{
	struct trace_recorder_options o = {.image_uuid = {5},
		.size_bytes = 1 << 30,
		.start_ns = 5000,
		.trace_id = {11, 12},
		.comment = "recorder",
		.sync = sync,
		.blocks = blocks};
	struct trace_recorder *t;
	struct err e;

	assert_int_equal(trace_recorder_open(path, &o, &t, &e), 0);
	return t;
}

static void check_recording(const char *path, uint64_t taken, uint64_t dropped)
{
	struct trace_record *out = calloc(taken + 1, sizeof(*out));
	struct trace_decoder d;
	size_t len, n;
	uint8_t *p = read_file(path, &len);

	assert_int_equal(decode(p, len, &d, out, taken + 1, &n, NULL), 0);
	assert_int_equal(n, taken);
	assert_int_equal(d.counts.dropped, dropped);
	assert_int_equal(d.counts.skipped_blocks + d.counts.torn_blocks, 0);
	assert_string_equal(d.header.comment, "recorder");
	for (size_t i = 0; i < n && !dropped; i++) {
		struct trace_record want = recorded(i);

		want.submit_ns -= 5000;
		want.complete_ns -= 5000;
		assert_same(&want, &out[i]);
	}
	free(p), free(out);
}

static void record_some(bool sync, uint32_t blocks, uint64_t n)
{
	const char *path = path_of("some");
	struct trace_recorder *t = open_recorder(path, sync, blocks);
	struct trace_recorder_stats st;
	struct err e = {0};

	for (uint64_t i = 0; i < n; i++) {
		struct trace_record r = recorded(i);

		trace_recorder_record(t, &r);
	}
	trace_recorder_stats(t, &st);
	assert_int_equal(st.records + st.dropped, n);
	if (sync)
		assert_int_equal(st.dropped, 0);
	assert_int_equal(trace_recorder_close(t, &e), 0);
	check_recording(path, st.records, st.dropped);
}

TEST(a_recording_reads_back)
{
	record_some(false, 0, 0);
	record_some(false, 0, 1);
	record_some(false, 1024, 50000);
	record_some(true, 0, 50000);
}

/* A ring of four blocks: whatever did not fit is counted, to the last record. */
TEST(a_full_ring_drops_and_counts)
{
	record_some(false, 4, 200000);
}

TEST(times_before_the_start_are_clamped)
{
	const char *path = path_of("early");
	struct trace_recorder *t = open_recorder(path, true, 0);
	struct trace_record r = {.submit_ns = 4000, .complete_ns = 4500}, out;
	struct trace_decoder d;
	size_t len, n;
	uint8_t *p;

	trace_recorder_record(t, &r);
	assert_int_equal(trace_recorder_close(t, NULL), 0);
	p = read_file(path, &len);
	assert_int_equal(decode(p, len, &d, &out, 1, &n, NULL), 0);
	assert_int_equal(out.submit_ns, 0);
	assert_int_equal(out.complete_ns, 1);
	free(p);
}

/* The partial block reaches the file with no further record and no close. */
TEST(a_partial_block_is_written_while_recording)
{
	const char *path = path_of("partial");
	struct trace_recorder *t = open_recorder(path, false, 0);
	struct trace_record r = recorded(0);
	struct trace_decoder d;
	size_t len, n = 0;

	trace_recorder_record(t, &r);
	for (int i = 0; i < 200 && !n; i++) {
		uint8_t *p;

		usleep(50000);
		p = read_file(path, &len);
		assert_int_equal(decode(p, len, &d, NULL, 0, &n, NULL), 0);
		free(p);
	}
	assert_int_equal(n, 1);
	r = recorded(1);
	trace_recorder_record(t, &r);
	assert_int_equal(trace_recorder_close(t, NULL), 0);
	check_recording(path, 2, 0);
}

TEST(a_file_that_is_no_trace_is_not_overwritten)
{
	const char *path = path_of("precious");
	struct trace_recorder_options o = {.sync = true};
	struct trace_recorder *t;
	struct err e = {0};
	FILE *f = fopen(path, "w");

	fputs("something precious", f);
	fclose(f);
	assert_int_equal(trace_recorder_open(path, &o, &t, &e), -EEXIST);
	assert_non_null(strstr(e.msg, "is no trace"));
	assert_int_equal(trace_recorder_open("/nonexistent/x", &o, &t, &e), -ENOENT);
	assert_int_equal(trace_recorder_open("/dev/null", &o, &t, &e), -EINVAL);
}

TEST(two_recorders_do_not_share_a_file)
{
	const char *path = path_of("shared");
	struct trace_recorder *t = open_recorder(path, true, 0), *u;
	struct trace_recorder_options o = {.sync = true};
	struct err e = {0};

	assert_int_equal(trace_recorder_open(path, &o, &u, &e), -EBUSY);
	assert_int_equal(trace_recorder_close(t, NULL), 0);
	t = open_recorder(path, true, 0);
	assert_int_equal(trace_recorder_close(t, NULL), 0);
}

/* A file that cannot grow: recording stops, the records before are good, the rest is counted. */
TEST(a_full_disk_stops_the_recording_only)
{
	for (int sync = 0; sync < 2; sync++) {
		const char *path = path_of("full");
		struct trace_recorder *t = open_recorder(path, sync, 4096);
		struct trace_recorder_stats st;
		struct rlimit old, lim;
		struct trace_decoder d;
		struct err e = {0};
		size_t len, n;
		uint8_t *p;

		signal(SIGXFSZ, SIG_IGN);
		getrlimit(RLIMIT_FSIZE, &old);
		lim = (struct rlimit){.rlim_cur = 100000, .rlim_max = old.rlim_max};
		setrlimit(RLIMIT_FSIZE, &lim);
		for (uint64_t i = 0; i < 100000; i++) {
			struct trace_record r = recorded(i);

			trace_recorder_record(t, &r);
		}
		trace_recorder_stats(t, &st);
		assert_int_equal(st.records + st.dropped, 100000);
		assert_int_equal(trace_recorder_close(t, &e), -EFBIG);
		setrlimit(RLIMIT_FSIZE, &old);
		assert_non_null(strstr(e.msg, "recording stopped after"));
		p = read_file(path, &len);
		assert_int_equal(decode(p, len, &d, NULL, 0, &n, NULL), 0);
		assert_true(n < 100000 && len <= 100000 && len % TRACE_BLOCK_BYTES == 0);
		assert_int_equal(d.counts.torn_blocks, 0);
		assert_non_null(strstr(e.msg, "were dropped"));
		assert_int_equal(strtoull(strstr(e.msg, "after ") + 6, NULL, 10), n);
		free(p);
	}
}
