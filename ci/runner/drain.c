/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * drain.c - `ci-bench drain IMAGE-URL POOL POOL-MIB MIB PID`: how fast a full journal gets into the
 * store.
 *
 * PID, of what the store depends on, is stopped while MIB are written: every 4 KiB block of the
 * image once, in an order that is random, so nothing coalesces and nothing is destaged meanwhile.
 * Then it continues, and the time until lsvd_image_drain() returns is taken.  Prints JSON; the
 * image is removed at the end.
 */
#include "ci/runner/bench.h"

#include "lsvd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { DEPTH = 32, BLOCK = 4096 };

struct drainer {
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	struct lsvd_io io[DEPTH];
	struct iovec iov[DEPTH];
	struct lsvd_io *idle[DEPTH];
	unsigned nidle;
	int status;
};

/* A virtual machine gets memory from its host when it is first touched, milliseconds for 2 MiB; what
 * was given back to the kernel a moment ago is had at once, as on a real machine. */
static void touch_memory(uint64_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return;
	(void)madvise(memory, bytes, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < bytes; at += BLOCK)
		((volatile char *)memory)[at] = 0;
	munmap(memory, bytes);
}

static void on_done(struct lsvd_io *io)
{
	struct drainer *d = io->user;

	if (io->status)
		d->status = io->status;
	d->idle[d->nidle++] = io;
}

static int open_image(struct drainer *d, const char *const *argv, uint64_t bytes, char *why)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	char size[32];
	int rc = cfg ? lsvd_config_set(cfg, "pool.path", argv[2], why) : -ENOMEM;

	snprintf(size, sizeof(size), "%sM", argv[3]);
	if (rc == 0)
		rc = lsvd_config_set(cfg, "pool.size", size, why);
	if (rc == 0)
		rc = lsvd_ctx_open(cfg, LSVD_DRIVE_INLINE, &d->ctx, why);
	if (rc == 0)
		rc = lsvd_image_create(d->ctx, argv[1], bytes, why);
	if (rc == 0)
		rc = lsvd_image_open(d->ctx, argv[1], 0, &d->img, why);
	lsvd_config_free(cfg);
	return rc;
}

/* An odd step of about a golden section of a power of two visits every block once. */
static int write_all(struct drainer *d, uint64_t blocks)
{
	uint64_t step = (uint64_t)(0.618034 * (double)blocks) | 1, x = 0;
	char *memory = mmap(NULL, DEPTH * BLOCK, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		return -ENOMEM;
	for (size_t i = 0; i < DEPTH * BLOCK; i++)
		memory[i] = (char)(i * 2654435761u >> 13);
	for (unsigned i = 0; i < DEPTH; i++) {
		d->iov[i] = (struct iovec){memory + i * BLOCK, BLOCK};
		d->io[i] = (struct lsvd_io){.op = LSVD_WRITE,
			.iov = &d->iov[i],
			.iovcnt = 1,
			.len_bytes = BLOCK,
			.cb = on_done,
			.user = d};
		d->idle[d->nidle++] = &d->io[i];
	}
	for (uint64_t n = 0; n < blocks || d->nidle < DEPTH;) {
		while (d->nidle && n < blocks && !d->status) {
			struct lsvd_io *io = d->idle[--d->nidle];

			io->offset_bytes = x * BLOCK;
			x = (x + step) % blocks;
			n++;
			d->status = lsvd_submit(d->img, io);
		}
		if (d->status || lsvd_poll(d->ctx, -1) < 0)
			return d->status ? d->status : -EIO;
	}
	return 0;
}

static int measure(struct drainer *d, uint64_t blocks, pid_t store)
{
	struct lsvd_stats st;
	double begun = now_s(), wrote, drained;
	int rc;

	kill(store, SIGSTOP);
	rc = write_all(d, blocks);
	wrote = now_s() - begun;
	if (rc == 0)
		rc = lsvd_image_stats(d->img, &st);
	begun = now_s();
	kill(store, SIGCONT);
	if (rc == 0)
		rc = lsvd_image_drain(d->img);
	drained = now_s() - begun;
	if (rc == 0)
		printf("{\"write_s\": %.6f, \"drain_s\": %.6f, \"dirty_bytes\": %llu}\n", wrote,
			drained, (unsigned long long)st.dirty_bytes);
	return rc;
}

int drain_main(int argc, const char *const *argv)
{
	static struct drainer d;
	char why[LSVD_ERR_MAX] = "";
	uint64_t blocks;
	int rc, closed;

	if (argc < 6)
		return 2;
	blocks = strtoull(argv[4], NULL, 10) * (MIB / BLOCK);
	touch_memory(blocks * BLOCK + blocks * BLOCK / 8);
	rc = open_image(&d, argv, blocks * BLOCK, why);
	if (rc == 0)
		rc = measure(&d, blocks, (pid_t)atoi(argv[5]));
	if (d.img) {
		closed = lsvd_image_close(d.img, rc ? NULL : why);
		if (rc == 0)
			rc = closed;
	}
	if (rc == 0)
		rc = lsvd_image_remove(d.ctx, argv[1], why);
	if (rc < 0)
		fprintf(stderr, "drain: %s: %s\n", strerror(-rc), why);
	lsvd_ctx_close(d.ctx);
	return rc < 0;
}
