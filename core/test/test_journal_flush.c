/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_journal_flush.c - flushes, and writers that flush after each write, in step. */
#include "sys/container.h"
#include "test/journal_env.h"

#include <errno.h>

enum { FLUSHES = 6, CLIENTS_MAX = 24 };

static void start(struct penv *v, struct jenv *je, unsigned legs)
{
	struct err e = {""};

	penv_init(v, legs, 64, test_seed());
	v->cfg.pool_segment_bytes = 4 * ENV_MIB; /* records are seldom cut at the end of one */
	snprintf(v->cfg.pool_acks, sizeof(v->cfg.pool_acks), "%u", legs);
	penv_open(v);
	assert_int_equal(jenv_open(je, v, 1, 0, &e), 0);
}

/* ---- one flush ---- */

TEST(a_flush_with_nothing_new_costs_nothing)
{
	struct jenv je;
	struct penv v;

	start(&v, &je, 2);
	/* What earlier openings left must be flushed once. */
	assert_int_equal(jflush(&je), 0);
	assert_int_equal(jenv_stats(&je).flushes, 1);
	assert_int_equal(jflush(&je), 0);
	assert_int_equal(jenv_stats(&je).flushes, 1);
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
	assert_int_equal(jflush(&je), 0);
	assert_int_equal(jflush(&je), 0);
	assert_int_equal(jenv_stats(&je).flushes, 2);
	jenv_stop(&je);
}

/* ---- several ---- */

struct flushes {
	struct journal_flush f[FLUSHES];
	int fired, status[FLUSHES];
};

static struct flushes *flushes;

static void one_flushed(struct journal_flush *f, int status)
{
	flushes->status[f - flushes->f] = status;
	flushes->fired++;
}

/* Flushes `from` to `to` - 1 are asked for. */
static void ask(struct jenv *je, struct flushes *x, int from, int to)
{
	flushes = x;
	for (int i = from; i < to; i++) {
		x->f[i].done = one_flushed;
		journal_flush(je->j, &x->f[i]);
	}
}

static void await(struct penv *v, const struct flushes *x, int n)
{
	while (x->fired < n)
		loop_poll(v->loop, LOOP_FOREVER);
}

TEST(flushes_of_the_same_records_are_one)
{
	struct flushes x = {0};
	struct jenv je;
	struct penv v;

	start(&v, &je, 1);
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
	ask(&je, &x, 0, 3);
	loop_poll(v.loop, 0);
	assert_int_equal(x.fired, 0); /* it is under way */
	ask(&je, &x, 3, 6);
	await(&v, &x, 6);
	assert_int_equal(jenv_stats(&je).flushes, 1);
	jenv_stop(&je);
}

/* What is acknowledged during a flush is not covered by it, and those who want that share the next. */
TEST(flushes_of_later_records_share_the_next)
{
	struct flushes x = {0};
	struct jenv je;
	struct penv v;

	start(&v, &je, 1);
	sim_disk_model(v.disk[0])->flush_ns = 100000000;
	sim_disk_model(v.disk[0])->jitter_percent = 0;
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
	ask(&je, &x, 0, 1);
	assert_int_equal(jwrite(&je, 8, 8, 2, EXTENT_DATA), 0);
	assert_int_equal(x.fired, 0);
	ask(&je, &x, 1, 6);
	await(&v, &x, 1);
	assert_int_equal(x.fired, 1);
	assert_int_equal(jenv_stats(&je).flushes, 2);
	await(&v, &x, 6);
	assert_int_equal(jenv_stats(&je).flushes, 2);
	jenv_stop(&je);
}

TEST(a_failed_flush_is_for_good)
{
	struct flushes x = {0};
	struct jenv je;
	struct penv v;

	start(&v, &je, 2);
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
	sim_disk_model(v.disk[1])->error_per_million = 1000000;
	ask(&je, &x, 0, 6);
	await(&v, &x, 1);
	sim_disk_model(v.disk[1])->error_per_million = 0;
	await(&v, &x, 6);
	for (int i = 0; i < 6; i++)
		assert_int_equal(x.status[i], -EIO);
	assert_int_equal(jwrite(&je, 0, 8, 2, EXTENT_DATA), -EIO);
	assert_int_equal(jflush(&je), -EIO);
	jenv_stop(&je);
}

/* ---- in step ---- */

/* After its first flush: the writer and its journal are in step. */
static void start_in_step(struct penv *v, struct jenv *je)
{
	start(v, je, 1);
	sim_disk_model(v->disk[0])->jitter_percent = 0;
	assert_int_equal(jwrite(je, 1000, 8, 1, EXTENT_DATA), 0);
	assert_int_equal(jflush(je), 0);
}

