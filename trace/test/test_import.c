/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_import.c - traces that others recorded: every format's sample, bad lines, volumes,
 * compressed files, and conversion with its sorter. */
#include "test/test.h"
#include "trace/convert.h"
#include "trace/formats.h"
#include "trace/load.h"
#include "trace/sorter.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#define SAMPLES "trace/test/samples/"

static const char *path_of(const char *name)
{
	static char ring[4][256];
	static unsigned next;
	char *path = ring[next++ % 4];

	snprintf(path, sizeof(ring[0]), "%s/%s", test_dir(), name);
	return path;
}

static const char *file_of(const char *name, const void *bytes, size_t len)
{
	const char *path = path_of(name);
	FILE *f = fopen(path, "w");

	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
	return path;
}

static const char *text(const char *s)
{
	return file_of("text", s, strlen(s));
}

static void load(const char *path, const char *volume, struct trace *t)
{
	struct trace_import_options opt = {.volume = volume};
	struct err e = {0};

	if (trace_load(path, &opt, t, &e) < 0)
		fail_msg("%s", e.msg);
}

static void assert_error(const char *path, const struct trace_import_options *opt, const char *what)
{
	struct err e = {0};
	struct trace t;

	assert_true(trace_load(path, opt, &t, &e) < 0);
	if (!strstr(e.msg, what))
		fail_msg("'%s' does not contain '%s'", e.msg, what);
}

/* ---- samples ---- */

#define MS 1000000ull

static void assert_record(const struct trace_record *r, uint64_t submit_ns, uint64_t took_ns,
	unsigned op, uint64_t offset, uint64_t len)
{
	assert_int_equal(r->submit_ns, submit_ns);
	assert_int_equal(r->complete_ns, took_ns == UINT64_MAX ? 0 : submit_ns + took_ns);
	assert_int_equal(r->op, op);
	assert_int_equal(r->offset_bytes, offset);
	assert_int_equal(r->len_bytes, len);
}

/* `unit`: what a format's clock can tell.  took: NULL, or nanoseconds of each. */
static void assert_sample(const char *file, const char *volume, uint64_t unit, const uint64_t *took)
{
	static const struct trace_record want[] = {
		{.submit_ns = 0, .op = TRACE_READ, .offset_bytes = 8192, .len_bytes = 4096},
		{.submit_ns = 100000, .op = TRACE_WRITE, .offset_bytes = 0, .len_bytes = 512},
		{.submit_ns = 200000,
			.op = TRACE_READ,
			.offset_bytes = 1 << 30,
			.len_bytes = 65536},
		{.submit_ns = 1000 * MS,
			.op = TRACE_WRITE,
			.offset_bytes = 8192,
			.len_bytes = 4096},
		{.submit_ns = 2000 * MS, .op = TRACE_READ, .offset_bytes = 4096, .len_bytes = 1024},
		{.submit_ns = 3500 * MS,
			.op = TRACE_WRITE,
			.offset_bytes = 65536,
			.len_bytes = 16384},
	};
	struct trace t;

	load(file, volume, &t);
	for (size_t i = 0; i < 6; i++)
		assert_record(&t.records[i], want[i].submit_ns / unit * unit,
			took ? took[i] : UINT64_MAX, want[i].op, want[i].offset_bytes,
			want[i].len_bytes);
	assert_true(t.n == 6 || (t.n == 7 && t.records[6].op == TRACE_FLUSH && !volume));
	trace_free(&t);
}

static const uint64_t took[] = {500000, 261700, 10000000, 232000, 103700, 0};
static const uint64_t took_us[] = {500000, 261000, 10000000, 232000, 103000, 0};

TEST(every_format_reads_its_sample)
{
	assert_sample(SAMPLES "msr.csv", "hm_0", 1, took);
	assert_sample(SAMPLES "alibaba.csv", "3", 1, NULL);
	assert_sample(SAMPLES "tencent.csv", "1283", 1000 * MS, NULL);
	assert_sample(SAMPLES "spc.txt", "0", 1, NULL);
	assert_sample(SAMPLES "vscsi1.bin", NULL, 1, NULL);
	assert_sample(SAMPLES "vscsi2.bin", NULL, 1, took_us);
}

