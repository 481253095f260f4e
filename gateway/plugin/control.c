/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/plugin/control.h"
#include "gateway/plugin/say.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 65536, SILENCE_MS = 5000 };

struct control {
	struct gateway *gw;
	int fd, stop_fd;
	pthread_t thread;
	struct sockaddr_un addr;
};

static json_t *failure(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static json_t *failure(const char *fmt, ...)
{
	char text[LSVD_ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return json_pack("{s:b,s:s}", "ok", 0, "error", text);
}

static json_t *answer(int rc, const char *why)
{
	return rc < 0 ? failure("%s", why[0] ? why : strerror(-rc)) : json_pack("{s:b}", "ok", 1);
}

static const char *text_of(json_t *request, const char *key)
{
	return json_string_value(json_object_get(request, key));
}

/* ---- what can be asked for ---- */

static json_t *export_json(struct export *x)
{
	json_t *j;

	pthread_mutex_lock(&x->lock);
	j = json_pack("{s:s,s:s,s:b,s:b,s:I,s:s?}", "export", x->name, "image", x->url, "open",
		x->img != NULL, "readonly", x->img ? x->img_readonly : x->opt.readonly,
		"connections", (json_int_t)x->connections, "trace", x->tracing);
	if (x->img)
		json_object_set_new(
			j, "size_bytes", json_integer((json_int_t)lsvd_image_size(x->img)));
	pthread_mutex_unlock(&x->lock);
	return j;
}

static json_t *do_status(struct gateway *gw, json_t *request)
{
	json_t *list = json_array();

	(void)request;
	/* gw->lock, then x->lock, which may be held while an image is opened: so hold them by count. */
	for (unsigned i = 0;; i++) {
		struct export *x;
		unsigned n = 0;

		pthread_mutex_lock(&gw->lock);
		for (x = gw->exports; x && n < i; x = x->next)
			n++;
		if (x)
			x->users++;
		pthread_mutex_unlock(&gw->lock);
		if (!x)
			break;
		json_array_append_new(list, export_json(x));
		export_put(x);
	}
	return json_pack("{s:b,s:i,s:s,s:s?,s:o}", "ok", 1, "pid", (int)getpid(), "version",
		lsvd_version(), "store", gw->store, "exports", list);
}

static json_t *with_export(struct gateway *gw, json_t *request, struct export **x)
{
	const char *name = text_of(request, "export");
	char why[LSVD_ERR_MAX];

	if (!name)
		return failure("which export? \"export\" is missing");
	return export_get(gw, name, x, why) < 0 ? failure("%s", why) : NULL;
}

static json_t *do_stats(struct gateway *gw, json_t *request)
{
	struct export *x;
	json_t *j = with_export(gw, request, &x);
	char *text = NULL;

	if (j)
		return j;
	pthread_mutex_lock(&x->lock);
	if (x->img)
		text = lsvd_image_stats_json(x->img);
	pthread_mutex_unlock(&x->lock);
	if (text)
		j = json_pack("{s:b,s:o}", "ok", 1, "stats", json_loads(text, 0, NULL));
	else
		j = failure("nobody is connected to '%s'", x->name);
	free(text);
	export_put(x);
	return j;
}

static json_t *do_trace(struct gateway *gw, json_t *request)
{
	const char *path = text_of(request, "file");
	char why[LSVD_ERR_MAX] = "";
	struct export *x;
	json_t *j;

	if (path && path[0] != '/')
		return failure("'%s': the file's whole path is needed", path);
	j = with_export(gw, request, &x);
	if (j)
		return j;
	j = answer(export_trace(x, path, why), why);
	export_put(x);
	return j;
}

static json_t *do_add(struct gateway *gw, json_t *request)
{
	struct export_options opt = {
		.readonly = json_is_true(json_object_get(request, "readonly")),
		.steal = json_is_true(json_object_get(request, "steal")),
		.no_journal = json_is_true(json_object_get(request, "no_journal")),
		.trace = text_of(request, "trace"),
		.snapshot = text_of(request, "snapshot"),
	};
	const char *name = text_of(request, "export"), *image = text_of(request, "image");
	char why[LSVD_ERR_MAX] = "", ignored[LSVD_ERR_MAX];
	struct lsvd_image_info info;
	struct export *x;
	int rc;

	if (!name || !image)
		return failure("\"export\" and \"image\" are needed");
	if (opt.trace)
		opt.trace = say_intern(opt.trace);
	rc = export_add(gw, name, image, &opt, &x, why);
	if (rc < 0)
		return answer(rc, why);
	if (json_is_true(json_object_get(request, "open")))
		rc = export_keep(x, why);
	else
		rc = lsvd_image_stat(gw->ctx, x->url, &info, why);
	export_put(x);
	if (rc < 0)
		(void)export_remove(gw, name, ignored);
	return answer(rc, why);
}

static json_t *do_remove(struct gateway *gw, json_t *request)
{
	const char *name = text_of(request, "export");
	char why[LSVD_ERR_MAX] = "";

	if (!name)
		return failure("which export? \"export\" is missing");
	return answer(export_remove(gw, name, why), why);
}

static json_t *obey(struct gateway *gw, const char *line)
{
	static const struct {
		const char *name;
		json_t *(*run)(struct gateway *gw, json_t *request);
	} actions[] = {{"status", do_status}, {"stats", do_stats}, {"trace", do_trace},
		{"add", do_add}, {"remove", do_remove}};
	json_t *request = json_loads(line, 0, NULL), *reply = NULL;
	const char *what = text_of(request, "do");

	for (unsigned i = 0; what && !reply && i < sizeof(actions) / sizeof(actions[0]); i++)
		if (!strcmp(what, actions[i].name))
			reply = actions[i].run(gw, request);
	if (!reply)
		reply = failure("not understood; \"do\" is one of status, stats, trace, add, remove");
	json_decref(request);
	return reply;
}

/* ---- the socket ---- */

/* False: the server ends, or the client is silent. */
static bool readable(const struct control *c, int fd, int timeout_ms)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = c->stop_fd, .events = POLLIN}};
	int n;

	do
		n = poll(p, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n > 0 && !p[1].revents;
}

