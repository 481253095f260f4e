/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * segments.c - the log's segments: taken from the pool one ahead, clean once covered (I5), given
 * back oldest first.
 *
 *   first_ord <= clean, may go < clean_ord <= dirty < next_ord; the newest is the one being filled
 *
 * The order matters: an old segment that outlived a newer one could tell replay of records that a
 * later epoch has overruled.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- taking ---- */

/* Those that were given back are used again: no allocation while the log goes round. */
struct log_segment *log_segment_new(struct journal *j)
{
	size_t size = sizeof(struct log_segment) + j->frames_per_seg * sizeof(struct frame *);
	struct log_segment *ls = j->unused;

	if (!ls)
		return calloc(1, size);
	j->unused = ls->next_unused;
	memset(ls, 0, size);
	return ls;
}

static void log_segment_put(struct journal *j, struct log_segment *ls)
{
	ls->next_unused = j->unused;
	j->unused = ls;
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

/* 0, or -ENOSPC when there is none to be had. */
static int take_spare(struct journal *j)
{
	struct log_segment *ls = log_segment_new(j);
	int rc = -ENOMEM;

	j->spare_io.done = spare_written;
	if (ls)
		rc = pool_take(j->pool, SEGMENT_JOURNAL, j->cfg.uuid, j->cfg.epoch, j->next_seq,
			&ls->seg, &j->spare_io);
	if (rc < 0) {
		free(ls);
		return rc;
	}
	j->spare_taking = true;
	j->spare = ls;
	return 0;
}

/* Take the next segment before it is needed. */
static void take_ahead(struct journal *j)
{
	int rc;

	if (j->spare || j->failed)
		return;
	if (journal_dirty_segments(j) >= journal_dirty_limit(j)) {
		j->cfg.owner->on_full(j->cfg.owner);
		return;
	}
	rc = take_spare(j);
	if (rc == -ENOSPC) {
		pool_wait(j->pool, &j->waiter);
		j->cfg.owner->on_full(j->cfg.owner);
	} else if (rc < 0) {
		journal_fail(j, rc);
	}
}

int journal_begin_epoch(struct journal *j)
{
	struct pool_io io;
	int rc = take_spare(j);

	while (j->spare_taking)
		loop_poll(j->loop, LOOP_FOREVER);
	/* The pool is full of dirty data: the first write will have to wait for a segment. */
	if (rc == -ENOSPC)
		rc = 0;
	if (rc == 0)
		rc = j->failed;
	if (rc < 0)
		return rc;
	pool_io_awaited(&io);
	pool_flush(j->pool, &io);
	rc = pool_wait_io(j->pool, &io);
	if (rc < 0)
		return rc;
	j->flushed_seq = j->acked_seq;
	j->never_flushed = false;
	return 0;
}

static void segment_freed(struct pool_waiter *w)
{
	journal_kick(container_of(w, struct journal, waiter));
}

uint32_t journal_room(const struct journal *j)
{
	if (!j->have_current || j->next_block == pool_segment_blocks(j->pool))
		return 0;
	return j->frame_blocks - j->next_block % j->frame_blocks;
}

static bool next_segment(struct journal *j)
{
	if (!j->spare_ready) {
		take_ahead(j);
		journal_stalled(j);
		return false;
	}
	/* Its header holds the sequence number of the time it was taken: a lower bound. */
	journal_push_segment(j, j->spare);
	j->spare = NULL;
	j->spare_ready = false;
	j->have_current = true;
	j->next_block = 1;
	journal_find_clean(j);
	return true;
}

bool journal_find_room(struct journal *j, uint32_t blocks)
{
	while (journal_room(j) < 1 + blocks) {
		uint32_t next = (j->next_block / j->frame_blocks + 1) * j->frame_blocks;

		if (j->have_current && next < pool_segment_blocks(j->pool))
			j->next_block = next;
		else if (!next_segment(j))
			return false;
	}
	return true;
}

void journal_look_ahead(struct journal *j)
{
	if (j->next_block > pool_segment_blocks(j->pool) / 2)
		take_ahead(j);
}

/* ---- letting go ---- */

void journal_find_clean(struct journal *j)
{
	uint64_t end = j->next_ord - j->have_current;

	while (j->clean_ord < end &&
		log_segment(j, j->clean_ord)->last_seq <=
			(MUTANT(TRIM_EARLY) ? j->acked_seq : j->covered)) /* I5 */
		j->clean_ord++;
}

bool journal_is_clean(const struct journal *j, uint64_t pos)
{
	return pos / j->seg_sectors < j->clean_ord;
}

uint64_t journal_dirty_segments(const struct journal *j)
{
	return j->next_ord - j->clean_ord;
}

uint64_t journal_dirty_limit(const struct journal *j)
{
	uint64_t n = (uint64_t)pool_segments(j->pool) * j->cfg.dirty_percent / 100;

	return n < 2 ? 2 : n;
}

uint64_t journal_dirty_room(const struct journal *j)
{
	uint64_t dirty = journal_dirty_segments(j), limit = journal_dirty_limit(j), blocks = 0;

	if (dirty < limit)
		blocks = (limit - dirty) * pool_segment_blocks(j->pool);
	if (j->have_current)
		blocks += pool_segment_blocks(j->pool) - j->next_block;
	return blocks * 4096;
}

static bool oldest_may_go(const struct journal *j)
{
	const struct log_segment *ls;

	if (j->first_ord == j->clean_ord)
		return false;
	ls = log_segment(j, j->first_ord);
	if (ls->seg->pins)
		return false;
	for (uint32_t i = 0; i < j->frames_per_seg; i++) {
		const struct frame *f = ls->frames[i];

		if (f && (f->holds || f->writing || f->loading))
			return false;
	}
	return true;
}

static uint32_t count_reclaimable(struct pool_client *c)
{
	const struct journal *j = container_of(c, struct journal, client);

	return oldest_may_go(j) ? (uint32_t)(j->clean_ord - j->first_ord) : 0;
}

static bool reclaim_oldest(struct pool_client *c)
{
	struct journal *j = container_of(c, struct journal, client);
	struct log_segment *ls;

	if (!oldest_may_go(j))
		return false;
	ls = log_segment(j, j->first_ord);
	frames_drop_segment(j, ls);
	j->segs[j->first_ord % j->segs_cap] = NULL;
	j->first_ord++;
	pool_give(j->pool, ls->seg);
	log_segment_put(j, ls);
	return true;
}

void segments_init(struct journal *j)
{
	j->waiter.wake = segment_freed;
	j->client =
		(struct pool_client){.reclaimable = count_reclaimable, .reclaim = reclaim_oldest};
	pool_add_client(j->pool, &j->client);
}

void segments_fini(struct journal *j)
{
	pool_remove_client(j->pool, &j->client);
	pool_cancel_wait(j->pool, &j->waiter);
	for (uint64_t ord = j->first_ord; j->segs && ord < j->next_ord; ord++)
		free(log_segment(j, ord));
	while (j->unused) {
		struct log_segment *ls = j->unused;

		j->unused = ls->next_unused;
		free(ls);
	}
	free(j->spare);
	free(j->segs);
}

void journal_covered(struct journal *j, uint64_t seq)
{
	uint64_t before = j->clean_ord;

	assert(seq >= j->covered && seq <= j->acked_seq);
	if (seq == j->covered)
		return;
	j->covered = seq;
	journal_find_clean(j);
	if (j->clean_ord > before)
		pool_poke(j->pool);
	journal_kick(j);
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

	while (j->spare_taking || j->late)
		loop_poll(j->loop, LOOP_FOREVER);
	j->have_current = false;
	journal_find_clean(j);
	assert(j->clean_ord == j->next_ord && !j->gather && !j->in_flight);
	while (rc == 0 && j->first_ord < j->next_ord) {
		struct log_segment *ls = log_segment(j, j->first_ord);

		frames_drop_segment(j, ls);
		j->segs[j->first_ord % j->segs_cap] = NULL;
		j->first_ord++;
		rc = give_and_wait(j, ls);
	}
	if (rc == 0 && j->spare) {
		struct log_segment *ls = j->spare;

		j->spare = NULL;
		j->spare_ready = false;
		rc = give_and_wait(j, ls);
	}
	/* So that no segment comes back after a power failure. */
	return rc < 0 ? rc : journal_flush_pool(j->pool);
}
