/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_kill9.c - kill -9 of a process that writes, and then: is all there that was acknowledged?
 *
 * A child keeps up to 16 requests in flight and notes in shared memory what it submitted and what
 * was acknowledged.  It is killed at a random moment, also while it opens; sometimes one that
 * recovers is killed, too.  Then every sector must hold its last acknowledged version; a request
 * that was in flight is there as a whole or not at all.
 *
 * The child may also collect garbage, write checkpoints, resize the image, or make and remove
 * snapshots all the while: then it is killed in the middle of that.  Each of these also with a pool
 * that is full (the store is slow, and the journal has no room) and with a store that is full.
 *
 * KILL9_ROUNDS in all: about 220 in `make test`, some 8 by default.
 */
#include "test/image_env.h"
#include "test/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 16, SIZE = 16 << 20, SECTORS = SIZE / 512, LEN_MAX = 256, MIB = 1 << 20 };

static const uint32_t UNKNOWN = UINT32_MAX;

/* A request of the child.  What is in flight when it dies may be done or not; SLOT_ACKED is done,
 * but perhaps not all noted in `version` yet. */
enum { SLOT_IDLE, SLOT_IN_FLIGHT, SLOT_ACKED };

struct note {
	_Atomic uint32_t state;
	uint32_t lba, len, version;
};

struct shared {
	struct note note[SLOTS];
	_Atomic uint32_t last_version, acks;
	uint32_t version[SECTORS];
	bool lies; /* acknowledge when submitted: must be found out */
	enum activity { WRITING, COLLECTING, CHECKPOINTING, RESIZING, SNAPPING } activity;
	enum shortage { NOTHING_FULL, POOL_FULL, STORE_FULL } shortage;
	_Atomic bool busy; /* with the activity */
	/* The newest snapshot that was made, and what is known of it: a sector that was in flight
	 * meanwhile is UNKNOWN. */
	_Atomic uint32_t snapshot; /* twice its number, plus which of `frozen`; 0: none */
	uint32_t next_snapshot, frozen[2][SECTORS];
};

struct request {
	struct lsvd_io io;
	struct iovec iov;
	struct note *note;
	struct shared *sh;
	uint8_t *buf;
};

static uint64_t seed;

static uint64_t draw(uint64_t n)
{
	return test_rand(&seed) % n;
}

static void sleep_us(uint64_t us)
{
	struct timespec ts = {
		.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000)};

	nanosleep(&ts, NULL);
}

/* ---- the child ---- */

static void acknowledge(struct shared *sh, struct note *n)
{
	atomic_store(&n->state, SLOT_ACKED);
	for (uint32_t i = 0; i < n->len; i++)
		sh->version[n->lba + i] = n->version;
	atomic_fetch_add(&sh->acks, 1);
	atomic_store(&n->state, SLOT_IDLE);
}

static void done(struct lsvd_io *io)
{
	struct request *r = io->user;

	if (io->status < 0)
		_exit(3);
	if (!r->sh->lies)
		acknowledge(r->sh, r->note);
	r->io.user = NULL;
}

static bool overlaps(const struct request *r, uint32_t lba, uint32_t len)
{
	for (int i = 0; i < SLOTS; i++)
		if (r[i].io.user && r[i].note->lba < lba + len &&
			lba < r[i].note->lba + r[i].note->len)
			return true;
	return false;
}

