/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plan.c - merges the boots' first touches, clips them to what is mapped, sorts, and joins.
 *
 * Within a run of grains which each boot touched by one request, all ranks rise by one per grain,
 * and so does their median: so runs are merged instead of grains, and stay whole.
 */
#include "reorg/plan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { JOIN_US = 1000, PROFILE_LEN_MAX = 1 << 30 };

/* Sectors with one fate. */
struct piece {
	uint64_t lba, len;
	uint64_t place; /* twice the median rank: an even number of boots has halves */
	uint64_t us;
	uint8_t zone;
};

struct pieces {
	struct piece *p;
	size_t n, room;
};

static int add(struct pieces *a, const struct piece *x)
{
	if (a->n == a->room) {
		size_t room = a->room ? 2 * a->room : 1024;
		struct piece *p = realloc(a->p, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		a->p = p;
		a->room = room;
	}
	a->p[a->n++] = *x;
	return 0;
}

/* ---- merge over boots ---- */

struct boot {
	struct touch *t;
	size_t n, at;
};

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Twice the median. */
static uint64_t median2(uint64_t *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare_u64);
	return v[(n - 1) / 2] + v[n / 2];
}

/* The next place after `pos` at which any boot's run begins or ends; skips runs that are over. */
static uint64_t next_edge(struct boot *b, size_t boots, uint64_t pos)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < boots; i++) {
		uint64_t edge;

		while (b[i].at < b[i].n && b[i].t[b[i].at].end <= pos)
			b[i].at++;
		if (b[i].at == b[i].n)
			continue;
		edge = b[i].t[b[i].at].start > pos ? b[i].t[b[i].at].start : b[i].t[b[i].at].end;
		next = edge < next ? edge : next;
	}
	return next;
}

/* The run of grains [pos, end), which no edge divides.  v: room for two numbers per boot. */
static int merge_run(const struct boot *b, size_t boots, uint64_t pos, uint64_t end, uint64_t *v,
	struct pieces *out)
{
	uint64_t *ranks = v, *times = v + boots;
	size_t n = 0;
	struct piece x = {.lba = pos * PLAN_GRAIN, .len = (end - pos) * PLAN_GRAIN};

	for (size_t i = 0; i < boots; i++) {
		const struct touch *t = &b[i].t[b[i].at];

		if (b[i].at == b[i].n || t->start > pos)
			continue;
		ranks[n] = t->rank + (pos - t->start);
		times[n++] = t->us;
	}
	if (!n)
		return 0;
	x.place = median2(ranks, n);
	x.us = median2(times, n) / 2;
	x.zone = n == boots ? PLAN_EVERY : PLAN_SOME;
	return add(out, &x);
}

static int merge(struct boot *b, size_t boots, struct pieces *out)
{
	uint64_t *v = calloc(2 * boots, sizeof(*v)), pos = 0, end;
	int rc = v ? 0 : -ENOMEM;

	while (!rc && (end = next_edge(b, boots, pos)) != UINT64_MAX) {
		rc = merge_run(b, boots, pos, end, v, out);
		pos = end;
	}
	free(v);
	return rc;
}

static int touches(const struct plan_trace *traces, size_t boots, uint64_t size_sectors,
	struct pieces *out, struct err *e)
{
	struct boot *b = calloc(boots, sizeof(*b));
	int rc = b ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < boots; i++)
		rc = touch_find(&traces[i], size_sectors, &b[i].t, &b[i].n, e);
	if (!rc)
		rc = merge(b, boots, out);
	for (size_t i = 0; b && i < boots; i++)
		free(b[i].t);
	free(b);
	return rc;
}

/* ---- clip to what is mapped ---- */

static int add_rest(struct pieces *rest, uint64_t lba, uint64_t end)
{
	struct piece x = {.lba = lba, .len = end - lba, .zone = PLAN_NEVER};

	return lba < end ? add(rest, &x) : 0;
}

/* One mapped extent: what of it is touched goes to `hot`, the rest to `rest`; *at is the first
 * piece that may reach into it. */
