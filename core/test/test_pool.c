/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_pool.c - segments, legs and block CRCs of the local pool. */
#include "sys/container.h"
#include "sys/crc.h"
#include "test/journal_env.h"

#include <errno.h>
#include <unistd.h>

static const uint8_t alice[16] = "alice", bob[16] = "bob", nobody[16];

static void tear_down(struct penv *v)
{
	penv_close(v);
	penv_fini(v);
}

static void *block_buf(uint32_t blocks)
{
	void *p = NULL;

	assert_int_equal(posix_memalign(&p, POOL_BLOCK, (size_t)blocks * POOL_BLOCK), 0);
	memset(p, 0, (size_t)blocks * POOL_BLOCK);
	return p;
}

static void fill(uint8_t *buf, uint32_t blocks, uint64_t stamp)
{
	for (uint64_t i = 0; i < (uint64_t)blocks * POOL_BLOCK / 8; i++) {
		uint64_t x = stamp * 1000003 + i;

		memcpy(buf + i * 8, &x, 8);
	}
}

static int take(struct penv *v, enum segment_role role, const uint8_t owner[16], uint64_t epoch,
	uint64_t first_seq, struct segment **s)
{
	struct pool_io io;
	int rc;

	pool_io_awaited(&io);
	rc = pool_take(v->pool, role, owner, epoch, first_seq, s, &io);
	return rc < 0 ? rc : pool_wait_io(v->pool, &io);
}

static struct segment *must_take(struct penv *v, enum segment_role role, const uint8_t owner[16])
{
	struct segment *s;

	assert_int_equal(take(v, role, owner, 1, 1, &s), 0);
	return s;
}

static int write_stamp(
	struct penv *v, struct segment *s, uint32_t block, uint32_t blocks, uint64_t stamp)
{
	struct pool_io io = {.seg = s, .block = block, .blocks = blocks};
	uint8_t *buf = block_buf(blocks);
	int rc;

	fill(buf, blocks, stamp);
	pool_io_awaited(&io);
	pool_write(v->pool, &io, buf, NULL);
	rc = pool_wait_io(v->pool, &io);
	free(buf);
	return rc;
}

static int read_stamp(
	struct penv *v, struct segment *s, uint32_t block, uint32_t blocks, uint64_t stamp)
{
	struct pool_io io = {.seg = s, .block = block, .blocks = blocks};
	uint8_t *buf = block_buf(blocks), *want = block_buf(blocks);
	int rc;

	pool_io_awaited(&io);
	pool_read(v->pool, &io, buf);
	assert_int_equal(s->pins, 1);
	rc = pool_wait_io(v->pool, &io);
	assert_int_equal(s->pins, 0);
	fill(want, blocks, stamp);
	if (rc == 0)
		assert_memory_equal(buf, want, (size_t)blocks * POOL_BLOCK);
	free(buf), free(want);
	return rc;
}

static void flush(struct penv *v)
{
	struct pool_io io = {0};

	pool_io_awaited(&io);
	pool_flush(v->pool, &io);
	assert_int_equal(pool_wait_io(v->pool, &io), 0);
}

/* Where a block of a segment lies on a leg: docs/FORMAT.md. */
static uint64_t offset_of(struct penv *v, const struct segment *s, uint32_t block)
{
	uint64_t seg = (uint64_t)pool_segment_blocks(v->pool) * POOL_BLOCK;

	return (seg < ENV_MIB ? seg : ENV_MIB) + s->index * seg + (uint64_t)block * POOL_BLOCK;
}

static void crash_and_reopen(struct penv *v, uint64_t seed, bool process_only)
{
	penv_crash(v, seed, process_only);
	pool_drop(v->pool);
	loop_free(v->loop);
	penv_open(v);
}

/* ---- opening ---- */

TEST(a_blank_device_is_formatted)
{
	struct penv v;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	assert_int_equal(pool_segments(v.pool), (8 * ENV_MIB - (256 << 10)) / (256 << 10));
	assert_int_equal(pool_free_segments(v.pool), pool_segments(v.pool));
	assert_int_equal(pool_segment_blocks(v.pool), 64);
	assert_int_equal(pool_legs(v.pool), 1);
	assert_false(pool_is_volatile(v.pool));
	tear_down(&v);
}

