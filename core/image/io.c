/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io.c - one user request: check, split, complete once.
 *
 * A read is split where its data lives: the journal (memory or SSD), objects (through the cache),
 * or nowhere (zeroes).  A write is one journal request, or several when it is long.  A request
 * completes when its last part has, never from inside lsvd_submit.
 */
#include "image/image_impl.h"

#include "sys/container.h"
#include "sys/iov.h"

#include <errno.h>
#include <stdlib.h>

enum { TRIES_MAX = 8, TRIM_SECTORS_MAX = 1 << 30 };

/* ---- parts ---- */

static bool more_parts(struct lsvd_image *img)
{
	uint32_t n = img->next_slab;
	struct part *slab = calloc(n, sizeof(*slab));
	struct part **slabs = realloc(img->slabs, (img->nslabs + 1) * sizeof(*slabs));

	if (slabs)
		img->slabs = slabs;
	if (!slab || !slabs) {
		free(slab);
		return false;
	}
	img->slabs[img->nslabs++] = slab;
	for (uint32_t i = 0; i < n; i++) {
		slab[i].next = img->free_parts;
		img->free_parts = &slab[i];
	}
	/* The first slab's length is kept in front of nothing: sizes double from PARTS_FIRST. */
	img->next_slab = 2 * n;
	return true;
}

int parts_init(struct lsvd_image *img)
{
	img->next_slab = PARTS_FIRST;
	return more_parts(img) ? 0 : -ENOMEM;
}

void parts_fini(struct lsvd_image *img)
{
	uint32_t n = PARTS_FIRST;

	for (uint32_t i = 0; i < img->nslabs; i++, n *= 2) {
		for (uint32_t k = 0; k < n; k++)
			free(img->slabs[i][k].bounce_memory);
		free(img->slabs[i]);
	}
	free(img->slabs);
}

static struct part *part_new(struct lsvd_io *io, uint64_t lba, uint64_t len)
{
	struct lsvd_image *img = io_priv(io)->img;
	struct part *p;

	if (!img->free_parts && !more_parts(img))
		return NULL;
	p = img->free_parts;
	img->free_parts = p->next;
	p->io = io;
	p->lba = lba;
	p->len = len;
	p->tries = 0;
	p->bounce = NULL;
	io_priv(io)->pending++;
	return p;
}

static void part_free(struct part *p)
{
	struct lsvd_image *img = io_priv(p->io)->img;

	p->next = img->free_parts;
	img->free_parts = p;
}

/* ---- completing ---- */

static void record_trace(
	struct lsvd_image *img, const struct lsvd_io *io, const struct io_priv *p, uint64_t now)
{
	static const uint8_t ops[] = {[LSVD_READ] = TRACE_READ,
		[LSVD_WRITE] = TRACE_WRITE,
		[LSVD_FLUSH] = TRACE_FLUSH,
		[LSVD_DISCARD] = TRACE_DISCARD,
		[LSVD_WRITE_ZEROES] = TRACE_WRITE_ZEROES};
	struct trace_record r = {.submit_ns = p->submit_ns,
		.complete_ns = now,
		.offset_bytes = io->offset_bytes,
		.len_bytes = io->len_bytes,
		.op = ops[io->op],
		.source = p->source,
		.object = p->object,
		.flags = (uint8_t)((io->flags & LSVD_FUA ? TRACE_FUA : 0) |
				   (p->status ? TRACE_ERROR : 0))};

	trace_recorder_record(img->trace, &r);
}

static void complete(struct lsvd_io *io)
{
	struct io_priv *p = io_priv(io);
	struct lsvd_image *img = p->img;
	uint64_t now = loop_now(img->ctx->loop), ns = now - p->submit_ns;

	io->status = p->status;
	hist_record(io->op == LSVD_READ	   ? &img->read_hist
		    : io->op == LSVD_FLUSH ? &img->flush_hist
					   : &img->write_hist,
		ns);
	if (img->trace)
		record_trace(img, io, p, now);
	img->in_flight--;
	door_complete(img->ctx, io);
}

static void complete_later(struct loop_task *t)
{
	complete(container_of((void *)container_of(t, struct io_priv, task), struct lsvd_io, priv));
}

static void flushed(struct journal_flush *f, int status)
{
	struct io_priv *p = container_of(f, struct io_priv, flush);

	if (p->status == 0)
		p->status = status;
	complete(container_of((void *)p, struct lsvd_io, priv));
}

