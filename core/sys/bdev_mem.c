/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev_mem.c - a block device in memory, on any loop: no system calls, no allocation per request.
 *
 * A request is put on a list, and one task completes the whole list on the next iteration.  Writes
 * are copied when they are submitted; reads when they complete, each while the memory of the next is
 * being fetched.  A discard does nothing.  Memory is mapped in huge pages and touched at open,
 * so that no request pays for a page fault; what does not fit into the machine's free memory is
 * refused.
 */
#include "sys/bdev_impl.h"
#include "sys/copy.h"
#include "sys/loop_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MEM_SECTOR = 512, ASKED_FIRST = 1024, ASKED_THEN = 1536 /* bytes */ };

struct mem_dev {
	struct bdev d;
	char *bytes;
	struct loop_task finish;
	struct bdev_req *done, **done_end;
};

static struct mem_dev *mem_of(struct bdev *d)
{
	return container_of(d, struct mem_dev, d);
}

static void copy(struct mem_dev *m, const struct bdev_req *r)
{
	char *at = m->bytes + r->offset_bytes;

	for (int i = 0; i < r->iovcnt; i++) {
		size_t n = r->iov[i].iov_len;

		if (r->op == BDEV_WRITE)
			copy_away(at, r->iov[i].iov_base, n);
		else
			memcpy(r->iov[i].iov_base, at, n);
		at += n;
	}
}

/* What a read will copy is asked for in two parts, since not all of it can be on its way at once. */
COPY_INLINE void expect(
	const struct mem_dev *m, const struct bdev_req *r, size_t from, size_t len)
{
	if (from < r->len_bytes)
		copy_expect(m->bytes + r->offset_bytes + from,
			len < r->len_bytes - from ? len : r->len_bytes - from);
}

static void mem_submit(struct bdev *d, struct bdev_req *r)
{
	struct mem_dev *m = mem_of(d);

	if (r->op == BDEV_READ)
		expect(m, r, 0, ASKED_FIRST);
	if (r->op == BDEV_WRITE)
		copy(m, r);
	r->next = NULL;
	*m->done_end = r;
	m->done_end = &r->next;
	loop_defer(d->loop, &m->finish);
}

/* What done() submits goes to a new list, for the next iteration; the device may be closed by the
 * last. */
static void finish_all(struct loop_task *t)
{
	struct mem_dev *m = container_of(t, struct mem_dev, finish);
	struct bdev_req *r = m->done, *next;

	m->done = NULL;
	m->done_end = &m->done;
	for (; r; r = next) {
		next = r->next;
		if (r->op == BDEV_READ)
			copy(m, r);
		if (next && next->op == BDEV_READ)
			expect(m, next, ASKED_FIRST, ASKED_THEN);
		r->done(r, 0);
	}
}

static void mem_close(struct bdev *d)
{
	struct mem_dev *m = mem_of(d);

	assert(!m->done);
	munmap(m->bytes, d->size_bytes);
	free(m);
}

static const struct bdev_ops mem_ops = {.submit = mem_submit, .close = mem_close};

/* Bytes of memory to be had without swapping; UINT64_MAX when nobody tells. */
static uint64_t available_bytes(void)
{
	uint64_t kib, found = UINT64_MAX;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return found;
	while (found == UINT64_MAX && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
			found = kib * 1024;
	fclose(f);
	return found;
}

static void touch_all(char *p, uint64_t len)
{
	if (madvise(p, len, MADV_POPULATE_WRITE) == 0)
		return;
	for (uint64_t i = 0; i < len; i += BDEV_ROUND)
		((volatile char *)p)[i] = 0;
}

static int map_bytes(uint64_t size, char **out)
{
	char *p;

	if (size > available_bytes())
		return -ENOMEM;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	/* Only advice: without huge pages it works the same, a little slower. */
	(void)madvise(p, size, MADV_HUGEPAGE);
	touch_all(p, size);
	*out = p;
	return 0;
}

/* "64M" -> bytes. */
static int parse_size(const char *s, uint64_t *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	uint64_t n, scale = 1;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(s, &end, 10);
	if (errno)
		return -EINVAL;
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (*end && (!unit || end[1]))
		return -EINVAL;
	if (unit)
		scale = 1ull << (10 * (unit - units + 1));
	if (__builtin_mul_overflow(n, scale, out) || *out < BDEV_ROUND)
		return -EINVAL;
	return 0;
}

int bdev_mem_open(const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e)
{
	struct mem_dev *m;
	uint64_t size;
	int rc;

	if (parse_size(a->rest, &size) < 0)
		return err_set(e, -EINVAL,
			"memory device '%s': write its size like mem:64M or mem:4G, at least "
			"mem:4K",
			a->url);
	size -= size % BDEV_ROUND;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(e, -ENOMEM, "no memory for block device '%s'", a->url);
	bdev_init(&m->d, &mem_ops, a);
	rc = map_bytes(size, &m->bytes);
	if (rc < 0) {
		free(m);
		return err_set(e, rc, "memory device '%s': not enough free memory", a->url);
	}
	m->d.size_bytes = size;
	m->d.sector_bytes = MEM_SECTOR;
	m->d.memory = true;
	m->finish.run = finish_all;
	m->done_end = &m->done;
	*created = true;
	*out = &m->d;
	return 0;
}
