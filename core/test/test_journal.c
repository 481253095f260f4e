/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_journal.c - group commit, room, holds and failures of the journal. */
#include "sys/container.h"
#include "test/journal_env.h"

#include <errno.h>

/* A small pool, open with an empty journal. */
static void start(struct penv *v, struct jenv *je, unsigned legs, uint64_t mib)
{
	struct err e = {""};

	penv_init(v, legs, mib, test_seed());
	penv_open(v);
	assert_int_equal(jenv_open(je, v, 1, 0, &e), 0);
}

/* Two legs, and neither can be done without. */
static void start_strict(struct penv *v, struct jenv *je)
{
	struct err e = {""};

	penv_init(v, 2, 8, test_seed());
	snprintf(v->cfg.pool_acks, sizeof(v->cfg.pool_acks), "2");
	penv_open(v);
	assert_int_equal(jenv_open(je, v, 1, 0, &e), 0);
}

/* Write once, so that the journal has a segment, and take that out of the figures. */
static struct journal_stats prime(struct jenv *je)
{
	struct journal_stats st;

	assert_int_equal(jwrite(je, 1 << 20, 1, 1, EXTENT_DATA), 0);
	journal_get_stats(je->j, &st);
	return st;
}

/* ---- group commit ---- */

TEST(writes_of_one_turn_are_two_records)
{
	enum { N = 48 };
	uint64_t count = 0, stamps[8];
	struct jwrite w[N];
	struct journal_stats st;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	st = prime(&je);
	for (uint64_t i = 0; i < N; i++) {
		w[i].count = &count;
		jwrite_start(&je, &w[i], i * 8, 8, i + 1, EXTENT_DATA);
	}
	/* Readable at once, acknowledged later, in order. */
	jread(&je, 5 * 8, 8, stamps);
	assert_int_equal(stamps[7], 6);
	for (uint64_t i = 0; i < N; i++) {
		jwrite_wait(&je, &w[i]);
		assert_int_equal(w[i].status, 0);
		assert_int_equal(w[i].after, i + 1);
	}
	/* The first 32 blocks went at once, the rest at the end of the turn. */
	assert_int_equal(jenv_stats(&je).records, st.records + 2);
	assert_int_equal(jenv_stats(&je).bytes, st.bytes + (N + 2) * 4096);
	assert_int_equal(journal_last_seq(je.j), 3);
	assert_int_equal(je.last, 3);
	jenv_stop(&je);
}

TEST(writes_that_arrive_while_records_are_in_flight_gather)
{
	enum { N = 400 };
	struct jwrite *w = calloc(N, sizeof(*w));
	uint64_t count = 0;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	prime(&je);
	for (uint64_t i = 0; i < N; i++) {
		w[i].count = &count;
		jwrite_start(&je, &w[i], i, 1, i + 1, EXTENT_DATA);
		loop_poll(v.loop, 0);
		loop_poll(v.loop, 3000);
	}
	for (uint64_t i = 0; i < N; i++) {
		jwrite_wait(&je, &w[i]);
		assert_int_equal(w[i].after, i + 1);
	}
	assert_in_range(jenv_stats(&je).records, 10, 200);
	assert_int_equal(je.last, jenv_stats(&je).records);
	free(w);
	jenv_stop(&je);
}