static void drained(struct volume_drain *d, int status)
{
	struct io_priv *p = container_of(d, struct io_priv, drain);

	if (p->status == 0)
		p->status = status;
	complete(container_of((void *)p, struct lsvd_io, priv));
}

/* I2 */
static void flush(struct lsvd_io *io)
{
	struct io_priv *p = io_priv(io);
	struct lsvd_image *img = p->img;
	struct journal *j = volume_journal(img->vol);

	if (!j) {
		p->task = (struct loop_task){.run = complete_later};
		loop_defer(img->ctx->loop, &p->task);
	} else if (img->cfg.durability == DURABILITY_STORE) {
		p->drain.done = drained;
		volume_drain(img->vol, &p->drain);
	} else {
		p->flush.done = flushed;
		journal_flush(j, &p->flush);
	}
}

/* One of `pending` is over.  In a callback of the loop, so completing at once is allowed. */
static void put(struct lsvd_io *io, int status)
{
	struct io_priv *p = io_priv(io);

	if (status < 0 && p->status == 0)
		p->status = status;
	if (--p->pending)
		return;
	if (io->op == LSVD_WRITE && io->flags & LSVD_FUA && p->status == 0)
		flush(io);
	else
		complete(io);
}

/* The same from inside submit: what is complete already completes on the next turn. */
static void put_in_submit(struct lsvd_io *io)
{
	struct io_priv *p = io_priv(io);

	if (--p->pending)
		return;
	p->task = (struct loop_task){.run = complete_later};
	loop_defer(p->img->ctx->loop, &p->task);
}

/* ---- reading ---- */

static void read_range(struct lsvd_io *io, uint64_t lba, uint64_t len, uint32_t tries);

static struct iov_cursor place_in_iov(const struct lsvd_io *io, uint64_t lba)
{
	return iov_at(io->iov, lba * 512 - io->offset_bytes);
}

/* Where the part's I/O goes: straight into the caller's memory when it is in one piece and aligned.
 */
static void *target(struct part *p, uint64_t skip_sectors, uint64_t io_sectors)
{
	struct iov_cursor c = place_in_iov(p->io, p->lba);
	size_t len = p->len * 512;
	uint8_t *mem = iov_piece(&c, &len);

	if (skip_sectors == 0 && io_sectors == p->len && len == p->len * 512 &&
		(uintptr_t)mem % 512 == 0)
		return mem;
	if (!p->bounce_memory &&
		posix_memalign(&p->bounce_memory, POOL_BLOCK, (PART_SECTORS_MAX + 16) * 512))
		p->bounce_memory = NULL;
	p->bounce = p->bounce_memory;
	p->bounce_skip = skip_sectors * 512;
	return p->bounce;
}

static void finish_part(struct part *p, int status)
{
	struct lsvd_io *io = p->io;

	if (status == 0 && p->bounce) {
		struct iov_cursor c = place_in_iov(io, p->lba);

		iov_write(&c, (uint8_t *)p->bounce + p->bounce_skip, p->len * 512);
	}
	part_free(p);
	put(io, status);
}

/* An object that the map names is not there: a reader beside a writer has seen a state that is gone
 * now; so has a writer that lost the image. */
static int gone(const struct lsvd_image *img)
{
	if (img->flags & LSVD_OPEN_READONLY || volume_failed(img->vol) == -ESTALE)
		return -ESTALE;
	writer_watch_now(img->vol);
	return -EIO;
}

static void cache_done(struct cache_req *r, int status)
{
	struct part *p = container_of(r, struct part, cache);
	struct io_priv *q = io_priv(p->io);
	struct lsvd_stats *st = &q->img->stats;
	uint64_t bytes = p->len * 512;

	/* The object was collected meanwhile: the map knows better now. */
	if (status == -ENOENT && p->tries < TRIES_MAX) {
		struct lsvd_io *io = p->io;
		uint64_t lba = p->lba, len = p->len;
		uint32_t tries = p->tries + 1;

		part_free(p);
		read_range(io, lba, len, tries);
		put(io, 0);
		return;
	}
	if (status == -ENOENT)
		status = gone(q->img);
	if (r->source > q->source) {
		q->source = r->source;
		q->object = r->ref.seq;
	}
	*(r->source == TRACE_SRC_CACHE		  ? &st->hit_cache_bytes
		: r->source == TRACE_SRC_PREFETCH ? &st->hit_prefetch_bytes
						  : &st->miss_bytes) += bytes;
	finish_part(p, status);
}

