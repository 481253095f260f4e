/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_format.c - the codecs of everything on disk: round trips, damage, identity, golden files.
 *
 * What holds for all of them is tested on samples of each kind (format_util.h); what a field may
 * hold is in test_format_fields.c.
 */
#include "test/format_util.h"
#include "test/test.h"

#include <errno.h>

/* ---- all kinds ---- */

static bool refusal(int rc)
{
	return rc == -EBADMSG || rc == -EUCLEAN || rc == -EPROTO;
}

static int decode(const struct sample *x, const uint8_t *bytes, size_t len)
{
	struct err e = {""};
	int rc = sample_decode(x, bytes, len, &e);

	assert_true(rc == 0 || (refusal(rc) && e.msg[0]));
	return rc;
}

TEST(contents_come_back)
{
	uint64_t seed = test_seed();

	for (int kind = 0; kind < SAMPLES; kind++)
		for (uint64_t i = 0; i < 300; i++) {
			uint8_t *again;
			struct sample x;
			size_t n;

			sample_make(&x, (enum sample_kind)kind, seed + i);
			assert_int_equal(decode(&x, x.bytes, x.len), 0);
			assert_int_equal(sample_reencode(x.kind, x.bytes, x.len, &again, &n), 0);
			assert_int_equal(n, x.len);
			assert_memory_equal(again, x.bytes, n);
			free(again);
			sample_free(&x);
		}
}

TEST(records_come_back_field_by_field)
{
	uint64_t seed = test_seed();

	for (uint64_t i = 0; i < 300; i++) {
		struct record_header h;
		struct sample x;

		sample_make(&x, SAMPLE_RECORD, seed + i);
		assert_int_equal(
			record_decode(x.bytes, x.record.uuid, x.record.place, &h, NULL), 0);
		assert_memory_equal(&h, &x.record, sizeof(h));
		for (uint32_t k = 0; k < h.extents; k++) {
			struct record_extent e = {0};

			record_get_extent(x.bytes, k, &e);
			assert_int_equal(e.lba, x.rext[k].lba);
			assert_int_equal(e.len, x.rext[k].len);
			assert_int_equal(e.off, x.rext[k].off);
			assert_int_equal(e.kind, x.rext[k].kind);
		}
		for (uint32_t k = 0; k < h.blocks; k++)
			assert_int_equal(record_get_crc(x.bytes, &h, k), x.crc[k]);
		sample_free(&x);
	}
}

TEST(objects_come_back_field_by_field)
{
	uint64_t seed = test_seed();

	for (uint64_t i = 0; i < 300; i++) {
		struct object_header h;
		struct sample x;

		sample_make(&x, i % 2 ? SAMPLE_OBJECT : SAMPLE_OBJECT_GC, seed + i);
		assert_int_equal(object_decode(x.bytes, x.len, x.object.uuid, x.object.epoch,
					 x.object.seq, &h, NULL),
			0);
		assert_memory_equal(h.uuid, x.object.uuid, 16);
		assert_int_equal(h.epoch, x.object.epoch);
		assert_int_equal(h.seq, x.object.seq);
		assert_int_equal(h.covers, x.object.covers);
		assert_int_equal(h.header_bytes, x.len);
		assert_int_equal(h.data_bytes, x.object.data_bytes);
		assert_int_equal(h.extents, x.object.extents);
		assert_int_equal(h.chunks, x.object.chunks);
		assert_int_equal(h.flags, x.object.flags);
		for (uint32_t k = 0; k < h.extents; k++) {
			struct object_extent e;

			object_get_extent(x.bytes, &h, k, &e);
			assert_int_equal(e.lba, x.oext[k].lba);
			assert_int_equal(e.len, x.oext[k].len);
			assert_int_equal(e.off, x.oext[k].off);
			assert_int_equal(e.kind, x.oext[k].kind);
			assert_int_equal(e.old_seq, x.oext[k].old_seq);
			assert_int_equal(e.old_off, x.oext[k].old_off);
		}
		for (uint32_t k = 0; k < h.chunks; k++)
			assert_int_equal(object_get_crc(x.bytes, &h, k), x.crc[k]);
		sample_free(&x);
	}
}

static void same_snapshot(const struct superblock_snapshot *a, const struct superblock_snapshot *b)
{
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->size_sectors, b->size_sectors);
	assert_int_equal(a->object_seq, b->object_seq);
	assert_int_equal(a->epoch, b->epoch);
	assert_int_equal(a->checkpoint, b->checkpoint);
	assert_int_equal(a->checkpoint_epoch, b->checkpoint_epoch);
	assert_int_equal(a->created_ns, b->created_ns);
	assert_int_equal(a->flags, b->flags);
	assert_memory_equal(a->name, b->name, sizeof(a->name));
}

