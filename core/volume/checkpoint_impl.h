/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint_impl.h - the checkpointer's state, for checkpoint.c, tables.c, load.c, load_map.c,
 * snapshot.c and superblock.c. */
#ifndef LSVD_VOLUME_CHECKPOINT_IMPL_H
#define LSVD_VOLUME_CHECKPOINT_IMPL_H

#include "volume/deferred.h"
#include "volume/ranges.h"
#include "volume/volume_impl.h"

enum { CHECKPOINTS_MAX = 1 << 16, DELETES_MAX = 8 };

enum ckpt_state { CKPT_IDLE, CKPT_ENCODING, CKPT_PUTTING, CKPT_SWAPPING, CKPT_DELETING };

struct live_checkpoint {
	struct checkpoint_live x;
	uint64_t live_bytes; /* of its payload: ranges whose latest copy it is */
	bool fold;	     /* its ranges are written again, so that it can go */
};

struct dead_object {
	uint32_t slot;
	uint64_t died; /* the object that took its last sector */
};

struct doomed_req {
	struct checkpointer *c;
	struct object_ref ref;
	struct store_req req;
	bool busy;
};

/* One superblock swap; see superblock.c. */
struct swapper {
	void (*done)(struct volume *v, int status);
	void (*next)(struct volume *v, int status); /* who swaps after this one */
	struct store_req req;
	struct err err;
	struct loop_timer retry;
	struct iovec iov;
	char name[STORE_NAME_MAX];
	uint8_t buf[SUPERBLOCK_BYTES], read[SUPERBLOCK_BYTES];
	size_t len;
	uint32_t tries;
	bool busy, in_store;
};

struct checkpointer {
	struct beginnings *begun; /* load.c's, while it loads */
	struct volume *v;
	enum ckpt_state state;
	bool wanted; /* start one after the object being applied */
	struct ranges ranges;
	uint64_t number, full_number; /* of the newest durable one, and where reading it begins */
	uint64_t last_number;	      /* the highest ever used */
	uint64_t last_bytes;
	uint64_t slice_at[CHECKPOINT_SLICES]; /* the newest that listed each slice */
	struct live_checkpoint *live;	      /* numbers rise */
	uint32_t nlive, live_cap;
	struct deferred def;

	uint64_t *added; /* object seqs since the last checkpoint */
	uint32_t nadded, added_cap;
	struct dead_object *dead; /* nothing of them is live */
	uint32_t ndead, dead_cap;
	uint64_t dead_bytes;

	/* the one being made */
	struct checkpoint_header cur;
	bool complete; /* the next one lists all slices */
	bool release;  /* some of the deferred may not be needed any more */
	uint64_t scan; /* word of `pending` */
	struct checkpoint_object *objects;
	uint32_t nobjects, objects_cap;
	uint64_t *removed;
	uint32_t nremoved, removed_cap;
	struct checkpoint_dir *dirs;
	uint32_t ndirs, dirs_cap;
	struct checkpoint_deferred *deferred;
	uint32_t ndeferred, deferred_cap;
	uint8_t *payload;
	size_t payload_len, payload_cap;
	uint32_t *count; /* for ranges_best_cut */
	void *meta;
	struct loop_task task;
	struct store_req req;
	struct iovec iov[2];
	struct err err;
	struct loop_timer retry;
	uint32_t tries;
	bool in_store;
	char name[STORE_NAME_MAX];

	/* the snapshots there will be with it */
	struct superblock_snapshot *snapshot;
	uint32_t nsnapshots;
	uint64_t next_snapshot;
	struct volume_snapshot *joined; /* requests that it settles */

	struct object_ref *doomed; /* to delete once it is durable */
	uint32_t ndoomed, doomed_cap, deleting;
	struct object_ref *again; /* the store did not delete them */
	uint32_t nagain, again_cap;
	struct doomed_req del[DELETES_MAX];

	struct swapper swap;
};

/* Room for the ranges of so many sectors; never less than before. */
int checkpoint_resize(struct volume *v, uint64_t size_sectors) MUST_CHECK;

/* ---- tables.c: what goes into a checkpoint ---- */

/* Room for one more element in a growing array. */
int tables_room(void *array, uint32_t n, uint32_t *cap, size_t size) MUST_CHECK;
/* Choose slices, take the changes of the tables and begin with the ranges.  -ENOMEM. */
int tables_begin(struct volume *v) MUST_CHECK;
/* Encode what is pending of range r; about how much work it was. */
uint32_t tables_encode_range(struct volume *v, uint64_t r);
/* All ranges are encoded: directory, lists, meta.  -ENOMEM. */
int tables_finish(struct volume *v) MUST_CHECK;
/* It is durable, and named. */
void tables_commit(struct volume *v);
struct live_checkpoint *tables_find_live(struct checkpointer *c, uint64_t number);

/* ---- load.c ---- */

/* Take the maps of a checkpoint into v, which has none yet; number 0: they are empty. */
int load_checkpoint(struct volume *v, uint64_t number, uint64_t epoch, struct checkpoint_header *h,
	struct err *e) MUST_CHECK;

/* [off, off+len) of a checkpoint object, if it was read before. */
bool load_known(const struct volume *v, const char *name, uint64_t off, void *buf, size_t len);

/* The error of reading so many bytes there: there were `got`, or it is a status. */
int load_short(const char *name, uint64_t off, size_t len, int64_t got, struct err *e);

/* The header of the checkpoint that a superblock names, verified; number 0: all zero. */
int load_header(struct store *s, const char *name, const struct superblock *sb,
	struct checkpoint_header *h, struct err *e) MUST_CHECK;

/* ---- load_map.c ---- */

/* Read what the directory names into the map and count what is live of each object in the table.
 * Blocking. */
int load_map(struct volume *v, struct err *e) MUST_CHECK;

/* ---- snapshot.c ---- */

/* A checkpoint begins: which requests does it settle, and what snapshots are there then? */
void snapshots_join(struct volume *v);
/* It is durable, and v->sb names it (0), or never will be. */
void snapshots_settle(struct volume *v, int status);

#endif
