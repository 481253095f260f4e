/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_filesystem.c - a recorded stream of writes and flushes goes through an image that crashes
 * again and again; what is left must be what a disk may leave, and a sound file system.
 *
 * FS_RECORDING names a recording (ci/tests/fs/recorder.c), FS_SIZE the disk's bytes, FS_BEGIN the
 * byte of the recording at which mkfs was done.  At every
 * flush, and at random points between, one of these happens:
 *
 *   machine   power fails: unflushed writes to the pool are lost, torn, reordered
 *   process   it is killed: what was acknowledged is there
 *   pool      the pool is lost: what objects hold is there
 *   reader    somebody looks at what the store alone holds, and the writer goes on
 *
 * Then the image must be exactly the first n writes of the stream, n not less than was promised,
 * and the stream goes on from there.  Of each n that was seen for the first time, the state is
 * written to a file and FS_CHECK is run with its name and the length of the recording up to there:
 * it mounts it, compares what had been fsynced, and runs fsck.  FS_STATES: so many cuts besides the
 * flushes; FS_CHECKS: check about so many of them; FS_KEEP: a folder for a state that failed.
 * Without a recording a made-up stream is used, and FS_CHECK is not needed.
 */
#include "image/image_impl.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "test/test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 128 << 10, CHUNK = 64 << 10, POOL_BYTES = 16 << 20, IN_FLIGHT = 8 };
enum { OP_WRITE = 1, OP_FLUSH, OP_DISCARD, OP_ZEROES };
enum crash { MACHINE, PROCESS, POOL, READER, CRASHES };

struct op {
	uint8_t op;
	uint64_t off, len, end; /* bytes; end: of its record in the recording */
	const uint8_t *data;
};

struct stream {
	struct op *op;
	size_t n, room, flushes;
	uint8_t *bytes; /* the recording */
	size_t len;
	uint64_t size; /* of the disk */
};

struct rig {
	struct stream s;
	uint64_t rng;
	struct lsvd_config *cfg;
	struct sim_disk *disk;
	struct mem_objects *objects;
	struct loop *loop;
	struct store *store;
	struct lsvd_ctx *ctx;
	struct lsvd_image *img;
	uint64_t time_ns;
	struct err e;

	struct lsvd_io io[IN_FLIGHT];
	struct iovec iov[IN_FLIGHT];
	uint64_t number[IN_FLIGHT]; /* the op's, + 1; 0: idle */
	size_t acked;		    /* the first so many operations are */
	uint8_t *done;		    /* by operation */
	size_t next, flushed, stored;

	/* what should be, as after `base` operations; and what is */
	uint8_t *base_image, *now_image, *got;
	size_t base;
	uint8_t *touched; /* by chunk, in the whole stream so far */
	uint8_t *checked; /* by n: FS_CHECK has seen it */
	const char *check;
	uint64_t percent; /* of the states that are checked */
	uint64_t begin;	  /* in bytes of the recording: a file system is there */
	unsigned states, crashes[CRASHES], checks;
};

static uint64_t draw(struct rig *r, uint64_t n)
{
	return test_rand(&r->rng) % n;
}

/* ---- the stream ---- */

static void add(
	struct stream *s, uint8_t op, uint64_t off, uint64_t len, const uint8_t *data, uint64_t end)
{
	/* What the library keeps whole under a crash. */
	while (op == OP_WRITE && len > PIECE) {
		add(s, op, off, PIECE, data, end);
		off += PIECE;
		data += PIECE;
		len -= PIECE;
	}
	if (s->n == s->room) {
		s->room = 2 * s->room + 1024;
		s->op = realloc(s->op, s->room * sizeof(*s->op));
		assert_non_null(s->op);
	}
	s->op[s->n++] = (struct op){.op = op, .off = off, .len = len, .data = data, .end = end};
	s->flushes += op == OP_FLUSH;
}

