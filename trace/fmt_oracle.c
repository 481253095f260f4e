/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fmt_oracle.c - libCacheSim's oracleGeneral, written only.
 *
 * One access of an object is 24 bytes, little-endian:
 *
 *    0  u32  time, seconds since the start
 *    4  u64  object: number of the block (or of the first sector, with one object a request)
 *   12  u32  its size in bytes
 *   16  i64  next: the number of the next access of the same object, the first of the trace being
 * 1; -1: there is none
 *
 * Reads and writes are accesses.  The first pass writes them with next = -1; the second walks the
 * file backwards, in pieces, and fills next in from a table {object -> its last access seen}.  When
 * the table is full, it keeps only the objects whose hash is in a lower part of the range and
 * another pass does the rest: memory is bounded, and time grows with what does not fit.
 */
#include "sys/bytes.h"
#include "trace/formats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ACCESS_BYTES = 24, PIECE = 1 << 15, SECTOR = 512 };

struct entry {
	uint64_t object, next; /* next 0: free */
};

struct oracle {
	FILE *f; /* where accesses go: the file, or one of its own when that cannot be read */
	uint64_t accesses;
	struct entry *slot;
	uint64_t slots, used;
	uint64_t lo, hi; /* hashes in this pass: [lo, hi], both included */
	uint8_t buf[PIECE * ACCESS_BYTES];
};

static uint64_t hash_of(uint64_t v)
{
	v ^= v >> 32;
	v *= 0xD6E8FEB86659FD93ull;
	v ^= v >> 32;
	v *= 0xD6E8FEB86659FD93ull;
	return v ^ v >> 32;
}

/* ---- first pass ---- */

static int begin(struct trace_out *out, struct err *e)
{
	struct oracle *o = out->state;

	/* a pipe, or a file opened by /dev/stdout: the passes need one that can be read and sought
	 */
	o->f = out->f == stdout || fseek(out->f, 0, SEEK_SET) < 0 ? tmpfile() : out->f;
	return o->f ? 0 : err_set(e, -errno, "temporary file: %s", strerror(errno));
}

static int put_access(
	struct trace_out *out, uint64_t object, uint64_t bytes, uint64_t ns, struct err *e)
{
	struct oracle *o = out->state;
	uint8_t b[ACCESS_BYTES];
	struct writer w = writer_of(b, sizeof(b));
	uint64_t seconds = ns / 1000000000;

	put_le(&w, seconds < UINT32_MAX ? seconds : UINT32_MAX, 4);
	put_le(&w, object, 8);
	put_le(&w, bytes < UINT32_MAX ? bytes : UINT32_MAX, 4);
	put_le(&w, UINT64_MAX, 8);
	if (fwrite(b, sizeof(b), 1, o->f) != 1)
		return trace_out_failed(out, e);
	o->accesses++;
	return 0;
}

static int add(struct trace_out *out, const struct trace_record *r, struct err *e)
{
	uint64_t block = out->block_bytes, last;
	int rc = 0;

	if (r->op > TRACE_WRITE || !r->len_bytes)
		return 0;
	if (!block)
		return put_access(out, r->offset_bytes / SECTOR, r->len_bytes, r->submit_ns, e);
	if (r->len_bytes > 4ull << 30)
		return err_set(e, -EINVAL,
			"a request of %llu bytes: too large for accesses of blocks",
			(unsigned long long)r->len_bytes);
	last = (r->offset_bytes + r->len_bytes - 1) / block;
	for (uint64_t k = r->offset_bytes / block; k <= last && rc == 0; k++)
		rc = put_access(out, k, block, r->submit_ns, e);
	return rc;
}

/* ---- the table ---- */

static struct entry *find(const struct oracle *o, uint64_t object, uint64_t hash)
{
	uint64_t i = hash & (o->slots - 1);

	while (o->slot[i].next && o->slot[i].object != object)
		i = (i + 1) & (o->slots - 1);
	return &o->slot[i];
}

