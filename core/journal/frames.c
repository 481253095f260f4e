/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * frames.c - the part of the log that is in memory.
 *
 * A frame is taken when the log reaches it, and stays until the memory is wanted: what is in
 * objects already first, passing over frames that destage holds or whose records are not all on the
 * disk.  Destage that comes late loads a frame back, verified block by block: from the disk that the
 * log is being written to.  So when nearly all that is in memory is dirty, more memory is taken, of a
 * part that all journals of the process share, and given back when what is dirty fits again.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "sys/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* So many clean frames are kept at hand: the rate of the log times what it takes to touch more. */
enum { CLEAN_MIN = 8, FRAMES_MIN = 6, FRAMES_MAX = 65536 };

uint32_t journal_frames(const struct journal *j)
{
	return j->own_frames;
}

uint64_t journal_frame_sectors(const struct journal *j)
{
	return (uint64_t)j->frame_blocks * SECTORS_PER_BLOCK;
}

static size_t frame_bytes(const struct journal *j)
{
	return (size_t)j->frame_blocks * POOL_BLOCK;
}

static void memory_came(struct loop_task *t)
{
	struct journal *j = container_of(t, struct journal, memory_came);

	j->memory_awaited = false;
	j->no_memory = !atomic_load(&j->memory_made);
	frames_retry_holds(j);
	journal_kick(j);
}

/* On the thread that touches memory. */
static void memory_made(void *arg, bool made)
{
	struct journal *j = arg;

	atomic_store(&j->memory_made, made);
	loop_post(j->loop, &j->memory_came);
}

/* Writers and holds go on when the thread has touched another block, or there was no memory for one.
 * False: there is no thread. */
static bool await_memory(struct journal *j)
{
	if (j->memory_awaited)
		return true;
	j->memory_awaited = !loop_is_sim(j->loop) && prefault_await(j->memory);
	return j->memory_awaited;
}

int frames_new(struct journal *j)
{
	uint64_t own = j->cfg.ram_bytes / frame_bytes(j), all;

	own = own < FRAMES_MIN ? FRAMES_MIN : own > FRAMES_MAX ? FRAMES_MAX : own;
	all = own + j->cfg.burst_bytes / frame_bytes(j);
	j->own_frames = (uint32_t)own;
	j->nframes = all > FRAMES_MAX ? FRAMES_MAX : (uint32_t)all;
	j->frames = calloc(j->nframes, sizeof(*j->frames));
	j->hold_tail = &j->hold_queue;
	j->memory_came.run = memory_came;
	j->memory = prefault_new(frame_bytes(j), memory_made, j);
	return j->frames && j->memory ? 0 : -ENOMEM;
}

/* ---- memory ---- */

/* One more frame may have memory: within the share, or of what is shared. */
static bool reserve(struct journal *j)
{
	if (j->in_memory >= j->own_frames) {
		if (!memory_take(frame_bytes(j), j->cfg.burst_bytes))
			return false;
		j->extra++;
	}
	j->in_memory++;
	return true;
}

static void unreserve(struct journal *j)
{
	j->in_memory--;
	if (j->extra) {
		j->extra--;
		memory_give(frame_bytes(j));
	}
}

static void give_back(struct journal *j, struct frame *f)
{
	prefault_give(j->memory, f->mem);
	f->mem = NULL;
	unreserve(j);
}

void frames_free(struct journal *j)
{
	for (uint32_t i = 0; j->frames && i < j->nframes; i++)
		if (j->frames[i].mem)
			give_back(j, &j->frames[i]);
	free(j->frames);
	prefault_free(j->memory);
}

size_t journal_memory_bytes(const struct journal *j)
{
	size_t n = 0;

	for (uint32_t i = 0; i < j->nframes; i++)
		if (j->frames[i].mem)
			n += frame_bytes(j);
	return n + extmap_memory(j->map);
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
	f->used = false;
}

/* The simulator has no thread, and no time that touching would take: there beyond the share only. */
static void *next_touched(struct journal *j)
{
	if (!loop_is_sim(j->loop))
		return prefault_take(j->memory);
	return j->in_memory > j->own_frames ? prefault_make(j->memory) : NULL;
}

