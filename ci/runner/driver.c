/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * driver.c - the smallest user of lsvd.h, to count what the library itself costs.
 *
 *   ci-bench driver OP POOL IMAGE REGION_MIB WARM_MIB SLICES SLICE_MS [TRACE]
 *
 * OP is write, read or mixed (every third a write): 4 KiB at random offsets, depth 32, inline
 * drive. The region is written once, drained, and the image opened again; then, for reads, it is
 * read once. Slices of SLICE_MS follow; with TRACE every second one is recorded to that file, its
 * start and stop included.  Prints a JSON array with one object per slice: ios, wall_ns, cpu_ns
 * (all threads), instructions (user mode; absent where they cannot be counted), syscalls, allocs,
 * traced The cost of choosing offsets and submitting, some 10 ns per I/O, is in it.
 *
 *   ci-bench count OP REGION_MIB WARM_IOS IOS GC
 *
 * The same in memory, with or without garbage collection (GC: true, false), for a number of
 * requests instead of a time: IOS of them after WARM_IOS, in driver_counted(), which is what
 * callgrind is told to look at.  Prints one JSON object of what they took: counts, no times.
 */
#include "ci/runner/alloc.h"
#include "ci/runner/bench.h"
#include "ci/runner/yield.h"

#include "lsvd.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 32, BLOCK = 4096, BIG = 65536 };

struct driver {
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	const char *url, *trace, *gc; /* gc: "true", "false" */
	uint64_t region;
	unsigned write_of_3; /* of three requests, how many write */
	int perf_fd;
	struct lsvd_io io[DEPTH];
	struct iovec iov[DEPTH];
	struct lsvd_io *idle[DEPTH];
	unsigned nidle;
	uint64_t done, rng;
	int status;
};

struct counts {
	uint64_t ios, wall_ns, cpu_ns, thread_ns, instructions, syscalls, allocs;
};

