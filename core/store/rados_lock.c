/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados_lock.c - the writer's lock of an image: RADOS' own, exclusive, on the object NAME/.lock.
 *
 * It ends by itself after LOCK_S and is renewed every RENEW_S, by a thread that does nothing else:
 * a process that lives keeps its locks however busy or idle its loops are, and one renewal may wait
 * for a whole time limit (30 s) without a lock being lost.  Chosen against watching the object (a
 * watch is given up as late, 30 s after its client died, and needs a breaker of locks besides).
 *
 * Nobody should have to wait a minute after a crash, so the lock's cookie says who holds it: boot,
 * process namespace, pid and start time.  Whoever finds it held by a process of the same boot and
 * namespace that is not there any more breaks it at once.  The rest of the cookie is the holder's
 * text.
 *
 * A lock that ended while its process was stopped is taken again by its renewal, unless somebody
 * else has it: then the image is lost (I11).  The lock keeps polite writers apart; what keeps a
 * writer that lost it from doing harm is the epoch in the superblock and the names that it writes.
 *
 * Everything here runs on the locks thread of the connection.
 */
#include "store/rados_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { LOCK_S = 60, RENEW_S = 15, TRIES = 5, ID_ROOM = 160, TEXT_ROOM = 256, OID_ROOM = 80 };

#define LOCK_NAME "lsvd"

struct rados_lock {
	struct rados_lock *next;
	const struct rados_store *rs;
	uint64_t version; /* of the object, as we left it */
	bool lost;
	char image[65];
	char cookie[ID_ROOM + TEXT_ROOM];
};

uint64_t rados_renew_ns(void)
{
	return RENEW_S * 1000000000ull;
}

/* ---- who ---- */

struct who {
	char boot[40];
	unsigned long long ns, start;
	int pid;
};

static void read_word(const char *path, char *buf, size_t len)
{
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(buf, 1, len - 1, f) : 0;

	if (f)
		fclose(f);
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
}

/* When a process began, in ticks since boot; 0: it is not there, or dead and not yet buried. */
static unsigned long long start_of(int pid)
{
	char path[40], line[1024], state = 'X';
	unsigned long long start = 0;
	long threads = 0;
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	read_word(path, line, sizeof(line));
	p = strrchr(line, ')'); /* the name may have anything in it */
	if (!p || sscanf(p + 1,
			  " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			  "%ld %*d %llu",
			  &state, &threads, &start) != 3)
		return 0;
	return (state == 'Z' && threads <= 1) || state == 'X' ? 0 : start;
}

static struct who ourselves(void)
{
	struct who w = {.pid = getpid()};
	char link[64] = "";

	read_word("/proc/sys/kernel/random/boot_id", w.boot, sizeof(w.boot));
	if (!w.boot[0])
		snprintf(w.boot, sizeof(w.boot), "-");
	if (readlink("/proc/self/ns/pid", link, sizeof(link) - 1) > 0)
		(void)!sscanf(link, "pid:[%llu]", &w.ns);
	w.start = start_of(w.pid);
	return w;
}

static bool is_dead(const char *cookie)
{
	struct who us = ourselves(), w = {.pid = 0};

	if (sscanf(cookie, "%39s %llu %d %llu", w.boot, &w.ns, &w.pid, &w.start) != 4)
		return false;
	return us.ns && us.start && !strcmp(us.boot, w.boot) && us.ns == w.ns &&
	       start_of(w.pid) != w.start;
}

static const char *text_of(const char *cookie)
{
	const char *p = strchr(cookie, ':');

	return p && p[1] ? p + 1 : "another client";
}

/* "BOOT NAMESPACE PID START NUMBER:TEXT" */
static void make_cookie(struct rados_lock *k, const struct store_req *r)
{
	static unsigned long long number;
	struct who w = ourselves();
	size_t at, left;

	snprintf(k->cookie, ID_ROOM, "%s %llu %d %llu %llu:", w.boot, w.ns, w.pid, w.start,
		++number);
	at = strlen(k->cookie);
	left = at + TEXT_ROOM - 1;
	for (int i = 0; i < r->iovcnt && at < left; i++) {
		size_t n = r->iov[i].iov_len < left - at ? r->iov[i].iov_len : left - at;

		memcpy(k->cookie + at, r->iov[i].iov_base, n);
		at += n;
	}
	k->cookie[at] = 0;
}

