/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_gc.c - what garbage collection costs the foreground; one JSON object.
 *
 *   bench_gc [ROUNDS]
 *
 * Pool and store in memory, inline drive: everything that collecting does takes the processor from
 * the writes, so this is the hard case.  4 KiB writes at random places of REGION, so that the rate
 * of garbage is steady; images with gc.enabled true and false in turns.
 *
 *   iops        DEPTH writes in flight all the time
 *   paced_p99   latency when RATE writes a second come in, from the time each was due
 *
 * `iops_ratio` should be 0.9 or more, `p99_ratio` 2 or less: medians of with / without.
 */
#include "lsvd.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEPTH = 32, BLOCK = 4096, MIB = 1 << 20, ROUNDS_MAX = 16 };
enum { REGION = 64 * MIB, WARM = 640 * (MIB / BLOCK), FULL = 512 * (MIB / BLOCK) };
enum { RATE = 60000, PACED = RATE * 3 / 2 };

struct bench {
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	struct lsvd_io io[DEPTH];
	struct iovec iov[DEPTH];
	struct lsvd_io *idle[DEPTH];
	uint64_t due[DEPTH];
	unsigned nidle;
	uint64_t rng, done, *lat;
	char data[BLOCK];
};

struct outcome {
	double iops, p50, p99, write_amplification, moved;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_gc: %s: %s\n", what, why);
	exit(1);
}

static void on_done(struct lsvd_io *io)
{
	struct bench *b = io->user;

	if (io->status)
		die("write", strerror(-io->status));
	if (b->lat)
		b->lat[b->done] = now_ns() - b->due[io - b->io];
	b->done++;
	b->idle[b->nidle++] = io;
}

static void submit(struct bench *b, uint64_t due)
{
	struct lsvd_io *io = b->idle[--b->nidle];

	b->rng ^= b->rng << 13;
	b->rng ^= b->rng >> 7;
	b->rng ^= b->rng << 17;
	b->due[io - b->io] = due;
	io->offset_bytes = b->rng % (REGION / BLOCK) * BLOCK;
	if (lsvd_submit(b->img, io) < 0)
		die("submit", "refused");
}

static void finish(struct bench *b)
{
	while (b->nidle < DEPTH)
		if (lsvd_poll(b->ctx, -1) < 0)
			die("poll", "failed");
}

/* As fast as it goes. */
static void run_full(struct bench *b, uint64_t n)
{
	for (uint64_t sent = 0; sent < n;) {
		for (; b->nidle && sent < n; sent++)
			submit(b, 0);
		lsvd_poll(b->ctx, -1);
	}
	finish(b);
}

static void run_paced(struct bench *b, uint64_t n)
{
	uint64_t from = now_ns();

	for (uint64_t sent = 0; sent < n;) {
		for (uint64_t due; b->nidle && sent < n; sent++) {
			due = from + sent * 1000000000u / RATE;
			if (due > now_ns())
				break;
			submit(b, due);
		}
		lsvd_poll(b->ctx, 0);
	}
	finish(b);
}

static void open_image(struct bench *b, const char *url, bool gc)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	char why[LSVD_ERR_MAX] = "";

	*b = (struct bench){.rng = 88172645463325252ull};
	for (unsigned i = 0; i < DEPTH; i++) {
		b->iov[i] = (struct iovec){b->data, BLOCK};
		b->io[i] = (struct lsvd_io){.op = LSVD_WRITE,
			.iov = &b->iov[i],
			.iovcnt = 1,
			.len_bytes = BLOCK,
			.cb = on_done,
			.user = b};
		b->idle[b->nidle++] = &b->io[i];
	}
	if (!cfg || lsvd_config_set(cfg, "pool.path", "mem:512M", why) < 0 ||
		lsvd_config_set(cfg, "gc.enabled", gc ? "true" : "false", why) < 0 ||
		lsvd_ctx_open(cfg, LSVD_DRIVE_INLINE, &b->ctx, why) < 0 ||
		lsvd_image_create(b->ctx, url, REGION, why) < 0 ||
		lsvd_image_open(b->ctx, url, 0, &b->img, why) < 0)
		die("open", why);
	lsvd_config_free(cfg);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static struct outcome measure(const char *url, bool gc)
{
	static struct bench b;
	static uint64_t lat[PACED];
	struct lsvd_stats before, after;
	char why[LSVD_ERR_MAX] = "";
	struct outcome r = {0};
	uint64_t t;

	open_image(&b, url, gc);
	run_full(&b, WARM);
	lsvd_image_stats(b.img, &before);
	t = now_ns();
	run_full(&b, FULL);
	r.iops = FULL * 1e9 / (double)(now_ns() - t);
	b.done = 0;
	b.lat = lat;
	run_paced(&b, PACED);
	b.lat = NULL;
	qsort(lat, PACED, sizeof(lat[0]), by_value);
	r.p50 = (double)lat[PACED / 2];
	r.p99 = (double)lat[PACED / 100 * 99];
	lsvd_image_stats(b.img, &after);
	r.moved = (double)(after.gc_bytes - before.gc_bytes);
	r.write_amplification = (double)(after.batch_bytes + after.gc_bytes - before.batch_bytes -
					 before.gc_bytes) /
				(double)(after.write_bytes - before.write_bytes);
	if (lsvd_image_close(b.img, why) < 0 || lsvd_image_remove(b.ctx, url, why) < 0)
		die("close", why);
	lsvd_ctx_close(b.ctx);
	return r;
}

static double median(double *v, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		for (unsigned k = i; k && v[k] < v[k - 1]; k--) {
			double t = v[k];

			v[k] = v[k - 1];
			v[k - 1] = t;
		}
	return v[n / 2];
}

static json_t *side(const struct outcome *o, unsigned n)
{
	double v[5][ROUNDS_MAX];

	for (unsigned i = 0; i < n; i++) {
		v[0][i] = o[i].iops;
		v[1][i] = o[i].p50;
		v[2][i] = o[i].p99;
		v[3][i] = o[i].write_amplification;
		v[4][i] = o[i].moved;
	}
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "iops", median(v[0], n), "paced_p50_ns",
		median(v[1], n), "paced_p99_ns", median(v[2], n), "write_amplification",
		median(v[3], n), "moved_bytes", median(v[4], n));
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 3;
	struct outcome on[ROUNDS_MAX], off[ROUNDS_MAX];
	double iops[ROUNDS_MAX], p99[ROUNDS_MAX];
	json_t *out;

	if (n < 1 || n > ROUNDS_MAX)
		return 2;
	for (unsigned i = 0; i < n; i++) {
		off[i] = measure("mem:off", false);
		on[i] = measure("mem:on", true);
		iops[i] = on[i].iops / off[i].iops;
		p99[i] = on[i].p99 / off[i].p99;
	}
	out = json_pack("{s:o, s:o, s:f, s:f}", "without", side(off, n), "with", side(on, n),
		"iops_ratio", median(iops, n), "p99_ratio", median(p99, n));
	json_dumpf(out, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(out);
	return 0;
}
