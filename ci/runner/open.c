/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.c - how long it takes to open an image: after a crash with a full journal, and with a map of
 * many extents.
 *
 *   ci-bench fill URL POOL POOL_MIB PLACES BLOCK STRIDE crash|close
 *   ci-bench reopen URL POOL
 *
 * `fill` writes BLOCK bytes at each of PLACES places, STRIDE bytes apart, in an order that looks
 * random.  With `crash` the store takes no object meanwhile, so all of it is dirty, and the writer
 * ends itself by SIGKILL; with `close` the image is closed.  `reopen` is a fresh process: it opens
 * the pool and the image, and prints JSON: the seconds, and what it found.
 *
 * A file pool is read past the page cache, so a fresh process finds nothing of it in memory.
 */
#include "ci/runner/bench.h"
#include "ci/runner/child.h"
#include "ci/runner/pump.h"
#include "ci/runner/workdir.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Writers are held back from three quarters of the journal's share of the pool on (60 %). */
enum { CRASH_MIB = 1024, CRASH_POOL_MIB = 3072 };
enum { EXTENTS = 10000000, EXTENTS_POOL_MIB = 2048 };

/* ---- fill ---- */

static int tell_filled(struct pump *p, double begun)
{
	struct lsvd_stats st;
	int rc = lsvd_image_stats(p->img, &st);

	printf("{\"write_s\": %.6f, \"dirty_bytes\": %llu}\n", now_s() - begun,
		(unsigned long long)st.dirty_bytes);
	fflush(stdout);
	return rc;
}

static int fill(const char *const *argv, bool crash, struct pump *p, char *why)
{
	uint64_t places = strtoull(argv[4], NULL, 10), block = strtoull(argv[5], NULL, 10),
		 stride = strtoull(argv[6], NULL, 10);
	char size[32], held[BENCH_PATH];
	const char *settings[] = {"pool.path", argv[2], "pool.size", size, NULL};
	double begun;
	int rc;

	snprintf(size, sizeof(size), "%sM", argv[3]);
	snprintf(held, sizeof(held), "%s%s", crash ? "fault:fail_put=1000000:" : "", argv[1]);
	rc = pump_context(settings, &p->ctx, why);
	if (rc == 0)
		rc = lsvd_image_create(p->ctx, argv[1], places * stride, why);
	if (rc == 0)
		rc = pump_open(p, held, 0, why);
	if (rc == 0)
		rc = pump_shape(p, block, stride, places);
	begun = now_s();
	if (rc == 0)
		rc = pump_run(p, LSVD_WRITE, places, INFINITY);
	if (rc == 0)
		rc = lsvd_flush(p->img);
	if (rc == 0)
		rc = tell_filled(p, begun);
	if (rc == 0 && crash)
		raise(SIGKILL);
	return pump_close(p, rc, why);
}

static int fill_here(const char *const *argv, bool crash)
{
	static struct pump p;
	char why[LSVD_ERR_MAX] = "";
	int rc = fill(argv, crash, &p, why);

	if (rc < 0)
		fprintf(stderr, "fill: %s: %s\n", strerror(-rc), why);
	if (p.ctx)
		lsvd_ctx_close(p.ctx);
	return rc < 0;
}

/* Whoever waits for us is to see a good end, and our child a bad one. */
static int fill_and_die(const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return 1;
	if (pid == 0)
		exit(fill_here(argv, true));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int fill_main(int argc, const char *const *argv)
{
	if (argc < 8)
		return 2;
	return strcmp(argv[7], "crash") ? fill_here(argv, false) : fill_and_die(argv);
}

/* ---- reopen ---- */

static void tell_opened(struct pump *p, double seconds)
{
	struct lsvd_image_info info;
	struct lsvd_stats st;

	if (lsvd_image_info(p->img, &info) || lsvd_image_stats(p->img, &st))
		return;
	printf("{\"open_s\": %.6f, \"dirty_bytes\": %llu, \"replayed\": %llu, \"extents\": %llu}\n",
		seconds, (unsigned long long)st.dirty_bytes, (unsigned long long)info.replayed,
		(unsigned long long)info.extents);
}

int reopen_main(int argc, const char *const *argv)
{
	static struct pump p;
	char why[LSVD_ERR_MAX] = "";
	double begun = now_s();
	int rc;

	if (argc < 3)
		return 2;
	rc = pump_context((const char *const[]){"pool.path", argv[2], NULL}, &p.ctx, why);
	if (rc == 0)
		rc = pump_open(&p, argv[1], 0, why);
	if (rc == 0)
		tell_opened(&p, now_s() - begun);
	rc = pump_close(&p, rc, why);
	if (rc < 0)
		fprintf(stderr, "reopen: %s: %s\n", strerror(-rc), why);
	if (p.ctx)
		lsvd_ctx_close(p.ctx);
	return rc < 0;
}

/* ---- the parts ---- */

static double number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static int run_fill(struct bench *b, unsigned pool_mib, uint64_t places, unsigned block,
	unsigned stride, bool crash, json_t **out, struct err *e)
{
	char pool[16], n[24], size[16], step[16];
	const char *argv[] = {"/proc/self/exe", "fill", "file:store/open", "file:pool-open", pool,
		n, size, step, crash ? "crash" : "close", NULL};

	snprintf(pool, sizeof(pool), "%u", pool_mib);
	snprintf(n, sizeof(n), "%llu", (unsigned long long)places);
	snprintf(size, sizeof(size), "%u", block);
	snprintf(step, sizeof(step), "%u", stride);
	return child_json(b->dir, argv, 600, out, e);
}

static int run_reopen(struct bench *b, json_t **out, struct err *e)
{
	const char *argv[] = {
		"/proc/self/exe", "reopen", "file:store/open", "file:pool-open", NULL};

	return child_json(b->dir, argv, 300, out, e);
}

static void clean_up(const struct bench *b)
{
	static const char *const what[] = {"store/open", "pool-open"};
	char path[BENCH_PATH + 16];

	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, what[i]);
		remove_tree(path);
	}
}

