/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exhaust.h - short scripts, cut everywhere.
 *
 * A script is one to three of the operations below.  It runs once uncut, to count the loop's events
 * from its beginning until some time after its end; then once for every event, and every choice of
 * the writes that were not durable then (all choices of up to EXHAUST_BITS writes; beyond that all,
 * none, and of the newest three each alone, and all but each): the image is opened again, judged,
 * used.  For some of these the opening is cut, too, with all and with none of the undecided writes
 * kept, and done once more.
 */
#ifndef LSVD_TEST_EXHAUST_H
#define LSVD_TEST_EXHAUST_H

#include <stdint.h>

enum { EXHAUST_OPS = 12, EXHAUST_BITS = 3 };

/* Scripts of up to `length` operations; script number n of them has a name. */
uint64_t exhaust_scripts(unsigned length);
void exhaust_name(uint64_t script, char out[64]);

struct exhaust_sum {
	uint64_t scripts, cuts, states, distinct, cut_again, states_again, distinct_again;
};

/* All that is run between these, in any process, shares what it has seen. */
void exhaust_begin(void);
struct exhaust_sum exhaust_end(void);

void exhaust_run(uint64_t script, unsigned config, unsigned nested);

#endif
