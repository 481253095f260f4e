/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_format_fields.c - what each field on disk may hold: every column "checked" of
 * docs/FORMAT.md.
 *
 * A field is changed and the checksum put right, so that the contents are judged.
 */
#include "format/block.h"
#include "test/format_util.h"
#include "test/test.h"

#include <errno.h>

static int decode(const struct sample *x, const uint8_t *bytes, size_t len)
{
	struct err e = {""};
	int rc = sample_decode(x, bytes, len, &e);

	assert_true(rc == 0 || e.msg[0]);
	return rc;
}

static uint64_t peek(const struct sample *x, size_t at, size_t n)
{
	struct reader r = reader_of(x->bytes + at, n);

	return get_le(&r, n);
}

static void poke(struct sample *x, size_t at, uint64_t v, size_t n)
{
	struct writer w = writer_of(x->bytes + at, n);

	put_le(&w, v, n);
}

/* What the decoder says when the field at `at` holds `v`. */
static int with(struct sample *x, size_t at, size_t n, uint64_t v)
{
	uint64_t before = peek(x, at, n);
	int rc;

	poke(x, at, v, n);
	block_seal(x->bytes, x->len, sample_crc_at(x->kind));
	rc = decode(x, x->bytes, x->len);
	poke(x, at, before, n);
	block_seal(x->bytes, x->len, sample_crc_at(x->kind));
	assert_int_equal(decode(x, x->bytes, x->len), 0);
	return rc;
}

#define ACCEPTED(at, n, v) assert_int_equal(with(&x, at, n, v), 0)
#define REFUSED(at, n, v) assert_int_equal(with(&x, at, n, v), -EUCLEAN)

static void reserved(struct sample *x, size_t from, size_t to)
{
	for (size_t at = from; at < to; at++) {
		assert_int_equal(peek(x, at, 1), 0);
		assert_int_equal(with(x, at, 1, 1), -EUCLEAN);
		assert_int_equal(with(x, at, 1, 0x80), -EUCLEAN);
	}
}

TEST(magic_and_version)
{
	for (int kind = 0; kind < SAMPLES; kind++) {
		struct sample x;

		sample_make(&x, (enum sample_kind)kind, 3);
		for (size_t i = 0; i < 8; i++)
			assert_int_equal(with(&x, i, 1, '?'), -EUCLEAN);
		REFUSED(8, 2, 0);
		assert_int_equal(with(&x, 8, 2, sample_versions(x.kind) + 1), -EPROTO);
		assert_int_equal(with(&x, 8, 2, 0xffff), -EPROTO);
		/* A newer version is said to be newer even though its layout is unknown. */
		poke(&x, 8, sample_versions(x.kind) + 1, 2);
		x.bytes[40] ^= 1;
		assert_int_equal(decode(&x, x.bytes, x.len), -EPROTO);
		sample_free(&x);
	}
}

TEST(fields_of_the_pool_header)
{
	struct sample x;

	sample_make(&x, SAMPLE_POOL, 1);
	reserved(&x, 10, 16);
	reserved(&x, 20, 24);
	reserved(&x, 72 + 8 * POOL_OPENINGS, 4096);
	for (unsigned shift = 0; shift < 64; shift++) {
		if (shift >= 18 && shift <= 30)
			ACCEPTED(40, 8, 1ull << shift);
		else
			REFUSED(40, 8, 1ull << shift);
	}
	REFUSED(40, 8, (1 << 20) + 4096);
	REFUSED(48, 4, 0); /* segments */
	REFUSED(53, 1, 0); /* legs */
	REFUSED(53, 1, 5);
	REFUSED(52, 1, x.pool.legs);			   /* leg */
	REFUSED(54, 1, x.pool.members ^ 1u << x.pool.leg); /* members: not itself */
	REFUSED(54, 1, x.pool.members | 1u << x.pool.legs);
	REFUSED(54, 1, 0);
	ACCEPTED(55, 1, 1); /* joined */
	REFUSED(55, 1, POOL_OPENINGS + 1);
	REFUSED(8, 2, 1); /* version 1 has no members */
	REFUSED(64, 8, 0); /* generation */
	sample_free(&x);
	sample_make_version(&x, SAMPLE_POOL, 1, 1);
	reserved(&x, 54, 56);
	REFUSED(53, 1, 3); /* legs: two at most */
	REFUSED(8, 2, 2);  /* version 2 where 1 will do */
	sample_free(&x);
}