TEST(times_of_day_are_kept)
{
	struct trace t;

	load(SAMPLES "msr.csv", "hm_0", &t);
	assert_int_equal(t.header.start_wall_ns, (128166372000000000 - 116444736000000000) * 100);
	trace_free(&t);
	load(SAMPLES "alibaba.csv", "747", &t); /* time 0 is the chosen volume's neighbour's too */
	assert_int_equal(t.header.start_wall_ns, 1577808000000000000);
	assert_int_equal(t.records[0].submit_ns, 1000 * MS);
	trace_free(&t);
	load(SAMPLES "vscsi1.bin", NULL, &t);
	assert_int_equal(t.header.start_wall_ns, 0);
	trace_free(&t);
}

TEST(a_first_line_of_names_is_skipped)
{
	struct trace t;

	load(text("Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n"
		  "128166372003061629,usr,0,Read,7014609920,24576,41286\n"),
		NULL, &t);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.records[0].offset_bytes, 7014609920);
	trace_free(&t);
	load(text("# from a colleague\n\ndevice_id,opcode,offset,length,timestamp\n"
		  "0,R,126703644672,4096,1577808000000626\n"),
		NULL, &t);
	assert_int_equal(t.n, 1);
	trace_free(&t);
	load(text("Timestamp,Offset,Size,IOType,VolumeID\r\n1538323199,12910952,128,0,1063\r\n"),
		"1063", &t);
	assert_int_equal(t.records[0].len_bytes, 65536);
	trace_free(&t);
}

TEST(requests_older_than_the_first_get_time_0)
{
	struct trace_import *in;
	struct trace_record r;

	assert_int_equal(
		trace_import_open(text("1,R,0,512,1577808000000100\n1,R,512,512,1577808000000000\n"
				       "1,R,512,512,1577808000000101\n"),
			NULL, &in, NULL),
		0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(trace_import_next(in, &r, NULL), 1);
		assert_int_equal(r.submit_ns, i == 2 ? 1000 : 0);
	}
	assert_int_equal(trace_import_next(in, &r, NULL), 0);
	assert_int_equal(trace_import_stats(in)->early, 1);
	trace_import_close(in);
}

TEST(scsi_commands_that_are_no_io_are_counted)
{
	struct trace_import *in;
	struct trace_record r;
	unsigned n = 0;

	assert_int_equal(trace_import_open(SAMPLES "vscsi2.bin", NULL, &in, NULL), 0);
	while (trace_import_next(in, &r, NULL) > 0)
		n++;
	assert_int_equal(n, 7);
	assert_int_equal(trace_import_stats(in)->ignored, 1);
	trace_import_close(in);
}

/* ---- volumes ---- */

TEST(one_of_several_volumes_has_to_be_chosen)
{
	struct trace_import_options none = {.volume = "hm_7"};
	struct trace t;

	assert_error(SAMPLES "msr.csv", NULL,
		"msr.csv:5: requests to 'hm_0' and to 'hm_1': choose one with --volume");
	assert_error(SAMPLES "msr.csv", &none, "no request to volume 'hm_7'; it has hm_0, hm_1");
	none.volume = "x";
	assert_error(SAMPLES "vscsi1.bin", &none, "no volumes");
	load(SAMPLES "msr.csv", "hm_1", &t);
	assert_int_equal(t.n, 1);
	trace_free(&t);
}

/* ---- bad lines ---- */