TEST(headers_and_superblocks_come_back_field_by_field)
{
	struct superblock *sb = malloc(sizeof(*sb));
	uint64_t seed = test_seed();

	for (uint64_t i = 0; i < 100; i++) {
		struct segment_header seg = {0};
		struct pool_header pool;
		struct sample x;

		memset(&pool, 0, sizeof(pool));
		sample_make(&x, SAMPLE_POOL, seed + i);
		assert_int_equal(pool_header_decode(x.bytes, &pool, NULL), 0);
		assert_memory_equal(pool.uuid, x.pool.uuid, 16);
		assert_int_equal(pool.segment_bytes, x.pool.segment_bytes);
		assert_int_equal(pool.segments, x.pool.segments);
		assert_int_equal(pool.leg, x.pool.leg);
		assert_int_equal(pool.legs, x.pool.legs);
		assert_int_equal(pool.members, x.pool.members);
		assert_int_equal(pool.created_ns, x.pool.created_ns);
		assert_int_equal(pool.generation, x.pool.generation);
		assert_memory_equal(pool.opening, x.pool.opening, sizeof(pool.opening));
		sample_free(&x);

		sample_make(&x, SAMPLE_SEGMENT, seed + i);
		assert_int_equal(segment_header_decode(
					 x.bytes, x.segment.pool_uuid, x.segment.index, &seg, NULL),
			0);
		assert_memory_equal(seg.owner, x.segment.owner, 16);
		assert_int_equal(seg.index, x.segment.index);
		assert_int_equal(seg.role, x.segment.role);
		assert_int_equal(seg.alloc, x.segment.alloc);
		assert_int_equal(seg.epoch, x.segment.epoch);
		assert_int_equal(seg.first_seq, x.segment.first_seq);
		sample_free(&x);

		sample_make(&x, SAMPLE_SUPERBLOCK, seed + i);
		assert_int_equal(superblock_decode(x.bytes, x.len, sb, NULL), 0);
		assert_memory_equal(sb->uuid, x.superblock->uuid, 16);
		assert_int_equal(sb->size_sectors, x.superblock->size_sectors);
		assert_int_equal(sb->range_sectors, x.superblock->range_sectors);
		assert_int_equal(sb->created_ns, x.superblock->created_ns);
		assert_int_equal(sb->checkpoint, x.superblock->checkpoint);
		assert_int_equal(sb->checkpoint_epoch, x.superblock->checkpoint_epoch);
		assert_int_equal(sb->profile_bytes, x.superblock->profile_bytes);
		assert_memory_equal(sb->pool_uuid, x.superblock->pool_uuid, 16);
		assert_int_equal(sb->pool_generation, x.superblock->pool_generation);
		assert_string_equal(sb->host, x.superblock->host);
		assert_int_equal(sb->pid, x.superblock->pid);
		assert_int_equal(sb->since_ns, x.superblock->since_ns);
		assert_int_equal(sb->clean, x.superblock->clean);
		assert_int_equal(sb->epochs, x.superblock->epochs);
		assert_memory_equal(
			sb->epoch, x.superblock->epoch, sb->epochs * sizeof(sb->epoch[0]));
		assert_int_equal(sb->next_snapshot, x.superblock->next_snapshot);
		assert_int_equal(sb->profile_base, x.superblock->profile_base);
		assert_int_equal(sb->snapshots, x.superblock->snapshots);
		assert_int_equal(sb->bases, x.superblock->bases);
		for (uint32_t k = 0; k < sb->snapshots; k++)
			same_snapshot(&sb->snapshot[k], &x.superblock->snapshot[k]);
		for (uint32_t k = 0; k < sb->bases; k++)
			assert_memory_equal(
				&sb->base[k], &x.superblock->base[k], sizeof(sb->base[k]));
		sample_free(&x);
	}
	free(sb);
}

