/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * replay.c - finding the log's end after a crash, and handing over what no object holds yet.
 *
 * Segments are visited in order of allocation, each read a frame at a time.  A record counts when
 * its header is ours and in its place, its data matches its CRCs, and its number is the next one.
 * A later epoch began where its first segment says; numbers from there on in older segments were
 * never part of what that opening saw, and are passed over.
 *
 * The first number that is missing is the log's end: what a machine crash lost was not flushed, so
 * it may have lost any record since the last flush and kept later ones.  But every record says how
 * far the log had been flushed when it was written, and when that lies beyond the end, durable
 * records are gone: then nothing is touched and the caller is told (-EUCLEAN).
 *
 * A record that only one leg has whole is copied to the other, so that both legs tell the same
 * story.  At the end all of it is made durable, and a segment of the new epoch with it: its
 * first_seq overrules for good what lies beyond the end.
 */
#include "journal/journal_impl.h"

#include "sys/crc.h"
#include "sys/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct replay {
	struct journal *j;
	struct pool_journal found;
	uint8_t *buf[POOL_LEGS_MAX]; /* one frame, per leg */
	uint64_t *limit;	     /* per segment found: records from here on do not count */
	uint64_t next;		     /* the record number we look for */
	uint64_t flushed;	     /* the furthest that any record says was flushed */
	uint64_t replayed;
	struct err *err;
};

static int read_frame(struct replay *r, struct segment *s, uint32_t frame, unsigned leg)
{
	struct pool_io io = {
		.seg = s, .block = frame * r->j->frame_blocks, .blocks = r->j->frame_blocks};

	pool_io_awaited(&io);
	pool_read_raw(r->j->pool, &io, r->buf[leg], leg);
	return pool_wait_io(r->j->pool, &io);
}

/* Is there a whole record of ours at `block` (of the segment) in this leg's copy? */
static bool whole(const struct replay *r, const struct segment *s, uint32_t block, unsigned leg,
	struct record_header *h)
{
	const struct journal *j = r->j;
	uint32_t in_frame = block % j->frame_blocks;
	const uint8_t *p = r->buf[leg] + (size_t)in_frame * POOL_BLOCK;

	if (record_decode(p, j->cfg.uuid, pool_place(j->pool, s, block), h, NULL) < 0 ||
		h->epoch != s->epoch || in_frame + 1 + h->blocks > j->frame_blocks)
		return false;
	for (uint32_t i = 0; i < h->blocks && !MUTANT(SKIP_RECORD_CRC); i++)
		if (crc32c(0, p + (size_t)(1 + i) * POOL_BLOCK, POOL_BLOCK) !=
			record_get_crc(p, h, i))
			return false;
	return true;
}

static int mend(struct replay *r, struct segment *s, uint32_t block, const struct record_header *h,
	unsigned good)
{
	size_t at = (size_t)(block % r->j->frame_blocks) * POOL_BLOCK;
	int rc = 0;

	for (unsigned leg = 0; rc == 0 && leg < pool_legs(r->j->pool); leg++) {
		struct pool_io io = {.seg = s, .block = block, .blocks = 1 + h->blocks};

		if (leg == good || MUTANT(NO_MENDING) ||
			!memcmp(r->buf[leg] + at, r->buf[good] + at,
				(size_t)io.blocks * POOL_BLOCK))
			continue;
		pool_io_awaited(&io);
		pool_write_leg(r->j->pool, &io, r->buf[good] + at, leg);
		rc = pool_wait_io(r->j->pool, &io);
	}
	return rc;
}

static void hand_over(struct replay *r, struct segment *s, uint64_t ord, uint32_t block,
	const struct record_header *h, const uint8_t *p)
{
	struct journal *j = r->j;
	struct journal_extent ext[RECORD_EXTENTS_MAX];
	uint32_t crc = crc32c(0, p, POOL_BLOCK);
	uint64_t data_pos = ord * j->seg_sectors + (uint64_t)(block + 1) * SECTORS_PER_BLOCK;

	pool_note_crcs(j->pool, s, block, 1, &crc);
	for (uint32_t i = 0; i < h->blocks; i++) {
		crc = record_get_crc(p, h, i);
		pool_note_crcs(j->pool, s, block + 1 + i, 1, &crc);
	}
	for (uint32_t i = 0; i < h->extents; i++) {
		struct record_extent x;

		record_get_extent(p, i, &x);
		ext[i] = (struct journal_extent){.lba = x.lba,
			.len = x.len,
			.kind = x.kind,
			.pos = x.kind == EXTENT_DATA ? data_pos + x.off : 0};
		journal_enter(j, &ext[i], h->seq);
	}
	j->acked_seq = h->seq;
	j->cfg.owner->on_record(j->cfg.owner, h->seq, ext, h->extents);
	r->replayed++;
}

