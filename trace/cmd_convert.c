/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_convert.c - `lsvd trace import` and `export`: options and what is told of convert.h. */
#include "cli/cli.h"
#include "trace/cmd.h"
#include "trace/convert.h"
#include "trace/formats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_SPLIT = 0x3100, OPT_SKIP_BAD, OPT_LIST, OPT_MEMORY };

struct args {
	const char *path[2]; /* input, output */
	const char *format;
	struct convert_options c;
	bool import, list, json, quiet;
	struct cli_progress bar;
};

static const struct argp_option import_options[] = {
	{"format", 'f', "NAME", 0, "of INPUT (default: told by how it begins); see below", 0},
	{"volume", 'V', "NAME", 0, "take the requests to this volume only", 0},
	{"file", 'F', "NAME", 0, "the same: an iolog's volumes are files", 0},
	{"split", OPT_SPLIT, NULL, 0, "all volumes: TRACE is a folder, one VOLUME.trace each", 0},
	{"list", OPT_LIST, NULL, 0, "write nothing: list the volumes of INPUT", 0},
	{"skip-bad", OPT_SKIP_BAD, NULL, 0, "leave out and count lines that are bad", 0},
	{"size", 's', "SIZE", 0, "of the volume; requests beyond it are bad", 0},
	{"comment", 'c', "TEXT", 0, "what the trace is", 0},
	{"quiet", 'q', NULL, 0, "no progress, no summary", 0},
	{"json", 'j', NULL, 0, "the summary, or the list, as JSON", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

static const struct argp_option export_options[] = {
	{"format", 'f', "NAME", 0,
		"csv (default), iolog (fio's, v3), oracleGeneral (libCacheSim's)", 0},
	{"file", 'F', "NAME", 0, "iolog: the device fio will open (default: image)", 0},
	{"block", 'b', "SIZE", 0, "oracleGeneral: of an object (default 4K); 0: a request is one",
		0},
	{"memory", OPT_MEMORY, "SIZE", 0, "oracleGeneral: for its table of blocks (default 1G)", 0},
	{"skip-bad", OPT_SKIP_BAD, NULL, 0, "leave out and count lines that are bad", 0},
	{"quiet", 'q', NULL, 0, "no progress", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

static void size_option(struct argp_state *st, const char *arg, uint64_t max, uint64_t *v)
{
	if (cli_parse_size(arg, v) < 0 || *v > max)
		argp_error(st, "bad size '%s'", arg);
}

static void end_of_arguments(struct argp_state *st, struct args *a)
{
	if (!a->path[0])
		argp_error(st, "no %s given", a->import ? "INPUT" : "trace");
	if (a->import && !a->list && !a->path[1])
		argp_error(st, "no TRACE to write given");
	if (a->list && (a->path[1] || a->c.split))
		argp_error(st, "--list writes no trace");
	if (a->c.split && a->c.in.volume)
		argp_error(st, "either --split or one --volume");
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;
	uint64_t v;

	switch (key) {
	case 'f':
		a->format = arg;
		return 0;
	case 'V':
		a->c.in.volume = arg;
		return 0;
	case 'F':
		*(a->import ? &a->c.in.volume : &a->c.out.device) = arg;
		return 0;
	case OPT_SPLIT:
		a->c.split = true;
		return 0;
	case OPT_LIST:
		a->list = true;
		return 0;
	case OPT_SKIP_BAD:
		a->c.in.skip_bad = true;
		return 0;
	case 's':
		size_option(st, arg, INT64_MAX, &a->c.size_bytes);
		return 0;
	case 'c':
		a->c.comment = arg;
		return 0;
	case 'b':
		size_option(st, arg, 1 << 30, &v);
		a->c.out.block_bytes = (uint32_t)v;
		return 0;
	case OPT_MEMORY:
		size_option(st, arg, INT64_MAX, &a->c.out.memory_bytes);
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		cmd_positional(st, a->path, 2, arg);
		return 0;
	case ARGP_KEY_END:
		end_of_arguments(st, a);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- what is told ---- */

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *result_json(const struct convert_result *res)
{
	const struct trace_import_stats *s = &res->stats;
	json_t *volumes = json_array();

	for (uint32_t i = 0; i < res->n_volumes; i++) {
		const struct convert_volume *v = &res->volumes[i];

		json_array_append_new(volumes,
			json_pack("{s:s%, s:o, s:o, s:o, s:o}", "volume", v->name, strlen(v->name),
				"requests", number(v->requests), "read_bytes",
				number(v->read_bytes), "write_bytes", number(v->write_bytes),
				"end_bytes", number(v->end_bytes)));
	}
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format", res->format,
		"requests", number(s->requests), "bad", number(s->bad), "ignored",
		number(s->ignored), "early", number(s->early), "late", number(res->late),
		"other_volumes", number(s->others), "dropped", number(res->counts.dropped),
		"volumes", volumes);
}

static void print_list(const struct convert_result *res)
{
	printf("%-24s %12s %12s %12s %14s\n", "volume", "requests", "read", "written", "up to");
	for (uint32_t i = 0; i < res->n_volumes; i++) {
		const struct convert_volume *v = &res->volumes[i];

		printf("%-24s %12" PRIu64 " %12s %12s %14s\n", *v->name ? v->name : "-",
			v->requests, cli_size(v->read_bytes), cli_size(v->write_bytes),
			cli_size(v->end_bytes));
	}
}

/* What is not as one would think of a trace goes to stderr, even when quiet. */
static void warn(const struct args *a, const struct convert_result *res)
{
	const struct trace_import_stats *s = &res->stats;
	const char *path = a->path[0];

	if (s->bad)
		fprintf(stderr, "lsvd: '%s': %" PRIu64 " bad lines left out; the first: %s\n", path,
			s->bad, s->first_bad);
	if (s->ignored)
		fprintf(stderr, "lsvd: '%s': %" PRIu64 " records that are no I/O left out\n", path,
			s->ignored);
	if (s->early)
		fprintf(stderr,
			"lsvd: '%s': %" PRIu64
			" requests are older than the first; their time is 0\n",
			path, s->early);
	if (res->late)
		fprintf(stderr,
			"lsvd: '%s': %" PRIu64 " requests are far out of order and stay so\n", path,
			res->late);
	cmd_warn_counts(path, &res->counts);
}

static int run(struct args *a)
{
	struct convert_result res;
	struct err e = {0};
	int rc;

	a->c.progress = cmd_progress;
	a->c.arg = &a->bar;
	cli_catch_signals();
	cli_progress_begin(&a->bar, a->import ? "import" : "export", 0, a->quiet || a->json);
	rc = convert_run(a->path[0], a->path[1] ? a->path[1] : "-", &a->c, &res, &e);
	if (rc < 0) {
		convert_result_fini(&res);
		return cli_fail("trace %s: %s", a->import ? "import" : "export", e.msg);
	}
	cli_progress_end(&a->bar);
	warn(a, &res);
	if (a->json)
		cli_print_json(result_json(&res));
	else if (a->list)
		print_list(&res);
	else if (a->c.split && !a->quiet)
		fprintf(stderr, "%" PRIu64 " requests to %u volumes (%s)\n", res.stats.requests,
			res.n_volumes, res.format);
	convert_result_fini(&res);
	return CLI_OK;
}

/* A wrong name of a format is a mistake of usage. */
static bool known(const char *name, bool write, const char *command)
{
	struct err e;

	if (!name || trace_format_find(name, write, &e))
		return true;
	cli_fail("trace %s: %s", command, e.msg);
	return false;
}

/* The formats, at the end of --help. */
static char *help(int key, const char *text, void *input)
{
	size_t len = 0;
	char *out = NULL;
	FILE *f;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC || !(f = open_memstream(&out, &len)))
		return (char *)text;
	fputs("Formats:\n", f);
	for (size_t i = 0; trace_format_at(i); i++)
		if (trace_format_at(i)->next)
			fprintf(f, "  %-14s %s\n", trace_format_at(i)->name,
				trace_format_at(i)->summary);
	fprintf(f, "\n%s", text);
	fclose(f);
	return out;
}

int cmd_trace_import(int argc, char **argv)
{
	static const struct argp argp = {.options = import_options,
		.parser = parse,
		.args_doc = "INPUT TRACE",
		.help_filter = help,
		.doc = "Make a trace of what was recorded elsewhere, in constant memory; - is "
		       "stdin or "
		       "stdout, and files that gzip, zstd, xz or bzip2 made are read as they are."
		       "\vTime 0 is the first request's.  A bad line ends the import with its "
		       "number. "
		       "A trace of LSVD as INPUT is written anew, without its damage.\n\n"
		       "example: lsvd trace import --volume hm_0 hm_0.csv.gz hm_0.trace\n"
		       "  lsvd trace import --split io_traces.csv volumes/"};
	struct args a = {.import = true};

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (!known(a.format, false, "import"))
		return CLI_USAGE;
	a.c.in.format = a.format;
	a.c.out.format = a.list ? NULL : "lsvd";
	return run(&a);
}

int cmd_trace_export(int argc, char **argv)
{
	static const struct argp argp = {.options = export_options,
		.parser = parse,
		.args_doc = "TRACE [OUTPUT]",
		.doc = "Write a trace in another format, to stdout when no OUTPUT is given."
		       "\vAn iolog has microseconds, no completions and no write-zeroes (they "
		       "become trims).  oracleGeneral has reads and writes only.\n\n"
		       "example: lsvd trace export --format iolog --file /dev/vdb boot.trace "
		       "boot.iolog\n"
		       "  fio --name=boot --ioengine=io_uring --read_iolog=boot.iolog\n"
		       "  lsvd trace export -f oracleGeneral hm_0.trace hm_0.oracleGeneral"};
	struct args a = {.c.out.block_bytes = 4096};

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	a.c.out.format = a.format ? a.format : "csv";
	return known(a.c.out.format, true, "export") ? run(&a) : CLI_USAGE;
}
