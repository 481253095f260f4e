/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_traceio.c - trace files, their import and export, damaged ones included. */
#include "test/test.h"
#include "trace/export.h"
#include "trace/file.h"
#include "trace/load.h"

#include <errno.h>
#include <unistd.h>

static const char *path_of(const char *name)
{
	static char ring[4][256];
	static unsigned next;
	char *path = ring[next++ % 4];

	snprintf(path, sizeof(ring[0]), "%s/%s", test_dir(), name);
	return path;
}

static const char *text_file(const char *text)
{
	const char *path = path_of("text");
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	return path;
}

static void assert_bad(const char *text, const char *what)
{
	struct err e = {0};
	struct trace t;

	assert_true(trace_load(text_file(text), NULL, &t, &e) < 0);
	if (!strstr(e.msg, what))
		fail_msg("'%s' does not contain '%s'", e.msg, what);
	assert_null(t.records);
}

static void load(const char *path, struct trace *t)
{
	struct err e = {0};

	if (trace_load(path, NULL, t, &e) < 0)
		fail_msg("%s", e.msg);
}

static struct trace random_trace(uint64_t *s, size_t n)
{
	struct trace t = {0};

	for (size_t i = 0; i < n; i++) {
		struct trace_record r = {.submit_ns = test_rand(s) % 1000000000,
			.offset_bytes = test_rand(s) % (1ull << 40),
			.len_bytes = test_rand(s) % (1 << 20),
			.op = (uint8_t)(test_rand(s) % TRACE_OPS),
			.flags = (uint8_t)(test_rand(s) % 4),
			.source = (uint8_t)(test_rand(s) % TRACE_SRCS),
			.stream = (uint8_t)test_rand(s),
			.object = test_rand(s) >> 40};

		r.complete_ns = test_rand(s) % 3 ? r.submit_ns + test_rand(s) % 1000000 : 0;
		assert_int_equal(trace_append(&t, &r), 0);
	}
	assert_int_equal(trace_sort(&t), 0);
	return t;
}

static void assert_same(const struct trace *a, const struct trace *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_int_equal(a->records[i].submit_ns, b->records[i].submit_ns);
		assert_int_equal(a->records[i].complete_ns, b->records[i].complete_ns);
		assert_int_equal(a->records[i].offset_bytes, b->records[i].offset_bytes);
		assert_int_equal(a->records[i].len_bytes, b->records[i].len_bytes);
		assert_int_equal(a->records[i].op, b->records[i].op);
		assert_int_equal(a->records[i].flags, b->records[i].flags);
		assert_int_equal(a->records[i].source, b->records[i].source);
		assert_int_equal(a->records[i].stream, b->records[i].stream);
		assert_int_equal(a->records[i].object, b->records[i].object);
	}
}

static const char *write_binary(const struct trace *t, uint64_t dropped)
{
	struct trace_header h = {.size_bytes = 1 << 30, .comment = "made up"};
	const char *path = path_of("binary");
	struct trace_writer *w;

	assert_int_equal(trace_writer_open(path, &h, &w, NULL), 0);
	for (size_t i = 0; i < t->n; i++)
		assert_int_equal(trace_writer_add(w, &t->records[i], NULL), 0);
	assert_int_equal(trace_writer_close(w, dropped, NULL), 0);
	return path;
}

static const char *write_as(const struct trace *t, const char *format)
{
	struct trace_export_options opt = {.format = format, .device = "/dev/x"};
	const char *path = path_of("export");
	struct trace_export *x;

	assert_int_equal(trace_export_open(path, &opt, &t->header, &x, NULL), 0);
	for (size_t i = 0; i < t->n; i++)
		assert_int_equal(trace_export_add(x, &t->records[i], NULL), 0);
	assert_int_equal(trace_export_close(x, 0, NULL), 0);
	return path;
}