static void load_recording(struct stream *s, const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	const char *size = getenv("FS_SIZE");
	struct stat st;
	uint64_t at = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || !size)
		fail_msg("%s: %s", name, size ? strerror(errno) : "FS_SIZE is not set");
	s->len = (size_t)st.st_size;
	s->bytes = mmap(NULL, s->len, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(s->bytes != MAP_FAILED);
	close(fd);
	s->size = strtoull(size, NULL, 10);
	while (at + 16 <= s->len) {
		uint32_t head[2];
		uint64_t off, data;

		memcpy(head, s->bytes + at, 8);
		memcpy(&off, s->bytes + at + 8, 8);
		at += 16;
		data = head[0] == OP_WRITE ? head[1] : 0;
		if (!head[0] || head[0] > OP_ZEROES || off + head[1] > s->size ||
			at + data > s->len)
			fail_msg("%s: not a recording at byte %" PRIu64, name, at - 16);
		add(s, (uint8_t)head[0], off, head[1], s->bytes + at, at + data);
		at += data;
	}
}

/* Writes of all sizes, most of them to places written before. */
static void make_up(struct stream *s, uint64_t seed)
{
	uint64_t x = seed | 1;

	s->size = 4 << 20;
	s->len = 8 << 20;
	s->bytes = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(s->bytes != MAP_FAILED);
	for (size_t i = 0; i < s->len / 8; i++)
		((uint64_t *)(void *)s->bytes)[i] = test_rand(&x);
	for (unsigned i = 0; i < 500; i++) {
		uint64_t kind = test_rand(&x) % 20, len = 512 * (1 + test_rand(&x) % 24),
			 off = test_rand(&x) % ((s->size - len) / 512) * 512;

		if (kind > 2 && kind < 14)
			off = off / 8 & ~4095ull;
		add(s,
			kind == 0   ? OP_FLUSH
			: kind == 1 ? OP_DISCARD
			: kind == 2 ? OP_ZEROES
				    : OP_WRITE,
			kind ? off : 0, kind ? len : 0, s->bytes + test_rand(&x) % (s->len - len),
			i + 1);
	}
}

static void apply(const struct op *o, uint8_t *image)
{
	if (o->op == OP_WRITE)
		memcpy(image + o->off, o->data, o->len);
	else if (o->op != OP_FLUSH)
		memset(image + o->off, 0, o->len);
}

/* ---- the machine ---- */

static void power_on(struct rig *r, unsigned flags)
{
	struct bdev *leg;

	assert_int_equal(loop_sim_new(test_rand(&r->rng), &r->loop, NULL), 0);
	loop_sim_set_time(r->loop, r->time_ns += 1000000);
	assert_int_equal(store_mem_on(r->loop, r->objects, &r->store), 0);
	assert_int_equal(sim_disk_open(r->disk, r->loop, &leg), 0);
	if (ctx_open_on(r->loop, r->cfg, &leg, 1, &r->ctx, &r->e) < 0)
		fail_msg("pool: %s", r->e.msg);
	if (!r->next && ctx_image_create(r->ctx, r->store, "fs", r->s.size, &r->e) < 0)
		fail_msg("create: %s", r->e.msg);
	if (ctx_image_open(r->ctx, r->store, "fs", flags, &r->img, &r->e) < 0)
		fail_msg("after %zu operations: open: %s", r->next, r->e.msg);
}

static void new_disk(struct rig *r)
{
	static const struct sim_disk_model m = {
		.read_ns = 80000, .write_ns = 60000, .flush_ns = 500000, .jitter_percent = 90};

	sim_disk_free(r->disk);
	assert_int_equal(sim_disk_new(POOL_BYTES, &m, &r->disk), 0);
}

static void power_off(struct rig *r)
{
	ctx_drop(r->ctx);
	r->time_ns = loop_now(r->loop);
	store_close(r->store);
	loop_free(r->loop);
	memset(r->number, 0, sizeof(r->number));
}

