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
#include "ci/runner/pump.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK = 4096 };

/* A virtual machine gets memory from its host when it is first touched, milliseconds for 2 MiB; what
 * was given back to the kernel a moment ago is had at once, as on a real machine. */
static void touch_memory(uint64_t bytes)
{
	char *memory = mmap(
		NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return;
	(void)madvise(memory, bytes, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < bytes; at += BLOCK)
		((volatile char *)memory)[at] = 0;
	munmap(memory, bytes);
}

static int measure(struct pump *p, pid_t store)
{
	struct lsvd_stats st;
	double begun = now_s(), wrote, drained;
	int rc;

	kill(store, SIGSTOP);
	rc = pump_run(p, LSVD_WRITE, p->places, INFINITY);
	wrote = now_s() - begun;
	if (rc == 0)
		rc = lsvd_image_stats(p->img, &st);
	begun = now_s();
	kill(store, SIGCONT);
	if (rc == 0)
		rc = lsvd_image_drain(p->img);
	drained = now_s() - begun;
	if (rc == 0)
		printf("{\"write_s\": %.6f, \"drain_s\": %.6f, \"dirty_bytes\": %llu}\n", wrote,
			drained, (unsigned long long)st.dirty_bytes);
	return rc;
}

static int drain(const char *const *argv, struct pump *p, char *why)
{
	uint64_t bytes = strtoull(argv[4], NULL, 10) * MIB;
	char size[32];
	const char *settings[] = {"pool.path", argv[2], "pool.size", size, NULL};
	int rc;

	snprintf(size, sizeof(size), "%sM", argv[3]);
	rc = pump_context(settings, &p->ctx, why);
	if (rc == 0)
		rc = pump_open(p, argv[1], bytes, why);
	if (rc == 0)
		rc = pump_shape(p, BLOCK, BLOCK, bytes / BLOCK);
	if (rc == 0)
		rc = measure(p, (pid_t)atoi(argv[5]));
	rc = pump_close(p, rc, why);
	return rc ? rc : lsvd_image_remove(p->ctx, argv[1], why);
}

int drain_main(int argc, const char *const *argv)
{
	static struct pump p;
	char why[LSVD_ERR_MAX] = "";
	int rc;

	if (argc < 6)
		return 2;
	touch_memory(strtoull(argv[4], NULL, 10) * MIB * 9 / 8);
	rc = drain(argv, &p, why);
	if (rc < 0)
		fprintf(stderr, "drain: %s: %s\n", strerror(-rc), why);
	if (p.ctx)
		lsvd_ctx_close(p.ctx);
	return rc < 0;
}
