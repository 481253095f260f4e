/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fetch.c - GETs: one per chunk however many wait for it, verified before anybody sees a byte.
 *
 * Happy path: run_add gathers neighbouring pieces -> run_submit -> one GET, the header beside it on
 * the object's first touch (in the same GET when the data asked for begins at offset 0) -> CRC of
 * every CRC -> copies to all who wait -> fill.
 *
 * Store errors are retried with growing pauses while a client waits, for RETRY_GIVE_UP_NS; a fetch
 * that only runs ahead fails at once.  Damage is fetched once more, piece by piece, then -EBADMSG.
 */
#include "cache/cache_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- pieces ---- */

static struct piece **piece_bucket(struct cache *c, const struct chunk_key *k)
{
	return &c->bucket[chunk_hash(k) % PIECE_BUCKETS];
}

struct piece *piece_find(
	const struct cache *c, const struct chunk_key *k, uint32_t off, uint32_t len)
{
	struct piece *p = c->bucket[chunk_hash(k) % PIECE_BUCKETS];

	while (p &&
		(!chunk_key_equal(&p->fill.key, k) || p->off > off || p->off + p->len < off + len))
		p = p->hash_next;
	return p;
}

static void piece_unhash(struct piece *p)
{
	struct piece **q = piece_bucket(p->c, &p->fill.key);

	while (*q != p)
		q = &(*q)->hash_next;
	*q = p->hash_next;
}

struct piece *piece_get(struct cache *c, bool prefetch)
{
	struct piece *p;

	if (prefetch && c->pieces_out >= pieces_for_prefetch(c))
		return NULL;
	while (c->pieces_out == c->npieces) /* a cancelled fill may be a header's: no piece */
		if (!c->on || !rcache_cancel_fill(&c->rc))
			return NULL;
	p = c->piece_free;
	if (p) {
		c->piece_free = p->next;
	} else {
		p = &c->pieces[c->pieces_used];
		p->c = c;
		p->fill.mem = c->mem + (size_t)c->pieces_used++ * c->chunk_bytes;
	}
	c->pieces_out++;
	p->state = PIECE_BOUNCE;
	p->next = NULL;
	return p;
}

void piece_put(struct piece *p)
{
	struct cache *c = p->c;

	p->state = PIECE_FREE;
	p->next = c->piece_free;
	c->piece_free = p;
	c->pieces_out--;
}

static void piece_filled(struct fill *f, int status)
{
	struct piece *p = container_of(f, struct piece, fill);

	if (status == 0)
		p->c->stats.filled_bytes += p->len;
	piece_unhash(p);
	piece_put(p);
	cache_pump(p->c);
}

/* Note a read of a piece; the source is PREFETCH for what nobody had touched before. */
void piece_touch(struct piece *p, uint32_t off, uint32_t len, uint8_t *source)
{
	struct rcache *rc = &p->c->rc;
	uint32_t first = off / POOL_BLOCK, last = (off + len - 1) / POOL_BLOCK;
	uint64_t fresh;

	if (!p->c->on)
		return;
	fresh = rcache_grains(rc, first, last - first + 1) & ~p->fill.touched;
	p->fill.touched |= fresh;
	if (!p->prefetch || !fresh)
		return;
	p->c->stats.prefetch_used_bytes +=
		(uint64_t)__builtin_popcountll(fresh) * rc->grain_blocks * POOL_BLOCK;
	*source = TRACE_SRC_PREFETCH;
}

static void deliver(struct piece *p, int status)
{
	struct part *q = p->parts;

	p->parts = NULL;
	p->parts_last = &p->parts;
	while (q) {
		struct part *next = q->next;

		if (status == 0)
			memcpy(q->dst, p->fill.mem + (q->off - p->off), q->len);
		part_over(q, status);
		q = next;
	}
}

static void tell_owner(struct piece *p, int status)
{
	struct cache_prefetch *owner = p->owner;

	p->owner = NULL;
	if (owner)
		prefetch_piece_over(owner, status);
}

static void piece_ready(struct piece *p)
{
	p->state = PIECE_READY;
	if (p->prefetch)
		p->c->stats.prefetch_bytes += p->len;
	deliver(p, 0);
	tell_owner(p, 0);
	if (p->c->on)
		rcache_fill(&p->c->rc, &p->fill);
	else
		piece_filled(&p->fill, -ENOSPC);
}

static void piece_fail(struct piece *p, int status)
{
	piece_unhash(p);
	p->state = PIECE_BOUNCE;
	deliver(p, status);
	tell_owner(p, status);
	piece_put(p);
	cache_pump(p->c);
}

/* ---- retry ---- */