TEST(a_bad_line_of_any_format_is_named)
{
	static const struct {
		const char *format, *text, *what;
	} bad[] = {
		{"msr", "128166372000000000,hm,0,Read,8192,4096\n",
			"text:1: fewer fields than 'seven'"},
		{"msr", "12,hm,0,Read,8192,4096,1\n", "text:1: bad timestamp '12'"},
		{"msr", "128166372000000000,hm,0,Trim,8192,4096,1\n",
			"neither read nor write: 'Trim'"},
		{"msr", "128166372000000000,hm,0,Read,-1,4096,1\n", "bad offset '-1'"},
		{"msr", "128166372000000000,hm,0,Read,1,4294967296,1\n", "size above 4 GiB"},
		{"msr", "128166372000000000,hm,0,Read,1,512,9223372036854775807\n",
			"bad response time"},
		{"msr", "128166372000000000,,0,Read,1,512,1\n", "bad host name"},
		{"msr", "128166372000000000,hm,0,Read,9223372036854775807,512,1\n",
			"it is too large"},
		{"alibaba", "1,R,0,512,1\n\n# x\n1,R,0,5x,2\n", "text:4: bad size '5x'"},
		{"alibaba", "1,T,0,512,1\n", "neither read nor write: 'T'"},
		{"alibaba", ",R,0,512,1\n", "bad volume ''"},
		{"alibaba", "1,R,0,512,18446744073709551616\n", "bad timestamp"},
		{"tencent", "1,18014398509481984,1,0,7\n", "bad offset"},
		{"tencent", "1,0,8388608,0,7\n", "size above 4 GiB: '8388608'"},
		{"tencent", "1,0,1,2,7\n", "neither read nor write: '2'"},
		{"tencent", "9223372037,0,1,0,7\n", "bad timestamp"},
		{"spc", "0,16,4096,R,1e5\n", "bad timestamp '1e5'"},
		{"spc", "0,16,4096,R\n", "fewer fields than 'five'"},
		{"spc", "0,0x10,4096,R,1\n", "bad LBA '0x10'"},
		{"iolog", "fio version 3 iolog\n1 a read 5\n", "text:2: no offset and length"},
		{"vscsi", "this is nothing of the kind, in no version\n", "no vscsi trace"},
		{"lsvd", "this is no trace", "text"},
		{"floppy", "", "no format 'floppy' to read; there are lsvd, iolog"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct trace_import_options opt = {.format = bad[i].format};

		assert_error(text(bad[i].text), &opt, bad[i].what);
	}
}

TEST(bad_records_of_a_binary_trace_are_named)
{
	uint8_t b[320];
	FILE *f = fopen(SAMPLES "vscsi2.bin", "rb");

	assert_int_equal(fread(b, 1, sizeof(b), f), sizeof(b));
	fclose(f);
	assert_error(file_of("cut", b, 100), NULL, "cut: record 3: it is cut off");
	b[4 * 40 + 3] = 1;
	assert_error(file_of("ver", b, sizeof(b)), NULL, "ver: record 5: another version");
	b[4 * 40 + 3] = 2;
	memset(b + 2 * 40 + 16, 0xff, 8);
	assert_error(file_of("lbn", b, sizeof(b)), NULL, "lbn: record 3: impossible block number");
}

TEST(bad_lines_can_be_left_out_and_counted)
{
	struct trace_import_options opt = {.skip_bad = true, .size_bytes = 8192};
	struct trace_import *in;
	struct trace_record r;
	int n = 0, rc;

	assert_int_equal(trace_import_open(text("1,R,0,512,1\nrubbish\n1,R,512,512,2\n1,X,0,512,3\n"
						"1,W,8192,512,4\n1,W,4096,4096,5"),
				 &opt, &in, NULL),
		0);
	while ((rc = trace_import_next(in, &r, NULL)) > 0)
		n++;
	assert_int_equal(rc, 0);
	assert_int_equal(n, 3);
	assert_int_equal(trace_import_stats(in)->bad, 3);
	assert_non_null(strstr(trace_import_stats(in)->first_bad, "text:2: fewer fields"));
	trace_import_close(in);
	opt.skip_bad = false;
	assert_error(text("1,R,0,512,1\n1,W,8192,512,4\n"), &opt,
		"text:2: impossible request: 'it ends beyond the size of the volume'");
}

TEST(what_is_not_text_is_refused)
{
	struct trace_import_options opt = {.format = "csv"};
	char *s = malloc(200000);

	assert_error(file_of("nul", "1,2,R,0,512\n1,2,R\0,0,512\n", 26), &opt, "nul:2: not text");
	memset(s, '1', 200000);
	assert_error(file_of("long", s, 200000), &opt, "long:1: not text");
	free(s);
}

/* ---- input ---- */

TEST(lines_come_whole_wherever_the_buffer_ends)
{
	uint64_t s = test_seed();
	size_t size = 3 << 20, at = 0;
	char *all = malloc(size), *line;
	struct trace_input *in;
	size_t len;
	int rc;

	for (size_t i = 0; i < size; i++)
		all[i] = (char)('a' + test_rand(&s) % 26);
	for (size_t i = 0; i < size; i += 1 + test_rand(&s) % (test_rand(&s) % 2 ? 60000 : 60))
		all[i] = '\n';
	assert_int_equal(trace_input_memory(all, size, "x", &in, NULL), 0);
	while ((rc = trace_input_line(in, &line, &len, NULL)) == 1) {
		assert_memory_equal(line, all + at, len);
		at += len;
		assert_true(at == size || all[at] == '\n');
		at++;
	}
	assert_int_equal(rc, 0);
	assert_true(at >= size);
	assert_int_equal(trace_input_done(in), size);
	trace_input_close(in);
	free(all);
}

static bool __attribute__((format(printf, 1, 2))) shell(const char *fmt, ...)
{
	char cmd[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd) == 0;
}

TEST(compressed_files_are_read_as_they_are)
{
	static const char *const tools[] = {"gzip", "zstd", "xz", "bzip2"};
	unsigned done = 0;

	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
		if (!shell("%s -c < " SAMPLES "msr.csv > %s 2>/dev/null", tools[i],
			    path_of("packed")))
			continue;
		assert_sample(path_of("packed"), "hm_0", 1, took);
		done++;
	}
	if (!done)
		SKIP("none of gzip, zstd, xz, bzip2");
}

