/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plugin.c - nbdkit's calls, carried to exports.c (which image) and request.c (one request).
 *
 * nbdkit reads its parameters, forks, and calls after_fork(), where the context with its pool is
 * opened: threads and io_urings do not survive a fork.  Each connection then holds an export, which
 * is its image; up to --threads requests a connection come at once, each on a thread of nbdkit's that
 * sleeps until the library has done it.  Bytes go from nbdkit's buffer to the journal's ring, and from
 * the pool's memory to nbdkit's buffer, with one copy each.
 *
 * All connections of an export share one open image, so that a flush on one covers what was
 * acknowledged on any: that is what NBD's multi-conn asks for.
 *
 * On SIGTERM nbdkit lets requests and connections end, then calls cleanup(): images that are still
 * open are closed, which destages what is dirty.  After a kill -9 it is in the pool's journal, and the
 * next opening brings it in.
 */
#include "gateway/plugin/control.h"
#include "gateway/plugin/exports.h"
#include "gateway/plugin/params.h"
#include "gateway/plugin/request.h"
#include "gateway/plugin/say.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* What block_size says; EXTENTS_MAX: runs told by one request. */
enum { MINIMUM = 512, PREFERRED = 4096, MAXIMUM = 32 << 20, EXTENTS_MAX = 8192 };

static struct gateway gw;
static struct params params = {.gw = &gw};
static struct control *control;

/* ---- say.h ---- */

void say_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	nbdkit_verror(fmt, ap);
	va_end(ap);
}

void say_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	nbdkit_vdebug(fmt, ap);
	va_end(ap);
}

const char *say_intern(const char *text)
{
	return nbdkit_strdup_intern(text);
}

static void tell_operator(void *arg, const char *text)
{
	(void)arg;
	nbdkit_error("%s", text);
}

/* NBD has few errors; what it lacks is EIO rather than EINVAL. */
static int fail(int rc)
{
	switch (-rc) {
	case EPERM:
	case EROFS:
	case EIO:
	case ENOMEM:
	case EINVAL:
	case ENOSPC:
	case EOVERFLOW:
	case EOPNOTSUPP:
	case ESHUTDOWN:
		nbdkit_set_error(-rc);
		break;
	default:
		nbdkit_set_error(EIO);
	}
	return -1;
}

static int told(int rc, const char *why)
{
	if (rc < 0)
		nbdkit_error("%s", why[0] ? why : strerror(-rc));
	return rc < 0 ? fail(rc) : 0;
}

/* ---- the server's life ---- */

static void lsvd_load(void)
{
	gateway_init(&gw);
	lsvd_set_log(tell_operator, NULL);
}

static int lsvd_config(const char *key, const char *value)
{
	char why[LSVD_ERR_MAX];

	return told(params_set(&params, key, value, why), why);
}

static int lsvd_config_complete(void)
{
	char why[LSVD_ERR_MAX];

	return told(params_check(&params, why), why);
}

static int lsvd_after_fork(void)
{
	char why[LSVD_ERR_MAX] = "";
	int rc = exports_open(&gw, why);

	if (rc == 0 && params.control) {
		rc = control_open(&gw, params.control, &control, why);
		if (rc < 0)
			exports_close(&gw);
	}
	return told(rc, why);
}

static void lsvd_cleanup(void)
{
	if (control)
		control_close(control);
	control = NULL;
	exports_close(&gw);
}

static void lsvd_dump_plugin(void)
{
	printf("lsvd_version=%s\n", lsvd_version());
}

/* ---- exports ---- */

static int tell_export(void *arg, const char *name, const char *url)
{
	return nbdkit_add_export(arg, name, url);
}

static int lsvd_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
	char why[LSVD_ERR_MAX] = "";

	(void)readonly;
	(void)is_tls;
	return told(exports_list(&gw, tell_export, exports, why), why);
}

static const char *lsvd_default_export(int readonly, int is_tls)
{
	(void)readonly;
	(void)is_tls;
	return exports_default(&gw);
}

static void *lsvd_open(int readonly)
{
	char why[LSVD_ERR_MAX] = "";
	struct export *x;

	if (told(export_attach(&gw, nbdkit_export_name(), readonly, &x, why), why) < 0)
		return NULL;
	return x;
}

static void lsvd_close(void *handle)
{
	export_detach(handle);
}

static const char *lsvd_export_description(void *handle)
{
	const struct export *x = handle;
	char text[700];

	snprintf(text, sizeof(text), "LSVD image %s%s", x->url,
		x->img_readonly ? " (read-only)" : "");
	return nbdkit_strdup_intern(text);
}

static int64_t lsvd_get_size(void *handle)
{
	return (int64_t)lsvd_image_size(((struct export *)handle)->img);
}

static int lsvd_block_size(
	void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = MINIMUM;
	*preferred = PREFERRED;
	*maximum = MAXIMUM;
	return 0;
}

static int lsvd_can_write(void *handle)
{
	return !((struct export *)handle)->img_readonly;
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int no(void *handle)
{
	(void)handle;
	return 0;
}

static int native_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

/* nbdkit reads into memory that nobody looks at, which fills the read cache. */
static int emulated_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_EMULATE;
}

/* ---- requests ---- */

