/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json.h - struct results <-> the JSON of SCHEMA.md.  Used by schema.c only; callers use schema.h.
 */
#ifndef LSVD_RESULTS_JSON_H
#define LSVD_RESULTS_JSON_H

#include "results/schema.h"

/* NULL without memory or when a string is not UTF-8. */
json_t *results_encode(const struct results *r);

/* The JSON value of one figure; NULL as above. */
json_t *results_encode_figure(const struct results_figure *f);

/* Every check of SCHEMA.md.  `file` only names the source in messages. */
int results_decode(json_t *root, const char *file, struct results **out, struct err *e) MUST_CHECK;

/* What is wrong with the points of a curve, or NULL. */
const char *results_curve_fault(const double *x, const double *y, size_t n);
void results_free_curves(struct results *r);

/* The grammars, shared by results_add and the reader. */
bool results_name_ok(const char *name);
bool results_unit_ok(const char *unit);

/* Drops what a file cannot hold: integers stay, others are rounded to 12 significant digits. */
double results_round(double v);

#endif