TEST(small_writes_share_blocks)
{
	uint64_t stamps[64];
	struct jwrite w[24] = {0};
	struct journal_stats st;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	st = prime(&je);
	/* 512-byte writes to scattered places, one that is large, and a few behind it. */
	for (uint64_t i = 0; i < 20; i++)
		jwrite_start(&je, &w[i], i * 3, 1, i + 1, EXTENT_DATA);
	jwrite_start(&je, &w[20], 100, 9, 50, EXTENT_DATA);
	jwrite_start(&je, &w[21], 120, 3, 51, EXTENT_DATA);
	jwrite_start(&je, &w[22], 130, 5, 52, EXTENT_DATA);
	jwrite_start(&je, &w[23], 140, 4, 53, EXTENT_DATA);
	for (uint64_t i = 0; i < 24; i++)
		jwrite_wait(&je, &w[i]);
	/* 20 sectors: 3 blocks; 9: 2 blocks, the second with 3 more, then 4 left: 5 do not fit. */
	assert_int_equal(jenv_stats(&je).records, st.records + 1);
	assert_int_equal(jenv_stats(&je).bytes - st.bytes, (1 + 3 + 2 + 2) * 4096);
	journal_trim(je.j);
	for (uint64_t i = 0; i < 20; i++) {
		jread(&je, i * 3, 1, stamps);
		assert_int_equal(stamps[0], i + 1);
	}
	jread(&je, 100, 64, stamps);
	for (uint64_t i = 0; i < 64; i++) {
		uint64_t want = i < 9		    ? 50
				: i >= 20 && i < 23 ? 51
				: i >= 30 && i < 35 ? 52
				: i >= 40 && i < 44 ? 53
						    : UINT64_MAX;

		assert_int_equal(stamps[i], want);
	}
	jenv_stop(&je);
}

TEST(data_comes_from_scattered_memory)
{
	uint8_t a[5 * 512], b[3 * 512], whole[8 * 512];
	struct iovec iov[3] = {{a, 2 * 512}, {a + 2 * 512, 3 * 512}, {b, 3 * 512}};
	struct jwrite w = {0};
	uint64_t stamps[6];
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	jwrite_fill(whole, 998, 8, 9);
	memcpy(a, whole, sizeof(a));
	memcpy(b, whole + sizeof(a), sizeof(b));
	jwrite_start(&je, &w, 0, 1, 1, EXTENT_DATA);
	jwrite_wait(&je, &w);
	w.fired = 0;
	w.r = (struct journal_req){.lba = 1000,
		.len = 6,
		.kind = EXTENT_DATA,
		.iov = iov,
		.iov_off = 2 * 512,
		.done = w.r.done};
	journal_write(je.j, &w.r);
	jwrite_wait(&je, &w);
	jread(&je, 1000, 6, stamps);
	for (int i = 0; i < 6; i++)
		assert_int_equal(stamps[i], 9);
	jenv_stop(&je);
}

TEST(zeroes_and_discards_hide_data)
{
	uint64_t stamps[32];
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	assert_int_equal(jwrite(&je, 0, 32, 1, EXTENT_DATA), 0);
	assert_int_equal(jwrite(&je, 8, 8, 0, EXTENT_ZERO), 0);
	assert_int_equal(jwrite(&je, 20, JOURNAL_ZERO_SECTORS_MAX, 0, EXTENT_DISCARD), 0);
	assert_int_equal(jwrite(&je, 24, 1, 2, EXTENT_DATA), 0);
	jread(&je, 0, 32, stamps);
	for (uint64_t i = 0; i < 32; i++)
		assert_int_equal(stamps[i], i == 24 ? 2 : i < 8 ? 1 : i < 16 ? 0 : i < 20 ? 1 : 0);
	jenv_stop(&je);
}

