/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * translate.c - an index of an image's blocks by what they hold, and traces led through it.
 *
 * Blocks are told apart by 64 bits of CRCs: two that are mixed up cost a wrong guess, never data.
 */
#include "reorg/translate.h"

#include "sys/crc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096, SECTORS = BLOCK / 512, PIECE_BLOCKS = 256 };

struct place {
	uint64_t hash, block;
};

struct translator {
	struct place *p; /* by hash, then by block */
	size_t n;
	struct extents mapped;
	uint64_t blocks; /* whole ones in the image */
	uint64_t next;	 /* where the last block went, and one on */
	uint8_t *buf;
};

static uint64_t hash_of(const uint8_t *block)
{
	return (uint64_t)crc32c(0, block, BLOCK) << 32 | crc32c(0, block, BLOCK / 2);
}

static bool is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, BLOCK - 1);
}

static int read_blocks(
	struct session_image *i, uint64_t block, uint64_t n, uint8_t *buf, struct err *e)
{
	struct session_read r = {.done = false};
	int rc = session_submit(i, &r, block * SECTORS, n * SECTORS, buf);

	if (!rc)
		rc = session_wait(i->s, &r);
	return rc ? err_set(e, rc, "read block %" PRIu64 " of image '%s': %s", block, i->name,
			    err_text(NULL, rc))
		  : 0;
}

/* ---- the index ---- */

static int by_hash(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->block > y->block) - (x->block < y->block);
}

/* The blocks that an extent reaches into, from `from` on. */
static int index_extent(
	struct translator *t, struct session_image *i, uint64_t from, uint64_t end, struct err *e)
{
	int rc = 0;

	for (uint64_t b = from; !rc && b < end; b += PIECE_BLOCKS) {
		uint64_t n = end - b < PIECE_BLOCKS ? end - b : PIECE_BLOCKS;

		rc = read_blocks(i, b, n, t->buf, e);
		for (uint64_t k = 0; !rc && k < n; k++)
			if (!is_zero(t->buf + k * BLOCK))
				t->p[t->n++] = (struct place){hash_of(t->buf + k * BLOCK), b + k};
	}
	return rc;
}

static int index_image(
	struct translator *t, struct session_image *i, const struct reorg_watch *w, struct err *e)
{
	uint64_t done = 0, at = 0;
	int rc = 0;

	t->p = calloc(t->mapped.sectors / SECTORS + 2 * t->mapped.n + 1, sizeof(*t->p));
	t->buf = aligned_alloc(4096, PIECE_BLOCKS * BLOCK);
	if (!t->p || !t->buf)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t k = 0; !rc && k < t->mapped.n; k++) {
		const struct plan_extent *x = &t->mapped.p[k];
		uint64_t from = x->lba / SECTORS, end = (x->lba + x->len + SECTORS - 1) / SECTORS;

		from = from > at ? from : at;
		end = end < t->blocks ? end : t->blocks;
		if (from < end)
			rc = index_extent(t, i, from, end, e);
		at = end > at ? end : at;
		done += x->len * 512;
		if (w->progress)
			w->progress(w->arg, done);
		if (!rc && w->stop && *w->stop)
			rc = err_set(e, -EINTR, "interrupted");
	}
	if (t->n)
		qsort(t->p, t->n, sizeof(*t->p), by_hash);
	return rc;
}

int translator_new(struct session_image *new_build, const struct reorg_watch *w,
	struct translator **out, struct err *e)
{
	struct translator *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->blocks = new_build->size_sectors / SECTORS;
	rc = session_extents(new_build, &t->mapped, e);
	if (!rc)
		rc = index_image(t, new_build, w, e);
	if (rc)
		translator_free(t);
	else
		*out = t;
	return rc;
}

void translator_free(struct translator *t)
{
	if (!t)
		return;
	extents_free(&t->mapped);
	free(t->buf);
	free(t->p);
	free(t);
}

/* ---- one block ---- */

