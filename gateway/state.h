/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * state.h - what `lsvd map` keeps on this host: gateways that it started, and images attached by them.
 *
 *   RUN/lock             held by a command while it changes anything below
 *   RUN/server-N/        a gateway: nbd (socket), control (socket), log, server.json
 *   RUN/map-N.json       an image: device, gateway, processes
 *   RUN/map-N.disk       the file that nbdfuse mounts, under the loop device
 *
 * RUN is /run/lsvd for root, $XDG_RUNTIME_DIR/lsvd else, $LSVD_RUN_DIR when it is set.  It is for the
 * owner alone.  Files are replaced by renaming, so a crash leaves the old or the new one; nothing in them is
 * believed of a process without comparing when it was started.
 */
#ifndef LSVD_GATEWAY_STATE_H
#define LSVD_GATEWAY_STATE_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { STATE_PATH = 256, STATE_MAX = 1024 };

/* A process that may have gone, and its number been given to another. */
struct proc {
	pid_t pid; /* 0: none */
	uint64_t started; /* field 22 of /proc/PID/stat */
};
struct proc proc_of(pid_t pid);
bool proc_alive(const struct proc *p);
/* True when it ended within `ms` (-1: however long). */
bool proc_wait(const struct proc *p, int ms);

struct mapping {
	unsigned n, server;
	char image[700], export[100];
	char device[32]; /* "/dev/loop0"; "": none, for QEMU */
	char method[8];	 /* "loop", "nbd", "none" */
	struct proc fuse;
	bool readonly;
};

/* Make RUN if need be, take its lock, tell its path.  A file descriptor (closing it unlocks), or -1 after
 * a message.  Waits for another command, up to a minute. */
int state_lock(char run[STATE_PATH]);
/* RUN's path, without lock.  -1 after a message. */
int state_dir(char run[STATE_PATH]);

/* "RUN/map-N.SUFFIX" */
void mapping_path(const char *run, unsigned n, const char *suffix, char out[STATE_PATH]);
int mapping_save(const char *run, const struct mapping *m); /* CLI_OK, or told */
void mapping_forget(const char *run, const struct mapping *m);
/* All of them, up to `max`; those whose files cannot be read are left out with a message. */
unsigned mapping_list(const char *run, struct mapping *out, unsigned max);
/* The lowest number that is free. */
unsigned state_free_number(const char *run, const char *fmt);

/* Write j (borrowed) to `path`, whole or not at all. */
int state_write(const char *path, const json_t *j);

#endif
