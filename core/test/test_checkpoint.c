/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_checkpoint.c - what checkpoints cost, on a 64 TiB volume whose map has many extents, spread
 * in several ways; that they say what the map says; that old ones go.
 *
 * The volume is only its maps: objects are applied, but never put.  CKPT_EXTENTS=10000000 runs it
 * at full size: a checkpoint after 10 000 writes.  Without, everything is a 25th of it.
 */
#include "test/store_util.h"
#include "test/test.h"
#include "volume/checkpoint_impl.h"

#include "sys/loop_sim.h"
#include "sys/loop_uring.h"

#include <errno.h>
#include <inttypes.h>

enum { SECTORS = 8, PER_OBJECT = 2048 };

struct env {
	uint64_t size_sectors;
	struct mem_objects *o;
	struct cache *cache;
	struct loop *l;
	struct store *s;
	struct volume *v;
	uint64_t rand, extents;
	uint64_t (*where)(struct env *e, uint64_t i); /* the LBA of extent i */
};

static uint64_t draw(struct env *e, uint64_t below)
{
	return test_rand(&e->rand) % below;
}

static struct volume *maps_new(const struct env *e)
{
	struct volume *v = calloc(1, sizeof(*v));
	uint8_t uuid[16] = "just maps";

	v->loop = e->l;
	v->store = e->s;
	v->cache = e->cache;
	snprintf(v->name, sizeof(v->name), "big");
	v->cfg = (struct config){.checkpoint_bytes = UINT64_MAX, .store_retry_ms = 100};
	v->sb = calloc(1, sizeof(*v->sb));
	v->map = extmap_new();
	v->objects = objmap_new();
	superblock_init(v->sb, uuid, e->size_sectors, 1);
	v->epoch = 1;
	v->sb->epoch[0].epoch = 1;
	apply_init(v);
	assert_int_equal(checkpointer_new(v) | collector_none(v), 0);
	return v;
}

static void maps_free(struct volume *v)
{
	collector_free(v);
	checkpointer_free(v);
	extmap_free(v->map);
	objmap_free(v->objects);
	free(v->sb);
	free(v);
}

static void env_init_on(struct env *e, struct loop *l, uint64_t (*where)(struct env *, uint64_t))
{
	static const struct config cfg = {.cache_chunk_bytes = 65536};
	const char *n = getenv("CKPT_EXTENTS");
	struct err err = {""};

	*e = (struct env){.rand = test_seed() | 1,
		.l = l,
		.where = where,
		.extents = n ? strtoull(n, NULL, 10) : 400000};
	assert_int_equal(mem_objects_new(&e->o), 0);
	assert_int_equal(store_mem_on(e->l, e->o, &e->s), 0);
	assert_int_equal(cache_open(e->l, NULL, &cfg, &e->cache, &err), 0);
	e->extents = (e->extents + PER_OBJECT - 1) / PER_OBJECT * PER_OBJECT;
	e->size_sectors = (1ull << 37) / 10000000 * e->extents; /* 64 TiB for 10 million */
	e->v = maps_new(e);
}

static void env_init(struct env *e, uint64_t (*where)(struct env *, uint64_t))
{
	struct err err = {""};
	struct loop *l;

	assert_int_equal(loop_sim_new(1, &l, &err), 0);
	env_init_on(e, l, where);
}

static void env_fini(struct env *e)
{
	maps_free(e->v);
	cache_close(e->cache);
	store_close(e->s);
	loop_free(e->l);
	mem_objects_free(e->o);
}

/* An object with so many extents of 4 KiB, at these places. */
static void apply(struct env *e, const uint64_t *lba, uint32_t n)
{
	struct object_header h = {.epoch = 1,
		.seq = e->v->applied_seq + 1,
		.header_bytes = 65536,
		.data_bytes = n * SECTORS * 512};
	uint32_t slot;

	assert_int_equal(apply_object(e->v, &h, &slot), 0);
	for (uint32_t i = 0; i < n; i++) {
		struct object_extent x = {.lba = lba[i], .len = SECTORS, .off = i * SECTORS};

		assert_int_equal(apply_extent(e->v, slot, &x, false), 0);
	}
	apply_done(e->v, h.seq, 0);
}

