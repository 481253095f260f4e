/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fioout.c - reads fio's json+ output. */
#include "ci/runner/fioout.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct bin {
	uint64_t ns, count;
};

struct bins {
	struct bin *list;
	size_t n;
	uint64_t total;
};

static int bin_order(const void *a, const void *b)
{
	const struct bin *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

/* Adds the histogram of one direction; without one (nothing was done) nothing. */
static int bins_add(struct bins *h, const json_t *dir)
{
	json_t *bins = json_object_get(json_object_get(dir, "lat_ns"), "bins"), *count;
	size_t more = json_object_size(bins);
	struct bin *list;
	const char *ns;

	if (!more)
		return 0;
	list = realloc(h->list, (h->n + more) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	h->list = list;
	json_object_foreach(bins, ns, count)
	{
		char *end;
		uint64_t v = strtoull(ns, &end, 10);

		if (end == ns || *end || !json_is_integer(count) || json_integer_value(count) < 0)
			return -EUCLEAN;
		list[h->n++] = (struct bin){v, (uint64_t)json_integer_value(count)};
		h->total += (uint64_t)json_integer_value(count);
	}
	return 0;
}

/* The smallest latency that `share` of the requests do not exceed. */
static double quantile_us(const struct bins *h, double share)
{
	double want = share * (double)h->total;
	uint64_t seen = 0;

	for (size_t i = 0; i < h->n; i++) {
		seen += h->list[i].count;
		if ((double)seen >= want)
			return (double)h->list[i].ns / 1e3;
	}
	return 0;
}

double fio_tail_share(unsigned i)
{
	return pow(10, -(double)i / 8);
}

static double number(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

static void add_direction(struct fio_figures *f, const json_t *dir)
{
	double runtime_s = number(dir, "runtime") / 1e3;

	f->iops += number(dir, "iops");
	f->bw_mib_s += number(dir, "bw_bytes") / 1048576;
	f->ios += (uint64_t)number(dir, "total_ios");
	f->bytes += (uint64_t)number(dir, "io_bytes");
	if (runtime_s > f->runtime_s)
		f->runtime_s = runtime_s;
}

static int read_job(const json_t *job, const char *name, struct fio_figures *f, struct err *e)
{
	const json_t *rd = json_object_get(job, "read"), *wr = json_object_get(job, "write");
	struct bins h = {0};
	int rc = 0;

	if (!json_is_object(rd) || !json_is_object(wr))
		return err_set(e, -EUCLEAN, "fio job '%s': no read and write sections", name);
	if (number(job, "error") > 0)
		return err_set(e, -EIO, "fio job '%s': error %.0f (%s)", name, number(job, "error"),
			strerror((int)number(job, "error")));
	*f = (struct fio_figures){0};
	add_direction(f, rd);
	add_direction(f, wr);
	rc = bins_add(&h, rd);
	if (!rc)
		rc = bins_add(&h, wr);
	if (!rc && (!h.total || !f->ios))
		rc = err_set(e, -ENODATA, "fio job '%s' did no I/O, or output is not json+", name);
	else if (rc)
		rc = err_set(e, rc, "fio job '%s': its latency histogram is damaged", name);
	if (!rc) {
		qsort(h.list, h.n, sizeof(*h.list), bin_order);
		f->p50_us = quantile_us(&h, 0.5);
		f->p99_us = quantile_us(&h, 0.99);
		f->p999_us = quantile_us(&h, 0.999);
		for (unsigned i = 0; i < FIO_TAIL_POINTS; i++)
			f->tail_us[i] = quantile_us(&h, 1 - fio_tail_share(i));
	}
	free(h.list);
	return rc;
}

int fio_parse(const char *text, const char *job, struct fio_figures *out, struct err *e)
{
	const char *start =
		strncmp(text, "{", 1) ? strstr(text, "\n{") : text; /* notes come first */
	json_error_t je;
	json_t *root = start ? json_loads(start, JSON_DISABLE_EOF_CHECK, &je) : NULL, *jobs, *j;
	int rc = -ENOENT;
	size_t i;

	if (!root)
		return err_set(e, -EUCLEAN, "fio's output: %s", start ? je.text : "no JSON in it");
	jobs = json_object_get(root, "jobs");
	if (!json_is_array(jobs)) {
		json_decref(root);
		return err_set(e, -EUCLEAN, "fio's output: no list of jobs");
	}
	json_array_foreach(jobs, i, j)
	{
		const char *name = json_string_value(json_object_get(j, "jobname"));

		if (!name || strcmp(name, job))
			continue;
		rc = read_job(j, job, out, e);
		break;
	}
	if (rc == -ENOENT)
		err_set(e, rc, "fio's output: no job '%s'", job);
	json_decref(root);
	return rc;
}
