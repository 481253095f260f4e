/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* journal_impl.h - the journal's inside: segments, frames, the record being gathered. */
#ifndef LSVD_JOURNAL_JOURNAL_IMPL_H
#define LSVD_JOURNAL_JOURNAL_IMPL_H

#include "journal/journal.h"
#include "sys/prefault.h"

#include <stdatomic.h>

enum {
	FRAME_BLOCKS_MAX = 512,
	FRAMES_PER_SEGMENT_MAX = 512, /* 1 GiB / 2 MiB */
	RECORD_BLOCKS_MAX = 256,
	DEPTH_MAX = 16,
	SECTORS_PER_BLOCK = POOL_BLOCK / 512,
};

/* A piece of the log in memory. */
struct frame {
	uint8_t *mem;
	uint64_t no;	   /* position / frame sectors */
	uint64_t last_seq; /* of the records written into it; 0: it was read back */
	uint32_t holds;	   /* by destage */
	uint32_t writing;  /* records of it in flight or gathered */
	bool used, loading;
	struct journal_hold *waiting; /* for the load */
};

/* A pool segment with a part of this log. */
struct log_segment {
	struct segment *seg;
	uint64_t last_seq;	/* the highest of the records in it; 0 none */
	struct log_segment *next_unused;
	struct frame *frames[]; /* by index in the segment; NULL: not in memory */
};

/* A record: gathered, in flight, or waiting for its elders. */
struct record {
	struct pool_io io;
	struct frame *frame;
	uint64_t seq, pos;    /* of the header */
	uint32_t next_sector; /* fill, in sectors of data */
	uint32_t extents, blocks;
	bool in_flight, complete;
	bool late; /* acknowledged, and some legs are still at it */
	struct journal_req *first, **last; /* to acknowledge */
	struct journal *journal;
	struct record_extent ext[RECORD_EXTENTS_MAX];
	struct journal_extent out[RECORD_EXTENTS_MAX];
	uint32_t crc[1 + RECORD_BLOCKS_MAX]; /* of the header, and of each data block */
	bool partial[RECORD_BLOCKS_MAX];     /* CRC still to compute */
};

struct journal {
	struct journal_config cfg;
	struct pool *pool;
	struct loop *loop;
	struct extmap *map; /* lba -> pos */

	/* the log: segments by ordinal, first_ord <= ordinal < next_ord; clean below clean_ord */
	struct log_segment **segs;
	uint32_t segs_cap;
	uint64_t first_ord, clean_ord, next_ord;
	uint32_t seg_sectors, frame_blocks, frames_per_seg;
	struct log_segment *unused; /* given back */
	struct log_segment *spare; /* taken ahead; its header is being written or is */
	bool spare_ready, spare_taking, have_current;
	struct pool_io spare_io;
	struct pool_waiter waiter;
	struct pool_client client;
	uint32_t next_block; /* in the current segment */

	/* records: a ring by sequence number */
	struct record *records;
	uint64_t acked_seq, next_seq; /* acknowledged; of the record being gathered */
	struct record *gather;	      /* NULL: none */
	uint32_t in_flight, late;
	uint32_t slack; /* records that may be late */
	struct loop_task end_of_turn;
	struct journal_req *queue, **queue_tail; /* not copied yet */
	uint64_t covered;
	uint64_t last_zero_seq;

	/* admission */
	uint64_t rate, tokens_at;
	int64_t tokens;
	struct loop_timer admit_timer;

	/* flush */
	struct pool_io flush_io;
	struct journal_flush *flush_waiters, *flush_queue; /* of the one in flight; of the next */
	uint64_t flushed_seq, flush_covers;
	bool flush_runs, never_flushed;
	/* group commit of writers that flush: see flush.c */
	uint64_t acked_writes, flush_writes; /* since the last flush began; before that, since its elder */
	bool step;
	bool flush_ahead;	/* nobody had asked when the last one began */
	uint64_t flushes_asked; /* since it began */
	uint64_t flush_after;		/* the next one starts when this record is acknowledged */
	uint64_t flush_began, await_ns; /* the one in flight; the longest wait for one more writer */
	uint32_t awaited;		/* so many writers are expected to come back; 0: none */
	uint32_t arrived;		/* of them, when the timer was set */
	uint32_t await_failed, await_skip; /* waits in vain in a row; flushes before the next wait */
	struct loop_timer await_timer;