TEST(a_damaged_compressed_file_is_an_error)
{
	const char *path = path_of("cut.gz");
	struct trace_import_options opt = {.volume = "hm_0"};

	if (!shell("gzip -c < " SAMPLES "msr.csv | head -c 100 > %s", path))
		SKIP("no gzip");
	assert_error(path, &opt, "gzip cannot decompress it: it is damaged or cut off");
}

TEST(compressed_bytes_from_a_pipe_are_refused)
{
	static const uint8_t gz[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0};
	char path[40];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], gz, sizeof(gz)), sizeof(gz));
	close(fds[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[0]);
	assert_error(path, NULL, "put gzip -dc in front of it");
	close(fds[0]);
}

/* ---- the sorter ---- */

TEST(the_sorter_sorts_what_is_within_its_window)
{
	enum { N = 300000 };
	uint64_t s = test_seed(), spread = 1 + test_rand(&s) % 30000, last = 0, n = 0;
	struct sorter *x = sorter_new();
	struct trace_record r, out = {0};
	uint32_t tag = 0, last_tag = 0;
	bool more = true;

	for (uint32_t i = 0; more; i++) {
		r = (struct trace_record){.submit_ns = (i + test_rand(&s) % spread) / 4};
		more = i < N || sorter_take(x, &out, &tag);
		if (i < N && !sorter_put(x, &r, i, &out, &tag))
			continue;
		if (!more)
			break;
		assert_true(
			out.submit_ns > last || (out.submit_ns == last && (tag > last_tag || !n)));
		last = out.submit_ns;
		last_tag = tag;
		n++;
	}
	assert_int_equal(n, N);
	assert_int_equal(sorter_late(x), 0);
	sorter_free(x);
}

TEST(what_comes_too_late_is_counted)
{
	struct sorter *x = sorter_new();
	struct trace_record r = {0}, out;
	unsigned n = 0;
	uint32_t tag;

	for (uint32_t i = 0; i < SORTER_WINDOW + 10; i++) {
		r.submit_ns = i + 5;
		n += sorter_put(x, &r, i, &out, &tag);
	}
	r.submit_ns = 0;
	n += sorter_put(x, &r, 0, &out, &tag);
	while (sorter_take(x, &out, &tag))
		n++;
	assert_int_equal(n, SORTER_WINDOW + 11);
	assert_int_equal(sorter_late(x), 1);
	sorter_free(x);
}

/* ---- conversion ---- */

static void convert(const char *in, const char *out, const struct convert_options *opt)
{
	struct convert_result res;
	struct err e = {0};

	if (convert_run(in, out, opt, &res, &e) < 0)
		fail_msg("%s", e.msg);
	convert_result_fini(&res);
}

TEST(volumes_are_split_into_files)
{
	enum { VOLUMES = 70, N = 5000 };
	struct convert_options opt = {.split = true, .out.format = "lsvd", .comment = "split"};
	uint64_t s = test_seed(), n = 0;
	const char *dir = path_of("split"), *in = path_of("many");
	FILE *f = fopen(in, "w");
	struct trace t;

	for (unsigned i = 0; i < N; i++)
		fprintf(f, "%u,%c,%u,4096,%u\n", (unsigned)(test_rand(&s) % VOLUMES),
			test_rand(&s) % 2 ? 'R' : 'W', 4096 * i, 1000 + i);
	fprintf(f, "../odd name,R,0,512,9000\n.odd,R,0,512,9001\n");
	fclose(f);
	convert(in, dir, &opt);
	for (unsigned v = 0; v < VOLUMES; v++) {
		char path[300];

		snprintf(path, sizeof(path), "%s/%u.trace", dir, v);
		load(path, NULL, &t);
		assert_string_equal(t.header.comment, "split");
		for (size_t i = 0; i < t.n; i++)
			assert_int_equal(
				t.records[i].submit_ns / 1000, t.records[i].offset_bytes / 4096);
		n += t.n;
		trace_free(&t);
	}
	assert_int_equal(n, N);
	assert_true(shell("test -f '%s/_._odd_name~70.trace'", dir));
	assert_true(shell("test -f '%s/_odd~71.trace' && [ $(ls '%s' | wc -l) = 72 ]", dir, dir));
}