TEST(fields_of_a_segment_header)
{
	struct sample x;

	sample_make(&x, SAMPLE_SEGMENT, 1);
	reserved(&x, 10, 16);
	reserved(&x, 20, 24);
	reserved(&x, 61, 64);
	reserved(&x, 88, 4096);
	ACCEPTED(60, 1, 0);
	ACCEPTED(60, 1, 2);
	REFUSED(60, 1, 3);
	sample_free(&x);
}

/* Data of 9 sectors, a discard, data of 3 sectors behind the first. */
static void small_record(struct sample *x)
{
	static const struct record_extent ext[3] = {{.lba = 100, .len = 9, .off = 0},
		{.lba = 5, .len = 77, .kind = EXTENT_DISCARD}, {.lba = 100, .len = 3, .off = 9}};
	static const uint32_t crc[5] = {0x11111111, 0x22222222, 3, 4, 5};
	struct record_header h = {
		.uuid = "record's volume", .epoch = 2, .seq = 9, .flushed = 8, .place = 777};

	h.extents = 3;
	h.blocks = 2;
	*x = (struct sample){.kind = SAMPLE_RECORD, .record = h, .len = RECORD_BLOCK};
	x->bytes = malloc(RECORD_BLOCK);
	record_encode(&h, ext, crc, x->bytes);
	assert_int_equal(decode(x, x->bytes, x->len), 0);
}

TEST(fields_of_a_record)
{
	enum { EXT = RECORD_FIXED_BYTES };
	struct sample x;

	small_record(&x);
	reserved(&x, 68, 80);
	reserved(&x, EXT + 3 * 16 + 2 * 4, 4096);
	REFUSED(10, 2, 0);   /* extents */
	REFUSED(10, 2, 4);   /* the CRCs are no extent */
	REFUSED(10, 2, 252); /* more than fit */
	REFUSED(10, 2, 0xffff);
	REFUSED(12, 4, 1); /* blocks */
	REFUSED(12, 4, 3); /* one more than the extents need */
	REFUSED(12, 4, 1 << 30);
	REFUSED(12, 4, UINT32_MAX);
	ACCEPTED(56, 8, 0); /* flushed < seq */
	REFUSED(56, 8, 9);
	REFUSED(40, 8, 8); /* seq */
	REFUSED(40, 8, 0);
	REFUSED(EXT + 8, 4, 0); /* len */
	REFUSED(EXT + 8, 4, 10);
	REFUSED(EXT + 8, 4, UINT32_MAX);
	REFUSED(EXT + 12, 4, 1); /* off: now it reaches into the next one's */
	REFUSED(EXT + 12, 4, UINT32_MAX);
	REFUSED(EXT + 7, 1, 3);	      /* kind */
	REFUSED(EXT + 16 + 12, 4, 1); /* off of a discard */
	REFUSED(EXT + 32 + 12, 4, 8); /* overlaps the first */
	ACCEPTED(EXT + 32 + 12, 4, 13);
	REFUSED(EXT + 32 + 12, 4, 14); /* beyond the blocks */
	ACCEPTED(EXT, 7, (1ull << 40) - 9);
	REFUSED(EXT, 7, (1ull << 40) - 8);
	REFUSED(EXT, 7, (1ull << 56) - 1);
	sample_free(&x);
}

static void small_object(struct sample *x, uint16_t flags, uint32_t crc_bytes)
{
	static const struct object_extent ext[3] = {
		{.lba = 100, .len = 9, .off = 0, .old_seq = 3, .old_off = 70},
		{.lba = 109, .len = 5, .off = 30, .old_seq = 1, .old_off = 0},
		{.lba = 200, .len = 24, .off = 10, .old_seq = 8, .old_off = 99}};
	static const uint32_t crc[5] = {0x11111111, 0x22222222, 3, 4, 5};
	struct object_header h = {.uuid = "object's volume",
		.epoch = 2,
		.seq = 9,
		.covers = 55,
		.flags = flags,
		.extents = 3,
		.crc_bytes = crc_bytes,
		.chunks = object_chunk_count(20480, crc_bytes),
		.data_bytes = 20480};

	h.header_bytes = object_header_bytes(3, 20480, flags);
	*x = (struct sample){.kind = SAMPLE_OBJECT, .object = h, .len = h.header_bytes};
	x->bytes = malloc(x->len);
	object_encode(&h, ext, crc, x->bytes);
	assert_int_equal(decode(x, x->bytes, x->len), 0);
}