static bool send_all(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return true;
}

static void serve_client(struct control *c, int fd)
{
	char *line = malloc(LINE_MAX_BYTES + 1), *text;
	struct timeval limit = {.tv_sec = SILENCE_MS / 1000};
	size_t len = 0;
	json_t *reply;
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (line && len < LINE_MAX_BYTES && !memchr(line, '\n', len)) {
		n = readable(c, fd, SILENCE_MS) ? read(fd, line + len, LINE_MAX_BYTES - len) : 0;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (line && len) {
		line[len] = 0;
		reply = obey(c->gw, line);
		text = json_dumps(reply, JSON_COMPACT);
		if (text && send_all(fd, text))
			send_all(fd, "\n");
		free(text);
		json_decref(reply);
	}
	free(line);
}

static void *serve(void *arg)
{
	struct control *c = arg;

	while (readable(c, c->fd, -1)) {
		int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		serve_client(c, fd);
		close(fd);
	}
	return NULL;
}

static int refuse(char *why, int rc, const char *what, const char *path)
{
	snprintf(why, LSVD_ERR_MAX, "control socket '%.200s': %s: %s", path, what, strerror(-rc));
	return rc;
}

/* Is it a socket that nobody listens on? */
static bool left_over(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool dead = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
		    errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return dead;
}

static int listen_at(struct control *c, const char *path, char *why)
{
	const struct sockaddr *a = (const struct sockaddr *)&c->addr;
	mode_t mask;
	int rc;

	if (strlen(path) >= sizeof(c->addr.sun_path))
		return refuse(why, -ENAMETOOLONG, "listen", path);
	c->addr.sun_family = AF_UNIX;
	strcpy(c->addr.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return refuse(why, -errno, "make", path);
	mask = umask(0177);
	rc = bind(c->fd, a, sizeof(c->addr));
	if (rc < 0 && errno == EADDRINUSE && left_over(&c->addr)) {
		unlink(path);
		rc = bind(c->fd, a, sizeof(c->addr));
	}
	umask(mask);
	if (rc < 0 || listen(c->fd, 8) < 0) {
		rc = refuse(why, -errno, "listen", path);
		close(c->fd);
		return rc;
	}
	return 0;
}

int control_open(struct gateway *gw, const char *path, struct control **out, char *why)
{
	struct control *c = calloc(1, sizeof(*c));
	int rc = c ? listen_at(c, path, why) : -ENOMEM;

	if (rc < 0) {
		free(c);
		return rc;
	}
	c->gw = gw;
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	rc = c->stop_fd < 0 ? errno : pthread_create(&c->thread, NULL, serve, c);
	if (rc) {
		if (c->stop_fd >= 0)
			close(c->stop_fd);
		close(c->fd);
		unlink(path);
		free(c);
		return refuse(why, -rc, "start a thread", path);
	}
	*out = c;
	return 0;
}

void control_close(struct control *c)
{
	eventfd_write(c->stop_fd, 1);
	pthread_join(c->thread, NULL);
	unlink(c->addr.sun_path);
	close(c->fd);
	close(c->stop_fd);
	free(c);
}
