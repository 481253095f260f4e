/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsck.h - checking everything that an image consists of, in its store.
 *
 * Reads only, and beside a writer: what is damaged, missing, of the wrong size or needed by nobody
 * becomes a finding.  The maps are built again from the checkpoints with the codecs alone, so that
 * a bug of the code that opens images is not hidden by itself.  With FSCK_REPAIR the image lock is
 * held all the while, and objects of earlier epochs that nobody needs are deleted; only when no
 * error was found, and nothing else is ever changed.
 *
 * While a writer has the image, the superblock may change during the check.  Then findings are not
 * believed and the check begins again, a few times; `changing` says that it never held still.
 *
 * Memory: the image's maps, as for opening it, and a few MiB.  Blocking: polls the store's loop.
 */
#ifndef LSVD_VOLUME_FSCK_H
#define LSVD_VOLUME_FSCK_H

#include "store/store.h"

enum fsck_flags {
	FSCK_DATA = 1,	 /* read all data and compare every checksum */
	FSCK_REPAIR = 2, /* delete what nobody needs (see above) */
};

/*   FSCK_ERROR    something the image needs is damaged or missing
 *   FSCK_WARNING  the data is whole, but this should not be: leaks, strays, wrong counts
 *   FSCK_NOTE     worth knowing; the next opening sees to it */
enum fsck_severity { FSCK_NOTE, FSCK_WARNING, FSCK_ERROR };

enum fsck_code {
	FSCK_UNCLEAN,	 /* not closed cleanly, or open for writing */
	FSCK_PENDING,	 /* of the last writer, not part of the image yet */
	FSCK_MISSING,	 /* the store does not have it */
	FSCK_UNREADABLE, /* the store fails to read it */
	FSCK_SIZE,	 /* cut off, or too long */
	FSCK_CHECKSUM,	 /* bytes are damaged */
	FSCK_STRUCTURE,	 /* impossible contents */
	FSCK_VERSION,	 /* newer than this build */
	FSCK_EPOCH,	 /* does not agree with the superblock's table of epochs */
	FSCK_TABLE,	 /* an object is not what the object table says */
	FSCK_MAP,	 /* an extent points where no data of it is, or beyond the image */
	FSCK_LIVE,	 /* the recorded count of live sectors is wrong */
	FSCK_ORPHAN,	 /* an object that nobody needs */
	FSCK_STRAY,	 /* not something an image has */
	FSCK_SNAPSHOT,	 /* a snapshot is not what it should be, or not safe */
	FSCK_BASE,	 /* a clone and its base do not know each other */
	FSCK_CODES
};

struct fsck_finding {
	enum fsck_severity severity;
	enum fsck_code code;
	char object[STORE_NAME_MAX]; /* its name in the store */
	uint64_t offset_bytes;	     /* in the object */
	char what[240];
	bool repairable, repaired;
};

enum { FSCK_FINDINGS_MAX = 10000 }; /* kept; the counts go on */

struct fsck_report {
	struct fsck_finding *findings; /* by phase, then in order of object and offset */
	uint32_t n, cap;
	uint64_t left_out;
	uint64_t notes, warnings, errors, repaired;
	bool changing;	   /* the image changed under the check; findings may be false */
	bool kept_orphans; /* FSCK_REPAIR deleted nothing, because there are errors */
	/* facts; zero as far as the superblock or a checkpoint could not be read */
	uint8_t uuid[16];
	uint64_t size_bytes, epoch, checkpoint, object_seq;
	bool clean;
	uint64_t objects, objects_after, checkpoints, extents, stored_bytes, live_bytes;
	uint64_t orphans, orphan_bytes;
	uint64_t checked_bytes; /* read of data and headers, for FSCK_DATA */
};

struct fsck_params {
	struct store *store; /* borrowed */
	const char *name;
	unsigned flags;
	/* Now and then; non-zero ends the check with -ECANCELED.  May be NULL. */
	int (*progress)(void *arg, const char *phase, uint64_t done, uint64_t total);
	void *arg;
};

/* 0: checked, look at the report; -ENOENT no such image, -EBUSY (FSCK_REPAIR) somebody has it,
 * -ECANCELED, -ENOMEM or what the store said.  The report is to be freed in every case. */
int fsck_run(const struct fsck_params *p, struct fsck_report *r, struct err *e) MUST_CHECK;
void fsck_report_fini(struct fsck_report *r);

/* Is there anything that is not as it should be, and was not repaired? */
bool fsck_has_problems(const struct fsck_report *r);

const char *fsck_severity_name(enum fsck_severity s); /* "note", "warning", "error" */
const char *fsck_code_name(enum fsck_code c);	      /* "checksum", ... */

#endif
