/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * journal.c - group commit: gather, write, acknowledge in order.
 *
 * A record's life:   gathered --seal--> in flight --all legs--> complete --elders first-->
 * acknowledged (add)           (seal_gather)   (record_written)        (acknowledge)
 *
 * A write waits in `queue`, uncopied, while there is no record to take it: none free, no frame, no
 * segment (the pool is full of dirty data), or admission is throttled.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"
#include "sys/copy.h"
#include "sys/crc.h"
#include "sys/iov.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { EARLY_BLOCKS = 16 };

/* Records that completed wait for their elders, so there are more of them than `depth`. */
static uint64_t ring_size(const struct journal *j)
{
	return 2 * j->cfg.depth + 2 + j->slack;
}

static struct record *record_at(const struct journal *j, uint64_t seq)
{
	return &j->records[seq % ring_size(j)];
}

/* ---- gathering ---- */

static uint32_t fill_after(uint32_t next_sector, uint64_t len)
{
	uint32_t in_block = next_sector % SECTORS_PER_BLOCK;

	/* 4 KiB or more, or what would cross: from a block boundary. */
	if (in_block && (len >= SECTORS_PER_BLOCK || in_block + len > SECTORS_PER_BLOCK))
		next_sector += SECTORS_PER_BLOCK - in_block;
	return next_sector + (uint32_t)len;
}

static bool fits(const struct journal *j, const struct record *r, const struct journal_req *q)
{
	uint32_t blocks = r->blocks;

	if (q->kind == EXTENT_DATA)
		blocks = (fill_after(r->next_sector, q->len) + SECTORS_PER_BLOCK - 1) /
			 SECTORS_PER_BLOCK;
	return r->extents < RECORD_EXTENTS_MAX && record_fits(r->extents + 1, blocks) &&
	       blocks <= RECORD_BLOCKS_MAX && 1 + blocks <= journal_room(j) &&
	       (r->extents == 0 || (uint64_t)blocks * POOL_BLOCK <= j->cfg.record_bytes);
}

/* Holds go first: destage must get on, or writers would wait for ever. */
static struct frame *frame_for_writing(struct journal *j, uint64_t frame_no)
{
	frames_retry_holds(j);
	return j->hold_queue ? NULL : frame_take(j, frame_no);
}

static struct record *open_record(struct journal *j, uint32_t blocks)
{
	struct record *r = record_at(j, j->next_seq);
	uint64_t frame_no;
	struct frame *f;

	if (j->next_seq - j->acked_seq >= ring_size(j) || r->late || !journal_find_room(j, blocks))
		return NULL;
	frame_no = current_pos(j) / journal_frame_sectors(j);
	f = *frame_slot(j, frame_no);
	if (!f)
		f = frame_for_writing(j, frame_no);
	if (!f) {
		journal_stalled(j);
		return NULL;
	}
	f->writing++;
	r->journal = j;
	r->frame = f;
	r->seq = j->next_seq;
	r->pos = current_pos(j);
	r->next_sector = r->extents = r->blocks = 0;
	r->in_flight = r->complete = false;
	r->first = NULL;
	r->last = &r->first;
	return r;
}

static uint8_t *record_memory(const struct journal *j, const struct record *r)
{
	return r->frame->mem + r->pos % journal_frame_sectors(j) * 512;
}

/* Copy the data behind the header; whole blocks get their CRC while they are hot, and the memory of
 * the next block, which the log came by long ago, is fetched meanwhile. */
static void copy_data(
	struct journal *j, struct record *r, const struct journal_req *q, uint32_t off)
{
	uint8_t *data = record_memory(j, r) + POOL_BLOCK;
	struct iov_cursor c = iov_at(q->iov, q->iov_off);
	uint32_t end = off + (uint32_t)q->len;

	for (uint32_t s = off; s < end;) {
		uint32_t b = s / SECTORS_PER_BLOCK, in_block = s % SECTORS_PER_BLOCK;
		uint32_t n = SECTORS_PER_BLOCK - in_block < end - s ? SECTORS_PER_BLOCK - in_block
								    : end - s;
		uint8_t *block = data + (size_t)b * POOL_BLOCK;

		if (b >= r->blocks) {
			r->blocks = b + 1;
			r->partial[b] = n < SECTORS_PER_BLOCK;
			if (r->partial[b])
				memset(block, 0, POOL_BLOCK);
		}
		iov_read(&c, block + (size_t)in_block * 512, (size_t)n * 512);
		copy_expect_to(block + POOL_BLOCK, POOL_BLOCK);
		if (!r->partial[b])
			r->crc[1 + b] = crc32c(0, block, POOL_BLOCK);
		s += n;
	}
}

