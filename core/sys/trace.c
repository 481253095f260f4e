/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.c - see trace.h.
 *
 *   record() --codes--> slot[head]      full: head + 1, if the writer has freed that slot
 *   writer    tail .. head - 1 are full: sealed in place, written, tail moves on
 *             slot[head], once a second: a copy of its finished records is sealed and written at
 *             the place in the file where the full block will go
 *
 * head is stored by the loop thread, tail by the writer; a slot's `progress` (used and count in one
 * word) is stored after each record, so the writer's copy never sees half of one.  Block k of the
 * ring's history always becomes block k + 1 of the file.
 */
#include "sys/trace.h"
#include "format/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCKS_DEFAULT = 512, BLOCKS_MIN = 4, PARTIAL_MS = 500 };

struct slot {
	struct trace_block b;
	_Atomic uint64_t progress; /* used << 32 | count */
};

struct trace_recorder {
	/* the loop thread's */
	struct slot *cur; /* slot[head], or NULL: none is free */
	uint64_t start_ns, first_record;
	_Atomic uint64_t records, dropped;
	uint64_t head_pos; /* == head */
	_Atomic uint64_t head;
	/* the writer's */
	_Atomic uint64_t tail __attribute__((aligned(64)));
	_Atomic uint64_t lost; /* records that were taken, but could not be written */
	_Atomic int error;
	uint64_t partial_pos, partial_progress; /* what the last partial write contained */
	/* constant */
	struct slot *slots;
	uint8_t *mem; /* blocks x 4 KiB, and one for copies */
	uint32_t blocks, wake_at;
	uint8_t uuid[16];
	char *path;
	int fd, wake_fd;
	bool sync, threaded;
	_Atomic bool closing;
	pthread_t thread;
};

static uint8_t *slot_mem(const struct trace_recorder *t, uint64_t pos)
{
	return t->mem + pos % t->blocks * TRACE_BLOCK_BYTES;
}

/* ---- writing: the writer thread, or the loop's when sync ---- */

