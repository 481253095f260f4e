/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fmt_csv.c - LSVD's own CSV, which keeps every field of a trace.
 *
 * submit_ns,complete_ns,op,offset_bytes,len_bytes[,source,stream,object,flags].  A first line of
 * names is optional; when it is there, columns are found by name, in any order, and unknown ones
 * ignored.  op: R W F T Z or read write flush discard (trim) write-zeroes; complete_ns may be empty
 * or 0 = unknown; flags: letters F (FUA), E (failed).  Empty lines and lines from '#' are skipped.
 */
#include "trace/fields.h"
#include "trace/formats.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 32 };

/* The columns, in their default order. */
enum column { SUBMIT, COMPLETE, OP, OFFSET, LEN, SOURCE, STREAM, OBJECT, FLAGS, COLUMNS };
static const char *const column_names[COLUMNS] = {"submit_ns", "complete_ns", "op", "offset_bytes",
	"len_bytes", "source", "stream", "object", "flags"};

struct csv {
	bool begun;
	int at[COLUMNS]; /* column -> field index, or -1 */
};

static int read_names(struct trace_in *in, char **f, int n, struct err *e)
{
	struct csv *c = in->state;

	for (int k = 0; k < COLUMNS; k++) {
		c->at[k] = -1;
		for (int i = 0; i < n; i++)
			if (!strcasecmp(f[i], column_names[k]))
				c->at[k] = i;
		if (k <= LEN && c->at[k] < 0)
			return trace_in_bad(in, e, "the first line has no column", column_names[k]);
	}
	return 0;
}

static int parse_op(struct trace_in *in, const char *s, uint8_t *op, struct err *e)
{
	static const char letters[] = "RWFTZD";
	static const uint8_t of_letter[] = {TRACE_READ, TRACE_WRITE, TRACE_FLUSH, TRACE_DISCARD,
		TRACE_WRITE_ZEROES, TRACE_DISCARD};
	static const struct {
		const char *name;
		enum trace_op op;
	} names[] = {{"trim", TRACE_DISCARD}, {"sync", TRACE_FLUSH}, {"zero", TRACE_WRITE_ZEROES}};
	const char *l = s[0] && !s[1] ? strchr(letters, toupper((unsigned char)s[0])) : NULL;

	if (l) {
		*op = of_letter[l - letters];
		return 0;
	}
	for (unsigned i = 0; i < TRACE_OPS; i++) {
		if (!strcasecmp(s, trace_op_name(i))) {
			*op = (uint8_t)i;
			return 0;
		}
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcasecmp(s, names[i].name)) {
			*op = (uint8_t)names[i].op;
			return 0;
		}
	}
	return trace_in_bad(in, e, "unknown op", s);
}

static int parse_source(struct trace_in *in, const char *s, uint8_t *source, struct err *e)
{
	for (unsigned i = 0; i < TRACE_SRCS; i++) {
		if (!strcasecmp(s, trace_source_name(i))) {
			*source = (uint8_t)i;
			return 0;
		}
	}
	return trace_in_bad(in, e, "unknown source", s);
}

static int parse_flags(struct trace_in *in, const char *s, uint8_t *flags, struct err *e)
{
	for (const char *c = s; *c; c++) {
		if (*c == 'F')
			*flags |= TRACE_FUA;
		else if (*c == 'E')
			*flags |= TRACE_ERROR;
		else
			return trace_in_bad(in, e, "unknown flags", s);
	}
	return 0;
}

/* The optional columns: an absent or empty one keeps its zero. */
static int extras(struct trace_in *in, char **v, struct trace_record *r, struct err *e)
{
	uint64_t stream = 0;
	int rc = 0;

	if (v[SOURCE])
		rc = parse_source(in, v[SOURCE], &r->source, e);
	if (rc == 0 && v[STREAM])
		rc = trace_in_number(in, "bad stream", v[STREAM], &stream, e);
	if (rc == 0 && stream > UINT8_MAX)
		return trace_in_bad(in, e, "stream above 255:", v[STREAM]);
	r->stream = (uint8_t)stream;
	if (rc == 0 && v[OBJECT])
		rc = trace_in_number(in, "bad object", v[OBJECT], &r->object, e);
	return rc == 0 && v[FLAGS] ? parse_flags(in, v[FLAGS], &r->flags, e) : rc;
}

static int record(struct trace_in *in, char **v, struct trace_record *r, struct err *e)
{
	int rc = trace_in_number(in, "bad submit_ns", v[SUBMIT], &r->submit_ns, e);

	if (rc == 0 && v[COMPLETE])
		rc = trace_in_number(in, "bad complete_ns", v[COMPLETE], &r->complete_ns, e);
	if (rc == 0)
		rc = parse_op(in, v[OP], &r->op, e);
	if (rc == 0)
		rc = trace_in_number(in, "bad offset_bytes", v[OFFSET], &r->offset_bytes, e);
	if (rc == 0)
		rc = trace_in_number(in, "bad len_bytes", v[LEN], &r->len_bytes, e);
	return rc == 0 ? extras(in, v, r, e) : rc;
}

static int next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	char *f[FIELDS_MAX], *v[COLUMNS] = {0}, *line;
	struct csv *c = in->state;
	size_t len;
	int n, rc = trace_in_line(in, &line, &len, e);

	if (rc <= 0)
		return rc;
	n = fields_commas(line, f, FIELDS_MAX);
	if (!c->begun) {
		c->begun = true;
		if (isalpha((unsigned char)f[0][0])) {
			rc = read_names(in, f, n, e);
			return rc < 0 ? -EUCLEAN : TRACE_NEXT_NOTHING;
		}
		for (int k = 0; k < COLUMNS; k++)
			c->at[k] = k;
	}
	for (int k = 0; k < COLUMNS; k++) {
		if (c->at[k] >= 0 && c->at[k] < n && *f[c->at[k]])
			v[k] = f[c->at[k]];
		else if (k <= LEN && k != COMPLETE)
			return trace_in_bad(in, e, "missing", column_names[k]);
	}
	rc = record(in, v, r, e);
	return rc < 0 ? rc : 1;
}

static int begin(struct trace_out *o, struct err *e)
{
	(void)e;
	for (int k = 0; k < COLUMNS; k++)
		fprintf(o->f, "%s%s", k ? "," : "", column_names[k]);
	fputc('\n', o->f);
	return 0;
}

static int add(struct trace_out *o, const struct trace_record *r, struct err *e)
{
	static const char letters[TRACE_OPS + 1] = "RWFTZ";

	if (fprintf(o->f,
		    "%" PRIu64 ",%" PRIu64 ",%c,%" PRIu64 ",%" PRIu64 ",%s,%u,%" PRIu64 ",%s%s\n",
		    r->submit_ns, r->complete_ns, letters[r->op], r->offset_bytes, r->len_bytes,
		    trace_source_name(r->source), r->stream, r->object,
		    r->flags & TRACE_FUA ? "F" : "", r->flags & TRACE_ERROR ? "E" : "") < 0)
		return trace_out_failed(o, e);
	return 0;
}

const struct trace_format trace_format_csv = {
	.name = "csv",
	.summary = "LSVD's CSV: every field, by name",
	.in_bytes = sizeof(struct csv),
	.next = next,
	.begin = begin,
	.add = add,
};
