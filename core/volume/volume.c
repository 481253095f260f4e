/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume.c - looking up, names, facts, and how a volume fails. */
#include "volume/volume_impl.h"

#include "sys/log.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Eight digits in one go, a nibble a byte: every read makes a name. */
static char *put_hex_half(char *p, uint32_t x)
{
	static const uint64_t ones = 0x0101010101010101u;
	uint64_t v = x, digits;

	v = (v | v << 16) & 0x0000ffff0000ffffu;
	v = (v | v << 8) & 0x00ff00ff00ff00ffu;
	v = (v | v << 4) & 0x0f0f0f0f0f0f0f0fu;
	digits = v + '0' * ones + ((v + 6 * ones) >> 4 & ones) * ('a' - '0' - 10);
	digits = htobe64(digits);
	memcpy(p, &digits, sizeof(digits));
	return p + sizeof(digits);
}

static char *put_hex(char *p, uint64_t x)
{
	return put_hex_half(put_hex_half(p, (uint32_t)(x >> 32)), (uint32_t)x);
}

static void two_part_name(
	char out[STORE_NAME_MAX], const char *name, const char *prefix, uint64_t a, uint64_t b)
{
	size_t n = strlen(name), k = strlen(prefix);
	char *p = out;

	memcpy(p, name, n);
	p += n;
	*p++ = '/';
	memcpy(p, prefix, k);
	p = put_hex(p + k, a);
	*p++ = '.';
	p = put_hex(p, b);
	*p = 0;
}

void volume_object_name(char out[STORE_NAME_MAX], const char *name, uint64_t epoch, uint64_t seq)
{
	two_part_name(out, name, "", epoch, seq);
}

void volume_ckpt_name(char out[STORE_NAME_MAX], const char *name, uint64_t epoch, uint64_t number)
{
	two_part_name(out, name, "ckpt.", epoch, number);
}

void volume_object_name_in(const struct superblock *sb, char out[STORE_NAME_MAX], const char *name,
	uint64_t epoch, uint64_t seq)
{
	const struct superblock_base *b = superblock_base_of_object(sb, seq);

	volume_object_name(out, b ? b->name : name, epoch, seq);
}

void volume_ckpt_name_in(const struct superblock *sb, char out[STORE_NAME_MAX], const char *name,
	uint64_t epoch, uint64_t number)
{
	const struct superblock_base *b = superblock_base_of_checkpoint(sb, number);

	volume_ckpt_name(out, b ? b->name : name, epoch, number);
}

bool volume_find(const struct volume *v, uint64_t lba, uint64_t len, struct volume_hit *hit)
{
	struct extent e;

	if (!extmap_find(v->map, lba, &e) || e.lba >= lba + len)
		return false;
	hit->lba = e.lba;
	hit->len = e.lba + e.len > lba + len ? lba + len - e.lba : e.len;
	hit->slot = place_slot(e.place);
	hit->off = place_offset(e.place);
	return true;
}

void volume_ref(const struct volume *v, uint32_t slot, struct object_ref *ref)
{
	const struct object *o = objmap_get(v->objects, slot);
	const struct superblock_base *base =
		v->sb->bases ? superblock_base_of_object(v->sb, o->seq) : NULL;

	/* I12: who shares a base shares what is cached of it. */
	memcpy(ref->uuid, base ? base->uuid : v->sb->uuid, 16);
	ref->epoch = o->epoch;
	ref->seq = o->seq;
	ref->header_bytes = o->hdr_sectors * 512;
	ref->data_bytes = o->data_sectors * 512;
	ref->store = v->store;
	volume_object_name(ref->name, base ? base->name : v->name, o->epoch, o->seq);
}

void volume_fail(struct volume *v, int status)
{
	if (v->failed)
		return;
	v->failed = status; /* I13 */
	destage_check_drains(v);
	snapshots_fail(v, status);
	if (status == -ESTALE)
		writer_find_thief(v);
	/* Nothing will make room in the journal any more: writes that wait for it end now. */
	if (v->journal)
		journal_fail(v->journal, status);
}