static void fill(struct env *e)
{
	uint64_t lba[PER_OBJECT];

	for (uint64_t i = 0; i < e->extents; i += PER_OBJECT) {
		for (uint32_t k = 0; k < PER_OBJECT; k++)
			lba[k] = e->where(e, i + k);
		apply(e, lba, PER_OBJECT);
	}
}

static void write_some(struct env *e, uint64_t n)
{
	uint64_t lba[PER_OBJECT];

	while (n) {
		uint32_t k = n < PER_OBJECT ? (uint32_t)n : PER_OBJECT;

		for (uint32_t i = 0; i < k; i++)
			lba[i] = e->where(e, draw(e, e->extents));
		apply(e, lba, k);
		n -= k;
	}
}

static uint64_t checkpoint(struct env *e)
{
	uint64_t before = e->v->stats.checkpoint_bytes;

	if (volume_checkpoint(e->v) < 0)
		fail_msg("checkpoint: %d", e->v->failed);
	return e->v->stats.checkpoint_bytes - before;
}

struct compared {
	const struct volume *a, *b;
	uint64_t n;
};

static int compare(void *arg, const struct extent *x)
{
	struct compared *c = arg;
	const struct object *o = objmap_get(c->a->objects, place_slot(x->place)), *p;
	struct extent y;

	if (!extmap_find(c->b->map, x->lba, &y))
		fail_msg("%" PRIu64 " is not there", x->lba);
	p = objmap_get(c->b->objects, place_slot(y.place));
	assert_int_equal(y.lba, x->lba);
	assert_int_equal(y.len, x->len);
	assert_int_equal(p->seq, o->seq);
	assert_int_equal(p->live_sectors, o->live_sectors);
	assert_int_equal(place_offset(y.place), place_offset(x->place));
	c->n++;
	return 0;
}

