/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_plan.c - `lsvd reorg --plan`: every boot, latency and variant, one after the other. */
#include "reorg/cmd.h"

#include <inttypes.h>
#include <stdio.h>

struct table {
	const struct reorg_args *a;
	struct predict_layout *plain, *reorg;
	json_t *runs;
	bool headed;
	struct predict_result original; /* of this boot and latency */
	bool has_original;
};

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

/* ---- the plan ---- */

json_t *reorg_plan_json(const struct plan *p, unsigned boots)
{
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "boots", (int)boots, "every_boot_bytes",
		number(p->zone_bytes[PLAN_EVERY]), "some_boots_bytes",
		number(p->zone_bytes[PLAN_SOME]), "rest_bytes", number(p->zone_bytes[PLAN_NEVER]),
		"ranges", number(p->n), "profile_ranges", number(p->profile_n));
}

void reorg_plan_print(const struct plan *p, unsigned boots)
{
	printf("plan of %u boot%s: %s read by every one, %s by some, %s by none; %zu ranges\n",
		boots, boots == 1 ? "" : "s", cli_size(p->zone_bytes[PLAN_EVERY]),
		cli_size(p->zone_bytes[PLAN_SOME]), cli_size(p->zone_bytes[PLAN_NEVER]), p->n);
}

/* ---- one run ---- */

static json_t *run_json(const struct table *t, const char *trace, bool planned, uint64_t latency_ns,
	enum predict_variant v, const struct predict_result *r)
{
	return json_pack(
		"{s:s, s:b, s:s, s:f, s:s, s:b, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, "
		"s:f, s:o, s:o}",
		"trace", trace, "in_plan", planned, "model", t->a->model.name, "latency_ms",
		ms(latency_ns), "variant", predict_variant_name(v), "real_time", t->a->real_time,
		"clones", (json_int_t)(t->a->clones ? t->a->clones : 1),
		"gets", number(r->gets), "bytes", number(r->get_bytes), "open_gets",
		number(r->open_gets), "requests", number(r->requests), "reads", number(r->reads),
		"read_bytes", number(r->read_bytes), "outstanding_ms", ms(r->outstanding_ns),
		"stall_ms", ms(r->stall_ns), "wall_ms", ms(r->wall_ns), "open_ms", ms(r->open_ns),
		"prefetch_bytes", number(r->prefetch_bytes), "wasted_bytes",
		number(r->wasted_bytes));
}

static void print_share(uint64_t part, uint64_t whole)
{
	if (part && whole)
		printf(" %7.2f", (double)whole / (double)part);
	else
		printf(" %7s", "-");
}

static void run_print(struct table *t, const char *trace, uint64_t latency_ns,
	enum predict_variant v, const struct predict_result *r)
{
	const struct predict_result *o = t->has_original ? &t->original : r;
	const char *name = strrchr(trace, '/');

	if (!t->headed)
		printf("\n%-16s %7s %-15s %6s %11s %9s %9s %8s %7s %7s\n", "boot", "latency",
			"variant", "GETs", "fetched", "waited", "stall", "wasted", "GETs/n",
			"time/n");
	t->headed = true;
	printf("%-16s %5.4gms %-15s %6" PRIu64 " %11s %8.2fs %8.2fs", name ? name + 1 : trace,
		ms(latency_ns), predict_variant_name(v), r->gets, cli_size(r->get_bytes),
		ms(r->outstanding_ns) / 1000, ms(r->stall_ns) / 1000);
	if (r->prefetch_bytes)
		printf(" %6.2f %%", 100.0 * (double)r->wasted_bytes / (double)r->prefetch_bytes);
	else
		printf(" %8s", "-");
	print_share(r->gets, o->gets);
	print_share(r->outstanding_ns, o->outstanding_ns);
	printf("\n");
}

static int run(struct table *t, const struct plan_trace *boot, bool planned, uint64_t latency_ns,
	enum predict_variant v)
{
	struct predict_input in = {.records = boot->records,
		.n = boot->n,
		.model = t->a->model,
		.chunk_bytes = t->a->chunk_bytes,
		.real_time = t->a->real_time,
		.speed = t->a->speed,
		.clones = t->a->clones,
		.stop = &cli_interrupted};
	struct predict_result r;
	struct err e;
	int rc;

	if (t->a->latencies)
		in.model.get_ns = in.model.put_ns = in.model.delete_ns = in.model.list_ns =
			latency_ns;
	if (t->a->bandwidth)
		in.model.bytes_per_s = t->a->bandwidth;
	predict_variant_set(&in, v, t->plain, t->reorg, t->a->readahead_bytes);
	rc = predict_run(&in, &r, &e);
	if (rc)
		return cli_fail(
			"%s, %s: %s", boot->name, predict_variant_name(v), err_text(&e, rc));
	if (v == PREDICT_ORIGINAL) {
		t->original = r;
		t->has_original = true;
	}
	if (t->runs)
		json_array_append_new(t->runs, run_json(t, boot->name, planned, latency_ns, v, &r));
	else
		run_print(t, boot->name, latency_ns, v, &r);
	return CLI_OK;
}

/* ---- all of them ---- */

static bool wanted(const struct reorg_args *a, unsigned v)
{
	return !a->variants || a->variants >> v & 1;
}

static int run_boots(struct table *t, const struct reorg_traces *boots, bool planned)
{
	const struct reorg_args *a = t->a;
	uint64_t own = a->model.get_ns;
	const uint64_t *lat = a->latencies ? a->latency_ns : &own;
	unsigned n = a->latencies ? a->latencies : 1;
	int code = CLI_OK;

	for (unsigned b = 0; b < boots->n; b++)
		for (unsigned l = 0; l < n; l++) {
			t->has_original = false;
			for (unsigned v = 0; v < PREDICT_VARIANTS && !code; v++)
				if (wanted(a, v))
					code = run(t, &boots->p[b], planned, lat[l], v);
		}
	return code;
}

static int lay_out(struct table *t, const struct plan *plan, const struct extents *x)
{
	struct plan plain;
	struct err e;
	int rc = plan_make_plain(x->p, x->n, x->size_sectors, &plain, &e);

	if (rc)
		return cli_fail("%s", err_text(&e, rc));
	rc = predict_layout_new(&plain, x->size_sectors, 0, &cli_interrupted, &t->plain, &e);
	if (!rc)
		rc = predict_layout_new(plan, x->size_sectors, 0, &cli_interrupted, &t->reorg, &e);
	plan_free(&plain);
	return rc ? cli_fail("%s", err_text(&e, rc)) : CLI_OK;
}

int reorg_predict(const struct reorg_args *a, const struct reorg_traces *traces,
	const struct plan *plan, const struct extents *x)
{
	struct table t = {.a = a, .runs = a->open.json ? json_array() : NULL};
	static struct reorg_traces evals;
	int code = reorg_load(a->eval, a->evals, &evals);

	if (!a->open.json)
		reorg_plan_print(plan, traces->n);
	if (!code)
		code = lay_out(&t, plan, x);
	if (!code)
		code = run_boots(&t, traces, true);
	if (!code)
		code = run_boots(&t, &evals, false);
	if (!code && a->open.json)
		cli_print_json(json_pack(
			"{s:o, s:O}", "plan", reorg_plan_json(plan, traces->n), "runs", t.runs));
	json_decref(t.runs);
	predict_layout_free(t.plain);
	predict_layout_free(t.reorg);
	reorg_unload(&evals);
	return code;
}
