/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_cacheseg.c - libFuzzer: the decoder of cache segment summaries.
 *
 * The input is tried as it is, and again with a right checksum, so that the checks behind the CRC
 * are reached.  What is accepted must walk to its end and encode to the same bytes. */
#include "format/block.h"
#include "format/cacheseg.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const uint8_t *buf, size_t len)
{
	static uint32_t crcs[CACHESEG_BLOCKS_MAX];
	struct cacheseg_head h;
	struct cacheseg_entry x;
	struct reader r;
	struct writer w;
	size_t room;
	uint8_t *again;

	if (cacheseg_decode(buf, len, &h, NULL) < 0)
		return;
	room = block_round_up(h.bytes, CACHESEG_BLOCK);
	again = malloc(room);
	if (!again)
		abort();
	w = cacheseg_begin(again, room);
	r = cacheseg_entries(buf, &h);
	for (uint32_t i = 0; i < h.entries; i++) {
		cacheseg_next(&r, &x, crcs);
		cacheseg_put(&w, &x, crcs);
	}
	if (r.bad || r.p != r.end)
		abort();
	cacheseg_end(&w, again, &h, h.entries);
	if (memcmp(buf, again, h.bytes))
		abort();
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { BYTES_AT = 76, CRC_AT = 16 };
	uint8_t *buf = malloc(size + 1);
	uint32_t bytes;

	if (!buf)
		abort();
	memcpy(buf, data, size);
	walk(buf, size);
	if (size >= CACHESEG_FIXED_BYTES) {
		struct reader r = reader_of(buf + BYTES_AT, 4);

		bytes = get_u32(&r);
		if (bytes >= CACHESEG_FIXED_BYTES && bytes <= size) {
			block_seal(buf, bytes, CRC_AT);
			walk(buf, size);
		}
	}
	free(buf);
	return 0;
}
