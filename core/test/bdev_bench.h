/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bdev_bench.h - one block device on one loop under test, and requests to it. */
#ifndef LSVD_TEST_BDEV_BENCH_H
#define LSVD_TEST_BDEV_BENCH_H

#include "sys/bdev.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/nbd_server.h"
#include "test/test.h"

enum { MIB = 1 << 20, DEV_BYTES = 8 * MIB, SECTOR_BYTES = 4096 };

struct bench {
	struct loop *loop;
	struct bdev *dev;
	struct sim_disk *disk; /* of a simulated device */
	char path[128];	       /* of a file */
	struct nbd_server server;
};

/* A device of DEV_BYTES, zeroes, of each kind: a file, memory on the real loop, memory on the
 * simulated loop, a simulated disk, an NBD server's memory, an NBD server's file. */
enum bench_kind {
	BENCH_FILE,
	BENCH_MEM,
	BENCH_MEM_SIM,
	BENCH_SIM,
	BENCH_NBD_MEM,
	BENCH_NBD_FILE,
	BENCH_KINDS
};
/* Else: what is not installed. */
bool bench_has(enum bench_kind kind);
struct bench bench_new(enum bench_kind kind);
void bench_free(struct bench *b);

/* A simulated disk with this model, on a new simulated loop; both seeded. */
struct bench bench_sim(uint64_t seed, struct sim_disk_model model);

/* A disk with a latency, a bandwidth and jitter: what is in flight takes a while and is reordered.
 */
struct sim_disk_model slow_disk(void);

struct loop *new_uring(void);

/* A request that counts its completions. */
struct io {
	struct bdev_req r;
	struct iovec iov[8];
	int fired, status;
	int *order; /* when set: counts completions, and `rank` is this one's place */
	int rank;
};

struct io io_of(enum bdev_op op, uint64_t at, void *buf, uint64_t len);
void submit(struct bench *b, struct io *io);
void wait_for(struct bench *b, struct io *io);

/* Submit, wait, return the status. */
int run(struct bench *b, enum bdev_op op, uint64_t at, void *buf, uint64_t len);

/* Aligned memory: zeroes, or bytes drawn from `seed`.  The caller frees it. */
uint8_t *buffer(uint64_t len);
uint8_t *noise(uint64_t len, uint64_t seed);

#endif
