/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/corrupt_env.h"

#include "format/profile.h"
#include "format/segment.h"
#include "image/image_impl.h"
#include "store/impl.h"
#include "store/overlay.h"
#include "sys/loop_sim.h"
#include "test/store_util.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

uint64_t trials[3];

static char now_doing[400] = "nothing yet";

/* ---- contents ---- */

static void fill_sector(uint64_t w[64], uint32_t lba, uint32_t stamp)
{
	uint64_t x = ((uint64_t)lba << 32 | stamp) * 0x9e3779b97f4a7c15ull;

	memset(w, 0, 512);
	if (!stamp)
		return;
	w[0] = (uint64_t)lba << 32 | stamp;
	for (unsigned i = 1; i < 64; i++)
		w[i] = x += 0xbf58476d1ce4e5b9ull;
}

/* The stamp of a sector, 0 zeroes, UINT32_MAX: nobody wrote this here. */
static uint32_t stamp_of(const void *sector, uint32_t lba)
{
	uint64_t have[64], want[64];

	memcpy(have, sector, 512);
	if (have[0] && have[0] >> 32 != lba)
		return UINT32_MAX;
	fill_sector(want, lba, (uint32_t)have[0]);
	return memcmp(have, want, 512) ? UINT32_MAX : (uint32_t)have[0];
}

/* ---- a device over bytes of ours ---- */

enum { NOTED = 16384, NOTES = CV_POOL / NOTED };

/* A copy of a leg, and what of it may not be as the original is. */
struct leg {
	uint8_t *bytes;
	bool touched[NOTES];
};

struct bytes_dev {
	struct bdev d;
	struct leg *leg;
	struct loop_task task;
	struct bdev_req *done, **end;
};

static void touch(struct leg *l, uint64_t at, uint64_t len)
{
	for (uint64_t i = at / NOTED; i < (at + len + NOTED - 1) / NOTED; i++)
		l->touched[i] = true;
}

static void dev_submit(struct bdev *d, struct bdev_req *r)
{
	struct bytes_dev *m = container_of(d, struct bytes_dev, d);
	uint8_t *at = m->leg->bytes + r->offset_bytes;

	if (r->op == BDEV_WRITE)
		touch(m->leg, r->offset_bytes, r->len_bytes);
	for (int i = 0; r->op <= BDEV_WRITE && i < r->iovcnt; at += r->iov[i++].iov_len)
		if (r->op == BDEV_WRITE)
			memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
		else
			memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
	r->next = NULL;
	*m->end = r;
	m->end = &r->next;
	loop_defer(d->loop, &m->task);
}

static void dev_finish(struct loop_task *t)
{
	struct bytes_dev *m = container_of(t, struct bytes_dev, task);
	struct bdev_req *r = m->done, *next;

	m->done = NULL;
	m->end = &m->done;
	for (; r; r = next) {
		next = r->next;
		r->done(r, 0);
	}
}

static void dev_close(struct bdev *d)
{
	free(container_of(d, struct bytes_dev, d));
}

static const struct bdev_ops dev_ops = {.submit = dev_submit, .close = dev_close};

static struct bdev *dev_new(struct loop *l, struct leg *leg)
{
	struct bytes_dev *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->d = (struct bdev){.ops = &dev_ops,
		.loop = l,
		.size_bytes = CV_POOL,
		.sector_bytes = 512,
		.url = "bytes:"};
	m->leg = leg;
	m->task.run = dev_finish;
	m->end = &m->done;
	return &m->d;
}

/* ---- a store that brings one thing damaged ---- */

struct damager {
	struct store s;
	struct store *inner;
	const struct damage *d;
};

struct damaged {
	struct store_req in;
	struct store_req *out;
};

static void flip(struct store_req *out, uint64_t at, uint8_t xor, int64_t got)
{
	uint64_t from = out->off_bytes;

	if (at < from || at >= from + (uint64_t)got)
		return;
	for (int i = 0; i < out->iovcnt; from += out->iov[i++].iov_len)
		if (at - from < out->iov[i].iov_len) {
			((uint8_t *)out->iov[i].iov_base)[at - from] ^= xor;
			return;
		}
}

