/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * admit.c - writes are let in at the rate that the volume asks for, so that latency rises smoothly
 * while the store is behind.  A bucket of tokens, one per byte; 10 ms' worth, or 4 KiB, is
 * saved up at most.
 */
#include "journal/journal_impl.h"

#include "sys/container.h"

enum { WAIT_MIN_NS = 100000, TOKENS_MIN = 4096 };

void journal_charge(struct journal *j, const struct journal_req *q)
{
	if (j->rate && q->kind == EXTENT_DATA)
		j->tokens -= (int64_t)(q->len * 512);
	if (j->stalled_since) {
		j->stats.stalled_ns += loop_now(j->loop) - j->stalled_since;
		j->stalled_since = 0;
	}
}

void journal_stalled(struct journal *j)
{
	if (j->stalled_since)
		return;
	j->stalled_since = loop_now(j->loop);
	j->stats.stalls++;
}

/* What trickled in since the last look; the fraction of a byte stays for the next one. */
static void refill(struct journal *j)
{
	uint64_t ns = loop_now(j->loop) - j->tokens_at;
	int64_t most = (int64_t)(j->rate / 100), in = (int64_t)((double)ns * (double)j->rate / 1e9);

	if (most < TOKENS_MIN)
		most = TOKENS_MIN;
	j->tokens += in;
	j->tokens_at += (uint64_t)((double)in * 1e9 / (double)j->rate);
	if (j->tokens > most)
		j->tokens = most;
}

bool journal_admitted(struct journal *j)
{
	uint64_t wait;

	if (!j->rate)
		return true;
	refill(j);
	if (j->tokens > 0)
		return true;
	wait = (uint64_t)((double)(1 - j->tokens) * 1e9 / (double)j->rate);
	if (!loop_timer_armed(&j->admit_timer))
		loop_timer_set(j->loop, &j->admit_timer,
			loop_now(j->loop) + (wait < WAIT_MIN_NS ? WAIT_MIN_NS : wait));
	journal_stalled(j);
	return false;
}

static void admit_again(struct loop_timer *t)
{
	journal_kick(container_of(t, struct journal, admit_timer));
}

void journal_set_rate(struct journal *j, uint64_t bytes_per_s)
{
	if (bytes_per_s == j->rate)
		return;
	if (j->rate) {
		refill(j);
	} else {
		j->tokens = 0;
		j->tokens_at = loop_now(j->loop);
	}
	j->rate = bytes_per_s;
	/* Whoever waits, waits by the new rate. */
	loop_timer_cancel(j->loop, &j->admit_timer);
	journal_kick(j);
}

void admit_init(struct journal *j)
{
	j->admit_timer.fire = admit_again;
}

void admit_fini(struct journal *j)
{
	loop_timer_cancel(j->loop, &j->admit_timer);
}
