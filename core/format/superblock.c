/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "format/superblock.h"

#include "format/block.h"
#include "format/profile.h"

#include <assert.h>
#include <errno.h>

enum { VERSION = 1, CRC_AT = 12, FIXED_BYTES = 240, RANGE_MIN = 8, RANGES_MAX = 1 << 28 };

static const char magic[8] = "LSVDsupr";

size_t superblock_encode(const struct superblock *sb, void *buf)
{
	size_t len = FIXED_BYTES + (size_t)sb->epochs * 16;
	struct writer w = writer_of(buf, len);

	assert(len <= SUPERBLOCK_BYTES && sb->epochs <= SUPERBLOCK_EPOCHS_MAX);
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
	put_zeroes(&w, FIXED_BYTES - (size_t)(w.p - (uint8_t *)buf));
	for (uint32_t i = 0; i < sb->epochs; i++) {
		put_u64(&w, sb->epoch[i].epoch);
		put_u64(&w, sb->epoch[i].first_seq);
	}
	assert(!w.bad && w.p == w.end);
	block_seal(buf, len, CRC_AT);
	return len;
}

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

int superblock_decode(const void *buf, size_t len, struct superblock *sb, struct err *e)
{
	struct reader r = reader_of(buf, len);
	uint8_t clean;
	int rc = block_check_magic(&r, magic, VERSION, "superblock", e);

	if (rc < 0)
		return rc;
	if (len < FIXED_BYTES || !block_sealed(buf, len, CRC_AT))
		return err_set(e, -EBADMSG, "superblock: checksum does not match");
	get_zeroes(&r, 2);
	reader_take(&r, 4);
	get_bytes(&r, sb->uuid, 16);
	sb->size_sectors = get_u64(&r);
	sb->range_sectors = get_u64(&r);
	sb->created_ns = get_u64(&r);
	sb->checkpoint = get_u64(&r);
	sb->checkpoint_epoch = get_u64(&r);
	sb->profile_bytes = get_u64(&r);
	get_bytes(&r, sb->pool_uuid, 16);
	get_bytes(&r, sb->host, SUPERBLOCK_HOST_MAX);
	sb->pid = get_u32(&r);
	clean = get_u8(&r);
	sb->clean = clean;
	get_zeroes(&r, 3);
	sb->since_ns = get_u64(&r);
	sb->epochs = get_u32(&r);
	get_zeroes(&r, 4);
	sb->pool_generation = get_u64(&r);
	get_zeroes(&r, FIXED_BYTES - (size_t)(r.p - (const uint8_t *)buf));
	if (r.bad || clean > 1 || sb->host[SUPERBLOCK_HOST_MAX - 1] ||
		sb->epochs > SUPERBLOCK_EPOCHS_MAX || len != FIXED_BYTES + (size_t)sb->epochs * 16)
		return err_set(e, -EUCLEAN, "superblock: impossible values");
	for (uint32_t i = 0; i < sb->epochs; i++) {
		sb->epoch[i].epoch = get_u64(&r);
		sb->epoch[i].first_seq = get_u64(&r);
	}
	if (!sizes_possible(sb) || !profile_possible(sb->profile_bytes) || !epochs_rise(sb))
		return err_set(e, -EUCLEAN, "superblock: impossible values");
	return 0;
}

uint64_t superblock_epoch_of(const struct superblock *sb, uint64_t seq)
{
	for (uint32_t i = sb->epochs; i-- > 0;)
		if (sb->epoch[i].first_seq <= seq)
			return sb->epoch[i].epoch;
	return 0;
}
