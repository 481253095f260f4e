/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * translate.h - a boot of one build of an image, as it would be on another build.
 *
 * A base image that is built again, with a few packages changed, holds nearly the same blocks in
 * other places.  Each 4 KiB block that the boot read is looked up in the new image by what it
 * holds; where several places hold it, the one that goes on where the block before it went, else
 * the same place, else the nearest.  A block that is not there any more stays where it was when the
 * new image has anything there (file system metadata is changed in place), else it is left out; so
 * are all requests but reads, for where they went nothing is known.
 *
 * Blocking; one thread.  Memory: 16 bytes per block of the new image.
 */
#ifndef LSVD_REORG_TRANSLATE_H
#define LSVD_REORG_TRANSLATE_H

#include "reorg/build.h"
#include "trace/load.h"

/* Blocks that the boot read; they add up to `blocks`. */
struct translate_counts {
	uint64_t blocks, same, moved, changed, lost; /* changed: stay where they were */
};

/* What the new image holds where; translates any number of traces. */
struct translator;
int translator_new(struct session_image *new_build, const struct reorg_watch *w,
	struct translator **out, struct err *e) MUST_CHECK;
void translator_free(struct translator *t); /* t may be NULL */

/* Replaces the records of `trace`, a boot of `old_build`; adds to *counts.  -ERANGE: it reads
 * beyond that image's end. */
int translate(struct translator *t, struct session_image *old_build, struct trace *trace,
	struct translate_counts *counts, struct err *e) MUST_CHECK;

#endif