TEST(fields_of_an_object)
{
	enum { EXT = OBJECT_FIXED_BYTES, CHUNK = EXT + 3 * 16 };
	struct sample x;

	small_object(&x, 0, OBJECT_CRC_BYTES);
	assert_int_equal(x.len, 4096);
	reserved(&x, 84, 96);
	reserved(&x, CHUNK + 20, 4096);
	REFUSED(10, 2, 2); /* flags */
	REFUSED(10, 2, OBJECT_FLAG_GC);
	REFUSED(12, 4, 0); /* header_bytes */
	REFUSED(12, 4, 8192);
	REFUSED(12, 4, 4095);
	REFUSED(12, 4, 0xfffff000);
	REFUSED(40, 8, 0);   /* seq */
	REFUSED(56, 4, 2);   /* extents: the third is no chunk */
	REFUSED(56, 4, 300); /* more than fit */
	REFUSED(56, 4, UINT32_MAX);
	REFUSED(60, 4, 16384); /* data_bytes */
	REFUSED(60, 4, 20481);
	REFUSED(60, 4, 0xfffff000);
	REFUSED(64, 4, 16384); /* bytes per chunk */
	REFUSED(8, 2, 1);      /* version 1 had more */
	REFUSED(68, 4, 1);     /* chunks */
	REFUSED(72, 8, 20479); /* stored length */
	REFUSED(72, 8, 20480 + (1ull << 32));
	REFUSED(EXT + 8, 4, 0);	       /* len */
	REFUSED(EXT + 8, 4, 10);       /* runs into the next one */
	REFUSED(EXT + 16 + 12, 4, 36); /* off */
	ACCEPTED(EXT + 16 + 12, 4, 35);
	REFUSED(EXT + 7, 1, 3); /* kind */
	ACCEPTED(EXT + 7, 1, EXTENT_ZERO);
	REFUSED(EXT + 16 + 7, 1, EXTENT_ZERO); /* and has an offset */
	REFUSED(EXT + 16, 7, 108);
	REFUSED(EXT + 32, 7, 113);
	ACCEPTED(EXT + 32, 7, (1ull << 40) - 24);
	REFUSED(EXT + 32, 7, (1ull << 40) - 23);
	sample_free(&x);
}

TEST(fields_of_an_object_of_version_1)
{
	enum { CHUNK = OBJECT_FIXED_BYTES + 3 * 16 };
	struct sample x;

	small_object(&x, 0, OBJECT_CRC_BYTES_V1);
	assert_int_equal(x.bytes[8], 1);
	assert_int_equal(x.len, 4096);
	assert_int_equal(object_get_crc(x.bytes, &x.object, 1), 0x22222222);
	reserved(&x, CHUNK + 16, 4096);
	REFUSED(8, 2, 2);
	REFUSED(64, 4, 4096);	      /* bytes per chunk */
	REFUSED(CHUNK + 4, 4, 16383); /* length of a chunk */
	REFUSED(CHUNK + 12, 4, 16384);
	REFUSED(CHUNK + 12, 4, 0);
	sample_free(&x);
}

TEST(fields_of_a_moved_extent)
{
	enum { EXT = OBJECT_FIXED_BYTES };
	struct sample x;

	small_object(&x, OBJECT_FLAG_GC, OBJECT_CRC_BYTES);
	reserved(&x, EXT + 28, EXT + 32);
	reserved(&x, EXT + 64 + 28, EXT + 96);
	reserved(&x, EXT + 96 + 20, 4096);
	REFUSED(10, 2, 0);
	REFUSED(EXT + 16, 8, 0); /* where it was */
	REFUSED(EXT + 16, 8, 9);
	REFUSED(EXT + 24, 4, OBJECT_DATA_MAX / 512 - 8);
	ACCEPTED(EXT + 24, 4, OBJECT_DATA_MAX / 512 - 9);
	REFUSED(EXT + 7, 1, EXTENT_ZERO); /* only data moves */
	sample_free(&x);
}

