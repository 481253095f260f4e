/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cmd.c - `lsvd reorg`.
 *
 *   build    traces -> plan -> new image -> every sector compared with the old one
 *   --verify only compares
 *   --plan   only predicts (cmd_plan.c)
 *
 * On failure or SIGINT nothing is left of the new image; a difference found by the proof leaves it,
 * to be looked at, and says so.
 */
#include "reorg/cmd.h"

#include "reorg/build.h"
#include "reorg/translate.h"
#include "sys/config.h"
#include "trace/cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	OPT_EVAL = 0x2000,
	OPT_EXTENTS,
	OPT_ORDER,
	OPT_RECORDED_ON,
	OPT_PLAN,
	OPT_VERIFY,
	OPT_UNPROVED,
	OPT_MODEL,
	OPT_LATENCY,
	OPT_BANDWIDTH,
	OPT_CHUNK,
	OPT_READAHEAD,
	OPT_VARIANT,
	OPT_CLONES,
	OPT_REAL,
	OPT_SPEED
};

static const struct argp_option options[] = {
	{"trace", 't', "FILE", 0, "a boot of BASE (any format of `lsvd trace`); more may follow",
		0},
	{"recorded-on", OPT_RECORDED_ON, "IMAGE", 0,
		"the traces are of this image, an older build: they are translated to BASE by "
		"what the blocks hold",
		0},
	{"order", OPT_ORDER, "ORDER", 0,
		"how the data lies: boot (default), packed (what boots read together, in LBA "
		"order), lba (as imported); all carry the profile",
		0},
	{"verify", OPT_VERIFY, NULL, 0, "only compare BASE and NEW, sector by sector", 0},
	{"no-verify", OPT_UNPROVED, NULL, 0, "do not compare after the build", 0},
	{NULL, 0, NULL, 0, "Prediction:", 1},
	{"plan", OPT_PLAN, NULL, 0, "only predict what it would bring", 1},
	{"extents", OPT_EXTENTS, "FILE", 0,
		"with --plan: what BASE maps is in this file; no image is needed", 1},
	{"eval", OPT_EVAL, "FILE", 0, "predict this boot, too, which is not in the plan", 1},
	{"model", OPT_MODEL, "CLASS", 0, "the store: hdd, ssd, s3 (default), custom", 1},
	{"latency", OPT_LATENCY, "TIME,...", 0,
		"of its requests: 20ms, 500us; several are predicted one "
		"after the other",
		1},
	{"bandwidth", OPT_BANDWIDTH, "SIZE", 0, "of its link, per second", 1},
	{"chunk", OPT_CHUNK, "SIZE", 0, "cache.chunk (64K)", 1},
	{"readahead", OPT_READAHEAD, "SIZE", 0, "window of the variant `readahead` (1M)", 1},
	{"variant", OPT_VARIANT, "NAME", 0,
		"only this one: original, readahead, reorg, reorg_prefetch, warm; may be repeated",
		1},
	{"clones", OPT_CLONES, "N", 0,
		"so many clones boot at once, on one pool and cache; figures are of all together",
		1},
	{"real-time", OPT_REAL, NULL, 0, "replay in real time instead of virtual time", 1},
	{"speed", OPT_SPEED, "FACTOR", 0, "divide the guest's think times by this", 1},
	{0},
};

/* ---- arguments ---- */

static int parse_time(const char *s, char **end, uint64_t *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"", 1e6}};
	double v = strtod(s, end);

	if (*end == s || !(v >= 0) || v > 1e6)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].name);

		if (strncmp(*end, units[i].name, n))
			continue;
		*end += n;
		*ns = (uint64_t)(v * units[i].ns + 0.5);
		return 0;
	}
	return -EINVAL;
}

static void add_latencies(struct reorg_args *a, struct argp_state *st, const char *arg)
{
	char *p = (char *)(uintptr_t)arg;

	for (;; p++) {
		if (a->latencies == REORG_LATENCIES_MAX)
			argp_error(st, "at most %d latencies", REORG_LATENCIES_MAX);
		if (parse_time(p, &p, &a->latency_ns[a->latencies++]) || (*p && *p != ','))
			argp_error(
				st, "--latency: '%s' is not a time; write 20ms or 0.5ms,20ms", arg);
		if (!*p)
			return;
	}
}

