/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench.h - the benchmark runner behind `ci/bench PROFILE`: what its rooms share.
 *
 *   main.c     options, the plan, the result file and the page
 *   plan.c     parts with estimates, progress
 *   workdir.c  the directory that is measured in, and its removal
 *   child.c    child processes: fork, exec, time limit, no leftovers
 *   samples.c  what was measured, by figure name, until it becomes the result file
 *   fioout.c   fio's json+ output -> IOPS and percentiles
 *   fiorun.c   job files, and one fio process
 *   fio.c      the fio matrix and the sustained writes       (parts fio.*)
 *   barelog.c  what the disk does with their traffic when nothing is computed
 *   fiohist.c  fio's histogram logs -> rates and percentiles over time
 *   pressure.c writes while the store is slower than they are, and while it stops (parts pressure.*)
 *   gc.c       what garbage collection costs the foreground  (part gc)
 *   mem.c      memory pool and store, cost of tracing        (parts mem.*, trace)
 *   scale.c    two loops in one process                      (part mem.scale)
 *   open.c     opening an image                              (parts open.*)
 *   images.c   many images on one pool                       (part images)
 *   counters.c instructions, allocations, requests of a fixed work   (part counters)
 *   legs.c     journals on disks, memory and nbdkit          (part legs)
 *   ceph.c     LSVD beside RBD on a cluster, and on S3       (parts ceph.*)
 *   cluster.c  that cluster: its start, its end, its OSD
 *   drain.c    a full journal's way into a store, in a child process of its own
 *   driver.c   the loop that mem and counters time, in a child process of its own
 *   pump.c     requests in flight, for the other child processes
 *   yield.c    keeps valgrind's threads moving
 *   boot.c     boots in virtual and real time                (parts boot.*)
 *   copy.c     import, export and reorg against cp           (part copy)
 *
 * A run is a list of parts.  Each part measures A B A B ... for `rounds` rounds and adds samples;
 * a part that fails says so and the run goes on, and ends with exit code 1.
 */
#ifndef CI_RUNNER_BENCH_H
#define CI_RUNNER_BENCH_H

#include "results/schema.h"

#include <stdbool.h>
#include <stdint.h>

#define KIB 1024ull
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

enum { BENCH_PATH = 3072 };

struct bench;

struct part {
	char id[RESULTS_NAME_MAX + 1]; /* "fio.randwrite.4k.qd32": what --only matches */
	double seconds;		       /* estimate for all rounds */
	int (*run)(struct bench *b, const struct part *p, struct err *e);
	unsigned first, count; /* the part's own: which of its cells */
};

struct samples {
	struct sample *list;
	size_t n, room;
	struct results *curves; /* holds nothing else */
};

/* What was made once and serves several parts; see fio.c. */
enum prepared {
	PREPARED_RAW = 1,
	PREPARED_READ = 2,
	PREPARED_WRITE = 4,
	PREPARED_MIXED = 8,
	PREPARED_SUSTAINED = 16
};

struct bench {
	char o[BENCH_PATH];   /* the build folder, absolute */
	char dir[BENCH_PATH]; /* this run's directory, absolute; children run in it */
	const char *only;     /* glob over part ids, or NULL */
	bool quick;
	unsigned rounds;
	unsigned prepared; /* enum prepared */
	char *raw_options; /* job file lines of the raw side */
	struct samples samples;
	struct part *parts;
	size_t nparts, at;
	double begun_s, left_s; /* estimate of the parts after the running one */
	bool tty;
};

/* ---- plan.c ---- */

/* Adds a part when `only` lets it; `id` as printf.  Returns it, or NULL when it was left out. */
struct part *plan_add(struct bench *b, double seconds,
	int (*run)(struct bench *, const struct part *, struct err *), const char *fmt, ...)
	PRINTF(4, 5);
bool plan_wants(const struct bench *b, const char *id);

/* One line about what just happened, with what is left: "[1:02, 2:40 left] text". */
void say(struct bench *b, const char *fmt, ...) PRINTF(2, 3);
/* What is going on now: overwritten on a terminal, nothing elsewhere. */
void say_now(struct bench *b, const char *fmt, ...) PRINTF(2, 3);

double now_s(void); /* monotonic */

/* Runs all parts.  Returns how many failed; stops at an interrupt. */
unsigned plan_run(struct bench *b);

/* ---- samples.c ---- */

/* One more sample of a figure.  `params` is stolen; that of the first sample counts.  A name that
 * results/SCHEMA.md promises. */
void sample(struct bench *b, const char *name, double value, json_t *params);
/* A name of our own, with its unit and direction. */
void sample_as(struct bench *b, const char *name, const char *unit,
	enum results_direction direction, double value, json_t *params);
/* Of the samples so far, NAN when there are none. */
double sample_median(const struct bench *b, const char *name);
/* What was measured over an axis; of a name that is there already, the later one stays.  `params` is
 * stolen.  See results_add_curve. */
void sample_curve(struct bench *b, const char *name, const char *x_unit, const char *y_unit,
	const double *x, const double *y, size_t n, json_t *params);
int samples_store(const struct bench *b, struct results *r, struct err *e) MUST_CHECK;
void samples_free(struct bench *b);

/* ---- the parts ---- */
void fio_parts(struct bench *b);
void pressure_parts(struct bench *b);
void gc_parts(struct bench *b);
void mem_parts(struct bench *b);
void scale_parts(struct bench *b);
void open_parts(struct bench *b); /* full only */
void images_parts(struct bench *b); /* full only */
void counters_parts(struct bench *b);
void legs_parts(struct bench *b); /* full only */
void ceph_parts(struct bench *b); /* full only */
uint64_t ceph_need_bytes(const struct bench *b); /* on the disk */
void boot_parts(struct bench *b);
void copy_parts(struct bench *b);

/* `ci-bench driver ...`: see driver.c.  Returns an exit code. */
int driver_main(int argc, char **argv);
int count_main(int argc, char **argv);
/* `ios` requests, and the end of those in flight; not inlined, for callgrind finds it by its name. */
int driver_counted(uint64_t ios) __attribute__((noinline, noclone));
int boot_main(int argc, char **argv);
int drain_main(int argc, const char *const *argv);
int scale_main(int argc, const char *const *argv);
int images_main(int argc, const char *const *argv);
int fill_main(int argc, const char *const *argv);
int reopen_main(int argc, const char *const *argv);

#endif
