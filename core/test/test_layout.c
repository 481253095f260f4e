/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a batch of the log becomes in an object: the newest of every sector, and data as it lies in the
 * log where nothing continues it. */
#include "volume/layout.h"

#include "test/test.h"

#include <stdlib.h>
#include <string.h>

enum { LOG = 1 << 15, SPACE = 1 << 14, EXTENTS = 3000 };

struct fix {
	struct layout l;
	struct build b;
	struct journal_extent ext[EXTENTS];
	uint32_t n;
	uint64_t base; /* position of log[0] */
	uint64_t end;  /* of the log, in sectors from base */
	uint8_t (*log)[512];
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
	assert_int_equal(posix_memalign((void **)&f->log, 4096, LOG * 512), 0);
	for (uint32_t i = 0; i < LOG; i++)
		for (uint32_t k = 0; k < 512; k += 4)
			memcpy(&f->log[i][k], &i, 4);
	assert_int_equal(layout_init(&f->l), 0);
}

static void tear_down(struct fix *f)
{
	layout_fini(&f->l);
	build_free(&f->b);
	free(f->log);
}

static void begin(struct fix *f, uint64_t base)
{
	f->n = 0;
	f->base = base;
	f->end = 0;
}

static void add(struct fix *f, uint64_t lba, uint32_t len, uint8_t kind)
{
	struct journal_extent *x = &f->ext[f->n++];

	*x = (struct journal_extent){.lba = lba, .len = len, .kind = kind};
	if (kind != EXTENT_DATA)
		return;
	x->pos = f->base + f->end;
	f->end += len;
	assert_true(f->end <= LOG);
}

static const void *at(void *arg, uint64_t pos, const uint32_t **crcs)
{
	struct fix *f = arg;

	*crcs = NULL;
	return f->log[pos - f->base];
}

static void lay_out(struct fix *f)
{
	const struct layout_source from = {.at = at, .arg = f};
	int rc;

	layout_begin(&f->l);
	while ((rc = layout_coalesce(&f->l, f->ext, f->n)) == 0)
		;
	assert_int_equal(rc, 1);
	build_begin(&f->b, 0);
	assert_int_equal(layout_build(&f->l, &f->b, &from), 0);
}

static uint8_t *object_data(const struct build *b)
{
	uint8_t *all = malloc(b->data_sectors * 512 + 1), *p = all;

	for (uint32_t i = 1; i < b->niov; i++) {
		memcpy(p, b->iov[i].iov_base, b->iov[i].iov_len);
		p += b->iov[i].iov_len;
	}
	return all;
}

/* What each sector of [0, SPACE) must be: 1 + its place in the log, 1 << 31: zeroes, 0: not written. */
static void model(const struct fix *f, uint32_t want[SPACE])
{
	memset(want, 0, SPACE * sizeof(*want));
	for (uint32_t i = 0; i < f->n; i++)
		for (uint32_t k = 0; k < f->ext[i].len; k++)
			want[f->ext[i].lba + k] =
				f->ext[i].kind == EXTENT_DATA
					? 1 + (uint32_t)(f->ext[i].pos - f->base) + k
					: 1u << 31;
}

static void check(const struct fix *f)
{
	static uint32_t want[SPACE];
	uint8_t *data = object_data(&f->b);
	uint64_t end = 0;

	model(f, want);
	for (uint32_t i = 0; i < f->b.h.extents; i++) {
		const struct object_extent *x = &f->b.ext[i];

		assert_true(x->lba >= end);
		end = x->lba + x->len;
		for (uint32_t k = 0; k < x->len; k++) {
			uint32_t *w = &want[x->lba + k], have;

			memcpy(&have, data + (size_t)(x->off + k) * 512, 4);
			assert_int_equal(*w, x->kind == EXTENT_DATA ? 1 + have : 1u << 31);
			*w = 0;
		}
	}
	for (uint32_t i = 0; i < SPACE; i++)
		assert_int_equal(want[i], 0);
	free(data);
}

