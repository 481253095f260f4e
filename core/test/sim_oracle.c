/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_oracle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 64 };

static void *must(void *p)
{
	assert(p);
	return p;
}

void oracle_init(struct oracle *o, uint64_t salt, uint32_t tag, uint32_t sectors)
{
	*o = (struct oracle){.salt = salt, .tag = tag, .sectors = sectors, .must = UINT32_MAX};
	o->newest = must(calloc(sectors, sizeof(uint32_t)));
	o->seen = must(calloc(sectors, sizeof(uint32_t)));
	o->now = must(calloc(sectors, sizeof(uint32_t)));
	o->cap = o->stamps_cap = 256;
	o->piece = must(calloc(o->cap, sizeof(*o->piece)));
	o->first_piece = must(calloc(o->stamps_cap, sizeof(uint32_t)));
}

void oracle_fini(struct oracle *o)
{
	free(o->base);
	free(o->newest);
	free(o->seen);
	free(o->now);
	for (uint32_t i = 1; i <= o->n; i++)
		free(o->piece[i].back);
	free(o->piece);
	free(o->first_piece);
}

static void *copy_of(const void *from, size_t n, size_t size)
{
	void *to = from ? must(malloc(n * size)) : NULL;

	return to ? memcpy(to, from, n * size) : NULL;
}

void oracle_copy(struct oracle *o, const struct oracle *from)
{
	*o = *from;
	o->base = copy_of(from->base, o->sectors, sizeof(uint32_t));
	o->newest = copy_of(from->newest, o->sectors, sizeof(uint32_t));
	o->seen = must(calloc(o->sectors, sizeof(uint32_t)));
	o->now = must(calloc(o->sectors, sizeof(uint32_t)));
	o->piece = copy_of(from->piece, o->cap, sizeof(*o->piece));
	for (uint32_t i = 1; i <= o->n; i++)
		o->piece[i].back = copy_of(o->piece[i].back, o->sectors, sizeof(uint32_t));
	o->first_piece = copy_of(from->first_piece, o->stamps_cap, sizeof(uint32_t));
}

/* ---- sectors ---- */

enum { NUMBER_BITS = 24 };

static uint32_t base_stamp(const struct oracle *o, uint32_t sector)
{
	return o->base ? o->base[sector] : 0;
}

/* What piece i (0: the image as it was made) says of this sector. */
static uint32_t stamp_of(const struct oracle *o, uint32_t i, uint32_t sector)
{
	const struct piece *p = &o->piece[i];

	if (i && p->back)
		return p->back[sector];
	return i ? p->stamp : base_stamp(o, sector);
}