static void set(struct rig *r, const char *key, const char *value)
{
	assert_int_equal(lsvd_config_set(r->cfg, key, value, r->e.msg), 0);
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	const char *name = getenv("FS_RECORDING");

	assert_non_null(r);
	r->rng = test_seed() | 1;
	if (name)
		load_recording(&r->s, name);
	else
		make_up(&r->s, test_seed());
	r->check = name ? getenv("FS_CHECK") : NULL;
	r->begin = name && getenv("FS_BEGIN") ? strtoull(getenv("FS_BEGIN"), NULL, 10) : 0;
	for (unsigned i = 0; i < 3; i++) {
		uint8_t **image = (uint8_t * *[]){&r->base_image, &r->now_image, &r->got}[i];

		*image = mmap(NULL, r->s.size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert_true(*image != MAP_FAILED);
	}
	r->touched = calloc(1, r->s.size / CHUNK + 1);
	r->checked = calloc(1, r->s.n + 1);
	r->done = calloc(1, r->s.n + 1);
	r->cfg = lsvd_config_defaults();
	set(r, "pool.segment", "512K");
	set(r, "object.size", "256K");
	set(r, "journal.ram", "4M");
	set(r, "checkpoint.interval", "2M");
	set(r, "destage.age_ms", "20");
	set(r, "cache.chunk", "64K");
	assert_int_equal(mem_objects_new(&r->objects), 0);
	new_disk(r);
	power_on(r, 0);
	return r;
}

static void rig_free(struct rig *r)
{
	if (lsvd_image_close(r->img, r->e.msg) < 0)
		fail_msg("close: %s", r->e.msg);
	lsvd_ctx_close(r->ctx);
	store_close(r->store);
	loop_free(r->loop);
	sim_disk_free(r->disk);
	mem_objects_free(r->objects);
	lsvd_config_free(r->cfg);
	munmap(r->base_image, r->s.size);
	munmap(r->now_image, r->s.size);
	munmap(r->got, r->s.size);
	munmap(r->s.bytes, r->s.len);
	free(r->s.op);
	free(r->touched);
	free(r->checked);
	free(r->done);
	free(r);
}

/* ---- writing ---- */

static void over(struct lsvd_io *io)
{
	struct rig *r = io->user;
	uint64_t *number = &r->number[io - r->io];

	if (io->status < 0)
		fail_msg("operation %" PRIu64 ": %s", *number - 1, strerror(-io->status));
	r->done[*number - 1] = 1;
	*number = 0;
	while (r->acked < r->next && r->done[r->acked])
		r->acked++;
}

static int idle_slot(const struct rig *r)
{
	for (int i = 0; i < IN_FLIGHT; i++)
		if (!r->number[i])
			return i;
	return -1;
}

static void wait_for_all(struct rig *r)
{
	while (r->acked < r->next)
		loop_poll(r->loop, LOOP_FOREVER);
}

static void note_touched(struct rig *r, const struct op *o)
{
	for (uint64_t c = o->off / CHUNK; o->len && c <= (o->off + o->len - 1) / CHUNK; c++)
		r->touched[c] |= o->op == OP_WRITE;
}

/* A flush waits for what was acknowledged before it, so all must be. */
static void submit_next(struct rig *r)
{
	static const enum lsvd_op ops[] = {
		0, LSVD_WRITE, LSVD_FLUSH, LSVD_DISCARD, LSVD_WRITE_ZEROES};
	const struct op *o = &r->s.op[r->next];
	int i;

	if (o->op == OP_FLUSH)
		wait_for_all(r);
	while ((i = idle_slot(r)) < 0)
		loop_poll(r->loop, LOOP_FOREVER);
	r->iov[i] = (struct iovec){(void *)(uintptr_t)o->data, o->len};
	r->io[i] = (struct lsvd_io){.op = ops[o->op],
		.offset_bytes = o->off,
		.len_bytes = o->len,
		.iov = &r->iov[i],
		.iovcnt = o->op == OP_WRITE,
		.cb = over,
		.user = r};
	note_touched(r, o);
	r->number[i] = ++r->next;
	assert_int_equal(lsvd_submit(r->img, &r->io[i]), 0);
	if (o->op != OP_FLUSH)
		return;
	wait_for_all(r);
	r->flushed = r->next;
}

/* ---- what is there ---- */

/* -ESTALE: a reader, and the writer has deleted something. */
static int read_image(struct rig *r, struct lsvd_image *img)
{
	for (uint64_t c = 0; c * CHUNK < r->s.size; c++) {
		uint64_t len = r->s.size - c * CHUNK < CHUNK ? r->s.size - c * CHUNK : CHUNK;
		int rc;

		if (!r->touched[c])
			continue;
		rc = lsvd_pread(img, r->got + c * CHUNK, len, c * CHUNK);
		if (rc == -ESTALE)
			return rc;
		if (rc < 0)
			fail_msg("read at %" PRIu64 ": %s", c * CHUNK, strerror(-rc));
	}
	return 0;
}

static uint64_t wrong_sectors(const uint8_t *a, const uint8_t *b, uint64_t off, uint64_t len)
{
	uint64_t n = 0;

	for (uint64_t s = off; s < off + len; s += 512)
		n += memcmp(a + s, b + s, 512) != 0;
	return n;
}

static void move_base(struct rig *r, size_t to)
{
	for (; r->base < to; r->base++)
		apply(&r->s.op[r->base], r->base_image);
}

/* now_image is base_image again. */
static void forget_tries(struct rig *r, size_t tried)
{
	for (size_t i = r->base; i < tried; i++) {
		const struct op *o = &r->s.op[i];

		memcpy(r->now_image + o->off, r->base_image + o->off, o->len);
	}
}

/* The largest n from `low` to r->next for which r->got is the state after n operations. */
static size_t find_prefix(struct rig *r, size_t low, const char *what)
{
	uint64_t wrong = 0;
	size_t found = SIZE_MAX;

	for (uint64_t c = 0; c * CHUNK < r->s.size; c++) {
		uint64_t len = r->s.size - c * CHUNK < CHUNK ? r->s.size - c * CHUNK : CHUNK;

		if (r->touched[c] && memcmp(r->got + c * CHUNK, r->now_image + c * CHUNK, len))
			wrong += wrong_sectors(r->got, r->now_image, c * CHUNK, len);
	}
	for (size_t n = r->base;; n++) {
		const struct op *o = &r->s.op[n];

		if (!wrong && n >= low)
			found = n;
		if (n == r->next)
			break;
		wrong -= wrong_sectors(r->got, r->now_image, o->off, o->len);
		apply(o, r->now_image);
		wrong += wrong_sectors(r->got, r->now_image, o->off, o->len);
	}
	forget_tries(r, r->next);
	if (found == SIZE_MAX)
		fail_msg("%s after %zu operations (%zu acknowledged, %zu flushed, %zu stored): not "
			 "the state after any number of them from %zu on; %" PRIu64
			 " sectors differ from the last",
			what, r->next, r->acked, r->flushed, r->stored, low, wrong);
	return found;
}

static void write_state(const struct rig *r, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)r->s.size), 0);
	for (uint64_t c = 0; c * CHUNK < r->s.size; c++) {
		uint64_t len = r->s.size - c * CHUNK < CHUNK ? r->s.size - c * CHUNK : CHUNK;
		const uint8_t *p = r->got + c * CHUNK;

		if (r->touched[c] && (*p || memcmp(p, p + 1, len - 1)))
			assert_int_equal(pwrite(fd, p, len, (off_t)(c * CHUNK)), len);
	}
	close(fd);
}

