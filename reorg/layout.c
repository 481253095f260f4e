/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* layout.c - predict.h: an image of made-up data, laid out by a plan, to be booted many times. */
#include "reorg/layout.h"

#include "sys/loop_sim.h"
#include "volume/bulk.h"

#include <errno.h>
#include <stdlib.h>

enum { PIECE_BYTES = 1 << 20 };
static const uint64_t OBJECT_BYTES = 8 << 20;

static int add_range(struct bulk *b, uint64_t lba, uint64_t sectors, struct err *e)
{
	int rc = 0;

	while (sectors && !rc) {
		uint64_t room = PIECE_BYTES, n;
		void *buf = bulk_buffer(b, &room);

		if (!buf)
			return err_set(e, -ENOMEM, "lay out an image: out of memory");
		room = room < PIECE_BYTES ? room : PIECE_BYTES;
		n = room / 512 < sectors ? room / 512 : sectors;
		synth_fill(buf, lba, n);
		rc = bulk_add(b, lba, n, e);
		lba += n;
		sectors -= n;
	}
	return rc;
}

static int fill(struct bulk *b, const struct plan *plan, const volatile int *stop, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < plan->n && !rc; i++) {
		const struct plan_range *x = &plan->ranges[i];

		if (stop && *stop)
			return err_set(e, -EINTR, "interrupted");
		if (i && x->zone != plan->ranges[i - 1].zone)
			rc = bulk_cut(b, e);
		if (!rc)
			rc = add_range(b, x->lba, x->len, e);
	}
	return rc;
}

static int build(struct predict_layout *l, const struct plan *plan, uint64_t object_bytes,
	const volatile int *stop, struct err *e)
{
	struct bulk_options o = {.created_ns = 1, .object_bytes = object_bytes};
	struct loop *loop = NULL;
	struct store *store = NULL;
	struct bulk *b;
	int rc = loop_sim_new(1, &loop, e);

	memcpy(o.uuid, plan->digest, sizeof(o.uuid));
	if (!rc)
		rc = synth_store_on(loop, l->synth, &store);
	if (!rc)
		rc = bulk_begin(store, LAYOUT_NAME, l->size_sectors * 512, &o, &b, e);
	if (!rc) {
		rc = fill(b, plan, stop, e);
		if (rc)
			bulk_abort(b);
		else
			rc = bulk_finish(b, plan->profile, plan->profile_n, e);
	}
	store_close(store);
	if (loop)
		loop_free(loop);
	return rc;
}

static int by_lba(const void *a, const void *b)
{
	const struct plan_extent *x = a, *y = b;

	return (x->lba > y->lba) - (x->lba < y->lba);
}

static int note_extents(struct predict_layout *l, const struct plan *plan)
{
	l->mapped = calloc(plan->n + 1, sizeof(*l->mapped));
	if (!l->mapped)
		return -ENOMEM;
	for (size_t i = 0; i < plan->n; i++)
		l->mapped[i] = (struct plan_extent){plan->ranges[i].lba, plan->ranges[i].len};
	l->mapped_n = plan->n;
	qsort(l->mapped, l->mapped_n, sizeof(*l->mapped), by_lba);
	return 0;
}

bool layout_maps(const struct predict_layout *l, uint64_t lba)
{
	size_t lo = 0, hi = l->mapped_n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->mapped[mid].lba + l->mapped[mid].len <= lba)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->mapped_n && l->mapped[lo].lba <= lba;
}

int predict_layout_new(const struct plan *plan, uint64_t size_sectors, uint64_t object_bytes,
	const volatile int *stop, struct predict_layout **out, struct err *e)
{
	struct predict_layout *l = calloc(1, sizeof(*l));
	int rc = l ? synth_new(&l->synth) : -ENOMEM;

	if (!rc) {
		l->size_sectors = size_sectors;
		rc = note_extents(l, plan);
	}
	if (rc) {
		predict_layout_free(l);
		return err_set(e, rc, "lay out an image: out of memory");
	}
	rc = build(l, plan, object_bytes ? object_bytes : OBJECT_BYTES, stop, e);
	if (rc) {
		predict_layout_free(l);
		return err_wrap(e, rc, "lay out an image in memory");
	}
	synth_seal(l->synth);
	*out = l;
	return 0;
}

void predict_layout_free(struct predict_layout *l)
{
	if (!l)
		return;
	synth_free(l->synth);
	free(l->mapped);
	free(l);
}
