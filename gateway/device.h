/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * device.h - a block device on an export of a gateway, as root.
 *
 *   nbd    the kernel's own client, by nbd-client: where there is /dev/nbd0 and that program
 *   loop   nbdfuse shows the export as a file, and a loop device with direct I/O stands on that
 *
 * Both pass on flushes, discards and zeroing.  When the gateway dies the device stays and answers with I/O
 * errors, until device_detach().
 */
#ifndef LSVD_GATEWAY_DEVICE_H
#define LSVD_GATEWAY_DEVICE_H

#include "gateway/state.h"

/* The better method that this host has: "nbd" or "loop"; NULL after a message that says what is missing. */
const char *device_method(const char *wanted);

/* m: image, export, method, readonly, n are set; sets device and fuse.  `socket`: of the gateway.  CLI_OK,
 * or a code after a message, and nothing is left. */
int device_attach(const char *run, const char *socket, struct mapping *m);

/* Where it is mounted, or how else it is in use, as text for a person; false: it is not. */
bool device_in_use(const struct mapping *m, char *how, size_t len);

/* The device, its file and nbdfuse go.  `dead`: the gateway has died, nothing can be written.  CLI_OK, or
 * a code after a message; it can be tried again. */
int device_detach(const char *run, const struct mapping *m, bool dead);

/* "" or what is wrong with it. */
const char *device_trouble(const char *run, const struct mapping *m);

#endif