/* What was run, how it ended, and all that it said. */
static void show_check(const char *cmd, const char *path, int rc)
{
	char show[400];

	print_message("the check: %s\n%s %d; it said:\n", cmd,
		rc == -1	  ? "not run, error"
		: WIFSIGNALED(rc) ? "killed by signal"
				  : "exit code",
		rc == -1	  ? errno
		: WIFSIGNALED(rc) ? WTERMSIG(rc)
				  : WEXITSTATUS(rc));
	fflush(stdout);
	snprintf(show, sizeof(show), "sed 's/^/  | /' '%s.out'", path);
	if (system(show))
		print_message("  nothing\n");
}

/* FS_KEEP: a folder for a state that is not sound, as it is after the check. */
static void keep_state(const char *path)
{
	const char *to = getenv("FS_KEEP");
	char cmd[1000];

	if (!to)
		return;
	snprintf(cmd, sizeof(cmd), "mkdir -p '%s' && cp --sparse=always '%s' '%s/state'", to, path,
		to);
	if (system(cmd))
		print_message("the state could not be kept in %s\n", to);
}

/* Is it a sound file system, with everything that had been promised by then? */
static void check_state(struct rig *r, size_t n, const char *what)
{
	uint64_t end = n ? r->s.op[n - 1].end : 0;
	char path[300], cmd[1200];
	int rc;

	r->states++;
	if (!r->check || r->checked[n] || end < r->begin)
		return;
	r->checked[n] = 1;
	if (draw(r, 100) >= r->percent)
		return;
	snprintf(path, sizeof(path), "%s/state", test_dir());
	write_state(r, path);
	snprintf(cmd, sizeof(cmd), "FS_IMAGE='%s'; FS_POS=%" PRIu64 "; %s > '%s.out' 2>&1", path,
		end, r->check, path);
	r->checks++;
	rc = system(cmd);
	if (!rc)
		return;
	show_check(cmd, path, rc);
	keep_state(path);
	fail_msg("%s: the state after %zu of %zu operations is not sound, or could not be checked",
		what, n, r->s.n);
}

