/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* text.c - see text.h.  A line is cut into fields in place; each field is parsed to its last byte.
 */
#include "trace/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 32 };

/* The columns of CSV, in their default order. */
enum column { SUBMIT, COMPLETE, OP, OFFSET, LEN, SOURCE, STREAM, OBJECT, FLAGS, COLUMNS };
static const char *const column_names[COLUMNS] = {"submit_ns", "complete_ns", "op", "offset_bytes",
	"len_bytes", "source", "stream", "object", "flags"};

struct parser {
	const char *name, *only;
	enum trace_text kind;
	uint64_t line;
	struct err *e;
	bool begun;
	int at[COLUMNS];  /* CSV: column -> field index, or -1 */
	int version;	  /* iolog */
	uint64_t wait_ns; /* iolog v2 */
	char *file;	  /* iolog: the one whose requests are taken */
};

enum trace_text trace_text_guess(const char *head, size_t len)
{
	return len >= 3 && !memcmp(head, "fio", 3) ? TRACE_TEXT_IOLOG : TRACE_TEXT_CSV;
}

static int bad(struct parser *p, const char *what, const char *text)
{
	return err_set(p->e, -EINVAL, "%s:%" PRIu64 ": %s '%s'", p->name, p->line, what, text);
}

static int number(struct parser *p, const char *what, const char *s, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(s, &end, 10);
	if (!isdigit((unsigned char)*s) || *end || errno || *v >> 63)
		return bad(p, what, s);
	return 0;
}

/* ---- CSV ---- */

/* Cuts at commas, trims blanks. */
static int split_csv(char *line, char **f)
{
	int n = 0;

	for (char *s = line; s && n < FIELDS_MAX; n++) {
		char *field = strsep(&s, ","), *end;

		while (isspace((unsigned char)*field))
			field++;
		end = field + strlen(field);
		while (end > field && isspace((unsigned char)end[-1]))
			*--end = 0;
		f[n] = field;
	}
	return n;
}

static int read_names(struct parser *p, char **f, int n)
{
	for (int c = 0; c < COLUMNS; c++) {
		p->at[c] = -1;
		for (int i = 0; i < n; i++)
			if (!strcasecmp(f[i], column_names[c]))
				p->at[c] = i;
		if (c <= LEN && p->at[c] < 0)
			return bad(p, "the first line has no column", column_names[c]);
	}
	return 0;
}

static int parse_op(struct parser *p, const char *s, uint8_t *op)
{
	static const struct {
		const char *name;
		enum trace_op op;
	} names[] = {{"R", TRACE_READ}, {"W", TRACE_WRITE}, {"F", TRACE_FLUSH},
		{"T", TRACE_DISCARD}, {"D", TRACE_DISCARD}, {"Z", TRACE_WRITE_ZEROES},
		{"trim", TRACE_DISCARD}, {"sync", TRACE_FLUSH}, {"zero", TRACE_WRITE_ZEROES}};

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
	return bad(p, "unknown op", s);
}

static int parse_source(struct parser *p, const char *s, uint8_t *source)
{
	for (unsigned i = 0; i < TRACE_SRCS; i++) {
		if (!strcasecmp(s, trace_source_name(i))) {
			*source = (uint8_t)i;
			return 0;
		}
	}
	return bad(p, "unknown source", s);
}

static int parse_flags(struct parser *p, const char *s, uint8_t *flags)
{
	for (const char *c = s; *c; c++) {
		if (*c == 'F')
			*flags |= TRACE_FUA;
		else if (*c == 'E')
			*flags |= TRACE_ERROR;
		else
			return bad(p, "unknown flags", s);
	}
	return 0;
}

/* The optional columns: an absent or empty one keeps its zero. */
static int csv_extras(struct parser *p, char **v, struct trace_record *r)
{
	uint64_t stream = 0;
	int rc = 0;

	if (v[SOURCE])
		rc = parse_source(p, v[SOURCE], &r->source);
	if (rc == 0 && v[STREAM])
		rc = number(p, "bad stream", v[STREAM], &stream);
	if (rc == 0 && stream > UINT8_MAX)
		return bad(p, "stream above 255:", v[STREAM]);
	r->stream = (uint8_t)stream;
	if (rc == 0 && v[OBJECT])
		rc = number(p, "bad object", v[OBJECT], &r->object);
	return rc == 0 && v[FLAGS] ? parse_flags(p, v[FLAGS], &r->flags) : rc;
}

