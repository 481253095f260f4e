/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_cacheseg.c - the summary of a cache segment: round trip, golden file, damage. */
#include "format/cacheseg.h"
#include "sys/crc.h"
#include "test/test.h"

#include <errno.h>

enum { ENTRIES = 40, ROOM = 16384 };

static struct cacheseg_head golden_head(void)
{
	struct cacheseg_head h = {.alloc = 77,
		.generation = 5,
		.index = 9,
		.chunk_bytes = 65536,
		.segment_blocks = 8192,
		.first_block = 57,
		.next_block = 57};

	for (uint8_t i = 0; i < 16; i++)
		h.pool_uuid[i] = i;
	return h;
}

static struct cacheseg_entry golden_entry(uint32_t i)
{
	struct cacheseg_entry x = {.epoch = i / 7 + 1,
		.seq = (uint64_t)i * i << 20,
		.chunk = i % 5 ? i : UINT32_MAX - i,
		.from = (uint16_t)(i % 3 * 4),
		.blocks = (uint16_t)(1 + i % 8)};

	memset(x.uuid, (int)i, 16);
	return x;
}

/* Encodes the golden summary; returns its length. */
static size_t golden(uint8_t *buf)
{
	struct writer w = cacheseg_begin(buf, ROOM);
	struct cacheseg_head h = golden_head();
	uint32_t crcs[16];

	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct cacheseg_entry x = golden_entry(i);

		for (uint32_t b = 0; b < x.blocks; b++)
			crcs[b] = i * 1000003 + b;
		x.block = h.next_block;
		h.next_block += x.blocks + i % 2;
		cacheseg_put(&w, &x, crcs);
	}
	cacheseg_end(&w, buf, &h, ENTRIES);
	return h.bytes;
}

static void assert_entry(const struct cacheseg_entry *x, const struct cacheseg_entry *want)
{
	assert_memory_equal(x->uuid, want->uuid, 16);
	assert_int_equal(x->epoch, want->epoch);
	assert_int_equal(x->seq, want->seq);
	assert_int_equal(x->chunk, want->chunk);
	assert_int_equal(x->block, want->block);
	assert_int_equal(x->from, want->from);
	assert_int_equal(x->blocks, want->blocks);
}

static void check_golden(const uint8_t *buf, size_t len)
{
	struct cacheseg_head h, want = golden_head();
	uint32_t crcs[CACHESEG_BLOCKS_MAX], block = want.next_block;
	struct reader r;

	assert_int_equal(cacheseg_decode(buf, len, &h, NULL), 0);
	assert_memory_equal(h.pool_uuid, want.pool_uuid, 16);
	assert_int_equal(h.alloc, 77);
	assert_int_equal(h.generation, 5);
	assert_int_equal(h.index, 9);
	assert_int_equal(h.chunk_bytes, 65536);
	assert_int_equal(h.segment_blocks, 8192);
	assert_int_equal(h.first_block, 57);
	assert_int_equal(h.entries, ENTRIES);
	r = cacheseg_entries(buf, &h);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct cacheseg_entry x, y = golden_entry(i);

		cacheseg_next(&r, &x, crcs);
		assert_int_equal(x.block, block);
		y.block = block;
		assert_entry(&x, &y);
		for (uint32_t b = 0; b < x.blocks; b++)
			assert_int_equal(crcs[b], i * 1000003 + b);
		block += x.blocks + i % 2;
	}
	assert_int_equal(h.next_block, block);
}

TEST(a_summary_comes_back)
{
	uint8_t *buf = calloc(1, ROOM);
	size_t len = golden(buf);

	assert_int_equal(len, cacheseg_bytes(ENTRIES, 5 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8)));
	check_golden(buf, ROOM);
	check_golden(buf, len);
	free(buf);
}

TEST(the_golden_summary_reads_and_writes_the_same)
{
	const char *path = "core/test/golden/cacheseg-v1.bin";
	uint8_t *buf = calloc(1, ROOM), *file = calloc(1, ROOM);
	size_t len = golden(buf);
	FILE *fp = fopen(path, "rb");

	if (!fp && getenv("GOLDEN_WRITE")) {
		fp = fopen(path, "wb");
		assert_int_equal(fwrite(buf, 1, len, fp), len);
		fclose(fp);
		fp = fopen(path, "rb");
	}
	if (!fp)
		SKIP("run from the top of the tree");
	assert_int_equal(fread(file, 1, ROOM, fp), len);
	fclose(fp);
	assert_memory_equal(file, buf, len);
	check_golden(file, len);
	free(buf);
	free(file);
}

TEST(no_flipped_bit_goes_unseen)
{
	uint8_t *buf = calloc(1, ROOM);
	size_t len = golden(buf);
	struct cacheseg_head h;

	for (size_t i = 0; i < len * 8; i += 3) {
		buf[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_true(cacheseg_decode(buf, ROOM, &h, NULL) < 0);
		buf[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t i = 0; i < len; i++)
		assert_true(cacheseg_decode(buf, i, &h, NULL) < 0);
	free(buf);
}

/* Encode one entry that no writer would write, correctly sealed. */
static int decode_with(struct cacheseg_entry x, uint32_t next_block)
{
	uint8_t *buf = calloc(1, ROOM);
	struct writer w = cacheseg_begin(buf, ROOM);
	struct cacheseg_head h = golden_head();
	uint32_t crcs[64] = {0};
	struct err e = {.msg = ""};
	int rc;

	h.next_block = next_block;
	cacheseg_put(&w, &x, crcs);
	cacheseg_end(&w, buf, &h, 1);
	rc = cacheseg_decode(buf, ROOM, &h, &e);
	free(buf);
	return rc;
}

TEST(impossible_entries_are_refused)
{
	struct cacheseg_entry x = {.block = 57, .blocks = 16};

	assert_int_equal(decode_with(x, 73), 0);
	assert_int_equal(decode_with(x, 72), -EUCLEAN);	  /* beyond what was filled */
	assert_int_equal(decode_with(x, 9000), -EUCLEAN); /* beyond the segment */
	x.block = 56;
	assert_int_equal(decode_with(x, 73), -EUCLEAN); /* in the summary's own area */
	x = (struct cacheseg_entry){.block = 57};
	assert_int_equal(decode_with(x, 73), -EUCLEAN); /* nothing */
	x = (struct cacheseg_entry){.block = 57, .blocks = 16, .from = 1};
	assert_int_equal(decode_with(x, 73), -EUCLEAN); /* longer than a chunk */
	x = (struct cacheseg_entry){.block = UINT32_MAX, .blocks = 16};
	assert_int_equal(decode_with(x, 73), -EUCLEAN);
}

TEST(random_bytes_are_never_a_summary)
{
	uint64_t s = test_seed();
	uint8_t *buf = malloc(ROOM);
	struct cacheseg_head h;

	for (int n = 0; n < 2000; n++) {
		for (size_t i = 0; i < 512; i++)
			buf[i] = (uint8_t)(test_rand(&s) >> 32);
		if (n % 2)
			memcpy(buf, "LSVDcseg\1", 10);
		assert_true(cacheseg_decode(buf, 512, &h, NULL) < 0);
	}
	free(buf);
}
