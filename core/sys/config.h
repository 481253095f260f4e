/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config.h - the typed settings the core reads, and the layered store behind lsvd_config_*.
 *
 * Layers, weakest first: defaults, system file, user file, per-image section, option.  One table in
 * config.c names every key with its type, range, default and one line of help; the JSON files, the
 * options, `lsvd config`, the man page's list and this struct all follow from it.
 *
 * Files are JSON objects nested by the dots of the keys, and may hold "images": {"PATTERN": {...}} where
 * PATTERN is an image URL or an fnmatch(3) pattern of it:
 *
 *   { "pool": { "path": "file:/dev/nvme0n1p3", "size": "64G" },
 *     "images": { "file:/srv/vols/db*": { "durability": "store" } } }
 */
#ifndef LSVD_SYS_CONFIG_H
#define LSVD_SYS_CONFIG_H

#include "sys/err.h"

#include <stdbool.h>
#include <stdint.h>

struct lsvd_config;

enum durability { DURABILITY_JOURNAL, DURABILITY_STORE };

/* Field = key with the dot as an underscore. */
struct config {
	char pool_path[256];		/* "pool.path": bdev URL; default: root file:/var/lib/lsvd/pool,
					 * else file:$XDG_STATE_HOME/lsvd/pool (~/.local/state) */
	char pool_mirror[512];		/* "pool.mirror": up to 3 more legs for journals; "" none */
	char pool_acks[8];		/* "pool.acks": legs that must have a record: "all" or a number */
	uint32_t pool_leg_timeout_ms;	/* "pool.leg_timeout_ms": a leg that lags longer is dropped: 5000 */
	bool pool_degraded;		/* "pool.degraded": false: open without legs that may be newer */
	uint64_t pool_size_bytes;	/* "pool.size": when it is created: 1 GiB; >= 8 MiB */
	uint64_t pool_segment_bytes;	/* "pool.segment": 32 MiB; power of two, 256 KiB .. 1 GiB */
	uint32_t journal_percent;	/* "journal.percent": of the pool that dirty journals may fill: 60 */
	uint64_t journal_record_bytes;	/* "journal.record": group commit limit: 1 MiB; 4 KiB .. 1 MiB */
	uint32_t journal_depth;		/* "journal.depth": records in flight: 2; 1 .. 16 */
	uint32_t loop_spin_us;		/* "loop.spin_us": looking for completions before sleeping: 250; 0 = off */
	uint64_t journal_ram_bytes;	/* "journal.ram": log kept in memory, per image: 256 MiB; >= 4 MiB */
	uint32_t journal_burst_percent;	/* "journal.burst_percent": of the machine's memory, shared: 12; 0 = none */
	enum durability durability;	/* "durability": "journal" or "store" (flush waits for objects) */
	uint64_t object_bytes;		/* "object.size": 8 MiB; 64 KiB .. 64 MiB, multiple of 64 KiB */
	uint32_t destage_puts;		/* "destage.puts": PUTs in flight; 0 = by kind of store */
	uint64_t destage_piece_bytes;	/* "destage.piece": 512 KiB; 64 KiB .. 8 MiB */
	uint32_t destage_age_ms;	/* "destage.age_ms": oldest dirty data is put after: 5000; 0 = never */
	uint64_t checkpoint_bytes;	/* "checkpoint.interval": of new objects between two: 512 MiB */
	bool gc_enabled;		/* "gc.enabled": true */
	char gc_policy[16];		/* "gc.policy": "greedy" */
	uint32_t gc_start_percent;	/* "gc.start": collect when less than this is live: 70 */
	uint32_t gc_stop_percent;	/* "gc.stop": and until this much is: 75 */
	uint64_t gc_plug_bytes;		/* "gc.plug": holes up to this are filled: 8 KiB; 0 none */
	bool cache_enabled;		/* "cache.enabled": true: read cache in the pool */
	uint64_t cache_chunk_bytes;	/* "cache.chunk": 64 KiB; power of two, 4 KiB .. 4 MiB */
	uint64_t readahead_bytes;	/* "readahead.max": largest window: 1 MiB; 0 = off */
	bool prefetch_enabled;		/* "prefetch.enabled": true: follow the boot profile */
	uint64_t prefetch_ahead_bytes;	/* "prefetch.ahead": fetched, not yet read: 64 MiB */
	uint32_t prefetch_depth;	/* "prefetch.depth": GETs in flight: 4 */
	uint32_t store_retry_ms;	/* "store.retry_ms": first back-off after a store error: 100 */
	uint32_t writer_check_ms;	/* "writer.check_ms": a writer looks whether the image is still its own: 5000; 0 = never */
	char rados_conf[256];		/* "rados.conf": cluster's configuration file; "": where Ceph looks */
	char rados_user[64];		/* "rados.user": "admin" or "client.admin"; "": Ceph's default */
	char rados_data_pool[128];	/* "rados.data_pool": pool of a new image's data; "": the URL's */
	uint32_t rados_timeout;		/* "rados.timeout": seconds: 30; 5 .. 3600 */
	uint32_t rados_connect_timeout;	/* "rados.connect_timeout": seconds: 10; 1 .. 600 */
	bool rados_blocklist;		/* "rados.blocklist": of a holder whose image is taken over: false */
	char s3_endpoint[256];		/* "s3.endpoint": URL; "" = AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS */
	char s3_region[64];		/* "s3.region": "" = AWS_REGION, AWS_DEFAULT_REGION, or us-east-1 */
	char s3_addressing[16];		/* "s3.addressing": "auto", "path", "host" */
	char s3_ca_file[256];		/* "s3.ca_file": "" = the system's */
	bool s3_verify;			/* "s3.verify": true */
	uint32_t s3_timeout_ms;		/* "s3.timeout_ms": without progress: 15000 */
	uint32_t s3_tries;		/* "s3.tries": 6; 1 .. 20 */
	uint32_t s3_connections;	/* "s3.connections": 32; 1 .. 256 */
	uint32_t s3_lease_ms;		/* "s3.lease_ms": 30000; 1 s .. 1 h */
	char trace_path[256];		/* "trace.path": record every image opened for I/O; "%n" = its name */
};

/* The effective settings for an image URL (NULL: none).  -EINVAL with a message when combined values
 * contradict each other (gc.stop < gc.start, journal.ram < 2 objects ...). */
int config_resolve(struct lsvd_config *cfg, const char *image, struct config *out, struct err *e) MUST_CHECK;

/* A deep copy; NULL when memory is out. */
struct lsvd_config *config_copy(const struct lsvd_config *cfg);

#endif
