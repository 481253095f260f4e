/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados_io.c - reading and writing objects, and in which pool they are.
 *
 * PUT is one operation: create exclusively, write all (I7).  SWAP is one too: assert the version,
 * write all.  Either is applied whole or not at all, on replicated and on erasure-coded pools; and
 * one that librados sends twice, because the OSD was restarted in between, is known to it by its
 * number.
 *
 * A full pool makes librados wait in silence; FULL_TRY makes it say so.  What frees space (DELETE,
 * and the SWAP that comes before it) goes through all the same: FULL_FORCE.
 *
 * Where an image's data is: its superblock has an attribute with the number of the pool, when that
 * is not the superblock's own.  It is read before the first request for the image's data; while
 * there is no superblock, the image is being made (or is gone) and the configuration says it.
 */
#include "store/rados_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_ATTRIBUTE "lsvd.data_pool"

/* ---- where an image's data is ---- */

/* In the URL's pool: what is changed by compare-and-swap, for all who look for an image to find. */
static bool is_head(const char *name)
{
	const char *object = strchr(name, '/') + 1;

	return !strcmp(object, "super") || !strcmp(object, "clones");
}

int rados_other_pool(struct rados_store *rs, int64_t id, rados_ioctx_t *out)
{
	struct rados_pool *p;
	int rc;

	if (id == librados.ioctx_get_id(rs->io)) {
		*out = rs->io;
		return 0;
	}
	if (id == librados.ioctx_get_id(rs->data)) {
		*out = rs->data;
		return 0;
	}
	for (p = rs->pools; p && p->id != id; p = p->next)
		;
	if (!p) {
		p = calloc(1, sizeof(*p));
		rc = p ? librados.ioctx_create2(rs->conn->cluster, id, &p->io) : -ENOMEM;
		if (rc < 0) {
			free(p);
			return rc;
		}
		librados.ioctx_set_namespace(p->io, rs->ns);
		p->id = id;
		p->next = rs->pools;
		rs->pools = p;
	}
	*out = p->io;
	return 0;
}

static void go_there(struct rados_op *op, void (*go)(struct rados_op *op))
{
	op->io = is_head(op->r->name) ? op->rs->io : op->image->data;
	go(op);
}

/* Everybody who waited goes on, or fails with what was asked in vain. */
static void answer(struct rados_image *i, int64_t status, const struct err *why)
{
	struct rados_op *op = i->waiting, *next;

	i->asking = false;
	i->waiting = NULL;
	i->waiting_end = &i->waiting;
	for (; op; op = next) {
		next = op->next;
		if (status < 0) {
			op->err = *why;
			op->after = NULL;
			rados_done(op, status);
		} else {
			go_there(op, op->after);
		}
	}
}

static int64_t parse_answer(struct rados_op *ask, rados_ioctx_t *data, struct err *e)
{
	struct rados_image *i = ask->image;
	struct rados_store *rs = ask->rs;
	long long id;
	int rc;

	if (ask->status == -ENODATA) { /* there is a superblock, without the attribute */
		*data = rs->io;
		return 0;
	}
	if (ask->status == -ENOENT) {
		*data = rs->data;
		return 0;
	}
	if (ask->status < 0)
		return err_set(e, (int)rados_plain(ask->status),
			"rados pool '%s': look for the data pool of image '%s': %s", rs->pool,
			i->name, strerror((int)-rados_plain(ask->status)));
	i->answer[ask->status] = 0;
	if (sscanf(i->answer, "%lld", &id) != 1)
		return err_set(e, -EUCLEAN,
			"rados pool '%s': '%s/super' has a strange attribute " POOL_ATTRIBUTE,
			rs->pool, i->name);
	rc = rados_other_pool(rs, id, data);
	if (rc < 0)
		return err_set(e, rc == -ENOENT ? -EIO : rc,
			"image '%s': its data is in the rados pool with number %lld: %s", i->name,
			id, rc == -ENOENT ? "which does not exist any more" : strerror(-rc));
	return 0;
}

static void asked(struct rados_op *ask)
{
	struct rados_image *i = ask->image;
	struct err e = {.msg = ""};
	int64_t status = parse_answer(ask, &i->data, &e);

	store_pool_put(&ask->rs->ops, ask);
	answer(i, status, &e);
}

/* A request of our own: it has no store_req. */
static int ask(struct rados_store *rs, struct rados_image *i)
{
	struct rados_op *op = store_pool_get(&rs->ops);
	char name[80];
	int rc;

	if (!op)
		return -EAGAIN;
	memset(op, 0, sizeof(*op));
	op->rs = rs;
	op->image = i;
	snprintf(name, sizeof(name), "%s/super", i->name);
	if (!rados_completion(op, asked)) {
		store_pool_put(&rs->ops, op);
		return -EAGAIN;
	}
	i->asking = true;
	rc = librados.aio_getxattr(
		rs->io, name, op->c, POOL_ATTRIBUTE, i->answer, sizeof(i->answer) - 1);
	if (rc < 0)
		rados_refused(op, rc);
	return 0;
}

