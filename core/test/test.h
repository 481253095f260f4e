/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test.h - a test in ten lines that registers itself.
 *
 *   #include "test/test.h"
 *
 *   TEST(an_extent_splits_in_two)
 *   {
 *           assert_int_equal(f(1), 2);              // any cmocka assertion
 *   }
 *
 * A file core/test/test_x.c becomes the program build/test/test_x:
 *   test_x [-s SEED] [-l] [NAME...]      run all, or the tests whose names contain a NAME
 * Its last line is `test_x: N passed, N failed, N skipped`.
 *
 * A random test draws from test_seed() and so prints, on failure, the command that replays it.
 */
#ifndef LSVD_TEST_H
#define LSVD_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct test {
	const char *name;
	void (*run)(void **state);
	struct test *next;
};

void test_register(struct test *t);

#define TEST(name_)                                                             \
	static void test_##name_(void **state);                                 \
	static struct test reg_##name_ = {.name = #name_, .run = test_##name_}; \
	__attribute__((constructor)) static void ctor_##name_(void)             \
	{                                                                       \
		test_register(&reg_##name_);                                    \
	}                                                                       \
	static void test_##name_(void **state __attribute__((unused)))

/* The seed of this run: -s, or TEST_SEED (`make check` sets one, so that a commit's verdict is its
 * own), or the time.  The same seed gives the same test. */
uint64_t test_seed(void);
bool test_seed_given(void); /* by -s */

/* xorshift64*; `*s` is the state, never 0. */
static inline uint64_t test_rand(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545F4914F6CDD1Dull;
}

/* Leave the test as skipped, and say why. */
void test_skip(const char *why);
#define SKIP(why)               \
	do {                    \
		test_skip(why); \
		skip();         \
	} while (0)

/* A fresh directory for this test program, removed when it ends; a path that stays valid. */
const char *test_dir(void);

#endif
