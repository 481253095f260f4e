/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* alloc.c - the program's own malloc family goes before the C library's, for shared libraries too.
 */
#include "ci/runner/alloc.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static uint64_t count;

static void one_more(void)
{
	__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
}

uint64_t alloc_count(void)
{
	return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

void *malloc(size_t n)
{
	one_more();
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
	one_more();
	return __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
	one_more();
	return __libc_realloc(p, n);
}

void *memalign(size_t align, size_t n);
void *memalign(size_t align, size_t n)
{
	one_more();
	return __libc_memalign(align, n);
}

void *aligned_alloc(size_t align, size_t n)
{
	return memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
	void *p = memalign(align, n);

	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}
