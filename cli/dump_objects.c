/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dump_objects.c - superblock, data object, checkpoint and boot profile, from any source of bytes.
 */
#include "cli/dump.h"

#include "cli/store.h"
#include "format/block.h"
#include "format/checkpoint.h"
#include "format/clones.h"
#include "format/object.h"
#include "format/profile.h"
#include "format/superblock.h"
#include "sys/crc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where the checksums are: docs/FORMAT.md. */
enum {
	SUPER_CRC_AT = 12,
	OBJECT_CRC_AT = 80,
	CHECKPOINT_CRC_AT = 12,
	PROFILE_CRC_AT = 16,
	CLONES_CRC_AT = 12
};

enum { READ_MAX = 1 << 30, RANGE_BYTES_MAX = 1 << 28 };

/* Read [off, off+len), or what there is of it, into new memory; NULL with a problem told. */
static uint8_t *read_some(
	struct dump *d, json_t *x, struct dump_source *s, uint64_t off, uint64_t len, uint64_t *got)
{
	uint8_t *buf = len <= READ_MAX ? malloc(len ? len : 1) : NULL;
	int64_t n = buf ? s->read(s, off, buf, len) : -ENOMEM;

	*got = n < 0 ? 0 : (uint64_t)n;
	if (n >= 0)
		return buf;
	dump_problem(
		d, x, "read %" PRIu64 " bytes at %" PRIu64 ": %s", len, off, strerror((int)-n));
	free(buf);
	return NULL;
}

static void check_identity(struct dump *d, json_t *x, const struct dump_identity *id,
	const uint8_t uuid[16], uint64_t epoch, uint64_t number)
{
	if (!id)
		return;
	if (id->has_uuid && memcmp(id->uuid, uuid, 16))
		dump_problem(d, x, "of another volume: this one is %s", cli_uuid(id->uuid));
	if (id->has_name && (id->epoch != epoch || id->number != number))
		dump_problem(d, x, "its name says %" PRIu64 ".%" PRIu64, id->epoch, id->number);
}

/* ---- superblock ---- */

static void super_snapshots(json_t *x, const struct superblock *sb)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < sb->snapshots && i < SUPERBLOCK_SNAPSHOTS_MAX; i++) {
		const struct superblock_snapshot *s = &sb->snapshot[i];
		char name[SNAPSHOT_NAME_MAX + 1] = "";
		json_t *j = json_object();

		memcpy(name, s->name, SNAPSHOT_NAME_MAX);
		dump_int(j, "id", s->id);
		dump_text(j, "name", name);
		dump_int(j, "size_sectors", s->size_sectors);
		dump_int(j, "object_seq", s->object_seq);
		dump_int(j, "epoch", s->epoch);
		dump_int(j, "checkpoint", s->checkpoint);
		dump_int(j, "checkpoint_epoch", s->checkpoint_epoch);
		dump_time(j, "created", s->created_ns);
		dump_int(j, "flags", s->flags);
		json_array_append_new(list, j);
	}
	json_object_set_new(x, "snapshots", list);
}

static void super_bases(json_t *x, const struct superblock *sb)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < sb->bases && i < SUPERBLOCK_BASES_MAX; i++) {
		const struct superblock_base *b = &sb->base[i];
		char name[SUPERBLOCK_IMAGE_NAME_MAX + 1] = "";
		json_t *j = json_object();

		memcpy(name, b->name, SUPERBLOCK_IMAGE_NAME_MAX);
		dump_uuid(j, "uuid", b->uuid);
		dump_text(j, "name", name);
		dump_int(j, "snapshot", b->snapshot);
		dump_int(j, "object_seq", b->object_seq);
		dump_int(j, "checkpoint", b->checkpoint);
		dump_int(j, "checkpoint_epoch", b->checkpoint_epoch);
		json_array_append_new(list, j);
	}
	json_object_set_new(x, "bases", list);
}

