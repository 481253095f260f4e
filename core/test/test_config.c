/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lsvd.h"
#include "sys/config.h"
#include "test/test.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static char path_buf[4][256];
static char why[LSVD_ERR_MAX];

static const char *file(int i, const char *text)
{
	FILE *f;

	snprintf(path_buf[i], sizeof(path_buf[i]), "%s/c%d.json", test_dir(), i);
	f = fopen(path_buf[i], "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path_buf[i];
}

static void check(struct lsvd_config *c, const char *image, const char *key, const char *text,
	const char *origin)
{
	const char *from;

	assert_string_equal(lsvd_config_get(c, image, key, &from), text);
	assert_string_equal(from, origin);
}

static int set(const char *key, const char *value)
{
	struct lsvd_config *c = lsvd_config_defaults();
	int rc;

	why[0] = 0;
	rc = lsvd_config_set(c, key, value, why);
	lsvd_config_free(c);
	return rc;
}

static int load(const char *text)
{
	struct lsvd_config *c = lsvd_config_defaults();
	int rc;

	why[0] = 0;
	rc = lsvd_config_load(c, file(0, text), why);
	if (rc < 0) /* a refused file changes nothing */
		check(c, "x", "object.size", "8M", "default");
	lsvd_config_free(c);
	return rc;
}

TEST(config_defaults_are_the_documented_ones)
{
	struct lsvd_config *c = lsvd_config_defaults();
	struct config s;

	assert_int_equal(config_resolve(c, NULL, &s, NULL), 0);
	assert_int_equal(s.pool_size_bytes, 1 << 30);
	assert_int_equal(s.pool_segment_bytes, 32 << 20);
	assert_int_equal(s.journal_percent, 60);
	assert_int_equal(s.journal_record_bytes, 1 << 20);
	assert_int_equal(s.journal_depth, 2);
	assert_int_equal(s.journal_ram_bytes, 256 << 20);
	assert_int_equal(s.journal_burst_percent, 12);
	assert_int_equal(s.durability, DURABILITY_JOURNAL);
	assert_int_equal(s.object_bytes, 8 << 20);
	assert_int_equal(s.destage_puts, 0);
	assert_int_equal(s.destage_piece_bytes, 256 << 10);
	assert_int_equal(s.destage_age_ms, 5000);
	assert_int_equal(s.checkpoint_bytes, 512 << 20);
	assert_true(s.gc_enabled);
	assert_string_equal(s.gc_policy, "greedy");
	assert_int_equal(s.gc_start_percent, 70);
	assert_int_equal(s.gc_stop_percent, 70);
	assert_int_equal(s.gc_plug_bytes, 8 << 10);
	assert_true(s.cache_enabled);
	assert_int_equal(s.cache_chunk_bytes, 64 << 10);
	assert_int_equal(s.readahead_bytes, 1 << 20);
	assert_true(s.prefetch_enabled);
	assert_int_equal(s.prefetch_ahead_bytes, 64 << 20);
	assert_int_equal(s.prefetch_depth, 4);
	assert_int_equal(s.store_retry_ms, 100);
	assert_string_equal(s.pool_mirror, "");
	assert_string_equal(s.trace_path, "");
	assert_true(!strncmp(s.pool_path, "file:/", 6));
	lsvd_config_free(c);
}

TEST(config_every_key_has_help_and_a_value_it_accepts)
{
	struct lsvd_config *c = lsvd_config_defaults();
	const char *help, *key;
	size_t n = 0;

	while ((key = lsvd_config_key(n++, &help))) {
		char value[256];

		assert_true(strlen(help) > 10);
		snprintf(value, sizeof(value), "%s", lsvd_config_get(c, NULL, key, NULL));
		assert_int_equal(lsvd_config_set(c, key, value, why), 0);
		check(c, NULL, key, value, "option");
	}
	assert_true(n > 20);
	lsvd_config_free(c);
}

TEST(config_layers_win_in_their_order)
{
	struct lsvd_config *c = lsvd_config_defaults();
	const char *low =
		file(0, "{\"object\": {\"size\": \"1M\"}, \"cache\": {\"chunk\": 4096},"
			" \"gc\": {\"enabled\": false},"
			" \"images\": {\"file:/a/*\": {\"object\": {\"size\": \"2M\"}}}}");
	const char *high = file(1, "{\"object.size\": \"4M\","
				   " \"images\": {\"*\": {\"gc\": {\"plug\": 0}}}}");
	char section[300];

	assert_int_equal(lsvd_config_load(c, low, why), 0);
	assert_int_equal(lsvd_config_load(c, high, why), 0);
	snprintf(section, sizeof(section), "image section in %s", low);
	check(c, NULL, "object.size", "4M", high);
	check(c, "file:/b/x", "object.size", "4M", high);
	check(c, "file:/a/x", "object.size", "2M", section);
	check(c, "file:/a/x", "cache.chunk", "4K", low);
	check(c, NULL, "gc.enabled", "false", low);
	check(c, NULL, "gc.plug", "8K", "default");
	snprintf(section, sizeof(section), "image section in %s", high);
	check(c, "file:/b/x", "gc.plug", "0", section);
	assert_int_equal(lsvd_config_set(c, "object.size", "64KiB", why), 0);
	assert_int_equal(lsvd_config_set(c, "object.size", "131072", why), 0);
	check(c, "file:/a/x", "object.size", "128K", "option");
	lsvd_config_free(c);
}

TEST(config_reads_system_and_user_files)
{
	struct lsvd_config *c;
	char dir[200], user[256];
	FILE *f;

	snprintf(dir, sizeof(dir), "%s/xdg", test_dir());
	snprintf(user, sizeof(user), "%s/lsvd/lsvd.json", dir);
	setenv("LSVD_SYSTEM_CONFIG", file(0, "{\"gc\":{\"start\":10,\"stop\":20}}"), 1);
	setenv("XDG_CONFIG_HOME", dir, 1);
	c = lsvd_config_new(why);
	assert_non_null(c);
	check(c, NULL, "gc.stop", "20", path_buf[0]);
	lsvd_config_free(c);

	mkdir(dir, 0700);
	snprintf(user, sizeof(user), "%s/lsvd", dir);
	mkdir(user, 0700);
	snprintf(user, sizeof(user), "%s/lsvd/lsvd.json", dir);
	f = fopen(user, "w");
	assert_non_null(f);
	fputs("{\"gc\":{\"stop\":30}}", f);
	fclose(f);
	c = lsvd_config_new(why);
	assert_non_null(c);
	check(c, NULL, "gc.stop", "30", user);
	check(c, NULL, "gc.start", "10", path_buf[0]);
	lsvd_config_free(c);

	setenv("LSVD_SYSTEM_CONFIG", file(0, "{\n\"gc\": {\n,}}"), 1);
	assert_null(lsvd_config_new(why));
	assert_non_null(strstr(why, "c0.json"));
	assert_non_null(strstr(why, "line 3"));
}

TEST(config_an_unknown_key_is_refused_with_the_nearest)
{
	assert_int_equal(set("pool.sice", "4G"), -EINVAL);
	assert_string_equal(why, "unknown key 'pool.sice'; did you mean 'pool.size'?");
	assert_int_equal(set("readahead", "4G"), -EINVAL);
	assert_non_null(strstr(why, "'readahead.max'"));
	assert_int_equal(set("", ""), -EINVAL);
	assert_int_equal(load("{\"journal\": {\"dept\": 3}}"), -EINVAL);
	assert_non_null(strstr(why, "c0.json"));
	assert_non_null(strstr(why, "'journal.dept'; did you mean 'journal.depth'?"));
	assert_int_equal(load("{\"images\": {\"vm*\": {\"objekt\": {\"size\": 3}}}}"), -EINVAL);
	assert_non_null(strstr(why, "images 'vm*'"));
	assert_non_null(strstr(why, "'object.size'"));
	assert_int_equal(load("{\"images\": {\"vm*\": {\"images\": {}}}}"), 0);
	assert_null(lsvd_config_key(1000, NULL));
}

TEST(config_bad_values_name_key_value_and_range)
{
	assert_int_equal(set("pool.size", "7M"), -EINVAL);
	assert_string_equal(why, "pool.size = '7M': want a size from 8M to 64T");
	assert_int_equal(set("pool.segment", "3M"), -EINVAL);
	assert_string_equal(
		why, "pool.segment = '3M': want a size from 256K to 1G, a power of two");
	assert_int_equal(set("object.size", "65537"), -EINVAL);
	assert_non_null(strstr(why, "a multiple of 64K"));
	assert_int_equal(set("journal.depth", "17"), -EINVAL);
	assert_string_equal(why, "journal.depth = '17': want a number from 1 to 16");
	assert_int_equal(set("durability", "disk"), -EINVAL);
	assert_string_equal(why, "durability = 'disk': want one of journal|store");
	assert_int_equal(set("gc.enabled", "maybe"), -EINVAL);
	assert_int_equal(set("gc.enabled", "off"), 0);
	assert_int_equal(set("pool.path", ""), -EINVAL);
	assert_int_equal(set("pool.size", "-1"), -EINVAL);
	assert_int_equal(set("pool.size", "99999999E"), -EINVAL);
	assert_int_equal(set("pool.size", "99999999999999999999999"), -EINVAL);
	assert_int_equal(set("pool.size", "1G1"), -EINVAL);
	assert_int_equal(set("pool.size", ""), -EINVAL);
	assert_int_equal(load("{\"pool\": {\"size\": 1.5}}"), -EINVAL);
	assert_non_null(strstr(why, "pool.size: wrong type"));
	assert_int_equal(load("{\"pool\": {\"path\": 5}}"), -EINVAL);
	assert_int_equal(load("{\"pool\": 5}"), -EINVAL);
	assert_int_equal(load("{\"pool\": {\"size\": -5}}"), -EINVAL);
	assert_int_equal(
		load("{\"object\": {\"size\": \"1M\"}, \"gc\": {\"stop\": 100}}"), -EINVAL);
}

TEST(config_malformed_files_are_refused)
{
	struct lsvd_config *c = lsvd_config_defaults();

	assert_int_equal(load("[]"), -EINVAL);
	assert_int_equal(load(""), -EINVAL);
	assert_int_equal(load("{\"gc\":{\"stop\":80,\n\"stop\":81}}"), -EINVAL);
	assert_non_null(strstr(why, "line 2"));
	assert_int_equal(load("{\"images\": []}"), -EINVAL);
	assert_int_equal(load("{\"images\": {\"x\": 1}}"), -EINVAL);
	assert_int_equal(load("{\"images\": {\"x\": {\"pool\": {\"size\": \"1G\"}}}}"), -EINVAL);
	assert_non_null(strstr(why, "one for all images"));
	assert_int_equal(load("{\"a\":{\"a\":{\"a\":{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
			      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":1}}}}"),
		-EINVAL);
	assert_int_equal(lsvd_config_load(c, "/nonexistent/x.json", why), -ENOENT);
	assert_non_null(strstr(why, "/nonexistent/x.json"));
	assert_int_equal(lsvd_config_load(c, test_dir(), why), -EINVAL);
	lsvd_config_free(c);
}

static int resolve2(const char *k1, const char *v1, const char *k2, const char *v2, struct err *e)
{
	struct lsvd_config *c = lsvd_config_defaults();
	struct config s;
	int rc;

	e->msg[0] = 0;
	assert_int_equal(lsvd_config_set(c, k1, v1, why), 0);
	assert_int_equal(lsvd_config_set(c, k2, v2, why), 0);
	rc = config_resolve(c, NULL, &s, e);
	lsvd_config_free(c);
	return rc;
}

TEST(config_contradictions_are_refused)
{
	struct err e;

	assert_int_equal(resolve2("gc.start", "80", "gc.stop", "79", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "gc.stop = 79"));
	assert_int_equal(resolve2("gc.start", "80", "gc.stop", "80", &e), 0);
	assert_int_equal(resolve2("journal.ram", "16M", "object.size", "16M", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "journal.ram"));
	assert_int_equal(resolve2("journal.record", "1M", "pool.segment", "512K", &e), 0);
	assert_int_equal(resolve2("pool.path", "file:/x", "pool.mirror", "file:/x", &e), -EINVAL);
	assert_int_equal(resolve2("pool.path", "mem:1G", "pool.mirror", "mem:1G", &e), 0);
}

TEST(config_a_copy_stands_alone)
{
	struct lsvd_config *c = lsvd_config_defaults(), *d;
	struct config s;

	assert_int_equal(lsvd_config_load(c,
				 file(2, "{\"images\":{\"vm?\":{\"durability\":\"store\"}}}"), why),
		0);
	assert_int_equal(lsvd_config_set(c, "trace.path", "/tmp/%n.trace", why), 0);
	d = config_copy(c);
	lsvd_config_free(c);
	assert_int_equal(config_resolve(d, "vm1", &s, NULL), 0);
	assert_int_equal(s.durability, DURABILITY_STORE);
	assert_string_equal(s.trace_path, "/tmp/%n.trace");
	assert_int_equal(config_resolve(d, "vm12", &s, NULL), 0);
	assert_int_equal(s.durability, DURABILITY_JOURNAL);
	lsvd_config_free(d);
}

/* Every key has its paragraph in the man page, with its default. */
TEST(config_man_page_lists_every_key)
{
	struct lsvd_config *c = lsvd_config_defaults();
	FILE *f = fopen("docs/lsvd.json.5", "r");
	static char page[64 << 10];
	const char *key;

	if (!f) {
		lsvd_config_free(c);
		SKIP("docs/lsvd.json.5 is not here: run from the source tree");
	}
	page[fread(page, 1, sizeof(page) - 1, f)] = 0;
	fclose(f);
	for (size_t i = 0; (key = lsvd_config_key(i, NULL)); i++) {
		const char *def = lsvd_config_get(c, NULL, key, NULL), *line, *end;
		char want[400];

		snprintf(want, sizeof(want), ".BR %s \"", key);
		line = strstr(page, want);
		if (!line)
			fail_msg("docs/lsvd.json.5 lacks %s", key);
		end = strchr(line, '\n');
		snprintf(want, sizeof(want), "default %s)", *def ? def : "empty");
		if (strcmp(key, "pool.path") &&
			!memmem(line, (size_t)(end - line), want, strlen(want)))
			fail_msg("docs/lsvd.json.5: %s: no '%s'", key, want);
	}
	lsvd_config_free(c);
}