static void submit(struct image_env *e, struct request *all, struct request *r)
{
	static const uint8_t ops[] = {LSVD_WRITE, LSVD_WRITE, LSVD_WRITE, LSVD_WRITE, LSVD_WRITE,
		LSVD_WRITE, LSVD_WRITE, LSVD_DISCARD, LSVD_WRITE_ZEROES, LSVD_FLUSH};
	enum lsvd_op op = ops[draw(sizeof(ops))];
	uint32_t len = draw(4) ? 8 : 1 + (uint32_t)draw(LEN_MAX),
		 lba = (uint32_t)draw(SECTORS - len + 1);

	if (len == 8)
		lba &= ~7u;
	if (overlaps(all, lba, len))
		return;
	if (op == LSVD_FLUSH)
		len = 0;
	r->note->lba = lba;
	r->note->len = len;
	r->note->version = op == LSVD_WRITE ? atomic_fetch_add(&r->sh->last_version, 1) + 1 : 0;
	if (op == LSVD_WRITE)
		model_fill(r->buf, lba, len, r->note->version);
	r->iov = (struct iovec){r->buf, (size_t)len * 512};
	r->io.op = op;
	r->io.flags = draw(16) ? 0 : LSVD_FUA;
	r->io.offset_bytes = (uint64_t)lba * 512;
	r->io.len_bytes = (uint64_t)len * 512;
	r->io.iov = &r->iov;
	r->io.iovcnt = 1;
	r->io.cb = done;
	r->io.user = r;
	if (r->sh->lies)
		acknowledge(r->sh, r->note);
	else
		atomic_store(&r->note->state, SLOT_IN_FLIGHT);
	if (lsvd_submit(e->img, &r->io) < 0)
		_exit(4);
}

/* A process that was killed holds its locks until the kernel has finished its I/O. */
static int open_image(struct image_env *e, enum lsvd_drive drive)
{
	int rc = lsvd_ctx_open(e->cfg, drive, &e->ctx, e->why);

	return rc < 0 ? rc : lsvd_image_open(e->ctx, e->url, 0, &e->img, e->why);
}

static void forget_in_flight(const struct shared *sh, uint32_t *frozen)
{
	for (int i = 0; i < SLOTS; i++)
		for (uint32_t k = 0; sh->note[i].state == SLOT_IN_FLIGHT && k < sh->note[i].len;
			k++)
			frozen[sh->note[i].lba + k] = UNKNOWN;
}

/* Requests complete while it is made, but none is submitted. */
static int snap(struct image_env *e, struct shared *sh)
{
	uint32_t n = ++sh->next_snapshot, last = sh->snapshot, which = !(last & 1),
		 *frozen = sh->frozen[which];
	char name[20];
	int rc;

	memcpy(frozen, sh->version, sizeof(sh->version));
	forget_in_flight(sh, frozen);
	snprintf(name, sizeof(name), "s%u", n);
	rc = lsvd_snapshot_create(e->img, name, e->why);
	if (rc < 0)
		return rc;
	atomic_store(&sh->snapshot, 2 * n + which);
	snprintf(name, sizeof(name), "s%u", last / 2);
	rc = lsvd_snapshot_remove(e->img, name, e->why);
	return rc == -ENOENT ? 0 : rc;
}

/* In the middle of it the child is killed.  Completions go on meanwhile. */
static void be_busy(struct image_env *e, struct shared *sh)
{
	bool entered;
	int rc = 0;

	if (sh->shortage == STORE_FULL)
		ie_fault(e, draw(4) != 0, false);
	atomic_store(&sh->busy, true);
	switch (sh->activity) {
	case COLLECTING:
		rc = lsvd_image_gc(e->img, 97);
		break;
	case CHECKPOINTING:
		entered = ctx_enter(e->ctx);
		rc = volume_checkpoint(e->img->vol);
		ctx_leave(e->ctx, entered);
		break;
	case RESIZING:
		rc = lsvd_image_resize(e->img, SIZE + draw(64) * MIB, false, e->why);
		break;
	case SNAPPING:
		rc = snap(e, sh);
		break;
	case WRITING:
		break;
	}
	atomic_store(&sh->busy, false);
	if (rc < 0 && sh->shortage != STORE_FULL)
		_exit(6);
	if (sh->shortage == STORE_FULL)
		ie_fault(e, draw(4) == 0, false);
}