static void add_variant(struct reorg_args *a, struct argp_state *st, const char *arg)
{
	for (unsigned v = 0; v < PREDICT_VARIANTS; v++)
		if (!strcmp(arg, predict_variant_name(v))) {
			a->variants |= 1u << v;
			return;
		}
	argp_error(st, "--variant: there is no '%s'", arg);
}

static void set_order(struct reorg_args *a, struct argp_state *st, const char *arg)
{
	for (unsigned o = 0; o < PLAN_ORDERS; o++)
		if (!strcmp(arg, plan_order_name(o))) {
			a->order = o;
			return;
		}
	argp_error(st, "--order: there are boot, packed and lba, no '%s'", arg);
}

static void add_file(const char **files, unsigned *n, struct argp_state *st, const char *arg)
{
	if (*n == REORG_TRACES_MAX)
		argp_error(st, "at most %d traces", REORG_TRACES_MAX);
	files[(*n)++] = arg;
}

static bool is_image(const char *arg)
{
	char store[512], name[80];

	return !store_split_url(arg, store, sizeof(store), name, sizeof(name), NULL);
}

/* Images come first; what is none after --trace is another trace. */
static void add_positional(struct reorg_args *a, struct argp_state *st, const char *arg)
{
	if (a->images < 2 && is_image(arg))
		a->image[a->images++] = arg;
	else if (a->traces)
		add_file(a->trace, &a->traces, st, arg);
	else
		argp_error(st, "'%s' is not an image; write file:DIR/NAME or mem:NAME", arg);
}

static void size_arg(struct argp_state *st, const char *what, const char *arg, uint64_t *out)
{
	if (cli_parse_size(arg, out))
		argp_error(st, "--%s: '%s' is not a size", what, arg);
}