static const uint8_t *block_of(const struct replay *r, uint32_t block, unsigned leg)
{
	return r->buf[leg] + (size_t)(block % r->j->frame_blocks) * POOL_BLOCK;
}

/* The leg with the newest whole record at `block`; the number of legs when there is none. */
static unsigned best_leg(const struct replay *r, const struct segment *s, uint32_t block,
	uint64_t limit, struct record_header *best)
{
	unsigned legs = pool_legs(r->j->pool), found = legs;
	struct record_header h;

	for (unsigned leg = 0; leg < legs; leg++) {
		if (!whole(r, s, block, leg, &h) || h.seq >= limit ||
			(found < legs && h.seq <= best->seq))
			continue;
		found = leg;
		*best = h;
	}
	return found;
}

/* No record counts at `block`; but does a header there tell how far the log was flushed? */
static void note_flushed(struct replay *r, const struct segment *s, uint32_t block, uint64_t limit)
{
	const struct journal *j = r->j;

	for (unsigned leg = 0; leg < pool_legs(j->pool); leg++) {
		struct record_header h;

		if (record_decode(block_of(r, block, leg), j->cfg.uuid,
			    pool_place(j->pool, s, block), &h, NULL) == 0 &&
			h.epoch == s->epoch && h.seq < limit && h.flushed > r->flushed)
			r->flushed = h.flushed;
	}
}

/* What is at `block`?  The number of blocks to go on by, or -errno. */
static int visit(struct replay *r, struct segment *s, uint64_t ord, uint32_t block, uint64_t limit)
{
	struct log_segment *ls = log_segment(r->j, ord);
	struct record_header h;
	unsigned leg = best_leg(r, s, block, limit, &h);
	int rc;

	if (leg == pool_legs(r->j->pool)) {
		note_flushed(r, s, block, limit);
		return 1;
	}
	if (h.flushed > r->flushed)
		r->flushed = h.flushed;
	/* Higher ones are beyond the end; lower ones covered, or left from an earlier life of the
	 * segment. */
	if (h.seq <= r->next && h.seq > ls->last_seq)
		ls->last_seq = h.seq;
	if (h.seq == r->next || (MUTANT(REPLAY_PAST_GAP) && h.seq > r->next)) {
		r->next = h.seq;
		rc = mend(r, s, block, &h, leg);
		if (rc < 0)
			return err_set(r->err, rc, "journal: mend a leg: %s", strerror(-rc));
		r->next++;
		hand_over(r, s, ord, block, &h, block_of(r, block, leg));
	}
	return (int)(1 + h.blocks);
}

static int read_frame_of_legs(struct replay *r, struct segment *s, uint32_t frame)
{
	unsigned bad = 0, legs = pool_legs(r->j->pool);

	for (unsigned leg = 0; leg < legs; leg++) {
		int rc = read_frame(r, s, frame, leg);

		if (rc == 0)
			continue;
		memset(r->buf[leg], 0, (size_t)r->j->frame_blocks * POOL_BLOCK);
		if (++bad == legs)
			return err_set(r->err, rc, "journal: read segment %u: %s", s->index,
				strerror(-rc));
	}
	return 0;
}

/* Every block is looked at that no whole record covers: behind a damaged record there may be others
 * that say it was durable, and a frame may have been left early for the next one. */
