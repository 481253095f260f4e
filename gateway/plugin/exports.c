/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/plugin/exports.h"
#include "gateway/plugin/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 1024, SUFFIX_LEN = 600 };

void gateway_init(struct gateway *gw)
{
	pthread_mutex_init(&gw->lock, NULL);
	gw->last = &gw->exports;
}

int export_refuse(char *why, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, LSVD_ERR_MAX, fmt, ap);
	va_end(ap);
	return rc;
}

/* ---- the list ---- */

static void export_free(struct export *x)
{
	pthread_mutex_destroy(&x->lock);
	free(x->name);
	free(x->url);
	free(x->tracing);
	free(x);
}

static struct export *export_new(
	struct gateway *gw, const char *name, const char *url, const struct export_options *opt)
{
	struct export *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	pthread_mutex_init(&x->lock, NULL);
	x->gw = gw;
	x->opt = *opt;
	x->name = strdup(name);
	if (opt->snapshot) {
		if (asprintf(&x->url, "%s@%s", url, opt->snapshot) < 0)
			x->url = NULL;
	} else {
		x->url = strdup(url);
	}
	if (!x->name || !x->url) {
		export_free(x);
		return NULL;
	}
	return x;
}

static struct export *find(struct gateway *gw, const char *name)
{
	for (struct export *x = gw->exports; x; x = x->next)
		if (!x->removed && !strcmp(x->name, name))
			return x;
	return NULL;
}

static void append(struct gateway *gw, struct export *x)
{
	*gw->last = x;
	gw->last = &x->next;
}

static void cut_out(struct gateway *gw, struct export *x)
{
	struct export **p = &gw->exports;

	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	if (!*p)
		gw->last = p;
}

int export_add(struct gateway *gw, const char *name, const char *url,
	const struct export_options *opt, struct export **out, char *why)
{
	struct export *x;
	int rc = 0;

	if (!name[0] || strlen(name) > 255)
		return export_refuse(why, -EINVAL, "export '%.40s': a name has 1 to 255 characters", name);
	x = export_new(gw, name, url, opt);
	if (!x)
		return export_refuse(why, -ENOMEM, "out of memory");
	x->configured = true;
	pthread_mutex_lock(&gw->lock);
	if (find(gw, name)) {
		rc = export_refuse(why, -EEXIST, "there is an export '%s' already", name);
	} else {
		if (out)
			x->users++;
		append(gw, x);
	}
	pthread_mutex_unlock(&gw->lock);
	if (rc < 0)
		export_free(x);
	else if (out)
		*out = x;
	return rc;
}

/* A name within the store: IMAGE or IMAGE@SNAPSHOT; the library refuses what else is wrong. */
static struct export *from_store(struct gateway *gw, const char *name, char *why)
{
	size_t len = strlen(gw->store);
	char url[SUFFIX_LEN];
	struct export *x;

	if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) > 200) {
		export_refuse(why, -ENOENT, "'%.40s' names no image of %s", name, gw->store);
		return NULL;
	}
	snprintf(url, sizeof(url), "%s%s%s", gw->store, gw->store[len - 1] == ':' ? "" : "/", name);
	x = export_new(gw, name, url, &gw->defaults);
	if (!x)
		export_refuse(why, -ENOMEM, "out of memory");
	else
		append(gw, x);
	return x;
}

static int no_such(struct gateway *gw, const char *name, char *why)
{
	if (!gw->exports)
		return export_refuse(why, -ENOENT, "there is no export; give image=, export= or store=");
	if (!name[0])
		return export_refuse(why, -ENOENT, "name one of the exports: '%s', ...",
			gw->exports->name);
	return export_refuse(why, -ENOENT, "there is no export '%.80s' (there is '%.80s')", name,
		gw->exports->name);
}

int export_get(struct gateway *gw, const char *name, struct export **out, char *why)
{
	struct export *x;
	int rc = 0;

	why[0] = 0;
	pthread_mutex_lock(&gw->lock);
	x = find(gw, name);
	if (!x && gw->store)
		x = from_store(gw, name, why);
	if (x)
		x->users++;
	else
		rc = why[0] ? -ENOENT : no_such(gw, name, why);
	pthread_mutex_unlock(&gw->lock);
	*out = x;
	return rc;
}

