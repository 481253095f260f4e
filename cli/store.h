/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* store.h - an image's store on a loop of one's own, for commands that look beneath the image. */
#ifndef LSVD_CLI_STORE_H
#define LSVD_CLI_STORE_H

#include "cli/open.h"
#include "store/store.h"

struct cli_store {
	struct loop *loop;
	struct store *store;
	char name[80]; /* of the image */
};

/* Open the store of `image`, a STORE-URL/NAME, with the settings of `o`.  CLI_OK, or an exit code after a message; then
 * nothing is to be closed. */
int cli_store_open(const struct cli_open *o, const char *image, struct cli_store *s);
void cli_store_close(struct cli_store *s);

/* 36 characters of a UUID in a rotating static buffer (main thread only). */
const char *cli_uuid(const uint8_t uuid[16]);

#endif
