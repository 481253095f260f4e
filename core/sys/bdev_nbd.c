/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev_nbd.c - a block device that another host exports by NBD: libnbd's state machine in our loop.
 *
 * Happy path: connect and negotiate (bounded in time), then each request is one command, or one a
 * piece of memory; the socket is watched by polls in the loop's io_uring, and libnbd is told when
 * it is readable or writable.  libnbd is loaded when the first such URL is opened (sys/dynlib.h).
 *
 * What blocks is libnbd's look-up of a host name, when it connects: write addresses.
 *
 * What can fail: the connection is lost, or nothing is answered for REQUEST_NS.  Then everything in
 * flight fails and the device is down, until bdev_revive() connects anew.  Nothing is sent again by
 * itself: the server may be another one, or one that forgot.  Closing waits for the polls.
 *
 * TLS is libnbd's, and what it should use is in the URL (libnbd's nbd_connect_uri(3)); only that
 * there is something to tell the right server by is seen to here.
 *
 * NBD has no lock: two hosts may have one export open.  Who reads what is on it (the pool's
 * generations) finds out afterwards, not before.
 */
#include "sys/bdev_impl.h"

#ifdef HAVE_NBD
#include "sys/dynlib.h"
#include "sys/loop_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SECTOR = 512, PIECE_MAX = 32 << 20 };

static const uint64_t CONNECT_NS = 5000000000, REQUEST_NS = 30000000000;

static struct {
	typeof(nbd_create) *create;
	typeof(nbd_close) *close;
	typeof(nbd_get_error) *get_error;
	typeof(nbd_get_errno) *get_errno;
	typeof(nbd_set_uri_allow_local_file) *allow_local_file;
	typeof(nbd_set_pread_initialize) *pread_initialize;
	typeof(nbd_aio_connect_uri) *connect_uri;
	typeof(nbd_aio_get_fd) *get_fd;
	typeof(nbd_aio_get_direction) *get_direction;
	typeof(nbd_aio_notify_read) *notify_read;
	typeof(nbd_aio_notify_write) *notify_write;
	typeof(nbd_aio_is_ready) *is_ready;
	typeof(nbd_aio_is_processing) *is_processing;
	typeof(nbd_aio_is_dead) *is_dead;
	typeof(nbd_aio_is_closed) *is_closed;
	typeof(nbd_get_size) *get_size;
	typeof(nbd_get_block_size) *get_block_size;
	typeof(nbd_is_read_only) *is_read_only;
	typeof(nbd_can_flush) *can_flush;
	typeof(nbd_can_trim) *can_trim;
	typeof(nbd_aio_pread) *pread;
	typeof(nbd_aio_pwrite) *pwrite;
	typeof(nbd_aio_flush) *flush;
	typeof(nbd_aio_trim) *trim;
} lib;

static const struct dynlib_symbol symbols[] = {{"nbd_create", &lib.create},
	{"nbd_close", &lib.close}, {"nbd_get_error", &lib.get_error},
	{"nbd_get_errno", &lib.get_errno}, {"nbd_set_uri_allow_local_file", &lib.allow_local_file},
	{"nbd_set_pread_initialize", &lib.pread_initialize},
	{"nbd_aio_connect_uri", &lib.connect_uri}, {"nbd_aio_get_fd", &lib.get_fd},
	{"nbd_aio_get_direction", &lib.get_direction}, {"nbd_aio_notify_read", &lib.notify_read},
	{"nbd_aio_notify_write", &lib.notify_write}, {"nbd_aio_is_ready", &lib.is_ready},
	{"nbd_aio_is_processing", &lib.is_processing}, {"nbd_aio_is_dead", &lib.is_dead},
	{"nbd_aio_is_closed", &lib.is_closed}, {"nbd_get_size", &lib.get_size},
	{"nbd_get_block_size", &lib.get_block_size}, {"nbd_is_read_only", &lib.is_read_only},
	{"nbd_can_flush", &lib.can_flush}, {"nbd_can_trim", &lib.can_trim},
	{"nbd_aio_pread", &lib.pread}, {"nbd_aio_pwrite", &lib.pwrite},
	{"nbd_aio_flush", &lib.flush}, {"nbd_aio_trim", &lib.trim}, {NULL, NULL}};

