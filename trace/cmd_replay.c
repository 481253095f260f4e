/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_replay.c - `lsvd trace replay`: in real time, or with --virtual on a simulated loop. */
#include "cli/cli.h"
#include "cli/open.h"
#include "trace/cmd.h"
#include "trace/drive.h"
#include "trace/virtual.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	struct cli_open open;
	const char *path[2]; /* trace, image */
	const char *file, *model;
	struct drive_options drive;
	unsigned rounds;
	bool in_virtual;
};

enum {
	OPT_ASAP = 0x2000,
	OPT_UNORDERED,
	OPT_READS,
	OPT_WRAP,
	OPT_SEED,
	OPT_VIRTUAL,
	OPT_MODEL,
	OPT_ROUNDS,
	OPT_NO_JOURNAL,
	OPT_STEAL,
	OPT_FILE
};

static const struct argp_option options[] = {
	{"speed", 's', "X", 0, "divide the think times by X", 0},
	{"asap", OPT_ASAP, NULL, 0, "no think times; a request still waits for those before it", 0},
	{"unordered", OPT_UNORDERED, NULL, 0, "as many at once as --outstanding allows", 0},
	{"outstanding", 'n', "N", 0, "at most N requests in flight (default 256)", 0},
	{"reads-only", OPT_READS, NULL, 0, "leave out all but reads; opens the image read-only", 0},
	{"no-journal", OPT_NO_JOURNAL, NULL, 0,
		"open the image although the journal of its last writer is not here: give up what "
		"is not in the store",
		0},
	{"steal", OPT_STEAL, NULL, 0, "take the image over from a writer that has it", 0},
	{"wrap", OPT_WRAP, NULL, 0,
		"the trace is of a larger image: offsets modulo this one's size", 0},
	{"seed", OPT_SEED, "N", 0, "of the bytes that are written, and of --virtual", 0},
	{"rounds", OPT_ROUNDS, "N", 0, "replay N times: cold, then warm", 0},
	{"virtual", OPT_VIRTUAL, NULL, 0,
		"on a simulated loop in virtual time; the image is not changed", 0},
	{"model", OPT_MODEL, "CLASS", 0,
		"with the store as slow as hdd, ssd, s3, or custom,lat=20ms,bw=100M (implies "
		"--virtual)",
		0},
	{"file", OPT_FILE, "NAME", 0, "iolog of several files: take this one", 0},
	{0},
};

static void number(struct argp_state *st, const char *arg, uint64_t max, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(arg, &end, 0);
	if (errno || end == arg || *end || *arg == '-' || *v > max)
		argp_error(st, "bad number '%s'", arg);
}

static void speed(struct argp_state *st, const char *arg, double *v)
{
	char *end;

	*v = strtod(arg, &end);
	if (end == arg || *end || !(*v > 0 && *v < 1e9))
		argp_error(st, "bad speed '%s'", arg);
}

static error_t parse_number(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;
	uint64_t v = 0;

	switch (key) {
	case 'n':
		number(st, arg, 65536, &v);
		a->drive.replay.max_outstanding = (unsigned)v;
		return 0;
	case OPT_ROUNDS:
		number(st, arg, 1000, &v);
		a->rounds = v ? (unsigned)v : 1;
		return 0;
	case OPT_SEED:
		number(st, arg, UINT64_MAX, &a->drive.seed);
		return 0;
	case 's':
		speed(st, arg, &a->drive.replay.speed);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;
	struct replay_options *r = &a->drive.replay;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->open;
		return 0;
	case OPT_ASAP:
		r->asap = true;
		return 0;
	case OPT_UNORDERED:
		r->unordered = true;
		return 0;
	case OPT_READS:
		r->reads_only = true;
		return 0;
	case OPT_NO_JOURNAL:
		a->open.no_journal = true;
		return 0;
	case OPT_STEAL:
		a->open.steal = true;
		return 0;
	case OPT_WRAP:
		r->wrap = true;
		return 0;
	case OPT_MODEL:
		a->model = arg;
		a->in_virtual = true;
		return 0;
	case OPT_VIRTUAL:
		a->in_virtual = true;
		return 0;
	case OPT_FILE:
		a->file = arg;
		return 0;
	case ARGP_KEY_ARG:
		cmd_positional(st, a->path, 2, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->path[1])
			argp_error(st, "a TRACE and an IMAGE are wanted");
		return 0;
	default:
		return parse_number(key, arg, st);
	}
}

/* ---- results ---- */

struct outcome {
	struct replay_result r;
	struct lsvd_stats before, after;
};

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}
static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}
static json_t *integer(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *latency_json(const struct lsvd_latency *l)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "count", integer(l->count), "mean_ns",
		integer(l->mean_ns), "p50_ns", integer(l->p50_ns), "p99_ns", integer(l->p99_ns),
		"p999_ns", integer(l->p999_ns), "max_ns", integer(l->max_ns));
}