bool retry_later(struct cache *c, struct retry *r)
{
	uint64_t now = loop_now(c->loop), wait_ns;

	if (!r->first_ns) {
		r->first_ns = now;
		r->delay_ms = c->retry_ms ? c->retry_ms : 1;
	}
	if (now - r->first_ns >= RETRY_GIVE_UP_NS)
		return false;
	wait_ns = (uint64_t)r->delay_ms * 1000000;
	wait_ns = wait_ns * 3 / 4 + loop_random(c->loop) % (wait_ns / 2);
	r->delay_ms = r->delay_ms * 2 < RETRY_MAX_MS ? r->delay_ms * 2 : RETRY_MAX_MS;
	loop_timer_set(c->loop, &r->timer, now + wait_ns);
	return true;
}

/* ---- fetches ---- */

static void fetch_got(struct store_req *r, int64_t status);
static void fetch_verify(struct fetch *f);

static struct fetch *fetch_get(struct cache *c, bool prefetch)
{
	struct fetch *f = c->fetch_free;

	if (c->fetches_out >= (prefetch ? FETCHES / 4 * 3 : FETCHES))
		return NULL;
	if (f) {
		c->fetch_free = f->next;
	} else {
		f = &c->fetches[c->fetches_used];
		f->c = c;
		f->iov = c->iovs + (size_t)c->fetches_used++ * (c->run_pieces + 1);
	}
	c->fetches_out++;
	f->pieces = f->later = NULL;
	f->last = &f->pieces;
	f->header = NULL;
	f->retry = (struct retry){0};
	f->count = 0;
	f->len = 0;
	f->status = 0;
	f->fold = f->arrived = f->damaged = false;
	f->active = true;
	f->prefetch = prefetch;
	return f;
}

static void fetch_put(struct fetch *f)
{
	struct cache *c = f->c;

	f->active = false;
	f->next = c->fetch_free;
	c->fetch_free = f;
	c->fetches_out--;
	cache_pump(c);
}

bool fetch_wanted(const struct fetch *f)
{
	for (const struct piece *p = f->pieces; p; p = p->next)
		if (p->parts)
			return true;
	return false;
}

static uint64_t header_part(const struct fetch *f)
{
	return f->fold ? f->ref.header_bytes : 0;
}

static void fetch_submit(struct fetch *f)
{
	struct cache *c = f->c;
	int n = 0;

	if (f->fold)
		f->iov[n++] = (struct iovec){f->header->buf, f->ref.header_bytes};
	for (struct piece *p = f->pieces; p; p = p->next)
		f->iov[n++] = (struct iovec){p->fill.mem, p->len};
	f->req = (struct store_req){.op = STORE_GET,
		.name = f->ref.name,
		.iov = f->iov,
		.iovcnt = n,
		.off_bytes = f->fold ? 0 : f->ref.header_bytes + f->off,
		.len_bytes = header_part(f) + f->len,
		.done = fetch_got};
	f->arrived = f->damaged = false;
	c->stats.gets++;
	if (f->prefetch)
		c->stats.prefetch_gets++;
	store_submit(f->ref.store, &f->req);
}

static void fetch_fail(struct fetch *f, int status)
{
	struct hload *h = f->header;
	struct piece *p = f->pieces, *next;
	bool fold = f->fold;

	if (h)
		header_leave(f);
	if (fold)
		header_unfold(h);
	for (; p; p = next) {
		next = p->next;
		piece_fail(p, status);
	}
	for (p = f->later; p; p = next) {
		next = p->next;
		piece_fail(p, status);
	}
	fetch_put(f);
}

static void fetch_again(struct loop_timer *t)
{
	fetch_submit(container_of(t, struct fetch, retry.timer));
}

static void fetch_failed_early(struct loop_task *t)
{
	struct fetch *f = container_of(t, struct fetch, task);

	fetch_fail(f, f->status);
}

/* All of it is here; its CRCs may have been dropped from memory meanwhile. */
static void fetch_check(struct fetch *f)
{
	int rc = header_known(f->c, &f->key) ? 0 : header_want(f->c, f, NULL);

	if (rc < 0)
		fetch_fail(f, rc);
	else if (!f->header)
		fetch_verify(f);
}

static void fetch_got(struct store_req *r, int64_t status)
{
	struct fetch *f = container_of(r, struct fetch, req);

	if (status < 0) {
		f->retry.timer.fire = fetch_again;
		if (status != -ENOENT && fetch_wanted(f) && retry_later(f->c, &f->retry))
			return;
		fetch_fail(f, (int)(status == -ENOENT || status == -ENOMEM ? status : -EIO));
		return;
	}
	f->c->stats.get_bytes += (uint64_t)status;
	f->damaged = (uint64_t)status < header_part(f) + f->len;
	f->arrived = true;
	if (f->fold) {
		f->fold = false;
		header_folded(f->header, status); /* verifies f, among those who wait */
		return;
	}
	/* Nobody waited when the header could not be had; a client does now. */
	if (f->status == -EIO && fetch_wanted(f))
		f->status = 0;
	if (f->status < 0)
		fetch_fail(f, f->status);
	else if (!f->header)
		fetch_check(f);
}

