/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados.c - the RADOS store: opening and closing, whose turn a request is, and what errors mean.
 *
 * librados calls back on threads of its own: these only post the request's task to the loop.  What
 * has no asynchronous form in librados (locks, listing), and copying an object, is done by a worker
 * of the connection (rados_conn.c), which posts in the same way.  The last thing such a thread does
 * with a store is to count down `abroad`; closing waits for that, since the loop may get to the
 * task before its poster has returned.
 *
 * Needs a real loop.
 */
#include "store/rados_impl.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ioctxs of callers ---- */

struct adopted {
	struct adopted *next;
	struct loop *l;
	rados_t cluster;
	char spec[256];
};

static pthread_mutex_t adopted_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct adopted *adopted;

static rados_t find_adopted(struct loop *l, const char *spec)
{
	rados_t cluster = NULL;

	pthread_mutex_lock(&adopted_mutex);
	for (struct adopted *a = adopted; a && !cluster; a = a->next)
		if (a->l == l && !strcmp(a->spec, spec))
			cluster = a->cluster;
	pthread_mutex_unlock(&adopted_mutex);
	return cluster;
}

/* ---- requests ---- */

int64_t rados_plain(int64_t status)
{
	switch (status) {
	case -EDQUOT:
		return -ENOSPC;
	case -EPERM:
		return -EACCES;
	case -ESHUTDOWN: /* this client is on the cluster's blocklist */
		return -ESTALE;
	case -ERANGE: /* the version asked for is older, or newer */
	case -EOVERFLOW:
		return -ESTALE;
	default:
		return status;
	}
}

static const char *verb(enum store_op op)
{
	static const char *const verbs[STORE_OPS] = {
		"write", "read", "delete", "list", "replace", "lock", "unlock"};

	return verbs[op];
}

static void pool_name(const struct rados_op *op, char *name, size_t len)
{
	rados_ioctx_t io = op->io ? op->io : op->rs->io;

	if (librados.ioctx_get_pool_name(io, name, (unsigned)len) < 0)
		snprintf(name, len, "%s", op->rs->pool);
}

/* What the cluster says, in words that tell what to do. */
static void explain(struct rados_op *op, int64_t raw)
{
	struct rados_store *rs = op->rs;
	struct store_req *r = op->r;
	char what[300], pool[128];
	int status = (int)rados_plain(raw);

	pool_name(op, pool, sizeof(pool));
	snprintf(what, sizeof(what), "rados pool '%s': %s '%s'", pool, verb(r->op), r->name);
	if (status == -ENOENT)
		err_set(r->err, status, "%s: no object '%s'", rs->s.url, r->name);
	else if (status == -EEXIST)
		err_set(r->err, status, "%s: object '%s' exists already", rs->s.url, r->name);
	else if (raw == -ESHUTDOWN)
		err_set(r->err, status,
			"%s: the cluster has shut this client out (blocklist): another "
			"has taken an image over from this process",
			what);
	else if (status == -ESTALE)
		err_set(r->err, status, "%s: '%s' was changed by another writer", rs->s.url,
			r->name);
	else if (status == -ENOSPC)
		err_set(r->err, status, "%s: the pool is full%s", what,
			raw == -EDQUOT ? " (its quota is reached)" : "");
	else if (status == -EACCES)
		err_set(r->err, status,
			"%s: user '%s' has no right to; see `ceph auth get client.%s`", what,
			rs->user, rs->user);
	else if (status == -ETIMEDOUT)
		err_set(r->err, status, "%s: the cluster does not answer", what);
	else
		err_set(r->err, status, "%s: %s", what, strerror(-status));
}

/* A pool that was deleted answers like an object that is not there, and that is something else. */
static int64_t check_pool(struct rados_op *op, int64_t status)
{
	char name[128];
	int rc;

	if (status != -ENOENT || !op->io)
		return status;
	rc = librados.pool_reverse_lookup(
		op->rs->conn->cluster, librados.ioctx_get_id(op->io), name, sizeof(name));
	if (rc != -ENOENT)
		return status;
	return err_set(op->r->err, -EIO, "rados pool '%s' is not there any more", op->rs->pool);
}

