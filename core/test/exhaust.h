/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exhaust.h - short scripts, cut everywhere.
 *
 * A script is one to three of the operations below on an image that has some data.  It runs once;
 * at each event of the loop from the beginning of its last operation until nothing more happens by
 * itself, what a power failure would leave is made beside it (sim_copy.h), for every choice of the
 * writes that are not durable then: all choices of up to `bits` writes; of more, none, all, and of
 * the newest bits each alone, and all but each.  There the image is opened again, judged, used,
 * closed and checked.  At each event of that opening, what a second power failure would leave is
 * made in the same way.
 *
 * Two things are not done twice, and lose nothing:
 * - Cuts before the last operation.  A script begins as the shorter one does, event by event, and
 *   that one was cut there.
 * - A state that was seen.  What becomes of it depends on what is in it alone: bytes on disk,
 *   objects, what the oracle demands; clock and chance begin from those.  States that have one
 *   fingerprint of 128 bits are one.
 */
#ifndef LSVD_TEST_EXHAUST_H
#define LSVD_TEST_EXHAUST_H

#include "sys/fingerprint.h"

#include <stdbool.h>
#include <stdint.h>

enum { EXHAUST_OPS = 12, EXHAUST_CONFIGS = 4 };

/* Scripts of up to `length` operations; script number n of them has a name. */
uint64_t exhaust_scripts(unsigned length);
void exhaust_name(uint64_t script, char out[64]);

/* The configuration that its first operation gives it. */
unsigned exhaust_config(uint64_t script);

/* Each kind: events, states there, and those of them that no process had seen before. */
struct exhaust_sum {
	uint64_t scripts, cuts, states, distinct;
	uint64_t openings, cuts_again, states_again, distinct_again;
};

/* All that is run between these, in any process, shares what it has seen. */
void exhaust_begin(void);
struct exhaust_sum exhaust_end(void);

struct exhaust_how {
	unsigned nested; /* one of so many states that differ is cut again in its opening; 1: all */
	unsigned bits;
	unsigned config;
	bool uncut; /* only run it */
};

/* A state that is wrong ends the process.  Returns what the script itself came to, which looking
 * into its crashes does not change. */
struct fingerprint exhaust_run(uint64_t script, const struct exhaust_how *how);

#endif