/* Frames without memory get what is ready by now.  One of them; NULL: nothing is. */
static struct frame *take_touched(struct journal *j)
{
	struct frame *first = NULL;

	for (uint32_t i = 0; !first || !loop_is_sim(j->loop); i++) {
		void *mem;

		while (i < j->frames_made && (j->frames[i].used || j->frames[i].mem))
			i++;
		if (i == j->nframes || !reserve(j))
			break;
		mem = next_touched(j);
		if (!mem) {
			unreserve(j);
			break;
		}
		j->no_memory = false;
		j->frames[i].mem = mem;
		if (i == j->frames_made)
			j->frames_made++;
		if (!first)
			first = &j->frames[i];
	}
	return first;
}

static bool give_memory(struct journal *j, struct frame *f)
{
	if (f->mem)
		return true;
	if (!reserve(j))
		return false;
	f->mem = prefault_make(j->memory);
	if (!f->mem)
		unreserve(j);
	return f->mem;
}

/* Is all of it in applied objects?  Of what was read back nothing is known. */
static bool is_clean(const struct journal *j, const struct frame *f)
{
	uint64_t last = f->last_seq;

	if (!last)
		last = log_segment(j, f->no / j->frames_per_seg)->last_seq;
	return last <= j->covered;
}

/* Whom to sacrifice: the oldest clean frame; else, of the dirty ones, the one that destage comes to
 * last, which is the newest: the oldest would have to be read back at once. */
static bool rather(const struct journal *j, const struct frame *f, const struct frame *best)
{
	bool clean = is_clean(j, f);

	if (!best)
		return true;
	if (clean != is_clean(j, best))
		return clean;
	return clean ? f->no < best->no : f->no > best->no;
}

/* A frame with memory that nobody uses; else a clean one; else, within the share, one that has to be
 * touched first; else one whose contents must be read back later.  When few clean ones are left, more
 * are touched.  The loop touches the first few itself.  Then it waits for the thread to do so, and
 * meanwhile serves others; beyond the share only what is touched already is taken. */
static struct frame *find_frame(struct journal *j)
{
	struct frame *ready = NULL, *bare = NULL, *best = NULL;
	uint32_t clean = 0;

	for (uint32_t i = 0; i < j->frames_made; i++) {
		struct frame *f = &j->frames[i];

		if (!f->used)
			*(f->mem ? &ready : &bare) = f;
		else if (evictable(j, f)) {
			clean += is_clean(j, f);
			if (rather(j, f, best))
				best = f;
		}
	}
	if (clean < CLEAN_MIN) {
		struct frame *touched = take_touched(j);

		ready = ready ? ready : touched;
	}
	if (ready)
		return ready;
	if (!j->no_memory && j->in_memory < j->own_frames && (!best || !is_clean(j, best))) {
		if (j->in_memory >= FRAMES_MIN && await_memory(j))
			return NULL;
		if (bare)
			return bare;
		if (j->frames_made < j->nframes)
			return &j->frames[j->frames_made++];
	}
	if (best)
		forget(j, best);
	return best;
}

struct frame *frame_take(struct journal *j, uint64_t no)
{
	struct frame *f = find_frame(j);

	if (!f || !give_memory(j, f))
		return NULL;
	f->no = no;
	f->used = true;
	f->holds = f->writing = 0;
	f->last_seq = 0;
	f->loading = false;
	f->waiting = NULL;
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
		give_back(j, f);
	}
	prefault_trim(j->memory);
}

void journal_calm(struct journal *j)
{
	struct frame *best = NULL;

	for (uint32_t i = 0; j->extra && i < j->frames_made; i++) {
		struct frame *f = &j->frames[i];

		if (f->mem && (!f->used || (evictable(j, f) && is_clean(j, f))) &&
			(!best || !f->used || (best->used && f->no < best->no)))
			best = f;
	}
	if (!best)
		return;
	if (best->used)
		forget(j, best);
	give_back(j, best);
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
