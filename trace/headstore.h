/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * headstore.h - a store for volumes that hold nothing but zeroes: of a data object it keeps the
 * header.
 *
 * A filter: what is not a data object goes down as it is.  Reading data gives zeroes, which is what
 * was put, so checksums match.  Data objects are known by their names (IMAGE/EPOCH.SEQ) and by
 * their first piece being a header that decodes.  Owns and closes the inner store.
 */
#ifndef LSVD_TRACE_HEADSTORE_H
#define LSVD_TRACE_HEADSTORE_H

#include "store/store.h"

int headstore_new(struct store *inner, struct store **out) MUST_CHECK;

#endif
