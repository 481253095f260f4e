/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_extmap.c - how fast the extent map is at N extents (default 10 million); one JSON object.
 *
 *   bench_extmap [EXTENTS]
 *
 *   append       8-sector extents in LBA order, none continuing the one before
 *   replace      random 8-sector extents, each overwriting one of the same bounds
 *   find         random lookups of mapped sectors
 *   split        random 4 KiB writes into one huge extent, until there are 0.6 N extents
 *   update       random 4 KiB writes, about half of them into what is left of the huge extent
 *   *_objects    the same, 2048 at a time in LBA order with what comes soon asked for
 *                (extmap_prefetch): how objects are applied
 *   find_split   random lookups after that
 *   unaligned    8 sectors at any sector, on the map `split` left
 *
 * `*_per_s` are operations per second of CPU time, `*_bytes` memory per extent at the end of that
 * step.
 */
#include "map/extmap.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { OBJECT = 2048 }; /* extents of an object of 4 KiB writes */

struct bench {
	struct extmap *m;
	uint64_t n; /* extents */
	uint64_t rand;
	uint64_t place;
	uint64_t object[OBJECT];
	uint64_t displaced; /* sectors; so that the callback does something */
	json_t *out;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t draw(struct bench *b, uint64_t below)
{
	b->rand ^= b->rand >> 12;
	b->rand ^= b->rand << 25;
	b->rand ^= b->rand >> 27;
	return (uint64_t)((unsigned __int128)(b->rand * 0x2545F4914F6CDD1Dull) * below >> 64);
}

static void on_displaced(void *arg, const struct extent *old)
{
	((struct bench *)arg)->displaced += old->len;
}

static void write_at(struct bench *b, uint64_t lba)
{
	b->place += 16;
	if (extmap_insert(b->m, lba, 8, b->place, on_displaced, b) < 0) {
		fprintf(stderr, "bench_extmap: insert at %llu failed\n", (unsigned long long)lba);
		exit(1);
	}
}

static void append_one(struct bench *b, uint64_t i)
{
	write_at(b, i * 8);
}

static void write_one(struct bench *b, uint64_t i)
{
	(void)i;
	write_at(b, draw(b, b->n) * 8);
}

static void write_unaligned(struct bench *b, uint64_t i)
{
	(void)i;
	write_at(b, draw(b, b->n * 8 - 8));
}

static void find_one(struct bench *b, uint64_t i)
{
	struct extent e;

	(void)i;
	if (extmap_find(b->m, draw(b, b->n * 8), &e))
		b->displaced += e.len;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* What one object holds, applied in LBA order with what comes soon asked for. */
static uint64_t object_some(struct bench *b, uint64_t *ns)
{
	uint64_t t;

	for (unsigned i = 0; i < OBJECT; i++)
		b->object[i] = draw(b, b->n) * 8;
	qsort(b->object, OBJECT, sizeof(b->object[0]), by_value);
	t = now_ns();
	for (unsigned i = 0; i < OBJECT; i++) {
		if (i + EXTMAP_AHEAD < OBJECT)
			extmap_prefetch(b->m, b->object[i + EXTMAP_AHEAD]);
		write_at(b, b->object[i]);
	}
	*ns += now_ns() - t;
	return OBJECT;
}

/* One by one, in any order, as the journal does. */
static uint64_t write_some(struct bench *b, uint64_t *ns)
{
	uint64_t t = now_ns();

	for (unsigned i = 0; i < OBJECT; i++)
		write_one(b, i);
	*ns += now_ns() - t;
	return OBJECT;
}

static void report(struct bench *b, const char *name, uint64_t ops, uint64_t ns)
{
	char key[64];

	snprintf(key, sizeof(key), "%s_per_s", name);
	json_object_set_new(b->out, key, json_real((double)ops * 1e9 / (double)ns));
	snprintf(key, sizeof(key), "%s_bytes", name);
	json_object_set_new(
		b->out, key, json_real((double)extmap_memory(b->m) / (double)extmap_count(b->m)));
}

static void run(
	struct bench *b, const char *name, uint64_t ops, void (*op)(struct bench *, uint64_t))
{
	uint64_t t = now_ns();

	for (uint64_t i = 0; i < ops; i++)
		op(b, i);
	report(b, name, ops, now_ns() - t);
}

static void split(
	struct bench *b, const char *name, uint64_t (*some)(struct bench *b, uint64_t *ns))
{
	uint64_t ns = 0, ops = 0;

	extmap_clear(b->m);
	if (extmap_insert(b->m, 0, b->n * 8, 1ull << 50, NULL, NULL) < 0)
		exit(1);
	while (extmap_count(b->m) < b->n * 6 / 10)
		ops += some(b, &ns);
	report(b, name, ops, ns);
}

static void objects(struct bench *b, const char *name)
{
	uint64_t ns = 0, ops = 0;

	while (ops < b->n)
		ops += object_some(b, &ns);
	report(b, name, ops, ns);
}

int main(int argc, char **argv)
{
	struct bench b = {.n = argc > 1 ? strtoull(argv[1], NULL, 0) : 10000000,
		.rand = 0x9E3779B97F4A7C15ull};

	b.m = extmap_new();
	b.out = json_object();
	if (!b.m || !b.out || b.n < 16)
		return 1;
	json_object_set_new(b.out, "extents", json_integer((json_int_t)b.n));
	run(&b, "append", b.n, append_one);
	run(&b, "replace", b.n, write_one);
	objects(&b, "replace_objects");
	run(&b, "find", b.n, find_one);
	split(&b, "split_objects", object_some);
	objects(&b, "update_objects");
	split(&b, "split", write_some);
	run(&b, "update", b.n, write_one);
	run(&b, "find_split", b.n, find_one);
	run(&b, "unaligned", b.n, write_unaligned);
	json_dumpf(b.out, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(b.out);
	extmap_free(b.m);
	return 0;
}
