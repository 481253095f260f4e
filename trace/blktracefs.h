/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blktracefs.h - events of one block device from the kernel's `blk` tracer (Documentation/trace,
 * CONFIG_BLK_DEV_IO_TRACE).
 *
 * The tracer is one for the whole machine: opening fails when another one is in use, and closing
 * puts back what was changed.  A partition's events have the sectors of its disk; they are made its
 * own again. One thread.
 */
#ifndef LSVD_TRACE_BLKTRACEFS_H
#define LSVD_TRACE_BLKTRACEFS_H

#include "trace/blkreq.h"

struct blktracefs;

/* `device`: a path like /dev/vda, or a name like vda.  -ENOENT: no such device, or no tracefs;
 * -EACCES; -EBUSY: another tracer is in use; -ENOTSUP: the kernel has no blk tracer. */
int blktracefs_open(const char *device, struct blktracefs **out, struct err *e) MUST_CHECK;

typedef int blktracefs_fn(void *arg, const struct blk_event *ev);

/* Hands over what there is, after waiting wait_ms for something; fn's negative result ends it and
 * is returned. How many events: 0 none. */
int blktracefs_read(
	struct blktracefs *t, int wait_ms, blktracefs_fn *fn, void *arg, struct err *e) MUST_CHECK;

/* No more events are made; what was is still there to read. */
void blktracefs_stop(struct blktracefs *t);

uint64_t blktracefs_size(const struct blktracefs *t); /* of the device, in bytes */
uint64_t blktracefs_lost(const struct blktracefs *t); /* events: the kernel's buffer was full */

/* Stops, and leaves the tracer as it was. */
void blktracefs_close(struct blktracefs *t); /* NULL is fine */

#endif