static void pool_done(struct pool_io *io, int status)
{
	finish_part(container_of(io, struct part, pool), status);
}

static void fail_range(struct lsvd_io *io)
{
	if (io_priv(io)->status == 0)
		io_priv(io)->status = -ENOMEM;
}

static void read_object(struct lsvd_io *io, const struct volume_hit *h, uint32_t tries)
{
	struct lsvd_image *img = io_priv(io)->img;
	struct part *p = part_new(io, h->lba, h->len);

	if (!p) {
		fail_range(io);
		return;
	}
	p->tries = tries;
	p->cache.buf = target(p, 0, h->len);
	if (!p->cache.buf) {
		part_free(p);
		io_priv(io)->pending--;
		fail_range(io);
		return;
	}
	volume_ref(img->vol, h->slot, &p->cache.ref);
	p->cache.off_bytes = (uint64_t)h->off * 512;
	p->cache.len_bytes = h->len * 512;
	p->cache.done = cache_done;
	cache_read(img->ctx->cache, &p->cache);
}

static void zero_range(struct lsvd_io *io, uint64_t lba, uint64_t len)
{
	struct iov_cursor c = place_in_iov(io, lba);

	iov_write(&c, NULL, len * 512);
	io_priv(io)->img->stats.zero_bytes += len * 512;
	if (io_priv(io)->source < TRACE_SRC_ZERO)
		io_priv(io)->source = TRACE_SRC_ZERO;
}

static void read_objects(struct lsvd_io *io, uint64_t lba, uint64_t len, uint32_t tries)
{
	const struct volume *v = io_priv(io)->img->vol;
	struct volume_hit h;

	while (len) {
		uint64_t gap;

		if (!volume_find(v, lba, len, &h))
			h = (struct volume_hit){.lba = lba + len};
		gap = h.lba - lba;
		if (gap)
			zero_range(io, lba, gap);
		if (h.len > PART_SECTORS_MAX)
			h.len = PART_SECTORS_MAX;
		if (h.len)
			read_object(io, &h, tries);
		lba += gap + h.len;
		len -= gap + h.len;
	}
}

static void read_journal_ssd(struct lsvd_io *io, const struct journal_hit *h)
{
	struct lsvd_image *img = io_priv(io)->img;
	struct part *p = part_new(io, h->lba, h->len);
	uint32_t skip;
	void *buf;

	if (!p) {
		fail_range(io);
		return;
	}
	p->pool.seg = journal_place(volume_journal(img->vol), h->pos, &p->pool.block, &skip);
	p->pool.blocks = (uint32_t)((skip + h->len + 7) / 8);
	buf = target(p, skip, (uint64_t)p->pool.blocks * 8);
	if (!buf) {
		part_free(p);
		io_priv(io)->pending--;
		fail_range(io);
		return;
	}
	p->pool.done = pool_done;
	pool_read(img->ctx->pool, &p->pool, buf);
}

static void read_journal(struct lsvd_io *io, struct journal_hit *h)
{
	struct io_priv *p = io_priv(io);
	const void *mem;

	if (h->pos == EXTMAP_ZERO) {
		zero_range(io, h->lba, h->len);
		return;
	}
	if (p->source < TRACE_SRC_JOURNAL)
		p->source = TRACE_SRC_JOURNAL;
	p->img->stats.hit_journal_bytes += h->len * 512;
	mem = journal_memory(volume_journal(p->img->vol), h->pos);
	if (mem) {
		struct iov_cursor c = place_in_iov(io, h->lba);

		iov_write(&c, mem, h->len * 512);
	} else {
		read_journal_ssd(io, h);
	}
}

static void read_range(struct lsvd_io *io, uint64_t lba, uint64_t len, uint32_t tries)
{
	struct journal *j = volume_journal(io_priv(io)->img->vol);
	uint64_t end = lba + len;
	struct journal_hit h;

	while (lba < end) {
		if (!j || !journal_find(j, lba, end - lba, &h))
			h = (struct journal_hit){.lba = end};
		if (h.lba > lba)
			read_objects(io, lba, h.lba - lba, tries);
		if (h.len > PART_SECTORS_MAX)
			h.len = PART_SECTORS_MAX;
		if (h.len)
			read_journal(io, &h);
		lba = h.lba + h.len;
	}
}

