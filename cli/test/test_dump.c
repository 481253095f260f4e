/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `lsvd dump`: every structure of an image and a pool is recognised and printed, as JSON that
 * parses and as text; damaged ones say so and still show their fields; no bytes make it crash.
 */
#include "cli/dump.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "test/fsck_env.h"
#include "volume/bulk.h"

#include <errno.h>

enum { POOL_BYTES = 16 << 20, SEGMENT = 512 << 10, SEGMENTS = POOL_BYTES / SEGMENT - 1 };

static int64_t read_bytes(struct dump_source *s, uint64_t off, void *buf, uint64_t len)
{
	if (off >= s->size_bytes)
		return 0;
	if (len > s->size_bytes - off)
		len = s->size_bytes - off;
	memcpy(buf, (uint8_t *)s->arg + off, len);
	return (int64_t)len;
}

static struct dump_source source(const char *name, void *p, uint64_t len)
{
	return (struct dump_source){.name = name, .size_bytes = len, .read = read_bytes, .arg = p};
}

/* What is printed, to be freed; *d counts. */
static char *print(struct dump *d, struct dump_source *s, const char *as)
{
	struct err e = {.msg = ""};
	char *text = NULL;
	size_t len;

	d->out = open_memstream(&text, &len);
	d->problems = d->structures = 0;
	if (dump_any(d, s, as, &e) < 0)
		fprintf(d->out, "refused: %s\n", e.msg);
	fclose(d->out);
	return text;
}

/* Every line is a JSON object with a structure's name; the first line's is to be freed. */
static json_t *parse_lines(char *text, uint64_t lines)
{
	json_t *first = NULL;
	char *save = NULL;
	uint64_t n = 0;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save), n++) {
		json_t *j = json_loads(l, 0, NULL);

		if (!j)
			fail_msg("not JSON: %s", l);
		assert_true(json_is_string(json_object_get(j, "structure")));
		if (first)
			json_decref(j);
		else
			first = j;
	}
	assert_int_equal(n, lines);
	return first;
}

static json_t *as_json(struct dump_source *s, uint64_t *structures, uint64_t *problems)
{
	struct dump d = {.json = true, .all = true};
	char *text = print(&d, s, NULL);
	json_t *j = parse_lines(text, d.structures);

	free(text);
	if (structures)
		*structures = d.structures;
	*problems = d.problems;
	return j;
}

static json_int_t integer(const json_t *j, const char *key)
{
	assert_true(json_is_integer(json_object_get(j, key)));
	return json_integer_value(json_object_get(j, key));
}

/* An image with a profile, so that there is one of each kind. */
static void make(struct fx *v)
{
	struct profile_range p[] = {{.lba = 512, .len = 8, .first_us = 1}, {.lba = 640, .len = 8}};
	struct bulk_options o = {.object_bytes = 128 << 10};
	struct bulk *b;
	void *data = util_bytes(1, 512 << 10);

	fx_init(v);
	assert_int_equal(bulk_begin(v->store[0], "v", 4 * MIB, &o, &b, &v->e), 0);
	assert_int_equal(bulk_write(b, 512, data, 512 << 10, &v->e), 0);
	assert_int_equal(bulk_finish(b, p, 2, &v->e), 0);
	free(data);
}

static const char *const parts[] = {"v/super", "v/ckpt.0000000000000000.0000000000000001",
	"v/0000000000000000.0000000000000002", "v/profile"};
static const char *const kinds[] = {"superblock", "checkpoint", "object", "profile"};

TEST(dump_prints_each_part_of_an_image)
{
	struct fx v;

	make(&v);
	for (unsigned i = 0; i < 4; i++) {
		size_t len;
		uint8_t *p = fx_load(&v, parts[i], &len);
		struct dump_source s = source(parts[i], p, len);
		struct dump d = {.all = true};
		uint64_t n, problems;
		json_t *j = as_json(&s, &n, &problems);
		char *text = print(&d, &s, NULL);

		assert_int_equal(problems, 0);
		assert_string_equal(json_string_value(json_object_get(j, "structure")), kinds[i]);
		assert_int_equal(integer(j, "bytes"), len);
		assert_memory_equal(text, kinds[i], strlen(kinds[i]));
		assert_null(strstr(text, "!!"));
		assert_int_equal(d.structures, n);
		json_decref(j);
		free(text);
		free(p);
	}
	fx_fini(&v);
}

