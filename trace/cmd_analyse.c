/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_analyse.c - `lsvd trace analyse`: the figures of study.h as text, JSON and a picture. */
#include "cli/cli.h"
#include "trace/cmd.h"
#include "trace/plot_study.h"
#include "trace/study.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_RATE = 0x3200,
	OPT_SAMPLES,
	OPT_EXACT,
	OPT_WINDOW,
	OPT_OPS,
	OPT_PLOT,
	OPT_TITLE,
	OPT_SKIP
};

struct args {
	const char *path[1], *plot, *title;
	struct study_options s;
	bool json, quiet;
	struct cli_progress bar;
};

static const struct argp_option options[] = {
	{"block", 'b', "SIZE", 0, "size of the blocks (default 4K)", 0},
	{"ops", OPT_OPS, "all|reads|writes", 0, "the requests to look at (default all)", 0},
	{"rate", OPT_RATE, "R", 0, "sample this share of the blocks (SHARDS), as 0.01", 0},
	{"samples", OPT_SAMPLES, "N", 0, "sample at most N blocks: constant memory", 0},
	{"exact", OPT_EXACT, NULL, 0, "the exact curve too, and the mean absolute error", 0},
	{"window", OPT_WINDOW, "SECONDS", 0,
		"the shortest window of the working set (default 0.001)", 0},
	{"plot", OPT_PLOT, "FILE", 0, "draw it: .png or .svg", 0},
	{"title", OPT_TITLE, "TEXT", 0, "of the picture (default: the trace's comment, or name)",
		0},
	{"format", 'f', "NAME", 0, "of TRACE (default: told by how it begins)", 0},
	{"volume", 'V', "NAME", 0, "the requests to this volume only", 0},
	{"skip-bad", OPT_SKIP, NULL, 0, "leave out and count lines that are bad", 0},
	{"json", 'j', NULL, 0, "print JSON, with all curves and the heat map", 0},
	{"quiet", 'q', NULL, 0, "no progress", 0},
	{NULL, 0, NULL, 0, NULL, 0},
};

static double positive(struct argp_state *st, const char *arg, double max)
{
	char *end;
	double v = strtod(arg, &end);

	if (*end || !(v > 0 && v <= max))
		argp_error(st, "bad number '%s'", arg);
	return v;
}

static void block_size(struct argp_state *st, const char *arg, uint32_t *v)
{
	uint64_t size;

	if (cli_parse_size(arg, &size) < 0 || size < 512 || size > 1 << 30 || size & (size - 1))
		argp_error(st, "bad block size '%s': a power of two from 512 to 1G", arg);
	*v = (uint32_t)size;
}

