/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * workdir.h - the directory a run measures in.
 *
 * BASE/run-XXXXXX, on a real disk with enough room, removed at the end whatever happens; what a run
 * that was killed left is removed by the next (a lock tells whether a run is alive).
 */
#ifndef CI_RUNNER_WORKDIR_H
#define CI_RUNNER_WORKDIR_H

#include "sys/err.h"

#include <stddef.h>
#include <stdint.h>

/* -EBUSY: another run is in BASE; -ENOSPC; -EINVAL: memory is no disk (tmpfs). */
int workdir_make(
	const char *base, uint64_t need_bytes, char *dir, size_t size, struct err *e) MUST_CHECK;
void workdir_remove(void);

/* rm -rf; says nothing when there is nothing. */
void remove_tree(const char *path);

#endif