/* Every sector of a small volume against a model, while segments wrap and are given back. */
TEST(reads_follow_a_random_load)
{
	enum { SECTORS = 4096, ROUNDS = 3000 };
	uint64_t *model = calloc(SECTORS, 8), *got = calloc(SECTORS, 8), rand = test_seed();
	uint64_t lag = 0;
	struct jenv je;
	struct penv v;

	memset(model, 0xff, SECTORS * 8);
	start(&v, &je, 2, 6);
	for (uint64_t i = 1; i <= ROUNDS; i++) {
		uint64_t len = test_rand(&rand) % 8 ? 1 + test_rand(&rand) % 16
						    : 1 + test_rand(&rand) % 256;
		uint64_t lba = test_rand(&rand) % (SECTORS - len);
		uint8_t kind =
			test_rand(&rand) % 8 ? EXTENT_DATA : (uint8_t)(1 + test_rand(&rand) % 2);
		struct jwrite w = {0};

		jwrite_start(&je, &w, lba, len, i, kind);
		for (uint64_t k = 0; k < len; k++)
			model[lba + k] = kind == EXTENT_DATA ? i : 0;
		/* What is in the journal is right; what is not any more was covered. */
		if (i % 16 == 0) {
			lba = test_rand(&rand) % (SECTORS - 300);
			jread(&je, lba, 300, got);
			for (uint64_t k = 0; k < 300; k++)
				if (got[k] != UINT64_MAX || lag == 0)
					assert_int_equal(got[k], model[lba + k]);
		}
		/* Covered with a delay: dirty data is always there, clean most of the time. */
		while (!w.fired) {
			if (je.last > lag + 20)
				journal_covered(je.j, lag = je.last - 10);
			loop_poll(v.loop, LOOP_FOREVER);
		}
		jwrite_wait(&je, &w);
		assert_int_equal(w.status, 0);
	}
	assert_true(jenv_stats(&je).bytes > 2u * 6 * ENV_MIB);
	free(model), free(got);
	jenv_stop(&je);
}

/* ---- failures (I13) ---- */

TEST(a_failed_write_fails_everything_with_the_first_cause)
{
	for (unsigned leg = 0; leg < 2; leg++) {
		struct jwrite w[300] = {0};
		struct jenv je;
		struct penv v;
		int failed = 0;

		start_strict(&v, &je);
		assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), 0);
		sim_disk_model(v.disk[leg])->error_per_million = 1000000;
		for (uint64_t i = 0; i < 300; i++)
			jwrite_start(&je, &w[i], i * 8, 64, i + 2, EXTENT_DATA);
		for (uint64_t i = 0; i < 300; i++) {
			jwrite_wait(&je, &w[i]);
			assert_int_equal(w[i].status, -EIO);
			failed++;
		}
		sim_disk_model(v.disk[leg])->error_per_million = 0;
		assert_int_equal(je.failed, -EIO);
		assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), -EIO);
		assert_int_equal(jflush(&je), -EIO);
		assert_int_equal(je.last, 1); /* nothing that failed was handed over */
		jenv_stop(&je);
	}
}

TEST(a_segment_that_cannot_be_taken_fails_the_journal)
{
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	sim_disk_model(v.disk[0])->error_per_million = 1000000;
	assert_int_equal(jwrite(&je, 0, 8, 1, EXTENT_DATA), -EIO);
	sim_disk_model(v.disk[0])->error_per_million = 0;
	assert_int_equal(je.failed, -EIO);
	jenv_stop(&je);
}

/* ---- room ---- */

/* Start 128 KiB writes until one stays behind; how many were acknowledged. */
static uint64_t fill_up(struct jenv *je, struct jwrite *w, uint64_t max)
{
	uint64_t n = 0;

	for (; n < max; n++) {
		jwrite_start(je, &w[n], n % 64 * 256, 256, n + 1, EXTENT_DATA);
		while (!w[n].fired && loop_poll(je->v->loop, 1000000))
			;
		if (!w[n].fired)
			return n;
		jwrite_wait(je, &w[n]);
	}
	return n;
}