TEST(an_object_too_large_is_refused_before_it_is_read)
{
	struct object_header h;
	struct sample x;

	small_object(&x, 0, OBJECT_CRC_BYTES);
	poke(&x, 60, 512u << 20, 4);
	poke(&x, 72, 512u << 20, 8);
	poke(&x, 68, (512u << 20) / OBJECT_CRC_BYTES, 4);
	poke(&x, 12, object_header_bytes(3, 512u << 20, 0), 4);
	assert_int_equal(object_decode_fixed(x.bytes, x.len, &h, NULL), -EUCLEAN);
	sample_free(&x);
	small_object(&x, 0, OBJECT_CRC_BYTES);
	poke(&x, 56, 5000000, 4);
	poke(&x, 12, object_header_bytes(5000000, 20480, 0), 4);
	assert_int_equal(object_decode_fixed(x.bytes, x.len, &h, NULL), -EUCLEAN);
	poke(&x, 56, 4000000, 4);
	poke(&x, 12, object_header_bytes(4000000, 20480, 0), 4);
	assert_int_equal(object_decode_fixed(x.bytes, x.len, &h, NULL), 0);
	assert_int_equal(decode(&x, x.bytes, x.len), -EUCLEAN); /* cut */
	sample_free(&x);
}

static void small_superblock(struct sample *x)
{
	struct superblock *sb = calloc(1, sizeof(*sb));

	*sb = (struct superblock){.uuid = "super's volume",
		.size_sectors = 1 << 21,
		.range_sectors = 8192,
		.host = "host",
		.checkpoint = 9,
		.epochs = 2,
		.epoch = {{4, 5}, {6, 10}},
		.next_snapshot = 4,
		.snapshots = 2,
		.snapshot = {{.id = 1, .size_sectors = 8, .checkpoint = 9, .name = "a"},
			{.id = 3, .size_sectors = 8, .checkpoint = 2, .name = "b"}},
		.bases = 2,
		.base = {{.snapshot = 1, .object_seq = 2, .checkpoint = 1, .name = "old"},
			{.snapshot = 1, .object_seq = 4, .checkpoint = 3, .name = "older"}}};
	*x = (struct sample){.kind = SAMPLE_SUPERBLOCK, .superblock = sb};
	x->bytes = malloc(SUPERBLOCK_BYTES);
	x->len = superblock_encode(sb, x->bytes);
	assert_int_equal(decode(x, x->bytes, x->len), 0);
}