static int write_all(int fd, const uint8_t *p, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Blocks [pos, pos + n) of the history, contiguous at p. */
static void write_blocks(struct trace_recorder *t, const uint8_t *p, uint64_t pos, uint64_t n)
{
	uint64_t off = (pos + 1) * TRACE_BLOCK_BYTES;
	int rc = t->error ? t->error : write_all(t->fd, p, n * TRACE_BLOCK_BYTES, off);

	if (rc < 0 && !t->error) {
		t->error = rc;
		if (ftruncate(t->fd, (off_t)off) < 0)
			t->error = rc; /* the reader drops the torn tail */
	}
}

static void write_full(struct trace_recorder *t)
{
	uint64_t tail = t->tail, head = atomic_load_explicit(&t->head, memory_order_acquire);

	while (tail < head) {
		uint64_t to_wrap = t->blocks - tail % t->blocks, n = head - tail, records = 0;

		if (n > to_wrap)
			n = to_wrap;
		for (uint64_t i = tail; i < tail + n; i++) {
			struct slot *s = &t->slots[i % t->blocks];

			trace_block_seal(&s->b, s->b.buf, t->uuid, i + 1, s->b.used, s->b.count);
			records += s->b.count;
			/* before tail gives the slot back: what is seen there later is new */
			atomic_store_explicit(&s->progress, 0, memory_order_relaxed);
		}
		write_blocks(t, slot_mem(t, tail), tail, n);
		if (t->error)
			t->lost += records;
		tail += n;
		atomic_store_explicit(&t->tail, tail, memory_order_release);
	}
}

/* The block that is being filled, as far as it is.  Its slot is not reused before tail passes it.
 */
static void write_partial(struct trace_recorder *t)
{
	uint64_t pos = t->tail, progress;
	struct slot *s = &t->slots[pos % t->blocks];
	uint8_t *copy = t->mem + (size_t)t->blocks * TRACE_BLOCK_BYTES;
	uint32_t used;

	if (pos != atomic_load_explicit(&t->head, memory_order_acquire))
		return;
	progress = atomic_load_explicit(&s->progress, memory_order_acquire);
	if (!(uint32_t)progress || (t->partial_pos == pos && t->partial_progress == progress))
		return;
	used = (uint32_t)(progress >> 32);
	memcpy(copy, s->b.buf, TRACE_BLOCK_HEAD + used);
	trace_block_seal(&s->b, copy, t->uuid, pos + 1, used, (uint32_t)progress);
	write_blocks(t, copy, pos, 1);
	t->partial_pos = pos;
	t->partial_progress = progress;
}

static void *writer(void *arg)
{
	struct trace_recorder *t = arg;

	while (!t->closing) {
		struct pollfd p = {.fd = t->wake_fd, .events = POLLIN};
		uint64_t n;

		if (poll(&p, 1, PARTIAL_MS) > 0 && read(t->wake_fd, &n, sizeof(n)) < 0)
			break;
		write_full(t);
		if (!(p.revents & POLLIN))
			write_partial(t);
	}
	return NULL;
}

static void wake(struct trace_recorder *t)
{
	uint64_t one = 1;
	ssize_t n = write(t->wake_fd, &one, sizeof(one));

	(void)n; /* a full counter wakes as well */
}

/* ---- recording: the loop thread ---- */

/* Opens slot[head] when the writer has freed it. */
static struct slot *begin_slot(struct trace_recorder *t)
{
	uint64_t tail = atomic_load_explicit(&t->tail, memory_order_acquire);
	struct slot *s = &t->slots[t->head_pos % t->blocks];

	if (t->error || t->head_pos - tail >= t->blocks)
		return NULL;
	trace_block_begin(&s->b, slot_mem(t, t->head_pos), t->first_record, t->dropped);
	return s;
}

static void end_slot(struct trace_recorder *t)
{
	t->first_record += t->cur->b.count;
	t->cur = NULL;
	t->head_pos++;
	atomic_store_explicit(&t->head, t->head_pos, memory_order_release);
	if (t->sync)
		write_full(t);
	else if (t->head_pos % t->wake_at == 0)
		wake(t);
}

static int add(struct trace_recorder *t, const struct trace_record *r)
{
	int rc;

	if (!t->cur)
		t->cur = begin_slot(t);
	if (!t->cur)
		return -ENOSPC;
	rc = trace_block_add(&t->cur->b, r);
	if (rc == 1)
		atomic_store_explicit(&t->cur->progress,
			(uint64_t)t->cur->b.used << 32 | t->cur->b.count, memory_order_release);
	return rc;
}

static void bump(_Atomic uint64_t *counter)
{
	uint64_t v = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, v + 1, memory_order_relaxed);
}

void trace_recorder_record(struct trace_recorder *t, struct trace_record *r)
{
	int rc;

	r->submit_ns = r->submit_ns > t->start_ns ? r->submit_ns - t->start_ns : 0;
	if (r->complete_ns)
		r->complete_ns = r->complete_ns > t->start_ns ? r->complete_ns - t->start_ns : 1;
	rc = add(t, r);
	if (rc == 0) {
		end_slot(t);
		rc = add(t, r);
	}
	bump(rc == 1 ? &t->records : &t->dropped);
}

void trace_recorder_stats(const struct trace_recorder *t, struct trace_recorder_stats *st)
{
	uint64_t lost = t->lost;

	*st = (struct trace_recorder_stats){.records = t->records - lost,
		.dropped = t->dropped + lost,
		.bytes = (t->tail + 1) * TRACE_BLOCK_BYTES,
		.error = t->error};
}

/* ---- open and close ---- */

/* An empty file, or a trace, may be overwritten. */
static int check_file(int fd, const char *path, struct err *e)
{
	uint8_t head[TRACE_MAGIC_BYTES];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "trace '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "trace '%s' is not a regular file", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "trace '%s' is being recorded by somebody else", path);
	if (!st.st_size)
		return 0;
	if (pread(fd, head, sizeof(head), 0) != sizeof(head) ||
		memcmp(head, TRACE_MAGIC, TRACE_MAGIC_BYTES))
		return err_set(e, -EEXIST,
			"'%s' exists and is no trace; it is not overwritten: choose another name",
			path);
	return 0;
}

static int open_file(
	struct trace_recorder *t, const struct trace_recorder_options *o, struct err *e)
{
	struct trace_header h = {.size_bytes = o->size_bytes, .start_wall_ns = o->start_wall_ns};
	int rc;