void rados_end(struct rados_op *op, int64_t status)
{
	struct store_req *r = op->r;

	free(op->bounce);
	store_pool_put(&op->rs->ops, op);
	store_complete(r, status);
}

void rados_done(struct rados_op *op, int64_t status)
{
	struct store_req *r = op->r;

	if (r->err && op->err.msg[0] && status < 0)
		*r->err = op->err;
	status = check_pool(op, status);
	if (status < 0) {
		if (r->err && !r->err->msg[0])
			explain(op, status);
		status = rados_plain(status);
	}
	rados_end(op, status);
}

static void after_task(struct loop_task *t)
{
	struct rados_op *op = container_of(t, struct rados_op, task);

	op->after(op);
}

/* Any thread. */
static void post(struct rados_op *op)
{
	struct rados_store *rs = op->rs;

	loop_post(rs->s.loop, &op->task);
	atomic_fetch_sub(&rs->abroad, 1);
}

static void work_job(struct rados_job *j)
{
	struct rados_op *op = container_of(j, struct rados_op, job);

	op->work(op);
	post(op);
}

void rados_job(struct rados_op *op, struct rados_worker *w, void (*work)(struct rados_op *op),
	void (*after)(struct rados_op *op))
{
	op->work = work;
	op->after = after;
	op->job.work = work_job;
	op->task = (struct loop_task){.run = after_task};
	atomic_fetch_add(&op->rs->abroad, 1);
	op->status = rados_worker_post(w, &op->job);
	if (op->status) {
		atomic_fetch_sub(&op->rs->abroad, 1);
		loop_defer(op->rs->s.loop, &op->task);
	}
}

/* librados' thread. */
static void completed(rados_completion_t c, void *arg)
{
	(void)c;
	post(arg);
}

static void completed_task(struct loop_task *t)
{
	struct rados_op *op = container_of(t, struct rados_op, task);

	op->status = librados.aio_get_return_value(op->c);
	op->version = librados.aio_get_version(op->c);
	librados.aio_release(op->c);
	op->c = NULL;
	op->after(op);
}

rados_completion_t rados_completion(struct rados_op *op, void (*after)(struct rados_op *op))
{
	op->after = after;
	op->task = (struct loop_task){.run = completed_task};
	if (librados.aio_create_completion2(op, completed, &op->c))
		op->c = NULL;
	else
		atomic_fetch_add(&op->rs->abroad, 1);
	return op->c;
}

void rados_refused(struct rados_op *op, int rc)
{
	if (op->c) {
		librados.aio_release(op->c);
		op->c = NULL;
		atomic_fetch_sub(&op->rs->abroad, 1);
	}
	op->status = rc;
	op->task = (struct loop_task){.run = after_task};
	loop_defer(op->rs->s.loop, &op->task);
}

/* The task is set to run as if librados had answered, but for the status, which is there already.
 */
void rados_fail_abroad(struct rados_op *op, int rc)
{
	librados.aio_release(op->c);
	op->c = NULL;
	op->status = rc;
	op->task.run = after_task;
	post(op);
}

static struct rados_image *find_image(struct rados_store *rs, const char *object_name)
{
	size_t len = strcspn(object_name, "/");
	struct rados_image *i;

	for (i = rs->images; i; i = i->next)
		if (!strncmp(i->name, object_name, len) && !i->name[len])
			return i;
	i = calloc(1, sizeof(*i));
	if (!i)
		return NULL;
	memcpy(i->name, object_name, len);
	i->waiting_end = &i->waiting;
	i->next = rs->images;
	rs->images = i;
	return i;
}

static void after_lock(struct rados_op *op)
{
	if (!op->status && !op->r->ask)
		op->image->locked = true;
	rados_done(op, op->status);
}

static void after_unlock(struct rados_op *op)
{
	op->image->locked = false;
	rados_done(op, op->status);
}

static void list(struct rados_op *op)
{
	rados_job(op, &op->rs->conn->lists, rados_work_list, rados_after_list);
}