TEST(checkpoints_come_back_field_by_field)
{
	uint64_t seed = test_seed();

	for (uint64_t i = 0; i < 200; i++) {
		struct checkpoint_header h;
		struct sample x;

		sample_make(&x, SAMPLE_CHECKPOINT, seed + i);
		assert_int_equal(checkpoint_decode(x.bytes, x.len, x.checkpoint.uuid,
					 x.checkpoint.epoch, x.checkpoint.number, &h, NULL),
			0);
		assert_memory_equal(&h, &x.checkpoint, sizeof(h));
		for (uint32_t k = 0; k < h.live; k++) {
			struct checkpoint_live l;

			checkpoint_get_live(x.bytes, &h, k, &l);
			assert_memory_equal(&l, &x.live[k], sizeof(l));
		}
		for (uint32_t k = 0; k < h.objects; k++) {
			struct checkpoint_object o;

			checkpoint_get_object(x.bytes, &h, k, &o);
			assert_memory_equal(&o, &x.objects[k], sizeof(o));
		}
		for (uint32_t k = 0; k < h.removed; k++)
			assert_int_equal(checkpoint_get_removed(x.bytes, &h, k), x.removed[k]);
		for (uint32_t k = 0; k < h.dirs; k++) {
			struct checkpoint_dir d;

			checkpoint_get_dir(x.bytes, &h, k, &d);
			assert_memory_equal(&d, &x.dirs[k], sizeof(d));
		}
		for (uint32_t k = 0; k < h.deferred; k++) {
			struct checkpoint_deferred d;

			checkpoint_get_deferred(x.bytes, &h, k, &d);
			assert_memory_equal(&d, &x.deferred[k], sizeof(d));
		}
		for (uint32_t k = 0; k < h.kept; k++) {
			struct checkpoint_kept d;

			checkpoint_get_kept(x.bytes, &h, k, &d);
			assert_memory_equal(&d, &x.kept[k], sizeof(d));
		}
		sample_free(&x);
	}
}

