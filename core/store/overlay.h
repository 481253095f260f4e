/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * overlay.h - a store in memory over another one that it only reads: what is written to it, deleted
 * from it or swapped in it stays in memory and is forgotten at close.
 *
 * It lives on the caller's loop, usually a simulated one, while the store below lives on a loop of
 * its own and is read by blocking: in virtual time that takes no time, so that a real image can be
 * opened, written and replayed against under a store model, as often as wanted, and stays as it is.
 * Locks are taken in the store below: nobody changes the image meanwhile.
 */
#ifndef LSVD_STORE_OVERLAY_H
#define LSVD_STORE_OVERLAY_H

#include "store/store.h"

/* Takes `lower` over (it is closed with the overlay, its loop is not).  -ENOMEM. */
int store_overlay_new(struct loop *l, struct store *lower, struct store **out) MUST_CHECK;

/* The same behind a model, SPEC as in `model:SPEC:URL` ("s3", "custom,lat=20ms"); NULL: no model.
 */
int store_overlay_model(struct loop *l, struct store *lower, const char *spec, struct store **out,
	struct err *e) MUST_CHECK;

#endif
