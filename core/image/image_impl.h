/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image_impl.h - the inside of contexts, images and requests, shared by image/'s rooms. */
#ifndef LSVD_IMAGE_IMAGE_IMPL_H
#define LSVD_IMAGE_IMAGE_IMPL_H

#include "image/context.h"
#include "sys/stats.h"
#include "sys/trace.h"
#include "volume/volume.h"

#include <assert.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

enum { PART_SECTORS_MAX = 2048, PARTS_FIRST = 64, IMAGE_NAME_MAX = 65 };

struct part;

/* What the library keeps in lsvd_io.priv. */
struct io_priv {
	struct lsvd_image *img;
	struct lsvd_queue *queue;
	struct lsvd_io *next;
	struct loop_task task;
	uint64_t submit_ns;
	uint64_t object;  /* that served it, for the trace */
	uint32_t pending; /* parts not done; one more while it is being split */
	int status;
	uint8_t source; /* enum trace_source, the slowest part's */
	union {
		struct journal_req write;
		struct journal_flush flush;
		struct volume_drain drain;
	};
};
_Static_assert(
	sizeof(struct io_priv) <= sizeof(((struct lsvd_io *)0)->priv), "lsvd_io.priv is too small");

static inline struct io_priv *io_priv(struct lsvd_io *io)
{
	return (struct io_priv *)(void *)io->priv;
}

/* A piece of a request that needs I/O of its own, or a piece of a long write. */
struct part {
	struct lsvd_io *io;
	uint64_t lba, len; /* sectors */
	uint32_t tries;
	void *bounce;	     /* in use when not NULL */
	size_t bounce_skip;  /* bytes of it before the data */
	void *bounce_memory; /* kept from use to use */
	struct part *next;
	union {
		struct cache_req cache;
		struct pool_io pool;
		struct journal_req write;
	};
};

struct lsvd_image {
	struct lsvd_ctx *ctx;
	struct volume *vol;
	struct store *store;
	bool own_store;
	char url[512], name[IMAGE_NAME_MAX];
	char snapshot[SNAPSHOT_NAME_MAX]; /* "": none */
	unsigned flags;
	struct config cfg;
	bool closing;
	uint64_t limit_bytes; /* requests end here: the size, or less while it is shrunk */
	uint64_t in_flight;
	struct part *free_parts;
	struct part **slabs;
	uint32_t nslabs, next_slab; /* next_slab: parts in the next one */
	struct cache_resolver resolver;
	struct readahead *readahead;
	struct prefetch *prefetch;
	struct trace_recorder *trace;
	char *trace_path;
	struct lsvd_stats stats;
	struct hist read_hist, write_hist, flush_hist;
	struct store_counts counts_before; /* the store's when we opened it */
	struct lsvd_image *next;
};

struct lsvd_ctx {
	struct loop *loop;
	bool own_loop;
	enum lsvd_drive drive;
	struct lsvd_config *cfg;
	struct config base;
	struct pool *pool;
	struct cache *cache;
	bool no_pool; /* opened without legs: read-only images only */
	struct lsvd_image *images;

	/* door.c: who drives */
	_Atomic(uintptr_t) driver; /* pthread_self of the thread that is the loop; 0: nobody */
	atomic_int want;	   /* threads that wait to drive */
	struct loop_task nudge;
	pthread_t thread; /* the drive thread or the caretaker */
	bool thread_runs;
	atomic_bool stop;
	_Atomic uint64_t last_poll_ns;
	bool user_drives;
	struct lsvd_io *done, **done_tail; /* completed while the caretaker drove */
};

/* door.c */
int door_open(struct lsvd_ctx *ctx, struct err *e) MUST_CHECK;
void door_close(struct lsvd_ctx *ctx);
/* Become the loop thread; leave again.  Nests by being told whether it was. */
bool ctx_enter(struct lsvd_ctx *ctx);
void ctx_leave(struct lsvd_ctx *ctx, bool entered);
void door_complete(struct lsvd_ctx *ctx, struct lsvd_io *io);
/* q NULL: it is called back */
int door_submit(struct lsvd_image *img, struct lsvd_io *io, struct lsvd_queue *q) MUST_CHECK;

/* queue.c.  Loop thread: it is over, and waits to be reaped. */
void queue_push(struct lsvd_queue *q, struct lsvd_io *io);

/* io.c */
int io_check(const struct lsvd_image *img, const struct lsvd_io *io);
void io_start(struct lsvd_image *img, struct lsvd_io *io);
/* Complete it with this error, later. */
void io_refuse(struct lsvd_image *img, struct lsvd_io *io, int status);
int parts_init(struct lsvd_image *img) MUST_CHECK;
void parts_fini(struct lsvd_image *img);

/* admin.c */
void image_uuid_text(const uint8_t u[16], char out[37]);

/* snapshot.c */
/* Cut "@SNAPSHOT" off an image's name or URL; `plain` has room for `len`.  -EINVAL: no name for one. */
int image_split_snapshot(const char *url, char *plain, size_t len,
	char snapshot[SNAPSHOT_NAME_MAX], struct err *e) MUST_CHECK;
/* Open the store of an image's URL. */
int image_open_store(struct lsvd_ctx *ctx, const char *url, unsigned flags, struct store **s,
	char name[IMAGE_NAME_MAX], struct err *e) MUST_CHECK;

/* context.c */
int ctx_need_pool(struct lsvd_ctx *ctx, struct err *e) MUST_CHECK;
int ctx_need_cache(struct lsvd_ctx *ctx, struct err *e) MUST_CHECK;
void why_copy(char *why, const struct err *e, int rc);

/* legs.c: the pool's legs, as a JSON array. */
json_t *ctx_legs_json(struct lsvd_ctx *ctx);

/* image.c */
void image_free(struct lsvd_image *img);
int image_trace(struct lsvd_image *img, const char *path, struct err *e);

#endif
