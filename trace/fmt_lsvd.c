/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fmt_lsvd.c - LSVD's own binary traces (trace/file.h) as a format. */
#include "trace/file.h"
#include "trace/formats.h"

#include <string.h>

static bool guess(const uint8_t *head, size_t len)
{
	return len >= TRACE_MAGIC_BYTES && !memcmp(head, TRACE_MAGIC, TRACE_MAGIC_BYTES);
}

static int open_reader(struct trace_in *in, struct err *e)
{
	struct trace_reader **r = in->state;
	int rc = trace_reader_on(in->input, r, e);

	if (rc == 0)
		in->header = *trace_reader_header(*r);
	return rc;
}

static int next(struct trace_in *in, struct trace_record *rec, struct err *e)
{
	struct trace_reader **r = in->state;
	int rc = trace_reader_next(*r, rec, e);

	in->at += rc > 0;
	if (rc == 0)
		in->counts = *trace_reader_counts(*r);
	return rc;
}

static void close_reader(struct trace_in *in)
{
	struct trace_reader **r = in->state;

	trace_reader_close(*r);
}

static int begin(struct trace_out *o, struct err *e)
{
	struct trace_writer **w = o->state;

	memset(o->header.trace_uuid, 0, sizeof(o->header.trace_uuid)); /* it is a new trace */
	return trace_writer_on(o->f, o->path, &o->header, w, e);
}

static int add(struct trace_out *o, const struct trace_record *rec, struct err *e)
{
	struct trace_writer **w = o->state;

	return trace_writer_add(*w, rec, e);
}

static int end(struct trace_out *o, struct err *e)
{
	struct trace_writer **w = o->state;
	int rc = *w ? trace_writer_close(*w, o->dropped, e) : 0;

	*w = NULL;
	return rc;
}

const struct trace_format trace_format_lsvd = {
	.name = "lsvd",
	.summary = "LSVD's own: compact, checksummed",
	.binary = true,
	.in_bytes = sizeof(struct trace_reader *),
	.out_bytes = sizeof(struct trace_writer *),
	.guess = guess,
	.open = open_reader,
	.next = next,
	.close = close_reader,
	.begin = begin,
	.add = add,
	.end = end,
};