TEST(a_trace_file_comes_back)
{
	static const size_t sizes[] = {0, 1, 100, 1023, 1024, 1025, 20000};
	uint64_t s = test_seed();

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct trace a = random_trace(&s, sizes[i]), b;

		load(write_binary(&a, i), &b);
		assert_same(&a, &b);
		assert_int_equal(b.counts.dropped, i);
		assert_int_equal(b.counts.torn_blocks + b.counts.skipped_blocks, 0);
		assert_string_equal(b.header.comment, "made up");
		trace_free(&a), trace_free(&b);
	}
}

TEST(csv_comes_back_with_every_field)
{
	uint64_t s = test_seed();
	struct trace a = random_trace(&s, 3000), b;

	load(write_as(&a, "csv"), &b);
	assert_same(&a, &b);
	trace_free(&a), trace_free(&b);
}

TEST(iolog_keeps_what_an_iolog_can)
{
	uint64_t s = test_seed();
	struct trace a = random_trace(&s, 3000), b;

	load(write_as(&a, "iolog"), &b);
	assert_int_equal(a.n, b.n);
	for (size_t i = 0; i < a.n; i++) {
		const struct trace_record *x = &a.records[i], *y = &b.records[i];
		bool flush = x->op == TRACE_FLUSH;

		assert_int_equal(x->submit_ns / 1000 * 1000, y->submit_ns);
		assert_int_equal(y->complete_ns, 0);
		assert_int_equal(flush ? 0 : x->offset_bytes, y->offset_bytes);
		assert_int_equal(flush ? 0 : x->len_bytes, y->len_bytes);
		assert_int_equal(x->op == TRACE_WRITE_ZEROES ? TRACE_DISCARD : x->op, y->op);
	}
	trace_free(&a), trace_free(&b);
}

TEST(csv_columns_are_found_by_name)
{
	struct trace t;

	load(text_file("# a comment\nlen_bytes, op ,extra,submit_ns,complete_ns,offset_bytes\n"
		       "512,read,x,20,30,4096\n\n1024, Z ,,10,,0\r\n"),
		&t);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.records[0].op, TRACE_WRITE_ZEROES);
	assert_int_equal(t.records[0].submit_ns, 10);
	assert_int_equal(t.records[0].complete_ns, 0);
	assert_int_equal(t.records[0].len_bytes, 1024);
	assert_int_equal(t.records[1].op, TRACE_READ);
	assert_int_equal(t.records[1].complete_ns, 30);
	assert_int_equal(t.records[1].offset_bytes, 4096);
	trace_free(&t);
}

TEST(csv_needs_no_names)
{
	struct trace t;

	load(text_file("5,6,F,0,0\n1,2,W,512,1024,journal,3,77,F\n"), &t);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.records[0].op, TRACE_WRITE);
	assert_int_equal(t.records[0].source, TRACE_SRC_JOURNAL);
	assert_int_equal(t.records[0].stream, 3);
	assert_int_equal(t.records[0].object, 77);
	assert_int_equal(t.records[0].flags, TRACE_FUA);
	assert_int_equal(t.records[1].op, TRACE_FLUSH);
	trace_free(&t);
}

TEST(a_bad_csv_line_is_named)
{
	assert_bad("1,2,R,0,512\n1,x,R,0,512\n", "text:2: bad complete_ns 'x'");
	assert_bad("1,2,R,0,512\n\n1,2,Q,0,512\n", "text:3: unknown op 'Q'");
	assert_bad("1,2,R,-1,512\n", "text:1: bad offset_bytes '-1'");
	assert_bad("1,2,R,0\n        ", "text:1: missing 'len_bytes'");
	assert_bad("9,2,R,0,512\n",
		"text:1: impossible request: 'it completes before it is submitted'");
	assert_bad(
		"1,2,R,9223372036854775807,512\n", "text:1: impossible request: 'it is too large'");
	assert_bad("1,2,R,99999999999999999999,512\n", "text:1: bad offset_bytes");
	assert_bad("submit_ns,complete_ns,op,len_bytes\n", "has no column 'offset_bytes'");
	assert_bad("1,2,R,0,512,moon\n", "text:1: unknown source 'moon'");
	assert_bad("1,2,R,0,512,store,256\n", "stream above 255");
	assert_bad("1,2,R,0,512,store,1,1,X\n", "unknown flags 'X'");
	assert_bad("", "the file is empty");
	assert_bad("GIF89a is no trace at all", "has no column 'submit_ns'");
}