static void over(struct rados_op *op)
{
	rados_done(op, op->status);
}

/* Not for a head, but one that is made must say where the data is; and once it is deleted, nobody
 * else knows what is yet to be deleted, and where. */
static bool needs_data_pool(const struct store_req *r)
{
	return !is_head(r->name) || r->op == STORE_DELETE || (r->op == STORE_SWAP && !r->tag[0]);
}

void rados_find_pool(struct rados_op *op, void (*go)(struct rados_op *op))
{
	struct rados_image *i = op->image;

	if (i->data || !needs_data_pool(op->r)) {
		go_there(op, go);
		return;
	}
	op->after = go;
	if (!i->asking && ask(op->rs, i)) {
		op->after = over;
		rados_refused(op, -EAGAIN);
		return;
	}
	op->next = NULL;
	*i->waiting_end = op;
	i->waiting_end = &op->next;
}

/* ---- writing ---- */

/* Takes `w`.  Any thread: may be the last that is done with op. */
static int submit_write(struct rados_op *op, rados_write_op_t w, int flags)
{
	int rc = librados.aio_write_op_operate(w, op->io, op->c, op->r->name, NULL, flags);

	librados.release_write_op(w);
	return rc;
}

static void gather(const struct store_req *r, char *to)
{
	for (int i = 0; i < r->iovcnt; i++) {
		memcpy(to, r->iov[i].iov_base, r->iov[i].iov_len);
		to += r->iov[i].iov_len;
	}
}

/* The object's bytes in one piece.  The puts thread. */
static const char *one_piece(struct rados_conn *c, const struct store_req *r)
{
	if (r->iovcnt == 1)
		return r->iov[0].iov_base;
	if (c->staging_bytes < r->len_bytes) {
		free(c->staging);
		c->staging = malloc(r->len_bytes);
		c->staging_bytes = c->staging ? r->len_bytes : 0;
	}
	if (c->staging)
		gather(r, c->staging);
	return c->staging;
}

/* The puts thread: librados copies the bytes, and so do we when they are in many pieces. */
static void work_put(struct rados_job *j)
{
	struct rados_op *op = container_of(j, struct rados_op, job);
	const struct store_req *r = op->r;
	const char *bytes = r->len_bytes ? one_piece(op->rs->conn, r) : "";
	rados_write_op_t w = bytes ? librados.create_write_op() : NULL;
	int rc = w ? 0 : -ENOMEM;

	if (w) {
		librados.write_op_create(w, LIBRADOS_CREATE_EXCLUSIVE, NULL);
		librados.write_op_set_alloc_hint2(w, r->len_bytes, r->len_bytes,
			LIBRADOS_ALLOC_HINT_FLAG_SEQUENTIAL_WRITE |
				LIBRADOS_ALLOC_HINT_FLAG_IMMUTABLE);
		if (r->len_bytes)
			librados.write_op_write_full(w, bytes, r->len_bytes);
		rc = submit_write(op, w, LIBRADOS_OPERATION_FULL_TRY);
	}
	if (rc < 0)
		rados_fail_abroad(op, rc);
}

void rados_put(struct rados_op *op)
{
	int rc;

	if (!rados_completion(op, over)) {
		rados_refused(op, -EAGAIN);
		return;
	}
	op->job.work = work_put;
	rc = rados_worker_post(&op->rs->conn->puts, &op->job);
	if (rc)
		rados_refused(op, rc);
}

static void deleted(struct rados_op *op)
{
	rados_done(op, op->status == -ENOENT ? 0 : op->status);
}

void rados_delete(struct rados_op *op)
{
	rados_write_op_t w = librados.create_write_op();
	int rc;

	op->after = deleted;
	if (!w || !rados_completion(op, deleted)) {
		if (w)
			librados.release_write_op(w);
		rados_refused(op, -EAGAIN);
		return;
	}
	librados.write_op_remove(w);
	rc = submit_write(op, w, LIBRADOS_OPERATION_FULL_FORCE);
	if (rc < 0)
		rados_refused(op, rc);
}

/* ---- SWAP ---- */

static void swapped(struct rados_op *op)
{
	if (!op->status)
		snprintf(op->r->tag, sizeof(op->r->tag), "%llu", (unsigned long long)op->version);
	rados_done(op, op->status);
}

static int write_tag(rados_write_op_t w, const char *tag)
{
	char *end;
	unsigned long long v = strtoull(tag, &end, 10);

	if (!v || *end)
		return -ESTALE;
	librados.write_op_assert_version(w, v);
	return 0;
}

