/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_s3_lock.c - locks of an S3 store: leases, takeovers, holders that died or stood still.
 *
 * Leases are as short as they may be (a second), so the tests take some seconds; none depends on
 * how fast anything is, but that a live process comes to run within a lease.
 */
#include "lsvd.h"
#include "store/store.h"
#include "sys/loop_uring.h"
#include "test/s3_server.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEASE_MS = 1500 };

struct fix {
	struct s3_server *srv;
	struct loop *l;
	struct store *s;
};

static struct store *open_one(struct loop *l)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	struct store *s = NULL;
	struct config c;
	char lease[16];
	int rc;

	snprintf(lease, sizeof(lease), "%d", LEASE_MS);
	assert_int_equal(lsvd_config_set(cfg, "s3.lease_ms", lease, NULL), 0);
	assert_int_equal(lsvd_config_set(cfg, "s3.timeout_ms", "1000", NULL), 0);
	assert_int_equal(config_resolve(cfg, NULL, &c, &util_err), 0);
	lsvd_config_free(cfg);
	rc = store_open(l, "s3:bkt/p", &c, 0, &s, &util_err);
	if (rc)
		fail_msg("%s", err_text(&util_err, rc));
	return s;
}

static struct fix set_up(void)
{
	struct fix f = {.srv = s3_server_new()};
	char url[64];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", s3_server_port(f.srv));
	setenv("AWS_ENDPOINT_URL", url, 1);
	setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
	setenv("no_proxy", "127.0.0.1", 1);
	assert_int_equal(loop_uring_new(64, &f.l, &util_err), 0);
	return f;
}

static void tear_down(struct fix *f)
{
	store_close(f->s);
	loop_free(f->l);
	s3_server_free(f->srv);
}

static int64_t lock(struct store *s, const char *text, bool steal)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct store_req r = {.op = STORE_LOCK,
		.name = "a",
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = iov.iov_len,
		.steal = steal,
		.err = &util_err};

	util_err.msg[0] = 0;
	return store_wait(s, &r);
}

static bool lock_there(struct fix *f)
{
	char text[1024];

	return s3_server_object(f->srv, "p/.lock/a", text, sizeof(text)) >= 0;
}

/* Lets the loop and its neighbours run. */
static void pass(struct fix *f, unsigned ms)
{
	uint64_t end = loop_clock(f->l) + ms * 1000000ull;

	while (loop_clock(f->l) < end)
		loop_poll(f->l, 10000000);
}

TEST(s3_a_lock_is_an_object_while_it_is_held)
{
	struct fix f = set_up();
	struct store *other;

	f.s = open_one(f.l);
	other = open_one(f.l);
	assert_int_equal(lock(f.s, "host one pid 1", false), 0);
	assert_true(lock_there(&f));
	assert_int_equal(lock(other, "host two", false), -EBUSY);
	assert_non_null(strstr(util_err.msg, "host one pid 1"));
	assert_int_equal(lock(f.s, "me again", false), -EBUSY);
	assert_string_equal(util_list(f.s, ""), "");
	assert_int_equal(util_unlock(f.s, "a"), 0);
	assert_false(lock_there(&f));
	assert_int_equal(lock(other, "host two", false), 0);
	store_close(other);
	assert_false(lock_there(&f));
	tear_down(&f);
}

TEST(s3_a_lease_is_renewed)
{
	struct fix f = set_up();
	unsigned puts;
	struct store *other;

	f.s = open_one(f.l);
	other = open_one(f.l);
	assert_int_equal(lock(f.s, "one", false), 0);
	puts = s3_server_count(f.srv, "PUT", ".lock/a");
	sleep(5); /* the loop is not polled; lease and grace would be over */
	assert_true(s3_server_count(f.srv, "PUT", ".lock/a") >= puts + 3);
	assert_int_equal(lock(other, "two", false), -EBUSY);
	store_close(other);
	tear_down(&f);
}

/* Somewhere else, so that nobody here can tell whether the process lives. */
static void put_foreign_lock(struct fix *f, const char *state)
{
	char body[512];

	snprintf(body, sizeof(body),
		"lsvd-lock 1\nid 00112233445566778899aabbccddeeff\nstate %s\nrenewals 7\nlease_ms "
		"30000\n"
		"process 01234567-89ab-cdef-0123-456789abcdef 4026531836 77 123456\nholder host "
		"far pid 77\n",
		state);
	s3_server_put(f->srv, "p/.lock/a", body, strlen(body));
}

TEST(s3_a_lease_runs_out_by_the_services_clock)
{
	struct fix f = set_up();

	f.s = open_one(f.l);
	put_foreign_lock(&f, "held");
	assert_int_equal(lock(f.s, "one", false), -EBUSY);
	assert_non_null(strstr(util_err.msg, "host far pid 77"));
	s3_server_clock(f.srv, 20);
	assert_int_equal(lock(f.s, "one", false), -EBUSY);
	s3_server_clock(f.srv, 40);
	assert_int_equal(lock(f.s, "one", false), 0);
	assert_int_equal(util_unlock(f.s, "a"), 0);
	put_foreign_lock(&f, "released"); /* and never removed */
	s3_server_clock(f.srv, 80);
	assert_int_equal(lock(f.s, "one", false), 0);
	tear_down(&f);
}

TEST(s3_what_is_no_lock_is_left_alone)
{
	struct fix f = set_up();
	char got[8];

	f.s = open_one(f.l);
	s3_server_put(f.srv, "p/.lock/a", "garbage", 7);
	assert_int_equal(lock(f.s, "one", true), -EUCLEAN);
	assert_non_null(strstr(util_err.msg, "p/.lock/a"));
	assert_int_equal(s3_server_object(f.srv, "p/.lock/a", got, 8), 7);
	tear_down(&f);
}

