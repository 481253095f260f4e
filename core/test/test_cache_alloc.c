/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_cache_alloc.c - cached reads allocate nothing: this program counts its own malloc calls. */
#include "test/cache_env.h"
#include "test/test.h"

enum { MIB = 1 << 20, CHUNK = 64 << 10, DEPTH = 32 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static uint64_t allocations;
static const bool counting = false;
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static uint64_t allocations;
static const bool counting = true;

void *malloc(size_t n)
{
	allocations++;
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	allocations++;
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	allocations++;
	return __libc_realloc(p, n);
}
#endif

static void open_in_memory(struct cache_env *v)
{
	struct bdev *d;

	cache_close(v->cache);
	assert_int_equal(bdev_open(v->loop, "mem:32M", 0, 0, &d, NULL, NULL), 0);
	assert_int_equal(pool_open_on(v->loop, &d, 1, &v->cfg, &v->pool, NULL), 0);
	assert_int_equal(cache_open(v->loop, v->pool, &v->cfg, &v->cache, NULL), 0);
}

static void read_around(struct cache_env *v, uint64_t *s, uint8_t *buf, unsigned rounds)
{
	struct env_read q[DEPTH];

	for (unsigned n = 0; n < rounds; n++) {
		for (unsigned i = 0; i < DEPTH; i++)
			env_submit(v, &q[i], (uint32_t)(test_rand(s) % 4),
				test_rand(s) % 1500 * 512,
				buf + i * 512 * 1024 + test_rand(s) % 2 * 512,
				(1 + test_rand(s) % 500) * 512);
		for (unsigned i = 0; i < DEPTH; i++) {
			env_wait(v, &q[i]);
			assert_int_equal(q[i].status, 0);
		}
	}
}

TEST(cached_reads_allocate_nothing)
{
	uint64_t s = test_seed(), before;
	uint8_t *buf;
	struct cache_env v;

	if (!counting)
		SKIP("a sanitizer owns malloc");
	buf = env_buffer(DEPTH * 512 * 1024);
	env_open(&v, 0, MIB, CHUNK, NULL);
	open_in_memory(&v);
	for (uint32_t i = 0; i < 4; i++) {
		env_put(&v, i, MIB, 10);
		assert_int_equal(env_read(&v, i, 0, MIB), TRACE_SRC_STORE);
	}
	env_settle(&v);
	read_around(&v, &s, buf, 20);
	before = allocations;
	assert_true(before > 0);
	read_around(&v, &s, buf, 100);
	assert_int_equal(allocations, before);
	assert_int_equal(env_stats(&v).gets, 4);
	free(buf);
	env_close(&v);
}