static void check(const struct reorg_args *a, struct argp_state *st)
{
	if (a->verify && (a->plan || a->traces))
		argp_error(st, "--verify goes with BASE and NEW alone");
	if (a->recorded_on && (a->plan || a->verify))
		argp_error(st, "--recorded-on goes with BASE, NEW and traces");
	if (a->extents && !a->plan)
		argp_error(st, "--extents goes with --plan");
	if (a->plan && a->images == 0 && !a->extents)
		argp_error(st, "name the image BASE, or its --extents");
	if (!a->plan && a->images != 2)
		argp_error(st, "name two images, BASE and NEW");
	if (!a->verify && !a->traces)
		argp_error(st, "give at least one --trace of a boot");
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct reorg_args *a = st->input;
	const struct model_class *m;
	char *end;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->open;
		break;
	case 't':
		add_file(a->trace, &a->traces, st, arg);
		break;
	case OPT_EVAL:
		add_file(a->eval, &a->evals, st, arg);
		break;
	case OPT_ORDER:
		set_order(a, st, arg);
		break;
	case OPT_RECORDED_ON:
		a->recorded_on = arg;
		break;
	case OPT_EXTENTS:
		a->extents = arg;
		break;
	case OPT_PLAN:
		a->plan = true;
		break;
	case OPT_VERIFY:
		a->verify = true;
		break;
	case OPT_UNPROVED:
		a->unproved = true;
		break;
	case OPT_MODEL:
		m = store_model_find(arg);
		if (!m)
			argp_error(st, "--model: there are hdd, ssd, s3 and custom, no '%s'", arg);
		else
			a->model = *m;
		break;
	case OPT_LATENCY:
		add_latencies(a, st, arg);
		break;
	case OPT_BANDWIDTH:
		size_arg(st, "bandwidth", arg, &a->bandwidth);
		break;
	case OPT_CHUNK:
		size_arg(st, "chunk", arg, &a->chunk_bytes);
		break;
	case OPT_READAHEAD:
		size_arg(st, "readahead", arg, &a->readahead_bytes);
		break;
	case OPT_VARIANT:
		add_variant(a, st, arg);
		break;
	case OPT_CLONES:
		a->clones = (unsigned)strtoul(arg, &end, 10);
		if (end == arg || *end || !a->clones || a->clones > PREDICT_CLONES_MAX)
			argp_error(st, "--clones: '%s' is not a number from 1 to %d", arg,
				PREDICT_CLONES_MAX);
		break;
	case OPT_REAL:
		a->real_time = true;
		break;
	case OPT_SPEED:
		a->speed = strtod(arg, &end);
		if (end == arg || *end || !(a->speed > 0) || a->speed > 1e9)
			argp_error(st, "--speed: '%s' is not a positive number", arg);
		break;
	case ARGP_KEY_ARG:
		add_positional(a, st, arg);
		break;
	case ARGP_KEY_END:
		check(a, st);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* ---- traces ---- */

int reorg_load(const char *const *paths, unsigned n, struct reorg_traces *out)
{
	*out = (struct reorg_traces){0};
	for (; out->n < n; out->n++) {
		struct trace *t = &out->t[out->n];

		if (cmd_load(paths[out->n], NULL, t)) {
			reorg_unload(out);
			return CLI_FAILED;
		}
		out->p[out->n] = (struct plan_trace){t->records, t->n, paths[out->n]};
	}
	return CLI_OK;
}

void reorg_unload(struct reorg_traces *t)
{
	for (unsigned i = 0; i < t->n; i++)
		trace_free(&t->t[i]);
	t->n = 0;
}

/* ---- building and proving ---- */

struct job {
	const struct reorg_args *a;
	struct session s;
	struct session_image base, new, old; /* old: what the traces were recorded on */
	struct translate_counts led;
	struct store *store; /* of the new image */
	char name[80];	     /* in it */
	struct extents x;
	struct plan plan;
	double build_s, verify_s;
	struct reorg_difference diff;
};

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void progress(void *arg, uint64_t done)
{
	cli_progress_at(arg, done);
}

static int open_base(struct job *j, struct lsvd_config *cfg, struct err *e)
{
	int rc = session_open(&j->s, cfg, j->a->image[0], e);

	if (!rc)
		rc = session_open_image(&j->s, j->a->image[0], &j->base, e);
	if (!rc)
		rc = session_extents(&j->base, &j->x, e);
	return rc;
}

static int build(struct job *j, uint64_t object_bytes, struct err *e)
{
	struct cli_progress p;
	struct reorg_watch w = {progress, &p, &cli_interrupted};
	double start = seconds();
	int rc = store_open_image(j->s.loop, j->s.cfg, j->a->image[1], STORE_CREATE, &j->store,
		j->name, sizeof(j->name), e);

	if (rc)
		return rc;
	cli_progress_begin(&p, "build", j->x.sectors * 512, j->a->open.quiet);
	rc = reorg_build(&j->base, j->store, j->name, &j->plan, object_bytes, &w, e);
	if (!rc)
		cli_progress_end(&p);
	j->build_s = seconds() - start;
	return rc;
}

static int prove(struct job *j, struct err *e)
{
	struct cli_progress p;
	struct reorg_watch w = {progress, &p, &cli_interrupted};
	double start = seconds();
	int rc = session_open_image(&j->s, j->a->image[1], &j->new, e);

	if (rc)
		return rc;
	cli_progress_begin(&p, "compare", j->x.sectors * 512, j->a->open.quiet);
	rc = reorg_compare(&j->base, &j->new, &w, &j->diff, e);
	if (!rc && !j->diff.found)
		cli_progress_end(&p);
	j->verify_s = seconds() - start;
	return rc;
}

static void close_job(struct job *j)
{
	session_close_image(&j->old);
	session_close_image(&j->new);
	session_close_image(&j->base);
	store_close(j->store);
	session_close(&j->s);
	extents_free(&j->x);
	plan_free(&j->plan);
}

static int told(const struct job *j)
{
	if (j->diff.found)
		return cli_fail("%s and %s differ from sector %" PRIu64 " (byte %" PRIu64 ") on%s",
			j->a->image[0], j->a->image[1], j->diff.lba, j->diff.lba * 512,
			j->a->verify ? "" : "; the new image is left as it is");
	return CLI_OK;
}

static json_t *led_json(const struct translate_counts *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "blocks", (json_int_t)c->blocks, "same",
		(json_int_t)c->same, "moved", (json_int_t)c->moved, "changed",
		(json_int_t)c->changed, "lost", (json_int_t)c->lost);
}