/* ---- crashes ---- */

/* What objects hold for certain. */
static void sometimes_drain(struct rig *r)
{
	if (draw(r, 6))
		return;
	wait_for_all(r);
	assert_int_equal(lsvd_image_drain(r->img), 0);
	r->stored = r->next;
	move_base(r, r->stored);
	for (uint64_t c = 0; c * CHUNK < r->s.size; c++) {
		uint64_t len = r->s.size - c * CHUNK < CHUNK ? r->s.size - c * CHUNK : CHUNK;

		if (r->touched[c])
			memcpy(r->now_image + c * CHUNK, r->base_image + c * CHUNK, len);
	}
}

static void look_at_store(struct rig *r)
{
	struct lsvd_image *img;
	int rc = -ESTALE;

	for (int tries = 0; rc == -ESTALE && tries < 20; tries++) {
		rc = ctx_image_open(r->ctx, r->store, "fs", LSVD_OPEN_READONLY, &img, &r->e);
		if (rc < 0)
			fail_msg("a reader: %s", r->e.msg);
		rc = read_image(r, img);
		assert_int_equal(lsvd_image_close(img, r->e.msg), 0);
	}
	assert_int_equal(rc, 0);
	check_state(r, find_prefix(r, r->stored, "a reader"), "a reader");
}

static void crash(struct rig *r, enum crash how)
{
	static const char *const names[] = {"a machine crash", "a kill", "a lost pool"};
	size_t low = how == MACHINE ? r->flushed : how == PROCESS ? r->acked : r->stored, n;

	if (low < r->stored)
		low = r->stored;
	sim_disk_crash(r->disk, test_rand(&r->rng), how == PROCESS);
	loop_sim_crash(r->loop);
	power_off(r);
	if (how == POOL)
		new_disk(r);
	power_on(r, how == POOL ? LSVD_OPEN_NO_JOURNAL : 0);
	assert_int_equal(read_image(r, r->img), 0);
	n = find_prefix(r, low, names[how]);
	check_state(r, n, names[how]);
	/* The stream goes on from there: what came later has not happened. */
	memset(r->done + n, 0, r->s.n - n);
	r->next = r->acked = n;
	if (r->flushed > n)
		r->flushed = n;
}

/* Something is under way when it happens. */
static void cut_here(struct rig *r)
{
	enum crash how = (enum crash)draw(r, CRASHES);

	sometimes_drain(r);
	for (uint64_t i = draw(r, 40); i && draw(r, 4); i--)
		loop_poll(r->loop, 0);
	r->crashes[how]++;
	if (how == READER)
		look_at_store(r);
	else
		crash(r, how);
}

TEST(a_stream_of_writes_survives_crashes)
{
	struct rig *r = rig_new();
	const char *more = getenv("FS_STATES");
	const char *checks = getenv("FS_CHECKS");
	uint64_t every = r->s.n / ((more ? strtoull(more, NULL, 10) : 60) + 1) + 1;
	size_t furthest = 0;

	/* Some six in ten of all cuts lead to a state that was not seen before. */
	r->percent = checks ? strtoull(checks, NULL, 10) * 160 / (r->s.flushes + 60) : 100;
	while (r->next < r->s.n) {
		bool flush = r->s.op[r->next].op == OP_FLUSH;

		submit_next(r);
		/* Each point once: the stream comes by again after a crash. */
		if (r->next <= furthest)
			continue;
		furthest = r->next;
		if (flush || draw(r, every) == 0)
			cut_here(r);
	}
	wait_for_all(r);
	assert_int_equal(read_image(r, r->img), 0);
	find_prefix(r, r->s.n, "at the end");
	print_message(
		"%zu operations, %zu flushes; %u states (%u machine crashes, %u kills, %u lost "
		"pools, %u readers), %u of them checked as file systems\n",
		r->s.n, r->s.flushes, r->states, r->crashes[MACHINE], r->crashes[PROCESS],
		r->crashes[POOL], r->crashes[READER], r->checks);
	rig_free(r);
}
