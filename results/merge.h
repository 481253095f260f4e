/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * merge.h - several runs of one commit as one: the rounds of each figure one after another.
 *
 * So a benchmark of two sides can be run in turns, a round each, and still give one result file for
 * either, with the rounds in the order they were measured in: sample i of one belongs to sample i
 * of the other.
 */
#ifndef LSVD_RESULTS_MERGE_H
#define LSVD_RESULTS_MERGE_H

#include "results/schema.h"

/* Appends the samples of `from` to those of `to`, whose time stays.  Both must be of one commit,
 * profile, machine and set of versions, and hold the same figures with the same unit, direction and
 * parameters: -EINVAL, with a message that names the first difference; `what` names `from` in it.
 * Of curves of one name that of `from`, the later round, stays.  On an error `to` is unchanged; -ENOMEM
 * excepted, after which it can only be freed. */
int results_merge(
	struct results *to, const struct results *from, const char *what, struct err *e) MUST_CHECK;

/* Each figure's samples become one, their median: what a process measured is one sample when
 * processes are compared, for what a process has by chance (addresses, its pages) is in all of it.
 */
void results_collapse(struct results *r);

#endif
