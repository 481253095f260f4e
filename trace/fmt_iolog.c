/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fmt_iolog.c - fio's iologs.
 *
 * Read: v2 (`FILE wait MS` since the start; other requests come at that time) and v3 (microseconds
 * first).  Their files are volumes.  Written: v3; write-zeroes become trims, and completions, FUA,
 * sources, streams and objects are lost, for iologs know none.
 */
#include "trace/fields.h"
#include "trace/formats.h"

#include <inttypes.h>
#include <string.h>

enum { FIELDS_MAX = 8 };

struct iolog {
	int version;
	uint64_t wait_ns; /* v2 */
};

static bool guess(const uint8_t *head, size_t len)
{
	return len >= 3 && !memcmp(head, "fio", 3);
}

static int read_version(struct trace_in *in, const char *line, struct err *e)
{
	struct iolog *l = in->state;

	if (!strncmp(line, "fio version 2 iolog", 19))
		l->version = 2;
	else if (!strncmp(line, "fio version 3 iolog", 19))
		l->version = 3;
	else
		return err_set(e, -EPROTO, "%s:1: not an iolog of version 2 or 3",
			trace_input_name(in->input));
	return TRACE_NEXT_NOTHING;
}

static int op_of(const char *act)
{
	static const struct {
		const char *name;
		int op;
	} acts[] = {{"read", TRACE_READ}, {"write", TRACE_WRITE}, {"sync", TRACE_FLUSH},
		{"datasync", TRACE_FLUSH}, {"sync_file_range", TRACE_FLUSH},
		{"trim", TRACE_DISCARD}};

	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		if (!strcmp(act, acts[i].name))
			return acts[i].op;
	return -1;
}

static int request(struct trace_in *in, char **f, int n, uint64_t now_ns, struct trace_record *r,
	struct err *e)
{
	int op = op_of(f[1]), rc = 0;

	if (op < 0)
		return trace_in_bad(in, e, "unknown action", f[1]);
	if (op != TRACE_FLUSH && n < 4)
		return trace_in_bad(in, e, "no offset and length after", f[1]);
	if (op != TRACE_FLUSH)
		rc = trace_in_number(in, "bad offset", f[2], &r->offset_bytes, e);
	if (rc == 0 && op != TRACE_FLUSH)
		rc = trace_in_number(in, "bad length", f[3], &r->len_bytes, e);
	r->submit_ns = now_ns;
	r->op = (uint8_t)op;
	in->volume = f[0];
	in->volume_bytes = strlen(f[0]);
	return rc < 0 ? rc : 1;
}

static int scaled(struct trace_in *in, const char *what, const char *s, uint64_t unit, uint64_t *ns,
	struct err *e)
{
	int rc = trace_in_number(in, what, s, ns, e);

	if (rc == 0 && *ns >= (1ull << 63) / unit)
		rc = trace_in_bad(in, e, what, s);
	*ns *= unit;
	return rc;
}

static int next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	char *all[FIELDS_MAX], **f = all, *line;
	struct iolog *l = in->state;
	uint64_t now_ns = l->wait_ns;
	size_t len;
	int n, rc = trace_in_line(in, &line, &len, e);

	if (rc <= 0)
		return rc;
	if (!l->version)
		return read_version(in, line, e);
	n = fields_blanks(line, all, FIELDS_MAX);
	if (n && l->version == 3) {
		rc = scaled(in, "bad time", *f++, 1000, &now_ns, e);
		n--;
	}
	if (rc < 0 || n < 2)
		return rc < 0 ? rc : trace_in_bad(in, e, "cannot be understood:", line);
	if (!strcmp(f[1], "add") || !strcmp(f[1], "open") || !strcmp(f[1], "close"))
		return TRACE_NEXT_NOTHING;
	if (l->version == 2 && n >= 3 && !strcmp(f[1], "wait")) {
		rc = scaled(in, "bad wait", f[2], 1000000, &l->wait_ns, e);
		return rc < 0 ? rc : TRACE_NEXT_NOTHING;
	}
	return request(in, f, n, now_ns, r, e);
}

static int begin(struct trace_out *o, struct err *e)
{
	(void)e;
	fprintf(o->f, "fio version 3 iolog\n0 %s add\n0 %s open\n", o->device, o->device);
	return 0;
}

static int add(struct trace_out *o, const struct trace_record *r, struct err *e)
{
	static const char *const acts[TRACE_OPS] = {"read", "write", "sync", "trim", "trim"};

	if (fprintf(o->f, "%" PRIu64 " %s %s %" PRIu64 " %" PRIu64 "\n", r->submit_ns / 1000,
		    o->device, acts[r->op], r->offset_bytes, r->len_bytes) < 0)
		return trace_out_failed(o, e);
	return 0;
}

static int end(struct trace_out *o, struct err *e)
{
	(void)e;
	fprintf(o->f, "%" PRIu64 " %s close\n", o->last_ns / 1000, o->device);
	return 0;
}

const struct trace_format trace_format_iolog = {
	.name = "iolog",
	.summary = "fio's iolog: v2 and v3 read, v3 written",
	.in_bytes = sizeof(struct iolog),
	.guess = guess,
	.next = next,
	.begin = begin,
	.add = add,
	.end = end,
};
