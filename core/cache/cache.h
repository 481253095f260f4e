/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cache.h - reading objects: the read cache in the pool, fetches from the store, and what runs
 * ahead.
 *
 * One cache per context, shared by all its images.  Keys are immutable object identities (I12): an
 * entry is never stale and harmless to lose.  Rooms:
 *   cache.c      the facade: cuts requests at chunks, hits, queues
 *   rcache.c     chunks on the SSD: fill, second chance; index.c: where they are
 *   summary.c    what survives a restart
 *   fetch.c      GETs: one per chunk however many wait for it; CRC checks (I10)
 *   header.c     object headers: in memory, in the pool, or by a GET
 *   readahead.c  sequential streams of one image
 *   prefetch.c   follows a boot profile ahead of the guest
 *
 * The data's way: cache_read -> in the cache? pool_read : fetch (GET of the aligned chunk, header
 * in parallel on first touch) -> verify -> copy to all waiters -> fill the cache.
 *
 * Loop thread only.  Requests are embedded by the caller.
 */
#ifndef LSVD_CACHE_CACHE_H
#define LSVD_CACHE_CACHE_H

#include "format/object.h"
#include "format/profile.h"
#include "format/trace.h"
#include "pool/pool.h"
#include "store/store.h"

#include <stdint.h>

struct cache;

/* One stored object, as the volume knows it.  Owned by the caller; valid until the request is done.
 */
struct object_ref {
	uint8_t uuid[16]; /* of the volume that wrote it: with epoch and seq its identity */
	uint64_t epoch, seq;
	uint32_t header_bytes, data_bytes;
	struct store *store;
	char name[STORE_NAME_MAX];
};

/* Zero it once before the first use; it may then be reused without zeroing. */
struct cache_req {
	struct object_ref ref;
	uint64_t off_bytes, len_bytes; /* in the object's data; multiples of 512 */
	void *buf;		       /* aligned to 512 */
	void (*done)(struct cache_req *r,
		int status); /* -ENOENT: the object is gone, look it up again */
	uint8_t source;	     /* out: enum trace_source: CACHE, PREFETCH (first use) or STORE */
	/* private */
	struct cache *cache;
	struct pool_io io;
	struct loop_task task;
	struct cache_req *next;
	uint64_t at_bytes; /* done so far, or asked for */
	uint32_t stream;
	uint32_t pending;
	int status;
};

struct cache_stats {
	uint64_t hit_bytes, prefetch_hit_bytes, miss_bytes; /* of cache_read */
	uint64_t gets, get_bytes;			    /* all GETs, headers included */
	uint64_t header_gets;
	uint64_t prefetch_gets, prefetch_bytes;
	uint64_t prefetch_used_bytes; /* of these, touched by a read at least once (4 KiB grains) */
	uint64_t prefetch_jumps;      /* times that a boot profile's queue was jumped */
	uint64_t filled_bytes, evicted_chunks, kept_chunks; /* kept: second chance */
	uint64_t crc_errors;
};

/* `p` may be NULL (no cache: every read is a fetch).  Opening loads the summaries of the cache
 * segments that the pool holds.  cfg: cache_enabled, cache_chunk_bytes (16 KiB is the least that
 * can be verified, so smaller values mean 16 KiB), store_retry_ms.
 * When the pool cannot hold a cache (chunks too large for its segments) it returns 0 all the same,
 * works without, and e->msg says so; else e->msg is left alone. */
int cache_open(struct loop *l, struct pool *p, const struct config *cfg, struct cache **out,
	struct err *e) MUST_CHECK;

/* Writes the summary of the open segment, so that it is there next time.  Waits for what runs in
 * the background; every request must have ended, and no store may be busy (cache_busy). Blocking:
 * polls the loop. */
void cache_close(struct cache *c);

/* Free without writing (after a simulated crash); also every readahead and prefetch that was not
 * freed before.  The pool must still be there. */
void cache_drop(struct cache *c);

/* True while a GET to this store is in flight, or one will follow: readahead and prefetch go on by
 * themselves.  Poll the loop until it is false before store_close(). */
bool cache_busy(const struct cache *c, const struct store *s);

/* Read from an object.  May cross chunks.  Store errors are retried for 30 s, then -EIO;
 * -ENOENT at once; -EBADMSG when bytes do not match their CRC after a second GET. */