static void dispatch(struct rados_op *op)
{
	struct rados_conn *c = op->rs->conn;

	switch (op->r->op) {
	case STORE_PUT:
		rados_find_pool(op, rados_put);
		break;
	case STORE_GET:
		rados_find_pool(op, rados_get);
		break;
	case STORE_DELETE:
		rados_find_pool(op, rados_delete);
		break;
	case STORE_SWAP:
		rados_find_pool(op, rados_swap);
		break;
	case STORE_LOCK:
		rados_job(op, &c->locks, rados_work_lock, after_lock);
		break;
	case STORE_UNLOCK:
		rados_job(op, &c->locks, rados_work_unlock, after_unlock);
		break;
	default:
		if (op->image)
			rados_find_pool(op, list);
		else
			list(op);
	}
}

/* A LIST may be of one image, or of many. */
static bool names_image(const struct store_req *r)
{
	const char *slash = strchr(r->name, '/');

	return r->op != STORE_LIST ||
	       (slash && store_image_name_ok(r->name, (size_t)(slash - r->name)));
}

static void rados_submit(struct store *s, struct store_req *r)
{
	struct rados_store *rs = container_of(s, struct rados_store, s);
	struct rados_op *op = store_pool_get(&rs->ops);
	struct rados_image *image = names_image(r) ? find_image(rs, r->name) : NULL;

	if (r->err)
		r->err->msg[0] = 0;
	if (!op || (!image && names_image(r))) {
		if (op)
			store_pool_put(&rs->ops, op);
		store_complete_later(r, -EAGAIN);
		return;
	}
	memset(op, 0, sizeof(*op));
	op->r = r;
	op->rs = rs;
	op->image = image;
	dispatch(op);
}

/* ---- open and close ---- */

static void destroy(rados_ioctx_t io)
{
	if (io)
		librados.ioctx_destroy(io);
}

static void rados_free(struct rados_store *rs)
{
	while (rs->images) {
		struct rados_image *next = rs->images->next;

		free(rs->images);
		rs->images = next;
	}
	while (rs->pools) {
		struct rados_pool *next = rs->pools->next;

		destroy(rs->pools->io);
		free(rs->pools);
		rs->pools = next;
	}
	if (rs->data != rs->io)
		destroy(rs->data);
	destroy(rs->lock_io);
	destroy(rs->io);
	if (rs->conn)
		rados_conn_put(rs->conn);
	store_pool_fini(&rs->ops);
	free(rs);
}

static void rados_close(struct store *s)
{
	struct rados_store *rs = container_of(s, struct rados_store, s);

	for (const struct rados_image *i = rs->images; i; i = i->next)
		if (i->locked) {
			(void)!rados_worker_call(&rs->conn->locks, rados_unlock_all, rs);
			break;
		}
	while (atomic_load(&rs->abroad))
		sched_yield();
	rados_free(rs);
}

static const struct store_ops rados_ops = {.submit = rados_submit, .close = rados_close};

static bool word_ok(const char *s, size_t len, size_t room)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == '/' || s[i] == 0x7f)
			return false;
	return len > 0 && len < room;
}

/* "POOL" or "POOL/NAMESPACE" */
static int parse(struct rados_store *rs, const char *spec, struct err *e)
{
	size_t len = strcspn(spec, "/");
	const char *ns = spec[len] ? spec + len + 1 : "";

	if (!word_ok(spec, len, sizeof(rs->pool)) ||
		(spec[len] && !word_ok(ns, strlen(ns), sizeof(rs->ns))))
		return err_set(e, -EINVAL,
			"'rados:%.100s' is not a store; write rados:POOL or rados:POOL/NAMESPACE",
			spec);
	memcpy(rs->pool, spec, len);
	memcpy(rs->ns, ns, strlen(ns));
	return 0;
}

static int open_pool(struct rados_store *rs, const char *pool, rados_ioctx_t *io, struct err *e)
{
	int rc = librados.ioctx_create(rs->conn->cluster, pool, io);

	if (rc == -ENOENT)
		return err_set(e, rc,
			"rados pool '%s' does not exist; create it with `ceph osd pool create %s`",
			pool, pool);
	if (rc < 0)
		return err_set(e, rc, "rados pool '%s': %s", pool, strerror(-rc));
	librados.ioctx_set_namespace(*io, rs->ns);
	return 0;
}

