/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* blkreq.c - see blkreq.h.  Pending requests are in a hash table by device, sector and kind, and in
 * a list by age: the oldest makes room. */
#include "trace/blkreq.h"
#include "trace/wire_bytes.h"

#include <errno.h>
#include <stdlib.h>

enum { BUCKETS = 4096, DEVICES_MAX = 64, SECTOR = 512, VERSION = 7, MAGIC = 0x65617400 };

/* linux/blktrace_api.h: the low byte of an action, and the categories above it. */
enum { TA_QUEUE = 1, TA_REQUEUE = 6, TA_ISSUE = 7, TA_COMPLETE = 8 };
enum {
	TC_WRITE = 1 << 1,
	TC_FLUSH = 1 << 2,
	TC_PC = 1 << 9,
	TC_NOTIFY = 1 << 10,
	TC_DISCARD = 1 << 13,
	TC_DRV_DATA = 1 << 14,
	TC_FUA = 1 << 15
};

struct pending {
	struct pending *chain;	       /* of its bucket */
	struct pending *newer, *older; /* by age */
	struct trace_record r;
	uint64_t sector, left_bytes;
	uint32_t device;
	bool issued;
};

struct device {
	uint32_t device;
	bool issues; /* it has D events */
};

struct blk_matcher {
	struct pending *bucket[BUCKETS];
	struct pending *newest, *oldest;
	struct pending *done, **done_end; /* by their chain */
	unsigned n;
	struct device devices[DEVICES_MAX];
	unsigned n_devices;
	struct blk_counts counts;
};

int blk_event_decode(const uint8_t *p, struct blk_event *ev)
{
	static const uint8_t actions[] = {[TA_QUEUE] = BLK_QUEUE,
		[TA_REQUEUE] = BLK_REQUEUE,
		[TA_ISSUE] = BLK_ISSUE,
		[TA_COMPLETE] = BLK_COMPLETE};
	uint32_t action = le32(p + 28), category = action >> 16, act = action & 0xff;

	if (le32(p) != (MAGIC | VERSION))
		return be32(p) >> 8 == MAGIC >> 8 || le32(p) >> 8 == MAGIC >> 8 ? -EPROTO
										: -EUCLEAN;
	*ev = (struct blk_event){.at_ns = le64(p + 8),
		.sector = le64(p + 16),
		.bytes = le32(p + 24),
		.device = le32(p + 36),
		.cpu = (uint16_t)le32(p + 40),
		.error = le16(p + 44),
		.write = category & TC_WRITE,
		.discard = category & TC_DISCARD,
		.flush = category & TC_FLUSH,
		.fua = category & TC_FUA,
		.passthrough = category & TC_PC};
	if (!(category & (TC_NOTIFY | TC_DRV_DATA)) && act < sizeof(actions))
		ev->action = actions[act];
	return le16(p + 46);
}

/* ---- the table ---- */

static unsigned bucket_of(uint32_t device, uint64_t sector, uint8_t op)
{
	return (unsigned)(((sector ^ (uint64_t)device << 40 ^ (uint64_t)op << 36) *
				  0x9E3779B97F4A7C15ull) >>
			  40) %
	       BUCKETS;
}

static struct pending **find(struct blk_matcher *m, uint32_t device, uint64_t sector, uint8_t op)
{
	struct pending **at = &m->bucket[bucket_of(device, sector, op)];

	while (*at && ((*at)->device != device || (*at)->sector != sector || (*at)->r.op != op))
		at = &(*at)->chain;
	return at;
}

static struct pending *take(struct blk_matcher *m, struct pending **at)
{
	struct pending *p = *at;

	*at = p->chain;
	*(p->newer ? &p->newer->older : &m->newest) = p->older;
	*(p->older ? &p->older->newer : &m->oldest) = p->newer;
	p->chain = NULL;
	m->n--;
	return p;
}

static struct pending *take_oldest(struct blk_matcher *m)
{
	struct pending *p = m->oldest, **at = &m->bucket[bucket_of(p->device, p->sector, p->r.op)];

	while (*at != p)
		at = &(*at)->chain;
	return take(m, at);
}

static void put_done(struct blk_matcher *m, struct pending *p)
{
	m->counts.requests++;
	m->counts.unanswered += p->r.complete_ns == 0;
	*m->done_end = p;
	m->done_end = &p->chain;
}

/* By arrival; at the end of its bucket, so that the oldest is found first. */
static void put(struct blk_matcher *m, struct pending *p)
{
	struct pending **at = &m->bucket[bucket_of(p->device, p->sector, p->r.op)];

	while (*at)
		at = &(*at)->chain;
	*at = p;
	p->chain = NULL;
	p->newer = NULL;
	p->older = m->newest;
	*(p->older ? &p->older->newer : &m->oldest) = p;
	m->newest = p;
	m->n++;
}

/* ---- events ---- */