static void super_fields(json_t *x, const struct superblock *sb)
{
	char host[SUPERBLOCK_HOST_MAX + 1] = "";
	json_t *list = json_array();

	memcpy(host, sb->host, SUPERBLOCK_HOST_MAX);
	dump_uuid(x, "uuid", sb->uuid);
	dump_int(x, "size_sectors", sb->size_sectors);
	dump_int(x, "range_sectors", sb->range_sectors);
	dump_time(x, "created", sb->created_ns);
	dump_int(x, "checkpoint", sb->checkpoint);
	dump_int(x, "checkpoint_epoch", sb->checkpoint_epoch);
	dump_int(x, "profile_bytes", sb->profile_bytes);
	dump_uuid(x, "pool_uuid", sb->pool_uuid);
	dump_int(x, "pool_generation", sb->pool_generation);
	dump_text(x, "host", host);
	dump_int(x, "pid", sb->pid);
	dump_time(x, "since", sb->since_ns);
	json_object_set_new(x, "clean", json_boolean(sb->clean));
	for (uint32_t i = 0; i < sb->epochs && i < SUPERBLOCK_EPOCHS_MAX; i++) {
		json_t *e = json_object();

		dump_int(e, "epoch", sb->epoch[i].epoch);
		dump_int(e, "first_seq", sb->epoch[i].first_seq);
		json_array_append_new(list, e);
	}
	json_object_set_new(x, "epochs", list);
	dump_int(x, "next_snapshot", sb->next_snapshot);
	super_snapshots(x, sb);
	super_bases(x, sb);
	dump_int(x, "profile_base", sb->profile_base);
}

void dump_super(struct dump *d, struct dump_source *s)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	json_t *x = dump_new("superblock", s->name);
	struct err e = {.msg = ""};
	uint64_t len = 0;
	uint8_t *buf = sb ? read_some(d, x, s, 0, SUPERBLOCK_BYTES, &len) : NULL;
	int rc;

	dump_int(x, "bytes", s->size_bytes);
	if (buf) {
		dump_reseal(d, x, buf, len, SUPER_CRC_AT);
		rc = superblock_decode(buf, len, sb, &e);
		super_fields(x, sb);
		if (rc < 0)
			dump_err(d, x, rc, &e);
	}
	dump_emit(d, x);
	free(buf);
	free(sb);
}

/* ---- data object ---- */

static json_t *extent_json(const struct object_extent *e, bool gc)
{
	static const char *const kinds[] = {"data", "zero", "discard"};
	json_t *x = json_object();

	dump_int(x, "lba", e->lba);
	dump_int(x, "len", e->len);
	dump_text(x, "kind", e->kind <= EXTENT_DISCARD ? kinds[e->kind] : "?");
	if (e->kind == EXTENT_DATA)
		dump_int(x, "off", e->off);
	if (gc) {
		dump_int(x, "old_seq", e->old_seq);
		dump_int(x, "old_off", e->old_off);
	}
	return x;
}

static void object_extents(
	struct dump *d, json_t *x, const uint8_t *buf, const struct object_header *h)
{
	uint64_t sectors[EXTENT_DISCARD + 1] = {0};
	json_t *list = json_array();

	for (uint32_t i = 0; i < h->extents; i++) {
		struct object_extent e;

		object_get_extent(buf, h, i, &e);
		if (e.kind <= EXTENT_DISCARD)
			sectors[e.kind] += e.len;
		if (d->all)
			json_array_append_new(list, extent_json(&e, h->flags & OBJECT_FLAG_GC));
	}
	dump_int(x, "data_sectors", sectors[EXTENT_DATA]);
	dump_int(x, "zero_sectors", sectors[EXTENT_ZERO]);
	dump_int(x, "discard_sectors", sectors[EXTENT_DISCARD]);
	if (d->all)
		json_object_set_new(x, "extent_list", list);
	else
		json_decref(list);
}

/* The checksum of every chunk, and whether the data has it. */
static void object_chunks(struct dump *d, json_t *x, struct dump_source *s, const uint8_t *header,
	const struct object_header *h)
{
	json_t *list = json_array();
	uint8_t *buf = malloc(h->crc_bytes);
	uint32_t bad = 0;

	for (uint32_t i = 0; buf && i < h->chunks; i++) {
		uint64_t at = (uint64_t)i * h->crc_bytes, left = h->data_bytes - at;
		uint64_t n = left < h->crc_bytes ? left : h->crc_bytes;
		uint32_t crc = object_get_crc(header, h, i);
		int64_t got = s->read(s, h->header_bytes + at, buf, n);
		bool ok = got == (int64_t)n && crc32c(0, buf, n) == crc;
		char text[16];
		json_t *c = json_object();

		snprintf(text, sizeof(text), "%08x", crc);
		dump_int(c, "offset_bytes", h->header_bytes + at);
		dump_int(c, "bytes", n);
		dump_text(c, "crc", text);
		json_object_set_new(c, "ok", json_boolean(ok));
		json_array_append_new(list, c);
		bad += !ok;
	}
	free(buf);
	json_object_set_new(x, "chunk_list", list);
	if (bad)
		dump_problem(
			d, x, "%u of %u chunks of data are damaged or missing", bad, h->chunks);
}