TEST(large_segments_shrink_to_fit_the_device)
{
	struct penv v;

	penv_init(&v, 1, 40, test_seed());
	v.cfg.pool_segment_bytes = 32 * ENV_MIB;
	penv_open(&v);
	assert_int_equal(pool_segment_blocks(v.pool), 2 * ENV_MIB / POOL_BLOCK);
	assert_int_equal(pool_segments(v.pool), 19);
	tear_down(&v);
}

TEST(owners_are_found_again)
{
	struct segment *a, *b, *c;
	struct pool_journal found;
	struct penv v;
	uint8_t uuid[16];
	uint32_t ia, ib;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	memcpy(uuid, pool_uuid(v.pool), 16);
	assert_int_equal(take(&v, SEGMENT_JOURNAL, alice, 7, 100, &a), 0);
	c = must_take(&v, SEGMENT_CACHE, nobody);
	assert_int_equal(take(&v, SEGMENT_JOURNAL, alice, 8, 200, &b), 0);
	must_take(&v, SEGMENT_JOURNAL, bob);
	assert_true(a->alloc < c->alloc && c->alloc < b->alloc);
	ia = a->index, ib = b->index;
	penv_close(&v);

	penv_open(&v);
	assert_memory_equal(uuid, pool_uuid(v.pool), 16);
	assert_int_equal(pool_free_segments(v.pool), pool_segments(v.pool) - 4);
	assert_int_equal(pool_find(v.pool, SEGMENT_JOURNAL, alice, &found), 0);
	assert_int_equal(found.count, 2);
	assert_int_equal(found.segs[0]->index, ia);
	assert_int_equal(found.segs[0]->epoch, 7);
	assert_int_equal(found.segs[0]->first_seq, 100);
	assert_int_equal(found.segs[1]->index, ib);
	assert_int_equal(found.segs[1]->epoch, 8);
	free(found.segs);
	assert_int_equal(pool_find(v.pool, SEGMENT_CACHE, NULL, &found), 0);
	assert_int_equal(found.count, 1);
	free(found.segs);
	/* Allocation numbers go on rising. */
	a = must_take(&v, SEGMENT_JOURNAL, bob);
	assert_true(a->alloc > pool_segment(v.pool, ib)->alloc);
	tear_down(&v);
}

static int reopen_status(struct penv *v, const char *says)
{
	struct err e = {""};
	int rc = penv_open_legs(v, 0, v->legs, &e);

	if (rc == 0)
		penv_close(v);
	else if (!strstr(e.msg, says))
		fail_msg("'%s' does not say '%s'", e.msg, says);
	return rc;
}

TEST(foreign_contents_are_left_alone)
{
	/* Behind blocks of zeroes: 4 KiB (md), 32 KiB (ISO 9660), 64 KiB (btrfs). */
	static const uint64_t at[] = {0, 510, 1080, 4096, 32769, 65600, (256 << 10) - 1};
	uint8_t before[4096], after[4096];

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct penv v;

		penv_init(&v, 1, 8, test_seed());
		sim_disk_rot(v.disk[0], at[i], 3);
		sim_disk_peek(v.disk[0], at[i] / 4096 * 4096, before, 4096);
		assert_int_equal(reopen_status(&v, "is not an LSVD pool"), -EUCLEAN);
		sim_disk_peek(v.disk[0], at[i] / 4096 * 4096, after, 4096);
		assert_memory_equal(before, after, 4096);
		penv_fini(&v);
	}
}

TEST(a_damaged_header_is_refused)
{
	uint64_t s = test_seed();

	for (int i = 0; i < 50; i++) {
		struct penv v;

		penv_init(&v, 1, 8, s + (uint64_t)i);
		penv_open(&v);
		penv_close(&v);
		sim_disk_rot(v.disk[0], 12 + test_rand(&s) % 4000, (unsigned)(test_rand(&s) % 8));
		assert_int_equal(reopen_status(&v, "checksum"), -EBADMSG);
		penv_fini(&v);
	}
}

TEST(a_device_too_small_is_refused)
{
	struct penv v;

	penv_init(&v, 1, 1, test_seed());
	assert_int_equal(reopen_status(&v, "too few"), -EINVAL);
	penv_fini(&v);
	penv_init(&v, 1, 8, test_seed());
	sim_disk_free(v.disk[0]);
	assert_int_equal(sim_disk_new(8192, &(struct sim_disk_model){0}, &v.disk[0]), 0);
	assert_int_equal(reopen_status(&v, "too few"), -EINVAL);
	penv_fini(&v);
}

