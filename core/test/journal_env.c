/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/journal_env.h"

#include "sys/container.h"

const uint8_t jenv_uuid[16] = "journal's volume";

struct sim_disk_model penv_fast_disk(void)
{
	return (struct sim_disk_model){.read_ns = 60000,
		.write_ns = 40000,
		.flush_ns = 200000,
		.bytes_per_s = 2000u * ENV_MIB,
		.jitter_percent = 60,
		.parallel = 8};
}

void penv_init(struct penv *v, unsigned legs, uint64_t mib, uint64_t seed)
{
	struct sim_disk_model m = penv_fast_disk();

	*v = (struct penv){.legs = legs, .seed = seed};
	v->cfg.pool_segment_bytes = 256 << 10;
	for (unsigned i = 0; i < legs; i++)
		assert_int_equal(sim_disk_new(mib * ENV_MIB, &m, &v->disk[i]), 0);
}

int penv_open_legs(struct penv *v, unsigned first, unsigned n, struct err *e)
{
	struct bdev *legs[ENV_LEGS_MAX];
	int rc;

	assert_int_equal(loop_sim_new(++v->seed, &v->loop, e), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(sim_disk_open(v->disk[first + i], v->loop, &legs[i]), 0);
	rc = pool_open_on(v->loop, legs, n, &v->cfg, &v->pool, e);
	if (rc < 0) {
		loop_free(v->loop);
		v->loop = NULL;
		v->pool = NULL;
	}
	return rc;
}

void penv_open(struct penv *v)
{
	struct err e = {""};

	if (penv_open_legs(v, 0, v->legs, &e) < 0)
		fail_msg("%s", e.msg);
}

void penv_close(struct penv *v)
{
	pool_close(v->pool);
	loop_free(v->loop);
	v->pool = NULL;
	v->loop = NULL;
}

void penv_crash(struct penv *v, uint64_t seed, bool process_only)
{
	for (unsigned i = 0; i < v->legs; i++)
		sim_disk_crash(v->disk[i], seed + i * 7919, process_only);
	loop_sim_crash(v->loop);
}

void penv_fini(struct penv *v)
{
	for (unsigned i = 0; i < v->legs; i++)
		sim_disk_free(v->disk[i]);
}

/* ---- the journal's owner ---- */

static void on_record(
	struct journal_owner *o, uint64_t seq, const struct journal_extent *ext, uint32_t n)
{
	struct jenv *je = container_of(o, struct jenv, owner);

	if (!je->first)
		je->first = seq;
	else
		assert_int_equal(seq, je->last + 1);
	je->last = seq;
	assert_true(n > 0);
	if (je->record)
		je->record(je, seq, ext, n);
}

static void on_failed(struct journal_owner *o, int status)
{
	struct jenv *je = container_of(o, struct jenv, owner);

	assert_int_equal(je->failed, 0);
	assert_true(status < 0);
	je->failed = status;
}

static void on_full(struct journal_owner *o)
{
	struct jenv *je = container_of(o, struct jenv, owner);

	je->fulls++;
}

void jenv_config(struct jenv *je, struct penv *v, uint64_t epoch, struct journal_config *cfg)
{
	*je = (struct jenv){
		.owner = {.on_record = on_record, .on_failed = on_failed, .on_full = on_full},
		.v = v};
	*cfg = (struct journal_config){.loop = v->loop,
		.pool = v->pool,
		.epoch = epoch,
		.record_bytes = 256 << 10,
		.ram_bytes = 4 * ENV_MIB,
		.depth = 2,
		.dirty_percent = 60,
		.owner = &je->owner};
	memcpy(cfg->uuid, jenv_uuid, 16);
}

void jenv_open_with(struct jenv *je, const struct journal_config *cfg)
{
	struct err e = {""};

	if (journal_new(cfg, &je->j, &e) < 0)
		fail_msg("%s", e.msg);
}

int jenv_open(struct jenv *je, struct penv *v, uint64_t epoch, uint64_t covered, struct err *e)
{
	struct journal_config cfg;
	uint64_t replayed;
	int rc;

	jenv_config(je, v, epoch, &cfg);
	jenv_open_with(je, &cfg);
	rc = journal_replay(je->j, covered, &replayed, e);
	if (rc == 0)
		assert_int_equal(replayed, je->first ? je->last + 1 - je->first : 0);
	return rc;
}

/* ---- writes ---- */

void jwrite_fill(uint8_t *buf, uint64_t lba, uint64_t len, uint64_t stamp)
{
	for (uint64_t i = 0; i < len; i++) {
		uint64_t w[64];

		for (uint64_t k = 0; k < 64; k += 2) {
			w[k] = stamp;
			w[k + 1] = (lba + i) * 2654435761u + k;
		}
		memcpy(buf + i * 512, w, 512);
	}
}

static uint64_t stamp_of(const uint8_t *sector, uint64_t lba)
{
	uint8_t want[512];
	uint64_t stamp;

	memcpy(&stamp, sector, 8);
	jwrite_fill(want, lba, 1, stamp);
	assert_memory_equal(sector, want, 512);
	return stamp;
}

static void write_done(struct journal_req *r, int status)
{
	struct jwrite *w = container_of(r, struct jwrite, r);

	w->fired++;
	w->status = status;
	if (w->count)
		w->after = ++*w->count;
}

void jwrite_start(
	struct jenv *je, struct jwrite *w, uint64_t lba, uint64_t len, uint64_t stamp, uint8_t kind)
{
	*w = (struct jwrite){.stamp = stamp, .count = w->count};
	if (kind == EXTENT_DATA) {
		w->buf = malloc(len * 512);
		jwrite_fill(w->buf, lba, len, stamp);
		w->iov = (struct iovec){.iov_base = w->buf, .iov_len = len * 512};
	}
	w->r = (struct journal_req){
		.lba = lba, .len = len, .kind = kind, .iov = &w->iov, .done = write_done};
	journal_write(je->j, &w->r);
	assert_int_equal(w->fired, 0);
}

void jwrite_wait(struct jenv *je, struct jwrite *w)
{
	while (!w->fired)
		loop_poll(je->v->loop, LOOP_FOREVER);
	assert_int_equal(w->fired, 1);
	free(w->buf);
	w->buf = NULL;
}

int jwrite(struct jenv *je, uint64_t lba, uint64_t len, uint64_t stamp, uint8_t kind)
{
	struct jwrite w = {0};

	jwrite_start(je, &w, lba, len, stamp, kind);
	jwrite_wait(je, &w);
	return w.status;
}

struct flush {
	struct journal_flush f;
	bool over;
	int status;
};

static void flush_done(struct journal_flush *f, int status)
{
	struct flush *x = container_of(f, struct flush, f);

	assert_false(x->over);
	x->over = true;
	x->status = status;
}

int jflush(struct jenv *je)
{
	struct flush x = {.f = {.done = flush_done}};

	journal_flush(je->j, &x.f);
	assert_false(x.over);
	while (!x.over)
		loop_poll(je->v->loop, LOOP_FOREVER);
	return x.status;
}

/* ---- reads ---- */

/* One sector at `pos`: from memory, or verified from the pool. */
static uint64_t read_sector(struct jenv *je, uint64_t lba, uint64_t pos)
{
	const uint8_t *mem = journal_memory(je->j, pos);
	uint32_t in_block;
	uint8_t *buf = NULL;
	uint64_t stamp;
	struct pool_io io = {.blocks = 1};

	if (mem)
		return stamp_of(mem, lba);
	io.seg = journal_place(je->j, pos, &io.block, &in_block);
	assert_int_equal(posix_memalign((void **)&buf, POOL_BLOCK, POOL_BLOCK), 0);
	pool_io_awaited(&io);
	pool_read(je->v->pool, &io, buf);
	assert_int_equal(pool_wait_io(je->v->pool, &io), 0);
	stamp = stamp_of(buf + (size_t)in_block * 512, lba);
	free(buf);
	return stamp;
}

void jread(struct jenv *je, uint64_t lba, uint64_t len, uint64_t *stamps)
{
	uint64_t end = lba + len, at = lba;
	struct journal_hit h;

	while (at < end && journal_find(je->j, at, end - at, &h)) {
		assert_true(h.lba >= at && h.len && h.lba + h.len <= end);
		for (; at < h.lba; at++)
			stamps[at - lba] = UINT64_MAX;
		for (uint64_t i = 0; i < h.len; i++, at++)
			stamps[at - lba] =
				h.pos == EXTMAP_ZERO ? 0 : read_sector(je, at, h.pos + i);
	}
	for (; at < end; at++)
		stamps[at - lba] = UINT64_MAX;
}

void jidle(struct jenv *je)
{
	while (journal_busy(je->j))
		loop_poll(je->v->loop, LOOP_FOREVER);
}

struct journal_stats jenv_stats(const struct jenv *je)
{
	struct journal_stats st;

	journal_get_stats(je->j, &st);
	return st;
}

void jenv_stop(struct jenv *je)
{
	jidle(je);
	journal_close(je->j);
	penv_close(je->v);
	penv_fini(je->v);
}