static void add(struct journal *j, struct record *r, struct journal_req *q)
{
	struct journal_extent *x = &r->out[r->extents];
	uint32_t off = 0;

	if (q->kind == EXTENT_DATA) {
		r->next_sector = fill_after(r->next_sector, q->len);
		off = r->next_sector - (uint32_t)q->len;
		copy_data(j, r, q, off);
	}
	r->ext[r->extents] = (struct record_extent){
		.lba = q->lba, .len = (uint32_t)q->len, .off = off, .kind = q->kind};
	*x = (struct journal_extent){.lba = q->lba,
		.len = (uint32_t)q->len,
		.kind = q->kind,
		.pos = q->kind == EXTENT_DATA ? r->pos + SECTORS_PER_BLOCK + off : 0};
	r->extents++;
	journal_enter(j, x, r->seq);
	q->next = NULL;
	*r->last = q;
	r->last = &q->next;
}

/* ---- sealing and acknowledging ---- */

static void acknowledge(struct journal *j)
{
	while (j->acked_seq + 1 < j->next_seq) {
		struct record *r = record_at(j, j->acked_seq + 1);
		struct journal_req *q = r->first;

		if (!r->complete && !(MUTANT(ACK_EARLY) && r->in_flight))
			return;
		j->acked_seq = r->seq;
		j->acked_writes += r->extents;
		/* Legs that need not have it may still be reading the frame. */
		r->late = pool_pending(&r->io);
		j->late += r->late;
		if (!r->late && --r->frame->writing == 0)
			frames_retry_holds(j);
		if (!j->failed)
			j->cfg.owner->on_record(j->cfg.owner, r->seq, r->out, r->extents);
		while (q) {
			struct journal_req *next = q->next;

			q->done(q, j->failed); /* I1 */
			q = next;
		}
	}
}

static void record_written(struct pool_io *io, int status)
{
	struct record *r = container_of(io, struct record, io);
	struct journal *j = r->journal;

	r->in_flight = false;
	r->complete = true;
	j->in_flight--;
	if (status < 0 && !MUTANT(IGNORE_WRITE_ERROR))
		journal_fail(j, status);
	acknowledge(j);
	flush_go_on(j);
	flush_record_done(j);
	journal_sweep(j, 2 * r->extents + 4);
	journal_kick(j);
}

/* Now every leg has it, or was dropped. */
static void record_over(struct pool_io *io)
{
	struct record *r = container_of(io, struct record, io);
	struct journal *j = r->journal;

	if (!r->late)
		return;
	r->late = false;
	j->late--;
	if (--r->frame->writing == 0)
		frames_retry_holds(j);
	journal_kick(j);
}

static void seal_gather(struct journal *j)
{
	struct record *r = j->gather;
	uint8_t *mem = record_memory(j, r);
	uint64_t ord = r->pos / j->seg_sectors;
	struct log_segment *ls = log_segment(j, ord);
	struct record_header h = {.epoch = j->cfg.epoch,
		.seq = r->seq,
		.flushed = j->flushed_seq,
		.extents = r->extents,
		.blocks = r->blocks};

	flush_record_goes(j);
	j->gather = NULL;
	j->next_seq++;
	j->in_flight++;
	ls->last_seq = r->frame->last_seq = r->seq;
	memcpy(h.uuid, j->cfg.uuid, 16);
	r->io.seg = ls->seg;
	r->io.block = (uint32_t)(r->pos % j->seg_sectors / SECTORS_PER_BLOCK);
	r->io.blocks = 1 + r->blocks;
	h.place = pool_place(j->pool, r->io.seg, r->io.block);
	for (uint32_t b = 0; b < r->blocks; b++)
		if (r->partial[b])
			r->crc[1 + b] = crc32c(0, mem + (size_t)(1 + b) * POOL_BLOCK, POOL_BLOCK);
	record_encode(&h, r->ext, &r->crc[1], mem);
	r->crc[0] = crc32c(0, mem, POOL_BLOCK);
	j->next_block += 1 + r->blocks;
	j->stats.records++;
	j->stats.bytes += (uint64_t)(1 + r->blocks) * POOL_BLOCK;
	r->in_flight = true;
	r->io.done = record_written;
	pool_append(j->pool, &r->io, mem, r->crc, record_over);
	journal_look_ahead(j);
}

/* ---- the queue ---- */

/* While the disk is idle, the first part of what arrives goes at once, and the rest is copied
 * meanwhile: so disk and processor work at the same time, and go on to do so. */
static void seal_early(struct journal *j)
{
	if (j->in_flight || !j->gather || j->gather->blocks < EARLY_BLOCKS || flush_awaits_more(j))
		return;
	seal_gather(j);
	loop_submit(j->loop);
}

