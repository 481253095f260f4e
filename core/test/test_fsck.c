/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of an image: a whole one has no findings, and bytes that are damaged, missing or too
 * many are found, as exactly that.
 */
#include "cli/fsck.h"
#include "format/block.h"
#include "test/fsck_env.h"
#include "volume/bulk.h"

#include <errno.h>

/* ---- whole images ---- */

TEST(a_new_image_is_clean)
{
	struct fx v;

	fx_init(&v);
	assert_int_equal(volume_create(v.store[0], "v", 2048, &v.e), 0);
	fx_check(&v, FSCK_DATA);
	fx_none(&v);
	assert_int_equal(v.r.size_bytes, MIB);
	assert_true(v.r.clean);
	fx_fini(&v);
}

TEST(a_closed_image_is_clean_and_its_facts_are_told)
{
	struct lsvd_image_info info;
	struct fx v;

	fx_make_image(&v);
	fx_check(&v, 0);
	fx_none(&v);
	fx_check(&v, FSCK_DATA);
	fx_none(&v);
	fx_open_image(&v);
	assert_int_equal(lsvd_image_info(v.img, &info), 0);
	assert_int_equal(v.r.objects, info.objects);
	assert_int_equal(v.r.extents, info.extents);
	assert_int_equal(v.r.live_bytes, info.live_bytes);
	assert_int_equal(v.r.stored_bytes, info.stored_bytes);
	assert_true(v.r.objects >= 8);
	assert_true(v.r.checked_bytes > v.r.stored_bytes);
	fx_close_image(&v);
	fx_fini(&v);
}

/* Random writes, discards, collections and reopenings. */
TEST(an_image_with_a_past_is_clean)
{
	uint64_t s = test_seed();
	struct fx v;

	fx_make_image(&v);
	for (int life = 0; life < 12; life++) {
		fx_open_image(&v);
		for (int i = 0; i < 30; i++) {
			uint64_t off = test_rand(&s) % (24 * MIB / 4096) * 4096,
				 len = 512 + test_rand(&s) % 256 * 512;

			if (test_rand(&s) % 8)
				fx_write_at(&v, test_rand(&s), off, len);
			else
				assert_int_equal(lsvd_discard(v.img, len, off), 0);
		}
		if (life % 3 == 2)
			assert_int_equal(lsvd_image_gc(v.img, 90), 0);
		assert_int_equal(lsvd_image_drain(v.img), 0);
		fx_check(&v, FSCK_DATA);
		assert_false(fsck_has_problems(&v.r));
		fx_close_image(&v);
		fx_check(&v, FSCK_DATA);
		fx_none(&v);
	}
	fx_fini(&v);
}

static void make_bulk(struct fx *v)
{
	struct profile_range p[] = {{.lba = 0, .len = 8, .first_us = 1}, {.lba = 64, .len = 8}};
	struct bulk_options o = {.object_bytes = 128 << 10};
	struct bulk *b;
	void *data = util_bytes(1, 512 << 10);

	fx_init(v);
	assert_int_equal(bulk_begin(v->store[0], "v", 4 * MIB, &o, &b, &v->e), 0);
	assert_int_equal(bulk_write(b, 512, data, 512 << 10, &v->e), 0);
	assert_int_equal(bulk_finish(b, p, 2, &v->e), 0);
	free(data);
}

