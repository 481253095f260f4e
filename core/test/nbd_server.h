/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* nbd_server.h - an nbdkit of a test's own, on a unix socket in the test's directory. */
#ifndef LSVD_TEST_NBD_SERVER_H
#define LSVD_TEST_NBD_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct nbd_server {
	pid_t pid;
	char socket[128], url[200];
};

/* Can there be one?  Else why not. */
bool nbd_server_possible(const char **why);

/* Start `nbdkit ARGS`, a blank between arguments, and wait until it listens.  `name`: of the
 * socket. */
void nbd_server_start(struct nbd_server *s, const char *name, const char *args);
/* SIGKILL, and wait. */
void nbd_server_kill(struct nbd_server *s);

#endif