/* A table of `slots` with what is in the old one and still in the range. */
static int rebuild(struct oracle *o, uint64_t slots)
{
	struct entry *old = o->slot, *p = calloc(slots, sizeof(*p));
	uint64_t n = o->slots;

	if (!p)
		return -ENOMEM;
	o->slot = p;
	o->slots = slots;
	o->used = 0;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t h = hash_of(old[i].object);

		if (!old[i].next || h < o->lo || h > o->hi)
			continue;
		*find(o, old[i].object, h) = old[i];
		o->used++;
	}
	free(old);
	return 0;
}

/* Twice the slots, or, when that is more than allowed, half the range of hashes. */
static int make_room(struct oracle *o, uint64_t memory_bytes)
{
	/* the old table and the new one are there together */
	if (3 * o->slots * sizeof(struct entry) <= memory_bytes)
		return rebuild(o, 2 * o->slots);
	if (o->hi == o->lo)
		return -ENOMEM;
	o->hi = o->lo + (o->hi - o->lo) / 2;
	return rebuild(o, o->slots);
}

/* ---- the passes backwards ---- */

static int fill_next(struct oracle *o, uint8_t *b, uint64_t number, uint64_t memory_bytes)
{
	struct reader r = reader_of(b + 4, 8);
	struct writer w = writer_of(b + 16, 8);
	uint64_t object = get_le(&r, 8), h = hash_of(object);
	struct entry *x;

	if (h < o->lo || h > o->hi)
		return 0;
	x = find(o, object, h);
	if (x->next)
		put_le(&w, x->next, 8);
	else
		o->used++;
	*x = (struct entry){object, number};
	return 4 * o->used > 3 * o->slots ? make_room(o, memory_bytes) : 0;
}

static int walk(struct trace_out *out, struct err *e)
{
	struct oracle *o = out->state;

	for (uint64_t end = o->accesses; end;) {
		uint64_t n = end < PIECE ? end : PIECE, from = end - n;
		off_t at = (off_t)(from * ACCESS_BYTES);

		errno = 0;
		if (fseeko(o->f, at, SEEK_SET) < 0 || fread(o->buf, ACCESS_BYTES, n, o->f) != n)
			return trace_out_failed(out, e);
		for (uint64_t i = n; i-- > 0;)
			if (fill_next(o, o->buf + i * ACCESS_BYTES, from + i + 1,
				    out->memory_bytes) < 0)
				return err_set(e, -ENOMEM, "out of memory for the table of blocks");
		if (fseeko(o->f, at, SEEK_SET) < 0 || fwrite(o->buf, ACCESS_BYTES, n, o->f) != n)
			return trace_out_failed(out, e);
		end = from;
	}
	return 0;
}

static int passes(struct trace_out *out, struct err *e)
{
	struct oracle *o = out->state;
	int rc;

	for (o->lo = 0;; o->lo = o->hi + 1) {
		o->hi = UINT64_MAX;
		free(o->slot);
		o->slot = NULL;
		o->slots = 0;
		if (rebuild(o, 1024) < 0)
			return err_set(e, -ENOMEM, "out of memory for the table of blocks");
		rc = walk(out, e);
		if (rc < 0 || o->hi == UINT64_MAX)
			return rc;
	}
}

static int copy_out(struct trace_out *out, struct err *e)
{
	struct oracle *o = out->state;
	size_t n;

	rewind(o->f);
	while ((n = fread(o->buf, 1, sizeof(o->buf), o->f)) > 0)
		if (fwrite(o->buf, 1, n, out->f) != n)
			return trace_out_failed(out, e);
	return ferror(o->f) ? err_set(e, -EIO, "temporary file: cannot be read") : 0;
}

static int end(struct trace_out *out, struct err *e)
{
	struct oracle *o = out->state;
	int rc = !out->failed && o->accesses ? passes(out, e) : 0;

	if (o->f && o->f != out->f) {
		rc = rc == 0 && !out->failed ? copy_out(out, e) : rc;
		fclose(o->f);
	}
	free(o->slot);
	return rc;
}

const struct trace_format trace_format_oracle = {
	.name = "oracleGeneral",
	.summary = "libCacheSim's accesses of blocks with their next ones (written only)",
	.binary = true,
	.out_bytes = sizeof(struct oracle),
	.begin = begin,
	.add = add,
	.end = end,
};
