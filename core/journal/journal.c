/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * journal.c - group commit: gather, write, acknowledge in order, flush, and let go of what is
 * covered.
 *
 * A record's life:   gathered --seal--> in flight --all legs--> complete --elders first-->
 * acknowledged (add)           (seal_gather)   (record_written)        (acknowledge)
 *
 * A write waits in `queue`, uncopied, while there is no record to take it: none free, no frame, no
 * segment (the pool is full of dirty data), or admission is throttled.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "sys/iov.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Records that completed wait for their elders, so there are more of them than `depth`. */
static uint64_t ring_size(const struct journal *j)
{
	return 2 * j->cfg.depth + 2;
}

static struct record *record_at(const struct journal *j, uint64_t seq)
{
	return &j->records[seq % ring_size(j)];
}

/* ---- the journal map ---- */

void journal_enter(struct journal *j, const struct journal_extent *x, uint64_t seq)
{
	int rc = extmap_insert(
		j->map, x->lba, x->len, x->kind == EXTENT_DATA ? x->pos : EXTMAP_ZERO, NULL, NULL);

	if (x->kind != EXTENT_DATA)
		j->last_zero_seq = seq;
	if (rc < 0)
		journal_fail(j, rc);
}

static bool stale(const struct journal *j, const struct extent *e)
{
	if (e->place == EXTMAP_ZERO)
		return j->last_zero_seq <= j->covered;
	return e->place < tail_pos(j);
}

/* Forget map entries whose segments are gone, a few at a time, as records come in. */
static void sweep(struct journal *j, uint32_t n)
{
	struct extent e;

	if (!j->sweeping) {
		if (j->first_ord < j->sweep_tail + 1 + (j->segs_cap / 8))
			return;
		j->sweeping = true;
		j->sweep_tail = j->first_ord;
		j->sweep_lba = 0;
	}
	while (n-- && (j->sweeping = extmap_find(j->map, j->sweep_lba, &e))) {
		/* A removal that cannot get memory leaves a stale entry: found again by the next
		 * sweep. */
		if (stale(j, &e) && extmap_remove(j->map, e.lba, e.len, NULL, NULL) < 0)
			return;
		j->sweep_lba = e.lba + e.len;
	}
}

bool journal_find(struct journal *j, uint64_t lba, uint64_t len, struct journal_hit *hit)
{
	uint64_t end = lba + len;
	struct extent e;

	while (lba < end && extmap_find(j->map, lba, &e) && e.lba < end) {
		if (!stale(j, &e)) {
			hit->lba = e.lba;
			hit->len = e.lba + e.len > end ? end - e.lba : e.len;
			hit->pos = e.place;
			return true;
		}
		lba = e.lba + e.len;
	}
	return false;
}

const void *journal_memory(struct journal *j, uint64_t pos)
{
	uint64_t fs = journal_frame_sectors(j);
	struct frame *f = *frame_slot(j, pos / fs);

	if (!f || f->loading)
		return NULL;
	return f->mem + pos % fs * 512;
}

struct segment *journal_place(
	struct journal *j, uint64_t pos, uint32_t *block, uint32_t *sector_in_block)
{
	uint64_t in_seg = pos % j->seg_sectors;

	*block = (uint32_t)(in_seg / SECTORS_PER_BLOCK);
	*sector_in_block = (uint32_t)(in_seg % SECTORS_PER_BLOCK);
	return log_segment(j, pos / j->seg_sectors)->seg;
}

/* ---- admission ---- */

static void charge(struct journal *j, const struct journal_req *q)
{
	if (j->rate && q->kind == EXTENT_DATA)
		j->tokens -= (int64_t)(q->len * 512);
	if (j->stalled_since) {
		j->stats.stalled_ns += loop_now(j->loop) - j->stalled_since;
		j->stalled_since = 0;
	}
}

static void stalled(struct journal *j)
{
	if (j->stalled_since)
		return;
	j->stalled_since = loop_now(j->loop);
	j->stats.stalls++;
}

static bool admitted(struct journal *j)
{
	uint64_t now;

	if (!j->rate)
		return true;
	now = loop_now(j->loop);
	j->tokens += (int64_t)((double)(now - j->tokens_at) * (double)j->rate / 1e9);
	j->tokens_at = now;
	if (j->tokens > (int64_t)(j->rate / 100))
		j->tokens = (int64_t)(j->rate / 100); /* at most 10 ms worth */
	if (j->tokens <= 0) {
		uint64_t wait = (uint64_t)((double)(1 - j->tokens) * 1e9 / (double)j->rate);

		if (!loop_timer_armed(&j->admit_timer))
			loop_timer_set(
				j->loop, &j->admit_timer, now + (wait < 100000 ? 100000 : wait));
		stalled(j);
		return false;
	}
	return true;
}