TEST(s3_a_service_that_ignores_conditions_is_refused)
{
	struct fix f = set_up();

	f.s = open_one(f.l);
	s3_server_etags(f.srv, ETAGS_IGNORED);
	assert_int_equal(lock(f.s, "one", false), -EOPNOTSUPP);
	assert_non_null(strstr(util_err.msg, "ignores conditions"));
	s3_server_etags(f.srv, ETAGS_QUOTED);
	s3_server_no_metadata(f.srv);
	assert_int_equal(lock(f.s, "one", false), -EOPNOTSUPP);
	assert_non_null(strstr(util_err.msg, "metadata"));
	assert_false(lock_there(&f));
	tear_down(&f);
}

TEST(s3_locks_with_bare_etags)
{
	struct fix f = set_up();

	f.s = open_one(f.l);
	s3_server_etags(f.srv, ETAGS_BARE);
	assert_int_equal(lock(f.s, "one", false), 0);
	pass(&f, 2 * LEASE_MS);
	assert_int_equal(util_swap(f.s, "a/super", "", "x", 1), 0);
	assert_int_equal(util_unlock(f.s, "a"), 0);
	assert_false(lock_there(&f));
	tear_down(&f);
}

TEST(s3_a_stolen_lock_stops_its_holder)
{
	struct fix f = set_up();
	struct store *thief;
	char tag[STORE_TAG_MAX];

	f.s = open_one(f.l);
	thief = open_one(f.l);
	assert_int_equal(lock(f.s, "one", false), 0);
	assert_int_equal(util_swap(f.s, "a/super", "", "one", 3), 0);
	memcpy(tag, util_tag, sizeof(tag));
	assert_int_equal(lock(thief, "two", true), 0);
	pass(&f, LEASE_MS);
	assert_int_equal(util_swap(f.s, "a/super", tag, "one again", 9), -ESTALE);
	assert_int_equal(util_unlock(f.s, "a"), 0); /* not its own any more: no effect */
	assert_int_equal(lock(f.s, "one", false), -EBUSY);
	assert_non_null(strstr(util_err.msg, "two"));
	assert_int_equal(util_swap(thief, "a/super", tag, "two", 3), 0);
	store_close(thief);
	tear_down(&f);
}

TEST(s3_a_removed_lock_comes_back)
{
	struct fix f = set_up();
	struct store *other;

	f.s = open_one(f.l);
	other = open_one(f.l);
	assert_int_equal(lock(f.s, "one", false), 0);
	/* as a late removal would */
	assert_int_equal(lock(other, "two", true), 0);
	assert_int_equal(util_unlock(other, "a"), 0);
	assert_false(lock_there(&f));
	for (int i = 0; i < 100 && !lock_there(&f); i++)
		pass(&f, 50);
	assert_true(lock_there(&f));
	assert_int_equal(lock(other, "two", false), -EBUSY);
	store_close(other);
	tear_down(&f);
}

/* ---- other processes ---- */

/* Locks, says so, then swaps whenever it is told to and says how that went. */
static void child(int in, int out)
{
	struct loop *l;
	struct store *s;
	char c;

	assert_int_equal(loop_uring_new(64, &l, NULL), 0);
	s = open_one(l);
	c = lock(s, "the child", false) == 0;
	if (write(out, &c, 1) != 1)
		_exit(1);
	for (;;) {
		struct pollfd p = {.fd = in, .events = POLLIN};

		loop_poll(l, 10000000);
		if (poll(&p, 1, 0) == 0)
			continue;
		if (read(in, &c, 1) != 1)
			_exit(0);
		c = (char)-util_swap(s, "a/super", "", "child", 5);
		if (write(out, &c, 1) != 1)
			_exit(1);
	}
}

struct process {
	pid_t pid;
	int to, from;
};

static struct process start_child(void)
{
	struct process p;
	int in[2], out[2];
	char c = 0;

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	p.pid = fork();
	if (!p.pid) {
		close(in[1]);
		close(out[0]);
		child(in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	p.to = in[1];
	p.from = out[0];
	assert_int_equal(read(p.from, &c, 1), 1);
	assert_int_equal(c, 1);
	return p;
}

static void end_child(struct process *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	close(p->to);
	close(p->from);
}

TEST(s3_the_lock_of_a_dead_process_is_free_at_once)
{
	struct fix f = set_up();
	struct process p = start_child();

	f.s = open_one(f.l);
	assert_int_equal(lock(f.s, "one", false), -EBUSY);
	assert_non_null(strstr(util_err.msg, "the child"));
	end_child(&p);
	assert_int_equal(lock(f.s, "one", false), 0);
	tear_down(&f);
}

TEST(s3_a_stopped_process_loses_its_lock_and_learns_it)
{
	struct fix f = set_up();
	struct process p = start_child();
	int64_t rc;
	char c = 'x';

	f.s = open_one(f.l);
	kill(p.pid, SIGSTOP);
	assert_int_equal(lock(f.s, "one", false), -EBUSY);
	do {
		rc = lock(f.s, "one", false); /* its lease runs out */
		pass(&f, 100);
	} while (rc == -EBUSY);
	assert_int_equal(rc, 0);
	kill(p.pid, SIGCONT);
	assert_int_equal(write(p.to, &c, 1), 1);
	assert_int_equal(read(p.from, &c, 1), 1);
	assert_int_equal(c, ESTALE);
	assert_int_equal(util_swap(f.s, "a/super", "", "one", 3), 0);
	end_child(&p);
	tear_down(&f);
}
