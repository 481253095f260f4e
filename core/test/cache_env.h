/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cache_env.h - a cache on a simulated loop, disk and store, for its tests. */
#ifndef LSVD_TEST_CACHE_ENV_H
#define LSVD_TEST_CACHE_ENV_H

#include "cache/cache.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"

enum { ENV_OBJECTS = 64 };

/* Stands in front of the store: counts, and damages what it is told to. */
struct spy_store {
	struct store s;
	struct store *inner;
	uint64_t gets, get_bytes;
	uint64_t damage_from, damage_to; /* bytes of every object that come damaged ... */
	uint32_t damage_times;		 /* ... so many times */
	uint32_t out;
};

struct cache_env {
	struct loop *loop;
	struct sim_disk *disk;
	struct mem_objects *objects;
	struct spy_store *spy;
	struct store *store; /* what the cache uses: spy -> fault (-> model) -> mem */
	struct store *fault;
	struct pool *pool;
	struct cache *cache;
	struct config cfg;
	struct object_ref ref[ENV_OBJECTS];
	uint32_t crc_bytes; /* of objects put; 0: as the newest version */
	uint64_t seed;
};

/* pool_bytes 0: no pool.  model: NULL, or the class of the store. */
void env_open(struct cache_env *v, uint64_t pool_bytes, uint64_t segment_bytes,
	uint64_t chunk_bytes, const struct model_class *model);
void env_close(struct cache_env *v);
/* Close and open the cache and the pool; the disk stays. */
void env_restart(struct cache_env *v);
/* The machine (or only the process) dies; everything but disk and objects is new. */
void env_crash(struct cache_env *v, bool process_only);

/* Object i: data_bytes of data by a pattern, `extents` extents in its header. */
void env_put(struct cache_env *v, uint32_t i, uint32_t data_bytes, uint32_t extents);
void env_pattern(uint32_t object, uint64_t off, void *buf, uint64_t len);

/* Aligned to 4 KiB, with 4 KiB to spare. */
uint8_t *env_buffer(uint64_t len);

struct env_read {
	struct cache_req r;
	bool over;
	int status;
};
void env_submit(struct cache_env *v, struct env_read *q, uint32_t object, uint64_t off, void *buf,
	uint64_t len);
void env_wait(struct cache_env *v, struct env_read *q);
/* One whole read, contents checked; returns its source. */
uint8_t env_read(struct cache_env *v, uint32_t object, uint64_t off, uint64_t len);
int env_read_status(struct cache_env *v, uint32_t object, uint64_t off, uint64_t len);
/* Until nothing is going on any more. */
void env_settle(struct cache_env *v);
struct cache_stats env_stats(struct cache_env *v);

#endif