/* x->lock is held. */
static int close_image(struct export *x, char *why)
{
	char text[LSVD_ERR_MAX] = "";
	int rc;

	if (!x->img)
		return 0;
	say_debug("close %s", x->url);
	rc = lsvd_image_close(x->img, text);
	x->img = NULL;
	free(x->tracing);
	x->tracing = NULL;
	if (rc < 0)
		say_error("close %s: %s", x->url, text);
	return rc < 0 && why ? export_refuse(why, rc, "close %.100s: %.380s", x->url, text) : rc;
}

void export_put(struct export *x)
{
	struct gateway *gw = x->gw;
	bool gone;

	pthread_mutex_lock(&gw->lock);
	gone = --x->users == 0 && (x->removed || (!x->configured && !x->img));
	if (gone)
		cut_out(gw, x);
	pthread_mutex_unlock(&gw->lock);
	if (gone)
		export_free(x);
}

int export_remove(struct gateway *gw, const char *name, char *why)
{
	struct export *x;
	int rc = 0;

	pthread_mutex_lock(&gw->lock);
	x = find(gw, name);
	if (!x)
		rc = export_refuse(why, -ENOENT, "there is no export '%.80s'", name);
	else if (x->users)
		rc = export_refuse(why, -EBUSY, "export '%.80s' is in use", name);
	if (rc == 0) {
		x->removed = true;
		x->users++;
	}
	pthread_mutex_unlock(&gw->lock);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&x->lock);
	rc = close_image(x, why);
	pthread_mutex_unlock(&x->lock);
	export_put(x);
	return rc;
}

/* ---- images ---- */

/* "%n" in a trace's path is the export's name; a slash in that becomes '_'. */
static void expand(const struct export *x, const char *path, char out[PATH_LEN])
{
	const char *p = strstr(path, "%n");
	char name[256];

	snprintf(name, sizeof(name), "%s", x->name);
	for (char *c = name; *c; c++)
		if (*c == '/')
			*c = '_';
	if (p)
		snprintf(out, PATH_LEN, "%.*s%s%s", (int)(p - path), path, name, p + 2);
	else
		snprintf(out, PATH_LEN, "%s", path);
}

/* x->lock is held. */
static int start_trace(struct export *x, const char *path, char *why)
{
	char expanded[PATH_LEN];
	char *copy = NULL;
	int rc;

	if (path) {
		expand(x, path, expanded);
		copy = strdup(expanded);
		if (!copy)
			return export_refuse(why, -ENOMEM, "out of memory");
	}
	rc = lsvd_image_trace(x->img, copy, why);
	free(x->tracing);
	x->tracing = rc == 0 ? copy : NULL;
	if (rc < 0)
		free(copy);
	return rc;
}

/* What an earlier opening recorded is kept: this one goes to FILE.2, FILE.3 ... */
static int trace_opening(struct export *x, char *why)
{
	char path[PATH_LEN];

	if (++x->traced == 1)
		return start_trace(x, x->opt.trace, why);
	snprintf(path, sizeof(path), "%.1000s.%u", x->opt.trace, x->traced);
	return start_trace(x, path, why);
}

/* x->lock is held. */
static int open_image(struct export *x, bool readonly, char *why)
{
	bool ro = readonly || x->opt.readonly || strchr(x->url, '@');
	unsigned flags = ro ? LSVD_OPEN_READONLY
			    : (x->opt.no_journal ? LSVD_OPEN_NO_JOURNAL : 0u) |
				      (x->opt.steal ? LSVD_OPEN_STEAL : 0u);
	struct lsvd_image_info info;
	int rc = lsvd_image_open(x->gw->ctx, x->url, flags, &x->img, why);

	if (rc < 0) {
		x->img = NULL;
		return rc;
	}
	x->img_readonly = ro;
	say_debug("open %s%s as '%s'", x->url, ro ? ", read only," : "", x->name);
	if (lsvd_image_info(x->img, &info) == 0 && info.taken_from[0])
		say_error("%s is taken over from %s", x->url, info.taken_from);
	if (x->opt.trace)
		rc = trace_opening(x, why);
	if (rc < 0)
		(void)close_image(x, NULL);
	return rc;
}

