/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * request.h - one blocking request of one of nbdkit's threads.
 *
 * The thread hands the request to the library's loop thread and sleeps on a futex of its own until it is
 * done: no lock and no memory is shared between threads, nothing is allocated, and one wake-up is
 * one system call, of the loop thread, that is left out when the request was done before the thread slept.
 */
#ifndef LSVD_GATEWAY_REQUEST_H
#define LSVD_GATEWAY_REQUEST_H

#include "lsvd.h"

/* 0 or -errno.  buf: for reads and writes, else NULL.  Any thread. */
int request_do(struct lsvd_image *img, enum lsvd_op op, unsigned flags, void *buf,
	uint64_t len_bytes, uint64_t offset_bytes);

#endif
