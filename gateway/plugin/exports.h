/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exports.h - what the plugin serves: images by name, all of one context (one pool, one read cache).
 *
 * An export is configured (`image=`, `export=`), added at run time over the control socket, or, with
 * `store=`, any image of a store, which it becomes when somebody connects to it.  Its image is
 * opened with its first connection and closed after its last, unless it is kept open.
 *
 *   exports_open(&gw, why);            after the fork: the context and its pool
 *   export_attach(&gw, "vm1", ...);    a connection comes
 *   export_detach(x);                  and goes
 *   exports_close(&gw);                everything that is kept open, then the context
 *
 * Locks: gw->lock guards the list and the counts of users; x->lock guards the image, and is held while it
 * is opened or closed, so that the second connection waits for the first one's opening.  gw->lock
 * is never held across a call of the library that may wait for a store.  All functions: any thread.
 */
#ifndef LSVD_GATEWAY_EXPORTS_H
#define LSVD_GATEWAY_EXPORTS_H

#include "lsvd.h"

#include <pthread.h>

/* How an image is opened. */
struct export_options {
	bool readonly;
	bool keep_open; /* after the last connection */
	bool no_journal, steal;
	/* File, "%n" in it is the export's name, for the first opening; FILE.2, FILE.3 ... for those
	 * after it.  NULL: none.  Interned */
	const char *trace;
	const char *snapshot; /* the image as it was then, read only; NULL.  Interned */
};

struct export {
	struct gateway *gw;
	char *name, *url;
	struct export_options opt;
	bool configured;    /* else it goes with its last user */
	bool removed;	    /* takes no connections any more */
	unsigned users;	    /* connections and calls that hold it; gw->lock */
	struct export *next;

	pthread_mutex_t lock;
	struct lsvd_image *img; /* NULL: not open */
	bool img_readonly;
	unsigned connections;
	unsigned traced; /* openings recorded because of opt.trace */
	char *tracing;	 /* the file being recorded to; NULL: none */
};

struct gateway {
	struct lsvd_config *cfg;
	struct lsvd_ctx *ctx;
	const char *store; /* URL; NULL: only configured exports */
	struct export_options defaults;
	pthread_mutex_t lock;
	struct export *exports, **last;
};

void gateway_init(struct gateway *gw);

/* Configure one.  -EEXIST: there is one of that name; -EINVAL: no such name can be. */
int export_add(struct gateway *gw, const char *name, const char *url,
	const struct export_options *opt, struct export **out, char *why);

/* Close its image, when it is open, and forget it.  -ENOENT; -EBUSY: it has connections; or what the
 * closing says, and then it is gone all the same. */
int export_remove(struct gateway *gw, const char *name, char *why);

/* Hold the export of this name, or (-ENOENT) say what there is.  export_put() what was got. */
int export_get(struct gateway *gw, const char *name, struct export **out, char *why);
void export_put(struct export *x);

/* A connection: opens the image if it is not.  The export is held until export_detach(). */
int export_attach(
	struct gateway *gw, const char *name, bool readonly, struct export **out, char *why);
void export_detach(struct export *x);

/* Open the image now and keep it. */
int export_keep(struct export *x, char *why);

/* Record to `path` (NULL: stop).  The image must be open, else -ENOTCONN. */
int export_trace(struct export *x, const char *path, char *why);

/* The message into why[LSVD_ERR_MAX]; returns rc. */
int export_refuse(char *why, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The first configured one's name, or "". */
const char *exports_default(struct gateway *gw);

/* Calls fn for each configured export and then each other image of the store. */
int exports_list(struct gateway *gw, int (*fn)(void *arg, const char *name, const char *url),
	void *arg, char *why);

int exports_open(struct gateway *gw, char *why);
/* No connection is left. */
void exports_close(struct gateway *gw);

#endif
