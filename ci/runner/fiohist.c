/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fiohist.c - reads fio's histogram logs. */
#include "ci/runner/fiohist.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MAX = 64 * 32, WRITE = 1 };

uint64_t fio_hist_ns(unsigned i)
{
	unsigned shift = i < 128 ? 0 : (i >> 6) - 1;
	uint64_t low = i < 128 ? i : (64ull + (i & 63)) << shift;

	return low + ((1ull << shift) >> 1);
}

/* One number and the comma or the line's end behind it; false when there is none. */
static bool take(const char **at, uint64_t *v)
{
	char *end;

	while (**at == ' ')
		(*at)++;
	if (**at < '0' || **at > '9')
		return false;
	*v = strtoull(*at, &end, 10);
	*at = *end == ',' ? end + 1 : end;
	return *end == ',' || *end == '\n' || !*end;
}

/* The smallest latency that `share` of the window's requests do not exceed. */
static double quantile_us(const uint64_t *counts, unsigned n, uint64_t total, double share)
{
	uint64_t seen = 0;

	for (unsigned i = 0; i < n; i++) {
		seen += counts[i];
		if (seen && (double)seen >= share * (double)total)
			return (double)fio_hist_ns(i) / 1e3;
	}
	return 0;
}

/* The counts of a line, at its fourth number; false when it is damaged. */
static bool read_counts(const char **at, uint64_t *counts, unsigned *n, uint64_t *total)
{
	*n = 0;
	*total = 0;
	while (**at && **at != '\n') {
		if (*n == BUCKETS_MAX || !take(at, &counts[*n]))
			return false;
		*total += counts[(*n)++];
	}
	return *n > 0;
}

struct windows {
	struct fio_window *list;
	size_t n;
	double end_s; /* of the last */
};

static double higher(double a, double b)
{
	return a > b ? a : b;
}

/* Rates over no time at all would be none. */
static void join(struct fio_window *to, const struct fio_window *more)
{
	to->ios += more->ios;
	to->p50_us = higher(to->p50_us, more->p50_us);
	to->p99_us = higher(to->p99_us, more->p99_us);
	to->max_us = higher(to->max_us, more->max_us);
}

static int add(struct windows *w, double end_s, const uint64_t *counts, unsigned n, uint64_t total)
{
	const struct fio_window now = {.begin_s = w->end_s,
		.end_s = end_s,
		.ios = total,
		.p50_us = quantile_us(counts, n, total, 0.5),
		.p99_us = quantile_us(counts, n, total, 0.99),
		.max_us = quantile_us(counts, n, total, 1)};
	struct fio_window *list;

	if (w->n && end_s <= w->end_s) {
		join(&w->list[w->n - 1], &now);
		return 0;
	}
	if (end_s <= 0)
		return -EUCLEAN;
	list = realloc(w->list, (w->n + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	w->list = list;
	list[w->n++] = now;
	w->end_s = end_s;
	return 0;
}

/* One line, *at behind it. */
static int take_line(struct windows *w, const char **at)
{
	uint64_t counts[BUCKETS_MAX], ms, direction, block, total;
	unsigned n;

	if (!take(at, &ms) || !take(at, &direction) || !take(at, &block) ||
		!read_counts(at, counts, &n, &total) || (double)ms / 1e3 < w->end_s)
		return -EUCLEAN;
	if (**at)
		(*at)++;
	return direction == WRITE && total ? add(w, (double)ms / 1e3, counts, n, total) : 0;
}

int fio_hist_parse(const char *text, struct fio_window **out, size_t *n, struct err *e)
{
	struct windows w = {0};
	unsigned line = 0;
	int rc = 0;

	while (*text && !rc) {
		line++;
		rc = take_line(&w, &text);
	}
	if (!rc && !w.n)
		rc = -ENODATA;
	if (rc) {
		free(w.list);
		return rc == -ENODATA  ? err_set(e, rc, "fio's histogram log has no writes")
		       : rc == -ENOMEM ? err_set(e, rc, "no memory")
				       : err_set(e, rc, "fio's histogram log: line %u is damaged",
						 line);
	}
	*out = w.list;
	*n = w.n;
	return 0;
}
