/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of an image: structures that are whole and say what cannot be; what nobody needs, and
 * its repair; images that move, checks that are cut short, stores that fail.
 */
#include "format/block.h"
#include "sys/crc.h"
#include "test/fsck_env.h"
#include "volume/fsck_impl.h"

#include <errno.h>

enum { CHECKPOINT_CRC_AT = 12 };

/* ---- structures that are whole and wrong ---- */

struct edited {
	const char *name;
	uint8_t *p;
	size_t len;
	struct checkpoint_header h;
};

static void edit_begin(struct fx *v, struct edited *x)
{
	x->name = fx_checkpoint(v);
	x->p = fx_load(v, x->name, &x->len);
	assert_int_equal(checkpoint_decode_fixed(x->p, x->len, &x->h, &v->e), 0);
}

/* The first range's payload was changed: give it its checksum. */
static void edit_end(struct fx *v, struct edited *x, bool payload)
{
	size_t dir = CHECKPOINT_FIXED_BYTES + (size_t)x->h.live * 32 + (size_t)x->h.objects * 32 +
		     (size_t)x->h.removed * 8;
	struct checkpoint_dir d;

	checkpoint_get_dir(x->p, &x->h, 0, &d);
	if (payload) {
		uint32_t crc = crc32c(0, x->p + x->h.meta_bytes + d.offset_bytes, d.extents * 24);
		struct writer w = writer_of(x->p + dir + 28, 4);

		put_u32(&w, crc);
	}
	block_seal(x->p, x->h.meta_bytes, CHECKPOINT_CRC_AT);
	fx_replace(v, x->name, x->p, x->len);
	free(x->p);
}

static void edit_extent(struct fx *v, void (*change)(struct checkpoint_extent *x))
{
	struct checkpoint_extent x;
	struct edited ed;

	edit_begin(v, &ed);
	checkpoint_get_extent(ed.p + ed.h.meta_bytes, &x);
	change(&x);
	checkpoint_put_extent(ed.p + ed.h.meta_bytes, &x);
	edit_end(v, &ed, true);
}

static void beyond_object(struct checkpoint_extent *x)
{
	x->off += 1 << 20;
}
static void of_nobody(struct checkpoint_extent *x)
{
	x->seq = 9999;
}
static void overlapping(struct checkpoint_extent *x)
{
	x->len += 8192;
}

TEST(an_impossible_extent_of_the_map_is_found)
{
	static void (*const change[])(struct checkpoint_extent *) = {
		beyond_object, of_nobody, overlapping};
	struct fx v;

	for (unsigned i = 0; i < 3; i++) {
		fx_make_image(&v);
		edit_extent(&v, change[i]);
		fx_check(&v, 0);
		assert_true(v.r.errors >= 1);
		assert_int_equal(fx_count(&v, FSCK_MAP), v.r.errors);
		assert_string_equal(v.r.findings[0].object, fx_checkpoint(&v));
		fx_fini(&v);
	}
}

static void elsewhere(struct checkpoint_extent *x)
{
	x->off += 8;
	x->len -= 8;
}

/* In bounds, but not where the header has the data: the live count differs too. */
TEST(a_map_that_points_to_other_data_is_found)
{
	struct fx v;

	fx_make_image(&v);
	edit_extent(&v, elsewhere);
	fx_check(&v, 0);
	assert_int_equal(fx_count(&v, FSCK_MAP), 1);
	assert_int_equal(fx_count(&v, FSCK_LIVE), 1);
	assert_int_equal(v.r.n, 2);
	fx_fini(&v);
}

TEST(a_wrong_live_count_is_found)
{
	struct edited ed;
	struct writer w;
	struct fx v;

	fx_make_image(&v);
	edit_begin(&v, &ed);
	assert_true(ed.h.objects > 0);
	w = writer_of(ed.p + CHECKPOINT_FIXED_BYTES + ed.h.live * 32 + 24, 4);
	put_u32(&w, 1);
	edit_end(&v, &ed, false);
	fx_check(&v, 0);
	fx_only(&v, FSCK_WARNING, FSCK_LIVE, fx_object(&v, 0));
	fx_fini(&v);
}