int export_attach(
	struct gateway *gw, const char *name, bool readonly, struct export **out, char *why)
{
	struct export *x;
	int rc = export_get(gw, name, &x, why);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&x->lock);
	if (!x->img)
		rc = open_image(x, readonly, why);
	if (rc == 0)
		x->connections++;
	pthread_mutex_unlock(&x->lock);
	if (rc < 0) {
		export_put(x);
		return rc;
	}
	*out = x;
	return 0;
}

void export_detach(struct export *x)
{
	pthread_mutex_lock(&x->lock);
	if (--x->connections == 0 && !x->opt.keep_open)
		(void)close_image(x, NULL);
	pthread_mutex_unlock(&x->lock);
	export_put(x);
}

int export_keep(struct export *x, char *why)
{
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	x->opt.keep_open = true;
	if (!x->img)
		rc = open_image(x, false, why);
	pthread_mutex_unlock(&x->lock);
	return rc;
}

int export_trace(struct export *x, const char *path, char *why)
{
	int rc;

	pthread_mutex_lock(&x->lock);
	if (!x->img)
		rc = export_refuse(why, -ENOTCONN,
			"nobody is connected to '%s', so there is nothing to record; trace= records "
			"from the first connection on",
			x->name);
	else if (!path && !x->tracing)
		rc = export_refuse(why, -ENOENT, "'%s' is not being recorded", x->name);
	else
		rc = start_trace(x, path, why);
	pthread_mutex_unlock(&x->lock);
	return rc;
}

/* ---- all of them ---- */

const char *exports_default(struct gateway *gw)
{
	const char *name = "";

	pthread_mutex_lock(&gw->lock);
	for (struct export *x = gw->exports; x && !name[0]; x = x->next)
		if (x->configured && !x->removed)
			name = say_intern(x->name);
	pthread_mutex_unlock(&gw->lock);
	return name;
}

struct listing {
	struct gateway *gw;
	int (*fn)(void *arg, const char *name, const char *url);
	void *arg;
};

static int list_image(void *arg, const char *name)
{
	struct listing *l = arg;
	char url[SUFFIX_LEN];
	struct export *x;
	bool listed;

	pthread_mutex_lock(&l->gw->lock);
	x = find(l->gw, name);
	listed = x && x->configured;
	pthread_mutex_unlock(&l->gw->lock);
	if (listed)
		return 0;
	snprintf(url, sizeof(url), "%s/%s", l->gw->store, name);
	return l->fn(l->arg, name, url);
}

int exports_list(struct gateway *gw, int (*fn)(void *arg, const char *name, const char *url),
	void *arg, char *why)
{
	struct listing l = {.gw = gw, .fn = fn, .arg = arg};
	int rc = 0;

	pthread_mutex_lock(&gw->lock);
	for (struct export *x = gw->exports; x && rc == 0; x = x->next)
		if (x->configured && !x->removed)
			rc = fn(arg, x->name, x->url);
	pthread_mutex_unlock(&gw->lock);
	if (rc == 0 && gw->store)
		rc = lsvd_image_list(gw->ctx, gw->store, list_image, &l, why);
	return rc;
}

int exports_open(struct gateway *gw, char *why)
{
	int rc = lsvd_ctx_open(gw->cfg, LSVD_DRIVE_THREAD, &gw->ctx, why);

	if (rc == 0) {
		rc = lsvd_ctx_open_pool(gw->ctx, why);
		if (rc < 0) {
			lsvd_ctx_close(gw->ctx);
			gw->ctx = NULL;
		}
	}
	return rc;
}

void exports_close(struct gateway *gw)
{
	while (gw->exports) {
		struct export *x = gw->exports;

		gw->exports = x->next;
		(void)close_image(x, NULL);
		export_free(x);
	}
	gw->last = &gw->exports;
	if (gw->ctx)
		lsvd_ctx_close(gw->ctx);
	gw->ctx = NULL;
	lsvd_config_free(gw->cfg);
	gw->cfg = NULL;
}
