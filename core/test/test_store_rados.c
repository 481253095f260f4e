/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_store_rados.c - what only RADOS stores have: callers' ioctxs, one connection for all,
 * threads that end with it. The cluster is the one of $CEPH_CONF; LSVD_TEST_RADOS names a pool of
 * it.
 */
#include "lsvd.h"
#include "sys/loop_uring.h"
#include "test/store_util.h"
#include "test/test.h"

#ifdef HAVE_RADOS
#include "store/rados_impl.h"

#include <dirent.h>
#include <errno.h>
#include <unistd.h>

static char why[LSVD_ERR_MAX];

static const char *pool(void)
{
	const char *p = getenv("LSVD_TEST_RADOS");

	if (!p || !*p)
		SKIP("LSVD_TEST_RADOS does not name a pool");
	return p;
}

static int threads(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Threads of librados take a moment to end. */
static void assert_threads(int n)
{
	for (int i = 0; i < 200 && threads() != n; i++)
		usleep(10000);
	assert_int_equal(threads(), n);
}

static struct loop *new_loop(void)
{
	struct loop *l;

	assert_int_equal(loop_uring_new(64, &l, &util_err), 0);
	return l;
}

TEST(stores_share_a_connection_and_the_last_ends_it)
{
	const char *p = pool(); /* it may skip: before anything is allocated */
	char url[300];
	struct loop *l = new_loop();
	struct store *a, *b;
	int before, one;

	snprintf(url, sizeof(url), "rados:%s/share", p);
	a = util_open(l, url, 0); /* some threads of librados, once begun, stay */
	store_close(a);
	before = threads();
	a = util_open(l, url, 0);
	one = threads();
	assert_true(one > before);
	b = util_open(l, url, 0);
	assert_int_equal(threads(), one);
	assert_int_equal(util_lock(a, "x", "me"), 0);
	assert_int_equal(util_put(a, "x/1", "one", 3), 0);
	store_close(a);
	assert_string_equal(util_list(b, ""), "x/1:3 ");
	assert_int_equal(util_lock(b, "x", "me"), 0);
	assert_int_equal(util_delete(b, "x/1"), 0);
	store_close(b);
	assert_threads(before);
	loop_free(l);
}

static rados_ioctx_t connect_ourselves(rados_t *cluster, const char *ns)
{
	rados_ioctx_t io;

	assert_int_equal(rados_load(&util_err), 0);
	assert_int_equal(librados.create2(cluster, "ceph", "client.admin", 0), 0);
	assert_int_equal(librados.conf_read_file(*cluster, NULL), 0);
	assert_int_equal(librados.connect(*cluster), 0);
	assert_int_equal(librados.ioctx_create(*cluster, pool(), &io), 0);
	librados.ioctx_set_namespace(io, ns);
	return io;
}

static void use_image(struct lsvd_ctx *ctx, const char *url)
{
	char out[4096], in[4096];
	struct lsvd_image *img;

	memset(out, 0x5a, sizeof(out));
	assert_int_equal(lsvd_image_create(ctx, url, 1 << 20, why), 0);
	assert_int_equal(lsvd_image_open(ctx, url, 0, &img, why), 0);
	assert_int_equal(lsvd_pwrite(img, out, sizeof(out), 8192), 0);
	assert_int_equal(lsvd_image_close(img, why), 0);
	assert_int_equal(lsvd_image_open(ctx, url, LSVD_OPEN_READONLY, &img, why), 0);
	assert_int_equal(lsvd_pread(img, in, sizeof(in), 8192), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(lsvd_image_close(img, why), 0);
	assert_int_equal(lsvd_image_remove(ctx, url, why), 0);
}

TEST(a_callers_ioctx_is_used)
{
	const char *p = pool();
	struct lsvd_config *cfg = lsvd_config_defaults();
	struct lsvd_ctx *ctx;
	char url[300], image[320];
	rados_t cluster;
	rados_ioctx_t io;

	snprintf(url, sizeof(url), "rados:%s/callers", p);
	snprintf(image, sizeof(image), "%s/vm", url);
	io = connect_ourselves(&cluster, "callers");
	/* no other connection can be made with this */
	assert_int_equal(lsvd_config_set(cfg, "rados.conf", "/nonexistent", why), 0);
	assert_int_equal(lsvd_config_set(cfg, "pool.path", "mem:64M", why), 0);
	assert_int_equal(lsvd_ctx_open(cfg, LSVD_DRIVE_INLINE, &ctx, why), 0);
	assert_true(lsvd_image_create(ctx, image, 1 << 20, why) < 0);
	assert_int_equal(lsvd_ctx_rados_ioctx(ctx, "rados:other/callers", io, why), -EINVAL);
	assert_non_null(strstr(why, url));
	assert_int_equal(lsvd_ctx_rados_ioctx(ctx, "file:/tmp", io, why), -EINVAL);
	assert_int_equal(lsvd_ctx_rados_ioctx(ctx, url, io, why), 0);
	librados.ioctx_destroy(io); /* ours have the same, but are others */
	use_image(ctx, image);
	lsvd_ctx_close(ctx);
	librados.shutdown(cluster);
	lsvd_config_free(cfg);
}

#else

TEST(rados)
{
	SKIP("built without librados-dev");
}

#endif
