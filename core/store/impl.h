/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * impl.h - what stores and filters share: those of this folder, and the made-up one of reorg/.
 *
 * A store gets each request through ops->submit, with its private fields reset and its names checked,
 * and ends it with exactly one store_complete(), never from inside submit.
 * Loop thread only, except where said.
 */
#ifndef LSVD_STORE_IMPL_H
#define LSVD_STORE_IMPL_H

#include "store/store.h"
#include "sys/container.h"

#include <stddef.h>

/* Count and finish: done() may submit again, or free the request. */
void store_complete(struct store_req *r, int64_t status);

/* The same on a later iteration: for failures found inside submit. */
void store_complete_later(struct store_req *r, int64_t status);

/* Fill the common part of a store; `fmt` makes the URL. */
void store_init(struct store *s, struct loop *l, const struct store_ops *ops, const char *kind,
	const char *url);

/* The openers behind the URLs' schemes. */
int store_file_open(struct loop *l, const char *dir, unsigned flags, struct store **out, struct err *e) MUST_CHECK;
int store_mem_open(struct loop *l, const char *name, struct store **out, struct err *e) MUST_CHECK;
int store_s3_open(struct loop *l, const char *rest, const struct config *cfg, struct store **out, struct err *e) MUST_CHECK;
int model_parse(const char *spec, struct model_class *m, struct err *e) MUST_CHECK;
int fault_parse(const char *spec, struct fault_rules *f, struct err *e) MUST_CHECK;

/* One word of a filter's `KEY=VALUE,KEY,...`, cut from *spec, which moves on; false at the end. */
struct store_opt {
	char key[32], value[64];	/* value is "" when there is no '=' */
};
bool store_opt_next(const char **spec, struct store_opt *o);
/* "20ms", "100us", "1.5s", "500ns" */
int store_opt_ns(const struct store_opt *o, uint64_t *ns, struct err *e) MUST_CHECK;
/* "100M": a number with K, M, G (powers of 1000) */
int store_opt_count(const struct store_opt *o, uint64_t *n, struct err *e) MUST_CHECK;

/* 1..64 of [A-Za-z0-9._-], not beginning with a dot. */
bool store_image_name_ok(const char *name, size_t len);
/* IMAGE/OBJECT, both of those characters, at most STORE_NAME_MAX in all. */
bool store_object_name_ok(const char *name);

/* A freelist of equal contexts: grows in chunks up to the most ever in use, never shrinks before fini.
 * What comes out is not zeroed. */
struct store_pool {
	size_t item_bytes;
	void *free, *chunks;
};
void *store_pool_get(struct store_pool *p);	/* NULL: out of memory */
void store_pool_put(struct store_pool *p, void *item);
void store_pool_fini(struct store_pool *p);	/* items still out are freed too */

/* The request a filter sends down for `outer`, and the way back of what it brought.  The filter sets
 * done (and item) itself. */
void store_req_down(struct store_req *inner, const struct store_req *outer);
void store_req_up(struct store_req *outer, const struct store_req *inner);

#endif
