/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_journal_replay.c - what a journal tells after crashes: always a prefix of what was written,
 * and all of it that had been acknowledged (process) or flushed (power).
 */
#include "sys/container.h"
#include "test/journal_env.h"

#include <errno.h>

enum { SECTORS = 2048, OPS_MAX = 4000, RECORDS_MAX = 4000 };

struct op {
	uint64_t lba, len;
	uint8_t kind;
	struct jwrite w;
};

/* One volume over several power-ons. */
struct story {
	struct penv v;
	struct jenv je;
	struct op *op;			 /* in order of submission */
	uint64_t ops, acked;		 /* acknowledged in this power-on or found by a replay */
	uint64_t base;			 /* ops before this power-on */
	uint64_t count;			 /* acknowledged in this power-on */
	uint64_t flushed;		 /* ops that must survive anything */
	uint64_t ops_after[RECORDS_MAX]; /* record -> ops in it and before */
	uint64_t seen;			 /* ops that records told of */
	uint64_t covered, covered_ops;
	uint64_t epoch, rand;
};

static struct story *story_of(struct jenv *je)
{
	return container_of(je, struct story, je);
}

/* Records tell of the ops in their order, whether acknowledged or replayed. */
static void note_record(struct jenv *je, uint64_t seq, const struct journal_extent *ext, uint32_t n)
{
	struct story *s = story_of(je);

	assert_true(seq < RECORDS_MAX);
	for (uint32_t i = 0; i < n; i++, s->seen++) {
		const struct op *o = &s->op[s->seen];

		assert_true(s->seen < s->ops);
		assert_int_equal(ext[i].lba, o->lba);
		assert_int_equal(ext[i].len, o->len);
		assert_int_equal(ext[i].kind, o->kind);
	}
	s->ops_after[seq] = s->seen;
}

static int open_story(struct story *s, struct err *e)
{
	struct journal_config cfg;
	uint64_t replayed;

	jenv_config(&s->je, &s->v, ++s->epoch, &cfg);
	s->je.record = note_record;
	s->seen = s->covered_ops;
	jenv_open_with(&s->je, &cfg);
	return journal_replay(s->je.j, s->covered, &replayed, e);
}

static void power_on(struct story *s)
{
	struct err e = {""};

	penv_open(&s->v);
	if (open_story(s, &e) < 0)
		fail_msg("%s", e.msg);
}

static void new_story(struct story *s, unsigned legs, uint64_t mib, uint64_t seed)
{
	*s = (struct story){.op = calloc(OPS_MAX, sizeof(struct op)), .rand = seed | 1};
	penv_init(&s->v, legs, mib, test_rand(&s->rand));
	power_on(s);
}

static void forget_writes(struct story *s)
{
	for (uint64_t i = s->base; i < s->ops; i++) {
		free(s->op[i].w.buf);
		s->op[i].w.buf = NULL;
	}
}

static void end_story(struct story *s)
{
	forget_writes(s);
	penv_fini(&s->v);
	free(s->op);
}

static void begin_op(struct story *s, uint64_t lba, uint64_t len, uint8_t kind)
{
	struct op *o = &s->op[s->ops++];

	assert_true(s->ops < OPS_MAX);
	*o = (struct op){.lba = lba, .len = len, .kind = kind};
	o->w.count = &s->count;
	jwrite_start(&s->je, &o->w, lba, len, s->ops, kind);
}

static void random_op(struct story *s)
{
	uint64_t r = test_rand(&s->rand);
	uint64_t len = r % 4 ? 1 + r / 4 % 16 : 1 + r / 4 % 200;
	uint64_t lba = test_rand(&s->rand) % (SECTORS - len);

	begin_op(s, lba, len, r >> 40 & 7 ? EXTENT_DATA : (uint8_t)(1 + (r >> 43 & 1)));
}

static void flush_story(struct story *s)
{
	uint64_t before = s->base + s->count;

	assert_int_equal(jflush(&s->je), 0);
	s->flushed = before; /* I2 */
}

