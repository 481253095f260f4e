/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_reply.h - what S3 answers: pages of a list, results of a batch of deletes, errors; read by
 * expat, loaded when needed.
 *
 * XML is read as it arrives.  Nothing of it is believed: an unknown element is passed over, but a
 * document type, a size that is no number, a page that says it goes on and not where, or a key
 * that was not asked for makes the whole answer one that is not understood.
 */
#ifndef LSVD_STORE_S3_REPLY_H
#define LSVD_STORE_S3_REPLY_H

#include "store/store.h"

#include <stddef.h>

int s3_reply_load(struct err *e) MUST_CHECK;

enum { S3_TEXT_MAX = 1280, S3_PATH_MAX = 128 };

/* A document that is being read: leaf() hears of the end of each element, by its path. */
struct s3_xml {
	void *parser;
	bool bad;
	bool cut; /* `text` is not all of it */
	char path[S3_PATH_MAX], text[S3_TEXT_MAX];
	size_t path_len, text_len;
	unsigned too_deep;
	void (*leaf)(struct s3_xml *x, const char *path, const char *text);
};

/* ---- ListObjectsV2 ---- */

struct s3_entry {
	char name[STORE_NAME_MAX + 1]; /* without the store's prefix */
	uint64_t size;
};

struct s3_page {
	struct s3_xml xml;
	const char *prefix;	   /* the store's, that is cut off */
	struct s3_entry *entry;	   /* those that are names of objects, in the order they came */
	size_t entries, room;
	bool truncated;
	char token[S3_TEXT_MAX];   /* where the next page begins, when truncated */
	/* private */
	bool whole, told, has_key, has_size, foreign;
	struct s3_entry now;
};

/* `p` zeroed at first; its memory is used again for the next page.  -ENOMEM */
int s3_page_begin(struct s3_page *p, const char *prefix) MUST_CHECK;
bool s3_page_feed(struct s3_page *p, const char *bytes, size_t len);	/* false: it is bad already */
int s3_page_end(struct s3_page *p) MUST_CHECK;				/* -EUCLEAN: not such a page */
void s3_page_free(struct s3_page *p);

/* ---- DeleteObjects ---- */

struct s3_deleted {
	struct s3_xml xml;
	const char *prefix;
	void *arg;
	void (*failed)(struct s3_deleted *d, const char *name, const char *code);
	/* private */
	bool whole;
	char name[STORE_NAME_MAX + 1], code[64];
};

/* `d` zeroed but for prefix, arg and failed. */
int s3_deleted_begin(struct s3_deleted *d) MUST_CHECK;
bool s3_deleted_feed(struct s3_deleted *d, const char *bytes, size_t len);
int s3_deleted_end(struct s3_deleted *d) MUST_CHECK;
void s3_deleted_free(struct s3_deleted *d);

/* ---- errors ---- */

struct s3_fault {
	struct s3_xml xml;
	char code[64], message[160], region[64];
};
/* "" for what is not there, or cannot be read. */
void s3_fault_read(struct s3_fault *f, const char *bytes, size_t len);

/* %XX and '+' as encoding-type=url has them; false: not such text, or too long. */
bool s3_url_decode(const char *in, char *out, size_t room);

#endif
