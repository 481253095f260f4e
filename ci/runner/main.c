/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * main.c - `ci/bench PROFILE`: options, the run, the result file, the page.
 *
 * Whatever happens, the run's directory is removed and no child process stays.  Parts that fail
 * are named, the others are measured all the same; what was measured before an interrupt is thrown
 * away.
 */
#include "ci/runner/bench.h"
#include "ci/runner/child.h"
#include "ci/runner/cluster.h"
#include "ci/runner/fio.h"
#include "ci/runner/workdir.h"
#include "cli/cli.h"
#include "results/targets.h"

#include "lsvd.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	OPT_ONLY = 'o',
	OPT_ROUNDS = 'r',
	OPT_LIST = 'l',
	OPT_BUILD = 256,
	OPT_COMMIT,
	OPT_DIRTY,
	OPT_DATA,
	OPT_PAGE,
	OPT_NO_PAGE
};

struct opts {
	const char *profile, *only, *build, *commit, *data, *page;
	unsigned rounds;
	bool list, dirty, no_page;
};

static const struct argp_option options[] = {
	{"only", OPT_ONLY, "GLOB", 0,
		"measure the parts whose names match, such as 'fio.randwrite.*', and put the "
		"result into build/bench-part",
		0},
	{"rounds", OPT_ROUNDS, "N", 0, "rounds of each measurement (quick 3, full 5)", 0},
	{"list", OPT_LIST, NULL, 0,
		"print the parts with the seconds they take, and measure nothing", 0},
	{"data", OPT_DATA, "DIR", 0, "where the result file goes (results/data)", 0},
	{"page", OPT_PAGE, "DIR", 0, "where the page goes (results/page)", 0},
	{"no-page", OPT_NO_PAGE, NULL, 0, "make no page", 0},
	{"build", OPT_BUILD, "DIR", OPTION_HIDDEN, "the build folder", 0},
	{"commit", OPT_COMMIT, "ID", OPTION_HIDDEN, "the commit that is measured", 0},
	{"dirty", OPT_DIRTY, NULL, OPTION_HIDDEN, "there are uncommitted changes", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct opts *o = s->input;

	switch (key) {
	case OPT_ONLY:
		o->only = arg;
		return 0;
	case OPT_ROUNDS:
		o->rounds = (unsigned)strtoul(arg, NULL, 10);
		if (!o->rounds || o->rounds > 1000)
			argp_error(s, "--rounds: '%s' is not a number from 1 to 1000", arg);
		return 0;
	case OPT_LIST:
		o->list = true;
		return 0;
	case OPT_DATA:
		o->data = arg;
		return 0;
	case OPT_PAGE:
		o->page = arg;
		return 0;
	case OPT_NO_PAGE:
		o->no_page = true;
		return 0;
	case OPT_BUILD:
		o->build = arg;
		return 0;
	case OPT_COMMIT:
		o->commit = arg;
		return 0;
	case OPT_DIRTY:
		o->dirty = true;
		return 0;
	case ARGP_KEY_ARG:
		if (s->arg_num || (strcmp(arg, "quick") && strcmp(arg, "full")))
			argp_error(s, "'%s' is no profile; there are: quick, full", arg);
		o->profile = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the plan ---- */

static void make_plan(struct bench *b)
{
	fio_parts(b);
	pressure_parts(b);
	gc_parts(b);
	mem_parts(b);
	scale_parts(b);
	open_parts(b);
	images_parts(b);
	counters_parts(b);
	legs_parts(b);
	boot_parts(b);
	copy_parts(b);
	ceph_parts(b);
}

static double plan_seconds(const struct bench *b)
{
	double s = 0;

	for (size_t i = 0; i < b->nparts; i++)
		s += b->parts[i].seconds;
	return s;
}

static int list_plan(const struct bench *b)
{
	for (size_t i = 0; i < b->nparts; i++)
		printf("%-40s %5.0f s\n", b->parts[i].id, b->parts[i].seconds);
	printf("%-40s %5.0f s, %u rounds\n", "all", plan_seconds(b), b->rounds);
	return 0;
}

/* ---- the result ---- */

static void set_fio_version(const struct bench *b, struct results *r)
{
	char file[BENCH_PATH + 16], *text;
	const char *argv[] = {"fio", "--version", NULL};
	struct child c = {.argv = argv, .out = file, .cpu = -1, .limit_s = 10};
	struct err e = {0};

	snprintf(file, sizeof(file), "%s/version", b->dir);
	if (child_run(&c, &e))
		return;
	text = file_text(file, NULL);
	if (!text)
		return;
	text[strcspn(text, "\n")] = 0;
	if (results_set_version(r, "fio", strncmp(text, "fio-", 4) ? text : text + 4, &e))
		cli_fail("%s", e.msg);
	free(text);
}

static int describe(const struct bench *b, const struct opts *o, struct results *r, struct err *e)
{
	int rc;

	snprintf(r->commit, sizeof(r->commit), "%s", o->commit);
	r->dirty = o->dirty;
	r->profile = b->quick ? RESULTS_QUICK : RESULTS_FULL;
	results_probe_machine(r, b->dir);
	set_fio_version(b, r);
	rc = results_set_version(r, "lsvd", lsvd_version(), e);
	if (!rc)
		rc = results_set_version(r, "compiler", __VERSION__, e);
	return rc;
}

static int store(const struct bench *b, const struct opts *o, struct results *r, char *path,
	size_t size, struct err *e)
{
	int rc = describe(b, o, r, e);

	if (!rc)
		rc = samples_store(b, r, e);
	return rc ? rc : results_write(r, o->data, path, size, e);
}

/* What was promised and what came out. */
static void print_targets(const struct results *r)
{
	printf("\n%-72s %10s %8s  %s\n", "figure", "measured", "at least", "verdict");
	for (const struct target *t = targets; t->figure; t++) {
		const struct results_figure *f = results_find(r, t->figure);

		if (f)
			printf("%-72s %10.4g %s%7.4g  %s\n", t->figure, f->sum.median,
				t->lower ? "<" : " ", t->least,
				target_verdict_name(target_judge(t, r)));
	}
}

static int report(const struct bench *b, const struct opts *o, const char *file, struct err *e)
{
	char tool[BENCH_PATH + 8], log[BENCH_PATH + 16];
	const char *argv[] = {tool, "results", "report", "-d", o->data, "-o", o->page, file, NULL};
	struct child c = {.argv = argv, .log = log, .cpu = -1, .limit_s = 120};

	snprintf(tool, sizeof(tool), "%s/lsvd", b->o);
	snprintf(log, sizeof(log), "%s/report.log", b->dir);
	return child_run(&c, e);
}

static int publish(const struct bench *b, const struct opts *o, struct results *r)
{
	char path[BENCH_PATH] = "";
	struct err e = {0};
	int rc = store(b, o, r, path, sizeof(path), &e);

	if (rc)
		return cli_fail("%s", err_text(&e, rc));
	print_targets(r);
	printf("\nresult: %s\n", path);
	if (o->no_page)
		return CLI_OK;
	rc = report(b, o, path, &e);
	if (rc)
		return cli_fail("the page: %s", err_text(&e, rc));
	printf("page:   %s/index.html\n", o->page);
	return CLI_OK;
}

/* ---- the run ---- */

/* Later runs of one second would find a file of their name; and a writer must be sure early. */
static int check_before(const struct opts *o, struct err *e)
{
	int rc = results_make_dirs(o->data);

	if (rc || access(o->data, W_OK))
		return err_set(e, rc ? rc : -errno, "%s: %s", o->data, strerror(rc ? -rc : errno));
	return 0;
}

static int measure(struct bench *b, const struct opts *o, struct results *r)
{
	double s = plan_seconds(b);
	unsigned failed;

	printf("bench: profile %s, %u rounds, about %d:%02d min, in %s\n", o->profile, b->rounds,
		(int)s / 60, (int)s % 60, b->dir);
	failed = plan_run(b);
	if (cli_interrupted)
		return cli_fail("interrupted; nothing was recorded");
	if (failed)
		cli_fail("%u of %zu parts failed; see above", failed, b->nparts);
	if (b->samples.n && publish(b, o, r))
		return CLI_FAILED;
	return failed ? CLI_FAILED : CLI_OK;
}

static uint64_t need_bytes(const struct bench *b)
{
	uint64_t fio = fio_need_bytes(b), ceph = ceph_need_bytes(b);

	return (fio > ceph ? fio : ceph) + 2 * GIB;
}

static int run(struct bench *b, const struct opts *o)
{
	const char *base = getenv("LSVD_BENCH_DIR");
	struct results *r = results_new(); /* its time is the start */
	char own[BENCH_PATH + 16];
	struct err e = {0};
	int rc;

	snprintf(own, sizeof(own), "%s/bench-data", b->o);
	rc = r ? check_before(o, &e) : -ENOMEM;
	if (!rc)
		rc = workdir_make(base && *base ? base : own, need_bytes(b), b->dir,
			sizeof(b->dir), &e);
	rc = rc ? cli_fail("%s", err_text(&e, rc)) : measure(b, o, r);
	cluster_stop();
	workdir_remove();
	results_free(r);
	return rc;
}

static void interrupt(int sig)
{
	(void)sig;
	cli_interrupted = 1;
}

/* However often somebody presses Ctrl-C, what was made is removed; a child ends in two seconds. */
static void catch_signals(void)
{
	const struct sigaction sa = {.sa_handler = interrupt};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

static int bench_main(int argc, char **argv)
{
	static const struct argp argp = {.options = options,
		.parser = parse,
		.args_doc = "[quick|full]",
		.doc = "Measure this machine's disk raw and through LSVD, and what the library "
		       "costs.\v"
		       "The data is written in $LSVD_BENCH_DIR, else in build/bench-data, and "
		       "removed at the "
		       "end.\n\n"
		       "Against another commit, in turns, a round each: ci/bench --against COMMIT "
		       "[--fail-on-worse] ...; commit by commit: ci/bench-commits.\n\n"
		       "example: ci/bench quick --only 'fio.randwrite.4k.*' --rounds 5"};
	struct opts o = {.profile = "quick", .build = "build", .commit = "0000000"};
	static struct bench bench;
	struct bench *b = &bench;
	char real[PATH_MAX], *data, *page;
	int rc;

	argp_err_exit_status = CLI_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (asprintf(&data, "%s/bench-part", o.build) < 0 ||
		asprintf(&page, "%s/bench-part/page", o.build) < 0)
		return CLI_FAILED;
	o.data = o.data ? o.data : o.only ? data : "results/data";
	o.page = o.page ? o.page : o.only ? page : "results/page";
	if (!realpath(o.build, real) || strlen(real) >= sizeof(b->o) - 64)
		return cli_fail("no build folder '%s'", o.build);
	memcpy(b->o, real, strlen(real) + 1);
	b->only = o.only;
	b->quick = !strcmp(o.profile, "quick");
	b->rounds = o.rounds ? o.rounds : b->quick ? 3 : 5;
	b->tty = isatty(STDOUT_FILENO);
	make_plan(b);
	if (!b->nparts)
		return cli_fail("no part matches '%s'; --list prints them", o.only ? o.only : "*");
	catch_signals();
	rc = o.list ? list_plan(b) : run(b, &o);
	samples_free(b);
	free(b->parts);
	return rc;
}

/* `ci-bench NAME ...`: what the parts run as processes of their own. */
static const struct {
	const char *name;
	int (*run)(int argc, const char *const *argv);
} tools[] = {{"drain", drain_main}, {"scale", scale_main}, {"fill", fill_main},
	{"reopen", reopen_main}, {"images", images_main}};

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "driver"))
		return driver_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "count"))
		return count_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "boot"))
		return boot_main(argc - 1, argv + 1);
	for (size_t i = 0; argc > 1 && i < sizeof(tools) / sizeof(tools[0]); i++)
		if (!strcmp(argv[1], tools[i].name))
			return tools[i].run(argc - 1, (const char *const *)argv + 1);
	return bench_main(argc, argv);
}