/* I5: what no object holds is in segments that are not clean. */
static void check_dirty(struct story *s)
{
	for (uint64_t i = s->covered_ops; i < s->seen; i++) {
		struct journal_hit h;

		if (s->op[i].kind != EXTENT_DATA)
			continue;
		/* The place may be of a newer one: that is not clean either. */
		assert_true(journal_find(s->je.j, s->op[i].lba, 1, &h));
		assert_true(h.pos == EXTMAP_ZERO || !journal_is_clean(s->je.j, h.pos));
	}
}

static void cover_some(struct story *s)
{
	if (!s->je.last || s->je.last <= s->covered)
		return;
	s->covered += test_rand(&s->rand) % (s->je.last - s->covered + 1);
	s->covered_ops = s->covered ? s->ops_after[s->covered] : 0;
	journal_covered(s->je.j, s->covered);
	check_dirty(s);
}

static void crash(struct story *s, bool process_only)
{
	uint64_t acked = s->base + s->count;

	penv_crash(&s->v, test_rand(&s->rand), process_only);
	journal_close(s->je.j);
	pool_drop(s->v.pool);
	loop_free(s->v.loop);
	if (process_only)
		s->flushed = acked;
	if (s->flushed < s->covered_ops)
		s->flushed = s->covered_ops; /* in objects */
	s->base = s->ops;		     /* for forget_writes */
}

/* After a replay: exactly the first `seen` ops happened. */
static void check_replay(struct story *s)
{
	static uint64_t newest[SECTORS], got[SECTORS];

	assert_true(s->seen >= s->flushed);
	memset(newest, 0, sizeof(newest));
	for (uint64_t i = 0; i < s->seen; i++)
		for (uint64_t k = 0; k < s->op[i].len && s->op[i].lba + k < SECTORS; k++)
			newest[s->op[i].lba + k] = i + 1;
	jread(&s->je, 0, SECTORS, got);
	check_dirty(s);
	for (uint64_t k = 0; k < SECTORS; k++) {
		uint64_t n = newest[k], want;

		if (n <= s->covered_ops && got[k] == UINT64_MAX)
			continue; /* in objects, or never written */
		assert_true(n > 0);
		want = s->op[n - 1].kind == EXTENT_DATA ? n : 0;
		assert_int_equal(got[k], want);
	}
	s->flushed = s->seen; /* replay made it durable */
	s->ops = s->base = s->seen;
	s->count = 0;
}

static void live_a_while(struct story *s, uint64_t most)
{
	uint64_t n = test_rand(&s->rand) % most, fulls = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t r = test_rand(&s->rand);

		random_op(s);
		if (s->je.fulls > fulls) {
			fulls = s->je.fulls;
			cover_some(s);
		}
		if (r % 8 == 0)
			flush_story(s);
		if (r % 16 == 1)
			cover_some(s);
		for (uint64_t k = r >> 32 & 7; k > 0; k--)
			loop_poll(s->v.loop, 20000);
	}
}