static void ops_option(struct argp_state *st, const char *arg, enum study_ops *ops)
{
	static const char *const names[] = {"all", "reads", "writes"};

	for (unsigned i = 0; i < 3; i++) {
		if (!strcmp(arg, names[i])) {
			*ops = (enum study_ops)i;
			return;
		}
	}
	argp_error(st, "--ops is all, reads or writes, not '%s'", arg);
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;

	switch (key) {
	case 'b':
		block_size(st, arg, &a->s.block_bytes);
		return 0;
	case OPT_OPS:
		ops_option(st, arg, &a->s.ops);
		return 0;
	case OPT_RATE:
		a->s.rate = positive(st, arg, 1);
		return 0;
	case OPT_SAMPLES:
		a->s.samples = (size_t)positive(st, arg, 1e9);
		return 0;
	case OPT_EXACT:
		a->s.exact_too = true;
		return 0;
	case OPT_WINDOW:
		a->s.unit_ns = (uint64_t)(positive(st, arg, 1e9) * 1e9) + 1;
		a->s.unit_ns -= a->s.unit_ns > 1;
		return 0;
	case OPT_PLOT:
		a->plot = arg;
		return 0;
	case OPT_TITLE:
		a->title = arg;
		return 0;
	case 'f':
		a->s.in.format = arg;
		return 0;
	case 'V':
		a->s.in.volume = arg;
		return 0;
	case OPT_SKIP:
		a->s.in.skip_bad = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		cmd_positional(st, a->path, 1, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->path[0])
			argp_error(st, "no trace given");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static bool sampled(const struct study *s)
{
	return s->opt.rate < 1 || s->opt.samples;
}

static double mean_error(const struct study *s)
{
	return curve_error(&s->exact.curve, &s->reuse.curve, study_largest(s), 100);
}

/* ---- JSON ---- */

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *working_set_json(const struct study *s)
{
	const struct windows *w = s->windows;
	json_t *list = json_array();

	for (uint32_t i = 0; i < w->n; i++)
		json_array_append_new(list,
			json_pack("{s:o, s:f, s:f, s:o, s:o, s:o}", "start_ns",
				number(i * windows_ns(w)), "blocks", windows_blocks(w, i),
				"first_touches", w->w[i].first, "requests",
				number(w->w[i].requests), "read_bytes", number(w->w[i].read_bytes),
				"write_bytes", number(w->w[i].write_bytes)));
	return json_pack("{s:o, s:o}", "window_ns", number(windows_ns(w)), "windows", list);
}

static json_t *distances_json(const struct curve *c)
{
	double by_power[64], seen = 0;
	unsigned last = study_distances(c, by_power);
	json_t *list = json_array();

	for (unsigned k = 0; k <= last; k++) {
		seen += by_power[k];
		json_array_append_new(list, json_pack("{s:o, s:f}", "below_blocks",
						    number(1ull << k), "touches", by_power[k]));
	}
	return json_pack("{s:f, s:o}", "first_touches", c->touches - seen, "distances", list);
}

static json_t *curve_json(const struct study *s, const struct curve *c)
{
	json_t *list = json_array();
	uint64_t largest = study_largest(s), size;

	for (unsigned i = 0; (size = study_size(i, largest)); i++)
		json_array_append_new(
			list, json_pack("{s:o, s:o, s:f}", "cache_blocks", number(size),
				      "cache_bytes", number(size * s->opt.block_bytes),
				      "miss_ratio", curve_miss_ratio(c, (double)size)));
	return list;
}

static json_t *heat_json(const struct study *s)
{
	const struct windows *w = s->windows;
	unsigned columns = (w->n + WINDOWS_MAX / HEAT_COLUMNS - 1) / (WINDOWS_MAX / HEAT_COLUMNS);
	json_t *reads = json_array(), *writes = json_array();

	for (unsigned c = 0; c < columns; c++) {
		json_t *r = json_array(), *v = json_array();

		for (unsigned i = 0; i < HEAT_ROWS; i++) {
			json_array_append_new(r, number(w->reads[c][i]));
			json_array_append_new(v, number(w->writes[c][i]));
		}
		json_array_append_new(reads, r);
		json_array_append_new(writes, v);
	}
	return json_pack("{s:o, s:o, s:o, s:o}", "column_ns",
		number(windows_ns(w) * (WINDOWS_MAX / HEAT_COLUMNS)), "row_bytes",
		number((uint64_t)s->opt.block_bytes << w->row_shift), "reads", reads, "writes",
		writes);
}

static json_t *study_json(const struct study *s)
{
	static const char *const ops[] = {"all", "reads", "writes"};
	json_t *j =
		json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:o}",
			"block_bytes", number(s->opt.block_bytes), "ops", ops[s->opt.ops],
			"requests", number(s->requests), "read_bytes", number(s->read_bytes),
			"write_bytes", number(s->write_bytes), "end_bytes", number(s->end_bytes),
			"duration_ns", number(s->duration_ns), "touches", number(s->reuse.touches),
			"unique_blocks", reuse_blocks(&s->reuse), "oversized", number(s->oversized),
			"bad", number(s->stats.bad), "late", number(s->late), "working_set",
			working_set_json(s), "reuse_distance", distances_json(&s->reuse.curve));
	json_t *sampling = json_null();

	json_object_set_new(j, "miss_ratio", curve_json(s, &s->reuse.curve));
	json_object_set_new(j, "heat_map", heat_json(s));
	if (sampled(s))
		sampling =
			json_pack("{s:f, s:o, s:o}", "rate", 1 / s->reuse.weight, "sampled_blocks",
				number(s->reuse.table.used), "max_blocks", number(s->opt.samples));
	json_object_set_new(j, "sampling", sampling);
	if (s->opt.exact_too) {
		json_object_set_new(j, "exact_miss_ratio", curve_json(s, &s->exact.curve));
		json_object_set_new(j, "mean_absolute_error", json_real(mean_error(s)));
		json_object_set_new(j, "exact_unique_blocks", json_real(reuse_blocks(&s->exact)));
	}
	return j;
}

/* ---- text ---- */

static uint64_t rounded(double v)
{
	return v > 0 ? (uint64_t)llround(v) : 0;
}

static void print_working_set(const struct study *s)
{
	const struct windows *w = s->windows;
	double sum = 0, most = 0;
	uint32_t busy = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		double v = windows_blocks(w, i);

		sum += v;
		busy += w->w[i].requests > 0;
		most = v > most ? v : most;
	}
	printf("working set         %s at most, %s on average, in windows of %.4g s with "
	       "requests\n",
		cli_size(rounded(most * s->opt.block_bytes)),
		cli_size(rounded(busy ? sum / busy * s->opt.block_bytes : 0)),
		(double)windows_ns(w) / 1e9);
}

