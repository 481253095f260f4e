/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/superblock.h"

#include "format/block.h"
#include "format/profile.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	VERSION = 2,
	VERSION_AT = 8,
	CRC_AT = 12,
	FIXED_BYTES = 240,
	EPOCH_BYTES = 16,
	SNAPSHOT_BYTES = 128,
	BASE_BYTES = 128,
	RANGE_MIN = 8,
	RANGES_MAX = 1 << 28
};

static const char magic[8] = "LSVDsupr";

static size_t length(uint32_t epochs, uint32_t snapshots, uint32_t bases)
{
	return FIXED_BYTES + (size_t)epochs * EPOCH_BYTES + (size_t)snapshots * SNAPSHOT_BYTES +
	       (size_t)bases * BASE_BYTES;
}

_Static_assert(FIXED_BYTES + SUPERBLOCK_EPOCHS_MAX * EPOCH_BYTES +
			       SUPERBLOCK_SNAPSHOTS_MAX * SNAPSHOT_BYTES +
			       SUPERBLOCK_BASES_MAX * BASE_BYTES <=
		       SUPERBLOCK_BYTES,
	"the longest superblock");

static void put_snapshot(struct writer *w, const struct superblock_snapshot *x)
{
	put_u64(w, x->id);
	put_u64(w, x->size_sectors);
	put_u64(w, x->object_seq);
	put_u64(w, x->epoch);
	put_u64(w, x->checkpoint);
	put_u64(w, x->checkpoint_epoch);
	put_u64(w, x->created_ns);
	put_u32(w, x->flags);
	put_zeroes(w, 4);
	put_bytes(w, x->name, SNAPSHOT_NAME_MAX);
}

static void put_base(struct writer *w, const struct superblock_base *x)
{
	put_bytes(w, x->uuid, 16);
	put_u64(w, x->snapshot);
	put_u64(w, x->object_seq);
	put_u64(w, x->checkpoint);
	put_u64(w, x->checkpoint_epoch);
	put_bytes(w, x->name, SUPERBLOCK_IMAGE_NAME_MAX);
}

size_t superblock_encode(const struct superblock *sb, void *buf)
{
	size_t len = length(sb->epochs, sb->snapshots, sb->bases);
	struct writer w = writer_of(buf, len);

	assert(sb->epochs <= SUPERBLOCK_EPOCHS_MAX && sb->snapshots <= SUPERBLOCK_SNAPSHOTS_MAX &&
		sb->bases <= SUPERBLOCK_BASES_MAX && sb->next_snapshot);
	put_bytes(&w, magic, 8);
	put_u16(&w, VERSION);
	put_u16(&w, 0);
	put_u32(&w, 0); /* CRC */
	put_bytes(&w, sb->uuid, 16);
	put_u64(&w, sb->size_sectors);
	put_u64(&w, sb->range_sectors);
	put_u64(&w, sb->created_ns);
	put_u64(&w, sb->checkpoint);
	put_u64(&w, sb->checkpoint_epoch);
	put_u64(&w, sb->profile_bytes);
	put_bytes(&w, sb->pool_uuid, 16);
	put_bytes(&w, sb->host, SUPERBLOCK_HOST_MAX);
	put_u32(&w, sb->pid);
	put_u8(&w, sb->clean);
	put_zeroes(&w, 3);
	put_u64(&w, sb->since_ns);
	put_u32(&w, sb->epochs);
	put_zeroes(&w, 4);
	put_u64(&w, sb->pool_generation);
	put_u64(&w, sb->next_snapshot);
	put_u32(&w, sb->snapshots);
	put_u32(&w, sb->bases);
	put_u32(&w, sb->profile_base);
	put_zeroes(&w, FIXED_BYTES - (size_t)(w.p - (uint8_t *)buf));
	for (uint32_t i = 0; i < sb->epochs; i++) {
		put_u64(&w, sb->epoch[i].epoch);
		put_u64(&w, sb->epoch[i].first_seq);
	}
	for (uint32_t i = 0; i < sb->snapshots; i++)
		put_snapshot(&w, &sb->snapshot[i]);
	for (uint32_t i = 0; i < sb->bases; i++)
		put_base(&w, &sb->base[i]);
	assert(!w.bad && w.p == w.end);
	block_seal(buf, len, CRC_AT);
	return len;
}

