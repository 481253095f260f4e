/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * session.h - images opened to be read whole: a loop of its own, no read cache, nothing that runs
 * ahead; and reading many pieces of them at once.
 *
 * A pool is only opened when the image's newest data is in its journal.  Blocking; one thread.
 */
#ifndef LSVD_REORG_SESSION_H
#define LSVD_REORG_SESSION_H

#include "lsvd.h"
#include "reorg/extents.h"
#include "store/store.h"

struct session {
	struct loop *loop;
	struct lsvd_config *cfg; /* borrowed */
	struct lsvd_ctx *ctx;
};

struct session_image {
	struct session *s;
	struct store *store;
	struct lsvd_image *img;
	char name[65];
	uint64_t size_sectors, object_bytes, created_ns;
	uint8_t uuid[16];
	uint8_t state[16]; /* digest of what names its contents: uuid, epoch, checkpoint */
};

/* `cfg`: what the user configured; copied as far as it is needed.  `image`: the one that may need
 * the pool. */
int session_open(
	struct session *s, struct lsvd_config *cfg, const char *image, struct err *e) MUST_CHECK;
void session_close(struct session *s); /* images first */

int session_open_image(
	struct session *s, const char *url, struct session_image *out, struct err *e) MUST_CHECK;
void session_close_image(struct session_image *i);

/* What it maps. */
int session_extents(struct session_image *i, struct extents *x, struct err *e) MUST_CHECK;

/* One read in flight. */
struct session_read {
	struct lsvd_io io;
	struct iovec iov;
	bool done;
};

/* -errno: done will not be set. */
int session_submit(struct session_image *i, struct session_read *r, uint64_t lba, uint64_t sectors,
	void *buf) MUST_CHECK;

/* Polls until it is done; its status. */
int session_wait(struct session *s, struct session_read *r);

#endif