/* ---- taking ---- */

static void lock_oid(const char *image, char oid[OID_ROOM])
{
	snprintf(oid, OID_ROOM, "%s/.lock", image);
}

/* A full pool has room for this: an image must be lockable to be removed. */
static void make_object(const struct rados_store *rs, const char *oid)
{
	rados_write_op_t w = librados.create_write_op();

	if (!w)
		return;
	librados.write_op_create(w, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	(void)librados.write_op_operate(w, rs->lock_io, oid, NULL, LIBRADOS_OPERATION_FULL_FORCE);
	librados.release_write_op(w);
}

/* Take it, or renew it. */
static int take(struct rados_lock *k)
{
	const struct rados_store *rs = k->rs;
	struct timeval duration = {.tv_sec = LOCK_S};
	char oid[OID_ROOM];
	int rc;

	lock_oid(k->image, oid);
	for (int i = 0; i < 2; i++) {
		rc = librados.lock_exclusive(rs->lock_io, oid, LOCK_NAME, k->cookie,
			text_of(k->cookie), &duration, LIBRADOS_LOCK_FLAG_MAY_RENEW);
		if (rc != -ENOSPC && rc != -EDQUOT)
			break;
		make_object(rs, oid);
	}
	if (!rc)
		k->version = librados.get_last_version(rs->lock_io);
	return rc;
}

struct holder {
	char client[64], cookie[ID_ROOM + TEXT_ROOM], addr[128], tag[64];
};

/* 1: filled; 0: nobody. */
static int find_holder(const struct rados_store *rs, const char *image, struct holder *h)
{
	size_t client = sizeof(h->client) - 1, cookie = sizeof(h->cookie) - 1,
	       addr = sizeof(h->addr) - 1, tag = sizeof(h->tag) - 1;
	char oid[OID_ROOM];
	int exclusive;
	ssize_t n;

	memset(h, 0, sizeof(*h));
	lock_oid(image, oid);
	n = librados.list_lockers(rs->lock_io, oid, LOCK_NAME, &exclusive, h->tag, &tag, h->client,
		&client, h->cookie, &cookie, h->addr, &addr);
	if (n == -ENOENT)
		return 0;
	return n > 0 ? 1 : (int)n;
}

/* Keep it from writing anything more, wherever it is. */
static int shut_out(const struct rados_store *rs, struct holder *h, struct err *e)
{
	rados_t cluster = rs->conn->cluster;
	int rc = librados.blocklist_add(cluster, h->addr, 0);

	if (rc < 0)
		return err_set(e, (int)rados_plain(rc),
			"rados: put %s on the cluster's blocklist (%s): %s; user '%s' needs the "
			"monitors' profile rbd, or set rados.blocklist=false",
			h->addr, text_of(h->cookie), strerror(-rc), rs->user);
	return librados.wait_for_latest_osdmap(cluster);
}

static int take_away(struct rados_lock *k, struct holder *h, bool dead, struct err *e)
{
	char oid[OID_ROOM];
	int rc = 0;

	lock_oid(k->image, oid);
	if (k->rs->blocklist && !dead)
		rc = shut_out(k->rs, h, e);
	if (!rc)
		rc = librados.break_lock(k->rs->lock_io, oid, LOCK_NAME, h->client, h->cookie);
	return rc == -ENOENT ? 0 : rc;
}

static int lock(struct rados_lock *k, bool steal, struct err *e)
{
	struct holder h;
	int rc = -EBUSY;

	for (int i = 0; i < TRIES; i++) {
		bool dead;

		rc = take(k);
		if (rc != -EBUSY)
			return rc;
		rc = find_holder(k->rs, k->image, &h);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		dead = is_dead(h.cookie);
		if (!dead && !steal)
			return err_set(e, -EBUSY,
				"%s: image '%s' is in use by %s (if that died, its lock ends "
				"within "
				"%d s)",
				k->rs->s.url, k->image, text_of(h.cookie), LOCK_S);
		rc = take_away(k, &h, dead, e);
		if (rc < 0)
			return rc;
	}
	return err_set(e, -EBUSY, "%s: image '%s' is in use by others, one after the other",
		k->rs->s.url, k->image);
}

static struct rados_lock **find(const struct rados_store *rs, const char *image)
{
	struct rados_lock **p = &rs->conn->held;

	while (*p && ((*p)->rs != rs || strcmp((*p)->image, image)))
		p = &(*p)->next;
	return p;
}

static int ask(const struct rados_store *rs, const char *image, struct err *e)
{
	const struct rados_lock *ours = *find(rs, image);
	struct holder h;
	int rc = find_holder(rs, image, &h);

	if (rc <= 0 || (ours && !strcmp(ours->cookie, h.cookie)))
		return rc < 0 ? rc : 0;
	return err_set(e, -EBUSY, "%s", text_of(h.cookie));
}

void rados_work_lock(struct rados_op *op)
{
	struct rados_lock *k;

	if (op->r->ask) {
		op->status = ask(op->rs, op->r->name, &op->err);
		return;
	}
	k = calloc(1, sizeof(*k));
	if (!k) {
		op->status = -ENOMEM;
		return;
	}
	k->rs = op->rs;
	snprintf(k->image, sizeof(k->image), "%s", op->r->name);
	make_cookie(k, op->r);
	op->status = lock(k, op->r->steal, &op->err);
	if (op->status) {
		free(k);
		return;
	}
	k->next = op->rs->conn->held;
	op->rs->conn->held = k;
}

/* ---- keeping ---- */

static void renew(struct rados_lock *k, int *rc)
{
	*rc = k->lost ? -EBUSY : take(k);
	if (*rc == -EBUSY || *rc == -ESHUTDOWN)
		k->lost = true;
}

void rados_renew_all(struct rados_worker *w)
{
	struct rados_conn *c = container_of(w, struct rados_conn, locks);
	int rc;

	for (struct rados_lock *k = c->held; k; k = k->next)
		renew(k, &rc);
}

void rados_work_renew(struct rados_op *op)
{
	struct rados_lock *k = *find(op->rs, op->image->name);
	struct holder h;
	int rc;

	op->status = 0;
	if (!k)
		return;
	renew(k, &rc);
	op->status = rc;
	if (rc == -EBUSY)
		op->status = err_set(&op->err, -ESTALE, "%s: image '%s' was taken over by %s",
			op->rs->s.url, k->image,
			find_holder(k->rs, k->image, &h) > 0 ? text_of(h.cookie)
							     : "another client");
}

/* ---- giving back ---- */

/* The object goes with the lock, in one step: unless somebody has changed it. */
static int remove_object(const struct rados_lock *k)
{
	rados_write_op_t w = librados.create_write_op();
	char oid[OID_ROOM];
	int rc;

	if (!w)
		return -ENOMEM;
	lock_oid(k->image, oid);
	librados.write_op_assert_version(w, k->version);
	librados.write_op_remove(w);
	rc = librados.write_op_operate(w, k->rs->lock_io, oid, NULL, LIBRADOS_OPERATION_FULL_FORCE);
	librados.release_write_op(w);
	return rc;
}

/* Another version: a renewal without an answer may have been ours. */
static int give_back(struct rados_lock *k)
{
	int rc = k->lost ? 0 : remove_object(k);

	if (rc == -ERANGE || rc == -EOVERFLOW) {
		renew(k, &rc);
		if (!rc)
			rc = remove_object(k);
	}
	return rc == -ENOENT || rc == -EBUSY || rc == -ERANGE || rc == -EOVERFLOW ? 0 : rc;
}

void rados_work_unlock(struct rados_op *op)
{
	struct rados_lock **p = find(op->rs, op->image->name), *k = *p;

	op->status = 0;
	if (!k)
		return;
	*p = k->next;
	op->status = give_back(k);
	free(k);
}

void rados_unlock_all(void *store)
{
	struct rados_store *rs = store;
	struct rados_lock **p = &rs->conn->held;

	while (*p) {
		struct rados_lock *k = *p;

		if (k->rs != rs) {
			p = &k->next;
			continue;
		}
		*p = k->next;
		(void)!give_back(k);
		free(k);
	}
}