/* A poll of the socket in one direction. */
struct watch {
	struct uring_op op;
	struct nbd_dev *n;
	bool armed;
};

struct nbd_dev {
	struct bdev d;
	struct nbd_handle *h; /* NULL: no connection, nor the attempt at one */
	bool connecting, can_flush, can_trim;
	uint64_t piece_bytes; /* of one command */
	struct watch in, out;
	unsigned in_flight;
	uint64_t heard_ns; /* when the last answer came */
	struct loop_timer timer;
	struct bdev_req *done, **done_end; /* to be told */
	struct loop_task tell, tell_lost;
	struct bdev_req *reviving;
	char why[160]; /* the connection ended */
};

static struct nbd_dev *nbd_of(struct bdev *d)
{
	return container_of(d, struct nbd_dev, d);
}

/* ---- completions ---- */

static void put_done(struct nbd_dev *n, struct bdev_req *r, int status)
{
	r->status = status;
	r->next = NULL;
	*n->done_end = r;
	n->done_end = &r->next;
	loop_defer(n->d.loop, &n->tell);
}

static void tell_done(struct nbd_dev *n)
{
	struct bdev_req *r = n->done, *next;

	n->done = NULL;
	n->done_end = &n->done;
	for (; r; r = next) {
		next = r->next;
		r->done(r, r->status);
	}
}

static void tell_later(struct loop_task *t)
{
	tell_done(container_of(t, struct nbd_dev, tell));
}

static void tell_lost(struct loop_task *t)
{
	struct nbd_dev *n = container_of(t, struct nbd_dev, tell_lost);

	if (n->d.lost && n->d.down)
		n->d.lost(&n->d);
}

/* Of a request, moved_bytes holds the number of its commands: not answered well yet, and not over
 * yet. libnbd answers a command or not, but lets go of each once. */
static const uint64_t ONE_WELL = 1ull << 32, ONE_OVER = 1;

static int command_answered(void *user, int *error)
{
	struct bdev_req *r = user;

	if (*error)
		r->status = -*error;
	else
		r->moved_bytes -= ONE_WELL;
	return 1; /* retire it */
}

static void command_over(void *user)
{
	struct bdev_req *r = user;
	struct nbd_dev *n = nbd_of(r->dev);

	r->moved_bytes -= ONE_OVER;
	if (r->moved_bytes & UINT32_MAX)
		return;
	n->in_flight--;
	n->heard_ns = loop_now(n->d.loop);
	put_done(n, r, !r->moved_bytes ? 0 : r->status ? r->status : -ENOTCONN);
}

/* ---- the connection ---- */

static void watch_fd(struct nbd_dev *n, struct watch *w, unsigned events)
{
	struct io_uring_sqe *sqe;

	if (w->armed)
		return;
	sqe = loop_uring_sqe(n->d.loop);
	io_uring_prep_poll_add(sqe, lib.get_fd(n->h), events);
	loop_uring_arm(sqe, &w->op);
	w->armed = true;
}

static void watch_again(struct nbd_dev *n)
{
	unsigned dir;

	if (!n->h)
		return;
	dir = lib.get_direction(n->h);
	if (dir & LIBNBD_AIO_DIRECTION_READ)
		watch_fd(n, &n->in, POLLIN);
	if (dir & LIBNBD_AIO_DIRECTION_WRITE)
		watch_fd(n, &n->out, POLLOUT);
}

/* The end of the connection, or of the attempt.  libnbd lets go of every command, and the polls,
 * which hold the socket, end with it. */
static void disconnect(struct nbd_dev *n, const char *why)
{
	struct nbd_handle *h = n->h;
	bool was_up = !n->d.down;
	int fd;

	if (!h)
		return;
	if (!n->why[0])
		snprintf(n->why, sizeof(n->why), "%s", why ? why : "lost");
	fd = lib.get_fd(h);
	n->h = NULL;
	n->d.down = true;
	n->connecting = false;
	loop_timer_cancel(n->d.loop, &n->timer);
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
	lib.close(h);
	if (n->reviving)
		put_done(n, n->reviving, -ENOTCONN);
	n->reviving = NULL;
	if (was_up)
		loop_defer(n->d.loop, &n->tell_lost);
}

