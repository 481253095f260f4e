/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * readahead.c - sequential streams of one image.
 *
 * A read that continues where one of the last STREAMS streams stopped makes that stream run: what
 * follows is prefetched up to a window, which doubles each time half of it is used up.  A read that
 * continues none begins one, in place of the stream idle for longest, and costs nothing more.
 * Readahead is a guess: failures are ignored, and so is what finds no free request.
 */
#include "cache/cache_impl.h"

#include "sys/container.h"

#include <stdlib.h>
#include <string.h>

enum {
	STREAMS = 8,
	REQUESTS = 32,
	GAP_SECTORS = 128, /* a stream may skip so much */
	WINDOW_MIN = 128 << 10
};

struct stream {
	uint64_t next, ahead; /* LBA where it goes on; up to where it is fetched */
	uint64_t window;      /* bytes; 0: not running yet */
	uint64_t used;
};

struct request {
	struct cache_prefetch p;
	struct readahead *ra;
	struct request *next_free;
};

struct readahead {
	struct runner runner;
	struct cache *c;
	struct cache_resolver *r;
	uint64_t min, max;
	uint64_t clock;
	struct stream streams[STREAMS];
	struct request requests[REQUESTS], *free;
	struct request *run; /* being put together */
};

static void destroy(struct runner *r)
{
	free(container_of(r, struct readahead, runner));
}

struct readahead *readahead_new(struct cache *c, struct cache_resolver *r, uint64_t max_bytes)
{
	struct readahead *ra = calloc(1, sizeof(*ra));

	if (!ra)
		return NULL;
	ra->c = c;
	ra->r = r;
	ra->max = c->on ? max_bytes : 0;
	ra->min = WINDOW_MIN > 2 * c->chunk_bytes ? WINDOW_MIN : 2 * c->chunk_bytes;
	if (ra->min > ra->max)
		ra->min = ra->max;
	for (unsigned i = 0; i < REQUESTS; i++) {
		ra->requests[i].ra = ra;
		ra->requests[i].next_free = ra->free;
		ra->free = &ra->requests[i];
	}
	for (unsigned i = 0; i < STREAMS; i++)
		ra->streams[i].next = UINT64_MAX;
	ra->runner.free = destroy;
	runner_add(c, &ra->runner);
	return ra;
}

void readahead_free(struct readahead *ra)
{
	if (ra)
		runner_free(&ra->runner);
}

static void request_done(struct cache_prefetch *p, int status)
{
	struct request *q = container_of(p, struct request, p);
	struct readahead *ra = q->ra;

	(void)status; /* the client will ask for itself */
	q->next_free = ra->free;
	ra->free = q;
	runner_back(&ra->runner);
}

static void submit_run(struct readahead *ra)
{
	struct request *q = ra->run;

	ra->run = NULL;
	if (!q)
		return;
	ra->runner.out++;
	cache_prefetch(ra->c, &q->p);
}

static bool continues(const struct cache_prefetch *p, const struct object_ref *ref, uint64_t off)
{
	return p->ref.seq == ref->seq && p->ref.epoch == ref->epoch &&
	       p->off_bytes + p->len_bytes == off && !memcmp(p->ref.uuid, ref->uuid, 16);
}

static void add(void *arg, const struct object_ref *ref, uint64_t lba, uint64_t off, uint64_t len)
{
	struct readahead *ra = arg;

	(void)lba;
	if (ra->run && continues(&ra->run->p, ref, off)) {
		ra->run->p.len_bytes += len;
		return;
	}
	submit_run(ra);
	ra->run = ra->free;
	if (!ra->run)
		return;
	ra->free = ra->run->next_free;
	ra->run->p = (struct cache_prefetch){.ref = *ref,
		.off_bytes = off,
		.len_bytes = len,
		.get_bytes = RUN_BYTES,
		.done = request_done};
}

static void run_stream(struct readahead *ra, struct stream *s)
{
	uint64_t end;

	if (!s->window)
		s->window = ra->min;
	if (s->ahead < s->next)
		s->ahead = s->next;
	if ((s->ahead - s->next) * 512 >= s->window / 2)
		return;
	end = s->next + s->window / 512;
	if (end > ra->r->size_sectors)
		end = ra->r->size_sectors;
	if (end <= s->ahead)
		return;
	ra->r->resolve(ra->r, s->ahead, end - s->ahead, add, ra);
	submit_run(ra);
	s->ahead = end;
	s->window = s->window * 2 < ra->max ? s->window * 2 : ra->max;
}

static bool matches(const struct stream *s, uint64_t lba, uint64_t len)
{
	if (s->next == UINT64_MAX)
		return false;
	return lba < s->next ? lba + len > s->next : lba - s->next <= GAP_SECTORS;
}

void readahead_saw(struct readahead *ra, uint64_t lba, uint64_t len)
{
	struct stream *s = ra->streams, *oldest = s;

	if (!ra->max)
		return;
	ra->clock++;
	while (s < ra->streams + STREAMS && !matches(s, lba, len)) {
		if (s->used < oldest->used)
			oldest = s;
		s++;
	}
	if (s == ra->streams + STREAMS) {
		*oldest = (struct stream){.next = lba + len, .used = ra->clock};
		return;
	}
	s->next = lba + len;
	s->used = ra->clock;
	run_stream(ra, s);
}
