/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * synth.h - a store of images whose data is made up: it keeps headers, and makes the data when it
 * is read.
 *
 * What a prediction needs of an image is where things lie, not what they are.  The contents of a
 * sector follow from its LBA (synth_fill), so an object needs no more room than its header, an
 * image of any size can be laid out in memory, and every read can be checked.
 *
 * While it is open for building, data objects put into it (their data must be what synth_fill
 * makes) are kept as headers; all else, and everything after synth_seal(), is kept as it is.  The
 * struct synth outlives its handles; seal it, then put an overlay (store/overlay.h) on each handle.
 */
#ifndef LSVD_REORG_SYNTH_H
#define LSVD_REORG_SYNTH_H

#include "store/store.h"

#include <stddef.h>

struct synth;

int synth_new(struct synth **out) MUST_CHECK;
void synth_seal(struct synth *s);
void synth_free(struct synth *s); /* no handle may be open */

int synth_store_on(struct loop *l, struct synth *s, struct store **out) MUST_CHECK;

/* The contents of sectors from lba on. */
void synth_fill(void *buf, uint64_t lba, uint64_t sectors);

/* Does buf hold sector `lba`?  (What is not mapped reads as zeroes.) */
bool synth_is(const void *buf, uint64_t lba);

#endif