static void object_fields(json_t *x, const struct object_header *h)
{
	dump_uuid(x, "uuid", h->uuid);
	dump_int(x, "epoch", h->epoch);
	dump_int(x, "seq", h->seq);
	dump_int(x, "covers", h->covers);
	dump_int(x, "header_bytes", h->header_bytes);
	dump_int(x, "data_bytes", h->data_bytes);
	json_object_set_new(x, "gc", json_boolean(h->flags & OBJECT_FLAG_GC));
	dump_int(x, "extents", h->extents);
	dump_int(x, "crc_bytes", h->crc_bytes);
	dump_int(x, "chunks", h->chunks);
}

/* The whole header in memory, as far as it is there; NULL when even its size is unknown. */
static uint8_t *object_header(
	struct dump *d, json_t *x, struct dump_source *s, struct object_header *h, uint64_t *len)
{
	struct err e = {.msg = ""};
	uint8_t *buf = read_some(d, x, s, 0, OBJECT_FIXED_BYTES, len);
	int rc = buf ? object_decode_fixed(buf, *len, h, &e) : 0;

	if (buf && rc == 0) {
		free(buf);
		return read_some(d, x, s, 0, h->header_bytes, len);
	}
	if (buf)
		dump_err(d, x, rc, &e);
	free(buf);
	return NULL;
}

void dump_object(struct dump *d, struct dump_source *s, const struct dump_identity *id)
{
	json_t *x = dump_new("object", s->name);
	struct object_header h = {0};
	struct err e = {.msg = ""};
	uint64_t len, whole;
	uint8_t *buf;
	int rc;

	dump_int(x, "bytes", s->size_bytes);
	buf = object_header(d, x, s, &h, &len);
	object_fields(x, &h);
	if (buf) {
		whole = (uint64_t)h.header_bytes + h.data_bytes;
		if (s->size_bytes != whole)
			dump_problem(d, x, "it should have %" PRIu64 " bytes", whole);
		check_identity(d, x, id, h.uuid, h.epoch, h.seq);
		if (len == h.header_bytes)
			dump_reseal(d, x, buf, len, OBJECT_CRC_AT);
		rc = object_decode(buf, len, NULL, h.epoch, h.seq, &h, &e);
		if (rc < 0)
			dump_err(d, x, rc, &e);
		if (len == h.header_bytes)
			object_extents(d, x, buf, &h);
		if (len == h.header_bytes && d->all)
			object_chunks(d, x, s, buf, &h);
	}
	dump_emit(d, x);
	free(buf);
}

/* ---- checkpoint ---- */

static void checkpoint_fields(json_t *x, const struct checkpoint_header *h)
{
	dump_uuid(x, "uuid", h->uuid);
	dump_int(x, "epoch", h->epoch);
	dump_int(x, "number", h->number);
	dump_int(x, "full_number", h->full_number);
	dump_int(x, "object_seq", h->object_seq);
	dump_int(x, "covers", h->covers);
	dump_int(x, "meta_bytes", h->meta_bytes);
	dump_int(x, "payload_bytes", h->payload_bytes);
	dump_int(x, "live", h->live);
	dump_int(x, "objects", h->objects);
	dump_int(x, "removed", h->removed);
	dump_int(x, "dirs", h->dirs);
	dump_int(x, "deferred", h->deferred);
	dump_int(x, "kept", h->kept);
	dump_int(x, "slices", h->slices);
}

static void checkpoint_live_list(json_t *x, const uint8_t *buf, const struct checkpoint_header *h)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < h->live; i++) {
		struct checkpoint_live l;
		json_t *o = json_object();

		checkpoint_get_live(buf, h, i, &l);
		dump_int(o, "number", l.number);
		dump_int(o, "epoch", l.epoch);
		dump_int(o, "meta_bytes", l.meta_bytes);
		dump_int(o, "payload_bytes", l.payload_bytes);
		json_array_append_new(list, o);
	}
	json_object_set_new(x, "live_list", list);
}

static void checkpoint_kept_list(json_t *x, const uint8_t *buf, const struct checkpoint_header *h)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < h->kept; i++) {
		struct checkpoint_kept k;
		json_t *o = json_object();

		checkpoint_get_kept(buf, h, i, &k);
		dump_int(o, "number", k.x.number);
		dump_int(o, "epoch", k.x.epoch);
		dump_int(o, "meta_bytes", k.x.meta_bytes);
		dump_int(o, "payload_bytes", k.x.payload_bytes);
		dump_int(o, "died", k.died);
		json_array_append_new(list, o);
	}
	json_object_set_new(x, "kept_list", list);
}