static int csv_record(struct parser *p, char **v, struct trace_record *r)
{
	int rc = number(p, "bad submit_ns", v[SUBMIT], &r->submit_ns);

	if (rc == 0 && v[COMPLETE])
		rc = number(p, "bad complete_ns", v[COMPLETE], &r->complete_ns);
	if (rc == 0)
		rc = parse_op(p, v[OP], &r->op);
	if (rc == 0)
		rc = number(p, "bad offset_bytes", v[OFFSET], &r->offset_bytes);
	if (rc == 0)
		rc = number(p, "bad len_bytes", v[LEN], &r->len_bytes);
	return rc == 0 ? csv_extras(p, v, r) : rc;
}

/* 1: a request in *r; 0: nothing on this line. */
static int csv_line(struct parser *p, char *line, struct trace_record *r)
{
	char *f[FIELDS_MAX] = {0}, *v[COLUMNS] = {0};
	int n = split_csv(line, f), rc;

	if (!p->begun) {
		p->begun = true;
		if (isalpha((unsigned char)f[0][0]))
			return read_names(p, f, n);
		for (int c = 0; c < COLUMNS; c++)
			p->at[c] = c;
	}
	for (int c = 0; c < COLUMNS; c++) {
		if (p->at[c] >= 0 && p->at[c] < n && *f[p->at[c]])
			v[c] = f[p->at[c]];
		else if (c <= LEN && c != COMPLETE)
			return bad(p, "missing", column_names[c]);
	}
	rc = csv_record(p, v, r);
	return rc < 0 ? rc : 1;
}

/* ---- fio's iolog ---- */

static int split_blanks(char *line, char **f)
{
	char *save = NULL;
	int n = 0;

	for (char *s = strtok_r(line, " \t\r\n", &save); s && n < FIELDS_MAX;
		s = strtok_r(NULL, " \t\r\n", &save))
		f[n++] = s;
	return n;
}

static int iolog_version(struct parser *p, const char *line)
{
	p->begun = true;
	if (!strncmp(line, "fio version 2 iolog", 19))
		p->version = 2;
	else if (!strncmp(line, "fio version 3 iolog", 19))
		p->version = 3;
	else
		return err_set(p->e, -EPROTO, "%s:1: not an iolog of version 2 or 3", p->name);
	return 0;
}

/* All requests must be of one file: offsets of two have nothing to do with each other. */
static int iolog_file(struct parser *p, const char *file)
{
	if (p->only)
		return !strcmp(file, p->only);
	if (!p->file && !(p->file = strdup(file)))
		return err_set(p->e, -ENOMEM, "out of memory");
	if (strcmp(file, p->file))
		return err_set(p->e, -EINVAL,
			"%s:%" PRIu64 ": requests to '%s' and to '%s': choose one with --file",
			p->name, p->line, p->file, file);
	return 1;
}

static int iolog_op(const char *act)
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

static int iolog_request(struct parser *p, char **f, int n, uint64_t now_ns, struct trace_record *r)
{
	int op = iolog_op(f[1]), rc = 0;

	if (op < 0)
		return bad(p, "unknown action", f[1]);
	if (op != TRACE_FLUSH && n < 4)
		return bad(p, "no offset and length after", f[1]);
	if (op != TRACE_FLUSH)
		rc = number(p, "bad offset", f[2], &r->offset_bytes);
	if (rc == 0 && op != TRACE_FLUSH)
		rc = number(p, "bad length", f[3], &r->len_bytes);
	r->submit_ns = now_ns;
	r->op = (uint8_t)op;
	return rc < 0 ? rc : iolog_file(p, f[0]);
}

static int scaled(struct parser *p, const char *what, const char *s, uint64_t unit, uint64_t *ns)
{
	int rc = number(p, what, s, ns);

	if (rc == 0 && *ns >= (1ull << 63) / unit)
		rc = bad(p, what, s);
	*ns *= unit;
	return rc;
}

