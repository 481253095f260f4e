/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cluster.h - a throw-away Ceph cluster (ci/ceph) in the run's directory: one OSD, radosgw.
 *
 * A guardian process takes it down when we say so or end in whatever way, SIGKILL included.  While
 * it is up the environment says where it is ($CEPH_CONF, $AWS_...), for us and our children.
 */
#ifndef CI_RUNNER_CLUSTER_H
#define CI_RUNNER_CLUSTER_H

#include "ci/runner/bench.h"

#include <sys/types.h>

/* NULL when one can be started; else a line about what is missing and the packages to install. */
const char *cluster_missing(void);

/* Nothing happens when it is up already. */
int cluster_start(const struct bench *b, struct err *e) MUST_CHECK;
void cluster_stop(void);

pid_t cluster_osd(void);

struct osd_work {
	uint64_t writes; /* operations of clients that change something */
	double cpu_s;	 /* of the process, user and system */
};

/* What the OSD did since it started. */
int cluster_osd_work(struct osd_work *w, struct err *e) MUST_CHECK;

/* Waits until the OSD has nothing to do any more, 15 s at most. */
void cluster_settle(void);

#endif