TEST(a_full_journal_stalls_and_goes_on_when_covered)
{
	struct jwrite *w = calloc(2000, sizeof(*w));
	uint64_t n, limit;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	limit = journal_dirty_limit(je.j);
	assert_int_equal(limit, pool_segments(v.pool) * 60 / 100);
	n = fill_up(&je, w, 2000);
	assert_int_equal(journal_dirty_segments(je.j), limit);
	assert_true(je.fulls > 0);
	assert_true(jenv_stats(&je).stalls > 0);
	/* Not a byte is accepted until something is covered. */
	for (int i = 0; i < 100; i++)
		loop_poll(v.loop, 1000000);
	assert_int_equal(w[n].fired, 0);
	journal_covered(je.j, je.last / 2);
	jwrite_wait(&je, &w[n]);
	assert_int_equal(w[n].status, 0);
	assert_true(jenv_stats(&je).stalled_ns > 0);
	assert_true(journal_dirty_segments(je.j) < limit);
	/* Round and round. */
	for (uint64_t i = 0; i < 1000; i++) {
		jwrite_start(&je, &w[0], i % 64 * 256, 256, i + 1, EXTENT_DATA);
		while (!w[0].fired) {
			if (je.last > 4)
				journal_covered(je.j, je.last - 4);
			loop_poll(v.loop, 1000000);
		}
		jwrite_wait(&je, &w[0]);
	}
	free(w);
	jenv_stop(&je);
}

/* Two journals share a pool: what one makes clean lets the other go on. */
TEST(a_neighbour_that_gets_clean_wakes_who_waits)
{
	static const uint8_t other_uuid[16] = "the neighbour";
	struct jwrite *w = calloc(2000, sizeof(*w)), *w2 = calloc(2000, sizeof(*w2));
	struct journal_config cfg;
	struct jenv a, b;
	struct penv v;
	uint64_t n, n2, replayed;
	struct err e;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	jenv_config(&a, &v, 1, &cfg);
	cfg.dirty_percent = 80;
	jenv_open_with(&a, &cfg);
	assert_int_equal(journal_replay(a.j, 0, &replayed, &e), 0);
	jenv_config(&b, &v, 1, &cfg);
	memcpy(cfg.uuid, other_uuid, 16);
	cfg.dirty_percent = 80;
	jenv_open_with(&b, &cfg);
	assert_int_equal(journal_replay(b.j, 0, &replayed, &e), 0);
	n = fill_up(&a, w, pool_segments(v.pool) * 3 / 4);
	n2 = fill_up(&b, w2, 2000);
	assert_true(n > n2 && n2 > 2);
	assert_int_equal(w2[n2].fired, 0);
	assert_true(journal_dirty_segments(b.j) < journal_dirty_limit(b.j)); /* the pool is full */
	journal_covered(a.j, a.last);
	jwrite_wait(&b, &w2[n2]);
	assert_int_equal(w2[n2].status, 0);
	free(w), free(w2);
	jidle(&a);
	journal_close(a.j);
	jenv_stop(&b);
}

TEST(a_segment_that_is_read_stays)
{
	struct pool_io io = {.blocks = 1};
	uint32_t in_block;
	struct journal_hit h;
	struct segment *first;
	void *buf = NULL;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 4);
	assert_int_equal(jwrite(&je, 100000, 8, 1, EXTENT_DATA), 0);
	assert_true(journal_find(je.j, 100000, 8, &h));
	first = journal_place(je.j, h.pos, &io.block, &in_block);
	io.seg = first;
	assert_int_equal(posix_memalign(&buf, POOL_BLOCK, POOL_BLOCK), 0);
	for (uint64_t i = 0; i < 200; i++) {
		pool_io_awaited(&io);
		pool_read(v.pool, &io, buf);
		assert_int_equal(jwrite(&je, 0, 256, i + 2, EXTENT_DATA), 0);
		journal_covered(je.j, je.last);
		assert_int_equal(pool_wait_io(v.pool, &io), 0);
		if (!journal_find(je.j, 100000, 8, &h))
			break;
	}
	assert_false(journal_find(je.j, 100000, 8, &h));
	free(buf);
	jenv_stop(&je);
}