static void damaged_back(struct store_req *in, int64_t status)
{
	struct damaged *q = container_of(in, struct damaged, in);
	struct store_req *out = q->out;
	const struct damage *d = container_of(out->store, struct damager, s)->d;
	bool hit = out->op == STORE_GET && d->object && !strcmp(out->name, d->object);

	store_req_up(out, in);
	if (hit && status >= 0) {
		uint64_t off = out->off_bytes;

		if (d->kind == DAMAGE_FLIP)
			flip(out, d->at, d->xor, status);
		if (d->kind == DAMAGE_LONGER)
			out->size_bytes++;
		if (d->kind == DAMAGE_CUT && out->size_bytes > d->at) {
			out->size_bytes = d->at;
			if (off + (uint64_t)status > d->at)
				status = off < d->at ? (int64_t)(d->at - off) : 0;
		}
	}
	free(q);
	store_complete(out, status);
}

static int damaged_item(struct store_req *in, const char *name, uint64_t size)
{
	struct store_req *out = container_of(in, struct damaged, in)->out;

	return out->item(out, name, size);
}

static void damager_submit(struct store *s, struct store_req *r)
{
	struct damager *m = container_of(s, struct damager, s);
	bool hit = m->d->object && !strcmp(r->name, m->d->object);
	struct damaged *q;

	if (hit && m->d->kind == DAMAGE_GONE && r->op == STORE_GET) {
		store_complete_later(r, -ENOENT);
		return;
	}
	q = calloc(1, sizeof(*q));
	assert_non_null(q);
	store_req_down(&q->in, r);
	if (hit && m->d->kind == DAMAGE_OTHER && r->op == STORE_GET)
		q->in.name = m->d->other;
	q->in.done = damaged_back;
	q->in.item = damaged_item;
	q->out = r;
	store_submit(m->inner, &q->in);
}

static void damager_close(struct store *s)
{
	struct damager *m = container_of(s, struct damager, s);

	store_close(m->inner);
	free(m);
}

static const struct store_ops damager_ops = {.submit = damager_submit, .close = damager_close};

static struct store *damager_new(struct loop *l, struct mem_objects *o, const struct damage *d)
{
	struct damager *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	assert_int_equal(store_mem_on(l, o, &m->inner), 0);
	store_init(&m->s, l, &damager_ops, "damage", "mem:");
	m->d = d;
	return &m->s;
}

/* ---- a machine ---- */

struct machine {
	struct loop *loop, *below;
	struct store *store;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	struct err e;
	struct bdev *leg[2]; /* a death leaves them open */
};

static const struct damage no_damage;

static struct lsvd_config *config(void)
{
	static const char *const set[][2] = {{"pool.segment", "256K"}, {"object.size", "64K"},
		{"journal.ram", "4M"}, {"journal.record", "16K"}, {"checkpoint.interval", "512K"},
		{"cache.chunk", "16K"}, {"destage.age_ms", "0"}, {"readahead.max", "0"},
		{"gc.start", "60"}, {"gc.stop", "65"}, {"store.retry_ms", "1"}};
	struct lsvd_config *cfg = lsvd_config_defaults();

	for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++)
		assert_int_equal(lsvd_config_set(cfg, set[i][0], set[i][1], NULL), 0);
	return cfg;
}

static void never_ends(void *arg)
{
	(void)arg;
	fail_msg("no end: %s", now_doing);
}

static void machine_init(struct machine *m)
{
	static uint64_t seed;

	*m = (struct machine){0};
	assert_int_equal(loop_sim_new(++seed, &m->loop, NULL), 0);
	assert_int_equal(loop_sim_new(++seed, &m->below, NULL), 0);
	loop_sim_set_time(m->loop, 1000000);
	loop_sim_on_stop(m->loop, never_ends, NULL);
	loop_sim_stop_at(m->loop, 3000000);
}

static int machine_open(struct machine *m, struct leg *leg, unsigned legs)
{
	struct lsvd_config *cfg = config();
	int rc;

	for (unsigned i = 0; i < legs; i++)
		m->leg[i] = dev_new(m->loop, &leg[i]);
	rc = ctx_open_on(m->loop, cfg, m->leg, legs, &m->ctx, &m->e);
	lsvd_config_free(cfg);
	return rc;
}

static void machine_close(struct machine *m)
{
	if (m->ctx)
		lsvd_ctx_close(m->ctx);
	loop_sim_crash(m->loop);
	store_close(m->store);
	loop_free(m->loop);
	loop_free(m->below);
}

