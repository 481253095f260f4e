/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dump.h - printing structures, for the rooms of `lsvd dump`: dump.c (options, what a file is),
 * dump_out.c (text and JSON), dump_objects.c (what is in a store), dump_pool.c (pools).
 *
 * Every structure is one JSON object; text is made from the same.  A structure that is damaged is
 * printed as far as it goes, with what is wrong in "problems": a checksum that does not match is
 * noted and then made to match, so that the codecs show what the bytes say all the same.
 */
#ifndef LSVD_CLI_DUMP_H
#define LSVD_CLI_DUMP_H

#include "sys/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct dump {
	FILE *out;
	bool json;
	bool all;		       /* print lists too: extents, checksums, entries */
	bool records;		       /* of a pool: journal records */
	uint64_t structures, problems; /* counted */
};

/* Where bytes come from: a file, or an object in a store. */
struct dump_source {
	const char *name;
	uint64_t size_bytes;
	/* Bytes read (fewer at the end), or -errno. */
	int64_t (*read)(struct dump_source *s, uint64_t off, void *buf, uint64_t len);
	void *arg;
};

/* What the structure should be; a field counts when its flag is set. */
struct dump_identity {
	bool has_uuid, has_name;
	uint8_t uuid[16];
	uint64_t epoch, number; /* as in its name */
};

/* ---- dump_out.c ---- */

json_t *dump_new(const char *structure, const char *where);
void dump_int(json_t *x, const char *key, uint64_t value);
void dump_text(json_t *x, const char *key, const char *value);
void dump_uuid(json_t *x, const char *key, const uint8_t uuid[16]);
void dump_time(json_t *x, const char *key, uint64_t wall_ns);
void dump_problem(struct dump *d, json_t *x, const char *fmt, ...) PRINTF(3, 4);
void dump_err(struct dump *d, json_t *x, int rc, const struct err *e);
/* Print, and forget, one structure: several lines of text, or (row) one. */
void dump_emit(struct dump *d, json_t *x);
void dump_emit_row(struct dump *d, json_t *x);

/* If the CRC at crc_at of buf[len] does not match: a problem of x, and now it does match. */
void dump_reseal(struct dump *d, json_t *x, void *buf, uint64_t len, uint64_t crc_at);

/* ---- dump_objects.c.  `id` may be NULL. ---- */

void dump_super(struct dump *d, struct dump_source *s);
void dump_object(struct dump *d, struct dump_source *s, const struct dump_identity *id);
void dump_checkpoint(struct dump *d, struct dump_source *s, const struct dump_identity *id);
void dump_profile(struct dump *d, struct dump_source *s);
void dump_clones(struct dump *d, struct dump_source *s);

/* ---- dump_pool.c ---- */
void dump_pool(struct dump *d, struct dump_source *s);

/* Recognise a source by its magic and print it; `as` (or NULL) says what it is.  -EINVAL: `as` is
 * no kind; -EUCLEAN: not recognised. */
int dump_any(struct dump *d, struct dump_source *s, const char *as, struct err *e) MUST_CHECK;

#endif