static int learn(struct nbd_dev *n)
{
	int64_t size = lib.get_size(n->h), least = lib.get_block_size(n->h, LIBNBD_SIZE_MINIMUM),
		most = lib.get_block_size(n->h, LIBNBD_SIZE_MAXIMUM);

	if (size < BDEV_ROUND || least > BDEV_ROUND) {
		snprintf(
			n->why, sizeof(n->why), "the export is too small, or its blocks too large");
		return -EINVAL;
	}
	if (lib.is_read_only(n->h) > 0 && !n->d.readonly) {
		snprintf(n->why, sizeof(n->why), "the export is read-only");
		return -EROFS;
	}
	n->d.size_bytes = (uint64_t)size - (uint64_t)size % BDEV_ROUND;
	n->d.sector_bytes = least > SECTOR ? (uint32_t)least : SECTOR;
	n->piece_bytes = most > 0 && most < PIECE_MAX ? (uint64_t)most - (uint64_t)most % BDEV_ROUND
						      : PIECE_MAX;
	n->can_flush = lib.can_flush(n->h) > 0;
	n->can_trim = lib.can_trim(n->h) > 0;
	return 0;
}

static void connected(struct nbd_dev *n)
{
	if (learn(n) < 0) {
		disconnect(n, NULL);
		return;
	}
	loop_timer_cancel(n->d.loop, &n->timer);
	n->connecting = false;
	n->d.down = false;
	if (n->reviving)
		put_done(n, n->reviving, 0);
	n->reviving = NULL;
}

/* After anything that may have moved libnbd on. */
static void look(struct nbd_dev *n)
{
	if (!n->h)
		return;
	if (lib.is_dead(n->h) || lib.is_closed(n->h))
		disconnect(n, n->connecting ? lib.get_error() : "the server closed it");
	else if (n->connecting && lib.is_ready(n->h))
		connected(n);
	watch_again(n);
}

static void event(struct nbd_dev *n, struct watch *w, int res)
{
	unsigned dir;

	w->armed = false;
	if (!n->h)
		return;
	dir = lib.get_direction(n->h);
	/* Errors show in the next call, whatever it is. */
	if (res > 0 && dir & LIBNBD_AIO_DIRECTION_READ && w == &n->in)
		lib.notify_read(n->h);
	else if (res > 0 && dir & LIBNBD_AIO_DIRECTION_WRITE && w == &n->out)
		lib.notify_write(n->h);
	look(n);
	tell_done(n);
}

static void readable(struct uring_op *op, int res)
{
	struct watch *w = container_of(op, struct watch, op);

	event(w->n, w, res);
}

static void overdue(struct loop_timer *t)
{
	struct nbd_dev *n = container_of(t, struct nbd_dev, timer);
	uint64_t now = loop_now(n->d.loop);

	if (n->connecting) {
		disconnect(n, "no connection in time");
	} else if (n->in_flight && now >= n->heard_ns + REQUEST_NS) {
		disconnect(n, "no answer in time");
	} else if (n->in_flight) {
		loop_timer_set(n->d.loop, t, n->heard_ns + REQUEST_NS);
	}
}

static void connect_to(struct nbd_dev *n)
{
	n->why[0] = 0;
	n->h = lib.create();
	if (!n->h) {
		snprintf(n->why, sizeof(n->why), "%s", lib.get_error());
		return;
	}
	n->connecting = true;
	lib.allow_local_file(n->h, true); /* the operator wrote the URL: certificates, keys */
	lib.pread_initialize(n->h, false);
	loop_timer_set(n->d.loop, &n->timer, loop_clock(n->d.loop) + CONNECT_NS);
	if (lib.connect_uri(n->h, n->d.url) < 0)
		disconnect(n, lib.get_error());
	look(n);
}

/* ---- requests ---- */

