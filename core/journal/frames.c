/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * frames.c - the part of the log that is in memory.
 *
 * A frame is taken when the log reaches it, and stays until the memory is wanted: oldest first,
 * passing over those that destage holds or whose records are not all on the disk.  Destage that
 * comes late loads a frame back, verified block by block.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"
#include "sys/crc.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

uint32_t journal_frames(const struct journal *j)
{
	return j->nframes;
}

uint64_t journal_frame_sectors(const struct journal *j)
{
	return (uint64_t)j->frame_blocks * SECTORS_PER_BLOCK;
}

static size_t frame_bytes(const struct journal *j)
{
	return (size_t)j->frame_blocks * POOL_BLOCK;
}

int frames_new(struct journal *j)
{
	uint64_t n = j->cfg.ram_bytes / frame_bytes(j);

	j->nframes = n < 6 ? 6 : n > 65536 ? 65536 : (uint32_t)n;
	j->frames = calloc(j->nframes, sizeof(*j->frames));
	j->hold_tail = &j->hold_queue;
	return j->frames ? 0 : -ENOMEM;
}

void frames_free(struct journal *j)
{
	for (uint32_t i = 0; j->frames && i < j->nframes; i++)
		if (j->frames[i].mem)
			munmap(j->frames[i].mem, frame_bytes(j));
	free(j->frames);
}

size_t journal_memory_bytes(const struct journal *j)
{
	size_t n = 0;

	for (uint32_t i = 0; i < j->nframes; i++)
		if (j->frames[i].mem)
			n += frame_bytes(j);
	return n + extmap_memory(j->map);
}

static void unlink_frame(struct journal *j, struct frame *f)
{
	*(f->older ? &f->older->newer : &j->oldest) = f->newer;
	*(f->newer ? &f->newer->older : &j->newest) = f->older;
	f->older = f->newer = NULL;
}

static void link_newest(struct journal *j, struct frame *f)
{
	f->older = j->newest;
	f->newer = NULL;
	*(j->newest ? &j->newest->newer : &j->oldest) = f;
	j->newest = f;
}

/* The frame that the log is growing into stays: what is in it would have to be read back. */
static bool evictable(const struct journal *j, const struct frame *f)
{
	return !f->holds && !f->writing && !f->loading &&
	       !(j->have_current && f->no == current_pos(j) / journal_frame_sectors(j));
}

static void forget(struct journal *j, struct frame *f)
{
	*frame_slot(j, f->no) = NULL;
	unlink_frame(j, f);
	f->used = false;
}

