/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gc_impl.h - the collector's inside, for gc.c (what and when), gc_gather.c (what still lives) and
 * gc_read.c (getting it).
 *
 * One round makes one object.  A round is a chain of stages, each a chain of background slices:
 *
 *   CHOOSE   look at every object, keep the cheapest                            gc.c
 *   HEADERS  read the victims' headers; find what the map still points to       gc_gather.c
 *   MERGE    the victims' pieces, each in LBA order, into one LBA order
 *   PLUG     fill small holes between them
 *   LAYOUT   where each piece goes in the new object
 *   TAKE     what the log has in memory                                         gc_read.c
 *   READ     the rest, verified
 *   CRC      of the new object; then it is put                                  gc.c
 *   PUTTING  until it is applied
 */
#ifndef LSVD_VOLUME_GC_IMPL_H
#define LSVD_VOLUME_GC_IMPL_H

#include "volume/victim.h"
#include "volume/volume_impl.h"

enum {
	VICTIMS_MAX = 64,
	PLUGS_MAX = 256,
	GETS_MAX = 4,		/* store GETs in flight */
	SSD_READS_MAX = 8,	/* reads of the pool in flight */
	GET_BYTES = 1 << 20,	/* at most, but for a header */
	PIECE_SECTORS = 1024,	/* a longer extent is several pieces */
	GATHER_SLICE = 128,	/* extents */
	PIECES_SLICE = 2048,	/* in passes that only look at them */
	MOVE_SLICE = 256 << 10, /* bytes copied or verified */
	AVOID_MAX = 64,
};

enum gc_stage {
	GC_IDLE,
	GC_CHOOSE,
	GC_HEADERS,
	GC_MERGE,
	GC_PLUG,
	GC_LAYOUT,
	GC_TAKE,
	GC_READ,
	GC_CRC,
	GC_PUTTING
};

/* What a slice of a stage says; errors are negative. */
enum gc_step { GC_AGAIN, GC_DONE, GC_WAIT /* a request will come back */ };

/* Where a piece's data is. */
enum gc_where { AT_STORE, AT_LOG, AT_POOL, AT_HAND /* in the buffer */ };

/* A run of sectors to move. */
struct piece {
	uint64_t lba;
	uint32_t len, off; /* sectors; off: in its object's data */
	uint32_t at;	   /* sectors in the new object's data */
	uint16_t source;   /* a victim, or VICTIMS_MAX + a plug */
	uint8_t where;
};

struct gc_source {
	struct object_ref ref;
	struct victim victim;
	uint32_t crc_at, crcs; /* in c->crc, */
	uint32_t crc_bytes;    /* of so much data each */
	uint32_t first, end;   /* of its pieces, in c->order */
	bool gone;	       /* died and was deleted meanwhile */
	uint64_t moved_sectors;
	uint64_t skipped_sectors; /* overwritten in the journal */
};

/* A plug's object, or where it was. */
struct gc_plug {
	uint32_t slot;
	uint64_t seq;
};

/* A GET of a header, or of a range of a victim's data. */
struct gc_get {
	struct collector *c;
	struct store_req req;
	struct iovec iov;
	struct err err;
	struct loop_timer retry;
	uint8_t *buf;
	size_t cap;
	uint32_t source, tries;
	bool busy, ready, damaged, again;
	uint64_t off, len;  /* bytes of the object */
	uint32_t next, end; /* data: in c->order; header: extents gathered so far, and all */
	uint32_t verified;  /* CRC chunks below this one are done */
	struct object_header h;
};

/* A read of the pool: the log's or the read cache's. */
struct gc_read {
	struct collector *c;
	struct cache_req req;
	struct pool_io io;
	bool busy;
};

struct collector {
	struct volume *v;
	enum gc_stage stage;
	struct loop_task task;
	struct loop_timer retry;
	const struct victim_policy *policy;
	bool running;			   /* between gc.start and gc.stop */
	uint64_t moved_before, written_before; /* statistics when it began to run */
	uint32_t target_percent;	   /* asked for by volume_gc; 0: none */
	bool stuck;			   /* nothing could be gained ... */
	uint64_t stuck_stored, stuck_live; /* ... with so many sectors */
	struct {
		uint64_t seq, until; /* not before the journal is covered up to `until` */
	} avoid[AVOID_MAX];
	uint32_t navoid;
	uint64_t life;			   /* see victim.h */
	uint64_t pinned_data, pinned_live; /* sectors kept by snapshots, as of the last round */

	/* this round */
	int status;
	uint32_t in_flight;
	uint32_t at; /* where the stage is */
	struct victim_set best;
	uint64_t pinned_seq, pinning_data, pinning_live;
	struct gc_source source[VICTIMS_MAX];
	uint32_t nsources, headers_asked, headers_done;
	uint32_t *crc;
	uint32_t ncrc, crc_cap;
	struct gc_plug plug[PLUGS_MAX];
	uint32_t nplugs;
	struct piece *pieces, *other; /* other: the merge's second buffer */
	uint32_t npieces, pieces_cap, other_cap;
	uint64_t live_sectors, plug_sectors;
	uint32_t run[VICTIMS_MAX + 2], nruns; /* sorted runs of pieces: run[i] to run[i + 1] */
	uint32_t *order;		      /* pieces by source and offset */
	uint32_t order_cap;
	uint32_t plan_source, plan_at; /* what is read next */
	uint32_t pool_at, pool_end;    /* in order: to be read from the pool */
	uint64_t get_cost;	       /* bytes that a GET more is worth */
	struct outgoing *o;
	uint8_t *buf; /* the new object's data; used again, for first touch of memory is slow */
	uint64_t buf_bytes;
	struct gc_get get[GETS_MAX];
	struct gc_read read[SSD_READS_MAX];
};

/* ---- gc.c ---- */
void gc_kick(struct collector *c);
void gc_avoid(struct collector *c, uint64_t seq, uint64_t until);
bool gc_still_there(const struct collector *c, const struct gc_source *s);
/* Make room for `need` items in *array; -ENOMEM. */
int gc_grow(void *array, uint32_t *cap, uint32_t need, size_t size) MUST_CHECK;

/* ---- gc_gather.c ---- */
int gc_headers(struct collector *c) MUST_CHECK;
int gc_merge(struct collector *c) MUST_CHECK;
int gc_plug(struct collector *c) MUST_CHECK;
int gc_layout(struct collector *c) MUST_CHECK;

/* Is what the journal has not applied yet?  (The map has data there.) */
bool gc_is_dirty(const struct volume *v, const struct journal_hit *hit);

/* ---- gc_read.c ---- */
int gc_take(struct collector *c) MUST_CHECK;
int gc_read(struct collector *c) MUST_CHECK;
/* Read [off, off + len) of a source's object into a free slot. */
int gc_get_submit(struct gc_get *g, uint32_t source, uint64_t off, uint64_t len) MUST_CHECK;
/* The bytes of a GET do not match their CRC: once more (then NULL is returned), or -EBADMSG. */
int gc_get_again(struct gc_get *g) MUST_CHECK;
struct gc_get *gc_get_free(struct collector *c);
struct gc_get *gc_get_ready(struct collector *c);

#endif