static void admit_again(struct loop_timer *t)
{
	journal_kick(container_of(t, struct journal, admit_timer));
}

void journal_set_rate(struct journal *j, uint64_t bytes_per_s)
{
	if (!j->rate && bytes_per_s) {
		j->tokens = 0;
		j->tokens_at = loop_now(j->loop);
	}
	j->rate = bytes_per_s;
	if (!bytes_per_s)
		journal_kick(j);
}

/* ---- segments ---- */

struct log_segment *log_segment_new(const struct journal *j, struct segment *s)
{
	struct log_segment *ls = calloc(1, sizeof(*ls) + j->frames_per_seg * sizeof(ls->frames[0]));

	if (ls) {
		ls->seg = s;
		s->user = ls;
	}
	return ls;
}

void journal_push_segment(struct journal *j, struct log_segment *ls)
{
	assert(j->next_ord - j->first_ord < j->segs_cap);
	j->segs[j->next_ord % j->segs_cap] = ls;
	j->next_ord++;
}

static void spare_written(struct pool_io *io, int status)
{
	struct journal *j = container_of(io, struct journal, spare_io);

	j->spare_taking = false;
	if (status < 0) {
		journal_fail(j, status);
		return;
	}
	j->spare_ready = true;
	journal_kick(j);
}

/* Take the next segment before it is needed. */
static void take_spare(struct journal *j)
{
	struct segment *s;
	int rc;

	if (j->spare || j->failed)
		return;
	if (journal_dirty_segments(j) >= journal_dirty_limit(j)) {
		j->cfg.owner->on_full(j->cfg.owner);
		return;
	}
	j->spare_io.done = spare_written;
	rc = pool_take(
		j->pool, SEGMENT_JOURNAL, j->cfg.uuid, j->cfg.epoch, j->next_seq, &s, &j->spare_io);
	if (rc == -ENOSPC) {
		pool_wait(j->pool, &j->waiter);
		j->cfg.owner->on_full(j->cfg.owner);
		return;
	}
	if (rc == 0) {
		j->spare_taking = true;
		j->spare = log_segment_new(j, s);
	}
	if (rc < 0 || !j->spare)
		journal_fail(j, rc < 0 ? rc : -ENOMEM);
}

static void segment_freed(struct pool_waiter *w)
{
	struct journal *j = container_of(w, struct journal, waiter);

	journal_kick(j);
}

static uint32_t blocks_left_in_frame(const struct journal *j)
{
	if (!j->have_current || j->next_block >= pool_segment_blocks(j->pool))
		return 0;
	return j->frame_blocks - j->next_block % j->frame_blocks;
}

/* Make next_block a place where a record of 1 + blocks fits.  False: wait. */
static bool find_room(struct journal *j, uint32_t blocks)
{
	while (blocks_left_in_frame(j) < 1 + blocks) {
		uint32_t next = j->have_current
					? (j->next_block / j->frame_blocks + 1) * j->frame_blocks
					: 0;

		if (j->have_current && next < pool_segment_blocks(j->pool)) {
			j->next_block = next;
		} else {
			if (!j->spare_ready) {
				take_spare(j);
				stalled(j);
				return false;
			}
			/* The header was written with the sequence number of that time: a lower
			 * bound. */
			journal_push_segment(j, j->spare);
			j->spare = NULL;
			j->spare_ready = false;
			j->have_current = true;
			j->next_block = 1;
		}
	}
	/* The next one in good time: when half of this one is used, at the latest. */
	if (j->next_block > pool_segment_blocks(j->pool) / 2)
		take_spare(j);
	return true;
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
	       blocks <= RECORD_BLOCKS_MAX && 1 + blocks <= blocks_left_in_frame(j) &&
	       (r->extents == 0 || (uint64_t)blocks * POOL_BLOCK <= j->cfg.record_bytes);
}

static struct record *open_record(struct journal *j, uint32_t blocks)
{
	struct record *r = record_at(j, j->next_seq);
	uint64_t frame_no;
	struct frame *f;