/* The header it waited for is known now, or cannot be had. */
void fetch_header_over(struct fetch *f, int status)
{
	f->header = NULL;
	f->status = status;
	if (!f->arrived)
		return;
	if (status < 0)
		fetch_fail(f, status);
	else
		fetch_verify(f);
}

/* I10: every byte against the CRCs in the object's header, which is bound to its identity. */
static bool piece_sound(const struct piece *p, const struct hrec *h)
{
	uint64_t at = ((uint64_t)p->fill.key.chunk << p->c->chunk_shift) + p->off;
	uint32_t i = (uint32_t)(at / h->crc_bytes), n;

	if (at % h->crc_bytes)
		return false;
	for (uint32_t done = 0; done < p->len; done += n, i++) {
		n = p->len - done < h->crc_bytes ? p->len - done : h->crc_bytes;
		if (i >= h->count ||
			(!MUTANT(SKIP_OBJECT_CRC) && crc32c(0, p->fill.mem + done, n) != h->crc[i]))
			return false;
	}
	return true;
}

/* Go on with the pieces that were damaged, one GET each. */
static void fetch_later(struct fetch *f)
{
	struct piece *p = f->later;

	if (!p) {
		fetch_put(f);
		return;
	}
	f->later = p->next;
	p->next = NULL;
	f->pieces = p;
	f->last = &p->next;
	f->off = ((uint64_t)p->fill.key.chunk << f->c->chunk_shift) + p->off;
	f->len = p->len;
	f->retry = (struct retry){0};
	fetch_submit(f);
}

static void fetch_verify(struct fetch *f)
{
	const struct hrec *h = header_find(f->c, &f->key);
	struct piece *p = f->pieces, *next;
	struct piece *sound = NULL, **sound_last = &sound, *bad = NULL, **later = &f->later;

	f->pieces = NULL;
	while (*later)
		later = &(*later)->next;
	for (; p; p = next) {
		next = p->next;
		p->next = NULL;
		if (!f->damaged && h && piece_sound(p, h)) {
			*sound_last = p;
			sound_last = &p->next;
			continue;
		}
		f->c->stats.crc_errors++;
		if (p->tries++ == 0) {
			*later = p;
			later = &p->next;
		} else {
			p->next = bad;
			bad = p;
		}
	}
	for (p = sound; p; p = next) {
		next = p->next;
		piece_ready(p);
	}
	for (p = bad; p; p = next) {
		next = p->next;
		piece_fail(p, -EBADMSG);
	}
	fetch_later(f);
}

/* ---- runs ---- */

static void fetch_begin(struct fetch *f)
{
	bool fold = false;

	if (!header_known(f->c, &f->key)) {
		f->status = header_want(f->c, f, &fold);
		if (f->status < 0) {
			f->task.run = fetch_failed_early;
			loop_defer(f->c->loop, &f->task);
			return;
		}
	}
	f->fold = fold;
	fetch_submit(f);
}

void run_submit(struct run *run)
{
	struct fetch *f = run->f;

	run->f = NULL;
	if (f)
		fetch_begin(f);
}

static bool run_continues(const struct run *run, uint64_t at, uint32_t len)
{
	const struct fetch *f = run->f;

	return f && f->off + f->len == at && f->len + len <= run->max &&
	       f->count < f->c->run_pieces;
}

struct piece *run_add(struct cache *c, struct run *run, const struct object_ref *ref,
	const struct chunk_key *k, uint32_t off, uint32_t len)
{
	uint64_t at = ((uint64_t)k->chunk << c->chunk_shift) + off;
	struct piece *p = piece_get(c, run->prefetch);
	struct piece **bucket = piece_bucket(c, k);

	if (!p)
		return NULL;
	if (!run_continues(run, at, len)) {
		run_submit(run);
		run->f = fetch_get(c, run->prefetch);
		if (!run->f) {
			piece_put(p);
			return NULL;
		}
		run->f->ref = *ref;
		run->f->key = *k;
		run->f->off = at;
	}
	p->fill = (struct fill){.key = *k,
		.mem = p->fill.mem,
		.from = (uint16_t)(off / POOL_BLOCK),
		.blocks = (uint16_t)(len / POOL_BLOCK),
		.prefetch = run->prefetch,
		.done = piece_filled};
	p->parts = NULL;
	p->parts_last = &p->parts;
	p->owner = NULL;
	p->off = off;
	p->len = len;
	p->tries = 0;
	p->prefetch = run->prefetch;
	p->state = PIECE_FETCHING;
	p->hash_next = *bucket;
	*bucket = p;
	*run->f->last = p;
	run->f->last = &p->next;
	run->f->len += len;
	run->f->count++;
	return p;
}