TEST(fields_of_a_superblock)
{
	enum { EPOCHS = 240, SNAPS = EPOCHS + 32, BASES = SNAPS + 256 };
	struct sample x;

	small_superblock(&x);
	assert_int_equal(x.len, BASES + 2 * 128);
	reserved(&x, 10, 12);
	reserved(&x, 165, 168);
	reserved(&x, 180, 184);
	reserved(&x, 212, 240);
	reserved(&x, SNAPS + 60, SNAPS + 64);
	REFUSED(32, 8, 0); /* size */
	ACCEPTED(32, 8, 1ull << 40);
	REFUSED(32, 8, (1ull << 40) + 1);
	REFUSED(40, 8, 0); /* range */
	REFUSED(40, 8, 4);
	ACCEPTED(40, 8, 8);
	REFUSED(40, 8, 8191);
	ACCEPTED(40, 8, 1ull << 40);
	REFUSED(40, 8, 1ull << 41);
	REFUSED(72, 8, 31); /* profile */
	ACCEPTED(72, 8, 32);
	REFUSED(72, 8, 33);
	ACCEPTED(72, 8, 32 + 16 * (1ull << 24));
	REFUSED(72, 8, 48 + 16 * (1ull << 24));
	REFUSED(96 + 63, 1, 'x'); /* the host's name ends */
	ACCEPTED(164, 1, 1);
	REFUSED(164, 1, 2); /* clean */
	REFUSED(176, 4, 0); /* epochs */
	REFUSED(176, 4, 1);
	REFUSED(176, 4, 3);
	REFUSED(176, 4, UINT32_MAX);
	REFUSED(EPOCHS + 8, 8, 0);
	REFUSED(EPOCHS + 8, 8, 11); /* first_seq rises */
	ACCEPTED(EPOCHS + 8, 8, 10);
	REFUSED(EPOCHS, 8, 6); /* so do epochs */
	REFUSED(EPOCHS, 8, 7);
	REFUSED(192, 8, 0); /* next_snapshot */
	REFUSED(192, 8, 3);
	ACCEPTED(192, 8, UINT64_MAX);
	REFUSED(200, 4, 1); /* snapshots, bases */
	REFUSED(200, 4, UINT32_MAX);
	REFUSED(204, 4, 3);
	REFUSED(204, 4, UINT32_MAX);
	ACCEPTED(208, 4, 2); /* profile_base */
	REFUSED(208, 4, 3);
	REFUSED(SNAPS, 8, 0); /* ids rise */
	REFUSED(SNAPS, 8, 3);
	REFUSED(SNAPS + 8, 8, 0);
	REFUSED(SNAPS + 8, 8, (1ull << 40) + 1);
	REFUSED(SNAPS + 32, 8, 10); /* a checkpoint there cannot be yet */
	ACCEPTED(SNAPS + 56, 4, SNAPSHOT_AUTO);
	REFUSED(SNAPS + 56, 4, 2);
	REFUSED(SNAPS + 64, 1, 0); /* names: not empty, their own, and nothing after them */
	REFUSED(SNAPS + 64, 1, 'b');
	REFUSED(SNAPS + 64, 1, '@');
	REFUSED(SNAPS + 64, 1, '.');
	REFUSED(SNAPS + 66, 1, 'x');
	REFUSED(SNAPS + 127, 1, 'x');
	REFUSED(BASES + 16, 8, 0);
	REFUSED(BASES + 24, 8, 5); /* bases come in order */
	REFUSED(BASES + 32, 8, 4);
	REFUSED(BASES + 128 + 24, 8, 5); /* and before our own objects */
	REFUSED(BASES + 128 + 32, 8, 10);
	REFUSED(BASES + 48, 1, 0);
	REFUSED(BASES + 52, 1, 'x');
	sample_free(&x);
}

TEST(whose_object_and_checkpoint_it_is)
{
	struct sample x;
	const struct superblock *sb;

	small_superblock(&x);
	sb = x.superblock;
	assert_ptr_equal(superblock_base_of_object(sb, 1), &sb->base[0]);
	assert_ptr_equal(superblock_base_of_object(sb, 2), &sb->base[0]);
	assert_ptr_equal(superblock_base_of_object(sb, 3), &sb->base[1]);
	assert_ptr_equal(superblock_base_of_object(sb, 4), &sb->base[1]);
	assert_null(superblock_base_of_object(sb, 5));
	assert_ptr_equal(superblock_base_of_checkpoint(sb, 1), &sb->base[0]);
	assert_ptr_equal(superblock_base_of_checkpoint(sb, 3), &sb->base[1]);
	assert_null(superblock_base_of_checkpoint(sb, 4));
	assert_ptr_equal(superblock_snapshot(sb, "b"), &sb->snapshot[1]);
	assert_null(superblock_snapshot(sb, "c"));
	assert_true(snapshot_name_ok("a.b_c-9"));
	assert_false(snapshot_name_ok(".a") || snapshot_name_ok("a/b") || snapshot_name_ok(""));
	sample_free(&x);
}

TEST(the_epoch_of_an_object)
{
	struct superblock *sb = calloc(1, sizeof(*sb));

	*sb = (struct superblock){.epochs = 3, .epoch = {{4, 5}, {6, 10}, {9, 10}}};
	assert_int_equal(superblock_epoch_of(sb, 4), 0);
	assert_int_equal(superblock_epoch_of(sb, 5), 4);
	assert_int_equal(superblock_epoch_of(sb, 9), 4);
	assert_int_equal(superblock_epoch_of(sb, 10), 9);
	assert_int_equal(superblock_epoch_of(sb, UINT64_MAX), 9);
	free(sb);
}

