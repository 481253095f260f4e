/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_drive.c - replays against real images: in real time, in virtual time, and recorded again. */
#include "test/test.h"
#include "trace/drive.h"
#include "trace/load.h"
#include "trace/virtual.h"

#include <errno.h>
#include <sys/stat.h>

enum { SIZE = 16 << 20, BLOCK = 4096 };

static const char *url_of(const char *name)
{
	static char url[300];

	snprintf(url, sizeof(url), "file:%s/store", test_dir());
	mkdir(url + 5, 0755);
	snprintf(url, sizeof(url), "file:%s/store/%s", test_dir(), name);
	return url;
}

static struct lsvd_config *config(void)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	char why[LSVD_ERR_MAX];

	assert_non_null(cfg);
	if (lsvd_config_set(cfg, "pool.path", "mem:256M", why) < 0 ||
		lsvd_config_set(cfg, "pool.size", "256M", why) < 0 ||
		lsvd_config_set(cfg, "pool.segment", "4M", why) < 0)
		fail_msg("%s", why);
	return cfg;
}

struct fix {
	struct lsvd_config *cfg;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	const char *url;
};

static struct fix set_up(const char *name)
{
	struct fix f = {.cfg = config(), .url = url_of(name)};
	char why[LSVD_ERR_MAX];

	if (lsvd_ctx_open(f.cfg, LSVD_DRIVE_INLINE, &f.ctx, why) < 0 ||
		lsvd_image_create(f.ctx, f.url, SIZE, why) < 0 ||
		lsvd_image_open(f.ctx, f.url, 0, &f.img, why) < 0)
		fail_msg("%s", why);
	return f;
}

static void tear_down(struct fix *f)
{
	char why[LSVD_ERR_MAX];

	if (f->img && lsvd_image_close(f->img, why) < 0)
		fail_msg("%s", why);
	lsvd_ctx_close(f->ctx);
	lsvd_config_free(f->cfg);
}

/* Disjoint writes in pairs, each pair read back, a flush now and then. */
static size_t make_trace(struct trace_record *r, size_t max)
{
	size_t n = 0;
	uint64_t t = 1000;

	for (uint64_t k = 0; n + 5 <= max && k * 2 < SIZE / BLOCK; k++) {
		for (int i = 0; i < 2; i++)
			r[n++] = (struct trace_record){.op = TRACE_WRITE,
				.submit_ns = t,
				.complete_ns = t + 100,
				.offset_bytes = (2 * k + (uint64_t)i) * BLOCK,
				.len_bytes = BLOCK};
		t += 200;
		if (k % 8 == 0)
			r[n++] = (struct trace_record){
				.op = TRACE_FLUSH, .submit_ns = t, .complete_ns = t + 5};
		t += 10;
		r[n++] = (struct trace_record){.op = TRACE_READ,
			.submit_ns = t,
			.complete_ns = t + 1000,
			.offset_bytes = 2 * k * BLOCK,
			.len_bytes = 2 * BLOCK};
		t += 3000;
	}
	return n;
}

