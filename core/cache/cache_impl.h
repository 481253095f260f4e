/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cache_impl.h - the cache's inside, for the rooms of core/cache only.
 *
 * A read is cut at chunk boundaries.  What is cached is read straight into the client's memory; a
 * miss becomes a *part* that waits for a *piece* (a chunk in flight, with its buffer); pieces that
 * lie side by side share a *fetch* (one GET).  A piece stays findable until it is on the SSD, so
 * that nothing is fetched twice.
 *
 *   piece: FREE -> FETCHING -> READY (verified, being filled) -> FREE
 *
 * Parts, pieces and fetches come from arrays sized at open.  A request that finds none queues and
 * goes on, from where it was, when something comes back; what is out always comes back by itself.
 */
#ifndef LSVD_CACHE_CACHE_IMPL_H
#define LSVD_CACHE_CACHE_IMPL_H

#include "cache/cache.h"
#include "cache/rcache.h"

enum {
	UNIT = OBJECT_CRC_BYTES_V1, /* part of a chunk: can be verified in every version */
	RUN_BYTES = 8 << 20,	    /* most of one GET */
	BUFFER_BYTES = 32 << 20,
	BUFFERS_MIN = 8,
	PARTS = 1024,
	FETCHES = 256,
	PIECE_BUCKETS = 1024,
	HEADER_BUCKETS = 4096,
	HEADER_CRC_BYTES = 64 << 20,
	HEADER_GUESS = 64 << 10, /* first GET of a header of unknown length */
	RETRY_MAX_MS = 5000,
};
static const uint64_t RETRY_GIVE_UP_NS = 30000000000ull;

/* Pieces of headers: chunk counts down. */
static inline uint32_t header_chunk(uint32_t piece)
{
	return UINT32_MAX - piece;
}

struct piece;
struct hload;

struct part {
	struct pool_io io;
	struct cache_req *r;
	struct part *next;
	struct piece *bounce; /* its buffer, for reads that are not aligned to 4 KiB */
	uint8_t *dst;
	uint32_t chunk, off, len; /* bytes in the chunk */
	uint8_t source;
};

enum piece_state { PIECE_FREE, PIECE_FETCHING, PIECE_READY, PIECE_BOUNCE };

struct piece {
	struct fill fill; /* its key, memory and what was touched of it */
	struct cache *c;
	struct piece *hash_next, *next;
	struct part *parts, **parts_last;
	struct cache_prefetch *owner; /* told when it is there */
	uint32_t off, len;	      /* bytes of the chunk that are fetched */
	uint8_t state, tries;
	bool prefetch;
};

struct retry {
	struct loop_timer timer;
	uint64_t first_ns;
	uint32_t delay_ms;
};

struct fetch {
	struct store_req req;
	struct iovec *iov;
	struct cache *c;
	struct object_ref ref;
	struct chunk_key key;		      /* of the object: chunk is not used */
	uint64_t off, len;		      /* in the object's data */
	uint64_t room;			      /* most it may grow to */
	struct piece *pieces, **last, *later; /* later: to be fetched again, one by one */
	struct hload *header;		      /* waited for */
	struct fetch *next; /* of those that wait for the same header; of the free ones */
	struct retry retry;
	struct loop_task task;
	uint32_t count;
	int status;
	bool active, prefetch, fold, arrived, damaged;
};

/* The CRCs of one object's data. */
struct hrec {
	struct hrec *hash_next, *newer, *older;
	uint64_t seq;
	uint32_t stream, count, crc_bytes;
	uint32_t crc[];
};

enum hload_state { HLOAD_FOLDED, HLOAD_POOL, HLOAD_GET, HLOAD_DONE };

