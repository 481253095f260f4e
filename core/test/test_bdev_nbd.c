/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_bdev_nbd.c - what only a device behind a connection does: be lost, and come back. */
#include "test/bdev_bench.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static void need_nbdkit(void)
{
	const char *why;

	if (!nbd_server_possible(&why))
		SKIP(why);
}

static struct bench open_on(struct nbd_server *s, unsigned flags)
{
	struct bench b = {.loop = new_uring()};
	struct err e = {.msg = ""};

	if (bdev_open(b.loop, s->url, flags, 0, &b.dev, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	return b;
}

static void close_it(struct bench *b)
{
	bdev_close(b->dev);
	loop_free(b->loop);
}

static int revive(struct bench *b)
{
	struct io io = io_of(BDEV_FLUSH, 0, NULL, 0);

	bdev_revive(b->dev, &io.r);
	assert_int_equal(io.fired, 0);
	wait_for(b, &io);
	return io.status;
}

static int lost;
static void count_lost(struct bdev *d)
{
	assert_true(d->down);
	lost++;
}

TEST(nobody_listening_is_an_error_that_names_the_server)
{
	struct loop *l;
	struct bdev *d;
	struct err e = {.msg = ""};

	need_nbdkit();
	l = new_uring();
	assert_int_equal(
		bdev_open(l, "nbd+unix:///?socket=/nonexistent/socket", 0, 0, &d, NULL, &e),
		-ENOTCONN);
	assert_non_null(strstr(e.msg, "/nonexistent/socket"));
	assert_int_equal(bdev_open(l, "nbd://[::1]:1/x", 0, 0, &d, NULL, &e), -ENOTCONN);
	assert_int_equal(bdev_open(l, "nbd://", BDEV_DOWN_OK, 0, &d, NULL, &e), 0);
	assert_true(d->down);
	bdev_close(d);
	loop_free(l);
}

TEST(a_server_that_dies_fails_what_is_in_flight)
{
	enum { N = 40 };
	struct nbd_server s;
	uint8_t *w = noise(N * SECTOR_BYTES, 5);
	struct io io[N];
	struct bench b;

	need_nbdkit();
	nbd_server_start(&s, "dies.sock", "--filter=delay memory 8M wdelay=60");
	b = open_on(&s, 0);
	b.dev->lost = count_lost;
	lost = 0;
	for (uint64_t i = 0; i < N; i++) {
		io[i] = io_of(BDEV_WRITE, i * SECTOR_BYTES, w + i * SECTOR_BYTES, SECTOR_BYTES);
		submit(&b, &io[i]);
	}
	loop_poll(b.loop, 0);
	nbd_server_kill(&s);
	for (int i = 0; i < N; i++) {
		wait_for(&b, &io[i]);
		assert_int_equal(io[i].status, -ENOTCONN);
	}
	while (!lost)
		loop_poll(b.loop, LOOP_FOREVER);
	assert_int_equal(lost, 1);
	assert_int_equal(run(&b, BDEV_WRITE, 0, w, SECTOR_BYTES), -ENOTCONN);
	assert_int_equal(run(&b, BDEV_FLUSH, 0, NULL, 0), -ENOTCONN);
	close_it(&b);
	free(w);
}

TEST(an_idle_connection_is_missed_too)
{
	struct nbd_server s;
	struct bench b;

	need_nbdkit();
	nbd_server_start(&s, "idle.sock", "memory 8M");
	b = open_on(&s, 0);
	b.dev->lost = count_lost;
	lost = 0;
	nbd_server_kill(&s);
	while (!lost)
		loop_poll(b.loop, LOOP_FOREVER);
	assert_true(b.dev->down);
	close_it(&b);
}

TEST(a_device_is_revived_when_the_server_is_back)
{
	uint8_t *w = noise(MIB, 7), *r = buffer(MIB);
	char args[160], path[128];
	struct nbd_server s;
	struct bench b;

	need_nbdkit();
	snprintf(path, sizeof(path), "%s/back", test_dir());
	snprintf(args, sizeof(args), "file %s", path);
	fclose(fopen(path, "w"));
	assert_int_equal(truncate(path, DEV_BYTES), 0);
	nbd_server_start(&s, "back.sock", args);
	b = open_on(&s, 0);
	assert_int_equal(run(&b, BDEV_WRITE, MIB, w, MIB), 0);
	assert_int_equal(revive(&b), 0); /* it is up */
	for (int round = 0; round < 3; round++) {
		nbd_server_kill(&s);
		while (!b.dev->down)
			loop_poll(b.loop, LOOP_FOREVER);
		while (revive(&b) == -EAGAIN)
			;
		assert_int_equal(revive(&b), -ENOTCONN);
		nbd_server_start(&s, "back.sock", args);
		assert_int_equal(revive(&b), 0);
		memset(r, 0, MIB);
		assert_int_equal(run(&b, BDEV_READ, MIB, r, MIB), 0);
		assert_memory_equal(r, w, MIB);
	}
	close_it(&b);
	nbd_server_kill(&s);
	free(w), free(r);
}

TEST(a_server_that_hangs_is_given_up)
{
	uint8_t *w = noise(SECTOR_BYTES, 9);
	struct nbd_server s;
	struct bench b;
	struct io io = io_of(BDEV_WRITE, 0, w, SECTOR_BYTES);

	need_nbdkit();
	nbd_server_start(&s, "hangs.sock", "memory 8M");
	b = open_on(&s, 0);
	kill(s.pid, SIGSTOP);
	submit(&b, &io);
	loop_poll(b.loop, 0);
	assert_int_equal(io.fired, 0);
	assert_true(bdev_abort(b.dev));
	memset(w, 0, SECTOR_BYTES); /* nobody looks at it any more */
	wait_for(&b, &io);
	assert_int_equal(io.status, -ENOTCONN);
	assert_true(b.dev->down);
	close_it(&b);
	nbd_server_kill(&s);
	free(w);
}

TEST(exports_that_will_not_do_are_refused)
{
	struct err e = {.msg = ""};
	struct nbd_server s;
	struct bdev *d;
	struct loop *l;

	need_nbdkit();
	l = new_uring();
	nbd_server_start(&s, "ro.sock", "-r memory 8M");
	assert_int_equal(bdev_open(l, s.url, 0, 0, &d, NULL, &e), -ENOTCONN);
	assert_non_null(strstr(e.msg, "read-only"));
	assert_int_equal(bdev_open(l, s.url, BDEV_READONLY, 0, &d, NULL, &e), 0);
	bdev_close(d);
	nbd_server_kill(&s);
	nbd_server_start(&s, "tiny.sock", "memory 2048");
	assert_int_equal(bdev_open(l, s.url, 0, 0, &d, NULL, &e), -ENOTCONN);
	assert_non_null(strstr(e.msg, "too small"));
	nbd_server_kill(&s);
	loop_free(l);
}

/* A piece of memory larger than a command carries, and a range larger than a trim. */
/* libnbd would take any server for the right one. */
TEST(tls_without_an_authority_is_refused)
{
	char dir[200], path[240], url[256];
	struct {
		const char *query, *says;
		int rc;
	} t[] = {
		{"", "?tls-certificates=DIR", -EINVAL},
		{"?tls-certificates=/nonexistent", "no ca-cert.pem in /nonexistent", -ENOENT},
		{"?x=y&tls-certificates=%2Fnon%65xistent", "in /nonexistent", -ENOENT},
		{NULL, "nbd server", -ENOTCONN}, /* its directory has one, but nobody listens */
		{"?tls-psk-file=/nonexistent", "nbd server", -ENOTCONN},
	};

	need_nbdkit();
	setenv("HOME", "/nonexistent", 1);
	snprintf(dir, sizeof(dir), "%s", test_dir());
	snprintf(path, sizeof(path), "%s/ca-cert.pem", dir);
	fclose(fopen(path, "w"));
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct loop *l = new_uring();
		struct err e = {.msg = ""};
		struct bdev *d;

		snprintf(url, sizeof(url), "nbds://127.0.0.1:1/%s%s",
			t[i].query ? t[i].query : "?tls-certificates=", t[i].query ? "" : dir);
		assert_int_equal(bdev_open(l, url, 0, 0, &d, NULL, &e), t[i].rc);
		if (!strstr(e.msg, t[i].says))
			fail_msg("%s: %s", url, e.msg);
		loop_free(l);
	}
}

TEST(large_requests_are_cut)
{
	uint64_t len = 80ull * MIB;
	uint8_t *w = noise(len, 3), *r = buffer(len);
	struct nbd_server s;
	struct bench b;

	need_nbdkit();
	nbd_server_start(&s, "large.sock", "memory 100M");
	b = open_on(&s, 0);
	assert_int_equal(b.dev->size_bytes, 100 * MIB);
	assert_int_equal(run(&b, BDEV_WRITE, 4096, w, len), 0);
	assert_int_equal(run(&b, BDEV_READ, 4096, r, len), 0);
	assert_memory_equal(r, w, len);
	assert_int_equal(run(&b, BDEV_DISCARD, 4096, NULL, len), 0);
	close_it(&b);
	nbd_server_kill(&s);
	free(w), free(r);
}