static bool give_memory(struct journal *j, struct frame *f)
{
	if (!f->mem) {
		void *mem = mmap(NULL, frame_bytes(j), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		if (mem == MAP_FAILED)
			return false;
		f->mem = mem;
	}
	return true;
}

/* A frame nobody uses: one never used, else the oldest that can go.  Memory once touched is
 * preferred. */
static struct frame *find_frame(struct journal *j)
{
	struct frame *bare = NULL;

	for (uint32_t i = 0; i < j->frames_made; i++) {
		if (j->frames[i].used)
			continue;
		if (j->frames[i].mem)
			return &j->frames[i];
		bare = &j->frames[i];
	}
	if (bare)
		return bare;
	if (j->frames_made < j->nframes)
		return &j->frames[j->frames_made++];
	for (struct frame *f = j->oldest; f; f = f->newer)
		if (evictable(j, f)) {
			forget(j, f);
			return f;
		}
	return NULL;
}

struct frame *frame_take(struct journal *j, uint64_t no)
{
	struct frame *f = find_frame(j);

	if (!f || !give_memory(j, f))
		return NULL;
	f->no = no;
	f->used = true;
	f->holds = f->writing = 0;
	f->loading = false;
	f->waiting = NULL;
	link_newest(j, f);
	assert(!*frame_slot(j, no));
	*frame_slot(j, no) = f;
	return f;
}

void frames_drop_segment(struct journal *j, struct log_segment *ls)
{
	for (uint32_t i = 0; i < j->frames_per_seg; i++) {
		struct frame *f = ls->frames[i];

		if (!f)
			continue;
		assert(!f->holds && !f->writing && !f->loading);
		forget(j, f);
	}
	frames_retry_holds(j);
}

void journal_trim(struct journal *j)
{
	uint32_t keep = 2;

	for (uint32_t i = 0; i < j->frames_made; i++) {
		struct frame *f = &j->frames[i];

		if (!f->mem || (f->used && !evictable(j, f)))
			continue;
		if (keep) {
			keep--;
			continue;
		}
		if (f->used)
			forget(j, f);
		munmap(f->mem, frame_bytes(j));
		f->mem = NULL;
	}
}

/* ---- holds ---- */

static void hold_done(struct loop_task *t)
{
	struct journal_hold *h = container_of(t, struct journal_hold, task);

	h->done(h, h->status);
}

static void finish_hold(struct journal *j, struct journal_hold *h, int status)
{
	h->status = status;
	if (status == 0) {
		h->mem = h->f->mem;
		h->f->holds++;
	}
	h->task.run = hold_done;
	loop_defer(j->loop, &h->task);
}

static void finish_load(struct frame *f, struct journal *j, int status)
{
	struct journal_hold *h = f->waiting;

	f->loading = false;
	f->waiting = NULL;
	while (h) {
		struct journal_hold *next = h->next;

		finish_hold(j, h, status);
		h = next;
	}
	if (status < 0) {
		forget(j, f);
		frames_retry_holds(j);
	}
}

/* Blocks that no record of ours wrote have no CRC on note and are not needed. */
static bool verify_frame(const struct journal *j, const struct journal_hold *h)
{
	for (uint32_t i = 0; i < h->io.blocks; i++) {
		uint32_t want = pool_crc(j->pool, h->io.seg, h->io.block + i);
		uint32_t have;

		if (!want)
			continue;
		have = crc32c(0, h->f->mem + (size_t)i * POOL_BLOCK, POOL_BLOCK);
		if ((have ? have : 1) != want)
			return false;
	}
	return true;
}

static void loaded(struct pool_io *io, int status)
{
	struct journal_hold *h = container_of(io, struct journal_hold, io);
	struct journal *j = h->journal;

	if (status == 0 && !verify_frame(j, h)) /* I10 */
		status = -EBADMSG;
	if (status < 0 && h->leg + 1 < pool_legs(j->pool)) {
		pool_read_raw(j->pool, io, h->f->mem, ++h->leg);
		return;
	}
	j->stats.frames_loaded++;
	finish_load(h->f, j, status);
}

static bool start_hold(struct journal *j, struct journal_hold *h)
{
	struct frame *f = *frame_slot(j, h->frame);

	if (f && !f->loading) {
		h->f = f;
		finish_hold(j, h, 0);
		return true;
	}
	if (!f) {
		f = frame_take(j, h->frame);
		if (!f)
			return false;
		f->loading = true;
		h->io.seg = log_segment(j, h->frame / j->frames_per_seg)->seg;
		h->io.block = (uint32_t)(h->frame % j->frames_per_seg) * j->frame_blocks;
		h->io.blocks = j->frame_blocks;
		h->io.done = loaded;
		h->leg = 0;
		h->f = f;
		h->next = NULL;
		f->waiting = h;
		pool_read_raw(j->pool, &h->io, f->mem, 0);
		return true;
	}
	h->f = f;
	h->next = f->waiting;
	f->waiting = h;
	return true;
}

void journal_hold(struct journal *j, struct journal_hold *h)
{
	h->journal = j;
	if (!j->hold_queue && start_hold(j, h))
		return;
	h->next = NULL;
	*j->hold_tail = h;
	j->hold_tail = &h->next;
}

void frames_retry_holds(struct journal *j)
{
	while (j->hold_queue) {
		struct journal_hold *h = j->hold_queue, *next = h->next;

		if (!start_hold(j, h))
			return;
		j->hold_queue = next;
		if (!next)
			j->hold_tail = &j->hold_queue;
	}
}

void journal_unhold(struct journal *j, struct journal_hold *h)
{
	assert(h->f && h->f->holds);
	if (--h->f->holds == 0) {
		frames_retry_holds(j);
		pool_poke(j->pool);
	}
	h->f = NULL;
	journal_kick(j);
}
