/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsck_objects.c - every data object: its header, its size, that the map points only to where the
 * header has data, and with FSCK_DATA every checksum of its data.
 *
 * The objects are cut into pieces (the header, then 1 MiB of data at a time), of which a few are
 * being read while one is looked at, strictly in order: so findings come in order, and the store is
 * kept busy.
 */
#include "volume/fsck_impl.h"

#include "sys/container.h"
#include "sys/crc.h"
#include "volume/volume_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 8, PIECE_BYTES = 1 << 20, HEADER_BYTES_MAX = 1 << 30 };

_Static_assert(PIECE_BYTES % OBJECT_CRC_BYTES == 0 && PIECE_BYTES % OBJECT_CRC_BYTES_V1 == 0,
	"a piece is whole chunks");

struct piece {
	struct store_req req;
	struct iovec iov;
	char name[STORE_NAME_MAX];
	struct err err;
	uint32_t target;
	uint64_t off, len;
	uint8_t *buf;
	uint64_t cap;
	int64_t status;
	unsigned tries;
	bool over;
};

/* Chunks in a row that do not match become one finding. */
struct damage {
	uint64_t from, to; /* bytes in the object; equal: none */
};

struct scan {
	struct fsck *f;
	struct fsck_target *t;
	uint32_t n;
	uint32_t next; /* what to ask for: target, and where in it */
	uint64_t next_off;
	uint64_t done_bytes, total_bytes;
	struct piece ring[AHEAD];
	uint64_t asked, looked;
	/* the object being looked at */
	uint8_t *header;
	struct object_header h;
	struct damage damage;
};

static const uint8_t *target_uuid(const struct fsck *f, uint64_t seq);

/* ---- one header ---- */

int fsck_read_header(struct fsck *f, const char *name, uint64_t epoch, uint64_t seq,
	struct object_header *h, uint8_t **buf, uint64_t *size, struct err *e)
{
	int64_t n;
	int rc;

	*size = 0;
	*buf = malloc(FSCK_HEADER_FIRST_BYTES);
	if (!*buf)
		return -ENOMEM;
	n = fsck_get(f, name, 0, *buf, FSCK_HEADER_FIRST_BYTES, size, e);
	rc = n < 0 ? (int)n : object_decode_fixed(*buf, (size_t)n, h, e);
	if (rc == 0 && h->header_bytes > n && h->header_bytes <= *size) {
		free(*buf);
		*buf = malloc(h->header_bytes);
		n = *buf ? fsck_get(f, name, 0, *buf, h->header_bytes, size, e) : -ENOMEM;
		rc = n < 0 ? (int)n : 0;
	}
	return rc < 0 ? rc : object_decode(*buf, (size_t)n, target_uuid(f, seq), epoch, seq, h, e);
}

/* ---- what to look at ---- */

static int by_seq(const void *a, const void *b)
{
	const struct fsck_target *x = a, *y = b;

	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return x->epoch < y->epoch ? -1 : x->epoch > y->epoch;
}

static void target_name(const struct fsck *f, const struct fsck_target *t, char *name)
{
	volume_object_name_in(f->sb, name, f->p->name, t->epoch, t->seq);
}

/* Whose object it should be; NULL: not known. */
static const uint8_t *target_uuid(const struct fsck *f, uint64_t seq)
{
	const struct superblock_base *b =
		f->have_super ? superblock_base_of_object(f->sb, seq) : NULL;

	return b ? b->uuid : f->have_super ? f->sb->uuid : NULL;
}

