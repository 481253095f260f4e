/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_image_memory.c - an image whose journal waits for memory: writers do, and nobody else.
 *
 * What stands in for sys/prefault.c makes blocks when the test says so.
 */
#include "sys/prefault.h"
#include "test/test.h"

#include "lsvd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { WRITES = 256, CHUNK = 128 << 10, FEW = 6 };

/* ---- blocks ---- */

struct prefault {
	size_t bytes;
	void (*tell)(void *arg, bool made);
	void *arg;
};

static struct {
	struct prefault p;
	unsigned made, awaits; /* by the loop itself; how often it awaited one */
	bool awaited, over; /* over: who awaits one is told at once that there is none */
	void *ready;
} blocks;

struct prefault *prefault_new(size_t bytes, void (*tell)(void *arg, bool made), void *arg)
{
	blocks.p = (struct prefault){bytes, tell, arg};
	blocks.made = blocks.awaits = 0;
	blocks.awaited = blocks.over = false;
	return &blocks.p;
}

static void *make(void)
{
	void *b = NULL;

	assert_int_equal(posix_memalign(&b, 4096, blocks.p.bytes), 0);
	return b;
}

void *prefault_make(const struct prefault *p)
{
	(void)p;
	blocks.made++;
	return make();
}

void prefault_give(const struct prefault *p, void *block)
{
	(void)p;
	free(block);
}

void *prefault_take(struct prefault *p)
{
	void *b = blocks.ready;

	(void)p;
	blocks.ready = NULL;
	return b;
}

bool prefault_await(struct prefault *p)
{
	assert_false(blocks.awaited);
	blocks.awaited = !blocks.over;
	blocks.awaits++;
	if (blocks.over)
		p->tell(p->arg, false);
	return true;
}

void prefault_trim(struct prefault *p)
{
	(void)p;
	free(blocks.ready);
	blocks.ready = NULL;
}

void prefault_free(struct prefault *p)
{
	if (p)
		prefault_trim(p);
}

static void *tell(void *made)
{
	blocks.p.tell(blocks.p.arg, made);
	return NULL;
}

/* A thread has touched one, or could not. */
static void answer(bool made)
{
	pthread_t t;

	assert_true(blocks.awaited);
	blocks.awaited = false;
	blocks.ready = made ? make() : NULL;
	assert_int_equal(pthread_create(&t, NULL, tell, made ? &blocks : NULL), 0);
	pthread_join(t, NULL);
}

/* ---- writes ---- */

struct work {
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	struct lsvd_io io[WRITES];
	struct iovec iov[WRITES]; /* each filled with another byte */
	char *data;
	unsigned submitted, done;
};

static void written(struct lsvd_io *io)
{
	struct work *w = io->user;

	assert_int_equal(io->status, 0);
	w->done++;
}

static void start(struct work *w, const char *image)
{
	static const char *const set[][2] = {{"pool.path", "mem:256M"}, {"object.size", "1M"},
		{"journal.ram", "16M"}, {"journal.burst_percent", "0"}, {"destage.puts", "16"}};
	struct lsvd_config *cfg = lsvd_config_defaults();
	char why[LSVD_ERR_MAX] = "";

	*w = (struct work){0};
	for (size_t i = 0; i < sizeof(set) / sizeof(set[0]); i++)
		if (lsvd_config_set(cfg, set[i][0], set[i][1], why) < 0)
			fail_msg("%s", why);
	assert_int_equal(lsvd_ctx_open(cfg, LSVD_DRIVE_INLINE, &w->ctx, why), 0);
	lsvd_config_free(cfg);
	assert_int_equal(lsvd_image_create(w->ctx, image, 64 << 20, why), 0);
	assert_int_equal(lsvd_image_open(w->ctx, image, 0, &w->img, why), 0);
	w->data = malloc((size_t)WRITES * CHUNK);
	assert_non_null(w->data);
	for (unsigned i = 0; i < WRITES; i++) {
		w->iov[i] = (struct iovec){w->data + (size_t)i * CHUNK, CHUNK};
		memset(w->iov[i].iov_base, (int)i + 1, CHUNK);
	}
}

static void stop(struct work *w)
{
	char why[LSVD_ERR_MAX] = "";

	blocks.over = true;
	if (blocks.awaited)
		answer(true); /* the thread always does */
	if (lsvd_image_close(w->img, why) < 0)
		fail_msg("%s", why);
	lsvd_ctx_close(w->ctx);
	free(w->data);
}

static void poll_some(struct work *w)
{
	for (int i = 0; i < 20; i++)
		lsvd_poll(w->ctx, 0);
}

/* Write until writers wait for memory. */
static void write_until_it_waits(struct work *w)
{
	while (!blocks.awaited && w->submitted < WRITES) {
		unsigned i = w->submitted++;

		w->io[i] = (struct lsvd_io){.op = LSVD_WRITE,
			.offset_bytes = (uint64_t)i * CHUNK,
			.len_bytes = CHUNK,
			.iov = &w->iov[i],
			.iovcnt = 1,
			.cb = written,
			.user = w};
		assert_int_equal(lsvd_submit(w->img, &w->io[i]), 0);
		poll_some(w);
	}
	assert_true(blocks.awaited);
	assert_true(w->done < w->submitted);
}

static void check(struct work *w, unsigned i, char *buf)
{
	assert_int_equal(lsvd_pread(w->img, buf, CHUNK, (uint64_t)i * CHUNK), 0);
	assert_memory_equal(buf, w->iov[i].iov_base, CHUNK);
}

TEST(while_memory_is_touched_only_writers_wait)
{
	struct work w;
	char *buf = malloc(CHUNK);
	unsigned before;

	start(&w, "model:custom,put=400ms:mem:touch");
	write_until_it_waits(&w);
	assert_int_equal(blocks.made, FEW);
	before = w.done;
	check(&w, 0, buf);
	assert_int_equal(w.done, before);
	answer(true);
	poll_some(&w);
	assert_int_equal(w.done, w.submitted);
	assert_int_equal(blocks.made, FEW);
	free(buf);
	stop(&w);
}

/* It is read back from the pool when it is put into objects. */
TEST(without_memory_what_is_dirty_makes_room)
{
	struct work w;
	char *buf = malloc(CHUNK);

	start(&w, "model:custom,put=400ms:mem:none");
	write_until_it_waits(&w);
	answer(false);
	poll_some(&w);
	assert_int_equal(w.done, w.submitted);
	assert_int_equal(blocks.awaits, 1);
	for (unsigned i = 0; i < w.submitted; i++)
		check(&w, i, buf);
	assert_int_equal(blocks.made, FEW);
	free(buf);
	stop(&w);
}
