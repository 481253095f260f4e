/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/copy.h"

#include <stdio.h>
#include <string.h>

error_t copy_parse(int key, char *arg, struct argp_state *s)
{
	struct copy_args *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = &a->open;
		return 0;
	case 's':
		if (cli_parse_size(arg, &a->size_bytes) < 0 || a->size_bytes % LSVD_SECTOR)
			argp_error(s, "--size: '%s' is not a size, or no multiple of 512", arg);
		a->has_size = true;
		return 0;
	case 'f':
		a->force = true;
		return 0;
	case 'n':
		a->no_journal = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->to)
			argp_error(s, "what is '%s'?", arg);
		*(a->from ? &a->to : &a->from) = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->to)
			argp_error(s, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

void copy_begin(struct copy_totals *t)
{
	clock_gettime(CLOCK_MONOTONIC, &t->begin);
}

void copy_report(const struct copy_args *a, const struct copy_totals *t, const char *verb)
{
	struct timespec now;
	double secs;

	clock_gettime(CLOCK_MONOTONIC, &now);
	secs = (double)(now.tv_sec - t->begin.tv_sec) +
	       (double)(now.tv_nsec - t->begin.tv_nsec) / 1e9;
	if (a->open.json && strcmp(a->to, "-"))
		cli_print_json(json_pack("{sI,sI,sf}", "bytes", (json_int_t)t->bytes, "data_bytes",
			(json_int_t)t->data_bytes, "seconds", secs));
	else if (!a->open.quiet)
		fprintf(stderr, "%s %s, %s of it data, in %.1f s\n", verb, cli_size(t->bytes),
			cli_size(t->data_bytes), secs);
}

int copy_failed(const char *what, int rc, const char *why)
{
	if (cli_interrupted)
		return cli_fail("%s: interrupted; nothing is left of it", what);
	return cli_fail("%s: %s", what, why[0] ? why : strerror(-rc));
}
