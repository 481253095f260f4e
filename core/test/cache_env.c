/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/cache_env.h"

#include "cache/cache_impl.h"
#include "pool/pool_impl.h"
#include "sys/container.h"
#include "sys/crc.h"
#include "test/test.h"

#include <errno.h>

/* ---- the spy ---- */

struct spied {
	struct store_req in;
	struct store_req *out;
	struct spy_store *spy;
};

static void damage(const struct store_req *r, uint64_t at)
{
	for (int i = 0; i < r->iovcnt; i++) {
		if (at < r->iov[i].iov_len) {
			((uint8_t *)r->iov[i].iov_base)[at] ^= 0x40;
			return;
		}
		at -= r->iov[i].iov_len;
	}
}

static void spied_done(struct store_req *in, int64_t status)
{
	struct spied *q = container_of(in, struct spied, in);
	struct spy_store *spy = q->spy;
	struct store_req *r = q->out;
	uint64_t from = r->off_bytes, to = r->off_bytes + (uint64_t)(status > 0 ? status : 0);

	spy->out--;
	r->size_bytes = in->size_bytes;
	if (r->op == STORE_GET && status > 0) {
		spy->get_bytes += (uint64_t)status;
		if (spy->damage_times && from < spy->damage_to && to > spy->damage_from) {
			spy->damage_times--;
			damage(r, from < spy->damage_from ? spy->damage_from - from : 0);
		}
	}
	free(q);
	r->done(r, status);
}

static void spy_submit(struct store *s, struct store_req *r)
{
	struct spy_store *spy = container_of(s, struct spy_store, s);
	struct spied *q = calloc(1, sizeof(*q));

	q->in = *r;
	q->out = r;
	q->spy = spy;
	q->in.done = spied_done;
	spy->gets += r->op == STORE_GET;
	spy->out++;
	store_submit(spy->inner, &q->in);
}

static void spy_close(struct store *s)
{
	struct spy_store *spy = container_of(s, struct spy_store, s);

	store_close(spy->inner);
	free(spy);
}

static const struct store_ops spy_ops = {.submit = spy_submit, .close = spy_close};

static void open_store(struct cache_env *v, const struct model_class *model)
{
	struct fault_rules none = {.seed = 1};
	struct store *s;

	assert_int_equal(store_mem_on(v->loop, v->objects, &s), 0);
	if (model)
		assert_int_equal(store_model_new(s, model, &s), 0);
	assert_int_equal(store_fault_new(s, &none, &s), 0);
	v->fault = s;
	v->spy = calloc(1, sizeof(*v->spy));
	v->spy->s = (struct store){.ops = &spy_ops, .loop = v->loop, .kind = "spy"};
	v->spy->inner = s;
	v->store = &v->spy->s;
	for (unsigned i = 0; i < ENV_OBJECTS; i++)
		v->ref[i].store = v->store;
}

/* ---- open and close ---- */

static void open_cache(struct cache_env *v)
{
	struct err e = {.msg = ""};
	struct bdev *d;

	if (v->disk) {
		assert_int_equal(sim_disk_open(v->disk, v->loop, &d), 0);
		if (pool_open_on(v->loop, &d, 1, &v->cfg, &v->pool, &e) < 0)
			fail_msg("%s", e.msg);
	}
	if (cache_open(v->loop, v->pool, &v->cfg, &v->cache, &e) < 0)
		fail_msg("%s", e.msg);
}

void env_open(struct cache_env *v, uint64_t pool_bytes, uint64_t segment_bytes,
	uint64_t chunk_bytes, const struct model_class *model)
{
	struct sim_disk_model disk = {.read_ns = 80000,
		.write_ns = 20000,
		.flush_ns = 1000000,
		.bytes_per_s = 1000000000,
		.jitter_percent = 50};

	memset(v, 0, sizeof(*v));
	v->seed = 12345;
	v->cfg.pool_segment_bytes = segment_bytes;
	v->cfg.cache_enabled = true;
	v->cfg.cache_chunk_bytes = chunk_bytes;
	v->cfg.store_retry_ms = 100;
	assert_int_equal(loop_sim_new(v->seed, &v->loop, NULL), 0);
	assert_int_equal(mem_objects_new(&v->objects), 0);
	if (pool_bytes)
		assert_int_equal(sim_disk_new(pool_bytes, &disk, &v->disk), 0);
	open_store(v, model);
	open_cache(v);
}

void env_restart(struct cache_env *v)
{
	cache_close(v->cache);
	pool_close(v->pool);
	open_cache(v);
}

void env_close(struct cache_env *v)
{
	env_settle(v);
	cache_close(v->cache);
	if (v->pool)
		pool_close(v->pool);
	store_close(v->store);
	loop_free(v->loop);
	if (v->disk)
		sim_disk_free(v->disk);
	mem_objects_free(v->objects);
}

