/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_synth.c - the store of made-up data keeps headers only, and gives back what was put. */
#include "reorg/layout.h"
#include "format/object.h"
#include "sys/crc.h"
#include "sys/loop_sim.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>

struct named {
	char name[40][STORE_NAME_MAX + 1];
	uint64_t size[40];
	int n, stop_at;
};

static struct named *listing;

static int item(struct store_req *r, const char *name, uint64_t size)
{
	struct named *l = listing;

	(void)r;
	assert_true(l->n < 40);
	assert_true(!l->n || strcmp(l->name[l->n - 1], name) < 0);
	strcpy(l->name[l->n], name);
	l->size[l->n++] = size;
	return l->n == l->stop_at ? -ECANCELED : 0;
}

static int64_t list(struct store *s, const char *prefix, struct named *l)
{
	struct store_req r = {.op = STORE_LIST, .name = prefix, .item = item};

	listing = l;
	return store_wait(s, &r);
}

/* 3 MiB in objects of 1 MiB, from a plan that reads 100 grains first. */
static void lay_out(struct predict_layout **l, struct plan *p)
{
	const struct trace_record r = {
		.op = TRACE_READ, .offset_bytes = 1000 * 4096, .len_bytes = 100 * 4096};
	const struct plan_trace t = {&r, 1, "t"};
	const struct plan_extent x[] = {{3, 2048}, {8000, 4090}};
	struct err e;

	assert_int_equal(plan_make(&t, 1, x, 2, 20000, p, &e), 0);
	assert_int_equal(predict_layout_new(p, 20000, 1 << 20, NULL, l, &e), 0);
}

static uint64_t check_object(struct store *s, const char *name, uint64_t size)
{
	uint8_t *all = malloc(size), *part = malloc(size);
	struct object_header h;
	struct object_extent x;
	uint64_t sectors = 0, seed = 5;

	assert_int_equal(util_get(s, name, 0, all, size), size);
	assert_int_equal(object_decode_fixed(all, size, &h, &util_err), 0);
	assert_int_equal(object_decode(all, size, NULL, h.epoch, h.seq, &h, &util_err), 0);
	assert_int_equal(size, (uint64_t)h.header_bytes + h.data_bytes);
	for (uint32_t i = 0; i < h.chunks; i++) {
		uint64_t at = (uint64_t)i * h.crc_bytes, n = h.data_bytes - at;

		n = n < h.crc_bytes ? n : h.crc_bytes;
		assert_int_equal(
			crc32c(0, all + h.header_bytes + at, n), object_get_crc(all, &h, i));
	}
	for (uint32_t i = 0; i < h.extents; i++) {
		object_get_extent(all, &h, i, &x);
		for (uint32_t k = 0; k < x.len; k++)
			assert_true(
				synth_is(all + h.header_bytes + (x.off + k) * 512ull, x.lba + k));
		sectors += x.len;
	}
	for (int i = 0; i < 200; i++) { /* any part is a part of the whole */
		uint64_t off = test_rand(&seed) % (size + 10), len = test_rand(&seed) % 9000;
		uint64_t want = off >= size ? 0 : len < size - off ? len : size - off;

		assert_int_equal(util_get(s, name, off, part, len), want);
		assert_memory_equal(part, all + (off < size ? off : 0), want);
	}
	free(all), free(part);
	return sectors;
}

TEST(objects_come_back_as_they_were_put)
{
	struct predict_layout *l;
	struct named names = {0};
	struct loop *loop;
	struct store *s;
	struct plan p;
	uint64_t sectors = 0;

	lay_out(&l, &p);
	assert_int_equal(loop_sim_new(1, &loop, &util_err), 0);
	assert_int_equal(synth_store_on(loop, l->synth, &s), 0);
	assert_int_equal(list(s, LAYOUT_NAME "/", &names), 0);
	for (int i = 0; i < names.n; i++)
		if (names.size[i] > 100000)
			sectors += check_object(s, names.name[i], names.size[i]);
	assert_int_equal(sectors, 2048 + 4090);
	assert_true(names.n >= 5); /* 1 of the boot zone, 3 of the rest, checkpoint, superblock */
	assert_int_equal(util_get(s, LAYOUT_NAME "/none", 0, &sectors, 8), -ENOENT);
	assert_int_equal(util_put(s, names.name[0], "x", 1), -EEXIST);
	memset(&names, 0, sizeof(names));
	names.stop_at = 2;
	assert_int_equal(list(s, LAYOUT_NAME "/", &names), -ECANCELED);
	assert_int_equal(names.n, 2);
	memset(&names, 0, sizeof(names));
	assert_int_equal(list(s, "other/", &names), 0);
	assert_int_equal(names.n, 0);
	store_close(s);
	loop_free(loop);
	predict_layout_free(l);
	plan_free(&p);
}

TEST(a_layout_knows_what_is_mapped)
{
	struct predict_layout *l;
	struct plan p;

	lay_out(&l, &p);
	for (uint64_t lba = 0; lba < 20000; lba++)
		assert_int_equal(layout_maps(l, lba),
			(lba >= 3 && lba < 2051) || (lba >= 8000 && lba < 12090));
	predict_layout_free(l);
	plan_free(&p);
}