static int command(struct nbd_dev *n, struct bdev_req *r, void *buf, uint64_t len, uint64_t at)
{
	nbd_completion_callback cb = {
		.callback = command_answered, .user_data = r, .free = command_over};

	switch (r->op) {
	case BDEV_READ:
		return lib.pread(n->h, buf, len, at, cb, 0) < 0 ? -1 : 0;
	case BDEV_WRITE:
		return lib.pwrite(n->h, buf, len, at, cb, 0) < 0 ? -1 : 0;
	case BDEV_FLUSH:
		return lib.flush(n->h, cb, 0) < 0 ? -1 : 0;
	case BDEV_DISCARD:
		return lib.trim(n->h, len, at, cb, 0) < 0 ? -1 : 0;
	}
	return -1;
}

static uint64_t pieces_of(const struct nbd_dev *n, uint64_t len)
{
	return (len + n->piece_bytes - 1) / n->piece_bytes;
}

static uint64_t count_commands(const struct nbd_dev *n, const struct bdev_req *r)
{
	uint64_t count = 0;

	if (r->op == BDEV_FLUSH)
		return 1;
	if (r->op == BDEV_DISCARD)
		return pieces_of(n, r->len_bytes);
	for (int i = 0; i < r->iovcnt; i++)
		count += pieces_of(n, r->iov[i].iov_len);
	return count;
}

/* A command that is refused was let go of, too; the others go on. */
static void send_range(struct nbd_dev *n, struct bdev_req *r, char *buf, uint64_t len, uint64_t at)
{
	for (uint64_t piece; len; len -= piece, at += piece) {
		piece = len < n->piece_bytes ? len : n->piece_bytes;
		if (command(n, r, buf, piece, at) < 0 && lib.get_errno())
			r->status = -lib.get_errno();
		if (buf)
			buf += piece;
	}
}

static void send_commands(struct nbd_dev *n, struct bdev_req *r)
{
	uint64_t at = r->offset_bytes;

	if (r->op == BDEV_FLUSH) {
		(void)command(n, r, NULL, 0, 0);
		return;
	}
	if (r->op == BDEV_DISCARD) {
		send_range(n, r, NULL, r->len_bytes, at);
		return;
	}
	for (int i = 0, iovcnt = r->iovcnt; i < iovcnt; i++) {
		send_range(n, r, r->iov[i].iov_base, r->iov[i].iov_len, at);
		at += r->iov[i].iov_len;
	}
}

static void nbd_submit(struct bdev *d, struct bdev_req *r)
{
	struct nbd_dev *n = nbd_of(d);

	if (d->down || (r->op == BDEV_FLUSH && !n->can_flush) ||
		(r->op == BDEV_DISCARD && !n->can_trim)) {
		put_done(n, r, d->down ? -ENOTCONN : 0);
		return;
	}
	if (!n->in_flight++) {
		n->heard_ns = loop_now(d->loop);
		if (!loop_timer_armed(&n->timer))
			loop_timer_set(d->loop, &n->timer, n->heard_ns + REQUEST_NS);
	}
	/* One more, so that it is not over before all were sent. */
	r->moved_bytes = count_commands(n, r) * (ONE_WELL + ONE_OVER) + ONE_OVER;
	send_commands(n, r);
	command_over(r);
	look(n);
}

static void nbd_abort(struct bdev *d)
{
	disconnect(nbd_of(d), "given up");
}

static void nbd_revive(struct bdev *d, struct bdev_req *r)
{
	struct nbd_dev *n = nbd_of(d);

	/* The polls of the old connection are about to end. */
	if (n->in.armed || n->out.armed || n->h) {
		put_done(n, r, -EAGAIN);
		return;
	}
	n->reviving = r;
	connect_to(n);
	if (!n->h && n->reviving) {
		put_done(n, r, -ENOTCONN);
		n->reviving = NULL;
	}
}

static void let_go(struct nbd_dev *n)
{
	n->d.lost = NULL;
	disconnect(n, "closed");
	while (n->in.armed || n->out.armed || n->tell_lost.queued || n->tell.queued)
		loop_poll(n->d.loop, LOOP_FOREVER);
	free(n);
}

static void nbd_close_dev(struct bdev *d)
{
	assert(!nbd_of(d)->in_flight);
	let_go(nbd_of(d));
}

static const struct bdev_ops nbd_ops = {
	.submit = nbd_submit, .close = nbd_close_dev, .abort = nbd_abort, .revive = nbd_revive};

/* ---- TLS ---- */