TEST(dump_shows_the_fields)
{
	uint64_t n, problems;
	struct dump_source s;
	struct fx v;
	size_t len;
	uint8_t *p;
	json_t *j;

	make(&v);
	p = fx_load(&v, parts[2], &len);
	s = source("x", p, len);
	j = as_json(&s, NULL, &problems);
	assert_int_equal(integer(j, "seq"), 2);
	assert_int_equal(integer(j, "data_bytes"), 128 << 10);
	assert_int_equal(
		integer(json_array_get(json_object_get(j, "extent_list"), 0), "lba"), 512 + 256);
	assert_int_equal(json_array_size(json_object_get(j, "chunk_list")), (128 << 10) / OBJECT_CRC_BYTES);
	json_decref(j);
	free(p);
	p = fx_load(&v, parts[1], &len);
	s = source("x", p, len);
	j = as_json(&s, &n, &problems);
	assert_int_equal(integer(j, "objects"), 4);
	assert_int_equal(json_array_size(json_object_get(j, "object_list")), 4);
	assert_int_equal(n, 1 + integer(j, "dirs"));
	json_decref(j);
	free(p);
	p = fx_load(&v, parts[3], &len);
	s = source("x", p, len);
	j = as_json(&s, &n, &problems);
	assert_int_equal(integer(json_array_get(json_object_get(j, "range_list"), 1), "lba"), 640);
	json_decref(j);
	free(p);
	fx_fini(&v);
}

/* A flipped bit behind the magic and version is told, and the rest is shown all the same. */
TEST(dump_tells_damage_and_goes_on)
{
	static const char *const still[] = {"size_sectors", "object_seq", "seq", "sectors"};
	uint64_t seed = test_seed();
	struct fx v;

	make(&v);
	for (unsigned i = 0; i < 4; i++) {
		size_t len;
		uint8_t *p = fx_load(&v, parts[i], &len);
		struct dump_source s = source(parts[i], p, len);

		for (int k = 0; k < 100; k++) {
			size_t at = 16 + test_rand(&seed) % (len - 16);
			uint64_t problems;
			json_t *j;

			p[at] ^= (uint8_t)(1u << test_rand(&seed) % 8);
			j = as_json(&s, NULL, &problems);
			if (!problems)
				fail_msg("%s: a flipped bit at %zu went unnoticed", parts[i], at);
			assert_non_null(json_object_get(j, still[i]));
			json_decref(j);
			free(p);
			p = fx_load(&v, parts[i], &len);
			s.arg = p;
		}
		free(p);
	}
	fx_fini(&v);
}

TEST(dump_survives_any_bytes)
{
	uint64_t seed = test_seed();
	struct fx v;

	make(&v);
	for (unsigned i = 0; i < 4; i++) {
		for (int k = 0; k < 150; k++) {
			size_t len;
			uint8_t *p = fx_load(&v, parts[i], &len);
			struct dump_source s;
			struct dump d = {.all = true, .json = k % 2};
			char *text;

			for (uint64_t f = test_rand(&seed) % 20; f > 0; f--)
				p[8 + test_rand(&seed) % 120] = (uint8_t)test_rand(&seed);
			if (test_rand(&seed) % 3 == 0)
				len = test_rand(&seed) % len;
			s = source("x", p, len);
			text = print(&d, &s, kinds[(i + (test_rand(&seed) % 8 == 0)) % 4]);
			assert_true(d.structures > 0);
			free(text);
			free(p);
		}
	}
	fx_fini(&v);
}

TEST(dump_refuses_what_it_does_not_know)
{
	static const struct {
		const char *bytes, *as, *says;
		int rc;
	} cases[] = {{"nonsense", NULL, "--as", -EUCLEAN}, {"", NULL, "--as", -EUCLEAN},
		{"LSVDTRAC", NULL, "lsvd trace dump", -EUCLEAN},
		{"LSVDdata", "table", "table", -EINVAL}};

	for (unsigned i = 0; i < 4; i++) {
		struct dump_source s =
			source("f", (void *)(uintptr_t)cases[i].bytes, strlen(cases[i].bytes));
		struct dump d = {.out = stdout};
		struct err e = {.msg = ""};

		assert_int_equal(dump_any(&d, &s, cases[i].as, &e), cases[i].rc);
		assert_non_null(strstr(e.msg, cases[i].says));
	}
}

