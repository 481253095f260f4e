/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_lives.h - one seed from beginning to end: an image lives through power-ons, each of which
 * ends with a crash, a clean close, or a lost disk; then nothing may be missing and nothing left
 * over.  Returns when all is well; else prints why and ends the process.
 */
#ifndef LSVD_TEST_SIM_LIVES_H
#define LSVD_TEST_SIM_LIVES_H

#include <stdint.h>

void sim_run_seed(uint64_t seed);

/* The same, but the first life is cut after `first` events, and the next after `second` (0: not).
 */
void sim_run_cut(uint64_t seed, uint64_t first, uint64_t second);

#endif
