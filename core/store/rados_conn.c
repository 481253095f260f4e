/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados_conn.c - librados itself, connections to clusters, and the threads that a connection has.
 *
 * Time limits.  An operation waits for its OSD as long as rados.timeout says, which librados calls
 * rados_osd_op_timeout; it must be far above objecter_timeout, after which librados asks the
 * monitors for the news about an operation that is late (2 seconds, looked at each second: an OSD
 * that was restarted is found again at once).  The limits on what is in flight are lifted, for
 * librados makes the submitter wait there, and the submitter is the loop; volumes have limits of
 * their own.
 */
#include "store/rados_impl.h"

#include "sys/dynlib.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct librados librados;

#define SYMBOL(name)                           \
	{                                      \
		"rados_" #name, &librados.name \
	}
static const struct dynlib_symbol symbols[] = {
	SYMBOL(create2),
	SYMBOL(conf_read_file),
	SYMBOL(conf_parse_env),
	SYMBOL(conf_set),
	SYMBOL(connect),
	SYMBOL(shutdown),
	SYMBOL(pool_reverse_lookup),
	SYMBOL(wait_for_latest_osdmap),
	SYMBOL(blocklist_add),
	SYMBOL(ioctx_create),
	SYMBOL(ioctx_create2),
	SYMBOL(ioctx_destroy),
	SYMBOL(ioctx_set_namespace),
	SYMBOL(ioctx_get_namespace),
	SYMBOL(ioctx_get_id),
	SYMBOL(ioctx_get_pool_name),
	SYMBOL(ioctx_get_cluster),
	SYMBOL(set_pool_full_try),
	SYMBOL(get_last_version),
	SYMBOL(aio_create_completion2),
	SYMBOL(aio_release),
	SYMBOL(aio_get_return_value),
	SYMBOL(aio_get_version),
	SYMBOL(aio_wait_for_complete),
	SYMBOL(aio_getxattr),
	SYMBOL(aio_stat),
	SYMBOL(create_write_op),
	SYMBOL(release_write_op),
	SYMBOL(write_op_create),
	SYMBOL(write_op_assert_version),
	SYMBOL(write_op_write_full),
	SYMBOL(write_op_set_alloc_hint2),
	SYMBOL(write_op_setxattr),
	SYMBOL(write_op_remove),
	SYMBOL(write_op_operate),
	SYMBOL(aio_write_op_operate),
	SYMBOL(create_read_op),
	SYMBOL(release_read_op),
	SYMBOL(read_op_stat),
	SYMBOL(read_op_read),
	SYMBOL(aio_read_op_operate),
	SYMBOL(lock_exclusive),
	SYMBOL(unlock),
	SYMBOL(break_lock),
	SYMBOL(list_lockers),
	SYMBOL(nobjects_list_open),
	SYMBOL(nobjects_list_next2),
	SYMBOL(nobjects_list_close),
	{NULL, NULL},
};

