/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_text.c - any bytes as CSV and as an iolog: an error, or requests a trace may hold, which
 * come back the same through CSV. */
#include "trace/text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sink {
	struct trace_record last;
	FILE *again;
	size_t n;
};

static int keep(void *arg, const struct trace_record *r)
{
	struct sink *s = arg;

	if (!trace_record_ok(r))
		abort();
	s->last = *r;
	s->n++;
	if (s->again)
		trace_text_line(s->again, TRACE_TEXT_CSV, "x", r);
	return 0;
}

static void parse(const void *data, size_t size, enum trace_text kind, struct sink *s)
{
	FILE *f = fmemopen((void *)data, size, "r");
	struct err e;

	if (!f)
		return;
	if (trace_text_read(f, "fuzz", kind, NULL, keep, s, &e) < 0)
		s->n = SIZE_MAX;
	fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int kind = 0; size && kind < 2; kind++) {
		struct sink first = {.n = 0}, second = {.n = 0};
		char *text = NULL;
		size_t len = 0;

		first.again = open_memstream(&text, &len);
		parse(data, size, kind ? TRACE_TEXT_IOLOG : TRACE_TEXT_CSV, &first);
		fclose(first.again);
		if (first.n && first.n != SIZE_MAX) {
			parse(text, len, TRACE_TEXT_CSV, &second);
			if (second.n != first.n ||
				memcmp(&first.last, &second.last, sizeof(first.last)))
				abort();
		}
		free(text);
	}
	return 0;
}
