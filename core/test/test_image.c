/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_image.c - I/O through the public API, on files and in memory: drives, callbacks, queues. */
#include "test/image_env.h"
#include "test/test.h"

#include <errno.h>
#include <poll.h>

static void read_your_writes(const char *name, enum lsvd_drive drive, bool memory)
{
	struct image_env *e = ie_new(name);

	if (memory) {
		char url[64];

		snprintf(url, sizeof(url), "mem:%s/", name);
		ie_store(e, url);
		snprintf(url, sizeof(url), "mem:%s/vm", name);
		memcpy(e->url, url, sizeof(url));
		ie_set(e, "pool.path", "mem:16M");
	}
	ie_open(e, drive);
	model_churn(e, 1500);
	model_check_all(e);
	IE_OK(e, lsvd_image_drain(e->img));
	model_check_all(e);
	ie_close_image(e);
	ie_image(e, 0);
	model_check_all(e);
	model_churn(e, 500);
	model_check_all(e);
	assert_int_equal(ie_stats(e).store_errors, 0);
	ie_free(e);
}

TEST(reads_see_writes_inline_on_files)
{
	read_your_writes("inline-file", LSVD_DRIVE_INLINE, false);
}
TEST(reads_see_writes_with_a_thread_on_files)
{
	read_your_writes("thread-file", LSVD_DRIVE_THREAD, false);
}
TEST(reads_see_writes_inline_in_memory)
{
	read_your_writes("inline-mem", LSVD_DRIVE_INLINE, true);
}
TEST(reads_see_writes_with_a_thread_in_memory)
{
	read_your_writes("thread-mem", LSVD_DRIVE_THREAD, true);
}

/* ---- callbacks with thread drive ---- */

struct counted {
	struct lsvd_io io;
	struct iovec iov;
	atomic_uint fired;
	atomic_bool *in_submit;
	pthread_t submitter;
};

static void count_it(struct lsvd_io *io)
{
	struct counted *c = io->user;

	/* On the loop's thread: never on the one that is inside lsvd_submit. */
	if (pthread_equal(pthread_self(), c->submitter) && atomic_load(c->in_submit))
		atomic_fetch_add(&c->fired, 1000);
	atomic_fetch_add(&c->fired, 1);
}

static bool all_fired(void *arg)
{
	struct counted *c = arg;

	for (int i = 0; i < 64; i++)
		if (!atomic_load(&c[i].fired))
			return false;
	return true;
}

TEST(callbacks_of_a_thread_drive_fire_once_each)
{
	struct image_env *e = ie_new("callbacks");
	struct counted *c = calloc(64, sizeof(*c));
	static uint8_t buf[64][512];
	atomic_bool in_submit = false;

	ie_open(e, LSVD_DRIVE_THREAD);
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < 64; i++) {
			c[i].iov = (struct iovec){buf[i], 512};
			c[i].in_submit = &in_submit;
			c[i].submitter = pthread_self();
			atomic_store(&c[i].fired, 0);
			c[i].io.op = i % 8 == 7 ? LSVD_FLUSH : i % 2 ? LSVD_READ : LSVD_WRITE;
			c[i].io.offset_bytes = (uint64_t)i * 512;
			c[i].io.len_bytes = 512;
			c[i].io.iov = &c[i].iov;
			c[i].io.iovcnt = 1;
			c[i].io.cb = count_it;
			c[i].io.user = &c[i];
			atomic_store(&in_submit, true);
			assert_int_equal(lsvd_submit(e->img, &c[i].io), 0);
			atomic_store(&in_submit, false);
		}
		assert_true(ie_until(all_fired, c));
		for (int i = 0; i < 64; i++)
			assert_int_equal(atomic_load(&c[i].fired), 1);
	}
	ie_free(e);
	free(c);
}

/* ---- foreign threads ---- */

enum { THREADS = 4, DEPTH = 8, THREAD_IOS = 600 };