/* ---- what may be ---- */

/* Nothing absurd: a reader allocates a directory entry for each range. */
static bool sizes_possible(const struct superblock *sb)
{
	uint64_t r = sb->range_sectors;

	return sb->size_sectors && sb->size_sectors <= BLOCK_LBA_MAX && r >= RANGE_MIN &&
	       r <= BLOCK_LBA_MAX && !(r & (r - 1)) && sb->size_sectors / r <= RANGES_MAX;
}

static bool profile_possible(uint64_t bytes)
{
	return !bytes ||
	       (bytes >= PROFILE_FIXED_BYTES &&
		       (bytes - PROFILE_FIXED_BYTES) % PROFILE_RANGE_BYTES == 0 &&
		       (bytes - PROFILE_FIXED_BYTES) / PROFILE_RANGE_BYTES <= PROFILE_RANGES_MAX);
}

static bool epochs_rise(const struct superblock *sb)
{
	if (!sb->epochs || !sb->epoch[0].first_seq)
		return false;
	for (uint32_t i = 1; i < sb->epochs; i++)
		if (sb->epoch[i].epoch <= sb->epoch[i - 1].epoch ||
			sb->epoch[i].first_seq < sb->epoch[i - 1].first_seq)
			return false;
	return true;
}

/* Text in a field of its own: ends in it, and nothing follows. */
static bool text_ends(const char *text, size_t room)
{
	size_t n = strnlen(text, room);

	return n && n < room && block_is_zero(text + n, room - n);
}

bool snapshot_name_ok(const char *name)
{
	size_t n = strlen(name);

	return n && n < SNAPSHOT_NAME_MAX && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       n;
}

static bool name_is_new(const struct superblock *sb, uint32_t i)
{
	for (uint32_t k = 0; k < i; k++)
		if (!strcmp(sb->snapshot[k].name, sb->snapshot[i].name))
			return false;
	return true;
}

static bool snapshots_possible(const struct superblock *sb)
{
	uint64_t before = 0;

	for (uint32_t i = 0; i < sb->snapshots; i++) {
		const struct superblock_snapshot *x = &sb->snapshot[i];

		if (x->id <= before || !x->size_sectors || x->size_sectors > BLOCK_LBA_MAX ||
			x->checkpoint > sb->checkpoint || x->flags & ~(uint32_t)SNAPSHOT_FLAGS ||
			!text_ends(x->name, SNAPSHOT_NAME_MAX) || !snapshot_name_ok(x->name) ||
			!name_is_new(sb, i))
			return false;
		before = x->id;
	}
	return sb->next_snapshot > before;
}

static bool bases_possible(const struct superblock *sb)
{
	uint64_t seq = 0, checkpoint = 0;

	for (uint32_t i = 0; i < sb->bases; i++) {
		const struct superblock_base *x = &sb->base[i];

		if (x->object_seq < seq || x->checkpoint < checkpoint ||
			x->checkpoint > sb->checkpoint || !x->snapshot ||
			!text_ends(x->name, SUPERBLOCK_IMAGE_NAME_MAX))
			return false;
		seq = x->object_seq;
		checkpoint = x->checkpoint;
	}
	return sb->epoch[0].first_seq > seq && sb->profile_base <= sb->bases;
}

/* ---- decoding ---- */

static void get_snapshot(struct reader *r, struct superblock_snapshot *x)
{
	x->id = get_u64(r);
	x->size_sectors = get_u64(r);
	x->object_seq = get_u64(r);
	x->epoch = get_u64(r);
	x->checkpoint = get_u64(r);
	x->checkpoint_epoch = get_u64(r);
	x->created_ns = get_u64(r);
	x->flags = get_u32(r);
	get_zeroes(r, 4);
	get_bytes(r, x->name, SNAPSHOT_NAME_MAX);
}

static void get_base(struct reader *r, struct superblock_base *x)
{
	get_bytes(r, x->uuid, 16);
	x->snapshot = get_u64(r);
	x->object_seq = get_u64(r);
	x->checkpoint = get_u64(r);
	x->checkpoint_epoch = get_u64(r);
	get_bytes(r, x->name, SUPERBLOCK_IMAGE_NAME_MAX);
}

