/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * flush.c - flushes, and group commit of writers that flush after each write.
 *
 * A flush covers what was acknowledged when it was submitted to the pool.  One that comes meanwhile
 * joins it when nothing was acknowledged since; else it waits, and shares the next one with all that
 * wait.
 *
 * Writers that wait for a flush after each write (databases, `fsync=1`) cost a record and a flush
 * each, unless they are brought into step: then all of them share one record, and one flush.  As
 * long as about as many flushes are asked for as writes,
 *   - one record is in flight at a time, and none beside a flush: what comes meanwhile shares the
 *     next,
 *   - a flush waits for the record in flight, and covers it, too,
 *   - a record that nobody waits behind is flushed at once: who wrote it is about to ask for that,
 *     and joins, or finds it done,
 *   - after a flush that n writers waited for, the next record waits until n more writes have come,
 *     as long as no two of them are further apart than the flush took; and after waits in vain (they
 *     went away, or think) only now and then.
 * The last is PostgreSQL's commit_delay and commit_siblings, set by what was measured.  Writers that
 * do not flush are not held up: one of them beside one that does, and there are too many writes.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

enum {
	STEP_RECORDS = 4,
	AWAIT_MAX_NS = 500000,
	SKIP_MAX = 64, /* flushes */
};

/* ---- in step ---- */

/* Do `flushes` belong to `writes`? */
static bool one_each(uint64_t writes, uint64_t flushes)
{
	return 2 * writes <= 3 * flushes;
}

/* Of the last flush, and still so: records are followed by flushes. */
static bool in_step(const struct journal *j)
{
	return j->step && j->next_seq - 1 - j->flush_covers <= STEP_RECORDS;
}

uint32_t flush_depth(const struct journal *j)
{
	return in_step(j) ? 1 : j->cfg.depth;
}

/* The flush is over that `n` waited for: they will be back. */
static void expect(struct journal *j, uint32_t n)
{
	uint32_t writers = n + (j->gather ? j->gather->extents : 0);

	if (!j->flush_ahead)
		j->step = one_each(j->flush_writes, n);
	j->awaited = 0;
	loop_timer_cancel(j->loop, &j->await_timer);
	if (writers < 2)
		return;
	if (j->await_skip) {
		j->await_skip--;
		return;
	}
	j->awaited = writers;
}

static void end_wait(struct journal *j, bool came)
{
	if (came) {
		j->await_failed = 0;
	} else {
		uint32_t skip = 1u << (j->await_failed < 16 ? j->await_failed++ : 16);

		j->await_skip = skip < SKIP_MAX ? skip : SKIP_MAX;
	}
	j->awaited = 0;
	loop_timer_cancel(j->loop, &j->await_timer);
}

static void waited_in_vain(struct loop_timer *t)
{
	struct journal *j = container_of(t, struct journal, await_timer);

	end_wait(j, false);
	journal_kick(j);
}

bool flush_awaits_more(struct journal *j)
{
	if (j->flush_runs && in_step(j))
		return true;
	if (!j->awaited)
		return false;
	if (j->gather->extents >= j->awaited || !in_step(j))
		return false;
	if (!loop_timer_armed(&j->await_timer) || j->arrived != j->gather->extents)
		loop_timer_set(j->loop, &j->await_timer, loop_now(j->loop) + j->await_ns);
	j->arrived = j->gather->extents;
	return true;
}

void flush_record_goes(struct journal *j)
{
	if (j->awaited)
		end_wait(j, true);
}

void flush_init(struct journal *j)
{
	j->await_timer.fire = waited_in_vain;
}

void flush_fini(struct journal *j)
{
	loop_timer_cancel(j->loop, &j->await_timer);
}

/* ---- flushing ---- */

static void flush_over(struct loop_task *t)
{
	struct journal_flush *f = container_of(t, struct journal_flush, task);

	f->done(f, f->status);
}

static void finish(struct journal *j, struct journal_flush *f)
{
	f->status = j->failed;
	f->task = (struct loop_task){.run = flush_over};
	loop_defer(j->loop, &f->task);
}

static uint32_t finish_all(struct journal *j, struct journal_flush *f)
{
	uint32_t n = 0;

	for (; f; n++) {
		struct journal_flush *next = f->next;

		finish(j, f);
		f = next;
	}
	return n;
}

static void flushed(struct pool_io *io, int status)
{
	struct journal *j = container_of(io, struct journal, flush_io);
	struct journal_flush *f = j->flush_waiters;
	uint64_t took = loop_now(j->loop) - j->flush_began;

	/* I13: no flush is retried as if it had not failed, and none succeeds after that. */
	if (status < 0 && !MUTANT(IGNORE_FLUSH_ERROR))
		journal_fail(j, status);
	if (!j->failed) {
		j->flushed_seq = j->flush_covers;
		j->never_flushed = false;
	}
	j->flush_waiters = NULL;
	j->flush_runs = false;
	j->await_ns = took < AWAIT_MAX_NS ? took : AWAIT_MAX_NS;
	expect(j, finish_all(j, f));
	flush_go_on(j);
	journal_kick(j);
}

static void start(struct journal *j, bool ahead)
{
	j->flush_waiters = j->flush_queue;
	j->flush_queue = NULL;
	j->flush_runs = true;
	j->flush_ahead = ahead;
	j->flush_covers = j->acked_seq;
	j->flush_writes = j->acked_writes;
	j->acked_writes = j->flushes_asked = 0;
	j->flush_began = loop_now(j->loop);
	j->flush_io.done = flushed;
	j->stats.flushes++;
	pool_flush(j->pool, &j->flush_io);
}

void flush_go_on(struct journal *j)
{
	struct journal_flush *f = j->flush_queue;

	if (j->flush_runs || !f)
		return;
	if (j->failed) {
		j->flush_queue = NULL;
		finish_all(j, f);
	} else if (j->acked_seq >= j->flush_after) {
		start(j, false);
	}
}

void flush_record_done(struct journal *j)
{
	if (j->flush_runs || j->flush_queue || j->failed || !in_step(j) || j->gather || j->queue ||
		j->in_flight)
		return;
	/* The last flush ahead was not asked for. */
	if (j->flush_ahead && !one_each(j->flush_writes, j->flushes_asked)) {
		j->step = false;
		return;
	}
	start(j, true);
	/* Before those who are woken now have the processors. */
	loop_submit(j->loop);
}

void journal_flush(struct journal *j, struct journal_flush *f)
{
	f->journal = j;
	j->flushes_asked++;
	if (j->failed || (!j->never_flushed && j->flushed_seq == j->acked_seq) ||
		MUTANT(SKIP_FLUSH)) {
		finish(j, f);
		return;
	}
	/* I2 */
	if (j->flush_runs && (j->flush_covers == j->acked_seq || MUTANT(FLUSH_JOINS))) {
		f->next = j->flush_waiters;
		j->flush_waiters = f;
		return;
	}
	if (!j->flush_queue)
		j->flush_after = in_step(j) ? j->next_seq - 1 : 0;
	f->next = j->flush_queue;
	j->flush_queue = f;
	flush_go_on(j);
}
