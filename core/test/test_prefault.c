/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/prefault.h"

#include "test/test.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { BYTES = 64 << 10 };

static void check_block(unsigned char *b)
{
	assert_non_null(b);
	assert_int_equal((uintptr_t)b % BYTES, 0);
	for (size_t i = 0; i < BYTES; i++)
		assert_int_equal(b[i], 0);
	memset(b, 0xa5, BYTES);
}

static void *await(struct prefault *p)
{
	void *b;

	while (!(b = prefault_take(p)))
		sched_yield();
	return b;
}

TEST(blocks_made_here_are_aligned_and_zero)
{
	struct prefault *p = prefault_new(BYTES, NULL, NULL);
	void *a, *b;

	assert_non_null(p);
	a = prefault_make(p);
	b = prefault_make(p);
	check_block(a);
	check_block(b);
	prefault_give(p, a);
	prefault_give(p, b);
	prefault_free(p);
}

TEST(the_thread_goes_on_making_blocks)
{
	struct prefault *p = prefault_new(BYTES, NULL, NULL);
	void *b[16];

	assert_non_null(p);
	/* Nothing is made before somebody asks. */
	assert_null(prefault_take(p));
	for (int i = 0; i < 16; i++) {
		b[i] = await(p);
		check_block(b[i]);
		for (int k = 0; k < i; k++)
			assert_ptr_not_equal(b[i], b[k]);
	}
	prefault_trim(p);
	check_block(await(p));
	for (int i = 0; i < 16; i++)
		prefault_give(p, b[i]);
	prefault_free(p);
}

static void count(void *arg, bool made)
{
	assert_true(made);
	atomic_fetch_add((atomic_int *)arg, 1);
}

TEST(who_awaits_a_block_is_told_once)
{
	atomic_int told = 0;
	struct prefault *p = prefault_new(BYTES, count, &told);

	assert_non_null(p);
	for (int i = 1; i <= 8; i++) {
		assert_true(prefault_await(p));
		while (atomic_load(&told) < i)
			sched_yield();
		prefault_give(p, await(p));
		assert_int_equal(atomic_load(&told), i);
	}
	prefault_free(p);
	assert_int_equal(atomic_load(&told), 8);
}

TEST(it_can_be_freed_at_any_time)
{
	for (int i = 0; i < 50; i++) {
		atomic_int told = 0;
		struct prefault *p = prefault_new(BYTES, count, &told);

		assert_non_null(p);
		if (i % 3)
			assert_null(prefault_take(p));
		if (i % 3 == 2)
			prefault_give(p, await(p));
		if (i % 5 == 4)
			assert_true(prefault_await(p));
		prefault_free(p);
	}
	prefault_free(NULL);
}
