/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_text.c - any bytes as a file of every format there is: an error, or requests that a trace
 * may hold, which come back the same through CSV; and with bad ones left out, at least as many.
 */
#include "trace/export.h"
#include "trace/formats.h"
#include "trace/import.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many requests, and the last; SIZE_MAX: an error. */
static size_t count(const void *data, size_t size, const struct trace_import_options *opt,
	FILE *again, struct trace_record *last)
{
	struct trace_out o = {.f = again, .path = "again", .device = "x"};
	struct trace_input *input;
	struct trace_import *in;
	struct trace_record r;
	struct err e = {0};
	size_t n = 0;
	int rc;

	if (trace_input_memory(data, size, "fuzz", &input, &e) < 0 ||
		trace_import_take(input, opt, &in, &e) < 0)
		return SIZE_MAX;
	while ((rc = trace_import_next(in, &r, &e)) > 0) {
		if (!trace_record_ok(&r))
			abort();
		if (again && trace_format_csv.add(&o, &r, &e) < 0)
			abort();
		*last = r;
		n++;
	}
	if (rc < 0 && !*e.msg)
		abort();
	trace_import_close(in);
	return rc < 0 ? SIZE_MAX : n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t i = 0; trace_format_at(i); i++) {
		struct trace_import_options opt = {
			.format = trace_format_at(i)->name, .all_volumes = true};
		struct trace_record first = {0}, second = {0};
		size_t len = 0, n, m;
		char *text = NULL;
		FILE *again;

		if (!trace_format_at(i)->next)
			continue;
		again = open_memstream(&text, &len);
		n = count(data, size, &opt, again, &first);
		fclose(again);
		if (n && n != SIZE_MAX) {
			struct trace_import_options csv = {.format = "csv"};

			m = count(text, len, &csv, NULL, &second);
			if (m != n || memcmp(&first, &second, sizeof(first)))
				abort();
		}
		free(text);
		opt.skip_bad = true;
		m = count(data, size, &opt, NULL, &second);
		if (n != SIZE_MAX && m != n)
			abort();
	}
	return 0;
}
