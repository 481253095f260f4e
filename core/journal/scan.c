/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * scan.c - what a pool holds of a volume's journal, for people: nothing is changed, nothing
 * replayed.
 *
 * Records are counted as replay would find them in a segment: in their place, of the segment's
 * epoch, and not from an earlier life of it.  Their data is not verified.
 */
#include "journal/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SCAN_BLOCKS = 512 };

struct scan {
	struct pool *pool;
	uint8_t *buf;
	struct journal_summary *sum;
};

static int read_blocks(struct scan *s, struct segment *seg, uint32_t block, uint32_t blocks)
{
	int rc = -EIO;

	for (unsigned leg = 0; rc < 0 && leg < pool_legs(s->pool); leg++) {
		struct pool_io io = {.seg = seg, .block = block, .blocks = blocks};

		pool_io_awaited(&io);
		pool_read_raw(s->pool, &io, s->buf, leg);
		rc = pool_wait_io(s->pool, &io);
	}
	return rc;
}

static void note(struct journal_summary *sum, const struct record_header *h)
{
	sum->records++;
	sum->bytes += (uint64_t)h->blocks * POOL_BLOCK;
	if (!sum->first_seq || h->seq < sum->first_seq)
		sum->first_seq = h->seq;
	if (h->seq > sum->last_seq)
		sum->last_seq = h->seq;
}

/* A frame, which no record straddles. */
static void count_frame(struct scan *s, const struct segment *seg, uint32_t first, uint32_t blocks)
{
	for (uint32_t b = first == 0; b < blocks; b++) {
		struct record_header h;

		if (record_decode(s->buf + (size_t)b * POOL_BLOCK, seg->owner,
			    pool_place(s->pool, seg, first + b), &h, NULL) < 0 ||
			h.epoch != seg->epoch || h.seq < seg->first_seq)
			continue;
		note(s->sum, &h);
		b += h.blocks;
	}
}

static int scan_segment(struct scan *s, struct segment *seg)
{
	uint32_t all = pool_segment_blocks(s->pool);
	int rc = 0;

	for (uint32_t first = 0; rc == 0 && first < all; first += SCAN_BLOCKS) {
		uint32_t n = all - first < SCAN_BLOCKS ? all - first : SCAN_BLOCKS;

		rc = read_blocks(s, seg, first, n);
		if (rc == 0)
			count_frame(s, seg, first, n);
	}
	return rc;
}

int journal_scan(struct pool *p, const uint8_t uuid[16], struct journal_summary *sum)
{
	struct scan s = {.pool = p, .sum = sum};
	struct pool_journal found;
	int rc = pool_find(p, SEGMENT_JOURNAL, uuid, &found);

	*sum = (struct journal_summary){.epoch = journal_epoch_in_pool(p, uuid)};
	if (rc == 0 && posix_memalign((void **)&s.buf, POOL_BLOCK, SCAN_BLOCKS * POOL_BLOCK))
		rc = -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < found.count; i++) {
		sum->segments++;
		rc = scan_segment(&s, found.segs[i]);
	}
	free(s.buf);
	free(found.segs);
	return rc;
}
