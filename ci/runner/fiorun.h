/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fiorun.h - one fio process: a job file of cells that run one after the other.
 *
 * Both sides get the same job but for the engine: LSVD's own with a file pool and a file store, or
 * io_uring with O_DIRECT on a file of the same disk that was written in full before.  fio runs in
 * the run's directory, so that no path of this machine is in a job file.
 */
#ifndef CI_RUNNER_FIORUN_H
#define CI_RUNNER_FIORUN_H

#include "ci/runner/bench.h"
#include "ci/runner/fioout.h"

enum side { SIDE_LSVD, SIDE_RAW, SIDES, SIDE_RBD }; /* SIDES: those of the fio matrix */

/* One job of fio. */
struct cell {
	const char *rw; /* as fio spells it; randrw is 70 % reads */
	unsigned bs_kib, qd;
	bool fsync;	   /* after every write */
	uint64_t io_bytes; /* not by time, but this much */
	unsigned jobs;	   /* so many at once on one image or file, each of depth `qd`; 0: one */
};

struct fio_run {
	enum side side;
	const char *image;     /* LSVD: "r" = image file:store/r, pool file:pool-r; RBD: rbd/r */
	const char *store;     /* LSVD: URL of another store; may be NULL */
	uint64_t region_bytes; /* of the image or file, from 0 */
	uint64_t pool_bytes;   /* LSVD */
	double runtime_s;      /* of each cell, by time */
	uint64_t io_bytes;     /* instead: up to this much, runtime_s at most */
	double ramp_s;
	unsigned seed;	   /* of fio's random offsets: the same for both sides of a round */
	const char *extra; /* more lines of [global]; may be NULL */
	const char *set;   /* LSVD: more settings, KEY=VALUE,KEY=VALUE; may be NULL */
	const char *pool, *mirror; /* LSVD: URLs of the legs instead; may be NULL */
	bool memory;	   /* LSVD: pool and store in memory, one processor, inline drive */
	bool all_cpus;	   /* of these: any processor, and the drive that suits the jobs */
	bool stats;	   /* LSVD: want stats_json of each cell: run directory/stats-N.json */
	const struct cell *cells;
	unsigned n;
};

enum { FIO_CELLS_MAX = 16 };

/* Runs it.  out[i] are the figures of cell i. */
int fio_run(struct bench *b, const struct fio_run *r, struct fio_figures *out,
	struct err *e) MUST_CHECK;

/* How long it took from start to end, for the estimates. */
double fio_run_seconds(const struct fio_run *r);

/* "fio.randwrite.4k.qd32", "fio.randwrite.4k.qd1.8jobs.fsync" */
void cell_name(const struct cell *c, char *out, size_t size);

#endif
