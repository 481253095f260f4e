/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image.c - one open image: opening, closing, what it knows about itself.
 */
#include "image/image_impl.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFETCH_GET_BYTES = 8 << 20 };

/* ---- how readahead and prefetch see the map ---- */

struct resolving {
	void (*fn)(void *arg, const struct object_ref *ref, uint64_t lba, uint64_t off_bytes,
		uint64_t len_bytes);
	void *arg;
	struct lsvd_image *img;
};

static void resolve_objects(struct resolving *r, uint64_t lba, uint64_t len)
{
	struct volume_hit h;
	struct object_ref ref;

	while (len && volume_find(r->img->vol, lba, len, &h)) {
		volume_ref(r->img->vol, h.slot, &ref);
		r->fn(r->arg, &ref, h.lba, (uint64_t)h.off * 512, h.len * 512);
		len -= h.lba + h.len - lba;
		lba = h.lba + h.len;
	}
}

static void resolve(struct cache_resolver *cr, uint64_t lba, uint64_t len,
	void (*fn)(void *arg, const struct object_ref *ref, uint64_t lba, uint64_t off_bytes,
		uint64_t len_bytes),
	void *arg)
{
	struct lsvd_image *img =
		(struct lsvd_image *)(void *)((char *)cr - offsetof(struct lsvd_image, resolver));
	struct resolving r = {.fn = fn, .arg = arg, .img = img};
	struct journal *j = volume_journal(img->vol);
	struct journal_hit h;

	while (len && j && journal_find(j, lba, len, &h)) {
		resolve_objects(&r, lba, h.lba - lba);
		len -= h.lba + h.len - lba;
		lba = h.lba + h.len;
	}
	resolve_objects(&r, lba, len);
}

/* ---- opening ---- */

void image_free(struct lsvd_image *img)
{
	if (img->prefetch)
		prefetch_free(img->prefetch);
	if (img->readahead)
		readahead_free(img->readahead);
	parts_fini(img);
	free(img->trace_path);
	free(img);
}

static int start_ahead(struct lsvd_image *img)
{
	struct profile_range *ranges = NULL;
	uint32_t n = 0;
	int rc;

	img->resolver = (struct cache_resolver){
		.resolve = resolve, .size_sectors = volume_size_sectors(img->vol)};
	if (img->cfg.readahead_bytes) {
		img->readahead =
			readahead_new(img->ctx->cache, &img->resolver, img->cfg.readahead_bytes);
		if (!img->readahead)
			return -ENOMEM;
	}
	if (!img->cfg.prefetch_enabled)
		return 0;
	/* It is advice: without it, or with a damaged one, nothing is fetched ahead. */
	rc = volume_profile(img->vol, &ranges, &n, NULL);
	if (rc != -ENOMEM)
		rc = 0;
	if (rc == 0 && n) {
		img->prefetch = prefetch_new(img->ctx->cache, &img->resolver, ranges, n,
			img->cfg.prefetch_ahead_bytes, img->cfg.prefetch_depth, PREFETCH_GET_BYTES);
		if (!img->prefetch)
			rc = -ENOMEM;
	}
	free(ranges);
	return rc;
}

/* "%n" in trace.path is the image's name. */
static void expand_trace_path(const struct lsvd_image *img, char *out, size_t len)
{
	const char *p = strstr(img->cfg.trace_path, "%n");

	if (p)
		snprintf(out, len, "%.*s%s%s", (int)(p - img->cfg.trace_path), img->cfg.trace_path,
			img->name, p + 2);
	else
		snprintf(out, len, "%s", img->cfg.trace_path);
}

static struct lsvd_image *find_open(
	const struct lsvd_ctx *ctx, const struct store *s, const char *name)
{
	for (struct lsvd_image *i = ctx->images; i; i = i->next)
		if (!strcmp(i->name, name) && !strcmp(i->store->url, s->url) &&
			!(i->flags & LSVD_OPEN_READONLY))
			return i;
	return NULL;
}

