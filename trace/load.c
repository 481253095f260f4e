/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* load.c - see load.h. */
#include "trace/load.h"
#include "trace/file.h"
#include "trace/text.h"

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

static int append_cb(void *arg, const struct trace_record *r)
{
	return trace_append(arg, r);
}

static int load_binary(struct trace_reader *r, struct trace *t, struct err *e)
{
	struct trace_record rec;
	int rc;

	while ((rc = trace_reader_next(r, &rec, e)) > 0)
		if (trace_append(t, &rec) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	t->header = *trace_reader_header(r);
	t->counts = *trace_reader_counts(r);
	return rc;
}

static int load_text(FILE *f, const char *path, const char *head, size_t len,
	const struct trace_load_options *opt, struct trace *t, struct err *e)
{
	int rc = trace_text_read(
		f, path, trace_text_guess(head, len), opt ? opt->file : NULL, append_cb, t, e);

	t->counts.records = t->n;
	return rc == -ENOMEM ? err_set(e, rc, "out of memory") : rc;
}

/* Looks at the first bytes and puts them back (glibc takes back what it has just given): works on a
 * pipe. */
static size_t peek(FILE *f, char *head, size_t len)
{
	size_t n = 0;
	int c;

	while (n < len && (c = getc(f)) != EOF)
		head[n++] = (char)c;
	for (size_t i = n; i > 0; i--)
		ungetc((unsigned char)head[i - 1], f);
	return n;
}

static int load_stream(FILE *f, const char *path, const struct trace_load_options *opt,
	struct trace *t, struct err *e)
{
	struct trace_reader *r = NULL;
	char head[TRACE_MAGIC_BYTES];
	size_t n = peek(f, head, sizeof(head));
	int rc;

	if (n == sizeof(head) && memcmp(head, TRACE_MAGIC, sizeof(head)))
		return load_text(f, path, head, n, opt, t, e);
	rc = trace_reader_on(f, path, &r, e);
	if (rc == 0)
		rc = load_binary(r, t, e);
	trace_reader_close(r);
	return rc;
}

int trace_load(
	const char *path, const struct trace_load_options *opt, struct trace *t, struct err *e)
{
	bool std = !strcmp(path, "-");
	FILE *f = std ? stdin : fopen(path, "rb");
	int rc;

	*t = (struct trace){0};
	if (!f)
		return err_set(e, -errno, "'%s': %s", path, strerror(errno));
	rc = load_stream(f, path, opt, t, e);
	if (!std)
		fclose(f);
	if (rc == 0 && trace_sort(t) < 0)
		rc = err_set(e, -ENOMEM, "out of memory");
	if (rc < 0)
		trace_free(t);
	return rc;
}
