/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/deferred.h"

#include "sys/mutant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int deferred_init(struct deferred *d)
{
	*d = (struct deferred){.objects = objmap_new()};
	return d->objects ? 0 : -ENOMEM;
}

void deferred_fini(struct deferred *d)
{
	objmap_free(d->objects);
	free(d->died);
	free(d->kept);
	*d = (struct deferred){0};
}

/* ---- objects ---- */

int deferred_add(struct deferred *d, const struct checkpoint_deferred *x)
{
	struct object o = {.seq = x->seq,
		.epoch = x->epoch,
		.hdr_sectors = x->hdr_sectors,
		.data_sectors = x->data_sectors};
	uint32_t slot;
	int rc = objmap_add(d->objects, &o, &slot);

	if (rc == -EEXIST) {
		slot = objmap_find(d->objects, x->seq);
		if (d->died[slot] < x->died)
			d->died[slot] = x->died;
		return 0;
	}
	if (rc == 0 && slot >= d->died_cap) {
		uint32_t cap = slot < 64 ? 128 : 2 * slot;
		uint64_t *p = realloc(d->died, cap * sizeof(*p));

		if (!p) {
			objmap_remove(d->objects, slot);
			return -ENOMEM;
		}
		d->died = p;
		d->died_cap = cap;
	}
	if (rc == 0)
		d->died[slot] = x->died;
	return rc;
}

void deferred_get(const struct deferred *d, uint32_t slot, struct checkpoint_deferred *x)
{
	const struct object *o = objmap_get(d->objects, slot);

	*x = (struct checkpoint_deferred){.seq = o->seq,
		.epoch = o->epoch,
		.died = d->died[slot],
		.hdr_sectors = o->hdr_sectors,
		.data_sectors = o->data_sectors};
}

void deferred_drop(struct deferred *d, uint64_t seq)
{
	uint32_t slot = objmap_find(d->objects, seq);

	if (slot != OBJMAP_NONE)
		objmap_remove(d->objects, slot);
}

bool deferred_has(const struct deferred *d, uint64_t epoch, uint64_t seq)
{
	uint32_t slot = objmap_find(d->objects, seq);

	return slot != OBJMAP_NONE && objmap_get(d->objects, slot)->epoch == epoch;
}

/* ---- checkpoints ---- */

int deferred_keep(struct deferred *d, const struct checkpoint_kept *x)
{
	if (d->nkept == d->kept_cap) {
		uint32_t cap = d->kept_cap ? 2 * d->kept_cap : 16;
		void *p = realloc(d->kept, cap * sizeof(*d->kept));

		if (!p)
			return -ENOMEM;
		d->kept = p;
		d->kept_cap = cap;
	}
	d->kept[d->nkept++] = *x;
	return 0;
}

static uint32_t find_kept(const struct deferred *d, uint64_t number)
{
	uint32_t i = 0;

	while (i < d->nkept && d->kept[i].x.number != number)
		i++;
	return i;
}

void deferred_unkeep(struct deferred *d, uint64_t number)
{
	uint32_t i = find_kept(d, number);

	if (i < d->nkept)
		memmove(&d->kept[i], &d->kept[i + 1], (--d->nkept - i) * sizeof(*d->kept));
}

bool deferred_keeps(const struct deferred *d, uint64_t epoch, uint64_t number)
{
	uint32_t i = find_kept(d, number);

	return i < d->nkept && d->kept[i].x.epoch == epoch;
}

/* ---- the rule ---- */

bool snapshots_need_object(
	const struct superblock_snapshot *s, uint32_t n, uint64_t seq, uint64_t died)
{
	for (uint32_t i = 0; i < n && !MUTANT(FORGET_SNAPSHOT); i++)
		if (seq <= s[i].object_seq && s[i].object_seq < died)
			return true;
	return false;
}

bool snapshots_need_checkpoint(
	const struct superblock_snapshot *s, uint32_t n, uint64_t number, uint64_t died)
{
	for (uint32_t i = 0; i < n; i++)
		if (number <= s[i].checkpoint && s[i].checkpoint < died)
			return true;
	return false;
}
