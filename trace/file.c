/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file.c - see file.h.  Input and stdio move the blocks; format/trace.c knows what is in them. */
#include "trace/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- reader ---- */

struct trace_reader {
	struct trace_input *in;
	struct trace_decoder d;
	bool ended, owned;
	uint8_t block[TRACE_BLOCK_BYTES];
};

/* Feeds one block; 0 at the end of the file. */
static int feed(struct trace_reader *r, struct err *e)
{
	int rc, n = trace_input_read(r->in, r->block, TRACE_BLOCK_BYTES, e);

	if (n < 0)
		return n;
	r->ended = n < TRACE_BLOCK_BYTES;
	rc = n ? trace_decoder_feed(&r->d, r->block, (size_t)n, e) : 0;
	if (rc == 0 && r->ended)
		rc = trace_decoder_end(&r->d, e);
	return rc < 0 ? err_wrap(e, rc, "'%s'", trace_input_name(r->in)) : n > 0;
}

int trace_reader_on(struct trace_input *in, struct trace_reader **out, struct err *e)
{
	struct trace_reader *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	trace_decoder_init(&r->d);
	r->in = in;
	rc = feed(r, e);
	if (rc < 0) {
		trace_reader_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

int trace_reader_open(const char *path, struct trace_reader **out, struct err *e)
{
	struct trace_input *in;
	int rc = trace_input_open(path, &in, e);

	if (rc < 0)
		return rc;
	rc = trace_reader_on(in, out, e);
	if (rc < 0)
		trace_input_close(in);
	else
		(*out)->owned = true;
	return rc;
}

int trace_reader_next(struct trace_reader *r, struct trace_record *rec, struct err *e)
{
	for (;;) {
		int rc;

		if (trace_decoder_next(&r->d, rec))
			return 1;
		if (r->ended)
			return 0;
		rc = feed(r, e);
		if (rc < 0)
			return rc;
	}
}

const struct trace_header *trace_reader_header(const struct trace_reader *r)
{
	return &r->d.header;
}

const struct trace_counts *trace_reader_counts(const struct trace_reader *r)
{
	return &r->d.counts;
}

void trace_reader_close(struct trace_reader *r)
{
	if (!r)
		return;
	if (r->owned)
		trace_input_close(r->in);
	free(r);
}

/* ---- writer ---- */

struct trace_writer {
	FILE *f;
	char *path;
	struct trace_header h;
	struct trace_block b;
	uint64_t seq, records;
	bool owned;
	uint8_t block[TRACE_BLOCK_BYTES];
};

static int write_failed(struct trace_writer *w, struct err *e)
{
	int code = errno ? -errno : -EIO;

	return err_set(e, code, "'%s': %s", w->path, strerror(-code));
}

static int write_block(struct trace_writer *w, uint64_t dropped, struct err *e)
{
	w->records += w->b.count;
	trace_block_seal(&w->b, w->block, w->h.trace_uuid, ++w->seq, w->b.used, w->b.count);
	if (fwrite(w->block, 1, sizeof(w->block), w->f) != sizeof(w->block))
		return write_failed(w, e);
	trace_block_begin(&w->b, w->block, w->records, dropped);
	return 0;
}

static void writer_free(struct trace_writer *w)
{
	if (w->owned)
		fclose(w->f);
	free(w->path);
	free(w);
}

int trace_writer_on(FILE *f, const char *path, const struct trace_header *h,
	struct trace_writer **out, struct err *e)
{
	static const uint8_t zero[16];
	struct trace_writer *w = calloc(1, sizeof(*w));
	int rc = 0;

	if (!w || !(w->path = strdup(path))) {
		free(w);
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->h = *h;
	w->f = f;
	if (!memcmp(h->trace_uuid, zero, 16) && getrandom(w->h.trace_uuid, 16, 0) != 16)
		rc = err_set(e, -EIO, "no random bytes for the trace's uuid");
	if (rc == 0) {
		trace_header_encode(&w->h, w->block);
		if (fwrite(w->block, 1, sizeof(w->block), w->f) != sizeof(w->block))
			rc = write_failed(w, e);
	}
	if (rc < 0) {
		writer_free(w);
		return rc;
	}
	trace_block_begin(&w->b, w->block, 0, 0);
	*out = w;
	return 0;
}

int trace_writer_open(
	const char *path, const struct trace_header *h, struct trace_writer **out, struct err *e)
{
	bool std = !strcmp(path, "-");
	FILE *f = std ? stdout : fopen(path, "wb");
	int rc;

	if (!f)
		return err_set(e, -errno, "'%s': %s", path, strerror(errno));
	rc = trace_writer_on(f, path, h, out, e);
	if (rc == 0)
		(*out)->owned = !std;
	else if (!std)
		fclose(f);
	return rc;
}

int trace_writer_add(struct trace_writer *w, const struct trace_record *rec, struct err *e)
{
	int rc = trace_block_add(&w->b, rec);

	if (rc == 0) {
		rc = write_block(w, 0, e);
		if (rc == 0)
			rc = trace_block_add(&w->b, rec);
	}
	if (rc == -EINVAL)
		return err_set(
			e, rc, "impossible request (it ends before it begins, or beyond 2^63)");
	return rc < 0 ? rc : 0;
}

int trace_writer_close(struct trace_writer *w, uint64_t dropped, struct err *e)
{
	int rc = 0;

	if (dropped && w->b.count)
		rc = write_block(w, dropped, e);
	w->b.dropped = dropped;
	if (rc == 0 && (dropped || w->b.count))
		rc = write_block(w, dropped, e);
	errno = 0;
	if (rc == 0 && fflush(w->f) != 0)
		rc = write_failed(w, e);
	writer_free(w);
	return rc;
}
