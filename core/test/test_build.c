/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Objects are built from pieces of memory: whatever is known of their CRCs, the object's are right.
 */
#include "volume/build.h"

#include "sys/crc.h"
#include "test/test.h"

#include <stdlib.h>
#include <string.h>

enum { SECTORS = 4096, BLOCK = 4096 };

struct fix {
	struct build b;
	uint8_t *mem; /* SECTORS */
	uint32_t crcs[SECTORS / 8];
	uint64_t rand;
};

static uint32_t below(struct fix *f, uint32_t n)
{
	return (uint32_t)(test_rand(&f->rand) % n);
}

static void set_up(struct fix *f)
{
	memset(f, 0, sizeof(*f));
	f->rand = test_seed();
	assert_int_equal(posix_memalign((void **)&f->mem, BLOCK, SECTORS * 512), 0);
	for (size_t i = 0; i < SECTORS * 512; i++)
		f->mem[i] = (uint8_t)below(f, 256);
	for (size_t i = 0; i < SECTORS / 8; i++) {
		f->crcs[i] = crc32c(0, f->mem + i * BLOCK, BLOCK);
		/* as the pool has them: 0 is not known */
		if (below(f, 16) == 0)
			f->crcs[i] = below(f, 2);
	}
}

static void tear_down(struct fix *f)
{
	build_free(&f->b);
	free(f->mem);
}

static void add(struct fix *f, uint64_t lba, uint32_t sector, uint32_t len)
{
	struct object_extent x = {.lba = lba, .len = len, .kind = EXTENT_DATA};
	const uint32_t *crcs = sector % 8 || below(f, 4) == 0 ? NULL : &f->crcs[sector / 8];

	assert_int_equal(
		build_place(&f->b, lba, len, f->mem + (size_t)sector * 512, crcs, &x.off), 0);
	assert_int_equal(build_extent(&f->b, &x), 0);
}

/* Data in one piece, as the store will have it. */
static uint8_t *gather(const struct build *b, uint64_t *len)
{
	uint64_t at = 0;
	uint8_t *all = malloc(b->h.data_bytes + 1);

	for (uint32_t i = 1; i < b->niov; i++) {
		memcpy(all + at, b->iov[i].iov_base, b->iov[i].iov_len);
		at += b->iov[i].iov_len;
	}
	*len = at;
	return all;
}

static void finish_and_check(struct fix *f)
{
	struct build *b = &f->b;
	uint8_t *all;
	uint64_t len;
	int rc;

	while ((rc = build_crc(b, 20000)) == 0)
		;
	assert_int_equal(rc, 1);
	all = gather(b, &len);
	assert_int_equal(len, b->h.data_bytes);
	for (uint32_t i = 0; i < b->h.chunks; i++) {
		uint64_t at = (uint64_t)i * OBJECT_CRC_BYTES,
			 n = len - at < OBJECT_CRC_BYTES ? len - at : OBJECT_CRC_BYTES;

		assert_int_equal(b->crc[i], crc32c(0, all + at, n));
	}
	for (uint32_t i = 0; i < b->h.extents; i++) {
		const struct object_extent *x = &b->ext[i];

		if (x->len >= 8)
			assert_int_equal(x->off % 8, x->lba % 8);
	}
	b->h.epoch = b->h.seq = b->h.covers = 1;
	assert_int_equal(build_finish(b), 0);
	free(all);
}

TEST(crcs_are_those_of_the_data_whatever_was_known)
{
	struct fix f;

	set_up(&f);
	for (int round = 0; round < 200; round++) {
		uint64_t lba = below(&f, 100);

		build_begin(&f.b, 0);
		for (int n = 0; n < 40; n++) {
			uint32_t len = below(&f, 3) ? 8 * (1 + below(&f, 8)) : 1 + below(&f, 60),
				 sector = below(&f, SECTORS - len);

			if (below(&f, 3))
				sector -= sector % 8, lba += -lba % 8;
			add(&f, lba, sector, len);
			lba += len + below(&f, 20);
		}
		finish_and_check(&f);
	}
	tear_down(&f);
}

TEST(large_objects_are_padded_to_the_multiple)
{
	struct fix f;

	set_up(&f);
	f.b.multiple = 128 << 10;
	for (uint32_t n = 1; n <= 12; n++) {
		build_begin(&f.b, 0);
		for (uint32_t i = 0; i < n; i++)
			add(&f, i * 600, below(&f, 8) * 8, 512 + 8 * below(&f, 9));
		finish_and_check(&f);
		if (build_bytes(&f.b) >= 1 << 20)
			assert_int_equal(build_bytes(&f.b) % f.b.multiple, 0);
		else
			assert_in_range(build_bytes(&f.b), n * 512 * 512, (n + 1) * 600 * 512);
	}
	tear_down(&f);
}