static void replay(struct fix *f, const struct trace_record *r, size_t n, struct replay_result *res)
{
	struct drive_options o = {.seed = 5, .replay.asap = true};
	struct err e = {0};

	if (drive_replay(f->ctx, f->img, r, n, &o, res, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(res->errors, 0);
}

TEST(a_replay_writes_what_it_says)
{
	struct fix f = set_up("writes");
	struct trace_record r[300];
	uint8_t got[BLOCK], want[BLOCK];
	struct replay_result res;
	size_t n = make_trace(r, 300);

	replay(&f, r, n, &res);
	assert_int_equal(res.requests, n);
	for (size_t i = 0; i < n; i++) {
		if (r[i].op != TRACE_WRITE)
			continue;
		assert_int_equal(lsvd_pread(f.img, got, BLOCK, r[i].offset_bytes), 0);
		replay_fill(want, BLOCK, r[i].offset_bytes, i, 5);
		assert_memory_equal(got, want, BLOCK);
	}
	tear_down(&f);
}

TEST(a_trace_beyond_the_image_is_refused)
{
	struct fix f = set_up("small");
	struct trace_record r = {.op = TRACE_READ, .offset_bytes = SIZE, .len_bytes = 512};
	struct drive_options o = {0};
	struct replay_result res;
	struct err e = {0};

	assert_int_equal(drive_replay(f.ctx, f.img, &r, 1, &o, &res, &e), -ERANGE);
	assert_non_null(strstr(e.msg, "beyond the image's end"));
	r.len_bytes = 4ull << 30;
	r.offset_bytes = 0;
	o.replay.wrap = true;
	assert_int_equal(drive_replay(f.ctx, f.img, &r, 1, &o, &res, &e), 0);
	assert_int_equal(res.bytes, SIZE);
	tear_down(&f);
}

/* What the library records while a trace is replayed is that trace again. */
TEST(a_recorded_replay_is_the_trace_again)
{
	struct fix f = set_up("recorded");
	struct trace_record r[300];
	struct replay_result res;
	size_t n = make_trace(r, 300);
	char path[300], why[LSVD_ERR_MAX] = "";
	struct trace t;
	struct err e = {0};

	snprintf(path, sizeof(path), "%s/again.trace", test_dir());
	if (lsvd_image_trace(f.img, path, why) < 0)
		fail_msg("%s", why);
	replay(&f, r, n, &res);
	if (lsvd_image_trace(f.img, NULL, why) < 0)
		fail_msg("%s", why);
	if (trace_load(path, NULL, &t, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(t.n, n);
	assert_int_equal(t.counts.dropped, 0);
	assert_int_equal(t.header.size_bytes, SIZE);
	for (unsigned op = 0; op < TRACE_OPS; op++) {
		uint64_t want = 0, got = 0, bytes = 0;

		for (size_t i = 0; i < n; i++) {
			want += r[i].op == op;
			got += t.records[i].op == op;
			bytes += t.records[i].op == op ? t.records[i].len_bytes : 0;
			assert_true(t.records[i].complete_ns >= t.records[i].submit_ns);
		}
		assert_int_equal(got, want);
		assert_int_equal(bytes, res.op[op].bytes);
	}
	trace_free(&t);
	tear_down(&f);
}

static struct replay_result virtual_run(
	const char *url, const char *model, unsigned rounds, const struct trace_record *r, size_t n)
{
	struct lsvd_config *cfg = config();
	struct virtual_options vo = {.url = url, .model = model, .cfg = cfg, .seed = 9};
	struct drive_options o = {.now = virtual_now};
	struct replay_result res = {0};
	struct virtual *v = NULL;
	struct err e = {0};

	if (virtual_open(&vo, &v, &e) < 0)
		fail_msg("%s", e.msg);
	o.now_arg = v;
	for (unsigned i = 0; i < rounds; i++)
		if (drive_replay(virtual_ctx(v), virtual_image(v), r, n, &o, &res, &e) < 0)
			fail_msg("%s", e.msg);
	assert_int_equal(res.errors, 0);
	virtual_close(v);
	lsvd_config_free(cfg);
	return res;
}

/* Serial reads of an image in the store: each cold one takes the model's time; the same again gives
 * the same figures; warm ones cost none; and the image is as it was. */
TEST(virtual_time_is_exact_and_changes_nothing)
{
	struct fix f = set_up("virtual");
	struct trace_record w[300], r[10];
	struct replay_result a, b, warm, res;
	uint8_t got[BLOCK], want[BLOCK];
	size_t n = make_trace(w, 300);
	char why[LSVD_ERR_MAX];
	uint64_t t = 0;

	replay(&f, w, n, &res);
	assert_int_equal(lsvd_image_close(f.img, why), 0);
	f.img = NULL;
	for (unsigned i = 0; i < 10; i++, t += 2000000)
		r[i] = (struct trace_record){.op = i == 9 ? TRACE_WRITE : TRACE_READ,
			.submit_ns = t,
			.complete_ns = t + 1000000,
			.offset_bytes = i * 32ull * BLOCK % (100 * BLOCK),
			.len_bytes = BLOCK};
	a = virtual_run(f.url, "custom,lat=20ms", 1, r, 10);
	b = virtual_run(f.url, "custom,lat=20ms", 1, r, 10);
	warm = virtual_run(f.url, "custom,lat=20ms", 2, r, 10);
	assert_int_equal(a.wall_ns, b.wall_ns);
	assert_int_equal(a.stall_ns, b.stall_ns);
	assert_true(a.stall_ns >= 20000000);
	assert_true(warm.stall_ns < 9 * 1000000);
	if (lsvd_image_open(f.ctx, f.url, 0, &f.img, why) < 0)
		fail_msg("%s", why);
	for (size_t i = 0; i < n; i++) {
		if (w[i].op != TRACE_WRITE)
			continue;
		assert_int_equal(lsvd_pread(f.img, got, BLOCK, w[i].offset_bytes), 0);
		replay_fill(want, BLOCK, w[i].offset_bytes, i, 5);
		assert_memory_equal(got, want, BLOCK);
	}
	tear_down(&f);
}