struct foreign {
	struct image_env *e;
	pthread_t thread;
	unsigned id;
	const char *wrong;
};

/* Each thread its own part of the image: write, and read what was written before.  Every other one waits
 * by the eventfd. */
static const char *use_queue(struct foreign *f, struct lsvd_queue *q, uint8_t *buf)
{
	struct lsvd_io io[DEPTH] = {0}, *ready[DEPTH];
	struct iovec iov[DEPTH];
	uint32_t version[64] = {0};
	unsigned out = 0, submitted = 0;
	bool busy[64] = {false};

	while (submitted < THREAD_IOS || out) {
		struct pollfd p = {.fd = f->id % 2 ? lsvd_queue_fd(q) : -1, .events = POLLIN};
		int n;

		for (unsigned i = 0; i < DEPTH && submitted < THREAD_IOS; i++) {
			unsigned b = (submitted * 7 + f->id) % 64;
			uint64_t lba = (uint64_t)f->id * 4096 + (uint64_t)b * 8;
			int rc;

			if (io[i].user || busy[b])
				continue;
			io[i].op = version[b] && submitted % 2 ? LSVD_READ : LSVD_WRITE;
			iov[i] = (struct iovec){buf + (size_t)i * 4096, 4096};
			io[i].iov = &iov[i];
			io[i].iovcnt = 1;
			io[i].offset_bytes = lba * 512;
			io[i].len_bytes = 4096;
			if (io[i].op == LSVD_WRITE)
				model_fill(iov[i].iov_base, lba, 8, version[b] = ++submitted);
			else
				submitted++;
			io[i].user = &busy[b];
			busy[b] = true;
			rc = lsvd_queue_submit(q, f->e->img, &io[i]);
			if (rc != 0)
				return "a submit failed";
			out++;
		}
		if (out == DEPTH && lsvd_queue_submit(q, f->e->img,
					    &(struct lsvd_io){.op = LSVD_FLUSH}) != -EAGAIN)
			return "more than the queue's depth went in";
		if (p.fd >= 0 && poll(&p, 1, 10000) != 1)
			return "the eventfd did not become readable";
		n = lsvd_queue_reap(q, ready, 1, DEPTH, -1);
		for (int k = 0; k < n; k++) {
			struct lsvd_io *r = ready[k];
			uint64_t lba = r->offset_bytes / 512;

			for (unsigned s = 0; r->op == LSVD_READ && s < 8; s++)
				if (!model_is((uint8_t *)r->iov->iov_base + s * 512, lba + s,
					    version[lba % 4096 / 8]))
					return "a read did not see the last write";
			if (r->status)
				return "a request failed";
			*(bool *)r->user = false;
			r->user = NULL;
		}
		out -= (unsigned)n;
	}
	return NULL;
}

static void *foreign(void *arg)
{
	struct foreign *f = arg;
	struct lsvd_queue *q;
	uint8_t *buf = malloc(DEPTH * 4096);

	if (lsvd_queue_new(f->e->ctx, DEPTH, &q, NULL) < 0 || !buf) {
		f->wrong = "no queue";
		return NULL;
	}
	f->wrong = use_queue(f, q, buf);
	if (!f->wrong && lsvd_flush(f->e->img) != 0)
		f->wrong = "a blocking flush of a foreign thread failed";
	lsvd_queue_free(q);
	free(buf);
	return NULL;
}