static int open_volume(struct lsvd_image *img, struct err *e)
{
	struct lsvd_ctx *ctx = img->ctx;
	struct volume_params p = {
		.loop = ctx->loop, .store = img->store, .config = &img->cfg, .name = img->name};
	int rc;

	if (img->flags & LSVD_OPEN_READONLY)
		rc = ctx_need_cache(ctx, e);
	else
		rc = ctx_need_pool(ctx, e);
	if (rc < 0)
		return rc;
	p.pool = ctx->pool;
	p.cache = ctx->cache;
	p.snapshot = img->snapshot[0] ? img->snapshot : NULL;
	p.flags = (img->flags & LSVD_OPEN_READONLY ? VOLUME_READONLY : 0u) |
		  (img->flags & LSVD_OPEN_NO_JOURNAL ? VOLUME_NO_JOURNAL : 0u) |
		  (img->flags & LSVD_OPEN_STEAL ? VOLUME_STEAL : 0u) |
		  (img->flags & LSVD_OPEN_OLD_JOURNAL ? VOLUME_OLD_JOURNAL : 0u);
	return volume_open(&p, &img->vol, e);
}

int ctx_image_open(struct lsvd_ctx *ctx, struct store *s, const char *name, unsigned flags,
	struct lsvd_image **out, struct err *e)
{
	char path[512], plain[IMAGE_NAME_MAX], snapshot[SNAPSHOT_NAME_MAX];
	struct lsvd_image *img;
	int rc = image_split_snapshot(name, plain, sizeof(plain), snapshot, e);

	if (rc < 0)
		return rc;
	if (snapshot[0] && !(flags & LSVD_OPEN_READONLY))
		return err_set(e, -EROFS,
			"'%s' is a snapshot: it can only be read; clone it to write to it", name);
	if (!(flags & LSVD_OPEN_READONLY) && find_open(ctx, s, plain))
		return err_set(e, -EBUSY, "image '%s' is open in this process already", plain);
	img = calloc(1, sizeof(*img));
	if (!img)
		return -ENOMEM;
	memcpy(img->snapshot, snapshot, sizeof(snapshot));
	img->ctx = ctx;
	img->store = s;
	img->flags = flags;
	img->counts_before = s->counts;
	snprintf(img->name, sizeof(img->name), "%s", plain);
	if (snprintf(img->url, sizeof(img->url), "%s%s%s", s->url,
		    s->url[strlen(s->url) - 1] == ':' ? "" : "/", plain) >= (int)sizeof(img->url)) {
		free(img);
		return err_set(e, -ENAMETOOLONG, "the URL of image '%s' is too long", plain);
	}
	rc = config_resolve(ctx->cfg, img->url, &img->cfg, e);
	if (rc == 0)
		rc = parts_init(img);
	if (rc == 0)
		rc = open_volume(img, e);
	if (rc == 0)
		img->limit_bytes = volume_size_sectors(img->vol) * 512;
	if (rc == 0)
		rc = start_ahead(img);
	if (rc == 0 && img->cfg.trace_path[0]) {
		expand_trace_path(img, path, sizeof(path));
		rc = image_trace(img, path, e);
	}
	if (rc < 0) {
		if (img->vol && volume_close(img->vol, NULL) < 0)
			err_wrap(e, rc, "and then closing failed");
		image_free(img);
		return rc;
	}
	img->next = ctx->images;
	ctx->images = img;
	*out = img;
	return 0;
}

int lsvd_image_open(
	struct lsvd_ctx *ctx, const char *url, unsigned flags, struct lsvd_image **out, char *why)
{
	char plain[600], snapshot[SNAPSHOT_NAME_MAX], name[IMAGE_NAME_MAX];
	char whole[IMAGE_NAME_MAX + SNAPSHOT_NAME_MAX + 1];
	struct err e = {.msg = ""};
	struct store *s = NULL;
	bool entered = ctx_enter(ctx);
	int rc = image_split_snapshot(url, plain, sizeof(plain), snapshot, &e);

