/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fsck_impl.h - one run of the check, shared by fsck.c, fsck_maps.c and fsck_objects.c. */
#ifndef LSVD_VOLUME_FSCK_IMPL_H
#define LSVD_VOLUME_FSCK_IMPL_H

#include "format/checkpoint.h"
#include "format/object.h"
#include "format/superblock.h"
#include "map/extmap.h"
#include "map/objmap.h"
#include "volume/deferred.h"
#include "volume/fsck.h"

enum { FSCK_HEADER_FIRST_BYTES = 64 << 10 };

/* A checkpoint object that the newest one says is needed. */
struct fsck_checkpoint {
	struct checkpoint_live x;
	bool usable; /* its meta could be read, and its payload is all there */
};

/* What is known of an object beside the table.  (The table's own count of live sectors is not used:
 * it asserts what damaged bytes may not keep.) */
struct fsck_known {
	uint64_t number;	 /* of the newest checkpoint that mentions it */
	uint32_t listed_sectors; /* live, as it says */
	uint64_t live_sectors;	 /* that the map points to */
	bool bad;		 /* a finding was made already */
};

/* A name that LIST gave. */
struct fsck_name {
	char name[STORE_NAME_MAX];
	uint64_t size_bytes;
};

/* A data object to look at. */
struct fsck_target {
	uint64_t seq, epoch;
	uint64_t header_bytes, data_bytes;
	uint32_t slot; /* OBJMAP_NONE: the table could not be read */
	bool bad;
};

/* An entry of the directory. */
struct fsck_dir {
	struct checkpoint_dir d;
	uint32_t order; /* in which they were listed */
};

struct fsck {
	const struct fsck_params *p;
	struct fsck_report *r;
	struct superblock *sb;
	char tag[STORE_TAG_MAX]; /* of the superblock */
	bool have_super;
	bool table_ok; /* the object table is what the image has */
	bool map_ok;   /* and so is the map, all of it */
	bool view;     /* a snapshot of the image: fsck_views.c */

	struct extmap *map;
	struct objmap *objects;
	struct deferred def; /* what only snapshots need */
	struct fsck_checkpoint *ckpt;
	uint32_t nckpt;
	struct fsck_dir *dir; /* as they were listed; later what of it counts */
	uint32_t ndirs, dirs_cap;
	struct fsck_known *known; /* by slot */
	uint32_t nknown;
	uint64_t full_number, object_seq, covers;
	uint64_t applied_seq; /* the last object that is part of the image */

	struct fsck_name *names;
	uint32_t nnames, names_cap;
};

/* Note a finding.  `object` may be NULL: the image as a whole. */
void fsck_find(struct fsck *f, enum fsck_severity s, enum fsck_code c, const char *object,
	uint64_t offset_bytes, const char *fmt, ...) PRINTF(6, 7);

/* Note what a codec or the store refused: the code follows from rc.  Returns -ENOMEM for -ENOMEM,
 * else 0: the check goes on. */
int fsck_refused(struct fsck *f, const char *object, uint64_t offset_bytes, int rc,
	const struct err *e) MUST_CHECK;

/* Tell how far we are; -ECANCELED. */
int fsck_progress(struct fsck *f, const char *phase, uint64_t done, uint64_t total) MUST_CHECK;

/* Room for one more element in a growing array. */
int fsck_grow(void *array, uint32_t n, uint32_t *cap, size_t size) MUST_CHECK;

/* GET with a few tries; the status, and the object's whole size. */
int64_t fsck_get(struct fsck *f, const char *name, uint64_t off, void *buf, uint64_t len,
	uint64_t *size_bytes, struct err *e) MUST_CHECK;

/* "E.S" and "ckpt.E.N" without the image's name. */
bool fsck_parse_object(const char *s, uint64_t *epoch, uint64_t *seq);
bool fsck_parse_checkpoint(const char *s, uint64_t *epoch, uint64_t *number);

/* fsck_maps.c.  These return 0, or a -errno that ends the check. */
int fsck_load_checkpoints(struct fsck *f) MUST_CHECK;
int fsck_load_objects_after(struct fsck *f) MUST_CHECK;
bool fsck_has_checkpoint(const struct fsck *f, uint64_t epoch, uint64_t number);

/* fsck_views.c */
int fsck_check_snapshots(struct fsck *f) MUST_CHECK;
int fsck_check_family(struct fsck *f) MUST_CHECK; /* bases and clones */

/* fsck.c */
int fsck_new_maps(struct fsck *f) MUST_CHECK;
void fsck_free(struct fsck *f); /* all but f itself */

/* fsck_objects.c.  Read and check a header: 0, or what is wrong; *buf is to be freed either way. */
int fsck_read_header(struct fsck *f, const char *name, uint64_t epoch, uint64_t seq,
	struct object_header *h, uint8_t **buf, uint64_t *size_bytes, struct err *e) MUST_CHECK;
int fsck_scan_objects(struct fsck *f) MUST_CHECK;

#endif
