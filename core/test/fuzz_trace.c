/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_trace.c - any bytes through the trace decoder.
 *
 * Three ways in, because a checksum stops most mutations at the door: the bytes as a file, the
 * bytes as blocks behind a good header, and the bytes as a block's contents under a good checksum.
 */
#include "format/trace.h"
#include "sys/crc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void feed_all(struct trace_decoder *d, const uint8_t *data, size_t size)
{
	struct trace_record r;
	uint64_t n = 0;

	for (size_t at = 0; at < size; at += TRACE_BLOCK_BYTES) {
		size_t len = size - at < TRACE_BLOCK_BYTES ? size - at : TRACE_BLOCK_BYTES;

		if (trace_decoder_feed(d, data + at, len, NULL) < 0)
			return;
		for (; trace_decoder_next(d, &r); n++)
			must(trace_record_ok(&r));
	}
	if (trace_decoder_end(d, NULL) == 0)
		must(d->counts.records == n);
}

static void good_header(struct trace_decoder *d)
{
	struct trace_header h = {.trace_uuid = {1}, .comment = "fuzz"};
	uint8_t block[TRACE_BLOCK_BYTES];

	trace_header_encode(&h, block);
	trace_decoder_init(d);
	must(trace_decoder_feed(d, block, sizeof(block), NULL) == 0);
}

static void seal(uint8_t *block, const uint8_t *uuid)
{
	uint32_t crc = crc32c(crc32c(0, uuid, 16), block, TRACE_BLOCK_BYTES - 4);

	for (int i = 0; i < 4; i++)
		block[TRACE_BLOCK_BYTES - 4 + i] = (uint8_t)(crc >> 8 * i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t block[TRACE_BLOCK_BYTES] = {0};
	struct trace_decoder d;

	trace_decoder_init(&d);
	feed_all(&d, data, size);
	good_header(&d);
	feed_all(&d, data, size);
	memcpy(block, data, size < sizeof(block) ? size : sizeof(block));
	good_header(&d);
	seal(block, d.header.trace_uuid);
	feed_all(&d, block, sizeof(block));
	/* the same with a head that passes, so that the records are looked at */
	memcpy(block, "TRCB", 4);
	memcpy(block + 8, "\1\0\0\0\0\0\0", 8);
	good_header(&d);
	seal(block, d.header.trace_uuid);
	feed_all(&d, block, sizeof(block));
	return 0;
}