static uint8_t op_of(const struct blk_event *ev)
{
	if (ev->discard)
		return TRACE_DISCARD;
	if (!ev->bytes)
		return TRACE_FLUSH; /* asked for as such, or as an empty write that flushes first */
	if (ev->zeroes)
		return TRACE_WRITE_ZEROES;
	return ev->write ? TRACE_WRITE : TRACE_READ;
}

static struct device *device_of(struct blk_matcher *m, uint32_t device)
{
	unsigned i = 0;

	while (i < m->n_devices && m->devices[i].device != device)
		i++;
	if (i == DEVICES_MAX)
		return &m->devices[DEVICES_MAX - 1];
	if (i == m->n_devices)
		m->devices[m->n_devices++] = (struct device){.device = device};
	return &m->devices[i];
}

/* A device that has D events after all: what was only queued is no request. */
static void drop_queued(struct blk_matcher *m, uint32_t device)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct pending **at = &m->bucket[i];

		while (*at) {
			if ((*at)->device == device && !(*at)->issued)
				free(take(m, at));
			else
				at = &(*at)->chain;
		}
	}
}

static int begin(struct blk_matcher *m, const struct blk_event *ev)
{
	struct pending *p = malloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct pending){.device = ev->device,
		.sector = ev->sector,
		.left_bytes = ev->bytes,
		.issued = ev->action == BLK_ISSUE};
	p->r = (struct trace_record){.submit_ns = ev->at_ns,
		.op = op_of(ev),
		.len_bytes = ev->bytes,
		.offset_bytes = ev->sector > UINT64_MAX / SECTOR ? UINT64_MAX : ev->sector * SECTOR,
		.flags = ev->fua ? TRACE_FUA : 0,
		.stream = (uint8_t)ev->cpu};
	if (p->r.op == TRACE_FLUSH)
		p->r.offset_bytes = p->sector = p->r.flags = 0;
	if (m->n == BLK_PENDING_MAX)
		put_done(m, take_oldest(m));
	put(m, p);
	return 0;
}

static void complete(struct blk_matcher *m, const struct blk_event *ev)
{
	uint8_t op = op_of(ev);
	struct pending **at = find(m, ev->device, op == TRACE_FLUSH ? 0 : ev->sector, op), *p = *at;

	if (!p) {
		m->counts.strays++;
		return;
	}
	p = take(m, at);
	if (ev->error)
		p->r.flags |= TRACE_ERROR;
	if (ev->bytes < p->left_bytes && !ev->error) { /* the rest is told of separately */
		p->left_bytes -= ev->bytes;
		p->sector += ev->bytes / SECTOR;
		put(m, p);
		return;
	}
	p->r.complete_ns = ev->at_ns > p->r.submit_ns ? ev->at_ns : p->r.submit_ns;
	put_done(m, p);
}

int blk_matcher_event(struct blk_matcher *m, const struct blk_event *ev)
{
	struct device *d;

	if (ev->action == BLK_OTHER)
		return 0;
	if (ev->passthrough) {
		m->counts.passthrough += ev->action == BLK_ISSUE;
		return 0;
	}
	d = device_of(m, ev->device);
	if (ev->action == BLK_ISSUE && !d->issues) {
		d->issues = true;
		drop_queued(m, ev->device);
	}
	if (ev->action == BLK_ISSUE || (ev->action == BLK_QUEUE && !d->issues))
		return begin(m, ev);
	if (ev->action == BLK_COMPLETE) {
		complete(m, ev);
	} else if (ev->action == BLK_REQUEUE) { /* it will be issued again */
		struct pending **at = find(m, ev->device, ev->sector, op_of(ev));

		if (*at)
			free(take(m, at));
	}
	return 0;
}

bool blk_matcher_next(struct blk_matcher *m, struct trace_record *r, uint32_t *device)
{
	struct pending *p = m->done;

	if (!p)
		return false;
	m->done = p->chain;
	if (!m->done)
		m->done_end = &m->done;
	*r = p->r;
	*device = p->device;
	free(p);
	return true;
}

void blk_matcher_finish(struct blk_matcher *m)
{
	while (m->oldest) {
		struct pending *p = take_oldest(m);

		if (p->issued || !device_of(m, p->device)->issues)
			put_done(m, p);
		else
			free(p);
	}
}

struct blk_matcher *blk_matcher_new(void)
{
	struct blk_matcher *m = calloc(1, sizeof(*m));

	if (m)
		m->done_end = &m->done;
	return m;
}

const struct blk_counts *blk_matcher_counts(const struct blk_matcher *m)
{
	return &m->counts;
}

void blk_matcher_free(struct blk_matcher *m)
{
	struct trace_record r;
	uint32_t device;

	if (!m)
		return;
	blk_matcher_finish(m);
	while (blk_matcher_next(m, &r, &device))
		;
	free(m);
}