TEST(an_imported_image_is_clean_and_its_profile_is_checked)
{
	struct superblock *sb;
	struct fx v;

	make_bulk(&v);
	fx_check(&v, FSCK_DATA);
	fx_none(&v);
	assert_int_equal(v.r.live_bytes, 512 << 10);
	fx_flip(&v, "v/profile", 400);
	fx_check(&v, 0);
	fx_only(&v, FSCK_WARNING, FSCK_CHECKSUM, "v/profile");
	assert_int_equal(util_delete(v.store[1], "v/profile"), 0);
	fx_check(&v, 0);
	fx_only(&v, FSCK_WARNING, FSCK_MISSING, "v/profile");
	assert_int_equal(util_put(v.store[1], "v/profile", "x", 1), 0);
	fx_check(&v, 0);
	fx_only(&v, FSCK_WARNING, FSCK_SIZE, "v/profile");
	sb = fx_super_of(&v);
	sb->profile_bytes = 0;
	fx_put_super(&v, sb);
	fx_check(&v, 0);
	fx_only(&v, FSCK_WARNING, FSCK_ORPHAN, "v/profile");
	fx_fini(&v);
}

TEST(beside_a_writer_there_are_only_notes)
{
	struct fx v;

	fx_make_open_image(&v);
	fx_check(&v, FSCK_DATA);
	assert_false(fsck_has_problems(&v.r));
	assert_int_equal(v.r.notes, 1);
	assert_int_equal(v.r.findings[0].code, FSCK_UNCLEAN);
	assert_int_equal(v.r.objects_after, 4);
	fx_close_image(&v);
	fx_check(&v, 0);
	fx_none(&v);
	fx_fini(&v);
}

/* What a shrunken image's checkpoints say of what was beyond its end. */
TEST(a_shrunken_image_opens_grows_and_is_clean)
{
	uint8_t buf[4096];
	struct fx v;

	fx_make_image(&v);
	fx_open_image(&v);
	assert_int_equal(lsvd_image_resize(v.img, 4 * MIB, true, v.e.msg), 0);
	fx_close_image(&v);
	fx_check(&v, FSCK_DATA);
	fx_none(&v);
	fx_open_image(&v);
	fx_write_at(&v, 9, MIB, 4096);
	fx_close_image(&v);
	fx_open_image(&v);
	assert_int_equal(lsvd_image_resize(v.img, IMAGE_MIB * (uint64_t)MIB, false, v.e.msg), 0);
	fx_close_image(&v);
	fx_open_image(&v);
	assert_int_equal(lsvd_pread(v.img, buf, sizeof(buf), 8 * MIB), 0);
	assert_true(block_is_zero(buf, sizeof(buf)));
	fx_close_image(&v);
	fx_check(&v, FSCK_DATA);
	fx_none(&v);
	fx_fini(&v);
}

/* ---- flipped bits ---- */

/* Flip single bits of an object, always from the whole one. */
static void flip_many(
	struct fx *v, const char *name, size_t from, size_t to, unsigned flags, int code)
{
	uint64_t s = test_seed();
	size_t len;
	uint8_t *p = fx_load(v, name, &len);

	for (int i = 0; i < 60; i++) {
		fx_flip(v, name, from * 8 + test_rand(&s) % ((to ? to : len) * 8 - from * 8));
		fx_check(v, flags);
		fx_only(v, FSCK_ERROR, code, name);
		fx_replace(v, name, p, len);
	}
	free(p);
	fx_check(v, FSCK_DATA);
	fx_none(v);
}

TEST(every_flipped_bit_of_a_superblock_is_found)
{
	struct fx v;

	fx_make_image(&v);
	flip_many(&v, "v/super", 0, 0, 0, -1);
	flip_many(&v, "v/super", 16, 0, 0, FSCK_CHECKSUM);
	fx_fini(&v);
}

TEST(every_flipped_bit_of_a_checkpoint_is_found)
{
	struct checkpoint_header h;
	struct fx v;
	const char *name;
	size_t len;
	uint8_t *p;

	fx_make_image(&v);
	name = fx_checkpoint(&v);
	p = fx_load(&v, name, &len);
	assert_int_equal(checkpoint_decode_fixed(p, len, &h, &v.e), 0);
	assert_true(h.payload_bytes > 100);
	free(p);
	flip_many(&v, name, 0, h.meta_bytes, 0, -1);
	flip_many(&v, name, CHECKPOINT_FIXED_BYTES, h.meta_bytes, 0, FSCK_CHECKSUM);
	flip_many(&v, name, h.meta_bytes, 0, 0, FSCK_CHECKSUM);
	fx_fini(&v);
}