static int open_pools(struct rados_store *rs, const char *data_pool, struct err *e)
{
	int rc = open_pool(rs, rs->pool, &rs->io, e);

	if (!rc)
		rc = open_pool(rs, rs->pool, &rs->lock_io, e);
	if (rc)
		return rc;
	librados.set_pool_full_try(rs->lock_io);
	if (!data_pool[0] || !strcmp(data_pool, rs->pool))
		rs->data = rs->io;
	else
		rc = open_pool(rs, data_pool, &rs->data, e);
	return rc;
}

static int open_store(struct rados_store *rs, struct loop *l, const char *spec,
	const struct config *cfg, struct err *e)
{
	rados_t cluster = find_adopted(l, spec);
	const char *user = cfg->rados_user[0] ? cfg->rados_user : "admin";
	int rc = parse(rs, spec, e);

	if (!rc)
		rc = rados_load(e);
	if (!rc)
		rc = cluster ? rados_conn_adopt(cluster, &rs->conn, e)
			     : rados_conn_get(cfg, &rs->conn, e);
	if (rc)
		return rc;
	snprintf(rs->user, sizeof(rs->user), "%s", strncmp(user, "client.", 7) ? user : user + 7);
	rs->blocklist = cfg->rados_blocklist;
	return open_pools(rs, cfg->rados_data_pool, e);
}

/* What `cfg` is when there is none. */
static const struct config defaults = {.rados_timeout = 30, .rados_connect_timeout = 10};

int store_rados_open(struct loop *l, const char *spec, const struct config *cfg, struct store **out,
	struct err *e)
{
	struct rados_store *rs;
	char url[sizeof(rs->s.url)];
	int rc;

	if (loop_is_sim(l))
		return err_set(e, -EINVAL,
			"rados:%.200s: a cluster needs a real loop, not a simulated one", spec);
	rs = calloc(1, sizeof(*rs));
	if (!rs)
		return err_set(e, -ENOMEM, "rados:%.200s: out of memory", spec);
	rs->ops.item_bytes = sizeof(struct rados_op);
	rc = open_store(rs, l, spec, cfg ? cfg : &defaults, e);
	if (rc) {
		rados_free(rs);
		return (int)rados_plain(rc);
	}
	snprintf(url, sizeof(url), "rados:%s", spec);
	store_init(&rs->s, l, &rados_ops, "rados", url);
	*out = &rs->s;
	return 0;
}

/* ---- ioctxs of callers ---- */

static int check_adopted(const char *spec, rados_ioctx_t io, struct err *e)
{
	char pool[128] = "", ns[128] = "", is[260];
	int rc = librados.ioctx_get_pool_name(io, pool, sizeof(pool));

	if (rc >= 0)
		rc = librados.ioctx_get_namespace(io, ns, sizeof(ns));
	if (rc < 0)
		return err_set(e, rc, "rados:%.200s: the ioctx given: %s", spec, strerror(-rc));
	snprintf(is, sizeof(is), "%s%s%s", pool, ns[0] ? "/" : "", ns);
	if (strcmp(is, spec))
		return err_set(
			e, -EINVAL, "rados:%.200s: the ioctx given is of rados:%s", spec, is);
	return 0;
}

int store_rados_adopt(struct loop *l, const char *url, void *ioctx, struct err *e)
{
	struct adopted *a;
	int rc;

	if (strncmp(url, "rados:", 6) || strlen(url) >= sizeof(a->spec))
		return err_set(
			e, -EINVAL, "'%.100s' is not rados:POOL or rados:POOL/NAMESPACE", url);
	rc = rados_load(e);
	if (!rc)
		rc = check_adopted(url + 6, ioctx, e);
	if (rc)
		return rc;
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(e, -ENOMEM, "%.200s: out of memory", url);
	a->l = l;
	a->cluster = librados.ioctx_get_cluster(ioctx);
	snprintf(a->spec, sizeof(a->spec), "%s", url + 6);
	pthread_mutex_lock(&adopted_mutex);
	a->next = adopted;
	adopted = a;
	pthread_mutex_unlock(&adopted_mutex);
	return 0;
}

void store_rados_forget(struct loop *l)
{
	struct adopted **p = &adopted;

	pthread_mutex_lock(&adopted_mutex);
	while (*p) {
		struct adopted *a = *p;

		if (a->l == l) {
			*p = a->next;
			free(a);
		} else {
			p = &a->next;
		}
	}
	pthread_mutex_unlock(&adopted_mutex);
}