static bool is_mapped(const struct translator *t, uint64_t block)
{
	uint64_t lba = block * SECTORS;
	size_t lo = 0, hi = t->mapped.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->mapped.p[mid].lba + t->mapped.p[mid].len <= lba)
			lo = mid + 1;
		else
			hi = mid;
	}
	return block < t->blocks && lo < t->mapped.n && t->mapped.p[lo].lba < lba + SECTORS;
}

/* The first place that is not before (hash, block). */
static size_t find(const struct translator *t, uint64_t hash, uint64_t block)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct place *p = &t->p[mid];

		if (p->hash < hash || (p->hash == hash && p->block < block))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool holds(const struct translator *t, size_t at, uint64_t hash)
{
	return at < t->n && t->p[at].hash == hash;
}

static bool lead(struct translator *t, uint64_t block, const uint8_t *data, uint64_t *to,
	struct translate_counts *c)
{
	uint64_t hash = hash_of(data);
	size_t next = find(t, hash, t->next), same = find(t, hash, block);
	bool zero = is_zero(data), here = holds(t, same, hash), there = holds(t, next, hash);

	if (zero || (!here && !there && !(next && holds(t, next - 1, hash)))) {
		*to = block;
		here = is_mapped(t, block);
		c->changed += here;
		c->lost += !here;
		return here;
	}
	if (there && t->p[next].block == t->next)
		*to = t->next;
	else if (here && t->p[same].block == block)
		*to = block;
	else if (!there)
		*to = t->p[next - 1].block;
	else if (next && holds(t, next - 1, hash) &&
		 t->next - t->p[next - 1].block < t->p[next].block - t->next)
		*to = t->p[next - 1].block;
	else
		*to = t->p[next].block;
	c->same += *to == block;
	c->moved += *to != block;
	return true;
}

/* ---- a trace ---- */

/* Appends, or makes the last record longer when this goes on there. */
static int put(struct trace *out, const struct trace_record *r, uint64_t block, bool *joins)
{
	struct trace_record x = *r, *last = out->n ? &out->records[out->n - 1] : NULL;

	if (*joins && last && last->offset_bytes + last->len_bytes == block * BLOCK) {
		last->len_bytes += BLOCK;
		return 0;
	}
	*joins = true;
	x.offset_bytes = block * BLOCK;
	x.len_bytes = BLOCK;
	return trace_append(out, &x);
}

static int lead_read(struct translator *t, struct session_image *old, const struct trace_record *r,
	struct trace *out, struct translate_counts *c, struct err *e)
{
	uint64_t from = r->offset_bytes / BLOCK,
		 end = (r->offset_bytes + r->len_bytes + BLOCK - 1) / BLOCK;
	bool joins = false;
	int rc = 0;

	if (end > old->size_sectors / SECTORS)
		return err_set(e, -ERANGE,
			"a read ends at byte %" PRIu64 ", image '%s' at %" PRIu64
			": is it a trace of this image?",
			r->offset_bytes + r->len_bytes, old->name, old->size_sectors * 512);
	for (uint64_t b = from; !rc && b < end; b += PIECE_BLOCKS) {
		uint64_t n = end - b < PIECE_BLOCKS ? end - b : PIECE_BLOCKS, to;

		rc = read_blocks(old, b, n, t->buf, e);
		for (uint64_t k = 0; !rc && k < n; k++) {
			c->blocks++;
			if (!lead(t, b + k, t->buf + k * BLOCK, &to, c))
				continue;
			t->next = to + 1;
			rc = put(out, r, to, &joins);
		}
	}
	return rc;
}

int translate(struct translator *t, struct session_image *old_build, struct trace *trace,
	struct translate_counts *counts, struct err *e)
{
	struct trace out = {.header = trace->header, .counts = trace->counts};
	int rc = 0;

	t->next = 0;
	for (size_t i = 0; !rc && i < trace->n; i++)
		if (trace->records[i].op == TRACE_READ && trace->records[i].len_bytes)
			rc = lead_read(t, old_build, &trace->records[i], &out, counts, e);
	if (!rc && !out.n)
		rc = err_set(e, -ENODATA,
			"nothing that the boot read is in the new image: is it a build of the "
			"same?");
	if (rc) {
		trace_free(&out);
		return rc;
	}
	trace_free(trace);
	*trace = out;
	return 0;
}