static void header_of(struct fx *v, const char *name, struct object_header *h)
{
	size_t len;
	uint8_t *p = fx_load(v, name, &len);

	assert_int_equal(object_decode_fixed(p, len, h, &v->e), 0);
	free(p);
}

TEST(every_flipped_bit_of_an_object_is_found)
{
	struct object_header h;
	struct fx v;
	const char *name;

	fx_make_image(&v);
	name = fx_object(&v, 3);
	header_of(&v, name, &h);
	flip_many(&v, name, 0, h.header_bytes, 0, -1);
	flip_many(&v, name, OBJECT_FIXED_BYTES, h.header_bytes, 0, FSCK_CHECKSUM);
	flip_many(&v, name, h.header_bytes, 0, FSCK_DATA, FSCK_CHECKSUM);
	fx_fini(&v);
}

TEST(damaged_data_is_named_by_its_chunks)
{
	const struct fsck_finding *x;
	struct object_header h;
	struct fx v;
	const char *name;

	fx_make_image(&v);
	name = fx_object(&v, 2);
	header_of(&v, name, &h);
	fx_flip(&v, name, (h.header_bytes + 2 * OBJECT_CRC_BYTES + 77) * 8);
	fx_flip(&v, name, (h.header_bytes + 3 * OBJECT_CRC_BYTES) * 8);
	fx_check(&v, 0);
	fx_none(&v);
	fx_check(&v, FSCK_DATA);
	x = fx_only(&v, FSCK_ERROR, FSCK_CHECKSUM, name);
	assert_int_equal(x->offset_bytes, h.header_bytes + 2 * OBJECT_CRC_BYTES);
	assert_non_null(strstr(x->what, "8192 bytes"));
	fx_flip(&v, name, (h.header_bytes + 5 * OBJECT_CRC_BYTES) * 8);
	fx_check(&v, FSCK_DATA);
	assert_int_equal(v.r.errors, 2);
	fx_fini(&v);
}

/* After the checkpoint, too: where nothing but the object itself says what it is. */
TEST(damage_after_the_checkpoint_is_found)
{
	struct object_header h;
	struct fx v;
	const char *name;
	size_t len;
	uint8_t *p;

	fx_make_open_image(&v);
	name = fx_object(&v, -1);
	header_of(&v, name, &h);
	p = fx_load(&v, name, &len);
	fx_flip(&v, name, 8 * 100);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_CHECKSUM, name);
	assert_int_equal(v.r.objects_after, 4);
	fx_replace(&v, name, p, len);
	fx_flip(&v, name, 8 * (len - 1));
	fx_check(&v, 0);
	assert_false(fsck_has_problems(&v.r));
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_CHECKSUM, name);
	fx_replace(&v, name, p, len - 4096);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_SIZE, name);
	fx_replace(&v, name, p, len);
	free(p);
	fx_close_image(&v);
	fx_fini(&v);
}

/* ---- missing, cut, too long, exchanged ---- */

TEST(a_missing_object_is_found)
{
	struct fx v;
	const char *name;

	fx_make_image(&v);
	name = fx_object(&v, 4);
	assert_int_equal(util_delete(v.store[1], name), 0);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_MISSING, name);
	fx_fini(&v);
	fx_make_image(&v);
	name = fx_checkpoint(&v);
	assert_int_equal(util_delete(v.store[1], name), 0);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_MISSING, name);
	assert_true(v.r.checked_bytes > 2 * MIB); /* it went on all the same */
	fx_fini(&v);
}

