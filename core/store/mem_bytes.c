/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/mem_bytes.h"

#include "sys/copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ARENA_BYTES = 2 << 20, TABLE_FIRST = 64 };

static bool more_chunks(struct mem_space *s)
{
	char *p;

	if (s->narenas == s->arenas_cap) {
		uint32_t cap = s->arenas_cap ? 2 * s->arenas_cap : 64;
		void **a = realloc(s->arenas, cap * sizeof(*a));

		if (!a)
			return false;
		s->arenas = a;
		s->arenas_cap = cap;
	}
	p = aligned_alloc(ARENA_BYTES, ARENA_BYTES);
	if (!p)
		return false;
	(void)madvise(p, ARENA_BYTES, MADV_HUGEPAGE);
	s->arenas[s->narenas++] = p;
	for (size_t at = 0; at < ARENA_BYTES; at += MEM_CHUNK_BYTES) {
		*(void **)(void *)(p + at) = s->chunks;
		s->chunks = p + at;
	}
	return true;
}

static char *chunk_take(struct mem_space *s)
{
	void *p;

	if (!s->chunks && !more_chunks(s))
		return NULL;
	p = s->chunks;
	s->chunks = *(void **)p;
	return p;
}

static bool table_for(struct mem_bytes *b, uint64_t n)
{
	uint32_t cap;
	char **t;

	if (n <= b->chunks_cap)
		return true;
	if (n > UINT32_MAX / 2)
		return false;
	for (cap = TABLE_FIRST; cap < n;)
		cap *= 2;
	t = realloc(b->chunk, cap * sizeof(*t));
	if (!t)
		return false;
	b->chunk = t;
	b->chunks_cap = cap;
	return true;
}

bool mem_bytes_alloc(struct mem_space *s, struct mem_bytes *b, uint64_t size)
{
	uint64_t n = (size + MEM_CHUNK_BYTES - 1) / MEM_CHUNK_BYTES;

	b->nchunks = 0;
	b->small = NULL;
	b->size = 0;
	if (size <= MEM_SMALL_BYTES) {
		b->small = malloc(size ? size : 1);
		b->size = b->small ? size : 0;
		return b->small;
	}
	if (!table_for(b, n))
		return false;
	while (b->nchunks < n) {
		char *c = chunk_take(s);

		if (!c) {
			mem_bytes_free(s, b);
			return false;
		}
		b->chunk[b->nchunks++] = c;
	}
	b->size = size;
	return true;
}

void mem_bytes_free(struct mem_space *s, struct mem_bytes *b)
{
	free(b->small);
	b->small = NULL;
	for (; b->nchunks; b->nchunks--) {
		char *c = b->chunk[b->nchunks - 1];

		*(void **)(void *)c = s->chunks;
		s->chunks = c;
	}
	b->size = 0;
}

void mem_bytes_fini(struct mem_bytes *b)
{
	free(b->chunk);
	*b = (struct mem_bytes){0};
}

void mem_space_fini(struct mem_space *s)
{
	for (uint32_t i = 0; i < s->narenas; i++)
		free(s->arenas[i]);
	free(s->arenas);
	*s = (struct mem_space){0};
}

/* The run of memory at `off`, cut to *len. */
static char *run_at(const struct mem_bytes *b, uint64_t off, uint64_t *len)
{
	uint64_t in = off % MEM_CHUNK_BYTES;

	if (b->small)
		return b->small + off;
	if (*len > MEM_CHUNK_BYTES - in)
		*len = MEM_CHUNK_BYTES - in;
	return b->chunk[off / MEM_CHUNK_BYTES] + in;
}

void mem_bytes_put(struct mem_bytes *b, uint64_t off, const void *from, uint64_t len)
{
	for (uint64_t n; len; len -= n) {
		char *p;

		n = len;
		p = run_at(b, off, &n);
		copy_away(p, from, n);
		from = (const char *)from + n;
		off += n;
	}
}

void mem_bytes_get(const struct mem_bytes *b, uint64_t off, void *to, uint64_t len)
{
	for (uint64_t n; len; len -= n) {
		const char *p;

		n = len;
		p = run_at(b, off, &n);
		memcpy(to, p, n);
		to = (char *)to + n;
		off += n;
	}
}