TEST(fields_of_a_list_of_clones)
{
	enum { ENTRY = CLONES_FIXED_BYTES, NEXT = ENTRY + CLONES_ENTRY_BYTES };
	struct clones *c = calloc(1, sizeof(*c));
	struct sample x = {.kind = SAMPLE_CLONES, .clones = c};

	c->n = 2;
	c->entry[0] = (struct clone_entry){.snapshot = 4, .state = CLONE_READY, .name = "a"};
	c->entry[1] = (struct clone_entry){.snapshot = 4, .state = CLONE_BARRED};
	x.bytes = malloc(CLONES_BYTES);
	x.len = clones_encode(c, x.bytes);
	assert_int_equal(x.len, NEXT + CLONES_ENTRY_BYTES);
	assert_int_equal(decode(&x, x.bytes, x.len), 0);
	reserved(&x, 10, 12);
	reserved(&x, 36, 64);
	reserved(&x, ENTRY + 28, ENTRY + 32);
	REFUSED(32, 4, 1);
	REFUSED(32, 4, 3);
	REFUSED(32, 4, UINT32_MAX);
	ACCEPTED(ENTRY + 24, 4, CLONE_PENDING);
	ACCEPTED(ENTRY + 24, 4, CLONE_BARRED);
	REFUSED(ENTRY + 24, 4, 3);
	REFUSED(ENTRY + 32, 1, 0); /* a clone has a name */
	REFUSED(ENTRY + 34, 1, 'x');
	REFUSED(NEXT + 24, 4, CLONE_READY);
	sample_free(&x);
}

static void small_checkpoint(struct sample *x)
{
	static const struct checkpoint_object objects[2] = {
		{.seq = 7, .epoch = 1, .hdr_sectors = 8, .data_sectors = 64, .live_sectors = 60},
		{.seq = 9, .epoch = 1, .hdr_sectors = 8, .data_sectors = 0, .live_sectors = 0}};
	static const uint64_t removed[1] = {3};
	static const struct checkpoint_dir dirs[2] = {
		{.range = 4, .number = 5, .offset_bytes = 24, .extents = 1, .crc = 1},
		{.range = 2, .number = 4, .offset_bytes = 4096, .extents = 90, .crc = 2}};
	static const struct checkpoint_deferred deferred[1] = {
		{.seq = 4, .epoch = 1, .died = 8, .hdr_sectors = 8, .data_sectors = 64}};
	static const struct checkpoint_kept kept[1] = {
		{.x = {.number = 2, .epoch = 1, .meta_bytes = 4096}, .died = 4}};
	struct checkpoint_sections all = {.objects = objects,
		.removed = removed,
		.dirs = dirs,
		.deferred = deferred,
		.kept = kept};
	struct checkpoint_header h = {.uuid = "ckpt's volume",
		.epoch = 2,
		.number = 5,
		.full_number = 3,
		.object_seq = 9,
		.covers = 55,
		.payload_bytes = 48,
		.live = 2,
		.objects = 2,
		.removed = 1,
		.dirs = 2,
		.deferred = 1,
		.kept = 1};
	struct checkpoint_live live[2] = {{.number = 4, .epoch = 1, .meta_bytes = 4096}};

	h.meta_bytes = checkpoint_meta_bytes(&h);
	live[1] = (struct checkpoint_live){5, 2, h.meta_bytes, 48};
	*x = (struct sample){.kind = SAMPLE_CHECKPOINT, .checkpoint = h, .len = h.meta_bytes};
	x->bytes = malloc(x->len);
	all.live = live;
	checkpoint_encode(&h, &all, x->bytes);
	assert_int_equal(decode(x, x->bytes, x->len), 0);
}