/* What a reader makes of it is the map. */
static void read_back(struct env *e)
{
	struct volume *v = maps_new(e);
	struct compared c = {.a = e->v, .b = v};
	uint64_t seq, covers;
	struct err err = {""};

	*v->sb = *e->v->sb;
	if (checkpoint_load(v, &seq, &covers, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(seq, e->v->applied_seq);
	assert_int_equal(volume_extents(v), volume_extents(e->v));
	assert_int_equal(objmap_count(v->objects), objmap_count(e->v->objects));
	extmap_walk(e->v->map, 0, EXTMAP_LBA_MAX, compare, &c);
	assert_int_equal(c.n, volume_extents(v));
	maps_free(v);
}

static uint64_t stored_checkpoints(struct env *e, uint64_t *bytes)
{
	const char *list = util_list(e->s, "big/ckpt");
	uint64_t n = 0;

	*bytes = 0;
	for (const char *p = list; (p = strchr(p, ':')); n++)
		*bytes += strtoull(++p, NULL, 10);
	return n;
}

/* After 1/1000 of the extents was written at random, a checkpoint writes less than 5 % of the map:
 * each of so many that every slice was listed twice.  And old ones are cleaned. */
static void costs(uint64_t (*where)(struct env *, uint64_t))
{
	uint64_t map, most = 0, sum = 0, stored, n;
	struct env e;

	env_init(&e, where);
	fill(&e);
	checkpoint(&e);
	map = volume_extents(e.v) * CHECKPOINT_EXTENT_BYTES;
	for (int i = 0; i < 40; i++) {
		uint64_t bytes;

		write_some(&e, e.extents / 1000);
		bytes = checkpoint(&e);
		most = bytes > most ? bytes : most;
		sum += bytes;
		if (bytes * 20 >= map)
			fail_msg("checkpoint %d has %" PRIu64 " bytes, the map %" PRIu64, i, bytes,
				map);
	}
	n = stored_checkpoints(&e, &stored);
	print_message("map %.1f MiB in %" PRIu64 " extents; a checkpoint %.2f %%, at most %.2f %%; "
		      "stored: %" PRIu64 " of together %.2f times the map\n",
		(double)map / 1048576, volume_extents(e.v), 100.0 * (double)sum / 40 / (double)map,
		100.0 * (double)most / (double)map, n, (double)stored / (double)map);
	read_back(&e);
	assert_true(stored < 3 * map);
	env_fini(&e);
}

/* Each extent somewhere in its own part of the whole. */
static uint64_t spread(struct env *e, uint64_t i)
{
	uint64_t part = e->size_sectors / e->extents / SECTORS;

	return (i * part + i * 0x9E3779B97F4A7C15ull % part) * SECTORS;
}

TEST(extents_spread_evenly)
{
	costs(spread);
}

/* All in one corner, with holes of 12 KiB. */
static uint64_t dense(struct env *e, uint64_t i)
{
	(void)e;
	return i * 4 * SECTORS;
}

TEST(extents_close_together)
{
	costs(dense);
}

/* Clumps of 100 000, dense within, and nothing in between. */
static uint64_t clumps(struct env *e, uint64_t i)
{
	uint64_t clump = i / 100000, n = e->extents / 100000 + 1;

	return clump * (e->size_sectors / n / SECTORS * SECTORS) + i % 100000 * 2 * SECTORS;
}

TEST(extents_in_clumps)
{
	costs(clumps);
}

/* ---- a small map, changed in every way ---- */

static void change(struct env *e)
{
	uint64_t lba[64], base = draw(e, 64) << 20;
	uint32_t n = (uint32_t)(1 + draw(e, 64));

	for (uint32_t i = 0; i < n; i++)
		lba[i] = base + draw(e, 1 << (6 + draw(e, 14))) * SECTORS;
	apply(e, lba, n);
	if (draw(e, 4) == 0) {
		struct object_extent x = {.lba = base + draw(e, 1 << 20),
			.len = (uint32_t)(1 + draw(e, 1 << 20)),
			.kind = EXTENT_DISCARD};
		struct object_header h = {
			.epoch = 1, .seq = e->v->applied_seq + 1, .header_bytes = 4096};
		uint32_t slot;

		assert_int_equal(apply_object(e->v, &h, &slot), 0);
		assert_int_equal(apply_extent(e->v, slot, &x, false), 0);
		apply_done(e->v, h.seq, 0);
	}
}

/* Begun and not waited for: objects are applied while ranges are being encoded. */
TEST(a_checkpoint_shows_one_moment)
{
	struct env e;

	env_init(&e, spread);
	for (int round = 0; round < 200; round++) {
		for (uint64_t i = draw(&e, 20); i > 0; i--)
			change(&e);
		if (draw(&e, 3)) {
			checkpoint_start(e.v);
			for (uint64_t i = draw(&e, 6); i > 0; i--) {
				change(&e);
				loop_poll(e.l, 0);
			}
		}
		if (round % 10 == 9) {
			checkpoint(&e);
			read_back(&e);
			assert_true(
				e.v->ckpt->number - e.v->ckpt->full_number <= CHECKPOINT_SLICES);
		}
	}
	env_fini(&e);
}

/* Many checkpoints that each leave a little behind: they are folded, not piled up. */
TEST(small_checkpoints_do_not_pile_up)
{
	uint64_t bytes, sum = 0;
	struct env e;

	env_init(&e, spread);
	for (uint64_t i = 0; i < 1000; i++) {
		apply(&e, &(uint64_t){i << 21}, 1);
		sum += checkpoint(&e);
	}
	assert_true(stored_checkpoints(&e, &bytes) < 200);
	assert_true(sum / 1000 < 32768);
	read_back(&e);
	env_fini(&e);
}

/* ---- reading ---- */

static void env_init_real(struct env *e)
{
	struct err err = {""};
	struct loop *l;

	assert_int_equal(loop_uring_new(64, &l, &err), 0);
	env_init_on(e, l, spread);
}

/* Many chunks, of several payloads that have each a part of every region, read by two threads. */
TEST(a_large_map_is_read_by_two)
{
	struct env e;

	env_init_real(&e);
	for (int i = 0; i < 3; i++) {
		write_some(&e, e.extents / 2);
		checkpoint(&e);
	}
	read_back(&e);
	env_fini(&e);
}

/* Pieces within which runs end are cut there, and the runs are whole again afterwards. */
TEST(runs_longer_than_a_piece_are_joined)
{
	uint64_t lba[PER_OBJECT];
	struct env e;

	env_init(&e, dense);
	fill(&e);
	for (uint64_t i = 0; i < 16; i++) {
		for (uint32_t k = 0; k < PER_OBJECT; k++)
			lba[k] = (i * 2 * PER_OBJECT + k) * SECTORS;
		apply(&e, lba, PER_OBJECT);
	}
	checkpoint(&e);
	read_back(&e);
	env_fini(&e);
}

/* What is wrong with a checkpoint that is so in every byte as it was meant to be. */
static void refused(struct env *e, int status, const char *what)
{
	struct volume *v = maps_new(e);
	uint64_t seq, covers;
	struct err err = {""};

	*v->sb = *e->v->sb;
	assert_int_equal(checkpoint_load(v, &seq, &covers, &err), status);
	if (!strstr(err.msg, what))
		fail_msg("'%s' does not say '%s'", err.msg, what);
	assert_int_equal(extmap_count(v->map), 0);
	maps_free(v);
}

/* Map a place that is not so. */
static void lie(struct env *e, uint64_t lba, uint64_t place)
{
	struct ranges *rs = &e->v->ckpt->ranges;

	assert_int_equal(extmap_insert(e->v->map, lba, SECTORS, place, NULL, NULL), 0);
	ranges_mark(rs, lba / rs->sectors, lba, SECTORS);
	checkpoint(e);
}

TEST(an_extent_beyond_its_object_is_refused)
{
	struct env e;

	env_init_real(&e);
	write_some(&e, e.extents / 2);
	lie(&e, 0, place_of(0, objmap_get(e.v->objects, 0)->data_sectors - SECTORS + 1));
	refused(&e, -EUCLEAN, "impossible");
	env_fini(&e);
}

/* Whoever counts them. */
TEST(sectors_mapped_twice_are_refused)
{
	struct env e;

	env_init_real(&e);
	fill(&e);
	lie(&e, e.size_sectors - SECTORS, place_of(0, 0));
	refused(&e, -EUCLEAN, "");
	env_fini(&e);
}

/* The directory says more of a piece than its payload can have: by itself, or with all others. */
static void refused_with(uint32_t extents)
{
	struct env e;
	struct range_dir *d = NULL;

	env_init_real(&e);
	fill(&e);
	checkpoint(&e);
	for (uint64_t r = 0; !d || !d->extents || d->offset_bytes; r++)
		d = range_piece(&e.v->ckpt->ranges.range[r], 0);
	d->extents = extents;
	e.v->ckpt->complete = true;
	checkpoint(&e);
	refused(&e, -EUCLEAN, "outside");
	env_fini(&e);
}

TEST(a_directory_that_asks_for_too_much_is_refused)
{
	refused_with(UINT32_MAX);
	refused_with(300000);
}

/* Flips a bit of an object of `size` bytes; at its end: cuts the last byte off. */
static void damage(struct env *e, const char *name, uint64_t size, uint64_t off)
{
	uint8_t *buf = malloc(size);
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct store_req get = {
		.op = STORE_GET, .name = name, .iov = &iov, .iovcnt = 1, .len_bytes = size};
	struct store_req del = {.op = STORE_DELETE, .name = name};
	struct store_req put = {.op = STORE_PUT, .name = name, .iov = &iov, .iovcnt = 1};

	assert_non_null(buf);
	assert_int_equal(store_wait(e->s, &get), size);
	if (off < size)
		buf[off] ^= 1;
	else
		size--;
	iov.iov_len = put.len_bytes = size;
	assert_int_equal(store_wait(e->s, &del), 0);
	assert_int_equal(store_wait(e->s, &put), 0);
	free(buf);
}

/* A bit of the last chunk, and the last byte missing. */
TEST(a_damaged_payload_is_refused)
{
	char name[STORE_NAME_MAX];
	const struct checkpoint_live *x;
	struct env e;
	uint64_t size;

	env_init_real(&e);
	fill(&e);
	checkpoint(&e);
	x = &e.v->ckpt->live[0].x;
	size = x->meta_bytes + x->payload_bytes;
	volume_ckpt_name(name, e.v->name, x->epoch, x->number);
	damage(&e, name, size, size - 1);
	refused(&e, -EBADMSG, "checksum");
	damage(&e, name, size, size);
	refused(&e, -EUCLEAN, "cut off");
	env_fini(&e);
}
