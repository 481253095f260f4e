/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * export.h - a run in the formats of services that follow benchmarks.
 *
 *   github-action-benchmark   an array of {name, unit, value, range, extra}, for its tools
 *                             customBiggerIsBetter and customSmallerIsBetter: one direction a file
 *   bencher                   Bencher Metric Format: {figure: {unit: {value, lower_value,
 *                             upper_value}}}, for `bencher run --adapter json`
 */
#ifndef LSVD_RESULTS_EXPORT_H
#define LSVD_RESULTS_EXPORT_H

#include "results/schema.h"

/* The figures of which `better` is the better direction; NULL without memory. */
json_t *export_github(const struct results *r, enum results_direction better);

/* All figures but those without a direction.  The measure is the unit, in the letters of a slug:
 * "MiB/s" is "mib-s".  NULL without memory. */
json_t *export_bencher(const struct results *r);

#endif
