/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * words.h - the command line that most commands have: some words, and the options of cli/open.h.
 *
 *   struct args { struct cli_words w; bool yes; ... } a = {.w = {.min = 1, .max = 1}};
 *
 * It is the first thing in what argp_parse() is given.  A command with options of its own has a
 * parser that leaves all else to cli_words_parse(); one without has that for its parser.
 */
#ifndef LSVD_CLI_WORDS_H
#define LSVD_CLI_WORDS_H

#include "cli/open.h"

enum { CLI_WORDS_MAX = 64 };

struct cli_words {
	struct cli_open open;
	const char *word[CLI_WORDS_MAX];
	unsigned words, min, max; /* max <= CLI_WORDS_MAX */
	bool writes;		  /* the kids are cli_write_kids */
};

error_t cli_words_parse(int key, char *arg, struct argp_state *s);

/* The shared options, and those of commands that open an image for writing too. */
extern const struct argp_child cli_kids[], cli_write_kids[];

/* A failure of the library: what it said, or else what its error means.  Returns CLI_FAILED. */
int cli_told(const char *why, int rc);

#endif