	t->fd = open(t->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (t->fd < 0)
		return err_set(e, -errno, "trace '%s': %s", t->path, strerror(errno));
	rc = check_file(t->fd, t->path, e);
	if (rc < 0)
		return rc;
	memcpy(h.trace_uuid, t->uuid, 16);
	memcpy(h.image_uuid, o->image_uuid, 16);
	if (o->comment)
		strncpy(h.comment, o->comment, TRACE_COMMENT_MAX);
	trace_header_encode(&h, t->mem);
	rc = ftruncate(t->fd, 0) < 0 ? -errno : write_all(t->fd, t->mem, TRACE_BLOCK_BYTES, 0);
	return rc < 0 ? err_set(e, rc, "trace '%s': %s", t->path, strerror(-rc)) : 0;
}

static int start_thread(struct trace_recorder *t, struct err *e)
{
	sigset_t all, old;
	int rc;

	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->wake_fd < 0)
		return err_set(e, -errno, "trace: eventfd: %s", strerror(errno));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t->thread, NULL, writer, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(e, -rc, "trace: cannot start a thread: %s", strerror(rc));
	t->threaded = true;
	pthread_setname_np(t->thread, "lsvd-trace");
	return 0;
}

static void recorder_free(struct trace_recorder *t)
{
	if (t->fd >= 0)
		close(t->fd);
	if (t->wake_fd >= 0)
		close(t->wake_fd);
	free(t->slots);
	free(t->mem);
	free(t->path);
	free(t);
}

static struct trace_recorder *recorder_new(const char *path, const struct trace_recorder_options *o)
{
	struct trace_recorder *t = aligned_alloc(64, sizeof(*t));
	size_t bytes;

	if (!t)
		return NULL;
	*t = (struct trace_recorder){.fd = -1, .wake_fd = -1, .sync = o->sync};
	t->start_ns = o->start_ns;
	memcpy(t->uuid, o->trace_id, 16);
	t->blocks = o->blocks ? o->blocks : o->sync ? BLOCKS_MIN : BLOCKS_DEFAULT;
	if (t->blocks < BLOCKS_MIN)
		t->blocks = BLOCKS_MIN;
	t->wake_at = t->blocks / 8 ? t->blocks / 8 : 1;
	bytes = (size_t)(t->blocks + 1) * TRACE_BLOCK_BYTES;
	t->slots = calloc(t->blocks, sizeof(*t->slots));
	t->mem = aligned_alloc(TRACE_BLOCK_BYTES, bytes);
	t->path = strdup(path);
	if (!t->slots || !t->mem || !t->path) {
		recorder_free(t);
		return NULL;
	}
	memset(t->mem, 0, bytes); /* no page fault on the data path */
	return t;
}

int trace_recorder_open(const char *path, const struct trace_recorder_options *opt,
	struct trace_recorder **out, struct err *e)
{
	struct trace_recorder *t = recorder_new(path, opt);
	int rc;

	if (!t)
		return err_set(e, -ENOMEM, "trace '%s': out of memory", path);
	rc = open_file(t, opt, e);
	if (rc == 0 && !t->sync)
		rc = start_thread(t, e);
	if (rc < 0) {
		recorder_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

/* The last block; an empty one when only the drop counter is news. */
static void finish(struct trace_recorder *t)
{
	uint64_t dropped = t->dropped;

	if (!t->cur)
		t->cur = begin_slot(t);
	if (!t->cur)
		return;
	if (t->cur->b.count && t->cur->b.dropped != dropped) {
		end_slot(t);
		write_full(t);
		t->cur = begin_slot(t);
	}
	if (t->cur && (t->cur->b.count || dropped)) {
		end_slot(t);
		write_full(t);
	}
}

int trace_recorder_close(struct trace_recorder *t, struct err *e)
{
	struct trace_recorder_stats st;
	int rc;

	if (t->threaded) {
		t->closing = true;
		wake(t);
		pthread_join(t->thread, NULL);
	}
	write_full(t);
	finish(t);
	trace_recorder_stats(t, &st);
	rc = st.error;
	if (rc < 0)
		rc = err_set(e, rc,
			"trace '%s': %s: recording stopped after %llu records; %llu were dropped",
			t->path, strerror(-rc), (unsigned long long)st.records,
			(unsigned long long)st.dropped);
	recorder_free(t);
	return rc;
}