	if (j->next_seq - j->acked_seq >= ring_size(j) || !find_room(j, blocks))
		return NULL;
	frame_no = current_pos(j) / journal_frame_sectors(j);
	f = *frame_slot(j, frame_no);
	if (!f)
		f = frame_take(j, frame_no);
	if (!f) {
		stalled(j);
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

/* Copy the data behind the header; whole blocks get their CRC while they are hot. */
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

		if (!r->complete)
			return;
		j->acked_seq = r->seq;
		r->frame->writing--;
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
	if (status < 0)
		journal_fail(j, status);
	acknowledge(j);
	sweep(j, 2 * r->extents + 4);
	journal_kick(j);
}

static void seal_gather(struct journal *j)
{
	struct record *r = j->gather;
	uint8_t *mem = record_memory(j, r);
	uint64_t ord = r->pos / j->seg_sectors;
	struct log_segment *ls = log_segment(j, ord);
	struct record_header h = {
		.epoch = j->cfg.epoch, .seq = r->seq, .extents = r->extents, .blocks = r->blocks};

	j->gather = NULL;
	j->next_seq++;
	j->in_flight++;
	ls->last_seq = r->seq;
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
	pool_write(j->pool, &r->io, mem, r->crc);
}

/* ---- the queue ---- */

static bool try_add(struct journal *j, struct journal_req *q)
{
	uint32_t blocks = q->kind == EXTENT_DATA
				  ? (uint32_t)((q->len + SECTORS_PER_BLOCK - 1) / SECTORS_PER_BLOCK)
				  : 0;

	if (j->gather && !fits(j, j->gather, q)) {
		if (j->in_flight >= j->cfg.depth)
			return false;
		seal_gather(j);
	}
	if (!j->gather)
		j->gather = open_record(j, blocks);
	if (!j->gather)
		return false;
	add(j, j->gather, q);
	charge(j, q);
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

		if (!admitted(j) || !try_add(j, q))
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
			acknowledge(j);
		}
		fail_queue(j);
		return;
	}
	drain_queue(j);
	if (j->gather && j->in_flight < j->cfg.depth) {
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
	assert(r->len && (r->kind != EXTENT_DATA || r->len <= JOURNAL_WRITE_SECTORS_MAX));
	r->next = NULL;
	loop_defer(j->loop, &j->end_of_turn);
	if (!j->failed && !j->queue && admitted(j) && try_add(j, r))
		return;
	*j->queue_tail = r;
	j->queue_tail = &r->next;
}

/* ---- flush ---- */

static void flush_over(struct loop_task *t)
{
	struct journal_flush *f = container_of(t, struct journal_flush, task);

	f->done(f, f->status);
}

static void finish_flush(struct journal *j, struct journal_flush *f, int status)
{
	f->status = status;
	f->task.run = flush_over;
	loop_defer(j->loop, &f->task);
}

static void start_flush(struct journal *j);

static void flushed(struct pool_io *io, int status)
{
	struct journal *j = container_of(io, struct journal, flush_io);
	struct journal_flush *f = j->flushing;

	/* No fsync is retried as if it had not failed. */
	if (status < 0)
		journal_fail(j, status);
	else
		j->flushed_seq = j->flush_covers;
	j->never_flushed = j->never_flushed && status < 0;
	j->flushing = NULL;
	while (f) {
		struct journal_flush *next = f->next;

		finish_flush(j, f, status);
		f = next;
	}
	if (j->flush_queue)
		start_flush(j);
}

static void start_flush(struct journal *j)
{
	j->flushing = j->flush_queue;
	j->flush_queue = NULL;
	j->flush_covers = j->acked_seq;
	j->flush_io.done = flushed;
	j->stats.flushes++;
	pool_flush(j->pool, &j->flush_io);
}

void journal_flush(struct journal *j, struct journal_flush *f)
{
	f->journal = j;
	if (j->failed || (!j->never_flushed && j->flushed_seq == j->acked_seq)) {
		finish_flush(j, f, j->failed);
		return;
	}
	f->next = j->flush_queue;
	j->flush_queue = f;
	if (!j->flushing)
		start_flush(j);
}

void journal_fail(struct journal *j, int status)
{
	if (j->failed)
		return;
	j->failed = status; /* I13 */
	loop_defer(j->loop, &j->end_of_turn);
	j->cfg.owner->on_failed(j->cfg.owner, status);
}

/* ---- letting go ---- */

static bool clean_segment(const struct journal *j, uint64_t ord)
{
	const struct log_segment *ls = log_segment(j, ord);

	return ord + 1 < j->next_ord && ls->last_seq <= j->covered; /* I5 */
}

bool journal_is_clean(const struct journal *j, uint64_t pos)
{
	return clean_segment(j, pos / j->seg_sectors);
}

uint64_t journal_dirty_segments(const struct journal *j)
{
	uint64_t ord = j->first_ord;

	while (ord < j->next_ord && clean_segment(j, ord))
		ord++;
	return j->next_ord - ord;
}

uint64_t journal_dirty_limit(const struct journal *j)
{
	uint64_t n = (uint64_t)pool_segments(j->pool) * j->cfg.dirty_percent / 100;

	return n < 2 ? 2 : n;
}