	/* frames */
	struct frame *frames;
	uint32_t nframes, frames_made;
	uint32_t own_frames;	   /* this journal's share; what is beyond is the process's (sys/memory.h) */
	uint32_t in_memory, extra; /* frames that have memory; of them, beyond the share */
	struct prefault *memory;
	struct loop_task memory_came; /* posted by the thread that touches it */
	atomic_bool memory_made;
	bool memory_awaited, no_memory; /* no_memory: the system had none when it was last asked */
	struct journal_hold *hold_queue, **hold_tail;

	uint64_t sweep_lba, sweep_tail;
	bool sweeping;
	int failed;
	uint64_t stalled_since;
	struct journal_stats stats;
};

static inline struct log_segment *log_segment(const struct journal *j, uint64_t ord)
{
	return j->segs[ord % j->segs_cap];
}

static inline uint64_t tail_pos(const struct journal *j)
{
	return j->first_ord * j->seg_sectors;
}

/* Where the next record goes. */
static inline uint64_t current_pos(const struct journal *j)
{
	return (j->next_ord - 1) * j->seg_sectors + (uint64_t)j->next_block * SECTORS_PER_BLOCK;
}

static inline struct frame **frame_slot(const struct journal *j, uint64_t frame_no)
{
	struct log_segment *ls = log_segment(j, frame_no / j->frames_per_seg);

	return &ls->frames[frame_no % j->frames_per_seg];
}

/* segments.c */
void segments_init(struct journal *j);
void segments_fini(struct journal *j);
struct log_segment *log_segment_new(struct journal *j);
void journal_push_segment(struct journal *j, struct log_segment *ls);
/* Blocks left for a record, header included, where the log is. */
uint32_t journal_room(const struct journal *j);
/* Move on to where a record of 1 + blocks fits.  False: wait for a segment. */
bool journal_find_room(struct journal *j, uint32_t blocks);
/* Take the next segment in good time: when half of this one is used. */
void journal_look_ahead(struct journal *j);
/* Raise clean_ord as far as it goes. */
void journal_find_clean(struct journal *j);
/* Take the first segment of this epoch and make it durable, together with what was replayed, so
 * that whoever opens the pool next knows where this epoch began.  Blocking. */
int journal_begin_epoch(struct journal *j) MUST_CHECK;

/* frames.c */
int frames_new(struct journal *j);
void frames_free(struct journal *j);
/* A frame for part `no` of the log, or NULL when all memory is held or being written. */
struct frame *frame_take(struct journal *j, uint64_t no);
void frames_drop_segment(struct journal *j, struct log_segment *ls);
/* A frame may have become free: holds that wait for one try again. */
void frames_retry_holds(struct journal *j);

/* replay.c: blocking */
int journal_flush_pool(struct pool *p) MUST_CHECK;

/* admit.c */
void admit_init(struct journal *j);
void admit_fini(struct journal *j);
bool journal_admitted(struct journal *j);
/* `q` went into a record. */
void journal_charge(struct journal *j, const struct journal_req *q);
/* Writers wait from now on. */
void journal_stalled(struct journal *j);

/* flush.c */
void flush_init(struct journal *j);
void flush_fini(struct journal *j);
/* So many records are worth having in flight. */
uint32_t flush_depth(const struct journal *j);
/* The gathered record waits for writers that are expected in a moment. */
bool flush_awaits_more(struct journal *j);
/* The gathered record is written: whoever was waited for came. */
void flush_record_goes(struct journal *j);
/* Records were acknowledged, or the journal has failed: a flush may have waited for that. */
void flush_go_on(struct journal *j);
/* A record is on the disk: in step it is flushed before its writers ask. */
void flush_record_done(struct journal *j);

/* lookup.c */
void journal_enter(struct journal *j, const struct journal_extent *x, uint64_t seq);
/* Forget some stale entries. */
void journal_sweep(struct journal *j, uint32_t n);

/* journal.c */
void journal_kick(struct journal *j);

#endif