static int iolog_line(struct parser *p, char *line, struct trace_record *r)
{
	char *all[FIELDS_MAX] = {0}, **f = all;
	uint64_t now_ns = p->wait_ns;
	int n, rc = 0;

	if (!p->begun)
		return iolog_version(p, line);
	n = split_blanks(line, all);
	if (n && p->version == 3) {
		rc = scaled(p, "bad time", *f++, 1000, &now_ns);
		n--;
	}
	if (rc < 0 || n < 2)
		return rc < 0 ? rc : bad(p, "cannot be understood:", line);
	if (!strcmp(f[1], "add") || !strcmp(f[1], "open") || !strcmp(f[1], "close"))
		return 0;
	if (p->version == 2 && n >= 3 && !strcmp(f[1], "wait"))
		return scaled(p, "bad wait", f[2], 1000000, &p->wait_ns);
	return iolog_request(p, f, n, now_ns, r);
}

/* ---- reading ---- */

static bool blank(const char *line)
{
	while (isspace((unsigned char)*line))
		line++;
	return !*line || *line == '#';
}

static int read_line(struct parser *p, char *line, struct trace_record *r)
{
	int rc;

	*r = (struct trace_record){0};
	p->line++;
	if (blank(line))
		return 0;
	rc = p->kind == TRACE_TEXT_CSV ? csv_line(p, line, r) : iolog_line(p, line, r);
	if (rc == 1 && !trace_record_ok(r))
		return bad(p, "impossible request:",
			r->complete_ns && r->complete_ns < r->submit_ns
				? "it completes before it is submitted"
				: "it is too large");
	return rc;
}

int trace_text_read(FILE *f, const char *name, enum trace_text kind, const char *only,
	int (*fn)(void *arg, const struct trace_record *r), void *arg, struct err *e)
{
	struct parser p = {.name = name, .only = only, .kind = kind, .e = e};
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int rc = 0;

	while (rc >= 0 && (len = getline(&line, &size, f)) >= 0) {
		struct trace_record r;

		if (strlen(line) != (size_t)len)
			rc = err_set(e, -EUCLEAN,
				"%s:%" PRIu64 ": not text: neither a trace of LSVD, "
				"nor CSV, nor an iolog",
				name, p.line + 1);
		else
			rc = read_line(&p, line, &r);
		if (rc == 1)
			rc = fn(arg, &r);
	}
	if (rc >= 0 && ferror(f))
		rc = err_set(e, -EIO, "'%s': cannot be read", name);
	free(line);
	free(p.file);
	return rc < 0 ? rc : 0;
}

/* ---- writing ---- */

void trace_text_head(FILE *f, enum trace_text kind, const char *file)
{
	if (kind == TRACE_TEXT_IOLOG) {
		fprintf(f, "fio version 3 iolog\n0 %s add\n0 %s open\n", file, file);
		return;
	}
	for (int c = 0; c < COLUMNS; c++)
		fprintf(f, "%s%s", c ? "," : "", column_names[c]);
	fputc('\n', f);
}

void trace_text_line(FILE *f, enum trace_text kind, const char *file, const struct trace_record *r)
{
	static const char *const acts[TRACE_OPS] = {"read", "write", "sync", "trim", "trim"};
	static const char letters[TRACE_OPS + 1] = "RWFTZ";

	if (kind == TRACE_TEXT_IOLOG)
		fprintf(f, "%" PRIu64 " %s %s %" PRIu64 " %" PRIu64 "\n", r->submit_ns / 1000, file,
			acts[r->op], r->offset_bytes, r->len_bytes);
	else
		fprintf(f,
			"%" PRIu64 ",%" PRIu64 ",%c,%" PRIu64 ",%" PRIu64 ",%s,%u,%" PRIu64
			",%s%s\n",
			r->submit_ns, r->complete_ns, letters[r->op], r->offset_bytes, r->len_bytes,
			trace_source_name(r->source), r->stream, r->object,
			r->flags & TRACE_FUA ? "F" : "", r->flags & TRACE_ERROR ? "E" : "");
}

void trace_text_tail(FILE *f, enum trace_text kind, const char *file, uint64_t end_ns)
{
	if (kind == TRACE_TEXT_IOLOG)
		fprintf(f, "%" PRIu64 " %s close\n", end_ns / 1000, file);
}