TEST(an_image_that_is_not_there_is_no_finding)
{
	struct fx v;

	fx_init(&v);
	assert_int_equal(
		fsck_run(&(struct fsck_params){.store = v.store[1], .name = "v"}, &v.r, &v.e),
		-ENOENT);
	assert_int_equal(fsck_run(
				 &(struct fsck_params){
					 .store = v.store[1], .name = "v", .flags = FSCK_REPAIR},
				 &v.r, &v.e),
		-ENOENT);
	assert_string_equal(util_list(v.store[1], ""), "");
	fx_fini(&v);
}

TEST(a_cut_object_is_found_once)
{
	static const size_t keep[] = {0, 50, 3000, 4096, 20000};
	struct fx v;
	const char *name;
	size_t len;
	uint8_t *p;

	fx_make_image(&v);
	name = fx_object(&v, 1);
	p = fx_load(&v, name, &len);
	for (unsigned i = 0; i < 5; i++) {
		fx_replace(&v, name, p, keep[i]);
		fx_check(&v, i % 2 ? FSCK_DATA : 0);
		assert_int_equal(fx_only(&v, FSCK_ERROR, FSCK_SIZE, name)->offset_bytes, keep[i]);
	}
	fx_replace(&v, name, p, len - 1);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_SIZE, name);
	memset(p + len, 0, 512);
	fx_replace(&v, name, p, len + 512);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_WARNING, FSCK_SIZE, name);
	free(p);
	fx_fini(&v);
}

TEST(a_cut_checkpoint_is_found_once)
{
	struct fx v;
	const char *name;
	size_t len;
	uint8_t *p;

	fx_make_image(&v);
	name = fx_checkpoint(&v);
	p = fx_load(&v, name, &len);
	fx_replace(&v, name, p, len - 24);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_SIZE, name);
	fx_replace(&v, name, p, 1000);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_STRUCTURE, name);
	fx_replace(&v, name, p, 20);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, -1, name);
	p[len] = 0;
	fx_replace(&v, name, p, len + 1);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_WARNING, FSCK_SIZE, name);
	free(p);
	fx_fini(&v);
}

TEST(an_object_under_another_name_is_found)
{
	struct fx v;
	const char *a, *b;
	size_t len;
	uint8_t *p;

	fx_make_image(&v);
	a = fx_object(&v, 0);
	b = fx_object(&v, 1);
	p = fx_load(&v, a, &len);
	fx_replace(&v, b, p, len);
	free(p);
	fx_check(&v, 0);
	fx_only(&v, FSCK_ERROR, FSCK_STRUCTURE, b);
	fx_fini(&v);
}

/* ---- JSON ---- */

TEST(the_report_as_json)
{
	json_t *j, *x;
	struct fx v;

	fx_make_image(&v);
	fx_flip(&v, fx_object(&v, 2), 8 * 100);
	fx_check(&v, FSCK_DATA);
	j = fsck_json("mem:v", &v.r, FSCK_DATA);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "image")), "mem:v");
	assert_true(json_is_false(json_object_get(j, "ok")));
	assert_true(json_is_true(json_object_get(j, "data")));
	assert_int_equal(json_integer_value(json_object_get(j, "errors")), 1);
	assert_int_equal(json_array_size(json_object_get(j, "findings")), 1);
	x = json_array_get(json_object_get(j, "findings"), 0);
	assert_string_equal(json_string_value(json_object_get(x, "severity")), "error");
	assert_string_equal(json_string_value(json_object_get(x, "code")), "checksum");
	assert_string_equal(json_string_value(json_object_get(x, "object")), fx_object(&v, 2));
	assert_true(json_is_integer(json_object_get(x, "offset_bytes")));
	assert_true(json_is_string(json_object_get(x, "what")));
	x = json_object_get(j, "facts");
	assert_int_equal(json_integer_value(json_object_get(x, "size_bytes")), IMAGE_MIB * MIB);
	assert_int_equal(
		json_integer_value(json_object_get(x, "objects")), (json_int_t)v.r.objects);
	json_decref(j);
	fx_fini(&v);
}
