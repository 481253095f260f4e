/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_dump.c - `lsvd trace dump`: every request. */
#include "cli/cli.h"
#include "trace/cmd.h"

#include <inttypes.h>
#include <stdio.h>

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

int cmd_trace_dump(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"volume", 'V', "NAME", 0, "of several: the requests to this one", 0},
		{"json", 'j', NULL, 0, "one JSON object per line", 0},
		{NULL, 0, NULL, 0, NULL, 0},
	};
	static const struct argp argp = {.options = options,
		.parser = cmd_parse_reading,
		.args_doc = "TRACE",
		.doc = "Print every request, in order of submission: time and latency in "
		       "microseconds, op, offset and length in bytes, source, stream, object."
		       "\vexample: lsvd trace dump --json boot.trace | jq .offset_bytes"};
	struct cmd_reading a = {0};
	struct trace t;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = cmd_load(a.path[0], a.volume, &t);
	if (rc != CLI_OK)
		return rc;
	if (!a.json)
		printf("%14s %10s  %-12s %16s %10s  %-8s %3s %8s\n", "submit us", "latency", "op",
			"offset", "length", "source", "str", "object");
	for (size_t i = 0; i < t.n; i++)
		(a.json ? dump_json : dump_text)(&t.records[i]);
	trace_free(&t);
	return CLI_OK;
}
