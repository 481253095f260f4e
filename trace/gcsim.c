/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gcsim.c - see gcsim.h.
 *
 *   image -> cache, journal -> pool in memory      } on the simulated loop
 *         -> headstore -> memory: headers only
 *
 * Nothing takes time here, so nothing would keep the writes from running ahead of what is done in
 * the background: after every MiB they wait until all of it has come to rest, and 5 ms pass, as if
 * some 200 MB/s were written: garbage collection moves a share of what is written.
 */
#include "trace/gcsim.h"
#include "image/context.h"
#include "sys/bdev.h"
#include "sys/loop_sim.h"
#include "trace/file.h"
#include "trace/headstore.h"
#include "trace/import.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 8, DATA_BYTES = 1 << 20, LOOK_BYTES = 1 << 20, LOOK_NS = 5000000 };

static const uint64_t pool_bytes = 256ull << 20;

struct gcsim {
	struct loop *loop;
	struct mem_objects *objects;
	struct store *store;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	uint64_t size, object_bytes;
	struct lsvd_io io[DEPTH];
	struct iovec iov[DEPTH];
	struct lsvd_io *idle[DEPTH];
	unsigned nidle;
	int status;
	uint64_t requests, bytes, looked_at, peak_stored;
	void *zeroes;
};

static void on_done(struct lsvd_io *io)
{
	struct gcsim *g = io->user;

	if (io->status && !g->status)
		g->status = io->status;
	g->idle[g->nidle++] = io;
}

static int prepare_config(struct gcsim *g, const struct gcsim_options *opt, struct err *e)
{
	struct config c;
	int rc = lsvd_config_set(opt->cfg, "durability", "journal", e->msg);

	/* The pool stands in for any: what is dirty in it is held down anyway. */
	if (rc == 0)
		rc = lsvd_config_set(opt->cfg, "pool.segment", "4M", e->msg);
	if (rc == 0)
		rc = lsvd_config_set(opt->cfg, "trace.path", "", e->msg);
	if (rc == 0)
		rc = lsvd_config_set(opt->cfg, "writer.check_ms", "0", e->msg);
	if (rc == 0)
		rc = config_resolve(opt->cfg, "mem:gcsim", &c, e);
	if (rc == 0)
		g->object_bytes = c.object_bytes;
	return rc;
}

static int open_pool(struct gcsim *g, const struct gcsim_options *opt, struct err *e)
{
	struct bdev *leg;
	char url[32];
	uint64_t bytes = pool_bytes;
	int rc;

	if (bytes < 16 * g->object_bytes)
		bytes = 16 * g->object_bytes;
	snprintf(url, sizeof(url), "mem:%" PRIu64, bytes);
	rc = bdev_open(g->loop, url, 0, 0, &leg, NULL, e);
	if (rc < 0)
		return rc;
	rc = ctx_open_on(g->loop, opt->cfg, &leg, 1, &g->ctx, e);
	if (rc < 0)
		bdev_close(leg);
	return rc;
}

static int open_store(struct gcsim *g)
{
	struct store *inner;
	int rc = mem_objects_new(&g->objects);

	if (rc == 0)
		rc = store_mem_on(g->loop, g->objects, &inner);
	if (rc < 0)
		return rc;
	rc = headstore_new(inner, &g->store);
	if (rc < 0)
		store_close(inner);
	return rc;
}

static int open_all(struct gcsim *g, const struct gcsim_options *opt, struct err *e)
{
	int rc = prepare_config(g, opt, e);

	g->zeroes = calloc(1, DATA_BYTES);
	for (unsigned i = 0; i < DEPTH; i++) {
		g->io[i].user = g;
		g->io[i].cb = on_done;
		g->idle[g->nidle++] = &g->io[i];
	}
	if (rc == 0)
		rc = loop_sim_new(opt->seed, &g->loop, e);
	if (rc == 0)
		rc = g->zeroes ? open_store(g) : -ENOMEM;
	if (rc == 0)
		rc = open_pool(g, opt, e);
	if (rc == 0)
		rc = ctx_image_create(g->ctx, g->store, "gcsim", opt->size_bytes, e);
	return rc < 0 ? rc : ctx_image_open(g->ctx, g->store, "gcsim", 0, &g->img, e);
}

int gcsim_new(const struct gcsim_options *opt, struct gcsim **out, struct err *e)
{
	struct gcsim *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->size = opt->size_bytes;
	rc = open_all(g, opt, e);
	if (rc < 0) {
		gcsim_free(g);
		return err_wrap(e, rc, "simulated volume");
	}
	*out = g;
	return 0;
}

void gcsim_free(struct gcsim *g)
{
	if (!g)
		return;
	if (g->img)
		lsvd_image_close(g->img, NULL);
	if (g->ctx)
		lsvd_ctx_close(g->ctx);
	if (g->store)
		store_close(g->store);
	if (g->objects)
		mem_objects_free(g->objects);
	if (g->loop)
		loop_free(g->loop);
	free(g->zeroes);
	free(g);
}

/* ---- requests ---- */

static int turn(struct gcsim *g)
{
	if (lsvd_poll(g->ctx, -1) < 0)
		return -EIO;
	return g->status;
}

/* Run what runs in the background until nothing is left to do; time stands still meanwhile. */
static int settle(struct gcsim *g)
{
	int rc = g->status, n = 1;

	while (rc == 0 && n > 0) {
		n = lsvd_poll(g->ctx, 0);
		rc = n < 0 ? -EIO : g->status;
	}
	return rc;
}

