/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* overlap.c - see overlap.h. */
#include "trace/overlap.h"
#include "trace/blocks.h"
#include "trace/sorter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t oversize = 4ull << 30;

/* ---- first touches ---- */

struct collect {
	const struct overlap_options *opt;
	struct first_touches *f;
	struct block_table seen;
	size_t room;
};

static int touch(struct collect *c, uint64_t block)
{
	uint64_t stamp = 0, *p;
	int rc = 0;

	if (blocks_find(&c->seen, block))
		return 0;
	if (c->f->n == c->room) {
		c->room = c->room ? 2 * c->room : 1024;
		p = realloc(c->f->block, c->room * sizeof(*p));
		if (!p)
			return -ENOMEM;
		c->f->block = p;
	}
	c->f->block[c->f->n++] = block;
	blocks_touch(&c->seen, block, false, &stamp, &rc);
	return rc;
}

static int add(struct collect *c, const struct trace_record *r)
{
	uint64_t block = c->opt->block_bytes, last;
	int rc = 0;

	if (!((r->op == TRACE_READ && c->opt->reads) || (r->op == TRACE_WRITE && c->opt->writes)) ||
		!r->len_bytes || r->len_bytes > oversize)
		return 0;
	c->f->requests++;
	last = (r->offset_bytes + r->len_bytes - 1) / block;
	for (uint64_t k = r->offset_bytes / block; k <= last && rc == 0; k++)
		rc = touch(c, k);
	return rc;
}

