/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * images.c - many small images open in one process, on one pool: what each of them costs.
 *
 *   ci-bench images STORE POOL POOL_SIZE SEGMENT_SIZE N
 *
 * Makes, opens, writes and reads N images, drains them, leaves them alone for a moment, and looks
 * at the memory of the process: what it has more than before the first, with the pool open.  The
 * maps hold an extent each, so what is counted is the image without its map.  Then all are read
 * again, and closed.  An image that fails or reads back something else ends it.  Prints JSON.
 */
#include "ci/runner/bench.h"
#include "ci/runner/child.h"
#include "ci/runner/pump.h"
#include "ci/runner/workdir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IMAGES = 1000, BLOCK = 4096, IDLE_S = 2 };

static const char pool_size[] = "4G", segment_size[] = "1M";

/* ---- the child ---- */

struct many {
	struct lsvd_ctx *ctx;
	struct lsvd_image **img;
	const char *store;
	unsigned n;
	double open_s, last_open_s, io_s, close_s;
	uint64_t before, first, all; /* bytes of memory: none open; one; all of them */
	char *why;
};

static uint64_t memory_now(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	uint64_t total = 0, resident = 0;

	if (f && fscanf(f, "%" SCNu64 " %" SCNu64, &total, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* What image i holds in its first block. */
static void pattern(char *block, unsigned i)
{
	for (unsigned k = 0; k < BLOCK; k++)
		block[k] = (char)((i + 1) * (k + 7) * 2654435761u >> 16);
}

static int read_back(struct many *m, unsigned i)
{
	static char want[BLOCK], got[BLOCK];
	int rc = lsvd_pread(m->img[i], got, BLOCK, 0);

	pattern(want, i);
	if (rc == 0 && memcmp(want, got, BLOCK)) {
		snprintf(m->why, LSVD_ERR_MAX, "it reads back something else");
		rc = -EIO;
	}
	return rc;
}

static int begin_one(struct many *m, unsigned i)
{
	static char block[BLOCK];
	char url[BENCH_PATH];
	double begun = now_s(), opened;
	int rc;

	snprintf(url, sizeof(url), "%s/image-%u", m->store, i);
	rc = lsvd_image_create(m->ctx, url, 16 * MIB, m->why);
	if (rc == 0)
		rc = lsvd_image_open(m->ctx, url, 0, &m->img[i], m->why);
	opened = now_s();
	m->last_open_s = opened - begun;
	m->open_s += m->last_open_s;
	pattern(block, i);
	if (rc == 0)
		rc = lsvd_pwrite(m->img[i], block, BLOCK, 0);
	if (rc == 0)
		rc = lsvd_flush(m->img[i]);
	if (rc == 0)
		rc = read_back(m, i);
	m->io_s += now_s() - opened;
	return rc;
}

/* Nothing to do: what is kept for a while only is let go. */
static int rest(struct many *m)
{
	double end = now_s() + IDLE_S;

	while (now_s() < end)
		if (lsvd_poll(m->ctx, 10000000) < 0)
			return -EIO;
	return 0;
}

static int for_each(struct many *m, int (*fn)(struct many *, unsigned), unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		int rc = fn(m, i);

		if (rc) {
			fprintf(stderr, "image %u of %u: ", i + 1, m->n);
			return rc;
		}
	}
	return 0;
}

static int drain_one(struct many *m, unsigned i)
{
	return lsvd_image_drain(m->img[i]);
}

static int live(struct many *m)
{
	int rc = lsvd_ctx_open_pool(m->ctx, m->why);

	m->before = memory_now();
	if (rc == 0)
		rc = for_each(m, begin_one, 0, 1);
	if (rc == 0)
		rc = drain_one(m, 0);
	if (rc == 0)
		rc = rest(m);
	m->first = memory_now();
	if (rc == 0)
		rc = for_each(m, begin_one, 1, m->n);
	if (rc == 0)
		rc = for_each(m, drain_one, 0, m->n);
	if (rc == 0)
		rc = rest(m);
	m->all = memory_now();
	return rc ? rc : for_each(m, read_back, 0, m->n);
}

static int close_all(struct many *m, int rc)
{
	double begun = now_s();

	for (unsigned i = 0; i < m->n; i++) {
		int closed = m->img[i] ? lsvd_image_close(m->img[i], rc ? NULL : m->why) : 0;

		rc = rc ? rc : closed;
	}
	m->close_s = now_s() - begun;
	return rc;
}

int images_main(int argc, const char *const *argv)
{
	static char why[LSVD_ERR_MAX];
	struct many m = {.why = why};
	int rc;

	if (argc < 6)
		return 2;
	m.store = argv[1];
	m.n = (unsigned)atoi(argv[5]);
	m.img = calloc(m.n, sizeof(struct lsvd_image *));
	rc = m.img ? pump_context((const char *const[]){"pool.path", argv[2], "pool.size", argv[3],
					  "pool.segment", argv[4], NULL},
			     &m.ctx, why)
		   : -ENOMEM;
	if (rc == 0)
		rc = close_all(&m, live(&m));
	if (rc < 0)
		fprintf(stderr, "images: %s: %s\n", strerror(-rc), why);
	else
		printf("{\"first_bytes\": %" PRId64 ", \"all_bytes\": %" PRId64
		       ", \"open_s\": %.6f, \"last_open_s\": %.6f, \"io_s\": %.6f, "
		       "\"close_s\": %.6f}\n",
			(int64_t)(m.first - m.before), (int64_t)(m.all - m.before), m.open_s,
			m.last_open_s, m.io_s, m.close_s);
	if (m.ctx)
		lsvd_ctx_close(m.ctx);
	free(m.img);
	return rc < 0;
}

/* ---- the part ---- */

static void record(struct bench *b, const json_t *out)
{
	const struct {
		const char *name, *key;
		double by;
	} what[] = {{"images.first.memory_mib", "first_bytes", (double)MIB},
		{"images.1000.memory_mib_each", "all_bytes", (double)MIB * IMAGES},
		{"images.1000.open_s", "open_s", 1}, {"images.1000.last_open_s", "last_open_s", 1},
		{"images.1000.io_s", "io_s", 1}, {"images.1000.close_s", "close_s", 1}};

	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		sample(b, what[i].name,
			json_number_value(json_object_get(out, what[i].key)) / what[i].by,
			json_pack("{s:s, s:s}", "pool", pool_size, "segment", segment_size));
}

static void clean_up(const struct bench *b)
{
	static const char *const what[] = {"store-images", "pool-images"};
	char path[BENCH_PATH + 16];

	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, what[i]);
		remove_tree(path);
	}
}

static int run(struct bench *b, const struct part *p, struct err *e)
{
	char n[16];
	const char *argv[] = {"/proc/self/exe", "images", "file:store-images", "file:pool-images",
		pool_size, segment_size, n, NULL};
	int rc = 0;

	snprintf(n, sizeof(n), "%d", IMAGES);
	for (unsigned round = 0; round < b->rounds && !rc; round++) {
		json_t *out = NULL;

		say_now(b, "%s, round %u of %u", p->id, round + 1, b->rounds);
		rc = child_json(b->dir, argv, 300, &out, e);
		if (!rc)
			record(b, out);
		json_decref(out);
		clean_up(b);
	}
	if (!rc)
		say(b, "%d images on one pool           %5.2f MiB each (the first %.1f)   open %.1f s",
			IMAGES, sample_median(b, "images.1000.memory_mib_each"),
			sample_median(b, "images.first.memory_mib"),
			sample_median(b, "images.1000.open_s"));
	return rc;
}

void images_parts(struct bench *b)
{
	if (!b->quick)
		plan_add(b, b->rounds * 30.0, run, "images");
}