TEST(a_failed_conversion_leaves_no_file)
{
	struct convert_options opt = {.out.format = "csv"};
	const char *out = path_of("gone");
	struct convert_result res;
	struct err e = {0};

	assert_int_equal(
		convert_run(text("1,R,0,512,1\n1,R,0,x,2\n"), out, &opt, &res, &e), -EINVAL);
	assert_int_equal(access(out, F_OK), -1);
	convert_result_fini(&res);
	assert_int_equal(convert_run(SAMPLES "msr.csv", out, &opt, &res, &e), -EINVAL);
	assert_int_equal(access(out, F_OK), -1);
	convert_result_fini(&res);
}

/* ---- oracleGeneral ---- */

struct access {
	uint32_t time;
	uint64_t object;
	uint32_t size;
	int64_t next;
};

static size_t read_accesses(const char *path, struct access *a, size_t max)
{
	uint8_t b[24];
	size_t n = 0;
	FILE *f = fopen(path, "rb");

	for (; n < max && fread(b, 1, 24, f) == 24; n++) {
		memcpy(&a[n].time, b, 4);
		memcpy(&a[n].object, b + 4, 8);
		memcpy(&a[n].size, b + 12, 4);
		memcpy(&a[n].next, b + 16, 8);
	}
	assert_true(feof(f) || n == max);
	fclose(f);
	return n;
}

TEST(oracle_general_by_hand)
{
	struct convert_options opt = {.out.format = "oracleGeneral", .out.block_bytes = 4096};
	const char *out = path_of("oracle");
	struct access a[20];

	convert(text("0,,R,8192,8192\n5,,F,0,0\n1000000000,,W,4096,5000\n2500000000,,T,0,1000000\n"
		     "3500000000,,R,8191,1\n"),
		out, &opt);
	/* blocks 2 3, 1 2, 1 */
	assert_int_equal(read_accesses(out, a, 20), 5);
	assert_int_equal(a[0].object, 2);
	assert_int_equal(a[0].next, 4);
	assert_int_equal(a[1].next, -1);
	assert_int_equal(a[2].object, 1);
	assert_int_equal(a[2].next, 5);
	assert_int_equal(a[2].time, 1);
	assert_int_equal(a[3].next, -1);
	assert_int_equal(a[4].time, 3);
	assert_int_equal(a[4].size, 4096);
	opt.out.block_bytes = 0; /* requests */
	convert(path_of("text"), out, &opt);
	assert_int_equal(read_accesses(out, a, 20), 3);
	assert_int_equal(a[1].object, 8);
	assert_int_equal(a[1].size, 5000);
}

/* However small its table may be, the next accesses are those of a plain search. */
TEST(oracle_next_accesses_match_their_definition)
{
	enum { N = 20000, BLOCKS = 6000 };
	static struct access a[N + 1];
	static int64_t last[BLOCKS];
	uint64_t s = test_seed();
	const char *in = path_of("accesses"), *out = path_of("oracle");
	FILE *f = fopen(in, "w");

	for (unsigned i = 0; i < N; i++)
		fprintf(f, "%u,,R,%u,512\n", i, (unsigned)(test_rand(&s) % BLOCKS) * 4096);
	fclose(f);
	for (uint64_t memory = 1; memory < 1 << 20; memory *= 64) {
		struct convert_options opt = {.out.format = "oracleGeneral",
			.out.block_bytes = 4096,
			.out.memory_bytes = memory};

		convert(in, out, &opt);
		assert_int_equal(read_accesses(out, a, N + 1), N);
		memset(last, 0xff, sizeof(last));
		for (size_t i = N; i-- > 0;) {
			assert_int_equal(a[i].next, last[a[i].object]);
			last[a[i].object] = (int64_t)i + 1;
		}
	}
}
