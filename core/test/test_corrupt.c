/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_corrupt.c - every structure on disk and in the store with a byte flipped, cut off, or
 * replaced by another volume's: detected or harmless; never wrong data, never a crash.
 *
 * Each trial opens a whole image and reads all of it.  CORRUPT_STEP (default 127) is how many bytes
 * of headers are passed over from trial to trial; 1, as in `make test`, tries every byte.
 */
#include "test/corrupt_env.h"

#include "format/object.h"
#include "format/record.h"
#include "format/segment.h"
#include "store/store.h"
#include "test/sim_memory.h"

#include <inttypes.h>

enum { BLOCK = 4096, HEAD = 512 };

static uint64_t rng;

static uint64_t draw(uint64_t n)
{
	return test_rand(&rng) % n;
}

static uint64_t step(void)
{
	const char *s = getenv("CORRUPT_STEP");
	uint64_t n = s ? strtoull(s, NULL, 10) : 127;

	return n ? n : 1;
}

/* Samples of what is not a header: as many as there are, but fewer in a short run. */
static uint64_t samples(uint64_t n)
{
	return 1 + n / (step() < 16 ? step() : 16);
}

static uint8_t any_bit(void)
{
	return (uint8_t)(1u << draw(8));
}

static void tell(const char *what)
{
	print_message("%s: %" PRIu64 " refused, %" PRIu64 " partly readable, %" PRIu64
		      " harmless\n",
		what, trials[REFUSED], trials[PARTLY], trials[WHOLE]);
	memset(trials, 0, sizeof(trials));
}

static struct victim *begin(bool clean, unsigned legs)
{
	struct victim *v;

	rng = test_seed() | 1;
	v = victim_new(clean, legs, 1 + test_seed() % 1000);
	memset(trials, 0, sizeof(trials));
	assert_int_equal(trial(v, &(struct damage){0}, TRIAL_EXACT), WHOLE);
	assert_int_equal(trial(v, &(struct damage){0}, TRIAL_READONLY), WHOLE);
	memset(trials, 0, sizeof(trials));
	return v;
}

/* ---- the store ---- */

/* Read-only is cheap, so every byte; every 16th for writing, too. */
static void flip_object(struct victim *v, const char *name, uint64_t at)
{
	struct damage d = {.kind = DAMAGE_FLIP, .object = name, .at = at, .xor = any_bit()};

	trial(v, &d, TRIAL_READONLY);
	if (draw(16) == 0)
		trial(v, &d, 0);
}

static void cut_object(struct victim *v, const char *name, uint64_t at)
{
	struct damage d = {.kind = DAMAGE_CUT, .object = name, .at = at};

	trial(v, &d, TRIAL_READONLY);
	if (draw(8) == 0)
		trial(v, &d, 0);
}

static void replace_object(struct victim *v, const char *name, const char *other)
{
	struct damage d = {.kind = DAMAGE_OTHER, .object = name, .other = other};

	trial(v, &d, TRIAL_READONLY);
	trial(v, &d, 0);
}

/* Behind the last byte that is not zero comes padding, of which a sample is enough. */
static uint64_t next_byte(uint64_t at, uint64_t fields)
{
	return at + (at < fields ? step() : 8 * step());
}

static void attack_object(
	struct victim *v, const char *name, size_t len, size_t header, uint64_t fields)
{
	char twin[STORE_NAME_MAX], other[STORE_NAME_MAX];
	size_t other_len;
	uint8_t byte;

	for (uint64_t at = draw(step()); at < header; at = next_byte(at, fields))
		flip_object(v, name, at);
	for (uint64_t i = 0; len > header && i < samples(48); i++)
		flip_object(v, name, header + draw(len - header));
	for (uint64_t at = draw(step()); at < header; at = next_byte(at, fields) + 6 * step())
		cut_object(v, name, at);
	for (uint64_t i = 0; len > header && i < samples(16); i++)
		cut_object(v, name, header + draw(len - header));
	cut_object(v, name, len - 1);
	for (unsigned k = DAMAGE_LONGER; k <= DAMAGE_GONE; k += DAMAGE_GONE - DAMAGE_LONGER) {
		struct damage d = {.kind = (enum damage_kind)k, .object = name};

		trial(v, &d, TRIAL_READONLY | (k == DAMAGE_GONE ? TRIAL_PREFIX : 0));
		trial(v, &d, 0);
	}
	snprintf(twin, sizeof(twin), "w%s", name + 1);
	if (victim_get(v, twin, &byte, 1)) /* else it would be a lost one */
		replace_object(v, name, twin);
	for (unsigned n = 0; victim_object(v, "v/", n, other, &other_len); n++)
		if (strcmp(other, name) && (step() == 1 || draw(8) == 0))
			replace_object(v, name, other);
}