static void write_for_ever(struct image_env *e, int fd)
{
	struct request *r = calloc(SLOTS, sizeof(*r));
	struct shared *sh = (struct shared *)e->version;

	if (!r || open_image(e, LSVD_DRIVE_INLINE) < 0) {
		fprintf(stderr, "child: %s\n", e->why);
		_exit(2);
	}
	for (int i = 0; i < SLOTS; i++) {
		r[i].sh = sh;
		r[i].note = &sh->note[i];
		r[i].buf = malloc(LEN_MAX * 512);
	}
	if (write(fd, "x", 1) != 1)
		_exit(5);
	for (;;) {
		for (int i = 0; i < SLOTS; i++)
			if (!r[i].io.user)
				submit(e, r, &r[i]);
		lsvd_poll(e->ctx, 1000000);
		if ((sh->activity != WRITING || sh->shortage == STORE_FULL) && draw(50) == 0)
			be_busy(e, sh);
	}
}

static void recover_only(struct image_env *e, int fd)
{
	(void)fd;
	if (open_image(e, LSVD_DRIVE_THREAD) < 0) {
		fprintf(stderr, "child that recovers: %s\n", e->why);
		_exit(2);
	}
	for (;;)
		sleep_us(1000000);
}

/* ---- the parent ---- */

static unsigned kills_inside;

/* Then it is in the middle of what it does, mostly. */
static void wait_until_busy(struct shared *sh)
{
	if (sh->activity == WRITING)
		return;
	for (unsigned i = 0; i < 20000 && !atomic_load(&sh->busy); i++)
		sleep_us(50);
	sleep_us(draw(4) ? draw(1000) : draw(20000));
	kills_inside += atomic_load(&sh->busy);
}

/* Kill it after `us`, counted from when it is open if asked for.  0: killed; else what the child
 * had to say. */
static int run_and_kill(
	struct image_env *e, void (*fn)(struct image_env *e, int fd), bool opened, uint64_t us)
{
	int fd, rc;
	pid_t pid = ie_fork(e, fn, &fd);
	char c;

	if (opened && read(fd, &c, 1) != 1)
		us = 1000000; /* it died: see why */
	sleep_us(us);
	if (fn == write_for_ever)
		wait_until_busy((struct shared *)e->version);
	kill(pid, SIGKILL);
	rc = ie_wait(pid);
	close(fd);
	return rc == 128 + SIGKILL ? 0 : rc;
}

/* In flight when it died: all of it, or none. */
static const char *settle(struct shared *sh, struct note *n, const uint8_t *data)
{
	uint32_t fresh = 0;

	for (uint32_t i = 0; i < n->len; i++)
		fresh += model_is(data + ((size_t)n->lba + i) * 512, n->lba + i, n->version);
	if (fresh == n->len) {
		acknowledge(sh, n);
		return NULL;
	}
	/* A sector of zeroes under a discard looks done when it was zeroes before. */
	for (uint32_t i = 0; i < n->len; i++)
		if (!model_is(
			    data + ((size_t)n->lba + i) * 512, n->lba + i, sh->version[n->lba + i]))
			return "a request that was in flight is there in part";
	atomic_store(&n->state, SLOT_IDLE);
	return NULL;
}

static const char *verify(
	struct image_env *e, struct shared *sh, uint8_t *data, char *what, size_t len)
{
	for (int i = 0; i < SLOTS; i++) {
		struct note *n = &sh->note[i];
		const char *wrong = NULL;

		if (atomic_load(&n->state) == SLOT_ACKED)
			acknowledge(sh, n);
		else if (atomic_load(&n->state) == SLOT_IN_FLIGHT)
			wrong = settle(sh, n, data);
		if (wrong) {
			snprintf(
				what, len, "sectors %u+%u, version %u", n->lba, n->len, n->version);
			return wrong;
		}
	}
	(void)e;
	for (uint32_t s = 0; s < SECTORS; s++) {
		if (model_is(data + (size_t)s * 512, s, sh->version[s]))
			continue;
		snprintf(what, len, "sector %u: version %u was acknowledged, version %d is there",
			s, sh->version[s], (int)model_version(data + (size_t)s * 512, s));
		return "an acknowledged write is lost";
	}
	return NULL;
}

