/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * schema.h - a result file: what one benchmark run measured, where, and with what.
 *
 * SCHEMA.md says what the JSON is.  A writer does:
 *
 *   struct results *r = results_new();
 *   snprintf(r->commit, sizeof(r->commit), "%s", commit);
 *   r->dirty = true;
 *   r->profile = RESULTS_QUICK;
 *   results_probe_machine(r, "/the/disk/under/test");
 *   results_set_version(r, "fio", "3.33", &e);
 *   results_add(r, "fio.randread.4k.qd32.ratio_raw", "ratio", RESULTS_HIGHER, samples, 3,
 *               json_pack("{s:i}", "runtime_s", 5), &e);
 *   results_write(r, "results/data", path, sizeof(path), &e);
 *   results_free(r);
 *
 * Reading and writing apply the same checks, so a file that was written can be read.  Functions
 * return 0 or -errno and fill the message with file, place and what is wrong:
 * -EUCLEAN when the contents break SCHEMA.md, -EPROTO for a schema version this build does not
 * know.
 *
 * One thread at a time per struct results.
 */
#ifndef LSVD_RESULTS_SCHEMA_H
#define LSVD_RESULTS_SCHEMA_H

#include "results/stat.h"
#include "sys/err.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RESULTS_SCHEMA = 1,
	RESULTS_NAME_MAX = 96,
	RESULTS_UNIT_MAX = 16,
	RESULTS_SAMPLES_MAX = 10000
};

enum results_direction { RESULTS_HIGHER, RESULTS_LOWER, RESULTS_NONE };
enum results_profile { RESULTS_QUICK, RESULTS_FULL };

struct results_figure {
	char name[RESULTS_NAME_MAX + 1];
	char unit[RESULTS_UNIT_MAX + 1];
	enum results_direction direction; /* which way is better */
	double *samples;		  /* as measured, one per round */
	size_t n;
	struct stat_summary sum; /* always computed from the samples */
	json_t *params;		 /* an object: what the figure was measured with */
};

/* What was measured over an axis, once: latencies over time, the share of slow requests. */
struct results_curve {
	char name[RESULTS_NAME_MAX + 1];
	char x_unit[RESULTS_UNIT_MAX + 1], y_unit[RESULTS_UNIT_MAX + 1];
	double *x, *y; /* n points; x never goes back */
	size_t n;
	json_t *params;
};

struct results_machine {
	char cpu[128]; /* "AMD EPYC 7B13" */
	int64_t cores, memory_bytes;
	char kernel[128];    /* "6.1.0-18-amd64" */
	char disk[128];	     /* model of the disk under test, or its kernel name */
	char filesystem[32]; /* "ext4" */
};

struct results {
	int64_t time_s;	 /* UTC, seconds since 1970 */
	char commit[41]; /* 7 to 40 hex digits */
	bool dirty;	 /* the tree had changes that no commit holds */
	enum results_profile profile;
	struct results_machine machine;
	json_t *versions; /* {"lsvd": "0.1", "fio": "3.33", ...} */
	struct results_figure *figures;
	size_t nfigures, room;
	struct results_curve *curves;
	size_t ncurves;
};

/* An empty set of results of this moment; NULL without memory.  The caller fills the fields above.
 */
struct results *results_new(void);
void results_free(struct results *r);

/* Fills r->machine from /proc and /sys; `path` is a file or directory on the disk under test.
 * What cannot be found out becomes "unknown". */
void results_probe_machine(struct results *r, const char *path);

int results_set_version(
	struct results *r, const char *what, const char *version, struct err *e) MUST_CHECK;

/* Adds a figure; the median and interval are computed here.  Refuses (-EINVAL, with a message)
 * names outside [a-z0-9_.]+, names used already, NaN and infinities, n == 0. `params` is stolen,
 * also on failure; NULL means {}. */
int results_add(struct results *r, const char *name, const char *unit,
	enum results_direction direction, const double *samples, size_t n, json_t *params,
	struct err *e) MUST_CHECK;

/* The same for a name that SCHEMA.md promises: unit, direction and `exact` follow from the name.
 * -EINVAL when the name is none of them. */
int results_add_known(struct results *r, const char *name, const double *samples, size_t n,
	json_t *params, struct err *e) MUST_CHECK;

/* Unit and direction that SCHEMA.md gives to a promised name; false when it is none. */
bool results_known(const char *name, const char **unit, enum results_direction *direction);

/* NULL when there is no such figure.  The figure belongs to `r`, until the next results_add. */
const struct results_figure *results_find(const struct results *r, const char *name);
/* The same, its name put together as vprintf does. */
const struct results_figure *results_vfind(const struct results *r, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/* Adds a curve of n points, which are copied.  Refuses (-EINVAL, with a message) what results_add
 * would, and an x that goes back. `params` is stolen, also on failure; NULL means {}. */
int results_add_curve(struct results *r, const char *name, const char *x_unit, const char *y_unit,
	const double *x, const double *y, size_t n, json_t *params, struct err *e) MUST_CHECK;

/* Takes a curve away, if there is one of that name. */
void results_remove_curve(struct results *r, const char *name);

/* NULL when there is none of that name.  It belongs to `r`, until the next results_add_curve. */
const struct results_curve *results_find_curve(const struct results *r, const char *name);

/* True when params hold "exact": true: a count in virtual time, where any difference is real. */
bool results_exact(const struct results_figure *f);

/* Validates everything and writes DIR/<UTC>-<commit>[-dirty].json, whole or not at all; DIR is made
 * when absent, an existing file of that name refused (-EEXIST).  `path`, when not NULL, gets the
 * file's name. */
int results_write(const struct results *r, const char *dir, char *path, size_t path_size,
	struct err *e) MUST_CHECK;

/* Reads and validates one file; the caller frees *out. */
int results_read(const char *file, struct results **out, struct err *e) MUST_CHECK;

/* mkdir -p.  Returns 0 or -errno. */
int results_make_dirs(const char *dir) MUST_CHECK;

/* "20261122T170000Z-d0a712d-dirty.json" */
void results_file_name(const struct results *r, char *name, size_t size);

const char *results_direction_name(enum results_direction d);
const char *results_profile_name(enum results_profile p);

/* A value as people and scripts read it: "187", "1.8", "0.00021"; no exponent below 1e15, no
 * trailing zeroes, 12 significant digits.  Rotating static buffer (main thread only). */
const char *results_number(double v);

#endif
