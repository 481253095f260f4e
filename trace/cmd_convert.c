/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_convert.c - `lsvd trace dump`, `export` and `import`. */
#include "cli/cli.h"
#include "trace/cmd.h"
#include "trace/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct args {
	const char *path[2]; /* input, output */
	const char *file, *comment, *format;
	uint64_t size_bytes;
	bool json;
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;

	if (key == 'j')
		a->json = true;
	else if (key == 'f')
		a->format = arg;
	else if (key == 'F')
		a->file = arg;
	else if (key == 'c')
		a->comment = arg;
	else if (key == 's' && cli_parse_size(arg, &a->size_bytes) < 0)
		argp_error(st, "bad size '%s'", arg);
	else if (key == ARGP_KEY_ARG)
		cmd_positional(st, a->path, 2, arg);
	else if (key == ARGP_KEY_END && !a->path[0])
		argp_error(st, "no trace given");
	else if (key != 's')
		return ARGP_ERR_UNKNOWN;
	return 0;
}

/* ---- dump ---- */

static void dump_text(const struct trace_record *r)
{
	char latency[32] = "-";

	if (r->complete_ns)
		snprintf(latency, sizeof(latency), "%.3f",
			(double)(r->complete_ns - r->submit_ns) / 1000);
	printf("%14.3f %10s  %-12s %16" PRIu64 " %10" PRIu64 "  %-8s %3u %8" PRIu64 "%s%s\n",
		(double)r->submit_ns / 1000, latency, trace_op_name(r->op), r->offset_bytes,
		r->len_bytes, trace_source_name(r->source), r->stream, r->object,
		r->flags & TRACE_FUA ? " fua" : "", r->flags & TRACE_ERROR ? " error" : "");
}

static void dump_json(const struct trace_record *r)
{
	printf("{\"submit_ns\": %" PRIu64 ", \"complete_ns\": ", r->submit_ns);
	if (r->complete_ns)
		printf("%" PRIu64, r->complete_ns);
	else
		fputs("null", stdout);
	printf(", \"op\": \"%s\", \"offset_bytes\": %" PRIu64 ", \"len_bytes\": %" PRIu64
	       ", \"source\": \"%s\", \"stream\": %u, \"object\": %" PRIu64
	       ", \"fua\": %s, \"error\": %s}\n",
		trace_op_name(r->op), r->offset_bytes, r->len_bytes, trace_source_name(r->source),
		r->stream, r->object, r->flags & TRACE_FUA ? "true" : "false",
		r->flags & TRACE_ERROR ? "true" : "false");
}

static int flush_stdout(void)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		return cli_fail("stdout: %s", strerror(errno));
	return CLI_OK;
}

int cmd_trace_dump(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", 'j', NULL, 0, "one JSON object per line", 0},
		{NULL, 0, NULL, 0, NULL, 0},
	};
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE",
		.doc = "Print every request, in order of submission: time and latency in "
		       "microseconds, op, offset and length in bytes, source, stream, object."
		       "\vexample: lsvd trace dump --json boot.trace | jq .offset_bytes"};
	struct args a = {0};
	struct trace t;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = cmd_load(a.path[0], NULL, &t);
	if (rc != CLI_OK)
		return rc;
	if (!a.json)
		printf("%14s %10s  %-12s %16s %10s  %-8s %3s %8s\n", "submit us", "latency", "op",
			"offset", "length", "source", "str", "object");
	for (size_t i = 0; i < t.n; i++)
		(a.json ? dump_json : dump_text)(&t.records[i]);
	trace_free(&t);
	return flush_stdout();
}

/* ---- export ---- */

static int export_to(const char *path, const struct args *a, const struct trace *t, struct err *e)
{
	struct trace_export_options opt = {.format = a->format ? a->format : "csv", .device = a->file};
	struct trace_header h = t->header;
	struct trace_export *x;
	int rc;

	if (a->size_bytes)
		h.size_bytes = a->size_bytes;
	if (a->comment)
		snprintf(h.comment, sizeof(h.comment), "%s", a->comment);
	rc = trace_export_open(path, &opt, &h, &x, e);
	for (size_t i = 0; i < t->n && rc == 0; i++)
		rc = trace_export_add(x, &t->records[i], e);
	return rc < 0 ? rc : trace_export_close(x, t->counts.dropped + t->counts.skipped_records, e);
}

int cmd_trace_export(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"format", 'f', "csv|iolog", 0, "csv (default), or a fio iolog v3", 0},
		{"file", 'F', "NAME", 0, "iolog: the device fio will open (default: image)", 0},
		{NULL, 0, NULL, 0, NULL, 0},
	};
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE [OUTPUT]",
		.doc = "Write a trace as CSV or as a fio iolog, to stdout when no OUTPUT is given."
		       "\vAn iolog has microseconds, no completions and no write-zeroes (they "
		       "become "
		       "trims).\n\n"
		       "example: lsvd trace export --format iolog --file /dev/vdb boot.trace "
		       "boot.iolog\n"
		       "  fio --name=boot --ioengine=io_uring --read_iolog=boot.iolog"};
	struct args a = {0};
	struct err e = {0};
	struct trace t;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (a.format && strcmp(a.format, "csv") && strcmp(a.format, "iolog")) {
		cli_fail("trace export: no format '%s'; there are csv and iolog", a.format);
		return CLI_USAGE;
	}
	rc = cmd_load(a.path[0], NULL, &t);
	if (rc != CLI_OK)
		return rc;
	if (export_to(a.path[1] ? a.path[1] : "-", &a, &t, &e) < 0)
		rc = cli_fail("trace export: %s", e.msg);
	trace_free(&t);
	return rc;
}

/* ---- import ---- */

int cmd_trace_import(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"file", 'F', "NAME", 0, "iolog of several files: take this one", 0},
		{"size", 's', "SIZE", 0, "size of the image it was recorded from", 0},
		{"comment", 'c', "TEXT", 0, "what the trace is", 0},
		{NULL, 0, NULL, 0, NULL, 0},
	};
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "INPUT TRACE",
		.doc = "Make a trace of CSV or of a fio iolog (v2, v3); - is stdin or stdout."
		       "\vCSV: "
		       "submit_ns,complete_ns,op,offset_bytes,len_bytes[,source,stream,object,"
		       "flags]; a line with these names is optional, op is one of R W F T Z or a "
		       "word.  A trace as INPUT is written anew, without its damage.\n\n"
		       "example: lsvd trace import --comment 'boot of srv' boot.csv boot.trace"};
	struct args a = {0};
	struct trace t;
	struct err e = {0};
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (!a.path[1]) {
		cli_fail("trace import: no TRACE to write given");
		return CLI_USAGE;
	}
	rc = cmd_load(a.path[0], a.file, &t);
	if (rc != CLI_OK)
		return rc;
	a.format = "lsvd";
	if (export_to(a.path[1], &a, &t, &e) < 0)
		rc = cli_fail("trace import: %s", e.msg);
	trace_free(&t);
	return rc;
}
