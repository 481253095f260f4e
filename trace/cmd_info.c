/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_info.c - `lsvd trace info`: the figures of analyse.h as a table or JSON. */
#include "cli/cli.h"
#include "trace/analyse.h"
#include "trace/cmd.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static const struct argp_option options[] = {
	{"volume", 'V', "NAME", 0, "of several: the requests to this one", 0},
	{"json", 'j', NULL, 0, "print JSON", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}
static double share(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* ---- JSON ---- */

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *op_json(const struct trace_op_info *o)
{
	json_t *sizes = json_object();

	for (unsigned k = 0; k < SIZE_BUCKETS; k++) {
		char name[32];

		if (!o->sizes[k])
			continue;
		if (k < SIZE_BUCKETS - 1)
			snprintf(name, sizeof(name), "%" PRIu64, trace_size_limit(k));
		else
			snprintf(name, sizeof(name), "more");
		json_object_set_new(sizes, name, number(o->sizes[k]));
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "requests",
		number(o->requests), "bytes", number(o->bytes), "sequential", number(o->sequential),
		"errors", number(o->errors), "size_up_to_bytes", sizes, "p50_ns", number(o->p50_ns),
		"p99_ns", number(o->p99_ns), "max_ns", number(o->max_ns), "completions_known",
		number(o->known));
}

static json_t *info_json(const struct trace *t, const struct trace_info *info)
{
	json_t *ops = json_object(), *sources = json_object();

	for (unsigned i = 0; i < TRACE_OPS; i++)
		if (info->op[i].requests)
			json_object_set_new(ops, trace_op_name(i), op_json(&info->op[i]));
	for (unsigned i = 0; i < TRACE_SRCS; i++)
		if (info->source[i].requests)
			json_object_set_new(sources, trace_source_name(i),
				json_pack("{s:o, s:o}", "requests",
					number(info->source[i].requests), "bytes",
					number(info->source[i].bytes)));
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o,"
		" s:o, s:o, s:s}",
		"requests", number(info->requests), "bytes", number(info->bytes), "ops", ops,
		"reads_by_source", sources, "unique_blocks", number(info->blocks),
		"unique_blocks_read", number(info->read_blocks), "unique_blocks_written",
		number(info->written_blocks), "oversized", number(info->oversized), "stall_ns",
		number(info->stall_ns), "read_outstanding_ns", number(info->read_outstanding_ns),
		"duration_ns", number(info->duration_ns), "end_bytes", number(info->end_bytes),
		"image_bytes", number(t->header.size_bytes), "dropped", number(t->counts.dropped),
		"torn_blocks", number(t->counts.torn_blocks), "skipped_blocks",
		number(t->counts.skipped_blocks), "skipped_records",
		number(t->counts.skipped_records), "comment", t->header.comment);
}

/* ---- text ---- */

static void print_header(const struct trace *t)
{
	time_t start = (time_t)(t->header.start_wall_ns / 1000000000u);
	char when[40];
	struct tm tm;

	if (t->header.comment[0])
		printf("comment             %s\n", t->header.comment);
	if (start && gmtime_r(&start, &tm) && strftime(when, sizeof(when), "%F %T UTC", &tm))
		printf("recorded            %s\n", when);
	if (t->header.size_bytes)
		printf("image size          %s\n", cli_size(t->header.size_bytes));
}

static void print_ops(const struct trace_info *info)
{
	printf("\n%-12s %10s %12s %11s %10s %10s %10s\n", "op", "requests", "bytes", "sequential",
		"p50 ms", "p99 ms", "max ms");
	for (unsigned i = 0; i < TRACE_OPS; i++) {
		const struct trace_op_info *o = &info->op[i];

		if (!o->requests)
			continue;
		printf("%-12s %10" PRIu64 " %12s %9.1f %%", trace_op_name(i), o->requests,
			cli_size(o->bytes), share(o->sequential, o->requests));
		if (o->known)
			printf(" %10.3f %10.3f %10.3f\n", ms(o->p50_ns), ms(o->p99_ns),
				ms(o->max_ns));
		else
			printf(" %10s %10s %10s\n", "-", "-", "-");
	}
}

static void print_sizes(const struct trace_info *info)
{
	printf("\n%-12s %10s %10s\n", "size up to", "reads", "writes");
	for (unsigned k = 0; k < SIZE_BUCKETS; k++) {
		uint64_t r = info->op[TRACE_READ].sizes[k], w = info->op[TRACE_WRITE].sizes[k];

		if (r || w)
			printf("%-12s %10" PRIu64 " %10" PRIu64 "\n",
				k < SIZE_BUCKETS - 1 ? cli_size(trace_size_limit(k)) : "more", r,
				w);
	}
}

static void print_sources(const struct trace_info *info)
{
	if (info->source[TRACE_SRC_NONE].requests == info->op[TRACE_READ].requests)
		return;
	printf("\n%-12s %10s %12s %10s\n", "reads from", "requests", "bytes", "of bytes");
	for (unsigned i = 0; i < TRACE_SRCS; i++)
		if (info->source[i].requests)
			printf("%-12s %10" PRIu64 " %12s %8.1f %%\n", trace_source_name(i),
				info->source[i].requests, cli_size(info->source[i].bytes),
				share(info->source[i].bytes, info->op[TRACE_READ].bytes));
}

static void print_info(const struct trace *t, const struct trace_info *info)
{
	print_header(t);
	printf("duration            %.3f s\n", ms(info->duration_ns) / 1000);
	printf("requests            %" PRIu64 " (%s read or written)\n", info->requests,
		cli_size(info->bytes));
	printf("unique 4 KiB blocks %" PRIu64 " (%s): %" PRIu64 " read, %" PRIu64 " written\n",
		info->blocks, cli_size(info->blocks * 4096), info->read_blocks,
		info->written_blocks);
	if (info->op[TRACE_READ].known || !info->op[TRACE_READ].requests) {
		printf("read stall time     %.3f s (all reads' waits added up)\n",
			ms(info->stall_ns) / 1000);
		printf("read outstanding    %.3f s (%.1f %% of the time)\n",
			ms(info->read_outstanding_ns) / 1000,
			share(info->read_outstanding_ns, info->duration_ns));
	} else {
		printf("read stall time     unknown: the trace has no completions\n");
	}
	printf("dropped, torn       %" PRIu64 " requests dropped, %" PRIu64 " blocks torn, %" PRIu64
	       " skipped (%" PRIu64 " requests)\n",
		t->counts.dropped, t->counts.torn_blocks, t->counts.skipped_blocks,
		t->counts.skipped_records);
	print_ops(info);
	print_sizes(info);
	print_sources(info);
}

int cmd_trace_info(int argc, char **argv)
{
	static const struct argp argp = {.options = options,
		.parser = cmd_parse_reading,
		.args_doc = "TRACE",
		.doc = "Print what is in a trace, in any format that `lsvd trace import` "
		       "reads; - is stdin."
		       "\vStall time adds up how long each read waited; read outstanding is the "
		       "time "
		       "with at least one read in flight.\n\n"
		       "example: lsvd trace info --json boot.trace"};
	struct cmd_reading a = {0};
	struct trace t;
	struct trace_info info;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = cmd_load(a.path[0], a.volume, &t);
	if (rc != CLI_OK)
		return rc;
	if (trace_analyse(&t, &info) < 0)
		rc = cli_fail("out of memory");
	else if (a.json)
		cli_print_json(info_json(&t, &info));
	else
		print_info(&t, &info);
	trace_free(&t);
	return rc;
}
