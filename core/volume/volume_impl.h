/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume_impl.h - the volume's inside, shared by its rooms. */
#ifndef LSVD_VOLUME_VOLUME_IMPL_H
#define LSVD_VOLUME_VOLUME_IMPL_H

#include "format/checkpoint.h"
#include "map/objmap.h"
#include "volume/layout.h"
#include "volume/volume.h"

enum { PUTS_MAX = 16, APPLY_SLICE = 128, CRC_SLICE_BYTES = 256 << 10 };

/* Acknowledged records on their way into one object. */
struct batch {
	struct journal_extent *ext;
	uint32_t n, cap;
	uint64_t data_bytes;
	uint64_t covers; /* last record */
	uint64_t first_frame, last_frame;
	uint64_t end_pos; /* of the last data in the log; 0: none */
	bool any_frame;
	uint64_t opened_ns;
	struct batch *next;
};

/* An object being put; they are applied in the order of their sequence numbers (I3, I4). */
struct outgoing {
	struct volume *v;
	struct build b;
	struct store_req req;
	char name[STORE_NAME_MAX];
	struct err err;
	struct loop_timer retry;
	uint32_t tries;
	bool durable, in_store; /* in_store: a request of it is with the store */
	bool flat;		/* of flatten.c, not of garbage collection */
	uint32_t slot;		/* in the object map, once applying began */
	uint32_t applied;	/* extents applied so far */
	/* what it was made of */
	struct journal_hold *holds;
	uint32_t nholds, holds_cap;
	struct iovec probe; /* header read back after a doubtful PUT */
	uint64_t client_bytes;
	uint64_t end_pos;      /* batch.end_pos */
	uint64_t submitted_ns; /* when the PUT was */
	uint64_t born;	  /* GC: for the object table */
	struct outgoing *next;
};

enum build_stage { STAGE_IDLE, STAGE_HOLDING, STAGE_COALESCE, STAGE_LAYOUT, STAGE_CRC, STAGE_WAIT };

/* Looking whether the superblock is still ours; see writer.c. */
struct watch {
	struct loop_timer timer;
	struct store_req req;
	struct iovec iov;
	char name[STORE_NAME_MAX], tag[STORE_TAG_MAX]; /* v->tag when it was asked for */
	uint8_t *buf;				       /* NULL: nothing is watched */
	struct err holder;			       /* who has the lock */
	bool in_store;
};

struct checkpointer;
struct collector;

struct volume {
	struct loop *loop;
	struct store *store;
	struct pool *pool;
	struct cache *cache;
	struct journal *journal;
	struct journal_owner owner;
	struct config cfg;
	char name[80];
	unsigned flags;
	struct superblock *sb;
	char tag[STORE_TAG_MAX];
	bool locked, closing, replaying, idle;
	bool fence;		/* another writer may be at work: change the superblock first */
	uint64_t old_journal;	/* the journal here is of this epoch, not the image's last; 0: it is */
	uint64_t replayed;	/* records that the journal here had for us */
	char taken_from[160];	/* "": nobody had it */
	char lost_to[160];	/* failed with -ESTALE: who has the image now, as far as known */
	struct watch watch;
	int failed;	  /* I13 */
	int store_status; /* what the store said when it last failed; 0: it never did */
	struct err store_why;
	uint64_t store_fails_since_ns; /* 0: the last PUT was taken */
	bool store_complained;	       /* the operator has heard of it */
	int swap_status; /* superblock_swap_wait: 1 while it waits */
	uint64_t epoch;

	struct extmap *map;
	struct objmap *objects;
	uint64_t next_seq, applied_seq;
	uint64_t covers_put, covers_applied; /* journal records: assigned to objects; applied */
	uint64_t acked;			     /* newest record handed over */
	uint64_t last_write_ns;		     /* when that was */
	uint64_t applied_pos; /* data before it in the log is applied; 0: not known yet */

