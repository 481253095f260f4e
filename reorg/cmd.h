/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd.h - `lsvd reorg`: its arguments; cmd.c builds and verifies, cmd_plan.c predicts. */
#ifndef LSVD_REORG_CMD_H
#define LSVD_REORG_CMD_H

#include "cli/open.h"
#include "reorg/extents.h"
#include "reorg/predict.h"
#include "trace/load.h"

enum { REORG_TRACES_MAX = 64, REORG_LATENCIES_MAX = 16 };

struct reorg_args {
	struct cli_open open;
	const char *image[2]; /* BASE, NEW */
	unsigned images;
	const char *trace[REORG_TRACES_MAX], *eval[REORG_TRACES_MAX];
	unsigned traces, evals;
	const char *extents; /* instead of BASE */
	enum plan_order order;
	const char *recorded_on; /* the image that the traces are of; NULL: BASE */
	bool plan, verify, unproved, real_time;
	struct model_class model;
	uint64_t latency_ns[REORG_LATENCIES_MAX];
	unsigned latencies;
	double speed;
	uint64_t bandwidth, chunk_bytes, readahead_bytes;
	unsigned clones;
	unsigned variants; /* bit set of enum predict_variant; 0 = all */
};

/* The traces in memory, and as the planner takes them. */
struct reorg_traces {
	struct trace t[REORG_TRACES_MAX];
	struct plan_trace p[REORG_TRACES_MAX];
	unsigned n;
};

/* CLI_OK, or CLI_FAILED after a message. */
int reorg_load(const char *const *paths, unsigned n, struct reorg_traces *out);
void reorg_unload(struct reorg_traces *t);

int reorg_predict(const struct reorg_args *a, const struct reorg_traces *traces,
	const struct plan *plan, const struct extents *x);

/* What the plan came to, for JSON and for people. */
json_t *reorg_plan_json(const struct plan *p, unsigned boots);
void reorg_plan_print(const struct plan *p, unsigned boots);

#endif
