/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_impl.h - what the files of the S3 store share.
 *
 *   s3.c        opening and closing, PUT, GET, one DELETE; trying again
 *   s3_list.c   LIST, page by page
 *   s3_delete.c DELETEs that come together, as one request
 *   s3_clerk.c  a thread for what takes several requests in a row: SWAP, LOCK, UNLOCK, leases
 *   s3_swap.c   compare-and-swap by conditional PUT, for the clerk
 *   s3_lock.c   locks, for the clerk
 *   s3_judge.c  what an answer means
 *   s3_reply.c  XML      s3_conf.c  settings      s3_http.c  HTTP      s3_hash.c  digests
 *
 * An object's tag is ETAG:VERSION.  The ETag is what conditional PUTs compare; the version is random,
 * in the object's metadata.  It tells two writes of the same bytes apart, and lets a writer whose
 * request ended without an answer find out whether it was carried out.
 */
#ifndef LSVD_STORE_S3_IMPL_H
#define LSVD_STORE_S3_IMPL_H

#include "store/impl.h"
#include "store/s3_conf.h"
#include "store/s3_http.h"

#include <pthread.h>
#include <stdatomic.h>

enum { S3_VERSION_MAX = 25, S3_ETAG_MAX = STORE_TAG_MAX - S3_VERSION_MAX - 1, S3_KEY_MAX = S3_PREFIX_MAX + STORE_NAME_MAX + 16 };

struct s3_clerk;

/* Credentials that were in use; the newest first.  None is freed before the store. */
struct s3_peer {
	struct http_peer p;
	struct s3_peer *next;
};

struct s3 {
	struct store s;
	struct s3_place place;
	uint32_t tries, lease_ms, backoff_ms;
	_Atomic(struct s3_peer *) peer;
	pthread_mutex_t peer_mutex;
	uint64_t refreshed_ns; /* under peer_mutex: when credentials were last looked for */
	struct store_pool ops;
	struct s3_clerk *clerk; /* NULL until needed */
	/* s3_delete.c */
	struct loop_task delete_task;
	struct store_req *deletes, **deletes_last;
	bool no_batches;
};

/* ---- judging ---- */

struct s3_verdict {
	int rc;		/* 0, or what is wrong; the text is in the err */
	bool retry;	/* it may pass; whether the request was carried out is not known */
	bool refused;	/* a condition was not met (412) */
	bool absent;	/* the object, not the bucket, is not there */
	bool credentials; /* they are not valid, or not any more */
};
struct s3_verdict s3_judge(const struct s3 *s, const struct http_call *c, struct err *e);

/* ---- calls: any thread ---- */

/* key = the store's prefix + name */
void s3_call(struct s3 *s, struct http_call *c, const char *method, const char *name);
void s3_new_version(char out[S3_VERSION_MAX]);
/* The tag that an answer names; -EIO when it is none. */
int s3_tag(const struct http_call *c, char tag[STORE_TAG_MAX], struct err *e);
/* Look for newer credentials; true: there are. */
bool s3_refresh(struct s3 *s);
/* How long to wait before try number `tries` (1 is the second): around store.retry_ms, doubling, 5 s at most. */
uint64_t s3_backoff_ns(const struct s3 *s, unsigned tries, uint64_t random);

/* ---- operations on the loop ---- */

struct s3_op {
	struct http_call call;
	struct loop_task task;
	struct loop_timer timer;
	struct s3 *s;
	struct store_req *r;			/* NULL: of several */
	void *with;				/* what LIST and batches of DELETEs need besides */
	void (*start)(struct s3_op *op);	/* make the call and send it */
	void (*over)(struct s3_op *op);		/* it has ended */
	unsigned tries;
	char version[S3_VERSION_MAX];
	uint64_t skip, got, seen;		/* GET */
	int piece;
	size_t piece_at;
};

struct s3_op *s3_op_new(struct s3 *s, struct store_req *r);
void s3_op_free(struct s3_op *op);
void s3_op_send(struct s3_op *op);
/* op->start() again later, if that makes sense. */
bool s3_op_again(struct s3_op *op, const struct s3_verdict *v);
/* End the request; frees op.  A failure's text gets what was asked for in front. */
void s3_op_end(struct s3_op *op, int64_t status);

void s3_list(struct s3 *s, struct store_req *r);
void s3_delete(struct s3 *s, struct store_req *r);	/* gathers */
void s3_delete_one(struct s3 *s, struct store_req *r);

/* ---- the clerk ---- */

void s3_clerk_submit(struct s3 *s, struct store_req *r);
void s3_clerk_close(struct s3 *s);	/* gives its locks back */

/* What the clerk works with; its thread only. */
struct s3_desk {
	struct s3 *s;
	struct http_call call;
	struct err why;		/* of what is asked in between and need not be told */
	char *into;		/* where an object that is read goes */
	size_t room, got;
	bool bare_etags;	/* this service compares ETags without their quotes */
	bool checked;		/* it has shown that it heeds conditions */
	bool once;		/* nothing is tried twice */
	bool once_from_now;	/* the store is being closed: `once` stays */
	struct s3_lock *locks;
};

/* The object's tag, and when `buf`, its bytes up to len.  Bytes read, or -ENOENT ... */
int64_t s3_look(struct s3_desk *d, const char *name, char tag[STORE_TAG_MAX], void *buf, size_t len,
	struct err *e);
/* Replace `name` if its tag is still `tag` ("": create it); tag = the new one.  look: the caller knows
 * no better than its tag; else the object's bytes never repeat, and its ETag alone decides. */
int s3_swap(struct s3_desk *d, const char *name, char tag[STORE_TAG_MAX], const struct iovec *iov,
	int iovcnt, bool look, struct err *e);
int s3_remove(struct s3_desk *d, const char *name, struct err *e);
/* -EOPNOTSUPP: the service does not heed conditions, so nothing would keep two writers apart.
 * Writes to `name`, which has `tag`, only if that is so. */
int s3_check_conditions(struct s3_desk *d, const char *name, const char *tag, struct err *e);
/* After a request that did not end well: wait, and true to send it again. */
bool s3_clerk_again(struct s3_desk *d, const struct s3_verdict *v, unsigned *tries);
/* Waits; wakes up when the store is being closed. */
void s3_clerk_sleep(struct s3_desk *d, uint64_t ns);

int s3_lock(struct s3_desk *d, const struct store_req *r);
int s3_unlock(struct s3_desk *d, const char *image);
void s3_unlock_all(struct s3_desk *d);
/* Renew the leases that are due; the time (CLOCK_BOOTTIME) when the next one will be, UINT64_MAX none. */
uint64_t s3_renew(struct s3_desk *d);
/* -ESTALE: the lock of this object's image was ours, and is not any more. */
int s3_still_ours(struct s3_desk *d, const char *name, struct err *e);
uint64_t s3_boottime_ns(void);

#endif