static void report(const struct job *j)
{
	const struct reorg_args *a = j->a;
	json_t *out = json_object();

	if (!a->open.json) {
		if (a->recorded_on && !a->open.quiet)
			printf("blocks that the boots read: %" PRIu64 ", %" PRIu64
			       " where they were, %" PRIu64 " moved, %" PRIu64 " changed, %" PRIu64
			       " not there any more\n",
				j->led.blocks, j->led.same, j->led.moved, j->led.changed,
				j->led.lost);
		if (!a->verify && !a->open.quiet)
			reorg_plan_print(&j->plan, a->traces);
		if (!a->verify && !a->open.quiet)
			printf("built %s from %s: %s in %.1f s\n", a->image[1], a->image[0],
				cli_size(j->x.sectors * 512), j->build_s);
		if (!a->unproved && !j->diff.found && !a->open.quiet)
			printf("%s equals %s: all of %s compared, %s of it data, in %.1f s\n",
				a->image[1], a->image[0], cli_size(j->x.size_sectors * 512),
				cli_size(j->diff.compared_bytes), j->verify_s);
		json_decref(out);
		return;
	}
	if (!a->verify) {
		json_object_set_new(out, "plan", reorg_plan_json(&j->plan, a->traces));
		json_object_set_new(out, "build_seconds", json_real(j->build_s));
	}
	if (a->recorded_on)
		json_object_set_new(out, "translated", led_json(&j->led));
	json_object_set_new(out, "bytes", json_integer((json_int_t)(j->x.size_sectors * 512)));
	json_object_set_new(out, "data_bytes", json_integer((json_int_t)(j->x.sectors * 512)));
	if (a->verify || !a->unproved) {
		json_object_set_new(out, "equal", json_boolean(!j->diff.found));
		json_object_set_new(out, "verify_seconds", json_real(j->verify_s));
	}
	if (j->diff.found)
		json_object_set_new(
			out, "first_difference", json_integer((json_int_t)(j->diff.lba * 512)));
	cli_print_json(out);
}

/* The traces as they would be on BASE. */
static int translate_all(struct job *j, struct reorg_traces *t, struct err *e)
{
	struct cli_progress p;
	struct reorg_watch w = {progress, &p, &cli_interrupted};
	struct translator *tr = NULL;
	int rc = session_open_image(&j->s, j->a->recorded_on, &j->old, e);

	if (rc)
		return rc;
	cli_progress_begin(&p, "look at blocks", j->x.sectors * 512, j->a->open.quiet);
	rc = translator_new(&j->base, &w, &tr, e);
	if (!rc)
		cli_progress_end(&p);
	for (unsigned i = 0; !rc && i < t->n; i++) {
		rc = translate(tr, &j->old, &t->t[i], &j->led, e);
		if (rc)
			err_wrap(e, rc, "translate trace '%s'", t->p[i].name);
		t->p[i].records = t->t[i].records;
		t->p[i].n = t->t[i].n;
	}
	translator_free(tr);
	return rc;
}

static int work(struct job *j, struct reorg_traces *t, struct lsvd_config *cfg, struct err *e)
{
	struct config c;
	int rc = config_resolve(cfg, j->a->image[1], &c, e);

	if (!rc)
		rc = open_base(j, cfg, e);
	if (!rc && j->a->recorded_on)
		rc = translate_all(j, t, e);
	if (!rc && !j->a->verify)
		rc = plan_make_ordered(t->p, t->n, j->a->order, j->x.p, j->x.n, j->x.size_sectors,
			&j->plan, e);
	if (!rc && !j->a->verify)
		rc = build(j, c.object_bytes, e);
	if (!rc && (j->a->verify || !j->a->unproved))
		rc = prove(j, e);
	return rc;
}