static struct driver d;

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int open_instructions(void)
{
	struct perf_event_attr a = {.type = PERF_TYPE_HARDWARE,
		.size = sizeof(a),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.inherit = 1,
		.exclude_kernel = 1,
		.exclude_hv = 1};

	return (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static void count_now(struct counts *c)
{
	struct lsvd_stats st = {0};

	lsvd_image_stats(d.img, &st);
	c->ios = d.done;
	c->syscalls = st.syscalls;
	c->allocs = alloc_count();
	if (d.perf_fd < 0 || read(d.perf_fd, &c->instructions, 8) != 8)
		c->instructions = 0;
	c->wall_ns = clock_ns(CLOCK_MONOTONIC);
	c->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	c->thread_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void on_done(struct lsvd_io *io)
{
	if (io->status)
		d.status = io->status;
	d.done++;
	d.idle[d.nidle++] = io;
}

static uint64_t next_random(void)
{
	d.rng ^= d.rng << 13;
	d.rng ^= d.rng >> 7;
	d.rng ^= d.rng << 17;
	return d.rng;
}

/* Keeps DEPTH requests in flight until `end_ns`, or until `ios` were made; then lets them end. */
static int run_until(uint64_t end_ns, uint64_t ios)
{
	int rc = 0;

	for (uint64_t turn = 0; !rc && !d.status; turn++) {
		if (d.done >= ios || (turn % 16 == 0 && clock_ns(CLOCK_MONOTONIC) >= end_ns))
			break;
		while (d.nidle && !rc) {
			struct lsvd_io *io = d.idle[--d.nidle];
			uint64_t r = next_random();

			io->op = (r >> 40) % 3 < d.write_of_3 ? LSVD_WRITE : LSVD_READ;
			io->offset_bytes = r % (d.region / BLOCK) * BLOCK;
			rc = lsvd_submit(d.img, io);
		}
		if (!rc && lsvd_poll(d.ctx, -1) < 0)
			rc = -EIO;
	}
	while (d.nidle < DEPTH && lsvd_poll(d.ctx, -1) >= 0)
		;
	return rc ? rc : d.status;
}

static int whole_region(char *buf, bool write)
{
	int rc = 0;

	for (uint64_t at = 0; at < d.region && !rc; at += BIG)
		rc = write ? lsvd_pwrite(d.img, buf, BIG, at) : lsvd_pread(d.img, buf, BIG, at);
	return rc;
}

static int prepare(char *why)
{
	char *buf = calloc(1, BIG);
	int rc = buf ? lsvd_image_create(d.ctx, d.url, d.region, why) : -ENOMEM;

	if (rc == 0)
		rc = lsvd_image_open(d.ctx, d.url, 0, &d.img, why);
	for (size_t i = 0; rc == 0 && i < BIG / 8; i++)
		((uint64_t *)(void *)buf)[i] = next_random();
	if (rc == 0)
		rc = whole_region(buf, true);
	if (rc == 0)
		rc = lsvd_image_close(d.img, why);
	if (rc == 0)
		rc = lsvd_image_open(d.ctx, d.url, 0, &d.img, why);
	if (rc == 0 && d.write_of_3 < 3)
		rc = whole_region(buf, false);
	free(buf);
	return rc;
}

static int open_all(const char *pool, char *why)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	char *memory = mmap(NULL, DEPTH * BLOCK, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int rc = cfg && memory != MAP_FAILED ? lsvd_config_set(cfg, "pool.path", pool, why)
					     : -ENOMEM;

	/* What it costs to look for a completion is not what the request costs. */
	if (rc == 0)
		rc = lsvd_config_set(cfg, "loop.spin_us", "0", why);
	if (rc == 0)
		rc = lsvd_config_set(cfg, "gc.enabled", d.gc, why);
	for (unsigned i = 0; rc == 0 && i < DEPTH; i++) {
		d.iov[i] = (struct iovec){memory + i * BLOCK, BLOCK};
		d.io[i] = (struct lsvd_io){
			.iov = &d.iov[i], .iovcnt = 1, .len_bytes = BLOCK, .cb = on_done};
		d.idle[d.nidle++] = &d.io[i];
	}
	if (rc == 0)
		rc = lsvd_ctx_open(cfg, LSVD_DRIVE_INLINE, &d.ctx, why);
	lsvd_config_free(cfg);
	return rc;
}

static void print_slice(const struct counts *a, const struct counts *b, bool traced, bool first)
{
	printf("%s{\"ios\":%llu,\"wall_ns\":%llu,\"cpu_ns\":%llu,\"syscalls\":%llu,\"allocs\":%"
	       "llu,",
		first ? "[" : ",\n", (unsigned long long)(b->ios - a->ios),
		(unsigned long long)(b->wall_ns - a->wall_ns),
		(unsigned long long)(b->cpu_ns - a->cpu_ns),
		(unsigned long long)(b->syscalls - a->syscalls),
		(unsigned long long)(b->allocs - a->allocs));
	printf("\"thread_ns\":%llu,", (unsigned long long)(b->thread_ns - a->thread_ns));
	if (d.perf_fd >= 0)
		printf("\"instructions\":%llu,",
			(unsigned long long)(b->instructions - a->instructions));
	printf("\"traced\":%s}", traced ? "true" : "false");
}

static int slices(uint64_t warm_mib, unsigned n, unsigned slice_ms, char *why)
{
	int rc = run_until(UINT64_MAX, d.done + warm_mib * (MIB / BLOCK));

	for (unsigned i = 0; i < n && rc == 0; i++) {
		bool traced = d.trace && i % 2;
		struct counts before, after;

		/* Starting costs once (a thread, memory touched); recording costs per request. */
		if (traced)
			rc = lsvd_image_trace(d.img, d.trace, why);
		count_now(&before);
		if (rc == 0)
			rc = run_until(before.wall_ns + slice_ms * 1000000ull, UINT64_MAX);
		if (rc == 0 && traced)
			rc = lsvd_image_trace(d.img, NULL, why);
		count_now(&after);
		if (rc == 0)
			print_slice(&before, &after, traced, i == 0);
		if (traced)
			unlink(d.trace);
	}
	puts("]");
	return rc;
}

/* ---- a fixed number of requests ---- */

int driver_counted(uint64_t ios)
{
	return run_until(UINT64_MAX, d.done + ios);
}

static void print_counts(const struct counts *a, const struct counts *b,
	const struct lsvd_stats *before, const struct lsvd_stats *after)
{
	uint64_t put = after->put_bytes - before->put_bytes;
	uint64_t written = after->write_bytes - before->write_bytes;

	printf("{\"ios\":%llu,\"syscalls\":%llu,\"allocs\":%llu,\"puts\":%llu,\"gets\":%llu,"
	       "\"put_bytes\":%llu,\"written_bytes\":%llu,\"journal_bytes\":%llu}\n",
		(unsigned long long)(b->ios - a->ios),
		(unsigned long long)(b->syscalls - a->syscalls),
		(unsigned long long)(b->allocs - a->allocs),
		(unsigned long long)(after->puts - before->puts),
		(unsigned long long)(after->gets - before->gets), (unsigned long long)put,
		(unsigned long long)written,
		(unsigned long long)(after->journal_bytes - before->journal_bytes));
}

static int count(uint64_t warm, uint64_t ios)
{
	struct lsvd_stats before = {0}, after = {0};
	struct counts a, b;
	int rc = run_until(UINT64_MAX, d.done + warm);

	lsvd_image_stats(d.img, &before);
	count_now(&a);
	if (rc == 0)
		rc = driver_counted(ios);
	count_now(&b);
	lsvd_image_stats(d.img, &after);
	if (rc == 0)
		print_counts(&a, &b, &before, &after);
	return rc;
}

static void begin(const char *op, const char *url, const char *region_mib, const char *gc)
{
	d.gc = gc;
	d.write_of_3 = !strcmp(op, "write") ? 3 : !strcmp(op, "mixed") ? 1 : 0;
	d.url = url;
	d.region = strtoull(region_mib, NULL, 10) * MIB;
	d.rng = 88172645463325252ull;
}

static int ended(int rc, char *why)
{
	if (rc < 0) {
		fprintf(stderr, "driver: %s: %s\n", strerror(-rc), why);
		return 1;
	}
	rc = lsvd_image_close(d.img, why);
	lsvd_ctx_close(d.ctx);
	return rc < 0;
}

int count_main(int argc, char **argv)
{
	char why[LSVD_ERR_MAX] = "";
	int rc;

	if (argc < 6)
		return 2;
	begin(argv[1], "mem:count", argv[2], argv[5]);
	d.perf_fd = -1;
	yield_before_waits = true;
	rc = open_all("mem:128M", why);
	if (rc == 0)
		rc = prepare(why);
	if (rc == 0)
		rc = count(strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	return ended(rc, why);
}

int driver_main(int argc, char **argv)
{
	char why[LSVD_ERR_MAX] = "";
	int rc;

	if (argc < 8)
		return 2;
	begin(argv[1], argv[3], argv[4], "true");
	d.trace = argc > 8 ? argv[8] : NULL;
	d.perf_fd = open_instructions();
	rc = open_all(argv[2], why);
	if (rc == 0)
		rc = prepare(why);
	if (rc == 0)
		rc = slices(strtoull(argv[5], NULL, 10), (unsigned)atoi(argv[6]),
			(unsigned)atoi(argv[7]), why);
	return ended(rc, why);
}
