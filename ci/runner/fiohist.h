/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fiohist.h - fio's histogram log (write_hist_log): what the latencies were, window by window.
 *
 * A line of it is `MS, DIRECTION, BLOCK SIZE, COUNT, COUNT, ...`: the completions since the line
 * before, by latency.  Bucket i of 64 * 2^k ns wide groups is as fio 3 documents and its tool
 * fiologparser_hist.py reads them: values below 128 ns have a bucket each, and from there on each
 * doubling has 64.  fio writes a line with the first completion after its interval has passed, so
 * a window is longer where nothing completed.  Lines of one millisecond are one window; of their
 * percentiles the higher ones count.  Pure; any thread.
 */
#ifndef CI_RUNNER_FIOHIST_H
#define CI_RUNNER_FIOHIST_H

#include "sys/err.h"

#include <stddef.h>
#include <stdint.h>

struct fio_window {
	double begin_s, end_s; /* since the job's start */
	uint64_t ios;
	double p50_us, p99_us, max_us; /* within 1 %: the middle of a bucket */
};

/* The windows of writes, in order of time; the caller frees *out.  -EUCLEAN: not such a log, with
 * its line; -ENODATA: no write in it. */
int fio_hist_parse(
	const char *text, struct fio_window **out, size_t *n, struct err *e) MUST_CHECK;

/* The middle of bucket i, in ns. */
uint64_t fio_hist_ns(unsigned i);

#endif
