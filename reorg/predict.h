/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * predict.h - what a boot costs: its trace replayed through the real core, over a store model.
 *
 *   predict_layout_new(&plan, size, 0, &layout, &e)     once per layout; many runs may share it
 *   predict_run(&input, &result, &e)                    one boot
 *
 * In virtual time (the default) the figures are exact: the same input gives the same result, and
 * minutes of a boot take some milliseconds.  In real time the same code runs on the real loop, with
 * the model's and the pool's latencies as real timers.
 *
 * The image lies in a synthetic store (synth.h) behind the model, the pool on a simulated SSD; each
 * run starts with an empty pool and leaves the layout as it is.  All requests of the trace are
 * replayed, writes too, think times kept (trace/replay.h); every read is checked.
 *
 * One thread per call; a layout may be used by one run at a time.
 */
#ifndef LSVD_REORG_PREDICT_H
#define LSVD_REORG_PREDICT_H

#include "reorg/plan.h"
#include "store/store.h"

enum { PREDICT_CLONES_MAX = 64 };

struct predict_layout;

/* Lay the image out by `plan` (plan_make, or plan_make_plain for LBA order) in objects of
 * `object_bytes` (0 = 8 MiB).  `stop` (may be NULL): -EINTR soon after it became non-zero. */
int predict_layout_new(const struct plan *plan, uint64_t size_sectors, uint64_t object_bytes,
	const volatile int *stop, struct predict_layout **out, struct err *e) MUST_CHECK;
void predict_layout_free(struct predict_layout *l); /* l may be NULL */

struct predict_input {
	struct predict_layout *layout;
	const struct trace_record *records; /* by submit_ns; borrowed */
	size_t n;
	struct model_class model;
	uint64_t chunk_bytes;	  /* cache.chunk; 0 = its default */
	uint64_t readahead_bytes; /* 0 = off */
	bool prefetch;		  /* follow the layout's boot profile */
	bool warm;		  /* what is measured is the second boot */
	unsigned clones;	  /* so many boot at once, on one pool and cache; 0 = 1, the image itself */
	uint64_t apart_ns;	  /* each begins so much later than the one before it */
	bool real_time;
	double speed;		  /* think times are divided by it; 0 = 1 */
	const volatile int *stop; /* may be NULL: -EINTR soon after it became non-zero */
};

struct predict_result {
	/* of all clones together; times: the longest of one clone */
	uint64_t gets, get_bytes;	       /* of the whole boot, opening the image included */
	uint64_t open_gets;		       /* of these, until the image was open */
	uint64_t requests, reads, read_bytes;  /* of the guest */
	uint64_t outstanding_ns;	       /* time with at least one read waiting */
	uint64_t stall_ns;		       /* the reads' waits added up */
	uint64_t wall_ns;		       /* first request to last completion */
	uint64_t open_ns;		       /* opening the image */
	uint64_t prefetch_bytes, wasted_bytes; /* fetched ahead; of these, never read */
};

/* -EINTR; -EBADMSG: a read returned wrong bytes (our bug); -ERANGE: not a trace of this image. */
int predict_run(
	const struct predict_input *in, struct predict_result *out, struct err *e) MUST_CHECK;

/* The variants that the benchmark reports. */
enum predict_variant {
	PREDICT_ORIGINAL,  /* LBA order, cold */
	PREDICT_READAHEAD, /* ... with sequential readahead */
	PREDICT_REORG,	   /* reorganised, cold, nothing runs ahead */
	PREDICT_REORG_PREFETCH,
	PREDICT_WARM, /* LBA order, the second boot on one pool */
	PREDICT_VARIANTS
};
const char *predict_variant_name(enum predict_variant v); /* "original", "reorg_prefetch" ... */

/* Fills layout and the switches of `in`; readahead_bytes is that of the variant that has it. */
void predict_variant_set(struct predict_input *in, enum predict_variant v,
	struct predict_layout *plain, struct predict_layout *reorg, uint64_t readahead_bytes);

#endif