void env_crash(struct cache_env *v, bool process_only)
{
	assert_int_equal(v->spy->out, 0); /* what the store held would never be freed */
	sim_disk_crash(v->disk, v->seed++, process_only);
	loop_sim_crash(v->loop);
	cache_drop(v->cache);
	pool_drop(v->pool);
	store_close(v->store);
	loop_free(v->loop);
	assert_int_equal(loop_sim_new(v->seed, &v->loop, NULL), 0);
	open_store(v, NULL);
	open_cache(v);
}

/* ---- objects ---- */

void env_pattern(uint32_t object, uint64_t off, void *buf, uint64_t len)
{
	uint64_t *p = buf;

	for (uint64_t i = 0; i < len / 8; i++)
		p[i] = ((off / 8 + i) * 0x9E3779B97F4A7C15ull) ^ ((uint64_t)object << 56);
}

void env_put(struct cache_env *v, uint32_t i, uint32_t data_bytes, uint32_t extents)
{
	struct object_ref *ref = &v->ref[i];
	uint32_t unit = v->crc_bytes ? v->crc_bytes : OBJECT_CRC_BYTES;
	struct object_header h = {.epoch = 3,
		.seq = i + 1,
		.data_bytes = data_bytes,
		.extents = extents,
		.crc_bytes = unit};
	struct object_extent *ext = calloc(extents + 1, sizeof(*ext));
	uint32_t *crc = calloc(data_bytes / unit + 1, sizeof(*crc));
	struct store_req r = {.op = STORE_PUT};
	struct iovec iov;
	uint8_t *buf;

	memset(h.uuid, 0xab, 16);
	h.chunks = object_chunk_count(data_bytes, unit);
	h.header_bytes = object_header_bytes(extents, data_bytes, 0);
	buf = malloc(h.header_bytes + data_bytes);
	env_pattern(i, 0, buf + h.header_bytes, data_bytes);
	for (uint32_t c = 0; c < h.chunks; c++) {
		uint32_t at = c * unit, n = data_bytes - at;

		crc[c] = crc32c(0, buf + h.header_bytes + at, n < unit ? n : unit);
	}
	for (uint32_t x = 0; x < extents; x++)
		ext[x] = (struct object_extent){.lba = x * 16, .len = 8, .kind = EXTENT_DATA};
	object_encode(&h, ext, crc, buf);
	*ref = (struct object_ref){.epoch = h.epoch,
		.seq = h.seq,
		.header_bytes = h.header_bytes,
		.data_bytes = data_bytes,
		.store = v->store};
	memcpy(ref->uuid, h.uuid, 16);
	snprintf(ref->name, sizeof(ref->name), "vm/%08x.%08x", 3, i + 1);
	iov = (struct iovec){buf, h.header_bytes + data_bytes};
	r.name = ref->name;
	r.iov = &iov;
	r.iovcnt = 1;
	r.len_bytes = iov.iov_len;
	assert_int_equal(store_wait(v->store, &r), 0);
	free(buf), free(crc), free(ext);
}

/* ---- reads ---- */

uint8_t *env_buffer(uint64_t len)
{
	return aligned_alloc(4096, (len + 2 * 4096) & ~4095ull);
}

static void read_done(struct cache_req *r, int status)
{
	struct env_read *q = container_of(r, struct env_read, r);

	assert_false(q->over); /* exactly once */
	q->over = true;
	q->status = status;
}

void env_submit(struct cache_env *v, struct env_read *q, uint32_t object, uint64_t off, void *buf,
	uint64_t len)
{
	memset(q, 0, sizeof(*q));
	q->r.ref = v->ref[object];
	q->r.off_bytes = off;
	q->r.len_bytes = len;
	q->r.buf = buf;
	q->r.done = read_done;
	cache_read(v->cache, &q->r);
	assert_false(q->over); /* never inside the call */
}

void env_wait(struct cache_env *v, struct env_read *q)
{
	while (!q->over)
		if (!loop_poll(v->loop, LOOP_FOREVER))
			fail_msg("a read never ends");
}

static int do_read(
	struct cache_env *v, uint32_t object, uint64_t off, uint64_t len, uint8_t *source)
{
	uint8_t *buf = env_buffer(len), *want = malloc(len);
	struct env_read q;

	memset(buf, 0xee, len);
	env_submit(v, &q, object, off, buf, len);
	env_wait(v, &q);
	env_pattern(object, off, want, len);
	if (q.status == 0)
		assert_memory_equal(buf, want, len);
	if (source)
		*source = q.r.source;
	free(buf), free(want);
	return q.status;
}

uint8_t env_read(struct cache_env *v, uint32_t object, uint64_t off, uint64_t len)
{
	uint8_t source;

	assert_int_equal(do_read(v, object, off, len, &source), 0);
	return source;
}

int env_read_status(struct cache_env *v, uint32_t object, uint64_t off, uint64_t len)
{
	return do_read(v, object, off, len, NULL);
}

void env_settle(struct cache_env *v)
{
	while (loop_poll(v->loop, LOOP_FOREVER))
		;
}

struct cache_stats env_stats(struct cache_env *v)
{
	struct cache_stats st;

	cache_get_stats(v->cache, &st);
	return st;
}
