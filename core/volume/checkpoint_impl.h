/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* checkpoint_impl.h - the checkpointer's state, for checkpoint.c, load.c and superblock.c. */
#ifndef LSVD_VOLUME_CHECKPOINT_IMPL_H
#define LSVD_VOLUME_CHECKPOINT_IMPL_H

#include "volume/volume_impl.h"

enum { CHECKPOINTS_MAX = 512, DELETES_MAX = 8 };

enum ckpt_state { CKPT_IDLE, CKPT_ENCODING, CKPT_PUTTING, CKPT_SWAPPING, CKPT_DELETING };

struct live_checkpoint {
	struct checkpoint_live x;
	uint64_t live_bytes; /* of its payload: ranges whose latest copy it is */
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
	struct volume *v;
	enum ckpt_state state;
	uint64_t range_sectors, nranges, ranges_max; /* nranges never shrinks */
	bool wanted;				     /* start one after the object being applied */
	uint64_t *dirty, *pending; /* bitmaps by range */
	uint64_t npending, scan;   /* scan: word of `pending` */
	struct range_dir *dir;
	uint64_t number,
		full_number;  /* of the newest durable one, and of the full one it builds on */
	uint64_t last_number; /* the highest ever used */
	uint64_t last_bytes;
	struct live_checkpoint live[CHECKPOINTS_MAX];
	uint32_t nlive;

	uint64_t *added; /* object seqs since the last checkpoint */
	uint32_t nadded, added_cap;
	uint32_t *dead; /* slots with nothing live */
	uint32_t ndead, dead_cap;
	uint64_t dead_bytes;

	/* the one being made */
	struct checkpoint_header cur;
	bool full;
	struct checkpoint_object *objects;
	uint32_t nobjects, objects_cap;
	uint64_t *removed;
	uint32_t nremoved, removed_cap;
	struct checkpoint_dir *dirs;
	uint32_t ndirs, dirs_cap;
	uint8_t *payload;
	size_t payload_len, payload_cap;
	void *meta;
	struct loop_task task;
	struct store_req req;
	struct iovec iov[2];
	struct err err;
	struct loop_timer retry;
	uint32_t tries;
	bool in_store;
	char name[STORE_NAME_MAX];

	struct object_ref *doomed; /* to delete once it is durable */
	uint32_t ndoomed, doomed_cap, deleting;
	struct object_ref *again; /* the store did not delete them */
	uint32_t nagain, again_cap;
	struct doomed_req del[DELETES_MAX];

	struct swapper swap;
};

/* Room for the ranges of so many sectors; never less than before. */
int checkpoint_resize(struct volume *v, uint64_t size_sectors) MUST_CHECK;

#endif
