/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_gcsim.c - what the volume makes of writes whose outcome can be worked out by hand. */
#include "test/test.h"

#include "trace/gcsim.h"
#include "trace/headstore.h"
#include "sys/loop_sim.h"
#include "volume/victim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20, BLOCK = 4096 };

static struct gcsim *start(const char *policy, uint64_t size, struct lsvd_config **cfg)
{
	struct err e = {.msg = ""};
	struct gcsim_options opt = {.size_bytes = size};
	struct gcsim *g = NULL;

	*cfg = lsvd_config_defaults();
	assert_int_equal(lsvd_config_set(*cfg, "object.size", "1M", e.msg), 0);
	assert_int_equal(lsvd_config_set(*cfg, "checkpoint.interval", "4M", e.msg), 0);
	assert_int_equal(lsvd_config_set(*cfg, "gc.policy", policy, e.msg), 0);
	opt.cfg = *cfg;
	if (gcsim_new(&opt, &g, &e) < 0)
		fail_msg("%s", e.msg);
	return g;
}

static void request(struct gcsim *g, uint8_t op, uint64_t off, uint64_t len)
{
	struct trace_record r = {.op = op, .offset_bytes = off, .len_bytes = (uint32_t)len};
	struct err e = {.msg = ""};

	if (gcsim_request(g, &r, &e) < 0)
		fail_msg("%s", e.msg);
}

static struct gcsim_result finish(struct gcsim *g, struct lsvd_config *cfg)
{
	struct gcsim_result r = {0};
	struct err e = {.msg = ""};

	if (gcsim_finish(g, &r, &e) < 0)
		fail_msg("%s", e.msg);
	gcsim_free(g);
	lsvd_config_free(cfg);
	return r;
}

TEST(what_is_written_once_is_stored_once)
{
	struct lsvd_config *cfg;
	struct gcsim *g = start("greedy", 16 * MIB, &cfg);
	struct gcsim_result r;

	for (uint64_t at = 0; at < 16 * MIB; at += 64 << 10)
		request(g, TRACE_WRITE, at, 64 << 10);
	request(g, TRACE_READ, 0, BLOCK);
	request(g, TRACE_FLUSH, 0, 0);
	r = finish(g, cfg);
	assert_int_equal(r.requests, 256);
	assert_int_equal(r.write_bytes, 16 * MIB);
	assert_int_equal(r.live_bytes, 16 * MIB);
	assert_int_equal(r.stored_bytes, 16 * MIB);
	assert_int_equal(r.merged_bytes, 0);
	assert_int_equal(r.gc_bytes, 0);
	assert_int_equal(r.objects, 16);
	assert_true(r.write_amplification == 1 && r.extents <= 16 && r.map_bytes > 0);
}

TEST(what_is_overwritten_in_its_batch_is_merged)
{
	struct lsvd_config *cfg;
	struct gcsim *g = start("greedy", MIB, &cfg);
	struct gcsim_result r;

	for (unsigned i = 0; i < 1024; i++) /* 4 MiB onto 16 blocks */
		request(g, TRACE_WRITE, i % 16 * BLOCK, BLOCK);
	request(g, TRACE_DISCARD, 0, 8 * BLOCK);
	r = finish(g, cfg);
	assert_int_equal(r.write_bytes, 4 * MIB);
	assert_int_equal(r.live_bytes, 8 * BLOCK);
	assert_true(r.merge_ratio > 0.9 && r.write_amplification < 0.1);
}

/* Random overwrites of 16 MiB, 160 MiB in all: every policy keeps what is stored in bounds. */
static struct gcsim_result overwrite(const char *policy)
{
	struct lsvd_config *cfg;
	struct gcsim *g = start(policy, 16 * MIB, &cfg);
	uint64_t rng = 88172645463325252ull;

	for (uint64_t at = 0; at < 16 * MIB; at += MIB)
		request(g, TRACE_WRITE, at, MIB);
	for (unsigned i = 0; i < 40960; i++)
		request(g, TRACE_WRITE, test_rand(&rng) % (16 * MIB / BLOCK) * BLOCK, BLOCK);
	return finish(g, cfg);
}

TEST(every_policy_collects)
{
	for (unsigned i = 0; victim_policy_at(i); i++) {
		struct gcsim_result r = overwrite(victim_policy_at(i)->name),
				    again = overwrite(victim_policy_at(i)->name);

		assert_int_equal(r.live_bytes, 16 * MIB);
		assert_true(r.gc_bytes > 0 && r.gc_objects > 0 && r.gets > 0 && r.deletes > 0);
		assert_true(r.write_amplification > 1.05 && r.write_amplification < 2.5);
		assert_true(r.peak_stored_bytes < 64 * MIB);
		assert_memory_equal(&r, &again, sizeof(r)); /* the same gives the same */
	}
}

TEST(beyond_the_image_is_an_error)
{
	struct lsvd_config *cfg;
	struct gcsim *g = start("greedy", MIB, &cfg);
	struct trace_record r = {.op = TRACE_WRITE, .offset_bytes = MIB, .len_bytes = 512};
	struct err e = {.msg = ""};

	assert_int_equal(gcsim_request(g, &r, &e), -ERANGE);
	assert_non_null(strstr(e.msg, "beyond"));
	finish(g, cfg);
}

static int count(void *arg, const struct trace_record *r, struct err *e)
{
	(void)e;
	*(uint64_t *)arg += r->len_bytes;
	return 0;
}

TEST(traces_are_read_as_they_come)
{
	char path[512];
	struct err e = {.msg = ""};
	uint64_t bytes = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/t.csv", test_dir());
	f = fopen(path, "w");
	fputs("submit_ns,complete_ns,op,offset_bytes,len_bytes\n1,2,W,0,4096\n3,,R,4096,512\n", f);
	fclose(f);
	assert_int_equal(gcsim_each(path, NULL, count, &bytes, &e), 0);
	assert_int_equal(bytes, 4608);
	assert_int_equal(gcsim_each("/nowhere/at/all", NULL, count, &bytes, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nowhere"));
	f = fopen(path, "w");
	fputs("submit_ns,complete_ns,op,offset_bytes,len_bytes\nrubbish\n", f);
	fclose(f);
	assert_true(gcsim_each(path, NULL, count, &bytes, &e) < 0);
	assert_non_null(strstr(e.msg, "t.csv:2"));
}