static bool parted_with(const struct journal *j, uint64_t ord)
{
	const struct log_segment *ls = log_segment(j, ord);

	if (!clean_segment(j, ord) || ls->seg->pins)
		return false;
	for (uint32_t i = 0; i < j->frames_per_seg; i++) {
		const struct frame *f = ls->frames[i];

		if (f && (f->holds || f->writing || f->loading))
			return false;
	}
	return true;
}

struct journal_client {
	struct pool_client client;
	struct journal journal;
};

static struct journal *journal_of(struct pool_client *c)
{
	return &container_of(c, struct journal_client, client)->journal;
}

static uint32_t count_reclaimable(struct pool_client *c)
{
	const struct journal *j = journal_of(c);
	uint64_t ord = j->first_ord;

	while (ord < j->next_ord && parted_with(j, ord))
		ord++;
	return (uint32_t)(ord - j->first_ord);
}

static bool reclaim_oldest(struct pool_client *c)
{
	struct journal *j = journal_of(c);
	struct log_segment *ls;

	if (j->first_ord == j->next_ord || !parted_with(j, j->first_ord))
		return false;
	ls = log_segment(j, j->first_ord);
	frames_drop_segment(j, ls);
	j->segs[j->first_ord % j->segs_cap] = NULL;
	j->first_ord++;
	pool_give(j->pool, ls->seg);
	free(ls);
	return true;
}

void journal_covered(struct journal *j, uint64_t seq)
{
	j->covered = seq;
	journal_kick(j);
}

/* ---- making and unmaking ---- */

int journal_new(const struct journal_config *cfg, struct journal **out, struct err *e)
{
	struct journal_client *jc = calloc(1, sizeof(*jc));
	struct journal *j;
	uint32_t seg_blocks = pool_segment_blocks(cfg->pool);

	if (!jc)
		return err_set(e, -ENOMEM, "journal: out of memory");
	j = &jc->journal;
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
	j->records = calloc(ring_size(j), sizeof(*j->records));
	j->map = extmap_new();
	j->queue_tail = &j->queue;
	j->next_seq = 1;
	j->never_flushed = true;
	j->end_of_turn.run = turn_over;
	j->waiter.wake = segment_freed;
	j->admit_timer.fire = admit_again;
	jc->client =
		(struct pool_client){.reclaimable = count_reclaimable, .reclaim = reclaim_oldest};
	if (!j->segs || !j->records || !j->map || frames_new(j) < 0) {
		pool_add_client(j->pool, &jc->client);
		journal_close(j);
		return err_set(e, -ENOMEM, "journal: out of memory");
	}
	pool_add_client(j->pool, &jc->client);
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	struct journal_client *jc = container_of(j, struct journal_client, journal);

	pool_remove_client(j->pool, &jc->client);
	pool_cancel_wait(j->pool, &j->waiter);
	loop_timer_cancel(j->loop, &j->admit_timer);
	for (uint64_t ord = j->first_ord; j->segs && ord < j->next_ord; ord++)
		free(log_segment(j, ord));
	free(j->spare);
	free(j->segs);
	free(j->records);
	frames_free(j);
	if (j->map)
		extmap_free(j->map);
	free(jc);
}

static int give_and_wait(struct journal *j, struct log_segment *ls)
{
	struct pool_io io;
	int rc;

	pool_io_awaited(&io);
	rc = pool_give_durably(j->pool, ls->seg, &io);
	free(ls);
	return rc < 0 ? rc : pool_wait_io(j->pool, &io);
}

int journal_release(struct journal *j)
{
	int rc = 0;

	while (j->spare_taking)
		loop_poll(j->loop, LOOP_FOREVER);
	for (; rc == 0 && j->first_ord < j->next_ord; j->first_ord++) {
		struct log_segment *ls = log_segment(j, j->first_ord);

		assert(ls->last_seq <= j->covered);
		frames_drop_segment(j, ls);
		rc = give_and_wait(j, ls);
	}
	if (rc == 0 && j->spare) {
		struct log_segment *ls = j->spare;

		j->spare = NULL;
		j->spare_ready = false;
		rc = give_and_wait(j, ls);
	}
	j->have_current = false;
	return rc;
}

/* ---- facts ---- */

uint64_t journal_last_seq(const struct journal *j)
{
	return j->acked_seq;
}
bool journal_busy(const struct journal *j)
{
	return j->queue || j->gather || j->in_flight || j->flushing || j->spare_taking ||
	       j->hold_queue || j->end_of_turn.queued;
}
void journal_get_stats(const struct journal *j, struct journal_stats *st)
{
	*st = j->stats;
}
