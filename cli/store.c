/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/store.h"

#include "cli/cli.h"
#include "sys/loop_uring.h"

#include <errno.h>
#include <stdio.h>

int cli_store_open(const struct cli_open *o, const char *image, struct cli_store *s)
{
	struct err e = {.msg = ""};
	struct lsvd_config *cfg;
	int rc = cli_open_config(o, &cfg);

	if (rc)
		return rc;
	*s = (struct cli_store){0};
	rc = loop_uring_new(256, &s->loop, &e);
	if (rc == 0)
		rc = store_open_image(
			s->loop, cfg, image, 0, &s->store, s->name, sizeof(s->name), &e);
	lsvd_config_free(cfg);
	if (rc == 0)
		return CLI_OK;
	cli_store_close(s);
	return cli_fail("%s", err_text(&e, rc));
}

void cli_store_close(struct cli_store *s)
{
	if (s->store)
		store_close(s->store);
	if (s->loop)
		loop_free(s->loop);
	*s = (struct cli_store){0};
}

const char *cli_uuid(const uint8_t u[16])
{
	static char ring[4][37];
	static unsigned next;
	char *out = ring[next++ % 4];

	snprintf(out, sizeof(ring[0]),
		"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		u[15]);
	return out;
}
