/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gcsim.h - what a volume makes of a sequence of writes: the real core without the data.
 *
 * The image, its journal, batches, maps, checkpoints and garbage collection are the ones that serve
 * users, on a simulated loop.  The pool is memory of a fixed size; the store keeps headers and
 * checkpoints only, for all the data are zeroes.  So memory does not depend on how much is written,
 * and the same writes give the same figures.
 *
 *   gcsim_new(&opt, &g, &e);  gcsim_request(g, &record, &e) ...  gcsim_finish(g, &result, &e);
 *   gcsim_free(g);
 *
 * Requests go in as if some 200 MB/s were written, so objects are full.  Reads and flushes count
 * for nothing here and are left out.  The shape of the results is that of table 5 of Hajkazemi et
 * al., "Beating the I/O Bottleneck: A Case for Log-Structured Virtual Disks", EuroSys '22.
 */
#ifndef LSVD_TRACE_GCSIM_H
#define LSVD_TRACE_GCSIM_H

#include "format/trace.h"
#include "lsvd.h"
#include "sys/err.h"

struct gcsim;

struct gcsim_options {
	struct lsvd_config *cfg; /* borrowed: gc.*, object.size, checkpoint.interval ... */
	uint64_t size_bytes;	 /* of the image: a multiple of 512 */
	uint64_t seed;
};

struct gcsim_result {
	uint64_t requests, write_bytes; /* writes, discards and zeroes; bytes of writes */
	uint64_t merged_bytes;		/* overwritten within their batch: never stored */
	uint64_t gc_bytes, gc_objects;	/* moved; victims */
	uint64_t put_bytes;		/* all of it: headers and checkpoints, too */
	uint64_t puts, gets, get_bytes, deletes;
	uint64_t objects, stored_bytes, live_bytes;
	uint64_t peak_stored_bytes;
	uint64_t extents, map_bytes;
	double write_amplification; /* (stored of batches + moved by GC) / written */
	double merge_ratio;	    /* merged / written */
};

int gcsim_new(const struct gcsim_options *opt, struct gcsim **out, struct err *e) MUST_CHECK;

/* Any record of a trace; what lies beyond the image is -ERANGE. */
int gcsim_request(struct gcsim *g, const struct trace_record *r, struct err *e) MUST_CHECK;

/* Drain, let garbage collection come to rest, and count. */
int gcsim_finish(struct gcsim *g, struct gcsim_result *out, struct err *e) MUST_CHECK;

void gcsim_free(struct gcsim *g); /* NULL is fine */

/* Every request of a trace, in the order of the file, with constant memory: any format that
 * trace_load() reads.  fn's negative result ends it. */
int gcsim_each(const char *path, const char *file,
	int (*fn)(void *arg, const struct trace_record *r, struct err *e), void *arg,
	struct err *e) MUST_CHECK;

#endif