TEST(foreign_threads_use_queues_of_their_own)
{
	struct image_env *e = ie_new("queues");
	struct foreign f[THREADS];
	struct lsvd_stats st;

	ie_open(e, LSVD_DRIVE_THREAD);
	for (unsigned i = 0; i < THREADS; i++) {
		f[i] = (struct foreign){.e = e, .id = i};
		assert_int_equal(pthread_create(&f[i].thread, NULL, foreign, &f[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(f[i].thread, NULL);
		if (f[i].wrong)
			fail_msg("thread %u: %s", i, f[i].wrong);
	}
	st = ie_stats(e);
	assert_int_equal(st.reads + st.writes, THREADS * THREAD_IOS);
	ie_free(e);
}

TEST(a_queue_reaps_what_is_there_and_no_more)
{
	struct image_env *e = ie_new("reap");
	struct lsvd_io io[2] = {{.op = LSVD_FLUSH}, {.op = LSVD_FLUSH}}, *out[4];
	struct lsvd_queue *q;

	ie_open(e, LSVD_DRIVE_INLINE);
	IE_SAYS(e, lsvd_queue_new(e->ctx, 4, &q, e->why), -EINVAL, "thread drive");
	ie_close(e);
	ie_open(e, LSVD_DRIVE_THREAD);
	IE_SAYS(e, lsvd_queue_new(e->ctx, 0, &q, e->why), -EINVAL, "depth 0");
	IE_OK(e, lsvd_queue_new(e->ctx, 1, &q, e->why));
	assert_int_equal(lsvd_queue_reap(q, out, 1, 4, 1000000), 0);
	assert_int_equal(lsvd_queue_submit(q, e->img, &io[0]), 0);
	assert_int_equal(lsvd_queue_submit(q, e->img, &io[1]), -EAGAIN);
	assert_int_equal(lsvd_queue_reap(q, out, 1, 4, -1), 1);
	assert_ptr_equal(out[0], &io[0]);
	assert_int_equal(lsvd_queue_submit(q, e->img, &io[1]), 0);
	assert_int_equal(lsvd_queue_reap(q, out, 4, 4, 50000000), 1);
	assert_ptr_equal(out[0], &io[1]);
	lsvd_queue_free(q);
	ie_free(e);
}

TEST(an_eventfd_that_is_asked_for_late_tells_what_is_there)
{
	struct image_env *e = ie_new("late");
	struct lsvd_io io = {.op = LSVD_FLUSH}, *out[4];
	struct pollfd p = {.events = POLLIN};
	struct lsvd_queue *q;

	ie_open(e, LSVD_DRIVE_THREAD);
	IE_OK(e, lsvd_queue_new(e->ctx, 4, &q, e->why));
	for (int i = 0; i < 100; i++) {
		assert_int_equal(lsvd_queue_submit(q, e->img, &io), 0);
		if (i % 2)
			usleep(1000);
		p.fd = lsvd_queue_fd(q);
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_int_equal(lsvd_queue_reap(q, out, 1, 4, -1), 1);
		assert_int_equal(poll(&p, 1, 0), 0);
	}
	lsvd_queue_free(q);
	ie_free(e);
}

/* ---- the caretaker ---- */

static bool destaged(void *arg)
{
	struct lsvd_stats st = ie_stats(arg);

	return st.batch_bytes == 4096 && st.dirty_bytes == 0;
}

TEST(nobody_polls_and_data_is_destaged_all_the_same)
{
	struct image_env *e = ie_new("caretaker");
	struct counted c = {.fired = 0};
	atomic_bool in_submit = false;
	static uint8_t buf[4096];

	ie_set(e, "destage.age_ms", "20");
	ie_open(e, LSVD_DRIVE_INLINE);
	model_fill(buf, 0, 8, 1);
	c.iov = (struct iovec){buf, 4096};
	c.in_submit = &in_submit;
	c.submitter = pthread_self();
	c.io = (struct lsvd_io){.op = LSVD_WRITE,
		.len_bytes = 4096,
		.iov = &c.iov,
		.iovcnt = 1,
		.cb = count_it,
		.user = &c};
	assert_int_equal(lsvd_submit(e->img, &c.io), 0);
	assert_true(ie_until(destaged, e));
	assert_int_equal(atomic_load(&c.fired), 0);
	while (!atomic_load(&c.fired))
		lsvd_poll(e->ctx, 0);
	assert_int_equal(atomic_load(&c.fired), 1);
	ie_free(e);
}

/* ---- extents ---- */

struct runs {
	uint64_t at[16], len[16];
	unsigned n, most;
};

static int add_run(void *arg, uint64_t offset_bytes, uint64_t len_bytes)
{
	struct runs *r = arg;

	/* Runs may touch. */
	if (r->n && r->at[r->n - 1] + r->len[r->n - 1] == offset_bytes) {
		r->len[r->n - 1] += len_bytes;
		return 0;
	}
	if (r->n == r->most)
		return 7;
	r->at[r->n] = offset_bytes;
	r->len[r->n++] = len_bytes;
	return 0;
}

static void check_runs(struct image_env *e)
{
	uint64_t size = lsvd_image_size(e->img);
	struct runs r = {.most = 16}, one = {.most = 1}, part = {.most = 16};

	assert_int_equal(lsvd_image_extents(e->img, 0, size, add_run, &r), 0);
	assert_int_equal(r.n, 3);
	assert_int_equal(r.at[0], 4096);
	assert_int_equal(r.len[0], 4096);
	assert_int_equal(r.at[1], 65536);
	assert_int_equal(r.len[1], 8192);
	assert_int_equal(r.at[2], 65536 + 12288);
	assert_int_equal(r.len[2], 53248);
	assert_int_equal(lsvd_image_extents(e->img, 0, size, add_run, &one), 7);
	assert_int_equal(lsvd_image_extents(e->img, 6144, 65536, add_run, &part), 0);
	assert_int_equal(part.n, 2);
	assert_int_equal(part.len[0], 2048);
	assert_int_equal(part.len[1], 6144);
	assert_int_equal(lsvd_image_extents(e->img, 512, size, add_run, &r), -EINVAL);
	assert_int_equal(lsvd_image_extents(e->img, 100, 512, add_run, &r), -EINVAL);
}

/* What is in the journal, what is in objects, and what was discarded in either. */
TEST(extents_are_told_wherever_they_are)
{
	struct image_env *e = ie_new("extents");
	static uint8_t buf[65536];

	ie_open(e, LSVD_DRIVE_THREAD);
	IE_OK(e, lsvd_pwrite(e->img, buf, 4096, 4096));
	IE_OK(e, lsvd_pwrite(e->img, buf, 65536, 65536));
	IE_OK(e, lsvd_discard(e->img, 4096, 65536 + 8192));
	check_runs(e);
	IE_OK(e, lsvd_image_drain(e->img));
	check_runs(e);
	ie_close_image(e);
	ie_image(e, LSVD_OPEN_READONLY);
	check_runs(e);
	ie_free(e);
}

/* Without the pool, a read-only image is in the way of one that is written to. */
TEST(the_pool_is_opened_first_when_told)
{
	struct image_env *e = ie_new("pool-first");
	struct lsvd_image *reader, *writer;
	char why[LSVD_ERR_MAX];

	ie_ctx(e, LSVD_DRIVE_THREAD);
	ie_create(e);
	IE_OK(e, lsvd_image_open(e->ctx, e->url, LSVD_OPEN_READONLY, &reader, e->why));
	assert_int_equal(lsvd_image_open(e->ctx, e->url, 0, &writer, why), -EBUSY);
	IE_OK(e, lsvd_image_close(reader, e->why));
	IE_OK(e, lsvd_ctx_open_pool(e->ctx, e->why));
	IE_OK(e, lsvd_ctx_open_pool(e->ctx, e->why));
	IE_OK(e, lsvd_image_open(e->ctx, e->url, LSVD_OPEN_READONLY, &reader, e->why));
	IE_OK(e, lsvd_image_open(e->ctx, e->url, 0, &writer, e->why));
	IE_OK(e, lsvd_image_close(writer, e->why));
	IE_OK(e, lsvd_image_close(reader, e->why));
	ie_free(e);
}