static int targets_of_table(struct scan *s)
{
	struct fsck *f = s->f;

	s->t = calloc(objmap_count(f->objects) + objmap_count(f->def.objects) + 1, sizeof(*s->t));
	if (!s->t)
		return -ENOMEM;
	for (uint32_t slot = objmap_next(f->objects, 0); slot != OBJMAP_NONE;
		slot = objmap_next(f->objects, slot + 1)) {
		const struct object *o = objmap_get(f->objects, slot);

		if (!f->known[slot].bad)
			s->t[s->n++] = (struct fsck_target){.seq = o->seq,
				.epoch = o->epoch,
				.header_bytes = (uint64_t)o->hdr_sectors * 512,
				.data_bytes = (uint64_t)o->data_sectors * 512,
				.slot = slot};
	}
	for (uint32_t slot = objmap_next(f->def.objects, 0); slot != OBJMAP_NONE;
		slot = objmap_next(f->def.objects, slot + 1)) {
		const struct object *o = objmap_get(f->def.objects, slot);

		s->t[s->n++] = (struct fsck_target){.seq = o->seq,
			.epoch = o->epoch,
			.header_bytes = (uint64_t)o->hdr_sectors * 512,
			.data_bytes = (uint64_t)o->data_sectors * 512,
			.slot = OBJMAP_NONE};
	}
	return 0;
}

/* Without a table: what its name says is a data object, with the sizes its own header gives. */
static int targets_of_names(struct scan *s)
{
	struct fsck *f = s->f;
	int rc = 0;

	s->t = calloc(f->nnames + 1, sizeof(*s->t));
	if (!s->t)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < f->nnames; i++) {
		struct fsck_target t = {.slot = OBJMAP_NONE};
		struct err e = {.msg = ""};
		struct object_header h;
		uint8_t *buf = NULL;
		uint64_t size;

		if (!fsck_parse_object(strchr(f->names[i].name, '/') + 1, &t.epoch, &t.seq))
			continue;
		rc = fsck_read_header(f, f->names[i].name, t.epoch, t.seq, &h, &buf, &size, &e);
		free(buf);
		if (rc == 0) {
			t.header_bytes = h.header_bytes;
			t.data_bytes = h.data_bytes;
			s->t[s->n++] = t;
		} else {
			rc = fsck_refused(f, f->names[i].name, 0, rc, &e);
		}
	}
	return rc;
}

/* ---- reading ahead ---- */

static void piece_read(struct store_req *r, int64_t status)
{
	struct piece *p = container_of(r, struct piece, req);

	p->status = status;
	p->over = true;
}

static void submit(struct scan *s, struct piece *p)
{
	p->over = false;
	p->iov = (struct iovec){.iov_base = p->buf, .iov_len = p->len};
	p->req = (struct store_req){.op = STORE_GET,
		.name = p->name,
		.iov = &p->iov,
		.iovcnt = 1,
		.off_bytes = p->off,
		.len_bytes = p->len,
		.done = piece_read,
		.err = &p->err};
	store_submit(s->f->p->store, &p->req);
}

/* Set what the next piece is; false: there is none. */
static bool plan(struct scan *s, struct piece *p)
{
	const struct fsck_target *t;
	uint64_t end;

	if (s->next == s->n)
		return false;
	t = &s->t[s->next];
	end = t->header_bytes + (s->f->p->flags & FSCK_DATA ? t->data_bytes : 0);
	p->target = s->next;
	p->off = s->next_off;
	p->len = p->off == 0 ? t->header_bytes : end - p->off;
	if (p->off && p->len > PIECE_BYTES)
		p->len = PIECE_BYTES;
	s->next_off = p->off + p->len;
	if (s->next_off >= end) {
		s->next++;
		s->next_off = 0;
	}
	return true;
}

/* 1: asked, 0: nothing left. */
static int ask(struct scan *s)
{
	struct piece *p = &s->ring[s->asked % AHEAD];

	if (!plan(s, p))
		return 0;
	if (p->len > p->cap) {
		free(p->buf);
		p->cap = p->len > PIECE_BYTES ? p->len : PIECE_BYTES;
		p->buf = p->len <= HEADER_BYTES_MAX ? malloc(p->cap) : NULL;
		if (!p->buf) {
			p->cap = 0;
			return -ENOMEM;
		}
	}
	target_name(s->f, &s->t[p->target], p->name);
	p->tries = 0;
	p->err.msg[0] = 0;
	s->asked++;
	submit(s, p);
	return 1;
}

