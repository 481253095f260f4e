/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fioout.h - what fio said: its json+ output.
 *
 * Percentiles are taken from the completion latency's histogram, which json+ carries, so that reads
 * and writes of a mixed job have common ones.  They are those of fio's buckets (within 1 %).
 * Pure; any thread.
 */
#ifndef CI_RUNNER_FIOOUT_H
#define CI_RUNNER_FIOOUT_H

#include "sys/err.h"

#include <stddef.h>
#include <stdint.h>

/* The tail of the latencies: point i is the share 10^(-i/8) of all requests, from all of them (i = 0)
 * to one in 100 000. */
enum { FIO_TAIL_POINTS = 41 };

struct fio_figures {
	double iops, bw_mib_s;		/* reads and writes together */
	double p50_us, p99_us, p999_us; /* completion latency */
	double tail_us[FIO_TAIL_POINTS]; /* what that share of the requests took at least */
	double runtime_s;		/* the longer of reading and writing */
	uint64_t ios, bytes;
};

/* The share of point i, 0 to 1. */
double fio_tail_share(unsigned i);

/* The job called `job` in the text fio wrote.  -ENOENT: there is no such job; -EUCLEAN: no JSON, or
 * not fio's; -EIO: fio reports an error of the job; -ENODATA: it did nothing. */
int fio_parse(const char *text, const char *job, struct fio_figures *out, struct err *e) MUST_CHECK;

#endif
