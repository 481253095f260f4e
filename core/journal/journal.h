/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * journal.h - the write journal of one volume: group commit into pool segments.
 *
 * Happy path: journal_write copies the data once, into the frame of the record being gathered, and
 * enters it in the journal map, so that reads see it; at the end of the loop's iteration, when
 * fewer than `depth` records are in flight (one, while writers flush: flush.c), the gathered record is written to every leg.  Records
 * are acknowledged in order (I1).  An acknowledged record is handed to the volume (on_record),
 * which puts it into an object and later says journal_covered(); a segment whose records are all
 * covered is *clean*: it serves reads until the pool wants it back (I5).
 *
 *   log position (pos)  sectors; segment ordinal * sectors per segment + sector in the segment
 *   frame               a piece of the log in memory, at most 2 MiB, never straddled by a record;
 * kept as long as there is memory, held while an object is made of it
 *
 * What fails: a record or flush that fails makes the journal fail for good (I13): everything in
 * flight and everything later gets that first error.  No room (pool full of dirty data): writes
 * wait. Closing: journal_close keeps the segments; journal_release gives them back (all is
 * covered).
 *
 * Loop thread only.  Requests are embedded by the caller.
 */
#ifndef LSVD_JOURNAL_JOURNAL_H
#define LSVD_JOURNAL_JOURNAL_H

#include "format/object.h"
#include "format/record.h"
#include "map/extmap.h"
#include "pool/pool.h"

enum {
	JOURNAL_WRITE_SECTORS_MAX = 256,     /* 128 KiB: callers cut larger writes, */
	JOURNAL_ZERO_SECTORS_MAX = 1u << 30, /* and zeroes and discards beyond 512 GiB */
};

struct journal;

/* What an acknowledged record holds; `pos` is of the data's first sector, 0 for zero and discard.
 */
struct journal_extent {
	uint64_t lba, pos;
	uint32_t len;
	uint8_t kind; /* enum extent_kind */
};

/* What the journal tells its volume. */
struct journal_owner {
	/* Record `seq` is acknowledged; ext[] is valid during the call. */
	void (*on_record)(struct journal_owner *o, uint64_t seq, const struct journal_extent *ext,
		uint32_t n);
	/* The journal has failed for good. */
	void (*on_failed)(struct journal_owner *o, int status);
	/* Writers wait because dirty segments fill the journal's share: put objects as fast as
	 * possible. */
	void (*on_full)(struct journal_owner *o);
};

struct journal_req {
	uint64_t lba; /* sectors */
	uint64_t len; /* sectors, <= JOURNAL_WRITE_SECTORS_MAX or, no data, JOURNAL_ZERO_SECTORS_MAX
		       */
	uint8_t kind; /* enum extent_kind */
	const struct iovec *iov; /* data: valid until done */
	size_t iov_off;		 /* bytes into iov where the data begins */
	void (*done)(struct journal_req *r, int status);
	struct journal_req *next; /* private */
};

struct journal_flush {
	void (*done)(struct journal_flush *f, int status);
	struct journal_flush *next; /* private */
	struct loop_task task;	    /* private */
	struct journal *journal;    /* private */
	int status;		    /* private */
};

struct journal_stats {
	uint64_t records, bytes, flushes; /* bytes written to one leg, headers included */
	uint64_t stalled_ns, stalls;	  /* writers waited for room: segment, memory, admission */
	uint64_t frames_loaded;
};

struct journal_config {
	struct loop *loop;
	struct pool *pool;
	uint8_t uuid[16]; /* of the volume */
	uint64_t epoch;	  /* of this opening */
	uint64_t record_bytes, ram_bytes; /* ram: of the log, this journal's own */
	uint64_t burst_bytes; /* and for dirty data, shared by all journals of the process */
	uint32_t depth, dirty_percent;
	struct journal_owner *owner;
};

int journal_new(const struct journal_config *cfg, struct journal **out, struct err *e) MUST_CHECK;

/* Find what earlier openings left in the pool, hand every record after `covered` to
 * owner->on_record in order, and mend legs.  Afterwards what was found is durable, and the journal
 * goes on at the next record number, in a segment of its own epoch.  Blocking: polls the loop.
 * `replayed`: records handed over.  -EUCLEAN: the journal has a hole where durable records were;
 * nothing was changed but that one leg may have been mended from the other. */
