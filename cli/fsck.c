/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsck.c - `lsvd fsck IMAGE`: check everything an image consists of.
 *
 * Findings go to standard output, one a line: severity, object, offset, what.  Exit code 0 when the
 * image is as it should be (notes do not count, nor what was repaired), 1 when not or when the
 * check could not be made, 2 for usage.
 */
#include "cli/fsck.h"

#include "cli/cli.h"
#include "cli/store.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct args {
	struct cli_open open;
	const char *image;
	unsigned flags;
	bool json, quiet;
	/* progress */
	struct cli_progress bar;
	const char *phase;
};

static const struct argp_option options[] = {
	{"data", 'd', NULL, 0, "read all data too and compare its checksums", 0},
	{"repair", 'r', NULL, 0,
		"delete objects of earlier epochs that nobody needs; nothing else is changed, and "
		"nothing at all when there is an error or somebody has the image open",
		0},
	{"json", 'j', NULL, 0, "print JSON", 0},
	{"quiet", 'q', NULL, 0, "no progress, no notes", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = &a->open;
		return 0;
	case 'd':
		a->flags |= FSCK_DATA;
		return 0;
	case 'r':
		a->flags |= FSCK_REPAIR;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->image)
			argp_error(s, "what is '%s'?", arg);
		a->image = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->image)
			argp_error(s, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child kids[] = {{&cli_config_argp, 0, NULL, 10}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = parse,
	.children = kids,
	.args_doc = "IMAGE",
	.doc = "Check an image in its store: superblock, checkpoints, the maps they make, and "
	       "every "
	       "object's header and size; with --data every checksum of the data too.  Nothing is "
	       "changed, and the image may be in use meanwhile.\v"
	       "Exit codes: 0 nothing is wrong, 1 something is (or the check could not be made), 2 "
	       "usage.\n"
	       "example: lsvd fsck file:/srv/vols/vm1 --data",
};

/* ---- the report ---- */

static json_t *finding_json(const struct fsck_finding *x)
{
	return json_pack("{ss,ss,ss,sI,ss,sb,sb}", "severity", fsck_severity_name(x->severity),
		"code", fsck_code_name(x->code), "object", x->object, "offset_bytes",
		(json_int_t)x->offset_bytes, "what", x->what, "repairable", x->repairable,
		"repaired", x->repaired);
}

json_t *fsck_json(const char *image, const struct fsck_report *r, unsigned flags)
{
	json_t *findings = json_array();
	json_t *facts = json_pack("{ss,sI,sI,sI,sI,sb,sI,sI,sI,sI,sI,sI}", "uuid",
		cli_uuid(r->uuid), "size_bytes", (json_int_t)r->size_bytes, "epoch",
		(json_int_t)r->epoch, "checkpoint", (json_int_t)r->checkpoint, "object_seq",
		(json_int_t)r->object_seq, "clean", r->clean, "objects", (json_int_t)r->objects,
		"objects_after_checkpoint", (json_int_t)r->objects_after, "checkpoints",
		(json_int_t)r->checkpoints, "extents", (json_int_t)r->extents, "stored_bytes",
		(json_int_t)r->stored_bytes, "live_bytes", (json_int_t)r->live_bytes);

	for (uint32_t i = 0; i < r->n; i++)
		json_array_append_new(findings, finding_json(&r->findings[i]));
	return json_pack("{ss,sb,sb,sb,sI,sI,sI,sI,sI,sI,sI,sI,so,so}", "image", image, "ok",
		!fsck_has_problems(r), "data", (flags & FSCK_DATA) != 0, "changing", r->changing,
		"errors", (json_int_t)r->errors, "warnings", (json_int_t)r->warnings, "notes",
		(json_int_t)r->notes, "repaired", (json_int_t)r->repaired, "orphans",
		(json_int_t)r->orphans, "orphan_bytes", (json_int_t)r->orphan_bytes,
		"checked_bytes", (json_int_t)r->checked_bytes, "findings_left_out",
		(json_int_t)r->left_out, "facts", facts, "findings", findings);
}

static void print_findings(const struct args *a, const struct fsck_report *r)
{
	for (uint32_t i = 0; i < r->n; i++) {
		const struct fsck_finding *x = &r->findings[i];

		if (a->quiet && x->severity == FSCK_NOTE)
			continue;
		printf("%s: %s: ", fsck_severity_name(x->severity), x->object);
		if (x->offset_bytes)
			printf("at %llu: ", (unsigned long long)x->offset_bytes);
		printf("%s%s\n", x->what, x->repaired ? " (deleted)" : "");
	}
	if (r->left_out)
		printf("... and %llu more\n", (unsigned long long)r->left_out);
}

static void print_report(const struct args *a, const struct fsck_report *r)
{
	print_findings(a, r);
	if (r->changing)
		printf("the image changed all the time; what was found may not be so: check it "
		       "again when it is not in use\n");
	if (r->kept_orphans)
		printf("nothing was deleted, because there are errors\n");
	printf("%s: %llu objects (%llu after the checkpoint), %llu checkpoints, %llu extents, %s "
	       "stored, %s live; %s checked\n",
		a->image, (unsigned long long)r->objects, (unsigned long long)r->objects_after,
		(unsigned long long)r->checkpoints, (unsigned long long)r->extents,
		cli_size(r->stored_bytes), cli_size(r->live_bytes), cli_size(r->checked_bytes));
	if (fsck_has_problems(r))
		printf("%s: %llu errors, %llu warnings\n", a->image, (unsigned long long)r->errors,
			(unsigned long long)r->warnings);
	else if (r->repaired)
		printf("%s: clean, after %llu objects were deleted\n", a->image,
			(unsigned long long)r->repaired);
	else
		printf("%s: clean\n", a->image);
}

/* ---- progress ---- */

/* Only the objects are long work with bytes to count. */
static int progress(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	struct args *a = arg;

	if (strcmp(phase, "objects"))
		return cli_interrupted;
	if (a->phase != phase) {
		a->phase = phase;
		cli_progress_begin(&a->bar, "fsck", total, a->quiet);
	}
	cli_progress_at(&a->bar, done);
	if (done == total) {
		cli_progress_end(&a->bar);
		a->phase = NULL;
	}
	return cli_interrupted;
}

static int run(int argc, char **argv)
{
	struct fsck_report r = {0};
	struct err e = {.msg = ""};
	struct cli_store s;
	struct args a = {0};
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_store_open(&a.open, a.image, &s);
	if (rc)
		return rc;
	cli_catch_signals();
	rc = fsck_run(&(struct fsck_params){.store = s.store,
			      .name = s.name,
			      .flags = a.flags,
			      .progress = progress,
			      .arg = &a},
		&r, &e);
	cli_store_close(&s);
	if (rc < 0)
		rc = rc == -ECANCELED ? cli_fail("fsck: interrupted")
				      : cli_fail("%s", err_text(&e, rc));
	else if (a.json)
		cli_print_json(fsck_json(a.image, &r, a.flags));
	else
		print_report(&a, &r);
	if (rc == 0 && fsck_has_problems(&r))
		rc = CLI_FAILED;
	fsck_report_fini(&r);
	return rc;
}
CLI_COMMAND(fsck, "check an image", run)