TEST(a_table_that_differs_from_the_header_is_found)
{
	struct checkpoint_object x;
	struct edited ed;
	struct writer w;
	struct fx v;

	fx_make_image(&v);
	edit_begin(&v, &ed);
	checkpoint_get_object(ed.p, &ed.h, 0, &x);
	w = writer_of(ed.p + CHECKPOINT_FIXED_BYTES + ed.h.live * 32 + 20, 4);
	put_u32(&w, x.data_sectors + 8);
	edit_end(&v, &ed, false);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_TABLE, fx_object(&v, 0));
	fx_fini(&v);
}

TEST(a_superblock_that_is_an_old_copy_is_found)
{
	struct superblock *sb;
	struct fx v;
	const char *name;
	char old[STORE_NAME_MAX];

	fx_make_image(&v);
	fx_open_image(&v);
	fx_close_image(&v); /* an epoch with a checkpoint and no objects */
	sb = fx_super_of(&v);
	name = fx_checkpoint(&v);
	snprintf(old, sizeof(old), "v/%016x.%016x", 7, 1);
	assert_int_equal(util_put(v.store[1], old, "", 0), 0);
	fx_check(&v, 0);
	fx_only(&v, FSCK_ERROR, FSCK_EPOCH, old);
	assert_int_equal(util_delete(v.store[1], old), 0);
	sb->checkpoint_epoch++;
	fx_put_super(&v, sb);
	fx_check(&v, 0);
	assert_true(fx_count(&v, FSCK_EPOCH) == 1 && fx_count(&v, FSCK_MISSING) == 1);
	assert_non_null(name);
	fx_fini(&v);
}

TEST(a_table_of_epochs_with_a_gap_is_found)
{
	struct superblock *sb;
	struct fx v;

	fx_make_image(&v);
	sb = fx_super_of(&v);
	sb->epoch[0].first_seq += 1000;
	fx_put_super(&v, sb);
	fx_check(&v, 0);
	fx_only(&v, FSCK_ERROR, FSCK_EPOCH, "v/super");
	fx_fini(&v);
}

TEST(an_object_of_an_epoch_that_did_not_write_it_is_found)
{
	struct superblock *sb;
	struct fx v;

	fx_make_open_image(&v);
	sb = fx_super_of(&v);
	assert_int_equal(sb->epochs, 2);
	sb->epoch[1].first_seq--; /* the last object before it is epoch 1's */
	fx_put_super(&v, sb);
	fx_check(&v, 0);
	fx_only(&v, FSCK_ERROR, FSCK_EPOCH, fx_object(&v, (int)v.r.objects - 5));
	(void)lsvd_image_close(v.img, v.e.msg); /* fenced */
	lsvd_ctx_close(v.ctx);
	fx_fini(&v);
}

/* ---- the log after the checkpoint ---- */

TEST(a_hole_at_the_open_end_is_none_and_in_an_older_epoch_is_damage)
{
	struct superblock *sb;
	uint64_t epoch, seq;
	struct fx v;
	const char *gone;

	fx_make_open_image(&v);
	gone = fx_object(&v, -1);
	assert_true(fsck_parse_object(strchr(gone, '/') + 1, &epoch, &seq));
	seq -= 2;
	gone = fx_object(&v, (int)seq - 1);
	assert_int_equal(util_delete(v.store[1], gone), 0);
	fx_check(&v, FSCK_DATA);
	assert_false(
		fsck_has_problems(&v.r)); /* as if never put: what follows is not of the image */
	assert_int_equal(v.r.objects_after, 1);
	assert_int_equal(fx_count(&v, FSCK_PENDING), 2);
	sb = fx_super_of(&v);
	sb->epoch[sb->epochs++] =
		(struct superblock_epoch){.epoch = epoch + 1, .first_seq = seq + 3};
	fx_put_super(&v, sb);
	fx_check(&v, FSCK_DATA);
	fx_only(&v, FSCK_ERROR, FSCK_MISSING, gone);
	assert_int_equal(v.r.objects_after, 3);
	(void)lsvd_image_close(v.img, v.e.msg);
	lsvd_ctx_close(v.ctx);
	fx_fini(&v);
}