int journal_replay(
	struct journal *j, uint64_t covered, uint64_t *replayed, struct err *e) MUST_CHECK;

/* Does the pool hold segments of this volume, and of which newest epoch?  0: none. */
uint64_t journal_epoch_in_pool(struct pool *p, const uint8_t uuid[16]);

/* What the pool holds of a volume that is not open.  Reads all of it; blocking: polls the loop. */
struct journal_summary {
	uint64_t epoch, segments, records, bytes; /* newest epoch; bytes of data */
	uint64_t first_seq, last_seq;		  /* 0: no record */
};
int journal_scan(struct pool *p, const uint8_t uuid[16], struct journal_summary *sum) MUST_CHECK;

/* Give back every segment of the volume that the pool holds (an image removed; a journal given up).
 * Blocking: polls the loop. */
int journal_wipe(struct pool *p, const uint8_t uuid[16]) MUST_CHECK;

/* Free.  Nothing may be in flight.  Segments stay as they are, for replay. */
void journal_close(struct journal *j);

/* Everything is covered: give all segments back with durable free headers.  Blocking. */
int journal_release(struct journal *j) MUST_CHECK;

void journal_write(struct journal *j, struct journal_req *r);

/* Everything acknowledged so far is durable on every leg when done (I2). */
void journal_flush(struct journal *j, struct journal_flush *f);

/* Records up to `seq` are in objects that the map has applied (I5). */
void journal_covered(struct journal *j, uint64_t seq);

/* Nothing is accepted any more; what is queued or in flight ends with this error. */
void journal_fail(struct journal *j, int status);

/* Admit writes at this rate; 0: as they come. */
void journal_set_rate(struct journal *j, uint64_t bytes_per_s);

/* ---- reading ---- */

/* The first run at or after lba, cut to [lba, lba+len).  False: nothing of it is in the journal. */
struct journal_hit {
	uint64_t lba, len;
	uint64_t pos; /* EXTMAP_ZERO: reads as zeroes */
};
bool journal_find(struct journal *j, uint64_t lba, uint64_t len, struct journal_hit *hit);

/* The data at `pos` in memory, or NULL when its frame is not there; good until the loop's next
 * iteration. */
const void *journal_memory(struct journal *j, uint64_t pos);

/* Is the segment of `pos` clean: is all of it in applied objects? */
bool journal_is_clean(const struct journal *j, uint64_t pos);

/* Where `pos` is in the pool. */
struct segment *journal_place(
	struct journal *j, uint64_t pos, uint32_t *block, uint32_t *sector_in_block);

/* The CRCs of the block at `pos` and of those behind it, as pool_crcs() has them; NULL when `pos` is
 * inside a block.  Good as long as the segment is the journal's. */
const uint32_t *journal_crcs(struct journal *j, uint64_t pos);

/* ---- holding frames (destage) ---- */

struct journal_hold {
	uint64_t frame; /* number: pos / journal_frame_sectors */
	void (*done)(struct journal_hold *h, int status);
	void *owner;	    /* the caller's */
	const uint8_t *mem; /* out: the frame's bytes, until journal_unhold */
	/* private */
	struct journal *journal;
	struct journal_hold *next;
	struct pool_io io;
	struct loop_task task;
	struct frame *f;
	unsigned leg;
	int status;
};
uint64_t journal_frame_sectors(const struct journal *j);
uint32_t journal_frames(const struct journal *j); /* that its own memory allows */
void journal_hold(struct journal *j, struct journal_hold *h);
void journal_unhold(struct journal *j, struct journal_hold *h);

/* ---- facts ---- */
uint64_t journal_last_seq(const struct journal *j); /* last acknowledged; 0 none */
uint64_t journal_dirty_segments(const struct journal *j);
uint64_t journal_dirty_limit(const struct journal *j); /* in segments */
uint64_t journal_dirty_room(const struct journal *j);  /* bytes of the log up to that limit */
bool journal_busy(const struct journal *j);	       /* anything queued or in flight */
void journal_get_stats(const struct journal *j, struct journal_stats *st);
size_t journal_memory_bytes(const struct journal *j);
/* Writers no longer outrun the store: give back a frame of what was taken beyond the share. */
void journal_calm(struct journal *j);
/* Give memory of clean frames back, down to two. */
void journal_trim(struct journal *j);

#endif