TEST(iolog_v2_waits_since_the_start)
{
	struct trace t;

	load(text_file("fio version 2 iolog\n/f add\n/f open\n/f read 0 4096\n/f wait 15 0\n"
		       "/f write 4096 512\n/f wait 40\n/f sync\n/f trim 8192 512\n/f close\n"),
		&t);
	assert_int_equal(t.n, 4);
	assert_int_equal(t.records[0].submit_ns, 0);
	assert_int_equal(t.records[0].op, TRACE_READ);
	assert_int_equal(t.records[1].submit_ns, 15000000);
	assert_int_equal(t.records[1].offset_bytes, 4096);
	assert_int_equal(t.records[2].op, TRACE_FLUSH);
	assert_int_equal(t.records[2].submit_ns, 40000000);
	assert_int_equal(t.records[3].op, TRACE_DISCARD);
	trace_free(&t);
}

TEST(an_iolog_of_two_files_needs_a_choice)
{
	static const char log[] = "fio version 3 iolog\n1 a add\n1 b add\n2 a read 0 512\n"
				  "3 b read 512 512\n4 a datasync 0 0\n";
	struct trace_import_options opt = {.volume = "b"};
	struct trace t;

	assert_bad(log, "text:5: requests to 'a' and to 'b': choose one with --volume");
	assert_int_equal(trace_load(text_file(log), &opt, &t, NULL), 0);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.records[0].submit_ns, 3000);
	trace_free(&t);
}

TEST(a_bad_iolog_line_is_named)
{
	assert_bad("fio version 1 iolog\n", "text:1: not an iolog of version 2 or 3");
	assert_bad("fio version 3 iolog\n5 f dance 0 512\n", "text:2: unknown action 'dance'");
	assert_bad("fio version 3 iolog\nx f read 0 512\n", "text:2: bad time 'x'");
	assert_bad("fio version 3 iolog\n1 f read 0\n", "no offset and length after 'read'");
	assert_bad("fio version 3 iolog\n9223372036854775807 f read 0 1\n", "bad time");
	assert_bad("fio version 3 iolog\n7\n", "text:2: cannot be understood");
}

/* Cut at every length near a block's end, and flipped in a block: loads, and says what is missing.
 */
TEST(damaged_files_load_with_counts)
{
	uint64_t s = test_seed();
	struct trace a = random_trace(&s, 1000), b;
	const char *path = write_binary(&a, 0);
	struct err e = {0};
	FILE *f = fopen(path, "r+b");
	long len;

	fseek(f, 5000, SEEK_SET);
	fputs("damage", f);
	fseek(f, 0, SEEK_END);
	len = ftell(f);
	fclose(f);
	load(path, &b);
	assert_int_equal(b.counts.skipped_blocks, 1);
	assert_int_equal(b.n + b.counts.skipped_records, 1000);
	trace_free(&b);
	assert_int_equal(truncate(path, len - 7), 0);
	load(path, &b);
	assert_int_equal(b.counts.torn_blocks, 1);
	assert_true(b.n < 1000);
	trace_free(&b);
	assert_int_equal(truncate(path, 4096), 0);
	load(path, &b);
	assert_int_equal(b.n, 0);
	assert_int_equal(truncate(path, 4000), 0);
	assert_int_equal(trace_load(path, NULL, &b, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "the trace's header is cut off"));
	assert_int_equal(trace_load(path_of("absent"), NULL, &b, &e), -ENOENT);
	trace_free(&a);
}

TEST(a_writer_says_that_the_disk_is_full)
{
	struct trace_header h = {0};
	struct trace_writer *w;
	struct err e = {0};
	int rc = trace_writer_open("/dev/full", &h, &w, &e);

	if (rc == -ENOENT)
		SKIP("no /dev/full");
	if (rc == 0)
		rc = trace_writer_close(w, 0, &e);
	assert_int_equal(rc, -ENOSPC);
	assert_non_null(strstr(e.msg, "/dev/full"));
}