#define DELTA(o, field) ((o)->after.field - (o)->before.field)

static json_t *store_json(const struct outcome *o)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "gets",
		integer(DELTA(o, gets)), "get_bytes", integer(DELTA(o, get_bytes)), "puts",
		integer(DELTA(o, puts)), "put_bytes", integer(DELTA(o, put_bytes)),
		"hit_journal_bytes", integer(DELTA(o, hit_journal_bytes)), "hit_cache_bytes",
		integer(DELTA(o, hit_cache_bytes)), "hit_prefetch_bytes",
		integer(DELTA(o, hit_prefetch_bytes)), "miss_bytes", integer(DELTA(o, miss_bytes)),
		"prefetch_bytes", integer(DELTA(o, prefetch_bytes)), "prefetch_wasted_bytes",
		integer(DELTA(o, prefetch_wasted_bytes)));
}

static json_t *outcome_json(const struct outcome *o)
{
	const struct replay_result *r = &o->r;
	json_t *ops = json_object();

	for (unsigned i = 0; i < TRACE_OPS; i++)
		if (r->op[i].requests)
			json_object_set_new(ops, trace_op_name(i),
				json_pack("{s:o, s:o, s:o, s:o}", "requests",
					integer(r->op[i].requests), "bytes",
					integer(r->op[i].bytes), "errors", integer(r->op[i].errors),
					"latency", latency_json(&r->op[i].latency)));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "requests",
		integer(r->requests), "bytes", integer(r->bytes), "errors", integer(r->errors),
		"ops", ops, "stall_ns", integer(r->stall_ns), "read_outstanding_ns",
		integer(r->read_outstanding_ns), "wall_ns", integer(r->wall_ns), "recorded_ns",
		integer(r->recorded_ns), "held_back", integer(r->held_back), "most_outstanding",
		integer(r->outstanding), "image", store_json(o));
}

static void print_outcome(const struct outcome *o)
{
	const struct replay_result *r = &o->r;

	printf("replayed            %" PRIu64 " requests, %s, in %.3f s (recorded: %.3f s)\n",
		r->requests, cli_size(r->bytes), seconds(r->wall_ns), seconds(r->recorded_ns));
	printf("read stall time     %.3f s\n", seconds(r->stall_ns));
	printf("read outstanding    %.3f s\n", seconds(r->read_outstanding_ns));
	printf("store               %" PRIu64 " GETs, %s; %" PRIu64 " PUTs, %s\n", DELTA(o, gets),
		cli_size(DELTA(o, get_bytes)), DELTA(o, puts), cli_size(DELTA(o, put_bytes)));
	printf("reads from          journal %s, cache %s, prefetched %s, store %s\n",
		cli_size(DELTA(o, hit_journal_bytes)), cli_size(DELTA(o, hit_cache_bytes)),
		cli_size(DELTA(o, hit_prefetch_bytes)), cli_size(DELTA(o, miss_bytes)));
	if (DELTA(o, prefetch_bytes))
		printf("prefetched          %s, of which %s were never read\n",
			cli_size(DELTA(o, prefetch_bytes)),
			cli_size(DELTA(o, prefetch_wasted_bytes)));
	if (r->held_back)
		printf("held back           %" PRIu64 " requests were due with %u in flight\n",
			r->held_back, r->outstanding);
	printf("\n%-12s %10s %12s %8s %10s %10s %10s\n", "op", "requests", "bytes", "errors",
		"p50 ms", "p99 ms", "max ms");
	for (unsigned i = 0; i < TRACE_OPS; i++) {
		const struct replay_op_result *p = &r->op[i];

		if (p->requests)
			printf("%-12s %10" PRIu64 " %12s %8" PRIu64 " %10.3f %10.3f %10.3f\n",
				trace_op_name(i), p->requests, cli_size(p->bytes), p->errors,
				ms(p->latency.p50_ns), ms(p->latency.p99_ns),
				ms(p->latency.max_ns));
	}
}

/* ---- running ---- */

struct target {
	struct lsvd_config *cfg;
	struct lsvd_ctx *ctx; /* real */
	struct lsvd_image *img;
	struct virtual *v; /* or virtual */
};

static struct lsvd_ctx *ctx_of(struct target *t)
{
	return t->v ? virtual_ctx(t->v) : t->ctx;
}
static struct lsvd_image *image_of(struct target *t)
{
	return t->v ? virtual_image(t->v) : t->img;
}