/* ---- pools ---- */

static uint8_t *make_pool(void)
{
	static const struct sim_disk_model fast = {.write_ns = 1000, .read_ns = 1000};
	static const char *const set[][2] = {{"pool.segment", "512K"}, {"object.size", "256K"}};
	struct lsvd_config *cfg = lsvd_config_new(NULL);
	uint8_t *p = malloc(POOL_BYTES);
	struct sim_disk *disk;
	struct bdev *leg;
	struct fx v;

	fx_init(&v);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(lsvd_config_set(cfg, set[i][0], set[i][1], NULL), 0);
	assert_int_equal(sim_disk_new(POOL_BYTES, &fast, &disk), 0);
	assert_int_equal(sim_disk_open(disk, v.loop[0], &leg), 0);
	assert_int_equal(ctx_open_on(v.loop[0], cfg, &leg, 1, &v.ctx, &v.e), 0);
	assert_int_equal(ctx_image_create(v.ctx, v.store[0], "v", 4 * MIB, &v.e), 0);
	assert_int_equal(ctx_image_open(v.ctx, v.store[0], "v", 0, &v.img, &v.e), 0);
	for (uint64_t i = 0; i < 8; i++)
		fx_write_at(&v, i, i * 65536, 4096 * (i + 1));
	assert_int_equal(lsvd_flush(v.img), 0);
	sim_disk_peek(disk, 0, p, POOL_BYTES);
	fx_close_image(&v);
	sim_disk_free(disk);
	lsvd_config_free(cfg);
	fx_fini(&v);
	return p;
}

static unsigned lines_with(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *p = strstr(text, what); p; p = strstr(p + 1, what))
		n++;
	return n;
}

TEST(dump_prints_a_pool_its_segments_and_records)
{
	uint8_t *p = make_pool();
	struct dump_source s = source("pool", p, POOL_BYTES);
	struct dump d = {.records = true};
	char *text = print(&d, &s, NULL);

	assert_int_equal(d.problems, 0);
	assert_int_equal(lines_with(text, "\nsegment "), SEGMENTS);
	assert_true(lines_with(text, "role=journal") >= 1);
	assert_int_equal(lines_with(text, "\nrecord "), 8);
	assert_int_equal(lines_with(text, "blocks=8 old=no"), 1);
	free(text);
	d = (struct dump){.all = true, .json = true};
	text = print(&d, &s, NULL);
	assert_int_equal(lines_with(text, "\"lba\":"), 8);
	json_decref(parse_lines(text, d.structures));
	free(text);
	free(p);
}

TEST(dump_of_a_damaged_pool_goes_on)
{
	uint8_t *p = make_pool();
	struct dump_source s = source("pool", p, POOL_BYTES);
	struct dump d = {.records = true};
	char *text;

	memset(p, 0xff, 4096);
	/* Two segments tell the rest. */
	if (memcmp(p + 2 * SEGMENT, "LSVDpseg", 8))
		memcpy(p + 2 * SEGMENT, p + SEGMENT, 4096);
	text = print(&d, &s, "pool");
	assert_true(d.problems >= 2);
	assert_int_equal(lines_with(text, "\nsegment "), SEGMENTS);
	assert_true(lines_with(text, "\nrecord ") >= 8);
	free(text);
	free(p);
}

TEST(dump_survives_any_pool)
{
	uint64_t seed = test_seed();
	uint8_t *whole = make_pool(), *p = malloc(POOL_BYTES);

	for (int k = 0; k < 20; k++) {
		struct dump_source s = source("pool", p, POOL_BYTES);
		struct dump d = {.all = true, .json = k % 2};

		memcpy(p, whole, POOL_BYTES);
		for (int f = 0; f < 40; f++)
			p[test_rand(&seed) % 3 * SEGMENT + test_rand(&seed) % 4 * 4096 +
				test_rand(&seed) % 160] = (uint8_t)test_rand(&seed);
		if (k % 4 == 3)
			s.size_bytes = test_rand(&seed) % POOL_BYTES;
		free(print(&d, &s, "pool"));
		assert_true(d.structures > 0);
	}
	free(p);
	free(whole);
}