static int clip_extent(const struct plan_extent *m, const struct pieces *touched, size_t *at,
	struct pieces *hot, struct pieces *rest)
{
	uint64_t pos = m->lba, end = m->lba + m->len;
	int rc = 0;

	while (*at < touched->n && touched->p[*at].lba + touched->p[*at].len <= pos)
		++*at;
	for (size_t i = *at; !rc && i < touched->n && touched->p[i].lba < end; i++) {
		struct piece x = touched->p[i];
		uint64_t last = x.lba + x.len, first = x.lba > pos ? x.lba : pos;

		x.place += (first - x.lba) / PLAN_GRAIN * 2;
		x.lba = first;
		x.len = (last < end ? last : end) - first;
		rc = add_rest(rest, pos, first);
		if (!rc)
			rc = add(hot, &x);
		pos = first + x.len;
	}
	return rc ? rc : add_rest(rest, pos, end);
}

static int clip(const struct plan_extent *mapped, size_t n, uint64_t size_sectors,
	const struct pieces *touched, struct pieces *hot, struct pieces *rest, struct err *e)
{
	uint64_t end = 0;
	size_t at = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++) {
		if (!mapped[i].len || mapped[i].lba < end || mapped[i].lba >= size_sectors ||
			mapped[i].len > size_sectors - mapped[i].lba)
			return err_set(e, -EINVAL,
				"extent %zu of the image (sector %" PRIu64 ", %" PRIu64
				" sectors) is out of order or beyond its end",
				i, mapped[i].lba, mapped[i].len);
		end = mapped[i].lba + mapped[i].len;
		rc = clip_extent(&mapped[i], touched, &at, hot, rest);
	}
	return rc;
}

/* ---- sort and join ---- */

static int by_zone_and_place(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->zone != y->zone)
		return x->zone < y->zone ? -1 : 1;
	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return (x->lba > y->lba) - (x->lba < y->lba);
}

static int by_zone_and_lba(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->zone != y->zone)
		return x->zone < y->zone ? -1 : 1;
	return (x->lba > y->lba) - (x->lba < y->lba);
}

static void join_ranges(struct plan *p, const struct pieces *a)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct piece *x = &a->p[i];
		struct plan_range *last = p->n ? &p->ranges[p->n - 1] : NULL;

		p->zone_bytes[x->zone] += x->len * 512;
		if (last && last->zone == x->zone && last->lba + last->len == x->lba)
			last->len += x->len;
		else
			p->ranges[p->n++] = (struct plan_range){x->lba, x->len, x->zone};
	}
}

static void add_profile(struct plan *p, const struct piece *x)
{
	uint32_t us = x->us < UINT32_MAX ? (uint32_t)x->us : UINT32_MAX;
	struct profile_range *last = p->profile_n ? &p->profile[p->profile_n - 1] : NULL;
	/* beyond what a u32 of sectors holds, the rest of a huge request may as well be left out */
	uint32_t len = x->len < PROFILE_LEN_MAX ? (uint32_t)x->len : PROFILE_LEN_MAX;

	if (last && last->lba + last->len == x->lba && us >= last->first_us &&
		us - last->first_us <= JOIN_US && last->len + (uint64_t)len <= PROFILE_LEN_MAX)
		last->len += len;
	else
		p->profile[p->profile_n++] = (struct profile_range){x->lba, len, us};
}

static void make_digest(struct plan *p, uint64_t size_sectors)
{
	struct digest d;

	digest_begin(&d);
	digest_u64(&d, size_sectors);
	digest_u64(&d, p->n);
	for (size_t i = 0; i < p->n; i++) {
		digest_u64(&d, p->ranges[i].lba);
		digest_u64(&d, p->ranges[i].len);
		digest_u64(&d, p->ranges[i].zone);
	}
	for (uint32_t i = 0; i < p->profile_n; i++) {
		digest_u64(&d, p->profile[i].lba);
		digest_u64(&d, (uint64_t)p->profile[i].len << 32 | p->profile[i].first_us);
	}
	digest_end(&d, p->digest);
}