static int hex(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 32) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* The value that the URL's query has for `name`, decoded; false: none, or none that fits. */
static bool parameter(const char *url, const char *name, char *out, size_t room)
{
	const char *p = strchr(url, '?');
	size_t n = strlen(name), len = 0;

	while (p && (strncmp(p + 1, name, n) || p[1 + n] != '='))
		p = strchr(p + 1, '&');
	if (!p)
		return false;
	for (p += n + 2; *p && *p != '&' && len + 1 < room; len++) {
		bool coded = *p == '%' && hex(p[1]) >= 0 && hex(p[2]) >= 0;

		out[len] = coded ? (char)(hex(p[1]) << 4 | hex(p[2])) : *p;
		p += coded ? 3 : 1;
	}
	out[len] = 0;
	return !*p || *p == '&';
}

/* Where libnbd looks when the URL does not say it. */
static const char *default_certificates(unsigned i, char *out, size_t room)
{
	static const char *const under_home[] = {".pki/libnbd", ".config/pki/libnbd"};
	const char *home = getenv("HOME");

	if (geteuid() == 0)
		return i == 0 ? "/etc/pki/libnbd" : NULL;
	if (!home || i >= 2)
		return NULL;
	snprintf(out, room, "%s/%s", home, under_home[i]);
	return out;
}

static bool has_authority(const char *dir)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/ca-cert.pem", dir);
	return access(path, R_OK) == 0;
}

/* Without an authority's certificate where it looks for one, libnbd (to 1.20.1) takes any server
 * for the right one, and says nothing: so a mistyped directory would be no protection at all. */
static int check_trust(const char *url, struct err *e)
{
	char text[4096];
	const char *dir;

	if (strncmp(url, "nbds:", 5) || parameter(url, "tls-psk-file", text, sizeof(text)) ||
		(parameter(url, "tls-verify-peer", text, sizeof(text)) && !strcmp(text, "false")))
		return 0;
	if (parameter(url, "tls-certificates", text, sizeof(text))) {
		if (has_authority(text))
			return 0;
		return err_set(e, -ENOENT,
			"'%s': there is no ca-cert.pem in %s to tell the right server by", url,
			text);
	}
	for (unsigned i = 0; (dir = default_certificates(i, text, sizeof(text))); i++)
		if (has_authority(dir))
			return 0;
	return err_set(e, -EINVAL,
		"'%s': nothing to tell the right server by; add ?tls-certificates=DIR, with its "
		"authority's certificate in DIR/ca-cert.pem, or ?tls-psk-file=FILE, with a key",
		url);
}

int bdev_nbd_open(const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e)
{
	struct nbd_dev *n;
	int rc;

	if (loop_is_sim(a->loop))
		return err_set(e, -EINVAL, "'%s' needs a real loop, this one is simulated", a->url);
	rc = check_trust(a->url, e);
	if (rc < 0)
		return rc;
	rc = dynlib_load("libnbd.so.0", "libnbd0", symbols, e);
	if (rc < 0)
		return err_wrap(e, rc == -ENOENT ? -ELIBACC : rc, "'%s'", a->url);
	n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(e, -ENOMEM, "no memory for block device '%s'", a->url);
	bdev_init(&n->d, &nbd_ops, a);
	n->d.down = true;
	n->d.sector_bytes = SECTOR;
	n->done_end = &n->done;
	n->tell.run = tell_later;
	n->tell_lost.run = tell_lost;
	n->timer.fire = overdue;
	n->in = (struct watch){.op = {.done = readable}, .n = n};
	n->out = n->in;
	connect_to(n);
	while (n->connecting)
		loop_poll(a->loop, LOOP_FOREVER);
	if (n->d.down) {
		rc = err_set(e, -ENOTCONN, "nbd server '%s': %s", a->url, n->why);
		if (!(a->flags & BDEV_DOWN_OK)) {
			let_go(n);
			return rc;
		}
	}
	*created = false;
	*out = &n->d;
	return 0;
}

#else

#include <errno.h>

int bdev_nbd_open(const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e)
{
	(void)out;
	(void)created;
	return err_set(e, -EOPNOTSUPP,
		"'%s': this build knows no nbd (install libnbd-dev, and build again)", a->url);
}

#endif
