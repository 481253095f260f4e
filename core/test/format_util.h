/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * format_util.h - random but valid contents of every structure on disk, for tests and fuzzers.
 *
 * A `sample` is one structure in memory, its bytes, and how to decode them.  sample_make() fills it
 * from a seed; the same seed gives the same bytes on every machine (golden files).
 */
#ifndef LSVD_TEST_FORMAT_UTIL_H
#define LSVD_TEST_FORMAT_UTIL_H

#include "format/checkpoint.h"
#include "format/clones.h"
#include "format/object.h"
#include "format/record.h"
#include "format/segment.h"
#include "format/superblock.h"

enum sample_kind {
	SAMPLE_POOL,
	SAMPLE_SEGMENT,
	SAMPLE_RECORD,
	SAMPLE_OBJECT,
	SAMPLE_OBJECT_GC,
	SAMPLE_SUPERBLOCK,
	SAMPLE_CHECKPOINT,
	SAMPLE_CLONES,
	SAMPLES
};

struct sample {
	enum sample_kind kind;
	union {
		struct pool_header pool;
		struct segment_header segment;
		struct record_header record;
		struct object_header object;
		struct superblock *superblock;
		struct clones *clones;
		struct checkpoint_header checkpoint;
	};
	struct record_extent *rext;
	struct object_extent *oext;
	uint32_t *crc;
	struct checkpoint_live *live;
	struct checkpoint_object *objects;
	uint64_t *removed;
	struct checkpoint_dir *dirs;
	struct checkpoint_deferred *deferred;
	struct checkpoint_kept *kept;
	uint8_t *bytes;
	size_t len;
};

const char *sample_name(enum sample_kind kind);
/* Where the CRC is, and whether the structure is one whole block whatever its contents. */
size_t sample_crc_at(enum sample_kind kind);
bool sample_is_block(enum sample_kind kind);

void sample_make(struct sample *s, enum sample_kind kind, uint64_t seed);
/* The same of an older version, in its bytes; sample_versions() is the newest. */
void sample_make_version(
	struct sample *s, enum sample_kind kind, uint64_t seed, unsigned version);
unsigned sample_versions(enum sample_kind kind);
void sample_free(struct sample *s);

/* Decode bytes[len] as what `s` is, where `s` belongs. */
int sample_decode(const struct sample *s, const uint8_t *bytes, size_t len, struct err *e);

/* Decode bytes[len] as a `kind` that is where it says it is, and encode what it says again.  The
 * decoder's error; or 0 and *again (malloc'ed, *again_len bytes). */
int sample_reencode(enum sample_kind kind, const uint8_t *bytes, size_t len, uint8_t **again,
	size_t *again_len);

/* For a fuzzer: the bytes as they are, and with magic, version and checksum put right, must be
 * refused or encode to the same bytes again. */
void sample_fuzz(enum sample_kind kind, const uint8_t *data, size_t len);

#endif