static int pass_time(struct gcsim *g, uint64_t ns)
{
	uint64_t end = loop_now(g->loop) + ns;
	int rc = settle(g);

	while (rc == 0 && loop_now(g->loop) < end) {
		uint64_t now = loop_now(g->loop);

		if (lsvd_poll(g->ctx, (int64_t)(end - now)) < 0)
			return -EIO;
		if (loop_now(g->loop) == now)
			break; /* nothing will ever happen */
		rc = settle(g);
	}
	return rc;
}

/* Let the background catch up, and note how much is stored. */
static int catch_up(struct gcsim *g)
{
	struct lsvd_image_info info;
	int rc = pass_time(g, LOOK_NS);

	if (rc == 0)
		rc = lsvd_image_info(g->img, &info);
	if (rc == 0 && info.stored_bytes > g->peak_stored)
		g->peak_stored = info.stored_bytes;
	g->looked_at = g->bytes;
	return rc;
}

static int submit_one(struct gcsim *g, enum lsvd_op op, uint64_t off, uint64_t len)
{
	struct lsvd_io *io;
	int rc = g->bytes - g->looked_at >= LOOK_BYTES ? catch_up(g) : g->status;

	while (rc == 0 && !g->nidle)
		rc = turn(g);
	if (rc < 0)
		return rc;
	io = g->idle[--g->nidle];
	io->op = op;
	io->offset_bytes = off;
	io->len_bytes = len;
	io->iov = &g->iov[io - g->io];
	io->iovcnt = op == LSVD_WRITE;
	g->iov[io - g->io] = (struct iovec){g->zeroes, len};
	rc = lsvd_submit(g->img, io);
	if (rc < 0)
		g->idle[g->nidle++] = io;
	else if (op == LSVD_WRITE)
		g->bytes += len;
	return rc;
}

int gcsim_request(struct gcsim *g, const struct trace_record *r, struct err *e)
{
	uint64_t at = r->offset_bytes / 512 * 512,
		 end = (r->offset_bytes + r->len_bytes + 511) / 512 * 512, n;
	enum lsvd_op op = r->op == TRACE_DISCARD	? LSVD_DISCARD
			  : r->op == TRACE_WRITE_ZEROES ? LSVD_WRITE_ZEROES
							: LSVD_WRITE;
	int rc = 0;

	if (r->op == TRACE_READ || r->op == TRACE_FLUSH || !r->len_bytes)
		return 0;
	if (end > g->size)
		return err_set(e, -ERANGE,
			"a request reaches %" PRIu64 ", beyond the image of %" PRIu64 " bytes", end,
			g->size);
	for (; rc == 0 && at < end; at += n) {
		n = op == LSVD_WRITE && end - at > DATA_BYTES ? DATA_BYTES : end - at;
		rc = submit_one(g, op, at, n);
	}
	g->requests++;
	return rc < 0 ? err_set(e, rc, "simulated volume: %s", strerror(-rc)) : 0;
}

static int come_to_rest(struct gcsim *g)
{
	int rc = 0;

	while (rc == 0 && g->nidle < DEPTH)
		rc = turn(g);
	if (rc == 0)
		rc = lsvd_image_drain(g->img);
	return rc < 0 ? rc : settle(g);
}

int gcsim_finish(struct gcsim *g, struct gcsim_result *out, struct err *e)
{
	struct lsvd_image_info info;
	struct lsvd_stats st;
	int rc = come_to_rest(g);

	if (rc == 0)
		rc = lsvd_image_stats(g->img, &st);
	if (rc == 0)
		rc = lsvd_image_info(g->img, &info);
	if (rc < 0)
		return err_set(e, rc, "simulated volume: %s", strerror(-rc));
	*out = (struct gcsim_result){.requests = g->requests,
		.write_bytes = st.write_bytes,
		.merged_bytes =
			st.write_bytes > st.batch_bytes ? st.write_bytes - st.batch_bytes : 0,
		.gc_bytes = st.gc_bytes,
		.gc_objects = st.gc_objects,
		.put_bytes = st.put_bytes,
		.puts = st.puts,
		.gets = st.gets,
		.get_bytes = st.get_bytes,
		.deletes = st.deletes,
		.objects = info.objects,
		.stored_bytes = info.stored_bytes,
		.live_bytes = info.live_bytes,
		.peak_stored_bytes = g->peak_stored,
		.extents = info.extents,
		.map_bytes = ctx_image_map_bytes(g->img)};
	if (st.write_bytes) {
		out->write_amplification =
			(double)(st.batch_bytes + st.gc_bytes) / (double)st.write_bytes;
		out->merge_ratio = (double)out->merged_bytes / (double)st.write_bytes;
	}
	return 0;
}

/* ---- reading a trace as it comes ---- */

int gcsim_each(const char *path, const char *file,
	int (*fn)(void *arg, const struct trace_record *r, struct err *e), void *arg, struct err *e)
{
	struct trace_import_options opt = {.volume = file};
	struct trace_import *in;
	struct trace_record r;
	uint64_t size;
	int rc = trace_import_open(path, &opt, &in, e);

	if (rc < 0)
		return rc;
	trace_import_done(in, &size);
	if (!size)
		rc = err_set(e, -EINVAL, "'%s' must be a file: it is read more than once", path);
	while (rc >= 0 && (rc = trace_import_next(in, &r, e)) > 0)
		rc = fn(arg, &r, e);
	trace_import_close(in);
	return rc;
}
