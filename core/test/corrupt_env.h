/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * corrupt_env.h - whole images with one thing wrong: opened, read, and compared with what they
 * held.
 *
 * A `victim` is an image "v" in a memory store beside its twin "w" (another volume, the same story)
 * and a pool in memory, frozen at one moment.  Each trial works on a copy: the pool's bytes are
 * copied, the store gets an overlay, and one `damage` is done to what is read.
 *
 * Every sector holds its address and the number of the write that put it there, so a trial can tell
 * a right sector from an old, a foreign or a broken one.
 */
#ifndef LSVD_TEST_CORRUPT_ENV_H
#define LSVD_TEST_CORRUPT_ENV_H

#include "image/context.h"
#include "test/test.h"

enum { CV_SECTORS = 2048, CV_SEGMENT = 256 << 10, CV_POOL = 20 * CV_SEGMENT, CV_STATES_MAX = 400 };

enum damage_kind { DAMAGE_NONE, DAMAGE_FLIP, DAMAGE_CUT, DAMAGE_LONGER, DAMAGE_OTHER, DAMAGE_GONE };

struct damage {
	enum damage_kind kind;
	const char *object; /* in the store; NULL: in the pool */
	const char *other;  /* DAMAGE_OTHER: comes in its place */
	uint64_t at;	    /* FLIP, CUT: byte */
	uint8_t xor ;	    /* FLIP */
	unsigned leg;
	uint64_t from; /* OTHER in the pool: this block comes in place of the one at `at` */
};

struct cv_segment {
	uint8_t role;
	bool ours; /* journal: of "v" */
};

struct victim {
	struct mem_objects *objects;
	uint8_t *pool[2]; /* CV_POOL bytes; [1] NULL with one leg */
	struct leg *leg;  /* two: what trials work on */
	uint8_t uuid[16];
	struct cv_segment segment[CV_POOL / CV_SEGMENT];
	uint64_t first_bytes; /* of segment 0 */
	uint32_t segments;
	/* what it may hold: after this many writes */
	uint32_t *state[CV_STATES_MAX];
	uint32_t writes, flushed;
	uint32_t kept;	       /* by the snapshot "v@kept" */
	uint8_t *image;	       /* its bytes, undamaged */
	uint8_t *kept_image;   /* the snapshot's */
	uint8_t *stored_image; /* as it is in its store, without the journal */
	char *names;	       /* of its objects: "NAME:SIZE " each */
};

/* clean: closed; else the process died with records in the journal.  warm: read through the cache.
 */
struct victim *victim_new(bool clean, unsigned legs, uint64_t seed);
void victim_free(struct victim *v);

/* What came of it: open failed, some reads failed, or all is there. */
enum outcome { REFUSED, PARTLY, WHOLE };

enum trial_flags {
	TRIAL_READONLY = 1, /* from the store alone */
	TRIAL_EXACT = 2,    /* no state but the last */
	TRIAL_PREFIX =
		4, /* any state (I6: the volume ends where an object, or a part of the log, is missing) */
};

/* Fails the test when a sector reads wrong, or anything else is not an answer. */
enum outcome trial(struct victim *v, const struct damage *d, unsigned flags);

/* Counts of all trials so far, by outcome. */
extern uint64_t trials[3];

/* The n-th object whose name begins so; false: no more.  */
bool victim_object(const struct victim *v, const char *prefix, unsigned n, char *name, size_t *len);
size_t victim_get(struct victim *v, const char *name, uint8_t *buf, size_t room);

#endif