TEST(the_newest_of_every_sector_is_in_the_object)
{
	struct fix f;

	set_up(&f);
	for (int round = 0; round < 300; round++) {
		uint32_t writes = 1 + below(&f, 400), block = below(&f, 2) ? 8 : 1;
		/* one in two batches has extents that overlap in part, many have equal ones */
		uint32_t longest = below(&f, 2) ? block : 40;

		begin(&f, (uint64_t)test_rand(&f.rand) >> (8 + below(&f, 50)));
		for (uint32_t i = 0; i < writes; i++) {
			uint32_t len = longest == block ? block : 1 + below(&f, longest);
			uint64_t lba = below(&f, SPACE - len);

			add(&f, lba - lba % block, len,
				(uint8_t)(below(&f, 10) ? EXTENT_DATA : EXTENT_ZERO + below(&f, 2)));
		}
		lay_out(&f);
		check(&f);
	}
	tear_down(&f);
}

TEST(random_writes_lie_in_the_object_as_in_the_log)
{
	struct fix f;

	set_up(&f);
	begin(&f, 1234568);
	for (uint32_t i = 0; i < 1000; i++)
		add(&f, (uint64_t)(i * 571 % 1000) * 16, 8, EXTENT_DATA);
	lay_out(&f);
	check(&f);
	assert_int_equal(f.b.h.extents, 1000);
	assert_int_equal(f.b.niov, 2); /* of the header, and of all data */
	tear_down(&f);
}

TEST(what_continues_in_lba_lies_together)
{
	struct fix f;

	set_up(&f);
	begin(&f, 8);
	/* enough runs for the order of the log; the second half of each is written much later */
	for (uint32_t i = 0; i < 600; i++)
		add(&f, (i * 7 % 300) * 32 + i / 300 * 8, 8, EXTENT_DATA);
	lay_out(&f);
	check(&f);
	assert_int_equal(f.b.h.extents, 600);
	for (uint32_t i = 0; i < 600; i += 2)
		assert_int_equal(f.b.ext[i + 1].off, f.b.ext[i].off + 8);
	assert_int_equal(f.b.ext[2 * 7].off, 16); /* the second to be written */
	tear_down(&f);
}

TEST(sequential_writes_are_one_extent)
{
	struct fix f;

	set_up(&f);
	begin(&f, 0);
	for (uint32_t i = 0; i < 500; i++)
		add(&f, 100 + i * 8, 8, EXTENT_DATA);
	add(&f, 100, 8, EXTENT_ZERO);
	add(&f, 108, 8, EXTENT_DISCARD);
	lay_out(&f);
	check(&f);
	assert_int_equal(f.b.h.extents, 2);
	tear_down(&f);
}

TEST(long_runs_keep_their_place_in_a_chunk)
{
	struct fix f;

	set_up(&f);
	begin(&f, 0);
	add(&f, 4096, 8, EXTENT_DATA);
	for (uint32_t i = 0; i < 16; i++)
		add(&f, 128 * (i + 1) + 24, 128, EXTENT_DATA); /* 1 MiB */
	for (uint32_t i = 0; i < 16; i++)
		add(&f, 5000 + 256 * i, 8, EXTENT_DATA);
	add(&f, 12800 + 104, 1024, EXTENT_DATA); /* 72 sectors off: not worth it */
	lay_out(&f);
	check(&f);
	assert_int_equal(f.b.ext[0].lba, 128 + 24);
	assert_int_equal(f.b.ext[0].off, 24);
	assert_int_equal(f.b.data_sectors, 24 + 2048 + 8 + 16 * 8 + 1024);
	tear_down(&f);
}

TEST(a_long_discard_is_cut_as_the_map_would_cut_it)
{
	struct fix f;
	uint64_t end = 100;

	set_up(&f);
	begin(&f, 0);
	add(&f, 100, 1u << 30, EXTENT_DISCARD);
	lay_out(&f);
	for (uint32_t i = 0; i < f.b.h.extents; i++) {
		assert_int_equal(f.b.ext[i].lba, end);
		assert_true(f.b.ext[i].len <= EXTMAP_LEN_MAX);
		end += f.b.ext[i].len;
	}
	assert_int_equal(end, 100 + (1u << 30));
	tear_down(&f);
}
