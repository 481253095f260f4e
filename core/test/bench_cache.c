/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_cache.c - CPU per cached 4 KiB read, 32 in flight, on a memory pool; one JSON object.
 *
 *   bench_cache [MIB]      MIB of cached data (default 256)
 *
 *   hit_ns      a whole hit: lookup, pool, memory device (copies 4 KiB), CRC, callback
 *   bounce_ns   the same into memory that is not aligned to 4 KiB
 *   find_ns     only the lookup
 */
#include "cache/cache.h"
#include "sys/crc.h"
#include "sys/loop_uring.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OBJECT_BYTES = 8 << 20, DEPTH = 32, READS = 1000000, BLOCK = 4096 };

struct bench {
	struct loop *loop;
	struct store *store;
	struct pool *pool;
	struct cache *cache;
	struct object_ref *ref;
	uint32_t objects;
	uint64_t rand, left, out;
	struct cache_req req[DEPTH];
};

static struct bench b;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench_cache: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static uint64_t draw(uint64_t below)
{
	b.rand ^= b.rand >> 12;
	b.rand ^= b.rand << 25;
	b.rand ^= b.rand >> 27;
	return (uint64_t)((unsigned __int128)(b.rand * 0x2545F4914F6CDD1Dull) * below >> 64);
}

static void put_object(uint32_t i, uint8_t *buf)
{
	struct object_header h = {.epoch = 1, .seq = i + 1, .data_bytes = OBJECT_BYTES, .crc_bytes = OBJECT_CRC_BYTES};
	uint32_t crc[OBJECT_BYTES / OBJECT_CRC_BYTES];
	struct store_req r = {.op = STORE_PUT, .name = b.ref[i].name};
	struct iovec iov;

	h.chunks = OBJECT_BYTES / OBJECT_CRC_BYTES;
	h.header_bytes = object_header_bytes(0, OBJECT_BYTES, 0);
	memset(buf + h.header_bytes, (int)i, OBJECT_BYTES);
	for (uint32_t c = 0; c < h.chunks; c++)
		crc[c] = crc32c(0, buf + h.header_bytes, OBJECT_CRC_BYTES);
	object_encode(&h, NULL, crc, buf);
	b.ref[i] = (struct object_ref){.epoch = 1,
		.seq = i + 1,
		.header_bytes = h.header_bytes,
		.data_bytes = OBJECT_BYTES,
		.store = b.store};
	snprintf(b.ref[i].name, sizeof(b.ref[i].name), "bench/%u", i);
	iov = (struct iovec){buf, h.header_bytes + OBJECT_BYTES};
	r.iov = &iov;
	r.iovcnt = 1;
	r.len_bytes = iov.iov_len;
	check((int)store_wait(b.store, &r), "put");
}

static void filled(struct cache_prefetch *p, int status)
{
	(void)p;
	check(status, "fill");
	b.out--;
}

static void fill(void)
{
	for (uint32_t i = 0; i < b.objects; i++) {
		struct cache_prefetch p = {.ref = b.ref[i],
			.len_bytes = OBJECT_BYTES,
			.get_bytes = 4 << 20,
			.done = filled};

		b.out = 1;
		cache_prefetch(b.cache, &p);
		while (b.out || !cache_has(b.cache, &b.ref[i], 0, OBJECT_BYTES))
			loop_poll(b.loop, 1000000);
	}
}

static void again(struct cache_req *r)
{
	if (!b.left) {
		b.out--;
		return;
	}
	b.left--;
	r->ref = b.ref[draw(b.objects)];
	r->off_bytes = draw(OBJECT_BYTES / BLOCK) * BLOCK;
	cache_read(b.cache, r);
}

static void read_done(struct cache_req *r, int status)
{
	check(status, "read");
	again(r);
}

static double run(uint8_t *buf, uint64_t shift)
{
	uint64_t began;

	b.left = READS;
	b.out = DEPTH;
	began = now_ns();
	for (unsigned i = 0; i < DEPTH; i++) {
		b.req[i].buf = buf + (size_t)i * 2 * BLOCK + shift;
		b.req[i].len_bytes = BLOCK;
		b.req[i].done = read_done;
		again(&b.req[i]);
	}
	while (b.out)
		loop_poll(b.loop, 1000000);
	return (double)(now_ns() - began) / READS;
}

static double find(void)
{
	uint64_t began = now_ns(), hits = 0;

	for (unsigned i = 0; i < READS; i++)
		hits += cache_has(b.cache, &b.ref[draw(b.objects)],
			draw(OBJECT_BYTES / BLOCK) * BLOCK, BLOCK);
	if (hits != READS)
		check(-5, "find");
	return (double)(now_ns() - began) / READS;
}

int main(int argc, char **argv)
{
	uint32_t mib = argc > 1 ? (uint32_t)atoi(argv[1]) : 256;
	struct config cfg = {.pool_segment_bytes = 32 << 20,
		.cache_enabled = true,
		.cache_chunk_bytes = 64 << 10};
	uint8_t *buf = aligned_alloc(BLOCK, OBJECT_BYTES + (1 << 20));
	struct err e = {.msg = ""};
	json_t *out = json_object();
	uint64_t misses;
	struct cache_stats st;

	b.rand = 88172645463325252ull;
	b.objects = mib / 8 ? mib / 8 : 1;
	b.ref = calloc(b.objects, sizeof(*b.ref));
	snprintf(cfg.pool_path, sizeof(cfg.pool_path), "mem:%uM", mib * 2 + 640);
	check(loop_uring_new(256, &b.loop, &e), "loop");
	check(store_open(b.loop, "mem:", NULL, 0, &b.store, &e), "store");
	check(pool_open(b.loop, &cfg, &b.pool, &e), e.msg);
	check(cache_open(b.loop, b.pool, &cfg, &b.cache, &e), e.msg);
	for (uint32_t i = 0; i < b.objects; i++)
		put_object(i, buf);
	fill();
	cache_get_stats(b.cache, &st);
	misses = st.miss_bytes;
	run(buf, 0); /* warm up */
	json_object_set_new(out, "cached_mib", json_integer(mib));
	json_object_set_new(out, "find_ns", json_real(find()));
	json_object_set_new(out, "hit_ns", json_real(run(buf, 0)));
	json_object_set_new(out, "bounce_ns", json_real(run(buf, 512)));
	cache_get_stats(b.cache, &st);
	if (st.miss_bytes != misses)
		check(-5, "misses");
	json_dumpf(out, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(out);
	cache_close(b.cache);
	pool_close(b.pool);
	store_close(b.store);
	loop_free(b.loop);
	free(b.ref);
	free(buf);
	return 0;
}