TEST(fields_of_a_checkpoint)
{
	enum { LIVE = CHECKPOINT_FIXED_BYTES, OBJ = LIVE + 64, REM = OBJ + 64, DIR = REM + 8 };
	enum { DEF = DIR + 64, KEPT = DEF + 32 };
	struct sample x;

	small_checkpoint(&x);
	assert_int_equal(x.len, 4096);
	reserved(&x, 10, 12);
	reserved(&x, 116, 128);
	reserved(&x, KEPT + 40, 4096);
	REFUSED(104, 4, UINT32_MAX); /* deferred, kept */
	REFUSED(108, 4, UINT32_MAX);
	ACCEPTED(112, 4, 0xffff); /* slices */
	REFUSED(112, 4, 0x10000);
	ACCEPTED(DIR, 8, 16ull << 56 | 0x123456); /* halvings */
	REFUSED(DIR, 8, 17ull << 56 | 4);
	REFUSED(DEF, 8, 0);
	REFUSED(DEF, 8, 8);
	REFUSED(DEF + 16, 8, 4); /* died */
	ACCEPTED(DEF + 16, 8, 10);
	REFUSED(DEF + 16, 8, 11);
	REFUSED(DEF + 24, 4, 0);
	REFUSED(DEF + 28, 4, OBJECT_DATA_MAX / 512 + 1);
	REFUSED(KEPT, 8, 0);
	REFUSED(KEPT, 8, 4);
	REFUSED(KEPT + 16, 8, 64);
	REFUSED(KEPT + 32, 8, 2); /* died */
	ACCEPTED(KEPT + 32, 8, 5);
	REFUSED(KEPT + 32, 8, 6);
	REFUSED(48, 8, 0); /* full_number */
	REFUSED(48, 8, 6);
	REFUSED(72, 8, 8192); /* meta_bytes */
	REFUSED(72, 8, 0);
	REFUSED(80, 8, 47); /* payload_bytes */
	REFUSED(80, 8, 24);
	REFUSED(80, 8, UINT64_MAX / 24 * 24);
	REFUSED(88, 4, 0); /* live */
	REFUSED(88, 4, 1);
	REFUSED(88, 4, UINT32_MAX);
	REFUSED(92, 4, UINT32_MAX);
	REFUSED(96, 4, 2);
	REFUSED(100, 4, UINT32_MAX);
	REFUSED(LIVE, 8, 0); /* live: number */
	REFUSED(LIVE, 8, 5);
	REFUSED(LIVE + 16, 8, 64);
	REFUSED(LIVE + 16, 8, 1ull << 40);
	REFUSED(LIVE + 32, 8, 6); /* the last is this one */
	REFUSED(LIVE + 40, 8, 1);
	REFUSED(LIVE + 48, 8, 8192);
	REFUSED(LIVE + 56, 8, 24);
	REFUSED(OBJ, 8, 0); /* object: seq */
	REFUSED(OBJ, 8, 10);
	REFUSED(OBJ + 16, 4, 0);
	REFUSED(OBJ + 20, 4, OBJECT_DATA_MAX / 512 + 1);
	REFUSED(OBJ + 24, 4, 65);
	ACCEPTED(OBJ + 28, 4, 7);
	REFUSED(OBJ + 28, 4, 8);
	REFUSED(DIR + 8, 8, 0); /* directory: number */
	REFUSED(DIR + 8, 8, 6);
	REFUSED(DIR + 16, 8, 25); /* outside of this payload */
	REFUSED(DIR + 16, 8, UINT64_MAX - 23);
	REFUSED(DIR + 24, 4, 2);
	ACCEPTED(DIR + 32 + 16, 8, 1 << 20); /* another's is for its reader to check */
	sample_free(&x);
}

TEST(a_checkpoint_too_large_is_refused_before_it_is_read)
{
	struct checkpoint_header h;
	struct sample x;

	small_checkpoint(&x);
	h = x.checkpoint;
	h.dirs = 1u << 27; /* 4 GiB of them */
	poke(&x, 100, h.dirs, 4);
	poke(&x, 72, checkpoint_meta_bytes(&h), 8);
	assert_int_equal(checkpoint_decode_fixed(x.bytes, x.len, &h, NULL), -EUCLEAN);
	sample_free(&x);
}

TEST(extents_of_a_payload_come_back)
{
	struct checkpoint_extent in = {0x123456789a, 0xfedcba9876543210, 77, 0x80000001}, out;
	uint8_t buf[CHECKPOINT_EXTENT_BYTES];

	checkpoint_put_extent(buf, &in);
	checkpoint_get_extent(buf, &out);
	assert_memory_equal(&in, &out, sizeof(in));
}