/* The process dies: nothing is closed. */
static void machine_dies(struct machine *m)
{
	loop_sim_crash(m->loop);
	ctx_drop(m->ctx);
	m->ctx = NULL;
	for (unsigned i = 0; i < 2; i++)
		if (m->leg[i])
			dev_close(m->leg[i]);
	machine_close(m);
}

/* ---- the victim's life ---- */

struct life {
	struct machine m;
	struct victim *v;
	uint64_t seed;
	uint32_t stamps;
	bool twin;
};

static void put(struct life *f, uint32_t lba, uint32_t len, bool zero)
{
	struct victim *v = f->v;
	uint64_t *buf = malloc((size_t)len * 512);
	uint32_t *s;

	f->stamps++;
	for (uint32_t i = 0; i < len; i++)
		fill_sector(buf + (size_t)i * 64, lba + i, f->stamps | (f->twin ? 1u << 30 : 0));
	if (zero)
		assert_int_equal(lsvd_discard(f->m.img, len * 512ull, lba * 512ull), 0);
	else
		assert_int_equal(lsvd_pwrite(f->m.img, buf, len * 512ull, lba * 512ull), 0);
	free(buf);
	if (f->twin)
		return;
	s = malloc(CV_SECTORS * sizeof(*s));
	memcpy(s, v->state[v->writes], CV_SECTORS * sizeof(*s));
	for (uint32_t i = 0; i < len; i++)
		s[lba + i] = zero ? 0 : f->stamps;
	assert_true(++v->writes < CV_STATES_MAX);
	v->state[v->writes] = s;
}

static void puts_at_random(struct life *f, unsigned n)
{
	while (n--) {
		uint32_t len = 1 + (uint32_t)(test_rand(&f->seed) % 48), lba;

		if (test_rand(&f->seed) % 3)
			len = (len + 7) & ~7u;
		lba = (uint32_t)(test_rand(&f->seed) % (CV_SECTORS - len));
		if (test_rand(&f->seed) % 3)
			lba &= ~7u;
		put(f, lba, len, test_rand(&f->seed) % 12 == 0);
	}
}

static void flush(struct life *f)
{
	assert_int_equal(lsvd_flush(f->m.img), 0);
	if (!f->twin)
		f->v->flushed = f->v->writes;
}

static void open_image(struct life *f)
{
	int rc = ctx_image_open(f->m.ctx, f->m.store, f->twin ? "w" : "v", 0, &f->m.img, &f->m.e);

	if (rc < 0)
		fail_msg("open: %s", f->m.e.msg);
}

static void close_image(struct life *f)
{
	assert_int_equal(lsvd_image_close(f->m.img, f->m.e.msg), 0);
	f->m.img = NULL;
}

/* A boot profile, as `lsvd reorg` leaves one. */
static void profile(struct life *f)
{
	static uint8_t buf[SUPERBLOCK_BYTES];
	const char *name = f->twin ? "w" : "v";
	char object[STORE_NAME_MAX], tag[STORE_TAG_MAX];
	struct superblock *sb = malloc(sizeof(*sb));
	struct profile_range r[40];

	for (uint32_t i = 0; i < 40; i++)
		r[i] = (struct profile_range){
			.lba = 7 * i % 41 * 32, .len = 24, .first_us = 10 * i};
	profile_encode(r, 40, buf);
	snprintf(object, sizeof(object), "%s/profile", name);
	assert_int_equal(util_put(f->m.store, object, buf, profile_bytes(40)), 0);
	assert_int_equal(volume_read_superblock(f->m.store, name, sb, tag, &f->m.e), 0);
	sb->profile_bytes = profile_bytes(40);
	snprintf(object, sizeof(object), "%s/super", name);
	assert_int_equal(util_swap(f->m.store, object, tag, buf, superblock_encode(sb, buf)), 0);
	free(sb);
}

/* The state that it keeps must be what it was, too. */
static void snapshot(struct life *f)
{
	assert_int_equal(lsvd_snapshot_create(f->m.img, "kept", f->m.e.msg), 0);
	if (!f->twin)
		f->v->kept = f->v->writes;
}

/* Two sessions that end well, then one that has objects after its checkpoint and records after its
 * last object. */