static void await(struct scan *s, struct piece *p)
{
	for (;;) {
		while (!p->over)
			loop_poll(s->f->p->store->loop, LOOP_FOREVER);
		if (p->status >= 0 || p->status == -ENOENT || ++p->tries == 4)
			return;
		submit(s, p);
	}
}

/* ---- headers ---- */

static void check_epoch(struct fsck *f, const struct fsck_target *t, const char *name)
{
	const struct superblock_epoch *first = &f->sb->epoch[0];
	uint64_t should = superblock_epoch_of(f->sb, t->seq);

	if (superblock_base_of_object(f->sb, t->seq))
		return; /* its own superblock knows */
	if (t->seq >= first->first_seq ? t->epoch != should : t->epoch > first->epoch)
		fsck_find(f, FSCK_ERROR, FSCK_EPOCH, name, 0,
			"of epoch %" PRIu64 ", which the superblock says did not write object "
			"%" PRIu64,
			t->epoch, t->seq);
}

/* How much of [lba, lba+len) the map has at this place. */
struct pointed {
	uint64_t lba0, place, sectors;
};

static int count_pointed(void *arg, const struct extent *e)
{
	struct pointed *p = arg;

	if (e->place == p->place + (e->lba - p->lba0))
		p->sectors += e->len;
	return 0;
}

/* All that the map has in this object must be what the object's header says is there. */
static void check_pointed(struct scan *s, const struct fsck_target *t, const char *name)
{
	struct fsck *f = s->f;
	uint64_t live = f->known[t->slot].live_sectors, sum = 0;

	for (uint32_t i = 0; i < s->h.extents; i++) {
		struct object_extent x;
		struct pointed p;

		object_get_extent(s->header, &s->h, i, &x);
		if (x.kind != EXTENT_DATA)
			continue;
		p = (struct pointed){.lba0 = x.lba, .place = place_of(t->slot, x.off)};
		extmap_walk(f->map, x.lba, x.len, count_pointed, &p);
		sum += p.sectors;
	}
	if (sum != live)
		fsck_find(f, FSCK_ERROR, FSCK_MAP, name, 0,
			"the map has %" PRIu64 " sectors in it, but its header knows of only "
			"%" PRIu64 " of them",
			live, sum);
}

static void check_size(struct fsck *f, const struct fsck_target *t, const char *name, uint64_t size)
{
	uint64_t should = t->header_bytes + t->data_bytes;

	if (size != should)
		fsck_find(f, size < should ? FSCK_ERROR : FSCK_WARNING, FSCK_SIZE, name, size,
			"it has %" PRIu64 " bytes and should have %" PRIu64, size, should);
}

/* Is what the header says what the table says? */
static bool check_table(struct scan *s, const struct fsck_target *t, const char *name)
{
	if (s->h.header_bytes == t->header_bytes && s->h.data_bytes == t->data_bytes)
		return true;
	fsck_find(s->f, FSCK_ERROR, FSCK_TABLE, name, 0,
		"its header says %u + %u bytes, the object table %" PRIu64 " + %" PRIu64,
		s->h.header_bytes, s->h.data_bytes, t->header_bytes, t->data_bytes);
	return false;
}

static int look_at_header(struct scan *s, struct piece *p, struct fsck_target *t)
{
	struct fsck *f = s->f;
	struct err e = p->err;
	int rc = (int)p->status;

	t->bad = true;
	free(s->header);
	s->header = NULL;
	if (rc < 0)
		return fsck_refused(f, p->name, 0, rc, &e);
	if (p->req.size_bytes < t->header_bytes) {
		check_size(f, t, p->name, p->req.size_bytes);
		return 0;
	}
	rc = object_decode(
		p->buf, (size_t)p->status, target_uuid(f, t->seq), t->epoch, t->seq, &s->h, &e);
	if (rc < 0 && object_decode_fixed(p->buf, (size_t)p->status, &s->h, NULL) == 0 &&
		s->h.header_bytes > p->len) {
		(void)check_table(s, t, p->name);
		return 0;
	}
	if (rc < 0)
		return fsck_refused(f, p->name, 0, rc, &e);
	s->header = malloc(p->len);
	if (!s->header)
		return -ENOMEM;
	memcpy(s->header, p->buf, p->len);
	if (f->have_super && f->table_ok)
		check_epoch(f, t, p->name);
	if (!check_table(s, t, p->name))
		return 0;
	check_size(f, t, p->name, p->req.size_bytes);
	if (t->slot != OBJMAP_NONE && f->table_ok)
		check_pointed(s, t, p->name);
	t->bad = false;
	return 0;
}