	/* destage.c */
	struct batch *open, *sealed, **sealed_tail, *free_batches;
	uint32_t nsealed;
	struct loop_task step;
	enum build_stage stage;
	struct batch *building;
	struct outgoing *making;
	struct layout layout;
	uint32_t holds_pending;
	int holds_status;
	uint32_t puts_max, puts_in_flight;
	struct loop_timer age_timer, rest_timer;
	uint64_t rest_until_ns; /* calm: the next PUT begins then */
	uint64_t dirty_bytes;
	struct volume_drain *drains;
	uint64_t drain_seq; /* seal up to here without waiting for more */
	bool whole_puts;    /* the store takes an object at once, and cannot be paced within it */
	bool pressed;	    /* the journal was full when objects were on their way */

	/* pace.c */
	struct store_pace pace;
	struct loop_timer pace_timer;
	uint64_t drain_rate, drain_from_ns, drain_bytes; /* what becomes durable, bytes a second */
	uint64_t owed_since_ns; /* PUTs in flight: the last one ended then, or the first began */
	uint64_t put_gap_ns;	/* how long that usually is */

	/* apply.c */
	struct outgoing *out, **out_tail, *free_out;
	struct loop_task apply_task;
	uint64_t new_object_bytes; /* since the last checkpoint */

	/* snapshot.c */
	struct volume_snapshot *snapshots; /* asked for; the oldest first */
	bool apply_held;		   /* the next object waits for a checkpoint */
	bool at_snapshot;		   /* open as it was then */
	uint64_t snapshot_seq;

	struct checkpointer *ckpt;
	struct collector *gc;
	uint32_t gc_lack; /* percent of live data that are missing to gc.start */
	struct volume_stats stats;
};

/* pace.c */
void pace_init(struct volume *v);
void pace_fini(struct volume *v);
/* Is there no hurry?  The journal has much room, what waits is not old, and somebody writes: to the
 * disk, and with the processors, that the store may be made of, too. */
bool pace_calm(const struct volume *v);
void pace_watch(struct volume *v); /* there is something to do: look at it again and again */
void pace_put_begins(struct volume *v); /* before it counts as in flight */
void pace_put_over(struct volume *v, uint64_t bytes);

/* destage.c */
int destage_init(struct volume *v);
void destage_fini(struct volume *v);
void destage_record(struct volume *v, uint64_t seq, const struct journal_extent *ext, uint32_t n);
void destage_kick(struct volume *v);
void destage_press(struct volume *v); /* the journal is full */
/* What was acknowledged so far, and nothing after it, ends with an object. */
void destage_seal(struct volume *v);
bool destage_idle(const struct volume *v);
struct outgoing *outgoing_new(struct volume *v);
void outgoing_recycle(struct volume *v, struct outgoing *o);
/* Give it the next sequence number and put it.  The header is encoded here. */
int outgoing_put(struct volume *v, struct outgoing *o, uint64_t covers) MUST_CHECK;
void destage_check_drains(struct volume *v);

/* apply.c */
void apply_init(struct volume *v);
void apply_kick(struct volume *v);
/* Add the object to the table; its slot. */
int apply_object(struct volume *v, const struct object_header *h, uint32_t *slot) MUST_CHECK;
int apply_extent(
	struct volume *v, uint32_t slot, const struct object_extent *x, bool moved) MUST_CHECK;
/* The last step: it is part of the volume now. */
void apply_done(struct volume *v, uint64_t seq, uint64_t covers);

/* checkpoint.c */
int checkpointer_new(struct volume *v);
void checkpointer_free(struct volume *v);
/* Before the map changes in [lba, lba+len). */
void checkpoint_touch(struct volume *v, uint64_t lba, uint64_t len);
/* The same when nothing is mapped there afterwards. */
void checkpoint_touch_removed(struct volume *v, uint64_t lba, uint64_t len);
void checkpoint_object_added(struct volume *v, uint32_t slot);
/* died: the number of the object that took the last of it */
void checkpoint_object_dead(struct volume *v, uint32_t slot, uint64_t died);
void checkpoint_maybe(struct volume *v);
void checkpoint_start(struct volume *v);
bool checkpoint_busy(const struct volume *v);
/* Try deletes that failed once more; true: it is busy with them. */
bool checkpoint_delete_again(struct volume *v);
/* Recovery: take over what the newest checkpoint says. */
int checkpoint_load(
	struct volume *v, uint64_t *object_seq, uint64_t *covers, struct err *e) MUST_CHECK;