	if (rc == 0)
		rc = image_open_store(ctx, plain, 0, &s, name, &e);
	if (rc == 0) {
		snprintf(whole, sizeof(whole), "%s%s%s", name, snapshot[0] ? "@" : "", snapshot);
		rc = ctx_image_open(ctx, s, whole, flags, out, &e);
	}
	if (rc == 0)
		(*out)->own_store = true;
	else if (s)
		store_close(s);
	ctx_leave(ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}

/* ---- closing ---- */

static void unlink_image(struct lsvd_image *img)
{
	struct lsvd_image **p = &img->ctx->images;

	while (*p != img)
		p = &(*p)->next;
	*p = img->next;
}

int lsvd_image_close(struct lsvd_image *img, char *why)
{
	struct lsvd_ctx *ctx = img->ctx;
	struct err e = {.msg = ""}, te = {.msg = ""};
	bool entered = ctx_enter(ctx);
	struct store *s = img->own_store ? img->store : NULL;
	int rc, trc = 0;

	img->closing = true;
	while (img->in_flight)
		loop_poll(ctx->loop, LOOP_FOREVER);
	if (img->prefetch)
		prefetch_free(img->prefetch);
	if (img->readahead)
		readahead_free(img->readahead);
	img->prefetch = NULL;
	img->readahead = NULL;
	while (cache_busy(ctx->cache, img->store))
		loop_poll(ctx->loop, LOOP_FOREVER);
	rc = volume_close(img->vol, &e);
	if (img->trace)
		trc = trace_recorder_close(img->trace, &te);
	unlink_image(img);
	image_free(img);
	if (s)
		store_close(s);
	ctx_leave(ctx, entered);
	why_copy(why, rc < 0 ? &e : &te, rc < 0 ? rc : trc);
	return rc < 0 ? rc : trc;
}

/* ---- facts ---- */

uint64_t lsvd_image_size(const struct lsvd_image *img)
{
	return volume_size_sectors(img->vol) * 512;
}

int lsvd_image_drain(struct lsvd_image *img)
{
	bool entered = ctx_enter(img->ctx);
	int rc = volume_journal(img->vol) ? volume_drain_wait(img->vol) : 0;

	ctx_leave(img->ctx, entered);
	return rc;
}

int lsvd_image_gc(struct lsvd_image *img, unsigned target_percent)
{
	bool entered = ctx_enter(img->ctx);
	int rc = img->flags & LSVD_OPEN_READONLY ? -EROFS : target_percent > 100 ? -EINVAL : 0;

	if (rc == 0)
		rc = volume_drain_wait(img->vol);
	if (rc == 0)
		rc = volume_gc(img->vol, target_percent);
	ctx_leave(img->ctx, entered);
	return rc;
}

static void put_latency(struct lsvd_latency *l, const struct hist *h)
{
	*l = (struct lsvd_latency){.count = h->count,
		.mean_ns = (uint64_t)hist_mean(h),
		.p50_ns = hist_percentile(h, 50),
		.p99_ns = hist_percentile(h, 99),
		.p999_ns = hist_percentile(h, 99.9),
		.max_ns = h->count ? h->max : 0};
}

static void put_store(struct lsvd_image *img, struct lsvd_stats *st)
{
	const struct store_counts *now = &img->store->counts, *was = &img->counts_before;

	st->puts = now->ops[STORE_PUT] + now->ops[STORE_SWAP] - was->ops[STORE_PUT] -
		   was->ops[STORE_SWAP];
	st->gets = now->ops[STORE_GET] - was->ops[STORE_GET];
	st->deletes = now->ops[STORE_DELETE] - was->ops[STORE_DELETE];
	st->put_bytes = now->put_bytes - was->put_bytes;
	st->get_bytes = now->get_bytes - was->get_bytes;
}

static void put_volume(struct lsvd_image *img, struct lsvd_stats *st)
{
	struct volume_stats v;
	struct journal_stats j;

	volume_get_stats(img->vol, &v);
	st->batch_bytes = v.batch_bytes;
	st->gc_bytes = v.gc_bytes;
	st->gc_objects = v.gc_objects;
	st->checkpoints = v.checkpoints;
	st->checkpoint_bytes = v.checkpoint_bytes;
	st->store_errors = v.store_errors;
	st->dirty_bytes = v.dirty_bytes;
	st->write_amplification =
		st->write_bytes ? (double)v.put_bytes / (double)st->write_bytes : 0;
	if (!volume_journal(img->vol))
		return;
	journal_get_stats(volume_journal(img->vol), &j);
	st->journal_bytes = j.bytes;
	st->journal_records = j.records;
	st->journal_flushes = j.flushes;
	st->stalled_ns = j.stalled_ns;
}

int lsvd_image_stats(struct lsvd_image *img, struct lsvd_stats *st)
{
	struct lsvd_ctx *ctx = img->ctx;
	bool entered = ctx_enter(ctx);
	struct cache_stats c;

	*st = img->stats;
	put_latency(&st->read_latency, &img->read_hist);
	put_latency(&st->write_latency, &img->write_hist);
	put_latency(&st->flush_latency, &img->flush_hist);
	put_store(img, st);
	put_volume(img, st);
	cache_get_stats(ctx->cache, &c);
	st->prefetch_bytes = c.prefetch_bytes;
	st->prefetch_wasted_bytes = c.prefetch_bytes > c.prefetch_used_bytes
					    ? c.prefetch_bytes - c.prefetch_used_bytes
					    : 0;
	st->syscalls = loop_is_sim(ctx->loop) ? 0 : loop_uring_syscalls(ctx->loop);
	ctx_leave(ctx, entered);
	return 0;
}

static json_t *latency_json(const struct lsvd_latency *l)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "count", (json_int_t)l->count, "mean_ns",
		(json_int_t)l->mean_ns, "p50_ns", (json_int_t)l->p50_ns, "p99_ns",
		(json_int_t)l->p99_ns, "p999_ns", (json_int_t)l->p999_ns, "max_ns",
		(json_int_t)l->max_ns);
}