static int crash_round(struct bench *b, struct err *e)
{
	json_t *filled = NULL, *opened = NULL;
	double dirty, s;
	int rc = run_fill(b, CRASH_POOL_MIB, CRASH_MIB * MIB / 4096, 4096, 4096, true, &filled, e);

	if (!rc)
		rc = run_reopen(b, &opened, e);
	dirty = number(filled, "dirty_bytes");
	s = number(opened, "open_s");
	if (!rc && dirty < 0.98 * CRASH_MIB * (double)MIB)
		rc = err_set(e, -EIO, "only %.0f MiB were dirty at the crash", dirty / (double)MIB);
	if (!rc && number(opened, "replayed") < 1)
		rc = err_set(e, -EIO, "nothing was replayed");
	json_decref(filled);
	json_decref(opened);
	clean_up(b);
	if (rc)
		return rc;
	sample(b, "open.crash.s", s, json_pack("{s:i, s:i}", "dirty_mib", CRASH_MIB, "pool_mib",
					   CRASH_POOL_MIB));
	sample(b, "open.crash.replay_mib_s", dirty / (double)MIB / s,
		json_pack("{s:i, s:i}", "dirty_mib", CRASH_MIB, "pool_mib", CRASH_POOL_MIB));
	return 0;
}

static int run_crash(struct bench *b, const struct part *p, struct err *e)
{
	int rc = 0;

	for (unsigned round = 0; round < b->rounds && !rc; round++) {
		say_now(b, "%s, round %u of %u", p->id, round + 1, b->rounds);
		rc = crash_round(b, e);
	}
	if (!rc)
		say(b, "open, %d MiB in the journal       %5.2f s, %5.0f MiB/s", CRASH_MIB,
			sample_median(b, "open.crash.s"),
			sample_median(b, "open.crash.replay_mib_s"));
	return rc;
}

static int extents_round(struct bench *b, struct err *e)
{
	json_t *opened = NULL;
	int rc = run_reopen(b, &opened, e);

	if (!rc && number(opened, "extents") < EXTENTS)
		rc = err_set(e, -EIO, "only %.0f extents", number(opened, "extents"));
	if (!rc)
		sample(b, "open.extents.s", number(opened, "open_s"),
			json_pack("{s:i}", "extents", EXTENTS));
	json_decref(opened);
	return rc;
}

/* A sector each, every other one: nothing joins. */
static int run_extents(struct bench *b, const struct part *p, struct err *e)
{
	json_t *filled = NULL;
	int rc;

	say_now(b, "%s: writing %d extents", p->id, EXTENTS);
	rc = run_fill(b, EXTENTS_POOL_MIB, EXTENTS, 512, 1024, false, &filled, e);
	for (unsigned round = 0; round < b->rounds && !rc; round++)
		rc = extents_round(b, e);
	if (!rc)
		say(b, "open, map of %d extents     %5.2f s   (written in %.0f s)", EXTENTS,
			sample_median(b, "open.extents.s"), number(filled, "write_s"));
	json_decref(filled);
	clean_up(b);
	return rc;
}

void open_parts(struct bench *b)
{
	if (b->quick)
		return;
	plan_add(b, b->rounds * 12.0, run_crash, "open.crash");
	plan_add(b, 90, run_extents, "open.extents");
}
