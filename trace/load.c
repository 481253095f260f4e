/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* load.c - see load.h. */
#include "trace/load.h"
#include "trace/import.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int trace_append(struct trace *t, const struct trace_record *r)
{
	/* grows when n is 0 or a power of two from 1024 on */
	if (!t->n || (t->n >= 1024 && !(t->n & (t->n - 1)))) {
		size_t room = t->n ? 2 * t->n : 1024;
		struct trace_record *p = realloc(t->records, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		t->records = p;
	}
	t->records[t->n++] = *r;
	return 0;
}

/* Merge sort: stable, and quick on what is nearly sorted already. */
static void merge(struct trace_record *a, struct trace_record *tmp, size_t n)
{
	size_t half = n / 2, i = 0, j = half, k = 0;

	if (n < 2)
		return;
	merge(a, tmp, half);
	merge(a + half, tmp, n - half);
	if (a[half - 1].submit_ns <= a[half].submit_ns)
		return;
	memcpy(tmp, a, half * sizeof(*a));
	while (i < half && j < n)
		a[k++] = a[j].submit_ns < tmp[i].submit_ns ? a[j++] : tmp[i++];
	memcpy(a + k, tmp + i, (half - i) * sizeof(*a));
}

int trace_sort(struct trace *t)
{
	struct trace_record *tmp = t->n > 1 ? malloc(t->n / 2 * sizeof(*tmp)) : NULL;

	if (t->n > 1 && !tmp)
		return -ENOMEM;
	merge(t->records, tmp, t->n);
	free(tmp);
	return 0;
}

void trace_free(struct trace *t)
{
	free(t->records);
	*t = (struct trace){0};
}

static int load(struct trace_import *in, struct trace *t, struct err *e)
{
	struct trace_record r;
	int rc;

	while ((rc = trace_import_next(in, &r, e)) > 0)
		if (trace_append(t, &r) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	t->header = *trace_import_header(in);
	t->counts = *trace_import_counts(in);
	return rc;
}

int trace_load(
	const char *path, const struct trace_import_options *opt, struct trace *t, struct err *e)
{
	struct trace_import *in;
	int rc = trace_import_open(path, opt, &in, e);

	*t = (struct trace){0};
	if (rc < 0)
		return rc;
	rc = load(in, t, e);
	trace_import_close(in);
	if (rc == 0 && trace_sort(t) < 0)
		rc = err_set(e, -ENOMEM, "out of memory");
	if (rc < 0)
		trace_free(t);
	return rc;
}