/* w[0] is acknowledged, and w[1], which came meanwhile, is on its way. */
static void start_two(struct jenv *je, struct jwrite *w)
{
	jwrite_start(je, &w[0], 0, 8, 1, EXTENT_DATA);
	loop_poll(je->v->loop, 0);
	jwrite_start(je, &w[1], 8, 8, 2, EXTENT_DATA);
	jwrite_wait(je, &w[0]);
	assert_int_equal(w[1].fired, 0);
	assert_int_equal(jenv_stats(je).flushes, 1);
}

TEST(a_flush_covers_the_record_in_flight_too)
{
	struct flushes x = {0};
	struct jwrite w[3] = {0};
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	start_two(&je, w);
	ask(&je, &x, 0, 1);
	assert_int_equal(jenv_stats(&je).flushes, 1);
	/* For what comes after it no flush waits. */
	jwrite_start(&je, &w[2], 16, 8, 3, EXTENT_DATA);
	jwrite_wait(&je, &w[1]);
	assert_int_equal(jenv_stats(&je).flushes, 2);
	assert_int_equal(w[2].fired, 0);
	await(&v, &x, 1);
	jwrite_wait(&je, &w[2]);
	assert_int_equal(jflush(&je), 0);
	assert_int_equal(jenv_stats(&je).flushes, 3); /* of w[2] */
	jenv_stop(&je);
}

TEST(a_flush_that_waits_for_a_record_fails_with_it)
{
	struct flushes x = {0};
	struct jwrite w[2] = {0};
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	start_two(&je, w);
	sim_disk_model(v.disk[0])->error_per_million = 1000000;
	ask(&je, &x, 0, 3);
	jwrite_wait(&je, &w[1]);
	assert_int_equal(w[1].status, -EIO);
	sim_disk_model(v.disk[0])->error_per_million = 0;
	await(&v, &x, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(x.status[i], -EIO);
	assert_int_equal(jenv_stats(&je).flushes, 1);
	jenv_stop(&je);
}

/* Nothing is in flight any more. */
static void settle(struct jenv *je)
{
	while (journal_busy(je->j))
		loop_poll(je->v->loop, LOOP_FOREVER);
}

TEST(a_record_is_flushed_before_its_writer_asks)
{
	struct flushes x = {0};
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
	assert_int_equal(jenv_stats(&je).flushes, 2);
	ask(&je, &x, 0, 1); /* it joins */
	assert_int_equal(x.fired, 0);
	await(&v, &x, 1);
	assert_int_equal(jwrite(&je, 8, 8, 2, EXTENT_DATA), 0);
	settle(&je);
	assert_int_equal(jenv_stats(&je).flushes, 3);
	ask(&je, &x, 1, 2); /* it is done */
	await(&v, &x, 2);
	assert_int_equal(jenv_stats(&je).flushes, 3);
	jenv_stop(&je);
}

TEST(flushes_that_nobody_asks_for_end)
{
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(jwrite(&je, i * 8, 8, 1, EXTENT_DATA), 0);
	settle(&je);
	assert_int_equal(jenv_stats(&je).flushes, 2);
	jenv_stop(&je);
}

TEST(a_flush_ahead_that_fails_is_for_good)
{
	struct flushes x = {0};
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
	sim_disk_model(v.disk[0])->error_per_million = 1000000;
	settle(&je);
	sim_disk_model(v.disk[0])->error_per_million = 0;
	ask(&je, &x, 0, 1);
	await(&v, &x, 1);
	assert_int_equal(x.status[0], -EIO);
	assert_int_equal(jwrite(&je, 0, 8, 2, EXTENT_DATA), -EIO);
	jenv_stop(&je);
}

/* Write, flush, write, ...; each round begins a little later than the flush ended. */
struct client {
	struct jenv *je;
	struct jwrite w;
	struct journal_flush f;
	struct loop_timer timer;
	uint64_t think_ns;
	unsigned rounds;
	bool never_flushes;
};

static unsigned clients_over;

static void client_write(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, timer);

	c->w.r.next = NULL;
	journal_write(c->je->j, &c->w.r);
}

static void client_flushed(struct journal_flush *f, int status)
{
	struct client *c = container_of(f, struct client, f);

	assert_int_equal(status, 0);
	if (--c->rounds)
		loop_timer_set(c->je->v->loop, &c->timer,
			loop_now(c->je->v->loop) + c->think_ns);
	else
		clients_over++;
}

