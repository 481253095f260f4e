/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/clones.h"

#include "format/block.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { VERSION = 1, CRC_AT = 12 };

static const char magic[8] = "LSVDclns";

size_t clones_encode(const struct clones *c, void *buf)
{
	size_t len = CLONES_FIXED_BYTES + (size_t)c->n * CLONES_ENTRY_BYTES;
	struct writer w = writer_of(buf, len);

	assert(c->n <= CLONES_MAX);
	put_bytes(&w, magic, 8);
	put_u16(&w, VERSION);
	put_u16(&w, 0);
	put_u32(&w, 0); /* CRC */
	put_bytes(&w, c->uuid, 16);
	put_u32(&w, c->n);
	put_zeroes(&w, 28);
	for (uint32_t i = 0; i < c->n; i++) {
		const struct clone_entry *x = &c->entry[i];

		put_bytes(&w, x->uuid, 16);
		put_u64(&w, x->snapshot);
		put_u32(&w, x->state);
		put_zeroes(&w, 4);
		put_bytes(&w, x->name, SUPERBLOCK_IMAGE_NAME_MAX);
	}
	assert(!w.bad && w.p == w.end);
	block_seal(buf, len, CRC_AT);
	return len;
}

static bool possible(const struct clone_entry *x)
{
	size_t n = strnlen(x->name, sizeof(x->name));

	return x->state < CLONE_STATES && n < sizeof(x->name) && (n || x->state == CLONE_BARRED) &&
	       block_is_zero(x->name + n, sizeof(x->name) - n);
}

int clones_decode(const void *buf, size_t len, struct clones *c, struct err *e)
{
	struct reader r = reader_of(buf, len);
	int rc = block_check_magic(&r, magic, VERSION, "list of clones", e);

	if (rc < 0)
		return rc;
	if (len < CLONES_FIXED_BYTES || !block_sealed(buf, len, CRC_AT))
		return err_set(e, -EBADMSG, "list of clones: checksum does not match");
	get_zeroes(&r, 2);
	reader_take(&r, 4);
	get_bytes(&r, c->uuid, 16);
	c->n = get_u32(&r);
	get_zeroes(&r, 28);
	if (r.bad || c->n > CLONES_MAX ||
		len != CLONES_FIXED_BYTES + (size_t)c->n * CLONES_ENTRY_BYTES)
		return err_set(e, -EUCLEAN, "list of clones: impossible values");
	for (uint32_t i = 0; i < c->n; i++) {
		struct clone_entry *x = &c->entry[i];

		get_bytes(&r, x->uuid, 16);
		x->snapshot = get_u64(&r);
		x->state = get_u32(&r);
		get_zeroes(&r, 4);
		get_bytes(&r, x->name, SUPERBLOCK_IMAGE_NAME_MAX);
		if (r.bad || !possible(x))
			return err_set(e, -EUCLEAN, "list of clones: impossible entry %u", i);
	}
	return 0;
}
