/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store.h - an object store: immutable objects by name, and one small swappable object per image.
 *
 * URLs: `file:DIR`, `rados:POOL[/NAMESPACE]`, `s3:BUCKET[/PREFIX]`, `mem:` (or `mem:NAME/`: one named store per process), and filters in front of a URL:
 * `model:CLASS[,lat=20ms][,bw=100M]:URL` and `fault:KEY=VALUE[,...]:URL`.  An image is STORE-URL/NAME;
 * its objects are `NAME/<something without a slash>`.
 *
 * Every operation is asynchronous on one loop: fill a store_req, submit, done() fires once, later, on
 * the loop.  Names and memory stay valid until then.  Reads after a completed write of the same name
 * see it.  Put is all or nothing: a reader never sees part of an object, whatever dies.
 *
 *   STORE_PUT     create `name` with the iov's bytes, durable when done; -EEXIST if it exists (I7)
 *   STORE_GET     read up to len bytes from off into iov; status = bytes read (short at the end);
 *                 -ENOENT.  size_bytes = the object's whole size; tag = its version
 *                 (for SWAP only when the whole object was read); the rest of iov is undefined
 *   STORE_DELETE  durable when done; deleting what is not there is fine (status 0)
 *   STORE_LIST    item(r, name, size) for every object whose name begins with `name`, sorted; item()
 *                 returning non-zero ends the list, and is its status
 *   STORE_SWAP    replace `name` (or create it, when tag is "") if its version is still `tag`; durable
 *                 when done; tag = the new version; -ESTALE when the version differs, -EEXIST when
 *                 creating and it is there already.  For superblocks only: small, any number of times
 *   STORE_LOCK    take the writer lock of image `name` for this store handle; the iov holds a short
 *                 text about the holder; -EBUSY with the present holder's text in err.  A dead
 *                 holder's lock is free (file: kernel lock).  steal: take it from a holder that is
 *                 there; its SWAPs of that image then fail with -ESTALE as far as the store can see
 *                 to it (I11 does not rest on that: the thief changes the superblock, too).
 *                 ask: take nothing; -EBUSY with the text of another holder, and no more, in err; 0
 *                 when there is none
 *   STORE_UNLOCK  give it back; without effect when it was stolen
 *
 * A failed GET or SWAP leaves `tag` as it was.
 * Errors worth retrying: -EIO, -ENOSPC, -ETIMEDOUT, -EAGAIN.  After such an error of a PUT or SWAP the
 * outcome is unknown: it may have been applied, and may still be.
 */
#ifndef LSVD_STORE_STORE_H
#define LSVD_STORE_STORE_H

#include "sys/config.h"
#include "sys/fingerprint.h"
#include "sys/loop.h"

#include <sys/uio.h>

enum store_op {
	STORE_PUT, STORE_GET, STORE_DELETE, STORE_LIST, STORE_SWAP, STORE_LOCK, STORE_UNLOCK, STORE_OPS
};

enum { STORE_NAME_MAX = 200, STORE_TAG_MAX = 80 };

/* How hard big PUTs may press on a disk they share with the journal: all that name one pace have together
 * so many pieces in flight.  The owner may change the first three fields at any time; the store looks at
 * them before every piece.  Stores without pieces ignore it. */
struct store_pace {
	uint32_t piece_bytes;		/* e.g. 512 KiB */
	uint32_t pieces_in_flight;	/* >= 1 */
	bool rests;			/* after a piece, nothing for as long as it took */
	uint32_t in_flight;		/* the store's own, 0 at first, like the rest */
	uint64_t since_ns, rest_until_ns;
};

struct store_req {
	enum store_op op;
	const char *name;
	struct iovec *iov;		/* untouched by the store, but valid until done */
	int iovcnt;
	uint64_t off_bytes, len_bytes;	/* PUT, SWAP: len = sum of iov */
	struct store_pace *pace;	/* PUT, GET; may be NULL */
	bool steal, ask;		/* LOCK */
	void (*done)(struct store_req *r, int64_t status);
	int (*item)(struct store_req *r, const char *name, uint64_t size_bytes);	/* LIST */
	struct err *err;		/* may be NULL; filled on failure */
	uint64_t size_bytes;		/* out: GET */
	char tag[STORE_TAG_MAX];	/* out: GET, SWAP; in: SWAP */
	/* private to the store: the request's own machinery, allocated or pooled by the store */
	void *priv;
	struct store_req *next;
	struct loop_task task;
	struct loop_timer timer;
	int64_t status;
	struct store *store;
};