static int check(const struct export *x, const char *what, uint32_t count, uint64_t offset)
{
	if ((count | offset) % MINIMUM == 0)
		return 0;
	nbdkit_error("%s: %s of %u bytes at %llu is not of whole sectors of %d bytes; such clients "
		     "need nbdkit --filter=blocksize ... minblock=%d",
		x->name, what, count, (unsigned long long)offset, MINIMUM, MINIMUM);
	nbdkit_set_error(EINVAL);
	return -1;
}

static int request(void *handle, enum lsvd_op op, unsigned flags, void *buf, uint64_t count,
	uint64_t offset)
{
	struct export *x = handle;
	int rc = request_do(x->img, op, flags, buf, count, offset);

	if (rc == 0)
		return 0;
	nbdkit_error("%s: %s", x->name, strerror(-rc));
	return fail(rc);
}

static int lsvd_nbd_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	if (check(handle, "a read", count, offset) < 0)
		return -1;
	return request(handle, LSVD_READ, 0, buf, count, offset);
}

static int lsvd_nbd_pwrite(
	void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	if (check(handle, "a write", count, offset) < 0)
		return -1;
	return request(handle, LSVD_WRITE, flags & NBDKIT_FLAG_FUA ? LSVD_FUA : 0,
		(void *)(uintptr_t)buf, count, offset);
}

static int lsvd_nbd_flush(void *handle, uint32_t flags)
{
	(void)flags;
	return request(handle, LSVD_FLUSH, 0, NULL, 0, 0);
}

static int unmap(void *handle, enum lsvd_op op, uint64_t count, uint64_t offset, uint32_t flags)
{
	int rc = request(handle, op, 0, NULL, count, offset);

	return rc == 0 && flags & NBDKIT_FLAG_FUA ? lsvd_nbd_flush(handle, 0) : rc;
}

/* Advice: the whole sectors within the range. */
static int lsvd_nbd_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	uint64_t from = (offset + MINIMUM - 1) / MINIMUM * MINIMUM,
		 to = (offset + count) / MINIMUM * MINIMUM;

	return from < to ? unmap(handle, LSVD_DISCARD, to - from, from, flags) : 0;
}

/* What is discarded reads as zeroes; neither writes data, so both are fast. */
static int lsvd_nbd_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	if (check(handle, "zeroing", count, offset) < 0)
		return -1;
	return unmap(handle, flags & NBDKIT_FLAG_MAY_TRIM ? LSVD_DISCARD : LSVD_WRITE_ZEROES, count,
		offset, flags);
}

struct telling {
	struct nbdkit_extents *extents;
	uint64_t at; /* told up to here */
	unsigned told;
	bool one; /* the client asked for the first extent only */
};

static int tell_hole(struct telling *t, uint64_t to)
{
	if (to > t->at && nbdkit_add_extent(t->extents, t->at, to - t->at,
				  NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) < 0)
		return -1;
	t->at = to;
	return 0;
}

/* -1: failed; 1: enough. */
static int tell_data(void *arg, uint64_t offset, uint64_t len)
{
	struct telling *t = arg;
	bool gap = offset > t->at;

	if (gap && tell_hole(t, offset) < 0)
		return -1;
	if (gap && t->one)
		return 1;
	if (nbdkit_add_extent(t->extents, offset, len, 0) < 0)
		return -1;
	t->at = offset + len;
	return ++t->told == EXTENTS_MAX;
}

static int lsvd_nbd_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
	struct nbdkit_extents *extents)
{
	struct export *x = handle;
	uint64_t from = offset / MINIMUM * MINIMUM,
		 to = (offset + count + MINIMUM - 1) / MINIMUM * MINIMUM;
	struct telling t = {
		.extents = extents, .at = from, .one = flags & NBDKIT_FLAG_REQ_ONE};
	int rc = lsvd_image_extents(x->img, from, to - from, tell_data, &t);

	if (rc == 0)
		rc = tell_hole(&t, to);
	if (rc < -1) {
		nbdkit_error("%s: extents: %s", x->name, strerror(-rc));
		return fail(rc);
	}
	return rc < 0 ? -1 : 0;
}

static struct nbdkit_plugin plugin = {
	.name = "lsvd",
	.longname = "LSVD images",
	.version = LSVD_VERSION,
	.description = "log-structured virtual disks: many images, one pool, one read cache",
	.load = lsvd_load,
	.config = lsvd_config,
	.config_complete = lsvd_config_complete,
	.config_help = params_help,
	.magic_config_key = "image",
	.dump_plugin = lsvd_dump_plugin,
	.after_fork = lsvd_after_fork,
	.cleanup = lsvd_cleanup,
	.list_exports = lsvd_list_exports,
	.default_export = lsvd_default_export,
	.export_description = lsvd_export_description,
	.open = lsvd_open,
	.close = lsvd_close,
	.get_size = lsvd_get_size,
	.block_size = lsvd_block_size,
	.can_write = lsvd_can_write,
	.can_flush = yes,
	.is_rotational = no,
	.can_trim = yes,
	.can_zero = yes,
	.can_fast_zero = yes,
	.can_extents = yes,
	.can_fua = native_fua,
	.can_multi_conn = yes,
	.can_cache = emulated_cache,
	.pread = lsvd_nbd_pread,
	.pwrite = lsvd_nbd_pwrite,
	.flush = lsvd_nbd_flush,
	.trim = lsvd_nbd_trim,
	.zero = lsvd_nbd_zero,
	.extents = lsvd_nbd_extents,
	.errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