/* The list below, and opening what is in it: two stores that open at once share one connection. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct rados_conn *conns;

/* ---- workers ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_for_work(struct rados_worker *w)
{
	struct timespec t = {
		(time_t)(w->tick_at_ns / 1000000000u), (long)(w->tick_at_ns % 1000000000u)};

	if (w->tick)
		pthread_cond_timedwait(&w->cond, &w->mutex, &t);
	else
		pthread_cond_wait(&w->cond, &w->mutex);
}

static void maybe_tick(struct rados_worker *w)
{
	if (!w->tick || now_ns() < w->tick_at_ns)
		return;
	pthread_mutex_unlock(&w->mutex);
	w->tick(w);
	pthread_mutex_lock(&w->mutex);
	w->tick_at_ns = now_ns() + w->tick_ns;
}

static void *worker(void *arg)
{
	struct rados_worker *w = arg;

	pthread_mutex_lock(&w->mutex);
	while (w->first || !w->stop) {
		struct rados_job *j = w->first;

		if (!j) {
			wait_for_work(w);
			maybe_tick(w);
			continue;
		}
		w->first = j->next;
		if (!w->first)
			w->last = &w->first;
		pthread_mutex_unlock(&w->mutex);
		j->work(j);
		pthread_mutex_lock(&w->mutex);
		maybe_tick(w);
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

int rados_worker_post(struct rados_worker *w, struct rados_job *j)
{
	pthread_mutex_lock(&w->mutex);
	if (!w->runs) {
		w->tick_at_ns = now_ns() + w->tick_ns;
		w->runs = !pthread_create(&w->thread, NULL, worker, w);
	}
	if (!w->runs) {
		pthread_mutex_unlock(&w->mutex);
		return -EAGAIN;
	}
	j->next = NULL;
	*w->last = j;
	w->last = &j->next;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->mutex);
	return 0;
}

struct call {
	struct rados_job job;
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool done;
};

static void work_call(struct rados_job *j)
{
	struct call *k = container_of(j, struct call, job);

	k->fn(k->arg);
	pthread_mutex_lock(&k->mutex);
	k->done = true;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
}

int rados_worker_call(struct rados_worker *w, void (*fn)(void *arg), void *arg)
{
	struct call k = {.job.work = work_call,
		.fn = fn,
		.arg = arg,
		.mutex = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER};
	int rc = rados_worker_post(w, &k.job);

	if (rc)
		return rc;
	pthread_mutex_lock(&k.mutex);
	while (!k.done)
		pthread_cond_wait(&k.cond, &k.mutex);
	pthread_mutex_unlock(&k.mutex);
	return 0;
}

static void worker_init(struct rados_worker *w)
{
	pthread_condattr_t a;

	w->last = &w->first;
	pthread_mutex_init(&w->mutex, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&w->cond, &a);
	pthread_condattr_destroy(&a);
}

static void worker_fini(struct rados_worker *w)
{
	if (w->runs) {
		pthread_mutex_lock(&w->mutex);
		w->stop = true;
		pthread_cond_signal(&w->cond);
		pthread_mutex_unlock(&w->mutex);
		pthread_join(w->thread, NULL);
	}
	pthread_mutex_destroy(&w->mutex);
	pthread_cond_destroy(&w->cond);
}

/* ---- connections ---- */

int rados_load(struct err *e)
{
	return dynlib_load("librados.so.2", "librados2", symbols, e);
}

static struct rados_conn *conn_new(void)
{
	struct rados_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	worker_init(&c->puts);
	worker_init(&c->lists);
	worker_init(&c->locks);
	c->locks.tick = rados_renew_all;
	c->locks.tick_ns = rados_renew_ns();
	return c;
}

static void conn_free(struct rados_conn *c)
{
	worker_fini(&c->puts);
	worker_fini(&c->lists);
	worker_fini(&c->locks);
	if (c->cluster && !c->foreign)
		librados.shutdown(c->cluster);
	free(c->staging);
	free(c);
}

static int set_number(struct rados_conn *c, const char *key, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	return librados.conf_set(c->cluster, key, text);
}

static int set_limits(struct rados_conn *c)
{
	const struct {
		const char *key;
		uint64_t value;
	} v[] = {
		{"client_mount_timeout", c->connect_timeout_s},
		{"rados_mon_op_timeout", c->timeout_s},
		{"rados_osd_op_timeout", c->timeout_s},
		{"objecter_timeout", 2},
		{"objecter_tick_interval", 1},
		{"objecter_inflight_ops", 1 << 20},
		{"objecter_inflight_op_bytes", 1ull << 40},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]) && !rc; i++)
		rc = set_number(c, v[i].key, v[i].value);
	return rc;
}

static int configure(struct rados_conn *c, struct err *e)
{
	const char *conf = c->conf[0] ? c->conf : NULL, *env = getenv("CEPH_CONF");
	char name[80];
	int rc;

	snprintf(name, sizeof(name), "%s%s", strncmp(c->user, "client.", 7) ? "client." : "",
		c->user[0] ? c->user : "admin");
	rc = librados.create2(&c->cluster, "ceph", name, 0);
	if (rc < 0) {
		c->cluster = NULL;
		return err_set(e, rc, "rados: user '%s': %s", name, strerror(-rc));
	}
	rc = librados.conf_read_file(c->cluster, conf);
	if (rc < 0)
		return err_set(e, rc,
			"rados: cannot read %s: %s; name the cluster's configuration file with "
			"--set rados.conf=FILE",
			conf	      ? conf
			: env && *env ? env
				      : "a ceph.conf (in /etc/ceph, ~/.ceph or here)",
			strerror(-rc));
	rc = librados.conf_parse_env(c->cluster, NULL);
	if (!rc)
		rc = set_limits(c);
	return rc < 0 ? err_set(e, rc, "rados: configure the connection: %s", strerror(-rc)) : 0;
}