/* ---- data ---- */

static void tell_damage(struct scan *s, const char *name)
{
	struct damage *d = &s->damage;

	if (d->to > d->from)
		fsck_find(s->f, FSCK_ERROR, FSCK_CHECKSUM, name, d->from,
			"%" PRIu64 " bytes of data: checksum does not match", d->to - d->from);
	*d = (struct damage){0};
}

static int look_at_data(struct scan *s, struct piece *p, const struct fsck_target *t)
{
	uint32_t crc_bytes = s->h.crc_bytes;
	uint32_t chunk = (uint32_t)((p->off - t->header_bytes) / crc_bytes);

	if (p->status < 0)
		return fsck_refused(s->f, p->name, p->off, (int)p->status, &p->err);
	/* What lacks at the end was told with the size. */
	for (uint64_t at = 0; at < (uint64_t)p->status; at += crc_bytes, chunk++) {
		uint64_t n = p->len - at < crc_bytes ? p->len - at : crc_bytes;

		if (at + n > (uint64_t)p->status)
			break;
		if (crc32c(0, p->buf + at, n) == object_get_crc(s->header, &s->h, chunk))
			continue;
		if (s->damage.to != p->off + at)
			tell_damage(s, p->name);
		if (s->damage.to == 0)
			s->damage.from = p->off + at;
		s->damage.to = p->off + at + n;
	}
	return 0;
}

/* ---- all of them ---- */

static int look(struct scan *s, struct piece *p)
{
	struct fsck_target *t = &s->t[p->target];
	bool last = p->off + p->len >= t->header_bytes + t->data_bytes;
	int rc = 0;

	await(s, p);
	if (p->off == 0)
		rc = look_at_header(s, p, t);
	else if (!t->bad)
		rc = look_at_data(s, p, t);
	if (last)
		tell_damage(s, p->name);
	s->done_bytes += p->len;
	s->f->r->checked_bytes += p->status > 0 ? (uint64_t)p->status : 0;
	return rc < 0 ? rc : fsck_progress(s->f, "objects", s->done_bytes, s->total_bytes);
}

static int scan(struct scan *s)
{
	int rc = 1;

	while (rc >= 0) {
		while (s->asked < s->looked + AHEAD && (rc = ask(s)) == 1)
			;
		if (rc < 0 || s->looked == s->asked)
			break;
		rc = look(s, &s->ring[s->looked++ % AHEAD]);
	}
	return rc;
}

int fsck_scan_objects(struct fsck *f)
{
	struct scan *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->f = f;
	rc = f->table_ok ? targets_of_table(s) : targets_of_names(s);
	if (rc == 0)
		qsort(s->t, s->n, sizeof(*s->t), by_seq);
	for (uint32_t i = 0; rc == 0 && i < s->n; i++)
		s->total_bytes +=
			s->t[i].header_bytes + (f->p->flags & FSCK_DATA ? s->t[i].data_bytes : 0);
	if (rc == 0)
		rc = scan(s);
	for (unsigned i = 0; i < AHEAD; i++) {
		while (s->ring[i].req.done && !s->ring[i].over)
			loop_poll(f->p->store->loop, LOOP_FOREVER);
		free(s->ring[i].buf);
	}
	free(s->header);
	free(s->t);
	free(s);
	return rc;
}