TEST(admission_keeps_the_rate)
{
	struct jwrite w = {0};
	struct jenv je;
	struct penv v;
	uint64_t t0, sum = 0, took;

	start(&v, &je, 1, 64);
	/* Low rates with many looks at the bucket, high ones, and one that is raised meanwhile. */
	for (uint64_t rate = 1 << 20; rate <= 64u << 20; rate *= 8) {
		t0 = loop_now(v.loop);
		journal_set_rate(je.j, rate);
		for (sum = 0; sum < rate / 4; sum += 4096) {
			assert_int_equal(jwrite(&je, sum / 512 % 8192, 8, 1, EXTENT_DATA), 0);
			journal_covered(je.j, je.last);
		}
		took = loop_now(v.loop) - t0;
		assert_in_range(took, 200000000, 400000000);
		journal_set_rate(je.j, 0);
	}
	journal_set_rate(je.j, 1000);
	assert_int_equal(jwrite(&je, 0, 256, 1, EXTENT_DATA), 0); /* 131 s in debt */
	t0 = loop_now(v.loop);
	jwrite_start(&je, &w, 0, 8, 2, EXTENT_DATA);
	for (int i = 0; i < 20; i++)
		loop_poll(v.loop, 1000000);
	assert_int_equal(w.fired, 0);
	journal_set_rate(je.j, 100 << 20);
	jwrite_wait(&je, &w);
	assert_true(loop_now(v.loop) - t0 < 1000000000);
	assert_true(jenv_stats(&je).stalled_ns > 0);
	jenv_stop(&je);
}

/* ---- holds ---- */

struct hold {
	struct journal_hold h;
	int fired, status;
};

static void hold_done(struct journal_hold *h, int status)
{
	struct hold *x = container_of(h, struct hold, h);

	x->fired++;
	x->status = status;
}

static void hold(struct jenv *je, struct hold *h, uint64_t frame)
{
	*h = (struct hold){.h = {.frame = frame, .done = hold_done}};
	journal_hold(je->j, &h->h);
	assert_int_equal(h->fired, 0);
}

static void await_hold(struct jenv *je, struct hold *h)
{
	while (!h->fired)
		loop_poll(je->v->loop, LOOP_FOREVER);
	assert_int_equal(h->fired, 1);
}

/* The sector at `pos` of what a hold gave. */
static void check_held(
	struct jenv *je, const struct hold *h, uint64_t pos, uint64_t lba, uint64_t stamp)
{
	uint8_t want[512];

	jwrite_fill(want, lba, 1, stamp);
	assert_memory_equal(
		h->h.mem + pos % journal_frame_sectors(je->j) * 512, want, sizeof(want));
}

/* Much more than memory is written: frames come back from the disk, verified. */
static void load_back(unsigned legs, int rot)
{
	enum { N = 100 };
	uint64_t pos[N], fs;
	struct journal_config cfg;
	struct jenv je;
	struct penv v;
	struct err e;
	uint64_t replayed, lost = 7;

	penv_init(&v, legs, 64, test_seed());
	v.cfg.pool_segment_bytes = 1 << 20;
	penv_open(&v);
	jenv_config(&je, &v, 1, &cfg);
	cfg.ram_bytes = 0; /* the least: 6 frames of 1 MiB */
	jenv_open_with(&je, &cfg);
	assert_int_equal(journal_replay(je.j, 0, &replayed, &e), 0);
	fs = journal_frame_sectors(je.j);
	for (uint64_t i = 0; i < N; i++) {
		struct journal_hit h;

		assert_int_equal(jwrite(&je, i * 256, 256, i + 1, EXTENT_DATA), 0);
		assert_true(journal_find(je.j, i * 256, 256, &h));
		assert_int_equal(h.len, 256);
		pos[i] = h.pos;
	}
	assert_true(journal_memory_bytes(je.j) < 8u * ENV_MIB);
	/* Destage begins with the oldest: that one stays. */
	assert_non_null(journal_memory(je.j, pos[0]));
	while (lost < N && journal_memory(je.j, pos[lost]))
		lost += 7;
	assert_true(lost < N);
	if (rot) {
		uint32_t block, in_block;
		struct segment *s = journal_place(je.j, pos[lost] + 100, &block, &in_block);
		uint64_t at = ENV_MIB + s->index * (uint64_t)ENV_MIB + block * 4096ull;

		for (unsigned leg = 0; leg < (unsigned)rot; leg++)
			sim_disk_rot(v.disk[leg], at + 77, 1);
	}
	for (uint64_t i = 0; i < N; i += 7) {
		struct hold a, b;
		bool bad = rot == (int)legs && pos[i] / fs == pos[lost] / fs;

		hold(&je, &a, pos[i] / fs);
		hold(&je, &b, pos[i] / fs);
		await_hold(&je, &a);
		await_hold(&je, &b);
		assert_int_equal(a.status, bad ? -EBADMSG : 0);
		assert_int_equal(b.status, a.status);
		if (bad)
			continue;
		assert_ptr_equal(a.h.mem, b.h.mem);
		check_held(&je, &a, pos[i], i * 256, i + 1);
		check_held(&je, &a, pos[i] + 255, i * 256 + 255, i + 1);
		journal_unhold(je.j, &a.h);
		journal_unhold(je.j, &b.h);
	}
	assert_true(jenv_stats(&je).frames_loaded > 5);
	jenv_stop(&je);
}

