/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_reorg_cmd.c - `lsvd reorg` as a user calls it: exit codes and JSON. */
#include "cli/cli.h"
#include "reorg/synth.h"
#include "sys/loop_uring.h"
#include "test/store_util.h"
#include "test/test.h"
#include "volume/bulk.h"

#include <fcntl.h>
#include <unistd.h>

enum { SECTORS = 40000 };

static char url[300], base[320], new[320], odd[320], trace[320], extents[320];
static json_t *printed; /* what the last command printed */

static json_t *read_json(const char *path)
{
	json_error_t e;

	return json_load_file(path, 0, &e);
}

static int run_words(char **argv)
{
	struct cli_command *c = cli_commands;
	char out[320];
	int argc = 0, code, keep = dup(1), fd;

	while (argv[argc])
		argc++;
	while (c && strcmp(c->name, "reorg"))
		c = c->next;
	assert_non_null(c);
	snprintf(out, sizeof(out), "%s/out", test_dir());
	fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	fflush(stdout);
	dup2(fd, 1);
	code = c->run(argc, argv);
	fflush(stdout);
	dup2(keep, 1);
	close(fd), close(keep);
	json_decref(printed);
	printed = read_json(out);
	return code;
}
#define RUN(...) run_words((char *[]){"lsvd reorg", "--quiet", "--json", __VA_ARGS__, NULL})

static void make_image(const char *name, uint64_t other)
{
	struct bulk_options o = {
		.uuid = {(uint8_t)name[0]}, .created_ns = 1, .object_bytes = 1 << 20};
	uint8_t sector[512];
	struct loop *l;
	struct store *s;
	struct bulk *b;

	assert_int_equal(loop_uring_new(64, &l, &util_err), 0);
	s = util_open(l, url, STORE_CREATE);
	assert_int_equal(bulk_begin(s, name, SECTORS * 512, &o, &b, &util_err), 0);
	for (uint64_t lba = 8; lba < 30000; lba++) {
		synth_fill(sector, lba + (other && lba == other), 1);
		assert_int_equal(bulk_write(b, lba, sector, 512, &util_err), 0);
	}
	assert_int_equal(bulk_finish(b, NULL, 0, &util_err), 0);
	store_close(s);
	loop_free(l);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_true(f && fputs(text, f) >= 0 && !fclose(f));
}

static void set_up(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	snprintf(url, sizeof(url), "file:%s/v", test_dir());
	snprintf(base, sizeof(base), "%s/base", url);
	snprintf(new, sizeof(new), "%s/new", url);
	snprintf(odd, sizeof(odd), "%s/odd", url);
	snprintf(trace, sizeof(trace), "%s/boot.csv", test_dir());
	snprintf(extents, sizeof(extents), "%s/boot.extents", test_dir());
	make_image("base", 0);
	make_image("odd", 12345);
	write_file(trace, "submit_ns,complete_ns,op,offset_bytes,len_bytes\n"
			  "0,1000,R,8192000,65536\n2000000,2100000,R,819200,65536\n"
			  "4000000,4100000,W,4096,4096\n6000000,6100000,R,12288000,16384\n");
	write_file(extents, "20480000\n4096 15355904\n");
}

static int64_t integer(const char *key)
{
	return json_integer_value(json_object_get(printed, key));
}

TEST(build_and_verify)
{
	set_up();
	assert_int_equal(RUN(base, new, "--trace", trace, trace), CLI_OK);
	assert_true(json_is_true(json_object_get(printed, "equal")));
	assert_int_equal(integer("bytes"), SECTORS * 512);
	assert_int_equal(integer("data_bytes"), (30000 - 8) * 512);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(printed, "plan"), "every_boot_bytes")),
		2 * 65536 + 16384);
	assert_int_equal(RUN("--verify", base, new), CLI_OK);
	assert_true(json_is_true(json_object_get(printed, "equal")));
	assert_int_equal(RUN(base, new, "-t", trace), CLI_FAILED); /* exists */
	assert_int_equal(RUN("--verify", base, odd), CLI_FAILED);
	assert_true(json_is_false(json_object_get(printed, "equal")));
	assert_int_equal(integer("first_difference"), 12345 * 512);
	json_decref(printed);
	printed = NULL;
}

TEST(what_is_not_there_is_said)
{
	char none[400];

	set_up();
	snprintf(none, sizeof(none), "%s/none", url);
	assert_int_equal(RUN(none, new, "--trace", trace), CLI_FAILED);
	assert_int_equal(RUN(base, none, "--trace", "/nonexistent"), CLI_FAILED);
	assert_int_equal(RUN("--verify", base, none), CLI_FAILED);
	assert_int_equal(RUN("--plan", "--extents", "/nonexistent", "-t", trace), CLI_FAILED);
	json_decref(printed);
	printed = NULL;
}

TEST(a_layout_by_traces_of_an_older_build)
{
	char lba[340], of_old[340];
	const json_t *led;

	set_up();
	snprintf(lba, sizeof(lba), "%s/lba", url);
	snprintf(of_old, sizeof(of_old), "%s/of-old", url);
	assert_int_equal(RUN(base, lba, "--order", "lba", "-t", trace), CLI_OK);
	assert_true(json_is_true(json_object_get(printed, "equal")));
	assert_int_equal(RUN(odd, of_old, "--recorded-on", base, "-t", trace), CLI_OK);
	assert_true(json_is_true(json_object_get(printed, "equal")));
	led = json_object_get(printed, "translated");
	assert_int_equal(json_integer_value(json_object_get(led, "blocks")), 36);
	assert_int_equal(json_integer_value(json_object_get(led, "same")), 36);
}

TEST(predictions_name_every_variant)
{
	static const char *const variants[] = {
		"original", "readahead", "reorg", "reorg_prefetch", "warm"};
	json_t *runs, *from_extents;

	set_up();
	assert_int_equal(RUN("--plan", "--extents", extents, "-t", trace, "--eval", trace,
				 "--latency", "0.5,20ms"),
		CLI_OK);
	from_extents = json_incref(json_object_get(printed, "runs"));
	assert_int_equal(json_array_size(from_extents), 2 * 2 * 5);
	for (size_t i = 0; i < 20; i++) {
		json_t *r = json_array_get(from_extents, i);

		assert_string_equal(
			json_string_value(json_object_get(r, "variant")), variants[i % 5]);
		assert_true(json_real_value(json_object_get(r, "latency_ms")) ==
			    (i / 5 % 2 ? 20.0 : 0.5));
		assert_int_equal(json_is_true(json_object_get(r, "in_plan")), i < 10);
		assert_int_equal(json_integer_value(json_object_get(r, "reads")), 3);
		assert_true(json_integer_value(json_object_get(r, "gets")) > 0);
	}
	assert_int_equal(
		RUN("--plan", base, "-t", trace, "--eval", trace, "--latency", "0.5,20ms"), CLI_OK);
	runs = json_object_get(printed, "runs");
	assert_true(json_equal(runs, from_extents)); /* the image maps what the file says */
	json_decref(from_extents);
	json_decref(printed);
	printed = NULL;
}