static bool try_add(struct journal *j, struct journal_req *q)
{
	uint32_t blocks = q->kind == EXTENT_DATA
				  ? (uint32_t)((q->len + SECTORS_PER_BLOCK - 1) / SECTORS_PER_BLOCK)
				  : 0;

	if (j->gather && !fits(j, j->gather, q)) {
		if (j->in_flight >= j->cfg.depth)
			return false;
		seal_gather(j);
		loop_submit(j->loop);
	}
	if (!j->gather)
		j->gather = open_record(j, blocks);
	if (!j->gather)
		return false;
	add(j, j->gather, q);
	journal_charge(j, q);
	seal_early(j);
	return true;
}

static void fail_queue(struct journal *j)
{
	struct journal_req *q = j->queue;

	j->queue = NULL;
	j->queue_tail = &j->queue;
	while (q) {
		struct journal_req *next = q->next;

		q->done(q, j->failed);
		q = next;
	}
}

static void drain_queue(struct journal *j)
{
	while (j->queue) {
		struct journal_req *q = j->queue, *next = q->next;

		if (!journal_admitted(j) || !try_add(j, q))
			return;
		j->queue = next;
		if (!next)
			j->queue_tail = &j->queue;
	}
}

static void turn_over(struct loop_task *t)
{
	struct journal *j = container_of(t, struct journal, end_of_turn);

	if (j->failed) {
		if (j->gather) {
			struct record *r = j->gather;

			j->gather = NULL;
			j->next_seq++;
			r->complete = true;
			r->io.out = 0;
			acknowledge(j);
		}
		fail_queue(j);
		flush_go_on(j);
		return;
	}
	drain_queue(j);
	while (j->gather && j->in_flight < flush_depth(j) && !flush_awaits_more(j)) {
		seal_gather(j);
		drain_queue(j);
	}
}

void journal_kick(struct journal *j)
{
	if (j->queue || j->gather)
		loop_defer(j->loop, &j->end_of_turn);
}

void journal_write(struct journal *j, struct journal_req *r)
{
	assert(r->len && r->len <= (r->kind == EXTENT_DATA ? JOURNAL_WRITE_SECTORS_MAX
							   : JOURNAL_ZERO_SECTORS_MAX));
	r->next = NULL;
	loop_defer(j->loop, &j->end_of_turn);
	if (!j->failed && !j->queue && journal_admitted(j) && try_add(j, r))
		return;
	*j->queue_tail = r;
	j->queue_tail = &r->next;
}

/* ---- failing ---- */

void journal_fail(struct journal *j, int status)
{
	if (j->failed)
		return;
	j->failed = status; /* I13 */
	loop_defer(j->loop, &j->end_of_turn);
	j->cfg.owner->on_failed(j->cfg.owner, status);
}

/* ---- making and unmaking ---- */

int journal_new(const struct journal_config *cfg, struct journal **out, struct err *e)
{
	struct journal *j = calloc(1, sizeof(*j));
	uint32_t seg_blocks = pool_segment_blocks(cfg->pool);

	if (!j)
		return err_set(e, -ENOMEM, "journal: out of memory");
	j->cfg = *cfg;
	if (j->cfg.depth > DEPTH_MAX)
		j->cfg.depth = DEPTH_MAX;
	j->pool = cfg->pool;
	j->loop = cfg->loop;
	j->frame_blocks = seg_blocks < FRAME_BLOCKS_MAX ? seg_blocks : FRAME_BLOCKS_MAX;
	j->frames_per_seg = seg_blocks / j->frame_blocks;
	j->seg_sectors = seg_blocks * SECTORS_PER_BLOCK;
	j->segs_cap = pool_segments(cfg->pool) + 1;
	j->segs = calloc(j->segs_cap, sizeof(*j->segs));
	j->slack = pool_slack(cfg->pool);
	j->records = calloc(ring_size(j), sizeof(*j->records));
	j->map = extmap_new();
	j->queue_tail = &j->queue;
	j->next_seq = 1;
	j->never_flushed = true;
	j->end_of_turn.run = turn_over;
	segments_init(j);
	admit_init(j);
	flush_init(j);
	if (frames_new(j) < 0 || !j->segs || !j->records || !j->map) {
		journal_close(j);
		return err_set(e, -ENOMEM, "journal: out of memory");
	}
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	segments_fini(j);
	admit_fini(j);
	flush_fini(j);
	frames_free(j);
	free(j->records);
	if (j->map)
		extmap_free(j->map);
	free(j);
}

/* ---- facts ---- */

uint64_t journal_last_seq(const struct journal *j)
{
	return j->acked_seq;
}
bool journal_busy(const struct journal *j)
{
	return j->queue || j->gather || j->in_flight || j->late || j->flush_runs || j->flush_queue ||
	       j->spare_taking || j->hold_queue || j->memory_awaited || j->end_of_turn.queued;
}
void journal_get_stats(const struct journal *j, struct journal_stats *st)
{
	*st = j->stats;
}