static int connect_failed(struct rados_conn *c, int rc, struct err *e)
{
	const char *user = c->user[0] ? c->user : "admin";

	switch (rc) {
	case -ETIMEDOUT:
		return err_set(e, rc,
			"rados: no monitor of the cluster answered within %u s; is it up, and is "
			"mon_host right in its configuration file?",
			c->connect_timeout_s);
	case -ENOENT:
		return err_set(e, -EACCES,
			"rados: there is no key for user '%s' in the keyring that the cluster's "
			"configuration names; or no monitor is named there",
			user);
	case -EACCES:
	case -EPERM:
		return err_set(e, -EACCES,
			"rados: the cluster refuses user '%s': its key is not right, or it may "
			"not talk to monitors",
			user);
	default:
		return err_set(e, rc, "rados: connect to the cluster: %s", strerror(-rc));
	}
}

static int conn_open(struct rados_conn *c, struct err *e)
{
	int rc = configure(c, e);

	if (rc < 0)
		return rc;
	rc = librados.connect(c->cluster);
	return rc < 0 ? connect_failed(c, rc, e) : 0;
}

static bool same(const struct rados_conn *a, const struct rados_conn *b)
{
	return !a->foreign && !strcmp(a->conf, b->conf) && !strcmp(a->user, b->user) &&
	       a->timeout_s == b->timeout_s && a->connect_timeout_s == b->connect_timeout_s;
}

/* Either gives c a place in the list, or finds one like it there and frees c.  With the mutex. */
static int enter(struct rados_conn *c, struct rados_conn **out, struct err *e)
{
	struct rados_conn *k = conns;
	int rc = 0;

	while (k && !same(k, c))
		k = k->next;
	if (!k)
		rc = conn_open(c, e);
	if (k || rc) {
		conn_free(c);
	} else {
		k = c;
		k->next = conns;
		conns = k;
	}
	if (!rc) {
		k->users++;
		*out = k;
	}
	return rc;
}

/* The threads of a connection are not in a process that was forked: it makes its own. */
static void forget_inherited(void)
{
	conns = NULL;
	pthread_mutex_init(&mutex, NULL);
}

static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, forget_inherited);
}

int rados_conn_get(const struct config *cfg, struct rados_conn **out, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct rados_conn *c = conn_new();
	int rc;

	pthread_once(&once, watch_forks);
	if (!c)
		return err_set(e, -ENOMEM, "rados: out of memory");
	snprintf(c->conf, sizeof(c->conf), "%s", cfg->rados_conf);
	snprintf(c->user, sizeof(c->user), "%s", cfg->rados_user);
	c->timeout_s = cfg->rados_timeout;
	c->connect_timeout_s = cfg->rados_connect_timeout;
	pthread_mutex_lock(&mutex);
	rc = enter(c, out, e);
	pthread_mutex_unlock(&mutex);
	return rc;
}

int rados_conn_adopt(rados_t cluster, struct rados_conn **out, struct err *e)
{
	struct rados_conn *c;

	pthread_mutex_lock(&mutex);
	for (c = conns; c && c->cluster != cluster; c = c->next)
		;
	if (!c) {
		c = conn_new();
		if (c) {
			c->cluster = cluster;
			c->foreign = true;
			c->next = conns;
			conns = c;
		}
	}
	if (c)
		c->users++;
	pthread_mutex_unlock(&mutex);
	*out = c;
	return c ? 0 : err_set(e, -ENOMEM, "rados: out of memory");
}

void rados_conn_put(struct rados_conn *c)
{
	struct rados_conn **p = &conns;
	bool last;

	pthread_mutex_lock(&mutex);
	while (*p && *p != c)
		p = &(*p)->next;
	last = *p && --c->users == 0; /* not there: inherited */
	if (last)
		*p = c->next;
	pthread_mutex_unlock(&mutex);
	if (last)
		conn_free(c);
}
