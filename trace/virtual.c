/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtual.c - see virtual.h.
 *
 *   image -> cache, journal -> pool -> bdev_sim            } on the simulated loop
 *         -> model -> overlay (memory) ------> real store    on a real loop, read by blocking
 */
#include "trace/virtual.h"
#include "image/context.h"
#include "store/overlay.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"

#include <errno.h>
#include <stdlib.h>

/* The pool's disk: an NVMe drive of the middle class. */
static const struct sim_disk_model ssd = {.read_ns = 80000,
	.write_ns = 20000,
	.flush_ns = 500000,
	.bytes_per_s = 2000000000,
	.parallel = 32};

struct virtual
{
	struct loop *real, *sim;
	struct store *store;
	struct sim_disk *disk;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	char name[65];
};

static int open_store(struct virtual *v, const struct virtual_options *o, struct err *e)
{
	struct store *lower;
	int rc = loop_uring_new(64, &v->real, e);

	if (rc == 0)
		rc = store_open_image(
			v->real, o->cfg, o->url, 0, &lower, v->name, sizeof(v->name), e);
	if (rc < 0)
		return rc;
	rc = store_overlay_model(v->sim, lower, o->model, &v->store, e);
	if (rc < 0)
		store_close(lower);
	return rc;
}

static int open_ctx(struct virtual *v, const struct virtual_options *o, struct err *e)
{
	struct config c;
	struct bdev *leg;
	/* Nobody else is there to take the image, and figures do not depend on time that passes. */
	int rc = lsvd_config_set(o->cfg, "writer.check_ms", "0", e->msg);

	if (rc == 0)
		rc = config_resolve(o->cfg, o->url, &c, e);
	if (rc < 0)
		return rc;
	if (sim_disk_new(c.pool_size_bytes, &ssd, &v->disk) < 0 ||
		sim_disk_open(v->disk, v->sim, &leg) < 0)
		return err_set(e, -ENOMEM, "simulated pool: out of memory");
	rc = ctx_open_on(v->sim, o->cfg, &leg, 1, &v->ctx, e);
	if (rc < 0)
		bdev_close(leg);
	return rc;
}

int virtual_open(const struct virtual_options *opt, struct virtual **out, struct err *e)
{
	struct virtual *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	rc = loop_sim_new(opt->seed, &v->sim, e);
	if (rc == 0)
		rc = open_store(v, opt, e);
	if (rc == 0)
		rc = open_ctx(v, opt, e);
	if (rc == 0)
		rc = ctx_image_open(v->ctx, v->store, v->name, 0, &v->img, e);
	if (rc < 0) {
		virtual_close(v);
		return err_wrap(e, rc, "open '%s' in virtual time", opt->url);
	}
	*out = v;
	return 0;
}

struct lsvd_ctx *virtual_ctx(struct virtual *v)
{
	return v->ctx;
}
struct lsvd_image *virtual_image(struct virtual *v)
{
	return v->img;
}
uint64_t virtual_now(void *arg)
{
	return loop_now(((struct virtual *)arg)->sim);
}

int virtual_reopen(struct virtual *v, struct err *e)
{
	int rc = lsvd_image_close(v->img, e ? e->msg : NULL);

	v->img = NULL;
	return rc < 0 ? rc : ctx_image_open(v->ctx, v->store, v->name, 0, &v->img, e);
}

void virtual_close(struct virtual *v)
{
	if (!v)
		return;
	if (v->img)
		lsvd_image_close(v->img, NULL); /* what it writes is forgotten anyway */
	if (v->ctx)
		lsvd_ctx_close(v->ctx);
	if (v->disk)
		sim_disk_free(v->disk);
	store_close(v->store);
	if (v->sim)
		loop_free(v->sim);
	if (v->real)
		loop_free(v->real);
	free(v);
}