static void get_fixed(struct reader *r, const uint8_t *buf, struct superblock *sb, uint8_t *clean)
{
	get_zeroes(r, 2);
	reader_take(r, 4);
	get_bytes(r, sb->uuid, 16);
	sb->size_sectors = get_u64(r);
	sb->range_sectors = get_u64(r);
	sb->created_ns = get_u64(r);
	sb->checkpoint = get_u64(r);
	sb->checkpoint_epoch = get_u64(r);
	sb->profile_bytes = get_u64(r);
	get_bytes(r, sb->pool_uuid, 16);
	get_bytes(r, sb->host, SUPERBLOCK_HOST_MAX);
	sb->pid = get_u32(r);
	*clean = get_u8(r);
	sb->clean = *clean;
	get_zeroes(r, 3);
	sb->since_ns = get_u64(r);
	sb->epochs = get_u32(r);
	get_zeroes(r, 4);
	sb->pool_generation = get_u64(r);
	sb->next_snapshot = 1;
	sb->snapshots = sb->bases = sb->profile_base = 0;
	if (buf[VERSION_AT] > 1) {
		sb->next_snapshot = get_u64(r);
		sb->snapshots = get_u32(r);
		sb->bases = get_u32(r);
		sb->profile_base = get_u32(r);
	}
	get_zeroes(r, FIXED_BYTES - (size_t)(r->p - buf));
}

int superblock_decode(const void *buf, size_t len, struct superblock *sb, struct err *e)
{
	struct reader r = reader_of(buf, len);
	uint8_t clean;
	int rc = block_check_magic(&r, magic, VERSION, "superblock", e);

	if (rc < 0)
		return rc;
	if (len < FIXED_BYTES || !block_sealed(buf, len, CRC_AT))
		return err_set(e, -EBADMSG, "superblock: checksum does not match");
	get_fixed(&r, buf, sb, &clean);
	if (r.bad || clean > 1 || sb->host[SUPERBLOCK_HOST_MAX - 1] ||
		sb->epochs > SUPERBLOCK_EPOCHS_MAX || sb->snapshots > SUPERBLOCK_SNAPSHOTS_MAX ||
		sb->bases > SUPERBLOCK_BASES_MAX ||
		len != length(sb->epochs, sb->snapshots, sb->bases))
		return err_set(e, -EUCLEAN, "superblock: impossible values");
	for (uint32_t i = 0; i < sb->epochs; i++) {
		sb->epoch[i].epoch = get_u64(&r);
		sb->epoch[i].first_seq = get_u64(&r);
	}
	for (uint32_t i = 0; i < sb->snapshots; i++)
		get_snapshot(&r, &sb->snapshot[i]);
	for (uint32_t i = 0; i < sb->bases; i++)
		get_base(&r, &sb->base[i]);
	if (r.bad || !sizes_possible(sb) || !profile_possible(sb->profile_bytes) ||
		!epochs_rise(sb) || !snapshots_possible(sb) || !bases_possible(sb))
		return err_set(e, -EUCLEAN, "superblock: impossible values");
	return 0;
}

/* ---- looking up ---- */

uint64_t superblock_epoch_of(const struct superblock *sb, uint64_t seq)
{
	for (uint32_t i = sb->epochs; i-- > 0;)
		if (sb->epoch[i].first_seq <= seq)
			return sb->epoch[i].epoch;
	return 0;
}

const struct superblock_base *superblock_base_of_object(const struct superblock *sb, uint64_t seq)
{
	for (uint32_t i = 0; i < sb->bases; i++)
		if (seq <= sb->base[i].object_seq)
			return &sb->base[i];
	return NULL;
}

const struct superblock_base *superblock_base_of_checkpoint(
	const struct superblock *sb, uint64_t number)
{
	for (uint32_t i = 0; i < sb->bases; i++)
		if (number <= sb->base[i].checkpoint)
			return &sb->base[i];
	return NULL;
}

const struct superblock_snapshot *superblock_snapshot(const struct superblock *sb, const char *name)
{
	for (uint32_t i = 0; i < sb->snapshots; i++)
		if (!strcmp(sb->snapshot[i].name, name))
			return &sb->snapshot[i];
	return NULL;
}