static const char *verify_snapshot(
	struct image_env *e, struct shared *sh, uint8_t *data, char *what, size_t len)
{
	uint32_t last = atomic_load(&sh->snapshot), n = last / 2, *frozen = sh->frozen[last & 1];
	struct lsvd_image *img;
	char url[400];
	int rc;

	if (!n)
		return NULL;
	snprintf(url, sizeof(url), "%s@s%u", e->url, n);
	rc = lsvd_image_open(e->ctx, url, LSVD_OPEN_READONLY, &img, e->why);
	if (rc == 0) {
		rc = lsvd_pread(img, data, SIZE, 0);
		if (lsvd_image_close(img, e->why) < 0)
			return "the snapshot cannot be closed";
	}
	snprintf(what, len, "snapshot %u: %s", n, e->why);
	if (rc < 0)
		return "a snapshot that was made cannot be read";
	for (uint32_t s = 0; s < SECTORS; s++)
		if (frozen[s] != UNKNOWN && !model_is(data + (size_t)s * 512, s, frozen[s])) {
			snprintf(what, len, "snapshot %u, sector %u: version %u, not %d", n, s,
				frozen[s], (int)model_version(data + (size_t)s * 512, s));
			return "a snapshot is not what it was";
		}
	return NULL;
}

static const char *read_and_verify(
	struct image_env *e, struct shared *sh, bool drain, char *what, size_t len)
{
	uint8_t *data = malloc(SIZE);
	const char *wrong = NULL;
	int rc = open_image(e, draw(2) ? LSVD_DRIVE_INLINE : LSVD_DRIVE_THREAD);

	if (rc == 0 && drain)
		rc = lsvd_image_drain(e->img);
	if (rc == 0)
		rc = lsvd_pread(e->img, data, SIZE, 0);
	if (rc < 0) {
		snprintf(what, len, "%s: %s", strerror(-rc), e->why);
		wrong = "it cannot be opened and read";
	} else {
		wrong = verify(e, sh, data, what, len);
		if (!wrong)
			wrong = verify_snapshot(e, sh, data, what, len);
	}
	free(data);
	return wrong;
}

/* How a run differs. */
struct plan {
	const char *name;
	unsigned rounds;
	bool lies;
	enum activity activity;
	enum shortage shortage; /* POOL_FULL: the store is slow, so the journal runs full, and its
				 * segments are used again and again */
};

struct verdict {
	const char *wrong;
	char what[600];
	unsigned round;
};

static void one_round(
	struct image_env *e, struct shared *sh, const struct plan *p, struct verdict *v)
{
	bool slow = p->shortage == POOL_FULL, busy = p->activity != WRITING,
	     late = v->round > p->rounds;
	char fast[300], url[340];
	int rc;

	snprintf(fast, sizeof(fast), "file:%s", e->root);
	snprintf(url, sizeof(url), "%s%s",
		slow			    ? "model:custom,put=500ms:"
		: p->shortage == STORE_FULL ? "fault:seed=1:"
					    : "",
		fast);
	ie_store(e, url);
	atomic_store(&sh->busy, false);
	rc = run_and_kill(e, write_for_ever, slow || busy || late,
		(slow ? 400000u : 20000u) + draw(draw(8) ? 150000 : 20000));
	while (rc == 0 && draw(3) == 0)
		rc = run_and_kill(e, recover_only, false, draw(30000));
	if (rc) {
		v->wrong = "a child failed";
		snprintf(v->what, sizeof(v->what), "exit code %d", rc);
		return;
	}
	ie_store(e, fast);
	v->wrong = read_and_verify(e, sh, draw(2), v->what, sizeof(v->what));
	if (e->ctx)
		ie_close(e);
}

static struct image_env *env(const struct plan *p, struct shared **sh)
{
	struct image_env *e = ie_new(p->name);

