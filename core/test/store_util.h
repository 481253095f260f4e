/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* store_util.h - blocking one-liners over a store, for tests. */
#ifndef LSVD_TEST_STORE_UTIL_H
#define LSVD_TEST_STORE_UTIL_H

#include "store/store.h"

/* Each returns the request's status; `util_err` holds the last message. */
extern struct err util_err;
extern char util_tag[STORE_TAG_MAX];	/* of the last get or swap */
extern uint64_t util_size;		/* of the last get */

/* What util_open() opens with; NULL: defaults. */
extern const struct config *util_cfg;

int64_t util_put(struct store *s, const char *name, const void *buf, size_t len);
int64_t util_get(struct store *s, const char *name, uint64_t off, void *buf, size_t len);
int64_t util_delete(struct store *s, const char *name);
int64_t util_swap(struct store *s, const char *name, const char *tag, const void *buf, size_t len);
int64_t util_lock(struct store *s, const char *image, const char *holder);
int64_t util_steal(struct store *s, const char *image, const char *holder);
int64_t util_ask(struct store *s, const char *image);	/* who has it: util_err */
int64_t util_unlock(struct store *s, const char *image);

/* "a/x:5 a/y:7 " for what is listed; valid until the next call. */
const char *util_list(struct store *s, const char *prefix);

/* len bytes that depend on seed, page-aligned; free() them. */
void *util_bytes(uint64_t seed, size_t len);

/* Open by URL, failing the test with the message. */
struct store *util_open(struct loop *l, const char *url, unsigned flags);

#endif