struct store_counts {
	uint64_t ops[STORE_OPS];	/* completed, by operation */
	uint64_t errors[STORE_OPS];
	uint64_t put_bytes, get_bytes;
};

struct store_ops {
	void (*submit)(struct store *s, struct store_req *r);
	void (*close)(struct store *s);
};

struct store {
	const struct store_ops *ops;
	struct loop *loop;
	struct store_counts counts;
	char url[512];
	char kind[16];			/* "file", "mem", "rados", "s3", "model", "fault" */
	uint32_t put_multiple;		/* large objects whose size is a multiple of this are cheaper; or 0 */
};

enum store_flags { STORE_CREATE = 1 };	/* file: make the directory when it is absent */

/* Open by URL, with the settings that a kind of store has (`rados.*`, `s3.*`); cfg NULL: defaults; it need not
 * outlive the call.  Blocking work is short (a mkdir, an open, a connect with a time limit).  -ENOENT, -EINVAL, -EACCES ... with a message. */
int store_open(struct loop *l, const char *url, const struct config *cfg, unsigned flags, struct store **out,
	struct err *e) MUST_CHECK;

void store_submit(struct store *s, struct store_req *r);

/* Nothing may be in flight. */
void store_close(struct store *s);

/* Split `STORE-URL/NAME`: "file:/srv/vols/vm1" -> "file:/srv/vols" + "vm1"; "mem:vm1" -> "mem:" + "vm1";
 * filters keep their prefix.  A name is 1..64 of [A-Za-z0-9._-], not beginning with a dot. */
int store_split_url(const char *image_url, char *store_url, size_t store_len, char *name, size_t name_len,
	struct err *e) MUST_CHECK;

/* Open the store of an image, with the settings that `cfg` (NULL: defaults) has for the image, and tell
 * the image's name. */
int store_open_image(struct loop *l, struct lsvd_config *cfg, const char *image_url, unsigned flags,
	struct store **out, char *name, size_t name_len, struct err *e) MUST_CHECK;

/* Submit and poll the loop until done (open, create, admin paths; never on the data path). */
int64_t store_wait(struct store *s, struct store_req *r) MUST_CHECK;

/* The filters, for tests and virtual-time replays that build their stack by hand.  A filter owns and
 * closes its inner store. */
struct model_class {
	const char *name;		/* "hdd", "ssd", "s3", "custom" */
	uint64_t get_ns, put_ns, delete_ns, list_ns;
	uint64_t bytes_per_s;		/* of the link, shared; 0 = infinite */
	uint32_t parallel;		/* requests served at once; 0 = any number */
	uint64_t stop_at_ns, stop_for_ns;	/* serves nothing in between, from the opening on; 0: never stops */
};
const struct model_class *store_model_find(const char *name);
int store_model_new(struct store *inner, const struct model_class *m, struct store **out) MUST_CHECK;

struct fault_rules {
	uint64_t seed;			/* 0: the loop's randomness */
	uint64_t delay_min_ns, delay_max_ns;	/* each request waits in between: late, out of order */
	uint32_t fail_ppm[STORE_OPS];	/* fails with -EIO and is not applied */
	uint32_t fail_after_ppm[STORE_OPS];	/* is applied, and fails with -ETIMEDOUT all the same */
	uint32_t short_get_ppm;		/* GET answers fewer bytes: reported as -EIO */
	uint32_t stale_list_ppm;	/* LIST leaves out a name put lately, or still names one deleted */
	bool full;			/* PUT and SWAP: -ENOSPC */
	uint64_t full_after;		/* ... from when this handle put so many bytes; 0: never */
	bool gone;			/* everything: -EIO (a vanished store) */
};
int store_fault_new(struct store *inner, const struct fault_rules *r, struct store **out) MUST_CHECK;
struct fault_rules *store_fault_rules(struct store *fault);	/* change them at run time */

/* A memory store's contents outlive its handles: `mem_objects` is what a crash leaves behind. */
struct mem_objects;
int mem_objects_new(struct mem_objects **out) MUST_CHECK;
void mem_objects_free(struct mem_objects *o);
/* A copy, without the locks.  It shares the objects that are there now: the original must outlive
 * it, and must not change meanwhile. */
int mem_objects_copy(struct mem_objects *o, struct mem_objects **out) MUST_CHECK;
/* Adds names and bytes. */
void mem_objects_fingerprint(struct mem_objects *o, struct fingerprint *d);
int store_mem_on(struct loop *l, struct mem_objects *o, struct store **out) MUST_CHECK;

#endif