TEST(every_flipped_bit_is_refused)
{
	for (int kind = 0; kind < SAMPLES; kind++) {
		struct sample x;
		uint64_t seed = test_seed();

		do {
			sample_make(&x, (enum sample_kind)kind, seed++);
			if (x.len <= 8192)
				break;
			sample_free(&x);
		} while (true);
		for (size_t bit = 0; bit < x.len * 8; bit++) {
			x.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_true(refusal(decode(&x, x.bytes, x.len)));
			x.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		assert_int_equal(decode(&x, x.bytes, x.len), 0);
		sample_free(&x);
	}
}

/* Each in memory of its own, so that a sanitizer sees a read beyond it. */
TEST(whatever_is_cut_off_is_refused)
{
	for (int kind = SAMPLE_OBJECT; kind < SAMPLES; kind++) {
		struct sample x;

		sample_make(&x, (enum sample_kind)kind, test_seed());
		for (size_t len = 0; len < x.len; len += len < 300 ? 1 : 61) {
			uint8_t *cut = malloc(len + !len);

			memcpy(cut, x.bytes, len);
			assert_true(refusal(decode(&x, cut, len)));
			free(cut);
		}
		sample_free(&x);
	}
}

/* Bytes after a superblock are not of it; a header is followed by data. */
TEST(what_is_too_long_is_seen)
{
	struct sample x;
	uint8_t *longer;

	sample_make(&x, SAMPLE_SUPERBLOCK, test_seed());
	longer = calloc(1, x.len + 16);
	memcpy(longer, x.bytes, x.len);
	assert_int_equal(decode(&x, longer, x.len + 16), -EBADMSG);
	free(longer);
	sample_free(&x);
	sample_make(&x, SAMPLE_OBJECT, test_seed());
	longer = calloc(1, x.len + 16);
	memcpy(longer, x.bytes, x.len);
	assert_int_equal(decode(&x, longer, x.len + 16), 0);
	free(longer);
	sample_free(&x);
}

TEST(random_bytes_are_refused)
{
	uint64_t rand = test_seed();

	for (int kind = 0; kind < SAMPLES; kind++)
		for (int i = 0; i < 200; i++) {
			struct sample x;
			size_t n = 1 + test_rand(&rand) % 200;

			sample_make(&x, (enum sample_kind)kind, rand);
			for (size_t k = 0; k < n; k++)
				x.bytes[test_rand(&rand) % x.len] ^=
					(uint8_t)(1 + test_rand(&rand) % 255);
			sample_fuzz(x.kind, x.bytes, x.len);
			sample_free(&x);
		}
}

/* ---- identity (I10) ---- */

static void expect_foreign(struct sample *x)
{
	assert_int_equal(decode(x, x->bytes, x->len), -EUCLEAN);
}

TEST(what_belongs_elsewhere_is_refused)
{
	struct sample x;

	sample_make(&x, SAMPLE_SEGMENT, 1);
	x.segment.pool_uuid[3] ^= 1;
	expect_foreign(&x);
	x.segment.pool_uuid[3] ^= 1;
	x.segment.index++;
	expect_foreign(&x);
	sample_free(&x);

	sample_make(&x, SAMPLE_RECORD, 1);
	x.record.uuid[15] ^= 1;
	expect_foreign(&x);
	x.record.uuid[15] ^= 1;
	x.record.place ^= 1;
	expect_foreign(&x);
	sample_free(&x);

	sample_make(&x, SAMPLE_OBJECT, 1);
	x.object.uuid[0] ^= 1;
	expect_foreign(&x);
	x.object.uuid[0] ^= 1;
	x.object.epoch++;
	expect_foreign(&x);
	x.object.epoch--;
	x.object.seq++;
	expect_foreign(&x);
	sample_free(&x);

	sample_make(&x, SAMPLE_CHECKPOINT, 1);
	x.checkpoint.uuid[7] ^= 1;
	expect_foreign(&x);
	x.checkpoint.uuid[7] ^= 1;
	x.checkpoint.epoch++;
	expect_foreign(&x);
	x.checkpoint.epoch--;
	x.checkpoint.number++;
	expect_foreign(&x);
	sample_free(&x);
}

/* ---- golden files: core/test/golden/KIND-vVERSION-SEED.bin, only ever added ---- */

/* False: not run from the top of the tree. */
static bool golden(enum sample_kind kind, unsigned version, uint64_t seed)
{
	struct sample x;
	char path[100];
	uint8_t *got;
	FILE *fp;

	sample_make_version(&x, kind, seed, version);
	snprintf(path, sizeof(path), "core/test/golden/%s-v%u-%d.bin", sample_name(kind), version,
		(int)seed);
	fp = fopen(path, "rb");
	if (!fp && getenv("GOLDEN_WRITE")) {
		fp = fopen(path, "w+b");
		assert_int_equal(fwrite(x.bytes, 1, x.len, fp), x.len);
		rewind(fp);
	}
	if (!fp) {
		sample_free(&x);
		return false;
	}
	got = malloc(x.len + 1);
	assert_int_equal(fread(got, 1, x.len + 1, fp), x.len);
	fclose(fp);
	assert_memory_equal(got, x.bytes, x.len);
	assert_int_equal(decode(&x, got, x.len), 0);
	free(got);
	sample_free(&x);
	return true;
}

TEST(golden_files_read_and_write_the_same)
{
	for (int kind = 0; kind < SAMPLES; kind++)
		for (unsigned v = 1; v <= sample_versions((enum sample_kind)kind); v++)
			for (uint64_t seed = 1; seed <= 2; seed++)
				if (!golden((enum sample_kind)kind, v, seed))
					SKIP("run from the top of the tree");
}

/* What version 1 wrote is all there, and what it did not know is as if it had never been. */
TEST(version_1_means_the_same)
{
	struct superblock *sb = malloc(sizeof(*sb));

	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct checkpoint_header h;
		struct sample x;

		struct pool_header pool;

		sample_make_version(&x, SAMPLE_POOL, seed, 1);
		assert_int_equal(x.bytes[8], 1);
		assert_int_equal(pool_header_decode(x.bytes, &pool, NULL), 0);
		assert_int_equal(pool.members, (1 << pool.legs) - 1);
		sample_free(&x);
		sample_make_version(&x, SAMPLE_SUPERBLOCK, seed, 1);
		assert_int_equal(x.bytes[8], 1);
		assert_int_equal(superblock_decode(x.bytes, x.len, sb, NULL), 0);
		assert_int_equal(sb->checkpoint, x.superblock->checkpoint);
		assert_int_equal(sb->snapshots + sb->bases + sb->profile_base, 0);
		assert_int_equal(sb->next_snapshot, 1);
		sample_free(&x);
		sample_make_version(&x, SAMPLE_CHECKPOINT, seed, 1);
		assert_int_equal(checkpoint_decode(x.bytes, x.len, x.checkpoint.uuid,
					 x.checkpoint.epoch, x.checkpoint.number, &h, NULL),
			0);
		assert_memory_equal(&h, &x.checkpoint, sizeof(h));
		assert_int_equal(h.deferred + h.kept, 0);
		assert_int_equal(h.slices, h.full_number == h.number ? CHECKPOINT_ALL_SLICES : 0);
		sample_free(&x);
	}
	free(sb);
}