static int run_job(const struct reorg_args *a, struct reorg_traces *t)
{
	struct job j = {.a = a};
	struct lsvd_config *cfg;
	struct err e = {""};
	int code = cli_open_config(&a->open, &cfg), rc;

	if (code)
		return code;
	rc = work(&j, t, cfg, &e);
	if (rc) {
		code = cli_fail("%s", err_text(&e, rc));
	} else {
		report(&j);
		code = told(&j);
	}
	close_job(&j);
	lsvd_config_free(cfg);
	return code;
}

/* ---- predicting ---- */

static int extents_of_base(const struct reorg_args *a, struct extents *x)
{
	struct job j = {.a = a};
	struct lsvd_config *cfg;
	struct err e = {""};
	int code, rc;

	if (a->extents) {
		rc = extents_load(a->extents, x, &e);
		return rc ? cli_fail("%s", err_text(&e, rc)) : CLI_OK;
	}
	code = cli_open_config(&a->open, &cfg);
	if (code)
		return code;
	rc = open_base(&j, cfg, &e);
	if (rc)
		code = cli_fail("%s", err_text(&e, rc));
	*x = j.x;
	j.x = (struct extents){0};
	close_job(&j);
	lsvd_config_free(cfg);
	return code;
}

static int run_plan(const struct reorg_args *a, const struct reorg_traces *t)
{
	struct extents x = {0};
	struct plan plan;
	struct err e;
	int code = extents_of_base(a, &x), rc;

	if (code)
		return code;
	rc = plan_make_ordered(t->p, t->n, a->order, x.p, x.n, x.size_sectors, &plan, &e);
	if (rc) {
		code = cli_fail("%s", err_text(&e, rc));
	} else {
		code = reorg_predict(a, t, &plan, &x);
		plan_free(&plan);
	}
	extents_free(&x);
	return code;
}

static int run_reorg(int argc, char **argv)
{
	static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
	static const struct argp argp = {.options = options,
		.parser = parse,
		.children = kids,
		.args_doc =
			"BASE NEW --trace FILE...\n--verify BASE NEW\n--plan BASE --trace FILE...",
		.doc = "Lay the image BASE out anew, in the order in which boots read it, as NEW."
		       "\vThe first objects of NEW hold what every boot reads, in the order of the "
		       "first touch (the median over the boots); then comes what some boots read, "
		       "then the rest. NEW carries a boot profile, which images opened on it "
		       "prefetch "
		       "by. The same inputs give the same bytes; every sector is compared with "
		       "BASE.\n\n"
		       "A prediction replays the boots through LSVD itself, in virtual time, over "
		       "a "
		       "model of the store; `original` is BASE as imported, in LBA order.\n\n"
		       "Examples:\n"
		       "  lsvd reorg file:/srv/vols/base file:/srv/vols/fast --trace boot1 boot2\n"
		       "  lsvd reorg file:/srv/vols/base2 file:/srv/vols/fast2 --trace boot1 \\\n"
		       "       --recorded-on file:/srv/vols/base\n"
		       "  lsvd reorg --plan file:/srv/vols/base --trace boot1 --eval boot2 \\\n"
		       "       --model s3 --latency 5ms,20ms\n\n"
		       "Exit codes: 0 done, 1 failed or not equal, 2 usage."};
	struct reorg_args a = {.readahead_bytes = 1 << 20};
	static struct reorg_traces t;
	int code;

	a.model = *store_model_find("s3");
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	cli_catch_signals();
	code = reorg_load(a.trace, a.traces, &t);
	if (!code)
		code = a.plan ? run_plan(&a, &t) : run_job(&a, &t);
	reorg_unload(&t);
	return code;
}

CLI_COMMAND(reorg, "lay an image out in the order its boots read it", run_reorg)
