/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* main.c - `lsvd COMMAND ...`: finds the command, and sees that what it printed arrived. */
#include "cli/cli.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifndef LSVD_VERSION
#define LSVD_VERSION "0"
#endif

static void print_help(FILE *f)
{
	fprintf(f, "usage: lsvd COMMAND [OPTION...]\n\n"
		   "A log-structured virtual disk: images are named STORE-URL/NAME,\n"
		   "for example file:/srv/vols/vm1.\n\ncommands:\n");
	for (struct cli_command *c = cli_commands; c; c = c->next)
		fprintf(f, "  %-10s %s\n", c->name, c->summary);
	fprintf(f, "\n`lsvd COMMAND --help` tells more; exit codes: 0 done, 1 failed, 2 usage.\n"
		   "example: lsvd create file:/srv/vols/vm1 --size 10G\n");
}

/* What a command has printed must have arrived: a full disk is a failure. */
static int run(const struct cli_command *c, int argc, char **argv)
{
	int rc = c->run(argc, argv);

	if ((fflush(stdout) || ferror(stdout)) && rc == CLI_OK)
		return cli_fail("stdout: %s", strerror(errno));
	return rc;
}

int main(int argc, char **argv)
{
	static char name[64];

	argp_err_exit_status = CLI_USAGE;
	if (argc < 2) {
		print_help(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return CLI_OK;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("lsvd %s\n", LSVD_VERSION);
		return CLI_OK;
	}
	for (struct cli_command *c = cli_commands; c; c = c->next) {
		if (strcmp(c->name, argv[1]))
			continue;
		snprintf(name, sizeof(name), "lsvd %s", c->name);
		argv[1] = name;
		return run(c, argc - 1, argv + 1);
	}
	fprintf(stderr, "lsvd: no command '%s'; `lsvd --help` lists them\n", argv[1]);
	return CLI_USAGE;
}
