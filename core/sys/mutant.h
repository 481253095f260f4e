/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mutant.h - deliberate breaks, to see that the tests notice (core/test/mutants lists them).
 *
 * In a normal build MUTANT(X) is 0 and costs nothing.  A build with -DLSVD_MUTANTS breaks what the
 * environment's LSVD_MUTANT names, and nothing without it.
 */
#ifndef LSVD_SYS_MUTANT_H
#define LSVD_SYS_MUTANT_H

#ifdef LSVD_MUTANTS
#include <stdbool.h>
bool mutant_is(const char *name);
#define MUTANT(name) mutant_is(#name)
#else
#define MUTANT(name) 0
#endif

#endif
