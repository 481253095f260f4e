/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/bdev_bench.h"
#include "sys/container.h"

#include <unistd.h>

struct bench bench_sim(uint64_t seed, struct sim_disk_model model)
{
	struct bench b = {0};
	struct err e;

	assert_int_equal(loop_sim_new(seed, &b.loop, &e), 0);
	assert_int_equal(sim_disk_new(DEV_BYTES, &model, &b.disk), 0);
	assert_int_equal(sim_disk_open(b.disk, b.loop, &b.dev), 0);
	return b;
}

struct sim_disk_model slow_disk(void)
{
	return (struct sim_disk_model){.read_ns = 80000,
		.write_ns = 50000,
		.flush_ns = 500000,
		.bytes_per_s = 1000u * MIB,
		.jitter_percent = 50,
		.parallel = 8};
}

struct loop *new_uring(void)
{
	struct loop *l;
	struct err e = {.msg = ""};

	if (loop_uring_new(64, &l, &e) < 0)
		fail_msg("%s", e.msg);
	return l;
}

static void must_open(struct bench *b, const char *url, unsigned flags)
{
	struct err e = {.msg = ""};

	if (bdev_open(b->loop, url, flags, DEV_BYTES, &b->dev, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

bool bench_has(enum bench_kind kind)
{
	const char *why;

	return kind < BENCH_NBD_MEM || nbd_server_possible(&why);
}

static void on_server(struct bench *b, bool file)
{
	char args[200];

	snprintf(args, sizeof(args), "memory %d", DEV_BYTES);
	if (file) {
		snprintf(b->path, sizeof(b->path), "%s/served", test_dir());
		snprintf(args, sizeof(args), "file %s", b->path);
		fclose(fopen(b->path, "w"));
		assert_int_equal(truncate(b->path, DEV_BYTES), 0);
	}
	nbd_server_start(&b->server, "bench.sock", args);
	b->loop = new_uring();
	must_open(b, b->server.url, BDEV_CREATE | BDEV_LOCK);
}

struct bench bench_new(enum bench_kind kind)
{
	struct bench b = {0};
	char url[160];
	struct err e;

	switch (kind) {
	case BENCH_FILE:
		b.loop = new_uring();
		snprintf(b.path, sizeof(b.path), "%s/dev", test_dir());
		snprintf(url, sizeof(url), "file:%s", b.path);
		must_open(&b, url, BDEV_CREATE | BDEV_LOCK);
		break;
	case BENCH_MEM:
		b.loop = new_uring();
		must_open(&b, "mem:8M", 0);
		break;
	case BENCH_MEM_SIM:
		assert_int_equal(loop_sim_new(1, &b.loop, &e), 0);
		must_open(&b, "mem:8M", 0);
		break;
	case BENCH_NBD_MEM:
	case BENCH_NBD_FILE:
		on_server(&b, kind == BENCH_NBD_FILE);
		break;
	default:
		b = bench_sim(test_seed(), slow_disk());
	}
	return b;
}

void bench_free(struct bench *b)
{
	bdev_close(b->dev);
	loop_free(b->loop);
	sim_disk_free(b->disk);
	nbd_server_kill(&b->server);
	if (b->path[0])
		unlink(b->path);
}

/* ---- requests ---- */

static void io_done(struct bdev_req *r, int status)
{
	struct io *io = container_of(r, struct io, r);

	io->fired++;
	io->status = status;
	if (io->order)
		io->rank = ++*io->order;
}

struct io io_of(enum bdev_op op, uint64_t at, void *buf, uint64_t len)
{
	struct io io = {.r = {.op = op, .offset_bytes = at, .len_bytes = len, .done = io_done}};

	io.iov[0] = (struct iovec){buf, len};
	return io;
}

void submit(struct bench *b, struct io *io)
{
	io->r.iov = io->iov;
	if (!io->r.iovcnt)
		io->r.iovcnt = 1;
	bdev_submit(b->dev, &io->r);
	assert_int_equal(io->fired, 0);
}

void wait_for(struct bench *b, struct io *io)
{
	while (!io->fired)
		loop_poll(b->loop, LOOP_FOREVER);
	assert_int_equal(io->fired, 1);
}

int run(struct bench *b, enum bdev_op op, uint64_t at, void *buf, uint64_t len)
{
	struct io io = io_of(op, at, buf, len);

	submit(b, &io);
	wait_for(b, &io);
	return io.status;
}

uint8_t *buffer(uint64_t len)
{
	uint8_t *p =
		aligned_alloc(SECTOR_BYTES, (len + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES);

	assert_non_null(p);
	memset(p, 0, len);
	return p;
}

uint8_t *noise(uint64_t len, uint64_t seed)
{
	uint8_t *p = buffer(len);
	uint64_t s = seed + 1;

	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t v = test_rand(&s);

		memcpy(p + i, &v, 8);
	}
	return p;
}