static void print_curve(const struct study *s)
{
	uint64_t largest = study_largest(s), step = 1, size = 1;

	for (; largest >> step > 1 && (1ull << (step * 16)) < largest;)
		step++;
	printf("\n%-12s %12s%s\n", "LRU cache", "misses", s->opt.exact_too ? "        exact" : "");
	for (;; size <<= step) {
		if (size > largest)
			size = largest;
		printf("%-12s %10.2f %%", cli_size(size * s->opt.block_bytes),
			100 * curve_miss_ratio(&s->reuse.curve, (double)size));
		if (s->opt.exact_too)
			printf(" %10.2f %%", 100 * curve_miss_ratio(&s->exact.curve, (double)size));
		putchar('\n');
		if (size == largest)
			return;
	}
}

static void print_distances(const struct curve *c, uint32_t block_bytes)
{
	double by_power[64], all = c->touches > 0 ? c->touches : 1, seen = 0;
	unsigned last = study_distances(c, by_power);

	printf("\n%-16s %10s\n", "reuse distance", "touches");
	for (unsigned k = 0; k <= last; k++) {
		seen += by_power[k];
		if (by_power[k] > 0)
			printf("below %-10s %8.2f %%\n", cli_size((uint64_t)block_bytes << k),
				100 * by_power[k] / all);
	}
	printf("%-16s %8.2f %%\n", "never before", 100 * (all - seen) / all);
}

static void print_study(const struct study *s)
{
	printf("requests            %" PRIu64 " (%s read, %s written) in %.3f s\n", s->requests,
		cli_size(s->read_bytes), cli_size(s->write_bytes), (double)s->duration_ns / 1e9);
	printf("touches of blocks   %" PRIu64 " of %s\n", s->reuse.touches,
		cli_size(s->opt.block_bytes));
	printf("different blocks    %s%" PRIu64 " (%s)\n", sampled(s) ? "about " : "",
		rounded(reuse_blocks(&s->reuse)),
		cli_size(rounded(reuse_blocks(&s->reuse) * s->opt.block_bytes)));
	print_working_set(s);
	if (sampled(s))
		printf("sampled             1 block in %.4g: %zu blocks\n", s->reuse.weight,
			s->reuse.table.used);
	if (s->opt.exact_too)
		printf("mean absolute error %.4f of the curve, %" PRIu64 " blocks exactly\n",
			mean_error(s), rounded(reuse_blocks(&s->exact)));
	if (s->oversized)
		printf("left out            %" PRIu64 " requests beyond 4 GiB\n", s->oversized);
	print_distances(&s->reuse.curve, s->opt.block_bytes);
	print_curve(s);
}

static int tell(const struct args *a, const struct study *s)
{
	const char *title = a->title		   ? a->title
			    : s->header.comment[0] ? s->header.comment
						   : a->path[0];
	struct err e = {0};

	cmd_warn_counts(a->path[0], &s->counts);
	if (s->stats.bad)
		fprintf(stderr, "lsvd: '%s': %" PRIu64 " bad lines left out; the first: %s\n",
			a->path[0], s->stats.bad, s->stats.first_bad);
	if (a->json)
		cli_print_json(study_json(s));
	else
		print_study(s);
	if (a->plot && study_plot(s, a->plot, title, &e) < 0)
		return cli_fail("trace analyse: %s", e.msg);
	return CLI_OK;
}

int cmd_trace_analyse(int argc, char **argv)
{
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE",
		.doc = "How a trace uses its blocks: working set over time, reuse distances, the "
		       "miss-ratio curve of an LRU cache, a heat map.  TRACE in any format that "
		       "`lsvd trace import` reads."
		       "\vExact needs some 60 bytes a different block; --rate that share of it, "
		       "--samples a constant amount (8192 are good for most).\n\n"
		       "example: lsvd trace analyse boot.trace --plot boot.png\n"
		       "  lsvd trace analyse --samples 8192 --volume 3 --json io_traces.csv"};
	struct args a = {.s = {.block_bytes = 4096, .rate = 1, .unit_ns = 1000000}};
	struct err e = {0};
	struct study s;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	a.s.progress = cmd_progress;
	a.s.arg = &a.bar;
	cli_catch_signals();
	cli_progress_begin(&a.bar, "analyse", 0, a.quiet || a.json);
	if (study_run(a.path[0], &a.s, &s, &e) < 0)
		return cli_fail("trace analyse: %s", e.msg);
	cli_progress_end(&a.bar);
	rc = tell(&a, &s);
	study_fini(&s);
	return rc;
}
