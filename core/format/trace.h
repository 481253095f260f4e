/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.h - the codec of a block trace: blocks of records, versioned and checksummed.
 *
 * A trace file is a header block and then record blocks of TRACE_BLOCK_BYTES each (docs/FORMAT.md,
 * "Trace file").  Writing: trace_header_encode(), then per block trace_block_begin(), _add() until
 * it returns 0, _seal().  Reading: feed a trace_decoder block by block and take the records out.
 *
 * A torn tail is dropped and counted; a damaged block in the middle is skipped and counted, and the
 * next good one tells how many records are missing.  Pure; any thread; nothing is allocated.
 */
#ifndef LSVD_FORMAT_TRACE_H
#define LSVD_FORMAT_TRACE_H

#include "sys/bytes.h"
#include "sys/err.h"

#include <stdbool.h>
#include <stdint.h>

enum trace_op {
	TRACE_READ,
	TRACE_WRITE,
	TRACE_FLUSH,
	TRACE_DISCARD,
	TRACE_WRITE_ZEROES,
	TRACE_OPS
};
enum trace_flags { TRACE_FUA = 1, TRACE_ERROR = 2 };

/* Who served a read: the slowest of its parts. */
enum trace_source {
	TRACE_SRC_NONE,
	TRACE_SRC_ZERO,
	TRACE_SRC_JOURNAL,
	TRACE_SRC_CACHE,
	TRACE_SRC_PREFETCH,
	TRACE_SRC_STORE,
	TRACE_SRCS
};

struct trace_record {
	uint64_t submit_ns;   /* since the trace's start */
	uint64_t complete_ns; /* same; >= submit_ns; 0 = unknown */
	uint64_t offset_bytes;
	uint64_t len_bytes;
	uint8_t op; /* enum trace_op */
	uint8_t flags;
	uint8_t source;	 /* enum trace_source */
	uint8_t stream;	 /* which client: queue, connection, CPU */
	uint64_t object; /* sequence number of the object that served it; 0 = none */
};

enum {
	TRACE_VERSION = 1,
	TRACE_BLOCK_BYTES = 4096,
	TRACE_BLOCK_HEAD = 48, /* then come the records */
	TRACE_MAGIC_BYTES = 8,
	TRACE_COMMENT_MAX = 2047,
	TRACE_RECORD_MAX = 44, /* bytes of one coded record; 12 to 20 are usual */
};

#define TRACE_MAGIC "LSVDTRAC" /* how a trace file begins */

struct trace_header {
	uint8_t trace_uuid[16]; /* random per trace; binds the blocks */
	uint8_t image_uuid[16]; /* zero = unknown */
	uint64_t size_bytes;	/* of the image; 0 = unknown */
	uint64_t start_wall_ns; /* time 0 of the records, since 1970; 0 = unknown */
	char comment[TRACE_COMMENT_MAX + 1];
};

/* "read", "write", ...; "?" outside the enum. */
const char *trace_op_name(unsigned op);
const char *trace_source_name(unsigned source);

/* False for a record that no trace may hold: unknown op, flags or source, completion before
 * submission, or a time or an end beyond 2^63. */
static inline bool trace_record_ok(const struct trace_record *r)
{
	return r->op < TRACE_OPS && r->flags <= (TRACE_FUA | TRACE_ERROR) &&
	       r->source < TRACE_SRCS && (!r->complete_ns || r->complete_ns >= r->submit_ns) &&
	       (r->submit_ns | r->complete_ns) < 1ull << 63 && r->offset_bytes < 1ull << 63 &&
	       r->len_bytes <= (1ull << 63) - r->offset_bytes;
}

/* ---- writing ---- */

/* Fills block[TRACE_BLOCK_BYTES]. */
void trace_header_encode(const struct trace_header *h, uint8_t *block);

/* A block being filled.  `buf` is borrowed: TRACE_BLOCK_BYTES of the caller's. */
struct trace_block {
	uint8_t *buf;
	uint64_t first_record;	    /* records in the blocks before this one */
	uint64_t dropped;	    /* records dropped so far, in the whole trace */
	uint64_t base_ns;	    /* submit time of the first record */
	uint64_t prev_ns, prev_end; /* the deltas' state */
	uint32_t used, count;
};

void trace_block_begin(
	struct trace_block *b, uint8_t *buf, uint64_t first_record, uint64_t dropped);

/* 1: added; 0: the block is full; -EINVAL: !trace_record_ok(). */
int trace_block_add(struct trace_block *b, const struct trace_record *r);

/* Completes the bytes of `out` (b->buf, or a copy of it) as block number `seq` (1 is the first
 * after the header), with the first `count` records in the first `used` bytes of payload.  They are
 * b's own, or those b had at an earlier moment: a block that is still being filled can be
 * written in the meantime. */
void trace_block_seal(const struct trace_block *b, uint8_t *out, const uint8_t trace_uuid[16],
	uint64_t seq, uint32_t used, uint32_t count);

/* ---- reading ---- */

struct trace_counts {
	uint64_t records;	  /* delivered */
	uint64_t dropped;	  /* never recorded, says the recorder */
	uint64_t skipped_blocks;  /* damaged, with good ones after them */
	uint64_t skipped_records; /* in these */
	uint64_t torn_blocks;	  /* damaged or cut off at the end of the file */
};

struct trace_decoder {
	struct trace_header header;
	struct trace_counts counts;
	uint64_t blocks;   /* fed so far, the header included */
	uint64_t expected; /* records in the blocks fed so far */
	uint64_t bad_run;  /* damaged blocks since the last good one */
	uint64_t prev_ns, prev_end;
	struct reader r;
	uint32_t left;
};

void trace_decoder_init(struct trace_decoder *d);

/* The next TRACE_BLOCK_BYTES of the file (fewer only at its end), valid until the next feed.  The
 * first one is the header: -EUCLEAN not a trace or impossible contents, -EPROTO unknown version,
 * -EBADMSG damaged.  Later ones never fail: damage is counted. */
int trace_decoder_feed(
	struct trace_decoder *d, const uint8_t *buf, size_t len, struct err *e) MUST_CHECK;

/* The next record of the block fed last; false when there is none. */
bool trace_decoder_next(struct trace_decoder *d, struct trace_record *r);

/* The file ended: -EUCLEAN when it had no header.  Completes the counts. */
int trace_decoder_end(struct trace_decoder *d, struct err *e) MUST_CHECK;

#endif