TEST(files_and_a_second_process_and_truncation)
{
	char path[160], url[200];
	struct config cfg = {.pool_segment_bytes = 1 << 20, .pool_size_bytes = 32 << 20};
	struct pool *p, *q;
	struct loop *l;
	struct err e = {""};
	FILE *f;

	snprintf(path, sizeof(path), "%s/pool", test_dir());
	snprintf(url, sizeof(url), "file:%s", path);
	snprintf(cfg.pool_path, sizeof(cfg.pool_path), "%s", url);
	assert_int_equal(loop_uring_new(64, &l, &e), 0);
	if (pool_open(l, &cfg, &p, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(pool_segments(p), 31);
	assert_int_equal(pool_open(l, &cfg, &q, &e), -EBUSY);
	pool_close(p);
	assert_int_equal(truncate(path, 16 << 20), 0);
	assert_int_equal(pool_open(l, &cfg, &q, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "truncated"));
	unlink(path);
	f = fopen(path, "w");
	for (int i = 0; i < 100000; i++)
		fprintf(f, "somebody's precious text, %d\n", i);
	fclose(f);
	assert_int_equal(pool_open(l, &cfg, &q, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, path));
	unlink(path);
	loop_free(l);
}

TEST(a_memory_pool_is_volatile)
{
	struct config cfg = {.pool_segment_bytes = 1 << 20, .pool_path = "mem:16M"};
	struct pool *p;
	struct loop *l;
	struct err e = {""};

	assert_int_equal(loop_sim_new(1, &l, &e), 0);
	if (pool_open(l, &cfg, &p, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(pool_is_volatile(p));
	assert_int_equal(pool_segments(p), 31);
	pool_close(p);
	loop_free(l);
}

/* ---- blocks ---- */

TEST(what_is_written_is_read)
{
	struct segment *s;
	struct penv v;

	penv_init(&v, 2, 8, test_seed());
	penv_open(&v);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	assert_int_equal(write_stamp(&v, s, 1, 1, 1), 0);
	assert_int_equal(write_stamp(&v, s, 2, 62, 2), 0);
	assert_int_equal(read_stamp(&v, s, 1, 1, 1), 0);
	assert_int_equal(read_stamp(&v, s, 2, 62, 2), 0);
	/* A block never written, and one of an earlier owner, cannot be read. */
	pool_give(v.pool, s);
	while (must_take(&v, SEGMENT_JOURNAL, bob) != s)
		;
	assert_int_equal(read_stamp(&v, s, 1, 1, 1), -EBADMSG);
	tear_down(&v);
}

TEST(bit_rot_is_read_from_the_other_leg)
{
	uint64_t rand = test_seed();

	for (int i = 0; i < 50; i++) {
		struct segment *s, *c;
		struct penv v;
		unsigned leg = (unsigned)i % 2;
		uint32_t block = 3 + (uint32_t)(test_rand(&rand) % 8);

		penv_init(&v, 2, 8, rand);
		penv_open(&v);
		s = must_take(&v, SEGMENT_JOURNAL, alice);
		c = must_take(&v, SEGMENT_CACHE, nobody);
		assert_int_equal(write_stamp(&v, s, 3, 8, 5), 0);
		assert_int_equal(write_stamp(&v, c, 3, 8, 6), 0);
		sim_disk_rot(v.disk[leg], offset_of(&v, s, block) + test_rand(&rand) % 4096, 1);
		assert_int_equal(read_stamp(&v, s, 3, 8, 5), 0);
		sim_disk_rot(v.disk[!leg], offset_of(&v, s, block) + test_rand(&rand) % 4096, 2);
		assert_int_equal(read_stamp(&v, s, 3, 8, 5), -EBADMSG);
		/* The cache lives on leg 0 alone. */
		assert_int_equal(read_stamp(&v, c, 3, 8, 6), 0);
		sim_disk_rot(v.disk[0], offset_of(&v, c, block), 2);
		assert_int_equal(read_stamp(&v, c, 3, 8, 6), -EBADMSG);
		penv_close(&v);
		penv_fini(&v);
	}
}

TEST(a_leg_that_is_needed_fails_writes_not_reads)
{
	struct segment *s;
	struct penv v;

	penv_init(&v, 2, 8, test_seed());
	snprintf(v.cfg.pool_acks, sizeof(v.cfg.pool_acks), "2");
	penv_open(&v);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	assert_int_equal(write_stamp(&v, s, 1, 4, 5), 0);
	sim_disk_model(v.disk[0])->error_per_million = 1000000;
	assert_int_equal(read_stamp(&v, s, 1, 4, 5), 0);
	assert_int_equal(write_stamp(&v, s, 5, 4, 5), -EIO); /* I1 */
	sim_disk_model(v.disk[1])->error_per_million = 1000000;
	assert_int_equal(read_stamp(&v, s, 1, 4, 5), -EIO);
	tear_down(&v);
}

/* ---- legs ---- */

static void peek_block(
	struct penv *v, unsigned leg, const struct segment *s, uint32_t block, uint8_t *out)
{
	sim_disk_peek(v->disk[leg], offset_of(v, s, block), out, POOL_BLOCK);
}

/* A block of a leg is again what it was. */
static void put_back(struct penv *v, unsigned leg, uint64_t at, const uint8_t *was)
{
	uint8_t now[POOL_BLOCK];

	sim_disk_peek(v->disk[leg], at, now, sizeof(now));
	for (uint32_t i = 0; i < POOL_BLOCK; i++)
		for (unsigned bit = 0; bit < 8; bit++)
			if ((now[i] ^ was[i]) >> bit & 1)
				sim_disk_rot(v->disk[leg], at + i, bit);
}

/* An opening that came to one leg only has not made the other one stale: that may be the one that
 * has all, when the first was damaged. */
TEST(an_opening_that_was_cut_between_the_legs)
{
	for (unsigned raised = 0; raised < 2; raised++) {
		uint8_t old[POOL_BLOCK], want[POOL_BLOCK], got[POOL_BLOCK];
		struct segment *s;
		struct penv v;
		uint32_t i;

		penv_init(&v, 2, 8, test_seed());
		penv_open(&v);
		penv_close(&v);
		penv_open(&v);
		s = must_take(&v, SEGMENT_JOURNAL, alice);
		i = s->index;
		assert_int_equal(write_stamp(&v, s, 1, 1, 42), 0);
		flush(&v);
		peek_block(&v, raised, s, 1, want);
		sim_disk_rot(v.disk[raised], offset_of(&v, s, 1) + 7, 2);
		sim_disk_peek(v.disk[!raised], 0, old, sizeof(old));
		penv_close(&v);
		penv_open(&v);
		penv_close(&v);
		put_back(&v, !raised, 0, old);
		penv_open(&v);
		peek_block(&v, !raised, pool_segment(v.pool, i), 1, got);
		assert_memory_equal(got, want, POOL_BLOCK);
		peek_block(&v, raised, pool_segment(v.pool, i), 1, got);
		assert_memory_not_equal(got, want, POOL_BLOCK);
		penv_close(&v);
		penv_fini(&v);
	}
}

/* Another one took its place meanwhile, so that all legs are members: which it is not. */
TEST(a_leg_that_another_stood_in_for_was_away)
{
	uint8_t a[POOL_BLOCK], b[POOL_BLOCK];
	struct err e = {""};
	struct segment *s;
	struct penv v;
	uint32_t i;

	penv_init(&v, 3, 8, test_seed());
	assert_int_equal(penv_open_legs(&v, 0, 2, &e), 0);
	penv_close(&v);
	assert_int_equal(penv_open_legs(&v, 1, 2, &e), 0);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	i = s->index;
	assert_int_equal(write_stamp(&v, s, 1, 4, 77), 0);
	flush(&v);
	penv_close(&v);
	assert_int_equal(penv_open_legs(&v, 0, 2, &e), 0);
	s = pool_segment(v.pool, i);
	for (uint32_t blk = 0; blk < 5; blk++) {
		peek_block(&v, 0, s, blk, a);
		peek_block(&v, 1, s, blk, b);
		assert_memory_equal(a, b, POOL_BLOCK);
	}
	tear_down(&v);
}

TEST(a_leg_that_was_away_gets_the_journals)
{
	for (unsigned away = 0; away < 2; away++) {
		uint8_t a[POOL_BLOCK], b[POOL_BLOCK];
		struct pool_journal found;
		struct segment *s;
		struct err e = {""};
		struct penv v;
		uint32_t i, gone;

		penv_init(&v, 2, 8, test_seed());
		penv_open(&v);
		gone = must_take(&v, SEGMENT_JOURNAL, bob)->index;
		penv_close(&v);
		assert_int_equal(penv_open_legs(&v, !away, 1, &e), 0);
		pool_give(v.pool, pool_segment(v.pool, gone));
		while (must_take(&v, SEGMENT_CACHE, nobody)->index != gone)
			;
		pool_give(v.pool, pool_segment(v.pool, 9));
		s = must_take(&v, SEGMENT_JOURNAL, alice);
		i = s->index;
		assert_int_equal(write_stamp(&v, s, 1, 63, 77), 0);
		penv_close(&v);

		penv_open(&v);
		s = pool_segment(v.pool, i);
		for (uint32_t blk = 0; blk < 64; blk++) {
			peek_block(&v, 0, s, blk, a);
			peek_block(&v, 1, s, blk, b);
			assert_memory_equal(a, b, POOL_BLOCK);
		}
		penv_close(&v);
		/* It tells the same story now, and nothing of its own. */
		assert_int_equal(penv_open_legs(&v, away, 1, &e), 0);
		assert_int_equal(pool_find(v.pool, SEGMENT_JOURNAL, NULL, &found), 0);
		assert_int_equal(found.count, 1);
		assert_int_equal(found.segs[0]->index, i);
		free(found.segs);
		penv_close(&v);
		penv_fini(&v);
	}
}

TEST(a_blank_second_leg_joins)
{
	struct err e = {""};
	struct segment *s;
	struct penv v;
	uint32_t i;

	penv_init(&v, 2, 8, test_seed());
	assert_int_equal(penv_open_legs(&v, 0, 1, &e), 0);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	i = s->index;
	assert_int_equal(write_stamp(&v, s, 1, 10, 3), 0);
	penv_close(&v);
	penv_open(&v);
	penv_close(&v);
	/* Leg 0 is lost, replaced by a new disk. */
	sim_disk_free(v.disk[0]);
	assert_int_equal(sim_disk_new(8 * ENV_MIB, &(struct sim_disk_model){0}, &v.disk[0]), 0);
	penv_open(&v);
	s = pool_segment(v.pool, i);
	assert_int_equal(s->role, SEGMENT_JOURNAL);
	assert_memory_equal(s->owner, alice, 16);
	tear_down(&v);
}

TEST(legs_of_different_pools_are_refused)
{
	struct err e = {""};
	struct penv v;

	penv_init(&v, 2, 8, test_seed());
	assert_int_equal(penv_open_legs(&v, 0, 1, &e), 0);
	penv_close(&v);
	assert_int_equal(penv_open_legs(&v, 1, 1, &e), 0);
	penv_close(&v);
	assert_int_equal(reopen_status(&v, "different pools"), -EUCLEAN);
	penv_fini(&v);
}

TEST(legs_used_apart_are_refused)
{
	/* How often each was used alone. */
	static const int alone[][2] = {{1, 1}, {3, 1}, {1, 4}, {2, 2}};

	for (size_t k = 0; k < sizeof(alone) / sizeof(alone[0]); k++) {
		struct err e = {""};
		struct penv v;

		penv_init(&v, 2, 8, test_seed());
		penv_open(&v);
		penv_close(&v);
		for (unsigned leg = 0; leg < 2; leg++)
			for (int i = 0; i < alone[k][leg]; i++) {
				assert_int_equal(penv_open_legs(&v, leg, 1, &e), 0);
				penv_close(&v);
			}
		assert_int_equal(reopen_status(&v, "without the other"), -EUCLEAN);
		penv_fini(&v);
	}
}

TEST(legs_in_the_other_order_lose_only_the_cache)
{
	struct sim_disk *d;
	struct segment *s;
	struct penv v;
	uint32_t i;

	penv_init(&v, 2, 8, test_seed());
	penv_open(&v);
	must_take(&v, SEGMENT_CACHE, nobody);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	i = s->index;
	penv_close(&v);
	d = v.disk[0];
	v.disk[0] = v.disk[1];
	v.disk[1] = d;
	penv_open(&v);
	assert_int_equal(pool_segment(v.pool, i)->role, SEGMENT_JOURNAL);
	assert_int_equal(pool_free_segments(v.pool), pool_segments(v.pool) - 1);
	tear_down(&v);
}

TEST(a_segment_header_is_mended_from_the_other_leg)
{
	for (unsigned leg = 0; leg < 2; leg++) {
		uint8_t a[POOL_BLOCK], b[POOL_BLOCK];
		struct segment *s;
		struct penv v;
		uint32_t i;

		penv_init(&v, 2, 8, test_seed());
		penv_open(&v);
		s = must_take(&v, SEGMENT_JOURNAL, alice);
		i = s->index;
		sim_disk_rot(v.disk[leg], offset_of(&v, s, 0) + 40, 1);
		penv_close(&v);
		penv_open(&v);
		s = pool_segment(v.pool, i);
		assert_int_equal(s->role, SEGMENT_JOURNAL);
		peek_block(&v, 0, s, 0, a);
		peek_block(&v, 1, s, 0, b);
		assert_memory_equal(a, b, POOL_BLOCK);
		penv_close(&v);
		penv_fini(&v);
	}
}

/* Crashes while segments are taken, given and flushed: what was durable is found, on both legs. */
TEST(flushed_ownership_survives_crashes)
{
	uint64_t rand = test_seed();

	for (int round = 0; round < 100; round++) {
		struct segment *s[6], *lost;
		uint32_t index[6];
		struct pool_io io;
		struct penv v;
		uint32_t n = 1 + (uint32_t)(test_rand(&rand) % 6);
		bool process_only = round % 2;

		penv_init(&v, 1 + (unsigned)(round / 2 % 2), 8, test_rand(&rand));
		penv_open(&v);
		for (uint32_t i = 0; i < n; i++)
			s[i] = must_take(&v, SEGMENT_JOURNAL, alice);
		flush(&v);
		/* In flight when the power goes. */
		pool_io_awaited(&io);
		assert_int_equal(pool_take(v.pool, SEGMENT_JOURNAL, bob, 1, 1, &lost, &io), 0);
		for (uint32_t i = 0; i < n; i++)
			index[i] = s[i]->index;
		crash_and_reopen(&v, test_rand(&rand), process_only);
		for (uint32_t i = 0; i < n; i++) {
			struct segment *x = pool_segment(v.pool, index[i]);

			assert_int_equal(x->role, SEGMENT_JOURNAL);
			assert_memory_equal(x->owner, alice, 16);
		}
		penv_close(&v);
		penv_fini(&v);
	}
}

/* ---- taking, giving, waiting ---- */

struct hoard {
	struct pool_client client;
	struct penv *v;
	struct segment *segs[64];
	uint32_t n, gave;
	bool stingy;
};

static uint32_t hoard_count(struct pool_client *c)
{
	return container_of(c, struct hoard, client)->n;
}

static bool hoard_reclaim(struct pool_client *c)
{
	struct hoard *h = container_of(c, struct hoard, client);

	if (h->stingy || !h->n)
		return false;
	pool_give(h->v->pool, h->segs[--h->n]);
	h->gave++;
	return true;
}

static struct hoard hoard_of(struct penv *v, uint32_t n, enum segment_role role)
{
	struct hoard h = {.v = v, .client = {.reclaimable = hoard_count, .reclaim = hoard_reclaim}};

	for (uint32_t i = 0; i < n; i++)
		h.segs[h.n++] = must_take(v, role, role == SEGMENT_CACHE ? nobody : alice);
	return h;
}

struct waiter {
	struct pool_waiter w;
	int woken;
};

static void wake(struct pool_waiter *w)
{
	container_of(w, struct waiter, w)->woken++;
}

TEST(a_full_pool_takes_from_who_has_most)
{
	struct hoard few, many, miser;
	struct segment *s;
	struct penv v;
	uint32_t n;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	n = pool_segments(v.pool);
	few = hoard_of(&v, 5, SEGMENT_CACHE);
	many = hoard_of(&v, n - 5, SEGMENT_CACHE);
	assert_int_equal(pool_free_segments(v.pool), 0);
	assert_int_equal(take(&v, SEGMENT_JOURNAL, bob, 1, 1, &s), -ENOSPC);
	pool_add_client(v.pool, &few.client);
	pool_add_client(v.pool, &many.client);
	for (uint32_t i = 0; i < n - 9; i++)
		must_take(&v, SEGMENT_JOURNAL, bob);
	assert_in_range(few.n, 4, 5);
	assert_in_range(many.n, 4, 5);
	/* One who promises and does not give is passed over. */
	miser = (struct hoard){.v = &v, .n = 60, .stingy = true, .client = few.client};
	pool_add_client(v.pool, &miser.client);
	for (uint32_t i = 0; i < 9; i++)
		must_take(&v, SEGMENT_JOURNAL, bob);
	assert_int_equal(few.n + many.n, 0);
	assert_int_equal(take(&v, SEGMENT_JOURNAL, bob, 1, 1, &s), -ENOSPC);
	pool_remove_client(v.pool, &miser.client);
	pool_remove_client(v.pool, &few.client);
	pool_remove_client(v.pool, &many.client);
	tear_down(&v);
}

TEST(waiters_are_woken_later_and_once)
{
	struct waiter a = {.w = {.wake = wake}}, b = a, c = a;
	struct hoard h;
	struct penv v;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	h = hoard_of(&v, pool_segments(v.pool), SEGMENT_JOURNAL);
	pool_wait(v.pool, &a.w);
	pool_wait(v.pool, &a.w);
	pool_wait(v.pool, &b.w);
	pool_wait(v.pool, &c.w);
	pool_cancel_wait(v.pool, &c.w);
	pool_cancel_wait(v.pool, &c.w);
	pool_give(v.pool, h.segs[--h.n]);
	assert_int_equal(a.woken + b.woken, 0);
	while (loop_poll(v.loop, LOOP_FOREVER))
		;
	assert_int_equal(a.woken, 1);
	assert_int_equal(b.woken, 1);
	assert_int_equal(c.woken, 0);
	pool_wait(v.pool, &b.w);
	pool_poke(v.pool);
	while (loop_poll(v.loop, LOOP_FOREVER))
		;
	assert_int_equal(a.woken, 1);
	assert_int_equal(b.woken, 2);
	tear_down(&v);
}

/* The end of a read is when a pinned segment can go. */
TEST(the_last_pin_wakes_waiters)
{
	struct waiter w = {.w = {.wake = wake}};
	struct segment *s;
	struct penv v;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	assert_int_equal(write_stamp(&v, s, 1, 1, 1), 0);
	pool_wait(v.pool, &w.w);
	assert_int_equal(read_stamp(&v, s, 1, 1, 1), 0);
	while (loop_poll(v.loop, LOOP_FOREVER))
		;
	assert_int_equal(w.woken, 1);
	tear_down(&v);
}

/* A free header on its way must not land on the next owner's. */
TEST(nobody_takes_a_segment_whose_free_header_is_on_its_way)
{
	struct segment *s, *other;
	struct pool_io io;
	struct hoard h;
	struct penv v;
	uint32_t i;

	penv_init(&v, 2, 8, test_seed());
	penv_open(&v);
	h = hoard_of(&v, pool_segments(v.pool), SEGMENT_JOURNAL);
	s = h.segs[4];
	i = s->index;
	pool_io_awaited(&io);
	assert_int_equal(pool_give_durably(v.pool, s, &io), 0);
	assert_int_equal(take(&v, SEGMENT_JOURNAL, bob, 1, 1, &other), -ENOSPC);
	assert_int_equal(pool_wait_io(v.pool, &io), 0);
	assert_int_equal(pool_free_segments(v.pool), 1);
	assert_ptr_equal(must_take(&v, SEGMENT_JOURNAL, bob), s);
	penv_close(&v);
	penv_open(&v);
	assert_memory_equal(pool_segment(v.pool, i)->owner, bob, 16);
	tear_down(&v);
}

TEST(what_was_given_durably_is_free_after_a_restart)
{
	struct pool_io io;
	struct segment *s;
	struct penv v;

	penv_init(&v, 2, 8, test_seed());
	penv_open(&v);
	must_take(&v, SEGMENT_JOURNAL, alice);
	s = must_take(&v, SEGMENT_JOURNAL, alice);
	pool_io_awaited(&io);
	assert_int_equal(pool_give_durably(v.pool, s, &io), 0);
	assert_int_equal(pool_wait_io(v.pool, &io), 0);
	penv_close(&v);
	penv_open(&v);
	assert_int_equal(pool_free_segments(v.pool), pool_segments(v.pool) - 1);
	tear_down(&v);
}