TEST(frames_come_back_from_the_disk)
{
	load_back(1, 0);
}

TEST(frames_come_back_from_the_other_leg)
{
	load_back(2, 1);
}

TEST(a_frame_damaged_on_every_leg_is_not_handed_out)
{
	load_back(1, 1);
	load_back(2, 2);
}

TEST(holds_wait_for_memory_and_writers_for_holds)
{
	struct jwrite *w = calloc(200, sizeof(*w));
	struct journal_config cfg;
	struct hold h[12], more;
	uint64_t replayed, n;
	struct jenv je;
	struct penv v;
	struct err e;

	penv_init(&v, 1, 64, test_seed());
	v.cfg.pool_segment_bytes = 1 << 20;
	penv_open(&v);
	jenv_config(&je, &v, 1, &cfg);
	cfg.ram_bytes = 0;
	jenv_open_with(&je, &cfg);
	assert_int_equal(journal_replay(je.j, 0, &replayed, &e), 0);
	for (uint64_t i = 0; i < 60; i++)
		assert_int_equal(jwrite(&je, i * 256, 256, i + 1, EXTENT_DATA), 0);
	/* Hold as many frames as there are beside the one being filled. */
	for (uint64_t i = 0; i < 5; i++) {
		hold(&je, &h[i], i);
		await_hold(&je, &h[i]);
		assert_int_equal(h[i].status, 0);
	}
	hold(&je, &more, 5);
	for (int i = 0; i < 50; i++)
		loop_poll(v.loop, 1000000);
	assert_int_equal(more.fired, 0);
	n = fill_up(&je, w, 200);
	assert_true(n < 10);
	assert_int_equal(more.fired, 1); /* the filled frame made room, and holds go first */
	assert_int_equal(more.status, 0);
	journal_unhold(je.j, &h[0].h);
	jwrite_wait(&je, &w[n]);
	assert_int_equal(w[n].status, 0);
	for (uint64_t i = 1; i < 5; i++)
		journal_unhold(je.j, &h[i].h);
	journal_unhold(je.j, &more.h);
	free(w);
	jenv_stop(&je);
}