/* `hot` comes in the order of boots. */
static int lay_out(struct pieces *hot, struct pieces *rest, enum plan_order order, struct plan *p)
{
	if (order == PLAN_PACKED && hot->n)
		qsort(hot->p, hot->n, sizeof(*hot->p), by_zone_and_lba);
	if (order != PLAN_LBA) {
		join_ranges(p, hot);
		join_ranges(p, rest);
		return 0;
	}
	for (size_t i = 0; i < hot->n; i++) {
		hot->p[i].zone = PLAN_NEVER;
		if (add(rest, &hot->p[i]))
			return -ENOMEM;
	}
	if (rest->n)
		qsort(rest->p, rest->n, sizeof(*rest->p), by_zone_and_lba);
	join_ranges(p, rest);
	return 0;
}

static int arrange(struct pieces *hot, struct pieces *rest, enum plan_order order,
	uint64_t size_sectors, struct plan *p, struct err *e)
{
	int rc;

	if (hot->n > PROFILE_RANGES_MAX)
		return err_set(e, -E2BIG, "the boots touch %zu ranges; a profile holds %d", hot->n,
			PROFILE_RANGES_MAX);
	p->ranges = calloc(hot->n + rest->n + 1, sizeof(*p->ranges));
	p->profile = calloc(hot->n + 1, sizeof(*p->profile));
	if (!p->ranges || !p->profile)
		return -ENOMEM;
	if (hot->n)
		qsort(hot->p, hot->n, sizeof(*hot->p), by_zone_and_place);
	for (size_t i = 0; i < hot->n; i++)
		add_profile(p, &hot->p[i]);
	rc = lay_out(hot, rest, order, p);
	if (rc)
		return rc;
	make_digest(p, size_sectors);
	return 0;
}

static int make(const struct plan_trace *traces, size_t boots, enum plan_order order,
	const struct plan_extent *mapped, size_t mapped_n, uint64_t size_sectors, struct plan *out,
	struct err *e)
{
	struct pieces touched = {0}, hot = {0}, rest = {0};
	struct plan p = {0};
	int rc = 0;

	if (e)
		e->msg[0] = '\0';
	if (boots)
		rc = touches(traces, boots, size_sectors, &touched, e);
	if (!rc)
		rc = clip(mapped, mapped_n, size_sectors, &touched, &hot, &rest, e);
	if (!rc)
		rc = arrange(&hot, &rest, order, size_sectors, &p, e);
	free(touched.p);
	free(hot.p);
	free(rest.p);
	if (rc) {
		plan_free(&p);
		return e && e->msg[0] ? rc : err_set(e, rc, "plan a layout: out of memory");
	}
	*out = p;
	return 0;
}

const char *plan_order_name(enum plan_order o)
{
	static const char *const names[PLAN_ORDERS] = {"boot", "packed", "lba"};

	return names[o];
}

int plan_make_ordered(const struct plan_trace *traces, size_t boots, enum plan_order order,
	const struct plan_extent *mapped, size_t mapped_n, uint64_t size_sectors, struct plan *out,
	struct err *e)
{
	if (!boots)
		return err_set(e, -EINVAL, "a plan needs the trace of at least one boot");
	return make(traces, boots, order, mapped, mapped_n, size_sectors, out, e);
}

int plan_make(const struct plan_trace *traces, size_t boots, const struct plan_extent *mapped,
	size_t mapped_n, uint64_t size_sectors, struct plan *out, struct err *e)
{
	return plan_make_ordered(traces, boots, PLAN_BOOT, mapped, mapped_n, size_sectors, out, e);
}

int plan_make_plain(const struct plan_extent *mapped, size_t mapped_n, uint64_t size_sectors,
	struct plan *out, struct err *e)
{
	return make(NULL, 0, PLAN_LBA, mapped, mapped_n, size_sectors, out, e);
}

void plan_free(struct plan *p)
{
	free(p->ranges);
	free(p->profile);
	*p = (struct plan){0};
}