/* Every counter of struct lsvd_stats that is a plain number, by name. */
#define COUNTERS(X)                                                                              \
	X(reads)                                                                                 \
	X(writes)                                                                                \
	X(flushes) X(discards) X(write_zeroes) X(read_bytes) X(write_bytes) X(hit_journal_bytes) \
		X(hit_cache_bytes) X(hit_prefetch_bytes) X(miss_bytes) X(zero_bytes) X(puts)     \
			X(gets) X(deletes) X(put_bytes) X(get_bytes) X(journal_bytes)            \
				X(journal_records) X(journal_flushes) X(batch_bytes) X(gc_bytes) \
					X(gc_objects) X(checkpoint_bytes) X(checkpoints)         \
						X(prefetch_bytes) X(prefetch_wasted_bytes)       \
							X(dirty_bytes) X(stalled_ns)             \
								X(store_errors) X(syscalls)

char *lsvd_image_stats_json(struct lsvd_image *img)
{
	struct lsvd_stats st;
	json_t *j = json_object();
	char *text;

	lsvd_image_stats(img, &st);
#define SET(name) json_object_set_new(j, #name, json_integer((json_int_t)st.name));
	COUNTERS(SET)
#undef SET
	json_object_set_new(j, "write_amplification", json_real(st.write_amplification));
	json_object_set_new(j, "read_latency", latency_json(&st.read_latency));
	json_object_set_new(j, "write_latency", latency_json(&st.write_latency));
	json_object_set_new(j, "flush_latency", latency_json(&st.flush_latency));
	json_object_set_new(j, "legs", ctx_legs_json(img->ctx));
	text = json_dumps(j, JSON_INDENT(2));
	json_decref(j);
	return text;
}

/* ---- traces ---- */

int image_trace(struct lsvd_image *img, const char *path, struct err *e)
{
	struct loop *l = img->ctx->loop;
	struct trace_recorder_options o = {.size_bytes = lsvd_image_size(img),
		.start_ns = loop_now(l),
		.start_wall_ns = loop_wall(l),
		.trace_id = {loop_random(l), loop_random(l)},
		.comment = img->url,
		.sync = loop_is_sim(l)};
	int rc = 0;

	if (img->trace)
		rc = trace_recorder_close(img->trace, e);
	img->trace = NULL;
	if (rc < 0 || !path)
		return rc;
	memcpy(o.image_uuid, volume_superblock(img->vol)->uuid, 16);
	return trace_recorder_open(path, &o, &img->trace, e);
}

int lsvd_image_trace(struct lsvd_image *img, const char *path, char *why)
{
	bool entered = ctx_enter(img->ctx);
	struct err e = {.msg = ""};
	int rc = image_trace(img, path, &e);

	ctx_leave(img->ctx, entered);
	why_copy(why, &e, rc);
	return rc;
}
