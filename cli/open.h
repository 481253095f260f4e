/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.h - the options that every command on images shares, and the context they lead to.
 *
 *   struct args { struct cli_open open; ... } a = {0};
 *   static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
 *
 *   parse():  case ARGP_KEY_INIT: state->child_inputs[0] = &a->open; return 0;
 *   run():    rc = cli_open_ctx(&a.open, CLI_POOL, LSVD_DRIVE_INLINE, &ctx);
 *             if (rc) return rc;                     // told already
 *
 * Options: --pool URL, --config FILE, --set KEY=VALUE (any number), --json, --quiet.
 *
 * Commands that open an image for writing have cli_write_argp among their kids, too, with the same
 * input: --steal, --no-journal; and open it with cli_open_image().
 */
#ifndef LSVD_CLI_OPEN_H
#define LSVD_CLI_OPEN_H

#include "cli/cli.h"
#include "lsvd.h"

#include <argp.h>

enum { CLI_OPEN_OPTIONS = 64 };

struct cli_open {
	bool json, quiet;
	bool steal, no_journal;
	bool pool_given; /* --pool or --set pool.path=... */
	unsigned n;
	struct {
		int kind; /* 'p' pool, 'c' config file, 's' set */
		const char *arg;
	} opts[CLI_OPEN_OPTIONS];
};

extern const struct argp cli_open_argp, cli_write_argp;
extern const struct argp cli_config_argp; /* --config and --set alone, for what opens no image */

enum cli_pool {
	CLI_POOL,	    /* the configured one; created when absent */
	CLI_POOL_IF_THERE,  /* the configured one if it exists, else as below */
	CLI_POOL_NOT_ASKED, /* the one named by an option, else as below */
	CLI_POOL_NONE,	    /* a small one in memory: for commands that only touch the store */
};

/* The configuration with the options applied.  CLI_OK, or an exit code after a message. */
int cli_open_config(const struct cli_open *o, struct lsvd_config **cfg);

/* A context.  CLI_OK, or an exit code after a message. */
int cli_open_ctx(
	const struct cli_open *o, enum cli_pool pool, enum lsvd_drive drive, struct lsvd_ctx **ctx);

/* Open for writing as the options say, and tell on stderr when it was taken from somebody.  CLI_OK,
 * or an exit code after a message. */
int cli_open_image(
	const struct cli_open *o, struct lsvd_ctx *ctx, const char *image, struct lsvd_image **img);

/* True when `image` was not closed cleanly: its newest data may be in the journal of a pool, and
 * opening it for writing brings it in.  False when all of it is in the store, or it cannot be told.
 */
bool cli_needs_journal(const struct cli_open *o, const char *image);

/* The pool to read `image` with, as it is in its store (LSVD_OPEN_READONLY). */
enum cli_pool cli_pool_for_reading(const struct cli_open *o, const char *image);

#endif
