/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * server.h - gateways that `lsvd map` and `lsvd qemu-args` start: nbdkit with the plugin, one for each pool.
 *
 * It begins without exports and gets them over its control socket, so that images which share a pool share
 * one process and its cache.  It outlives the command and its terminal; what it says is in its log.
 */
#ifndef LSVD_GATEWAY_SERVER_H
#define LSVD_GATEWAY_SERVER_H

#include "cli/open.h"
#include "gateway/state.h"

struct server {
	unsigned n;
	char dir[STATE_PATH];
	struct proc proc;
};

/* The one for these options' pool, started if there is none.  CLI_OK, or a code after a message. */
int server_get(const char *run, const struct cli_open *o, struct server *s);
/* What is known of number n; false: nothing. */
bool server_load(const char *run, unsigned n, struct server *s);
void server_socket(const struct server *s, char out[STATE_PATH]);
void server_control(const struct server *s, char out[STATE_PATH]);
/* The last complaint in its log, "" when there is none.  Of `len` bytes. */
void server_complaint(const struct server *s, char *out, size_t len);
/* True when no image is attached by number n. */
bool server_unused(const char *run, unsigned n);
/* End it, once it has closed what is open, and forget it. */
void server_stop(const struct server *s);

#endif
