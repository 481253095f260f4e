/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fio.h - what other parts use of the fio part. */
#ifndef CI_RUNNER_FIO_H
#define CI_RUNNER_FIO_H

#include "ci/runner/bench.h"

/* Makes what is missing of `what` (enum prepared). */
int fio_prepare(struct bench *b, unsigned what, struct err *e) MUST_CHECK;

/* Percent of the bytes read by cell i of the last fio run (with `stats`) that came from the pool. */
double fio_hit_percent(const struct bench *b, unsigned i);

/* Removes what fio_prepare made. */
void fio_clean_up(struct bench *b);

/* Room on the disk that the fio parts need. */
uint64_t fio_need_bytes(const struct bench *b);

/* A file of arbitrary data, every block of it written. */
int make_full_file(const char *path, uint64_t bytes, struct err *e) MUST_CHECK;

#endif
