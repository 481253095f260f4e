/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * drive.h - a replay against an open image, on an inline context, in real or virtual time.
 *
 * Blocks until the replay is over; it polls the context itself.  Writes carry replay_fill()'s
 * bytes.
 */
#ifndef LSVD_TRACE_DRIVE_H
#define LSVD_TRACE_DRIVE_H

#include "trace/replay.h"

struct drive_options {
	struct replay_options replay; /* image_bytes is filled in */
	uint64_t seed;		      /* of the written bytes */
	/* The clock in ns; NULL: CLOCK_MONOTONIC.  On a simulated loop: its time. */
	uint64_t (*now)(void *arg);
	void *now_arg;
	/* Now and then, with the bytes moved so far; may be NULL. */
	void (*progress)(void *arg, uint64_t done, uint64_t of);
	void *progress_arg;
	const volatile int *stop; /* non-zero: submit nothing more; may be NULL */
};

/* 0, also when requests failed (they are in the result); -ERANGE, -ENOMEM: nothing was submitted;
 * -EINTR: stopped, the result covers what was done. */
int drive_replay(struct lsvd_ctx *ctx, struct lsvd_image *img, const struct trace_record *records,
	size_t n, const struct drive_options *opt, struct replay_result *out,
	struct err *e) MUST_CHECK;

#endif
