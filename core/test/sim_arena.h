/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_arena.h - for the one file of a program that runs many schedules: malloc() and its like.
 *
 * A crash leaks what blocking calls had on their stacks, and what comes new from the system costs
 * more, page by page, than a tiny schedule.  So all that a schedule allocates comes from one
 * mapping, which the next one, sim_arena_begin(), takes from the beginning again: nothing leaks,
 * and its pages are there.  What was in them is still there, too: nobody may count on zeroes.
 *
 * Not with sanitizers, which have a malloc() of their own.  One thread.
 */
#ifndef LSVD_TEST_SIM_ARENA_H
#define LSVD_TEST_SIM_ARENA_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void sim_arena_begin(void) {}
#else

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Sizes are rounded up to an eighth of a power of two; each such has its list of free blocks. */
enum { ARENA_LISTS = 64 * 8, ARENA_MIN = 64 };
#define ARENA_BYTES (16ull << 30)

/* In front of what the caller has. */
struct arena_head {
	uint32_t list, offset; /* from the block's begin */
	uint64_t bytes;
};

struct arena_free {
	struct arena_free *next;
};

static char *arena, *arena_at;
static struct arena_free *arena_list[ARENA_LISTS];

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

static void sim_arena_begin(void)
{
	if (!arena)
		arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert(arena != MAP_FAILED);
	arena_at = arena;
	memset(arena_list, 0, sizeof(arena_list));
}

/* The list for n bytes, and what its blocks have. */
static unsigned arena_class(size_t *n)
{
	unsigned top = 63u - (unsigned)__builtin_clzll(*n), step = top - 3;
	size_t up = (*n + ((size_t)1 << step) - 1) >> step;

	*n = up << step;
	top = 63u - (unsigned)__builtin_clzll(*n);
	return top * 8 + (unsigned)(*n >> (top - 3) & 7);
}

static struct arena_head *arena_head(void *p)
{
	return (struct arena_head *)p - 1;
}

static bool arena_has(const void *p)
{
	return arena && (const char *)p >= arena && (const char *)p < arena + ARENA_BYTES;
}

static void *arena_take(size_t align, size_t bytes)
{
	size_t n = bytes + sizeof(struct arena_head) + (align > 16 ? align : 0);
	unsigned list;
	char *block, *p;

	if (bytes > ARENA_BYTES / 2)
		return NULL;
	n = n < ARENA_MIN ? ARENA_MIN : n;
	list = arena_class(&n);
	block = (char *)arena_list[list];
	if (block) {
		arena_list[list] = arena_list[list]->next;
	} else {
		block = arena_at;
		if (n > (size_t)(arena + ARENA_BYTES - arena_at))
			return NULL;
		arena_at += (n + 15) & ~(size_t)15;
	}
	p = block + sizeof(struct arena_head);
	if (align > 16)
		p = (char *)(((uintptr_t)p + align - 1) & ~(uintptr_t)(align - 1));
	*arena_head(p) =
		(struct arena_head){.list = list, .offset = (uint32_t)(p - block), .bytes = bytes};
	return p;
}

void *malloc(size_t n)
{
	return arena ? arena_take(16, n) : __libc_malloc(n);
}

void free(void *p)
{
	struct arena_free *f;
	unsigned list;

	if (!arena_has(p)) {
		__libc_free(p);
		return;
	}
	list = arena_head(p)->list;
	f = (struct arena_free *)(void *)((char *)p - arena_head(p)->offset);
	f->next = arena_list[list];
	arena_list[list] = f;
}

void *calloc(size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (!arena)
		return __libc_calloc(n, size);
	if (__builtin_mul_overflow(n, size, &bytes) || !(p = arena_take(16, bytes)))
		return NULL;
	return memset(p, 0, bytes);
}

void *realloc(void *old, size_t n)
{
	void *p;
	size_t had;

	if (old && !arena_has(old))
		return __libc_realloc(old, n);
	p = malloc(n);
	had = old ? arena_head(old)->bytes : 0;
	if (p && old) {
		memcpy(p, old, had < n ? had : n);
		free(old);
	}
	return p;
}

void *aligned_alloc(size_t align, size_t n)
{
	return arena ? arena_take(align, n) : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
	*p = aligned_alloc(align, n);
	return *p ? 0 : ENOMEM;
}

#endif
#endif