static void attack_objects(struct victim *v, const char *prefix, bool data, const char *what)
{
	static uint8_t buf[1 << 20];
	char name[STORE_NAME_MAX];
	struct object_header h;
	unsigned n;
	size_t len;

	for (n = 0; victim_object(v, prefix, n, name, &len); n++) {
		size_t header = len, fields;

		assert_int_equal(victim_get(v, name, buf, sizeof(buf)), len);
		if (data) {
			assert_int_equal(object_decode_fixed(buf, len, &h, NULL), 0);
			header = h.header_bytes;
		}
		for (fields = header; fields && !buf[fields - 1];)
			fields--;
		/* All of it, once. */
		attack_object(v, name, len, header, n ? fields : header);
	}
	assert_true(n > 0);
	print_message("%u objects; ", n);
	tell(what);
}

TEST(data_objects)
{
	struct victim *v = begin(false, 1);

	attack_objects(v, "v/0", true, "data objects");
	victim_free(v);
}

TEST(checkpoints)
{
	struct victim *v = begin(false, 1);

	attack_objects(v, "v/ckpt", false, "checkpoints");
	victim_free(v);
}

TEST(superblock)
{
	struct victim *v = begin(false, 1);

	attack_objects(v, "v/super", false, "superblock");
	victim_free(v);
}

/* It is advice: an image without it is slower, and that is all. */
TEST(boot_profile)
{
	struct victim *v = begin(false, 1);
	struct damage d = {.object = "v/profile"};
	size_t len;
	char name[STORE_NAME_MAX];

	assert_true(victim_object(v, d.object, 0, name, &len));
	for (uint64_t at = draw(step()); at < len; at += step())
		for (unsigned k = DAMAGE_FLIP; k <= DAMAGE_GONE; k++) {
			d.kind = (enum damage_kind)k;
			d.at = at;
			d.xor = any_bit();
			d.other = draw(2) ? "w/profile" : "v/super";
			if (trial(v, &d, TRIAL_READONLY) != WHOLE ||
				(draw(8) == 0 && trial(v, &d, TRIAL_EXACT) != WHOLE))
				fail_msg("a damaged profile does harm");
		}
	tell("boot profile");
	victim_free(v);
}

/* ---- the pool ---- */

static void flip_pool(struct victim *v, uint64_t at, unsigned flags, bool harmless)
{
	struct damage d = {.kind = DAMAGE_FLIP, .at = at, .xor = any_bit()};
	enum outcome out;

	if (v->pool[1])
		d.leg = (unsigned)draw(2);
	out = trial(v, &d, flags);
	if (harmless && out != WHOLE)
		fail_msg("a flip at %" PRIu64 " of the pool does harm: %d", at, (int)out);
}

static void flip_block(
	struct victim *v, uint64_t at, uint64_t fields, unsigned flags, bool harmless)
{
	for (uint64_t i = draw(step()); i < fields; i += step())
		flip_pool(v, at + i, flags, harmless);
	for (uint64_t i = 0; i < samples(16); i++)
		flip_pool(v, at + fields + draw(BLOCK - fields), flags, harmless);
}

static uint64_t segment_at(const struct victim *v, uint32_t i)
{
	return v->first_bytes + (uint64_t)i * CV_SEGMENT;
}

/* Is a whole header of a record of ours at this block? */
static bool record_at(const struct victim *v, uint32_t seg, uint32_t block, struct record_header *h)
{
	uint64_t place = (uint64_t)seg * (CV_SEGMENT / BLOCK) + block;

	return record_decode(v->pool[0] + segment_at(v, seg) + (uint64_t)block * BLOCK, v->uuid,
		       place, h, NULL) == 0;
}

/* gone_flags: of the trial in which it is zeroes. */
static void replace_block(struct victim *v, uint64_t at, uint64_t from, unsigned gone_flags)
{
	struct damage d = {.kind = DAMAGE_OTHER, .at = at, .from = from};

	trial(v, &d, 0);
	d.kind = DAMAGE_GONE;
	trial(v, &d, gone_flags);
}

