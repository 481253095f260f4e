/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmboot.h - the page of a run of workloads/vmboot: its table and its charts. */
#ifndef LSVD_RESULTS_VMBOOT_H
#define LSVD_RESULTS_VMBOOT_H

#include "results/plot.h"
#include "results/schema.h"

/* Is it a run of workloads/vmboot, and none of `make bench`? */
bool vmboot_is(const struct results *r);

/* The tables as HTML: every cell that was booted; fleets; peers. */
void vmboot_tables(FILE *f, const struct results *r);

/* NULL without memory; may have no points. */
struct plot *vmboot_chart(const struct results *r);
struct plot *vmboot_chart_fleet(const struct results *r);

#endif