void cache_read(struct cache *c, struct cache_req *r);

/* Fetch [off, off+len) of an object's data into the cache if it is not there, in one GET per run of
 * missing chunks of at most `get_bytes`; whole chunks.  done() when all of it is there or failed,
 * or on its way for somebody else.  Without a client waiting for it nothing is retried.  Counts as
 * prefetch.  `wanted`: bytes that were not there.  done NULL: `p` is not looked at after the
 * call, and what finds no buffer at once is left out. */
struct cache_prefetch {
	struct object_ref ref;
	uint64_t off_bytes, len_bytes;
	uint32_t get_bytes;
	void (*done)(struct cache_prefetch *p, int status);
	uint64_t wanted_bytes; /* out */
	/* private */
	struct cache *cache;
	struct loop_task task;
	struct cache_prefetch *next;
	uint64_t at_bytes;
	uint32_t stream;
	uint32_t pending;
	int status;
};
void cache_prefetch(struct cache *c, struct cache_prefetch *p);

/* Is all of [off, off+len) in the cache?  (GC takes cached data first.) */
bool cache_has(
	struct cache *c, const struct object_ref *ref, uint64_t off_bytes, uint64_t len_bytes);

/* The header of an object, decoded and verified (format/object.h), from the cache or by a GET. */
struct cache_header {
	struct object_ref ref; /* header_bytes may be 0: unknown; then the first GET is of 64 KiB */
	void (*done)(struct cache_header *h, int status);
	void *buf; /* out: malloc'ed, the caller frees it; valid when status is 0 */
	struct object_header header; /* out */
	/* private */
	struct cache *cache;
	struct cache_header *next;
	struct loop_task task;
	int status;
};
void cache_get_header(struct cache *c, struct cache_header *h);

/* The object is deleted: forget its chunks. */
void cache_forget(struct cache *c, const struct object_ref *ref);

void cache_get_stats(const struct cache *c, struct cache_stats *st);

/* Per-image accounting: reads are counted to the image by its io code from cache_req.source; GETs
 * by the image's store (struct store_counts). */

/* ---- running ahead (per image) ---- */

/* How readahead and prefetch see an image's map: resolve [lba, lba+len) (sectors) into runs of
 * objects; fn is called in LBA order for what lies in objects; holes and journal data are left out.
 */
struct cache_resolver {
	void (*resolve)(struct cache_resolver *r, uint64_t lba, uint64_t len,
		void (*fn)(void *arg, const struct object_ref *ref, uint64_t lba,
			uint64_t off_bytes, uint64_t len_bytes),
		void *arg);
	uint64_t size_sectors;
};

struct readahead;
/* max_bytes 0: does nothing.  NULL when memory is out. */
struct readahead *readahead_new(struct cache *c, struct cache_resolver *r, uint64_t max_bytes);
void readahead_free(
	struct readahead *ra); /* waits for nothing: prefetches in flight end by themselves */
/* Tell of a read by the client; may start prefetches.  Several interleaved streams are recognised;
 * the window doubles from 128 KiB (or two chunks) to max while the stream goes on. */
void readahead_saw(struct readahead *ra, uint64_t lba, uint64_t len);

struct prefetch;
/* Starts streaming at once, at most `ahead_bytes` ahead of what the client has touched and `depth`
 * GETs in flight (a few more where the data is scattered), each up to `get_bytes` of neighbouring
 * profile data in one object (profile order is object order in a reorganised image, so these are
 * long).  What the client asks for before its turn comes first.  Stops when the client leaves the
 * script: of the last 64 reads more than half were outside the profile, or more than half of what
 * it has gone past was not read.  Copies `ranges`.
 * get_bytes: at most 8 MiB (or a chunk, when that is more).  NULL when memory is out. */
struct prefetch *prefetch_new(struct cache *c, struct cache_resolver *r,
	const struct profile_range *ranges, uint32_t count, uint64_t ahead_bytes, uint32_t depth,
	uint32_t get_bytes);
void prefetch_free(struct prefetch *p);
void prefetch_saw(struct prefetch *p, uint64_t lba, uint64_t len);
bool prefetch_done(const struct prefetch *p);

#endif
