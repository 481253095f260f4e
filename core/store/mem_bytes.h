/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem_bytes.h - where a memory store keeps the bytes of its objects.
 *
 * Large objects are made of chunks of MEM_CHUNK_BYTES cut from huge pages; a freed chunk serves any
 * other object, whatever its size, since touching fresh memory costs more than copying into it.
 * Small ones are allocated as they come.  Chunks go back to the system with the space.
 *
 * No locks: the caller's.
 */
#ifndef LSVD_STORE_MEM_BYTES_H
#define LSVD_STORE_MEM_BYTES_H

#include <stdbool.h>
#include <stdint.h>

enum { MEM_CHUNK_BYTES = 256 << 10, MEM_SMALL_BYTES = 128 << 10 };

struct mem_space {
	void *chunks; /* free ones, linked through their first word */
	void **arenas;
	uint32_t narenas, arenas_cap;
};

/* Zero to begin with; may be used again after mem_bytes_free: its table of chunks stays. */
struct mem_bytes {
	uint64_t size;
	char *small;
	char **chunk;
	uint32_t nchunks, chunks_cap;
};

/* False: no memory; b is empty then. */
bool mem_bytes_alloc(struct mem_space *s, struct mem_bytes *b, uint64_t size);
void mem_bytes_free(struct mem_space *s, struct mem_bytes *b);
/* The table of chunks, too. */
void mem_bytes_fini(struct mem_bytes *b);
void mem_space_fini(struct mem_space *s);

void mem_bytes_put(struct mem_bytes *b, uint64_t off, const void *from, uint64_t len);
void mem_bytes_get(const struct mem_bytes *b, uint64_t off, void *to, uint64_t len);

#endif