/* The other leg alone tells the same. */
static void check_leg_alone(struct story *s, unsigned leg)
{
	uint64_t seen = s->seen;
	struct err e = {""};

	if (penv_open_legs(&s->v, leg, 1, &e) < 0 || open_story(s, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(s->seen, seen);
	jidle(&s->je);
	journal_close(s->je.j);
	penv_close(&s->v);
}

static void run_story(uint64_t seed, bool process_only, uint64_t mib, uint64_t most)
{
	struct story s;
	unsigned legs = 1 + (unsigned)(seed % 2);

	new_story(&s, legs, mib, seed);
	for (int day = 0; day < 4; day++) {
		uint64_t base = s.base;

		live_a_while(&s, most);
		crash(&s, process_only);
		s.base = base;
		forget_writes(&s);
		power_on(&s);
		check_replay(&s);
	}
	jidle(&s.je);
	journal_close(s.je.j);
	penv_close(&s.v);
	if (legs == 2)
		check_leg_alone(&s, (unsigned)(test_rand(&s.rand) % 2));
	end_story(&s);
}

TEST(process_crashes_lose_nothing_acknowledged)
{
	uint64_t seed = test_seed() * 1000;

	for (uint64_t i = 0; i < 150; i++)
		run_story(seed + i, true, 6, 60);
}

TEST(power_failures_lose_nothing_flushed)
{
	uint64_t seed = test_seed() * 1000;

	for (uint64_t i = 0; i < 150; i++)
		run_story(seed + i, false, 6, 60);
}

/* Segments are reused within an epoch, over records that look like ours. */
TEST(crashes_of_a_pool_that_goes_round)
{
	uint64_t seed = test_seed() * 1000;

	for (uint64_t i = 0; i < 30; i++)
		run_story(seed + i, i / 2 % 2, 3, 500);
}

/* ---- by hand ---- */

/* One op, one record. */
static void write_one(struct story *s, uint64_t lba, uint64_t len, uint8_t kind)
{
	struct op *o = &s->op[s->ops];

	begin_op(s, lba, len, kind);
	jwrite_wait(&s->je, &o->w);
	assert_int_equal(o->w.status, 0);
}

static uint64_t header_offset(struct story *s, uint64_t lba)
{
	uint64_t seg_bytes = (uint64_t)pool_segment_blocks(s->v.pool) * POOL_BLOCK;
	struct journal_hit h;
	struct segment *seg;
	uint32_t block, in_block;

	assert_true(journal_find(s->je.j, lba, 1, &h));
	seg = journal_place(s->je.j, h.pos, &block, &in_block);
	return seg_bytes + seg->index * seg_bytes + (block - 1ull) * POOL_BLOCK;
}

static void power_off(struct story *s)
{
	jidle(&s->je);
	journal_close(s->je.j);
	penv_close(&s->v);
}

static int power_on_status(struct story *s)
{
	struct err e = {""};
	int rc;

	penv_open(&s->v);
	rc = open_story(s, &e);
	if (rc < 0) {
		assert_true(e.msg[0]);
		power_off(s);
	}
	return rc;
}

enum { HAND = 20 };

/* HAND records of one block at lba 8 i; flush after `flush_at` of them; where each is. */
static void hand_story(struct story *s, unsigned legs, uint64_t flush_at, uint64_t *at)
{
	new_story(s, legs, 6, test_seed());
	for (uint64_t i = 0; i < HAND; i++) {
		write_one(s, i * 8, 8, EXTENT_DATA);
		at[i] = header_offset(s, i * 8);
		if (i + 1 == flush_at)
			flush_story(s);
	}
	power_off(s);
}

/* Damage to any record, in its header or its data. */
TEST(a_damaged_durable_record_is_reported)
{
	uint64_t rand = test_seed();

	for (uint64_t k = 0; k < HAND; k++) {
		for (int data = 0; data < 2; data++) {
			uint64_t at[HAND], where;
			struct story s;

			hand_story(&s, 1, 15, at);
			where = at[k] + (data ? 4096 : 0) + test_rand(&rand) % 90;
			sim_disk_rot(s.v.disk[0], where, (unsigned)(test_rand(&rand) % 8));
			/* Record 16 says that 15 were flushed; without it nobody does. */
			if (k < 15) {
				assert_int_equal(power_on_status(&s), -EUCLEAN);
				/* Harmless once it is in an object. */
				s.covered = s.covered_ops = k + 1;
				assert_int_equal(power_on_status(&s), 0);
				assert_int_equal(s.seen, HAND);
			} else {
				assert_int_equal(power_on_status(&s), 0);
				assert_int_equal(s.seen, k);
			}
			power_off(&s);
			end_story(&s);
		}
	}
}

TEST(damage_on_one_leg_is_mended)
{
	uint64_t rand = test_seed();

	for (int i = 0; i < 20; i++) {
		uint64_t at[HAND];
		struct story s;
		uint8_t a[8192], b[8192];

		hand_story(&s, 2, 15, at);
		for (uint64_t k = 0; k < HAND; k++)
			sim_disk_rot(s.v.disk[test_rand(&rand) % 2],
				at[k] + test_rand(&rand) % 8192, (unsigned)(test_rand(&rand) % 8));
		assert_int_equal(power_on_status(&s), 0);
		assert_int_equal(s.seen, HAND);
		check_replay(&s);
		power_off(&s);
		for (uint64_t k = 0; k < HAND; k++) {
			sim_disk_peek(s.v.disk[0], at[k], a, sizeof(a));
			sim_disk_peek(s.v.disk[1], at[k], b, sizeof(b));
			assert_memory_equal(a, b, sizeof(a));
		}
		end_story(&s);
	}
}

TEST(what_an_epoch_passed_over_stays_so)
{
	uint64_t at[HAND];
	struct story s;

	/* Record 8 is lost, 9 to 20 are not. */
	hand_story(&s, 1, 0, at);
	sim_disk_rot(s.v.disk[0], at[7] + 100, 1);
	assert_int_equal(power_on_status(&s), 0);
	assert_int_equal(s.seen, 7);
	check_replay(&s);
	/* Nothing is written in this opening; still it counts. */
	power_off(&s);
	sim_disk_rot(s.v.disk[0], at[7] + 100, 1);
	assert_int_equal(power_on_status(&s), 0);
	assert_int_equal(s.seen, 7);
	write_one(&s, 3, 9, EXTENT_DATA);
	write_one(&s, 500, 1, EXTENT_ZERO);
	power_off(&s);
	assert_int_equal(power_on_status(&s), 0);
	assert_int_equal(s.seen, 9);
	check_replay(&s);
	power_off(&s);
	end_story(&s);
}

TEST(covered_records_are_not_told_again)
{
	uint64_t at[HAND];

	for (uint64_t c = 0; c <= HAND; c++) {
		struct story s;

		hand_story(&s, 1, 0, at);
		s.covered = s.covered_ops = c;
		assert_int_equal(power_on_status(&s), 0);
		assert_int_equal(s.je.first, c < HAND ? c + 1 : 0);
		assert_int_equal(s.seen, HAND);
		assert_int_equal(journal_last_seq(s.je.j), HAND);
		check_replay(&s);
		/* It goes on from there. */
		write_one(&s, 0, 8, EXTENT_DATA);
		assert_int_equal(journal_last_seq(s.je.j), HAND + 1);
		power_off(&s);
		end_story(&s);
	}
}

/* Objects went further than the journal: numbers go on after what they cover. */
TEST(objects_may_know_more_than_the_journal)
{
	uint64_t at[HAND];
	struct story s;

	hand_story(&s, 1, 0, at);
	s.covered = 100;
	s.covered_ops = HAND;
	assert_int_equal(power_on_status(&s), 0);
	assert_int_equal(s.je.first, 0);
	assert_int_equal(journal_last_seq(s.je.j), 100);
	assert_int_equal(journal_dirty_segments(s.je.j), 0);
	write_one(&s, 0, 8, EXTENT_DATA);
	assert_int_equal(s.je.last, 101);
	power_off(&s);
	end_story(&s);
}

TEST(a_replayed_journal_can_be_held_and_released)
{
	uint64_t at[HAND];
	struct story s;

	hand_story(&s, 2, 0, at);
	assert_int_equal(power_on_status(&s), 0);
	assert_in_range(journal_dirty_segments(s.je.j), 1, 2); /* one may have been taken ahead */
	assert_null(journal_memory(s.je.j, 16));
	journal_covered(s.je.j, HAND);
	assert_int_equal(journal_dirty_segments(s.je.j), 0);
	assert_int_equal(journal_release(s.je.j), 0);
	assert_int_equal(pool_free_segments(s.v.pool), pool_segments(s.v.pool));
	power_off(&s);
	s.covered = s.covered_ops = HAND;
	assert_int_equal(power_on_status(&s), 0);
	assert_int_equal(s.je.first, 0);
	power_off(&s);
	end_story(&s);
}

/* A record may hold as many extents as a header has room for. */
TEST(a_record_full_of_extents_comes_back)
{
	struct story s;

	new_story(&s, 1, 6, test_seed());
	write_one(&s, 0, 1, EXTENT_DATA);
	for (uint64_t i = 0; i < 600; i++)
		begin_op(&s, i * 3, 1, EXTENT_ZERO);
	for (uint64_t i = 1; i <= 600; i++)
		jwrite_wait(&s.je, &s.op[i].w);
	assert_int_equal(s.je.last, 1 + 3);
	assert_int_equal(s.ops_after[2], 1 + RECORD_EXTENTS_MAX);
	power_off(&s);
	assert_int_equal(power_on_status(&s), 0);
	check_replay(&s);
	power_off(&s);
	end_story(&s);
}