static void checkpoint_tables(json_t *x, const uint8_t *buf, const struct checkpoint_header *h)
{
	json_t *objects = json_array(), *removed = json_array(), *deferred = json_array();

	for (uint32_t i = 0; i < h->objects; i++) {
		struct checkpoint_object o;
		json_t *j = json_object();

		checkpoint_get_object(buf, h, i, &o);
		dump_int(j, "seq", o.seq);
		dump_int(j, "epoch", o.epoch);
		dump_int(j, "hdr_sectors", o.hdr_sectors);
		dump_int(j, "data_sectors", o.data_sectors);
		dump_int(j, "live_sectors", o.live_sectors);
		dump_int(j, "flags", o.flags);
		json_array_append_new(objects, j);
	}
	for (uint32_t i = 0; i < h->removed; i++)
		json_array_append_new(
			removed, json_integer((json_int_t)checkpoint_get_removed(buf, h, i)));
	for (uint32_t i = 0; i < h->deferred; i++) {
		struct checkpoint_deferred o;
		json_t *j = json_object();

		checkpoint_get_deferred(buf, h, i, &o);
		dump_int(j, "seq", o.seq);
		dump_int(j, "epoch", o.epoch);
		dump_int(j, "died", o.died);
		dump_int(j, "hdr_sectors", o.hdr_sectors);
		dump_int(j, "data_sectors", o.data_sectors);
		json_array_append_new(deferred, j);
	}
	json_object_set_new(x, "deferred_list", deferred);
	json_object_set_new(x, "object_list", objects);
	json_object_set_new(x, "removed_list", removed);
}

static json_t *range_extents(const uint8_t *p, uint32_t n)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++) {
		struct checkpoint_extent e;
		json_t *x = json_object();

		checkpoint_get_extent(p + (size_t)i * CHECKPOINT_EXTENT_BYTES, &e);
		dump_int(x, "lba", e.lba);
		dump_int(x, "len", e.len);
		dump_int(x, "seq", e.seq);
		dump_int(x, "off", e.off);
		json_array_append_new(list, x);
	}
	return list;
}

/* A structure of its own: there may be many, and large ones. */
static void dump_range(struct dump *d, struct dump_source *s, const struct checkpoint_header *h,
	const struct checkpoint_dir *dir)
{
	uint64_t len = (uint64_t)dir->extents * CHECKPOINT_EXTENT_BYTES, got = 0;
	json_t *x = dump_new("range", s->name);
	uint8_t *buf = NULL;
	char crc[16];

	snprintf(crc, sizeof(crc), "%08x", dir->crc);
	dump_int(x, "range", dir->range);
	dump_int(x, "piece", dir->piece);
	dump_int(x, "halvings", dir->halvings);
	dump_int(x, "number", dir->number);
	dump_int(x, "offset_bytes", dir->offset_bytes);
	dump_int(x, "extents", dir->extents);
	dump_text(x, "crc", crc);
	if (dir->number == h->number && dir->offset_bytes + len > h->payload_bytes)
		dump_problem(d, x, "lies outside the payload");
	else if (dir->number == h->number && len <= RANGE_BYTES_MAX)
		buf = read_some(d, x, s, h->meta_bytes + dir->offset_bytes, len, &got);
	if (buf && (got != len || crc32c(0, buf, got) != dir->crc))
		dump_problem(d, x, got == len ? "checksum does not match" : "cut off");
	if (buf)
		json_object_set_new(x, "extent_list",
			range_extents(buf, (uint32_t)(got / CHECKPOINT_EXTENT_BYTES)));
	free(buf);
	dump_emit_row(d, x);
}

static void dump_ranges(struct dump *d, struct dump_source *s, const uint8_t *buf,
	const struct checkpoint_header *h)
{
	for (uint32_t i = 0; i < h->dirs; i++) {
		struct checkpoint_dir dir;

		checkpoint_get_dir(buf, h, i, &dir);
		dump_range(d, s, h, &dir);
	}
}

static void checkpoint_body(struct dump *d, json_t *x, struct dump_source *s, uint8_t *buf,
	uint64_t len, struct checkpoint_header *h)
{
	struct err e = {.msg = ""};
	bool whole = len == h->meta_bytes;
	int rc;

	if (whole)
		dump_reseal(d, x, buf, len, CHECKPOINT_CRC_AT);
	rc = checkpoint_decode(buf, len, h->uuid, h->epoch, h->number, h, &e);
	if (rc < 0)
		dump_err(d, x, rc, &e);
	if (whole)
		checkpoint_live_list(x, buf, h);
	if (whole)
		checkpoint_kept_list(x, buf, h);
	if (whole && d->all)
		checkpoint_tables(x, buf, h);
	dump_emit(d, x);
	if (whole && d->all)
		dump_ranges(d, s, buf, h);
}

