/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_lives.h - one schedule from beginning to end: images live through power-ons, each of which
 * ends with a crash, a clean close, or a lost disk; then nothing may be missing and nothing left
 * over.  Returns when all is well; else prints why and ends the process.
 */
#ifndef LSVD_TEST_SIM_LIVES_H
#define LSVD_TEST_SIM_LIVES_H

#include "test/sim_plan.h"

void sim_run(const struct plan *p);

/* What the run did so far, to be looked at after it ended (the memory may be shared with the
 * process that runs it). */
void sim_set_trail(struct plan_trail *t);

#endif