TEST(what_goes_on_after_a_clean_close_is_not_of_the_image)
{
	struct superblock *sb;
	struct fx v;

	fx_make_open_image(&v);
	sb = fx_super_of(&v);
	sb->clean = true;
	fx_put_super(&v, sb);
	fx_check(&v, 0);
	assert_int_equal(v.r.objects_after, 0);
	assert_int_equal(fx_count(&v, FSCK_ORPHAN), 4);
	assert_int_equal(fx_count(&v, FSCK_PENDING), 0);
	(void)lsvd_image_close(v.img, v.e.msg);
	lsvd_ctx_close(v.ctx);
	fx_fini(&v);
}

/* ---- what nobody needs, and repair ---- */

static void put_name(struct fx *v, const char *name)
{
	assert_int_equal(util_put(v->store[1], name, "garbage", 7), 0);
}

TEST(orphans_and_strays_are_found_and_only_old_orphans_are_deleted)
{
	static const char *const old[] = {
		"v/0000000000000000.0000000000000003", "v/ckpt.0000000000000000.0000000000000001"};
	static const char *const last = "v/0000000000000002.0000000000000fff";
	char *before, *after;
	struct fx v;

	fx_make_image(&v);
	fx_open_image(&v);
	fx_close_image(&v); /* the last epoch is 2 */
	before = strdup(util_list(v.store[1], ""));
	for (unsigned i = 0; i < 2; i++) {
		put_name(&v, old[i]);
		fx_check(&v, FSCK_DATA);
		assert_true(fx_only(&v, FSCK_WARNING, FSCK_ORPHAN, old[i])->repairable);
		assert_int_equal(v.r.orphan_bytes, 7);
		fx_check(&v, FSCK_REPAIR);
		assert_true(fx_only(&v, FSCK_WARNING, FSCK_ORPHAN, old[i])->repaired);
		assert_false(fsck_has_problems(&v.r));
		assert_string_equal(util_list(v.store[1], ""), before);
		fx_check(&v, FSCK_DATA);
		fx_none(&v);
	}
	put_name(&v, last);
	fx_check(&v, FSCK_REPAIR);
	assert_false(fx_only(&v, FSCK_WARNING, FSCK_ORPHAN, last)->repairable);
	assert_true(fsck_has_problems(&v.r));
	assert_int_equal(util_delete(v.store[1], last), 0);
	put_name(&v, "v/notes.txt");
	after = strdup(util_list(v.store[1], ""));
	fx_check(&v, FSCK_REPAIR);
	fx_only(&v, FSCK_WARNING, FSCK_STRAY, "v/notes.txt");
	assert_string_equal(util_list(v.store[1], ""), after);
	free(before);
	free(after);
	fx_fini(&v);
}

TEST(repair_deletes_nothing_of_a_damaged_image)
{
	static const char *const orphan = "v/0000000000000000.0000000000000003";
	struct fx v;
	char *list;

	fx_make_image(&v);
	put_name(&v, orphan);
	fx_flip(&v, fx_object(&v, 2), 8 * 100);
	list = strdup(util_list(v.store[1], ""));
	fx_check(&v, FSCK_REPAIR);
	assert_true(v.r.kept_orphans);
	assert_int_equal(v.r.repaired, 0);
	assert_int_equal(v.r.errors, 1);
	assert_int_equal(v.r.warnings, 1);
	assert_string_equal(util_list(v.store[1], ""), list);
	free(list);
	fx_fini(&v);
}

TEST(repair_waits_for_nobody_to_have_the_image)
{
	static const char *const orphan = "v/0000000000000000.0000000000000003";
	struct fx v;

	fx_make_open_image(&v);
	put_name(&v, orphan);
	assert_int_equal(fsck_run(
				 &(struct fsck_params){
					 .store = v.store[1], .name = "v", .flags = FSCK_REPAIR},
				 &v.r, &v.e),
		-EBUSY);
	fx_check(&v, 0); /* a note: the next opening sees to it */
	assert_false(fsck_has_problems(&v.r));
	assert_int_equal(fx_count(&v, FSCK_ORPHAN), 1);
	fx_close_image(&v);
	fx_check(&v, FSCK_REPAIR);
	assert_int_equal(v.r.repaired, 1);
	fx_open_image(&v); /* the lock was given back */
	fx_close_image(&v);
	fx_fini(&v);
}

