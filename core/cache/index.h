/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * index.h - where cached chunks are: a chained hash over a slab of 40-byte entries.
 *
 * Entries keep their number for life, so that a segment's entries can be chained too: evicting a
 * segment walks its own chain, not the index.  The writers of objects (uuid, epoch) are few and
 * interned: 4 bytes per chunk instead of 24.  Pure; sized once, except the table of writers.
 */
#ifndef LSVD_CACHE_INDEX_H
#define LSVD_CACHE_INDEX_H

#include "sys/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { INDEX_NONE = UINT32_MAX };

/* A chunk of an object's data, or (chunk counting down from UINT32_MAX) of its header. */
struct chunk_key {
	uint32_t stream; /* interned (uuid, epoch) */
	uint32_t chunk;
	uint64_t seq;
};

static inline uint64_t chunk_hash(const struct chunk_key *k)
{
	uint64_t h = (k->seq + ((uint64_t)k->stream << 40)) * 0x9E3779B97F4A7C15ull + k->chunk;

	h ^= h >> 32;
	h *= 0xD6E8FEB86659FD93ull;
	return h ^ h >> 32;
}

static inline bool chunk_key_equal(const struct chunk_key *a, const struct chunk_key *b)
{
	return a->seq == b->seq && a->chunk == b->chunk && a->stream == b->stream;
}

enum entry_flags {
	ENTRY_REF = 1,	    /* read since it was filled or last kept: a second chance */
	ENTRY_PREFETCH = 2, /* fetched ahead: touched[] tells what of it was wanted */
	ENTRY_FILLING = 4,  /* the write is in flight; not in the hash */
	ENTRY_DEAD = 8,	    /* forgotten or replaced; not in the hash, freed with its segment */
	ENTRY_LOADED = 16,  /* from a summary: touched[] does not go back far enough */
};

struct entry {
	struct chunk_key key;
	uint64_t touched;	       /* one bit per grain */
	uint32_t place;		       /* block in the pool */
	uint32_t next;		       /* in the bucket, or of the free ones */
	uint32_t seg_next;	       /* in the segment, in order of place */
	uint16_t blocks;	       /* 1..1024 */
	uint16_t from : 10, flags : 6; /* from: the chunk's first block that is kept */
};

static inline void entry_set(struct entry *e, enum entry_flags f)
{
	e->flags = (e->flags | (unsigned)f) & 63u;
}

static inline void entry_clear(struct entry *e, enum entry_flags f)
{
	e->flags = e->flags & ~(unsigned)f & 63u;
}

struct index {
	struct entry *e;
	uint32_t *bucket;
	uint32_t room, mask, used, free, count; /* count: in the hash */
};

int index_init(struct index *ix, uint32_t room) MUST_CHECK;
void index_fini(struct index *ix);

uint32_t index_find(const struct index *ix, const struct chunk_key *k); /* INDEX_NONE */
uint32_t index_alloc(struct index *ix);					/* INDEX_NONE: full */
void index_free(struct index *ix, uint32_t i);				/* not in the hash */
void index_link(struct index *ix, uint32_t i); /* its key is not there yet */
void index_unlink(struct index *ix, uint32_t i);

/* The interned writers.  stream_of: the number, made when absent; INDEX_NONE when memory is out. */
struct stream_id {
	uint8_t uuid[16];
	uint64_t epoch;
};
struct streams {
	struct stream_id *id;
	uint32_t *slot; /* open addressing, number + 1 */
	uint32_t count, mask, last;
};
uint32_t stream_of(struct streams *s, const uint8_t uuid[16], uint64_t epoch);
void streams_fini(struct streams *s);

#endif