void dump_checkpoint(struct dump *d, struct dump_source *s, const struct dump_identity *id)
{
	json_t *x = dump_new("checkpoint", s->name);
	struct checkpoint_header h = {0};
	struct err e = {.msg = ""};
	uint64_t len;
	uint8_t *buf = read_some(d, x, s, 0, CHECKPOINT_FIXED_BYTES, &len);
	int rc = buf ? checkpoint_decode_fixed(buf, len, &h, &e) : -EIO;

	dump_int(x, "bytes", s->size_bytes);
	checkpoint_fields(x, &h);
	if (buf && rc < 0)
		dump_err(d, x, rc, &e);
	free(buf);
	buf = NULL;
	if (rc == 0) {
		if (s->size_bytes != h.meta_bytes + h.payload_bytes)
			dump_problem(d, x, "it should have %" PRIu64 " bytes",
				h.meta_bytes + h.payload_bytes);
		check_identity(d, x, id, h.uuid, h.epoch, h.number);
		buf = read_some(d, x, s, 0,
			h.meta_bytes < s->size_bytes ? h.meta_bytes : s->size_bytes, &len);
	}
	if (buf)
		checkpoint_body(d, x, s, buf, len, &h);
	else
		dump_emit(d, x);
	free(buf);
}

/* ---- boot profile ---- */

void dump_profile(struct dump *d, struct dump_source *s)
{
	json_t *x = dump_new("profile", s->name), *list = json_array();
	struct profile_range *ranges = NULL;
	struct err e = {.msg = ""};
	uint64_t len = 0, sectors = 0;
	uint8_t *buf = read_some(d, x, s, 0, s->size_bytes, &len);
	uint32_t n = 0;
	int rc = 0;

	dump_int(x, "bytes", s->size_bytes);
	if (buf) {
		dump_reseal(d, x, buf, len, PROFILE_CRC_AT);
		rc = profile_decode(buf, len, &ranges, &n, &e);
	}
	if (rc < 0)
		dump_err(d, x, rc, &e);
	for (uint32_t i = 0; i < n; i++) {
		json_t *r = json_object();

		sectors += ranges[i].len;
		dump_int(r, "lba", ranges[i].lba);
		dump_int(r, "len", ranges[i].len);
		dump_int(r, "first_us", ranges[i].first_us);
		json_array_append_new(list, r);
	}
	dump_int(x, "ranges", n);
	dump_int(x, "sectors", sectors);
	if (d->all)
		json_object_set(x, "range_list", list);
	json_decref(list);
	dump_emit(d, x);
	free(ranges);
	free(buf);
}

/* ---- list of clones ---- */

static json_t *clone_json(const struct clone_entry *c)
{
	static const char *const states[] = {"pending", "ready", "barred"};
	char name[SUPERBLOCK_IMAGE_NAME_MAX + 1] = "";
	json_t *x = json_object();

	memcpy(name, c->name, SUPERBLOCK_IMAGE_NAME_MAX);
	dump_text(x, "name", name);
	dump_uuid(x, "uuid", c->uuid);
	dump_int(x, "snapshot", c->snapshot);
	dump_text(x, "state", c->state < CLONE_STATES ? states[c->state] : "?");
	return x;
}

void dump_clones(struct dump *d, struct dump_source *s)
{
	struct clones *c = calloc(1, sizeof(*c));
	json_t *x = dump_new("clones", s->name), *list = json_array();
	struct err e = {.msg = ""};
	uint64_t len = 0;
	uint8_t *buf = c ? read_some(d, x, s, 0, CLONES_BYTES, &len) : NULL;
	int rc = 0;

	dump_int(x, "bytes", s->size_bytes);
	if (buf) {
		dump_reseal(d, x, buf, len, CLONES_CRC_AT);
		rc = clones_decode(buf, len, c, &e);
		dump_uuid(x, "uuid", c->uuid);
	}
	if (rc < 0)
		dump_err(d, x, rc, &e);
	for (uint32_t i = 0; c && i < c->n && i < CLONES_MAX; i++)
		json_array_append_new(list, clone_json(&c->entry[i]));
	json_object_set_new(x, "clones", list);
	dump_emit(d, x);
	free(buf);
	free(c);
}