static void attack_record(
	struct victim *v, uint32_t seg, uint32_t block, const struct record_header *h)
{
	uint64_t at = segment_at(v, seg) + (uint64_t)block * BLOCK,
		 fields = RECORD_FIXED_BYTES + 16 * h->extents + 4 * h->blocks;

	flip_block(v, at, fields, 0, false);
	for (uint64_t i = 0; h->blocks && i < samples(8); i++)
		flip_pool(v, at + BLOCK + draw((uint64_t)h->blocks * BLOCK), 0, false);
	replace_block(v, at, segment_at(v, (uint32_t)draw(v->segments)) + draw(64) * BLOCK, 0);
	replace_block(v, at, segment_at(v, seg) + draw(64) * BLOCK, 0);
}

TEST(journal_records)
{
	struct victim *v = begin(false, 1);
	struct record_header h;
	unsigned n = 0;

	for (uint32_t i = 0; i < v->segments; i++)
		for (uint32_t b = 1; v->segment[i].ours && b < CV_SEGMENT / BLOCK; b++)
			if (record_at(v, i, b, &h) && (h.flushed || step() > 1 || draw(2))) {
				attack_record(v, i, b, &h);
				n++;
			}
	assert_true(n >= 9);
	print_message("%u records; ", n);
	tell("journal records");
	victim_free(v);
}

TEST(pool_header)
{
	struct victim *v = begin(false, 1);

	flip_block(v, 0, HEAD, 0, false);
	replace_block(v, 0, segment_at(v, 0), 0);
	tell("pool header");
	victim_free(v);
}

/* Zeroes are what a pool writes over the header of a segment that it should forget: they are believed,
 * and what was in the segment, and behind it, is lost.  What is left is a state that was once. */
TEST(segment_headers)
{
	struct victim *v = begin(false, 1);
	unsigned n = 0;

	for (uint32_t i = 0; i < v->segments; i++) {
		if (!v->segment[i].ours && draw(4))
			continue;
		flip_block(v, segment_at(v, i), 128, v->segment[i].ours ? 0 : TRIAL_EXACT,
			!v->segment[i].ours);
		for (uint32_t j = 0; j < v->segments; j++)
			if (j != i)
				replace_block(v, segment_at(v, i), segment_at(v, j), TRIAL_PREFIX);
		n++;
	}
	print_message("%u headers; ", n);
	tell("segment headers");
	victim_free(v);
}

/* A mirror: what one leg says wrong, the other says right. */
TEST(one_leg_of_two)
{
	struct victim *v = begin(false, 2);
	struct record_header h;

	for (uint32_t i = 0; i < v->segments; i++) {
		if (!v->segment[i].ours)
			continue;
		flip_block(v, segment_at(v, i), 128, TRIAL_EXACT, true);
		for (uint32_t b = 1; b < CV_SEGMENT / BLOCK; b++)
			if (record_at(v, i, b, &h))
				flip_block(v, segment_at(v, i) + (uint64_t)b * BLOCK, 256,
					TRIAL_EXACT, true);
	}
	tell("one leg of two");
	victim_free(v);
}

/* Whatever happens to the cache, an image that was closed is there. */
TEST(read_cache)
{
	struct victim *v = begin(true, 1);
	unsigned n = 0;

	for (uint32_t i = 0; i < v->segments; i++) {
		if (v->segment[i].role != SEGMENT_CACHE)
			continue;
		/* header, both summaries, chunks */
		flip_block(v, segment_at(v, i), 128, TRIAL_EXACT, true);
		for (unsigned b = 1; b <= 2; b++) {
			uint64_t at = segment_at(v, i) + b * BLOCK, fields = 1024;

			while (fields > 64 && !v->pool[0][at + fields - 1])
				fields--;
			flip_block(v, at, fields, TRIAL_EXACT, true);
		}
		for (uint64_t k = 0; k < samples(64); k++)
			flip_pool(v, segment_at(v, i) + BLOCK + draw(CV_SEGMENT - BLOCK),
				TRIAL_EXACT, true);
		n++;
	}
	assert_true(n > 0);
	print_message("%u segments; ", n);
	tell("read cache");
	victim_free(v);
}