	*sh = mmap(NULL, sizeof(**sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(*sh != MAP_FAILED);
	free(e->version);
	e->version = NULL;
	e->size_bytes = SIZE;
	ie_set(e, "destage.age_ms", "20");
	ie_set(e, "checkpoint.interval", "1M");
	if (p->shortage == POOL_FULL) {
		ie_set(e, "pool.size", "8M");
		ie_set(e, "pool.segment", "256K");
		ie_set(e, "cache.enabled", "false");
		ie_set(e, "destage.puts", "16");
		ie_set(e, "journal.percent", "80");
	}
	ie_open(e, LSVD_DRIVE_INLINE);
	ie_close(e);
	e->version = (uint32_t *)(void *)*sh;
	return e;
}

static struct verdict run(const struct plan *p)
{
	struct verdict v = {0};
	struct shared *sh;
	struct image_env *e = env(p, &sh);

	seed = test_seed();
	sh->lies = p->lies;
	sh->activity = p->activity;
	sh->shortage = p->shortage;
	kills_inside = 0;
	/* On a busy machine all may be dead before they have written: then some more, once they are
	 * open. */
	for (v.round = 1;
		!v.wrong && (v.round <= p->rounds || (!atomic_load(&sh->acks) && v.round < 100));
		v.round++)
		one_round(e, sh, p, &v);
	printf("%s: %u kills, %u in the middle of it, %u requests acknowledged\n", p->name,
		v.round - 1, p->activity == WRITING ? v.round - 1 : kills_inside,
		atomic_load(&sh->acks));
	assert_true(p->rounds < 3 || atomic_load(&sh->acks) > 0);
	e->version = NULL;
	ie_free(e);
	munmap(sh, sizeof(*sh));
	return v;
}

/* `share` of KILL9_ROUNDS; without that, `least`. */
static void must_survive(const char *name, enum activity activity, enum shortage shortage,
	unsigned share, unsigned least)
{
	static const char *const how[] = {"", "-full-pool", "-full-store"};
	const char *n = getenv("KILL9_ROUNDS");
	char full_name[60];
	struct plan p = {.name = full_name,
		.activity = activity,
		.shortage = shortage,
		.rounds = n ? (unsigned)atoi(n) * share / 220 : least};
	struct verdict v;

	snprintf(full_name, sizeof(full_name), "%s%s", name, how[shortage]);
	if (!p.rounds)
		return;
	v = run(&p);
	if (v.wrong)
		fail_msg("%s, round %u: %s: %s", full_name, v.round - 1, v.wrong, v.what);
}

/* A short run draws one of two; a full pool takes its time. */
static void busy_child(const char *name, enum activity activity)
{
	unsigned one = (unsigned)(test_seed() / 7 + activity) % 2;

	must_survive(name, activity, NOTHING_FULL, 20, one == 0);
	must_survive(name, activity, POOL_FULL, 10, 0);
	must_survive(name, activity, STORE_FULL, 10, one == 1);
}

TEST(a_child_that_writes)
{
	must_survive("writing", WRITING, NOTHING_FULL, 40, 3);
	must_survive("writing", WRITING, POOL_FULL, 10, 1);
	must_survive("writing", WRITING, STORE_FULL, 10, 1);
}

TEST(a_child_that_collects_garbage)
{
	busy_child("collecting", COLLECTING);
}

TEST(a_child_that_writes_checkpoints)
{
	busy_child("checkpointing", CHECKPOINTING);
}

TEST(a_child_that_resizes)
{
	busy_child("resizing", RESIZING);
}

TEST(a_child_that_makes_snapshots)
{
	busy_child("snapping", SNAPPING);
}

/* Would the test notice?  A child that acknowledges too early must be caught. */
TEST(a_child_that_acknowledges_too_early_is_caught)
{
	struct plan p = {.name = "kill9-lies", .rounds = 40, .lies = true};
	struct verdict v = run(&p);

	assert_non_null(v.wrong);
	assert_string_equal(v.wrong, "an acknowledged write is lost");
}