static int open_real(struct args *a, struct target *t)
{
	bool ro = a->drive.replay.reads_only;
	char why[LSVD_ERR_MAX] = "";
	int rc = cli_open_ctx(&a->open, ro ? cli_pool_for_reading(&a->open, a->path[1]) : CLI_POOL,
		LSVD_DRIVE_INLINE, &t->ctx);

	if (rc != CLI_OK)
		return rc;
	if (!ro)
		return cli_open_image(&a->open, t->ctx, a->path[1], &t->img);
	if (lsvd_image_open(t->ctx, a->path[1], LSVD_OPEN_READONLY, &t->img, why) < 0)
		return cli_fail("trace replay: %s", why);
	return CLI_OK;
}

static int open_virtual(struct args *a, struct target *t)
{
	struct virtual_options o = {.url = a->path[1], .model = a->model, .seed = a->drive.seed};
	struct err e = {0};
	int rc = cli_open_config(&a->open, &t->cfg);

	if (rc != CLI_OK)
		return rc;
	o.cfg = t->cfg;
	if (virtual_open(&o, &t->v, &e) < 0)
		return cli_fail("trace replay: %s", e.msg);
	a->drive.now = virtual_now;
	a->drive.now_arg = t->v;
	return CLI_OK;
}

static int close_target(struct target *t, int rc)
{
	char why[LSVD_ERR_MAX] = "";

	if (t->img && lsvd_image_close(t->img, why) < 0)
		rc = cli_fail("trace replay: %s", why);
	if (t->ctx)
		lsvd_ctx_close(t->ctx);
	virtual_close(t->v);
	if (t->cfg)
		lsvd_config_free(t->cfg);
	return rc;
}

static void progress(void *arg, uint64_t done, uint64_t of)
{
	struct cli_progress *p = arg;

	p->total = of;
	cli_progress_at(p, done);
}

static int one_round(struct args *a, struct target *t, const struct trace *trace, struct outcome *o)
{
	struct cli_progress p;
	struct err e = {0};
	int rc;

	*o = (struct outcome){0};
	lsvd_image_stats(image_of(t), &o->before);
	cli_progress_begin(&p, "replay", 0, a->open.quiet);
	a->drive.progress = progress;
	a->drive.progress_arg = &p;
	rc = drive_replay(ctx_of(t), image_of(t), trace->records, trace->n, &a->drive, &o->r, &e);
	cli_progress_end(&p);
	lsvd_image_stats(image_of(t), &o->after);
	if (rc == -EINTR)
		return cli_fail(
			"trace replay: interrupted after %" PRIu64 " requests", o->r.requests);
	return rc < 0 ? cli_fail("trace replay: %s", e.msg) : CLI_OK;
}

static int run_rounds(struct args *a, struct target *t, const struct trace *trace)
{
	json_t *all = json_array();
	int rc = CLI_OK;

	for (unsigned i = 0; i < a->rounds && rc == CLI_OK; i++) {
		struct outcome o;

		rc = one_round(a, t, trace, &o);
		if (rc == CLI_OK && o.r.errors)
			rc = cli_fail("trace replay: %" PRIu64 " requests failed; the first: %s",
				o.r.errors, strerror(-o.r.first_error));
		if (a->open.json)
			json_array_append_new(all, outcome_json(&o));
		else
			print_outcome(&o);
	}
	if (a->open.json && a->rounds == 1)
		cli_print_json(json_incref(json_array_get(all, 0)));
	else if (a->open.json)
		cli_print_json(json_incref(all));
	json_decref(all);
	return rc;
}

static const char doc[] =
	"Submit a trace's requests to an image again.\v"
	"A request waits until everything that had completed before it was submitted has completed "
	"again, and then for the recorded think time.  Writes carry generated bytes: do not replay "
	"onto an image whose contents matter, or use --virtual, which leaves it as it is.\n\n"
	"Examples:\n"
	"  lsvd trace replay --reads-only boot.trace file:/srv/vols/vm1\n"
	"  lsvd trace replay --model custom,lat=20ms boot.trace file:/srv/vols/vm1";

int cmd_trace_replay(int argc, char **argv)
{
	static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE IMAGE",
		.doc = doc,
		.children = kids};
	struct args a = {.rounds = 1};
	struct target t = {0};
	struct trace trace;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = cmd_load(a.path[0], a.file, &trace);
	if (rc != CLI_OK)
		return rc;
	cli_catch_signals();
	a.drive.stop = &cli_interrupted;
	rc = a.in_virtual ? open_virtual(&a, &t) : open_real(&a, &t);
	if (rc == CLI_OK)
		rc = run_rounds(&a, &t, &trace);
	rc = close_target(&t, rc);
	trace_free(&trace);
	return rc;
}
