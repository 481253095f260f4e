/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * plan.h - where everything goes in a reorganised image, and its boot profile, from traces of
 * boots.
 *
 *   first touch   per boot and 4 KiB grain: its rank among the grains the boot reads, and the time.
 *                 What the boot itself wrote whole before it read it does not come from the image
 *   merge         a grain's place is the median of its ranks over the boots that read it (so is its
 *                 time); ties go by LBA.  What one request touched stays together
 *   zones         read by every boot | by some | by none.  The first two in the order of their
 *                 places, the last in LBA order; only what is mapped
 *
 * Pure; any thread.  The same inputs give the same plan.  Memory follows the number of requests and
 * of mapped extents, not the size of the image.
 */
#ifndef LSVD_REORG_PLAN_H
#define LSVD_REORG_PLAN_H

#include "format/profile.h"
#include "format/trace.h"

enum { PLAN_GRAIN = 8 }; /* sectors */

/* One boot: records as trace_load() sorts them.  Borrowed. */
struct plan_trace {
	const struct trace_record *records;
	size_t n;
	const char *name; /* for messages */
};

struct plan_extent {
	uint64_t lba, len; /* sectors */
};

/* How the data lies; the profile is the same. */
enum plan_order {
	PLAN_BOOT,   /* zones, what boots read in the order in which they do */
	PLAN_PACKED, /* zones, each of them in LBA order */
	PLAN_LBA,    /* all in LBA order, as an import lays it out */
	PLAN_ORDERS
};
const char *plan_order_name(enum plan_order o); /* "boot", "packed", "lba" */

enum plan_zone { PLAN_EVERY, PLAN_SOME, PLAN_NEVER, PLAN_ZONES };

struct plan_range {
	uint64_t lba, len; /* sectors */
	uint8_t zone;	   /* enum plan_zone; rises along the array; PLAN_NEVER in LBA order */
};

struct plan {
	struct plan_range
		*ranges; /* all that is mapped, each sector once, in the order of the layout */
	size_t n;
	struct profile_range *profile; /* the first two zones in boot order, cut by time, too */
	uint32_t profile_n;
	uint64_t zone_bytes[PLAN_ZONES];
	uint8_t digest[16]; /* of all the above */
};

/* `mapped`: ascending, not overlapping, within size_sectors.  -EINVAL when it is not, or without a
 * trace; -ERANGE: a request beyond the image; -ENOMEM; -E2BIG: a profile of more than
 * PROFILE_RANGES_MAX ranges. */
int plan_make(const struct plan_trace *traces, size_t boots, const struct plan_extent *mapped,
	size_t mapped_n, uint64_t size_sectors, struct plan *out, struct err *e) MUST_CHECK;

/* The same with another order of the data than PLAN_BOOT. */
int plan_make_ordered(const struct plan_trace *traces, size_t boots, enum plan_order order,
	const struct plan_extent *mapped, size_t mapped_n, uint64_t size_sectors, struct plan *out,
	struct err *e) MUST_CHECK;

/* LBA order and no profile: the layout of a plain import. */
int plan_make_plain(const struct plan_extent *mapped, size_t mapped_n, uint64_t size_sectors,
	struct plan *out, struct err *e) MUST_CHECK;

void plan_free(struct plan *p); /* its contents; may be all zeroes */

/* ---- a step of it, for tests: the first touches of one boot ---- */

struct touch {
	uint64_t start, end; /* grains */
	uint64_t rank;	     /* of the first of them; the others follow by one */
	uint64_t us;	     /* since the boot's first request */
	uint64_t request;    /* index in the trace */
};

/* *out: ascending, not overlapping; malloc'ed.  -ERANGE, -ENOMEM. */
int touch_find(const struct plan_trace *t, uint64_t size_sectors, struct touch **out, size_t *n,
	struct err *e) MUST_CHECK;

/* FNV-1a of 128 bits, to be continued: for digests that name things, not against forgery. */
struct digest {
	unsigned __int128 h;
};
void digest_begin(struct digest *d);
void digest_add(struct digest *d, const void *p, size_t len);
void digest_u64(struct digest *d, uint64_t v);
void digest_end(const struct digest *d, uint8_t out[16]);

#endif