/* A header on its way: one allocation per first touch of an object. */
struct hload {
	struct cache *c;
	struct hload *prev, *next;
	struct object_ref ref;
	struct chunk_key key;
	struct object_header header;
	uint8_t *buf;
	uint32_t room, got;
	uint32_t piece;	       /* of the pool, being read or filled */
	struct fetch *fetches; /* that need it */
	struct cache_header *getters;
	struct store_req req;
	struct iovec iov;
	struct retry retry;
	struct fill fill;
	uint8_t state, tries;
};

struct runner; /* readahead and prefetch: freed when their last request is over */

struct cache {
	struct loop *loop;
	struct rcache rc;
	bool on; /* rc is there */
	uint32_t chunk_bytes, chunk_shift;
	uint32_t retry_ms;
	struct streams streams;
	struct cache_stats stats;
	/* arrays sized at open; the free lists are filled as they are first used */
	struct piece *pieces, *piece_free;
	uint8_t *mem;
	uint32_t npieces, pieces_used, pieces_out;
	struct part *parts, *part_free;
	uint32_t parts_used;
	struct fetch *fetches, *fetch_free;
	struct iovec *iovs;
	uint32_t fetches_used, fetches_out, run_pieces;
	struct piece *bucket[PIECE_BUCKETS];
	/* headers */
	struct hrec *hbucket[HEADER_BUCKETS], *hnewest, *holdest;
	uint64_t hbytes;
	struct hload *hloads;
	/* who waits for a part, piece or fetch */
	struct cache_req *wait_first, **wait_last;
	struct cache_prefetch *ahead_first, **ahead_last;
	struct part *lost; /* their cached copy was bad */
	struct loop_task pump;
	struct runner *runners;
};

/* A GET being put together from neighbouring pieces. */
struct run {
	struct fetch *f;
	uint64_t max;
	bool prefetch;
};

/* ---- fetch.c ---- */
struct piece *piece_find(
	const struct cache *c, const struct chunk_key *k, uint32_t off, uint32_t len);
struct piece *piece_get(struct cache *c, bool prefetch); /* NULL: queue */
/* Who runs ahead leaves a quarter of the buffers to those who wait. */
static inline uint32_t pieces_for_prefetch(const struct cache *c)
{
	return c->npieces / 4 * 3;
}
void piece_put(struct piece *p);
void piece_touch(struct piece *p, uint32_t off, uint32_t len, uint8_t *source);
/* Add [off, off+len) of a chunk to the run, or begin a new one; NULL: out of something. */
struct piece *run_add(struct cache *c, struct run *run, const struct object_ref *ref,
	const struct chunk_key *k, uint32_t off, uint32_t len);
void run_submit(struct run *run);
bool fetch_wanted(const struct fetch *f);
void fetch_header_over(struct fetch *f, int status);
bool retry_later(struct cache *c, struct retry *r);
void cache_pump(struct cache *c); /* something came back */

/* ---- header.c ---- */
bool header_known(const struct cache *c, const struct chunk_key *k);
const struct hrec *header_find(struct cache *c, const struct chunk_key *k);
/* Make f wait for its object's header, unless it turns out to be known (f->header stays NULL);
 * *fold (may be NULL): f is to bring it along.  -ENOMEM. */
int header_want(struct cache *c, struct fetch *f, bool *fold) MUST_CHECK;
void header_folded(struct hload *h, int64_t got); /* bytes of the header that came */
void header_unfold(struct hload *h);		  /* f failed; it has left already */
void header_leave(struct fetch *f);
void header_forget(struct cache *c, const struct chunk_key *k);
void headers_fini(struct cache *c);

/* ---- cache.c ---- */
void part_over(struct part *q, int status);
void prefetch_piece_over(struct cache_prefetch *p, int status);

/* ---- runners ---- */
struct runner {
	struct runner *next;
	struct cache *c;
	uint32_t out; /* requests that will still come back */
	bool dead;
	void (*free)(struct runner *r);
};
void runner_add(struct cache *c, struct runner *r);
void runner_free(struct runner *r); /* now, or when `out` is 0 */
void runner_back(struct runner *r); /* one request came back */

#endif
