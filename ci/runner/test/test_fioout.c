/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_fioout.c - reading fio's json+ output. */
#include "test/test.h"

#include "ci/runner/fioout.h"

#include <errno.h>

#define SIDE(iops_, bins_)                                          \
	"{\"io_bytes\":409600,\"bw_bytes\":2097152,\"iops\":" iops_ \
	",\"runtime\":1500,\"total_ios\":100,\"lat_ns\":{\"N\":100,\"bins\":{" bins_ "}}}"
#define NOTHING                                                                      \
	"{\"io_bytes\":0,\"bw_bytes\":0,\"iops\":0.0,\"runtime\":0,\"total_ios\":0," \
	"\"lat_ns\":{\"N\":0}}"
#define JOB(name_, error_, read_, write_) \
	"{\"jobname\":\"" name_ "\",\"error\":" error_ ",\"read\":" read_ ",\"write\":" write_ "}"
#define OUTPUT(jobs_) "{\"fio version\":\"fio-3.33\",\"jobs\":[" jobs_ "]}\n"

static struct fio_figures f;
static struct err e;

static int parse(const char *text, const char *job)
{
	memset(&f, 0xff, sizeof(f));
	e.msg[0] = 0;
	return fio_parse(text, job, &f, &e);
}

/* The bins are not in order of latency in a JSON object. */
TEST(a_job_that_writes)
{
	const char *text = OUTPUT(JOB("c0", "0", NOTHING,
		SIDE("1234.5", "\"9000\":1,\"1000\":50,\"2000\":40,\"3000\":9")));

	assert_int_equal(parse(text, "c0"), 0);
	assert_float_equal(f.iops, 1234.5, 1e-6);
	assert_float_equal(f.bw_mib_s, 2, 1e-6);
	assert_float_equal(f.p50_us, 1, 1e-6);
	assert_float_equal(f.p99_us, 3, 1e-6);
	assert_float_equal(f.p999_us, 9, 1e-6);
	assert_float_equal(f.runtime_s, 1.5, 1e-6);
	assert_int_equal(f.ios, 100);
	assert_int_equal(f.bytes, 409600);
}

/* Reads and writes of a mixed job have one histogram: p99 lies among the slower of them. */
TEST(a_mixed_job_is_taken_together)
{
	const char *text = OUTPUT(
		JOB("c0", "0", SIDE("70", "\"1000\":100"), SIDE("30", "\"1000\":97,\"5000\":3")));

	assert_int_equal(parse(text, "c0"), 0);
	assert_float_equal(f.iops, 100, 1e-6);
	assert_float_equal(f.bw_mib_s, 4, 1e-6);
	assert_float_equal(f.p50_us, 1, 1e-6);
	assert_float_equal(f.p99_us, 5, 1e-6);
	assert_int_equal(f.ios, 200);
}

TEST(the_job_is_chosen_by_name)
{
	const char *text = OUTPUT(JOB("c0", "0", NOTHING, SIDE("1", "\"1\":1")) "," JOB(
		"c1", "0", SIDE("2", "\"2000\":1"), NOTHING));

	assert_int_equal(parse(text, "c1"), 0);
	assert_float_equal(f.iops, 2, 1e-6);
	assert_float_equal(f.p999_us, 2, 1e-6);
	assert_int_equal(parse(text, "c2"), -ENOENT);
	assert_non_null(strstr(e.msg, "c2"));
}

TEST(notes_before_the_json_are_skipped)
{
	const char *text = "note: both iodepth >= 1 and synchronous\n" OUTPUT(
		JOB("c0", "0", NOTHING, SIDE("7", "\"1\":1")));

	assert_int_equal(parse(text, "c0"), 0);
	assert_float_equal(f.iops, 7, 1e-6);
}

TEST(what_went_wrong_is_an_error)
{
	assert_int_equal(parse(OUTPUT(JOB("c0", "28", NOTHING, SIDE("7", "\"1\":1"))), "c0"), -EIO);
	assert_non_null(strstr(e.msg, "No space left"));
	assert_int_equal(parse(OUTPUT(JOB("c0", "0", NOTHING, NOTHING)), "c0"), -ENODATA);
	assert_int_equal(
		parse(OUTPUT(JOB("c0", "0", NOTHING, SIDE("7", "\"x\":1"))), "c0"), -EUCLEAN);
	assert_int_equal(
		parse(OUTPUT(JOB("c0", "0", NOTHING, SIDE("7", "\"1\":-1"))), "c0"), -EUCLEAN);
	assert_int_equal(parse(OUTPUT("{\"jobname\":\"c0\"}"), "c0"), -EUCLEAN);
}

TEST(what_is_no_output_of_fio_is_refused)
{
	assert_int_equal(parse("", "c0"), -EUCLEAN);
	assert_int_equal(parse("fio: command not found\n", "c0"), -EUCLEAN);
	assert_int_equal(parse("{\"jobs\":[", "c0"), -EUCLEAN);
	assert_int_equal(parse("{\"jobs\":7}", "c0"), -EUCLEAN);
	assert_int_equal(parse("{}", "c0"), -EUCLEAN);
}
