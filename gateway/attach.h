/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach.h - an image attached to this host: a gateway serves it, a device or QEMU uses it.
 *
 * For `lsvd map` (with a device) and `lsvd qemu-args` (without); both are undone by `lsvd unmap`.
 */
#ifndef LSVD_GATEWAY_ATTACH_H
#define LSVD_GATEWAY_ATTACH_H

#include "gateway/server.h"

struct attach_options {
	struct cli_open open;
	const char *image;
	const char *snapshot, *trace; /* NULL: none */
	const char *method;	      /* device_method()'s; NULL: no device */
	bool readonly;
};

/* Serve the image, with a device if wanted; m and s tell where.  An image that is attached
 * already: `again` gives it, else that is an error.  CLI_OK, or a code after a message. */
int attach(const struct attach_options *o, bool again, struct mapping *m, struct server *s);

/* By device, image or export name.  CLI_OK, or a code after a message. */
int detach(const char *what, bool quiet);

/* What the state of one is: "ok", or what is wrong. */
void attach_trouble(const char *run, const struct mapping *m, char *out, size_t len);

/* Find by device, image URL or export name; RUN in `run`.  False: there is none (no message). */
bool attach_find(const char *what, char run[STATE_PATH], struct mapping *m);

#endif
