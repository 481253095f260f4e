/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_wire.h - any bytes as the two streams of a connection: what the fuzzers of the decoders
 * share.
 *
 * The input is a row of pieces: a byte (1: an answer; 2: a hole, of as many bytes; 4: a jump), a
 * length in two, and the bytes.  Whatever it is, the decoder hands over only requests that a trace
 * may hold, and the same ones when the bytes come one by one.
 */
#ifndef LSVD_TRACE_TEST_FUZZ_WIRE_H
#define LSVD_TRACE_TEST_FUZZ_WIRE_H

#include "trace/wire.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_seen {
	uint64_t n, sum;
};

static inline void fuzz_request(void *arg, const struct trace_record *r)
{
	struct fuzz_seen *s = arg;

	if (!trace_record_ok(r))
		abort();
	s->n++;
	s->sum = s->sum * 31 + r->op + r->offset_bytes * 7 + r->len_bytes * 13 + r->flags +
		 (r->complete_ns != 0);
}

static inline void fuzz_size(void *arg, uint64_t bytes)
{
	(void)arg;
	(void)bytes;
}

static inline struct fuzz_seen fuzz_run(
	const struct wire_protocol *p, const uint8_t *data, size_t size, size_t most)
{
	struct fuzz_seen seen = {0};
	struct wire_counts counts = {0};
	struct wire_sink sink = {.request = fuzz_request,
		.size = fuzz_size,
		.arg = &seen,
		.unit = WIRE_ANY_UNIT,
		.counts = &counts};
	struct wire *w = wire_new(p, &sink, 0);

	for (uint64_t t = 1; w && size >= 3; t++) {
		enum wire_dir d = data[0] & 1 ? WIRE_ANSWERS : WIRE_REQUESTS;
		unsigned kind = data[0];
		size_t len = data[1] | (size_t)data[2] << 8, n;

		data += 3;
		size -= 3;
		if (kind & 4) {
			wire_jump(w, d, t);
			continue;
		}
		if (kind & 2) {
			wire_hole(w, d, t, len);
			continue;
		}
		len = len < size ? len : size;
		for (size_t at = 0; at < len; at += n) {
			n = len - at < most ? len - at : most;
			wire_feed(w, d, t, data + at, n);
		}
		data += len;
		size -= len;
	}
	wire_free(w);
	return seen;
}

static inline int fuzz_wire(const struct wire_protocol *p, const uint8_t *data, size_t size)
{
	struct fuzz_seen a = fuzz_run(p, data, size, SIZE_MAX), b = fuzz_run(p, data, size, 1);

	if (memcmp(&a, &b, sizeof(a)))
		abort();
	return 0;
}

#endif
