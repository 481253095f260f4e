/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cache/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int index_init(struct index *ix, uint32_t room)
{
	uint32_t buckets = 64;

	while (buckets < room && buckets < 1u << 31)
		buckets *= 2;
	*ix = (struct index){.room = room, .mask = buckets - 1, .free = INDEX_NONE};
	ix->e = calloc(room, sizeof(*ix->e));
	ix->bucket = malloc(buckets * sizeof(*ix->bucket));
	if (!ix->e || !ix->bucket) {
		index_fini(ix);
		return -ENOMEM;
	}
	memset(ix->bucket, 0xff, buckets * sizeof(*ix->bucket));
	return 0;
}

void index_fini(struct index *ix)
{
	free(ix->e);
	free(ix->bucket);
	*ix = (struct index){0};
}

static uint32_t *bucket_of(const struct index *ix, const struct chunk_key *k)
{
	return &ix->bucket[chunk_hash(k) & ix->mask];
}

uint32_t index_find(const struct index *ix, const struct chunk_key *k)
{
	uint32_t i = *bucket_of(ix, k);

	while (i != INDEX_NONE && !chunk_key_equal(&ix->e[i].key, k))
		i = ix->e[i].next;
	return i;
}

uint32_t index_alloc(struct index *ix)
{
	uint32_t i = ix->free;

	if (i != INDEX_NONE)
		ix->free = ix->e[i].next;
	else if (ix->used < ix->room)
		i = ix->used++;
	else
		return INDEX_NONE;
	ix->e[i] = (struct entry){.next = INDEX_NONE, .seg_next = INDEX_NONE};
	return i;
}

void index_free(struct index *ix, uint32_t i)
{
	ix->e[i].next = ix->free;
	ix->free = i;
}

void index_link(struct index *ix, uint32_t i)
{
	uint32_t *b = bucket_of(ix, &ix->e[i].key);

	ix->e[i].next = *b;
	*b = i;
	ix->count++;
}

void index_unlink(struct index *ix, uint32_t i)
{
	uint32_t *p = bucket_of(ix, &ix->e[i].key);

	while (*p != i) {
		assert(*p != INDEX_NONE);
		p = &ix->e[*p].next;
	}
	*p = ix->e[i].next;
	ix->count--;
}

/* ---- writers ---- */

static bool same(const struct stream_id *a, const uint8_t uuid[16], uint64_t epoch)
{
	return a->epoch == epoch && !memcmp(a->uuid, uuid, 16);
}

static uint32_t slot_of(const struct streams *s, const uint8_t uuid[16], uint64_t epoch)
{
	uint64_t h;
	uint32_t i;

	memcpy(&h, uuid, 8);
	h = (h ^ epoch) * 0x9E3779B97F4A7C15ull;
	for (i = (uint32_t)(h >> 32) & s->mask; s->slot[i]; i = (i + 1) & s->mask)
		if (same(&s->id[s->slot[i] - 1], uuid, epoch))
			break;
	return i;
}

/* Doubles the table; it is at most half full. */
static bool grow(struct streams *s)
{
	uint32_t room = s->slot ? (s->mask + 1) * 2 : 64;
	uint32_t *slot = calloc(room, sizeof(*slot));
	struct stream_id *id = realloc(s->id, room / 2 * sizeof(*id));

	if (id)
		s->id = id;
	if (!slot || !id) {
		free(slot);
		return false;
	}
	free(s->slot);
	s->slot = slot;
	s->mask = room - 1;
	for (uint32_t i = 0; i < s->count; i++)
		s->slot[slot_of(s, id[i].uuid, id[i].epoch)] = i + 1;
	return true;
}

uint32_t stream_of(struct streams *s, const uint8_t uuid[16], uint64_t epoch)
{
	uint32_t i;

	if (s->count && same(&s->id[s->last], uuid, epoch))
		return s->last;
	if (s->slot) {
		i = slot_of(s, uuid, epoch);
		if (s->slot[i])
			return s->last = s->slot[i] - 1;
	}
	if ((!s->slot || s->count >= (s->mask + 1) / 2) && !grow(s))
		return INDEX_NONE;
	i = slot_of(s, uuid, epoch);
	memcpy(s->id[s->count].uuid, uuid, 16);
	s->id[s->count].epoch = epoch;
	s->slot[i] = s->count + 1;
	return s->last = s->count++;
}

void streams_fini(struct streams *s)
{
	free(s->id);
	free(s->slot);
	*s = (struct streams){0};
}