static void start_read(struct lsvd_image *img, struct lsvd_io *io)
{
	uint64_t lba = io->offset_bytes / 512, len = io->len_bytes / 512;

	img->stats.reads++;
	img->stats.read_bytes += io->len_bytes;
	io_priv(io)->pending = 1;
	/* Before the read, so that its own chunk is asked for once and by the read. */
	read_range(io, lba, len, 0);
	if (img->prefetch)
		prefetch_saw(img->prefetch, lba, len);
	if (img->readahead && len)
		readahead_saw(img->readahead, lba, len);
	put_in_submit(io);
}

/* ---- writing ---- */

static void written(struct journal_req *r, int status)
{
	struct io_priv *p = container_of(r, struct io_priv, write);

	put(container_of((void *)p, struct lsvd_io, priv), status);
}

static void part_written(struct journal_req *r, int status)
{
	struct part *p = container_of(r, struct part, write);
	struct lsvd_io *io = p->io;

	part_free(p);
	put(io, status);
}

static void start_write(struct lsvd_image *img, struct lsvd_io *io, uint8_t kind, uint64_t max)
{
	struct journal *j = volume_journal(img->vol);
	struct io_priv *p = io_priv(io);
	uint64_t first = io->offset_bytes / 512, lba = first, end = first + io->len_bytes / 512;

	p->pending = 1;
	while (lba < end) {
		uint64_t len = end - lba < max ? end - lba : max;
		struct journal_req *r = &p->write;
		struct part *part = NULL;

		if (len < end - first) {
			part = part_new(io, lba, len);
			if (!part) {
				fail_range(io);
				break;
			}
			r = &part->write;
		} else {
			p->pending++;
		}
		*r = (struct journal_req){.lba = lba,
			.len = len,
			.kind = kind,
			.iov = io->iov,
			.iov_off = (lba - first) * 512,
			.done = part ? part_written : written};
		journal_write(j, r);
		lba += len;
	}
	put_in_submit(io);
}

/* ---- starting ---- */

int io_check(const struct lsvd_image *img, const struct lsvd_io *io)
{
	uint64_t size = img->limit_bytes;

	if (img->closing)
		return -ESHUTDOWN;
	if (io->op == LSVD_FLUSH)
		return 0;
	if (io->op > LSVD_WRITE_ZEROES || io->offset_bytes % 512 || io->len_bytes % 512 ||
		io->offset_bytes > size || io->len_bytes > size - io->offset_bytes)
		return -EINVAL;
	if (io->op != LSVD_READ && (img->flags & LSVD_OPEN_READONLY || volume_failed(img->vol)))
		return volume_failed(img->vol) == -ESTALE ? -ESTALE : -EROFS;
	if (io->op <= LSVD_WRITE && iov_bytes(io->iov, io->iovcnt) < io->len_bytes)
		return -EINVAL;
	return 0;
}

void io_refuse(struct lsvd_image *img, struct lsvd_io *io, int status)
{
	struct io_priv *p = io_priv(io);

	p->submit_ns = loop_now(img->ctx->loop);
	p->status = status;
	p->source = TRACE_SRC_NONE;
	p->object = 0;
	p->task = (struct loop_task){.run = complete_later};
	img->in_flight++;
	loop_defer(img->ctx->loop, &p->task);
}

void io_start(struct lsvd_image *img, struct lsvd_io *io)
{
	struct io_priv *p = io_priv(io);

	p->task.queued = false;
	p->submit_ns = loop_now(img->ctx->loop);
	p->status = 0;
	p->source = TRACE_SRC_NONE;
	p->object = 0;
	img->in_flight++;
	switch (io->op) {
	case LSVD_READ:
		start_read(img, io);
		break;
	case LSVD_WRITE:
		img->stats.writes++;
		img->stats.write_bytes += io->len_bytes;
		start_write(img, io, EXTENT_DATA, JOURNAL_WRITE_SECTORS_MAX);
		break;
	case LSVD_FLUSH:
		img->stats.flushes++;
		flush(io);
		break;
	case LSVD_DISCARD:
		img->stats.discards++;
		start_write(img, io, EXTENT_DISCARD, TRIM_SECTORS_MAX);
		break;
	case LSVD_WRITE_ZEROES:
		img->stats.write_zeroes++;
		start_write(img, io, EXTENT_ZERO, TRIM_SECTORS_MAX);
		break;
	}
}