/* ---- a moving image, interruptions, a failing store ---- */

struct meddler {
	struct fx *v;
	int calls, stop_at;
	bool move;
};

static int meddle(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	struct meddler *m = arg;

	assert_true(done <= total || total == 0);
	assert_true(strlen(phase) > 0);
	m->calls++;
	if (m->move)
		fx_put_super(m->v, fx_super_of(m->v));
	return m->calls == m->stop_at;
}

static int check_with(struct fx *v, struct meddler *m)
{
	fsck_report_fini(&v->r);
	return fsck_run(
		&(struct fsck_params){
			.store = v->store[1], .name = "v", .progress = meddle, .arg = m},
		&v->r, &v->e);
}

TEST(findings_of_a_moving_image_are_not_believed)
{
	struct meddler m = {0};
	struct fx v;
	int calls;

	fx_make_image(&v);
	m.v = &v;
	assert_int_equal(check_with(&v, &m), 0);
	calls = m.calls;
	assert_true(calls > 5);
	put_name(&v, "v/stray");
	assert_int_equal(check_with(&v, &m), 0);
	assert_int_equal(m.calls, 2 * calls);
	assert_false(v.r.changing);
	m.move = true;
	assert_int_equal(check_with(&v, &m), 0);
	assert_int_equal(m.calls, 6 * calls); /* four attempts */
	assert_true(v.r.changing);
	fx_only(&v, FSCK_WARNING, FSCK_STRAY, "v/stray");
	fx_fini(&v);
}

TEST(a_check_can_be_cut_short_anywhere)
{
	struct fx v;

	fx_make_image(&v);
	for (int i = 1; i < 12; i++) {
		struct meddler m = {.v = &v, .stop_at = i};

		assert_int_equal(check_with(&v, &m), -ECANCELED);
		assert_int_equal(m.calls, i);
	}
	fx_fini(&v);
}

struct breaker {
	struct store *fault;
	const char *phase; /* with its first progress the store begins to fail */
};

static int break_store(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	struct breaker *b = arg;

	(void)done;
	(void)total;
	if (!strcmp(phase, b->phase))
		store_fault_rules(b->fault)->fail_ppm[STORE_GET] = 1000000;
	return 0;
}

TEST(what_cannot_be_read_is_found_and_what_fails_now_and_then_is_not)
{
	static const char *const phases[] = {
		"checkpoints", "map", "objects after the checkpoint", "objects"};
	struct fault_rules rules = {.seed = 5};
	struct store *inner, *fault;
	struct fx v;

	fx_make_open_image(&v);
	rules.fail_ppm[STORE_GET] = 20000;
	assert_int_equal(store_mem_on(v.loop[1], v.o, &inner), 0);
	assert_int_equal(store_fault_new(inner, &rules, &fault), 0);
	assert_int_equal(
		fsck_run(&(struct fsck_params){.store = fault, .name = "v"}, &v.r, &v.e), 0);
	assert_false(fsck_has_problems(&v.r));
	for (unsigned i = 0; i < 4; i++) {
		struct breaker b = {.fault = fault, .phase = phases[i]};

		store_fault_rules(fault)->fail_ppm[STORE_GET] = 0;
		fsck_report_fini(&v.r);
		assert_int_equal(fsck_run(&(struct fsck_params){.store = fault,
						  .name = "v",
						  .progress = break_store,
						  .arg = &b},
					 &v.r, &v.e),
			0);
		assert_true(v.r.errors > 0);
		assert_int_equal(fx_count(&v, FSCK_UNREADABLE), v.r.errors);
		assert_int_equal(v.r.n, v.r.errors + 1); /* and the note that it is open */
	}
	store_close(fault);
	fx_close_image(&v);
	fx_fini(&v);
}
