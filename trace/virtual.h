/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtual.h - an existing image on a simulated loop: the real core, in virtual time, over a store
 * as slow as a model says, with a pool on a simulated SSD.
 *
 * Minutes of a boot take a second of CPU, and the figures are exact: the same image, trace, model
 * and seed give the same ones.  The image is opened for writing, but what is written stays in
 * memory (store/overlay.h): the image itself does not change, and is locked meanwhile.
 */
#ifndef LSVD_TRACE_VIRTUAL_H
#define LSVD_TRACE_VIRTUAL_H

#include "lsvd.h"
#include "sys/err.h"

struct virtual;

struct virtual_options {
	const char *url;	 /* of the image, without a model: file:/srv/vols/vm1 */
	const char *model;	 /* "s3", "custom,lat=20ms" ...; NULL: a store that takes no time */
	struct lsvd_config *cfg; /* borrowed; pool.size is the simulated pool's */
	uint64_t seed;
};

int virtual_open(const struct virtual_options *opt, struct virtual **out, struct err *e) MUST_CHECK;

struct lsvd_ctx *virtual_ctx(struct virtual *v);
struct lsvd_image *virtual_image(struct virtual *v);

/* The loop's time, as struct drive_options wants it: arg is the struct virtual. */
uint64_t virtual_now(void *arg);

/* Closes and opens the image again with the same pool: its read cache is warm, its stores are as
 * they were left. */
int virtual_reopen(struct virtual *v, struct err *e) MUST_CHECK;

void virtual_close(struct virtual *v); /* NULL is fine */

#endif