static void client_written(struct journal_req *r, int status)
{
	struct client *c = container_of(r, struct client, w.r);

	assert_int_equal(status, 0);
	if (c->never_flushes)
		client_flushed(&c->f, 0);
	else
		journal_flush(c->je->j, &c->f);
}

static void client_start(
	struct client *c, struct jenv *je, unsigned i, unsigned rounds, uint64_t think_ns)
{
	*c = (struct client){.je = je, .rounds = rounds, .think_ns = think_ns};
	c->w.buf = malloc(4096);
	jwrite_fill(c->w.buf, i * 8, 8, 7);
	c->w.iov = (struct iovec){.iov_base = c->w.buf, .iov_len = 4096};
	c->w.r = (struct journal_req){.lba = i * 8,
		.len = 8,
		.kind = EXTENT_DATA,
		.iov = &c->w.iov,
		.done = client_written};
	c->f.done = client_flushed;
	c->timer.fire = client_write;
	/* They begin at different times. */
	loop_timer_set(je->v->loop, &c->timer, loop_now(je->v->loop) + i * 33000);
}

static void run_clients(struct jenv *je, struct client *c, unsigned n)
{
	clients_over = 0;
	while (clients_over < n)
		loop_poll(je->v->loop, LOOP_FOREVER);
	for (unsigned i = 0; i < n; i++)
		free(c[i].w.buf);
}

static void share(unsigned clients)
{
	enum { ROUNDS = 200 };
	struct client c[CLIENTS_MAX];
	struct journal_stats st;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1);
	for (unsigned i = 0; i < clients; i++)
		client_start(&c[i], &je, i, ROUNDS, 2000 + 24000 * i / clients);
	run_clients(&je, c, clients);
	st = jenv_stats(&je);
	/* One each for a round of all of them, but for the first rounds, the last, and the ends of frames. */
	assert_in_range(st.flushes, ROUNDS, ROUNDS + ROUNDS / 4);
	assert_in_range(st.records, ROUNDS, ROUNDS + ROUNDS / 4);
	jenv_stop(&je);
}

TEST(writers_that_flush_share_a_record_and_a_flush)
{
	share(8);
}

/* An idle disk would get the first 16 blocks at once. */
TEST(many_writers_that_flush_share_them_too)
{
	share(CLIENTS_MAX);
}

/* Who flushes alone is not kept waiting, whatever the others do. */
TEST(a_lone_writer_waits_for_nobody)
{
	enum { ROUNDS = 100 };
	uint64_t from, alone;
	struct client c[2];
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	sim_disk_model(v.disk[0])->bytes_per_s = 0;
	from = loop_now(v.loop);
	client_start(&c[0], &je, 0, ROUNDS, 0);
	run_clients(&je, c, 1);
	alone = (loop_now(v.loop) - from) / ROUNDS;
	assert_in_range(alone, 240000, 245000); /* a write and a flush */
	jenv_stop(&je);
}

/* Three wait for each flush, but only one of them writes. */
TEST(waiting_in_vain_becomes_rare)
{
	enum { ROUNDS = 200 };
	uint64_t from;
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	sim_disk_model(v.disk[0])->bytes_per_s = 0;
	from = loop_now(v.loop);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct flushes x = {0};

		assert_int_equal(jwrite(&je, i * 8, 8, 7, EXTENT_DATA), 0);
		ask(&je, &x, 0, 3);
		await(&v, &x, 3);
	}
	/* 240 us are a write and a flush; each wait would take 100 more. */
	assert_in_range((loop_now(v.loop) - from) / ROUNDS, 241000, 250000);
	jenv_stop(&je);
}

/* A writer beside it that does not flush is not kept waiting by flushes. */
TEST(who_does_not_flush_is_not_in_step)
{
	enum { ROUNDS = 400 };
	uint64_t from, ns;
	struct client c[2];
	struct jenv je;
	struct penv v;

	start_in_step(&v, &je);
	sim_disk_model(v.disk[0])->bytes_per_s = 0;
	from = loop_now(v.loop);
	client_start(&c[0], &je, 0, ROUNDS, 0);
	client_start(&c[1], &je, 1, ROUNDS / 10, 0);
	c[0].never_flushes = true;
	run_clients(&je, c, 2);
	ns = (loop_now(v.loop) - from) / ROUNDS;
	assert_in_range(ns, 40000, 60000); /* a write takes 40 us, and at most one is waited for */
	jenv_stop(&je);
}
