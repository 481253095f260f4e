/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pump.h - a plain user of lsvd.h for child processes: one image, inline drive, PUMP_DEPTH requests
 * of one size in flight.
 *
 * Offsets go over the image's places in steps of about its golden section: each place once until
 * all were visited, in an order that looks random, so nothing coalesces.  A pump is used by one
 * thread; several of them, each with a context of its own, by several.
 */
#ifndef CI_RUNNER_PUMP_H
#define CI_RUNNER_PUMP_H

#include "lsvd.h"

enum { PUMP_DEPTH = 32 };

struct pump {
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	uint64_t block, stride; /* bytes of a request; from one place to the next */
	uint64_t places, at, step;
	uint64_t done; /* requests so far */
	int status;    /* the first that failed */
	struct lsvd_io io[PUMP_DEPTH], *idle[PUMP_DEPTH];
	struct iovec iov[PUMP_DEPTH];
	unsigned nidle;
	char *memory;
};

/* A context of inline drive with these settings: KEY, VALUE, ..., NULL.  0 or -errno and why. */
int pump_context(const char *const *settings, struct lsvd_ctx **ctx, char *why);

/* Opens `url` in p->ctx, which is the caller's.  size_bytes: it is made first; 0: it is there. */
int pump_open(struct pump *p, const char *url, uint64_t size_bytes, char *why);

/* Requests are of `block` bytes, their places `stride` bytes apart, `places` of them. */
int pump_shape(struct pump *p, uint64_t block, uint64_t stride, uint64_t places);

/* So many requests, or as many as fit before the clock (now_s()) says end_s; ends when the last of
 * them has completed.  0 or -errno. */
int pump_run(struct pump *p, enum lsvd_op op, uint64_t ios, double end_s);

/* Closes the image, if it is open, and frees the memory; keeps the context.  rc: what came before,
 * which is returned (and keeps its `why`) when it is an error. */
int pump_close(struct pump *p, int rc, char *why);

#endif