/* So long it may fail before the operator hears of it: a daemon that restarts is no news. */
static const uint64_t complain_after_ns = 1000000000u;

void volume_store_failed(struct volume *v, int64_t status, const struct err *err)
{
	uint64_t now = loop_now(v->loop);

	v->stats.store_errors++;
	v->store_status = (int)status;
	snprintf(v->store_why.msg, sizeof(v->store_why.msg), "%s", err_text(err, (int)status));
	if (!v->store_fails_since_ns)
		v->store_fails_since_ns = now;
	if (v->store_complained || !v->journal || now < v->store_fails_since_ns + complain_after_ns)
		return;
	v->store_complained = true;
	log_say("image '%s': the store fails: %s; it is tried again and again, and writes go on while the "
		"journal has room, then wait",
		v->name, v->store_why.msg);
}

void volume_store_works(struct volume *v)
{
	if (v->store_complained)
		log_say("image '%s': the store works again", v->name);
	v->store_fails_since_ns = 0;
	v->store_complained = false;
}

bool volume_worth_retrying(int64_t status)
{
	return status == -EIO || status == -EACCES || status == -EPERM || status == -ENOSPC ||
	       status == -ETIMEDOUT || status == -EAGAIN || status == -EDQUOT ||
	       status == -ENOENT || status == -EROFS || status == -ENODEV || status == -ENOMEM ||
	       status == -ENOTDIR || status == -EMFILE || status == -ENFILE;
}

uint64_t volume_backoff_ns(const struct volume *v, uint32_t tries)
{
	uint64_t ns = (uint64_t)v->cfg.store_retry_ms * 1000000, max = 5000000000u;

	while (tries-- && ns < max)
		ns *= 2;
	if (ns > max)
		ns = max;
	return ns / 2 + loop_random(v->loop) % (ns / 2 + 1);
}

struct journal *volume_journal(struct volume *v)
{
	return v->journal;
}
const struct superblock *volume_superblock(const struct volume *v)
{
	return v->sb;
}
uint64_t volume_size_sectors(const struct volume *v)
{
	return v->sb->size_sectors;
}
int volume_failed(const struct volume *v)
{
	return v->failed;
}

void volume_failed_text(const struct volume *v, char *out, size_t len)
{
	if (v->failed == -ESTALE)
		snprintf(out, len, "taken over by %s",
			v->lost_to[0] ? v->lost_to : "another writer");
	else
		snprintf(out, len, "%s", v->failed ? strerror(-v->failed) : "");
}

const char *volume_taken_from(const struct volume *v)
{
	return v->taken_from;
}
uint64_t volume_covered(const struct volume *v)
{
	return v->covers_applied;
}
uint64_t volume_replayed(const struct volume *v)
{
	return v->replayed;
}
uint64_t volume_extents(const struct volume *v)
{
	return extmap_count(v->map);
}

uint64_t volume_objects(const struct volume *v, uint64_t *stored_bytes, uint64_t *live_bytes)
{
	struct objmap_sum sum = objmap_sum(v->objects, 0);

	*stored_bytes = sum.data_sectors * 512;
	*live_bytes = sum.live_sectors * 512;
	return objmap_count(v->objects);
}

uint64_t volume_base_bytes(const struct volume *v)
{
	return objmap_sum(v->objects, OBJECT_BASE).data_sectors * 512;
}

size_t volume_map_bytes(const struct volume *v)
{
	return extmap_memory(v->map) + objmap_memory(v->objects);
}

size_t volume_memory_bytes(const struct volume *v)
{
	return extmap_memory(v->map) + objmap_memory(v->objects) +
	       (v->journal ? journal_memory_bytes(v->journal) : 0);
}

void volume_get_stats(const struct volume *v, struct volume_stats *st)
{
	*st = v->stats;
	st->dirty_bytes = v->dirty_bytes;
}
