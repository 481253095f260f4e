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
 * story.
 */
#include "journal/journal_impl.h"

#include "sys/crc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct replay {
	struct journal *j;
	struct pool_journal found;
	uint8_t *buf[POOL_LEGS_MAX]; /* one frame, per leg */
	uint64_t covered, next;	     /* next: the record number we look for */
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
	for (uint32_t i = 0; i < h->blocks; i++)
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

		if (leg == good || !memcmp(r->buf[leg] + at, r->buf[good] + at,
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

/* A whole record at `block`?  1 and its length, 0 when there is none that counts, or -errno. */
static int visit(struct replay *r, struct segment *s, uint64_t ord, uint32_t block, uint64_t limit,
	uint32_t *blocks)
{
	struct record_header h;
	unsigned leg = 0, legs = pool_legs(r->j->pool);
	int rc;

	while (leg < legs && !whole(r, s, block, leg, &h))
		leg++;
	if (leg == legs || h.seq >= limit)
		return 0;
	*blocks = 1 + h.blocks;
	if (h.flushed > r->flushed)
		r->flushed = h.flushed;
	if (h.seq > r->next)
		return 1;
	log_segment(r->j, ord)->last_seq = h.seq;
	if (h.seq < r->next)
		return 1; /* covered */
	rc = mend(r, s, block, &h, leg);
	if (rc < 0)
		return err_set(r->err, rc, "journal: mend a leg: %s", strerror(-rc));
	r->next++;
	hand_over(r, s, ord, block, &h,
		r->buf[leg] + (size_t)(block % r->j->frame_blocks) * POOL_BLOCK);
	return 1;
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

static int visit_segment(struct replay *r, struct segment *s, uint64_t ord, uint64_t limit)
{
	uint32_t per_frame = r->j->frame_blocks;

	for (uint32_t f = 0; f < r->j->frames_per_seg; f++) {
		uint32_t block = f * per_frame + (f == 0), n = 1;
		int rc = read_frame_of_legs(r, s, f);

		/* A frame may be left early for the next one, so every frame is looked at. */
		while (rc == 0 && block < (f + 1) * per_frame &&
			(rc = visit(r, s, ord, block, limit, &n)) == 1) {
			block += n;
			rc = 0;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Older segments do not count from where a later epoch began. */
static uint64_t limit_of(const struct replay *r, uint32_t i)
{
	uint64_t limit = UINT64_MAX;

	for (uint32_t k = i + 1; k < r->found.count; k++)
		if (r->found.segs[k]->epoch > r->found.segs[i]->epoch &&
			r->found.segs[k]->first_seq < limit)
			limit = r->found.segs[k]->first_seq;
	return limit;
}

static int visit_all(struct replay *r)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < r->found.count; i++) {
		struct log_segment *ls = log_segment_new(r->j, r->found.segs[i]);

		if (!ls)
			return -ENOMEM;
		journal_push_segment(r->j, ls);
		rc = visit_segment(r, ls->seg, r->j->next_ord - 1, limit_of(r, i));
	}
	return rc;
}

int journal_replay(struct journal *j, uint64_t covered, uint64_t *replayed, struct err *e)
{
	struct replay r = {.j = j, .covered = covered, .next = covered + 1, .err = e};
	int rc = pool_find(j->pool, SEGMENT_JOURNAL, j->cfg.uuid, &r.found);

	for (unsigned i = 0; rc == 0 && i < pool_legs(j->pool); i++)
		if (posix_memalign(
			    (void **)&r.buf[i], POOL_BLOCK, (size_t)j->frame_blocks * POOL_BLOCK))
			rc = -ENOMEM;
	j->covered = covered;
	if (rc == 0)
		rc = visit_all(&r);
	if (rc == 0 && r.flushed >= r.next)
		rc = err_set(e, -EUCLEAN,
			"journal: record %" PRIu64
			" is damaged or missing, yet the log was flushed up to %" PRIu64
			": durable writes are gone; open without the journal to give them up",
			r.next, r.flushed);
	for (unsigned i = 0; i < POOL_LEGS_MAX; i++)
		free(r.buf[i]);
	free(r.found.segs);
	if (j->acked_seq < covered)
		j->acked_seq = covered;
	j->next_seq = j->acked_seq + 1;
	*replayed = r.replayed;
	if (rc == 0 && j->failed)
		rc = j->failed;
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
	free(found.segs);
	return rc;
}