static void live(struct life *f, bool clean)
{
	assert_int_equal(ctx_image_create(f->m.ctx, f->m.store, f->twin ? "w" : "v",
				 CV_SECTORS * 512, &f->m.e),
		0);
	profile(f);
	for (unsigned i = 0; i < 2; i++) {
		open_image(f);
		puts_at_random(f, 40);
		if (i == 0)
			snapshot(f);
		assert_int_equal(lsvd_image_gc(f->m.img, 80), 0);
		close_image(f);
	}
	open_image(f);
	puts_at_random(f, 6);
	assert_int_equal(lsvd_image_drain(f->m.img), 0);
	puts_at_random(f, 6);
	assert_int_equal(lsvd_image_drain(f->m.img), 0);
	flush(f);
	if (clean) {
		close_image(f);
		return;
	}
	/* Within one batch, so that it stays in the journal. */
	for (unsigned i = 0; i < 9; i++) {
		put(f, 16 * i, 3 + i % 6, false);
		if (i == 5)
			flush(f);
	}
}

static void warm_up(struct life *f)
{
	uint8_t *buf = malloc(CV_SECTORS * 512);

	open_image(f);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(lsvd_pread(f->m.img, buf, CV_SECTORS * 512, 0), 0);
	close_image(f);
	free(buf);
}

/* ---- freezing it ---- */

static void note_segments(struct victim *v, struct lsvd_ctx *ctx)
{
	struct pool *p = ctx_pool(ctx);

	v->segments = pool_segments(p);
	v->first_bytes = pool_first_bytes(CV_SEGMENT);
	for (uint32_t i = 0; i < v->segments; i++) {
		const struct segment *s = pool_segment(p, i);

		v->segment[i].role = s->role;
		v->segment[i].ours = s->role == SEGMENT_JOURNAL && !memcmp(s->owner, v->uuid, 16);
	}
}

static void note_uuid(struct victim *v, struct machine *m)
{
	struct superblock *sb = malloc(sizeof(*sb));

	assert_int_equal(volume_read_superblock(m->store, "v", sb, NULL, &m->e), 0);
	memcpy(v->uuid, sb->uuid, 16);
	free(sb);
}

static uint8_t *render(const uint32_t *stamps)
{
	uint64_t *image = malloc(CV_SECTORS * 512);

	for (uint32_t i = 0; i < CV_SECTORS; i++)
		fill_sector(image + (size_t)i * 64, i, stamps[i]);
	return (uint8_t *)image;
}

static void read_stored(struct victim *v)
{
	struct machine m;
	int rc;

	machine_init(&m);
	m.store = damager_new(m.loop, v->objects, &no_damage);
	assert_int_equal(machine_open(&m, NULL, 0), 0);
	rc = ctx_image_open(m.ctx, m.store, "v", LSVD_OPEN_READONLY, &m.img, &m.e);
	if (rc < 0)
		fail_msg("open: %s", m.e.msg);
	v->stored_image = malloc(CV_SECTORS * 512);
	assert_int_equal(lsvd_pread(m.img, v->stored_image, CV_SECTORS * 512, 0), 0);
	assert_int_equal(lsvd_image_close(m.img, NULL), 0);
	v->names = strdup(util_list(m.store, "v/"));
	machine_close(&m);
}