/* The number of this image's write; 0: another's. */
static uint32_t number_of(const struct oracle *o, uint32_t stamp)
{
	return stamp >> NUMBER_BITS == o->tag ? stamp & ((1u << NUMBER_BITS) - 1) : 0;
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void oracle_fill(const struct oracle *o, void *buf, uint32_t lba, uint32_t len, uint32_t stamp)
{
	uint64_t *w = buf;

	for (uint32_t s = 0; s < len; s++, w += WORDS) {
		uint64_t id = (uint64_t)stamp << 32 | (lba + s), k = mix(id ^ o->salt) | 1;

		w[0] = id;
		for (int i = 1; i < WORDS; i++)
			w[i] = k * (uint64_t)i;
	}
}

int64_t oracle_stamp(const struct oracle *o, const void *sector, uint32_t lba)
{
	const uint64_t *w = sector;
	uint64_t k, bad = 0;

	if (!w[0])
		return memcmp(w, w + 1, (WORDS - 1) * sizeof(*w)) ? -1 : 0;
	k = mix(w[0] ^ o->salt) | 1;
	for (int i = 1; i < WORDS; i++)
		bad |= w[i] ^ k * (uint64_t)i;
	return bad || (uint32_t)w[0] != lba || !(w[0] >> 32) ? -1 : (int64_t)(w[0] >> 32);
}

/* ---- the log of pieces ---- */

static struct piece *new_piece(struct oracle *o)
{
	if (o->n + 1 == o->cap)
		o->piece = must(realloc(o->piece, (o->cap *= 2) * sizeof(*o->piece)));
	return &o->piece[++o->n];
}

uint32_t oracle_roll_back(struct oracle *o, const uint32_t *stamps, uint32_t sectors)
{
	struct piece *p = new_piece(o);

	*p = (struct piece){.len = o->sectors, .back = must(calloc(o->sectors, sizeof(uint32_t)))};
	memcpy(p->back, stamps, sectors * sizeof(*stamps));
	return o->n;
}

void oracle_submit(struct oracle *o, uint32_t lba, uint32_t len, bool zero, uint32_t *first,
	uint32_t *last, uint32_t *stamp)
{
	uint32_t max = zero ? len : ORACLE_PIECE_SECTORS;

	assert(len && lba + len <= o->sectors);
	*first = o->n + 1;
	*stamp = 0;
	if (!zero) {
		*stamp = o->tag << NUMBER_BITS | ++o->stamps;
		if (o->stamps == o->stamps_cap)
			o->first_piece = must(
				realloc(o->first_piece, (o->stamps_cap *= 2) * sizeof(uint32_t)));
		o->first_piece[o->stamps] = *first;
	}
	for (uint32_t n; len; lba += n, len -= n) {
		n = len < max ? len : max;
		*new_piece(o) = (struct piece){.lba = lba, .len = n, .stamp = *stamp};
	}
	*last = o->n;
}

void oracle_acked(struct oracle *o, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i <= last; i++) {
		struct piece *p = &o->piece[i];

		p->acked = true;
		for (uint32_t s = p->lba; s < p->lba + p->len; s++)
			if (o->newest[s] < i)
				o->newest[s] = i;
	}
	if (o->acked < last)
		o->acked = last;
}

/* ---- reads ---- */

void oracle_snap(const struct oracle *o, uint32_t lba, uint32_t len, uint32_t *snap)
{
	memcpy(snap, o->newest + lba, len * sizeof(*snap));
}

static bool covers(const struct oracle *o, uint32_t i, uint32_t sector)
{
	return sector >= o->piece[i].lba && sector - o->piece[i].lba < o->piece[i].len;
}

/* The piece that gave `sector` this stamp; 0 none. */
static uint32_t piece_of(const struct oracle *o, uint32_t stamp, uint32_t sector)
{
	uint32_t number = number_of(o, stamp), i = number <= o->stamps ? o->first_piece[number] : 0;

	for (; number && i && i <= o->n && o->piece[i].stamp == stamp; i++)
		if (covers(o, i, sector))
			return i;
	return 0;
}

static bool zeroed_after(const struct oracle *o, uint32_t i, uint32_t sector)
{
	for (i++; i <= o->n; i++)
		if (covers(o, i, sector) && !stamp_of(o, i, sector))
			return true;
	return false;
}

static bool may_read(struct oracle *o, int64_t stamp, uint32_t sector, uint32_t newest)
{
	uint32_t want = stamp_of(o, newest, sector);

	if (stamp == want || (stamp == 0 && zeroed_after(o, newest, sector)) ||
		(stamp > 0 && piece_of(o, (uint32_t)stamp, sector) > newest))
		return true;
	snprintf(o->why, sizeof(o->why),
		"a read of sector %u gave %s %#llx (piece %u); the newest acknowledged was write "
		"%#x (piece %u of %u)",
		sector, stamp < 0 ? "bytes nobody wrote there:" : "write", (long long)stamp,
		stamp > 0 ? piece_of(o, (uint32_t)stamp, sector) : 0, want, newest, o->n);
	return false;
}

bool oracle_check_read(
	struct oracle *o, const void *buf, uint32_t lba, uint32_t len, const uint32_t *snap)
{
	for (uint32_t s = 0; s < len; s++) {
		int64_t stamp = oracle_stamp(o, (const uint8_t *)buf + (size_t)s * 512, lba + s);

		if (stamp != stamp_of(o, snap[s], lba + s) && !may_read(o, stamp, lba + s, snap[s]))
			return false;
	}
	return true;
}

/* ---- crashes ---- */