/* Swap the superblock for v->sb, as it is when the swap before it is over; done(v, status).  At
 * most one may be waiting. */
void superblock_swap(struct volume *v, void (*done)(struct volume *v, int status));
int superblock_swap_wait(struct volume *v, struct err *e) MUST_CHECK;
bool checkpoint_knows(const struct volume *v, uint64_t epoch, uint64_t number);

/* snapshot.c */
/* An object was applied: does a snapshot begin here? */
void snapshots_due(struct volume *v);
void snapshots_fail(struct volume *v, int status);

/* load.c */
int load_objects_after(struct volume *v, uint64_t seq, struct err *e) MUST_CHECK;

/* open.c, for bulk.c */
void superblock_init(
	struct superblock *sb, const uint8_t uuid[16], uint64_t size_sectors, uint64_t created_ns);
int superblock_create(
	struct store *s, const char *name, const struct superblock *sb, struct err *e) MUST_CHECK;
int volume_check_size(uint64_t size_sectors, struct err *e) MUST_CHECK;
/* 0: there is no such image; -EEXIST, or why the store cannot tell. */
int volume_check_absent(struct store *s, const char *name, struct err *e) MUST_CHECK;
int volume_lock(struct store *s, const char *name, struct err *e) MUST_CHECK;
void volume_unlock(struct store *s, const char *name);
int volume_remove_objects(struct store *s, const char *name, struct err *e) MUST_CHECK;
/* What a removal, a bulk load or a clone that was cut short left under this name.  -EEXIST: an
 * image. */
int volume_purge(struct store *s, const char *name, struct err *e) MUST_CHECK;

/* writer.c */
int writer_lock(struct volume *v, struct err *e) MUST_CHECK; /* steals when told to */
int writer_check_journal(struct volume *v, struct err *e) MUST_CHECK;
int writer_fence(struct volume *v, struct err *e) MUST_CHECK; /* when there may be another writer */
int writer_check_old_journal(struct volume *v, struct err *e) MUST_CHECK; /* maps are loaded */
int writer_raise_epoch(struct volume *v, struct err *e) MUST_CHECK;
int writer_watch(struct volume *v) MUST_CHECK; /* from now on */
void writer_unwatch(struct volume *v);
/* It failed with -ESTALE: the message; returns that. */
int volume_say_lost(struct volume *v, struct err *e);
void writer_find_thief(struct volume *v); /* it was lost: learn to whom, for the messages */

/* gc.c */
int collector_new(struct volume *v);
int collector_none(struct volume *v); /* never collects (bulk load) */
void collector_free(struct volume *v);
void gc_maybe(struct volume *v);
bool gc_busy(const struct volume *v);
void gc_trim(struct volume *v);		 /* idle: give memory back */
bool gc_reading(const struct volume *v); /* a callback of it is still to come */
void gc_applied(struct volume *v);

/* volume.c */
void volume_fail(struct volume *v, int status);
uint64_t volume_backoff_ns(const struct volume *v, uint32_t tries);
bool volume_worth_retrying(int64_t status);
/* A request failed and will be tried again: count it, and remember why. */
void volume_store_failed(struct volume *v, int64_t status, const struct err *err);
/* It took something: what volume_store_failed told the operator is over. */
void volume_store_works(struct volume *v);
/* The same, of a base image when the number is one of its. */
void volume_object_name_in(const struct superblock *sb, char out[STORE_NAME_MAX], const char *name,
	uint64_t epoch, uint64_t seq);
void volume_ckpt_name_in(const struct superblock *sb, char out[STORE_NAME_MAX], const char *name,
	uint64_t epoch, uint64_t number);
void volume_ckpt_name(char out[STORE_NAME_MAX], const char *name, uint64_t epoch, uint64_t number);

#endif