static int collect(struct collect *c, struct trace_import *in, struct sorter *s, struct err *e)
{
	struct trace_record r, out;
	uint32_t tag;
	int rc = 0;

	while (rc == 0 && (rc = trace_import_next(in, &r, e)) > 0) {
		rc = sorter_put(s, &r, 0, &out, &tag) ? add(c, &out) : 0;
		if (rc < 0)
			return err_set(e, rc, "out of memory");
	}
	while (rc == 0 && sorter_take(s, &out, &tag))
		if (add(c, &out) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	return rc;
}

int first_touches_of(
	const char *path, const struct overlap_options *opt, struct first_touches *f, struct err *e)
{
	struct collect c = {.opt = opt, .f = f};
	struct sorter *s = sorter_new();
	struct trace_import *in = NULL;
	int rc;

	*f = (struct first_touches){0};
	rc = trace_import_open(path, &opt->in, &in, e);
	if (rc == 0 && (!s || blocks_init(&c.seen) < 0))
		rc = err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = collect(&c, in, s, e);
	blocks_fini(&c.seen);
	trace_import_close(in);
	sorter_free(s);
	if (rc < 0)
		first_touches_free(f);
	return rc;
}

void first_touches_free(struct first_touches *f)
{
	free(f->block);
	*f = (struct first_touches){0};
}

/* ---- ranks ---- */

/* Merge sort of v that counts the pairs that were in the wrong order. */
static uint64_t inversions(uint32_t *v, uint32_t *tmp, size_t n)
{
	size_t half = n / 2, i = 0, j = half, k = 0;
	uint64_t count;

	if (n < 2)
		return 0;
	count = inversions(v, tmp, half) + inversions(v + half, tmp, n - half);
	while (i < half || j < n) {
		if (j == n || (i < half && v[i] < v[j])) {
			tmp[k++] = v[i++];
		} else {
			count += half - i;
			tmp[k++] = v[j++];
		}
	}
	memcpy(v, tmp, n * sizeof(*v));
	return count;
}

static int by_value(const void *x, const void *y)
{
	const uint32_t *a = x, *b = y;

	return *a < *b ? -1 : *a > *b;
}

/* Also leaves the displacements in tmp, sorted. */
static void correlate(struct overlap *o, uint32_t *v, uint32_t *tmp)
{
	size_t n = o->both;
	double squares = 0, sum = 0, dn = (double)n;

	o->spearman = o->kendall = NAN;
	if (n < 2)
		return;
	memcpy(v, o->rank, n * sizeof(*v));
	o->kendall = 1 - 4 * (double)inversions(v, tmp, n) / (dn * (dn - 1));
	for (size_t i = 0; i < n; i++) {
		uint32_t d = o->rank[i] > i ? o->rank[i] - (uint32_t)i : (uint32_t)i - o->rank[i];

		squares += (double)d * d;
		sum += d;
		tmp[i] = d;
	}
	o->spearman = 1 - 6 * squares / (dn * (dn * dn - 1));
	o->mean_displacement = sum / dn;
	qsort(tmp, n, sizeof(*tmp), by_value);
	o->p50_displacement = tmp[n / 2];
	o->p90_displacement = tmp[n - 1 - n / 10];
	o->max_displacement = tmp[n - 1];
}

/* A common block is among the first k of both once k passes its later place. */
static void depths(struct overlap *o, const uint32_t *later)
{
	uint64_t k_max = o->a < o->b ? o->a : o->b, n = 0;

	for (unsigned i = 0; i < OVERLAP_DEPTHS; i++) {
		uint64_t k = (k_max * (i + 1) + OVERLAP_DEPTHS - 1) / OVERLAP_DEPTHS;

		while (n < o->both && later[n] < k)
			n++;
		o->depth[i] = k ? (double)n / (double)k : 0;
	}
}

/* Places of the common blocks in B, in the order of A, become their ranks: place -> how many common
 * ones are before it. */
static int rank(struct overlap *o, const uint32_t *place, const uint8_t *common, size_t b)
{
	uint32_t *rank_of = malloc((b + 1) * sizeof(*rank_of)), n = 0;

	if (!rank_of)
		return -ENOMEM;
	for (size_t i = 0; i < b; i++) {
		rank_of[i] = n;
		n += common[i];
	}
	for (size_t i = 0; i < o->both; i++)
		o->rank[i] = rank_of[place[i]];
	free(rank_of);
	return 0;
}

static int compare(
	const struct first_touches *a, const struct block_table *in_b, size_t b, struct overlap *o)
{
	size_t n = a->n + 1;
	uint32_t *place = malloc(n * sizeof(*place)), *later = malloc(n * sizeof(*later));
	uint32_t *v = malloc(n * sizeof(*v));
	uint8_t *common = calloc(b + 1, 1);
	int rc = -ENOMEM;

	o->rank = malloc(n * sizeof(*o->rank));
	if (place && later && v && common && o->rank) {
		for (size_t i = 0; i < a->n; i++) {
			const struct block_entry *x = blocks_find(in_b, a->block[i]);

			if (!x)
				continue;
			place[o->both] = (uint32_t)x->stamp;
			later[o->both++] = x->stamp > i ? (uint32_t)x->stamp : (uint32_t)i;
			common[x->stamp] = 1;
		}
		qsort(later, o->both, sizeof(*later), by_value);
		depths(o, later);
		rc = rank(o, place, common, b);
		if (rc == 0)
			correlate(o, v, later);
	}
	free(place);
	free(later);
	free(v);
	free(common);
	return rc;
}

int overlap_of(const struct first_touches *a, const struct first_touches *b, struct overlap *o)
{
	struct block_table in_b;
	int rc = a->n < UINT32_MAX && b->n < UINT32_MAX ? blocks_init(&in_b) : -ENOMEM;
	uint64_t either;

	*o = (struct overlap){.a = a->n, .b = b->n};
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < b->n && rc == 0; i++) {
		uint64_t stamp = i;

		blocks_touch(&in_b, b->block[i], false, &stamp, &rc);
	}
	if (rc == 0)
		rc = compare(a, &in_b, b->n, o);
	blocks_fini(&in_b);
	either = o->a + o->b - o->both;
	o->jaccard = either ? (double)o->both / (double)either : 0;
	if (rc < 0)
		overlap_fini(o);
	return rc;
}

void overlap_fini(struct overlap *o)
{
	free(o->rank);
	o->rank = NULL;
}
