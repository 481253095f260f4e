/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_vol.h - an image's life: made, opened, closed, checked, removed.  Each step is tried again
 * while the store fails, and whatever is wrong afterwards ends the process.
 */
#ifndef LSVD_TEST_SIM_VOL_H
#define LSVD_TEST_SIM_VOL_H

#include "test/sim_workload.h"

/* Make one without contents, or (base) with data and a boot profile. */
void vol_create(struct vol *v, bool base);

/* Open for writing and settle.  Journals that are lost must be asked for, and given up. */
void vol_open(struct vol *v);

/* Close in order; 0 or what it gave.  The oracle knows. */
int vol_close(struct vol *v);

/* Remove it, open or not in the pool; it is gone when this returns. */
void vol_remove(struct vol *v);

/* Open read-only, compare, close. */
void vol_read_only(struct vol *v);

/* What a crash in creating or removing left: make up its mind. */
void vol_resolve(struct vol *v);

/* Closed images: the store holds what they need and not an object more; no journal is left; fsck
 * finds nothing. */
void vols_check_closed(struct world *w, bool all);

/* No error may be found, whatever happened before. */
void vol_fsck(struct vol *v, bool clean);

/* The pool holds no journal. */
void vols_check_pool(struct world *w, const char *when);

/* The store holds nothing of images that are not there. */
void vols_check_names(struct world *w);

/* A clone of v@s begins with what that was. */
void vol_begin_clone(struct vol *c, const struct vol *v, const struct snap *s);
bool vol_has_superblock(struct vol *v);

/* Errors that are worth another try. */
bool vol_transient(int rc);

#endif
