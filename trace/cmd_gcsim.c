/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_gcsim.c - `lsvd gc-sim`: policies compared on a trace, by the real core without the data. */
#include "cli/cli.h"
#include "cli/open.h"
#include "trace/cmd.h"
#include "trace/gcsim.h"

#include "volume/victim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { OPT_FILE = 0x3000, OPT_SIZE, OPT_REPEAT, POLICIES_MAX = 8 };

struct args {
	struct cli_open open;
	const char *path[1], *file;
	const char *policy[POLICIES_MAX];
	unsigned policies, repeat;
	uint64_t size_bytes;
};

static const struct argp_option options[] = {
	{"policy", 'P', "NAME", 0, "only this one; may be given several times (default: all)", 0},
	{"size", OPT_SIZE, "SIZE", 0, "of the image (default: as far as the trace reaches)", 0},
	{"repeat", OPT_REPEAT, "N", 0, "the whole trace N times over", 0},
	{"file", OPT_FILE, "NAME", 0, "iolog of several files: take this one", 0},
	{0},
};

static void add_policy(struct argp_state *st, struct args *a, const char *name)
{
	if (!victim_policy(name))
		argp_error(st, "no policy '%s'", name);
	if (a->policies == POLICIES_MAX)
		argp_error(st, "too many policies");
	a->policy[a->policies++] = name;
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;
	char *end;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->open;
		return 0;
	case 'P':
		add_policy(st, a, arg);
		return 0;
	case OPT_SIZE:
		if (cli_parse_size(arg, &a->size_bytes) < 0 || !a->size_bytes ||
			a->size_bytes % 512)
			argp_error(st, "bad size '%s'", arg);
		return 0;
	case OPT_REPEAT:
		a->repeat = (unsigned)strtoul(arg, &end, 10);
		if (*end || !a->repeat || a->repeat > 1000000)
			argp_error(st, "bad number '%s'", arg);
		return 0;
	case OPT_FILE:
		a->file = arg;
		return 0;
	case ARGP_KEY_ARG:
		cmd_positional(st, a->path, 1, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->path[0])
			argp_error(st, "a TRACE is wanted");
		for (unsigned i = 0; !a->policies && victim_policy_at(i); i++)
			a->policy[i] = victim_policy_at(i)->name;
		for (; a->policies < POLICIES_MAX && a->policy[a->policies]; a->policies++)
			;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- running ---- */

struct look {
	uint64_t requests, end_bytes;
};

static int look_at(void *arg, const struct trace_record *r, struct err *e)
{
	struct look *l = arg;

	if (cli_interrupted)
		return err_set(e, -EINTR, "interrupted");
	l->requests++;
	if (r->op != TRACE_FLUSH && r->offset_bytes + r->len_bytes > l->end_bytes)
		l->end_bytes = r->offset_bytes + r->len_bytes;
	return 0;
}

struct run {
	struct gcsim *g;
	struct cli_progress p;
	uint64_t done;
};

static int request(void *arg, const struct trace_record *r, struct err *e)
{
	struct run *x = arg;

	if (cli_interrupted)
		return err_set(e, -EINTR, "interrupted");
	if (++x->done % 256 == 0)
		cli_progress_at(&x->p, x->done);
	return gcsim_request(x->g, r, e);
}

static int run_policy(const struct args *a, struct lsvd_config *cfg, const char *policy,
	const struct look *l, struct gcsim_result *out, struct err *e)
{
	struct gcsim_options opt = {.cfg = cfg,
		.size_bytes = a->size_bytes ? a->size_bytes : (l->end_bytes + 4095) / 4096 * 4096};
	struct run x = {0};
	int rc = lsvd_config_set(cfg, "gc.policy", policy, e->msg);

	if (rc == 0)
		rc = gcsim_new(&opt, &x.g, e);
	if (rc < 0)
		return rc;
	cli_progress_begin(&x.p, policy, l->requests * a->repeat, a->open.quiet);
	for (unsigned i = 0; rc == 0 && i < a->repeat; i++)
		rc = gcsim_each(a->path[0], a->file, request, &x, e);
	if (rc == 0)
		rc = gcsim_finish(x.g, out, e);
	cli_progress_end(&x.p);
	gcsim_free(x.g);
	return rc;
}

/* ---- results ---- */

static json_t *integer(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *result_json(const char *policy, const struct gcsim_result *r)
{
	json_t *j = json_pack("{s:s, s:f, s:f}", "policy", policy, "write_amplification",
		r->write_amplification, "merge_ratio", r->merge_ratio);
	const struct {
		const char *name;
		uint64_t v;
	} all[] = {{"requests", r->requests}, {"write_bytes", r->write_bytes},
		{"merged_bytes", r->merged_bytes}, {"gc_bytes", r->gc_bytes},
		{"gc_objects", r->gc_objects}, {"put_bytes", r->put_bytes}, {"puts", r->puts},
		{"gets", r->gets}, {"get_bytes", r->get_bytes}, {"deletes", r->deletes},
		{"objects", r->objects}, {"stored_bytes", r->stored_bytes},
		{"live_bytes", r->live_bytes}, {"peak_stored_bytes", r->peak_stored_bytes},
		{"extents", r->extents}, {"map_bytes", r->map_bytes}};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		json_object_set_new(j, all[i].name, integer(all[i].v));
	return j;
}

static void print_head(const struct gcsim_result *r)
{
	printf("%" PRIu64 " requests, %s written\n\n", r->requests, cli_size(r->write_bytes));
	printf("%-14s %6s %7s %11s %11s %9s %11s %8s %8s %11s\n", "policy", "WA", "merged", "moved",
		"stored", "extents", "map", "PUTs", "GETs", "got");
}

static void print_row(const char *policy, const struct gcsim_result *r)
{
	printf("%-14s %6.3f %6.1f%% %11s %11s %9" PRIu64 " %11s %8" PRIu64 " %8" PRIu64 " %11s\n",
		policy, r->write_amplification, 100 * r->merge_ratio, cli_size(r->gc_bytes),
		cli_size(r->stored_bytes), r->extents, cli_size(r->map_bytes), r->puts, r->gets,
		cli_size(r->get_bytes));
}

static int run_all(const struct args *a, struct lsvd_config *cfg)
{
	struct gcsim_result r;
	struct look l = {0};
	struct err e = {.msg = ""};
	json_t *all = json_array();
	int rc = gcsim_each(a->path[0], a->file, look_at, &l, &e);

	if (rc == 0 && !l.end_bytes)
		rc = err_set(&e, -EINVAL, "'%s' holds no request with data", a->path[0]);
	for (unsigned i = 0; rc == 0 && i < a->policies; i++) {
		rc = run_policy(a, cfg, a->policy[i], &l, &r, &e);
		if (rc < 0)
			break;
		json_array_append_new(all, result_json(a->policy[i], &r));
		if (a->open.json)
			continue;
		if (i == 0)
			print_head(&r);
		print_row(a->policy[i], &r);
	}
	if (rc == 0 && a->open.json)
		cli_print_json(json_incref(all));
	json_decref(all);
	return rc < 0 ? cli_fail("gc-sim: %s", e.msg) : CLI_OK;
}

static const char doc[] =
	"Compare garbage collection policies on a trace.\v"
	"Runs the real batching, mapping, checkpoints and garbage collection over the trace's "
	"writes, discards and zeroes, once for each policy, with headers but without data, on a "
	"simulated loop.  Memory does not depend on the trace's length.  --set changes the "
	"configuration, say gc.start, gc.stop or object.size.\n\n"
	"WA is what was stored of the writes plus what garbage collection moved, divided by what "
	"was "
	"written; merged is what was overwritten within its batch and never stored.\n\n"
	"example: lsvd gc-sim --repeat 10 --set object.size=1M vm1.trace";

static int run_gcsim(int argc, char **argv)
{
	static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "TRACE",
		.doc = doc,
		.children = kids};
	struct args a = {.repeat = 1};
	struct lsvd_config *cfg = NULL;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = cli_open_config(&a.open, &cfg);
	if (rc != CLI_OK)
		return rc;
	cli_catch_signals();
	rc = run_all(&a, cfg);
	lsvd_config_free(cfg);
	return rc;
}

static struct cli_command gcsim_command = {.name = "gc-sim",
	.summary = "compare garbage collection policies on a trace",
	.run = run_gcsim};

__attribute__((constructor)) static void register_gcsim(void)
{
	cli_register(&gcsim_command);
}