/* What a superblock remembers: see the top. */
static void write_attribute(struct rados_op *op, rados_write_op_t w)
{
	char id[RADOS_ID_TEXT];

	if (op->image->data == op->rs->io || !is_head(op->r->name))
		return;
	snprintf(id, sizeof(id), "%lld", (long long)librados.ioctx_get_id(op->image->data));
	librados.write_op_setxattr(w, POOL_ATTRIBUTE, id, strlen(id));
}

static int swap(struct rados_op *op, rados_write_op_t w)
{
	const struct store_req *r = op->r;
	int rc = 0;

	op->bounce = malloc(r->len_bytes + 1);
	if (!op->bounce)
		return -ENOMEM;
	gather(r, op->bounce);
	if (r->tag[0]) {
		rc = write_tag(w, r->tag);
	} else {
		librados.write_op_create(w, LIBRADOS_CREATE_EXCLUSIVE, NULL);
		write_attribute(op, w);
	}
	if (!rc)
		librados.write_op_write_full(w, op->bounce, r->len_bytes);
	return rc;
}

static void submit_swap(struct rados_op *op)
{
	rados_write_op_t w = librados.create_write_op();
	int rc = w ? swap(op, w) : -ENOMEM;

	if (!rc && !rados_completion(op, swapped))
		rc = -EAGAIN;
	if (!rc)
		rc = submit_write(op, w, LIBRADOS_OPERATION_FULL_FORCE);
	else if (w)
		librados.release_write_op(w);
	if (rc < 0) {
		op->after = swapped;
		rados_refused(op, rc);
	}
}

static void renewed(struct rados_op *op)
{
	if (op->status)
		rados_done(op, op->status);
	else
		submit_swap(op);
}

/* Who holds the lock makes sure of it first: a writer whose image was taken learns it here, even
 * when whoever took it has changed nothing yet (I11). */
void rados_swap(struct rados_op *op)
{
	if (op->image->locked)
		rados_job(op, &op->rs->conn->locks, rados_work_renew, renewed);
	else
		submit_swap(op);
}

/* ---- GET ---- */

/* RADOS takes a length of 0 for "to the end". */
static void read_part(struct rados_op *op, rados_read_op_t rd, uint64_t off, void *to, size_t len)
{
	unsigned k = op->parts;

	if (!len)
		return;
	librados.read_op_read(rd, off, len, to, &op->got[k], &op->part_status[k]);
	op->parts++;
}

static int read_parts(struct rados_op *op, rados_read_op_t rd)
{
	const struct store_req *r = op->r;
	uint64_t at = 0;

	if (r->iovcnt > RADOS_PARTS) {
		op->bounce = malloc(r->len_bytes + 1);
		if (!op->bounce)
			return -ENOMEM;
		read_part(op, rd, r->off_bytes, op->bounce, r->len_bytes);
		return 0;
	}
	for (int i = 0; i < r->iovcnt && at < r->len_bytes; i++) {
		uint64_t left = r->len_bytes - at, n = r->iov[i].iov_len;

		n = n < left ? n : left;
		read_part(op, rd, r->off_bytes + at, r->iov[i].iov_base, n);
		at += n;
	}
	return 0;
}

static void scatter(const struct store_req *r, const char *from, uint64_t len)
{
	for (int i = 0; i < r->iovcnt && len; i++) {
		uint64_t n = r->iov[i].iov_len < len ? r->iov[i].iov_len : len;

		memcpy(r->iov[i].iov_base, from, n);
		from += n;
		len -= n;
	}
}

static void got(struct rados_op *op)
{
	struct store_req *r = op->r;
	int64_t sum = 0;

	for (unsigned i = 0; !op->status && i < op->parts; i++) {
		if (op->part_status[i] < 0)
			op->status = op->part_status[i];
		sum += (int64_t)op->got[i];
	}
	if (!op->status && op->stat_status < 0)
		op->status = op->stat_status;
	if (op->status < 0) {
		rados_done(op, op->status);
		return;
	}
	r->size_bytes = op->size_bytes;
	snprintf(r->tag, sizeof(r->tag), "%llu", (unsigned long long)op->version);
	if (op->bounce)
		scatter(r, op->bounce, (uint64_t)sum);
	rados_done(op, sum);
}

void rados_get(struct rados_op *op)
{
	rados_read_op_t rd = librados.create_read_op();
	int rc = rd ? read_parts(op, rd) : -ENOMEM;

	if (!rc && !rados_completion(op, got))
		rc = -EAGAIN;
	if (!rc) {
		librados.read_op_stat(rd, &op->size_bytes, NULL, &op->stat_status);
		rc = librados.aio_read_op_operate(rd, op->io, op->c, op->r->name, 0);
	}
	if (rd)
		librados.release_read_op(rd);
	if (rc < 0) {
		op->after = got;
		rados_refused(op, rc);
	}
}
