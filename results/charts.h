/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * charts.h - the pictures of the page, made of the figures that SCHEMA.md promises.
 *
 * Each returns a new plot that the caller frees with free(), or NULL without memory.  A figure that
 * was not measured leaves its place empty; plot_has_points() tells whether there is anything to
 * draw.
 */
#ifndef LSVD_RESULTS_CHARTS_H
#define LSVD_RESULTS_CHARTS_H

#include "results/history.h"
#include "results/plot.h"
#include "results/schema.h"

/* The workloads of the fio matrix, NULL-terminated: "randwrite", ... */
extern const char *const chart_fio_rws[];

/* One workload: IOPS, p99 and ratio, LSVD beside raw, by block size and queue depth. */
struct plot *chart_fio(const struct results *r, const char *rw);

/* The writes that hold the design's promises: sustained and with fsync, as ratios to raw. */
struct plot *chart_fio_special(const struct results *r);

/* The share of slow requests, LSVD beside raw; from curves. */
struct plot *chart_tails(const struct results *r);

/* Latency and IOPS over time while the store is slow, and while it stops; from curves. */
struct plot *chart_pressure(const struct results *r);

/* What is written for each byte of the client's, and where. */
struct plot *chart_bytes(const struct results *r);

/* Memory pool and store: IOPS, CPU, system calls, allocations. */
struct plot *chart_mem(const struct results *r);

/* Random writes by where the journal is: IOPS, p50 and p99, depth 1 and 32. */
struct plot *chart_legs(const struct results *r);

/* The boot replays: GETs, bytes, read-outstanding time, wasted bytes, by store latency and variant.
 */
struct plot *chart_boot(const struct results *r);

/* Key figures over the runs of a history, their change points marked; at most PLOT_GROUPS_MAX, the
 * newest are kept. */
struct plot *chart_history(const struct history *h);

#endif