void oracle_crashed(struct oracle *o, enum oracle_loss loss)
{
	uint32_t left = loss == LOST_PROCESS   ? o->acked
			: loss == LOST_MACHINE ? o->flushed
					       : o->stored;

	if (o->must > left)
		o->must = left;
}

static void forget_after(struct oracle *o, uint32_t n)
{
	for (uint32_t i = n + 1; i <= o->n; i++) {
		uint32_t number = number_of(o, o->piece[i].stamp);

		if (number && o->first_piece[number] > n)
			o->first_piece[number] = 0;
		free(o->piece[i].back);
	}
	o->n = n;
	memset(o->newest, 0, o->sectors * sizeof(*o->newest));
	for (uint32_t i = 1; i <= n; i++) {
		struct piece *p = &o->piece[i];

		p->acked = true;
		for (uint32_t s = 0; s < p->len; s++)
			o->newest[p->lba + s] = i;
	}
	o->acked = n;
	if (o->flushed > n)
		o->flushed = n;
	if (o->stored > n)
		o->stored = n;
}

/* No n fits: tell of the one that comes nearest, and of a sector that differs from it. */
static void explain(
	struct oracle *o, uint32_t sectors, uint32_t lo, uint32_t hi, uint32_t near, uint32_t wrong)
{
	memset(o->now, 0, o->sectors * sizeof(*o->now));
	for (uint32_t i = 1; i <= near; i++)
		for (uint32_t s = 0; s < o->piece[i].len; s++)
			o->now[o->piece[i].lba + s] = i;
	for (uint32_t s = 0; s < sectors; s++) {
		uint32_t stamp = o->seen[s], i = stamp ? piece_of(o, stamp, s) : 0;

		if (stamp == stamp_of(o, o->now[s], s))
			continue;
		snprintf(o->why, sizeof(o->why),
			"it is not the state after n pieces for any n from %u to %u; with n = %u "
			"%u sectors differ: sector %u holds write %#x (piece %u%s) instead of "
			"write %#x (piece %u)",
			lo, hi, near, wrong, s, stamp, i,
			stamp && !i ? ": lost earlier, or foreign" : "", stamp_of(o, o->now[s], s),
			o->now[s]);
		return;
	}
}

/* The n from lo to hi whose state is nearest to what was seen; *least: sectors that differ. */
static uint32_t nearest(
	struct oracle *o, uint32_t sectors, uint32_t lo, uint32_t hi, uint32_t *least)
{
	uint32_t wrong = 0, best = lo;

	memset(o->seen + sectors, 0, (o->sectors - sectors) * sizeof(*o->seen));
	for (uint32_t s = 0; s < o->sectors; s++) {
		o->now[s] = base_stamp(o, s);
		wrong += o->seen[s] != o->now[s];
	}
	*least = lo ? UINT32_MAX : wrong;
	for (uint32_t i = 1; i <= hi; i++) {
		const struct piece *p = &o->piece[i];

		for (uint32_t s = p->lba; s < p->lba + p->len; s++) {
			wrong += o->seen[s] == o->now[s];
			wrong -= o->seen[s] == stamp_of(o, i, s);
			o->now[s] = stamp_of(o, i, s);
		}
		if (wrong <= *least && i >= lo) {
			*least = wrong;
			best = i;
		}
	}
	return best;
}

bool oracle_settle(struct oracle *o, uint32_t sectors, uint32_t least, uint32_t most)
{
	uint32_t lo = o->must == UINT32_MAX ? o->acked : o->must, hi = most < o->n ? most : o->n,
		 wrong = 0, best;

	lo = least > lo ? least : lo;
	best = lo <= hi ? nearest(o, sectors, lo, hi, &wrong) : 0;
	if (lo > hi || wrong) {
		explain(o, sectors, lo, hi, best, wrong);
		return false;
	}
	forget_after(o, best);
	o->must = UINT32_MAX;
	return true;
}

bool oracle_matches(struct oracle *o, uint32_t sectors, uint32_t lo, uint32_t hi)
{
	uint32_t least, best = nearest(o, sectors, lo, hi, &least);

	if (least)
		explain(o, sectors, lo, hi, best, least);
	return !least;
}
