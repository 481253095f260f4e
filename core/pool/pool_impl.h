/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pool_impl.h - the pool's inside, for pool.c and open.c only. */
#ifndef LSVD_POOL_POOL_IMPL_H
#define LSVD_POOL_POOL_IMPL_H

#include "format/segment.h"
#include "pool/pool.h"

/* Memory for a header block on its way to the legs; kept for the next one. */
struct header_buf {
	uint8_t block[POOL_BLOCK];
	struct header_buf *next_all, *next_free;
};

struct pool {
	struct loop *loop;
	struct bdev *legs[POOL_LEGS_MAX];
	unsigned nlegs;
	uint8_t uuid[16];
	uint64_t generation, created_ns;
	uint64_t opening[POOL_OPENINGS];
	uint64_t first_bytes; /* where segment 0 begins */
	uint64_t segment_bytes;
	uint32_t seg_blocks, nsegs, nfree;
	uint64_t last_alloc;
	struct segment *segs;
	struct segment *free, **free_tail;
	uint32_t *crc; /* of every block; 0 unknown */
	struct pool_client *clients;
	struct pool_waiter *waiters, **waiters_tail;
	struct loop_task wake_task;
	struct header_buf *header_bufs, *free_bufs;
};

void pool_init_lists(struct pool *p);
void pool_push_free(struct pool *p, struct segment *s);
void pool_io_woken(struct pool_io *io, int status);

#endif