static int visit_segment(struct replay *r, struct segment *s, uint64_t ord, uint64_t limit)
{
	uint32_t per_frame = r->j->frame_blocks;

	for (uint32_t f = 0; f < r->j->frames_per_seg; f++) {
		uint32_t block = f * per_frame + (f == 0);
		int rc = read_frame_of_legs(r, s, f);

		while (rc >= 0 && block < (f + 1) * per_frame) {
			rc = visit(r, s, ord, block, limit);
			block += (uint32_t)rc;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Older segments do not count from where a later epoch began.  Segments come in order of
 * allocation, so epochs rise. */
static int find_limits(struct replay *r)
{
	uint64_t epoch = UINT64_MAX, later = UINT64_MAX, from = UINT64_MAX;

	r->limit = calloc(r->found.count + 1, sizeof(*r->limit));
	if (!r->limit)
		return -ENOMEM;
	for (uint32_t i = r->found.count; i-- > 0;) {
		const struct segment *s = r->found.segs[i];

		if (s->epoch != epoch) {
			epoch = s->epoch;
			later = from;
		}
		r->limit[i] = MUTANT(IGNORE_LIMIT) ? UINT64_MAX : later;
		if (s->first_seq < from)
			from = s->first_seq;
	}
	return 0;
}

static int visit_all(struct replay *r)
{
	int rc = find_limits(r);

	for (uint32_t i = 0; rc == 0 && i < r->found.count; i++) {
		struct log_segment *ls = log_segment_new(r->j);

		if (!ls)
			return -ENOMEM;
		ls->seg = r->found.segs[i];
		journal_push_segment(r->j, ls);
		rc = visit_segment(r, ls->seg, r->j->next_ord - 1, r->limit[i]);
	}
	return rc;
}

static int check_end(const struct replay *r)
{
	if (r->flushed < r->next || MUTANT(GAP_IS_END))
		return 0;
	return err_set(r->err, -EUCLEAN,
		"journal: record %" PRIu64
		" is damaged or missing, yet the log was flushed up to %" PRIu64
		": durable writes are gone; open without the journal to give them up",
		r->next, r->flushed);
}

int journal_replay(struct journal *j, uint64_t covered, uint64_t *replayed, struct err *e)
{
	struct replay r = {.j = j, .next = covered + 1, .err = e};
	int rc = pool_find(j->pool, SEGMENT_JOURNAL, j->cfg.uuid, &r.found);

	for (unsigned i = 0; rc == 0 && i < pool_legs(j->pool); i++)
		if (posix_memalign(
			    (void **)&r.buf[i], POOL_BLOCK, (size_t)j->frame_blocks * POOL_BLOCK))
			rc = -ENOMEM;
	j->covered = j->acked_seq = covered;
	if (rc == 0)
		rc = visit_all(&r);
	if (rc == 0)
		rc = check_end(&r);
	if (rc == 0)
		rc = j->failed;
	j->next_seq = j->acked_seq + 1;
	journal_find_clean(j);
	if (rc == 0 && r.found.count && !MUTANT(NO_NEW_EPOCH))
		rc = journal_begin_epoch(j);
	for (unsigned i = 0; i < POOL_LEGS_MAX; i++)
		free(r.buf[i]);
	free(r.found.segs);
	free(r.limit);
	*replayed = r.replayed;
	return rc;
}

uint64_t journal_epoch_in_pool(struct pool *p, const uint8_t uuid[16])
{
	uint64_t epoch = 0;

	for (uint32_t i = 0; i < pool_segments(p); i++) {
		const struct segment *s = pool_segment(p, i);

		if (s->role == SEGMENT_JOURNAL && !memcmp(s->owner, uuid, 16) && s->epoch > epoch)
			epoch = s->epoch;
	}
	return epoch;
}

int journal_flush_pool(struct pool *p)
{
	struct pool_io io;

	pool_io_awaited(&io);
	pool_flush(p, &io);
	return pool_wait_io(p, &io);
}

int journal_wipe(struct pool *p, const uint8_t uuid[16])
{
	struct pool_journal found;
	int rc = pool_find(p, SEGMENT_JOURNAL, uuid, &found);

	for (uint32_t i = 0; rc == 0 && i < found.count; i++) {
		struct pool_io io;

		pool_io_awaited(&io);
		rc = pool_give_durably(p, found.segs[i], &io);
		if (rc == 0)
			rc = pool_wait_io(p, &io);
	}
	if (rc == 0 && found.count)
		rc = journal_flush_pool(p);
	free(found.segs);
	return rc;
}
