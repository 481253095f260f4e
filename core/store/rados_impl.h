/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados_impl.h - the rooms of the RADOS store: rados.c (open, close, dispatch, errors),
 * rados_conn.c (the library, connections, their threads), rados_io.c (PUT, GET, DELETE, SWAP, where
 * an image's data is), rados_lock.c (LOCK, UNLOCK), rados_list.c (LIST).
 *
 * Everything is the loop thread's, but what is marked with the thread it belongs to.  Compiled only
 * where librados' header is (HAVE_RADOS).
 */
#ifndef LSVD_STORE_RADOS_IMPL_H
#define LSVD_STORE_RADOS_IMPL_H

#include "store/impl.h"
#include "store/rados.h"

#include <pthread.h>
#include <rados/librados.h>
#include <stdatomic.h>

/* The functions that are used: loaded by rados_conn.c before the first store opens. */
struct librados {
	typeof(rados_create2) *create2;
	typeof(rados_conf_read_file) *conf_read_file;
	typeof(rados_conf_parse_env) *conf_parse_env;
	typeof(rados_conf_set) *conf_set;
	typeof(rados_connect) *connect;
	typeof(rados_shutdown) *shutdown;
	typeof(rados_pool_reverse_lookup) *pool_reverse_lookup;
	typeof(rados_wait_for_latest_osdmap) *wait_for_latest_osdmap;
	typeof(rados_blocklist_add) *blocklist_add;
	typeof(rados_ioctx_create) *ioctx_create;
	typeof(rados_ioctx_create2) *ioctx_create2;
	typeof(rados_ioctx_destroy) *ioctx_destroy;
	typeof(rados_ioctx_set_namespace) *ioctx_set_namespace;
	typeof(rados_ioctx_get_namespace) *ioctx_get_namespace;
	typeof(rados_ioctx_get_id) *ioctx_get_id;
	typeof(rados_ioctx_get_pool_name) *ioctx_get_pool_name;
	typeof(rados_ioctx_get_cluster) *ioctx_get_cluster;
	typeof(rados_set_pool_full_try) *set_pool_full_try;
	typeof(rados_get_last_version) *get_last_version;
	typeof(rados_aio_create_completion2) *aio_create_completion2;
	typeof(rados_aio_release) *aio_release;
	typeof(rados_aio_get_return_value) *aio_get_return_value;
	typeof(rados_aio_get_version) *aio_get_version;
	typeof(rados_aio_wait_for_complete) *aio_wait_for_complete;
	typeof(rados_aio_getxattr) *aio_getxattr;
	typeof(rados_aio_stat) *aio_stat;
	typeof(rados_create_write_op) *create_write_op;
	typeof(rados_release_write_op) *release_write_op;
	typeof(rados_write_op_create) *write_op_create;
	typeof(rados_write_op_assert_version) *write_op_assert_version;
	typeof(rados_write_op_write_full) *write_op_write_full;
	typeof(rados_write_op_set_alloc_hint2) *write_op_set_alloc_hint2;
	typeof(rados_write_op_setxattr) *write_op_setxattr;
	typeof(rados_write_op_remove) *write_op_remove;
	typeof(rados_write_op_operate) *write_op_operate;
	typeof(rados_aio_write_op_operate) *aio_write_op_operate;
	typeof(rados_create_read_op) *create_read_op;
	typeof(rados_release_read_op) *release_read_op;
	typeof(rados_read_op_stat) *read_op_stat;
	typeof(rados_read_op_read) *read_op_read;
	typeof(rados_aio_read_op_operate) *aio_read_op_operate;
	typeof(rados_lock_exclusive) *lock_exclusive;
	typeof(rados_unlock) *unlock;
	typeof(rados_break_lock) *break_lock;
	typeof(rados_list_lockers) *list_lockers;
	typeof(rados_nobjects_list_open) *nobjects_list_open;
	typeof(rados_nobjects_list_next2) *nobjects_list_next2;
	typeof(rados_nobjects_list_close) *nobjects_list_close;
};
extern struct librados librados;

/* ---- rados_conn.c: connections and their threads ---- */

/* What a worker does for somebody. */
struct rados_job {
	struct rados_job *next;
	void (*work)(struct rados_job *j); /* the worker's thread; its last act may free j */
};

/* A thread that takes jobs in order; started with its first job. */
struct rados_worker {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool runs, stop;
	struct rados_job *first, **last;
	void (*tick)(struct rados_worker *w); /* every tick_ns; may be NULL */
	uint64_t tick_ns, tick_at_ns;
};

/* A connection to a cluster: one per (configuration file, user, time limits) and process. */
struct rados_conn {
	struct rados_conn *next;
	unsigned users; /* stores; the last one shuts it down */
	rados_t cluster;
	bool foreign; /* the caller's: not shut down */
	char conf[256], user[64];
	uint32_t timeout_s, connect_timeout_s;
	/* PUTs are copied and submitted on a thread of their own, for that is a matter of
	 * milliseconds; listing takes as long as it takes; locks must be renewed whatever the
	 * others do. */
	struct rados_worker puts, lists, locks;
	void *staging; /* puts thread: the pieces of an object, put together */
	size_t staging_bytes;
	struct rados_lock *held; /* locks thread */
};

int rados_conn_get(const struct config *cfg, struct rados_conn **out, struct err *e) MUST_CHECK;
/* One that is the caller's. */
int rados_conn_adopt(rados_t cluster, struct rados_conn **out, struct err *e) MUST_CHECK;
void rados_conn_put(struct rados_conn *c);
int rados_load(struct err *e) MUST_CHECK;

/* -EAGAIN: no thread could be made. */
int rados_worker_post(struct rados_worker *w, struct rados_job *j) MUST_CHECK;
/* Post and wait until it has been done. */
int rados_worker_call(struct rados_worker *w, void (*fn)(void *arg), void *arg) MUST_CHECK;

/* ---- stores ---- */

enum { RADOS_PARTS = 16, RADOS_ID_TEXT = 24 };

/* An image, and where its data objects are. */
struct rados_image {
	struct rados_image *next;
	rados_ioctx_t data; /* NULL: not known yet */
	struct rados_op *waiting, **waiting_end;
	bool asking;
	bool locked;		    /* by this handle */
	char answer[RADOS_ID_TEXT]; /* a pool's number, from its superblock's attribute */
	char name[65];
};

struct rados_pool {
	struct rados_pool *next;
	int64_t id;
	rados_ioctx_t io;
};

struct rados_store {
	struct store s;
	struct rados_conn *conn;
	rados_ioctx_t io;	  /* the URL's pool: superblocks, lists of clones, locks */
	rados_ioctx_t lock_io;	  /* the same for the locks thread, which asks it for versions */
	rados_ioctx_t data;	  /* of new images: the same as io, or of rados.data_pool */
	struct rados_pool *pools; /* others that images named */
	struct rados_image *images;
	struct store_pool ops;
	atomic_uint abroad; /* requests that another thread may still touch */
	bool blocklist;
	char ns[128]; /* namespace */
	char pool[128], user[64];
};

/* One request under way. */
struct rados_op {
	struct rados_job job;
	struct loop_task task;
	struct rados_op *next;
	struct store_req *r;
	struct rados_store *rs;
	struct rados_image *image; /* NULL: LIST of many */
	rados_ioctx_t io;
	rados_completion_t c;
	void (*work)(struct rados_op *op);  /* on a worker; sets status */
	void (*after)(struct rados_op *op); /* then on the loop; or when librados is done */
	int64_t status;
	uint64_t version; /* of the object that was read or written */
	/* GET */
	char *bounce; /* or NULL: straight into the iov */
	uint64_t size_bytes;
	size_t got[RADOS_PARTS];
	int part_status[RADOS_PARTS], stat_status;
	unsigned parts;
	/* LIST */
	void *found;
	size_t found_count;
	struct err err; /* set by workers */
};

/* ---- rados.c ---- */

/* Finish the request.  A failure gets its message here, and its plain meaning. */
void rados_done(struct rados_op *op, int64_t status);
void rados_end(struct rados_op *op, int64_t status); /* as it is, without a message */

/* Run op->work on a worker, then op->after on the loop. */
void rados_job(struct rados_op *op, struct rados_worker *w, void (*work)(struct rados_op *op),
	void (*after)(struct rados_op *op));

/* A completion that leads to op->after; NULL: out of memory. */
rados_completion_t rados_completion(struct rados_op *op, void (*after)(struct rados_op *op));
/* librados did not take the request after all. */
void rados_refused(struct rados_op *op, int rc);
/* The same on a worker, which does not touch op any more. */
void rados_fail_abroad(struct rados_op *op, int rc);

/* An error of librados, as this store's users know it. */
int64_t rados_plain(int64_t status);

/* ---- rados_io.c ---- */
void rados_put(struct rados_op *op);
void rados_get(struct rados_op *op);
void rados_delete(struct rados_op *op);
void rados_swap(struct rados_op *op);
/* Call go(op) when op->io is set: the pool where the object is, or will be. */
void rados_find_pool(struct rados_op *op, void (*go)(struct rados_op *op));
int rados_other_pool(struct rados_store *rs, int64_t id, rados_ioctx_t *out) MUST_CHECK;

/* ---- rados_lock.c: the locks thread ---- */
void rados_work_lock(struct rados_op *op);
void rados_work_unlock(struct rados_op *op);
void rados_work_renew(
	struct rados_op *op); /* before a SWAP: -ESTALE when somebody else has the lock */
void rados_unlock_all(void *store);
void rados_renew_all(struct rados_worker *w);
uint64_t rados_renew_ns(void);

/* ---- rados_list.c: the lists thread, and then the loop ---- */
void rados_work_list(struct rados_op *op);
void rados_after_list(struct rados_op *op);

#endif
