/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_journal_memory.c - how much of the log is in memory: a journal's share, and what all share. */
#include "sys/memory.h"
#include "test/journal_env.h"

/* A journal with the least share, 6 frames of 1 MiB, and so many MiB of what all journals share. */
static void start(struct penv *v, struct jenv *je, uint64_t burst_mib)
{
	struct journal_config cfg;
	uint64_t replayed;
	struct err e;

	penv_init(v, 1, 64, test_seed());
	v->cfg.pool_segment_bytes = 1 << 20;
	penv_open(v);
	jenv_config(je, v, 1, &cfg);
	cfg.ram_bytes = 0;
	cfg.burst_bytes = burst_mib * ENV_MIB;
	jenv_open_with(je, &cfg);
	assert_int_equal(journal_replay(je->j, 0, &replayed, &e), 0);
}

static void stop(struct penv *v, struct jenv *je)
{
	jidle(je);
	journal_close(je->j);
	assert_int_equal(memory_taken(), 0);
	penv_close(v);
	penv_fini(v);
}

/* Records of 128 KiB, seven to a frame. */
static void write_some(struct jenv *je, uint64_t from, uint64_t n)
{
	for (uint64_t i = from; i < from + n; i++)
		assert_int_equal(jwrite(je, i * 256, 256, i + 1, EXTENT_DATA), 0);
}

/* How many of the first n writes are in memory. */
static uint64_t in_memory(struct jenv *je, uint64_t n)
{
	struct journal_hit h;
	uint64_t have = 0;

	for (uint64_t i = 0; i < n; i++) {
		assert_true(journal_find(je->j, i * 256, 256, &h));
		have += journal_memory(je->j, h.pos) != NULL;
	}
	return have;
}

TEST(what_is_dirty_stays_in_memory_while_the_shared_part_lasts)
{
	struct jenv je;
	struct penv v;

	start(&v, &je, 0);
	write_some(&je, 0, 100);
	assert_true(in_memory(&je, 100) < 50);
	assert_int_equal(memory_taken(), 0);
	stop(&v, &je);

	start(&v, &je, 30);
	write_some(&je, 0, 100);
	assert_int_equal(in_memory(&je, 100), 100);
	assert_true(memory_taken() >= 8u * ENV_MIB);
	assert_true(memory_taken() <= 30u * ENV_MIB);
	stop(&v, &je);

	start(&v, &je, 4);
	write_some(&je, 0, 150);
	assert_true(in_memory(&je, 150) < 80);
	assert_true(memory_taken() <= 4u * ENV_MIB);
	stop(&v, &je);
}

TEST(what_is_clean_makes_room_before_more_is_taken)
{
	struct jenv je;
	struct penv v;

	start(&v, &je, 30);
	for (uint64_t i = 0; i < 20; i++) {
		write_some(&je, i * 10, 10);
		journal_covered(je.j, je.last);
	}
	/* Some is taken ahead when few frames are clean, which is always so with a share of six. */
	assert_true(journal_memory_bytes(je.j) < 20u * ENV_MIB);
	stop(&v, &je);
}

TEST(when_it_is_over_the_shared_part_is_given_back)
{
	uint64_t before;
	struct jenv je;
	struct penv v;

	start(&v, &je, 30);
	write_some(&je, 0, 100);
	before = memory_taken();
	journal_calm(je.j);
	assert_int_equal(memory_taken(), before); /* all of it is dirty */
	journal_covered(je.j, je.last);
	for (uint64_t i = before / ENV_MIB; i > 0; i--) {
		assert_int_equal(memory_taken(), i * ENV_MIB);
		journal_calm(je.j);
	}
	assert_int_equal(memory_taken(), 0);
	before = journal_memory_bytes(je.j);
	journal_calm(je.j);
	assert_int_equal(journal_memory_bytes(je.j), before); /* its own stays */
	write_some(&je, 100, 5);
	assert_int_equal(in_memory(&je, 0), 0);
	stop(&v, &je);
}

TEST(journals_share_it)
{
	assert_true(memory_take(100, 200));
	assert_false(memory_take(101, 200));
	assert_true(memory_take(100, 200));
	assert_false(memory_take(1, 200));
	assert_true(memory_take(1, 201));
	assert_false(memory_take(UINT64_MAX, 201));
	memory_give(201);
	assert_int_equal(memory_taken(), 0);
	assert_true(memory_bytes() > 64u << 20);
}