TEST(a_held_segment_stays)
{
	struct journal_hit hit;
	struct jwrite w = {0};
	struct hold h;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 4);
	assert_int_equal(jwrite(&je, 100000, 8, 1, EXTENT_DATA), 0);
	assert_true(journal_find(je.j, 100000, 8, &hit));
	hold(&je, &h, hit.pos / journal_frame_sectors(je.j));
	await_hold(&je, &h);
	/* One a segment; there are 15. */
	for (uint64_t i = 0; i < 15; i++) {
		assert_int_equal(jwrite(&je, 0, 256, i + 2, EXTENT_DATA), 0);
		journal_covered(je.j, je.last);
	}
	jwrite_start(&je, &w, 0, 256, 16, EXTENT_DATA);
	for (int i = 0; i < 50; i++)
		loop_poll(v.loop, 1000000);
	assert_int_equal(w.fired, 0);
	check_held(&je, &h, hit.pos, 100000, 1);
	assert_true(journal_find(je.j, 100000, 8, &hit));
	journal_unhold(je.j, &h.h);
	jwrite_wait(&je, &w);
	for (uint64_t i = 0; i < 40; i++) {
		assert_int_equal(jwrite(&je, 0, 256, i + 2, EXTENT_DATA), 0);
		journal_covered(je.j, je.last);
	}
	assert_false(journal_find(je.j, 100000, 8, &hit));
	jenv_stop(&je);
}

TEST(memory_is_given_back)
{
	size_t before;
	struct jenv je;
	struct penv v;

	start(&v, &je, 1, 8);
	for (uint64_t i = 0; i < 15; i++)
		assert_int_equal(jwrite(&je, i * 256, 256, i + 1, EXTENT_DATA), 0);
	before = journal_memory_bytes(je.j);
	journal_trim(je.j);
	assert_true(journal_memory_bytes(je.j) < before / 2);
	for (uint64_t i = 0; i < 15; i++) {
		uint64_t stamps[256];

		jread(&je, i * 256, 256, stamps);
		assert_int_equal(stamps[0], i + 1);
		assert_int_equal(stamps[255], i + 1);
	}
	jenv_stop(&je);
}

/* ---- closing ---- */

TEST(a_released_journal_leaves_nothing)
{
	struct jenv je;
	struct penv v;

	start(&v, &je, 2, 8);
	for (uint64_t i = 0; i < 15; i++)
		assert_int_equal(jwrite(&je, i * 256 % 8192, 256, i + 1, EXTENT_DATA), 0);
	journal_covered(je.j, je.last);
	jidle(&je);
	assert_int_equal(journal_release(je.j), 0);
	assert_int_equal(pool_free_segments(v.pool), pool_segments(v.pool));
	journal_close(je.j);
	penv_close(&v);
	penv_open(&v);
	assert_int_equal(pool_free_segments(v.pool), pool_segments(v.pool));
	assert_int_equal(journal_epoch_in_pool(v.pool, jenv_uuid), 0);
	penv_close(&v);
	penv_fini(&v);
}

TEST(wiping_takes_only_the_volumes_own)
{
	static const uint8_t other[16] = "somebody else";
	struct journal_config cfg;
	struct jenv a, b;
	struct penv v;

	penv_init(&v, 1, 8, test_seed());
	penv_open(&v);
	jenv_config(&a, &v, 3, &cfg);
	jenv_open_with(&a, &cfg);
	assert_int_equal(jwrite(&a, 0, 8, 1, EXTENT_DATA), 0);
	jenv_config(&b, &v, 5, &cfg);
	memcpy(cfg.uuid, other, 16);
	jenv_open_with(&b, &cfg);
	assert_int_equal(jwrite(&b, 0, 8, 1, EXTENT_DATA), 0);
	jidle(&a), jidle(&b);
	journal_close(a.j), journal_close(b.j);
	assert_int_equal(journal_epoch_in_pool(v.pool, jenv_uuid), 3);
	assert_int_equal(journal_epoch_in_pool(v.pool, other), 5);
	assert_int_equal(journal_wipe(v.pool, jenv_uuid), 0);
	assert_int_equal(journal_epoch_in_pool(v.pool, jenv_uuid), 0);
	assert_int_equal(journal_epoch_in_pool(v.pool, other), 5);
	penv_close(&v);
	penv_fini(&v);
}
