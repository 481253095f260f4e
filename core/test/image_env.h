/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image_env.h - images on real files for tests: a pool, a store, a context, and a model of what an
 * image must read.
 *
 *   struct image_env *e = ie_new("name");
 *   ie_open(e, LSVD_DRIVE_INLINE);          creates the image with the first call
 *   ... model_write(e, lba, sectors) ... model_check_all(e) ...
 *   ie_close(e);                            image and context; ie_open again, or
 *   ie_free(e);
 *
 * Each sector holds its LBA and the number of the write that put it there, so that any wrong
 * byte, and any older one, is noticed.  Failures fail the running test with the library's message.
 */
#ifndef LSVD_TEST_IMAGE_ENV_H
#define LSVD_TEST_IMAGE_ENV_H

#include "image/image_impl.h"

#include <sys/types.h>

struct image_env {
	char dir[128];	 /* of this test */
	char root[160];	 /* of the store: DIR/store */
	char pool[192];	 /* URL */
	char store[256]; /* URL; filters may be put in front before the first ie_open */
	char url[320];	 /* of the image */
	uint64_t size_bytes;
	struct lsvd_config *cfg;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	char why[LSVD_ERR_MAX];
	uint32_t *version; /* of each sector; 0: zeroes */
	uint32_t last_version;
};

/* A folder, a configuration (pool of 16 MiB in segments of 512 KiB, objects of 256 KiB), a model of
 * 32 MiB. */
struct image_env *ie_new(const char *name);
void ie_free(struct image_env *e); /* closes what is open */

void ie_set(struct image_env *e, const char *key, const char *value);

/* Change the store's URL, and with it the image's. */
void ie_store(struct image_env *e, const char *store_url);

void ie_ctx(struct image_env *e, enum lsvd_drive drive);
void ie_create(struct image_env *e); /* needs a context */
void ie_image(struct image_env *e, unsigned flags);
void ie_open(struct image_env *e, enum lsvd_drive drive); /* all three; creates when absent */
void ie_close_image(struct image_env *e);
void ie_close(struct image_env *e);

/* rc must be 0; else the message is shown. */
void ie_ok(struct image_env *e, int rc, const char *what);
#define IE_OK(e, call) ie_ok(e, call, #call)

/* rc must be `want`, and the message must have `text` in it. */
void ie_says(struct image_env *e, int rc, int want, const char *text, const char *what);
#define IE_SAYS(e, call, want, text) ie_says(e, call, want, text, #call)

/* ---- the model ---- */

void model_fill(void *buf, uint64_t lba, uint64_t sectors, uint32_t version);

/* Does the sector hold this version of itself? */
bool model_is(const void *sector, uint64_t lba, uint32_t version);

/* The version that a sector claims to hold: 0 zeroes, UINT32_MAX neither. */
uint32_t model_version(const void *sector, uint64_t lba);

void model_note(struct image_env *e, uint64_t lba, uint64_t sectors, uint32_t version);
void model_compare(struct image_env *e, const void *buf, uint64_t lba, uint64_t sectors);

/* Blocking: write through the image and note it; read and compare. */
void model_write(struct image_env *e, uint64_t lba, uint64_t sectors);
void model_check(struct image_env *e, uint64_t lba, uint64_t sectors);
void model_check_all(struct image_env *e);

/* `n` random requests of all kinds, up to 16 at a time, checked against the model; everything is
 * complete at the end. */
void model_churn(struct image_env *e, unsigned n);

/* ---- other processes, files ---- */

/* Run fn in a child; it may not return.  ie_wait: its exit status, or 128 + signal. */
pid_t ie_fork(struct image_env *e, void (*fn)(struct image_env *e, int fd), int *fd);
int ie_wait(pid_t pid);

/* Wait (10 s at most) until fn says so. */
bool ie_until(bool (*fn)(void *arg), void *arg);

unsigned ie_files(const char *dir); /* in it and below, dot files and directories too */
const char *ie_object(struct image_env *e, const char *prefix, char path[512]); /* the first */

/* Sum of all statistics, now. */
struct lsvd_stats ie_stats(struct image_env *e);

/* Change the rules of the image's fault: store, safely. */
void ie_fault(struct image_env *e, bool full, bool gone);

#endif
