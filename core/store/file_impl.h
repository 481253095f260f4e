/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_impl.h - the rooms of the file store: file.c (open, close, dispatch, calls), file_put.c (PUT,
 * DELETE, spares), file_pace.c (whose turn it is), file_get.c (GET, open files); on a helper thread, for they block:
 * file_admin.c (SWAP, LIST, the directories), file_lock.c (LOCK, UNLOCK, the end of an image's directory).
 *
 * Everything is the loop thread's, but for the functions marked "helper thread".
 */
#ifndef LSVD_STORE_FILE_IMPL_H
#define LSVD_STORE_FILE_IMPL_H

#include "store/impl.h"
#include "sys/loop_uring.h"

#include <pthread.h>
#include <sys/stat.h>

enum {
	ROOT_MAX = 440,			/* bytes of the directory's path */
	FILE_PATH_MAX = ROOT_MAX + STORE_NAME_MAX + 64,
	SLICE_IOVS = 128,		/* fragments of one read or write */
	SPARES = 128,			/* deleted files kept to be written again: what goes with one
					 * checkpoint, at least */
	OPEN_FILES = 256,
	SMALL_BYTES = 256 << 10,	/* objects up to here may be swapped: their files are not kept open */
	SPARE_MIN_BYTES = 1 << 20,	/* smaller files are not worth keeping */
	OWN_IOVS = 4,
	PUT_MULTIPLE = 128 << 10,	/* so that most spares need neither be cut nor extended */
};

struct file_store;
struct file_op;

/* One asynchronous system call. */
struct call {
	struct uring_op op;
	void (*then)(struct call *c, int res);
};

/* A place in an iov. */
struct cursor {
	const struct iovec *iov;
	int left;
	size_t off;
};

/* One read or write of a slice of a request's iov. */
struct piece {
	struct call call;
	struct file_op *f;
	uint64_t off_bytes;
	int fd, count;
	struct iovec iov[SLICE_IOVS];
};

struct spare {
	uint64_t id_hi, id_lo;		/* its name: s-HI-LO */
	uint64_t size_bytes;
};

/* An image's directory, and what is on its way to being durable in it: see file_put.c. */
struct file_image {
	struct file_image *next;
	struct file_store *fs;
	unsigned writing;			/* PUTs whose bytes are not all written */
	struct file_op *written;		/* PUTs that wait to be hardened, and how many are */
	unsigned hardening;
	struct file_op *waiting, *serving;	/* for the next directory fsync, and by the one under way */
	struct loop_timer timer;
	struct call call;
	int fd;
	bool busy, due;
	bool prepared;		/* the directories are there, as far as we know */
	int64_t live;		/* objects made less objects deleted by this handle */
	char name[65];
	char path[ROOT_MAX + 80];
};

/* An open file, found by name and by whether it is open for O_DIRECT. */
struct open_file {
	struct open_file *hash_next, *newer, *older;
	struct call call;
	struct file_store *fs;
	struct file_op *waiting;	/* while it is being opened */
	int fd;
	bool direct, ready, dead;	/* dead: not in the table any more; closed with its last reader */
	unsigned readers;
	struct stat st;
	char name[STORE_NAME_MAX + 1];
	char path[FILE_PATH_MAX];
};

/* One request under way. */
struct file_op {
	struct call call;
	struct file_op *next;
	struct store_req *r;
	struct file_store *fs;
	struct file_image *image;
	struct open_file *file;
	struct cursor at;
	void (*work)(struct file_op *f);	/* on the helper thread, sets status */
	void (*after)(struct file_op *f);	/* then on the loop */
	struct loop_task task;
	int64_t status;
	uint64_t moved_bytes, queued_bytes;
	unsigned pieces;
	bool waits_pace;
	struct file_op *paced_next;
	void (*go)(struct file_op *f);		/* when its pace lets it */
	struct piece *parked;			/* GET: its piece, meanwhile */
	int fd;
	uint32_t align;				/* O_DIRECT with this alignment; 0: buffered */
	uint64_t write_bytes;			/* PUT: with what rounds the end up; cut off again */
	struct iovec own[OWN_IOVS];		/* PUT: the request's, its end replaced by ... */
	void *end;				/* ... this aligned block; or NULL */
	bool counted, retried, recycled, removed, created;
	struct spare spare;
	struct statx stx;
	void *found;				/* LIST: what the helper thread collected */
	size_t found_count;
	char path[FILE_PATH_MAX], tmp[FILE_PATH_MAX], from[FILE_PATH_MAX];
};

struct held_lock {
	struct held_lock *next;
	int fd;
	char image[65];
};

struct file_store {
	struct store s;
	char root[ROOT_MAX];
	uint64_t root_ino, root_btime_ns;	/* which directory it was: another one under the same
						 * name (an unmounted disk) is not the store */
	uint64_t id, next_id;			/* of this handle; of its next temporary file */
	uint32_t align;				/* of O_DIRECT: 512, 4096; 0: no O_DIRECT here */
	struct store_pool ops, pieces, files;
	struct file_image *images;
	struct spare spares[SPARES];
	unsigned spare_count, spare_coming;	/* coming: renamed, not yet durably so */
	struct open_file *table[OPEN_FILES];
	struct open_file *newest, *oldest;
	unsigned file_count;
	struct file_op *paced, **paced_end;	/* requests that wait for their pace, in order */
	struct loop_timer pace_timer;		/* the first of them rests */
	/* helper thread */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool thread_runs, thread_stop;
	struct file_op *jobs, **jobs_end;
	struct held_lock *held;			/* helper thread; after it ended, the closer */
};

/* ---- file.c ---- */
void file_call_open(struct file_store *fs, struct call *c, const char *path, int flags);
void file_call_rename(struct file_store *fs, struct call *c, const char *from, const char *to);
void file_call_unlink(struct file_store *fs, struct call *c, const char *path);
void file_call_link(struct file_store *fs, struct call *c, const char *from, const char *to);
void file_call_fsync(struct file_store *fs, struct call *c, int fd, bool data_only);
void file_call_fallocate(struct file_store *fs, struct call *c, int fd, uint64_t off, uint64_t len);
void file_call_truncate(struct file_store *fs, struct call *c, int fd, uint64_t len);
void file_call_writev(struct file_store *fs, struct piece *p);
void file_call_readv(struct file_store *fs, struct piece *p);
void file_call_statx(struct file_store *fs, struct call *c, const char *path, struct statx *stx);

/* Finish the request; with a message when it failed and none is there yet. */
void file_done(struct file_op *f, int64_t status);

/* Run f->work on the helper thread, then f->after on the loop. */
void file_job(struct file_op *f, void (*work)(struct file_op *f), void (*after)(struct file_op *f));

/* Fill p->iov with at most max_bytes from the cursor; returns the bytes. */
uint64_t file_slice(struct cursor *at, struct piece *p, uint64_t max_bytes);
/* A read or write moved n bytes of the piece: go on behind them.  Returns what is left. */
uint64_t file_piece_advance(struct piece *p, uint64_t n);

/* The alignment for O_DIRECT, when this request can use it; else 0. */
uint32_t file_align(const struct file_store *fs, const struct store_req *r);
/* The same but for the length of the last fragment. */
uint32_t file_align_but_end(const struct file_store *fs, const struct store_req *r);
/* A request aligned so was refused with EINVAL: from now on a coarser alignment, then no O_DIRECT.
 * false: it was buffered, alignment is not the reason. */
bool file_coarser(struct file_store *fs, uint32_t align);

/* ROOT/.spare/KIND-HI-LO */
void file_spare_path(const struct file_store *fs, char *path, char kind, uint64_t hi, uint64_t lo);
struct file_image *file_image(struct file_store *fs, const char *object_name);

/* ---- file_pace.c ---- */
/* May one more piece of f move now?  Then it counts until file_pace_leave.  Else f->go(f) is called
 * when it may, unless f has pieces enough under way by itself. */
bool file_pace_enter(struct file_op *f);
void file_pace_leave(struct file_op *f);
void file_pace_wake(struct file_store *fs);	/* after a leave: let others have their turn */
void file_pace_rested(struct loop_timer *t);
uint64_t file_pace_bytes(const struct file_op *f);	/* of a piece */

/* ---- file_put.c ---- */
void file_put(struct file_op *f);
void file_delete(struct file_op *f);
void file_image_due(struct loop_timer *t);	/* some have waited long enough to be durable */

/* ---- file_get.c ---- */
void file_get(struct file_op *f);
/* Forget the open files of this name; true when one is being read right now. */
bool file_forget(struct file_store *fs, const char *name);
void file_forget_all(struct file_store *fs);

/* ---- file_lock.c: helper thread ---- */
void file_work_lock(struct file_op *f);
void file_work_unlock(struct file_op *f);
void file_work_remove_image(struct file_op *f);	/* if no object is left; sets f->removed */
bool file_lock_held(const struct file_op *f);	/* by this handle, as far as it knows */
bool file_lock_stolen(const struct file_op *f);	/* it was held, and somebody took it */
void file_unlock_all(struct file_store *fs);	/* loop thread, when the helper has ended */

/* ---- file_admin.c: helper thread ---- */
int file_check_root(const struct file_store *fs, struct err *e);
void file_work_check_root(struct file_op *f);	/* status: as it was, or -EIO when the store is gone */
void file_work_prepare(struct file_op *f);	/* make the image's directory and the spare one */
int file_prepare(struct file_op *f);
int file_fsync_dir(const char *path);
void file_work_swap(struct file_op *f);
void file_work_list(struct file_op *f);
/* ---- file_admin.c: loop thread ---- */
int file_identify_root(struct file_store *fs, struct err *e) MUST_CHECK;
void file_list_tell(struct file_op *f);		/* item() for all that was found */
void file_spares_adopt(struct file_store *fs);	/* at open: clean up after a process that died */
void file_spares_drop(struct file_store *fs);	/* the disk is full: unlink them.  Blocks a little */
void file_spares_trim(struct file_store *fs);
/* The version of an object: of its bytes (crc) and its inode. */
void file_tag(char *tag, const struct stat *st, uint32_t crc);

#endif