/* A trial that crashes says which it was. */
static void crashed(int sig)
{
	if (write(2, now_doing, strlen(now_doing)) < 0 || write(2, "\n", 1) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

struct victim *victim_new(bool clean, unsigned legs, uint64_t seed)
{
	struct victim *v = calloc(1, sizeof(*v));
	struct life f = {.v = v};
	struct leg work[2] = {0};

	/* Trials come and go with all their memory: none of it goes back to the system. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	assert_int_equal(mem_objects_new(&v->objects), 0);
	v->state[0] = calloc(CV_SECTORS, sizeof(uint32_t));
	v->leg = calloc(2, sizeof(*v->leg));
	for (unsigned i = 0; i < legs; i++) {
		v->pool[i] = malloc(CV_POOL);
		work[i].bytes = calloc(1, CV_POOL);
	}
	machine_init(&f.m);
	assert_int_equal(store_mem_on(f.m.loop, v->objects, &f.m.store), 0);
	assert_int_equal(machine_open(&f.m, work, legs), 0);
	for (unsigned i = 0; i < 2; i++) {
		f.twin = i == 0;
		f.seed = seed * 2654435761u + 1;
		f.stamps = 0;
		live(&f, clean);
		if (f.twin && !clean)
			close_image(&f);
	}
	if (clean)
		warm_up(&f);
	note_uuid(v, &f.m);
	note_segments(v, f.m.ctx);
	if (clean) { /* cache summaries are written when the pool is closed */
		lsvd_ctx_close(f.m.ctx);
		f.m.ctx = NULL;
	}
	for (unsigned i = 0; i < legs; i++)
		memcpy(v->pool[i], work[i].bytes, CV_POOL);
	if (clean)
		machine_close(&f.m);
	else
		machine_dies(&f.m);
	for (unsigned i = 0; i < legs; i++)
		free(work[i].bytes);
	v->image = render(v->state[v->writes]);
	v->kept_image = render(v->state[v->kept]);
	read_stored(v);
	for (int s = 0; s < 4; s++)
		signal((const int[]){SIGSEGV, SIGABRT, SIGBUS, SIGFPE}[s], crashed);
	return v;
}

void victim_free(struct victim *v)
{
	mem_objects_free(v->objects);
	for (uint32_t i = 0; i <= v->writes; i++)
		free(v->state[i]);
	free(v->leg[0].bytes);
	free(v->leg[1].bytes);
	free(v->leg);
	free(v->pool[0]);
	free(v->pool[1]);
	free(v->image);
	free(v->kept_image);
	free(v->stored_image);
	free(v->names);
	free(v);
}

/* ---- a trial ---- */

static uint8_t seen[CV_SECTORS * 512];
static bool unreadable[CV_SECTORS];

/* Reads all of it, in pieces of 8 KiB; false when some of them fail. */
static bool read_all(struct machine *m)
{
	enum { PIECE = 16 };
	bool all = true;

	memset(unreadable, 0, sizeof(unreadable));
	for (uint32_t s = 0; s < CV_SECTORS; s += PIECE) {
		int rc = lsvd_pread(m->img, seen + (size_t)s * 512, PIECE * 512, s * 512ull);

		if (rc == 0)
			continue;
		/* ESTALE: a reader must believe that a writer deleted what is gone. */
		if (rc != -EIO && rc != -EBADMSG && rc != -EUCLEAN && rc != -EPROTO &&
			rc != -ESTALE)
			fail_msg("%s: read: %s", now_doing, strerror(-rc));
		all = false;
		memset(unreadable + s, 1, PIECE);
	}
	return all;
}

static bool fits(const struct victim *v, uint32_t n, const uint32_t *stamps)
{
	for (uint32_t i = 0; i < CV_SECTORS; i++)
		if (!unreadable[i] && stamps[i] != v->state[n][i])
			return false;
	return true;
}

static void judge(const struct victim *v, unsigned flags, bool all)
{
	const uint8_t *want = flags & TRIAL_READONLY ? v->stored_image : v->image;
	static uint32_t stamps[CV_SECTORS];
	uint32_t bad = 0, low = flags & TRIAL_PREFIX  ? 0
				: flags & TRIAL_EXACT ? v->writes
						      : v->flushed;
	bool exact = (flags & TRIAL_READONLY) && !(flags & TRIAL_PREFIX);

	if (all && !memcmp(seen, want, sizeof(seen)))
		return;
	for (uint32_t i = 0; i < CV_SECTORS; i++) {
		stamps[i] = unreadable[i] ? 0 : stamp_of(seen + (size_t)i * 512, i);
		if (stamps[i] == UINT32_MAX)
			fail_msg("%s: sector %u holds what nobody wrote there", now_doing, i);
		bad += !unreadable[i] &&
		       memcmp(seen + (size_t)i * 512, want + (size_t)i * 512, 512);
	}
	if (exact && bad)
		fail_msg("%s: %u sectors are not as they were", now_doing, bad);
	for (uint32_t n = v->writes + 1; !exact && n-- > low;)
		if (fits(v, n, stamps))
			return;
	if (bad)
		fail_msg("%s: %u sectors are wrong: no state from %u to %u", now_doing, bad, low,
			v->writes);
}

static void check_kept(const struct victim *v, struct machine *m, bool damaged)
{
	struct lsvd_image *img = m->img;

	if (ctx_image_open(m->ctx, m->store, "v@kept", LSVD_OPEN_READONLY, &m->img, &m->e) == 0) {
		read_all(m);
		for (uint32_t i = 0; i < CV_SECTORS; i++)
			if (!unreadable[i] && memcmp(seen + (size_t)i * 512,
						      v->kept_image + (size_t)i * 512, 512))
				fail_msg("%s: sector %u of the snapshot is wrong", now_doing, i);
		assert_int_equal(lsvd_image_close(m->img, NULL), 0);
	} else if (!damaged) {
		fail_msg("open the snapshot: %s", m->e.msg);
	}
	m->img = img;
}

static void describe(const struct damage *d, unsigned flags)
{
	static const char *const kinds[] = {"as it is", "flip", "cut", "longer", "other", "gone"};

	snprintf(now_doing, sizeof(now_doing),
		"%s %s%s at %" PRIu64 " (0x%02x, leg %u, from %s %" PRIu64 "%s)", kinds[d->kind],
		d->object ? d->object : "pool", "", d->at, d->xor, d->leg, d->other ? d->other : "",
		d->from, flags & TRIAL_READONLY ? ", read-only" : "");
}

static void damage_pool(struct leg *legs, const struct damage *d)
{
	struct leg *l = &legs[d->leg];

	if (d->object)
		return;
	touch(l, d->at, d->kind == DAMAGE_FLIP ? 1 : 4096);
	if (d->kind == DAMAGE_FLIP)
		l->bytes[d->at] ^= d->xor ;
	if (d->kind == DAMAGE_OTHER)
		memcpy(l->bytes + d->at, l->bytes + d->from, 4096);
	if (d->kind == DAMAGE_GONE)
		memset(l->bytes + d->at, 0, 4096);
}

/* A leg as the victim left it. */
static void restore(struct leg *l, const uint8_t *from)
{
	if (!l->bytes) {
		l->bytes = malloc(CV_POOL);
		touch(l, 0, CV_POOL);
	}
	for (uint64_t k = 0; k < NOTES; k++)
		if (l->touched[k])
			memcpy(l->bytes + k * NOTED, from + k * NOTED, NOTED);
	memset(l->touched, 0, sizeof(l->touched));
}

enum outcome trial(struct victim *v, const struct damage *d, unsigned flags)
{
	unsigned legs = flags & TRIAL_READONLY ? 0 : v->pool[1] ? 2 : 1;
	enum outcome out = REFUSED;
	struct machine m;

	describe(d, flags);
	for (unsigned i = 0; i < legs; i++)
		restore(&v->leg[i], v->pool[i]);
	if (legs)
		damage_pool(v->leg, d);
	machine_init(&m);
	assert_int_equal(
		store_overlay_new(m.loop, damager_new(m.below, v->objects, d), &m.store), 0);
	if (machine_open(&m, v->leg, legs) == 0 &&
		ctx_image_open(m.ctx, m.store, "v", legs ? 0 : LSVD_OPEN_READONLY, &m.img, &m.e) ==
			0) {
		bool all = read_all(&m);

		judge(v, flags, all);
		check_kept(v, &m, d->kind != DAMAGE_NONE);
		out = all ? WHOLE : PARTLY;
		if (lsvd_image_close(m.img, m.e.msg) < 0 && d->kind == DAMAGE_NONE)
			fail_msg("close: %s", m.e.msg);
	}
	if (out == REFUSED && !m.e.msg[0])
		fail_msg("%s: refused without a word", now_doing);
	if (getenv("CORRUPT_VERBOSE"))
		print_message("%s: %s %s\n", now_doing,
			out == REFUSED	? "refused"
			: out == PARTLY ? "partly"
					: "whole",
			m.e.msg);
	machine_close(&m);
	trials[out]++;
	return out;
}

/* ---- what there is to damage ---- */

bool victim_object(const struct victim *v, const char *prefix, unsigned n, char *name, size_t *len)
{
	const char *s = v->names;

	for (; *s; s += strcspn(s, " ") + 1) {
		size_t l = strcspn(s, ":");

		if (strncmp(s, prefix, strlen(prefix)) || n--)
			continue;
		snprintf(name, STORE_NAME_MAX, "%.*s", (int)l, s);
		*len = strtoull(s + l + 1, NULL, 10);
		return true;
	}
	return false;
}

size_t victim_get(struct victim *v, const char *name, uint8_t *buf, size_t room)
{
	struct machine m;
	int64_t n;

	machine_init(&m);
	m.store = damager_new(m.loop, v->objects, &no_damage);
	n = util_get(m.store, name, 0, buf, room);
	machine_close(&m);
	return n < 0 ? 0 : (size_t)n;
}
